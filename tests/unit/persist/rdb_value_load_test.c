/* Values of every type byte, well-formed and not: what becomes of them, that passing one by is as long as loading it,
 * and that limits decide whether they are packed. */

#include "command/families.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_output.h"
#include "persist/rdb_value_load.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define BYTES(text) SPAN_LITERAL(text)

/* Packed bytes that several cases have. */
#define LISTPACK_A_B                                                                                                   \
    "\x0d\x00\x00\x00\x02\x00\x81"                                                                                     \
    "a\x02\x81"                                                                                                        \
    "b\x02\xff"
#define LISTPACK_A_A                                                                                                   \
    "\x0d\x00\x00\x00\x02\x00\x81"                                                                                     \
    "a\x02\x81"                                                                                                        \
    "a\x02\xff"
#define LISTPACK_A_1_B_2                                                                                               \
    "\x11\x00\x00\x00\x04\x00\x81"                                                                                     \
    "a\x02\x01\x01\x81"                                                                                                \
    "b\x02\x02\x01\xff"
#define LISTPACK_A_2_B_1                                                                                               \
    "\x11\x00\x00\x00\x04\x00\x81"                                                                                     \
    "a\x02\x02\x01\x81"                                                                                                \
    "b\x02\x01\x01\xff"
#define LISTPACK_A_1_A_2                                                                                               \
    "\x11\x00\x00\x00\x04\x00\x81"                                                                                     \
    "a\x02\x01\x01\x81"                                                                                                \
    "a\x02\x02\x01\xff"
/* field a, value 1, expiry 100; field b, value 2, none */
#define LISTPACK_TIMED                                                                                                 \
    "\x15\x00\x00\x00\x06\x00\x81"                                                                                     \
    "a\x02\x01\x01\x64\x01\x81"                                                                                        \
    "b\x02\x02\x01\x00\x01\xff"
#define LISTPACK_EMPTY "\x07\x00\x00\x00\x00\x00\xff"
#define ZIPLIST_A_1_B_2                                                                                                \
    "\x15\x00\x00\x00\x12\x00\x00\x00\x04\x00\x00\x01"                                                                 \
    "a\x03\xf2\x02\x01"                                                                                                \
    "b\x03\xf3\xff"
#define STREAM_IDS "\x01\x05\x00"

