/* Long strings made of pages, as commands see them. Every reading and editing command is run on a value of pages and on
 * one of raw bytes with the same contents (SET keeps it raw, and edits of what is longer than STRING_CONVERT_BYTES
 * leave it so), and has to answer the same: in memory, and with the pages of the first on a tier. */

#include "base/random.h"
#include "command/families.h"
#include "command/string_value.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    LENGTH = 4400000, /* more than STRING_CONVERT_BYTES */
    WORDS_MAX = 16,
#ifdef TERRACE_SANITIZE
    STEPS = 1500,
#else
    STEPS = 6000,
#endif
};

static uint64_t seed_of_run(void) {
    static uint64_t seed;
    if (seed) return seed;
    const char *text = getenv("TERRACE_TEST_SEED");
    struct random random;
    random_seed_from_kernel(&random);
    seed = text ? strtoull(text, NULL, 10) : random_next(&random) >> 32 | 1;
    print_message("TERRACE_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static struct in_process *start(bool tiered) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {bitmap_commands, bitmap_command_count},
                                              {hyperloglog_commands, hyperloglog_command_count},
                                              {list_commands, list_command_count},
                                              {sort_commands, sort_command_count},
                                              {object_commands, object_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count}};
    const struct tier_options tier = {.path = "tier",
                                      .size_bytes = 256 << 20,
                                      .segment_bytes = 1 << 20,
                                      .memory_bytes = 256 << 20,
                                      .direct = TIER_DIRECT_AUTO};
    return in_process_create_with(&(struct in_process_options){
        .families = families, .family_count = sizeof(families) / sizeof(families[0]), .tier = tiered ? &tier : NULL});
}

static struct lookup find(struct in_process *server, const char *name) {
    const struct view view = {.keyspace = server->keyspace, .now_ms = IN_PROCESS_START_MS};
    const struct key key = keyspace_key(server->keyspace, span_of_text(name));
    struct lookup lookup = keyspace_find(&view, &key);
    assert_non_null(lookup.record);
    return lookup;
}

static bool is_paged(struct in_process *server, const char *name) {
    return record_is_paged(find(server, name).record);
}

static struct collection *collection_at(struct in_process *server, const char *name) {
    struct lookup lookup = find(server, name);
    assert_true(record_is_paged(lookup.record));
    return lookup_collection(&lookup);
}

/* ---- the same commands on pages and on raw bytes ---- */

struct pair {
    struct in_process *server;
    struct random random;
    bool tiered;
    uint64_t length;
};

static uint64_t below(struct pair *pair, uint64_t bound) {
    return random_below(&pair->random, bound);
}

static long long any_position(struct pair *pair, uint64_t bound) {
    uint64_t position = below(pair, bound + bound / 50);
    if (below(pair, 3) == 0) position = position / PAGED_BYTES_PAGE * PAGED_BYTES_PAGE;
    if (position && below(pair, 4) == 0) position -= 1;
    return below(pair, 5) ? (long long)position : -(long long)position;
}

static long long position_inside(struct pair *pair, uint64_t bound) {
    long long position = any_position(pair, bound - 20);
    return position < 0 ? (long long)below(pair, bound - 20) : position > (long long)bound - 20 ? 0 : position;
}

/* One command, where %s, twice at most, is the key; the reply of the value made of pages has to be that of the raw one.
 */
__attribute__((format(printf, 2, 3))) static void both(struct pair *pair, const char *format, ...) {
    char pattern[1024], line[1100];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(pattern, sizeof(pattern), format, arguments);
    va_end(arguments);
    snprintf(line, sizeof(line), pattern, "raw", "raw");
    in_process_run(pair->server, line);
    size_t length = pair->server->reply_length;
    char *expected = malloc(length);
    memcpy(expected, pair->server->reply, length);
    snprintf(line, sizeof(line), pattern, "paged", "paged");
    in_process_run(pair->server, line);
    if (pair->server->reply_length != length || memcmp(pair->server->reply, expected, length) != 0)
        fail_msg("%s: %.60s instead of %.60s", line, pair->server->reply, expected);
    free(expected);
}

