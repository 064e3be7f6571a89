/* DEL, UNLINK, EXISTS, TYPE, TOUCH, RENAME, RENAMENX, COPY, MOVE: each rule by example, then all of them against a
 * model under random commands. */

#include "base/random.h"
#include "command/families.h"
#include "tests/support/key_server.h"

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

static void removing_counts_keys_that_were_there(void **state) {
    struct in_process *server = *state;
    key_server_fill(server, 5, "SET key:%u x");
    expect(server, "DEL key:0 missing key:1 key:0", ":2\r\n");
    expect(server, "UNLINK key:2 key:2", ":1\r\n");
    expect(server, "PEXPIRE key:3 10", ":1\r\n");
    in_process_advance(server, 10);
    expect(server, "DEL key:3", ":0\r\n");
    expect(server, "EXISTS key:0 key:1 key:2 key:3 key:4", ":1\r\n");
    expect(server, "DBSIZE", ":1\r\n");
    expect(server, "DEL", "-ERR wrong number of arguments for 'del' command\r\n");
}

static void exists_counts_repeated_keys(void **state) {
    struct in_process *server = *state;
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "EXISTS a b a", ":2\r\n");
    expect(server, "EXISTS b", ":0\r\n");
    expect(server, "PEXPIRE a 5", ":1\r\n");
    in_process_advance(server, 4);
    expect(server, "EXISTS a", ":1\r\n");
    in_process_advance(server, 1);
    expect(server, "EXISTS a", ":0\r\n");
}

static void type_is_told(void **state) {
    struct in_process *server = *state;
    expect(server, "TYPE a", "+none\r\n");
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "TYPE a", "+string\r\n");
    expect(server, "SELECT 1", "+OK\r\n");
    expect(server, "TYPE a", "+none\r\n");
}

static void touch_alone_renews_access(void **state) {
    struct in_process *server = *state;
    expect(server, "SET a 1", "+OK\r\n");
    in_process_advance(server, 30000);
    expect(server, "EXISTS a", ":1\r\n");
    expect(server, "TYPE a", "+string\r\n");
    expect(server, "TTL a", ":-1\r\n");
    expect(server, "OBJECT IDLETIME a", ":30\r\n");
    expect(server, "TOUCH a missing a", ":2\r\n");
    expect(server, "OBJECT IDLETIME a", ":0\r\n");
    in_process_advance(server, 7000);
    server->session->no_touch = true;
    expect(server, "GET a", "$1\r\n1\r\n");
    expect(server, "OBJECT IDLETIME a", ":7\r\n");
    expect(server, "TOUCH a", ":1\r\n");
    expect(server, "OBJECT IDLETIME a", ":0\r\n");
}

static void reading_commands_count_hits_and_misses(void **state) {
    struct in_process *server = *state;
    expect(server, "SET a 1", "+OK\r\n");
    in_process_run(server, "EXISTS a a b");
    in_process_run(server, "TYPE a");
    in_process_run(server, "TOUCH a b");
    in_process_run(server, "TTL b");
    in_process_run(server, "OBJECT ENCODING a");
    in_process_run(server, "COPY a c");
    struct keyspace_usage usage = key_server_usage(server);
    assert_int_equal(usage.counters.hits, 6);
    assert_int_equal(usage.counters.misses, 3);
    in_process_run(server, "RENAME a b");
    in_process_run(server, "MOVE b 1");
    in_process_run(server, "EXPIRE b 1");
    in_process_run(server, "PERSIST b");
    in_process_run(server, "DEL b");
    usage = key_server_usage(server);
    assert_int_equal(usage.counters.hits + usage.counters.misses, 9);
}

/* ---- RENAME ---- */

static void rename_takes_everything_along(void **state) {
    struct in_process *server = *state;
    expect(server, "RENAME a b", "-ERR no such key\r\n");
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "PEXPIRE a 5000", ":1\r\n");
    expect(server, "SET b old", "+OK\r\n");
    in_process_advance(server, 2000);
    expect(server, "RENAME a b", "+OK\r\n");
    expect(server, "EXISTS a", ":0\r\n");
    expect(server, "GET b", "$1\r\n1\r\n");
    expect(server, "OBJECT ENCODING b", "$3\r\nint\r\n");
    expect(server, "PTTL b", ":3000\r\n");
    expect(server, "SET c plain", "+OK\r\n");
    expect(server, "RENAME c b", "+OK\r\n");
    expect(server, "PTTL b", ":-1\r\n");
    expect(server, "GET b", "$5\r\nplain\r\n");
    expect(server, "DBSIZE", ":1\r\n");
}

