"""terrace-bench capacity: against the server under test, and against one that misbehaves on purpose."""

import csv
import io
import json
import os
import signal
import subprocess
import tempfile
import unittest

from support.bench import FaultyServer, bench_program
from support.case import ServerTest

# Small and quick; a test adds what it is about.
QUICK = ("--seconds", "0.3", "--warmup", "0", "--settle", "0", "--connections", "4")
TIMEOUT_S = 600


class CapacityTest(ServerTest):
    @classmethod
    def setUpClass(cls):
        if bench_program() is None:
            raise unittest.SkipTest("terrace-bench is not built")
        super().setUpClass()

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="terrace-test-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def run_bench(self, port, *arguments, code=0):
        """(stdout, stderr, the JSON or None) of a run that has to end with this exit code."""
        json_path = self.path("report.json")
        command = [bench_program(), "capacity", "--port", str(port), *QUICK, "--json", json_path, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        report = None
        if os.path.exists(json_path):
            with open(json_path, encoding="utf-8") as file:
                report = json.load(file)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout, done.stderr, report


class AgainstAServer(CapacityTest):
    def test_datasets_grow_and_every_key_reads_back(self):
        text, _, report = self.run_bench(
            self.server.port, "--sizes", "1mb,3mb,2mb", "--value-size", "20-2000", "--verify", "--verify-all",
            "--ttl-share", "0.2", "--skew", "hotspot", "--threads", "2", "--label", "a run",
            "--csv", self.path("r.csv"), "--dram", "1mb")
        steps = report["steps"]
        self.assertEqual([step["target"] for step in steps], ["1mb", "2mb", "3mb"])
        for step in steps:
            self.assertEqual(step["dbsize"], step["keys"])
            self.assertEqual(step["filled"], 1)
            self.assertAlmostEqual(step["payload_bytes"] / (int(step["target"][0]) << 20), 1, delta=0.1)
            self.assertAlmostEqual(step["dram_ratio"], step["payload_bytes"] / (1 << 20), delta=1e-6)
            self.assertEqual(step["closed_hit_share"], 1)
            for phase in ("load", "closed", "open"):
                self.assertGreater(step[f"{phase}_operations_per_second"], 0)
                self.assertEqual((step[f"{phase}_errors"], step[f"{phase}_wrong"]), (0, 0))
            tail = [step[f"open_{name}_us"] for name in ("p50", "p99", "p99.9", "p99.99", "max")]
            self.assertEqual(tail, sorted(tail))
            self.assertGreater(tail[0], 0)
            # Of the process on this host.
            self.assertGreater(step["rss_bytes"], 1 << 20)
            self.assertGreaterEqual(step["closed_cpu_us_per_operation"], 0)
        last = steps[-1]
        self.assertEqual(last["verify_keys"], last["keys"])
        self.assertEqual((last["verify_wrong"], last["verify_missing"], last["verify_missing_with_ttl"]), (0, 0, 0))
        client = self.client()
        self.assertEqual(client.ok("DBSIZE"), last["keys"])
        expiring = int(client.info("keyspace")["db0"].split("expires=")[1].split(",")[0])
        self.assertAlmostEqual(expiring / last["keys"], 0.2, delta=0.05)
        with open(self.path("r.csv"), encoding="utf-8") as file:
            rows = list(csv.DictReader(io.StringIO(file.read())))
        self.assertEqual([row["target"] for row in rows], ["1mb", "2mb", "3mb"])
        self.assertEqual([float(row["closed_operations_per_second"]) for row in rows],
                         [step["closed_operations_per_second"] for step in steps])
        self.assertIn("a run: ", text)

    def test_large_values_and_pipelines(self):
        text, _, report = self.run_bench(
            self.server.port, "--keys", "12", "--value-size", "3mb", "--pipeline", "16", "--verify", "--verify-all",
            "--read-share", "0.5", "--rate", "20", "--compressible", "0.5")
        self.assertEqual(report["steps"][0]["verify_keys"], 12)
        self.assertEqual(self.client().ok("STRLEN", "key:000000000011"), 3 << 20)

    def test_a_database_with_keys_is_left_alone(self):
        client = self.client()
        client.ok("SET", "mine", "x")
        _, errors, report = self.run_bench(self.server.port, "--keys", "10", code=1)
        self.assertIsNone(report)
        self.assertIn("not empty", errors)
        self.assertEqual(client.ok("DBSIZE"), 1)
        text, _, _ = self.run_bench(self.server.port, "--keys", "10", "--flush")
        self.assertEqual(client.ok("DBSIZE"), 10)

    def test_a_server_that_is_full_is_reported(self):
        server = self.start_server()
        client = self.connect_to(server)
        client.ok("CONFIG", "SET", "maxmemory", int(client.info("memory")["used_memory"]) + (20 << 20))
        text, _, report = self.run_bench(server.port, "--sizes", "300mb,400mb", code=1)
        step, = report["steps"]
        self.assertEqual(step["filled"], 0)
        self.assertGreater(step["load_errors"], 1000)
        self.assertEqual(step["dbsize"], step["keys"] - step["load_errors"])
        self.assertTrue(step["load_first_error"].startswith("OOM "), step["load_first_error"])
        self.assertIn("NOT FILLED", text)
        # Measured all the same, with what is there.
        self.assertGreater(step["closed_operations_per_second"], 0)
        self.assertLess(step["closed_hit_share"], 1)
        self.assertIsNotNone(report["server"]["dram_bytes"])

    def test_an_interrupt_ends_the_run_with_a_report(self):
        client = self.client()
        client.ok("CONFIG", "RESETSTAT")
        command = [bench_program(), "capacity", "--port", str(self.server.port), *QUICK, "--keys", "100",
                   "--seconds", "600", "--json", self.path("r.json")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        # Reads: the load is over and the closed loop runs.
        self.wait_until(lambda: int(client.info("stats")["keyspace_hits"]) > 1000, "the closed loop to run")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 1)
        with open(self.path("r.json"), encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual(report["failure"], "interrupted")
        self.assertGreater(report["steps"][0]["closed_operations"], 1000)


class AgainstFaults(CapacityTest):
    def start(self, **faults):
        store = FaultyServer(**faults)
        self.addCleanup(store.close)
        return store

    def test_lost_writes_are_noticed_by_the_count_of_keys(self):
        store = self.start(lose_every=100)
        text, _, report = self.run_bench(store.port, "--keys", "1000", "--value-size", "50", "--verify-all",
                                               "--read-share", "1", code=1)
        self.assertIn("NOT FILLED: 990 keys instead of 1000", text)
        step = report["steps"][0]
        self.assertEqual((step["filled"], step["dbsize"], step["load_errors"]), (0, 990, 0))
        self.assertEqual((step["verify_missing"], step["verify_wrong"]), (10, 0))
        self.assertLess(step["closed_hit_share"], 1)

    def test_a_wrong_byte_is_noticed(self):
        store = self.start(spoil=b"key:000000000077")
        text, _, report = self.run_bench(store.port, "--keys", "200", "--value-size", "50", "--verify-all", code=1)
        self.assertEqual(report["steps"][0]["verify_wrong"], 1)
        self.assertIn("first: key:000000000077", text)

    def test_a_stall_is_charged_to_all_who_had_to_wait(self):
        # 400 operations/s for 2 s; in the middle nothing for 0.5 s. A closed loop would see four slow operations;
        # in the open loop a quarter of all came due meanwhile, and waited 250 ms on average.
        # INFO is asked once to begin with, once when empty, twice for the load, once for memory, twice for the
        # closed loop; the eighth begins the open loop.
        def median_us():
            store = self.start(stall_infos=8, stall_reads=300, stall_seconds=0.5)
            _, _, report = self.run_bench(
                store.port, "--keys", "50", "--value-size", "20", "--read-share", "1", "--rate", "400",
                "--arrivals", "even", "--seconds", "2")
            step = report["steps"][0]
            self.assertAlmostEqual(step["open_intended"], 800, delta=8)
            self.assertEqual(step["open_operations"], step["open_intended"])
            self.assertGreater(step["open_max_us"], 450e3)
            self.assertGreater(step["open_p99_us"], 400e3)
            return step["open_p50_us"]

        # Of a store that can answer 400 operations/s otherwise, which depends on who else has the processors.
        self.assert_quick(lambda: median_us() / 1e6, 0.1, times=1, timeout=120)

    def test_operations_that_could_not_be_sent_count_from_when_they_were_due(self):
        # 4000 operations/s for 1.5 s on one connection, a stall of 1 s: 4000 come due in it, and only the first
        # thousand can be sent. Half of all operations wait for 250 ms or longer.
        store = self.start(stall_infos=8, stall_reads=300, stall_seconds=1.0)
        _, _, report = self.run_bench(
            store.port, "--keys", "50", "--value-size", "20", "--read-share", "1", "--rate", "4000",
            "--arrivals", "even", "--seconds", "1.5", "--connections", "1")
        step = report["steps"][0]
        self.assertEqual(step["open_operations"], step["open_intended"])
        self.assertGreater(step["open_p50_us"], 230e3)

    def test_a_server_that_hangs_up_ends_the_run(self):
        store = self.start(hang_up_after=500)
        text, _, report = self.run_bench(store.port, "--keys", "100000", "--value-size", "50", code=1)
        self.assertIn("ended early: connection lost", text)
        self.assertIn("connection lost", report["failure"])
        self.assertEqual(report["steps"][0]["filled"], 0)

    def test_a_server_that_takes_no_more_is_given_up(self):
        store = self.start(stall_infos=6, stall_reads=300, stall_seconds=5)
        text, _, report = self.run_bench(store.port, "--keys", "100", "--value-size", "50", "--timeout", "0.5", code=1)
        self.assertIn("--timeout", text)
        self.assertIn("--timeout", report["failure"])

    def test_what_a_server_does_not_tell_is_not_known(self):
        store = self.start()
        text, _, report = self.run_bench(store.port, "--keys", "100", "--value-size", "50")
        step = report["steps"][0]
        for name in ("rss_bytes", "bytes_per_key", "dram_ratio", "closed_cpu_us_per_operation",
                     "closed_tier_hit_share"):
            self.assertIsNone(step[name], name)
        self.assertEqual(step["closed_hit_share"], 1)
        self.assertEqual(step["dbsize"], 100)

    def test_figures_of_media_are_taken_from_info(self):
        info = (b"used_memory:1000", b"used_memory_rss:5000", b"dram_hits:10", b"tier_hits:7", b"tier_reads:3")
        store = self.start(info=b"\r\n".join(info))
        text, _, report = self.run_bench(store.port, "--keys", "100", "--value-size", "50", "--dram", "100")
        step = report["steps"][0]
        self.assertEqual((step["closed_tier_reads"], step["closed_dram_hits"]), (0, 0))
        self.assertIsNone(step["closed_far_hits"])
        self.assertEqual(step["rss_bytes"], 5000)
        self.assertEqual(report["server"]["rss_source"], "INFO")


if __name__ == "__main__":
    unittest.main()
