"""What a replica is sent, and when: the version of a copy, and the stream under appendfsync always."""

from support.case import ServerTest
from support.replicas import RawReplica, is_synced


class Copies(ServerTest):
    @classmethod
    def setUpClass(cls):
        pass

    @classmethod
    def tearDownClass(cls):
        pass

    def setUp(self):
        pass

    def primary(self, *arguments):
        server = self.start_server("--repl-diskless-sync-delay", 0, *arguments)
        return server, self.connect_to(server)

    def raw(self, server, *capabilities, version=None):
        replica = RawReplica(server.port, capabilities=capabilities)
        self.addCleanup(replica.close)
        if version:
            replica.client.ok("REPLCONF", "version", version)
        return replica

    def test_fields_that_expire_need_one_copy_and_no_second_try(self):
        server, client = self.primary()
        client.ok("HSET", "h", "f", 1, "g", 2)
        client.ok("HPEXPIRE", "h", 1000_000, "FIELDS", 1, "f")
        replica = self.connect_to(self.start_server("--replicaof", f"127.0.0.1 {server.port}"))
        self.wait_until(lambda: is_synced(client, replica), "it has caught up")
        self.assertGreater(replica.ok("HPTTL", "h", "FIELDS", 1, "f")[0], 0)
        self.assertEqual(client.info("stats")["sync_full"], "1")
        self.assertNotIn("given up", server.log_text())

    def test_the_version_is_the_latest_only_where_it_is_needed_and_read(self):
        server, client = self.primary()
        client.ok("HSET", "h", "f", 1)
        plain = self.raw(server, "eof", "psync2", "field-ttl").synchronise()
        client.ok("HPEXPIRE", "h", 1000_000, "FIELDS", 1, "f")
        for replica in (
            self.raw(server, "eof", "psync2", "field-ttl"),
            self.raw(server, "eof", "psync2", version="7.4.0"),
            self.raw(server, "eof", "psync2", version="8.2.1"),
        ):
            self.assertEqual(replica.synchronise()[:9], b"REDIS0012")
        self.assertLess(plain[:9], b"REDIS0012")

    def test_nothing_is_sent_that_is_not_on_the_disk(self):
        server, client = self.primary("--appendonly", "yes", "--appendfsync", "always", "--threads", 2)
        replica = self.raw(server, "eof", "psync2")
        replica.synchronise()
        value = "x" * 200_000
        writer = self.connect_to(server)
        for _ in range(60):
            writer.send("SET", "a", value)
            replica.read_stream(replica.offset + len(value))
            self.assertGreaterEqual(int(client.info("persistence")["aof_durable_offset"]), replica.offset)
            writer.read_reply()
