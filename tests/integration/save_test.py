"""SAVE, BGSAVE, save points, and what a shutdown saves. What stands in the file is rdb_test's and rdb_load_test's."""

import os
import shutil
import signal
import tempfile
import threading
import time
import unittest

from support.case import terrace_only, threads
from support.resp import OK, ErrorReply
from support.server import Server, run_to_exit

WAIT_S = 60


def persistence(client):
    lines = client.command("INFO", "persistence").decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def wait_until(client, field, value, timeout=WAIT_S):
    """Polls INFO: nobody is told when a snapshot ends."""
    deadline = time.monotonic() + timeout
    while persistence(client)[field] != value:
        if time.monotonic() > deadline:
            raise AssertionError(f"{field} is {persistence(client)[field]} and did not become {value}")
        time.sleep(0.005)


class SaveTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-save-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def start(self, *arguments):
        server = Server(*arguments, directory=self.folder)
        self.addCleanup(server.stop)
        client = server.client()
        self.addCleanup(client.close)
        return server, client

    def end(self, server, *words):
        with server.client() as client:
            client.send("SHUTDOWN", *words)
            self.assertEqual(server.wait_for_exit(), 0)


class Save(SaveTest):
    def test_what_save_has_written_is_there_after_a_restart(self):
        server, client = self.start()
        client.ok("SET", "kept", "1")
        self.assertEqual(client.command("SAVE"), OK)
        client.ok("SET", "lost", "1")
        self.end(server, "NOSAVE")
        server, client = self.start()
        self.assertEqual(client.command("GET", "kept"), b"1")
        self.assertEqual(client.command("DBSIZE"), 1)
        self.assertEqual(persistence(client)["rdb_last_load_keys_loaded"], "1")
        self.assertEqual(persistence(client)["rdb_changes_since_last_save"], "0")

    @threads
    def test_save_from_any_worker(self):
        server, first = self.start("--threads", "4")
        for number in range(6):
            with server.client() as client:
                client.ok("SET", f"key:{number}", number)
                self.assertEqual(client.command("SAVE"), OK)
        self.assertEqual(persistence(first)["rdb_saves"], "6")

    def change_during_a_snapshot(self, delay_us):
        """A server whose snapshot goes on, with so long a delay before each key, and its client; None: it has ended before
        the last change."""
        server, client = self.start("--rdb-key-save-delay", delay_us)
        client.ok("MSET", *[word for number in range(1000) for word in (f"key:{number}", "before")])
        client.ok("RPUSH", "list", *range(5000))
        client.command("BGSAVE")
        # The cut is made soon after the reply, between two turns; a round trip later it is there.
        while "1001" != persistence(client)["current_save_keys_total"] and persistence(client)["rdb_saves"] == "0":
            time.sleep(0.001)
        for number in range(0, 1000, 2):
            client.ok("SET", f"key:{number}", "after")
        for number in range(1, 1000, 4):
            client.ok("DEL", f"key:{number}")
        client.ok("LTRIM", "list", "10", "20")
        client.ok("SET", "new", "1")
        if persistence(client)["rdb_bgsave_in_progress"] == "1":
            return server, client
        server.stop()
        os.remove(os.path.join(self.folder, "dump.rdb"))
        return None

    def test_changes_during_a_background_snapshot_are_not_in_it(self):
        delay_us, changed = 1000, None
        while not changed:
            changed = self.change_during_a_snapshot(delay_us)
            delay_us *= 4
        server, client = changed
        self.assertEqual(persistence(client)["rdb_saves"], "0")
        wait_until(client, "rdb_bgsave_in_progress", "0", 600)
        self.assertEqual(persistence(client)["rdb_last_bgsave_status"], "ok")
        server.kill()
        server, client = self.start()
        self.assertEqual(client.command("DBSIZE"), 1001)
        values = {client.command("GET", f"key:{number}") for number in range(1000)}
        self.assertEqual(values, {b"before"})
        self.assertEqual(client.command("LRANGE", "list", "0", "-1"), [str(n).encode() for n in range(5000)])

    def test_a_second_one_is_refused_or_scheduled(self):
        server, client = self.start("--rdb-key-save-delay", "1000000")
        client.ok("MSET", *[word for number in range(200) for word in (f"key:{number}", "v")])
        self.assertEqual(client.command("BGSAVE").value, b"Background saving started")
        for command in (("BGSAVE",), ("SAVE",), ("BGSAVE", "SCHEDULE")):
            self.assertEqual(client.command(*command).text, "ERR Background save already in progress")
        self.assertEqual(client.command("BGSAVE", "NOW").text, "ERR syntax error")

    def test_lastsave_moves(self):
        earliest = int(time.time())
        _, client = self.start()
        started = client.command("LASTSAVE")
        self.assertTrue(earliest <= started <= time.time(), started)
        client.ok("SAVE")
        self.assertTrue(started <= client.command("LASTSAVE") <= time.time())

    @threads
    def test_within_a_transaction_it_begins_behind_it(self):
        server, client = self.start("--threads", "2")
        for command in (("MULTI",), ("SET", "a", "1"), ("BGSAVE",), ("SET", "b", "1")):
            client.command(*command)
        self.assertEqual(len(client.command("EXEC")), 3)
        wait_until(client, "rdb_bgsave_in_progress", "0")
        wait_until(client, "rdb_saves", "1")
        server.kill()
        server, client = self.start()
        self.assertEqual(client.command("MGET", "a", "b"), [b"1", b"1"])

    @threads
    def test_debug_reload_amid_other_clients(self):
        server, client = self.start("--threads", "3", "--enable-debug-command", "yes")
        client.ok("MSET", *[word for number in range(5000) for word in (f"key:{number}", f"value:{number}")])
        client.ok("RPUSH", "list", *range(3000))
        digest = client.command("DEBUG", "DIGEST")
        stop = threading.Event()

        def read():
            with server.client() as other:
                while not stop.is_set():
                    reply = other.command("GET", "key:77")
                    if reply != b"value:77" and not isinstance(reply, ErrorReply):
                        wrong.append(reply)

        wrong = []
        reader = threading.Thread(target=read)
        reader.start()
        for words in ((), ("NOSAVE",), ("NOSAVE", "NOFLUSH", "MERGE")):
            self.assertEqual(client.command("DEBUG", "RELOAD", *words), OK)
            self.assertEqual(client.command("DEBUG", "DIGEST"), digest)
        stop.set()
        reader.join(WAIT_S)
        self.assertEqual(wrong, [])
        self.assertIsInstance(client.command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH"), ErrorReply)


class SavePoints(SaveTest):
    def test_a_save_point_saves(self):
        server, client = self.start("--save", "1 3")
        client.ok("MSET", "a", "1", "b", "2")
        self.assertEqual(persistence(client)["rdb_changes_since_last_save"], "2")
        client.ok("SET", "c", "3")
        wait_until(client, "rdb_saves", "1")
        server.wait_for_log("changes in 1 seconds: saving")
        wait_until(client, "rdb_changes_since_last_save", "0")

    def test_a_shutdown_saves_where_there_are_save_points(self):
        for end in ("SHUTDOWN", "SIGTERM", "SHUTDOWN SAVE"):
            with self.subTest(end=end):
                points = "" if end == "SHUTDOWN SAVE" else "3600 1"
                server, client = self.start("--save", points)
                client.ok("SET", "how", end)
                if end == "SIGTERM":
                    server.signal(signal.SIGTERM)
                    self.assertEqual(server.wait_for_exit(), 0)
                else:
                    self.end(server, *end.split()[1:])
                server, client = self.start()
                self.assertEqual(client.command("GET", "how"), end.encode())
                self.end(server, "NOSAVE")

    @threads
    def test_what_was_acknowledged_before_the_end_is_in_the_snapshot(self):
        server, _ = self.start("--save", "3600 1", "--threads", "3")
        acknowledged = [0] * 4

        def write(number):
            with server.client() as client:
                try:
                    while not isinstance(client.command("SET", f"w:{number}", acknowledged[number] + 1), ErrorReply):
                        acknowledged[number] += 1
                except (OSError, EOFError):
                    pass

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        while min(acknowledged) < 50:
            time.sleep(0.001)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait_for_exit(), 0)
        for writer in writers:
            writer.join(WAIT_S)
        _, client = self.start("--save", "")
        for number, value in enumerate(acknowledged):
            self.assertGreaterEqual(int(client.command("GET", f"w:{number}")), value)

    def test_flushall_stops_a_snapshot_and_replaces_its_file(self):
        server, client = self.start("--save", "3600 1000000", "--rdb-key-save-delay", "1000000")
        client.ok("MSET", *[word for number in range(500) for word in (f"key:{number}", "v")])
        self.assertEqual(client.command("BGSAVE").value, b"Background saving started")
        wait_until(client, "current_save_keys_total", "500")
        client.ok("FLUSHALL")
        self.assertEqual(persistence(client)["rdb_changes_since_last_save"], "0")
        wait_until(client, "rdb_saves", "1")
        self.assertEqual(persistence(client)["rdb_last_bgsave_status"], "ok")
        server.kill()
        _, client = self.start("--save", "")
        self.assertEqual(client.command("DBSIZE"), 0)

    @terrace_only("it saves before it answers")
    def test_the_snapshot_behind_flushall_takes_hardly_any_memory(self):
        """Test suites of Redis compare used_memory behind FLUSHALL with what it is later."""
        _, client = self.start("--save", "3600 1")
        if not client.info("memory")["mem_allocator"].startswith("jemalloc"):
            self.skipTest("used_memory is the resident set of a sanitizer")
        client.ok("FLUSHALL")
        wait_until(client, "rdb_bgsave_in_progress", "0")
        client.ok("FLUSHALL")
        before, most = int(client.info("memory")["used_memory"]), 0
        for _ in range(50):
            client.ok("FLUSHALL")
            most = max(most, int(client.info("memory")["used_memory"]))
        self.assertLess(most - before, 250 * 1024)

    def test_behind_flushall_a_snapshot_and_a_rewrite_begin_at_once(self):
        _, client = self.start("--save", "3600 1", "--appendonly", "yes")
        wait_until(client, "aof_rewrite_in_progress", "0")
        for _ in range(5):
            client.ok("SET", "k", "v")
            client.ok("FLUSHALL")
            self.assertEqual(client.command("BGSAVE").value, b"Background saving started")
            wait_until(client, "rdb_bgsave_in_progress", "0")
            client.ok("FLUSHALL")
            self.assertEqual(client.command("BGREWRITEAOF").value, b"Background append only file rewriting started")
            wait_until(client, "aof_rewrite_in_progress", "0")
        self.assertEqual(persistence(client)["rdb_changes_since_last_save"], "0")

    def test_nosave_leaves_the_file_alone(self):
        server, client = self.start("--save", "3600 1")
        client.ok("SET", "a", "1")
        self.end(server, "NOSAVE")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "dump.rdb")))


