"""Commands on keys of any type, and on whole databases."""


def expire_options(g):
    return [g.pick("NX", "XX", "GT", "LT", "nx", "what") for _ in range(g.pick(0, 0, 0, 1, 1, 2))]


def add_expiry(grammar):
    for name, unit, absolute in (("EXPIRE", 1, False), ("PEXPIRE", 1000, False), ("EXPIREAT", 1, True), ("PEXPIREAT", 1000, True)):
        grammar.add(name, 6, lambda g, unit=unit, absolute=absolute: [g.key(), g.expire_time(unit, absolute), *expire_options(g)])
    for name in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"):
        grammar.add(name, 4, lambda g: [g.key()])
    grammar.add("PERSIST", 6, lambda g: [g.key()])


def copy_options(g):
    options = []
    if g.chance(0.4):
        options += [g.pick("DB", "db"), g.pick("0", "1", "2", "3", "15", "16", "-1", "x")]
    if g.chance(0.5):
        options.append("REPLACE")
    return options


def add_databases(grammar):
    grammar.add("SELECT", 4, lambda g: [g.pick("0", "0", "0", "1", "2", "3", "15", "16", "-1", "x", "")])
    grammar.add("SWAPDB", 1, lambda g: [g.pick("0", "1", "2", "3"), g.pick("0", "1", "2", "3", "16", "x", "-1")])
    grammar.add("MOVE", 4, lambda g: [g.key(), g.pick("0", "1", "2", "3", "16", "-1", "x")])
    grammar.add("DBSIZE", 5, lambda g: [])
    grammar.add("FLUSHDB", 0.3, lambda g: [g.pick("ASYNC", "SYNC", "what")] if g.chance(0.5) else [])
    grammar.add("FLUSHALL", 0.1, lambda g: [g.pick("ASYNC", "SYNC", "what")] if g.chance(0.5) else [])


def add_to(grammar):
    add_expiry(grammar)
    add_databases(grammar)
    for name, weight in (("DEL", 12), ("UNLINK", 6), ("EXISTS", 8), ("TOUCH", 5)):
        grammar.add(name, weight, lambda g: g.keys())
    grammar.add("TYPE", 5, lambda g: [g.key()])
    grammar.add("RENAME", 5, lambda g: [g.key(), g.key()])
    grammar.add("RENAMENX", 5, lambda g: [g.key(), g.key()])
    grammar.add("COPY", 8, lambda g: [g.key(), g.key(), *copy_options(g)])
    grammar.add("KEYS", 3, lambda g: [g.pattern()])
    grammar.add("KEYS", 2, lambda g: [g.key()])
    grammar.add("OBJECT ENCODING", 6, lambda g: [g.key()])
    grammar.add("OBJECT FREQ", 1, lambda g: [g.key()])
    # redis-server shares small integers among keys, and so the time of their last use; copied ones it does not share.
    grammar.add("OBJECT IDLETIME", 1, lambda g: ["missing"])
    grammar.add("OBJECT REFCOUNT", 1, lambda g: ["missing"])
    grammar.add("OBJECT", 1, lambda g: [g.pick("NOSUCH", "ENCODING", ""), g.key()], spoil=False)
    # Errors only: a step of an iteration is each server's own affair (whole iterations are compared apart).
    grammar.add("SCAN", 1, lambda g: [g.pick("x", "-1", "", "0"), g.pick("COUNT", "MATCH", "TYPE", "what")], spoil=False)
    grammar.add("SCAN", 1, lambda g: ["0", "COUNT", g.pick("0", "-1", "x", "")], spoil=False)
