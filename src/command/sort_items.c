/* The items of SORT: loading, weighing, ordering.
 *
 * Numbers are compared first; elements with equal numbers, and all elements without BY, in the order of their bytes, so
 * that the result is defined. Texts found through BY that are equal leave the elements in the order they came in.
 *
 * Redis orders texts by the collation of its environment; here it is the order of bytes, which is what Redis does in
 * the locale "C", and the same for every server. */

#include "command/sort_items.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum {
    TEXT_BLOCK_BYTES = 32 * 1024, /* short texts are copied into blocks of this size */
    NUMBER_BYTES = 64,            /* longer numbers are spelled out on the heap */
};

struct sort_text {
    struct sort_text *next;
    size_t used, capacity;
    char bytes[];
};

struct span sort_items_keep(struct sort_items *items, struct span text) {
    struct sort_text *block = items->texts;
    if (!block || block->capacity - block->used < text.length) {
        size_t capacity = text.length > TEXT_BLOCK_BYTES / 4 ? text.length : TEXT_BLOCK_BYTES;
        struct sort_text *fresh = malloc(sizeof(*fresh) + capacity);
        if (!fresh) {
            items->no_memory = true;
            return span_of(NULL, 0);
        }
        *fresh = (struct sort_text){.capacity = capacity};
        /* A long text fills its block; the one in use stays in front. */
        if (block && capacity == text.length) {
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            items->texts = fresh;
        }
        block = fresh;
    }
    char *at = block->bytes + block->used;
    if (text.length) memcpy(at, text.data, text.length);
    block->used += text.length;
    return span_of(at, text.length);
}

