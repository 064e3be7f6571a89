"""The commands of the collection types beside Redis: server CPU per operation, resident bytes per element.

A group is a dataset and the rows measured on it, in order; each peer gets a fresh server for it, and the peers take
turns group by group. A row sends a fixed number of requests, so all peers do the same work and a row that takes
elements away (SPOP, LPOP, ZPOPMIN) never runs dry: the counts below leave room. 50 connections, pipeline 16, unless a
row has a `driver` (see drivers.py).

"Small" collections are many keys of ten elements, or of a hundred where a hundred are read. What the members are:
twelve digits of a random or a counted number behind a prefix; scores are random integers.

The aim of a row follows from what it costs: POINT where Redis says O(1) or O(log n), REPLY where composing and sending
the reply is most of the work, SCAN for the rest, which only must not be slower than Redis.
"""

import contextlib
import re
import statistics

import drivers
from peers import MeasureError

POINT, REPLY, SCAN = 0.5, 0.8, 1.0

LOAD = ["--connections", "50", "--pipeline", "16"]
FILL = ["--fill", "--connections", "8", "--pipeline", "64"]
# What must arrive in order goes through one connection.
FILL_IN_ORDER = ["--fill", "--connections", "1", "--pipeline", "64"]

ELEMENTS = 1_000_000
SMALL_KEYS = 100_000
HUNDREDS_KEYS = 10_000
POINT_REQUESTS = 400_000
REPLY_REQUESTS = 60_000
# --short: every count is divided by this. 100,000 elements are still past every packed encoding.
SHORT_DIVISOR = 10
SHORT_FLOOR = 16


def repeated(head, tail, count):
    """`head`, then `tail` with {:012} numbered from 0."""
    return " ".join([head] + [tail.format(number) for number in range(count)])


def point(name, *commands, options=(), requests=POINT_REQUESTS, aim=POINT):
    words = [word for command in commands for word in ("--command", command)]
    return {"name": name, "aim": aim, "requests": requests, "load": [*words, *options]}


def reply(name, *commands, options=(), requests=REPLY_REQUESTS):
    return point(name, *commands, options=options, requests=requests, aim=REPLY)


def fill(command, keys, *options, in_order=False):
    return {"load": [*(FILL_IN_ORDER if in_order else FILL), "--keys", str(keys), "--command", command, *options]}


def repeat(command, requests, *options):
    """For a command that has no key to count."""
    return {"load": ["--connections", "1", "--pipeline", "64", "--requests", str(requests), "--command", command,
                     *options]}


def hash_groups(n):
    one = ["--key-format", "%012d", "--value-size", "20", "--keys", str(n(ELEMENTS))]
    small = ["--keys", str(n(SMALL_KEYS)), "--value-size", "16"]
    # Half of the fields written are new.
    twice = ["--fields", str(2 * n(ELEMENTS)), "--value-size", "20"]
    return [
        {"setup": [fill(repeated("HSET __key__ n 0", "f:{:012} __value__", 9), n(SMALL_KEYS), "--value-size", "16")],
         "rows": [
             point("HGET, 10 fields", "HGET __key__ f:__field__", options=[*small, "--fields", "9"]),
             point("HSET, 10 fields", "HSET __key__ f:__field__ __value__", options=[*small, "--fields", "9"]),
             point("HINCRBY, 10 fields", "HINCRBY __key__ n 1", options=small),
             reply("HGETALL, 10 fields", "HGETALL __key__", options=small, requests=3 * REPLY_REQUESTS),
         ]},
        {"setup": [fill("HSET big __key__ __value__", n(ELEMENTS), "--key-format", "%012d", "--value-size", "20"),
                   fill("HSET counters __key__ __number__", n(ELEMENTS), "--key-format", "%012d")],
         "rows": [
             point("HGET, 1 M fields", "HGET big __key__", options=one),
             point("HINCRBY, 1 M fields", "HINCRBY counters __key__ 1", options=one),
             point("HSET, 1 M fields", "HSET big __field__ __value__", options=twice),
         ]},
    ]


