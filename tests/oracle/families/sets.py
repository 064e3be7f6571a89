"""The set commands. Which members SPOP takes is chance: it is asked for none, for all, or of a set with one."""

MEMBERS = ["a", "b", "c", "1", "2", "-1", "", "9223372036854775807", "9223372036854775808", "40000", "-40000", "01", "x" * 64, "y" * 65]


def key(g):
    return f"s{g.below(8)}" if g.chance(0.88) else g.key()


def keys(g, most=4):
    return [key(g) for _ in range(g.below(12) + 1 if g.chance(0.05) else 1 + g.below(most))]


def member(g):
    roll = g.random.random()
    if roll < 0.35:
        return str(g.below(300))
    if roll < 0.7:
        return g.pick(*MEMBERS)
    return f"member:{g.below(150)}" if roll < 0.97 else g.value()


def members(g, most=4):
    if g.chance(0.03):
        count = g.below(600)
        return [g.pick("", "member:") + str(number) for number in range(count + 1)]
    if g.chance(0.4):
        return [str(g.below(300) - 20) for _ in range(1 + g.below(most))]
    return [member(g) for _ in range(1 + g.below(most))]


def draw(g):
    words = [g.small(200)] if g.chance(0.9) else []
    # A reply that never ends is nobody's business.
    return ["-5"] if words and words[0].startswith("-") and len(words[0]) > 5 else words


def scan(g):
    words = ["0" if g.chance(0.95) else g.pick("x", "", "-", "1.5")]
    if g.chance(0.3):
        words += [g.pick("MATCH", "match"), g.pick("*", "member:1*", "?", "[ab]", "nothing", "1*")]
    words += ["COUNT", "100000"] if g.chance(0.97) else g.pick(["COUNT", "0"], ["COUNT"], ["what", "1"], ["COUNT", "x"])
    return words


def card(g):
    names = keys(g)
    number = str(len(names)) if g.chance(0.93) else g.pick("0", "-1", "x", "100", str(len(names) + 1), str(len(names) - 1), "")
    return [number, *names, *(["LIMIT", g.small(5)] if g.chance(0.4) else [])]


def add_to(grammar):
    grammar.add("SADD", 26, lambda g: [key(g), *members(g)])
    grammar.add("SREM", 14, lambda g: [key(g), *members(g, g.pick(2, 4, 40))])
    grammar.add("SMOVE", 10, lambda g: [key(g), key(g), member(g)])
    grammar.add("SCARD", 5, lambda g: [key(g)])
    grammar.add("SISMEMBER", 8, lambda g: [key(g), member(g)])
    grammar.add("SMISMEMBER", 6, lambda g: [key(g), *members(g)])
    grammar.add("SMEMBERS", 6, lambda g: [key(g)])
    grammar.add("SPOP", 3, lambda g: [key(g), g.pick("0", "1000000", "-1", "x", "9223372036854775807")], spoil=False)
    grammar.add("SADD", 2, lambda g: [f"single{g.below(2)}", "m"], spoil=False)
    grammar.add("SPOP", 2, lambda g: [f"single{g.below(2)}", *(["1"] if g.chance(0.3) else [])], spoil=False)
    grammar.add("SRANDMEMBER", 6, lambda g: [key(g), *draw(g)], spoil=False)
    grammar.add("SSCAN", 5, lambda g: [key(g), *scan(g)], spoil=False)
    for name in ("SINTER", "SUNION", "SDIFF"):
        grammar.add(name, 6, lambda g: keys(g))
        grammar.add(name + "STORE", 5, lambda g: [f"s{g.below(8)}" if g.chance(0.97) else g.key(), *keys(g)])
    grammar.add("SINTERCARD", 5, card)
    # What else happens to keys.
    grammar.add("SET", 0.5, lambda g: [f"s{g.below(8)}", "text"])
    grammar.add("DEL", 4, lambda g: [key(g)])
    grammar.add("OBJECT", 3, lambda g: ["ENCODING", key(g)])
    grammar.add("TYPE", 2, lambda g: [key(g)])
    grammar.add("COPY", 2, lambda g: [f"s{g.below(8)}", f"s{g.below(8)}", *(["REPLACE"] if g.chance(0.7) else [])])
    grammar.add("RENAME", 2, lambda g: [f"s{g.below(8)}", f"s{g.below(8)}"], spoil=False)
    grammar.add("EXPIRE", 2, lambda g: [key(g), g.expire_time(1, False)])
    grammar.add("PERSIST", 1, lambda g: [key(g)])
