"""Starting from an append-only file: our own, Redis's of version 7, an old single one; whole, torn and damaged."""

import os
import shutil
import signal
import subprocess
import tempfile
import unittest

from support import dataset
from support.case import ServerTest, terrace_only
from support.resp import encode_command
from support.server import Server, find_free_port, run_to_exit

REDIS = shutil.which("redis-server")
CHECK = shutil.which("redis-check-aof")
needs_redis = unittest.skipUnless(REDIS, "redis-server is not installed")
ON = ("--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "local")
MANIFEST = "appendonlydir/appendonly.aof.manifest"
FIRST = "appendonlydir/appendonly.aof.1.incr.aof"


class FolderTest(ServerTest):
    """Servers, one after the other, in one folder. The class's own is not needed."""

    setUpClass = tearDownClass = classmethod(lambda cls: None)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self, *arguments, **options):
        server = Server(*ON, *arguments, directory=self.folder, **options)
        self.addCleanup(server.stop)
        return server, self.connect_to(server)

    def kill(self, server):
        server.signal(signal.SIGKILL)
        server.wait_for_exit()
        server.exit_code = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def write(self, name, content):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(content)

    def expect_contents(self, expected, client):
        self.assertEqual(dataset.differences(expected, dataset.contents(client)), "")

    def expect_refusal(self, *texts, arguments=()):
        """It does not start, says why in one line, and leaves the files alone."""
        code, said, _ = run_to_exit(*ON, "--port", find_free_port(), "--save", "", "--dir", self.folder, *arguments,
                                    directory=self.folder)
        self.assertEqual(code, 1, said)
        for text in texts:
            self.assertIn(text, said.decode())


