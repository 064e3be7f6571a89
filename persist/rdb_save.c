/* Records as RDB has them. A record's packed value is copied as it is wherever Redis packs the same way: listpacks and
 * intsets have Redis's bytes. What differs is few: packed sets before version 11, which are written member by member,
 * and packed hashes with field TTLs, which Redis wants in the order of their expiry. */

#include "persist/rdb_save.h"

#include "persist/crc64.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_save_private.h"
#include "record/packed_list.h"

#include <stdlib.h>

static struct span bytes_of_listpack(const uint8_t *listpack) {
    return span_of(listpack, listpack_bytes(listpack));
}

/* ---- packed hashes with field TTLs ---- */

struct timed_field {
    const uint8_t *at; /* field, value, expiry */
    int64_t expiry_ms; /* INT64_MAX: none */
    uint32_t place;    /* keeps the order of those that expire at the same time */
};

static int compare_timed(const void *a, const void *b) {
    const struct timed_field *x = a, *y = b;
    if (x->expiry_ms != y->expiry_ms) return x->expiry_ms < y->expiry_ms ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static const uint8_t *expiry_entry(const uint8_t *field) {
    return listpack_next(listpack_next(field));
}

/* NULL: no memory. `*count` fields, to be freed. */
static struct timed_field *timed_fields(const uint8_t *listpack, uint32_t *count) {
    *count = listpack_count(listpack) / 3;
    struct timed_field *fields = malloc((*count + 1) * sizeof(*fields));
    if (!fields) return NULL;
    const uint8_t *at = listpack_first(listpack);
    for (uint32_t i = 0; i < *count; i++) {
        const uint8_t *expiry = expiry_entry(at);
        int64_t ms = listpack_get(expiry).number;
        fields[i] = (struct timed_field){at, ms ? ms : INT64_MAX, i};
        at = listpack_next(expiry);
    }
    return fields;
}

/* The same listpack in order of expiry, or without expiries. Returns its length. */
static size_t write_timed(uint8_t *to, size_t capacity, const struct timed_field *fields, uint32_t count, bool timed) {
    struct listpack_writer writer;
    listpack_writer_begin(&writer, to, capacity);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *end = expiry_entry(fields[i].at);
        listpack_writer_append_entries(&writer, fields[i].at, timed ? listpack_next(end) : end, timed ? 3 : 2);
    }
    return listpack_writer_finish(&writer);
}

static void put_timed(struct rdb_output *output, bool compress, const uint8_t *listpack) {
    uint32_t count;
    size_t capacity = listpack_bytes(listpack);
    struct timed_field *fields = timed_fields(listpack, &count);
    uint8_t *sorted = malloc(capacity);
    if (!fields || !sorted) {
        output->failed = true;
    } else {
        qsort(fields, count, sizeof(*fields), compare_timed);
        bool timed = count && fields[0].expiry_ms != INT64_MAX;
        rdb_put_u64(output, (uint64_t)fields[0].expiry_ms);
        size_t length = write_timed(sorted, capacity, fields, count, timed);
        rdb_put_blob(output, span_of(sorted, length), compress);
    }
    free(fields);
    free(sorted);
}

/* Whether any field expires: a hash may have been packed for expiries and have lost them. */
static bool has_timed_field(const uint8_t *listpack) {
    for (const uint8_t *at = listpack_first(listpack); !listpack_at_end(at);) {
        const uint8_t *expiry = expiry_entry(at);
        if (listpack_get(expiry).number) return true;
        at = listpack_next(expiry);
    }
    return false;
}

static void put_untimed(struct rdb_output *output, bool compress, const uint8_t *listpack) {
    uint32_t count;
    size_t capacity = listpack_bytes(listpack);
    struct timed_field *fields = timed_fields(listpack, &count);
    uint8_t *plain = malloc(capacity);
    if (!fields || !plain)
        output->failed = true;
    else
        rdb_put_blob(output, span_of(plain, write_timed(plain, capacity, fields, count, false)), compress);
    free(fields);
    free(plain);
}

/* ---- types and values ---- */

unsigned rdb_save_version(const struct rdb_save_options *options) {
    return options->version ? options->version : RDB_VERSION_DEFAULT;
}

static enum rdb_type type_of(const struct rdb_save_options *options, const struct record *record) {
    const uint8_t *value = (const uint8_t *)record_value(record).data;
    switch (record_type(record)) {
    case RECORD_LIST: return RDB_LIST_QUICKLIST_2;
    case RECORD_SET:
        if (record_encoding(record) == RECORD_INTSET) return RDB_SET_INTSET;
        return rdb_save_version(options) >= RDB_VERSION_SET_LISTPACK ? RDB_SET_LISTPACK : RDB_SET;
    case RECORD_SORTED_SET: return RDB_ZSET_LISTPACK;
    case RECORD_HASH:
        if (record_encoding(record) == RECORD_LISTPACK || !has_timed_field(value)) return RDB_HASH_LISTPACK;
        return RDB_HASH_LISTPACK_EX;
    default: return RDB_STRING;
    }
}

