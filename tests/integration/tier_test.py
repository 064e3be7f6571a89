"""The mmap tier under a real server: a data set far larger than what may be in memory."""

import os
import random
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

from support.case import ServerTest, terrace_only, threads
from support.resp import NULL_BULK, OK, ErrorReply
from support.server import find_free_port, run_to_exit

BUDGET = ("--tier-record-budget", "1mb", "--tier-segment-size", "1mb", "--tier-size", "256mb")


class TierTest(ServerTest):
    """A server whose tier is in a folder of its own."""

    extra = ()

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="terrace-test-tier-")
        cls.addClassCleanup(folder.cleanup)
        cls.tier_path = os.path.join(folder.name, "tier")
        cls.server_arguments = ("--tier-path", cls.tier_path, *BUDGET, *cls.extra)
        super().setUpClass()

    def figures(self, client):
        return {name: int(value) for name, value in client.info("tier").items() if value.lstrip("-").isdigit()}

    def wait_until_cold(self, client, records):
        """The budget is kept in the background."""
        self.wait_until(lambda: self.figures(client)["tier_records"] >= records, f"{records} records on the tier")

    def load(self, client, count, value):
        for start in range(0, count, 500):
            client.pipeline([("SET", f"key:{i}", value(i)) for i in range(start, min(start + 500, count))])


def value_of(number):
    generator = random.Random(number)
    return f"{number}:" + generator.choice("abcdef") * generator.randrange(2000)


