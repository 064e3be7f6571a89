/* Figures and their forms: what is not known is never a number, what a server says breaks no format. */
#include "bench/capacity_page.h"
#include "bench/capacity_report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct capacity_options options;
    struct probe probe;
    struct capacity_report report;
    struct capacity_step steps[2];
};

static void nothing_known(struct probe_sample *sample) {
    memset(sample, 0xff, sizeof(*sample));
}

static struct fixture *make_fixture(void) {
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->options.label = "a \"label\" </script>\xc3\xbc";
    strcpy(fixture->probe.server_name, "other\xff");
    fixture->report = (struct capacity_report){.options = &fixture->options, .probe = &fixture->probe};
    fixture->report.steps = fixture->steps;
    fixture->report.step_count = 2;
    fixture->report.dram_bytes = NAN;
    nothing_known(&fixture->report.empty);
    for (int i = 0; i < 2; i++) {
        struct capacity_step *step = &fixture->steps[i];
        strcpy(step->target.text, "1mb");
        nothing_known(&step->memory);
        nothing_known(&step->closed.before);
        nothing_known(&step->closed.after);
        step->keys = 1000;
        step->dbsize = 1000;
        step->payload_bytes = 1000000;
        step->filled = true;
    }
    fixture->steps[0].closed.done = true;
    fixture->steps[0].closed.run.seconds = 2;
    fixture->steps[0].closed.run.counts.operations = 500;
    return fixture;
}

static void figures_are_computed_from_what_is_known(void **state) {
    (void)state;
    struct fixture *fixture = make_fixture();
    struct capacity_step *step = &fixture->steps[0];
    struct figures figures;
    report_compute(&fixture->report, step, &figures);
    assert_true(report_figure(&figures, "closed_operations_per_second") == 250);
    assert_true(report_figure(&figures, "payload_per_key") == 1000);
    assert_true(isnan(report_figure(&figures, "bytes_per_key")));
    assert_true(isnan(report_figure(&figures, "dram_ratio")));
    assert_true(isnan(report_figure(&figures, "closed_cpu_us_per_operation")));
    assert_true(isnan(report_figure(&figures, "closed_tier_hit_share")));
    assert_true(isnan(report_figure(&figures, "closed_p99_us")));
    fixture->report.dram_bytes = 500000;
    fixture->report.empty.rss_bytes = 100000;
    step->memory.rss_bytes = 1300000;
    step->closed.before.cpu_ns = 1000000;
    step->closed.after.cpu_ns = 6000000;
    step->closed.before.info[PROBE_DRAM_HITS] = step->closed.before.info[PROBE_TIER_HITS] = 10;
    step->closed.after.info[PROBE_DRAM_HITS] = 40;
    step->closed.after.info[PROBE_TIER_HITS] = 20;
    step->closed.before.info[PROBE_KEYSPACE_HITS] = 50;
    step->closed.after.info[PROBE_KEYSPACE_HITS] = 5; /* was reset meanwhile */
    report_compute(&fixture->report, step, &figures);
    assert_true(report_figure(&figures, "dram_ratio") == 2);
    assert_true(report_figure(&figures, "bytes_per_key") == 1200);
    assert_true(report_figure(&figures, "overhead_per_key") == 200);
    assert_true(report_figure(&figures, "closed_cpu_us_per_operation") == 10);
    assert_true(report_figure(&figures, "closed_dram_hit_share") == 0.75);
    assert_true(isnan(report_figure(&figures, "closed_far_hit_share")));
    assert_true(isnan(report_figure(&figures, "closed_keyspace_hits")));
    free(fixture);
}

/* What a stream in memory wrote; static, since it is the stream that fills it in. */
static char *written;
static size_t written_length;

static FILE *open_memory(void) {
    FILE *out = open_memstream(&written, &written_length);
    assert_non_null(out);
    return out;
}

static char *write_to_memory(const struct capacity_report *report,
                             void (*writer)(const struct capacity_report *report, FILE *out)) {
    FILE *out = open_memory();
    writer(report, out);
    fclose(out);
    return written;
}

