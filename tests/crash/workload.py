"""Writers whose every step leaves a state that can be checked after a crash.

Each writer has keys of its own and does one step after the other, so of what it wrote exactly the steps up to the last
acknowledged one must be there, and of the step that was under way all or nothing. A step changes keys of several types
by the number of the step; what the keys hold tells how far the writer got.
"""

import random
import threading

from support.client import Client
from support.resp import ErrorReply, Null

FIELDS = 5


class Lost(AssertionError):
    """Something acknowledged is missing, or something half done is there."""


class Writer:
    """Step n (1, 2, ...) is one of a few kinds, chosen by a seed, so that whoever checks knows what step n did."""

    KINDS = ("set", "incr", "push", "hash", "zadd", "stream", "multi", "expire", "float", "pop", "delete", "big")

    def __init__(self, name, seed):
        self.name = name
        self.seed = seed
        self.sent = 0  # steps sent
        self.acknowledged = 0  # steps whose replies have come
        self.refused = 0  # steps answered by an error: they must have left nothing, or everything

    def kind_of(self, step):
        return random.Random(f"{self.seed}/{self.name}/{step}").choice(self.KINDS)

    def key(self, kind):
        return f"{self.name}:{kind}"

    def commands(self, step):
        kind, value = self.kind_of(step), str(step)
        key = self.key(kind)
        return {
            "set": [("SET", key, value)],
            "incr": [("MULTI",), ("INCR", key), ("SET", key + ":at", value), ("EXEC",)],
            "push": [("RPUSH", key, value)],
            "hash": [("HSET", key, f"f{step % FIELDS}", value, "last", value)],
            "zadd": [("ZADD", key, value, "last", value, f"m{step % 50}")],
            "stream": [("XADD", key, "MAXLEN", "~", "1000", "*", "step", value)],
            "multi": [("MULTI",), ("SET", key + ":a", value), ("LPUSH", key + ":b", value), ("EXEC",)],
            "expire": [("SET", key, value, "EX", "100000")],
            "float": [("MULTI",), ("INCRBYFLOAT", key, "0.5"), ("SET", key + ":at", value), ("EXEC",)],
            "pop": [("MULTI",), ("SADD", key, value, "x" + value), ("SPOP", key), ("SET", key + ":at", value), ("EXEC",)],
            "delete": [("MULTI",), ("SET", key, value), ("DEL", key), ("SET", key + ":at", value), ("EXEC",)],
            "big": [("SET", key, value + ":" + "b" * (step % 7 * 3000))],
        }[kind]

    def run(self, port, until):
        """Steps until the connection breaks or `until` is set."""
        self.refused = 0
        try:
            with Client(port=port) as client:
                while not until.is_set():
                    step = self.sent + 1
                    commands = self.commands(step)
                    self.sent = step
                    for command in commands:
                        client.send(*command)
                    replies = [client.read_reply() for _ in commands]
                    if any(isinstance(reply, ErrorReply) for reply in replies):
                        self.refused += 1
                        self.sent -= 1  # done again, as the same step
                        if self.refused > 1000:
                            return
                        until.wait(0.001)  # it loads, or its disk is full
                        continue
                    self.acknowledged = step
        except OSError:
            pass
        except EOFError:
            pass

    # -- checking ------------------------------------------------------------------------------------------

    def _last_of(self, kind, up_to):
        return next((step for step in range(up_to, 0, -1) if self.kind_of(step) == kind), 0)

    def _steps_of(self, kind, up_to):
        return [step for step in range(1, up_to + 1) if self.kind_of(step) == kind]

    def found_step(self, client, kind):
        """The last step of this kind whose traces are there; checks that they are whole."""
        key = self.key(kind)
        text = lambda *command: _text(client.command(*command))
        if kind in ("set", "expire"):
            value = text("GET", key)
            if value and kind == "expire" and client.command("PTTL", key) <= 0:
                raise Lost(f"{key} has lost its expiry")
            return int(value or 0)
        if kind == "big":
            value = text("GET", key) or "0:"
            step = int(value.split(":")[0])
            if len(value.split(":")[1]) != (step % 7 * 3000 if step else 0):
                raise Lost(f"{key} is torn")
            return step
        if kind == "push":
            return int(text("LINDEX", key, "-1") or 0)
        if kind == "hash":
            step = int(text("HGET", key, "last") or 0)
            if step and text("HGET", key, f"f{step % FIELDS}") != str(step):
                raise Lost(f"{key} has one of the fields of step {step}")
            return step
        if kind == "zadd":
            step = int(float(text("ZSCORE", key, "last") or 0))
            if step and float(text("ZSCORE", key, f"m{step % 50}") or 0) != step:
                raise Lost(f"{key} has one of the members of step {step}")
            return step
        if kind == "stream":
            last = client.command("XREVRANGE", key, "+", "-", "COUNT", "1")
            return int(last[0][1][1]) if last else 0
        if kind == "multi":
            first, second = int(text("GET", key + ":a") or 0), int(text("LINDEX", key + ":b", "0") or 0)
            if first != second:
                raise Lost(f"a transaction of {key} is there in part: {first} and {second}")
            return first
        return int(text("GET", key + ":at") or 0)

    def _check_counts(self, client, kind, step):
        """What adds up over all steps of the kind."""
        key, steps = self.key(kind), self._steps_of(kind, step)
        if kind == "incr" and int(_text(client.command("GET", key)) or 0) != len(steps):
            raise Lost(f"{key} was counted {_text(client.command('GET', key))} times instead of {len(steps)}")
        if kind == "float" and float(_text(client.command("GET", key)) or 0) != len(steps) / 2:
            raise Lost(f"{key} is {client.command('GET', key)} instead of {len(steps) / 2}")
        if kind == "push" and [int(item) for item in client.command("LRANGE", key, "0", "-1")] != steps:
            raise Lost(f"{key} does not hold its {len(steps)} elements")
        if kind == "pop" and client.command("SCARD", key) != len(steps):
            raise Lost(f"{key} has {client.command('SCARD', key)} members instead of {len(steps)}")
        if kind == "delete" and client.command("EXISTS", key) != 0:
            raise Lost(f"{key} was deleted and is there")

    def check(self, client):
        """Every acknowledged step is there, at most the one under way besides. What is there is what the writer goes on
        from."""
        reached = self.acknowledged
        for kind in self.KINDS:
            found, least = self.found_step(client, kind), self._last_of(kind, self.acknowledged)
            most = self.sent if self.kind_of(self.sent) == kind and self.sent else least
            if found not in (least, most):
                raise Lost(
                    f"{self.key(kind)}: step {found} is there; acknowledged was {least}, under way {most} "
                    f"(seed {self.seed})"
                )
            self._check_counts(client, kind, found)
            reached = max(reached, found)
        self.acknowledged = self.sent = reached


    def check_prefix(self, client):
        """What is there is what some step left, and nothing of a later one: what a crash may leave that loses the last
        moment."""
        found = {kind: self.found_step(client, kind) for kind in self.KINDS}
        reached = max(found.values())
        for kind, step in found.items():
            if step != self._last_of(kind, reached) or reached > self.sent:
                raise Lost(f"{self.key(kind)}: step {step} is there, and {reached} of others (seed {self.seed})")
            self._check_counts(client, kind, step)
        self.acknowledged = self.sent = reached


def _text(reply):
    """A reply that may be null, which becomes None."""
    return None if isinstance(reply, Null) else reply.decode() if isinstance(reply, bytes) else reply


class Crowd:
    """Several writers, each on a thread of its own while they run."""

    def __init__(self, count, seed):
        self.writers = [Writer(f"w{number}", seed) for number in range(count)]
        self._until = threading.Event()
        self._threads = []

    def start(self, port):
        self._until.clear()
        self._threads = [
            threading.Thread(target=writer.run, args=(port, self._until), daemon=True) for writer in self.writers
        ]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._until.set()
        for thread in self._threads:
            thread.join(60)
        self._threads = []

    def check(self, server, loses=False):
        with server.client() as client:
            for writer in self.writers:
                if loses:
                    writer.check_prefix(client)
                else:
                    writer.check(client)

    def steps(self):
        return sum(writer.acknowledged for writer in self.writers)
