/* The index. Its picture and invariants are in index.h.
 *
 * A directory word packs all that a lookup needs, so that the way to a record is three dependent loads: the
 * directory word, the bucket, the record.
 *
 *    63      52 51     48 47                      6 5      0
 *   +----------+---------+-------------------------+--------+
 *   | count:12 | class:4 | segment address / 64    | depth  |
 *   +----------+---------+-------------------------+--------+
 *
 * Linear probing over buckets of eight stays short at a load of 0.9: a lookup that finds its key reads 1.1
 * buckets on average, one that does not about 1.6, and the next bucket is the next cache line. */

#include "keyspace/index.h"

#include "keyspace/key_hash.h"

#include <assert.h>
#include <stdlib.h>

/* Sanitizers cannot be told that a hint may be wrong: it is read without a lock, and from memory that may be free. */
#ifdef TERRACE_SANITIZE
enum { HINTS_WANTED = 0 };
#else
enum { HINTS_WANTED = 1 };
#endif

enum { PREFETCH_BYTES = 312 /* of a record that is wanted whole: most strings are shorter */ };

enum {
    CLASSES = 10,
    CLASS_SPLIT = 5, /* the smallest class of a segment that has a depth: halves of a split start here */
    CLASS_LAST = CLASSES - 1,
    CELL_BITS = 8,
    CELLS = 1 << CELL_BITS,
    TAG_BITS = 15,
    STALE_MAX = TAG_BITS - CELL_BITS, /* leading bits a tag may lose before its cell is unknown */
    DEPTH_MAX = 30,
    SHORT_TAG = 3, /* bits lost; one cold record in 4,000 is then read for nothing */
};

static const uint8_t class_buckets[CLASSES] = {1, 2, 4, 8, 12, 16, 20, 24, 28, 32};

static unsigned class_slots(unsigned class) {
    return class_buckets[class] * (unsigned)BUCKET_SLOTS;
}
static unsigned class_limit(unsigned class) {
    return class_slots(class) * 29 / 32;
}

/* ---- directory words ---- */

#define WORD_DEPTH_MASK   UINT64_C(0x3f)
#define WORD_POINTER_MASK UINT64_C(0x0000ffffffffffc0)
#define WORD_CLASS_SHIFT  48
#define WORD_COUNT_SHIFT  52

static inline struct bucket *word_segment(uint64_t word) {
    return (struct bucket *)(word & WORD_POINTER_MASK);
}
static inline unsigned word_depth(uint64_t word) {
    return (unsigned)(word & WORD_DEPTH_MASK);
}
static inline unsigned word_class(uint64_t word) {
    return (unsigned)(word >> WORD_CLASS_SHIFT) & 15;
}
static inline unsigned word_count(uint64_t word) {
    return (unsigned)(word >> WORD_COUNT_SHIFT);
}

static uint64_t make_word(const struct bucket *segment, unsigned depth, unsigned class, unsigned count) {
    return (uint64_t)(uintptr_t)segment | depth | (uint64_t) class << WORD_CLASS_SHIFT |
           (uint64_t)count << WORD_COUNT_SHIFT;
}

static inline uint32_t entry_of(const struct index *index, uint64_t hash) {
    return (uint32_t)((hash >> 1) >> (63 - index->depth));
}

static inline uint32_t first_entry(const struct index *index, uint32_t entry, uint64_t word) {
    return entry & ~((UINT32_C(1) << (index->depth - word_depth(word))) - 1);
}

static inline uint16_t tag_of(uint64_t hash, unsigned depth) {
    return (uint16_t)((hash << depth) >> 48 | 1);
}
static inline unsigned tag_cell(uint16_t tag) {
    return tag >> CELL_BITS;
}
static inline unsigned home_of(uint16_t tag, unsigned buckets) {
    return tag_cell(tag) * buckets >> CELL_BITS;
}
static inline unsigned tag_lost_bits(uint16_t tag) {
    return (unsigned)__builtin_ctz(tag);
}
static inline unsigned next_bucket(unsigned i, unsigned buckets) {
    return i + 1 == buckets ? 0 : i + 1;
}

