"""CLIENT and its subcommands, MONITOR."""

import time
import unittest

from support.case import ServerTest, terrace_only
from support.resp import NULL_BULK, OK, PONG, ErrorReply, Simple, encode_command


def fields_of(line):
    return dict(part.split(b"=", 1) for part in line.strip().split(b" "))


class ClientCommands(ServerTest):
    server_arguments = ("--threads", "4")

    def listed(self, client, *arguments):
        text = client.ok("CLIENT", "LIST", *arguments)
        text = text if isinstance(text, bytes) else text.text
        return [fields_of(line) for line in text.splitlines()]

    def test_ids_grow_and_never_repeat(self):
        ids = [self.client().ok("CLIENT", "ID") for _ in range(20)]
        self.assertEqual(len(set(ids)), 20)
        self.assertEqual(ids, sorted(ids))

    def test_info_is_the_own_line_of_list(self):
        client = self.client()
        client.ok("CLIENT", "SETNAME", "me")
        client.ok("SELECT", "7")
        fields = fields_of(client.ok("CLIENT", "INFO"))
        for name in (b"id", b"addr", b"laddr", b"fd", b"name", b"age", b"idle", b"flags", b"db", b"sub", b"psub", b"multi", b"qbuf", b"qbuf-free",
                     b"argv-mem", b"obl", b"oll", b"omem", b"tot-mem", b"events", b"cmd", b"user", b"redir", b"resp"):
            self.assertIn(name, fields)
        self.assertEqual((fields[b"name"], fields[b"db"], fields[b"cmd"], fields[b"user"], fields[b"resp"], fields[b"flags"], fields[b"multi"]),
                         (b"me", b"7", b"client|info", b"default", b"2", b"N", b"-1"))
        self.assertEqual(int(fields[b"id"]), client.ok("CLIENT", "ID"))
        self.assertEqual(fields[b"addr"], b"%s:%d" % tuple(part.encode() if isinstance(part, str) else part for part in client.socket.getsockname()))
        self.assertEqual(fields[b"laddr"], b"127.0.0.1:%d" % self.server.port)
        others = {row[b"id"] for row in self.listed(client)}
        self.assertIn(fields[b"id"], others)

    def test_list_shows_all_and_filters(self):
        clients = [self.client() for _ in range(8)]
        ids = [client.ok("CLIENT", "ID") for client in clients]
        self.wait_until(lambda: len(self.listed(clients[0])) == 8, "those of the test before are gone")
        rows = self.listed(clients[0])
        self.assertEqual({int(row[b"id"]) for row in rows}, set(ids))
        self.assertEqual([int(row[b"id"]) for row in self.listed(clients[0], "ID", ids[3], ids[5], 9999999)], [ids[3], ids[5]])
        self.assertEqual(len(self.listed(clients[0], "TYPE", "normal")), 8)
        self.assertEqual(self.listed(clients[0], "TYPE", "pubsub"), [])
        self.assert_error("ERR Unknown client type 'what'", clients[0], "CLIENT", "LIST", "TYPE", "what")

    def test_names(self):
        client = self.client()
        self.assert_reply(NULL_BULK, client, "CLIENT", "GETNAME")
        self.assert_reply(OK, client, "CLIENT", "SETNAME", "a-name")
        self.assert_reply(b"a-name", client, "CLIENT", "GETNAME")
        for wrong in ("a b", "a\nb", "a\x7fb\x01", "\xff"):
            self.assert_error("ERR Client names cannot contain spaces, newlines or special characters.", client, "CLIENT", "SETNAME", wrong)
        self.assert_reply(b"a-name", client, "CLIENT", "GETNAME")
        self.assert_reply(OK, client, "CLIENT", "SETNAME", "")
        self.assert_reply(NULL_BULK, client, "CLIENT", "GETNAME")

    @terrace_only("it came with 7.2")
    def test_setinfo(self):
        client = self.client()
        self.assert_reply(OK, client, "CLIENT", "SETINFO", "lib-name", "my-driver")
        self.assert_reply(OK, client, "CLIENT", "SETINFO", "LIB-VER", "1.2.3")
        fields = fields_of(client.ok("CLIENT", "INFO"))
        self.assertEqual((fields[b"lib-name"], fields[b"lib-ver"]), (b"my-driver", b"1.2.3"))
        self.assert_error("ERR Unrecognized option 'what'", client, "CLIENT", "SETINFO", "what", "x")
        self.assert_error_starts("ERR lib-name cannot contain spaces", client, "CLIENT", "SETINFO", "lib-name", "a b")

    @terrace_only("it came with 7.2")
    def test_no_touch(self):
        client = self.client()
        self.assert_reply(OK, client, "CLIENT", "NO-TOUCH", "on")
        self.assertIn(b"T", fields_of(client.ok("CLIENT", "INFO"))[b"flags"])
        self.assert_reply(OK, client, "CLIENT", "NO-TOUCH", "off")
        self.assert_error("ERR syntax error", client, "CLIENT", "NO-TOUCH", "what")

    @terrace_only("it came with 7.4")
    def test_clients_that_watch_are_counted(self):
        client, other = self.client(), self.client()

        def figures():
            info = client.info("clients")
            return tuple(int(info[name]) for name in ("watching_clients", "total_watched_keys"))

        def watched(who):
            return fields_of(who.ok("CLIENT", "INFO"))[b"watch"]

        self.assertEqual((figures(), watched(client)), ((0, 0), b"0"))
        client.ok("WATCH", "a", "b", "a")
        other.ok("WATCH", "b", "c")
        self.assertEqual((figures(), watched(client), watched(other)), ((2, 3), b"2", b"2"))
        other.ok("UNWATCH")
        self.assertEqual((figures(), watched(other)), ((1, 2), b"0"))
        other.ok("WATCH", "c")
        other.close()
        self.wait_until(lambda: figures() == (1, 2), "the closed connection to be forgotten")
        client.ok("MULTI")
        client.ok("EXEC")
        self.assertEqual((figures(), watched(client)), ((0, 0), b"0"))
        client.ok("WATCH", "a")
        client.ok("RESET")
        self.assertEqual(figures(), (0, 0))

    @terrace_only("it came with 7.4")
    def test_clients_that_subscribe_are_counted(self):
        control, listener, modern = self.client(), self.client(), self.client()

        def count():
            return int(control.info("clients")["pubsub_clients"])

        self.assertEqual(count(), 0)
        modern.ok("HELLO", "3")
        modern.send("SUBSCRIBE", "a")
        modern.read_push()
        listener.command("SUBSCRIBE", "a")
        listener.command("PSUBSCRIBE", "a*")
        self.assertEqual(count(), 2)
        listener.command("UNSUBSCRIBE", "a")
        self.assertEqual(count(), 2)
        listener.command("PUNSUBSCRIBE", "a*")
        self.assertEqual(count(), 1)
        listener.command("SSUBSCRIBE", "a")
        self.assertEqual(count(), 2)
        listener.ok("RESET")
        self.assertEqual(count(), 1)
        modern.close()
        self.wait_until(lambda: count() == 0, "the closed connection to be forgotten")

    def test_no_evict(self):
        client = self.client()
        self.assert_reply(OK, client, "CLIENT", "NO-EVICT", "on")
        self.assertIn(b"e", fields_of(client.ok("CLIENT", "INFO"))[b"flags"])
        self.assert_reply(OK, client, "CLIENT", "NO-EVICT", "off")

    def test_kill_by_id(self):
        victim, killer = self.client(), self.client()
        victim_id = victim.ok("CLIENT", "ID")
        self.assert_reply(1, killer, "CLIENT", "KILL", "ID", victim_id)
        self.assert_closed(victim)
        self.assert_reply(0, killer, "CLIENT", "KILL", "ID", victim_id)

    def test_kill_by_address(self):
        victim, killer = self.client(), self.client()
        address = "%s:%d" % victim.socket.getsockname()
        victim.ok("PING")
        self.assert_reply(OK, killer, "CLIENT", "KILL", address)
        self.assert_closed(victim)
        self.assert_error("ERR No such client", killer, "CLIENT", "KILL", address)
        second = self.client()
        second.ok("PING")
        self.assert_reply(1, killer, "CLIENT", "KILL", "ADDR", "%s:%d" % second.socket.getsockname())
        self.assert_closed(second)

    def test_kill_by_local_address_and_user_and_type(self):
        for words in (("LADDR", f"127.0.0.1:{self.server.port}"), ("USER", "default"), ("TYPE", "normal")):
            victims, killer = [self.client() for _ in range(3)], self.client()
            for victim in victims:
                victim.ok("PING")
            self.wait_until(lambda: killer.info("clients")["connected_clients"] == "4", "those before are gone")
            self.assert_reply(3, killer, "CLIENT", "KILL", *words)
            for victim in victims:
                self.assert_closed(victim)
            killer.close()

    @terrace_only("since 7.4")
    def test_kill_by_age(self):
        old, killer = self.client(), self.client()
        old_id = old.ok("CLIENT", "ID")
        self.assert_error("ERR maxage is not an integer or out of range", killer, "CLIENT", "KILL", "MAXAGE", "old")
        self.assert_error("ERR maxage should be greater than 0", killer, "CLIENT", "KILL", "MAXAGE", "0")
        self.assert_reply(0, killer, "CLIENT", "KILL", "MAXAGE", "1000")
        self.wait_until(lambda: killer.ok("CLIENT", "KILL", "ID", old_id, "MAXAGE", "1") == 1, "it grows old")
        self.assert_closed(old)

    def test_killing_oneself_answers_first(self):
        client = self.client()
        client.send("CLIENT", "KILL", "ID", client.ok("CLIENT", "ID"), "SKIPME", "no")
        self.assertEqual(client.read_until_closed(), b":1\r\n")

    def test_kill_filters_must_all_match(self):
        victim, killer = self.client(), self.client()
        victim_id = victim.ok("CLIENT", "ID")
        self.assert_reply(0, killer, "CLIENT", "KILL", "ID", victim_id, "TYPE", "pubsub")
        self.assert_reply(0, killer, "CLIENT", "KILL", "ID", victim_id, "LADDR", "1.2.3.4:1")
        self.assert_reply(PONG, victim, "PING")
        self.assert_error("ERR No such user 'nobody'", killer, "CLIENT", "KILL", "USER", "nobody")

    def test_a_victim_amid_a_pipeline(self):
        victim, killer = self.client(), self.client()
        victim_id = victim.ok("CLIENT", "ID")
        victim.send_raw(encode_command("SET", "k", "v") * 5000)
        killer.ok("CLIENT", "KILL", "ID", victim_id)
        victim.read_until_closed()
        self.assert_serves()

    def test_reply_off_skip_and_on(self):
        client = self.client()
        client.send_raw(encode_command("CLIENT", "REPLY", "SKIP") + encode_command("SET", "a", "1") + encode_command("GET", "a"))
        self.assertEqual(client.read_reply(), b"1")
        client.send_raw(encode_command("CLIENT", "REPLY", "OFF") + encode_command("SET", "a", "2") + encode_command("NOSUCH")
                        + encode_command("CLIENT", "REPLY", "ON") + encode_command("GET", "a"))
        self.assertEqual([client.read_reply(), client.read_reply()], [OK, b"2"])
        self.assert_error("ERR syntax error", client, "CLIENT", "REPLY", "WHAT")
        client.send_raw(encode_command("CLIENT", "REPLY", "SKIP") + encode_command("CLIENT", "REPLY", "ON") + encode_command("GET", "a"))
        self.assertEqual([client.read_reply(), client.read_reply()], [OK, b"2"])

    def test_a_reply_above_the_output_limit_is_not_begun(self):
        server = self.start_server("--client-output-buffer-limit", "normal 100kb 0 0")
        with server.client() as writer, server.client() as reader:
            writer.ok("SET", "large", "x" * 200000)
            writer.ok("HSET", "hash", "a", "b")
            reader.send("GET", "large")
            self.assertEqual(reader.read_until_closed(), b"")
        with server.client() as reader:
            reader.send("HRANDFIELD", "hash", "-999999999")
            self.assertEqual(reader.read_until_closed(), b"")

    def test_the_query_buffer_of_who_asks(self):
        self.assertIn(b" qbuf=26 ", self.client().ok("CLIENT", "LIST"))

    def test_who_waits_for_a_pause_to_end_is_blocked(self):
        client, writer = self.client(), self.client()
        client.ok("CLIENT", "PAUSE", "60000", "WRITE")
        writer.send("SET", "k", "v")
        self.wait_until(lambda: b"blocked_clients:1\r" in client.ok("INFO", "clients"), "the writer is counted")
        client.ok("CLIENT", "UNPAUSE")
        self.assertEqual(writer.read_reply(), OK)
        self.assertIn(b"blocked_clients:0\r", client.ok("INFO", "clients"))

    def test_pause_holds_everybody_until_it_ends(self):
        client, other = self.client(), self.client()
        started = time.monotonic()
        self.assert_reply(OK, client, "CLIENT", "PAUSE", "300")
        self.assert_reply(OK, other, "SET", "k", "v")
        self.assertGreaterEqual(time.monotonic() - started, 0.29)

    def test_pause_write_holds_writers_only(self):
        client, writer, reader = self.client(), self.client(), self.client()
        client.ok("CLIENT", "PAUSE", "60000", "WRITE")
        self.assert_reply(NULL_BULK, reader, "GET", "k")
        writer.send("SET", "k", "v")
        self.assert_reply(NULL_BULK, reader, "GET", "k")
        self.assert_reply(OK, client, "CLIENT", "UNPAUSE")
        self.assertEqual(writer.read_reply(), OK)
        self.assert_reply(b"v", reader, "GET", "k")

    def test_unpause_releases_all(self):
        client = self.client()
        client.ok("CLIENT", "PAUSE", "60000", "WRITE")
        waiting = [self.client() for _ in range(12)]
        for number, other in enumerate(waiting):
            other.send_raw(encode_command("SET", f"k{number}", "v") + encode_command("GET", f"k{number}"))
        client.ok("CLIENT", "UNPAUSE")
        for other in waiting:
            self.assertEqual([other.read_reply(), other.read_reply()], [OK, b"v"])

    def test_exec_with_writes_waits_as_well(self):
        client, other = self.client(), self.client()
        other.ok("MULTI")
        other.ok("SET", "k", "v")
        client.ok("CLIENT", "PAUSE", "60000", "WRITE")
        other.send("EXEC")
        self.assert_reply(NULL_BULK, client, "GET", "k")
        client.ok("CLIENT", "UNPAUSE")
        self.assertEqual(other.read_reply(), [OK])

    def test_pause_arguments(self):
        client = self.client()
        self.assert_error("ERR timeout is negative", client, "CLIENT", "PAUSE", "-1")
        self.assert_error("ERR timeout is not an integer or out of range", client, "CLIENT", "PAUSE", "x")
        self.assert_error("ERR CLIENT PAUSE mode must be WRITE or ALL", client, "CLIENT", "PAUSE", "1", "WHAT")

    def test_help_is_a_list_of_lines(self):
        for command in ("CLIENT", "OBJECT", "CONFIG", "COMMAND", "SLOWLOG", "LATENCY", "MEMORY"):
            lines = self.client().ok(command, "HELP")
            self.assertGreater(len(lines), 3, command)
            self.assertTrue(all(isinstance(line, Simple) for line in lines), command)
            self.assertTrue(lines[0].value.startswith(command.encode()), command)

    def test_unknown_subcommands_are_plain_errors(self):
        client = self.client()
        for command in ("CLIENT", "OBJECT", "CONFIG", "SLOWLOG", "LATENCY", "MEMORY"):
            self.assert_error(f"ERR unknown subcommand 'nosuch'. Try {command} HELP.", client, command, "nosuch")
        self.assert_reply(PONG, client, "PING")


