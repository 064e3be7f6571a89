/* The stream commands where there is no redis-server 7.0 to compare with: what is newer (idempotent IDs, "+" for
 * XREAD), what depends on time, and what depends on how streams are stored: trimming by pages, memory, large groups. */

#include "command/families.h"
#include "keyspace/stream_value.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define OK      "+OK\r\n"
#define NULL_2  "$-1\r\n"
#define NOTHING "*-1\r\n"
/* IN_PROCESS_START_MS as an ID. */
#define NOW(sequence) "$15\r\n2000000000000-" #sequence "\r\n"

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {stream_commands, stream_command_count},
                                              {key_commands, key_command_count},
                                              {transaction_commands, transaction_command_count}};
    *state = in_process_create(families, 4);
    return 0;
}

static struct stream_root *root_of(struct in_process *server, const char *name, struct page_access *access) {
    static struct view view;
    view = (struct view){.keyspace = server->keyspace, .now_ms = server->dispatcher->now_ms};
    struct key key = keyspace_key(server->keyspace, span_of_text(name));
    struct stream_value stream;
    assert_true(stream_value_open(&stream, &view, &key, STREAM_FOR_READ));
    assert_non_null(stream.root);
    *access = stream.access;
    return stream.root;
}

static void assert_valid(struct in_process *server, const char *name) {
    struct page_access access;
    struct stream_root *root = root_of(server, name, &access);
    assert_true(stream_kind.validate(&root->collection, &access));
}

static void add_entries(struct in_process *server, const char *key, unsigned count) {
    char line[128];
    for (unsigned i = 0; i < count; i++) {
        snprintf(line, sizeof(line), "XADD %s * first %08u second %08u", key, i, i * 7);
        in_process_run(server, line);
    }
}

static void ids_come_from_the_clock_and_never_go_back(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "XADD s * a 1", NOW(0));
    in_process_expect(server, "XADD s * a 1", NOW(1));
    in_process_expect(server, "XADD s 2000000000009-* a 1", "$15\r\n2000000000009-0\r\n");
    in_process_expect(server, "XADD s * a 1", "$15\r\n2000000000009-1\r\n");
    in_process_advance(server, 10);
    in_process_expect(server, "XADD s * a 1", "$15\r\n2000000000010-0\r\n");
    in_process_expect(server, "XADD s NOMKSTREAM * a 1", "$15\r\n2000000000010-1\r\n");
    in_process_expect(server, "XADD none NOMKSTREAM * a 1", NULL_2);
    in_process_expect(server, "XADD s 18446744073709551615-18446744073709551615 a 1",
                      "$41\r\n18446744073709551615-18446744073709551615\r\n");
    in_process_expect(server, "XADD s * a 1",
                      "-ERR The stream has exhausted the last possible ID, unable to add more items\r\n");
    assert_valid(server, "s");
}

static void a_message_sent_twice_is_added_once(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "XADD s IDMP p1 m1 * amount 100", NOW(0));
    in_process_expect(server, "XADD s IDMP p1 m1 * amount 200", NOW(0));
    in_process_expect(server, "XADD s IDMP p2 m1 * amount 100", NOW(1));
    in_process_expect(server, "XADD s IDMPAUTO p1 MAXLEN ~ 100 * a 1 b 2", NOW(2));
    in_process_expect(server, "XADD s MAXLEN = 100 IDMPAUTO p1 * b 2 a 1", NOW(2));
    in_process_expect(server, "XLEN s", ":3\r\n");
    in_process_expect(server, "XADD none NOMKSTREAM IDMP p m * a 1", NULL_2);
    in_process_expect(server, "COPY s t", ":1\r\n");
    in_process_expect(server, "XADD t IDMP p1 m1 * amount 200", NOW(0));
    /* 100 seconds are the default. */
    in_process_advance(server, 100000);
    in_process_expect(server, "XADD s IDMP p1 m1 * amount 300", NOW(0));
    in_process_advance(server, 1);
    in_process_expect(server, "XADD s IDMP p1 m1 * amount 300", "$15\r\n2000000100001-0\r\n");
}

