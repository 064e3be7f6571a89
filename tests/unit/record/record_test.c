/* Records: every width of lengths, every encoding, with and without expiry, written, read, overwritten and resized. */

#include "base/random.h"
#include "record/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* In a block of exactly its size, so that a sanitizer sees a byte too many. The caller frees it. */
static struct record *make(const struct record_plan *plan) {
    struct record *record = record_write(malloc(record_size_for(plan)), plan);
    assert_int_equal(record_size(record), record_size_for(plan));
    return record;
}

static void expect(const struct record *record, const struct record_plan *plan) {
    assert_int_equal(record_type(record), plan->type);
    assert_int_equal(record_encoding(record), plan->encoding);
    assert_int_equal(record_is_integer(record), plan->encoding != RECORD_RAW);
    assert_true(span_equal(record_key(record), plan->key));
    assert_true(record_key_equals(record, plan->key));
    assert_int_equal(record_expiry(record), plan->expiry_ms);
    assert_int_equal(record_has_expiry(record), plan->expiry_ms >= 0);
    assert_int_equal(record_access(record), plan->access);
    assert_int_equal(record_is_edited(record), plan->edited);
    if (plan->encoding == RECORD_RAW)
        assert_true(span_equal(record_value(record), plan->value));
    else
        assert_true(record_integer(record) == plan->integer);
}

static void a_small_string_costs_seven_bytes(void **state) {
    (void)state;
    struct record_plan plan = {.type = RECORD_STRING,
                               .key = SPAN_LITERAL("key"),
                               .value = SPAN_LITERAL("value"),
                               .expiry_ms = RECORD_EXPIRY_NONE};
    assert_int_equal(record_size_for(&plan), 7 + 3 + 5);
    plan.expiry_ms = 0;
    assert_int_equal(record_size_for(&plan), 7 + 6 + 3 + 5);
    plan.encoding = RECORD_INT16;
    assert_int_equal(record_size_for(&plan), 6 + 6 + 3 + 2);
}

static void integers_take_the_shortest_encoding(void **state) {
    (void)state;
    static const struct {
        int64_t value;
        enum record_encoding encoding;
    } cases[] = {
        {0, RECORD_INT8},
        {127, RECORD_INT8},
        {-128, RECORD_INT8},
        {128, RECORD_INT16},
        {-129, RECORD_INT16},
        {32767, RECORD_INT16},
        {-32768, RECORD_INT16},
        {32768, RECORD_INT32},
        {-32769, RECORD_INT32},
        {INT32_MAX, RECORD_INT32},
        {INT32_MIN, RECORD_INT32},
        {INT32_MAX + 1ll, RECORD_INT64},
        {INT32_MIN - 1ll, RECORD_INT64},
        {INT64_MAX, RECORD_INT64},
        {INT64_MIN, RECORD_INT64},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(record_integer_encoding(cases[i].value), cases[i].encoding);
        struct record_plan plan = {.type = RECORD_STRING,
                                   .encoding = cases[i].encoding,
                                   .integer = cases[i].value,
                                   .key = SPAN_LITERAL("k"),
                                   .expiry_ms = RECORD_EXPIRY_NONE};
        struct record *record = make(&plan);
        expect(record, &plan);
        assert_int_equal(record_value_length(record), (size_t)1 << (cases[i].encoding - RECORD_INT8));
        free(record);
    }
}

static void lengths_of_every_width(void **state) {
    (void)state;
    static const size_t lengths[] = {0, 1, 254, 255, 256, 257, 65534, 65535, 65536, 65537, 200000};
    enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };
    char *bytes = malloc(200000);
    for (size_t i = 0; i < 200000; i++) bytes[i] = (char)(i * 31);
    for (size_t k = 0; k < LENGTHS; k++)
        for (size_t v = 0; v < LENGTHS; v++)
            for (int expiry = 0; expiry < 2; expiry++) {
                struct record_plan plan = {.type = RECORD_HASH,
                                           .key = span_of(bytes, lengths[k]),
                                           .value = span_of(bytes + 7 * (lengths[v] < 200000 - 7), lengths[v]),
                                           .expiry_ms = expiry ? RECORD_EXPIRY_MAX : RECORD_EXPIRY_NONE,
                                           .access = 0xabcdef,
                                           .edited = expiry};
                struct record *record = make(&plan);
                expect(record, &plan);
                assert_true(record_header_size(record) <= RECORD_HEADER_MAX);
                free(record);
            }
    free(bytes);
}

