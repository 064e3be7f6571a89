"""What another connection notices while a command hits a big collection. Part of bench/compare.

A collection of 20 M elements is renamed, copied, deleted (DEL, UNLINK) and made to expire, while a prober sends PING
back to back; reported are p99.9 and the slowest of its PINGs, and how long the command itself took. What leaves its key
is freed in the background: the prober goes on until the resident memory stays as it is. `in memory` is the collection
in DRAM; `on a tier` is the same ten times larger than maxmemory.

The prober shares its CPU with nothing but the connection that sends the command. It and the server's worker run with
realtime priority where that is permitted: what is measured is for how long the worker is busy with something else, not
for how long the machine is.
"""

import contextlib
import os
import re
import time

from peers import MeasureError, RespClient

ELEMENTS = 20_000_000
PING_TARGET_MS = 3
COMMAND_SECONDS = 300
SETTLE_SECONDS, SETTLE_LIMIT_SECONDS = 1, 120
# What the prober needs to be in its stride: its process, its connection.
LEAD_SECONDS = 0.5
TIER_RATIO = 10

FILL = ["--fill", "--connections", "8", "--pipeline", "64", "--value-size", "20"]
PROBE = ["--connections", "1", "--pipeline", "1", "--seconds", "100000", "--mix", "ping=1"]

KINDS = {
    "hash": ["--command", "HSET big __key__ __value__", "--key-format", "%012d"],
    "sorted set": ["--command", "ZADD big __number__ __key__", "--key-format", "mem:%012d", "--integer-max",
                   str(ELEMENTS)],
    "list": ["--command", "RPUSH big __value__"],
    "stream": ["--command", "XADD big * f1 __value__"],
}
# In this order: each deletes what the one before it has made. The first shows what the machine itself does to a PING.
STEPS = [
    ("nothing", []),
    ("RENAME", [["RENAME", "big", "other"], ["RENAME", "other", "big"]] * 5),
    ("COPY", [["COPY", "big", "copy"]]),
    ("UNLINK", [["UNLINK", "copy"]]),
    ("COPY again", [["COPY", "big", "copy"]]),
    ("DEL", [["DEL", "copy"]]),
    ("EXPIRE", [["PEXPIRE", "big", "1"]]),
]


def settle(server):
    """Until the resident memory changes by less than a hundredth in a second."""
    limit = time.monotonic() + SETTLE_LIMIT_SECONDS
    before = 0
    while time.monotonic() < limit:
        now = server.resident_bytes()
        if abs(now - before) < max(now, before) / 100:
            return
        before = now
        time.sleep(SETTLE_SECONDS)


def make_realtime(server):
    """The thread that has run the most, which is the only worker."""
    def run_ns(task):
        with open(f"/proc/{server.pid}/task/{task}/schedstat") as file:
            return int(file.read().split()[0])
    worker = max(os.listdir(f"/proc/{server.pid}/task"), key=run_ns)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(int(worker), os.SCHED_FIFO, os.sched_param(1))


def measure_step(bench, server, commands):
    with bench.load(server, PROBE, realtime=True) as prober:
        time.sleep(LEAD_SECONDS)
        with contextlib.closing(RespClient(server.port, timeout=COMMAND_SECONDS)) as client:
            started = time.monotonic()
            for command in commands:
                client.command(*command)
            seconds = time.monotonic() - started
        settle(server)
        pings = prober.finish(stop=True)
    return {
        "seconds": seconds / max(1, len(commands)),
        "pings": pings["operations"],
        "p999_ms": pings["latency_us"]["p99.9"] / 1000,
        "max_ms": pings["latency_us"]["max"] / 1000,
    }


def to_tier(server):
    """Lowers maxmemory to a share of what the collection takes, and waits until that holds."""
    with contextlib.closing(server.client()) as client:
        memory = server.resident_bytes() // TIER_RATIO
        client.command("CONFIG", "SET", "maxmemory", memory)
        limit = time.monotonic() + SETTLE_LIMIT_SECONDS
        while server.resident_bytes() > memory * 1.05:
            if time.monotonic() > limit:
                raise MeasureError("the collection did not go to the tier")
            time.sleep(0.1)


def measure_kind(bench, peer, kind, elements, tiered, say):
    options = ["--dir", "{directory}", "--tier-path", "{directory}/tier", "--maxmemory", "16gb"] if tiered else []
    results = {}
    with bench.start(peer, options) as server:
        bench.run(server, [*FILL, "--keys", str(elements), *KINDS[kind]])
        if tiered:
            to_tier(server)
        make_realtime(server)
        for name, commands in STEPS:
            say(f"pauses: {kind}, {peer}, {'on a tier' if tiered else 'in memory'}, {name}")
            results[name] = measure_step(bench, server, commands)
        with contextlib.closing(server.client()) as client:
            if client.command("DBSIZE") != 0:
                raise MeasureError(f"{server.name}: keys are left")
    return results


def measure(bench, peers, scale, pattern, say):
    """{where: {kind: {peer: {step: measurements}}}} of what matches the pattern, as in `hash on a tier`."""
    results = {}
    elements = int(ELEMENTS * scale)
    for where, tiered in (("in memory", False), ("on a tier", True)):
        for kind in KINDS:
            if not re.search(pattern, f"{kind} {where}"):
                continue
            for peer in peers:
                if tiered and peer != "terrace":
                    continue
                one = measure_kind(bench, peer, kind, elements, tiered, say)
                results.setdefault(where, {}).setdefault(kind, {})[peer] = {"elements": elements, **one}
    return results


def table(results):
    """Header and rows for printing."""
    rows = []
    for where, kinds in results.items():
        for kind, by_peer in kinds.items():
            for peer, steps in by_peer.items():
                for name, _ in STEPS:
                    one = steps[name]
                    verdict = "" if name == "nothing" else "pass" if one["p999_ms"] < PING_TARGET_MS else "MISS"
                    rows.append([f"{kind} of {steps['elements']:,} {where}, {name}", peer,
                                 f"{one['seconds'] * 1000:,.1f} ms", f"{one['pings']:,}", f"{one['max_ms']:.2f} ms",
                                 f"{one['p999_ms']:.2f} ms", f"< {PING_TARGET_MS} ms" if verdict else "", verdict])
    return ["pauses", "server", "the command", "PINGs", "slowest", "p99.9", "target", "result"], rows
