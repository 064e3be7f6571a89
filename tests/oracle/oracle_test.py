"""Terrace against Debian's redis-server 7.0.15: every reply to the same random commands is the same.

A failure prints the seed; `tests/oracle/run.py --seed N --resp 2` replays it. A short run is of so many commands, whatever
the machine. TERRACE_TEST_SEED and TERRACE_ORACLE_SECONDS choose the seed and the length of a longer one.
"""

import os
import unittest

from oracle.duel import Duel
from support.case import long_run, new_seed
from support.resp import NULL_BULK, Simple
from support.server import Server

DEFAULT_COMMANDS = 120_000
DEFAULT_SECONDS_MOST = 800  # a machine that is slower than that has its own trouble
LONG_SECONDS = 300
# Redis 7.2 changed these rows of the command table; Terrace has them as 7.2 does.
TABLE_CHANGED_IN_7_2 = {"zrank", "zrevrank"}


class OracleTest(unittest.TestCase):
    arguments = ("--threads", "4")
    # Given to both.
    shared_arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.ours = Server(*cls.arguments, *cls.shared_arguments)
        cls.theirs = Server(*cls.shared_arguments, program="redis-server")

    @classmethod
    def tearDownClass(cls):
        try:
            cls.theirs.stop()
        finally:
            cls.ours.stop()


class RandomCommands(OracleTest):
    commands = DEFAULT_COMMANDS

    def compare(self, resp):
        seed = new_seed()
        seconds, commands = DEFAULT_SECONDS_MOST, self.commands
        if long_run() or "TERRACE_ORACLE_SECONDS" in os.environ:
            seconds, commands = float(os.environ.get("TERRACE_ORACLE_SECONDS") or LONG_SECONDS), None
        for server in (self.ours, self.theirs):
            with server.client() as client:
                client.ok("FLUSHALL")
        duel = Duel(self.ours, self.theirs, seed, resp)
        try:
            differences = duel.run(seconds, commands)
        finally:
            duel.close()
        print(f"     seed {seed}: {duel.commands} commands over RESP{resp}")
        if differences:
            self.fail(f"seed {seed}: {len(differences)} kinds of difference\n" + "\n\n".join(differences))
        self.assertGreaterEqual(duel.commands, commands or seconds * 500, "far too few commands to mean anything")

    def test_every_reply_is_the_same_over_resp2(self):
        self.compare(2)

    def test_every_reply_is_the_same_over_resp3(self):
        self.compare(3)


class RandomCommandsOnATier(RandomCommands):
    """The same with room for a few records in memory only: nearly every command meets cold ones."""

    # In the server's own folder, which goes with it.
    arguments = ("--threads", "2", "--tier-path", "tier", "--tier-size", "256mb", "--tier-segment-size", "1mb",
                 "--tier-record-budget", "16kb")

    def compare(self, resp):
        super().compare(resp)
        with self.ours.client() as client:
            figures = client.info("tier")
        self.assertGreater(int(figures["tier_hits"]), 1000, "the tier was hardly used")


class RandomCommandsWithTinyThresholds(RandomCommands):
    """The same with next to nothing packed: what is small elsewhere is made of pages here, and changes to them is met by
    nearly every key."""

    commands = 60_000
    arguments = ("--threads", "2", "--set-max-listpack-entries", "2")
    shared_arguments = ("--hash-max-listpack-entries", "2", "--hash-max-listpack-value", "8", "--list-max-listpack-size", "2",
                        "--set-max-intset-entries", "2", "--zset-max-listpack-entries", "2", "--zset-max-listpack-value", "8",
                        "--stream-node-max-entries", "2", "--hll-sparse-max-bytes", "40")


class RandomCommandsOnColdPages(RandomCommandsWithTinyThresholds):
    """Both at once: nearly every command, those of transactions included, meets cold pages."""

    arguments = (*RandomCommandsWithTinyThresholds.arguments, *RandomCommandsOnATier.arguments)

    def compare(self, resp):
        super().compare(resp)
        with self.ours.client() as client:
            figures = client.info("tier")
        self.assertGreater(int(figures["tier_reads"]) + int(figures["tier_memory_reads"]), 1000, "hardly a page was cold")


