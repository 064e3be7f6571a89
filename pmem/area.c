/* Bytes on their way to the medium: libpmemobj knows for each pool whether its lines are flushed by instructions or by
 * msync, so all goes through it.
 *
 * Without DAX pmemobj_memcpy() synchronises what it copied even when told not to wait; a plain copy and one flush of
 * the stretch are the same thing said clearly, and cost the same. The difference is only in how much a call covers. */

#include "pmem/area.h"

#include <assert.h>
#include <libpmemobj.h>
#include <string.h>

enum { STORE_BYTES_LEAST = 256 /* below, the lines at both ends cost more than the caches */ };

static char *at(const struct pmem_area *area, uint64_t offset, size_t bytes) {
    assert(offset <= area->bytes && bytes <= area->bytes - offset);
    return area->memory + offset;
}

void pmem_area_copy(const struct pmem_area *area, uint64_t offset, const void *from, size_t bytes) {
    char *to = at(area, offset, bytes);
    if (area->pool)
        pmemobj_memcpy(area->pool, to, from, bytes, PMEMOBJ_F_MEM_NODRAIN);
    else
        memcpy(to, from, bytes);
}

void pmem_area_store(const struct pmem_area *area, uint64_t offset, const void *from, size_t bytes) {
    char *to = at(area, offset, bytes);
    if (area->pool && bytes >= STORE_BYTES_LEAST)
        pmemobj_memcpy(area->pool, to, from, bytes, PMEMOBJ_F_MEM_NOFLUSH | PMEMOBJ_F_MEM_NONTEMPORAL);
    else
        memcpy(to, from, bytes);
}

void pmem_area_zero(const struct pmem_area *area, uint64_t offset, size_t bytes) {
    char *to = at(area, offset, bytes);
    if (area->pool)
        pmemobj_memset(area->pool, to, 0, bytes, PMEMOBJ_F_MEM_NODRAIN);
    else
        memset(to, 0, bytes);
}

void pmem_area_flush(const struct pmem_area *area, uint64_t offset, size_t bytes) {
    const char *from = at(area, offset, bytes);
    if (area->pool) pmemobj_flush(area->pool, from, bytes);
}

void pmem_area_drain(const struct pmem_area *area) {
    if (area->pool) pmemobj_drain(area->pool);
}
