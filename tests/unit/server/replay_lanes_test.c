/* What several lanes make of random commands is what one thread makes of them: of each key of each database the same
 * value. Commands of one key, of several in one lane or in many, and barriers stand side by side, and keys are few, so
 * that order matters everywhere. TERRACE_TEST_SEED replays. */

#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_snapshot.h"
#include "server/replay_lanes.h"
#include "tests/support/in_process.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { LANES = 4, KEYS = 40, DATABASES = 3, COMMANDS = 30000, WORDS = 6, WORD_BYTES = 64, ROUNDS = 3 };

static const struct command_family *families(unsigned *count) {
    static struct command_family all[10];
    const struct command_family known[] = {{string_commands, string_command_count},
                                           {hash_commands, hash_command_count},
                                           {list_commands, list_command_count},
                                           {set_commands, set_command_count},
                                           {sorted_set_commands, sorted_set_command_count},
                                           {key_commands, key_command_count},
                                           {key_expiry_commands, key_expiry_command_count},
                                           {dump_commands, dump_command_count},
                                           {database_commands, database_command_count},
                                           {stream_commands, stream_command_count}};
    memcpy(all, known, sizeof(known));
    *count = sizeof(known) / sizeof(known[0]);
    return all;
}

struct side {
    struct in_process *server;
    struct replay_lanes *lanes;
};

static bool always(void *ctx) {
    (void)ctx;
    return true;
}

static void begin(struct side *side, unsigned lanes, bool words_stay) {
    unsigned count;
    const struct command_family *all = families(&count);
    const struct in_process_options options = {.families = all, .family_count = count, .shards = 64};
    side->server = in_process_create_with(&options);
    keyspace_set_locking(side->server->keyspace, true);
    struct replay_lanes_options how = {
        .runner = {.keyspace = side->server->keyspace,
                   .table = side->server->table,
                   .participant = LIMIT_WORKERS,
                   .is_shared = always},
        .lanes = lanes,
        .participant = LIMIT_WORKERS,
        .words_stay = words_stay,
    };
    side->lanes = replay_lanes_create(&how);
    assert_non_null(side->lanes);
}

static void end(struct side *side) {
    replay_lanes_destroy(side->lanes);
    in_process_destroy(side->server);
}

static void give(struct side *side, uint32_t database, char words[WORDS][WORD_BYTES], unsigned count) {
    struct span argv[WORDS];
    for (unsigned i = 0; i < count; i++) argv[i] = span_of_text(words[i]);
    const struct command *command = command_table_find(side->server->table, argv[0]);
    assert_non_null(command);
    if (command->subcommand_count) command = command_find_subcommand(command, argv[1]);
    assert_non_null(command);
    const struct aof_command given = {.argv = argv, .argc = count};
    assert_true(replay_lanes_give(side->lanes, database, command, &given));
}

/* k: a key, v: a value, n: a number, d: a database */
static const char *const patterns[] = {
    "SET k v",
    "APPEND s:k v",
    "INCRBY n:k n",
    "DEL k k k",
    "MSET k v k v",
    "LPUSH l:k v v",
    "RPOP l:k",
    "LMOVE l:k l:k LEFT RIGHT",
    "HSET h:k v v",
    "HDEL h:k v",
    "SADD t:k v n",
    "SMOVE t:k t:k n",
    "ZADD z:k n v",
    "ZUNIONSTORE z:k 2 z:k z:k",
    "RENAME k k",
    "MOVE k d",
    "COPY l:k l:k REPLACE",
    "PEXPIREAT k 4102444800000",
    "SUNIONSTORE t:k t:k t:k",
    "SETRANGE s:k 3 v",
    "GETDEL k",
    "XGROUP CREATE x:k v 0 MKSTREAM",
    "XGROUP DESTROY x:k v",
};

