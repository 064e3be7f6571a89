"""What Redis writes, Terrace reads: values by RESTORE, whole files at the start; clients meanwhile; files that are
damaged; datasets larger than memory."""

import os
import shutil
import tempfile
import threading
import time
import unittest

from support import dataset
from support.case import OwnServersTest, ServerTest, terrace_only, threads
from support.resp import ErrorReply, Simple
from support.server import Server, run_to_exit

REDIS = shutil.which("redis-server")
needs_redis = unittest.skipUnless(REDIS, "redis-server is not installed")

# What makes Redis use other forms for the same values.
FORMS = {
    "as it is": (),
    "plain": ("--rdbcompression", "no", "--rdbchecksum", "no"),
    "large": ("--hash-max-listpack-entries", 1, "--zset-max-listpack-entries", 1, "--set-max-intset-entries", 1,
              "--list-max-listpack-size", 2),
    "small": ("--hash-max-listpack-entries", 100000, "--hash-max-listpack-value", 100000,
              "--zset-max-listpack-entries", 100000, "--zset-max-listpack-value", 100000,
              "--set-max-intset-entries", 100000, "--list-max-listpack-size", -5),
}


class Folder(OwnServersTest):
    """Servers of each test's own, in a folder of its own."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = os.path.join(self.folder, "dump.rdb")

    def saved_by_redis(self, *arguments, fill=dataset.fill):
        """Leaves a file of Redis's; what is in it."""
        with Server(*arguments, "--enable-debug-command", "local", program=REDIS, directory=self.folder) as redis:
            with redis.client() as client:
                fill(client)
                client.ok("SAVE")
                return dataset.contents(client) if fill is dataset.fill else client.ok("DBSIZE")

    def started(self, *arguments):
        return self.start_server(*arguments, directory=self.folder)


@needs_redis
class FilesOfRedis(Folder):
    @threads
    def test_all_values_in_all_forms(self):
        for name, arguments in FORMS.items():
            expected = self.saved_by_redis(*arguments)
            for count in ("1", "2"):
                with self.subTest(form=name, threads=count), Server("--threads", count, directory=self.folder) as own:
                    with own.client() as client:
                        self.assertEqual(dataset.differences(expected, dataset.contents(client)), "")
            os.unlink(self.file)

    def test_what_has_expired_is_not_loaded(self):
        def fill(client):
            client.ok("DEBUG", "SET-ACTIVE-EXPIRE", 0)
            client.ok("SET", "short", 1, "PX", 1)
            client.ok("SET", "long", 1, "EX", 100_000)

        self.saved_by_redis(fill=fill)
        client = self.connect_to(self.started())
        self.assertEqual(client.ok("DBSIZE"), 1)
        self.assertLess(90_000, client.ok("TTL", "long"))

    def test_a_name_that_is_configured(self):
        self.saved_by_redis(fill=lambda client: client.ok("SET", "a", 1))
        os.rename(self.file, os.path.join(self.folder, "other.rdb"))
        client = self.connect_to(self.started("--dbfilename", "other.rdb"))
        self.assertEqual(client.ok("GET", "a"), b"1")


