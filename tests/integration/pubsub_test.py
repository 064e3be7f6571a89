"""SUBSCRIBE, PUBLISH and their kin. Connections are spread over four workers, so that messages cross from one to another."""

import threading
import unittest

from support.case import ServerTest, terrace_only, threads
from support.resp import NULL_BULK, OK, PONG, QUEUED, ErrorReply, Push, Simple, encode_command

NOT_NOW = "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"


class PubsubTest(ServerTest):
    server_arguments = ("--threads", "4")

    def subscriber(self, command, *names):
        """A RESP2 client that listens to the names."""
        client = self.client()
        client.send(command, *names)
        for count, name in enumerate(names, 1):
            self.assertEqual(client.read_reply(), [command.lower().encode(), name.encode(), count])
        return client

    def resp3(self):
        client = self.client()
        client.ok("HELLO", "3")
        return client

    def listed(self, of):
        """The line of CLIENT LIST of another client."""
        name = f"client-{id(of)}"
        of.ok("CLIENT", "SETNAME", name)
        return lambda: next(line for line in self.client().ok("CLIENT", "LIST").decode().split("\n") if name in line)


class Subscribing(PubsubTest):
    def test_confirmations_count_channels_and_patterns_together(self):
        client = self.client()
        client.send("SUBSCRIBE", "a", "b", "a")
        self.assertEqual([client.read_reply() for _ in range(3)], [[b"subscribe", b"a", 1], [b"subscribe", b"b", 2], [b"subscribe", b"a", 2]])
        self.assert_reply([b"psubscribe", b"p*", 3], client, "PSUBSCRIBE", "p*")
        self.assert_reply([b"ssubscribe", b"s", 1], client, "SSUBSCRIBE", "s")
        self.assert_reply([b"unsubscribe", b"none", 3], client, "UNSUBSCRIBE", "none")
        self.assert_reply([b"unsubscribe", b"a", 2], client, "UNSUBSCRIBE", "a")
        self.assert_reply([b"unsubscribe", b"b", 1], client, "UNSUBSCRIBE")
        self.assert_reply([b"punsubscribe", b"p*", 0], client, "PUNSUBSCRIBE")
        self.assert_reply([b"sunsubscribe", b"s", 0], client, "SUNSUBSCRIBE")
        for command in ("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"):
            self.assert_reply([command.lower().encode(), NULL_BULK, 0], client, command)
        self.assert_reply(PONG, client, "PING")

    def test_a_resp2_subscriber_may_only_listen(self):
        client = self.subscriber("SUBSCRIBE", "a")
        self.assert_error(NOT_NOW.format("get"), client, "GET", "x")
        self.assert_error(NOT_NOW.format("client|list"), client, "CLIENT", "LIST")
        self.assert_error(NOT_NOW.format("publish"), client, "PUBLISH", "a", "m")
        self.assert_error("ERR wrong number of arguments for 'get' command", client, "GET")
        self.assert_reply([b"pong", b""], client, "PING")
        self.assert_reply([b"pong", b"x"], client, "PING", "x")
        self.assert_reply(Simple(b"RESET"), client, "RESET")
        self.assert_reply(PONG, client, "PING")
        self.assert_reply(0, self.client(), "PUBLISH", "a", "m")
        self.assert_reply(OK, self.subscriber("SSUBSCRIBE", "a"), "QUIT")

    def test_a_resp3_subscriber_may_do_anything(self):
        client = self.resp3()
        client.send("SUBSCRIBE", "a")
        self.assertEqual(client.read_push(), Push([b"subscribe", b"a", 1]))
        self.assert_reply(PONG, client, "PING")
        self.assert_reply(OK, client, "SET", "x", "1")
        self.assert_reply(1, client, "PUBLISH", "a", "own")
        self.assertEqual(client.read_push(), Push([b"message", b"a", b"own"]))

    def test_subscribing_within_a_transaction(self):
        client = self.client()
        client.ok("MULTI")
        for command in (("SUBSCRIBE", "a"), ("GET", "x"), ("SSUBSCRIBE", "q"), ("PSUBSCRIBE", "p*")):
            self.assert_reply(QUEUED, client, *command)
        refused = ErrorReply("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
        self.assert_reply([[b"subscribe", b"a", 1], NULL_BULK, refused, [b"psubscribe", b"p*", 2]], client, "EXEC")
        self.assert_error(NOT_NOW.format("get"), client, "GET", "x")

    @terrace_only("7.0 writes the message into the reply of EXEC")
    def test_own_messages_come_behind_the_reply_of_exec(self):
        client = self.resp3()
        client.send("SUBSCRIBE", "a")
        client.read_push()
        client.ok("MULTI")
        client.ok("PUBLISH", "a", "1")
        client.ok("PUBLISH", "a", "2")
        client.send("EXEC")
        self.assertEqual(client.reader.read_reply(), [1, 1])
        self.assertEqual([client.reader.read_reply().value for _ in range(2)], [[b"message", b"a", b"1"], [b"message", b"a", b"2"]])


class Publishing(PubsubTest):
    def test_each_kind_of_message(self):
        publisher, channel, pattern = self.client(), self.subscriber("SUBSCRIBE", "news"), self.subscriber("PSUBSCRIBE", "n[ae]*", "x*")
        shard = self.subscriber("SSUBSCRIBE", "news")
        self.assert_reply(2, publisher, "PUBLISH", "news", "hello")
        self.assert_reply(1, publisher, "SPUBLISH", "news", "shard")
        self.assert_reply(0, publisher, "PUBLISH", "nothing", "x")
        self.assertEqual(channel.read_reply(), [b"message", b"news", b"hello"])
        self.assertEqual(pattern.read_reply(), [b"pmessage", b"n[ae]*", b"news", b"hello"])
        self.assertEqual(shard.read_reply(), [b"smessage", b"news", b"shard"])

    def test_a_client_hears_once_for_each_subscription_that_fits(self):
        client = self.subscriber("SUBSCRIBE", "ab")
        for count, pattern in enumerate(("a*", "*b"), 2):
            self.assert_reply([b"psubscribe", pattern.encode(), count], client, "PSUBSCRIBE", pattern)
        self.assert_reply(3, self.client(), "PUBLISH", "ab", "m")
        self.assertEqual(client.read_reply(), [b"message", b"ab", b"m"])
        self.assertEqual(sorted(client.read_reply()[1] for _ in range(2)), [b"*b", b"a*"])

    def test_any_bytes_and_sizes(self):
        name = bytes(range(256))
        client, publisher = self.client(), self.client()
        self.assert_reply([b"subscribe", name, 1], client, "SUBSCRIBE", name)
        for size in (0, 1, 255, 32767, 32768, 3_000_000):
            text = bytes(i * 7 & 255 for i in range(min(size, 999))) * (size // 999 + 1)
            self.assert_reply(1, publisher, "PUBLISH", name, text[:size])
            self.assertEqual(client.read_reply(), [b"message", name, text[:size]])

    def test_many_subscribers_of_a_large_message(self):
        clients = [self.subscriber("SUBSCRIBE", "large") for _ in range(20)] + [self.resp3() for _ in range(4)]
        for client in clients[20:]:
            client.send("SUBSCRIBE", "large")
            client.read_push()
        text = b"0123456789abcdef" * 65536
        self.assert_reply(24, self.client(), "PUBLISH", "large", text)
        for client in clients[:20]:
            self.assertEqual(client.read_reply(), [b"message", b"large", text])
        for client in clients[20:]:
            self.assertEqual(client.read_push(), Push([b"message", b"large", text]))

    def test_what_is_published_before_ones_command_stands_before_its_reply(self):
        publisher = self.client()
        for _ in range(4):
            client = self.subscriber("SUBSCRIBE", "order")
            for i in range(50):
                publisher.ok("PUBLISH", "order", str(i))
                client.send("PING", str(i))
                self.assertEqual(client.read_reply(), [b"message", b"order", str(i).encode()])
                self.assertEqual(client.read_reply(), [b"pong", str(i).encode()])
            client.send("UNSUBSCRIBE", "order")
            client.read_reply()

    def test_what_is_published_before_an_unsubscribe_is_heard(self):
        publisher = self.client()
        for _ in range(100):
            client = self.subscriber("SUBSCRIBE", "last")
            self.assert_reply(1, publisher, "PUBLISH", "last", "word")
            client.send("UNSUBSCRIBE")
            self.assertEqual(client.read_reply(), [b"message", b"last", b"word"])
            self.assertEqual(client.read_reply(), [b"unsubscribe", b"last", 0])
            client.close()

    def test_messages_also_while_replies_are_off(self):
        client = self.resp3()
        client.send("SUBSCRIBE", "a")
        client.read_push()
        client.send("CLIENT", "REPLY", "OFF")
        client.send("PUBLISH", "a", "m")
        self.assertEqual(client.read_push(), Push([b"message", b"a", b"m"]))

    def test_subscriptions_are_confirmed_also_while_replies_are_off(self):
        client = self.resp3()
        client.send("CLIENT", "REPLY", "OFF")
        client.send("PING")
        client.send("SUBSCRIBE", "a")
        self.assertEqual(client.read_push(), Push([b"subscribe", b"a", 1]))
        client.send("PING")
        client.send("UNSUBSCRIBE", "a")
        self.assertEqual(client.read_push(), Push([b"unsubscribe", b"a", 0]))

    def test_to_a_client_that_left(self):
        client, publisher = self.subscriber("SUBSCRIBE", "gone"), self.client()
        client.abort()
        self.wait_until(lambda: publisher.ok("PUBLISH", "gone", "m") == 0, "the subscriber is forgotten")

    def test_pipelined_publishing_and_subscribing_in_one_write(self):
        client = self.resp3()
        client.send_raw(b"".join(encode_command(*c) for c in (("SUBSCRIBE", "a"), ("PUBLISH", "a", "1"), ("UNSUBSCRIBE", "a"), ("PUBLISH", "a", "2"), ("PING",))))
        self.assertEqual([client.read_reply() for _ in range(3)], [1, 0, PONG])
        self.assertEqual([push.value for push in client.pushes], [[b"subscribe", b"a", 1], [b"message", b"a", b"1"], [b"unsubscribe", b"a", 0]])

    @threads
    def test_the_order_of_each_publisher_is_kept(self):
        publishers, subscribers, messages = 4, 8, 2000
        listeners = [self.subscriber("SUBSCRIBE", "busy") for _ in range(subscribers)]

        def publish(number):
            with self.server.client() as client:
                for start in range(0, messages, 50):
                    replies = client.pipeline([("PUBLISH", "busy", f"{number} {i}") for i in range(start, start + 50)])
                    failures.extend(reply for reply in replies if reply != subscribers)

        failures, heard = [], []
        workers = [threading.Thread(target=publish, args=(i,)) for i in range(publishers)]
        for worker in workers:
            worker.start()
        for listener in listeners:
            heard.append([listener.read_reply()[2] for _ in range(publishers * messages)])
        for worker in workers:
            worker.join()
        self.assertEqual(failures, [])
        for texts in heard:
            self.assertEqual(texts, heard[0], "all hear the messages of a channel in one order")
        for number in range(publishers):
            mine = [int(text.split()[1]) for text in heard[0] if text.startswith(b"%d " % number)]
            self.assertEqual(mine, list(range(messages)))

    @threads
    def test_nothing_older_than_the_subscription_is_heard(self):
        """While others publish, a counter that was published before SUBSCRIBE is never heard after it."""
        stop, latest = threading.Event(), [0]

        def publish():
            with self.server.client() as client:
                number = 0
                while not stop.is_set():
                    number += 1
                    client.ok("PUBLISH", "counter", str(number))
                    latest[0] = number

        keeper = self.subscriber("SUBSCRIBE", "counter")
        reader = threading.Thread(target=lambda: [keeper.read_reply() for _ in iter(stop.is_set, True)])
        worker = threading.Thread(target=publish)
        worker.start()
        reader.start()
        try:
            for _ in range(200):
                known = latest[0]
                client = self.client()
                client.send("SUBSCRIBE", "counter")
                self.assertEqual(client.read_reply(), [b"subscribe", b"counter", 1])
                self.assertGreater(int(client.read_reply()[2]), known)
                client.close()
        finally:
            stop.set()
            worker.join()
            self.client().ok("PUBLISH", "counter", "end")
            reader.join()


class Looking(PubsubTest):
    def test_pubsub(self):
        client = self.client()
        self.wait_until(lambda: client.ok("PUBSUB", "CHANNELS") == [] and client.ok("PUBSUB", "NUMPAT") == 0
                        and client.ok("PUBSUB", "SHARDCHANNELS") == [], "those of the test before have left")
        listeners = [self.subscriber("SUBSCRIBE", "one", "two") for _ in range(3)] + [self.subscriber("PSUBSCRIBE", "o*", "t*"), self.subscriber("PSUBSCRIBE", "o*")]
        self.subscriber("SSUBSCRIBE", "shard")
        self.assertEqual(sorted(client.ok("PUBSUB", "CHANNELS")), [b"one", b"two"])
        self.assert_reply([b"one"], client, "PUBSUB", "CHANNELS", "o*")
        self.assert_reply([b"one", 3, b"none", 0], client, "PUBSUB", "NUMSUB", "one", "none")
        self.assert_reply([], client, "PUBSUB", "NUMSUB")
        self.assert_reply(2, client, "PUBSUB", "NUMPAT")
        self.assert_reply([b"shard"], client, "PUBSUB", "SHARDCHANNELS")
        self.assert_reply([b"shard", 1, b"one", 0], client, "PUBSUB", "SHARDNUMSUB", "shard", "one")
        info = client.info("stats")
        self.assertEqual((info["pubsub_channels"], info["pubsub_patterns"]), ("2", "2"))
        for listener in listeners:
            listener.send("RESET")
        self.wait_until(lambda: client.ok("PUBSUB", "CHANNELS") == [] and client.ok("PUBSUB", "NUMPAT") == 0, "all have left")

    def test_errors(self):
        client = self.client()
        self.assert_error("ERR unknown subcommand or wrong number of arguments for 'channels'. Try PUBSUB HELP.", client, "PUBSUB", "channels", "a", "b")
        self.assert_error("ERR unknown subcommand 'x'. Try PUBSUB HELP.", client, "PUBSUB", "x")
        self.assert_error("ERR wrong number of arguments for 'pubsub|numpat' command", client, "PUBSUB", "NUMPAT", "x")
        self.assert_error("ERR wrong number of arguments for 'subscribe' command", client, "SUBSCRIBE")
        self.assert_error("ERR wrong number of arguments for 'spublish' command", client, "SPUBLISH", "a")
        self.assertEqual(client.ok("PUBSUB", "HELP")[0], Simple(b"PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"))

    def test_client_list_tells_of_subscriptions(self):
        client = self.resp3()
        line = self.listed(client)
        for command, name in (("SUBSCRIBE", "a"), ("SUBSCRIBE", "b"), ("PSUBSCRIBE", "p*"), ("SSUBSCRIBE", "s")):
            client.send(command, name)
            client.read_push()
        self.assertIn(" flags=P ", line())
        self.assertIn(" sub=2 psub=1 ", line())
        name = next(field for field in line().split() if field.startswith("name="))
        self.assertIn(name, self.client().ok("CLIENT", "LIST", "TYPE", "PUBSUB").decode())
        for command in ("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"):
            client.send(command)
            client.read_push()
        client.ok("PING")
        self.assertIn(" flags=N ", line())

    def test_a_slow_subscriber_is_closed_at_its_limit(self):
        server = self.start_server("--threads", "4", "--client-output-buffer-limit", "pubsub 1mb 0 0")
        slow, publisher = self.connect_to(server, receive_buffer=4096), self.connect_to(server)
        slow.send("SUBSCRIBE", "flood")
        slow.read_reply()
        text = "x" * 60000
        self.wait_until(lambda: publisher.ok("PUBLISH", "flood", text) == 0, "the subscriber is closed")
        self.assertEqual(publisher.info("stats").get("client_output_buffer_limit_disconnections", "1"), "1")


if __name__ == "__main__":
    unittest.main()
