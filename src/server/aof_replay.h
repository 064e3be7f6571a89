#ifndef TERRACE_SERVER_AOF_REPLAY_H
#define TERRACE_SERVER_AOF_REPLAY_H

/* Running the commands of a journal (an append-only file, a pool) against the server's keyspace, by several threads,
 * while workers answer -LOADING: between loading_begin() and loading_end(). The thread that reads the journal calls. */

#include "persist/aof_load.h"

struct server;
struct aof_replay;

/* `files`: what is loaded with it, for the figures of INFO; outlives it. `words_stay`: what commands consist of stays
 * where it is until aof_replay_settle(), and not only during aof_replay_apply(). NULL: no memory. */
struct aof_replay *aof_replay_create(struct server *server, const struct aof_load_progress *files, bool words_stay);
void aof_replay_destroy(struct aof_replay *replay);

/* See struct aof_load_options; `ctx` is the replay. A refusal is valid until the replay is destroyed. */
bool aof_replay_apply(void *ctx, struct aof_command *commands, unsigned count, const char **refusal);
/* Waits until all of them have been run. False: one of them could not be. */
bool aof_replay_settle(struct aof_replay *replay, const char **refusal) __attribute__((warn_unused_result));

/* What is applied next begins in this database. False: it is not there. */
bool aof_replay_select(struct aof_replay *replay, int64_t database) __attribute__((warn_unused_result));
/* That is selected behind what was applied. */
uint32_t aof_replay_database(const struct aof_replay *replay);
/* Settled: commands that failed, which were passed by. `code`, of the first one: its error's first word; "" if there is
 * none. */
uint64_t aof_replay_failures(const struct aof_replay *replay, const char **code);

#endif