class OurOwn(FolderTest):
    def test_a_restart_finds_everything(self):
        for threads in (1, 3):
            server, client = self.start("--threads", str(threads))
            client.ok("FLUSHALL")
            dataset.fill(client)
            expected = dataset.contents(client)
            self.kill(server)
            server, client = self.start("--threads", str(4 - threads))
            self.expect_contents(expected, client)
            server.stop()

    @terrace_only("it loads files of an older form")
    def test_loadaof_replaces_the_dataset_by_itself(self):
        server, client = self.start("--threads", "2")
        dataset.fill(client)
        expected = dataset.contents(client)
        digest = client.ok("DEBUG", "DIGEST")
        self.assertEqual(client.ok("DEBUG", "LOADAOF").value, b"OK")
        self.expect_contents(expected, client)
        self.assertEqual(client.ok("DEBUG", "DIGEST"), digest)
        client.ok("SET", "later", "x")
        self.kill(server)
        server, client = self.start()
        self.assertEqual(client.ok("GET", "later"), b"x")
        self.assertEqual(client.ok("DBSIZE"), len([key for key in expected if key[0] == 0]) + 1)

    @terrace_only("it has no tier")
    def test_loadaof_reads_cold_keys_as_often_as_it_is_asked(self):
        server, client = self.start("--threads", "2", "--tier-path", self.path("tier"), "--tier-size", "64mb",
                                    "--tier-segment-size", "1mb", "--tier-record-budget", "256kb")
        text = "x" * 500
        for start in range(0, 6000, 500):
            client.pipeline([("SET", f"key:{i}", f"{i}:{text}") for i in range(start, start + 500)])
        self.wait_until(lambda: int(client.info("tier")["tier_records"]) > 2000, "records on the tier")
        # Replaying these has to read records that are on the tier by then.
        for start in range(0, 6000, 500):
            client.pipeline([("APPEND", f"key:{i}", "y") for i in range(start, start + 500)])
        for _ in range(3):
            self.assertEqual(client.ok("DEBUG", "LOADAOF").value, b"OK")
            replies = client.pipeline([("GET", f"key:{i}") for i in range(0, 6000, 7)])
            self.assertEqual(replies, [f"{i}:{text}y".encode() for i in range(0, 6000, 7)])
        client.send("SHUTDOWN", "NOSAVE")
        self.assertEqual(server.wait_for_exit(), 0)

    @terrace_only("it would begin empty")
    def test_a_snapshot_becomes_the_base_of_the_first_append_only_file(self):
        with Server(directory=self.folder) as server, server.client() as client:
            dataset.fill(client)
            expected = dataset.contents(client)
            client.ok("SAVE")
        server, client = self.start()
        self.expect_contents(expected, client)
        client.ok("SET", "later", "x")
        self.kill(server)
        os.unlink(self.path("dump.rdb"))
        server, client = self.start()
        self.assertEqual(client.ok("GET", "later"), b"x")
        client.ok("DEL", "later")
        self.expect_contents(expected, client)

    @terrace_only("its log speaks otherwise")
    def test_a_torn_tail_is_cut_and_stays_cut(self):
        server, client = self.start()
        client.ok("SET", "a", "1")
        whole = len(self.read(FIRST))
        client.ok("SET", "b", "2")
        self.kill(server)
        content = self.read(FIRST)
        for length in (len(content) - 1, whole + 1, whole + 20):
            self.write(FIRST, content[:length])
            self.expect_refusal("Unexpected end of file reading the append only file appendonly.aof.1.incr.aof",
                                f"from byte {whole} on", arguments=("--aof-load-truncated", "no"))
            for _ in range(2):
                server, client = self.start()
                self.assertEqual(client.ok("KEYS", "*"), [b"a"])
                self.kill(server)
                self.assertEqual(self.read(FIRST)[:whole], content[:whole])
            self.assertNotIn("were cut off", server.log_text())

    @terrace_only("it has no checksums")
    def test_a_flipped_bit_is_refused_at_its_place(self):
        server, client = self.start()
        ends = []
        for key in "abc":
            client.ok("SET", key, "value")
            ends.append(len(self.read(FIRST)))
        self.kill(server)
        content = bytearray(self.read(FIRST))
        content[content.index(b"value", ends[0])] ^= 1
        self.write(FIRST, content)
        self.expect_refusal(f"appendonly.aof.1.incr.aof: bytes {ends[0]} to {ends[1]} are damaged",
                            "checksum of a batch")
        self.assertEqual(self.read(FIRST), content)

    @terrace_only("its words differ")
    def test_a_damaged_manifest_and_a_missing_file_are_refused(self):
        server, client = self.start()
        client.ok("SET", "a", "1")
        server.stop()
        manifest = self.read(MANIFEST)
        self.write(MANIFEST, manifest.replace(b"type i", b"type h"))
        self.expect_refusal("Invalid AOF manifest file format", "line 3: the checksum is wrong")
        self.write(MANIFEST, manifest)
        os.unlink(self.path(FIRST))
        self.expect_refusal("the append only file appendonly.aof.1.incr.aof cannot be opened")

    @terrace_only("it runs whatever stands in the file")
    def test_only_commands_that_write_are_run(self):
        for command, said in ((("NONSENSE", "x"), "Unknown command 'NONSENSE'"),
                              (("DEBUG", "SEGFAULT"), "does not write, 'DEBUG'"),
                              (("SELECT", "99"), "too few databases (databases) for SELECT '99'")):
            self.write("appendonly.aof", encode_command("SET", "a", "1") + encode_command(*command))
            shutil.rmtree(self.path("appendonlydir"), ignore_errors=True)
            self.expect_refusal(said, "reading the append only file appendonly.aof")


