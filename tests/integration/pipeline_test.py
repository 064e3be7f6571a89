"""Pipelines: however the bytes are cut, the same commands run in the same order."""

import unittest

from support.case import ServerTest, threads
from support.resp import NULL_BULK, OK, PONG, ErrorReply, encode_command

COMMANDS = [
    ("SET", "key", "value"),
    ("GET", "key"),
    ("APPEND", "key", b"\r\n\0*$"),
    ("STRLEN", "key"),
    ("GET", "missing"),
    ("INCR", "key"),
    ("NOSUCH", "x"),
    ("GET",),
    ("MSET", "a", "1", "b", "2"),
    ("MGET", "a", "b", "c"),
    ("DEL", "key", "a", "b"),
]
REPLIES = [
    OK,
    b"value",
    10,
    10,
    NULL_BULK,
    ErrorReply("ERR value is not an integer or out of range"),
    ErrorReply("ERR unknown command 'NOSUCH', with args beginning with: 'x' "),
    ErrorReply("ERR wrong number of arguments for 'get' command"),
    OK,
    [b"1", b"2", NULL_BULK],
    3,
]


class Pipelines(ServerTest):
    def read_all(self, client):
        return [client.read_reply() for _ in REPLIES]

    def test_cut_in_two_at_every_byte(self):
        data = b"".join(encode_command(*command) for command in COMMANDS)
        client = self.client()
        for cut in range(1, len(data)):
            with self.subTest(cut=cut):
                client.send_raw(data[:cut])
                # The server has surely read the first part once the others answered its PING.
                self.client_b.command("PING")
                client.send_raw(data[cut:])
                self.assertEqual(self.read_all(client), REPLIES)

    def test_one_byte_at_a_time(self):
        data = b"".join(encode_command(*command) for command in COMMANDS)
        client = self.client()
        for position in range(len(data)):
            client.send_raw(data[position : position + 1])
        self.assertEqual(self.read_all(client), REPLIES)

    def test_inline_one_byte_at_a_time(self):
        client = self.client()
        for byte in b"SET k 'a b'\r\nGET k\r\n":
            client.send_raw(bytes([byte]))
        self.assertEqual([client.read_reply(), client.read_reply()], [OK, b"a b"])

    def test_a_long_pipeline_answers_in_order(self):
        client = self.client()
        for start in range(0, 100000, 10000):
            replies = client.pipeline([("SET", f"k{number % 100}", number) for number in range(start, start + 5000)])
            self.assertEqual(replies, [OK] * 5000)
            replies = client.pipeline([("ECHO", number) for number in range(start, start + 10000)])
            self.assertEqual(replies, [str(number).encode() for number in range(start, start + 10000)])

    def test_each_command_sees_those_before_it(self):
        client = self.client()
        replies = client.pipeline([("INCR", "counter")] * 5000)
        self.assertEqual(replies, list(range(1, 5001)))

    def test_a_pipeline_of_every_size_around_the_batch_bounds(self):
        client = self.client()
        for size in list(range(1, 140)) + [255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 4095, 4097]:
            with self.subTest(size=size):
                commands = [("SET", f"k{number}", number) for number in range(size)]
                self.assertEqual(client.pipeline(commands), [OK] * size)
                commands = [("GET", f"k{number}") for number in range(size)]
                self.assertEqual(client.pipeline(commands), [b"%d" % number for number in range(size)])

    def test_a_value_larger_than_the_read_buffer_amid_small_ones(self):
        client = self.client()
        for size in [16 * 1024, 64 * 1024 - 1, 64 * 1024, 1 << 20, (1 << 20) + 1]:
            big = bytes([size % 251]) * size
            commands = [("SET", "a", "1"), ("SET", "big", big), ("SET", "b", "2"), ("GET", "big"), ("MGET", "a", "b")]
            self.assertEqual(client.pipeline(commands), [OK, OK, OK, big, [b"1", b"2"]])

    def test_quit_ends_the_pipeline(self):
        client = self.client()
        client.send_raw(encode_command("SET", "a", "1") + encode_command("QUIT") + encode_command("SET", "a", "2"))
        self.assertEqual(client.read_until_closed(), b"+OK\r\n+OK\r\n")
        self.assert_reply(b"1", self.client(), "GET", "a")

    def test_a_reader_that_never_reads_while_it_sends_gets_everything(self):
        # More replies than socket buffers hold, asked for in one go by a client that reads only afterwards.
        import threading

        client = self.client()
        value = b"v" * 10000
        client.ok("SET", "k", value)
        request = encode_command("GET", "k") * 2000
        sender = threading.Thread(target=client.send_raw, args=(request,))
        sender.start()
        sender.join(10)
        for _ in range(2000):
            self.assertEqual(client.read_reply(), value)
        sender.join()
        self.assertEqual(client.command("PING"), PONG)

    def setUp(self):
        super().setUp()
        self.client_b = self.client()


@threads
class PipelinesOfManyConnections(ServerTest):
    server_arguments = ("--threads", "4")

    def test_connections_do_not_mix_their_replies(self):
        import threading

        wrong = []

        def work(number):
            with self.server.client() as client:
                for round_number in range(100):
                    key = f"key:{number}"
                    value = f"{number}:{round_number}"
                    replies = client.pipeline([("SET", key, value), ("GET", key), ("ECHO", value), ("STRLEN", key)])
                    if replies != [OK, value.encode(), value.encode(), len(value)]:
                        wrong.append((number, round_number, replies))

        workers = [threading.Thread(target=work, args=(number,)) for number in range(24)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
