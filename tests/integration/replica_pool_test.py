"""Replicas whose dataset survives in a tier: a pool of persistent memory, or the file of tier-persist. A full copy takes
the place of the old dataset all at once, also for a kill -9, and a restart goes on by partial resync."""

import itertools
import os
import random
import shutil
import tempfile

from integration.replica_faults_test import PlayedPrimary, full
from support import dataset
from support.case import OwnServersTest, new_seed, terrace_only, threads
from support.replicas import Writer, differences, is_synced

SHARED = "/dev/shm"
SLOWLY = 1_000_000  # microseconds a key: what is to be interrupted takes a minute
DATABASES = range(4)


def history(client):
    facts = client.info("replication")
    return facts["master_replid"], int(facts["master_repl_offset"])


class SurvivingReplica(OwnServersTest):
    """The old dataset is `old:*`; the primary's is of every type."""

    tier = ()
    environment = None

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-replica-pool-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.primary = self.start_server("--repl-diskless-sync-delay", 0)
        self.writes = self.connect_to(self.primary)

    def start(self, *arguments, follow=None):
        names = [os.path.join(self.folder, word) if word in ("pool", "tier") else word for word in self.tier]
        if follow:
            arguments = ("--replicaof", f"127.0.0.1 {follow}", *arguments)
        server = self.start_server(*names, *arguments, directory=self.folder, environment=self.environment)
        return server, self.connect_to(server)

    def contents(self, client):
        return dataset.contents(client, DATABASES)

    def is_durable(self, client):
        """What the replica has been given is in a checkpoint, or in the journal of the pool behind it."""
        raise NotImplementedError

    def assert_same(self, client, expected):
        self.assertEqual(dataset.differences(expected, self.contents(client)), "")

    def fill_old(self):
        """A server of the kind with data of its own, all of which would survive."""
        server, client = self.start()
        client.pipeline([("SET", f"old:{i}", "x" * (i % 50 * 10)) for i in range(500)])
        client.ok("RPUSH", "old:list", *range(3000))
        self.keep(client)
        return server, client

    def keep(self, client):
        """Has all that was written survive."""

    def follow_slowly(self, client, name, port=None):
        client.ok("CONFIG", "SET", name, SLOWLY)
        client.ok("REPLICAOF", "127.0.0.1", port or self.primary.port)

    def is_loading(self, client):
        facts = client.info("persistence")
        return facts["loading"] == "1" or facts.get("async_loading") == "1"

    def interrupt_load(self, *arguments):
        dataset.fill(self.writes)
        server, client = self.fill_old()
        for i in range(0, len(arguments), 2):
            client.ok("CONFIG", "SET", *arguments[i : i + 2])
        expected = self.contents(client)
        self.follow_slowly(client, "key-load-delay")
        self.wait_until(lambda: self.is_loading(client), "it loads")
        server.kill()
        again, client = self.start()
        self.assert_same(client, expected)
        again.stop()


class Stages(SurvivingReplica):
    """Run for each kind of tier."""

    def test_a_kill_while_the_copy_is_loaded_leaves_the_old_dataset(self):
        self.interrupt_load()

    def test_a_kill_while_the_copy_is_loaded_from_the_socket_leaves_the_old_dataset(self):
        self.interrupt_load("repl-diskless-load", "swapdb")

    def test_a_kill_before_the_copy_counts_leaves_the_old_dataset(self):
        dataset.fill(self.writes)
        server, client = self.fill_old()
        expected = self.contents(client)
        self.follow_slowly(client, "rdb-key-save-delay")
        self.wait_until(lambda: is_synced(self.writes, client), "it has the copy")
        self.wait_until(lambda: client.info("tier")["tier_checkpoint_in_progress"] == "1", "a checkpoint is made of it")
        self.writes.ok("SET", "s:new", "written while it is made")
        self.wait_until(lambda: is_synced(self.writes, client), "it follows the stream")
        server.kill()
        _, client = self.start()
        self.assert_same(client, expected)

    def test_a_copy_that_counts_is_what_a_kill_leaves_and_goes_on_from(self):
        dataset.fill(self.writes)
        server, client = self.fill_old()
        client.ok("REPLICAOF", "127.0.0.1", self.primary.port)
        self.wait_until(lambda: is_synced(self.writes, client) and self.is_durable(client), "the copy is durable")
        Writer(self.writes, new_seed()).write(300)
        self.wait_until(lambda: is_synced(self.writes, client), "it has caught up")
        self.keep(client)
        where = history(client)
        server.kill()
        self.writes.ok("SELECT", 2)
        self.writes.ok("SET", "s:late", "while it was away")
        again, client = self.start(follow=self.primary.port)
        self.wait_until(lambda: is_synced(self.writes, client), "it has caught up")
        self.assertEqual(self.writes.info("stats")["sync_full"], "1")
        self.assertEqual(history(client)[0], where[0])
        self.assertEqual(differences(self.writes, client), "")
        again.stop()

    def test_a_copy_that_cannot_be_loaded_leaves_the_old_dataset(self):
        server, client = self.fill_old()
        expected = self.contents(client)
        broken = b"REDIS0010\xfe\x00\x00\x01k\x01v\x77rubbish\xff" + b"\0" * 8
        played = PlayedPrimary(full(broken))
        self.addCleanup(played.stop)
        client.ok("REPLICAOF", "127.0.0.1", played.port)
        server.wait_for_log("Failed trying to load the MASTER synchronization DB")
        self.wait_until(lambda: played.connections > 1, "it tries again")
        server.kill()
        _, client = self.start()
        self.assert_same(client, expected)

    def test_it_is_promoted_and_takes_its_history_along(self):
        dataset.fill(self.writes)
        server, client = self.start(follow=self.primary.port)
        self.wait_until(lambda: is_synced(self.writes, client) and self.is_durable(client), "the copy is durable")
        client.ok("REPLICAOF", "NO", "ONE")
        for database in (0, 3, 1):
            client.ok("SELECT", database)
            client.pipeline([("MULTI",), ("SET", "own", database), ("RPUSH", "list:own", *range(50)), ("EXEC",)])
        self.keep(client)
        expected = self.contents(client)
        replid, offset = history(client)
        server.kill()
        server, client = self.start()
        self.assert_same(client, expected)
        facts = client.info("replication")
        self.assertEqual((facts["master_replid2"], int(facts["second_repl_offset"])), (replid, offset + 1))
        # The former primary has the first id only: it asks for what came behind it, which nobody has any more.
        self.writes.ok("REPLICAOF", "127.0.0.1", server.port)
        self.wait_until(lambda: is_synced(client, self.writes), "the former primary follows")
        self.assertEqual(differences(client, self.writes), "")
        self.writes.ok("REPLICAOF", "NO", "ONE")


