"""All sorted set commands. Ranges of members only where all scores are equal: elsewhere they mean nothing."""

SCORES = ["0", "1", "2", "3", "-1", "0.5", "1.5", "-2.25", "3.14159", "1e3", "1e17", "-1e-7", "100", "1000000", "9007199254740993",
          "inf", "-inf", "+inf", "-0", "0.1", "1e300", "123456789.5"]
SCORES_WRONG = ["nan", "", "x", "1x", " 1", "1e", "(1", "--1"]
LIMITS_ODD = ["", "(", " 5", "((1", "nan", "(inf", "-inf", "+inf", "inf", "1e400", "x", "(x", "0x10"]


def key(g):
    if g.chance(0.03):
        return g.key()
    return f"z{g.below(8)}"


def equal_key(g):
    """Every member of these has score 0."""
    return f"equal:{g.below(3)}"


def keys(g, most=3):
    return [key(g) for _ in range(1 + g.below(most))]


def sources(g):
    """Sets may stand among them: all their scores are 1."""
    return [f"set{g.below(3)}" if g.chance(0.2) else key(g) for _ in range(1 + g.below(4))]


def score(g):
    if g.chance(0.02):
        return g.pick(*SCORES_WRONG)
    if g.chance(0.5):
        return str(g.below(20) - 4)
    if g.chance(0.3):
        return repr(g.random.uniform(-100, 100))
    return g.pick(*SCORES)


def member(g):
    roll = g.random.random()
    if roll < 0.6:
        return f"m{g.below(40)}"
    if roll < 0.8:
        return str(g.below(60) - 10)
    if roll < 0.9:
        return g.pick("", "-0", "01", "a", "ab", "abc", "abcd", b"\0", b"\xff\xfe", "4294967296", "9223372036854775807", "inf", "+")
    if roll < 0.97:
        return "x" * (55 + g.below(12)) + str(g.below(3))
    return "y" * (80 + g.below(200))


def pairs(g, most=4):
    words = []
    for _ in range(1 + g.below(most)):
        words += [score(g), member(g)]
    return words


def zadd(g):
    options = []
    for name, chance in (("NX", 0.12), ("XX", 0.12), ("GT", 0.1), ("LT", 0.1), ("CH", 0.3), ("INCR", 0.08)):
        if g.chance(chance):
            options.append(name)
    return [key(g), *options, *pairs(g, 1 if "INCR" in options and g.chance(0.9) else 4)]


def many(g):
    return [key(g), *pairs(g, 60)]


def equal_pairs(g):
    words = []
    for _ in range(1 + g.below(20)):
        words += ["0", member(g)]
    return [equal_key(g), *words]


def rank(g):
    return g.small(30)


def score_limit(g):
    if g.chance(0.08):
        return g.pick(*LIMITS_ODD)
    return g.pick("", "", "(") + score(g).replace("nan", "0")


def member_limit(g):
    if g.chance(0.3):
        return g.pick("-", "+")
    if g.chance(0.03):
        return g.pick("", "a", "++", "-x", "(", "[")
    text = member(g)
    first = g.pick("[", "(")
    return first.encode() + text if isinstance(text, bytes) else first + text


def limit(g):
    return ["LIMIT", g.small(5), g.small(10)] if g.chance(0.3) else []


def with_scores(g):
    return ["WITHSCORES"] if g.chance(0.5) else []


def shuffled(g, *parts):
    parts = list(parts)
    g.random.shuffle(parts)
    return [word for part in parts for word in part]


def zrange(g):
    roll = g.random.random()
    if roll < 0.4:
        return [key(g), rank(g), rank(g), *shuffled(g, with_scores(g), ["REV"] if g.chance(0.3) else [])]
    if roll < 0.75:
        return [key(g), score_limit(g), score_limit(g), "BYSCORE",
                *shuffled(g, with_scores(g), ["REV"] if g.chance(0.3) else [], limit(g))]
    if roll < 0.95:
        return [equal_key(g), member_limit(g), member_limit(g), "BYLEX", *shuffled(g, ["REV"] if g.chance(0.3) else [], limit(g))]
    return [equal_key(g), rank(g), rank(g), *limit(g), *with_scores(g), *g.pick([], ["BYLEX"], ["BYSCORE"], ["REV"])]


def zrangestore(g):
    words = [word for word in zrange(g) if word != "WITHSCORES"]
    target = equal_key(g) if str(words[0]).startswith("equal") else f"z{g.below(8)}"
    return [target, *words]


def combination(g, options=True, scores=True):
    names = sources(g)
    words = [str(len(names)) if g.chance(0.97) else g.small(4), *names]
    if options and g.chance(0.3):
        words += ["WEIGHTS", *[score(g) for _ in names]]
    if options and g.chance(0.4):
        words += ["AGGREGATE", g.pick("SUM", "MIN", "MAX", "sum", "AVG" if g.chance(0.05) else "max")]
    return words + (with_scores(g) if scores else [])


def intersection_count(g):
    names = sources(g)
    return [str(len(names)), *names, *(["LIMIT", g.small(5)] if g.chance(0.5) else [])]


def counted_pop(g):
    return [key(g), *([g.small(4)] if g.chance(0.6) else [])]


def many_pop(g):
    names = keys(g)
    return [str(len(names)) if g.chance(0.97) else g.small(3), *names, g.pick("MIN", "MAX"), *(["COUNT", g.small(4)] if g.chance(0.5) else [])]


