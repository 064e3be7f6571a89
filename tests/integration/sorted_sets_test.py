"""Sorted sets over sockets: who waits for members and gets them, walks of big sets, and what lies on the tier."""

import unittest

from support.case import ServerTest, threads
from support.resp import NULL_ARRAY, OK, Double


@threads
class WaitingForMembers(ServerTest):
    server_arguments = ("--threads", "4")

    def setUp(self):
        super().setUp()
        self.control = self.client()

    def block(self, *command):
        client = self.client()
        count = int(self.control.info("clients")["blocked_clients"])
        client.send(*command)
        self.wait_until(lambda: int(self.control.info("clients")["blocked_clients"]) == count + 1, f"{command[0]} blocks")
        return client

    def test_clients_are_served_in_the_order_of_their_arrival(self):
        waiting = [self.block("BZPOPMIN", "k", "0") for _ in range(5)]
        self.assert_reply(5, self.control, "ZADD", "k", *[word for i in range(5) for word in (10 - i, f"m{i}")])
        for place, client in enumerate(waiting):
            self.assertEqual(client.read_reply(), [b"k", b"m%d" % (4 - place), b"%d" % (6 + place)])
        self.assert_reply(0, self.control, "EXISTS", "k")

    def test_any_way_to_a_member_serves(self):
        for command in (("ZINCRBY", "k", "2", "m"), ("GEOADD", "k", "1", "1", "m"), ("ZUNIONSTORE", "k", "1", "source"),
                        ("ZRANGESTORE", "k", "source", "0", "0"), ("COPY", "source", "k"), ("RENAME", "source", "k")):
            self.assertIn(self.control.command("ZADD", "source", "1", "m"), (0, 1))
            waiting = self.block("BZMPOP", "0", "2", "other", "k", "MAX", "COUNT", "10")
            self.control.command(*command)
            reply = waiting.read_reply()
            self.assertEqual((reply[0], reply[1][0][0]), (b"k", b"m"), command)

    def test_a_key_of_another_type_serves_nobody(self):
        waiting = self.block("BZPOPMAX", "k", "0")
        self.assert_reply(OK, self.control, "SET", "k", "text")
        self.assert_reply(1, self.control, "DEL", "k")
        self.assert_reply(1, self.control, "ZADD", "k", "1", "m")
        self.assertEqual(waiting.read_reply(), [b"k", b"m", b"1"])

    def test_time_ends_a_wait(self):
        self.assert_reply(NULL_ARRAY, self.control, "BZPOPMIN", "k", "0.01")
        self.assert_reply(NULL_ARRAY, self.control, "BZMPOP", "0.01", "1", "k", "MIN")

    def test_resp3_has_doubles(self):
        waiting = self.client()
        waiting.ok("HELLO", "3")
        waiting.send("BZPOPMIN", "k", "0")
        self.wait_until(lambda: self.control.info("clients")["blocked_clients"] == "1", "BZPOPMIN blocks")
        self.control.ok("ZADD", "k", "1.5", "m")
        self.assertEqual(waiting.read_reply(), [b"k", b"m", Double(b"1.5")])


class BigSets(ServerTest):
    server_arguments = ("--threads", "2")
    MEMBERS = 20000

    def fill(self, client, key, score):
        for first in range(0, self.MEMBERS, 1000):
            client.ok("ZADD", key, *[word for i in range(first, first + 1000) for word in (score(i), f"member:{i}")])

    def test_a_walk_sees_every_member_though_scores_change(self):
        client = self.client()
        self.fill(client, "k", lambda i: i % 5000)
        cursor, seen = b"0", set()
        while True:
            cursor, part = client.ok("ZSCAN", "k", cursor, "COUNT", "200")
            seen.update(part[::2])
            if cursor == b"0":
                break
            client.ok("ZADD", "k", *[word for i in range(300) for word in (i * 17 % 5000, f"member:{(i * 31 + len(seen)) % self.MEMBERS}")])
        self.assertEqual(len(seen), self.MEMBERS)

    def test_a_walk_without_scores_gives_each_member_once(self):
        client = self.client()
        self.fill(client, "big", lambda i: i)
        client.ok("ZADD", "small", "1", "a", "2.5", "b")
        self.assertEqual(client.ok("ZSCAN", "small", "0", "NOSCORES"), [b"0", [b"a", b"b"]])
        self.assertEqual(client.ok("ZSCAN", "small", "0", "noscores", "MATCH", "b"), [b"0", [b"b"]])
        self.assert_error("ERR syntax error", client, "ZSCAN", "small", "0", "NOVALUES")
        cursor, seen = b"0", []
        while True:
            cursor, part = client.ok("ZSCAN", "big", cursor, "NOSCORES", "COUNT", "500")
            seen += part
            if cursor == b"0":
                break
        self.assertEqual(sorted(seen), sorted(b"member:%d" % i for i in range(self.MEMBERS)))

    def test_equal_scores_do_not_make_a_walk_endless(self):
        client = self.client()
        self.fill(client, "k", lambda i: 7)
        cursor, seen, steps = b"0", set(), 0
        while True:
            cursor, part = client.ok("ZSCAN", "k", cursor)
            seen.update(part[::2])
            steps += 1
            if cursor == b"0":
                break
        self.assertEqual(len(seen), self.MEMBERS)
        self.assertLess(steps, self.MEMBERS)

    def test_ranges_are_removed_from_a_big_set(self):
        client = self.client()
        self.fill(client, "k", lambda i: i)
        self.assert_reply(b"skiplist", client, "OBJECT", "ENCODING", "k")
        self.assert_reply(5000, client, "ZREMRANGEBYRANK", "k", "5000", "9999")
        self.assert_reply(5000, client, "ZREMRANGEBYSCORE", "k", "-inf", "(5000")
        self.assert_reply([b"member:10000", b"10000"], client, "ZPOPMIN", "k")
        self.assert_reply(self.MEMBERS - 10001, client, "ZCARD", "k")
        self.assert_reply(0, client, "ZRANK", "k", "member:10001")
        self.assert_reply(self.MEMBERS - 10001, client, "ZREMRANGEBYRANK", "k", "0", "-1")
        self.assert_reply(0, client, "EXISTS", "k")


if __name__ == "__main__":
    unittest.main()
