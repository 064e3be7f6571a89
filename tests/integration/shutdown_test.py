"""The life of the process: background, supervisors, title, and its end. startup_test.py has the basics."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from support.case import terrace_only, threads
from support.client import Client
from support.resp import OK, PONG, ErrorReply
from support.server import Server, find_free_port, run_to_exit, server_program


class Shutdown(unittest.TestCase):
    def test_what_stands_before_it_in_a_pipeline_is_answered(self):
        with Server() as server, server.client() as client:
            client.send_raw(b"PING\r\nSHUTDOWN NOSAVE\r\nPING\r\n")
            self.assertEqual(client.read_until_closed(), b"+PONG\r\n")
            self.assertEqual(server.wait_for_exit(), 0)

    @threads
    def test_it_ends_amid_commands_that_stop_all_workers(self):
        for _ in range(5):
            with Server("--threads", "4") as server:
                clients = [server.client() for _ in range(12)]
                for client in clients:
                    client.send_raw(b"CONFIG RESETSTAT\r\nSET k v\r\nFLUSHALL\r\nINFO\r\n" * 40)
                threading.Thread(target=clients[0].read_until_closed, daemon=True).start()
                with server.client() as last:
                    last.send("SHUTDOWN", "NOSAVE")
                    last.read_until_closed()
                self.assertEqual(server.wait_for_exit(), 0)
                for client in clients:
                    client.close()

    def test_a_second_sigint_leaves_no_half_of_a_snapshot(self):
        with Server("--rdb-key-save-delay", "1000000") as server, server.client() as client:
            client.pipeline([("SET", number, number) for number in range(200)])
            client.ok("CONFIG", "SET", "save", "900 1")
            server.signal(signal.SIGINT)
            snapshot = os.path.join(server.directory, f"temp-{server.pid}.rdb")
            deadline = time.monotonic() + 60
            while not os.path.exists(snapshot):
                self.assertLess(time.monotonic(), deadline)
            server.signal(signal.SIGINT)
            self.assertEqual(server.wait_for_exit(), 1)
            self.assertEqual([name for name in os.listdir(server.directory) if name.endswith(".rdb")], [])
            server.exit_code = 0

    def test_a_signal_can_be_taken_back(self):
        with Server("--enable-debug-command", "yes") as server, server.client() as client:
            self.assertEqual(client.command("SHUTDOWN", "ABORT"), ErrorReply("ERR No shutdown in progress."))
            client.ok("DEBUG", "PAUSE-CRON", "1")
            server.signal(signal.SIGTERM)
            while client.command("SHUTDOWN", "ABORT") != OK:
                pass
            server.wait_for_log("Shutdown manually aborted.")
            client.ok("DEBUG", "PAUSE-CRON", "0")
            self.assertEqual(client.command("SHUTDOWN", "ABORT"), ErrorReply("ERR No shutdown in progress."))
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait_for_exit(), 0)

    def test_it_is_refused_while_there_is_no_base_yet(self):
        with Server("--rdb-key-save-delay", "1000000") as server, server.client() as client:
            client.pipeline([("SET", number, number) for number in range(200)])
            client.ok("CONFIG", "SET", "appendonly", "yes")
            self.assertIsInstance(client.command("SHUTDOWN"), ErrorReply)
            for count in (2, 3):
                server.signal(signal.SIGTERM)
                while server.log_text().count("Writing initial AOF, can't exit") < count:
                    self.assertEqual(client.command("GET", 7), b"7")
            client.ok("CONFIG", "SET", "appendonly", "no")
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait_for_exit(), 0)

    @terrace_only("it saves or refuses")
    def test_a_signal_ends_it_whatever_is_configured(self):
        with Server("--shutdown-on-sigterm", "save now") as server:
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait_for_exit(), 0)


@terrace_only("it hears signals while it loads, by events that DEBUG looks for")
class WhileADebugCommandLoads(unittest.TestCase):
    """Loading, which key-load-delay makes last far longer than anybody waits for an end, ends with the server."""

    KEYS, DELAY_US = 2000, 1_000_000

    def end_amid(self, command, *arguments, swapped=False):
        with Server("--threads", "2", "--enable-debug-command", "yes", *arguments) as server:
            with server.client() as first, server.client() as second:
                for client in (first, second):  # one on each worker
                    client.ok("SET", "key", "value")
                loads, looks = (second, first) if swapped else (first, second)
                loads.ok("DEBUG", "POPULATE", self.KEYS)
                if arguments:
                    loads.command("BGREWRITEAOF")
                    while b"aof_rewrite_in_progress:0" not in loads.command("INFO", "persistence"):
                        time.sleep(0.01)
                loads.ok("CONFIG", "SET", "key-load-delay", self.DELAY_US)
                loads.send("DEBUG", command)
                while not isinstance(looks.command("GET", "key"), ErrorReply):
                    pass
                os.kill(server.pid, signal.SIGTERM)
                self.assertEqual(server.wait_for_exit(), 0)

    def test_reload(self):
        for swapped in (False, True):
            self.end_amid("RELOAD", swapped=swapped)

    def test_loadaof(self):
        for swapped in (False, True):
            self.end_amid("LOADAOF", "--appendonly", "yes", swapped=swapped)


class Background(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="terrace-test-")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.pidfile = os.path.join(self.directory, "pid")
        self.log = os.path.join(self.directory, "log")

    def arguments(self, port):
        return ["--port", port, "--bind", "127.0.0.1", "--dir", self.directory, "--save", "", "--daemonize", "yes",
                "--pidfile", self.pidfile, "--logfile", self.log]

    def end(self, pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    @terrace_only("it may not be ready yet when its parent ends")
    def test_the_parent_ends_when_the_server_serves(self):
        port = find_free_port()
        code, stdout, stderr = run_to_exit(*self.arguments(port))
        self.assertEqual((code, stdout, stderr), (0, b"", b""))
        with open(self.pidfile, encoding="ascii") as file:
            pid = int(file.read())
        self.addCleanup(self.end, pid)
        with Client(port=port) as client:
            self.assertEqual(int(client.info("server")["process_id"]), pid)
            self.assertEqual(os.getsid(pid), pid)
            client.send("SHUTDOWN", "NOSAVE")
            client.read_until_closed()
        with open(self.log, encoding="utf-8") as file:
            self.assertIn("Ready to accept connections", file.read())

    @terrace_only("it tells its log")
    def test_a_start_that_fails_is_told_as_in_the_foreground(self):
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            code, _, stderr = run_to_exit(*self.arguments(holder.getsockname()[1]))
        self.assertEqual(code, 1)
        self.assertIn(b"ddress already in use", stderr)
        self.assertFalse(os.path.exists(self.pidfile))


class Surroundings(unittest.TestCase):
    def test_systemd_is_told(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            path = os.path.join(directory, "notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.bind(path)
                notify.settimeout(60)
                with Server("--supervised", "systemd", environment={"NOTIFY_SOCKET": path}) as server:
                    self.assertIn(b"READY=1", notify.recv(4096))
                    with server.client() as client:
                        self.assertEqual(client.info("server")["process_supervised"], "systemd")
                    server.signal(signal.SIGTERM)
                    self.assertIn(b"STOPPING=1", notify.recv(4096))

    @terrace_only("it shows the path of its program")
    def test_the_title_follows_the_template(self):
        with Server("--proc-title-template", "{title} on {port} {server-mode}") as server, server.client() as client:
            self.assertEqual(self.title(server), f"{server_program()} on {server.port}")
            client.ok("CONFIG", "SET", "proc-title-template", "terrace {listen-addr}")
            self.assertEqual(self.title(server), f"terrace 127.0.0.1:{server.port}")

    def title(self, server):
        with open(f"/proc/{server.pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").decode()

    @terrace_only("its logo is another")
    def test_the_logo_can_be_asked_for(self):
        with Server("--always-show-logo", "yes") as server:
            self.assertIn("___", server.log_text())

    def test_a_pidfile_that_cannot_be_written_is_no_reason_to_fail(self):
        with Server("--pidfile", "/nowhere/at/all/pid") as server, server.client() as client:
            self.assertEqual(client.command("PING"), PONG)

    @terrace_only("it starts")
    def test_a_directory_nobody_writes_to_need_not_be_writable(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            port = find_free_port()
            process = subprocess.Popen([server_program(), "--port", str(port), "--dir", "/proc", "--save", ""], cwd=directory,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            try:
                for line in process.stdout:
                    if b"Ready to accept" in line:
                        break
                else:
                    self.fail("it did not start")
                process.terminate()
                self.assertEqual(process.wait(60), 0)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()


if __name__ == "__main__":
    unittest.main()
