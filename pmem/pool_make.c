/* Making a pool. The steps, and what a start after a crash sees, are in pool_layout.h.
 *
 * What is ours in the heap is made so that it can be gone on with: every step is one transaction, and leaves in the
 * root that it was taken. So a pool set, which cannot be renamed when it is complete, is finished by the next start. */

#include "base/random.h"
#include "pmem/mapping.h"
#include "pmem/pool_private.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    JOURNAL_PART = 8, /* of the pool */
    JOURNAL_BYTES_MAX = 1 << 30,
    JOURNAL_ZERO_BYTES = 64 << 10,
    SEGMENTS_WANTED = 256,
    EXTENTS_MIN = 64,
    EXTENT_BYTES_USUAL = 256 << 20, /* sizes the table: three quarters of it are for the ends of zones */
    DEFAULT_SEGMENT_BYTES_MAX = 8 << 20,
};

uint64_t pmem_identity_checksum(const struct pmem_pool_identity *identity) {
    return XXH3_64bits(identity, offsetof(struct pmem_pool_identity, checksum));
}

/* ---- our part ---- */

/* A new root, and in it the sizes that all the rest follows from. */
static void choose(PMEMobjpool *pop, struct pmem_pool_identity *identity, uint64_t pool_bytes,
                   const struct pmem_pool_options *options, const struct pmem_pool_place *place) {
    uint64_t segment = PMEM_SEGMENT_BYTES_MIN, journal = pool_bytes / JOURNAL_PART;
    while (segment * 2 <= pool_bytes / SEGMENTS_WANTED && segment < DEFAULT_SEGMENT_BYTES_MAX) segment *= 2;
    if (journal < PMEM_JOURNAL_BYTES_MIN) journal = PMEM_JOURNAL_BYTES_MIN;
    if (journal > JOURNAL_BYTES_MAX) journal = JOURNAL_BYTES_MAX;
    identity->segment_bytes = options->segment_bytes ? options->segment_bytes : segment;
    identity->journal_bytes =
        options->journal_bytes ? options->journal_bytes : journal / PMEM_POOL_ALIGNMENT * PMEM_POOL_ALIGNMENT;
    random_fill_secret(identity->uuid, sizeof(identity->uuid));
    bool exact;
    uint64_t mapped = pmem_pool_mapped_bytes(options->path, pop, &exact);
    identity->room = exact ? mapped : 0;
    if (place->pools == 0) return;
    memcpy(identity->set_uuid, place->set_uuid, sizeof(identity->set_uuid));
    identity->set_pools = place->pools;
    identity->set_index = place->index;
    if (place->index > 0) identity->journal_bytes = 0;
}

static bool write_sizes(PMEMobjpool *pop, struct pmem_pool_root *root, uint64_t pool_bytes,
                        const struct pmem_pool_options *options, const struct pmem_pool_place *place) {
    volatile bool done = true;
    TX_BEGIN(pop) {
        pmemobj_tx_add_range_direct(&root->identity, sizeof(root->identity));
        choose(pop, &root->identity, pool_bytes, options, place);
        root->identity.root_bytes = (uint32_t)pmemobj_root_size(pop);
        root->identity.extents_max =
            (root->identity.root_bytes - PMEM_POOL_EXTENTS_AT) / sizeof(struct pmem_pool_extent);
    }
    TX_ONABORT {
        done = false;
    }
    TX_END
    return done;
}

/* All of it is zeroed where that is cheap: a medium's page that was never written costs more the first time. */
static bool make_journal(PMEMobjpool *pop, struct pmem_pool_root *root) {
    volatile bool done = true;
    struct pmem_pool_identity *identity = &root->identity;
    TX_BEGIN(pop) {
        PMEMoid object =
            pmemobj_tx_xalloc(identity->journal_bytes + PMEM_POOL_ALIGNMENT, PMEM_TYPE_JOURNAL, POBJ_XALLOC_NO_FLUSH);
        uint64_t offset = (object.off + PMEM_POOL_ALIGNMENT - 1) / PMEM_POOL_ALIGNMENT * PMEM_POOL_ALIGNMENT;
        char *journal = (char *)pop + offset;
        bool pmem = pmem_mapping_is_direct(journal, identity->journal_bytes);
        pmemobj_memset_persist(pop, journal, 0, pmem ? identity->journal_bytes : JOURNAL_ZERO_BYTES);
        pmemobj_tx_add_range_direct(&identity->journal_offset, sizeof(identity->journal_offset));
        identity->journal_offset = offset;
    }
    TX_ONABORT {
        done = false;
    }
    TX_END
    return done;
}

static bool sign(PMEMobjpool *pop, struct pmem_pool_root *root) {
    volatile bool done = true;
    struct pmem_pool_identity *identity = &root->identity;
    TX_BEGIN(pop) {
        pmemobj_tx_add_range_direct(identity, sizeof(*identity));
        memcpy(identity->magic, PMEM_POOL_MAGIC, sizeof(identity->magic));
        identity->version = PMEM_POOL_VERSION;
        identity->checksum = pmem_identity_checksum(identity);
    }
    TX_ONABORT {
        done = false;
    }
    TX_END
    return done;
}