static void part_of(struct pair *pair, char *part, size_t length) {
    for (size_t i = 0; i < length; i++) part[i] = (char)('a' + below(pair, 26));
    part[length] = '\0';
}

static void step_edit(struct pair *pair) {
    char part[600];
    part_of(pair, part, below(pair, 10) ? below(pair, 12) : below(pair, sizeof(part) - 1));
    uint64_t bits = pair->length * 8;
    switch (below(pair, 6)) {
    case 0: both(pair, "SETRANGE %%s %lld %s", position_inside(pair, pair->length - 600), part); break;
    case 1: both(pair, "SETRANGE %%s %lld \"%s\\x00\\x00\"", position_inside(pair, pair->length - 600), part); break;
    case 2: both(pair, "SETBIT %%s %lld %d", position_inside(pair, bits), (int)below(pair, 2)); break;
    case 3:
        both(pair, "BITFIELD %%s SET i%d %lld -7 INCRBY u13 %lld 999 OVERFLOW FAIL INCRBY i5 %lld 9 GET u63 %lld",
             1 + (int)below(pair, 64), position_inside(pair, bits - 64), position_inside(pair, bits),
             position_inside(pair, bits), position_inside(pair, bits));
        break;
    case 4:
        if (below(pair, 20)) break;
        both(pair, "APPEND %%s %s", part);
        pair->length += strlen(part);
        break;
    default: both(pair, "BITFIELD %%s OVERFLOW FAIL SET u3 %lld 12", position_inside(pair, bits)); break;
    }
}

static void step_read(struct pair *pair) {
    uint64_t bits = pair->length * 8;
    long long first = any_position(pair, pair->length), last = first + (long long)below(pair, 40000);
    switch (below(pair, 12)) {
    case 0: both(pair, "GETBIT %%s %lld", position_inside(pair, bits)); break;
    case 1: both(pair, "BITCOUNT %%s %lld %lld", first, last); break;
    case 2: both(pair, "BITCOUNT %%s %lld %lld BIT", any_position(pair, bits), any_position(pair, bits)); break;
    case 3: both(pair, "BITPOS %%s %d %lld", (int)below(pair, 2), first); break;
    case 4: both(pair, "BITPOS %%s %d %lld %lld", (int)below(pair, 2), first, any_position(pair, pair->length)); break;
    case 5:
        both(pair, "BITPOS %%s %d %lld %lld BIT", (int)below(pair, 2), any_position(pair, bits),
             any_position(pair, bits));
        break;
    case 6: both(pair, "STRLEN %%s"); break;
    case 7: both(pair, "BITFIELD_RO %%s GET i%d %lld", 1 + (int)below(pair, 64), position_inside(pair, bits)); break;
    default: both(pair, "GETRANGE %%s %lld %lld", first, last); break;
    }
}

static void step_whole(struct pair *pair) {
    switch (below(pair, 6)) {
    case 0: both(pair, "GET %%s"); break;
    case 1: both(pair, "MGET absent %%s"); break;
    case 2: both(pair, "GETEX %%s PERSIST"); break;
    case 3: both(pair, "INCR %%s"); break;
    case 4: both(pair, "BITCOUNT %%s"); break;
    default: {
        static const char *const operations[] = {"AND", "OR", "XOR"};
        both(pair, "BITOP %s result %%s raw small absent", operations[below(pair, 3)]);
        both(pair, "BITOP NOT not-%%s %%s");
        assert_true(is_paged(pair->server, "not-paged"));
        in_process_run(pair->server, "BITOP XOR result not-raw not-paged");
        in_process_expect(pair->server, "BITCOUNT result", ":0\r\n");
        in_process_run(pair->server, "DEL result not-raw not-paged");
        break;
    }
    }
}

