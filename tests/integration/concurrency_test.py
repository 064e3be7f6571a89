"""Several workers: what is atomic stays atomic, what is isolated stays isolated."""

import random
import threading
import unittest

from support.case import ServerTest, threads
from support.resp import NULL_ARRAY, OK, ErrorReply


class Crowd:
    """Threads that run until all are done; the first error of any of them is raised in the test."""

    def __init__(self):
        self.errors = []
        self.members = []
        self.stop = threading.Event()

    def add(self, work, *arguments):
        def run():
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001 - told to the test below
                self.errors.append(error)
                self.stop.set()

        self.members.append(threading.Thread(target=run))

    def run(self):
        for member in self.members:
            member.start()
        for member in self.members:
            member.join()
        if self.errors:
            raise self.errors[0]


@threads
class Concurrency(ServerTest):
    server_arguments = ("--threads", "4")

    def each(self, count, work):
        """Runs work(client, number) on `count` connections at once."""
        crowd = Crowd()

        def one(number):
            with self.server.client(timeout=60) as client:
                work(client, number)

        for number in range(count):
            crowd.add(one, number)
        crowd.run()

    def test_increments_are_not_lost(self):
        def work(client, _):
            for _ in range(20):
                client.pipeline([("INCR", "counter"), ("INCRBY", "other", "3")] * 50)

        self.each(12, work)
        self.assert_reply([b"12000", b"36000"], self.client(), "MGET", "counter", "other")

    def test_appends_are_whole(self):
        def work(client, number):
            client.pipeline([("APPEND", "k", f"<{number:02}>")] * 500)

        self.each(8, work)
        value = self.client().ok("GET", "k")
        self.assertEqual(sorted(value[i : i + 4] for i in range(0, len(value), 4)),
                         sorted(b"<%02d>" % number for number in range(8) for _ in range(500)))

    def test_mset_is_atomic_and_mget_isolated(self):
        keys = [f"key:{number}" for number in range(16)]
        self.client().ok("MSET", *[word for key in keys for word in (key, "0")])
        torn = []

        def work(client, number):
            for round_number in range(300):
                if number % 2:
                    value = f"{number}:{round_number}"
                    order = random.sample(keys, len(keys))
                    client.ok("MSET", *[word for key in order for word in (key, value)])
                else:
                    values = client.ok("MGET", *keys)
                    if len(set(values)) != 1:
                        torn.append(values)

        self.each(8, work)
        self.assertEqual(torn, [])

    def test_msetnx_has_one_winner(self):
        wins = []

        def work(client, number):
            for round_number in range(200):
                keys = [f"{round_number}:{part}" for part in range(8)]
                random.shuffle(keys)
                if client.ok("MSETNX", *[word for key in keys for word in (key, number)]) == 1:
                    wins.append(round_number)

        self.each(6, work)
        self.assertEqual(sorted(wins), list(range(200)))

    def test_rename_never_shows_both_or_none(self):
        self.client().ok("SET", "a", "x")
        wrong = []
        done = threading.Event()

        def work(client, number):
            if number == 0:
                for _ in range(1500):
                    client.ok("RENAME", "a", "b")
                    client.ok("RENAME", "b", "a")
                done.set()
            else:
                while not done.is_set():
                    if client.ok("EXISTS", "a", "b") != 1:
                        wrong.append(number)
                        return

        self.each(4, work)
        self.assertEqual(wrong, [])

    def test_transactions_are_isolated(self):
        accounts = [f"account:{number}" for number in range(10)]
        self.client().ok("MSET", *[word for account in accounts for word in (account, 1000)])
        wrong = []

        def work(client, number):
            for _ in range(200):
                if number % 3 == 0:
                    total = sum(int(value) for value in client.ok("MGET", *accounts))
                    if total != 10000:
                        wrong.append(total)
                else:
                    source, target = random.sample(accounts, 2)
                    client.pipeline([("MULTI",), ("DECRBY", source, 7), ("INCRBY", target, 7), ("EXEC",)])

        self.each(9, work)
        self.assertEqual(wrong, [])

    def test_watch_makes_read_modify_write_safe(self):
        self.client().ok("SET", "balance", "0")

        def work(client, _):
            for _ in range(100):
                while True:
                    client.ok("WATCH", "balance")
                    value = int(client.ok("GET", "balance"))
                    client.ok("MULTI")
                    client.ok("SET", "balance", value + 1)
                    if client.command("EXEC") != NULL_ARRAY:
                        break

        self.each(6, work)
        self.assert_reply(b"600", self.client(), "GET", "balance")

    def test_setnx_is_a_lock(self):
        inside = []
        overlaps = []

        def work(client, number):
            for _ in range(60):
                while client.command("SET", "lock", number, "NX", "PX", "60000") != OK:
                    pass
                inside.append(number)
                if len(inside) != 1:
                    overlaps.append(list(inside))
                inside.remove(number)
                client.ok("DEL", "lock")

        self.each(4, work)
        self.assertEqual(overlaps, [])

    def test_bitop_and_copy_across_shards(self):
        """Both read one key and write another, in either direction at once: a wrong lock order would hang."""

        def work(client, number):
            for _ in range(400):
                source, target = random.sample(["a", "b", "c", "d", "e"], 2)
                client.pipeline([("SET", source, "x" * 100), ("COPY", source, target, "REPLACE"), ("BITOP", "XOR", target, source, target),
                                 ("RENAME", source, target), ("PFMERGE", "hll:" + target, "hll:" + source), ("LCS", source, target)])

        self.each(8, work)
        self.assert_serves()

    def test_whole_keyspace_commands_amid_writes(self):
        def work(client, number):
            for round_number in range(60):
                kind = number % 8
                if kind == 0:
                    client.ok("FLUSHALL" if round_number % 2 else "FLUSHDB")
                elif kind == 1:
                    client.ok("SWAPDB", "0", "1")
                elif kind == 2:
                    client.ok("KEYS", "*")
                    client.ok("RANDOMKEY")
                    client.ok("DBSIZE")
                elif kind == 3:
                    client.ok("SELECT", round_number % 2)
                    client.pipeline([("MOVE", f"k{i}", 1 - round_number % 2) for i in range(20)])
                elif kind == 4:
                    cursor = b"0"
                    while True:
                        cursor, _ = client.ok("SCAN", cursor, "COUNT", "50")
                        if cursor == b"0":
                            break
                elif kind == 5:
                    client.ok("INFO", "all")
                    client.ok("CLIENT", "LIST")
                else:
                    client.pipeline([("SET", f"k{i}", "x" * i, "PX", 1 + i) for i in range(1, 100)])

        self.each(16, work)
        client = self.client()
        client.ok("FLUSHALL")
        self.assert_reply(0, client, "DBSIZE")

    def test_large_values_overwritten_while_they_are_sent(self):
        values = [bytes([letter]) * 300000 for letter in b"abcdef"]
        self.client().ok("SET", "big", values[0])
        torn = []

        def work(client, number):
            for round_number in range(60):
                if number % 2:
                    client.ok("SET", "big", values[(number + round_number) % len(values)])
                else:
                    for reply in client.pipeline([("GET", "big")] * 4):
                        if reply not in values:
                            torn.append(len(reply))

        self.each(8, work)
        self.assertEqual(torn, [])

    def test_keys_growing_and_shrinking_on_all_workers(self):
        def work(client, number):
            for round_number in range(15):
                keys = [f"{number}:{i}" for i in range(1000)]
                client.ok("MSET", *[word for key in keys for word in (key, key)])
                values = client.ok("MGET", *keys)
                if values != [key.encode() for key in keys]:
                    raise AssertionError("a value is not what was written")
                if client.ok("DEL", *keys) != 1000:
                    raise AssertionError(f"not all keys were there in round {round_number}")

        self.each(8, work)
        self.assert_reply(0, self.client(), "DBSIZE")

    def test_connections_killed_while_they_work(self):
        crowd = Crowd()
        done = threading.Event()

        def work(number):
            while not done.is_set():
                try:
                    with self.server.client() as client:
                        while not done.is_set():
                            client.pipeline([("SET", f"k{number}", "x"), ("GET", f"k{number}")] * 20)
                except (OSError, EOFError):
                    continue

        def kill():
            with self.server.client() as client:
                for _ in range(150):
                    client.ok("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            done.set()

        for number in range(8):
            crowd.add(work, number)
        crowd.add(kill)
        crowd.run()
        self.assert_serves()

    def test_configuration_changes_amid_traffic(self):
        def work(client, number):
            for round_number in range(100):
                if number == 0:
                    reply = client.command("CONFIG", "SET", "slowlog-log-slower-than", round_number, "maxclients", 1000 + round_number)
                    if isinstance(reply, ErrorReply):
                        raise AssertionError(reply.text)
                    client.ok("CONFIG", "RESETSTAT")
                elif number == 1:
                    client.ok("SLOWLOG", "GET")
                    client.ok("LATENCY", "LATEST")
                else:
                    client.pipeline([("SET", f"k{number}", "x"), ("GET", f"k{number}")] * 10)

        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "slowlog-log-slower-than", "10000", "maxclients", "10000"))
        self.each(6, work)


@threads
class MonitorAmidTraffic(ServerTest):
    server_arguments = ("--threads", "4")

    def test_commands_of_one_connection_are_shown_in_order(self):
        monitor = self.client()
        monitor.ok("MONITOR")
        crowd = Crowd()

        def work(number):
            with self.server.client() as client:
                for round_number in range(100):
                    client.ok("SET", f"k{number}", round_number)

        for number in range(4):
            crowd.add(work, number)
        crowd.run()
        seen = {number: [] for number in range(4)}
        while sum(map(len, seen.values())) < 400:
            words = monitor.read_reply().value.split(b'"')
            seen[int(words[3][1:])].append(int(words[5]))
        for number in range(4):
            self.assertEqual(seen[number], list(range(100)))


if __name__ == "__main__":
    unittest.main()