static void idempotent_ids_are_set_up_and_told(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "XCFGSET s IDMP-MAXSIZE 2", "-ERR no such key\r\n");
    in_process_run(server, "XADD s IDMP p m0 * a 1");
    in_process_expect(server, "XCFGSET s IDMP-MAXSIZE 2 IDMP-DURATION 7", OK);
    in_process_expect(server, "XADD s IDMP p m0 * a 1", NOW(1));
    in_process_expect(server, "XADD s IDMP p m1 * a 1", NOW(2));
    in_process_expect(server, "XADD s IDMP p m2 * a 1", NOW(3));
    in_process_expect(server, "XADD s IDMP p m1 * a 1", NOW(2));
    in_process_expect(server, "XADD s IDMP p m0 * a 1", NOW(4));
    const char *info = in_process_run(server, "XINFO STREAM s");
    assert_non_null(strstr(info,
                           "idmp-duration\r\n:7\r\n$12\r\nidmp-maxsize\r\n:2\r\n$12\r\npids-tracked\r\n:1\r\n"
                           "$12\r\niids-tracked\r\n:2\r\n$10\r\niids-added\r\n:5\r\n$15\r\niids-duplicates\r\n:1\r\n"));
    in_process_expect(server, "XCFGSET s IDMP-MAXSIZE 10001",
                      "-ERR IDMP-MAXSIZE must be between 1 and 10000 entries\r\n");
    in_process_expect(server, "XCFGSET s IDMP-DURATION 0",
                      "-ERR IDMP-DURATION must be between 1 and 86400 seconds\r\n");
    in_process_expect(server, "XCFGSET s IDMP-WHAT 1", "-ERR syntax error\r\n");
    in_process_expect(server, "XCFGSET s IDMP-MAXSIZE", "-ERR wrong number of arguments for 'xcfgset' command\r\n");
}

static void what_is_wrong_with_idempotent_ids_is_told(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "XADD s IDMP p * f v", "-ERR Invalid stream ID specified as stream command argument\r\n");
    in_process_expect(server, "XADD s IDMP p i 1-1 f v",
                      "-ERR IDMP/IDMPAUTO can be used only with auto-generated IDs\r\n");
    in_process_expect(server, "XADD s IDMPAUTO p IDMP q i * f v", "-ERR IDMP/IDMPAUTO specified multiple times\r\n");
    in_process_expect(server, "XADD s IDMP \"\" i * f v", "-ERR IDMP requires a non-empty producer ID\r\n");
    in_process_expect(server, "XADD s IDMP p \"\" * f v", "-ERR IDMP requires a non-empty idempotent ID\r\n");
    in_process_expect(server, "XADD s IDMPAUTO \"\" * f v", "-ERR IDMPAUTO requires a non-empty producer ID\r\n");
    in_process_expect(server, "EXISTS s", ":0\r\n");
}

static void xread_with_plus_gives_the_last_entry(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "XREAD STREAMS s +", NOTHING);
    in_process_run(server, "XADD s 1-0 a 1");
    in_process_run(server, "XADD s 2-0 a 2");
    in_process_run(server, "XADD s 3-0 a 3");
    in_process_run(server, "XDEL s 3-0");
    in_process_expect(server, "XREAD STREAMS s +",
                      "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\na\r\n$1\r\n2\r\n");
}

static void times_of_consumers_pass(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "XADD s 1-0 a 1");
    in_process_run(server, "XGROUP CREATE s g 0");
    in_process_run(server, "XGROUP CREATECONSUMER s g c");
    in_process_advance(server, 20);
    in_process_expect(
        server, "XINFO CONSUMERS s g",
        "*1\r\n*8\r\n$4\r\nname\r\n$1\r\nc\r\n$7\r\npending\r\n:0\r\n$4\r\nidle\r\n:20\r\n$8\r\ninactive\r\n:-1\r\n");
    in_process_run(server, "XREADGROUP GROUP g c STREAMS s >");
    in_process_advance(server, 5);
    in_process_expect(server, "XREADGROUP GROUP g c STREAMS s >", NOTHING);
    in_process_advance(server, 3);
    in_process_expect(
        server, "XINFO CONSUMERS s g",
        "*1\r\n*8\r\n$4\r\nname\r\n$1\r\nc\r\n$7\r\npending\r\n:1\r\n$4\r\nidle\r\n:3\r\n$8\r\ninactive\r\n:8\r\n");
    in_process_expect(server, "XPENDING s g IDLE 9 - + 10", "*0\r\n");
    in_process_expect(server, "XPENDING s g IDLE 8 - + 10", "*1\r\n*4\r\n$3\r\n1-0\r\n$1\r\nc\r\n:8\r\n:1\r\n");
    in_process_expect(server, "XCLAIM s g d 9 1-0 JUSTID", "*0\r\n");
    in_process_expect(server, "XAUTOCLAIM s g d 8 0 JUSTID", "*3\r\n$3\r\n0-0\r\n*1\r\n$3\r\n1-0\r\n*0\r\n");
    in_process_expect(server, "XPENDING s g - + 10 c", "*0\r\n");
    in_process_expect(server, "XPENDING s g - + 10 d", "*1\r\n*4\r\n$3\r\n1-0\r\n$1\r\nd\r\n:0\r\n:1\r\n");
    assert_valid(server, "s");
}