static struct bucket *allocate_segment(struct index *index, unsigned class) {
    size_t bytes = class_buckets[class] * sizeof(struct bucket);
    struct bucket *segment = index->environment->allocate(index->environment->ctx, bytes);
    if (!segment) return NULL;
    assert(((uintptr_t)segment & ~WORD_POINTER_MASK) == 0);
    memset(segment, 0, bytes);
    index->bytes += bytes;
    return segment;
}

static void retire_segment(struct index *index, struct bucket *segment, unsigned class) {
    index->bytes -= class_buckets[class] * sizeof(struct bucket);
    index->environment->retire_segment(index->environment->ctx, segment);
}

/* Words are read without the lock too: atomically, so that no half of one is seen. */
static inline void store_word(struct index *index, uint32_t entry, uint64_t word) {
    __atomic_store_n(&index->directory[entry], word, __ATOMIC_RELAXED);
}

/* Points every directory word of a segment at it; the count goes to the first. */
static void set_words(struct index *index, uint32_t first, uint64_t word) {
    uint32_t words = UINT32_C(1) << (index->depth - word_depth(word));
    uint64_t repeated = word & ((UINT64_C(1) << WORD_COUNT_SHIFT) - 1);
    store_word(index, first, word);
    for (uint32_t i = 1; i < words; i++) store_word(index, first + i, repeated);
}

static uint64_t *allocate_directory(unsigned depth) {
    uint64_t *words = malloc((1 + (UINT64_C(1) << depth)) * sizeof(uint64_t));
    if (!words) return NULL;
    words[0] = depth;
    return words + 1;
}

static void publish_directory(struct index *index, uint64_t *directory, unsigned depth) {
    uint64_t *old = index->directory;
    index->bytes += ((UINT64_C(1) << depth) - (UINT64_C(1) << index->depth)) * sizeof(uint64_t);
    __atomic_store_n(&index->directory, directory, __ATOMIC_RELEASE);
    index->depth = depth;
    index->environment->retire(index->environment->ctx, old - 1);
}

struct index *index_create(const struct index_environment *environment) {
    struct index *index = calloc(1, sizeof(*index));
    if (!index) return NULL;
    index->environment = environment;
    index->directory = allocate_directory(0);
    struct bucket *segment = allocate_segment(index, 0);
    if (!index->directory || !segment) {
        if (segment) retire_segment(index, segment, 0);
        if (index->directory) free(index->directory - 1);
        free(index);
        return NULL;
    }
    index->segments = index->deepest = 1;
    index->bytes += 2 * sizeof(uint64_t) + sizeof(*index);
    index->directory[0] = make_word(segment, 0, 0, 0);
    return index;
}

void index_destroy(struct index *index) {
    if (!index) return;
    for (uint32_t entry = 0; entry < UINT32_C(1) << index->depth;) {
        uint64_t word = index->directory[entry];
        entry += UINT32_C(1) << (index->depth - word_depth(word));
        index->environment->retire_segment(index->environment->ctx, word_segment(word));
    }
    index->environment->retire(index->environment->ctx, index->directory - 1);
    field_expiry_destroy(index->fields);
    index->environment->retire(index->environment->ctx, index);
}

/* False: a cold record that cannot be read. */
static bool hash_of(const struct index *index, uint64_t ref, uint64_t *hash) {
    const struct index_environment *environment = index->environment;
    if (ref_is_cold(ref)) return environment->cold_hash && environment->cold_hash(environment->ctx, ref, hash);
    *hash = key_hash(record_key(ref_record(ref)), environment->seed);
    return true;
}

/* ---- lookup ---- */

static inline bool has_key(uint64_t ref, struct span key, const struct index_cold *cold) {
    if (__builtin_expect(!ref_is_cold(ref), 1)) return record_key_equals(ref_record(ref), key);
    const struct record *copy = cold ? cold->record(cold->ctx, ref) : NULL;
    return copy && record_key_equals(copy, key);
}

