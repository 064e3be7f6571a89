"""Terrace as a replica: of redis-server where there is one, else of itself; with a link that is lost at any byte."""

import random
import shutil
import unittest

from support import dataset
from support.client import Client
from support.case import OwnServersTest, long_run
from support.proxy import Proxy
from support.replicas import HEARD, Writer, differences, is_synced, publish_some
from support.resp import ErrorReply, Null, Simple
from support.server import Server

REDIS = shutil.which("redis-server")


class ReplicaTest(OwnServersTest):
    """Its subject is the replica, so the primary is what a class says."""

    primary_program = None

    def start_primary(self, *arguments, **options):
        extra = ["--enable-debug-command", "yes", "--repl-diskless-sync-delay", 0]
        return self.start_server(*extra, *arguments, program=self.primary_program, **options)

    def start_replica(self, port, *arguments, **options):
        return self.start_server(
            "--enable-debug-command", "yes", "--replicaof", f"127.0.0.1 {port}", *arguments, **options
        )

    def wait_for_sync(self, primary, replica, what="the replica has caught up"):
        self.wait_until(lambda: is_synced(primary, replica), what, 60)

    def assert_same(self, primary, replica):
        self.wait_for_sync(primary, replica)
        self.assertEqual(differences(primary, replica), "")

    def pair(self, *arguments):
        """A primary, a proxy in front of it, a replica behind that, and a client of each."""
        primary = self.start_primary(*arguments)
        proxy = Proxy(primary.port)
        self.addCleanup(proxy.stop)
        replica = self.start_replica(proxy.port)
        clients = self.connect_to(primary), self.connect_to(replica)
        return proxy, *clients


