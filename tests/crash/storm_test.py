"""Everything an operator can do at once, on a disk whose syncs take their time: saves, rewrites, checkpoints, demotions,
replicas that come and go, the append-only file switched off and on, the dataset loaded anew; then kill -9, SIGTERM, or
two SHUTDOWNs. What was acknowledged is there, whatever met whatever; nobody waits for ever. And a replica, with operators
at both servers, that has the same as its primary in the end."""

import os
import random
import subprocess
import threading
import time
import unittest

from crash.kill_test import DURABLE, PAGED, STEPS_S, CrashTest, build_shim
from support.case import long_run, terrace_only
from support.client import Client
from support.replicas import SETTLE_S, Writer, differences, is_synced
from support.resp import ErrorReply

SNAPSHOTS = ("SAVE", "BGSAVE", "BGSAVE SCHEDULE", "BGREWRITEAOF", "CONFIG SET save 1-1", "CONFIG SET save off")
REWRITES = ("CONFIG SET auto-aof-rewrite-percentage 1", "CONFIG SET auto-aof-rewrite-min-size 1kb", "switch", "switch")
ELSEWHERE = ("fill", "FLUSHDB", "FLUSHDB ASYNC", "SWAPDB 8 9")  # in databases of its own
LOOKS = ("INFO", "KEYS *", "DEBUG DIGEST", "MEMORY PURGE", "replica", "replica")
LOADS = ("DEBUG RELOAD", "DEBUG LOADAOF")
TIER = ("TIER DEMOTE *", "TIER DEMOTE w1*", "TIER COMPACT", "TIER STATS")
LINKS = ("CLIENT KILL TYPE replica", "CLIENT KILL TYPE master", "CONFIG SET repl-backlog-size 20000", "DEBUG SLEEP 0.02")
OF_A_PRIMARY = ("FLUSHALL", "FLUSHALL ASYNC", "SWAPDB 0 1", "CLIENT PAUSE 40 WRITE", "DEBUG CHANGE-REPL-ID")
OF_A_REPLICA = ("leave", "leave", "CONFIG SET repl-diskless-load disabled", "CONFIG SET repl-diskless-load swapdb")


class Operator(threading.Thread):
    """Does one thing after the other, chosen by a seed, until it is stopped or the server ends."""

    def __init__(self, port, operations, seed, switching, primary=None):
        super().__init__(daemon=True)
        self.port = port
        self.primary = primary  # whom this server follows, by its port
        self.operations = operations
        self.random = random.Random(seed)
        self.switching = switching  # held while the append-only file is off, or does not hold everything yet
        self.until = threading.Event()
        self.done = []
        self.error = None

    def run(self):
        try:
            with Client(port=self.port, timeout=STEPS_S) as client:
                client.command("SELECT", 9)
                while not self.until.is_set():
                    self.done.append(self.random.choice(self.operations))
                    self.operate(client, self.done[-1])
                    self.until.wait(self.random.choice((0, 0.02, 0.3 if self.done[-1] in LOADS else 0.05)))
        except (OSError, EOFError) as error:
            if not self.until.is_set() or isinstance(error, TimeoutError):
                self.error = error
        except AssertionError as error:
            self.error = error

    def operate(self, client, operation):
        if operation == "fill":
            client.pipeline([("SET", f"k{self.random.randrange(9999)}", "v" * self.random.randrange(2000))] * 100)
            client.command("SADD", f"s{self.random.randrange(50)}", *(str(self.random.random()) for _ in range(50)))
        elif operation == "replica":
            self.be_a_replica()
        elif operation == "leave":
            client.command("REPLICAOF", "NO", "ONE")
            self.until.wait(self.random.choice((0, 0.03)))
            client.command("REPLICAOF", "127.0.0.1", self.primary)
        elif operation == "switch":
            self.switch(client)
        elif operation == "DEBUG LOADAOF":
            with self.switching:
                client.command(*operation.split())
        else:
            client.command(*("" if word == "off" else word.replace("-1", " 1") for word in operation.split()))

    def be_a_replica(self):
        """One that leaves in the middle of its copy, or soon after."""
        with Client(port=self.port, timeout=1) as replica:
            replica.send("REPLCONF", "capa", "eof")
            replica.send("PSYNC", "?", "-1")
            try:
                for _ in range(self.random.randrange(20)):
                    if not replica.socket.recv(65536):
                        return
            except TimeoutError:
                pass

    def switch(self, client):
        with self.switching:
            client.command("CONFIG", "SET", "appendonly", "no")
            self.until.wait(self.random.choice((0, 0.05)))
            deadline = time.monotonic() + STEPS_S
            while isinstance(client.command("CONFIG", "SET", "appendonly", "yes"), ErrorReply) or not is_kept(client):
                if time.monotonic() > deadline:
                    raise AssertionError(f"the append-only file does not begin: {client.info('persistence')}")
                time.sleep(0.01)


