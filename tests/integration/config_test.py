"""CONFIG GET, SET, REWRITE, RESETSTAT; the directives of existing configuration files."""

import os
import tempfile
import unittest

from support.case import ServerTest, terrace_only
from support.resp import OK, ErrorReply

# Names tools and test suites set or read; each has to be there, also where it has no effect here.
EXPECTED = """
    maxmemory maxmemory-policy maxmemory-samples timeout tcp-keepalive databases port bind unixsocket unixsocketperm
    save appendonly appendfsync dir dbfilename logfile loglevel maxclients requirepass protected-mode hz
    slowlog-log-slower-than slowlog-max-len latency-monitor-threshold client-output-buffer-limit client-query-buffer-limit
    proto-max-bulk-len lazyfree-lazy-eviction lazyfree-lazy-expire lazyfree-lazy-server-del lazyfree-lazy-user-del
    active-expire-effort notify-keyspace-events min-replicas-to-write sanitize-dump-payload busy-reply-threshold lua-time-limit
    rdb-key-save-delay key-load-delay hash-max-listpack-entries hash-max-ziplist-entries hash-max-listpack-value
    hash-max-ziplist-value list-max-listpack-size list-max-ziplist-size set-max-intset-entries zset-max-listpack-entries
    zset-max-ziplist-entries zset-max-listpack-value zset-max-ziplist-value hll-sparse-max-bytes replica-read-only
    stream-node-max-bytes stream-node-max-entries tcp-backlog daemonize pidfile supervised
""".split()


