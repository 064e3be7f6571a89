"""CONFIG SET on a running server: what a changed directive does, at once and without losing anybody."""

import os
import socket
import tempfile
import threading
import unittest

from support.case import ServerTest, terrace_only, threads
from support.client import Client
from support.resp import OK, PONG, QUEUED, ErrorReply
from support.server import find_free_port


class ConfigSet(ServerTest):
    """Each test has a server of its own, since it turns it round."""

    def start(self, *arguments):
        server = self.start_server("--threads", "4", *arguments)
        return server, self.connect_to(server)

    def set(self, client, *pairs):
        self.assert_reply(OK, client, "CONFIG", "SET", *pairs)

    def connect(self, port, host="127.0.0.1"):
        client = Client(port=port, host=host)
        self.addCleanup(client.close)
        return client

    def assert_refused(self, port, host="127.0.0.1"):
        with self.assertRaises(ConnectionRefusedError):
            self.connect(port, host)


class Listening(ConfigSet):
    def test_the_port_moves(self):
        server, client = self.start()
        for _ in range(3):
            port = find_free_port()
            self.set(client, "port", port)
            self.assert_refused(server.port)
            for _ in range(8):
                self.assert_reply(PONG, self.connect(port), "PING")
            self.assert_reply([b"port", b"%d" % port], client, "CONFIG", "GET", "port")
        self.set(client, "port", server.port)
        self.assert_reply(PONG, self.connect(server.port), "PING")

    def test_a_port_that_is_taken_is_refused_and_nothing_changes(self):
        server, client = self.start()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            self.assert_error("ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs.",
                              client, "CONFIG", "SET", "timeout", "77", "port", other.getsockname()[1])
        self.assert_reply([b"port", b"%d" % server.port], client, "CONFIG", "GET", "port")
        self.assert_reply([b"timeout", b"0"], client, "CONFIG", "GET", "timeout")
        self.assert_reply(PONG, self.connect(server.port), "PING")

    def test_addresses_come_and_go(self):
        server, client = self.start()
        self.set(client, "bind", "127.0.0.2 127.0.0.3")
        self.assert_refused(server.port)
        self.assert_reply(PONG, self.connect(server.port, "127.0.0.2"), "PING")
        self.set(client, "bind", "127.0.0.3 127.0.0.1 -203.0.113.7")
        self.assert_refused(server.port, "127.0.0.2")
        self.assert_reply(PONG, self.connect(server.port, "127.0.0.3"), "PING")
        self.assert_reply(PONG, self.connect(server.port), "PING")
        self.set(client, "bind", "*")
        self.assert_reply(PONG, self.connect(server.port, "127.0.0.9"), "PING")
        self.set(client, "bind", "127.0.0.1")
        self.assert_refused(server.port, "127.0.0.9")
        self.assert_reply(PONG, self.connect(server.port), "PING")

    def test_an_address_that_is_not_ours_is_refused_and_nothing_changes(self):
        server, client = self.start()
        for _ in range(3):
            self.assert_error("ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses.",
                              client, "CONFIG", "SET", "bind", "127.0.0.2 203.0.113.7")
        self.assert_reply([b"bind", b"127.0.0.1"], client, "CONFIG", "GET", "bind")
        self.assert_reply(PONG, self.connect(server.port), "PING")
        self.assert_refused(server.port, "127.0.0.2")

    @threads
    def test_while_clients_are_coming(self):
        server, client = self.start()
        ports, ended, served = [server.port], threading.Event(), []

        def knock():
            while not ended.is_set():
                try:
                    with Client(port=ports[-1]) as visitor:
                        served.append(visitor.command("PING") == PONG)
                except (ConnectionError, EOFError, OSError):
                    pass  # it came to a door that was being closed

        visitors = [threading.Thread(target=knock) for _ in range(3)]
        for visitor in visitors:
            visitor.start()
        for _ in range(20):
            port = find_free_port()
            if client.command("CONFIG", "SET", "port", port) == OK:
                ports.append(port)
        ended.set()
        for visitor in visitors:
            visitor.join()
        self.assertTrue(all(served))
        self.assertGreater(len(ports), 1)
        self.assert_reply(PONG, self.connect(ports[-1]), "PING")


