"""Snapshots, the append-only file and restarts beside Redis.

save      BGSAVE of a loaded server: its time without load on one CPU and on two; under random overwrites at full speed
          its peak memory, the throughput, and what PING sees, each against the same load before
load      start from such a file, on two CPUs
always    appendfsync always, 50 connections, pipeline 1 and 16
everysec  server CPU of SET at pipeline 16 with the append-only file against without
replay    start from an append-only file without a base
restart   a dataset ten times maxmemory on a persistent tier: from exec to the first GET, after SHUTDOWN and after kill -9

All on the file system of --directory, the default being the one of temporary files.
"""

import contextlib
import os
import re
import shutil
import statistics
import tempfile
import time

from peers import MeasureError, RespError

SAVE_KEYS, VALUE_BYTES = 2_000_000, 200
REPLAY_SETS = 10_000_000
RESTART_BYTES, RESTART_MEMORY, RESTART_VALUE = 10 << 30, 1 << 30, 1000
SECONDS = 5
SETTLE_SECONDS = 3
WATCH_SECONDS = 0.05
LIMIT_SECONDS = 600

FILL = ["--fill", "--connections", "8", "--pipeline", "64"]
OVERWRITE = ["--mix", "set=1", "--connections", "16", "--pipeline", "16"]
PROBE = ["--mix", "ping=1", "--connections", "1", "--pipeline", "1"]
AOF = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]


def ask(server, *words):
    with contextlib.closing(server.client()) as client:
        return client.command(*words)


def info(server, section, field):
    text = ask(server, "INFO", section).decode()
    found = re.search(rf"^{field}:(.*)\r$", text, re.MULTILINE)
    return found.group(1) if found else None


def wait_for_info(server, section, field, value):
    deadline = time.monotonic() + LIMIT_SECONDS
    while info(server, section, field) != value:
        if time.monotonic() > deadline:
            raise MeasureError(f"{server.name}: {field} did not become {value}")
        time.sleep(0.01)


def sizes(scale):
    keys = max(1000, int(SAVE_KEYS * scale))
    return ["--keys", str(keys), "--value-size", str(VALUE_BYTES)]


def is_saving(server):
    return info(server, "persistence", "rdb_bgsave_in_progress") == "1"


def timed_save(server):
    """Seconds of a BGSAVE, from asking to its end."""
    started = time.monotonic()
    ask(server, "BGSAVE")
    while is_saving(server):
        time.sleep(0.002)
    if info(server, "persistence", "rdb_last_bgsave_status") != "ok":
        raise MeasureError(f"{server.name}: BGSAVE failed: {server.last_log_line()}")
    return time.monotonic() - started


def save_without_load(bench, peer, scale, cpus):
    with bench.start(peer, cpus=cpus) as server:
        bench.run(server, [*FILL, *sizes(scale)])
        return min(timed_save(server) for _ in range(2))