static void json_is_json_whatever_a_server_says(void **state) {
    (void)state;
    struct fixture *fixture = make_fixture();
    fixture->steps[0].closed.run.counts.errors = 3;
    strcpy(fixture->steps[0].closed.run.counts.first_error, "ERR \"\\\x01\xfe");
    char *json = write_to_memory(&fixture->report, report_write_json);
    assert_true(page_is_report(json, strlen(json)));
    assert_non_null(strstr(json, "\"dram_bytes\": null"));
    assert_non_null(strstr(json, "other\\u00ff"));
    assert_non_null(strstr(json, "\xc3\xbc"));
    assert_non_null(strstr(json, "ERR \\\"\\\\\\u0001\\u00fe"));
    assert_null(strstr(json, "nan"));
    free(json);
    free(fixture);
}

static unsigned count_of(const char *text, const char *end, char wanted) {
    unsigned count = 0;
    for (; text < end; text++) count += *text == wanted;
    return count;
}

static void csv_lines_have_the_columns_of_the_header(void **state) {
    (void)state;
    struct fixture *fixture = make_fixture();
    fixture->options.label = "plain";
    char *csv = write_to_memory(&fixture->report, report_write_csv);
    unsigned commas = count_of(csv, strchr(csv, '\n'), ',');
    assert_true(commas > 40);
    unsigned lines = 0;
    for (char *line = csv; *line != '\0'; line = strchr(line, '\n') + 1, lines++)
        assert_int_equal(count_of(line, strchr(line, '\n'), ','), commas);
    assert_int_equal(lines, 3);
    free(csv);
    free(fixture);
}

static void text_says_what_went_wrong(void **state) {
    (void)state;
    struct fixture *fixture = make_fixture();
    struct capacity_step *step = &fixture->steps[1];
    step->filled = false;
    step->dbsize = 900;
    step->load.run.counts.errors = 100;
    strcpy(step->load.run.counts.first_error, "OOM no room");
    fixture->steps[0].closed.run.counts.wrong = 1;
    char *text = write_to_memory(&fixture->report, report_write_text);
    assert_non_null(strstr(text, "NOT FILLED: 900 keys instead of 1000"));
    assert_non_null(strstr(text, "100 error replies, first: OOM no room"));
    assert_non_null(strstr(text, "1 WRONG values"));
    free(text);
    free(fixture);
}

static void only_json_of_this_tool_is_a_report(void **state) {
    (void)state;
    static const char *const good[] = {
        "{\"format\": \"terrace-capacity 1\"}",
        " {\"format\":\"terrace-capacity 1\",\"steps\":[{\"a\":-1.5e+3},{},[],null,true,false,\"\\u00e9\\n\"]}\n",
    };
    static const char *const bad[] = {
        "",
        "{}",
        "[\"terrace-capacity 1\"]",
        "{\"format\": \"terrace-capacity 1\"",
        "{\"format\": \"terrace-capacity 1\"} x",
        "{\"format\": \"terrace-capacity 1\",}",
        "{\"format\": \"terrace-capacity 1\", \"a\": 01}",
        "{\"format\": \"terrace-capacity 1\", \"a\": .5}",
        "{\"format\": \"terrace-capacity 1\", \"a\": nan}",
        "{\"format\": \"terrace-capacity 1\", \"a\": \"\\x\"}",
        "{\"format\": \"terrace-capacity 1\", \"a\": \"\n\"}",
        "{\"format\": \"terrace-capacity 1\", a: 1}",
        "{\"format\": \"terrace-capacity 1\"}</script>",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) assert_true(page_is_report(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) assert_false(page_is_report(bad[i], strlen(bad[i])));
    char deep[300] = "{\"format\": \"terrace-capacity 1\", \"a\": ";
    size_t length = strlen(deep);
    memset(deep + length, '[', 200);
    assert_false(page_is_report(deep, length + 200));
}

static void a_report_cannot_leave_its_element(void **state) {
    (void)state;
    const char *const runs[] = {"{\"label\": \"</script><script>alert(1)</script>\"}", "{}"};
    FILE *out = open_memory();
    page_write(runs, 2, out);
    fclose(out);
    char *page = written;
    assert_null(strstr(page, "alert(1)</script>"));
    assert_non_null(strstr(page, "\\u003c/script>\\u003cscript>alert(1)"));
    assert_null(strstr(page, "{{"));
    assert_null(strstr(page, "src=\""));
    assert_non_null(strstr(page, "</html>"));
    free(page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_computed_from_what_is_known),
        cmocka_unit_test(json_is_json_whatever_a_server_says),
        cmocka_unit_test(csv_lines_have_the_columns_of_the_header),
        cmocka_unit_test(text_says_what_went_wrong),
        cmocka_unit_test(only_json_of_this_tool_is_a_report),
        cmocka_unit_test(a_report_cannot_leave_its_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
