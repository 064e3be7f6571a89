/* CONFIG REWRITE: what is replaced, what is appended, and that the rest of the file survives. */

#include "server/config.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct config config;
static struct config_error error;

static int set_up(void **state) {
    (void)state;
    config_init(&config);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    config_free(&config);
    static const char *const files[] = {"main.conf", "a.conf", "link.conf"};
    for (size_t i = 0; i < 3; i++) unlink(files[i]);
    return 0;
}

static void load(const char *text) {
    temporary_folder_write("main.conf", text);
    if (!config_load_file(&config, "main.conf", &error)) fail_msg("%s", error.text);
}

static void set(const char *name, const char *value) {
    struct config_pair pair = {span_of_text(name), span_of_text(value)};
    struct config_set_options options = {0};
    if (!config_set(&config, &pair, 1, &options, &error)) fail_msg("%s", error.text);
}

static const char *read_file(void) {
    static char text[8192];
    FILE *file = fopen("main.conf", "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void expect_file(const char *expected) {
    if (!config_rewrite(&config, &error)) fail_msg("%s", error.text);
    assert_string_equal(read_file(), expected);
    /* Whatever was written says what is set: a second rewrite finds nothing to do. */
    if (!config_rewrite(&config, &error)) fail_msg("%s", error.text);
    assert_string_equal(read_file(), expected);
}

static void without_a_file_it_is_an_error(void **state) {
    (void)state;
    assert_false(config_rewrite(&config, &error));
    assert_string_equal(error.text, "ERR The server is running without a config file");
}

static void nothing_changed_leaves_every_byte(void **state) {
    (void)state;
    load("# head\n\nmaxmemory   1GB   \nSAVE 1 1\nsave 2 2\n  # tail\nport 6379\n");
    expect_file("# head\n\nmaxmemory   1GB   \nSAVE 1 1\nsave 2 2\n  # tail\nport 6379\n");
}

static void a_changed_directive_is_replaced_where_it_stands(void **state) {
    (void)state;
    load("# head\nport 1\nmaxmemory 1gb\nslave-priority 5\nport 2\n# tail");
    set("port", "7000");
    set("maxmemory", "100mb");
    set("replica-priority", "6");
    expect_file("# head\nport 7000\nmaxmemory 100mb\nslave-priority 6\n# tail\n");
}

static void what_the_file_does_not_name_is_appended_below_a_marker(void **state) {
    (void)state;
    load("port 1\n");
    set("hz", "20");
    set("requirepass", "a \"b\"");
    expect_file("port 1\n# Added by CONFIG REWRITE\nhz 20\nrequirepass \"a \\\"b\\\"\"\n");
    set("timeout", "5");
    expect_file("port 1\n# Added by CONFIG REWRITE\nhz 20\nrequirepass \"a \\\"b\\\"\"\ntimeout 5\n");
}

static void a_value_set_back_to_its_default_is_written_where_a_line_was(void **state) {
    (void)state;
    load("hz 20\n");
    set("hz", "10");
    set("timeout", "5");
    set("timeout", "0");
    expect_file("hz 10\n");
}

static void lists_become_one_line(void **state) {
    (void)state;
    load("save 1 1\nsave 2 2\nclient-output-buffer-limit normal 1 1 1\nbind 127.0.0.1\n");
    set("save", "3 3 4 4");
    set("client-output-buffer-limit", "pubsub 0 0 0");
    set("bind", "127.0.0.1 ::1");
    expect_file("save 3 3 4 4\n"
                "client-output-buffer-limit normal 1 1 1 slave 268435456 67108864 60 pubsub 0 0 0\n"
                "bind 127.0.0.1 ::1\n");
    set("save", "");
    set("bind", "");
    expect_file("save \"\"\n"
                "client-output-buffer-limit normal 1 1 1 slave 268435456 67108864 60 pubsub 0 0 0\n"
                "bind \"\"\n");
}

static void with_includes_the_last_word_is_at_the_end(void **state) {
    (void)state;
    temporary_folder_write("a.conf", "hz 30\nsave 1 1\n");
    load("hz 20\ninclude a.conf\ntimeout 7\n");
    set("hz", "40");
    set("save", "2 2");
    expect_file("include a.conf\ntimeout 7\n# Added by CONFIG REWRITE\nhz 40\nsave \"\"\nsave 2 2\n");
    struct config fresh;
    config_init(&fresh);
    assert_true(config_load_file(&fresh, "main.conf", &error));
    assert_int_equal(fresh.general.hz, 40);
    assert_int_equal(fresh.persistence.save.count, 1);
    config_free(&fresh);
}

static void the_working_directory_may_have_changed(void **state) {
    (void)state;
    load("dir ./\nhz 20\n");
    set("hz", "30");
    char folder[4096];
    assert_non_null(getcwd(folder, sizeof(folder)));
    assert_int_equal(chdir("/"), 0);
    bool ok = config_rewrite(&config, &error);
    assert_int_equal(chdir(folder), 0);
    if (!ok) fail_msg("%s", error.text);
    assert_string_equal(read_file(), "dir ./\nhz 30\n");
}

static void mode_and_symbolic_link_survive(void **state) {
    (void)state;
    temporary_folder_write("main.conf", "hz 20\n");
    assert_int_equal(chmod("main.conf", 0640), 0);
    assert_int_equal(symlink("main.conf", "link.conf"), 0);
    assert_true(config_load_file(&config, "link.conf", &error));
    set("hz", "30");
    expect_file("hz 30\n");
    struct stat status;
    assert_int_equal(lstat("link.conf", &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_int_equal(stat("main.conf", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
}

static void a_file_that_became_unreadable_is_left_alone(void **state) {
    (void)state;
    load("hz 20\n");
    set("hz", "30");
    temporary_folder_write("main.conf", "hz 20\nnonsense\n");
    assert_false(config_rewrite(&config, &error));
    assert_non_null(strstr(error.text, "ERR Rewriting config file: "));
    assert_non_null(strstr(error.text, "main.conf:2: unknown directive 'nonsense'"));
    assert_string_equal(read_file(), "hz 20\nnonsense\n");
}

static void a_removed_file_is_written_anew(void **state) {
    (void)state;
    load("hz 20\n");
    unlink("main.conf");
    expect_file("# Added by CONFIG REWRITE\nhz 20\n");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(without_a_file_it_is_an_error),
        TEST(nothing_changed_leaves_every_byte),
        TEST(a_changed_directive_is_replaced_where_it_stands),
        TEST(what_the_file_does_not_name_is_appended_below_a_marker),
        TEST(a_value_set_back_to_its_default_is_written_where_a_line_was),
        TEST(lists_become_one_line),
        TEST(with_includes_the_last_word_is_at_the_end),
        TEST(the_working_directory_may_have_changed),
        TEST(mode_and_symbolic_link_survive),
        TEST(a_file_that_became_unreadable_is_left_alone),
        TEST(a_removed_file_is_written_anew),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
