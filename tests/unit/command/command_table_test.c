/* The command table: names, ids, categories, and where the keys are. */

#include "base/number.h"
#include "base/random.h"
#include "command/argument_spec.h"
#include "command/command_table.h"
#include "command/families.h"
#include "server/families.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void handler(struct call *call) {
    reply_ok(call->reply);
}

static const struct command_spec box_subcommands[] = {
    {.name = "open", .handler = handler, .arity = 3, .keys = {KEY_AT(2, KEY_RO)}},
    {.name = "close", .handler = handler, .arity = 2},
};

static const struct command_spec commands[] = {
    {.name = "one",
     .handler = handler,
     .arity = 2,
     .flags = COMMAND_READONLY | COMMAND_FAST,
     .keys = {KEY_AT(1, KEY_RO)}},
    {.name = "all", .handler = handler, .arity = -2, .flags = COMMAND_WRITE, .keys = {KEYS_FROM(1, -1, 1, KEY_RW)}},
    {.name = "pairs", .handler = handler, .arity = -3, .flags = COMMAND_WRITE, .keys = {KEYS_FROM(1, -1, 2, KEY_OW)}},
    {.name = "none", .handler = handler, .arity = 1, .flags = COMMAND_ADMIN, .categories = CATEGORY_CONNECTION},
    {.name = "move", .handler = handler, .arity = 3, .keys = {KEY_AT(1, KEY_RW), KEY_AT(2, KEY_OW)}},
    {.name = "fold", .handler = handler, .arity = -3, .keys = {KEY_AT(2, KEY_OW), KEYS_FROM(3, -1, 1, KEY_RO)}},
    {.name = "count",
     .handler = handler,
     .arity = -3,
     .flags = COMMAND_MOVABLE_KEYS,
     .keys = {KEYS_COUNTED(1, KEY_RO)}},
    {.name = "apart", .handler = handler, .arity = -4, .keys = {KEY_AT(1, KEY_RO), KEY_AT(3, KEY_OW)}},
    {.name = "half",
     .handler = handler,
     .arity = -3,
     .keys = {{.flags = KEY_RO, .index = 2, .last = -1, .step = 1, .limit = 2}}},
    {.name = "into",
     .handler = handler,
     .arity = -2,
     .flags = COMMAND_MOVABLE_KEYS,
     .keys = {KEY_AT(1, KEY_RO),
              {.flags = KEY_OW, .keyword = "STORE", .index = 2, .step = 1},
              {.flags = KEY_OW, .keyword = "FROM", .index = -2, .last = -1, .step = 1}}},
    {.name = "tail", .handler = handler, .arity = -3, .keys = {KEYS_FROM(1, -2, 1, KEY_RW)}},
    {.name = "box", .arity = -2, .subcommands = box_subcommands, .subcommand_count = 2},
};

static int set_up(void **state) {
    const struct command_family families[] = {{commands, sizeof(commands) / sizeof(commands[0])}};
    return (*state = command_table_create(families, 1)) ? 0 : -1;
}

static int tear_down(void **state) {
    command_table_destroy(*state);
    return 0;
}

static const struct command *find(struct command_table *table, const char *name) {
    return command_table_find(table, span_of_text(name));
}

static void names_are_found_in_any_case(void **state) {
    struct command_table *table = *state;
    assert_ptr_equal(find(table, "one")->spec, &commands[0]);
    assert_ptr_equal(find(table, "ONE")->spec, &commands[0]);
    assert_ptr_equal(find(table, "PaIrS")->spec, &commands[2]);
    static const char *const unknown[] = {"", "on", "ones", "o ne", "box|open", "0NE", "\317\316\305"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) assert_null(find(table, unknown[i]));
    assert_null(command_table_find(table, SPAN_LITERAL("one\0")));
    char name[5000];
    memset(name, 'o', sizeof(name));
    assert_null(command_table_find(table, span_of(name, sizeof(name))));
}

