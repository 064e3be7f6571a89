/* Command statistics: buckets that cover every duration, counters, error codes that overflow into one. */

#include "command/command_stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void buckets_are_narrow_and_in_order(void **state) {
    (void)state;
    unsigned before = 0;
    for (uint64_t ns = 64; ns < UINT64_C(1) << 40; ns += ns / 50 + 1) {
        unsigned bucket = stats_bucket(ns);
        assert_true(bucket >= before && bucket < STATS_BUCKETS);
        assert_true(ns < stats_bucket_limit(bucket));
        if (bucket) assert_true(ns >= stats_bucket_limit(bucket - 1));
        if (bucket) assert_true(stats_bucket_limit(bucket) - stats_bucket_limit(bucket - 1) <= ns / 8 + 1);
        before = bucket;
    }
}

static void durations_out_of_range_have_a_bucket_too(void **state) {
    (void)state;
    assert_int_equal(stats_bucket(0), 0);
    assert_int_equal(stats_bucket(63), 0);
    assert_int_equal(stats_bucket(64), 0);
    assert_int_equal(stats_bucket((UINT64_C(1) << 40) - 1), STATS_BUCKETS - 1);
    assert_int_equal(stats_bucket(UINT64_C(1) << 40), STATS_BUCKETS - 1);
    assert_int_equal(stats_bucket(UINT64_MAX), STATS_BUCKETS - 1);
}

static void calls_are_counted_by_command(void **state) {
    (void)state;
    struct command_stats *stats = command_stats_create(3);
    command_stats_record(stats, 1, 1000, false);
    command_stats_record(stats, 1, 3000, true);
    command_stats_record(stats, 2, 10, false);
    command_stats_reject(stats, 1);
    assert_int_equal(stat_get(&stats->commands_processed), 3);
    assert_int_equal(stat_get(&stats->counters[0].calls), 0);
    assert_int_equal(stat_get(&stats->counters[1].calls), 2);
    assert_int_equal(stat_get(&stats->counters[1].nanoseconds), 4000);
    assert_int_equal(stat_get(&stats->counters[1].failed), 1);
    assert_int_equal(stat_get(&stats->counters[1].rejected), 1);
    assert_null(atomic_load(&stats->counters[0].histogram));
    stat_counter *histogram = atomic_load(&stats->counters[1].histogram);
    assert_int_equal(stat_get(&histogram[stats_bucket(1000)]), 1);
    assert_int_equal(stat_get(&histogram[stats_bucket(3000)]), 1);
    command_stats_destroy(stats);
    command_stats_destroy(NULL);
}

static void without_tracking_there_is_no_histogram(void **state) {
    (void)state;
    struct command_stats *stats = command_stats_create(1);
    atomic_store(&stats->latency_tracking, false);
    command_stats_record(stats, 0, 1000, false);
    assert_int_equal(stat_get(&stats->counters[0].calls), 1);
    assert_null(atomic_load(&stats->counters[0].histogram));
    command_stats_destroy(stats);
}

static uint64_t count_of(const struct command_stats *stats, const char *code) {
    for (unsigned i = 0; i < STATS_ERROR_CODES; i++)
        if (atomic_load(&stats->errors[i].used) && strcmp(stats->errors[i].code, code) == 0)
            return stat_get(&stats->errors[i].count);
    return 0;
}

static void errors_are_counted_by_code(void **state) {
    (void)state;
    struct command_stats *stats = command_stats_create(1);
    command_stats_error(stats, "ERR");
    command_stats_error(stats, "WRONGTYPE");
    command_stats_error(stats, "ERR");
    assert_int_equal(count_of(stats, "ERR"), 2);
    assert_int_equal(count_of(stats, "WRONGTYPE"), 1);
    assert_int_equal(count_of(stats, "NOAUTH"), 0);
    assert_int_equal(stat_get(&stats->errors_total), 3);
    command_stats_destroy(stats);
}

static void too_many_codes_share_the_last_place(void **state) {
    (void)state;
    struct command_stats *stats = command_stats_create(1);
    char code[16];
    for (unsigned i = 0; i < STATS_ERROR_CODES + 36; i++) {
        snprintf(code, sizeof(code), "CODE%u", i);
        command_stats_error(stats, code);
    }
    assert_int_equal(count_of(stats, "CODE0"), 1);
    assert_int_equal(count_of(stats, "CODE62"), 1);
    assert_int_equal(count_of(stats, "CODE63"), 0);
    assert_int_equal(count_of(stats, "ERRORSTATS_OVERFLOW"), 37);
    assert_int_equal(stat_get(&stats->errors_total), STATS_ERROR_CODES + 36);
    command_stats_destroy(stats);
}

static void a_long_code_is_cut(void **state) {
    (void)state;
    struct command_stats *stats = command_stats_create(1);
    command_stats_error(stats, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    command_stats_error(stats, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    assert_int_equal(count_of(stats, "ABCDEFGHIJKLMNOPQRSTUVWXYZ01234"), 2);
    command_stats_destroy(stats);
}

static void a_reset_forgets_everything(void **state) {
    (void)state;
    struct command_stats *stats = command_stats_create(2);
    command_stats_record(stats, 1, 1000, true);
    command_stats_reject(stats, 1);
    command_stats_error(stats, "LONGERCODE");
    command_stats_reset(stats);
    assert_int_equal(stat_get(&stats->commands_processed), 0);
    assert_int_equal(stat_get(&stats->errors_total), 0);
    assert_int_equal(stat_get(&stats->counters[1].calls), 0);
    assert_int_equal(stat_get(&stats->counters[1].rejected), 0);
    assert_int_equal(stat_get(&stats->counters[1].failed), 0);
    stat_counter *histogram = atomic_load(&stats->counters[1].histogram);
    for (unsigned i = 0; i < STATS_BUCKETS; i++) assert_int_equal(stat_get(&histogram[i]), 0);
    assert_int_equal(count_of(stats, "LONGERCODE"), 0);
    command_stats_error(stats, "ERR"); /* in the place of the longer one */
    assert_int_equal(count_of(stats, "ERR"), 1);
    command_stats_destroy(stats);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_narrow_and_in_order),
        cmocka_unit_test(durations_out_of_range_have_a_bucket_too),
        cmocka_unit_test(calls_are_counted_by_command),
        cmocka_unit_test(without_tracking_there_is_no_histogram),
        cmocka_unit_test(errors_are_counted_by_code),
        cmocka_unit_test(too_many_codes_share_the_last_place),
        cmocka_unit_test(a_long_code_is_cut),
        cmocka_unit_test(a_reset_forgets_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
