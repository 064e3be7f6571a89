"""Streams: entries, groups, what is pending.

IDs are given, never drawn from the clock, which two servers read at different times. Approximate trimming takes pages
away, which are of different sizes in the two, so here it has thresholds that no stream reaches. Minimum idle times are
far from what commands say of times, since those of two servers differ by milliseconds.
"""


def stream(g):
    """Keys of their own most of the time, or there would be nothing but type errors."""
    return g.key() if g.chance(0.04) else f"st{g.below(4)}"


def group(g):
    return f"g{g.below(3)}" if g.chance(0.95) else g.word()


def consumer(g):
    return f"c{g.below(4)}"


ODD_IDS = [
    "", "-", "+", "0", "0-0", "0-1", "1-", "-1", "1-1-1", "a", "1-a", "18446744073709551615-18446744073709551615",
    "18446744073709551616-0", "0-18446744073709551616", "18446744073709551615", "007-3", "+5-1", " 5-1", "5--3", "5--03", "5-*", "(1",
    "$", ">", "1" * 130, b"5-1\0", b"5\0-1", "5-+2", "9223372036854775808-9223372036854775808",
]


def identifier(g):
    """Of an entry there may be."""
    roll = g.random.random()
    if roll < 0.05:
        return g.pick(*ODD_IDS)
    if roll < 0.2:
        return str(g.below(60))
    return f"{g.below(60)}-{g.below(4)}"


def identifiers(g, most=4):
    return [identifier(g) for _ in range(1 + g.below(most))]


def edge(g):
    """Of an interval."""
    roll = g.random.random()
    if roll < 0.4:
        return g.pick("-", "+")
    text = identifier(g)
    return "(" + text if roll > 0.8 and isinstance(text, str) else text


def interval(g):
    if g.chance(0.5):
        return ["-", "+"]
    return [edge(g), edge(g)]


def trimming(g):
    roll = g.random.random()
    if roll < 0.06:
        return [g.pick("MAXLEN", "MINID"), g.pick("~", "="), g.small(), "LIMIT", g.small()][: 1 + g.below(5)] if g.chance(0.5) else [
            "LIMIT", "1", "MAXLEN", "10"]
    if roll < 0.12:
        return ["MAXLEN", "~", "100000", *(["LIMIT", g.pick("0", "10", "-1", "x")] if g.chance(0.5) else [])]
    if roll < 0.16:
        return ["MINID", "~", "0-1"]
    operator = ["="] if g.chance(0.5) else []
    if roll < 0.6:
        return ["MAXLEN", *operator, str(g.below(40)) if g.chance(0.9) else g.small()]
    return ["MINID", *operator, identifier(g)]


def add(g):
    # Mostly above the last ID, or nothing would ever be added: the sequence number is drawn by the server then.
    roll = g.random.random()
    id = identifier(g) if roll < 0.3 else f"{30 + g.below(30)}-*" if roll < 0.97 else g.pick(*ODD_IDS)
    fields = []
    for _ in range(g.pick(1, 1, 1, 2, 2, 3, 8)):
        fields += [g.pick("a", "b", "name", "", "field1", g.word()), g.value()]
    if g.chance(0.02):
        fields.append("odd")
    options = []
    if g.chance(0.1):
        options.append("NOMKSTREAM")
    if g.chance(0.15):
        options += trimming(g)
    return [stream(g), *options, id, *fields]


def count(g):
    return ["COUNT", g.small()] if g.chance(0.4) else []


def read(g):
    keys = [stream(g) for _ in range(g.pick(1, 1, 2, 3))]
    ids = [g.pick("0", "$", identifier(g), identifier(g)) for _ in keys]
    return [*count(g), "STREAMS", *keys, *ids]


def read_group(g):
    keys = [stream(g) for _ in range(g.pick(1, 1, 1, 2))]
    ids = [g.pick(">", ">", ">", "0", identifier(g)) for _ in keys]
    return ["GROUP", group(g), consumer(g), *count(g), *(["NOACK"] if g.chance(0.1) else []), "STREAMS", *keys, *ids]


def create(g):
    arguments = [stream(g), group(g), g.pick("0", "$", identifier(g))]
    if g.chance(0.3):
        arguments.append("MKSTREAM")
    if g.chance(0.15):
        arguments += ["ENTRIESREAD", g.small()]
    return arguments


