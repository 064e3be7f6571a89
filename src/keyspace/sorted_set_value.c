/* Sorted sets, read: see sorted_set_value.h.
 *
 * Packed: members and scores alternate in a listpack, in order, exactly as Redis has them; a score is an integer entry
 * or the text of one. Everything walks.
 *
 * Big: the tree has every member under (score, member); a position, a range of scores or a range of members is found in
 * it. The way from a member to its score is the hash: it keeps 32 bits of the member's hash and the score, and what it
 * suggests is verified in the tree. So the member is stored once. An entry of the hash to which nothing in the tree
 * belongs is harmless, the other way round would lose a member: changes keep the hash the larger of the two.
 *
 * The tree orders by an image of the score in which -0 and 0 are the same number. Of a set that ever had a -0 the hash
 * is asked how a zero is to be spelled. */

#include "keyspace/sorted_set_private.h"

#include <stdlib.h>

double sorted_set_entry_score(const uint8_t *entry) {
    struct listpack_value value = listpack_get(entry);
    if (value.integer) return (double)value.number;
    double score;
    return number_parse_double(value.text, &score) ? score : 0;
}

bool sorted_set_open(struct sorted_set *set, const struct view *view, const struct key *key,
                     enum sorted_set_purpose purpose) {
    set->view = view;
    set->key = key;
    set->root = NULL;
    set->lookup = purpose == SORTED_SET_FOR_READ ? keyspace_read(view, key) : keyspace_find_for_write(view, key);
    const struct record *record = set->lookup.record;
    if (!record) return true;
    if (record_type(record) != RECORD_SORTED_SET) {
        set->lookup.record = NULL;
        return false;
    }
    if (record_is_paged(record)) {
        set->root = (struct sorted_set_root *)lookup_collection(&set->lookup);
        set->access = keyspace_pages(view, set->lookup.shard);
    }
    return true;
}

uint64_t sorted_set_count(const struct sorted_set *set) {
    if (set->root) return paged_tree_count(&set->root->members);
    return set->lookup.record ? listpack_count(sorted_set_listpack(set)) / 2 : 0;
}

/* ---- one member ---- */

static enum page_status paged_score(struct sorted_set *set, struct span member, double *score, uint64_t *position) {
    struct sorted_set_root *root = set->root;
    struct paged_hash_candidates candidates;
    uint64_t bits;
    bool missing = false;
    paged_hash_candidates(&candidates, &root->scores, &set->access, member_code(root, member));
    if (!candidates.page.bytes && set->access.missing) return PAGE_MISSING;
    while (paged_hash_next_candidate(&candidates, &bits)) {
        struct paged_key key = tree_key(score_of_bits(bits), member);
        enum page_status status = paged_tree_find(&root->members, &set->access, &key, NULL, position);
        if (status == PAGE_DONE) {
            *score = score_of_bits(bits);
            return PAGE_DONE;
        }
        missing |= status == PAGE_MISSING;
    }
    return missing ? PAGE_MISSING : PAGE_ABSENT;
}

enum page_status sorted_set_score(struct sorted_set *set, struct span member, double *score) {
    if (set->root) return paged_score(set, member, score, NULL);
    if (!set->lookup.record) return PAGE_ABSENT;
    const uint8_t *entry = listpack_find(listpack_first(sorted_set_listpack(set)), member, 1);
    if (!entry) return PAGE_ABSENT;
    *score = sorted_set_entry_score(listpack_next(entry));
    return PAGE_DONE;
}

enum page_status sorted_set_position(struct sorted_set *set, struct span member, uint64_t *position, double *score) {
    if (set->root) return paged_score(set, member, score, position);
    if (!set->lookup.record) return PAGE_ABSENT;
    const uint8_t *first = listpack_first(sorted_set_listpack(set)), *entry = listpack_find(first, member, 1);
    if (!entry) return PAGE_ABSENT;
    *position = 0;
    for (const uint8_t *at = first; at != entry; at = listpack_skip(at, 2)) ++*position;
    *score = sorted_set_entry_score(listpack_next(entry));
    return PAGE_DONE;
}

