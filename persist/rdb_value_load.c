/* See rdb_value_load.h. Here are strings, values that are counted elements, and what is common to all; packed values
 * and streams have files of their own. */

#include "persist/rdb_value_load.h"

#include "persist/rdb_value_private.h"

#include <stdlib.h>

enum { KEPT_BYTES = 1 << 20 }; /* of the loader's memory, between values */

void rdb_value_loader_init(struct rdb_value_loader *loader, const struct view *view) {
    *loader = (struct rdb_value_loader){.view = view, .now_ms = view->now_ms};
}

void rdb_value_loader_free(struct rdb_value_loader *loader) {
    for (unsigned i = 0; i < sizeof(loader->texts) / sizeof(loader->texts[0]); i++) rdb_text_free(&loader->texts[i]);
    free(loader->packed);
    free(loader->seen);
    loader->packed = NULL;
    loader->seen = NULL;
    loader->packed_capacity = loader->seen_capacity = 0;
}

/* What one huge value needed is given back before the next. */
static void trim(struct rdb_value_loader *loader) {
    size_t bytes = loader->packed_capacity + loader->seen_capacity * sizeof(*loader->seen);
    for (unsigned i = 0; i < sizeof(loader->texts) / sizeof(loader->texts[0]); i++) bytes += loader->texts[i].capacity;
    if (bytes > KEPT_BYTES) rdb_value_loader_free(loader);
}

bool rdb_value_is_known(uint8_t type) {
    return type <= RDB_ZSET_2 || (type >= RDB_HASH_ZIPMAP && type <= RDB_HASH_LISTPACK_EX);
}

/* ---- strings ---- */

static bool load_string(struct rdb_value_loader *loader, struct rdb_value *value) {
    struct rdb_text *text = &loader->texts[0];
    bool is_integer;
    int64_t integer = 0;
    if (!rdb_get_string(loader->input, text, &is_integer, &integer)) return false;
    if (!is_integer) is_integer = text->span.length <= NUMBER_TEXT_MAX && number_parse_i64(text->span, &integer);
    *value = (struct rdb_value){.type = RECORD_STRING, .encoding = RECORD_RAW, .bytes = text->span};
    value->in_loader = !is_integer && text->own && text->span.data == text->own;
    if (is_integer) {
        value->encoding = record_integer_encoding(integer);
        value->integer = integer;
        value->bytes = span_of(NULL, 0);
    }
    return true;
}

/* ---- counted elements ---- */

static double get_score(struct rdb_input *input, uint8_t type) {
    return type == RDB_ZSET ? rdb_get_text_double(input) : rdb_get_double(input);
}

static bool get_expiry(struct rdb_value_loader *loader, uint8_t type, uint64_t earliest_ms, int64_t *expiry_ms) {
    uint64_t ttl = rdb_get_length(loader->input), at = ttl;
    *expiry_ms = RECORD_EXPIRY_NONE;
    if (ttl == 0) return !rdb_input_failed(loader->input);
    if (type == RDB_HASH_METADATA) at = ttl - 1 + earliest_ms;
    if (at == 0 || at > (uint64_t)RECORD_EXPIRY_MAX || (type == RDB_HASH_METADATA && at < ttl - 1))
        return rdb_corrupt(loader, "a field's time of expiry is none");
    *expiry_ms = (int64_t)at;
    return true;
}

static bool get_element(struct rdb_value_loader *loader, uint8_t type, uint64_t earliest_ms,
                        struct rdb_element *element) {
    struct rdb_input *input = loader->input;
    struct rdb_text *first = &loader->texts[0], *second = &loader->texts[1];
    bool timed = type == RDB_HASH_METADATA || type == RDB_HASH_METADATA_PRE_GA;
    *element = (struct rdb_element){.expiry_ms = RECORD_EXPIRY_NONE};
    if (timed && !get_expiry(loader, type, earliest_ms, &element->expiry_ms)) return false;
    if (!rdb_get_text(input, first)) return false;
    element->first = first->span;
    if (type == RDB_HASH || timed) {
        if (!rdb_get_text(input, second)) return false;
        element->second = second->span;
    }
    if (type == RDB_ZSET || type == RDB_ZSET_2) element->score = get_score(input, type);
    return !rdb_input_failed(input);
}

static bool load_elements(struct rdb_value_loader *loader, uint8_t type, struct rdb_value *value) {
    static const unsigned char least[] = {
        [RDB_LIST] = 1, [RDB_SET] = 1, [RDB_ZSET] = 2, [RDB_HASH] = 2, [RDB_ZSET_2] = 9};
    bool timed = type == RDB_HASH_METADATA || type == RDB_HASH_METADATA_PRE_GA;
    enum record_type record = type == RDB_LIST                         ? RECORD_LIST
                              : type == RDB_SET                        ? RECORD_SET
                              : type == RDB_ZSET || type == RDB_ZSET_2 ? RECORD_SORTED_SET
                                                                       : RECORD_HASH;
    uint64_t earliest_ms = type == RDB_HASH_METADATA ? rdb_get_u64(loader->input) : 0;
    uint64_t count = rdb_get_count(loader->input, timed ? 3 : least[type]);
    struct rdb_builder builder;
    struct rdb_element element;
    if (rdb_input_failed(loader->input)) return false;
    bool built = rdb_builder_begin(&builder, loader, record, timed, count);
    for (uint64_t i = 0; built && i < count; i++)
        built = get_element(loader, type, earliest_ms, &element) && rdb_builder_add(&builder, &element);
    if (built && rdb_builder_end(&builder, value)) return true;
    rdb_builder_abandon(&builder);
    return false;
}

