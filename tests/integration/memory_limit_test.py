"""maxmemory bounds the resident size, whatever clients do; and the kinds of INFO memory add up to it."""

import itertools
import os
import re
import tempfile
import threading
import time
import unittest

from support.case import ServerTest, long_run, terrace_only
from support.client import Client
from support.resp import OK, ErrorReply, encode_command

MB = 1 << 20
LIMIT = 96 * MB
SECONDS = 3.0
BLOB = os.urandom(1 << 16) * 512  # 32 MB
LONGEST_US = 2000  # that room is made at a stretch, while commands wait
KINDS = ("records", "record_slack", "index", "index_slack", "freed_pages", "regions", "client_query", "client_reply",
         "client_other", "workers", "io", "tier", "other", "allocator_slack", "program")


def hammer(server, is_over, number, make_commands):
    """One client that sends what `make_commands` makes until it is over; a connection that is closed is opened again."""
    client, step = None, 0
    while not is_over():
        try:
            client = client or Client(port=server.port)
            client.pipeline(make_commands(number, step))
        except (OSError, AssertionError, EOFError):
            client = None
        step += 1
    if client:
        client.close()


def skip_unless_measured(test, client):
    """To be called when the load is over: what a sanitizer was to find, it has found by then."""
    if not client.info("memory")["mem_allocator"].startswith("jemalloc"):
        test.skipTest("a sanitizer keeps memory of its own, which counts as resident")


def ask(client, commands):
    """Sends commands whose replies nobody will read."""
    client.send_raw(b"".join(encode_command(*command) for command in commands))


