/* The journal of a pool on plain memory: what was appended comes back whole and in order, round the ring's end and over
 * several openings; whatever subset of a batch's lines a crash leaves, nothing torn comes back; no flipped bit passes
 * for an end or for other bytes. TERRACE_TEST_SEED replays. */

#include "base/random.h"
#include "pmem/journal_layout.h"
#include "pmem/pmem_journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { AREA = 64 * 1024, CAPACITY = AREA - PMEM_JOURNAL_PAGE, CRASHES = 3000, LAPS = 4000 };

static _Alignas(4096) char memory[AREA], other[AREA];

static uint64_t seed(void) {
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t number = given ? strtoull(given, NULL, 10) : 20251121;
    print_message("seed %llu\n", (unsigned long long)number);
    return number;
}

static struct pmem_journal *open_in(char *at, bool *made) {
    char error[160] = "";
    struct pmem_journal *journal =
        pmem_journal_open(&(struct pmem_area){.memory = at, .bytes = AREA}, false, made, error, sizeof(error));
    return journal;
}

static struct pmem_journal *fresh(void) {
    bool made;
    memset(memory, 0, AREA);
    struct pmem_journal *journal = open_in(memory, &made);
    assert_non_null(journal);
    assert_true(made);
    pmem_journal_resume(journal, (struct pmem_place){0}, (struct pmem_place){0});
    return journal;
}

static bool append(struct pmem_journal *journal, const void *bytes, size_t length, bool open) {
    struct span piece = span_of(bytes, length);
    return pmem_journal_append(journal, &piece, 1, open);
}

static void append_text(struct pmem_journal *journal, const char *text) {
    assert_true(append(journal, text, strlen(text), false));
}

struct content {
    enum pmem_journal_found end;
    struct pmem_place place; /* behind the last frame */
    unsigned frames;
    size_t length;
    char bytes[AREA];
};

static void read_all(const struct pmem_journal *journal, struct pmem_place from, struct content *content) {
    struct pmem_journal_reading reading;
    struct pmem_journal_frame frame;
    *content = (struct content){0};
    assert_true(pmem_journal_read_from(from, &reading));
    while ((content->end = pmem_journal_next(journal, &reading, &frame)) == PMEM_JOURNAL_FRAME) {
        memcpy(content->bytes + content->length, frame.payload.data, frame.payload.length);
        content->length += frame.payload.length;
        content->frames++;
    }
    content->place = reading.next;
}

static struct content content;

/* As the next process finds `at`. False: the journal could not be opened. */
static bool reopen(char *at, struct pmem_place from) {
    struct pmem_journal *journal = open_in(at, NULL);
    if (!journal) return false;
    read_all(journal, from, &content);
    pmem_journal_close(journal);
    return true;
}

/* ---- what comes back ---- */

static void test_batches_come_back_in_order(void **state) {
    (void)state;
    struct pmem_journal *journal = fresh();
    append_text(journal, "one ");
    const struct span pieces[3] = {SPAN_LITERAL("tw"), SPAN_LITERAL(""), SPAN_LITERAL("o ")};
    assert_true(pmem_journal_append(journal, pieces, 3, false));
    append_text(journal, "three");
    struct pmem_journal_figures figures = pmem_journal_figures(journal);
    assert_int_equal(figures.batches, 3);
    assert_int_equal(figures.payload_bytes, 13);
    assert_int_equal(figures.frame_bytes, 3 * PMEM_LINE);
    pmem_journal_close(journal);
    assert_true(reopen(memory, (struct pmem_place){0}));
    assert_int_equal(content.end, PMEM_JOURNAL_END);
    assert_int_equal(content.frames, 3);
    assert_string_equal(content.bytes, "one two three");
}

static void test_a_later_opening_goes_on_behind_the_end(void **state) {
    (void)state;
    struct pmem_journal *journal = fresh();
    append_text(journal, "first ");
    struct pmem_place end = pmem_journal_end(journal);
    pmem_journal_close(journal);
    for (unsigned i = 0; i < 3; i++) {
        journal = open_in(memory, NULL);
        pmem_journal_resume(journal, (struct pmem_place){0}, end);
        append_text(journal, "more ");
        end = pmem_journal_end(journal);
        pmem_journal_close(journal);
    }
    assert_true(reopen(memory, (struct pmem_place){0}));
    assert_string_equal(content.bytes, "first more more more ");
    assert_int_equal(content.place.sequence, end.sequence);
    assert_int_equal(content.place.position, end.position);
}