class OwnFiles(Folder):
    def fill(self, client):
        dataset.fill(client)
        client.ok("HSET", "hash:timed", *[word for i in range(5) for word in (f"field:{i}", i)])
        client.ok("HSET", "hash:large:timed", *[word for i in range(2000) for word in (f"field:{i}", i)])
        for key in ("hash:timed", "hash:large:timed"):
            client.ok("HPEXPIREAT", key, dataset.LATER_MS, "FIELDS", 2, "field:1", "field:3")

    def times(self, client):
        return [client.ok("HPEXPIRETIME", key, "FIELDS", 3, "field:1", "field:2", "field:3")
                for key in ("hash:timed", "hash:large:timed")]

    @threads
    @terrace_only("it has no fields that expire")
    def test_a_restart_changes_nothing(self):
        for count in ("1", "2"):
            with self.subTest(threads=count):
                with Server("--threads", count, directory=self.folder) as server, server.client() as client:
                    self.fill(client)
                    expected, times = dataset.contents(client), self.times(client)
                    client.ok("SAVE")
                with Server("--threads", count, directory=self.folder) as server, server.client() as client:
                    self.assertEqual(dataset.differences(expected, dataset.contents(client)), "")
                    self.assertEqual(self.times(client), times)
                os.unlink(self.file)

    @threads
    @terrace_only("it has no fields that expire")
    def test_debug_reload_changes_nothing(self):
        for count in ("1", "2"):
            with self.subTest(threads=count):
                server = Server("--threads", count, "--enable-debug-command", "local", directory=self.folder)
                with server, server.client() as client:
                    self.fill(client)
                    expected, times = dataset.contents(client), self.times(client)
                    for options in ((), ("NOFLUSH", "MERGE"), ("NOSAVE",)):
                        client.ok("DEBUG", "RELOAD", *options)
                        self.assertEqual(dataset.differences(expected, dataset.contents(client)), "")
                        self.assertEqual(self.times(client), times)
                    reply = client.command("DEBUG", "RELOAD", "NOFLUSH")
                    self.assertEqual(reply, ErrorReply("ERR Error trying to load the RDB dump, check server logs."))
                os.unlink(self.file)


@needs_redis
class ValuesOfRedis(ServerTest):
    server_arguments = ("--threads", "2")

    def test_every_dump_is_restored(self):
        for name, arguments in FORMS.items():
            with self.subTest(form=name), Server(*arguments, program=REDIS) as redis:
                here, there = self.client(), self.connect_to(redis)
                here.ok("FLUSHALL")
                dataset.fill(there)
                for key in dataset.keys_of(there):
                    reply = here.command("RESTORE", key, 0, there.ok("DUMP", key))
                    self.assertEqual(reply, Simple("OK"), key)
                    self.assertEqual(dataset.value_of(here, key), dataset.value_of(there, key), key)
                there.close()


class Delayed(Folder):
    """key-load-delay, with which tests make a load last."""

    @threads
    @terrace_only("its DEBUG RELOAD serves nobody")
    def test_a_load_lasts_until_the_delay_is_taken_back(self):
        server = self.started("--threads", "2", "--enable-debug-command", "local")
        loader, other = self.connect_to(server), self.connect_to(server)
        loader.ok("DEBUG", "POPULATE", "1000")
        loader.ok("SAVE")
        other.ok("CONFIG", "SET", "key-load-delay", "2000000000")
        loader.send("DEBUG", "RELOAD", "NOSAVE")
        self.wait_until(lambda: other.info("persistence")["loading"] == "1", "it loads")
        self.assert_error("LOADING Redis is loading the dataset in memory", other, "GET", "key:1")
        other.ok("CONFIG", "SET", "key-load-delay", "0")
        self.assertEqual(loader.read_reply(), Simple("OK"))
        self.assertEqual(other.ok("DBSIZE"), 1000)

    @terrace_only("it waits where nobody can be served")
    def test_each_command_of_an_append_only_file_counts(self):
        server = self.started("--enable-debug-command", "local", "--appendonly", "yes")
        client = self.connect_to(server)
        for number in range(50):
            client.ok("SET", f"key:{number}", "x")
        client.ok("CONFIG", "SET", "key-load-delay", "10000")
        since = time.monotonic()
        self.assertEqual(client.command("DEBUG", "LOADAOF"), Simple("OK"))
        self.assertGreaterEqual(time.monotonic() - since, 0.5)
        self.assertEqual(client.ok("DBSIZE"), 50)


