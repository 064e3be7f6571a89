/* The paged hash against models that know every item: random changes over pages that are cold, missing or refused
 * memory; scans while the table grows and shrinks; random items, uniform; what an item costs. */

#include "base/random.h"
#include "record/paged_hash.h"
#include "tests/support/page_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { FIELDS = 3000, STEPS = 400000, FIELD_MAX = 80000, SCORE_CODES = 900, SCAN_STAYERS = 700 };

static uint64_t seed_of_run(void) {
    static uint64_t seed;
    if (seed) return seed;
    const char *text = getenv("TERRACE_TEST_SEED");
    struct random random;
    random_seed_from_kernel(&random);
    seed = text ? strtoull(text, NULL, 10) : random_next(&random) >> 32 | 1;
    print_message("TERRACE_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static struct collection_kind kind = {.type = RECORD_HASH, .encoding = "hashtable"};

struct table {
    struct collection collection;
    struct paged_hash hash;
    struct page_fixture fixture;
    struct random random;
};

static void table_open(struct table *table, enum paged_hash_kind hash_kind, struct page_fixture_options options) {
    page_fixture_open(&table->fixture, options);
    random_seed(&table->random, options.seed + 1);
    collection_init(&table->collection, &kind);
    page_fixture_own(&table->fixture, &table->collection);
    paged_hash_init(&table->hash, &table->collection.parts[COLLECTION_HASH], hash_kind, options.seed);
}

static void table_close(struct table *table) {
    struct page_access access = page_fixture_command(&table->fixture);
    while (page_table_release(&access, table->hash.pages, 100)) continue;
    page_fixture_close(&table->fixture);
}

static void check_table(struct table *table) {
    struct page_access access = page_fixture_command(&table->fixture);
    do assert_true(paged_hash_validate(&table->hash, &access));
    while (page_fixture_again(&table->fixture, &access));
}

/* Runs `statement`, which gives `status`, as often as pages are missing. */
#define COMMAND(table, status, expression)                                                                             \
    do {                                                                                                               \
        struct page_access access = page_fixture_command(&(table)->fixture);                                           \
        do (status) = (expression);                                                                                    \
        while (page_fixture_again(&(table)->fixture, &access));                                                        \
        assert_int_not_equal((status), PAGE_MISSING);                                                                  \
    } while (0)

/* ---- fields and values: known from their number ---- */

static char field_bytes[FIELD_MAX], value_bytes[FIELD_MAX];

/* Of all lengths about the places where widths change; most are short. */
static size_t length_of(uint64_t number) {
    struct random random;
    random_seed(&random, number);
    switch (random_below(&random, 40)) {
    case 0: return 100 + random_below(&random, 60);
    case 1: return 230 + random_below(&random, 60);
    case 2: return random_below(&random, 4) ? 600 : 65000 + random_below(&random, 1000);
    case 3: return 0;
    default: return random_below(&random, 24);
    }
}

static struct span make_bytes(char *bytes, uint64_t number, size_t length) {
    for (size_t i = 0; i < length; i++) bytes[i] = (char)(number * 31 + i * 7 + (number >> 8));
    return span_of(bytes, length);
}

static struct span field_of(uint32_t number) {
    size_t length = 4 + length_of(number);
    struct span span = make_bytes(field_bytes, number, length);
    memcpy(field_bytes, &number, 4);
    return span;
}

static struct span value_of(uint32_t version) {
    return version ? make_bytes(value_bytes, version, length_of(version * UINT64_C(77))) : span_of(NULL, 0);
}

/* ---- maps and sets against a model ---- */

struct model_item {
    bool there;
    uint32_t version;
    int64_t expiry_ms;
};

struct model {
    struct table table;
    struct model_item *items;
    uint64_t count, timed;
    uint32_t versions;
    bool starved;
    unsigned wish; /* percent of changes that add */
};

static void expect_item(const struct model *model, uint32_t number, const struct paged_hash_item *item) {
    const struct model_item *own = &model->items[number];
    assert_true(number < FIELDS && own->there);
    assert_true(span_equal(item->field, field_of(number)));
    assert_int_equal(item->expiry_ms, own->expiry_ms);
    assert_true(span_equal(item->value, value_of(own->version)));
}

static uint32_t number_of(const struct paged_hash_item *item) {
    uint32_t number;
    assert_true(item->field.length >= 4);
    memcpy(&number, item->field.data, 4);
    return number;
}

static void step_find(struct model *model, uint32_t number) {
    struct paged_hash_item item;
    enum page_status status;
    COMMAND(&model->table, status, paged_hash_find(&model->table.hash, &access, field_of(number), &item));
    assert_int_equal(status, model->items[number].there ? PAGE_DONE : PAGE_ABSENT);
    if (status == PAGE_DONE) expect_item(model, number, &item);
}

static void step_set(struct model *model, uint32_t number, bool is_map) {
    struct model_item *own = &model->items[number], before = *own;
    uint32_t version = is_map ? ++model->versions : 0;
    int64_t chosen = RECORD_EXPIRY_NONE;
    if (is_map && random_once_in(&model->table.random, 3))
        chosen = random_once_in(&model->table.random, 2) ? PAGED_HASH_EXPIRY_KEEP
                                                         : (int64_t)random_below(&model->table.random, 1000);
    bool is_new = false;
    enum page_status status;
    /* The value of a model's item is made again where the value is as long, so that it is written in place. */
    if (is_map && before.there && random_once_in(&model->table.random, 4)) version = before.version;
    COMMAND(&model->table, status,
            paged_hash_set(&model->table.hash, &access, field_of(number), value_of(version), chosen, &is_new));
    if (status == PAGE_EXISTS) {
        assert_true(!is_map && before.there && !is_new);
        return;
    }
    if (status != PAGE_DONE) {
        assert_int_equal(status, PAGE_NO_MEMORY);
        assert_true(model->starved);
        return;
    }
    assert_true(is_map || !before.there);
    assert_int_equal(is_new, !before.there);
    *own = (struct model_item){true, version, chosen};
    if (chosen == PAGED_HASH_EXPIRY_KEEP) own->expiry_ms = before.there ? before.expiry_ms : RECORD_EXPIRY_NONE;
    model->count += !before.there;
    model->timed += (own->expiry_ms >= 0) - (before.there && before.expiry_ms >= 0);
}

static void forget(struct model *model, uint32_t number) {
    model->count--;
    model->timed -= model->items[number].expiry_ms >= 0;
    model->items[number].there = false;
}

static void step_delete(struct model *model, uint32_t number) {
    enum page_status status;
    COMMAND(&model->table, status, paged_hash_delete(&model->table.hash, &access, field_of(number)));
    if (status == PAGE_NO_MEMORY) {
        assert_true(model->starved);
        return;
    }
    assert_int_equal(status, model->items[number].there ? PAGE_DONE : PAGE_ABSENT);
    if (status == PAGE_DONE) forget(model, number);
}

static void step_set_expiry(struct model *model, uint32_t number) {
    struct model_item *own = &model->items[number];
    int64_t expiry_ms = random_once_in(&model->table.random, 2) ? RECORD_EXPIRY_NONE
                                                                : (int64_t)random_below(&model->table.random, 1000);
    enum page_status status;
    COMMAND(&model->table, status, paged_hash_set_expiry(&model->table.hash, &access, field_of(number), expiry_ms));
    if (status == PAGE_NO_MEMORY) {
        assert_true(model->starved);
        return;
    }
    assert_int_equal(status, own->there ? PAGE_DONE : PAGE_ABSENT);
    if (status != PAGE_DONE) return;
    model->timed += (expiry_ms >= 0) - (own->expiry_ms >= 0);
    own->expiry_ms = expiry_ms;
}

static void step_walk(struct model *model) {
    static bool seen[FIELDS];
    struct page_access access = page_fixture_command(&model->table.fixture);
    uint64_t met;
    do {
        struct paged_hash_walk walk;
        struct paged_hash_item item;
        met = 0;
        memset(seen, 0, sizeof(seen));
        paged_hash_walk_all(&walk, &model->table.hash, &access);
        for (; paged_hash_walk_next(&walk, &item); met++) {
            expect_item(model, number_of(&item), &item);
            assert_false(seen[number_of(&item)]);
            seen[number_of(&item)] = true;
        }
    } while (page_fixture_again(&model->table.fixture, &access));
    assert_int_equal(met, model->count);
}

static void visit_removed(void *ctx, const struct paged_hash_item *item) {
    struct model *model = ctx;
    expect_item(model, number_of(item), item);
    forget(model, number_of(item));
}

static void step_pop(struct model *model) {
    if (!model->count) return;
    size_t want = 1 + random_below(&model->table.random, model->count < 40 ? model->count : 40), removed;
    if (random_once_in(&model->table.random, 50)) want = model->count / 2 + 1;
    uint64_t *places = malloc(want * sizeof(*places)), before = model->count;
    struct random random = model->table.random;
    random_next(&model->table.random);
    struct page_access access = page_fixture_command(&model->table.fixture);
    enum page_status status;
    do {
        struct random same = random;
        paged_hash_sample(&model->table.hash, &same, want, places);
        status = paged_hash_remove_places(&model->table.hash, &access, places, want, visit_removed, model, &removed);
    } while (page_fixture_again(&model->table.fixture, &access));
    assert_true(status == PAGE_DONE || (status == PAGE_NO_MEMORY && model->starved));
    assert_int_equal(before - model->count, removed);
    if (status == PAGE_DONE) assert_int_equal(removed, want);
    free(places);
}

static void step_sweep(struct model *model) {
    int64_t now_ms = (int64_t)random_below(&model->table.random, 400);
    struct page_access access;
    bool more = true;
    for (unsigned tries = 0; more && tries < 10000; tries++) {
        access = page_fixture_command(&model->table.fixture);
        more = paged_hash_sweep(&model->table.hash, &access, now_ms, 3, visit_removed, model);
        while (page_fixture_again(&model->table.fixture, &access))
            more = paged_hash_sweep(&model->table.hash, &access, now_ms, 3, visit_removed, model);
        if (model->starved && tries > 100) return;
    }
    assert_false(more);
    if (model->timed == 0) assert_true(model->table.collection.next_expiry_ms == INT64_MAX);
}

/* As a start does: the cold pages under a table that was saved and loaded. Every `lost`th page is left out. */
static struct page_table load_again(struct table *table, uint32_t lost, struct page_access *access) {
    struct paged_hash *hash = &table->hash;
    struct page_table *pages = hash->pages, old;
    struct state_writer out = {0};
    page_fixture_chill(&table->fixture, pages, 100);
    old = *pages;
    paged_hash_save(hash, &out);
    page_table_init(pages, &table->collection, COLLECTION_HASH);
    struct state_reader in = {.rest = span_of(out.bytes, out.length)};
    assert_true(paged_hash_load(hash, pages, hash->kind, hash->seed, &in) && state_read_all(&in));
    assert_true(page_table_restore(pages, old.end, old.payload_bytes));
    for (uint32_t i = old.end; i-- > 0;) {
        if (lost && i % lost == lost - 1) {
            access->source->drop(access, page_ref(&old, i));
            continue;
        }
        assert_true(page_table_restore_page(pages, i, *page_entry(&old, i)));
        assert_false(page_table_restore_page(pages, i, *page_entry(&old, i)));
    }
    for (uint32_t i = 0; i < old.chunk_count; i++) free(old.chunks[i]);
    free(old.chunks);
    state_writer_free(&out);
    return old;
}

static void step_reload(struct model *model) {
    struct page_access access = page_fixture_command(&model->table.fixture);
    struct page_table old = load_again(&model->table, 0, &access);
    assert_true(paged_hash_loaded(&model->table.hash, &access));
    assert_int_equal(model->table.hash.pages->live, old.live);
    assert_int_equal(model->table.hash.pages->cold, old.cold);
}

static void step_around(struct model *model) {
    switch (random_below(&model->table.random, 13)) {
    case 0: step_walk(model); break;
    case 1:
    case 2:
        if (!model->table.fixture.options.no_tier)
            page_fixture_chill(&model->table.fixture, model->table.hash.pages,
                               (unsigned)random_below(&model->table.random, 101));
        break;
    case 3: check_table(&model->table); break;
    case 4: model->wish = (unsigned)random_below(&model->table.random, 101); break;
    case 5: step_sweep(model); break;
    case 6:
        if (model->starved)
            page_fixture_feed(&model->table.fixture);
        else if (random_once_in(&model->table.random, 5))
            page_fixture_starve(&model->table.fixture);
        else
            break;
        model->starved = !model->starved;
        break;
    case 7: page_fixture_compact(&model->table.fixture); break;
    case 8:
        if (!model->table.fixture.options.no_tier) step_reload(model);
        break;
    default: step_pop(model);
    }
}

static void run_model(enum paged_hash_kind hash_kind, struct page_fixture_options options, uint64_t steps) {
    struct model *model = calloc(1, sizeof(*model));
    model->items = calloc(FIELDS, sizeof(*model->items));
    model->wish = 60;
    table_open(&model->table, hash_kind, options);
    bool is_map = hash_kind == PAGED_HASH_MAP;
    for (uint64_t i = 0; i < steps; i++) {
        uint32_t number = (uint32_t)random_below(&model->table.random, FIELDS);
        if (random_once_in(&model->table.random, 1000)) {
            step_around(model);
        } else if (random_once_in(&model->table.random, 3)) {
            step_find(model, number);
        } else if (is_map && random_once_in(&model->table.random, 6)) {
            step_set_expiry(model, number);
        } else if (random_below(&model->table.random, 100) < model->wish) {
            step_set(model, number, is_map);
        } else {
            step_delete(model, number);
        }
        assert_int_equal(paged_hash_count(&model->table.hash), model->count);
        assert_int_equal(model->table.hash.timed, model->timed);
    }
    if (model->starved) page_fixture_feed(&model->table.fixture);
    check_table(&model->table);
    step_walk(model);
    for (uint32_t number = 0; number < FIELDS; number++) step_find(model, number);
    table_close(&model->table);
    free(model->items);
    free(model);
}

static void a_map_in_memory_is_what_its_model_is(void **state) {
    (void)state;
    run_model(PAGED_HASH_MAP, (struct page_fixture_options){.seed = seed_of_run(), .no_tier = true}, STEPS);
}

static void a_map_of_hot_and_cold_pages_is_what_its_model_is(void **state) {
    (void)state;
    run_model(PAGED_HASH_MAP,
              (struct page_fixture_options){
                  .seed = seed_of_run() + 100, .missing_percent = 50, .not_now_percent = 5, .wanted_percent = 20},
              STEPS);
}

static void a_set_of_hot_and_cold_pages_is_what_its_model_is(void **state) {
    (void)state;
    run_model(PAGED_HASH_SET,
              (struct page_fixture_options){
                  .seed = seed_of_run() + 200, .missing_percent = 50, .not_now_percent = 5, .wanted_percent = 20},
              STEPS);
}

/* ---- scores ---- */

/* How many there are of each pair of code and score. */
enum { SCORES_EACH = 3 };

static void count_candidates(struct table *table, uint32_t code, unsigned counts[SCORES_EACH]) {
    struct page_access access = page_fixture_command(&table->fixture);
    do {
        struct paged_hash_candidates candidates;
        uint64_t score;
        memset(counts, 0, SCORES_EACH * sizeof(*counts));
        paged_hash_candidates(&candidates, &table->hash, &access, code);
        while (paged_hash_next_candidate(&candidates, &score)) {
            assert_true(score < SCORES_EACH);
            counts[score]++;
        }
    } while (page_fixture_again(&table->fixture, &access));
}

static void step_score(struct table *table, unsigned (*model)[SCORES_EACH], uint64_t *count, unsigned wish) {
    uint32_t pick = (uint32_t)random_below(&table->random, SCORE_CODES), code = pick * 2654435761u;
    uint64_t score = random_below(&table->random, SCORES_EACH), other = random_below(&table->random, SCORES_EACH);
    enum page_status status;
    unsigned counts[SCORES_EACH];
    if (random_once_in(&table->random, 4)) {
        count_candidates(table, code, counts);
        assert_memory_equal(counts, model[pick], sizeof(counts));
    } else if (random_once_in(&table->random, 4)) {
        COMMAND(table, status, paged_hash_replace_score(&table->hash, &access, code, score, other));
        assert_int_equal(status, model[pick][score] ? PAGE_DONE : PAGE_ABSENT);
        if (status != PAGE_DONE) return;
        model[pick][score]--;
        model[pick][other]++;
    } else if (random_below(&table->random, 100) < wish) {
        COMMAND(table, status, paged_hash_insert_score(&table->hash, &access, code, score));
        assert_int_equal(status, PAGE_DONE);
        model[pick][score]++;
        ++*count;
    } else {
        COMMAND(table, status, paged_hash_delete_score(&table->hash, &access, code, score));
        assert_int_equal(status, model[pick][score] ? PAGE_DONE : PAGE_ABSENT);
        if (status != PAGE_DONE) return;
        model[pick][score]--;
        --*count;
    }
}

static void scores_are_what_their_model_is(void **state) {
    (void)state;
    struct table table;
    static unsigned model[SCORE_CODES][SCORES_EACH];
    uint64_t count = 0;
    unsigned wish = 60;
    table_open(&table, PAGED_HASH_SCORES,
               (struct page_fixture_options){.seed = seed_of_run() + 300, .missing_percent = 50, .wanted_percent = 20});
    for (unsigned i = 0; i < STEPS; i++) {
        step_score(&table, model, &count, wish);
        assert_int_equal(paged_hash_count(&table.hash), count);
        if (i % 5000 == 0) wish = (unsigned)random_between(&table.random, 20, 80);
        if (i % 1000 == 0) page_fixture_chill(&table.fixture, table.hash.pages, 30);
        if (i % 10000 == 0) check_table(&table);
    }
    check_table(&table);
    table_close(&table);
}

/* ---- reads ---- */

/* What a command will change is asked for before its first change, also where the table grows: nothing is read while
 * the shard waits. */
static void a_split_of_a_cold_page_is_read_ahead(void **state) {
    (void)state;
    struct table table;
    table_open(&table, PAGED_HASH_SCORES, (struct page_fixture_options){.seed = 9, .missing_percent = 100});
    for (uint32_t i = 0; i < 40000; i++) {
        uint32_t code = (uint32_t)random_next(&table.random);
        enum page_status status;
        page_fixture_chill(&table.fixture, table.hash.pages, 100);
        COMMAND(&table, status, paged_hash_insert_score(&table.hash, &access, code, i));
        assert_int_equal(status, PAGE_DONE);
    }
    assert_true(table.hash.page_count > 300 && table.fixture.reruns > 1000);
    assert_int_equal(table.fixture.late_reads, 0);
    table_close(&table);
}

/* ---- scans ---- */

static void add_number(struct table *table, uint32_t number) {
    enum page_status status;
    COMMAND(table, status,
            paged_hash_set(&table->hash, &access, span_of(&number, 4), span_of(NULL, 0), RECORD_EXPIRY_NONE, NULL));
    assert_int_equal(status, PAGE_DONE);
}

static void remove_number(struct table *table, uint32_t number) {
    enum page_status status;
    COMMAND(table, status, paged_hash_delete(&table->hash, &access, span_of(&number, 4)));
    assert_int_equal(status, PAGE_DONE);
}

static uint64_t scan_step(struct table *table, uint64_t cursor, bool *seen) {
    struct page_access access = page_fixture_command(&table->fixture);
    uint64_t next;
    do {
        struct paged_hash_walk walk;
        struct paged_hash_item item;
        next = paged_hash_walk_scan(&walk, &table->hash, &access, cursor);
        while (paged_hash_walk_next(&walk, &item)) {
            uint32_t number;
            memcpy(&number, item.field.data, 4);
            if (number < SCAN_STAYERS) seen[number] = true;
        }
    } while (page_fixture_again(&table->fixture, &access));
    return next;
}

/* Others come and go between the steps, so that the table has 10 to 300 pages. */
static void a_scan_meets_what_stays_while_the_table_grows_and_shrinks(void **state) {
    (void)state;
    struct table table;
    table_open(&table, PAGED_HASH_SET,
               (struct page_fixture_options){.seed = seed_of_run() + 400, .missing_percent = 20, .wanted_percent = 20});
    for (uint32_t i = 0; i < SCAN_STAYERS; i++) add_number(&table, i);
    uint32_t low = SCAN_STAYERS, high = SCAN_STAYERS, pages_least = UINT32_MAX, pages_most = 0;
    for (unsigned round = 0; round < 60; round++) {
        bool seen[SCAN_STAYERS] = {false};
        uint64_t cursor = 0, steps = 0;
        unsigned direction = (unsigned)random_below(&table.random, 3);
        do {
            uint64_t before = cursor;
            cursor = scan_step(&table, cursor, seen);
            assert_true(cursor == 0 || (cursor > before && cursor < UINT64_C(1) << 53));
            for (unsigned i = 0; i < 800; i++) {
                bool grow = direction == 0 || (direction == 2 && random_once_in(&table.random, 2));
                if (grow && high - low < 50000)
                    add_number(&table, high++);
                else if (!grow && low < high)
                    remove_number(&table, low++);
            }
            if (table.hash.page_count < pages_least) pages_least = table.hash.page_count;
            if (table.hash.page_count > pages_most) pages_most = table.hash.page_count;
            steps++;
        } while (cursor != 0 && steps < 100000);
        assert_int_equal(cursor, 0);
        for (uint32_t i = 0; i < SCAN_STAYERS; i++) assert_true(seen[i]);
        if (round % 10 == 0) page_fixture_chill(&table.fixture, table.hash.pages, 30);
    }
    assert_true(pages_most > 4 * pages_least);
    check_table(&table);
    table_close(&table);
}

static void any_number_is_taken_for_a_cursor(void **state) {
    (void)state;
    struct table table;
    bool seen[SCAN_STAYERS];
    table_open(&table, PAGED_HASH_SET, (struct page_fixture_options){.seed = 1, .no_tier = true});
    assert_int_equal(scan_step(&table, 17, seen), 0);
    for (uint32_t i = 0; i < 5000; i++) add_number(&table, i);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t cursor = random_next(&table.random) >> random_below(&table.random, 64);
        uint64_t next = scan_step(&table, cursor, seen);
        assert_true(next == 0 || next > cursor);
    }
    table_close(&table);
}

/* ---- random ---- */

/* The sum over all items of (met - expected)^2 / expected, of `draws` draws from `count` items, is close to normal with
 * mean count - 1 and deviation sqrt(2 count); six deviations do not happen. */
static void expect_uniform(const unsigned *met, unsigned count, uint64_t draws) {
    double expected = (double)draws / count, sum = 0;
    for (unsigned i = 0; i < count; i++) sum += (met[i] - expected) * (met[i] - expected) / expected;
    double limit = 6 * 1.4142 * __builtin_sqrt(count);
    if (sum > count - 1 + limit || sum < count - 1 - limit) fail_msg("chi-squared %g of %u items", sum, count);
}

static void random_items_are_uniform_hot_and_cold(void **state) {
    (void)state;
    enum { COUNT = 1500, DRAWS = 150000, WANT = 20 };
    struct table table;
    unsigned met[COUNT] = {0}, sampled[COUNT] = {0};
    table_open(&table, PAGED_HASH_SET,
               (struct page_fixture_options){.seed = seed_of_run() + 500, .missing_percent = 50});
    for (uint32_t i = 0; i < 4 * COUNT; i++) add_number(&table, i);
    for (uint32_t i = COUNT; i < 4 * COUNT; i++) remove_number(&table, i);
    page_fixture_chill(&table.fixture, table.hash.pages, 50);
    for (unsigned i = 0; i < DRAWS; i++) {
        struct random random = table.random;
        struct paged_hash_item item;
        enum page_status status;
        struct page_access access = page_fixture_command(&table.fixture);
        do {
            random = table.random;
            status = paged_hash_random(&table.hash, &access, &random, &item);
        } while (page_fixture_again(&table.fixture, &access));
        table.random = random;
        assert_int_equal(status, PAGE_DONE);
        uint32_t number;
        memcpy(&number, item.field.data, 4);
        met[number]++;
    }
    expect_uniform(met, COUNT, DRAWS);
    assert_true(table.hash.largest <= 200); /* it has come down since there were four times as many */
    for (unsigned i = 0; i < DRAWS / WANT; i++) {
        uint64_t places[WANT];
        struct paged_hash_item item;
        paged_hash_sample(&table.hash, &table.random, WANT, places);
        for (unsigned j = 0; j < WANT; j++) {
            enum page_status status;
            if (j) assert_true(places[j] > places[j - 1]);
            COMMAND(&table, status, paged_hash_at(&table.hash, &access, places[j], &item));
            uint32_t number;
            memcpy(&number, item.field.data, 4);
            sampled[number]++;
        }
    }
    expect_uniform(sampled, COUNT, DRAWS / WANT * WANT);
    table_close(&table);
}

/* Of so few items that samples of more than a fourth are drawn in one pass. */
static void large_samples_are_uniform(void **state) {
    (void)state;
    enum { COUNT = 300, WANT = 150, ROUNDS = 4000 };
    struct table table;
    unsigned met[COUNT] = {0};
    table_open(&table, PAGED_HASH_SET, (struct page_fixture_options){.seed = seed_of_run() + 600, .no_tier = true});
    for (uint32_t i = 0; i < COUNT; i++) add_number(&table, i);
    struct page_access access = page_fixture_command(&table.fixture);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t places[WANT];
        struct paged_hash_item item;
        paged_hash_sample(&table.hash, &table.random, WANT, places);
        for (unsigned j = 0; j < WANT; j++) {
            assert_int_equal(paged_hash_at(&table.hash, &access, places[j], &item), PAGE_DONE);
            uint32_t number;
            memcpy(&number, item.field.data, 4);
            met[number]++;
        }
    }
    /* Half of all are in each sample, so the counts vary half as much as those of single draws. */
    double expected = (double)ROUNDS * WANT / COUNT, sum = 0;
    for (unsigned i = 0; i < COUNT; i++) sum += (met[i] - expected) * (met[i] - expected) / (expected / 2);
    assert_true(sum < COUNT + 6 * 1.4142 * __builtin_sqrt(COUNT));
    table_close(&table);
}

