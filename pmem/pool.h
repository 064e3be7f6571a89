#ifndef TERRACE_PMEM_POOL_H
#define TERRACE_PMEM_POOL_H

/* A libpmemobj pool: made or opened, locked against a second process, its journal area and its segments. Or several,
 * which are one to those who use it: journal and sectors are in the first, segments in all (pool_layout.h).
 *
 *   what is at PATH                    what pmem_pool_open() does
 *   nothing                            makes a pool of size_bytes
 *   a pool of ours                     opens it; its sizes are its own
 *   a pool set file, parts absent      makes a pool in it (size_bytes is not looked at)
 *   a pool set file, parts present     opens it
 *   a blank file                       makes a pool in it, as long as the file is
 *   anything else                      refused, untouched
 *
 * Several pools: what is made, is made with all of them. A pool that is missing, belongs to another set, or to none, is
 * refused, and so is one of a set that is named alone. They may be named in any order once they are made.
 *
 * This room stands below tiering: it knows offsets and bytes, neither records nor effects. What the tier keeps in the
 * two sectors, and the journal in its area, is theirs.
 *
 * Threads: opened, closed and its sectors written by one at a time; areas and facts are read by any meanwhile. */

#include "pmem/area.h"
#include "pmem/pool_layout.h"

#include <stdbool.h>

struct pmem_pool;

struct pmem_pool_options {
    const char *path;       /* a file, a pool set file, or a device that libpmemobj takes; several: with commas */
    uint64_t size_bytes;    /* of a pool that is made now, each; 0: PATH has to be there */
    uint64_t segment_bytes; /* likewise: a power of two, 1 MB .. 64 MB; 0: chosen by the size */
    uint64_t journal_bytes; /* likewise: a multiple of 4 KB; 0: an eighth of the pool, 1 MB .. 1 GB */
    bool grow;              /* files become size_bytes long; what room there is behind the segments becomes segments */
};

/* NULL: one line in `error` that says what to do, and nothing has changed (in use by another process, not a pool of
 * ours, another version, damaged, no space). Takes as long as reserving the space takes, if it is made. */
struct pmem_pool *pmem_pool_open(const struct pmem_pool_options *options, char *error, size_t error_bytes);
/* All areas end with it. NULL is allowed. */
void pmem_pool_close(struct pmem_pool *pool);
/* Whether opening it again with options->grow could give it more segments. A look, without a change. */
bool pmem_pool_can_grow(const struct pmem_pool *pool, const struct pmem_pool_options *options);

/* ---- becoming larger while it is used: files only; the steps are in pool_layout.h ----
 *
 * One thread at a time calls these. False: one line in `error`. */

/* Whether each of its files could be size_bytes long. They are never made shorter; a pool takes so much more until it
 * is opened again as its tables have room for (pmem_pool_segments_most()). */
bool pmem_pool_may_extend(const struct pmem_pool *pool, uint64_t size_bytes, char *error, size_t error_bytes)
    __attribute__((warn_unused_result));
/* The first step, which takes as long as reserving the space does. Who uses the pool sees nothing of it; what has been
 * made longer when it fails is taken in by the next start. Precondition: pmem_pool_may_extend(). */
bool pmem_pool_extend(struct pmem_pool *pool, uint64_t size_bytes, char *error, size_t error_bytes)
    __attribute__((warn_unused_result));
/* The second step: what was added has become segments, behind those there were. Nobody opens, closes, or writes a
 * sector meanwhile; areas may be used. */
bool pmem_pool_take_in(struct pmem_pool *pool, char *error, size_t error_bytes) __attribute__((warn_unused_result));
/* How far the numbers of segments can go until it is opened again. */
uint64_t pmem_pool_segments_most(const struct pmem_pool *pool);

/* ---- what is in it ---- */

const struct pmem_pool_identity *pmem_pool_identity(const struct pmem_pool *pool);

/* The journal's. In a pool that was made just now its first 64 KB are zero and durable; a journal that finds its first
 * 4 KB zero formats it, whether the pool is new or its maker was killed in between. */
struct pmem_area pmem_pool_journal(const struct pmem_pool *pool);

/* How far the numbers of segments go. Of several pools, when they differ in length, not every number is one. */
uint64_t pmem_pool_segments(const struct pmem_pool *pool);
bool pmem_pool_has_segment(const struct pmem_pool *pool, uint64_t segment);
/* One of them, of identity->segment_bytes. Neighbours by number are not always neighbours in memory. Precondition:
 * pmem_pool_has_segment(). */
struct pmem_area pmem_pool_segment(const struct pmem_pool *pool, uint64_t segment);

/* The medium has failed in this segment (media.h): from now on, until the pool is opened again, it is not written any
 * more. Any thread. */
void pmem_pool_quarantine(const struct pmem_pool *pool, uint64_t segment);
bool pmem_pool_is_bad(const struct pmem_pool *pool, uint64_t segment);

/* Drops pages of the segments, or of the journal, from this process's resident set, where they are counted there: where
 * the page cache stands between. Contents stay; who uses them next pays a fault for each page. */
void pmem_pool_forget_mapped(const struct pmem_pool *pool);
void pmem_pool_forget_journal(const struct pmem_pool *pool);

/* The 512 bytes of a sector, all zero in a new pool. Valid until it is written next. */
const void *pmem_pool_sector(const struct pmem_pool *pool, enum pmem_pool_sector sector);
/* Replaces a sector at once and durably. False: errno, and it is as it was. */
bool pmem_pool_write_sector(struct pmem_pool *pool, enum pmem_pool_sector sector, const void *bytes)
    __attribute__((warn_unused_result));

/* ---- the pools it consists of ---- */

struct pmem_pool_member {
    const char *path;
    unsigned named; /* its place in options->path */
    uint64_t pool_bytes, segments;
    int node; /* of its medium, as far as the kernel says; -1: not known */
};
unsigned pmem_pool_members(const struct pmem_pool *pool);
/* `index` as in the layout: 0 is the one with the journal. Segment s is of member s % pmem_pool_members(). */
struct pmem_pool_member pmem_pool_member(const struct pmem_pool *pool, unsigned index);

/* ---- what it stands on; of all pools together ---- */

struct pmem_pool_facts {
    uint64_t pool_bytes;    /* of the file or files */
    uint64_t segment_bytes; /* all segments together: usable for records */
    uint64_t journal_bytes;
    uint64_t bad_segments; /* in quarantine */
    bool made;             /* by this opening */
    bool pmem;             /* flushed by instructions; false: by msync */
    bool forced;           /* only because PMEM_IS_PMEM_FORCE says so: it outlives the process, not a power cut */
    bool dax;              /* its file system maps the medium itself */
    bool auto_flush;       /* the platform flushes the caches when power fails */
    const char *domain;    /* of persistence: "cpu_cache", "memory_controller", "page_cache" or "process" (forced) */
};
struct pmem_pool_facts pmem_pool_facts(const struct pmem_pool *pool);

#endif
