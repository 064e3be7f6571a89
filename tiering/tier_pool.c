/* The header of the tier's file.
 *
 * Everything is read into one page that is aligned for direct I/O and checked before it is believed: magic, version,
 * checksum, and that sizes are such as we would have written. A header that is damaged is not "nothing": it is refused,
 * for a file that is not understood is not ours to overwrite.
 *
 * A manifest slot is empty (zeros), valid, or damaged. One damaged slot beside a valid one is what a disk with sectors
 * smaller than it says would leave of a switch that was cut short, and the valid one may count: whether its files are
 * still there tells, since they are removed only after the switch. So that is left to whoever opens them. */

#include "tiering/tier_pool.h"

#include "base/random.h"
#include "base/span.h"
#include "tiering/tier_layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { LOOKED_AT = 1 << 20, PAGE = TIER_PAGE_BYTES, SEGMENT_BYTES_MIN = 1 << 20, SEGMENT_BYTES_MAX = 64 << 20 };
_Static_assert(TIER_HEADER_BYTES == 4 * TIER_PAGE_BYTES, "as drawn");

static uint64_t checksum_of(const void *sector) {
    return XXH3_64bits(sector, TIER_POOL_SECTOR - sizeof(uint64_t));
}

static void *allocate_page(void) {
    void *page = aligned_alloc(PAGE, PAGE);
    if (page) memset(page, 0, PAGE);
    return page;
}

/* What is behind the end of the file is zero. */
static bool read_page(int fd, void *page, uint64_t offset) {
    memset(page, 0, PAGE);
    for (;;) {
        ssize_t got = pread(fd, page, PAGE, (off_t)offset);
        if (got >= 0) return true;
        if (errno != EINTR) return false;
    }
}

static bool write_sector(int fd, uint64_t offset, const void *sector) {
    char *page = allocate_page();
    ssize_t written = -1;
    if (!page) return false;
    if (sector) memcpy(page, sector, TIER_POOL_SECTOR);
    do {
        written = pwrite(fd, page, PAGE, (off_t)offset);
    } while (written < 0 && errno == EINTR);
    if (written >= 0 && written != PAGE) errno = EIO;
    int error = errno;
    free(page);
    errno = error;
    return written == PAGE;
}

/* ---- looking ---- */

static bool header_is_plausible(const struct tier_pool_header *header) {
    uint64_t segment = header->segment_bytes;
    return header->header_bytes == TIER_HEADER_BYTES && segment >= SEGMENT_BYTES_MIN && segment <= SEGMENT_BYTES_MAX &&
           (segment & (segment - 1)) == 0 && header->segments > 0 &&
           header->segments <= TIER_FILE_BYTES_MAX / segment && header->shards > 0 &&
           (header->shards & (header->shards - 1)) == 0;
}

static bool manifest_is_valid(const struct tier_pool *pool, const struct tier_pool_manifest *manifest) {
    return manifest->checksum == checksum_of(manifest) &&
           memcmp(manifest->magic, TIER_POOL_MANIFEST_MAGIC, sizeof(manifest->magic)) == 0 &&
           memcmp(manifest->uuid, pool->header.uuid, TIER_UUID_BYTES) == 0 && manifest->number > 0;
}

/* Into pool->manifest the newer one that is valid. False: damaged. */
static bool read_manifests(int fd, struct tier_pool *pool, void *page) {
    unsigned damaged = 0;
    for (unsigned slot = 0; slot < TIER_POOL_SLOTS; slot++) {
        struct tier_pool_manifest manifest;
        if (!read_page(fd, page, (slot + 1) * (uint64_t)PAGE)) return false;
        memcpy(&manifest, page, sizeof(manifest));
        if (bytes_are_zero(&manifest, sizeof(manifest))) continue;
        if (!manifest_is_valid(pool, &manifest)) {
            damaged++;
        } else if (manifest.number > pool->manifest.number) {
            pool->manifest = manifest;
            pool->slot = slot;
        }
    }
    return damaged == 0 || (damaged == 1 && pool->manifest.number > 0);
}

/* Whether the header is one that we would have written, in this version. */
static bool check_header(const struct tier_pool_header *header, char *error, size_t error_bytes) {
    if (header->checksum != checksum_of(header)) {
        snprintf(error, error_bytes, "the header of this tier is damaged; nothing was changed");
        return false;
    }
    if (header->version != TIER_POOL_VERSION || !header_is_plausible(header)) {
        snprintf(error, error_bytes, "was made by another version (layout %u, this one reads %u); nothing was changed",
                 header->version, TIER_POOL_VERSION);
        return false;
    }
    return true;
}

static enum tier_pool_found look_at_ours(int fd, struct tier_pool *pool, void *page, char *error, size_t error_bytes) {
    const struct tier_pool_header *header = &pool->header;
    if (!check_header(header, error, error_bytes)) return TIER_POOL_FOUND_FOREIGN;
    if (!(header->flags & TIER_POOL_PERSISTENT)) return TIER_POOL_FOUND_NOTHING;
    if (read_manifests(fd, pool, page)) return TIER_POOL_FOUND_POOL;
    snprintf(error, error_bytes, "the manifest of this tier is damaged; nothing was changed");
    return TIER_POOL_FOUND_FOREIGN;
}

static bool is_blank(int fd, uint64_t bytes, void *page) {
    uint64_t end = bytes < LOOKED_AT ? bytes : LOOKED_AT;
    for (uint64_t offset = 0; offset < end; offset += PAGE)
        if (!read_page(fd, page, offset) || !bytes_are_zero(page, PAGE)) return false;
    return true;
}

