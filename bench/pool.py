"""A pool of persistent memory: what durable replies cost.

cpu       SET of 64 bytes at pipeline 16, 50 connections, one worker: server CPU with a pool against without
always    the same load's operations/s against Redis with appendfsync always, pipeline 1 and 16
fences    fences for each SET at pipeline 16: one connection, and 50
bytes     bytes written to the pool for each HSET into a hash of 1 M fields and each ZADD into a sorted set of 1 M members
ratio     a dataset ten times maxmemory in a pool: what is missing of it, and the server's peak RSS

The pool is in /dev/shm and PMEM_IS_PMEM_FORCE=1: the instructions that flush are run, the medium is DRAM. Redis's file
is on the file system of temporary files. A fence is a batch of the journal (pmem_journal_batches); a checkpoint's own
are not counted. Bytes are those of the journal, and of the pool's segments.
"""

import contextlib
import os
import re
import shutil
import statistics
import tempfile
import threading
import time

from peers import MeasureError

POOL_SIZE = "3gb"  # its journal takes the load of `cpu` without a checkpoint
KEYS, REQUESTS, VALUE_BYTES = 100_000, 1_500_000, 64
ELEMENTS, ELEMENT_REQUESTS = 1_000_000, 500_000
RATIO, RATIO_MEMORY, RATIO_VALUE = 10, 96 << 20, 1000
SECONDS = 5
WATCH_SECONDS = 0.01
LIMIT_SECONDS = 60
FILLS_MOST = 10
COMMANDS = {"HSET": "HSET big __field__ __value__", "ZADD": "ZADD big __number__ __field__"}


def ask(server, *words):
    with contextlib.closing(server.client()) as client:
        return client.command(*words)


def figures(server, section):
    return dict(re.findall(r"^(\w+):(.*)\r$", ask(server, "INFO", section).decode(), re.MULTILINE))


def wait_until_loaded(server):
    deadline = time.monotonic() + LIMIT_SECONDS
    while figures(server, "persistence")["loading"] != "0":
        if time.monotonic() > deadline:
            raise MeasureError("the pool was not loaded in time")
        time.sleep(0.01)


@contextlib.contextmanager
def pooled(bench, size=POOL_SIZE, options=(), cpus=None):
    """A server with a pool of its own."""
    folder = tempfile.mkdtemp(prefix="terrace-pool-", dir="/dev/shm")
    before = os.environ.get("PMEM_IS_PMEM_FORCE")
    os.environ["PMEM_IS_PMEM_FORCE"] = "1"
    try:
        words = ["--pmem-pool", os.path.join(folder, "pool"), "--pmem-size", size, *options]
        with bench.start("terrace", words, cpus) as server:
            wait_until_loaded(server)
            yield server
    finally:
        if before is None:
            del os.environ["PMEM_IS_PMEM_FORCE"]
        shutil.rmtree(folder, ignore_errors=True)


def sets(pipeline, connections=50):
    return ["--mix", "set=1", "--connections", str(connections), "--pipeline", str(pipeline), "--keys", str(KEYS),
            "--value-size", str(VALUE_BYTES)]


