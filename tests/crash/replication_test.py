"""Links that are lost and servers that are killed, again and again: no full copy where the backlog has what is missing, and
the same data on both sides in the end. A few seconds each; the campaigns that the README tells of with `--long`."""

import os
import random
import shutil
import tempfile
import threading
import time
import unittest

from support.case import OwnServersTest, long_run, new_seed
from support.client import Client
from support.proxy import Proxy
from support.replicas import SETTLE_S, Writer, differences, is_synced
from support.resp import OK, ErrorReply

REDIS = shutil.which("redis-server")
CUTS, CUTS_SECONDS = (20, 60) if long_run() else (4, 2)
LOST_SECONDS = 5 if long_run() else 1
TOGETHER = 10 if long_run() else 5
KILLS = 300 if long_run() else 4


class ReplicationCampaign(OwnServersTest):
    def setUp(self):
        self.seed = new_seed()
        self.random = random.Random(self.seed)
        print(f"seed {self.seed}", flush=True)

    def wait_for_sync(self, primary, replica):
        self.wait_until(lambda: is_synced(primary, replica), f"the replica has caught up (seed {self.seed})", 120)

    def assert_same(self, primary, replica):
        self.wait_for_sync(primary, replica)
        self.assertEqual(differences(primary, replica), "", f"seed {self.seed}")


class LostLinks(ReplicationCampaign):
    """Random writes of every type go on while the link is cut: every time only what was missed is sent."""

    def start(self, program, *arguments):
        return self.start_server("--repl-diskless-sync-delay", 0, *arguments, program=program)

    def check_cuts(self, primary_program, replica_program):
        primary = self.start(primary_program, "--repl-backlog-size", "256mb")
        proxy = Proxy(primary.port)
        self.addCleanup(proxy.stop)
        replica = self.start(replica_program, "--replicaof", f"127.0.0.1 {proxy.port}")
        client, other = self.connect_to(primary), self.connect_to(replica)
        self.wait_for_sync(client, other)
        writer, begun = Writer(client, self.seed), time.monotonic()
        for cut in range(1, CUTS + 1):
            while time.monotonic() < begun + CUTS_SECONDS * cut / CUTS:
                writer.write(100)
            if self.random.randrange(2):
                proxy.refuse()
                proxy.cut()
                writer.write(1000)  # is missed
                proxy.refuse(False)
            else:
                proxy.cut_after(1 + self.random.randrange(20_000))
                while int(client.info("stats")["sync_partial_ok"]) < cut:
                    writer.write(100)
            self.wait_until(lambda count=cut: int(client.info("stats")["sync_partial_ok"]) >= count, "it goes on", 60)
        self.assert_same(client, other)
        stats = client.info("stats")
        self.assertEqual((stats["sync_full"], stats["sync_partial_ok"]), ("1", str(CUTS)), f"seed {self.seed}")

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_of_a_replica_of_redis(self):
        self.check_cuts(REDIS, None)

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_of_redis_as_a_replica(self):
        self.check_cuts(None, REDIS)

    def test_of_terrace_and_terrace(self):
        self.check_cuts(None, None)

    def test_replicas_that_lose_it_together_cost_no_copy(self):
        primary = self.start(None, "--repl-backlog-size", "64mb")
        client = self.connect_to(primary)
        proxy = Proxy(primary.port)
        self.addCleanup(proxy.stop)
        replicas = [
            self.connect_to(self.start(None, "--threads", 1, "--replicaof", f"127.0.0.1 {proxy.port}"))
            for _ in range(TOGETHER)
        ]
        for replica in replicas:
            self.wait_for_sync(client, replica)
        copies = client.info("stats")["sync_full"]
        proxy.refuse()
        proxy.cut()
        writer, until = Writer(client, self.seed), time.monotonic() + LOST_SECONDS
        while time.monotonic() < until:
            writer.write(200)
        proxy.refuse(False)
        for replica in replicas:
            self.assert_same(client, replica)
        stats = client.info("stats")
        self.assertEqual((stats["sync_full"], stats["sync_partial_ok"]), (copies, str(TOGETHER)))


class Node:
    """One of the two servers, which is killed and comes back on its port with what it had."""

    def __init__(self, test, name, folder):
        self.test, self.directory = test, os.path.join(folder, name)
        os.mkdir(self.directory)
        self.server, self.of = None, None

    def start(self, of=None):
        self.of = of
        arguments = ["--appendonly", "yes", "--repl-diskless-sync-delay", 0, "--threads", 2,
                     "--repl-backlog-size", "64mb", "--enable-debug-command", "yes"]  # fmt: skip
        if of:
            arguments += ["--replicaof", f"127.0.0.1 {of}"]
        port = self.server.port if self.server else None
        self.server = self.test.start_server(*arguments, directory=self.directory, port=port)

    def kill(self):
        self.server.kill()

    def client(self):
        return self.server.client()


