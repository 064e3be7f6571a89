/* CONFIG GET and CONFIG SET: spellings, messages, all or nothing, hooks. */

#include "base/log.h"
#include "server/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    return 0;
}

#define PAIRS_MAX 8

/* Names and values in turn, ending with NULL. */
static bool set(const char *first, ...) {
    struct config_pair pairs[PAIRS_MAX];
    struct config_set_options options = {.client_is_local = true};
    size_t count = 0;
    va_list arguments;
    va_start(arguments, first);
    for (const char *name = first; name; name = va_arg(arguments, const char *)) {
        assert_true(count < PAIRS_MAX);
        pairs[count].name = span_of_text(name);
        pairs[count++].value = span_of_text(va_arg(arguments, const char *));
    }
    va_end(arguments);
    return config_set(&config, pairs, count, &options, &error);
}

static void check_value(const char *name, const char *expected) {
    char *value;
    assert_true(config_get_one(&config, span_of_text(name), &value, NULL));
    if (strcmp(value, expected) != 0) fail_msg("%s is '%s', not '%s'", name, value, expected);
    free(value);
}

static void expect_refusal(const char *name, const char *value, const char *reason) {
    char expected[600];
    snprintf(expected, sizeof(expected), "ERR CONFIG SET failed (possibly related to argument '%s') - %s", name,
             reason);
    if (set(name, value, NULL)) fail_msg("%s took '%s'", name, value);
    assert_string_equal(error.text, expected);
}

static void expect_round_trip(const char *name, const char *value, const char *spelled) {
    if (!set(name, value, NULL)) fail_msg("%s", error.text);
    check_value(name, spelled);
}

/* ---- GET ---- */

static char answer[16384];

static void collect(void *ctx, struct span name, struct span value) {
    (void)ctx;
    size_t used = strlen(answer);
    snprintf(answer + used, sizeof(answer) - used, "%.*s=%.*s;", (int)name.length, name.data, (int)value.length,
             value.data);
}

static const char *get(const char *first, const char *second) {
    struct span patterns[] = {span_of_text(first), span_of_text(second ? second : "")};
    answer[0] = '\0';
    config_get(&config, patterns, second ? 2 : 1, collect, NULL);
    return answer;
}

static void values_are_spelled_as_in_redis(void **state) {
    (void)state;
    check_value("save", "3600 1 300 100 60 10000");
    check_value("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60");
    check_value("bind", "* -::*");
    check_value("latency-tracking-info-percentiles", "50 99 99.9");
    check_value("proto-max-bulk-len", "536870912");
    char directory[4096];
    check_value("dir", getcwd(directory, sizeof(directory)));
}

static void get_takes_several_names_and_globs_and_answers_each_once(void **state) {
    (void)state;
    assert_string_equal(get("hz", "port"), "hz=10;port=6379;");
    assert_string_equal(get("hz", "hz"), "hz=10;");
    assert_string_equal(get("?z", "hz"), "hz=10;");
    assert_string_equal(get("MaxMemory-S*", NULL), "maxmemory-samples=5;");
    assert_string_equal(get("nosuch*", NULL), "");
    assert_string_equal(get("nosuch", "hz"), "hz=10;");
}

static void a_literal_name_is_answered_as_it_was_asked(void **state) {
    (void)state;
    assert_string_equal(get("HZ", NULL), "HZ=10;");
    assert_string_equal(get("slave-priority", NULL), "slave-priority=100;");
}

static void aliases_are_listed_beside_their_directive(void **state) {
    (void)state;
    assert_string_equal(get("min-*-to-write", NULL), "min-replicas-to-write=0;min-slaves-to-write=0;");
}

static void hidden_and_file_only_directives_are_not_listed(void **state) {
    (void)state;
    assert_string_equal(get("rdb-key*", NULL), "");
    assert_string_equal(get("rdb-key-save-delay", NULL), "rdb-key-save-delay=0;");
    assert_string_equal(get("rename-command", "user"), "");
    assert_false(set("user", "x", NULL));
}

/* ---- SET ---- */

