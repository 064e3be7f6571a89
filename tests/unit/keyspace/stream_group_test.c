/* Groups and what is pending, against arrays: random changes of one group and its consumers, on pages that are missing
 * at random and memory that runs out. */

#include "keyspace/stream_group.h"
#include "tests/support/page_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { STEPS = 60000, IDS = 3000, CONSUMERS = 6, NOBODY = -1 };

struct test_root {
    struct collection collection;
    struct stream_groups groups;
};

static const struct collection_kind kind = {.encoding = "stream", .root_bytes = sizeof(struct test_root)};

struct model {
    int owner[IDS]; /* NOBODY: not pending */
    uint64_t deliveries[IDS];
    bool consumers[CONSUMERS];
    unsigned pending;
};

struct pair {
    struct page_fixture fixture;
    struct test_root root;
    struct stream_group *group;
    struct model model;
    struct random random;
};

static unsigned below(struct pair *pair, unsigned bound) {
    return (unsigned)(random_next(&pair->random) % bound);
}

static struct span consumer_name(unsigned number, char text[8]) {
    return span_of(text, (size_t)snprintf(text, 8, "c%u", number));
}

static struct stream_id id_at(unsigned number) {
    return (struct stream_id){1000 + number / 3, number % 3};
}

static struct stream_consumer *consumer_at(struct pair *pair, unsigned number) {
    char text[8];
    struct span name = consumer_name(number, text);
    struct stream_consumer *consumer = stream_consumer_find(pair->group, name);
    assert_int_equal(consumer != NULL, pair->model.consumers[number]);
    if (!consumer) consumer = stream_consumer_add(pair->group, name, 1);
    assert_non_null(consumer);
    pair->model.consumers[number] = true;
    return consumer;
}

static void deliver(struct pair *pair) {
    unsigned number = below(pair, IDS), owner = below(pair, CONSUMERS);
    struct stream_pending before;
    struct stream_pending pending = {
        .delivered_ms = number + 5, .deliveries = 1 + below(pair, 300), .consumer = consumer_at(pair, owner)};
    bool ask = below(pair, 2);
    struct page_access access = page_fixture_command(&pair->fixture);
    enum page_status status;
    do {
        enum page_status known = PAGE_ABSENT;
        if (ask) known = stream_pending_find(pair->group, &access, id_at(number), &before);
        status = known == PAGE_MISSING ? known
                                       : stream_pending_set(pair->group, &access, id_at(number), &pending,
                                                            known == PAGE_DONE ? &before : NULL);
    } while (page_fixture_again(&pair->fixture, &access));
    assert_int_equal(status, PAGE_DONE);
    pair->model.pending += pair->model.owner[number] == NOBODY;
    pair->model.owner[number] = (int)owner;
    pair->model.deliveries[number] = pending.deliveries;
}

static void acknowledge(struct pair *pair) {
    unsigned number = below(pair, IDS);
    struct page_access access = page_fixture_command(&pair->fixture);
    enum page_status status;
    do {
        stream_pending_touch(pair->group, &access, id_at(number), NULL);
        status = stream_pending_remove(pair->group, &access, id_at(number));
    } while (page_fixture_again(&pair->fixture, &access));
    assert_int_equal(status, pair->model.owner[number] == NOBODY ? PAGE_ABSENT : PAGE_DONE);
    pair->model.pending -= pair->model.owner[number] != NOBODY;
    pair->model.owner[number] = NOBODY;
}

static void remove_consumer(struct pair *pair) {
    char text[8];
    unsigned number = below(pair, CONSUMERS);
    struct stream_consumer *consumer = stream_consumer_find(pair->group, consumer_name(number, text));
    if (!consumer) return;
    struct page_access access = page_fixture_command(&pair->fixture);
    enum page_status status;
    do status = stream_consumer_remove(pair->group, &access, consumer);
    while (page_fixture_again(&pair->fixture, &access));
    assert_int_equal(status, PAGE_DONE);
    for (unsigned i = 0; i < IDS; i++) {
        if (pair->model.owner[i] != (int)number) continue;
        pair->model.owner[i] = NOBODY;
        pair->model.pending--;
    }
    pair->model.consumers[number] = false;
}

