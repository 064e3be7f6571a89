/* Elements of RDB, read from memory and from a reader that gives a few bytes at a time: lengths and strings of every
 * form; lies about lengths; where the first failure is. */

#include "persist/crc64.h"
#include "persist/rdb_input.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_output.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

struct source {
    const uint8_t *bytes;
    size_t length, at, piece;
    bool fails;
};

static long read_source(void *ctx, void *buffer, size_t room) {
    struct source *source = ctx;
    size_t left = source->length - source->at;
    if (source->fails && left == 0) return -1;
    if (room > source->piece) room = source->piece;
    if (room > left) room = left;
    memcpy(buffer, source->bytes + source->at, room);
    source->at += room;
    return (long)room;
}

/* The same bytes in three ways. */
typedef void checking(struct rdb_input *input);
static void read_in_every_way(struct span bytes, checking *check) {
    struct rdb_input input;
    char *exact = malloc(bytes.length ? bytes.length : 1);
    if (bytes.length) memcpy(exact, bytes.data, bytes.length);
    rdb_input_of_memory(&input, span_of(exact, bytes.length), 0);
    check(&input);
    for (size_t piece = 1; piece < 12; piece += 10)
        for (unsigned known = 0; known < 2; known++) {
            struct source source = {(const uint8_t *)exact, bytes.length, 0, piece, false};
            assert_true(rdb_input_of_reader(&input, read_source, &source, known ? bytes.length : UINT64_MAX, true));
            check(&input);
            rdb_input_free(&input);
        }
    free(exact);
}

static const uint64_t lengths[] = {0, 1, 63, 64, 16383, 16384, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX};
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

static void check_lengths(struct rdb_input *input) {
    for (unsigned i = 0; i < LENGTHS; i++) assert_int_equal(rdb_get_length(input), lengths[i]);
    assert_int_equal(input->status, RDB_DONE);
    assert_int_equal(rdb_get_length(input), 0);
    assert_int_equal(input->status, RDB_ENDS_EARLY);
}

static void lengths_of_every_form(void **state) {
    (void)state;
    struct rdb_output output;
    rdb_output_init(&output, 0);
    for (unsigned i = 0; i < LENGTHS; i++) rdb_put_length(&output, lengths[i]);
    read_in_every_way(span_of(output.bytes, output.length), check_lengths);
    rdb_output_free(&output);
}

static const char *const texts[] = {
    "",           "a",     "-128",
    "127",        "32767", "-2147483648",
    "2147483648", "007",   "compressible compressible compressible compressible compressible"};
enum { TEXTS = sizeof(texts) / sizeof(texts[0]), LONG_TEXT = 500000 };
static char long_text[LONG_TEXT + 1];

static void check_texts(struct rdb_input *input) {
    struct rdb_text text = {0};
    for (unsigned i = 0; i < TEXTS; i++) {
        assert_true(rdb_get_text(input, &text));
        assert_true(span_equal(text.span, span_of_text(texts[i])));
    }
    assert_true(rdb_get_text(input, &text));
    assert_true(span_equal(text.span, span_of(long_text, LONG_TEXT)));
    assert_int_equal(rdb_input_left(input) == 0 || input->source_bytes == UINT64_MAX, 1);
    assert_int_equal(rdb_get_byte(input), 0);
    assert_int_equal(input->status, RDB_ENDS_EARLY);
    rdb_text_free(&text);
}

static void check_skipping(struct rdb_input *input) {
    for (unsigned i = 0; i < TEXTS + 1; i++) assert_true(rdb_skip_string(input));
    assert_false(rdb_skip_string(input));
    assert_int_equal(input->status, RDB_ENDS_EARLY);
}

static void strings_of_every_form(void **state) {
    (void)state;
    struct rdb_output output;
    rdb_output_init(&output, 0);
    for (size_t i = 0; i < LONG_TEXT; i++) long_text[i] = (char)('a' + i * i % 23);
    for (unsigned i = 0; i < TEXTS; i++) rdb_put_string(&output, span_of_text(texts[i]), true);
    rdb_put_string(&output, span_of(long_text, LONG_TEXT), false);
    read_in_every_way(span_of(output.bytes, output.length), check_texts);
    read_in_every_way(span_of(output.bytes, output.length), check_skipping);
    rdb_output_free(&output);
}

static void scores_of_both_forms(void **state) {
    (void)state;
    struct rdb_input input;
    const char bytes[] = "\xfd\xfe\xff\x03"
                         "1.5\x00\x00\x00\x00\x00\x00\x04\x40";
    rdb_input_of_memory(&input, span_of(bytes, sizeof(bytes) - 1), 0);
    assert_true(isnan(rdb_get_text_double(&input)));
    assert_true(rdb_get_text_double(&input) == (double)INFINITY);
    assert_true(rdb_get_text_double(&input) == -(double)INFINITY);
    assert_true(rdb_get_text_double(&input) == 1.5);
    assert_true(rdb_get_double(&input) == 2.5);
    assert_int_equal(input.status, RDB_DONE);
}

