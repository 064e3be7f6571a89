"""terrace-pool: tells what is in a pool, finds damage wherever it is, repairs it so that a server starts with all that is
intact, and exports to RDB what any Redis can load."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

from support import dataset
from support.case import terrace_only
from support.resp import NULL_BULK
from support.server import Server, StartError, server_program

SHARED = "/dev/shm"
FORCED = {"PMEM_IS_PMEM_FORCE": "1"}
KEYS = 200
FIELDS = 3000


@terrace_only("it has no pools")
@unittest.skipUnless(os.access(SHARED, os.W_OK), "no shared memory here")
class PmemTool(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="terrace-test-pmem-tool-", dir=SHARED)
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.pool = os.path.join(self.folder, "pool")
        self.tool = os.path.join(os.path.dirname(server_program()), "terrace-pool")

    def start(self, *arguments, size="32mb"):
        server = Server(
            "--pmem-pool", self.pool, "--pmem-size", size, *arguments, directory=self.folder, environment=FORCED
        )
        self.addCleanup(server.stop, False)
        return server

    def run_tool(self, command, *more):
        done = subprocess.run(
            [self.tool, command, self.pool, *more],
            env={**os.environ, **FORCED}, capture_output=True, text=True, check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def write_and_kill(self):
        server = self.start()
        client = server.client()
        for number in range(KEYS):
            client.command("SET", f"key:{number}", f"value-{number}")
        self.assertEqual(self.run_tool("info")[0], 1, "a pool in use")
        server.kill()

    def damage(self, number):
        """One bit of the value of a key's SET, where it stands in the journal."""
        with open(self.pool, "r+b") as file:
            at = file.read().index(b"value-%d\r\n" % number)
            file.seek(at)
            file.write(b"w")

    def test_a_pool_in_order_is_told(self):
        self.write_and_kill()
        code, text = self.run_tool("info")
        self.assertEqual(code, 0, text)
        self.assertIn(f"{KEYS} frames", text)
        code, text = self.run_tool("check")
        self.assertEqual(code, 0, text)
        self.assertIn("in order", text)
        with self.start() as server:
            self.assertEqual(server.client().command("DBSIZE"), KEYS)

    def test_damage_is_found_and_repaired(self):
        self.write_and_kill()
        self.damage(120)
        code, text = self.run_tool("check")
        self.assertEqual(code, 2, text)
        self.assertIn("frame 122", text)  # the first is the line of history
        with self.assertRaises(StartError) as refused:
            self.start()
        self.assertIn("terrace-pool repair", str(refused.exception))
        code, text = self.run_tool("repair")
        self.assertEqual(code, 0, text)
        self.assertEqual(self.run_tool("check")[0], 0)
        with self.start() as server:
            client = server.client()
            self.assertEqual(client.command("DBSIZE"), 120)
            self.assertEqual(client.command("GET", "key:119"), b"value-119")

    def test_damage_of_the_last_frame_is_found(self):
        self.write_and_kill()
        self.damage(KEYS - 1)
        self.assertEqual(self.run_tool("check")[0], 2)

    # ---- blocks and the checkpoint's file ----

    def write_checkpoint(self):
        """Values that stand in the pool's segments as they are, and one key behind the checkpoint."""
        with self.start() as server:
            client = server.client()
            client.pipeline([("SET", f"key:{i}", f"<{i}>" + chr(97 + i % 26) * 500) for i in range(KEYS)])
            client.pipeline([("HSET", f"hash:{i}", "field", f"<<{i}>>") for i in range(KEYS)])
            client.send("SHUTDOWN")
            self.assertEqual(server.wait_for_exit(), 0)
        server = self.start()
        server.client().command("SET", "behind", "the checkpoint")
        server.kill()

    def flip(self, path, at):
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))

    def repaired(self):
        """What the repaired pool has: numbers of key:* and of hash:*."""
        code, text = self.run_tool("check")
        self.assertEqual(code, 2, text)
        code, text = self.run_tool("repair")
        self.assertEqual(code, 0, text)
        code, text = self.run_tool("check")
        self.assertEqual(code, 0, text)
        with self.start() as server:
            client = server.client()
            self.assertEqual(client.command("GET", "behind"), b"the checkpoint")
            keys, hashes = set(), set()
            for i in range(KEYS):
                value, field = client.command("GET", f"key:{i}"), client.command("HGET", f"hash:{i}", "field")
                if value == f"<{i}>".encode() + bytes([97 + i % 26]) * 500:
                    keys.add(i)
                if field == b"<<%d>>" % i:
                    hashes.add(i)
            self.assertEqual(client.command("DBSIZE"), len(keys) + len(hashes) + 1)
            client.send("SHUTDOWN")
            self.assertEqual(server.wait_for_exit(), 0)
        self.assertEqual(self.run_tool("check")[0], 0)
        return keys, hashes

    def test_a_damaged_block_costs_its_own_keys_alone(self):
        self.write_checkpoint()
        code, text = self.run_tool("check")
        self.assertEqual(code, 0, text)
        self.assertIn(f"of {2 * KEYS} keys", text)
        with open(self.pool, "rb") as file:
            image = file.read()
        at = max(found.start() for found in re.finditer(re.escape(b"<77>" + b"z" * 500), image))
        self.flip(self.pool, at + 100)
        keys, hashes = self.repaired()
        self.assertNotIn(77, keys)
        self.assertGreater(len(keys), KEYS - 20)  # a page holds so few of them
        self.assertGreater(len(hashes), KEYS - 128)

    def test_a_damaged_chunk_of_the_checkpoint_costs_its_own_keys_alone(self):
        self.write_checkpoint()
        path = self.pool + ".checkpoint.1"
        with open(path, "rb") as file:
            image = file.read()
        chunks = [found.start() for found in re.finditer(b"CHNK", image)]
        kinds = {at: image[at + 4] for at in chunks}
        slots, segments = [at for at in chunks if kinds[at] == 1], [at for at in chunks if kinds[at] == 2]
        self.flip(path, slots[0] + 45)
        keys, hashes = self.repaired()
        self.assertLess(len(keys) + len(hashes), 2 * KEYS)
        self.assertGreater(len(keys) + len(hashes), 2 * KEYS - 2 * KEYS // 4)
        self.assertEqual(len(segments), 1)

    def test_lost_rows_of_segments_cost_nothing(self):
        self.write_checkpoint()
        path = self.pool + ".checkpoint.1"
        with open(path, "rb") as file:
            image = file.read()
        rows = next(f.start() for f in re.finditer(b"CHNK", image) if image[f.start() + 4] == 2)
        self.flip(path, rows + 50)
        keys, hashes = self.repaired()
        self.assertEqual((len(keys), len(hashes)), (KEYS, KEYS))

    def test_a_checkpoint_without_its_directory_is_not_touched(self):
        self.write_checkpoint()
        path = self.pool + ".checkpoint.1"
        self.flip(path, os.path.getsize(path) - 5)
        self.assertEqual(self.run_tool("check")[0], 2)
        code, text = self.run_tool("repair")
        self.assertEqual(code, 2, text)
        self.assertIn("cannot be repaired", text)
        self.flip(path, os.path.getsize(path) - 5)
        self.assertEqual(self.run_tool("check")[0], 0)

    # ---- big collections ----

    def write_collections(self):
        """A hash, a set and a string of pages, which stand in the pool's segments as they are."""
        with self.start() as server:
            client = server.client()
            client.pipeline([("HSET", "hash", f"field:{i}", f"({i})" + chr(97 + i % 26) * 100) for i in range(FIELDS)])
            client.pipeline([("SADD", "set", f"[{i}]" + chr(97 + i % 26) * 100) for i in range(FIELDS)])
            client.pipeline([("SETRANGE", "string", i * 1000, f"/{i}/" + chr(97 + i % 26) * 900) for i in range(300)])
            client.command("HPEXPIRE", "hash", 10 ** 9, "FIELDS", 1, "field:3")
            client.send("SHUTDOWN")
            self.assertEqual(server.wait_for_exit(), 0)

    def damage_all(self, text):
        """Wherever it stands in the pool: the image, and what an earlier checkpoint has left."""
        with open(self.pool, "rb") as file:
            image = file.read()
        places = [found.start() for found in re.finditer(re.escape(text), image)]
        self.assertTrue(places)
        for at in places:
            self.flip(self.pool, at + len(text) - 1)

    def repaired_collections(self, loses_pages=False):
        """Fields, members, and the string, that the repaired pool has."""
        self.assertEqual(self.run_tool("check")[0], 2)
        code, text = self.run_tool("repair")
        self.assertEqual(code, 0, text)
        self.assertEqual("pages of hashes and sets are given up" in text, loses_pages)
        code, text = self.run_tool("check")
        self.assertEqual(code, 0, text)
        with self.start() as server:
            client = server.client()
            fields = client.command("HGETALL", "hash")
            fields = dict(zip(fields[::2], fields[1::2]))
            members = set(client.command("SMEMBERS", "set"))
            self.assertEqual(client.command("HLEN", "hash"), len(fields))
            self.assertEqual(client.command("SCARD", "set"), len(members))
            for field, value in fields.items():
                number = int(field[len("field:"):])
                self.assertEqual(value, b"(%d)" % number + bytes([97 + number % 26]) * 100)
            string = client.command("GET", "string")
            # What is lost can be written again, and then there is nothing missing.
            client.pipeline([("HSET", "hash", f"field:{i}", f"({i})" + chr(97 + i % 26) * 100) for i in range(FIELDS)])
            client.pipeline([("SADD", "set", f"[{i}]" + chr(97 + i % 26) * 100) for i in range(FIELDS)])
            self.assertEqual(client.command("HLEN", "hash"), FIELDS)
            self.assertEqual(client.command("SCARD", "set"), FIELDS)
            client.send("SHUTDOWN")
            self.assertEqual(server.wait_for_exit(), 0)
        self.assertEqual(self.run_tool("check")[0], 0)
        return fields, members, string

    def test_a_damaged_page_of_a_hash_or_a_set_costs_what_is_in_its_block(self):
        self.write_collections()
        code, text = self.run_tool("check")
        self.assertEqual(code, 0, text)
        self.assertIn("of 3 keys", text)
        self.damage_all(b"(77)" + b"z" * 100)
        self.damage_all(b"[99]" + b"v" * 100)
        fields, members, string = self.repaired_collections(loses_pages=True)
        self.assertNotIn(b"field:77", fields)
        self.assertGreater(len(fields), FIELDS - 300)
        self.assertNotIn(b"[99]" + b"v" * 100, members)
        self.assertGreater(len(members), FIELDS - 300)
        self.assertEqual(len(string), 299 * 1000 + 905)

    def test_a_damaged_page_of_a_string_costs_the_string(self):
        self.write_collections()
        self.damage_all(b"/77/" + b"z" * 900)
        fields, members, string = self.repaired_collections()
        self.assertEqual((len(fields), len(members), string), (FIELDS, FIELDS, NULL_BULK))

    def test_a_damaged_chunk_of_pages_or_roots_costs_what_it_names(self):
        self.write_collections()
        path = self.pool + ".checkpoint.1"
        with open(path, "rb") as file:
            image = file.read()
        pages = [found.start() for found in re.finditer(b"CHNK", image) if image[found.start() + 4] == 8]
        roots = [found.start() for found in re.finditer(b"CHNK", image) if image[found.start() + 4] == 6]
        self.assertEqual(len(roots), 3)
        self.assertEqual(len(pages), 2)  # the string has so few that they stand with its root
        at = next(at for at in roots if b"hash" in image[at : at + 200])
        self.flip(path, at + 60)
        fields, members, string = self.repaired_collections()
        self.assertEqual((len(fields), len(members), len(string)), (0, FIELDS, 299 * 1000 + 905))
        path = self.pool + ".checkpoint.3"
        with open(path, "rb") as file:
            image = file.read()
        at = next(f.start() for f in re.finditer(b"CHNK", image) if image[f.start() + 4] == 8)
        self.flip(path, at + 60)
        self.assertEqual(self.run_tool("check")[0], 2)
        self.assertEqual(self.run_tool("repair")[0], 0)
        self.assertEqual(self.run_tool("check")[0], 0)
        with self.start() as server:
            self.assertEqual(server.client().command("DBSIZE"), 2)

    # ---- export ----

    @unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")
    def test_an_export_is_loaded_by_redis(self):
        file = os.path.join(self.folder, "export.rdb")
        server = self.start("--tier-record-budget", "1mb", size="96mb")
        client = server.client()
        dataset.fill(client)
        expected = dataset.contents(client)
        client.command("CONFIG", "SET", "tier-checkpoint-seconds", "1")
        client.command("SET", "passing", "1")
        while client.info("tier")["tier_checkpoints"] == "0":
            client.command("PING")
        client.command("DEL", "passing")  # behind the checkpoint
        server.kill()
        before = self.run_tool("info")
        code, text = self.run_tool("export", file)
        self.assertEqual(code, 0, text)
        self.assertEqual(self.run_tool("info"), before)
        self.assertFalse(os.path.exists(file + ".making"))
        with Server("--dbfilename", "export.rdb", program="redis-server", directory=self.folder) as redis:
            self.assertEqual(dataset.contents(redis.client()), expected)

    def test_an_export_that_fails_leaves_no_file(self):
        self.write_and_kill()
        self.damage(120)
        file = os.path.join(self.folder, "export.rdb")
        code, text = self.run_tool("export", file)
        self.assertEqual(code, 1, text)
        self.assertIn("terrace-pool repair", text)
        self.assertFalse(os.path.exists(file) or os.path.exists(file + ".making"))
        self.assertEqual(self.run_tool("repair")[0], 0)
        self.assertEqual(self.run_tool("export", os.path.join(self.folder, "nowhere", "x.rdb"))[0], 1)
        self.assertEqual(self.run_tool("export", file)[0], 0)

    def test_what_is_no_pool_is_refused(self):
        with open(self.pool, "wb") as file:
            file.write(b"x" * (1 << 20))
        self.assertEqual(self.run_tool("info")[0], 1)
        self.assertEqual(self.run_tool("dance")[0], 64)


if __name__ == "__main__":
    unittest.main()
