"""Commands that wait for keys: who is served by whom, what ends a wait, and what is seen of it meanwhile."""

import unittest

from support.case import ServerTest, threads
from support.resp import NULL_ARRAY, OK, PONG, QUEUED, ErrorReply, encode_command


@threads
class Blocking(ServerTest):
    # Connections are spread over workers, so that who waits and who serves are mostly not of the same one.
    server_arguments = ("--threads", "4")

    def setUp(self):
        super().setUp()
        self.control = self.client()
        if not self.control.command("COMMAND", "INFO", "blpop")[0]:
            self.skipTest("the server has no lists yet")

    def blocked_count(self):
        return int(self.control.info("clients")["blocked_clients"])

    def block(self, *command, client=None):
        """Sends a command and waits until the server says that one client more is blocked."""
        client = client or self.client()
        count = self.blocked_count()
        client.send(*command)
        self.wait_until(lambda: self.blocked_count() == count + 1, f"{command[0]} blocks")
        return client

    def assert_answer(self, expected, client):
        self.assertEqual(client.read_reply(), expected)

    def test_in_the_order_of_arrival(self):
        waiting = [self.block("BLPOP", "k", "0") for _ in range(8)]
        self.assert_reply(8, self.control, "RPUSH", "k", *range(8))
        for place, client in enumerate(waiting):
            self.assert_answer([b"k", b"%d" % place], client)
        self.assert_reply(0, self.control, "EXISTS", "k")
        self.assertEqual(self.blocked_count(), 0)

    def test_what_waits_is_never_seen(self):
        waiting = self.block("BLPOP", "other", "k", "0")
        self.control.send_raw(encode_command("RPUSH", "k", "a") + encode_command("EXISTS", "k"))
        self.assertEqual([self.control.read_reply() for _ in range(2)], [1, 0])
        self.assert_answer([b"k", b"a"], waiting)

    def test_after_the_last_command_of_exec(self):
        waiting = self.block("BLPOP", "k", "0")
        for command in (("MULTI",), ("RPUSH", "k", "a", "b"), ("DEL", "k"), ("RPUSH", "k", "c"), ("BLPOP", "none", "0")):
            self.control.command(*command)
        self.assert_reply([2, 1, 1, NULL_ARRAY], self.control, "EXEC")
        self.assert_answer([b"k", b"c"], waiting)

    def test_what_has_expired_while_exec_ran_wakes_nobody(self):
        server = self.start_server("--enable-debug-command", "yes")
        waiting, writer = self.connect_to(server), self.connect_to(server)
        waiting.send("BRPOP", "k", "0")
        self.wait_until(lambda: writer.info("clients")["blocked_clients"] == "1", "the client to block")
        writer.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        writer.ok("MULTI")
        for command in (("RPUSH", "k", "v"), ("PEXPIRE", "k", "100"), ("DEBUG", "SLEEP", "0.2")):
            writer.command(*command)
        self.assertEqual(writer.ok("EXEC"), [1, 1, OK])
        self.assertEqual(writer.info("clients")["blocked_clients"], "1")
        self.assertEqual(writer.ok("DBSIZE"), 1)  # nobody has asked for it yet
        self.assertEqual(writer.ok("EXISTS", "k"), 0)
        self.assertEqual(writer.ok("DBSIZE"), 0)
        writer.ok("RPUSH", "k", "later")
        self.assertEqual(waiting.read_reply(), [b"k", b"later"])

    def test_a_chain_of_moves(self):
        keys = [f"key:{number}" for number in range(10)]
        movers = [self.block("BLMOVE", source, target, "LEFT", "RIGHT", "0") for source, target in zip(keys, keys[1:])]
        last = self.block("BLPOP", keys[-1], "0")
        self.assert_reply(1, self.control, "RPUSH", keys[0], "x")
        for mover in movers:
            self.assert_answer(b"x", mover)
        self.assert_answer([b"key:9", b"x"], last)
        self.assert_reply(0, self.control, "EXISTS", *keys)

    def test_time_is_over(self):
        first, second = self.block("BLPOP", "k", "600"), self.block("BLMOVE", "k", "l", "LEFT", "RIGHT", "600")
        self.assertEqual(int(self.control.info("clients")["clients_in_timeout_table"]), 2)
        self.assert_reply(1, self.control, "RPUSH", "k", "a")
        self.assert_answer([b"k", b"a"], first)
        self.assert_reply(1, self.control, "RPUSH", "k", "a")
        self.assert_answer(b"a", second)
        first.send("BLPOP", "k", "0.3")
        second.send("BLMOVE", "k", "l", "LEFT", "RIGHT", "0.2")
        self.assert_answer(NULL_ARRAY, second)
        self.assert_answer(NULL_ARRAY, first)
        self.assert_reply(1, self.control, "RPUSH", "k", "a")
        self.assert_reply([b"k", b"a"], first, "BLPOP", "k", "0.3")

    def test_what_was_sent_behind_waits(self):
        waiting = self.block("BLPOP", "k", "0")
        waiting.send_raw(b"".join(encode_command(*c) for c in [("PING",), ("BLPOP", "k", "0"), ("RPUSH", "k2", "x")]))
        self.assert_reply(1, self.control, "RPUSH", "k", "a")
        self.assert_answer([b"k", b"a"], waiting)
        self.assert_answer(PONG, waiting)
        self.assert_reply(0, self.control, "EXISTS", "k2")
        self.wait_until(lambda: self.blocked_count() == 1, "the second one blocks")
        self.assert_reply(1, self.control, "RPUSH", "k", "b")
        self.assert_answer([b"k", b"b"], waiting)
        self.assert_answer(1, waiting)

    def test_in_one_write(self):
        client = self.client()
        client.send_raw(b"".join(encode_command(*c) for c in [("BLPOP", "k", "0.01"), ("RPUSH", "k", "a"), ("PING",)]))
        self.assertEqual([client.read_reply() for _ in range(3)], [NULL_ARRAY, 1, PONG])

    def move_for_two(self, in_order):
        """Two clients wait for `k`, the first one to move it where a string is. Unless they are known to wait before `k`
        comes, any order of the three is as good; then the second one may have had its element before the first one
        looked, who goes on waiting for another. None of them is ever forgotten."""
        self.assert_reply(0, self.control, "EXISTS", "k", "list")
        self.control.ok("SET", "text", "x")
        first, second = self.client(), self.client()
        if in_order:
            self.block("BRPOPLPUSH", "k", "text", "0", client=first)
            self.block("BRPOPLPUSH", "k", "list", "0", client=second)
        else:
            first.send("BRPOPLPUSH", "k", "text", "0")
            second.send("BRPOPLPUSH", "k", "list", "0")
        self.assert_reply(1, self.control, "LPUSH", "k", "a")
        self.assert_answer(b"a", second)
        self.assert_reply([b"a"], self.control, "LRANGE", "list", "0", "-1")
        if not in_order:
            self.assert_reply(1, self.control, "LPUSH", "k", "b")
        self.assert_answer(ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value"), first)
        self.assertEqual(self.blocked_count(), 0)
        self.assert_reply(0 if in_order else 1, self.control, "DEL", "k")
        self.assert_reply(1, self.control, "DEL", "list")

    def test_one_who_fails_leaves_it_to_the_next(self):
        for _ in range(20):
            self.move_for_two(in_order=True)

    def test_whatever_the_order_nobody_is_forgotten(self):
        for _ in range(60):
            self.move_for_two(in_order=False)

    def test_a_client_that_leaves_takes_nothing(self):
        first, second = self.block("BLPOP", "k", "0"), self.block("BLPOP", "k", "0")
        first.close()
        self.wait_until(lambda: self.blocked_count() == 1, "the first one has left")
        self.assert_reply(1, self.control, "RPUSH", "k", "a")
        self.assert_answer([b"k", b"a"], second)

    def test_one_that_leaves_with_more_sent_behind(self):
        first = self.block("BLPOP", "k", "0")
        first.send("PING")
        first.close()
        self.wait_until(lambda: self.blocked_count() == 0, "it has left")

    def test_client_unblock(self):
        client = self.client()
        number = client.command("CLIENT", "ID")
        self.assert_reply(0, self.control, "CLIENT", "UNBLOCK", number)
        self.block("BLPOP", "k", "0", client=client)
        self.assert_reply(1, self.control, "CLIENT", "UNBLOCK", number)
        self.assert_answer(NULL_ARRAY, client)
        self.block("BLPOP", "k", "0", client=client)
        self.assert_reply(1, self.control, "CLIENT", "UNBLOCK", number, "ERROR")
        self.assert_answer(ErrorReply("UNBLOCKED client unblocked via CLIENT UNBLOCK"), client)
        self.block("BLPOP", "k", "0", client=client)
        self.assert_reply(1, self.control, "CLIENT", "UNBLOCK", number, "timeout")
        self.assert_answer(NULL_ARRAY, client)
        self.assert_reply(PONG, client, "PING")
        self.assert_reply(0, self.control, "CLIENT", "UNBLOCK", "-1")
        self.assert_error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR", self.control, "CLIENT", "UNBLOCK", "1", "x")
        self.assert_error("ERR value is not an integer or out of range", self.control, "CLIENT", "UNBLOCK", "x")

    def test_client_kill_and_list(self):
        client = self.client()
        number = client.command("CLIENT", "ID")
        self.block("BLPOP", "k", "0", client=client)
        line = self.control.command("CLIENT", "LIST", "ID", number)
        line = getattr(line, "text", line)
        self.assertIn(b" flags=b ", line)
        self.assertIn(b" cmd=blpop ", line)
        self.assert_reply(1, self.control, "CLIENT", "KILL", "ID", number)
        self.assert_closed(client)
        self.wait_until(lambda: self.blocked_count() == 0, "it is gone")

    def test_timeouts_end_during_a_pause(self):
        client, seconds, waits = self.client(), 0.2, False
        self.addCleanup(lambda: self.control.ok("CLIENT", "UNPAUSE"))
        while not waits:  # also when the pause has begun; else it was too short for this machine as it is now
            self.control.ok("CLIENT", "UNPAUSE")
            client.send("BLPOP", "k", seconds)
            self.wait_until(lambda: self.blocked_count() == 1 or client.has_arrived(), "BLPOP blocks, or has ended")
            self.control.ok("CLIENT", "PAUSE", "600000", "WRITE")
            waits = self.blocked_count() == 1 and not client.has_arrived()
            self.assert_answer(NULL_ARRAY, client)
            seconds *= 2

    def test_another_type_serves_nobody(self):
        client = self.block("BLPOP", "k", "0")
        self.control.ok("SET", "k", "text")
        self.assert_reply(1, self.control, "DEL", "k")
        self.control.ok("SET", "k", "text")
        self.assertEqual(self.blocked_count(), 1)
        self.control.ok("MULTI")
        self.assert_reply(QUEUED, self.control, "DEL", "k")
        self.assert_reply(QUEUED, self.control, "RPUSH", "k", "a")
        self.assert_reply([1, 1], self.control, "EXEC")
        self.assert_answer([b"k", b"a"], client)

    def test_keys_that_come_by_other_names_and_databases(self):
        client = self.block("BLPOP", "k", "0")
        self.assert_reply(1, self.control, "RPUSH", "other", "a")
        self.control.ok("RENAME", "other", "k")
        self.assert_answer([b"k", b"a"], client)
        self.block("BLPOP", "k", "0", client=client)
        self.control.ok("SELECT", "1")
        self.assert_reply(1, self.control, "RPUSH", "k", "b")
        self.control.ok("SWAPDB", "0", "1")
        self.assert_answer([b"k", b"b"], client)

    def test_counted_once(self):
        self.control.ok("CONFIG", "RESETSTAT")
        client = self.block("BLPOP", "k", "0")
        self.assert_reply(1, self.control, "RPUSH", "k", "a")
        self.assert_answer([b"k", b"a"], client)
        self.assertIn("calls=1,", self.control.info("commandstats")["cmdstat_blpop"])

    def test_many_producers_and_consumers(self):
        """Each of the items goes to one consumer; those of one producer, on one key, in their order."""
        consumers = [self.client() for _ in range(12)]
        producers = [self.client() for _ in range(4)]
        rounds, seen = 120, []
        for consumer in consumers:
            consumer.send_raw(encode_command("BLPOP", "a", "b", "c", "0") * 40)
        for number, producer in enumerate(producers):
            producer.send_raw(b"".join(
                encode_command("RPUSH", "abc"[place % 3], f"{number}:{place}") for place in range(rounds)))
        for consumer in consumers:
            seen += [consumer.read_reply()[1] for _ in range(40)]
        self.assertEqual(sorted(seen), sorted(b"%d:%d" % (n, place) for n in range(4) for place in range(rounds)))
        for producer in producers:
            for _ in range(rounds):
                self.assertIsInstance(producer.read_reply(), int)

    def test_shutdown_with_blocked_clients(self):
        client = self.block("BLPOP", "k", "0")
        server = self.start_server(*self.server_arguments)
        other = self.connect_to(server)
        other.send("BLPOP", "k", "0")
        server.stop()
        self.assert_closed(other)
        self.assert_reply(1, self.control, "RPUSH", "k", "a")
        self.assert_answer([b"k", b"a"], client)


if __name__ == "__main__":
    unittest.main()
