"""What power cuts would leave of a server's pool (crash/pmem): states are made at flushes and fences while commands of all
types run and the pool becomes larger, and a server is started on each. Its dataset is that of a moment between the last
answered command and the last one sent, no other; the pool lies in shared memory."""

import os
import random
import shutil
import subprocess
import tempfile
import threading
import unittest

from support.case import long_run, new_seed, terrace_only
from support.server import TOP, Server

SHARED = "/dev/shm"
UNITS = 400
# So that collections are ones of pages, on the server whose pool it is.
PAGED = (
    *("--hash-max-listpack-entries", "2", "--set-max-listpack-entries", "2", "--set-max-intset-entries", "2"),
    *("--zset-max-listpack-entries", "2", "--list-max-listpack-size", "2"),
)
GROWN_AT = 60  # the pool is told to become larger, and does so beside the units that follow
FAR_S = 4102444800  # an expiry that does not come while this runs


def build_preload(folder):
    library = os.path.join(folder, "preload.so")
    sources = [os.path.join(TOP, "tests", "crash", "pmem", name) for name in ("preload.c", "pmem_shadow.c")]
    subprocess.run(
        ["cc", "-O2", "-D_GNU_SOURCE", f"-I{TOP}", "-shared", "-fPIC", "-o", library, *sources, "-lpthread"], check=True
    )
    return library


def unit_of(number):
    """What is sent and answered together: a command, or a transaction."""
    generator = random.Random(number)
    key = f"{generator.choice('abcdefgh')}"
    value = generator.choice(("", "short", "x" * 900, "y" * 20000)) + str(number)
    commands = (
        ("SET", f"string:{key}", value),
        ("APPEND", f"string:{key}", str(number)),
        ("DEL", f"string:{key}", f"hash:{key}"),
        ("HSET", f"hash:{key}", f"field:{number % 50}", value[:900]),
        ("RPUSH", f"list:{key}", value[:900], str(number)),
        ("LPOP", f"list:{key}"),
        ("SADD", f"set:{key}", str(number % 300), str(number)),
        ("ZADD", f"sorted:{key}", str(number % 70), f"member:{number % 200}"),
        ("XADD", f"stream:{key}", f"{number + 1}-1", "field", value[:900]),
        ("EXPIREAT", f"string:{key}", str(FAR_S + number)),
        ("INCR", "counter"),
        ("SET", "large", "z" * 60000 + str(number)),
    )
    chosen = generator.sample(commands, 1 if generator.random() < 0.8 else 4)
    return chosen if len(chosen) == 1 else [("MULTI",), *chosen, ("EXEC",)]


@terrace_only("it has no pools")
@unittest.skipUnless(os.access(SHARED, os.W_OK), "no shared memory here")
class PmemStates(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-pmem-states-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.seed = new_seed()
        print(f"seed {self.seed}", flush=True)
        self.most = 1000 if long_run() else 40
        self.sent = self.answered = self.states = 0
        self.complaints = []

    def digests(self):
        """Of the dataset after each unit, the empty one first."""
        with Server("--threads", "1") as server:
            client = server.client()
            found = [client.command("DEBUG", "DIGEST")]
            for number in range(UNITS):
                client.pipeline(unit_of(number))
                found.append(client.command("DEBUG", "DIGEST"))
        return [str(digest) for digest in found]

    def serve(self, folder, environment=None):
        return Server(
            "--threads", "1", "--pmem-pool", os.path.join(folder, "pool"), "--pmem-size", "24mb", *PAGED,
            directory=folder, environment={"PMEM_IS_PMEM_FORCE": "1", **(environment or {})},
        )

    def check(self, suffix):
        """Starts a server on the state."""
        place = os.path.join(self.folder, "check")
        os.mkdir(place)
        try:
            os.rename(os.path.join(self.folder, "state"), os.path.join(place, "pool" + suffix))
            for name in os.listdir(self.data):
                if name.startswith("pool") and name not in ("pool", "pool.making"):
                    shutil.copy(os.path.join(self.data, name), place)
            first, last = self.answered, self.sent
            with self.serve(place) as server:
                digest = str(server.client().command("DEBUG", "DIGEST"))
            if digest not in self.known[first : last + 1]:
                at = [i for i, known in enumerate(self.known) if known == digest]
                raise AssertionError(f"the dataset is that after {at} units, not of {first} to {last}")
        finally:
            shutil.rmtree(place, True)

    def check_states(self):
        with open(self.ask, encoding="ascii") as ask, open(self.answer, "wb", buffering=0) as answer:
            for line in ask:
                self.states += 1
                try:
                    self.check(line.rstrip("\n"))
                except Exception as error:  # whatever it is, it goes to the test's own thread
                    self.complaints.append(f"state {self.states}: {error}")
                answer.write(b"y" if self.states < self.most and not self.complaints else b"n")

    def run_units(self, **more):
        """All units, as long as no state was wrong."""
        self.known = self.digests()
        self.data = os.path.join(self.folder, "data")
        self.ask, self.answer = (os.path.join(self.folder, name) for name in ("ask", "answer"))
        os.mkdir(self.data)
        os.mkfifo(self.ask)
        os.mkfifo(self.answer)
        environment = {
            "LD_PRELOAD": build_preload(self.folder),
            "TERRACE_CRASH_POOL": os.path.join(self.data, "pool"),
            "TERRACE_CRASH_STATE": os.path.join(self.folder, "state"),
            "TERRACE_CRASH_SEED": str(self.seed),
            "TERRACE_CRASH_PER_MILLE": "300" if long_run() else "60",
            "TERRACE_CRASH_ASK": self.ask,
            "TERRACE_CRASH_ANSWER": self.answer,
            **more,
        }
        threading.Thread(target=self.check_states, daemon=True).start()
        with self.serve(self.data, environment) as server:
            client = server.client()
            for number in range(UNITS):
                if self.complaints:
                    break
                if number == GROWN_AT:
                    client.ok("CONFIG", "SET", "pmem-size", "32mb")
                self.sent = number + 1
                client.pipeline(unit_of(number))
                self.answered = number + 1
            checkpoints = b"tier_checkpoint_number:0" not in client.command("INFO", "tier")
            self.grown = client.info("pmem")["pmem_pool_bytes"]
            server.kill()
        print(f"{self.states} states, {'with' if checkpoints else 'without'} a checkpoint; at the end the pool has "
              f"{self.grown} bytes", flush=True)
        print("\n".join(self.complaints), flush=True)

    def test_every_state_is_a_moment_of_the_dataset(self):
        self.run_units()
        self.assertEqual(self.complaints, [])
        self.assertGreater(self.states, 20)

    def test_a_forgotten_flush_is_found(self):
        self.most = 3000  # how many it takes is chance: mostly tens
        self.run_units(TERRACE_CRASH_FORGET="2")
        self.assertNotEqual(self.complaints, [])


if __name__ == "__main__":
    unittest.main()