static void rename_to_the_same_name(void **state) {
    struct in_process *server = *state;
    expect(server, "RENAME a a", "-ERR no such key\r\n");
    expect(server, "RENAMENX a a", "-ERR no such key\r\n");
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "RENAME a a", "+OK\r\n");
    expect(server, "RENAMENX a a", ":0\r\n");
    expect(server, "GET a", "$1\r\n1\r\n");
}

static void renamenx_spares_the_target(void **state) {
    struct in_process *server = *state;
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "SET b 2", "+OK\r\n");
    expect(server, "RENAMENX a b", ":0\r\n");
    expect(server, "GET a", "$1\r\n1\r\n");
    expect(server, "PEXPIRE b 5", ":1\r\n");
    in_process_advance(server, 5);
    expect(server, "RENAMENX a b", ":1\r\n");
    expect(server, "GET b", "$1\r\n1\r\n");
    expect(server, "RENAMENX a b", "-ERR no such key\r\n");
}

static void an_expired_source_is_missing(void **state) {
    struct in_process *server = *state;
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "PEXPIRE a 5", ":1\r\n");
    in_process_advance(server, 5);
    expect(server, "RENAME a b", "-ERR no such key\r\n");
    expect(server, "COPY a b", ":0\r\n");
    expect(server, "MOVE a 1", ":0\r\n");
    expect(server, "DBSIZE", ":0\r\n");
}

static void large_values_move_whole(void **state) {
    struct in_process *server = *state;
    enum { BYTES = 3 * 1024 * 1024 };
    char *value = malloc(BYTES);
    assert_non_null(value);
    for (size_t i = 0; i < BYTES; i++) value[i] = (char)(i * 31 + i / 256);
    in_process_run_with_value(server, "SET", "a", span_of(value, BYTES));
    expect(server, "COPY a b", ":1\r\n");
    expect(server, "RENAME a c", "+OK\r\n");
    expect(server, "MOVE c 3", ":1\r\n");
    struct span copied = in_process_bulk(server, "GET b");
    assert_int_equal(copied.length, BYTES);
    assert_memory_equal(copied.data, value, BYTES);
    expect(server, "SELECT 3", "+OK\r\n");
    struct span moved = in_process_bulk(server, "GET c");
    assert_int_equal(moved.length, BYTES);
    assert_memory_equal(moved.data, value, BYTES);
    free(value);
}

static void rename_keeps_the_access_bits_copy_does_not(void **state) {
    struct in_process *server = *state;
    server->keyspace->access.frequency = true;
    expect(server, "SET a 1", "+OK\r\n");
    for (int i = 0; i < 3000; i++) in_process_run(server, "GET a");
    int64_t frequency = in_process_integer(server, "OBJECT FREQ a");
    assert_true(frequency > 10);
    expect(server, "COPY a c", ":1\r\n");
    expect(server, "OBJECT FREQ c", ":5\r\n");
    expect(server, "RENAME a b", "+OK\r\n");
    assert_in_range(in_process_integer(server, "OBJECT FREQ b"), (uint64_t)frequency, (uint64_t)frequency + 2);
}

/* ---- COPY and MOVE ---- */

static void copy_leaves_the_source(void **state) {
    struct in_process *server = *state;
    expect(server, "COPY a b", ":0\r\n");
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "PEXPIRE a 5000", ":1\r\n");
    expect(server, "COPY a b", ":1\r\n");
    expect(server, "COPY a b", ":0\r\n");
    expect(server, "GET a", "$1\r\n1\r\n");
    expect(server, "PTTL b", ":5000\r\n");
    expect(server, "SET c two", "+OK\r\n");
    expect(server, "COPY c b REPLACE", ":1\r\n");
    expect(server, "PTTL b", ":-1\r\n");
    expect(server, "GET b", "$3\r\ntwo\r\n");
    expect(server, "COPY a b DB 2", ":1\r\n");
    expect(server, "COPY a a db 2 replace REPLACE", ":1\r\n");
    expect(server, "SELECT 2", "+OK\r\n");
    expect(server, "MGET a b", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n");
    expect(server, "PTTL a", ":5000\r\n");
}

static void copy_refuses_in_order(void **state) {
    struct in_process *server = *state;
    expect(server, "COPY a", "-ERR wrong number of arguments for 'copy' command\r\n");
    expect(server, "COPY a a", "-ERR source and destination objects are the same\r\n");
    expect(server, "COPY a a DB 0", "-ERR source and destination objects are the same\r\n");
    expect(server, "COPY a a DB", "-ERR syntax error\r\n");
    expect(server, "COPY a b what", "-ERR syntax error\r\n");
    expect(server, "COPY a b DB x what", "-ERR value is not an integer or out of range\r\n");
    expect(server, "COPY a b DB 16", "-ERR DB index is out of range\r\n");
    expect(server, "COPY a b DB -1", "-ERR DB index is out of range\r\n");
    expect(server, "COPY a b DB 99999999999",
           "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n");
    expect(server, "COPY a a DB 1 DB 0", "-ERR source and destination objects are the same\r\n");
}

