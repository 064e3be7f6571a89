"""All string commands."""


def set_options(g):
    options = []
    if g.chance(0.35):
        options.append(g.pick("NX", "XX", "nx", "Xx"))
    if g.chance(0.3):
        options.append("GET")
    if g.chance(0.35):
        kind, unit, absolute = g.pick(("EX", 1, False), ("PX", 1000, False), ("EXAT", 1, True), ("PXAT", 1000, True))
        # With a time in the past redis-server stores the key and reclaims it some time later: DBSIZE would tell.
        options += [kind, g.expire_time(unit, absolute, past=not absolute)]
    if g.chance(0.15):
        options.append("KEEPTTL")
    if g.chance(0.03):
        options.append(g.nonsense())
    return options


def getex_options(g):
    roll = g.random.random()
    if roll < 0.3:
        return []
    if roll < 0.5:
        return ["PERSIST"]
    kind, unit, absolute = g.pick(("EX", 1, False), ("PX", 1000, False), ("EXAT", 1, True), ("PXAT", 1000, True))
    options = [kind, g.expire_time(unit, absolute)]
    return options + ["PERSIST"] if roll > 0.97 else options


def offset(g):
    if g.chance(0.04):
        return g.pick("536870911", "536870912", "536870913", "-1", "9223372036854775807", "4294967296", "x", "")
    if g.chance(0.03):
        return str(g.below(300000))  # of a sparse value, which we make of pages
    return str(g.below(200))


def bound(g):
    return str(g.below(400000) - 100000) if g.chance(0.08) else g.small(60)


def setrange(g):
    place = offset(g)
    # A huge offset must not come with a value that would make half a gigabyte of it.
    return [g.key(), place, "" if place == "536870911" else g.value()]


def pairs(g):
    words = []
    for _ in range(1 + g.below(4)):
        words += [g.key(), g.value()]
    return words


def lcs_options(g):
    options = []
    if g.chance(0.3):
        options.append("LEN")
    if g.chance(0.4):
        options.append("IDX")
    if g.chance(0.3):
        options += ["MINMATCHLEN", g.small(6)]
    if g.chance(0.3):
        options.append("WITHMATCHLEN")
    return options


def add_to(grammar):
    grammar.add("SET", 25, lambda g: [g.key(), g.value()])
    grammar.add("SET", 25, lambda g: [g.key(), g.value(), *set_options(g)])
    grammar.add("GET", 20, lambda g: [g.key()])
    grammar.add("GETDEL", 5, lambda g: [g.key()])
    grammar.add("GETEX", 12, lambda g: [g.key(), *getex_options(g)])
    grammar.add("GETSET", 6, lambda g: [g.key(), g.value()])
    grammar.add("SETNX", 6, lambda g: [g.key(), g.value()])
    grammar.add("SETEX", 5, lambda g: [g.key(), g.expire_time(1, False), g.value()])
    grammar.add("PSETEX", 5, lambda g: [g.key(), g.expire_time(1000, False), g.value()])
    grammar.add("MGET", 10, lambda g: g.keys(6))
    grammar.add("MSET", 10, pairs)
    grammar.add("MSETNX", 6, pairs)
    grammar.add("APPEND", 12, lambda g: [g.key(), g.value()])
    grammar.add("STRLEN", 8, lambda g: [g.key()])
    grammar.add("SETRANGE", 12, setrange)
    grammar.add("GETRANGE", 12, lambda g: [g.key(), bound(g), bound(g)])
    grammar.add("SUBSTR", 4, lambda g: [g.key(), bound(g), bound(g)])
    grammar.add("INCR", 10, lambda g: [g.key()])
    grammar.add("DECR", 10, lambda g: [g.key()])
    grammar.add("INCRBY", 12, lambda g: [g.key(), g.any_integer()])
    grammar.add("DECRBY", 12, lambda g: [g.key(), g.any_integer()])
    grammar.add("INCRBYFLOAT", 14, lambda g: [g.key(), g.any_float()])
    grammar.add("LCS", 5, lambda g: [g.key(), g.key(), *lcs_options(g)])
