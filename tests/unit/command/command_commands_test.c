/* COMMAND and its subcommands over a small table of its own, byte by byte in both protocols. */

#include "command/argument_spec.h"
#include "command/families.h"
#include "tests/support/in_process.h"

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

static const struct command_spec basket_subcommands[] = {
    {.name = "weigh",
     .handler = handler,
     .arity = 3,
     .flags = COMMAND_READONLY,
     .keys = {KEY_AT(2, KEY_RO)},
     .group = "fruit",
     .since = "2.0.0",
     .summary = "Weighs",
     .complexity = "O(1)",
     .arguments = "key:k"},
};

static const struct command_spec fruit_commands[] = {
    {.name = "pick",
     .handler = handler,
     .arity = -2,
     .flags = COMMAND_READONLY | COMMAND_FAST,
     .categories = CATEGORY_STRING,
     .keys = {KEYS_FROM(1, -1, 1, KEY_RO | KEY_ACCESS)},
     .group = "fruit",
     .since = "1.0.0",
     .summary = "Picks",
     .complexity = "O(1)",
     .arguments = "key:k...",
     .tips = "a_tip b_tip:c"},
    {.name = "graft",
     .handler = handler,
     .arity = 3,
     .flags = COMMAND_WRITE,
     .keys = {KEY_AT(1, KEY_RW | KEY_DELETE), KEY_AT(2, KEY_OW | KEY_INSERT)},
     .group = "fruit",
     .since = "1.0.0",
     .summary = "Grafts",
     .deprecated_since = "6.2.0",
     .replaced_by = "`PICK`",
     .internal = true,
     .history = "2.6.0 Became older.\n3.0.0 Older still."},
    {.name = "mix",
     .handler = handler,
     .arity = -3,
     .flags = COMMAND_WRITE | COMMAND_MOVABLE_KEYS,
     .keys = {KEY_AT(1, KEY_OW),
              KEYS_COUNTED(2, KEY_RO),
              {.flags = KEY_OW, .keyword = "INTO", .index = 3, .step = 1, .notes = "where it goes"}},
     .group = "fruit",
     .since = "1.0.0",
     .summary = "Mixes"},
    {.name = "pair",
     .handler = handler,
     .arity = -3,
     .flags = COMMAND_WRITE | COMMAND_ADMIN,
     .keys = {KEYS_FROM(1, -1, 2, KEY_OW)},
     .group = "fruit",
     .since = "1.0.0",
     .summary = "Pairs"},
    {.name = "set",
     .handler = handler,
     .arity = -3,
     .flags = COMMAND_WRITE,
     .keys = {KEY_AT(1, KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE)},
     .group = "fruit",
     .since = "1.0.0"},
    {.name = "bitfield",
     .handler = handler,
     .arity = -2,
     .flags = COMMAND_WRITE,
     .keys = {KEY_AT(1, KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE)},
     .group = "fruit",
     .since = "1.0.0"},
    {.name = "basket",
     .arity = -2,
     .group = "fruit",
     .since = "2.0.0",
     .summary = "Holds",
     .subcommands = basket_subcommands,
     .subcommand_count = 1},
};

static int set_up(void **state) {
    const struct command_family families[] = {{fruit_commands, sizeof(fruit_commands) / sizeof(fruit_commands[0])},
                                              {command_commands, command_command_count}};
    *state = in_process_create(families, 2);
    return 0;
}

