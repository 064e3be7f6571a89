"""The journal of a pool when it is short: writers wait for checkpoints and none is lost, and an effect that cannot find
room at all is not acknowledged, neither then nor after a restart. Workers share a commit."""

import os
import re
import shutil
import tempfile
import threading
import unittest

from support.case import terrace_only, threads
from support.resp import OK, ErrorReply
from support.server import Server

SHARED = "/dev/shm"
FORCED = {"PMEM_IS_PMEM_FORCE": "1"}
JOURNAL = re.compile(rb"pmem_journal_(\w+):(\w+)\r\n")


@terrace_only("it has no pools")
@unittest.skipUnless(os.access(SHARED, os.W_OK), "no shared memory here")
class PmemGate(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-pmem-gate-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)

    def start(self, *extra, size="64mb"):
        server = Server(
            "--pmem-pool", os.path.join(self.folder, "pool"), "--pmem-size", size, *extra,
            directory=self.folder, environment=FORCED,
        )
        self.addCleanup(server.stop, False)
        return server

    def journal(self, client):
        return {key.decode(): value.decode() for key, value in JOURNAL.findall(client.command("INFO", "pmem"))}

    def test_one_fence_for_a_pipeline(self):
        with self.start("--threads", "1") as server:
            client = server.client()
            before = int(self.journal(client)["batches"])
            for round_number in range(20):
                client.pipeline([("SET", f"key:{i}", f"value-{round_number}") for i in range(16)])
            self.assertLessEqual(int(self.journal(client)["batches"]) - before, 2 * 20)

    @threads
    def test_a_journal_that_goes_round_many_times_loses_nothing(self):
        server = self.start("--threads", "2", size="32mb")
        value, answered = "x" * 20000, [0] * 4

        def write(number):
            client = server.client()
            for i in range(1, 401):
                reply = client.command("SET", f"key:{number}:{i % 20}", f"{i}:{value}")
                if isinstance(reply, ErrorReply):
                    raise AssertionError(reply.text)
                answered[number] = i

        writers = [threading.Thread(target=write, args=(number,)) for number in range(len(answered))]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        self.assertEqual(answered, [400] * len(answered))
        figures = self.journal(server.client())
        self.assertGreater(int(figures["written_bytes"]), 4 * int(figures["size"]))
        self.assertEqual(figures["losses"], "0")
        server.kill()
        with self.start("--threads", "2") as again:
            client = again.client()
            for number in range(len(answered)):
                for i in range(381, 401):
                    self.assertEqual(client.command("GET", f"key:{number}:{i % 20}"), f"{i}:{value}".encode())

    def test_an_effect_without_room_is_never_acknowledged(self):
        server = self.start("--threads", "2", size="32mb")
        client = server.client()
        self.assertEqual(client.command("SET", "before", "1"), OK)
        size = int(self.journal(client)["size"])
        with self.assertRaises((EOFError, OSError)):
            answer = server.client().command("SET", "large", "x" * (size + 1000))
            self.assertIsNone(answer, "it was answered")
        with server.client() as other:
            self.assertEqual(other.command("SET", "behind", "2"), OK)
            self.assertEqual(other.command("GET", "before"), b"1")
            figures = self.journal(other)
        self.assertEqual((figures["status"], figures["losses"]), ("ok", "1"))
        server.kill()
        with self.start("--threads", "2") as again:
            client = again.client()
            self.assertEqual(client.command("MGET", "before", "behind"), [b"1", b"2"])
            # Nobody was told; as the checkpoint has found it in memory, it is there, whole.
            self.assertIn(client.command("STRLEN", "large"), (0, size + 1000))


if __name__ == "__main__":
    unittest.main()
