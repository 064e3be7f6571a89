/* The log: line format, levels, destinations, and what untrusted bytes may not do to it. */

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[64];
static char log_file[128];

static char *read_log(void) {
    static char content[4 << 20];
    FILE *file = fopen(log_file, "r");
    if (!file) return strcpy(content, "");
    content[fread(content, 1, sizeof(content) - 1, file)] = '\0';
    fclose(file);
    return content;
}

static void log_to_fresh_file(enum log_level level) {
    unlink(log_file);
    struct log_options options = {.level = level, .file = log_file};
    assert_true(log_configure(&options));
}

static bool matches(const char *text, const char *pattern) {
    regex_t compiled;
    assert_int_equal(regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool matched = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return matched;
}

static void a_line_has_the_familiar_format(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_NOTICE);
    setenv("TZ", "UTC", 1);
    clock_freeze_unix_us(INT64_C(1795305124123456));
    log_notice("Ready to accept %s", "connections");
    clock_freeze_unix_us(-1);
    char expected[128];
    snprintf(expected, sizeof(expected), "%d:M 21 Nov 2026 23:52:04.123 * Ready to accept connections\n",
             (int)getpid());
    assert_string_equal(read_log(), expected);
}

static void levels_have_their_marks_and_the_role_is_shown(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_DEBUG);
    log_set_role('S');
    log_debug("d");
    log_verbose("v");
    log_notice("n");
    log_warning("w");
    log_set_role('M');
    assert_true(matches(read_log(), "^[0-9]+:S [^.]*[.][0-9]{3} [.] d\n[^\n]* - v\n[^\n]* [*] n\n[^\n]* # w\n$"));
}

static int evaluations;
static int evaluate(void) {
    return ++evaluations;
}

static void lines_below_the_level_are_neither_written_nor_formatted(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_WARNING);
    evaluations = 0;
    log_notice("%d", evaluate());
    assert_int_equal(evaluations, 0);
    assert_string_equal(read_log(), "");
    log_set_level(LOG_LEVEL_NOTHING);
    log_warning("%d", evaluate());
    log_write_in_signal(LOG_LEVEL_WARNING, "x");
    log_write_raw(SPAN_LITERAL("logo"));
    assert_int_equal(evaluations, 0);
    assert_string_equal(read_log(), "");
}

static void control_characters_cannot_forge_a_line(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_NOTICE);
    log_notice("name %s", "a\r\n1:M forged\x1b[2J\tok");
    assert_non_null(strstr(read_log(), "name a??1:M forged?[2J\tok\n"));
    assert_null(strchr(strchr(read_log(), '\n') + 1, '\n'));
}

static void a_long_line_is_cut(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_NOTICE);
    char text[LOG_LINE_BYTES_MAX * 2];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_notice("%s", text);
    const char *line = read_log();
    assert_true(strlen(line) <= LOG_LINE_BYTES_MAX);
    assert_string_equal(line + strlen(line) - 5, "x...\n");
}

static void the_file_is_reopened_for_each_line(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_NOTICE);
    log_notice("before");
    char rotated[160];
    snprintf(rotated, sizeof(rotated), "%s.1", log_file);
    assert_int_equal(rename(log_file, rotated), 0);
    log_notice("after");
    assert_null(strstr(read_log(), "before"));
    assert_non_null(strstr(read_log(), "after"));
    unlink(rotated);
}

static void a_relative_file_stays_where_it_was_when_the_directory_changes(void **state) {
    (void)state;
    char previous[4096];
    assert_non_null(getcwd(previous, sizeof(previous)));
    assert_int_equal(chdir(directory), 0);
    unlink(log_file);
    assert_true(log_configure(&(struct log_options){.level = LOG_LEVEL_NOTICE, .file = "server.log"}));
    assert_int_equal(chdir(previous), 0);
    log_notice("found");
    assert_non_null(strstr(read_log(), "found"));
}

