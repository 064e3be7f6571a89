/* RESTORE: what redis-server 7.0.15 dumped becomes the same value here; what was damaged on its way, in any bit, is
 * refused or harmless; options and errors. */

#include "command/families.h"
#include "persist/crc64.h"
#include "persist/rdb_layout.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { PAYLOAD_MAX = 4096 };

/* By DUMP of redis-server 7.0.15, each with a command that shows the value. */
static const struct payload {
    const char *name, *hex, *line, *reply;
} payloads[] = {
    {"str:raw", "000568656c6c6f0a006372df766534200a", "GET k", "$5\r\nhello\r\n"},
    {"str:int8", "00c09c0a00ff77a3b766addee4", "GET k", "$4\r\n-100\r\n"},
    {"str:int16", "00c130750a0049977f92988c365b", "GET k", "$5\r\n30000\r\n"},
    {"str:int32", "00c2006cca880a0035ffaebd7f1d7a67", "GET k", "$11\r\n-2000000000\r\n"},
    {"str:int64", "0013393232333337323033363835343737353830370a003a657e9481e85f22", "INCRBY k -1",
     ":9223372036854775806\r\n"},
    {"str:lzf", "00c30d419002616261e0ff01e07a010161620a003f03619433dd8d9a", "STRLEN k", ":400\r\n"},
    {"str:empty", "00000a005d9b5c400f7fa2da", "GET k", "$0\r\n\r\n"},
    {"list:small", "1201021c1c00000005008161028162020101dffb02f4351cdcdf0200000009ff0a00659e25d5e934c184",
     "LRANGE k 0 -1", "*5\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\n1\r\n$2\r\n-5\r\n$11\r\n12345678901\r\n"},
    {"list:nodes",
     "1203020d0d0000000200816102816202ff020d0d0000000200816302816402ff020a0a0000000100816502ff0a00ec5236a7"
     "6020a1db",
     "LRANGE k 0 -1", "*5\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n"},
    {"set:ints", "0b180400000004000000010000000200000003000000701101000a00ef2e6521e385a22a",
     "SMISMEMBER k 1 2 3 70000 4", "*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:0\r\n"},
    {"set:words", "0204c0010161016301620a002f6197652b19ea8a", "SMISMEMBER k a b c 1 d",
     "*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:0\r\n"},
    {"set:table", "0202c001c0020a008038bcf41b527dc9", "SMISMEMBER k 1 2 3", "*3\r\n:1\r\n:1\r\n:0\r\n"},
    {"hash:small", "10121200000004008166028176028167020101ff0a0023c1a5e35dfae81c", "HMGET k f g h",
     "*3\r\n$1\r\nv\r\n$1\r\n1\r\n$-1\r\n"},
    {"hash:table", "04020167c001016601760a00a9f189c68213a6ce", "HMGET k f g h", "*3\r\n$1\r\nv\r\n$1\r\n1\r\n$-1\r\n"},
    {"zset:small", "111d1d0000000600816302842d696e6605816102010181620283322e3504ff0a003992339be11f323d",
     "ZRANGE k 0 -1 WITHSCORES", "*6\r\n$1\r\nc\r\n$4\r\n-inf\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\n2.5\r\n"},
    {"zset:table", "0503016200000000000004400161000000000000f03f0163000000000000f0ff0a009a24ca8fdcb1d08c",
     "ZRANGE k 0 -1 WITHSCORES", "*6\r\n$1\r\nc\r\n$4\r\n-inf\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$3\r\n2.5\r\n"},
    {"stream",
     "13011000000000000000010000000000000001c3393e123e0000001900020101010201816102816202002009000020014011"
     "02050103600902030104200b401301dfff202b088163028178020601ff020200010101020302016702000302000000000000"
     "00010000000000000001f3019ffda10100000100000000000000020000000000000000f3019ffda1010000010205616c6963"
     "65f3019ffda1010000010000000000000001000000000000000103626f62f3019ffda1010000010000000000000002000000"
     "00000000000168020081ffffffffffffffff00010469646c65f3019ffda1010000000a005dae03ddb2396b12",
     "XRANGE k - +",
     "*2\r\n*2\r\n$3\r\n1-1\r\n*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\nc\r\n$"
     "1\r\nx\r\n"},
};

static int start(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {hash_commands, hash_command_count},
                                              {set_commands, set_command_count},
                                              {list_commands, list_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {stream_commands, stream_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count},
                                              {object_commands, object_command_count},
                                              {dump_commands, dump_command_count},
                                              {restore_commands, restore_command_count}};
    *state = in_process_create(families, sizeof(families) / sizeof(families[0]));
    return 0;
}

