/* Values made of elements that come one after the other: see rdb_value_private.h.
 *
 * As long as it fits, what comes is packed into the loader's own bytes: a listpack that lacks its header and end, or,
 * of a sorted set, members with their scores in the order they came. When it does not fit any more a root is made, what
 * was gathered goes there, and everything after it.
 *
 * Duplicates: a root refuses them; of what stays packed all is looked at in the end.
 *
 * The shapes of the roots are those that the types' own files give them. */

#include "keyspace/sorted_set_private.h"
#include "persist/rdb_value_private.h"

#include <math.h>
#include <stdlib.h>

enum {
    SLICE_STEPS = 64,
    SLICE_BYTES = 64 << 10,
    PACKED_LEAST = 1024,
    ATTEMPTS_MAX = 100000, /* whoever waits for room decides earlier */
};

/* ---- slices ---- */

static uint32_t shard_of(const struct rdb_slices *slices) {
    return slices->loader->key->shard;
}

static void open_slice(struct rdb_slices *slices) {
    struct keyspace *keyspace = slices->view.keyspace;
    if (slices->loader->locks) keyspace_lock(keyspace, shard_of(slices));
    slices->access = keyspace_pages(&slices->view, &keyspace->shards[shard_of(slices)]);
    slices->open = true;
    slices->steps = 0;
    slices->bytes = 0;
}

void rdb_slices_begin(struct rdb_slices *slices, struct rdb_value_loader *loader) {
    slices->loader = loader;
    slices->view = *loader->view;
    slices->view.quiet = true;
    open_slice(slices);
}

void rdb_slices_end(struct rdb_slices *slices) {
    if (!slices->open) return;
    if (slices->loader->locks) keyspace_unlock(slices->view.keyspace, shard_of(slices));
    if (slices->view.port && slices->loader->locks) tier_trim(slices->view.port);
    slices->open = false;
}

/* Between slices pages may go to the tier: then it takes a port to have them back. */
static bool may_pause(const struct rdb_slices *slices) {
    return slices->loader->locks && (!slices->view.keyspace->tier || slices->view.port);
}

static bool breathe(struct rdb_slices *slices, size_t bytes, unsigned attempt) {
    struct rdb_value_loader *loader = slices->loader;
    rdb_slices_end(slices);
    bool room = !loader->wait_for_room || loader->wait_for_room(loader->ctx, bytes, attempt);
    open_slice(slices);
    return room || rdb_fail(loader, RDB_NO_MEMORY, "there is no memory for it");
}

bool rdb_slices_step(struct rdb_slices *slices, size_t bytes) {
    slices->bytes += bytes;
    if (++slices->steps < SLICE_STEPS && slices->bytes < SLICE_BYTES) return true;
    if (!may_pause(slices)) return true;
    return breathe(slices, slices->bytes, 0);
}

bool rdb_slices_retry(struct rdb_slices *slices, unsigned *attempt) {
    if (!may_pause(slices) || !slices->loader->wait_for_room || ++*attempt > ATTEMPTS_MAX)
        return rdb_fail(slices->loader, RDB_NO_MEMORY, "there is no memory for it");
    return breathe(slices, slices->bytes ? slices->bytes : 1, *attempt);
}

/* ---- big values ---- */

static const struct collection_kind *kind_of(enum record_type type) {
    switch (type) {
    case RECORD_LIST: return &list_kind;
    case RECORD_SET: return &set_kind;
    case RECORD_SORTED_SET: return &sorted_set_kind;
    default: return &hash_kind;
    }
}

static void shape_root(struct rdb_builder *builder) {
    struct collection *collection = builder->collection;
    struct page_table *trees = &collection->parts[COLLECTION_TREES], *hashes = &collection->parts[COLLECTION_HASH];
    uint64_t seed = builder->slices.view.keyspace->seed;
    struct sorted_set_root *sorted_set = (struct sorted_set_root *)collection;
    switch (builder->type) {
    case RECORD_LIST:
        paged_tree_init(&((struct list_root *)collection)->elements, trees,
                        (struct paged_tree_shape){.value = true, .leaf_bytes = PAGED_TREE_LIST_BYTES});
        break;
    case RECORD_SET: paged_hash_init(paged_hash_of(collection), hashes, PAGED_HASH_SET, seed); break;
    case RECORD_SORTED_SET:
        paged_hash_init(&sorted_set->scores, hashes, PAGED_HASH_SCORES, seed);
        paged_tree_init(&sorted_set->members, trees, (struct paged_tree_shape){.numbers = 1, .tail = true});
        builder->sorted_set =
            (struct sorted_set){.view = &builder->slices.view, .key = builder->slices.loader->key, .root = sorted_set};
        break;
    default: paged_hash_init(paged_hash_of(collection), hashes, PAGED_HASH_MAP, seed); break;
    }
}