@terrace_only("it has no tier")
class Tier(TierTest):
    count = 20000

    def test_every_value_of_a_large_data_set_comes_back(self):
        client = self.client()
        self.load(client, self.count, value_of)
        self.assert_reply(self.count, client, "DBSIZE")
        self.wait_until_cold(client, self.count * 3 // 4)
        for start in range(0, self.count, 100):
            replies = client.pipeline([("GET", f"key:{i}") for i in range(start, start + 100)])
            self.assertEqual(replies, [value_of(i).encode() for i in range(start, start + 100)])
        figures = self.figures(client)
        self.assertEqual(figures["tier_failed_reads"], 0)
        self.assertGreater(figures["tier_reads"] + figures["tier_memory_reads"], 0)

    def test_scan_finds_every_key(self):
        client = self.client()
        self.load(client, 5000, value_of)
        self.wait_until_cold(client, 2000)
        for count in (100, 100_000):
            found, cursor = set(), b"0"
            while True:
                cursor, names = client.ok("SCAN", cursor, "COUNT", count)
                found.update(names)
                if cursor == b"0":
                    break
            self.assertEqual(found, {f"key:{i}".encode() for i in range(5000)})

    def test_a_step_of_a_scan_reads_no_more_than_it_shows(self):
        client = self.client()
        client.pipeline([("SET", f"key:{i}", os.urandom(3000)) for i in range(2000)])
        client.ok("TIER", "DEMOTE", "*")
        before = self.reads(client)
        cursor, names = client.ok("SCAN", 0, "COUNT", 10)
        self.assertGreaterEqual(len(names), 10)
        self.assertNotEqual(cursor, b"0")
        self.assertLessEqual(self.reads(client) - before, len(names))

    def reads(self, client):
        figures = self.figures(client)
        return figures["tier_reads"] + figures["tier_memory_reads"]

    def test_a_search_in_a_list_reads_little_more_than_it_has_to(self):
        client = self.client()
        for start in range(0, 100_000, 1000):
            client.ok("RPUSH", "list", *(f"element:{i}" for i in range(start, start + 1000)))
        words = {"element:500": (500,), "element:99500": (99500, "RANK", -1), "element:77": (77, "MAXLEN", 100)}
        for element, (position, *options) in words.items():
            client.ok("TIER", "DEMOTE", "list")
            before = self.reads(client)
            self.assert_reply(position, client, "LPOS", "list", element, *options)
            self.assertLess(self.reads(client) - before, 50, element)
        client.ok("TIER", "DEMOTE", "list")
        self.assert_reply(50_000, client, "LPOS", "list", "element:50000")
        client.ok("TIER", "DEMOTE", "list")
        self.assert_reply([50_000], client, "LPOS", "list", "element:50000", "COUNT", 0, "RANK", -1)
        self.assert_reply(NULL_BULK, client, "LPOS", "list", "none")
        client.ok("TIER", "DEMOTE", "list")
        self.assert_reply(100_001, client, "LINSERT", "list", "BEFORE", "element:600", "new")
        self.assert_reply(600, client, "LPOS", "list", "new")

    def test_cold_keys_can_be_changed_removed_and_renamed(self):
        client = self.client()
        client.ok("SET", "number", "41")
        client.ok("SET", "text", "x" * 3000)
        client.ok("SET", "gone", "y")
        self.assertGreaterEqual(client.ok("TIER", "DEMOTE", "*"), 0)
        for name in ("number", "text", "gone"):
            self.assert_reply(b"tier", client, "OBJECT", "MEDIUM", name)
        self.assert_reply(42, client, "INCR", "number")
        self.assert_reply(b"dram", client, "OBJECT", "MEDIUM", "number")
        self.assert_reply(3001, client, "APPEND", "text", "z")
        self.assert_reply(1, client, "DEL", "gone")
        self.assert_reply(NULL_BULK, client, "GET", "gone")
        client.ok("TIER", "DEMOTE", "text")
        self.assert_reply(OK, client, "RENAME", "text", "other")
        self.assert_reply(("x" * 3000 + "z").encode(), client, "GET", "other")
        self.assert_reply(2, client, "DBSIZE")

    def test_a_large_cold_value_is_answered_whole(self):
        client = self.client()
        value = os.urandom(20 << 20)
        client.ok("SET", "large", value)
        client.ok("TIER", "DEMOTE", "large")
        self.assert_reply(b"tier", client, "OBJECT", "MEDIUM", "large")
        self.assertEqual(client.ok("GET", "large"), value)

    def test_cold_keys_expire(self):
        client = self.client()
        client.pipeline([("SET", f"fading:{i}", "x" * 100, "PX", "300") for i in range(3000)])
        client.pipeline([("SET", f"lasting:{i}", "x" * 100) for i in range(100)])
        client.ok("TIER", "DEMOTE", "*")
        self.wait_until(lambda: client.ok("DBSIZE") == 100, "expired keys to go")
        self.assert_reply(NULL_BULK, client, "GET", "fading:1")

    def test_the_tier_is_empty_after_flushall(self):
        client = self.client()
        self.load(client, 3000, value_of)
        client.ok("TIER", "DEMOTE", "*")
        client.ok("FLUSHALL")
        self.wait_until(lambda: self.figures(client)["tier_records"] == 0, "the tier to be empty")
        self.assertEqual(self.figures(client)["tier_live_bytes"], 0)

    def test_order_of_replies_is_kept_and_other_clients_go_on(self):
        client, other = self.client(), self.client()
        self.load(client, 2000, value_of)
        client.ok("TIER", "DEMOTE", "*")
        commands, expected = [], []
        for i in range(0, 2000, 2):
            commands += [("GET", f"key:{i}"), ("ECHO", str(i)), ("SET", f"key:{i}", "new"), ("GET", f"key:{i}")]
            expected += [value_of(i).encode(), str(i).encode(), OK, b"new"]
        other.ok("PING")
        self.assertEqual(client.pipeline(commands), expected)
        self.assertEqual(other.ok("GET", "key:1"), value_of(1).encode())

    def test_a_client_may_leave_while_it_waits(self):
        client = self.client()
        self.load(client, 3000, value_of)
        client.ok("TIER", "DEMOTE", "*")
        for start in range(0, 3000, 100):
            leaver = self.server.client()
            leaver.send_raw(b"".join(b"GET key:%d\r\n" % i for i in range(start, start + 100)))
            leaver.close()
        self.assert_serves()
        self.assert_reply(value_of(2999).encode(), client, "GET", "key:2999")

    def test_a_second_server_on_the_same_file_is_refused_in_one_line(self):
        code, out, err = run_to_exit("--port", find_free_port(), "--tier-path", self.tier_path, *BUDGET)
        self.assertEqual(code, 1)
        said = (out + err).decode()
        self.assertEqual(len([line for line in said.splitlines() if self.tier_path in line]), 1, said)
        self.assertIn("in use", said)
        self.assert_serves()


@terrace_only("it has no tier")
class ScanUnderALimit(TierTest):
    extra = ("--maxmemory", "64mb", "--tier-compression", "none")

    def test_a_large_count_does_not_read_all_at_once(self):
        client = self.client()
        client.pipeline([("SET", f"key:{i}", os.urandom(3000)) for i in range(4000)])
        client.ok("TIER", "DEMOTE", "*")
        found, cursor, steps = set(), b"0", 0
        while steps == 0 or cursor != b"0":
            cursor, names = client.ok("SCAN", cursor, "COUNT", 100_000)
            found.update(names)
            steps += 1
        self.assertEqual(len(found), 4000)
        self.assertGreater(steps, 1)
        self.assertEqual(self.figures(client)["tier_failed_reads"], 0)


@terrace_only("it has no tier")
class TierCompressed(Tier):
    extra = ("--tier-compression", "lz4")
    count = 8000


@terrace_only("it has no tier")
@threads
class TierThreads(TierTest):
    extra = ("--threads", "4")

    def test_counters_on_the_tier_lose_nothing(self):
        def work(seed):
            generator = random.Random(seed)
            with self.server.client(timeout=60) as client:
                for _ in range(60):
                    client.pipeline([("INCR", f"counter:{generator.randrange(3000)}") for _ in range(50)])
                    client.pipeline([("SET", f"filler:{generator.randrange(2000)}", "x" * 1000) for _ in range(20)])
                    client.ok("TIER", "DEMOTE", f"counter:*{generator.randrange(10)}")

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        with self.server.client(timeout=60) as client:
            values = client.ok("MGET", *(f"counter:{i}" for i in range(3000)))
            self.assertEqual(sum(int(value) for value in values if value != NULL_BULK), 6 * 60 * 50)

    def test_transactions_over_cold_keys_are_whole(self):
        def work(seed):
            generator = random.Random(seed)
            with self.server.client(timeout=60) as client:
                for _ in range(150):
                    a, b = generator.sample(range(40), 2)
                    replies = client.pipeline(
                        [("MULTI",), ("DECRBY", f"account:{a}", "5"), ("INCRBY", f"account:{b}", "5"), ("EXEC",)]
                    )
                    self.assertEqual(len(replies[-1]), 2)
                    if generator.randrange(5) == 0:
                        client.ok("TIER", "DEMOTE", "account:*")
                    replies = client.pipeline([("MULTI",), *(("GET", f"account:{i}") for i in range(40)), ("EXEC",)])
                    self.assertEqual(sum(int(value) for value in replies[-1] if value != NULL_BULK), 0)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))


