"""SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP, BITFIELD, BITFIELD_RO."""


def bit_offset(g):
    if g.chance(0.05):
        return g.pick("4294967296", "-1", "9223372036854775807", "x", "", "1.5", "18446744073709551616")
    if g.chance(0.03):
        return str(g.below(3000000))  # of a sparse value, which we make of pages
    return str(g.below(1000) if g.chance(0.95) else g.below(100000))


def far_bit_offset(g):
    """For reads, which do not grow the string."""
    return g.pick("4294967295", "4294967296", "-1", "100000000") if g.chance(0.1) else bit_offset(g)


def bound(g):
    return str(g.below(400000) - 100000) if g.chance(0.08) else g.small(40)


def bit_range(g):
    roll = g.random.random()
    if roll < 0.25:
        return []
    if roll < 0.35:
        return [bound(g)]
    bounds = [bound(g), bound(g)]
    return bounds + [g.pick("BIT", "BYTE", "bit", "what")] if roll > 0.65 else bounds


def bit_operation(g):
    operation = g.pick("AND", "OR", "XOR", "NOT", "and", "what")
    sources = g.keys(1) if operation == "NOT" and g.chance(0.9) else g.keys(4)
    return [operation, g.key(), *sources]


def field_type(g):
    if g.chance(0.05):
        return g.pick("u64", "i65", "u0", "i0", "x8", "u", "8", "", "u-1", "i063")
    return g.pick("u", "i") + str(1 + g.below(63)) if g.chance(0.7) else g.pick("u8", "i8", "u1", "i64", "u63", "i16")


def field_offset(g):
    if g.chance(0.04):
        return g.pick("-1", "#-1", "x", "#", "", "4294967296", "#9223372036854775807")
    return ("#" if g.chance(0.4) else "") + str(g.below(100) if g.chance(0.97) else g.below(1000000))


def field_operations(g, read_only=False):
    words = []
    for _ in range(1 + g.below(4)):
        roll = g.random.random()
        if roll < 0.35 or (read_only and roll < 0.95):
            words += ["GET", field_type(g), field_offset(g)]
        elif roll < 0.6:
            words += ["SET", field_type(g), field_offset(g), g.any_integer()]
        elif roll < 0.85:
            words += ["INCRBY", field_type(g), field_offset(g), g.any_integer()]
        else:
            words += ["OVERFLOW", g.pick("WRAP", "SAT", "FAIL", "wrap", "what")]
    return words


def add_to(grammar):
    grammar.add("SETBIT", 12, lambda g: [g.key(), bit_offset(g), g.pick("0", "1", "1", "1", "2", "x")])
    grammar.add("GETBIT", 8, lambda g: [g.key(), far_bit_offset(g)])
    grammar.add("BITCOUNT", 10, lambda g: [g.key(), *bit_range(g)])
    grammar.add("BITPOS", 10, lambda g: [g.key(), g.pick("0", "1", "1", "0", "2", "x"), *bit_range(g)])
    grammar.add("BITOP", 10, bit_operation)
    grammar.add("BITFIELD", 14, lambda g: [g.key(), *field_operations(g)])
    grammar.add("BITFIELD_RO", 4, lambda g: [g.key(), *field_operations(g, read_only=True)])
