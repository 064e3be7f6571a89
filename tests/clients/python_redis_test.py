"""Debian's python3-redis 4.3."""

import threading
import unittest

import redis

from support.case import ServerTest


class PythonRedis(ServerTest):
    server_arguments = ("--threads", "2")

    def connect(self, **options):
        connection = redis.Redis(port=self.server.port, **options)
        self.addCleanup(connection.close)
        return connection

    def test_strings(self):
        r = self.connect()
        self.assertTrue(r.set("k", "v"))
        self.assertEqual(r.get("k"), b"v")
        self.assertIsNone(r.get("missing"))
        self.assertIsNone(r.set("k", "w", nx=True))
        self.assertEqual(r.set("k", "w", get=True), b"v")
        self.assertEqual(r.getex("k", ex=100), b"w")
        self.assertTrue(90 < r.ttl("k") <= 100)
        self.assertEqual(r.incr("n"), 1)
        self.assertEqual(r.incrbyfloat("f", 1.5), 1.5)
        self.assertTrue(r.mset({"a": 1, "b": 2}))
        self.assertEqual(r.mget("a", "b", "c"), [b"1", b"2", None])
        self.assertEqual(r.append("k", "x"), 2)
        self.assertEqual(r.setrange("k", 4, "y"), 5)
        self.assertEqual(r.getrange("k", 0, -1), b"wx\0\0y")
        self.assertEqual(r.getdel("k"), b"wx\0\0y")

    def test_bits_and_sketches(self):
        r = self.connect()
        self.assertEqual(r.setbit("b", 7, 1), 0)
        self.assertEqual((r.getbit("b", 7), r.bitcount("b"), r.bitpos("b", 1)), (1, 1, 7))
        self.assertEqual(r.bitop("NOT", "c", "b"), 1)
        self.assertEqual(r.bitfield("b").incrby("u8", 0, 10).get("u8", 0).execute(), [11, 11])
        self.assertEqual(r.pfadd("h", *range(100)), 1)
        self.assertTrue(95 <= r.pfcount("h") <= 105)
        self.assertTrue(r.pfmerge("h2", "h"))

    def test_collections(self):
        r = self.connect(decode_responses=True)
        self.assertEqual(r.hset("h", mapping={"a": 1, "b": 2}), 2)
        self.assertEqual((r.hgetall("h"), r.hmget("h", "b", "c"), r.hincrby("h", "a", 4)), ({"a": "1", "b": "2"}, ["2", None], 5))
        self.assertEqual((r.rpush("l", *"abc"), r.lrange("l", 0, -1), r.lpos("l", "b")), (3, ["a", "b", "c"], 1))
        self.assertEqual((r.linsert("l", "BEFORE", "b", "x"), r.lmove("l", "m", "RIGHT", "LEFT"), r.lindex("l", 1)), (4, "c", "x"))
        self.assertEqual((r.sadd("s", *"abc"), r.sismember("s", "b"), r.sinter("s", "s")), (3, True, set("abc")))
        self.assertEqual((r.zadd("z", {"a": 1, "b": 2.5}), r.zrange("z", 0, -1, withscores=True)), (2, [("a", 1.0), ("b", 2.5)]))
        self.assertEqual((r.zincrby("z", 2, "a"), r.zrank("z", "a"), r.zrangebyscore("z", "(2.5", "+inf")), (3.0, 1, ["a"]))
        self.assertEqual(r.geoadd("g", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")), 2)
        self.assertEqual(r.geosearch("g", longitude=15, latitude=37, radius=200, unit="km", sort="ASC"), ["Catania", "Palermo"])
        self.assertEqual(r.geodist("g", "Palermo", "Catania", "km"), 166.2742)
        for names, scan in ((["a", "b"], r.hscan_iter("h")), (["a", "b"], r.zscan_iter("z"))):
            self.assertEqual(sorted(name for name, _ in scan), names)
        self.assertEqual(set(r.sscan_iter("s")), set("abc"))
        self.assertEqual(r.sort("s", alpha=True, desc=True), ["c", "b", "a"])

    def test_keys(self):
        r = self.connect(decode_responses=True)
        r.mset({f"k{number}": number for number in range(500)})
        self.assertEqual(r.dbsize(), 500)
        self.assertEqual(len(set(r.scan_iter(match="k*", count=50))), 500)
        self.assertEqual(r.type("k1"), "string")
        self.assertTrue(r.expire("k1", 100))
        self.assertTrue(r.persist("k1"))
        self.assertTrue(r.rename("k1", "renamed"))
        self.assertTrue(r.copy("renamed", "copied"))
        self.assertTrue(r.move("copied", 5))
        self.assertEqual(r.object("encoding", "renamed"), "int")
        self.assertIn(r.randomkey()[0], "kr")
        self.assertEqual(r.unlink("k2", "k3", "missing"), 2)
        self.assertTrue(r.flushdb())

    def test_transactions(self):
        r = self.connect()
        with r.pipeline() as pipe:
            self.assertEqual(pipe.set("a", 1).incr("a").get("a").execute(), [True, 2, b"2"])
        with r.pipeline() as pipe:
            pipe.watch("a")
            r.set("a", 10)
            pipe.multi()
            pipe.incr("a")
            with self.assertRaises(redis.WatchError):
                pipe.execute()
        
        def change(pipe):
            pipe.multi()
            pipe.set("b", 1)

        self.assertEqual(r.transaction(change, "a"), [True])
        with r.pipeline(transaction=False) as pipe:
            for number in range(1000):
                pipe.set(f"k{number}", number)
            self.assertEqual(pipe.execute(), [True] * 1000)
        with self.assertRaises(redis.ResponseError):
            r.set("text", "x") and r.incr("text")

    def test_server(self):
        r = self.connect(client_name="python")
        info = r.info()
        self.assertEqual((info["role"], info["redis_mode"]), ("master", "standalone"))
        self.assertGreaterEqual(int(info["redis_version"].split(".")[0]), 7)
        self.assertEqual(r.config_get("maxclients"), {"maxclients": "10000"})
        self.assertTrue(r.config_set("timeout", 0))
        self.assertIn("python", [client["name"] for client in r.client_list()])
        self.assertEqual(r.client_getname(), "python")
        self.assertIsInstance(r.client_id(), int)
        self.assertEqual(r.client_info()["name"], "python")
        self.assertTrue(r.ping())
        self.assertEqual(r.echo("x"), b"x")
        self.assertEqual(len(r.time()), 2)
        self.assertIsInstance(r.slowlog_get(), list)
        self.assertGreater(r.command_count(), 80)
        self.assertEqual(r.command()["get"]["arity"], 2)
        self.assertIsInstance(r.memory_usage("missing"), type(None))
        self.assertIn("peak.allocated", r.memory_stats())

    def test_monitor(self):
        r = self.connect()
        with r.monitor() as monitor:
            r.set("k", "a b")
            command = monitor.next_command()
            self.assertEqual((command["command"], command["db"]), ("SET k a b", 0))

    def test_a_lock(self):
        """Its release is a script on servers that have EVALSHA; the acquiring is SET NX PX."""
        r = self.connect()
        lock = r.lock("lock", timeout=600)
        self.assertTrue(lock.acquire(blocking=False))
        self.assertFalse(r.lock("lock", timeout=600).acquire(blocking=False))

    def test_a_pool_used_by_many_threads(self):
        r = self.connect()
        workers = [threading.Thread(target=lambda: [r.incr("n") for _ in range(200)]) for _ in range(10)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(r.get("n"), b"2000")

    def test_password_and_database_in_the_url(self):
        server = self.start_server("--requirepass", "secret")
        r = redis.Redis.from_url(f"redis://default:secret@127.0.0.1:{server.port}/3")
        self.addCleanup(r.close)
        r.set("k", "v")
        self.assertIn("db3", r.info("keyspace"))
        wrong = redis.Redis(port=server.port, password="wrong")
        self.addCleanup(wrong.close)
        with self.assertRaisesRegex(redis.RedisError, "WRONGPASS"):
            wrong.ping()


if __name__ == "__main__":
    unittest.main()
