"""A pool of persistent memory (pmem-pool): whatever was answered is there after the server was killed, a shutdown makes a
checkpoint, and what cannot work is refused in one line. The pool lies in shared memory, and libpmem is told to take that
for persistent memory; a last test does without."""

import os
import shutil
import tempfile
import threading
import unittest

from support.case import terrace_only, threads
from support.resp import ErrorReply
from support.restarts import RestartTest, value_of
from support.server import Server, run_to_exit

SHARED = "/dev/shm"
FORCED = {"PMEM_IS_PMEM_FORCE": "1"}
COUNT = 6000


class Writer(threading.Thread):
    """Counts a key of its own up, and pushes each number to a list, until its connection ends."""

    def __init__(self, server, number, depth):
        super().__init__(daemon=True)
        self.number, self.depth = number, depth
        self.client = server.client()
        # What an earlier round left is the beginning of this one.
        self.answered = self.sent = self.client.command("INCRBY", f"counter:{number}", "0")

    def run(self):
        try:
            while True:
                commands = []
                for value in range(self.sent + 1, self.sent + self.depth + 1):
                    commands += [
                        ("MULTI",),
                        ("INCR", f"counter:{self.number}"),
                        ("RPUSH", f"list:{self.number}", str(value)),
                        ("EXEC",),
                    ]
                self.sent += self.depth
                self.client.pipeline(commands)
                self.answered = self.sent
        except (OSError, EOFError):
            pass


