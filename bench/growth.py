"""What a server does while its keyspace grows, shrinks and expires. Part of bench/compare.

load    20 M keys at full speed while another connection sends PING back to back: the slowest PING, and the peak of the
        resident memory against what remains.
shrink  a random 80 % of 10 M keys deleted: resident memory over a minute of traffic, against a fresh server that is
        loaded with as many keys as were left.
expiry  10 M keys that expire in the same millisecond: how long until DBSIZE says 0, and how slow PING and GET of
        another connection get meanwhile.

The prober shares its CPU with the load, so it runs with realtime priority where that is permitted; otherwise its
slowest reply contains the scheduler's time slices too, and the report says so.
"""

import contextlib
import math
import os
import re
import time

from peers import MeasureError

LOAD_KEYS = 20_000_000
SHRINK_KEYS = 10_000_000
EXPIRY_KEYS = 10_000_000

PING_TARGET_MS = 5
PEAK_TARGET = 1.10
SHRINK_TARGET = 1.25
SHRINK_SECONDS = 60
SHRINK_SAMPLES = [0, 1, 2, 5, 10, 15, 20, 30, 45, 60]
EXPIRY_TARGET_SECONDS = 10
EXPIRY_LIMIT_SECONDS = 120
EXPIRY_P99_TARGET_MS = 2

FILL = ["--fill", "--connections", "16", "--pipeline", "64", "--value-size", "32"]
PROBE = ["--connections", "1", "--pipeline", "1", "--seconds", "100000"]


def realtime_permitted():
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


def measure_load(bench, peer, scale):
    keys = int(LOAD_KEYS * scale)
    with bench.start(peer) as server:
        empty = server.resident_bytes()
        waited = server.scheduled_ns()[1]
        with bench.load(server, [*PROBE, "--mix", "ping=1"], realtime=True) as prober:
            with bench.load(server, [*FILL, "--keys", str(keys)]) as load:
                report = load.finish()
            pings = prober.finish(stop=True)
        waited = server.scheduled_ns()[1] - waited
        final = server.settled_resident_bytes()
        # The kernel's own high-water mark: no sample can miss the peak.
        peak = server.resident_peak_bytes()
    return {
        "keys": keys,
        "seconds": report["seconds"],
        "server_waited": waited / 1e9 / report["seconds"],
        "pings": pings["operations"],
        "ping_p99_ms": pings["latency_us"]["p99"] / 1000,
        "ping_max_ms": pings["latency_us"]["max"] / 1000,
        "empty_bytes": empty,
        "final_bytes": final,
        "peak_bytes": peak,
    }


def sample_memory(server, started):
    """[[seconds, resident bytes]] at the times of SHRINK_SAMPLES."""
    samples = []
    for moment in SHRINK_SAMPLES:
        time.sleep(max(0, started + moment - time.monotonic()))
        samples.append([moment, server.resident_bytes()])
    return samples


def count_keys(server):
    with contextlib.closing(server.client()) as client:
        return client.command("DBSIZE")


def measure_shrink(bench, peer, scale):
    keys = int(SHRINK_KEYS * scale)
    key_range = ["--keys", str(keys)]
    # Drawing n ln(5) keys of n with repetition misses each one with probability 1/5.
    deletions = int(keys * math.log(5))
    with bench.start(peer) as server:
        bench.run(server, [*FILL, *key_range])
        full = server.settled_resident_bytes()
        bench.run(server, ["--mix", "del=1", "--requests", str(deletions), *key_range, "--connections", "16",
                           "--pipeline", "64"])
        started = time.monotonic()
        left = count_keys(server)
        # Traffic that touches and rewrites what is left, and creates nothing.
        traffic = ["--command", "GET __key__", "--command", "SET __key__ __value__ XX", *key_range,
                   "--connections", "16", "--pipeline", "16", "--seconds", str(SHRINK_SECONDS + 2)]
        with bench.load(server, traffic) as load:
            samples = sample_memory(server, started)
            report = load.finish(stop=True)
        if count_keys(server) != left:
            raise MeasureError(f"{peer}: the traffic changed the number of keys")
    with bench.start(peer) as server:
        bench.run(server, [*FILL, "--keys", str(left)])
        fresh = server.settled_resident_bytes()
    return {
        "keys": keys,
        "left": left,
        "full_bytes": full,
        "fresh_bytes": fresh,
        "samples": samples,
        "traffic_operations_per_second": report["operations_per_second"],
    }


def wait_until_empty(server, limit):
    """Seconds on the wall clock (as `limit`) when DBSIZE first said 0; None when it did not within the limit."""
    with contextlib.closing(server.client()) as client:
        while time.time() < limit:
            if client.command("DBSIZE") == 0:
                return time.time()
            time.sleep(0.01)
    return None