def texts(items):
    return sorted(item.value.decode() if isinstance(item, Simple) else item.decode() for item in items)


def without_notes(spec):
    return [field for name, value in zip(spec[::2], spec[1::2]) if name != b"notes" for field in (name, value)]


class CommandTable(OracleTest):
    """What COMMAND tells drivers and routers is what they know from Redis."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with cls.ours.client() as ours, cls.theirs.client() as theirs:
            known = {name.decode() for name in theirs.ok("COMMAND", "LIST")}
            cls.names = sorted({name.decode() for name in ours.ok("COMMAND", "LIST")} & known)
            cls.rows = [dict(zip(cls.names, client.pipeline([("COMMAND", "INFO", name) for name in cls.names])))
                        for client in (ours, theirs)]

    def each_row(self):
        for name in self.names:
            for ours, theirs in zip(self.rows[0][name], self.rows[1][name]):
                yield from self.with_subcommands(name, ours, theirs)

    def with_subcommands(self, name, ours, theirs):
        if name not in TABLE_CHANGED_IN_7_2:
            yield name, ours, theirs
        other = {row[0]: row for row in theirs[9]}
        for row in ours[9]:
            if row[0] in other:
                yield from self.with_subcommands(row[0].decode(), row, other[row[0]])

    def compare(self, what, select):
        wrong = [f"{name}: {select(ours)} instead of {select(theirs)}"
                 for name, ours, theirs in self.each_row() if select(ours) != select(theirs)]
        self.assertEqual(wrong, [], what)

    def test_the_commands_of_this_edition_are_there(self):
        self.assertGreater(len(self.names), 80)

    def test_arity(self):
        self.compare("arity", lambda row: row[1])

    def test_flags(self):
        self.compare("flags", lambda row: texts(row[2]))

    def test_key_positions(self):
        self.compare("key positions", lambda row: row[3:6])

    def test_acl_categories(self):
        self.compare("ACL categories", lambda row: texts(row[6]))

    def test_tips(self):
        self.compare("tips", lambda row: texts(row[7]))

    def test_key_specifications(self):
        """Notes are prose, in our own words."""
        self.compare("key specifications", lambda row: [without_notes(spec) for spec in row[8]])

    def test_subcommands_exist(self):
        missing = []
        for name in self.names:
            ours, theirs = (texts(row[0] for row in rows[name][0][9]) for rows in self.rows)
            if theirs and not ours:
                missing.append(name)
        self.assertEqual(missing, [])

    def docs(self, server):
        with server.client() as client:
            reply = client.ok("COMMAND", "DOCS", *self.names)
        return {name.decode(): dict(zip(fields[::2], fields[1::2])) for name, fields in zip(reply[::2], reply[1::2])}

    def test_docs(self):
        """Summaries are our own; since, group and the shape of arguments are facts."""
        ours, theirs = self.docs(self.ours), self.docs(self.theirs)
        wrong = []
        for name in self.names:
            for field in (b"since", b"group"):
                if ours[name].get(field) != theirs[name].get(field):
                    wrong.append(f"{name} {field}: {ours[name].get(field)} instead of {theirs[name].get(field)}")
            if (b"arguments" in theirs[name]) != (b"arguments" in ours[name]):
                wrong.append(f"{name}: arguments should {'' if b'arguments' in theirs[name] else 'not '}be documented")
            wrong += [f"{name}: has no {field.decode()}" for field in (b"summary", b"complexity")
                      if field in theirs[name] and not ours[name].get(field)]
        self.assertEqual(wrong, [])

    def test_an_unknown_command_is_a_null(self):
        with self.ours.client() as client:
            self.assertEqual(client.ok("COMMAND", "INFO", "nosuch"), [NULL_BULK])
            self.assertEqual(client.ok("COMMAND", "DOCS", "nosuch"), [])


if __name__ == "__main__":
    unittest.main()