static void test_what_is_given_up_does_not_come_back(void **state) {
    (void)state;
    struct pmem_journal *journal = fresh();
    append_text(journal, "a");
    struct pmem_place after_a = pmem_journal_end(journal);
    append_text(journal, "b");
    append_text(journal, "c");
    append_text(journal, "d");
    pmem_journal_close(journal);
    journal = open_in(memory, NULL);
    pmem_journal_resume(journal, (struct pmem_place){0}, after_a);
    pmem_journal_close(journal);
    assert_true(reopen(memory, (struct pmem_place){0}));
    assert_int_equal(content.end, PMEM_JOURNAL_END);
    assert_string_equal(content.bytes, "a");
    journal = open_in(memory, NULL);
    pmem_journal_resume(journal, (struct pmem_place){0}, after_a);
    append_text(journal, "B"); /* where b was, with its sequence: c, right behind it, fits no more */
    pmem_journal_close(journal);
    assert_true(reopen(memory, (struct pmem_place){0}));
    assert_string_equal(content.bytes, "aB");
    assert_int_equal(content.end, PMEM_JOURNAL_END);
}

static void test_the_ring_goes_round_and_reclaims(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, seed());
    struct pmem_journal *journal = fresh();
    static char bytes[8000], expected[AREA];
    struct pmem_place first = {0}, middle = {0};
    size_t since_first = 0, since_middle = 0;
    for (unsigned i = 0; i < LAPS; i++) {
        size_t length = 1 + random_below(&random, random_once_in(&random, 8) ? sizeof(bytes) : 200);
        for (size_t j = 0; j < length; j++) bytes[j] = (char)random_next(&random);
        if (!append(journal, bytes, length, false)) {
            assert_true(pmem_journal_used(journal) > CAPACITY - 2 * sizeof(bytes));
            pmem_journal_reclaim(journal, middle);
            memmove(expected, expected + since_first - since_middle, since_middle);
            first = middle;
            since_first = since_middle;
            middle = pmem_journal_end(journal);
            since_middle = 0;
            continue;
        }
        memcpy(expected + since_first, bytes, length);
        since_first += length;
        since_middle += length;
        if (pmem_journal_used(journal) < CAPACITY / 2) {
            middle = pmem_journal_end(journal);
            since_middle = 0;
        }
        if (i % 16) continue;
        assert_true(reopen(memory, first));
        assert_int_equal(content.end, PMEM_JOURNAL_END);
        assert_int_equal(content.length, since_first);
        assert_memory_equal(content.bytes, expected, since_first);
    }
    assert_true(pmem_journal_end(journal).position > 4 * CAPACITY);
    pmem_journal_close(journal);
}

static void test_a_full_journal_takes_nothing_and_loses_nothing(void **state) {
    (void)state;
    struct pmem_journal *journal = fresh();
    static const char large[CAPACITY];
    assert_false(append(journal, large, CAPACITY, false));
    assert_true(append(journal, large, CAPACITY - PMEM_FRAME_HEADER - PMEM_LINE, false));
    assert_true(append(journal, large, PMEM_LINE - PMEM_FRAME_HEADER, false));
    assert_int_equal(pmem_journal_used(journal), CAPACITY);
    assert_false(append(journal, "x", 1, false));
    pmem_journal_reclaim(journal, pmem_journal_end(journal));
    struct pmem_place first = pmem_journal_end(journal);
    append_text(journal, "after");
    pmem_journal_close(journal);
    assert_true(reopen(memory, first));
    assert_string_equal(content.bytes, "after");
}

static void test_an_effect_that_goes_on_is_marked(void **state) {
    (void)state;
    struct pmem_journal *journal = fresh();
    struct pmem_journal_reading reading;
    struct pmem_journal_frame frame;
    assert_true(append(journal, "begin", 5, true));
    assert_true(append(journal, "end", 3, false));
    assert_true(pmem_journal_read_from((struct pmem_place){0}, &reading));
    assert_int_equal(pmem_journal_next(journal, &reading, &frame), PMEM_JOURNAL_FRAME);
    assert_true(frame.open);
    assert_int_equal(pmem_journal_next(journal, &reading, &frame), PMEM_JOURNAL_FRAME);
    assert_false(frame.open);
    pmem_journal_close(journal);
}

