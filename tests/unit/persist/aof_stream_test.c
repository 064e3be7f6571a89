/* Damage in a file: refused at its place, or at the end taken for torn, and never given out. Seen through the loader.
 */

#include "persist/aof_load.h"
#include "tests/support/aof_fixture.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* Three batches; the offsets at which they begin, and the last ends. */
static void three_batches(size_t begins[4]) {
    const char *const lines[3][3] = {
        {"SET a 1", "SET b 2", "DEL c"}, {"MULTI", "SET a 5", "EXEC"}, {"SELECT 1", "SET z 26", "INCR b"}};
    aof_begin_file(&aof_text);
    for (unsigned i = 0; i < 3; i++) {
        begins[i] = aof_text.length;
        aof_put_batch(&aof_text, lines[i], 3);
    }
    begins[3] = aof_text.length;
}

static const char all_lines[] = "SET a 1\nSET b 2\nDEL c\nSET a 5\nSELECT 1\nSET z 26\nINCR b\n";

/* One bit wrong anywhere: the same commands, or refused, or, in the last batch only, that batch is missing and the
 * result says so. */
static void any_flipped_bit_is_found_or_harmless(void **state) {
    (void)state;
    size_t begins[4];
    unsigned refused = 0, cut = 0, harmless = 0;
    aof_everything_synced = true;
    three_batches(begins);
    for (size_t bit = 0; bit < aof_text.length * 8; bit++) {
        aof_text.data[bit / 8] ^= (char)(1 << bit % 8);
        aof_write_file(&aof_text, aof_text.length);
        enum aof_load_status strict = aof_load(false);
        assert_true(strict != AOF_LOAD_DONE || aof_result.torn_bytes == 0);
        if (strict == AOF_LOAD_DONE) aof_expect_given(all_lines);
        enum aof_load_status status = aof_load(true);
        if (status == AOF_LOAD_DONE && aof_result.torn_bytes > 0) {
            assert_true(bit / 8 >= begins[2]);
            aof_expect_given("SET a 1\nSET b 2\nDEL c\nSET a 5\n");
            assert_int_equal(aof_file_length("file.aof"), begins[2]);
            assert_int_equal(strict, AOF_LOAD_TORN);
            cut++;
        } else if (status == AOF_LOAD_DONE) {
            aof_expect_given(all_lines);
            harmless++;
        } else {
            assert_int_equal(status, AOF_LOAD_CORRUPT);
            assert_int_equal(strict, AOF_LOAD_CORRUPT);
            assert_true(aof_result.from <= bit / 8 && (aof_result.to == 0 || bit / 8 < aof_result.to));
            assert_int_equal(aof_file_length("file.aof"), aof_text.length);
            refused++;
        }
        aof_text.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(harmless, 0);
    assert_int_equal(cut, (begins[3] - begins[2]) * 8);
    assert_int_equal(refused + cut, aof_text.length * 8);
}

static void a_closing_that_says_all_is_synced_leaves_nothing_to_be_cut(void **state) {
    (void)state;
    size_t begins[4];
    char line[AOF_CHECK_LINE_MAX];
    aof_everything_synced = true;
    three_batches(begins);
    aof_put(&aof_text, line, aof_check_close(&aof_chain, aof_text.length, line));
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(false), AOF_LOAD_DONE);
    aof_expect_given(all_lines);
    for (size_t byte = begins[0]; byte < begins[3]; byte++) {
        aof_text.data[byte] ^= 4;
        aof_write_file(&aof_text, aof_text.length);
        assert_int_equal(aof_load(true), AOF_LOAD_CORRUPT);
        aof_text.data[byte] ^= 4;
    }
}

static void damage_is_torn_where_it_was_never_synced(void **state) {
    (void)state;
    size_t begins[4];
    aof_claims_synced = 0;
    three_batches(begins);
    /* Nothing is known of syncs: damage in front of a later batch is not taken for the end. */
    memset(aof_text.data + begins[1] + 20, 0, 10);
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(true), AOF_LOAD_CORRUPT);
    assert_int_equal(aof_result.from, begins[1]);
    assert_int_equal(aof_result.to, begins[2]);
    assert_string_equal(aof_result.file, "file.aof");
    /* The first batch was synced, the others were not: after a power failure any of their sectors may be missing. */
    aof_clean(NULL);
    aof_everything_synced = true;
    three_batches(begins);
    const char *const lines[] = {"SET x 1"};
    aof_everything_synced = false; /* claims stay at the end of the third batch */
    size_t fourth = aof_text.length;
    aof_put_batch(&aof_text, lines, 1);
    size_t fifth = aof_text.length;
    aof_put_batch(&aof_text, lines, 1);
    aof_put_batch(&aof_text, lines, 1);
    memset(aof_text.data + fourth, 0, 40);
    memset(aof_text.data + fifth + 30, 0, 10);
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(false), AOF_LOAD_TORN);
    assert_int_equal(aof_load(true), AOF_LOAD_DONE);
    aof_expect_given(all_lines);
    assert_int_equal(aof_result.torn_bytes, aof_text.length - fourth);
    assert_int_equal(aof_file_length("file.aof"), fourth);
    /* The same in what was synced. */
    aof_text.data[begins[2] + 20] ^= 1;
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(true), AOF_LOAD_CORRUPT);
    assert_int_equal(aof_result.from, begins[2]);
}