class Limits(ConfigSet):
    def test_maxclients(self):
        server, client = self.start()
        self.set(client, "maxclients", "3")
        others = [self.connect_to(server) for _ in range(2)]
        for other in others:
            self.assert_reply(PONG, other, "PING")
        self.assertEqual(self.connect_to(server).read_until_closed(), b"-ERR max number of clients reached\r\n")
        self.set(client, "maxclients", "4")
        self.assert_reply(PONG, self.connect_to(server), "PING")

    def test_more_clients_than_the_system_allows(self):
        _, client = self.start()
        self.assert_error_starts("ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to "
                                 "handle the specified number of clients, try with ", client, "CONFIG", "SET", "maxclients", "99999999")
        self.assert_reply([b"maxclients", b"10000"], client, "CONFIG", "GET", "maxclients")

    def test_length_of_an_argument(self):
        server, client = self.start()
        self.set(client, "proto-max-bulk-len", "1mb")
        other = self.connect_to(server)
        other.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n")
        self.assertEqual(other.read_until_closed(), b"-ERR Protocol error: invalid bulk length\r\n")
        self.set(client, "proto-max-bulk-len", "2mb")
        self.assert_reply(OK, client, "SET", "k", bytes(1048577))

    def test_input_that_piles_up(self):
        server, client = self.start()
        other = self.connect_to(server)
        other.ok("PING")
        self.set(client, "client-query-buffer-limit", "1mb")
        try:
            other.send_raw(b"*2\r\n$4\r\nECHO\r\n$10000000\r\n" + bytes(5000000))
        except ConnectionError:
            pass
        self.assertEqual(other.read_until_closed() if self.may_read(other) else b"", b"")

    def may_read(self, client):
        """Whether the connection is not reset already."""
        try:
            return client.socket.recv(1, socket.MSG_PEEK) is not None
        except ConnectionError:
            return False

    def test_output_that_piles_up(self):
        server, client = self.start()
        client.ok("SET", "k", bytes(1000000))
        slow = Client(port=server.port, receive_buffer=4096)
        self.addCleanup(slow.close)
        slow.ok("CLIENT", "SETNAME", "slow")
        self.set(client, "client-output-buffer-limit", "normal 2mb 0 0")
        slow.send_raw(b"GET k\r\n" * 20)
        self.wait_until(lambda: b"name=slow" not in client.ok("CLIENT", "LIST"), "the slow one is closed")

    def test_a_soft_limit_lasts_its_seconds(self):
        server, client = self.start()
        client.ok("SET", "k", bytes(1000000))
        slow = Client(port=server.port, receive_buffer=4096)
        self.addCleanup(slow.close)
        slow.ok("CLIENT", "SETNAME", "slow")
        self.set(client, "client-output-buffer-limit", "normal 0 100kb 1")
        slow.send_raw(b"GET k\r\n" * 8)
        self.wait_until(lambda: b"name=slow" not in client.ok("CLIENT", "LIST"), "the slow one is closed")