static void approximate_trimming_takes_whole_nodes(void **state) {
    struct in_process *server = *state;
    add_entries(server, "s", 1000);
    struct page_access access;
    struct stream_root *root = root_of(server, "s", &access);
    uint32_t pages = page_table_live(root->entries.table);
    assert_in_range(pages, 5, 40);
    in_process_expect(server, "XTRIM s MAXLEN ~ 999", ":0\r\n");
    in_process_expect(server, "XTRIM s MAXLEN ~ 500 LIMIT 10", ":0\r\n");
    int64_t removed = in_process_integer(server, "XTRIM s MAXLEN ~ 500");
    assert_int_equal(removed, 500);
    server->keyspace->limits.stream_node_entries = 30;
    in_process_expect(server, "XTRIM s MAXLEN ~ 425", ":70\r\n"); /* 500 are gone: to the 570th */
    in_process_expect(server, "XTRIM s MAXLEN ~ 0 LIMIT 50", ":30\r\n");
    server->keyspace->limits.stream_node_entries = 0; /* pages */
    removed = in_process_integer(server, "XTRIM s MAXLEN ~ 200");
    assert_in_range(removed, 1, 200);
    root = root_of(server, "s", &access);
    assert_true(page_table_live(root->entries.table) < pages);
    assert_int_equal(in_process_integer(server, "XTRIM s MAXLEN 200"), 200 - removed);
    assert_valid(server, "s");
    assert_int_equal(in_process_integer(server, "XTRIM s MINID ~ 2000000000001"), 200);
    in_process_expect(server, "XLEN s", ":0\r\n");
    assert_valid(server, "s");
    add_entries(server, "s", 1000);
    in_process_run(server, "XADD s MAXLEN ~ 100 * a 1");
    assert_in_range(in_process_integer(server, "XLEN s"), 100, 250);
    assert_valid(server, "s");
}

/* The aims: 30 resident bytes an entry in a large stream; about 650 for a stream of one entry. */
static void streams_are_small(void **state) {
    struct in_process *server = *state;
    enum { ENTRIES = 100000, ROOM = 656, RECORD_AND_SLOT = 24 + 10 };
    struct page_access access;
    in_process_run(server, "XADD tiny * first 12345678 second 12345678");
    struct stream_root *root = root_of(server, "tiny", &access);
    size_t bytes = collection_bytes(&root->collection) + RECORD_AND_SLOT;
    print_message("a stream of one entry: %zu bytes\n", bytes);
    assert_true(bytes <= ROOM);
    for (unsigned i = 0; i < ENTRIES; i++) {
        char line[96];
        snprintf(line, sizeof(line), "XADD s * first %08u second %08u", i, i * 7);
        in_process_run(server, line);
        if (i % 10 == 9) in_process_advance(server, 1);
    }
    root = root_of(server, "s", &access);
    bytes = collection_bytes(&root->collection);
    print_message("%.2f bytes an entry\n", (double)bytes / ENTRIES);
    assert_true(bytes <= 30.0 * ENTRIES);
}

static void groups_of_any_size_go_in_slices(void **state) {
    struct in_process *server = *state;
    struct page_access access;
    enum { ENTRIES = 60000 };
    add_entries(server, "s", ENTRIES);
    in_process_run(server, "XGROUP CREATE s g 0");
    in_process_run(server, "XREADGROUP GROUP g c COUNT 50000 STREAMS s >");
    in_process_run(server, "XREADGROUP GROUP g d STREAMS s >");
    assert_valid(server, "s");
    in_process_expect(server, "XGROUP DELCONSUMER s g d", ":10000\r\n");
    assert_valid(server, "s");
    in_process_expect(server, "XGROUP DESTROY s g", ":1\r\n");
    struct stream_root *root = root_of(server, "s", &access);
    assert_non_null(root->groups.given_up);
    in_process_expect(server, "XGROUP CREATE s g 0", OK);
    in_process_expect(server, "COPY s t", ":1\r\n");
    for (unsigned i = 0; i < 50; i++) in_process_run(server, "XADD s * a 1");
    root = root_of(server, "s", &access);
    assert_null(root->groups.given_up);
    in_process_expect(server, "DEL s", ":1\r\n");
    assert_valid(server, "t");
    in_process_expect(server, "XLEN t", ":60000\r\n");
}