static enum page_status add_scored(struct rdb_builder *builder, struct span member, double score) {
    double old_score;
    struct sorted_set *set = &builder->sorted_set;
    set->access = builder->slices.access;
    enum page_status status = PAGE_ABSENT;
    if (sorted_set_count(set)) status = sorted_set_score(set, member, &old_score);
    if (status == PAGE_DONE) return PAGE_EXISTS;
    if (status == PAGE_ABSENT) status = sorted_set_put(set, member, score, PAGE_ABSENT, 0);
    builder->slices.access = set->access;
    return status;
}

static enum page_status add_once(struct rdb_builder *builder, const struct rdb_element *element) {
    struct collection *collection = builder->collection;
    struct page_access *access = &builder->slices.access;
    bool is_new = true;
    enum page_status status;
    switch (builder->type) {
    case RECORD_LIST: return paged_tree_push_last(&((struct list_root *)collection)->elements, access, element->first);
    case RECORD_SET:
        return paged_hash_set(paged_hash_of(collection), access, element->first, span_of(NULL, 0), RECORD_EXPIRY_NONE,
                              NULL);
    case RECORD_SORTED_SET: return add_scored(builder, element->first, element->score);
    default:
        status = paged_hash_set(paged_hash_of(collection), access, element->first, element->second, element->expiry_ms,
                                &is_new);
        return status == PAGE_DONE && !is_new ? PAGE_EXISTS : status;
    }
}

static bool add_big(struct rdb_builder *builder, const struct rdb_element *element) {
    enum page_status status;
    unsigned attempt = 0;
    while ((status = add_once(builder, element)) != PAGE_DONE) {
        if (status == PAGE_EXISTS) return rdb_corrupt(builder->slices.loader, "an element is there twice");
        if (!rdb_slices_retry(&builder->slices, &attempt)) return false;
    }
    return rdb_slices_step(&builder->slices, element->first.length + element->second.length);
}

static bool make_root(struct rdb_builder *builder) {
    unsigned attempt = 0;
    struct rdb_slices *slices = &builder->slices;
    rdb_slices_begin(slices, slices->loader);
    while (!(builder->collection = keyspace_new_collection(&slices->view, slices->loader->key, kind_of(builder->type))))
        if (!rdb_slices_retry(slices, &attempt)) return false;
    shape_root(builder);
    return true;
}

/* ---- packed as yet ---- */

bool rdb_reserve_packed(struct rdb_value_loader *loader, size_t bytes) {
    if (bytes <= loader->packed_capacity) return true;
    size_t capacity = loader->packed_capacity ? loader->packed_capacity : PACKED_LEAST;
    while (capacity < bytes) capacity *= 2;
    uint8_t *packed = realloc(loader->packed, capacity);
    if (!packed) return rdb_fail(loader, RDB_NO_MEMORY, "there is no memory for it");
    loader->packed = packed;
    loader->packed_capacity = capacity;
    return true;
}

/* A sorted set's members as they are gathered. */
struct gathered {
    double score;
    uint32_t length; /* the member follows */
};

static bool gather(struct rdb_builder *builder, const struct rdb_element *element) {
    struct rdb_value_loader *loader = builder->slices.loader;
    struct gathered head = {element->score, (uint32_t)element->first.length};
    if (!rdb_reserve_packed(loader, builder->length + sizeof(head) + head.length)) return false;
    memcpy(loader->packed + builder->length, &head, sizeof(head));
    if (head.length) memcpy(loader->packed + builder->length + sizeof(head), element->first.data, head.length);
    builder->length += sizeof(head) + head.length;
    return true;
}

static struct gathered gathered_at(const struct rdb_builder *builder, size_t at, struct span *member) {
    const uint8_t *bytes = builder->slices.loader->packed + at;
    struct gathered head;
    memcpy(&head, bytes, sizeof(head));
    *member = span_of(bytes + sizeof(head), head.length);
    return head;
}

static bool append(struct rdb_builder *builder, const struct listpack_element *element) {
    struct rdb_value_loader *loader = builder->slices.loader;
    struct listpack_writer writer;
    if (!rdb_reserve_packed(loader, builder->length + element->bytes + 1)) return false;
    writer = (struct listpack_writer){loader->packed, loader->packed + builder->length,
                                      loader->packed + loader->packed_capacity - 1, 0};
    listpack_writer_append(&writer, element);
    builder->length += element->bytes;
    return true;
}

