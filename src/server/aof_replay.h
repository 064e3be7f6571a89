#ifndef TERRACE_SERVER_AOF_REPLAY_H
#define TERRACE_SERVER_AOF_REPLAY_H

/* Running the commands of an append-only file against the server's keyspace, on the thread that loads it, while workers
 * answer -LOADING: between loading_begin() and loading_end(). One thread. */

#include "persist/aof_load.h"

struct server;
struct aof_replay;

/* `files`: what is loaded with it, for the figures of INFO; outlives it. NULL: no memory. */
struct aof_replay *aof_replay_create(struct server *server, const struct aof_load_progress *files);
void aof_replay_destroy(struct aof_replay *replay);

/* See struct aof_load_options; `ctx` is the replay. A refusal is valid until the replay is destroyed. */
bool aof_replay_apply(void *ctx, struct aof_command *commands, unsigned count, const char **refusal);

/* That is selected behind what was applied. */
uint32_t aof_replay_database(const struct aof_replay *replay);
/* Commands that failed, which were passed by. `code`, of the first one: its error's first word; "" if there is none. */
uint64_t aof_replay_failures(const struct aof_replay *replay, const char **code);

#endif
