"""What Celery and the workers beside it do to Redis through python3-redis, without their scripts.

The queue is kombu's: LPUSH in, BRPOP out, and until it is acknowledged a message lies in the hash `unacked` with its time
in the sorted set `unacked_index`. Results are strings with a TTL that PUBLISH announces; a group's results gather in a
list. Other workers read a stream with a group.
"""

import json
import threading
import time
import unittest
import uuid

import redis

from support.case import ServerTest

PRIORITIES = ("celery", "celery\x06\x163", "celery\x06\x166", "celery\x06\x169")
WAIT_S = 60


class CeleryWorker(ServerTest):
    server_arguments = ("--threads", "2")

    def connect(self, **options):
        connection = redis.Redis(port=self.server.port, decode_responses=True, **options)
        self.addCleanup(connection.close)
        return connection

    def in_a_thread(self, work):
        """Runs `work` beside the test; its result is awaited with the returned function."""
        results = []
        thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
        thread.start()

        def result():
            thread.join(WAIT_S)
            self.assertEqual(len(results), 1, "the worker failed or never ended")
            return results[0]

        return result

    def wait_for_blocked(self, r, count):
        self.wait_until(lambda: r.info("clients")["blocked_clients"] >= count, f"{count} blocked clients")

    def send(self, r, number, queue=PRIORITIES[0]):
        message = {"body": number, "headers": {"id": str(uuid.uuid4()), "task": "add"}, "properties": {"delivery_tag": f"tag-{number}"}}
        return r.lpush(queue, json.dumps(message))

    def take(self, r, queues=PRIORITIES, timeout=WAIT_S):
        """A message, noted as not acknowledged, or None."""
        taken = r.brpop(list(queues), timeout)
        if taken is None:
            return None
        queue, text = taken
        message = json.loads(text)
        tag = message["properties"]["delivery_tag"]
        with r.pipeline() as pipe:
            pipe.zadd("unacked_index", {tag: time.time()}).hset("unacked", tag, json.dumps([message, "", queue]))
            self.assertEqual(pipe.execute(), [1, 1])
        return message

    def acknowledge(self, r, tag):
        with r.pipeline() as pipe:
            self.assertEqual(pipe.zrem("unacked_index", tag).hdel("unacked", tag).execute(), [1, 1])

    def test_messages_are_taken_in_order_and_acknowledged(self):
        r = self.connect()
        for number in range(50):
            self.assertEqual(self.send(r, number), number + 1)
        for number in range(50):
            message = self.take(r)
            self.assertEqual(message["body"], number)
            self.acknowledge(r, message["properties"]["delivery_tag"])
        self.assertEqual((r.llen("celery"), r.exists("unacked", "unacked_index")), (0, 0))
        self.assertIsNone(self.take(r, timeout=1))

    def test_higher_priorities_go_first(self):
        r = self.connect()
        for number, queue in enumerate(reversed(PRIORITIES)):
            self.send(r, number, queue)
        self.assertEqual([self.take(r)["body"] for _ in PRIORITIES], [3, 2, 1, 0])

    def test_waiting_workers_share_the_messages(self):
        r = self.connect()
        workers = [self.connect() for _ in range(8)]
        results = [self.in_a_thread(lambda worker=worker: [self.take(worker)["body"] for _ in range(25)]) for worker in workers]
        self.wait_for_blocked(r, 8)
        for number in range(200):
            self.send(r, number, PRIORITIES[number % 4])
        self.assertEqual(sorted(number for result in results for number in result()), list(range(200)))
        self.assertEqual((r.hlen("unacked"), r.zcard("unacked_index")), (200, 200))

    def test_what_was_not_acknowledged_returns(self):
        r = self.connect()
        self.send(r, 1)
        self.send(r, 2)
        late, fresh = self.take(r), self.take(r)
        r.zadd("unacked_index", {late["properties"]["delivery_tag"]: time.time() - 7200})
        overdue = r.zrevrangebyscore("unacked_index", time.time() - 3600, 0, start=0, num=10, withscores=True)
        self.assertEqual([tag for tag, _ in overdue], ["tag-1"])
        # The mutex of the one that restores.
        self.assertTrue(r.set("unacked_mutex", "me", nx=True, ex=300))
        self.assertIsNone(r.set("unacked_mutex", "other", nx=True, ex=300))
        with r.pipeline() as pipe:
            pipe.watch("unacked")
            message, _, queue = json.loads(pipe.hget("unacked", "tag-1"))
            pipe.multi()
            pipe.zrem("unacked_index", "tag-1").hdel("unacked", "tag-1").rpush(queue, json.dumps(message))
            self.assertEqual(pipe.execute(), [1, 1, 1])
        self.assertEqual(self.take(r)["body"], 1)
        self.assertEqual(set(r.hkeys("unacked")), {"tag-1", fresh["properties"]["delivery_tag"]})

    def test_routes_are_members_of_sets(self):
        r = self.connect()
        self.assertEqual(r.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery", "mail\x06\x16\x06\x16mail"), 2)
        self.assertEqual(r.sadd("_kombu.binding.celery", "mail\x06\x16\x06\x16mail"), 0)
        self.assertEqual(r.smembers("_kombu.binding.celery"), {"celery\x06\x16\x06\x16celery", "mail\x06\x16\x06\x16mail"})
        self.assertEqual(r.srem("_kombu.binding.celery", "mail\x06\x16\x06\x16mail"), 1)

    def test_a_result_is_announced_to_who_waits(self):
        r, waiter = self.connect(), self.connect()
        channel = "celery-task-meta-1"
        with waiter.pubsub() as pubsub:
            pubsub.subscribe(channel)
            self.assertEqual(pubsub.get_message(timeout=WAIT_S)["type"], "subscribe")
            with r.pipeline() as pipe:
                pipe.setex(channel, 86400, '{"status": "SUCCESS"}').publish(channel, '{"status": "SUCCESS"}')
                self.assertEqual(pipe.execute(), [True, 1])
            message = pubsub.get_message(timeout=WAIT_S)
            self.assertEqual((message["type"], message["channel"], json.loads(message["data"])["status"]), ("message", channel, "SUCCESS"))
            pubsub.unsubscribe(channel)
            self.assertEqual(pubsub.get_message(timeout=WAIT_S)["type"], "unsubscribe")
        self.assertEqual(r.mget(channel, "celery-task-meta-2"), ['{"status": "SUCCESS"}', None])

    def test_control_messages_reach_all_workers(self):
        r = self.connect()
        pubsubs = [self.connect().pubsub() for _ in range(5)]
        for pubsub in pubsubs:
            self.addCleanup(pubsub.close)
            pubsub.psubscribe("/0.celery.pidbox*")
            self.assertEqual(pubsub.get_message(timeout=WAIT_S)["type"], "psubscribe")
        self.assertEqual(r.publish("/0.celery.pidbox", "ping"), 5)
        for pubsub in pubsubs:
            message = pubsub.get_message(timeout=WAIT_S)
            self.assertEqual((message["type"], message["channel"], message["data"]), ("pmessage", "/0.celery.pidbox", "ping"))
        self.assertEqual((r.pubsub_numpat(), r.pubsub_channels()), (1, []))

    def test_the_results_of_a_group_gather(self):
        """A chord counts on the reply of RPUSH or LLEN: exactly one of the workers sees it complete."""
        r = self.connect()

        def one_task(number):
            with self.connect().pipeline() as pipe:
                pipe.rpush("celery-taskset-1.j", json.dumps([number])).llen("celery-taskset-1.j").expire("celery-taskset-1.j", 86400)
                return pipe.execute()[1]

        results = [self.in_a_thread(lambda number=number: one_task(number)) for number in range(20)]
        self.assertEqual(sorted(result() for result in results), list(range(1, 21)))
        self.assertEqual(sorted(json.loads(text)[0] for text in r.lrange("celery-taskset-1.j", 0, -1)), list(range(20)))

    def test_what_is_scheduled_comes_in_time_order(self):
        r, worker = self.connect(), self.connect()
        now = time.time()
        self.assertEqual(r.zadd("schedule", {"hourly": now + 3600, "now": now - 1, "earlier": now - 2}), 3)
        self.assertEqual(r.zrangebyscore("schedule", "-inf", now), ["earlier", "now"])
        self.assertEqual(r.zpopmin("schedule", 2), [("earlier", now - 2), ("now", now - 1)])
        self.assertEqual(r.zscore("schedule", "hourly"), now + 3600)
        popped = self.in_a_thread(lambda: worker.bzpopmin("urgent", WAIT_S))
        self.wait_for_blocked(r, 1)
        r.zadd("urgent", {"job": 1.5})
        self.assertEqual(popped(), ("urgent", "job", 1.5))

    def test_a_group_of_stream_readers(self):
        r = self.connect()
        self.assertTrue(r.xgroup_create("tasks", "workers", id="0", mkstream=True))
        with self.assertRaisesRegex(redis.ResponseError, "BUSYGROUP"):
            r.xgroup_create("tasks", "workers", id="0")
        readers = [self.connect() for _ in range(4)]

        def work(name, reader):
            done = []
            while True:
                for _, entries in reader.xreadgroup("workers", name, {"tasks": ">"}, count=1, block=WAIT_S * 1000):
                    for identifier, fields in entries:
                        self.assertEqual(reader.xack("tasks", "workers", identifier), 1)
                        if fields["body"] == "stop":
                            return done
                        done.append(int(fields["body"]))

        results = [self.in_a_thread(lambda name=f"w{i}", reader=reader: work(name, reader)) for i, reader in enumerate(readers)]
        self.wait_for_blocked(r, 4)
        for number in range(200):
            r.xadd("tasks", {"body": number}, maxlen=10000, approximate=True)
        for _ in readers:
            r.xadd("tasks", {"body": "stop"})
        self.assertEqual(sorted(number for result in results for number in result()), list(range(200)))
        self.assertEqual((r.xlen("tasks"), r.xpending("tasks", "workers")["pending"]), (204, 0))

    def test_entries_of_a_dead_reader_are_claimed(self):
        r = self.connect()
        r.xgroup_create("tasks", "workers", id="0", mkstream=True)
        identifiers = [r.xadd("tasks", {"body": number}) for number in range(3)]
        self.assertEqual(len(r.xreadgroup("workers", "dead", {"tasks": ">"})[0][1]), 3)
        pending = r.xpending_range("tasks", "workers", "-", "+", 10)
        self.assertEqual([(one["message_id"], one["consumer"], one["times_delivered"]) for one in pending],
                         [(identifier, "dead", 1) for identifier in identifiers])
        claimed = r.xclaim("tasks", "workers", "alive", 0, identifiers[:1])
        self.assertEqual(claimed, [(identifiers[0], {"body": "0"})])
        self.assertEqual([one[0] for one in r.xautoclaim("tasks", "workers", "alive", 0)[1]], identifiers)
        self.assertEqual(r.xack("tasks", "workers", *identifiers), 3)
        self.assertEqual(r.xreadgroup("workers", "alive", {"tasks": "0"}), [["tasks", []]])


if __name__ == "__main__":
    unittest.main()
