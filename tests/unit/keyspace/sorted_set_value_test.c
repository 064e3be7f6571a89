/* Sorted sets packed and big against a model: random changes in memory and on a tier, ranges of every kind, results
 * that are stored; the promise of scans; what has the score -0. */

#include "base/random.h"
#include "keyspace/keyspace_tier.h"
#include "keyspace/sorted_set_value.h"
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

enum { SEGMENT = 1 << 20, KEYS = 3, MEMBERS = 1200, TEXT_MAX = 100, SHARDS = 4 };

/* Member i of a key has scores[i], or none: NAN. */
struct model {
    struct in_process *server;
    struct random random;
    struct view view;
    struct key key;
    struct sorted_set set;
    double keys[KEYS][MEMBERS];
    double *scores;
    unsigned spread, wish, score_spread; /* members and scores in use now; percent of changes that add */
    struct scored_member order[MEMBERS]; /* of the key, made by sort() */
    char texts[MEMBERS][TEXT_MAX];
    unsigned count;
};

/* Some are integers, some share long beginnings, some are too long for a packed set. */
static struct span member_text(unsigned number, char *text) {
    const char *form = number % 3 == 0    ? "%u"
                       : number % 50 == 1 ? "a member that is much too long to be packed %u"
                                          : "m:%u";
    return span_of(text, (size_t)snprintf(text, TEXT_MAX, form, number));
}

static unsigned number_of(const struct model *model, struct span text) {
    for (unsigned i = 0; i < MEMBERS; i++)
        if (span_equal(text, span_of_text(model->texts[i]))) return i;
    fail_msg("no such member");
    return 0;
}

static void open_key(struct model *model, unsigned number) {
    static const char *const names[KEYS] = {"one", "two", "three"};
    model->view = (struct view){
        .keyspace = model->server->keyspace, .port = model->server->port, .now_ms = model->server->dispatcher->now_ms};
    model->key = keyspace_key(model->server->keyspace, span_of_text(names[number]));
    model->scores = model->keys[number];
    assert_true(sorted_set_open(&model->set, &model->view, &model->key, SORTED_SET_FOR_WRITE));
}

static void sort(struct model *model) {
    model->count = 0;
    for (unsigned i = 0; i < MEMBERS; i++)
        if (!isnan(model->scores[i]))
            model->order[model->count++] = (struct scored_member){model->scores[i], span_of_text(model->texts[i])};
    qsort(model->order, model->count, sizeof(model->order[0]), scored_member_compare);
}

static double draw_score(struct model *model) {
    double score = (double)random_below(&model->random, model->score_spread) - 3;
    if (random_once_in(&model->random, 5)) score /= 7;
    if (random_once_in(&model->random, 50)) score = random_once_in(&model->random, 2) ? INFINITY : -INFINITY;
    return score;
}

static unsigned draw_member(struct model *model) {
    return (unsigned)random_below(&model->random, model->spread);
}

static void step_change(struct model *model) {
    unsigned number = draw_member(model);
    struct span member = span_of_text(model->texts[number]);
    double *score = &model->scores[number], old = 0, new = draw_score(model);
    if (random_below(&model->random, 100) >= model->wish) {
        assert_int_equal(sorted_set_remove(&model->set, member), isnan(*score) ? PAGE_ABSENT : PAGE_DONE);
        *score = NAN;
        return;
    }
    enum page_status found = sorted_set_score(&model->set, member, &old);
    assert_int_equal(found, isnan(*score) ? PAGE_ABSENT : PAGE_DONE);
    if (found == PAGE_DONE) assert_true(old == *score);
    if (found == PAGE_DONE && old == new) return;
    assert_int_equal(sorted_set_put(&model->set, member, new, found, old), PAGE_DONE);
    *score = new;
}

static void step_look(struct model *model) {
    sort(model);
    for (unsigned i = 0; i < 10; i++) {
        unsigned number = draw_member(model);
        struct span member = span_of_text(model->texts[number]);
        uint64_t position;
        double score;
        enum page_status status = sorted_set_position(&model->set, member, &position, &score);
        assert_int_equal(status, isnan(model->scores[number]) ? PAGE_ABSENT : PAGE_DONE);
        if (status != PAGE_DONE) continue;
        assert_true(score == model->scores[number]);
        assert_true(span_equal(model->order[position].member, member));
    }
}

