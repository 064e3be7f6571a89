#ifndef TERRACE_SERVER_OWN_EXPIRY_H
#define TERRACE_SERVER_OWN_EXPIRY_H

/* Keys with a time to live that clients of a writable replica have written. The primary knows nothing of them, so
 * nobody would ever remove them: the replica remembers which they are, and does so itself, as Redis does since 4.0. All
 * other keys go on waiting for the primary's DEL.
 *
 * What is remembered is a name; whether the key is still there and still has an expiry is looked at when its turn
 * comes. It is forgotten with the dataset, and when the server becomes a primary, that removes all by itself.
 *
 * Threads: any; a shard's lock may be held where nothing else is said. */

#include <pthread.h>
#include <stdint.h>

struct call;
struct server;
struct own_key;

/* Part of struct server, as server->own_expiry. */
struct own_expiry {
    pthread_mutex_t lock;
    struct own_key **table; /* by the key's hash; NULL: nothing was ever remembered */
    uint64_t slots;         /* power of two */
    _Atomic uint64_t count;
    struct own_key *first, **last; /* in the order in which they are looked at */
};

void own_expiry_init(struct server *server);
void own_expiry_free(struct server *server);

/* See struct command_host: a client of a replica has run a command that writes. The shards of its keys are locked. */
void own_expiry_note(void *ctx, const struct call *call);
/* Worker 0, every tick: removes what has expired. No shard lock may be held. */
void own_expiry_tick(struct server *server);
void own_expiry_forget(struct server *server);

#endif