static int digit(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static size_t from_hex(const char *hex, char bytes[PAYLOAD_MAX]) {
    size_t length = strlen(hex) / 2;
    assert_true(length <= PAYLOAD_MAX);
    for (size_t i = 0; i < length; i++) bytes[i] = (char)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
    return length;
}

/* The checksum is made right again. */
static void seal(char *bytes, size_t length) {
    uint64_t sum = crc64(0, bytes, length - RDB_CHECKSUM_BYTES);
    memcpy(bytes + length - RDB_CHECKSUM_BYTES, &sum, sizeof(sum));
}

static const char *restore(struct in_process *server, struct span payload) {
    const struct span words[] = {SPAN_LITERAL("RESTORE"), SPAN_LITERAL("k"), SPAN_LITERAL("0"), payload,
                                 SPAN_LITERAL("REPLACE")};
    return in_process_run_arguments(server, words, 5);
}

static void values_of_redis_are_the_same_here(void **state) {
    struct in_process *server = *state;
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        char bytes[PAYLOAD_MAX];
        size_t length = from_hex(payloads[i].hex, bytes);
        const char *reply = restore(server, span_of(bytes, length));
        if (strcmp(reply, "+OK\r\n") != 0) fail_msg("%s: %s", payloads[i].name, reply);
        in_process_expect(server, payloads[i].line, payloads[i].reply);
    }
    in_process_expect(server, "XPENDING k g - + 10",
                      "*2\r\n*4\r\n$3\r\n1-1\r\n$5\r\nalice\r\n:204743581197\r\n:1\r\n*4\r\n$3\r\n2-0\r\n$3\r\nbob\r\n"
                      ":204743581197\r\n:1\r\n");
}

static void a_payload_that_lost_bytes_is_refused(void **state) {
    struct in_process *server = *state;
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        char bytes[PAYLOAD_MAX];
        size_t length = from_hex(payloads[i].hex, bytes);
        for (size_t cut = 0; cut < length; cut++) {
            char *exact = malloc(cut ? cut : 1);
            memcpy(exact, bytes, cut);
            assert_string_equal(restore(server, span_of(exact, cut)),
                                "-ERR DUMP payload version or checksum are wrong\r\n");
            if (cut > RDB_PAYLOAD_FOOTER_BYTES) {
                memcpy(exact + cut - RDB_PAYLOAD_FOOTER_BYTES, "\x0a", 2);
                seal(exact, cut);
                assert_string_equal(restore(server, span_of(exact, cut)), "-ERR Bad data format\r\n");
            }
            free(exact);
        }
        in_process_expect(server, "EXISTS k", ":0\r\n");
    }
}

static void every_bit_turned_over_is_found_or_harmless(void **state) {
    struct in_process *server = *state;
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        char bytes[PAYLOAD_MAX], *exact;
        size_t length = from_hex(payloads[i].hex, bytes);
        exact = malloc(length);
        for (size_t bit = 0; bit < 8 * (length - RDB_CHECKSUM_BYTES); bit++) {
            memcpy(exact, bytes, length);
            exact[bit / 8] = (char)(exact[bit / 8] ^ 1 << bit % 8);
            assert_string_equal(restore(server, span_of(exact, length)),
                                "-ERR DUMP payload version or checksum are wrong\r\n");
            seal(exact, length);
            if (restore(server, span_of(exact, length))[0] == '-') continue;
            in_process_run(server, "DUMP k");
            in_process_run(server, payloads[i].line);
        }
        free(exact);
        assert_true(keyspace_validate(server->keyspace));
        in_process_run(server, "DEL k");
    }
}

static void what_dump_gives_is_what_restore_takes(void **state) {
    struct in_process *server = *state;
    const char *lines[] = {"SET k value", "SET k 12",       "RPUSH k a 1",        "SADD k 1 2 3",
                           "SADD k a b",  "HSET k f v g 2", "ZADD k 1 a 2 b 2 c", "XADD k 1-1 f v"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        in_process_run(server, "DEL k");
        in_process_run(server, lines[i]);
        struct span dump = in_process_bulk(server, "DUMP k");
        char bytes[PAYLOAD_MAX];
        memcpy(bytes, dump.data, dump.length);
        assert_string_equal(restore(server, span_of(bytes, dump.length)), "+OK\r\n");
        struct span again = in_process_bulk(server, "DUMP k");
        assert_true(span_equal(span_of(bytes, dump.length), again));
    }
}

static void big_values_come_back_whole(void **state) {
    struct in_process *server = *state;
    char line[128];
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(line, sizeof(line), "RPUSH list element:%u", i);
        in_process_run(server, line);
        snprintf(line, sizeof(line), "HSET hash field:%u %u", i, i);
        in_process_run(server, line);
        snprintf(line, sizeof(line), "ZADD zset %u.5 member:%u", i, i);
        in_process_run(server, line);
        snprintf(line, sizeof(line), "SADD set member:%u", i);
        in_process_run(server, line);
    }
    const char *keys[] = {"list", "hash", "zset", "set"};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(line, sizeof(line), "DUMP %s", keys[i]);
        struct span dump = in_process_bulk(server, line);
        char *bytes = malloc(dump.length);
        size_t length = dump.length;
        memcpy(bytes, dump.data, length);
        snprintf(line, sizeof(line), "DEL %s", keys[i]);
        in_process_run(server, line);
        const struct span words[] = {SPAN_LITERAL("RESTORE"), span_of_text(keys[i]), SPAN_LITERAL("0"),
                                     span_of(bytes, length)};
        assert_string_equal(in_process_run_arguments(server, words, 4), "+OK\r\n");
        free(bytes);
    }
    in_process_expect(server, "LINDEX list 2999", "$12\r\nelement:2999\r\n");
    in_process_expect(server, "LLEN list", ":3000\r\n");
    in_process_expect(server, "HGET hash field:1234", "$4\r\n1234\r\n");
    in_process_expect(server, "HLEN hash", ":3000\r\n");
    in_process_expect(server, "ZRANK zset member:77", ":77\r\n");
    in_process_expect(server, "ZSCORE zset member:77", "$4\r\n77.5\r\n");
    in_process_expect(server, "SCARD set", ":3000\r\n");
    in_process_expect(server, "OBJECT ENCODING zset", "$8\r\nskiplist\r\n");
}