static void expect_part(struct sorted_set_part part, uint64_t first, uint64_t count) {
    assert_int_equal(part.count, count);
    if (count) assert_int_equal(part.first, first);
}

static void step_by_score(struct model *model) {
    struct score_range range = {.min = draw_score(model), .max = draw_score(model)};
    range.min_open = random_once_in(&model->random, 3);
    range.max_open = random_once_in(&model->random, 3);
    uint64_t first = 0, count = 0;
    sort(model);
    for (unsigned i = 0; i < model->count; i++) {
        double score = model->order[i].score;
        bool below = range.min_open ? score <= range.min : score < range.min;
        bool above = range.max_open ? score >= range.max : score > range.max;
        if (below) first++;
        count += !below && !above;
    }
    expect_part(sorted_set_by_score(&model->set, &range), first, count);
}

/* Only where all scores are the same it means something. */
static void step_by_member(struct model *model) {
    sort(model);
    if (model->count && model->order[0].score != model->order[model->count - 1].score) return;
    char texts[2][TEXT_MAX];
    struct member_range range = {.min = {random_below(&model->random, 4), member_text(draw_member(model), texts[0])},
                                 .max = {random_below(&model->random, 4), member_text(draw_member(model), texts[1])}};
    uint64_t first = 0, count = 0;
    for (unsigned i = 0; i < model->count; i++) {
        int low = paged_tail_compare(model->order[i].member, range.min.member);
        int high = paged_tail_compare(model->order[i].member, range.max.member);
        static const bool at_least[4][3] = {{1, 1, 1}, {0, 1, 1}, {0, 0, 1}, {0, 0, 0}};
        static const bool at_most[4][3] = {{0, 0, 0}, {1, 1, 0}, {1, 0, 0}, {1, 1, 1}};
        bool reaches = at_least[range.min.kind][(low > 0) - (low < 0) + 1];
        first += !reaches;
        count += reaches && at_most[range.max.kind][(high > 0) - (high < 0) + 1];
    }
    expect_part(sorted_set_by_member(&model->set, &range), first, count);
}

static void step_remove_part(struct model *model) {
    sort(model);
    struct sorted_set_part part = {random_below(&model->random, model->count + 1), random_below(&model->random, 20)};
    if (random_once_in(&model->random, 10)) part.count = random_below(&model->random, model->count + 1);
    uint64_t end = part.first + part.count < model->count ? part.first + part.count : model->count;
    for (uint64_t i = part.first; i < end; i++) model->scores[number_of(model, model->order[i].member)] = NAN;
    assert_int_equal(sorted_set_remove_part(&model->set, part), part.first < end ? PAGE_DONE : PAGE_ABSENT);
}

/* The key's value is replaced. */
static void step_store(struct model *model, unsigned key) {
    unsigned size = (unsigned)random_below(&model->random, random_once_in(&model->random, 2) ? 200 : 10);
    bool existed = sorted_set_exists(&model->set);
    for (unsigned i = 0; i < MEMBERS; i++) model->scores[i] = NAN;
    for (unsigned i = 0; i < size; i++) model->scores[draw_member(model)] = draw_score(model);
    sort(model);
    assert_int_equal(sorted_set_store(&model->view, &model->key, model->order, model->count),
                     model->count || existed ? PAGE_DONE : PAGE_ABSENT);
    open_key(model, key);
}

static void visit_member(void *ctx, struct span member, double score) {
    struct model *model = ctx;
    for (unsigned i = 0; i < model->count; i++)
        if (model->order[i].member.data && span_equal(model->order[i].member, member)) {
            assert_true(model->order[i].score == score);
            model->order[i].member.data = NULL; /* seen */
            return;
        }
}

static void check_scan(struct model *model) {
    uint64_t cursor = 0;
    sort(model);
    do cursor = sorted_set_scan(&model->set, cursor, 10, visit_member, model);
    while (cursor);
    for (unsigned i = 0; i < model->count; i++) assert_null(model->order[i].member.data);
}