static bool begins_with(const char *text, const char *beginning) {
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

#define RANGE2(index, last, step)                                                                                      \
    "$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:" index "\r\n"      \
    "$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:" last "\r\n"         \
    "$7\r\nkeystep\r\n:" step "\r\n$5\r\nlimit\r\n:0\r\n"

static void info_shows_flags_ranges_categories_tips_and_keys(void **state) {
    in_process_expect(*state, "COMMAND INFO PICK",
                      "*1\r\n*10\r\n$4\r\npick\r\n:-2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:-1\r\n:1\r\n"
                      "*3\r\n+@read\r\n+@string\r\n+@fast\r\n*2\r\n$5\r\na_tip\r\n$7\r\nb_tip:c\r\n"
                      "*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n" RANGE2("1", "-1", "1") "*0\r\n");
}

static void info_joins_neighbouring_ranges(void **state) {
    in_process_expect(
        *state, "COMMAND INFO graft",
        "*1\r\n*10\r\n$5\r\ngraft\r\n:3\r\n*1\r\n+write\r\n:1\r\n:2\r\n:1\r\n"
        "*2\r\n+@write\r\n+@slow\r\n*0\r\n*2\r\n"
        "*6\r\n$5\r\nflags\r\n*2\r\n+RW\r\n+delete\r\n" RANGE2(
            "1", "0", "1") "*6\r\n$5\r\nflags\r\n*2\r\n+OW\r\n+insert\r\n" RANGE2("2", "0", "1") "*0\r\n");
}

static void info_in_resp3_has_sets_and_maps(void **state) {
    struct in_process *server = *state;
    server->session->protocol = 3;
    in_process_expect(
        server, "COMMAND INFO mix nosuch",
        "*2\r\n*10\r\n$3\r\nmix\r\n:-3\r\n~2\r\n+write\r\n+movablekeys\r\n:1\r\n:1\r\n:1\r\n"
        "~2\r\n+@write\r\n+@slow\r\n~0\r\n~3\r\n"
        "%3\r\n$5\r\nflags\r\n~1\r\n+OW\r\n"
        "$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:1\r\n"
        "$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n%3\r\n$7\r\nlastkey\r\n:0\r\n"
        "$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n"
        "%3\r\n$5\r\nflags\r\n~1\r\n+RO\r\n"
        "$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:2\r\n"
        "$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$6\r\nkeynum\r\n$4\r\nspec\r\n%3\r\n$9\r\nkeynumidx\r\n:0\r\n"
        "$8\r\nfirstkey\r\n:1\r\n$7\r\nkeystep\r\n:1\r\n"
        "%4\r\n$5\r\nnotes\r\n$13\r\nwhere it goes\r\n$5\r\nflags\r\n~1\r\n+OW\r\n"
        "$12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$7\r\nkeyword\r\n$4\r\nspec\r\n%2\r\n"
        "$7\r\nkeyword\r\n$4\r\nINTO\r\n$9\r\nstartfrom\r\n:3\r\n"
        "$9\r\nfind_keys\r\n%2\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n%3\r\n$7\r\nlastkey\r\n:0\r\n"
        "$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n"
        "~0\r\n_\r\n");
}

static void info_nests_subcommands_and_finds_them_by_full_name(void **state) {
#define WEIGH                                                                                                          \
    "*10\r\n$12\r\nbasket|weigh\r\n:3\r\n*1\r\n+readonly\r\n:2\r\n:2\r\n:1\r\n*2\r\n+@read\r\n+@slow\r\n*0\r\n*1\r\n"  \
    "*6\r\n$5\r\nflags\r\n*1\r\n+RO\r\n" RANGE2("2", "0", "1") "*0\r\n"
    in_process_expect(
        *state, "COMMAND INFO basket",
        "*1\r\n*10\r\n$6\r\nbasket\r\n:-2\r\n*0\r\n:0\r\n:0\r\n:0\r\n*1\r\n+@slow\r\n*0\r\n*0\r\n*1\r\n" WEIGH);
    in_process_expect(*state, "COMMAND INFO Basket|Weigh", "*1\r\n" WEIGH);
    in_process_expect(*state, "COMMAND INFO basket|eat pick|weigh basket|weigh|x |",
                      "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n");
}

static void without_a_subcommand_all_are_told(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "COMMAND");
    assert_true(begins_with(server->reply, "*8\r\n*10\r\n$4\r\npick\r\n"));
    size_t length = server->reply_length;
    char *all = strdup(server->reply);
    in_process_run(server, "COMMAND INFO");
    assert_int_equal(server->reply_length, length);
    assert_string_equal(server->reply, all);
    free(all);
    in_process_expect(server, "COMMAND COUNT", ":8\r\n");
}

