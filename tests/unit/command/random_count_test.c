/* HRANDFIELD and ZRANDMEMBER are fair: each member as often as any other, by ones, by several that differ and by
 * several that may not; on packed collections, on big ones, and on big ones of which some pages are on a tier at any
 * moment. set_random_test.c has the same of sets. */

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

enum { MEMBERS_MAX = 2000, AT_ONCE = 3, DEMOTIONS = 20 };

struct kind {
    const char *add; /* member:N, for a number N, which is its value or score as well */
    const char *draw;
};
static const struct kind hash = {"HSET k member:%1$u %1$u", "HRANDFIELD k"};
static const struct kind sorted_set = {"ZADD k %1$u member:%1$u", "ZRANDMEMBER k"};

struct situation {
    unsigned members, draws, packed_entries;
    bool tier;
};
static const struct situation packed = {100, 20000, 512, false};
static const struct situation big = {MEMBERS_MAX, 60000, 16, false};
static const struct situation partly_cold = {MEMBERS_MAX, 40000, 16, true};

static const struct tier_options tier = {.path = "tier",
                                         .size_bytes = 16 << 20,
                                         .segment_bytes = 1 << 20,
                                         .memory_bytes = 16 << 20,
                                         .direct = TIER_DIRECT_AUTO};

static struct in_process *begin(const struct kind *kind, const struct situation *situation) {
    const struct command_family families[] = {{hash_commands, hash_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {key_commands, key_command_count}};
    const struct in_process_options options = {
        .families = families, .family_count = 3, .tier = situation->tier ? &tier : NULL};
    struct in_process *server = in_process_create_with(&options);
    server->keyspace->limits.hash_packed_entries = server->keyspace->limits.sorted_set_packed_entries =
        situation->packed_entries;
    char line[64];
    for (unsigned i = 0; i < situation->members; i++) {
        snprintf(line, sizeof(line), kind->add, i);
        assert_int_equal(in_process_integer(server, line), 1);
    }
    return server;
}

/* From time to time what has come back into memory leaves it again, so that the next draws meet pages of both kinds. */
static void chill(struct in_process *server, const struct situation *situation, unsigned draw) {
    if (!situation->tier || draw % (situation->draws / DEMOTIONS) >= AT_ONCE) return;
    in_process_demote(server, "k");
    in_process_settle(server);
}

static unsigned number_of(const struct situation *situation, const char *text, size_t length) {
    const struct span prefix = SPAN_LITERAL("member:");
    assert_true(length > prefix.length && memcmp(text, prefix.data, prefix.length) == 0);
    unsigned number = 0;
    for (size_t i = prefix.length; i < length; i++) number = number * 10 + (unsigned)(text[i] - '0');
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

static void draw_one(const struct kind *kind, const struct situation *situation) {
    static unsigned counts[MEMBERS_MAX];
    struct in_process *server = begin(kind, situation);
    memset(counts, 0, sizeof(counts));
    for (unsigned i = 0; i < situation->draws; i++) {
        chill(server, situation, i);
        struct span member = in_process_bulk(server, kind->draw);
        counts[number_of(situation, member.data, member.length)]++;
    }
    if (situation->tier) assert_true(server->waits > 0);
    expect_fair(counts, situation->members);
    in_process_destroy(server);
}

/* `count`: AT_ONCE of them that differ, or that need not when it is negative. */
static void draw_several(const struct kind *kind, const struct situation *situation, int count) {
    static unsigned counts[MEMBERS_MAX];
    struct in_process *server = begin(kind, situation);
    char line[64];
    snprintf(line, sizeof(line), "%s %d", kind->draw, count);
    memset(counts, 0, sizeof(counts));
    for (unsigned i = 0; i < situation->draws; i += AT_ONCE) {
        chill(server, situation, i);
        const char *at = strstr(in_process_run(server, line), "\r\n") + 2;
        unsigned drawn[AT_ONCE];
        for (unsigned k = 0; k < AT_ONCE; k++) {
            char *text;
            size_t length = strtoul(at + 1, &text, 10);
            drawn[k] = number_of(situation, text + 2, length);
            counts[drawn[k]]++;
            at = text + 2 + length + 2;
        }
        if (count > 0) assert_true(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2]);
    }
    expect_fair(counts, situation->members);
    in_process_destroy(server);
}

static void draw_all(const struct kind *kind) {
    const struct situation *const situations[] = {&packed, &big, &partly_cold};
    for (unsigned i = 0; i < 3; i++) {
        draw_one(kind, situations[i]);
        draw_several(kind, situations[i], AT_ONCE);
        draw_several(kind, situations[i], -AT_ONCE);
    }
}

static void one_field_is_as_likely_as_another(void **state) {
    (void)state;
    draw_all(&hash);
}

static void one_member_of_a_sorted_set_is_as_likely_as_another(void **state) {
    (void)state;
    draw_all(&sorted_set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_field_is_as_likely_as_another),
        cmocka_unit_test(one_member_of_a_sorted_set_is_as_likely_as_another),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
