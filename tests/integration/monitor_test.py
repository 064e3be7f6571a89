"""MONITOR: what is shown, in which order, and who may be kept waiting by it."""

import os
import re
import tempfile
import threading
import unittest

from support.case import ServerTest, terrace_only, threads
from support.client import Client
from support.resp import OK, PONG, QUEUED, ErrorReply, Simple

LINE = re.compile(rb"^(\d+\.\d{6}) \[(\d+) (\S+)\]((?: \"(?:[^\"\\]|\\.)*\")+)$")


def words_of(line):
    """The arguments of a line as text, still escaped."""
    return re.findall(r'"((?:[^"\\]|\\.)*)"', LINE.match(line.value).group(4).decode())


class MonitorTest(ServerTest):
    server_arguments = ("--threads", "4")

    def monitor(self, server=None):
        client = self.connect_to(server) if server else self.client()
        self.assert_reply(OK, client, "MONITOR")
        return client

    def read_lines_until(self, monitor, word):
        lines = []
        while not lines or words_of(lines[-1])[-1] != word:
            lines.append(monitor.read_reply())
        return lines


class Lines(MonitorTest):
    def test_time_database_address_and_arguments(self):
        monitor, sender = self.monitor(), self.client()
        sender.ok("SELECT", "5")
        sender.ok("GET", "")
        first, second = monitor.read_reply(), monitor.read_reply()
        address = b"%s:%d" % tuple(part.encode() if isinstance(part, str) else part for part in sender.socket.getsockname())
        for line in (first, second):
            self.assertIsInstance(line, Simple)
            found = LINE.match(line.value)
            self.assertEqual((found.group(2), found.group(3)), (b"5", address))
        self.assertLessEqual(float(LINE.match(first.value).group(1)), float(LINE.match(second.value).group(1)))
        self.assertEqual((words_of(first), words_of(second)), (["SELECT", "5"], ["GET", ""]))

    def test_every_byte(self):
        monitor, sender = self.monitor(), self.client()
        sender.ok("ECHO", bytes(range(256)))
        plain = {9: r"\t", 10: r"\n", 13: r"\r", 7: r"\a", 8: r"\b", 34: r"\"", 92: r"\\"}
        expected = "".join(plain.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in range(256))
        self.assertTrue(monitor.read_reply().value.decode().endswith(f'"ECHO" "{expected}"'))

    def test_secrets_and_administration_are_left_out(self):
        monitor, sender = self.monitor(), self.client()
        for command in (("AUTH", "secret"), ("AUTH", "default", "secret"), ("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me"), ("HELLO", "2"),
                        ("CONFIG", "GET", "maxclients"), ("CLIENT", "LIST"), ("CLIENT", "ID"), ("NOSUCH", "x"), ("GET",), ("ECHO", "end")):
            sender.command(*command)
        shown = [words_of(line) for line in self.read_lines_until(monitor, "end")]
        self.assertEqual(shown, [["AUTH", "(redacted)"], ["AUTH", "(redacted)", "(redacted)"],
                                 ["HELLO", "3", "AUTH", "(redacted)", "(redacted)", "SETNAME", "me"], ["HELLO", "2"], ["CLIENT", "ID"], ["ECHO", "end"]])

    def test_a_transaction_is_shown_as_it_runs(self):
        monitor, sender = self.monitor(), self.client()
        sender.ok("MULTI")
        sender.ok("SET", "k", "v")
        sender.ok("SELECT", "6")
        sender.ok("EXEC")
        sender.ok("ECHO", "end")
        lines = self.read_lines_until(monitor, "end")
        self.assertEqual([words_of(line)[0] for line in lines], ["MULTI", "SET", "SELECT", "EXEC", "ECHO"])
        self.assertEqual([LINE.match(line.value).group(2) for line in lines], [b"0", b"0", b"6", b"6", b"6"])

    def test_clients_of_the_unix_socket(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            path = os.path.join(directory, "s")
            server = self.start_server("--unixsocket", path)
            monitor, sender = self.monitor(server), self.unix_client(path)
            sender.ok("PING")
            self.assertTrue(monitor.read_reply().value.endswith(b' [0 unix:%s] "PING"' % path.encode()))


class Order(MonitorTest):
    @threads
    def test_commands_that_wait_for_each_other_are_shown_in_order(self):
        monitor, senders = self.monitor(), [self.client() for _ in range(8)]
        for number in range(400):
            senders[number % 8].ok("ECHO", str(number))
        lines = self.read_lines_until(monitor, "399")
        self.assertEqual([words_of(line)[1] for line in lines], [str(number) for number in range(400)])

    @threads
    def test_nothing_older_than_the_monitor_is_shown(self):
        for _ in range(8):
            self.monitor()
        for _ in range(8):
            late = self.client()
            late.send_raw(b"ECHO before\r\nMONITOR\r\nECHO after\r\n")
            self.assertEqual([late.read_reply() for _ in range(3)], [b"before", OK, b"after"])
            self.assertEqual(words_of(late.read_reply()), ["ECHO", "after"])
            late.close()

    @threads
    def test_pipelines_from_all_sides_reach_all_monitors_whole(self):
        monitors, count = [self.monitor() for _ in range(4)], 300

        def send(number):
            with self.server.client() as client:
                client.pipeline([("ECHO", f"{number}:{i}") for i in range(count)])

        senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        for monitor in monitors:
            shown = [words_of(monitor.read_reply())[1] for _ in range(4 * count)]
            for number in range(4):
                own = [word for word in shown if word.startswith(f"{number}:")]
                self.assertEqual(own, [f"{number}:{i}" for i in range(count)])


class MonitorsAsClients(MonitorTest):
    def test_it_may_ask_but_not_touch_keys(self):
        monitor = self.monitor()
        self.assert_error("ERR Replica can't interact with the keyspace", monitor, "GET", "k")
        self.assert_error("ERR Replica can't interact with the keyspace", monitor, "SET", "k", "v")
        self.assert_reply(PONG, monitor, "PING")
        self.assertEqual(words_of(monitor.read_reply()), ["PING"])

    def test_a_second_monitor_command_has_no_reply(self):
        monitor = self.monitor()
        monitor.send("MONITOR")
        monitor.send("ECHO", "x")
        self.assertEqual(monitor.read_reply(), b"x")

    def test_not_inside_a_transaction(self):
        client = self.client()
        client.ok("MULTI")
        self.assert_reply(QUEUED, client, "MONITOR")
        self.assert_reply([ErrorReply("ERR MONITOR isn't allowed for DENY BLOCKING client")], client, "EXEC")

    def test_reset_ends_it(self):
        monitor, sender = self.monitor(), self.client()
        monitor.send("RESET")
        self.assertEqual(monitor.read_reply(), Simple("RESET"))
        sender.ok("SET", "k", "v")
        self.assert_reply(b"v", monitor, "GET", "k")
        self.assert_reply(OK, monitor, "MONITOR")
        sender.ok("ECHO", "x")
        self.assertEqual(words_of(monitor.read_reply()), ["ECHO", "x"])

    def test_it_is_listed_and_can_be_killed(self):
        monitor, client = self.client(), self.client()
        number = monitor.ok("CLIENT", "ID")
        self.assert_reply(OK, monitor, "MONITOR")
        self.assertIn(b" flags=O ", client.ok("CLIENT", "LIST", "ID", number))
        self.assertIn(b" cmd=monitor ", client.ok("CLIENT", "LIST", "ID", number))
        self.assert_reply(1, client, "CLIENT", "KILL", "ID", number)
        while monitor.read_raw():
            pass
        self.assert_reply(PONG, client, "PING")

    def test_it_is_not_paused(self):
        monitor, client = self.monitor(), self.client()
        client.ok("CLIENT", "PAUSE", "60000", "WRITE")
        self.addCleanup(lambda: self.client().ok("CLIENT", "UNPAUSE"))
        self.assert_reply(PONG, monitor, "PING")

    def test_it_goes_away_in_the_middle(self):
        sender = self.client()
        for number in range(50):
            monitor = self.monitor()
            sender.send_raw(b"PING\r\n" * 20)
            if number % 2:
                monitor.abort()
            else:
                monitor.close()
            self.assertEqual([sender.read_reply() for _ in range(20)], [PONG] * 20)


class SlowMonitors(MonitorTest):
    def test_a_limit_of_normal_clients_holds(self):
        server = self.start_server("--client-output-buffer-limit", "normal 1mb 0 0", "--threads", "4")
        self.flood(server)

    @terrace_only("there monitors of a server without that limit grow for ever")
    def test_without_one_that_of_pubsub_holds(self):
        server = self.start_server("--client-output-buffer-limit", "pubsub 1mb 0 0", "--threads", "4")
        self.flood(server)

    def flood(self, server):
        monitor = Client(port=server.port, receive_buffer=4096)
        self.addCleanup(monitor.close)
        monitor.ok("MONITOR")
        senders = [self.connect_to(server) for _ in range(3)]
        for _ in range(40):
            for sender in senders:
                sender.pipeline([("ECHO", "x" * 1000)] * 100)
        self.wait_until(lambda: b" flags=O " not in senders[0].ok("CLIENT", "LIST"), "the monitor is closed")

    @terrace_only("there its client grows by the whole line")
    def test_a_line_that_is_too_long_closes_the_monitor(self):
        monitor, sender = self.monitor(), self.client()
        sender.ok("SET", "k", bytes(20 * 1024 * 1024))
        while monitor.read_raw():
            pass
        self.assert_reply(20 * 1024 * 1024, sender, "STRLEN", "k")


if __name__ == "__main__":
    unittest.main()
