"""The base of tests that talk to a server, and the marks a test can carry.

    @threads       its subject is several workers; the ThreadSanitizer run picks these
    @long_test     minutes or gigabytes; only with `tests/run --long`
    @terrace_only  checks what redis-server does otherwise; skipped, with the reason, when run against that
"""

import os
import random
import threading
import time
import unittest

from support.client import Client, describe_command
from support.resp import ErrorReply
from support.server import Server, is_redis


def threads(target):
    target.marked_threads = True
    return target


def long_test(target):
    target.marked_long = True
    return target


def terrace_only(reason):
    return unittest.skipIf(is_redis(), f"redis-server differs: {reason}")


def long_run():
    return os.environ.get("TERRACE_TEST_LONG") == "1"


def new_seed():
    """The seed of a random test, which prints it: TERRACE_TEST_SEED replays. tests/run sets that to the same seed always,
    since what a change has to pass must not be a lottery; the search for new ones is what --long is for."""
    return int(os.environ.get("TERRACE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))


class Busy:
    """A client that is never idle for long, as long as the context lasts. check() fails if the server has closed it, unless this process itself was put aside for so long that it may have looked idle."""

    IDLE_S = 0.9  # less than any `timeout`

    def __init__(self, server):
        self.client = server.client()
        self.error = None
        self.longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self.client.close()

    def _run(self):
        before = time.monotonic()
        try:
            while not self._ended.wait(0.01):
                self.client.ok("PING")
                now = time.monotonic()
                self.longest, before = max(self.longest, now - before), now
        except (EOFError, OSError) as error:
            self.longest = max(self.longest, time.monotonic() - before)
            self.error = error

    def check(self, case):
        if self.error and self.longest < self.IDLE_S:
            case.fail(f"one that was never silent for more than {self.longest:.2f} s was closed: {self.error!r}")


class OwnServersTest(unittest.TestCase):
    """Tests that start the servers they need."""

    def start_server(self, *arguments, **options):
        """A server of this test alone, whose clean end is part of the test."""
        server = Server(*arguments, **options)
        self.addCleanup(server.stop)
        return server

    def connect_to(self, server, **options):
        client = server.client(**options)
        self.addCleanup(client.close)
        return client

    def assert_reply(self, expected, client, *command):
        reply = client.command(*command)
        if reply != expected:
            self.fail(f"{describe_command(command)}\n  expected {_shorten(expected)}\n  got      {_shorten(reply)}")
        return reply

    def assert_error(self, expected, client, *command):
        """The reply is an error with exactly this text."""
        return self.assert_reply(ErrorReply(expected), client, *command)

    def assert_error_starts(self, prefix, client, *command):
        reply = client.command(*command)
        if not isinstance(reply, ErrorReply) or not reply.text.startswith(prefix):
            self.fail(f"{describe_command(command)}\n  expected an error {prefix!r}...\n  got      {_shorten(reply)}")
        return reply

    def assert_closed(self, client):
        if not client.is_closed_by_server():
            self.fail("the server should have closed the connection")

    def assert_quick(self, measure, seconds, times=3, timeout=60.0):
        """`measure` returns how long something took: less than `seconds`, so many times. What is slow by design is hardly
        ever quick; what is quick may take long as often as others have the processor."""
        deadline, taken = time.monotonic() + timeout, []
        while sum(one < seconds for one in taken) < times:
            if time.monotonic() > deadline:
                self.fail(f"less than {seconds} s only now and then: {sorted(taken)}")
            taken.append(measure())

    def wait_until(self, condition, what, timeout=60.0):
        """For what the server tells only to those who ask: asks until `condition` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"waited {timeout} s in vain: {what}")
            time.sleep(0.005)


class ServerTest(OwnServersTest):
    """Tests that share one server per class, emptied before each test.

    `server_arguments` is what the class wants on the command line.
    """

    server_arguments = ()
    server = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.server_arguments)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        with self.server.client() as client:
            client.ok("FLUSHALL")

    def client(self, **options):
        """A connection that is closed at the end of the test."""
        client = self.server.client(**options)
        self.addCleanup(client.close)
        return client

    def unix_client(self, path, **options):
        client = Client(path=path, **options)
        self.addCleanup(client.close)
        return client

    def assert_serves(self, server=None):
        """The server still answers a new connection."""
        with (server or self.server).client() as client:
            self.assertEqual(client.ok("ECHO", "alive"), b"alive")


def _shorten(value, limit=600):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
