#ifndef TERRACE_PMEM_POOL_PRIVATE_H
#define TERRACE_PMEM_POOL_PRIVATE_H

/* What the files of the pool share among themselves. Nobody else includes this. */

#include "pmem/pool.h"

#include <libpmemobj.h>
#include <stdatomic.h>

struct pmem_pool {
    PMEMobjpool *pop;
    struct pmem_pool_root *root; /* in the pool */
    char **segments;             /* where each begins */
    atomic_bool *bad;            /* each: in quarantine */
    atomic_uint bad_count;
    uint64_t segment_count;
    uint64_t pool_bytes;
    bool made;
    bool pmem; /* the mapping is persistent memory, or taken for it */
    bool dax;  /* really so */
};

enum {
    PMEM_SEGMENT_BYTES_MIN = 1 << 20,
    PMEM_SEGMENT_BYTES_MAX = 64 << 20,
    PMEM_JOURNAL_BYTES_MIN = 1 << 20,
    PMEM_SEGMENTS_MIN = 8, /* a pool with fewer could not be cleaned */
};

/* Writes into `error` the text that belongs behind the pool's name. Returns false. */
bool pmem_pool_complain(char *error, size_t error_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Makes what is missing of our part in the open pool, whose root is zero or was left unfinished. `pool_bytes` of the
 * whole. False: a text in `error`. */
bool pmem_pool_make_contents(PMEMobjpool *pop, uint64_t pool_bytes, const struct pmem_pool_options *options,
                             char *error, size_t error_bytes);
/* Makes a pool file under PATH.making and gives it its name. False: a text in `error`, and nothing is left. */
bool pmem_pool_make_file(const struct pmem_pool_options *options, char *error, size_t error_bytes);

/* Extents: allocates and enters what the heap has room for. False: errno, and none may have been had. */
bool pmem_segments_make(PMEMobjpool *pop, struct pmem_pool_root *root);
/* Fills pool->segments from the table, which is checked. False: a text in `error`. */
bool pmem_segments_find(struct pmem_pool *pool, char *error, size_t error_bytes);

uint64_t pmem_identity_checksum(const struct pmem_pool_identity *identity);

#endif
