"""The hash commands. Fields of few names, so that commands meet; values near the borders of the encodings."""

FIELDS = ["a", "b", "c", "1", "2", "-1", "", "f", "9223372036854775807", "01", "x" * 63, "y" * 64, "z" * 65]


def key(g):
    return f"h{g.below(6)}" if g.chance(0.85) else g.key()


def field(g):
    roll = g.random.random()
    if roll < 0.6:
        return g.pick(*FIELDS)
    return f"field:{g.below(150)}" if roll < 0.97 else g.value()


def fields(g, most=4):
    return [field(g) for _ in range(1 + g.below(most))]


def value(g):
    return g.value() if g.chance(0.5) else g.pick("1", "2", "-7", "1.5", "abc", "", "v" * 64, "v" * 65)


def pairs(g):
    if g.chance(0.03):
        return [word for number in range(g.below(200)) for word in (f"field:{number}", value(g))]
    words = [word for _ in range(1 + g.below(4)) for word in (field(g), value(g))]
    return words[:-1] if g.chance(0.02) else words


def random_fields(g):
    words = [g.small(200)] if g.chance(0.9) else []
    if words and g.chance(0.5):
        words += [g.pick("WITHVALUES", "withvalues", "WITHVALUE")]
    # A reply that never ends is nobody's business.
    return ["-5"] if words and words[0].startswith("-") and len(words[0]) > 5 else words


def scan(g, cursor="0"):
    words = [cursor if g.chance(0.95) else g.pick("x", "", "-", "1.5")]
    if g.chance(0.3):
        words += [g.pick("MATCH", "match"), g.pick("*", "field:1*", "?", "[ab]", "nothing")]
    words += ["COUNT", "100000"] if g.chance(0.97) else g.pick(["COUNT", "0"], ["COUNT"], ["what", "1"], ["COUNT", "x"])
    return words


def add_to(grammar):
    grammar.add("HSET", 22, lambda g: [key(g), *pairs(g)])
    grammar.add("HMSET", 5, lambda g: [key(g), *pairs(g)])
    grammar.add("HSETNX", 6, lambda g: [key(g), field(g), value(g)])
    grammar.add("HGET", 10, lambda g: [key(g), field(g)])
    grammar.add("HMGET", 6, lambda g: [key(g), *fields(g)])
    grammar.add("HDEL", 12, lambda g: [key(g), *fields(g, g.pick(2, 4, 40))])
    grammar.add("HEXISTS", 5, lambda g: [key(g), field(g)])
    grammar.add("HLEN", 4, lambda g: [key(g)])
    grammar.add("HSTRLEN", 5, lambda g: [key(g), field(g)])
    grammar.add("HGETALL", 6, lambda g: [key(g)])
    grammar.add("HKEYS", 3, lambda g: [key(g)])
    grammar.add("HVALS", 3, lambda g: [key(g)])
    grammar.add("HINCRBY", 10, lambda g: [key(g), field(g), g.any_integer()])
    grammar.add("HINCRBYFLOAT", 8, lambda g: [key(g), field(g), g.any_float()])
    grammar.add("HRANDFIELD", 5, lambda g: [key(g), *random_fields(g)], spoil=False)
    grammar.add("HSCAN", 5, lambda g: [key(g), *scan(g)], spoil=False)
    # What else happens to keys.
    grammar.add("SET", 0.5, lambda g: [f"h{g.below(6)}", "text"])
    grammar.add("DEL", 3, lambda g: [key(g)])
    grammar.add("OBJECT", 3, lambda g: ["ENCODING", key(g)])
    grammar.add("TYPE", 2, lambda g: [key(g)])
    grammar.add("COPY", 2, lambda g: [f"h{g.below(6)}", f"h{g.below(6)}", *(["REPLACE"] if g.chance(0.7) else [])])
    grammar.add("RENAME", 2, lambda g: [f"h{g.below(6)}", f"h{g.below(6)}"], spoil=False)
    grammar.add("EXPIRE", 2, lambda g: [key(g), g.expire_time(1, False)])
    grammar.add("PERSIST", 1, lambda g: [key(g)])