static void typed_fields_follow(void **state) {
    (void)state;
    assert_true(set("maxmemory", "100mb", "maxmemory-policy", "allkeys-lfu", "timeout", "30", "requirepass", "secret",
                    "loglevel", "WARNING", "latency-tracking", "no", NULL));
    assert_int_equal(config.memory.maxmemory_bytes, 100 << 20);
    assert_int_equal(config.memory.maxmemory_policy, CONFIG_EVICT_LFU | CONFIG_EVICT_ALL_KEYS);
    assert_int_equal(config.network.timeout_seconds, 30);
    assert_string_equal(config.security.requirepass.bytes, "secret");
    assert_int_equal(config.logging.level, LOG_LEVEL_WARNING);
    assert_false(config.monitoring.latency_tracking);
}

static void every_type_reads_and_spells(void **state) {
    (void)state;
    expect_round_trip("maxmemory", "1k", "1000");
    expect_round_trip("maxmemory", "1KB", "1024");
    expect_round_trip("maxmemory", "2gb", "2147483648");
    expect_round_trip("maxmemory", "", "0");
    expect_round_trip("maxmemory-clients", "10%", "10%");
    expect_round_trip("maxmemory-clients", "1gb", "1073741824");
    expect_round_trip("maxmemory-clients", "0%", "0");
    expect_round_trip("save", "", "");
    expect_round_trip("save", "60 10 3600 1", "60 10 3600 1");
    expect_round_trip("save", "  10   1 ", "10 1");
    expect_round_trip("bind", "127.0.0.1 ::1", "127.0.0.1 ::1");
    expect_round_trip("bind", "", "");
    expect_round_trip("client-output-buffer-limit", "normal 1mb 2 3 replica 1 2 3",
                      "normal 1048576 2 3 slave 1 2 3 pubsub 33554432 8388608 60");
    expect_round_trip("client-output-buffer-limit", "pubsub 0 0 0", "normal 1048576 2 3 slave 1 2 3 pubsub 0 0 0");
    expect_round_trip("latency-tracking-info-percentiles", "50.5 99.99 100.0", "50.5 99.99 100");
    expect_round_trip("latency-tracking-info-percentiles", "", "");
    expect_round_trip("shutdown-on-sigint", "nosave force", "nosave force");
    expect_round_trip("shutdown-on-sigint", "default", "default");
    expect_round_trip("notify-keyspace-events", "KEA", "AKE");
    expect_round_trip("notify-keyspace-events", "gKE$lshzxet", "g$lshzxetKE");
    expect_round_trip("notify-keyspace-events", "Kg$lshzxetd", "AK");
    expect_round_trip("notify-keyspace-events", "", "");
    expect_round_trip("oom-score-adj", "relative", "yes");
    expect_round_trip("oom-score-adj-values", "1 2 3", "1 2 3");
    expect_round_trip("hz", "0", "1");
    expect_round_trip("hz", "1000", "500");
    expect_round_trip("list-max-listpack-size", "-5", "-5");
    expect_round_trip("lazyfree-lazy-expire", "YES", "yes");
    expect_round_trip("proc-title-template", "{title} {port}", "{title} {port}");
}

