"""SLOWLOG: what is kept of slow commands. info_test.py has the basics."""

import os
import unittest

from support.case import ServerTest, threads
from support.resp import OK, Simple


class SlowLog(ServerTest):
    server_arguments = ("--slowlog-log-slower-than", "0", "--threads", "4")

    def names(self, client):
        return [entry[3][0] for entry in client.ok("SLOWLOG", "GET", "-1")]

    def test_everything_is_slow_at_zero(self):
        client = self.client()
        client.ok("SLOWLOG", "RESET")
        client.ok("PING")
        client.ok("ECHO", "x")
        self.assertEqual(self.names(client), [b"ECHO", b"PING", b"SLOWLOG"])

    def test_exec_is_not_kept_but_what_it_runs_is(self):
        client = self.client()
        client.ok("SLOWLOG", "RESET")
        client.ok("MULTI")
        client.ok("SET", "k", "v")
        client.ok("EXEC")
        self.assertEqual(self.names(client), [b"SET", b"MULTI", b"SLOWLOG"])

    def test_secrets_are_blanked(self):
        client = self.client()
        client.ok("SLOWLOG", "RESET")
        client.command("AUTH", "user", "secret")
        client.command("HELLO", "2", "AUTH", "user", "secret")
        client.ok("CONFIG", "SET", "requirepass", "secret")
        client.ok("CONFIG", "SET", "requirepass", "")
        self.assertNotIn(b"secret", repr(client.ok("SLOWLOG", "GET", "-1")).encode())

    def test_a_client_of_the_unix_socket_has_its_path_as_address(self):
        path = os.path.join(self.server.directory, "socket")
        server = self.start_server("--unixsocket", path, "--slowlog-log-slower-than", "0")
        client = self.unix_client(path)
        client.ok("PING")
        self.assertEqual(client.ok("SLOWLOG", "GET", "1")[0][4], path.encode() + b":0")
        self.assertTrue(server.pid)

    def test_arguments(self):
        client = self.client()
        self.assert_error("ERR count should be greater than or equal to -1", client, "SLOWLOG", "GET", "-2")
        self.assert_error("ERR count should be greater than or equal to -1", client, "SLOWLOG", "GET", "x")
        self.assert_reply([], client, "SLOWLOG", "GET", "0")
        self.assertIsInstance(client.ok("SLOWLOG", "HELP")[0], Simple)

    def test_thresholds_can_be_changed(self):
        client = self.client()
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "128"))
        self.assert_reply(OK, client, "CONFIG", "SET", "slowlog-log-slower-than", "3600000000")
        client.ok("SLOWLOG", "RESET")
        client.ok("PING")
        self.assert_reply(0, client, "SLOWLOG", "LEN")
        self.assert_reply(OK, client, "CONFIG", "SET", "slowlog-log-slower-than", "9223372036854775807")
        self.assert_reply(OK, client, "CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "0")
        client.ok("PING")
        self.assert_reply(0, client, "SLOWLOG", "LEN")

    @threads
    def test_all_workers_write_to_it(self):
        clients = [self.client() for _ in range(8)]
        clients[0].ok("CONFIG", "SET", "slowlog-max-len", "1000")
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "slowlog-max-len", "128"))
        clients[0].ok("SLOWLOG", "RESET")
        for client in clients:
            client.send_raw(b"PING\r\n" * 50)
        for client in clients:
            for _ in range(50):
                client.read_reply()
        entries = clients[0].ok("SLOWLOG", "GET", "-1")
        pings = [entry for entry in entries if entry[3] == [b"PING"]]
        self.assertEqual(len(pings), 400)
        self.assertEqual(len({entry[4] for entry in pings}), 8)
        ids = [entry[0] for entry in entries]
        self.assertEqual(ids, sorted(ids, reverse=True))


if __name__ == "__main__":
    unittest.main()
