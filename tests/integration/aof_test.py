"""The append-only file while the server runs: policies, rewrites, WAITAOF, and what happens when it cannot be written."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

from support.case import ServerTest, long_test, terrace_only, threads
from support.client import Client
from support.resp import OK, ErrorReply, Simple
from support.server import Server

ON = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
ALWAYS = (*ON, "--appendfsync", "always")


class AofTest(ServerTest):
    server_arguments = ("--appendonly", "no")

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-aof-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def start(self, *arguments, **options):
        return self.start_server(*arguments, directory=options.pop("directory", self.folder), **options)

    def files(self):
        return sorted(os.listdir(os.path.join(self.folder, "appendonlydir")))

    def manifest(self):
        path = os.path.join(self.folder, "appendonlydir", "appendonly.aof.manifest")
        with open(path, encoding="ascii") as file:
            return [line.split() for line in file if not line.startswith("#")]

    def persistence(self, client):
        return client.info("persistence")

    def rewrite(self, client):
        """To its end."""
        before = int(self.persistence(client)["aof_rewrites"])
        self.assert_reply(Simple("Background append only file rewriting started"), client, "BGREWRITEAOF")
        self.await_rewrite(client, before + 1)

    def await_rewrite(self, client, count):
        def ended():
            info = self.persistence(client)
            return int(info["aof_rewrites"]) >= count and info["aof_rewrite_in_progress"] == "0"

        self.wait_until(ended, "the rewrite ends")
        self.assertEqual(self.persistence(client)["aof_last_bgrewrite_status"], "ok")


def crash(server):
    server.kill()


class Policies(AofTest):
    def fill(self, client):
        client.ok("SET", "a", "1")
        client.ok("SELECT", "3")
        client.ok("RPUSH", "list", *(str(number) for number in range(1000)))
        client.ok("MULTI")
        client.ok("INCR", "n")
        client.ok("SADD", "s", "x")
        client.ok("EXEC")

    def expect_filled(self, client):
        self.assert_reply(b"1", client, "GET", "a")
        client.ok("SELECT", "3")
        self.assert_reply(1000, client, "LLEN", "list")
        self.assert_reply(b"1", client, "GET", "n")
        self.assert_reply(1, client, "SCARD", "s")

    def test_each_policy_keeps_what_a_clean_end_leaves(self):
        for policy in ("always", "everysec", "no"):
            with self.subTest(policy=policy):
                folder = tempfile.mkdtemp(prefix="terrace-aof-")
                self.addCleanup(shutil.rmtree, folder, True)
                with Server(*ON, "--appendfsync", policy, directory=folder) as server, server.client() as client:
                    self.fill(client)
                with Server(*ON, directory=folder) as server, server.client() as client:
                    self.expect_filled(client)

    def test_always_keeps_what_was_acknowledged_before_kill_9(self):
        server = self.start(*ALWAYS)
        with server.client() as client:
            self.fill(client)
        crash(server)
        with Server(*ALWAYS, directory=self.folder) as server, server.client() as client:
            self.expect_filled(client)

    def test_pipelines_are_answered_in_order_while_held(self):
        server = self.start(*ALWAYS)
        client = self.connect_to(server)
        big = "b" * 100000  # sent from where it lies
        client.ok("SET", "big", big)
        commands, expected = [], []
        for number in range(300):
            commands += [("SET", "k", str(number)), ("GET", "k"), ("GET", "big")]
            expected += [OK, str(number).encode(), big.encode()]
        self.assertEqual(client.pipeline(commands), expected)

    def test_a_client_that_sends_no_more_gets_its_held_replies(self):
        server = self.start(*ALWAYS)
        client = self.connect_to(server)
        client.send("SET", "k", "v")
        client.socket.shutdown(1)
        self.assertEqual(client.read_reply(), OK)
        self.assert_closed(client)

    def test_the_policy_changes_at_run_time(self):
        server = self.start(*ON, "--appendfsync", "no")
        client = self.connect_to(server)
        for policy in ("always", "no", "everysec", "always"):
            client.ok("CONFIG", "SET", "appendfsync", policy)
            for number in range(50):
                client.ok("SET", policy, str(number))
        crash(server)
        with Server(*ALWAYS, directory=self.folder) as server, server.client() as client:
            self.assert_reply(b"49", client, "GET", "always")

    @unittest.skipIf(not shutil.which("redis-check-aof"), "redis-check-aof is not installed")
    @terrace_only("it is our file that is checked")
    def test_redis_reads_the_directory(self):
        server = self.start(*ALWAYS, "--aof-timestamp-enabled", "yes")
        with server.client() as client:
            self.fill(client)
            self.rewrite(client)
            client.ok("SELECT", "0")
            client.ok("SET", "a", "1")
        server.stop()
        manifest = os.path.join(self.folder, "appendonlydir", "appendonly.aof.manifest")
        checked = subprocess.run(["redis-check-aof", manifest], capture_output=True, text=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        with Server("--appendonly", "yes", program="redis-server", directory=self.folder) as redis, redis.client() as client:
            self.expect_filled(client)
            client.ok("SELECT", "0")
            client.ok("SET", "by", "redis")
        with Server(*ALWAYS, directory=self.folder) as server, server.client() as client:
            self.expect_filled(client)
            client.ok("SELECT", "0")
            self.assert_reply(b"redis", client, "GET", "by")

    def test_an_unknown_policy_is_refused(self):
        client = self.client()
        self.assert_error_starts("ERR CONFIG SET failed", client, "CONFIG", "SET", "appendfsync", "sometimes")


class SwitchedAtRunTime(AofTest):
    def test_off_during_a_rewrite(self):
        server = self.start("--appendonly", "yes", "--rdb-key-save-delay", "10000000")
        client = self.connect_to(server)
        client.ok("SET", "k", "v")
        client.command("BGREWRITEAOF")
        while self.persistence(client)["aof_rewrite_in_progress"] != "1":
            pass
        client.ok("CONFIG", "SET", "appendonly", "no", "rdb-key-save-delay", "0")
        server.wait_for_log("Killing running AOF rewrite child")
        while self.persistence(client)["aof_rewrite_in_progress"] != "0":
            pass

    def test_on_off_and_on_again(self):
        server = self.start("--appendonly", "no", "--appendfsync", "always")
        client = self.connect_to(server)
        client.ok("SET", "before", "1")
        client.ok("CONFIG", "SET", "appendonly", "yes")
        self.await_rewrite(client, 1)
        client.ok("SET", "during", "1")
        client.ok("CONFIG", "SET", "appendonly", "no")
        self.assertEqual(self.persistence(client)["aof_enabled"], "0")
        client.ok("SET", "off", "1")
        client.ok("CONFIG", "SET", "appendonly", "yes")
        self.await_rewrite(client, 2)
        client.ok("SET", "after", "1")
        crash(server)
        with Server(*ALWAYS, directory=self.folder) as server, server.client() as client:
            self.assert_reply(4, client, "EXISTS", "before", "during", "off", "after")

    def test_a_file_begins_with_a_base_also_of_nothing(self):
        for preamble, suffix in (("yes", "rdb"), ("no", "aof")):
            shutil.rmtree(os.path.join(self.folder, "appendonlydir"), ignore_errors=True)
            for start in range(2):
                server = self.start(*ON, "--aof-use-rdb-preamble", preamble)
                self.assertEqual(self.files(), [f"appendonly.aof.1.base.{suffix}", "appendonly.aof.1.incr.aof",
                                                "appendonly.aof.manifest"])
                self.assertEqual(self.manifest(), [
                    ["file", f"appendonly.aof.1.base.{suffix}", "seq", "1", "type", "b"],
                    ["file", "appendonly.aof.1.incr.aof", "seq", "1", "type", "i"]])
                with server.client() as client:
                    self.assert_reply(start, client, "DBSIZE")
                    client.ok("SET", "a", "1")
                server.stop()

    def test_a_snapshot_becomes_the_first_base(self):
        with Server(directory=self.folder) as server, server.client() as client:
            client.ok("SET", "from", "snapshot")
            client.ok("SAVE")
        if not os.path.exists(os.path.join(self.folder, "dump.rdb")):
            self.fail("no snapshot was written")
        server = self.start(*ALWAYS)
        with server.client() as client:
            client.ok("SET", "more", "1")
        crash(server)
        os.remove(os.path.join(self.folder, "dump.rdb"))
        with Server(*ALWAYS, directory=self.folder) as server, server.client() as client:
            self.assert_reply(b"snapshot", client, "GET", "from")
            self.assert_reply(b"1", client, "GET", "more")


class Writers:
    """Some clients that count up, and know what was acknowledged."""

    def __init__(self, server, count=4, depth=5):
        self.port = server.port
        self.depth = depth
        self.acknowledged = [0] * count
        self.sent = [0] * count
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def write(self, number):
        try:
            with Client(port=self.port) as client:
                while not self.stopping.is_set():
                    for _ in range(self.depth):
                        self.sent[number] += 1
                        client.send("SET", f"w{number}", str(self.sent[number]))
                    for _ in range(self.depth):
                        if isinstance(client.read_reply(), ErrorReply):
                            return
                        self.acknowledged[number] += 1
        except (OSError, EOFError):
            pass

    def join(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def check(self, case, server):
        with server.client() as client:
            for number, acknowledged in enumerate(self.acknowledged):
                value = client.command("GET", f"w{number}")
                found = int(value) if isinstance(value, bytes) else 0
                case.assertGreaterEqual(found, acknowledged)
                case.assertLessEqual(found, self.sent[number])


@threads
class Rewrites(AofTest):
    def test_files_before_and_after(self):
        server = self.start(*ALWAYS)
        client = self.connect_to(server)
        for number in range(1000):
            client.ok("SET", "k", str(number))
        grown = int(self.persistence(client)["aof_current_size"])
        self.rewrite(client)
        self.assertEqual([line[5] for line in self.manifest()], ["b", "i"])
        self.assertEqual(len([name for name in self.files() if name.endswith(".aof") or name.endswith(".rdb")]), 2)
        info = self.persistence(client)
        self.assertLess(int(info["aof_current_size"]), grown / 10)
        client.ok("SET", "k", "last")
        crash(server)
        with Server(*ALWAYS, directory=self.folder) as server, server.client() as client:
            self.assert_reply(b"last", client, "GET", "k")

    def test_history_is_kept_if_asked_for(self):
        server = self.start(*ALWAYS, "--aof-disable-auto-gc", "yes")
        client = self.connect_to(server)
        client.ok("SET", "k", "1")
        self.rewrite(client)
        self.rewrite(client)
        self.assertEqual([(int(line[3]), line[5]) for line in self.manifest()],
                         [(3, "b"), (2, "h"), (2, "h"), (1, "h"), (1, "h"), (3, "i")])
        self.assertEqual(len(self.files()), 7)
        client.ok("CONFIG", "SET", "aof-disable-auto-gc", "no")
        self.assertEqual([(int(line[3]), line[5]) for line in self.manifest()], [(3, "b"), (3, "i")])
        self.wait_until(lambda: len(self.files()) == 3, "history is removed")

    def test_with_the_file_off_only_a_base_is_written(self):
        server = self.start("--appendonly", "no")
        client = self.connect_to(server)
        client.ok("SET", "k", "1")
        self.rewrite(client)
        self.assertEqual([line[5] for line in self.manifest()], ["b"])

    def test_under_load_nothing_acknowledged_is_lost(self):
        for policy in ("always", "everysec"):
            with self.subTest(policy=policy):
                folder = tempfile.mkdtemp(prefix="terrace-aof-")
                self.addCleanup(shutil.rmtree, folder, True)
                arguments = (*ON, "--appendfsync", policy, "--threads", "2")
                server = Server(*arguments, directory=folder)
                self.addCleanup(server.kill)
                client = self.connect_to(server)
                client.pipeline([("SET", f"key:{number}", "x" * 100) for number in range(20000)])
                writers = Writers(server)
                for _ in range(3):
                    self.rewrite(client)
                if policy == "always":
                    server.kill()
                    writers.join()
                else:
                    writers.join()
                    server.stop()
                with Server(*arguments, directory=folder) as server:
                    writers.check(self, server)
                    with server.client() as client:
                        self.assertGreaterEqual(client.command("DBSIZE"), 20000)

    def test_growth_starts_one(self):
        server = self.start("--appendonly", "yes", "--auto-aof-rewrite-min-size", "10000", "--auto-aof-rewrite-percentage", "100")
        client = self.connect_to(server)
        client.pipeline([("SET", "k", "x" * 100) for _ in range(1000)])
        self.await_rewrite(client, 1)
        server.wait_for_log("Starting automatic rewriting of AOF on")

    def test_one_that_must_wait_is_scheduled(self):
        server = self.start(*ON)
        client = self.connect_to(server)
        client.ok("MULTI")
        client.ok("BGREWRITEAOF")
        self.assertEqual(client.command("EXEC"), [Simple("Background append only file rewriting scheduled")])
        self.await_rewrite(client, 1)


class WaitAof(AofTest):
    def test_arguments(self):
        client = self.client()
        self.assert_error("ERR value is out of range, value must between 0 and 1", client, "WAITAOF", "2", "0", "0")
        self.assert_error("ERR value is out of range, must be positive", client, "WAITAOF", "0", "-1", "0")
        self.assert_error("ERR timeout is negative", client, "WAITAOF", "0", "0", "-1")
        self.assert_error(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.", client, "WAITAOF", "1", "0", "0"
        )
        self.assert_reply([0, 0], client, "WAITAOF", "0", "0", "0")

    def test_switching_the_file_off_ends_the_wait(self):
        server = self.start(*ON, "--appendfsync", "no")
        control, client, other = self.connect_to(server), self.connect_to(server), self.connect_to(server)
        client.ok("SET", "k", "v")
        client.send("WAITAOF", "1", "0", "0")
        other.send("WAIT", "1", "0")
        self.wait_until(lambda: control.info("clients")["blocked_clients"] == "2", "both wait")
        control.ok("CONFIG", "SET", "appendonly", "no")
        self.assertEqual(
            client.read_reply().text, "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."
        )
        self.assertEqual(control.info("clients")["blocked_clients"], "1")

    def test_everysec_waits_for_the_sync(self):
        server = self.start(*ON, "--appendfsync", "everysec")
        client = self.connect_to(server)
        for number in range(3):
            client.ok("SET", "k", str(number))
            self.assert_reply([1, 0], client, "WAITAOF", "1", "0", "60000")

    def test_it_waits_for_the_first_base(self):
        """Without which nothing is on the disk; nothing is synced when that is whole, but it is the end of the wait."""
        server = self.start("--appendonly", "no", "--appendfsync", "always", "--rdb-key-save-delay", "2000")
        client = server.client(timeout=20)
        self.addCleanup(client.close)
        client.pipeline([("SET", f"k{number}", "v") for number in range(300)])
        client.ok("CONFIG", "SET", "appendonly", "yes")
        self.assert_reply([1, 0], client, "WAITAOF", "1", "0", "0")

    def test_time_and_unblocking(self):
        server = self.start(*ON, "--appendfsync", "no")
        client, other = self.connect_to(server), self.connect_to(server)
        client.ok("SET", "k", "v")
        self.assert_reply([0, 0], client, "WAITAOF", "1", "0", "10")
        self.assert_reply([0, 0], client, "WAITAOF", "0", "1", "10")
        number = client.ok("CLIENT", "ID")
        client.send("WAITAOF", "1", "0", "0")
        self.wait_until(lambda: other.command("CLIENT", "UNBLOCK", str(number)) == 1, "it can be unblocked")
        self.assertEqual(client.read_reply(), [0, 0])
        client.send("WAITAOF", "1", "0", "0")
        self.wait_until(lambda: other.info("clients")["blocked_clients"] == "1", "it waits")
        other.ok("CONFIG", "SET", "appendfsync", "always")
        other.ok("SET", "k", "w")
        self.assertEqual(client.read_reply(), [1, 0])
        self.assertEqual(client.command("MULTI"), OK)
        client.ok("WAITAOF", "0", "1", "0")
        self.assertEqual(client.command("EXEC"), [[1, 0]])


def can_mount():
    return os.geteuid() == 0 and shutil.which("mount") is not None


@unittest.skipIf(not can_mount(), "a small file system can be mounted by root only")
@terrace_only("Redis ends when an fsync fails under always")
class FullDisk(AofTest):
    MISCONF = "MISCONF Errors writing to the AOF file: No space left on device"

    def mount(self, *options):
        mounted = subprocess.run(["mount", *options, self.folder], check=False, capture_output=True)
        if mounted.returncode != 0:
            self.skipTest(f"mount {' '.join(options[:2])} is not allowed here")
        self.addCleanup(subprocess.run, ["umount", "-l", self.folder], check=True)

    def make_disk(self):
        """A file system of 68 MB in self.folder."""
        self.mount("-t", "tmpfs", "-o", "size=68m", "tmpfs")

    def setUp(self):
        super().setUp()
        self.make_disk()
        room = os.statvfs(self.folder)
        self.ballast = os.path.join(self.folder, "ballast")
        with open(self.ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - (1 << 20))

    def fill_the_disk(self, client):
        """Writes until that is refused; returns how many were acknowledged."""
        for number in range(100000):
            try:
                reply = client.command("SET", f"k{number}", "x" * 1000)
            except (OSError, EOFError):
                return number  # its reply was held and is never sent
            if isinstance(reply, ErrorReply):
                self.assertEqual(reply.text, self.MISCONF)
                return number
        return self.fail("the disk never was full")

    def check_refusals(self, server):
        client = self.connect_to(server)
        self.wait_until(lambda: self.persistence(client)["aof_last_write_status"] == "err", "INFO says so")
        self.assert_error(self.MISCONF, client, "SET", "k", "v")
        self.assert_error(self.MISCONF, client, "PING")
        client.ok("MULTI")
        self.assert_error(self.MISCONF, client, "SET", "k", "v")
        self.assert_error_starts("EXECABORT", client, "EXEC")
        self.assertIsInstance(client.command("GET", "k1"), bytes)
        server.wait_for_log("the append-only file cannot be written: No space left on device")

    def check(self, policy):
        # Each write adds as much to a base as to the file: a rewrite does not fit where a write did not. Where the ballast
        # was there is room for more than everysec lets come before a write fails, however slow that is to do so.
        server = self.start(*ON, "--appendfsync", policy, "--rdbcompression", "no")
        acknowledged = self.fill_the_disk(self.connect_to(server))
        self.check_refusals(server)
        client = self.connect_to(server)
        os.remove(self.ballast)
        self.wait_until(lambda: client.command("SET", "again", "1") == OK, "writing goes on by itself")
        self.assertEqual(self.persistence(client)["aof_last_write_status"], "ok")
        if policy != "always":
            self.assert_reply([1, 0], client, "WAITAOF", "1", "0", "60000")
        server.kill()
        with Server(*ON, directory=self.folder) as server, server.client() as client:
            self.assert_reply(b"1", client, "GET", "again")
            self.assertGreater(acknowledged, 100)
            self.assert_reply(acknowledged, client, "EXISTS", *(f"k{number}" for number in range(acknowledged)))

    def test_always(self):
        self.check("always")

    def test_everysec(self):
        self.check("everysec")


@unittest.skipIf(shutil.which("mkfs.ext4") is None, "there is no mkfs.ext4")
class FullLoopDevice(FullDisk):
    """Where room is promised when a write comes, and taken when it is synced."""

    def make_disk(self):
        image = tempfile.NamedTemporaryFile(prefix="terrace-disk-")  # removed with its last descriptor
        self.addCleanup(image.close)
        image.truncate(68 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image.name], check=True)
        self.mount("-o", "loop", image.name)


if __name__ == "__main__":
    unittest.main()
