/* The purger: who asks is heard, once or more, and stopping waits for what has begun. */

#include "server/allocator_purger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { QUESTIONS = 1000 };

static void count(void *ctx) {
    atomic_fetch_add((atomic_uint *)ctx, 1);
}

static void wait_beyond(atomic_uint *purges, unsigned before) {
    while (atomic_load(purges) == before) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void every_question_is_followed_by_a_purge(void **state) {
    (void)state;
    struct allocator_purger purger;
    atomic_uint purges = 0;
    allocator_purger_start(&purger, count, &purges);
    for (unsigned i = 0; i < 20; i++) {
        unsigned before = atomic_load(&purges);
        assert_true(allocator_purger_ask(&purger));
        wait_beyond(&purges, before);
    }
    allocator_purger_stop(&purger);
    assert_int_equal(atomic_load(&purges), 20);
    assert_false(allocator_purger_ask(&purger));
}

static void many_questions_are_one(void **state) {
    (void)state;
    struct allocator_purger purger;
    atomic_uint purges = 0;
    allocator_purger_start(&purger, count, &purges);
    for (unsigned i = 0; i < QUESTIONS; i++) assert_true(allocator_purger_ask(&purger));
    wait_beyond(&purges, 0);
    allocator_purger_stop(&purger);
    assert_in_range(atomic_load(&purges), 1, QUESTIONS);
    allocator_purger_stop(&purger);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_question_is_followed_by_a_purge),
        cmocka_unit_test(many_questions_are_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
