"""Who may come in: requirepass, AUTH, HELLO, protected mode."""

import unittest

from support.case import ServerTest, terrace_only
from support.resp import NULL_BULK, OK, PONG, ErrorReply, Map, encode_command

WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
NO_PASSWORD_SET = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)


class Passwords(ServerTest):
    server_arguments = ("--requirepass", "secret")

    def setUp(self):
        with self.server.client() as client:
            client.ok("AUTH", "secret")
            client.ok("FLUSHALL")

    def test_nothing_goes_without(self):
        client = self.client()
        for command in (("GET", "k"), ("SET", "k", "v"), ("PING",), ("INFO",), ("CONFIG", "GET", "*"), ("CLIENT", "LIST"),
                        ("MULTI",), ("COMMAND",), ("FLUSHALL",), ("SHUTDOWN", "NOSAVE"), ("MONITOR",), ("SELECT", "1")):
            self.assert_error("NOAUTH Authentication required.", client, *command)

    def test_unknown_commands_are_told_as_such(self):
        self.assert_error("ERR unknown command 'NOSUCH', with args beginning with: ", self.client(), "NOSUCH")
        self.assert_error("ERR wrong number of arguments for 'get' command", self.client(), "GET")

    def test_the_right_password_opens(self):
        client = self.client()
        self.assert_reply(OK, client, "AUTH", "secret")
        self.assert_reply(OK, client, "SET", "k", "v")

    def test_the_default_user_has_it_too(self):
        client = self.client()
        self.assert_reply(OK, client, "AUTH", "default", "secret")
        self.assert_reply(PONG, client, "PING")

    def test_wrong_ones_do_not(self):
        client = self.client()
        for words in (("wrong",), ("",), ("secre",), ("secrets",), ("SECRET",), ("default", "wrong"), ("nobody", "secret"),
                      ("secret\0",)):
            self.assert_error(WRONG_PASSWORD, client, "AUTH", *words)
        self.assert_error("NOAUTH Authentication required.", client, "GET", "k")

    def test_a_wrong_attempt_does_not_log_out(self):
        client = self.client()
        client.ok("AUTH", "secret")
        self.assert_error(WRONG_PASSWORD, client, "AUTH", "wrong")
        self.assert_reply(OK, client, "SET", "k", "v")

    def test_too_many_words(self):
        self.assert_error("ERR syntax error", self.client(), "AUTH", "a", "b", "c")

    def test_hello_with_auth(self):
        client = self.client()
        self.assert_error_starts("NOAUTH HELLO must be called with the client already authenticated", client, "HELLO", "3")
        self.assert_error(WRONG_PASSWORD, client, "HELLO", "3", "AUTH", "default", "wrong")
        self.assertIsInstance(client.ok("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me"), Map)
        self.assert_reply(b"me", client, "CLIENT", "GETNAME")

    def test_reset_logs_out(self):
        client = self.client()
        client.ok("AUTH", "secret")
        self.assertEqual(client.command("RESET").value, b"RESET")
        self.assert_error("NOAUTH Authentication required.", client, "GET", "k")

    def test_quit_is_always_allowed(self):
        client = self.client()
        client.send("QUIT")
        self.assertEqual(client.read_until_closed(), b"+OK\r\n")

    def test_a_pipeline_behind_auth_runs(self):
        client = self.client()
        client.send_raw(encode_command("AUTH", "secret") + encode_command("SET", "k", "v") + encode_command("GET", "k"))
        self.assertEqual([client.read_reply() for _ in range(3)], [OK, OK, b"v"])

    def test_the_password_can_change_while_running(self):
        server = self.start_server()
        old, new = self.connect_to(server), self.connect_to(server)
        self.assert_error(NO_PASSWORD_SET, old, "AUTH", "x")
        old.ok("CONFIG", "SET", "requirepass", "later")
        self.assert_reply(PONG, old, "PING")
        self.assert_error("NOAUTH Authentication required.", self.connect_to(server), "PING")
        self.assert_reply(OK, self.connect_to(server), "AUTH", "later")
        old.ok("CONFIG", "SET", "requirepass", "")
        self.assert_reply(PONG, self.connect_to(server), "PING")
        del new

    def test_a_password_may_hold_any_bytes(self):
        server = self.start_server()
        admin = self.connect_to(server)
        admin.ok("CONFIG", "SET", "requirepass", b"abc\0def", "masterauth", b"\0\xff")
        self.assert_reply([b"requirepass", b"abc\0def"], admin, "CONFIG", "GET", "requirepass")
        self.assert_reply([b"masterauth", b"\0\xff"], admin, "CONFIG", "GET", "masterauth")
        client = self.connect_to(server)
        for wrong in (b"abc", b"abc\0", b"abc\0deg", b"abc\0def\0"):
            self.assert_error(WRONG_PASSWORD, client, "AUTH", wrong)
        self.assert_reply(OK, client, "AUTH", b"abc\0def")

    @terrace_only("7.0 shows it as it is")
    def test_config_get_tells_only_whoever_may_ask(self):
        client = self.client()
        client.ok("AUTH", "secret")
        self.assert_reply([b"requirepass", b"secret"], client, "CONFIG", "GET", "requirepass")