class Config(ServerTest):
    def get(self, client, *names):
        reply = client.ok("CONFIG", "GET", *names)
        return {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2])}

    def test_the_names_tools_ask_for_are_there(self):
        client = self.client()
        missing = [name for name in EXPECTED if name not in self.get(client, name)]
        self.assertEqual(missing, [])

    def test_several_names_and_globs(self):
        client = self.client()
        self.assertEqual(set(self.get(client, "maxclients", "tcp-backlog")), {"maxclients", "tcp-backlog"})
        self.assertLessEqual({"slowlog-max-len", "slowlog-log-slower-than"}, set(self.get(client, "slowlog*")))
        self.assertEqual(set(self.get(client, "slowlog-max-len", "slowlog-*", "SLOWLOG-max-len")), {"slowlog-max-len", "slowlog-log-slower-than"})
        self.assertEqual(self.get(client, "nosuch*"), {})
        self.assertGreater(len(self.get(client, "*")), 60)

    def test_defaults_are_the_familiar_ones(self):
        values = self.get(self.client(), "*")
        for name, value in {"databases": "16", "maxclients": "10000", "timeout": "0", "protected-mode": "yes", "tcp-keepalive": "300",
                            "slowlog-max-len": "128", "slowlog-log-slower-than": "10000", "maxmemory-policy": "noeviction", "appendonly": "no",
                            "dbfilename": "dump.rdb", "proto-max-bulk-len": "536870912", "client-query-buffer-limit": "1073741824",
                            "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"}.items():
            self.assertEqual(values[name], value, name)

    def test_units(self):
        client = self.client()
        for text, value in [("100mb", "104857600"), ("1gb", "1073741824"), ("1g", "1000000000"), ("5k", "5000"), ("2kb", "2048"), ("0", "0"), ("3M", "3000000")]:
            self.assert_reply(OK, client, "CONFIG", "SET", "maxmemory", text)
            self.assertEqual(self.get(client, "maxmemory")["maxmemory"], value)
        self.assert_reply(OK, client, "CONFIG", "SET", "maxmemory", "0")

    def test_several_at_once_are_all_or_nothing(self):
        client = self.client()
        self.addCleanup(lambda: self.client().ok("CONFIG", "SET", "timeout", "0", "slowlog-max-len", "128"))
        self.assert_reply(OK, client, "CONFIG", "SET", "timeout", "100", "slowlog-max-len", "50")
        self.assertEqual(self.get(client, "timeout", "slowlog-max-len"), {"timeout": "100", "slowlog-max-len": "50"})
        for wrong in (("slowlog-max-len", "x"), ("nosuch", "1"), ("databases", "3"), ("timeout", "1")):
            reply = client.command("CONFIG", "SET", "timeout", "200", *wrong)
            self.assertIsInstance(reply, ErrorReply, wrong)
            self.assertEqual(self.get(client, "timeout")["timeout"], "100", wrong)

    def test_errors(self):
        client = self.client()
        for words, text in [
            (("nosuch", "1"), "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
            (("databases", "3"), "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config"),
            (("timeout", "x"), "ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer"),
            (("timeout", "1", "timeout", "2"), "ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter"),
            (("appendfsync", "what"), None),
            (("protected-mode", "what"), "ERR CONFIG SET failed (possibly related to argument 'protected-mode') - argument must be 'yes' or 'no'"),
        ]:
            if text:
                self.assert_error(text, client, "CONFIG", "SET", *words)
            else:
                self.assert_error_starts("ERR CONFIG SET failed (possibly related to argument 'appendfsync')", client, "CONFIG", "SET", *words)

    @terrace_only("there are no such names")
    def test_what_cannot_be_changed_may_be_set_to_what_it_is(self):
        """Tools that write back all they have read know only the fixed names of Redis."""
        client = self.client()
        for name in ("threads", "shards", "tier-path", "tier-size", "numa-policy", "far-memory-nodes"):
            self.assert_reply(OK, client, "CONFIG", "SET", name, self.get(client, name)[name])
        for name, value in (("threads", "63"), ("tier-path", "/x"), ("databases", "16")):
            self.assert_error(f"ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config",
                              client, "CONFIG", "SET", "timeout", "5", name, value)
        self.assertEqual(self.get(client, "timeout")["timeout"], "0")

    def test_out_of_range(self):
        self.assert_error_starts("ERR CONFIG SET failed (possibly related to argument 'slowlog-max-len') - argument must be",
                                 self.client(), "CONFIG", "SET", "slowlog-max-len", "-1")

    def test_resetstat(self):
        client = self.client()
        client.pipeline([("GET", "missing")] * 50)
        self.assertGreaterEqual(int(client.info("stats")["keyspace_misses"]), 50)
        self.assert_reply(OK, client, "CONFIG", "RESETSTAT")
        stats = client.info("stats")
        self.assertEqual(stats["keyspace_misses"], "0")
        self.assertLess(int(stats["total_commands_processed"]), 10)
        self.assertNotIn("cmdstat_get", client.info("commandstats"))

    def test_rewrite(self):
        with tempfile.TemporaryDirectory(prefix="terrace-test-") as directory:
            path = os.path.join(directory, "terrace.conf")
            with open(path, "w", encoding="utf-8") as file:
                file.write("# my comment\nmaxclients 300\n\n# another\ntimeout 5\n")
            server = self.start_server(config=path)
            client = self.connect_to(server)
            client.ok("CONFIG", "SET", "timeout", "7", "slowlog-max-len", "99")
            self.assert_reply(OK, client, "CONFIG", "REWRITE")
            with open(path, encoding="utf-8") as file:
                text = file.read()
            self.assertIn("# my comment\nmaxclients 300\n", text)
            self.assertIn("# another\ntimeout 7\n", text)
            self.assertIn("slowlog-max-len 99\n", text)
            again = self.start_server(config=path)
            values = self.get(self.connect_to(again), "*")
            self.assertEqual((values["maxclients"], values["timeout"], values["slowlog-max-len"]), ("300", "7", "99"))

    def test_rewrite_without_a_file(self):
        self.assert_error("ERR The server is running without a config file", self.client(), "CONFIG", "REWRITE")

    def test_a_familiar_file_starts_the_server(self):
        text = "\n".join([
            "bind * -::*", "protected-mode yes", "port 0", "tcp-backlog 511", "timeout 0", "tcp-keepalive 300", "daemonize no",
            "loglevel notice", 'logfile ""', "databases 16", "always-show-logo no", "set-proc-title yes", 'proc-title-template "{title} {listen-addr}"',
            "stop-writes-on-bgsave-error yes", "rdbcompression yes", "rdbchecksum yes", "dbfilename dump.rdb", "rdb-del-sync-files no",
            "replica-serve-stale-data yes", "replica-read-only yes", "repl-diskless-sync yes", "repl-diskless-sync-delay 5", "repl-disable-tcp-nodelay no",
            "replica-priority 100", "acllog-max-len 128", "lazyfree-lazy-eviction no", "lazyfree-lazy-user-flush no", "oom-score-adj no",
            "oom-score-adj-values 0 200 800", "disable-thp yes", "appendonly no", 'appendfilename "appendonly.aof"', 'appenddirname "appendonlydir"',
            "appendfsync everysec", "no-appendfsync-on-rewrite no", "auto-aof-rewrite-percentage 100", "auto-aof-rewrite-min-size 64mb",
            "aof-load-truncated yes", "aof-use-rdb-preamble yes", "slowlog-log-slower-than 10000", "latency-monitor-threshold 0",
            'notify-keyspace-events ""', "hash-max-listpack-entries 512", "list-compress-depth 0", "hll-sparse-max-bytes 3000", "activerehashing yes",
            "client-output-buffer-limit normal 0 0 0", "client-output-buffer-limit replica 256mb 64mb 60", "client-output-buffer-limit pubsub 32mb 8mb 60",
            "hz 10", "dynamic-hz yes", "aof-rewrite-incremental-fsync yes", "jemalloc-bg-thread yes", "io-threads 1",
            "lfu-log-factor 10", "activedefrag no", "save 3600 1 300 100 60 10000"])
        server = self.start_server(config="-", stdin=text.encode() + b"\n")
        self.assertEqual(self.get(self.connect_to(server), "hz")["hz"], "10")

    @terrace_only("it has none")
    def test_the_sample_file_is_accepted(self):
        top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        server = self.start_server(config=os.path.join(top, "deploy", "terrace.conf"))
        self.assertEqual(self.get(self.connect_to(server), "databases")["databases"], "16")


if __name__ == "__main__":
    unittest.main()