void sort_items_free(struct sort_items *items) {
    for (struct sort_text *block = items->texts, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(items->items);
    *items = (struct sort_items){0};
}

/* ---- loading ---- */

bool sort_source_open(struct sort_source *source, const struct view *view, const struct key *key) {
    struct lookup lookup = keyspace_find(view, key);
    source->type = lookup.record ? record_type(lookup.record) : RECORD_LIST;
    switch (source->type) {
    case RECORD_LIST:
        if (!list_value_open(&source->value.list, view, key, LIST_FOR_READ)) return false;
        source->count = list_value_length(&source->value.list);
        return true;
    case RECORD_SET:
        if (!set_value_open(&source->value.set, view, key, SET_FOR_READ)) return false;
        source->count = set_value_count(&source->value.set);
        return true;
    case RECORD_SORTED_SET:
        if (!sorted_set_open(&source->value.sorted_set, view, key, SORTED_SET_FOR_READ)) return false;
        source->count = sorted_set_count(&source->value.sorted_set);
        return true;
    default: return false;
    }
}

/* `room`: where the cursor spells integers, LISTPACK_NUMBER_TEXT_BYTES. */
static void add(struct sort_items *items, struct span element, const char *room) {
    bool volatile_text = element.data >= room && element.data < room + LISTPACK_NUMBER_TEXT_BYTES;
    if (items->copies_all || volatile_text) element = sort_items_keep(items, element);
    items->items[items->count] = (struct sort_item){.element = element, .place = items->count};
    items->count++;
}

static void load_list(struct sort_items *items, struct list_value *list, bool backward, uint64_t first,
                      uint64_t count) {
    struct list_cursor at;
    uint64_t length = list_value_length(list);
    list_value_at(&at, list, backward ? length - 1 - first : first);
    for (uint64_t i = 0; i < count && at.valid;) {
        uint64_t position = at.position;
        if (!at.missing) add(items, at.element, at.room);
        if (backward)
            list_value_previous(&at);
        else
            list_value_next(&at);
        if (at.valid) i += backward ? position - at.position : at.position - position;
    }
}

static void load_sorted_set(struct sort_items *items, struct sorted_set *set, bool backward, uint64_t first,
                            uint64_t count) {
    struct sorted_set_cursor at;
    sorted_set_at(&at, set, backward ? sorted_set_count(set) - 1 - first : first);
    for (uint64_t i = 0; i < count && at.valid;) {
        uint64_t position = at.position;
        if (!at.missing) add(items, at.member, at.room);
        if (backward)
            sorted_set_previous(&at);
        else
            sorted_set_next(&at);
        if (at.valid) i += backward ? position - at.position : at.position - position;
    }
}

static void load_set(struct sort_items *items, struct set_value *set, uint64_t count) {
    struct set_walk walk;
    struct set_member member;
    set_value_walk(&walk, set);
    while (items->count < count && set_value_walk_next(&walk, &member)) add(items, member.text, member.room);
}

bool sort_items_load(struct sort_items *items, struct sort_source *source, const struct sort_order *order,
                     uint64_t first, uint64_t count) {
    bool backward = order->descending && !order->sorts;
    if (count == 0) return true;
    items->items = malloc(count * sizeof(*items->items));
    if (!items->items) {
        items->no_memory = true;
        return false;
    }
    switch (source->type) {
    case RECORD_SET: load_set(items, &source->value.set, count); break;
    case RECORD_SORTED_SET: load_sorted_set(items, &source->value.sorted_set, backward, first, count); break;
    default: load_list(items, &source->value.list, backward, first, count);
    }
    return items->count == count && !items->no_memory;
}

/* ---- weighing ---- */

/* What strtod() takes of the whole text, a leading blank and nothing at all included, as Redis does; no NaN, nothing
 * that is too great or too small. */
static bool parse_score(struct span text, double *score) {
    char room[NUMBER_BYTES], *end;
    int64_t integer;
    if (number_parse_i64(text, &integer)) {
        *score = (double)integer;
        return true;
    }
    char *terminated = text.length < sizeof(room) ? room : malloc(text.length + 1);
    if (!terminated) return false;
    if (text.length) memcpy(terminated, text.data, text.length);
    terminated[text.length] = '\0';
    errno = 0;
    *score = strtod(terminated, &end);
    bool fine = *end == '\0' && errno != ERANGE && !isnan(*score);
    if (terminated != room) free(terminated);
    return fine;
}

/* Without BY the elements themselves are compared where they are texts. */
bool sort_items_weigh(struct sort_items *items, const struct sort_order *order, struct sort_lookup *lookup) {
    bool fine = true;
    if (order->alpha && !order->by_weight) return true;
    for (uint64_t i = 0; i < items->count; i++) {
        struct sort_item *item = &items->items[i];
        struct span value = item->element;
        bool found = !order->by_weight || sort_lookup(lookup, &order->weight, item->element, &value);
        if (!order->alpha) {
            item->weight.score = 0;
            if (found && !parse_score(value, &item->weight.score)) fine = false;
        } else if (!found) {
            item->weight.text = span_of(NULL, 0);
        } else {
            item->weight.text = sort_lookup_keeps(lookup, value) ? value : sort_items_keep(items, value);
        }
    }
    return fine;
}

/* ---- ordering ---- */

static int compare_texts(struct span a, struct span b) {
    size_t length = a.length < b.length ? a.length : b.length;
    int order = length ? memcmp(a.data, b.data, length) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_weights(const struct sort_item *a, const struct sort_item *b, const struct sort_order *order) {
    if (!order->alpha) {
        double x = a->weight.score, y = b->weight.score;
        return x != y ? (x > y) - (x < y) : compare_texts(a->element, b->element);
    }
    if (!order->by_weight) return compare_texts(a->element, b->element);
    if (!a->weight.text.data || !b->weight.text.data)
        return (a->weight.text.data != NULL) - (b->weight.text.data != NULL);
    return compare_texts(a->weight.text, b->weight.text);
}

static int compare(const void *a, const void *b, void *order_) {
    const struct sort_item *x = a, *y = b;
    const struct sort_order *order = order_;
    int result = compare_weights(x, y, order);
    if (result == 0) return (x->place > y->place) - (x->place < y->place);
    return order->descending ? -result : result;
}

void sort_items_order(struct sort_items *items, const struct sort_order *order) {
    if (order->sorts && items->count)
        qsort_r(items->items, items->count, sizeof(*items->items), compare, (void *)(uintptr_t)order);
}
