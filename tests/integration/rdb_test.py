"""What Terrace writes, Redis reads: values by DUMP, whole files by SAVE; and keys that are given away by MIGRATE."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

from support import dataset
from support.case import ServerTest, terrace_only
from support.resp import ErrorReply, Null, Reader, Simple
from support.server import Server, find_free_port

REDIS = shutil.which("redis-server")
CHECK = shutil.which("redis-check-rdb")
needs_redis = unittest.skipUnless(REDIS, "redis-server is not installed")


@needs_redis
class DumpsForRedis(ServerTest):
    server_arguments = ("--threads", "2")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.redis = Server("--enable-debug-command", "local", program=REDIS)

    @classmethod
    def tearDownClass(cls):
        cls.redis.stop()
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.here, self.there = self.client(), self.connect_to(self.redis)
        self.there.ok("FLUSHALL")

    def expect_all_to_arrive(self):
        dataset.fill(self.here)
        for key in dataset.keys_of(self.here):
            reply = self.there.command("RESTORE", key, 0, self.here.ok("DUMP", key))
            self.assertEqual(reply, Simple("OK"), key)
            self.assertEqual(dataset.value_of(self.there, key), dataset.value_of(self.here, key))

    def test_redis_restores_every_value(self):
        self.expect_all_to_arrive()

    def test_redis_restores_every_value_after_validating_it(self):
        self.there.ok("CONFIG", "SET", "sanitize-dump-payload", "yes")
        self.expect_all_to_arrive()

    def test_an_absent_key_has_no_dump(self):
        self.assertEqual(self.here.ok("DUMP", "nothing"), Null("bulk"))

    @terrace_only("version 12 is younger than it")
    def test_only_fields_that_expire_need_version_12(self):
        self.here.ok("HSET", "h", "a", 1, "b", 2)
        self.assertEqual(self.here.ok("DUMP", "h")[-10:-8], b"\x0a\x00")
        self.here.ok("HPEXPIRE", "h", 100000, "FIELDS", 1, "a")
        self.assertEqual(self.here.ok("DUMP", "h")[-10:-8], b"\x0c\x00")
        self.assertEqual(self.there.command("RESTORE", "h", 0, self.here.ok("DUMP", "h")),
                         ErrorReply("ERR DUMP payload version or checksum are wrong"))


@needs_redis
class FilesForRedis(ServerTest):
    def expect_redis_reads(self, *arguments):
        server = self.start_server("--threads", "2", *arguments)
        client = self.connect_to(server)
        dataset.fill(client)
        expected = dataset.contents(client)
        client.ok("SAVE")
        path = os.path.join(server.directory, "dump.rdb")
        if CHECK:
            checked = subprocess.run([CHECK, path], capture_output=True, text=True, check=False)
            self.assertEqual(checked.returncode, 0, checked.stdout)
        redis = self.start_redis_with(path)
        self.assertEqual(dataset.differences(expected, dataset.contents(self.connect_to(redis))), "")

    def start_redis_with(self, path):
        folder = tempfile.mkdtemp(prefix="terrace-test-")
        self.addCleanup(shutil.rmtree, folder)
        shutil.copy(path, os.path.join(folder, "dump.rdb"))
        return self.start_server(program=REDIS, directory=folder)

    def test_redis_loads_what_was_saved(self):
        self.expect_redis_reads()

    def test_redis_loads_what_was_not_compressed(self):
        self.expect_redis_reads("--rdbcompression", "no")

    def test_redis_loads_what_has_no_checksum(self):
        self.expect_redis_reads("--rdbchecksum", "no")


class Target:
    """A server that answers each request as it is told, after `may_answer` is set; it keeps the requests."""

    def __init__(self, answers=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.requests = []
        self.came = threading.Condition()
        self.may_answer = threading.Event()
        self.answers = answers or {}
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        try:
            peer, _ = self.listener.accept()
        except OSError:
            return
        with peer:
            reader = Reader(lambda: peer.recv(1 << 16))
            try:
                while True:
                    request = reader.read_reply()
                    with self.came:
                        self.requests.append(request)
                        self.came.notify_all()
                    self.may_answer.wait()
                    peer.sendall(self.answers.get(request[0], b"+OK\r\n"))
            except (EOFError, OSError):
                pass

    def wait_for_request(self, name):
        with self.came:
            found = self.came.wait_for(lambda: any(request[0] == name for request in self.requests), 60)
        if not found:
            raise AssertionError(f"{name!r} never came")

    def close(self):
        self.may_answer.set()
        self.listener.close()
        self.thread.join(10)


@terrace_only("it serves nobody while it waits for the other server")
class Migration(ServerTest):
    server_arguments = ("--threads", "2")

    def setUp(self):
        super().setUp()
        self.here = self.client()

    def target(self, **options):
        target = Target(**options)
        self.addCleanup(target.close)
        return target

    def test_others_are_served_meanwhile(self):
        target = self.target()
        self.here.ok("SET", "k", "v")
        self.here.send("MIGRATE", "127.0.0.1", target.port, "k", 0, 600_000)
        target.wait_for_request(b"SELECT")
        other = self.client()
        for _ in range(100):
            other.ok("GET", "k")
        self.assertFalse(self.here.has_arrived())
        target.may_answer.set()
        self.assertEqual(self.here.read_reply(), Simple("OK"))

    def test_the_timeout_ends_it(self):
        target, error, timeout_ms = self.target(), None, 250
        self.here.ok("SET", "k", "v")
        while not target.requests:  # where it is over before anything was sent, it says something else
            timeout_ms *= 2
            error = self.here.command("MIGRATE", "127.0.0.1", target.port, "k", 0, timeout_ms)
            self.assertTrue(error.text.startswith("IOERR error or timeout "), error)
        self.assertTrue(error.text.endswith("ing to target instance"), error)
        self.assertEqual(self.here.ok("GET", "k"), b"v")

    def test_what_changes_meanwhile_is_sent_again(self):
        target = self.target()
        other = self.client()
        self.here.ok("MSET", "k", "before", "l", "stays")
        self.here.send("MIGRATE", "127.0.0.1", target.port, "", 0, 60000, "KEYS", "k", "l")
        target.wait_for_request(b"SELECT")
        other.ok("SET", "k", "after")
        other.ok("EXPIRE", "k", 1000)
        target.may_answer.set()
        self.assertEqual(self.here.read_reply(), Simple("OK"))
        restores = [request for request in target.requests if request[0] == b"RESTORE"]
        self.assertEqual([request[1] for request in restores], [b"k", b"l", b"k"])
        self.assertIn(b"before", restores[0][3])
        self.assertIn(b"after", restores[2][3])
        self.assertEqual(restores[2][4], b"REPLACE")
        self.assertGreater(int(restores[2][2]), 900_000)
        self.assertEqual(other.ok("EXISTS", "k", "l"), 0)

    def test_a_client_that_leaves_loses_nothing(self):
        target = self.target()
        self.here.ok("SET", "k", "v")
        self.here.send("MIGRATE", "127.0.0.1", target.port, "k", 0, 60000)
        target.wait_for_request(b"SELECT")
        self.here.close()
        target.may_answer.set()
        target.thread.join(10)
        self.assertFalse(target.thread.is_alive(), "the connection is closed with the client's")
        given_away = any(request[0] == b"RESTORE" for request in target.requests)
        self.assertEqual(self.client().ok("GET", "k"), Null("bulk") if given_away else b"v")

    def test_what_was_refused_stays(self):
        target = self.target(answers={b"RESTORE": b"-BUSYKEY Target key name already exists.\r\n"})
        target.may_answer.set()
        self.here.ok("SET", "k", "v")
        self.assertEqual(self.here.command("MIGRATE", "127.0.0.1", target.port, "k", 0, 60000),
                         ErrorReply("ERR Target instance replied with error: BUSYKEY Target key name already exists."))
        self.assertEqual(self.here.ok("GET", "k"), b"v")

    def test_inside_a_transaction(self):
        target = self.target()
        target.may_answer.set()
        self.assertEqual(self.here.pipeline([("MULTI",), ("SET", "k", "v"),
                                             ("MIGRATE", "127.0.0.1", target.port, "k", 5, 60000), ("GET", "k"),
                                             ("EXEC",)])[-1], [Simple("OK"), Simple("OK"), Null("bulk")])
        self.assertEqual([request[:2] for request in target.requests], [[b"SELECT", b"5"], [b"RESTORE", b"k"]])

    def test_to_itself(self):
        """Where one thread serves both ends, too."""
        self.here.ok("RPUSH", "l", *range(5000))
        self.assertEqual(self.here.ok("MIGRATE", "127.0.0.1", self.server.port, "l", 9, 60000), Simple("OK"))
        self.assertEqual(self.here.ok("EXISTS", "l"), 0)
        self.here.ok("SELECT", 9)
        self.assertEqual(self.here.ok("LLEN", "l"), 5000)


class MigrateArguments(ServerTest):
    def setUp(self):
        super().setUp()
        self.here = self.client()

    def test_errors(self):
        self.here.ok("SET", "k", "v")
        nobody = find_free_port()
        for words, reply in (
            (("127.0.0.1", nobody, "k", 0, 1000), ErrorReply("IOERR error or timeout connecting to the client")),
            (("127.0.0.1", nobody, "nothing", 0, 1000), Simple("NOKEY")),
            (("127.0.0.1", nobody, "", 0, 1000, "KEYS", "x", "y"), Simple("NOKEY")),
            (("127.0.0.1", nobody, "k", 0, "soon"), ErrorReply("ERR value is not an integer or out of range")),
            (("127.0.0.1", nobody, "k", "x", 1000), ErrorReply("ERR value is not an integer or out of range")),
            (("127.0.0.1", nobody, "k", 0, 1000, "WHAT"), ErrorReply("ERR syntax error")),
            (("127.0.0.1", nobody, "k", 0, 1000, "AUTH"), ErrorReply("ERR syntax error")),
            (("127.0.0.1", nobody, "k", 0, 1000, "AUTH2", "user"), ErrorReply("ERR syntax error")),
            (("127.0.0.1", nobody, "k", 0, 1000, "KEYS", "k"),
             ErrorReply("ERR When using MIGRATE KEYS option, the key argument must be set to the empty string")),
        ):
            self.assert_reply(reply, self.here, "MIGRATE", *words)
        self.assertEqual(self.here.ok("GET", "k"), b"v")

    def test_its_keys_are_known(self):
        self.assertEqual(self.here.ok("COMMAND", "GETKEYS", "MIGRATE", "h", 1, "k", 0, 1), [b"k"])
        self.assertEqual(self.here.ok("COMMAND", "GETKEYS", "MIGRATE", "h", 1, "", 0, 1, "COPY", "KEYS", "a", "b"),
                         [b"a", b"b"])


@needs_redis
class MigrationToRedis(ServerTest):
    server_arguments = ("--threads", "2")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.redis = Server("--requirepass", "secret", program=REDIS)

    @classmethod
    def tearDownClass(cls):
        cls.redis.stop()
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.here, self.there = self.client(), self.connect_to(self.redis)
        self.there.ok("AUTH", "secret")
        self.there.ok("FLUSHALL")

    def migrate(self, key, *options):
        return self.here.command("MIGRATE", "127.0.0.1", self.redis.port, key, 0, 60000, *options)

    def test_all_keys_of_a_database(self):
        dataset.fill(self.here)
        expected = dataset.contents(self.here, databases=(0,))
        keys = dataset.keys_of(self.here)
        self.assertEqual(self.migrate("", "AUTH", "secret", "KEYS", *keys), Simple("OK"))
        self.assertEqual(self.here.ok("DBSIZE"), 0)
        # A remaining time is sent: it arrives a little later.
        got = dataset.contents(self.there, databases=(0,))
        for key, (value, expiry) in expected.items():
            self.assertEqual(got[key][0], value, key)
            self.assertLess(abs(got[key][1] - expiry), 10_000, key)

    def test_copy_and_replace(self):
        self.here.ok("SET", "k", 1)
        self.assertEqual(self.migrate("k", "COPY", "AUTH2", "default", "secret"), Simple("OK"))
        self.assertEqual(self.here.ok("GET", "k"), b"1")
        self.here.ok("SET", "k", 2)
        self.assertEqual(self.migrate("k", "AUTH", "secret"),
                         ErrorReply("ERR Target instance replied with error: BUSYKEY Target key name already exists."))
        self.assertEqual(self.migrate("k", "REPLACE", "AUTH", "secret"), Simple("OK"))
        self.assertEqual(self.here.ok("EXISTS", "k"), 0)
        self.assertEqual(self.there.ok("GET", "k"), b"2")

    def test_who_is_not_let_in_keeps_all(self):
        self.here.ok("SET", "k", 1)
        self.assertEqual(self.migrate("k"), ErrorReply(
            "ERR Target instance replied with error: NOAUTH Authentication required."))
        reply = self.migrate("k", "AUTH", "wrong")
        self.assertTrue(reply.text.startswith("ERR Target instance replied with error: WRONGPASS"), reply)
        self.assertEqual(self.here.ok("GET", "k"), b"1")
        self.assertEqual(self.there.ok("EXISTS", "k"), 0)
