/* KEYS, SCAN, RANDOMKEY: examples, and their promises while the keyspace changes underneath. */

#include "base/clock.h"
#include "base/random.h"
#include "command/families.h"
#include "tests/support/key_server.h"

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define expect in_process_expect

static int set_up(void **state) {
    *state = key_server_create();
    return 0;
}

static uint64_t seed_of_run(void) {
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 77003;
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

/* ---- reading replies ---- */

static uint64_t read_count(const char **at, char kind) {
    assert_int_equal(**at, kind);
    char *end;
    uint64_t count = strtoull(*at + 1, &end, 10);
    assert_memory_equal(end, "\r\n", 2);
    *at = end + 2;
    return count;
}

static struct span read_bulk(const char **at) {
    uint64_t length = read_count(at, '$');
    struct span bytes = span_of(*at, length);
    assert_memory_equal(*at + length, "\r\n", 2);
    *at += length + 2;
    return bytes;
}

/* The number in a name like "fleeting:12"; -1: the name begins otherwise. */
static int64_t number_of(struct span name, const char *prefix) {
    size_t length = strlen(prefix);
    if (name.length <= length || memcmp(name.data, prefix, length) != 0) return -1;
    char text[32] = "";
    assert_true(name.length - length < sizeof(text));
    memcpy(text, name.data + length, name.length - length);
    return strtoll(text, NULL, 10);
}

/* One SCAN step: counts in `seen` the keys with this prefix; returns the next cursor. */
static uint64_t scan_step(struct in_process *server, uint64_t cursor, const char *options, const char *prefix,
                          uint32_t *seen, uint64_t *shown) {
    char line[128];
    snprintf(line, sizeof(line), "SCAN %llu%s", (unsigned long long)cursor, options);
    const char *at = in_process_run(server, line);
    assert_int_equal(read_count(&at, '*'), 2);
    uint64_t next = strtoull(read_bulk(&at).data, NULL, 10);
    uint64_t count = read_count(&at, '*');
    for (uint64_t i = 0; i < count; i++) {
        int64_t number = number_of(read_bulk(&at), prefix);
        if (number >= 0) seen[number]++;
    }
    assert_ptr_equal(at, server->reply + server->reply_length);
    *shown += count;
    return next;
}

/* ---- SCAN ---- */

static void scan_of_nothing(void **state) {
    struct in_process *server = *state;
    expect(server, "SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n");
    expect(server, "SCAN 0 COUNT 9223372036854775807 MATCH * TYPE string", "*2\r\n$1\r\n0\r\n*0\r\n");
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "SCAN 0", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n");
    expect(server, "SELECT 1", "+OK\r\n");
    expect(server, "SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n");
}

static void scan_refuses(void **state) {
    struct in_process *server = *state;
    expect(server, "SCAN", "-ERR wrong number of arguments for 'scan' command\r\n");
    expect(server, "SCAN x COUNT x", "-ERR invalid cursor\r\n");
    expect(server, "SCAN \"5 \"", "-ERR invalid cursor\r\n");
    expect(server, "SCAN 0 COUNT", "-ERR syntax error\r\n");
    expect(server, "SCAN 0 COUNT 0", "-ERR syntax error\r\n");
    expect(server, "SCAN 0 COUNT -9223372036854775808", "-ERR syntax error\r\n");
    expect(server, "SCAN 0 COUNT x MATCH", "-ERR value is not an integer or out of range\r\n");
    expect(server, "SCAN 0 MATCH", "-ERR syntax error\r\n");
    expect(server, "SCAN 0 TYPE", "-ERR syntax error\r\n");
    expect(server, "SCAN 0 NOVALUES x", "-ERR syntax error\r\n");
}

static void any_cursor_is_harmless(void **state) {
    struct in_process *server = *state;
    struct random random;
    random_seed(&random, seed_of_run());
    key_server_fill(server, 3000, "SET key:%u x");
    static uint32_t seen[3000];
    uint64_t shown = 0;
    for (unsigned i = 0; i < 2000; i++)
        scan_step(server, random_next(&random) >> random_below(&random, 64), "", "key:", seen, &shown);
    expect(server, "SCAN 18446744073709551615", "*2\r\n$1\r\n0\r\n*0\r\n");
    expect(server, "SCAN -1", "*2\r\n$1\r\n0\r\n*0\r\n");
}

static void an_undisturbed_scan_shows_each_key_once(void **state) {
    struct in_process *server = *state;
    enum { KEYS = 20000 };
    static uint32_t seen[KEYS];
    static const char *const options[] = {"", " COUNT 1", " COUNT 100", " COUNT 5000", " COUNT 9223372036854775807"};
    key_server_fill(server, KEYS, "SET key:%u x");
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        uint64_t cursor = 0, shown = 0, steps = 0;
        memset(seen, 0, sizeof(seen));
        do {
            cursor = scan_step(server, cursor, options[i], "key:", seen, &shown);
            assert_true(cursor < UINT64_C(1) << 53);
            steps++;
        } while (cursor);
        assert_int_equal(shown, KEYS);
        for (unsigned k = 0; k < KEYS; k++) assert_int_equal(seen[k], 1);
        if (i == 4) assert_int_equal(steps, 1);
        if (i == 2) assert_in_range(steps, KEYS / 300, KEYS / 100);
    }
}