static void ids_are_dense_and_subcommands_come_last(void **state) {
    struct command_table *table = *state;
    unsigned count = sizeof(commands) / sizeof(commands[0]);
    assert_int_equal(command_table_count(table), count);
    assert_int_equal(command_table_ids(table), count + 2);
    for (unsigned id = 0; id < count + 2; id++) assert_int_equal(command_table_by_id(table, id)->id, id);
    assert_null(command_table_by_id(table, count + 2));
    assert_null(command_table_at(table, count));
    assert_ptr_equal(command_table_at(table, 3)->spec, &commands[3]);
    const struct command *box = find(table, "box"), *open = command_find_subcommand(box, SPAN_LITERAL("OPEN"));
    assert_ptr_equal(open->parent, box);
    assert_string_equal(open->full_name, "box|open");
    assert_int_equal(open->id, count);
    assert_null(command_find_subcommand(box, SPAN_LITERAL("ope")));
    assert_null(command_find_subcommand(find(table, "one"), SPAN_LITERAL("open")));
}

static void categories_follow_from_flags(void **state) {
    struct command_table *table = *state;
    assert_int_equal(find(table, "one")->categories, CATEGORY_READ | CATEGORY_FAST);
    assert_int_equal(find(table, "all")->categories, CATEGORY_WRITE | CATEGORY_SLOW);
    assert_int_equal(find(table, "none")->categories,
                     CATEGORY_ADMIN | CATEGORY_DANGEROUS | CATEGORY_CONNECTION | CATEGORY_SLOW);
}

static void plain_ranges_are_known_beforehand(void **state) {
    struct command_table *table = *state;
    static const struct {
        const char *name;
        int first, last, step;
    } wanted[] = {{"one", 1, 1, 1},  {"all", 1, -1, 1},  {"pairs", 1, -1, 2}, {"none", 0, 0, 0},
                  {"move", 1, 2, 1}, {"fold", 2, -1, 1}, {"count", 0, 0, 0},  {"apart", 0, 0, 0},
                  {"half", 0, 0, 0}, {"into", 0, 0, 0},  {"tail", 1, -2, 1}};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        const struct command *command = find(table, wanted[i].name);
        assert_int_equal(command->first_key, wanted[i].first);
        if (!wanted[i].first) continue;
        assert_int_equal(command->last_key, wanted[i].last);
        assert_int_equal(command->key_step, wanted[i].step);
    }
    assert_true(find(table, "none")->no_keys);
    assert_false(find(table, "one")->no_keys || find(table, "count")->no_keys);
}

/* The positions as text, "1 3 5"; "-" when the arguments do not fit. */
static void expect_keys(struct command_table *table, const char *line, const char *wanted) {
    char words[256], got[256] = "";
    struct span argv[32];
    uint32_t argc = 0, positions[32], flags[32];
    snprintf(words, sizeof(words), "%s", line);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) argv[argc++] = span_of_text(word);
    const struct command *command = command_table_find(table, argv[0]);
    if (command->subcommand_count) command = command_find_subcommand(command, argv[1]);
    int count = command_key_positions(command, argv, argc, positions, flags, 32);
    for (int i = 0; i < count; i++) sprintf(got + strlen(got), i ? " %u" : "%u", positions[i]);
    assert_string_equal(count < 0 ? "-" : got, wanted);
    assert_int_equal(command_key_positions(command, argv, argc, NULL, NULL, 0), count);
}

static void keys_are_found_by_their_specifications(void **state) {
    struct command_table *table = *state;
    expect_keys(table, "one k", "1");
    expect_keys(table, "all a b c", "1 2 3");
    expect_keys(table, "pairs a 1 b 2", "1 3");
    expect_keys(table, "pairs a 1 b", "1 3");
    expect_keys(table, "none", "");
    expect_keys(table, "move a b", "1 2");
    expect_keys(table, "fold op d s t", "2 3 4");
    expect_keys(table, "apart a x b y", "1 3");
    expect_keys(table, "half STREAMS a b 1 2", "2 3");
    expect_keys(table, "tail a b timeout", "1 2");
    expect_keys(table, "box open k", "2");
    expect_keys(table, "box close", "");
}

static void counted_keys(void **state) {
    struct command_table *table = *state;
    expect_keys(table, "count 2 a b", "2 3");
    expect_keys(table, "count 1 a b", "2");
    expect_keys(table, "count 3 a b", "-");
    expect_keys(table, "count 0 a b", "-");
    expect_keys(table, "count -1 a b", "-");
    expect_keys(table, "count x a b", "-");
    expect_keys(table, "count 9223372036854775807 a", "-");
    expect_keys(table, "count 4294967297 a", "-");
}

