"""CLIENT TRACKING: clients that keep copies of what they read are told when it changes."""

import threading
import unittest

from support.case import ServerTest, threads
from support.resp import NULL_BULK, OK, Map, Null, Push, SetReply
from support.server import is_redis

NULL = Null("null")


class TrackingTest(ServerTest):
    server_arguments = ("--threads", "4")

    def tracker(self, *options):
        client = self.client()
        client.ok("HELLO", "3")
        client.ok("CLIENT", "TRACKING", "ON", *options)
        return client

    def expect_told(self, client, *keys):
        """The client is told of these keys, in this order, and of nothing else."""
        client.send("ECHO", "now")
        reply = client.read_reply()
        self.assertEqual(reply, b"now")
        told = []
        for push in client.pushes:
            self.assertEqual(push.value[0], b"invalidate")
            told += push.value[1] if isinstance(push.value[1], list) else [push.value[1]]
        client.pushes.clear()
        self.assertEqual(told, [key.encode() if isinstance(key, str) else key for key in keys])


class DefaultMode(TrackingTest):
    def test_a_key_that_was_read_and_changes(self):
        client, writer = self.tracker(), self.client()
        writer.ok("SET", "a", "1")
        self.assert_reply(b"1", client, "GET", "a")
        self.expect_told(client)
        writer.ok("SET", "a", "2")
        self.expect_told(client, "a")
        writer.ok("SET", "a", "3")
        self.expect_told(client)
        client.ok("MGET", "a", "b", "c")
        for command in (("DEL", "a"), ("SET", "b", "1"), ("SET", "d", "1")):
            writer.ok(*command)
        self.expect_told(client, "a", "b")

    def test_all_ways_to_change_a_key(self):
        client, writer = self.tracker(), self.client()
        for command in (("APPEND", "k", "x"), ("EXPIRE", "k", "100"), ("PERSIST", "k"), ("SETRANGE", "k", "0", "y"), ("SETBIT", "k", "70", "1"), ("RENAME", "k", "other"),
                        ("COPY", "other", "k"), ("MOVE", "k", "2"), ("INCR", "k"), ("GETDEL", "k"), ("MSET", "k", "1")):
            client.ok("EXISTS", "k")
            writer.ok(*command)
            self.expect_told(client, "k")

    def test_in_whatever_database(self):
        client, writer = self.tracker(), self.client()
        client.ok("GET", "k")
        writer.ok("SELECT", "3")
        writer.ok("SET", "k", "1")
        self.expect_told(client, "k")

    def test_expired(self):
        client, writer, lifetime_ms = self.tracker(), self.client(), 30
        writer.ok("PSETEX", "soon", lifetime_ms, "v")
        while client.ok("GET", "soon") != b"v":  # it was gone before it was read
            lifetime_ms *= 4
            client.ok("CLIENT", "TRACKING", "OFF")
            writer.ok("PSETEX", "soon", lifetime_ms, "v")
            client.ok("CLIENT", "TRACKING", "ON")
            client.pushes.clear()
        self.assertEqual(client.read_push(), Push([b"invalidate", [b"soon"]]))

    def test_what_it_writes_itself_comes_behind_the_reply(self):
        client = self.tracker()
        client.ok("GET", "own")
        client.send("SET", "own", "1")
        client.send("PING")
        self.assertEqual(client.read_reply(), OK)
        client.read_reply()
        self.assertEqual(client.pushes, [Push([b"invalidate", [b"own"]])])

    def test_noloop(self):
        client, writer = self.tracker("NOLOOP"), self.client()
        client.ok("GET", "a")
        client.ok("SET", "a", "1")
        self.expect_told(client)
        client.ok("GET", "a")
        writer.ok("SET", "a", "2")
        self.expect_told(client, "a")

    def test_in_transactions(self):
        client, writer = self.tracker(), self.client()
        for command in (("MULTI",), ("GET", "a"), ("GET", "b"), ("EXEC",)):
            client.ok(*command)
        for command in (("MULTI",), ("SET", "b", "1"), ("SET", "a", "1"), ("EXEC",)):
            writer.ok(*command)
        self.expect_told(client, "b", "a")

    def test_flushing_tells_all_at_once(self):
        clients = [self.tracker() for _ in range(4)] + [self.tracker("BCAST", "PREFIX", "x")]
        clients[0].ok("GET", "a")
        for command in ("FLUSHDB", "FLUSHALL"):
            self.client().ok(command)
            for client in clients:
                self.assertEqual(client.read_push(), Push([b"invalidate", NULL]))

    def test_off(self):
        client, writer = self.tracker(), self.client()
        client.ok("GET", "a")
        client.ok("CLIENT", "TRACKING", "OFF")
        writer.ok("SET", "a", "1")
        self.expect_told(client)

    def test_another_mode_keeps_what_was_read(self):
        client, writer = self.tracker(), self.client()
        client.ok("GET", "a")
        client.ok("CLIENT", "TRACKING", "ON", "NOLOOP")
        writer.ok("SET", "a", "1")
        self.expect_told(client, "a")

    def test_a_resp2_client_without_redirection_is_told_nothing(self):
        client = self.client()
        client.ok("CLIENT", "TRACKING", "ON")
        client.ok("GET", "a")
        self.client().ok("SET", "a", "1")
        self.assert_reply(b"x", client, "ECHO", "x")

    def test_the_table_is_bounded(self):
        client, admin = self.tracker(), self.client()
        admin.ok("CONFIG", "SET", "tracking-table-max-keys", "10")
        self.addCleanup(lambda: self.server.client().ok("CONFIG", "SET", "tracking-table-max-keys", "1000000"))
        for i in range(200):
            client.ok("GET", f"key:{i}")
        self.wait_until(lambda: int(admin.info("stats")["tracking_total_keys"]) <= 10, "the table shrinks")
        client.ok("PING")
        self.assertGreaterEqual(sum(len(push.value[1]) for push in client.pushes), 190)

    def test_a_limit_that_is_lowered_holds_for_what_is_there(self):
        client, control = self.tracker(), self.client()
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "tracking-table-max-keys", "1000000"))
        client.ok("MGET", *(f"key:{number}" for number in range(300)))
        control.ok("CONFIG", "SET", "tracking-table-max-keys", "10")
        self.wait_until(lambda: int(control.info("stats")["tracking_total_keys"]) <= 10, "the table is as small as it should be")
        client.ok("ECHO", "now")
        self.assertEqual(len({push.value[1][0] for push in client.pushes}), 290)

    def test_one_who_waited_is_answered_before_it_is_told(self):
        client, writer = self.tracker(), self.client()
        for _ in range(200):
            writer.ok("RPUSH", "to", "x")
            client.ok("LRANGE", "to", "0", "-1")
            client.send("BLMOVE", "from", "to", "LEFT", "LEFT", "0")
            self.wait_until(lambda: int(writer.info("clients")["blocked_clients"]) == 1, "it waits")
            writer.ok("RPUSH", "from", "a")
            self.assertEqual(client.read_reply(), b"a")
            self.assertEqual(client.pushes, [])
            self.expect_told(client, "to")
            writer.ok("DEL", "to")

    def test_figures(self):
        admin = self.client()
        self.wait_until(lambda: admin.info("clients")["tracking_clients"] == "0", "the clients of other tests have left")
        admin.ok("FLUSHALL")
        self.wait_until(lambda: is_redis() or admin.info("stats")["tracking_total_keys"] == "0", "what they had read is forgotten")
        before = 0
        clients = [self.tracker() for _ in range(3)] + [self.tracker("BCAST", "PREFIX", "a", "PREFIX", "b"), self.tracker("BCAST")]
        for client in clients[:3]:
            client.ok("MGET", "x", "y")
        self.assertEqual(int(admin.info("clients")["tracking_clients"]) - before, 5)
        stats = admin.info("stats")
        self.assertEqual((stats["tracking_total_keys"], stats["tracking_total_items"]), ("2", "6"))
        admin.ok("SET", "x", "1")
        self.assertEqual(admin.info("stats")["tracking_total_keys"], "1")
        for client in clients:
            client.abort()
        self.wait_until(lambda: int(admin.info("clients")["tracking_clients"]) <= before, "the clients are forgotten")

    @threads
    def test_no_change_is_missed(self):
        """Whatever a client has read last, it is told when it is not so any more."""
        stop, counters = threading.Event(), [0] * 4

        def write(number):
            with self.server.client() as client:
                while not stop.is_set():
                    counters[number] = client.ok("INCR", f"counter:{number}")

        writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for writer in writers:
            writer.start()
        try:
            client = self.tracker()
            for _ in range(500):
                for number in range(4):
                    client.ok("GET", f"counter:{number}")
                for number in range(4):
                    client.read_push()
        finally:
            stop.set()
            for writer in writers:
                writer.join()


