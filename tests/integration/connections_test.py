"""Connections that wait, idle, are closed, or are too many."""

import os
import resource
import tempfile
import threading
import time
import unittest

from support.case import Busy, ServerTest, terrace_only, threads
from support.client import Client
from support.resp import NULL_BULK, OK, PONG, ErrorReply, Null, Simple, encode_command

# With one tick a second, whatever has to happen sooner cannot be the tick's doing.
SLOW_TICKS = ("--hz", "1", "--threads", "4")
BETWEEN_TICKS_S = 0.2

CAP_SYS_RESOURCE = 1 << 24  # of <linux/capability.h>


class Killing(ServerTest):
    server_arguments = SLOW_TICKS

    @threads
    def test_the_victims_of_all_workers_are_closed_at_once(self):
        killer = self.client()

        def kill():
            self.wait_until(lambda: killer.info("clients")["connected_clients"] == "1", "those before are gone")
            victims = [self.client() for _ in range(12)]
            for victim in victims:
                victim.ok("PING")
            started = time.monotonic()
            self.assert_reply(12, killer, "CLIENT", "KILL", "TYPE", "normal")
            for victim in victims:
                self.assert_closed(victim)
            return time.monotonic() - started

        self.assert_quick(kill, BETWEEN_TICKS_S)

    @threads
    def test_a_killed_one_is_not_listed_any_more(self):
        victim, killer = self.client(), self.client()
        number = victim.ok("CLIENT", "ID")
        self.assertEqual(killer.pipeline([("CLIENT", "KILL", "ID", number), ("CLIENT", "LIST", "ID", number), ("CLIENT", "KILL", "ID", number)]), [1, b"", 0])

    @threads
    def test_everybody_kills_everybody(self):
        def fight():
            for _ in range(30):
                try:
                    with self.server.client() as fighter:
                        fighter.command("SET", "k", "v")
                        fighter.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
                except (EOFError, OSError):
                    pass

        fighters = [threading.Thread(target=fight) for _ in range(6)]
        for fighter in fighters:
            fighter.start()
        for fighter in fighters:
            fighter.join()
        self.assert_serves()

    @threads
    def test_in_the_middle_of_a_transaction_and_of_watching(self):
        victim, killer = self.client(), self.client()
        victim.ok("WATCH", "k")
        victim.ok("MULTI")
        victim.ok("SET", "k", "v")
        self.assert_reply(1, killer, "CLIENT", "KILL", "ID", *self.id_of(victim, killer))
        self.assert_closed(victim)
        self.assert_reply(OK, killer, "SET", "k", "w")

    def id_of(self, client, other):
        address = b" addr=%s:%d " % tuple(part.encode() if isinstance(part, str) else part for part in client.socket.getsockname())
        return [line.split(b" ")[0][3:] for line in other.ok("CLIENT", "LIST").splitlines() if address in line]

    def test_old_and_new_form(self):
        client = self.client()
        for words, text in [
            (("nosuch",), "ERR No such client"),
            (("ID",), "ERR No such client"),
            (("ID", "1", "TYPE"), "ERR syntax error"),
            (("ID", "0"), "ERR client-id should be greater than 0"),
            (("ID", "x"), "ERR client-id should be greater than 0"),
            (("TYPE", "x"), "ERR Unknown client type 'x'"),
            (("USER", "x"), "ERR No such user 'x'"),
            (("SKIPME", "x"), "ERR syntax error"),
            (("WHAT", "x"), "ERR syntax error"),
        ]:
            self.assert_error(text, client, "CLIENT", "KILL", *words)
        own = "%s:%d" % client.socket.getsockname()
        client.send("CLIENT", "KILL", own)
        self.assertEqual(client.read_until_closed(), b"+OK\r\n")


