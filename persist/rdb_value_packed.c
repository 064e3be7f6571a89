/* Values that are packed already: see rdb_value_private.h.
 *
 * A listpack or intset that is sound, and no bigger than the limits allow, becomes the value as it is. One that is too
 * big, and everything in Redis's older packings, goes through a builder, element by element.
 *
 * What is looked at: the structure (listpack.h, intset.h, rdb_old_packing.h); that elements come in pairs or threes;
 * that none is there twice; that scores are numbers and in order; that times of expiry are times. */

#include "keyspace/key_hash.h"
#include "persist/rdb_old_packing.h"
#include "persist/rdb_value_private.h"

#include <math.h>
#include <stdlib.h>

enum { SEEN_LEAST = 32 };

/* ---- duplicates ---- */

static uint64_t element_hash(const struct listpack_value *value, uint64_t seed) {
    int64_t number = value->number;
    bool integer = value->integer;
    if (!integer && value->text.length && value->text.length <= NUMBER_TEXT_MAX &&
        (value->text.data[0] == '-' || (value->text.data[0] >= '0' && value->text.data[0] <= '9')))
        integer = number_parse_i64(value->text, &number); /* a text that spells an integer is equal to it */
    if (!integer) return key_hash(value->text, seed) | 1;
    uint64_t hash = ((uint64_t)number ^ seed) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
    return (hash ^ hash >> 29) | 1;
}

/* Empties the table and makes it large enough. */
static bool reserve_seen(struct rdb_value_loader *loader, uint64_t count, size_t *size) {
    *size = SEEN_LEAST;
    while (*size < 2 * count) *size *= 2;
    if (*size > loader->seen_capacity) {
        free(loader->seen);
        loader->seen_capacity = 0;
        loader->seen = malloc(*size * sizeof(*loader->seen));
        if (!loader->seen) return rdb_fail(loader, RDB_NO_MEMORY, "there is no memory for it");
        loader->seen_capacity = *size;
    }
    memset(loader->seen, 0, *size * sizeof(*loader->seen));
    return true;
}

/* The same hash twice is a duplicate in all likelihood; this is to be sure. */
static bool stands_before(const uint8_t *listpack, const uint8_t *entry, unsigned stride) {
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    struct span text = listpack_get_text(entry, room);
    return listpack_find(listpack_first(listpack), text, stride - 1) != entry;
}

bool rdb_check_duplicates(struct rdb_value_loader *loader, const uint8_t *listpack, uint64_t count, unsigned stride) {
    size_t size;
    uint64_t seed = loader->view->keyspace->seed;
    if (count < 2) return true;
    if (!reserve_seen(loader, count, &size)) return false;
    for (const uint8_t *at = listpack_first(listpack); !listpack_at_end(at); at = listpack_skip(at, stride)) {
        struct listpack_value value = listpack_get(at);
        uint64_t hash = element_hash(&value, seed);
        size_t place = (size_t)(hash >> 20) & (size - 1);
        for (; loader->seen[place]; place = (place + 1) & (size - 1))
            if (loader->seen[place] == hash && stands_before(listpack, at, stride))
                return rdb_corrupt(loader, "an element is there twice");
        loader->seen[place] = hash;
    }
    return true;
}

/* ---- listpacks ---- */

struct check {
    enum record_type type;
    unsigned stride;
    size_t longest;
    uint64_t count; /* entries */
    const char *wrong;
    double score;
    struct span member, before; /* of this pair and the one before: in the bytes, or in `rooms` */
    char rooms[2][LISTPACK_NUMBER_TEXT_BYTES];
};

static bool refuse(struct check *check, const char *reason) {
    check->wrong = reason;
    return false;
}

static bool check_length(struct check *check, const struct listpack_value *value) {
    size_t length = value->integer ? number_text_length_i64(value->number) : value->text.length;
    if (length > check->longest) check->longest = length;
    return true;
}

static bool check_pair(struct check *check, const struct listpack_value *value, uint32_t index) {
    if (index % 2 == 0) {
        check->before = check->member;
        check->member = listpack_text_of(value, check->rooms[index / 2 % 2]);
        return check_length(check, value);
    }
    double score = (double)value->number;
    if (!value->integer && (!number_parse_double(value->text, &score) || isnan(score)))
        return refuse(check, "a score is no number");
    if (index > 1 &&
        (score < check->score || (score == check->score && paged_tail_compare(check->member, check->before) <= 0)))
        return refuse(check, "a sorted set is not in order");
    check->score = score;
    return true;
}

static bool check_entry(const uint8_t *entry, uint32_t index, void *context) {
    struct check *check = context;
    struct listpack_value value = listpack_get(entry);
    check->count = (uint64_t)index + 1;
    if (check->type == RECORD_SORTED_SET) return check_pair(check, &value, index);
    if (check->stride == 3 && index % 3 == 2) {
        if (value.integer && value.number >= 0 && value.number <= RECORD_EXPIRY_MAX) return true;
        return refuse(check, "a field's time of expiry is none");
    }
    return check_length(check, &value);
}

