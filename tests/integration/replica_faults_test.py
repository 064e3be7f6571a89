"""What a replica makes of a primary that lies, breaks off or sends rubbish: a line of the log and another try, with the
old dataset kept. The primary is played by the test."""

import random
import socket
import struct
import threading
import unittest

from support.case import ServerTest, long_run, new_seed
from support.resp import NULL_BULK

ID = "a" * 40
MARK = "m" * 40
EMPTY_RDB = b"REDIS0010\xff" + b"\0" * 8  # without a checksum
# One key "k" with the value "v".
ONE_KEY = b"REDIS0010\xfe\x00\x00\x01k\x01v\xff" + b"\0" * 8


def command(*words):
    data = b"*%d\r\n" % len(words)
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        data += b"$%d\r\n%s\r\n" % (len(word), word)
    return data


class PlayedPrimary:
    """Answers the handshake, then sends what the scripts say: one script for each connection, the last for the rest.

    A script is bytes to be sent after PSYNC; afterwards the connection is closed, or kept if `stays`.
    """

    def __init__(self, *scripts, stays=False):
        self.scripts, self.stays = list(scripts), stays
        self.asked = []
        self.received = bytearray()
        self.connections = 0
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)
        for one in self.open:
            one.close()

    def _run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                self._serve(connection)
            except OSError:
                pass
            if self.stays:
                self.open.append(connection)
            else:
                connection.close()

    def _serve(self, connection):
        connection.settimeout(60)
        file = connection.makefile("rb")
        while True:
            words = [file.readline()]
            if not words[0]:
                return
            count = int(words[0][1:])
            words = []
            for _ in range(count):
                length = int(file.readline()[1:])
                words.append(file.read(length + 2)[:-2])
            name = words[0].upper()
            if name == b"PSYNC":
                self.asked.append(words[1:])
                connection.sendall(self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0])
                return
            connection.sendall(b"+PONG\r\n" if name == b"PING" else b"+OK\r\n")


def full(rdb, offset=100, by_mark=False):
    head = f"+FULLRESYNC {ID} {offset}\r\n".encode()
    if by_mark:
        return head + b"$EOF:" + MARK.encode() + b"\r\n" + rdb + MARK.encode()
    return head + b"$%d\r\n" % len(rdb) + rdb


