"""Two servers, one of which replicates the other: random writes of every type, and whether both hold the same."""

import random
import time

from support import dataset
from support.client import Client

SETTLE_S = 30  # longer than any key of Writer lives
WORDS = ["alpha", "beta", "gamma", "delta", "", "x" * 70, "17", "-3"]


HEARD = [
    [b"message", b"channel", b"one"], [b"pmessage", b"ch*", b"channel", b"one"],
    [b"message", b"channel", b"two"], [b"pmessage", b"ch*", b"channel", b"two"],
    [b"smessage", b"shard", b"three"],
]  # fmt: skip


def publish_some(client, listener):
    """Has a client of the replica listen and one of the primary publish, by itself and in a transaction; HEARD comes of it."""
    for words in (("SUBSCRIBE", "channel"), ("PSUBSCRIBE", "ch*"), ("SSUBSCRIBE", "shard")):
        listener.command(*words)
    client.ok("PUBLISH", "channel", "one")
    client.ok("MULTI")
    client.ok("SET", "a", 1)
    client.ok("PUBLISH", "channel", "two")
    client.ok("EXEC")
    client.ok("SPUBLISH", "shard", "three")


def is_synced(primary, replica):
    """The replica has everything that the primary has written so far."""
    ours, theirs = replica.info("replication"), primary.info("replication")
    return (
        ours["role"] == "slave"
        and ours["master_link_status"] == "up"
        and ours["master_repl_offset"] == theirs["master_repl_offset"]
    )


def differences(primary, replica):
    """What the replica has otherwise. While it is looked at, keys expire: what differs is looked at again, until none can
    expire any more."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        late = time.monotonic() > deadline
        found = dataset.differences(dataset.contents(primary, range(4)), dataset.contents(replica, range(4)))
        if not found or late:
            return found


class Writer:
    """Random writes of every type, from a seed."""

    def __init__(self, client, seed):
        self.client = client
        self.random = random.Random(seed)

    def key(self, kind):
        return f"{kind}:{self.random.randrange(20)}"

    def word(self):
        return self.random.choice(WORDS)

    def command(self):
        pick = self.random.randrange
        word, number = self.word(), pick(1000)
        return self.random.choice(
            [
                ("SET", self.key("s"), word),
                ("SET", self.key("s"), "v" * pick(5000), "PX", 1 + pick(3000)),
                ("APPEND", self.key("s"), word),
                ("SETRANGE", self.key("s"), pick(200), "range"),
                ("INCRBYFLOAT", self.key("n"), "1.25"),
                ("INCR", self.key("i")),
                ("DEL", self.key("s"), self.key("l")),
                ("RPUSH", self.key("l"), word, number, word),
                ("LPOP", self.key("l"), 2),
                ("LREM", self.key("l"), 0, word),
                ("SADD", self.key("t"), word, number),
                ("SPOP", self.key("t")),
                ("SDIFFSTORE", self.key("t"), self.key("t"), self.key("t")),
                ("HSET", self.key("h"), word, number, "f", word),
                ("HINCRBYFLOAT", self.key("hf"), "f", "0.1"),
                ("HDEL", self.key("h"), word),
                ("ZADD", self.key("z"), number / 7, word, number, "m"),
                ("ZPOPMIN", self.key("z")),
                ("ZRANGESTORE", self.key("z"), self.key("z"), 0, 3),
                ("XADD", self.key("x"), "MAXLEN", "~", 50, "*", "f", word),
                ("XTRIM", self.key("x"), "MAXLEN", 20),
                ("PFADD", self.key("p"), word, number),
                ("EXPIRE", self.key("h"), 1000),
                ("GETEX", self.key("s"), "PX", 100000),
                ("COPY", self.key("l"), self.key("l"), "REPLACE"),
                ("SORT", self.key("l"), "ALPHA", "STORE", self.key("l")),
                ("SELECT", pick(3)),
            ]
        )

    def write(self, count):
        commands = []
        while len(commands) < count:
            if self.random.randrange(20) == 0:
                inside = [self.command() for _ in range(3)]
                commands += [("MULTI",), *[c for c in inside if c[0] != "SELECT"], ("EXEC",)]
            else:
                commands.append(self.command())
        for at in range(0, len(commands), 50):
            self.client.pipeline(commands[at : at + 50])


class RawReplica:
    """A replica made of a socket: what its primary sends it, byte for byte."""

    def __init__(self, port, timeout=60.0, receive_buffer=None, capabilities=("eof", "psync2")):
        self.client = Client(port=port, timeout=timeout, receive_buffer=receive_buffer)
        self.client.ok("REPLCONF", "listening-port", 4711)
        for capability in capabilities:
            self.client.ok("REPLCONF", "capa", capability)
        self.buffer = bytearray()
        self.id, self.offset = "?", -1  # of the stream so far

    def close(self):
        self.client.close()

    def _more(self):
        data = self.client.socket.recv(1 << 18)
        if not data:
            raise EOFError("the primary has closed the connection")
        self.buffer += data

    def read_line(self):
        """The next line that is not empty: newlines are signs of life."""
        while True:
            while b"\n" not in self.buffer:
                self._more()
            line = bytes(self.buffer[: self.buffer.index(b"\n")])
            del self.buffer[: len(line) + 1]
            if line.strip():
                return line.strip().decode()

    def read_bytes(self, count):
        while len(self.buffer) < count:
            self._more()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def ask(self, stream_id="?", offset=-1):
        """PSYNC: the first line of the answer."""
        self.client.send("PSYNC", stream_id, offset)
        answer = self.read_line()
        words = answer.split()
        if words[0] == "+FULLRESYNC":
            self.id, self.offset = words[1], int(words[2])
        elif words[0] == "+CONTINUE":
            self.id, self.offset = words[1] if len(words) > 1 else stream_id, offset - 1
        return answer

    def read_copy(self):
        """The RDB, whichever way its end is told."""
        head = self.read_line()
        if not head.startswith("$EOF:"):
            return self.read_bytes(int(head[1:]))
        mark = head[5:].encode()
        while not self.buffer.endswith(mark):
            self._more()
        copy = bytes(self.buffer[: -len(mark)])
        self.buffer.clear()
        return copy

    def acknowledge(self, offset=None):
        self.client.send("REPLCONF", "ACK", self.offset if offset is None else offset)

    def synchronise(self):
        self.ask()
        copy = self.read_copy()
        self.acknowledge()
        return copy

    def read_stream(self, upto):
        """Up to this offset."""
        data = self.read_bytes(upto - self.offset)
        self.offset = upto
        return data
