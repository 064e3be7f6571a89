/* What is found behind damage: claims of closings that can be of this file, wherever they stand. */

#include "persist/aof_survey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define CHECK ":0123456789abcdef\r\n"

static int fd = -1;

static int open_file(void **state) {
    (void)state;
    fd = memfd_create("aof", MFD_CLOEXEC);
    return fd < 0;
}

static int close_file(void **state) {
    (void)state;
    return close(fd);
}

/* Damage up to `at`, then `line`, then `behind` more bytes. */
static struct aof_survey survey_of(uint64_t from, size_t at, const char *line, size_t behind) {
    struct aof_survey survey;
    size_t length = at + strlen(line) + behind;
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(ftruncate(fd, (off_t)length), 0);
    assert_int_equal(pwrite(fd, line, strlen(line), (off_t)at), strlen(line));
    assert_true(aof_survey_run(fd, from, length, 5, &survey));
    return survey;
}

static void a_closing_of_a_later_batch_is_believed(void **state) {
    (void)state;
    struct aof_survey survey = survey_of(100, 500, "#TERRACE:7:200:300" CHECK, 10);
    assert_int_equal(survey.synced, 300);
    assert_false(survey.silent);
    assert_int_equal(survey.damage_ends, 500 + strlen("#TERRACE:7:200:300" CHECK));
    survey = survey_of(100, 500, "#TERRACE:7:200:0" CHECK, 10);
    assert_true(survey.silent);
    survey = survey_of(100, 500, "#TERRACE:7:200:300" CHECK "#TERRACE:8:0:520" CHECK "#TERRACE:9:0:400" CHECK, 0);
    assert_int_equal(survey.synced, 520);
}

static void what_cannot_be_of_a_later_batch_is_not(void **state) {
    (void)state;
    static const char *const lines[] = {
        "#TERRACE:7:400:300" CHECK,  /* its batch begins with the damage */
        "#TERRACE:7:600:300" CHECK,  /* ... before the file */
        "#TERRACE:5:200:300" CHECK,  /* it was before */
        "#TERRACE:7:200:5000" CHECK, /* more than there is was synced */
        "#TERRACE:7:200:300:0123456789abcdeX\r\n",
        "#TERRACE:0:200:300" CHECK,
        "#TERRACE+\r\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct aof_survey survey = survey_of(100, 500, lines[i], 10);
        assert_int_equal(survey.synced, 0);
        assert_false(survey.silent);
    }
}

static void a_line_is_found_at_every_place(void **state) {
    (void)state;
    /* Windows are of 256 KiB: the line lies across the end of the first one in every way. */
    const char *line = "#TERRACE:7:20:300" CHECK;
    for (size_t at = (1 << 18) - 60; at < (1 << 18) + 3; at++) {
        assert_int_equal(survey_of(0, at, line, 70).synced, 300);
        assert_int_equal(survey_of(1, at, line, 0).synced, 300);
    }
}

static void a_file_that_cannot_be_read_is_told(void **state) {
    (void)state;
    struct aof_survey survey;
    assert_false(aof_survey_run(-1, 0, 100, 0, &survey));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_closing_of_a_later_batch_is_believed),
        cmocka_unit_test(what_cannot_be_of_a_later_batch_is_not),
        cmocka_unit_test(a_line_is_found_at_every_place),
        cmocka_unit_test(a_file_that_cannot_be_read_is_told),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}
