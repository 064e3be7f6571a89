"""Keys that end by themselves."""

import time
import unittest

from support.case import ServerTest, long_test, threads
from support.resp import NULL_BULK, OK


class Expiry(ServerTest):
    server_arguments = ("--threads", "2")

    def wait_gone(self, client, key):
        self.wait_until(lambda: client.command("EXISTS", key) == 0, f"{key} is gone")

    def test_a_key_is_there_until_its_time_and_not_after(self):
        client = self.client()
        started = time.monotonic()
        client.ok("SET", "k", "v", "PX", "300")
        self.wait_until(lambda: client.command("GET", "k") != b"v", "it is gone")
        self.assertGreaterEqual(time.monotonic() - started, 0.29)
        self.assert_reply(NULL_BULK, client, "GET", "k")

    def test_every_reader_agrees_that_it_is_gone(self):
        client = self.client()
        client.ok("SET", "k", "v", "PX", "1")
        self.wait_gone(client, "k")
        for command, reply in [
            (("GET", "k"), NULL_BULK), (("STRLEN", "k"), 0), (("TTL", "k"), -2), (("PTTL", "k"), -2), (("EXPIRETIME", "k"), -2),
            (("TYPE", "k"), None), (("DEL", "k"), 0), (("TOUCH", "k"), 0), (("PERSIST", "k"), 0), (("EXPIRE", "k", "10"), 0),
            (("GETRANGE", "k", "0", "-1"), b""), (("GETDEL", "k"), NULL_BULK), (("MGET", "k"), [NULL_BULK]), (("KEYS", "*"), []),
            (("COPY", "k", "other"), 0), (("MOVE", "k", "1"), 0), (("SET", "k", "v", "XX"), NULL_BULK), (("BITCOUNT", "k"), 0),
        ]:
            if reply is not None:
                self.assert_reply(reply, client, *command)

    def test_writers_start_afresh(self):
        client = self.client()
        for command, value in [(("APPEND", "k", "new"), b"new"), (("INCR", "k"), b"1"), (("SETRANGE", "k", "1", "x"), b"\0x"),
                               (("SETNX", "k", "new"), b"new"), (("INCRBYFLOAT", "k", "1.5"), b"1.5")]:
            client.ok("SET", "k", "5", "PX", "1")
            # Not by EXISTS: the write itself is to find out.
            time.sleep(0.005)
            client.ok(*command)
            self.assert_reply(value, client, "GET", "k")
            self.assert_reply(-1, client, "TTL", "k")
            client.ok("DEL", "k")

    def test_keys_nobody_asks_for_are_reclaimed(self):
        client = self.client()
        for start in range(0, 20000, 1000):
            client.pipeline([("SET", f"k{number}", "v", "PX", "50") for number in range(start, start + 1000)])
        client.ok("SET", "stays", "v")
        self.wait_until(lambda: client.command("DBSIZE") == 1, "all keys but one are reclaimed")
        self.assertGreaterEqual(int(client.info("stats")["expired_keys"]), 20000)

    def test_in_every_database(self):
        client = self.client()
        for database in range(16):
            client.ok("SELECT", database)
            client.pipeline([("SET", f"k{number}", "v", "PX", "20") for number in range(200)])
        self.wait_until(lambda: "db" not in " ".join(client.info("keyspace")), "all databases are empty")

    def test_active_expiry_may_be_switched_off(self):
        server = self.start_server("--enable-debug-command", "yes")
        client = self.connect_to(server)
        client.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        client.pipeline([("SET", f"k{number}", "v", "PX", "1") for number in range(100)])
        time.sleep(0.3)  # Nothing is to happen: there is no event to wait for.
        self.assert_reply(100, client, "DBSIZE")
        self.assert_reply(0, client, "EXISTS", *[f"k{number}" for number in range(100)])
        client.ok("SET", "late", "v", "PX", "1")
        client.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        self.wait_until(lambda: client.command("DBSIZE") == 0, "it goes on afterwards")

    def test_times_survive_rename_copy_and_move(self):
        client = self.client()
        client.ok("SET", "k", "v", "PXAT", "4102444800123")
        client.ok("RENAME", "k", "renamed")
        client.ok("COPY", "renamed", "copied")
        client.ok("MOVE", "renamed", "3")
        self.assert_reply(4102444800123, client, "PEXPIRETIME", "copied")
        client.ok("SELECT", "3")
        self.assert_reply(4102444800123, client, "PEXPIRETIME", "renamed")

    def test_what_keeps_and_what_clears_the_time(self):
        client = self.client()
        for command in (("APPEND", "k", "1"), ("INCR", "k"), ("SETRANGE", "k", "0", "1"), ("SETBIT", "k", "0", "0"), ("GETEX", "k"),
                        ("SET", "k", "1", "KEEPTTL"), ("INCRBYFLOAT", "k", "1"), ("BITFIELD", "k", "INCRBY", "u8", "0", "1")):
            client.ok("SET", "k", "1", "EXAT", "4102444800")
            client.ok(*command)
            self.assert_reply(4102444800, client, "EXPIRETIME", "k")
        for command in (("SET", "k", "1"), ("GETSET", "k", "1"), ("MSET", "k", "1"), ("PERSIST", "k"), ("GETEX", "k", "PERSIST"),
                        ("BITOP", "NOT", "k", "k")):
            client.ok("SET", "k", "1", "EXAT", "4102444800")
            client.ok(*command)
            self.assert_reply(-1, client, "EXPIRETIME", "k")

    def test_a_time_in_the_past_deletes_at_once(self):
        client = self.client()
        for command in (("EXPIRE", "k", "-1"), ("EXPIRE", "k", "0"), ("PEXPIRE", "k", "-100"), ("EXPIREAT", "k", "1"), ("PEXPIREAT", "k", "1"),
                        ("GETEX", "k", "EXAT", "1"), ("SET", "k", "v", "PXAT", "1")):
            client.ok("SET", "k", "v")
            client.ok(*command)
            self.assert_reply(0, client, "EXISTS", "k")
        self.assert_reply(0, client, "DBSIZE")

    def test_the_times_are_counted(self):
        client = self.client()
        client.pipeline([("SET", f"k{number}", "v", "EX", 1000) for number in range(30)])
        client.ok("SET", "forever", "v")
        fields = dict(part.split("=") for part in client.info("keyspace")["db0"].split(","))
        self.assertEqual((fields["keys"], fields["expires"]), ("31", "30"))
        client.ok("PERSIST", "k1")
        client.ok("DEL", "k2")
        client.ok("SET", "k3", "v")
        fields = dict(part.split("=") for part in client.info("keyspace")["db0"].split(","))
        self.assertEqual((fields["keys"], fields["expires"]), ("30", "27"))

    @threads
    def test_expiring_keys_under_traffic(self):
        server = self.start_server("--threads", "4")
        import threading

        def work(number):
            with server.client() as client:
                for round_number in range(40):
                    client.pipeline([("SET", f"{number}:{i}", "v", "PX", 1 + (i + round_number) % 20) for i in range(200)])
                    client.pipeline([("GET", f"{number}:{i}") for i in range(200)])

        workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        client = self.connect_to(server)
        self.wait_until(lambda: client.command("DBSIZE") == 0, "all are reclaimed")
        self.assert_reply(OK, client, "SET", "k", "v")

    @long_test
    def test_a_million_in_the_same_second(self):
        client = self.client(timeout=60)
        deadline = int(time.time() * 1000) + 15000
        for start in range(0, 1000000, 5000):
            client.pipeline([("SET", f"k{number}", "v", "PXAT", deadline) for number in range(start, start + 5000)])
        slowest = 0.0
        while client.command("DBSIZE") > 0:
            started = time.monotonic()
            client.ok("PING")
            slowest = max(slowest, time.monotonic() - started)
            self.assertLess(time.time() * 1000, deadline + 10000, "not reclaimed within 10 s")
        self.assertLess(slowest, 0.1)


if __name__ == "__main__":
    unittest.main()