static const struct {
    const char *name;
    uint8_t type;
    struct span bytes;
    enum rdb_status status;
    const char *line, *reply; /* of a command that shows the value */
} cases[] = {
    {"string", RDB_STRING,
     BYTES("\x03"
           "abc"),
     RDB_DONE, "GET k", "$3\r\nabc\r\n"},
    {"integer", RDB_STRING, BYTES("\xc1\x18\xfc"), RDB_DONE, "GET k", "$5\r\n-1000\r\n"},
    {"integer spelled out", RDB_STRING,
     BYTES("\x02"
           "12"),
     RDB_DONE, "OBJECT ENCODING k", "$3\r\nint\r\n"},
    {"string cut", RDB_STRING,
     BYTES("\x03"
           "ab"),
     RDB_ENDS_EARLY, NULL, NULL},

    {"list", RDB_LIST,
     BYTES("\x02\x01"
           "a\xc0\x05"),
     RDB_DONE, "LRANGE k 0 -1", "*2\r\n$1\r\na\r\n$1\r\n5\r\n"},
    {"list without elements", RDB_LIST, BYTES("\x00"), RDB_DONE, NULL, NULL},
    {"list of more than there is", RDB_LIST,
     BYTES("\x03\x01"
           "a"),
     RDB_CORRUPT, NULL, NULL},
    {"ziplist", RDB_LIST_ZIPLIST, BYTES("\x15" ZIPLIST_A_1_B_2), RDB_DONE, "LRANGE k 0 -1",
     "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n"},
    {"nodes of ziplists", RDB_LIST_QUICKLIST, BYTES("\x02\x15" ZIPLIST_A_1_B_2 "\x15" ZIPLIST_A_1_B_2), RDB_DONE,
     "LLEN k", ":8\r\n"},
    {"nodes", RDB_LIST_QUICKLIST_2,
     BYTES("\x02\x02\x0d" LISTPACK_A_B "\x01\x03"
           "xyz"),
     RDB_DONE, "LRANGE k 0 -1", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$3\r\nxyz\r\n"},
    {"one node", RDB_LIST_QUICKLIST_2, BYTES("\x01\x02\x0d" LISTPACK_A_A), RDB_DONE, "LRANGE k 0 -1",
     "*2\r\n$1\r\na\r\n$1\r\na\r\n"},
    {"one empty node", RDB_LIST_QUICKLIST_2, BYTES("\x01\x02\x07" LISTPACK_EMPTY), RDB_DONE, NULL, NULL},
    {"a node of no kind", RDB_LIST_QUICKLIST_2, BYTES("\x01\x03\x0d" LISTPACK_A_B), RDB_CORRUPT, NULL, NULL},

    {"set", RDB_SET,
     BYTES("\x02\x01"
           "a\x01"
           "b"),
     RDB_DONE, "SCARD k", ":2\r\n"},
    {"set of integers", RDB_SET, BYTES("\x02\xc0\x01\xc1\x00\x10"), RDB_DONE, "OBJECT ENCODING k", "$6\r\nintset\r\n"},
    {"set with a member twice", RDB_SET,
     BYTES("\x02\x01"
           "1\xc0\x01"),
     RDB_CORRUPT, NULL, NULL},
    {"intset", RDB_SET_INTSET, BYTES("\x0c\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x02\x00"), RDB_DONE, "SISMEMBER k 2",
     ":1\r\n"},
    {"intset out of order", RDB_SET_INTSET, BYTES("\x0c\x02\x00\x00\x00\x02\x00\x00\x00\x02\x00\x01\x00"), RDB_CORRUPT,
     NULL, NULL},
    {"packed set", RDB_SET_LISTPACK, BYTES("\x0d" LISTPACK_A_B), RDB_DONE, "SMISMEMBER k a b c",
     "*3\r\n:1\r\n:1\r\n:0\r\n"},
    {"packed set with a member twice", RDB_SET_LISTPACK, BYTES("\x0d" LISTPACK_A_A), RDB_CORRUPT, NULL, NULL},

    {"hash", RDB_HASH,
     BYTES("\x01\x01"
           "f\x01"
           "v"),
     RDB_DONE, "HGET k f", "$1\r\nv\r\n"},
    {"hash with a field twice", RDB_HASH,
     BYTES("\x02\x01"
           "f\x01"
           "v\x01"
           "f\x01"
           "w"),
     RDB_CORRUPT, NULL, NULL},
    {"packed hash", RDB_HASH_LISTPACK, BYTES("\x11" LISTPACK_A_1_B_2), RDB_DONE, "HGET k b", "$1\r\n2\r\n"},
    {"packed hash with a field twice", RDB_HASH_LISTPACK, BYTES("\x11" LISTPACK_A_1_A_2), RDB_CORRUPT, NULL, NULL},
    {"packed hash with half a pair", RDB_HASH_LISTPACK_EX_PRE_GA, BYTES("\x0d" LISTPACK_A_B), RDB_CORRUPT, NULL, NULL},
    {"empty packed hash", RDB_HASH_LISTPACK, BYTES("\x07" LISTPACK_EMPTY), RDB_DONE, NULL, NULL},
    {"ziplist hash", RDB_HASH_ZIPLIST, BYTES("\x15" ZIPLIST_A_1_B_2), RDB_DONE, "HGET k a", "$1\r\n1\r\n"},
    {"zipmap", RDB_HASH_ZIPMAP,
     BYTES("\x08\x01\x01"
           "f\x02\x00"
           "vw\xff"),
     RDB_DONE, "HGET k f", "$2\r\nvw\r\n"},
    {"timed packed hash", RDB_HASH_LISTPACK_EX, BYTES("\x64\0\0\0\0\0\0\0\x15" LISTPACK_TIMED), RDB_DONE,
     "HPEXPIRETIME k FIELDS 2 a b", "*2\r\n:100\r\n:-1\r\n"},
    {"the same, older", RDB_HASH_LISTPACK_EX_PRE_GA, BYTES("\x15" LISTPACK_TIMED), RDB_DONE,
     "HPEXPIRETIME k FIELDS 2 a b", "*2\r\n:100\r\n:-1\r\n"},
    {"timed hash", RDB_HASH_METADATA,
     BYTES("\x64\0\0\0\0\0\0\0\x02\x03\x01"
           "a\x01"
           "1\x00\x01"
           "b\x01"
           "2"),
     RDB_DONE, "HPEXPIRETIME k FIELDS 2 a b", "*2\r\n:102\r\n:-1\r\n"},
    {"the same, older, too", RDB_HASH_METADATA_PRE_GA,
     BYTES("\x01\x3f\x01"
           "a\x01"
           "1"),
     RDB_DONE, "HPEXPIRETIME k FIELDS 1 a", "*1\r\n:63\r\n"},
    {"a time that is none", RDB_HASH_METADATA,
     BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\x01\x03\x01"
           "a\x01"
           "1"),
     RDB_CORRUPT, NULL, NULL},

    {"sorted set", RDB_ZSET,
     BYTES("\x02\x01"
           "a\x03"
           "2.5\x01"
           "b\xff"),
     RDB_DONE, "ZRANGE k 0 -1 WITHSCORES", "*4\r\n$1\r\nb\r\n$4\r\n-inf\r\n$1\r\na\r\n$3\r\n2.5\r\n"},
    {"sorted set with NaN", RDB_ZSET,
     BYTES("\x01\x01"
           "a\xfd"),
     RDB_CORRUPT, NULL, NULL},
    {"binary sorted set", RDB_ZSET_2,
     BYTES("\x01\x01"
           "a\x00\x00\x00\x00\x00\x00\x04\x40"),
     RDB_DONE, "ZSCORE k a", "$3\r\n2.5\r\n"},
    {"binary NaN", RDB_ZSET_2,
     BYTES("\x01\x01"
           "a\x00\x00\x00\x00\x00\x00\xf8\x7f"),
     RDB_CORRUPT, NULL, NULL},
    {"a member with two scores", RDB_ZSET_2,
     BYTES("\x02\x01"
           "a\x00\x00\x00\x00\x00\x00\x04\x40\x01"
           "a\x00\x00\x00\x00\x00\x00\x08\x40"),
     RDB_CORRUPT, NULL, NULL},
    {"packed sorted set", RDB_ZSET_LISTPACK, BYTES("\x11" LISTPACK_A_1_B_2), RDB_DONE, "ZRANK k b", ":1\r\n"},
    {"packed sorted set out of order", RDB_ZSET_LISTPACK, BYTES("\x11" LISTPACK_A_2_B_1), RDB_CORRUPT, NULL, NULL},
    {"packed sorted set with a member twice", RDB_ZSET_LISTPACK, BYTES("\x11" LISTPACK_A_1_A_2), RDB_CORRUPT, NULL,
     NULL},
    {"packed sorted set whose scores are none", RDB_ZSET_LISTPACK, BYTES("\x0d" LISTPACK_A_B), RDB_CORRUPT, NULL, NULL},
    {"ziplist sorted set", RDB_ZSET_ZIPLIST, BYTES("\x15" ZIPLIST_A_1_B_2), RDB_DONE, "ZSCORE k b", "$1\r\n2\r\n"},

    {"empty stream", RDB_STREAM_LISTPACKS, BYTES("\x00\x00\x05\x00\x00"), RDB_DONE, "XLEN k", ":0\r\n"},
    {"stream with a wrong length", RDB_STREAM_LISTPACKS, BYTES("\x00" STREAM_IDS "\x00"), RDB_CORRUPT, NULL, NULL},
    {"stream with a group", RDB_STREAM_LISTPACKS_2,
     BYTES("\x00\x00\x05\x00\x00\x00\x00\x00\x00\x01\x01"
           "g\x03\x00\x01\x00\x00"),
     RDB_DONE, "XINFO GROUPS k",
     "*1\r\n*12\r\n$4\r\nname\r\n$1\r\ng\r\n$9\r\nconsumers\r\n:0\r\n$7\r\npending\r\n:0\r\n$17\r\nlast-delivered-"
     "id\r\n"
     "$3\r\n3-0\r\n$12\r\nentries-read\r\n:1\r\n$3\r\nlag\r\n:0\r\n"},

    {"module", RDB_MODULE_2, BYTES("\x01\x00"), RDB_UNSUPPORTED, NULL, NULL},
    {"unknown", 99, BYTES("\x01\x00"), RDB_UNSUPPORTED, NULL, NULL},
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {hash_commands, hash_command_count},
                                              {set_commands, set_command_count},
                                              {list_commands, list_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {stream_commands, stream_command_count},
                                              {key_commands, key_command_count},
                                              {object_commands, object_command_count}};
    *state = in_process_create(families, sizeof(families) / sizeof(families[0]));
    return 0;
}

