"""DEBUG. info_test.py has the basics."""

import threading
import time
import unittest

from support.case import ServerTest, terrace_only, threads
from support.resp import NULL_BULK, OK, ErrorReply, Simple
from support.server import Server

NOT_ALLOWED = "ERR DEBUG command not allowed. If the enable-debug-command option is set to"


class Permission(ServerTest):
    def test_nobody_by_default(self):
        self.assert_error_starts(NOT_ALLOWED, self.client(), "DEBUG", "HELP")

    def test_clients_of_this_host(self):
        server = self.start_server("--enable-debug-command", "local")
        self.assert_reply(OK, self.connect_to(server), "DEBUG", "SLEEP", "0")


class Debug(ServerTest):
    server_arguments = ("--enable-debug-command", "yes", "--threads", "4")

    def test_unknown_subcommands(self):
        client = self.client()
        for words in (("NOSUCH",), ("SLEEP",), ("SLEEP", "1", "2"), ("POPULATE",), ("JMAP",)):
            self.assert_error(f"ERR unknown subcommand or wrong number of arguments for '{words[0]}'. Try DEBUG HELP.", client, "DEBUG", *words)

    @threads
    def test_sleep_stops_all_workers(self):
        clients = [self.client() for _ in range(8)]
        for client in clients:
            client.ok("PING")
        # A thread of this test that has to wait for a processor may meet the end of the sleep only: then a longer one.
        slept, longest = 0.5, [0.0]
        while min(longest) < slept / 2 and slept < 20:
            slept *= 2
            longest = self.meet_sleep(clients, slept)
        self.assertGreaterEqual(min(longest), slept / 2)

    def meet_sleep(self, clients, seconds):
        """All others ask all the time: each has to meet the sleep, which shows as an answer that took most of it."""
        longest, begun, over = [0.0] * 7, threading.Barrier(8), threading.Event()

        def ask(number, client):
            begun.wait()
            while not over.is_set():
                asked = time.monotonic()
                client.ok("PING")
                longest[number] = max(longest[number], time.monotonic() - asked)

        asking = [threading.Thread(target=ask, args=pair) for pair in enumerate(clients[1:])]
        for thread in asking:
            thread.start()
        begun.wait()
        began = time.monotonic()
        clients[0].ok("DEBUG", "SLEEP", seconds)
        lasted = time.monotonic() - began
        over.set()
        for thread in asking:
            thread.join()
        self.assertGreaterEqual(lasted, seconds)
        return longest

    def test_the_writer_of_the_append_only_file_can_be_slowed_down(self):
        server = self.start_server("--enable-debug-command", "yes", "--appendonly", "yes", "--appendfsync", "always")
        client = self.connect_to(server)
        self.assert_reply(OK, client, "DEBUG", "AOF-FLUSH-SLEEP", "300000")
        began = time.monotonic()
        self.assert_reply(OK, client, "SET", "k", "v")
        self.assertGreaterEqual(time.monotonic() - began, 0.3)
        self.assert_reply(OK, client, "DEBUG", "AOF-FLUSH-SLEEP", "0")

    @terrace_only("an error of its own")
    def test_the_allocator_can_be_asked(self):
        client = self.client()
        if not client.info("memory")["mem_allocator"].startswith("jemalloc"):
            self.skipTest("the allocator of a sanitizer build has no such names")
        self.assert_reply(4096, client, "DEBUG", "MALLCTL", "arenas.page")
        self.assert_reply(1, client, "DEBUG", "MALLCTL", "background_thread")
        self.assertIsInstance(client.ok("DEBUG", "MALLCTL-STR", "version"), bytes)
        self.assert_reply(OK, client, "DEBUG", "MALLCTL-STR", "thread.tcache.flush", "VOID")
        self.assert_error_starts("ERR the allocator knows", client, "DEBUG", "MALLCTL", "no.such.name")

    def test_a_damaged_payload_leaves_a_line_in_the_log(self):
        client = self.client()
        client.ok("HSET", "h", "field", "value")
        payload = bytearray(client.ok("DUMP", "h"))
        payload[payload.index(b"field") - 1] += 40  # a length that is beyond the end
        client.ok("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1")
        self.assert_error("ERR Bad data format", client, "RESTORE", "copy", "0", bytes(payload))
        client.ok("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "0")
        self.server.wait_for_log("Hash listpack integrity check failed")

    def test_checksums_of_payloads_can_be_left_unchecked(self):
        client = self.client()
        client.ok("SET", "k", "value")
        damaged = client.ok("DUMP", "k")[:-1] + b"?"
        self.assert_error("ERR DUMP payload version or checksum are wrong", client, "RESTORE", "copy", "0", damaged)
        self.assert_reply(OK, client, "DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1")
        self.assert_reply(OK, client, "RESTORE", "copy", "0", damaged)
        self.assert_reply(b"value", client, "GET", "copy")
        self.assert_reply(OK, client, "DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "0")

    def test_populate(self):
        client = self.client()
        client.ok("SET", "key:3", "mine")
        self.assert_reply(OK, client, "DEBUG", "POPULATE", "10")
        self.assert_reply(10, client, "DBSIZE")
        self.assert_reply(b"mine", client, "GET", "key:3")
        self.assert_reply(b"value:9", client, "GET", "key:9")
        self.assert_reply(OK, client, "DEBUG", "POPULATE", "2", "p", "10")
        self.assert_reply(b"value:1\0\0\0", client, "GET", "p:1")
        self.assert_reply(OK, client, "DEBUG", "POPULATE", "2", "q", "3")
        self.assert_reply(b"val", client, "GET", "q:1")
        self.assert_error("ERR value is out of range, must be positive", client, "DEBUG", "POPULATE", "x")
        self.assert_error("ERR value is out of range, must be positive", client, "DEBUG", "POPULATE", "-1")
        self.assert_error("ERR value is out of range, must be positive", client, "DEBUG", "POPULATE", "1", "k", "99999999999")

    def fill(self, client):
        client.ok("DEBUG", "POPULATE", "1000", "k", "20")
        client.ok("SET", "integer", "12345")
        client.ok("SET", "volatile", "x", "EX", "1000")
        client.ok("SELECT", "7")
        client.ok("SET", "elsewhere", "x" * 100000)

    @terrace_only("the digests differ from server to server")
    def test_digest_depends_on_the_data_alone(self):
        client = self.client()
        zeros = b"0" * 40
        self.assertEqual(client.ok("DEBUG", "DIGEST"), Simple(zeros))
        self.fill(client)
        digest = client.ok("DEBUG", "DIGEST")
        for arguments in (("--shards", "1", "--threads", "1"), ("--shards", "512", "--threads", "3")):
            other = self.connect_to(self.start_server("--enable-debug-command", "yes", *arguments))
            self.fill(other)
            self.assertEqual(other.ok("DEBUG", "DIGEST"), digest)
        client.ok("SELECT", "0")
        for change in (("APPEND", "k:1", "x"), ("PERSIST", "volatile"), ("DEL", "integer")):
            client.ok(*change)
            self.assertNotEqual(client.ok("DEBUG", "DIGEST"), digest)
        none, some = client.ok("DEBUG", "DIGEST-VALUE", "none", "k:2")
        self.assertEqual(none, Simple(zeros))
        self.assertNotEqual(some, Simple(zeros))

    def test_object(self):
        client = self.client()
        client.ok("SET", "k", "b")
        client.ok("SET", "i", "5")
        self.assertRegex(client.ok("DEBUG", "OBJECT", "k").value.decode(),
                         r"^Value at:0x[0-9a-f]+ refcount:1 encoding:embstr serializedlength:2 lru:\d+ lru_seconds_idle:\d+$")
        self.assertIn("encoding:int serializedlength:2", client.ok("DEBUG", "OBJECT", "i").value.decode())
        self.assert_error("ERR no such key", client, "DEBUG", "OBJECT", "none")

    def test_active_expiry_can_be_stopped(self):
        client = self.client()
        client.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        self.addCleanup(lambda: self.client().ok("DEBUG", "SET-ACTIVE-EXPIRE", "1"))
        client.ok("SET", "k", "v", "PX", "1")
        client.ok("DEBUG", "SLEEP", "0.5")
        self.assert_reply(1, client, "DBSIZE")
        client.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        self.wait_until(lambda: client.ok("DBSIZE") == 0, "the key to be removed")

    def test_cron_can_be_paused(self):
        client = self.client()
        client.ok("DEBUG", "PAUSE-CRON", "1")
        self.addCleanup(lambda: self.client().ok("DEBUG", "PAUSE-CRON", "0"))
        client.ok("SET", "k", "v", "PX", "1")
        client.ok("DEBUG", "SLEEP", "0.5")
        self.assert_reply(1, client, "DBSIZE")
        self.assert_reply(NULL_BULK, client, "GET", "k")
        client.ok("DEBUG", "PAUSE-CRON", "0")

    def test_small_ones(self):
        client = self.client()
        self.assert_reply(1, client, "DEBUG", "STRINGMATCH-LEN", "h*o", "hello")
        self.assert_reply(0, client, "DEBUG", "STRINGMATCH-LEN", "h*o", "world")
        self.assert_reply(ErrorReply("CODE and a text"), client, "DEBUG", "ERROR", "CODE and a text")
        self.assert_reply(OK, client, "DEBUG", "SET-DISABLE-DENY-SCRIPTS", "1")
        before = client.info("replication")["master_replid"]
        self.assert_reply(OK, client, "DEBUG", "CHANGE-REPL-ID")
        self.assertNotEqual(client.info("replication")["master_replid"], before)
        self.assert_reply(OK, client, "DEBUG", "LOG", "one\ntwo")
        self.server.wait_for_log("DEBUG LOG: one\\ntwo")
        self.assert_error_starts("ERR Wrong protocol type name.", client, "DEBUG", "PROTOCOL", "what")
        self.assert_error("ERR RESP2 is not supported by this command", client, "DEBUG", "PROTOCOL", "push")


class Crashes(unittest.TestCase):
    def crash(self, subcommand):
        server = Server("--enable-debug-command", "yes", "--threads", "2")
        self.addCleanup(server.stop, check=False)
        with server.client() as client:
            client.send("DEBUG", subcommand)
            self.assertEqual(client.read_raw(), b"")
        self.assertNotEqual(server.wait_for_exit(), 0)
        return server.output_text()

    @terrace_only("its report is another")
    def test_the_log_tells_where_it_was(self):
        for subcommand, signal in (("SEGFAULT", "SIGSEGV"), ("PANIC", "SIGABRT"), ("ASSERT", "SIGABRT")):
            text = self.crash(subcommand)
            if "Sanitizer" in text:  # the sanitizer's own report comes first
                continue
            self.assertIn(f"crashed by signal {signal}", text)
            self.assertRegex(text, r"terrace-server\+0x[0-9a-f]+")


if __name__ == "__main__":
    unittest.main()
