"""Terrace as a primary: of redis-server where there is one, and of a socket that looks at every byte."""

import os
import random
import shutil
import subprocess
import tempfile
import threading
import unittest

from support import dataset
from support.case import OwnServersTest, long_run, threads
from support.proxy import Proxy
from support.replicas import HEARD, RawReplica, Writer, differences, is_synced, publish_some
from support.resp import ErrorReply, Simple
from support.server import Server

REDIS = shutil.which("redis-server")
# And without pings, which would stand between the bytes that a slow machine is looked at for.
AT_ONCE = ("--repl-diskless-sync-delay", 0, "--repl-ping-replica-period", 3600)


class PrimaryTest(OwnServersTest):
    def start_primary(self, *arguments):
        server = self.start_server(*AT_ONCE, *arguments)
        return server, self.connect_to(server)

    def raw_replica(self, server, **options):
        replica = RawReplica(server.port, **options)
        self.addCleanup(replica.close)
        return replica

    def offset(self, client):
        return int(client.info("replication")["master_repl_offset"])

    def wait_for_online(self, client, count):
        def online():
            info = client.info("replication")
            return sum("state=online" in info.get(f"slave{i}", "") for i in range(8)) == count

        self.wait_until(online, f"{count} replicas are online")


@unittest.skipUnless(REDIS, "redis-server is not installed")
class OfRedisReplicas(PrimaryTest):
    def start_replica(self, port, *arguments):
        replica = Server("--replicaof", f"127.0.0.1 {port}", *arguments, program=REDIS)
        self.addCleanup(replica.stop)
        return replica, self.connect_to(replica)

    def assert_same(self, primary, replica):
        self.wait_until(lambda: is_synced(primary, replica), "the replica has caught up")
        self.assertEqual(differences(primary, replica), "")

    def test_a_full_copy_brings_every_type(self):
        for arguments in ((), ("--repl-diskless-sync", "no"), ("--threads", 3)):
            with self.subTest(arguments=arguments):
                server, client = self.start_primary(*arguments)
                dataset.fill(client)
                _, replica = self.start_replica(server.port)
                self.assert_same(client, replica)

    def test_what_is_written_later_follows(self):
        server, client = self.start_primary("--threads", 2)
        _, replica = self.start_replica(server.port)
        self.wait_until(lambda: is_synced(client, replica), "the replica is there")
        Writer(client, 11).write(3000)
        self.assert_same(client, replica)

    def test_subscribers_of_a_replica_hear_what_is_published(self):
        server, client = self.start_primary("--threads", 2)
        follower, replica = self.start_replica(server.port)
        self.wait_until(lambda: is_synced(client, replica), "the replica is there")
        listener = self.connect_to(follower)
        publish_some(client, listener)
        self.assertEqual([listener.read_reply() for _ in HEARD], HEARD)

    def test_writes_during_a_full_copy_are_not_lost(self):
        server, client = self.start_primary("--threads", 2)
        for number in range(20000):
            client.send("SET", f"first:{number}", "x" * 50)
        for _ in range(20000):
            client.read_reply()
        _, replica = self.start_replica(server.port)
        writer = Writer(client, 12)
        while replica.info("replication")["master_link_status"] != "up":
            writer.write(200)
        self.assert_same(client, replica)

    def test_a_lost_link_is_continued_at_any_byte(self):
        server, client = self.start_primary()
        proxy = Proxy(server.port)
        self.addCleanup(proxy.stop)
        _, replica = self.start_replica(proxy.port)
        self.wait_until(lambda: is_synced(client, replica), "the replica is there")
        generator, writer = random.Random(13), Writer(client, 13)
        for cuts in range(100 if long_run() else 10):
            proxy.cut_after(1 + generator.randrange(3000))
            writer.write(300)
            client.ok("SET", "s:end", "x" * 4000)  # enough to reach the byte
            self.wait_until(lambda: int(client.info("stats")["sync_partial_ok"]) > cuts, "the link goes on")
        self.assert_same(client, replica)
        self.assertEqual(client.info("stats")["sync_full"], "1")

    def test_replicas_that_come_together_share_one_copy(self):
        server, client = self.start_primary("--repl-diskless-sync-max-replicas", 3, "--repl-diskless-sync-delay", 60)
        dataset.fill_strings(client)
        replicas = [self.start_replica(server.port)[1] for _ in range(3)]
        for replica in replicas:
            self.assert_same(client, replica)
        server.wait_for_log("the copy for replicas is complete")
        self.assertEqual(server.log_text().count("the copy for replicas is complete"), 1)

    def test_a_copy_that_breaks_off_is_made_again(self):
        server, client = self.start_primary()
        dataset.fill(client)
        proxy = Proxy(server.port)
        self.addCleanup(proxy.stop)
        proxy.cut_next_after(from_target=200_000)
        _, replica = self.start_replica(proxy.port)
        self.assert_same(client, replica)
        self.assertGreater(int(client.info("stats")["sync_full"]), 1)

    def test_a_promoted_replica_becomes_the_primary_of_nothing_lost(self):
        server, client = self.start_primary()
        Writer(client, 14).write(500)
        _, replica = self.start_replica(server.port)
        self.assert_same(client, replica)
        client.ok("SELECT", 0)
        client.ok("SET", "last", "word")
        self.assertEqual(client.ok("WAIT", 1, 60000), 1)
        replica.ok("REPLICAOF", "NO", "ONE")
        self.assertEqual(replica.ok("GET", "last"), b"word")
        self.assertEqual(differences(client, replica), "")

    @unittest.skipUnless(shutil.which("redis-cli"), "redis-cli is not installed")
    def test_redis_cli_listens_to_the_stream(self):
        """It asks for a copy without keys; nobody has asked for a backlog before."""
        for diskless in ("yes", "no"):
            with self.subTest(diskless=diskless):
                server, client = self.start_primary("--repl-diskless-sync", diskless)
                command = ["redis-cli", "-p", str(server.port), "--replica"]
                with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as listener:
                    self.wait_until(lambda: "state=online" in client.info("replication").get("slave0", ""), "it is online")
                    client.ok("SET", "a", 1)
                    client.ok("SET", "b", 2)
                    guard = threading.Timer(60, listener.kill)
                    guard.start()
                    heard = [listener.stdout.readline().strip() for _ in range(3 if diskless == "no" else 2)]
                    guard.cancel()
                    client.ok("CLIENT", "KILL", "TYPE", "replica")
                    listener.wait(60)
                # It takes what comes first for the answer to what it says behind a copy of unknown length.
                told = ['"SELECT","0"', '"SET","a","1"', '"SET","b","2"']
                self.assertEqual(heard, told if diskless == "no" else told[1:])

    @unittest.skipUnless(shutil.which("redis-cli"), "redis-cli is not installed")
    def test_redis_cli_takes_a_copy(self):
        server, client = self.start_primary()
        dataset.fill(client)
        folder = tempfile.mkdtemp(prefix="terrace-primary-")
        self.addCleanup(shutil.rmtree, folder, True)
        path = os.path.join(folder, "copy.rdb")
        subprocess.run(["redis-cli", "-p", str(server.port), "--rdb", path], check=True, capture_output=True, timeout=300)
        said = subprocess.run(["redis-check-rdb", path], check=True, capture_output=True, timeout=300).stdout.decode()
        keys = sum(int(size.split("=")[1].split(",")[0]) for size in client.info("keyspace").values())
        self.assertIn(f"{keys} keys read", said)
        subprocess.run(
            ["redis-cli", "-p", str(server.port), "--functions-rdb", path], check=True, capture_output=True, timeout=300
        )
        said = subprocess.run(["redis-check-rdb", path], check=True, capture_output=True, timeout=300).stdout.decode()
        self.assertIn("0 keys read", said)


