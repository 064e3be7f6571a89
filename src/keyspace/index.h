#ifndef TERRACE_KEYSPACE_INDEX_H
#define TERRACE_KEYSPACE_INDEX_H

/* The index of one shard and database: from a key's hash to the one reference of its record.
 *
 *   hash (64 bit)   | directory prefix (depth d) | tag: 15 bits | ...
 *                                                | cell: 8 bits |
 *
 *   directory       2^depth words, each the segment that its prefix leads to
 *   segment         1..32 buckets (see bucket.h) in hash order: home = cell * buckets / 256
 *   overflow        into the next bucket of the same segment, cyclically; a search ends at a bucket that
 *                   has an empty slot
 *
 * A segment that is nine tenths full is laid out again a step larger (16, 20, 24, 28, 32 buckets); one of
 * 32 splits in two. Both work on the segment's own 2 KB alone, never on records, because a tag tells
 * where its slot belongs. So the index grows without a pause at any size, its load stays between 0.7 and
 * 0.9 (8.9 to 11.4 bytes a key, 10 on average), and records that lie on a slow medium need not be
 * read. It shrinks the same way.
 *
 * Invariants:
 *   - a slot's bucket is at or cyclically after its home, and all buckets between are full
 *   - a tag has at least 8 valid bits (the cell); a split that would leave fewer reads the record's hash
 *   - the first directory word of a segment holds its count of slots; others of the same segment repeat
 *     pointer, depth and class only
 *
 * Order: positions are hash prefixes. They mean the same before and after growth, so a cursor stays valid:
 * what was present all the time is gathered at least once.
 *
 * Threads: the caller holds the shard's lock, except for the two prefetch functions, which may be called
 * without it while the memory they read is kept alive by the caller's quiescence (retire.h). */

#include "base/span.h"
#include "keyspace/bucket.h"
#include "keyspace/field_expiry.h"
#include "record/reference.h"

#include <stdint.h>

enum { INDEX_GATHER_MAX = 256 };

/* What an index needs from its owner. Lives as long as the index. */
struct index_environment {
    uint64_t seed; /* of key_hash() */
    /* Memory for a segment: aligned to a cache line, contents undefined; NULL: there is none. */
    void *(*allocate)(void *ctx, size_t bytes);
    /* Frees a segment, or memory from malloc, that another thread may still be reading without a lock. */
    void (*retire_segment)(void *ctx, void *segment);
    void (*retire)(void *ctx, void *memory);
    /* Whether the segment should move so that memory can be given back; NULL: never. */
    bool (*should_move)(void *ctx, const void *segment);
    /* The hash of a cold record, wherever it has to be fetched from; false: it cannot be read. */
    bool (*cold_hash)(void *ctx, uint64_t ref, uint64_t *hash);
    void *ctx;
};

/* How far a snapshot has come with an index: keyspace_snapshot.h. */
struct index_walk {
    bool unfinished;   /* it is of the cut, and not at its end */
    uint32_t database; /* its number at the cut */
    uint64_t position; /* what is below has been taken */
};

struct index {
    const struct index_environment *environment;
    uint64_t *directory; /* the word before the first holds the depth, for readers without a lock */
    unsigned depth;
    uint32_t segments;
    uint32_t deepest;            /* segments whose depth is the directory's */
    uint64_t count;              /* slots in use */
    uint64_t volatile_count;     /* of these, with an expiry */
    size_t bytes;                /* segments and directory */
    struct field_expiry *fields; /* keys whose fields expire; NULL: there never was one. Owned */
    struct index_walk walk;      /* its owner's, like ... */
    struct index *next;          /* ... this: of a list of unused ones */
};

/* Cold records as a lookup sees them: the copy of the record that `ref` leads to, or NULL when it is not at hand, in
 * which case the slot does not match. */
struct index_cold {
    const struct record *(*record)(void *ctx, uint64_t ref);
    void *ctx;
};

/* Where a slot is; valid until the index next changes. */
struct index_position {
    struct bucket *bucket; /* NULL: not found */
    unsigned slot;
    uint32_t entry; /* directory word that led here */
};

/* NULL when there is no memory. */
struct index *index_create(const struct index_environment *environment);
/* The records are the caller's business: gather and free them first. */
void index_destroy(struct index *index);

/* `cold` NULL: the key is not looked for among cold records. */
struct index_position index_find(struct index *index, uint64_t hash, struct span key, const struct index_cold *cold);
/* Finds a slot by its reference alone; for moving records. */
struct index_position index_find_ref(struct index *index, uint64_t hash, uint64_t ref);