bool sorted_set_touch(struct sorted_set *set, struct span member) {
    double score;
    if (!set->root || !set->access.source) return true;
    return sorted_set_score(set, member, &score) != PAGE_MISSING;
}

/* ---- cursors ---- */

/* Which zero it is. */
static double zero_of(struct sorted_set *set, struct span member) {
    struct paged_hash_candidates candidates;
    uint64_t bits;
    paged_hash_candidates(&candidates, &set->root->scores, &set->access, member_code(set->root, member));
    while (paged_hash_next_candidate(&candidates, &bits))
        if (score_of_bits(bits) == 0) return score_of_bits(bits);
    return 0;
}

static void show_leaf(struct sorted_set_cursor *cursor) {
    cursor->valid = cursor->tree.valid;
    cursor->missing = cursor->tree.missing;
    cursor->position = cursor->tree.position;
    if (!cursor->valid || cursor->missing) return;
    cursor->member = cursor->tree.item.key.tail;
    cursor->score = score_of_image(cursor->tree.item.key.numbers[0]);
    if (cursor->score == 0 && cursor->set->root->has_minus_zero) cursor->score = zero_of(cursor->set, cursor->member);
}

static void show_entry(struct sorted_set_cursor *cursor) {
    cursor->member = listpack_get_text(cursor->entry, cursor->room);
    cursor->score = sorted_set_entry_score(listpack_next(cursor->entry));
}

void sorted_set_at(struct sorted_set_cursor *cursor, struct sorted_set *set, uint64_t position) {
    cursor->set = set;
    cursor->valid = cursor->missing = false;
    cursor->position = position;
    if (set->root) {
        paged_tree_at(&cursor->tree, &set->root->members, &set->access, position);
        show_leaf(cursor);
    } else if (position < sorted_set_count(set)) {
        cursor->listpack = sorted_set_listpack(set);
        cursor->entry = listpack_at(cursor->listpack, (int64_t)position * 2);
        cursor->valid = true;
        show_entry(cursor);
    }
}

void sorted_set_next(struct sorted_set_cursor *cursor) {
    if (cursor->set->root) {
        paged_tree_next(&cursor->tree);
        show_leaf(cursor);
        return;
    }
    cursor->position++;
    cursor->entry = listpack_next(listpack_next(cursor->entry));
    cursor->valid = !listpack_at_end(cursor->entry);
    if (cursor->valid) show_entry(cursor);
}

void sorted_set_previous(struct sorted_set_cursor *cursor) {
    if (cursor->set->root) {
        paged_tree_previous(&cursor->tree);
        show_leaf(cursor);
        return;
    }
    cursor->position--;
    const uint8_t *score = listpack_previous(cursor->listpack, cursor->entry);
    cursor->valid = score != NULL;
    if (!cursor->valid) return;
    cursor->entry = listpack_previous(cursor->listpack, score);
    show_entry(cursor);
}

/* ---- ranges of scores ---- */

static bool is_below(const struct score_range *range, double score) {
    return range->min_open ? score <= range->min : score < range->min;
}
static bool is_above(const struct score_range *range, double score) {
    return range->max_open ? score >= range->max : score > range->max;
}

static struct sorted_set_part packed_by_score(const struct sorted_set *set, const struct score_range *range) {
    struct sorted_set_part part = {0, 0};
    const uint8_t *at = listpack_first(sorted_set_listpack(set));
    for (; !listpack_at_end(at); at = listpack_next(at)) {
        at = listpack_next(at);
        double score = sorted_set_entry_score(at);
        if (is_below(range, score))
            part.first++;
        else if (is_above(range, score))
            break;
        else
            part.count++;
    }
    return part;
}

/* The number of members below this score, or of those that are not above it. The image of a score is never the highest
 * number there is. */
static uint64_t members_below(struct sorted_set *set, double score, bool and_equal) {
    struct paged_tree_cursor cursor;
    struct paged_key key = {.numbers = {score_image(score) + and_equal}};
    paged_tree_seek(&cursor, &set->root->members, &set->access, &key);
    return cursor.position;
}

