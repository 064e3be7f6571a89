"""The list commands. What waits gives up after a moment, since nobody else is there to serve it."""

FEW = ["a", "b", "c", "1", "2", "-3", "", "abc", "12345678901", "1.5"]


def element(g):
    return g.pick(*FEW) if g.chance(0.85) else g.value()


def elements(g, most=4):
    if g.chance(0.03):
        return [element(g) for _ in range(1 + g.below(200))]
    return [element(g) for _ in range(1 + g.below(most))]


def key(g):
    """Few keys, so that lists grow."""
    return f"k{g.below(6)}" if g.chance(0.7) else g.key()


def keys(g, most=3):
    return [key(g) for _ in range(1 + g.below(most))]


def index(g):
    return g.small(12) if g.chance(0.8) else g.any_integer()


def end(g):
    return g.pick("LEFT", "RIGHT", "left", "rIght") if g.chance(0.96) else g.pick("UP", "", "LEFTT", "LEF")


def pop_count(g):
    return [] if g.chance(0.5) else [g.small(6)]


def search_options(g):
    words = []
    for _ in range(g.below(4)):
        words += g.pick(["RANK", g.small(4)], ["COUNT", g.small(4)], ["MAXLEN", g.small(30)], ["rank", g.any_integer()],
                        ["COUNT", "0"], ["RANK", "-1"], ["MAXLEN"], ["what", "1"])
    return words


def counted_keys(g):
    names = keys(g)
    number = str(len(names)) if g.chance(0.93) else g.pick("0", "-1", "x", "100", str(len(names) + 1), str(len(names) - 1), "")
    words = [number, *names, end(g)]
    if g.chance(0.5):
        words += [g.pick("COUNT", "count"), g.small(5)]
    if g.chance(0.05):
        words += ["COUNT", "1"]
    return words


def moment(g):
    if g.chance(0.1):
        return g.pick("-1", "x", "", "-0.1", "1e400", "nan", "-inf", "99999999999999999999")
    return g.pick("0.001", "0.002", ".001", "1e-3")


def add_to(grammar):
    grammar.add("LPUSH", 16, lambda g: [key(g), *elements(g)])
    grammar.add("RPUSH", 16, lambda g: [key(g), *elements(g)])
    grammar.add("LPUSHX", 4, lambda g: [key(g), *elements(g)])
    grammar.add("RPUSHX", 4, lambda g: [key(g), *elements(g)])
    grammar.add("LINSERT", 8, lambda g: [key(g), g.pick("BEFORE", "AFTER", "before", "what"), element(g), element(g)])
    grammar.add("LSET", 8, lambda g: [key(g), index(g), element(g)])
    grammar.add("LINDEX", 8, lambda g: [key(g), index(g)])
    grammar.add("LLEN", 4, lambda g: [key(g)])
    grammar.add("LRANGE", 10, lambda g: [key(g), index(g), index(g)])
    grammar.add("LRANGE", 4, lambda g: [key(g), "0", "-1"])
    grammar.add("LREM", 6, lambda g: [key(g), index(g), element(g)])
    grammar.add("LTRIM", 3, lambda g: [key(g), index(g), g.pick("-1", "-2", "100", index(g))])
    grammar.add("LPOS", 10, lambda g: [key(g), element(g), *search_options(g)])
    grammar.add("LPOP", 6, lambda g: [key(g), *pop_count(g)])
    grammar.add("RPOP", 6, lambda g: [key(g), *pop_count(g)])
    grammar.add("LMPOP", 5, counted_keys)
    grammar.add("LMOVE", 8, lambda g: [key(g), key(g), end(g), end(g)])
    grammar.add("RPOPLPUSH", 5, lambda g: [key(g), key(g)])
    grammar.add("BLPOP", 1, lambda g: [*keys(g), moment(g)], spoil=False)
    grammar.add("BRPOP", 1, lambda g: [*keys(g), moment(g)], spoil=False)
    grammar.add("BLMOVE", 1, lambda g: [key(g), key(g), end(g), end(g), moment(g)], spoil=False)
    grammar.add("BRPOPLPUSH", 1, lambda g: [key(g), key(g), moment(g)], spoil=False)
    grammar.add("BLMPOP", 1, lambda g: [moment(g), *counted_keys(g)], spoil=False)
