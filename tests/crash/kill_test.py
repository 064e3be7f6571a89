"""kill -9 and power cuts at random moments, under appendfsync always: what was acknowledged is there, of what was not
all or nothing."""

import os
import random
import shutil
import subprocess
import tempfile
import time
import unittest

from crash import power_cut
from crash.workload import Crowd
from support.case import long_run, new_seed, terrace_only
from support.resp import ErrorReply
from support.server import TOP, Server

STEPS_S = 60
# So that nearly every collection is one of pages.
PAGED = (
    *("--hash-max-listpack-entries", "2", "--set-max-listpack-entries", "2", "--set-max-intset-entries", "2"),
    *("--zset-max-listpack-entries", "2", "--list-max-listpack-size", "2"),
)
ROUNDS_OF_A_CROWD = 50  # what a check takes grows with the steps that a crowd has done
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")


def build_shim(folder):
    """The preloaded library, built where it is used."""
    library = os.path.join(folder, "io_shim.so")
    source = os.path.join(TOP, "tests", "crash", "io_shim.c")
    compile_it = ["cc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(compile_it, check=True)
    return library


class CrashTest(unittest.TestCase):
    PLACE = None  # the folder for what the servers write: the usual one
    ENVIRONMENT = {}

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-crash-", dir=self.PLACE)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.data = os.path.join(self.folder, "data")
        os.mkdir(self.data)
        self.seed = new_seed()
        self.random = random.Random(self.seed)
        print(f"seed {self.seed}", flush=True)

    def check_more(self, server):
        """What else has to be there at each start."""

    def disturb(self, server):
        """What may be going on when the power fails."""
        kind = self.random.choice(("nothing", "nothing", "BGREWRITEAOF", "BGSAVE"))
        if kind == "nothing":
            return
        with server.client() as client:
            reply = client.command(kind)
            refused_for_now = ("in progress", "right now")
            if isinstance(reply, ErrorReply) and not any(words in reply.text for words in refused_for_now):
                raise AssertionError(f"{kind}: {reply}")

    def started(self, arguments, environment):
        return Server(*arguments, directory=self.data, environment={**self.ENVIRONMENT, **(environment or {})})

    def run_once(self, crowd, arguments, environment=None, loses=False, least=0):
        """Starts, checks what the crash before left, writes for a moment, and kills; not before `least` steps are done."""
        server = self.started(arguments, environment)
        try:
            crowd.check(server, loses)
            self.check_more(server)
            crowd.start(server.port)
            # A crash has no event to wait for: the moment is what is random about it.
            for _ in range(self.random.randrange(1, 4)):
                time.sleep(self.random.uniform(0.01, 0.15))
                self.disturb(server)
            deadline = time.monotonic() + STEPS_S
            while crowd.steps() < least:
                self.assertLess(time.monotonic(), deadline, f"{crowd.steps()} of {least} steps:\n{server.output_text()}")
                time.sleep(0.01)
        finally:
            server.kill()
            crowd.stop()

    def prepare(self, arguments):
        """What is in the folder before the first server that is killed: nothing."""

    def last_check(self, crowd, arguments, loses=False):
        with Server(*arguments, directory=self.data, environment=self.ENVIRONMENT) as server:
            crowd.check(server, loses)
            self.check_more(server)

    def crash_often(self, times, arguments, crash=None, loses=False):
        """Kills a server so often, in a new folder every now and then. `crash` runs one and ends it, given the crowd,
        the round, and the steps that have to be done by then."""
        crash = crash or (lambda crowd, number, least: self.run_once(crowd, arguments, least=least))
        steps = 0
        for first in range(0, times, ROUNDS_OF_A_CROWD):
            shutil.rmtree(self.data)
            os.mkdir(self.data)
            self.prepare(arguments)
            crowd = Crowd(4, f"{self.seed}/{first}")
            rounds = range(first, min(first + ROUNDS_OF_A_CROWD, times))
            for number in rounds:
                # However busy the machine is, the last one has something to lose.
                crash(crowd, number, len(rounds) + 1 if number == rounds[-1] else 0)
            steps += crowd.steps()  # of which the last crash may lose some, where it may
            self.last_check(crowd, arguments, loses)
        self.assertGreater(steps, times)
        return steps

    def kill_often(self, times, arguments):
        print(f"{times} kills, {self.crash_often(times, arguments)} acknowledged steps", flush=True)

    def cut_often(self, times, arguments, loses=False):
        """Power cuts: the shim has noted what was not durable, and some of it is undone."""
        shim = build_shim(self.folder)
        forgotten = 0

        def crash(crowd, number, least):
            nonlocal forgotten
            undo = os.path.join(self.folder, "undo")
            os.mkdir(undo)
            shimmed = {"LD_PRELOAD": shim, "IO_SHIM_UNDER": self.data, "IO_SHIM_UNDO": undo}
            self.run_once(crowd, arguments, shimmed, loses, least)
            # Which server of the test it is, too, so that one seed gives the same cuts whatever came before.
            forgotten += power_cut.cut(undo, self.data, random.Random(f"{self.seed}/{number}"))
            shutil.rmtree(undo)

        steps = self.crash_often(times, arguments, crash, loses)
        print(f"{times} power cuts, {steps} steps, {forgotten} writes that were not durable", flush=True)


@terrace_only("an append-only file with checksums")
class Kill(CrashTest):
    def test_what_was_acknowledged_survives_kill_9(self):
        self.kill_often(1000 if long_run() else 12, DURABLE)

    def test_with_several_workers(self):
        self.kill_often(200 if long_run() else 6, (*DURABLE, "--threads", "4"))


@terrace_only("it has no tier")
class OnATier(CrashTest):
    """A few thousand values, most of them cold, beside the writers; checkpoints all the time. A part of the values are
    fields of a hash, and there is a long string that was written in pieces; a list, a sorted set and a stream with a
    group, of which parts have been cut off."""

    VALUES, VALUE_BYTES, STRING_PIECES, ITEMS = 3000, 2000, 60, 5000

    def value(self, number):
        return random.Random(f"{self.seed}/{number}").randbytes(self.VALUE_BYTES)

    def string(self):
        return b"".join(self.value(number) for number in range(self.STRING_PIECES))

    def check_more(self, server):
        with server.client() as client:
            for number in range(self.VALUES):
                key = ("HGET", "values") if number % 4 == 0 else ("GET",)
                self.assertEqual(client.command(*key, f"value:{number}"), self.value(number), f"value:{number}")
            self.assertEqual(client.command("HLEN", "values"), (self.VALUES + 3) // 4)
            self.assertEqual(client.command("GET", "long"), self.string())
            self.check_trees(client)

    def make_trees(self, client):
        for begin in range(0, self.ITEMS, 500):
            items = range(begin, begin + 500)
            client.command("RPUSH", "items", *(f"item:{i}" for i in items))
            client.command("ZADD", "sorted", *(word for i in items for word in (i % 700, f"member:{i}")))
        client.pipeline([("XADD", "stream", f"{i + 1}-1", "field", f"entry:{i}") for i in range(self.ITEMS)])
        client.command("XGROUP", "CREATE", "stream", "group", "0")
        client.command("XREADGROUP", "GROUP", "group", "alice", "COUNT", 2000, "STREAMS", "stream", ">")
        client.command("LTRIM", "items", 1000, -1001)
        client.command("ZREMRANGEBYSCORE", "sorted", 100, 499)
        client.command("XTRIM", "stream", "MAXLEN", 4000)

    def check_trees(self, client):
        kept = [i for i in range(self.ITEMS) if not 100 <= i % 700 <= 499]
        members = sorted((i % 700, b"member:%d" % i) for i in kept)
        entries = [[b"%d-1" % (i + 1), [b"field", b"entry:%d" % i]] for i in range(self.ITEMS - 4000, self.ITEMS)]
        items = [b"item:%d" % i for i in range(1000, self.ITEMS - 1000)]
        self.assertEqual(client.command("LRANGE", "items", 0, -1), items)
        self.assertEqual(client.command("ZRANGE", "sorted", 0, -1), [member for _, member in members])
        scores = client.command("ZMSCORE", "sorted", *(member for _, member in members))
        self.assertEqual([float(score) for score in scores], [score for score, _ in members])
        self.assertEqual(client.command("XRANGE", "stream", "-", "+"), entries)
        pending = [2000, b"1-1", b"2000-1", [[b"alice", b"2000"]]]
        self.assertEqual(client.command("XPENDING", "stream", "group"), pending)

    def prepare(self, arguments):
        with Server(*arguments, directory=self.data) as server, server.client() as client:
            self.make_trees(client)
            for number in range(self.VALUES):
                key = ("HSET", "values") if number % 4 == 0 else ("SET",)
                client.command(*key, f"value:{number}", self.value(number))
            for number in range(self.STRING_PIECES):
                client.command("SETRANGE", "long", number * self.VALUE_BYTES, self.value(number))

    def disturb(self, server):
        """Also what the writers have just written goes to the tier."""
        if self.random.random() < 0.5:
            with server.client() as client:
                self.assertIsInstance(client.command("TIER", "DEMOTE", "*"), int)
        else:
            super().disturb(server)

    def arguments(self):
        tier = ("--tier-path", os.path.join(self.data, "tier"), "--tier-size", "128mb", "--tier-segment-size", "1mb")
        persists = ("--tier-record-budget", "1mb", "--tier-persist", "yes", "--tier-checkpoint-seconds", "1")
        return (*DURABLE, *tier, *persists, *PAGED)

    def test_what_was_acknowledged_survives_kill_9(self):
        self.kill_often(300 if long_run() else 6, self.arguments())

    def test_what_was_acknowledged_survives_a_power_cut(self):
        self.cut_often(200 if long_run() else 4, self.arguments())

    def test_a_rewrite_beside_a_checkpoint_makes_another_increment(self):
        """On a slow disk, so that many rewrites are asked for while a checkpoint is being begun."""
        shimmed = {"LD_PRELOAD": build_shim(self.folder), "IO_SHIM_UNDER": self.data, "IO_SHIM_SYNC_MS": "30"}
        server = Server(*self.arguments(), "--threads", "2", directory=self.data, environment=shimmed)
        try:
            clients = [server.client() for _ in range(4)]
            written, deadline = 0, time.monotonic() + STEPS_S
            while int(clients[0].info("tier")["tier_checkpoints"]) < 3:
                self.assertLess(time.monotonic(), deadline)
                clients[0].command("SET", f"key:{written}", written)
                written += 1
                for client in clients:
                    client.send("BGREWRITEAOF")
                for client in clients:
                    client.read_reply()
            for client in clients:
                client.close()
        finally:
            server.kill()
        with Server(*self.arguments(), directory=self.data) as again, again.client() as client:
            found = client.command("MGET", *(f"key:{i}" for i in range(written)))
            self.assertEqual(found, [str(i).encode() for i in range(written)])


@terrace_only("it has no pools")
@unittest.skipUnless(os.access("/dev/shm", os.W_OK), "no shared memory here")
class OnAPool(CrashTest):
    """Durable by the pool's journal; values are demoted and cleaned meanwhile, and the journal is small, so that
    checkpoints follow each other."""

    PLACE = "/dev/shm"
    ENVIRONMENT = {"PMEM_IS_PMEM_FORCE": "1"}

    def disturb(self, server):
        kind = self.random.choice(("nothing", "TIER DEMOTE *", "TIER COMPACT", "TIER DEMOTE *", "BGSAVE"))
        if kind == "BGSAVE":
            super().disturb(server)
        elif kind != "nothing":
            with server.client() as client:
                client.command(*kind.split())

    def arguments(self, *more):
        return ("--pmem-pool", os.path.join(self.data, "pool"), "--pmem-size", "32mb", *PAGED, *more)

    def test_what_was_acknowledged_survives_kill_9(self):
        self.kill_often(1000 if long_run() else 8, self.arguments())

    def test_with_several_workers(self):
        self.kill_often(300 if long_run() else 5, self.arguments("--threads", "4"))


@terrace_only("an append-only file with checksums")
class PowerCut(CrashTest):
    def test_what_was_acknowledged_survives_a_power_cut(self):
        self.cut_often(300 if long_run() else 8, DURABLE)

    def test_everysec_leaves_a_moment_of_the_past(self):
        arguments = [*DURABLE, "--appendfsync", "everysec"]
        self.cut_often(300 if long_run() else 8, arguments, loses=True)


if __name__ == "__main__":
    unittest.main()
