"""What several clients do at random, by commands of all families, is the same after a restart with the append-only
file: the same keys in the same databases, with the same values and the same times to live."""

import re
import tempfile
import threading
import time
import unittest

from oracle.grammar import Generator, Grammar
from support.case import ServerTest, terrace_only, threads
from support.resp import OK, encode_command

FAMILIES = ("strings", "keys", "hashes", "lists", "sets", "sorted_sets", "streams", "transactions", "bitmaps", "geo",
            "hyperloglog", "sort")
LEFT_OUT = {"SHUTDOWN", "DEBUG", "CLIENT", "CONFIG", "MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "RESET", "QUIT"}
CLIENTS = 6
PIPELINES = 60
PIPELINE_MOST = 40
SEED = 20261121
DATABASES = 16
SOON_MS = 300_000
TIMED_HASH_FIELDS = 200
EVICTED_OF = 10_000


def draw(grammar, generator):
    while True:
        command = grammar.draw(generator)
        if command and str(command[0]).upper() not in LEFT_OUT:
            return command


def act(server, seed, failures):
    """One client: pipelines of random commands, as the oracle draws them."""
    try:
        grammar, generator = Grammar(FAMILIES), Generator(seed, int(time.time()))
        with server.client(timeout=60) as client:
            for _ in range(PIPELINES):
                commands = [draw(grammar, generator) for _ in range(1 + generator.below(PIPELINE_MOST))]
                client.send_raw(b"".join(encode_command(*command) for command in commands))
                for _ in commands:
                    client.read_reply()
    except Exception as error:  # pylint: disable=broad-except
        failures.append(f"seed {seed}: {error!r}")


def keys_of(client):
    cursor = b"0"
    while True:
        cursor, names = client.command("SCAN", cursor, "COUNT", "1000")
        yield from names
        if cursor == b"0":
            return


def settle(client):
    """Nothing expires from here on while the test looks: what would soon is deleted, fields lose their times."""
    soon = int(time.time() * 1000) + SOON_MS
    for database in range(DATABASES):
        client.ok("SELECT", str(database))
        for name in set(keys_of(client)):
            if 0 <= client.command("PEXPIRETIME", name) < soon:
                client.command("DEL", name)
            elif client.command("TYPE", name) == b"hash":
                fields = client.command("HKEYS", name)
                for at in range(0, len(fields), TIMED_HASH_FIELDS):
                    some = fields[at : at + TIMED_HASH_FIELDS]
                    client.command("HPERSIST", name, "FIELDS", str(len(some)), *some)


def contents(client):
    """{(database, key): (type, digest of the value, when it expires)}"""
    found = {}
    for database in range(DATABASES):
        client.ok("SELECT", str(database))
        for name in set(keys_of(client)):
            found[database, name] = (client.command("TYPE", name), client.command("DEBUG", "DIGEST-VALUE", name)[0],
                                     client.command("PEXPIRETIME", name))
    return found


@terrace_only("reads digests of values of every type")
@threads
class Journal(ServerTest):
    def run_clients(self, server):
        failures = []
        running = [threading.Thread(target=act, args=(server, SEED + number, failures)) for number in range(CLIENTS)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        self.assertEqual([], failures)

    def check(self, *arguments):
        arguments = ("--appendonly", "yes", "--appendfsync", "no", "--enable-debug-command", "yes", *arguments)
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            server = self.start_server(*arguments, directory=directory)
            self.run_clients(server)
            with server.client() as client:
                settle(client)
                before = contents(client)
            server.stop()
            server = self.start_server(*arguments, directory=directory)
            with server.client() as client:
                after = contents(client)
            server.stop()
        self.assertGreater(len(before), 30)
        different = {key: (before.get(key), after.get(key)) for key in before.keys() | after.keys()
                     if before.get(key) != after.get(key)}
        self.assertEqual({}, different)

    def test_one_worker(self):
        self.check("--threads", "1")

    def test_several_workers(self):
        self.check("--threads", "3")

    def test_switched_on_at_run_time(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            arguments = ("--threads", "2", "--enable-debug-command", "yes")
            server = self.start_server(*arguments, "--appendonly", "no", directory=directory)
            with server.client() as client:
                client.ok("SET", "before", "1")
                client.ok("CONFIG", "SET", "appendonly", "yes")
                self.run_clients(server)
                settle(client)
                before = contents(client)
            server.stop()
            server = self.start_server(*arguments, "--appendonly", "yes", directory=directory)
            with server.client() as client:
                after = contents(client)
            server.stop()
        self.assertEqual(before, after)

    def test_thresholds_hold_in_the_replay(self):
        """A sketch is dense again where it had become dense."""
        arguments = ("--threads", "2", "--appendonly", "yes", "--hll-sparse-max-bytes", "40")
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            server = self.start_server(*arguments, directory=directory)
            with server.client() as client:
                client.command("PFADD", "sketch", *(f"element:{i}" for i in range(20)))
                before = client.command("GET", "sketch")
            server.stop()
            server = self.start_server(*arguments, directory=directory)
            with server.client() as client:
                self.assertEqual(before, client.command("GET", "sketch"))
            server.stop()

    def test_what_was_evicted_stays_away(self):
        arguments = ("--threads", "2", "--appendonly", "yes", "--appendfsync", "no")
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            server = self.start_server(*arguments, directory=directory)
            with server.client(timeout=60) as client:
                used = int(re.search(rb"used_memory:(\d+)", client.command("INFO", "memory"))[1])
                client.ok("CONFIG", "SET", "maxmemory", str(used + (4 << 20)), "maxmemory-policy", "allkeys-random")
                for at in range(0, EVICTED_OF, 100):
                    client.send_raw(b"".join(encode_command("SET", f"k{n}", "x" * 1000) for n in range(at, at + 100)))
                    # Refused, where a busy machine has not evicted in time; but only for that.
                    for reply in [client.read_reply() for _ in range(100)]:
                        self.assertTrue(reply == OK or reply.text.startswith("OOM "), reply)
                client.ok("CONFIG", "SET", "maxmemory", "0")
                before = set(keys_of(client))
            server.stop()
            self.assertLess(len(before), EVICTED_OF)
            self.assertGreater(len(before), 100)
            server = self.start_server(*arguments, directory=directory)
            with server.client() as client:
                after = set(keys_of(client))
            server.stop()
        self.assertEqual(before, after)


if __name__ == "__main__":
    unittest.main()
