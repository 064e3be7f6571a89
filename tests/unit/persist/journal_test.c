/* The ring of effects: whatever several threads append arrives whole, once, and in the order of each of them; around
 * the ring's end, larger than the ring, with readers that are slow and readers that are left behind. */

#include "base/clock.h"
#include "base/random.h"
#include "persist/journal.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SMALL = 64 * 1024, WRITERS = 4, FRAMES = 20000, WAIT_NS = 200000 };

static struct journal *create(unsigned writers) {
    struct journal *journal = journal_create(&(struct journal_options){.capacity_bytes = SMALL, .writers = writers});
    assert_non_null(journal);
    return journal;
}

static uint64_t put(struct journal *journal, uint32_t database, const char *text) {
    struct span piece = span_of_text(text);
    return journal_append(journal, 0, database, &piece, 1);
}

/* All that is there, terminated. */
static const char *take(struct journal_reader *reader) {
    static char text[4096];
    size_t length = 0;
    assert_true(journal_read(reader, text, sizeof(text) - 1, &length));
    text[length] = '\0';
    return text;
}

/* ---- order and databases ---- */

static void test_select_is_put_where_the_database_changes(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *reader = journal_attach(journal, 0, true);
    put(journal, 0, "a");
    put(journal, 0, "b");
    put(journal, 12, "c");
    assert_string_equal(take(reader), "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\nab*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\nc");
    journal_forget_database(journal);
    put(journal, 12, "d");
    put(journal, 12, "e");
    assert_string_equal(take(reader), "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\nde");
    struct journal_append append;
    journal_begin(journal, 0, 12, 3, 1, &append);
    journal_put(&append, "f", 1);
    (void)journal_commit(&append);
    put(journal, 3, "g");
    assert_string_equal(take(reader), "fg");
    journal_detach(reader);
    journal_destroy(journal);
}

static void test_positions_count_from_the_beginning(void **state) {
    (void)state;
    struct journal *journal =
        journal_create(&(struct journal_options){.capacity_bytes = SMALL, .writers = 1, .begin = 1000});
    assert_int_equal(journal_end(journal), 1000);
    assert_false(journal_is_active(journal));
    struct journal_reader *reader = journal_attach(journal, 1000, true);
    assert_true(journal_is_active(journal));
    uint64_t end = put(journal, 0, "abc");
    assert_int_equal(end, journal_end(journal));
    assert_int_equal(end, 1000 + 23 + 3);
    (void)take(reader);
    assert_int_equal(journal_reader_position(reader), end);
    assert_null(journal_attach(journal, end + 1, true));
    assert_null(journal_attach(journal, 999, true));
    journal_detach(reader);
    assert_false(journal_is_active(journal));
    journal_destroy(journal);
}

static void test_what_is_under_way_holds_back_all_behind_it(void **state) {
    (void)state;
    struct journal *journal = create(2);
    struct journal_reader *reader = journal_attach(journal, 0, true);
    struct journal_append first, second;
    struct span spans[2];
    bool boundary = false;
    put(journal, 0, "0");
    (void)take(reader);
    journal_begin(journal, 0, 0, JOURNAL_SAME_DATABASE, 3, &first);
    journal_begin(journal, 1, 0, JOURNAL_SAME_DATABASE, 3, &second);
    journal_put(&second, "def", 3);
    (void)journal_commit(&second);
    assert_int_equal(journal_peek(reader, spans, &boundary), 0);
    assert_true(boundary);
    journal_put(&first, "abc", 3);
    (void)journal_commit(&first);
    assert_int_equal(journal_peek(reader, spans, NULL), 1);
    assert_true(span_equal(spans[0], SPAN_LITERAL("abcdef")));
    journal_advance(reader, 6);
    assert_int_equal(journal_peek(reader, spans, NULL), 0);
    journal_detach(reader);
    journal_destroy(journal);
}

/* ---- room ---- */

