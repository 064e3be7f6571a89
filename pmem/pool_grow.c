/* Pools that become larger. The steps, and what a start after a crash sees, are in pool_layout.h.
 *
 * libpmemobj's heap stays as long as it was made: what it keeps of its own length is its secret. But it maps a file as
 * long as that is, and flushes whatever lies in it, and more a segment does not need. So what comes behind its end is
 * ours to deal out, but for the places where its check of a pool would look for zones. Sets with directories are the
 * exception: there libpmemobj makes the heap longer itself, when an object finds no room. */

#include "pmem/pool_parts.h"
#include "pmem/pool_private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

uint64_t pmem_pool_mapped_bytes(const char *path, PMEMobjpool *pop, bool *exact) {
    struct pmem_parts parts;
    *exact = false;
    if (!pmem_parts_read(path, &parts)) return 0;
    uint64_t bytes = pmem_parts_mapped(&parts, pop);
    *exact = !parts.directory && !parts.replica;
    pmem_parts_free(&parts);
    return bytes;
}

/* ---- the file ---- */

bool pmem_pool_reserve(int fd, uint64_t from, uint64_t to, char *error, size_t error_bytes) {
    struct statvfs space;
    if (fstatvfs(fd, &space) == 0 && to - from > (uint64_t)space.f_bavail * space.f_frsize)
        return pmem_pool_complain(error, error_bytes,
                                  "pmem-size %llu is larger than its medium, which has %llu bytes free beside the %llu "
                                  "of the pool; nothing was changed",
                                  (unsigned long long)to, (unsigned long long)space.f_bavail * space.f_frsize,
                                  (unsigned long long)from);
    int code = posix_fallocate(fd, (off_t)from, (off_t)(to - from));
    if (code == 0 && fsync(fd) == 0) return true;
    if (code == 0) code = errno;
    (void)!ftruncate(fd, (off_t)from);
    return pmem_pool_complain(error, error_bytes, "cannot be made %llu bytes long: %s", (unsigned long long)to,
                              strerror(code));
}

bool pmem_pool_lengthen(const struct pmem_pool_options *options, char *error, size_t error_bytes) {
    struct stat status;
    uint64_t wanted = options->size_bytes / PMEM_POOL_ALIGNMENT * PMEM_POOL_ALIGNMENT;
    if (stat(options->path, &status) == 0 && (uint64_t)status.st_size >= wanted) return true;
    int fd = open(options->path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        int code = errno;
        if (fd >= 0) close(fd);
        return pmem_pool_complain(error, error_bytes, "cannot be opened: %s", strerror(code));
    }
    bool done = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (!done)
        pmem_pool_complain(error, error_bytes, "in use by another process; give each server a pool of its own");
    else
        done = (uint64_t)status.st_size >= wanted ||
               pmem_pool_reserve(fd, (uint64_t)status.st_size, wanted, error, error_bytes);
    close(fd);
    return done;
}

/* ---- its extents ---- */

uint64_t pmem_pool_deal_out(uint64_t from, uint64_t to, uint64_t segment_bytes, struct pmem_pool_extent *extents,
                            uint64_t most) {
    uint64_t count = 0, at = from;
    while (count < most && at < to) {
        uint64_t zone = at / PMEM_POOL_ZONE_BYTES;
        if (zone > 0 && at - zone * PMEM_POOL_ZONE_BYTES < PMEM_POOL_ZONE_CLEAR)
            at = zone * PMEM_POOL_ZONE_BYTES + PMEM_POOL_ZONE_CLEAR;
        at = (at + PMEM_POOL_ALIGNMENT - 1) / PMEM_POOL_ALIGNMENT * PMEM_POOL_ALIGNMENT;
        uint64_t end = (zone + 1) * PMEM_POOL_ZONE_BYTES;
        if (end > to) end = to;
        uint64_t segments = at < end ? (end - at) / segment_bytes : 0;
        if (segments > 0) extents[count++] = (struct pmem_pool_extent){.offset = at, .segments = segments};
        at = end;
    }
    return count;
}

bool pmem_pool_enter_extents(struct pmem_pool *pool, uint64_t to) {
    volatile int error = 0;
    struct pmem_pool_root *root = pool->root;
    struct pmem_pool_identity *identity = &root->identity;
    uint64_t left = identity->extents_max - identity->extents;
    TX_BEGIN(pool->pop) {
        pmemobj_tx_add_range_direct(identity, sizeof(*identity));
        pmemobj_tx_add_range_direct(&root->extent[identity->extents], left * sizeof(root->extent[0]));
        identity->extents +=
            pmem_pool_deal_out(identity->room, to, identity->segment_bytes, &root->extent[identity->extents], left);
        identity->room = to;
        identity->checksum = pmem_identity_checksum(identity);
    }
    TX_ONABORT {
        error = pmemobj_tx_errno();
    }
    TX_END
    errno = error;
    return error == 0;
}

/* Whether an extent would fit behind its room. */
static bool has_room(const struct pmem_pool *pool) {
    const struct pmem_pool_identity *identity = &pool->root->identity;
    struct pmem_pool_extent extent;
    return identity->room > 0 && identity->extents < identity->extents_max && pool->pool_bytes > identity->room &&
           pmem_pool_deal_out(identity->room, pool->pool_bytes, identity->segment_bytes, &extent, 1) > 0;
}

bool pmem_pool_grow(struct pmem_pool *pool, char *error, size_t error_bytes) {
    struct pmem_parts parts;
    if (!pmem_parts_read(pool->path, &parts))
        return pmem_pool_complain(error, error_bytes, "its parts cannot be read: %s", strerror(errno));
    bool done = true;
    errno = 0;
    if (parts.directory)
        done = pmem_segments_make(pool->pop, pool->root);
    else if (has_room(pool))
        done = pmem_parts_reserve(&parts) && pmem_pool_enter_extents(pool, pool->pool_bytes);
    pmem_parts_free(&parts);
    if (!done) return pmem_pool_complain(error, error_bytes, "cannot be made larger: %s", strerror(errno));
    return pmem_segments_count(pool, error, error_bytes);
}

static bool member_can_grow(const struct pmem_pool *member, const struct pmem_pool_options *options) {
    struct pmem_parts parts;
    if (!pmem_parts_read(member->path, &parts)) return false;
    bool is_file = parts.count == 1 && strcmp(parts.path[0], member->path) == 0;
    struct stat status;
    uint64_t least = member->pool_bytes + member->root->identity.segment_bytes;
    bool can = parts.directory || has_room(member) ||
               (member->root->identity.room > 0 && is_file && stat(member->path, &status) == 0 &&
                S_ISREG(status.st_mode) && options->size_bytes >= least);
    pmem_parts_free(&parts);
    return can;
}

bool pmem_pool_can_grow(const struct pmem_pool *pool, const struct pmem_pool_options *options) {
    bool can = false;
    for (unsigned i = 0; i < pool->member_count; i++) can = can || member_can_grow(pool->members[i], options);
    return can;
}
