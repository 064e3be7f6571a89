#ifndef TERRACE_PERSIST_AOF_LOAD_H
#define TERRACE_PERSIST_AOF_LOAD_H

/* Loading the append-only file: a directory with its manifest, or a single file as Redis wrote it before version 7,
 * with or without RDB in front. The formats stand in aof_layout.h.
 *
 * Whatever is given out was whole and, in a file of ours, vouched for by a checksum: commands are kept back until the
 * closing of their batch has been read, and until the EXEC of their transaction. MULTI and EXEC themselves are not
 * given out, as nobody can see what stands between them.
 *
 *   what is found                                       what is made of it
 *   the file ends within a command or without EXEC      torn there
 *   a batch of ours is not whole, or its closing wrong  torn where it begins, unless a later closing says that this was
 *                                                       synced, or closings know nothing of syncs: then damaged
 *   anything else that is no command                    damaged
 *
 * What is torn is cut off the file, durably, when `truncate` says so and the file is the last one, or nothing in those
 * behind it was ever synced (which are then emptied): the next start finds the same. Otherwise it is refused, as is
 * whatever is damaged, with the file and the range of offsets. After refusing, what had been given out before stays
 * given out.
 *
 * One thread. Memory: a few MB, or as much as the largest batch or transaction takes. */

#include "persist/aof_backlog.h"
#include "persist/aof_check.h"
#include "persist/aof_manifest.h"
#include "persist/file_io.h"
#include "persist/rdb_load.h"

#include <stdatomic.h>

/* A command: spans that are valid during the call of `apply`. */
struct aof_command {
    struct span *argv; /* may be written to: the words' array, not the words */
    uint32_t argc;
};

/* Commands given out together, at most. */
#define AOF_LOAD_BATCH 64

/* Read by others while loading. Zeroed by the owner. */
struct aof_load_progress {
    _Atomic uint64_t total_bytes, loaded_bytes; /* of commands and RDB together */
    _Atomic uint64_t loaded_commands;
};

struct aof_load_options {
    bool truncate;            /* aof-load-truncated: a torn tail is cut off and forgotten */
    const struct file_io *io; /* to cut with; NULL: file_io_system */
    /* Runs the commands, in order. False: it could not; loading stops and says `refusal`,
     * which may stay NULL, and is good until loading returns. */
    bool (*apply)(void *ctx, struct aof_command *commands, unsigned count, const char **refusal);
    void *ctx;
    const struct rdb_load_options *rdb; /* how a base, or what stands in front of a file, is loaded; NULL: refused.
                                         * Its progress counts the RDB's bytes by itself. */
    struct aof_load_progress *progress; /* NULL: nobody looks */
    struct aof_backlog *backlog;        /* is told where everything stands; NULL: nobody wants to know */
    const atomic_bool *cancel;          /* set by another thread: stop; NULL: nobody does */
};

enum aof_load_status {
    AOF_LOAD_DONE, /* also with a torn tail that was cut: result->torn_bytes */
    AOF_LOAD_TORN, /* the tail is torn, and `truncate` does not allow to cut it, or cutting failed (errno) */
    AOF_LOAD_CORRUPT,
    AOF_LOAD_REFUSED, /* by `apply` */
    AOF_LOAD_IO,      /* a file cannot be read, or is missing */
    AOF_LOAD_NO_MEMORY,
    AOF_LOAD_CANCELLED,
};

struct aof_load_result {
    enum aof_load_status status;
    char reason[512];    /* unless DONE: one line for people, with file and offset */
    char file[256];      /* the file that `reason` speaks of, or that was cut, without its directory */
    uint64_t from, to;   /* unless DONE: the range in it that is not as it should be; `to` 0: only `from` is known */
    uint64_t torn_bytes; /* cut off the last file */
    uint64_t commands, transactions; /* given out; transactions were more than one command */
    uint64_t bytes;                  /* of all files */
    uint64_t base_keys;              /* loaded from RDB */
    struct aof_history history; /* when DONE: the dataset is that of this stream at this position; no id: not known */
    /* Of the last file, when DONE. */
    bool continues; /* it is an increment of ours, and may be written on with `check` */
    struct aof_check check;
    uint64_t last_bytes; /* its length */
    uint64_t base_bytes; /* length of the base; 0: there is none */
};

/* All files of the manifest, which was loaded from `directory`, in their order. */
enum aof_load_status aof_load_directory(const char *directory, const struct aof_manifest *manifest,
                                        const struct aof_load_options *options, struct aof_load_result *result)
    __attribute__((warn_unused_result));

/* One file. It is the last one, and may be torn. */
enum aof_load_status aof_load_file(const char *path, const struct aof_load_options *options,
                                   struct aof_load_result *result) __attribute__((warn_unused_result));

#endif