def list_rows(key, what, middle, options):
    return [
        reply(f"LRANGE 100, {what}", f"LRANGE {key} 0 99", options=options),
        point(f"LINDEX mid, {what}", f"LINDEX {key} {middle}", options=options, requests=POINT_REQUESTS // 4),
        point(f"LPUSH, {what}", f"LPUSH {key} __value__", options=options),
        point(f"RPUSH, {what}", f"RPUSH {key} __value__", options=options),
        point(f"LPOP, {what}", f"LPOP {key}", options=options),
    ]


def list_groups(n):
    value = ["--value-size", "20"]
    return [
        {"setup": [fill("RPUSH __key__" + 100 * " __value__", n(HUNDREDS_KEYS), *value)],
         "rows": list_rows("__key__", "100 elements", 50, [*value, "--keys", str(n(HUNDREDS_KEYS))])},
        {"setup": [repeat("RPUSH big __value__", n(ELEMENTS), *value)],
         "rows": list_rows("big", "1 M elements", n(ELEMENTS) // 2, value)},
        {"setup": [], "rows": [
            {"name": "BLPOP hand-over (LPUSH wakes it)", "aim": POINT, "requests": 100_000,
             "driver": drivers.hand_over}]},
    ]


def set_groups(n):
    small = ["--keys", str(n(SMALL_KEYS)), "--fields", "20"]
    one = ["--fields", str(2 * n(ELEMENTS))]
    crossed = n(10_000)
    return [
        {"setup": [fill(repeated("SADD __key__", "mem:{:012}", 10), n(SMALL_KEYS))],
         "rows": [
             point("SISMEMBER, 10 members", "SISMEMBER __key__ mem:__field__", options=small),
             point("SADD, 10 members", "SADD __key__ mem:__field__", options=small),
             point("SPOP, 10 members", "SPOP __key__", options=small),
         ]},
        {"setup": [fill("SADD big __key__", n(ELEMENTS), "--key-format", "mem:%012d")],
         "rows": [
             point("SISMEMBER, 1 M members", "SISMEMBER big mem:__field__", options=one),
             point("SADD, 1 M members", "SADD big mem:__field__", options=one),
             point("SPOP, 1 M members", "SPOP big"),
         ]},
        # The two share half of their members.
        {"setup": [fill("SADD left __key__", crossed, "--key-format", "mem:%012d"),
                   fill("SADD right __key__", crossed // 2, "--key-format", "mem:%012d"),
                   fill("SADD right __key__", crossed // 2, "--key-format", "new:%012d")],
         "rows": [reply("SINTER, 10 k x 10 k", "SINTER left right", requests=2_000)]},
    ]


def sorted_set_groups(n):
    top = n(ELEMENTS)
    small = ["--keys", str(n(SMALL_KEYS)), "--fields", "10", "--integer-max", "1000"]
    hundreds = ["--keys", str(n(HUNDREDS_KEYS)), "--integer-max", "1000"]
    one = ["--fields", str(top), "--integer-max", str(top)]
    # Ranks spread over the set; a placeholder cannot be two numbers a hundred apart.
    ranks = [f"ZRANGE big {start} {start + 99}" for start in range(0, top - 99, max(1, (top - 99) // 16))][:16]
    return [
        {"setup": [fill(repeated("ZADD __key__", "__number__ mem:{:012}", 10), n(SMALL_KEYS), "--integer-max", "1000")],
         "rows": [
             point("ZSCORE, 10 members", "ZSCORE __key__ mem:__field__", options=small),
             point("ZRANK, 10 members", "ZRANK __key__ mem:__field__", options=small),
             point("ZADD, 10 members", "ZADD __key__ __number__ mem:__field__", options=small),
             point("ZINCRBY, 10 members", "ZINCRBY __key__ 3 mem:__field__", options=small),
             point("ZPOPMIN, 10 members", "ZPOPMIN __key__", options=small),
         ]},
        {"setup": [fill(repeated("ZADD __key__", "__number__ mem:{:012}", 100), n(HUNDREDS_KEYS), "--integer-max",
                        "1000")],
         "rows": [
             reply("ZRANGE 100 by rank, 100 members", "ZRANGE __key__ 0 99", options=hundreds),
             reply("ZRANGE 100 by score, 100 members", "ZRANGE __key__ 0 +inf BYSCORE LIMIT 0 100", options=hundreds),
         ]},
        {"setup": [fill("ZADD big __number__ __key__", top, "--key-format", "mem:%012d", "--integer-max", str(top))],
         "rows": [
             point("ZSCORE, 1 M members", "ZSCORE big mem:__field__", options=one),
             point("ZRANK, 1 M members", "ZRANK big mem:__field__", options=one),
             reply("ZRANGE 100 by rank, 1 M members", *ranks),
             reply("ZRANGE 100 by score, 1 M members", "ZRANGE big __number__ +inf BYSCORE LIMIT 0 100", options=one),
             point("ZADD, 1 M members", "ZADD big __number__ mem:__field__",
                   options=["--fields", str(2 * top), "--integer-max", str(top)]),
             point("ZINCRBY, 1 M members", "ZINCRBY big 1000 mem:__field__", options=one),
             point("ZPOPMIN, 1 M members", "ZPOPMIN big"),
         ]},
    ]


def stream_groups(n):
    pair = "f1 __value__ f2 __value__"
    value = ["--value-size", "8"]
    # Identifiers are times of 2001, in order, so that any of them can be named and `*` comes behind all of them.
    identifiers = ["--key-format", "1%012d", "--keys", str(n(ELEMENTS))]
    hundreds = ["--keys", str(n(HUNDREDS_KEYS)), *value]
    whole = fill(f"XADD big __key__ {pair}", n(ELEMENTS), "--key-format", "1%012d", *value, in_order=True)
    deliver = ["XREADGROUP", "GROUP", "group", "consumer", "COUNT", n(10_000), "STREAMS", "big", ">"]
    return [
        {"setup": [fill(f"XADD __key__ {number}-1 {pair}", n(HUNDREDS_KEYS), *value) for number in range(1, 101)],
         "rows": [
             reply("XRANGE 100, 100 entries", "XRANGE __key__ - + COUNT 100", options=hundreds, requests=30_000),
             point("XADD, 100 entries", f"XADD __key__ * {pair}", options=hundreds),
         ]},
        {"setup": [whole],
         "rows": [
             reply("XRANGE 100, 1 M entries", "XRANGE big __key__ + COUNT 100", options=identifiers, requests=30_000),
             point("XADD, 1 M entries", f"XADD big * {pair}", options=value),
         ]},
        # The two commands come at random; entries delivered beforehand see to it that XACK always finds one.
        {"setup": [whole, {"command": ["XGROUP", "CREATE", "big", "group", "0"]},
                   {"command": deliver}],
         "rows": [
             point("XREADGROUP one, XACK one, 1 M entries", "XREADGROUP GROUP group consumer COUNT 1 STREAMS big >",
                   "XACK big group __key__", options=[*identifiers, "--distribution", "sequential"]),
         ]},
    ]


def other_groups(n):
    # Points in a degree by a degree of France: 8,300 square kilometres.
    degree = ["--fields", "1000000000000"]
    place = "1.__field__ 47.__field__"
    hundreds = ["--keys", str(n(HUNDREDS_KEYS)), *degree]
    bits = 8 * n(ELEMENTS)
    small = ["--keys", str(n(SMALL_KEYS))]
    return [
        {"setup": [fill(repeated("GEOADD __key__", place + " mem:{:012}", 50), n(HUNDREDS_KEYS), *degree)],
         "rows": [reply("GEOSEARCH 10 km, 50 points", f"GEOSEARCH __key__ FROMLONLAT {place} BYRADIUS 10 km",
                        options=hundreds)]},
        {"setup": [fill(f"GEOADD big {place} __key__", n(ELEMENTS), "--key-format", "mem:%012d", *degree)],
         "rows": [reply("GEOSEARCH 300 m, 1 M points", f"GEOSEARCH big FROMLONLAT {place} BYRADIUS 300 m",
                        options=degree, requests=30_000)]},
        {"setup": [fill(repeated("PFADD __key__", "m:{:012}", 20), n(SMALL_KEYS)),
                   fill("PFADD big __key__", n(ELEMENTS)),
                   fill("SETBIT __key__ 1000 1", n(SMALL_KEYS), "--key-format", "bits:%012d"),
                   {"command": ["SETBIT", "bits", bits - 1, 1]}],
         "rows": [
             point("PFADD, sketches of 20", "PFADD __key__ m:__field__", options=[*small, "--fields", "40"]),
             point("PFADD, sketch of 1 M", "PFADD big m:__field__", options=degree),
             point("SETBIT, 125 bytes", "SETBIT bits:__key__ __number__ 1",
                   options=[*small, "--key-format", "%012d", "--integer-max", "1000"]),
             point("BITCOUNT, 125 bytes", "BITCOUNT bits:__key__", options=[*small, "--key-format", "%012d"]),
             point("SETBIT, 1 M bytes", "SETBIT bits __number__ 1", options=["--integer-max", str(bits - 1)]),
             point("BITCOUNT, 1 M bytes", "BITCOUNT bits", aim=SCAN, requests=5_000),
         ]},
        {"setup": [], "rows": [
            {"name": f"PUBLISH to {drivers.SUBSCRIBERS} subscribers", "aim": REPLY, "requests": 20_000,
             "driver": drivers.publish}]},
    ]


def groups(divisor, pattern):
    """The groups with a row that matches the pattern, and of their rows those; every count divided."""
    def n(count):
        return max(SHORT_FLOOR, count // divisor)
    found = []
    for make in (hash_groups, list_groups, set_groups, sorted_set_groups, stream_groups, other_groups):
        for group in make(n):
            rows = [dict(row, requests=n(row["requests"])) for row in group["rows"] if re.search(pattern, row["name"])]
            if rows:
                found.append(dict(group, rows=rows))
    return found


def set_up(bench, server, steps):
    with contextlib.closing(server.client()) as client:
        for step in steps:
            if "command" in step:
                client.command(*step["command"])
            else:
                bench.run(server, step["load"])


def measure_row(bench, server, row):
    run_before, waited_before = server.scheduled_ns()
    if "driver" in row:
        report = row["driver"](server, row["requests"])
    else:
        report = bench.run(server, [*LOAD, "--requests", str(row["requests"]), *row["load"]])
    run, waited = server.scheduled_ns()
    return {
        "cpu_us": (run - run_before) / 1000 / report["operations"],
        "operations": report["operations"],
        "operations_per_second": report["operations"] / report["seconds"],
        "server_waited": (waited - waited_before) / 1e9 / report["seconds"],
    }


def measure_group(bench, peer, group, results):
    """Appends to results[row][peer]: a measurement, or {"problem": why there is none}."""
    rows = list(group["rows"])
    try:
        with bench.start(peer) as server:
            set_up(bench, server, group["setup"])
            while rows:
                try:
                    one = measure_row(bench, server, rows[0])
                except (MeasureError, OSError) as problem:
                    server.check_alive()
                    one = {"problem": str(problem)}
                results[rows.pop(0)["name"]][peer].append(one)
    except (MeasureError, OSError) as problem:
        for row in rows:
            results[row["name"]][peer].append({"problem": str(problem)})


def measure(bench, peers, divisor, pattern, rounds, say):
    """{row name: {peer: [one measurement per round]}}; a row that cannot be measured does not end the others."""
    chosen = groups(divisor, pattern)
    results = {row["name"]: {peer: [] for peer in peers} for group in chosen for row in group["rows"]}
    for turn in range(rounds):
        for group in chosen:
            # Every other round in the opposite order, as in the speed table.
            for peer in peers if turn % 2 == 0 else reversed(peers):
                say(f"types: round {turn + 1} of {rounds}, {peer}: {', '.join(row['name'] for row in group['rows'])}")
                measure_group(bench, peer, group, results)
    return results


def problems(results):
    """One line per row and peer that could not be measured."""
    return [f"{name}, {peer}: {bad[0]}" for name, by_peer in results.items() for peer, measured in by_peer.items()
            if (bad := [one["problem"] for one in measured if "problem" in one])]


def waited_max(results):
    return max((one.get("server_waited", 0) for by_peer in results.values() for measured in by_peer.values()
                for one in measured), default=0)


def ratio_of(measured):
    """The median of the ratios within each round; None when a peer is missing or failed."""
    ratios = [terrace["cpu_us"] / redis["cpu_us"]
              for terrace, redis in zip(measured.get("terrace", []), measured.get("redis", []))
              if "cpu_us" in terrace and "cpu_us" in redis]
    return statistics.median(ratios) if ratios else None


def verdict(ratio, aim):
    if ratio is None:
        return ""
    return "pass" if ratio <= aim else "MISS" if ratio <= 1 else "MISS, above 1"


def median_of(measured, field):
    values = [one[field] for one in measured if field in one]
    return statistics.median(values) if values else None


def text(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def table(results):
    """Header and rows for printing, and how many of them are within their aim, above it, above 1."""
    aims = {row["name"]: row["aim"] for group in groups(1, "") for row in group["rows"]}
    lines, counts = [], {"pass": 0, "MISS": 0, "MISS, above 1": 0, "": 0}
    for name, measured in results.items():
        ratio = ratio_of(measured)
        counts[verdict(ratio, aims[name])] += 1
        lines.append([
            name, *(text(median_of(measured.get(peer, []), "cpu_us"), 3) for peer in ("redis", "terrace")),
            text(ratio, 3), f"<= {aims[name]:.1f}", verdict(ratio, aims[name]),
            *(text(median_of(measured.get(peer, []), "operations_per_second"), 0) for peer in ("redis", "terrace")),
        ])
    header = ["command", "redis us", "terrace us", "terrace/redis", "aim", "result", "redis op/s", "terrace op/s"]
    return header, lines, counts


# `requests` of `elements` each; scores are doubles without a short form.
MEMORY_ROWS = [
    {"name": "100 k hashes of 10 fields (8 B, 16 B), per field", "raw": 25.6, "aim": 34, "elements": 10,
     "requests": SMALL_KEYS, "make": fill,
     "command": repeated("HSET __key__", "f:{:06} __value__", 10), "options": ["--value-size", "16"]},
    {"name": "one hash, fields 12 B, values 20 B", "raw": 32, "aim": 42, "elements": 1, "requests": ELEMENTS,
     "make": fill, "command": "HSET big __key__ __value__", "options": ["--key-format", "%012d", "--value-size", "20"]},
    {"name": "one set, 16 B members", "raw": 16, "aim": 25, "elements": 1, "requests": ELEMENTS,
     "make": fill, "command": "SADD big __key__", "options": ["--key-format", "mem:%012d"]},
    {"name": "one sorted set, 16 B members", "raw": 24, "aim": 46, "elements": 1, "requests": ELEMENTS,
     "make": fill, "command": "ZADD big 0.__field__ __key__",
     "options": ["--key-format", "mem:%012d", "--fields", "1000000000000"]},
    {"name": "one list, 20 B elements", "raw": 20, "aim": 22.5, "elements": 1, "requests": ELEMENTS,
     "make": repeat, "command": "RPUSH big __value__", "options": ["--value-size", "20"]},
    {"name": "one stream, 2 fields of 8 B", "raw": 24, "aim": 30, "elements": 1, "requests": ELEMENTS,
     "make": repeat, "command": "XADD big * f1 __value__ f2 __value__", "options": ["--value-size", "8"]},
]


def measure_memory(bench, peers, divisor, pattern, say):
    """{row name: {peer: {"bytes_per_element": ..., "empty_bytes": ...}}}, or {"problem": ...} for a peer."""
    results = {}
    for row in MEMORY_ROWS:
        if not re.search(pattern, row["name"]):
            continue
        results[row["name"]] = {}
        requests = max(SHORT_FLOOR, row["requests"] // divisor)
        step = row["make"](row["command"], requests, *row["options"])
        for peer in peers:
            say(f"types_memory: {row['name']}, {peer}")
            try:
                with bench.start(peer) as server:
                    empty = server.settled_resident_bytes()
                    set_up(bench, server, [step])
                    used = server.settled_resident_bytes() - empty
                results[row["name"]][peer] = {"bytes_per_element": used / (requests * row["elements"]),
                                              "empty_bytes": empty}
            except (MeasureError, OSError) as problem:
                results[row["name"]][peer] = {"problem": str(problem)}
    return results


def memory_table(results):
    lines = []
    for row in MEMORY_ROWS:
        if row["name"] not in results:
            continue
        redis, terrace = (results[row["name"]].get(peer, {}).get("bytes_per_element") for peer in ("redis", "terrace"))
        ratio = terrace / redis if terrace is not None and redis else None
        lines.append([row["name"], row["raw"], text(redis, 1), text(terrace, 1), f"<= {row['aim']}", text(ratio, 2),
                      "" if terrace is None else "pass" if terrace <= row["aim"] else "MISS"])
    return ["data", "raw", "redis", "terrace", "aim", "terrace/redis", "result"], lines


def memory_problems(results):
    return [f"{name}, {peer}: {one['problem']}" for name, by_peer in results.items() for peer, one in by_peer.items()
            if "problem" in one]
