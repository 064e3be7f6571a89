/* Trees of many levels through a file: no page is read, nothing is lost, and what is damaged is found. That trees go on
 * as they should is seen in paged_tree_test.c, whose trees are saved and loaded now and then. */

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

enum { ITEMS = 100000, LEAF = 60, TAIL = 12 };

struct big {
    struct page_fixture fixture;
    struct collection collection;
    struct paged_tree tree;
    struct page_access access;
};

static const struct collection_kind kind = {.type = RECORD_SORTED_SET, .encoding = "skiplist"};
static const struct paged_tree_shape sorted_set = {.numbers = 1, .tail = true, .leaf_bytes = LEAF};
static const struct paged_tree_shape list = {.value = true, .leaf_bytes = LEAF};

/* Items are 0 .. count - 1; of leaves so small that there are many levels. */
static void open_big(struct big *big, struct paged_tree_shape shape, uint64_t count) {
    page_fixture_open(&big->fixture, (struct page_fixture_options){.reserve_bytes = 1ul << 30});
    collection_init(&big->collection, &kind);
    page_fixture_own(&big->fixture, &big->collection);
    paged_tree_init(&big->tree, &big->collection.parts[COLLECTION_TREES], shape);
    big->access = page_fixture_command(&big->fixture);
    for (uint64_t i = 0; i < count; i++) {
        struct span bytes = span_of((const char *)&(uint64_t[2]){__builtin_bswap64(i)}, TAIL);
        const struct paged_key key = {{i / 8, 0}, bytes};
        enum page_status status = shape.tail ? paged_tree_insert(&big->tree, &big->access, &key, span_of("", 0))
                                             : paged_tree_insert_at(&big->tree, &big->access, i, bytes);
        assert_int_equal(status, PAGE_DONE);
    }
}

static void close_big(struct big *big) {
    while (paged_tree_release(&big->tree, 100)) continue;
    assert_int_equal(paged_tree_bytes(&big->tree), 0);
    while (page_table_release(&big->access, big->tree.table, 1000)) continue;
    page_fixture_close(&big->fixture);
}

static struct state_writer saved(const struct big *big) {
    struct state_writer out = {0};
    paged_tree_save(&big->tree, &out);
    assert_false(out.failed);
    return out;
}

/* What the bytes say, over the same table. */
static bool load(const struct big *big, struct paged_tree *tree, const char *bytes, size_t length) {
    struct state_reader in = {.rest = span_of(bytes, length)};
    paged_tree_init(tree, big->tree.table, big->tree.shape);
    return paged_tree_load(tree, &in) && state_read_all(&in);
}

static void release(struct paged_tree *tree) {
    while (paged_tree_release(tree, 100)) continue;
    assert_int_equal(paged_tree_bytes(tree), 0);
}

/* Whether the tree leads to every page, once. No claim is left. */
static bool claims_all(const struct paged_tree *tree) {
    bool claimed = paged_tree_claim(tree);
    return page_table_end_claims(tree->table) == 0 && claimed;
}

/* The tree is given up for the one that it becomes in a file. */
static void renew(struct big *big) {
    struct state_writer out = saved(big);
    struct paged_tree loaded;
    assert_true(load(big, &loaded, out.bytes, out.length));
    state_writer_free(&out);
    while (paged_tree_release(&big->tree, 100)) continue;
    big->tree = loaded;
}

static void expect_items(struct big *big, uint64_t from, uint64_t to) {
    struct paged_tree_cursor at;
    uint64_t expected = from, number;
    assert_true(paged_tree_validate(&big->tree, &big->access));
    for (paged_tree_first(&at, &big->tree, &big->access); at.valid; paged_tree_next(&at)) {
        struct span bytes = big->tree.shape.tail ? at.item.key.tail : at.item.value;
        memcpy(&number, bytes.data, sizeof(number));
        assert_true(__builtin_bswap64(number) == expected++);
    }
    assert_true(expected == to);
}

static void a_tree_comes_back_and_no_page_is_read(void **state) {
    (void)state;
    const struct paged_tree_shape shapes[] = {sorted_set, list};
    for (unsigned i = 0; i < 2; i++) {
        struct big big;
        open_big(&big, shapes[i], ITEMS);
        page_fixture_chill(&big.fixture, big.tree.table, 100);
        uint64_t reads = big.fixture.reads;
        size_t nodes = paged_tree_bytes(&big.tree);
        renew(&big);
        assert_true(claims_all(&big.tree));
        assert_true(big.fixture.reads == reads && big.fixture.misses == 0);
        assert_true(paged_tree_bytes(&big.tree) < nodes + nodes / 10);
        big.access = page_fixture_command(&big.fixture);
        expect_items(&big, 0, ITEMS);
        close_big(&big);
    }
}

static void an_empty_tree_stays_one(void **state) {
    (void)state;
    struct big big;
    open_big(&big, sorted_set, 0);
    renew(&big);
    assert_true(paged_tree_count(&big.tree) == 0 && paged_tree_bytes(&big.tree) == 0);
    close_big(&big);
}

static void leaves_that_were_cut_off_are_dropped_afterwards(void **state) {
    (void)state;
    struct big big;
    uint64_t gone, first = 0, count = ITEMS / 2;
    open_big(&big, sorted_set, ITEMS);
    for (unsigned i = 0; i < 2; i++, first = 1000)
        assert_int_equal(paged_tree_cut_leaves(&big.tree, &big.access, first, count / 2, &gone), PAGE_DONE);
    uint64_t cut = paged_tree_cut_pages(&big.tree), left = paged_tree_count(&big.tree);
    (void)!paged_tree_drop_cut(&big.tree, &big.access, 100, NULL, NULL);
    uint32_t live = page_table_live(big.tree.table);
    renew(&big);
    assert_true(claims_all(&big.tree));
    assert_true(cut > 1000 && paged_tree_cut_pages(&big.tree) == cut - 100);
    assert_int_equal(paged_tree_count(&big.tree), left);
    assert_true(paged_tree_validate(&big.tree, &big.access));
    while (paged_tree_drop_cut(&big.tree, &big.access, 1000, NULL, NULL)) continue;
    assert_int_equal(page_table_live(big.tree.table), live - (cut - 100));
    assert_true(paged_tree_validate(&big.tree, &big.access) && claims_all(&big.tree));
    close_big(&big);
}

