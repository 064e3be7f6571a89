"""A tier that survives its server: after a shutdown, after being killed, with and without the append-only file, and what
is refused rather than overwritten."""

import os
import tempfile
import time
import unittest

from support.case import terrace_only, threads
from support.resp import ErrorReply
from support.restarts import RestartTest, value_of
from support.server import Server, run_to_exit

COUNT = 12000
FIELDS = 200000
ITEMS = 100000


@terrace_only("it has no tier")
class TierPersist(RestartTest):
    ROOMY = ("--tier-size", "256mb", "--tier-segment-size", "1mb", "--tier-persist", "yes")  # everything in memory

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="terrace-test-pool-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.tier = os.path.join(self.folder, "tier")

    def start(self, *extra):
        """Starts a server on the same files; the one before has ended."""
        return self.start_with(*self.arguments(*extra))

    def start_with(self, *arguments):
        self.server = Server(*arguments, directory=self.folder)
        self.addCleanup(self.server.stop, False)
        return self.server.client()

    def arguments(self, *extra):
        return (
            *("--tier-path", self.tier, "--tier-size", "256mb", "--tier-segment-size", "1mb"),
            *("--tier-record-budget", "1mb", "--tier-persist", "yes", *extra),
        )

    def figure(self, client, name):
        return int(client.info("tier")[name])

    def wait_for_checkpoint(self, client):
        made = self.figure(client, "tier_checkpoints")
        client.command("CONFIG", "SET", "tier-checkpoint-seconds", "1")
        until = time.monotonic() + 60
        while self.figure(client, "tier_checkpoints") == made and time.monotonic() < until:
            client.command("SET", "something", "changes")
        client.command("CONFIG", "SET", "tier-checkpoint-seconds", "0")
        self.assertGreater(self.figure(client, "tier_checkpoints"), made)

    def make_other_types(self, client):
        client.command("HSET", "hash", "a", "1", "b", "2")
        client.command("PEXPIRE", "hash", "10000000")
        client.command("HPEXPIRE", "hash", "20000000", "FIELDS", "1", "b")
        client.pipeline([("RPUSH", "list", f"element-{i}") for i in range(20000)])
        client.pipeline([("ZADD", "sorted", str(i), f"member-{i}") for i in range(2000)])
        client.command("SELECT", "3")
        client.command("SADD", "set", "x", "y")
        client.command("SELECT", "0")

    def verify_other_types(self, client):
        self.assertEqual(client.command("HMGET", "hash", "a", "b"), [b"1", b"2"])
        self.assertGreater(client.command("PTTL", "hash"), 0)
        self.assertGreater(client.command("HPTTL", "hash", "FIELDS", "1", "b")[0], 0)
        self.assertEqual(client.command("LLEN", "list"), 20000)
        self.assertEqual(client.command("LRANGE", "list", "19990", "-1"), [b"element-%d" % i for i in range(19990, 20000)])
        self.assertEqual(client.command("ZRANGE", "sorted", "1000", "1001"), [b"member-1000", b"member-1001"])
        client.command("SELECT", "3")
        self.assertEqual(sorted(client.command("SMEMBERS", "set")), [b"x", b"y"])
        client.command("SELECT", "0")

    def test_a_shutdown_and_a_start_keep_everything(self):
        client = self.start()
        self.load(client, range(COUNT))
        self.make_other_types(client)
        for round_number in range(3):
            self.shut_down(client)
            client = self.start()
            self.assertIn("DB recovered from checkpoint", self.server.log_text())
            self.assertEqual(client.command("DBSIZE"), COUNT + 3 + round_number)
            self.verify(client, range(COUNT))
            self.verify_other_types(client)
            client.command("SET", f"round:{round_number}", "new")
            self.load(client, range(round_number, COUNT, 5))

    @threads
    def test_a_kill_goes_back_to_the_last_checkpoint(self):
        client = self.start("--threads", "2")
        self.load(client, range(COUNT))
        self.wait_for_checkpoint(client)
        client.pipeline([("SET", f"key:{i}", "changed behind it") for i in range(0, COUNT, 2)])
        client.pipeline([("DEL", f"key:{i}") for i in range(1, COUNT, 2)])
        self.server.kill()
        client = self.start()
        self.verify(client, range(COUNT))

    def test_a_checkpoint_writes_what_has_changed(self):
        client = self.start_with(*self.ROOMY, "--tier-path", self.tier)
        self.load(client, range(1000))
        self.wait_for_checkpoint(client)
        while self.figure(client, "tier_checkpoint_in_progress"):  # another one, of before the changes
            pass
        client.pipeline([("DEL", f"key:{i}") for i in range(10)])
        self.load(client, range(1000, 1010))
        client.pipeline([("SET", f"key:{i}", value_of(i)) for i in range(500, 600)])  # no change
        self.wait_for_checkpoint(client)
        self.assertLessEqual(self.figure(client, "tier_checkpoint_images"), 11)  # and "something"
        self.assertGreaterEqual(self.figure(client, "tier_checkpoint_images_kept"), 990)
        self.server.kill()
        client = self.start()
        self.assertEqual(client.command("DBSIZE"), 1001)
        self.verify(client, range(10, 1010))

    def field_of(self, number):
        return f"value-{number}-{number * 7919}"

    def fill_big_ones(self, client):
        for begin in range(0, FIELDS, 1000):
            fields = [text for i in range(begin, begin + 1000) for text in (f"field:{i}", self.field_of(i))]
            client.command("HSET", "big hash", *fields)
            client.command("SADD", "big set", *(f"member:{i}" for i in range(begin, begin + 1000)))
        client.pipeline([("SETBIT", "big string", i * 50, 1) for i in range(100000)])

    def verify_big_ones(self, client, changed):
        self.assertEqual(client.command("HLEN", "big hash"), FIELDS)
        self.assertEqual(client.command("SCARD", "big set"), FIELDS)
        self.assertEqual(client.command("BITCOUNT", "big string"), 100000)
        for begin in range(0, FIELDS, 5000):
            values = client.command("HMGET", "big hash", *(f"field:{i}" for i in range(begin, begin + 5000)))
            for i, value in enumerate(values, begin):
                self.assertEqual(value.decode(), changed.get(i, self.field_of(i)), f"field {i}")
            there = client.command("SMISMEMBER", "big set", *(f"member:{i}" for i in range(begin, begin + 5000)))
            self.assertEqual(there, [1] * 5000)

    @threads
    def test_big_collections_are_written_page_by_page_and_not_read_at_a_start(self):
        roomy = (*self.ROOMY, "--tier-path", self.tier, "--threads", "2")
        client = self.start_with(*roomy)
        self.fill_big_ones(client)
        self.wait_for_checkpoint(client)
        while self.figure(client, "tier_checkpoint_in_progress"):  # another one, of before the changes
            pass
        pages = self.figure(client, "tier_checkpoint_pages")
        changed = {i: self.field_of(i)[::-1] for i in range(0, FIELDS, FIELDS // 80)}
        client.pipeline([("HSET", "big hash", f"field:{i}", value) for i, value in changed.items()])
        self.wait_for_checkpoint(client)
        self.assertEqual(self.figure(client, "tier_checkpoint_pages"), pages)
        self.assertLessEqual(self.figure(client, "tier_checkpoint_page_images"), 80)
        self.assertGreater(self.figure(client, "tier_checkpoint_page_images"), 60)
        self.assertGreaterEqual(self.figure(client, "tier_checkpoint_page_images_kept"), pages - 80)
        self.assertFalse([name for name in os.listdir(self.folder) if name.endswith(".rdb")])
        client.command("HSET", "big hash", "field:5", "behind the checkpoint")
        self.server.kill()
        client = self.start_with(*roomy)
        self.assertEqual(client.command("HLEN", "big hash"), FIELDS)
        self.assertEqual(self.figure(client, "tier_reads") + self.figure(client, "tier_memory_reads"), 0)
        self.verify_big_ones(client, changed)

    def fill_trees(self, client):
        """The model: elements, scores by member, entries by ID; all of the first half of the stream is pending."""
        self.elements = [b"element-%d" % (i * 7919) for i in range(ITEMS)]
        self.scores = {b"member-%d" % i: i % 1000 for i in range(ITEMS)}
        self.entries = {f"{i + 1}-1": b"value-%d" % i for i in range(ITEMS)}
        for begin in range(0, ITEMS, 1000):
            client.command("RPUSH", "list", *self.elements[begin:begin + 1000])
            client.command("ZADD", "sorted", *(x for i in range(begin, begin + 1000) for x in (i % 1000, f"member-{i}")))
        client.pipeline([("XADD", "stream", name, "name", value) for name, value in self.entries.items()])
        client.command("XGROUP", "CREATE", "stream", "group", "0")
        client.command("XREADGROUP", "GROUP", "group", "alice", "COUNT", ITEMS // 2, "STREAMS", "stream", ">")
        self.pending = ITEMS // 2

    def change_trees(self, client):
        """A hundred items of each. An element of another length might split its leaf, which is full."""
        commands = []
        for i in range(0, ITEMS, ITEMS // 100):
            self.elements[i] = self.elements[i].upper()
            self.scores[b"member-%d" % i] = 2000 + i
            del self.entries[f"{i + 1}-1"]
            commands += [("LSET", "list", i, self.elements[i]), ("ZADD", "sorted", 2000 + i, f"member-{i}"),
                         ("XDEL", "stream", f"{i + 1}-1")]
        commands += [("XACK", "stream", "group", f"{i + 1}-1") for i in range(100)]
        self.pending -= 100
        client.pipeline(commands)

    def verify_trees(self, client):
        ordered = sorted(self.scores, key=lambda member: (self.scores[member], member))
        for begin in range(0, ITEMS, 5000):
            self.assertEqual(client.command("LRANGE", "list", begin, begin + 4999), self.elements[begin:begin + 5000])
            self.assertEqual(client.command("ZRANGE", "sorted", begin, begin + 4999), ordered[begin:begin + 5000])
            some = ordered[begin:begin + 5000:50]
            scores = client.command("ZMSCORE", "sorted", *some)
            self.assertEqual([float(score) for score in scores], [self.scores[member] for member in some])
        entries = {name.decode(): value[1] for name, value in client.command("XRANGE", "stream", "-", "+")}
        self.assertEqual(entries, self.entries)
        self.assertEqual(client.command("XPENDING", "stream", "group")[0], self.pending)
        client.command("XREADGROUP", "GROUP", "group", "bob", "COUNT", "5", "STREAMS", "stream", ">")
        self.assertEqual(client.command("XPENDING", "stream", "group")[3], [[b"alice", b"%d" % self.pending], [b"bob", b"5"]])

    @threads
    def test_trees_are_written_page_by_page_and_not_read_at_a_start(self):
        roomy = (*self.ROOMY, "--tier-path", self.tier, "--threads", "2")
        client = self.start_with(*roomy)
        self.fill_trees(client)
        self.wait_for_checkpoint(client)
        while self.figure(client, "tier_checkpoint_in_progress"):  # another one, of before the changes
            pass
        pages = self.figure(client, "tier_checkpoint_pages")
        self.change_trees(client)
        self.wait_for_checkpoint(client)
        images = self.figure(client, "tier_checkpoint_page_images")
        self.assertGreater(images, 280)  # a page of the list, one of the hash beside the sorted set, one of the stream
        self.assertLessEqual(images, 330)
        self.assertEqual(self.figure(client, "tier_checkpoint_page_images_kept") + images, pages)
        client.command("RPUSH", "list", "behind the checkpoint")
        self.server.kill()
        client = self.start_with(*roomy)
        self.assertEqual(client.command("LLEN", "list"), ITEMS)
        self.assertEqual(client.command("ZCARD", "sorted"), ITEMS)
        self.assertEqual(client.command("XLEN", "stream"), ITEMS - 100)
        self.assertEqual(self.figure(client, "tier_reads") + self.figure(client, "tier_memory_reads"), 0)
        self.verify_trees(client)
        self.assertFalse([name for name in os.listdir(self.folder) if name.endswith(".rdb")])

    def demote_all(self, client):
        """In a tier that is small for what is in it: what is full now may not be so after the next checkpoint."""
        until = time.monotonic() + 60
        while isinstance(reply := client.command("TIER", "DEMOTE", "key:*"), ErrorReply):
            self.assertIn("the tier is full", reply.text)
            self.assertLess(time.monotonic(), until)
        self.assertEqual(client.ok("OBJECT", "MEDIUM", "key:7"), b"tier")

    def overwrite(self, count):
        """All keys, again and again, and all of them to the tier, which has room for not much more than two versions."""
        client = self.start_with("--tier-path", self.tier, "--tier-size", "16mb", "--tier-segment-size", "1mb",
                                 "--tier-persist", "yes", "--tier-compression", "none", "--threads", "1",
                                 "--tier-checkpoint-seconds", "3600")
        for version in range(5):
            client.pipeline([("SET", f"key:{i}", f"{version}:{i} " * 100) for i in range(count)])
            self.demote_all(client)
            if version == 0:
                self.wait_for_checkpoint(client)
        self.assertGreater(self.figure(client, "tier_checkpoints"), 1)
        self.assertEqual(self.figure(client, "tier_checkpoint_failures"), 0)
        self.assertEqual(client.command("GET", "key:7").decode(), "4:7 " * 100)
        return client

    @threads
    def test_demotion_waits_for_the_checkpoint_that_sets_segments_free(self):
        """And others are served meanwhile: a checkpoint needs all workers for a moment."""
        self.overwrite(8000)

    def test_a_checkpoint_finds_room_beyond_the_size_of_a_full_tier(self):
        """Without one nothing would become free again. What is beyond belongs to the file from then on."""
        client = self.overwrite(14000)
        self.assertIn("there is no room for the images of a checkpoint; for these its file may become",
                      self.server.log_text())
        segments = self.figure(client, "tier_segments")
        self.assertGreater(segments, 16)
        client.pipeline([("SET", f"key:{i}", f"last:{i}") for i in range(0, 14000, 2)])
        self.shut_down(client)
        client = self.start_with("--tier-path", self.tier, "--tier-size", "16mb", "--tier-segment-size", "1mb",
                                 "--tier-persist", "yes", "--tier-compression", "none")
        self.assertEqual(self.figure(client, "tier_size"), segments << 20)
        values = client.pipeline([("GET", f"key:{i}") for i in range(14000)])
        for i, value in enumerate(values):
            self.assertEqual(value.decode(), f"4:{i} " * 100 if i % 2 else f"last:{i}")

    def test_with_the_append_only_file_nothing_is_lost(self):
        always = ("--appendonly", "yes", "--appendfsync", "always", "--threads", "2")
        client = self.start(*always)
        self.load(client, range(COUNT // 2))
        self.make_other_types(client)
        self.wait_for_checkpoint(client)
        self.load(client, range(COUNT // 2, COUNT))
        client.command("DEL", "key:0")
        client.command("RPUSH", "list", "one more")
        self.server.kill()
        client = self.start(*always)
        self.assertIn("DB recovered from checkpoint", self.server.log_text())
        self.assertEqual(client.command("EXISTS", "key:0"), 0)
        self.assertEqual(client.command("LINDEX", "list", "-1"), b"one more")
        self.verify(client, range(1, COUNT))
        # Rewritten, the file no longer goes on behind a checkpoint of before; then it is loaded as a whole.
        client.command("BGREWRITEAOF")
        self.server.wait_for_log("was rewritten")
        client.command("SET", "key:0", value_of(0))
        self.server.kill()
        client = self.start(*always)
        self.verify(client, range(COUNT))
        self.assertEqual(client.command("LLEN", "list"), 20001)
        self.shut_down(client)
        client = self.start(*always)
        self.assertIn("DB recovered from checkpoint", self.server.log_text())
        self.verify(client, range(COUNT))

    @threads
    def test_a_shutdown_does_not_fail_beside_a_rewrite(self):
        """The rewrite has only just been asked for, and would have the increment that the checkpoint begins with."""
        arguments = ("--appendonly", "yes", "--appendfsync", "no", "--threads", "2")
        client = self.start(*arguments)
        for number in range(8):
            client.command("SET", f"key:{number}", value_of(number))
            client.send("BGREWRITEAOF")
            self.shut_down(client)
            client = self.start(*arguments)
            self.assertIn("DB recovered from checkpoint", self.server.log_text())
            self.verify(client, range(number + 1))

    def nowhere(self):
        return ("--port", "0", "--unixsocket", os.path.join(self.folder, "socket"))

    def refused(self, *arguments):
        code, output, error = run_to_exit(*arguments, directory=self.folder)
        self.assertEqual(code, 1)
        return (output + error).decode()

    def test_what_is_not_ours_is_not_overwritten(self):
        with open(self.tier, "w", encoding="ascii") as file:
            file.write("precious")
        plain = (*self.nowhere(), "--tier-path", self.tier, "--tier-size", "64mb")
        self.assertIn("not a tier", self.refused(*plain))
        self.assertIn("not a tier", self.refused(*plain, "--tier-persist", "yes"))
        with open(self.tier, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")
        os.unlink(self.tier)
        self.assertIn("tier-path", self.refused(*self.nowhere(), "--tier-persist", "yes"))

    def test_a_pool_is_opened_by_nobody_else(self):
        client = self.start()
        self.load(client, range(100))
        self.shut_down(client)
        plain = (*self.nowhere(), "--tier-path", self.tier, "--tier-size", "64mb")
        self.assertIn("tier-persist", self.refused(*plain))
        with open(self.tier + ".checkpoint.1", "r+b") as file:
            file.seek(200)
            byte = file.read(1)
            file.seek(200)
            file.write(bytes([byte[0] ^ 4]))
        self.assertIn("is damaged", self.refused(*self.nowhere(), *self.arguments()))
        with open(self.tier + ".checkpoint.1", "r+b") as file:
            file.seek(200)
            file.write(byte)
        self.verify(self.start(), range(100))

    def test_a_shutdown_without_saving_leaves_the_checkpoint_before(self):
        client = self.start()
        self.load(client, range(500))
        self.shut_down(client)
        client = self.start()
        client.command("FLUSHALL")
        self.load(client, range(1000, 1100))
        self.shut_down(client, "NOSAVE")
        client = self.start()
        self.assertEqual(client.command("DBSIZE"), 500)
        self.verify(client, range(500))


if __name__ == "__main__":
    unittest.main()
