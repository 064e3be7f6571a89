'use strict';
// What BullMQ keeps of a queue and does to it, without its scripts: each step it does in Lua is a MULTI here. BullMQ stands on
// ioredis. Prints `ok <name>` or `FAIL <name>: <why>` per check. Arguments: port, RESP version (2, 3, default).
//
//   bull:q:id         counter of jobs            bull:q:wait       list, pushed left, taken right
//   bull:q:<job>      hash of the job            bull:q:active     list of what is being worked on
//   bull:q:events     stream of what happened    bull:q:delayed, prioritized, completed, failed   sorted sets
//   bull:q:marker     sorted set that workers wait on with BZPOPMIN
const assert = require('node:assert');
const Redis = require('ioredis');

const [port, version] = process.argv.slice(2);
const options = { host: '127.0.0.1', port: Number(port), retryStrategy: () => null, maxRetriesPerRequest: null };
if (version !== 'default') options.protocol = Number(version);

const key = (name) => `bull:q:${name}`;
const opened = [];

function connect() {
    const client = new Redis(options);
    client.on('error', () => {});
    opened.push(client);
    return client;
}

// All replies of a MULTI, an error of any of them being an error.
async function atomically(multi) {
    const replies = await multi.exec();
    return replies.map(([error, reply]) => {
        if (error) throw error;
        return reply;
    });
}

// RESP3 gives maps and scores that are numbers, RESP2 flat arrays of text: both as RESP2's.
const flat = (reply) => (reply !== null && typeof reply === 'object' && !Array.isArray(reply)
    ? Object.entries(reply instanceof Map ? Object.fromEntries(reply) : reply).flat() : reply);

async function add(client, name, data, jobOptions = {}) {
    const id = String(await client.incr(key('id')));
    const multi = client.multi().hset(key(id), { name, data: JSON.stringify(data), opts: JSON.stringify(jobOptions), timestamp: Date.now() });
    if (jobOptions.delay) {
        multi.zadd(key('delayed'), (Date.now() + jobOptions.delay) * 4096, id).zadd(key('marker'), Date.now() + jobOptions.delay, '1');
        multi.xadd(key('events'), 'MAXLEN', '~', 10000, '*', 'event', 'delayed', 'jobId', id);
    } else if (jobOptions.priority) {
        multi.zadd(key('prioritized'), jobOptions.priority * 2 ** 32 + Number(id), id).zadd(key('marker'), 0, '0');
        multi.xadd(key('events'), 'MAXLEN', '~', 10000, '*', 'event', 'waiting', 'jobId', id);
    } else {
        multi.lpush(key('wait'), id).zadd(key('marker'), 0, '0');
        multi.xadd(key('events'), 'MAXLEN', '~', 10000, '*', 'event', 'waiting', 'jobId', id);
    }
    await atomically(multi);
    return id;
}

async function finish(client, id, result) {
    const [removed] = await atomically(client.multi().lrem(key('active'), -1, id).zadd(key('completed'), Date.now(), id)
        .hmset(key(id), 'returnvalue', JSON.stringify(result), 'finishedOn', Date.now()).del(key(`${id}:lock`))
        .xadd(key('events'), '*', 'event', 'completed', 'jobId', id, 'returnvalue', JSON.stringify(result)));
    assert.strictEqual(removed, 1);
}

async function blocked(client, count) {
    // The server knows when somebody waits; nothing tells it to us but INFO.
    for (const until = Date.now() + 30000; Date.now() < until;) {
        if (Number(/blocked_clients:(\d+)/.exec(await client.info('clients'))[1]) >= count) return;
    }
    assert.fail('nobody blocks');
}