static void compare(struct pair *pair) {
    struct page_access access = page_fixture_command(&pair->fixture);
    bool valid;
    do valid = stream_groups_validate(&pair->root.groups, &access);
    while (page_fixture_again(&pair->fixture, &access));
    assert_true(valid);
    assert_int_equal(paged_tree_count(&pair->group->pending), pair->model.pending);
    for (unsigned i = 0; i < IDS; i++) {
        struct stream_pending pending = {.consumer = NULL};
        enum page_status status;
        char text[8];
        access = page_fixture_command(&pair->fixture);
        do status = stream_pending_find(pair->group, &access, id_at(i), &pending);
        while (page_fixture_again(&pair->fixture, &access));
        assert_int_equal(status, pair->model.owner[i] == NOBODY ? PAGE_ABSENT : PAGE_DONE);
        if (status != PAGE_DONE) continue;
        assert_true(pending.deliveries == pair->model.deliveries[i] && pending.delivered_ms == i + 5);
        assert_true(
            span_equal(stream_consumer_name(pending.consumer), consumer_name((unsigned)pair->model.owner[i], text)));
    }
}

/* Makes a copy, frees it, then destroys the group in small slices. */
static void end(struct pair *pair) {
    struct stream_groups copy;
    struct page_table *table = &pair->root.collection.parts[COLLECTION_TREES];
    assert_true(stream_groups_copy(&pair->root.groups, &copy, table));
    assert_in_range(stream_groups_bytes(&copy), 1, stream_groups_bytes(&pair->root.groups));
    while (stream_groups_release(&copy, 1)) continue;
    stream_group_give_up(&pair->root.groups, pair->group);
    struct page_access access = page_fixture_command(&pair->fixture);
    unsigned slices = 0;
    while (stream_groups_clear(&pair->root.groups, &access, 3)) slices++;
    assert_true(slices > 2);
    assert_null(pair->root.groups.given_up);
    assert_int_equal(page_table_live(table), 0);
    while (stream_groups_release(&pair->root.groups, 1)) continue;
    while (page_table_release(&access, table, 100)) continue;
    page_fixture_close(&pair->fixture);
}

static void run(struct page_fixture_options options) {
    struct pair *pair = calloc(1, sizeof(*pair));
    const char *seed_text = getenv("TERRACE_TEST_SEED");
    options.seed = seed_text ? strtoull(seed_text, NULL, 10) : 5;
    random_seed(&pair->random, options.seed);
    page_fixture_open(&pair->fixture, options);
    collection_init(&pair->root.collection, &kind);
    page_fixture_own(&pair->fixture, &pair->root.collection);
    struct page_table *table = &pair->root.collection.parts[COLLECTION_TREES];
    pair->group = stream_group_add(&pair->root.groups, span_of_text("g"), table);
    for (unsigned i = 0; i < IDS; i++) pair->model.owner[i] = NOBODY;
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned roll = below(pair, 1000);
        if (roll < 2)
            remove_consumer(pair);
        else if (roll < 350)
            acknowledge(pair);
        else
            deliver(pair);
        if (!options.no_tier && roll % 100 == 7) page_fixture_chill(&pair->fixture, table, below(pair, 100));
        if (step % 6000 == 0) compare(pair);
    }
    compare(pair);
    end(pair);
    free(pair);
}

static void what_is_pending_is_what_was_delivered(void **state) {
    (void)state;
    run((struct page_fixture_options){.no_tier = true});
}

static void also_where_pages_are_cold(void **state) {
    (void)state;
    run((struct page_fixture_options){.missing_percent = 60, .not_now_percent = 5, .wanted_percent = 30});
}

static void groups_are_found_by_name_in_order(void **state) {
    (void)state;
    struct stream_groups groups = {0};
    struct page_table table;
    char text[8];
    page_table_init(&table, NULL, COLLECTION_TREES);
    for (unsigned i = 0; i < 100; i++)
        assert_non_null(stream_group_add(&groups, consumer_name(i * 37 % 100, text), &table));
    for (unsigned i = 0; i < 100; i++) assert_non_null(stream_group_find(&groups, consumer_name(i, text)));
    assert_null(stream_group_find(&groups, span_of_text("c")));
    assert_true(span_equal(stream_group_name(groups.sorted[0]), span_of_text("c0")));
    assert_true(span_equal(stream_group_name(groups.sorted[1]), span_of_text("c1")));
    assert_true(span_equal(stream_group_name(groups.sorted[2]), span_of_text("c10")));
    while (stream_groups_release(&groups, 7)) continue;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_pending_is_what_was_delivered),
        cmocka_unit_test(also_where_pages_are_cold),
        cmocka_unit_test(groups_are_found_by_name_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