static struct sorted_set_part between(uint64_t first, uint64_t end) {
    return (struct sorted_set_part){first, end > first ? end - first : 0};
}

struct sorted_set_part sorted_set_by_score(struct sorted_set *set, const struct score_range *range) {
    bool empty = range->min > range->max || (range->min == range->max && (range->min_open || range->max_open));
    if (!set->lookup.record || empty) return (struct sorted_set_part){0, 0};
    if (!set->root) return packed_by_score(set, range);
    uint64_t first = members_below(set, range->min, range->min_open);
    return between(first, members_below(set, range->max, !range->max_open));
}

/* ---- ranges of members ---- */

static bool reaches_min(const struct member_limit *min, struct span member) {
    if (min->kind == MEMBER_LOWEST || min->kind == MEMBER_HIGHEST) return min->kind == MEMBER_LOWEST;
    int order = paged_tail_compare(member, min->member);
    return min->kind == MEMBER_OPEN ? order > 0 : order >= 0;
}
static bool stays_within_max(const struct member_limit *max, struct span member) {
    if (max->kind == MEMBER_LOWEST || max->kind == MEMBER_HIGHEST) return max->kind == MEMBER_HIGHEST;
    int order = paged_tail_compare(member, max->member);
    return max->kind == MEMBER_OPEN ? order < 0 : order <= 0;
}

static struct sorted_set_part packed_by_member(const struct sorted_set *set, const struct member_range *range) {
    struct sorted_set_part part = {0, 0};
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    const uint8_t *at = listpack_first(sorted_set_listpack(set));
    for (; !listpack_at_end(at); at = listpack_skip(at, 2)) {
        struct span member = listpack_get_text(at, room);
        if (part.count == 0 && !reaches_min(&range->min, member))
            part.first++;
        else if (stays_within_max(&range->max, member))
            part.count++;
        else
            break;
    }
    return part;
}

/* The number of members before a limit; with `and_equal` the limit's own member counts. */
static uint64_t members_before(struct sorted_set *set, const struct member_limit *limit, bool and_equal) {
    struct paged_tree_cursor cursor;
    if (limit->kind == MEMBER_LOWEST) return 0;
    if (limit->kind == MEMBER_HIGHEST) return sorted_set_count(set);
    paged_tree_first(&cursor, &set->root->members, &set->access);
    if (!cursor.valid || cursor.missing) return 0;
    struct paged_key key = {.numbers = {cursor.item.key.numbers[0]}, .tail = limit->member};
    if (and_equal)
        paged_tree_seek_after(&cursor, &set->root->members, &set->access, &key);
    else
        paged_tree_seek(&cursor, &set->root->members, &set->access, &key);
    return cursor.position;
}

static bool range_is_empty(const struct member_range *range) {
    const struct member_limit *min = &range->min, *max = &range->max;
    if (min->kind == MEMBER_HIGHEST || max->kind == MEMBER_LOWEST) return true;
    if (min->kind == MEMBER_LOWEST || max->kind == MEMBER_HIGHEST) return false;
    int order = paged_tail_compare(min->member, max->member);
    return order > 0 || (order == 0 && (min->kind == MEMBER_OPEN || max->kind == MEMBER_OPEN));
}

struct sorted_set_part sorted_set_by_member(struct sorted_set *set, const struct member_range *range) {
    if (!set->lookup.record || range_is_empty(range)) return (struct sorted_set_part){0, 0};
    if (!set->root) return packed_by_member(set, range);
    uint64_t first = members_before(set, &range->min, range->min.kind == MEMBER_OPEN);
    return between(first, members_before(set, &range->max, range->max.kind == MEMBER_CLOSED));
}

/* ---- scanning ---- */

enum {
    SCAN_WALK_FACTOR = 32,
    SCAN_PAGE_ITEMS = 32, /* at least so many, for most pages */
};

/* What a step has gathered from the hash: the members are those in the tree with such a score and code. */
struct scan_step {
    struct scan_entry {
        uint64_t image;
        uint32_t code;
    } * entries;
    size_t count, capacity;
};