@terrace_only("it has no pools")
@unittest.skipUnless(os.access(SHARED, os.W_OK), "no shared memory here")
class PmemPool(RestartTest):
    def value_of(self, number):
        return value_of(number, repeats=20)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-pmem-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.pool = os.path.join(self.folder, "pool")
        self.environment = FORCED

    def start(self, *extra):
        """Starts a server on the same pool; the one before has ended."""
        arguments = ("--pmem-pool", self.pool, "--pmem-size", "96mb", "--tier-record-budget", "1mb", *extra)
        self.server = Server(*arguments, directory=self.folder, environment=self.environment)
        self.addCleanup(self.server.stop, False)
        return self.server.client()

    def make_other_types(self, client):
        client.command("HSET", "hash", "a", "1", "b", "2")
        client.command("PEXPIRE", "hash", "10000000")
        client.pipeline([("RPUSH", "list", f"element-{i}") for i in range(5000)])
        client.pipeline([("ZADD", "sorted", str(i), f"member-{i}") for i in range(2000)])
        client.command("XADD", "stream", "1-1", "field", "value")
        client.command("SELECT", "3")
        client.command("SADD", "set", "x", "y")
        client.command("SELECT", "0")

    def verify_other_types(self, client):
        self.assertEqual(client.command("HMGET", "hash", "a", "b"), [b"1", b"2"])
        self.assertGreater(client.command("PTTL", "hash"), 0)
        self.assertEqual(client.command("LRANGE", "list", "4990", "-1"), [b"element-%d" % i for i in range(4990, 5000)])
        self.assertEqual(client.command("ZRANGE", "sorted", "1000", "1001"), [b"member-1000", b"member-1001"])
        self.assertEqual(client.command("XLEN", "stream"), 1)
        client.command("SELECT", "3")
        self.assertEqual(sorted(client.command("SMEMBERS", "set")), [b"x", b"y"])
        client.command("SELECT", "0")

    def test_what_was_answered_survives_a_kill(self):
        client = self.start()
        self.load(client, range(COUNT))
        self.make_other_types(client)
        for round_number in range(3):
            self.server.kill()
            client = self.start()
            self.assertEqual(client.command("DBSIZE"), COUNT + 4 + round_number)
            self.verify(client, range(COUNT))
            self.verify_other_types(client)
            client.command("SET", f"round:{round_number}", "new")
            self.load(client, range(round_number, COUNT, 5))

    def test_a_shutdown_makes_a_checkpoint(self):
        client = self.start()
        self.load(client, range(COUNT))
        self.make_other_types(client)
        self.shut_down(client)
        client = self.start()
        self.assertIn("DB recovered from checkpoint 1", self.server.log_text())
        self.assertEqual(client.info("pmem")["pmem_journal_replayed_commands"], "0")
        self.assertGreater(int(client.info("tier")["tier_records"]), COUNT // 2)
        self.verify(client, range(COUNT))
        self.verify_other_types(client)
        client.command("FLUSHALL")
        self.load(client, range(100))
        self.shut_down(client, "NOSAVE")  # the journal has it all the same
        client = self.start()
        self.assertEqual(client.command("DBSIZE"), 100)
        self.verify(client, range(100))

    def test_a_shutdown_without_room_for_a_checkpoint_loses_nothing(self):
        """More in memory than the pool has room for: the journal has what the last checkpoint lacks."""
        small = ("--pmem-size", "24mb", "--tier-record-budget", "1gb")
        client, answered = self.start(*small), 0
        for number in range(4000):
            if isinstance(client.command("SET", f"key:{number}", f"{number}:".ljust(10000, "x")), ErrorReply):
                break
            answered = number + 1
        self.assertLess(answered, 4000)
        self.shut_down(client)
        client = self.start(*small)
        for number in range(answered):
            self.assertEqual(client.command("GET", f"key:{number}"), f"{number}:".ljust(10000, "x").encode())

    @threads
    def test_writers_that_are_cut_off_lose_nothing_answered(self):
        client = self.start("--threads", "2", "--tier-checkpoint-seconds", "1")
        for round_number in range(4):
            writers = [Writer(self.server, i, 1 + 7 * (i % 2)) for i in range(6)]
            goal = writers[1].answered + 1500 + 100 * round_number
            for writer in writers:
                writer.start()
            while client.command("INCRBY", "counter:1", "0") < goal:
                pass
            self.server.kill()
            for writer in writers:
                writer.join()
            client = self.start("--threads", "2", "--tier-checkpoint-seconds", "1")
            for writer in writers:
                counter = client.command("INCRBY", f"counter:{writer.number}", "0")
                self.assertLessEqual(writer.answered, counter)
                self.assertLessEqual(counter, writer.sent)
                pushed = client.command("LRANGE", f"list:{writer.number}", "0", "-1")
                self.assertEqual(pushed, [b"%d" % i for i in range(1, counter + 1)])

    def test_checkpoints_make_room_in_the_journal(self):
        client = self.start()
        size = int(client.info("pmem")["pmem_journal_size"])
        value = "v" * 10000
        rounds = 3 * size // (100 * len(value)) + 1
        for number in range(rounds):
            client.pipeline([("SET", f"big:{i}", f"{number}:{value}") for i in range(100)])
        self.assertGreater(int(client.info("tier")["tier_checkpoints"]), 1)
        self.assertEqual(client.info("pmem")["pmem_journal_status"], "ok")
        self.server.kill()
        client = self.start()
        replies = client.pipeline([("GET", f"big:{i}") for i in range(100)])
        self.assertEqual(replies, [f"{rounds - 1}:{value}".encode()] * 100)

    def test_an_empty_pool_takes_the_snapshot_file(self):
        with Server("--dbfilename", "dump.rdb") as other:
            client = other.client()
            self.load(client, range(500))
            client.command("SAVE")
            shutil.copy(os.path.join(other.directory, "dump.rdb"), self.folder)
        client = self.start()
        self.verify(client, range(500))
        client.command("SET", "key:0", "newer")  # waits for the checkpoint that brings all to the pool
        os.unlink(os.path.join(self.folder, "dump.rdb"))
        self.server.kill()
        client = self.start()
        self.assertEqual(client.command("GET", "key:0"), b"newer")
        self.verify(client, range(1, 500))

    def test_info_tells_what_the_pool_stands_on(self):
        client = self.start()
        pmem = client.info("pmem")
        self.assertEqual(pmem["pmem_enabled"], "1")
        self.assertEqual(pmem["pmem_pool"], self.pool)
        self.assertEqual((pmem["pmem_dax"], pmem["pmem_forced"], pmem["pmem_flush"]), ("no", "yes", "instructions"))
        self.assertEqual(int(pmem["pmem_pool_bytes"]), 96 << 20)
        self.assertEqual(client.info("tier")["tier_access"], "pmem")

    def test_what_would_pass_its_journal_by_is_refused(self):
        client = self.start()
        self.assertIsInstance(client.command("DEBUG", "LOADAOF"), ErrorReply)

    def refused(self, *arguments):
        nowhere = ("--port", "0", "--unixsocket", os.path.join(self.folder, "socket"))
        given = (*nowhere, "--pmem-pool", self.pool, *arguments)
        code, output, error = run_to_exit(*given, directory=self.folder, environment=FORCED)
        self.assertEqual(code, 1)
        return (output + error).decode()

    def test_what_cannot_work_is_refused(self):
        size = ("--pmem-size", "64mb")
        self.assertIn("set pmem-size to have it made", self.refused())
        self.assertIn("from 16mb on", self.refused("--pmem-size", "1mb"))
        self.assertIn("than what its file system has free", self.refused("--pmem-size", "900000gb"))
        self.assertIn("tier-path is set too", self.refused(*size, "--tier-path", "tier"))
        self.assertFalse(os.path.exists(self.pool))
        with open(self.pool, "w", encoding="ascii") as file:
            file.write("precious")
        self.assertIn("is not a pool of this server", self.refused(*size))
        with open(self.pool, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")
        os.unlink(self.pool)

    def test_a_pool_in_use_or_damaged_is_refused_and_kept(self):
        client = self.start()
        self.load(client, range(100))
        self.assertIn("in use by another process", self.refused())
        self.shut_down(client)
        checkpoint = self.pool + ".checkpoint.1"
        os.rename(checkpoint, checkpoint + ".away")
        self.assertIn("cannot be used", self.refused())
        os.rename(checkpoint + ".away", checkpoint)
        self.verify(self.start(), range(100))

    def journal_offset(self):
        """From the pool's identity (pmem/pool_layout.h)."""
        with open(self.pool, "rb") as pool:
            head = pool.read(32 << 20)
        return int.from_bytes(head[head.index(b"TERRPMEM") + 40 :][:8], "little")

    def test_a_journal_whose_medium_fails_refuses_writes(self):
        """A file that was cut off fails as a medium does: with SIGBUS."""
        client = self.start()
        client.ok("SET", "before", "value")
        os.truncate(self.pool, self.journal_offset())
        with self.assertRaises((OSError, EOFError)):
            client.command("SET", "lost", "value")  # whoever waits for what is not durable is closed
        client = self.server.client()
        refusal = "the medium of its journal has failed"
        self.assertIn(refusal, client.command("SET", "late", "value").text)
        self.assertEqual(client.command("GET", "before"), b"value")
        self.assertIn(b"pmem_journal_status:failed", client.command("INFO", "pmem"))
        said = "the medium of the pool's journal has failed"
        self.server.wait_for_log(said)
        self.assertEqual(self.server.log_text().count(said), 1)
        self.server.kill()

    def test_a_root_whose_medium_fails_ends_the_server_with_a_line(self):
        client = self.start()
        client.ok("SET", "key", "value")
        os.truncate(self.pool, 0)
        client.send("SHUTDOWN")
        self.assertEqual(self.server.wait_for_exit(), 1)
        self.assertIn("cannot be read or written any more (SIGBUS)", self.server.log_text())
        self.assertNotIn("crashed", self.server.log_text())

    def test_without_persistent_memory_it_is_slow_and_says_so(self):
        self.environment = None
        client = self.start()
        self.assertIn("is not on persistent memory", self.server.log_text())
        self.assertEqual(client.info("pmem")["pmem_flush"], "msync")
        self.load(client, range(500))
        self.server.kill()
        client = self.start()
        self.verify(client, range(500))


if __name__ == "__main__":
    unittest.main()