class FailingSaves(SaveTest):
    def setUp(self):
        super().setUp()
        os.makedirs(os.path.join(self.folder, "dump.rdb", "in the way"))

    def mend(self):
        shutil.rmtree(os.path.join(self.folder, "dump.rdb"))

    @terrace_only("it looks at the folder at the start")
    def test_writes_are_refused_until_a_snapshot_succeeds(self):
        # A folder in the place of the file cannot be loaded either.
        self.mend()
        _, client = self.start("--save", "3600 1000000")
        os.makedirs(os.path.join(self.folder, "dump.rdb", "in the way"))
        # Who waits for a snapshot is told himself.
        self.assertIsInstance(client.command("SAVE"), ErrorReply)
        self.assertEqual(client.command("SHUTDOWN"), ErrorReply("ERR Errors trying to SHUTDOWN. Check logs."))
        self.assertEqual(client.info("persistence")["rdb_last_bgsave_status"], "ok")
        client.ok("SET", "a", "1")
        client.command("BGSAVE")
        wait_until(client, "rdb_last_bgsave_status", "err")
        deadline = time.monotonic() + WAIT_S
        while not isinstance(client.command("SET", "a", "1"), ErrorReply):
            self.assertLess(time.monotonic(), deadline)
        self.assertTrue(client.command("SET", "a", "1").text.startswith("MISCONF "))
        self.assertNotIsInstance(client.command("GET", "a"), ErrorReply)
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("temp")], [])
        self.mend()
        self.assertEqual(client.command("SAVE"), OK)
        while isinstance(client.command("SET", "a", "1"), ErrorReply):
            self.assertLess(time.monotonic(), deadline)

    @terrace_only("it looks at the folder at the start")
    def test_a_shutdown_that_cannot_save_does_not_end_the_server(self):
        self.mend()
        server, client = self.start("--save", "3600 1", "--stop-writes-on-bgsave-error", "no")
        client.ok("SET", "a", "1")
        os.makedirs(os.path.join(self.folder, "dump.rdb", "in the way"))
        self.assertEqual(client.command("SHUTDOWN").text, "ERR Errors trying to SHUTDOWN. Check logs.")
        self.assertEqual(client.command("SET", "a", "2"), OK)
        server.signal(signal.SIGTERM)
        server.wait_for_log("SIGTERM received")
        # Of the command and of the signal; asking is an event for the server too.
        while server.output_text().count("Errors trying to shut down the server") < 2:
            client.ok("PING")
        self.assertEqual(client.command("SET", "a", "3"), OK)
        self.end(server, "FORCE")

    @terrace_only("it says it in other words")
    def test_a_file_that_cannot_be_loaded_ends_the_start(self):
        self.mend()
        with open(os.path.join(self.folder, "dump.rdb"), "wb") as file:
            file.write(b"REDIS0010 this is no snapshot")
        code, out, errors = run_to_exit("--port", "0", "--unixsocket", "s", "--dir", self.folder, directory=self.folder)
        self.assertEqual(code, 1)
        self.assertIn(b"dump.rdb", out + errors)


if __name__ == "__main__":
    unittest.main()
