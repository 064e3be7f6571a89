/* Eviction: who goes under which rule, how close sampling comes to knowing the coldest, and that nothing else is
 * touched. */

#include "keyspace/keyspace_evict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 30000, NOW_MS = 1000000000 };

struct fixture {
    struct keyspace *keyspace;
    struct view view;
    struct eviction_pool pool;
    struct random random;
    struct eviction eviction;
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->keyspace = keyspace_create(&(struct keyspace_options){.shards = 16, .seed = 5});
    fixture->view = (struct view){.keyspace = fixture->keyspace, .now_ms = NOW_MS, .keep_access = true};
    random_seed(&fixture->random, 17);
    fixture->eviction = (struct eviction){
        .keyspace = fixture->keyspace, .pool = &fixture->pool, .random = &fixture->random, .now_ms = NOW_MS};
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    assert_true(keyspace_validate(fixture->keyspace));
    keyspace_destroy(fixture->keyspace);
    free(fixture);
    return 0;
}

static struct key key_of(const struct fixture *fixture, unsigned i, char text[32]) {
    return keyspace_key(fixture->keyspace, span_of(text, (size_t)snprintf(text, 32, "key:%u", i)));
}

static void store(struct fixture *fixture, unsigned i, size_t bytes, int64_t expiry_ms, uint32_t access) {
    char text[32], *value = calloc(1, bytes);
    struct key key = key_of(fixture, i, text);
    struct lookup lookup = keyspace_find(&fixture->view, &key);
    struct record_plan plan = {.type = RECORD_STRING, .value = span_of(value, bytes), .expiry_ms = expiry_ms};
    assert_true(keyspace_store(&fixture->view, &key, &lookup, &plan));
    lookup = keyspace_find(&fixture->view, &key);
    record_set_access(lookup.record, access);
    free(value);
}

static bool exists(struct fixture *fixture, unsigned i) {
    char text[32];
    struct key key = key_of(fixture, i, text);
    return keyspace_find(&fixture->view, &key).record != NULL;
}

/* Key i has been idle for KEYS - i seconds: the lower the number the colder. */
static void fill_by_age(struct fixture *fixture) {
    for (unsigned i = 0; i < KEYS; i++)
        store(fixture, i, 32, RECORD_EXPIRY_NONE, access_from_idle_seconds(KEYS - i, NOW_MS));
}

static void evict(struct fixture *fixture, struct eviction_rule rule, unsigned count) {
    for (unsigned i = 0; i < count; i++) assert_true(keyspace_evict(&fixture->eviction, &rule).bytes > 0);
}

/* The share of the coldest third that goes when as many as it has are evicted. */
static double share_of_coldest_third(struct fixture *fixture, unsigned samples) {
    unsigned gone = 0;
    fill_by_age(fixture);
    evict(fixture, (struct eviction_rule){EVICT_BY_IDLE_TIME, false, samples}, KEYS / 3);
    for (unsigned i = 0; i < KEYS / 3; i++) gone += !exists(fixture, i);
    return (double)gone / (KEYS / 3);
}

/* The scheme that this one is measured by, as Redis publishes it, on plain numbers: samples drawn evenly from all keys,
 * the best of them kept in a pool of sixteen, the best of the pool evicted. Key i is the colder the lower i. */
struct model {
    unsigned alive[KEYS], place[KEYS], count; /* keys in any order, and where in it each is */
    bool gone[KEYS];
    unsigned pool[EVICTION_POOL], pooled; /* warmest first */
};

static void model_offer(struct model *model, unsigned key) {
    unsigned at = 0;
    for (unsigned i = 0; i < model->pooled; i++)
        if (model->pool[i] == key) return;
    while (at < model->pooled && model->pool[at] > key) at++;
    if (model->pooled < EVICTION_POOL) {
        memmove(model->pool + at + 1, model->pool + at, (model->pooled - at) * sizeof(unsigned));
        model->pool[at] = key;
        model->pooled++;
    } else if (at > 0) {
        memmove(model->pool, model->pool + 1, (at - 1) * sizeof(unsigned));
        model->pool[at - 1] = key;
    }
}

