/* Database numbers among arguments, through the commands that take one. */

#include "command/families.h"
#include "tests/support/key_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define NOT_A_NUMBER "-ERR value is not an integer or out of range\r\n"
#define NOT_AN_INT   "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"
#define NO_DATABASE  "-ERR DB index is out of range\r\n"

static void mistakes_are_told_apart(void **state) {
    (void)state;
    static const struct {
        const char *number, *error;
    } cases[] = {
        {"x", NOT_A_NUMBER},         {"\"\"", NOT_A_NUMBER},       {"01", NOT_A_NUMBER},
        {"1.0", NOT_A_NUMBER},       {"+1", NOT_A_NUMBER},         {"9223372036854775808", NOT_A_NUMBER},
        {"2147483648", NOT_AN_INT},  {"-2147483649", NOT_AN_INT},  {"9223372036854775807", NOT_AN_INT},
        {"2147483647", NO_DATABASE}, {"-2147483648", NO_DATABASE}, {"16", NO_DATABASE},
        {"-1", NO_DATABASE},
    };
    struct in_process *server = key_server_create();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[128];
        snprintf(line, sizeof(line), "SELECT %s", cases[i].number);
        in_process_expect(server, line, cases[i].error);
        snprintf(line, sizeof(line), "MOVE key %s", cases[i].number);
        in_process_expect(server, line, cases[i].error);
        snprintf(line, sizeof(line), "COPY key other DB %s", cases[i].number);
        in_process_expect(server, line, cases[i].error);
    }
    in_process_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mistakes_are_told_apart)};
    return cmocka_run_group_tests_name("command/database_argument", tests, NULL, NULL);
}