/* ---- large items, memory, copies ---- */

static void large_items_find_pages_of_their_own(void **state) {
    (void)state;
    enum { LARGE = 200 << 20, ITEMS = 6 };
    struct table table;
    table_open(&table, PAGED_HASH_MAP,
               (struct page_fixture_options){.seed = seed_of_run() + 700, .no_tier = true, .reserve_bytes = 64 << 20});
    char *large = calloc(1, LARGE);
    struct page_access access = page_fixture_command(&table.fixture);
    /* Three of them in one page would be more than a page holds. */
    for (uint32_t i = 0; i < ITEMS; i++) {
        bool is_new;
        assert_int_equal(
            paged_hash_set(&table.hash, &access, span_of(&i, 4), span_of(large, LARGE), RECORD_EXPIRY_NONE, &is_new),
            PAGE_DONE);
        assert_true(is_new);
    }
    assert_true(paged_hash_validate(&table.hash, &access));
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct paged_hash_item item;
        assert_int_equal(paged_hash_find(&table.hash, &access, span_of(&i, 4), &item), PAGE_DONE);
        assert_int_equal(item.value.length, LARGE);
        assert_int_equal(paged_hash_delete(&table.hash, &access, span_of(&i, 4)), PAGE_DONE);
    }
    assert_int_equal(paged_hash_count(&table.hash), 0);
    free(large);
    table_close(&table);
}

