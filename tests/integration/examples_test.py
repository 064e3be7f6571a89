"""The examples of README's first hour: every command is typed into redis-cli, and what it prints is what README shows.

What cannot be the same is made the same: identifiers that a stream gave out are renamed as they appear, a time to live may
be a few seconds less, and redis-cli's note of how long a command took is left out. A command that blocks is left waiting
while the next ones run, as in a second terminal.
"""

import os
import re
import subprocess
import unittest

from support.case import ServerTest, terrace_only
from support.server import TOP

SECTION = "## A first hour\n"
PROMPT = "> "
STREAM_ID = re.compile(r"\b\d{13}-\d+\b")
TOOK = re.compile(r"^\(\d+\.\d+s\)\n", re.MULTILINE)
TTL_SLACK_S = 30


def read_examples():
    """{title: [(command, what it prints)]}; an example is what follows a bold title."""
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as file:
        section = file.read().split(SECTION, 1)[1].split("\n## ", 1)[0]
    examples, title = {}, None
    for line in section.splitlines():
        if line.startswith("**"):
            title = line.split("**")[1]
            examples[title] = []
        elif line.startswith("    " + PROMPT):
            examples[title].append((line[4 + len(PROMPT) :], ""))
        elif line.startswith("    "):
            command, printed = examples[title].pop()
            examples[title].append((command, printed + line[4:] + "\n"))
    return examples


class Examples(ServerTest):
    server_arguments = ("--threads", "2")

    def setUp(self):
        super().setUp()
        self.control = self.client()
        self.identifiers = {}

    def type_command(self, command):
        """redis-cli with one line typed into it; its output is what a terminal would show."""
        process = subprocess.Popen(["redis-cli", "-p", str(self.server.port), "--no-raw"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        self.addCleanup(self.end, process)
        process.stdin.write(command + "\n")
        process.stdin.close()
        process.stdin = None  # communicate() would flush it
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()

    def ends_or_blocks(self, process):
        """True when it ended, false when the server has it waiting."""
        self.wait_until(lambda: process.poll() is not None or self.control.info("clients")["blocked_clients"] != "0",
                        "redis-cli ends or blocks")
        return process.poll() is not None

    def renamed(self, text):
        return STREAM_ID.sub(lambda match: self.identifiers.get(match[0], match[0]), text)

    def check_output(self, command, expected, process):
        printed = TOOK.sub("", process.communicate(timeout=60)[0])
        expected = TOOK.sub("", expected)
        for ours, theirs in zip(STREAM_ID.findall(expected), STREAM_ID.findall(printed)):
            self.identifiers.setdefault(ours, theirs)
        if command.split()[0] in ("TTL", "HTTL"):
            self.assert_a_little_less(expected, printed)
        else:
            self.assertEqual(printed, self.renamed(expected), command)

    def assert_a_little_less(self, expected, printed):
        number = re.compile(r"-?\d+$", re.MULTILINE)
        self.assertEqual(number.sub("N", printed), number.sub("N", expected))
        for wanted, got in zip(map(int, number.findall(expected)), map(int, number.findall(printed))):
            self.assertTrue(got == wanted or 0 < wanted - TTL_SLACK_S <= got <= wanted, (expected, printed))

    def run_example(self, title):
        commands = read_examples()[title]
        waiting = []
        for command, expected in commands:
            process = self.type_command(self.renamed(command))
            if not waiting and not self.ends_or_blocks(process):
                waiting.append((command, expected, process))
            else:
                self.check_output(command, expected, process)
        for one in waiting:
            self.check_output(*one)
        return commands

    def test_all_of_them_are_tested(self):
        tested = {"A leaderboard", "A session store", "A page cache", "A message queue"}
        self.assertEqual(set(read_examples()), tested)

    def test_a_leaderboard(self):
        self.assertGreaterEqual(len(self.run_example("A leaderboard")), 6)

    @terrace_only("7.0 has no times to live of fields")
    def test_a_session_store(self):
        self.assertGreaterEqual(len(self.run_example("A session store")), 6)

    def test_a_page_cache(self):
        self.assertGreaterEqual(len(self.run_example("A page cache")), 6)

    def test_a_message_queue(self):
        self.assertGreaterEqual(len(self.run_example("A message queue")), 6)


if __name__ == "__main__":
    unittest.main()