static void check(struct model *model) {
    struct sorted_set_cursor at;
    uint64_t met = 0;
    sort(model);
    assert_int_equal(sorted_set_count(&model->set), model->count);
    assert_int_equal(sorted_set_exists(&model->set), model->count > 0);
    for (sorted_set_at(&at, &model->set, 0); at.valid; sorted_set_next(&at), met++) {
        assert_int_equal(at.position, met);
        assert_true(at.score == model->order[met].score && span_equal(at.member, model->order[met].member));
    }
    assert_int_equal(met, model->count);
    if (met)
        for (sorted_set_at(&at, &model->set, met - 1); at.valid; sorted_set_previous(&at))
            assert_true(span_equal(at.member, model->order[--met].member));
    assert_int_equal(met, 0);
    if (model->set.root) assert_true(sorted_set_kind.validate(&model->set.root->collection, &model->set.access));
    check_scan(model);
}

static void tend(struct model *model) {
    struct in_process *server = model->server;
    switch (random_below(&model->random, 7)) {
    case 6: (void)keyspace_drain(server->keyspace, (uint32_t)random_below(&model->random, SHARDS), 1); break;
    case 0:
        if (server->port) in_process_demote(server, "*");
        break;
    case 1:
        if (server->port) in_process_settle(server);
        break;
    case 2: (void)keyspace_compact(server->keyspace, (uint32_t)random_below(&model->random, SHARDS), 100); break;
    case 3:
        model->spread = 1 + (unsigned)random_below(&model->random, random_once_in(&model->random, 2) ? 40 : MEMBERS);
        break;
    case 4: model->score_spread = random_once_in(&model->random, 3) ? 1 : 1000; break;
    default: model->wish = (unsigned)random_below(&model->random, 100); break;
    }
}

static struct model *create(bool tiered, uint64_t seed) {
    const struct tier_options tier = {
        .path = "tier", .segment_bytes = SEGMENT, .size_bytes = 64 * SEGMENT, .memory_bytes = 64 << 20};
    struct model *model = calloc(1, sizeof(*model));
    assert_non_null(model);
    model->server =
        in_process_create_with(&(struct in_process_options){.tier = tiered ? &tier : NULL, .shards = SHARDS});
    model->server->keyspace->limits.sorted_set_packed_entries = 20;
    model->server->keyspace->limits.sorted_set_packed_bytes = 30;
    random_seed(&model->random, seed);
    for (unsigned i = 0; i < MEMBERS; i++) member_text(i, model->texts[i]);
    for (unsigned k = 0; k < KEYS; k++)
        for (unsigned i = 0; i < MEMBERS; i++) model->keys[k][i] = NAN;
    model->spread = 30;
    model->wish = 60;
    model->score_spread = 10;
    return model;
}

static void destroy(struct model *model) {
    in_process_destroy(model->server);
    free(model);
}

static void run_model(bool tiered, uint64_t seed, unsigned steps) {
    struct model *model = create(tiered, seed);
    for (unsigned step = 0; step < steps; step++) {
        unsigned key = (unsigned)random_below(&model->random, KEYS), kind;
        open_key(model, key);
        kind = (unsigned)random_below(&model->random, 1000);
        if (kind < 4)
            check(model);
        else if (kind < 14)
            tend(model);
        else if (kind < 20)
            step_remove_part(model);
        else if (kind < 24)
            step_store(model, key);
        else if (kind < 34)
            step_look(model);
        else if (kind < 50)
            step_by_score(model);
        else if (kind < 60)
            step_by_member(model);
        else
            step_change(model);
        if (step % 5000 == 0) assert_true(keyspace_validate(model->server->keyspace));
        if (model->server->port && step % 64 == 0) in_process_turn(model->server);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        open_key(model, i);
        check(model);
    }
    destroy(model);
}

static void in_memory_it_is_what_its_model_is(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run_model(false, seed, 20000);
}

static void on_a_tier_it_is_what_its_model_is(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run_model(true, seed, 10000);
}

