"""Hashes and sets over a connection: fields that end by themselves, and what is told of it."""

import unittest

from support.case import ServerTest
from support.resp import OK


class FieldExpiry(ServerTest):
    server_arguments = ("--threads", "2", "--hash-max-listpack-entries", "16")

    def told(self, listener, count):
        events = []
        while len(events) < count:
            channel, key = listener.read_reply()[2:]
            events.append((channel.decode().split(":", 1)[1], key.decode()))
        return events

    def test_fields_nobody_asks_for_are_removed(self):
        client = self.client()
        for size in (3, 100):
            for number in range(200):
                fields = [word for field in range(size) for word in (f"f{field}", "v")]
                client.ok("HSET", f"h{number}", *fields)
                client.ok("HPEXPIRE", f"h{number}", "30", "FIELDS", str(size - number % 2), *fields[:2 * (size - number % 2):2])
            self.wait_until(lambda: client.command("DBSIZE") == 100, "every other hash is gone")
            self.wait_until(lambda: all(length == 1 for length in client.pipeline(
                [("HLEN", f"h{number}") for number in range(1, 200, 2)])), "one field is left in each of the others")
            self.assert_reply(OK, client, "FLUSHALL")

    def test_it_is_told_without_anybody_asking(self):
        client, listener = self.client(), self.client()
        client.ok("CONFIG", "SET", "notify-keyspace-events", "Ehg")
        listener.ok("PSUBSCRIBE", "__keyevent@*")
        for size in (2, 40):
            client.ok("HSET", "h", *[word for field in range(size) for word in (f"f{field}", "v")])
            client.ok("HPEXPIRE", "h", "20", "FIELDS", str(size), *[f"f{field}" for field in range(size)])
            self.assertEqual(self.told(listener, 2), [("hset", "h"), ("hexpire", "h")])
            events = []
            while events[-1:] != [("del", "h")]:
                events += self.told(listener, 1)
            self.assertEqual(set(events[:-1]), {("hexpired", "h")})

    def test_encodings(self):
        client = self.client()
        client.ok("HSET", "h", "a", "1")
        self.assert_reply(b"listpack", client, "OBJECT", "ENCODING", "h")
        client.ok("HEXPIRE", "h", "100", "FIELDS", "1", "a")
        self.assert_reply(b"listpackex", client, "OBJECT", "ENCODING", "h")
        client.ok("HSET", "h", *[str(number) for number in range(40)])
        self.assert_reply(b"hashtable", client, "OBJECT", "ENCODING", "h")
        self.assert_reply([100], client, "HTTL", "h", "FIELDS", "1", "a")


if __name__ == "__main__":
    unittest.main()