/* Each entry of a sound listpack to the builder, `stride` at a time. */
static bool feed(struct rdb_builder *builder, const uint8_t *listpack, unsigned stride) {
    char rooms[2][LISTPACK_NUMBER_TEXT_BYTES];
    for (const uint8_t *at = listpack_first(listpack); !listpack_at_end(at); at = listpack_next(at)) {
        struct rdb_element element = {.first = listpack_get_text(at, rooms[0]), .expiry_ms = RECORD_EXPIRY_NONE};
        if (stride > 1) {
            at = listpack_next(at);
            struct listpack_value value = listpack_get(at);
            element.score = (double)value.number;
            if (builder->type == RECORD_SORTED_SET && !value.integer)
                (void)!number_parse_double(value.text, &element.score);
            if (builder->type == RECORD_HASH) element.second = listpack_text_of(&value, rooms[1]);
        }
        if (stride == 3) {
            at = listpack_next(at);
            int64_t expiry_ms = listpack_get(at).number;
            if (expiry_ms) element.expiry_ms = expiry_ms;
        }
        if (!rdb_builder_add(builder, &element)) return false;
    }
    return true;
}

static bool end_builder(struct rdb_builder *builder, bool fed, struct rdb_value *value) {
    if (fed && rdb_builder_end(builder, value)) return true;
    rdb_builder_abandon(builder);
    return false;
}

static bool load_listpack(struct rdb_value_loader *loader, enum record_type type, unsigned stride, struct span bytes,
                          bool in_loader, struct rdb_value *value) {
    struct check check = {.type = type, .stride = stride};
    if (!listpack_is_valid_deep(bytes, check_entry, &check) || check.count % stride)
        return rdb_corrupt(loader, check.wrong ? check.wrong : "a listpack is damaged");
    uint64_t count = check.count / stride;
    *value = (struct rdb_value){.type = type, .is_empty = count == 0};
    if (count == 0) return true;
    const uint8_t *listpack = (const uint8_t *)bytes.data;
    if (rdb_fits_packed(loader, type, false, count, check.longest, bytes.length)) {
        value->encoding = stride == 3 ? RECORD_LISTPACK_TIMED : RECORD_LISTPACK;
        value->bytes = bytes;
        value->in_loader = in_loader;
        return type == RECORD_LIST || rdb_check_duplicates(loader, listpack, count, stride);
    }
    struct rdb_builder builder;
    bool fed = rdb_builder_begin(&builder, loader, type, stride == 3, count) && feed(&builder, listpack, stride);
    return end_builder(&builder, fed, value);
}

static bool load_intset(struct rdb_value_loader *loader, struct span bytes, bool in_loader, struct rdb_value *value) {
    const uint8_t *intset = (const uint8_t *)bytes.data;
    if (!intset_is_valid(bytes)) return rdb_corrupt(loader, "an intset is damaged");
    uint32_t count = intset_count(intset);
    *value = (struct rdb_value){.type = RECORD_SET, .encoding = RECORD_INTSET, .bytes = bytes, .in_loader = in_loader};
    if (rdb_fits_packed(loader, RECORD_SET, true, count, 0, bytes.length)) return true;
    struct rdb_builder builder;
    bool fed = rdb_builder_begin(&builder, loader, RECORD_SET, false, count);
    for (uint32_t i = 0; fed && i < count; i++) {
        char text[NUMBER_TEXT_MAX];
        struct rdb_element element = {.first = span_of(text, number_format_i64(intset_get(intset, i), text)),
                                      .expiry_ms = RECORD_EXPIRY_NONE};
        fed = rdb_builder_add(&builder, &element);
    }
    return end_builder(&builder, fed, value);
}

/* ---- older packings ---- */

/* Every entry of a ziplist to the builder, `stride` at a time. */
static bool feed_ziplist(struct rdb_builder *builder, struct rdb_value_loader *loader, struct span bytes,
                         unsigned stride) {
    struct rdb_ziplist list;
    char rooms[2][NUMBER_TEXT_MAX];
    enum rdb_entry found = RDB_ENTRY_BAD;
    struct rdb_element element = {.expiry_ms = RECORD_EXPIRY_NONE};
    if (!rdb_ziplist_open(&list, bytes)) return rdb_corrupt(loader, "a ziplist is damaged");
    while ((found = rdb_ziplist_next(&list, &element.first, rooms[0])) == RDB_ENTRY) {
        if (stride == 2 && (found = rdb_ziplist_next(&list, &element.second, rooms[1])) != RDB_ENTRY) {
            found = RDB_ENTRY_BAD;
            break;
        }
        if (builder->type == RECORD_SORTED_SET && !number_parse_double(element.second, &element.score))
            return rdb_corrupt(loader, "a score is no number");
        if (!rdb_builder_add(builder, &element)) return false;
    }
    return found == RDB_ENTRY_END || rdb_corrupt(loader, "a ziplist is damaged");
}