def set_group(g):
    return [stream(g), group(g), g.pick("0", "$", identifier(g)), *(["ENTRIESREAD", g.small()] if g.chance(0.3) else [])]


def pending(g):
    arguments = [stream(g), group(g)]
    if g.chance(0.3):
        return arguments
    if g.chance(0.3):
        arguments += ["IDLE", g.pick("0", "50000000", "-1", "x")]
    return [*arguments, *interval(g), g.small(), *([consumer(g)] if g.chance(0.5) else [])]


def idle(g):
    return g.pick("0", "0", "0", "50000000", "-5", "x" if g.chance(0.2) else "0")


def claim(g):
    options = []
    if g.chance(0.3):
        options += g.pick(["IDLE", "100000000"], ["TIME", "1000"], ["TIME", "99999999999999"], ["IDLE", "-5"], ["IDLE", "x"])
    if g.chance(0.2):
        options += ["RETRYCOUNT", g.small()]
    if g.chance(0.3):
        options.append("FORCE")
    if g.chance(0.3):
        options.append("JUSTID")
    if g.chance(0.1):
        options += ["LASTID", identifier(g)]
    return [stream(g), group(g), consumer(g), idle(g), *identifiers(g), *options]


def claim_any(g):
    return [stream(g), group(g), consumer(g), idle(g), g.pick("0", "-", identifier(g), edge(g)),
            *(["COUNT", str(1 + g.below(12)) if g.chance(0.9) else g.pick("0", "-1", "x")] if g.chance(0.5) else []),
            *(["JUSTID"] if g.chance(0.3) else [])]


def set_id(g):
    arguments = [stream(g), identifier(g) if g.chance(0.4) else f"{50 + g.below(20)}-{g.below(4)}"]
    if g.chance(0.3):
        arguments += ["ENTRIESADDED", g.small(40)]
    if g.chance(0.3):
        arguments += ["MAXDELETEDID", identifier(g)]
    return arguments


def add_to(grammar):
    grammar.add("XADD", 24, add)
    grammar.add("XLEN", 1.5, lambda g: [stream(g)])
    grammar.add("XRANGE", 5, lambda g: [stream(g), *interval(g), *count(g)])
    grammar.add("XREVRANGE", 4, lambda g: [stream(g), *reversed(interval(g)), *count(g)])
    grammar.add("XDEL", 4, lambda g: [stream(g), *identifiers(g)])
    grammar.add("XTRIM", 2, lambda g: [stream(g), *trimming(g)])
    grammar.add("XREAD", 4, read)
    grammar.add("XREADGROUP", 14, read_group)
    grammar.add("XACK", 4, lambda g: [stream(g), group(g), *identifiers(g)])
    grammar.add("XGROUP CREATE", 4, create)
    grammar.add("XGROUP SETID", 1.5, set_group)
    grammar.add("XGROUP DESTROY", 0.7, lambda g: [stream(g), group(g)])
    grammar.add("XGROUP CREATECONSUMER", 1, lambda g: [stream(g), group(g), consumer(g)])
    grammar.add("XGROUP DELCONSUMER", 1, lambda g: [stream(g), group(g), consumer(g)])
    grammar.add("XGROUP HELP", 0.1, lambda g: [])
    grammar.add("XPENDING", 6, pending)
    grammar.add("XCLAIM", 6, claim)
    grammar.add("XAUTOCLAIM", 4, claim_any)
    grammar.add("XINFO STREAM", 4, lambda g: [stream(g), *(["FULL", *count(g)] if g.chance(0.6) else [])])
    grammar.add("XINFO GROUPS", 3, lambda g: [stream(g)])
    grammar.add("XINFO CONSUMERS", 2, lambda g: [stream(g), group(g)])
    grammar.add("XINFO HELP", 0.1, lambda g: [])
    grammar.add("XSETID", 1.5, set_id)
    grammar.add("DEL", 0.5, lambda g: [stream(g)])
    grammar.add("RENAME", 0.4, lambda g: [stream(g), stream(g)])
    grammar.add("COPY", 0.4, lambda g: [stream(g), stream(g), *(["REPLACE"] if g.chance(0.7) else [])])
    grammar.add("OBJECT ENCODING", 0.3, lambda g: [stream(g)])
    grammar.add("TYPE", 0.3, lambda g: [stream(g)])
