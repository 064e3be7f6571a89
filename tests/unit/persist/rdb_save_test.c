/* Values as DUMP gives them: known bytes of small ones; of big ones, that steps of any size, with pages at hand or on
 * the tier, compose what one go composes. That Redis reads them is tested against Redis
 * (tests/integration/rdb_test.py).
 */

#include "command/families.h"
#include "keyspace/keyspace_collection.h"
#include "keyspace/stream_value.h"
#include "persist/crc64.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_save.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { TIER_BYTES = 64 << 20, MANY = 3000 };

static int start_with(void **state, const struct tier_options *tier) {
    static const struct command_family *shared;
    static struct command_family families[16];
    unsigned n = 0;
    shared = families;
    families[n++] = (struct command_family){string_commands, string_command_count};
    families[n++] = (struct command_family){bitmap_commands, bitmap_command_count};
    families[n++] = (struct command_family){list_commands, list_command_count};
    families[n++] = (struct command_family){set_commands, set_command_count};
    families[n++] = (struct command_family){sorted_set_commands, sorted_set_command_count};
    families[n++] = (struct command_family){hash_commands, hash_command_count};
    families[n++] = (struct command_family){stream_commands, stream_command_count};
    families[n++] = (struct command_family){key_commands, key_command_count};
    families[n++] = (struct command_family){key_expiry_commands, key_expiry_command_count};
    families[n++] = (struct command_family){dump_commands, dump_command_count};
    *state = in_process_create_with(&(struct in_process_options){.families = shared, .family_count = n, .tier = tier});
    return 0;
}
static int start(void **state) {
    return start_with(state, NULL);
}
static int start_with_tier(void **state) {
    const struct tier_options tier = {.path = "tier", .size_bytes = TIER_BYTES, .memory_bytes = TIER_BYTES / 2};
    return start_with(state, &tier);
}

static void expect_dump(struct in_process *server, const char *key, const char *bytes, size_t length) {
    char line[64];
    snprintf(line, sizeof(line), "DUMP %s", key);
    struct span payload = in_process_bulk(server, line);
    assert_int_equal(payload.length, length + RDB_PAYLOAD_FOOTER_BYTES);
    assert_memory_equal(payload.data, bytes, length);
    uint64_t crc;
    memcpy(&crc, payload.data + length + 2, sizeof(crc));
    assert_int_equal(crc, crc64(0, payload.data, length + 2));
}
#define EXPECT_DUMP(key, bytes) expect_dump(server, key, bytes, sizeof(bytes) - 1)

static unsigned version_of(struct span payload) {
    const uint8_t *at = (const uint8_t *)payload.data + payload.length - RDB_PAYLOAD_FOOTER_BYTES;
    return (unsigned)at[0] | (unsigned)at[1] << 8;
}

/* ---- small values ---- */

static void strings(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SET text hello");
    EXPECT_DUMP("text", "\x00\x05hello");
    in_process_run(server, "SET number 1000");
    EXPECT_DUMP("number", "\x00\xc1\xe8\x03");
    in_process_run(server, "SET large 123456789012");
    EXPECT_DUMP("large", "\x00\x0c"
                         "123456789012");
    in_process_run(server, "SET empty \"\"");
    EXPECT_DUMP("empty", "\x00\x00");
    /* An edited text is an integer as well as one that was set. */
    in_process_run(server, "SET edited 1");
    in_process_run(server, "APPEND edited 2");
    EXPECT_DUMP("edited", "\x00\xc0\x0c");
    in_process_expect(server, "DUMP absent", "$-1\r\n");
    assert_int_equal(version_of(in_process_bulk(server, "DUMP text")), 10);
}

static void packed_collections(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "RPUSH list a 1");
    EXPECT_DUMP("list", "\x12\x01\x02\x0c\x0c\x00\x00\x00\x02\x00\x81"
                        "a\x02\x01\x01\xff");
    in_process_run(server, "SADD numbers 2 1");
    EXPECT_DUMP("numbers", "\x0b\x0c\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x02\x00");
    in_process_run(server, "SADD set a 300");
    EXPECT_DUMP("set", "\x02\x02\x01"
                       "a\xc1\x2c\x01");
    in_process_run(server, "ZADD sorted 1 a");
    EXPECT_DUMP("sorted", "\x11\x0c\x0c\x00\x00\x00\x02\x00\x81"
                          "a\x02\x01\x01\xff");
    in_process_run(server, "HSET hash a 1");
    EXPECT_DUMP("hash", "\x10\x0c\x0c\x00\x00\x00\x02\x00\x81"
                        "a\x02\x01\x01\xff");
}