static void check_kinds(struct pair *pair) {
    assert_true(is_paged(pair->server, "paged"));
    assert_false(is_paged(pair->server, "raw"));
    const struct view view = {.keyspace = pair->server->keyspace};
    struct collection *collection = collection_at(pair->server, "paged");
    if (pair->tiered) return;
    struct page_access access = keyspace_pages(&view, &pair->server->keyspace->shards[collection->shard]);
    assert_true(paged_bytes_validate(paged_bytes_of(collection), &access));
}

static void run_pair(bool tiered) {
    struct pair pair = {.server = start(tiered), .tiered = tiered, .length = LENGTH};
    random_seed(&pair.random, seed_of_run());
    char *zeros = calloc(1, LENGTH);
    in_process_run_with_value(pair.server, "SET", "raw", span_of(zeros, LENGTH));
    free(zeros);
    in_process_run(pair.server, "SET small 12345678901234567890123");
    in_process_expect(pair.server, "SETRANGE paged 4399999 \"\\x00\"", ":4400000\r\n");
    for (unsigned step = 0; step < STEPS; step++) {
        if (tiered && step % 97 == 0) in_process_demote(pair.server, "paged");
        if (tiered && step % 291 == 0) in_process_settle(pair.server);
        if (below(&pair, 150) == 0)
            step_whole(&pair);
        else if (below(&pair, 2))
            step_edit(&pair);
        else
            step_read(&pair);
        if (step % 512 == 0) check_kinds(&pair);
    }
    both(&pair, "GET %%s");
    check_kinds(&pair);
    if (tiered) assert_true(pair.server->waits > 100);
    in_process_destroy(pair.server);
}

static void pages_answer_as_raw_bytes_do(void **state) {
    (void)state;
    run_pair(false);
}

static void pages_on_a_tier_answer_as_raw_bytes_do(void **state) {
    (void)state;
    run_pair(true);
}

/* ---- which values are made of pages ---- */

static void an_edit_that_makes_a_value_long_makes_it_of_pages(void **state) {
    (void)state;
    struct in_process *server = start(false);
    in_process_expect(server, "SETRANGE a 65535 x", ":65536\r\n");
    assert_false(is_paged(server, "a"));
    in_process_expect(server, "APPEND a y", ":65537\r\n");
    assert_true(is_paged(server, "a"));
    in_process_expect_bytes(server, "GETRANGE a 65530 70000", "$7\r\n\0\0\0\0\0xy\r\n");
    in_process_destroy(server);
}

/* An integer, and a time to live, survive the change. */
static void what_was_there_stays(void **state) {
    (void)state;
    struct in_process *server = start(false);
    in_process_run(server, "SET n -12345 PX 5000");
    in_process_expect(server, "SETBIT n 800000 1", ":0\r\n");
    assert_true(is_paged(server, "n"));
    in_process_expect(server, "GETRANGE n 0 5", "$6\r\n-12345\r\n");
    in_process_expect(server, "STRLEN n", ":100001\r\n");
    in_process_expect(server, "OBJECT ENCODING n", "$3\r\nraw\r\n");
    in_process_expect(server, "PTTL n", ":5000\r\n");
    in_process_advance(server, 5000);
    in_process_expect(server, "EXISTS n", ":0\r\n");
    in_process_destroy(server);
}

static void set_and_long_raw_values_stay_raw(void **state) {
    (void)state;
    struct in_process *server = start(false);
    char *bytes = calloc(1, 5 << 20);
    in_process_run_with_value(server, "SET", "one", span_of(bytes, 1 << 20));
    in_process_run_with_value(server, "SET", "five", span_of(bytes, 5 << 20));
    assert_false(is_paged(server, "one"));
    in_process_run(server, "SETBIT one 7 1");
    in_process_run(server, "SETBIT five 7 1");
    assert_true(is_paged(server, "one"));
    assert_false(is_paged(server, "five"));
    /* Growing it so far costs more than making it of pages. */
    in_process_run(server, "SETBIT five 4294967295 1");
    assert_true(is_paged(server, "five"));
    in_process_expect(server, "BITCOUNT five", ":2\r\n");
    in_process_run(server, "SET one x");
    assert_false(is_paged(server, "one"));
    in_process_destroy(server);
    free(bytes);
}

