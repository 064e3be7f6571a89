/* Inner nodes of a paged_tree; the picture is in tree_node.h.
 *
 * Whatever moves entries moves a stretch of each array, so all of that goes through `struct part`: where an array
 * begins and how big its elements are. */

#include "record/tree_node.h"

#include <assert.h>
#include <stdlib.h>

enum { CAPACITY_FIRST = 2, CAPACITY_STEP = 16 };

struct part {
    char *base;
    size_t bytes; /* of an element */
};
enum { PARTS_MAX = 5 };

static unsigned parts_of(const struct tree_node *node, struct part parts[PARTS_MAX]) {
    unsigned n = 0;
    for (unsigned i = 0; i < node->numbers; i++) parts[n++] = (struct part){(char *)tree_node_numbers(node, i), 8};
    if (node->tail) parts[n++] = (struct part){(char *)tree_node_tails(node), 8};
    size_t bytes = node->level ? 8 : 4;
    char *payload = (char *)tree_node_payload(node);
    parts[n++] = (struct part){payload, bytes};
    parts[n++] = (struct part){payload + bytes * node->capacity, bytes};
    return n;
}

/* ---- life ---- */

static size_t bytes_for(unsigned numbers, bool tail, unsigned level, unsigned capacity) {
    return sizeof(struct tree_node) + (8u * (numbers + tail) + (level ? 16 : 8)) * (size_t)capacity;
}

size_t tree_node_bytes(const struct tree_node *node) {
    return bytes_for(node->numbers, node->tail, node->level, node->capacity);
}

static struct tree_node *make(unsigned numbers, bool tail, unsigned level, unsigned capacity, size_t *bytes) {
    size_t size = bytes_for(numbers, tail, level, capacity);
    struct tree_node *node = malloc(size);
    if (!node) return NULL;
    *node = (struct tree_node){0, (uint16_t)capacity, (uint8_t)level, (uint8_t)numbers, tail};
    *bytes += size;
    return node;
}

struct tree_node *tree_node_make(const struct paged_tree_shape *shape, unsigned level, unsigned capacity,
                                 size_t *bytes) {
    return make(shape->numbers, shape->tail, level, capacity < CAPACITY_FIRST ? CAPACITY_FIRST : capacity, bytes);
}

static void free_shell(struct tree_node *node, size_t *bytes) {
    *bytes -= tree_node_bytes(node);
    free(node);
}

void tree_node_free(struct tree_node *node, size_t *bytes) {
    for (uint32_t i = 0; node->tail && i < node->used; i++) tree_tail_free(tree_node_tails(node)[i], bytes);
    free_shell(node, bytes);
}

struct tree_node *tree_node_reserve(struct tree_node *node, unsigned entries, size_t *bytes) {
    assert(entries <= TREE_NODE_MAX);
    if (entries <= node->capacity) return node;
    unsigned capacity = CAPACITY_FIRST;
    while (capacity < entries) capacity += capacity < CAPACITY_STEP ? capacity : CAPACITY_STEP;
    struct tree_node *grown = make(node->numbers, node->tail, node->level, capacity, bytes);
    if (!grown) return NULL;
    tree_node_move(node, 0, grown);
    free_shell(node, bytes);
    return grown;
}

struct tree_tail *tree_tail_allocate(size_t length, size_t *bytes) {
    struct tree_tail *made = malloc(sizeof(*made) + length);
    if (!made) return NULL;
    made->length = (uint32_t)length;
    *bytes += sizeof(*made) + length;
    return made;
}

struct tree_tail *tree_tail_make(struct span tail, size_t *bytes) {
    struct tree_tail *made = tree_tail_allocate(tail.length, bytes);
    if (made) memcpy(made->bytes, tail.data, tail.length);
    return made;
}

void tree_tail_free(struct tree_tail *tail, size_t *bytes) {
    if (!tail) return;
    *bytes -= sizeof(*tail) + tail->length;
    free(tail);
}

