"""PFADD, PFCOUNT, PFMERGE, PFDEBUG: the estimate and, through GET, the representation byte for byte."""


def sketch(g):
    """Keys of their own most of the time, or there would be nothing but type errors."""
    return g.key() if g.chance(0.05) else f"hll{g.below(6)}"


def elements(g):
    roll = g.random.random()
    if roll < 0.1:
        return []
    if roll < 0.97:
        return [str(g.below(5000)) for _ in range(1 + g.below(8))]
    # Enough to turn a sparse sketch into a dense one.
    first = g.below(100000)
    return [str(first + number) for number in range(1500)]


def broken(g):
    """Something that looks like a sketch, set as a string."""
    return [f"hll{g.below(6)}", g.pick(
        b"HYLL", b"HYLL\x00" + bytes(11), b"HYLL\x01" + bytes(11), b"HYLL\x02" + bytes(100), b"HYLL\x01\0\0\0" + bytes(8) + b"\x7f\xff",
        b"HYLL\x01\0\0\0" + bytes(8) + b"\x40", b"HYLL\x01\0\0\0" + bytes(8) + b"\x88" * 40, b"hyll" + bytes(20))]


def add_to(grammar):
    grammar.add("PFADD", 12, lambda g: [sketch(g), *elements(g)])
    grammar.add("PFCOUNT", 8, lambda g: [sketch(g) for _ in range(g.pick(1, 1, 2, 3))])
    grammar.add("PFMERGE", 5, lambda g: [sketch(g) for _ in range(g.pick(1, 2, 3))])
    grammar.add("GET", 4, lambda g: [sketch(g)])
    grammar.add("DEL", 2, lambda g: [sketch(g)])
    grammar.add("SET", 0.7, broken)
    grammar.add("PFDEBUG", 2, lambda g: [g.pick("ENCODING", "DECODE", "TODENSE", "GETREG", "what"), sketch(g)])