class Effects(ConfigSet):
    def test_hyperloglogs_become_dense(self):
        _, client = self.start()
        client.ok("PFADD", "sparse", "a")
        self.set(client, "hll-sparse-max-bytes", "0")
        client.ok("PFADD", "dense", "a")
        self.assertLess(len(client.ok("GET", "sparse")), 100)
        self.assertGreater(len(client.ok("GET", "dense")), 12000)

    def test_frequency_instead_of_idle_time(self):
        _, client = self.start()
        client.ok("SET", "k", "v")
        self.assertIsInstance(client.command("OBJECT", "FREQ", "k"), ErrorReply)
        self.set(client, "maxmemory-policy", "allkeys-lfu", "lfu-log-factor", "0", "lfu-decay-time", "0")
        client.ok("SET", "k", "v")
        client.pipeline([("GET", "k")] * 100)
        self.assertGreater(client.ok("OBJECT", "FREQ", "k"), 50)
        self.assertIsInstance(client.command("OBJECT", "IDLETIME", "k"), ErrorReply)

    def test_the_directory(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            server, client = self.start("--enable-protected-configs", "yes")
            self.set(client, "dir", directory)
            self.assertEqual(os.readlink(f"/proc/{server.pid}/cwd"), os.path.realpath(directory))
            # A directory that goes away while the server stands in it is a matter of its own.
            self.set(client, "dir", server.directory)

    def test_protected_directives(self):
        _, client = self.start()
        self.assert_error("ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config", client, "CONFIG", "SET", "dir", "/")
        _, local = self.start("--enable-protected-configs", "local")
        self.set(local, "dir", "/tmp")

    @terrace_only("it has no such level")
    def test_the_log_level(self):
        server, client = self.start()
        self.set(client, "loglevel", "nothing")
        before = server.log_text()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            client.command("CONFIG", "SET", "port", other.getsockname()[1])
            self.assertEqual(server.log_text(), before)
            self.set(client, "loglevel", "warning")
            client.command("CONFIG", "SET", "port", other.getsockname()[1])
            self.wait_until(lambda: len(server.log_text()) > len(before), "the refusal is logged")

    @terrace_only("it has one thread that ticks")
    def test_hz(self):
        """Each tick is a waking of a worker, which the kernel counts: four in a second at first."""
        server, client = self.start("--hz", "1")
        self.set(client, "hz", "500")
        before = self.wakings(server)
        self.wait_until(lambda: self.wakings(server) > before + 2000, "many ticks of workers that have nothing to do")

    def wakings(self, server):
        count = 0
        for task in os.listdir(f"/proc/{server.pid}/task"):
            with open(f"/proc/{server.pid}/task/{task}/status", encoding="ascii") as file:
                count += next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches:"))
        return count

    def test_inside_a_transaction(self):
        _, client = self.start()
        client.ok("MULTI")
        self.assert_reply(QUEUED, client, "CONFIG", "SET", "timeout", "9")
        self.assert_reply(QUEUED, client, "CONFIG", "GET", "timeout")
        self.assert_reply([OK, [b"timeout", b"9"]], client, "EXEC")

    def test_words_without_values(self):
        client = self.client()
        self.assert_error("ERR syntax error", client, "CONFIG", "SET", "timeout", "1", "hz")
        self.assert_error("ERR wrong number of arguments for 'config|set' command", client, "CONFIG", "SET", "timeout")
        self.assert_error("ERR wrong number of arguments for 'config|get' command", client, "CONFIG", "GET")

    def test_resp3_gets_a_map(self):
        client = self.client()
        client.ok("HELLO", "3")
        self.assertEqual(client.ok("CONFIG", "GET", "timeout").value, [(b"timeout", b"0")])


class Rewriting(ConfigSet):
    @terrace_only("its file is another")
    def test_every_directive_reads_back_what_was_written(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            path = os.path.join(directory, "server.conf")
            with open(path, "w", encoding="ascii") as file:
                file.write("enable-debug-command yes\nmaxmemory 100mb\n")
            server = self.start_server("--threads", "2", config=path)
            client = self.connect_to(server)
            client.ok("CONFIG", "SET", "save", "900 1 60 1000", "notify-keyspace-events", "KEA", "maxmemory-clients", "7%")
            client.ok("DEBUG", "CONFIG-REWRITE-FORCE-ALL")
            with open(path, encoding="utf-8") as file:
                self.assertGreater(len(file.readlines()), 200)
            again = self.connect_to(self.start_server("--save", "900 1 60 1000", config=path))
            wrote, read = (client.ok("CONFIG", "GET", "*") for client in (client, again))
            different = {name for name, one, other in zip(wrote[::2], wrote[1::2], read[1::2]) if one != other}
            self.assertLessEqual(different, {b"port", b"dir"})

    @threads
    def test_several_at_once_leave_a_file_that_starts_a_server(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            path = os.path.join(directory, "server.conf")
            with open(path, "w", encoding="ascii") as file:
                file.write("timeout 1000\n")
            server = self.start_server("--threads", "4", config=path)

            def rewrite(number):
                with server.client() as client:
                    for value in range(1000, 1020):
                        client.ok("CONFIG", "SET", "timeout", str(value + number))
                        client.ok("CONFIG", "REWRITE")
                        client.ok("CONFIG", "GET", "*")

            writers = [threading.Thread(target=rewrite, args=(100 * number,)) for number in range(4)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            client = self.connect_to(server)
            client.ok("CONFIG", "SET", "timeout", "4321")
            client.ok("CONFIG", "REWRITE")
            self.assertEqual([name for name in os.listdir(directory) if name != "server.conf"], [])
            again = self.start_server(config=path)
            self.assert_reply([b"timeout", b"4321"], self.connect_to(again), "CONFIG", "GET", "timeout")


if __name__ == "__main__":
    unittest.main()
