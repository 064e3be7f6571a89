"""An append-only file beside a pool of persistent memory: a copy. The pool is what a start believes; the file can be
loaded by another server; WAITAOF, BGREWRITEAOF and BGSAVE work as ever."""

import os
import shutil
import tempfile
import unittest

from support.case import terrace_only
from support.resp import OK
from support.server import Server

SHARED = "/dev/shm"
FORCED = {"PMEM_IS_PMEM_FORCE": "1"}


@terrace_only("it has no pools")
@unittest.skipUnless(os.access(SHARED, os.W_OK), "no shared memory here")
class PmemAof(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-pmem-aof-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.server = None

    def start(self, *arguments, pool=True):
        pools = ("--pmem-pool", os.path.join(self.folder, "pool"), "--pmem-size", "48mb") if pool else ()
        self.server = Server(*pools, *arguments, directory=self.folder, environment=FORCED)
        self.addCleanup(self.server.stop, False)
        return self.server.client()

    def shut_down(self, client):
        client.send("SHUTDOWN")
        self.assertEqual(self.server.wait_for_exit(), 0)

    def write(self, client, numbers):
        client.pipeline([("SET", f"key:{i}", f"value-{i}") for i in numbers])
        client.pipeline([("RPUSH", "list", str(i)) for i in numbers])

    def verify(self, client, count):
        self.assertEqual(client.command("DBSIZE"), count + 1)
        self.assertEqual(client.command("GET", f"key:{count - 1}"), b"value-%d" % (count - 1))
        self.assertEqual(client.command("LRANGE", "list", "0", "-1"), [b"%d" % i for i in range(count)])

    def test_the_file_is_a_copy_that_another_server_can_load(self):
        client = self.start("--appendonly", "yes")
        self.write(client, range(300))
        self.assertEqual(client.command("WAITAOF", "1", "0", "60000"), [1, 0])
        self.server.kill()
        client = self.start("--appendonly", "yes")
        self.assertIn("journal of the pool:", self.server.log_text())
        self.verify(client, 300)
        self.write(client, range(300, 400))
        self.assertEqual(client.command("WAITAOF", "1", "0", "60000"), [1, 0])
        self.server.kill()
        client = self.start("--appendonly", "yes", pool=False)
        self.verify(client, 400)

    def test_the_pool_is_believed_whatever_the_file_says(self):
        client = self.start("--appendonly", "yes")
        self.write(client, range(100))
        self.shut_down(client)
        client = self.start()  # without the file, which stays behind
        self.write(client, range(100, 200))
        self.shut_down(client)
        client = self.start("--appendonly", "yes")
        self.verify(client, 200)
        self.assertEqual(client.command("WAITAOF", "1", "0", "60000"), [1, 0])
        self.shut_down(client)
        self.verify(self.start("--appendonly", "yes", pool=False), 200)

    def test_an_end_does_not_wait_for_the_first_base(self):
        """Which each start writes; the pool has all, and is what the next one believes."""
        client = self.start()
        self.write(client, range(300))
        self.shut_down(client)
        client = self.start("--appendonly", "yes", "--rdb-key-save-delay", "5000")
        self.assertEqual(client.info("persistence")["aof_rewrite_in_progress"], "1")
        self.shut_down(client)
        self.verify(self.start("--appendonly", "yes"), 300)

    def test_a_pool_that_holds_nothing_takes_the_file(self):
        client = self.start("--appendonly", "yes", pool=False)
        self.write(client, range(150))
        self.shut_down(client)
        client = self.start("--appendonly", "yes")
        self.verify(client, 150)
        self.write(client, range(150, 160))  # waits for the checkpoint that brings all to the pool
        shutil.rmtree(os.path.join(self.folder, "appendonlydir"))
        self.server.kill()
        self.verify(self.start("--appendonly", "yes"), 160)

    def test_it_is_switched_on_and_rewritten_while_checkpoints_are_made(self):
        client = self.start("--tier-checkpoint-seconds", "1", "--appendfsync", "always")
        self.assertEqual(client.command("WAITAOF", "1", "0", "0"), [1, 0])  # the pool has it
        self.assertEqual(client.command("CONFIG", "SET", "appendonly", "yes"), OK)
        self.write(client, range(200))
        self.assertEqual(client.command("WAITAOF", "1", "0", "60000"), [1, 0])
        while int(client.info("tier")["tier_checkpoints"]) < 2:
            client.command("INCR", "counter")
        client.command("DEL", "counter")
        before = int(client.info("persistence")["aof_rewrites"])
        client.command("BGREWRITEAOF")
        while int(client.info("persistence")["aof_rewrites"]) == before:
            client.command("PING")
        while client.info("persistence")["aof_rewrite_in_progress"] == "1":
            client.command("PING")
        self.assertEqual(client.info("persistence")["aof_last_bgrewrite_status"], "ok")
        self.assertEqual(client.command("SAVE"), OK)
        self.write(client, range(200, 250))
        self.assertEqual(client.command("WAITAOF", "1", "0", "60000"), [1, 0])
        self.server.kill()
        self.verify(self.start(), 250)
        self.server.kill()
        self.verify(self.start("--appendonly", "yes", pool=False), 250)


if __name__ == "__main__":
    unittest.main()
