/* The bytes and counts of redis-server 7.0.15 after the same commands, kept here as digests of the registers' part; and
 * values damaged at random, which must be refused or counted but never read or written outside their bytes. */

#include "record/hyperloglog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { SPARSE_BYTES_MAX = 3000 };

static struct span span_of_buffer(const struct hyperloglog_buffer *buffer) {
    return span_of(buffer->bytes, buffer->length);
}

/* FNV-1a of everything behind the header. */
static uint64_t digest_registers(const struct hyperloglog_buffer *buffer) {
    uint64_t digest = 0xcbf29ce484222325u;
    for (size_t i = HYPERLOGLOG_HEADER_BYTES; i < buffer->length; i++) {
        digest = (digest ^ buffer->bytes[i]) * 0x100000001b3u;
    }
    return digest;
}

static bool add(struct hyperloglog_buffer *buffer, const char *element, size_t sparse_bytes_max) {
    bool changed;
    assert_int_equal(hyperloglog_add(buffer, span_of_text(element), sparse_bytes_max, &changed), HYPERLOGLOG_OK);
    return changed;
}

static void add_numbered(struct hyperloglog_buffer *buffer, const char *format, unsigned from, unsigned to,
                         size_t sparse_bytes_max) {
    for (unsigned i = from; i < to; i++) {
        char element[32];
        snprintf(element, sizeof(element), format, i);
        add(buffer, element, sparse_bytes_max);
    }
}

static uint64_t count(const struct hyperloglog_buffer *buffer) {
    uint64_t result;
    assert_int_equal(hyperloglog_count(span_of_buffer(buffer), &result), HYPERLOGLOG_OK);
    return result;
}

static void new_value_is_one_run_and_counts_nothing(void **state) {
    (void)state;
    struct hyperloglog_buffer buffer = {0};
    assert_int_equal(hyperloglog_create(&buffer), HYPERLOGLOG_OK);
    assert_int_equal(buffer.length, 18);
    assert_memory_equal(buffer.bytes, "HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff", 18);
    uint64_t cached = 77;
    assert_true(hyperloglog_cached_count(span_of_buffer(&buffer), &cached));
    assert_true(cached == 0);
    assert_true(count(&buffer) == 0);
    hyperloglog_invalidate_count(buffer.bytes);
    assert_memory_equal(buffer.bytes, "HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff", 18);
    free(buffer.bytes);
}

static void small_value_has_the_bytes_of_redis(void **state) {
    (void)state;
    static const uint8_t expected[] = {0x48, 0x59, 0x4c, 0x4c, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                       0x00, 0x00, 0x00, 0x00, 0x80, 0x57, 0x31, 0x84, 0x49, 0xc0, 0x80,
                                       0x43, 0x0a, 0x80, 0x4d, 0xa5, 0x84, 0x4b, 0xfb, 0x80, 0x42, 0x5a};
    struct hyperloglog_buffer buffer = {0};
    assert_int_equal(hyperloglog_create(&buffer), HYPERLOGLOG_OK);
    static const char *const elements[] = {"a", "b", "c", "hello", ""};
    for (size_t i = 0; i < 5; i++) assert_true(add(&buffer, elements[i], SPARSE_BYTES_MAX));
    assert_false(add(&buffer, "hello", SPARSE_BYTES_MAX));
    assert_int_equal(buffer.length, sizeof(expected));
    assert_memory_equal(buffer.bytes, expected, sizeof(expected));

    uint64_t cached;
    assert_false(hyperloglog_cached_count(span_of_buffer(&buffer), &cached));
    hyperloglog_store_count(buffer.bytes, count(&buffer));
    assert_true(hyperloglog_cached_count(span_of_buffer(&buffer), &cached));
    assert_true(cached == 5);
    assert_memory_equal(buffer.bytes + 8, "\x05\0\0\0\0\0\0\0", 8);

    char *text;
    size_t length;
    static const char decoded[] = "Z:5938 v:2,1 Z:2497 v:1,1 Z:779 v:1,1 Z:3494 v:2,1 Z:3068 v:1,1 Z:603";
    assert_int_equal(hyperloglog_decode(span_of_buffer(&buffer), &text, &length), HYPERLOGLOG_OK);
    assert_int_equal(length, sizeof(decoded) - 1);
    assert_memory_equal(text, decoded, length);
    free(text);
    free(buffer.bytes);
}