@terrace_only("it has no tier")
class TierTransactions(TierTest):
    """One transaction over big collections in memory and over the same ones on the tier."""

    extra = ("--notify-keyspace-events", "KA", "--tier-record-budget", "0")
    count = 20000

    def make(self, client, name):
        for begin in range(0, self.count, 500):
            items = range(begin, begin + 500)
            client.ok("HSET", f"{name}:hash", *(word for i in items for word in (f"field:{i}", f"value:{i}")))
            client.ok("SADD", f"{name}:set", *(f"member:{i}" for i in items))
            client.ok("RPUSH", f"{name}:list", *(f"item:{i}" for i in items))
            client.ok("ZADD", f"{name}:sorted", *(word for i in items for word in (i, f"member:{i}")))
        client.pipeline([("XADD", f"{name}:stream", f"{i + 1}-0", "field", i) for i in range(self.count)])
        client.ok("SETRANGE", f"{name}:string", "0", "0123456789" * self.count)

    def transaction(self, name):
        return [("HGET", f"{name}:hash", "field:7000"), ("HSET", f"{name}:hash", "field:9000", "new", "more", "1"),
                ("HDEL", f"{name}:hash", "field:12345"), ("HINCRBY", f"{name}:hash", "number", "4"),
                ("SISMEMBER", f"{name}:set", "member:4"), ("SREM", f"{name}:set", "member:19000", "member:50"),
                ("LINDEX", f"{name}:list", "10000"), ("LSET", f"{name}:list", "5000", "other"),
                ("LPUSH", f"{name}:list", "first"), ("RPOP", f"{name}:list"), ("ZSCORE", f"{name}:sorted", "member:3"),
                ("ZADD", f"{name}:sorted", "17.5", "member:15000"), ("ZRANGE", f"{name}:sorted", "8000", "8003"),
                ("XRANGE", f"{name}:stream", "11000", "11003"), ("XADD", f"{name}:stream", "30000-0", "field", "last"),
                ("XDEL", f"{name}:stream", "5000-0"), ("GETRANGE", f"{name}:string", "99995", "100005"),
                ("SETRANGE", f"{name}:string", "150000", "xyz"), ("EXPIRE", f"{name}:set", "1000")]

    def run_transaction(self, client, name, events):
        elsewhere = [("SELECT", "3"), ("GET", f"{name}:other"), ("LINDEX", f"{name}:list", "1000"), ("SELECT", "0")]
        *_, replies = client.pipeline([("MULTI",), *elsewhere, *self.transaction(name), ("EXEC",)])
        told = []
        client.ok("PUBLISH", "end", "")
        while (message := events.read_reply())[2] != b"end":
            told.append((message[2].split(b"__:")[1].split(b":")[1], message[3]))
        return replies, told

    def test_cold_pages_are_waited_for_before_the_first_command(self):
        client, events = self.client(), self.client()
        self.make(client, "warm")
        self.make(client, "cold")
        client.pipeline([("SELECT", "3"), *((*change, "x" * 3000) for name in ("warm", "cold") for change in
                         [("SET", f"{name}:other"), *[("RPUSH", f"{name}:list")] * 3000]), ("SELECT", "0")])
        for database in ("3", "0"):
            client.ok("SELECT", database)
            self.assertGreater(client.ok("TIER", "DEMOTE", "cold:*"), 0)
        events.command("PSUBSCRIBE", "__keyspace@0__:*", "end")
        events.read_reply()
        before = self.figures(client)
        warm = self.run_transaction(client, "warm", events)
        self.assertEqual(self.figures(client)["tier_reads"], before["tier_reads"])
        self.assertEqual(self.run_transaction(client, "cold", events), warm)
        after = self.figures(client)
        self.assertEqual(after["tier_synchronous_reads"], before["tier_synchronous_reads"])
        self.assertGreater(after["tier_reads"] + after["tier_memory_reads"],
                           before["tier_reads"] + before["tier_memory_reads"])