@needs_redis
class WithRedis(FolderTest):
    def start_redis(self, *arguments):
        return self.start(*arguments, program=REDIS)

    def check_with_redis(self):
        if CHECK:
            done = subprocess.run([CHECK, self.path(MANIFEST)], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_what_redis_wrote_is_loaded(self):
        for preamble in ("yes", "no"):
            shutil.rmtree(self.path("appendonlydir"), ignore_errors=True)
            server, client = self.start_redis("--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes")
            dataset.fill(client)
            client.ok("BGREWRITEAOF")
            self.wait_until(lambda: b"aof_rewrite_in_progress:0" in client.ok("INFO", "persistence") and
                            b"aof_rewrites:1" in client.ok("INFO", "persistence"), "the rewrite to end")
            client.ok("MULTI")
            client.ok("RPUSH", "list:small", "behind the base")
            client.ok("DEL", "set:small")
            client.ok("EXEC")
            client.ok("SPOP", "set:large", 10)
            self.kill(server)
            server, client = self.start_redis() # which loses a little of streams in a base of commands
            expected = dataset.contents(client)
            self.kill(server)
            server, client = self.start()
            self.expect_contents(expected, client)
            client.ok("SET", "ours", "x")
            expected = dataset.contents(client)
            self.kill(server)
            self.check_with_redis()
            server, client = self.start()
            self.expect_contents(expected, client)
            server.stop()

    @terrace_only("it is what the base is compared with")
    def test_a_base_of_commands_is_read_by_both(self):
        tier = ("--tier-path", self.path("tier"), "--tier-size", "256mb", "--tier-segment-size", "1mb")
        for arguments in ((), tier):
            shutil.rmtree(self.path("appendonlydir"), ignore_errors=True)
            server, client = self.start("--threads", "2", "--aof-use-rdb-preamble", "no", *arguments)
            dataset.fill(client)
            # No command makes a deleted entry pending, and small sets do not know -0.
            client.ok("XACK", "stream:large", "readers", "10-1")
            client.ok("ZREM", "zset:large", "minus")
            client.ok("SET", "large", "0123456789" * 100_000)
            client.ok("PEXPIREAT", "large", dataset.LATER_MS)
            expected = dataset.contents(client)
            if arguments:
                client.ok("TIER", "DEMOTE", "*")
            client.ok("BGREWRITEAOF")
            client.ok("SET", "behind", "the cut")
            self.wait_until(lambda: client.info("persistence")["aof_rewrites"] == "1" and
                            client.info("persistence")["aof_rewrite_in_progress"] == "0", "the rewrite to end")
            client.ok("DEL", "behind")
            self.kill(server)
            self.check_with_redis()
            base = [name for name in os.listdir(self.path("appendonlydir")) if ".base." in name]
            self.assertEqual([name.rpartition(".base.")[2] for name in base], ["aof"])
            self.assertIn(b"RPUSH", self.read("appendonlydir/" + base[0]))
            for program in (None, REDIS):
                server, client = self.start(program=program)
                self.expect_contents(expected, client)
                self.kill(server)

    @terrace_only("fields do not expire there")
    def test_a_base_of_commands_keeps_when_fields_expire(self):
        server, client = self.start("--aof-use-rdb-preamble", "no")
        for key, count in (("small", 5), ("large", 2000)):
            client.ok("HSET", key, *[word for i in range(count) for word in (f"field:{i}", i)])
            client.ok("HPEXPIREAT", key, dataset.LATER_MS, "FIELDS", 2, "field:1", "field:3")
        digest = client.ok("DEBUG", "DIGEST")
        client.ok("BGREWRITEAOF")
        self.wait_until(lambda: client.info("persistence")["aof_rewrites"] == "1" and
                        client.info("persistence")["aof_rewrite_in_progress"] == "0", "the rewrite to end")
        self.kill(server)
        server, client = self.start()
        for key in ("small", "large"):
            self.assertEqual(client.ok("HPEXPIRETIME", key, "FIELDS", 3, "field:1", "field:2", "field:3"),
                             [dataset.LATER_MS, -1, dataset.LATER_MS])
        self.assertEqual(client.ok("DEBUG", "DIGEST"), digest)
        self.kill(server)

    def test_redis_loads_what_we_wrote_and_both_go_on(self):
        server, client = self.start("--threads", "2")
        dataset.fill(client)
        expected = dataset.contents(client)
        self.kill(server)
        self.check_with_redis()
        server, client = self.start_redis()
        self.expect_contents(expected, client)
        client.ok("SET", "redis", "was here")
        client.ok("SADD", "set:new", "a")
        expected = dataset.contents(client)
        self.kill(server)
        server, client = self.start()
        self.expect_contents(expected, client)
        client.ok("SET", "ours", "again")
        expected = dataset.contents(client)
        server.stop()
        self.check_with_redis()
        server, client = self.start_redis()
        self.expect_contents(expected, client)

    def test_a_single_file_of_old_is_moved_into_the_directory(self):
        server, client = self.start_redis("--appendonly", "no")
        dataset.fill(client)
        expected = dataset.contents(client)
        client.ok("SAVE")
        server.stop()
        commands = encode_command("SELECT", "0") + encode_command("SET", "behind", "1")
        expected[0, b"behind"] = (b"string", b"1"), -1
        for torn in (b"", encode_command("SET", "torn", "1")[:-3]):
            self.write("appendonly.aof", self.read("dump.rdb") + commands + torn)
            shutil.rmtree(self.path("appendonlydir"), ignore_errors=True)
            for _ in range(2):
                server, client = self.start()
                self.expect_contents(expected, client)
                server.stop()
            self.assertFalse(os.path.exists(self.path("appendonly.aof")))
            self.assertEqual(len(self.read("appendonlydir/appendonly.aof")),
                             len(self.read("dump.rdb") + commands))
            self.check_with_redis()


if __name__ == "__main__":
    unittest.main()
