#ifndef TERRACE_BASE_DEADLINE_HEAP_H
#define TERRACE_BASE_DEADLINE_HEAP_H

/* Things that are due at some time, the earliest first: a binary heap of pointers into the things themselves, each of
 * which knows its place, so that it can be taken out before its time.
 *
 * The heap owns its array, never the things. Adding and removing cost O(log n), looking at the first O(1). One thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct deadline {
    int64_t due_ms; /* in whatever clock the owner uses */
    size_t place;   /* in the heap, plus 1; 0: it is in none */
};

struct deadline_heap {
    struct deadline **items;
    size_t count, capacity;
};

/* False: no memory. Precondition: it is in no heap. It has to stay where it is until it is removed. */
bool deadline_heap_add(struct deadline_heap *heap, struct deadline *deadline) __attribute__((warn_unused_result));
/* Nothing happens if it is in no heap. */
void deadline_heap_remove(struct deadline_heap *heap, struct deadline *deadline);
static inline struct deadline *deadline_heap_first(const struct deadline_heap *heap) {
    return heap->count ? heap->items[0] : NULL;
}
void deadline_heap_free(struct deadline_heap *heap);

#endif