/* What XRANGE gives is counted before it is read; both ways and every count agree with going through by hand. */
static void ranges_agree_with_what_was_added(void **state) {
    struct in_process *server = *state;
    enum { ENTRIES = 700, TEXT = 64 };
    char line[TEXT];
    for (unsigned i = 1; i <= ENTRIES; i++) {
        snprintf(line, sizeof(line), "XADD s %u-%u n %u", i / 3, i % 3 + 1, i);
        in_process_run(server, line);
    }
    for (unsigned first = 1; first <= ENTRIES; first += 13) {
        unsigned count = first % 50 + 1, there = ENTRIES - first + 1 < count ? ENTRIES - first + 1 : count;
        snprintf(line, sizeof(line), "XRANGE s %u-%u + COUNT %u", first / 3, first % 3 + 1, count);
        const char *reply = in_process_run(server, line);
        assert_int_equal(strtoul(reply + 1, NULL, 10), there);
        char last[TEXT];
        snprintf(last, sizeof(last), "\r\nn\r\n$%d\r\n%u\r\n", snprintf(NULL, 0, "%u", first + there - 1),
                 first + there - 1);
        assert_string_equal(reply + strlen(reply) - strlen(last), last);
        snprintf(line, sizeof(line), "XREVRANGE s (%u-%u - COUNT %u", first / 3, first % 3 + 1, count);
        reply = in_process_run(server, line);
        assert_int_equal(strtoul(reply + 1, NULL, 10), first - 1 < count ? first - 1 : count);
    }
}

static void what_is_no_stream_is_refused(void **state) {
    struct in_process *server = *state;
    static const char *const lines[] = {
        "XADD k * a 1",
        "XLEN k",
        "XRANGE k - +",
        "XREVRANGE k + -",
        "XDEL k 1",
        "XTRIM k MAXLEN 1",
        "XREAD STREAMS k 0",
        "XREADGROUP GROUP g c STREAMS k >",
        "XACK k g 1",
        "XGROUP CREATE k g 0 MKSTREAM",
        "XGROUP SETID k g 0",
        "XGROUP DESTROY k g",
        "XINFO STREAM k",
        "XINFO GROUPS k",
        "XPENDING k g",
        "XCLAIM k g c 0 1",
        "XSETID k 1",
        "XAUTOCLAIM k g c 0 0",
        "XINFO CONSUMERS k g",
        "XCFGSET k IDMP-MAXSIZE 1",
    };
    in_process_run(server, "SET k text");
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        in_process_expect(server, lines[i], "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
}

/* Only entries count as a change of the key. */
static void watchers_are_told_of_entries_and_not_of_groups(void **state) {
    struct in_process *server = *state;
    static const struct {
        const char *line;
        bool told;
    } cases[] = {{"XGROUP CREATE s g 0", false}, {"XREADGROUP GROUP g c STREAMS s >", false},
                 {"XACK s g 1-0", false},        {"XCLAIM s g c 0 2-0", false},
                 {"XSETID s 9-0", false},        {"XGROUP DESTROY s g", false},
                 {"XADD s 10-0 a 1", true},      {"XDEL s 10-0", true},
                 {"XDEL s 10-0", false},         {"XTRIM s MAXLEN 0", true},
                 {"XTRIM s MAXLEN 0", false}};
    in_process_run(server, "XADD s 1-0 a 1");
    in_process_run(server, "XADD s 2-0 a 1");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        in_process_run(server, "WATCH s");
        in_process_run(server, cases[i].line);
        in_process_run(server, "MULTI");
        const char *reply = in_process_run(server, "EXEC");
        if ((strcmp(reply, NOTHING) == 0) != cases[i].told) fail_msg("%s", cases[i].line);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, in_process_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(ids_come_from_the_clock_and_never_go_back),
        TEST(a_message_sent_twice_is_added_once),
        TEST(idempotent_ids_are_set_up_and_told),
        TEST(what_is_wrong_with_idempotent_ids_is_told),
        TEST(xread_with_plus_gives_the_last_entry),
        TEST(times_of_consumers_pass),
        TEST(approximate_trimming_takes_whole_nodes),
        TEST(streams_are_small),
        TEST(groups_of_any_size_go_in_slices),
        TEST(ranges_agree_with_what_was_added),
        TEST(what_is_no_stream_is_refused),
        TEST(watchers_are_told_of_entries_and_not_of_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
