/* Schemas and packed entries; pictures and reasons are in stream_schema.h.
 *
 * A producer adds entries of one kind, so the schema found last is tried first. The others are gone through one by one:
 * there are 64 at most, and nearly all differ in their number of fields or of bytes. */

#include "keyspace/stream_schema.h"

#include <stdlib.h>

/* ---- schemas ---- */

static const char *bulk_bytes(const struct stream_schema *schema) {
    return (const char *)(schema->fields + schema->field_count);
}

static size_t schema_bytes(const struct stream_schema *schema) {
    return sizeof(*schema) + schema->field_count * sizeof(schema->fields[0]) + schema->bytes;
}

static size_t bulk_length(struct span name) {
    return 1 + number_text_length_i64((int64_t)name.length) + 2 + name.length + 2;
}

static bool has_names(const struct stream_schema *schema, struct stream_fields fields) {
    if (schema->field_count != fields.count) return false;
    for (uint32_t i = 0; i < fields.count; i++) {
        struct span name = fields.spans[2 * i];
        if (schema->fields[i].length != name.length ||
            !bytes_equal(bulk_bytes(schema) + schema->fields[i].name, name.data, name.length))
            return false;
    }
    return true;
}

static struct stream_schema *make_schema(struct stream_fields fields) {
    size_t bytes = 0;
    if (fields.count > STREAM_SCHEMA_FIELDS_MAX) return NULL;
    for (uint32_t i = 0; i < fields.count; i++) {
        bytes += bulk_length(fields.spans[2 * i]);
        if (bytes > STREAM_SCHEMA_BYTES_MAX) return NULL;
    }
    struct stream_schema *schema = malloc(sizeof(*schema) + fields.count * sizeof(schema->fields[0]) + bytes);
    if (!schema) return NULL;
    *schema = (struct stream_schema){.field_count = fields.count, .bytes = (uint32_t)bytes};
    char *start = (char *)(schema->fields + fields.count), *at = start;
    for (uint32_t i = 0; i < fields.count; i++) {
        struct span name = fields.spans[2 * i];
        *at++ = '$';
        at += number_format_u64(name.length, at);
        at = mempcpy(at, "\r\n", 2);
        schema->fields[i] = (struct stream_schema_field){(uint32_t)(at - start), (uint32_t)name.length};
        if (name.length) at = mempcpy(at, name.data, name.length);
        at = mempcpy(at, "\r\n", 2);
    }
    return schema;
}

/* A place for a new schema: behind the others, else one that nothing uses any more. -1: none. */
static int find_place(struct stream_schemas *schemas, struct stream_id first) {
    for (unsigned i = 0; i < schemas->count; i++)
        if (stream_id_compare(schemas->list[i]->last_use, first) < 0) return (int)i;
    if (schemas->count == STREAM_SCHEMAS_MAX) return -1;
    if (schemas->count == schemas->capacity) {
        unsigned capacity = schemas->capacity ? 2u * schemas->capacity : 1;
        struct stream_schema **list = realloc(schemas->list, capacity * sizeof(struct stream_schema *));
        if (!list) return -1;
        schemas->list = list;
        schemas->capacity = (uint8_t)capacity;
    }
    schemas->list[schemas->count] = NULL;
    return schemas->count++;
}

int stream_schemas_find(struct stream_schemas *schemas, struct stream_fields fields, struct stream_id first) {
    if (schemas->count && has_names(schemas->list[schemas->latest], fields)) return schemas->latest;
    for (unsigned i = 0; i < schemas->count; i++)
        if (has_names(schemas->list[i], fields)) return schemas->latest = (uint8_t)i;
    struct stream_schema *schema = make_schema(fields);
    if (!schema) return -1;
    int place = find_place(schemas, first);
    if (place < 0) {
        free(schema);
        return -1;
    }
    free(schemas->list[place]);
    schemas->list[place] = schema;
    schemas->latest = (uint8_t)place;
    return place;
}

void stream_schemas_free(struct stream_schemas *schemas) {
    for (unsigned i = 0; i < schemas->count; i++) free(schemas->list[i]);
    free(schemas->list);
    *schemas = (struct stream_schemas){0};
}

bool stream_schemas_copy(const struct stream_schemas *schemas, struct stream_schemas *copy) {
    *copy = (struct stream_schemas){0};
    if (!schemas->count) return true;
    copy->list = calloc(schemas->capacity, sizeof(struct stream_schema *));
    if (!copy->list) return false;
    copy->capacity = schemas->capacity;
    copy->latest = schemas->latest;
    for (unsigned i = 0; i < schemas->count; i++) {
        size_t bytes = schema_bytes(schemas->list[i]);
        struct stream_schema *schema = malloc(bytes);
        if (!schema) {
            stream_schemas_free(copy);
            return false;
        }
        copy->list[copy->count++] = memcpy(schema, schemas->list[i], bytes);
    }
    return true;
}

size_t stream_schemas_bytes(const struct stream_schemas *schemas) {
    size_t bytes = schemas->capacity * sizeof(struct stream_schema *);
    for (unsigned i = 0; i < schemas->count; i++) bytes += schema_bytes(schemas->list[i]);
    return bytes;
}

