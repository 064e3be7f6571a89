"""Pools of persistent memory: several that are one, pool set files, pools that grow, and what is refused without being
touched."""

import hashlib
import os
import re
import shutil
import tempfile
import unittest

from support.case import terrace_only
from support.restarts import RestartTest
from support.server import Server, run_to_exit

SHARED = "/dev/shm"
FORCED = {"PMEM_IS_PMEM_FORCE": "1"}
COUNT = 4000
LIBPMEMOBJS_OWN = 4 << 20  # header, lanes and what it knows of its heap
MEMBER = re.compile(rb"pmem_pool_(\d+):path=([^,]*),node=(-?\d+),bytes=(\d+),segments=(\d+),free=(\d+)\r\n")


@terrace_only("it has no pools")
@unittest.skipUnless(os.access(SHARED, os.W_OK), "no shared memory here")
class PmemSet(RestartTest):
    def value_of(self, number):
        return f"{number}:" + "v" * (number * 7919 % 3000)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-pmem-set-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.first, self.second = self.path("first"), self.path("second")

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, pools, size="48mb", *extra):
        # The record budget makes records go to the pools.
        arguments = ("--pmem-pool", pools, "--pmem-size", size, "--tier-record-budget", "1mb", *extra)
        self.server = Server(*arguments, directory=self.folder, environment=FORCED)
        self.addCleanup(self.server.stop, False)
        return self.server.client()

    def members(self, client):
        return {int(found[0]): found[1:] for found in MEMBER.findall(client.command("INFO", "pmem"))}

    def refused(self, pools, *arguments):
        """What it says; no file may have changed, but for what libpmemobj notes in its own pages as it opens a pool."""
        before = self.contents()
        nowhere = ("--port", "0", "--unixsocket", self.path("socket"))
        code, output, error = run_to_exit(
            *nowhere, "--pmem-pool", pools, *arguments, directory=self.folder, environment=FORCED
        )
        self.assertEqual(code, 1)
        self.assertEqual(len(error.splitlines()), 1, error)
        self.assertEqual(self.contents(), before)
        return (output + error).decode()

    def contents(self):
        digests = {}
        for name in sorted(os.listdir(self.folder)):
            if os.path.isfile(self.path(name)) and not name.startswith("."):
                with open(self.path(name), "rb") as file:
                    file.seek(LIBPMEMOBJS_OWN if os.path.getsize(self.path(name)) > LIBPMEMOBJS_OWN else 0)
                    digests[name] = (os.path.getsize(self.path(name)), hashlib.sha256(file.read()).hexdigest())
        return digests

    def test_several_pools_take_records_in_turn_and_survive_a_kill(self):
        client = self.start(f"{self.first},{self.second}")
        self.load(client, range(COUNT))
        for _ in range(2):
            self.server.kill()
            client = self.start(f"{self.second},{self.first}")  # the order is of no matter any more
            self.verify(client, range(COUNT))
        self.shut_down(client)
        client = self.start(f"{self.first},{self.second}")
        self.assertIn("DB recovered from checkpoint", self.server.log_text())
        self.verify(client, range(COUNT))
        members = self.members(client)
        self.assertEqual([members[i][0].decode() for i in range(2)], [self.first, self.second])
        used = [int(members[i][3]) - int(members[i][4]) for i in range(2)]
        self.assertGreaterEqual(min(used), 2, members)
        self.assertEqual(client.info("pmem")["pmem_pool_bytes"], str(2 * 48 << 20))
        self.assertTrue(os.path.exists(self.first + ".checkpoint.1") or os.path.exists(self.first + ".checkpoint.2"))

    def test_a_set_that_is_not_whole_is_refused(self):
        client = self.start(f"{self.first},{self.second}")
        self.load(client, range(100))
        self.shut_down(client)
        size = ("--pmem-size", "48mb")
        self.assertIn("is one of a set of 2 pools, and 1 were named", self.refused(self.first, *size))
        self.assertIn("pmem-node '0'", self.refused(f"{self.first},{self.second}", "--pmem-node", "0"))
        for absent in (self.first, self.second):
            os.rename(absent, absent + ".away")
            said = self.refused(f"{self.first},{self.second}", *size)
            self.assertIn(f"'{absent}': is not there", said)
            os.rename(absent + ".away", absent)
        self.verify(self.start(f"{self.first},{self.second}", "48mb", "--pmem-node", "0,0"), range(100))

    def test_a_pool_grows_to_pmem_size(self):
        client = self.start(self.first, "32mb")
        self.load(client, range(COUNT))
        segments = int(self.members(client)[0][3])
        self.server.kill()
        client = self.start(self.first, "72mb")
        self.assertIn("has grown by", self.server.log_text())
        self.assertEqual(int(self.members(client)[0][3]), segments + 40)
        self.verify(client, range(COUNT))
        self.load(client, range(COUNT, 4 * COUNT))  # more than there was room for before
        self.server.kill()
        client = self.start(self.first, "72mb")
        self.assertNotIn("has grown by", self.server.log_text())
        self.verify(client, range(4 * COUNT))
        self.shut_down(client)
        self.assertIn("larger than its medium", self.refused(self.first, "--pmem-size", "900000gb"))
        self.verify(self.start(self.first, "16mb"), range(0, 4 * COUNT, 7))  # it never becomes smaller

    def test_a_pool_set_file_is_made_and_grows_by_a_part(self):
        parts = ["PMEMPOOLSET", "OPTION SINGLEHDR", f"32M {self.path('part0')}"]
        pool = self.path("pool.set")
        with open(pool, "w", encoding="ascii") as file:
            file.write("\n".join(parts) + "\n")
        client = self.start(pool)
        self.load(client, range(COUNT))
        segments = int(self.members(client)[0][3])
        self.server.kill()
        with open(self.path("part1"), "wb") as file:
            file.truncate(16 << 20)
        with open(pool, "w", encoding="ascii") as file:
            file.write("\n".join([*parts, f"16M {self.path('part1')}"]) + "\n")
        client = self.start(pool)
        self.assertEqual(int(self.members(client)[0][3]), segments + 16)
        self.load(client, range(COUNT, 2 * COUNT))
        self.shut_down(client)
        self.verify(self.start(pool), range(2 * COUNT))

    def test_pool_sets_of_two_parts_are_two_pools(self):
        pools = []
        for name in ("x", "y"):
            pools.append(self.path(f"{name}.set"))
            with open(pools[-1], "w", encoding="ascii") as file:
                file.write(f"PMEMPOOLSET\n20M {self.path(name)}0\n20M {self.path(name)}1\n")
        client = self.start(",".join(pools))
        self.load(client, range(COUNT))
        self.server.kill()
        self.verify(self.start(",".join(pools)), range(COUNT))

    def damage(self, path, at, new):
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(new)

    def test_a_pool_that_is_not_to_be_trusted_is_refused(self):
        client = self.start(self.first, "32mb")
        self.load(client, range(500))
        # More room is wanted as well: whatever is refused must not have grown.
        larger = ("--pmem-size", "64mb")
        self.assertIn("in use by another process", self.refused_while_used(self.first, *larger))
        self.shut_down(client)
        with open(self.first, "rb") as file:
            whole = file.read()
        for name, at, new, because in (
            ("layout", 4096, b"terrace-pool-9\0", "was made by another version (layout terrace-pool-9"),
            ("program", 4096, b"somebody else\0", "is a libpmemobj pool of another program"),
            ("libpmemobj", 100, b"damage", "cannot be opened"),
            ("root", whole.index(b"TERRPMEM") + 40, b"\xff", "is damaged: its root does not fit"),
            ("header", whole.index(b"TERRTIER") + 48, b"\xa5" * 8, "the header of this tier is damaged"),  # the seed
            ("manifest", whole.index(b"TERRMANI") + 8, b"\xff", "the manifest of this tier is damaged"),
            ("journal", whole.index(b"TERRJRNL") + 8, b"\xff", "journal"),
        ):
            with self.subTest(damaged=name):
                self.damage(self.first, at, new)
                self.assertIn(because, self.refused(self.first, *larger))
                with open(self.first, "wb") as file:
                    file.write(whole)
        self.verify(self.start(self.first, "32mb"), range(500))

    def refused_while_used(self, pools, *arguments):
        nowhere = ("--port", "0", "--unixsocket", self.path("socket"))
        code, output, error = run_to_exit(
            *nowhere, "--pmem-pool", pools, *arguments, directory=self.folder, environment=FORCED
        )
        self.assertEqual(code, 1)
        self.assertEqual(len(error.splitlines()), 1, error)
        return (output + error).decode()


if __name__ == "__main__":
    unittest.main()