static double bytes_each(struct table *table) {
    return (double)(stat_get(&table->fixture.heap.sums.page_bytes) + page_table_bytes(table->hash.pages)) /
           (double)paged_hash_count(&table->hash);
}

/* The figures of the design, everything counted: size classes, slabs after they were moved together, entries. */
static void an_item_costs_little_memory(void **state) {
    (void)state;
    enum { COUNT = 500000 };
    static const struct {
        enum paged_hash_kind kind;
        size_t field, value;
        double most;
    } cases[] = {{PAGED_HASH_MAP, 12, 20, 42}, {PAGED_HASH_SET, 16, 0, 25}, {PAGED_HASH_SCORES, 4, 0, 15.5}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct table table;
        table_open(&table, cases[i].kind, (struct page_fixture_options){.seed = 5, .no_tier = true});
        struct page_access access = page_fixture_command(&table.fixture);
        for (uint32_t number = 0; number < COUNT; number++) {
            char field[16] = {0}, value[20] = {0};
            memcpy(field, &number, 4);
            struct span name = span_of(field, cases[i].field);
            enum page_status status =
                cases[i].kind == PAGED_HASH_SCORES
                    ? paged_hash_insert_score(&table.hash, &access, (uint32_t)paged_hash_code(&table.hash, name),
                                              number)
                    : paged_hash_set(&table.hash, &access, name, span_of(value, cases[i].value), RECORD_EXPIRY_NONE,
                                     NULL);
            assert_int_equal(status, PAGE_DONE);
        }
        page_fixture_compact(&table.fixture);
        double each = bytes_each(&table);
        print_message("kind %d: %.2f bytes an item, %.2f of them in live objects\n", (int)cases[i].kind, each,
                      (double)stat_get(&table.fixture.heap.sums.live_bytes) / COUNT);
        assert_true(each <= cases[i].most);
        assert_true(paged_hash_validate(&table.hash, &access));
        table_close(&table);
    }
}

