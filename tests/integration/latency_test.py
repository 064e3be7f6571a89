"""LATENCY: events that took long, and histograms. info_test.py has the basics."""

import unittest

from support.case import ServerTest, threads
from support.resp import Map, Verbatim


class Events(ServerTest):
    # So high a threshold that only what sleeps is slow, however busy this machine is.
    server_arguments = ("--enable-debug-command", "yes", "--latency-monitor-threshold", "500", "--threads", "2")

    def setUp(self):
        super().setUp()
        self.client().ok("LATENCY", "RESET")

    def test_what_is_quick_is_no_event(self):
        client = self.client()
        client.pipeline([("PING",)] * 100)
        self.assert_reply([], client, "LATENCY", "HISTORY", "nosuch")
        self.assert_error("ERR No samples available for event 'nosuch'", client, "LATENCY", "GRAPH", "nosuch")
        self.assert_reply(0, client, "LATENCY", "RESET", "nosuch", "command")

    def test_a_slow_command_is_one(self):
        client = self.client()
        client.ok("DEBUG", "SLEEP", "0.6")
        (name, when, last, longest), = client.ok("LATENCY", "LATEST")
        self.assertEqual(name, b"command")
        self.assertGreaterEqual(last, 600)
        self.assertGreaterEqual(longest, last)
        self.assert_reply([[when, last]], client, "LATENCY", "HISTORY", "COMMAND")
        graph = client.ok("LATENCY", "GRAPH", "command").decode()
        self.assertTrue(graph.startswith(f"command - high {last} ms, low {last} ms (all time high {longest} ms)\n"), graph)
        self.assertIn(b"command", client.ok("LATENCY", "DOCTOR"))
        self.assert_reply(1, client, "LATENCY", "RESET", "command")
        self.assert_reply([], client, "LATENCY", "LATEST")

    def test_texts_are_verbatim_in_resp3(self):
        client = self.client()
        client.ok("HELLO", "3")
        client.ok("DEBUG", "SLEEP", "0.6")
        self.assertIsInstance(client.ok("LATENCY", "GRAPH", "command"), Verbatim)
        self.assertIsInstance(client.ok("LATENCY", "DOCTOR"), Verbatim)


class Histograms(ServerTest):
    server_arguments = ("--threads", "4")

    def histogram(self, client, *names):
        reply = client.ok("LATENCY", "HISTOGRAM", *names)
        self.assertIsInstance(reply, Map)
        return reply

    @threads
    def test_calls_of_all_workers_are_summed(self):
        clients = [self.client() for _ in range(8)]
        clients[0].ok("CONFIG", "RESETSTAT")
        for client in clients:
            client.pipeline([("PING",)] * 25)
        clients[0].ok("HELLO", "3")
        entry = self.histogram(clients[0], "ping").get("ping")
        self.assertEqual(entry.get("calls"), 200)
        buckets = entry.get("histogram_usec").value
        self.assertEqual(buckets[-1][1], 200)
        labels = {1, 2, 4, 8, 16} | {(1024 * 129 * (1 << k) // 128 - 1) // 1000 for k in range(5, 31)}
        self.assertLessEqual({label for label, _ in buckets}, labels)

    def test_a_container_means_its_subcommands(self):
        client = self.client()
        client.ok("CONFIG", "RESETSTAT")
        client.ok("CLIENT", "ID")
        client.ok("CLIENT", "GETNAME")
        client.ok("HELLO", "3")
        self.assertEqual(set(self.histogram(client, "client").keys()), {b"client|id", b"client|getname"})
        self.assertEqual(set(self.histogram(client, "client|id").keys()), {b"client|id"})
        self.assertIn(b"hello", self.histogram(client).keys())

    def test_tracking_can_be_switched_off(self):
        client = self.client()
        client.ok("HELLO", "3")
        client.ok("CONFIG", "SET", "latency-tracking", "no")
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "latency-tracking", "yes"))
        client.ok("CONFIG", "RESETSTAT")
        client.ok("PING")
        self.assertEqual(self.histogram(client, "ping").keys(), [])
        self.assertNotIn(b"latency_percentiles_usec_ping", client.ok("INFO", "latencystats").value[1])

    def test_percentiles_are_those_configured(self):
        client = self.client()
        client.ok("CONFIG", "SET", "latency-tracking-info-percentiles", "1 50.5 100")
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "latency-tracking-info-percentiles", "50 99 99.9"))
        client.ok("PING")
        self.assertRegex(client.info("latencystats")["latency_percentiles_usec_ping"], r"^p1=[\d.]+,p50\.5=[\d.]+,p100=[\d.]+$")


if __name__ == "__main__":
    unittest.main()
