/* What opens, and what does not. */

#include "server/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define matches(given, secret) password_matches(SPAN_LITERAL(given), SPAN_LITERAL(secret))

static void only_the_password_opens(void **state) {
    (void)state;
    assert_true(matches("secret", "secret"));
    assert_true(matches("", ""));
    assert_true(matches("p\xc3\xa4ss w\"ord", "p\xc3\xa4ss w\"ord"));
    assert_false(matches("", "secret"));
    assert_false(matches("secre", "secret"));
    assert_false(matches("secrets", "secret"));
    assert_false(matches("Secret", "secret"));
    assert_false(matches("secreT", "secret"));
    assert_false(matches("x", ""));
}

static void zero_bytes_are_bytes(void **state) {
    (void)state;
    assert_true(matches("abc\0def", "abc\0def"));
    assert_true(matches("\0", "\0"));
    assert_false(matches("abc", "abc\0def"));
    assert_false(matches("abc\0deg", "abc\0def"));
    assert_false(matches("\0\0", "\0"));
    assert_false(matches("", "\0"));
}

/* The terminator and what would come after it are compared too, and must not pass for the end. */
static void longer_ones_do_not_wrap_around(void **state) {
    (void)state;
    assert_false(matches("secret\0", "secret"));
    assert_false(matches("secret\0secret", "secret"));
    assert_false(matches("\0", ""));
    assert_false(matches("aaaa", "aa"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_password_opens),
        cmocka_unit_test(zero_bytes_are_bytes),
        cmocka_unit_test(longer_ones_do_not_wrap_around),
    };
    return cmocka_run_group_tests_name("server/password", tests, NULL, NULL);
}
