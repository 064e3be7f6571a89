/* A binary heap: the parent of place i is place (i - 1) / 2, and no child is due before its parent. */

#include "base/deadline_heap.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 16 };

static void put(struct deadline_heap *heap, size_t at, struct deadline *deadline) {
    heap->items[at] = deadline;
    deadline->place = at + 1;
}

static void rise(struct deadline_heap *heap, size_t at, struct deadline *deadline) {
    while (at > 0 && heap->items[(at - 1) / 2]->due_ms > deadline->due_ms) {
        put(heap, at, heap->items[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(heap, at, deadline);
}

static void sink(struct deadline_heap *heap, size_t at, struct deadline *deadline) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count && heap->items[child + 1]->due_ms < heap->items[child]->due_ms) child++;
        if (heap->items[child]->due_ms >= deadline->due_ms) break;
        put(heap, at, heap->items[child]);
        at = child;
    }
    put(heap, at, deadline);
}

bool deadline_heap_add(struct deadline_heap *heap, struct deadline *deadline) {
    assert(deadline->place == 0);
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity ? 2 * heap->capacity : FIRST_CAPACITY;
        struct deadline **items = realloc(heap->items, capacity * sizeof(struct deadline *));
        if (!items) return false;
        heap->items = items;
        heap->capacity = capacity;
    }
    rise(heap, heap->count++, deadline);
    return true;
}

void deadline_heap_remove(struct deadline_heap *heap, struct deadline *deadline) {
    if (deadline->place == 0) return;
    size_t at = deadline->place - 1;
    assert(at < heap->count && heap->items[at] == deadline);
    deadline->place = 0;
    struct deadline *last = heap->items[--heap->count];
    if (last == deadline) return;
    if (at > 0 && heap->items[(at - 1) / 2]->due_ms > last->due_ms)
        rise(heap, at, last);
    else
        sink(heap, at, last);
}

void deadline_heap_free(struct deadline_heap *heap) {
    free(heap->items);
    *heap = (struct deadline_heap){0};
}