static void move_spares_the_target(void **state) {
    struct in_process *server = *state;
    expect(server, "MOVE a 1", ":0\r\n");
    expect(server, "MOVE a 0", "-ERR source and destination objects are the same\r\n");
    expect(server, "MOVE a 16", "-ERR DB index is out of range\r\n");
    expect(server, "MOVE a x", "-ERR value is not an integer or out of range\r\n");
    expect(server, "SET a 1", "+OK\r\n");
    expect(server, "PEXPIRE a 5000", ":1\r\n");
    expect(server, "MOVE a 1", ":1\r\n");
    expect(server, "EXISTS a", ":0\r\n");
    expect(server, "SET a 2", "+OK\r\n");
    expect(server, "MOVE a 1", ":0\r\n");
    expect(server, "SELECT 1", "+OK\r\n");
    expect(server, "GET a", "$1\r\n1\r\n");
    expect(server, "PTTL a", ":5000\r\n");
    in_process_advance(server, 5000);
    expect(server, "SELECT 0", "+OK\r\n");
    expect(server, "MOVE a 1", ":1\r\n");
}

/* ---- watchers ---- */

static void watchers_are_told(void **state) {
    struct in_process *server = *state;
    key_server_fill(server, 10, "SET key:%u x");
    assert_true(key_server_watcher_is_told(server, "WATCH key:0", "DEL key:0"));
    assert_false(key_server_watcher_is_told(server, "WATCH key:0", "DEL key:0"));
    assert_true(key_server_watcher_is_told(server, "WATCH key:1", "RENAME key:1 new"));
    assert_true(key_server_watcher_is_told(server, "WATCH new", "RENAME key:2 new"));
    assert_true(key_server_watcher_is_told(server, "WATCH newer", "RENAMENX key:3 newer"));
    assert_false(key_server_watcher_is_told(server, "WATCH newer", "RENAMENX key:4 newer"));
    assert_false(key_server_watcher_is_told(server, "WATCH key:4", "COPY key:4 copy"));
    assert_false(key_server_watcher_is_told(server, "WATCH copy", "COPY key:4 copy"));
    assert_true(key_server_watcher_is_told(server, "WATCH copy", "COPY key:4 copy REPLACE"));
    assert_false(key_server_watcher_is_told(server, "WATCH copy", "COPY key:4 copy DB 1"));
    assert_true(key_server_watcher_is_told(server, "WATCH key:4", "MOVE key:4 5"));
    assert_false(key_server_watcher_is_told(server, "WATCH key:5", "TOUCH key:5"));
    assert_true(key_server_watcher_is_told(server, "WATCH key:5", "EXPIRE key:5 100"));
    assert_true(key_server_watcher_is_told(server, "WATCH key:5", "PERSIST key:5"));
    assert_false(key_server_watcher_is_told(server, "WATCH key:5", "PERSIST key:5"));
    assert_true(key_server_watcher_is_told(server, "WATCH key:5", "EXPIRE key:5 -1"));
}

/* ---- model ---- */

enum { NAMES = 12, DATABASES = 3, ROUNDS = 20000 };

struct cell {
    bool present;
    unsigned value;
    int64_t expiry_ms; /* 0: none */
};

struct model {
    struct cell cells[DATABASES][NAMES];
    int64_t now_ms;
    struct random random;
};

static struct cell *cell_of(struct model *model, unsigned database, unsigned name) {
    struct cell *cell = &model->cells[database][name];
    if (cell->present && cell->expiry_ms && cell->expiry_ms <= model->now_ms) *cell = (struct cell){0};
    return cell;
}

/* Values of several shapes: integers, text, and long text. */
static void spell_value(unsigned value, char text[128]) {
    if (value % 3 == 0)
        snprintf(text, 128, "%u", value * 77777);
    else
        snprintf(text, 128, "value-%0*u", value % 3 == 1 ? 5 : 90, value);
}

