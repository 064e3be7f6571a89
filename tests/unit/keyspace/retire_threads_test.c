/* Readers without a lock while others replace and retire what they read: nothing is freed under a reader's eyes. */

#include "keyspace/retire.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { READERS = 3, REPLACEMENTS = 20000, LIVE = 0x600d };

/* A block that says whether it is alive; released ones are marked before they are freed. */
struct block {
    _Atomic unsigned state;
};

struct shared {
    struct retire_list *list;
    _Atomic(struct block *) current;
    atomic_bool done;
    atomic_uint released, bad;
};

static struct block *new_block(void) {
    struct block *block = malloc(sizeof(*block));
    atomic_init(&block->state, LIVE);
    return block;
}

static void release(void *ctx, void *memory) {
    struct shared *shared = ctx;
    struct block *block = memory;
    atomic_store(&block->state, 0);
    atomic_fetch_add(&shared->released, 1);
    free(block);
}

struct reader {
    struct shared *shared;
    unsigned worker;
    pthread_t thread;
};

static void *read_for_ever(void *arg) {
    struct reader *reader = arg;
    struct shared *shared = reader->shared;
    for (unsigned round = 0; !atomic_load(&shared->done); round++) {
        retire_online(shared->list, reader->worker);
        for (unsigned i = 0; i < 50; i++) {
            struct block *block = atomic_load(&shared->current);
            if (atomic_load(&block->state) != LIVE) atomic_fetch_add(&shared->bad, 1);
        }
        if (round % 4 == 0) retire_offline(shared->list, reader->worker);
    }
    retire_offline(shared->list, reader->worker);
    return NULL;
}

static void *replace(void *arg) {
    struct shared *shared = arg;
    for (unsigned i = 0; i < REPLACEMENTS; i++) {
        struct block *old = atomic_exchange(&shared->current, new_block());
        retire_memory(shared->list, old, release, shared);
        if (i % 16 == 0) retire_collect(shared->list);
    }
    return NULL;
}

static void readers_never_see_what_was_freed(void **state) {
    (void)state;
    static struct shared shared;
    struct reader readers[READERS];
    pthread_t writers[2];
    shared.list = retire_create(true);
    atomic_init(&shared.current, new_block());
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.shared = &shared, .worker = i};
        pthread_create(&readers[i].thread, NULL, read_for_ever, &readers[i]);
    }
    for (unsigned i = 0; i < 2; i++) pthread_create(&writers[i], NULL, replace, &shared);
    for (unsigned i = 0; i < 2; i++) pthread_join(writers[i], NULL);
    atomic_store(&shared.done, true);
    for (unsigned i = 0; i < READERS; i++) pthread_join(readers[i].thread, NULL);
    assert_int_equal(atomic_load(&shared.bad), 0);
    assert_int_equal(retire_collect(shared.list), 0);
    assert_int_equal(atomic_load(&shared.released), 2 * REPLACEMENTS);
    retire_destroy(shared.list);
    free(atomic_load(&shared.current));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(readers_never_see_what_was_freed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
