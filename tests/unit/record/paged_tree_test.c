/* The ordered tree against a sorted array: every kind of key, all in memory and with pages that are cold and missing at
 * random, with enough memory and without. Then what the model does not see: how full leaves are, and what it costs in
 * DRAM. TERRACE_TEST_SEED replays. */

#include "base/random.h"
#include "record/collection.h"
#include "record/paged_tree.h"
#include "tests/support/page_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* ---- the model ---- */

struct model_item {
    struct paged_key key;
    struct span value;
    char bytes[];
};

struct model {
    struct model_item **items;
    size_t count, capacity;
};

static struct model_item *model_item_make(const struct paged_key *key, struct span value) {
    struct model_item *item = malloc(sizeof(*item) + key->tail.length + value.length + 1);
    assert_non_null(item);
    memcpy(item->bytes, key->tail.data, key->tail.length);
    memcpy(item->bytes + key->tail.length, value.data, value.length);
    item->key = *key;
    item->key.tail.data = item->bytes;
    item->value = span_of(item->bytes + key->tail.length, value.length);
    return item;
}

static void model_insert(struct model *model, size_t at, struct model_item *item) {
    if (model->count == model->capacity) {
        model->capacity = model->capacity ? model->capacity * 2 : 256;
        model->items = realloc(model->items, model->capacity * sizeof(*model->items));
        assert_non_null(model->items);
    }
    memmove(model->items + at + 1, model->items + at, (model->count - at) * sizeof(*model->items));
    model->items[at] = item;
    model->count++;
}

static void model_remove(struct model *model, size_t at, size_t count) {
    for (size_t i = 0; i < count; i++) free(model->items[at + i]);
    memmove(model->items + at, model->items + at + count, (model->count - at - count) * sizeof(*model->items));
    model->count -= count;
}

