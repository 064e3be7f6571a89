/* Sets of every encoding against a model: random changes in memory and on a tier, sets made apart, thresholds, random
 * members, uniform. */

#include "base/random.h"
#include "keyspace/keyspace_tier.h"
#include "keyspace/set_value.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, KEYS = 3, MEMBERS = 1500, TEXT_MAX = 100, SHARDS = 4 };

struct model {
    struct in_process *server;
    struct random random;
    struct view view;
    struct key key;
    struct set_value set;
    bool keys[KEYS][MEMBERS];
    bool *members;
    unsigned spread, wish, words; /* members in use now; percent of changes that add; of members that are no integers */
};

/* The first are integers of all widths. */
static struct span member_text(unsigned number, char *text) {
    if (number < MEMBERS / 3) {
        int64_t value = (int64_t)number * 7 - 300;
        if (number % 50 == 1) value *= 1000000;
        if (number % 50 == 2) value *= INT64_C(1000000000000);
        return span_of(text, (size_t)snprintf(text, TEXT_MAX, "%lld", (long long)value));
    }
    const char *form = number % 60 == 0 ? "a member that is too long for a set that is packed %u" : "m:%u";
    return span_of(text, (size_t)snprintf(text, TEXT_MAX, form, number));
}

static unsigned number_of(struct span text) {
    char own[TEXT_MAX];
    for (unsigned i = 0; i < MEMBERS; i++)
        if (span_equal(text, member_text(i, own))) return i;
    fail_msg("no such member");
    return 0;
}

static void open_key(struct model *model, unsigned number) {
    static const char *const names[KEYS] = {"one", "two", "three"};
    model->view = (struct view){
        .keyspace = model->server->keyspace, .port = model->server->port, .now_ms = model->server->dispatcher->now_ms};
    model->key = keyspace_key(model->server->keyspace, span_of_text(names[number]));
    model->members = model->keys[number];
    assert_true(set_value_open(&model->set, &model->view, &model->key, SET_FOR_WRITE));
}

static uint64_t count_of(const struct model *model) {
    uint64_t count = 0;
    for (unsigned i = 0; i < MEMBERS; i++) count += model->members[i];
    return count;
}

static unsigned draw_member(struct model *model) {
    if (random_below(&model->random, 100) < model->words)
        return MEMBERS / 3 + (unsigned)random_below(&model->random, model->spread);
    return (unsigned)random_below(&model->random, model->spread / 2 + 1);
}

static void step_change(struct model *model, unsigned number) {
    char text[TEXT_MAX];
    struct span member = member_text(number, text);
    bool *there = &model->members[number];
    if (random_below(&model->random, 100) < model->wish) {
        assert_int_equal(set_value_add(&model->set, member), *there ? PAGE_EXISTS : PAGE_DONE);
        *there = true;
    } else {
        assert_int_equal(set_value_remove(&model->set, member), *there ? PAGE_DONE : PAGE_ABSENT);
        *there = false;
    }
}

static void step_look(struct model *model) {
    char texts[64][TEXT_MAX];
    struct span members[64];
    unsigned numbers[64];
    uint64_t found;
    for (unsigned i = 0; i < 64; i++) {
        numbers[i] = draw_member(model);
        members[i] = member_text(numbers[i], texts[i]);
    }
    assert_int_equal(set_value_contains_many(&model->set, members, 64, &found), PAGE_DONE);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(found >> i & 1, model->members[numbers[i]]);
        if (i < 4)
            assert_int_equal(set_value_contains(&model->set, members[i]),
                             model->members[numbers[i]] ? PAGE_DONE : PAGE_ABSENT);
    }
}

static void visit_popped(void *ctx, struct span member) {
    struct model *model = ctx;
    unsigned number = number_of(member);
    assert_true(model->members[number]);
    model->members[number] = false;
}

static void step_pop(struct model *model) {
    uint64_t before = count_of(model), want = random_below(&model->random, 6);
    if (random_once_in(&model->random, 20)) want = random_below(&model->random, before + 2);
    enum page_status status = set_value_pop(&model->set, &model->random, want, visit_popped, model);
    assert_int_equal(status, before ? PAGE_DONE : PAGE_ABSENT);
    assert_int_equal(count_of(model), want < before ? before - want : 0);
}

static void step_sample_visit(void *ctx, struct span member) {
    bool *seen = ctx;
    unsigned number = number_of(member);
    assert_false(seen[number]);
    seen[number] = true;
}

static void step_sample(struct model *model) {
    bool seen[MEMBERS] = {false};
    uint64_t count = count_of(model), want = random_below(&model->random, count + 2), met = 0;
    assert_int_equal(set_value_sample(&model->set, &model->random, want, step_sample_visit, seen), PAGE_DONE);
    for (unsigned i = 0; i < MEMBERS; i++) {
        met += seen[i];
        assert_true(!seen[i] || model->members[i]);
    }
    assert_int_equal(met, want < count ? want : count);
}