static unsigned draw(struct random *random, char words[WORDS][WORD_BYTES]) {
    size_t which = random_below(random, sizeof(patterns) / sizeof(patterns[0]));
    const char *pattern = patterns[which];
    if (random_once_in(random, 2000)) pattern = random_once_in(random, 2) ? "FLUSHDB" : "SWAPDB d d";
    unsigned count = 0;
    char text[128], *rest = text, *word;
    snprintf(text, sizeof(text), "%s", pattern);
    while ((word = strsep(&rest, " ")) != NULL) {
        size_t length = strlen(word);
        char last = word[length - 1];
        bool bare = length == 1, prefixed = length == 3 && word[1] == ':';
        char *to = words[count++];
        if (count > 1 && last == 'k' && (bare || prefixed))
            snprintf(to, WORD_BYTES, "%.*s%u", (int)(length - 1), word, (unsigned)random_below(random, KEYS));
        else if (count > 1 && bare && last == 'v')
            snprintf(to, WORD_BYTES, "v%u", (unsigned)random_below(random, 1000));
        else if (count > 1 && bare && last == 'n')
            snprintf(to, WORD_BYTES, "%u", (unsigned)random_below(random, 100));
        else if (count > 1 && bare && last == 'd')
            snprintf(to, WORD_BYTES, "%u", (unsigned)random_below(random, DATABASES));
        else
            snprintf(to, WORD_BYTES, "%s", word);
    }
    return count;
}

static void compare_key(struct side *one, struct side *other, const char *prefix, unsigned key) {
    static const char *const looks[] = {"DUMP", "PEXPIRETIME"};
    for (unsigned i = 0; i < 2; i++) {
        char line[WORD_BYTES];
        snprintf(line, sizeof(line), "%s %s%u", looks[i], prefix, key);
        (void)in_process_run(one->server, line);
        (void)in_process_run(other->server, line);
        assert_int_equal(one->server->reply_length, other->server->reply_length);
        assert_memory_equal(one->server->reply, other->server->reply, one->server->reply_length);
    }
}

static void compare(struct side *one, struct side *other) {
    static const char *const prefixes[] = {"", "s:", "n:", "l:", "h:", "t:", "z:", "x:"};
    for (unsigned database = 0; database < DATABASES; database++) {
        char line[WORD_BYTES];
        snprintf(line, sizeof(line), "SELECT %u", database);
        in_process_expect(one->server, line, "+OK\r\n");
        in_process_expect(other->server, line, "+OK\r\n");
        assert_int_equal(in_process_integer(one->server, "DBSIZE"), in_process_integer(other->server, "DBSIZE"));
        for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
            for (unsigned key = 0; key < KEYS; key++) compare_key(one, other, prefixes[i], key);
    }
}

static void run_round(uint64_t seed, bool words_stay) {
    struct side serial, parallel;
    static char words[COMMANDS][WORDS][WORD_BYTES];
    const char *code;
    struct random random;
    random_seed(&random, seed);
    begin(&serial, 0, words_stay);
    begin(&parallel, LANES, words_stay);
    for (unsigned i = 0, database = 0; i < COMMANDS; i++) {
        char(*at)[WORD_BYTES] = words[words_stay ? i : 0];
        if (random_once_in(&random, 50)) database = (unsigned)random_below(&random, DATABASES);
        unsigned count = draw(&random, at);
        give(&serial, database, at, count);
        give(&parallel, database, at, count);
    }
    assert_true(replay_lanes_settle(serial.lanes));
    assert_true(replay_lanes_settle(parallel.lanes));
    assert_int_equal(replay_lanes_failures(serial.lanes, &code), replay_lanes_failures(parallel.lanes, &code));
    assert_true(replay_lanes_barriers(parallel.lanes) > 100);
    compare(&serial, &parallel);
    end(&parallel);
    end(&serial);
}