class OfASocket(PrimaryTest):
    def test_the_stream_is_the_effects(self):
        server, client = self.start_primary()
        client.ok("SET", "before", 1)
        replica = self.raw_replica(server)
        copy = replica.synchronise()
        self.assertEqual(copy[:9], b"REDIS0010")
        self.assertIn(b"before", copy)
        self.assertIn(replica.id.encode(), copy)
        client.ok("SET", "a", 1)
        client.ok("GET", "a")
        client.ok("DEL", "nothing")
        client.ok("SPOP", "nothing")
        client.ok("PUBLISH", "nobody", "listens")
        client.ok("INCRBYFLOAT", "a", 0.5)
        stream = replica.read_stream(self.offset(client))
        self.assertEqual(
            stream,
            b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
            b"*3\r\n$7\r\nPUBLISH\r\n$6\r\nnobody\r\n$7\r\nlistens\r\n"
            b"*4\r\n$3\r\nSET\r\n$1\r\na\r\n$3\r\n1.5\r\n$7\r\nKEEPTTL\r\n",
        )

    def test_a_lost_link_goes_on_at_the_very_byte(self):
        server, client = self.start_primary("--threads", 2)
        first = self.raw_replica(server)
        first.synchronise()
        start = first.offset
        for number in range(200):
            client.ok("SET", f"key:{number}", "value" * number)
        end = self.offset(client)
        stream = first.read_stream(end)
        generator = random.Random(15)
        for at in [start, end, *(generator.randrange(start, end) for _ in range(20))]:
            other = self.raw_replica(server)
            self.assertEqual(other.ask(first.id, at + 1), f"+CONTINUE {first.id}")
            self.assertEqual(other.read_stream(end), stream[at - start :])
            other.close()
        self.assertEqual(client.info("stats")["sync_full"], "1")
        self.assertEqual(client.info("stats")["sync_partial_ok"], "22")

    def test_what_cannot_be_continued_gets_a_copy(self):
        server, client = self.start_primary()
        first = self.raw_replica(server)
        first.synchronise()
        client.ok("SET", "a", 1)
        end = self.offset(client)
        for stream_id, offset in (("0" * 40, 1), (first.id, end + 100_000), (first.id, 0), (first.id, -5), ("short", 1)):
            other = self.raw_replica(server)
            self.assertTrue(other.ask(stream_id, offset).startswith(f"+FULLRESYNC {first.id} "), (stream_id, offset))
            other.close()
        self.assertEqual(client.info("stats")["sync_partial_err"], "5")

    def test_a_replica_that_does_not_read_costs_no_memory_and_loses_nothing(self):
        server, client = self.start_primary("--client-output-buffer-limit", "replica 0 0 0")
        replica = self.raw_replica(server, receive_buffer=1 << 17)
        replica.synchronise()
        start = replica.offset
        before = server.resident_bytes()
        value, total = os.urandom(1 << 20), 60
        for number in range(total):
            client.ok("SET", "large", value)
            client.ok("SET", "number", number)
        if client.info("memory")["mem_allocator"].startswith("jemalloc"):  # a sanitizer keeps what is freed
            few = 40 << 20  # the ring, and what the values take
            self.wait_until(lambda: server.resident_bytes() - before < few, "what has gone to the file is freed")
        end = self.offset(client)
        self.assertGreater(end - start, total << 20)
        stream = replica.read_stream(end)
        self.assertEqual(stream.count(value), total)
        self.assertTrue(stream.endswith(b"\r\n$2\r\n%d\r\n" % (total - 1)))

    def test_writes_during_a_copy_are_kept_for_a_slow_replica(self):
        server, client = self.start_primary("--threads", 2)
        for number in range(100):
            client.ok("SET", f"key:{number}", os.urandom(100_000))
        replica = self.raw_replica(server, receive_buffer=1 << 17)
        replica.ask()
        value = os.urandom(1 << 20)
        for _ in range(60):
            client.ok("SET", "large", value)
        copy = replica.read_copy()
        self.assertGreater(len(copy), 10_000_000)
        for _ in range(10):
            client.ok("SET", "large", value)
        replica.acknowledge()
        stream = replica.read_stream(self.offset(client))
        self.assertEqual(stream.count(value), 70)

    def test_a_replica_too_far_behind_is_closed(self):
        server, client = self.start_primary("--client-output-buffer-limit", "replica 5mb 0 0")
        replica = self.raw_replica(server, receive_buffer=1 << 17)
        replica.synchronise()
        for _ in range(30):
            client.ok("SET", "large", "x" * (1 << 20))
        server.wait_for_log("client-output-buffer-limit allows")
        self.wait_until(lambda: client.info("replication")["connected_slaves"] == "0", "it is gone")

    def test_one_that_says_nothing_is_closed(self):
        server, client = self.start_primary("--repl-timeout", 1)
        replica = self.raw_replica(server)
        replica.synchronise()
        server.wait_for_log("Disconnecting timedout replica")
        self.wait_until(lambda: client.info("replication")["connected_slaves"] == "0", "it is gone")

    def test_pings_are_in_the_stream(self):
        server, client = self.start_primary("--repl-ping-replica-period", 1)
        replica = self.raw_replica(server)
        replica.synchronise()
        self.assertEqual(replica.read_bytes(14), b"*1\r\n$4\r\nPING\r\n")

    def test_the_backlog_ends_with_its_time(self):
        server, client = self.start_primary("--repl-backlog-ttl", 1)
        replica = self.raw_replica(server)
        replica.synchronise()
        self.assertEqual(client.info("replication")["repl_backlog_active"], "1")
        replica.close()
        self.wait_until(lambda: client.info("replication")["repl_backlog_active"] == "0", "it is freed")
        self.assertNotEqual(client.info("replication")["master_replid"], replica.id)

    @threads
    def test_a_larger_backlog_keeps_what_the_smaller_had(self):
        server, client = self.start_primary("--threads", 2, "--appendonly", "yes")
        replica = self.raw_replica(server)
        replica.synchronise()
        start = replica.offset
        client.ok("SET", "first", "x" * 1000)
        client.ok("CONFIG", "SET", "repl-backlog-size", "100mb")
        value = os.urandom(1 << 20)
        for _ in range(50):
            client.ok("SET", "large", value)
        end = self.offset(client)
        other = self.raw_replica(server)
        self.assertEqual(other.ask(replica.id, start + 1).split()[0], "+CONTINUE")
        stream = other.read_stream(end)
        self.assertEqual(stream.count(value), 50)
        self.assertEqual(stream, replica.read_stream(end))

    def test_one_without_capabilities_is_told_the_length(self):
        server, client = self.start_primary()
        client.ok("SET", "a", 1)
        replica = self.raw_replica(server, capabilities=())
        self.assertTrue(replica.ask().startswith("+FULLRESYNC"))
        self.assertTrue(replica.read_copy().startswith(b"REDIS"))
        client.ok("SET", "b", 2)
        self.assertIn(b"\r\nb\r\n", replica.read_stream(self.offset(client)))

    def test_the_oldest_form_of_asking(self):
        server, client = self.start_primary()
        client.ok("SET", "a", 1)
        replica = self.raw_replica(server)
        replica.client.send("SYNC")
        self.assertTrue(replica.read_copy().startswith(b"REDIS"))

    @threads
    def test_many_that_leave_during_a_copy_leave_nothing_behind(self):
        server, client = self.start_primary("--threads", 2)
        for number in range(50):
            client.ok("SET", f"key:{number}", os.urandom(200_000))
        for _ in range(10):
            replica = self.raw_replica(server, receive_buffer=1 << 17)
            replica.ask()
            replica.close()
        self.wait_until(lambda: client.info("replication")["connected_slaves"] == "0", "they are gone")
        replica = self.raw_replica(server)
        self.assertGreater(len(replica.synchronise()), 10_000_000)


