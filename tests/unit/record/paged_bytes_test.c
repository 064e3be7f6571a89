/* Rows of bytes in pages against a plain array: random reads, writes, lengths and zeros over pages that are cold,
 * missing or refused memory; and what a sparse row costs. */

#include "base/random.h"
#include "record/paged_bytes.h"
#include "tests/support/page_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { PAGES = 24, MOST = PAGES * PAGED_BYTES_PAGE, STEPS = 60000 };

static uint64_t seed_of_run(void) {
    static uint64_t seed;
    if (seed) return seed;
    const char *text = getenv("TERRACE_TEST_SEED");
    struct random random;
    random_seed_from_kernel(&random);
    seed = text ? strtoull(text, NULL, 10) : random_next(&random) >> 32 | 1;
    print_message("TERRACE_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

struct row {
    struct paged_bytes bytes;
    struct page_fixture fixture;
    struct random random;
    char *model; /* MOST bytes; behind `length` all zeros */
    uint64_t length;
    bool starved;
};

static void row_open(struct row *row, struct page_fixture_options options) {
    page_fixture_open(&row->fixture, options);
    random_seed(&row->random, options.seed + 1);
    collection_init(&row->bytes.collection, &paged_bytes_kind);
    row->bytes.length = row->length = 0;
    row->starved = false;
    page_fixture_own(&row->fixture, &row->bytes.collection);
    row->model = calloc(1, MOST);
    assert_non_null(row->model);
}

static struct page_table *pages_of(struct row *row) {
    return &row->bytes.collection.parts[COLLECTION_HASH];
}

static void row_close(struct row *row) {
    struct page_access access = page_fixture_command(&row->fixture);
    while (page_table_release(&access, pages_of(row), 100)) continue;
    page_fixture_close(&row->fixture);
    free(row->model);
}

/* Runs `expression`, which gives `status`, as often as pages are missing. */
#define COMMAND(row, status, expression)                                                                               \
    do {                                                                                                               \
        struct page_access access = page_fixture_command(&(row)->fixture);                                             \
        do (status) = (expression);                                                                                    \
        while (page_fixture_again(&(row)->fixture, &access));                                                          \
        assert_int_not_equal((status), PAGE_MISSING);                                                                  \
    } while (0)

static uint64_t below(struct row *row, uint64_t bound) {
    return random_below(&row->random, bound);
}

/* Positions and lengths are often at the edges of pages. */
static uint64_t any_offset(struct row *row, uint64_t bound) {
    uint64_t offset = below(row, bound + 1);
    if (below(row, 3) == 0) offset = offset / PAGED_BYTES_PAGE * PAGED_BYTES_PAGE + below(row, 3);
    if (offset && below(row, 6) == 0) offset--;
    return offset < bound ? offset : bound;
}

static uint64_t any_length(struct row *row, uint64_t most) {
    uint64_t bound = below(row, 4) ? 20 : below(row, 3) ? 3 * PAGED_BYTES_PAGE : most;
    uint64_t length = below(row, 8) ? below(row, bound + 1) : PAGED_BYTES_PAGE * (1 + below(row, 3));
    return length < most ? length : most;
}

/* Whether the change was made. */
static bool done(const struct row *row, enum page_status status) {
    assert_true(status == PAGE_DONE || (status == PAGE_NO_MEMORY && row->starved));
    return status == PAGE_DONE;
}

static void step_read(struct row *row) {
    static char read[MOST];
    uint64_t offset = any_offset(row, MOST), length = any_length(row, MOST - offset);
    enum page_status status;
    COMMAND(row, status, paged_bytes_read(&row->bytes, &access, offset, read, length));
    assert_int_equal(status, PAGE_DONE);
    assert_memory_equal(read, row->model + offset, length);
}

static void check_piece(const struct row *row, const struct paged_bytes_piece *piece) {
    static const char zeros[MOST];
    assert_memory_equal(piece->data ? piece->data : zeros, row->model + piece->offset, piece->length);
}

static void step_walk(struct row *row) {
    uint64_t offset = any_offset(row, MOST), length = any_length(row, MOST - offset), at;
    uint64_t begin = offset < row->length ? offset : row->length;
    uint64_t end = offset + length < row->length ? offset + length : row->length;
    struct page_access access = page_fixture_command(&row->fixture);
    bool touched, once = below(row, 2);
    do {
        struct paged_bytes_walk walk;
        struct paged_bytes_piece piece;
        at = begin;
        touched = once ? paged_bytes_request(&row->bytes, &access, offset, length)
                       : paged_bytes_touch(&row->bytes, &access, offset, length);
        bool was_missing = access.missing;
        paged_bytes_walk_range(&walk, &row->bytes, &access, offset, length);
        for (; paged_bytes_walk_next(&walk, &piece); at += piece.length) {
            assert_int_equal(piece.offset, at);
            assert_true(piece.length);
            if (!access.missing) check_piece(row, &piece);
            if (once) page_pass(&access);
        }
        assert_int_equal(touched, !was_missing);
    } while (page_fixture_again(&row->fixture, &access));
    assert_true(touched);
    if (end > begin) assert_int_equal(at, end);
}

static void step_write(struct row *row) {
    static char data[MOST];
    uint64_t offset = any_offset(row, MOST), length = any_length(row, MOST - offset);
    bool zeros = below(row, 4) == 0;
    for (uint64_t i = 0; i < length; i++) data[i] = (char)(zeros ? 0 : random_next(&row->random));
    uint32_t pages = page_table_live(pages_of(row));
    enum page_status status;
    COMMAND(row, status, paged_bytes_write(&row->bytes, &access, offset, span_of(data, length)));
    if (!done(row, status) || zeros) assert_int_equal(page_table_live(pages_of(row)), pages);
    if (status != PAGE_DONE) return;
    memcpy(row->model + offset, data, length);
    if (length && offset + length > row->length) row->length = offset + length;
}

/* Writes that were prepared succeed whatever happens to memory. */
static void step_prepare(struct row *row) {
    uint64_t offset = any_offset(row, MOST - 1), length = 1 + any_length(row, MOST - offset - 1);
    static char data[MOST];
    memset(data, (int)below(row, 256), length);
    struct page_access access = page_fixture_command(&row->fixture);
    enum page_status status;
    do status = paged_bytes_prepare(&row->bytes, &access, offset, length);
    while (page_fixture_again(&row->fixture, &access));
    if (!done(row, status)) return;
    if (!row->starved) page_fixture_starve(&row->fixture);
    assert_int_equal(paged_bytes_write(&row->bytes, &access, offset, span_of(data, length)), PAGE_DONE);
    if (!row->starved) page_fixture_feed(&row->fixture);
    memcpy(row->model + offset, data, length);
    if (offset + length > row->length) row->length = offset + length;
}

static void step_set_length(struct row *row) {
    uint64_t length = any_offset(row, MOST);
    enum page_status status;
    COMMAND(row, status, paged_bytes_set_length(&row->bytes, &access, length));
    if (!done(row, status)) return;
    if (length < row->length) memset(row->model + length, 0, row->length - length);
    row->length = length;
}

static void step_zero(struct row *row) {
    uint64_t offset = any_offset(row, MOST), length = any_length(row, MOST - offset);
    enum page_status status;
    COMMAND(row, status, paged_bytes_zero(&row->bytes, &access, offset, length));
    if (done(row, status)) memset(row->model + offset, 0, length);
}

static void step_around(struct row *row) {
    switch (below(row, 6)) {
    case 0:
        if (row->starved)
            page_fixture_feed(&row->fixture);
        else
            page_fixture_starve(&row->fixture);
        row->starved = !row->starved;
        break;
    case 1:
        if (!row->starved) page_fixture_compact(&row->fixture);
        break;
    default:
        if (!row->fixture.options.no_tier) page_fixture_chill(&row->fixture, pages_of(row), (unsigned)below(row, 101));
        break;
    }
}

static void check(struct row *row) {
    struct page_access access = page_fixture_command(&row->fixture);
    do assert_true(paged_bytes_kind.validate(&row->bytes.collection, &access));
    while (page_fixture_again(&row->fixture, &access));
    assert_int_equal(row->bytes.length, row->length);
}

static void run_model(struct page_fixture_options options) {
    struct row row;
    options.seed = seed_of_run();
    row_open(&row, options);
    for (unsigned i = 0; i < STEPS; i++) {
        switch (below(&row, 16)) {
        case 0:
        case 1:
        case 2: step_read(&row); break;
        case 3:
        case 4: step_walk(&row); break;
        case 5: step_prepare(&row); break;
        case 6:
            if (below(&row, 8) == 0) step_set_length(&row);
            break;
        case 7: step_zero(&row); break;
        case 8: step_around(&row); break;
        default: step_write(&row); break;
        }
        if (i % 64 == 0) check(&row);
    }
    check(&row);
    if (!options.no_tier && options.missing_percent) assert_true(row.fixture.reruns > STEPS / 100);
    row_close(&row);
}

static void a_row_in_memory_holds_what_was_written(void **state) {
    (void)state;
    run_model((struct page_fixture_options){.no_tier = true});
}

static void a_row_on_a_tier_holds_what_was_written(void **state) {
    (void)state;
    run_model((struct page_fixture_options){.missing_percent = 40, .not_now_percent = 10, .wanted_percent = 30});
}

static void a_sparse_row_costs_its_touched_pages(void **state) {
    (void)state;
    struct row row;
    row_open(&row, (struct page_fixture_options){.seed = 1, .no_tier = true});
    struct page_access access = page_fixture_command(&row.fixture);
    assert_int_equal(paged_bytes_write(&row.bytes, &access, PAGED_BYTES_MAX - 1, SPAN_LITERAL("x")), PAGE_DONE);
    assert_int_equal(row.bytes.length, PAGED_BYTES_MAX);
    assert_int_equal(page_table_live(pages_of(&row)), 1);
    char byte;
    assert_int_equal(paged_bytes_read(&row.bytes, &access, PAGED_BYTES_MAX - 1, &byte, 1), PAGE_DONE);
    assert_int_equal(byte, 'x');
    struct paged_bytes_walk walk;
    struct paged_bytes_piece piece;
    unsigned pieces = 0;
    paged_bytes_walk_range(&walk, &row.bytes, &access, 0, PAGED_BYTES_MAX);
    while (paged_bytes_walk_next(&walk, &piece)) pieces++;
    assert_int_equal(pieces, 2);
    assert_int_equal(paged_bytes_zero(&row.bytes, &access, 0, PAGED_BYTES_MAX), PAGE_DONE);
    assert_int_equal(page_table_end(pages_of(&row)), 0);
    assert_int_equal(row.bytes.length, PAGED_BYTES_MAX);
    row_close(&row);
}

static void a_page_fills_its_size_class(void **state) {
    (void)state;
    assert_int_equal(page_payload_filling(PAGED_BYTES_PAGE), PAGED_BYTES_PAGE);
    assert_int_equal(heap_size_for(PAGED_BYTES_PAGE + PAGE_HEADER), PAGED_BYTES_PAGE + PAGE_HEADER);
}

static void a_short_range_of_a_cold_row_reads_one_page(void **state) {
    (void)state;
    struct row row;
    static char data[8 * PAGED_BYTES_PAGE], read[100];
    row_open(&row, (struct page_fixture_options){.seed = 1});
    memset(data, 'd', sizeof(data));
    struct page_access access = page_fixture_command(&row.fixture);
    assert_int_equal(paged_bytes_write(&row.bytes, &access, 0, span_of(data, sizeof(data))), PAGE_DONE);
    page_fixture_chill(&row.fixture, pages_of(&row), 100);
    uint64_t before = row.fixture.reads;
    access = page_fixture_command(&row.fixture);
    assert_int_equal(paged_bytes_read(&row.bytes, &access, 3 * PAGED_BYTES_PAGE + 50, read, sizeof(read)), PAGE_DONE);
    assert_int_equal(row.fixture.reads - before, 1);
    assert_memory_equal(read, data, sizeof(read));
    row_close(&row);
}

static void a_root_is_copied_without_its_pages(void **state) {
    (void)state;
    struct row row;
    row_open(&row, (struct page_fixture_options){.seed = 1, .no_tier = true});
    struct page_access access = page_fixture_command(&row.fixture);
    assert_int_equal(paged_bytes_set_length(&row.bytes, &access, 12345), PAGE_DONE);
    struct collection *copy = paged_bytes_kind.copy_root(&row.bytes.collection);
    assert_non_null(copy);
    assert_int_equal(paged_bytes_of(copy)->length, 12345);
    free(copy);
    row_close(&row);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_fills_its_size_class),
        cmocka_unit_test(a_sparse_row_costs_its_touched_pages),
        cmocka_unit_test(a_short_range_of_a_cold_row_reads_one_page),
        cmocka_unit_test(a_root_is_copied_without_its_pages),
        cmocka_unit_test(a_row_in_memory_holds_what_was_written),
        cmocka_unit_test(a_row_on_a_tier_holds_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
