"""Random commands out of a grammar.

A family (tests/oracle/families/<name>.py) adds its commands to a Grammar: a name, a weight, and a function that
builds the arguments with a Generator. The Generator draws keys from a small space, so that commands meet, and
values from the corners: limits of integers, binary, empty, almost-numbers. On top of what families ask for, every
command is now and then spoilt: an argument too many or too few, a nonsense option, another letter case.

Everything is drawn from one seeded generator and nothing depends on replies, so a seed replays its run.
"""

import importlib
import os
import random

FAMILIES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "families")

INTEGER_CORNERS = [
    "0", "1", "-1", "2", "10", "-10", "99", "127", "128", "255", "256", "32767", "32768", "65535", "65536", "2147483647",
    "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "9223372036854775806", "9223372036854775807",
    "-9223372036854775807", "-9223372036854775808", "281474976710655", "281474976710656",
]
INTEGER_WRONG = [
    "", " ", "a", "1 ", " 1", "+1", "01", "-0", "--1", "1.0", "1e3", "0x10", "9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "99999999999999999999999", "1\n", "1\0", "-", "nan", "\xff",
]
FLOAT_VALUES = [
    "0", "1", "-1", "0.1", "0.2", "-0.5", "3.14159", "1e2", "-1e-3", "5.0e3", "1e17", "1.7976931348623157e308", "1e-300", "100.00",
    "9007199254740993", "0.00000000001", "123456789.987654321", "2.5", "1e22", "10e-2", ".5", "5.",
]
FLOAT_WRONG = ["", " ", "abc", "1.5 ", " 1.5", "1..5", "1e", "nan", "-nan", "inf", "-inf", "1e5000", "infinity", "0x1p3", "1,5", "1\0"]
TIMED = {"SET", "SETEX", "PSETEX", "GETEX", "EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"}