static void refusals_use_the_words_of_redis(void **state) {
    (void)state;
    expect_refusal("port", "abc", "argument couldn't be parsed into an integer");
    expect_refusal("port", "010", "argument couldn't be parsed into an integer");
    expect_refusal("port", "70000", "argument must be between 0 and 65535 inclusive");
    expect_refusal("maxmemory", "1gbx", "argument must be a memory value");
    expect_refusal("maxmemory", "-1", "argument must be a memory value");
    expect_refusal("maxmemory-clients", "101%", "percentage argument must be less or equal to 100");
    expect_refusal("maxmemory-clients", "-5%", "argument must be a memory or percent value");
    expect_refusal("maxmemory-policy", "foo",
                   "argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-random, "
                   "volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction");
    expect_refusal("save", "3600", "Invalid save parameters");
    expect_refusal("save", "0 1", "Invalid save parameters");
    expect_refusal("lazyfree-lazy-expire", "maybe", "argument must be 'yes' or 'no'");
    expect_refusal("client-output-buffer-limit", "normal 1",
                   "Wrong number of arguments in buffer limit configuration.");
    expect_refusal("client-output-buffer-limit", "foo 0 0 0",
                   "Invalid client class specified in buffer limit configuration.");
    expect_refusal("client-output-buffer-limit", "normal -1 0 0",
                   "Error in hard, soft or soft_seconds setting in buffer limit configuration.");
    expect_refusal("notify-keyspace-events", "Kq", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
    expect_refusal("latency-tracking-info-percentiles", "abc", "Invalid latency-tracking-info-percentiles parameters");
    expect_refusal("latency-tracking-info-percentiles", "200",
                   "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]");
    expect_refusal("oom-score-adj-values", "1", "wrong number of arguments");
    expect_refusal("oom-score-adj-values", "1 2 3000",
                   "Invalid oom-score-adj-values, elements must be between -2000 and 2000.");
    expect_refusal("shutdown-on-sigterm", "save nosave",
                   "shutdown options SAVE and NOSAVE can't be used simultaneously");
    expect_refusal("proc-title-template", "{foo}", "template format is invalid or contains unknown variables");
    expect_refusal("bind", "a b c d e f g h i j k l m n o p q", "Too many bind addresses specified.");
    expect_refusal("cluster-announce-hostname", "a_b",
                   "Hostnames may only contain alphanumeric characters, hyphens or dots");
    expect_refusal("databases", "5", "can't set immutable config");
    expect_refusal("slaveof", "a 1", "can't set immutable config");
    assert_false(set("no such", "1", NULL));
    assert_string_equal(error.text, "ERR Unknown option or number of arguments for CONFIG SET - 'no such'");
    assert_false(set("hz", "20", "hz", "30", NULL));
    assert_string_equal(error.text, "ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter");
}

static void what_loading_relies_on_waits_for_its_end(void **state) {
    (void)state;
    struct config_pair pairs[] = {{SPAN_LITERAL("hz"), SPAN_LITERAL("x")},
                                  {SPAN_LITERAL("appendonly"), SPAN_LITERAL("yes")}};
    struct config_set_options options = {.loading = true};
    assert_false(config_set(&config, pairs, 2, &options, &error));
    assert_string_equal(error.text, "LOADING Redis is loading the dataset in memory");
    pairs[0].value = SPAN_LITERAL("20");
    assert_true(config_set(&config, pairs, 1, &options, &error));
    options.loading = false;
    assert_true(config_set(&config, pairs, 2, &options, &error));
}

static void a_name_from_a_client_cannot_break_the_reply(void **state) {
    (void)state;
    assert_false(set("a\r\n+OK", "1", NULL));
    assert_null(strpbrk(error.text, "\r\n"));
    struct config_pair nul = {SPAN_LITERAL("masteruser"), span_of("a\0b", 3)};
    struct config_set_options options = {0};
    assert_false(config_set(&config, &nul, 1, &options, &error));
    static char large[1 << 20];
    memset(large, ' ', sizeof(large));
    struct config_pair huge = {SPAN_LITERAL("save"), span_of(large, sizeof(large))};
    assert_false(config_set(&config, &huge, 1, &options, &error));
    assert_non_null(strstr(error.text, "argument is too long"));
}

static void a_false_promise_is_refused_at_run_time_too(void **state) {
    (void)state;
    assert_false(set("tls-port", "6380", NULL));
    check_value("tls-port", "0");
}

static void one_bad_pair_changes_nothing(void **state) {
    (void)state;
    assert_false(set("hz", "33", "requirepass", "x", "port", "99999", NULL));
    check_value("hz", "10");
    check_value("requirepass", "");
    assert_false(set("hz", "33", "databases", "4", NULL));
    assert_false(set("hz", "33", "nosuch", "4", NULL));
    check_value("hz", "10");
}

static void both_names_of_a_directive_may_be_set_and_the_later_wins(void **state) {
    (void)state;
    assert_true(set("min-slaves-to-write", "1", "min-replicas-to-write", "2", NULL));
    check_value("min-slaves-to-write", "2");
    assert_true(set("hash-max-ziplist-entries", "7", NULL));
    check_value("hash-max-listpack-entries", "7");
}

static void protected_directives_need_permission(void **state) {
    (void)state;
    struct config_pair pair = {SPAN_LITERAL("dbfilename"), SPAN_LITERAL("x.rdb")};
    struct config_set_options remote = {.client_is_local = false}, local = {.client_is_local = true};
    expect_refusal("dbfilename", "x.rdb", "can't set protected config");
    config.security.enable_protected_configs = CONFIG_PERMIT_LOCAL;
    assert_false(config_set(&config, &pair, 1, &remote, &error));
    assert_true(config_set(&config, &pair, 1, &local, &error));
    config.security.enable_protected_configs = CONFIG_PERMIT_YES;
    assert_true(config_set(&config, &pair, 1, &remote, &error));
    expect_refusal("dbfilename", "a/b", "dbfilename can't be a path, just a filename");
    expect_refusal("dir", "/nonexistent", "No such file or directory");
    expect_refusal("dir", "/dev/null", "Not a directory");
    expect_round_trip("dir", "/usr/../tmp", "/tmp");
}

/* ---- Hooks ---- */

struct witness {
    int calls;
    int64_t hz_seen;
    const char *name;
    const char *refusal;
};

static bool watch(void *ctx, const struct config *changed, const char *name, struct config_error *why) {
    struct witness *witness = ctx;
    witness->calls++;
    witness->hz_seen = changed->general.hz;
    witness->name = name;
    if (witness->refusal) snprintf(why->text, sizeof(why->text), "%s", witness->refusal);
    return witness->refusal == NULL;
}

static void a_hook_sees_new_values_once_and_only_for_changes(void **state) {
    (void)state;
    struct witness network = {0}, hz = {0};
    config_on_change(&config, "port", watch, &network);
    config_on_change(&config, "bind", watch, &network);
    config_on_change(&config, "hz", watch, &hz);
    assert_true(set("hz", "50", NULL));
    assert_int_equal(hz.calls, 1);
    assert_int_equal(hz.hz_seen, 50);
    assert_string_equal(hz.name, "hz");
    assert_true(set("hz", "50", NULL));
    assert_int_equal(hz.calls, 1);
    assert_true(set("port", "7000", "bind", "::1", NULL));
    assert_int_equal(network.calls, 1);
    assert_true(set("port", "7000", "bind", "::", NULL));
    assert_int_equal(network.calls, 2);
    assert_string_equal(network.name, "bind");
}

static void a_refusing_hook_rolls_everything_back(void **state) {
    (void)state;
    struct witness agreeing = {0}, refusing = {.refusal = "Unable to listen on this port. Check server logs."};
    config_on_change(&config, "hz", watch, &agreeing);
    config_on_change(&config, "port", watch, &refusing);
    assert_false(set("hz", "50", "masterauth", "x", "port", "7000", "requirepass", "p", NULL));
    assert_string_equal(error.text, "ERR CONFIG SET failed (possibly related to argument 'port') - "
                                    "Unable to listen on this port. Check server logs.");
    check_value("hz", "10");
    check_value("masterauth", "");
    check_value("port", "6379");
    check_value("requirepass", "");
    assert_int_equal(agreeing.calls, 2);
    assert_int_equal(agreeing.hz_seen, 10);
    assert_int_equal(refusing.calls, 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(values_are_spelled_as_in_redis),
        TEST(get_takes_several_names_and_globs_and_answers_each_once),
        TEST(a_literal_name_is_answered_as_it_was_asked),
        TEST(aliases_are_listed_beside_their_directive),
        TEST(hidden_and_file_only_directives_are_not_listed),
        TEST(typed_fields_follow),
        TEST(every_type_reads_and_spells),
        TEST(refusals_use_the_words_of_redis),
        TEST(what_loading_relies_on_waits_for_its_end),
        TEST(a_name_from_a_client_cannot_break_the_reply),
        TEST(a_false_promise_is_refused_at_run_time_too),
        TEST(one_bad_pair_changes_nothing),
        TEST(both_names_of_a_directive_may_be_set_and_the_later_wins),
        TEST(protected_directives_need_permission),
        TEST(a_hook_sees_new_values_once_and_only_for_changes),
        TEST(a_refusing_hook_rolls_everything_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