/* Looks for `key`, or, if that is NULL, for `ref`. */
static inline struct index_position find(struct index *index, uint64_t hash, const struct span *key, uint64_t ref,
                                         const struct index_cold *cold) {
    uint32_t entry = entry_of(index, hash);
    uint64_t word = index->directory[entry];
    struct bucket *segment = word_segment(word);
    unsigned depth = word_depth(word), buckets = class_buckets[word_class(word)];
    uint16_t tag = tag_of(hash, depth);
    unsigned home = home_of(tag, buckets), at = home;
    do {
        struct bucket *bucket = &segment[at];
        struct bucket_match match = bucket_match(bucket, tag);
        for (unsigned hits = match.hits; hits; hits &= hits - 1) {
            unsigned slot = (unsigned)__builtin_ctz(hits);
            uint64_t own = bucket_ref(bucket, slot);
            if (key ? !has_key(own, *key, cold) : own != ref) continue;
            if (bucket->tags[slot] != tag) bucket->tags[slot] = tag; /* the full hash is at hand: renew a short tag */
            return (struct index_position){bucket, slot, entry};
        }
        if (match.empties) break;
        at = next_bucket(at, buckets);
    } while (at != home);
    return (struct index_position){0};
}

struct index_position index_find(struct index *index, uint64_t hash, struct span key, const struct index_cold *cold) {
    return find(index, hash, &key, 0, cold);
}

struct index_position index_find_ref(struct index *index, uint64_t hash, uint64_t ref) {
    return find(index, hash, NULL, ref, NULL);
}

struct index_position index_find_near(struct index *index, uint64_t position, uint64_t ref) {
    uint32_t entry = entry_of(index, position);
    uint64_t word = index->directory[entry];
    struct bucket *segment = word_segment(word);
    for (unsigned i = 0; i < class_buckets[word_class(word)]; i++)
        for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
            if (segment[i].tags[slot] && bucket_ref(&segment[i], slot) == ref)
                return (struct index_position){&segment[i], slot, entry};
    return (struct index_position){0};
}

unsigned index_cold_candidates(struct index *index, uint64_t hash, struct span key, uint64_t *refs) {
    uint64_t word = index->directory[entry_of(index, hash)];
    struct bucket *segment = word_segment(word);
    unsigned buckets = class_buckets[word_class(word)], count = 0;
    uint16_t tag = tag_of(hash, word_depth(word));
    unsigned home = home_of(tag, buckets), at = home;
    do {
        struct bucket_match match = bucket_match(&segment[at], tag);
        for (unsigned hits = match.hits; hits; hits &= hits - 1) {
            uint64_t ref = bucket_ref(&segment[at], (unsigned)__builtin_ctz(hits));
            if (!ref_is_cold(ref)) {
                if (record_key_equals(ref_record(ref), key)) return 0;
            } else if (count < INDEX_CANDIDATES) {
                refs[count++] = ref;
            }
        }
        if (match.empties) break;
        at = next_bucket(at, buckets);
    } while (at != home);
    return count;
}

unsigned index_candidates(const struct index *index, uint64_t hash, uint64_t *refs) {
    uint64_t word = index->directory[entry_of(index, hash)];
    const struct bucket *segment = word_segment(word);
    unsigned buckets = class_buckets[word_class(word)], count = 0;
    uint16_t tag = tag_of(hash, word_depth(word));
    unsigned home = home_of(tag, buckets), at = home;
    do {
        struct bucket_match match = bucket_match(&segment[at], tag);
        for (unsigned hits = match.hits; hits && count < INDEX_CANDIDATES; hits &= hits - 1)
            refs[count++] = bucket_ref(&segment[at], (unsigned)__builtin_ctz(hits));
        if (match.empties) break;
        at = next_bucket(at, buckets);
    } while (at != home);
    return count;
}

static inline const uint64_t *unlocked_entry(const struct index *index, uint64_t hash) {
    const uint64_t *directory = __atomic_load_n(&index->directory, __ATOMIC_ACQUIRE);
    return &directory[(hash >> 1) >> (63 - directory[-1])];
}

struct index_hint index_prefetch_bucket(const struct index *index, uint64_t hash) {
    uint64_t word = __atomic_load_n(unlocked_entry(index, hash), __ATOMIC_RELAXED);
    unsigned buckets = class_buckets[word_class(word)];
    uint16_t tag = tag_of(hash, word_depth(word));
    unsigned home = home_of(tag, buckets);
    struct bucket *segment = word_segment(word);
    __builtin_prefetch(&segment[home]);
    return (struct index_hint){&segment[home], &segment[next_bucket(home, buckets)], tag};
}