static void zeros_behind_the_last_batch_are_torn(void **state) {
    (void)state;
    size_t begins[4];
    aof_everything_synced = true;
    three_batches(begins);
    char zeros[700] = {0};
    aof_put(&aof_text, zeros, sizeof(zeros));
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(true), AOF_LOAD_DONE);
    aof_expect_given(all_lines);
    assert_int_equal(aof_file_length("file.aof"), begins[3]);
}

static void a_file_that_lost_its_header_is_refused(void **state) {
    (void)state;
    size_t begins[4];
    three_batches(begins);
    memmove(aof_text.data, aof_text.data + begins[0], aof_text.length - begins[0]);
    aof_write_file(&aof_text, aof_text.length - begins[0]);
    assert_int_equal(aof_load(true), AOF_LOAD_CORRUPT);
    assert_int_equal(aof_applied, 1); /* the SELECT alone */
}

static void what_is_no_command_is_refused_with_its_offset(void **state) {
    (void)state;
    aof_put_command(&aof_text, "SET a 1");
    size_t at = aof_text.length;
    aof_put_text(&aof_text, "SET b 2\r\n");
    aof_put_command(&aof_text, "SET c 3");
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(true), AOF_LOAD_CORRUPT);
    assert_int_equal(aof_result.from, at);
    assert_non_null(strstr(aof_result.reason, "Bad file format reading the append only file file.aof at byte 27"));
    static const char *const sequences[] = {"EXEC", "MULTI MULTI"};
    for (unsigned i = 0; i < 2; i++) {
        aof_text.length = 0;
        for (unsigned word = 0; word <= i; word++) aof_put_command(&aof_text, i == 0 ? "EXEC" : "MULTI");
        aof_put_command(&aof_text, sequences[0]);
        aof_write_file(&aof_text, aof_text.length);
        assert_int_equal(aof_load(true), AOF_LOAD_CORRUPT);
    }
}

/* What Redis appended has been aof_given out when the closing behind it turns out wrong: no cut can take that back. */
static void damage_in_what_redis_appended_is_refused_once_it_was_vouched_for(void **state) {
    (void)state;
    const char *const lines[] = {"SET a 1"};
    aof_begin_file(&aof_text);
    size_t from = aof_text.length;
    aof_put_command(&aof_text, "SET b 2");
    aof_check_feed(&aof_chain, aof_text.data + from, aof_text.length - from);
    aof_put_batch(&aof_text, lines, 1);
    aof_text.data[from + 24] ^= 1; /* the 2 */
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(true), AOF_LOAD_CORRUPT);
    assert_int_equal(aof_result.from, from);
    assert_int_equal(aof_result.to, aof_text.length);
}

/* Cutting at the comment would leave a transaction that is open. */
static void a_comment_within_a_transaction_is_no_place_to_cut(void **state) {
    (void)state;
    aof_begin_file(&aof_text);
    size_t from = aof_text.length;
    aof_put_command(&aof_text, "MULTI");
    aof_put_text(&aof_text, "# a comment\r\n");
    aof_put_command(&aof_text, "SET b 2");
    aof_write_file(&aof_text, aof_text.length);
    assert_int_equal(aof_load(true), AOF_LOAD_DONE);
    aof_expect_given("");
    assert_int_equal(aof_file_length("file.aof"), from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(any_flipped_bit_is_found_or_harmless, aof_clean),
        cmocka_unit_test_teardown(a_closing_that_says_all_is_synced_leaves_nothing_to_be_cut, aof_clean),
        cmocka_unit_test_teardown(damage_is_torn_where_it_was_never_synced, aof_clean),
        cmocka_unit_test_teardown(zeros_behind_the_last_batch_are_torn, aof_clean),
        cmocka_unit_test_teardown(a_file_that_lost_its_header_is_refused, aof_clean),
        cmocka_unit_test_teardown(what_is_no_command_is_refused_with_its_offset, aof_clean),
        cmocka_unit_test_teardown(damage_in_what_redis_appended_is_refused_once_it_was_vouched_for, aof_clean),
        cmocka_unit_test_teardown(a_comment_within_a_transaction_is_no_place_to_cut, aof_clean),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
