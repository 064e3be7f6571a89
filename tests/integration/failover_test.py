"""FAILOVER: a primary hands its role to a replica, Terrace to Terrace, to Redis, and from Redis, and nothing is lost."""

import shutil
import unittest

from support.case import OwnServersTest
from support.replicas import RawReplica, Writer, differences, is_synced
from support.resp import OK, ErrorReply
from support.server import Server

REDIS = shutil.which("redis-server")


class FailoverTest(OwnServersTest):
    def start(self, program=None, *arguments):
        server = Server("--repl-diskless-sync-delay", 0, *arguments, program=program)
        self.addCleanup(server.stop)
        return server, self.connect_to(server)

    def pair(self, first=None, second=None):
        primary, primary_client = self.start(first)
        replica, replica_client = self.start(second, "--replicaof", f"127.0.0.1 {primary.port}")
        self.wait_until(lambda: is_synced(primary_client, replica_client), "the replica is there")
        return primary, primary_client, replica, replica_client

    def role(self, client):
        return client.info("replication")["role"]

    def change_roles(self, first, second):
        primary, old, replica, new = self.pair(first, second)
        writer = Writer(old, 21)
        writer.write(500)
        old.ok("FAILOVER")
        self.wait_until(lambda: self.role(old) == "slave" and self.role(new) == "master", "the roles have changed")
        self.wait_until(lambda: is_synced(new, old), "the former primary follows")
        Writer(new, 22).write(300)
        self.wait_until(lambda: is_synced(new, old), "the former primary follows")
        self.assertEqual(differences(new, old), "")
        self.wait_until(lambda: old.info("replication")["master_failover_state"] == "no-failover", "it is over")
        self.assertEqual(new.info("stats")["sync_full"], "0")  # it has gone on where it was
        old.ok("SELECT", 0)
        self.assert_error_starts("READONLY", old, "SET", "a", 1)

    def test_of_terrace_to_terrace(self):
        self.change_roles(None, None)

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_of_terrace_to_redis(self):
        self.change_roles(None, REDIS)

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_of_redis_to_terrace(self):
        self.change_roles(REDIS, None)

    def test_writes_wait_until_it_is_over(self):
        server, client = self.start()
        replica = RawReplica(server.port)
        self.addCleanup(replica.close)
        replica.synchronise()
        self.wait_until(lambda: "state=online" in client.info("replication")["slave0"], "it is online")
        client.ok("SET", "a", 1)
        client.ok("FAILOVER")
        self.assertEqual(client.info("replication")["master_failover_state"], "waiting-for-sync")
        self.assert_error("ERR FAILOVER already in progress.", client, "FAILOVER")
        self.assertEqual(client.ok("GET", "a"), b"1")
        writer = self.connect_to(server)
        writer.send("SET", "a", 2)
        self.wait_until(lambda: client.info("clients")["blocked_clients"] == "1", "the writer waits")
        self.assertEqual(client.ok("GET", "a"), b"1")
        client.ok("FAILOVER", "ABORT")
        self.assertEqual(writer.read_reply(), OK)
        client.ok("FAILOVER", "TIMEOUT", 300)
        self.assertNotIsInstance(client.command("SET", "a", 3), ErrorReply)  # waits for the time to be over
        self.assertEqual(client.info("replication")["master_failover_state"], "no-failover")
        self.assertEqual(self.role(client), "master")

    def test_a_target_that_refuses_leaves_a_primary(self):
        server, client = self.start()
        other, _ = self.start()  # a primary itself
        replica = RawReplica(server.port)
        self.addCleanup(replica.close)
        replica.client.ok("REPLCONF", "listening-port", other.port)
        replica.synchronise()
        self.wait_until(lambda: "state=online" in client.info("replication")["slave0"], "it is online")
        client.ok("FAILOVER", "TO", "127.0.0.1", other.port, "FORCE", "TIMEOUT", 1)
        server.wait_for_log("Failover target rejected psync request")
        self.wait_until(lambda: self.role(client) == "master", "it is a primary again")
        client.ok("SET", "a", 1)

    def test_what_is_refused(self):
        _, client, replica, other = self.pair()
        self.assert_error("ERR FAILOVER is not valid when server is a replica.", other, "FAILOVER")
        self.assert_error("ERR No failover in progress.", client, "FAILOVER", "ABORT")
        self.assert_error("ERR syntax error", client, "FAILOVER", "nonsense")
        self.assert_error("ERR FAILOVER timeout must be greater than 0", client, "FAILOVER", "TIMEOUT", 0)
        self.assert_error(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.", client, "FAILOVER", "TO",
            "127.0.0.1", replica.port, "FORCE",
        )
        self.assert_error(
            "ERR FAILOVER target HOST and PORT is not a replica.", client, "FAILOVER", "TO", "127.0.0.1", 1
        )
        _, alone = self.start()
        self.assert_error("ERR FAILOVER requires connected replicas.", alone, "FAILOVER")
        self.assert_error("ERR PSYNC FAILOVER can't be sent to a master.", alone, "PSYNC", "0" * 40, 1, "FAILOVER")
        self.assert_error(
            "ERR PSYNC FAILOVER replid must match my replid.", other, "PSYNC", "0" * 40, 1, "FAILOVER"
        )


if __name__ == "__main__":
    unittest.main()
