"""The same random commands to two servers, every reply compared.

Commands go in pipelines over several connections, one pipeline at a time, so that both servers see one order.
Between pipelines come probes, which need more than one reply: a full SCAN, RANDOMKEY. At the end whole keyspaces
are compared. After a difference both servers are emptied and the run goes on, so that one run shows many.
"""

import random
import time

from oracle.comparison import TOLERANCE_MS, Comparer, command_words
from oracle.grammar import Generator, Grammar
from support.client import UnexpectedError, describe_command
from support.resp import ErrorReply, ProtocolError, encode_command

CONNECTIONS = 4
PIPELINE_MOST = 60
DIFFERENCES_MOST = 25
HISTORY = 400
DATABASES = 16
BEGINNING_S = 4_102_444_800  # 2100: that of absolute times to live, so that a seed draws the same ones at any time


class Pair:
    """One connection to each server, used in step."""

    def __init__(self, ours, theirs, resp):
        self.servers = (ours, theirs)
        self.resp = resp
        self.clients = ()
        self.comparer = None
        self.connect()

    def connect(self):
        self.close()
        self.clients = tuple(server.client(timeout=60) for server in self.servers)
        self.comparer = Comparer()
        if self.resp == 3:
            for client in self.clients:
                client.ok("HELLO", "3")

    def close(self):
        for client in self.clients:
            client.close()

    def both(self, *arguments):
        data = encode_command(*arguments)
        for client in self.clients:
            client.send_raw(data)
        return tuple(client.read_reply() for client in self.clients)

    def pipeline(self, commands):
        data = b"".join(encode_command(*command) for command in commands)
        for client in self.clients:
            client.send_raw(data)
        return zip(*([client.read_reply() for _ in commands] for client in self.clients))


