"""NUMA: the directives, INFO numa, and where shards and workers are. Hosts with several nodes: tests/lab/run."""

import os
import re
import unittest

from support.case import ServerTest, terrace_only, threads
from support.server import Server, run_to_exit

NODES = "/sys/devices/system/node"
NODE_LINE = re.compile(r"cpus=([0-9+-]*),shards=(\d+),bytes=(\d+),far=([01]),local=(\d+),remote=(\d+),workers=(\d+),memory=(\d+),free=(\d+)")
NODE_PARTS = ("cpus", "shards", "bytes", "far", "local", "remote", "workers", "memory", "free")


def kernel_nodes():
    """The numbers of this host's nodes; one node where the kernel shows none."""
    if not os.path.isdir(NODES):
        return [0]
    return sorted(int(name[4:]) for name in os.listdir(NODES) if re.fullmatch(r"node\d+", name))


def numbers_of(text):
    """The numbers of "0-1+4"."""
    for part in filter(None, re.split(r"[+,]", text)):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def numa(client):
    """(fields, {node: parts}) of INFO numa."""
    fields = client.info("numa")
    nodes = {}
    for name in [name for name in fields if re.fullmatch(r"node\d+", name)]:
        found = NODE_LINE.fullmatch(fields[name])
        assert found, f"{name}:{fields[name]}"
        parts = dict(zip(NODE_PARTS, found.groups()))
        nodes[int(name[4:])] = {part: value if part == "cpus" else int(value) for part, value in parts.items()}
    return fields, nodes


@terrace_only("it knows nothing of nodes")
class Directives(unittest.TestCase):
    def assert_refused(self, arguments, *expected):
        code, _, stderr = run_to_exit("--port", "0", "--unixsocket", "unused.sock", *arguments)
        text = stderr.decode().strip()
        self.assertEqual(code, 1, text)
        self.assertEqual(len(text.splitlines()), 1, f"one line was expected:\n{text}")
        for words in expected:
            self.assertIn(words, text)

    def test_what_is_neither_a_policy_nor_a_list(self):
        for value in ("remote", "0-", "3-1", "0,,1", "1024", "-1", ""):
            self.assert_refused(["--numa-policy", value], "numa-policy", "'local', 'interleave' or a list of nodes")
            self.assert_refused(["--far-memory-nodes", value], "far-memory-nodes", "'auto', 'none' or a list of nodes")

    def test_a_node_that_is_not_there(self):
        missing = max(kernel_nodes()) + 1
        self.assert_refused(["--numa-policy", str(missing)], "numa-policy", f"node {missing}")
        self.assert_refused(["--numa-policy", f"0-{missing}"], "numa-policy", f"node {missing}")
        self.assert_refused(["--far-memory-nodes", str(missing)], "far-memory-nodes", f"node {missing}")

    def test_a_node_cannot_be_near_and_far(self):
        with Server("--threads", "1") as server, server.client() as client:
            node = client.info("numa")["numa_near_nodes"].split("-")[0].split(",")[0]
        self.assert_refused(["--numa-policy", node, "--far-memory-nodes", node], f"node {node}", "both")

    def test_some_node_must_be_near(self):
        with Server("--numa-policy", "interleave", "--far-memory-nodes", "none") as server, server.client() as client:
            every = client.info("numa")["numa_near_nodes"]
        self.assert_refused(["--far-memory-nodes", every], "far-memory-nodes", "leaves no node")


