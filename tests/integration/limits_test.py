"""What no client may take: too many connections, too much memory, for ever."""

import os
import threading
import unittest

from support.case import Busy, ServerTest, long_test, terrace_only
from support.resp import OK, PONG, ErrorReply, encode_command

MEGABYTE = 1 << 20


class Connections(ServerTest):
    def test_one_too_many_is_told_so(self):
        server = self.start_server("--maxclients", "10")
        clients = [self.connect_to(server) for _ in range(10)]
        for client in clients:
            self.assert_reply(PONG, client, "PING")
        refused = self.connect_to(server)
        self.assertEqual(refused.read_until_closed(), b"-ERR max number of clients reached\r\n")
        clients[0].close()
        self.wait_until(lambda: int(clients[1].info("clients")["connected_clients"]) == 9, "a place is free")
        self.assert_reply(PONG, self.connect_to(server), "PING")

    def test_the_limit_can_be_raised_while_running(self):
        server = self.start_server("--maxclients", "2")
        first, second = self.connect_to(server), self.connect_to(server)
        self.assert_reply(PONG, second, "PING")
        first.ok("CONFIG", "SET", "maxclients", "3")
        self.assert_reply(PONG, self.connect_to(server), "PING")

    def test_a_thousand_come_and_go(self):
        for _ in range(10):
            clients = [self.server.client() for _ in range(100)]
            for number, client in enumerate(clients):
                client.send("ECHO", number)
            for number, client in enumerate(clients):
                self.assertEqual(client.read_reply(), str(number).encode())
                client.close()
        witness = self.client()
        self.wait_until(lambda: witness.info("clients")["connected_clients"] == "1", "all others are gone")

    def test_idle_clients_are_closed_and_busy_ones_not(self):
        server = self.start_server("--timeout", "1")
        idle = self.connect_to(server)
        idle.command("PING")
        with Busy(server) as busy:
            self.assert_closed(idle)
        busy.check(self)

    def test_idle_timeout_may_be_set_while_running(self):
        client, admin = self.client(), self.client()
        client.command("PING")
        admin.ok("CONFIG", "SET", "timeout", "1")
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "timeout", "0"))
        self.assert_closed(client)


class SlowReaders(ServerTest):
    """A client that does not read what it asked for is bounded, or ends."""

    def slow_client(self, server=None):
        """A connection with small buffers, accepted for sure."""
        client = self.connect_to(server or self.server, receive_buffer=4096)
        client.ok("PING")
        return client

    def fill(self, client, commands):
        """Sends in the background until all is sent or the server closes."""

        def send():
            try:
                for _ in range(commands):
                    client.send_raw(encode_command("GET", "big") * 20)
            except OSError:
                pass

        worker = threading.Thread(target=send)
        worker.start()
        self.addCleanup(worker.join)
        self.addCleanup(client.close)
        return worker

    def test_the_hard_limit_closes(self):
        server = self.start_server("--client-output-buffer-limit", "normal 20mb 0 0")
        writer = self.connect_to(server)
        writer.ok("SET", "big", "x" * MEGABYTE)
        slow = self.slow_client(server)
        self.fill(slow, 50)
        self.wait_until(lambda: writer.info("clients")["connected_clients"] == "1", "the slow client is closed")
        self.assert_serves(server)

    def test_the_soft_limit_closes_after_its_time(self):
        server = self.start_server("--client-output-buffer-limit", "normal 0 5mb 1")
        writer = self.connect_to(server)
        writer.ok("SET", "big", "x" * MEGABYTE)
        slow = self.slow_client(server)
        slow.send_raw(encode_command("GET", "big") * 40)
        self.wait_until(lambda: writer.info("clients")["connected_clients"] == "1", "the slow client is closed")

    def test_the_limit_can_be_set_while_running(self):
        admin = self.client()
        admin.ok("CONFIG", "SET", "client-output-buffer-limit", "normal 10mb 0 0")
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0"))
        admin.ok("SET", "big", "x" * MEGABYTE)
        slow = self.slow_client()
        self.fill(slow, 20)
        self.wait_until(lambda: admin.info("clients")["connected_clients"] == "1", "the slow client is closed")

    @terrace_only("it lets such a client grow without bound")
    def test_values_that_lie_in_memory_anyway_may_wait(self):
        server = self.start_server()
        control, slow = self.connect_to(server), self.connect_to(server)
        control.ok("SET", "k", b"x" * MEGABYTE)
        number = slow.ok("CLIENT", "ID")
        slow.send_raw(b"GET k\r\n" * 40)

        def waiting():
            line = control.ok("CLIENT", "LIST", "ID", number).decode()
            return int(line.split(" tot-mem=")[1].split()[0])

        self.wait_until(lambda: waiting() > 10 * MEGABYTE, "ten of them")
        self.assertLess(waiting(), 20 * MEGABYTE)
        for _ in range(40):
            self.assertEqual(len(slow.read_reply()), MEGABYTE)

    def test_without_a_limit_memory_is_still_bounded(self):
        server = self.start_server()
        writer = self.connect_to(server)
        writer.ok("SET", "big", "x" * MEGABYTE)
        before = server.resident_bytes()
        slow = self.slow_client(server)
        self.fill(slow, 100)
        for _ in range(200):
            self.assert_reply(PONG, writer, "PING")
        self.assertLess(server.resident_bytes() - before, 1024 * MEGABYTE)

    def test_others_are_served_meanwhile(self):
        writer = self.client()
        writer.ok("SET", "big", "x" * MEGABYTE)
        slow = self.slow_client()
        slow.send_raw(encode_command("GET", "big") * 40)
        for number in range(500):
            self.assert_reply(OK, writer, "SET", "other", number)

    def test_all_arrives_once_it_reads_again(self):
        writer = self.client()
        value = os.urandom(MEGABYTE)
        writer.ok("SET", "big", value)
        slow = self.slow_client()
        slow.send_raw(encode_command("GET", "big") * 30 + encode_command("PING"))
        # The first reply has come, so some were asked for; the rest of them cannot have been sent yet. Overwritten
        # now, what was asked for before must still arrive.
        replies = [slow.read_reply()]
        writer.ok("SET", "big", "small")
        replies += [slow.read_reply() for _ in range(29)]
        before = replies.count(value)
        self.assertGreater(before, 0)
        self.assertTrue(replies == [value] * before + [b"small"] * (30 - before), "replies of another order or content")
        self.assertEqual(slow.read_reply(), PONG)