/* Reads buckets that another thread may be writing. One lookup in six goes on to the next bucket. */
const void *index_prefetch_record(struct index_hint hint, bool whole) {
    if (!HINTS_WANTED) return NULL;
    struct bucket_match match = bucket_match(hint.home, hint.tag);
    const struct bucket *bucket = hint.home;
    if (!match.hits) {
        if (match.empties) return NULL;
        bucket = hint.next;
        match = bucket_match(bucket, hint.tag);
        if (!match.hits) return NULL;
    }
    uint64_t ref = bucket_ref(bucket, (unsigned)__builtin_ctz(match.hits));
    if (ref_is_cold(ref)) return NULL;
    const char *record = (const char *)ref_record(ref);
    __builtin_prefetch(record);
    __builtin_prefetch(record + 56);
    for (size_t at = 120; whole && at < PREFETCH_BYTES; at += 64) __builtin_prefetch(record + at);
    return record;
}

/* ---- layout ---- */

/* The entry of the position is the caller's to fill in. */
static struct index_position place(struct bucket *segment, unsigned buckets, uint16_t tag, uint64_t ref) {
    unsigned at = home_of(tag, buckets), empties;
    while (!(empties = bucket_empties(&segment[at]))) at = next_bucket(at, buckets);
    unsigned slot = (unsigned)__builtin_ctz(empties);
    segment[at].tags[slot] = tag;
    bucket_set_ref(&segment[at], slot, ref);
    return (struct index_position){&segment[at], slot, 0};
}

static bool resize_segment(struct index *index, uint32_t first, unsigned class) {
    uint64_t word = index->directory[first];
    struct bucket *old = word_segment(word), *segment = allocate_segment(index, class);
    if (!segment) return false;
    for (unsigned i = 0; i < class_buckets[word_class(word)]; i++)
        for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
            if (old[i].tags[slot]) place(segment, class_buckets[class], old[i].tags[slot], bucket_ref(&old[i], slot));
    set_words(index, first, make_word(segment, word_depth(word), class, word_count(word)));
    retire_segment(index, old, word_class(word));
    return true;
}

static bool double_directory(struct index *index) {
    if (index->depth == DEPTH_MAX) return false;
    uint32_t words = UINT32_C(1) << index->depth;
    uint64_t *old = index->directory, *directory = allocate_directory(index->depth + 1);
    if (!directory) return false;
    for (uint32_t i = 0; i < words; i++) {
        directory[2 * i] = old[i];
        directory[2 * i + 1] = old[i] & ((UINT64_C(1) << WORD_COUNT_SHIFT) - 1);
    }
    index->deepest = 0;
    publish_directory(index, directory, index->depth + 1);
    return true;
}

static unsigned class_for(unsigned count) {
    unsigned class = CLASS_SPLIT;
    while (class < CLASS_LAST && count + count / 16 >= class_limit(class)) class ++;
    return class;
}

/* A tag with all its bits again, at the price of reading the record. Of one that cannot be read the bits it has are
 * kept: it stays where a sweep finds it, and can no longer be found by its key, whose value is lost anyway. */
static uint16_t renewed_tag(struct index *index, uint64_t ref, uint16_t tag, unsigned depth) {
    uint64_t hash;
    if (hash_of(index, ref, &hash)) return tag_of(hash, depth);
    return (uint16_t)(tag | 1);
}

static bool split_segment(struct index *index, uint32_t entry) {
    if (word_depth(index->directory[entry]) == index->depth) {
        if (!double_directory(index)) return false;
        entry *= 2;
    }
    uint64_t word = index->directory[entry];
    uint32_t first = first_entry(index, entry, word);
    unsigned depth = word_depth(word) + 1, counts[2] = {0}, class[2], buckets = class_buckets[word_class(word)];
    struct bucket *old = word_segment(word), *half[2];
    for (unsigned i = 0; i < buckets; i++)
        for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
            if (old[i].tags[slot]) counts[old[i].tags[slot] >> TAG_BITS]++;
    for (unsigned side = 0; side < 2; side++)
        half[side] = allocate_segment(index, class[side] = class_for(counts[side]));
    if (!half[0] || !half[1]) {
        for (unsigned side = 0; side < 2; side++)
            if (half[side]) retire_segment(index, half[side], class[side]);
        return false;
    }
    for (unsigned i = 0; i < buckets; i++)
        for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++) {
            uint16_t tag = old[i].tags[slot];
            if (!tag) continue;
            unsigned side = tag >> TAG_BITS;
            uint64_t ref = bucket_ref(&old[i], slot);
            tag = (uint16_t)(tag << 1);
            if (tag_lost_bits(tag) > STALE_MAX) tag = renewed_tag(index, ref, tag, depth);
            place(half[side], class_buckets[class[side]], tag, ref);
        }
    set_words(index, first, make_word(half[0], depth, class[0], counts[0]));
    set_words(index, first + (UINT32_C(1) << (index->depth - depth)), make_word(half[1], depth, class[1], counts[1]));
    index->segments++;
    if (depth == index->depth) index->deepest += 2;
    retire_segment(index, old, word_class(word));
    return true;
}

