/* What commands tell as their effects, word for word; and that the effects make the same of another server. */

#include "base/clock.h"
#include "command/blocking.h"
#include "tests/support/journaled.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* Commands are separated by " ; ". "" as what is expected: nothing is told. Times: the clock stands at 2000000000000.
 */
struct row {
    const char *before, *command, *expected;
};

static void run_all(struct in_process *server, const char *commands) {
    char *copy = strdup(commands), *line = copy;
    while (line) {
        char *end = strstr(line, " ; ");
        if (end) *end = '\0';
        if (*line) in_process_run(server, line);
        line = end ? end + 3 : NULL;
    }
    free(copy);
}

static void expect_effects(const struct row *rows, unsigned count) {
    static const char *const keys[] = {"k", "l", "m", "d"};
    for (unsigned i = 0; i < count; i++) {
        struct journaled *journaled = journaled_create();
        run_all(journaled->server, rows[i].before);
        (void)journaled_effects(journaled);
        run_all(journaled->server, rows[i].command);
        const char *told = journaled_effects(journaled);
        if (strcmp(told, rows[i].expected) != 0)
            fail_msg("%s\n  expected %s\n  told     %s", rows[i].command, rows[i].expected, told);
        for (unsigned key = 0; key < sizeof(keys) / sizeof(keys[0]); key++)
            for (uint32_t database = 0; database < 2; database++) journaled_compare(journaled, database, keys[key]);
        journaled_compare_all(journaled);
        journaled_destroy(journaled);
    }
}
#define EXPECT(rows) expect_effects(rows, sizeof(rows) / sizeof((rows)[0]))

static void strings_are_set_as_they_came_out(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"", "SET k v", "SET k v"},
        {"", "SET k v EX 10", "SET k v PXAT 2000000010000"},
        {"", "SET k v PX 10 NX", "SET k v PXAT 2000000000010"},
        {"", "SET k v EXAT 2000000001", "SET k v PXAT 2000000001000"},
        {"SET k w", "SET k v XX GET", "SET k v"},
        {"SET k w EX 10", "SET k v KEEPTTL", "SET k v KEEPTTL"},
        {"SET k w", "SET k v NX", ""},
        {"", "SET k v XX", ""},
        {"", "SET k v EX 0", ""},
        {"", "SETEX k 10 v", "SET k v PXAT 2000000010000"},
        {"", "PSETEX k 10 v", "SET k v PXAT 2000000000010"},
        {"", "SETNX k v", "SETNX k v"},
        {"SET k w", "SETNX k v", ""},
        {"SET k w", "GETSET k v", "SET k v"},
        {"SET k w", "GETDEL k", "DEL k"},
        {"", "GETDEL k", ""},
        {"SET k w", "GETEX k EX 10", "PEXPIREAT k 2000000010000"},
        {"SET k w EX 10", "GETEX k PERSIST", "PERSIST k"},
        {"SET k w", "GETEX k PERSIST", ""},
        {"SET k w", "GETEX k PXAT 1", "DEL k"},
        {"SET k w", "GETEX k", ""},
        {"SET k 1.5 EX 10", "INCRBYFLOAT k 1.25", "SET k 2.75 KEEPTTL"},
        {"", "INCRBY k 5", "INCRBY k 5"},
        {"SET k w", "INCR k", ""},
        {"", "MSET k 1 l 2", "MSET k 1 l 2"},
        {"SET l 3", "MSETNX k 1 l 2", ""},
        {"SET k ab", "APPEND k cd", "APPEND k cd"},
        {"", "SETRANGE k 3 x", "SETRANGE k 3 x"},
        {"SET k ab", "SETRANGE k 1 \"\"", ""},
        {"SET k ab", "GET k ; STRLEN k", ""},
        {"", "SETBIT k 7 1", "SETBIT k 7 1"},
        {"", "BITFIELD k SET u8 0 255 GET u8 0", "BITFIELD k SET u8 0 255 GET u8 0"},
        {"", "BITFIELD k OVERFLOW FAIL INCRBY u2 16 9", "BITFIELD k OVERFLOW FAIL INCRBY u2 16 9"},
        {"SET l abc", "BITOP NOT k l", "BITOP NOT k l"},
    };
    EXPECT(rows);
}