static void expect_failure(const char *bytes, size_t length, enum rdb_status status) {
    for (unsigned way = 0; way < 3; way++) {
        struct rdb_input input;
        struct rdb_text text = {0};
        struct source source = {(const uint8_t *)bytes, length, 0, 3, false};
        if (way == 0)
            rdb_input_of_memory(&input, span_of(bytes, length), 0);
        else
            assert_true(rdb_input_of_reader(&input, read_source, &source, way == 1 ? length : UINT64_MAX, false));
        assert_false(rdb_get_text(&input, &text));
        assert_int_equal(input.status, status);
        assert_true(input.reason && input.failed_at <= length);
        assert_true(text.capacity < 1 << 20); /* whatever length was claimed */
        rdb_text_free(&text);
        rdb_input_free(&input);
    }
}

static void lies_are_found_before_memory_is_taken(void **state) {
    (void)state;
    expect_failure("\x80\x1f\xff\xff\xff"
                   "abc",
                   8, RDB_ENDS_EARLY); /* 512 MB less one, of which there are three */
    expect_failure("\x81\xff\xff\xff\xff\xff\xff\xff\xff"
                   "abc",
                   12, RDB_CORRUPT);
    expect_failure("\xc3\x01\x80\x1f\xff\xff\xff"
                   "abc",
                   10, RDB_CORRUPT); /* no byte expands to that */
    expect_failure("\xc3\x03\x08\xff\xff\xff", 6, RDB_CORRUPT);
    expect_failure("\xc4\x01\x02", 3, RDB_CORRUPT);
    expect_failure("\x8f\x01\x02", 3, RDB_CORRUPT);
    expect_failure("", 0, RDB_ENDS_EARLY);
}

static void counts_are_compared_with_what_is_left(void **state) {
    (void)state;
    struct rdb_input input;
    rdb_input_of_memory(&input, span_of("\x04zzzzzzzz", 9), 100);
    assert_int_equal(rdb_get_count(&input, 2), 4);
    rdb_input_of_memory(&input, span_of("\x05zzzzzzzz", 9), 100);
    assert_int_equal(rdb_get_count(&input, 2), 0);
    assert_int_equal(input.status, RDB_CORRUPT);
    assert_int_equal(input.failed_at, 101);
}

static void the_first_failure_stays(void **state) {
    (void)state;
    struct rdb_input input;
    rdb_input_of_memory(&input, span_of("ab", 2), 0);
    assert_int_equal(rdb_input_fail(&input, RDB_CORRUPT, "first"), RDB_CORRUPT);
    assert_int_equal(rdb_input_fail(&input, RDB_IO, "second"), RDB_CORRUPT);
    assert_string_equal(input.reason, "first");
    assert_int_equal(rdb_get_byte(&input), 0);
    assert_int_equal(rdb_get_u64(&input), 0);
    assert_false(rdb_skip_bytes(&input, 1));
}

static void a_source_that_fails_is_told(void **state) {
    (void)state;
    struct rdb_input input;
    struct source source = {(const uint8_t *)"ab", 2, 0, 1, true};
    assert_true(rdb_input_of_reader(&input, read_source, &source, UINT64_MAX, false));
    assert_int_equal(rdb_get_byte(&input), 'a');
    assert_int_equal(rdb_get_byte(&input), 'b');
    assert_int_equal(rdb_get_byte(&input), 0);
    assert_int_equal(input.status, RDB_IO);
    rdb_input_free(&input);
}

static void the_sum_is_of_what_was_taken(void **state) {
    (void)state;
    const char bytes[] = "123456789 and what follows";
    for (size_t piece = 1; piece < 30; piece += 7) {
        struct rdb_input input;
        struct source source = {(const uint8_t *)bytes, sizeof(bytes) - 1, 0, piece, false};
        assert_true(rdb_input_of_reader(&input, read_source, &source, UINT64_MAX, true));
        assert_true(rdb_skip_bytes(&input, 9));
        assert_int_equal(rdb_input_checksum(&input), UINT64_C(0xe9c6d914c4b8d9ca));
        assert_int_equal(rdb_get_byte(&input), ' ');
        assert_int_equal(rdb_input_checksum(&input), crc64(0, bytes, 10));
        assert_int_equal(rdb_input_offset(&input), 10);
        rdb_input_free(&input);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_of_every_form),
        cmocka_unit_test(strings_of_every_form),
        cmocka_unit_test(scores_of_both_forms),
        cmocka_unit_test(lies_are_found_before_memory_is_taken),
        cmocka_unit_test(counts_are_compared_with_what_is_left),
        cmocka_unit_test(the_first_failure_stays),
        cmocka_unit_test(a_source_that_fails_is_told),
        cmocka_unit_test(the_sum_is_of_what_was_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
