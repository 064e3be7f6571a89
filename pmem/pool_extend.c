/* Pools that become larger while they are used. The steps, and what a start after a crash sees, are in pool_layout.h.
 *
 * libpmemobj's mapping of a file stays as long as it was when it was opened, and other things lie behind it. So what is
 * added to the file is mapped once more, somewhere else: a segment needs an address and instructions that flush it, and
 * those do not care whose mapping it is. Addresses of segments there were do not change, so nobody who uses them has to
 * wait; the tables of segments were made longer than needed for the same reason.
 *
 * A pool set file, a device and a pool with replicas are left as they are: what belongs to them is told by their owner,
 * at a start. */

#include "pmem/media.h"
#include "pmem/pool_parts.h"
#include "pmem/pool_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

uint64_t pmem_pool_end_of(const struct pmem_pool *member) {
    unsigned count = atomic_load(&((struct pmem_pool *)(uintptr_t)member)->stretch_count);
    return count ? member->stretches[count - 1].to : member->pool_bytes;
}

static uint64_t in_pages(uint64_t bytes) {
    return bytes / PMEM_POOL_ALIGNMENT * PMEM_POOL_ALIGNMENT;
}

static bool complain(const struct pmem_pool *member, char *error, size_t error_bytes, const char *text) {
    snprintf(error, error_bytes, "pmem-pool '%.200s': %s", member->path, text);
    return false;
}

/* ---- whether ---- */

static bool is_file_of_its_own(const struct pmem_pool *member) {
    struct pmem_parts parts;
    struct stat status;
    if (!member->root->identity.room || !pmem_parts_read(member->path, &parts)) return false;
    bool is_file = parts.count == 1 && strcmp(parts.path[0], member->path) == 0 && !parts.directory && !parts.replica;
    pmem_parts_free(&parts);
    return is_file && stat(member->path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool has_space(const struct pmem_pool *member, uint64_t more, char *error, size_t error_bytes) {
    struct statvfs space;
    char text[160];
    if (statvfs(member->path, &space) != 0 || more <= (uint64_t)space.f_bavail * space.f_frsize) return true;
    snprintf(text, sizeof(text), "its medium has %llu bytes free, and %llu more are wanted; nothing was changed",
             (unsigned long long)space.f_bavail * space.f_frsize, (unsigned long long)more);
    return complain(member, error, error_bytes, text);
}

static bool may_extend(const struct pmem_pool *pool, const struct pmem_pool *member, uint64_t size, char *error,
                       size_t error_bytes) {
    const struct pmem_pool_identity *identity = &member->root->identity;
    uint64_t end = pmem_pool_end_of(member), most = pool->segments_most / pool->member_count;
    char text[160];
    if (size == end) return true;
    if (size < end) {
        snprintf(text, sizeof(text), "has %llu bytes, and does not become smaller", (unsigned long long)end);
        return complain(member, error, error_bytes, text);
    }
    if (!is_file_of_its_own(member))
        return complain(member, error, error_bytes, "is no single file: it becomes larger at a start only");
    if (atomic_load(&((struct pmem_pool *)(uintptr_t)member)->stretch_count) == PMEM_STRETCHES_MAX ||
        identity->extents == identity->extents_max)
        return complain(member, error, error_bytes, "has become larger as often as it can until it is opened again");
    if ((size - identity->room) / identity->segment_bytes > most - member->own_segments) {
        snprintf(text, sizeof(text), "can have %llu bytes at most until it is opened again",
                 (unsigned long long)(identity->room + (most - member->own_segments) * identity->segment_bytes));
        return complain(member, error, error_bytes, text);
    }
    return has_space(member, size - end, error, error_bytes);
}

bool pmem_pool_may_extend(const struct pmem_pool *pool, uint64_t size_bytes, char *error, size_t error_bytes) {
    for (unsigned i = 0; i < pool->member_count; i++)
        if (!may_extend(pool, pool->members[i], in_pages(size_bytes), error, error_bytes)) return false;
    return true;
}

/* ---- the file ---- */

/* As libpmem maps it: where it is the medium itself, with synchronous faults. */
static char *map(const struct pmem_pool *member, int fd, uint64_t from, uint64_t to) {
    int flags = member->dax ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
    char *memory = mmap(NULL, to - from, PROT_READ | PROT_WRITE, flags, fd, (off_t)from);
    return memory == MAP_FAILED ? NULL : memory;
}

static bool extend_file(struct pmem_pool *member, int fd, uint64_t size, char *error, size_t error_bytes) {
    unsigned count = atomic_load(&member->stretch_count);
    struct pmem_stretch *stretch = &member->stretches[count];
    struct stat status;
    if (fstat(fd, &status) != 0) return pmem_pool_complain(error, error_bytes, "%s", strerror(errno));
    if ((uint64_t)status.st_size < size && !pmem_pool_reserve(fd, (uint64_t)status.st_size, size, error, error_bytes))
        return false;
    *stretch = (struct pmem_stretch){.from = in_pages(member->root->identity.room), .to = size};
    if (!(stretch->memory = map(member, fd, stretch->from, stretch->to)))
        return pmem_pool_complain(error, error_bytes, "what was added cannot be mapped: %s", strerror(errno));
    pmem_media_name(stretch->memory, stretch->to - stretch->from, "a pool, outside of its journal and root");
    atomic_store(&member->stretch_count, count + 1);
    return true;
}

static bool extend(struct pmem_pool *member, uint64_t size, char *error, size_t error_bytes) {
    char text[400];
    if (pmem_pool_end_of(member) >= size) return true;
    int fd = open(member->path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return complain(member, error, error_bytes, strerror(errno));
    bool done = extend_file(member, fd, size, text, sizeof(text));
    close(fd);
    return done || complain(member, error, error_bytes, text);
}

bool pmem_pool_extend(struct pmem_pool *pool, uint64_t size_bytes, char *error, size_t error_bytes) {
    for (unsigned i = 0; i < pool->member_count; i++)
        if (!extend(pool->members[i], in_pages(size_bytes), error, error_bytes)) return false;
    return true;
}

void pmem_pool_forget_stretches(struct pmem_pool *member) {
    for (unsigned i = 0; i < member->stretch_count; i++) {
        struct pmem_stretch *stretch = &member->stretches[i];
        pmem_media_name(stretch->memory, stretch->to - stretch->from, NULL);
        munmap(stretch->memory, stretch->to - stretch->from);
    }
    member->stretch_count = 0;
}

/* ---- its segments ---- */

static bool take_in(struct pmem_pool *member, char *error, size_t error_bytes) {
    const struct pmem_pool_root *root = member->root;
    uint64_t end = pmem_pool_end_of(member), extents = root->identity.extents;
    if (root->identity.room >= end) return true;
    if (!pmem_pool_enter_extents(member, end)) return complain(member, error, error_bytes, strerror(errno));
    for (uint64_t i = extents; i < root->identity.extents; i++) member->own_segments += root->extent[i].segments;
    return true;
}

bool pmem_pool_take_in(struct pmem_pool *pool, char *error, size_t error_bytes) {
    bool done = true;
    for (unsigned i = 0; i < pool->member_count && done; i++)
        done = pool->members[i]->stretch_count == 0 || take_in(pool->members[i], error, error_bytes);
    pmem_segments_find_more(pool);
    return done;
}