static void test_nobody_reads_over_a_gap(void **state) {
    (void)state;
    struct pmem_journal *journal = fresh();
    append_text(journal, "before");
    struct pmem_place gap = pmem_journal_end(journal);
    assert_true(pmem_journal_append_gap(journal));
    append_text(journal, "behind");
    pmem_journal_close(journal);
    assert_true(reopen(memory, (struct pmem_place){0}));
    assert_string_equal(content.bytes, "before");
    assert_int_equal(content.end, PMEM_JOURNAL_END);
    assert_int_equal(content.place.sequence, gap.sequence);
    assert_true(reopen(memory, gap));
    assert_string_equal(content.bytes, "behind");
}

/* ---- what a crash leaves ---- */

/* `other` gets the lines of `memory` before or after, each by chance. */
static void mix(struct random *random, const char *before) {
    for (size_t line = 0; line < AREA; line += PMEM_LINE)
        memcpy(other + line, (random_once_in(random, 2) ? before : memory) + line, PMEM_LINE);
}

static void test_a_torn_batch_leaves_a_beginning(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, seed());
    struct pmem_journal *journal = fresh();
    struct pmem_place first = {0};
    static char before[AREA], kept[AREA], bytes[3000];
    size_t kept_length = 0;
    unsigned torn = 0, whole = 0;
    for (unsigned i = 0; i < CRASHES; i++) {
        size_t length = 1 + random_below(&random, random_once_in(&random, 4) ? sizeof(bytes) : 150);
        for (size_t j = 0; j < length; j++) bytes[j] = (char)random_next(&random);
        if (pmem_journal_used(journal) > CAPACITY / 2) {
            first = pmem_journal_end(journal);
            pmem_journal_reclaim(journal, first);
            kept_length = 0;
        }
        memcpy(before, memory, AREA);
        assert_true(append(journal, bytes, length, false));
        mix(&random, before);
        memcpy(kept + kept_length, bytes, length);
        /* The witness moves behind the fence: it tells of nothing while the batch is not whole. */
        memcpy(other + PMEM_WITNESS_AT, before + PMEM_WITNESS_AT, PMEM_LINE);
        assert_true(reopen(other, first));
        assert_int_equal(content.end, PMEM_JOURNAL_END);
        assert_in_range(content.length, kept_length, kept_length + length);
        assert_memory_equal(content.bytes, kept, content.length);
        if (content.length < kept_length + length) torn++;
        if (content.length == kept_length + length) whole++;
        kept_length = content.length;
        memcpy(memory, other, AREA);
        pmem_journal_close(journal);
        journal = open_in(memory, NULL);
        assert_non_null(journal);
        pmem_journal_resume(journal, first, content.place);
    }
    assert_true(torn > CRASHES / 10 && whole > CRASHES / 50);
    pmem_journal_close(journal);
}

static void test_a_formatting_that_was_cut_off_is_done_again(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, seed());
    for (unsigned i = 0; i < 200; i++) {
        static const char zero[AREA];
        pmem_journal_close(fresh());
        memset(memory, 0, sizeof(PMEM_JOURNAL_MAGIC) - 1); /* the magic is the last that is written */
        mix(&random, zero);
        bool made = false;
        struct pmem_journal *journal = open_in(other, &made);
        assert_non_null(journal);
        assert_true(made);
        pmem_journal_close(journal);
    }
}

static void test_an_opening_that_was_torn_leaves_the_one_before(void **state) {
    (void)state;
    static char before[AREA];
    pmem_journal_close(fresh());
    struct pmem_journal *journal = open_in(memory, NULL);
    pmem_journal_resume(journal, (struct pmem_place){0}, (struct pmem_place){0});
    append_text(journal, "kept");
    struct pmem_place end = pmem_journal_end(journal);
    memcpy(before, memory, AREA);
    for (unsigned words = 0; words < 8; words++) {
        memcpy(memory, before, AREA);
        pmem_journal_close(journal);
        journal = open_in(memory, NULL);
        pmem_journal_resume(journal, (struct pmem_place){0}, end);
        for (unsigned slot = 0; slot < 2; slot++) {
            size_t at = PMEM_OPENING_AT + slot * PMEM_LINE + words * 8;
            memcpy(memory + at, before + at, PMEM_LINE - words * 8);
        }
        assert_true(reopen(memory, (struct pmem_place){0}));
        assert_int_equal(content.end, PMEM_JOURNAL_END);
        assert_string_equal(content.bytes, "kept");
    }
    pmem_journal_close(journal);
}

/* ---- what a bad medium leaves ---- */

