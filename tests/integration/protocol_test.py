"""RESP on the wire: inline commands, framing errors, odd but valid input."""

import unittest

from support.case import ServerTest, new_seed
from support.resp import NULL, NULL_ARRAY, NULL_BULK, OK, PONG, ErrorReply, Map, encode_command

MALFORMED = [
    (b"*abc\r\n", "invalid multibulk length"),
    (b"*99999999999999999999\r\n", "invalid multibulk length"),
    (b"* 1\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*1 \r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"),
    (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*9223372036854775807\r\n", "invalid multibulk length"),
    (b"*9223372036854775808\r\n", "invalid multibulk length"),
    (b"*-9223372036854775809\r\n", "invalid multibulk length"),
    (b"*1\r\nx3\r\nfoo\r\n", "expected '$', got 'x'"),
    (b"*1\r\n*1\r\n", "expected '$', got '*'"),
    (b"*1\r\n:1\r\n", "expected '$', got ':'"),
    (b"*1\r\n\r\n", "expected '$', got ' '"),  # the line end, blanked
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    (b"*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
    (b"*1\r\n$18446744073709551616\r\n", "invalid bulk length"),
    (b"*2\r\n$4\r\nECHO\r\n$-9223372036854775808\r\n", "invalid bulk length"),
    (b"*" + b"1" * 70000, "too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 70000, "too big bulk count string"),
    (b"x" * 70000, "too big inline request"),
    (b'SET "a b\r\n', "unbalanced quotes in request"),
    (b"SET 'a b\r\n", "unbalanced quotes in request"),
    (b'SET "a"b c\r\n', "unbalanced quotes in request"),
    (b"SET 'a'b c\r\n", "unbalanced quotes in request"),
]


class MalformedRequests(ServerTest):
    """One clear error, then the connection ends; nobody else notices."""

    def test_each_gets_its_error_and_the_connection_closes(self):
        witness = self.client()
        for request, text in MALFORMED:
            with self.subTest(request=request[:40]):
                client = self.client()
                client.send_to_who_may_close(request)
                # A CR inside the text is sent as a space, since it would end the reply early.
                expected = b"-ERR Protocol error: " + text.replace("\r", " ").encode() + b"\r\n"
                self.assertEqual(client.read_until_closed(), expected)
                self.assertEqual(witness.command("PING"), PONG)

    def test_commands_before_the_error_are_answered(self):
        client = self.client()
        client.send_raw(encode_command("SET", "k", "v") + encode_command("GET", "k") + b"*x\r\n" + encode_command("PING"))
        self.assertEqual(client.read_until_closed(), b"+OK\r\n$1\r\nv\r\n-ERR Protocol error: invalid multibulk length\r\n")

    def test_nothing_after_the_error_runs(self):
        client = self.client()
        client.send_raw(b"*1\r\n$x\r\n" + encode_command("SET", "after", "1"))
        client.read_until_closed()
        self.assert_reply(0, self.client(), "EXISTS", "after")

    def test_a_half_sent_command_leaves_nothing_behind(self):
        whole = encode_command("SET", "half", "value")
        for cut in range(1, len(whole)):
            client = self.client()
            client.send_raw(whole[:cut])
            client.abort()
        self.assert_reply(0, self.client(), "EXISTS", "half")

    def test_random_bytes_never_hurt_anybody_else(self):
        import random

        seed = new_seed()
        print(f"     seed {seed} (TERRACE_TEST_SEED replays)")
        generator = random.Random(seed)
        witness = self.client()
        pieces = [b"*", b"$", b"\r\n", b"-1", b"1", b"3", b"GET", b"SET", b"\0", b'"', b"'", b" ", b"99999999999", b":"]
        for _ in range(300):
            client = self.client()
            data = b"".join(generator.choice(pieces) for _ in range(generator.randrange(1, 40)))
            try:
                client.send_raw(data)
            except OSError:
                pass
            client.abort()
        self.assertEqual(witness.command("PING"), PONG)


class ValidOddities(ServerTest):
    def test_empty_and_negative_arrays_are_ignored(self):
        client = self.client()
        client.send_raw(b"*0\r\n*-1\r\n*-10\r\n" + encode_command("PING"))
        self.assertEqual(client.read_reply(), PONG)

    def test_empty_inline_lines_are_ignored(self):
        client = self.client()
        client.send_raw(b"\r\n\r\n\n   \r\n" + encode_command("PING"))
        self.assertEqual(client.read_reply(), PONG)

    def test_an_empty_command_name_is_an_unknown_command(self):
        client = self.client()
        client.send_raw(b"*1\r\n$0\r\n\r\n")
        self.assertEqual(client.read_reply(), ErrorReply("ERR unknown command '', with args beginning with: "))

    def test_command_names_ignore_case(self):
        client = self.client()
        self.assert_reply(OK, client, "sEt", "k", "v")
        self.assert_reply(b"v", client, "gEt", "k")

    def test_binary_keys_and_values_come_back_unchanged(self):
        client = self.client()
        every_byte = bytes(range(256))
        for key, value in [(every_byte, every_byte), (b"", b""), (b"\r\n", b"\r\n$3\r\n"), (b"\0", b"\0" * 100)]:
            self.assert_reply(OK, client, "SET", key, value)
            self.assert_reply(value, client, "GET", key)

    def test_an_unknown_command_shows_its_arguments(self):
        client = self.client()
        self.assert_error("ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' ", client, "NOSUCH", "a", "b")

    def test_line_ends_inside_an_error_cannot_forge_a_reply(self):
        client = self.client()
        client.send("NOSUCH\r\n+FORGED", "a\r\n+FORGED")
        client.send("PING")
        reply = client.read_reply()
        self.assertIsInstance(reply, ErrorReply)
        self.assertEqual(client.read_reply(), PONG)

    def test_a_long_unknown_command_is_cut(self):
        client = self.client()
        reply = client.command("N" * 10000, *["x" * 1000] * 50)
        self.assertIsInstance(reply, ErrorReply)
        self.assertLess(len(reply.text), 600)
        self.assertEqual(client.command("PING"), PONG)

    def test_many_arguments(self):
        client = self.client()
        keys = [f"key:{number}" for number in range(20000)]
        self.assert_reply(0, client, "EXISTS", *keys)
        self.assert_reply(OK, client, "MSET", *[word for key in keys for word in (key, key)])
        self.assertEqual(client.command("MGET", *keys), [key.encode() for key in keys])
        self.assert_reply(len(keys), client, "DEL", *keys)


class InlineCommands(ServerTest):
    def test_words_are_separated_by_any_white_space(self):
        client = self.client()
        self.assertEqual(client.inline("  SET \t k   v  "), OK)
        self.assertEqual(client.inline("GET k"), b"v")

    def test_double_quotes_know_escapes(self):
        client = self.client()
        self.assertEqual(client.inline(rb'SET k "a b\n\x41\"\\\r\t\a\b\q\xZZ"'), OK)
        self.assertEqual(client.command("GET", "k"), b'a b\nA"\\\r\t\a\bqxZZ')

    def test_single_quotes_know_one_escape(self):
        client = self.client()
        self.assertEqual(client.inline(rb"SET k 'a\n b\'c'"), OK)
        self.assertEqual(client.command("GET", "k"), rb"a\n b'c")

    def test_empty_quotes_are_an_empty_argument(self):
        client = self.client()
        self.assertEqual(client.inline("SET k ''"), OK)
        self.assertEqual(client.command("GET", "k"), b"")
        self.assertEqual(client.inline('SET "" v'), OK)
        self.assertEqual(client.command("GET", ""), b"v")

    def test_a_bare_line_feed_ends_a_line(self):
        client = self.client()
        client.send_raw(b"PING\nPING\r\n")
        self.assertEqual([client.read_reply(), client.read_reply()], [PONG, PONG])

    def test_inline_and_arrays_may_be_mixed_in_one_pipeline(self):
        client = self.client()
        client.send_raw(b"SET a 1\r\n" + encode_command("INCR", "a") + b"INCR a\r\n" + encode_command("GET", "a"))
        self.assertEqual([client.read_reply() for _ in range(4)], [OK, 2, 3, b"3"])


class ReplyTypes(ServerTest):
    def test_nulls_of_resp2(self):
        client = self.client()
        self.assert_reply(NULL_BULK, client, "GET", "missing")
        self.assert_reply([NULL_BULK, NULL_BULK], client, "MGET", "missing", "other")
        client.ok("WATCH", "k")
        self.client().ok("SET", "k", "1")
        client.ok("MULTI")
        self.assert_reply(NULL_ARRAY, client, "EXEC")

    def test_nulls_of_resp3(self):
        client = self.client()
        client.ok("HELLO", "3")
        self.assert_reply(NULL, client, "GET", "missing")
        self.assert_reply([NULL, NULL], client, "MGET", "missing", "other")
        client.ok("WATCH", "k")
        self.client().ok("SET", "k", "1")
        client.ok("MULTI")
        self.assert_reply(NULL, client, "EXEC")

    def test_maps_are_flat_arrays_in_resp2(self):
        client = self.client()
        client.ok("CONFIG", "SET", "maxclients", "1000")
        self.assert_reply([b"maxclients", b"1000"], client, "CONFIG", "GET", "maxclients")
        client.ok("HELLO", "3")
        self.assert_reply(Map([(b"maxclients", b"1000")]), client, "CONFIG", "GET", "maxclients")


if __name__ == "__main__":
    unittest.main()