static void hyperloglogs_have_the_same_bytes(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"", "PFADD k a b c", "PFADD k a b c"},
        {"PFADD k a", "PFADD k a", ""},
        {"PFADD k a b", "PFCOUNT k", "PFCOUNT k"},
        {"PFADD k a b ; PFCOUNT k", "PFCOUNT k", ""},
        {"PFADD k a ; PFADD l b", "PFMERGE k l", "PFMERGE k l"},
        {"PFADD k a", "PFDEBUG TODENSE k", "PFDEBUG TODENSE k"},
    };
    EXPECT(rows);
}

static void keys_end_at_a_time(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"SET k v", "EXPIRE k 10", "PEXPIREAT k 2000000010000"},
        {"SET k v", "PEXPIRE k 10 NX", "PEXPIREAT k 2000000000010"},
        {"SET k v", "EXPIREAT k 2000000001", "PEXPIREAT k 2000000001000"},
        {"SET k v", "EXPIRE k -1", "DEL k"},
        {"SET k v", "PEXPIREAT k 1", "DEL k"},
        {"SET k v", "EXPIRE k 10 XX", ""},
        {"", "EXPIRE k 10", ""},
        {"SET k v EX 10", "PERSIST k", "PERSIST k"},
        {"SET k v", "PERSIST k", ""},
        {"SET k v EX 10", "RENAME k l", "RENAME k l"},
        {"SET k v EX 10", "COPY k l", "COPY k l"},
        {"SET k v EX 10", "MOVE k 1", "MOVE k 1"},
        {"SET k v", "COPY k l DB 1", "COPY k l DB 1"},
        {"SET k v", "DEL k l ; DEL k", "DEL k l"},
        {"SET k v", "UNLINK k", "UNLINK k"},
        {"SET k v", "RENAMENX k k", ""},
        {"SET k v", "SELECT 1 ; SET k w", "SELECT 1 | SET k w"},
        {"SET k v", "SWAPDB 0 1", "SWAPDB 0 1"},
        {"", "FLUSHALL", "FLUSHALL"},
        {"SET k v", "FLUSHDB ASYNC", "FLUSHDB ASYNC"},
        {"SET k v", "MULTI ; EXPIRE k 10 ; SET l w ; EXEC", "MULTI | PEXPIREAT k 2000000010000 | SET l w | EXEC"},
        {"SET k v", "MULTI ; GET k ; SET l w ; EXEC", "SET l w"},
    };
    EXPECT(rows);
}

