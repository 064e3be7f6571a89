#ifndef TERRACE_KEYSPACE_STREAM_SCHEMA_H
#define TERRACE_KEYSPACE_STREAM_SCHEMA_H

/* Schemas: the lists of field names that a stream's entries have in common, and entries packed with their help.
 *
 * Most streams have entries of one or a few kinds. The names of a kind are kept once, in the stream's root, already
 * composed as the bulk strings that replies consist of; an entry begins with its schema's number:
 *
 *   +----------------+---------+-------+---------+-------+ - - +-----------------+
 *   | schema + 1     | length  | value | length  | value |     | the last value  |
 *   +----------------+---------+-------+---------+-------+ - - +-----------------+
 *   +----------------+---------+---------+------+---------+-------+ - - - - - - - +
 *   | 0              | fields  | length  | name | length  | value | ...           |     names of its own
 *   +----------------+---------+---------+------+---------+-------+ - - - - - - - +
 *
 * Numbers are LEB128. The last value goes to the entry's end.
 *
 * A stream has at most STREAM_SCHEMAS_MAX schemas, of bounded size; entries beyond have names of their own. Uses are
 * not counted, since trimming drops pages unread. Instead a schema knows the last entry that was added with it: when
 * the stream's first entry is behind that one nothing uses the schema any more, and its place is free for another.
 *
 * Threads: the lock of the stream's shard. */

#include "base/span.h"
#include "keyspace/stream_id.h"

enum {
    STREAM_SCHEMAS_MAX = 64,
    STREAM_SCHEMA_BYTES_MAX = 4096, /* of names as bulk strings: 64 of them are 256 KB at most */
    STREAM_SCHEMA_FIELDS_MAX = 256,
};

struct stream_schema_field {
    uint32_t name;   /* where the name begins among the bytes; the bulk string ends two bytes behind it */
    uint32_t length; /* of the name */
};

struct stream_schema {
    struct stream_id last_use; /* 0-0: none yet */
    uint32_t field_count;
    uint32_t bytes;                      /* of the bulk strings, which stand behind the fields */
    struct stream_schema_field fields[]; /* and then the bulk strings */
};

struct stream_schemas {
    struct stream_schema **list; /* owned, as are those in it */
    uint8_t count, capacity;
    uint8_t latest; /* found last */
};

/* The field names and values of an entry as XADD has them: name, value, name, value ... */
struct stream_fields {
    const struct span *spans;
    uint32_t count; /* of pairs; at least 1 */
};

/* The number of the schema with these names, made if there is none and there can be one; -1: there is none. Entries
 * before `first` are no more. */
int stream_schemas_find(struct stream_schemas *schemas, struct stream_fields fields, struct stream_id first);

/* Asks the processor for the schema that was found last: in step 0 for the list, in step 1 for the schema. */
static inline void stream_schemas_prefetch(const struct stream_schemas *schemas, unsigned step) {
    if (!schemas->count || step > 1) return;
    struct stream_schema **latest = &schemas->list[schemas->latest];
    __builtin_prefetch(step ? (const void *)*latest : (const void *)latest);
}

void stream_schemas_free(struct stream_schemas *schemas);
/* False: no memory; `copy` is empty then. */
bool stream_schemas_copy(const struct stream_schemas *schemas, struct stream_schemas *copy)
    __attribute__((warn_unused_result));
size_t stream_schemas_bytes(const struct stream_schemas *schemas);
/* For checkpoints. False: damaged, or no memory; `schemas`, which had nothing before, has to be freed in any case. */
void stream_schemas_save(const struct stream_schemas *schemas, struct state_writer *out);
bool stream_schemas_load(struct stream_schemas *schemas, struct state_reader *in) __attribute__((warn_unused_result));

/* ---- entries ---- */

/* What the packed entry takes; `schema` is what stream_schemas_find() said. */
size_t stream_entry_bytes(struct stream_fields fields, int schema);
/* Packs it to `at`, which has room for so many. */
void stream_entry_pack(struct stream_fields fields, int schema, char *at);

/* An entry being read:
 *
 *   stream_entry_open(&entry, schemas, bytes);
 *   while (stream_entry_next(&entry)) ... entry.name, entry.value ...
 *
 * The spans hold as long as the entry's bytes and the schemas. */
struct stream_entry {
    uint32_t count; /* of fields */
    struct span name, value;
    struct span name_bulk; /* the name as a bulk string; empty when the entry has names of its own */

    /* the reader's own */
    const struct stream_schema *schema;
    const char *at, *end;
    uint32_t index;
    uint32_t bulk_at;
};

void stream_entry_open(struct stream_entry *entry, const struct stream_schemas *schemas, struct span bytes);
bool stream_entry_next(struct stream_entry *entry);

/* Numbers in packed bytes, for what else a stream packs. */
static inline char *stream_pack_number(char *at, uint64_t number) {
    for (; number >= 0x80; number >>= 7) *at++ = (char)(number | 0x80);
    *at++ = (char)number;
    return at;
}
static inline uint64_t stream_unpack_number(const char **at) {
    uint64_t number = 0;
    unsigned shift = 0;
    unsigned char byte;
    do {
        byte = (unsigned char)*(*at)++;
        number |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    return number;
}
static inline size_t stream_number_bytes(uint64_t number) {
    return 1 + (63 - (unsigned)__builtin_clzll(number | 1)) / 7;
}

#endif
