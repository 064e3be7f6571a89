/* SORT: over lists, sets and sorted sets, by and to other keys and fields, stored; and which keys it locks. */

#include "command/command_table.h"
#include "command/families.h"
#include "command/sort_pattern.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static int start(void **state) {
    const struct command_family families[] = {
        {list_commands, list_command_count}, {sort_commands, sort_command_count},
        {set_commands, set_command_count},   {sorted_set_commands, sorted_set_command_count},
        {hash_commands, hash_command_count}, {string_commands, string_command_count},
        {key_commands, key_command_count},   {transaction_commands, transaction_command_count}};
    *state = in_process_create(families, sizeof(families) / sizeof(families[0]));
    return 0;
}

/* The bulk strings of an array reply, with blanks between; nulls as "-". */
static void expect(struct in_process *server, const char *line, const char *expected) {
    char words[4096] = "";
    const char *at = in_process_run(server, line);
    if (*at != '*') fail_msg("%s: %s", line, at);
    long count = strtol(at + 1, NULL, 10);
    at = strchr(at, '\n') + 1;
    for (long i = 0; i < count; i++) {
        assert_int_equal(*at, '$');
        int length = (int)strtol(at + 1, NULL, 10);
        at = strchr(at, '\n') + 1;
        size_t used = strlen(words);
        snprintf(words + used, sizeof(words) - used, "%s%.*s", i ? " " : "", length < 0 ? 1 : length,
                 length < 0 ? "-" : at);
        if (length >= 0) at += length + 2;
    }
    if (strcmp(words, expected) != 0) fail_msg("%s: %s instead of %s", line, words, expected);
}

#define NO_NUMBERS "-ERR One or more scores can't be converted into double\r\n"

static void numbers_and_texts(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "RPUSH l 10 9 -1 1.5 1e1 inf");
    expect(server, "SORT l", "-1 1.5 9 10 1e1 inf");
    expect(server, "SORT l DESC", "inf 1e1 10 9 1.5 -1");
    expect(server, "SORT l ALPHA", "-1 1.5 10 1e1 9 inf");
    expect(server, "SORT_RO l LIMIT 1 2", "1.5 9");
    expect(server, "SORT l LIMIT -5 2", "-1 1.5");
    expect(server, "SORT l LIMIT 5 -1", "inf");
    expect(server, "SORT l LIMIT 6 2", "");
    expect(server, "SORT none", "");
    in_process_run(server, "RPUSH l text");
    in_process_expect(server, "SORT l", NO_NUMBERS);
    in_process_expect(server, "SORT l STORE d", NO_NUMBERS);
    in_process_expect(server, "EXISTS d", ":0\r\n");
    in_process_run(server, "SET s 1");
    in_process_expect(server, "SORT s", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
}

static void other_keys_give_order_and_result(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "RPUSH l 1 2 3");
    in_process_run(server, "MSET w_1 30 w_2 20 w_3 10 n_1 one n_3 three");
    in_process_run(server, "HSET o_1 name uno rank 2");
    in_process_run(server, "HSET o_2 name dos rank 1");
    in_process_run(server, "HSET o_3 name tres rank 3");
    expect(server, "SORT l BY w_*", "3 2 1");
    expect(server, "SORT l BY w_* GET # GET n_*", "3 three 2 - 1 one");
    expect(server, "SORT l BY o_*->rank GET o_*->name", "dos uno tres");
    expect(server, "SORT l BY o_*->name ALPHA", "2 3 1");
    expect(server, "SORT l BY none_* DESC", "3 2 1");
    expect(server, "SORT l GET constant", "- - -");
    expect(server, "SORT l BY n_* ALPHA", "2 1 3");
    expect(server, "SORT l GET w_*->rank GET o_*", "- - - - - -");
    in_process_expect(server, "SORT l BY o_*->name", NO_NUMBERS);
}

/* As in Redis: what follows a NUL in a pattern is text. */
static void behind_a_nul_a_pattern_has_no_meaning(void **state) {
    (void)state;
    assert_false(sort_pattern_parse(span_of("w\0*", 3)).names_key);
    assert_true(sort_pattern_parse(span_of("#\0x", 3)).is_element);
    struct sort_pattern pattern = sort_pattern_parse(span_of("w_*\0->f", 7));
    assert_true(pattern.names_key);
    assert_int_equal(pattern.suffix.length, 4);
    assert_int_equal(pattern.field.length, 0);
    assert_int_equal(sort_pattern_parse(span_of("w_*->\0f", 7)).field.length, 0);
}

static void by_a_constant_nothing_is_sorted(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "RPUSH l c a b");
    in_process_run(server, "ZADD z 3 c 1 a 2 b");
    expect(server, "SORT l BY nosort", "c a b");
    expect(server, "SORT l BY nosort DESC LIMIT 0 2", "b a");
    expect(server, "SORT z BY nosort LIMIT 1 5", "b c");
    expect(server, "SORT z BY nosort DESC LIMIT 0 1", "c");
    expect(server, "SORT z ALPHA DESC", "c b a");
    in_process_run(server, "SADD s zz b a");
    in_process_expect(server, "SORT s BY nosort STORE d", ":3\r\n");
    expect(server, "LRANGE d 0 -1", "a b zz");
    expect(server, "SORT s ALPHA LIMIT 1 1", "b");
    in_process_run(server, "SADD i 5 -3 10");
    expect(server, "SORT i", "-3 5 10");
}

