/* Schemas and packed entries: names once, entries with and without a schema, the bound, and places that are free again.
 */

#include "keyspace/stream_schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { FIELDS_MAX = 300 };

/* Packs the fields, reads them again, and tells the packed length. */
static size_t round_trip(struct stream_schemas *schemas, struct stream_fields fields, int schema) {
    size_t length = stream_entry_bytes(fields, schema);
    char *bytes = malloc(length);
    struct stream_entry entry;
    stream_entry_pack(fields, schema, bytes);
    stream_entry_open(&entry, schemas, span_of(bytes, length));
    assert_int_equal(entry.count, fields.count);
    for (uint32_t i = 0; i < fields.count; i++) {
        char header[32];
        struct span name = fields.spans[2 * i];
        assert_true(stream_entry_next(&entry));
        assert_true(span_equal(entry.name, name));
        assert_true(span_equal(entry.value, fields.spans[2 * i + 1]));
        if (schema < 0) continue;
        size_t head = (size_t)snprintf(header, sizeof(header), "$%zu\r\n", name.length);
        assert_int_equal(entry.name_bulk.length, head + name.length + 2);
        assert_memory_equal(entry.name_bulk.data, header, head);
        assert_memory_equal(entry.name_bulk.data + head + name.length, "\r\n", 2);
    }
    assert_false(stream_entry_next(&entry));
    assert_ptr_equal(entry.at, entry.end);
    free(bytes);
    return length;
}

static struct stream_fields fields_named(struct span spans[4], const char *first, const char *second) {
    spans[0] = span_of_text(first);
    spans[1] = span_of_text("12345678");
    spans[2] = span_of_text(second);
    spans[3] = span_of_text("abcdefgh");
    return (struct stream_fields){spans, 2};
}

static void entries_of_a_kind_share_their_names(void **state) {
    (void)state;
    struct stream_schemas schemas = {0};
    struct span spans[4];
    struct stream_fields fields = fields_named(spans, "temperature", "");
    assert_int_equal(stream_schemas_find(&schemas, fields, STREAM_ID_MAX), 0);
    schemas.list[0]->last_use = (struct stream_id){5, 0};
    assert_int_equal(stream_schemas_find(&schemas, fields, (struct stream_id){1, 0}), 0);
    assert_int_equal(round_trip(&schemas, fields, 0), 1 + 1 + 8 + 8);
    fields = fields_named(spans, "temperature", "x");
    assert_int_equal(stream_schemas_find(&schemas, fields, (struct stream_id){1, 0}), 1);
    round_trip(&schemas, fields, 1);
    stream_schemas_free(&schemas);
}

static void entries_can_have_names_of_their_own(void **state) {
    (void)state;
    struct stream_schemas schemas = {0};
    struct span spans[4];
    assert_int_equal(round_trip(&schemas, fields_named(spans, "a", ""), -1), 1 + 1 + 2 + 9 + 1 + 8);
}

static void kinds_are_bounded_and_their_places_used_again(void **state) {
    (void)state;
    struct stream_schemas schemas = {0};
    struct span spans[4];
    char name[16];
    for (unsigned i = 0; i < STREAM_SCHEMAS_MAX; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        int found = stream_schemas_find(&schemas, fields_named(spans, name, "b"), (struct stream_id){1, 0});
        assert_int_equal(found, i);
        schemas.list[found]->last_use = (struct stream_id){i + 1, 0};
    }
    struct stream_fields more = fields_named(spans, "more", "b");
    assert_int_equal(stream_schemas_find(&schemas, more, (struct stream_id){1, 0}), -1);
    assert_int_equal(stream_schemas_find(&schemas, more, (struct stream_id){1, 1}), 0);
    struct stream_schemas copy;
    assert_true(stream_schemas_copy(&schemas, &copy));
    assert_int_equal(stream_schemas_bytes(&copy), stream_schemas_bytes(&schemas));
    stream_schemas_free(&schemas);
    round_trip(&copy, more, 0);
    stream_schemas_free(&copy);
}

static void large_kinds_are_not_kept(void **state) {
    (void)state;
    struct stream_schemas schemas = {0};
    struct span spans[2 * FIELDS_MAX];
    char *long_name = calloc(1, STREAM_SCHEMA_BYTES_MAX);
    for (unsigned i = 0; i < 2 * FIELDS_MAX; i++) spans[i] = span_of_text("f");
    struct stream_fields fields = {spans, FIELDS_MAX};
    assert_int_equal(stream_schemas_find(&schemas, fields, STREAM_ID_MAX), -1);
    round_trip(&schemas, fields, -1);
    spans[0] = span_of(long_name, STREAM_SCHEMA_BYTES_MAX);
    assert_int_equal(stream_schemas_find(&schemas, (struct stream_fields){spans, 1}, STREAM_ID_MAX), -1);
    round_trip(&schemas, (struct stream_fields){spans, 1}, -1);
    free(long_name);
    stream_schemas_free(&schemas);
}

static void numbers_of_any_size_are_packed(void **state) {
    (void)state;
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t number = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
        char bytes[10];
        const char *at = bytes;
        assert_int_equal(stream_pack_number(bytes, number) - bytes, stream_number_bytes(number));
        assert_true(stream_unpack_number(&at) == number);
        assert_int_equal(at - bytes, stream_number_bytes(number));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_of_a_kind_share_their_names),
        cmocka_unit_test(entries_can_have_names_of_their_own),
        cmocka_unit_test(kinds_are_bounded_and_their_places_used_again),
        cmocka_unit_test(large_kinds_are_not_kept),
        cmocka_unit_test(numbers_of_any_size_are_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