static void hashes_tell_fields_and_times(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"", "HSET k f1 a f2 b", "HSET k f1 a f2 b"},
        {"", "HSETNX k f1 a", "HSET k f1 a"},
        {"HSET k f1 a", "HSETNX k f1 b", ""},
        {"HSET k f1 a f2 b", "HDEL k f1 f3", "HDEL k f1 f3"},
        {"", "HINCRBY k f1 5", "HSET k f1 5"},
        {"HSET k f1 2", "HINCRBY k f1 5", "HINCRBY k f1 5"},
        {"HSET k f1 2", "HINCRBYFLOAT k f1 0.5", "HSET k f1 2.5"},
        {"HSET k f1 2 ; HEXPIRE k 10 FIELDS 1 f1", "HINCRBYFLOAT k f1 0.5", "HSETEX k KEEPTTL FIELDS 1 f1 2.5"},
        {"HSET k f1 a f2 b", "HEXPIRE k 10 FIELDS 3 f1 f2 f3", "HPEXPIREAT k 2000000010000 FIELDS 2 f1 f2"},
        {"HSET k f1 a f2 b", "HPEXPIREAT k 1 FIELDS 1 f1", "HDEL k f1"},
        {"HSET k f1 a", "HEXPIRE k 0 FIELDS 1 f1", "HDEL k f1"},
        {"HSET k f1 a", "HEXPIRE k 10 XX FIELDS 1 f1", ""},
        {"HSET k f1 a f2 b ; HEXPIRE k 9 FIELDS 1 f1", "HPERSIST k FIELDS 2 f1 f2", "HPERSIST k FIELDS 1 f1"},
        {"HSET k f1 a", "HGETEX k EX 10 FIELDS 2 f1 f2", "HPEXPIREAT k 2000000010000 FIELDS 1 f1"},
        {"HSET k f1 a ; HEXPIRE k 9 FIELDS 1 f1", "HGETEX k PERSIST FIELDS 1 f1", "HPERSIST k FIELDS 1 f1"},
        {"HSET k f1 a", "HGETEX k FIELDS 1 f1", ""},
        {"HSET k f1 a f2 b", "HGETEX k PXAT 1 FIELDS 1 f1", "HDEL k f1"},
        {"HSET k f1 a f2 b", "HGETDEL k FIELDS 2 f1 f3", "HDEL k f1"},
        {"", "HSETEX k FIELDS 2 f1 a f2 b", "HSET k f1 a f2 b"},
        {"", "HSETEX k FNX EX 10 FIELDS 1 f1 a", "HSETEX k PXAT 2000000010000 FIELDS 1 f1 a"},
        {"HSET k f1 a f2 b ; HEXPIRE k 9 FIELDS 1 f1", "HSETEX k KEEPTTL FIELDS 2 f1 c f2 d",
         "MULTI | HSETEX k KEEPTTL FIELDS 1 f1 c | HSET k f2 d | EXEC"},
        {"HSET k f1 a f2 b", "HSETEX k PXAT 1 FIELDS 2 f1 c f3 d", "HDEL k f1"},
        {"", "HSETEX k FXX FIELDS 1 f1 a", ""},
    };
    EXPECT(rows);
}

static void lists_and_sets_tell_what_was_taken(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"", "RPUSH k a b", "RPUSH k a b"},
        {"RPUSH k a b", "LPOP k ; LPOP k 0 ; RPOP k 5", "LPOP k | RPOP k 5"},
        {"RPUSH l a b", "BLPOP k l 0", "LPOP l"},
        {"RPUSH l a b", "BRPOP k l 0", "RPOP l"},
        {"RPUSH l a b", "LMPOP 2 k l RIGHT COUNT 5", "RPOP l 2"},
        {"RPUSH l a b", "BLMPOP 0 2 k l LEFT", "LPOP l 1"},
        {"RPUSH k a b", "BLMOVE k l LEFT RIGHT 0", "LMOVE k l LEFT RIGHT"},
        {"RPUSH k a b", "BRPOPLPUSH k l 0", "RPOPLPUSH k l"},
        {"RPUSH k a b", "RPOPLPUSH k k", "RPOPLPUSH k k"},
        {"RPUSH k a b", "LREM k 0 c ; LREM k 1 a", "LREM k 1 a"},
        {"RPUSH k a b", "LTRIM k 1 1", "LTRIM k 1 1"},
        {"", "SADD k a b", "SADD k a b"},
        {"SADD k a", "SADD k a", ""},
        {"SADD k a", "SPOP k", "DEL k"},
        {"SADD k a b", "SPOP k 9", "DEL k"},
        {"SADD k a a", "SREM k a b", "SREM k a b"},
        {"SADD k a", "SMOVE k l a", "SMOVE k l a"},
        {"SADD k a ; SADD l b", "SUNIONSTORE m k l", "SUNIONSTORE m k l"},
        {"SADD k 3 1 2 ; RPUSH l x", "SORT k STORE l", "MULTI | DEL l | RPUSH l 1 2 3 | EXEC"},
        {"SADD k 3 1 2 ; SET w 1", "SORT k BY nosort GET # STORE l", "RPUSH l 1 2 3"},
        {"RPUSH l x", "SORT k STORE l", "DEL l"},
        {"RPUSH k 2 1", "SORT k", ""},
    };
    EXPECT(rows);
}