static void a_copy_has_the_same_items_over_pages_of_its_own(void **state) {
    (void)state;
    struct table table;
    table_open(&table, PAGED_HASH_SET, (struct page_fixture_options){.seed = 3, .no_tier = true});
    for (uint32_t i = 0; i < 3000; i++) add_number(&table, i);
    struct collection other;
    struct paged_hash copy;
    collection_init(&other, &kind);
    page_fixture_own(&table.fixture, &other);
    paged_hash_copy(&table.hash, &copy, &other.parts[COLLECTION_HASH]);
    struct page_access access = page_fixture_command(&table.fixture);
    for (uint32_t i = 0; i < page_table_end(table.hash.pages); i++) {
        struct span payload = page_read(&access, table.hash.pages, i);
        char *bytes = page_add_at(&access, copy.pages, i, payload.length);
        assert_non_null(bytes);
        memcpy(bytes, payload.data, payload.length);
        page_set_note(copy.pages, i, page_note(table.hash.pages, i));
    }
    for (uint32_t i = 0; i < 3000; i += 2) remove_number(&table, i);
    assert_true(paged_hash_validate(&copy, &access));
    assert_int_equal(paged_hash_count(&copy), 3000);
    while (page_table_release(&access, copy.pages, 100)) continue;
    table_close(&table);
}

