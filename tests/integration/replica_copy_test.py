"""What a replica is sent, when, and how it loads it: versions, appendfsync always, repl-diskless-load."""

from support import dataset
from support.case import OwnServersTest, threads
from support.proxy import Proxy
from support.replicas import RawReplica, differences, is_synced


class CopyTest(OwnServersTest):
    def primary(self, *arguments):
        server = self.start_server("--repl-diskless-sync-delay", 0, *arguments)
        return server, self.connect_to(server)

    def raw(self, server, *capabilities, version=None):
        replica = RawReplica(server.port, capabilities=capabilities)
        self.addCleanup(replica.close)
        if version:
            replica.client.ok("REPLCONF", "version", version)
        return replica


class Copies(CopyTest):
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


class Direct(CopyTest):
    """repl-diskless-load."""

    def pair(self, mode, *arguments):
        """A primary whose copies can be made slow, a proxy before it, and a replica that was its before."""
        self.server, self.client = self.primary("--enable-debug-command", "yes", *arguments)
        self.proxy = Proxy(self.server.port)
        self.addCleanup(self.proxy.stop)
        self.replica_server = self.start_server(
            "--repl-diskless-load", mode, "--replica-read-only", "no", "--enable-debug-command", "yes", *arguments
        )
        self.replica = self.connect_to(self.replica_server)

    def follow(self):
        self.replica.ok("REPLICAOF", "127.0.0.1", self.proxy.port)

    def wait_for_sync(self):
        self.wait_until(lambda: is_synced(self.client, self.replica), "it has caught up")

    def loading(self, kind):
        return self.replica.info("persistence")[kind] == "1"

    def lose_the_stream(self):
        """So that the next copy is of the same history."""
        self.proxy.refuse()
        self.proxy.cut()
        large = "x" * 1_000_000
        self.client.pipeline([("SET", "large", large) for _ in range(20)])

    @threads
    def test_it_brings_every_type_in_both_forms(self):
        for mode, diskless in (("swapdb", "yes"), ("swapdb", "no"), ("on-empty-db", "yes")):
            self.pair(mode, "--repl-diskless-sync", diskless, "--threads", 2)
            dataset.fill(self.client)
            if mode == "swapdb":
                self.replica.ok("SET", "before", 1)
            self.follow()
            self.wait_for_sync()
            self.assertEqual(differences(self.client, self.replica), "")
            self.assertEqual(self.replica.ok("EXISTS", "before"), 0)
            self.client.ok("SET", "later", 1)
            self.wait_for_sync()
            self.assertEqual(self.replica.ok("GET", "later"), b"1")

    def test_a_copy_of_the_same_history_is_loaded_while_the_old_data_are_served(self):
        self.pair("swapdb")
        self.client.pipeline([("SET", f"k:{i}", i) for i in range(30)])
        self.follow()
        self.wait_for_sync()
        self.replica.ok("SET", "mine", 1)
        self.lose_the_stream()
        self.client.ok("CONFIG", "SET", "rdb-key-save-delay", 1_000_000)
        self.proxy.refuse(False)
        self.wait_until(lambda: self.loading("async_loading"), "it loads")
        self.assertFalse(self.loading("loading"))
        self.assertEqual(self.replica.ok("MGET", "mine", "k:7"), [b"1", b"7"])
        self.replica.ok("SET", "mine", 2)
        self.assertEqual(self.replica.ok("DBSIZE"), 31)
        self.assert_error("LOADING Redis is loading the dataset in memory", self.replica, "REPLICAOF", "NO", "ONE")
        # It breaks off: nothing has happened.
        self.proxy.refuse()
        self.proxy.cut()
        self.wait_until(lambda: not self.loading("async_loading"), "it is given up")
        self.assertEqual(self.replica.ok("MGET", "mine", "k:7"), [b"2", b"7"])
        self.assertEqual(self.replica.ok("DBSIZE"), 31)
        self.client.ok("CONFIG", "SET", "rdb-key-save-delay", 0)
        self.proxy.refuse(False)
        self.wait_for_sync()
        self.assertEqual(differences(self.client, self.replica), "")
        self.assertEqual(self.replica.ok("EXISTS", "mine"), 0)

    def test_another_history_refuses_readers_meanwhile_and_keeps_the_old_data_when_it_fails(self):
        self.pair("swapdb")
        self.client.pipeline([("SET", f"k:{i}", i) for i in range(30)])
        self.client.ok("CONFIG", "SET", "rdb-key-save-delay", 1_000_000)
        self.replica.ok("SET", "mine", 1)
        self.follow()
        self.wait_until(lambda: self.loading("loading"), "it loads")
        self.assert_error("LOADING Redis is loading the dataset in memory", self.replica, "GET", "mine")
        self.proxy.refuse()
        self.proxy.cut()
        self.wait_until(lambda: not self.loading("loading"), "it is given up")
        self.assertEqual(self.replica.ok("GET", "mine"), b"1")
        self.assertEqual(self.replica.ok("DBSIZE"), 1)
        self.replica.ok("REPLICAOF", "NO", "ONE")
        self.client.ok("CONFIG", "SET", "rdb-key-save-delay", 0)
