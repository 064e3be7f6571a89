/* Groups, consumers and what is pending; the picture is in stream_group.h.
 *
 * An item of the group's tree:
 *
 *   0                         6              ..           ..
 *   +-------------------------+--------------+------------+
 *   | time of delivery, in ms | deliveries   | consumer   |       the two are LEB128
 *   +-------------------------+--------------+------------+
 *
 * Two trees change together. What is added goes into the consumer's tree first and the group's then; what is removed
 * leaves the group's first. So whatever fails in between leaves the group's tree, which is the truth, as it was or as
 * it is to be.
 *
 * A group that is destroyed may have millions of pages pending. They are dropped in slices, by the commands that change
 * the stream later; until then the group is on the list `given_up`. */

#include "keyspace/stream_group.h"

#include "keyspace/stream_schema.h"

#include <stdlib.h>

enum {
    PENDING_TIME_BYTES = 6,
    PENDING_BYTES_MAX = PENDING_TIME_BYTES + 10 + 5,
    REMOVE_BATCH = 64,
};

static const struct paged_tree_shape group_shape = {.numbers = 2, .value = true};
static const struct paged_tree_shape consumer_shape = {.numbers = 2};

static int compare_names(struct span a, struct span b) {
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

/* ---- groups ---- */

/* Where the name is, or would be. */
static uint32_t group_place(const struct stream_groups *groups, struct span name, bool *found) {
    uint32_t low = 0, high = groups->count;
    *found = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_names(stream_group_name(groups->sorted[middle]), name);
        if (order == 0) *found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct stream_group *stream_group_find(const struct stream_groups *groups, struct span name) {
    bool found;
    uint32_t place = group_place(groups, name, &found);
    return found ? groups->sorted[place] : NULL;
}

static struct stream_group *allocate_group(size_t name_length, struct page_table *table) {
    struct stream_group *group = calloc(1, sizeof(*group) + name_length);
    if (!group) return NULL;
    group->entries_read = STREAM_ENTRIES_READ_UNKNOWN;
    group->name_length = (uint32_t)name_length;
    paged_tree_init(&group->pending, table, group_shape);
    return group;
}

static struct stream_group *make_group(struct span name, struct page_table *table) {
    struct stream_group *group = allocate_group(name.length, table);
    if (group && name.length) memcpy(group->name, name.data, name.length);
    return group;
}

static bool reserve_groups(struct stream_groups *groups) {
    if (groups->count < groups->capacity) return true;
    uint32_t capacity = groups->capacity ? 2 * groups->capacity : 1;
    struct stream_group **sorted = realloc(groups->sorted, capacity * sizeof(struct stream_group *));
    if (!sorted) return false;
    groups->sorted = sorted;
    groups->capacity = capacity;
    return true;
}

struct stream_group *stream_group_add(struct stream_groups *groups, struct span name, struct page_table *table) {
    bool found;
    uint32_t place = group_place(groups, name, &found);
    if (!reserve_groups(groups)) return NULL;
    struct stream_group *group = make_group(name, table);
    if (!group) return NULL;
    memmove(groups->sorted + place + 1, groups->sorted + place,
            (groups->count - place) * sizeof(struct stream_group *));
    groups->sorted[place] = group;
    groups->count++;
    return group;
}

void stream_group_give_up(struct stream_groups *groups, struct stream_group *group) {
    bool found;
    uint32_t place = group_place(groups, stream_group_name(group), &found);
    groups->count--;
    memmove(groups->sorted + place, groups->sorted + place + 1,
            (groups->count - place) * sizeof(struct stream_group *));
    group->next = groups->given_up;
    groups->given_up = group;
}

/* A part of a tree: with its pages when there is an access, else the nodes alone. Budget is spent by page, and one by
 * each tree. */
static bool clear_tree(struct paged_tree *tree, struct page_access *access, unsigned *budget) {
    if (*budget == 0) return true;
    uint32_t pages = page_table_live(tree->table);
    bool more = access ? paged_tree_clear(tree, access, *budget) : paged_tree_release(tree, *budget);
    unsigned spent = pages - page_table_live(tree->table) + 1;
    *budget -= spent < *budget ? spent : *budget;
    return more;
}

/* Consumers go from the last to the first. */
static bool clear_group(struct stream_group *group, struct page_access *access, unsigned *budget) {
    while (group->count) {
        struct stream_consumer *consumer = group->sorted[group->count - 1];
        if (clear_tree(&consumer->pending, access, budget)) return true;
        free(consumer);
        group->count--;
    }
    if (clear_tree(&group->pending, access, budget)) return true;
    free(group->sorted);
    free(group->slots);
    free(group);
    return false;
}

static bool clear_given_up(struct stream_groups *groups, struct page_access *access, unsigned *budget) {
    while (groups->given_up) {
        struct stream_group *next = groups->given_up->next;
        if (clear_group(groups->given_up, access, budget)) return true;
        groups->given_up = next;
    }
    return false;
}

bool stream_groups_clear(struct stream_groups *groups, struct page_access *access, unsigned budget) {
    return groups->given_up && clear_given_up(groups, access, &budget);
}

bool stream_groups_release(struct stream_groups *groups, unsigned budget) {
    for (;;) {
        if (clear_given_up(groups, NULL, &budget)) return true;
        if (groups->count == 0) break;
        stream_group_give_up(groups, groups->sorted[groups->count - 1]);
    }
    free(groups->sorted);
    *groups = (struct stream_groups){0};
    return false;
}

/* ---- consumers ---- */

static uint32_t consumer_place(const struct stream_group *group, struct span name, bool *found) {
    uint32_t low = 0, high = group->count;
    *found = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_names(stream_consumer_name(group->sorted[middle]), name);
        if (order == 0) *found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct stream_consumer *stream_consumer_find(const struct stream_group *group, struct span name) {
    bool found;
    uint32_t place = consumer_place(group, name, &found);
    return found ? group->sorted[place] : NULL;
}

static bool reserve_consumers(struct stream_group *group) {
    if (group->count < group->capacity) return true;
    uint32_t capacity = group->capacity ? 2 * group->capacity : 1;
    struct stream_consumer **sorted = realloc(group->sorted, capacity * sizeof(struct stream_consumer *));
    if (!sorted) return false;
    group->sorted = sorted;
    struct stream_consumer **slots = realloc(group->slots, capacity * sizeof(struct stream_consumer *));
    if (!slots) return false;
    for (uint32_t i = group->capacity; i < capacity; i++) slots[i] = NULL;
    group->slots = slots;
    group->capacity = capacity;
    return true;
}

static struct stream_consumer *allocate_consumer(size_t name_length, struct page_table *table) {
    struct stream_consumer *consumer = calloc(1, sizeof(*consumer) + name_length);
    if (!consumer) return NULL;
    consumer->name_length = (uint32_t)name_length;
    paged_tree_init(&consumer->pending, table, consumer_shape);
    return consumer;
}

static struct stream_consumer *make_consumer(struct span name, struct page_table *table) {
    struct stream_consumer *consumer = allocate_consumer(name.length, table);
    if (consumer && name.length) memcpy(consumer->name, name.data, name.length);
    return consumer;
}

struct stream_consumer *stream_consumer_add(struct stream_group *group, struct span name, int64_t now_ms) {
    bool found;
    uint32_t place = consumer_place(group, name, &found);
    if (!reserve_consumers(group)) return NULL;
    struct stream_consumer *consumer = make_consumer(name, group->pending.table);
    if (!consumer) return NULL;
    consumer->seen_ms = now_ms;
    consumer->active_ms = -1;
    /* Without removals the next number is the count. */
    uint32_t number = group->count;
    while (group->slots[number]) number = number + 1 < group->capacity ? number + 1 : 0;
    consumer->number = number;
    group->slots[number] = consumer;
    memmove(group->sorted + place + 1, group->sorted + place,
            (group->count - place) * sizeof(struct stream_consumer *));
    group->sorted[place] = consumer;
    group->count++;
    return consumer;
}

/* Whether every leaf is at hand that removing the consumer changes. */
static bool touch_all(const struct stream_group *group, struct page_access *access,
                      const struct stream_consumer *consumer) {
    struct paged_tree_cursor at;
    if (!access->source) return true;
    for (paged_tree_first(&at, &consumer->pending, access); at.valid; paged_tree_next(&at))
        if (!at.missing) (void)paged_tree_touch_key(&group->pending, access, &at.item.key);
    return !access->missing;
}

/* IDs of the consumer from a position on, copied out of the pages since what follows changes others of the table. */
static uint32_t copy_ids(const struct stream_consumer *consumer, struct page_access *access, uint64_t position,
                         struct stream_id ids[REMOVE_BATCH]) {
    uint32_t count = 0;
    struct paged_tree_cursor at;
    for (paged_tree_at(&at, &consumer->pending, access, position); at.valid && count < REMOVE_BATCH;
         paged_tree_next(&at))
        ids[count++] = at.missing ? STREAM_ID_MAX : stream_id_of(&at.item.key);
    return count;
}

enum page_status stream_consumer_remove(struct stream_group *group, struct page_access *access,
                                        struct stream_consumer *consumer) {
    struct stream_id ids[REMOVE_BATCH];
    if (!touch_all(group, access, consumer) || !page_begin_change(access)) return PAGE_MISSING;
    uint32_t count;
    for (uint64_t position = 0; (count = copy_ids(consumer, access, position, ids)) > 0; position += count)
        for (uint32_t i = 0; i < count; i++) {
            struct paged_key key = stream_id_key(ids[i]);
            struct stream_pending pending;
            if (stream_pending_find(group, access, ids[i], &pending) == PAGE_DONE && pending.consumer == consumer)
                (void)!paged_tree_delete(&group->pending, access, &key);
        }
    /* A page that cannot be dropped now never can: it is the collection's until that is freed. */
    uint64_t steps = consumer->pending.count + 2;
    while (steps-- && paged_tree_clear(&consumer->pending, access, REMOVE_BATCH)) continue;
    bool found;
    uint32_t place = consumer_place(group, stream_consumer_name(consumer), &found);
    group->count--;
    memmove(group->sorted + place, group->sorted + place + 1,
            (group->count - place) * sizeof(struct stream_consumer *));
    group->slots[consumer->number] = NULL;
    free(consumer);
    return PAGE_DONE;
}

/* ---- pending ---- */

struct stream_pending stream_pending_of(const struct stream_group *group, struct span value) {
    uint64_t time = 0;
    memcpy(&time, value.data, PENDING_TIME_BYTES); /* little-endian, as all machines we run on */
    const char *at = value.data + PENDING_TIME_BYTES;
    struct stream_pending pending = {.delivered_ms = (int64_t)time};
    pending.deliveries = stream_unpack_number(&at);
    uint64_t number = stream_unpack_number(&at);
    pending.consumer = number < group->capacity ? group->slots[number] : NULL;
    return pending;
}

static struct span pack_pending(const struct stream_pending *pending, char bytes[PENDING_BYTES_MAX]) {
    memcpy(bytes, &pending->delivered_ms, PENDING_TIME_BYTES);
    char *end = stream_pack_number(bytes + PENDING_TIME_BYTES, pending->deliveries);
    end = stream_pack_number(end, pending->consumer->number);
    return span_of(bytes, (size_t)(end - bytes));
}

enum page_status stream_pending_find(const struct stream_group *group, struct page_access *access, struct stream_id id,
                                     struct stream_pending *pending) {
    struct paged_key key = stream_id_key(id);
    struct span value;
    enum page_status status = paged_tree_find(&group->pending, access, &key, &value, NULL);
    if (status == PAGE_DONE) *pending = stream_pending_of(group, value);
    return status;
}

enum page_status stream_pending_set(struct stream_group *group, struct page_access *access, struct stream_id id,
                                    const struct stream_pending *pending, const struct stream_pending *before) {
    char bytes[PENDING_BYTES_MAX];
    struct paged_key key = stream_id_key(id);
    struct span value = pack_pending(pending, bytes);
    if (before && before->consumer == pending->consumer)
        return paged_tree_replace(&group->pending, access, &key, value);
    enum page_status indexed = paged_tree_insert(&pending->consumer->pending, access, &key, span_of(NULL, 0));
    if (indexed != PAGE_DONE && indexed != PAGE_EXISTS) return indexed;
    enum page_status status = PAGE_EXISTS;
    if (!before) status = paged_tree_insert(&group->pending, access, &key, value);
    if (status == PAGE_EXISTS) {
        struct stream_pending found = {.consumer = NULL};
        status = stream_pending_find(group, access, id, &found);
        if (status == PAGE_DONE) status = paged_tree_replace(&group->pending, access, &key, value);
        if (status == PAGE_DONE && found.consumer && found.consumer != pending->consumer)
            (void)!paged_tree_delete(&found.consumer->pending, access, &key);
    }
    if (status != PAGE_DONE && indexed == PAGE_DONE)
        (void)!paged_tree_delete(&pending->consumer->pending, access, &key);
    return status;
}

enum page_status stream_pending_remove(struct stream_group *group, struct page_access *access, struct stream_id id) {
    struct paged_key key = stream_id_key(id);
    struct stream_pending pending;
    enum page_status status = stream_pending_find(group, access, id, &pending);
    if (status == PAGE_DONE) status = paged_tree_delete(&group->pending, access, &key);
    if (status == PAGE_DONE && pending.consumer) (void)!paged_tree_delete(&pending.consumer->pending, access, &key);
    return status;
}

void stream_pending_touch(const struct stream_group *group, struct page_access *access, struct stream_id id,
                          const struct stream_consumer *next_owner) {
    struct paged_key key = stream_id_key(id);
    struct stream_pending pending = {.consumer = NULL};
    if (!access->source) return;
    if (stream_pending_find(group, access, id, &pending) == PAGE_DONE && pending.consumer &&
        pending.consumer != next_owner)
        (void)paged_tree_touch_key(&pending.consumer->pending, access, &key);
    if (next_owner) (void)paged_tree_touch_key(&next_owner->pending, access, &key);
}

/* ---- whole groups ---- */

static bool copy_consumer(const struct stream_consumer *from, struct stream_group *group, struct page_table *table) {
    struct stream_consumer *consumer = make_consumer(stream_consumer_name(from), table);
    if (!consumer) return false;
    consumer->seen_ms = from->seen_ms;
    consumer->active_ms = from->active_ms;
    consumer->number = from->number;
    group->sorted[group->count++] = group->slots[from->number] = consumer;
    return paged_tree_copy(&from->pending, &consumer->pending, table);
}

/* Into a group that has nothing yet and is released when this fails. */
static bool fill_copy(const struct stream_group *from, struct stream_group *group, struct page_table *table) {
    group->last = from->last;
    group->entries_read = from->entries_read;
    if (!paged_tree_copy(&from->pending, &group->pending, table)) return false;
    if (!from->capacity) return true;
    group->sorted = calloc(from->capacity, sizeof(struct stream_consumer *));
    group->slots = calloc(from->capacity, sizeof(struct stream_consumer *));
    if (!group->sorted || !group->slots) return false;
    group->capacity = from->capacity;
    for (uint32_t i = 0; i < from->count; i++)
        if (!copy_consumer(from->sorted[i], group, table)) return false;
    return true;
}

bool stream_groups_copy(const struct stream_groups *groups, struct stream_groups *copy, struct page_table *table) {
    *copy = (struct stream_groups){0};
    for (uint32_t i = 0; i < groups->count; i++) {
        struct stream_group *group = stream_group_add(copy, stream_group_name(groups->sorted[i]), table);
        if (!group || !fill_copy(groups->sorted[i], group, table)) return false;
    }
    /* Their pages are copied too, so somebody has to drop them. */
    for (const struct stream_group *old = groups->given_up; old; old = old->next) {
        struct stream_group *group = make_group(stream_group_name(old), table);
        if (!group) return false;
        group->next = copy->given_up;
        copy->given_up = group;
        if (!fill_copy(old, group, table)) return false;
    }
    return true;
}

/* ---- through a checkpoint ---- */

enum { NAME_MAX_BYTES = 512 << 20, CAPACITY_MAX = 1 << 27 };

static void save_group(const struct stream_group *group, struct state_writer *out) {
    state_write_text(out, stream_group_name(group));
    stream_id_save(group->last, out);
    state_write_i64(out, group->entries_read);
    paged_tree_save(&group->pending, out);
    state_write_u32(out, group->capacity);
    state_write_u32(out, group->count);
    for (uint32_t i = 0; i < group->count; i++) {
        const struct stream_consumer *consumer = group->sorted[i];
        state_write_text(out, stream_consumer_name(consumer));
        state_write_u32(out, consumer->number);
        state_write_i64(out, consumer->seen_ms);
        state_write_i64(out, consumer->active_ms);
        paged_tree_save(&consumer->pending, out);
    }
}

void stream_groups_save(const struct stream_groups *groups, struct state_writer *out) {
    uint32_t given_up = 0;
    for (const struct stream_group *group = groups->given_up; group; group = group->next) given_up++;
    state_write_u32(out, given_up);
    for (const struct stream_group *group = groups->given_up; group; group = group->next) save_group(group, out);
    state_write_u32(out, groups->count);
    for (uint32_t i = 0; i < groups->count; i++) save_group(groups->sorted[i], out);
}

/* Behind the others of the group, which has room. */
static bool load_consumer(struct stream_group *group, struct state_reader *in) {
    uint32_t name_length = state_read_u32(in);
    if (name_length > NAME_MAX_BYTES || in->failed) return false;
    struct stream_consumer *consumer = allocate_consumer(name_length, group->pending.table);
    if (!consumer) return false;
    group->sorted[group->count++] = consumer;
    if (!state_read_text(in, consumer->name, name_length)) return false;
    consumer->number = state_read_u32(in);
    consumer->seen_ms = state_read_i64(in);
    consumer->active_ms = state_read_i64(in);
    if (consumer->number >= group->capacity || group->slots[consumer->number]) return false;
    group->slots[consumer->number] = consumer;
    return paged_tree_load(&consumer->pending, in);
}

static bool load_consumers(struct stream_group *group, struct state_reader *in) {
    uint32_t capacity = state_read_u32(in), count = state_read_u32(in);
    if (capacity > CAPACITY_MAX || count > capacity || in->failed) return false;
    if (capacity == 0) return true;
    group->sorted = calloc(capacity, sizeof(struct stream_consumer *));
    group->slots = calloc(capacity, sizeof(struct stream_consumer *));
    if (!group->sorted || !group->slots) return false;
    group->capacity = capacity;
    for (uint32_t i = 0; i < count; i++) {
        if (!load_consumer(group, in)) return false;
        if (i && compare_names(stream_consumer_name(group->sorted[i - 1]), stream_consumer_name(group->sorted[i])) >= 0)
            return false;
    }
    return true;
}

/* It is on the list of those given up in any case, so that somebody frees it. NULL: damaged, or no memory. */
static struct stream_group *load_group(struct stream_groups *groups, struct state_reader *in,
                                       struct page_table *table) {
    uint32_t name_length = state_read_u32(in);
    struct stream_group *group = name_length > NAME_MAX_BYTES || in->failed ? NULL : allocate_group(name_length, table);
    if (!group) return NULL;
    group->next = groups->given_up;
    groups->given_up = group;
    if (!state_read_text(in, group->name, name_length)) return NULL;
    group->last = stream_id_load(in);
    group->entries_read = state_read_i64(in);
    return paged_tree_load(&group->pending, in) && load_consumers(group, in) ? group : NULL;
}

bool stream_groups_load(struct stream_groups *groups, struct state_reader *in, struct page_table *table) {
    uint32_t given_up = state_read_u32(in);
    for (uint32_t i = 0; i < given_up; i++)
        if (!load_group(groups, in, table)) return false;
    uint32_t count = state_read_u32(in);
    for (uint32_t i = 0; i < count; i++) {
        struct stream_group *group = load_group(groups, in, table);
        if (!group || !reserve_groups(groups)) return false;
        if (i && compare_names(stream_group_name(groups->sorted[i - 1]), stream_group_name(group)) >= 0) return false;
        groups->given_up = group->next;
        groups->sorted[groups->count++] = group;
    }
    return !in->failed;
}

static bool claim_group(const struct stream_group *group) {
    for (uint32_t i = 0; i < group->count; i++)
        if (!paged_tree_claim(&group->sorted[i]->pending)) return false;
    return paged_tree_claim(&group->pending);
}

bool stream_groups_claim(const struct stream_groups *groups) {
    for (uint32_t i = 0; i < groups->count; i++)
        if (!claim_group(groups->sorted[i])) return false;
    for (const struct stream_group *group = groups->given_up; group; group = group->next)
        if (!claim_group(group)) return false;
    return true;
}

/* ---- figures and checks ---- */

static size_t group_bytes(const struct stream_group *group) {
    size_t bytes = sizeof(*group) + group->name_length + paged_tree_bytes(&group->pending);
    bytes += 2 * group->capacity * sizeof(struct stream_consumer *);
    for (uint32_t i = 0; i < group->count; i++) {
        const struct stream_consumer *consumer = group->sorted[i];
        bytes += sizeof(*consumer) + consumer->name_length + paged_tree_bytes(&consumer->pending);
    }
    return bytes;
}

size_t stream_groups_bytes(const struct stream_groups *groups) {
    size_t bytes = groups->capacity * sizeof(struct stream_group *);
    for (uint32_t i = 0; i < groups->count; i++) bytes += group_bytes(groups->sorted[i]);
    for (const struct stream_group *group = groups->given_up; group; group = group->next) bytes += group_bytes(group);
    return bytes;
}

/* Every ID of the group's tree is in its consumer's, and there are no others. */
static bool validate_group(const struct stream_group *group, struct page_access *access) {
    struct paged_tree_cursor at;
    uint64_t owned = 0;
    if (!paged_tree_validate(&group->pending, access)) return false;
    for (uint32_t i = 0; i < group->count; i++) {
        const struct stream_consumer *consumer = group->sorted[i];
        if (group->slots[consumer->number] != consumer || !paged_tree_validate(&consumer->pending, access) ||
            (i && compare_names(stream_consumer_name(group->sorted[i - 1]), stream_consumer_name(consumer)) >= 0))
            return false;
        owned += paged_tree_count(&consumer->pending);
    }
    for (paged_tree_first(&at, &group->pending, access); at.valid; paged_tree_next(&at)) {
        if (at.missing) continue;
        struct stream_pending pending = stream_pending_of(group, at.item.value);
        if (!pending.consumer) return false;
        if (paged_tree_find(&pending.consumer->pending, access, &at.item.key, NULL, NULL) == PAGE_ABSENT) return false;
    }
    return owned == paged_tree_count(&group->pending);
}

bool stream_groups_validate(const struct stream_groups *groups, struct page_access *access) {
    for (uint32_t i = 0; i < groups->count; i++) {
        if (i && compare_names(stream_group_name(groups->sorted[i - 1]), stream_group_name(groups->sorted[i])) >= 0)
            return false;
        if (!validate_group(groups->sorted[i], access)) return false;
    }
    return true;
}