def fill_for_expiry(bench, server, keys):
    """Loads keys that all expire at one moment of the wall clock, and returns it."""
    ahead = 5 + keys / 400_000
    for _ in range(3):
        started = time.time()
        moment = started + ahead
        command = f"SET __key__ __value__ PXAT {int(moment * 1000)}"
        bench.run(server, [*FILL, "--command", command, "--keys", str(keys)])
        if time.time() < moment - 0.5:
            return moment
        # The first of them expired before the last was there: the next try knows how long loading takes.
        ahead = 5 + 1.3 * (time.time() - started)
    raise MeasureError(f"{server.name}: the keys expired before they were all loaded")


def measure_expiry(bench, peer, scale):
    keys = int(EXPIRY_KEYS * scale)
    with bench.start(peer) as server:
        moment = fill_for_expiry(bench, server, keys)
        loaded = count_keys(server)
        time.sleep(max(0, moment - time.time()))
        probe = [*PROBE, "--mix", "ping=1,get=1", "--keys", str(keys)]
        waited = server.scheduled_ns()[1]
        with bench.load(server, probe, realtime=True) as prober:
            ended = wait_until_empty(server, moment + EXPIRY_LIMIT_SECONDS)
            report = prober.finish(stop=True)
        waited = server.scheduled_ns()[1] - waited
        left = count_keys(server)
    return {
        "keys": loaded,
        "seconds": None if ended is None else ended - moment,
        "left": left,
        "server_waited": waited / 1e9 / report["seconds"],
        "latency_ms": {name: value / 1000 for name, value in report["latency_us"].items()},
        "probes": report["operations"],
    }


PARTS = {"load": measure_load, "shrink": measure_shrink, "expiry": measure_expiry}


def measure(bench, peers, scale, pattern, say):
    """{part: {peer: measurements}} of the parts whose name matches the pattern."""
    results = {"realtime_prober": realtime_permitted()}
    if not results["realtime_prober"]:
        say("growth: no permission for a realtime prober, its latencies include time slices of the load generator")
    for part, function in PARTS.items():
        if not re.search(pattern, part):
            continue
        results[part] = {}
        for peer in peers:
            say(f"growth: {part}, {peer}")
            results[part][peer] = function(bench, peer, scale)
    return results


def waited_max(results):
    """The largest share of time a server was ready to run and another process had its CPU."""
    return max((one.get("server_waited", 0) for part in PARTS for one in results.get(part, {}).values()), default=0)


def verdict(good):
    return "pass" if good else "MISS"


def load_rows(peer, one):
    peak = one["peak_bytes"] / one["final_bytes"]
    what = f"load {one['keys']:,} keys in {one['seconds']:.1f} s"
    return [
        [f"{what}: slowest of {one['pings']:,} PINGs (p99 {one['ping_p99_ms']:.2f} ms)", peer,
         f"{one['ping_max_ms']:.2f} ms", f"< {PING_TARGET_MS} ms", verdict(one["ping_max_ms"] < PING_TARGET_MS)],
        [f"{what}: peak RSS / final RSS of {one['final_bytes'] / 1e6:,.0f} MB", peer, f"{peak:.3f}",
         f"<= {PEAK_TARGET:.2f}", verdict(peak <= PEAK_TARGET)],
    ]


def shrink_rows(peer, one):
    what = f"delete 80 % of {one['keys']:,} keys ({one['left']:,} left)"
    rows = []
    for moment, resident in one["samples"]:
        ratio = resident / one["fresh_bytes"]
        last = moment == one["samples"][-1][0]
        rows.append([f"{what}: after {moment} s, RSS / fresh load of {one['fresh_bytes'] / 1e6:,.0f} MB", peer,
                     f"{ratio:.3f}", f"<= {SHRINK_TARGET:.2f}" if last else "",
                     verdict(ratio <= SHRINK_TARGET) if last else ""])
    return rows


def expiry_rows(peer, one):
    what = f"{one['keys']:,} keys expire at once"
    latency = one["latency_ms"]
    took = f"> {EXPIRY_LIMIT_SECONDS} s ({one['left']:,} left)" if one["seconds"] is None else f"{one['seconds']:.2f} s"
    return [
        [f"{what}: until DBSIZE is 0", peer, took, f"<= {EXPIRY_TARGET_SECONDS} s",
         verdict(one["seconds"] is not None and one["seconds"] <= EXPIRY_TARGET_SECONDS)],
        [f"{what}: p99 of {one['probes']:,} PING and GET meanwhile (max {latency['max']:.2f} ms)", peer,
         f"{latency['p99']:.3f} ms", f"< {EXPIRY_P99_TARGET_MS} ms", verdict(latency["p99"] < EXPIRY_P99_TARGET_MS)],
    ]


def table(results):
    """Header and rows for printing."""
    rows = []
    for part, function in (("load", load_rows), ("shrink", shrink_rows), ("expiry", expiry_rows)):
        for peer, one in results.get(part, {}).items():
            rows += function(peer, one)
    return ["growth", "server", "measured", "target", "result"], rows
