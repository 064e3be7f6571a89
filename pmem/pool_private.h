#ifndef TERRACE_PMEM_POOL_PRIVATE_H
#define TERRACE_PMEM_POOL_PRIVATE_H

/* What the files of the pool share among themselves. Nobody else includes this. */

#include "pmem/pool.h"

#include <libpmemobj.h>
#include <stdatomic.h>

/* A part of a pool's file that was mapped while the pool was used. */
struct pmem_stretch {
    uint64_t from, to; /* of the file */
    char *memory;
};
enum { PMEM_STRETCHES_MAX = 16, PMEM_GROWTH = 4, PMEM_SEGMENTS_ROOM = 1024 };

/* One pool, or the first of several: that one has the segments of all. */
struct pmem_pool {
    PMEMobjpool *pop;
    struct pmem_pool_root *root; /* in the pool */
    char **segments;             /* where each begins; NULL: that number is nobody's */
    atomic_bool *bad;            /* each: in quarantine */
    atomic_uint bad_count;
    _Atomic uint64_t segment_count;
    uint64_t segments_most; /* PMEM_GROWTH times as many as when it was opened, and not few: room of both tables */
    uint64_t pool_bytes;    /* that libpmemobj has mapped */
    struct pmem_stretch stretches[PMEM_STRETCHES_MAX];
    atomic_uint stretch_count; /* forgetting what is mapped reads it beside */
    uint64_t opened_extents;   /* within what libpmemobj has mapped */
    bool made;
    bool pmem; /* the mapping is persistent memory, or taken for it */
    bool dax;  /* really so */
    char *path;
    unsigned named;
    uint64_t own_segments;                     /* of this pool alone */
    unsigned member_count;                     /* 1, or how many there are in the set */
    struct pmem_pool *members[PMEM_POOLS_MAX]; /* by index; the first is this one */
};

/* What a pool that is made now is in its set. */
struct pmem_pool_place {
    uint8_t set_uuid[PMEM_POOL_UUID_BYTES];
    uint32_t pools, index; /* pools 0: it is alone */
};

enum {
    PMEM_SEGMENT_BYTES_MIN = 1 << 20,
    PMEM_SEGMENT_BYTES_MAX = 64 << 20,
    PMEM_JOURNAL_BYTES_MIN = 1 << 20,
    PMEM_SEGMENTS_MIN = 8, /* a pool with fewer could not be cleaned */
};

/* Writes into `error` the text that belongs behind the pool's name. Returns false. */
bool pmem_pool_complain(char *error, size_t error_bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* One pool, of a single name. `place` NULL: it has to be there, and *absent says whether it is only that. NULL: one
 * line in `error`. Segments are not found yet. */
struct pmem_pool *pmem_pool_open_one(const struct pmem_pool_options *options, const struct pmem_pool_place *place,
                                     bool *absent, char *error, size_t error_bytes);
void pmem_pool_close_one(struct pmem_pool *pool);

/* Makes what is missing of our part in the open pool, whose root is zero or was left unfinished. `pool_bytes` of the
 * whole. False: a text in `error`. */
bool pmem_pool_make_contents(PMEMobjpool *pop, uint64_t pool_bytes, const struct pmem_pool_options *options,
                             const struct pmem_pool_place *place, char *error, size_t error_bytes);
/* Makes a pool file under PATH.making and gives it its name. False: a text in `error`, and nothing is left. */
bool pmem_pool_make_file(const struct pmem_pool_options *options, const struct pmem_pool_place *place, char *error,
                         size_t error_bytes);

/* Before a pool is opened: a file that is shorter than size_bytes becomes as long. False: a text in `error`, and it is
 * as it was. */
bool pmem_pool_lengthen(const struct pmem_pool_options *options, char *error, size_t error_bytes);
/* What lies behind its room becomes segments. False: a text in `error`. */
bool pmem_pool_grow(struct pmem_pool *pool, char *error, size_t error_bytes);
/* Extents between `from` and `to`, of whole segments and out of the way of libpmemobj, into a table with room for
 * `most`. Returns how many. */
uint64_t pmem_pool_deal_out(uint64_t from, uint64_t to, uint64_t segment_bytes, struct pmem_pool_extent *extents,
                            uint64_t most);
/* How long the pool is in memory; 0: that cannot be told. Not `exact`: at least, and it does not grow by its files. */
uint64_t pmem_pool_mapped_bytes(const char *path, PMEMobjpool *pop, bool *exact);

/* Extents: allocates and enters what the heap has room for, also in a pool that is signed. False: errno, and none may
 * have been had. */
bool pmem_segments_make(PMEMobjpool *pop, struct pmem_pool_root *root);
/* Checks the table, and counts. False: a text in `error`. */
bool pmem_segments_count(struct pmem_pool *pool, char *error, size_t error_bytes);
/* Fills pool->segments, of all members. False: likewise. */
bool pmem_segments_find(struct pmem_pool *pool, char *error, size_t error_bytes);
/* The same again, of members whose tables of extents have become longer; those that were found stay where they are. */
void pmem_segments_find_more(struct pmem_pool *pool);

/* The transaction that enters extents up to byte `to` of the pool. False: errno. */
bool pmem_pool_enter_extents(struct pmem_pool *pool, uint64_t to);
/* Space for the bytes [from, to) of a file, which becomes as long; synced. False: a text in `error`, and it is as it
 * was. */
bool pmem_pool_reserve(int fd, uint64_t from, uint64_t to, char *error, size_t error_bytes);
/* So long is one pool now. */
uint64_t pmem_pool_end_of(const struct pmem_pool *member);
void pmem_pool_forget_stretches(struct pmem_pool *member);

uint64_t pmem_identity_checksum(const struct pmem_pool_identity *identity);

#endif