bool tree_separator_make(struct tree_separator *separator, const struct paged_key *lower, const struct paged_key *upper,
                         size_t *bytes) {
    *separator = (struct tree_separator){{upper->numbers[0], upper->numbers[1]}, NULL};
    if (lower->numbers[0] != upper->numbers[0] || lower->numbers[1] != upper->numbers[1]) return true;
    /* One byte more than they share: it makes the difference, or is the first that the lower one does not have. */
    size_t shared = 0, limit = lower->tail.length < upper->tail.length ? lower->tail.length : upper->tail.length;
    while (shared < limit && lower->tail.data[shared] == upper->tail.data[shared]) shared++;
    if (shared == upper->tail.length) return true; /* both keys are empty: a tree without keys */
    separator->tail = tree_tail_make(span_of(upper->tail.data, shared + 1), bytes);
    return separator->tail != NULL;
}

/* ---- reading ---- */

/* How the separator compares to the key, the first numbers being equal. */
static int compare_rest(const struct tree_node *node, uint32_t i, const struct paged_key *key) {
    if (node->numbers > 1) {
        uint64_t second = tree_node_numbers(node, 1)[i];
        if (second != key->numbers[1]) return second < key->numbers[1] ? -1 : 1;
    }
    if (!node->tail) return 0;
    const struct tree_tail *tail = tree_node_tails(node)[i];
    return paged_tail_compare(tail ? span_of(tail->bytes, tail->length) : span_of("", 0), key->tail);
}

/* The last of `n` ascending numbers that is not above `x`; the one before the first when there is none. */
static uint32_t last_not_above(const uint64_t *numbers, uint32_t n, uint64_t x) {
    const uint64_t *at = numbers;
    while (n > 1) {
        uint32_t half = n / 2;
        at += at[half - 1] <= x ? half : 0;
        n -= half;
    }
    return (uint32_t)(at - numbers) + (n == 1 && *at <= x) - 1;
}