class Monitor(ServerTest):
    server_arguments = ("--threads", "4")

    def monitor(self):
        client = self.client()
        self.assert_reply(OK, client, "MONITOR")
        return client

    def test_it_shows_commands_of_all_workers_escaped(self):
        monitor = self.monitor()
        senders = [self.client() for _ in range(8)]
        for number, sender in enumerate(senders):
            sender.ok("SET", f"k{number}", b'a"b\n\x00\xff\\')
            line = monitor.read_reply()
            self.assertIsInstance(line, Simple)
            address = "%s:%d" % sender.socket.getsockname()
            self.assertRegex(line.value.decode(), r"^\d+\.\d{6} \[0 " + address.replace(".", r"\.") + r"\] ")
            self.assertTrue(line.value.endswith(rb' "SET" "k%d" "a\"b\n\x00\xff\\"' % number), line)

    def test_it_names_the_database(self):
        monitor, sender = self.monitor(), self.client()
        sender.ok("SELECT", "5")
        sender.ok("GET", "k")
        monitor.read_reply()
        self.assertIn(b"[5 ", monitor.read_reply().value)

    def test_passwords_are_not_shown(self):
        monitor, sender = self.monitor(), self.client()
        sender.command("AUTH", "very-secret")
        sender.ok("CONFIG", "SET", "maxclients", "1000")
        sender.ok("PING", "end")
        shown = b""
        while b"end" not in shown:
            shown += monitor.read_reply().value
        self.assertNotIn(b"very-secret", shown)

    def test_transactions_are_shown_in_order(self):
        monitor, sender = self.monitor(), self.client()
        for command in (("MULTI",), ("SET", "k", "v"), ("GET", "k"), ("EXEC",)):
            sender.ok(*command)
        shown = [monitor.read_reply().value.split(b'"')[1] for _ in range(4)]
        self.assertEqual(sorted(shown), sorted([b"MULTI", b"SET", b"GET", b"EXEC"]))

    def test_quit_and_reset_leave(self):
        for word, reply in (("QUIT", b"+OK\r\n"), ("RESET", b"+RESET\r\n")):
            monitor = self.monitor()
            monitor.send(word)
            self.assertEqual(monitor.read_raw(), reply)
        self.assert_reply(PONG, monitor, "PING")

    def test_a_monitor_that_does_not_read_is_bounded(self):
        server = self.start_server("--client-output-buffer-limit", "normal 2mb 0 0")
        monitor = self.connect_to(server, receive_buffer=4096)
        monitor.ok("MONITOR")
        sender = self.connect_to(server)
        for _ in range(60):
            sender.pipeline([("ECHO", "x" * 1000)] * 200)
        self.wait_until(lambda: sender.info("clients")["connected_clients"] == "1", "the monitor is closed")


class ErrorsAreErrors(ServerTest):
    def test_client_subcommands_check_their_arguments(self):
        client = self.client()
        for words in (("CLIENT",), ("CLIENT", "KILL"), ("CLIENT", "SETNAME"), ("CLIENT", "ID", "x"), ("CLIENT", "NO-EVICT", "x"), ("CLIENT", "LIST", "x"),
                      ("CLIENT", "KILL", "ID", "x"), ("CLIENT", "KILL", "WHAT", "x"), ("CLIENT", "KILL", "TYPE", "x"), ("CLIENT", "KILL", "SKIPME", "x")):
            self.assertIsInstance(client.command(*words), ErrorReply, words)


if __name__ == "__main__":
    unittest.main()