/* ---- through a checkpoint: names alone, as they make the rest ---- */

void stream_schemas_save(const struct stream_schemas *schemas, struct state_writer *out) {
    state_write_u8(out, schemas->count);
    state_write_u8(out, schemas->latest);
    for (unsigned i = 0; i < schemas->count; i++) {
        const struct stream_schema *schema = schemas->list[i];
        stream_id_save(schema->last_use, out);
        state_write_u32(out, schema->field_count);
        for (uint32_t k = 0; k < schema->field_count; k++)
            state_write_text(out, span_of(bulk_bytes(schema) + schema->fields[k].name, schema->fields[k].length));
    }
}

/* NULL: damaged, or no memory. */
static struct stream_schema *load_schema(struct state_reader *in) {
    char names[STREAM_SCHEMA_BYTES_MAX], *at = names;
    struct span pairs[2 * STREAM_SCHEMA_FIELDS_MAX];
    struct stream_id last_use = stream_id_load(in);
    struct stream_fields fields = {pairs, state_read_u32(in)};
    if (fields.count == 0 || fields.count > STREAM_SCHEMA_FIELDS_MAX) return NULL;
    for (uint32_t i = 0; i < fields.count; i++) {
        uint32_t length = state_read_u32(in);
        if (length > (size_t)(names + sizeof(names) - at) || !state_read_text(in, at, length)) return NULL;
        pairs[2 * i] = span_of(at, length);
        at += length;
    }
    struct stream_schema *schema = make_schema(fields);
    if (schema) schema->last_use = last_use;
    return schema;
}

bool stream_schemas_load(struct stream_schemas *schemas, struct state_reader *in) {
    uint8_t count = state_read_u8(in), latest = state_read_u8(in);
    *schemas = (struct stream_schemas){0};
    if (count == 0) return !in->failed;
    if (count > STREAM_SCHEMAS_MAX || latest >= count) return false;
    if (!(schemas->list = calloc(count, sizeof(struct stream_schema *)))) return false;
    schemas->capacity = count;
    schemas->latest = latest;
    for (; schemas->count < count; schemas->count++)
        if (!(schemas->list[schemas->count] = load_schema(in))) return false;
    return true;
}

/* ---- entries ---- */

size_t stream_entry_bytes(struct stream_fields fields, int schema) {
    size_t bytes = stream_number_bytes((uint64_t)(schema + 1));
    if (schema < 0) bytes += stream_number_bytes(fields.count);
    for (uint32_t i = 0; i < fields.count; i++) {
        struct span name = fields.spans[2 * i], value = fields.spans[2 * i + 1];
        if (schema < 0) bytes += stream_number_bytes(name.length) + name.length;
        if (i + 1 < fields.count) bytes += stream_number_bytes(value.length);
        bytes += value.length;
    }
    return bytes;
}

static char *pack_span(char *at, struct span bytes) {
    at = stream_pack_number(at, bytes.length);
    return bytes.length ? mempcpy(at, bytes.data, bytes.length) : at;
}

void stream_entry_pack(struct stream_fields fields, int schema, char *at) {
    at = stream_pack_number(at, (uint64_t)(schema + 1));
    if (schema < 0) at = stream_pack_number(at, fields.count);
    for (uint32_t i = 0; i < fields.count; i++) {
        struct span value = fields.spans[2 * i + 1];
        if (schema < 0) at = pack_span(at, fields.spans[2 * i]);
        if (i + 1 < fields.count)
            at = pack_span(at, value);
        else if (value.length)
            memcpy(at, value.data, value.length);
    }
}

void stream_entry_open(struct stream_entry *entry, const struct stream_schemas *schemas, struct span bytes) {
    *entry = (struct stream_entry){.at = bytes.data, .end = bytes.data + bytes.length};
    uint64_t schema = stream_unpack_number(&entry->at);
    if (schema) entry->schema = schemas->list[schema - 1];
    entry->count = schema ? entry->schema->field_count : (uint32_t)stream_unpack_number(&entry->at);
}

static struct span unpack_span(struct stream_entry *entry) {
    size_t length = stream_unpack_number(&entry->at);
    struct span bytes = span_of(entry->at, length);
    entry->at += length;
    return bytes;
}

bool stream_entry_next(struct stream_entry *entry) {
    if (entry->index == entry->count) return false;
    const struct stream_schema *schema = entry->schema;
    if (schema) {
        struct stream_schema_field field = schema->fields[entry->index];
        uint32_t bulk_end = field.name + field.length + 2;
        entry->name = span_of(bulk_bytes(schema) + field.name, field.length);
        entry->name_bulk = span_of(bulk_bytes(schema) + entry->bulk_at, bulk_end - entry->bulk_at);
        entry->bulk_at = bulk_end;
    } else {
        entry->name = unpack_span(entry);
    }
    if (++entry->index < entry->count) {
        entry->value = unpack_span(entry);
    } else {
        entry->value = span_of(entry->at, (size_t)(entry->end - entry->at));
        entry->at = entry->end;
    }
    return true;
}