static void bytes_and_counts_follow_redis_while_growing(void **state) {
    (void)state;
    static const struct {
        size_t sparse_bytes_max;
        unsigned elements;
        size_t length;
        uint64_t digest;
        uint64_t count;
    } points[] = {
        {3000, 1, 21, 0x82673b491f12448du, 1},
        {3000, 10, 48, 0x99f37a39ac52364bu, 10},
        {3000, 100, 285, 0x5e1fa99a223efc4au, 99},
        {3000, 1000, 1897, 0xb41520daf438aeefu, 997},
        {3000, 2000, 12304, 0x9cc6641868e78962u, 2004},
        {3000, 5000, 12304, 0xe713bbcef57f9201u, 5005},
        {3000, 20000, 12304, 0x7b530afb0cb858f0u, 19986},
        {3000, 100000, 12304, 0x12deb2ba6a83edeeu, 100039},
        {3000, 300000, 12304, 0xfc55a0897ed31a6eu, 298112},
        {60, 1, 21, 0x82673b491f12448du, 1},
        {60, 10, 48, 0x99f37a39ac52364bu, 10},
        {60, 100, 12304, 0x2326b9bbddbaaa6au, 99},
        {60, 1000, 12304, 0xd4992cbc68c7e1eeu, 997},
        {20000, 5000, 7205, 0x4532bbe8f903d32eu, 5005},
        {20000, 20000, 13093, 0x4d11d4a8be7bd302u, 19986},
        {20000, 100000, 13619, 0x3421000fd640b1b4u, 100039},
    };
    struct hyperloglog_buffer buffer = {0};
    unsigned elements = 0;
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        if (i == 0 || points[i].sparse_bytes_max != points[i - 1].sparse_bytes_max) {
            assert_int_equal(hyperloglog_create(&buffer), HYPERLOGLOG_OK);
            elements = 0;
        }
        add_numbered(&buffer, "element:%u", elements, points[i].elements, points[i].sparse_bytes_max);
        elements = points[i].elements;
        assert_int_equal(buffer.length, points[i].length);
        assert_true(digest_registers(&buffer) == points[i].digest);
        assert_true(count(&buffer) == points[i].count);
        assert_int_equal(hyperloglog_validate(span_of_buffer(&buffer)), HYPERLOGLOG_OK);
    }
    free(buffer.bytes);
}

static struct hyperloglog_buffer numbered_value(const char *format, unsigned elements) {
    struct hyperloglog_buffer buffer = {0};
    assert_int_equal(hyperloglog_create(&buffer), HYPERLOGLOG_OK);
    add_numbered(&buffer, format, 0, elements, SPARSE_BYTES_MAX);
    return buffer;
}

static void merge_has_the_bytes_of_redis(void **state) {
    (void)state;
    struct hyperloglog_buffer x = numbered_value("x:%u", 300), y = numbered_value("y:%u", 400), z = {0};
    assert_int_equal(x.length, 691);
    assert_int_equal(y.length, 881);

    static struct hyperloglog_registers registers;
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&x)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&y)), HYPERLOGLOG_OK);
    assert_false(registers.has_dense);
    assert_true(hyperloglog_count_registers(&registers) == 701);
    assert_int_equal(hyperloglog_create(&z), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_store_registers(&z, &registers, SPARSE_BYTES_MAX), HYPERLOGLOG_OK);
    assert_int_equal(z.length, 1403);
    assert_true(digest_registers(&z) == 0x1b4a5a0cf7b20bdfu);
    assert_true(count(&z) == 701);

    add_numbered(&y, "y:%u", 0, 4000, SPARSE_BYTES_MAX);
    assert_true(hyperloglog_is_dense(span_of_buffer(&y)));
    memset(&registers, 0, sizeof(registers));
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&x)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&y)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_store_registers(&x, &registers, SPARSE_BYTES_MAX), HYPERLOGLOG_OK);
    assert_int_equal(x.length, HYPERLOGLOG_DENSE_BYTES);
    assert_true(digest_registers(&x) == 0x57433fea6759fd24u);
    assert_true(count(&x) == 4308);
    uint64_t cached;
    assert_false(hyperloglog_cached_count(span_of_buffer(&x), &cached));
    free(x.bytes);
    free(y.bytes);
    free(z.bytes);
}

