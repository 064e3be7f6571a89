/* Options of the load generator: defaults, mixes, and one clear line for what makes no sense. */
#include "bench/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { ARGUMENTS_MAX = 16 };

/* Splits `line` at spaces ('~' stands for a space inside an argument) and parses it; false means refused. */
static bool parse(const char *line, struct load_options *options, char *error, size_t error_size) {
    static char copy[500];
    char *arguments[ARGUMENTS_MAX + 1] = {(char *)"load"};
    int count = 1;
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word != NULL && count < ARGUMENTS_MAX; word = strtok(NULL, " "))
        arguments[count++] = word;
    for (int i = 1; i < count; i++)
        for (char *at = arguments[i]; *at != '\0'; at++)
            if (*at == '~') *at = ' ';
    error[0] = '\0';
    return load_options_parse(count, arguments, options, error, error_size);
}

static void defaults_are_a_mix_of_reads_and_writes(void **state) {
    (void)state;
    struct load_options options;
    char error[200];
    assert_true(parse("", &options, error, sizeof(error)));
    assert_int_equal(options.connections, 50);
    assert_int_equal(options.mix_count, 2);
    assert_string_equal(options.mix[0].command, "GET __key__");
    assert_int_equal(options.mix[0].weight, 90);
    assert_string_equal(options.mix[1].command, "SET __key__ __value__");
    assert_int_equal(options.mix[1].weight, 10);
    load_options_release(&options);
}

static void a_mix_names_commands_keys_and_weights(void **state) {
    (void)state;
    struct load_options options;
    char error[200];
    assert_true(parse("--mix mget:5=7,setex,ping=2 --ttl 77 --distribution zipf:1.2 --value-size 10-20", &options,
                      error, sizeof(error)));
    assert_int_equal(options.mix_count, 3);
    assert_int_equal(options.mix[0].repeat, 5);
    assert_int_equal(options.mix[0].repeat_from, 1);
    assert_int_equal(options.mix[0].weight, 7);
    assert_string_equal(options.mix[1].command, "SETEX __key__ 77 __value__");
    assert_int_equal(options.mix[1].weight, 1);
    assert_int_equal(options.distribution, KEYS_ZIPF);
    assert_true(options.zipf_exponent > 1.19 && options.zipf_exponent < 1.21);
    assert_int_equal(options.shape.value_size_min, 10);
    assert_int_equal(options.shape.value_size_max, 20);
    load_options_release(&options);
}

static void a_ttl_before_or_after_the_mix_is_the_same(void **state) {
    (void)state;
    struct load_options options;
    char error[200];
    assert_true(parse("--ttl 5 --mix setex", &options, error, sizeof(error)));
    assert_string_equal(options.mix[0].command, "SETEX __key__ 5 __value__");
    load_options_release(&options);
}

static void raw_commands_are_taken_as_they_are(void **state) {
    (void)state;
    struct load_options options;
    char error[200];
    assert_true(parse("--command HSET~__key__~f~__value__ --command HGET~__key__~f", &options, error, sizeof(error)));
    assert_int_equal(options.mix_count, 2);
    assert_string_equal(options.mix[0].command, "HSET __key__ f __value__");
    load_options_release(&options);
}

static void a_fill_walks_the_keys_with_set(void **state) {
    (void)state;
    struct load_options options;
    char error[200];
    assert_true(parse("--fill", &options, error, sizeof(error)));
    assert_int_equal(options.distribution, KEYS_SEQUENTIAL);
    assert_int_equal(options.mix_count, 1);
    assert_string_equal(options.mix[0].command, "SET __key__ __value__");
    load_options_release(&options);
}

static void nonsense_is_refused_with_a_line(void **state) {
    (void)state;
    const char *bad[] = {"--port 0",
                         "--port 65536",
                         "--port x",
                         "--port",
                         "--nothing",
                         "stray",
                         "--keys 0",
                         "--keys 10000000000000",
                         "--mix frob=1",
                         "--mix get:3=1",
                         "--mix get=0",
                         "--mix get=1 --command PING",
                         "--fill --mix get=1,set=1",
                         "--fill --requests 10",
                         "--threads 4 --connections 3",
                         "--distribution pareto",
                         "--distribution zipf:0",
                         "--distribution zipf:x",
                         "--value-size 20-10",
                         "--value-size -5",
                         "--value-kind blob",
                         "--key-format nope",
                         "--seconds 0",
                         "--protocol 4"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct load_options options;
        char error[200];
        if (parse(bad[i], &options, error, sizeof(error))) fail_msg("accepted: %s", bad[i]);
        assert_true(strlen(error) > 0);
        load_options_release(&options);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_a_mix_of_reads_and_writes),
        cmocka_unit_test(a_mix_names_commands_keys_and_weights),
        cmocka_unit_test(a_ttl_before_or_after_the_mix_is_the_same),
        cmocka_unit_test(raw_commands_are_taken_as_they_are),
        cmocka_unit_test(a_fill_walks_the_keys_with_set),
        cmocka_unit_test(nonsense_is_refused_with_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