uint32_t tree_node_search(const struct tree_node *node, const struct paged_key *key) {
    uint32_t low = 0, high = node->used - 1u; /* the entry is one of low .. high */
    if (node->numbers) {
        const uint64_t *numbers = tree_node_numbers(node, 0);
        high = last_not_above(numbers + 1, high, key->numbers[0]) + 1;
        if (high == 0 || numbers[high] < key->numbers[0] || (node->numbers == 1 && !node->tail)) return high;
    }
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        bool below = node->numbers && tree_node_numbers(node, 0)[middle] < key->numbers[0];
        if (below || compare_rest(node, middle, key) <= 0)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Whether a stretch of entries ends before the item that is looked for. */
static inline bool passes(uint64_t position, uint64_t count, bool room) {
    return room ? position > count : position >= count;
}

/* Two counts are added at once, as the halves of a word: they are far too small to run over. */
static inline uint32_t sum_of_counts(const uint32_t *counts, uint32_t n) {
    uint64_t sum = 0, word;
    for (uint32_t i = 0; i < n; i += 2) {
        memcpy(&word, counts + i, sizeof(word));
        sum += word;
    }
    return (uint32_t)sum + (uint32_t)(sum >> 32);
}

uint32_t tree_node_find(const struct tree_node *node, uint64_t *position, bool room) {
    enum { STRETCH = 16, SHORT_STRETCH = 4 };
    uint32_t i = 0, last = node->used - 1u;
    if (node->level == 0) {
        /* Sixteen at a time, four at a time; then one by one. */
        const uint32_t *counts = tree_node_leaf_counts(node);
        uint64_t left = *position;
        for (uint32_t sum; i + STRETCH <= last; i += STRETCH, left -= sum) {
            sum = sum_of_counts(counts + i, STRETCH);
            if (!passes(left, sum, room)) break;
        }
        for (uint32_t sum; i + SHORT_STRETCH <= last; i += SHORT_STRETCH, left -= sum) {
            sum = sum_of_counts(counts + i, SHORT_STRETCH);
            if (!passes(left, sum, room)) break;
        }
        for (; i < last && passes(left, counts[i], room); i++) left -= counts[i];
        *position = left;
        return i;
    }
    const uint64_t *counts = tree_node_counts(node);
    for (; i < last && passes(*position, counts[i], room); i++) *position -= counts[i];
    return i;
}

uint64_t tree_node_before(const struct tree_node *node, uint32_t i) {
    uint64_t sum = 0;
    if (node->level) {
        const uint64_t *counts = tree_node_counts(node);
        for (uint32_t k = 0; k < i; k++) sum += counts[k];
    } else {
        const uint32_t *counts = tree_node_leaf_counts(node);
        uint32_t small = 0; /* at most 128 times 1024 */
        for (uint32_t k = 0; k < i; k++) small += counts[k];
        sum = small;
    }
    return sum;
}

struct tree_entry tree_node_get(const struct tree_node *node, uint32_t i) {
    struct tree_entry entry = {0};
    for (unsigned k = 0; k < node->numbers; k++) entry.separator.numbers[k] = tree_node_numbers(node, k)[i];
    if (node->tail) entry.separator.tail = tree_node_tails(node)[i];
    if (node->level)
        entry.node = tree_node_children(node)[i];
    else
        entry.page = tree_node_pages(node)[i];
    entry.count = tree_node_count(node, i);
    return entry;
}

/* ---- changing ---- */

void tree_node_insert(struct tree_node *node, uint32_t i, const struct tree_entry *entry) {
    assert(i <= node->used && node->used < node->capacity);
    struct part parts[PARTS_MAX];
    unsigned n = parts_of(node, parts);
    for (unsigned k = 0; k < n; k++)
        memmove(parts[k].base + (i + 1) * parts[k].bytes, parts[k].base + i * parts[k].bytes,
                (node->used - i) * parts[k].bytes);
    node->used++;
    for (unsigned k = 0; k < node->numbers; k++) tree_node_numbers(node, k)[i] = entry->separator.numbers[k];
    if (node->tail) tree_node_tails(node)[i] = entry->separator.tail;
    if (node->level) {
        tree_node_children(node)[i] = entry->node;
        tree_node_counts(node)[i] = entry->count;
    } else {
        tree_node_pages(node)[i] = entry->page;
        tree_node_leaf_counts(node)[i] = (uint32_t)entry->count;
    }
}

void tree_node_set_separator(struct tree_node *node, uint32_t i, const struct tree_separator *separator,
                             size_t *bytes) {
    for (unsigned k = 0; k < node->numbers; k++) tree_node_numbers(node, k)[i] = separator->numbers[k];
    if (!node->tail) return;
    tree_tail_free(tree_node_tails(node)[i], bytes);
    tree_node_tails(node)[i] = separator->tail;
}

void tree_node_remove(struct tree_node *node, uint32_t i, size_t *bytes) {
    assert(i < node->used);
    if (node->tail) tree_tail_free(tree_node_tails(node)[i], bytes);
    struct part parts[PARTS_MAX];
    unsigned n = parts_of(node, parts);
    for (unsigned k = 0; k < n; k++)
        memmove(parts[k].base + i * parts[k].bytes, parts[k].base + (i + 1) * parts[k].bytes,
                (node->used - i - 1u) * parts[k].bytes);
    node->used--;
    if (i == 0 && node->used) tree_node_set_separator(node, 0, &(struct tree_separator){0}, bytes);
}

void tree_node_take(struct tree_node *node, uint32_t from, uint32_t end, struct tree_node *target, size_t *bytes) {
    uint32_t moved = end - from, behind = node->used - end;
    assert(from < end && target->used + moved <= target->capacity && target->level == node->level);
    struct part source[PARTS_MAX], parts[PARTS_MAX];
    unsigned n = parts_of(node, source);
    parts_of(target, parts);
    for (unsigned k = 0; k < n; k++) {
        char *gap = source[k].base + from * source[k].bytes;
        const char *rest = gap + moved * source[k].bytes;
        memcpy(parts[k].base + target->used * parts[k].bytes, gap, moved * source[k].bytes);
        memmove(gap, rest, behind * source[k].bytes);
    }
    target->used = (uint16_t)(target->used + moved);
    node->used = (uint16_t)(node->used - moved);
    if (from == 0 && node->used) tree_node_set_separator(node, 0, &(struct tree_separator){0}, bytes);
}

void tree_node_move(struct tree_node *node, uint32_t from, struct tree_node *target) {
    uint32_t moved = node->used - from;
    assert(target->used + moved <= target->capacity && target->level == node->level);
    struct part source[PARTS_MAX], parts[PARTS_MAX];
    unsigned n = parts_of(node, source);
    parts_of(target, parts);
    for (unsigned k = 0; k < n; k++)
        memcpy(parts[k].base + target->used * parts[k].bytes, source[k].base + from * source[k].bytes,
               moved * parts[k].bytes);
    target->used = (uint16_t)(target->used + moved);
    node->used = (uint16_t)from;
}
