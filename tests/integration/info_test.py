"""What monitoring reads: INFO, SLOWLOG, LATENCY, MEMORY, TIME, DEBUG."""

import time
import unittest

from support.case import ServerTest, terrace_only
from support.resp import OK, ErrorReply, Map, Simple, Verbatim

SECTIONS = ["Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Errorstats", "Cluster", "Keyspace"]
FIELDS = """
    redis_version redis_mode os arch_bits process_id run_id tcp_port uptime_in_seconds uptime_in_days hz executable config_file
    connected_clients blocked_clients maxclients tracking_clients used_memory used_memory_human used_memory_rss used_memory_rss_human
    used_memory_peak used_memory_peak_human used_memory_lua maxmemory maxmemory_human maxmemory_policy mem_fragmentation_ratio
    mem_allocator total_system_memory loading async_loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time
    rdb_last_bgsave_status aof_enabled aof_rewrite_in_progress aof_last_write_status total_connections_received
    total_commands_processed instantaneous_ops_per_sec total_net_input_bytes total_net_output_bytes instantaneous_input_kbps
    instantaneous_output_kbps rejected_connections sync_full expired_keys evicted_keys keyspace_hits keyspace_misses pubsub_channels
    pubsub_patterns latest_fork_usec total_error_replies role connected_slaves master_replid master_repl_offset used_cpu_sys
    used_cpu_user cluster_enabled
""".split()


class Info(ServerTest):
    def text(self, client, *sections):
        return client.ok("INFO", *sections).decode()

    def test_sections_and_their_order(self):
        client = self.client()
        client.ok("SET", "k", "v")
        text = self.text(client)
        places = [text.index(f"# {name}\r\n") for name in SECTIONS]
        self.assertEqual(places, sorted(places))
        self.assertNotIn("# Commandstats", text)
        for selection in ("all", "everything"):
            self.assertIn("# Commandstats", self.text(client, selection))

    def test_one_and_several_sections(self):
        client = self.client()
        self.assertTrue(self.text(client, "memory").startswith("# Memory\r\n"))
        text = self.text(client, "cpu", "MEMORY", "nosuch")
        self.assertEqual([line for line in text.split("\r\n") if line.startswith("#")], ["# Memory", "# CPU"])
        self.assertEqual(self.text(client, "nosuch"), "")

    def test_the_fields_tools_parse(self):
        fields = self.client().info()
        self.assertEqual([name for name in FIELDS if name not in fields], [])
        self.assertRegex(fields["run_id"], "^[0-9a-f]{40}$")
        self.assertRegex(fields["redis_version"], r"^7\.\d+\.\d+$")
        self.assertEqual((fields["role"], fields["redis_mode"], fields["cluster_enabled"], fields["loading"]), ("master", "standalone", "0", "0"))
        self.assertEqual((int(fields["tcp_port"]), int(fields["process_id"])), (self.server.port, self.server.pid))

    def test_a_first_match_finds_the_right_field(self):
        """redis-cli takes the first place where a name occurs."""
        text = self.text(self.client())
        self.assertLess(text.index("loading:"), text.index("async_loading:"))
        self.assertEqual(text.index("\nused_memory:") + 1, text.index("used_memory:"))

    @terrace_only("its own fields")
    def test_it_says_what_it_is(self):
        fields = self.client().info("server")
        self.assertEqual(fields["server_name"], "terrace")
        self.assertRegex(fields["terrace_version"], r"^\d+\.\d+\.\d+")
        self.assertTrue(fields["redis_version"].startswith("7.2."))

    def test_it_is_verbatim_text_in_resp3(self):
        client = self.client()
        client.ok("HELLO", "3")
        reply = client.ok("INFO", "server")
        self.assertIsInstance(reply, Verbatim)
        self.assertEqual(reply.value[0], b"txt")

    def test_counters_count(self):
        client = self.client()
        client.ok("CONFIG", "RESETSTAT")
        client.pipeline([("SET", "k", "v")] * 10 + [("GET", "k")] * 7 + [("GET", "missing")] * 3 + [("INCR", "k")] * 2 + [("NOSUCH",)])
        stats = client.info("stats")
        self.assertEqual((stats["keyspace_hits"], stats["keyspace_misses"]), ("7", "3"))
        self.assertTrue(22 <= int(stats["total_commands_processed"]) <= 25, stats["total_commands_processed"])
        self.assertEqual(stats["total_error_replies"], "3")
        self.assertGreater(int(stats["total_net_input_bytes"]), 500)
        self.assertGreater(int(stats["total_net_output_bytes"]), 100)
        commands = client.info("commandstats")
        self.assertTrue(commands["cmdstat_set"].startswith("calls=10,usec="), commands["cmdstat_set"])
        self.assertTrue(commands["cmdstat_incr"].endswith("rejected_calls=0,failed_calls=2"), commands["cmdstat_incr"])
        self.assertRegex(commands["cmdstat_get"], r"^calls=10,usec=\d+,usec_per_call=\d+\.\d\d,rejected_calls=0,failed_calls=0$")
        self.assertEqual(client.info("errorstats")["errorstat_ERR"], "count=3")
        self.assertRegex(client.info("latencystats")["latency_percentiles_usec_get"], r"^p50=\d+\.\d+,p99=\d+\.\d+,p99\.9=\d+\.\d+$")

    def test_subcommands_have_their_own_row(self):
        client = self.client()
        client.ok("CONFIG", "RESETSTAT")
        client.ok("CLIENT", "ID")
        client.ok("CLIENT", "GETNAME")
        commands = client.info("commandstats")
        self.assertIn("cmdstat_client|id", commands)
        self.assertIn("cmdstat_client|getname", commands)

    def test_keyspace_lists_databases_with_keys(self):
        client = self.client()
        client.ok("SET", "a", "1")
        client.ok("SELECT", "9")
        client.ok("SET", "a", "1", "EX", "100")
        fields = client.info("keyspace")
        self.assertEqual(fields["db0"], "keys=1,expires=0,avg_ttl=0")
        self.assertRegex(fields["db9"], r"^keys=1,expires=1,avg_ttl=\d+$")
        self.assertEqual(len(fields), 2)

    def test_memory_follows_what_is_stored(self):
        client = self.client()
        before = int(client.info("memory")["used_memory"])
        client.ok("SET", "big", "x" * (20 << 20))
        between = int(client.info("memory")["used_memory"])
        self.assertTrue(20 << 20 <= between - before <= 70 << 20, between - before)
        client.ok("DEL", "big")
        # What the connection read it into may stay a little longer.
        self.wait_until(lambda: between - int(client.info("memory")["used_memory"]) > 15 << 20, "it is freed")
        self.assertGreaterEqual(int(client.info("memory")["used_memory_peak"]), between)
        self.assertGreater(int(client.info("memory")["used_memory_rss"]), 1 << 20)