/* The key `k` becomes the value; its memory is of exactly its size. */
static enum rdb_status load(struct in_process *server, uint8_t type, struct span bytes, bool *is_empty) {
    struct view view = {.keyspace = server->keyspace, .now_ms = 50, .replays = true};
    struct rdb_value_loader loader;
    struct rdb_value value;
    struct rdb_input input;
    const struct key key = keyspace_key(server->keyspace, SPAN_LITERAL("k"));
    char *exact = malloc(bytes.length ? bytes.length : 1);
    memcpy(exact, bytes.data, bytes.length);
    rdb_value_loader_init(&loader, &view);
    rdb_input_of_memory(&input, span_of(exact, bytes.length), 0);
    enum rdb_status status = rdb_value_load(&loader, &input, type, &key, &value);
    *is_empty = value.is_empty;
    assert_int_equal(status, input.status);
    if (status == RDB_DONE) {
        assert_true(input.at == input.end);
        struct rdb_input skipped;
        rdb_input_of_memory(&skipped, span_of(exact, bytes.length), 0);
        assert_true(rdb_value_skip(&skipped, type));
        assert_true(skipped.at == skipped.end);
    }
    if (status == RDB_DONE && !value.is_empty) {
        struct lookup lookup = keyspace_find(&view, &key);
        assert_true(rdb_value_store(&view, &key, &lookup, &value, RECORD_EXPIRY_NONE, 7));
        assert_int_equal(record_access(lookup.record), 7);
    }
    rdb_value_loader_free(&loader);
    free(exact);
    return status;
}

