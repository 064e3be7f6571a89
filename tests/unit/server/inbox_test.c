/* A worker's inbox: order and numbers, what is held for how long, what happens when it is full, and many who put while
 * one takes. */

#include "server/inbox.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { WRITERS = 4, EACH = 20000 };

static struct message *message_from(unsigned writer, unsigned number) {
    struct message *message = message_create(2 * sizeof(unsigned));
    assert_non_null(message);
    memcpy(message->bytes, &writer, sizeof(writer));
    memcpy(message->bytes + sizeof(writer), &number, sizeof(number));
    return message;
}

/* The message is the inbox's alone, if it is kept. */
static bool put(struct inbox *inbox, struct message *message, bool *first) {
    struct inbox_entry entry = {.message = message};
    bool kept = inbox_put(inbox, &entry, first);
    message_release(message);
    return kept;
}

static void release(struct inbox_batch *batch) {
    for (size_t i = 0; i < batch->count; i++) message_release(batch->entries[i].message);
    free(batch->entries);
}

static int start(void **state) {
    struct inbox *inbox = aligned_alloc(_Alignof(struct inbox), sizeof(*inbox));
    memset(inbox, 0, sizeof(*inbox));
    inbox_init(inbox);
    *state = inbox;
    return 0;
}

static int stop(void **state) {
    inbox_free(*state);
    free(*state);
    return 0;
}

static void entries_come_out_at_once_in_order_and_numbered(void **state) {
    struct inbox *inbox = *state;
    bool first;
    assert_false(inbox_is_filled(inbox));
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(inbox_next_number(inbox), i);
        assert_true(put(inbox, message_from(0, i), &first));
        assert_int_equal(first, i == 0);
    }
    assert_true(inbox_is_filled(inbox));
    struct inbox_batch batch = inbox_take(inbox);
    assert_false(inbox_is_filled(inbox));
    assert_int_equal(batch.count, 200);
    assert_false(batch.overflowed);
    for (unsigned i = 0; i < 200; i++) {
        unsigned number;
        memcpy(&number, batch.entries[i].message->bytes + sizeof(unsigned), sizeof(number));
        assert_int_equal(number, i);
        assert_int_equal(batch.entries[i].number, i);
    }
    release(&batch);
    /* Numbers go on; who puts next is the first again, and has to wake the worker. */
    assert_true(put(inbox, message_from(0, 0), &first));
    assert_true(first);
    batch = inbox_take(inbox);
    assert_int_equal(batch.entries[0].number, 200);
    release(&batch);
    batch = inbox_take(inbox);
    assert_int_equal(batch.count, 0);
    release(&batch);
}

static void a_message_is_held_until_it_is_given_up(void **state) {
    struct inbox *inbox = *state;
    struct message *message = message_from(1, 2);
    struct inbox_entry entry = {.message = message};
    bool first;
    assert_true(inbox_put(inbox, &entry, &first));
    assert_true(inbox_put(inbox, &entry, &first));
    assert_int_equal(atomic_load(&message->references), 3);
    struct inbox_batch batch = inbox_take(inbox);
    release(&batch);
    assert_int_equal(atomic_load(&message->references), 1);
    message_release(message);
}

/* What does not fit is lost, and whoever takes the rest is told; afterwards there is room again. */
static void a_full_inbox_tells_that_some_are_lost(void **state) {
    struct inbox *inbox = *state;
    struct message *large = message_create(INBOX_BYTES_MAX / 3);
    struct message *too_large = message_create(INBOX_BYTES_MAX);
    assert_non_null(large);
    assert_non_null(too_large);
    struct inbox_entry entry = {.message = large}, other = {.message = too_large};
    bool first;
    assert_true(inbox_put(inbox, &entry, &first));
    assert_true(inbox_put(inbox, &entry, &first));
    assert_false(inbox_put(inbox, &entry, &first));
    assert_int_equal(atomic_load(&large->references), 3);
    struct inbox_batch batch = inbox_take(inbox);
    assert_int_equal(batch.count, 2);
    assert_true(batch.overflowed);
    release(&batch);
    /* Also when it is the only one: the worker has to hear of it. */
    assert_false(inbox_put(inbox, &other, &first));
    assert_true(first);
    assert_true(inbox_is_filled(inbox));
    assert_false(inbox_put(inbox, &other, &first));
    assert_false(first);
    batch = inbox_take(inbox);
    assert_int_equal(batch.count, 0);
    assert_true(batch.overflowed);
    release(&batch);
    assert_true(inbox_put(inbox, &entry, &first));
    batch = inbox_take(inbox);
    assert_false(batch.overflowed);
    assert_int_equal(batch.entries[0].number, 5);
    release(&batch);
    message_release(large);
    message_release(too_large);
}

struct writer {
    pthread_t thread;
    struct inbox *inbox;
    atomic_uint *wakes;
    unsigned number;
};

static void *write_all(void *argument) {
    struct writer *writer = argument;
    for (unsigned i = 0; i < EACH; i++) {
        bool first;
        if (!put(writer->inbox, message_from(writer->number, i), &first)) abort();
        if (first) atomic_fetch_add(writer->wakes, 1);
    }
    return NULL;
}

/* Everything comes out once, that of one writer in its order, and each batch was announced by one "first". */
static void many_put_while_one_takes(void **state) {
    struct inbox *inbox = *state;
    struct writer writers[WRITERS];
    unsigned next[WRITERS] = {0}, taken = 0, batches = 0;
    uint64_t expected = 0;
    atomic_uint wakes = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.inbox = inbox, .wakes = &wakes, .number = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_all, &writers[i]), 0);
    }
    while (taken < WRITERS * EACH) {
        if (!inbox_is_filled(inbox)) {
            sched_yield();
            continue;
        }
        struct inbox_batch batch = inbox_take(inbox);
        batches++;
        for (size_t i = 0; i < batch.count; i++) {
            unsigned from[2];
            memcpy(from, batch.entries[i].message->bytes, sizeof(from));
            assert_int_equal(from[1], next[from[0]]++);
            assert_int_equal(batch.entries[i].number, expected++);
        }
        taken += (unsigned)batch.count;
        release(&batch);
    }
    for (unsigned i = 0; i < WRITERS; i++) pthread_join(writers[i].thread, NULL);
    assert_int_equal(atomic_load(&wakes), batches);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_come_out_at_once_in_order_and_numbered, start, stop),
        cmocka_unit_test_setup_teardown(a_message_is_held_until_it_is_given_up, start, stop),
        cmocka_unit_test_setup_teardown(a_full_inbox_tells_that_some_are_lost, start, stop),
        cmocka_unit_test_setup_teardown(many_put_while_one_takes, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