static void a_sparse_bitmap_costs_its_touched_pages(void **state) {
    (void)state;
    struct in_process *server = start(false);
    in_process_expect(server, "SETBIT k 4294967295 1", ":0\r\n");
    in_process_expect(server, "SETBIT k 0 0", ":0\r\n");
    struct collection *collection = collection_at(server, "k");
    assert_int_equal(page_table_live(&collection->parts[COLLECTION_HASH]), 1);
    assert_true(collection_bytes(collection) < 512 << 10);
    in_process_expect(server, "GETBIT k 4294967295", ":1\r\n");
    in_process_expect(server, "GETBIT k 4294967294", ":0\r\n");
    in_process_expect(server, "STRLEN k", ":536870912\r\n");
    in_process_expect(server, "BITCOUNT k", ":1\r\n");
    in_process_expect(server, "BITPOS k 1", ":4294967295\r\n");
    in_process_expect(server, "BITPOS k 0", ":0\r\n");
    in_process_expect(server, "BITPOS k 0 -1", ":4294967288\r\n");
    in_process_expect(server, "APPEND k x", "-" ERROR_TOO_LONG "\r\n");
    in_process_expect(server, "BITOP OR both k absent", ":536870912\r\n");
    assert_int_equal(page_table_live(&collection_at(server, "both")->parts[COLLECTION_HASH]), 1);
    in_process_expect(server, "BITOP AND both k absent", ":536870912\r\n");
    assert_int_equal(page_table_live(&collection_at(server, "both")->parts[COLLECTION_HASH]), 0);
    in_process_destroy(server);
}

static void a_short_range_of_a_cold_value_reads_one_page(void **state) {
    (void)state;
    struct in_process *server = start(true);
    for (unsigned i = 0; i < 100; i++) {
        char line[64];
        snprintf(line, sizeof(line), "SETRANGE k %u page-%u", i * PAGED_BYTES_PAGE, i);
        in_process_run(server, line);
    }
    struct page_table *pages = &collection_at(server, "k")->parts[COLLECTION_HASH];
    in_process_demote(server, "k");
    in_process_settle(server);
    assert_int_equal(pages->cold, 100);
    uint64_t waits = server->waits;
    struct tier_figures before, after;
    tier_figures(server->tier, &before);
    in_process_expect(server, "GETRANGE k 818400 818406", "$7\r\npage-50\r\n");
    assert_true(server->waits == waits + 1);
    tier_figures(server->tier, &after);
    assert_int_equal(after.reads - before.reads, 1);
    assert_true(pages->cold >= 99);
    in_process_expect(server, "SETBIT k 6547200 1", ":0\r\n");
    assert_true(pages->cold >= 98 && pages->cold <= 99);
    in_process_destroy(server);
}

/* ---- commands that take strings ---- */