static void run_all(struct in_process *server, bool same_encodings) {
    server->dispatcher->now_ms = 50; /* before the fields expire */
    for (unsigned i = 0; i < CASES; i++) {
        bool is_empty;
        in_process_run(server, "DEL k");
        enum rdb_status status = load(server, cases[i].type, cases[i].bytes, &is_empty);
        if (status != cases[i].status) fail_msg("%s: status %d", cases[i].name, status);
        if (status == RDB_DONE && is_empty != !cases[i].line) fail_msg("%s: empty or not", cases[i].name);
        if (!cases[i].line || (!same_encodings && strncmp(cases[i].line, "OBJECT", 6) == 0)) continue;
        const char *reply = in_process_run(server, cases[i].line);
        if (strcmp(reply, cases[i].reply) != 0) fail_msg("%s: %s", cases[i].name, reply);
        assert_true(keyspace_validate(server->keyspace));
    }
}

static void values_of_every_type(void **state) {
    run_all(*state, true);
}

static void the_same_where_nothing_is_packed(void **state) {
    struct in_process *server = *state;
    server->keyspace->limits = (struct value_limits){0, 0, 1, 0, 0, 0, 0, 0};
    run_all(server, false);
}

/* Values of so many elements: packed at the limit, made of pages past it. */
static void limits_decide_what_is_packed(void **state) {
    struct in_process *server = *state;
    const struct {
        uint8_t type;
        const char *packed, *big;
        unsigned limit;
    } kinds[] = {{RDB_HASH, "$8\r\nlistpack\r\n", "$9\r\nhashtable\r\n", 512},
                 {RDB_SET, "$8\r\nlistpack\r\n", "$9\r\nhashtable\r\n", 128},
                 {RDB_ZSET_2, "$8\r\nlistpack\r\n", "$8\r\nskiplist\r\n", 128}};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned more = 0; more < 2; more++) {
            struct rdb_output output;
            char text[32];
            bool is_empty;
            rdb_output_init(&output, 0);
            rdb_put_length(&output, kinds[i].limit + more);
            for (unsigned n = 0; n < kinds[i].limit + more; n++) {
                rdb_put_string(&output, span_of(text, (size_t)snprintf(text, sizeof(text), "element %u", n)), false);
                if (kinds[i].type == RDB_HASH) rdb_put_string(&output, SPAN_LITERAL("v"), false);
                if (kinds[i].type == RDB_ZSET_2) rdb_put_double(&output, n * 7 % 13);
            }
            assert_int_equal(load(server, kinds[i].type, span_of(output.bytes, output.length), &is_empty), RDB_DONE);
            in_process_expect(server, "OBJECT ENCODING k", more ? kinds[i].big : kinds[i].packed);
            in_process_run(server, "DEL k");
            rdb_output_free(&output);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_of_every_type, start, in_process_stop),
        cmocka_unit_test_setup_teardown(the_same_where_nothing_is_packed, start, in_process_stop),
        cmocka_unit_test_setup_teardown(limits_decide_what_is_packed, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
