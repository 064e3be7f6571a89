/* The latency monitor's series: one sample a second, a ring, the longest ever. */

#include "server/latency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void a_second_counts_once_with_its_longest(void **state) {
    (void)state;
    struct latency latency;
    struct latency_series series;
    latency_init(&latency);
    latency_add(&latency, LATENCY_COMMAND, 100, 5);
    latency_add(&latency, LATENCY_COMMAND, 100, 9);
    latency_add(&latency, LATENCY_COMMAND, 100, 7);
    latency_add(&latency, LATENCY_COMMAND, 101, 6);
    latency_copy(&latency, LATENCY_COMMAND, &series);
    assert_int_equal(series.count, 2);
    assert_int_equal(latency_sample_at(&series, 0)->duration_ms, 9);
    assert_int_equal(latency_sample_at(&series, 1)->duration_ms, 6);
    assert_int_equal(series.longest_ms, 9);
    latency_copy(&latency, LATENCY_FAST_COMMAND, &series);
    assert_int_equal(series.count, 0);
    latency_destroy(&latency);
}

static void the_ring_keeps_the_last(void **state) {
    (void)state;
    struct latency latency;
    struct latency_series series;
    latency_init(&latency);
    for (int i = 0; i < LATENCY_SAMPLES + 7; i++) latency_add(&latency, LATENCY_COMMAND, i, i == 3 ? 5000 : i);
    latency_copy(&latency, LATENCY_COMMAND, &series);
    assert_int_equal(series.count, LATENCY_SAMPLES);
    for (unsigned i = 0; i < series.count; i++) assert_int_equal(latency_sample_at(&series, i)->unix_seconds, i + 7);
    assert_int_equal(series.longest_ms, 5000);
    assert_true(latency_reset(&latency, LATENCY_COMMAND));
    assert_false(latency_reset(&latency, LATENCY_COMMAND));
    latency_copy(&latency, LATENCY_COMMAND, &series);
    assert_int_equal(series.count, 0);
    latency_destroy(&latency);
}

static void events_have_names(void **state) {
    (void)state;
    for (unsigned event = 0; event < LATENCY_EVENTS; event++)
        assert_int_equal(latency_event_find(span_of_text(latency_event_name((enum latency_event)event))), event);
    assert_int_equal(latency_event_find(SPAN_LITERAL("Fast-Command")), LATENCY_FAST_COMMAND);
    assert_int_equal(latency_event_find(SPAN_LITERAL("fork")), LATENCY_EVENTS);
}

static void a_series_is_analysed(void **state) {
    (void)state;
    struct latency_series series = {.samples = {{10, 100}, {20, 300}, {40, 200}}, .count = 3};
    struct latency_analysis analysis;
    latency_analyse(&series, 70, &analysis);
    assert_int_equal(analysis.shortest_ms, 100);
    assert_int_equal(analysis.longest_ms, 300);
    assert_int_equal(analysis.average_ms, 200);
    assert_int_equal(analysis.deviation_ms, 66);
    assert_true(analysis.period_seconds == 20.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_counts_once_with_its_longest),
        cmocka_unit_test(the_ring_keeps_the_last),
        cmocka_unit_test(events_have_names),
        cmocka_unit_test(a_series_is_analysed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
