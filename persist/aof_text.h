#ifndef TERRACE_PERSIST_AOF_TEXT_H
#define TERRACE_PERSIST_AOF_TEXT_H

/* Values as the commands that make them, in RESP: what the base of an append-only file consists of when it is not RDB
 * (aof-use-rdb-preamble no). Redis 7.0 understands all of them; only HPEXPIREAT, for fields that expire, is of 7.4.
 *
 *   string   SET, and APPEND where it is big       hash     HMSET, HPEXPIREAT
 *   list     RPUSH                                 stream   XADD, XSETID, XGROUP, XCLAIM
 *   set      SADD                                  all      PEXPIREAT at last
 *   zset     ZADD
 *
 * A big collection is composed in steps, as in rdb_save.h, and each step ends behind a whole command: steps of other
 * keys may stand between two of them.
 *
 *   aof_text_begin(&save, root, key, expiry_ms);
 *   do {
 *       ... lock the shard, make a page_access ...
 *       status = aof_text_step(&save, &access, &output, budget_bytes);
 *       ... unlock; write what is in the output; RDB_SAVE_MISSING: wait for the pages asked for ...
 *   } while (status == RDB_SAVE_MORE || status == RDB_SAVE_MISSING);
 *   aof_text_end(&save);
 *
 * What commands cannot say is lost, as with Redis: when a key was last used, when a consumer was last seen, what is
 * pending of entries that were deleted, and a score of -0, which becomes 0 while the set is still small.
 *
 * Threads: as in rdb_save.h. */

#include "persist/rdb_save.h"

/* SELECT. */
void aof_text_select(struct rdb_output *output, uint32_t database);
/* A record that is not paged. */
void aof_text_record(struct rdb_output *output, const struct record *record);

/* Its fields are those of aof_text*.c. */
struct aof_text_save {
    struct rdb_collection_save save; /* the first: steps are those of rdb_save_private.h */
    struct span key;
    int64_t expiry_ms;
};

/* `root` and the key's bytes outlive it. */
void aof_text_begin(struct aof_text_save *save, struct collection *root, struct span key, int64_t expiry_ms);
/* Composes about `budget_bytes`, and never less than what a page holds. */
enum rdb_save_status aof_text_step(struct aof_text_save *save, struct page_access *access, struct rdb_output *output,
                                   size_t budget_bytes) __attribute__((warn_unused_result));
/* Frees what it has allocated, ended or not. */
void aof_text_end(struct aof_text_save *save);

#endif
