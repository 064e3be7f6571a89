#ifndef TERRACE_KEYSPACE_STREAM_PRODUCER_H
#define TERRACE_KEYSPACE_STREAM_PRODUCER_H

/* Idempotent IDs (XADD with IDMP and IDMPAUTO): a producer that is not sure whether its message has arrived sends it
 * again under the same ID of its own, and gets the entry's ID again instead of a second entry.
 *
 * A stream remembers, for each producer, its latest idempotent IDs: at most `size_max` of them, for `duration_s`
 * seconds. Of names that are arbitrarily long 128 bits of hash are kept, under a secret seed: a message is taken for
 * another one by chance once in 2^64 producers' lifetimes, and cannot be made to be.
 *
 * Threads: the lock of the stream's shard. Times are Unix milliseconds. */

#include "keyspace/stream_id.h"

enum {
    STREAM_PRODUCER_SIZE = 100, /* the defaults, and the limits, of XCFGSET */
    STREAM_PRODUCER_SIZE_MAX = 10000,
    STREAM_PRODUCER_DURATION_S = 100,
    STREAM_PRODUCER_DURATION_S_MAX = 86400,
    STREAM_PRODUCERS_MAX = 100000, /* past it those that have been silent for the duration are forgotten first */
};

struct stream_producer;

struct stream_producers {
    int64_t duration_s;
    uint32_t size_max;
    uint32_t count, capacity;
    struct stream_producer **list; /* owned, ordered by hash */
    uint64_t seeds[2];
    uint64_t ids_added, duplicates; /* ever */
};

/* What tells messages of a producer apart. */
struct stream_message_id {
    uint64_t hash[2];
};

/* NULL: no memory. */
struct stream_producers *stream_producers_make(uint64_t seed);
/* NULL is nothing. */
void stream_producers_free(struct stream_producers *producers);
struct stream_producers *stream_producers_copy(const struct stream_producers *producers);
/* For checkpoints. NULL: damaged, or no memory. */
void stream_producers_save(const struct stream_producers *producers, struct state_writer *out);
struct stream_producers *stream_producers_load(struct state_reader *in);
size_t stream_producers_bytes(const struct stream_producers *producers);
/* Forgets all messages; counts stay. */
void stream_producers_forget(struct stream_producers *producers);
/* Messages remembered of all producers. */
uint64_t stream_producers_tracked(const struct stream_producers *producers);

/* Of an ID that the client gave; and of a message's contents, whatever the order of its fields. */
struct stream_message_id stream_message_named(const struct stream_producers *producers, struct span name);
struct stream_message_id stream_message_hashed(const struct stream_producers *producers, const struct span *spans,
                                               uint32_t pairs);

/* Whether the producer has sent this message; then `*entry` is its entry. Counts it as a duplicate. */
bool stream_producer_has(struct stream_producers *producers, struct span producer, struct stream_message_id message,
                         int64_t now_ms, struct stream_id *entry);
/* Remembers it. False: no memory. Precondition: stream_producer_has() has said no. */
bool stream_producer_add(struct stream_producers *producers, struct span producer, struct stream_message_id message,
                         int64_t now_ms, struct stream_id entry) __attribute__((warn_unused_result));

#endif
