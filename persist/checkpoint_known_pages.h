#ifndef TERRACE_PERSIST_CHECKPOINT_KNOWN_PAGES_H
#define TERRACE_PERSIST_CHECKPOINT_KNOWN_PAGES_H

/* Pages of big collections whose images the last checkpoint refers to: as checkpoint_known.h has it for records, and by
 * the same rules. A page names its collection and its number, which its print covers; so a page of another collection
 * that has the id now is never taken for this one, unless both hold the same.
 *
 * Both checkpoints go through a collection in the order of its pages, a stretch (CHECKPOINT_STRETCH) at a time, so a
 * chunk of the file is at hand at any time, and each is read once. Pages that stand with their root are read with all
 * roots of the shard and database, when the walk comes to it; what is given between, because somebody was about to
 * change it, is looked for among those that are at hand.
 *
 * Memory: 20 bytes a page of a stretch; the roots of a shard and database. Threads: the walker's. */

#include "persist/checkpoint_known.h"

struct checkpoint_known_pages;

/* `known` outlives it; NULL: no page is known. NULL: no memory, with which none is known either. */
struct checkpoint_known_pages *checkpoint_known_pages_create(struct checkpoint_known *known);
void checkpoint_known_pages_destroy(struct checkpoint_known_pages *pages);

/* A collection follows, of this shard and database; whether the walk came to it. `pages` may be NULL. */
void checkpoint_known_pages_begin(struct checkpoint_known_pages *pages, uint32_t shard, uint32_t database, bool walked);
/* Brings to hand what is known of the stretch of this collection that begins with page `first`, the part in the highest
 * bit. For each collection stretches come in ascending order. Reads from the file. `pages` may be NULL. */
void checkpoint_known_pages_bring(struct checkpoint_known_pages *pages, uint32_t collection, uint32_t first);

/* The image of page `number` of the stretch at hand; false: none is known with this print. Reads nothing. */
bool checkpoint_known_pages_find(const struct checkpoint_known_pages *pages, uint32_t number,
                                 const struct checkpoint_print *print, uint64_t *ref)
    __attribute__((warn_unused_result));

#endif