const checks = {
    async adding_a_job(client) {
        const id = await add(client, 'mail', { to: 'ada' });
        assert.strictEqual(id, '1');
        assert.deepStrictEqual(await client.lrange(key('wait'), 0, -1), ['1']);
        const job = await client.hgetall(key(id));
        assert.deepStrictEqual([job.name, JSON.parse(job.data).to], ['mail', 'ada']);
        assert.deepStrictEqual(await client.hmget(key(id), 'name', 'missing'), ['mail', null]);
    },
    async a_worker_waits_at_the_marker(client) {
        const worker = connect();
        const waiting = worker.bzpopmin(key('marker'), 30);
        await blocked(client, 1);
        const id = await add(client, 'mail', { to: 'grace' });
        const [name, member, score] = await waiting;
        assert.deepStrictEqual([name, member, Number(score)], [key('marker'), '0', 0]);
        assert.strictEqual(await worker.rpoplpush(key('wait'), key('active')), id);
        assert.strictEqual(await worker.set(key(`${id}:lock`), 'token', 'PX', 30000, 'NX'), 'OK');
        await finish(worker, id, 'sent');
        assert.deepStrictEqual(await client.lrange(key('active'), 0, -1), []);
        assert.deepStrictEqual(await client.zrange(key('completed'), 0, -1), [id]);
        assert.strictEqual((await client.hgetall(key(id))).returnvalue, '"sent"');
    },
    async workers_wait_at_the_list_and_each_gets_one(client) {
        const workers = Array.from({ length: 4 }, connect);
        const taken = workers.map((worker, i) => (i % 2 ? worker.blmove(key('wait'), key('active'), 'RIGHT', 'LEFT', 30)
            : worker.brpoplpush(key('wait'), key('active'), 30)));
        await blocked(client, 4);
        const ids = [];
        for (let i = 0; i < 4; i++) ids.push(await add(client, 'mail', { i }));
        assert.deepStrictEqual((await Promise.all(taken)).sort(), ids);
        assert.deepStrictEqual((await client.lrange(key('active'), 0, -1)).sort(), ids);
        await Promise.all(ids.map((id, i) => finish(workers[i], id, i)));
        assert.strictEqual(await client.zcard(key('completed')), 4);
    },
    async delayed_jobs_come_when_they_are_due(client) {
        const later = await add(client, 'mail', {}, { delay: 3600000 });
        const soon = await add(client, 'mail', {}, { delay: 1 });
        await client.zadd(key('delayed'), 'XX', (Date.now() - 1000) * 4096, soon);
        const due = await client.zrangebyscore(key('delayed'), 0, (Date.now() + 1) * 4096 - 1, 'LIMIT', 0, 1000);
        assert.deepStrictEqual(due, [soon]);
        assert.deepStrictEqual(await atomically(client.multi().zrem(key('delayed'), ...due).lpush(key('wait'), ...due)), [1, 1]);
        const [next, score] = flat(await client.zrange(key('delayed'), 0, 0, 'WITHSCORES')).flat();
        assert.strictEqual(next, later);
        assert.ok(Math.abs(Number(score) / 4096 - (Date.now() + 3600000)) < 60000);
    },
    async priorities_are_taken_lowest_first(client) {
        const ids = [];
        for (const priority of [10, 1, 5, 1]) ids.push(await add(client, 'mail', {}, { priority }));
        const order = [];
        for (let i = 0; i < 4; i++) order.push((await client.zpopmin(key('prioritized'))).flat()[0]);
        assert.deepStrictEqual(order, [ids[1], ids[3], ids[2], ids[0]]);
        assert.deepStrictEqual(await client.zpopmin(key('prioritized')), []);
    },
    async events_reach_a_listener(client) {
        const listener = connect();
        const heard = listener.xread('BLOCK', 30000, 'STREAMS', key('events'), '$');
        await blocked(client, 1);
        const id = await add(client, 'mail', {});
        const streams = flat(await heard);
        const [name, entries] = Array.isArray(streams[0]) ? streams[0] : streams;
        assert.strictEqual(name, key('events'));
        assert.deepStrictEqual(entries[0][1], ['event', 'waiting', 'jobId', id]);
        await client.rpoplpush(key('wait'), key('active'));
        await finish(client, id, null);
        const more = flat(await listener.xread('BLOCK', 30000, 'STREAMS', key('events'), entries[0][0]));
        const [, rest] = Array.isArray(more[0]) ? more[0] : more;
        assert.strictEqual(rest[0][1][1], 'completed');
    },
    async stalled_jobs_return(client) {
        const id = await add(client, 'mail', {});
        await client.rpoplpush(key('wait'), key('active'));
        await client.sadd(key('stalled'), ...(await client.lrange(key('active'), 0, -1)));
        assert.deepStrictEqual(await client.smembers(key('stalled')), [id]);
        assert.strictEqual(await client.exists(key(`${id}:lock`)), 0);
        assert.deepStrictEqual(await atomically(client.multi().lrem(key('active'), 1, id).rpush(key('wait'), id).hincrby(key(id), 'stc', 1)
            .srem(key('stalled'), id)), [1, 1, 1, 1]);
        assert.strictEqual(await client.lindex(key('wait'), -1), id);
        assert.strictEqual(await client.lpos(key('wait'), id), 0);
    },
    async a_thousand_jobs_and_their_removal(client) {
        const pipeline = client.pipeline();
        for (let i = 1; i <= 1000; i++) {
            pipeline.hset(key(`old-${i}`), 'name', 'mail').zadd(key('completed'), i, `old-${i}`);
            pipeline.xadd(key('events'), 'MAXLEN', '~', 100, '*', 'event', 'completed', 'jobId', `old-${i}`);
        }
        assert.ok((await pipeline.exec()).every(([error]) => error === null));
        const old = await client.zrangebyscore(key('completed'), '-inf', 900);
        assert.strictEqual(old.length, 900);
        const removed = await atomically(client.multi().del(...old.map(key)).zremrangebyscore(key('completed'), '-inf', 900));
        assert.deepStrictEqual(removed, [900, 900]);
        assert.strictEqual(await client.zcount(key('completed'), '-inf', '+inf'), 100);
        // An approximate limit may keep more; an exact one afterwards removes exactly the rest.
        const kept = await client.xlen(key('events'));
        assert.ok(kept >= 100 && kept < 1000, `${kept}`);
        assert.strictEqual(await client.xtrim(key('events'), 'MAXLEN', 10), kept - 10);
    },
    async a_parent_waits_for_its_children(client) {
        const parent = await add(client, 'album', {});
        const children = [await add(client, 'track', {}), await add(client, 'track', {})];
        await client.sadd(key(`${parent}:dependencies`), ...children.map(key));
        for (const child of children) {
            const [gone, , left] = await atomically(client.multi().srem(key(`${parent}:dependencies`), key(child))
                .hset(key(`${parent}:processed`), key(child), '"done"').scard(key(`${parent}:dependencies`)));
            assert.strictEqual(gone, 1);
            assert.strictEqual(left, child === children[0] ? 1 : 0);
        }
        assert.deepStrictEqual(Object.keys(await client.hgetall(key(`${parent}:processed`))).sort(), children.map(key).sort());
        const found = [];
        for await (const part of client.hscanStream(key(`${parent}:processed`))) found.push(...part);
        assert.strictEqual(found.length, 4);
    },
};

(async () => {
    const client = connect();
    for (const [name, check] of Object.entries(checks)) {
        try {
            await client.flushall();
            await check(client);
            console.log(`ok ${name}`);
        } catch (error) {
            console.log(`FAIL ${name}: ${String(error.stack).replace(/\n/g, ' | ')}`);
        }
    }
    for (const one of opened) one.disconnect();
})().catch((error) => {
    console.log(`FAIL connecting: ${String(error.stack).replace(/\n/g, ' | ')}`);
    process.exit(1);
});
