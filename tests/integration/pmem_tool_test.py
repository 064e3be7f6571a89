"""terrace-pool: tells what is in a pool, finds damage in its journal, and repairs it so that a server starts with all that
lies before."""

import os
import shutil
import subprocess
import tempfile
import unittest

from support.case import terrace_only
from support.server import Server, StartError, server_program

SHARED = "/dev/shm"
FORCED = {"PMEM_IS_PMEM_FORCE": "1"}
KEYS = 200


@terrace_only("it has no pools")
@unittest.skipUnless(os.access(SHARED, os.W_OK), "no shared memory here")
class PmemTool(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-pmem-tool-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.pool = os.path.join(self.folder, "pool")
        self.tool = os.path.join(os.path.dirname(server_program()), "terrace-pool")

    def start(self):
        server = Server(
            "--pmem-pool", self.pool, "--pmem-size", "32mb", directory=self.folder, environment=FORCED
        )
        self.addCleanup(server.stop, False)
        return server

    def run_tool(self, command):
        done = subprocess.run(
            [self.tool, command, self.pool], env={**os.environ, **FORCED}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def write_and_kill(self):
        server = self.start()
        client = server.client()
        for number in range(KEYS):
            client.command("SET", f"key:{number}", f"value-{number}")
        self.assertEqual(self.run_tool("info")[0], 1, "a pool in use")
        server.kill()

    def damage(self, number):
        """One bit of the value of a key's SET, where it stands in the journal."""
        with open(self.pool, "r+b") as file:
            at = file.read().index(b"value-%d\r\n" % number)
            file.seek(at)
            file.write(b"w")

    def test_a_pool_in_order_is_told(self):
        self.write_and_kill()
        code, text = self.run_tool("info")
        self.assertEqual(code, 0, text)
        self.assertIn(f"{KEYS} frames", text)
        code, text = self.run_tool("check")
        self.assertEqual(code, 0, text)
        self.assertIn("in order", text)
        with self.start() as server:
            self.assertEqual(server.client().command("DBSIZE"), KEYS)

    def test_damage_is_found_and_repaired(self):
        self.write_and_kill()
        self.damage(120)
        code, text = self.run_tool("check")
        self.assertEqual(code, 2, text)
        self.assertIn("frame 121", text)
        with self.assertRaises(StartError) as refused:
            self.start()
        self.assertIn("terrace-pool repair", str(refused.exception))
        code, text = self.run_tool("repair")
        self.assertEqual(code, 0, text)
        self.assertEqual(self.run_tool("check")[0], 0)
        with self.start() as server:
            client = server.client()
            self.assertEqual(client.command("DBSIZE"), 120)
            self.assertEqual(client.command("GET", "key:119"), b"value-119")

    def test_damage_of_the_last_frame_is_found(self):
        self.write_and_kill()
        self.damage(KEYS - 1)
        self.assertEqual(self.run_tool("check")[0], 2)

    def test_what_is_no_pool_is_refused(self):
        with open(self.pool, "wb") as file:
            file.write(b"x" * (1 << 20))
        self.assertEqual(self.run_tool("info")[0], 1)
        self.assertEqual(self.run_tool("dance")[0], 64)


if __name__ == "__main__":
    unittest.main()
