/* Idempotent IDs: a message is known for as long, and as one of as many, as is set; a model tells what is. */

#include "base/random.h"
#include "keyspace/stream_producer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { STEPS = 200000, NAMES = 60, SENT_MAX = STEPS };

struct model {
    unsigned name;
    uint64_t entry;
    int64_t sent_ms;
};

static bool model_has(const struct model *sent, unsigned count, unsigned from, unsigned name, uint64_t *entry) {
    for (unsigned i = from; i < count; i++)
        if (sent[i].name == name) {
            *entry = sent[i].entry;
            return true;
        }
    return false;
}

static void messages_are_known_as_long_as_they_should_be(void **state) {
    (void)state;
    const char *seed_text = getenv("TERRACE_TEST_SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : 1;
    struct random random;
    struct stream_producers *producers = stream_producers_make(seed);
    struct model *sent = calloc(SENT_MAX, sizeof(*sent));
    unsigned count = 0, oldest = 0;
    int64_t now_ms = 1000000;
    random_seed(&random, seed);
    producers->size_max = 17;
    producers->duration_s = 2;
    for (unsigned step = 0; step < STEPS; step++) {
        char text[16];
        unsigned name = (unsigned)(random_next(&random) % NAMES);
        struct span producer = span_of_text("p");
        struct stream_id entry = {0, 0};
        uint64_t expected = 0;
        now_ms += (int64_t)(random_next(&random) % 150);
        snprintf(text, sizeof(text), "message%u", name);
        struct stream_message_id message = stream_message_named(producers, span_of_text(text));
        while (oldest < count && (sent[oldest].sent_ms < now_ms - 2000 || count - oldest > 17)) oldest++;
        bool known = model_has(sent, count, oldest, name, &expected);
        if (stream_producer_has(producers, producer, message, now_ms, &entry) != known || entry.ms != expected)
            fail_msg("seed %llu, step %u", (unsigned long long)seed, step);
        if (known) continue;
        assert_true(stream_producer_add(producers, producer, message, now_ms, (struct stream_id){step + 1, 0}));
        sent[count++] = (struct model){name, step + 1, now_ms};
    }
    assert_int_equal(producers->ids_added, count);
    assert_int_equal(producers->duplicates, STEPS - count);
    free(sent);
    stream_producers_free(producers);
}

static void producers_do_not_share_messages(void **state) {
    (void)state;
    struct stream_producers *producers = stream_producers_make(3);
    struct stream_message_id message = stream_message_named(producers, span_of_text("m"));
    struct stream_id entry;
    for (unsigned i = 0; i < 1000; i++) {
        struct span name = span_of(&i, sizeof(i));
        assert_false(stream_producer_has(producers, name, message, 0, &entry));
        assert_true(stream_producer_add(producers, name, message, 0, (struct stream_id){i, 1}));
    }
    struct stream_producers *copy = stream_producers_copy(producers);
    stream_producers_free(producers);
    assert_int_equal(copy->count, 1000);
    assert_int_equal(stream_producers_tracked(copy), 1000);
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(stream_producer_has(copy, span_of(&i, sizeof(i)), message, 0, &entry));
        assert_int_equal(entry.ms, i);
    }
    stream_producers_forget(copy);
    assert_int_equal(stream_producers_tracked(copy), 0);
    stream_producers_free(copy);
}

static void contents_are_told_apart_whatever_the_order_of_fields(void **state) {
    (void)state;
    struct stream_producers *producers = stream_producers_make(3);
    const struct span one[] = {SPAN_LITERAL("a"), SPAN_LITERAL("1"), SPAN_LITERAL("b"), SPAN_LITERAL("2")};
    const struct span turned[] = {SPAN_LITERAL("b"), SPAN_LITERAL("2"), SPAN_LITERAL("a"), SPAN_LITERAL("1")};
    const struct span swapped[] = {SPAN_LITERAL("a"), SPAN_LITERAL("2"), SPAN_LITERAL("b"), SPAN_LITERAL("1")};
    const struct span reversed[] = {SPAN_LITERAL("1"), SPAN_LITERAL("a"), SPAN_LITERAL("2"), SPAN_LITERAL("b")};
    struct stream_message_id id = stream_message_hashed(producers, one, 2);
    struct stream_message_id other = stream_message_hashed(producers, turned, 2);
    assert_memory_equal(&id, &other, sizeof(id));
    other = stream_message_hashed(producers, swapped, 2);
    assert_memory_not_equal(&id, &other, sizeof(id));
    other = stream_message_hashed(producers, reversed, 2);
    assert_memory_not_equal(&id, &other, sizeof(id));
    other = stream_message_hashed(producers, one, 1);
    assert_memory_not_equal(&id, &other, sizeof(id));
    stream_producers_free(producers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_known_as_long_as_they_should_be),
        cmocka_unit_test(producers_do_not_share_messages),
        cmocka_unit_test(contents_are_told_apart_whatever_the_order_of_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