static void test_lanes_do_what_one_thread_does(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 1;
    print_message("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    for (uint64_t round = 0; round < ROUNDS; round++) run_round(seed + round, round % 2);
}

/* What is too large for a block, or has too many words, is a barrier. */
static void test_a_command_that_fits_no_block_is_run(void **state) {
    (void)state;
    struct side side;
    begin(&side, LANES, false);
    size_t length = 3 << 20;
    char *value = malloc(length);
    memset(value, 'x', length);
    struct span argv[3] = {SPAN_LITERAL("set"), SPAN_LITERAL("large"), span_of(value, length)}, *many;
    struct aof_command given = {.argv = argv, .argc = 3};
    const struct command *set = command_table_find(side.server->table, argv[0]);
    assert_true(replay_lanes_give(side.lanes, 0, set, &given));
    enum { MEMBERS = 5000 };
    many = malloc((MEMBERS + 2) * sizeof(*many));
    many[0] = SPAN_LITERAL("rpush");
    many[1] = SPAN_LITERAL("long");
    for (unsigned i = 0; i < MEMBERS; i++) many[i + 2] = span_of(value, i % 10);
    given = (struct aof_command){.argv = many, .argc = MEMBERS + 2};
    assert_true(replay_lanes_give(side.lanes, 0, command_table_find(side.server->table, many[0]), &given));
    assert_true(replay_lanes_settle(side.lanes));
    assert_int_equal(in_process_integer(side.server, "STRLEN large"), length);
    assert_int_equal(in_process_integer(side.server, "LLEN long"), MEMBERS);
    end(&side);
    free(many);
    free(value);
}

/* More than all lanes may have at once, by commands and by bytes: the giver waits, and goes on. */
static void fill(bool words_stay) {
    enum { SMALL = 100000, LARGE = 300, LARGE_BYTES = 60000 };
    struct side side;
    begin(&side, LANES, words_stay);
    static char keys[KEYS][8], value[LARGE_BYTES];
    const struct command *incr = command_table_find(side.server->table, SPAN_LITERAL("incr"));
    const struct command *append = command_table_find(side.server->table, SPAN_LITERAL("append"));
    for (unsigned i = 0; i < KEYS; i++) snprintf(keys[i], sizeof(keys[i]), "k%u", i);
    for (unsigned i = 0; i < SMALL; i++) {
        struct span argv[] = {SPAN_LITERAL("incr"), span_of_text(keys[i % KEYS])};
        assert_true(replay_lanes_give(side.lanes, 0, incr, &(struct aof_command){.argv = argv, .argc = 2}));
    }
    for (unsigned i = 0; i < LARGE; i++) {
        struct span argv[] = {SPAN_LITERAL("append"), span_of_text(i % 2 ? "one" : "two"), span_of(value, LARGE_BYTES)};
        assert_true(replay_lanes_give(side.lanes, 0, append, &(struct aof_command){.argv = argv, .argc = 3}));
    }
    assert_true(replay_lanes_settle(side.lanes));
    assert_int_equal(replay_lanes_barriers(side.lanes), 0);
    char line[WORD_BYTES];
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(line, sizeof(line), "INCRBY k%u 0", i);
        assert_int_equal(in_process_integer(side.server, line), SMALL / KEYS);
    }
    assert_int_equal(in_process_integer(side.server, "STRLEN one"), LARGE / 2 * LARGE_BYTES);
    assert_int_equal(in_process_integer(side.server, "STRLEN two"), LARGE / 2 * LARGE_BYTES);
    end(&side);
}

static void test_the_giver_waits_while_lanes_have_enough(void **state) {
    (void)state;
    fill(false);
    fill(true);
}

/* Whoever gives up in the middle leaves lanes that have something to do. */
static void test_lanes_can_be_left_in_the_middle(void **state) {
    (void)state;
    struct side side;
    struct random random;
    char words[WORDS][WORD_BYTES];
    random_seed(&random, 5);
    begin(&side, LANES, false);
    for (unsigned i = 0; i < 2000; i++) give(&side, 0, words, draw(&random, words));
    end(&side);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_do_what_one_thread_does),
        cmocka_unit_test(test_a_command_that_fits_no_block_is_run),
        cmocka_unit_test(test_the_giver_waits_while_lanes_have_enough),
        cmocka_unit_test(test_lanes_can_be_left_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