static void docs_show_every_field(void **state) {
    in_process_expect(*state, "COMMAND DOCS graft nosuch",
                      "*2\r\n$5\r\ngraft\r\n*14\r\n$7\r\nsummary\r\n$6\r\nGrafts\r\n$5\r\nsince\r\n$5\r\n1.0.0\r\n"
                      "$5\r\ngroup\r\n$5\r\nfruit\r\n$9\r\ndoc_flags\r\n*2\r\n+deprecated\r\n+syscmd\r\n"
                      "$16\r\ndeprecated_since\r\n$5\r\n6.2.0\r\n$11\r\nreplaced_by\r\n$6\r\n`PICK`\r\n"
                      "$7\r\nhistory\r\n*2\r\n*2\r\n$5\r\n2.6.0\r\n$13\r\nBecame older.\r\n"
                      "*2\r\n$5\r\n3.0.0\r\n$12\r\nOlder still.\r\n");
    struct in_process *server = *state;
    server->session->protocol = 3;
    in_process_expect(server, "COMMAND DOCS basket",
                      "%1\r\n$6\r\nbasket\r\n%4\r\n$7\r\nsummary\r\n$5\r\nHolds\r\n$5\r\nsince\r\n$5\r\n2.0.0\r\n"
                      "$5\r\ngroup\r\n$5\r\nfruit\r\n$11\r\nsubcommands\r\n%1\r\n$12\r\nbasket|weigh\r\n%5\r\n"
                      "$7\r\nsummary\r\n$6\r\nWeighs\r\n$5\r\nsince\r\n$5\r\n2.0.0\r\n$5\r\ngroup\r\n$5\r\nfruit\r\n"
                      "$10\r\ncomplexity\r\n$4\r\nO(1)\r\n$9\r\narguments\r\n*1\r\n%3\r\n$4\r\nname\r\n$3\r\nkey\r\n"
                      "$4\r\ntype\r\n$3\r\nkey\r\n$14\r\nkey_spec_index\r\n:0\r\n");
    in_process_expect(server, "COMMAND DOCS nosuch", "%0\r\n");
}

static void list_filters(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "COMMAND LIST");
    assert_true(begins_with(server->reply, "*16\r\n$4\r\npick\r\n"));
    in_process_expect(server, "COMMAND LIST FILTERBY PATTERN *i*k*", "*1\r\n$4\r\npick\r\n");
    in_process_expect(server, "COMMAND LIST filterby pattern basket*", "*2\r\n$6\r\nbasket\r\n$12\r\nbasket|weigh\r\n");
    in_process_expect(server, "COMMAND LIST FILTERBY ACLCAT String", "*1\r\n$4\r\npick\r\n");
    in_process_expect(server, "COMMAND LIST FILTERBY ACLCAT dangerous", "*1\r\n$4\r\npair\r\n");
    in_process_expect(server, "COMMAND LIST FILTERBY ACLCAT @read", "*0\r\n");
    in_process_expect(server, "COMMAND LIST FILTERBY MODULE json", "*0\r\n");
    in_process_expect(server, "COMMAND LIST FILTERBY PATTERN", "-ERR syntax error\r\n");
    in_process_expect(server, "COMMAND LIST FILTERBY SHAPE x", "-ERR syntax error\r\n");
    in_process_expect(server, "COMMAND LIST SORTBY PATTERN x", "-ERR syntax error\r\n");
    in_process_expect(server, "COMMAND LIST FILTERBY PATTERN a b", "-ERR syntax error\r\n");
}

static void getkeys_finds_the_keys(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "COMMAND GETKEYS pick a b c", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    in_process_expect(server, "COMMAND GETKEYS pair a b c", "*2\r\n$1\r\na\r\n$1\r\nc\r\n");
    in_process_expect(server, "COMMAND GETKEYS basket weigh k", "*1\r\n$1\r\nk\r\n");
    in_process_expect(server, "COMMAND GETKEYS MIX d 2 x y INTO z",
                      "*4\r\n$1\r\nd\r\n$1\r\nx\r\n$1\r\ny\r\n$1\r\nz\r\n");
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS graft a b",
                      "*2\r\n*2\r\n$1\r\na\r\n*2\r\n+RW\r\n+delete\r\n*2\r\n$1\r\nb\r\n*2\r\n+OW\r\n+insert\r\n");
}