@terrace_only("it has no pools")
class OnAPool(Stages):
    tier = ("--pmem-pool", "pool", "--pmem-size", "64mb")
    environment = {"PMEM_IS_PMEM_FORCE": "1"}

    def is_durable(self, client):
        return client.info("pmem")["pmem_journal_status"] == "ok"

    def test_kills_anywhere_leave_one_of_both(self):
        generator = random.Random(new_seed())
        dataset.fill(self.writes)
        server, client = self.fill_old()
        datasets = [self.contents(client), self.contents(self.writes)]
        for _ in range(4):
            client.ok("CONFIG", "SET", "key-load-delay", generator.choice((0, 0, 100, 1000)))
            client.ok("REPLICAOF", "127.0.0.1", self.primary.port)
            server.wait_for_log(generator.choice(("MASTER <-> REPLICA sync started", "Flushing old data",
                                                  "Loading DB in memory", "Finished with success", "checkpoint ")))
            server.kill()
            server, client = self.start()
            now = self.contents(client)
            same = [i for i in (0, 1) if not dataset.differences(datasets[i], now)]
            self.assertNotEqual(same, [], "a dataset that never was")
            if same == [1]:
                client.ok("FLUSHALL")
                client.ok("SET", "old:again", "x")
                datasets[0] = self.contents(client)

    @threads
    def test_a_small_journal_holds_the_stream_up_and_loses_nothing(self):
        server, client = self.start("--threads", 2, follow=self.primary.port)
        self.wait_until(lambda: is_synced(self.writes, client) and self.is_durable(client), "it has caught up")
        size = int(client.info("pmem")["pmem_journal_size"])
        steps = itertools.count()

        def is_overtaken():
            """What comes before the checkpoint of the copy counts is not in the journal: then there is more to be written."""
            for step in itertools.islice(steps, 2 * size // 1_000_000 + 1):
                self.writes.pipeline([("SET", f"key:{step % 7}:{i}", f"{step}:" + "x" * 20_000) for i in range(50)])
            self.wait_until(lambda: is_synced(self.writes, client), "it has caught up")
            return int(client.info("pmem")["pmem_journal_written_bytes"]) > size

        self.wait_until(is_overtaken, "the journal to have been used again")
        self.assertEqual(client.info("pmem")["pmem_journal_losses"], "0")
        server.kill()
        _, client = self.start(follow=self.primary.port)
        self.wait_until(lambda: is_synced(self.writes, client), "it has caught up")
        self.assertEqual(self.writes.info("stats")["sync_full"], "1")
        self.assertEqual(differences(self.writes, client), "")

    def test_a_pool_is_the_primary_of_a_pool_and_both_are_restarted(self):
        server, client = self.start()
        Writer(client, new_seed()).write(300)
        replica = self.start_server(
            *("--pmem-pool", os.path.join(self.folder, "second"), "--pmem-size", "64mb"),
            *("--replicaof", f"127.0.0.1 {server.port}"), environment=self.environment,
        )
        reader = self.connect_to(replica)
        client.ok("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        self.wait_until(lambda: is_synced(client, reader) and self.is_durable(reader), "the copy is durable")
        server.kill()
        again, client = self.start()
        reader.ok("REPLICAOF", "127.0.0.1", again.port)
        self.wait_until(lambda: is_synced(client, reader), "it follows")
        self.assertEqual(client.info("stats")["sync_full"], "0")
        self.assertEqual(differences(client, reader), "")


@terrace_only("it has no tier")
class OnATierThatPersists(Stages):
    tier = ("--tier-path", "tier", "--tier-size", "64mb", "--tier-persist", "yes", "--tier-checkpoint-seconds", "0")

    def is_durable(self, client):
        facts = client.info("tier")
        return facts["tier_checkpoint_in_progress"] == "0" and int(facts["tier_checkpoint_number"]) > 0

    def checkpoints(self, client):
        return int(client.info("tier")["tier_checkpoints"])

    def keep(self, client):
        self.wait_until(lambda: client.info("tier")["tier_checkpoint_in_progress"] == "0", "an earlier one has ended")
        before = self.checkpoints(client)
        client.ok("CONFIG", "SET", "tier-checkpoint-seconds", 1)
        self.wait_until(lambda: self.checkpoints(client) > before, "a checkpoint has been made")
        client.ok("CONFIG", "SET", "tier-checkpoint-seconds", 0)


del Stages