static void sorted_sets_tell_what_was_taken(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"", "ZADD k 1 a 2 b", "ZADD k 1 a 2 b"},
        {"ZADD k 1 a", "ZADD k 1 a", ""},
        {"ZADD k 1.5 a", "ZINCRBY k 1.25 a", "ZINCRBY k 1.25 a"},
        {"ZADD k 1 a 2 b", "ZPOPMIN k ; ZPOPMAX k 1", "ZPOPMIN k | ZPOPMAX k 1"},
        {"ZADD l 1 a 2 b", "BZPOPMIN k l 0", "ZPOPMIN l"},
        {"ZADD l 1 a 2 b", "BZPOPMAX k l 0", "ZPOPMAX l"},
        {"ZADD l 1 a 2 b", "ZMPOP 2 k l MAX COUNT 7", "ZPOPMAX l 2"},
        {"ZADD l 1 a 2 b", "BZMPOP 0 2 k l MIN", "ZPOPMIN l 1"},
        {"ZADD k 1 a 2 b", "ZREMRANGEBYRANK k 0 0", "ZREMRANGEBYRANK k 0 0"},
        {"ZADD k 1 a 1 b 1 c", "ZREMRANGEBYLEX k (a +", "ZREMRANGEBYRANK k 1 2"},
        {"ZADD k 1 a 1 b 1 c", "ZRANGESTORE m k + (a BYLEX REV LIMIT 0 1", "ZRANGESTORE m k 2 2"},
        {"ZADD k 1 a ; ZADD m 1 a", "ZRANGESTORE m k [x [z BYLEX", "DEL m"},
        {"ZADD k 1 a ; ZADD l 2 a", "ZUNIONSTORE m 2 k l", "ZUNIONSTORE m 2 k l"},
        {"ZADD k 1 a 2 b", "ZRANGESTORE m k 0 0", "ZRANGESTORE m k 0 0"},
        {"GEOADD k 1 2 a", "GEOSEARCHSTORE m k FROMMEMBER a BYRADIUS 9 km",
         "GEOSEARCHSTORE m k FROMMEMBER a BYRADIUS 9 km"},
        {"GEOADD k 1 2 a", "GEORADIUS k 1 2 9 km STORE m", "GEORADIUS k 1 2 9 km STORE m"},
    };
    EXPECT(rows);
}

#define THREE "XADD k 1-0 a 1 ; XADD k 2-0 a 2 ; XADD k 3-0 a 3"
#define GROUP "XGROUP CREATE k g 0"
#define TAKEN "XREADGROUP GROUP g c COUNT 2 STREAMS k >"

static void streams_tell_ids_and_lengths(void **state) {
    (void)state;
    static const struct row rows[] = {
        {"", "XADD k * a 1", "XADD k 2000000000000-0 a 1"},
        {"XADD k * a 1", "XADD k * a 1", "XADD k 2000000000000-1 a 1"},
        {"", "XADD k 5-* a 1", "XADD k 5-0 a 1"},
        {"", "XADD k 5-1 a 1", "XADD k 5-1 a 1"},
        {"", "XADD k NOMKSTREAM 5-1 a 1", ""},
        {THREE, "XADD k MAXLEN 2 4 a 4", "XADD k MAXLEN = 2 4-0 a 4"},
        {THREE, "XADD k MAXLEN ~ 2 4 a 4", "XADD k 4-0 a 4"},
        {THREE, "XADD k MINID 3 4 a 4", "XADD k MAXLEN = 2 4-0 a 4"},
        {THREE, "XADD k MAXLEN 0 4 a 4", "XADD k MAXLEN = 0 4-0 a 4"},
        {THREE, "XADD k 3-0 a 4", ""},
        {THREE, "XTRIM k MAXLEN 1", "XTRIM k MAXLEN = 1"},
        {THREE, "XTRIM k MINID ~ 2 LIMIT 7", ""},
        {THREE, "XTRIM k MINID 2", "XTRIM k MAXLEN = 2"},
        {THREE, "XDEL k 2 9", "XDEL k 2"},
        {THREE, "XSETID k 9-9 ENTRIESADDED 7 MAXDELETEDID 8-8", "XSETID k 9-9 ENTRIESADDED 7 MAXDELETEDID 8-8"},
        {THREE, "XCFGSET k IDMP-MAXSIZE 3", "XCFGSET k IDMP-MAXSIZE 3"},
        {"", "XADD k IDMP p i * a 1 ; XADD k IDMP p i * a 1", "XADD k IDMP p i 2000000000000-0 a 1"},
        {"", "XADD k IDMPAUTO p MAXLEN 9 * a 1", "XADD k IDMPAUTO p 2000000000000-0 a 1"},
    };
    EXPECT(rows);
}