static void expiry_and_access_are_set_in_place(void **state) {
    (void)state;
    struct record_plan plan = {
        .type = RECORD_STRING, .key = SPAN_LITERAL("key"), .value = SPAN_LITERAL("v"), .expiry_ms = 5};
    struct record *record = make(&plan);
    static const int64_t times[] = {0, 1, 0xffffffff, 0x100000000, 1785000000000, RECORD_EXPIRY_MAX};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        plan.expiry_ms = times[i];
        plan.access = (uint32_t)times[i] & 0xffffff;
        record_set_expiry(record, times[i]);
        record_set_access(record, plan.access);
        expect(record, &plan);
    }
    record_set_edited(record);
    plan.edited = true;
    expect(record, &plan);
    free(record);
}

static void a_key_equals_only_itself(void **state) {
    (void)state;
    struct record_plan plan = {.type = RECORD_STRING,
                               .key = SPAN_LITERAL("ke\0y"),
                               .value = SPAN_LITERAL("v"),
                               .expiry_ms = RECORD_EXPIRY_NONE};
    struct record *record = make(&plan);
    assert_false(record_key_equals(record, SPAN_LITERAL("ke")));
    assert_false(record_key_equals(record, SPAN_LITERAL("ke\0z")));
    assert_false(record_key_equals(record, SPAN_LITERAL("ke\0yv")));
    assert_false(record_key_equals(record, SPAN_LITERAL("")));
    free(record);
}

static void a_value_length_changes_within_its_room(void **state) {
    (void)state;
    struct record_plan plan = {
        .type = RECORD_STRING, .key = SPAN_LITERAL("key"), .value = SPAN_LITERAL("hello"), .expiry_ms = 77};
    char *memory = malloc(1000);
    struct record *record = record_write(memory, &plan);
    size_t header = record_size(record) - 5;
    assert_int_equal(record_value_room(record, header + 5), 5);
    assert_int_equal(record_value_room(record, header + 100), 100);
    assert_int_equal(record_value_room(record, 1000), 255);
    record_set_value_length(record, 255);
    assert_int_equal(record_value_length(record), 255);
    assert_memory_equal(record_value(record).data, "hello", 5);
    record_set_value_length(record, 0);
    assert_int_equal(record_size(record), header);
    assert_int_equal(record_expiry(record), 77);
    plan.encoding = RECORD_INT32;
    record = record_write(memory, &plan);
    assert_int_equal(record_value_room(record, 1000), 4);
    free(memory);
}

static struct record_plan random_plan(struct random *random, const char *bytes) {
    struct record_plan plan = {.type = RECORD_STRING + (enum record_type)random_below(random, 6),
                               .key = SPAN_LITERAL("the key"),
                               .expiry_ms = RECORD_EXPIRY_NONE,
                               .access = (uint32_t)random_below(random, 1 << 24),
                               .edited = random_once_in(random, 2)};
    if (random_once_in(random, 2)) plan.expiry_ms = (int64_t)random_below(random, RECORD_EXPIRY_MAX);
    if (random_once_in(random, 3)) {
        plan.integer = (int64_t)(random_next(random) >> random_below(random, 64));
        plan.encoding = record_integer_encoding(plan.integer);
    } else {
        static const unsigned longest[] = {10, 300, 70000};
        plan.value =
            span_of(bytes + random_below(random, 1000), random_below(random, longest[random_below(random, 3)]));
    }
    return plan;
}

/* In place whenever record_can_overwrite() says so, never past the memory. */
static void random_overwrites_leave_what_the_plan_says(void **state) {
    (void)state;
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_seed(&random, seed);
    char *bytes = malloc(80000);
    for (size_t i = 0; i < 80000; i++) bytes[i] = (char)random_next(&random);
    unsigned overwritten = 0;
    for (unsigned round = 0; round < 20000; round++) {
        struct record_plan plan = random_plan(&random, bytes);
        size_t usable = record_size_for(&plan) + random_below(&random, 40);
        char *memory = malloc(usable);
        struct record *record = record_write(memory, &plan);
        for (unsigned step = 0; step < 20; step++) {
            struct record_plan next = random_plan(&random, bytes);
            if (!record_can_overwrite(record, &next, usable)) continue;
            assert_int_equal(record_has_expiry(record), next.expiry_ms >= 0);
            record_overwrite(record, &next);
            expect(record, &next);
            assert_true(record_size(record) <= usable);
            overwritten++;
        }
        free(memory);
    }
    assert_true(overwritten > 10000);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_string_costs_seven_bytes),
        cmocka_unit_test(integers_take_the_shortest_encoding),
        cmocka_unit_test(lengths_of_every_width),
        cmocka_unit_test(expiry_and_access_are_set_in_place),
        cmocka_unit_test(a_key_equals_only_itself),
        cmocka_unit_test(a_value_length_changes_within_its_room),
        cmocka_unit_test(random_overwrites_leave_what_the_plan_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