class Hello(ServerTest):
    def test_without_a_version_it_only_tells(self):
        reply = self.client().ok("HELLO")
        fields = dict(zip(reply[::2], reply[1::2]))
        self.assertEqual(list(fields), [b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"])
        self.assertEqual(fields[b"server"], b"redis")
        self.assertEqual((fields[b"proto"], fields[b"mode"], fields[b"role"], fields[b"modules"]), (2, b"standalone", b"master", []))
        self.assertGreaterEqual([int(part) for part in fields[b"version"].split(b".")], [7, 0])

    def test_it_switches_both_ways(self):
        client = self.client()
        self.assertEqual(client.ok("HELLO", "3").get("proto"), 3)
        self.assertNotEqual(client.command("GET", "missing"), NULL_BULK)
        reply = client.ok("HELLO", "2")
        self.assertEqual(reply[reply.index(b"proto") + 1], 2)
        self.assert_reply(NULL_BULK, client, "GET", "missing")

    def test_wrong_versions(self):
        client = self.client()
        for version in ("1", "4", "0", "-3", "99999999"):
            self.assert_error("NOPROTO unsupported protocol version", client, "HELLO", version)
        self.assert_error("ERR Protocol version is not an integer or out of range", client, "HELLO", "x")

    def test_wrong_options(self):
        client = self.client()
        self.assert_error("ERR Syntax error in HELLO option 'what'", client, "HELLO", "3", "what")
        self.assert_error("ERR Syntax error in HELLO option 'AUTH'", client, "HELLO", "3", "AUTH", "default")
        self.assert_error("ERR Syntax error in HELLO option 'SETNAME'", client, "HELLO", "3", "SETNAME")
        self.assert_error_starts("ERR Client names cannot contain spaces", client, "HELLO", "3", "SETNAME", "a b")
        # Nothing of a HELLO that failed is done.
        self.assert_reply(NULL_BULK, client, "GET", "missing")

    def test_reset_goes_back_to_resp2(self):
        client = self.client()
        client.ok("HELLO", "3")
        client.ok("SELECT", "3")
        client.ok("CLIENT", "SETNAME", "me")
        client.ok("MULTI")
        client.ok("RESET")
        self.assert_reply(NULL_BULK, client, "GET", "missing")
        self.assertIn(b" db=0 ", client.ok("CLIENT", "INFO"))
        self.assertIn(b" name= ", client.ok("CLIENT", "INFO"))
        self.assert_error("ERR EXEC without MULTI", client, "EXEC")


class ProtectedMode(ServerTest):
    """Without a password only the host itself may connect."""

    def outside_address(self):
        import socket

        # The address of the route out; connecting a datagram socket sends nothing.
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(("192.0.2.1", 9))
                address = probe.getsockname()[0]
        except OSError:
            self.skipTest("this host has no address but loopback")
        if address.startswith("127."):
            self.skipTest("this host has no address but loopback")
        return address

    def test_others_are_turned_away_with_an_explanation(self):
        address = self.outside_address()
        server = self.start_server("--bind", f"127.0.0.1 {address}")
        self.assert_reply(PONG, self.connect_to(server), "PING")
        outside = self.connect_to(server, host=address)
        self.assertTrue(outside.read_until_closed().startswith(b"-DENIED "))

    def test_with_a_password_they_may_connect(self):
        address = self.outside_address()
        server = self.start_server("--bind", f"127.0.0.1 {address}", "--requirepass", "secret")
        self.assert_reply(OK, self.connect_to(server, host=address), "AUTH", "secret")

    def test_or_when_it_is_off(self):
        address = self.outside_address()
        server = self.start_server("--bind", f"127.0.0.1 {address}", "--protected-mode", "no")
        self.assert_reply(PONG, self.connect_to(server, host=address), "PING")

    def test_an_address_with_a_minus_may_be_missing(self):
        server = self.start_server("--bind", "127.0.0.1 -203.0.113.7")
        self.assert_reply(PONG, self.connect_to(server), "PING")


if __name__ == "__main__":
    unittest.main()
