"""Every write, sync, rename, open, cut and removal of a save, a rewrite and a shutdown fails once, in turn: nothing is
acknowledged that is not there afterwards, the server does not end by it, and what was there before still loads."""

import contextlib
import os
import random
import shutil
import struct
import tempfile
import time
import unittest

from crash.kill_test import DURABLE, build_shim
from crash.workload import Writer
from support.case import long_run, new_seed, terrace_only
from support.resp import ErrorReply
from support.server import Server, StartError

KINDS = ("write", "sync", "rename", "open", "cut", "unlink")  # the order of enum kind in io_shim.c
EIO, ENOSPC = 5, 28
WAIT_S = 60


def wait_for(client, field, value):
    """Polls INFO persistence: the server tells nobody when a rewrite ends."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if f"{field}:{value}\r\n" in client.command("INFO", "persistence").decode():
            return
        time.sleep(0.005)
    raise AssertionError(f"{field} did not become {value}")


@terrace_only("what it promises about failing disks")
class Faults(unittest.TestCase):
    ACTS = ("none", "BGREWRITEAOF", "BGSAVE", "SAVE")
    SAMPLE = 16  # of the cases, in a short run

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-faults-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.shim = build_shim(self.folder)
        self.counts = os.path.join(self.folder, "counts")
        self.seed = new_seed()
        print(f"seed {self.seed}", flush=True)

    def arguments(self, data):
        return DURABLE

    def prepare(self, client):
        """What else is there before."""

    def check_more(self, client):
        """And afterwards."""

    def end(self, server):
        server.kill()

    def count(self):
        with open(self.counts, "rb") as file:
            return dict(zip(KINDS, struct.unpack("6Q", file.read(48))))

    def step(self, client, writer):
        """One step; whether it was acknowledged."""
        number = writer.sent + 1
        commands = writer.commands(number)
        writer.sent = number
        try:
            for command in commands:
                client.send(*command)
            replies = [client.read_reply() for _ in commands]
        except (OSError, EOFError):
            return False
        if any(isinstance(reply, ErrorReply) for reply in replies):
            writer.refused += 1
            return False
        writer.acknowledged = number
        return True

    def act(self, server, writer):
        """What the faults are met by. Errors are answers here, and so is a closed connection: of a write that nobody
        knows the end of."""
        client = server.client()
        try:
            for phase in self.ACTS:
                if phase != "none":
                    client.command(*phase.split())
                    wait_for(client, "aof_rewrite_in_progress", 0)
                    wait_for(client, "rdb_bgsave_in_progress", 0)
                for _ in range(8):
                    if not self.step(client, writer):
                        # What was refused, or not answered at all, must be whole or absent: so the writer stops.
                        return
        except (EOFError, OSError):
            self.assertIsNone(server.process.poll(), f"the server ended:\n{server.output_text()}")
        finally:
            client.close()

    def wait_for_service(self, server):
        """Reads go on; writes come back by themselves, as the disk fails no more."""
        deadline = time.monotonic() + WAIT_S
        while True:
            self.assertIsNone(server.process.poll(), f"the server ended:\n{server.output_text()}")
            with contextlib.suppress(EOFError, OSError), server.client() as client:
                self.assertNotIsInstance(client.command("GET", "no such key"), ErrorReply)
                if not isinstance(client.command("SET", "probe", "1"), ErrorReply):
                    return
            self.assertLess(time.monotonic(), deadline, f"writes stay refused:\n{server.output_text()}")
            time.sleep(0.05)

    def scenario(self, environment):
        """A server with the faults; then one without, which must have what was acknowledged."""
        data = os.path.join(self.folder, "data")
        os.mkdir(data)
        writer = Writer("w", self.seed)
        try:
            with Server(*self.arguments(data), directory=data) as server, server.client() as client:
                for _ in range(20):
                    self.assertTrue(self.step(client, writer))
                self.prepare(client)
            try:
                server = Server(*self.arguments(data), directory=data, environment=environment)
            except StartError as error:
                self.assertIn("cannot", str(error))
            else:
                try:
                    self.act(server, writer)
                    self.assertIsNone(server.process.poll(), f"the server ended:\n{server.output_text()}")
                    self.wait_for_service(server)
                    self.end(server)
                finally:
                    server.kill()
            with Server(*self.arguments(data), directory=data) as server, server.client() as client:
                writer.check(client)
                self.check_more(client)
        finally:
            shutil.rmtree(data)

    def test_each_operation_fails_once(self):
        shim = {"LD_PRELOAD": self.shim, "IO_SHIM_UNDER": os.path.join(self.folder, "data")}
        self.scenario({**shim, "IO_SHIM_COUNTS": self.counts})
        cases = [
            (kind, number, error)
            for kind, count in self.count().items()
            for number in range(1, count + 1)
            for error in ((EIO, ENOSPC) if kind == "write" else (EIO,))
        ]
        self.assertGreater(len(cases), 20)
        if not long_run():
            cases = random.Random(self.seed).sample(cases, self.SAMPLE)
        for kind, number, error in cases:
            with self.subTest(kind=kind, number=number, error=error):
                self.scenario({**shim, "IO_SHIM_FAIL": f"{kind}:{number}:{error}"})
        print(f"{len(cases)} faults", flush=True)


class FaultsOfATier(Faults):
    """The same with a tier that persists: its blocks, and the checkpoint of a clean end."""

    ACTS = ("none", "TIER DEMOTE *", "BGREWRITEAOF", "TIER DEMOTE *")
    SAMPLE = 4
    VALUES, VALUE_BYTES = 300, 2000

    def arguments(self, data):
        return (*DURABLE, "--tier-path", os.path.join(data, "tier"), "--tier-size", "64mb", "--tier-segment-size", "1mb",
                "--tier-record-budget", "1mb", "--tier-persist", "yes")

    def value(self, number):
        return random.Random(f"{self.seed}/{number}").randbytes(self.VALUE_BYTES)

    def prepare(self, client):
        for number in range(self.VALUES):
            client.ok("SET", f"value:{number}", self.value(number))

    def check_more(self, client):
        for number in range(self.VALUES):
            self.assertEqual(client.command("GET", f"value:{number}"), self.value(number), f"value:{number}")

    def end(self, server):
        """A checkpoint that fails need not keep the server from ending; if it says that it does, it is killed."""
        with server.client() as client:
            self.check_more(client)
            with contextlib.suppress(EOFError, OSError):
                client.command("SHUTDOWN")


if __name__ == "__main__":
    unittest.main()