static void model_evict(struct model *model, struct random *random, unsigned samples) {
    for (unsigned i = 0; i < samples; i++) model_offer(model, model->alive[random_below(random, model->count)]);
    unsigned key = model->pool[--model->pooled], last = model->alive[--model->count];
    model->gone[key] = true;
    model->alive[model->place[key]] = last;
    model->place[last] = model->place[key];
}

static double share_of_model(unsigned samples) {
    struct model *model = calloc(1, sizeof(*model));
    struct random random;
    unsigned gone = 0;
    random_seed(&random, 23);
    for (unsigned i = 0; i < KEYS; i++) model->alive[i] = model->place[i] = i;
    model->count = KEYS;
    for (unsigned i = 0; i < KEYS / 3; i++) model_evict(model, &random, samples);
    for (unsigned i = 0; i < KEYS / 3; i++) gone += model->gone[i];
    free(model);
    return (double)gone / (KEYS / 3);
}

static void compare_with_model(struct fixture *fixture, unsigned samples) {
    double own = share_of_coldest_third(fixture, samples), model = share_of_model(samples);
    print_message("%u samples: %.3f of the coldest third, the model %.3f\n", samples, own, model);
    assert_true(own > model - 0.02);
}

static void five_samples_know_the_coldest_as_well_as_the_model(void **state) {
    compare_with_model(*state, 5);
}

static void ten_samples_know_the_coldest_as_well_as_the_model(void **state) {
    compare_with_model(*state, 10);
}

static void the_least_used_go(void **state) {
    struct fixture *fixture = *state;
    unsigned hot = 0;
    fixture->keyspace->access.frequency = true;
    for (unsigned i = 0; i < KEYS; i++)
        store(fixture, i, 32, RECORD_EXPIRY_NONE, access_from_frequency(i % 3 ? 5 : 100, NOW_MS));
    evict(fixture, (struct eviction_rule){EVICT_BY_FREQUENCY, false, 5}, KEYS / 3);
    for (unsigned i = 0; i < KEYS; i += 3) hot += exists(fixture, i);
    assert_true(hot > KEYS / 3 * 98 / 100);
}

static void the_soonest_to_expire_go(void **state) {
    struct fixture *fixture = *state;
    unsigned late = 0;
    for (unsigned i = 0; i < KEYS; i++) store(fixture, i, 32, NOW_MS + 1000 + (int64_t)i * 1000, 0);
    evict(fixture, (struct eviction_rule){EVICT_BY_EXPIRY, true, 10}, KEYS / 4);
    for (unsigned i = KEYS / 2; i < KEYS; i++) late += exists(fixture, i);
    assert_true(late > KEYS / 2 * 99 / 100);
}

static void chance_spares_no_part(void **state) {
    struct fixture *fixture = *state;
    unsigned low = 0;
    fill_by_age(fixture);
    evict(fixture, (struct eviction_rule){EVICT_AT_RANDOM, false, 1}, KEYS / 2);
    for (unsigned i = 0; i < KEYS / 2; i++) low += exists(fixture, i);
    assert_in_range(low, KEYS / 4 - KEYS / 40, KEYS / 4 + KEYS / 40);
}

static void keys_without_expiry_stay_and_the_last_volatile_one_is_found(void **state) {
    struct fixture *fixture = *state;
    struct eviction_rule rule = {EVICT_BY_IDLE_TIME, true, 5};
    for (unsigned i = 0; i < KEYS; i++) store(fixture, i, 32, i % 3000 ? RECORD_EXPIRY_NONE : NOW_MS + 1000000, 0);
    unsigned evicted = 0;
    struct evicted last = {0};
    for (unsigned try = 0; try < 1000 && !last.exhausted; try++) {
        last = keyspace_evict(&fixture->eviction, &rule);
        evicted += last.bytes > 0;
    }
    assert_true(last.exhausted);
    assert_int_equal(evicted, KEYS / 3000);
    for (unsigned i = 0; i < KEYS; i++) assert_int_equal(exists(fixture, i), i % 3000 != 0);
}

static void an_empty_keyspace_is_exhausted(void **state) {
    struct fixture *fixture = *state;
    struct evicted evicted = keyspace_evict(&fixture->eviction, &(struct eviction_rule){EVICT_BY_IDLE_TIME, false, 5});
    assert_int_equal(evicted.bytes, 0);
    assert_true(evicted.exhausted);
}