/* Fields in order of their expiry, those without behind; and no sign of expiries that were taken back. */
static void fields_that_expire(void **state) {
    struct in_process *server = *state;
    server->host.rdb_plain = true;
    in_process_run(server, "HSET hash a 1 b 2 c 3");
    in_process_run(server, "HPEXPIREAT hash 2000000000900 FIELDS 1 b");
    in_process_run(server, "HPEXPIREAT hash 2000000000800 FIELDS 1 c");
    struct span payload = in_process_bulk(server, "DUMP hash");
    assert_int_equal(version_of(payload), 12);
    const int64_t earliest = INT64_C(2000000000800);
    assert_int_equal(payload.data[0], RDB_HASH_LISTPACK_EX);
    assert_memory_equal(payload.data + 1, &earliest, 8);
    const char *listpack = payload.data + 10;
    assert_memory_equal(listpack + 6,
                        "\x81"
                        "c\x02\x03\x01",
                        5);
    assert_memory_equal(listpack + 6 + 15,
                        "\x81"
                        "b\x02\x02\x01",
                        5);
    assert_memory_equal(listpack + 6 + 30,
                        "\x81"
                        "a\x02\x01\x01\x00\x01\xff",
                        8);
    in_process_run(server, "HPERSIST hash FIELDS 2 b c");
    payload = in_process_bulk(server, "DUMP hash");
    assert_int_equal(version_of(payload), 10);
    assert_int_equal(payload.data[0], RDB_HASH_LISTPACK);
}

static void sets_are_packed_from_version_11_on(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SADD set a");
    server->host.rdb_version = 11;
    struct span payload = in_process_bulk(server, "DUMP set");
    assert_int_equal(payload.data[0], RDB_SET_LISTPACK);
    assert_int_equal(version_of(payload), 11);
}

static void a_small_stream(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "XADD s 5-1 f v");
    in_process_run(server, "XADD s 7-0 f 12");
    in_process_run(server, "XADD s 7-1 g w");
    in_process_run(server, "XDEL s 7-1");
    EXPECT_DUMP("s", "\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01"
                     "\x28\x28\x00\x00\x00\x0f\x00\x02\x01\x00\x01\x01\x01\x81"
                     "f\x02\x00\x01"
                     "\x02\x01\x00\x01\x00\x01\x81v\x02\x04\x01"
                     "\x02\x01\x02\x01\xdf\xff\x02\x0c\x01\x04\x01\xff"
                     "\x02\x07\x01\x05\x01\x07\x01\x03\x00");
}

/* ---- big values ---- */

/* Through in_process_run(), `count` lines made of `format` and a number. */
static void fill(struct in_process *server, unsigned count, const char *format) {
    char line[256], text[64];
    for (unsigned i = 0; i < count; i++) {
        snprintf(text, sizeof(text), "%u", i);
        char *at = line;
        for (const char *from = format; *from; from++)
            at += *from == '#' ? sprintf(at, "%s", text) : sprintf(at, "%c", *from);
        in_process_run(server, line);
    }
}

