"""notify-keyspace-events: which events a command tells, under which name and in which order."""

import unittest

from support.case import ServerTest, terrace_only
from support.resp import ErrorReply


class NotificationsTest(ServerTest):
    server_arguments = ("--threads", "4", "--enable-debug-command", "local")

    def listener(self, classes="AKEmn", pattern="__key*__:*"):
        self.client().ok("CONFIG", "SET", "notify-keyspace-events", classes)
        self.addCleanup(lambda: self.server.client().ok("CONFIG", "SET", "notify-keyspace-events", ""))
        listener = self.client()
        listener.ok("PSUBSCRIBE", pattern)
        return listener

    def events(self, listener, client, *commands):
        """What the commands tell by __keyevent: "event key", with the database in front if it is not 0."""
        for command in commands:
            reply = client.command(*command)
            self.assertNotIsInstance(reply, ErrorReply, command)
        self.client().ok("PUBLISH", "__keyevent@0__:end", "end")
        told = []
        while True:
            channel, text = (part.decode() for part in listener.read_reply()[2:])
            if channel == "__keyevent@0__:end":
                return told
            place, event = channel.split("__:", 1)
            database = place.split("@")[1]
            told.append(f"{event} {text}" if database == "0" else f"{database}: {event} {text}")

    def expect(self, events, *commands, classes="AE"):
        listener, client = self.listener(classes, "__keyevent@*"), self.client()
        self.assertEqual(self.events(listener, client, *commands), events)


class Channels(NotificationsTest):
    def test_both_channels_of_an_event(self):
        listener = self.listener("KEA")
        self.client().ok("SET", "key", "value")
        self.assertEqual(listener.read_reply(), [b"pmessage", b"__key*__:*", b"__keyspace@0__:key", b"set"])
        self.assertEqual(listener.read_reply(), [b"pmessage", b"__key*__:*", b"__keyevent@0__:set", b"key"])

    def test_long_and_binary_keys(self):
        listener = self.listener("KEA")
        for key in (bytes(range(256)), b"k" * 480, b"k" * 481, b"k" * 5000, b""):
            self.client().ok("SET", key, "value")
            self.assertEqual(listener.read_reply()[2:], [b"__keyspace@0__:" + key, b"set"])
            self.assertEqual(listener.read_reply()[2:], [b"__keyevent@0__:set", key])

    def test_classes(self):
        commands = [("SET", "a", "1", "EX", "100"), ("DEL", "a"), ("SADD", "s", "m")]
        for classes, expected in (("E$", ["set a"]), ("Eg", ["expire a", "del a"]), ("K$", []), ("A", []), ("", []), ("Ex", [])):
            with self.subTest(classes):
                self.expect(expected, *commands[:2], classes=classes)

    def test_configuration(self):
        client = self.client()
        for text, told in (("KEA", b"AKE"), ("Kg$lshzxetd", b"AK"), ("gKE$", b"g$KE"), ("", b"")):
            client.ok("CONFIG", "SET", "notify-keyspace-events", text)
            self.assertEqual(client.ok("CONFIG", "GET", "notify-keyspace-events")[1], told)
        self.assert_error("ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. "
                          "Use 'Ag$lshzxeKEtmdn'.", client, "CONFIG", "SET", "notify-keyspace-events", "q")
        server = self.start_server("--notify-keyspace-events", "KE$")
        self.assertEqual(self.connect_to(server).ok("CONFIG", "GET", "notify-keyspace-events")[1], b"$KE")


