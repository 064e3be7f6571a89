"""Partial resynchronisation beyond the ring: from the increments of the append-only file, and over restarts."""

import shutil
import tempfile
import unittest

from support.case import OwnServersTest, threads
from support.proxy import Proxy
from support.replicas import RawReplica, Writer, differences, is_synced
from support.server import Server

REDIS = shutil.which("redis-server")
# Without pings: the end of a stream is where the last write is, however long that takes.
APPEND = ("--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes",
          "--repl-ping-replica-period", "3600")
RING_BYTES = 16 << 20


class FilesTest(OwnServersTest):
    def make_directory(self):
        directory = tempfile.mkdtemp(prefix="terrace-test-")
        self.addCleanup(shutil.rmtree, directory, True)
        return directory

    def raw(self, server):
        replica = RawReplica(server.port)
        self.addCleanup(replica.close)
        return replica

    def overflow_ring(self, client):
        """Writes more than any ring holds."""
        piece = bytes(range(256)) * 4096  # also what looks like annotations and lengths
        before = int(client.info("replication")["master_repl_offset"])
        while int(client.info("replication")["master_repl_offset"]) < before + RING_BYTES + (4 << 20):
            client.pipeline([("SET", f"large:{i}", piece) for i in range(4)])
            Writer(client, 3).write(200)
            client.ok("SELECT", 0)

    def rewrite(self, client):
        client.ok("BGREWRITEAOF")
        self.wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == "0", "the rewrite")

    def wait_for_sync(self, primary, replica):
        self.wait_until(lambda: is_synced(primary, replica), "the replica has caught up")

    def assert_partial_only(self, primary):
        stats = primary.info("stats")
        self.assertEqual((stats["sync_full"], stats["sync_partial_err"]), ("1", "0"))


class BeyondTheRing(FilesTest):
    def check_gap(self, program, *arguments):
        server = self.start_server(*APPEND, *arguments)
        primary = self.connect_to(server)
        proxy = Proxy(server.port)
        self.addCleanup(proxy.stop)
        replica = self.connect_to(
            self.start_server("--replicaof", f"127.0.0.1 {proxy.port}", "--repl-timeout", 60, program=program)
        )
        self.wait_for_sync(primary, replica)
        proxy.refuse()
        proxy.cut()
        self.overflow_ring(primary)
        first = int(primary.info("replication")["repl_backlog_first_byte_offset"])
        self.assertGreater(first, int(replica.info("replication")["master_repl_offset"]) + 1)
        proxy.refuse(False)
        self.wait_for_sync(primary, replica)
        self.assert_partial_only(primary)
        self.assertEqual(differences(primary, replica), "")

    @threads
    def test_a_gap_longer_than_the_ring_is_no_copy(self):
        self.check_gap(None)

    def test_nor_with_a_sync_after_each_write(self):
        self.check_gap(None, "--appendfsync", "always", "--threads", 2)

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_nor_for_redis(self):
        self.check_gap(REDIS)

    def test_the_file_gives_the_very_bytes_of_the_stream(self):
        server = self.start_server(*APPEND, "--aof-timestamp-enabled", "yes")
        primary = self.connect_to(server)
        live = self.raw(server)
        live.synchronise()
        begin = live.offset
        self.overflow_ring(primary)
        end = int(primary.info("replication")["master_repl_offset"])
        stream = live.read_stream(end)
        step = len(stream) // 7 + 1
        for at in list(range(0, len(stream), step)):
            late = self.raw(server)
            self.assertEqual(late.ask(live.id, begin + at + 1), f"+CONTINUE {live.id}")
            self.assertTrue(late.read_stream(end) == stream[at:], f"from {at} on")
            late.close()

    def test_what_a_rewrite_has_removed_is_gone_but_not_for_who_reads_it(self):
        server = self.start_server(*APPEND)
        primary = self.connect_to(server)
        live = self.raw(server)
        live.synchronise()
        begin = live.offset
        self.overflow_ring(primary)
        end = int(primary.info("replication")["master_repl_offset"])
        reader = RawReplica(server.port, receive_buffer=4096)
        self.addCleanup(reader.close)
        self.assertEqual(reader.ask(live.id, begin + 1), f"+CONTINUE {live.id}")
        for _ in range(2):
            self.rewrite(primary)
            primary.ok("SET", "between", "rewrites")
        self.overflow_ring(primary)
        late_end = int(primary.info("replication")["master_repl_offset"])
        expected = live.read_stream(late_end)
        self.assertTrue(reader.read_stream(late_end) == expected)
        late = self.raw(server)
        self.assertTrue(late.ask(live.id, begin + 1).startswith("+FULLRESYNC"))
        late.close()
        late = self.raw(server)  # behind the last rewrite the files reach over its increments
        first = int(primary.info("replication")["repl_backlog_aof_first_byte_offset"])
        self.assertGreater(first, end)
        self.assertEqual(late.ask(live.id, first), f"+CONTINUE {live.id}")
        self.assertTrue(late.read_stream(late_end) == expected[first - 1 - begin :])