static void test_a_reader_that_holds_makes_it_crowded(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *reader = journal_attach(journal, 0, true);
    char bytes[1024] = {0};
    struct span piece = span_of(bytes, sizeof(bytes)), spans[2];
    for (unsigned i = 0; i < 40; i++) (void)journal_append(journal, 0, 0, &piece, 1);
    assert_false(journal_is_crowded(journal));
    for (unsigned i = 0; i < 9; i++) (void)journal_append(journal, 0, 0, &piece, 1);
    assert_true(journal_is_crowded(journal));
    assert_int_equal(journal_peek(reader, spans, NULL), 1);
    journal_advance(reader, 8192);
    assert_false(journal_is_crowded(journal));
    journal_detach(reader);
    assert_false(journal_is_crowded(journal));
    journal_destroy(journal);
}

static void test_a_reader_that_does_not_hold_is_left_behind(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *reader = journal_attach(journal, 0, false);
    char bytes[1024] = {0}, buffer[64];
    struct span piece = span_of(bytes, sizeof(bytes));
    size_t length;
    for (unsigned i = 0; i < 60; i++) (void)journal_append(journal, 0, 0, &piece, 1);
    assert_true(journal_read(reader, buffer, sizeof(buffer), &length));
    assert_int_equal(length, sizeof(buffer));
    for (unsigned i = 0; i < 60; i++) (void)journal_append(journal, 0, 0, &piece, 1);
    assert_false(journal_is_crowded(journal));
    assert_false(journal_read(reader, buffer, sizeof(buffer), &length));
    assert_int_equal(journal_oldest(journal), journal_end(journal) - SMALL);
    journal_detach(reader);
    journal_destroy(journal);
}

/* ---- threads ---- */

/* A frame: writer, number, length, then that many bytes that follow from the three. The stream of one journal is frames
 * one behind the other, but for the first SELECT. */
struct frame {
    uint32_t writer, number, length;
};

static unsigned char byte_of(const struct frame *frame, uint32_t at) {
    return (unsigned char)(frame->writer * 31 + frame->number * 7 + at);
}

struct writer {
    struct journal *journal;
    unsigned number;
    uint32_t frames, longest;
    pthread_t thread;
};

static void *write_frames(void *argument) {
    struct writer *writer = argument;
    struct random random = {{writer->number + 1, 2, 3, 4}};
    unsigned char *bytes = malloc(writer->longest);
    for (uint32_t i = 0; i < writer->frames; i++) {
        struct frame frame = {writer->number, i, (uint32_t)random_below(&random, i % 50 ? 100 : writer->longest)};
        for (uint32_t k = 0; k < frame.length; k++) bytes[k] = byte_of(&frame, k);
        struct span pieces[] = {span_of(&frame, sizeof(frame)), span_of(bytes, frame.length)};
        (void)journal_append(writer->journal, writer->number, 0, pieces, 2);
    }
    free(bytes);
    return NULL;
}

/* Takes a stream of frames apart, in pieces of any length. */
struct check {
    struct frame frame;
    size_t at; /* in the present frame, with its head */
    size_t skip;
    uint32_t next[WRITERS];
    uint64_t frames;
};

static void check_bytes(struct check *check, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (check->skip) {
            check->skip--;
            continue;
        }
        if (check->at < sizeof(check->frame))
            ((char *)&check->frame)[check->at] = bytes[i];
        else if ((unsigned char)bytes[i] != byte_of(&check->frame, (uint32_t)(check->at - sizeof(check->frame))))
            fail_msg("writer %u, frame %u: byte %zu", check->frame.writer, check->frame.number, check->at);
        check->at++;
        if (check->at < sizeof(check->frame) || check->at < sizeof(check->frame) + check->frame.length) continue;
        assert_true(check->frame.writer < WRITERS);
        assert_int_equal(check->frame.number, check->next[check->frame.writer]++);
        check->frames++;
        check->at = 0;
    }
}

