"""The eight maxmemory policies: which keys go, and that used memory stays at the limit."""

import random
import unittest

from support.case import ServerTest, terrace_only
from support.server import is_redis
from support.resp import NULL_ARRAY, OK, ErrorReply

OOM = "OOM command not allowed when used memory > 'maxmemory'."
POLICIES = ("allkeys-random", "allkeys-lru", "allkeys-lfu", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")


class Eviction(ServerTest):
    # With few shards: each takes a few hundred bytes when its first key comes, of limits that are 100 KB above nothing.
    server_arguments = ("--threads", "1")

    def setUp(self):
        super().setUp()
        client = self.client()
        client.ok("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory-samples", "5")
        self.empty(client)
        client.ok("CONFIG", "RESETSTAT")

    def empty(self, client):
        client.ok("CONFIG", "SET", "maxmemory", "0")
        client.ok("FLUSHALL")
        if not is_redis():
            self.wait_until(lambda: client.info("memory")["used_memory_records"] == "0", "the flush")

    def used(self, client):
        return int(client.info("memory")["used_memory"])

    def limit_to(self, client, policy, more=100 * 1024):
        """A limit a little above what is used now."""
        limit = self.used(client) + more
        client.ok("CONFIG", "SET", "maxmemory", limit, "maxmemory-policy", policy)
        return limit

    def fill(self, client, limit, command):
        """Until the limit is nearly reached; returns how many keys that took."""
        keys = 0
        while self.used(client) + 4096 <= limit:
            client.pipeline([command(number) for number in range(keys, keys + 16)])
            keys += 16
            self.assertLess(keys, 200000, "used memory never comes near the limit")
        self.assertGreater(keys, 10)
        return keys

    def evicted(self, client):
        return int(client.info("stats")["evicted_keys"])

    def test_used_memory_stays_at_the_limit(self):
        client = self.client()
        for policy in POLICIES:
            with self.subTest(policy=policy):
                self.empty(client)
                limit = self.limit_to(client, policy)
                keys = self.fill(client, limit, lambda n: ("SETEX", f"key:{n}", "10000", "x"))
                before = self.evicted(client)
                for number in range(keys):
                    client.ok("SETEX", f"more:{number}", "10000", "x")
                self.assertLess(self.used(client), limit + 4096)
                self.assertGreater(self.evicted(client), before)

    def test_only_policies_of_all_keys_touch_keys_without_expiry(self):
        client = self.client()
        for policy in POLICIES:
            with self.subTest(policy=policy):
                self.empty(client)
                limit = self.limit_to(client, policy)
                keys = self.fill(client, limit, lambda n: ("SET", f"key:{n}", "x"))
                replies = [client.command("SET", f"more:{number}", "x") for number in range(keys + 5000)]
                refused = ErrorReply(OOM) in replies
                self.assertEqual(refused, policy.startswith("volatile"))
                if not refused:
                    self.assertLess(self.used(client), limit + 4096)

    def test_volatile_policies_spare_the_others(self):
        client = self.client()
        for policy in (name for name in POLICIES if name.startswith("volatile")):
            with self.subTest(policy=policy):
                self.empty(client)
                limit = self.limit_to(client, policy)
                keys = self.fill(client, limit, lambda n: (("SETEX", f"key:{n}", "10000", "x") if n % 2
                                                           else ("SET", f"key:{n}", "x")))
                for number in range(keys // 2):
                    client.command("SETEX", f"more:{number}", "10000", "x")
                self.assertLess(self.used(client), limit + 4096)
                self.assertGreater(self.evicted(client), 0)
                lasting = [f"key:{number}" for number in range(0, keys, 2)]
                self.assertEqual(client.ok("EXISTS", *lasting), len(lasting))

    def test_the_soonest_to_expire_go_first(self):
        client = self.client()
        rng = random.Random(7)
        names = [f"key:{number:05}" for number in range(3000)]
        rng.shuffle(names)
        client.pipeline([("SET", name, "x" * 50, "EX", str(1000 + rank)) for rank, name in enumerate(names)])
        client.ok("CONFIG", "SET", "maxmemory-samples", "10", "maxmemory-policy", "volatile-ttl")
        client.ok("CONFIG", "SET", "maxmemory", self.used(client) - 60 * 1024)
        self.wait_until(lambda: self.evicted(client) > 300, "evictions")
        client.ok("CONFIG", "SET", "maxmemory", "0")
        alive = client.pipeline([("EXISTS", name) for name in names])
        gone = [rank for rank, reply in enumerate(alive) if reply == 0]
        early = sum(1 for rank in gone if rank < 1500)
        self.assertGreater(early / len(gone), 0.95)

    def test_the_least_used_go_first(self):
        client = self.client()
        client.ok("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu", "lfu-log-factor", "0", "maxmemory-samples", "10")
        client.pipeline([("SET", f"key:{number}", "x" * 50) for number in range(3000)])
        hot = [f"key:{number}" for number in range(0, 3000, 3)]
        for _ in range(20):
            client.pipeline([("GET", name) for name in hot])
        client.ok("CONFIG", "SET", "maxmemory", self.used(client) - 60 * 1024)
        self.wait_until(lambda: self.evicted(client) > 300, "evictions")
        client.ok("CONFIG", "SET", "maxmemory", "0", "lfu-log-factor", "10")
        self.assertGreater(client.ok("EXISTS", *hot), 990)

    def test_the_transaction_of_a_watcher_of_an_evicted_key_fails(self):
        client, other = self.client(), self.client()
        client.ok("SET", "watched", "x" * 1000)
        client.ok("WATCH", "watched")
        client.ok("MULTI")
        client.ok("SET", "a", "b")
        other.ok("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        other.ok("CONFIG", "SET", "maxmemory", "1000")
        self.wait_until(lambda: other.ok("EXISTS", "watched") == 0, "the eviction")
        other.ok("CONFIG", "SET", "maxmemory", "0")
        self.assert_reply(NULL_ARRAY, client, "EXEC")

    @terrace_only("it evicts when the next command comes")
    def test_big_collections_go_with_all_they_hold(self):
        client = self.client()
        self.limit_to(client, "allkeys-lru", more=8 * 1024 * 1024)
        for number in range(60):
            pairs = [word for field in range(10000) for word in (f"field:{field}", "a value of some bytes")]
            client.ok("HSET", f"big:{number}", *pairs)
        left = client.ok("DBSIZE")
        self.assertEqual(left + self.evicted(client), 60)
        self.assertGreater(left, 5, "no more went than had to")
        self.assertEqual({client.ok("HLEN", key) for key in client.ok("KEYS", "big:*")}, {10000})
        self.empty(client)

    def test_an_idle_server_evicts_too(self):
        client = self.client()
        client.pipeline([("SET", f"key:{number}", "x" * 100) for number in range(10000)])
        client.ok("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        limit = self.used(client) - 600000
        client.ok("CONFIG", "SET", "maxmemory", limit)
        self.wait_until(lambda: self.used(client) <= limit, "room to be made")
        self.assertEqual(client.info("memory")["maxmemory_policy"], "allkeys-lru")

    def test_exec_is_refused_like_what_was_queued(self):
        client, other = self.client(), self.client()
        client.ok("MULTI")
        client.ok("SET", "a", "b")
        other.ok("CONFIG", "SET", "maxmemory", "1000")
        self.wait_until(lambda: other.command("SET", "x", "y") == ErrorReply(OOM), "the limit to be noticed")
        self.assert_error_starts("EXECABORT", client, "EXEC")
        other.ok("CONFIG", "SET", "maxmemory", "0")
        self.wait_until(lambda: other.command("SET", "x", "y") == OK, "writes to be served again")


if __name__ == "__main__":
    unittest.main()
