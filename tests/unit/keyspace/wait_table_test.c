/* The queues of awaited keys, without anybody who waits. */

#include "keyspace/wait_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { MANY = 100 };

static struct wait_figures figures;

static void add(struct wait_table **table, uint32_t database, const char *name, struct wait_node *node) {
    assert_true(wait_add(table, &figures, database, 7, span_of_text(name), node));
}

static void queues_keep_the_order_and_go_with_their_last_node(void **state) {
    (void)state;
    struct wait_table *table = NULL;
    struct wait_node nodes[3] = {{.is_spread = true}, {.wants_absence = true}, {0}};
    for (unsigned i = 0; i < 3; i++) add(&table, 0, "k", &nodes[i]);
    struct wait_key *key = wait_find(table, NULL, 7, SPAN_LITERAL("k"));
    assert_non_null(key);
    assert_null(wait_find(table, key, 7, SPAN_LITERAL("k")));
    assert_ptr_equal(key->first, &nodes[0]);
    assert_ptr_equal(key->first->next, &nodes[1]);
    assert_ptr_equal(key->last, &nodes[2]);
    assert_int_equal(key->spread_count, 1);
    assert_int_equal(atomic_load(&figures.keys_of_absence), 1);
    wait_remove(&table, &nodes[1]);
    wait_remove(&table, &nodes[1]);
    assert_ptr_equal(key->first->next, &nodes[2]);
    assert_int_equal(atomic_load(&figures.keys_of_absence), 0);
    wait_remove(&table, &nodes[0]);
    wait_remove(&table, &nodes[2]);
    assert_null(table);
    assert_int_equal(atomic_load(&figures.keys), 0);
}

static void a_key_that_is_gone_through_stays_and_its_cursor_moves_on(void **state) {
    (void)state;
    struct wait_table *table = NULL;
    struct wait_node nodes[3] = {0};
    for (unsigned i = 0; i < 3; i++) add(&table, 0, "k", &nodes[i]);
    struct wait_key *key = nodes[0].key;
    wait_hold(key);
    key->cursor = &nodes[1];
    wait_remove(&table, &nodes[1]);
    assert_ptr_equal(key->cursor, &nodes[2]);
    wait_remove(&table, &nodes[2]);
    assert_null(key->cursor);
    wait_remove(&table, &nodes[0]);
    assert_non_null(table);
    wait_release(&table, key);
    assert_null(table);
}

static void marks_are_taken_once_and_in_order(void **state) {
    (void)state;
    struct wait_table *table = NULL;
    struct wait_node nodes[4] = {{0}, {0}, {.wants_absence = true}, {0}};
    const char *const names[] = {"a", "b", "c", "a"};
    for (unsigned i = 0; i < 4; i++) add(&table, i == 3, names[i], &nodes[i]);
    wait_mark(NULL, 0, 7, SPAN_LITERAL("a"));
    wait_mark(table, 0, 7, SPAN_LITERAL("none"));
    assert_false(wait_is_any_marked(&figures));
    wait_mark(table, 0, 7, SPAN_LITERAL("b"));
    wait_mark(table, 0, 7, SPAN_LITERAL("a"));
    wait_mark(table, 0, 7, SPAN_LITERAL("b"));
    assert_true(wait_is_any_marked(&figures));
    assert_ptr_equal(table->first_ready, nodes[1].key);
    assert_ptr_equal(table->first_ready->next_ready, nodes[0].key);
    assert_null(table->first_ready->next_ready->next_ready);
    wait_unmark(table, nodes[1].key);
    wait_remove(&table, &nodes[0]); /* takes its mark along */
    assert_false(wait_is_any_marked(&figures));
    wait_mark_database(table, 0, true);
    assert_ptr_equal(table->first_ready, nodes[2].key);
    assert_ptr_equal(table->last_ready, nodes[2].key);
    wait_mark_database(table, 1, false);
    assert_ptr_equal(table->last_ready, nodes[3].key);
    for (unsigned i = 1; i < 4; i++) wait_remove(&table, &nodes[i]);
    assert_null(table);
    assert_false(wait_is_any_marked(&figures));
}

static void many_keys_are_all_found(void **state) {
    (void)state;
    struct wait_table *table = NULL;
    static struct wait_node nodes[MANY];
    char name[16];
    for (unsigned i = 0; i < MANY; i++)
        assert_true(
            wait_add(&table, &figures, 0, i * 31, span_of(name, (size_t)snprintf(name, 16, "%u", i)), &nodes[i]));
    for (unsigned i = 0; i < MANY; i++) {
        struct span text = span_of(name, (size_t)snprintf(name, 16, "%u", i));
        assert_ptr_equal(wait_find(table, NULL, i * 31, text), nodes[i].key);
    }
    for (unsigned i = 0; i < MANY; i++) wait_remove(&table, &nodes[i]);
    assert_null(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queues_keep_the_order_and_go_with_their_last_node),
        cmocka_unit_test(a_key_that_is_gone_through_stays_and_its_cursor_moves_on),
        cmocka_unit_test(marks_are_taken_once_and_in_order),
        cmocka_unit_test(many_keys_are_all_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