/* ---- room ahead ---- */

/* Slots of a segment to have when all have come: as many as natural growth ends with on average. */
enum { RESERVED_SLOTS = 192, RESERVED_LEAST = 1 << 12 };

bool index_reserve(struct index *index, uint64_t count) {
    unsigned depth = 0;
    if (index->count || index->depth || count < RESERVED_LEAST) return true;
    while (depth < DEPTH_MAX && count >> depth > RESERVED_SLOTS) depth++;
    uint32_t words = UINT32_C(1) << depth, made = 0;
    unsigned class = class_for((unsigned)(count >> depth));
    uint64_t *directory = allocate_directory(depth);
    struct bucket *segment = NULL, *first = word_segment(index->directory[0]);
    unsigned first_class = word_class(index->directory[0]);
    for (; directory && made < words && (segment = allocate_segment(index, class)); made++)
        directory[made] = make_word(segment, depth, class, 0);
    if (!directory || !segment) {
        while (made) retire_segment(index, word_segment(directory[--made]), class);
        if (directory) free(directory - 1);
        return false;
    }
    publish_directory(index, directory, depth);
    retire_segment(index, first, first_class);
    index->segments = index->deepest = words;
    return true;
}

/* ---- shrinking ---- */

static void halve_directory(struct index *index) {
    uint32_t words = UINT32_C(1) << (index->depth - 1);
    uint64_t *old = index->directory, *directory = allocate_directory(index->depth - 1);
    if (!directory) return;
    index->deepest = 0;
    for (uint32_t i = 0; i < words; i++) {
        directory[i] = old[2 * i];
        if (word_depth(old[2 * i]) == index->depth - 1) index->deepest++;
    }
    publish_directory(index, directory, index->depth - 1);
}

/* A tag as it was before the split that gave it side `side`. */
static uint16_t unsplit_tag(uint16_t tag, unsigned side) {
    uint16_t longer = (uint16_t)(tag >> 1 | side << TAG_BITS);
    return tag & 1 ? longer | 1 : longer;
}

/* Joins the segment with its sibling when the two together leave room to grow. */
static void merge_segment(struct index *index, uint32_t first) {
    uint64_t word = index->directory[first];
    unsigned depth = word_depth(word);
    if (depth == 0) return;
    uint32_t span_words = UINT32_C(1) << (index->depth - depth);
    uint32_t left = first & ~span_words, right = first | span_words;
    uint64_t words[2] = {index->directory[left], index->directory[right]};
    if (word_depth(words[0]) != depth || word_depth(words[1]) != depth) return;
    unsigned count = word_count(words[0]) + word_count(words[1]);
    if (count > class_limit(CLASS_LAST) * 4 / 5) return;
    unsigned class = class_for(count);
    struct bucket *segment = allocate_segment(index, class);
    if (!segment) return;
    for (unsigned side = 0; side < 2; side++) {
        struct bucket *old = word_segment(words[side]);
        for (unsigned i = 0; i < class_buckets[word_class(words[side])]; i++)
            for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
                if (old[i].tags[slot])
                    place(segment, class_buckets[class], unsplit_tag(old[i].tags[slot], side),
                          bucket_ref(&old[i], slot));
    }
    set_words(index, left, make_word(segment, depth - 1, class, count));
    for (unsigned side = 0; side < 2; side++) retire_segment(index, word_segment(words[side]), word_class(words[side]));
    index->segments--;
    if (depth == index->depth) index->deepest -= 2;
    if (index->deepest == 0 && index->depth > 0) halve_directory(index);
}

