/* The elements of RDB, byte by byte, and buffers that grow or are drained. */

#include "persist/lzf_compress.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static struct rdb_output output;

#define expect(bytes_)                                                                                                 \
    do {                                                                                                               \
        assert_false(output.failed);                                                                                   \
        assert_int_equal(output.length, sizeof(bytes_) - 1);                                                           \
        assert_memory_equal(output.bytes, bytes_, sizeof(bytes_) - 1);                                                 \
        rdb_output_clear(&output);                                                                                     \
    } while (0)

static int begin(void **state) {
    (void)state;
    rdb_output_init(&output, 8);
    return 0;
}
static int end(void **state) {
    (void)state;
    rdb_output_free(&output);
    return 0;
}

static void lengths_take_one_to_nine_bytes(void **state) {
    (void)state;
    rdb_put_length(&output, 0);
    expect("\x00");
    rdb_put_length(&output, 63);
    expect("\x3f");
    rdb_put_length(&output, 64);
    expect("\x40\x40");
    rdb_put_length(&output, 16383);
    expect("\x7f\xff");
    rdb_put_length(&output, 16384);
    expect("\x80\x00\x00\x40\x00");
    rdb_put_length(&output, UINT32_MAX);
    expect("\x80\xff\xff\xff\xff");
    rdb_put_length(&output, UINT64_C(1) << 32);
    expect("\x81\x00\x00\x00\x01\x00\x00\x00\x00");
    rdb_put_length(&output, UINT64_MAX);
    expect("\x81\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void integers_are_as_short_as_can_be(void **state) {
    (void)state;
    rdb_put_string(&output, SPAN_LITERAL("-128"), true);
    expect("\xc0\x80");
    rdb_put_string(&output, SPAN_LITERAL("128"), true);
    expect("\xc1\x80\x00");
    rdb_put_string(&output, SPAN_LITERAL("-32769"), true);
    expect("\xc2\xff\x7f\xff\xff");
    rdb_put_string(&output, SPAN_LITERAL("-2147483648"), true);
    expect("\xc2\x00\x00\x00\x80");
    rdb_put_string(&output, SPAN_LITERAL("2147483648"), true);
    expect("\x0a"
           "2147483648");
    rdb_put_integer(&output, INT64_MIN);
    expect("\x14-9223372036854775808");
    rdb_put_string(&output, SPAN_LITERAL("007"), true);
    expect("\x03"
           "007");
    rdb_put_string(&output, SPAN_LITERAL(""), true);
    expect("\x00");
    rdb_put_string(&output, SPAN_LITERAL("-"), true);
    expect("\x01-");
}

static void strings_over_twenty_bytes_are_compressed_where_that_pays(void **state) {
    (void)state;
    const char twenty[] = "aaaaaaaaaaaaaaaaaaaa", more[] = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
    rdb_put_string(&output, span_of_text(twenty), true);
    expect("\x14"
           "aaaaaaaaaaaaaaaaaaaa");
    rdb_put_string(&output, span_of_text(more), false);
    expect("\x1a"
           "aaaaaaaaaaaaaaaaaaaaaaaaaa");
    rdb_put_string(&output, span_of_text(more), true);
    assert_true(output.length < 12);
    assert_int_equal(output.bytes[0], RDB_STRING_LZF);
    assert_int_equal(output.bytes[1], output.length - 3);
    assert_int_equal(output.bytes[2], 26);
    rdb_output_clear(&output);
    rdb_put_string(&output, SPAN_LITERAL("abcdefghijklmnopqrstuvwxyz"), true);
    expect("\x1a"
           "abcdefghijklmnopqrstuvwxyz");
}

static bool comes_out_compressed(const char *text) {
    rdb_put_string(&output, span_of_text(text), true);
    bool compressed = output.bytes[0] == RDB_STRING_LZF;
    rdb_output_clear(&output);
    return compressed;
}

/* Only so many are tried again, and the first that can be compressed ends it. */
static void compression_is_given_up_for_a_while_where_it_does_not_pay(void **state) {
    (void)state;
    const char *repeats = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", *none = "abcdefghijklmnopqrstuvwxyz012345";
    assert_true(comes_out_compressed(repeats));
    for (unsigned i = 0; i < 100; i++) assert_false(comes_out_compressed(none));
    unsigned plain = 0;
    while (!comes_out_compressed(repeats)) assert_true(++plain < 16);
    assert_true(plain > 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(comes_out_compressed(repeats));
        assert_false(comes_out_compressed(none));
    }
}

/* ---- drains ---- */

enum { LONG = 100000 };
static struct {
    char bytes[2 * LONG];
    size_t length, calls, refuse_from;
} drained;

static bool drain(void *ctx, const void *bytes, size_t length) {
    (void)ctx;
    if (++drained.calls >= drained.refuse_from) return false;
    assert_true(drained.length + length <= sizeof(drained.bytes));
    memcpy(drained.bytes + drained.length, bytes, length);
    drained.length += length;
    return true;
}

static void what_is_long_goes_by(void **state) {
    (void)state;
    char *text = calloc(1, LONG);
    for (unsigned i = 0; i < LONG; i++) text[i] = (char)(i * 7 ^ i >> 8);
    memset(&drained, 0, sizeof(drained));
    drained.refuse_from = SIZE_MAX;
    output.drain = drain;
    rdb_put_byte(&output, 1);
    rdb_put_blob(&output, span_of(text, LONG), false);
    rdb_put_byte(&output, 2);
    assert_false(output.failed);
    assert_true(output.capacity < 100);
    assert_int_equal(drained.length + output.length, 1 + 5 + LONG + 1);
    assert_memory_equal(drained.bytes + 6, text, LONG);
    drained.refuse_from = drained.calls + 1;
    rdb_put_blob(&output, span_of(text, LONG), false);
    assert_true(output.failed);
    drained.refuse_from = SIZE_MAX;
    size_t calls = drained.calls;
    rdb_put_blob(&output, span_of(text, LONG), false);
    assert_int_equal(drained.calls, calls);
    free(text);
}

static void what_was_put_can_be_taken_away(void **state) {
    (void)state;
    size_t length, capacity;
    rdb_put_bytes(&output, "12345678", 8);
    char *bytes = rdb_output_take(&output, 2, &length, &capacity);
    assert_true(length == 8 && capacity >= 10 && memcmp(bytes, "12345678", 8) == 0);
    free(bytes);
    rdb_put_byte(&output, 'x'); /* into another */
    expect("x");
    /* Much that was not needed goes back. */
    assert_non_null(rdb_output_room(&output, 1 << 20));
    rdb_put_byte(&output, 'y');
    bytes = rdb_output_take(&output, 2, &length, &capacity);
    assert_true(length == 1 && capacity == 3 && bytes[0] == 'y');
    free(bytes);
    output.failed = true;
    assert_null(rdb_output_take(&output, 2, &length, &capacity));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lengths_take_one_to_nine_bytes, begin, end),
        cmocka_unit_test_setup_teardown(integers_are_as_short_as_can_be, begin, end),
        cmocka_unit_test_setup_teardown(strings_over_twenty_bytes_are_compressed_where_that_pays, begin, end),
        cmocka_unit_test_setup_teardown(compression_is_given_up_for_a_while_where_it_does_not_pay, begin, end),
        cmocka_unit_test_setup_teardown(what_was_put_can_be_taken_away, begin, end),
        cmocka_unit_test_setup_teardown(what_is_long_goes_by, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