static void groups_tell_what_was_delivered(void **state) {
    (void)state;
    static const struct row rows[] = {
        {THREE, "XGROUP CREATE k g $", "XGROUP CREATE k g 3-0"},
        {"", "XGROUP CREATE k g $ MKSTREAM", "XGROUP CREATE k g 0-0 MKSTREAM"},
        {THREE, "XGROUP CREATE k g 1 ENTRIESREAD 1", "XGROUP CREATE k g 1-0 ENTRIESREAD 1"},
        {THREE " ; " GROUP, "XGROUP SETID k g $", "XGROUP SETID k g 3-0"},
        {THREE " ; " GROUP, "XGROUP CREATECONSUMER k g c ; XGROUP CREATECONSUMER k g c", "XGROUP CREATECONSUMER k g c"},
        {THREE " ; " GROUP " ; " TAKEN, "XGROUP DELCONSUMER k g c", "XGROUP DELCONSUMER k g c"},
        {THREE " ; " GROUP, "XGROUP DESTROY k g ; XGROUP DESTROY k g", "XGROUP DESTROY k g"},
        {THREE " ; " GROUP, TAKEN,
         "MULTI | XGROUP CREATECONSUMER k g c | XCLAIM k g c 0 1-0 2-0 TIME 2000000000000 RETRYCOUNT 1 FORCE JUSTID "
         "LASTID 2-0 | XGROUP SETID k g 2-0 ENTRIESREAD 2 | EXEC"},
        {THREE " ; " GROUP " ; XGROUP CREATECONSUMER k g c", "XREADGROUP GROUP g c NOACK STREAMS k >",
         "XGROUP SETID k g 3-0 ENTRIESREAD 3"},
        {THREE " ; XGROUP CREATE k g $", "XREADGROUP GROUP g c STREAMS k >", "XGROUP CREATECONSUMER k g c"},
        {THREE " ; " GROUP " ; " TAKEN, "XREADGROUP GROUP g c STREAMS k 1",
         "XCLAIM k g c 0 2-0 TIME 2000000000000 RETRYCOUNT 2 FORCE JUSTID LASTID 2-0"},
        {THREE " ; " GROUP " ; " TAKEN, "XACK k g 1 7", "XACK k g 1"},
        {THREE " ; " GROUP " ; " TAKEN, "XACK k g 7", ""},
        {THREE " ; " GROUP " ; " TAKEN, "XCLAIM k g d 0 1 IDLE 400 LASTID 3",
         "MULTI | XGROUP SETID k g 3-0 ENTRIESREAD 2 | XGROUP CREATECONSUMER k g d | XCLAIM k g d 0 1-0 TIME "
         "1999999999600 RETRYCOUNT 2 FORCE JUSTID LASTID 3-0 | EXEC"},
        {THREE " ; " GROUP " ; " TAKEN " ; XDEL k 1", "XCLAIM k g c 0 1 2 3 JUSTID",
         "MULTI | XACK k g 1-0 | XCLAIM k g c 0 2-0 TIME 2000000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 2-0 | EXEC"},
        {THREE " ; " GROUP " ; " TAKEN " ; XDEL k 1", "XAUTOCLAIM k g d 0 -",
         "MULTI | XGROUP CREATECONSUMER k g d | XACK k g 1-0 | XCLAIM k g d 0 2-0 TIME 2000000000000 RETRYCOUNT 2 "
         "FORCE "
         "JUSTID LASTID 2-0 | EXEC"},
        {THREE " ; " GROUP " ; " TAKEN, "XCLAIM k g c 100000 1", ""},
        {THREE " ; " GROUP " ; " TAKEN, "XAUTOCLAIM k g c 100000 -", ""},
        {THREE " ; " GROUP " ; " TAKEN, "XREADGROUP GROUP g c STREAMS k 9", ""},
    };
    EXPECT(rows);
}

