/* Ziplists and zipmaps: every form of an entry; and that no byte of them, wrong or missing, leads outside. */

#include "persist/rdb_old_packing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { ROOM = 80000 };

/* ---- made here ---- */

struct made {
    uint8_t bytes[ROOM];
    size_t length, last, count;
};

static void begin_ziplist(struct made *made) {
    *made = (struct made){.length = 10, .last = 10};
}

static void add_entry(struct made *made, const void *content, size_t length) {
    size_t previous = made->count ? made->length - made->last : 0;
    made->last = made->length;
    if (previous < 254) {
        made->bytes[made->length++] = (uint8_t)previous;
    } else {
        made->bytes[made->length++] = 254;
        memcpy(made->bytes + made->length, &(const uint32_t){(uint32_t)previous}, 4);
        made->length += 4;
    }
    memcpy(made->bytes + made->length, content, length);
    made->length += length;
    made->count++;
}

static void add_text(struct made *made, const char *text, size_t length) {
    uint8_t *entry = malloc(length + 5);
    size_t head = 1;
    if (length < 64) {
        entry[0] = (uint8_t)length;
    } else if (length < 16384) {
        entry[0] = (uint8_t)(0x40 | length >> 8);
        entry[1] = (uint8_t)length;
        head = 2;
    } else {
        entry[0] = 0x80;
        for (unsigned i = 0; i < 4; i++) entry[1 + i] = (uint8_t)(length >> (24 - 8 * i));
        head = 5;
    }
    memcpy(entry + head, text, length);
    add_entry(made, entry, head + length);
    free(entry);
}

static struct span end_ziplist(struct made *made) {
    made->bytes[made->length++] = 255;
    memcpy(made->bytes, &(const uint32_t){(uint32_t)made->length}, 4);
    memcpy(made->bytes + 4, &(const uint32_t){(uint32_t)made->last}, 4);
    memcpy(made->bytes + 8, &(const uint16_t){(uint16_t)made->count}, 2);
    return span_of(made->bytes, made->length);
}

/* ---- ziplists ---- */

static void expect_next(struct rdb_ziplist *list, const char *wanted, size_t length) {
    char room[NUMBER_TEXT_MAX];
    struct span text;
    assert_int_equal(rdb_ziplist_next(list, &text, room), RDB_ENTRY);
    assert_int_equal(text.length, length);
    assert_memory_equal(text.data, wanted, length);
}

static void every_form_of_an_entry(void **state) {
    (void)state;
    static struct made made;
    static char long_text[20000];
    struct rdb_ziplist list;
    struct span text;
    char room[NUMBER_TEXT_MAX];
    memset(long_text, 'x', sizeof(long_text));
    begin_ziplist(&made);
    add_text(&made, "short", 5);
    add_text(&made, "", 0);
    add_text(&made, long_text, 1000);
    add_text(&made, long_text, 20000);
    add_entry(&made, "\xc0\x18\xfc", 3);                         /* -1000 */
    add_entry(&made, "\xd0\x00\x00\x00\x80", 5);                 /* -2147483648 */
    add_entry(&made, "\xe0\xff\xff\xff\xff\xff\xff\xff\x7f", 9); /* 9223372036854775807 */
    add_entry(&made, "\xf0\xff\xff\xff", 4);                     /* -1 */
    add_entry(&made, "\xfe\x80", 2);                             /* -128 */
    add_entry(&made, "\xf1", 1);
    add_entry(&made, "\xfd", 1);
    assert_true(rdb_ziplist_open(&list, end_ziplist(&made)));
    expect_next(&list, "short", 5);
    expect_next(&list, "", 0);
    expect_next(&list, long_text, 1000);
    expect_next(&list, long_text, 20000);
    const char *numbers[] = {"-1000", "-2147483648", "9223372036854775807", "-1", "-128", "0", "12"};
    for (unsigned i = 0; i < 7; i++) expect_next(&list, numbers[i], strlen(numbers[i]));
    assert_int_equal(rdb_ziplist_next(&list, &text, room), RDB_ENTRY_END);
}

