/* SPOP and SRANDMEMBER are fair: each member as often as any other, on packed sets, on big ones, and on big ones of
 * which some pages are on a tier. */

#include "command/families.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { MEMBERS_MAX = 2000 };

struct situation {
    const char *prefix; /* "" for integers */
    unsigned members, draws;
    unsigned packed_entries;
    bool tier;
};

static const struct tier_options tier = {.path = "tier",
                                         .size_bytes = 16 << 20,
                                         .segment_bytes = 1 << 20,
                                         .memory_bytes = 16 << 20,
                                         .direct = TIER_DIRECT_AUTO};

static struct in_process *begin(const struct situation *situation) {
    const struct command_family families[] = {{set_commands, set_command_count}, {key_commands, key_command_count}};
    const struct in_process_options options = {
        .families = families, .family_count = 2, .tier = situation->tier ? &tier : NULL};
    struct in_process *server = in_process_create_with(&options);
    server->keyspace->limits.set_packed_entries = server->keyspace->limits.set_intset_entries =
        situation->packed_entries;
    char line[64];
    for (unsigned i = 0; i < situation->members; i++) {
        snprintf(line, sizeof(line), "SADD k %s%u", situation->prefix, i);
        assert_int_equal(in_process_integer(server, line), 1);
    }
    if (situation->tier) {
        in_process_demote(server, "k");
        in_process_settle(server);
    }
    return server;
}

static unsigned number_of(const struct situation *situation, struct span member) {
    size_t prefix = strlen(situation->prefix);
    assert_true(member.length > prefix);
    unsigned number = 0;
    for (size_t i = prefix; i < member.length; i++) number = number * 10 + (unsigned)(member.data[i] - '0');
    assert_true(number < situation->members);
    return number;
}

/* Pearson's statistic is about as large as there are members, with a deviation of the root of twice that; six of those
 * are passed once in hundreds of millions. */
static void expect_fair(const unsigned *counts, unsigned members) {
    double total = 0, statistic = 0;
    for (unsigned i = 0; i < members; i++) total += counts[i];
    double expected = total / members;
    for (unsigned i = 0; i < members; i++) statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    double freedom = members - 1;
    if (statistic > freedom + 6 * sqrt(2 * freedom) + 10) fail_msg("%f with %f degrees of freedom", statistic, freedom);
}

static void draw(const struct situation *situation, bool pop) {
    static unsigned counts[MEMBERS_MAX];
    struct in_process *server = begin(situation);
    char line[64];
    memset(counts, 0, sizeof(counts));
    for (unsigned i = 0; i < situation->draws; i++) {
        unsigned number = number_of(situation, in_process_bulk(server, pop ? "SPOP k" : "SRANDMEMBER k"));
        counts[number]++;
        if (!pop) continue;
        snprintf(line, sizeof(line), "SADD k %s%u", situation->prefix, number);
        assert_int_equal(in_process_integer(server, line), 1);
    }
    if (situation->tier) assert_true(server->waits > 0);
    expect_fair(counts, situation->members);
    in_process_destroy(server);
}

/* By three at once: `step` over the bulks of the reply. */
static void draw_several(const struct situation *situation, const char *command) {
    static unsigned counts[MEMBERS_MAX];
    struct in_process *server = begin(situation);
    memset(counts, 0, sizeof(counts));
    for (unsigned i = 0; i < situation->draws / 3; i++) {
        const char *at = strstr(in_process_run(server, command), "\r\n") + 2;
        unsigned drawn[3];
        for (unsigned k = 0; k < 3; k++) {
            char *end;
            size_t length = strtoul(at + 1, &end, 10);
            drawn[k] = number_of(situation, span_of(end + 2, length));
            counts[drawn[k]]++;
            at = end + 2 + length + 2;
        }
        assert_true(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2]);
    }
    expect_fair(counts, situation->members);
    in_process_destroy(server);
}

static const struct situation intset = {"", 100, 20000, 512, false};
static const struct situation packed = {"member:", 100, 20000, 512, false};
static const struct situation big = {"member:", MEMBERS_MAX, 60000, 16, false};
static const struct situation cold = {"member:", MEMBERS_MAX, 40000, 16, true};

static void one_member_is_as_likely_as_another(void **state) {
    (void)state;
    draw(&intset, false);
    draw(&packed, false);
    draw(&big, false);
    draw(&cold, false);
}

static void one_member_is_popped_as_likely_as_another(void **state) {
    (void)state;
    draw(&intset, true);
    draw(&packed, true);
    draw(&big, true);
    draw(&cold, true);
}

static void several_members_differ_and_are_as_likely(void **state) {
    (void)state;
    draw_several(&intset, "SRANDMEMBER k 3");
    draw_several(&packed, "SRANDMEMBER k 3");
    draw_several(&big, "SRANDMEMBER k 3");
    draw_several(&cold, "SRANDMEMBER k 3");
}

static void popping_takes_what_it_replies(void **state) {
    (void)state;
    struct in_process *server = begin(&cold);
    assert_memory_equal(in_process_run(server, "SPOP k 500"), "*500\r\n", 6);
    assert_int_equal(in_process_integer(server, "SCARD k"), MEMBERS_MAX - 500);
    server->session->protocol = 3;
    assert_memory_equal(in_process_run(server, "SPOP k 5000"), "~1500\r\n", 7);
    in_process_expect(server, "EXISTS k", ":0\r\n");
    in_process_expect(server, "SPOP k", "_\r\n");
    in_process_expect(server, "SPOP k 1", "~0\r\n");
    in_process_expect(server, "SPOP k -1", "-ERR value is out of range, must be positive\r\n");
    in_process_expect(server, "SRANDMEMBER k", "_\r\n");
    in_process_expect(server, "SRANDMEMBER k 3", "*0\r\n");
    in_process_run(server, "SADD k a");
    in_process_expect(server, "SRANDMEMBER k -3", "*3\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n");
    in_process_expect(server, "SPOP k", "$1\r\na\r\n");
    in_process_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_member_is_as_likely_as_another),
        cmocka_unit_test(one_member_is_popped_as_likely_as_another),
        cmocka_unit_test(several_members_differ_and_are_as_likely),
        cmocka_unit_test(popping_takes_what_it_replies),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
