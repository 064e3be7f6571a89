#ifndef TERRACE_TESTS_SUPPORT_IN_PROCESS_H
#define TERRACE_TESTS_SUPPORT_IN_PROCESS_H

/* A server without sockets: keyspace, command table, dispatcher and one session in this process, so that a unit test
 * runs commands as a client would and reads the bytes of their replies.
 *
 *   const struct command_family families[] = {{string_commands, string_command_count}};
 *   struct in_process *server = in_process_create(families, 1);
 *   in_process_expect(server, "SET key \"two words\"", "+OK\r\n");
 *   in_process_destroy(server);
 *
 * Every function asserts: what fails here is a broken test or a broken core. The wall clock stands still at
 * IN_PROCESS_START_MS until in_process_advance(). Not for several threads. */

#include "base/span.h"
#include "command/command.h"
#include "command/dispatch.h"
#include "command/session.h"

/* Saturday, 2033-05-18 03:33:20 UTC. */
#define IN_PROCESS_START_MS INT64_C(2000000000000)

struct in_process {
    struct keyspace *keyspace;
    struct command_table *table;
    struct command_stats *stats;
    struct dispatcher *dispatcher; /* its now_ms is the time of the next command */
    struct session *session;       /* runs the commands; may be exchanged for another to play a second client */
    struct command_host host;      /* all callbacks NULL: set what the test needs */
    char *reply;                   /* of the last command, terminated; replaced by the next one */
    size_t reply_length, reply_capacity;
    struct session own_session;
};

/* With exactly these families of commands, 4 shards, 16 databases, no locks. The families are only read. The caller
 * destroys it. */
struct in_process *in_process_create(const struct command_family *families, unsigned count);
/* Validates the keyspace first. */
void in_process_destroy(struct in_process *server);
/* The two as cmocka's setup and teardown, *state being the server; the first with the commands on strings. */
int in_process_start_strings(void **state);
int in_process_stop(void **state);

/* One command as a line of words: blanks separate, quotes group, "\x00" escapes, as on redis-cli's command line. The
 * reply is the wire's bytes, terminated, valid until the next command; server->reply_length tells its length. */
const char *in_process_run(struct in_process *server, const char *line);
/* The same for arguments of any bytes and any length. */
const char *in_process_run_arguments(struct in_process *server, const struct span *arguments, uint32_t count);
/* The same for a key and one value, the commonest large command: NAME key value. */
const char *in_process_run_with_value(struct in_process *server, const char *name, const char *key, struct span value);

/* Runs the line and fails the cmocka test, naming command, file and line, unless exactly these bytes come back. */
#define in_process_expect(server, line, reply)                                                                         \
    in_process_expect_at(server, line, span_of_text(reply), __FILE__, __LINE__)
/* The same where the reply holds NUL bytes: `reply` is a string literal. */
#define in_process_expect_bytes(server, line, reply)                                                                   \
    in_process_expect_at(server, line, SPAN_LITERAL(reply), __FILE__, __LINE__)
void in_process_expect_at(struct in_process *server, const char *line, struct span reply, const char *file, int at);

/* The integer of an integer reply; fails the test when the reply is another. */
int64_t in_process_integer(struct in_process *server, const char *line);
/* The payload of a bulk reply, inside server->reply; fails the test when the reply is another. */
struct span in_process_bulk(struct in_process *server, const char *line);

/* Lets this much time pass for the commands to come. */
void in_process_advance(struct in_process *server, int64_t ms);

#endif
