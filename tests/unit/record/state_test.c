/* Rows of bytes, as a whole and in pieces: what is read is what was written, and nothing behind it. */

#include "record/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { NUMBERS = 700000, PIECES_MAX = 16 };

static void what_is_read_is_what_was_written(void **state) {
    (void)state;
    struct state_writer out = {0};
    state_write_u8(&out, 7);
    state_write_u16(&out, 65535);
    state_write_u32(&out, 1u << 31);
    state_write_u64(&out, UINT64_MAX - 1);
    state_write_i64(&out, -5);
    state_write(&out, "bytes", 5);
    state_write_text(&out, span_of("a text", 6));
    state_write_text(&out, span_of("", 0));
    assert_false(out.failed);
    struct state_reader in = {.rest = span_of(out.bytes, out.length)};
    char text[6] = "";
    assert_int_equal(state_read_u8(&in), 7);
    assert_int_equal(state_read_u16(&in), 65535);
    assert_int_equal(state_read_u32(&in), 1u << 31);
    assert_true(state_read_u64(&in) == UINT64_MAX - 1);
    assert_true(state_read_i64(&in) == -5);
    assert_false(state_read_all(&in));
    state_read(&in, text, 5);
    assert_string_equal(text, "bytes");
    char read[6];
    assert_true(state_read_u32(&in) == 6 && state_read_text(&in, read, 6));
    assert_memory_equal(read, "a text", 6);
    assert_true(state_read_u32(&in) == 0 && state_read_text(&in, read, 0));
    assert_true(state_read_all(&in));
    state_writer_free(&out);
}

static void what_is_not_there_reads_as_zero(void **state) {
    (void)state;
    struct state_reader in = {.rest = span_of("\1\1\1", 3)};
    assert_int_equal(state_read_u16(&in), 257);
    assert_int_equal(state_read_u16(&in), 1);
    assert_true(in.failed);
    assert_int_equal(state_read_u8(&in), 0);
    assert_false(state_read_all(&in));
    char text[4];
    in = (struct state_reader){.rest = span_of("abc", 3)};
    assert_false(state_read_text(&in, text, 4));
}

/* ---- pieces ---- */

struct pieces {
    char *bytes[PIECES_MAX];
    size_t lengths[PIECES_MAX];
    unsigned count, read, refused; /* refused: the number of the piece that is; 0: none */
};

static bool take(void *ctx, const void *bytes, size_t length) {
    struct pieces *pieces = ctx;
    assert_true(length <= STATE_PIECE_BYTES && pieces->count < PIECES_MAX);
    if (pieces->refused && pieces->count == pieces->refused) return false;
    pieces->bytes[pieces->count] = malloc(length);
    memcpy(pieces->bytes[pieces->count], bytes, length);
    pieces->lengths[pieces->count++] = length;
    return true;
}

static bool give(void *ctx, struct span *piece) {
    struct pieces *pieces = ctx;
    if (pieces->read == pieces->count) return false;
    *piece = span_of(pieces->bytes[pieces->read], pieces->lengths[pieces->read]);
    pieces->read++;
    return true;
}

static void pieces_free(struct pieces *pieces) {
    for (unsigned i = 0; i < pieces->count; i++) free(pieces->bytes[i]);
}

static void a_long_row_goes_piece_by_piece(void **state) {
    (void)state;
    struct pieces pieces = {0};
    struct state_writer out = {.piece = take, .ctx = &pieces};
    state_write_u8(&out, 1); /* so that numbers lie across the ends of pieces */
    for (uint32_t i = 0; i < NUMBERS; i++) state_write_u32(&out, i);
    assert_false(out.failed);
    assert_int_equal(pieces.count, (1 + NUMBERS * 4) / STATE_PIECE_BYTES);
    assert_true(take(&pieces, out.bytes, out.length)); /* the last one is its owner's to give */
    struct state_reader in = {.piece = give, .ctx = &pieces};
    assert_int_equal(state_read_u8(&in), 1);
    for (uint32_t i = 0; i < NUMBERS; i++) assert_int_equal(state_read_u32(&in), i);
    assert_true(state_read_all(&in));
    (void)state_read_u8(&in);
    assert_true(in.failed);
    state_writer_free(&out);
    pieces_free(&pieces);
}

static void a_piece_that_is_refused_ends_the_writing(void **state) {
    (void)state;
    struct pieces pieces = {.refused = 1};
    struct state_writer out = {.piece = take, .ctx = &pieces};
    for (uint32_t i = 0; i < NUMBERS; i++) state_write_u32(&out, i);
    assert_true(out.failed);
    assert_int_equal(pieces.count, 1);
    state_writer_free(&out);
    pieces_free(&pieces);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_what_was_written),
        cmocka_unit_test(what_is_not_there_reads_as_zero),
        cmocka_unit_test(a_long_row_goes_piece_by_piece),
        cmocka_unit_test(a_piece_that_is_refused_ends_the_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