static unsigned count_below(struct fixture *fixture, unsigned end) {
    unsigned count = 0;
    for (unsigned i = 0; i < end; i++) count += exists(fixture, i);
    return count;
}

static void a_record_used_since_it_was_drawn_is_spared(void **state) {
    struct fixture *fixture = *state;
    struct eviction_rule rule = {EVICT_BY_IDLE_TIME, false, 5};
    for (unsigned i = 0; i < 400; i++)
        store(fixture, i, 32, RECORD_EXPIRY_NONE, access_from_idle_seconds(1000 + i, NOW_MS));
    evict(fixture, rule, 1);
    assert_true(fixture->pool.count >= 3);
    /* All of them are used, those in the pool too; others are colder now, though not as cold as the pool remembers. */
    for (unsigned i = 0; i < 400; i++)
        if (exists(fixture, i)) store(fixture, i, 32, RECORD_EXPIRY_NONE, access_from_idle_seconds(0, NOW_MS));
    for (unsigned i = 400; i < 800; i++)
        store(fixture, i, 32, RECORD_EXPIRY_NONE, access_from_idle_seconds(500, NOW_MS));
    unsigned before = count_below(fixture, 400);
    evict(fixture, rule, 3);
    assert_true(count_below(fixture, 400) + 1 >= before);
}

static void watchers_are_told_and_the_count_is_kept(void **state) {
    struct fixture *fixture = *state;
    struct watcher watcher = {0};
    char text[32];
    store(fixture, 1, 32, RECORD_EXPIRY_NONE, 0);
    struct key key = key_of(fixture, 1, text);
    struct shard *shard = &fixture->keyspace->shards[key.shard];
    assert_true(watch_add(&shard->watches, &watcher, key.shard, 0, key.hash, key.name, false));
    evict(fixture, (struct eviction_rule){EVICT_AT_RANDOM, false, 1}, 1);
    assert_true(atomic_load(&watcher.dirty));
    assert_int_equal(shard->counters.evicted, 1);
    struct watch_entry *entry = watcher.entries;
    watch_remove(&shard->watches, entry);
}

static void a_large_value_is_freed_in_pieces(void **state) {
    struct fixture *fixture = *state;
    fixture->eviction.detach_bytes = 4 << 20;
    store(fixture, 1, 20 << 20, RECORD_EXPIRY_NONE, 0);
    struct evicted evicted = keyspace_evict(&fixture->eviction, &(struct eviction_rule){EVICT_AT_RANDOM, false, 1});
    assert_true(evicted.bytes >= 20 << 20);
    assert_non_null(evicted.detached);
    assert_false(exists(fixture, 1));
    unsigned steps = 1;
    while (!keyspace_free_detached(fixture->keyspace, evicted.shard, &evicted.detached, 2 << 20)) steps++;
    assert_in_range(steps, 9, 12);
    assert_int_equal(fixture->keyspace->shards[evicted.shard].heap.sums.live_bytes, 0);
}

/* One key after the other, in shard after shard of database after database: what one index needs is enough for all. */
static void an_index_that_is_emptied_is_the_next_shards(void **state) {
    struct fixture *fixture = *state;
    size_t live = 0, most = 0;
    for (unsigned i = 0; i < 500; i++) {
        fixture->view.database = i % 16;
        store(fixture, i, 8, RECORD_EXPIRY_NONE, 1);
        struct keyspace_usage usage;
        keyspace_usage(&fixture->view, &usage);
        if (i == 0) live = usage.segment_bytes;
        if (usage.segment_bytes > most) most = usage.segment_bytes;
        evict(fixture, (struct eviction_rule){EVICT_AT_RANDOM, false, 1}, 1);
        assert_false(exists(fixture, i));
    }
    fixture->view.database = 0;
    assert_true(live > 0);
    assert_int_equal(most, live);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(five_samples_know_the_coldest_as_well_as_the_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ten_samples_know_the_coldest_as_well_as_the_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_least_used_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_soonest_to_expire_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(chance_spares_no_part, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_without_expiry_stay_and_the_last_volatile_one_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_keyspace_is_exhausted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_used_since_it_was_drawn_is_spared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(watchers_are_told_and_the_count_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_large_value_is_freed_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_index_that_is_emptied_is_the_next_shards, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