def is_kept(client):
    """Whether the append-only file has its first base, so that it holds all that was acknowledged."""
    info = client.info("persistence")
    idle = info["aof_rewrite_in_progress"] == info["aof_rewrite_scheduled"] == "0"
    return idle and info["aof_enabled"] == "1" and info["aof_last_bgrewrite_status"] == "ok"


class StormTest(CrashTest):
    OPERATIONS = SNAPSHOTS + REWRITES + ELSEWHERE + LOOKS + LOADS

    def storm(self, times, arguments):
        shim = build_shim(self.folder)

        def crash(crowd, number, least):
            shimmed = {"LD_PRELOAD": shim, "IO_SHIM_UNDER": self.data}
            shimmed["IO_SHIM_SYNC_MS"] = self.random.choice(("0", "3", "15", "40"))
            threads = ("--threads", self.random.choice("123"), "--enable-debug-command", "yes")
            self.run_through(self.started((*arguments, *threads), shimmed), crowd, least)

        print(f"{times} ends, {self.crash_often(times, arguments, crash)} acknowledged steps", flush=True)

    def run_through(self, server, crowd, least):
        switching = threading.Lock()
        seeds = [self.random.random() for _ in range(self.random.randrange(1, 5))]
        operators = [Operator(server.port, self.OPERATIONS, seed, switching) for seed in seeds]
        try:
            crowd.check(server)
            crowd.start(server.port)
            for operator in operators:
                operator.start()
            time.sleep(self.random.uniform(0.05, 1))  # the moment is what is random about an end
            self.wait_for_steps(crowd, max(crowd.steps() + 1, least), operators)
            with switching:
                for operator in operators:
                    operator.until.set()
                self.end(server)
        except BaseException:
            print(f"{[operator.done[-20:] for operator in operators]}\n{server.output_text()}", flush=True)
            raise
        finally:
            server.kill()
            crowd.stop()
        for operator in operators:
            operator.join(STEPS_S)
            self.assertIsNone(operator.error, operator.done[-20:])

    def wait_for_steps(self, crowd, steps, operators):
        deadline = time.monotonic() + STEPS_S
        while crowd.steps() < steps:
            self.assertLess(time.monotonic(), deadline, f"{crowd.steps()} of {steps} steps")
            for operator in operators:
                self.assertIsNone(operator.error, operator.done[-20:])
            time.sleep(0.01)

    def end(self, server):
        how = self.random.choice(("kill", "kill", "SIGTERM", "SHUTDOWN"))
        if how == "kill":
            server.process.kill()
        elif how == "SIGTERM":
            server.process.terminate()
        else:
            for client in (server.client(), server.client()):
                self.addCleanup(client.close)
                try:
                    client.send("SHUTDOWN")
                except OSError:
                    pass  # the other one has been quick
        try:
            code = server.wait_for_exit(STEPS_S)
        except subprocess.TimeoutExpired:
            self.fail(f"{how} does not end the server")
        if how != "kill":
            self.assertEqual(code, 0)


@terrace_only("an append-only file with checksums")
class WithAnAppendOnlyFile(StormTest):
    def test_what_was_acknowledged_survives(self):
        self.storm(200 if long_run() else 4, DURABLE)


@terrace_only("it has no tier")
class OnATier(StormTest):
    OPERATIONS = StormTest.OPERATIONS + TIER

    def arguments(self):
        tier = ("--tier-path", os.path.join(self.data, "tier"), "--tier-size", "192mb", "--tier-segment-size", "1mb")
        return (*DURABLE, *tier, "--tier-record-budget", "1mb", *PAGED)

    def test_what_was_acknowledged_survives(self):
        self.storm(100 if long_run() else 2, self.arguments())

    def test_where_it_persists(self):
        persists = ("--tier-persist", "yes", "--tier-checkpoint-seconds", "1")
        self.storm(200 if long_run() else 3, (*self.arguments(), *persists))


