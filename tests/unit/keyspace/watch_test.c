/* Watched keys: who becomes dirty when a key changes, expires, or its database is flushed. */

#include "base/random.h"
#include "keyspace/key_hash.h"
#include "keyspace/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { WATCHERS = 20, KEYS = 200, DATABASES = 3 };

static uint64_t hash_of(struct span key) {
    return key_hash(key, 5);
}

static void add(struct watch_table *table, struct watcher *watcher, uint32_t database, struct span key, bool expired) {
    assert_true(watch_add(table, watcher, 0, database, hash_of(key), key, expired));
}

static void touch(struct watch_table *table, uint32_t database, struct span key, bool expired) {
    watch_touch(table, database, hash_of(key), key, expired);
}

static bool is_dirty(const struct watcher *watcher) {
    return atomic_load(&watcher->dirty);
}

static void end(struct watch_table *table, struct watcher *watcher) {
    for (struct watch_entry *entry = watcher->entries, *next; entry; entry = next) {
        next = entry->next_of_owner;
        watch_remove(table, entry);
    }
    watcher->entries = NULL;
    atomic_store(&watcher->dirty, false);
}

static void a_change_makes_the_watchers_of_the_key_dirty(void **state) {
    (void)state;
    struct watch_table table = {0};
    struct watcher first = {0}, second = {0}, third = {0};
    add(&table, &first, 0, SPAN_LITERAL("key"), false);
    add(&table, &second, 0, SPAN_LITERAL("key"), false);
    add(&table, &third, 0, SPAN_LITERAL("other"), false);
    touch(&table, 0, SPAN_LITERAL("nobody's"), false);
    touch(&table, 1, SPAN_LITERAL("key"), false);
    assert_false(is_dirty(&first) || is_dirty(&second) || is_dirty(&third));
    touch(&table, 0, SPAN_LITERAL("key"), false);
    assert_true(is_dirty(&first) && is_dirty(&second));
    assert_false(is_dirty(&third));
    assert_int_equal(table.keys, 2);
    end(&table, &first);
    assert_int_equal(table.keys, 2);
    end(&table, &second);
    assert_int_equal(table.keys, 1);
    end(&table, &third);
    assert_int_equal(table.keys, 0);
    assert_int_equal(table.count, 0);
    assert_null(table.chains);
}

static void keys_are_compared_not_only_their_hashes(void **state) {
    (void)state;
    struct watch_table table = {0};
    struct watcher watcher = {0};
    assert_true(watch_add(&table, &watcher, 0, 0, 42, SPAN_LITERAL("a\0b"), false));
    watch_touch(&table, 0, 42, SPAN_LITERAL("a\0c"), false);
    watch_touch(&table, 0, 42, SPAN_LITERAL("a"), false);
    assert_false(is_dirty(&watcher));
    assert_null(watch_find(&watcher, 0, 42, SPAN_LITERAL("a")));
    assert_non_null(watch_find(&watcher, 0, 42, SPAN_LITERAL("a\0b")));
    assert_null(watch_find(&watcher, 1, 42, SPAN_LITERAL("a\0b")));
    end(&table, &watcher);
}

static void a_key_that_had_expired_may_be_removed_once(void **state) {
    (void)state;
    struct watch_table table = {0};
    struct watcher expired = {0}, live = {0};
    add(&table, &expired, 0, SPAN_LITERAL("key"), true);
    add(&table, &live, 0, SPAN_LITERAL("key"), false);
    touch(&table, 0, SPAN_LITERAL("key"), true);
    assert_false(is_dirty(&expired));
    assert_true(is_dirty(&live));
    touch(&table, 0, SPAN_LITERAL("key"), true);
    assert_true(is_dirty(&expired));
    end(&table, &expired);
    end(&table, &live);
    add(&table, &expired, 0, SPAN_LITERAL("key"), true);
    touch(&table, 0, SPAN_LITERAL("key"), false);
    assert_true(is_dirty(&expired));
    end(&table, &expired);
}

static bool begins_with_a(void *ctx, struct watch_entry *entry) {
    ++*(unsigned *)ctx;
    return entry->key_length > 0 && entry->key[0] == 'a';
}

static void a_database_is_visited_entry_by_entry(void **state) {
    (void)state;
    struct watch_table table = {0};
    struct watcher watchers[4] = {0};
    unsigned visits = 0;
    watch_touch_database(&table, 0, begins_with_a, &visits);
    assert_int_equal(visits, 0);
    add(&table, &watchers[0], 0, SPAN_LITERAL("apple"), false);
    add(&table, &watchers[1], 0, SPAN_LITERAL("pear"), false);
    add(&table, &watchers[2], 1, SPAN_LITERAL("apple"), false);
    add(&table, &watchers[3], 0, SPAN_LITERAL("pear"), false);
    add(&table, &watchers[3], 0, SPAN_LITERAL("almond"), false);
    watch_touch_database(&table, 0, begins_with_a, &visits);
    assert_int_equal(visits, 4);
    assert_true(is_dirty(&watchers[0]) && is_dirty(&watchers[3]));
    assert_false(is_dirty(&watchers[1]) || is_dirty(&watchers[2]));
    for (unsigned i = 0; i < 4; i++) end(&table, &watchers[i]);
}

/* Who watches what, as a matrix. */
static void random_watches_agree_with_a_matrix(void **state) {
    (void)state;
    static bool watches[WATCHERS][DATABASES][KEYS], dirty[WATCHERS];
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_seed(&random, seed);
    struct watch_table table = {0};
    struct watcher watchers[WATCHERS] = {0};
    uint32_t count = 0;
    for (unsigned step = 0; step < 100000; step++) {
        unsigned who = (unsigned)random_below(&random, WATCHERS), number = (unsigned)random_below(&random, KEYS);
        uint32_t database = (uint32_t)random_below(&random, DATABASES);
        char text[16];
        struct span key = span_of(text, (size_t)snprintf(text, sizeof(text), "k%u", number));
        struct watch_entry *entry = watch_find(&watchers[who], database, hash_of(key), key);
        assert_int_equal(entry != NULL, watches[who][database][number]);
        if (random_once_in(&random, 3)) {
            touch(&table, database, key, false);
            for (unsigned i = 0; i < WATCHERS; i++) dirty[i] |= watches[i][database][number];
        } else if (random_once_in(&random, 50)) {
            for (struct watch_entry *own = watchers[who].entries; own; own = own->next_of_owner) count--;
            end(&table, &watchers[who]);
            memset(watches[who], 0, sizeof(watches[who]));
            dirty[who] = false;
        } else if (!entry) {
            add(&table, &watchers[who], database, key, false);
            watches[who][database][number] = true;
            count++;
        }
        assert_int_equal(table.count, count);
        for (unsigned i = 0; i < WATCHERS; i++) assert_int_equal(is_dirty(&watchers[i]), dirty[i]);
    }
    for (unsigned i = 0; i < WATCHERS; i++) end(&table, &watchers[i]);
    assert_null(table.chains);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_makes_the_watchers_of_the_key_dirty),
        cmocka_unit_test(keys_are_compared_not_only_their_hashes),
        cmocka_unit_test(a_key_that_had_expired_may_be_removed_once),
        cmocka_unit_test(a_database_is_visited_entry_by_entry),
        cmocka_unit_test(random_watches_agree_with_a_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