class Duel:
    """A run. `differences` holds what was found, as text."""

    def __init__(self, ours, theirs, seed, resp=2, families=()):
        self.servers = (ours, theirs)
        self.seed = seed
        self.grammar = Grammar(families)
        self.generator = Generator(seed, BEGINNING_S)
        self.schedule = random.Random(seed + 1)
        self.resp = resp
        self.pairs = [Pair(ours, theirs, resp) for _ in range(CONNECTIONS)]
        self.probe = Pair(ours, theirs, 2)
        self.differences = []
        self.seen = set()
        self.history = []
        self.commands = 0

    def close(self):
        for pair in (*self.pairs, self.probe):
            pair.close()

    def run(self, seconds, commands=None):
        """Until time or commands, if any are given, are used up, too much differs, or one of the servers gives up."""
        try:
            self._run(seconds, commands)
        except (EOFError, OSError, ProtocolError, UnexpectedError) as error:
            last = [f"    [{number}] {describe_command(command)}" for number, command, _ in self.history[-5:]]
            self.differences.append(f"after command {self.commands} of seed {self.seed} (RESP{self.resp}) the run broke off: {error!r}\n"
                                    "  the last commands that were answered:\n" + "\n".join(last))
        return self.differences

    def _run(self, seconds, commands):
        deadline = time.monotonic() + seconds
        rounds = 0
        while len(self.differences) < DIFFERENCES_MOST:
            if commands is not None and self.commands >= commands:
                break
            if time.monotonic() > deadline:
                break
            self.one_pipeline()
            rounds += 1
            if rounds % 50 == 0:
                self.probe_random_key()
            if rounds % 200 == 0:
                self.probe_scan()
            if rounds % 1000 == 0:
                self.compare_keyspaces()
        self.compare_keyspaces()

    # -- commands ------------------------------------------------------------------------------------------

    def one_pipeline(self):
        number = self.schedule.randrange(CONNECTIONS)
        pair = self.pairs[number]
        commands = [self.grammar.draw(self.generator) for _ in range(1 + self.schedule.randrange(PIPELINE_MOST))]
        for command, (ours, theirs) in zip(commands, pair.pipeline(commands)):
            self.commands += 1
            self.history.append((number, command, theirs))
            if not pair.comparer.agree(command, ours, theirs):
                self.report(number, command, ours, theirs)
                self.start_over()
                break
            if pair.comparer.parted:
                self.start_over()
                break
        del self.history[:-HISTORY]

    def report(self, number, command, ours, theirs):
        words = command_words(command)
        kind = (words[0], words[1] if words[0] in ("CLIENT", "CONFIG", "OBJECT", "COMMAND") and len(words) > 1 else "",
                _kind(ours), _kind(theirs))
        if kind in self.seen:
            return
        self.seen.add(kind)
        lines = [f"difference {len(self.differences) + 1}, command {self.commands} of seed {self.seed} (RESP{self.resp}), connection {number}:",
                 f"    {describe_command(command, 200)}",
                 f"    terrace {_cut(ours)}",
                 f"    redis   {_cut(theirs)}",
                 "  before it:"]
        lines += [f"    [{other}] {describe_command(previous)} -> {_cut(reply, 100)}" for other, previous, reply in self.related(number, command)]
        self.differences.append("\n".join(lines))

    def related(self, number, command, most=12):
        """The latest commands that share an argument with this one, or steer its connection."""
        shared = set(map(_comparable, command[1:]))
        steering = {"MULTI", "EXEC", "DISCARD", "SELECT", "SWAPDB", "FLUSHALL", "FLUSHDB", "WATCH", "RESET"}
        found = [entry for entry in self.history[:-1]
                 if shared & set(map(_comparable, entry[1][1:])) or (entry[0] == number and str(entry[1][0]).upper() in steering)]
        return found[-most:]

    def start_over(self):
        for pair in self.pairs:
            pair.connect()
        self.probe.both("FLUSHALL")
        self.history.clear()

    # -- probes --------------------------------------------------------------------------------------------

    def probe_difference(self, what, ours, theirs):
        kind = what.split(" in ")[0]
        if kind not in self.seen:
            self.seen.add(kind)
            self.differences.append(f"difference {len(self.differences) + 1}, after command {self.commands} of seed {self.seed} (RESP{self.resp}):\n"
                                    f"    {what}\n    terrace {_cut(ours)}\n    redis   {_cut(theirs)}")
        self.start_over()

    def probe_random_key(self):
        self.probe.both("SELECT", "0")
        replies = self.probe.both("RANDOMKEY")
        empty = self.probe.both("DBSIZE")[1] == 0
        for client, reply in zip(self.probe.clients, replies):
            known = not isinstance(reply, bytes) or client.ok("EXISTS", reply) == 1
            if isinstance(reply, bytes) == empty or not known:
                self.probe_difference("RANDOMKEY", *replies)
                return

    def probe_scan(self):
        database = self.schedule.randrange(4)
        options = self.schedule.choice([[], ["COUNT", "3"], ["MATCH", "k1*"], ["TYPE", "string"], ["MATCH", "*2*", "COUNT", "1000"]])
        self.probe.both("SELECT", database)
        found = []
        for client in self.probe.clients:
            cursor, keys = b"0", []
            while True:
                cursor, part = client.ok("SCAN", cursor, *options)
                keys += part
                if cursor == b"0":
                    break
            found.append(sorted(set(keys)))
        if found[0] != found[1]:
            self.probe_difference(f"SCAN {options} in database {database}", *found)

    def compare_keyspaces(self):
        for database in range(DATABASES):
            self.probe.both("SELECT", database)
            contents = [self.read_keyspace(client) for client in self.probe.clients]
            if set(contents[0]) != set(contents[1]):
                self.probe_difference(f"the set of keys in database {database}", sorted(contents[0]), sorted(contents[1]))
                return
            for key in contents[0]:
                (our_value, our_time), (their_value, their_time) = contents[0][key], contents[1][key]
                if our_value != their_value:
                    self.probe_difference(f"the value of {key!r} in database {database}", our_value, their_value)
                    return
                if abs(our_time - their_time) > TOLERANCE_MS:
                    self.probe_difference(f"the expiry time of {key!r} in database {database}", our_time, their_time)
                    return

    @staticmethod
    def read_keyspace(client):
        keys = sorted(client.ok("KEYS", "*"))
        if not keys:
            return {}
        values = client.pipeline([("GET", key) for key in keys])
        times = client.pipeline([("PEXPIRETIME", key) for key in keys])
        return {key: (value, when) for key, value, when in zip(keys, values, times)}


def _comparable(argument):
    return argument.encode() if isinstance(argument, str) else argument


def _kind(reply):
    """Enough of a reply to tell one difference from another."""
    if isinstance(reply, ErrorReply):
        return reply.text[:40]
    return type(reply).__name__


def _cut(reply, limit=300):
    text = repr(reply)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
