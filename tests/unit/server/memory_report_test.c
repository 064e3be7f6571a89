/* What MEMORY DOCTOR complains of, and what not. */

#include "server/memory_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { MB = 1 << 20 };

static struct metrics_memory healthy(void) {
    struct metrics_memory memory = {
        .used_bytes = 100 * MB, .peak_bytes = 110 * MB, .resident_bytes = 115 * MB, .client_bytes = MB};
    memory.keyspace.record_bytes = 80 * MB;
    memory.keyspace.page_bytes = 85 * MB;
    return memory;
}

static void expect(const struct metrics_memory *memory, uint64_t limit_bytes, const char *words) {
    struct memory_findings findings = {.memory = memory, .limit_bytes = limit_bytes, .clients = 10};
    struct text text = {0};
    memory_diagnose(&findings, &text);
    text_add(&text, "%c", '\0');
    if (!strstr(text.data, words)) fail_msg("'%s' is not in: %s", words, text.data);
    text_free(&text);
}

static void a_healthy_server_is_told_so(void **state) {
    (void)state;
    struct metrics_memory memory = healthy();
    expect(&memory, 0, "Nothing looks wrong");
    expect(&memory, 200 * MB, "Nothing looks wrong");
    memory.used_bytes = MB;
    expect(&memory, 0, "nothing to diagnose");
}

static void each_trouble_is_named(void **state) {
    (void)state;
    struct metrics_memory memory = healthy();
    memory.peak_bytes = 500ul * MB;
    expect(&memory, 0, "1. The peak was much higher than what is used now: 500.00M");
    memory = healthy();
    memory.resident_bytes = 300ul * MB;
    expect(&memory, 0, "1. More is resident than used: 200.00M");
    memory = healthy();
    memory.keyspace.page_bytes = 160 * MB;
    expect(&memory, 0, "1. Record pages are partly empty: 80.00M");
    memory = healthy();
    memory.client_bytes = 50 * MB;
    expect(&memory, 0, "1. Clients hold large buffers: 50.00M");
    memory = healthy();
    expect(&memory, 105 * MB, "1. Little is left below maxmemory: 5.00M");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_server_is_told_so),
        cmocka_unit_test(each_trouble_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
