/* The keyspace under several threads: sums that only correct locking keeps, while indexes grow and shrink, prefetches
 * read them without a lock, and the background work goes on. */

#include "base/random.h"
#include "keyspace/keyspace.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { THREADS = 4, STEPS = 12000, ACCOUNTS = 64, COUNTERS = 16, NOISE_KEYS = 4000, SHARDS = 8, BALANCE = 1000 };

/* Database 0: accounts (their sum stays) and counters; 1: noise that comes and goes; 2: volatile noise; 3: flushed. */

struct shared {
    struct keyspace *keyspace;
    uint64_t seed;
    atomic_bool done;
    atomic_uint increments;
};

struct worker {
    struct shared *shared;
    unsigned number;
    struct random random;
    pthread_t thread;
};

static struct view view_of(struct shared *shared, uint32_t database, int64_t now_ms) {
    return (struct view){.keyspace = shared->keyspace, .database = database, .now_ms = now_ms, .random = 1};
}

static struct key key_of(struct shared *shared, const char *kind, unsigned number, char text[32]) {
    return keyspace_key(shared->keyspace, span_of(text, (size_t)snprintf(text, 32, "%s:%u", kind, number)));
}

static void lock_two(struct keyspace *keyspace, uint32_t a, uint32_t b) {
    keyspace_lock(keyspace, a < b ? a : b);
    if (a != b) keyspace_lock(keyspace, a < b ? b : a);
}

static void unlock_two(struct keyspace *keyspace, uint32_t a, uint32_t b) {
    keyspace_unlock(keyspace, a);
    if (a != b) keyspace_unlock(keyspace, b);
}

static void add(const struct view *view, const struct key *key, int64_t amount) {
    struct lookup lookup = keyspace_find_for_write(view, key);
    int64_t value = (lookup.record ? record_integer(lookup.record) : 0) + amount;
    struct record_plan plan = {.type = RECORD_STRING,
                               .encoding = record_integer_encoding(value),
                               .integer = value,
                               .expiry_ms = RECORD_EXPIRY_NONE};
    if (!keyspace_store(view, key, &lookup, &plan)) abort();
}

static int64_t value_of(const struct view *view, const struct key *key) {
    struct lookup lookup = keyspace_read(view, key);
    return lookup.record ? record_integer(lookup.record) : 0;
}

static void transfer(struct worker *worker) {
    struct shared *shared = worker->shared;
    char text[2][32];
    struct key from = key_of(shared, "account", (unsigned)random_below(&worker->random, ACCOUNTS), text[0]);
    struct key to = key_of(shared, "account", (unsigned)random_below(&worker->random, ACCOUNTS), text[1]);
    struct view view = view_of(shared, 0, 1000);
    int64_t amount = random_between(&worker->random, -100000, 100000);
    lock_two(shared->keyspace, from.shard, to.shard);
    add(&view, &from, -amount);
    add(&view, &to, amount);
    unlock_two(shared->keyspace, from.shard, to.shard);
}

static void count(struct worker *worker) {
    struct shared *shared = worker->shared;
    char text[32];
    struct key key = key_of(shared, "counter", (unsigned)random_below(&worker->random, COUNTERS), text);
    struct view view = view_of(shared, 0, 1000);
    keyspace_lock(shared->keyspace, key.shard);
    add(&view, &key, 1);
    keyspace_unlock(shared->keyspace, key.shard);
    atomic_fetch_add(&shared->increments, 1);
}

/* Records come and go, so that indexes grow, split, shrink and retire their memory. */
static void make_noise(struct worker *worker, uint32_t database) {
    struct shared *shared = worker->shared;
    static const char filler[600];
    char text[32];
    struct key key = key_of(shared, "noise", (unsigned)random_below(&worker->random, NOISE_KEYS), text);
    struct view view = view_of(shared, database, 1000 + (int64_t)random_below(&worker->random, 100));
    keyspace_lock(shared->keyspace, key.shard);
    struct lookup lookup = keyspace_find_for_write(&view, &key);
    if (lookup.record && random_once_in(&worker->random, 2)) {
        keyspace_remove(&view, &key, &lookup);
    } else {
        struct record_plan plan = {.type = RECORD_STRING,
                                   .value = span_of(filler, random_below(&worker->random, 600)),
                                   .expiry_ms = database == 2 ? 1050 + (int64_t)random_below(&worker->random, 100)
                                                              : RECORD_EXPIRY_NONE};
        if (!keyspace_store(&view, &key, &lookup, &plan)) abort();
    }
    keyspace_unlock(shared->keyspace, key.shard);
}