static void put_members(struct rdb_output *output, bool compress, const uint8_t *listpack) {
    rdb_put_length(output, listpack_count(listpack));
    for (const uint8_t *at = listpack_first(listpack); !listpack_at_end(at); at = listpack_next(at)) {
        struct listpack_value member = listpack_get(at);
        if (member.integer)
            rdb_put_integer(output, member.number);
        else
            rdb_put_blob(output, member.text, compress);
    }
}

static void put_value(struct rdb_output *output, const struct rdb_save_options *options, enum rdb_type type,
                      const struct record *record) {
    bool compress = options->compress;
    struct span value = record_value(record);
    const uint8_t *packed = (const uint8_t *)value.data;
    switch (type) {
    case RDB_STRING:
        if (record_is_integer(record))
            rdb_put_integer(output, record_integer(record));
        else
            rdb_put_string(output, value, compress);
        break;
    case RDB_LIST_QUICKLIST_2:
        rdb_put_length(output, 1);
        rdb_put_length(output, RDB_NODE_PACKED);
        rdb_put_blob(output, bytes_of_listpack(packed_list_elements(packed)), compress);
        break;
    case RDB_SET: put_members(output, compress, packed); break;
    case RDB_HASH_LISTPACK_EX:
        output->field_ttl = true;
        put_timed(output, compress, packed);
        break;
    case RDB_HASH_LISTPACK:
        if (record_encoding(record) == RECORD_LISTPACK_TIMED)
            put_untimed(output, compress, packed);
        else
            rdb_put_blob(output, bytes_of_listpack(packed), compress);
        break;
    case RDB_SET_INTSET: rdb_put_blob(output, value, compress); break;
    default: rdb_put_blob(output, bytes_of_listpack(packed), compress); break;
    }
}

void rdb_save_value(struct rdb_output *output, const struct rdb_save_options *options, const struct record *record) {
    assert(!record_is_paged(record));
    enum rdb_type type = type_of(options, record);
    rdb_put_byte(output, (uint8_t)type);
    put_value(output, options, type, record);
}

/* ---- records ---- */

static void put_attributes(struct rdb_output *output, const struct rdb_save_options *options, int64_t expiry_ms,
                           uint32_t access) {
    if (expiry_ms != RECORD_EXPIRY_NONE) {
        rdb_put_byte(output, RDB_OP_EXPIRY_MS);
        rdb_put_u64(output, (uint64_t)expiry_ms);
    }
    if (options->access == RDB_ACCESS_IDLE) {
        rdb_put_byte(output, RDB_OP_IDLE);
        rdb_put_length(output, access_idle_seconds(access, options->now_ms));
    } else if (options->access == RDB_ACCESS_FREQUENCY) {
        rdb_put_byte(output, RDB_OP_FREQUENCY);
        rdb_put_byte(output, (uint8_t)access_frequency(options->policy, access, options->now_ms));
    }
}

/* Keys are hardly ever worth the time that compressing takes. */
static void put_type_and_key(struct rdb_output *output, enum rdb_type type, struct span key) {
    rdb_put_byte(output, (uint8_t)type);
    rdb_put_string(output, key, false);
}

void rdb_save_record(struct rdb_output *output, const struct rdb_save_options *options, const struct record *record) {
    assert(!record_is_paged(record));
    enum rdb_type type = type_of(options, record);
    put_attributes(output, options, record_expiry(record), record_access(record));
    put_type_and_key(output, type, record_key(record));
    put_value(output, options, type, record);
}

void rdb_save_collection_head(struct rdb_output *output, const struct rdb_save_options *options,
                              const struct collection *root, struct span key, int64_t expiry_ms, uint32_t access) {
    put_attributes(output, options, expiry_ms, access);
    put_type_and_key(output, rdb_collection_type(options, root), key);
}

void rdb_save_collection_type(struct rdb_output *output, const struct rdb_save_options *options,
                              const struct collection *root) {
    rdb_put_byte(output, (uint8_t)rdb_collection_type(options, root));
}

/* ---- payloads ---- */

void rdb_save_payload_end(struct rdb_output *output, const struct rdb_save_options *options) {
    unsigned version = rdb_save_version(options);
    if (output->field_ttl && version < RDB_VERSION_FIELD_TTL) version = RDB_VERSION_FIELD_TTL;
    const uint8_t footer[2] = {(uint8_t)version, (uint8_t)(version >> 8)};
    rdb_put_bytes(output, footer, sizeof(footer));
    if (!output->failed) rdb_put_u64(output, crc64(0, output->bytes, output->length));
}