@terrace_only("it bounds what it counts, not its resident size")
class Resident(ServerTest):
    def server_with_limit(self, policy="allkeys-lru", limit=LIMIT, *more):
        return self.start_server("--maxmemory", limit, "--maxmemory-policy", policy, "--threads", "2", *more)

    def run_clients(self, server, *makers, evicting=0):
        """Every client in a thread, for some seconds and until they have made a load; returns the highest resident
        size seen."""
        started, loaded, watcher = time.monotonic(), threading.Event(), self.connect_to(server)

        def is_over():
            return time.monotonic() - started > SECONDS and loaded.is_set()

        def is_loaded():
            return (server.peak_resident_bytes() > LIMIT * 0.7
                    and int(watcher.info("stats")["evicted_keys"]) >= evicting)

        clients = [threading.Thread(target=hammer, args=(server, is_over, number, maker))
                   for number, maker in enumerate(makers)]
        for client in clients:
            client.start()
        try:
            self.wait_until(is_loaded, "the load to become one")
        finally:
            loaded.set()
            for client in clients:
                client.join()
        return server.peak_resident_bytes()

    def assert_within(self, server, peak, limit=LIMIT):
        skip_unless_measured(self, self.connect_to(server))
        self.assertLess(peak, limit * 1.05)

    def assert_in_slices(self, server, *makers):
        """By the clock of the threads: that others had the processor meanwhile says nothing about the slices. Still a host
        can take the whole machine away while one runs, which that clock does not know: then room is made once more."""
        client, steps = self.connect_to(server), itertools.count()

        def in_slices():
            longest_us = int(client.info("stats")["eviction_longest_cpu_microseconds"])
            if 0 < longest_us < LONGEST_US:
                return True
            client.ok("CONFIG", "RESETSTAT")
            for step in itertools.islice(steps, 30):
                for number, maker in enumerate(makers):
                    client.pipeline(maker(number, step))
            return False

        self.wait_until(in_slices, f"room to be made in slices of less than {LONGEST_US} us")

    @staticmethod
    def small_values(number, step):
        return [("SET", f"small:{number}:{step}:{i}", BLOB[: 10 + (step * 37 + i * 101) % 900]) for i in range(200)]

    @staticmethod
    def large_values(number, step):
        return [("SET", f"large:{number}:{step % 50}", BLOB[: 10 + (step * 7919 + number * 104729) % 16 * MB])]

    @staticmethod
    def growth(number, step):
        key = f"grown:{(number + step) % 20}"
        if step % 2:
            return [("APPEND", key, BLOB[: 1 + (step * 7919) % (2 * MB)])]
        return [("SETRANGE", key, str((step * 65537) % (20 * MB)), "x")]

    def test_small_values(self):
        server = self.server_with_limit()
        peak = self.run_clients(server, self.small_values, self.small_values, self.small_values, evicting=1000)
        self.assert_within(server, peak)
        self.assert_in_slices(server, self.small_values, self.small_values, self.small_values)

    def test_small_values_with_a_tier(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-tier-") as folder:
            server = self.server_with_limit("noeviction", LIMIT, "--tier-path", os.path.join(folder, "tier"),
                                            "--tier-size", "4gb")
            client, steps = self.connect_to(server), itertools.count()

            def are_demoted():
                for step in itertools.islice(steps, 20):
                    client.pipeline(self.small_values(9, step))
                return int(client.info("tier")["tier_demotions"]) > 1000

            self.run_clients(server, self.small_values, self.small_values, self.small_values)
            skip_unless_measured(self, client)
            self.wait_until(are_demoted, "records to be demoted")
            self.assert_within(server, server.peak_resident_bytes())
            self.assert_in_slices(server, self.small_values, self.small_values, self.small_values)
            server.stop()

    def test_large_values(self):
        server = self.server_with_limit()
        self.assert_within(server, self.run_clients(server, self.large_values, self.large_values, self.small_values))
        self.assert_in_slices(server, self.large_values, self.small_values)

    def test_large_values_with_a_tier(self):
        """They come to the tier without a buffer of their size, and back as they were."""
        for compression in ("lz4", "none") if long_run() else ("lz4",):
            with tempfile.TemporaryDirectory(prefix="terrace-test-tier-") as folder:
                server = self.server_with_limit("noeviction", LIMIT, "--tier-path", os.path.join(folder, "tier"),
                                                "--tier-size", "4gb", "--tier-compression", compression)
                client = self.connect_to(server)
                skip_unless_measured(self, client)  # which leaves no room for them
                values = [bytes([number]) + BLOB[: 9 * MB + number] for number in range(12)]
                # Where the machine has no time for the tier, a command may be refused.
                for number, value in enumerate(values):
                    self.wait_until(lambda: client.command("SET", f"hauled:{number}", value) == OK,
                                    "a value to be taken")
                for number in (3, 0, 11):
                    self.wait_until(lambda: client.command("GET", f"hauled:{number}") == values[number],
                                    "it to come back")
                self.assertGreater(int(client.info("tier")["tier_demotions"]), 0)
                if long_run():
                    self.assert_within(server, server.peak_resident_bytes())
                server.stop()

    def test_growing_values(self):
        server = self.server_with_limit()
        self.assert_within(server, self.run_clients(server, self.growth, self.growth, self.small_values))

    def test_slow_readers(self):
        server = self.server_with_limit()
        client = self.connect_to(server)
        for number in range(40):
            client.ok("SET", f"value:{number}", BLOB[: 20000 + number])
            client.ok("SET", f"grown:{number % 20}", BLOB[:MB])
        for _ in range(30):
            reader = self.connect_to(server, receive_buffer=4096)
            ask(reader, [("GET", f"value:{i % 40}") for i in range(400)] + [("GET", "grown:1")] * 20)
        peak = self.run_clients(server, self.growth, self.small_values, self.large_values)
        self.assert_serves(server)
        self.assert_within(server, peak)

    def test_long_replies(self):
        """Of pages: each is composed when there is room for it, not beside all others, and goes out as it is read."""
        limit = 48 * MB
        server = self.server_with_limit("noeviction", limit)
        client = self.connect_to(server)
        skip_unless_measured(self, client)
        for part in range(3):
            client.ok("APPEND", "grown", BLOB[:2 * MB + part])
        client.ok("SET", "small", "v")
        readers = [self.connect_to(server, receive_buffer=4096) for _ in range(8)]
        for number, reader in enumerate(readers):
            ask(reader, [("GET", "grown") if number % 2 else ("GETRANGE", "grown", "0", "-1")])
        for _ in range(300):  # who needs little is served meanwhile
            self.assertEqual(client.ok("GET", "small"), b"v")
        for reader in readers:
            reply = reader.read_reply()
            # Where the machine has no time for it, one may be refused.
            self.assertTrue(isinstance(reply, ErrorReply) or len(reply) == 6 * MB + 3)
        self.wait_until(lambda: client.command("GET", "grown") == BLOB[:2 * MB] + BLOB[:2 * MB + 1] + BLOB[:2 * MB + 2],
                        "one reply")
        client.ok("MULTI")
        for _ in range(12):
            client.ok("GET", "grown")
        replies = client.ok("EXEC")  # which cannot wait
        self.assertEqual(len(replies), 12)
        self.assertTrue(any(isinstance(reply, ErrorReply) and "OOM" in str(reply) for reply in replies))
        self.assert_within(server, server.peak_resident_bytes(), limit)

    def test_long_replies_of_what_is_on_the_tier(self):
        """Their pages come from there without all being in memory beside the reply, also where nobody can wait."""
        limit = 48 * MB
        with tempfile.TemporaryDirectory(prefix="terrace-test-tier-") as folder:
            server = self.server_with_limit("noeviction", limit, "--tier-path", os.path.join(folder, "tier"),
                                            "--tier-size", "4gb", "--tier-compression", "none")
            client = self.connect_to(server)
            skip_unless_measured(self, client)
            whole = b"".join(BLOB[:2 * MB + part] for part in range(10))
            for part in range(10):
                self.wait_until(lambda: isinstance(client.command("APPEND", "grown", BLOB[:2 * MB + part]), int),
                                "a part to be taken")
            self.assertEqual(client.ok("STRLEN", "grown"), len(whole))
            for read in (("GET", "grown"), ("GETRANGE", "grown", "0", "-1")):
                client.ok("TIER", "DEMOTE", "grown")
                self.wait_until(lambda: client.command(*read) == whole, "it to be read")
            for _ in range(3):
                client.ok("TIER", "DEMOTE", "grown")
                replies = client.pipeline([("MULTI",), ("GET", "grown"), ("GET", "grown"), ("EXEC",)])[-1]
                for reply in replies:
                    self.assertTrue(reply == whole or isinstance(reply, ErrorReply))
            self.assert_within(server, server.peak_resident_bytes(), limit)
            server.stop()

    def test_big_collections_on_the_tier_are_read_whole(self):
        """Of a fifth of the limit. The second time their pages are wanted back, which there is no need for."""
        limit, value = 64 * MB, os.urandom(500).hex()
        with tempfile.TemporaryDirectory(prefix="terrace-test-tier-") as folder:
            server = self.server_with_limit("noeviction", limit, "--tier-path", os.path.join(folder, "tier"),
                                            "--tier-size", "4gb")
            client = self.connect_to(server)
            skip_unless_measured(self, client)
            for start in range(0, 14000, 100):
                members = [f"{number}:{value}" for number in range(start, start + 100)]
                scored = [word for number, member in enumerate(members, start) for word in (number, member)]
                commands = [("ZADD", "first", *scored), ("ZADD", "second", *scored)]
                if start < 12000:
                    commands += [("RPUSH", "list", *members), ("HSET", "hash", *scored), ("SADD", "set", *members)]
                for command in commands:
                    self.wait_until(lambda: isinstance(client.command(*command), int), "room for more elements")
            for command in 3 * (("LRANGE", "list", "0", "-1"), ("HVALS", "hash"), ("SMEMBERS", "set")):
                client.ok("TIER", "DEMOTE", "*")
                self.assertEqual(len(set(client.ok(*command))), 12000, command[0])
            client.ok("TIER", "DEMOTE", "*")
            self.assertEqual(client.ok("SUNIONSTORE", "copy", "set"), 12000)
            client.ok("DEL", "copy")
            client.ok("TIER", "DEMOTE", "*")
            self.assertGreater(len(client.ok("DUMP", "hash")), 11_000_000)
            self.assert_within(server, server.peak_resident_bytes(), limit)
            # For two of them there is never room. That is said, and not tried for ever.
            client.ok("TIER", "DEMOTE", "*")
            answer = client.command("ZINTERCARD", "2", "first", "second")
            self.assertTrue(isinstance(answer, ErrorReply) and "OOM" in str(answer), answer)
            server.stop()

    def test_what_was_promised_for_one_reply_is_not_taken_for_more(self):
        """A cold value is promised memory for its copy and for one reply of it; EXEC may make many."""
        limit, value, long_value = 64 * MB, os.urandom(8 * MB), 28
        with tempfile.TemporaryDirectory(prefix="terrace-test-tier-") as folder:
            server = self.server_with_limit("noeviction", limit, "--tier-path", os.path.join(folder, "tier"),
                                            "--tier-size", "1gb")
            client, slow = self.connect_to(server), self.connect_to(server)
            skip_unless_measured(self, client)
            for start in range(0, len(value), MB):
                client.ok("APPEND", "value", value[start : start + MB])
            for start in range(long_value):
                client.ok("APPEND", "long", value[:MB])

            def is_cold():
                client.ok("TIER", "DEMOTE", "*")
                return server.resident_bytes() < limit // 3

            self.wait_until(is_cold, "all of it to be demoted")
            slow.send("GET", "long")  # and does not read
            self.wait_until(lambda: server.resident_bytes() > (long_value + 8) * MB, "its reply")
            replies = client.pipeline([("MULTI",), *3 * [("GET", "value")], ("EXEC",)])[-1]
            for reply in replies:
                self.assertTrue(reply == value or (isinstance(reply, ErrorReply) and "OOM" in str(reply)), str(reply)[:80])
            self.assertEqual(replies[0], value)
            self.assert_within(server, server.peak_resident_bytes(), limit)
            server.stop()

    def test_small_reads_go_on_beyond_the_limit(self):
        """Nothing can be freed, and RSS is too high: waiting would help nobody."""
        server = self.server_with_limit("noeviction")
        client = self.connect_to(server)
        skip_unless_measured(self, client)
        for number in range(200):
            client.ok("SET", f"k{number}", BLOB[:MB // 4])
        client.ok("CONFIG", "SET", "maxmemory", str(48 * MB))  # what is there stays
        self.wait_until(lambda: isinstance(client.command("SET", "more", BLOB[:1000]), ErrorReply), "writes to be refused")
        def held():
            return int(client.info("stats")["commands_held_for_memory"])

        before = held()
        replies = client.pipeline([("STRLEN", f"k{number % 200}") for number in range(2000)])
        self.assertEqual(replies, [MB // 4] * 2000)
        self.assertLess(held() - before, 100)

    def test_who_waited_for_memory_waits_for_a_pause_and_goes_on(self):
        server = self.start_server("--maxmemory-eviction-tenacity", "0")
        client, other = self.connect_to(server), self.connect_to(server)
        skip_unless_measured(self, client)
        for first in range(0, 200000, 1000):
            client.pipeline([("SET", f"k{first + i}", "v" * 500) for i in range(1000)])
        limit = ("CONFIG", "SET", "maxmemory", 60 * MB, "maxmemory-policy", "allkeys-random")
        writes = [("SET", f"new{i}", "v" * 500) for i in range(3000)]
        client.send_raw(b"".join(encode_command(*words) for words in (limit, *writes)))
        self.wait_until(lambda: other.info("stats")["commands_held_for_memory"] != "0", "a write to be held")
        other.ok("CLIENT", "PAUSE", 300, "ALL")
        self.assertEqual([client.read_reply() for _ in range(1 + len(writes))], [OK] * (1 + len(writes)))

    def test_nothing_is_evicted_without_a_policy(self):
        server = self.server_with_limit("noeviction")
        peak = self.run_clients(server, self.small_values, self.large_values, self.growth)
        client = self.connect_to(server)
        skip_unless_measured(self, client)
        self.assertEqual(client.info("stats")["evicted_keys"], "0")
        # Compaction may still find room for some of these. However often: who is refused stays connected.
        numbers = itertools.count()
        for _ in range(3):
            self.wait_until(lambda: isinstance(client.command("SET", f"last:{next(numbers)}", BLOB[: MB // 4]), ErrorReply),
                            "a write to be refused")
        # What there is no memory to receive is passed over; in a transaction that refuses the whole of it.
        self.assertIn("OOM", str(client.command("SET", "last", BLOB)))
        client.ok("MULTI")
        self.assertIn("OOM", str(client.command("SET", "last", BLOB)))
        self.assertIn("EXECABORT", str(client.command("EXEC")))
        client.ok("FLUSHALL")
        self.wait_until(lambda: client.command("SET", "k", "v") == OK, "writes to be served again")
        self.assert_within(server, peak)

    def test_a_big_collection_counts_where_the_limit_is_near_the_start(self):
        """There it is bytes in use that are bounded."""
        server = self.start_server("--maxmemory", 12 * MB, "--maxmemory-policy", "noeviction")
        refused = 0
        with server.client() as client:
            for first in range(0, 400000, 2000):
                commands = [("HSET", "hash", f"field:{first + i}", "v" * 60) for i in range(2000)]
                refused += sum(isinstance(reply, ErrorReply) for reply in client.pipeline(commands))
                if refused:
                    break
            self.assertGreater(refused, 0)
            self.assertLess(int(client.info("memory")["used_memory"]), 13 * MB)

    def test_what_can_never_fit_is_refused(self):
        server = self.server_with_limit(limit=32 * MB)
        client = self.connect_to(server)
        client.ok("SET", "k", "v")
        # What is not written of a value takes no room; all of it would.
        self.assertEqual(client.ok("SETRANGE", "sparse", str(100 * MB), "x"), 100 * MB + 1)
        skip_unless_measured(self, client)
        self.assertIsInstance(client.command("BITOP", "NOT", "k", "sparse"), ErrorReply)
        self.assertEqual(client.ok("GET", "k"), b"v")


@terrace_only("it has other figures")
class Kinds(ServerTest):
    def check(self, client, what):
        """The sums of the kinds and the resident size differ by little, once the figures have settled."""
        def small():
            info = client.info("memory")
            rss = int(info["used_memory_rss"])
            self.assertEqual(rss - sum(int(info[f"used_memory_{kind}"]) for kind in KINDS),
                             int(info["used_memory_unaccounted"]))
            return abs(int(info["used_memory_unaccounted"])) < rss * 0.05 + 8 * MB
        self.wait_until(small, f"the kinds to add up: {what}")

    def test_every_byte_has_a_kind(self):
        server = self.start_server("--threads", "2")
        client = self.connect_to(server)
        skip_unless_measured(self, client)
        self.check(client, "empty")
        for base in range(0, 300000, 10000):
            client.pipeline([("SET", f"key:{i}", "v" * (i % 97)) for i in range(base, base + 10000)])
        self.check(client, "small records")
        client.pipeline([("SET", f"large:{i}", BLOB[: i * 10000]) for i in range(200)])
        self.check(client, "large records")
        readers = [self.connect_to(server, receive_buffer=4096) for _ in range(20)]
        for reader in readers:
            ask(reader, [("GET", "large:3")] * 100 + [("GET", "large:199")] * 5)
        self.check(client, "slow readers")
        writer = self.connect_to(server)
        writer.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000000\r\n" + BLOB[: 9 * MB])
        self.wait_until(lambda: int(client.info("memory")["used_memory_client_query"]) >= 9 * MB, "the query to arrive")
        self.check(client, "a half received command")
        client.pipeline([("DEL", f"key:{i}") for i in range(0, 300000, 2)])
        self.check(client, "half deleted")
        client.ok("FLUSHALL")
        self.check(client, "flushed")


@terrace_only("other buffers, other sizes")
class Clients(ServerTest):
    def fill_query(self, server, size):
        client = self.connect_to(server)
        client.send_to_who_may_close(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (32 * MB) + BLOB[:size])
        return client

    def test_the_largest_clients_go_first(self):
        server = self.start_server("--threads", "2")
        control = self.connect_to(server)
        small = self.fill_query(server, 1 * MB)
        large = self.fill_query(server, 24 * MB)
        self.wait_until(lambda: int(control.info("memory")["used_memory_client_query"]) >= 25 * MB, "the input to arrive")
        control.ok("CONFIG", "SET", "maxmemory-clients", str(40 * MB))
        self.assertTrue(large.is_closed_by_server())
        self.wait_until(lambda: control.info("stats")["evicted_clients"] == "1", "the count")
        self.assertEqual(control.ok("CLIENT", "LIST").count(b" addr="), 2)
        self.assertIn(f"addr=127.0.0.1:{small.socket.getsockname()[1]}".encode(), control.ok("CLIENT", "LIST"))

    def listed(self, control):
        return control.ok("CLIENT", "LIST").count(b" addr=")

    def test_a_lowered_limit_holds_at_once(self):
        server = self.start_server("--threads", "2")
        control = self.connect_to(server)
        control.ok("CLIENT", "NO-EVICT", "on")
        for _ in range(10):
            self.fill_query(server, MB)
        self.wait_until(lambda: int(control.info("memory")["used_memory_client_query"]) >= 10 * MB, "the input to arrive")
        each = max(int(size) for size in re.findall(rb"tot-mem=(\d+)", control.ok("CLIENT", "LIST")))
        control.ok("CONFIG", "SET", "maxmemory-clients", str(each * 11 // 2))
        self.assertEqual(self.listed(control), 1 + 5)
        control.ok("CONFIG", "SET", "maxmemory-clients", str(each * 3 // 2))
        self.assertEqual(self.listed(control), 1 + 1)
        self.assertEqual(control.info("stats")["evicted_clients"], "9")

    def test_whatever_a_client_takes_counts(self):
        server = self.start_server("--threads", "2", "--maxmemory-clients", 200000)
        growing = [lambda i: ("WATCH", i), lambda i: ("SUBSCRIBE", i), lambda i: ("PSUBSCRIBE", i), lambda i: ("SSUBSCRIBE", i),
                   lambda i: ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", f"{i:0100}")]
        for command in growing:
            client = self.connect_to(server)
            for number in range(4000):
                try:
                    client.command(*command(number))
                except (ConnectionError, EOFError):
                    break
            self.assertTrue(100 < number < 3999, f"{command(number)[0]}: {number}")

    def test_a_command_that_is_too_large_is_not_run(self):
        server = self.start_server("--threads", "2", "--maxmemory-clients", 3000000)
        control, client = self.connect_to(server), self.connect_to(server)
        client.ok("MSET", "a", "v", "b", BLOB[:MB])
        # So much larger that it cannot be the last read which takes it past the limit: then it would be whole, and run.
        client.send_to_who_may_close(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (12 * MB) + BLOB[: 12 * MB] + b"\r\n")
        self.assertTrue(client.is_closed_by_server())
        self.assertEqual(self.listed(control), 1)
        self.assert_reply(0, control, "EXISTS", "k")

    def test_clients_that_asked_for_it_are_spared(self):
        server = self.start_server("--threads", "1")
        control = self.connect_to(server)
        spared = self.connect_to(server)
        spared.ok("CLIENT", "NO-EVICT", "on")
        spared.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (12 * MB) + BLOB[: 12 * MB - 5])
        other = self.fill_query(server, 2 * MB)
        self.wait_until(lambda: int(control.info("memory")["used_memory_client_query"]) >= 13 * MB, "the input to arrive")
        control.ok("CONFIG", "SET", "maxmemory-clients", str(20 * MB))
        self.assertTrue(other.is_closed_by_server())
        spared.send_raw(BLOB[:5] + b"\r\n")
        self.assertEqual(spared.read_reply(), OK)

    def test_unread_replies_count_up_to_the_limit(self):
        server = self.start_server("--threads", "2", "--maxmemory-clients", 4 * MB)
        control, client = self.connect_to(server), self.connect_to(server)
        control.ok("CLIENT", "NO-EVICT", "on")
        control.ok("SET", "k", BLOB[:200000])
        client.send_raw(b"GET k\r\n" * 500)  # far more than sockets take
        self.wait_until(lambda: control.info("stats")["evicted_clients"] == "1", "the reader's end")
        self.assertEqual(self.listed(control), 1)

    def test_a_share_of_maxmemory(self):
        server = self.start_server("--threads", "1", "--maxmemory", 100 * MB, "--maxmemory-clients", "10%")
        client = self.fill_query(server, 1 * MB)  # its buffer has room for 16
        self.assertTrue(client.is_closed_by_server())
        self.assert_serves(server)


if __name__ == "__main__":
    unittest.main()
