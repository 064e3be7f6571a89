"""Starting and stopping: what works, and the one line that says why something cannot."""

import os
import signal
import socket
import stat
import tempfile
import unittest

from support.case import ServerTest, terrace_only, threads
from support.client import Client
from support.resp import OK, PONG, ErrorReply
from support.server import Server, find_free_port, run_to_exit


class StartsThatCannotWork(unittest.TestCase):
    """Each is one line on stderr that says what to do, and exit code 1."""

    def assert_refused(self, arguments, *expected, **options):
        code, _, stderr = run_to_exit(*arguments, **options)
        text = stderr.decode().strip()
        self.assertEqual(code, 1, text)
        self.assertEqual(len(text.splitlines()), 1, f"one line was expected:\n{text}")
        for words in expected:
            self.assertIn(words, text)
        return text

    def with_file(self, text):
        directory = tempfile.TemporaryDirectory(prefix="terrace-test-")
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "terrace.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    @terrace_only("it says so in several lines, on stdout")
    def test_port_taken(self):
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            self.assert_refused(["--port", port, "--bind", "127.0.0.1"], str(port), "ddress already in use")

    def test_no_process_id_is_shown_before_it_listens(self):
        """The test suites of Redis connect as soon as they find it in the log."""
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            _, stdout, _ = run_to_exit("--port", port, "--bind", "127.0.0.1", "--always-show-logo", "yes")
            self.assertIn(f"Failed listening on port {port}", stdout.decode())
            self.assertNotIn(" PID: ", stdout.decode())

    @terrace_only("several lines")
    def test_unknown_directive_in_a_file(self):
        path = self.with_file("port 0\n# a comment\nno-such-directive yes\n")
        self.assert_refused([path], path, "3", "no-such-directive")

    @terrace_only("several lines")
    def test_bad_value_in_a_file(self):
        path = self.with_file("\nmaxclients many\n")
        self.assert_refused([path], path, "2", "maxclients")

    @terrace_only("several lines")
    def test_wrong_number_of_words_in_a_file(self):
        path = self.with_file("port 1 2 3\n")
        self.assert_refused([path], path, "1", "port")

    @terrace_only("several lines")
    def test_unbalanced_quotes_in_a_file(self):
        path = self.with_file('port 0\nrequirepass "abc\n')
        self.assert_refused([path], path, "2")

    @terrace_only("several lines")
    def test_unknown_directive_on_the_command_line(self):
        self.assert_refused(["--no-such-directive", "yes"], "no-such-directive")

    @terrace_only("several lines")
    def test_bad_value_on_the_command_line(self):
        self.assert_refused(["--maxclients", "many"], "maxclients", "many")

    @terrace_only("several lines")
    def test_out_of_range_value(self):
        self.assert_refused(["--port", "70000"], "port")

    @terrace_only("several lines")
    def test_bad_directive_on_stdin(self):
        self.assert_refused(["-"], "2", "no-such-directive", stdin=b"port 0\nno-such-directive 1\n")

    @terrace_only("exit code 1, but on stdout")
    def test_missing_file(self):
        self.assert_refused(["/nowhere/terrace.conf"], "/nowhere/terrace.conf")

    @terrace_only("several lines")
    def test_missing_directory(self):
        self.assert_refused(["--port", find_free_port(), "--dir", "/nowhere/at/all"], "/nowhere/at/all")

    @terrace_only("it finds out only when it saves")
    def test_unwritable_directory(self):
        # /proc refuses new files to everybody, root included.
        self.assert_refused(["--port", find_free_port(), "--dir", "/proc"], "/proc")

    @terrace_only("several lines")
    def test_unusable_unix_socket(self):
        self.assert_refused(["--port", "0", "--unixsocket", "/nowhere/at/all.sock"], "/nowhere/at/all.sock")

    @terrace_only("it does not know it")
    def test_bad_address(self):
        self.assert_refused(["--port", find_free_port(), "--bind", "203.0.113.7"], "203.0.113.7")

    @terrace_only("it serves nobody then")
    def test_nothing_to_listen_on(self):
        self.assert_refused(["--port", "0"], "port")