static bool gather_page(struct scan_step *step, struct paged_hash_walk *walk) {
    struct paged_hash_item item;
    while (paged_hash_walk_next(walk, &item)) {
        if (step->count == step->capacity) {
            size_t capacity = step->capacity ? 2 * step->capacity : 256;
            struct scan_entry *entries = realloc(step->entries, capacity * sizeof(*entries));
            if (!entries) return false;
            step->entries = entries;
            step->capacity = capacity;
        }
        step->entries[step->count++] = (struct scan_entry){score_image(score_of_bits(item.score)), item.code};
    }
    return true;
}

static int compare_entries(const void *a, const void *b) {
    const struct scan_entry *x = a, *y = b;
    if (x->image != y->image) return x->image < y->image ? -1 : 1;
    return (x->code > y->code) - (x->code < y->code);
}

static size_t group_end(const struct scan_step *step, size_t at) {
    size_t end = at + 1;
    while (end < step->count && step->entries[end].image == step->entries[at].image) end++;
    return end;
}

/* How many members have one of the scores that were gathered. */
static uint64_t walk_length(struct sorted_set *set, struct scan_step *step) {
    uint64_t length = 0;
    qsort(step->entries, step->count, sizeof(*step->entries), compare_entries);
    for (size_t i = 0; i < step->count; i = group_end(step, i)) {
        double score = score_of_image(step->entries[i].image);
        length += members_below(set, score, true) - members_below(set, score, false);
    }
    return length;
}

static bool group_has(const struct scan_entry *group, size_t count, uint32_t code) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (group[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && group[low].code == code;
}

static void visit_gathered(struct sorted_set *set, const struct scan_step *step, sorted_set_visit *visit, void *ctx) {
    struct sorted_set_cursor at;
    at.set = set;
    for (size_t i = 0, end; i < step->count; i = end) {
        uint64_t image = step->entries[i].image;
        struct paged_key key = {.numbers = {image}};
        end = group_end(step, i);
        paged_tree_seek(&at.tree, &set->root->members, &set->access, &key);
        for (show_leaf(&at); at.valid; sorted_set_next(&at)) {
            if (at.missing) continue;
            if (at.tree.item.key.numbers[0] != image) break;
            if (group_has(step->entries + i, end - i, member_code(set->root, at.member)))
                visit(ctx, at.member, at.score);
        }
    }
}

/* Pages are gathered until there are enough members, and enough of those that will have to be walked through. Each new
 * reckoning comes when the step has doubled, so it costs little. Without memory the step ends with what it has. Where
 * pages are not at hand, about as many are asked for as the members wanted may take, and the command comes again. */
static uint64_t scan_pages(struct sorted_set *set, uint64_t cursor, uint64_t want, sorted_set_visit *visit, void *ctx) {
    struct scan_step step = {NULL, 0, 0};
    uint64_t next = cursor, enough = want, pages = 0;
    do {
        struct paged_hash_walk walk;
        uint64_t here = next;
        next = paged_hash_walk_scan(&walk, &set->root->scores, &set->access, here);
        size_t before = step.count;
        if (!gather_page(&step, &walk)) {
            step.count = before;
            next = here;
            break;
        }
        pages++;
        if (set->access.missing && pages >= want / SCAN_PAGE_ITEMS) break;
        if (step.count < enough || set->access.missing) continue;
        uint64_t least = walk_length(set, &step) / SCAN_WALK_FACTOR;
        if (step.count >= least) break;
        enough = least < 2 * step.count ? 2 * step.count : least;
    } while (next);
    if (step.count) (void)walk_length(set, &step);
    visit_gathered(set, &step, visit, ctx);
    free(step.entries);
    return next;
}

uint64_t sorted_set_scan(struct sorted_set *set, uint64_t cursor, uint64_t want, sorted_set_visit *visit, void *ctx) {
    struct sorted_set_cursor at;
    if (set->root) return scan_pages(set, cursor, want, visit, ctx);
    for (sorted_set_at(&at, set, 0); at.valid; sorted_set_next(&at)) visit(ctx, at.member, at.score);
    return 0;
}