/* ---- through a file ---- */

static void what_was_saved_and_damaged_is_not_loaded(void **state) {
    (void)state;
    struct table table;
    table_open(&table, PAGED_HASH_SET, (struct page_fixture_options){.seed = 1, .no_tier = true});
    struct page_access access = page_fixture_command(&table.fixture);
    for (uint32_t i = 0; i < 500; i++)
        (void)!paged_hash_set(&table.hash, &access, field_of(i), span_of(NULL, 0), RECORD_EXPIRY_NONE, NULL);
    struct state_writer out = {0};
    paged_hash_save(&table.hash, &out);
    struct paged_hash other;
    for (size_t length = 0; length < out.length; length++) {
        struct state_reader in = {.rest = span_of(out.bytes, length)};
        assert_false(paged_hash_load(&other, table.hash.pages, PAGED_HASH_SET, 1, &in));
    }
    /* More timed fields than there are; one field more than there is, which only the notes tell. */
    out.bytes[12] ^= 1;
    struct state_reader in = {.rest = span_of(out.bytes, out.length)};
    assert_false(paged_hash_load(&other, table.hash.pages, PAGED_HASH_SET, 1, &in));
    out.bytes[12] ^= 1;
    out.bytes[0] ^= 1;
    in = (struct state_reader){.rest = span_of(out.bytes, out.length)};
    assert_true(paged_hash_load(&other, table.hash.pages, PAGED_HASH_SET, 1, &in));
    assert_false(paged_hash_loaded(&other, &access));
    state_writer_free(&out);
    table_close(&table);
}

