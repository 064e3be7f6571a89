/* Loading from files and the command line: syntax, includes, and errors that name the place. */

#include "server/config.h"
#include "server/config_file.h"
#include "server/config_state.h"
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
    memset(&error, 0, sizeof(error));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    config_free(&config);
    static const char *const files[] = {"main.conf", "a.conf", "b.conf"};
    for (size_t i = 0; i < 3; i++) unlink(files[i]);
    return 0;
}

static bool load(const char *text) {
    temporary_folder_write("main.conf", text);
    return config_load_file(&config, "main.conf", &error) && config_finish_load(&config, &error);
}

static void expect_loaded(const char *text) {
    if (!load(text)) fail_msg("%s", error.text);
}

static void expect_error(const char *text, const char *message) {
    if (load(text)) fail_msg("accepted: %s", text);
    assert_string_equal(error.text, message);
}

static void check_value(const char *name, const char *expected) {
    char *value;
    assert_true(config_get_one(&config, span_of_text(name), &value, NULL));
    if (strcmp(value, expected) != 0) fail_msg("%s is '%s', not '%s'", name, value, expected);
    free(value);
}

/* ---- Syntax ---- */

/* The words of a line between brackets; "!" for an error. */
static const char *split(const char *text, size_t length) {
    static char out[512];
    static struct config_line line;
    char copy[512];
    memcpy(copy, text, length);
    config_split_line(copy, length, &line);
    if (line.status != CONFIG_LINE_OK) return "!";
    out[0] = '\0';
    for (size_t i = 0; i < line.count; i++) {
        size_t used = strlen(out);
        snprintf(out + used, sizeof(out) - used, "[%.*s]", (int)line.words[i].length, line.words[i].data);
    }
    return out;
}

static void words_follow_the_quoting_rules(void **state) {
    (void)state;
#define SPLIT(text) split(text, sizeof(text) - 1)
    assert_string_equal(SPLIT("  port\t6379 \r\n"), "[port][6379]");
    assert_string_equal(SPLIT("save \"\""), "[save][]");
    assert_string_equal(SPLIT("a \"two words\" 'single \"quoted\"'"), "[a][two words][single \"quoted\"]");
    assert_string_equal(SPLIT("\"\\x41\\n\\t\\\"\\\\\\q\\xZZ\""), "[A\n\t\"\\qxZZ]");
    assert_string_equal(SPLIT("'it\\'s' 'a\\nb'"), "[it's][a\\nb]");
    assert_string_equal(SPLIT("pre\"fix me\""), "[prefix me]");
    assert_string_equal(SPLIT("# comment \"open"), "");
    assert_string_equal(SPLIT("   \n"), "");
    assert_string_equal(SPLIT(""), "");
    assert_string_equal(SPLIT("a#b #c"), "[a#b][#c]");
    assert_string_equal(SPLIT("\"open"), "!");
    assert_string_equal(SPLIT("'open"), "!");
    assert_string_equal(SPLIT("\"closed\"x"), "!");
    assert_string_equal(SPLIT("\"\\"), "!");
    assert_string_equal(SPLIT("\"\\x4"), "!");
}

static void a_printed_word_reads_back(void **state) {
    (void)state;
    const char *const samples[] = {"plain",       "",          "two words", "#hash", "quo\"te",
                                   "back\\slash", "new\nline", "\xff\x01"};
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        char *text = NULL;
        size_t length = 0;
        FILE *out = open_memstream(&text, &length);
        config_print_word(out, span_of_text(samples[i]));
        fclose(out);
        static struct config_line line;
        config_split_line(text, length, &line);
        assert_int_equal(line.status, CONFIG_LINE_OK);
        assert_int_equal(line.count, 1);
        assert_true(span_equal(line.words[0], span_of_text(samples[i])));
        free(text);
    }
}