def resident_with_children(server):
    """RSS of the server and of what it has forked, counting what they share once (PSS)."""
    total = 0
    children = f"/proc/{server.pid}/task/{server.pid}/children"
    with open(children) as file:
        pids = [server.pid, *(int(pid) for pid in file.read().split())]
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
            total += next(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
    return total


def watched_peak(server):
    """Peak memory of a BGSAVE. Asking for it has the kernel hold the address space for milliseconds, so nothing else can
    be measured meanwhile."""
    ask(server, "BGSAVE")
    peak = 0
    while is_saving(server):
        peak = max(peak, resident_with_children(server))
        time.sleep(WATCH_SECONDS)
    return peak


def save_under_load(bench, peer, scale):
    """The server has a CPU, the load another one; a snapshot takes what it gets of both. It is taken twice: for its
    throughput and what PING sees, and for its memory."""
    both = {bench.server_cpu, bench.load_cpu}
    with bench.start(peer, cpus=both) as server:
        bench.run(server, [*FILL, *sizes(scale)])
        time.sleep(SETTLE_SECONDS)
        cpu = serving_ns(server)
        before = bench.run(server, [*OVERWRITE, *sizes(scale), "--seconds", str(SECONDS)])
        cpu_before = (serving_ns(server) - cpu) / before["operations"]
        pings_before = with_pings(bench, server, scale)
        base = resident_with_children(server)
        with bench.load(server, [*OVERWRITE, *sizes(scale), "--seconds", str(LIMIT_SECONDS)]) as load:
            with bench.load(server, [*PROBE, "--seconds", str(LIMIT_SECONDS)], realtime=True) as pings:
                time.sleep(0.5)
                started = time.monotonic()
                operations, cpu = int(info(server, "stats", "total_commands_processed")), serving_ns(server)
                ask(server, "BGSAVE")
                while is_saving(server):
                    time.sleep(WATCH_SECONDS)
                seconds = time.monotonic() - started
                operations = int(info(server, "stats", "total_commands_processed")) - operations
                cpu_during = (serving_ns(server) - cpu) / operations
                during = pings.finish(stop=True)
            peak = watched_peak(server)
            load.finish(stop=True)
    return {
        "seconds": seconds,
        "peak_ratio": max(peak, base) / base,
        "throughput_ratio": operations / seconds / before["operations_per_second"],
        "own_core_ratio": cpu_before / cpu_during,
        "ping_p999_us": [pings["latency_us"]["p99.9"] for pings in (pings_before, during)],
        "ping_p999_ratio": during["latency_us"]["p99.9"] / pings_before["latency_us"]["p99.9"],
        "ping_max_more_ms": (during["latency_us"]["max"] - pings_before["latency_us"]["max"]) / 1000,
    }


def serving_ns(server):
    """CPU of the thread that serves: the first one, of both."""
    with open(f"/proc/{server.pid}/task/{server.pid}/schedstat") as file:
        return int(file.read().split()[0])


def with_pings(bench, server, scale):
    """What the prober sees without a snapshot, everything else being the same: also its priority, and the asking."""
    with bench.load(server, [*OVERWRITE, *sizes(scale), "--seconds", str(LIMIT_SECONDS)]) as load, \
         bench.load(server, [*PROBE, "--seconds", str(LIMIT_SECONDS)], realtime=True) as pings:
        deadline = time.monotonic() + SECONDS
        while not is_saving(server) and time.monotonic() < deadline:
            time.sleep(WATCH_SECONDS)
        load.finish(stop=True)
        return pings.finish(stop=True)


def measure_save(bench, peer, scale):
    both = {bench.server_cpu, bench.load_cpu}
    return {
        "one_cpu_s": save_without_load(bench, peer, scale, {bench.server_cpu}),
        "two_cpus_s": save_without_load(bench, peer, scale, both),
        "loaded": save_under_load(bench, peer, scale),
    }


def start_seconds(bench, peer, options, cpus, keep, key):
    """From exec to the first reply to GET that is a value."""
    with bench.start(peer, options, cpus, keep) as server:
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(RespError):
                if ask(server, "GET", key) is not None:
                    return time.monotonic() - server.started
            time.sleep(0.002)
    raise MeasureError(f"{peer} did not load its data: {server.last_log_line()}")


def threads(peer, count):
    """The last of several --threads counts."""
    return ["--threads", str(count)] if peer == "terrace" else []


def measure_load(bench, peer, scale):
    both = {bench.server_cpu, bench.load_cpu}
    keep = tempfile.mkdtemp(prefix="load-", dir=bench.directory)
    try:
        with bench.start(peer, threads(peer, 2), both, keep) as server:
            bench.run(server, [*FILL, *sizes(scale)])
            ask(server, "SAVE")
        return {"seconds": min(start_seconds(bench, peer, threads(peer, 2), both, keep, "key:000000000001")
                               for _ in range(2))}
    finally:
        shutil.rmtree(keep, ignore_errors=True)


def measure_always(bench, peer, scale):
    results = {}
    for pipeline in (1, 16):
        with bench.start(peer, [*AOF, "--appendfsync", "always"], {bench.server_cpu, bench.load_cpu}) as server:
            load = ["--mix", "set=1", "--connections", "50", "--pipeline", str(pipeline), "--keys", "100000",
                    "--value-size", "32", "--seconds", str(max(1, SECONDS * min(1, scale)))]
            bench.run(server, load)
            results[pipeline] = bench.run(server, load)["operations_per_second"]
    return results


def measure_everysec(bench, peer, scale):
    results = {}
    for name, options in (("without", []), ("with", [*AOF, "--appendfsync", "everysec"])):
        with bench.start(peer, options) as server:
            load = ["--mix", "set=1", "--connections", "50", "--pipeline", "16", "--keys", "1000000", "--value-size",
                    "32"]
            bench.run(server, [*FILL, "--keys", "1000000", "--value-size", "32"])
            run = server.scheduled_ns()[0]
            report = bench.run(server, [*load, "--seconds", str(max(1, SECONDS * min(1, scale)))])
            results[name] = (server.scheduled_ns()[0] - run) / 1000 / report["operations"]
    return {**results, "ratio": results["with"] / results["without"]}


def measure_replay(bench, peer, scale):
    keep = tempfile.mkdtemp(prefix="replay-", dir=bench.directory)
    sets = int(REPLAY_SETS * scale)
    keys = max(1000, sets // 5)
    try:
        with bench.start(peer, AOF, keep=keep) as server:
            bench.run(server, [*FILL, "--keys", str(keys), "--value-size", "32"])
            bench.run(server, [*OVERWRITE, "--keys", str(keys), "--value-size", "32", "--requests", str(sets - keys)])
        both = {bench.server_cpu, bench.load_cpu}
        options = [*AOF, *threads(peer, 2)]
        return {"seconds": min(start_seconds(bench, peer, options, both, keep, "key:000000000001") for _ in range(2))}
    finally:
        shutil.rmtree(keep, ignore_errors=True)


def measure_restart(bench, peer, scale):
    """Terrace alone: nobody else has it."""
    if peer != "terrace":
        return None
    keep = tempfile.mkdtemp(prefix="restart-", dir=bench.directory)
    memory = max(64 << 20, int(RESTART_MEMORY * scale))
    keys = str(int(RESTART_BYTES * scale) // RESTART_VALUE)
    options = [*threads(peer, 2), "--maxmemory", str(memory), "--tier-path", os.path.join(keep, "tier"),
               "--tier-persist", "yes", *AOF, "--appendfsync", "everysec"]
    both = {bench.server_cpu, bench.load_cpu}
    written = ["--keys", keys, "--value-size", str(RESTART_VALUE)]
    try:
        with bench.start(peer, options, both, keep) as server:
            bench.run(server, [*FILL, *written])
            started = time.monotonic()
            with contextlib.suppress(MeasureError):
                ask(server, "SHUTDOWN")
            server.process.wait()
            stopping = time.monotonic() - started
        after_shutdown = start_seconds(bench, peer, options, both, keep, "key:000000000001")
        with bench.start(peer, options, both, keep) as server, \
             bench.load(server, [*OVERWRITE, *written, "--seconds", str(LIMIT_SECONDS)]):
            time.sleep(SETTLE_SECONDS)
            server.kill()
        after_kill = start_seconds(bench, peer, options, both, keep, "key:000000000001")
        return {"keys": int(keys), "shutdown_s": stopping, "after_shutdown_s": after_shutdown, "after_kill_s": after_kill}
    finally:
        shutil.rmtree(keep, ignore_errors=True)


PARTS = {"save": measure_save, "load": measure_load, "always": measure_always, "everysec": measure_everysec,
         "replay": measure_replay, "restart": measure_restart}


def measure(bench, peers, scale, pattern, rounds, say):
    """{part: {peer: [a measurement per round]}}"""
    results = {}
    for part, function in PARTS.items():
        if not re.search(pattern, part):
            continue
        results[part] = {peer: [] for peer in peers}
        for turn in range(rounds if part != "restart" else 1):
            for peer in peers if turn % 2 == 0 else reversed(peers):
                say(f"durability: {part}, round {turn + 1} of {rounds}, {peer}")
                results[part][peer].append(function(bench, peer, scale))
    return results


def _median(results, part, peer, pick):
    values = [pick(one) for one in results.get(part, {}).get(peer, []) if one is not None]
    return statistics.median(values) if values else None


def table(results):
    """Header and rows for printing."""
    rows = []

    def beside(what, part, pick, unit, aim, at_most=True):
        redis, terrace = (_median(results, part, peer, pick) for peer in ("redis", "terrace"))
        ratio = terrace / redis if redis and terrace else None
        good = ratio is not None and (ratio <= aim if at_most else ratio >= aim)
        rows.append([what, *("-" if value is None else f"{value:,.2f} {unit}" for value in (redis, terrace)),
                     "-" if ratio is None else f"{ratio:.2f}", f"{'<=' if at_most else '>='} {aim}",
                     "" if ratio is None else "pass" if good else "MISS"])

    def alone(what, part, pick, unit, aim, at_most=True):
        redis, terrace = (_median(results, part, peer, pick) for peer in ("redis", "terrace"))
        good = terrace is not None and (terrace <= aim if at_most else terrace >= aim)
        rows.append([what, *("-" if value is None else f"{value:,.2f} {unit}".rstrip() for value in (redis, terrace)),
                     "", f"{'<=' if at_most else '>='} {aim}", "" if terrace is None else "pass" if good else "MISS"])

    def shown(what, part, pick):
        values = (_median(results, part, peer, pick) for peer in ("redis", "terrace"))
        rows.append([what, *("-" if value is None else f"{value:,.2f}" for value in values), "", "", ""])

    if "save" in results:
        alone("BGSAVE under random overwrites: peak memory / memory before", "save",
              lambda one: one["loaded"]["peak_ratio"], "", 1.10)
        alone("the same: throughput / before, were a core its own (by the serving thread's CPU per SET)", "save",
              lambda one: one["loaded"]["own_core_ratio"], "", 0.8, at_most=False)
        shown("the same: throughput / before, sharing two CPUs with the load", "save",
              lambda one: one["loaded"]["throughput_ratio"])
        alone("the same: PING p99.9 / before", "save", lambda one: one["loaded"]["ping_p999_ratio"], "", 1.5)
        alone("the same: slowest PING, more than before", "save", lambda one: one["loaded"]["ping_max_more_ms"], "ms", 5)
        beside("BGSAVE, no load, one CPU", "save", lambda one: one["one_cpu_s"], "s", 0.8)
        beside("BGSAVE, no load, two CPUs", "save", lambda one: one["two_cpus_s"], "s", 0.5)
    if "load" in results:
        beside("start from that file, two CPUs", "load", lambda one: one["seconds"], "s", 0.3)
    if "replay" in results:
        beside("start from an append-only file of SETs", "replay", lambda one: one["seconds"], "s", 0.35)
    for pipeline in (1, 16):
        if "always" in results:
            beside(f"appendfsync always, 50 connections, pipeline {pipeline}, SET/s", "always",
                   lambda one, pipeline=pipeline: one[pipeline], "", 1.3, at_most=False)
    if "everysec" in results:
        alone("appendfsync everysec: server CPU of SET / without, pipeline 16", "everysec", lambda one: one["ratio"], "",
              1.25)
    if "restart" in results:
        alone("restart on a persistent tier after SHUTDOWN, to the first GET", "restart",
              lambda one: one["after_shutdown_s"], "s", 2)
        alone("the same after kill -9 under write load", "restart", lambda one: one["after_kill_s"], "s", 5)
    return ["durability", "redis", "terrace", "terrace/redis", "target", "result"], rows