enum tier_pool_found tier_pool_look(int fd, uint64_t bytes, struct tier_pool *pool, char *error, size_t error_bytes) {
    memset(pool, 0, sizeof(*pool));
    void *page = allocate_page();
    if (!page || !read_page(fd, page, 0)) {
        snprintf(error, error_bytes, "cannot be read: %s", strerror(errno));
        free(page);
        return TIER_POOL_FOUND_FOREIGN;
    }
    enum tier_pool_found found = TIER_POOL_FOUND_NOTHING;
    memcpy(&pool->header, page, sizeof(pool->header));
    if (memcmp(pool->header.magic, TIER_POOL_MAGIC, sizeof(pool->header.magic)) == 0) {
        found = look_at_ours(fd, pool, page, error, error_bytes);
    } else if (!is_blank(fd, bytes, page)) {
        snprintf(error, error_bytes,
                 "holds something that is not a tier of this server; name another file, or empty this one");
        found = TIER_POOL_FOUND_FOREIGN;
    }
    free(page);
    if (found == TIER_POOL_FOUND_NOTHING) memset(pool, 0, sizeof(*pool));
    return found;
}

static bool read_pmem_manifest(struct tier_pool *pool) {
    memcpy(&pool->manifest, pmem_pool_sector(pool->pmem, PMEM_SECTOR_MANIFEST), sizeof(pool->manifest));
    return bytes_are_zero(&pool->manifest, sizeof(pool->manifest)) || manifest_is_valid(pool, &pool->manifest);
}

enum tier_pool_found tier_pool_look_pmem(struct pmem_pool *pmem, struct tier_pool *pool, char *error,
                                         size_t error_bytes) {
    const struct tier_pool_header *header = &pool->header;
    memset(pool, 0, sizeof(*pool));
    pool->pmem = pmem;
    memcpy(&pool->header, pmem_pool_sector(pmem, PMEM_SECTOR_HEADER), sizeof(pool->header));
    if (bytes_are_zero(header, sizeof(*header))) return TIER_POOL_FOUND_NOTHING;
    if (!check_header(header, error, error_bytes)) return TIER_POOL_FOUND_FOREIGN;
    if (header->segments <= pmem_pool_segments(pmem) &&
        header->segment_bytes == pmem_pool_identity(pmem)->segment_bytes && read_pmem_manifest(pool))
        return TIER_POOL_FOUND_POOL;
    snprintf(error, error_bytes, "the manifest of this tier is damaged; nothing was changed");
    return TIER_POOL_FOUND_FOREIGN;
}

/* ---- writing ---- */

void tier_pool_renew(struct tier_pool *pool) {
    struct pmem_pool *pmem = pool->pmem;
    memset(pool, 0, sizeof(*pool));
    pool->pmem = pmem;
    struct tier_pool_header *header = &pool->header;
    memcpy(header->magic, TIER_POOL_MAGIC, sizeof(header->magic));
    header->version = TIER_POOL_VERSION;
    header->header_bytes = TIER_HEADER_BYTES;
    random_fill_secret(header->uuid, sizeof(header->uuid));
}

bool tier_pool_update(int fd, struct tier_pool *pool) {
    pool->header.checksum = checksum_of(&pool->header);
    if (pool->pmem) return pmem_pool_write_sector(pool->pmem, PMEM_SECTOR_HEADER, &pool->header);
    return write_sector(fd, 0, &pool->header) && fdatasync(fd) == 0;
}

/* The manifests first: a header that claims to be a pool's never stands above somebody else's bytes. */
bool tier_pool_write(int fd, struct tier_pool *pool) {
    if (pool->pmem) return tier_pool_update(fd, pool);
    for (unsigned page = 1; page < TIER_HEADER_BYTES / PAGE; page++)
        if (!write_sector(fd, page * (uint64_t)PAGE, NULL)) return false;
    return fdatasync(fd) == 0 && tier_pool_update(fd, pool);
}

static bool empty_manifests(int fd, const struct tier_pool *pool) {
    static const struct tier_pool_manifest none;
    if (pool->pmem) return pmem_pool_write_sector(pool->pmem, PMEM_SECTOR_MANIFEST, &none);
    for (unsigned slot = 0; slot < TIER_POOL_SLOTS; slot++)
        if (!write_sector(fd, (1 + slot) * (uint64_t)PAGE, NULL)) return false;
    return fdatasync(fd) == 0;
}

bool tier_pool_forget(int fd, struct tier_pool *pool) {
    if (!empty_manifests(fd, pool)) return false;
    memset(&pool->manifest, 0, sizeof(pool->manifest));
    return true;
}

bool tier_pool_switch(int fd, struct tier_pool *pool, const struct tier_pool_manifest *manifest) {
    struct tier_pool_manifest next = *manifest;
    memcpy(next.magic, TIER_POOL_MANIFEST_MAGIC, sizeof(next.magic));
    memcpy(next.uuid, pool->header.uuid, sizeof(next.uuid));
    memset(next.zero, 0, sizeof(next.zero));
    next.checksum = checksum_of(&next);
    unsigned slot = pool->manifest.number ? (pool->slot + 1) % TIER_POOL_SLOTS : 0;
    bool written =
        pool->pmem ? pmem_pool_write_sector(pool->pmem, PMEM_SECTOR_MANIFEST, &next)
                   : fdatasync(fd) == 0 && write_sector(fd, (1 + slot) * (uint64_t)PAGE, &next) && fdatasync(fd) == 0;
    if (!written) return false;
    pool->manifest = next;
    pool->slot = slot;
    return true;
}