/* ---- damage ---- */

static void what_is_cut_short_is_refused(void **state) {
    (void)state;
    struct big big;
    struct paged_tree loaded;
    open_big(&big, sorted_set, 200);
    struct state_writer out = saved(&big);
    for (size_t length = 0; length < out.length; length++) {
        assert_false(load(&big, &loaded, out.bytes, length));
        release(&loaded);
    }
    state_writer_free(&out);
    close_big(&big);
}

/* A changed number of items, or a separator that still is in order, cannot be known; a page that is not the leaf's is.
 */
static void whatever_bytes_say_makes_a_tree_or_none(void **state) {
    (void)state;
    struct big big;
    unsigned trees = 0;
    open_big(&big, sorted_set, 500);
    page_fixture_chill(&big.fixture, big.tree.table, 100);
    big.fixture.options.missing_percent = 100;
    struct state_writer out = saved(&big);
    for (size_t i = 0; i < out.length; i++) {
        struct paged_tree loaded;
        char byte = out.bytes[i];
        out.bytes[i] = (char)(byte ^ (1 << i % 8));
        if (load(&big, &loaded, out.bytes, out.length) && claims_all(&loaded)) {
            struct page_access access = page_fixture_command(&big.fixture);
            assert_true(paged_tree_validate(&loaded, &access));
            trees++;
        }
        release(&loaded);
        out.bytes[i] = byte;
    }
    assert_true(trees > 0 && trees < out.length / 2);
    state_writer_free(&out);
    big.fixture.options.missing_percent = 0;
    big.access = page_fixture_command(&big.fixture);
    close_big(&big);
}

static void state_of_leaf(struct state_writer *out, uint16_t items, uint32_t page) {
    state_write_u16(out, items);
    state_write_u32(out, page);
}

/* Rows of a list: items and pages of leaves, those that were cut off behind the `cut` first ones. */
static bool rows_make_a_tree(struct big *big, const uint32_t (*rows)[2], unsigned count, unsigned cut) {
    struct state_writer out = {0};
    struct paged_tree loaded;
    for (unsigned i = 0; i < count; i++) {
        if (i == cut) state_write_u16(&out, 0);
        state_of_leaf(&out, (uint16_t)rows[i][0], rows[i][1]);
    }
    if (count == cut) state_write_u16(&out, 0);
    state_write_u16(&out, 0);
    bool good = load(big, &loaded, out.bytes, out.length);
    good = good && claims_all(&loaded);
    release(&loaded);
    state_writer_free(&out);
    return good;
}

static void pages_and_leaves_have_to_fit(void **state) {
    (void)state;
    struct big big;
    open_big(&big, list, 12);
    assert_int_equal(page_table_live(big.tree.table), 3);
    static const uint32_t good[][2] = {{3, 0}, {3, 1}, {2, 2}}, twice[][2] = {{3, 0}, {3, 1}, {2, 2}, {2, 1}},
                          few[][2] = {{3, 0}, {3, 1}}, many[][2] = {{3, 0}, {3, 1}, {2, 2}, {2, 3}},
                          full[][2] = {{3, 0}, {LEAF_ITEMS_MAX + 1, 1}, {2, 2}};
    assert_true(rows_make_a_tree(&big, good, 3, 3));
    assert_true(rows_make_a_tree(&big, good, 3, 1));
    assert_false(rows_make_a_tree(&big, twice, 4, 4));
    assert_false(rows_make_a_tree(&big, twice, 4, 3)); /* of the tree, and cut off */
    assert_false(rows_make_a_tree(&big, few, 2, 2));
    assert_false(rows_make_a_tree(&big, many, 4, 4));
    assert_false(rows_make_a_tree(&big, full, 3, 3));
    assert_true(rows_make_a_tree(&big, good, 3, 3)); /* none of these has left a claim */
    close_big(&big);
}

static void separators_have_to_ascend(void **state) {
    (void)state;
    struct big big;
    open_big(&big, sorted_set, 9);
    assert_int_equal(page_table_live(big.tree.table), 3);
    for (uint64_t second = 4; second <= 6; second++) {
        struct state_writer out = {0};
        struct paged_tree loaded;
        for (uint32_t i = 0; i < 3; i++) {
            state_of_leaf(&out, 3, i);
            if (i == 0) continue;
            state_write_u64(&out, i == 1 ? 5 : second);
            state_write_u32(&out, 1);
            state_write_u8(&out, 'x');
        }
        state_write_u32(&out, 0);
        assert_true(load(&big, &loaded, out.bytes, out.length) == (second > 5));
        release(&loaded);
        state_writer_free(&out);
    }
    close_big(&big);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_comes_back_and_no_page_is_read),
        cmocka_unit_test(an_empty_tree_stays_one),
        cmocka_unit_test(leaves_that_were_cut_off_are_dropped_afterwards),
        cmocka_unit_test(what_is_cut_short_is_refused),
        cmocka_unit_test(whatever_bytes_say_makes_a_tree_or_none),
        cmocka_unit_test(pages_and_leaves_have_to_fit),
        cmocka_unit_test(separators_have_to_ascend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
