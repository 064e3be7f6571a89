/* The table of keys with fields that expire, against an array of what it should know. */

#include "base/random.h"
#include "keyspace/field_expiry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { KEYS = 300, STEPS = 200000 };

/* Few of them share their high bits with all others, as the keys of one shard do. */
static uint64_t hash_of_key(size_t key) {
    return key == 0 ? 0 : UINT64_C(0xabc) << 52 | (uint64_t)key * 0x10001;
}

static uint64_t seed_of_test(void) {
    struct random random;
    const char *given = getenv("TERRACE_TEST_SEED");
    random_seed_from_kernel(&random);
    uint64_t seed = given ? strtoull(given, NULL, 10) : random_next(&random);
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

static void the_earliest_time_counts(void **state) {
    (void)state;
    struct field_expiry *expiry = field_expiry_create();
    field_expiry_note(expiry, 7, 100);
    field_expiry_note(expiry, 7, 50);
    field_expiry_note(expiry, 7, 200);
    assert_int_equal(expiry->count, 1);
    assert_false(field_expiry_is_due(expiry, 49));
    assert_true(field_expiry_is_due(expiry, 50));
    const struct field_due *entry = field_expiry_next(expiry, 50, false);
    assert_non_null(entry);
    assert_int_equal(entry->hash, 7);
    field_expiry_settle(expiry, 7, 300);
    assert_null(field_expiry_next(expiry, 50, false));
    assert_false(field_expiry_is_due(expiry, 299));
    field_expiry_destroy(expiry);
}

static void a_pass_that_drops_all_leaves_nothing(void **state) {
    (void)state;
    struct field_expiry *expiry = field_expiry_create();
    for (size_t i = 0; i < KEYS; i++) field_expiry_note(expiry, hash_of_key(i), (int64_t)i);
    const struct field_due *entry;
    size_t seen = 0;
    for (; (entry = field_expiry_next(expiry, 0, true)); seen++) field_expiry_settle(expiry, entry->hash, INT64_MAX);
    assert_int_equal(seen, KEYS);
    assert_int_equal(expiry->count, 0);
    assert_false(field_expiry_is_due(expiry, INT64_MAX));
    field_expiry_destroy(expiry);
}

/* What handles an entry may note so many others that the table grows under the pass. */
static void growing_in_the_middle_of_a_pass_loses_nothing(void **state) {
    (void)state;
    struct field_expiry *expiry = field_expiry_create();
    const struct field_due *entry;
    size_t handled = 0;
    for (size_t i = 0; i < 8; i++) field_expiry_note(expiry, hash_of_key(i), 1);
    for (size_t noted = 8, passes = 0; field_expiry_is_due(expiry, 1) && passes < 4;) {
        if (!(entry = field_expiry_next(expiry, 1, false))) {
            passes++;
            continue;
        }
        uint64_t hash = entry->hash;
        for (size_t i = 0; i < 40 && noted < KEYS; i++) field_expiry_note(expiry, hash_of_key(noted++), 1);
        field_expiry_settle(expiry, hash, 10);
        handled++;
    }
    assert_int_equal(handled, KEYS);
    assert_int_equal(expiry->least_due_ms, 10);
    field_expiry_destroy(expiry);
}

/* Key 0's hash is 0, which the table keeps as 1. */
static size_t key_of_entry(const struct field_due *entry) {
    for (size_t i = 0; i < KEYS; i++)
        if (entry->hash == hash_of_key(i) || (i == 0 && entry->hash == 1)) return i;
    fail_msg("an entry of no key");
    return 0;
}

/* Whatever is noted, dropped and put off in the middle of passes: everything due is met by the pass after at the
 * latest, and no entry is met that is not due. */
static void nothing_due_is_forgotten(void **state) {
    (void)state;
    static int64_t due[KEYS]; /* INT64_MAX: not in it */
    struct field_expiry *expiry = field_expiry_create();
    struct random random;
    random_seed(&random, seed_of_test());
    for (size_t i = 0; i < KEYS; i++) due[i] = INT64_MAX;
    int64_t now = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        size_t key = random_below(&random, KEYS);
        int64_t at = now + (int64_t)random_below(&random, 5000);
        if (random_once_in(&random, 3)) {
            field_expiry_note(expiry, hash_of_key(key), at);
            if (at < due[key]) due[key] = at;
        } else if (field_expiry_is_due(expiry, now)) {
            const struct field_due *entry = field_expiry_next(expiry, now, false);
            if (!entry) continue;
            key = key_of_entry(entry);
            assert_int_equal(entry->due_ms, due[key]);
            assert_true(due[key] <= now);
            due[key] = random_once_in(&random, 2) ? INT64_MAX : now + 1 + (int64_t)random_below(&random, 1000);
            field_expiry_settle(expiry, hash_of_key(key), due[key]);
        } else {
            for (size_t i = 0; i < KEYS; i++) assert_true(due[i] > now);
            now += (int64_t)random_below(&random, 20);
        }
    }
    size_t count = 0;
    for (size_t i = 0; i < KEYS; i++) count += due[i] != INT64_MAX;
    assert_int_equal(expiry->count, count);
    field_expiry_destroy(expiry);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_earliest_time_counts),
        cmocka_unit_test(a_pass_that_drops_all_leaves_nothing),
        cmocka_unit_test(growing_in_the_middle_of_a_pass_loses_nothing),
        cmocka_unit_test(nothing_due_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