class Acknowledgements(PrimaryTest):
    def test_wait_counts_replicas(self):
        server, client = self.start_primary("--threads", 2)
        self.assertEqual(client.ok("WAIT", 0, 0), 0)
        self.assertEqual(client.ok("WAIT", 1, 10), 0)
        replicas = [self.raw_replica(server) for _ in range(2)]
        for replica in replicas:
            replica.synchronise()
        self.wait_for_online(client, 2)
        client.ok("SET", "a", 1)
        written = self.offset(client)
        client.send("WAIT", 2, 60000)
        for replica in replicas:
            asked = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"
            stream = replica.read_stream(written + len(asked))
            self.assertTrue(stream.endswith(asked))
            replica.acknowledge(written)
        self.assertEqual(client.read_reply(), 2)
        client.ok("SET", "a", 2)
        self.assertEqual(client.ok("WAIT", 1, 10), 0)

    def test_waitaof_hears_of_replicas_disks(self):
        server, client = self.start_primary()
        replica = self.raw_replica(server)
        replica.synchronise()
        self.wait_for_online(client, 1)
        client.ok("SET", "a", 1)
        written = self.offset(client)
        client.send("WAITAOF", 0, 1, 60000)
        replica.client.send("REPLCONF", "ACK", written, "FACK", 0)
        replica.client.send("REPLCONF", "ACK", written, "FACK", written)
        self.assertEqual(client.read_reply(), [0, 1])

    def test_writes_need_good_replicas(self):
        server, client = self.start_primary("--min-replicas-to-write", 1, "--min-replicas-max-lag", 2)
        refusal = "NOREPLICAS Not enough good replicas to write."
        self.wait_until(lambda: client.command("SET", "a", 1) == ErrorReply(refusal), "writes are refused")
        client.ok("GET", "a")
        client.ok("PING")
        replica = self.raw_replica(server)
        replica.synchronise()
        self.wait_for_online(client, 1)
        client.ok("SET", "a", 2)
        self.assertEqual(client.info("replication")["min_slaves_good_slaves"], "1")
        # It says nothing any more: three seconds later writes are refused again.
        self.wait_until(lambda: client.command("SET", "a", 3) == ErrorReply(refusal), "writes are refused")

    def test_what_is_said_of_replicas(self):
        server, client = self.start_primary()
        self.assertEqual(client.ok("ROLE"), [b"master", 0, []])
        replica = self.raw_replica(server)
        replica.client.ok("REPLCONF", "ip-address", "10.1.2.3")
        replica.synchronise()
        self.wait_for_online(client, 1)
        client.ok("SET", "a", 1)
        replica.acknowledge(self.offset(client))
        end = self.offset(client)
        self.wait_until(lambda: client.ok("ROLE") == [b"master", end, [[b"10.1.2.3", b"4711", str(end).encode()]]], "ROLE")
        info = client.info("replication")
        self.assertEqual(info["slave0"].rsplit(",", 1)[0], f"ip=10.1.2.3,port=4711,state=online,offset={end}")
        self.assertEqual(info["role"], "master")
        lines = client.ok("CLIENT", "LIST", "TYPE", "replica").decode().splitlines()
        self.assertEqual(len(lines), 1)
        self.assertIn(" flags=S ", lines[0])
        self.assertEqual(client.ok("CLIENT", "KILL", "TYPE", "replica"), 1)
        self.wait_until(lambda: client.info("replication")["connected_slaves"] == "0", "it is gone")

    def test_what_is_refused(self):
        server, client = self.start_primary()
        self.assert_error("ERR syntax error", client, "REPLCONF", "capa")
        self.assert_error("ERR Unrecognized REPLCONF option: nonsense", client, "REPLCONF", "nonsense", 1)
        self.assert_error("ERR value is not an integer or out of range", client, "REPLCONF", "listening-port", "x")
        self.assert_error_starts("ERR REPLCONF ip-address", client, "REPLCONF", "ip-address", "a" * 300)
        self.assert_error("ERR value is not an integer or out of range", client, "PSYNC", "?", "x")
        self.assert_error("ERR wrong number of arguments for 'psync' command", client, "PSYNC", "?")
        client.ok("MULTI")
        self.assert_error("ERR Command not allowed inside a transaction", client, "PSYNC", "?", -1)
        self.assert_error("EXECABORT Transaction discarded because of previous errors.", client, "EXEC")
        self.assertEqual(client.ok("PING"), Simple("PONG"))


@threads
class UnderLoad(PrimaryTest):
    def test_all_replicas_get_the_same_bytes_from_several_workers(self):
        server, client = self.start_primary("--threads", 3)
        replicas = [self.raw_replica(server) for _ in range(4)]
        for replica in replicas:
            replica.synchronise()
        self.wait_for_online(client, 4)

        def write(seed):
            with server.client() as other:
                Writer(other, seed).write(400)

        writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        end = self.offset(client)
        streams = [replica.read_stream(end) for replica in replicas]
        shortest = min(map(len, streams))
        for stream in streams:
            self.assertEqual(stream[-shortest:], streams[0][-shortest:])


if __name__ == "__main__":
    unittest.main()