static void scan_filters(void **state) {
    struct in_process *server = *state;
    static uint32_t seen[1000];
    key_server_fill(server, 1000, "SET key:%u x");
    key_server_fill(server, 1000, "SET other:%u x");
    key_server_fill(server, 500, "PEXPIRE key:%u 50");
    uint64_t shown = 0;
    assert_int_equal(scan_step(server, 0, " MATCH key:* COUNT 100000", "key:", seen, &shown), 0);
    assert_int_equal(shown, 1000);
    shown = 0;
    assert_int_equal(scan_step(server, 0, " count 100000 match *:7 match *:77", "key:", seen, &shown), 0);
    assert_int_equal(shown, 2);
    shown = 0;
    assert_int_equal(scan_step(server, 0, " COUNT 100000 TYPE String MATCH key:*", "key:", seen, &shown), 0);
    assert_int_equal(shown, 1000);
    expect(server, "SCAN 0 COUNT 100000 TYPE hash", "*2\r\n$1\r\n0\r\n*0\r\n");
    expect(server, "SCAN 0 COUNT 100000 TYPE none", "*2\r\n$1\r\n0\r\n*0\r\n");
    expect(server, "SCAN 0 COUNT 100000 MATCH \"\"", "*2\r\n$1\r\n0\r\n*0\r\n");
    shown = 0;
    assert_int_not_equal(scan_step(server, 0, " COUNT 10 TYPE hash", "key:", seen, &shown), 0);
    in_process_advance(server, 50);
    memset(seen, 0, sizeof(seen));
    shown = 0;
    assert_int_equal(scan_step(server, 0, " MATCH key:* COUNT 100000", "key:", seen, &shown), 0);
    assert_int_equal(shown, 500);
    for (unsigned k = 0; k < 1000; k++) assert_int_equal(seen[k], k >= 500);
    assert_in_range(in_process_integer(server, "DBSIZE"), 1500, 1999); /* what was met of the expired is gone */
}

/* What stays is returned, whatever comes and goes between the steps: the database grows from 1000 keys to up to 60000
 * and shrinks again, several times over, so segments split and merge under the cursor. */
static void what_stays_is_always_scanned(void **state) {
    struct in_process *server = *state;
    enum { STAYING = 1000, FLEETING = 60000, WALKS = 40 };
    static uint32_t seen[STAYING];
    struct random random;
    char line[64], options[32];
    random_seed(&random, seed_of_run());
    key_server_fill(server, STAYING, "SET staying:%u x");
    for (unsigned walk = 0; walk < WALKS; walk++) {
        uint64_t cursor = 0, shown = 0;
        memset(seen, 0, sizeof(seen));
        do {
            snprintf(options, sizeof(options), " COUNT %u", 1 + (unsigned)random_below(&random, 400));
            cursor = scan_step(server, cursor, options, "staying:", seen, &shown);
            bool grow = random_once_in(&random, 2);
            unsigned from = (unsigned)random_below(&random, FLEETING), burst = (unsigned)random_below(&random, 2000);
            for (unsigned i = 0; i < burst; i++) {
                snprintf(line, sizeof(line), grow ? "SET fleeting:%u x" : "DEL fleeting:%u", (from + i) % FLEETING);
                in_process_run(server, line);
            }
            if (random_once_in(&random, 30)) /* so that it becomes small, too */
                key_server_fill(server, FLEETING, "DEL fleeting:%u");
        } while (cursor);
        for (unsigned k = 0; k < STAYING; k++)
            if (seen[k] == 0) fail_msg("walk %u: staying:%u was not returned", walk, k);
    }
    assert_true(keyspace_validate(server->keyspace));
}

