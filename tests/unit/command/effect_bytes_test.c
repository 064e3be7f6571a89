/* Whether what a client sent is what the journal would have written, byte for byte. */

#include "command/effect_bytes.h"
#include "resp/parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* Parses a command as a connection does, and asks. What is composed of its words is the measure. */
static bool are(const char *text, size_t length) {
    struct resp_parser parser;
    struct span argv[8], *words;
    const struct resp_limits limits = {.bulk_bytes = 1 << 20};
    uint32_t argc;
    size_t consumed;
    struct span sent = span_of(text, length);
    resp_parser_init(&parser);
    assert_int_equal(resp_parse(&parser, sent, &limits, argv, 8, &words, &argc, &consumed), RESP_PARSE_DONE);
    assert_int_equal(consumed, length);
    bool same = effect_bytes_are(sent, words, argc);
    char *composed = malloc(effect_bytes_of(words, argc));
    assert_non_null(composed);
    size_t bytes = (size_t)(effect_bytes_write(composed, words, argc) - composed);
    assert_int_equal(bytes, effect_bytes_of(words, argc));
    assert_int_equal(same, bytes == length && memcmp(composed, text, length) == 0);
    free(composed);
    resp_parser_reset(&parser);
    return same;
}

static bool are_text(const char *text) {
    return are(text, strlen(text));
}

static void what_clients_usually_send_is(void **state) {
    (void)state;
    assert_true(are_text("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"));
    assert_true(are_text("*2\r\n$4\r\nINCR\r\n$12\r\nkey:00000001\r\n"));
    char text[400];
    for (int length = 1; length < 300; length++) {
        int size = snprintf(text, sizeof(text), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%0*d\r\n", length, length, 7);
        assert_true(are(text, (size_t)size));
    }
}

static void other_forms_of_numbers_are_not(void **state) {
    const char *sent = "*02\r\n$4\r\nINCR\r\n$1\r\nk\r\n"; /* the parser refuses it, but is not relied on */
    const struct span words[] = {span_of(sent + 9, 4), span_of(sent + 19, 1)};
    (void)state;
    assert_false(effect_bytes_are(span_of(sent, strlen(sent)), words, 2));
}

static void a_word_without_a_line_end_is_not(void **state) {
    (void)state;
    assert_false(are_text("*2\r\n$4\r\nINCR..$1\r\nk\r\n"));
    assert_false(are_text("*2\r\n$4\r\nINCR\r\n$1\r\nk.."));
}

static void inline_commands_are_not(void **state) {
    (void)state;
    assert_false(are_text("SET k v\r\n"));
    assert_false(are_text("   *3 k v\r\n"));
}

static void words_from_elsewhere_are_not(void **state) {
    const char *sent = "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n";
    struct span words[] = {span_of(sent + 8, 4), SPAN_LITERAL("k")};
    (void)state;
    assert_false(effect_bytes_are(span_of(sent, strlen(sent)), words, 2));
    words[1] = span_of(sent + 18, 1);
    assert_true(effect_bytes_are(span_of(sent, strlen(sent)), words, 2));
    assert_false(effect_bytes_are(span_of(sent, strlen(sent)), words, 1));
    assert_false(effect_bytes_are(span_of(sent, strlen(sent) - 1), words, 2));
    assert_false(effect_bytes_are((struct span){0}, words, 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_clients_usually_send_is),     cmocka_unit_test(other_forms_of_numbers_are_not),
        cmocka_unit_test(a_word_without_a_line_end_is_not), cmocka_unit_test(inline_commands_are_not),
        cmocka_unit_test(words_from_elsewhere_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