def random_members(g):
    words = [key(g)]
    if g.chance(0.8):
        # Not far below 0: redis-server would reply as many.
        words.append(g.pick("x", "", "9223372036854775808", "-9223372036854775808") if g.chance(0.05) else str(g.below(101) - 50))
        if g.chance(0.5):
            words.append("WITHSCORES")
    return words


def scan(g):
    return [key(g), "0", *(["MATCH", g.pick("*", "m*", "?", "1*")] if g.chance(0.4) else []), "COUNT", "100000"]


def add_to(grammar):
    grammar.add("ZADD", 40, zadd)
    grammar.add("ZADD", 4, many)
    # Another spelling, so that these are never spoilt: all scores stay equal.
    grammar.add("zadd", 8, equal_pairs, spoil=False)
    grammar.add("ZCARD", 5, lambda g: [key(g)])
    grammar.add("ZSCORE", 12, lambda g: [key(g), member(g)])
    grammar.add("ZMSCORE", 6, lambda g: [key(g), *[member(g) for _ in range(1 + g.below(4))]])
    # Not spoilt: a third argument is one in 7.2 and an error in 7.0, which would then refuse the transaction.
    grammar.add("ZRANK", 8, lambda g: [key(g), member(g)], spoil=False)
    grammar.add("ZREVRANK", 8, lambda g: [key(g), member(g)], spoil=False)
    grammar.add("ZINCRBY", 12, lambda g: [key(g), score(g), member(g)])
    grammar.add("ZREM", 10, lambda g: [key(g), *[member(g) for _ in range(1 + g.below(4))]])
    grammar.add("ZCOUNT", 8, lambda g: [key(g), score_limit(g), score_limit(g)])
    grammar.add("ZLEXCOUNT", 6, lambda g: [equal_key(g), member_limit(g), member_limit(g)])
    grammar.add("ZRANGE", 25, zrange)
    grammar.add("ZRANGESTORE", 8, zrangestore, spoil=False)
    grammar.add("ZREVRANGE", 8, lambda g: [key(g), rank(g), rank(g), *with_scores(g)])
    grammar.add("ZRANGEBYSCORE", 10, lambda g: [key(g), score_limit(g), score_limit(g), *shuffled(g, with_scores(g), limit(g))])
    grammar.add("ZREVRANGEBYSCORE", 10, lambda g: [key(g), score_limit(g), score_limit(g), *shuffled(g, with_scores(g), limit(g))])
    grammar.add("ZRANGEBYLEX", 6, lambda g: [equal_key(g), member_limit(g), member_limit(g), *limit(g)])
    grammar.add("ZREVRANGEBYLEX", 6, lambda g: [equal_key(g), member_limit(g), member_limit(g), *limit(g)])
    grammar.add("ZREMRANGEBYRANK", 2, lambda g: [key(g), rank(g), rank(g)])
    grammar.add("ZREMRANGEBYSCORE", 2, lambda g: [key(g), score_limit(g), score_limit(g)])
    grammar.add("ZREMRANGEBYLEX", 2, lambda g: [equal_key(g), member_limit(g), member_limit(g)])
    grammar.add("ZPOPMIN", 5, counted_pop)
    grammar.add("ZPOPMAX", 5, counted_pop)
    grammar.add("ZMPOP", 4, many_pop)
    grammar.add("BZPOPMIN", 1, lambda g: [*keys(g), "0.01"], spoil=False)
    grammar.add("BZPOPMAX", 1, lambda g: [*keys(g), "0.01"], spoil=False)
    grammar.add("BZMPOP", 1, lambda g: ["0.01", *many_pop(g)], spoil=False)
    grammar.add("ZRANDMEMBER", 5, random_members, spoil=False)
    grammar.add("ZSCAN", 5, scan, spoil=False)
    for name in ("ZUNION", "ZINTER"):
        grammar.add(name, 5, combination)
    grammar.add("ZDIFF", 4, lambda g: combination(g, options=False))
    grammar.add("ZINTERCARD", 4, intersection_count)
    for name in ("ZUNIONSTORE", "ZINTERSTORE"):
        grammar.add(name, 3, lambda g: [f"z{g.below(8)}", *combination(g, scores=False)], spoil=False)
    grammar.add("ZDIFFSTORE", 3, lambda g: [f"z{g.below(8)}", *combination(g, options=False, scores=False)], spoil=False)
    grammar.add("SADD", 4, lambda g: [f"set{g.below(3)}", *[member(g) for _ in range(1 + g.below(6))]], spoil=False)
    grammar.add("SREM", 2, lambda g: [f"set{g.below(3)}", member(g)], spoil=False)
    # What else happens to keys.
    grammar.add("SET", 1, lambda g: [f"z{g.below(8)}", "text"])
    grammar.add("DEL", 6, lambda g: [key(g)])
    grammar.add("OBJECT", 3, lambda g: ["ENCODING", key(g)])
    grammar.add("TYPE", 3, lambda g: [key(g)])
    grammar.add("COPY", 2, lambda g: [f"z{g.below(8)}", f"z{g.below(8)}", *(["REPLACE"] if g.chance(0.7) else [])])
    grammar.add("RENAME", 2, lambda g: [f"z{g.below(8)}", f"z{g.below(8)}"], spoil=False)
    grammar.add("EXPIRE", 2, lambda g: [key(g), g.expire_time(1, False)])
    grammar.add("PERSIST", 1, lambda g: [key(g)])
