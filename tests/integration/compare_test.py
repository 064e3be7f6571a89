"""bench/compare's tables of the collection types work: each row can be measured on both servers, and is in the output."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from support.bench import bench_program
from support.case import terrace_only
from support.server import TOP, server_program

ISSUE_COMMANDS = ("HSET HGET HGETALL HINCRBY LPUSH RPUSH LPOP LRANGE LINDEX SADD SISMEMBER SPOP SINTER ZADD ZSCORE ZRANK ZRANGE "
                  "ZINCRBY ZPOPMIN XADD XRANGE XREADGROUP GEOSEARCH PFADD SETBIT BITCOUNT PUBLISH BLPOP").split()


@terrace_only("it is one of the two that are compared")
class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.json = os.path.join(self.folder, "figures.json")

    def compare(self, *arguments, short=100, code=0):
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("bench/compare needs two CPUs")
        self.assertIsNotNone(bench_program(), "there is no terrace-bench")
        done = subprocess.run([sys.executable, os.path.join(TOP, "bench", "compare"), "--terrace", server_program(), "--bench", bench_program(),
                               "--peers", "redis,terrace", "--json", self.json, "--short", str(short), *arguments], capture_output=True, text=True, timeout=800, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        with open(self.json, encoding="utf-8") as file:
            return done.stdout, done.stderr, json.load(file)

    def test_types(self):
        output, _, figures = self.compare("--only", "types")
        for command in ISSUE_COMMANDS:
            self.assertTrue(any(row.startswith(command) for row in figures["types"]), command)
        for row, by_peer in figures["types"].items():
            self.assertIn(f"| {row} ", output)
            for peer in ("redis", "terrace"):
                self.assertEqual(len(by_peer[peer]), 1)
                self.assertGreater(by_peer[peer][0]["cpu_us"], 0, (row, peer))
        self.assertIn(" 0 without a ratio.", output)

    def test_bytes_of_the_types(self):
        output, _, figures = self.compare("--only", "types_memory", short=10)
        self.assertEqual(len(figures["types_memory"]), 6)
        for row, by_peer in figures["types_memory"].items():
            self.assertIn(f"| {row} ", output)
            # At a tenth of the size pages that are not full weigh more; a factor of four would be another dataset.
            for peer in ("redis", "terrace"):
                self.assertTrue(10 < by_peer[peer]["bytes_per_element"] < 400, (row, by_peer))

    def test_a_row_that_cannot_be_measured_is_named(self):
        """terrace-floor answers without a store: no driver gets from it what it needs."""
        floor = os.path.join(os.path.dirname(bench_program() or ""), "terrace-floor")
        if not os.access(floor, os.X_OK):
            self.skipTest("terrace-floor is not built")
        output, complaint, figures = self.compare("--only", "types", "--rows", "PUBLISH", "--terrace", floor, code=1)
        self.assertIn(" 1 without a ratio.", output)
        self.assertIn("PUBLISH to 100 subscribers, terrace: ", complaint)
        self.assertIn("problem", figures["types"]["PUBLISH to 100 subscribers"]["terrace"][0])


if __name__ == "__main__":
    unittest.main()