class Pausing(ServerTest):
    server_arguments = SLOW_TICKS

    def tearDown(self):
        with self.server.client() as client:
            client.ok("CLIENT", "UNPAUSE")

    @terrace_only("it looks once a tick")
    @threads
    def test_the_end_is_noticed_when_it_comes(self):
        client, others = self.client(), [self.client() for _ in range(8)]

        def pause():
            started = time.monotonic()
            client.ok("CLIENT", "PAUSE", "200", "WRITE")
            for number, other in enumerate(others):
                other.send("SET", f"k{number}", "v")
            for other in others:
                self.assertEqual(other.read_reply(), OK)
            lasted = time.monotonic() - started
            self.assertGreaterEqual(lasted, 0.195)
            return lasted

        self.assert_quick(pause, 0.2 + BETWEEN_TICKS_S)

    @threads
    def test_unpause_is_noticed_everywhere_at_once(self):
        client, others = self.client(), [self.client() for _ in range(8)]

        def unpause():
            client.ok("CLIENT", "PAUSE", "60000", "WRITE")
            for number, other in enumerate(others):
                other.send("SET", f"k{number}", "v")
            self.wait_until(lambda: client.ok("CLIENT", "LIST").count(b" flags=b ") == 8, "all of them wait")
            started = time.monotonic()
            client.ok("CLIENT", "UNPAUSE")
            for other in others:
                self.assertEqual(other.read_reply(), OK)
            return time.monotonic() - started

        self.assert_quick(unpause, BETWEEN_TICKS_S)

    @threads
    def test_after_the_answer_nothing_is_written(self):
        client, stop = self.client(), threading.Event()

        def write():
            with self.server.client() as writer:
                while not stop.is_set():
                    writer.ok("INCR", "counter")

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(20):
                client.ok("CLIENT", "PAUSE", "60000", "WRITE")
                first = client.command("GET", "counter")
                self.assertEqual([client.command("GET", "counter") for _ in range(20)], [first] * 20)
                client.ok("CLIENT", "UNPAUSE")
        finally:
            stop.set()
            client.ok("CLIENT", "UNPAUSE")
            for writer in writers:
                writer.join()

    def test_a_pipeline_stops_where_it_has_to_and_goes_on_in_order(self):
        client, other = self.client(), self.client()
        client.ok("CLIENT", "PAUSE", "60000", "WRITE")
        other.send_raw(b"".join(encode_command(*words) for words in [("GET", "k"), ("SET", "k", "1"), ("GET", "k"), ("APPEND", "k", "2"), ("GET", "k")]))
        self.assertEqual(other.read_reply(), NULL_BULK)
        self.assert_reply(NULL_BULK, client, "GET", "k")
        client.ok("CLIENT", "UNPAUSE")
        self.assertEqual([other.read_reply() for _ in range(4)], [OK, b"1", 2, b"12"])

    def test_a_shorter_pause_does_not_shorten(self):
        client, other = self.client(), self.client()
        started = time.monotonic()
        client.ok("CLIENT", "PAUSE", "300", "WRITE")
        client.ok("CLIENT", "PAUSE", "1", "WRITE")
        other.ok("SET", "k", "v")
        self.assertGreaterEqual(time.monotonic() - started, 0.295)

    def test_everything_waits_for_the_end_of_all(self):
        client, other = self.client(), self.client()
        started = time.monotonic()
        client.ok("CLIENT", "PAUSE", "200", "ALL")
        other.ok("PING")
        self.assertGreaterEqual(time.monotonic() - started, 0.195)

    def test_clients_that_wait_can_go_or_be_killed(self):
        client, leaving, killed = self.client(), self.client(), self.client()
        number = killed.ok("CLIENT", "ID")
        client.ok("CLIENT", "PAUSE", "60000", "WRITE")
        leaving.send("SET", "left", "v")
        killed.send("SET", "killed", "v")
        self.wait_until(lambda: client.ok("CLIENT", "LIST").count(b" flags=b ") == 2, "both wait")
        leaving.abort()
        self.assert_reply(1, client, "CLIENT", "KILL", "ID", number)
        self.assert_closed(killed)
        client.ok("CLIENT", "UNPAUSE")
        self.assert_reply(0, client, "EXISTS", "killed")

    def test_arguments(self):
        client = self.client()
        for words, text in [
            (("-1",), "ERR timeout is negative"),
            (("x",), "ERR timeout is not an integer or out of range"),
            (("1.5",), "ERR timeout is not an integer or out of range"),
            (("x", "WHAT"), "ERR CLIENT PAUSE mode must be WRITE or ALL"),
            (("1", "ALL", "x"), "ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP."),
        ]:
            self.assert_error(text, client, "CLIENT", "PAUSE", *words)
        self.assert_reply(OK, client, "CLIENT", "PAUSE", "0")
        self.assert_reply(PONG, client, "PING")