/* Precondition: the key is absent. Where it is now; a NULL bucket: no memory, nothing changed. */
struct index_position index_insert(struct index *index, uint64_t hash, uint64_t ref)
    __attribute__((warn_unused_result));
void index_remove(struct index *index, struct index_position position);
/* Swings a reference: the record moved, or gained or lost its expiry. */
void index_replace(struct index *index, struct index_position position, uint64_t ref);

/* The same without the hash: looks through the segment that `position`, from which it was gathered, leads to. */
struct index_position index_find_near(struct index *index, uint64_t position, uint64_t ref);

/* Which cold records may have this key: their references in `refs`, at most INDEX_CANDIDATES (more are as good as never
 * met). 0 when a record in memory has the key, so nothing cold need be read. */
enum { INDEX_CANDIDATES = 8 };
unsigned index_cold_candidates(struct index *index, uint64_t hash, struct span key, uint64_t *refs);

/* The references of slots that may belong to a key with this hash, in memory or cold, at most INDEX_CANDIDATES. For who
 * does not know the key's name. */
unsigned index_candidates(const struct index *index, uint64_t hash, uint64_t *refs);

static inline uint64_t index_ref_at(struct index_position position) {
    return bucket_ref(position.bucket, position.slot);
}

/* Collects the references of slots in hash order from `position` on: whole cells until at least `want` are
 * found or the segment ends (so it may return 0 before the end). Sets *next to the position to go on
 * from; 0: the end. `refs` has room for INDEX_GATHER_MAX. Only volatile ones if asked. */
size_t index_gather(const struct index *index, uint64_t position, size_t want, bool only_volatile, uint64_t *refs,
                    uint64_t *next);
/* The references of records in memory, to the end of the segment, and where their slots are: good until the index next
 * changes otherwise than by index_replace(). */
size_t index_gather_resident(struct index *index, uint64_t position, uint64_t *refs, struct index_position *slots,
                             uint64_t *next);
/* Whether the slot's tag has become so short that it is worth computing the record's hash to renew it; and that. */
bool index_tag_is_short(struct index_position slot);
void index_renew_tag(struct index *index, struct index_position slot, uint64_t hash);

/* ---- checkpoints ---- */

/* What an index knows of a hash without reading the record: so many of its bits, then a 1, then zeros. 16 of 64 at
 * least; as long as the tag lasts it is enough to find the slot's place in any index.
 *
 * As index_gather(), all references, with what is known of their hashes. */
size_t index_gather_hashes(const struct index *index, uint64_t position, size_t want, uint64_t *refs, uint64_t *hashes,
                           uint64_t *next);
uint64_t index_hash_of(const struct index *index, struct index_position slot);
/* A whole hash in the same form; its last bit is given up. */
static inline uint64_t index_hash_whole(uint64_t hash) {
    return hash | 1;
}
/* Makes an empty index as large as it will be with about so many slots, which spares it growing. Does nothing to one
 * that has slots, and for few. False: no memory; the index is as it was. */
bool index_reserve(struct index *index, uint64_t count);
/* Inserts a slot by what is known of its hash. Where that is too little, in an index that has grown meanwhile, the
 * record is read. Cheapest in the order of hashes. False: no memory, or the record is needed and cannot be read. */
bool index_import(struct index *index, uint64_t hash, uint64_t ref) __attribute__((warn_unused_result));

/* Collects all slots of the segment that `position` leads to; it covers 2^-*depth of all hashes. For drawing at random.
 */
size_t index_gather_segment(const struct index *index, uint64_t position, uint64_t *refs, unsigned *depth);

/* Moves segments that should move, looking at `budget` segments from directory word `*entry` on, which is set to where
 * to go on (0: the end was reached). Returns how many were moved. */
unsigned index_compact(struct index *index, uint32_t *entry, unsigned budget);

/* Hints for a batch, without the shard's lock: first the bucket of a key is asked for, then, when it has arrived, the
 * record its tag suggests. A wrong hint only costs a useless prefetch. */
struct index_hint {
    const struct bucket *home, *next; /* `home` NULL: nothing to do */
    uint16_t tag;
};
struct index_hint index_prefetch_bucket(const struct index *index, uint64_t hash);
/* `whole`: more than what lookups read. */
void index_prefetch_record(struct index_hint hint, bool whole);

/* Walks every invariant above; for tests and debug builds. */
bool index_validate(const struct index *index);

#endif
