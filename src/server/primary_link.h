#ifndef TERRACE_SERVER_PRIMARY_LINK_H
#define TERRACE_SERVER_PRIMARY_LINK_H

/* The replica's link to its primary: connects, asks for what is missing, receives it, and applies the stream.
 *
 *   CONNECT --> CONNECTING --> HANDSHAKE --+--> TRANSFER --> LOADING --+--> CONNECTED
 *      ^                                   '------ +CONTINUE ----------'        |
 *      '----------------- whatever fails: again after a second ----------------'
 *
 * Up to LOADING a thread of the link's own works, which may wait. A full copy is received to a file: the dataset is
 * replaced only once all of it has come. The stream is then read by worker 0, as if it were a client's connection;
 * what comes is appended to the journal as it is (replication_append()) and run without effects of its own, by all
 * workers (stream_round.h).
 *
 * Role, id and offset are replication.h's: what is asked for with PSYNC is what they say. Errors are told by a line of
 * the log, and all but the wrong use of a command lead to another try. */

#include <stdbool.h>

struct command;
struct connection;
struct primary_link;
struct reply;
struct server;
struct session;
struct text;
struct worker;

/* The configuration names a primary: the server is its replica from now on, and link_begin() has yet to be called.
 * Before workers run, before anything is loaded. False: no memory. */
bool primary_link_prepare(struct server *server) __attribute__((warn_unused_result));
/* The dataset has been loaded: begins to connect if the configuration names a primary. Worker 0, or the main thread
 * before workers run. */
void primary_link_begin(struct server *server);
/* All workers have ended. */
void primary_link_end(struct server *server);

/* REPLICAOF, both kinds. All workers stand still. False: no memory, nothing has changed. */
bool primary_link_follow(struct server *server, const char *host, int port) __attribute__((warn_unused_result));
void primary_link_leave(struct server *server);

/* Every tick of worker 0. */
void primary_link_tick(struct server *server);
/* Whether an event of worker 0 with this tag is the link's; serves it. */
bool primary_link_event(struct worker *worker, void *tag);

/* Every turn of a worker: helps to apply the stream, goes on with what waited for the tier. */
void primary_link_turn(struct worker *worker);
/* On worker 0, before it stands still or has others do so: applies whatever the journal has of the stream. No locks are
 * held. */
void primary_link_settle(struct server *server);
/* Up to where the stream has been applied: the journal's end, but for what waits for the tier. Any thread. */
uint64_t primary_link_applied(struct server *server);

/* The link as CLIENT LIST shows it; NULL: it is not connected. And CLIENT KILL of it: it connects again. All workers
 * stand still; what is shown is good as long as they do. */
struct connection *primary_link_shown(struct server *server);
void primary_link_kill(struct server *server);

/* Connected, and applying the stream. Any thread. */
bool primary_link_is_up(const struct server *server);

/* See struct command_host: what may not be run on a replica; `ctx` is the server. */
const char *primary_link_refusal(void *ctx, const struct session *session, const struct command *command);

/* See replication.h. Workers' threads. */
void primary_link_info(struct server *server, struct text *text);
void primary_link_role(struct server *server, struct reply *reply);

#endif