@needs_redis
class Meanwhile(Folder):
    KEYS = 20_000

    def fill_many(self, client):
        client.ok("DEBUG", "POPULATE", self.KEYS, "key", 100)

    @threads
    @terrace_only("its DEBUG RELOAD serves nobody")
    def test_clients_are_told(self):
        self.saved_by_redis(fill=self.fill_many)
        server = self.started("--threads", "2", "--enable-debug-command", "local")
        loader = self.connect_to(server)
        others = [self.connect_to(server) for _ in range(8)]
        ended, seen = threading.Event(), set()
        loader.ok("CONFIG", "SET", "key-load-delay", 5000)  # it lasts until somebody has been told

        def watch(client):
            """One that the loading worker serves is told nothing until the end."""
            while not ended.is_set() and len(seen) < 2:
                if client.command("GET", "key:1") == ErrorReply("LOADING Redis is loading the dataset in memory"):
                    seen.add("refused")
                if b"loading:1\r\nasync_loading:0\r\nloading_start_time:" in client.ok("INFO", "persistence"):
                    seen.add("told")
                if len(seen) == 2:
                    client.ok("CONFIG", "SET", "key-load-delay", 0)

        watchers = [threading.Thread(target=watch, args=(other,)) for other in others]
        for watcher in watchers:
            watcher.start()
        self.assertEqual(loader.command("DEBUG", "RELOAD", "NOSAVE"), Simple("OK"))
        ended.set()
        for watcher in watchers:
            watcher.join()
        self.assertEqual(seen, {"refused", "told"})
        self.assertEqual(others[0].ok("DBSIZE"), self.KEYS)
        self.assertIn(b"loading:0\r\n", others[0].ok("INFO", "persistence"))

    def skip_under_sanitizers(self):
        with Server() as server, server.client() as client:
            if not client.info("memory")["mem_allocator"].startswith("jemalloc"):
                self.skipTest("a sanitizer keeps memory of its own, which counts as resident")

    @threads
    def test_a_dataset_larger_than_memory(self):
        self.skip_under_sanitizers()
        self.saved_by_redis(fill=lambda client: client.ok("DEBUG", "POPULATE", 200_000, "key", 1000))
        server = self.started("--threads", "2", "--maxmemory", "64mb", "--tier-path",
                              os.path.join(self.folder, "tier"), "--tier-size", "1gb")
        client = self.connect_to(server)
        self.assertEqual(client.ok("DBSIZE"), 200_000)
        for number in range(0, 200_000, 997):
            self.assertTrue(client.ok("GET", f"key:{number}").startswith(f"value:{number}".encode()))
        self.assertLess(server.peak_resident_bytes(), 80 << 20)

    @threads
    def test_one_value_larger_than_memory(self):
        self.skip_under_sanitizers()

        def fill(client):
            for start in range(0, 100_000, 1000):
                client.ok("HSET", "hash", *[word for i in range(start, start + 1000)
                                            for word in (f"field:{i}", f"{i}:" + "v" * 1000)])

        self.saved_by_redis("--rdbcompression", "no", fill=fill)
        for count in ("1", "2"):
            with Server("--threads", count, "--maxmemory", "48mb", "--tier-path", os.path.join(self.folder, "tier"),
                        "--tier-size", "1gb", directory=self.folder) as server, server.client() as client:
                self.assertEqual(client.ok("HLEN", "hash"), 100_000)
                for number in range(0, 100_000, 997):
                    self.assertTrue(client.ok("HGET", "hash", f"field:{number}").startswith(f"{number}:".encode()))


@needs_redis
class Damage(Folder):
    def end_of(self, data):
        with open(self.file, "wb") as file:
            file.write(data)
        code, out, err = run_to_exit("--port", "0", "--unixsocket", os.path.join(self.folder, "socket"), "--save", "",
                                     directory=self.folder)
        return code, (out + err).decode()

    def test_a_damaged_file_is_not_loaded(self):
        self.saved_by_redis()
        with open(self.file, "rb") as file:
            whole = file.read()
        middle = len(whole) // 2
        for what, data in {
            "cut": whole[:middle],
            "the checksum is cut": whole[:-1],
            "empty": b"",
            "something else": b"*1\r\n$4\r\nPING\r\n",
            "a byte is wrong": whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1:],
            "too new": b"REDIS0099" + whole[9:],
        }.items():
            with self.subTest(what):
                code, said = self.end_of(data)
                self.assertEqual(code, 1)
                self.assertIn("dump.rdb", said)
                self.assertIn("at byte", said)