/* What dispatch does before it locks. */
static void prefetch(struct worker *worker) {
    struct shared *shared = worker->shared;
    for (unsigned i = 0; i < 32; i++) {
        char text[32];
        struct key key = key_of(shared, "noise", (unsigned)random_below(&worker->random, NOISE_KEYS), text);
        struct index **slot = &shared->keyspace->shards[key.shard].databases[1 + i % 3];
        const struct index *index = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
        if (!index) continue;
        index_prefetch_record(index_prefetch_bucket(index, key.hash), true);
    }
}

static void *work(void *arg) {
    struct worker *worker = arg;
    for (unsigned step = 0; step < STEPS; step++) {
        if (step % 64 == 0) retire_offline(worker->shared->keyspace->retired, worker->number);
        if (step % 16 == 0) retire_online(worker->shared->keyspace->retired, worker->number);
        switch (random_below(&worker->random, 8)) {
        case 0:
        case 1: transfer(worker); break;
        case 2: count(worker); break;
        case 3: make_noise(worker, 3); break;
        case 4: make_noise(worker, 2); break;
        case 5: prefetch(worker); break;
        default: make_noise(worker, 1); break;
        }
    }
    retire_offline(worker->shared->keyspace->retired, worker->number);
    return NULL;
}

static void see(void *ctx, const struct record *record) {
    *(size_t *)ctx += record_key(record).length;
}

static void *maintain(void *arg) {
    struct worker *worker = arg;
    struct shared *shared = worker->shared;
    size_t seen = 0;
    while (!atomic_load(&shared->done)) {
        uint32_t shard = (uint32_t)random_below(&worker->random, SHARDS);
        struct view view = view_of(shared, 3, 1100);
        (void)keyspace_sweep(shared->keyspace, shard, 1100, 20000, NULL);
        (void)keyspace_compact(shared->keyspace, shard, 100);
        (void)keyspace_drain(shared->keyspace, shard, 20000);
        if (random_once_in(&worker->random, 20)) keyspace_flush(&view);
        view.database = 1;
        uint64_t cursor = keyspace_scan(&view, random_next(&worker->random) >> 11, 20, NULL, see, &seen);
        (void)cursor;
        (void)keyspace_random(&view, random_next(&worker->random), see, NULL, &seen);
        (void)keyspace_database_size(&view);
        struct keyspace_usage usage;
        keyspace_usage(&view, &usage);
        for (unsigned i = 0; i < shared->keyspace->pool_count; i++)
            region_pool_purge(shared->keyspace->pools[i], 0, REGION_BYTES);
        retire_collect(shared->keyspace->retired);
    }
    return NULL;
}

/* Under all locks, now and then: no transfer is ever seen half done. */
static void *audit(void *arg) {
    struct worker *worker = arg;
    struct shared *shared = worker->shared;
    char text[32];
    while (!atomic_load(&shared->done)) {
        struct view view = view_of(shared, 0, 1000);
        int64_t sum = 0;
        for (uint32_t i = 0; i < SHARDS; i++) keyspace_lock(shared->keyspace, i);
        for (unsigned i = 0; i < ACCOUNTS; i++) {
            struct key key = key_of(shared, "account", i, text);
            sum += value_of(&view, &key);
        }
        for (uint32_t i = 0; i < SHARDS; i++) keyspace_unlock(shared->keyspace, i);
        if (sum != ACCOUNTS * BALANCE) abort();
    }
    return NULL;
}

static void start(struct worker *worker, struct shared *shared, unsigned number, void *(*body)(void *)) {
    *worker = (struct worker){.shared = shared, .number = number};
    random_seed(&worker->random, shared->seed + number);
    pthread_create(&worker->thread, NULL, body, worker);
}

