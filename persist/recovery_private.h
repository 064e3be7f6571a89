#ifndef TERRACE_PERSIST_RECOVERY_PRIVATE_H
#define TERRACE_PERSIST_RECOVERY_PRIVATE_H

/* What the files of the recovery share: the file it reads, its threads, and its failure. */

#include "persist/recovery.h"

#include <pthread.h>

struct recovery {
    const struct recovery_options *options;
    struct keyspace *keyspace;
    struct segment_table *segments;
    uint32_t segment_count;
    uint8_t *known; /* for each segment: slots and pages may refer to it */
    struct checkpoint_reader *reader;
    _Atomic uint64_t keys;
    pthread_mutex_t lock; /* of the failure */
    atomic_bool failed;
    char failure[256];
};

/* Keeps the first text. Returns false. Any thread. */
bool recovery_fail(struct recovery *recovery, const char *text);

/* Room for the payload of a chunk, a thread's own. */
struct recovery_buffer {
    void *bytes;
    size_t room;
};
/* The payload of the chunk in *buffer, which is made to fit. False: it failed. */
bool recovery_read(struct recovery *recovery, uint32_t chunk, struct recovery_buffer *buffer)
    __attribute__((warn_unused_result));

/* Whether a slot or a page may have this reference. */
bool recovery_knows(const struct recovery *recovery, uint64_t ref);
/* So many keys have come. */
void recovery_count(struct recovery *recovery, uint64_t keys);

/* Has all threads do `work` with the numbers below `count`, each once, in ascending order of their beginnings, until
 * one answers false. */
typedef bool recovery_work(void *ctx, struct recovery *recovery, uint32_t number, struct recovery_buffer *buffer);
bool recovery_in_threads(struct recovery *recovery, uint32_t count, recovery_work *work, void *ctx);

#endif