class SlowLog(ServerTest):
    def test_slow_commands_are_kept_with_their_arguments(self):
        client = self.client()
        client.ok("CLIENT", "SETNAME", "slow-one")
        client.ok("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "5")
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "slowlog-log-slower-than", "10000", "slowlog-max-len", "128"))
        self.assert_reply(OK, client, "SLOWLOG", "RESET")
        earliest = int(time.time())
        client.ok("SET", "k", "x" * 500)
        latest = time.time()
        client.ok("MGET", *range(100))
        entries = client.ok("SLOWLOG", "GET")
        mget, write = entries[0], entries[1]
        self.assertEqual(len(mget), 6)
        self.assertGreater(mget[0], write[0])
        self.assertTrue(earliest <= write[1] <= latest, (earliest, write, latest))
        self.assertGreaterEqual(write[2], 0)
        self.assertEqual(write[3], [b"SET", b"k", b"x" * 128 + b"... (372 more bytes)"])
        self.assertEqual((len(mget[3]), mget[3][-1]), (32, b"... (70 more arguments)"))
        self.assertEqual((write[4], write[5]), (b"%s:%d" % (b"127.0.0.1", client.socket.getsockname()[1]), b"slow-one"))
        client.pipeline([("GET", "k")] * 20)
        self.assertEqual(client.ok("SLOWLOG", "LEN"), 5)
        self.assertEqual(len(client.ok("SLOWLOG", "GET", "-1")), 5)
        self.assertEqual(len(client.ok("SLOWLOG", "GET", "2")), 2)

    def test_minus_one_keeps_none(self):
        client = self.client()
        client.ok("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "slowlog-log-slower-than", "10000"))
        client.ok("SLOWLOG", "RESET")
        client.ok("SET", "k", "v")
        self.assert_reply(0, client, "SLOWLOG", "LEN")

    def test_passwords_are_not_kept(self):
        client = self.client()
        client.ok("CONFIG", "SET", "slowlog-log-slower-than", "0")
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "slowlog-log-slower-than", "10000"))
        client.ok("SLOWLOG", "RESET")
        client.command("AUTH", "very-secret")
        client.ok("CONFIG", "SET", "requirepass", "")
        self.assertNotIn("very-secret", repr(client.ok("SLOWLOG", "GET", "-1")))


class Latency(ServerTest):
    def test_events_are_kept(self):
        # So high that only what sleeps is slow, however busy this machine is.
        server = self.start_server("--enable-debug-command", "yes", "--latency-monitor-threshold", "500")
        client = self.connect_to(server)
        self.assert_reply([], client, "LATENCY", "LATEST")
        client.ok("DEBUG", "SLEEP", "0.6")
        latest = client.ok("LATENCY", "LATEST")
        self.assertIn(b"command", [event[0] for event in latest])
        event = [event for event in latest if event[0] == b"command"][0]
        self.assertGreaterEqual(event[2], 599)
        self.assertGreaterEqual(event[3], event[2])
        self.assertEqual(client.ok("LATENCY", "HISTORY", "command")[0][1], event[2])
        self.assertIsInstance(client.ok("LATENCY", "DOCTOR"), bytes)
        self.assertGreaterEqual(client.ok("LATENCY", "RESET"), 1)
        self.assert_reply([], client, "LATENCY", "LATEST")

    def test_histogram(self):
        client = self.client()
        client.ok("CONFIG", "RESETSTAT")
        client.pipeline([("SET", "k", "v")] * 100)
        client.ok("HELLO", "3")
        reply = client.ok("LATENCY", "HISTOGRAM", "set", "nosuch", "get")
        self.assertIsInstance(reply, Map)
        self.assertEqual(reply.keys(), [b"set"])
        entry = reply.get("set")
        self.assertEqual(entry.get("calls"), 100)
        buckets = entry.get("histogram_usec").value
        self.assertEqual(buckets[-1][1], 100)
        self.assertEqual([count for _, count in buckets], sorted(count for _, count in buckets))