class OptionalMode(TrackingTest):
    def test_optin(self):
        client, writer = self.tracker("OPTIN"), self.client()
        client.ok("GET", "a")
        client.ok("CLIENT", "CACHING", "YES")
        client.ok("GET", "b")
        client.ok("GET", "c")
        writer.ok("MSET", "a", "1", "b", "1", "c", "1")
        self.expect_told(client, "b")

    def test_optout(self):
        client, writer = self.tracker("OPTOUT"), self.client()
        client.ok("GET", "a")
        client.ok("CLIENT", "CACHING", "NO")
        client.ok("GET", "b")
        client.ok("GET", "c")
        writer.ok("MSET", "a", "1", "b", "1", "c", "1")
        self.expect_told(client, "a", "c")

    def test_caching_holds_for_a_transaction(self):
        client, writer = self.tracker("OPTIN"), self.client()
        for command in (("CLIENT", "CACHING", "YES"), ("MULTI",), ("GET", "a"), ("GET", "b"), ("EXEC",), ("GET", "c")):
            client.ok(*command)
        writer.ok("MSET", "a", "1", "b", "1", "c", "1")
        self.expect_told(client, "a", "b")
        for command in (("MULTI",), ("GET", "d"), ("CLIENT", "CACHING", "YES"), ("GET", "e"), ("EXEC",), ("GET", "f")):
            client.ok(*command)
        writer.ok("MSET", "d", "1", "e", "1", "f", "1")
        self.expect_told(client, "e")