/* Reads until all have arrived. `boundary` must be true only between frames. */
static void read_frames(struct journal_reader *reader, uint64_t expected) {
    struct check check = {.skip = 23};
    struct random random = {{9, 8, 7, 6}};
    uint64_t woken = 0;
    while (check.frames < expected) {
        struct span spans[2];
        bool boundary;
        unsigned count = journal_peek(reader, spans, &boundary);
        size_t length = 0;
        for (unsigned i = 0; i < count; i++) {
            check_bytes(&check, spans[i].data, spans[i].length);
            length += spans[i].length;
        }
        if (count && boundary) assert_int_equal(check.at, 0);
        journal_advance(reader, length);
        if (!count || random_below(&random, 4) == 0) woken += journal_wait(reader, WAIT_NS);
    }
    assert_true(woken > 0);
    assert_int_equal(check.at, 0);
}

static void run_writers(uint32_t frames, uint32_t longest) {
    struct journal *journal = create(WRITERS);
    struct journal_reader *reader = journal_attach(journal, 0, true);
    struct writer writers[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.journal = journal, .number = i, .frames = frames, .longest = longest};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_frames, &writers[i]), 0);
    }
    read_frames(reader, (uint64_t)WRITERS * frames);
    for (unsigned i = 0; i < WRITERS; i++) pthread_join(writers[i].thread, NULL);
    assert_int_equal(journal_committed(journal, NULL), journal_end(journal));
    journal_detach(reader);
    journal_destroy(journal);
}

static void test_frames_of_several_writers_arrive_whole_and_in_order(void **state) {
    (void)state;
    run_writers(FRAMES, 4000);
}

static void test_effects_larger_than_the_ring_pass_through_it(void **state) {
    (void)state;
    run_writers(FRAMES / 40, 5 * SMALL);
}

/* ---- waking ---- */

static void *wake_later(void *argument) {
    journal_wake(argument);
    return NULL;
}

static void test_a_reader_that_waits_is_woken(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *reader = journal_attach(journal, 0, true);
    pthread_t thread;
    assert_false(journal_wait(reader, 1000));
    int64_t begin_ns = clock_monotonic_ns();
    assert_int_equal(pthread_create(&thread, NULL, wake_later, reader), 0);
    assert_false(journal_wait(reader, UINT64_C(100) * 1000000000));
    pthread_join(thread, NULL);
    journal_wake(reader); /* before it waits: it does not sleep */
    assert_false(journal_wait(reader, UINT64_C(100) * 1000000000));
    put(journal, 0, "x");
    assert_true(journal_wait(reader, UINT64_C(100) * 1000000000));
    assert_true(clock_monotonic_ns() - begin_ns < INT64_C(50) * 1000000000);
    journal_detach(reader);
    journal_destroy(journal);
}

/* ---- pins, and what is done while nobody writes ---- */

static void append_text(struct journal *journal, size_t count, char letter) {
    char bytes[1024];
    memset(bytes, letter, sizeof(bytes));
    struct span piece = span_of(bytes, sizeof(bytes));
    for (size_t i = 0; i < count; i++) (void)journal_append(journal, 0, JOURNAL_SAME_DATABASE, &piece, 1);
}

static void test_bytes_that_select_for_themselves_get_no_select(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *reader = journal_attach(journal, 0, true);
    struct span piece = SPAN_LITERAL("raw");
    put(journal, 3, "a");
    (void)journal_append(journal, 0, JOURNAL_SAME_DATABASE, &piece, 1);
    put(journal, 3, "b");
    assert_string_equal(take(reader), "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\narawb");
    journal_detach(reader);
    journal_destroy(journal);
}

static void test_a_pin_holds_only_while_it_pins(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *pin = journal_make_pin(journal);
    struct span spans[2];
    assert_false(journal_is_active(journal));
    append_text(journal, 64, 'a');
    assert_true(journal_pin(pin, 0));
    assert_true(journal_is_crowded(journal));
    assert_int_equal(journal_pinned(pin, 10, 30, spans), 1);
    assert_true(span_equal(spans[0], SPAN_LITERAL("aaaaaaaaaaaaaaaaaaaa")));
    journal_unpin(pin);
    assert_false(journal_is_crowded(journal));
    append_text(journal, 1, 'b');
    assert_false(journal_pin(pin, 0)); /* it has been overwritten */
    assert_false(journal_pin(pin, journal_end(journal) + 1));
    assert_false(journal_is_crowded(journal));
    assert_true(journal_pin(pin, 1024));
    assert_int_equal(journal_pinned(pin, 63 * 1024, 65 * 1024, spans), 2); /* around the ring's end */
    assert_true(spans[0].data[0] == 'a' && spans[1].data[0] == 'b');
    journal_unpin(pin);
    journal_detach(pin);
    journal_destroy(journal);
}