static void shrink_segment(struct index *index, uint32_t first) {
    uint64_t word = index->directory[first];
    unsigned class = word_class(word), count = word_count(word);
    if (class == 0 || count * 5 > class_limit(class - 1) * 4) return;
    if (class > CLASS_SPLIT || (class > 0 && word_depth(word) == 0))
        (void)resize_segment(index, first, class - 1); /* without memory it stays as it is */
    else
        merge_segment(index, first);
}

/* ---- change ---- */

/* Makes the segment that the hash leads to ready for one more. False: no memory. */
static bool make_room(struct index *index, uint64_t hash) {
    for (;;) {
        uint32_t entry = entry_of(index, hash);
        uint64_t word = index->directory[entry];
        uint32_t first = first_entry(index, entry, word);
        unsigned count = word_count(index->directory[first]), class = word_class(word);
        if (count < class_limit(class)) return true;
        bool grown = class < CLASS_LAST ? resize_segment(index, first, class + 1) : split_segment(index, first);
        if (!grown) return count < class_slots(class) - 1;
    }
}

/* Precondition: there is room. */
static struct index_position insert_tag(struct index *index, uint32_t entry, uint16_t tag, uint64_t ref) {
    uint64_t word = index->directory[entry];
    uint32_t first = first_entry(index, entry, word);
    struct index_position position = place(word_segment(word), class_buckets[word_class(word)], tag, ref);
    position.entry = entry;
    store_word(index, first, index->directory[first] + (UINT64_C(1) << WORD_COUNT_SHIFT));
    index->count++;
    if (ref & REF_VOLATILE) index->volatile_count++;
    return position;
}

struct index_position index_insert(struct index *index, uint64_t hash, uint64_t ref) {
    if (!make_room(index, hash)) return (struct index_position){0};
    uint32_t entry = entry_of(index, hash);
    return insert_tag(index, entry, tag_of(hash, word_depth(index->directory[entry])), ref);
}

/* ---- what is known of a hash ---- */

/* The tag of a hash of which so much is known; one without a cell (tag_lost_bits() above STALE_MAX, or 0): too little.
 */
static uint16_t tag_of_known(uint64_t hash, unsigned depth) {
    uint64_t rest = hash << depth;
    uint16_t tag = (uint16_t)(rest >> 48);
    return rest << 16 ? tag | 1 : tag;
}

static uint64_t known_hash(uint32_t entry, uint64_t word, unsigned directory_depth, uint16_t tag) {
    unsigned depth = word_depth(word);
    uint64_t prefix = depth ? (uint64_t)(entry >> (directory_depth - depth)) << (64 - depth) : 0;
    return prefix | (uint64_t)tag << 48 >> depth;
}

uint64_t index_hash_of(const struct index *index, struct index_position slot) {
    return known_hash(slot.entry, index->directory[slot.entry], index->depth, slot.bucket->tags[slot.slot]);
}

bool index_import(struct index *index, uint64_t hash, uint64_t ref) {
    for (;;) {
        if (!make_room(index, hash)) return false;
        uint32_t entry = entry_of(index, hash);
        uint16_t tag = tag_of_known(hash, word_depth(index->directory[entry]));
        if (tag && tag_lost_bits(tag) <= STALE_MAX) {
            (void)insert_tag(index, entry, tag, ref);
            return true;
        }
        if (!hash_of(index, ref, &hash)) return false;
        hash = index_hash_whole(hash);
    }
}

/* Pulls later slots of a probe path into the hole, so that no bucket before a displaced slot has room. */
static void close_hole(struct bucket *segment, unsigned buckets, unsigned hole, unsigned slot) {
    if (bucket_empties(&segment[hole]) & ~(1u << slot)) return; /* it was not full: no path led through it */
    for (unsigned at = next_bucket(hole, buckets), distance = 1; distance < buckets;
         distance++, at = next_bucket(at, buckets)) {
        bool full = !bucket_empties(&segment[at]);
        for (unsigned i = 0; i < BUCKET_SLOTS; i++) {
            uint16_t tag = segment[at].tags[i];
            if (!tag) continue;
            unsigned travelled = (at + buckets - home_of(tag, buckets)) % buckets;
            if (travelled < distance) continue;
            segment[hole].tags[slot] = tag;
            bucket_set_ref(&segment[hole], slot, bucket_ref(&segment[at], i));
            segment[at].tags[i] = 0;
            hole = at;
            slot = i;
            distance = 0;
            break;
        }
        if (!full) return;
    }
}