static void a_table_does_without_pages_that_were_lost(void **state) {
    (void)state;
    struct table table;
    struct paged_hash_walk walk;
    struct paged_hash_item item;
    uint64_t met = 0;
    table_open(&table, PAGED_HASH_MAP, (struct page_fixture_options){.seed = seed_of_run()});
    struct page_access access = page_fixture_command(&table.fixture);
    for (uint32_t i = 0; i < FIELDS; i++)
        assert_int_equal(
            paged_hash_set(&table.hash, &access, field_of(i), value_of(i), i % 7 ? RECORD_EXPIRY_NONE : i, NULL),
            PAGE_DONE);
    access = page_fixture_command(&table.fixture);
    load_again(&table, 5, &access);
    assert_true(paged_hash_mend(&table.hash, &access));
    assert_true(paged_hash_loaded(&table.hash, &access));
    check_table(&table);
    access = page_fixture_command(&table.fixture);
    paged_hash_walk_all(&walk, &table.hash, &access);
    for (; paged_hash_walk_next(&walk, &item); met++) assert_true(span_equal(item.value, value_of(number_of(&item))));
    assert_int_equal(met, paged_hash_count(&table.hash));
    assert_true(met > FIELDS / 2 && met < FIELDS);
    access = page_fixture_command(&table.fixture);
    for (uint32_t i = 0; i < FIELDS; i++)
        assert_int_equal(paged_hash_set(&table.hash, &access, field_of(i), value_of(i), RECORD_EXPIRY_NONE, NULL),
                         PAGE_DONE);
    assert_int_equal(paged_hash_count(&table.hash), FIELDS);
    check_table(&table);
    table_close(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_does_without_pages_that_were_lost),
        cmocka_unit_test(what_was_saved_and_damaged_is_not_loaded),
        cmocka_unit_test(a_map_in_memory_is_what_its_model_is),
        cmocka_unit_test(a_map_of_hot_and_cold_pages_is_what_its_model_is),
        cmocka_unit_test(a_set_of_hot_and_cold_pages_is_what_its_model_is),
        cmocka_unit_test(scores_are_what_their_model_is),
        cmocka_unit_test(a_split_of_a_cold_page_is_read_ahead),
        cmocka_unit_test(a_scan_meets_what_stays_while_the_table_grows_and_shrinks),
        cmocka_unit_test(any_number_is_taken_for_a_cursor),
        cmocka_unit_test(random_items_are_uniform_hot_and_cold),
        cmocka_unit_test(large_samples_are_uniform),
        cmocka_unit_test(large_items_find_pages_of_their_own),
        cmocka_unit_test(an_item_costs_little_memory),
        cmocka_unit_test(a_copy_has_the_same_items_over_pages_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
