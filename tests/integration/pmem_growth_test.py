"""A pool of persistent memory that becomes larger while the server serves (CONFIG SET pmem-size)."""

import os
import shutil
import tempfile
import time
import unittest

from support.case import OwnServersTest, terrace_only
from support.server import Server

SHARED = "/dev/shm"
MEGABYTE = 1 << 20
SMALL, LARGE = 24, 64  # of a pool, in MB
VALUE = "v" * 20000
KEYS = 1500  # more than a small pool holds
AT_ONCE = 20
PATIENCE_S = 60


@terrace_only("it has no pools")
@unittest.skipUnless(os.access(SHARED, os.W_OK), "no shared memory here")
class PmemGrowth(OwnServersTest):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-pmem-growth-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)

    def start(self, pools=1):
        """Its records go to the pools at once."""
        names = ",".join(os.path.join(self.folder, f"pool{i}") for i in range(pools))
        self.server = Server("--pmem-pool", names, "--pmem-size", f"{SMALL}mb", "--tier-record-budget", "1mb",
                             directory=self.folder, environment={"PMEM_IS_PMEM_FORCE": "1"})
        self.addCleanup(self.server.stop, False)
        return self.connect_to(self.server)

    def pool_bytes(self, client):
        return int(client.info("pmem")["pmem_pool_bytes"])

    def wait_until(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, self.server.log_text())
            time.sleep(0.005)

    def grow(self, client, megabytes):
        client.ok("CONFIG", "SET", "pmem-size", f"{megabytes}mb")
        self.wait_until(lambda: client.info("pmem")["pmem_growth"] != "running")
        self.assertEqual(client.info("pmem")["pmem_growth"], "none", self.server.log_text())

    def fill(self, client, first, last):
        for number in range(first, last, AT_ONCE):
            some = range(number, min(number + AT_ONCE, last))
            for reply in client.pipeline([("SET", f"key:{i}", f"{i}:{VALUE}") for i in some]):
                self.assertEqual(repr(reply), "Simple(b'OK')")

    def check(self, client, count):
        self.assert_reply(count, client, "DBSIZE")
        for number in range(0, count, AT_ONCE):
            some = range(number, min(number + AT_ONCE, count))
            replies = client.pipeline([("GET", f"key:{i}") for i in some])
            self.assertEqual(replies, [f"{i}:{VALUE}".encode() for i in some])

    def test_what_a_pool_gets_while_it_is_used_holds_data(self):
        client = self.start()
        self.fill(client, 0, 100)
        before = int(client.info("pmem")["pmem_segment_bytes"])
        self.grow(client, LARGE)
        self.assertEqual(self.pool_bytes(client), LARGE * MEGABYTE)
        self.assertEqual(int(client.info("pmem")["pmem_segment_bytes"]), before + (LARGE - SMALL) * MEGABYTE)
        self.fill(client, 100, KEYS)
        self.check(client, KEYS)
        self.wait_until(lambda: int(client.info("tier")["tier_used_bytes"]) > SMALL * MEGABYTE)
        self.grow(client, LARGE + 20)  # once more
        self.check(client, KEYS)
        self.server.stop()  # the checkpoint refers to all of it
        client = self.start()
        self.check(client, KEYS)
        self.assertEqual(self.pool_bytes(client), (LARGE + 20) * MEGABYTE)

    def test_several_pools_grow_together(self):
        client = self.start(2)
        self.grow(client, LARGE)
        self.assertEqual(self.pool_bytes(client), 2 * LARGE * MEGABYTE)
        self.fill(client, 0, KEYS)
        self.server.kill()
        client = self.start(2)
        self.check(client, KEYS)
        self.assertEqual(self.pool_bytes(client), 2 * LARGE * MEGABYTE)

    def test_what_cannot_be_is_refused_and_changes_nothing(self):
        client = self.start()
        pool = os.path.join(self.folder, "pool0")
        failed = f"ERR CONFIG SET failed (possibly related to argument 'pmem-size') - pmem-pool '{pool}': "
        smaller = f"{failed}has {SMALL * MEGABYTE} bytes, and does not become smaller"
        self.assert_error(smaller, client, "CONFIG", "SET", "pmem-size", "20mb")
        self.assert_error(smaller, client, "CONFIG", "SET", "pmem-size", "0")
        self.assert_error_starts(f"{failed}can have ", client, "CONFIG", "SET", "pmem-size", "1000gb")
        self.assertEqual(client.ok("CONFIG", "GET", "pmem-size")[1], str(SMALL * MEGABYTE).encode())
        self.assertEqual(self.pool_bytes(client), SMALL * MEGABYTE)
        self.assertEqual(os.path.getsize(pool), SMALL * MEGABYTE)

    def test_a_kill_while_it_grows_loses_nothing(self):
        client = self.start()
        self.fill(client, 0, 60)
        client.ok("CONFIG", "SET", "pmem-size", f"{LARGE}mb")
        self.server.kill()
        client = self.start()
        self.check(client, 60)
        self.grow(client, LARGE)
        self.fill(client, 60, KEYS)
        self.check(client, KEYS)


if __name__ == "__main__":
    unittest.main()