class Restarts(FilesTest):
    def restart(self, server, *arguments, clean):
        """Ends it, kindly or not, and starts it again on the same port."""
        port, directory = server.port, server.directory
        if clean:
            server.stop()
        else:
            server.kill()
        again = Server(*arguments, port=port, directory=directory)
        self.addCleanup(again.stop)
        return again

    def check_primary(self, clean):
        server = Server(*APPEND, directory=self.make_directory())
        self.addCleanup(server.stop)
        primary = self.connect_to(server)
        live = self.raw(server)
        live.synchronise()
        begin, old_id = live.offset, live.id
        primary.ok("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        self.overflow_ring(primary)
        primary.ok("SET", "last", "word")
        self.wait_until(lambda: self.all_written(primary), "the file has everything")
        end = int(primary.info("replication")["master_repl_offset"])
        expected = live.read_stream(end)
        live.acknowledge()  # or its end would wait for it, and ask in the stream
        self.wait_until(lambda: f"offset={end}," in str(primary.info("replication")["slave0"]), "it is acknowledged")
        again = self.restart(server, *APPEND, clean=clean)
        primary = self.connect_to(again)
        info = primary.info("replication")
        self.assertEqual(info["master_replid2"], old_id)
        self.assertEqual(int(info["second_repl_offset"]), end + 1)
        late = self.raw(again)
        self.assertEqual(late.ask(old_id, begin + 1), f"+CONTINUE {info['master_replid']}")
        self.assertTrue(late.read_stream(end) == expected)
        primary.ok("SET", "after", "restart")
        late.read_stream(int(primary.info("replication")["master_repl_offset"]))
        ahead = self.raw(again)
        self.assertTrue(ahead.ask(old_id, end + 2).startswith("+FULLRESYNC"), "what it never had")

    @staticmethod
    def all_written(client):
        info = client.info("persistence")
        return info["aof_written_offset"] == client.info("replication")["master_repl_offset"]

    def test_a_primary_that_ended_goes_on_where_it_was(self):
        self.check_primary(clean=True)

    def test_and_one_that_was_killed(self):
        self.check_primary(clean=False)

    def check_replica(self, clean, rewrite):
        first = self.start_server(*APPEND)
        primary = self.connect_to(first)
        primary.ok("SELECT", 2)  # and stays there: the file of the replica has to know
        primary.ok("SET", "before", "all")
        arguments = (*APPEND, "--replicaof", f"127.0.0.1 {first.port}")
        server = Server(*arguments, directory=self.make_directory())
        self.addCleanup(server.stop)
        replica = self.connect_to(server)
        self.wait_for_sync(primary, replica)
        self.wait_until(lambda: replica.info("persistence")["aof_rewrite_in_progress"] == "0", "its first base")
        primary.ok("SET", "some", "thing")
        self.wait_for_sync(primary, replica)
        if rewrite:
            self.rewrite(replica)
        primary.ok("SET", "more", "to come")
        self.wait_for_sync(primary, replica)
        self.wait_until(lambda: self.all_written(replica), "the file has everything")
        for round_ in range(2):
            server = self.restart(server, *arguments, clean=clean)
            primary.ok("SET", "meanwhile", round_)
            replica = self.connect_to(server)
            self.wait_for_sync(primary, replica)
            self.assertEqual(differences(primary, replica), "")
            self.wait_until(lambda: self.all_written(replica), "the file has everything")
        self.assert_partial_only(primary)

    def test_a_replica_continues_from_its_file(self):
        self.check_replica(clean=True, rewrite=False)

    def test_and_one_that_was_killed_behind_a_rewrite(self):
        self.check_replica(clean=False, rewrite=True)

    def test_what_expires_while_a_primary_is_away_is_deleted_by_it(self):
        arguments = ("--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes")
        first = Server(*arguments, directory=self.make_directory())
        self.addCleanup(first.stop)
        primary = self.connect_to(first)
        replica = self.connect_to(self.start_server(*arguments, "--replicaof", f"127.0.0.1 {first.port}"))
        primary.ok("SET", "counter", 41, "PX", 500)
        self.wait_for_sync(primary, replica)
        primary.ok("SAVE")
        port, directory = first.port, first.directory
        first.kill()
        self.wait_until(lambda: replica.ok("EXISTS", "counter") == 0, "it has expired")
        again = Server(*arguments, port=port, directory=directory)
        self.addCleanup(again.stop)
        primary = self.connect_to(again)
        self.wait_for_sync(primary, replica)
        self.assertEqual(primary.ok("INCR", "counter"), 1)
        self.wait_for_sync(primary, replica)
        self.assertEqual(differences(primary, replica), "")
        self.assertEqual(primary.info("stats")["sync_full"], "0")

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_what_redis_has_appended_is_nobodys_history(self):
        server = Server(*APPEND, directory=self.make_directory())
        self.addCleanup(server.stop)
        primary = self.connect_to(server)
        primary.ok("SET", "ours", 1)
        old_id = primary.info("replication")["master_replid"]
        port, directory = server.port, server.directory
        server.stop()
        redis = Server("--appendonly", "yes", program=REDIS, port=port, directory=directory)
        self.addCleanup(redis.stop)
        with redis.client() as client:
            client.ok("SET", "theirs", 1)
        redis.stop()
        again = Server(*APPEND, port=port, directory=directory)
        self.addCleanup(again.stop)
        primary = self.connect_to(again)
        self.assertEqual(primary.ok("MGET", "ours", "theirs"), [b"1", b"1"])
        info = primary.info("replication")
        self.assertNotIn(old_id, (info["master_replid"], info["master_replid2"]))


if __name__ == "__main__":
    unittest.main()