static bool feed_zipmap(struct rdb_builder *builder, struct rdb_value_loader *loader, struct span bytes) {
    struct rdb_zipmap map;
    enum rdb_entry found = RDB_ENTRY_BAD;
    struct rdb_element element = {.expiry_ms = RECORD_EXPIRY_NONE};
    if (!rdb_zipmap_open(&map, bytes)) return rdb_corrupt(loader, "a zipmap is damaged");
    while ((found = rdb_zipmap_next(&map, &element.first, &element.second)) == RDB_ENTRY)
        if (!rdb_builder_add(builder, &element)) return false;
    return found == RDB_ENTRY_END || rdb_corrupt(loader, "a zipmap is damaged");
}

static bool load_old(struct rdb_value_loader *loader, uint8_t type, struct span bytes, struct rdb_value *value) {
    struct rdb_builder builder;
    enum record_type record = type == RDB_LIST_ZIPLIST   ? RECORD_LIST
                              : type == RDB_ZSET_ZIPLIST ? RECORD_SORTED_SET
                                                         : RECORD_HASH;
    bool fed = rdb_builder_begin(&builder, loader, record, false, 0);
    if (fed)
        fed = type == RDB_HASH_ZIPMAP ? feed_zipmap(&builder, loader, bytes)
                                      : feed_ziplist(&builder, loader, bytes, type == RDB_LIST_ZIPLIST ? 1 : 2);
    return end_builder(&builder, fed, value);
}

bool rdb_load_packed(struct rdb_value_loader *loader, uint8_t type, struct rdb_value *value) {
    struct rdb_text *text = &loader->texts[0];
    if (type == RDB_HASH_LISTPACK_EX) (void)rdb_get_u64(loader->input); /* the earliest expiry: it is in the fields */
    if (!rdb_get_text(loader->input, text)) return false;
    bool in_loader = text->span.data == text->own;
    switch (type) {
    case RDB_SET_INTSET: return load_intset(loader, text->span, in_loader, value);
    case RDB_HASH_LISTPACK: return load_listpack(loader, RECORD_HASH, 2, text->span, in_loader, value);
    case RDB_ZSET_LISTPACK: return load_listpack(loader, RECORD_SORTED_SET, 2, text->span, in_loader, value);
    case RDB_SET_LISTPACK: return load_listpack(loader, RECORD_SET, 1, text->span, in_loader, value);
    case RDB_HASH_LISTPACK_EX:
    case RDB_HASH_LISTPACK_EX_PRE_GA: return load_listpack(loader, RECORD_HASH, 3, text->span, in_loader, value);
    default: return load_old(loader, type, text->span, value);
    }
}

/* ---- lists of nodes ---- */

static bool feed_node(struct rdb_builder *builder, struct rdb_value_loader *loader, uint8_t type, uint64_t container,
                      struct span bytes) {
    if (bytes.length == 0) return rdb_corrupt(loader, "a node of a list is empty");
    if (type == RDB_LIST_QUICKLIST) return feed_ziplist(builder, loader, bytes, 1);
    if (container == RDB_NODE_PLAIN) {
        struct rdb_element element = {.first = bytes, .expiry_ms = RECORD_EXPIRY_NONE};
        return rdb_builder_add(builder, &element);
    }
    if (!listpack_is_valid(bytes)) return rdb_corrupt(loader, "a listpack is damaged");
    return feed(builder, (const uint8_t *)bytes.data, 1);
}

bool rdb_load_list_nodes(struct rdb_value_loader *loader, uint8_t type, struct rdb_value *value) {
    struct rdb_text *text = &loader->texts[0];
    struct rdb_builder builder;
    uint64_t nodes = rdb_get_count(loader->input, 1);
    bool fed = rdb_builder_begin(&builder, loader, RECORD_LIST, false, 0);
    for (uint64_t i = 0; fed && i < nodes; i++) {
        uint64_t container = type == RDB_LIST_QUICKLIST_2 ? rdb_get_length(loader->input) : RDB_NODE_PACKED;
        if (container != RDB_NODE_PLAIN && container != RDB_NODE_PACKED)
            fed = rdb_corrupt(loader, "a node of a list is of an unknown kind");
        fed = fed && rdb_get_text(loader->input, text);
        if (fed && nodes == 1 && type == RDB_LIST_QUICKLIST_2 && container == RDB_NODE_PACKED) {
            rdb_builder_abandon(&builder);
            return load_listpack(loader, RECORD_LIST, 1, text->span, text->span.data == text->own, value);
        }
        fed = fed && feed_node(&builder, loader, type, container, text->span);
    }
    fed = fed && !rdb_input_failed(loader->input);
    return end_builder(&builder, fed, value);
}
