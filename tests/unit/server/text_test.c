/* Text that grows, and sizes for people. */

#include "server/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void expect(const struct text *text, const char *expected) {
    assert_int_equal(text->length, strlen(expected));
    assert_memory_equal(text->data, expected, text->length);
}

static void pieces_follow_one_another(void **state) {
    (void)state;
    struct text text = {0};
    text_add(&text, "%s:%d\r\n", "name", 7);
    text_add_span(&text, SPAN_LITERAL("bytes\0too"));
    text_add(&text, "%s", "");
    text_add_span(&text, span_of(NULL, 0));
    assert_int_equal(text.length, strlen("name:7\r\n") + 9);
    assert_memory_equal(text.data, "name:7\r\nbytes\0too", text.length);
    text_free(&text);
    assert_null(text.data);
}

static void long_pieces_fit_whatever_the_room(void **state) {
    (void)state;
    char piece[3000];
    memset(piece, 'x', sizeof(piece) - 1);
    piece[sizeof(piece) - 1] = '\0';
    /* Every remainder of room a piece can meet, around the first sizes of the buffer. */
    for (size_t first = 0; first < 2100; first++) {
        struct text text = {0};
        text_add(&text, "%.*s", (int)first, piece);
        text_add(&text, "%s", piece);
        assert_int_equal(text.length, first + sizeof(piece) - 1);
        for (size_t i = 0; i < text.length; i++) assert_int_equal(text.data[i], 'x');
        text_free(&text);
    }
}

static void expect_human(uint64_t bytes, const char *expected) {
    char human[TEXT_HUMAN_MAX];
    text_human_bytes(bytes, human);
    assert_string_equal(human, expected);
}

static void sizes_are_spelled_as_redis_spells_them(void **state) {
    (void)state;
    expect_human(0, "0B");
    expect_human(1023, "1023B");
    expect_human(1024, "1.00K");
    expect_human(916416, "894.94K");
    expect_human(1 << 20, "1.00M");
    expect_human(25276502016, "23.54G");
    expect_human((uint64_t)5 << 40, "5.00T");
    expect_human(UINT64_MAX, "16.00E");
}

static void nothing_is_an_empty_text(void **state) {
    (void)state;
    struct text text = {0};
    text_add(&text, "%s", "");
    expect(&text, "");
    text_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_follow_one_another),
        cmocka_unit_test(long_pieces_fit_whatever_the_room),
        cmocka_unit_test(sizes_are_spelled_as_redis_spells_them),
        cmocka_unit_test(nothing_is_an_empty_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