class Idling(ServerTest):
    server_arguments = ("--threads", "4", "--timeout", "1")

    def test_only_those_that_do_nothing_are_closed(self):
        idle, monitor, waiting, pausing = (self.client() for _ in range(4))
        monitor.ok("MONITOR")
        pausing.ok("CLIENT", "PAUSE", "600000", "WRITE")
        waiting.send("SET", "k", "v")
        started = time.monotonic()
        idle.ok("PING")
        with Busy(self.server) as busy:
            self.assert_closed(idle)
            self.assertGreaterEqual(time.monotonic() - started, 0.99)
            self.assert_closed(self.client())  # meanwhile those that wait could have been closed as well
        busy.check(self)
        with self.server.client() as client:
            client.ok("CLIENT", "UNPAUSE")
        self.assertEqual(waiting.read_reply(), OK)
        self.assertEqual(monitor.read_reply().value.split(b" ")[-1], b'"PING"')

    @terrace_only("there a client that is being closed may stay as long as it likes")
    def test_a_closing_client_that_does_not_read_does_not_stay(self):
        server = self.start_server("--threads", "2")
        client, deaf = self.connect_to(server), Client(port=server.port, receive_buffer=4096)
        self.addCleanup(deaf.close)
        client.ok("SET", "k", bytes(200000))
        number = deaf.ok("CLIENT", "ID")
        while b" omem=0 " in client.ok("CLIENT", "LIST", "ID", number):
            deaf.send("GET", "k")
            client.ok("PING")
        deaf.send("QUIT")
        self.wait_until(lambda: b" flags=c " in client.ok("CLIENT", "LIST", "ID", number), "it is about to be closed")
        self.wait_until(lambda: client.ok("CLIENT", "LIST", "ID", number) == b"", "it is gone")