/* While a scan goes on, other members come and go, and those that stay change their scores. */
static void a_scan_sees_what_is_there_throughout(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct model *model = create(false, seed);
        uint64_t cursor = 0;
        unsigned steps = 0;
        open_key(model, 0);
        model->score_spread = seed % 2 ? 1 : 1000;
        for (unsigned i = 0; i < MEMBERS; i++) {
            model->scores[i] = draw_score(model);
            assert_int_equal(
                sorted_set_put(&model->set, span_of_text(model->texts[i]), model->scores[i], PAGE_ABSENT, 0),
                PAGE_DONE);
        }
        bool seen[MEMBERS] = {false};
        do {
            sort(model);
            cursor = sorted_set_scan(&model->set, cursor, 20, visit_member, model);
            bool left[MEMBERS] = {false};
            for (unsigned i = 0; i < model->count; i++)
                if (model->order[i].member.data) left[number_of(model, model->order[i].member)] = true;
            for (unsigned i = 0; i < MEMBERS; i++) seen[i] |= !isnan(model->scores[i]) && !left[i];
            /* The upper half goes, and comes back in the other order; the lower stays. */
            for (unsigned i = 0; i < 100; i++) {
                unsigned number = (unsigned)random_below(&model->random, MEMBERS);
                struct span member = span_of_text(model->texts[number]);
                double old = 0, score = draw_score(model);
                enum page_status found = sorted_set_score(&model->set, member, &old);
                if (number >= MEMBERS / 2 && found == PAGE_DONE && sorted_set_count(&model->set) > 100) {
                    assert_int_equal(sorted_set_remove(&model->set, member), PAGE_DONE);
                    model->scores[number] = NAN;
                } else if (found == PAGE_ABSENT || old != score) {
                    assert_int_equal(sorted_set_put(&model->set, member, score, found, old), PAGE_DONE);
                    model->scores[number] = score;
                }
            }
            steps++;
        } while (cursor);
        assert_true(steps > 3);
        for (unsigned i = 0; i < MEMBERS / 2; i++) assert_true(seen[i]);
        destroy(model);
    }
}

static void a_big_set_keeps_the_sign_of_zero(void **state) {
    (void)state;
    struct model *model = create(false, 1);
    struct sorted_set_cursor at;
    double score;
    model->server->keyspace->limits.sorted_set_packed_entries = 0;
    open_key(model, 0);
    assert_int_equal(sorted_set_put(&model->set, SPAN_LITERAL("b"), -0.0, PAGE_ABSENT, 0), PAGE_DONE);
    assert_int_equal(sorted_set_put(&model->set, SPAN_LITERAL("a"), 0.0, PAGE_ABSENT, 0), PAGE_DONE);
    assert_int_equal(sorted_set_score(&model->set, SPAN_LITERAL("b"), &score), PAGE_DONE);
    assert_true(score == 0 && signbit(score));
    sorted_set_at(&at, &model->set, 0);
    assert_true(span_equal(at.member, SPAN_LITERAL("a")) && !signbit(at.score));
    sorted_set_next(&at);
    assert_true(span_equal(at.member, SPAN_LITERAL("b")) && signbit(at.score));
    assert_int_equal(sorted_set_remove(&model->set, SPAN_LITERAL("b")), PAGE_DONE);
    assert_int_equal(paged_hash_count(&model->set.root->scores), 1);
    destroy(model);
}

static void put(struct model *model, unsigned number, double score) {
    char text[32];
    double old = 0;
    struct span member = span_of(text, (size_t)snprintf(text, sizeof(text), "member:%06u", number));
    enum page_status found = sorted_set_score(&model->set, member, &old);
    if (found == PAGE_DONE && old == score) return;
    assert_int_equal(sorted_set_put(&model->set, member, score, found, old), PAGE_DONE);
}

