"""MEMORY, the memory figures of INFO, and the limit."""

import unittest

from support.case import ServerTest, terrace_only
from support.resp import NULL_BULK, OK, ErrorReply, Map, Verbatim


class Memory(ServerTest):
    def test_usage_counts_the_record(self):
        client = self.client()
        self.assert_reply(NULL_BULK, client, "MEMORY", "USAGE", "none")
        client.ok("SET", "small", "x")
        client.ok("SET", "large", "x" * 100000)
        small, large = client.ok("MEMORY", "USAGE", "small"), client.ok("MEMORY", "USAGE", "large")
        self.assertTrue(16 <= small <= 600, small)
        self.assertTrue(100000 <= large <= 140000, large)
        self.assert_reply(small, client, "MEMORY", "USAGE", "small", "SAMPLES", "0")

    @terrace_only("its keys cost more")
    def test_a_key_alone_is_not_charged_with_the_whole_index(self):
        client = self.client()
        client.ok("SET", "k", "v")
        self.assertLessEqual(client.ok("MEMORY", "USAGE", "k"), 32)

    @terrace_only("its keys cost more")
    def test_usage_of_many_small_keys_is_close_to_their_bytes(self):
        client = self.client()
        client.pipeline([("SET", f"key:{i:08}", "v" * 32) for i in range(20000)])
        usage = client.ok("MEMORY", "USAGE", "key:00000077")
        self.assertTrue(44 <= usage <= 80, usage)

    def test_usage_of_a_big_collection_counts_what_is_in_it(self):
        client = self.client()
        client.ok("RPUSH", "few", "x")
        client.pipeline([("RPUSH", "many", *["element " * 2] * 100) for _ in range(100)])
        few, many = client.ok("MEMORY", "USAGE", "few"), client.ok("MEMORY", "USAGE", "many", "SAMPLES", "0")
        self.assertTrue(16 <= few <= 600, few)
        self.assertTrue(160000 <= many <= 400000, many)

    def test_usage_syntax(self):
        client = self.client()
        client.ok("SET", "k", "v")
        self.assert_error("ERR syntax error", client, "MEMORY", "USAGE", "k", "SAMPLE", "1")
        self.assert_error("ERR syntax error", client, "MEMORY", "USAGE", "k", "SAMPLES", "-1")
        self.assert_error("ERR syntax error", client, "MEMORY", "USAGE", "k", "SAMPLES")
        self.assert_error("ERR value is not an integer or out of range", client, "MEMORY", "USAGE", "k", "SAMPLES", "x")
        self.assert_error_starts("ERR unknown subcommand 'nosuch'", client, "MEMORY", "nosuch")

    def test_looking_does_not_count_as_using(self):
        client = self.client()
        client.ok("SET", "k", "v")
        client.ok("CONFIG", "RESETSTAT")
        client.ok("MEMORY", "USAGE", "k")
        self.assertEqual(client.info("stats")["keyspace_hits"], "0")

    def test_stats_as_a_map(self):
        client = self.client()
        client.ok("SET", "k", "v")
        client.ok("SELECT", "3")
        client.ok("SET", "k", "v")
        client.ok("HELLO", "3")
        stats = client.ok("MEMORY", "STATS")
        self.assertIsInstance(stats, Map)
        for name in (b"peak.allocated", b"total.allocated", b"startup.allocated", b"replication.backlog", b"clients.slaves",
                     b"clients.normal", b"aof.buffer", b"lua.caches", b"db.0", b"db.3", b"overhead.total", b"keys.count",
                     b"keys.bytes-per-key", b"dataset.bytes", b"dataset.percentage", b"peak.percentage", b"fragmentation"):
            self.assertIn(name, stats.keys())
        self.assertEqual(stats.get("keys.count"), 2)
        self.assertGreater(stats.get("db.3").get("overhead.hashtable.main"), 0)
        self.assertIsInstance(client.ok("MEMORY", "DOCTOR"), Verbatim)
        self.assertIsInstance(client.ok("MEMORY", "MALLOC-STATS"), Verbatim)

    @terrace_only("its freed memory stays with the allocator")
    def test_freed_memory_goes_back(self):
        client = self.client()
        client.pipeline([("SET", f"key:{i:08}", "v" * 900) for i in range(60000)])
        full = int(client.info("memory")["used_memory_rss"])
        client.ok("FLUSHALL")
        self.assert_reply(OK, client, "MEMORY", "PURGE")

        def fallen():
            client.ok("MEMORY", "PURGE")
            return int(client.info("memory")["used_memory_rss"]) < full - (30 << 20)

        if self.allocator(client).startswith("jemalloc"):
            self.wait_until(fallen, "the resident size to fall")
        self.wait_until(lambda: client.info("memory")["used_memory_dataset"] == "0", "all records to be freed")

    def allocator(self, client):
        return client.info("memory")["mem_allocator"]

    def test_peak_stays(self):
        client = self.client()
        client.ok("SET", "big", "x" * (8 << 20))
        peak = int(client.info("memory")["used_memory_peak"])
        client.ok("DEL", "big")
        self.wait_until(lambda: int(client.info("memory")["used_memory"]) < peak - (4 << 20), "it is freed")
        self.assertGreaterEqual(int(client.info("memory")["used_memory_peak"]), peak)


class Limit(ServerTest):
    def test_writes_are_refused_at_the_limit_and_served_again_below_it(self):
        server = self.start_server()
        client = self.connect_to(server)
        limit = int(client.info("memory")["used_memory"]) + (40 << 20)
        client.ok("CONFIG", "SET", "maxmemory", limit)
        self.assertEqual(client.info("memory")["maxmemory"], str(limit))
        value, number = "x" * 100000, 0

        def refused():
            nonlocal number
            number += 1
            return isinstance(client.command("SET", f"k{number}", value), ErrorReply)

        self.wait_until(refused, "the limit to be noticed")
        self.assertGreater(number, 20)
        self.assertLess(number, 5000)
        # A large one is refused before a small one is.
        refusal = ErrorReply(b"OOM command not allowed when used memory > 'maxmemory'.")
        self.wait_until(lambda: client.command("APPEND", "small", "x" * 10000) == refusal, "a small write to be refused")
        self.assert_reply(value.encode(), client, "GET", "k1")
        self.assert_reply(1, client, "DEL", "k1")
        client.ok("FLUSHALL")
        self.wait_until(lambda: client.command("SET", "a", "b") == OK, "writes to be served again")

    def test_lifting_the_limit_helps_too(self):
        server = self.start_server("--maxmemory", "100")
        client = self.connect_to(server)
        self.wait_until(lambda: isinstance(client.command("SET", "a", "b"), ErrorReply), "the limit to be noticed")
        client.ok("CONFIG", "SET", "maxmemory", "0")
        self.wait_until(lambda: client.command("SET", "a", "b") == OK, "writes to be served again")


if __name__ == "__main__":
    unittest.main()