static void sums_survive_many_threads(void **state) {
    (void)state;
    static struct shared shared;
    struct worker workers[THREADS], background, auditor;
    char text[32];
    shared.seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)shared.seed);
    const struct keyspace_options options = {.shards = SHARDS, .databases = 4, .locking = true, .seed = shared.seed};
    shared.keyspace = keyspace_create(&options);
    struct view view = view_of(&shared, 0, 1000);
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct key key = key_of(&shared, "account", i, text);
        add(&view, &key, BALANCE);
    }
    for (unsigned i = 0; i < THREADS; i++) start(&workers[i], &shared, i, work);
    start(&background, &shared, THREADS, maintain);
    start(&auditor, &shared, THREADS + 1, audit);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
    atomic_store(&shared.done, true);
    pthread_join(background.thread, NULL);
    pthread_join(auditor.thread, NULL);
    int64_t accounts = 0, counters = 0;
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct key key = key_of(&shared, "account", i, text);
        accounts += value_of(&view, &key);
    }
    for (unsigned i = 0; i < COUNTERS; i++) {
        struct key key = key_of(&shared, "counter", i, text);
        counters += value_of(&view, &key);
    }
    assert_int_equal(accounts, ACCOUNTS * BALANCE);
    assert_int_equal(counters, atomic_load(&shared.increments));
    assert_true(keyspace_validate(shared.keyspace));
    assert_int_equal(retire_collect(shared.keyspace->retired), 0);
    keyspace_destroy(shared.keyspace);
}

/* Values are pinned by readers, who send them without the lock, while writers replace them. */

enum { VALUE_BYTES = 50000 };

static void *send_pinned(void *arg) {
    struct worker *worker = arg;
    struct shared *shared = worker->shared;
    char text[32];
    for (unsigned step = 0; step < 2000; step++) {
        struct key key = key_of(shared, "big", (unsigned)random_below(&worker->random, 8), text);
        struct view view = view_of(shared, 0, 1000);
        keyspace_lock(shared->keyspace, key.shard);
        struct lookup lookup = keyspace_read(&view, &key);
        bool pinned = lookup.record && keyspace_pin(&view, &lookup);
        struct span value = pinned ? record_value(lookup.record) : span_of(NULL, 0);
        keyspace_unlock(shared->keyspace, key.shard);
        for (size_t i = 0; i < value.length; i += 4001)
            if (value.data[i] != value.data[0]) abort();
        if (pinned) keyspace_unpin(shared->keyspace, key.shard, lookup.record);
    }
    return NULL;
}

static void *replace_values(void *arg) {
    struct worker *worker = arg;
    struct shared *shared = worker->shared;
    char text[32];
    for (unsigned step = 0; step < 1500; step++) {
        struct key key = key_of(shared, "big", (unsigned)random_below(&worker->random, 8), text);
        struct view view = view_of(shared, 0, 1000);
        size_t length = VALUE_BYTES + (random_once_in(&worker->random, 8) ? 2 << 20 : 0);
        keyspace_lock(shared->keyspace, key.shard);
        struct lookup lookup = keyspace_find(&view, &key);
        struct record_plan plan = {
            .type = RECORD_STRING, .value = span_of(NULL, length), .expiry_ms = RECORD_EXPIRY_NONE};
        if (!lookup.record && !keyspace_store(&view, &key, &lookup, &plan)) abort();
        if (random_once_in(&worker->random, 10)) {
            keyspace_remove(&view, &key, &lookup);
        } else {
            char *bytes = keyspace_edit_value(&view, &key, &lookup, length);
            if (!bytes) abort();
            memset(bytes, (int)('a' + random_below(&worker->random, 26)), length);
        }
        keyspace_unlock(shared->keyspace, key.shard);
    }
    return NULL;
}

static void pinned_values_do_not_change_while_they_are_sent(void **state) {
    (void)state;
    static struct shared shared;
    struct worker workers[THREADS];
    shared.seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)shared.seed);
    const struct keyspace_options options = {.shards = SHARDS, .databases = 1, .locking = true, .seed = shared.seed};
    shared.keyspace = keyspace_create(&options);
    for (unsigned i = 0; i < THREADS; i++) start(&workers[i], &shared, i, i % 2 ? replace_values : send_pinned);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
    assert_true(keyspace_validate(shared.keyspace));
    struct view view = view_of(&shared, 0, 1000);
    keyspace_flush(&view);
    for (uint32_t i = 0; i < SHARDS; i++)
        while (keyspace_drain(shared.keyspace, i, 1000000)) continue;
    struct keyspace_usage usage;
    keyspace_usage(&view, &usage);
    assert_int_equal(usage.records, 0);
    assert_int_equal(region_pool_usage(shared.keyspace->pools[0]).large_bytes, 0);
    keyspace_destroy(shared.keyspace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_survive_many_threads),
        cmocka_unit_test(pinned_values_do_not_change_while_they_are_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