class Starts(ServerTest):
    def test_directives_from_a_file_and_flags_after_it(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf", prefix="terrace-test-") as file:
            file.write('# as in redis.conf\nmaxclients 321\ntimeout 77\nrequirepass "a b\\x41"\nslowlog-max-len 7\n')
            file.flush()
            server = self.start_server("--timeout", "78", config=file.name)
            client = self.connect_to(server)
            client.ok("AUTH", "a bA")
            self.assert_reply([b"maxclients", b"321"], client, "CONFIG", "GET", "maxclients")
            self.assert_reply([b"timeout", b"78"], client, "CONFIG", "GET", "timeout")
            self.assert_reply([b"slowlog-max-len", b"7"], client, "CONFIG", "GET", "slowlog-max-len")

    def test_directives_from_stdin(self):
        server = self.start_server(config="-", stdin=b"maxclients 322\n")
        self.assert_reply([b"maxclients", b"322"], self.connect_to(server), "CONFIG", "GET", "maxclients")

    def test_the_log_says_when_it_is_ready(self):
        self.assertIn("eady to accept connections", self.server.log_text())

    @terrace_only("it has no such option")
    def test_no_logo_in_a_pipe(self):
        self.assertNotIn("___", self.server.log_text())

    def test_version_and_help_end_with_success(self):
        for option in ("--version", "--help"):
            code, stdout, stderr = run_to_exit(option)
            self.assertIn(code, (0, 1) if option == "--help" else (0,))
            self.assertTrue(stdout + stderr)

    @terrace_only("its help is another")
    def test_help_names_the_directives(self):
        code, stdout, _ = run_to_exit("--help")
        self.assertEqual(code, 0)
        for directive in (b"port", b"maxclients", b"threads", b"requirepass"):
            self.assertIn(directive, stdout)

    @threads
    @terrace_only("it has no such directive")
    def test_any_number_of_threads(self):
        for count in (1, 2, 3, 8):
            server = self.start_server("--threads", count)
            client = self.connect_to(server)
            client.ok("MSET", *[word for number in range(100) for word in (f"k{number}", number)])
            self.assert_reply(100, client, "DBSIZE")


class Stops(unittest.TestCase):
    def end_by_signal(self, number):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            pidfile, path = os.path.join(directory, "pid"), os.path.join(directory, "socket")
            with Server("--pidfile", pidfile, "--unixsocket", path, "--daemonize", "no") as server:
                with Client(path=path) as client:
                    self.assertEqual(client.command("PING"), PONG)
                    if os.path.exists(pidfile):
                        with open(pidfile, encoding="ascii") as file:
                            self.assertEqual(int(file.read()), server.pid)
                    server.signal(number)
                    self.assertEqual(server.wait_for_exit(), 0)
                    self.assertTrue(client.is_closed_by_server())
                self.assertFalse(os.path.exists(pidfile), "the pidfile is still there")
                self.assertFalse(os.path.exists(path), "the socket is still there")

    def test_sigterm(self):
        self.end_by_signal(signal.SIGTERM)

    def test_sigint(self):
        self.end_by_signal(signal.SIGINT)

    def test_pidfile_is_written(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            pidfile = os.path.join(directory, "pid")
            with Server("--pidfile", pidfile) as server:
                with open(pidfile, encoding="ascii") as file:
                    self.assertEqual(int(file.read()), server.pid)

    def test_shutdown_command(self):
        for arguments in (("NOSAVE",), ("NOSAVE", "NOW"), ("NOW", "FORCE", "NOSAVE")):
            with Server() as server, server.client() as client:
                client.send("SHUTDOWN", *arguments)
                self.assertEqual(client.read_raw(), b"")
                self.assertEqual(server.wait_for_exit(), 0)

    def test_shutdown_syntax(self):
        with Server() as server, server.client() as client:
            for arguments in (("WHAT",), ("SAVE", "NOSAVE"), ("ABORT", "NOW")):
                self.assertEqual(client.command("SHUTDOWN", *arguments), ErrorReply("ERR syntax error"), arguments)
            self.assertEqual(client.command("SHUTDOWN", "ABORT"), ErrorReply("ERR No shutdown in progress."))

    def test_stopping_amid_traffic_is_clean(self):
        with Server("--threads", "4") as server:
            clients = [server.client() for _ in range(20)]
            for number, client in enumerate(clients):
                client.send_raw(b"".join(b"SET k%d %d\r\nGET k%d\r\n" % (number, i, number) for i in range(1000)))
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait_for_exit(), 0)
            for client in clients:
                client.close()


class UnixSocket(ServerTest):
    def test_it_serves_like_tcp(self):
        path = os.path.join(self.server.directory, "socket")
        server = self.start_server("--unixsocket", path)
        client = self.unix_client(path)
        self.assert_reply(OK, client, "SET", "k", "v")
        self.assert_reply(b"v", self.connect_to(server), "GET", "k")

    def test_permissions_are_as_configured(self):
        for mode in ("700", "770", "777"):
            path = os.path.join(self.server.directory, f"socket{mode}")
            self.start_server("--unixsocket", path, "--unixsocketperm", mode)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), int(mode, 8))

    @terrace_only("the socket has the umask's permissions for a moment, and without unixsocketperm for ever")
    def test_without_a_word_only_the_owner_may(self):
        path = os.path.join(self.server.directory, "socket-default")
        self.start_server("--unixsocket", path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode) & 0o007, 0)

    def test_a_socket_left_behind_by_a_crash_is_replaced(self):
        path = os.path.join(self.server.directory, "socket-left")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(path)
        self.start_server("--unixsocket", path)
        self.assert_reply(PONG, self.unix_client(path), "PING")

    def test_without_tcp(self):
        path = os.path.join(self.server.directory, "socket-only")
        self.start_server("--unixsocket", path, port=0)
        self.assert_reply(PONG, self.unix_client(path), "PING")


if __name__ == "__main__":
    unittest.main()
