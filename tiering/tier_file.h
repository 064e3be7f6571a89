#ifndef TERRACE_TIERING_TIER_FILE_H
#define TERRACE_TIERING_TIER_FILE_H

/* The tier's file: opened or made, locked against a second server, grown as it is needed.
 *
 * The space of a segment is reserved (fallocate) before anything is written to it, so a full disk is met when a
 * segment is taken, never in the middle of a write. What a file system cannot reserve (tmpfs can) is written as it
 * comes.
 *
 * Direct: the file is mapped where reading from the mapping is reading from the medium (DAX, tmpfs);
 * elsewhere it is opened with O_DIRECT where the file system allows it, so that the page cache does not become memory
 * nobody accounts for.
 *
 * Threads: opened and closed by one; tier_file_extend() and tier_file_reserve() have a lock; the rest is read only
 * after the opening. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pmem_pool;

enum tier_direct { TIER_DIRECT_AUTO, TIER_DIRECT_YES, TIER_DIRECT_NO };

struct tier_file_options {
    const char *path;    /* a file, made with mode 0600 if it is not there; or a block device, which is never grown */
    uint64_t size_bytes; /* a multiple of segment_bytes, and what stands before the first segment */
    size_t segment_bytes;
    enum tier_direct direct; /* YES: refuse to start where O_DIRECT is refused */
    /* Asked once the file is locked, before anything about it is changed: whether it is the one, by what is in its
     * `bytes` so far. It may change the sizes above. On false it has written, in `error`, what to put behind the
     * file's name. NULL: every file is. */
    bool (*judge)(void *ctx, struct tier_file_options *options, int fd, uint64_t bytes, char *error,
                  size_t error_bytes);
    void *ctx;
};

struct tier_file {
    int fd;      /* for reads and writes; -1: not open */
    bool direct; /* opened with O_DIRECT: offsets, lengths and memory are multiples of 4 KB */
    bool made;   /* it was not there before */
    bool block_device;
    bool cached;                 /* reads may find the page cache: worth asking with RWF_NOWAIT first */
    const char *mapped;          /* of size_bytes; NULL: not mapped */
    _Atomic uint64_t size_bytes; /* at most */
    uint64_t reserved_bytes;     /* from the beginning of the file, so far; guarded by the lock inside */
    void *inside;
    struct pmem_pool *pmem; /* not a file at all, but segments of this pool (tier_pmem.h): `fd` is -1; borrowed */
};

/* False: with one line in `error` (of `error_bytes`) that says what to do; nothing is left open, and a file that was
 * there is as it was (in use by another server, neither a regular file nor a block device, too large for its file
 * system ...). May take half a second, for the lock of a server that has just been killed. */
bool tier_file_open(struct tier_file *file, const struct tier_file_options *options, char *error, size_t error_bytes);
/* Unlocks, and with `remove` removes the file (not a block device). Nothing happens when it is not open. */
void tier_file_close(struct tier_file *file, bool remove);

/* The file may become `size_bytes` large, at least, by whole segments. False: errno says why not (ENOTSUP where it is
 * mapped or a device, EFBIG). */
bool tier_file_extend(struct tier_file *file, uint64_t size_bytes) __attribute__((warn_unused_result));
/* Makes sure that the file has room up to `offset`. False: errno says why (ENOSPC, EDQUOT, EFBIG, EIO). */
bool tier_file_reserve(struct tier_file *file, uint64_t offset) __attribute__((warn_unused_result));
/* Drops the mapped pages that reading has brought into this process's resident set; their contents stay. */
void tier_file_forget_mapped(struct tier_file *file);

#endif