static void keys_behind_a_keyword(void **state) {
    struct command_table *table = *state;
    expect_keys(table, "into a", "1");
    expect_keys(table, "into a store b", "1 3");
    expect_keys(table, "into a x STORE b y", "1 4");
    expect_keys(table, "into a STORE", "1");
    expect_keys(table, "into a x from b c", "1 4 5");
    expect_keys(table, "into a STORE b FROM c d", "1 3 5 6");
}

/* Random rows and arguments: positions stay inside the arguments, and what dispatch computes from the plain range is
 * what the specifications say. */
static void random_arguments_never_lead_outside(void **state) {
    struct command_table *table = *state;
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_seed(&random, seed);
    static const char *const words[] = {"a", "1", "2", "3", "-1", "STORE", "from", "99999999999", ""};
    for (unsigned round = 0; round < 200000; round++) {
        const struct command *command =
            command_table_by_id(table, (unsigned)random_below(&random, command_table_ids(table)));
        struct span argv[12];
        uint32_t argc = 1 + (uint32_t)random_below(&random, 11), positions[12];
        for (uint32_t i = 0; i < argc; i++) argv[i] = span_of_text(words[random_below(&random, 9)]);
        if (!command_arity_fits(command, argc)) continue;
        int count = command_key_positions(command, argv, argc, positions, NULL, 12);
        assert_true(count >= -1 && count <= (int)argc);
        for (int i = 0; i < count; i++) assert_true(positions[i] > 0 && positions[i] < argc);
        if (!command->first_key || count < 0) continue;
        int last = command->last_key < 0 ? (int)argc + command->last_key : command->last_key, k = 0;
        for (int at = command->first_key; at <= last; at += command->key_step, k++) assert_int_equal(positions[k], at);
        assert_int_equal(k, count);
    }
}

/* ---- the rows of all families ---- */

static const struct {
    const struct command_spec *specs;
    const unsigned *count;
} families[] = {
    {string_commands, &string_command_count},
    {bitmap_commands, &bitmap_command_count},
    {hyperloglog_commands, &hyperloglog_command_count},
    {hash_commands, &hash_command_count},
    {set_commands, &set_command_count},
    {list_commands, &list_command_count},
    {stream_commands, &stream_command_count},
    {sort_commands, &sort_command_count},
    {sorted_set_commands, &sorted_set_command_count},
    {geo_commands, &geo_command_count},
    {transaction_commands, &transaction_command_count},
    {key_commands, &key_command_count},
    {key_expiry_commands, &key_expiry_command_count},
    {key_scan_commands, &key_scan_command_count},
    {migrate_commands, &migrate_command_count},
    {dump_commands, &dump_command_count},
    {restore_commands, &restore_command_count},
    {object_commands, &object_command_count},
    {database_commands, &database_command_count},
    {command_commands, &command_command_count},
    {connection_commands, &connection_command_count},
    {client_commands, &client_command_count},
    {config_commands, &config_command_count},
    {server_commands, &server_command_count},
    {info_commands, &info_command_count},
    {save_commands, &save_command_count},
    {memory_commands, &memory_command_count},
    {slowlog_commands, &slowlog_command_count},
    {latency_commands, &latency_command_count},
    {persistence_commands, &persistence_command_count},
    {waiting_commands, &waiting_command_count},
    {failover_commands, &failover_command_count},
    {replication_commands, &replication_command_count},
    {replica_commands, &replica_command_count},
    {debug_commands, &debug_command_count},
};

static bool is_version(const char *text) {
    unsigned parts[3];
    int length = 0;
    return text && sscanf(text, "%u.%u.%u%n", &parts[0], &parts[1], &parts[2], &length) == 3 && text[length] == '\0';
}

