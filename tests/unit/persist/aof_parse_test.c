/* Items of an append-only file: every form whole, cut at every byte, and damaged. */

#include "persist/aof_layout.h"
#include "persist/aof_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void a_command_is_taken_apart(void **state) {
    (void)state;
    struct aof_item item;
    struct span words[3];
    assert_int_equal(aof_parse_item(SPAN_LITERAL("*3\r\n$3\r\nSET\r\n$3\r\n\r\n$\r\n$0\r\n\r\n*1\r\n"), &item),
                     AOF_PARSE_COMMAND);
    assert_int_equal(item.argc, 3);
    assert_int_equal(item.length, 28);
    assert_true(span_equal(item.name, SPAN_LITERAL("SET")));
    aof_parse_words("*3\r\n$3\r\nSET\r\n$3\r\n\r\n$\r\n$0\r\n\r\n*1\r\n", &item, words);
    assert_true(span_equal(words[0], SPAN_LITERAL("SET")));
    assert_true(span_equal(words[1], SPAN_LITERAL("\r\n$")));
    assert_int_equal(words[2].length, 0);
}

static void a_line_ends_with_its_line_feed(void **state) {
    (void)state;
    struct aof_item item;
    assert_int_equal(aof_parse_item(SPAN_LITERAL("#TS:1\r\n*1\r\n"), &item), AOF_PARSE_LINE);
    assert_int_equal(item.length, 7);
    char longer[AOF_ANNOTATION_MAX + 8];
    memset(longer, '#', sizeof(longer));
    assert_int_equal(aof_parse_item(span_of(longer, AOF_ANNOTATION_MAX - 1), &item), AOF_PARSE_SHORT);
    assert_int_equal(aof_parse_item(span_of(longer, sizeof(longer)), &item), AOF_PARSE_BAD);
}

static void every_beginning_of_an_item_is_short(void **state) {
    (void)state;
    static const char *const whole[] = {"*2\r\n$3\r\nDEL\r\n$10\r\n0123456789\r\n", "#TS:17\r\n", "*1\r\n$0\r\n\r\n"};
    struct aof_item item;
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        size_t length = strlen(whole[i]);
        for (size_t cut = 0; cut < length; cut++) {
            char *copy = malloc(cut + 1); /* so that a sanitizer sees a byte too much being read */
            memcpy(copy, whole[i], cut);
            copy = realloc(copy, cut > 0 ? cut : 1);
            assert_int_equal(aof_parse_item(span_of(copy, cut), &item), AOF_PARSE_SHORT);
            assert_true(item.length > cut && item.length <= length);
            free(copy);
        }
        assert_true(aof_parse_item(span_of(whole[i], length), &item) <= AOF_PARSE_LINE);
        assert_int_equal(item.length, length);
    }
}

static void damage_is_bad_and_placed(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t at;
    } bad[] = {
        {"SET a b\r\n", 0},
        {"*0\r\n", 4},
        {"*-1\r\n", 1},
        {"*x\r\n", 1},
        {"*\r\n", 1},
        {"*01\r\n", 2},
        {"*99999999999\r\n", 11},
        {"*1\n$1\r\na\r\n", 2},
        {"*1\r\r", 3},
        {"*1\r\n+OK\r\n", 4},
        {"*1\r\n$-1\r\n", 5},
        {"*1\r\n$9999999999\r\n", 17},
        {"*1\r\n$1\r\nab\r\n", 9},
        {"*1\r\n$1\r\na\rx", 10},
        {"*1\r\n$1\r\nab", 9},
    };
    struct aof_item item;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(aof_parse_item(span_of_text(bad[i].text), &item), AOF_PARSE_BAD);
        assert_int_equal(item.bad_at, bad[i].at);
    }
}

static void a_short_item_says_how_long_it_will_be(void **state) {
    (void)state;
    struct aof_item item;
    assert_int_equal(aof_parse_item(SPAN_LITERAL("*1\r\n$1000000\r\nabc"), &item), AOF_PARSE_SHORT);
    assert_int_equal(item.length, 4 + 10 + 1000000 + 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_is_taken_apart),
        cmocka_unit_test(a_line_ends_with_its_line_feed),
        cmocka_unit_test(every_beginning_of_an_item_is_short),
        cmocka_unit_test(damage_is_bad_and_placed),
        cmocka_unit_test(a_short_item_says_how_long_it_will_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
