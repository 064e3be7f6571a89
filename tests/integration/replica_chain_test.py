"""Replicas of replicas, promotion in a chain, and moving from Redis to Terrace and back while clients write."""

import shutil
import threading
import unittest

from support.case import OwnServersTest
from support.replicas import Writer, differences, is_synced
from support.resp import OK, ErrorReply

REDIS = shutil.which("redis-server")


class ChainTest(OwnServersTest):
    def start(self, program=None, of=None):
        arguments = ["--repl-diskless-sync-delay", 0, "--repl-ping-replica-period", 1]
        if of:
            arguments += ["--replicaof", f"127.0.0.1 {of.port}"]
        server = self.start_server(*arguments, program=program)
        return server, self.connect_to(server)

    def wait_for_sync(self, primary, replica):
        self.wait_until(lambda: is_synced(primary, replica), "it has caught up")

    def chain(self, *programs):
        """One behind the other; the first is the primary."""
        servers = []
        for program in programs:
            servers.append(self.start(program, of=servers[-1][0] if servers else None))
            if len(servers) > 1:
                self.wait_for_sync(servers[0][1], servers[-1][1])
        return servers

    def check(self, servers):
        for _, client in servers[1:]:
            self.wait_for_sync(servers[0][1], client)
            self.assertEqual(differences(servers[0][1], client), "")

    def check_chain(self, *programs):
        servers = self.chain(*programs)
        Writer(servers[0][1], 11).write(1500)
        self.check(servers)
        histories = {client.info("replication")["master_replid"] for _, client in servers}
        self.assertEqual(len(histories), 1)
        return servers

    def test_a_replica_of_a_replica_has_the_same_history(self):
        self.check_chain(None, None, None)

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_redis_behind_terrace_behind_redis(self):
        self.check_chain(REDIS, None, REDIS)

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_terrace_behind_redis_behind_terrace(self):
        self.check_chain(None, REDIS, None)

    def check_promotion(self, *programs):
        """The middle one is promoted: who is behind it goes on without a copy."""
        servers = self.check_chain(*programs)
        first, middle, last = servers
        # Nothing expires there either, nor is it pinged, so it does not get ahead.
        first[1].ok("CONFIG", "SET", "repl-ping-replica-period", 3600)
        first[1].ok("CLIENT", "PAUSE", 600_000, "WRITE")
        self.wait_for_sync(first[1], middle[1])
        self.assertEqual(middle[1].ok("REPLICAOF", "NO", "ONE"), OK)
        Writer(middle[1], 12).write(500)
        self.check(servers[1:])
        self.assertEqual(middle[1].info("stats")["sync_full"], "1")
        # The former primary comes behind the new one, and has lost nothing but its id.
        self.assertEqual(first[1].ok("REPLICAOF", "127.0.0.1", middle[0].port), OK)
        first[1].ok("CLIENT", "UNPAUSE")
        self.check([middle, first])
        self.assertEqual(middle[1].info("stats")["sync_full"], "1")
        self.check([middle, last])

    def test_a_promoted_replica_goes_on_with_those_behind_it(self):
        self.check_promotion(None, None, None)

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_a_promoted_replica_of_redis_goes_on_with_those_behind_it(self):
        self.check_promotion(REDIS, None, REDIS)

    @unittest.skipUnless(REDIS, "redis-server is not installed")
    def test_moving_from_redis_and_back_loses_no_write(self):
        old = self.start(REDIS)
        new = self.start(None, of=old[0])
        self.wait_for_sync(old[1], new[1])
        stop, written = threading.Event(), [0]

        def write():
            """A client that counts what was acknowledged, and goes where it may write."""
            connections = [server.client() for server in (old[0], new[0])]
            at = 0
            while not stop.is_set():
                reply = connections[at].command("INCR", "counter")
                if isinstance(reply, ErrorReply):
                    at = 1 - at
                else:
                    written[0] += 1
            for connection in connections:
                connection.close()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            self.move(old, new)
            self.move(new, old)
        finally:
            stop.set()
            writer.join()
        self.wait_for_sync(old[1], new[1])
        self.assertEqual(int(old[1].ok("GET", "counter")), written[0])
        self.assertEqual(int(new[1].ok("GET", "counter")), written[0])

    def move(self, old, new):
        """The steps of the recipe: writes wait, the replica has everything, it is promoted, the old one follows it."""
        with old[0].client() as one:
            count = int(one.ok("INCRBY", "counter", 0))
            self.wait_until(lambda: int(one.ok("GET", "counter")) > count + 20, "it is written to")
            one.ok("CLIENT", "PAUSE", 600_000, "WRITE")
            self.wait_for_sync(one, new[1])
            new[1].ok("REPLICAOF", "NO", "ONE")
            one.ok("REPLICAOF", "127.0.0.1", new[0].port)
            one.ok("CLIENT", "UNPAUSE")
        self.wait_for_sync(new[1], old[1])


if __name__ == "__main__":
    unittest.main()
