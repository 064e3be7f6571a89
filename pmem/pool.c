/* Opening a pool, and what can be asked of it.
 *
 * libpmemobj repairs, as it opens, what a crash has left in its own structures. So before it is let near a file we look
 * ourselves whether the file is a pool of ours: the names that a pool begins with are at fixed places.
 *
 *   0          8            4096
 *   +----------+-- - - ----+-------------------+
 *   | PMEMOBJ\0 | ...      | name of the layout |
 *   +----------+-- - - ----+-------------------+
 *
 * A pool set file begins with PMEMPOOLSET and names the files that do.
 *
 * Several pools are opened one by one, and joined in pool_set.c.
 *
 * The lock is libpmemobj's, on the file (or the first of a set). It goes with the process, but a server that was just
 * killed may still be on its way out, so a locked pool is tried for half a second. */

#include "pmem/pool.h"

#include "pmem/mapping.h"
#include "pmem/media.h"
#include "pmem/pool_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libpmem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOKED_AT = 1 << 20,
    LAYOUT_AT = 4096,
    LAYOUT_BYTES = 64,
    DEVICE_ALIGNMENT = 2 << 20, /* of what can be mapped of a device */
    LOCK_TRIES = 50,
    LOCK_PAUSE_NS = 10 * 1000 * 1000,
};

enum found { FOUND_NOTHING, FOUND_POOL, FOUND_BLANK, FOUND_SET, FOUND_DEVICE, FOUND_FOREIGN };

bool pmem_pool_complain(char *error, size_t error_bytes, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, error_bytes, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- looking ---- */

/* The first bytes of what may be a pool, up to LOOKED_AT of them. */
struct beginning {
    char *bytes;
    size_t length;
};

static bool read_file(int fd, struct beginning *beginning) {
    ssize_t got = 1;
    while (got > 0 && beginning->length < LOOKED_AT) {
        got = pread(fd, beginning->bytes + beginning->length, LOOKED_AT - beginning->length, (off_t)beginning->length);
        if (got > 0) beginning->length += (size_t)got;
    }
    return got >= 0;
}

/* A device of persistent memory can be mapped, and nothing else. */
static bool read_device(int fd, struct beginning *beginning) {
    char *memory = mmap(NULL, DEVICE_ALIGNMENT, PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return false;
    memcpy(beginning->bytes, memory, LOOKED_AT);
    beginning->length = LOOKED_AT;
    munmap(memory, DEVICE_ALIGNMENT);
    return true;
}

static bool is_blank(const struct beginning *beginning) {
    const char *bytes = beginning->bytes;
    return beginning->length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, beginning->length - 1) == 0);
}

static enum found foreign(char *error, size_t error_bytes, const char *text) {
    pmem_pool_complain(error, error_bytes, "%s; nothing was changed", text);
    return FOUND_FOREIGN;
}

static enum found look_inside(const struct beginning *beginning, char *error, size_t error_bytes) {
    const char *head = beginning->bytes, *layout = beginning->bytes + LAYOUT_AT;
    if (beginning->length >= 11 && memcmp(head, "PMEMPOOLSET", 11) == 0) return FOUND_SET;
    if (beginning->length < LAYOUT_AT + LAYOUT_BYTES || memcmp(head, "PMEMOBJ", 8) != 0)
        return is_blank(beginning) ? FOUND_BLANK : foreign(error, error_bytes, "is not a pool of this server");
    if (strncmp(layout, PMEM_POOL_LAYOUT, LAYOUT_BYTES) == 0) return FOUND_POOL;
    if (strncmp(layout, PMEM_POOL_LAYOUT_FAMILY, strlen(PMEM_POOL_LAYOUT_FAMILY)) != 0)
        return foreign(error, error_bytes, "is a libpmemobj pool of another program");
    pmem_pool_complain(error, error_bytes,
                       "was made by another version (layout %.40s, this one reads %s); nothing was changed", layout,
                       PMEM_POOL_LAYOUT);
    return FOUND_FOREIGN;
}

static enum found look_at(int fd, bool is_device, char *error, size_t error_bytes) {
    struct beginning beginning = {.bytes = malloc(LOOKED_AT)};
    enum found found = FOUND_FOREIGN;
    if (!beginning.bytes)
        foreign(error, error_bytes, "there is no memory to look at it");
    else if (!(is_device ? read_device(fd, &beginning) : read_file(fd, &beginning)))
        foreign(error, error_bytes, strerror(errno));
    else
        found = look_inside(&beginning, error, error_bytes);
    free(beginning.bytes);
    return is_device && found == FOUND_POOL ? FOUND_DEVICE : found;
}

static enum found look(const char *path, uint64_t *bytes, char *error, size_t error_bytes) {
    struct stat status;
    *bytes = 0;
    if (stat(path, &status) != 0) return errno == ENOENT ? FOUND_NOTHING : foreign(error, error_bytes, strerror(errno));
    bool is_device = S_ISCHR(status.st_mode);
    if (!is_device && !S_ISREG(status.st_mode))
        return foreign(error, error_bytes, "is neither a file nor a device of persistent memory");
    *bytes = (uint64_t)status.st_size;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return foreign(error, error_bytes, strerror(errno));
    enum found found = look_at(fd, is_device, error, error_bytes);
    close(fd);
    return found;
}