/* In a crowded sparse value most registers are beside runs that can be joined. */
static void merge_into_a_crowded_sparse_value_has_the_bytes_of_redis(void **state) {
    (void)state;
    const size_t sparse_bytes_max = 20000;
    struct hyperloglog_buffer x = {0}, y = {0};
    assert_int_equal(hyperloglog_create(&x), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_create(&y), HYPERLOGLOG_OK);
    add_numbered(&x, "x:%u", 0, 5000, sparse_bytes_max);
    add_numbered(&y, "y:%u", 0, 6000, sparse_bytes_max);
    static struct hyperloglog_registers registers;
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&x)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&y)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_store_registers(&x, &registers, sparse_bytes_max), HYPERLOGLOG_OK);
    assert_int_equal(x.length, 11019);
    assert_true(digest_registers(&x) == 0xf15df2cce00ddefau);
    assert_true(count(&x) == 11043);
    free(x.bytes);
    free(y.bytes);
}

/* Every register a run of its own, as no sequence of commands leaves them: how far runs are joined shows in the bytes.
 */
static struct hyperloglog_buffer value_of_single_runs(void) {
    struct hyperloglog_buffer buffer = {0};
    buffer.length = buffer.capacity = HYPERLOGLOG_HEADER_BYTES + HYPERLOGLOG_REGISTERS;
    buffer.bytes = malloc(buffer.length);
    memset(buffer.bytes, 0x80, buffer.length);
    memcpy(buffer.bytes, "HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80", HYPERLOGLOG_HEADER_BYTES);
    return buffer;
}

static void runs_are_joined_as_far_as_redis_joins_them(void **state) {
    (void)state;
    const size_t sparse_bytes_max = 20000;
    struct hyperloglog_buffer added = value_of_single_runs(), merged = value_of_single_runs(), other = {0};
    add_numbered(&added, "c:%u", 0, 300, sparse_bytes_max);
    assert_int_equal(added.length, 15934);
    assert_true(digest_registers(&added) == 0x4ffa87266188057bu);
    assert_true(count(&added) == 23790);

    assert_int_equal(hyperloglog_create(&other), HYPERLOGLOG_OK);
    add_numbered(&other, "d:%u", 0, 20000, sparse_bytes_max);
    static struct hyperloglog_registers registers;
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&merged)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&other)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_store_registers(&merged, &registers, sparse_bytes_max), HYPERLOGLOG_OK);
    assert_int_equal(merged.length, 11285);
    assert_true(digest_registers(&merged) == 0x8fa24a89c4678b5eu);
    assert_true(count(&merged) == 34620);
    free(added.bytes);
    free(merged.bytes);
    free(other.bytes);
}

/* The first register raised is joined to a run that also takes in the second one; this is then split again, and what is
 * left of it joined to the run before. */
static void runs_joined_by_one_register_are_split_by_the_next(void **state) {
    (void)state;
    static const uint8_t before[] = "HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x84\x84\x80\x84\x7f\xfb";
    static const uint8_t after[] = "HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x86\x88\x7f\xfb";
    struct hyperloglog_buffer buffer = {0};
    assert_int_equal(hyperloglog_copy(&buffer, span_of(before, sizeof(before) - 1)), HYPERLOGLOG_OK);
    static struct hyperloglog_registers registers;
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&buffer)), HYPERLOGLOG_OK);
    registers.value[2] = 2;
    registers.value[3] = 3;
    assert_int_equal(hyperloglog_store_registers(&buffer, &registers, SPARSE_BYTES_MAX), HYPERLOGLOG_OK);
    assert_int_equal(buffer.length, sizeof(after) - 1);
    assert_memory_equal(buffer.bytes, after, sizeof(after) - 1);
    free(buffer.bytes);
}

static void registers_at_their_highest_count_as_in_redis(void **state) {
    (void)state;
    static struct hyperloglog_registers registers;
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS; i++) registers.value[i] = i % 3 == 0 ? 51 : i % 3 == 1 ? 50 : 7;
    assert_true(hyperloglog_count_registers(&registers) == 4538603);
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS; i++) registers.value[i] = i % 3 == 0 ? 51 : i % 40;
    assert_true(hyperloglog_count_registers(&registers) == 351347);
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS; i++) registers.value[i] = i % 3 == 0 ? 51 : 40;
    assert_true(hyperloglog_count_registers(&registers) == 19490165237514108u);
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS; i++) registers.value[i] = i % 3 == 0 ? 51 : 50;
    assert_true((int64_t)hyperloglog_count_registers(&registers) == INT64_MIN);
    memset(registers.value, 51, sizeof(registers.value));
    assert_true((int64_t)hyperloglog_count_registers(&registers) == INT64_MIN);
}