void index_remove(struct index *index, struct index_position position) {
    uint64_t word = index->directory[position.entry];
    uint32_t first = first_entry(index, position.entry, word);
    struct bucket *segment = word_segment(word);
    if (index_ref_at(position) & REF_VOLATILE) index->volatile_count--;
    position.bucket->tags[position.slot] = 0;
    close_hole(segment, class_buckets[word_class(word)], (unsigned)(position.bucket - segment), position.slot);
    store_word(index, first, index->directory[first] - (UINT64_C(1) << WORD_COUNT_SHIFT));
    index->count--;
    shrink_segment(index, first);
}

void index_replace(struct index *index, struct index_position position, uint64_t ref) {
    uint64_t old = index_ref_at(position);
    index->volatile_count += (uint64_t)((ref & REF_VOLATILE) != 0) - (uint64_t)((old & REF_VOLATILE) != 0);
    bucket_set_ref(position.bucket, position.slot, ref);
}

unsigned index_compact(struct index *index, uint32_t *entry, unsigned budget) {
    const struct index_environment *environment = index->environment;
    unsigned moved = 0;
    if (*entry >= UINT32_C(1) << index->depth) *entry = 0;
    uint32_t at = first_entry(index, *entry, index->directory[*entry]);
    for (; budget > 0 && at < UINT32_C(1) << index->depth; budget--) {
        uint64_t word = index->directory[at];
        if (environment->should_move && environment->should_move(environment->ctx, word_segment(word)))
            moved += resize_segment(index, at, word_class(word));
        at += UINT32_C(1) << (index->depth - word_depth(word));
    }
    *entry = at < UINT32_C(1) << index->depth ? at : 0;
    return moved;
}

/* ---- order ---- */

/* The prefix of a segment of this depth, then the cell; past the last cell this carries into the next prefix, and past
 * the last prefix it becomes 0. */
static uint64_t position_of(uint64_t within, unsigned depth, unsigned cell) {
    uint64_t base = depth ? within >> (64 - depth) << (64 - depth) : 0;
    if (cell < CELLS) return base + ((uint64_t)cell << (64 - CELL_BITS) >> depth);
    return depth ? base + (UINT64_C(1) << (64 - depth)) : 0;
}

static unsigned cell_of(uint64_t position, unsigned depth) {
    return (unsigned)((position << depth) >> (64 - CELL_BITS));
}

/* `hashes` NULL: they are not wanted. */
static size_t gather(const struct index *index, uint64_t position, size_t want, bool only_volatile, uint64_t *refs,
                     uint64_t *hashes, uint64_t *next) {
    uint32_t entry = entry_of(index, position);
    uint64_t word = index->directory[entry];
    unsigned depth = word_depth(word), buckets = class_buckets[word_class(word)], from = cell_of(position, depth);
    const struct bucket *segment = word_segment(word);
    uint16_t per_cell[CELLS] = {0};
    for (unsigned i = 0; i < buckets; i++)
        for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
            if (segment[i].tags[slot]) per_cell[tag_cell(segment[i].tags[slot])]++;
    unsigned to = from;
    for (size_t found = 0; to < CELLS && (found < want || found == 0); to++) found += per_cell[to];
    size_t count = 0;
    for (unsigned i = 0; i < buckets; i++)
        for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++) {
            uint16_t tag = segment[i].tags[slot];
            if (!tag || tag_cell(tag) < from || tag_cell(tag) >= to) continue;
            uint64_t ref = bucket_ref(&segment[i], slot);
            if (only_volatile && !(ref & REF_VOLATILE)) continue;
            if (hashes) hashes[count] = known_hash(entry, word, index->depth, tag);
            refs[count++] = ref;
        }
    *next = position_of(position, depth, to);
    return count;
}

size_t index_gather(const struct index *index, uint64_t position, size_t want, bool only_volatile, uint64_t *refs,
                    uint64_t *next) {
    return gather(index, position, want, only_volatile, refs, NULL, next);
}