static void check_row(const struct command_spec *spec, bool subcommand) {
    static const char *const groups[] = {"string",     "generic",      "bitmap", "hyperloglog", "server",
                                         "connection", "transactions", "list",   "set",         "sorted-set",
                                         "hash",       "stream",       "geo",    "pubsub"};
    bool known = false;
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) known |= strcmp(groups[i], spec->group) == 0;
    assert_true(known);
    assert_true(is_version(spec->since));
    assert_true(!spec->deprecated_since || is_version(spec->deprecated_since));
    assert_true(spec->summary && *spec->summary);
    assert_true(spec->arity != 0 && (spec->arity > 0 ? spec->arity : -spec->arity) >= 1 + subcommand);
    assert_true(spec->handler || spec->subcommand_count);
    for (const char *c = spec->name; *c; c++) assert_true(*c == '-' || *c == '_' || (*c >= 'a' && *c <= 'z'));
    assert_false((spec->flags & COMMAND_WRITE) && (spec->flags & COMMAND_READONLY));
    struct argument_tree tree;
    assert_true(argument_spec_parse(spec->arguments, &tree));
    unsigned keys = 0;
    while (keys < COMMAND_KEY_SPECS && spec->keys[keys].flags) keys++;
    for (unsigned i = 0; i < tree.count; i++) assert_true(!tree.items[i].names_keys || tree.items[i].key_spec < keys);
    for (unsigned i = 0; i < keys; i++) {
        assert_true(spec->keys[i].unknown || (spec->keys[i].index != 0 && spec->keys[i].step > 0));
        assert_int_equal(__builtin_popcount(spec->keys[i].flags & (KEY_RW | KEY_RO | KEY_OW | KEY_RM)), 1);
    }
    for (unsigned i = 0; i < spec->subcommand_count; i++) check_row(&spec->subcommands[i], true);
}

static void the_rows_of_all_families_are_sound(void **state) {
    (void)state;
    enum { FAMILIES = sizeof(families) / sizeof(families[0]) };
    struct command_family all[FAMILIES];
    for (size_t f = 0; f < FAMILIES; f++) {
        all[f] = (struct command_family){families[f].specs, *families[f].count};
        for (unsigned i = 0; i < all[f].count; i++) check_row(&all[f].specs[i], false);
    }
    struct command_table *table = command_table_create(all, FAMILIES); /* asserts that no name is there twice */
    assert_non_null(table);
    command_table_destroy(table);
}

static enum command_rename rename_to(struct command_table *table, const char *name, const char *new_name) {
    return command_table_rename(table, span_of_text(name), span_of_text(new_name));
}

static void a_renamed_command_has_one_name_for_clients_and_two_for_journals(void **state) {
    struct command_table *table = *state;
    const struct command *one = find(table, "one");
    unsigned all = command_table_named(table);
    assert_int_equal(rename_to(table, "ONE", "uno"), COMMAND_RENAMED);
    assert_null(find(table, "one"));
    assert_ptr_equal(find(table, "Uno"), one);
    assert_ptr_equal(command_table_find_told(table, SPAN_LITERAL("one")), one);
    assert_ptr_equal(command_table_find_told(table, SPAN_LITERAL("uno")), one);
    assert_string_equal(one->full_name, "one");
    assert_int_equal(command_table_named(table), all);
    assert_int_equal(rename_to(table, "uno", "one"), COMMAND_RENAMED);
    assert_ptr_equal(find(table, "one"), one);
}

static void a_command_without_a_name_is_out_of_reach(void **state) {
    struct command_table *table = *state;
    const struct command *box = find(table, "box");
    unsigned all = command_table_named(table);
    assert_int_equal(rename_to(table, "box", ""), COMMAND_RENAMED);
    assert_null(find(table, "box"));
    assert_null(find(table, ""));
    assert_false(command_table_is_named(table, box));
    assert_false(command_table_is_named(table, &box->subcommands[0]));
    assert_ptr_equal(command_table_find_told(table, SPAN_LITERAL("BOX")), box);
    assert_int_equal(command_table_named(table), all - 1);
    assert_int_equal(rename_to(table, "tail", "box"), COMMAND_RENAMED); /* the name is free */
    assert_string_equal(find(table, "box")->full_name, "tail");
}

static void no_name_is_given_twice(void **state) {
    struct command_table *table = *state;
    assert_int_equal(rename_to(table, "nosuch", "x"), COMMAND_RENAME_UNKNOWN);
    assert_int_equal(rename_to(table, "one", "TAIL"), COMMAND_RENAME_TAKEN);
    assert_non_null(find(table, "one"));
    assert_int_equal(rename_to(table, "one", "ONE"), COMMAND_RENAMED);
    assert_non_null(find(table, "one"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_are_found_in_any_case, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_renamed_command_has_one_name_for_clients_and_two_for_journals, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_command_without_a_name_is_out_of_reach, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_name_is_given_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ids_are_dense_and_subcommands_come_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(categories_follow_from_flags, set_up, tear_down),
        cmocka_unit_test_setup_teardown(plain_ranges_are_known_beforehand, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_are_found_by_their_specifications, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counted_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_behind_a_keyword, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_arguments_never_lead_outside, set_up, tear_down),
        cmocka_unit_test(the_rows_of_all_families_are_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
