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
 * With a tier its one port is driven from here: a command that waits for cold records is run again when they have come,
 * so a test sees replies only.
 *
 * Every function asserts: what fails here is a broken test or a broken core. The wall clock stands still at
 * IN_PROCESS_START_MS until in_process_advance(). Not for several threads. */

#include "base/span.h"
#include "command/command.h"
#include "command/dispatch.h"
#include "command/session.h"
#include "tiering/tier.h"

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
    struct tier *tier;      /* NULL: none */
    struct tier_port *port; /* its only one */
    uint64_t waits;         /* how often a command had to be run again */
    struct session own_session;
};

struct in_process_options {
    const struct command_family *families; /* only read */
    unsigned family_count;
    const struct tier_options *tier; /* NULL: none; its `ports` is set here */
    size_t far_bytes_max;            /* records in "far memory", which is of the same node; 0: none */
    unsigned shards;                 /* 0: 4 */
    size_t reserve_bytes;            /* addresses for records, so that memory runs out; 0: plenty */
};

/* With exactly these families of commands, 4 shards, 16 databases, no locks. The families are only read. The caller
 * destroys it. */
struct in_process *in_process_create(const struct command_family *families, unsigned count);
struct in_process *in_process_create_with(const struct in_process_options *options);
/* Validates the keyspace first. Sessions of the caller's own have been ended before. */
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

/* Several commands at once, as a client that pipelines sends them: RESP or lines that end with CR LF. */
const char *in_process_run_input(struct in_process *server, struct span input);

/* The integer of an integer reply; fails the test when the reply is another. */
int64_t in_process_integer(struct in_process *server, const char *line);
/* The payload of a bulk reply, inside server->reply; fails the test when the reply is another. */
struct span in_process_bulk(struct in_process *server, const char *line);

/* ---- with a tier ---- */

/* Ends what of the session is only known here, so that it can be freed. */
void in_process_end_session(struct in_process *server, struct session *session);
/* A worker's turn without commands: ends what has ended, hands over what was started. Failed writes are tried again. */
void in_process_turn(struct in_process *server);
/* Writes whatever is not written yet and waits until nothing is under way. */
void in_process_settle(struct in_process *server);
/* Moves the records of all databases whose keys match to the tier; fails the test unless it takes them. */
void in_process_demote(struct in_process *server, const char *pattern);

/* Lets this much time pass for the commands to come. */
void in_process_advance(struct in_process *server, int64_t ms);

#endif