static void every_command_takes_a_value_of_pages(void **state) {
    (void)state;
    struct in_process *server = start(false);
    in_process_run(server, "SETRANGE k 70000 tail");
    in_process_expect(server, "INCR k", "-" ERROR_NOT_INTEGER "\r\n");
    in_process_expect(server, "INCRBYFLOAT k 1", "-" ERROR_NOT_FLOAT "\r\n");
    in_process_expect(server, "PFADD k x", "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n");
    in_process_expect(server, "PFCOUNT k", "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n");
    in_process_run(server, "SET s tail");
    in_process_expect(server, "LCS k s", "$4\r\ntail\r\n");
    in_process_expect(server, "LCS k s LEN", ":4\r\n");
    in_process_expect(server, "LCS k k LEN",
                      "-ERR Insufficient memory, transient memory for LCS exceeds "
                      "proto-max-bulk-len\r\n");
    in_process_expect(server, "COPY k copy", ":1\r\n");
    in_process_expect(server, "SETRANGE copy 70000 TAIL", ":70004\r\n");
    in_process_expect(server, "GETRANGE k -4 -1", "$4\r\ntail\r\n");
    in_process_expect(server, "RENAME copy moved", "+OK\r\n");
    in_process_expect(server, "SUBSTR moved -4 -1", "$4\r\nTAIL\r\n");
    in_process_run(server, "RPUSH list 1 2");
    in_process_run(server, "SETRANGE weight:1 0 2");
    in_process_run(server, "SETRANGE weight:2 0 1");
    in_process_run(server, "SETRANGE weight:2 66000 x");
    assert_true(in_process_bulk(server, "GETSET moved x").length == 70004);
    assert_true(in_process_bulk(server, "SET k new GET").length == 70004);
    in_process_run(server, "SETRANGE k 70000 tail");
    struct span got = in_process_bulk(server, "GETDEL k");
    assert_true(got.length == 70004 && memcmp(got.data + 69996, "\0\0\0\0tail", 8) == 0);
    in_process_expect(server, "EXISTS k", ":0\r\n");
    in_process_destroy(server);
}

static void sort_follows_patterns_to_values_of_pages(void **state) {
    (void)state;
    struct in_process *server = start(false);
    in_process_run(server, "RPUSH list 1 2 3");
    in_process_run(server, "SETRANGE w:1 70000 c");
    in_process_run(server, "SETRANGE w:1 0 c");
    in_process_run(server, "SETRANGE w:2 70000 a");
    in_process_run(server, "SETRANGE w:2 0 a");
    in_process_run(server, "SET w:3 b");
    in_process_expect(server, "SORT list BY w:* ALPHA", "*3\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n1\r\n");
    in_process_run(server, "SORT list BY nosort GET w:* GET #");
    assert_true(server->reply_length > 140000);
    assert_memory_equal(server->reply, "*6\r\n$70001\r\nc\0", 14);
    in_process_expect(server, "SORT list GET w:* STORE kept", ":3\r\n");
    in_process_destroy(server);
}

/* Both pages of a field, or none. */
static void a_bitfield_that_changes_nothing_makes_no_page(void **state) {
    (void)state;
    struct in_process *server = start(false);
    in_process_expect(server, "BITFIELD k OVERFLOW FAIL SET u2 4000000 9", "*1\r\n$-1\r\n");
    in_process_expect(server, "STRLEN k", ":500001\r\n");
    assert_int_equal(page_table_live(&collection_at(server, "k")->parts[COLLECTION_HASH]), 0);
    in_process_expect(server, "BITFIELD k SET i64 130900 -1 GET i64 130900", "*2\r\n:0\r\n:-1\r\n");
    assert_int_equal(page_table_live(&collection_at(server, "k")->parts[COLLECTION_HASH]), 2);
    in_process_expect(server, "BITCOUNT k", ":64\r\n");
    in_process_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_edit_that_makes_a_value_long_makes_it_of_pages),
        cmocka_unit_test(what_was_there_stays),
        cmocka_unit_test(set_and_long_raw_values_stay_raw),
        cmocka_unit_test(a_sparse_bitmap_costs_its_touched_pages),
        cmocka_unit_test(a_short_range_of_a_cold_value_reads_one_page),
        cmocka_unit_test(every_command_takes_a_value_of_pages),
        cmocka_unit_test(sort_follows_patterns_to_values_of_pages),
        cmocka_unit_test(a_bitfield_that_changes_nothing_makes_no_page),
        cmocka_unit_test(pages_answer_as_raw_bytes_do),
        cmocka_unit_test(pages_on_a_tier_answer_as_raw_bytes_do),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