static void test_a_larger_ring_has_what_the_smaller_had(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *reader = journal_attach(journal, 0, false);
    char buffer[1024];
    size_t length;
    for (char letter = 'a'; letter < 'a' + 20; letter++) append_text(journal, 10, letter);
    uint64_t end = journal_end(journal), oldest = journal_oldest(journal);
    assert_int_equal(end - oldest, SMALL);
    assert_true(journal_grow(journal, SMALL / 2));
    assert_int_equal(journal_capacity(journal), SMALL);
    assert_true(journal_grow(journal, 3 * SMALL));
    assert_int_equal(journal_capacity(journal), 4 * SMALL);
    assert_int_equal(journal_oldest(journal), oldest);
    struct journal_reader *other = journal_attach(journal, oldest, true);
    append_text(journal, 20, 'z');
    for (uint64_t at = oldest; at < end; at += sizeof(buffer)) {
        assert_true(journal_read(other, buffer, sizeof(buffer), &length));
        assert_int_equal(length, sizeof(buffer));
        assert_int_equal(buffer[0], 'a' + (int)(at / 10240));
    }
    assert_true(journal_read(other, buffer, sizeof(buffer), &length));
    assert_int_equal(buffer[0], 'z');
    assert_int_equal(journal_oldest(journal), oldest);
    assert_null(journal_attach(journal, oldest - 1, false));
    journal_detach(other);
    journal_detach(reader);
    journal_destroy(journal);
}

static void test_a_reader_that_looks_keeps_the_ring_from_growing(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *reader = journal_attach(journal, 0, true);
    struct span spans[2];
    append_text(journal, 1, 'a');
    assert_int_equal(journal_peek(reader, spans, NULL), 1);
    assert_false(journal_grow(journal, 4 * SMALL));
    journal_advance(reader, 1);
    assert_true(journal_grow(journal, 4 * SMALL));
    journal_detach(reader);
    journal_destroy(journal);
}

static void test_it_goes_on_at_another_position(void **state) {
    (void)state;
    struct journal *journal = create(1);
    struct journal_reader *reader = journal_attach(journal, 0, false);
    append_text(journal, 3, 'a');
    journal_restart(journal, 1000000);
    assert_int_equal(journal_end(journal), 1000000);
    assert_int_equal(journal_oldest(journal), 1000000);
    assert_null(journal_attach(journal, 999999, false));
    put(journal, 0, "x");
    assert_string_equal(take(reader), "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\nx");
    journal_restart(journal, 7); /* backwards, too */
    put(journal, 0, "y");
    assert_string_equal(take(reader), "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\ny");
    journal_detach(reader);
    journal_destroy(journal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select_is_put_where_the_database_changes),
        cmocka_unit_test(test_positions_count_from_the_beginning),
        cmocka_unit_test(test_what_is_under_way_holds_back_all_behind_it),
        cmocka_unit_test(test_a_reader_that_holds_makes_it_crowded),
        cmocka_unit_test(test_a_reader_that_does_not_hold_is_left_behind),
        cmocka_unit_test(test_frames_of_several_writers_arrive_whole_and_in_order),
        cmocka_unit_test(test_effects_larger_than_the_ring_pass_through_it),
        cmocka_unit_test(test_a_reader_that_waits_is_woken),
        cmocka_unit_test(test_bytes_that_select_for_themselves_get_no_select),
        cmocka_unit_test(test_a_pin_holds_only_while_it_pins),
        cmocka_unit_test(test_a_larger_ring_has_what_the_smaller_had),
        cmocka_unit_test(test_a_reader_that_looks_keeps_the_ring_from_growing),
        cmocka_unit_test(test_it_goes_on_at_another_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