@terrace_only("it has no tier")
class TierFull(ServerTest):
    def test_a_full_tier_leaves_the_rest_in_memory(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-tier-") as folder:
            server = self.start_server("--tier-path", os.path.join(folder, "tier"), "--tier-size", "8mb",
                                       "--tier-segment-size", "1mb", "--tier-record-budget", "1mb",
                                       "--tier-compression", "none")
            client = self.connect_to(server)
            for start in range(0, 20000, 500):
                client.pipeline([("SET", f"key:{i}", f"{i}:" + "x" * 1000) for i in range(start, start + 500)])
            self.assertIsInstance(client.command("TIER", "DEMOTE", "*"), ErrorReply)
            for start in range(0, 20000, 500):
                replies = client.pipeline([("GET", f"key:{i}") for i in range(start, start + 500)])
                self.assertEqual(replies, [f"{i}:".encode() + b"x" * 1000 for i in range(start, start + 500)])
            client.ok("FLUSHALL")
            client.ok("SET", "key", "value")

            def demoted():
                return client.command("TIER", "DEMOTE", "*") == 1 or client.ok("OBJECT", "MEDIUM", "key") == b"tier"

            self.wait_until(demoted, "the tier to take records again")

    @threads
    def test_a_big_collection_goes_to_the_tier_before_any_key_is_evicted(self):
        """It is in one shard, which is one worker's to look after: the other's shards have nothing to give."""
        with tempfile.TemporaryDirectory(prefix="terrace-test-tier-") as folder:
            server = self.start_server("--threads", "2", "--tier-path", os.path.join(folder, "tier"), "--tier-size",
                                       "256mb", "--maxmemory-policy", "allkeys-random")
            client, *others = [self.connect_to(server) for _ in range(8)]
            for start in range(0, 40000, 500):
                client.command("HSET", "big", *(word for i in range(start, start + 500)
                                                for word in (f"field:{i}", f"{i}:" + "x" * 1000)))
            taken = int(client.info("memory")["used_memory_rss"])
            client.ok("CONFIG", "SET", "maxmemory", str(taken - (16 << 20)))

            def gone_down():
                for one in others:
                    one.ok("PING")
                return int(client.info("memory")["used_memory_rss"]) < taken - (14 << 20)

            self.wait_until(gone_down, "memory to be what the limit asks for")
            self.assertEqual(client.info("stats")["evicted_keys"], "0")
            for i in range(0, 40000, 997):
                self.assert_reply(f"{i}:".encode() + b"x" * 1000, client, "HGET", "big", f"field:{i}")


if __name__ == "__main__":
    unittest.main()
