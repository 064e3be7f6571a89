'use strict';
// The driver `redis`: prints `ok <name>` or `FAIL <name>: <why>` per check. Arguments: port, RESP version (2, 3, default).
const assert = require('node:assert');
const { createClient } = require('redis');

const [port, version] = process.argv.slice(2);
const options = { socket: { host: '127.0.0.1', port: Number(port), reconnectStrategy: false } };
if (version !== 'default') options.RESP = Number(version);

const checks = {
    async strings(client) {
        assert.strictEqual(await client.set('k', 'v'), 'OK');
        assert.strictEqual(await client.get('k'), 'v');
        assert.strictEqual(await client.get('missing'), null);
        assert.strictEqual(await client.set('k', 'w', { condition: 'NX' }), null);
        assert.strictEqual(await client.set('k', 'w', { GET: true, expiration: { type: 'EX', value: 100 } }), 'v');
        assert.ok((await client.ttl('k')) > 90);
        assert.strictEqual(await client.incr('n'), 1);
        assert.strictEqual(String(await client.incrByFloat('f', 1.5)), '1.5');
        assert.strictEqual(await client.mSet({ a: '1', b: '2' }), 'OK');
        assert.deepStrictEqual(await client.mGet(['a', 'b', 'c']), ['1', '2', null]);
        assert.strictEqual(await client.getDel('k'), 'w');
    },
    async keys(client) {
        for (let i = 0; i < 300; i++) await client.set(`s:${i}`, 'x');
        const found = new Set();
        for await (const keys of client.scanIterator({ MATCH: 's:*', COUNT: 50 })) for (const key of keys) found.add(key);
        assert.strictEqual(found.size, 300);
        assert.strictEqual(await client.type('s:1'), 'string');
        assert.strictEqual(await client.rename('s:1', 's:renamed'), 'OK');
        assert.strictEqual(await client.copy('s:renamed', 's:copied'), 1);
        assert.strictEqual(await client.expire('s:2', 100), 1);
        assert.strictEqual(await client.objectEncoding('s:2'), 'embstr');
    },
    async bits(client) {
        assert.strictEqual(await client.setBit('bits', 7, 1), 0);
        assert.strictEqual(await client.bitCount('bits'), 1);
        assert.deepStrictEqual(await client.bitField('bits', [{ operation: 'GET', encoding: 'u8', offset: 0 }]), [1]);
        assert.strictEqual(Number(await client.pfAdd('hll', ['a', 'b', 'c'])), 1);
        assert.strictEqual(await client.pfCount('hll'), 3);
    },
    async transactions(client) {
        assert.deepStrictEqual(await client.multi().set('t', '1').incr('t').get('t').exec(), ['OK', 2, '2']);
        const other = client.duplicate();
        await other.connect();
        await client.watch('t');
        await other.set('t', '5');
        await assert.rejects(client.multi().get('t').exec(), /WATCH|watch/);
        await other.close();
    },
    async pipelining(client) {
        const replies = await Promise.all(Array.from({ length: 5000 }, (_, i) => client.set(`p:${i}`, `${i}`)));
        assert.ok(replies.every((reply) => reply === 'OK'));
        const values = await Promise.all(Array.from({ length: 5000 }, (_, i) => client.get(`p:${i}`)));
        assert.ok(values.every((value, i) => value === `${i}`));
    },
    async server(client) {
        assert.match(await client.info('server'), /redis_version:7\./);
        const config = await client.configGet('maxclients');
        assert.strictEqual(config.maxclients, '10000');
        assert.strictEqual(await client.clientSetName('node'), 'OK');
        assert.strictEqual(await client.clientGetName(), 'node');
        assert.match(await client.sendCommand(['CLIENT', 'INFO']).then(String), new RegExp(`resp=${version === '2' ? 2 : 3}`));
        assert.ok((await client.commandCount()) > 80);
        assert.deepStrictEqual(await client.commandGetKeys(['SET', 'a', '1']), ['a']);
        assert.ok((await client.memoryUsage('n')) > 0);
        assert.strictEqual(await client.ping(), 'PONG');
    },
    async collections(client) {
        assert.strictEqual(await client.hSet('h', { a: '1', b: '2' }), 2);
        assert.deepStrictEqual({ ...(await client.hGetAll('h')) }, { a: '1', b: '2' });
        assert.deepStrictEqual(await client.hmGet('h', ['b', 'c']), ['2', null]);
        // redis-server 7.0 has no times to live of fields.
        const [known] = await client.sendCommand(['COMMAND', 'INFO', 'HEXPIRE']);
        if (known !== null) assert.deepStrictEqual(await client.hExpire('h', 'a', 100), [1]);
        assert.strictEqual(await client.rPush('l', ['x', 'y', 'z']), 3);
        assert.deepStrictEqual(await client.lRange('l', 0, -1), ['x', 'y', 'z']);
        assert.strictEqual(await client.lMove('l', 'm', 'LEFT', 'RIGHT'), 'x');
        assert.strictEqual(await client.sAdd('s', ['1', '2', '3']), 3);
        assert.strictEqual(Number(await client.sIsMember('s', '2')), 1);
        assert.deepStrictEqual([...(await client.sInter(['s', 's']))].sort(), ['1', '2', '3']);
        assert.strictEqual(await client.zAdd('z', [{ score: 1.5, value: 'a' }, { score: -1, value: 'b' }]), 2);
        assert.deepStrictEqual((await client.zRangeWithScores('z', 0, -1)).map((one) => [one.value, one.score]), [['b', -1], ['a', 1.5]]);
        assert.strictEqual(await client.zScore('z', 'a'), 1.5);
        const found = [];
        for await (const part of client.hScanIterator('h')) found.push(part);
        assert.strictEqual(found.flat().length, 2);
    },
    async streams(client) {
        const id = await client.xAdd('x', '*', { a: '1', b: '2' });
        const [entry] = await client.xRange('x', '-', '+');
        assert.deepStrictEqual([entry.id, { ...entry.message }], [id, { a: '1', b: '2' }]);
        await client.xGroupCreate('x', 'g', '0');
        const read = await client.sendCommand(['XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 'x', '>']);
        assert.ok(JSON.stringify(read instanceof Map ? [...read] : read).includes(id));
        assert.strictEqual(await client.xAck('x', 'g', id), 1);
    },
    async waiting(client) {
        const worker = client.duplicate();
        await worker.connect();
        const element = worker.blPop('queue', 30);
        await client.lPush('queue', 'job');
        assert.deepStrictEqual({ ...(await element) }, { key: 'queue', element: 'job' });
        await worker.close();
    },
    async publishing(client) {
        const subscriber = client.duplicate();
        await subscriber.connect();
        let heard;
        const messages = new Promise((resolve) => { heard = resolve; });
        await subscriber.subscribe('news', (message, channel) => heard([channel, message]));
        assert.strictEqual(await client.publish('news', 'hello'), 1);
        assert.deepStrictEqual(await messages, ['news', 'hello']);
        await subscriber.unsubscribe('news');
        await subscriber.close();
    },
    async errors(client) {
        await client.set('text', 'x');
        await assert.rejects(client.incr('text'), /not an integer/);
        await assert.rejects(client.sendCommand(['NOSUCH']), /unknown command/);
    },
    async binary(client) {
        const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
        await client.set('binary', bytes);
        const { RESP_TYPES } = require('redis');
        const back = await client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }).get('binary');
        assert.ok(bytes.equals(back));
    },
};

(async () => {
    const client = createClient(options);
    client.on('error', () => {});
    await client.connect();
    await client.flushAll();
    for (const [name, check] of Object.entries(checks)) {
        try {
            await check(client);
            console.log(`ok ${name}`);
        } catch (error) {
            console.log(`FAIL ${name}: ${String(error.stack).replace(/\n/g, ' | ')}`);
        }
    }
    await client.close();
})().catch((error) => {
    console.log(`FAIL connecting: ${String(error.stack).replace(/\n/g, ' | ')}`);
    process.exit(1);
});
