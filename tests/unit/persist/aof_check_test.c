/* The chain of checksums of an increment: what is composed is followed, and nothing else is. */

#include "persist/aof_check.h"
#include "persist/aof_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static struct aof_annotation classified(const char *line, size_t length, enum aof_line kind) {
    struct aof_annotation annotation = {0};
    assert_int_equal(aof_check_classify(span_of(line, length), &annotation), kind);
    return annotation;
}

static void lines_are_told_apart(void **state) {
    (void)state;
    struct aof_annotation annotation;
    static const struct {
        const char *text;
        enum aof_line kind;
    } lines[] = {
        {"#TS:1700000000\r\n", AOF_LINE_OTHER},
        {"#\n", AOF_LINE_OTHER},
        {"# a comment about #TERRACE:1\r\n", AOF_LINE_OTHER},
        {"#TERRACE+\r\n", AOF_LINE_OPENING},
        {"#TERRACE:0:7:0:0123456789abcdef\r\n", AOF_LINE_HEADER},
        {"#TERRACE:3:7:0:0123456789abcdef\r\n", AOF_LINE_CLOSING},
        {"#TERRACE:3:7:0:0123456789abcdef\n", AOF_LINE_BROKEN},
        {"#TERRACE:3:7:0:0123456789abcde\r\n", AOF_LINE_BROKEN},
        {"#TERRACE:3:7:0:0123456789ABCDEF\r\n", AOF_LINE_BROKEN},
        {"#TERRACE:3:7:0123456789abcdef\r\n", AOF_LINE_BROKEN},
        {"#TERRACE:03:7:0:0123456789abcdef\r\n", AOF_LINE_BROKEN},
        {"#TERRACE:3:99999999999999999999:0:0123456789abcdef\r\n", AOF_LINE_BROKEN},
        {"#TERRACE+\n", AOF_LINE_BROKEN},
        {"#TERRACE;\r\n", AOF_LINE_BROKEN},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_int_equal(aof_check_classify(span_of_text(lines[i].text), &annotation), lines[i].kind);
}

static void what_is_written_is_followed(void **state) {
    (void)state;
    struct aof_check writer, reader;
    char line[AOF_CHECK_LINE_MAX];
    size_t length = aof_check_begin(&writer, UINT64_MAX, line);
    assert_int_equal(strlen(line), length);
    struct aof_annotation annotation = classified(line, length, AOF_LINE_HEADER);
    assert_true(aof_check_follow(&reader, &annotation));
    for (unsigned batch = 1; batch <= 50; batch++) {
        length = aof_check_open(&writer, line);
        classified(line, length, AOF_LINE_OPENING);
        aof_check_feed(&reader, line, length);
        for (unsigned piece = 0; piece < batch; piece++) aof_check_feed(&writer, "some bytes", 10);
        for (unsigned piece = 0; piece < batch; piece++) { /* cut otherwise */
            aof_check_feed(&reader, "some b", 6);
            aof_check_feed(&reader, "ytes", 4);
        }
        length = aof_check_close(&writer, batch * 3, line);
        annotation = classified(line, length, AOF_LINE_CLOSING);
        assert_int_equal(annotation.sequence, batch);
        assert_int_equal(annotation.synced, batch * 3);
        assert_true(aof_check_verify(&reader, &annotation));
    }
    /* Reading ends where writing may go on. */
    length = aof_check_close(&reader, 1, line);
    annotation = classified(line, length, AOF_LINE_CLOSING);
    assert_true(aof_check_verify(&writer, &annotation));
}

static void every_number_of_a_closing_counts(void **state) {
    (void)state;
    struct aof_check writer, reader;
    char line[AOF_CHECK_LINE_MAX];
    struct aof_annotation header, closing;
    header = classified(line, aof_check_begin(&writer, 5, line), AOF_LINE_HEADER);
    aof_check_feed(&writer, "abc", 3);
    closing = classified(line, aof_check_close(&writer, 9, line), AOF_LINE_CLOSING);
    for (unsigned bit = 0; bit < 4 * 64; bit++) {
        struct aof_annotation changed = closing;
        uint64_t *fields[] = {&changed.sequence, &changed.bytes, &changed.synced, &changed.check};
        *fields[bit / 64] ^= UINT64_C(1) << bit % 64;
        assert_true(aof_check_follow(&reader, &header));
        aof_check_feed(&reader, "abc", 3);
        assert_false(aof_check_verify(&reader, &changed));
        assert_true(aof_check_verify(&reader, &closing)); /* a refused one has changed nothing */
    }
    assert_true(aof_check_follow(&reader, &header));
    aof_check_feed(&reader, "abd", 3);
    assert_false(aof_check_verify(&reader, &closing));
    header.bytes++;
    assert_false(aof_check_follow(&reader, &header));
}

static void a_batch_of_another_file_does_not_pass(void **state) {
    (void)state;
    struct aof_check one, other;
    char line[AOF_CHECK_LINE_MAX];
    aof_check_begin(&one, 1, line);
    struct aof_annotation header = classified(line, aof_check_begin(&other, 2, line), AOF_LINE_HEADER);
    struct aof_annotation closing = classified(line, aof_check_close(&one, 0, line), AOF_LINE_CLOSING);
    assert_true(aof_check_follow(&other, &header));
    assert_false(aof_check_verify(&other, &closing));
}

static void a_copy_is_a_saved_state(void **state) {
    (void)state;
    struct aof_check check;
    char first[AOF_CHECK_LINE_MAX], second[AOF_CHECK_LINE_MAX];
    aof_check_begin(&check, 1, first);
    aof_check_feed(&check, "abc", 3);
    struct aof_check saved = check;
    aof_check_feed(&check, "def", 3);
    aof_check_close(&check, 0, first);
    check = saved;
    aof_check_feed(&check, "def", 3);
    aof_check_close(&check, 0, second);
    assert_string_equal(first, second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_told_apart),
        cmocka_unit_test(what_is_written_is_followed),
        cmocka_unit_test(every_number_of_a_closing_counts),
        cmocka_unit_test(a_batch_of_another_file_does_not_pass),
        cmocka_unit_test(a_copy_is_a_saved_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
