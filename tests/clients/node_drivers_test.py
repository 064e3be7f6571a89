"""The npm drivers `redis` and `ioredis`, each by a script of its own, over RESP2, RESP3 and what they choose."""

import os
import subprocess
import unittest

from support.case import ServerTest
from support.server import TOP

HERE = os.path.dirname(os.path.abspath(__file__))
# Where tests/run installs the drivers of package-lock.json.
MODULES = os.path.join(TOP, "build", "clients", "node_modules")


class NodeDrivers(ServerTest):
    server_arguments = ("--threads", "2")

    def run_script(self, name, version):
        if not os.path.isdir(MODULES):
            self.fail(f"{MODULES} is missing: tests/run installs it, and says why when it cannot")
        done = subprocess.run(["node", os.path.join(HERE, name), str(self.server.port), version], capture_output=True, timeout=600, check=False,
                              env=dict(os.environ, NODE_PATH=MODULES), stdin=subprocess.DEVNULL)
        output = done.stdout.decode("utf-8", "backslashreplace") + done.stderr.decode("utf-8", "backslashreplace")
        self.assertEqual(done.returncode, 0, output)
        self.assertNotIn("FAIL ", output)
        self.assertGreaterEqual(sum(line.startswith("ok ") for line in output.splitlines()), 8, output)

    def test_redis_by_default(self):
        self.run_script("node_redis.js", "default")

    def test_redis_over_resp2(self):
        self.run_script("node_redis.js", "2")

    def test_redis_over_resp3(self):
        self.run_script("node_redis.js", "3")

    def test_ioredis_by_default(self):
        self.run_script("ioredis.js", "default")

    def test_ioredis_over_resp2(self):
        self.run_script("ioredis.js", "2")

    def test_ioredis_over_resp3(self):
        self.run_script("ioredis.js", "3")

    def test_what_bullmq_does_by_default(self):
        self.run_script("bullmq_paths.js", "default")

    def test_what_bullmq_does_over_resp2(self):
        self.run_script("bullmq_paths.js", "2")

    def test_what_bullmq_does_over_resp3(self):
        self.run_script("bullmq_paths.js", "3")


if __name__ == "__main__":
    unittest.main()
