"""INFO has every field of a real redis-server, section by section and in its order."""

import shutil
import unittest

from support.case import ServerTest, threads
from support.server import Server

# What a redis-server of this build tells that has no meaning here.
NOT_OURS = set()


def sections_of(text):
    """{"Server": ["redis_version", ...], ...} in the order of appearance."""
    sections = {}
    for line in text.decode().split("\r\n"):
        if line.startswith("# "):
            fields = sections[line[2:]] = []
        elif ":" in line:
            fields.append(line.split(":", 1)[0])
    return sections


@unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")
class FieldsOfRedis(ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.redis = Server(program=shutil.which("redis-server"))

    @classmethod
    def tearDownClass(cls):
        cls.redis.stop()
        super().tearDownClass()

    def both(self, *names):
        texts = []
        for server in (self.redis, self.server):
            client = self.connect_to(server)
            client.ok("SET", "k", "v")
            client.command("GET")
            texts.append(sections_of(client.ok("INFO", *names)))
        return texts

    def test_every_field_is_there(self):
        theirs, ours = self.both("everything")
        self.assertEqual(list(ours), list(theirs))
        for section, fields in theirs.items():
            if section in ("Commandstats", "Latencystats"):
                continue
            missing = [field for field in fields if field not in ours[section] and field not in NOT_OURS]
            self.assertEqual(missing, [], section)

    def test_common_fields_have_the_same_order(self):
        theirs, ours = self.both("everything")
        for section, fields in theirs.items():
            if section in ("Commandstats", "Latencystats"):
                continue
            common = [field for field in ours[section] if field in fields]
            self.assertEqual(common, [field for field in fields if field in common], section)

    def test_no_field_stands_twice(self):
        _, ours = self.both("everything")
        names = [field for fields in ours.values() for field in fields]
        self.assertEqual(len(names), len(set(names)))

    def test_sections_by_name(self):
        for names in ((), ("default",), ("all",), ("server", "errorstats"), ("default", "commandstats"), ("modules",), ("x", "cpu")):
            theirs, ours = self.both(*names)
            self.assertEqual(list(ours), list(theirs), names)


class FiguresOfSeveralWorkers(ServerTest):
    server_arguments = ("--threads", "4")

    @threads
    def test_figures_add_up_over_the_workers(self):
        clients = [self.client() for _ in range(12)]
        clients[0].ok("CONFIG", "RESETSTAT")
        for number, client in enumerate(clients):
            client.pipeline([("SET", f"k{number}", "v"), ("GET", f"k{number}"), ("GET", "none"), ("INCR", f"k{number}")])
        stats = clients[0].info("stats")
        self.assertEqual((stats["keyspace_hits"], stats["keyspace_misses"], stats["total_error_replies"]), ("12", "12", "12"))
        commands = clients[0].info("commandstats")
        self.assertIn("calls=24,", commands["cmdstat_get"])
        self.assertEqual(clients[0].info("errorstats")["errorstat_ERR"], "count=12")
        self.wait_until(lambda: clients[0].info("clients")["connected_clients"] == "12", "those before are gone")

    @threads
    def test_inside_a_transaction(self):
        client = self.client()
        client.ok("MULTI")
        for command in (("SET", "a", "1"), ("INFO", "everything"), ("MEMORY", "STATS"), ("MEMORY", "DOCTOR"), ("MEMORY", "USAGE", "a")):
            client.ok(*command)
        replies = client.ok("EXEC")
        self.assertIn(b"db0:keys=1,", replies[1])
        self.assertGreater(replies[4], 16)

    @threads
    def test_asking_while_others_work(self):
        """Under ThreadSanitizer: everything that reads figures against everything that makes them."""
        client, worker = self.client(), [self.client() for _ in range(4)]
        for client_of_worker in worker:
            client_of_worker.send_raw(b"".join(b"SET key:%d %d\r\nGET key:%d\r\nNOSUCH\r\n" % (i, i, i) for i in range(3000)))
        for _ in range(30):
            for command in (("INFO", "everything"), ("MEMORY", "STATS"), ("LATENCY", "HISTOGRAM"), ("LATENCY", "LATEST"),
                            ("SLOWLOG", "GET", "-1"), ("MEMORY", "DOCTOR"), ("CONFIG", "RESETSTAT"), ("MEMORY", "PURGE")):
                client.ok(*command)
        for client_of_worker in worker:
            for _ in range(9000):
                client_of_worker.read_reply()

    def test_rates_show_traffic_and_fade(self):
        client = self.client()
        self.wait_until(lambda: self.busy(client), "a rate above zero")
        self.wait_until(lambda: int(client.info("stats")["instantaneous_ops_per_sec"]) < 1000, "the rate to fade")

    def busy(self, client):
        client.pipeline([("PING",)] * 500)
        stats = client.info("stats")
        return int(stats["instantaneous_ops_per_sec"]) >= 500 and float(stats["instantaneous_input_kbps"]) > 0


if __name__ == "__main__":
    unittest.main()
