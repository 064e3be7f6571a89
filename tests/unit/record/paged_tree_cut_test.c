/* Ranges that are cut off trees of many levels: what is left, what it takes, and what becomes of the leaves. The model
 * test of paged_tree_test.c cuts as well, in smaller trees and with pages that are missing. */

#include "base/random.h"
#include "record/collection.h"
#include "record/paged_tree.h"
#include "tests/support/page_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { ITEMS = 200000, LEAF = 60, TAIL = 12 };

struct big {
    struct page_fixture fixture;
    struct collection collection;
    struct paged_tree tree;
    struct page_access access;
};

static const struct collection_kind kind = {.type = RECORD_SORTED_SET, .encoding = "skiplist"};

/* Leaves of few items, so that there are many levels; items are 0 .. ITEMS - 1. */
static void open_big(struct big *big) {
    page_fixture_open(&big->fixture, (struct page_fixture_options){.no_tier = true, .reserve_bytes = 1ul << 30});
    collection_init(&big->collection, &kind);
    page_fixture_own(&big->fixture, &big->collection);
    paged_tree_init(&big->tree, &big->collection.parts[COLLECTION_TREES],
                    (struct paged_tree_shape){.numbers = 1, .tail = true, .leaf_bytes = LEAF});
    big->access = page_fixture_command(&big->fixture);
    for (uint64_t i = 0; i < ITEMS; i++) {
        const struct paged_key key = {{i / 8, 0}, span_of((const char *)&(uint64_t[2]){__builtin_bswap64(i)}, TAIL)};
        assert_int_equal(paged_tree_insert(&big->tree, &big->access, &key, span_of("", 0)), PAGE_DONE);
    }
}

static void close_big(struct big *big) {
    while (paged_tree_release(&big->tree, 100)) continue;
    assert_int_equal(paged_tree_bytes(&big->tree), 0);
    while (page_table_release(&big->access, big->tree.table, 1000)) continue;
    page_fixture_close(&big->fixture);
}

static uint64_t number_of(const struct paged_item *item) {
    uint64_t number;
    memcpy(&number, item->key.tail.data, sizeof(number));
    return __builtin_bswap64(number);
}

struct seen {
    uint8_t *items; /* how often each was met */
    uint64_t count;
};

static void see(void *ctx, const struct paged_item *item) {
    struct seen *seen = ctx;
    seen->items[number_of(item)]++;
    seen->count++;
}

static uint64_t cut(struct big *big, uint64_t first, uint64_t count) {
    uint64_t gone, before = paged_tree_count(&big->tree);
    assert_int_equal(paged_tree_cut_leaves(&big->tree, &big->access, first, count, &gone), PAGE_DONE);
    assert_int_equal(paged_tree_count(&big->tree), before - gone);
    return gone;
}

static void see_the_tree(struct big *big, struct seen *seen) {
    struct paged_tree_cursor at;
    uint64_t last = 0;
    for (paged_tree_first(&at, &big->tree, &big->access); at.valid; paged_tree_next(&at)) {
        uint64_t number = number_of(&at.item);
        assert_true(at.position == 0 || number > last);
        last = number;
        see(seen, &at.item);
    }
}

static void no_page_is_touched_until_they_are_dropped(void **state) {
    (void)state;
    struct big big;
    open_big(&big);
    uint32_t pages = page_table_live(big.tree.table);
    size_t nodes = paged_tree_bytes(&big.tree);
    uint64_t gone = cut(&big, 1001, ITEMS - 2002);
    assert_true(gone > ITEMS - 2002 - 2 * LEAF);
    assert_int_equal(page_table_live(big.tree.table), pages);
    assert_true(paged_tree_bytes(&big.tree) < nodes + nodes / 10); /* pieces are nodes as they were */
    assert_true(paged_tree_validate(&big.tree, &big.access));

    uint64_t slices = 0, cut_pages = paged_tree_cut_pages(&big.tree);
    while (paged_tree_drop_cut(&big.tree, &big.access, 10, NULL, NULL)) {
        slices++;
        assert_true(page_table_live(big.tree.table) >= pages - 10 * slices);
    }
    assert_true(slices > 100 && cut_pages > 1000);
    assert_int_equal(page_table_live(big.tree.table), pages - cut_pages);
    assert_true(paged_tree_validate(&big.tree, &big.access));
    close_big(&big);
}

static void every_item_is_in_the_tree_or_was_cut_off(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct random random;
        struct big big;
        struct seen seen = {calloc(ITEMS, 1), 0};
        assert_non_null(seen.items);
        random_seed(&random, seed);
        open_big(&big);
        for (unsigned i = 0; i < 60 && paged_tree_count(&big.tree); i++) {
            uint64_t count = paged_tree_count(&big.tree), first = random_below(&random, count);
            if (random_once_in(&random, 4)) first = 0;
            uint64_t length = random_below(&random, random_once_in(&random, 4) ? count - first + 1 : 3000);
            if (random_once_in(&random, 8)) length = count - first;
            (void)cut(&big, first, length);
            assert_true(paged_tree_validate(&big.tree, &big.access));
            if (random_once_in(&random, 3))
                (void)!paged_tree_drop_cut(&big.tree, &big.access, (unsigned)random_below(&random, 500), see, &seen);
        }
        see_the_tree(&big, &seen);
        while (paged_tree_drop_cut(&big.tree, &big.access, 100, see, &seen)) continue;
        assert_int_equal(seen.count, ITEMS);
        for (unsigned i = 0; i < ITEMS; i++) assert_int_equal(seen.items[i], 1);
        free(seen.items);
        close_big(&big);
    }
}

static void a_copy_has_what_was_cut_off(void **state) {
    (void)state;
    struct big big;
    open_big(&big);
    (void)cut(&big, 5000, ITEMS / 2);
    struct paged_tree copy;
    assert_true(paged_tree_copy(&big.tree, &copy, big.tree.table));
    assert_int_equal(paged_tree_cut_pages(&copy), paged_tree_cut_pages(&big.tree));
    assert_true(paged_tree_validate(&copy, &big.access));
    while (paged_tree_release(&copy, 100)) continue;
    assert_int_equal(paged_tree_bytes(&copy), 0);
    close_big(&big);
}

static void all_of_it_can_be_cut_off(void **state) {
    (void)state;
    struct big big;
    open_big(&big);
    assert_int_equal(cut(&big, 0, ITEMS + 7), ITEMS);
    assert_true(paged_tree_validate(&big.tree, &big.access));
    const struct paged_key key = {{1, 0}, SPAN_LITERAL("after")};
    assert_int_equal(paged_tree_insert(&big.tree, &big.access, &key, span_of("", 0)), PAGE_DONE);
    while (paged_tree_drop_cut(&big.tree, &big.access, 1000, NULL, NULL)) continue;
    assert_int_equal(page_table_live(big.tree.table), 1);
    assert_true(paged_tree_validate(&big.tree, &big.access));
    close_big(&big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_page_is_touched_until_they_are_dropped),
        cmocka_unit_test(every_item_is_in_the_tree_or_was_cut_off),
        cmocka_unit_test(a_copy_has_what_was_cut_off),
        cmocka_unit_test(all_of_it_can_be_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
