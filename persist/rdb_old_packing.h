#ifndef TERRACE_PERSIST_RDB_OLD_PACKING_H
#define TERRACE_PERSIST_RDB_OLD_PACKING_H

/* Reading the packings of small collections that Redis used before listpacks: ziplists (until 6.2) and zipmaps (until
 * 2.4). They come from files and RESTORE, so every byte is checked before it is used.
 *
 *   ziplist   bytes (4), offset of the last entry (4), count (2; 65535: unknown), entries, ff
 *     entry   length of the entry before: 1 byte, or fe and 4
 *             00llllll | 01llllll l | 10...... llll (big-endian)    then so many bytes of text
 *             c0, d0, e0, f0, fe                                    then an integer of 2, 4, 8, 3, 1 bytes
 *             f1 .. fd                                              0 .. 12
 *
 *   zipmap    count (1; fe: unknown), entries, ff
 *     entry   length, field, length, unused (1), value, so many unused bytes
 *             length: 1 byte below fe, or fe and 4
 *
 * All functions are pure but for the reader they advance. Spans point into the bytes, or to `room`. */

#include "base/number.h"
#include "base/span.h"

#include <stdint.h>

enum rdb_entry { RDB_ENTRY, RDB_ENTRY_END, RDB_ENTRY_BAD };

struct rdb_ziplist {
    const uint8_t *base, *at, *end;
    uint32_t previous, count, stated;
};
/* False: the header is wrong. */
bool rdb_ziplist_open(struct rdb_ziplist *list, struct span bytes) __attribute__((warn_unused_result));
enum rdb_entry rdb_ziplist_next(struct rdb_ziplist *list, struct span *text, char room[NUMBER_TEXT_MAX])
    __attribute__((warn_unused_result));

struct rdb_zipmap {
    const uint8_t *at, *end;
    uint32_t count, stated;
};
bool rdb_zipmap_open(struct rdb_zipmap *map, struct span bytes) __attribute__((warn_unused_result));
enum rdb_entry rdb_zipmap_next(struct rdb_zipmap *map, struct span *field, struct span *value)
    __attribute__((warn_unused_result));

#endif