class Broadcasting(TrackingTest):
    def test_prefixes(self):
        client, writer = self.tracker("BCAST", "PREFIX", "user:", "PREFIX", "order:"), self.client()
        for key in ("user:1", "other:1", "order:7", "user:1"):
            writer.ok("SET", key, "1")
            self.expect_told(client, *([] if key.startswith("other") else [key]))
        client.ok("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "other:")
        writer.ok("SET", "other:1", "1")
        self.expect_told(client, "other:1")

    def test_all_keys(self):
        client, writer = self.tracker("BCAST"), self.client()
        writer.ok("SET", "any", "1")
        self.expect_told(client, "any")

    def test_what_a_command_changes_is_one_message_for_each_prefix(self):
        client, writer = self.tracker("BCAST", "PREFIX", "user:", "PREFIX", "order:"), self.client()
        writer.ok("MSET", "user:2", "1", "order:7", "1", "user:1", "1", "other:1", "1", "user:2", "1")
        told = sorted([client.read_push().value[1] for _ in range(2)], key=len)
        self.assertEqual(told, [[b"order:7"], [b"user:1", b"user:2"]])

    def test_noloop(self):
        client, other = self.tracker("BCAST", "NOLOOP"), self.tracker("BCAST")
        client.ok("SET", "a", "1")
        self.expect_told(client)
        self.expect_told(other, "a")


class Redirecting(TrackingTest):
    def listener(self):
        client = self.client()
        number = client.ok("CLIENT", "ID")
        client.ok("SUBSCRIBE", "__redis__:invalidate")
        return client, number

    def test_to_a_resp2_subscriber(self):
        (listener, number), client, writer = self.listener(), self.client(), self.client()
        client.ok("CLIENT", "TRACKING", "ON", "REDIRECT", str(number))
        self.assert_reply(number, client, "CLIENT", "GETREDIR")
        client.ok("GET", "a")
        writer.ok("SET", "a", "1")
        self.assertEqual(listener.read_reply(), [b"message", b"__redis__:invalidate", [b"a"]])
        writer.ok("FLUSHALL")
        self.assertEqual(listener.read_reply(), [b"message", b"__redis__:invalidate", NULL_BULK])

    def test_to_a_resp3_connection(self):
        target = self.client()
        target.ok("HELLO", "3")
        client = self.tracker("REDIRECT", str(target.ok("CLIENT", "ID")))
        client.ok("GET", "a")
        self.client().ok("SET", "a", "1")
        self.assertEqual(target.read_push(), Push([b"invalidate", [b"a"]]))

    def test_who_has_quit_gets_no_more(self):
        for _ in range(50):  # what is read of QUIT's reply comes before the connection is closed
            listener, number = self.listener()
            client, writer = self.tracker("REDIRECT", str(number)), self.client()
            client.ok("GET", "a")
            listener.ok("QUIT")
            writer.ok("SET", "a", "1")
            self.assertEqual(client.read_push(), Push([b"tracking-redir-broken", number]))

    def test_the_other_connection_leaves(self):
        listener, number = self.listener()
        client, writer = self.tracker("REDIRECT", str(number)), self.client()
        listener.close()
        self.wait_until(lambda: f"id={number} " not in writer.ok("CLIENT", "LIST").decode(), "the connection is closed")
        client.ok("GET", "a")
        writer.ok("SET", "a", "1")
        self.assertEqual(client.read_push(), Push([b"tracking-redir-broken", number]))
        self.assertIn(b"broken_redirect", client.ok("CLIENT", "TRACKINGINFO").value[0][1].value)


class Commands(TrackingTest):
    def test_errors(self):
        client = self.client()
        for error, *arguments in (
                ("ERR syntax error", "TRACKING", "MAYBE"),
                ("ERR syntax error", "TRACKING", "ON", "FOO"),
                ("ERR syntax error", "TRACKING", "ON", "PREFIX"),
                ("ERR The client ID you want redirect to does not exist", "TRACKING", "ON", "REDIRECT", "999999"),
                ("ERR value is not an integer or out of range", "TRACKING", "ON", "REDIRECT", "x"),
                ("ERR PREFIX option requires BCAST mode to be enabled", "TRACKING", "ON", "PREFIX", "x"),
                ("ERR OPTIN and OPTOUT are not compatible with BCAST", "TRACKING", "ON", "BCAST", "OPTIN"),
                ("ERR You can't specify both OPTIN mode and OPTOUT mode", "TRACKING", "ON", "OPTIN", "OPTOUT"),
                ("ERR Prefix 'ab' overlaps with another provided prefix 'a'. Prefixes for a single client must not overlap.",
                 "TRACKING", "ON", "BCAST", "PREFIX", "ab", "PREFIX", "a"),
                ("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled", "CACHING", "YES"),
                ("ERR wrong number of arguments for 'client|tracking' command", "TRACKING")):
            with self.subTest(arguments):
                self.assert_error(error, client, "CLIENT", *arguments)
        client.ok("CLIENT", "TRACKING", "ON", "OPTIN")
        self.assert_error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.", client, "CLIENT", "CACHING", "NO")
        self.assert_error("ERR syntax error", client, "CLIENT", "CACHING", "PERHAPS")
        switch = "ERR You can't switch {} mode{} before disabling tracking for this client, and then re-enabling it with a different mode."
        self.assert_error(switch.format("OPTIN/OPTOUT", ""), client, "CLIENT", "TRACKING", "ON", "OPTOUT")
        self.assert_error(switch.format("BCAST", " on/off"), client, "CLIENT", "TRACKING", "ON", "BCAST")
        client.ok("CLIENT", "TRACKING", "OFF")
        client.ok("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a")
        self.assert_error("ERR Prefix 'ab' overlaps with an existing prefix 'a'. Prefixes for a single client must not overlap.", client,
                          "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "ab")

    def test_trackinginfo_and_getredir(self):
        def told(flags, redirect, prefixes):
            return Map([(b"flags", SetReply(flags)), (b"redirect", redirect), (b"prefixes", prefixes)])

        client = self.client()
        client.ok("HELLO", "3")
        self.assert_reply(-1, client, "CLIENT", "GETREDIR")
        self.assert_reply(told([b"off"], -1, []), client, "CLIENT", "TRACKINGINFO")
        client.ok("CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP")
        self.assert_reply(0, client, "CLIENT", "GETREDIR")
        self.assert_reply(told([b"on", b"optin", b"noloop"], 0, []), client, "CLIENT", "TRACKINGINFO")
        client.ok("CLIENT", "CACHING", "YES")
        self.assert_reply(told([b"on", b"optin", b"caching-yes", b"noloop"], 0, []), client, "CLIENT", "TRACKINGINFO")
        client.ok("CLIENT", "TRACKING", "OFF")
        client.ok("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "p")
        self.assert_reply(told([b"on", b"bcast"], 0, [b"p"]), client, "CLIENT", "TRACKINGINFO")
        line = next(line for line in self.client().ok("CLIENT", "LIST").decode().split("\n") if " flags=tB " in line)
        self.assertIn(" redir=0 ", line)
        client.ok("RESET")
        self.assert_reply(-1, client, "CLIENT", "GETREDIR")


if __name__ == "__main__":
    unittest.main()
