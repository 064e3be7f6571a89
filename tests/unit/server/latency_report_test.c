/* LATENCY GRAPH and LATENCY DOCTOR. */

#include "server/config.h"
#include "server/latency_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void finish(struct text *text) {
    text_add(text, "%c", '\0');
}

static void the_graph_rises_with_the_samples(void **state) {
    (void)state;
    struct latency_series series = {.samples = {{970, 10}, {700, 40}, {998, 25}}, .count = 3, .longest_ms = 90};
    struct text text = {0};
    latency_draw(&series, "command", 1000, &text);
    finish(&text);
    assert_string_equal(text.data, "command - high 40 ms, low 10 ms (all time high 90 ms)\n"
                                   "--------------------------------------------------------------------------------\n"
                                   " # \n # \n ##\n_##\n\n"
                                   "352\n0ms\ns  \n");
    text_free(&text);
}

static void equal_samples_are_a_line(void **state) {
    (void)state;
    struct latency_series series = {.samples = {{1000, 7}, {1000, 7}}, .count = 2, .longest_ms = 7};
    struct text text = {0};
    latency_draw(&series, "x", 1000 + 86400 * 5000, &text);
    finish(&text);
    assert_non_null(strstr(text.data, "  \n  \n  \n__\n\n99\n99\n99\ndd\n"));
    text_free(&text);
}

static void the_doctor_names_what_was_slow(void **state) {
    (void)state;
    struct latency latency;
    struct config config = {.monitoring = {.latency_monitor_threshold_ms = 5, .slowlog_slower_than_us = 10000}};
    struct text text = {0};
    latency_init(&latency);
    latency_diagnose(&latency, &config, 1000, &text);
    finish(&text);
    assert_non_null(strstr(text.data, "Nothing took as long as 5 ms"));
    text_free(&text);
    latency_add(&latency, LATENCY_COMMAND, 900, 77);
    latency_diagnose(&latency, &config, 1000, &text);
    finish(&text);
    assert_non_null(strstr(text.data, "- command: in 1 seconds"));
    assert_non_null(strstr(text.data, "The worst took 77 ms"));
    assert_non_null(strstr(text.data, "slowlog-log-slower-than 5000"));
    text_free(&text);
    latency_destroy(&latency);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_graph_rises_with_the_samples),
        cmocka_unit_test(equal_samples_are_a_line),
        cmocka_unit_test(the_doctor_names_what_was_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