static void random_lines_never_grow(void **state) {
    (void)state;
    unsigned seed = (unsigned)getpid();
    print_message("seed %u\n", seed);
    static const char alphabet[] = "ab \t\"'\\xn4#\n";
    static struct config_line line;
    for (int round = 0; round < 200000; round++) {
        char text[24];
        size_t length = (size_t)rand_r(&seed) % sizeof(text);
        for (size_t i = 0; i < length; i++) text[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        config_split_line(text, length, &line);
        size_t total = 0;
        for (size_t i = 0; i < line.count; i++) {
            assert_true(line.words[i].data >= text);
            assert_true(line.words[i].data + line.words[i].length <= text + length);
            total += line.words[i].length;
        }
        assert_true(total <= length);
    }
}

/* ---- Files ---- */

static void a_file_sets_values_and_the_last_one_wins(void **state) {
    (void)state;
    expect_loaded("\xef\xbb\xbf# comment\n\nport 7000\nPORT 7001\r\nmaxmemory 1gb\nrequirepass \"a b\"\n"
                  "bind 10.0.0.1 -::1\nslave-priority 7\nunixsocketperm 770\nloglevel nothing");
    assert_int_equal(config.network.port, 7001);
    assert_int_equal(config.memory.maxmemory_bytes, 1 << 30);
    assert_string_equal(config.security.requirepass.bytes, "a b");
    assert_int_equal(config.network.bind.count, 2);
    assert_string_equal(config.network.bind.words[1], "-::1");
    assert_int_equal(config.network.unixsocketperm, 0770);
    check_value("replica-priority", "7");
    check_value("unixsocketperm", "770");
}

static void save_lines_add_up_and_replace_the_default(void **state) {
    (void)state;
    expect_loaded("save 900 1\nsave 300 10 60 100\n");
    check_value("save", "900 1 300 10 60 100");
    expect_loaded("save \"\"\nsave 5 5\n");
    check_value("save", "5 5");
    expect_loaded("save \"\"\n");
    check_value("save", "");
    expect_loaded("save\n");
    check_value("save", "");
}

static void output_limits_change_one_class_each(void **state) {
    (void)state;
    expect_loaded("client-output-buffer-limit replica 1mb 1mb 1\nclient-output-buffer-limit normal 1 2 3\n");
    check_value("client-output-buffer-limit", "normal 1 2 3 slave 1048576 1048576 1 pubsub 33554432 8388608 60");
}

static void errors_name_file_line_and_word(void **state) {
    (void)state;
    expect_error("port 7000\n\nfoo bar\n", "main.conf:3: unknown directive 'foo'");
    expect_error("port 70000\n", "main.conf:1: 'port \"70000\"': argument must be between 0 and 65535 inclusive");
    expect_error("port\n", "main.conf:1: 'port': wrong number of arguments");
    expect_error("port 1 2\n", "main.conf:1: 'port \"1\" \"2\"': wrong number of arguments");
    expect_error("hz 1\nport \"6379\n", "main.conf:2: unbalanced quotes");
    expect_error("unixsocketperm 999\n",
                 "main.conf:1: 'unixsocketperm \"999\"': argument couldn't be parsed as an octal number");
    expect_error("dir /nonexistent\n", "main.conf:1: 'dir \"/nonexistent\"': No such file or directory");
    expect_error("shards 12\n", "main.conf:1: 'shards \"12\"': argument must be 0 or a power of two");
    expect_error("\"f\\noo\" 1\n", "main.conf:1: unknown directive 'f\\noo'");
    assert_false(config_load_file(&config, "missing.conf", &error));
    assert_string_equal(error.text, "cannot read missing.conf: No such file or directory");
    assert_false(config_load_file(&config, ".", &error));
    assert_string_equal(error.text, "cannot read .: Is a directory");
}

static void a_false_promise_keeps_the_server_from_starting(void **state) {
    (void)state;
    expect_error("port 1\nloadmodule /x.so\n",
                 "main.conf:2: 'loadmodule' is refused: modules cannot be loaded; remove the line");
    static const char *const lines[] = {"tls-port 6380", "cluster-enabled yes", "aclfile users.acl",
                                        "user bob on nopass ~*", "loadmodule /x.so"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        tear_down(NULL);
        set_up(NULL);
        assert_false(load(lines[i]));
        assert_non_null(strstr(error.text, "main.conf:1: "));
        assert_non_null(strstr(error.text, " is refused: "));
    }
}

static void a_promise_taken_back_is_no_promise(void **state) {
    (void)state;
    expect_loaded("slaveof no one\ncluster-enabled yes\ntls-port 0\ncluster-enabled no\n");
}

static void a_directive_without_effect_is_warned_of_once(void **state) {
    (void)state;
    expect_loaded("io-threads 2\nio-threads 4\nactivedefrag no\nsave 3600 1 300 100 60 10000\n");
    assert_int_equal(config.state->warning_count, 1);
    assert_string_equal(config.state->warnings[0],
                        "main.conf:2: 'io-threads' has no effect: the workers do their own I/O, see `threads`");
    check_value("io-threads", "4");
}

static void includes_are_read_in_place(void **state) {
    (void)state;
    temporary_folder_write("a.conf", "port 1\nhz 50\n");
    temporary_folder_write("b.conf", "port 2\n");
    expect_loaded("port 9\ninclude a.conf\ntimeout 5\n");
    check_value("port", "1");
    check_value("hz", "50");
    check_value("timeout", "5");
    expect_loaded("include [ab].conf\ninclude nothing-matches-*.conf\n");
    check_value("port", "2");
    assert_non_null(strstr(config_file_path(&config), "/main.conf"));
}

static void an_error_in_an_include_names_the_included_file(void **state) {
    (void)state;
    temporary_folder_write("a.conf", "\nfoo 1\n");
    expect_error("include a.conf\n", "a.conf:2: unknown directive 'foo'");
    expect_error("hz 1\ninclude missing.conf\n", "main.conf:2: cannot read missing.conf: No such file or directory");
    expect_error("include main.conf\n", "main.conf:1: include: nested too deeply");
}

/* ---- Command line ---- */

static bool parse(enum config_action *action, const char *const *arguments) {
    char *argv[16] = {(char *)"terrace-server"};
    int argc = 1;
    for (; *arguments; arguments++) argv[argc++] = (char *)*arguments;
    return config_parse_arguments(&config, argc, argv, action, &error);
}
#define PARSE(action, ...) parse(action, (const char *const[]){__VA_ARGS__, NULL})

static void options_take_several_words(void **state) {
    (void)state;
    enum config_action action;
    assert_true(
        PARSE(&action, "--port", "7000", "--save", "", "--bind", "10.0.0.1", "::1", "--requirepass", "--secret"));
    assert_int_equal(action, CONFIG_ACTION_START);
    check_value("port", "7000");
    check_value("save", "");
    check_value("bind", "10.0.0.1 ::1");
    check_value("requirepass", "--secret");
    assert_string_equal(config_file_path(&config), "");
}

static void options_come_after_the_file(void **state) {
    (void)state;
    enum config_action action;
    temporary_folder_write("main.conf", "port 1\nhz 20\ncluster-enabled yes\n");
    assert_true(PARSE(&action, "main.conf", "--port", "2", "--cluster-enabled", "no", "--save", "--timeout", "3"));
    check_value("port", "2");
    check_value("hz", "20");
    check_value("save", "");
    check_value("timeout", "3");
}

/* Checkpoints are the snapshots there. */
static void who_persists_saves_only_when_told(void **state) {
    enum config_action action;
    assert_true(PARSE(&action, "--tier-path", "tier"));
    check_value("save", "3600 1 300 100 60 10000");
    assert_true(PARSE(&action, "--appendonly", "yes", "--tier-persist", "yes"));
    check_value("save", "");
    assert_true(PARSE(&action, "--save", "60", "1"));
    check_value("save", "60 1");
    config_free(&config);
    (void)set_up(state);
    assert_true(PARSE(&action, "--pmem-pool", "pool"));
    check_value("save", "");
    config_free(&config);
    (void)set_up(state);
    expect_loaded("pmem-pool pool\nsave 3600 1\nsave 300 100\n");
    check_value("save", "3600 1 300 100");
}

static void one_value_may_hold_all_words(void **state) {
    (void)state;
    enum config_action action;
    assert_true(PARSE(&action, "--save", "60 1 30 2", "--client-output-buffer-limit", "normal 1 2 3"));
    check_value("save", "60 1 30 2");
}

static void name_and_words_may_stand_in_one_argument(void **state) {
    (void)state;
    enum config_action action;
    assert_true(PARSE(&action, "--maxmemory 700mb", "--maxmemory-policy 'volatile-lru'", "--proc-title-template --x",
                      "--shutdown-on-sigint nosave", "force", "now"));
    check_value("maxmemory", "734003200");
    check_value("maxmemory-policy", "volatile-lru");
    check_value("proc-title-template", "--x");
    check_value("shutdown-on-sigint", "nosave now force");
}

static void bad_options_are_named(void **state) {
    (void)state;
    enum config_action action;
    assert_false(PARSE(&action, "--nosuch", "1"));
    assert_string_equal(error.text, "command line: unknown directive 'nosuch'");
    assert_false(PARSE(&action, "--port"));
    assert_string_equal(error.text, "command line: 'port': wrong number of arguments");
    assert_false(PARSE(&action, "--port", "x"));
    assert_string_equal(error.text, "command line: 'port \"x\"': argument couldn't be parsed into an integer");
    assert_false(PARSE(&action, "--port", "--loglevel", "verbose"));
    assert_string_equal(error.text, "command line: 'port \"--loglevel\" \"verbose\"': wrong number of arguments");
    assert_false(PARSE(&action, "--shutdown-on-sigint", "now force", "--shutdown-on-sigterm"));
    assert_non_null(strstr(error.text, "command line: 'shutdown-on-sigterm': argument(s) must be one of"));
    assert_false(PARSE(&action, "--port 1 \"2"));
    assert_non_null(strstr(error.text, "unexpected argument '--port 1 \"2'"));
    assert_false(PARSE(&action, "--port", "1", "2"));
    assert_false(PARSE(&action, "--", "1"));
    assert_false(PARSE(&action, "-p", "7000"));
    assert_non_null(strstr(error.text, "unexpected argument '-p'"));
    assert_false(PARSE(&action, "--cluster-enabled", "yes"));
    assert_non_null(strstr(error.text, "command line: 'cluster-enabled' is refused"));
    assert_false(PARSE(&action, "missing.conf"));
    assert_string_equal(error.text, "cannot read missing.conf: No such file or directory");
}

static void actions_are_recognised(void **state) {
    (void)state;
    enum config_action action;
    assert_true(PARSE(&action, "--help"));
    assert_int_equal(action, CONFIG_ACTION_HELP);
    assert_true(PARSE(&action, "-v"));
    assert_int_equal(action, CONFIG_ACTION_VERSION);
    assert_true(PARSE(&action, "--print-sample-config"));
    assert_int_equal(action, CONFIG_ACTION_PRINT_SAMPLE);
}

static void standard_input_is_a_file(void **state) {
    (void)state;
    temporary_folder_write("main.conf", "port 5\nhz 30\n");
    enum config_action action;
    assert_non_null(freopen("main.conf", "r", stdin));
    assert_true(PARSE(&action, "-", "--port", "6"));
    check_value("port", "6");
    check_value("hz", "30");
    temporary_folder_write("main.conf", "foo 1\n");
    assert_non_null(freopen("main.conf", "r", stdin));
    assert_false(PARSE(&action, "--port", "6", "-"));
    assert_string_equal(error.text, "stdin:1: unknown directive 'foo'");
    assert_string_equal(config_file_path(&config), "");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(words_follow_the_quoting_rules),
        TEST(a_printed_word_reads_back),
        TEST(random_lines_never_grow),
        TEST(a_file_sets_values_and_the_last_one_wins),
        TEST(save_lines_add_up_and_replace_the_default),
        TEST(output_limits_change_one_class_each),
        TEST(errors_name_file_line_and_word),
        TEST(a_false_promise_keeps_the_server_from_starting),
        TEST(a_promise_taken_back_is_no_promise),
        TEST(a_directive_without_effect_is_warned_of_once),
        TEST(includes_are_read_in_place),
        TEST(an_error_in_an_include_names_the_included_file),
        TEST(options_take_several_words),
        TEST(options_come_after_the_file),
        TEST(who_persists_saves_only_when_told),
        TEST(one_value_may_hold_all_words),
        TEST(bad_options_are_named),
        TEST(name_and_words_may_stand_in_one_argument),
        TEST(actions_are_recognised),
        TEST(standard_input_is_a_file),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
