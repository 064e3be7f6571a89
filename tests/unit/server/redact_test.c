/* Which arguments MONITOR and SLOWLOG hide. */

#include "resp/parser.h"
#include "server/redact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { WORDS_MAX = 16 };

/* `line` as it is shown when it is a call of the command named `name`. */
static const char *shown(const char *name, const char *line) {
    static char text[256];
    char copy[256];
    struct span words[WORDS_MAX];
    const struct command command = {.full_name = name};
    snprintf(copy, sizeof(copy), "%s", line);
    int count = resp_split_line(copy, strlen(copy), words, WORDS_MAX);
    const struct call call = {.command = &command, .argv = words, .argc = (uint32_t)count};
    size_t length = 0;
    for (uint32_t i = 0; i < call.argc; i++) {
        struct span argument = redact_argument(&call, i);
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%.*s", i ? " " : "", (int)argument.length,
                                   argument.data);
    }
    return text;
}

static void others_are_shown_whole(void **state) {
    (void)state;
    assert_string_equal(shown("set", "SET requirepass auth"), "SET requirepass auth");
    assert_string_equal(shown("config|get", "CONFIG GET requirepass"), "CONFIG GET requirepass");
}

static void auth_shows_nothing(void **state) {
    (void)state;
    assert_string_equal(shown("auth", "AUTH secret"), "AUTH (redacted)");
    assert_string_equal(shown("auth", "auth me secret"), "auth (redacted) (redacted)");
    assert_string_equal(shown("auth", "AUTH a b c"), "AUTH (redacted) (redacted) (redacted)");
}

static void hello_hides_user_and_password(void **state) {
    (void)state;
    assert_string_equal(shown("hello", "HELLO"), "HELLO");
    assert_string_equal(shown("hello", "HELLO 3"), "HELLO 3");
    assert_string_equal(shown("hello", "HELLO 3 AUTH me secret SETNAME x"),
                        "HELLO 3 AUTH (redacted) (redacted) SETNAME x");
    assert_string_equal(shown("hello", "HELLO 3 SETNAME auth auth me secret"),
                        "HELLO 3 SETNAME auth auth (redacted) (redacted)");
    assert_string_equal(shown("hello", "HELLO 3 AUTH secret"), "HELLO 3 AUTH (redacted)");
    assert_string_equal(shown("hello", "HELLO 3 junk AUTH me secret"), "HELLO 3 junk AUTH (redacted) (redacted)");
}

static void migrate_hides_user_and_password(void **state) {
    (void)state;
    assert_string_equal(shown("migrate", "MIGRATE host 1 key 9 5000 COPY"), "MIGRATE host 1 key 9 5000 COPY");
    assert_string_equal(shown("migrate", "MIGRATE host 1 auth 9 5000 replace auth secret KEYS auth b"),
                        "MIGRATE host 1 auth 9 5000 replace auth (redacted) KEYS auth b");
    assert_string_equal(shown("migrate", "MIGRATE host 1 key 9 5000 AUTH2 me secret COPY"),
                        "MIGRATE host 1 key 9 5000 AUTH2 (redacted) (redacted) COPY");
}

static void config_set_hides_secret_values(void **state) {
    (void)state;
    assert_string_equal(shown("config|set", "CONFIG SET RequirePass secret timeout 5"),
                        "CONFIG SET RequirePass (redacted) timeout 5");
    assert_string_equal(shown("config|set", "CONFIG SET timeout 5 masterauth secret"),
                        "CONFIG SET timeout 5 masterauth (redacted)");
    assert_string_equal(shown("config|set", "CONFIG SET timeout requirepass"), "CONFIG SET timeout requirepass");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_are_shown_whole),         cmocka_unit_test(auth_shows_nothing),
        cmocka_unit_test(hello_hides_user_and_password),  cmocka_unit_test(migrate_hides_user_and_password),
        cmocka_unit_test(config_set_hides_secret_values),
    };
    return cmocka_run_group_tests_name("server/redact", tests, NULL, NULL);
}