/* ---- KEYS ---- */

static void keys_match_patterns(void **state) {
    struct in_process *server = *state;
    expect(server, "KEYS *", "*0\r\n");
    key_server_fill(server, 12, "SET key:%u x");
    expect(server, "SET \"\" empty", "+OK\r\n");
    expect(server, "SET a*b x", "+OK\r\n");
    expect(server, "KEYS key:5", "*1\r\n$5\r\nkey:5\r\n");
    expect(server, "KEYS missing", "*0\r\n");
    expect(server, "KEYS k?y:[5]", "*1\r\n$5\r\nkey:5\r\n");
    expect(server, "KEYS \"a\\\\*b\"", "*1\r\n$3\r\na*b\r\n");
    expect(server, "KEYS \"\"", "*1\r\n$0\r\n\r\n");
    assert_memory_equal(in_process_run(server, "KEYS *"), "*14\r\n", 5);
    assert_memory_equal(in_process_run(server, "KEYS **"), "*13\r\n", 5); /* only "*" itself matches the empty name */
    assert_memory_equal(in_process_run(server, "KEYS key:*"), "*12\r\n", 5);
    assert_memory_equal(in_process_run(server, "KEYS key:1?"), "*2\r\n", 4);
}

static void keys_hide_what_expired(void **state) {
    struct in_process *server = *state;
    key_server_fill(server, 10, "SET key:%u x");
    expect(server, "PEXPIRE key:3 50", ":1\r\n");
    expect(server, "PEXPIRE key:4 51", ":1\r\n");
    in_process_advance(server, 50);
    assert_memory_equal(in_process_run(server, "KEYS *"), "*9\r\n", 4);
    expect(server, "KEYS key:3", "*0\r\n");
    expect(server, "KEYS key:4", "*1\r\n$5\r\nkey:4\r\n");
}

/* ---- while another thread writes ---- */

enum { SHARED_STAYING = 5000, SHARED_FLEETING = 30000, LISTINGS = 600, LISTINGS_LEAST = 10 };
/* Where a sanitizer or a busy machine makes all of this slow, fewer listings have to do. */
#define LISTING_NS INT64_C(10000000000)

/* A server whose keyspace is `shared`, which stays the caller's. */
static struct in_process *server_sharing(struct keyspace *shared) {
    struct in_process *server = key_server_create();
    keyspace_destroy(server->keyspace);
    server->keyspace = server->dispatcher->keyspace = shared;
    return server;
}

static void destroy_sharing(struct in_process *server) {
    server->keyspace = keyspace_create(&(struct keyspace_options){.shards = 1});
    in_process_destroy(server);
}

struct writer {
    struct keyspace *keyspace;
    struct in_process *server;
    atomic_bool stop;
};

/* MSET and DEL of all fleeting keys, argument by argument. */
static char fleeting_names[SHARED_FLEETING][16];
static struct span fill_arguments[1 + 2 * SHARED_FLEETING], empty_arguments[1 + SHARED_FLEETING];

static void spell_arguments(void) {
    fill_arguments[0] = SPAN_LITERAL("MSET");
    empty_arguments[0] = SPAN_LITERAL("DEL");
    for (unsigned i = 0; i < SHARED_FLEETING; i++) {
        int length = snprintf(fleeting_names[i], sizeof(fleeting_names[i]), "fleeting:%u", i);
        fill_arguments[1 + 2 * i] = empty_arguments[1 + i] = span_of(fleeting_names[i], (size_t)length);
        fill_arguments[2 + 2 * i] = SPAN_LITERAL("x");
    }
}

/* Fills and empties by turns, each in one command, so that between two steps of the other side's walk segments split
 * or merge many times over. */
static void *write_and_remove(void *ctx) {
    struct writer *writer = ctx;
    retire_online(writer->keyspace->retired, 1);
    while (!atomic_load(&writer->stop)) {
        in_process_run_arguments(writer->server, fill_arguments, 1 + 2 * SHARED_FLEETING);
        in_process_run_arguments(writer->server, empty_arguments, 1 + SHARED_FLEETING);
    }
    retire_offline(writer->keyspace->retired, 1);
    return NULL;
}