size_t index_gather_hashes(const struct index *index, uint64_t position, size_t want, uint64_t *refs, uint64_t *hashes,
                           uint64_t *next) {
    return gather(index, position, want, false, refs, hashes, next);
}

size_t index_gather_resident(struct index *index, uint64_t position, uint64_t *refs, struct index_position *slots,
                             uint64_t *next) {
    uint32_t entry = entry_of(index, position);
    uint64_t word = index->directory[entry];
    unsigned depth = word_depth(word), buckets = class_buckets[word_class(word)], from = cell_of(position, depth);
    struct bucket *segment = word_segment(word);
    size_t count = 0;
    for (unsigned i = 0; i < buckets; i++)
        for (unsigned left = bucket_residents(&segment[i]); left; left &= left - 1) {
            unsigned slot = (unsigned)__builtin_ctz(left);
            if (tag_cell(segment[i].tags[slot]) < from) continue;
            slots[count] = (struct index_position){&segment[i], slot, entry};
            refs[count++] = bucket_ref(&segment[i], slot);
        }
    *next = position_of(position, depth, CELLS);
    return count;
}

bool index_tag_is_short(struct index_position slot) {
    return tag_lost_bits(slot.bucket->tags[slot.slot]) >= SHORT_TAG;
}

void index_renew_tag(struct index *index, struct index_position slot, uint64_t hash) {
    slot.bucket->tags[slot.slot] = tag_of(hash, word_depth(index->directory[slot.entry]));
}

size_t index_gather_segment(const struct index *index, uint64_t position, uint64_t *refs, unsigned *depth) {
    uint64_t word = index->directory[entry_of(index, position)];
    const struct bucket *segment = word_segment(word);
    size_t count = 0;
    for (unsigned i = 0; i < class_buckets[word_class(word)]; i++)
        for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++)
            if (segment[i].tags[slot]) refs[count++] = bucket_ref(&segment[i], slot);
    *depth = word_depth(word);
    return count;
}

/* Of a cold record only what can be seen without reading it. */
static bool slot_is_valid(const struct index *index, uint64_t ref, uint16_t tag, unsigned depth, uint32_t prefix,
                          uint32_t words) {
    unsigned lost = tag_lost_bits(tag);
    uint64_t hash;
    if (lost > STALE_MAX) return false;
    if (ref_is_cold(ref)) return true;
    if (ref != ref_of(ref_record(ref), ref_medium(ref))) return false; /* a wrong mark of volatility */
    return hash_of(index, ref, &hash) && entry_of(index, hash) / words == prefix &&
           (tag_of(hash, depth) ^ tag) >> (lost + 1) == 0;
}

bool index_validate(const struct index *index) {
    uint64_t total = 0, volatile_total = 0;
    uint32_t segments = 0, deepest = 0;
    for (uint32_t entry = 0; entry < UINT32_C(1) << index->depth;) {
        uint64_t word = index->directory[entry];
        unsigned depth = word_depth(word), buckets = class_buckets[word_class(word)], count = 0;
        uint32_t words = UINT32_C(1) << (index->depth - depth);
        const struct bucket *segment = word_segment(word);
        if (depth > index->depth || entry % words) return false;
        for (uint32_t i = 1; i < words; i++)
            if (index->directory[entry + i] != (word & ((UINT64_C(1) << WORD_COUNT_SHIFT) - 1))) return false;
        for (unsigned i = 0; i < buckets; i++)
            for (unsigned slot = 0; slot < BUCKET_SLOTS; slot++) {
                uint16_t tag = segment[i].tags[slot];
                if (!tag) continue;
                uint64_t ref = bucket_ref(&segment[i], slot);
                if (!slot_is_valid(index, ref, tag, depth, entry / words, words)) return false;
                for (unsigned at = home_of(tag, buckets); at != i; at = next_bucket(at, buckets))
                    if (bucket_empties(&segment[at])) return false;
                count++;
                volatile_total += (ref & REF_VOLATILE) != 0;
            }
        if (count != word_count(word)) return false;
        total += count;
        segments++;
        deepest += depth == index->depth;
        entry += words;
    }
    return total == index->count && volatile_total == index->volatile_count && segments == index->segments &&
           deepest == index->deepest;
}