/* The key's set is replaced by one that was made apart. */
static void step_store(struct model *model) {
    struct set_value made;
    bool expected[MEMBERS] = {false};
    set_value_begin(&made, &model->view, &model->key);
    unsigned size = (unsigned)random_below(&model->random, random_once_in(&model->random, 2) ? 100 : 10);
    for (unsigned i = 0; i < size; i++) {
        char text[TEXT_MAX];
        unsigned number = draw_member(model);
        assert_int_equal(set_value_add(&made, member_text(number, text)), expected[number] ? PAGE_EXISTS : PAGE_DONE);
        expected[number] = true;
        if (i % 7 == 6) assert_int_equal(set_value_remove(&made, member_text(number, text)), PAGE_DONE);
        if (i % 7 == 6) expected[number] = false;
    }
    if (random_once_in(&model->random, 4)) {
        set_value_discard(&made);
        return;
    }
    assert_int_equal(set_value_store(&made), PAGE_DONE);
    model->set = made;
    memcpy(model->members, expected, sizeof(expected));
}

static void check(struct model *model) {
    bool seen[MEMBERS] = {false};
    struct set_walk walk;
    struct set_member member;
    uint64_t count = count_of(model), met = 0, cursor = 0;
    assert_int_equal(set_value_count(&model->set), count);
    assert_int_equal(set_value_exists(&model->set), count > 0);
    set_value_walk(&walk, &model->set);
    for (; set_value_walk_next(&walk, &member); met++) {
        unsigned number = number_of(member.text);
        assert_true(model->members[number] && !seen[number]);
        seen[number] = true;
    }
    assert_int_equal(met, count);
    memset(seen, 0, sizeof(seen));
    met = 0;
    do {
        cursor = set_value_scan(&walk, &model->set, cursor);
        for (; set_value_walk_next(&walk, &member); seen[number_of(member.text)] = true)
            met += !seen[number_of(member.text)];
    } while (cursor);
    assert_int_equal(met, count);
    if (model->set.root) assert_true(set_kind.validate(&model->set.root->collection, &model->set.access));
}

static void tend(struct model *model) {
    struct in_process *server = model->server;
    switch (random_below(&model->random, 6)) {
    case 0:
        if (server->port) in_process_demote(server, "*");
        break;
    case 1:
        if (server->port) in_process_settle(server);
        break;
    case 2: (void)keyspace_compact(server->keyspace, (uint32_t)random_below(&model->random, SHARDS), 100); break;
    case 3:
        model->spread =
            1 + (unsigned)random_below(&model->random, random_once_in(&model->random, 2) ? 40 : 2 * MEMBERS / 3);
        break;
    case 4: model->words = random_once_in(&model->random, 3) ? 0 : 50; break;
    default: model->wish = (unsigned)random_below(&model->random, 100); break;
    }
}

static void run_model(bool tiered, uint64_t seed, unsigned steps) {
    const struct tier_options tier = {
        .path = "tier", .segment_bytes = SEGMENT, .size_bytes = 64 * SEGMENT, .memory_bytes = 64 << 20};
    struct model *model = calloc(1, sizeof(*model));
    model->server =
        in_process_create_with(&(struct in_process_options){.tier = tiered ? &tier : NULL, .shards = SHARDS});
    model->server->keyspace->limits.set_intset_entries = 30;
    model->server->keyspace->limits.set_packed_entries = 20;
    model->server->keyspace->limits.set_packed_bytes = 30;
    random_seed(&model->random, seed);
    model->spread = 30;
    model->wish = 60;
    for (unsigned step = 0; step < steps; step++) {
        open_key(model, (unsigned)random_below(&model->random, KEYS));
        unsigned kind = (unsigned)random_below(&model->random, 1000);
        if (kind < 5)
            check(model);
        else if (kind < 15)
            tend(model);
        else if (kind < 30)
            step_pop(model);
        else if (kind < 35)
            step_sample(model);
        else if (kind < 40)
            step_store(model);
        else if (kind < 200)
            step_look(model);
        else
            step_change(model, draw_member(model));
        if (step % 5000 == 0) assert_true(keyspace_validate(model->server->keyspace));
        if (model->server->port && step % 64 == 0) in_process_turn(model->server);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        open_key(model, i);
        check(model);
    }
    in_process_destroy(model->server);
    free(model);
}

static void in_memory_it_is_what_its_model_is(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run_model(false, seed, 20000);
}

static void on_a_tier_it_is_what_its_model_is(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run_model(true, seed, 10000);
}

/* ---- encodings, as Redis 7.2 chooses them ---- */

static void add_numbers(struct model *model, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) {
        char text[TEXT_MAX];
        assert_int_equal(set_value_add(&model->set, span_of(text, (size_t)snprintf(text, TEXT_MAX, "%u", i))),
                         PAGE_DONE);
    }
}

