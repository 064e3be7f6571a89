'use strict';
// The driver `ioredis`: prints `ok <name>` or `FAIL <name>: <why>` per check. Arguments: port, RESP version (2, 3, default).
const assert = require('node:assert');
const Redis = require('ioredis');

const [port, version] = process.argv.slice(2);
const options = { host: '127.0.0.1', port: Number(port), retryStrategy: () => null, connectionName: 'io' };
if (version !== 'default') options.protocol = Number(version);

const checks = {
    async strings(client) {
        assert.strictEqual(await client.set('k', 'v'), 'OK');
        assert.strictEqual(await client.get('k'), 'v');
        assert.strictEqual(await client.get('missing'), null);
        assert.strictEqual(await client.set('k', 'w', 'NX'), null);
        assert.strictEqual(await client.set('k', 'w', 'EX', 100, 'GET'), 'v');
        assert.ok((await client.ttl('k')) > 90);
        assert.strictEqual(await client.incrby('n', 5), 5);
        assert.strictEqual(await client.mset('a', '1', 'b', '2'), 'OK');
        assert.deepStrictEqual(await client.mget('a', 'b', 'c'), ['1', '2', null]);
        assert.strictEqual(await client.append('k', 'x'), 2);
    },
    async keys(client) {
        const pipeline = client.pipeline();
        for (let i = 0; i < 300; i++) pipeline.set(`s:${i}`, 'x');
        await pipeline.exec();
        const found = new Set();
        for await (const keys of client.scanStream({ match: 's:*', count: 50 })) for (const key of keys) found.add(key);
        assert.strictEqual(found.size, 300);
        assert.strictEqual(await client.object('ENCODING', 's:1'), 'embstr');
        assert.strictEqual(await client.unlink('s:1', 's:2'), 2);
    },
    async transactions(client) {
        assert.deepStrictEqual(await client.multi().set('t', '1').incr('t').get('t').exec(), [[null, 'OK'], [null, 2], [null, '2']]);
        const other = client.duplicate();
        await client.watch('t');
        await other.set('t', '5');
        assert.strictEqual(await client.multi().get('t').exec(), null);
        await other.quit();
    },
    async pipelining(client) {
        const replies = await Promise.all(Array.from({ length: 5000 }, (_, i) => client.set(`p:${i}`, `${i}`)));
        assert.ok(replies.every((reply) => reply === 'OK'));
    },
    async server(client) {
        assert.match(await client.info(), /redis_version:7\./);
        assert.strictEqual(await client.client('GETNAME'), 'io');
        assert.match(await client.client('INFO'), new RegExp(`resp=${version === '2' ? 2 : 3}`));
        const config = await client.config('GET', 'maxclients');
        assert.ok(JSON.stringify(config).includes('10000'));
        assert.strictEqual(await client.select(5), 'OK');
        assert.strictEqual(await client.dbsize(), 0);
        assert.strictEqual(await client.select(0), 'OK');
    },
    async publishing(client) {
        const subscriber = client.duplicate();
        const message = new Promise((resolve) => subscriber.on('pmessage', (...words) => resolve(words)));
        assert.strictEqual(await subscriber.psubscribe('new?'), 1);
        assert.strictEqual(await client.publish('news', 'hello'), 1);
        assert.deepStrictEqual(await message, ['new?', 'news', 'hello']);
        await subscriber.quit();
    },
    async errors(client) {
        await client.set('text', 'x');
        await assert.rejects(client.incr('text'), /not an integer/);
        await assert.rejects(client.call('NOSUCH'), /unknown command/);
    },
    async binary(client) {
        const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
        await client.set('binary', bytes);
        assert.ok(bytes.equals(await client.getBuffer('binary')));
    },
    async monitoring(client) {
        const monitor = await client.monitor();
        const seen = new Promise((resolve) => monitor.on('monitor', (_, words) => words[0].toUpperCase() === 'ECHO' && resolve(words)));
        await client.echo('hello');
        assert.deepStrictEqual((await seen).slice(1), ['hello']);
        monitor.disconnect();
    },
};

(async () => {
    const client = new Redis(options);
    client.on('error', () => {});
    await client.flushall();
    for (const [name, check] of Object.entries(checks)) {
        try {
            await check(client);
            console.log(`ok ${name}`);
        } catch (error) {
            console.log(`FAIL ${name}: ${String(error.stack).replace(/\n/g, ' | ')}`);
        }
    }
    await client.quit();
})().catch((error) => {
    console.log(`FAIL connecting: ${String(error.stack).replace(/\n/g, ' | ')}`);
    process.exit(1);
});