/* Both representations must say the same, register by register. */
static void dense_and_sparse_hold_the_same_registers(void **state) {
    (void)state;
    struct hyperloglog_buffer sparse = numbered_value("%u", 1200), dense = {0};
    assert_int_equal(hyperloglog_copy(&dense, span_of_buffer(&sparse)), HYPERLOGLOG_OK);
    hyperloglog_store_count(dense.bytes, 4711);
    assert_int_equal(hyperloglog_make_dense(&dense), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_make_dense(&dense), HYPERLOGLOG_OK);
    uint64_t cached;
    assert_true(hyperloglog_cached_count(span_of_buffer(&dense), &cached));
    assert_true(cached == 4711);

    static struct hyperloglog_registers from_sparse, from_dense;
    assert_int_equal(hyperloglog_merge(&from_sparse, span_of_buffer(&sparse)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_merge(&from_dense, span_of_buffer(&dense)), HYPERLOGLOG_OK);
    assert_memory_equal(from_sparse.value, from_dense.value, HYPERLOGLOG_REGISTERS);
    assert_true(count(&sparse) == count(&dense));
    assert_true(count(&sparse) == hyperloglog_count_registers(&from_dense));

    assert_true(hyperloglog_add_to_dense(dense.bytes, SPAN_LITERAL("quite another element")));
    assert_false(hyperloglog_add_to_dense(dense.bytes, SPAN_LITERAL("quite another element")));
    assert_true(add(&sparse, "quite another element", SPARSE_BYTES_MAX));
    assert_true(count(&sparse) == count(&dense));
    free(sparse.bytes);
    free(dense.bytes);
}

static void header_decides_what_is_no_hyperloglog(void **state) {
    (void)state;
    struct hyperloglog_buffer buffer = numbered_value("%u", 10);
    assert_int_equal(hyperloglog_check(span_of_buffer(&buffer)), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_check(span_of(buffer.bytes, 15)), HYPERLOGLOG_OTHER);
    assert_int_equal(hyperloglog_check(span_of(NULL, 0)), HYPERLOGLOG_OTHER);
    buffer.bytes[4] = 2;
    assert_int_equal(hyperloglog_check(span_of_buffer(&buffer)), HYPERLOGLOG_OTHER);
    buffer.bytes[4] = 0;
    assert_int_equal(hyperloglog_check(span_of_buffer(&buffer)), HYPERLOGLOG_OTHER);
    buffer.bytes[4] = 1;
    buffer.bytes[0] = 'h';
    assert_int_equal(hyperloglog_check(span_of_buffer(&buffer)), HYPERLOGLOG_OTHER);
    free(buffer.bytes);
}

/* `shown`: what PFDEBUG DECODE makes of it, which is every run that is whole. */
static void assert_corrupt(const char *runs, size_t length, const char *shown) {
    uint8_t *bytes = malloc(HYPERLOGLOG_HEADER_BYTES + length);
    memcpy(bytes, "HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80", HYPERLOGLOG_HEADER_BYTES);
    if (length > 0) memcpy(bytes + HYPERLOGLOG_HEADER_BYTES, runs, length);
    struct span value = span_of(bytes, HYPERLOGLOG_HEADER_BYTES + length);
    struct hyperloglog_buffer buffer = {bytes, value.length, value.length};
    static struct hyperloglog_registers registers;
    uint64_t result;
    char *text;
    size_t text_length;
    assert_int_equal(hyperloglog_check(value), HYPERLOGLOG_OK);
    assert_int_equal(hyperloglog_validate(value), HYPERLOGLOG_CORRUPT);
    assert_int_equal(hyperloglog_count(value, &result), HYPERLOGLOG_CORRUPT);
    assert_int_equal(hyperloglog_merge(&registers, value), HYPERLOGLOG_CORRUPT);
    assert_int_equal(hyperloglog_make_dense(&buffer), HYPERLOGLOG_CORRUPT);
    assert_int_equal(hyperloglog_decode(value, &text, &text_length), HYPERLOGLOG_OK);
    assert_int_equal(text_length, strlen(shown));
    assert_memory_equal(text, shown, text_length);
    free(text);
    free(buffer.bytes);
}

static void runs_that_miss_the_number_of_registers_are_corrupt(void **state) {
    (void)state;
    assert_corrupt("", 0, "");
    assert_corrupt("\x7f", 1, "");
    assert_corrupt("\x7f\xfe", 2, "Z:16383");
    assert_corrupt("\x7f\xff\x00", 3, "Z:16384 z:1");
    assert_corrupt("\x7f\xff\x80", 3, "Z:16384 v:1,1");
    assert_corrupt("\x7f\xff\x7f\xff", 4, "Z:16384 Z:16384");
    assert_corrupt("\x7f\xfe\x81", 3, "Z:16383 v:1,2");
    assert_corrupt("\x7f\xfe\x40", 3, "Z:16383");
}

static void damage_bytes(struct hyperloglog_buffer *buffer) {
    for (int damages = 1 + (int)(lrand48() % 4); damages > 0 && buffer->length > 16; damages--) {
        size_t at = 16 + (size_t)lrand48() % (buffer->length - 16);
        switch (lrand48() % 3) {
        case 0: buffer->bytes[at] = (uint8_t)lrand48(); break;
        case 1: buffer->length = at; break;
        case 2: buffer->bytes[at] ^= (uint8_t)(1 << lrand48() % 8); break;
        }
    }
}

/* Does everything to a value whose bytes fill their allocation exactly, so that the address sanitizer sees any slip. */
static unsigned use_damaged_value(struct span damaged) {
    struct hyperloglog_buffer buffer = {malloc(damaged.length), damaged.length, damaged.length};
    memcpy(buffer.bytes, damaged.data, damaged.length);
    static struct hyperloglog_registers registers;
    uint64_t result;
    char *text;
    size_t length;
    memset(&registers, 0, sizeof(registers));
    bool valid = hyperloglog_validate(span_of_buffer(&buffer)) == HYPERLOGLOG_OK;
    assert_int_equal(hyperloglog_count(span_of_buffer(&buffer), &result) == HYPERLOGLOG_OK, valid);
    assert_int_equal(hyperloglog_merge(&registers, span_of_buffer(&buffer)) == HYPERLOGLOG_OK, valid);
    if (hyperloglog_decode(span_of_buffer(&buffer), &text, &length) == HYPERLOGLOG_OK) free(text);
    size_t sparse_bytes_max = (size_t)lrand48() % 3000;
    for (int i = 0; i < 100; i++) {
        char element[32];
        bool changed;
        snprintf(element, sizeof(element), "%ld", lrand48());
        if (hyperloglog_add(&buffer, span_of_text(element), sparse_bytes_max, &changed) != HYPERLOGLOG_OK) {
            assert_false(valid);
        }
    }
    assert_int_equal(hyperloglog_validate(span_of_buffer(&buffer)) == HYPERLOGLOG_OK, valid);
    if (hyperloglog_merge(&registers, span_of_buffer(&buffer)) == HYPERLOGLOG_OK) {
        assert_int_equal(hyperloglog_store_registers(&buffer, &registers, sparse_bytes_max), HYPERLOGLOG_OK);
    }
    free(buffer.bytes);
    return valid;
}

static void damaged_value_is_never_read_outside_its_bytes(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    long seed = given != NULL ? atol(given) : (long)time(NULL);
    printf("TERRACE_TEST_SEED=%ld\n", seed);
    srand48(seed);
    unsigned valid = 0;
    for (int round = 0; round < 3000; round++) {
        struct hyperloglog_buffer buffer = numbered_value("%u", (unsigned)(lrand48() % 500));
        damage_bytes(&buffer);
        valid += use_damaged_value(span_of_buffer(&buffer));
        free(buffer.bytes);
    }
    /* Some damage changes values only. */
    assert_in_range(valid, 1, 2999);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_value_is_one_run_and_counts_nothing),
        cmocka_unit_test(small_value_has_the_bytes_of_redis),
        cmocka_unit_test(bytes_and_counts_follow_redis_while_growing),
        cmocka_unit_test(merge_has_the_bytes_of_redis),
        cmocka_unit_test(merge_into_a_crowded_sparse_value_has_the_bytes_of_redis),
        cmocka_unit_test(runs_are_joined_as_far_as_redis_joins_them),
        cmocka_unit_test(runs_joined_by_one_register_are_split_by_the_next),
        cmocka_unit_test(registers_at_their_highest_count_as_in_redis),
        cmocka_unit_test(dense_and_sparse_hold_the_same_registers),
        cmocka_unit_test(header_decides_what_is_no_hyperloglog),
        cmocka_unit_test(runs_that_miss_the_number_of_registers_are_corrupt),
        cmocka_unit_test(damaged_value_is_never_read_outside_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