@terrace_only("it has no pools")
@unittest.skipUnless(os.access("/dev/shm", os.W_OK), "no shared memory here")
class OnAPool(StormTest):
    PLACE = "/dev/shm"
    ENVIRONMENT = {"PMEM_IS_PMEM_FORCE": "1"}
    OPERATIONS = SNAPSHOTS + REWRITES + ELSEWHERE + LOOKS + TIER

    def test_what_was_acknowledged_survives(self):
        pool = ("--pmem-pool", os.path.join(self.data, "pool"), "--pmem-size", "48mb", *PAGED)
        self.storm(200 if long_run() else 3, pool)


class PairTest(StormTest):
    """A primary and a replica, which keep their data in one way or another."""

    def arguments_of(self, name):
        """Of a server that keeps its data in one way or another."""
        folder = os.path.join(self.data, name)
        os.mkdir(folder)
        tier = ("--tier-path", os.path.join(folder, "tier"), "--tier-size", "192mb", "--tier-segment-size", "1mb",
                "--tier-record-budget", "1mb")  # fmt: skip
        persists = ("--tier-persist", "yes", "--tier-checkpoint-seconds", "1")
        kinds = ((), DURABLE, tier, (*tier, *DURABLE, *persists))
        backlog = ("--repl-backlog-size", self.random.choice(("16kb", "1mb", "64mb")), "--repl-diskless-sync-delay", "0")
        threads = ("--threads", self.random.choice("123"), "--enable-debug-command", "yes")
        return ("--dir", folder, *self.random.choice(kinds), *self.random.choice(((), PAGED)), *backlog, *threads)

    def operators(self, count, operations, port, primary=None):
        return [
            Operator(port, operations, self.random.random(), threading.Lock(), primary)
            for _ in range(self.random.randrange(count + 1))
        ]

    def settle(self, client, other):
        deadline = time.monotonic() + SETTLE_S
        while not is_synced(client, other):
            self.assertLess(time.monotonic(), deadline, other.info("replication"))
            time.sleep(0.01)
        self.assertEqual(differences(client, other), "")

    def run_pairs(self, count):
        shim = build_shim(self.folder)
        for number in range(count):
            sync_ms = self.random.choice(("0", "3", "15"))
            shimmed = {"LD_PRELOAD": shim, "IO_SHIM_UNDER": self.data, "IO_SHIM_SYNC_MS": sync_ms}
            primary = self.started(self.arguments_of(f"primary{number}"), shimmed)
            try:
                follows = ("--replicaof", f"127.0.0.1 {primary.port}")
                replica = self.started((*self.arguments_of(f"replica{number}"), *follows), shimmed)
                try:
                    self.run_pair(primary, replica)
                finally:
                    replica.kill()
            finally:
                primary.kill()


@terrace_only("it has no tier")
class WithAReplica(PairTest):
    BOTH = SNAPSHOTS + LINKS + LOOKS + TIER + ("DEBUG RELOAD", "CONFIG SET appendonly yes", "CONFIG SET appendonly no")

    def write(self, port, seed, until):
        """As a client would that connects again when it has been killed."""
        while not until.is_set():
            try:
                with Client(port=port, timeout=STEPS_S) as client:
                    writer = Writer(client, seed)
                    while not until.is_set():
                        writer.write(100)
            except (EOFError, ConnectionError):
                seed += 1

    def run_pair(self, primary, replica):
        operators = self.operators(2, self.BOTH + OF_A_PRIMARY, primary.port)
        operators += self.operators(2, self.BOTH + OF_A_REPLICA, replica.port, primary.port)
        until = threading.Event()
        writer = threading.Thread(target=self.write, args=(primary.port, self.random.randrange(1 << 30), until))
        for thread in (writer, *operators):
            thread.start()
        time.sleep(self.random.uniform(0.3, 2))  # how much of all this meets is up to chance
        for event in (until, *(operator.until for operator in operators)):
            event.set()
        for thread in (writer, *operators):
            thread.join(STEPS_S)
        try:
            for operator in operators:
                self.assertIsNone(operator.error, operator.done[-20:])
            with primary.client() as client, replica.client() as other:
                self.settle(client, other)
        except BaseException:
            print(f"{[operator.done[-20:] for operator in operators]}", flush=True)
            print(f"{primary.output_text()}\n{replica.output_text()}", flush=True)
            raise

    def test_it_has_the_same_in_the_end(self):
        self.run_pairs(100 if long_run() else 3)


if __name__ == "__main__":
    unittest.main()
