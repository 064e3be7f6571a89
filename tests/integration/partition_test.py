"""A network that is cut in two: an isolated primary stops to accept writes, the other side goes on, and when the network is
one again both hold what the side that went on has. Network namespaces make the network; where they may not be made, the
tests are skipped."""

import os
import shutil
import stat
import subprocess
import tempfile
import time
import unittest

from support.case import ServerTest
from support.client import Client
from support.replicas import Writer, differences, is_synced
from support.resp import OK, ErrorReply
from support.server import Server, server_program

MAX_LAG_S = 2
REFUSAL = ErrorReply("NOREPLICAS Not enough good replicas to write.")


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False)


class Network:
    """Two hosts with a cable between them. `error` says why there is none."""

    def __init__(self):
        self.names = [f"terrace-{os.getpid()}-{side}" for side in "ab"]
        self.addresses = ["10.213.7.1", "10.213.7.2"]
        self.error = None if shutil.which("ip") else "there is no `ip`"
        for step in self._steps():
            done = run(*step) if not self.error else None
            if done and done.returncode:
                self.error = f"{' '.join(step)}: {done.stderr.strip()}"

    def _steps(self):
        a, b = self.names
        for name in self.names:
            yield "ip", "netns", "add", name
        yield "ip", "-n", a, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", b
        for name, address in zip(self.names, self.addresses):
            yield "ip", "-n", name, "addr", "add", f"{address}/24", "dev", "cable"
            yield "ip", "-n", name, "link", "set", "cable", "up"
            yield "ip", "-n", name, "link", "set", "lo", "up"

    def cut(self, cut=True):
        done = run("ip", "-n", self.names[0], "link", "set", "cable", "down" if cut else "up")
        if done.returncode:
            raise AssertionError(done.stderr)

    def close(self):
        for name in self.names:
            run("ip", "netns", "del", name)


class PartitionTest(ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.network = Network()
        if cls.network.error:
            cls.network.close()
            raise unittest.SkipTest(f"no network namespaces: {cls.network.error}")

    @classmethod
    def tearDownClass(cls):
        cls.network.close()

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="terrace-test-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def start(self, side, *arguments):
        """A server on that host, and a client of it: its socket of the file system is of no network."""
        name, socket = os.path.join(self.folder, f"server-{side}"), os.path.join(self.folder, f"socket-{side}")
        with open(name, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\nexec ip netns exec {self.network.names[side]} "{server_program()}" "$@"\n')
        os.chmod(name, stat.S_IRWXU)
        server = Server(
            "--bind", "0.0.0.0", "--protected-mode", "no", "--unixsocket", socket, "--repl-diskless-sync-delay", 0,
            "--repl-ping-replica-period", 1, *arguments, program=name,
        )  # fmt: skip
        self.addCleanup(server.stop)
        client = Client(path=socket)
        self.addCleanup(client.close)
        return server, client

    def pair(self):
        primary = self.start(0, "--min-replicas-to-write", 1, "--min-replicas-max-lag", MAX_LAG_S)
        replica = self.start(1, "--repl-timeout", 3, "--replicaof", f"{self.network.addresses[0]} {primary[0].port}")
        self.wait_until(lambda: primary[1].command("SET", "first", 1) == OK, "there is a good replica")
        Writer(primary[1], 5).write(500)
        self.wait_until(lambda: is_synced(primary[1], replica[1]), "the replica has caught up")
        return primary, replica

    def heal(self, primary, replica):
        """The one that was isolated follows the one that was promoted."""
        self.network.cut(False)
        self.assertEqual(primary[1].ok("REPLICAOF", self.network.addresses[1], replica[0].port), OK)
        self.wait_until(lambda: is_synced(replica[1], primary[1]), "it follows", 60)
        self.assertEqual(differences(replica[1], primary[1]), "")

    def test_an_isolated_primary_refuses_writes_and_comes_back_as_a_replica(self):
        primary, replica = self.pair()
        primary[1].ok("CONFIG", "SET", "min-replicas-max-lag", 0)  # something is accepted for sure
        self.network.cut()
        self.assertEqual(primary[1].ok("INCR", "isolated"), 1)
        primary[1].ok("CONFIG", "SET", "min-replicas-max-lag", MAX_LAG_S)
        begun = time.monotonic()
        self.wait_until(lambda: primary[1].command("INCR", "isolated") == REFUSAL, "writes are refused")
        # Within max-lag + 1 s is what we reach for.
        print(f"writes were refused {time.monotonic() - begun:.2f} s after the cut", flush=True)
        self.assertEqual(replica[1].ok("REPLICAOF", "NO", "ONE"), OK)
        replica[1].ok("SET", "promoted", 1)
        copies = int(replica[1].info("stats")["sync_full"])
        self.heal(primary, replica)
        # What it had accepted alone is nobody's: it had gone another way, so it was given a copy.
        self.assertEqual(primary[1].ok("EXISTS", "isolated"), 0)
        self.assertEqual(int(replica[1].info("stats")["sync_full"]), copies + 1)

    def test_a_cut_that_ends_costs_no_copy(self):
        primary, replica = self.pair()
        self.network.cut()
        self.wait_until(lambda: primary[1].command("INCR", "isolated") == REFUSAL, "writes are refused")
        self.wait_until(lambda: replica[1].info("replication")["master_link_status"] == "down", "it has noticed")
        self.network.cut(False)
        self.wait_until(lambda: primary[1].command("SET", "again", 1) == OK, "there is a good replica", 60)
        self.wait_until(lambda: is_synced(primary[1], replica[1]), "the replica has caught up", 60)
        self.assertEqual(differences(primary[1], replica[1]), "")
        self.assertEqual(primary[1].info("stats")["sync_full"], "1")


if __name__ == "__main__":
    unittest.main()
