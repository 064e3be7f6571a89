"""Streams between clients: who waits for entries and who is served, what ends a wait, the loop of a worker in a group."""

import unittest

from support.case import ServerTest, terrace_only, threads
from support.resp import NULL_ARRAY, NULL_BULK, ErrorReply

NO_GROUP = ErrorReply("NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option")


@threads
class Streams(ServerTest):
    # Connections are spread over workers, so that who waits and who adds are mostly not of the same one.
    server_arguments = ("--threads", "4")

    def setUp(self):
        super().setUp()
        self.control = self.client()

    def blocked_count(self):
        return int(self.control.info("clients")["blocked_clients"])

    def block(self, *command, client=None):
        client = client or self.client()
        count = self.blocked_count()
        client.send(*command)
        self.wait_until(lambda: self.blocked_count() == count + 1, f"{command[0]} blocks")
        return client

    def assert_answer(self, expected, client):
        self.assertEqual(client.read_reply(), expected)

    def add(self, key, id, *fields):
        self.assert_reply(id.encode(), self.control, "XADD", key, id, *(fields or ("n", id)))

    def test_every_reader_gets_an_entry(self):
        waiting = [self.block("XREAD", "BLOCK", "0", "STREAMS", "s", "$") for _ in range(5)]
        self.add("s", "5-1")
        for client in waiting:
            self.assert_answer([[b"s", [[b"5-1", [b"n", b"5-1"]]]]], client)
        self.assertEqual(self.blocked_count(), 0)

    def test_the_last_id_is_that_of_the_time_of_asking(self):
        self.add("s", "5-1")
        waiting = self.block("XREAD", "COUNT", "10", "BLOCK", "0", "STREAMS", "other", "s", "0-0", "$")
        self.control.command("MULTI")
        self.control.command("XADD", "s", "6-1", "n", "1")
        self.control.command("XADD", "s", "7-1", "n", "2")
        self.assert_reply([b"6-1", b"7-1"], self.control, "EXEC")
        self.assert_answer([[b"s", [[b"6-1", [b"n", b"1"]], [b"7-1", [b"n", b"2"]]]]], waiting)

    def test_an_id_that_is_ahead_is_waited_for(self):
        self.add("s", "5-1")
        waiting = self.block("XREAD", "BLOCK", "0", "STREAMS", "s", "10-0")
        self.add("s", "9-0")
        self.assertEqual(self.blocked_count(), 1)
        self.add("s", "10-1")
        self.assert_answer([[b"s", [[b"10-1", [b"n", b"10-1"]]]]], waiting)

    def test_the_last_entry_is_waited_for(self):
        waiting = self.block("XREAD", "BLOCK", "0", "STREAMS", "s", "+")
        self.add("s", "5-1")
        self.assert_answer([[b"s", [[b"5-1", [b"n", b"5-1"]]]]], waiting)

    def test_a_wait_ends_in_time_and_not_at_all_in_exec(self):
        self.assert_reply(NULL_ARRAY, self.control, "XREAD", "BLOCK", "10", "STREAMS", "s", "$")
        self.control.command("MULTI")
        self.control.command("XREAD", "BLOCK", "0", "STREAMS", "s", "$")
        self.assert_reply([NULL_ARRAY], self.control, "EXEC")
        self.assert_reply(ErrorReply("ERR timeout is not an integer or out of range"), self.control, "XREAD", "BLOCK", "x",
                          "STREAMS", "s", "$")
        self.assert_reply(ErrorReply("ERR timeout is negative"), self.control, "XREAD", "BLOCK", "-1", "STREAMS", "s", "$")

    def test_members_of_a_group_are_served_in_the_order_of_arrival(self):
        self.control.ok("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
        waiting = [self.block("XREADGROUP", "GROUP", "g", f"c{place}", "BLOCK", "0", "COUNT", "1", "STREAMS", "s", ">")
                   for place in range(4)]
        for place, client in enumerate(waiting):
            self.add("s", f"5-{place}")
            self.assert_answer([[b"s", [[b"5-%d" % place, [b"n", b"5-%d" % place]]]]], client)
        pending = self.control.ok("XPENDING", "s", "g")
        self.assertEqual(pending[3], [[b"c%d" % place, b"1"] for place in range(4)])

    def test_a_group_that_goes_ends_the_wait(self):
        read = ("XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">")
        for ending, expected in (
            (("XGROUP", "DESTROY", "s", "g"), NO_GROUP),
            (("DEL", "s"), NO_GROUP),
            (("RENAME", "s", "t"), NO_GROUP),
            (("SET", "s", "text"), ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value")),
        ):
            with self.subTest(ending=ending):
                self.control.ok("FLUSHALL")
                self.control.ok("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
                waiting = self.block(*read)
                self.control.ok(*ending)
                self.assert_answer(expected, waiting)

    def test_a_reader_without_a_group_outlives_the_key(self):
        self.add("s", "5-1")
        waiting = self.block("XREAD", "BLOCK", "0", "STREAMS", "s", "$")
        self.control.ok("DEL", "s")
        self.control.ok("SET", "s", "text")
        self.control.ok("DEL", "s")
        self.assertEqual(self.blocked_count(), 1)
        self.add("s", "6-1")
        self.assert_answer([[b"s", [[b"6-1", [b"n", b"6-1"]]]]], waiting)

    def test_history_does_not_wait(self):
        self.control.ok("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
        self.assert_reply([[b"s", []]], self.control, "XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", "0")

    def test_the_day_of_a_worker(self):
        """Reads, loses a worker, claims what that left, acknowledges all."""
        self.control.ok("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
        for number in range(1, 501):
            self.add("s", f"{number}-0", "job", str(number), "kind", "mail")
        done = set()
        for consumer, share in (("dies", 200), ("works", 300)):
            for _ in range(share // 50):
                ((_, entries),) = self.control.ok("XREADGROUP", "GROUP", "g", consumer, "COUNT", "50", "STREAMS", "s", ">")
                if consumer == "works":
                    done.update(fields[1] for _, fields in entries)
                    self.assertEqual(self.control.ok("XACK", "s", "g", *(id for id, _ in entries)), 50)
        self.assert_reply(NULL_ARRAY, self.control, "XREADGROUP", "GROUP", "g", "works", "STREAMS", "s", ">")
        cursor = b"0-0"
        while True:
            cursor, entries, deleted = self.control.ok("XAUTOCLAIM", "s", "g", "works", "0", cursor, "COUNT", "33")
            self.assertEqual(deleted, [])
            done.update(fields[1] for _, fields in entries)
            self.assertEqual(self.control.ok("XACK", "s", "g", *(id for id, _ in entries)), len(entries))
            if cursor == b"0-0":
                break
        self.assertEqual(done, {b"%d" % number for number in range(1, 501)})
        self.assert_reply([0, NULL_BULK, NULL_BULK, NULL_ARRAY], self.control, "XPENDING", "s", "g")

    def standing(self, key, group):
        """What a group has read and has yet to read."""
        for facts in self.control.ok("XINFO", "GROUPS", key):
            facts = dict(zip(facts[::2], facts[1::2]))
            if facts[b"name"] == group.encode():
                return facts[b"entries-read"], facts[b"lag"]
        return None

    def read_in_group(self, key, group, *count):
        self.control.ok("XREADGROUP", "GROUP", group, "c", *(("COUNT", *count) if count else ()), "STREAMS", key, ">")

    @terrace_only("as Redis 7.4 counts")
    def test_a_group_counts_past_a_deleted_entry(self):
        for number in range(1, 6):
            self.add("s", f"{number}-0")
        self.control.ok("XGROUP", "CREATE", "s", "g", "0")
        self.read_in_group("s", "g", 3)
        self.assertEqual(self.standing("s", "g"), (3, 2))
        self.control.ok("XDEL", "s", "4-0")
        self.assertEqual(self.standing("s", "g"), (3, NULL_BULK))  # how many of the last two are left is not known
        self.read_in_group("s", "g", 1)
        self.assertEqual(self.standing("s", "g"), (5, 0))

    @terrace_only("as Redis 7.4 counts")
    def test_a_deleted_entry_behind_a_group_does_no_harm(self):
        for number in range(1, 6):
            self.add("s", f"{number}-0")
        self.control.ok("XDEL", "s", "3-0")
        self.control.ok("XGROUP", "CREATE", "s", "g", "0")
        self.assertEqual(self.standing("s", "g"), (NULL_BULK, NULL_BULK))
        for _ in range(3):
            self.read_in_group("s", "g", 1)
        self.assertEqual(self.standing("s", "g"), (NULL_BULK, NULL_BULK))
        self.read_in_group("s", "g")
        self.assertEqual(self.standing("s", "g"), (5, 0))

    @terrace_only("as Redis 7.4 counts")
    def test_a_group_lags_behind_what_trimming_left(self):
        self.control.ok("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
        for number in range(1, 6):
            self.add("s", f"{number}-0")
        self.read_in_group("s", "g", 1)
        self.assertEqual(self.standing("s", "g"), (1, 4))
        self.control.ok("XTRIM", "s", "MAXLEN", "1")
        self.assertEqual(self.standing("s", "g"), (1, 1))
        self.read_in_group("s", "g")
        self.assertEqual(self.standing("s", "g"), (5, 0))
        self.add("s", "6-0")
        self.assertEqual(self.standing("s", "g"), (5, 1))
        self.control.ok("XTRIM", "s", "MAXLEN", "0")
        self.assertEqual(self.standing("s", "g"), (5, 0))

    def test_resp3_has_streams_in_a_map(self):
        client = self.client()
        client.ok("HELLO", "3")
        self.add("s", "5-1")
        reply = client.command("XREAD", "STREAMS", "s", "0")
        self.assertEqual(list(reply.value), [(b"s", [[b"5-1", [b"n", b"5-1"]]])])

    def test_events(self):
        listener = self.client()
        self.control.ok("CONFIG", "SET", "notify-keyspace-events", "Kt")
        listener.command("SUBSCRIBE", "__keyspace@0__:s")
        for command, events in (
            (("XADD", "s", "1-0", "a", "1"), ["xadd"]),
            (("XADD", "s", "MAXLEN", "1", "2-0", "a", "1"), ["xadd", "xtrim"]),
            (("XGROUP", "CREATE", "s", "g", "0"), ["xgroup-create"]),
            (("XGROUP", "SETID", "s", "g", "0"), ["xgroup-setid"]),
            (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"), ["xgroup-createconsumer"]),
            (("XGROUP", "CREATECONSUMER", "s", "g", "d"), ["xgroup-createconsumer"]),
            (("XGROUP", "DELCONSUMER", "s", "g", "c"), ["xgroup-delconsumer"]),
            (("XGROUP", "DESTROY", "s", "g"), ["xgroup-destroy"]),
            (("XDEL", "s", "2-0"), ["xdel"]),
            (("XSETID", "s", "9-0"), ["xsetid"]),
            (("XADD", "s", "10-0", "a", "1"), ["xadd"]),
            (("XTRIM", "s", "MAXLEN", "0"), ["xtrim"]),
        ):
            self.control.ok(*command)
            for event in events:
                self.assertEqual(listener.read_reply(), [b"message", b"__keyspace@0__:s", event.encode()], command)


class StreamsOnATier(ServerTest):
    """Room for a small part of the pages: nearly everything that is read or changed is cold."""

    # In the server's own folder, which goes with it.
    server_arguments = ("--threads", "2", "--tier-path", "tier", "--tier-size", "256mb", "--tier-segment-size", "1mb",
                        "--tier-record-budget", "128kb")
    COUNT = 30000

    def setUp(self):
        super().setUp()
        self.control = self.client()
        self.ids = [b"%d-0" % number for number in range(1, self.COUNT + 1)]
        for first in range(0, self.COUNT, 1000):
            self.control.pipeline([("XADD", "s", id, "number", id, "text", "x" * 20) for id in self.ids[first : first + 1000]])

    def ids_of(self, entries):
        return [id for id, _ in entries]

    def test_ranges(self):
        for first in range(0, self.COUNT, 997):
            entries = self.control.ok("XRANGE", "s", self.ids[first], "+", "COUNT", "300")
            self.assertEqual(self.ids_of(entries), self.ids[first : first + 300])
            entries = self.control.ok("XREVRANGE", "s", self.ids[first], "-", "COUNT", "300")
            self.assertEqual(self.ids_of(entries), self.ids[max(0, first - 299) : first + 1][::-1])

    def test_a_group_reads_claims_and_acknowledges(self):
        self.control.ok("XGROUP", "CREATE", "s", "g", "0")
        delivered = []
        while len(delivered) < self.COUNT:
            consumer = f"c{len(delivered) % 3}"
            ((_, entries),) = self.control.ok("XREADGROUP", "GROUP", "g", consumer, "COUNT", "997", "STREAMS", "s", ">")
            delivered += self.ids_of(entries)
        self.assertEqual(delivered, self.ids)
        # Every second one, in an order that goes from page to page.
        acknowledged = sorted(self.ids[::2], key=lambda id: id[::-1])
        for first in range(0, len(acknowledged), 100):
            part = acknowledged[first : first + 100]
            self.assertEqual(self.control.ok("XACK", "s", "g", *part), len(part))
        cursor, claimed = b"0-0", []
        while not claimed or cursor != b"0-0":
            cursor, entries, deleted = self.control.ok("XAUTOCLAIM", "s", "g", "last", "0", cursor, "COUNT", "500", "JUSTID")
            claimed += entries
            self.assertEqual(deleted, [])
        self.assertEqual(claimed, self.ids[1::2])
        self.assert_reply([len(claimed), claimed[0], claimed[-1], [[b"last", b"%d" % len(claimed)]]], self.control, "XPENDING",
                          "s", "g")
        self.assert_reply(len(claimed), self.control, "XGROUP", "DELCONSUMER", "s", "g", "last")
        self.assertEqual(self.control.ok("XPENDING", "s", "g")[0], 0)

    def test_deleting_and_trimming(self):
        deleted = sorted(self.ids[::3], key=lambda id: id[::-1])
        for first in range(0, len(deleted), 100):
            part = deleted[first : first + 100]
            self.assertEqual(self.control.ok("XDEL", "s", *part), len(part))
        left = sorted(set(self.ids) - set(deleted), key=lambda id: int(id.split(b"-")[0]))
        self.assert_reply(len(left) - 5000, self.control, "XTRIM", "s", "MAXLEN", "5000")
        self.assert_reply(1, self.control, "COPY", "s", "t")
        self.assertEqual(self.ids_of(self.control.ok("XRANGE", "t", "-", "+")), left[-5000:])
        figures = self.control.info("tier")
        reads = int(figures["tier_reads"]) + int(figures["tier_memory_reads"])  # of what is not written yet
        self.assertGreater(reads, 50, "the tier was hardly used")


if __name__ == "__main__":
    unittest.main()