static void test_no_flipped_bit_passes(void **state) {
    (void)state;
    static const char text[] = "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n";
    struct pmem_journal *journal = fresh();
    for (unsigned i = 0; i < 40; i++) append_text(journal, text);
    size_t total = 40 * (sizeof(text) - 1), stop = PMEM_JOURNAL_PAGE + pmem_journal_end(journal).position;
    pmem_journal_close(journal);
    unsigned detected = 0, harmless = 0;
    for (size_t at = 0; at < stop; at++) {
        memory[at] ^= (char)(1 << at % 8);
        bool opened = reopen(memory, (struct pmem_place){0});
        memory[at] ^= (char)(1 << at % 8);
        if (!opened || content.end == PMEM_JOURNAL_DAMAGED) {
            detected++;
            continue;
        }
        /* The slot that does not count, the witness, and bytes that nobody looks at. */
        harmless++;
        assert_int_equal(content.length, total);
        for (size_t i = 0; i < total; i += sizeof(text) - 1)
            assert_memory_equal(content.bytes + i, text, sizeof(text) - 1);
    }
    assert_true(detected > 40 * (PMEM_FRAME_HEADER + sizeof(text) - 1));
    print_message("%u flips detected, %u without effect\n", detected, harmless);
}

static void test_a_lost_frame_is_told_even_without_a_witness(void **state) {
    (void)state;
    struct pmem_journal *journal = fresh();
    append_text(journal, "one");
    append_text(journal, "two");
    append_text(journal, "three");
    pmem_journal_close(journal);
    memset(memory + PMEM_WITNESS_AT, 0, PMEM_LINE);
    memset(memory + PMEM_JOURNAL_PAGE + PMEM_LINE, 0, PMEM_LINE);
    assert_true(reopen(memory, (struct pmem_place){0}));
    assert_int_equal(content.end, PMEM_JOURNAL_DAMAGED);
    memset(memory + PMEM_JOURNAL_PAGE + 2 * PMEM_LINE, 0, PMEM_LINE);
    assert_true(reopen(memory, (struct pmem_place){0}));
    assert_int_equal(content.end, PMEM_JOURNAL_END);
}

static void test_a_lost_last_frame_is_told_by_the_witness(void **state) {
    (void)state;
    struct pmem_journal *journal = fresh();
    append_text(journal, "one");
    append_text(journal, "two");
    pmem_journal_close(journal);
    memory[PMEM_JOURNAL_PAGE + PMEM_LINE + PMEM_FRAME_HEADER] ^= 1;
    assert_true(reopen(memory, (struct pmem_place){0}));
    assert_int_equal(content.end, PMEM_JOURNAL_DAMAGED);
}

static void test_another_area_is_refused(void **state) {
    (void)state;
    char error[160] = "";
    memset(memory, 'x', AREA);
    assert_null(open_in(memory, NULL));
    memset(memory, 0, AREA);
    struct pmem_area small = {.memory = memory, .bytes = PMEM_JOURNAL_PAGE}, blank = {.memory = memory, .bytes = AREA};
    assert_null(pmem_journal_open(&small, false, NULL, error, sizeof(error)));
    assert_null(pmem_journal_open(&blank, true, NULL, error, sizeof(error)));
    assert_string_not_equal(error, "");
    memory[PMEM_JOURNAL_PAGE] = 1; /* a frame, and no magic */
    assert_null(open_in(memory, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_come_back_in_order),
        cmocka_unit_test(test_a_later_opening_goes_on_behind_the_end),
        cmocka_unit_test(test_what_is_given_up_does_not_come_back),
        cmocka_unit_test(test_the_ring_goes_round_and_reclaims),
        cmocka_unit_test(test_a_full_journal_takes_nothing_and_loses_nothing),
        cmocka_unit_test(test_an_effect_that_goes_on_is_marked),
        cmocka_unit_test(test_nobody_reads_over_a_gap),
        cmocka_unit_test(test_a_torn_batch_leaves_a_beginning),
        cmocka_unit_test(test_a_formatting_that_was_cut_off_is_done_again),
        cmocka_unit_test(test_an_opening_that_was_torn_leaves_the_one_before),
        cmocka_unit_test(test_no_flipped_bit_passes),
        cmocka_unit_test(test_a_lost_frame_is_told_even_without_a_witness),
        cmocka_unit_test(test_a_lost_last_frame_is_told_by_the_witness),
        cmocka_unit_test(test_another_area_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