/* ---- what a row cannot say ---- */

static void spop_removes_in_chunks(void **state) {
    (void)state;
    struct journaled *journaled = journaled_create();
    char line[64];
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(line, sizeof(line), "SADD k m%u", i);
        in_process_run(journaled->server, line);
    }
    (void)journaled_effects(journaled);
    in_process_run(journaled->server, "SPOP k 2500");
    const char *told = journaled_effects(journaled);
    unsigned commands = 0, words = 0;
    for (const char *at = told; (at = strstr(at, "SREM k")); at++) commands++;
    for (const char *at = told; (at = strstr(at, " m")); at++) words++;
    assert_int_equal(commands, 3);
    assert_int_equal(words, 2500);
    journaled_compare_all(journaled);
    in_process_run(journaled->server, "SPOP k");
    assert_int_equal(strncmp(journaled_effects(journaled), "SREM k m", 8), 0);
    journaled_compare_all(journaled);
    journaled_destroy(journaled);
}

static void what_expires_goes_before_the_command_that_met_it(void **state) {
    (void)state;
    struct journaled *journaled = journaled_create();
    in_process_run(journaled->server, "SET k v PX 10");
    in_process_run(journaled->server, "HSET l f1 a f2 b");
    in_process_run(journaled->server, "HPEXPIRE l 10 FIELDS 1 f1");
    (void)journaled_effects(journaled);
    journaled_advance(journaled, 11);
    in_process_run(journaled->server, "APPEND k w");
    assert_string_equal(journaled_effects(journaled), "DEL k | APPEND k w");
    in_process_run(journaled->server, "HINCRBY l f1 3");
    assert_string_equal(journaled_effects(journaled), "HDEL l f1 | HSET l f1 3");
    in_process_run(journaled->server, "SET k v PX 10");
    journaled_advance(journaled, 11);
    (void)journaled_effects(journaled);
    in_process_run(journaled->server, "GET k");
    assert_string_equal(journaled_effects(journaled), "DEL k");
    journaled_compare(journaled, 0, "l");
    journaled_compare_all(journaled);
    journaled_destroy(journaled);
}

/* Fields of a big hash have expired and are still there, when a command looks for one of them. */
static void a_field_that_has_expired_leaves_nothing(void **state) {
    (void)state;
    static const char *const commands[] = {"HINCRBY k f1 5",
                                           "HINCRBYFLOAT k f2 0.5",
                                           "HSETNX k f3 a",
                                           "HSETEX k KEEPTTL FIELDS 1 f4 a",
                                           "HSETEX k FNX FIELDS 1 f5 a",
                                           "HSET k f6 a",
                                           "HDEL k f7 f1",
                                           "HGETDEL k FIELDS 1 f8"};
    struct journaled *journaled = journaled_create();
    char line[64];
    in_process_run(journaled->server, "HSET k stays a");
    for (unsigned i = 0; i < 40000; i++) {
        snprintf(line, sizeof(line), "HSETEX k PX 1000 FIELDS 1 f%u %u", i, i);
        in_process_run(journaled->server, line);
    }
    (void)journaled_effects(journaled);
    journaled_advance(journaled, 1001);
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        in_process_run(journaled->server, commands[i]);
    assert_true(in_process_integer(journaled->server, "HLEN k") > 10000);
    (void)journaled_effects(journaled);
    journaled_compare(journaled, 0, "k");
    journaled_compare_all(journaled);
    journaled_destroy(journaled);
}

