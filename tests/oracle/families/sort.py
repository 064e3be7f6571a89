"""SORT and SORT_RO, over keys of their own and over whatever the other families leave in theirs.

Left out is what Redis leaves open: the order of a set that is not sorted, and that of elements whose texts, found by a
pattern, are equal (each weight is given once)."""

NUMBERS = ["1", "2", "3", "10", "-5", "0", "1.5", "-0.25", "1e3", "7", "8", "inf", "-inf", "0x10", "9007199254740993"]


def number(g):
    if g.chance(0.02):
        return g.pick("x", "", " 5", "5 ", "nan", "--1")
    return g.pick(*NUMBERS)


def source(g):
    return g.pick("n0", "n1", "n2", "n3", "ns", "nz") if g.chance(0.85) else g.key()


def pattern(g):
    return g.pick("w_*", "w_*", "t_*", "*", "#", "none_*", "w_*->", "*_w", "h_*->f", "h_*->absent", "w_*->f", "nosort", "", "a*b*")


def options(g, may_store):
    words = []
    for _ in range(g.below(5)):
        choices = [["ASC"], ["DESC"], ["desc"], ["ALPHA"], ["LIMIT", g.small(4), g.small(8)], ["GET", pattern(g)], ["GET", "#"],
                   ["BY", g.pick("nosort", "w_*", "t_*", "none_*")], ["by", pattern(g)]]
        if g.chance(0.05):
            choices += [["LIMIT", "0"], ["BY"], ["what"], ["STORE"]]
        if may_store and g.chance(0.3):
            choices += [["STORE", source(g)], ["store", g.key()]]
        words += g.pick(*choices)
    # Equal texts by a pattern have no order, and are many where there is nothing.
    if "ALPHA" in words and {"BY", "by"} & set(words):
        words += ["BY", "nosort"]
    return words


def sort(g, may_store):
    name, words = source(g), options(g, may_store)
    by = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("BY", "by")]
    if name not in ("n0", "n1", "n2", "n3", "nz"):
        # It may be a set.
        words = [word for word in words if word not in ("BY", "by")] if any("*" not in pattern for pattern in by) else words
    return [name, *words]


def add_to(grammar):
    grammar.add("RPUSH", 8, lambda g: [f"n{g.below(3)}", *[number(g) for _ in range(1 + g.below(5))]])
    grammar.add("RPUSH", 2, lambda g: ["n3", *[g.word() for _ in range(1 + g.below(5))]])
    grammar.add("LTRIM", 2, lambda g: [f"n{g.below(4)}", "0", str(g.below(30))])
    grammar.add("SADD", 4, lambda g: ["ns", *[number(g) for _ in range(1 + g.below(5))]])
    grammar.add("SREM", 2, lambda g: ["ns", *[number(g) for _ in range(1 + g.below(5))]])
    grammar.add("ZADD", 4, lambda g: ["nz", str(g.below(20)), number(g)])
    grammar.add("ZREM", 2, lambda g: ["nz", number(g)])
    grammar.add("HSET", 4, lambda g: ["h_" + g.pick(*NUMBERS), "f", number(g)])
    grammar.add("DEL", 2, lambda g: [g.pick("n0", "n1", "n2", "n3", "ns", "nz")])
    grammar.add("SET", 6, lambda g: ["w_" + g.pick(*NUMBERS), number(g)])
    grammar.add("SET", 4, lambda g: ["t_" + g.pick(*NUMBERS), g.value()])
    grammar.add("SORT", 14, lambda g: sort(g, True))
    grammar.add("SORT_RO", 8, lambda g: sort(g, False))
