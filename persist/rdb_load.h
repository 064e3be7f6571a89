#ifndef TERRACE_PERSIST_RDB_LOAD_H
#define TERRACE_PERSIST_RDB_LOAD_H

/* Loading a whole RDB: a snapshot file, the base of an AOF, what a primary sends.
 *
 * One thread (the caller's) reads, sums and cuts the bytes into batches of whole records, of which it looks at no more
 * than lengths; others take batches, parse, check and insert them, shard by shard. A value larger than a batch is
 * loaded by the reading thread itself, as it arrives. With the sidecar that Terrace writes beside its snapshots
 * (rdb_layout.h) there is no cutting: each thread reads chunks of the file by itself.
 *
 * Keys that the keyspace has already stay, unless the input has them too; who wants the dataset of the file alone
 * flushes first. While loading nothing expires, nobody is told of changes, and other threads may use the keyspace as
 * far as they keep off keys that are being loaded: so the keyspace must be locking if any does.
 *
 * A load that fails leaves what it has loaded so far.
 *
 * Threads: any; the threads that are started have ended when it returns. No shard lock may be held. */

#include "persist/rdb_value_load.h"

#include <stdatomic.h>

struct key_delay;

/* Read by others while loading. Zeroed by the owner. */
struct rdb_load_progress {
    _Atomic uint64_t total_bytes; /* 0: not known */
    _Atomic uint64_t loaded_bytes;
    _Atomic uint64_t loaded_keys;
    _Atomic uint64_t expected_keys; /* by RESIZEDB; 0: not known */
    _Atomic uint64_t used_memory;   /* by the "used-mem" of its header; 0: not known */
};

struct rdb_load_options {
    struct keyspace *keyspace;
    int64_t now_ms;    /* unix time: for the time of last use of what is loaded */
    bool drop_expired; /* keys that have expired at now_ms are not loaded: a snapshot of a primary, but no AOF base,
                        * whose journal deletes them, and none that names a history, whose replicas have them */
    bool aside;        /* into the databases beside the ones it names (keyspace_aside()); only of a stream */
    bool replace_duplicates; /* a key that is there already is replaced; otherwise that is an error */
    bool ignore_checksum;    /* rdbchecksum no */
    bool ignore_sidecar;     /* as if there were none */
    unsigned threads;        /* that insert; 0, or a keyspace that does not lock: the caller does it all */
    struct tier_port *port;  /* for the calling thread, used by nobody else meanwhile; NULL: there is no tier */
    rdb_wait_for_room *wait_for_room; /* any of the threads asks it; NULL: nobody is asked */
    void *ctx;
    struct rdb_load_progress *progress; /* NULL: nobody looks */
    const atomic_bool *cancel;          /* set by another thread: stop; NULL: nobody does */
    struct key_delay *delay;            /* before each key, of each thread; NULL: none. For tests */
};

struct rdb_load_result {
    enum rdb_status status;
    char reason[200];  /* when not RDB_DONE: one line for people, with the offset */
    uint64_t offset;   /* where that was found out */
    uint64_t bytes;    /* of the whole RDB, its checksum included: what follows is something else */
    uint64_t keys;     /* loaded */
    uint64_t expired;  /* dropped because they had */
    uint64_t empty;    /* passed by because they had no elements */
    uint64_t replaced; /* keys that were there already */
    unsigned version;
    unsigned functions;      /* libraries passed by */
    unsigned module_records; /* passed by */
    bool aof_base;           /* its "aof-base" says so, or the older "aof-preamble" */
    bool used_sidecar;
    int64_t created_s;       /* its "ctime"; 0: not told */
    uint64_t used_memory;    /* its "used-mem"; 0: not told */
    char server_version[32]; /* its "redis-ver" */
    char replication_id[41]; /* its "repl-id"; empty: none */
    int64_t replication_offset;
    int64_t replication_database;
};

/* A file. ENOENT is RDB_IO with errno set. */
enum rdb_status rdb_load_file(const char *path, const struct rdb_load_options *options, struct rdb_load_result *result)
    __attribute__((warn_unused_result));
/* From anything that gives bytes; stops behind the RDB's checksum, though more may have been read (result->bytes).
 * `source_bytes`: UINT64_MAX: not known. */
enum rdb_status rdb_load_stream(rdb_read *read, void *ctx, uint64_t source_bytes,
                                const struct rdb_load_options *options, struct rdb_load_result *result)
    __attribute__((warn_unused_result));

#endif