def cpu_of(bench, server, requests):
    bench.run(server, [*sets(16), "--requests", str(requests // 5)])
    run = server.scheduled_ns()[0]
    report = bench.run(server, [*sets(16), "--requests", str(requests)])
    return (server.scheduled_ns()[0] - run) / 1000 / report["operations"]


def measure_cpu(bench, scale):
    requests = max(10_000, int(REQUESTS * scale))
    with bench.start("terrace") as server:
        without = cpu_of(bench, server, requests)
    with pooled(bench) as server:
        with_pool = cpu_of(bench, server, requests)
    return {"without_us": without, "with_us": with_pool, "ratio": with_pool / without}


def rate(bench, server, pipeline, scale):
    load = [*sets(pipeline), "--seconds", str(max(1, SECONDS * min(1, scale)))]
    bench.run(server, [*sets(pipeline), "--seconds", "1"])
    return bench.run(server, load)["operations_per_second"]


def measure_always(bench, scale):
    results, both = {}, {bench.server_cpu, bench.load_cpu}
    durable = ["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--appendfsync", "always"]
    for pipeline in (1, 16):
        with bench.start("redis", durable, both) as server:
            redis = rate(bench, server, pipeline, scale)
        with pooled(bench, options=["--threads", "1"], cpus=both) as server:
            terrace = rate(bench, server, pipeline, scale)
        results[pipeline] = {"redis": redis, "terrace": terrace, "ratio": terrace / redis}
    return results


def measure_fences(bench, scale):
    results = {}
    for connections in (1, 50):
        with pooled(bench) as server:
            before = int(figures(server, "pmem")["pmem_journal_batches"])
            report = bench.run(server, [*sets(16, connections), "--requests", str(max(10_000, int(300_000 * scale)))])
            fences = int(figures(server, "pmem")["pmem_journal_batches"]) - before
        results[connections] = fences / report["operations"]
    return results


def written(server):
    return (int(figures(server, "pmem")["pmem_journal_written_bytes"]),
            int(figures(server, "tier")["tier_written_bytes"]))


def measure_bytes(bench, scale):
    results = {}
    elements, requests = (max(10_000, int(count * scale)) for count in (ELEMENTS, ELEMENT_REQUESTS))
    for name, command in COMMANDS.items():
        load = ["--command", command, "--fields", str(elements), "--value-size", "16", "--connections", "50"]
        for pipeline in (1, 16):
            with pooled(bench, "2gb") as server:
                bench.run(server, [*load, "--pipeline", "64", "--requests", str(elements * 3)])
                before = written(server)
                report = bench.run(server, [*load, "--pipeline", str(pipeline), "--requests", str(requests)])
                journal, segments = (now - was for now, was in zip(written(server), before))
            results[f"{name}, pipeline {pipeline}"] = {"journal": journal / report["operations"],
                                                       "segments": segments / report["operations"]}
    return results


class Watch:
    """Peak RSS of a server: of DRAM, and of all that is mapped. Pages of a pool in /dev/shm that are mapped just now are
    resident, too; where the medium is persistent memory they are not."""

    def __init__(self, server):
        self.server, self.peak, self.peak_of_all, self.ended = server, 0, 0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self):
        while not self.ended.wait(WATCH_SECONDS):
            with contextlib.suppress(MeasureError, OSError):
                pool, resident = self.server.resident_shared_memory_bytes(), self.server.resident_bytes()
                self.peak = max(self.peak, resident - pool)
                self.peak_of_all = max(self.peak_of_all, resident)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def fill(bench, server, load):
    """A write that found no room for a second is refused; whoever wrote it comes again."""
    for _ in range(FILLS_MOST):
        if not bench.run(server, load, errors_allowed=True)["errors"]:
            return
    raise MeasureError("the server has no room for the data")


def measure_ratio(bench, scale):
    memory = max(64 << 20, int(RATIO_MEMORY * scale))
    keys = RATIO * memory // (RATIO_VALUE + 16)
    options = ["--maxmemory", str(memory), "--maxmemory-policy", "noeviction"]
    data = ["--keys", str(keys), "--value-size", str(RATIO_VALUE)]
    with pooled(bench, str(memory * (RATIO + 6)), options, {bench.server_cpu, bench.load_cpu}) as server:
        with Watch(server) as watch:
            fill(bench, server, ["--fill", "--connections", "8", "--pipeline", "16", *data])
            bench.run(server, ["--mix", "get=50,set=50", "--connections", "50", "--pipeline", "16", "--seconds",
                               str(max(1, SECONDS * min(1, scale))), *data], errors_allowed=True)
        return {"ratio": keys * (RATIO_VALUE + 16) / memory, "missing": keys - ask(server, "DBSIZE"),
                "rss": watch.peak / memory, "rss_of_all": watch.peak_of_all / memory}


PARTS = {"cpu": measure_cpu, "always": measure_always, "fences": measure_fences, "bytes": measure_bytes,
         "ratio": measure_ratio}


def measure(bench, scale, pattern, rounds, say):
    """{part: [a measurement per round]}; only `cpu` is measured more than once."""
    results = {}
    for part, function in PARTS.items():
        if not re.search(pattern, part):
            continue
        results[part] = []
        for turn in range(rounds if part == "cpu" else 1):
            say(f"pool: {part}, round {turn + 1}")
            results[part].append(function(bench, scale))
    return results


def table(results):
    """Header and rows for printing."""
    rows = []

    def row(what, value, text, aim, good):
        rows.append([what, text.format(value), aim, "pass" if good else "MISS"])

    for one in results.get("always", []):
        for pipeline, least in ((1, 2.5), (16, 3)):
            found = one[pipeline]
            row(f"SET/s, 50 connections, pipeline {pipeline}: {found['terrace']:,.0f} against Redis appendfsync always, "
                f"{found['redis']:,.0f}", found["ratio"], "{:.2f}", f">= {least}", found["ratio"] >= least)
    if results.get("cpu"):
        ratios = [one["ratio"] for one in results["cpu"]]
        row(f"SET at pipeline 16: server CPU / without a pool, median of {len(ratios)} ({min(ratios):.2f} to "
            f"{max(ratios):.2f})", statistics.median(ratios), "{:.2f}", "<= 1.35", statistics.median(ratios) <= 1.35)
    for one in results.get("fences", []):
        for connections, fences in one.items():
            row(f"fences for each SET, pipeline 16, connections: {connections}", fences, "{:.4f}", "<= 1/8",
                fences <= 1 / 8)
    for one in results.get("bytes", []):
        for what, found in one.items():
            total = found["journal"] + found["segments"]
            row(f"bytes for each {what}: journal {found['journal']:.0f}, segments {found['segments']:.0f}", total,
                "{:.0f}", "<= 200", total <= 200)
    for one in results.get("ratio", []):
        row(f"dataset {one['ratio']:.0f} : 1 in the pool, missing keys", one["missing"], "{}", "0", one["missing"] == 0)
        row(f"the same: peak RSS without pages of the pool / maxmemory (with them {one['rss_of_all']:.2f})", one["rss"], "{:.2f}", "<= 1.05", one["rss"] <= 1.05)
    return ["pool", "measured", "aim", "result"], rows
