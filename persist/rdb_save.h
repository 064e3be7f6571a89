#ifndef TERRACE_PERSIST_RDB_SAVE_H
#define TERRACE_PERSIST_RDB_SAVE_H

/* Values as RDB records and as DUMP payloads. What is one record is composed at once; a big collection in steps, page
 * by page, so that the lock under which its pages are read is never held for long, and a page that is on the tier can
 * be waited for.
 *
 *   struct rdb_collection_save save;
 *   rdb_collection_begin(&save, &options, root);
 *   rdb_save_collection_head(&output, &options, root, key, expiry_ms, access);
 *   do {
 *       ... lock the shard, make a page_access ...
 *       status = rdb_collection_step(&save, &access, &output, budget_bytes);
 *       ... unlock; write what is in the output; RDB_SAVE_MISSING: wait for the pages asked for ...
 *   } while (status == RDB_SAVE_MORE || status == RDB_SAVE_MISSING);
 *   rdb_collection_end(&save);
 *
 * Between the steps the collection may not change: it is a frozen root, or its shard stays locked. Its pages may move.
 *
 * What has expired is written like all else.
 *
 * Threads: a step, under the lock that the pages need; all else is arithmetic on what is handed in. */

#include "keyspace/access.h"
#include "persist/rdb_output.h"
#include "record/collection.h"
#include "record/record.h"

/* Whether records in files tell when they were last used, or how often. */
enum rdb_access { RDB_ACCESS_NONE, RDB_ACCESS_IDLE, RDB_ACCESS_FREQUENCY };

struct rdb_save_options {
    unsigned version;       /* as in rdb_layout.h; 0: RDB_VERSION_DEFAULT. Hashes with field TTLs are written
                             * as version 12 has them in any case */
    bool compress;          /* rdbcompression */
    enum rdb_access access; /* of files */
    const struct access_policy *policy; /* for RDB_ACCESS_FREQUENCY */
    int64_t now_ms;                     /* for both */
};

/* ---- records that are not paged ---- */

/* As it stands in a file: expiry, access, type, key, value. */
void rdb_save_record(struct rdb_output *output, const struct rdb_save_options *options, const struct record *record);
/* Type and value: the beginning of a DUMP payload. */
void rdb_save_value(struct rdb_output *output, const struct rdb_save_options *options, const struct record *record);

/* ---- big collections ---- */

/* What stands before the value in a file: expiry (or RECORD_EXPIRY_NONE), access bits, type, key. */
void rdb_save_collection_head(struct rdb_output *output, const struct rdb_save_options *options,
                              const struct collection *root, struct span key, int64_t expiry_ms, uint32_t access);
/* What stands before it in a payload: the type. */
void rdb_save_collection_type(struct rdb_output *output, const struct rdb_save_options *options,
                              const struct collection *root);

enum rdb_save_status {
    RDB_SAVE_DONE,
    RDB_SAVE_MORE,    /* the budget is used up */
    RDB_SAVE_MISSING, /* a page is not at hand, and was asked for: to be called again, with a new access, when it is */
    RDB_SAVE_FAILED,  /* no memory, a page that cannot be read, or output->failed: the bytes are of no use */
};

/* A save under way. But for `pass_over` its fields are those of rdb_collection_save*.c. */
struct rdb_collection_save {
    const struct rdb_save_options *options;
    struct collection *root;
    /* What is missing is passed over, so that all of it is asked for: for who cannot go on but only begin again (DUMP).
     * If then access->missing, what was composed means nothing, whatever the status. */
    bool pass_over;

    enum rdb_save_status status; /* of the last step */
    unsigned phase;
    uint64_t at; /* the next byte, page or position */
    uint64_t written;
    bool timed; /* a hash with field TTLs */
    int64_t earliest_ms;
    uint32_t group, consumer; /* of a stream */
    uint64_t *counts;         /* owned; of what is pending, where it has to be counted: rdb_save_pending.c */
    uint8_t *scratch;         /* owned; a stream's node is composed here */
    size_t scratch_capacity;
};

/* `options` and `root` outlive it. */
void rdb_collection_begin(struct rdb_collection_save *save, const struct rdb_save_options *options,
                          struct collection *root);
/* Composes about `budget_bytes`, and never less than one page. */
enum rdb_save_status rdb_collection_step(struct rdb_collection_save *save, struct page_access *access,
                                         struct rdb_output *output, size_t budget_bytes)
    __attribute__((warn_unused_result));
/* Frees what it has allocated, ended or not. */
void rdb_collection_end(struct rdb_collection_save *save);

/* ---- payloads ---- */

/* The end of a DUMP payload: the version and the checksum of all that is in `output`. */
void rdb_save_payload_end(struct rdb_output *output, const struct rdb_save_options *options);

#endif