static void keys_repeat_nothing_while_others_write(void **state) {
    (void)state;
    static uint32_t staying[SHARED_STAYING], fleeting[SHARED_FLEETING];
    struct keyspace *keyspace = keyspace_create(&(struct keyspace_options){.shards = 2, .locking = true});
    assert_non_null(keyspace);
    struct in_process *server = server_sharing(keyspace);
    struct writer writer = {.keyspace = keyspace, .server = server_sharing(keyspace)};
    spell_arguments();
    retire_online(keyspace->retired, 0);
    key_server_fill(server, SHARED_STAYING, "SET staying:%u x");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_and_remove, &writer), 0);
    int64_t enough_ns = clock_monotonic_ns() + LISTING_NS;
    for (unsigned i = 0; i < LISTINGS && (i < LISTINGS_LEAST || clock_monotonic_ns() < enough_ns); i++) {
        memset(staying, 0, sizeof(staying));
        memset(fleeting, 0, sizeof(fleeting));
        const char *at = in_process_run(server, "KEYS *");
        uint64_t count = read_count(&at, '*');
        for (uint64_t k = 0; k < count; k++) {
            struct span name = read_bulk(&at);
            int64_t number = number_of(name, "staying:");
            uint32_t *times = number >= 0 ? &staying[number] : &fleeting[number_of(name, "fleeting:")];
            if (++*times == 2) fail_msg("listing %u: %.*s twice", i, (int)name.length, name.data);
        }
        for (unsigned k = 0; k < SHARED_STAYING; k++) assert_int_equal(staying[k], 1);
    }
    atomic_store(&writer.stop, true);
    pthread_join(thread, NULL);
    retire_offline(keyspace->retired, 0);
    destroy_sharing(writer.server);
    destroy_sharing(server);
    assert_true(keyspace_validate(keyspace));
    keyspace_destroy(keyspace);
}

/* ---- RANDOMKEY ---- */

static void randomkey_of_few(void **state) {
    struct in_process *server = *state;
    expect(server, "RANDOMKEY", "$-1\r\n");
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "RANDOMKEY", "$1\r\na\r\n");
    expect(server, "PEXPIRE a 10", ":1\r\n");
    in_process_advance(server, 10);
    expect(server, "DBSIZE", ":1\r\n");
    expect(server, "RANDOMKEY", "$-1\r\n");
    expect(server, "DBSIZE", ":0\r\n"); /* what has expired and was met is gone */
    key_server_fill(server, 1000, "SET key:%u x");
    key_server_fill(server, 999, "PEXPIRE key:%u 10");
    in_process_advance(server, 10);
    for (unsigned i = 0; i < 20; i++) expect(server, "RANDOMKEY", "$7\r\nkey:999\r\n");
}

/* How far a sample of `draws` from `keys` keys is from uniform: chi-squared over its degrees of freedom, 1 when it is.
 */
static double unevenness(struct in_process *server, unsigned keys, unsigned draws, unsigned *never) {
    uint32_t *times = calloc(keys, sizeof(*times));
    assert_non_null(times);
    for (unsigned i = 0; i < draws; i++) times[number_of(in_process_bulk(server, "RANDOMKEY"), "key:")]++;
    double expected = (double)draws / keys, sum = 0;
    *never = 0;
    for (unsigned k = 0; k < keys; k++) {
        sum += (times[k] - expected) * (times[k] - expected) / expected;
        *never += times[k] == 0;
    }
    free(times);
    return sum / (keys - 1);
}

static void randomkey_is_fair(void **state) {
    struct in_process *server = *state;
    static const unsigned sizes[] = {2, 16, 200, 3000};
    unsigned filled = 0, never;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char line[64];
        for (; filled < sizes[i]; filled++) {
            snprintf(line, sizeof(line), "SET key:%u x", filled);
            in_process_run(server, line);
        }
        double uneven = unevenness(server, sizes[i], 200 * sizes[i], &never);
        printf("%u keys: unevenness %.2f, never drawn %u\n", sizes[i], uneven, never);
        assert_int_equal(never, 0);
        assert_true(uneven < 2);
    }
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, set_up, in_process_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_server(scan_of_nothing),
        with_server(scan_refuses),
        with_server(any_cursor_is_harmless),
        with_server(an_undisturbed_scan_shows_each_key_once),
        with_server(scan_filters),
        with_server(what_stays_is_always_scanned),
        with_server(keys_match_patterns),
        with_server(keys_hide_what_expired),
        cmocka_unit_test(keys_repeat_nothing_while_others_write),
        with_server(randomkey_of_few),
        with_server(randomkey_is_fair),
    };
    return cmocka_run_group_tests_name("command/key_scan_commands", tests, NULL, NULL);
}
