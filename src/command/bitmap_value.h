#ifndef TERRACE_COMMAND_BITMAP_VALUE_H
#define TERRACE_COMMAND_BITMAP_VALUE_H

/* Strings as bits, for SETBIT, BITFIELD and their like: bit offsets as arguments, and a view of a value's bits that is
 * the same for bytes in a record and for pages.
 *
 *   struct bitmap map;
 *   bitmap_open(&map, call, &lookup);
 *   old = bitmap_get(&map, offset, 1);
 *   if (bitmap_misses(&map)) return;
 *   if (bitmap_edit(call, key, &lookup, length, &map) &&
 *       bitmap_end(call, key, &lookup, &map, bitmap_put(&map, offset, 1, value))) ...
 *
 * All that is read is read, or touched, before bitmap_edit(). */

#include "base/bits.h"
#include "command/string_value.h"

#define ERROR_BIT_OFFSET "ERR bit offset is not an integer or out of range"

struct bitmap {
    struct span bytes;         /* of a value that is not paged */
    uint8_t *writable;         /* these, once they may be changed */
    bool is_paged;             /* else: */
    struct string_pages pages; /* only then filled in */
    size_t length;             /* the value's; bitmap_edit(): that it will have */
    char text[NUMBER_TEXT_MAX];
};

/* Parses argument `index` as the position of a bit that a value may have. `field_width` is not 0 where "#n" is allowed:
 * the n-th field of so many bits. False: ERROR_BIT_OFFSET is composed. */
bool bitmap_offset_parse(struct call *call, uint32_t index, unsigned field_width, uint64_t *offset)
    __attribute__((warn_unused_result));

/* ---- reading ---- */

/* The value of a key that is a string or absent; holds until the record changes, and only where it stands. */
void bitmap_open(struct bitmap *map, const struct call *call, const struct lookup *lookup);

/* Whether a page was missing: the command is going to be run again. */
static inline bool bitmap_misses(const struct bitmap *map) {
    return map->is_paged && map->pages.access.missing;
}

/* The field of 1 to 64 bits at this offset; bits behind the end are 0. */
uint64_t bitmap_get(struct bitmap *map, uint64_t offset, unsigned width);
int64_t bitmap_get_signed(struct bitmap *map, uint64_t offset, unsigned width);

/* From bit `first` to bit `last`, both included and inside the value: how many are 1; the first that is `bit`, or
 * BITS_NOT_FOUND. */
uint64_t bitmap_count(struct bitmap *map, uint64_t first, uint64_t last);
int64_t bitmap_find(struct bitmap *map, uint64_t first, uint64_t last, bool bit);

/* ---- changing ---- */

/* Makes the value ready to be changed, and at least `length` bytes long; a longer one keeps its length. False: no
 * memory, or a client asks for too much, and the error is composed; or pages are missing. If true, bitmap_end() must
 * follow. */
bool bitmap_edit(struct call *call, const struct key *key, struct lookup *lookup, size_t length, struct bitmap *map)
    __attribute__((warn_unused_result));
/* Makes sure that bitmap_put() of this field will succeed, for commands with several; else nothing has changed yet. */
enum page_status bitmap_prepare(struct bitmap *map, uint64_t offset, unsigned width)
    __attribute__((warn_unused_result));
enum page_status bitmap_put(struct bitmap *map, uint64_t offset, unsigned width, uint64_t value)
    __attribute__((warn_unused_result));
/* `status` is how the changes ended. False: they were not made; without memory the error is composed. */
bool bitmap_end(struct call *call, const struct key *key, struct lookup *lookup, struct bitmap *map,
                enum page_status status) __attribute__((warn_unused_result));

/* Whether a write to the first `length` bytes can be left out if it changes none of them: nothing has to grow. */
bool bitmap_has_room(const struct lookup *lookup, size_t length);
/* For such a write: watchers hear nothing of it, but OBJECT ENCODING says raw, as after any write to a string. The
 * value is made `length` bytes long if it is shorter. False: as bitmap_edit(). */
bool bitmap_settle(struct call *call, const struct key *key, struct lookup *lookup, size_t length)
    __attribute__((warn_unused_result));

#endif