static void fields_keep_their_time(void **state) {
    struct in_process *server = *state;
    for (unsigned big = 0; big < 2; big++) {
        in_process_run(server, "DEL k");
        char line[128];
        for (unsigned i = 0; i < (big ? 1000 : 5); i++) {
            snprintf(line, sizeof(line), "HSET k f%u v", i);
            in_process_run(server, line);
        }
        in_process_expect(server, "HPEXPIREAT k 2000000500000 FIELDS 1 f1", "*1\r\n:1\r\n");
        in_process_expect(server, "HPEXPIREAT k 2000000900000 FIELDS 1 f2", "*1\r\n:1\r\n");
        struct span dump = in_process_bulk(server, "DUMP k");
        char *bytes = malloc(dump.length);
        size_t length = dump.length;
        memcpy(bytes, dump.data, length);
        assert_string_equal(restore(server, span_of(bytes, length)), "+OK\r\n");
        free(bytes);
        in_process_expect(server, "HPEXPIRETIME k FIELDS 3 f1 f2 f3",
                          "*3\r\n:2000000500000\r\n:2000000900000\r\n:-1\r\n");
    }
}

static void options_do_what_they_say(void **state) {
    struct in_process *server = *state;
    char bytes[PAYLOAD_MAX];
    size_t length = from_hex("000568656c6c6f0a006372df766534200a", bytes);
    struct span words[] = {SPAN_LITERAL("RESTORE"), SPAN_LITERAL("k"),        SPAN_LITERAL("5000"),
                           span_of(bytes, length),  SPAN_LITERAL("IDLETIME"), SPAN_LITERAL("100"),
                           SPAN_LITERAL("REPLACE")};
    assert_string_equal(in_process_run_arguments(server, words, 6), "+OK\r\n");
    in_process_expect(server, "PTTL k", ":5000\r\n");
    in_process_expect(server, "OBJECT IDLETIME k", ":100\r\n");
    assert_string_equal(in_process_run_arguments(server, words, 6), "-BUSYKEY Target key name already exists.\r\n");
    assert_string_equal(in_process_run_arguments(server, words, 7), "+OK\r\n");
    words[2] = SPAN_LITERAL("-1");
    assert_string_equal(in_process_run_arguments(server, words, 7), "-ERR Invalid TTL value, must be >= 0\r\n");
    words[2] = SPAN_LITERAL("2000000007000");
    words[4] = SPAN_LITERAL("REPLACE");
    words[5] = SPAN_LITERAL("ABSTTL");
    assert_string_equal(in_process_run_arguments(server, words, 6), "+OK\r\n");
    in_process_expect(server, "PTTL k", ":7000\r\n");
    words[2] = SPAN_LITERAL("1000");
    assert_string_equal(in_process_run_arguments(server, words, 6), "+OK\r\n");
    in_process_expect(server, "EXISTS k", ":0\r\n");
}

static void nonsense_is_refused(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "RESTORE k 0 x", "-ERR DUMP payload version or checksum are wrong\r\n");
    in_process_expect(server, "RESTORE k x x", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(server, "RESTORE k 0 x FREQ 256", "-ERR Invalid FREQ value, must be >= 0 and <= 255\r\n");
    in_process_expect(server, "RESTORE k 0 x IDLETIME -1", "-ERR Invalid IDLETIME value, must be >= 0\r\n");
    in_process_expect(server, "RESTORE k 0 x IDLETIME 1 FREQ 1", "-ERR syntax error\r\n");
    in_process_expect(server, "RESTORE k 0 x FREQ", "-ERR syntax error\r\n");
    in_process_expect(server, "RESTORE k 0 x NONE", "-ERR syntax error\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_of_redis_are_the_same_here, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_payload_that_lost_bytes_is_refused, start, in_process_stop),
        cmocka_unit_test_setup_teardown(every_bit_turned_over_is_found_or_harmless, start, in_process_stop),
        cmocka_unit_test_setup_teardown(what_dump_gives_is_what_restore_takes, start, in_process_stop),
        cmocka_unit_test_setup_teardown(big_values_come_back_whole, start, in_process_stop),
        cmocka_unit_test_setup_teardown(fields_keep_their_time, start, in_process_stop),
        cmocka_unit_test_setup_teardown(options_do_what_they_say, start, in_process_stop),
        cmocka_unit_test_setup_teardown(nonsense_is_refused, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