static void make_big_values(struct in_process *server) {
    fill(server, MANY, "RPUSH list element:#:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    fill(server, MANY, "SADD set member:#");
    fill(server, MANY, "SADD set #");
    fill(server, MANY, "ZADD sorted #.5 member:#");
    in_process_run(server, "ZADD sorted -0 minus 0 plus");
    fill(server, MANY, "HSET hash field:# value:#:#");
    fill(server, MANY, "HSET timed field:# value:#");
    fill(server, MANY / 2, "HPEXPIREAT timed 20000#0000 FIELDS 1 field:#");
    fill(server, MANY, "XADD stream #-1 name value:# other same");
    fill(server, 100, "XADD stream 9#00-1 name:# value");
    in_process_run(server, "XGROUP CREATE stream readers 0");
    in_process_run(server, "XREADGROUP GROUP readers first COUNT 700 STREAMS stream >");
    in_process_run(server, "XREADGROUP GROUP readers second COUNT 500 STREAMS stream >");
    in_process_run(server, "XGROUP CREATECONSUMER stream readers idle");
    in_process_run(server, "XGROUP CREATE stream empty $");
    in_process_run(server, "SETRANGE string 4000000 end");
    in_process_run(server, "SETBIT string 77777 1");
    in_process_run(server, "SETRANGE string 1000000 middle");
}

static const char *const big_keys[] = {"list", "set", "sorted", "hash", "timed", "stream", "string"};
enum { BIG_KEYS = sizeof(big_keys) / sizeof(big_keys[0]) };

static struct lookup find(struct in_process *server, const struct view *view, const char *name) {
    struct key key = keyspace_key(server->keyspace, span_of_text(name));
    return keyspace_find(view, &key);
}

static struct view view_of(struct in_process *server) {
    return (struct view){.keyspace = server->keyspace, .keep_access = true, .now_ms = IN_PROCESS_START_MS};
}

/* The payload, composed in steps. Returns how many there were. */
static unsigned compose(struct in_process *server, const char *name, size_t budget, struct rdb_output *output) {
    const struct rdb_save_options options = {.compress = true};
    struct view view = view_of(server);
    struct lookup lookup = find(server, &view, name);
    assert_non_null(lookup.record);
    assert_true(record_is_paged(lookup.record));
    struct rdb_collection_save save;
    unsigned steps = 0;
    enum rdb_save_status status;
    rdb_output_clear(output);
    output->field_ttl = false;
    rdb_collection_begin(&save, &options, lookup_collection(&lookup));
    rdb_save_collection_type(output, &options, lookup_collection(&lookup));
    do {
        struct page_access access = keyspace_pages(&view, lookup.shard);
        status = rdb_collection_step(&save, &access, output, budget);
        steps++;
    } while (status == RDB_SAVE_MORE);
    rdb_collection_end(&save);
    assert_int_equal(status, RDB_SAVE_DONE);
    rdb_save_payload_end(output, &options);
    assert_false(output->failed);
    return steps;
}

static void steps_compose_what_one_go_composes(void **state) {
    struct in_process *server = *state;
    struct rdb_output output;
    make_big_values(server);
    rdb_output_init(&output, 0);
    for (unsigned i = 0; i < BIG_KEYS; i++) {
        char line[32];
        snprintf(line, sizeof(line), "DUMP %s", big_keys[i]);
        struct span whole = in_process_bulk(server, line);
        for (size_t budget = 1; budget <= 100000; budget *= 10) {
            unsigned steps = compose(server, big_keys[i], budget, &output);
            if (budget == 1 && steps < 10) fail_msg("%s: %u steps", big_keys[i], steps);
            assert_int_equal(output.length, whole.length);
            assert_memory_equal(output.bytes, whole.data, whole.length);
        }
    }
    rdb_output_free(&output);
}

static void pages_on_the_tier_make_no_difference(void **state) {
    struct in_process *server = *state;
    struct rdb_output before[BIG_KEYS];
    make_big_values(server);
    for (unsigned i = 0; i < BIG_KEYS; i++) {
        rdb_output_init(&before[i], 0);
        compose(server, big_keys[i], SIZE_MAX, &before[i]);
    }
    in_process_settle(server);
    in_process_demote(server, "*");
    in_process_settle(server);
    uint64_t waits = server->waits;
    for (unsigned i = 0; i < BIG_KEYS; i++) {
        char line[32];
        snprintf(line, sizeof(line), "DUMP %s", big_keys[i]);
        struct span payload = in_process_bulk(server, line);
        assert_int_equal(payload.length, before[i].length);
        assert_memory_equal(payload.data, before[i].bytes, payload.length);
        rdb_output_free(&before[i]);
    }
    assert_true(server->waits > waits);
    /* All missing pages of a value are asked for together. */
    assert_true(server->waits - waits <= 4 * BIG_KEYS);
}

/* A consumer's tree with an ID too many (stream_group.h): what is written tells the truth of the group's tree. */
static void pending_entries_that_do_not_agree_are_mended(void **state) {
    struct in_process *server = *state;
    struct rdb_output right, mended;
    fill(server, 300, "XADD stream 1#-1 name value");
    in_process_run(server, "XGROUP CREATE stream readers 0");
    in_process_run(server, "XREADGROUP GROUP readers first COUNT 100 STREAMS stream >");
    in_process_run(server, "XREADGROUP GROUP readers second COUNT 100 STREAMS stream >");
    rdb_output_init(&right, 0);
    rdb_output_init(&mended, 0);
    compose(server, "stream", SIZE_MAX, &right);
    struct view view = view_of(server);
    struct lookup lookup = find(server, &view, "stream");
    struct page_access access = keyspace_pages(&view, lookup.shard);
    struct stream_group *group = ((struct stream_root *)lookup_collection(&lookup))->groups.sorted[0];
    const struct paged_key strange = stream_id_key((struct stream_id){4, 4}),
                           of_second = stream_id_key((struct stream_id){1150, 1});
    assert_int_equal(paged_tree_insert(&group->sorted[0]->pending, &access, &strange, span_of(NULL, 0)), PAGE_DONE);
    assert_int_equal(paged_tree_insert(&group->sorted[0]->pending, &access, &of_second, span_of(NULL, 0)), PAGE_DONE);
    for (size_t budget = 1; budget < 10000; budget *= 50) {
        compose(server, "stream", budget, &mended);
        assert_int_equal(mended.length, right.length);
        assert_memory_equal(mended.bytes, right.bytes, right.length);
    }
    assert_int_equal(paged_tree_delete(&group->sorted[0]->pending, &access, &strange), PAGE_DONE);
    assert_int_equal(paged_tree_delete(&group->sorted[0]->pending, &access, &of_second), PAGE_DONE);
    rdb_output_free(&right);
    rdb_output_free(&mended);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(strings, start, in_process_stop),
        cmocka_unit_test_setup_teardown(packed_collections, start, in_process_stop),
        cmocka_unit_test_setup_teardown(fields_that_expire, start, in_process_stop),
        cmocka_unit_test_setup_teardown(sets_are_packed_from_version_11_on, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_small_stream, start, in_process_stop),
        cmocka_unit_test_setup_teardown(steps_compose_what_one_go_composes, start, in_process_stop),
        cmocka_unit_test_setup_teardown(pages_on_the_tier_make_no_difference, start_with_tier, in_process_stop),
        cmocka_unit_test_setup_teardown(pending_entries_that_do_not_agree_are_mended, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
