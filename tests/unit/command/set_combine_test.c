/* SINTER, SUNION, SDIFF and their STORE forms against a table of bits, on sets of every encoding, with and without a
 * tier. */

#include "base/random.h"
#include "command/families.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SETS = 12, NUMBERS = 400, ROUNDS = 1500 };

struct model {
    struct in_process *server;
    struct random random;
    bool has[SETS][NUMBERS];
};

static uint64_t seed_of_test(void) {
    struct random random;
    const char *given = getenv("TERRACE_TEST_SEED");
    random_seed_from_kernel(&random);
    uint64_t seed = given ? strtoull(given, NULL, 10) : random_next(&random);
    printf("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

/* Some members are integers, some are not. */
static int spell(char *text, size_t size, unsigned number) {
    return snprintf(text, size, number % 3 ? "%u" : "member:%u", number);
}

static unsigned below(struct model *model, unsigned bound) {
    return (unsigned)random_below(&model->random, bound);
}

static void change(struct model *model) {
    unsigned set = below(model, SETS), count = 1 + below(model, below(model, 10) ? 5 : 200);
    bool adds = below(model, 5) > 0, integers = set % 3 == 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned number = below(model, NUMBERS);
        char line[64];
        if (integers && number % 3 == 0) continue;
        int length = snprintf(line, sizeof(line), "%s s%u ", adds ? "SADD" : "SREM", set);
        spell(line + length, sizeof(line) - (size_t)length, number);
        assert_int_equal(in_process_integer(model->server, line), model->has[set][number] != adds);
        model->has[set][number] = adds;
    }
}

static bool expected(const struct model *model, char operation, const unsigned *sets, unsigned count, unsigned number) {
    bool result = model->has[sets[0]][number];
    for (unsigned i = 1; i < count; i++) {
        bool other = model->has[sets[i]][number];
        result = operation == 'I' ? result && other : operation == 'U' ? result || other : result && !other;
    }
    return result;
}

/* Each bulk of an array once, and exactly those. */
static void expect_members(const char *reply, const bool *members) {
    bool seen[NUMBERS] = {0};
    char *at;
    unsigned long count = strtoul(reply + 1, &at, 10);
    at += 2;
    for (unsigned long i = 0; i < count; i++) {
        size_t length = strtoul(at + 1, &at, 10);
        at += 2;
        unsigned number = (unsigned)strtoul(*at == 'm' ? at + 7 : at, NULL, 10);
        assert_true(number < NUMBERS && members[number] && !seen[number]);
        seen[number] = true;
        at += length + 2;
    }
    for (unsigned i = 0; i < NUMBERS; i++) assert_int_equal(seen[i], members[i]);
}

static void combine(struct model *model) {
    static const char *const names[] = {"SINTER", "SUNION", "SDIFF"};
    static const char letters[] = "IUD";
    unsigned operation = below(model, 3), count = 1 + below(model, below(model, 4) ? 3 : SETS), sets[SETS];
    bool stores = below(model, 3) == 0, members[NUMBERS];
    unsigned target = below(model, SETS), total = 0;
    char line[256];
    int length = snprintf(line, sizeof(line), stores ? "%sSTORE s%u" : "%s", names[operation], target);
    for (unsigned i = 0; i < count; i++) {
        sets[i] = below(model, SETS);
        length += snprintf(line + length, sizeof(line) - (size_t)length, " s%u", sets[i]);
    }
    for (unsigned i = 0; i < NUMBERS; i++) total += members[i] = expected(model, letters[operation], sets, count, i);
    if (!stores) {
        expect_members(in_process_run(model->server, line), members);
        return;
    }
    assert_int_equal(in_process_integer(model->server, line), total);
    memcpy(model->has[target], members, sizeof(members));
    snprintf(line, sizeof(line), "SMEMBERS s%u", target);
    expect_members(in_process_run(model->server, line), members);
    snprintf(line, sizeof(line), "EXISTS s%u", target);
    assert_int_equal(in_process_integer(model->server, line), total > 0);
}

static void run_model(const struct tier_options *tier) {
    static struct model model;
    const struct command_family families[] = {{set_commands, set_command_count}, {key_commands, key_command_count}};
    const struct in_process_options options = {.families = families, .family_count = 2, .tier = tier};
    memset(model.has, 0, sizeof(model.has));
    model.server = in_process_create_with(&options);
    model.server->keyspace->limits.set_packed_entries = 20;
    model.server->keyspace->limits.set_intset_entries = 60;
    random_seed(&model.random, seed_of_test());
    for (unsigned i = 0; i < ROUNDS; i++) {
        change(&model);
        if (tier && below(&model, 10) == 0) in_process_demote(model.server, "s*");
        combine(&model);
    }
    if (tier) assert_true(model.server->waits > 0);
    in_process_destroy(model.server);
}

static void they_are_those_of_sets_of_bits(void **state) {
    (void)state;
    run_model(NULL);
}

static void cold_sets_are_combined_as_well(void **state) {
    (void)state;
    const struct tier_options tier = {.path = "tier",
                                      .size_bytes = 32 << 20,
                                      .segment_bytes = 1 << 20,
                                      .memory_bytes = 16 << 20,
                                      .direct = TIER_DIRECT_AUTO};
    run_model(&tier);
}

static int start(void **state) {
    const struct command_family families[] = {{set_commands, set_command_count},
                                              {key_commands, key_command_count},
                                              {object_commands, object_command_count},
                                              {string_commands, string_command_count}};
    *state = in_process_create(families, 4);
    return 0;
}

static void sintercard_counts_up_to_its_limit(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SADD a 1 2 3 4 x");
    in_process_run(server, "SADD b 2 3 4 x y");
    in_process_expect(server, "SINTERCARD 2 a b", ":4\r\n");
    in_process_expect(server, "SINTERCARD 2 a b LIMIT 0", ":4\r\n");
    in_process_expect(server, "SINTERCARD 2 a b LIMIT 3", ":3\r\n");
    in_process_expect(server, "SINTERCARD 2 a none", ":0\r\n");
    in_process_expect(server, "SINTERCARD 0 a", "-ERR numkeys should be greater than 0\r\n");
    in_process_expect(server, "SINTERCARD 3 a b", "-ERR Number of keys can't be greater than number of args\r\n");
    in_process_expect(server, "SINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative\r\n");
    in_process_expect(server, "SINTERCARD 2 a b WHAT 1", "-" ERROR_SYNTAX "\r\n");
}

static void a_result_without_members_removes_the_destination(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SADD a 1");
    in_process_run(server, "SADD b 2");
    in_process_run(server, "SET target text");
    in_process_expect(server, "SINTERSTORE target a b", ":0\r\n");
    in_process_expect(server, "EXISTS target", ":0\r\n");
    in_process_run(server, "SET target text");
    in_process_expect(server, "SUNIONSTORE target a b", ":2\r\n");
    in_process_expect(server, "OBJECT ENCODING target", "$6\r\nintset\r\n");
    in_process_expect(server, "SDIFFSTORE a a a", ":0\r\n");
    in_process_expect(server, "EXISTS a", ":0\r\n");
}

static void other_types_are_refused_wherever_they_stand(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "SADD a 1");
    in_process_run(server, "SET t text");
    in_process_expect(server, "SINTER none t", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "SUNION a t", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "SDIFFSTORE x a t", "-" ERROR_WRONG_TYPE "\r\n");
    in_process_expect(server, "SINTERCARD 2 a t", "-" ERROR_WRONG_TYPE "\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_those_of_sets_of_bits),
        cmocka_unit_test(cold_sets_are_combined_as_well),
        cmocka_unit_test_setup_teardown(sintercard_counts_up_to_its_limit, start, in_process_stop),
        cmocka_unit_test_setup_teardown(a_result_without_members_removes_the_destination, start, in_process_stop),
        cmocka_unit_test_setup_teardown(other_types_are_refused_wherever_they_stand, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