static void an_unusable_file_is_refused_and_changes_nothing(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_NOTICE);
    struct log_options options = {.level = LOG_LEVEL_NOTHING, .file = "/nonexistent-directory/x.log"};
    assert_false(log_configure(&options));
    assert_int_equal(errno, ENOENT);
    log_notice("still here");
    assert_non_null(strstr(read_log(), "still here"));
}

static void a_signal_handler_can_write_and_errno_survives(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_NOTICE);
    errno = ERANGE;
    log_write_in_signal(LOG_LEVEL_WARNING, "Received SIGTERM");
    log_notice("x");
    assert_int_equal(errno, ERANGE);
    assert_true(matches(read_log(), "^[0-9]+:signal-handler [(][0-9]+[)] Received SIGTERM\n"));
}

static void escaping_is_printable_and_bounded(void **state) {
    (void)state;
    char out[64];
    assert_int_equal(log_escape(out, sizeof(out), span_of("a\0b\n\r\t\a\b\"\\\x7f\xff", 12)), 28);
    assert_string_equal(out, "a\\x00b\\n\\r\\t\\a\\b\\\"\\\\\\x7f\\xff");
    assert_int_equal(log_escape(out, sizeof(out), span_of("", 0)), 0);
    assert_string_equal(out, "");
    assert_int_equal(log_escape(out, 8, SPAN_LITERAL("1234567")), 7);
    assert_string_equal(out, "1234567");
    assert_int_equal(log_escape(out, 8, SPAN_LITERAL("12345678")), 7);
    assert_string_equal(out, "1234...");
    for (size_t capacity = 4; capacity < 16; capacity++) {
        size_t length = log_escape(out, capacity, span_of("\x01\x02\x03\x04\x05", 5));
        assert_true(length < capacity);
        assert_int_equal(strlen(out), length);
        assert_string_equal(out + length - 3, "...");
        assert_int_equal((length - 3) % 4, 0);
    }
}

#define THREADS          4
#define LINES_PER_THREAD 200

static void *write_many(void *id) {
    for (int i = 0; i < LINES_PER_THREAD; i++) log_notice("thread %d line %d end", (int)(intptr_t)id, i);
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state) {
    (void)state;
    log_to_fresh_file(LOG_LEVEL_NOTICE);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, (void *)(intptr_t)i), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    int lines = 0;
    for (char *line = strtok(read_log(), "\n"); line; line = strtok(NULL, "\n")) {
        lines++;
        assert_true(matches(line, "^[0-9]+:M [0-9]{2} [A-Z][a-z]{2} [^*]* [*] thread [0-9] line [0-9]+ end$"));
    }
    assert_int_equal(lines, THREADS * LINES_PER_THREAD);
}

static int make_directory(void **state) {
    (void)state;
    strcpy(directory, "/tmp/terrace-log-test-XXXXXX");
    if (!mkdtemp(directory)) return -1;
    snprintf(log_file, sizeof(log_file), "%s/server.log", directory);
    return 0;
}

static int remove_directory(void **state) {
    (void)state;
    unlink(log_file);
    return rmdir(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_the_familiar_format),
        cmocka_unit_test(levels_have_their_marks_and_the_role_is_shown),
        cmocka_unit_test(lines_below_the_level_are_neither_written_nor_formatted),
        cmocka_unit_test(control_characters_cannot_forge_a_line),
        cmocka_unit_test(a_long_line_is_cut),
        cmocka_unit_test(the_file_is_reopened_for_each_line),
        cmocka_unit_test(a_relative_file_stays_where_it_was_when_the_directory_changes),
        cmocka_unit_test(an_unusable_file_is_refused_and_changes_nothing),
        cmocka_unit_test(a_signal_handler_can_write_and_errno_survives),
        cmocka_unit_test(escaping_is_printable_and_bounded),
        cmocka_unit_test(lines_of_several_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