class Generator:
    """Draws the parts of commands. `chance(p)` and the rest consume the one random stream."""

    def __init__(self, seed, started_at):
        self.random = random.Random(seed)
        self.started_at = started_at
        self._lifetimes = set()

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, *choices):
        return self.random.choice(choices)

    def below(self, bound):
        return self.random.randrange(bound)

    # -- keys and values -----------------------------------------------------------------------------------

    def key(self):
        roll = self.random.random()
        if roll < 0.90:
            return f"k{self.below(24)}"
        if roll < 0.94:
            return "{tag}" + str(self.below(4))
        if roll < 0.97:
            return self.pick("", " ", "a" * 300, b"\0\xff\r\n", "*", "k?", "{}", "{}x", "{a", "1")
        return f"long:{self.below(3)}:" + "x" * 70

    def keys(self, most=4):
        return [self.key() for _ in range(1 + self.below(most))]

    def value(self):
        roll = self.random.random()
        if roll < 0.30:
            return self.integer()
        if roll < 0.40:
            return self.pick(*FLOAT_VALUES)
        if roll < 0.50:
            return self.pick(*INTEGER_WRONG)
        if roll < 0.75:
            return self.word()
        if roll < 0.90:
            return self.random.randbytes(self.below(80))
        if roll < 0.97:
            # Around the border of short and long encodings.
            return "x" * (40 + self.below(10))
        return self.random.randbytes(self.below(3000))

    def word(self):
        return "".join(self.random.choice("abcdeABC01*?[]") for _ in range(self.below(12)))

    def integer(self):
        """A proper integer, often a corner."""
        if self.chance(0.4):
            return self.pick(*INTEGER_CORNERS)
        return str(self.below(2001) - 1000)

    def any_integer(self):
        """Mostly proper, now and then not."""
        return self.pick(*INTEGER_WRONG) if self.chance(0.08) else self.integer()

    def small(self, most=20):
        """A small integer, now and then a negative, a corner or nonsense."""
        if self.chance(0.06):
            return self.pick(*INTEGER_CORNERS, *INTEGER_WRONG)
        number = self.below(most + 1)
        return str(-number if self.chance(0.25) else number)

    def any_float(self):
        return self.pick(*FLOAT_WRONG) if self.chance(0.1) else self.pick(*FLOAT_VALUES)

    def pattern(self):
        return self.pick("*", "k*", "k?", "k1?", "k[0-5]", "k[^1]", "*1*", "\\k1", "k[1-", "[", "", "nothing", "{tag}*", "*x*x*", "k\\?",
                         "?", "??", "**", "k[9-0]", "K1", "long:*")

    # -- time ----------------------------------------------------------------------------------------------

    def lifetime_s(self):
        """Seconds to live: far off, and never twice, since two servers run a command milliseconds apart and
        comparisons of times (GT, LT) must come out the same."""
        while True:
            lifetime = 100 * (100 + self.below(10**6))
            if lifetime not in self._lifetimes:
                self._lifetimes.add(lifetime)
                return lifetime

    def expire_time(self, unit, absolute, past=True):
        """An argument for EXPIRE and the like: `unit` is 1 for seconds, 1000 for milliseconds. `past` False
        leaves out times long gone."""
        roll = self.random.random()
        if not past and 0.70 <= roll < 0.85:
            roll = 0.0
        if roll < 0.70:
            return str((self.lifetime_s() + (self.started_at if absolute else 0)) * unit)
        if roll < 0.85:
            return self.pick("0", "-1", "-100", "-9223372036854775808", "-9223372036854775", "1" if absolute else "-2")
        if roll < 0.93:
            # Too far for a signed 64-bit count of milliseconds. What is nearer than that but beyond the year 10889 is
            # accepted by both servers and told differently afterwards.
            far = ["9223372036854775807", "9223372036854775808"] + ["9223372036854776"] * (unit == 1)
            return self.pick(*far) if unit == 1 or not absolute else "x"
        return self.pick(*INTEGER_WRONG)

    # -- spoiling ------------------------------------------------------------------------------------------

    def nonsense(self):
        return self.pick("NX", "XX", "GT", "EX", "PX", "GET", "KEEPTTL", "COUNT", "what", "", "1", "-1", "LIMIT", "MATCH", b"\xff")

    def recase(self, word):
        return "".join(self.random.choice((letter.lower(), letter.upper())) for letter in word)

    def spoil(self, arguments):
        """A copy with something wrong in it. Where it could become a short time to live, which two servers see end
        differently, nothing that is a number comes in."""
        arguments = list(arguments)
        timed = arguments[0] in TIMED
        roll = self.random.random()
        if roll < 0.3 and len(arguments) > 1:
            del arguments[1 + self.below(len(arguments) - 1)]
        elif roll < 0.6:
            arguments.append("what" if timed else self.nonsense())
        elif roll < 0.8:
            arguments.insert(1 + self.below(len(arguments)), "what" if timed else self.nonsense())
        elif len(arguments) > 1:
            replacement = self.pick("what", "", "x1") if timed else self.value()
            arguments[1 + self.below(len(arguments) - 1)] = replacement
        return arguments


class Grammar:
    """The commands of all chosen families, drawn by weight."""

    def __init__(self, family_names=()):
        self._names = []
        self._builders = []
        self._weights = []
        self.unspoilt = set()
        chosen = list(family_names) or sorted(
            name[:-3] for name in os.listdir(FAMILIES) if name.endswith(".py") and not name.startswith("_"))
        for name in chosen:
            importlib.import_module(f"oracle.families.{name}").add_to(self)
        total = 0
        self._cumulative = []
        for weight in self._weights:
            total += weight
            self._cumulative.append(total)

    def add(self, name, weight, build, spoil=True):
        """`build(generator)` returns the arguments after the name. Several builders may share a name.
        `spoil` False protects commands whose variations would do harm (SHUTDOWN is never far)."""
        self._names.append(name)
        self._builders.append(build)
        self._weights.append(weight)
        if not spoil:
            self.unspoilt.add(name)

    def draw(self, generator):
        index = generator.random.choices(range(len(self._names)), cum_weights=self._cumulative)[0]
        name = self._names[index]
        arguments = [*name.split(" "), *self._builders[index](generator)]
        if name not in self.unspoilt and generator.chance(0.05):
            arguments = generator.spoil(arguments)
        if generator.chance(0.1):
            arguments[0] = generator.recase(arguments[0])
        return arguments