class ReplicaFaultsTest(ServerTest):
    server_arguments = ("--enable-debug-command", "yes")

    def setUp(self):
        with self.server.client() as client:
            client.ok("REPLICAOF", "NO", "ONE")
            client.ok("FLUSHALL")
            client.ok("SET", "old", "value")

    def tearDown(self):
        with self.server.client() as client:
            self.wait_until(lambda: client.command("REPLICAOF", "NO", "ONE").value == b"OK", "it is left alone")

    def follow(self, *scripts, stays=False):
        primary = PlayedPrimary(*scripts, stays=stays)
        self.addCleanup(primary.stop)
        client = self.client()
        client.ok("REPLICAOF", "127.0.0.1", primary.port)
        return primary, client

    def test_answers_that_are_none_are_followed_by_another_try_and_nothing_is_lost(self):
        answers = [
            b"rubbish\r\n", b"-ERR no\r\n", b"+FULLRESYNC\r\n", b"+FULLRESYNC abc 1\r\n", b"+CONTINUE abc\r\n",
            f"+FULLRESYNC {ID} -5\r\n".encode(), f"+FULLRESYNC {ID} 1\r\nno copy\r\n".encode(), b"",
            f"+FULLRESYNC {ID} 1\r\n$-4\r\n".encode(), b"x" * 100_000,
        ]  # fmt: skip
        for answer in answers:
            primary, client = self.follow(answer)
            self.server.wait_for_log(f"sync with 127.0.0.1:{primary.port} failed")
            self.assertEqual(client.ok("GET", "old"), b"value")

    def test_a_copy_that_is_cut_or_damaged_costs_nothing(self):
        checked = ONE_KEY[:-8] + struct.pack("<Q", 12345)
        for copy in (full(ONE_KEY)[:-9], full(checked), full(b"no RDB at all, whatever it says"),
                     full(ONE_KEY, by_mark=True)[:-1], full(checked, by_mark=True)):  # fmt: skip
            primary, client = self.follow(copy)
            self.server.wait_for_log(f"sync with 127.0.0.1:{primary.port} failed")
            self.assertEqual(client.ok("GET", "old"), b"value")
        self.wait_until(lambda: primary.connections >= 2, "it tries again")

    def test_a_copy_that_only_loading_shows_to_be_bad_leaves_nothing_behind(self):
        bad = ONE_KEY[:-9] + b"\x00\x01q\x05ab\xff" + b"\0" * 8
        primary, client = self.follow(full(bad), full(ONE_KEY), stays=True)
        primary.open.clear()
        self.wait_until(lambda: client.command("GET", "k") == b"v", "the next copy is whole")
        self.assertEqual(client.ok("GET", "old"), NULL_BULK)
        self.assertEqual(primary.asked[1], [b"?", b"-1"])

    def test_a_stream_that_is_none_ends_the_link_and_what_came_before_stays(self):
        good = command("SELECT", 0) + command("SET", "a", 1)
        for rubbish in (b"rubbish", command("SELECT", 99999), b"*1\r\n$-7\r\n", b"*99999999999\r\n",
                        command("MULTI") + command("MULTI")):  # fmt: skip
            primary, client = self.follow(full(ONE_KEY) + good + rubbish, b"-ERR enough\r\n")
            self.wait_until(lambda: len(primary.asked) >= 2, "it asks again")
            self.assertEqual(client.ok("MGET", "k", "a"), [b"v", b"1"])
            self.assertEqual(primary.asked[1], [ID.encode(), str(100 + len(good) + 1).encode()])
            client.ok("REPLICAOF", "NO", "ONE")

    def test_half_a_transaction_is_not_run_and_asked_for_again(self):
        half = command("MULTI") + command("SET", "a", 1) + command("SET", "b", 2)
        rest = f"+CONTINUE {ID}\r\n".encode()
        primary, client = self.follow(full(ONE_KEY) + half, rest + half + command("EXEC"), stays=False)
        self.wait_until(lambda: client.command("MGET", "a", "b") == [b"1", b"2"], "it is whole")
        self.assertEqual(primary.asked[1], [ID.encode(), b"101"])

    def test_what_is_no_write_is_not_run(self):
        stream = command("SELECT", 0) + command("SHUTDOWN", "NOSAVE") + command("CONFIG", "SET", "maxclients", 7)
        stream += command("NOSUCH", "thing") + command("PING") + command("INCR", "k") + command("SET", "end", 1)
        _, client = self.follow(full(ONE_KEY) + stream, stays=True)
        self.wait_until(lambda: client.command("GET", "end") == b"1", "all of it has come")
        self.assertNotEqual(client.ok("CONFIG", "GET", "maxclients")[1], b"7")

    def test_a_silent_primary_is_given_up(self):
        primary, client = self.follow(full(ONE_KEY), b"-ERR enough\r\n", stays=True)
        client.ok("CONFIG", "SET", "repl-timeout", 2)
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "repl-timeout", 60))
        self.wait_until(lambda: len(primary.asked) >= 2, "repl-timeout is over")

    def test_random_streams_never_hurt(self):
        seed = new_seed()
        generator = random.Random(seed)
        good = b"".join([command("SELECT", 0), command("SET", "a", "b" * 30), command("MULTI"), command("INCR", "i"),
                         command("LPUSH", "l", 1, 2, 3), command("EXEC"), command("DEL", "a"), command("PING")])  # fmt: skip
        for _ in range(300 if long_run() else 15):
            stream = bytearray(good * 3)
            for _ in range(generator.randrange(1, 6)):
                stream[generator.randrange(len(stream))] = generator.randrange(256)
            primary, client = self.follow(full(EMPTY_RDB) + bytes(stream), b"-ERR enough\r\n")
            with self.subTest(seed=seed):
                self.wait_until(lambda: len(primary.asked) >= 2, "it asks again")
                self.wait_until(lambda: client.command("PING").value == b"PONG", "it lives")
            client.ok("REPLICAOF", "NO", "ONE")


if __name__ == "__main__":
    unittest.main()