static void what_is_done_with_a_key_may_depend_on_the_arguments(void **state) {
    struct in_process *server = *state;
    static const char written[] = "*1\r\n*2\r\n$1\r\nk\r\n*3\r\n+RW\r\n+access\r\n+update\r\n";
    static const char read[] = "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+RO\r\n+access\r\n";
    static const char overwritten[] = "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+OW\r\n+update\r\n";
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS set k v", overwritten);
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS set k get", overwritten);
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS set k v NX GET", written);
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS bitfield k", read);
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS bitfield k GET u8 0 OVERFLOW sat get u8 1", read);
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS bitfield k GET u8 0 SET u8 0 1", written);
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS bitfield k GET u8", written);
    in_process_expect(server, "COMMAND GETKEYSANDFLAGS bitfield k INCRBY u8 0 1", written);
}

static void getkeys_refuses_what_has_no_keys(void **state) {
    struct in_process *server = *state;
    static const char *const invalid[] = {
        "mix d 3 x y", "mix d -1 x", "mix d 0 x", "mix d n x", "mix d 9999999999999 x", "mix d 99999999999999999999 x"};
    char line[128];
    in_process_expect(server, "COMMAND GETKEYS nosuch a", "-ERR Invalid command specified\r\n");
    in_process_expect(server, "COMMAND GETKEYS basket eat k", "-ERR Invalid command specified\r\n");
    in_process_expect(server, "COMMAND GETKEYS command count", "-ERR The command has no key arguments\r\n");
    in_process_expect(server, "COMMAND GETKEYS graft a", "-ERR Invalid number of arguments specified for command\r\n");
    in_process_expect(server, "COMMAND GETKEYS pick",
                      "-ERR wrong number of arguments for 'command|getkeys' command\r\n");
    for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++) {
        snprintf(line, sizeof(line), "COMMAND GETKEYS %s", invalid[i]);
        in_process_expect(server, line, "-ERR Invalid arguments specified for command\r\n");
    }
}

static void unknown_subcommands_are_refused(void **state) {
    in_process_expect(*state, "COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n");
    in_process_expect(*state, "COMMAND COUNT x", "-ERR wrong number of arguments for 'command|count' command\r\n");
    struct in_process *server = *state;
    in_process_run(server, "COMMAND HELP");
    assert_true(begins_with(server->reply, "*17\r\n+COMMAND <subcommand>"));
}

/* Every row that is linked in: what it says of its arguments can be shown. */
static void the_notations_of_all_rows_are_well_formed(void **state) {
    struct in_process *server = *state;
    for (unsigned id = 0; id < command_table_ids(server->table); id++) {
        const struct command_spec *spec = command_table_by_id(server->table, id)->spec;
        assert_true(argument_spec_count(spec->arguments) >= 0);
    }
}

int main(void) {
#define IN_PROCESS(test) cmocka_unit_test_setup_teardown(test, set_up, in_process_stop)
    const struct CMUnitTest tests[] = {
        IN_PROCESS(info_shows_flags_ranges_categories_tips_and_keys),
        IN_PROCESS(info_joins_neighbouring_ranges),
        IN_PROCESS(info_in_resp3_has_sets_and_maps),
        IN_PROCESS(info_nests_subcommands_and_finds_them_by_full_name),
        IN_PROCESS(without_a_subcommand_all_are_told),
        IN_PROCESS(docs_show_every_field),
        IN_PROCESS(list_filters),
        IN_PROCESS(getkeys_finds_the_keys),
        IN_PROCESS(what_is_done_with_a_key_may_depend_on_the_arguments),
        IN_PROCESS(getkeys_refuses_what_has_no_keys),
        IN_PROCESS(unknown_subcommands_are_refused),
        IN_PROCESS(the_notations_of_all_rows_are_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