/* The members of a long part leave the hash later, in slices; those that have come again meanwhile stay. */
static void a_long_part_goes_at_once_and_is_forgotten_in_slices(void **state) {
    (void)state;
    enum { COUNT = 50000, LEFT = 100, AGAIN = 5000 };
    struct model *model = create(false, 1);
    open_key(model, 0);
    for (unsigned i = 0; i < COUNT; i++) put(model, i, i % 1000);
    uint32_t pages = page_table_live(&model->set.root->collection.parts[COLLECTION_TREES]);
    struct sorted_set_part part = {LEFT / 2, COUNT - LEFT};
    assert_int_equal(sorted_set_remove_part(&model->set, part), PAGE_DONE);
    assert_int_equal(sorted_set_count(&model->set), LEFT);
    assert_true(page_table_live(&model->set.root->collection.parts[COLLECTION_TREES]) + 4 >= pages);
    assert_true(paged_hash_count(&model->set.root->scores) > COUNT - 1000);

    for (unsigned i = 0; i < AGAIN; i++) put(model, i, i % 2 ? i % 1000 : 2000);
    uint64_t count = sorted_set_count(&model->set);
    unsigned slices = 0;
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(model->server->keyspace, shard, 1)) slices++;
    assert_true(slices > 10);
    assert_int_equal(sorted_set_count(&model->set), count);
    assert_int_equal(paged_hash_count(&model->set.root->scores), count);
    assert_true(sorted_set_kind.validate(&model->set.root->collection, &model->set.access));
    assert_true(keyspace_validate(model->server->keyspace));
    destroy(model);
}

/* A zero that was cut off must not be taken for the -0 that comes then. */
static void a_minus_zero_after_a_cut_is_kept(void **state) {
    (void)state;
    struct model *model = create(false, 1);
    struct sorted_set_cursor at;
    open_key(model, 0);
    for (unsigned i = 0; i < 2000; i++) put(model, i, 0);
    put(model, 2000, 1);
    assert_int_equal(sorted_set_remove_part(&model->set, (struct sorted_set_part){0, 2000}), PAGE_DONE);
    put(model, 1000, -0.0);
    sorted_set_at(&at, &model->set, 0);
    assert_true(at.score == 0 && signbit(at.score));
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(model->server->keyspace, shard, 1)) continue;
    sorted_set_at(&at, &model->set, 0);
    assert_true(at.score == 0 && signbit(at.score));
    assert_int_equal(paged_hash_count(&model->set.root->scores), 2);
    destroy(model);
}

/* An entry of the hash whose leaf was dropped without being read stays, and is a zero that is no more. */
static void a_zero_that_nobody_has_any_more_is_not_seen(void **state) {
    (void)state;
    struct model *model = create(true, 1);
    double score;
    open_key(model, 0);
    for (unsigned i = 0; i < 2000; i++) put(model, i, 0);
    put(model, 2000, 1);
    assert_int_equal(sorted_set_remove_part(&model->set, (struct sorted_set_part){0, 2000}), PAGE_DONE);
    uint32_t cut = page_table_live(&model->set.root->collection.parts[COLLECTION_TREES]);
    in_process_demote(model->server, "*");
    in_process_settle(model->server);
    open_key(model, 0);
    assert_true(model->set.root->collection.parts[COLLECTION_TREES].cold > cut / 2);
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(model->server->keyspace, shard, 1)) continue;
    assert_true(page_table_live(&model->set.root->collection.parts[COLLECTION_TREES]) < cut / 2);
    assert_true(paged_hash_count(&model->set.root->scores) > 1000);
    const struct span member = SPAN_LITERAL("member:001000");
    for (unsigned i = 0; i < 4; i++) {
        double zero = i % 2 ? 0.0 : -0.0;
        struct sorted_set_cursor at;
        open_key(model, 0);
        put(model, 1000, zero);
        sorted_set_at(&at, &model->set, 0);
        assert_true(span_equal(at.member, member) && at.score == 0 && (signbit(at.score) != 0) == (i % 2 == 0));
        assert_int_equal(sorted_set_score(&model->set, member, &score), PAGE_DONE);
        assert_true((signbit(score) != 0) == (i % 2 == 0));
        assert_int_equal(sorted_set_remove(&model->set, member), PAGE_DONE);
        assert_int_equal(sorted_set_score(&model->set, member, &score), PAGE_ABSENT);
    }
    destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_memory_it_is_what_its_model_is),
        cmocka_unit_test(on_a_tier_it_is_what_its_model_is),
        cmocka_unit_test(a_scan_sees_what_is_there_throughout),
        cmocka_unit_test(a_big_set_keeps_the_sign_of_zero),
        cmocka_unit_test(a_long_part_goes_at_once_and_is_forgotten_in_slices),
        cmocka_unit_test(a_minus_zero_after_a_cut_is_kept),
        cmocka_unit_test(a_zero_that_nobody_has_any_more_is_not_seen),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
