/* The spool: what a slow reader needs is there, in the file or in the ring, however much is written meanwhile. */

#include "base/clock.h"
#include "persist/journal_spool.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SMALL = 64 * 1024, WORD = 8, WORDS = 1 << 17 };

struct bench {
    struct journal *journal;
    struct journal_reader *pin;
    struct journal_spool *spool;
};

static struct bench begin(void) {
    struct bench bench;
    bench.journal = journal_create(&(struct journal_options){.capacity_bytes = SMALL, .writers = 1});
    assert_non_null(bench.journal);
    bench.pin = journal_make_pin(bench.journal);
    bench.spool = journal_spool_create(bench.journal);
    assert_non_null(bench.spool);
    return bench;
}

static void end(struct bench *bench) {
    journal_spool_destroy(bench->spool);
    journal_detach(bench->pin);
    journal_destroy(bench->journal);
}

/* Every word says where it stands. */
static void append_words(struct journal *journal, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t word = journal_end(journal);
        struct span piece = span_of((const char *)&word, sizeof(word));
        (void)journal_append(journal, 0, JOURNAL_SAME_DATABASE, &piece, 1);
    }
}

/* The word at this position, wherever it is; false: nowhere. What leaves the ring between two looks has come into the
 * file before. */
static bool find_word(struct bench *bench, uint64_t at, uint64_t *word) {
    struct span spans[2];
    if (journal_spool_read(bench->spool, at, word, sizeof(*word)) == sizeof(*word)) return true;
    if (!journal_pin(bench->pin, at)) return journal_spool_read(bench->spool, at, word, sizeof(*word)) == sizeof(*word);
    assert_int_equal(journal_pinned(bench->pin, at, at + sizeof(*word), spans), 1);
    memcpy(word, spans[0].data, sizeof(*word));
    journal_unpin(bench->pin);
    return true;
}

static void *write_many(void *journal) {
    append_words(journal, WORDS);
    return NULL;
}

static void test_a_slow_reader_finds_everything(void **state) {
    (void)state;
    struct bench bench = begin();
    pthread_t writer;
    append_words(bench.journal, 100);
    assert_true(journal_spool_begin(bench.spool, 800, "/tmp"));
    assert_int_equal(pthread_create(&writer, NULL, write_many, bench.journal), 0);
    for (uint64_t at = 800; at < 800 + (uint64_t)WORDS * WORD; at += WORD) {
        uint64_t word = 0;
        while (journal_committed(bench.journal, NULL) < at + WORD) sched_yield();
        assert_true(find_word(&bench, at, &word));
        assert_int_equal(word, at);
        if (at % 4096 == 0) journal_spool_keep(bench.spool, at, true);
    }
    pthread_join(writer, NULL);
    struct journal_spool_figures figures = journal_spool_figures(bench.spool);
    assert_true(figures.running && figures.copied > figures.from);
    end(&bench);
}

static void test_little_is_not_written_to_the_file(void **state) {
    (void)state;
    struct bench bench = begin();
    uint64_t word;
    assert_true(journal_spool_begin(bench.spool, 0, "/tmp"));
    append_words(bench.journal, SMALL / WORD / 3);
    assert_true(find_word(&bench, 0, &word));
    journal_spool_keep(bench.spool, journal_end(bench.journal), false);
    struct journal_spool_figures figures = journal_spool_figures(bench.spool);
    assert_false(figures.running);
    assert_int_equal(figures.written_bytes, 0);
    end(&bench);
}

static void test_it_ends_when_nobody_needs_the_file(void **state) {
    (void)state;
    struct bench bench = begin();
    assert_true(journal_spool_begin(bench.spool, 0, "/tmp"));
    append_words(bench.journal, SMALL / WORD * 4);
    uint64_t copied = journal_spool_figures(bench.spool).copied;
    assert_true(copied > SMALL);
    journal_spool_keep(bench.spool, copied - 1, false);
    assert_true(journal_spool_figures(bench.spool).running);
    assert_true(journal_spool_begin(bench.spool, copied - 1, "/tmp"));
    journal_spool_keep(bench.spool, UINT64_MAX, true);
    assert_true(journal_spool_figures(bench.spool).running);
    journal_spool_keep(bench.spool, UINT64_MAX, false);
    assert_false(journal_spool_figures(bench.spool).running);
    append_words(bench.journal, SMALL / WORD * 4); /* nobody holds up the writers any more */
    assert_false(journal_spool_begin(bench.spool, 0, "/tmp"));
    end(&bench);
}

static void test_without_a_file_what_is_needed_is_lost_and_writers_go_on(void **state) {
    (void)state;
    struct bench bench = begin();
    uint64_t word;
    assert_true(journal_spool_begin(bench.spool, 0, "/nonexistent/folder"));
    append_words(bench.journal, SMALL / WORD * 4);
    assert_false(find_word(&bench, 0, &word));
    assert_true(find_word(&bench, journal_end(bench.journal) - WORD, &word));
    assert_true(journal_spool_begin(bench.spool, journal_end(bench.journal), "/tmp"));
    end(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slow_reader_finds_everything),
        cmocka_unit_test(test_little_is_not_written_to_the_file),
        cmocka_unit_test(test_it_ends_when_nobody_needs_the_file),
        cmocka_unit_test(test_without_a_file_what_is_needed_is_lost_and_writers_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
