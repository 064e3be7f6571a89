"""MULTI, EXEC, DISCARD, WATCH, UNWATCH."""

import unittest

from support.case import ServerTest
from support.resp import NULL_ARRAY, NULL_BULK, OK, PONG, QUEUED, ErrorReply, encode_command

ABORTED = "EXECABORT Transaction discarded because of previous errors."


class Transactions(ServerTest):
    # Connections are spread over workers, so that keys are watched by one worker and changed by another.
    server_arguments = ("--threads", "4")

    def test_queue_and_run(self):
        client = self.client()
        self.assert_reply(OK, client, "MULTI")
        self.assert_reply(QUEUED, client, "SET", "a", "1")
        self.assert_reply(QUEUED, client, "INCR", "a")
        self.assert_reply(QUEUED, client, "GET", "missing")
        self.assert_reply(QUEUED, client, "PING")
        self.assertIs(self.client().command("EXISTS", "a"), 0)
        self.assert_reply([OK, 2, NULL_BULK, PONG], client, "EXEC")
        self.assert_error("ERR EXEC without MULTI", client, "EXEC")

    def test_empty(self):
        client = self.client()
        client.ok("MULTI")
        self.assert_reply([], client, "EXEC")

    def test_in_one_write(self):
        client = self.client()
        client.send_raw(b"".join(encode_command(*command) for command in [
            ("SET", "a", "1"), ("MULTI",), ("INCR", "a"), ("MSET", "b", "2", "c", "3"), ("EXEC",), ("MGET", "a", "b", "c")]))
        self.assertEqual([client.read_reply() for _ in range(6)], [OK, OK, QUEUED, QUEUED, [2, OK], [b"2", b"2", b"3"]])

    def test_an_error_while_queueing_aborts(self):
        client = self.client()
        for wrong, text in [
            (("NOSUCH", "x"), "ERR unknown command 'NOSUCH', with args beginning with: 'x' "),
            (("GET",), "ERR wrong number of arguments for 'get' command"),
            (("CLIENT", "NOSUCH"), "ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
        ]:
            client.ok("MULTI")
            self.assert_reply(QUEUED, client, "SET", "a", "1")
            self.assert_error(text, client, *wrong)
            self.assert_reply(QUEUED, client, "SET", "b", "1")
            self.assert_error(ABORTED, client, "EXEC")
        self.assert_reply(0, client, "EXISTS", "a", "b")

    def test_an_error_while_running_does_not_stop_the_rest(self):
        client = self.client()
        client.ok("SET", "text", "abc")
        client.ok("MULTI")
        for command in (("SET", "a", "1"), ("INCR", "text"), ("SET", "b", "2")):
            self.assert_reply(QUEUED, client, *command)
        self.assertEqual(client.command("EXEC"), [OK, ErrorReply("ERR value is not an integer or out of range"), OK])
        self.assert_reply([b"1", b"2"], client, "MGET", "a", "b")

    def test_an_error_counts_for_the_command_that_made_it(self):
        client = self.client()
        client.ok("CONFIG", "RESETSTAT")
        client.ok("MULTI")
        self.assert_reply(QUEUED, client, "SET", "a", "1")
        self.assert_reply(QUEUED, client, "AUTH", "x")
        self.assertIsInstance(client.command("EXEC")[1], ErrorReply)
        self.assertEqual(client.info("errorstats"), {"errorstat_ERR": "count=1"})
        commands = client.info("commandstats")
        for name, failed in (("set", 0), ("auth", 1), ("exec", 0)):
            self.assertTrue(commands[f"cmdstat_{name}"].endswith(f"rejected_calls=0,failed_calls={failed}"), commands)
        self.assert_error("ERR EXEC without MULTI", client, "EXEC")
        self.assertIn("failed_calls=1", client.info("commandstats")["cmdstat_exec"])

    def test_discard(self):
        client = self.client()
        client.ok("MULTI")
        client.ok("SET", "a", "1")
        self.assert_reply(OK, client, "DISCARD")
        self.assert_reply(0, client, "EXISTS", "a")
        self.assert_error("ERR DISCARD without MULTI", client, "DISCARD")

    def test_nesting_is_refused_but_harmless(self):
        client = self.client()
        client.ok("MULTI")
        self.assert_error("ERR MULTI calls can not be nested", client, "MULTI")
        self.assert_reply(QUEUED, client, "SET", "a", "1")
        self.assert_reply([OK], client, "EXEC")

    def test_watch_inside_is_refused_but_harmless(self):
        client = self.client()
        client.ok("MULTI")
        self.assert_error("ERR WATCH inside MULTI is not allowed", client, "WATCH", "k")
        self.assert_reply(QUEUED, client, "SET", "a", "1")
        self.assert_reply([OK], client, "EXEC")

    def test_the_database_may_change_inside(self):
        client = self.client()
        client.ok("MULTI")
        for command in (("SET", "k", "0"), ("SELECT", "5"), ("SET", "k", "5"), ("GET", "k")):
            client.ok(*command)
        self.assert_reply([OK, OK, OK, b"5"], client, "EXEC")
        self.assert_reply(b"5", client, "GET", "k")
        client.ok("SELECT", "0")
        self.assert_reply(b"0", client, "GET", "k")

    def test_a_connection_lost_on_the_way_leaves_nothing(self):
        client = self.client()
        client.ok("MULTI")
        client.ok("SET", "a", "1")
        client.abort()
        self.assert_reply(0, self.client(), "EXISTS", "a")

    def test_commands_that_have_no_place_inside(self):
        client = self.client()
        client.ok("MULTI")
        self.assert_reply(QUEUED, client, "SELECT", "1")
        self.assert_reply(QUEUED, client, "FLUSHALL")
        self.assert_reply(QUEUED, client, "CONFIG", "GET", "maxclients")
        self.assert_reply(QUEUED, client, "CLIENT", "GETNAME")
        replies = client.command("EXEC")
        self.assertEqual(replies[:2], [OK, OK])

    def test_a_large_one(self):
        client = self.client()
        client.ok("MULTI")
        replies = client.pipeline([("INCR", f"k{number % 1000}") for number in range(20000)])
        self.assertEqual(set(replies), {QUEUED})
        replies = client.command("EXEC")
        self.assertEqual(len(replies), 20000)
        self.assertEqual(replies[-1], 20)

    def test_its_memory_is_bounded(self):
        """A queue counts as the client's memory; the limit on the query buffer bounds it."""
        server = self.start_server("--client-query-buffer-limit", "2mb")
        client = self.connect_to(server)
        client.ok("MULTI")
        try:
            for _ in range(40):
                client.send("SET", "k", "x" * 500000)
            replies = [client.read_reply() for _ in range(40)]
        except (OSError, EOFError):
            replies = []
        self.assertIn(set(map(repr, replies)), [{repr(QUEUED)}, set()])
        self.assert_serves(server)


class Watches(ServerTest):
    server_arguments = ("--threads", "4")

    def watched_change(self, change, before=(("SET", "k", "1"),), expect_abort=True):
        """Whether a change of another connection between WATCH and EXEC is noticed."""
        client, other = self.client(), self.client()
        client.ok("FLUSHALL")
        for command in before:
            client.ok(*command)
        client.ok("WATCH", "k")
        for command in change:
            other.ok(*command)
        client.ok("MULTI")
        client.ok("PING")
        self.assertEqual(client.command("EXEC"), NULL_ARRAY if expect_abort else [PONG], (before, change))

    def test_changes_that_count(self):
        for command in [
            ("SET", "k", "2"), ("SET", "k", "1"), ("DEL", "k"), ("UNLINK", "k"), ("APPEND", "k", "x"), ("INCR", "k"),
            ("EXPIRE", "k", "1000"), ("PEXPIREAT", "k", "1"), ("RENAME", "k", "other"), ("FLUSHDB",), ("FLUSHALL",),
            ("SETRANGE", "k", "0", "x"), ("SETBIT", "k", "1", "1"), ("GETSET", "k", "x"), ("GETDEL", "k"), ("MOVE", "k", "1"),
            ("GETEX", "k", "EX", "100"), ("MSET", "a", "1", "k", "2"), ("SWAPDB", "0", "1"), ("SET", "k", "1", "EX", "100"),
            ("FLUSHALL", "ASYNC"), ("BITFIELD", "k", "SET", "u8", "0", "1"), ("BITOP", "NOT", "k", "k"), ("INCRBYFLOAT", "k", "1"),
        ]:
            with self.subTest(command=command):
                self.watched_change([command])

    def test_changes_that_make_a_missing_key(self):
        for command in [("SET", "k", "2"), ("SETNX", "k", "1"), ("APPEND", "k", "x"), ("PFADD", "k", "x"), ("MSETNX", "k", "1")]:
            with self.subTest(command=command):
                self.watched_change([command], before=())
        self.watched_change([("RENAME", "src", "k")], before=(("SET", "src", "1"),))
        self.watched_change([("COPY", "src", "k")], before=(("SET", "src", "1"),))

    def test_what_changes_nothing_does_not_count(self):
        for command in [
            ("GET", "k"), ("SET", "other", "1"), ("SETNX", "k", "1"), ("EXISTS", "k"), ("STRLEN", "k"), ("TTL", "k"),
            ("TOUCH", "k"), ("PERSIST", "k"), ("SET", "k", "2", "NX"), ("DEL", "other"), ("EXPIRE", "k", "10", "XX"),
        ]:
            with self.subTest(command=command):
                self.watched_change([command], expect_abort=False)
        self.watched_change([("FLUSHALL",)], before=(), expect_abort=False)
        self.watched_change([("DEL", "k")], before=(), expect_abort=False)

    def test_the_same_name_in_another_database_does_not_count(self):
        self.watched_change([("SELECT", "1"), ("SET", "k", "2")], expect_abort=False)

    def test_swapping_in_a_key_counts(self):
        self.watched_change([("SELECT", "1"), ("SET", "k", "2"), ("SWAPDB", "0", "1")], before=())

    def test_own_changes_count_too(self):
        client = self.client()
        client.ok("WATCH", "k")
        client.ok("SET", "k", "1")
        client.ok("MULTI")
        client.ok("PING")
        self.assert_reply(NULL_ARRAY, client, "EXEC")

    def test_unwatch_exec_discard_and_reset_forget(self):
        for forget in (("UNWATCH",), ("MULTI", "EXEC"), ("MULTI", "DISCARD"), ("RESET",)):
            client, other = self.client(), self.client()
            client.ok("WATCH", "k")
            for word in forget:
                client.ok(word)
            other.ok("SET", "k", forget[0])
            client.ok("MULTI")
            client.ok("PING")
            self.assert_reply([PONG], client, "EXEC")

    def test_several_keys_on_several_shards(self):
        for changed in range(0, 50, 7):
            client, other = self.client(), self.client()
            client.ok("WATCH", *[f"k{number}" for number in range(50)])
            other.ok("SET", f"k{changed}", "x")
            client.ok("MULTI")
            client.ok("PING")
            self.assert_reply(NULL_ARRAY, client, "EXEC")

    def test_watching_twice_is_fine(self):
        client = self.client()
        client.ok("WATCH", "k", "k")
        client.ok("WATCH", "k")
        client.ok("MULTI")
        client.ok("PING")
        self.assert_reply([PONG], client, "EXEC")

    def test_a_key_that_expires_between_counts(self):
        client = self.client()
        client.pipeline([("SET", "k", "1", "PX", "200"), ("WATCH", "k")])
        self.wait_until(lambda: self.client_alone.command("EXISTS", "k") == 0, "the key is gone")
        client.ok("MULTI")
        client.ok("PING")
        self.assert_reply(NULL_ARRAY, client, "EXEC")

    def test_many_watchers_of_one_key(self):
        clients = [self.client() for _ in range(50)]
        for client in clients:
            client.ok("WATCH", "k")
        clients[0].ok("SET", "k", "1")
        for client in clients:
            client.ok("MULTI")
            client.ok("PING")
            self.assert_reply(NULL_ARRAY, client, "EXEC")

    def test_watchers_that_vanish(self):
        for _ in range(50):
            client = self.client()
            client.ok("WATCH", "k", "a", "b", "c")
            client.abort()
        self.assert_reply(OK, self.client(), "SET", "k", "1")

    def setUp(self):
        super().setUp()
        self.client_alone = self.client()


if __name__ == "__main__":
    unittest.main()
