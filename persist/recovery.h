#ifndef TERRACE_PERSIST_RECOVERY_H
#define TERRACE_PERSIST_RECOVERY_H

/* From the checkpoint that counts to a keyspace, at the start: the segment table and the indexes are filled from its
 * file, by several threads, and no record and no page is read. Big collections that are in a file beside it are left to
 * whoever loads RDB, the journal behind the cut to whoever replays it.
 *
 * All that is read is checked first, so a file that is damaged, foreign, or does not fit is refused; nothing on the
 * disk is changed then.
 *
 * Threads: one; those it starts have ended when it returns. Nobody else uses keyspace or tier meanwhile. */

#include "keyspace/keyspace.h"
#include "persist/checkpoint_file.h"

#include <stdatomic.h>

struct recovery_options {
    struct keyspace *keyspace; /* empty, with the seed and the shards of the pool; its tier persists */
    const char *prefix;        /* as checkpoint_options.prefix */
    unsigned threads;          /* 0: 1 */
    _Atomic uint64_t *keys;    /* recovered so far, for others to look at; NULL: nobody does */
};

enum recovery_status {
    RECOVERY_NOTHING, /* a new pool: there is no checkpoint */
    RECOVERY_DONE,
    RECOVERY_FAILED, /* the reason says why, in one line */
};

struct recovery_result {
    uint64_t number, keys;
    int64_t cut_ms;
    bool has_journal; /* the journal goes on there */
    uint64_t journal_sequence, journal_mark;
    bool has_collections;
    char collections[CHECKPOINT_PATH_MAX]; /* the RDB file with those */
    char reason[CHECKPOINT_PATH_MAX + 256];
};

enum recovery_status recovery_run(const struct recovery_options *options, struct recovery_result *result)
    __attribute__((warn_unused_result));

/* Removes files of other checkpoints of the same prefix, which a server that was killed has left. Once the data are
 * loaded. */
void recovery_remove_leftovers(const struct tier *tier, const char *prefix);

#endif
