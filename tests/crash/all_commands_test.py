"""Clients that send commands of all families at random to a server and to its replica, while operators save, rewrite,
demote, pause, set limits and break links. Nobody waits for ever; the replica has the same in the end, and so have both
when they have loaded what they keep."""

import random
import threading
import time
import unittest

from crash.kill_test import STEPS_S
from crash.storm_test import LINKS, LOOKS, OF_A_REPLICA, SNAPSHOTS, TIER, Operator, PairTest
from oracle.grammar import Generator, Grammar
from support import dataset
from support.case import long_run, terrace_only
from support.client import Client
from support.replicas import SETTLE_S, is_synced
from support.resp import encode_command

LATER_S = 4_102_444_800  # 2100: nothing expires meanwhile
DATABASES = range(16)
PIPELINE_MOST = 40
WRITES_ON_A_REPLICA = ("PFCOUNT", "PFDEBUG")  # what they keep in the value differs then
SMALL = (
    *("--hash-max-listpack-entries", "2", "--hash-max-listpack-value", "8", "--list-max-listpack-size", "2"),
    *("--set-max-listpack-entries", "2", "--set-max-intset-entries", "2", "--zset-max-listpack-entries", "2"),
    *("--zset-max-listpack-value", "8", "--stream-node-max-entries", "2", "--hll-sparse-max-bytes", "40"),
)
PAUSES = ("CLIENT PAUSE 40 WRITE", "CLIENT PAUSE 30 ALL", "CONFIG SET notify-keyspace-events KEA", "CONFIG RESETSTAT")
LIMITS = (
    *("CONFIG SET maxmemory 24mb", "CONFIG SET maxmemory 30mb", "CONFIG SET maxmemory 0"),
    *("CONFIG SET maxmemory-policy allkeys-lru", "CONFIG SET maxmemory-policy volatile-lfu"),
)
OPERATIONS = SNAPSHOTS + LINKS + LOOKS + TIER + PAUSES + LIMITS


class Anybody(threading.Thread):
    """A client of all commands; one that is disconnected comes again."""

    def __init__(self, port, seed, left_out=()):
        super().__init__(daemon=True)
        self.port = port
        self.random = random.Random(seed)
        self.grammar, self.generator = Grammar(), Generator(seed, LATER_S)
        self.left_out = left_out
        self.until = threading.Event()
        self.sent = 0
        self.last = []
        self.error = None

    def run(self):
        while not self.until.is_set():
            try:
                with Client(port=self.port, timeout=STEPS_S) as client:
                    client.command("HELLO", self.random.choice("23"))
                    while not self.until.is_set():
                        self.send_some(client)
            except TimeoutError as error:
                self.error = error
                return
            except (EOFError, ConnectionError):
                pass

    def send_some(self, client):
        drawn = [self.grammar.draw(self.generator) for _ in range(1 + self.random.randrange(PIPELINE_MOST))]
        self.last = [words for words in drawn if str(words[0]).upper() not in self.left_out]
        client.send_raw(b"".join(encode_command(*words) for words in self.last))
        for _ in self.last:
            client.read_reply()
        self.sent += len(self.last)


def without_signs(value):
    """The sign of a zero is lost where a sorted set becomes packed, as in Redis."""
    if isinstance(value, (list, tuple)):
        return tuple(without_signs(item) for item in value)
    if isinstance(value, dict):
        return {key: without_signs(item) for key, item in value.items()}
    return b"0" if value == b"-0" else value


def contents(client):
    return {key: without_signs(value) for key, value in dataset.contents(client, DATABASES).items()}


@terrace_only("it has no tier")
class AllCommands(PairTest):
    def setUp(self):
        super().setUp()
        self.small = ()
        self.arguments = {}

    def arguments_of(self, name):
        limits = (*self.small, "--proto-max-bulk-len", "4mb")
        self.arguments[name.rstrip("0123456789")] = arguments = (*super().arguments_of(name), *limits)
        return arguments

    def run_pair(self, primary, replica):
        seed = self.random.randrange(1 << 30)
        threads = [Anybody(primary.port, seed), Anybody(primary.port, seed + 1)]
        threads += [Anybody(replica.port, seed + 2, WRITES_ON_A_REPLICA)]
        threads += [
            Operator(primary.port, OPERATIONS, seed + 3, threading.Lock()),
            Operator(replica.port, OPERATIONS + OF_A_REPLICA, seed + 4, threading.Lock(), primary.port),
        ]
        try:
            for thread in threads:
                thread.start()
            time.sleep(self.random.uniform(1, 3))  # how much of all this meets is up to chance
            for thread in threads:
                thread.until.set()
            for thread in threads:
                thread.join(2 * STEPS_S)
                last = thread.last if isinstance(thread, Anybody) else thread.done[-20:]
                self.assertIsNone(thread.error, last)
                self.assertFalse(thread.is_alive(), last)
            self.compare(primary, replica)
        except BaseException:
            print(f"{self.arguments}\n{primary.output_text()}\n{replica.output_text()}", flush=True)
            raise
        print(f"{sum(thread.sent for thread in threads if isinstance(thread, Anybody))} commands", flush=True)

    def compare(self, primary, replica):
        with primary.client() as client, replica.client() as other:
            for one in (client, other):
                one.ok("CLIENT", "UNPAUSE")
                one.ok("CONFIG", "SET", "maxmemory", 0)
            deadline = time.monotonic() + SETTLE_S
            while not is_synced(client, other):
                self.assertLess(time.monotonic(), deadline, other.info("replication"))
                time.sleep(0.01)
            before = contents(client)
            self.assertEqual(dataset.differences(before, contents(other)), "")
            for one in (client, other):
                self.wait_for_base(one)
                one.command("SAVE")
        for server, name in ((replica, "replica"), (primary, "primary")):
            server.process.terminate()
            self.assertEqual(server.wait_for_exit(STEPS_S), 0)
            again = self.started(self.arguments[name], {})
            try:
                with again.client() as client:
                    self.assertEqual(dataset.differences(before, contents(client)), "")
            except BaseException:
                print(again.output_text(), flush=True)
                raise
            finally:
                again.kill()

    def wait_for_base(self, client):
        """A replica's file begins anew with each full copy, and without its first base the server does not end."""
        deadline = time.monotonic() + SETTLE_S
        while "1" in (client.info("persistence")[name] for name in ("aof_rewrite_in_progress", "aof_rewrite_scheduled")):
            self.assertLess(time.monotonic(), deadline, client.info("persistence"))
            time.sleep(0.01)

    def test_of_many_clients(self):
        self.run_pairs(50 if long_run() else 2)

    def test_where_nearly_everything_is_made_of_pages(self):
        self.small = SMALL
        self.run_pairs(50 if long_run() else 2)


if __name__ == "__main__":
    unittest.main()