/* One random command: its line, and the reply that the model gives. */
static const char *model_step(struct model *model, char line[256], struct in_process *server) {
    unsigned database = (unsigned)random_below(&model->random, DATABASES),
             to = (unsigned)random_below(&model->random, DATABASES);
    unsigned a = (unsigned)random_below(&model->random, NAMES), b = (unsigned)random_below(&model->random, NAMES);
    snprintf(line, 256, "SELECT %u", database);
    expect(server, line, "+OK\r\n");
    struct cell *from = cell_of(model, database, a), *target = cell_of(model, database, b);
    char text[128];
    switch (random_below(&model->random, 7)) {
    case 0:
        *from = (struct cell){true, (unsigned)random_below(&model->random, 1000), 0};
        spell_value(from->value, text);
        snprintf(line, 256, "SET n%u %s", a, text);
        return "+OK\r\n";
    case 1: {
        int64_t lifetime = (int64_t)random_below(&model->random, 60);
        snprintf(line, 256, "PEXPIRE n%u %lld", a, (long long)lifetime);
        if (!from->present) return ":0\r\n";
        from->expiry_ms = model->now_ms + lifetime;
        return ":1\r\n";
    }
    case 2: {
        snprintf(line, 256, "RENAME n%u n%u", a, b);
        if (!from->present) return "-ERR no such key\r\n";
        struct cell moved = *from;
        *from = (struct cell){0};
        *target = moved;
        return "+OK\r\n";
    }
    case 3: {
        snprintf(line, 256, "RENAMENX n%u n%u", a, b);
        if (!from->present) return "-ERR no such key\r\n";
        if (target->present) return ":0\r\n";
        *target = *from;
        *from = (struct cell){0};
        return ":1\r\n";
    }
    case 4: {
        bool replace = random_once_in(&model->random, 2);
        snprintf(line, 256, "COPY n%u n%u DB %u%s", a, b, to, replace ? " REPLACE" : "");
        if (database == to && a == b) return "-ERR source and destination objects are the same\r\n";
        target = cell_of(model, to, b);
        if (!from->present || (target->present && !replace)) return ":0\r\n";
        *target = *from;
        return ":1\r\n";
    }
    case 5:
        snprintf(line, 256, "MOVE n%u %u", a, to);
        if (database == to) return "-ERR source and destination objects are the same\r\n";
        target = cell_of(model, to, a);
        if (!from->present || target->present) return ":0\r\n";
        *target = *from;
        *from = (struct cell){0};
        return ":1\r\n";
    default: {
        int removed = from->present + (target != from && target->present);
        snprintf(line, 256, "DEL n%u n%u", a, b);
        *from = *target = (struct cell){0};
        return removed == 0 ? ":0\r\n" : removed == 1 ? ":1\r\n" : ":2\r\n";
    }
    }
}

static void compare_all(struct model *model, struct in_process *server) {
    char line[256], text[128], reply[256];
    for (unsigned database = 0; database < DATABASES; database++) {
        snprintf(line, sizeof(line), "SELECT %u", database);
        expect(server, line, "+OK\r\n");
        for (unsigned name = 0; name < NAMES; name++) {
            struct cell *cell = cell_of(model, database, name);
            spell_value(cell->value, text);
            snprintf(line, sizeof(line), "GET n%u", name);
            snprintf(reply, sizeof(reply), "$%zu\r\n%s\r\n", strlen(text), text);
            expect(server, line, cell->present ? reply : "$-1\r\n");
            snprintf(line, sizeof(line), "PEXPIRETIME n%u", name);
            snprintf(reply, sizeof(reply), ":%lld\r\n",
                     (long long)(!cell->present    ? -2
                                 : cell->expiry_ms ? cell->expiry_ms
                                                   : -1));
            expect(server, line, reply);
        }
    }
}

static void random_commands_agree_with_a_model(void **state) {
    struct in_process *server = *state;
    struct model model = {.now_ms = IN_PROCESS_START_MS};
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20240517;
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&model.random, seed);
    for (unsigned round = 0; round < ROUNDS; round++) {
        char line[256];
        const char *reply = model_step(&model, line, server);
        expect(server, line, reply);
        if (random_once_in(&model.random, 4)) {
            model.now_ms += 5;
            in_process_advance(server, 5);
        }
        if (round % 50 == 0) compare_all(&model, server);
    }
    assert_true(keyspace_validate(server->keyspace));
}

#define with_server(test) cmocka_unit_test_setup_teardown(test, set_up, in_process_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_server(removing_counts_keys_that_were_there),
        with_server(exists_counts_repeated_keys),
        with_server(type_is_told),
        with_server(touch_alone_renews_access),
        with_server(reading_commands_count_hits_and_misses),
        with_server(rename_takes_everything_along),
        with_server(rename_to_the_same_name),
        with_server(renamenx_spares_the_target),
        with_server(an_expired_source_is_missing),
        with_server(large_values_move_whole),
        with_server(rename_keeps_the_access_bits_copy_does_not),
        with_server(copy_leaves_the_source),
        with_server(copy_refuses_in_order),
        with_server(move_spares_the_target),
        with_server(watchers_are_told),
        with_server(random_commands_agree_with_a_model),
    };
    return cmocka_run_group_tests_name("command/key_commands", tests, NULL, NULL);
}