/* ---- all ---- */

static bool load(struct rdb_value_loader *loader, uint8_t type, struct rdb_value *value) {
    switch (type) {
    case RDB_STRING: return load_string(loader, value);
    case RDB_LIST:
    case RDB_SET:
    case RDB_ZSET:
    case RDB_HASH:
    case RDB_ZSET_2:
    case RDB_HASH_METADATA_PRE_GA:
    case RDB_HASH_METADATA: return load_elements(loader, type, value);
    case RDB_LIST_QUICKLIST:
    case RDB_LIST_QUICKLIST_2: return rdb_load_list_nodes(loader, type, value);
    case RDB_STREAM_LISTPACKS:
    case RDB_STREAM_LISTPACKS_2:
    case RDB_STREAM_LISTPACKS_3: return rdb_load_stream_value(loader, type, value);
    case RDB_MODULE_PRE_GA:
    case RDB_MODULE_2:
        return rdb_fail(loader, RDB_UNSUPPORTED, "it holds data of a module, which cannot be loaded here");
    default:
        if (rdb_value_is_known(type)) return rdb_load_packed(loader, type, value);
        return rdb_fail(loader, RDB_UNSUPPORTED, "a value is of an unknown type");
    }
}

enum rdb_status rdb_value_load(struct rdb_value_loader *loader, struct rdb_input *input, uint8_t type,
                               const struct key *key, struct rdb_value *value) {
    loader->input = input;
    loader->key = key;
    *value = (struct rdb_value){0};
    if (__builtin_expect(type != RDB_STRING || loader->texts[0].capacity > KEPT_BYTES, 0)) trim(loader);
    if (load(loader, type, value)) return RDB_DONE;
    return input->status;
}

bool rdb_value_store(const struct view *view, const struct key *key, struct lookup *lookup,
                     const struct rdb_value *value, int64_t expiry_ms, uint32_t access) {
    struct record_plan plan = {.type = value->type,
                               .encoding = value->encoding,
                               .value = value->bytes,
                               .integer = value->integer,
                               .expiry_ms = expiry_ms};
    if (value->encoding == RECORD_PAGED)
        plan.value = span_of((const char *)&value->collection, sizeof(struct collection *));
    if (!keyspace_store(view, key, lookup, &plan)) return false;
    record_set_access(lookup->record, access);
    return true;
}

void rdb_value_discard(struct rdb_value_loader *loader, const struct key *key, struct rdb_value *value) {
    if (!value->collection) return;
    struct keyspace *keyspace = loader->view->keyspace;
    if (loader->locks) keyspace_lock(keyspace, key->shard);
    keyspace_discard_collection(loader->view, value->collection);
    if (loader->locks) keyspace_unlock(keyspace, key->shard);
    value->collection = NULL;
}

/* ---- passing by ---- */

static bool skip_elements(struct rdb_input *input, uint8_t type) {
    bool timed = type == RDB_HASH_METADATA || type == RDB_HASH_METADATA_PRE_GA;
    if (type == RDB_HASH_METADATA) (void)rdb_get_u64(input);
    uint64_t count = rdb_get_count(input, 1);
    for (uint64_t i = 0; i < count && !rdb_input_failed(input); i++) {
        if (timed) (void)rdb_get_length(input);
        if (type == RDB_LIST_QUICKLIST_2) (void)rdb_get_length(input);
        (void)rdb_skip_string(input);
        if (type == RDB_HASH || timed) (void)rdb_skip_string(input);
        if (type == RDB_ZSET) (void)rdb_get_text_double(input);
        if (type == RDB_ZSET_2) (void)rdb_skip_bytes(input, 8);
    }
    return !rdb_input_failed(input);
}

bool rdb_value_skip(struct rdb_input *input, uint8_t type) {
    switch (type) {
    case RDB_STRING: return rdb_skip_string(input);
    case RDB_LIST:
    case RDB_SET:
    case RDB_ZSET:
    case RDB_HASH:
    case RDB_ZSET_2:
    case RDB_HASH_METADATA_PRE_GA:
    case RDB_HASH_METADATA:
    case RDB_LIST_QUICKLIST:
    case RDB_LIST_QUICKLIST_2: return skip_elements(input, type);
    case RDB_STREAM_LISTPACKS:
    case RDB_STREAM_LISTPACKS_2:
    case RDB_STREAM_LISTPACKS_3: return rdb_skip_stream_value(input, type);
    default: break;
    }
    if (!rdb_value_is_known(type)) {
        bool module = type == RDB_MODULE_2 || type == RDB_MODULE_PRE_GA;
        rdb_input_fail(input, RDB_UNSUPPORTED,
                       module ? "it holds data of a module, which cannot be loaded here"
                              : "a value is of an unknown type");
        return false;
    }
    if (type == RDB_HASH_LISTPACK_EX) (void)rdb_get_u64(input);
    return rdb_skip_string(input);
}
