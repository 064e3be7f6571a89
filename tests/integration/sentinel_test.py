"""High availability under real redis-sentinel: three of them, a primary and two replicas of Terrace."""

import os
import tempfile
import time
import unittest

from support.case import OwnServersTest, long_run
from support.client import Client
from support.resp import OK
from support.sentinel import PROGRAM, Sentinel

SENTINELS = 3
DOWN_AFTER_MS, PATIENT_MS = 1000, 600_000
FAILOVERS = 50 if long_run() else 1


@unittest.skipUnless(PROGRAM, "redis-sentinel is not installed")
class SentinelTest(OwnServersTest):
    def start(self, *arguments):
        """A server with a configuration file, which Sentinel has rewritten."""
        folder = tempfile.TemporaryDirectory(prefix="terrace-test-")
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "terrace.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write("repl-diskless-sync-delay 0\n")
        server = self.start_server(*arguments, config=path)
        return server, path

    def watch(self, port):
        # Patient at first: a machine that stands still for a second is no reason to promote anybody.
        sentinels = [Sentinel(port, down_after_ms=PATIENT_MS) for _ in range(SENTINELS)]
        for sentinel in sentinels:
            self.addCleanup(sentinel.stop)
        return sentinels

    @staticmethod
    def accepts_writes(port):
        try:
            with Client(port=port) as client:
                return client.command("SET", "written", "again") == OK
        except (EOFError, OSError):
            return False

    def wait_for_write(self, sentinel, old_port, limit_s):
        """The port of the new primary, once it has accepted a write."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            port = sentinel.primary_port()
            if port and port != old_port:
                if self.accepts_writes(port):
                    return port
            time.sleep(0.02)
        self.fail(f"no write was accepted within {limit_s} s:\n{sentinel.log()[-3000:]}")

    @staticmethod
    def follows(server, port):
        """Sentinel ends the connections of all clients: another one each time."""
        try:
            with server.client() as client:
                link = client.info("replication")
        except (EOFError, OSError):
            return False
        return link["role"] == "slave" and link["master_port"] == str(port) and link["master_link_status"] == "up"

    def fail_over(self, trial):
        primary, _ = self.start()
        replicas = [self.start("--replicaof", f"127.0.0.1 {primary.port}") for _ in range(2)]
        sentinels = self.watch(primary.port)
        self.wait_until(
            lambda: all(sentinel.sees(2, SENTINELS - 1) for sentinel in sentinels), "all know each other", 120
        )
        with primary.client() as client:
            for number in range(100):
                client.ok("SET", f"key:{number}", trial)
            self.assertGreaterEqual(client.ok("WAIT", 1, 60000), 1)
        for sentinel in sentinels:
            self.assertEqual(sentinel.ask("SET", "mine", "down-after-milliseconds", DOWN_AFTER_MS), OK)
        primary.kill()
        killed = time.monotonic()
        # down-after + 3 s is what we reach for; a machine that is busy with other tests may take longer.
        port = self.wait_for_write(sentinels[0], primary.port, 180)
        print(f"failover {trial + 1}: a write was accepted after {time.monotonic() - killed:.2f} s", flush=True)
        promoted = next(entry for entry in replicas if entry[0].port == port)
        other = next(entry for entry in replicas if entry[0].port != port)
        with promoted[0].client() as client:
            self.assertEqual([client.ok("GET", f"key:{number}") for number in range(100)], [b"%d" % trial] * 100)
        self.wait_until(lambda: self.follows(other[0], port), "the other replica follows", 180)
        # On a busy machine two of them may lead one after the other, and the first have promoted this one.
        if "MASTER MODE enabled" not in other[0].log_text():
            other[0].wait_for_log("Successful partial resynchronization with master.")
        with open(other[1], encoding="ascii") as file:
            self.wait_until(lambda: f"replicaof 127.0.0.1 {port}" in (file.seek(0), file.read())[1], "it is rewritten")
        self.doCleanups()

    def test_a_dead_primary_is_replaced_and_nothing_that_was_acknowledged_is_lost(self):
        for trial in range(FAILOVERS):
            self.fail_over(trial)


if __name__ == "__main__":
    unittest.main()