class Crowd:
    """Counters that are written to by one client with WAIT 1, and random writes by another, until it is stopped or
    cannot go on."""

    def __init__(self, port, seed):
        self.acknowledged = [0, 0]  # sent, and acknowledged by a replica as well
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, args=(port, seed)) for run in (self._count, self._write)]
        for thread in self._threads:
            thread.start()

    def _count(self, port, _):
        try:
            with Client(port=port) as client:
                while not self._stop.is_set():
                    number = client.command("INCR", "counter")
                    if isinstance(number, ErrorReply):
                        return
                    if client.command("WAIT", 1, 1000) == 1:
                        self.acknowledged[1] = number
        except (EOFError, OSError, AssertionError):
            pass

    def _write(self, port, seed):
        try:
            with Client(port=port) as client:
                writer = Writer(client, seed)
                while not self._stop.is_set():
                    writer.write(100)
        except (EOFError, OSError, AssertionError):
            pass

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.acknowledged[1]


class Kills(ReplicationCampaign):
    """kill -9 of either side in the middle of a full copy, of a partial one, of a promotion."""

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="terrace-crash-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def ask(self, node, *words):
        """Whatever it answers, if it is there to answer."""
        try:
            with node.client() as client:
                return client.command(*words)
        except (EOFError, OSError):
            return None

    def check_round(self, primary, replica, kind, victim):
        """Returns who is primary and who is replica behind it."""
        crowd = Crowd(primary.server.port, self.random.randrange(1 << 32))
        try:
            if kind == "full copy":
                self.ask(replica, "REPLICAOF", "NO", "ONE")
                self.ask(replica, "DEBUG", "CHANGE-REPL-ID")
                self.ask(replica, "REPLICAOF", "127.0.0.1", primary.server.port)
            elif kind == "partial copy":
                self.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
            else:
                self.wait_until(lambda: crowd.acknowledged[1] > 3, "something has been acknowledged")
                self.ask(replica, "REPLICAOF", "NO", "ONE")
            # A kill has no event to wait for: the moment is what is random about it.
            time.sleep(self.random.uniform(0, 0.15))
            victim.kill()
        finally:
            acknowledged = crowd.stop()
        if kind == "promotion":
            primary, replica = replica, primary
        self.bring_back(primary, replica, victim)
        with primary.client() as client, replica.client() as other:
            self.assert_same_digest(client, other)
            # A primary that comes back with what was in its file may have acknowledged a little more.
            if victim is not primary:
                self.assertGreaterEqual(int(client.ok("INCRBY", "counter", 0)), acknowledged)
        return primary, replica

    def assert_same_digest(self, client, other):
        """A key that expires between the two is no difference; in a while none can any more."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            late = time.monotonic() > deadline
            self.wait_for_sync(client, other)
            if client.ok("DEBUG", "DIGEST") == other.ok("DEBUG", "DIGEST"):
                return
            if late:
                self.fail(f"seed {self.seed}: {differences(client, other)}")

    def bring_back(self, primary, replica, victim):
        if victim is primary:
            primary.start()
        with primary.client() as client:
            self.wait_until(lambda: client.command("PING").value == b"PONG", "it has loaded")
            self.wait_until(lambda: client.command("REPLICAOF", "NO", "ONE") == OK, "it is the primary")
        if victim is replica:
            replica.start(of=primary.server.port)
        with replica.client() as client:
            self.wait_until(
                lambda: client.command("REPLICAOF", "127.0.0.1", primary.server.port).value.startswith(b"OK"), "it follows"
            )

    def test_of_either_side_at_any_moment(self):
        one, two = Node(self, "one", self.folder), Node(self, "two", self.folder)
        one.start()
        two.start(of=one.server.port)
        with one.client() as client, two.client() as other:
            Writer(client, self.seed).write(2000)
            client.pipeline([("SET", f"filler:{n}", "x" * 200) for n in range(20_000)])
            self.wait_for_sync(client, other)
        primary, replica = one, two
        for number in range(KILLS):
            kind = ("full copy", "partial copy", "promotion")[number % 3]
            victim = self.random.choice((primary, replica))
            with self.subTest(seed=self.seed, number=number, kind=kind, primary=victim is primary):
                primary, replica = self.check_round(primary, replica, kind, victim)


if __name__ == "__main__":
    unittest.main()