@terrace_only("it has no such section")
class Report(ServerTest):
    def test_it_is_there_when_asked_for(self):
        client = self.client()
        self.assertTrue(client.ok("INFO", "numa").startswith(b"# NUMA\r\n"))
        for sections in ((), ("all",), ("everything",)):
            self.assertNotIn(b"# NUMA\r\n", client.ok("INFO", *sections))

    def test_every_node_has_a_line(self):
        fields, nodes = numa(self.client())
        self.assertEqual(sorted(nodes), kernel_nodes())
        self.assertEqual(int(fields["numa_nodes"]), len(nodes))
        self.assertEqual(fields["numa_policy"], "local")
        near = list(numbers_of(fields["numa_near_nodes"]))
        far = list(numbers_of(fields["numa_far_nodes"]))
        self.assertEqual([node for node in nodes if nodes[node]["far"]], far)
        self.assertEqual([node for node in nodes if nodes[node]["shards"]], near)
        self.assertIn(fields["numa_binding"], ("bound", "refused") if len(nodes) > 1 else ("none",))

    def test_all_shards_workers_and_cpus_are_on_some_node(self):
        client = self.client()
        _, nodes = numa(client)
        server = client.info("server")
        self.assertEqual(sum(node["shards"] for node in nodes.values()), int(server["shards"]))
        self.assertEqual(sum(node["workers"] for node in nodes.values()), int(server["threads"]))
        cpus = {cpu for node in nodes.values() for cpu in numbers_of(node["cpus"])}
        self.assertEqual(cpus, os.sched_getaffinity(0))
        self.assertTrue(all(node["free"] <= node["memory"] for node in nodes.values()))

    def test_bytes_grow_with_the_data(self):
        client = self.client()
        before = sum(node["bytes"] for node in numa(client)[1].values())
        client.ok("MSET", *[word for number in range(100) for word in (f"key{number}", b"v" * 20000)])
        client.ok("SET", "large", b"v" * 5000000)
        after = sum(node["bytes"] for node in numa(client)[1].values())
        self.assertGreater(after - before, 7000000)
        self.assertLess(after - before, 15000000)  # each key may have begun a slab page of its own

    def test_executions_are_counted_and_reset(self):
        client = self.client()
        for number in range(100):
            client.ok("SET", f"key{number}", "v")
        fields, nodes = numa(client)
        local, remote = int(fields["numa_local_executions"]), int(fields["numa_remote_executions"])
        self.assertGreaterEqual(local + remote, 100)
        self.assertEqual(sum(node["local"] for node in nodes.values()), local)
        self.assertEqual(sum(node["remote"] for node in nodes.values()), remote)
        if len(nodes) == 1:
            self.assertEqual(remote, 0)
        client.ok("CONFIG", "RESETSTAT")
        fields, _ = numa(client)
        self.assertLess(int(fields["numa_local_executions"]) + int(fields["numa_remote_executions"]), 100)

    def test_near_memory_size_moves_nothing_without_far_memory(self):
        server = self.start_server("--near-memory-size", "1mb", "--far-memory-nodes", "none")
        client = self.connect_to(server)
        self.assert_reply([b"near-memory-size", b"1048576"], client, "CONFIG", "GET", "near-memory-size")
        client.ok("MSET", *[word for number in range(200) for word in (f"key{number}", b"v" * 20000)])
        client.ok("CONFIG", "SET", "near-memory-size", "2mb")
        tier = client.info("tier")
        self.assertEqual((int(tier["dram_records"]), int(tier["far_records"]), int(tier["far_bytes"])), (200, 0, 0))
        self.assert_reply(b"dram", client, "OBJECT", "MEDIUM", "key7")

    def test_directives_are_for_the_start(self):
        client = self.client()
        self.assert_reply([b"numa-policy", b"local"], client, "CONFIG", "GET", "numa-policy")
        self.assert_reply([b"far-memory-nodes", b"auto"], client, "CONFIG", "GET", "far-memory-nodes")
        for directive, value in (("numa-policy", "interleave"), ("far-memory-nodes", "none")):
            self.assert_error_starts("ERR CONFIG SET failed", client, "CONFIG", "SET", directive, value)


@terrace_only("it has no workers of this kind")
class Workers(ServerTest):
    def start_workers(self, count):
        """A server whose workers have all begun to serve: a new connection goes to one that has fewest."""
        server = self.start_server("--threads", count)
        for client in [self.connect_to(server) for _ in range(count)]:
            client.ok("PING")
        return server

    def affinities(self, server):
        for task in os.listdir(f"/proc/{server.pid}/task"):
            yield frozenset(os.sched_getaffinity(int(task)))

    @threads
    def test_a_worker_for_each_cpu_stays_on_it(self):
        cpus = os.sched_getaffinity(0)
        if len(cpus) == 1:
            self.skipTest("this process may use one CPU only")
        server = self.start_workers(len(cpus))
        pinned = [cpu for affinity in self.affinities(server) if len(affinity) == 1 for cpu in affinity]
        self.assertEqual(sorted(pinned), sorted(cpus))

    @threads
    def test_other_numbers_of_workers_stay_on_their_node(self):
        cpus = os.sched_getaffinity(0)
        server = self.start_workers(len(cpus) + 1)
        _, nodes = numa(self.connect_to(server))
        places = [frozenset(numbers_of(node["cpus"])) for node in nodes.values()] + [frozenset(cpus)]
        for affinity in self.affinities(server):
            self.assertIn(affinity, places)

    def test_a_list_that_names_the_node_there_is(self):
        policies = ["interleave", "local", str(kernel_nodes()[0])]
        for policy in policies:
            server = self.start_server("--numa-policy", policy)
            client = self.connect_to(server)
            client.ok("SET", "k", "v")
            self.assertEqual(client.info("numa")["numa_policy"], policy)