class Rest(ServerTest):
    def test_time(self):
        earliest = int(time.time())
        seconds, microseconds = (int(part) for part in self.client().ok("TIME"))
        self.assertTrue(earliest <= seconds <= time.time(), seconds)
        self.assertTrue(0 <= microseconds < 1000000)

    def test_memory_subcommands(self):
        client = self.client()
        stats = client.ok("MEMORY", "STATS")
        names = stats[::2]
        for name in (b"peak.allocated", b"total.allocated", b"startup.allocated", b"keys.count", b"dataset.bytes", b"overhead.total", b"fragmentation"):
            self.assertIn(name, names)
        self.assertIsInstance(client.ok("MEMORY", "DOCTOR"), bytes)
        self.assertIsInstance(client.ok("MEMORY", "MALLOC-STATS"), bytes)
        self.assert_reply(OK, client, "MEMORY", "PURGE")

    def test_lolwut_shows_the_version(self):
        self.assertIsInstance(self.client().ok("LOLWUT"), bytes)

    def test_debug_needs_permission(self):
        client = self.client()
        reply = client.command("DEBUG", "SLEEP", "0")
        self.assertIsInstance(reply, ErrorReply)
        self.assertTrue(reply.text.startswith("ERR DEBUG command not allowed."), reply)

    def test_debug(self):
        server = self.start_server("--enable-debug-command", "yes")
        client = self.connect_to(server)
        self.assert_reply(OK, client, "DEBUG", "SLEEP", "0")
        self.assert_reply(OK, client, "DEBUG", "POPULATE", "100", "name", "10")
        self.assert_reply(100, client, "DBSIZE")
        self.assertEqual(len(client.ok("GET", "name:5")), 10)
        first = client.ok("DEBUG", "DIGEST")
        self.assertIsInstance(first, Simple)
        client.ok("SET", "extra", "x")
        self.assertNotEqual(client.ok("DEBUG", "DIGEST"), first)
        client.ok("DEL", "extra")
        self.assertEqual(client.ok("DEBUG", "DIGEST"), first)
        self.assertEqual(len(client.ok("DEBUG", "DIGEST-VALUE", "name:1", "name:2")), 2)
        self.assertIsInstance(client.ok("DEBUG", "OBJECT", "name:1"), Simple)
        self.assert_reply(OK, client, "DEBUG", "LOG", "hello")

    def test_debug_protocol_shows_every_type(self):
        server = self.start_server("--enable-debug-command", "yes")
        client = self.connect_to(server)
        client.ok("HELLO", "3")
        for kind in ("string", "integer", "double", "null", "array", "set", "map", "attrib", "verbatim", "true", "false", "bignum"):
            reply = client.ok("DEBUG", "PROTOCOL", kind)
            self.assertIsNotNone(reply, kind)
        client.send("DEBUG", "PROTOCOL", "push")
        self.assertEqual(client.read_push().value[0], b"server-cpu-usage")

    def test_command_count_and_list_agree(self):
        client = self.client()
        names = [name for name in client.ok("COMMAND", "LIST") if b"|" not in name]
        self.assertEqual(len(names), client.ok("COMMAND", "COUNT"))
        self.assertEqual(len(client.ok("COMMAND")), len(names))
        self.assertEqual({name for name in names if name.startswith(b"bit")}, set(client.ok("COMMAND", "LIST", "FILTERBY", "PATTERN", "bit*")))
        self.assertIn(b"get", client.ok("COMMAND", "LIST", "FILTERBY", "ACLCAT", "string"))


class LazyFree(ServerTest):
    @terrace_only("its DEL frees on the spot")
    def test_what_is_freed_in_slices_is_counted(self):
        client = self.client()
        client.ok("CONFIG", "RESETSTAT")
        for at in range(0, 20000, 1000):
            client.ok("SADD", "big", *range(at, at + 1000))
        client.ok("SADD", "small", "a", "b")
        client.ok("UNLINK", "small", "big")
        self.wait_until(lambda: client.info("memory")["lazyfree_pending_objects"] == "0", "all is freed")
        self.assertEqual(client.info("memory")["lazyfreed_objects"], "1")


if __name__ == "__main__":
    unittest.main()
