"""Debian's redis-cli and redis-benchmark as users start them."""

import os
import pty
import re
import select
import subprocess
import time
import unittest

from support.case import ServerTest
from support.resp import encode_command


class RedisCli(ServerTest):
    server_arguments = ("--threads", "2")

    def run_cli(self, *arguments, stdin=b"", timeout=300):
        done = subprocess.run(["redis-cli", "-p", str(self.server.port), *arguments], input=stdin, capture_output=True, timeout=timeout, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout.decode("utf-8", "backslashreplace")

    def run_for_a_while(self, *arguments, until, timeout=60):
        """Output of a mode that never ends, up to where it holds `until`."""
        process = subprocess.Popen(["redis-cli", "-p", str(self.server.port), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL)
        try:
            return self.read_until(process.stdout.fileno(), until, timeout)
        finally:
            process.kill()
            process.communicate()

    def read_until(self, descriptor, until, timeout=60):
        seen = b""
        deadline = time.monotonic() + timeout
        while not re.search(until, seen):
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([descriptor], [], [], remaining)[0]:
                self.fail(f"never saw {until!r} in:\n{seen[-2000:].decode('utf-8', 'backslashreplace')}")
            part = os.read(descriptor, 65536)
            if not part:
                self.fail(f"ended before {until!r}:\n{seen[-2000:].decode('utf-8', 'backslashreplace')}")
            seen += part
        return seen.decode("utf-8", "backslashreplace")

    def populate(self, count=2000):
        with self.server.client() as client:
            client.ok("MSET", *[word for number in range(count) for word in (f"key:{number}", "x" * (number % 50))])
            client.ok("SET", "the-biggest", "x" * 100000)

    def test_plain_commands(self):
        self.assertEqual(self.run_cli("SET", "k", "v").strip(), "OK")
        self.assertEqual(self.run_cli("GET", "k").strip(), "v")
        self.assertEqual(self.run_cli("-3", "GET", "missing").strip(), "")
        self.assertEqual(self.run_cli("-n", "5", "DBSIZE").strip(), "0")
        self.assertEqual(self.run_cli("-x", "SET", "stdin", stdin=b"from stdin").strip(), "OK")
        self.assertEqual(self.run_cli("GET", "stdin").strip(), "from stdin")
        self.assertIn("ERR", self.run_cli("NOSUCH"))

    def test_commands_from_a_file(self):
        output = self.run_cli(stdin=b"SET k v\nGET k\nMULTI\nINCR n\nEXEC\n")
        self.assertEqual(output.split(), ["OK", "v", "OK", "QUEUED", "1"])

    def test_stat(self):
        self.populate()
        # Keys, memory, clients and blocked ones; the client that made the keys may be counted at first.
        self.run_for_a_while("--stat", "-i", "0.1", until=rb"(\n2001 +[0-9.]+[KMG] +1 +0 .*){3}")

    def test_bigkeys(self):
        self.populate()
        output = self.run_cli("--bigkeys")
        self.assertIn("Sampled 2001 keys in the keyspace!", output)
        self.assertRegex(output, r'Biggest string found ["\']"?the-biggest')
        self.assertIn("has 100000 bytes", output)

    def test_memkeys(self):
        self.populate()
        output = self.run_cli("--memkeys")
        self.assertIn("Sampled 2001 keys in the keyspace!", output)
        self.assertRegex(output, r'Biggest string found ["\']"?the-biggest')

    def test_hotkeys_under_its_policy(self):
        self.populate()
        with self.server.client() as client:
            client.ok("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
        self.addCleanup(self.back_to_no_eviction)
        self.assertIn("Sampled 2001 keys", self.run_cli("--hotkeys"))

    def back_to_no_eviction(self):
        with self.server.client() as client:
            client.ok("CONFIG", "SET", "maxmemory-policy", "noeviction")

    def test_scan(self):
        self.populate()
        self.assertEqual(len(set(self.run_cli("--scan").split())), 2001)
        self.assertEqual(set(self.run_cli("--scan", "--pattern", "key:199?").split()), {f"key:199{digit}" for digit in range(10)})

    def test_pipe(self):
        data = b"".join(encode_command("SET", f"k{number}", "v" * 20) for number in range(50000))
        output = self.run_cli("--pipe", stdin=data)
        self.assertIn("errors: 0, replies: 50000", output)
        self.assertEqual(self.run_cli("DBSIZE").strip(), "50000")

    def test_pipe_with_inline_commands_and_errors(self):
        done = subprocess.run(["redis-cli", "-p", str(self.server.port), "--pipe"], input=b"SET a 1\r\nNOSUCH\r\nINCR a\r\n", capture_output=True,
                              timeout=300, check=False)
        self.assertIn(b"errors: 1, replies: 3", done.stdout)
        self.assertEqual(self.run_cli("GET", "a").strip(), "2")

    def test_latency_modes(self):
        output = self.run_for_a_while("--latency", "--raw", "-i", "0.2", until=rb"\d+ \d+ [\d.]+ \d+")
        self.assertRegex(output, r"\d+ \d+ [\d.]+ \d+")
        self.run_for_a_while("--latency-history", "-i", "1", until=rb"seconds range")

    def test_repeat_and_csv_and_json(self):
        self.run_cli("MSET", "a", "1", "b", "2")
        self.assertEqual(self.run_cli("-r", "3", "INCR", "n").split(), ["1", "2", "3"])
        self.assertEqual(self.run_cli("--csv", "MGET", "a", "b").strip(), '"1","2"')
        self.assertEqual(self.run_cli("--json", "MGET", "a", "b").strip(), '["1","2"]')

    def interactive(self, *arguments):
        """redis-cli under a terminal; closed at the end of the test."""
        child, descriptor = pty.fork()
        if child == 0:
            os.environ.update(TERM="xterm", COLUMNS="200", LC_ALL="C")
            os.environ["REDISCLI_HISTFILE"] = "/dev/null"
            os.execvp("redis-cli", ["redis-cli", "-p", str(self.server.port), *arguments])

        def end():
            os.close(descriptor)
            os.waitpid(child, 0)

        self.addCleanup(end)
        import fcntl
        import struct
        import termios

        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        return descriptor

    def test_interactive_with_hints(self):
        terminal = self.interactive()
        prompt = rb"127\.0\.0\.1:\d+(\[\d+\])?> $"
        # Keys pressed before the prompt is there are thrown away by its line editor.
        self.read_until(terminal, prompt)
        for words, hint, rest, answer in [
            (b"set ", rb"key value \[NX\|XX\|IFEQ", b"k v", rb"OK\r?\n"),
            (b"getrange k ", rb"start end", b"0 -1", rb'"v"'),
            (b"config get ", rb"parameter", b"maxclients", rb'1\) "maxclients"'),
            (b"select ", rb"index", b"3", rb"OK\r?\n"),
        ]:
            os.write(terminal, words)
            self.read_until(terminal, hint)
            os.write(terminal, rest + b"\r")
            self.read_until(terminal, answer + rb"[\s\S]*" + prompt)
        os.write(terminal, b"multi\r")
        self.read_until(terminal, rb"127\.0\.0\.1:\d+\[3\]\(TX\)> $")

    def test_interactive_help(self):
        terminal = self.interactive()
        self.read_until(terminal, rb"127\.0\.0\.1:\d+> ")
        os.write(terminal, b"help append\r")
        shown = self.read_until(terminal, rb"group:\S* string")
        shown = re.sub(r"\x1b\[\d*m", "", shown)
        self.assertIn("APPEND key value", shown)
        self.assertIn("since: 2.0.0", shown)


class RedisBenchmark(ServerTest):
    server_arguments = ("--threads", "2")

    def benchmark(self, *arguments):
        done = subprocess.run(["redis-benchmark", "-p", str(self.server.port), "-n", "20000", "-q", *arguments], capture_output=True, timeout=600,
                              check=False)
        output = done.stdout.decode().replace("\r", "\n")
        self.assertEqual(done.returncode, 0, output + done.stderr.decode())
        return output

    def test_the_usual_ones_pipelined(self):
        output = self.benchmark("-t", "set,get,incr,mset", "-P", "16")
        for name in ("SET", "GET", "INCR", "MSET (10 keys)"):
            self.assertRegex(output, re.escape(name) + r": \d+\.\d+ requests per second")
        self.assertNotIn("rror", output)

    def test_random_keys_and_resp3(self):
        output = self.benchmark("-t", "set,get", "-r", "1000", "-3", "-c", "20")
        self.assertRegex(output, r"GET: \d+\.\d+ requests per second")
        with self.server.client() as client:
            self.assertTrue(500 < client.ok("DBSIZE") <= 1000)

    def test_its_own_threads(self):
        self.assertRegex(self.benchmark("-t", "ping,set", "--threads", "2"), r"SET: \d+")


if __name__ == "__main__":
    unittest.main()