class Events(NotificationsTest):
    def test_strings(self):
        self.expect(["set a", "set a", "expire a", "set a", "set b", "expire b", "set c", "expire c", "set a"],
                    ("SET", "a", "1"), ("SET", "a", "1", "EX", "100"), ("SET", "a", "1", "KEEPTTL"), ("SETEX", "b", "100", "v"), ("PSETEX", "c", "100000", "v"),
                    ("SETNX", "a", "1"), ("SET", "a", "1", "NX"), ("GETSET", "a", "2"))
        self.expect(["set x", "set y", "set z"], ("MSET", "x", "1", "y", "2"), ("MSETNX", "x", "1", "q", "2"), ("MSETNX", "z", "1"))
        self.expect(["append s", "append s", "setrange s", "del s"], ("APPEND", "s", "x"), ("APPEND", "s", "y"), ("SETRANGE", "s", "1", "z"), ("SETRANGE", "s", "1", ""), ("GETDEL", "s"))
        self.expect(["incrby n", "incrby n", "incrby n", "incrby n", "incrbyfloat n"], ("INCR", "n"), ("DECR", "n"), ("INCRBY", "n", "5"), ("DECRBY", "n", "2"), ("INCRBYFLOAT", "n", "1.5"))
        self.expect(["expire n", "persist n", "del n"], ("GETEX", "n"), ("GETEX", "n", "EX", "100"), ("GETEX", "n", "PERSIST"), ("GETEX", "n", "PERSIST"), ("GETEX", "n", "PXAT", "1"))

    def test_bitmaps_and_hyperloglogs(self):
        self.expect(["setbit b", "setbit b", "set d", "del d"], ("SETBIT", "b", "7", "1"), ("SETBIT", "b", "7", "0"), ("BITOP", "NOT", "d", "b"), ("BITOP", "AND", "d", "none"), ("BITOP", "AND", "d", "none"))
        self.expect(["setbit f"], ("BITFIELD", "f", "SET", "u8", "0", "5", "INCRBY", "u8", "8", "1"), ("BITFIELD", "f", "GET", "u8", "0"))
        self.expect(["pfadd h", "pfadd h", "pfadd m"], ("PFADD", "h", "a"), ("PFADD", "h", "a"), ("PFADD", "h", "b"), ("PFMERGE", "m", "h"), ("PFCOUNT", "m"))

    def test_keys_of_any_type(self):
        self.expect(["set a", "expire a", "persist a", "del a"], ("SET", "a", "1"), ("EXPIRE", "a", "100"), ("PERSIST", "a"), ("PERSIST", "a"), ("EXPIREAT", "a", "1"), ("EXPIRE", "a", "1"))
        self.expect(["set a", "rename_from a", "rename_to b", "rename_from b", "rename_to c"],
                    ("SET", "a", "1"), ("RENAME", "a", "b"), ("RENAME", "b", "b"), ("RENAMENX", "b", "c"), ("RENAMENX", "c", "c"))
        self.expect(["copy_to d", "2: copy_to e", "move_from d", "3: move_to d", "del c"],
                    ("COPY", "c", "d"), ("COPY", "c", "d"), ("COPY", "c", "e", "DB", "2"), ("MOVE", "d", "3"), ("MOVE", "none", "3"), ("UNLINK", "c", "none"), ("FLUSHALL",))

    def test_new_and_missed_keys(self):
        self.expect(["new a", "set a", "set a", "new b", "rename_from a", "rename_to b", "new c", "copy_to c", "new n", "incrby n"],
                    ("SET", "a", "1"), ("SET", "a", "2"), ("RENAME", "a", "b"), ("COPY", "b", "c"), ("INCR", "n"), classes="EAn")
        self.expect(["keymiss x", "keymiss x", "keymiss y", "keymiss x", "keymiss x"],
                    ("GET", "x"), ("MGET", "x", "y"), ("EXISTS", "x"), ("TTL", "x"), ("SET", "x", "1"), ("DEL", "x"), ("OBJECT", "ENCODING", "x"), ("SETRANGE", "x", "0", ""),
                    classes="Em")

    def test_an_expired_key_is_told_of_when_it_is_met(self):
        client, listener = self.client(), self.listener("Ex", "__keyevent@*")
        client.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        self.addCleanup(lambda: self.server.client().ok("DEBUG", "SET-ACTIVE-EXPIRE", "1"))
        client.ok("PSETEX", "soon", "1", "v")
        self.wait_until(lambda: client.ok("EXISTS", "soon") == 0, "the key expires")
        self.assertEqual(listener.read_reply()[2:], [b"__keyevent@0__:expired", b"soon"])

    def test_an_expired_key_is_told_of_by_the_sweep(self):
        client, listener = self.client(), self.listener("Ex", "__keyevent@*")
        keys = {b"swept:%d" % i for i in range(200)}
        for key in keys:
            client.ok("PSETEX", key, "5", "v")
        self.assertEqual({listener.read_reply()[3] for _ in keys}, keys)

    def test_evicted(self):
        server = self.start_server("--threads", "2", "--maxmemory", "60mb", "--maxmemory-policy", "allkeys-random", "--notify-keyspace-events", "Ee")
        listener, client = self.connect_to(server), self.connect_to(server)
        listener.ok("PSUBSCRIBE", "*")
        for i in range(0, 100):
            client.pipeline([("SET", f"key:{i}:{k}", "v" * 10000) for k in range(100)])
        self.wait_until(lambda: int(client.info("stats")["evicted_keys"]) > 0, "keys are evicted")
        self.assertEqual(listener.read_reply()[2], b"__keyevent@0__:evicted")

    def test_within_a_transaction_in_order(self):
        listener, client = self.listener("EA", "__keyevent@*"), self.client()
        self.assertEqual(self.events(listener, client, ("MULTI",), ("SET", "a", "1"), ("INCR", "a"), ("DEL", "a"), ("EXEC",)), ["set a", "incrby a", "del a"])

    @terrace_only("7.0 writes the message before the reply of the command that caused it")
    def test_to_the_client_that_caused_it(self):
        self.listener("KA")
        client = self.client()
        client.ok("HELLO", "3")
        client.send("SUBSCRIBE", "__keyspace@0__:mine")
        client.read_push()
        client.send("SET", "mine", "1")
        self.assertEqual(client.reader.read_reply().value, b"OK")
        self.assertEqual(client.read_push().value, [b"message", b"__keyspace@0__:mine", b"set"])


if __name__ == "__main__":
    unittest.main()