/* The first item not below the key. */
static size_t model_find(const struct model *model, const struct paged_key *key, bool *found) {
    size_t low = 0, high = model->count;
    *found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = paged_key_compare(&model->items[middle]->key, key);
        if (order == 0) *found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- a tree, its model, and what happens to both ---- */

enum numbers { SMALL, DOUBLES, TIES, ANY, RISING };

struct setting {
    const char *name;
    struct paged_tree_shape shape;
    enum numbers numbers;
    bool no_tier, starving;
    size_t most; /* items */
    unsigned steps;
};

struct trial {
    const struct setting *setting;
    struct random random;
    struct page_fixture fixture;
    struct collection collection;
    struct paged_tree tree;
    struct model model;
    uint64_t rising;
    bool starved;
    char bytes[200000], value[200000];
};

static const struct collection_kind kind = {.type = RECORD_LIST, .encoding = "quicklist"};

static bool chance(struct trial *trial, unsigned one_in) {
    return random_once_in(&trial->random, one_in);
}

static struct span random_bytes(struct trial *trial, char *room) {
    size_t length = random_below(&trial->random, 24);
    size_t leaf = trial->tree.leaf_payload;
    if (chance(trial, 3)) length = 16;
    if (chance(trial, 60)) length = random_below(&trial->random, leaf * 3);
    if (chance(trial, 5000)) length = 60000 + random_below(&trial->random, 100000);
    /* Few different letters at the front, so that there are long common beginnings. */
    for (size_t i = 0; i < length; i++) room[i] = (char)('a' + random_below(&trial->random, 3));
    if (length > 30) memset(room, 'a', length - 8);
    return span_of(room, length);
}

static uint64_t random_number(struct trial *trial, bool first) {
    struct random *random = &trial->random;
    switch (trial->setting->numbers) {
    case SMALL: return 1000000 + random_below(random, 3000);
    case TIES: return random_below(random, 3);
    case RISING: return first ? trial->rising += random_below(random, 3) : random_below(random, 5);
    case ANY: break;
    case DOUBLES: {
        double x = (double)random_between(random, -2000, 2000);
        uint64_t bits;
        memcpy(&bits, &x, 8);
        return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
    }
    }
    unsigned shift = (unsigned)random_below(random, 64);
    return chance(trial, 50) ? chance(trial, 2) * UINT64_MAX : random_next(random) >> shift;
}

static struct paged_key random_key(struct trial *trial) {
    const struct paged_tree_shape *shape = &trial->setting->shape;
    struct paged_key key = {{0}, span_of("", 0)};
    for (unsigned i = 0; i < shape->numbers; i++) key.numbers[i] = random_number(trial, i == 0);
    if (shape->tail) key.tail = random_bytes(trial, trial->bytes);
    return key;
}

static struct span random_value(struct trial *trial) {
    return trial->setting->shape.value ? random_bytes(trial, trial->value) : span_of("", 0);
}

static bool has_keys(const struct trial *trial) {
    return trial->setting->shape.numbers || trial->setting->shape.tail;
}

/* A key that is there half of the time. */
static struct paged_key some_key(struct trial *trial) {
    if (trial->model.count && chance(trial, 2))
        return trial->model.items[random_below(&trial->random, trial->model.count)]->key;
    return random_key(trial);
}

/* Whether the change was made; it may be refused only where there is no memory. */
static bool done(struct trial *trial, enum page_status status) {
    if (status == PAGE_DONE) return true;
    assert_true(trial->starved);
    assert_int_equal(status, PAGE_NO_MEMORY);
    return false;
}

static void expect_item(const struct model_item *expected, const struct paged_item *item) {
    assert_true(expected->key.numbers[0] == item->key.numbers[0] && expected->key.numbers[1] == item->key.numbers[1]);
    assert_true(span_equal(expected->key.tail, item->key.tail));
    assert_true(span_equal(expected->value, item->value));
}

/* ---- steps ---- */

static void step_insert(struct trial *trial, struct page_access *access) {
    struct paged_key key = random_key(trial);
    struct span value = random_value(trial);
    size_t at = random_below(&trial->random, trial->model.count + 1);
    if (chance(trial, 2)) at = chance(trial, 2) ? trial->model.count : 0;
    bool exists = false;
    if (has_keys(trial)) at = model_find(&trial->model, &key, &exists);
    enum page_status status;
    do
        status = has_keys(trial) ? paged_tree_insert(&trial->tree, access, &key, value)
                                 : paged_tree_insert_at(&trial->tree, access, at, value);
    while (page_fixture_again(&trial->fixture, access));
    if (exists)
        assert_int_equal(status, PAGE_EXISTS);
    else if (done(trial, status))
        model_insert(&trial->model, at, model_item_make(&key, value));
}

static void step_delete(struct trial *trial, struct page_access *access) {
    bool there;
    struct paged_key key = some_key(trial);
    if (!has_keys(trial)) {
        if (!trial->model.count) return;
        uint64_t deleted;
        size_t at = chance(trial, 2) ? chance(trial, 2) * (trial->model.count - 1)
                                     : random_below(&trial->random, trial->model.count);
        enum page_status status;
        do status = paged_tree_delete_some(&trial->tree, access, at, 1, &deleted);
        while (page_fixture_again(&trial->fixture, access));
        if (done(trial, status)) model_remove(&trial->model, at, 1);
        return;
    }
    size_t at = model_find(&trial->model, &key, &there);
    enum page_status status;
    do status = paged_tree_delete(&trial->tree, access, &key);
    while (page_fixture_again(&trial->fixture, access));
    if (!there)
        assert_int_equal(status, PAGE_ABSENT);
    else if (done(trial, status))
        model_remove(&trial->model, at, 1);
}

static void step_delete_range(struct trial *trial, struct page_access *access) {
    struct model *model = &trial->model;
    if (!model->count) return;
    size_t first = random_below(&trial->random, model->count);
    size_t count = random_below(&trial->random, chance(trial, 50) ? model->count + 1 : model->count / 40 + 2);
    size_t real = count < model->count - first ? count : model->count - first;
    enum page_status status;
    if (trial->starved) {
        uint64_t deleted;
        do status = paged_tree_delete_some(&trial->tree, access, first, count, &deleted);
        while (page_fixture_again(&trial->fixture, access));
        done(trial, status);
        assert_true(deleted <= real);
        model_remove(model, first, deleted);
        return;
    }
    do status = paged_tree_delete_range(&trial->tree, access, first, count);
    while (page_fixture_again(&trial->fixture, access));
    assert_int_equal(status, PAGE_DONE);
    model_remove(model, first, real);
}

/* Where the leaf with this position ends. */
static size_t leaf_end(struct trial *trial, struct page_access *access, size_t position) {
    struct paged_tree_cursor cursor;
    do paged_tree_at(&cursor, &trial->tree, access, position);
    while (page_fixture_again(&trial->fixture, access));
    return position - cursor.index + cursor.leaf_count;
}

/* Whole leaves go, and nothing beside them; what is left of the range is less than two. */
static void step_cut(struct trial *trial, struct page_access *access) {
    struct model *model = &trial->model;
    if (!model->count) return;
    size_t first = random_below(&trial->random, model->count);
    if (chance(trial, 4)) first = 0;
    size_t most = model->count - first;
    size_t count = random_below(&trial->random, chance(trial, 20) ? most + 2 : most / 8 + 2);
    size_t real = count < most ? count : most;
    size_t from = first ? leaf_end(trial, access, first - 1) : 0;
    uint64_t gone;
    enum page_status status;
    do status = paged_tree_cut_leaves(&trial->tree, access, first, count, &gone);
    while (page_fixture_again(&trial->fixture, access));
    assert_true(gone <= real);
    if (!done(trial, status)) {
        assert_int_equal(gone, 0);
        return;
    }
    if (gone) model_remove(model, from, gone);
    if (!trial->starved && chance(trial, 2)) {
        do status = paged_tree_cut_range(&trial->tree, access, first, real - gone);
        while (page_fixture_again(&trial->fixture, access));
        assert_int_equal(status, first < model->count ? PAGE_DONE : PAGE_ABSENT);
        if (status == PAGE_DONE) model_remove(model, first, real - gone);
    }
}

static void count_item(void *ctx, const struct paged_item *item) {
    (void)item;
    ++*(uint64_t *)ctx;
}

static void step_drop_cut(struct trial *trial, struct page_access *access) {
    uint64_t seen = 0;
    unsigned budget = (unsigned)random_below(&trial->random, 6);
    do (void)!paged_tree_drop_cut(&trial->tree, access, budget, count_item, &seen);
    while (page_fixture_again(&trial->fixture, access));
}

static void step_replace(struct trial *trial, struct page_access *access) {
    if (!trial->setting->shape.value) return;
    bool there = true;
    struct paged_key key = some_key(trial);
    struct span value = random_value(trial);
    size_t at = random_below(&trial->random, trial->model.count + 2);
    if (has_keys(trial))
        at = model_find(&trial->model, &key, &there);
    else
        there = at < trial->model.count;
    enum page_status status;
    do
        status = has_keys(trial) ? paged_tree_replace(&trial->tree, access, &key, value)
                                 : paged_tree_replace_at(&trial->tree, access, at, value);
    while (page_fixture_again(&trial->fixture, access));
    if (!there) {
        assert_int_equal(status, PAGE_ABSENT);
    } else if (done(trial, status)) {
        struct model_item *item = model_item_make(&trial->model.items[at]->key, value);
        free(trial->model.items[at]);
        trial->model.items[at] = item;
    }
}

static void step_find(struct trial *trial, struct page_access *access) {
    if (!has_keys(trial)) return;
    struct paged_key key = some_key(trial);
    bool there;
    size_t at = model_find(&trial->model, &key, &there);
    struct span value;
    uint64_t position;
    enum page_status status;
    if (chance(trial, 3)) (void)paged_tree_touch_key(&trial->tree, access, &key);
    do status = paged_tree_find(&trial->tree, access, &key, &value, &position);
    while (page_fixture_again(&trial->fixture, access));
    assert_int_equal(status, there ? PAGE_DONE : PAGE_ABSENT);
    if (!there) return;
    assert_int_equal(position, at);
    assert_true(span_equal(value, trial->model.items[at]->value));
}

/* A walk from a position or key, this way and that; while pages are missing it may skip, but knows where it is. */
static void walk(struct trial *trial, struct paged_tree_cursor *cursor, size_t at, bool forward, size_t steps) {
    const struct model *model = &trial->model;
    for (; steps && cursor->valid; steps--) {
        if (cursor->missing) assert_true(cursor->access->missing);
        if (!cursor->access->missing) assert_int_equal(cursor->position, at);
        assert_true(cursor->position < model->count);
        if (!cursor->missing) expect_item(model->items[cursor->position], &cursor->item);
        uint64_t before = cursor->position;
        if (forward)
            paged_tree_next(cursor);
        else
            paged_tree_previous(cursor);
        if (cursor->valid) assert_true(forward ? cursor->position > before : cursor->position < before);
        at += forward ? 1 : -1ul;
    }
    if (steps && !cursor->access->missing) assert_int_equal(at, forward ? model->count : -1ul);
}

static void step_walk(struct trial *trial, struct page_access *access) {
    bool forward = chance(trial, 2), by_key = has_keys(trial) && chance(trial, 2), after = chance(trial, 2), there;
    size_t at = random_below(&trial->random, trial->model.count + 1), steps = random_below(&trial->random, 60);
    struct paged_key key = some_key(trial);
    if (by_key) at = model_find(&trial->model, &key, &there) + (after && there);
    if (chance(trial, 3)) (void)paged_tree_touch(&trial->tree, access, at, steps);
    do {
        struct paged_tree_cursor cursor;
        if (!by_key)
            paged_tree_at(&cursor, &trial->tree, access, at);
        else if (after)
            paged_tree_seek_after(&cursor, &trial->tree, access, &key);
        else
            paged_tree_seek(&cursor, &trial->tree, access, &key);
        if (!access->missing) assert_int_equal(cursor.position, at);
        if (!access->missing) assert_int_equal(cursor.valid, at < trial->model.count);
        if (cursor.valid) walk(trial, &cursor, at, forward, steps);
    } while (page_fixture_again(&trial->fixture, access));
}

static void compare_all(struct trial *trial) {
    struct page_access access = page_fixture_command(&trial->fixture);
    do assert_true(paged_tree_validate(&trial->tree, &access));
    while (page_fixture_again(&trial->fixture, &access));
    assert_true(page_table_validate(trial->tree.table));
    assert_int_equal(paged_tree_count(&trial->tree), trial->model.count);
    do {
        struct paged_tree_cursor cursor;
        size_t at = 0;
        for (paged_tree_first(&cursor, &trial->tree, &access); cursor.valid; paged_tree_next(&cursor), at++)
            if (!cursor.missing) expect_item(trial->model.items[cursor.position], &cursor.item);
        if (!access.missing) assert_int_equal(at, trial->model.count);
    } while (page_fixture_again(&trial->fixture, &access));
}

/* ---- a file between the two ---- */

/* Goes on with a tree that was made from what the one before told. */
static void step_save_and_load(struct trial *trial) {
    struct state_writer out = {0};
    struct paged_tree *tree = &trial->tree, loaded;
    paged_tree_save(tree, &out);
    struct state_reader in = {.rest = span_of(out.bytes, out.length)};
    paged_tree_init(&loaded, tree->table, trial->setting->shape);
    assert_true(!out.failed && paged_tree_load(&loaded, &in) && state_read_all(&in));
    state_writer_free(&out);
    assert_true(paged_tree_claim(&loaded));
    assert_int_equal(page_table_end_claims(tree->table), 0);
    assert_int_equal(paged_tree_count(&loaded), paged_tree_count(tree));
    assert_int_equal(paged_tree_cut_pages(&loaded), paged_tree_cut_pages(tree));
    while (paged_tree_release(tree, 100)) continue;
    *tree = loaded;
}

/* ---- a trial ---- */

static void step(struct trial *trial, bool growing) {
    struct page_access access = page_fixture_command(&trial->fixture);
    unsigned dice = (unsigned)random_below(&trial->random, 100);
    if (dice < (growing ? 50 : 25))
        step_insert(trial, &access);
    else if (dice < 65)
        step_delete(trial, &access);
    else if (dice < (growing ? 66 : 70))
        (chance(trial, 2) ? step_cut : step_delete_range)(trial, &access);
    else if (dice < 80)
        step_replace(trial, &access);
    else if (dice < 90)
        step_find(trial, &access);
    else
        step_walk(trial, &access);
    if (paged_tree_has_cut(&trial->tree) && chance(trial, 8)) {
        access = page_fixture_command(&trial->fixture);
        step_drop_cut(trial, &access);
    }
}

static uint64_t seed(void) {
    const char *given = getenv("TERRACE_TEST_SEED");
    if (given) return strtoull(given, NULL, 10);
    struct random random;
    random_seed_from_kernel(&random);
    return random_next(&random);
}

static void run(const struct setting *setting) {
    struct trial *trial = calloc(1, sizeof(*trial));
    assert_non_null(trial);
    uint64_t start = seed();
    print_message("%s: seed %llu\n", setting->name, (unsigned long long)start);
    trial->setting = setting;
    random_seed(&trial->random, start);
    page_fixture_open(&trial->fixture, (struct page_fixture_options){.seed = start + 1,
                                                                     .no_tier = setting->no_tier,
                                                                     .missing_percent = 40,
                                                                     .not_now_percent = 2,
                                                                     .wanted_percent = 30});
    collection_init(&trial->collection, &kind);
    page_fixture_own(&trial->fixture, &trial->collection);
    paged_tree_init(&trial->tree, &trial->collection.parts[COLLECTION_TREES], setting->shape);

    bool growing = true;
    for (unsigned i = 0; i < setting->steps; i++) {
        if (trial->model.count >= setting->most) growing = false;
        if (trial->model.count < 3) growing = true;
        step(trial, growing);
        if (!setting->no_tier && chance(trial, 40))
            page_fixture_chill(&trial->fixture, trial->tree.table, (unsigned)random_below(&trial->random, 101));
        if (setting->starving && chance(trial, 300)) {
            trial->starved = !trial->starved;
            if (trial->starved)
                page_fixture_starve(&trial->fixture);
            else
                page_fixture_feed(&trial->fixture);
        }
        if (chance(trial, 1000)) step_save_and_load(trial);
        if (chance(trial, 1000)) compare_all(trial);
    }
    page_fixture_feed(&trial->fixture);
    compare_all(trial);

    struct page_access access = page_fixture_command(&trial->fixture);
    while (paged_tree_release(&trial->tree, 3)) continue;
    assert_int_equal(paged_tree_bytes(&trial->tree), 0);
    while (page_table_release(&access, trial->tree.table, 100)) continue;
    page_fixture_close(&trial->fixture);
    model_remove(&trial->model, 0, trial->model.count);
    free(trial->model.items);
    free(trial);
}

enum { STEPS = 150000 };
static const struct paged_tree_shape list = {0, false, true, 300}, sorted_set = {1, true, false, 300},
                                     stream = {2, false, true, 300}, names = {0, true, true, 300},
                                     everything = {2, true, true, 300};

static void a_list_equals_its_model(void **state) {
    (void)state;
    run(&(struct setting){"list", list, SMALL, true, false, 3000, STEPS});
    run(&(struct setting){"list, cold", list, SMALL, false, false, 3000, STEPS});
    run(&(struct setting){"list, no memory", list, SMALL, false, true, 500, STEPS / 4});
    struct paged_tree_shape big = list;
    big.leaf_bytes = PAGED_TREE_LIST_BYTES;
    run(&(struct setting){"list, big leaves", big, SMALL, false, false, 20000, STEPS});
}

static void a_sorted_set_equals_its_model(void **state) {
    (void)state;
    run(&(struct setting){"sorted set", sorted_set, DOUBLES, true, false, 3000, STEPS});
    run(&(struct setting){"sorted set, cold", sorted_set, DOUBLES, false, false, 3000, STEPS});
    run(&(struct setting){"sorted set of ties", sorted_set, TIES, false, false, 3000, STEPS});
    run(&(struct setting){"sorted set, any score", sorted_set, ANY, false, false, 3000, STEPS});
    run(&(struct setting){"sorted set, no memory", sorted_set, TIES, false, true, 500, STEPS / 4});
    struct paged_tree_shape big = sorted_set;
    big.leaf_bytes = 0;
    run(&(struct setting){"sorted set, big leaves", big, DOUBLES, false, false, 20000, STEPS});
}

static void a_stream_equals_its_model(void **state) {
    (void)state;
    run(&(struct setting){"stream", stream, RISING, true, false, 3000, STEPS});
    run(&(struct setting){"stream, cold", stream, SMALL, false, false, 3000, STEPS});
    run(&(struct setting){"stream, any number", stream, ANY, false, true, 1000, STEPS / 4});
}

static void other_shapes_equal_their_models(void **state) {
    (void)state;
    run(&(struct setting){"tails alone", names, SMALL, false, false, 3000, STEPS});
    run(&(struct setting){"all there is", everything, TIES, false, false, 3000, STEPS});
    run(&(struct setting){"all there is, no memory", everything, ANY, false, true, 500, STEPS / 4});
}

/* ---- big trees ---- */

struct big {
    struct page_fixture fixture;
    struct collection collection;
    struct paged_tree tree;
    struct page_access access;
};

static void big_open(struct big *big, struct paged_tree_shape shape) {
    page_fixture_open(&big->fixture, (struct page_fixture_options){.no_tier = true, .reserve_bytes = 1ul << 30});
    collection_init(&big->collection, &kind);
    page_fixture_own(&big->fixture, &big->collection);
    paged_tree_init(&big->tree, &big->collection.parts[COLLECTION_TREES], shape);
    big->access = page_fixture_command(&big->fixture);
}

static void big_close(struct big *big) {
    while (paged_tree_release(&big->tree, 100)) continue;
    while (page_table_release(&big->access, big->tree.table, 1000)) continue;
    page_fixture_close(&big->fixture);
}

static double bytes_per_item(const struct big *big) {
    size_t bytes =
        stat_get(&big->fixture.heap.sums.page_bytes) + paged_tree_bytes(&big->tree) + page_table_bytes(big->tree.table);
    return (double)bytes / (double)paged_tree_count(&big->tree);
}

static uint64_t image_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static void memory_per_item_is_what_was_promised(void **state) {
    (void)state;
    struct big big;
    char member[64];
    struct random random;
    random_seed(&random, 1);
    enum { ITEMS = 300000 };

    big_open(&big, (struct paged_tree_shape){.value = true, .leaf_bytes = PAGED_TREE_LIST_BYTES});
    for (unsigned i = 0; i < ITEMS; i++) {
        snprintf(member, sizeof(member), "element:%012u", i);
        assert_int_equal(paged_tree_push_last(&big.tree, &big.access, span_of(member, 20)), PAGE_DONE);
    }
    print_message("list of 20 bytes: %.2f bytes an element\n", bytes_per_item(&big));
    assert_true(bytes_per_item(&big) <= 21.5);
    big_close(&big);

    big_open(&big, (struct paged_tree_shape){.value = true, .leaf_bytes = PAGED_TREE_LIST_BYTES});
    for (unsigned i = 0; i < ITEMS; i++)
        assert_int_equal(paged_tree_push_first(&big.tree, &big.access, span_of(member, 15 + i % 10)), PAGE_DONE);
    print_message("list of 15 to 24 bytes, pushed at its head: %.2f\n", bytes_per_item(&big));
    assert_true(bytes_per_item(&big) <= 22.5);
    big_close(&big);

    big_open(&big, (struct paged_tree_shape){.numbers = 2, .value = true});
    for (unsigned i = 0; i < ITEMS; i++) {
        struct paged_key key = {{1700000000000 + i / 3, i % 3}, span_of("", 0)};
        assert_int_equal(paged_tree_insert(&big.tree, &big.access, &key, span_of(member, 20)), PAGE_DONE);
    }
    print_message("stream entries of 20 bytes: %.2f\n", bytes_per_item(&big));
    assert_true(bytes_per_item(&big) <= 25);
    big_close(&big);

    for (unsigned fraction = 0; fraction < 2; fraction++) {
        big_open(&big, (struct paged_tree_shape){.numbers = 1, .tail = true});
        for (unsigned i = 0; i < ITEMS; i++) {
            double score = fraction ? random_fraction(&random) : (double)random_below(&random, 1000000);
            struct paged_key key = {{image_of(score), 0}, span_of(member, 16)};
            snprintf(member, sizeof(member), "member:%09u", i);
            assert_int_equal(paged_tree_insert(&big.tree, &big.access, &key, span_of("", 0)), PAGE_DONE);
        }
        print_message("sorted set of 16 bytes, %s: %.2f\n", fraction ? "fractions" : "integers", bytes_per_item(&big));
        assert_true(bytes_per_item(&big) <= (fraction ? 29 : 24));
        big_close(&big);
    }
}

static void a_tree_of_many_levels_grows_and_is_emptied(void **state) {
    (void)state;
    struct big big;
    enum { ITEMS = 60000, STRIDE = 40507 }; /* coprime: every number once, in a scattered order */
    char tail[100];
    memset(tail, 'x', sizeof(tail));
    for (unsigned order = 0; order < 3; order++) {
        big_open(&big, (struct paged_tree_shape){.numbers = 1, .tail = true, .leaf_bytes = 250});
        for (unsigned i = 0; i < ITEMS; i++) {
            uint64_t number = order == 0 ? i : order == 1 ? ITEMS - i : (uint64_t)i * STRIDE % ITEMS;
            struct paged_key key = {{number / 100, 0}, span_of(tail, sizeof(tail))};
            snprintf(tail, sizeof(tail), "%096u", (unsigned)number);
            assert_int_equal(paged_tree_insert(&big.tree, &big.access, &key, span_of("", 0)), PAGE_DONE);
        }
        assert_true(paged_tree_validate(&big.tree, &big.access));
        struct page_table other;
        struct paged_tree copy;
        assert_true(paged_tree_copy(&big.tree, &copy, &other));
        assert_int_equal(paged_tree_count(&copy), ITEMS);
        while (paged_tree_release(&copy, 7)) continue;
        if (order == 2) {
            for (unsigned i = 0; i < ITEMS - 7; i++) {
                uint64_t number = (uint64_t)i * 7919 % ITEMS;
                struct paged_key key = {{number / 100, 0}, span_of(tail, sizeof(tail))};
                snprintf(tail, sizeof(tail), "%096u", (unsigned)number);
                assert_int_equal(paged_tree_delete(&big.tree, &big.access, &key), PAGE_DONE);
            }
            assert_true(paged_tree_validate(&big.tree, &big.access));
            assert_int_equal(paged_tree_count(&big.tree), 7);
            assert_true(page_table_live(big.tree.table) <= 7);
        }
        while (paged_tree_clear(&big.tree, &big.access, 10)) continue;
        assert_int_equal(page_table_live(big.tree.table), 0);
        assert_true(paged_tree_validate(&big.tree, &big.access));
        big_close(&big);
    }
}

static void two_trees_share_a_table(void **state) {
    (void)state;
    struct big big;
    big_open(&big, (struct paged_tree_shape){.numbers = 1, .tail = true});
    struct paged_tree second;
    paged_tree_init(&second, big.tree.table, (struct paged_tree_shape){.value = true});
    for (unsigned i = 0; i < 3000; i++) {
        struct paged_key key = {{i, 0}, SPAN_LITERAL("tail")};
        assert_int_equal(paged_tree_insert(&big.tree, &big.access, &key, span_of("", 0)), PAGE_DONE);
        assert_int_equal(paged_tree_push_first(&second, &big.access, SPAN_LITERAL("value")), PAGE_DONE);
    }
    while (paged_tree_clear(&big.tree, &big.access, 1)) continue;
    assert_true(paged_tree_validate(&second, &big.access));
    assert_int_equal(paged_tree_count(&second), 3000);
    while (paged_tree_clear(&second, &big.access, 1)) continue;
    assert_int_equal(page_table_live(big.tree.table), 0);
    big_close(&big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_equals_its_model),
        cmocka_unit_test(a_sorted_set_equals_its_model),
        cmocka_unit_test(a_stream_equals_its_model),
        cmocka_unit_test(other_shapes_equal_their_models),
        cmocka_unit_test(memory_per_item_is_what_was_promised),
        cmocka_unit_test(a_tree_of_many_levels_grows_and_is_emptied),
        cmocka_unit_test(two_trees_share_a_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