static void results_are_stored_as_lists(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "RPUSH l 3 1 2");
    in_process_run(server, "SET d text EX 100");
    in_process_expect(server, "SORT l GET # GET w_* STORE d", ":6\r\n");
    expect(server, "LRANGE d 0 -1", "1  2  3 ");
    in_process_expect(server, "SORT l DESC STORE l", ":3\r\n");
    expect(server, "LRANGE l 0 -1", "3 2 1");
    in_process_expect(server, "SORT none STORE d", ":0\r\n");
    in_process_expect(server, "EXISTS d", ":0\r\n");
    in_process_expect(server, "SORT_RO l STORE d", "-ERR syntax error\r\n");
}

/* A big list, of integers and of texts, into a big list. */
static void many_elements(void **state) {
    struct in_process *server = *state;
    char line[64];
    server->keyspace->limits.list_packed_size = 8;
    for (int i = 0; i < 5000; i++) {
        snprintf(line, sizeof(line), "RPUSH l %d%s", (i * 7919) % 5000, i % 2 ? ".0" : "");
        in_process_run(server, line);
    }
    in_process_expect(server, "SORT l STORE d", ":5000\r\n");
    for (int i = 0; i < 5000; i += 111) {
        snprintf(line, sizeof(line), "LINDEX d %d", i);
        assert_int_equal(strtol(in_process_bulk(server, line).data, NULL, 10), i);
    }
    expect(server, "SORT l DESC LIMIT 4997 5", "2 1.0 0");
}

static void the_words_of_options_may_be_names(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "RPUSH store 2 1");
    in_process_expect(server, "SORT store GET # BY store STORE get", ":2\r\n");
    expect(server, "LRANGE get 0 -1", "2 1");
    in_process_expect(server, "SORT store STORE first STORE last", ":2\r\n");
    in_process_expect(server, "EXISTS first last", ":1\r\n");
}

static void which_keys_are_locked(void **state) {
    const struct in_process *server = *state;
    const struct command *sort = command_table_find(server->table, SPAN_LITERAL("sort"));
    struct span plain[] = {SPAN_LITERAL("SORT"), SPAN_LITERAL("l"),    SPAN_LITERAL("get"),   SPAN_LITERAL("store"),
                           SPAN_LITERAL("by"),   SPAN_LITERAL("none"), SPAN_LITERAL("STORE"), SPAN_LITERAL("d")};
    struct span pattern[] = {SPAN_LITERAL("SORT"), SPAN_LITERAL("l"), SPAN_LITERAL("GET"), SPAN_LITERAL("w_*")};
    struct span limit[] = {SPAN_LITERAL("SORT"), SPAN_LITERAL("l"), SPAN_LITERAL("LIMIT"), SPAN_LITERAL("by"),
                           SPAN_LITERAL("*")};
    uint32_t positions[4];
    assert_int_equal(command_key_positions(sort, plain, 8, positions, NULL, 4), 2);
    assert_int_equal(positions[0], 1);
    assert_int_equal(positions[1], 7);
    assert_int_equal(command_key_positions(sort, pattern, 4, positions, NULL, 4), 1);
    assert_false(sort->spec->reaches(plain, 8));
    assert_true(sort->spec->reaches(pattern, 4));
    assert_false(sort->spec->reaches(limit, 5));
}

static void inside_a_transaction(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "MSET w_1 2 w_2 1");
    in_process_run(server, "MULTI");
    in_process_run(server, "RPUSH l 1 2");
    in_process_run(server, "SORT l BY w_* STORE d");
    in_process_run(server, "LRANGE d 0 -1");
    in_process_expect(server, "EXEC", "*3\r\n:2\r\n:2\r\n*2\r\n$1\r\n2\r\n$1\r\n1\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_and_texts, start, in_process_stop),
        cmocka_unit_test_setup_teardown(other_keys_give_order_and_result, start, in_process_stop),
        cmocka_unit_test(behind_a_nul_a_pattern_has_no_meaning),
        cmocka_unit_test_setup_teardown(by_a_constant_nothing_is_sorted, start, in_process_stop),
        cmocka_unit_test_setup_teardown(results_are_stored_as_lists, start, in_process_stop),
        cmocka_unit_test_setup_teardown(many_elements, start, in_process_stop),
        cmocka_unit_test_setup_teardown(the_words_of_options_may_be_names, start, in_process_stop),
        cmocka_unit_test_setup_teardown(which_keys_are_locked, start, in_process_stop),
        cmocka_unit_test_setup_teardown(inside_a_transaction, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