class QueryBuffer(ServerTest):
    def test_what_is_shown_of_a_value_that_comes_is_the_value(self):
        control, client = self.client(), self.client()
        number = client.ok("CLIENT", "ID")
        client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n" + b"x" * 1000000)
        self.wait_until(lambda: b" qbuf=1000000 " in control.ok("CLIENT", "LIST", "ID", number), "the first half")
        client.send_raw(b"x" * 1000000 + b"\r\n")
        self.assertEqual(client.read_reply(), OK)

    def test_the_limit_closes(self):
        server = self.start_server("--client-query-buffer-limit", "2mb")
        client = self.connect_to(server)
        try:
            client.send_raw(b"*2\r\n$4\r\nECHO\r\n$10000000\r\n" + b"x" * 9000000)
        except OSError:
            pass
        self.assertEqual(client.read_until_closed(), b"")
        self.assert_serves(server)

    def test_a_command_that_ends_beyond_it_is_not_run(self):
        server = self.start_server("--client-query-buffer-limit", "1mb")
        client = self.connect_to(server)
        try:
            client.send_raw(encode_command("SET", "k", b"x" * MEGABYTE))
        except OSError:
            pass
        self.assertTrue(client.is_closed_by_server())
        control = self.connect_to(server)
        self.assert_reply(0, control, "EXISTS", "k")
        self.assertEqual(control.info("stats")["client_query_buffer_limit_disconnections"], "1")

    def test_a_value_below_the_limit_is_fine(self):
        server = self.start_server("--client-query-buffer-limit", "2mb")
        value = b"x" * MEGABYTE
        self.assert_reply(value, self.connect_to(server), "ECHO", value)

    def test_proto_max_bulk_len(self):
        server = self.start_server("--proto-max-bulk-len", "1mb")
        client = self.connect_to(server)
        self.assert_reply(OK, client, "SET", "k", b"x" * MEGABYTE)
        self.assert_error("ERR string exceeds maximum allowed size (proto-max-bulk-len)", client, "APPEND", "k", "x")
        self.assert_error("ERR string exceeds maximum allowed size (proto-max-bulk-len)", client, "SETRANGE", "k", MEGABYTE, "x")
        client.send_raw(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n")
        self.assertEqual(client.read_until_closed(), b"-ERR Protocol error: invalid bulk length\r\n")

    def test_announcing_much_costs_nothing(self):
        before = self.server.resident_bytes()
        clients = [self.client() for _ in range(50)]
        for client in clients:
            client.send_raw(b"*1000000\r\n$536870912\r\n")
        for client in clients:
            client.send_raw(b"x")
        self.assert_serves()
        self.assertLess(self.server.resident_bytes() - before, 512 * MEGABYTE)


class BeforeAuthentication(ServerTest):
    server_arguments = ("--requirepass", "secret")

    def setUp(self):
        pass

    def test_few_arguments_only(self):
        client = self.client()
        client.send_raw(b"*11\r\n")
        self.assertEqual(client.read_until_closed(), b"-ERR Protocol error: unauthenticated multibulk length\r\n")

    def test_ten_arguments_are_fine(self):
        self.assert_error("NOAUTH Authentication required.", self.client(), "DEL", *"123456789")

    def test_small_arguments_only(self):
        client = self.client()
        client.send_raw(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n")
        self.assertEqual(client.read_until_closed(), b"-ERR Protocol error: unauthenticated bulk length\r\n")

    def test_sixteen_kilobytes_are_fine(self):
        self.assert_error("NOAUTH Authentication required.", self.client(), "ECHO", "x" * 16384)

    def test_afterwards_the_limits_are_gone(self):
        client = self.client()
        client.ok("AUTH", "secret")
        self.assert_reply(0, client, "EXISTS", *range(100))
        self.assert_reply(b"x" * 20000, client, "ECHO", "x" * 20000)

    @terrace_only("since 7.2.8")
    def test_who_has_no_password_and_does_not_read_is_closed(self):
        client = self.client(receive_buffer=4096)
        with self.assertRaises(ConnectionError):
            for _ in range(2000):
                client.send_raw(b"SET x 5\r\n" * 1000)

    @terrace_only("its output buffer grows")
    def test_a_flood_without_reading_does_not_grow_memory(self):
        before = self.server.resident_bytes()
        client = self.client(receive_buffer=4096, timeout=2)
        try:
            for _ in range(200):
                client.send_raw(encode_command("GET", "k") * 5000)
        except OSError:
            pass
        self.assertLess(self.server.resident_bytes() - before, 64 * MEGABYTE)
        with self.server.client() as witness:
            self.assertEqual(witness.command("AUTH", "secret"), OK)


class BigValues(ServerTest):
    def check_size(self, size):
        client = self.client(timeout=120)
        value = os.urandom(MEGABYTE) * (size // MEGABYTE) + b"end"
        self.assert_reply(OK, client, "SET", "big", value)
        self.assert_reply(len(value), client, "STRLEN", "big")
        self.assertTrue(client.command("GET", "big") == value)
        self.assert_reply(value[-5:], client, "GETRANGE", "big", -5, -1)
        self.assert_reply(len(value) + 4, client, "APPEND", "big", "tail")
        self.assert_reply(len(value) + 4, client, "SETRANGE", "big", size // 2, "middle")
        self.assert_reply(b"middle", client, "GETRANGE", "big", size // 2, size // 2 + 5)
        self.assert_reply(b"endtail", client, "GETRANGE", "big", -7, -1)
        self.assert_reply(1, client, "DEL", "big")

    def test_64_megabytes(self):
        self.check_size(64 * MEGABYTE)

    @long_test
    def test_511_megabytes(self):
        self.check_size(511 * MEGABYTE)

    @long_test
    def test_512_megabytes_and_not_a_byte_more(self):
        client = self.client(timeout=300)
        value = bytes(512 * MEGABYTE)
        self.assert_reply(OK, client, "SET", "big", value)
        self.assert_reply(len(value), client, "STRLEN", "big")
        self.assert_error("ERR string exceeds maximum allowed size (proto-max-bulk-len)", client, "APPEND", "big", "x")
        self.assertTrue(client.command("GET", "big") == value)

    def test_a_key_may_be_big_too(self):
        client = self.client()
        key = os.urandom(8 * MEGABYTE)
        self.assert_reply(OK, client, "SET", key, "v")
        self.assert_reply(b"v", client, "GET", key)
        self.assert_reply([key], client, "KEYS", "*")
        self.assert_reply(1, client, "DEL", key)

    def test_freed_memory_is_given_back(self):
        client = self.client()
        client.ok("PING")
        before = self.server.resident_bytes()
        for number in range(10):
            client.ok("SET", f"big{number}", b"x" * (16 * MEGABYTE))
        client.ok("DEL", *[f"big{number}" for number in range(10)])
        client.close()
        self.wait_until(lambda: self.server.resident_bytes() - before < 64 * MEGABYTE, "the memory is back")


if __name__ == "__main__":
    unittest.main()
