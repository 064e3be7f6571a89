"""All commands on places. Members with the same place come in no order when they are sorted by distance and cut by COUNT, so places are drawn
from the whole range of doubles."""

UNITS = ("m", "km", "ft", "mi", "KM", "M")
CITIES = [("13.361389", "38.115556"), ("15.087269", "37.502669"), ("-122.27652", "37.805186"), ("179.9", "10.5"), ("-179.9", "10.4"),
          ("0.1", "84.9"), ("10", "-85"), ("2.3522", "48.8566"), ("180", "85.05"), ("-180", "-85.05")]


def key(g):
    return g.key() if g.chance(0.02) else f"geo{g.below(4)}"


def member(g):
    return f"p{g.below(60)}" if g.chance(0.9) else g.pick("", "1", "77", "-5", "x" * 70)


def point(g):
    roll = g.random.random()
    if roll < 0.03:
        return [g.pick("181", "-180.1", "0", "x", "nan", "", "1e400"), g.pick("86", "-85.06", "0", "y", "inf")]
    if roll < 0.2:
        city = g.pick(*CITIES)
        return [repr(max(-180.0, min(180.0, float(city[0]) + g.random.uniform(-1e-3, 1e-3)))),
                repr(max(-85.051, min(85.051, float(city[1]) + g.random.uniform(-1e-3, 1e-3))))]
    if roll < 0.6:
        return [repr(g.random.uniform(10, 16)), repr(g.random.uniform(35, 40))]
    return [repr(g.random.uniform(-180, 180)), repr(g.random.uniform(-85, 85))]


def unit(g):
    return g.pick("yard", "") if g.chance(0.02) else g.pick(*UNITS)


def length(g):
    if g.chance(0.03):
        return g.pick("-1", "x", "", "nan", "inf", "0")
    return g.pick(str(g.below(1000)), repr(g.random.uniform(0, 500)), str(10 ** g.below(9)), str(g.below(20000)))


def geoadd(g):
    words = [key(g)]
    words += [name for name, chance in (("NX", 0.1), ("XX", 0.1), ("CH", 0.2)) if g.chance(chance)]
    for _ in range(1 + g.below(6)):
        words += [*point(g), member(g)]
    return words


def order(g):
    return [g.pick("ASC", "DESC", "asc")] if g.chance(0.6) else []


def count(g):
    if g.chance(0.6):
        return []
    return ["COUNT", g.small(8), *(["ANY"] if g.chance(0.3) else [])] if g.chance(0.97) else ["ANY"]


def details(g):
    return [name for name in ("WITHDIST", "WITHHASH", "WITHCOORD") if g.chance(0.3)]


def shuffled(g, *parts):
    parts = list(parts)
    g.random.shuffle(parts)
    return [word for part in parts for word in part]


def centre(g):
    return ["FROMMEMBER", member(g)] if g.chance(0.4) else ["FROMLONLAT", *point(g)]


def shape(g):
    return ["BYRADIUS", length(g), unit(g)] if g.chance(0.5) else ["BYBOX", length(g), length(g), unit(g)]


def store(g):
    return [g.pick("STORE", "STOREDIST"), f"found{g.below(2)}"] if g.chance(0.15) else []


def add_to(grammar):
    grammar.add("GEOADD", 25, geoadd)
    grammar.add("GEODIST", 8, lambda g: [key(g), member(g), member(g), *([unit(g)] if g.chance(0.7) else [])])
    grammar.add("GEOHASH", 5, lambda g: [key(g), *[member(g) for _ in range(g.below(4))]])
    grammar.add("GEOPOS", 5, lambda g: [key(g), *[member(g) for _ in range(g.below(4))]])
    grammar.add("GEOSEARCH", 25, lambda g: [key(g), *shuffled(g, centre(g), shape(g), order(g), count(g), details(g))])
    grammar.add("GEOSEARCHSTORE", 4, lambda g: [f"found{g.below(2)}", key(g), *shuffled(g, centre(g), shape(g), order(g), count(g),
                                                ["STOREDIST"] if g.chance(0.3) else [])], spoil=False)
    for name in ("GEORADIUS", "GEORADIUS_RO"):
        grammar.add(name, 8, lambda g, stores=name == "GEORADIUS":
                    [key(g), *point(g), length(g), unit(g), *shuffled(g, order(g), count(g), details(g), store(g) if stores else [])])
    for name in ("GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"):
        grammar.add(name, 8, lambda g, stores=name == "GEORADIUSBYMEMBER":
                    [key(g), member(g), length(g), unit(g), *shuffled(g, order(g), count(g), details(g), store(g) if stores else [])])
    grammar.add("ZRANGE", 4, lambda g: [f"found{g.below(2)}", "0", "-1", "WITHSCORES"])
    grammar.add("ZRANGE", 4, lambda g: [f"geo{g.below(4)}", "0", "-1", "WITHSCORES"])
    grammar.add("ZREM", 4, lambda g: [f"geo{g.below(4)}", member(g)])
    grammar.add("DEL", 2, lambda g: [f"geo{g.below(4)}"])
    grammar.add("SET", 1, lambda g: [f"geo{g.below(4)}", "text"])