static bool add_packed(struct rdb_builder *builder, const struct rdb_element *element) {
    struct listpack_element first;
    if (builder->type == RECORD_SORTED_SET) return gather(builder, element);
    first = listpack_element_of_text(element->first);
    if (!append(builder, &first)) return false;
    if (builder->type != RECORD_HASH) return true;
    struct listpack_element second = listpack_element_of_text(element->second);
    if (!append(builder, &second)) return false;
    if (!builder->timed) return true;
    struct listpack_element expiry =
        listpack_element_of_integer(element->expiry_ms == RECORD_EXPIRY_NONE ? 0 : element->expiry_ms);
    return append(builder, &expiry);
}

static void finish_listpack(struct rdb_builder *builder) {
    struct rdb_value_loader *loader = builder->slices.loader;
    unsigned each = builder->type != RECORD_HASH && builder->type != RECORD_SORTED_SET ? 1 : builder->timed ? 3 : 2;
    struct listpack_writer writer = {loader->packed, loader->packed + builder->length,
                                     loader->packed + loader->packed_capacity - 1, (uint32_t)builder->count * each};
    builder->length = listpack_writer_finish(&writer);
}

/* ---- from packed to big ---- */

static bool refill_sorted_set(struct rdb_builder *builder) {
    size_t length = builder->length;
    for (size_t at = 0; at < length;) {
        struct rdb_element element = {.expiry_ms = RECORD_EXPIRY_NONE};
        struct gathered head = gathered_at(builder, at, &element.first);
        element.score = head.score;
        if (!add_big(builder, &element)) return false;
        at += sizeof(head) + head.length;
    }
    return true;
}

static bool refill_from_listpack(struct rdb_builder *builder) {
    char rooms[2][LISTPACK_NUMBER_TEXT_BYTES];
    finish_listpack(builder);
    for (const uint8_t *at = listpack_first(builder->slices.loader->packed); !listpack_at_end(at);
         at = listpack_next(at)) {
        struct rdb_element element = {.first = listpack_get_text(at, rooms[0]), .expiry_ms = RECORD_EXPIRY_NONE};
        if (builder->type == RECORD_HASH) {
            at = listpack_next(at);
            element.second = listpack_get_text(at, rooms[1]);
        }
        if (builder->timed) {
            at = listpack_next(at);
            int64_t expiry_ms = listpack_get(at).number;
            if (expiry_ms) element.expiry_ms = expiry_ms;
        }
        if (!add_big(builder, &element)) return false;
    }
    return true;
}

static bool become_big(struct rdb_builder *builder) {
    if (!make_root(builder)) return false;
    if (builder->count == 0) return true;
    return builder->type == RECORD_SORTED_SET ? refill_sorted_set(builder) : refill_from_listpack(builder);
}

/* ---- the builder ---- */

bool rdb_fits_packed(const struct rdb_value_loader *loader, enum record_type type, bool all_integers, uint64_t count,
                     size_t longest, size_t bytes) {
    const struct value_limits *limits = &loader->view->keyspace->limits;
    struct list_limits list;
    int64_t entries, most;
    switch (type) {
    case RECORD_LIST:
        list = list_limits_of(limits->list_packed_size);
        return bytes <= list.bytes && count <= list.count;
    case RECORD_SET:
        if (all_integers) return (int64_t)count <= limits->set_intset_entries;
        entries = limits->set_packed_entries, most = limits->set_packed_bytes;
        break;
    case RECORD_SORTED_SET: entries = limits->sorted_set_packed_entries, most = limits->sorted_set_packed_bytes; break;
    default: entries = limits->hash_packed_entries, most = limits->hash_packed_bytes; break;
    }
    return (int64_t)count <= entries && (int64_t)longest <= most && bytes < LISTPACK_BYTES_MAX / 4;
}

bool rdb_builder_begin(struct rdb_builder *builder, struct rdb_value_loader *loader, enum record_type type, bool timed,
                       uint64_t count) {
    *builder = (struct rdb_builder){.type = type, .timed = timed, .all_integers = type == RECORD_SET};
    builder->slices.loader = loader;
    builder->length = type == RECORD_SORTED_SET ? 0 : LISTPACK_HEADER_BYTES;
    if (type != RECORD_LIST && !rdb_fits_packed(loader, type, type == RECORD_SET, count, 0, 0) &&
        !rdb_fits_packed(loader, type, false, count, 0, 0))
        return become_big(builder);
    return true;
}

bool rdb_builder_add(struct rdb_builder *builder, const struct rdb_element *element) {
    struct rdb_value_loader *loader = builder->slices.loader;
    int64_t number;
    if (builder->type == RECORD_SORTED_SET && isnan(element->score)) return rdb_corrupt(loader, "a score is NaN");
    if (!builder->collection) {
        size_t first = element->first.length, second = element->second.length,
               longest = first > second ? first : second;
        if (builder->all_integers) builder->all_integers = number_parse_i64(element->first, &number);
        if (!rdb_fits_packed(loader, builder->type, builder->all_integers, builder->count + 1, longest,
                             builder->length + first + second) &&
            !become_big(builder))
            return false;
    }
    if (!(builder->collection ? add_big(builder, element) : add_packed(builder, element))) return false;
    builder->count++;
    return true;
}