static void an_empty_one(void **state) {
    (void)state;
    static struct made made;
    struct rdb_ziplist list;
    struct span text;
    char room[NUMBER_TEXT_MAX];
    begin_ziplist(&made);
    assert_true(rdb_ziplist_open(&list, end_ziplist(&made)));
    assert_int_equal(rdb_ziplist_next(&list, &text, room), RDB_ENTRY_END);
}

/* Reads all of it from memory of exactly its size; whether it is sound. */
static bool read_ziplist(struct span bytes) {
    struct rdb_ziplist list;
    struct span text;
    char room[NUMBER_TEXT_MAX];
    enum rdb_entry found = RDB_ENTRY_BAD;
    char *exact = malloc(bytes.length ? bytes.length : 1);
    if (bytes.length) memcpy(exact, bytes.data, bytes.length);
    size_t sum = 0;
    if (rdb_ziplist_open(&list, span_of(exact, bytes.length)))
        while ((found = rdb_ziplist_next(&list, &text, room)) == RDB_ENTRY)
            for (size_t i = 0; i < text.length; i++) sum += (unsigned char)text.data[i];
    free(exact);
    return found == RDB_ENTRY_END && sum != SIZE_MAX;
}

static void damage_of_a_ziplist_stays_inside(void **state) {
    (void)state;
    static struct made made;
    begin_ziplist(&made);
    add_text(&made, "field", 5);
    add_entry(&made, "\xc0\x18\xfc", 3);
    add_text(&made, "another", 7);
    add_entry(&made, "\xf3", 1);
    struct span whole = end_ziplist(&made);
    assert_true(read_ziplist(whole));
    for (size_t cut = 0; cut < whole.length; cut++) assert_false(read_ziplist(span_of(whole.data, cut)));
    for (size_t bit = 0; bit < 8 * whole.length; bit++) {
        made.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        (void)read_ziplist(whole);
        made.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t i = 0; i < 10; i++) { /* the header: length, last entry, count */
        made.bytes[i] ^= 1;
        assert_false(read_ziplist(whole));
        made.bytes[i] ^= 1;
    }
}

/* ---- zipmaps ---- */

static const char zipmap[] = "\x02\x01"
                             "a\x01\x02"
                             "x??\x03"
                             "key\x05\x00value\xff";

static bool read_zipmap(struct span bytes, unsigned *count) {
    struct rdb_zipmap map;
    struct span field, value;
    enum rdb_entry found = RDB_ENTRY_BAD;
    char *exact = malloc(bytes.length ? bytes.length : 1);
    if (bytes.length) memcpy(exact, bytes.data, bytes.length);
    *count = 0;
    if (rdb_zipmap_open(&map, span_of(exact, bytes.length)))
        while ((found = rdb_zipmap_next(&map, &field, &value)) == RDB_ENTRY)
            *count += 1 + (field.length > SIZE_MAX / 2);
    free(exact);
    return found == RDB_ENTRY_END;
}

static void a_zipmap(void **state) {
    (void)state;
    struct rdb_zipmap map;
    struct span field, value;
    unsigned count;
    const struct span whole = span_of(zipmap, sizeof(zipmap) - 1);
    assert_true(rdb_zipmap_open(&map, whole));
    assert_int_equal(rdb_zipmap_next(&map, &field, &value), RDB_ENTRY);
    assert_true(span_equal(field, SPAN_LITERAL("a")) && span_equal(value, SPAN_LITERAL("x")));
    assert_int_equal(rdb_zipmap_next(&map, &field, &value), RDB_ENTRY);
    assert_true(span_equal(field, SPAN_LITERAL("key")) && span_equal(value, SPAN_LITERAL("value")));
    assert_int_equal(rdb_zipmap_next(&map, &field, &value), RDB_ENTRY_END);
    char damaged[sizeof(zipmap)];
    for (size_t cut = 0; cut < whole.length; cut++) assert_false(read_zipmap(span_of(zipmap, cut), &count));
    for (size_t bit = 0; bit < 8 * whole.length; bit++) {
        memcpy(damaged, zipmap, sizeof(zipmap));
        damaged[bit / 8] = (char)(damaged[bit / 8] ^ 1 << bit % 8);
        (void)read_zipmap(span_of(damaged, whole.length), &count);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_an_entry),
        cmocka_unit_test(an_empty_one),
        cmocka_unit_test(damage_of_a_ziplist_stays_inside),
        cmocka_unit_test(a_zipmap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
