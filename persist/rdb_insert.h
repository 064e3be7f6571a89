#ifndef TERRACE_PERSIST_RDB_INSERT_H
#define TERRACE_PERSIST_RDB_INSERT_H

/* Records of an RDB into the keyspace: what each thread of rdb_load.h does.
 *
 *   records --parse, check--> pending (keys hashed, values packed or built) --by shard--> keyspace
 *
 * Pending records are inserted when there are RDB_PENDING_MAX of them: those of a shard together, under one lock, and
 * after the memory of their index buckets was asked for.
 *
 * Threads: an inserter belongs to one. */

#include "persist/rdb_load.h"

enum { RDB_PENDING_MAX = 1024 };

struct rdb_pending;

struct rdb_inserter {
    const struct rdb_load_options *options;
    struct view view;
    struct rdb_value_loader values;
    struct rdb_pending *pending;
    unsigned pending_count;
    char *arena; /* bytes of pending values that are not in the input's memory */
    size_t arena_used, arena_capacity;
    uint64_t keys, expired, empty, replaced;
};

/* `port`: of the calling thread, or NULL. False: no memory. */
bool rdb_inserter_init(struct rdb_inserter *inserter, const struct rdb_load_options *options, struct tier_port *port)
    __attribute__((warn_unused_result));
void rdb_inserter_free(struct rdb_inserter *inserter);

/* All records of an input over memory, which is good until this returns. `*database` is the one they belong to unless
 * they say otherwise; then it is the last. */
enum rdb_status rdb_insert_all(struct rdb_inserter *inserter, struct rdb_input *input, uint32_t *database)
    __attribute__((warn_unused_result));
/* One record, of any input: for values of any size. */
enum rdb_status rdb_insert_one(struct rdb_inserter *inserter, struct rdb_input *input, uint32_t database)
    __attribute__((warn_unused_result));

/* Passes by as many whole records (and choices of a database) as there are from `input` on, up to what is neither, to
 * something wrong, or to where the bytes end; returns where the last of them ends. `*database` becomes the last that
 * was chosen. */
const uint8_t *rdb_survey(struct rdb_input *input, const struct keyspace *keyspace, uint32_t *database);

/* A choice of a database; false: there is no such one, or the input has failed. */
bool rdb_get_database(struct rdb_input *input, const struct keyspace *keyspace, uint32_t *database)
    __attribute__((warn_unused_result));

#endif
