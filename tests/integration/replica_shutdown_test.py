"""SHUTDOWN and SIGTERM wait for replicas, and what a pause of one kind leaves of another."""

import os
import signal

from support.case import OwnServersTest
from support.client import Client
from support.replicas import RawReplica, is_synced
from support.resp import OK, ErrorReply

GIVEN_UP = ErrorReply("ERR Errors trying to SHUTDOWN. Check logs.")


class ReplicaShutdown(OwnServersTest):
    def setUp(self):
        self.server = self.start_server("--repl-diskless-sync-delay", 0, "--shutdown-timeout", 50)
        self.primary = self.connect_to(self.server)

    def attach(self):
        """A replica that acknowledges only when it is told to."""
        replica = RawReplica(self.server.port)
        self.addCleanup(replica.close)
        replica.synchronise()
        self.wait_until(lambda: ",state=online," in str(self.primary.info("replication")["slave0"]), "it is online")
        return replica

    def waiting(self):
        return int(self.primary.info("server").get("shutdown_in_milliseconds", 0)) > 0

    def end_of_stream(self):
        return int(self.primary.info("replication")["master_repl_offset"])

    def check_waits(self, ask):
        replica = self.attach()
        self.primary.ok("SET", "last", "write")
        ask()
        self.wait_until(self.waiting, "it waits")
        with self.connect_to(self.server) as other:
            other.send("SET", "not", "any more")
            self.wait_until(lambda: self.primary.info("clients")["blocked_clients"] != "", "it goes on serving")
            self.assertEqual(self.primary.ok("GET", "last"), b"write")
            self.assertEqual(self.primary.ok("EXISTS", "not"), 0)
            end = self.end_of_stream()
            self.assertIn(b"GETACK", replica.read_stream(end))
            replica.acknowledge()
            self.assertEqual(self.server.wait_for_exit(), 0)
            self.assertTrue(other.is_closed_by_server())
        log = self.server.log_text()
        self.assertIn("1 of 1 replicas are in sync when shutting down.", log)
        self.assertNotIn("Lagging replica", log)

    def test_a_signal_waits_until_the_replica_has_everything(self):
        self.check_waits(lambda: self.server.signal(signal.SIGTERM))

    def test_the_command_too(self):
        caller = self.connect_to(self.server)
        self.check_waits(lambda: caller.send("SHUTDOWN", "NOSAVE"))

    def test_the_wait_ends_in_time_and_the_log_says_who_lagged(self):
        self.attach()
        self.primary.ok("CONFIG", "SET", "shutdown-timeout", 1)
        self.primary.ok("SET", "a", 1)
        self.server.signal(signal.SIGTERM)
        self.assertEqual(self.server.wait_for_exit(), 0)
        self.server.wait_for_log("Lagging replica")
        self.server.wait_for_log("0 of 1 replicas are in sync when shutting down.")

    def test_now_and_a_timeout_of_zero_do_not_wait(self):
        self.attach()
        self.primary.ok("SET", "a", 1)
        self.primary.send("SHUTDOWN", "NOW")
        self.assertEqual(self.server.wait_for_exit(), 0)
        self.assertNotIn("Waiting for replicas", self.server.log_text())

    def test_abort_answers_all_who_wait_and_lets_writes_go_on(self):
        self.attach()
        self.primary.ok("SET", "a", 1)
        callers = [self.connect_to(self.server), self.connect_to(self.server)]
        for caller in callers:
            caller.send("SHUTDOWN")
        self.wait_until(lambda: self.primary.info("clients")["blocked_clients"] == "2", "both wait")
        identity = callers[0]
        writer = self.connect_to(self.server)
        writer.send("SET", "b", 2)
        self.wait_until(self.waiting, "it waits")
        self.assertEqual(self.primary.ok("SHUTDOWN", "ABORT"), OK)
        for caller in callers:
            self.assertEqual(caller.read_reply(), GIVEN_UP)
        self.assertEqual(identity.ok("ECHO", "x"), b"x")
        self.assertEqual(writer.read_reply(), OK)
        self.assert_error("ERR No shutdown in progress.", self.primary, "SHUTDOWN", "ABORT")
        self.assertEqual(self.primary.ok("SHUTDOWN", "ABORT") if self.waiting() else None, None)
        self.server.wait_for_log("Shutdown manually aborted.")
        self.primary.ok("CONFIG", "SET", "shutdown-timeout", 0)

    def test_what_cannot_be_saved_keeps_the_server_also_after_the_wait(self):
        replica = self.attach()
        os.mkdir(os.path.join(self.server.directory, "dump.rdb"))  # in the way of the snapshot
        self.primary.ok("SET", "a", 1)
        caller = self.connect_to(self.server)
        caller.send("SHUTDOWN", "SAVE")
        self.wait_until(self.waiting, "it waits")
        replica.read_stream(self.end_of_stream())
        replica.acknowledge()
        self.assertEqual(caller.read_reply(), GIVEN_UP)
        self.server.wait_for_log("Error trying to save the DB, can't exit.")
        self.assertEqual(self.primary.ok("SET", "b", 1), OK)
        self.primary.send("SHUTDOWN", "SAVE", "FORCE", "NOW")
        self.assertEqual(self.server.wait_for_exit(), 0)

    def test_a_pause_of_a_client_outlasts_a_shutdown_that_is_taken_back(self):
        self.attach()
        self.primary.ok("SET", "a", 1)
        self.primary.ok("CLIENT", "PAUSE", 600_000, "WRITE")
        caller = self.connect_to(self.server)
        caller.send("SHUTDOWN")
        self.wait_until(self.waiting, "it waits")
        writer = self.connect_to(self.server)
        writer.send("SET", "b", 2)
        self.assertEqual(self.primary.ok("SHUTDOWN", "ABORT"), OK)
        self.assertEqual(caller.read_reply(), GIVEN_UP)
        self.assertEqual(self.primary.ok("EXISTS", "b"), 0)
        self.assertEqual(self.primary.ok("CLIENT", "UNPAUSE"), OK)
        self.assertEqual(writer.read_reply(), OK)
        self.primary.ok("CONFIG", "SET", "shutdown-timeout", 0)

    def test_readers_go_on_when_only_writers_have_to_wait_any_longer(self):
        self.attach()
        self.primary.ok("SET", "a", 1)
        caller = self.connect_to(self.server)
        caller.send("SHUTDOWN")
        self.wait_until(self.waiting, "it waits")
        self.primary.ok("CLIENT", "PAUSE", 50, "ALL")
        reader = self.connect_to(self.server)
        self.assertEqual(reader.ok("GET", "a"), b"1")
        self.primary.ok("CONFIG", "SET", "shutdown-timeout", 0)
        self.primary.ok("SHUTDOWN", "ABORT")

    def test_the_end_of_a_failover_leaves_the_pause_of_a_client(self):
        replica = self.start_server("--replicaof", f"127.0.0.1 {self.server.port}")
        other = self.connect_to(replica)
        self.wait_until(lambda: is_synced(self.primary, other), "it has caught up")
        self.primary.ok("CLIENT", "PAUSE", 600_000, "WRITE")
        writer = Client(port=self.server.port)
        self.addCleanup(writer.close)
        self.assertEqual(self.primary.ok("FAILOVER"), OK)
        self.wait_until(lambda: self.primary.info("replication")["role"] == "slave", "the roles are changed")
        self.wait_until(
            lambda: self.primary.info("replication")["master_failover_state"] == "no-failover", "it is complete"
        )
        writer.send("SET", "a", 1)
        self.assertEqual(self.primary.ok("EXISTS", "a"), 0)
        self.assertEqual(self.primary.ok("CLIENT", "UNPAUSE"), OK)
        self.assertTrue(writer.read_reply().text.startswith("READONLY"))