class TooMany(ServerTest):
    @threads
    def test_maxclients_holds_whoever_accepts(self):
        server = self.start_server("--threads", "4", "--maxclients", "20")
        served, refused, clients = [], [], []

        def knock():
            for _ in range(10):
                client = server.client()
                clients.append(client)
                client.send("PING")
                try:
                    (served if client.read_reply() == PONG else refused).append(client)
                except (EOFError, ConnectionError):
                    refused.append(client)

        visitors = [threading.Thread(target=knock) for _ in range(6)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        self.assertEqual((len(served), len(refused)), (20, 40))
        for client in clients:
            client.close()
        self.wait_until(lambda: self.is_let_in(server), "there is room again")

    def is_let_in(self, server):
        with server.client() as client:
            client.send("PING")
            try:
                return client.read_reply() == PONG
            except (EOFError, ConnectionError):
                return False

    @terrace_only("it logs and tries again without a pause")
    def test_without_descriptors_it_waits_instead_of_spinning(self):
        server = self.start_server("--threads", "2")
        client = self.connect_to(server)
        client.ok("PING")
        before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        used = max(int(name) for name in os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 3, before[1]))
        visitors = [self.connect_to(server) for _ in range(6)]
        for visitor in visitors:
            visitor.send("PING")
        server.wait_for_log("cannot accept a connection")
        started, ticks = time.monotonic(), self.cpu_ticks(server)
        self.wait_until(lambda: time.monotonic() - started > 1, "a second of looking")
        looked_s = time.monotonic() - started
        busy_s = (self.cpu_ticks(server) - ticks) / os.sysconf("SC_CLK_TCK")
        self.assertLess(busy_s, 0.5 * looked_s)
        self.assertLess(server.log_text().count("cannot accept"), 100 * (1 + looked_s))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
        for visitor in visitors:
            self.assertEqual(visitor.read_reply(), PONG)

    def cpu_ticks(self, server):
        with open(f"/proc/{server.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    @terrace_only("there it is told in other words")
    def test_a_limit_of_open_files_lowers_maxclients(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with open("/proc/self/status", encoding="ascii") as file:
            capabilities = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
        if hard == resource.RLIM_INFINITY or hard > 1 << 24 or capabilities & CAP_SYS_RESOURCE:
            self.skipTest("nothing limits the open files here")
        server = self.start_server("--maxclients", str(hard + 1000))
        server.wait_for_log("maxclients is ")


class Doors(ServerTest):
    def test_the_unix_socket_has_the_permissions_asked_for(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            path = os.path.join(directory, "s")
            server = self.start_server("--unixsocket", path, "--unixsocketperm", "740", "--threads", "2")
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o740)
            client = self.unix_client(path)
            line = client.ok("CLIENT", "INFO")
            self.assertIn(b" addr=%s:0 laddr=%s:0 " % (path.encode(), path.encode()), line)
            self.assertIn(b" flags=U ", line)
            client.close()
            server.stop()
            self.assertFalse(os.path.exists(path))

    def test_who_was_in_stays_in(self):
        server = self.start_server("--threads", "4")
        inside, admin = self.connect_to(server), self.connect_to(server)
        self.assert_reply(PONG, inside, "PING")
        admin.ok("CONFIG", "SET", "requirepass", "secret")
        self.assert_reply(PONG, inside, "PING")
        outside = self.connect_to(server)
        self.assert_error("NOAUTH Authentication required.", outside, "PING")
        # Without a password nobody has to authenticate; who never did is asked again when there is one.
        admin.ok("CONFIG", "SET", "requirepass", "")
        self.assert_reply(PONG, outside, "PING")
        admin.ok("CONFIG", "SET", "requirepass", "other")
        self.assert_error("NOAUTH Authentication required.", outside, "PING")
        self.assert_reply(PONG, inside, "PING")
        self.assert_reply(OK, outside, "AUTH", "other")

    def test_reset_gives_everything_back(self):
        client = self.client()
        client.ok("HELLO", "3", "SETNAME", "me")
        client.ok("SELECT", "9")
        client.ok("WATCH", "k")
        client.ok("MULTI")
        client.send_raw(encode_command("CLIENT", "REPLY", "OFF"))
        self.assertEqual(client.read_reply(), Simple("QUEUED"))
        self.assert_reply(Simple("RESET"), client, "RESET")
        line = client.ok("CLIENT", "INFO")
        for word in (b" name= ", b" db=0 ", b" multi=-1 ", b" resp=2", b" flags=N "):
            self.assertIn(word, line)
        self.assert_reply(NULL_BULK, client, "GET", "missing")

    def test_hello_inside_a_transaction(self):
        client = self.client()
        client.ok("MULTI")
        client.ok("HELLO", "3")
        client.ok("GET", "missing")
        replies = client.ok("EXEC")
        self.assertEqual((replies[0].get("proto"), replies[1]), (3, Null("null")))
        self.assertIsInstance(client.command("AUTH", "x"), ErrorReply)

    def test_quit_ends_a_pipeline(self):
        client = self.client()
        client.send_raw(b"SET k v\r\nQUIT\r\nSET k w\r\n")
        self.assertEqual(client.read_until_closed(), b"+OK\r\n+OK\r\n")
        self.assert_reply(b"v", self.client(), "GET", "k")


if __name__ == "__main__":
    unittest.main()