/* ---- opening ---- */

static bool is_locked(int code) {
    return code == EAGAIN || code == EWOULDBLOCK;
}

static PMEMobjpool *open_unlocked(const char *path) {
    for (unsigned tries = 0;; tries++) {
        PMEMobjpool *pop = pmemobj_open(path, PMEM_POOL_LAYOUT);
        if (pop || !is_locked(errno) || tries >= LOCK_TRIES) return pop;
        (void)nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
}

/* In its place: a set's parts that are absent, or a file or device that was there and holds nothing. */
static PMEMobjpool *create_in_place(const char *path) {
    return pmemobj_create(path, PMEM_POOL_LAYOUT, 0, 0600);
}

static bool complain_of_opening(int code, char *error, size_t error_bytes) {
    if (is_locked(code))
        return pmem_pool_complain(error, error_bytes, "in use by another process; give each server a pool of its own");
    return pmem_pool_complain(error, error_bytes, "cannot be opened: %s (%s)", strerror(code), pmemobj_errormsg());
}

static bool identity_is_plausible(const struct pmem_pool *pool, char *error, size_t error_bytes) {
    const struct pmem_pool_identity *identity = &pool->root->identity;
    uint64_t segment = identity->segment_bytes, end = pool->pool_bytes;
    if (identity->version != PMEM_POOL_VERSION && identity->checksum == pmem_identity_checksum(identity))
        return pmem_pool_complain(error, error_bytes, "was made by another version (%u); nothing was changed",
                                  identity->version);
    if (identity->checksum == pmem_identity_checksum(identity) &&
        identity->root_bytes <= pmemobj_root_size(pool->pop) && identity->extents <= identity->extents_max &&
        identity->extents_max <= (identity->root_bytes - PMEM_POOL_EXTENTS_AT) / sizeof(struct pmem_pool_extent) &&
        segment >= PMEM_SEGMENT_BYTES_MIN && segment <= PMEM_SEGMENT_BYTES_MAX && (segment & (segment - 1)) == 0 &&
        identity->journal_offset < end && identity->journal_bytes <= end - identity->journal_offset)
        return true;
    return pmem_pool_complain(error, error_bytes, "is damaged: its root does not fit; nothing was changed");
}

static bool find_root(struct pmem_pool *pool, char *error, size_t error_bytes) {
    size_t bytes = pmemobj_root_size(pool->pop);
    pool->root = bytes >= sizeof(*pool->root) ? pmemobj_direct(pmemobj_root(pool->pop, bytes)) : NULL;
    return pool->root && memcmp(pool->root->identity.magic, PMEM_POOL_MAGIC, sizeof(pool->root->identity.magic)) == 0 &&
           identity_is_plausible(pool, error, error_bytes);
}

/* A pool in its place may have been left unfinished, which its magic tells. */
static bool is_unfinished(PMEMobjpool *pop) {
    static const char zero[8];
    size_t bytes = pmemobj_root_size(pop);
    if (bytes == 0) return true;
    const struct pmem_pool_root *root = pmemobj_direct(pmemobj_root(pop, bytes));
    return memcmp(root->identity.magic, zero, sizeof(zero)) == 0;
}

static bool is_forced(void) {
    const char *force = getenv("PMEM_IS_PMEM_FORCE");
    return force && strcmp(force, "1") == 0;
}

/* False with *absent: there is nothing in it yet. */
static bool open_found(struct pmem_pool *pool, const struct pmem_pool_options *options,
                       const struct pmem_pool_place *place, enum found found, bool *absent, char *error,
                       size_t error_bytes) {
    *absent = !place && found == FOUND_BLANK;
    if (*absent) return false;
    pool->pop = found == FOUND_BLANK ? create_in_place(options->path) : open_unlocked(options->path);
    if (!pool->pop && found == FOUND_SET && errno == ENOENT) {
        *absent = !place;
        if (*absent) return false;
        pool->pop = create_in_place(options->path);
    }
    if (!pool->pop) return complain_of_opening(errno, error, error_bytes);
    bool exact;
    uint64_t mapped = pmem_pool_mapped_bytes(options->path, pool->pop, &exact);
    if (mapped) pool->pool_bytes = mapped;
    if (!is_unfinished(pool->pop)) return true;
    *absent = !place;
    if (*absent) return false;
    pool->made = true;
    return pmem_pool_make_contents(pool->pop, pool->pool_bytes, options, place, error, error_bytes);
}

static bool open_pool(struct pmem_pool *pool, const struct pmem_pool_options *options,
                      const struct pmem_pool_place *place, bool *absent, char *error, size_t error_bytes) {
    enum found found = look(options->path, &pool->pool_bytes, error, error_bytes);
    if (found == FOUND_FOREIGN) return false;
    if (found == FOUND_NOTHING) {
        *absent = !place;
        if (*absent || !pmem_pool_make_file(options, place, error, error_bytes)) return false;
        pool->made = true;
        pool->pool_bytes = options->size_bytes;
        found = FOUND_POOL;
    }
    if (options->grow && found == FOUND_POOL && !pmem_pool_lengthen(options, error, error_bytes)) return false;
    if (!open_found(pool, options, place, found, absent, error, error_bytes)) return false;
    pmem_pool_complain(error, error_bytes, "is damaged: it has no root; nothing was changed");
    if (!find_root(pool, error, error_bytes) || !pmem_segments_count(pool, error, error_bytes)) return false;
    if (options->grow && !pmem_pool_grow(pool, error, error_bytes)) return false;
    /* What is behind its root is told of all of it: parts of a set are all of one kind to libpmemobj. */
    pool->pmem = pmem_mapping_is_direct(pool->root, pool->root->identity.root_bytes);
    pool->dax = pool->pmem && !is_forced();
    return true;
}

/* What a failure of the medium is told with. */
static void name_parts(const struct pmem_pool *pool, bool there) {
    struct pmem_area journal = pmem_pool_journal(pool);
    pmem_media_name(journal.memory, journal.bytes, there ? "the journal of a pool" : NULL);
    pmem_media_name(pool->root, pool->root->identity.root_bytes, there ? "the root of a pool" : NULL);
    pmem_media_name(pool->pop, pool->pool_bytes, there ? "a pool, outside of its journal and root" : NULL);
}

struct pmem_pool *pmem_pool_open_one(const struct pmem_pool_options *options, const struct pmem_pool_place *place,
                                     bool *absent, char *error, size_t error_bytes) {
    char text[768] = "out of memory";
    *absent = false;
    pmem_media_watch();
    struct pmem_pool *pool = calloc(1, sizeof(*pool));
    if (pool) {
        pool->member_count = 1;
        pool->members[0] = pool;
        pool->path = strdup(options->path);
    }
    pmem_media_opening(true);
    bool opened = pool && pool->path && open_pool(pool, options, place, absent, text, sizeof(text));
    pmem_media_opening(false);
    if (opened) name_parts(pool, true);
    if (opened) return pool;
    snprintf(error, error_bytes, "pmem-pool '%.200s': %s", options->path, text);
    pmem_pool_close_one(pool);
    return NULL;
}

void pmem_pool_close_one(struct pmem_pool *pool) {
    if (!pool) return;
    if (pool->segments) name_parts(pool, false);
    pmem_pool_forget_stretches(pool);
    if (pool->pop) pmemobj_close(pool->pop);
    free(pool->segments);
    free(pool->bad);
    free(pool->path);
    free(pool);
}

/* ---- what is in it ---- */

const struct pmem_pool_identity *pmem_pool_identity(const struct pmem_pool *pool) {
    return &pool->root->identity;
}

struct pmem_area pmem_pool_journal(const struct pmem_pool *pool) {
    const struct pmem_pool_identity *identity = &pool->root->identity;
    return (struct pmem_area){
        .memory = (char *)pool->pop + identity->journal_offset, .bytes = identity->journal_bytes, .pool = pool->pop};
}

const void *pmem_pool_sector(const struct pmem_pool *pool, enum pmem_pool_sector sector) {
    return pool->root->sectors[sector];
}

bool pmem_pool_write_sector(struct pmem_pool *pool, enum pmem_pool_sector sector, const void *bytes) {
    volatile int error = 0;
    uint8_t *at = pool->root->sectors[sector];
    TX_BEGIN(pool->pop) {
        pmemobj_tx_add_range_direct(at, PMEM_POOL_SECTOR_BYTES);
        memcpy(at, bytes, PMEM_POOL_SECTOR_BYTES);
    }
    TX_ONABORT {
        error = pmemobj_tx_errno();
    }
    TX_END
    errno = error;
    return error == 0;
}

/* ---- what it stands on ---- */

struct pmem_pool_facts pmem_pool_facts(const struct pmem_pool *pool) {
    const struct pmem_pool_identity *identity = &pool->root->identity;
    struct pmem_pool_facts facts = {.journal_bytes = identity->journal_bytes,
                                    .bad_segments = atomic_load(&pool->bad_count),
                                    .pmem = true,
                                    .auto_flush = pmem_has_auto_flush() == 1};
    for (unsigned i = 0; i < pool->member_count; i++) {
        const struct pmem_pool *member = pool->members[i];
        facts.pool_bytes += pmem_pool_end_of(member);
        facts.segment_bytes += member->own_segments * identity->segment_bytes;
        facts.made |= member->made;
        facts.pmem &= member->pmem;
    }
    facts.forced = facts.pmem && is_forced();
    facts.dax = facts.pmem && !facts.forced;
    facts.domain = facts.forced       ? "process"
                   : !facts.pmem      ? "page_cache"
                   : facts.auto_flush ? "cpu_cache"
                                      : "memory_controller";
    return facts;
}
