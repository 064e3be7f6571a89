"""rename-command: other names for commands, or none."""

import os
import tempfile
import unittest

from support.case import ServerTest
from support.resp import OK, ErrorReply
from support.server import run_to_exit

RENAMES = """
rename-command flushdb badger
rename-command FLUSHALL ""
rename-command SET put
rename-command DEL ""
rename-command PEXPIREAT ""
"""


class RenameCommand(ServerTest):
    setUpClass = tearDownClass = classmethod(lambda cls: None)

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="terrace-test-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write_config(self, text=RENAMES):
        path = os.path.join(self.folder, "server.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self, *arguments, config=None):
        server = self.start_server(*arguments, config=config or self.write_config(), directory=self.folder)
        return server, self.connect_to(server)

    def test_only_the_new_name_is_known(self):
        _, client = self.start()
        for name in ("FLUSHDB", "flushall", "SET", "DEL"):
            self.assert_error_starts(f"ERR unknown command '{name}'", client, name, "a", "b")
        self.assert_reply(OK, client, "PUT", "k", "v")
        self.assert_reply(b"v", client, "GET", "k")
        self.assert_reply(OK, client, "Badger")
        self.assert_error("ERR wrong number of arguments for 'set' command", client, "put", "k")

    def test_command_shows_what_can_be_called(self):
        _, client = self.start()
        names = client.ok("COMMAND", "LIST")
        self.assertNotIn(b"flushall", names)
        self.assertIn(b"flushdb", names)  # by the name it was declared by, as in Redis
        count = client.ok("COMMAND", "COUNT")
        self.assertEqual(count, len([name for name in names if b"|" not in name]))
        self.assertEqual(len(client.ok("COMMAND")), count)
        self.assert_reply([b"k"], client, "COMMAND", "GETKEYS", "put", "k", "v")
        self.assertIsInstance(client.command("COMMAND", "GETKEYS", "set", "k", "v"), ErrorReply)

    def test_a_rewrite_keeps_the_lines(self):
        path = self.write_config()
        _, client = self.start(config=path)
        client.ok("CONFIG", "SET", "timeout", "9")
        client.ok("CONFIG", "REWRITE")
        with open(path, encoding="utf-8") as file:
            self.assertIn(RENAMES, file.read())

    def test_the_append_only_file_is_read_whatever_the_names_are(self):
        server, client = self.start("--appendonly", "yes", "--appendfsync", "always")
        client.ok("PUT", "a", "1")
        client.ok("PUT", "b", "1", "PX", "1000000")  # told with the moment it expires
        client.ok("PUT", "c", "1")
        client.ok("UNLINK", "c")
        client.ok("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
        server.kill()
        server, client = self.start("--appendonly", "yes")
        self.assertEqual(sorted(client.ok("KEYS", "*")), [b"a", b"b", b"s"])
        self.assertGreater(client.ok("PTTL", "b"), 0)

    def test_names_that_cannot_be_keep_the_server_from_starting(self):
        for line, reason in (
            ("rename-command nosuch x", "No such command in rename-command"),
            ("rename-command set GET", "already exists"),
            ("rename-command set", "wrong number of arguments"),
        ):
            code, _, said = run_to_exit(self.write_config(line), "--port", "0", "--unixsocket", self.folder + "/s")
            self.assertEqual(code, 1)
            self.assertIn(reason, said.decode() if isinstance(said, bytes) else said)


if __name__ == "__main__":
    unittest.main()