static void finish_waits(struct in_process *server) {
    struct blocked *blocked;
    while ((blocked = blocked_take_finished(server->dispatcher))) {
        struct reply reply;
        reply_init(&reply, NULL, 0, NULL, NULL);
        blocked_answer(server->dispatcher, blocked, &reply);
        reply_clear(&reply);
    }
}

/* `waits` is run by a client that blocks, then `wakes` by another. */
static void expect_served(const char *before, const char *waits, const char *at_once, const char *wakes,
                          const char *expected) {
    struct journaled *journaled = journaled_create();
    struct in_process *server = journaled->server;
    struct session other;
    session_init(&other, 2, IN_PROCESS_START_MS);
    other.authenticated = true;
    run_all(server, before);
    (void)journaled_effects(journaled);
    server->session = &other;
    in_process_run(server, waits);
    assert_non_null(other.blocked);
    server->session = &server->own_session;
    assert_string_equal(journaled_effects(journaled), at_once);
    in_process_run(server, wakes);
    finish_waits(server);
    assert_null(other.blocked);
    assert_string_equal(journaled_effects(journaled), expected);
    journaled_compare(journaled, 0, "k");
    journaled_compare_all(journaled);
    in_process_end_session(server, &other);
    journaled_destroy(journaled);
}

static void who_waited_is_told_behind_what_served_him(void **state) {
    (void)state;
    expect_served("", "BLPOP k l 0", "", "RPUSH k a b", "RPUSH k a b | LPOP k");
    expect_served("", "BLMOVE k l LEFT RIGHT 0", "", "RPUSH k a", "RPUSH k a | LMOVE k l LEFT RIGHT");
    expect_served("", "BZMPOP 0 1 k MIN", "", "ZADD k 1 a", "ZADD k 1 a | ZPOPMIN k 1");
    expect_served("XGROUP CREATE k g 0 MKSTREAM", "XREADGROUP GROUP g c BLOCK 0 STREAMS k >",
                  "XGROUP CREATECONSUMER k g c", "XADD k 1 a 1",
                  "XADD k 1 a 1 | MULTI | XCLAIM k g c 0 1-0 TIME 2000000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 1-0 | "
                  "XGROUP SETID k g 1-0 ENTRIESREAD 1 | EXEC");
}

/* A message is known again by whoever repeats, until its duration is over. */
static void idempotent_ids_are_repeated(void **state) {
    (void)state;
    struct journaled *journaled = journaled_create();
    in_process_run(journaled->server, "XADD k IDMP p i * a 1");
    (void)journaled_effects(journaled);
    journaled->repeated->session->replaying = false;
    in_process_expect(journaled->repeated, "XADD k IDMP p i * a 1", "$15\r\n2000000000000-0\r\n");
    journaled->repeated->session->replaying = true;
    journaled_advance(journaled, 200000);
    in_process_run(journaled->server, "XADD k IDMP p i * a 1");
    assert_string_equal(journaled_effects(journaled), "XADD k IDMP p i 2000000200000-0 a 1");
    journaled_compare(journaled, 0, "k");
    journaled_destroy(journaled);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_set_as_they_came_out),
        cmocka_unit_test(hyperloglogs_have_the_same_bytes),
        cmocka_unit_test(keys_end_at_a_time),
        cmocka_unit_test(hashes_tell_fields_and_times),
        cmocka_unit_test(lists_and_sets_tell_what_was_taken),
        cmocka_unit_test(sorted_sets_tell_what_was_taken),
        cmocka_unit_test(streams_tell_ids_and_lengths),
        cmocka_unit_test(groups_tell_what_was_delivered),
        cmocka_unit_test(spop_removes_in_chunks),
        cmocka_unit_test(what_expires_goes_before_the_command_that_met_it),
        cmocka_unit_test(a_field_that_has_expired_leaves_nothing),
        cmocka_unit_test(who_waited_is_told_behind_what_served_him),
        cmocka_unit_test(idempotent_ids_are_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
