"""The link to the primary as clients of the replica see it, and what a pause and a writable replica make of it."""

from support.case import OwnServersTest
from support.replicas import Writer, differences, is_synced
from support.resp import OK, Null


class Link(OwnServersTest):
    def setUp(self):
        arguments = ("--repl-diskless-sync-delay", 0, "--enable-debug-command", "yes")
        self.primary_server = self.start_server(*arguments)
        self.replica_server = self.start_server(*arguments, "--replicaof", f"127.0.0.1 {self.primary_server.port}")
        self.primary, self.replica = self.connect_to(self.primary_server), self.connect_to(self.replica_server)
        self.wait_for_sync()

    def wait_for_sync(self):
        self.wait_until(lambda: is_synced(self.primary, self.replica), "it has caught up")

    def masters(self):
        text = self.replica.ok("CLIENT", "LIST", "TYPE", "master").decode()
        return [dict(word.split("=", 1) for word in line.split()) for line in text.splitlines()]

    def test_it_is_in_the_list_of_clients(self):
        (master,) = self.masters()
        self.assertEqual(master["flags"], "M")
        self.assertEqual(master["addr"], f"127.0.0.1:{self.primary_server.port}")
        self.assertIn(f"id={master['id']} ", self.replica.ok("CLIENT", "LIST").decode())
        self.assertNotIn("flags=M", self.replica.ok("CLIENT", "LIST", "TYPE", "normal").decode())
        self.assertEqual(self.primary.ok("CLIENT", "LIST", "TYPE", "master"), b"")

    def check_kill(self, *words, reply):
        partial = int(self.primary.info("stats")["sync_partial_ok"])
        before = self.masters()[0]["id"]
        self.assertEqual(self.replica.ok("CLIENT", "KILL", *words), reply)
        self.primary.ok("INCR", "written")
        self.wait_until(lambda: int(self.primary.info("stats")["sync_partial_ok"]) == partial + 1, "it came back")
        self.wait_for_sync()
        self.assertNotEqual(self.masters()[0]["id"], before)
        self.assertEqual(self.primary.info("stats")["sync_full"], "1")

    def test_killed_it_comes_back_without_a_copy(self):
        self.check_kill("TYPE", "master", reply=1)
        self.check_kill("ID", self.masters()[0]["id"], reply=1)
        self.check_kill(f"127.0.0.1:{self.primary_server.port}", reply=OK)
        self.assertEqual(self.replica.ok("CLIENT", "KILL", "TYPE", "normal"), 0)
        self.assertEqual(self.replica.info("replication")["master_link_status"], "up")

    def test_a_pause_holds_the_stream_up_and_loses_nothing(self):
        self.replica.ok("CLIENT", "PAUSE", 600_000, "WRITE")
        before = self.replica.info("replication")["slave_repl_offset"]
        Writer(self.primary, 5).write(500)
        self.primary.ok("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        end = self.primary.info("replication")["master_repl_offset"]
        self.wait_until(
            lambda: int(self.replica.info("replication")["slave_read_repl_offset"]) >= int(end), "it has come"
        )
        self.assertEqual(self.replica.info("replication")["slave_repl_offset"], before)
        self.replica.ok("CLIENT", "UNPAUSE")
        self.wait_for_sync()
        self.assertEqual(differences(self.primary, self.replica), "")
        self.assertEqual(self.primary.info("stats")["sync_full"], "1")

    def test_more_than_is_held_waits_in_the_sockets(self):
        copies = self.primary.info("stats")["sync_full"]
        self.replica.ok("CLIENT", "PAUSE", 600_000, "WRITE")
        piece = "x" * 1_000_000
        self.primary.pipeline([("SET", f"large:{i % 4}", piece) for i in range(40)])
        self.wait_until(
            lambda: any(int(link["qbuf"]) >= 16 << 20 for link in self.masters()), "as much as is held has come"
        )
        self.replica.ok("CLIENT", "UNPAUSE")
        self.wait_for_sync()
        self.assertEqual(self.replica.ok("STRLEN", "large:3"), len(piece))
        self.assertEqual(self.primary.info("stats")["sync_full"], copies)

    def test_a_writable_replica_expires_its_own_keys_and_no_others(self):
        self.primary.ok("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        self.primary.ok("SET", "theirs", 1, "PX", 30)
        self.wait_for_sync()
        self.replica.ok("CONFIG", "SET", "replica-read-only", "no")
        # Far off at first, so that all are there when they are counted.
        for number in range(5):
            self.replica.ok("SET", f"ours:{number}", 1, "EX", 1000)
        self.replica.ok("SET", "stays", 1)
        self.replica.ok("SADD", "set", 1)
        self.replica.ok("EXPIRE", "set", 1000)
        self.replica.pipeline([("MULTI",), ("SET", "within", 1, "EX", 1000), ("EXEC",)])
        self.assertEqual(self.replica.info("stats")["slave_expires_tracked_keys"], "7")
        self.replica.ok("PERSIST", "ours:0")
        for key in (*(f"ours:{number}" for number in range(1, 5)), "set", "within"):
            self.replica.ok("PEXPIRE", key, 60)
        self.wait_until(lambda: self.replica.ok("DBSIZE") == 3, "what has expired is gone")
        self.wait_until(lambda: self.replica.info("stats")["slave_expires_tracked_keys"] == "0", "and forgotten")
        self.assertEqual(self.replica.ok("GET", "theirs"), Null("bulk"))
        self.assertEqual(self.replica.ok("MGET", "stays", "ours:0"), [b"1", b"1"])
        self.assertEqual(self.primary.ok("DBSIZE"), 1)

    def test_nothing_expires_while_clients_are_paused(self):
        self.primary.ok("DEBUG", "SET-ACTIVE-EXPIRE", 0)  # or it might be removed before the pause
        self.primary.ok("SET", "short", 1, "PX", 20)
        self.primary.ok("CLIENT", "PAUSE", 600_000, "WRITE")
        self.primary.ok("DEBUG", "SET-ACTIVE-EXPIRE", 1)
        self.wait_until(lambda: self.primary.ok("GET", "short") == Null("bulk"), "it has expired")
        self.assertEqual(self.primary.info("stats")["expired_keys"], "0")
        self.assert_error("ERR wrong number of arguments for 'set' command", self.primary, "SET", "x")
        self.primary.ok("CLIENT", "UNPAUSE")
        self.wait_until(lambda: self.primary.info("stats")["expired_keys"] == "1", "it is removed")
