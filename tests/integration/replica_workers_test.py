"""The stream of a primary, applied by several workers: order per key, transactions as a whole, cold records."""

import contextlib
import os
import random
import shutil
import tempfile
import threading
import unittest

from support.case import OwnServersTest, long_run, new_seed, threads
from support.client import Client
from support.proxy import Proxy
from support.replicas import Writer, differences, is_synced
from support.resp import NULL_BULK

WORKERS = 4
COLD_KEYS = 10_000


@threads
class ReplicaWorkersTest(OwnServersTest):
    def setUp(self):
        self.seed = new_seed()
        self.random = random.Random(self.seed)
        folder = tempfile.TemporaryDirectory(prefix="terrace-test-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def pair(self, *arguments):
        self.primary_server = self.start_server(
            "--repl-diskless-sync-delay", 0, "--repl-backlog-size", "256mb", "--threads", 2
        )
        proxy = Proxy(self.primary_server.port)
        self.addCleanup(proxy.stop)
        self.replica_server = self.start_server(
            "--replicaof", f"127.0.0.1 {proxy.port}", "--threads", WORKERS, *arguments
        )
        clients = self.connect_to(self.primary_server), self.connect_to(self.replica_server)
        self.wait_for_sync(*clients)
        return proxy, *clients

    def wait_for_sync(self, primary, replica):
        self.wait_until(lambda: is_synced(primary, replica), f"the replica has caught up (seed {self.seed})")

    @contextlib.contextmanager
    def missed(self, proxy, replica):
        """The replica misses what is written meanwhile, and gets it at once afterwards."""
        proxy.refuse()
        proxy.cut()
        self.wait_until(lambda: replica.info("replication")["master_link_status"] == "down", "the cut")
        yield
        proxy.refuse(False)

    def assert_same(self, primary, replica):
        self.wait_for_sync(primary, replica)
        self.assertEqual(differences(primary, replica), "", f"seed {self.seed}")
        self.assertEqual(primary.info("stats")["sync_full"], "1")

    def test_each_key_sees_its_commands_in_their_order(self):
        proxy, primary, replica = self.pair()
        names = [f"k{n}" for n in range(300)]
        with self.missed(proxy, replica):
            for round_number in range(40 if long_run() else 10):
                commands = []
                for _ in range(2000):
                    name = self.random.choice(names)
                    number = self.random.randrange(10)
                    commands.append(
                        self.random.choice(
                            [
                                ("APPEND", f"s:{name}", number),
                                ("RPUSH", f"l:{name}", number),
                                ("RPOPLPUSH", f"l:{name}", f"l:{{l:{name}}}2"),
                                ("SET", f"s:{name}", number),
                                ("DEL", f"s:{name}"),
                                ("ZADD", f"z:{name}", number, number),
                            ]
                        )
                    )
                primary.pipeline(commands)
        self.assert_same(primary, replica)

    def test_random_writes_of_every_type(self):
        proxy, primary, replica = self.pair()
        writer = Writer(primary, self.seed)
        for _ in range(20 if long_run() else 3):
            with self.missed(proxy, replica):
                writer.write(4000)
            writer.write(1000)
        self.assert_same(primary, replica)

    def test_a_transaction_is_seen_as_a_whole(self):
        proxy, primary, replica = self.pair()
        names = ["a", "b", "c", "d"]  # of four shards
        stop, torn = threading.Event(), []

        def read():
            with Client(port=self.replica_server.port) as client:
                while not stop.is_set():
                    values = client.command("MGET", *names)
                    if len(set(map(str, values))) != 1:
                        torn.append(values)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(3):
                with self.missed(proxy, replica):
                    for number in range(300):
                        inside = [("SET", name, number) for name in names]
                        others = [("INCR", f"n{self.random.randrange(100)}") for _ in range(20)]
                        primary.pipeline([("MULTI",), *inside, ("EXEC",), *others])
                self.wait_for_sync(primary, replica)
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        self.assertEqual(torn, [], f"seed {self.seed}")
        self.assert_same(primary, replica)

    def change_cold(self, primary, commands, count):
        """Random ones of them, of random keys."""
        keys = [self.random.randrange(COLD_KEYS) for _ in range(count)]
        primary.pipeline([self.random.choice(commands)(key) for key in keys])

    def test_cold_keys_are_changed_in_their_order_while_others_go_on(self):
        proxy, primary, replica = self.pair(
            "--maxmemory", "4gb", "--tier-path", os.path.join(self.folder, "tier"), "--tier-size", "256mb"
        )  # fmt: skip
        primary.pipeline([("SET", f"s:{n}", "v" * 500) for n in range(COLD_KEYS)])
        primary.pipeline([("HSET", f"h:{n % 20}", n, "v" * 500) for n in range(COLD_KEYS)])
        self.wait_for_sync(primary, replica)
        strings = [lambda key: ("APPEND", f"s:{key}", key), lambda key: ("SETRANGE", f"s:{key}", 10, "range"),
                   lambda key: ("INCR", "hot")]  # fmt: skip
        everything = [*strings, lambda key: ("HSET", f"h:{key % 20}", key, key),
                      lambda key: ("DEL", f"s:{key}", f"s:{key + 1}")]  # fmt: skip
        before = int(replica.info("tier")["tier_synchronous_reads"])
        for number in range(30 if long_run() else 3):
            replica.ok("TIER", "DEMOTE", "*")
            replica.ok("TIER", "DEMOTE", "*")
            self.assertGreater(int(replica.info("tier")["tier_records"]), COLD_KEYS // 2)
            with self.missed(proxy, replica):
                self.change_cold(primary, everything if number else strings, 4000)
            self.change_cold(primary, strings, 100)
            self.wait_for_sync(primary, replica)
            self.assertEqual(primary.ok("GET", "hot"), replica.ok("GET", "hot"))
            if number == 0:
                reads = int(replica.info("tier")["tier_synchronous_reads"]) - before
                self.assertLess(reads, 50, "cold records are waited for without standing still")
        names = [f"s:{n}" for n in range(COLD_KEYS)]
        self.assertEqual(primary.ok("MGET", *names), replica.ok("MGET", *names), f"seed {self.seed}")
        for n in range(20):
            self.assertEqual(sorted(primary.ok("HGETALL", f"h:{n}")), sorted(replica.ok("HGETALL", f"h:{n}")))

    def test_everything_is_applied_before_a_cut(self):
        """The copy that a stopped replica starts from names the offset of exactly what is in it."""
        proxy, primary, replica = self.pair()
        names = [f"n{n}" for n in range(500)]
        for _ in range(3):
            with self.missed(proxy, replica):
                primary.pipeline([("INCR", name) for name in names * 40])
            self.wait_until(lambda: replica.command("GET", "n499") != NULL_BULK, "it has begun")
            replica.ok("SAVE")
            # Who starts from this copy, and goes on from the offset it names, has what the primary has.
            shutil.copy(os.path.join(self.replica_server.directory, "dump.rdb"), self.folder)
            second = self.start_server(
                "--dir", self.folder, "--replicaof", f"127.0.0.1 {self.primary_server.port}", "--threads", 2
            )
            self.assert_same(primary, self.connect_to(second))
            second.stop()


if __name__ == "__main__":
    unittest.main()