static bool has_enough_segments(const struct pmem_pool_root *root) {
    uint64_t segments = 0;
    for (uint64_t i = 0; i < root->identity.extents; i++) segments += root->extent[i].segments;
    return segments >= PMEM_SEGMENTS_MIN;
}

bool pmem_pool_make_contents(PMEMobjpool *pop, uint64_t pool_bytes, const struct pmem_pool_options *options,
                             const struct pmem_pool_place *place, char *error, size_t error_bytes) {
    size_t root_bytes = pmemobj_root_size(pop);
    uint64_t extents_max = EXTENTS_MIN + pool_bytes / EXTENT_BYTES_USUAL;
    if (!root_bytes) root_bytes = PMEM_POOL_EXTENTS_AT + extents_max * sizeof(struct pmem_pool_extent);
    PMEMoid object = pmemobj_root(pop, root_bytes);
    struct pmem_pool_root *root = pmemobj_direct(object);
    bool made = root && root_bytes > PMEM_POOL_EXTENTS_AT &&
                (root->identity.segment_bytes || write_sizes(pop, root, pool_bytes, options, place)) &&
                (root->identity.journal_offset || !root->identity.journal_bytes || make_journal(pop, root)) &&
                pmem_segments_make(pop, root);
    if (made && has_enough_segments(root) && sign(pop, root)) return true;
    return pmem_pool_complain(error, error_bytes,
                              "%llu bytes are too few for a pool: it takes a journal and %d segments, 16mb at least",
                              (unsigned long long)pool_bytes, PMEM_SEGMENTS_MIN);
}

/* ---- a file of its own ---- */

static bool has_space(const struct pmem_pool_options *options, const char *path, char *error, size_t error_bytes) {
    char folder[PATH_MAX];
    struct statvfs space;
    snprintf(folder, sizeof(folder), "%s", path);
    const char *name = dirname(folder);
    if (statvfs(name, &space) != 0)
        return pmem_pool_complain(error, error_bytes, "the directory it should be in cannot be looked at: %s",
                                  strerror(errno));
    uint64_t free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    if (options->size_bytes <= free_bytes) return true;
    return pmem_pool_complain(error, error_bytes,
                              "pmem-size %llu is larger than what its file system has free, %llu bytes",
                              (unsigned long long)options->size_bytes, (unsigned long long)free_bytes);
}

/* What a killed server has left half made; another that is making one right now has it locked. */
static bool remove_leftover(const char *path, char *error, size_t error_bytes) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || pmem_pool_complain(error, error_bytes, "%s: %s", path, strerror(errno));
    bool free_to_go = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlink(path) == 0;
    close(fd);
    return free_to_go || pmem_pool_complain(error, error_bytes, "is just being made by another server");
}

static bool sync_folder(const char *path) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", path);
    int fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return synced;
}

/* Never over a file that has appeared meanwhile. */
static bool give_name(const char *making, const char *path, char *error, size_t error_bytes) {
    if (link(making, path) == 0 && unlink(making) == 0 && sync_folder(path)) return true;
    return pmem_pool_complain(error, error_bytes, "cannot be given its name: %s", strerror(errno));
}

bool pmem_pool_make_file(const struct pmem_pool_options *options, const struct pmem_pool_place *place, char *error,
                         size_t error_bytes) {
    char making[PATH_MAX];
    int length = snprintf(making, sizeof(making), "%s.making", options->path);
    if (length < 0 || (size_t)length >= sizeof(making))
        return pmem_pool_complain(error, error_bytes, "its name is too long");
    if (options->size_bytes == 0)
        return pmem_pool_complain(error, error_bytes, "does not exist; set pmem-size to have it made");
    if (options->size_bytes < PMEMOBJ_MIN_POOL)
        return pmem_pool_complain(error, error_bytes, "pmem-size %llu: from 16mb on a pool is of use",
                                  (unsigned long long)options->size_bytes);
    if (!has_space(options, making, error, error_bytes) || !remove_leftover(making, error, error_bytes)) return false;
    PMEMobjpool *pop = pmemobj_create(making, PMEM_POOL_LAYOUT, options->size_bytes, 0600);
    if (!pop) {
        int code = errno;
        (void)unlink(making);
        return pmem_pool_complain(error, error_bytes, "cannot be made: %s (%s)", strerror(code), pmemobj_errormsg());
    }
    struct pmem_pool_options as_made = *options;
    as_made.path = making;
    bool made = pmem_pool_make_contents(pop, options->size_bytes, &as_made, place, error, error_bytes);
    pmemobj_close(pop);
    made = made && give_name(making, options->path, error, error_bytes);
    if (!made) (void)unlink(making);
    return made;
}
