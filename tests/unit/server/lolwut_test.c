/* LOLWUT draws for every seed. */

#include "server/lolwut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void every_seed_gives_a_picture(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        struct text text = {0};
        lolwut_draw(&text, seed);
        text_add(&text, "%c", '\0');
        assert_non_null(strchr(text.data, '/'));
        assert_non_null(strchr(text.data, '\\'));
        assert_non_null(strstr(text.data, "\nTerrace ver. " TERRACE_VERSION));
        text_free(&text);
    }
}

static void seeds_differ(void **state) {
    (void)state;
    struct text one = {0}, same = {0}, other = {0};
    lolwut_draw(&one, 1);
    lolwut_draw(&same, 1);
    lolwut_draw(&other, 2);
    assert_true(span_equal(text_span(&one), text_span(&same)));
    assert_false(span_equal(text_span(&one), text_span(&other)));
    text_free(&one);
    text_free(&same);
    text_free(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_seed_gives_a_picture),
        cmocka_unit_test(seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