class OfRedis(ReplicaTest):
    primary_program = REDIS

    def setUp(self):
        if not REDIS:
            self.skipTest("redis-server is not installed")

    def test_a_full_copy_brings_every_type(self):
        primary = self.start_primary()
        client = self.connect_to(primary)
        dataset.fill(client)
        replica = self.start_replica(primary.port)
        self.assert_same(client, self.connect_to(replica))

    def test_a_full_copy_of_known_length_too(self):
        primary = self.start_primary("--repl-diskless-sync", "no")
        client = self.connect_to(primary)
        dataset.fill(client)
        replica = self.start_replica(primary.port)
        self.assert_same(client, self.connect_to(replica))
        replica.wait_for_log("bytes from master to disk")

    def test_what_is_written_later_follows(self):
        _, primary, replica = self.pair()
        self.wait_for_sync(primary, replica)
        Writer(primary, 1).write(3000)
        self.assert_same(primary, replica)

    def test_a_lost_link_is_continued_at_any_byte(self):
        proxy, primary, replica = self.pair("--repl-backlog-size", "100mb")
        self.wait_for_sync(primary, replica)
        generator = random.Random(7)
        writer = Writer(primary, 2)
        for cut in range(200 if long_run() else 6):
            proxy.cut_after(1 + generator.randrange(3000))
            writer.write(300)
            primary.ok("SET", "s:end", "x" * 4000)  # enough to reach the byte
            self.wait_until(lambda: int(primary.info("stats")["sync_partial_ok"]) > cut, "the link to be taken up again")
        self.assert_same(primary, replica)
        self.assertEqual(primary.info("stats")["sync_full"], "1")

    def test_a_copy_that_breaks_off_is_asked_for_again_and_the_old_data_stays(self):
        primary = self.start_primary()
        client = self.connect_to(primary)
        dataset.fill(client)
        proxy = Proxy(primary.port)
        self.addCleanup(proxy.stop)
        replica = self.start_server("--enable-debug-command", "yes")
        watcher = self.connect_to(replica)
        watcher.ok("SET", "old", "value")
        proxy.cut_next_after(from_target=100_000)
        watcher.ok("REPLICAOF", "127.0.0.1", proxy.port)
        replica.wait_for_log("sync with 127.0.0.1")
        self.assertEqual(watcher.ok("GET", "old"), b"value")
        self.assert_same(client, watcher)

    def test_a_client_may_not_write(self):
        _, primary, replica = self.pair()
        self.wait_for_sync(primary, replica)
        self.assert_error("READONLY You can't write against a read only replica.", replica, "SET", "a", 1)
        replica.ok("MULTI")
        self.assert_error("READONLY You can't write against a read only replica.", replica, "SET", "a", 1)
        self.assert_error("EXECABORT Transaction discarded because of previous errors.", replica, "EXEC")
        replica.ok("CONFIG", "SET", "replica-read-only", "no")
        replica.ok("SET", "a", 1)

    def test_what_has_expired_is_absent_but_not_removed(self):
        _, primary, replica = self.pair()
        self.wait_for_sync(primary, replica)
        primary.ok("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        primary.ok("SET", "short", "lived", "PX", 50)
        self.wait_for_sync(primary, replica)
        self.wait_until(lambda: replica.ok("GET", "short") == Null("bulk"), "it has expired")
        self.assertEqual(replica.ok("DBSIZE"), 1)
        self.assertEqual(replica.ok("EXISTS", "short"), 0)
        # In the millisecond that it names, a key is there no more for us, and for the last time for Redis.
        self.wait_until(lambda: primary.ok("GET", "short") == Null("bulk"), "it has expired there too")
        self.wait_for_sync(primary, replica)
        self.assertEqual(replica.ok("DBSIZE"), 0)

    def test_a_reader_that_waits_for_a_stream_is_served(self):
        _, primary, replica = self.pair()
        self.wait_for_sync(primary, replica)
        replica.send("XREAD", "BLOCK", 0, "STREAMS", "x", "$")
        with beside(replica) as other:
            self.wait_until(lambda: other.info("clients")["blocked_clients"] == "1", "it waits")
        primary.ok("XADD", "x", "1-1", "f", "v")
        self.assertEqual(replica.read_reply(), [[b"x", [[b"1-1", [b"f", b"v"]]]]])

    def test_subscribers_of_a_replica_hear_what_is_published(self):
        proxy, client, replica = self.pair()
        self.wait_for_sync(client, replica)
        port = int(replica.command("CONFIG", "GET", "port")[1])
        listener = Client(port)
        self.addCleanup(listener.close)
        publish_some(client, listener)
        self.assertEqual([listener.read_reply() for _ in HEARD], HEARD)

    def test_stale_data_may_be_refused(self):
        proxy, primary, replica = self.pair()
        self.wait_for_sync(primary, replica)
        replica.ok("CONFIG", "SET", "replica-serve-stale-data", "no")
        primary.ok("SET", "a", 1)
        self.wait_for_sync(primary, replica)
        self.assertEqual(replica.ok("GET", "a"), b"1")
        port = replica.command("CONFIG", "GET", "port")[1]
        queued, empty = (Client(int(port)) for _ in range(2))
        self.addCleanup(queued.close)
        self.addCleanup(empty.close)
        queued.ok("MULTI")
        queued.ok("GET", "a")
        empty.ok("MULTI")
        proxy.refuse()
        proxy.cut()
        down = ErrorReply("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
        self.wait_until(lambda: replica.command("GET", "a") == down, "it refuses")
        self.assertIn("EXECABORT Transaction discarded because of: MASTERDOWN", queued.command("EXEC").text)
        self.assertEqual(empty.command("EXEC"), [])
        self.assertEqual(replica.info("replication")["master_link_status"], "down")
        proxy.refuse(False)
        self.wait_until(lambda: replica.command("GET", "a") == b"1", "the link is back")

    def test_a_replica_that_starts_again_goes_on_where_it_was(self):
        primary = self.start_primary("--repl-backlog-size", "100mb")
        client = self.connect_to(primary)
        with Server("--save", "") as keeper:
            directory = keeper.directory
            first = Server("--replicaof", f"127.0.0.1 {primary.port}", "--dir", directory, directory=directory)
            with first.client() as replica:
                Writer(client, 3).write(500)
                self.wait_for_sync(client, replica)
                replica.ok("SAVE")
            first.stop()
            Writer(client, 4).write(500)
            with Server(
                "--enable-debug-command", "yes", "--replicaof", f"127.0.0.1 {primary.port}", directory=directory
            ) as second:
                self.assert_same(client, self.connect_to(second))
        self.assertEqual(client.info("stats")["sync_full"], "1")

    def test_the_append_only_file_of_a_replica_holds_what_the_primary_sent(self):
        primary = self.start_primary("--repl-ping-replica-period", 1)
        client = self.connect_to(primary)
        dataset.fill(client)
        with Server("--save", "") as keeper:
            replica = Server("--replicaof", f"127.0.0.1 {primary.port}", "--appendonly", "yes",
                             directory=keeper.directory)
            with replica.client() as other:
                self.wait_for_sync(client, other)
                self.wait_until(lambda: other.info("persistence")["aof_rewrite_in_progress"] == "0", "there is a base")
                client.ok("SELECT", 2)
                Writer(client, 6).write(100)
                client.ok("SELECT", 2)
                client.ok("SET", "s:2", "in two")
                self.wait_for_sync(client, other)
                other.ok("BGREWRITEAOF")
                self.wait_until(lambda: other.info("persistence")["aof_rewrite_in_progress"] == "0", "a second base")
                client.ok("SET", "s:3", "still in two")
                self.wait_for_sync(client, other)
            replica.stop()
            with Server("--appendonly", "yes", directory=keeper.directory) as alone:
                self.assertEqual(differences(client, self.connect_to(alone)), "")

    def test_who_waits_for_a_key_is_told_that_it_is_a_replica_now(self):
        primary = self.start_primary()
        replica = self.start_server()
        waiting, client = self.connect_to(replica), self.connect_to(replica)
        waiting.send("BLPOP", "list", 0)
        self.wait_until(lambda: client.info("clients")["blocked_clients"] == "1", "it waits")
        client.ok("REPLICAOF", "127.0.0.1", primary.port)
        self.assertEqual(
            waiting.read_reply(),
            ErrorReply("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"),
        )
        self.assert_closed(waiting)

    def test_a_killed_replica_goes_on_from_its_copy(self):
        primary = self.start_primary("--repl-backlog-size", "100mb")
        client = self.connect_to(primary)
        with Server("--save", "") as keeper:
            for number in range(3):
                Writer(client, number).write(200)
                replica = Server("--replicaof", f"127.0.0.1 {primary.port}", directory=keeper.directory)
                with replica.client() as other:
                    self.wait_for_sync(client, other)
                    Writer(client, 10 + number).write(200)
                    self.wait_for_sync(client, other)
                    self.assertEqual(differences(client, other), "")
                replica.kill()
        self.assertEqual(client.info("stats")["sync_full"], "1")
        self.assertEqual(client.info("stats")["sync_partial_ok"], "2")

    def test_a_replica_with_less_memory_than_its_primary_tiers(self):
        _, primary, replica = self.pair()
        small = self.start_server("--threads", 1, "--maxmemory", "32mb", "--tier-path", "tier", "--tier-size", "256mb")
        other = self.connect_to(small)
        other.ok("REPLICAOF", *primary_address(primary))
        self.wait_for_sync(primary, other)
        for at in range(0, 60_000, 500):
            primary.pipeline([("SET", f"k:{i}", f"{i}:" * 100) for i in range(at, at + 500)])
        self.wait_for_sync(primary, other)
        self.wait_for_sync(primary, replica)
        self.assertEqual(other.ok("DBSIZE"), 60_000)
        for i in range(0, 60_000, 997):
            self.assertEqual(other.ok("GET", f"k:{i}"), (f"{i}:" * 100).encode())
        if other.info("memory")["mem_allocator"].startswith("jemalloc"):  # a sanitizer keeps memory of its own
            self.assertLess(small.peak_resident_bytes(), 48 << 20)

    def test_a_password_is_given(self):
        primary = self.start_primary("--requirepass", "secret")
        client = self.connect_to(primary)
        client.ok("AUTH", "secret")
        replica = self.start_replica(primary.port, "--masterauth", "wrong")
        replica.wait_for_log("Unable to AUTH to MASTER")
        other = self.connect_to(replica)
        other.ok("CONFIG", "SET", "masterauth", "secret")
        self.assert_same(client, other)

    def test_a_password_of_any_bytes_is_given(self):
        primary = self.start_primary()
        client = self.connect_to(primary)
        client.ok("CONFIG", "SET", "requirepass", b"abc\0def")
        replica = self.start_replica(primary.port, "--masterauth", "abc")
        replica.wait_for_log("Unable to AUTH to MASTER")
        other = self.connect_to(replica)
        other.ok("CONFIG", "SET", "masterauth", b"abc\0def")
        self.assert_same(client, other)

    def test_the_link_comes_from_the_address_it_is_told(self):
        primary = self.start_primary("--protected-mode", "no")  # Redis knows 127.0.0.1 alone
        replica = self.start_replica(primary.port, "--bind-source-addr", "127.0.0.2")
        client = self.connect_to(primary)
        self.assert_same(client, self.connect_to(replica))
        self.assertIn("ip=127.0.0.2,", client.info("replication")["slave0"])

    def test_a_promoted_replica_has_lost_nothing(self):
        proxy, primary, replica = self.pair()
        Writer(primary, 5).write(1000)
        self.assert_same(primary, replica)
        before = replica.info("replication")
        replica.ok("REPLICAOF", "NO", "ONE")
        after = replica.info("replication")
        self.assertEqual(after["role"], "master")
        self.assertEqual(after["master_replid2"], before["master_replid"])
        self.assertNotEqual(after["master_replid"], before["master_replid"])
        self.assertEqual(differences(primary, replica), "")
        replica.ok("SET", "a", "b")
        self.assertEqual(replica.ok("CONFIG", "GET", "replicaof"), [b"replicaof", b""])

    def test_what_is_said_of_the_link(self):
        proxy, primary, replica = self.pair()
        self.wait_for_sync(primary, replica)
        role = replica.ok("ROLE")
        self.assertEqual(role[:4], [b"slave", b"127.0.0.1", proxy.port, b"connected"])
        fields = replica.info("replication")
        for name in ("master_host", "master_port", "master_last_io_seconds_ago", "master_sync_in_progress",
                     "slave_read_repl_offset", "slave_repl_offset", "slave_priority", "slave_read_only",
                     "replica_announced", "connected_slaves", "master_replid", "second_repl_offset"):
            self.assertIn(name, fields)
        self.assertEqual(fields["master_replid"], primary.info("replication")["master_replid"])
        self.assertEqual(
            replica.ok("REPLICAOF", "127.0.0.1", proxy.port), Simple("OK Already connected to specified master")
        )


def primary_address(client):
    return "127.0.0.1", client.socket.getpeername()[1]


def beside(client):
    """Another connection to the server that `client` is connected to."""
    return Client(port=client.socket.getpeername()[1])


class OfTerrace(OfRedis):
    """The same with a primary of our own."""

    primary_program = None

    def setUp(self):
        pass


if __name__ == "__main__":
    unittest.main()