/* ---- the end ---- */

static bool sort_members(struct rdb_builder *builder) {
    struct rdb_value_loader *loader = builder->slices.loader;
    struct scored_member *members = malloc(builder->count * sizeof(*members));
    size_t bytes = builder->length + LISTPACK_EMPTY_BYTES, i = 0;
    /* An entry takes at most as much around its text as what it was gathered with, and the score 32 more. */
    uint8_t *listpack = malloc(bytes + builder->count * (NUMBER_DOUBLE_TEXT_MAX + 8));
    if (!members || !listpack) {
        free(members);
        free(listpack);
        return rdb_fail(loader, RDB_NO_MEMORY, "there is no memory for it");
    }
    for (size_t at = 0; at < builder->length; i++) {
        struct gathered head = gathered_at(builder, at, &members[i].member);
        members[i].score = head.score;
        at += sizeof(head) + head.length;
    }
    qsort(members, builder->count, sizeof(*members), scored_member_compare);
    struct listpack_writer writer;
    listpack_writer_begin(&writer, listpack, bytes + builder->count * (NUMBER_DOUBLE_TEXT_MAX + 8));
    for (i = 0; i < builder->count; i++) {
        char text[NUMBER_DOUBLE_TEXT_MAX];
        double score = members[i].score;
        listpack_writer_append_text(&writer, members[i].member);
        if (score >= -0x1p62 && score <= 0x1p62 && (double)(int64_t)score == score)
            listpack_writer_append_integer(&writer, (int64_t)score);
        else
            listpack_writer_append_text(&writer, span_of(text, number_format_double(score, text)));
    }
    builder->length = listpack_writer_finish(&writer);
    free(members);
    free(loader->packed);
    loader->packed = listpack;
    loader->packed_capacity = builder->length;
    return true;
}

static int compare_numbers(const void *a, const void *b) {
    int64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

/* The listpack of integers at loader->packed becomes an intset there. */
static bool make_intset(struct rdb_builder *builder) {
    struct rdb_value_loader *loader = builder->slices.loader;
    int64_t *numbers = malloc(builder->count * sizeof(*numbers));
    if (!numbers) return rdb_fail(loader, RDB_NO_MEMORY, "there is no memory for it");
    size_t i = 0;
    for (const uint8_t *at = listpack_first(loader->packed); !listpack_at_end(at); at = listpack_next(at))
        numbers[i++] = listpack_get(at).number;
    qsort(numbers, i, sizeof(*numbers), compare_numbers);
    size_t bytes = intset_bytes_for(numbers[0], numbers[i - 1], (uint32_t)i);
    bool room = rdb_reserve_packed(loader, bytes);
    if (room) {
        intset_write(loader->packed, numbers, (uint32_t)i);
        builder->length = bytes;
    }
    free(numbers);
    return room;
}

static bool end_packed(struct rdb_builder *builder, struct rdb_value *value) {
    struct rdb_value_loader *loader = builder->slices.loader;
    unsigned stride = builder->type == RECORD_SORTED_SET ? 2
                      : builder->timed                   ? 3
                      : builder->type == RECORD_HASH     ? 2
                                                         : 1;
    value->encoding = builder->timed ? RECORD_LISTPACK_TIMED : RECORD_LISTPACK;
    if (builder->type == RECORD_SORTED_SET) {
        if (!sort_members(builder)) return false;
    } else {
        finish_listpack(builder);
    }
    if (builder->type != RECORD_LIST && !rdb_check_duplicates(loader, loader->packed, builder->count, stride))
        return false;
    if (builder->all_integers) {
        if (!make_intset(builder)) return false;
        value->encoding = RECORD_INTSET;
    }
    value->bytes = span_of(loader->packed, builder->length);
    value->in_loader = true;
    return true;
}

bool rdb_builder_end(struct rdb_builder *builder, struct rdb_value *value) {
    *value = (struct rdb_value){.type = builder->type, .is_empty = builder->count == 0};
    if (builder->collection && builder->count == 0) {
        rdb_builder_abandon(builder);
        return true;
    }
    if (builder->collection) {
        rdb_slices_end(&builder->slices);
        value->encoding = RECORD_PAGED;
        value->collection = builder->collection;
        return true;
    }
    return builder->count == 0 || end_packed(builder, value);
}

void rdb_builder_abandon(struct rdb_builder *builder) {
    if (builder->collection) keyspace_discard_collection(&builder->slices.view, builder->collection);
    builder->collection = NULL;
    rdb_slices_end(&builder->slices);
}