static void expect_encoding(struct model *model, const char *encoding) {
    assert_string_equal(set_value_encoding(model->set.lookup.record), encoding);
}

static void encodings_change_at_the_thresholds(void **state) {
    (void)state;
    struct model *model = calloc(1, sizeof(*model));
    char longer[65];
    memset(longer, 'x', sizeof(longer));
    model->server = in_process_create_with(&(struct in_process_options){.shards = SHARDS});
    open_key(model, 0);
    add_numbers(model, 0, 512);
    expect_encoding(model, "intset");
    add_numbers(model, 512, 513);
    expect_encoding(model, "hashtable");
    open_key(model, 1);
    add_numbers(model, 0, 127);
    assert_int_equal(set_value_add(&model->set, SPAN_LITERAL("word")), PAGE_DONE);
    expect_encoding(model, "listpack");
    assert_int_equal(set_value_add(&model->set, SPAN_LITERAL("one too many")), PAGE_DONE);
    expect_encoding(model, "hashtable");
    open_key(model, 2);
    add_numbers(model, 0, 200);
    assert_int_equal(set_value_add(&model->set, SPAN_LITERAL("word")), PAGE_DONE);
    expect_encoding(model, "hashtable");
    model->key = keyspace_key(model->server->keyspace, SPAN_LITERAL("four"));
    assert_true(set_value_open(&model->set, &model->view, &model->key, SET_FOR_WRITE));
    assert_int_equal(set_value_add(&model->set, span_of(longer, 64)), PAGE_DONE);
    expect_encoding(model, "listpack");
    assert_int_equal(set_value_add(&model->set, span_of(longer, 65)), PAGE_DONE);
    expect_encoding(model, "hashtable");
    in_process_destroy(model->server);
    free(model);
}

/* ---- random ---- */

struct tally {
    unsigned met[MEMBERS];
};

static void count_visit(void *ctx, struct span member) {
    char text[TEXT_MAX];
    memcpy(text, member.data, member.length);
    text[member.length] = '\0';
    ((struct tally *)ctx)->met[strtoul(text + (text[0] == 'm' ? 2 : 0), NULL, 10)]++;
}

/* Of an intset, a listpack and a big set: draws, samples, and which members are popped first. */
static void random_members_are_uniform_in_every_encoding(void **state) {
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        struct model *model = calloc(1, sizeof(*model));
        unsigned members = round == 2 ? 1000 : 60, draws = members * 60;
        const char *form = round == 0 ? "%u" : "m:%u";
        struct tally drawn = {0}, sampled = {0}, popped = {0};
        model->server = in_process_create_with(&(struct in_process_options){.shards = SHARDS});
        open_key(model, 0);
        random_seed(&model->random, 5 + round);
        char text[TEXT_MAX];
        for (unsigned i = 0; i < members; i++)
            assert_int_equal(set_value_add(&model->set, span_of(text, (size_t)snprintf(text, TEXT_MAX, form, i))),
                             PAGE_DONE);
        expect_encoding(model, round == 0 ? "intset" : round == 1 ? "listpack" : "hashtable");
        for (unsigned i = 0; i < draws / 5; i++) {
            struct set_member member;
            for (unsigned j = 0; j < 5; j++) {
                assert_int_equal(set_value_random(&model->set, &model->random, &member), PAGE_DONE);
                count_visit(&drawn, member.text);
            }
            assert_int_equal(set_value_sample(&model->set, &model->random, 5, count_visit, &sampled), PAGE_DONE);
            struct tally gone = {0};
            assert_int_equal(set_value_pop(&model->set, &model->random, 5, count_visit, &gone), PAGE_DONE);
            for (unsigned j = 0; j < members; j++) {
                popped.met[j] += gone.met[j];
                if (!gone.met[j]) continue;
                assert_int_equal(set_value_add(&model->set, span_of(text, (size_t)snprintf(text, TEXT_MAX, form, j))),
                                 PAGE_DONE);
            }
        }
        double expected = (double)draws / members, limit = members + 6 * 1.4142 * __builtin_sqrt(members);
        const struct tally *tallies[] = {&drawn, &sampled, &popped};
        for (unsigned t = 0; t < 3; t++) {
            double sum = 0;
            for (unsigned i = 0; i < members; i++) {
                double off = tallies[t]->met[i] - expected;
                sum += off * off / expected;
            }
            assert_true(sum < limit);
        }
        in_process_destroy(model->server);
        free(model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_memory_it_is_what_its_model_is),
        cmocka_unit_test(on_a_tier_it_is_what_its_model_is),
        cmocka_unit_test(encodings_change_at_the_thresholds),
        cmocka_unit_test(random_members_are_uniform_in_every_encoding),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
