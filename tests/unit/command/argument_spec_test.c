/* Argument notations: what COMMAND DOCS shows for each form, in both protocols, and what is refused. */

#include "command/argument_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* The reply with "\r\n" as blanks and without the lengths of bulk strings, for reading. */
static void read_reply(struct reply *reply, char *text, size_t capacity) {
    struct iovec vectors[64];
    size_t count = reply_vectors(reply, vectors, 64), length = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(length + vectors[i].iov_len < capacity);
        memcpy(text + length, vectors[i].iov_base, vectors[i].iov_len);
        length += vectors[i].iov_len;
    }
    text[length] = '\0';
    char *out = text;
    for (const char *at = text; *at; at += 2) {
        const char *end = strstr(at, "\r\n");
        assert_non_null(end);
        if (*at == '$') {
            at = end;
            continue;
        }
        memmove(out, at, (size_t)(end - at));
        out += end - at;
        *out++ = ' ';
        at = end;
    }
    *out = '\0';
}

static void expect_in(bool resp3, const char *arguments, const char *wanted) {
    char text[4096];
    struct reply reply;
    struct command_spec spec = {.arguments = arguments};
    reply_init(&reply, NULL, 0, NULL, NULL);
    reply.resp3 = resp3;
    argument_spec_reply(&reply, &spec);
    read_reply(&reply, text, sizeof(text));
    reply_clear(&reply);
    assert_string_equal(text, wanted);
}

static void expect(const char *arguments, const char *wanted) {
    expect_in(true, arguments, wanted);
}

static void an_argument_has_a_name_and_a_type(void **state) {
    (void)state;
    expect("value", "*1 %2 name value type string ");
    expect("value:s", "*1 %2 name value type string ");
    expect("offset:i", "*1 %2 name offset type integer ");
    expect("increment:d", "*1 %2 name increment type double ");
    expect("pattern:p", "*1 %2 name pattern type pattern ");
    expect("unix-time-seconds:t", "*1 %2 name unix-time-seconds type unix-time ");
    expect("a b", "*2 %2 name a type string %2 name b type string ");
    expect(NULL, "*0 ");
    expect("", "*0 ");
}

static void a_name_may_hold_a_colon_or_a_slash(void **state) {
    (void)state;
    expect("ip:port", "*1 %2 name ip:port type string ");
    expect("yes/no", "*1 %2 name yes/no type string ");
}

static void keys_take_the_key_specifications_in_order_or_by_number(void **state) {
    (void)state;
    expect("key:k value newkey:k", "*3 %3 name key type key key_spec_index :0 %2 name value type string "
                                   "%3 name newkey type key key_spec_index :1 ");
    expect("key1:k key2:k0", "*2 %3 name key1 type key key_spec_index :0 %3 name key2 type key key_spec_index :0 ");
    expect("[BY pattern:p1]", "*1 %5 name pattern type pattern key_spec_index :1 token BY flags ~1 +optional ");
}

static void a_token_stands_alone_or_before_its_argument(void **state) {
    (void)state;
    expect("GET", "*1 %3 name get type pure-token token GET ");
    expect("EX seconds:i", "*1 %3 name seconds type integer token EX ");
    expect("change=CH", "*1 %3 name change type pure-token token CH ");
    expect("equal==", "*1 %3 name equal type pure-token token = ");
    expect("auto_id=* field", "*2 %3 name auto_id type pure-token token * %2 name field type string ");
    expect("empty_string=", "*1 %3 name empty_string type pure-token token  ");
    expect("host-port{NO ONE}", "*1 %3 name host-port type block arguments *2 "
                                "%3 name no type pure-token token NO %3 name one type pure-token token ONE ");
    expect("TYPE kind(MASTER|PUBSUB)", "*1 %4 name kind type oneof token TYPE arguments *2 "
                                       "%3 name master type pure-token token MASTER "
                                       "%3 name pubsub type pure-token token PUBSUB ");
}

static void flags_and_versions_follow_the_item(void **state) {
    (void)state;
    expect("[message]", "*1 %3 name message type string flags ~1 +optional ");
    expect("key:k...", "*1 %4 name key type key key_spec_index :0 flags ~1 +multiple ");
    expect("[PREFIX prefix...*]", "*1 %4 name prefix type string token PREFIX "
                                  "flags ~3 +optional +multiple +multiple_token ");
    expect("[GET@6.2.0]", "*1 %5 name get type pure-token token GET since 6.2.0 flags ~1 +optional ");
    expect("ip:port!2.8.12", "*1 %3 name ip:port type string deprecated_since 2.8.12 ");
    expect("[KEYS key:k@3.0.6...]", "*1 %6 name key type key key_spec_index :0 token KEYS since 3.0.6 "
                                    "flags ~2 +optional +multiple ");
}

static void blocks_and_alternatives_nest(void **state) {
    (void)state;
    expect("key_value{key:k value}...", "*1 %4 name key_value type block flags ~1 +multiple arguments *2 "
                                        "%3 name key type key key_spec_index :0 %2 name value type string ");
    expect("[index{start:i [unit(BYTE|BIT)@7.0.0]}]",
           "*1 %4 name index type block flags ~1 +optional arguments *2 %2 name start type integer "
           "%5 name unit type oneof since 7.0.0 flags ~1 +optional arguments *2 "
           "%3 name byte type pure-token token BYTE %3 name bit type pure-token token BIT ");
}

static void resp2_has_arrays_for_maps_and_sets(void **state) {
    (void)state;
    expect_in(false, "[key:k...]", "*1 *8 name key type key key_spec_index :0 flags *2 +optional +multiple ");
}

static void what_is_not_the_notation_is_refused(void **state) {
    (void)state;
    static const char *const malformed[] = {
        "[",         "]",
        "[a",        "a]",
        "(a)",       "a(",
        "a()",       "a(b",
        "a(|b)",     "a(b|)",
        "a{",        "a{}",
        "a{b",       "a{b|c}",
        "a)",        "a}",
        "a:x",       "a..",
        "a....",     "a@",
        "a@7",       "a@7.0",
        "a@7.0.0.0", "a!",
        "[a][b]",    "a(b)c",
        "a|b",       "[a] ]",
        "a...*",     "Mixed",
        "EX Mixed",  "a b(c|d",
        "TOKEN a=B", "a@1.2.3@1.2.3",
        "a\tb",      "a, b",
        "[[a]]",     "a:",
        "a(b c)",
    };
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        if (argument_spec_count(malformed[i]) != -1) print_error("taken: %s\n", malformed[i]);
        assert_int_equal(argument_spec_count(malformed[i]), -1);
    }
}

static void depth_size_and_names_are_bounded(void **state) {
    (void)state;
    char text[1024] = "";
    for (unsigned i = 0; i < ARGUMENTS_MAX; i++) strcat(text, "a ");
    assert_int_equal(argument_spec_count(text), ARGUMENTS_MAX);
    strcat(text, "a");
    assert_int_equal(argument_spec_count(text), -1);
    assert_int_equal(argument_spec_count("a{a{a{a{a{a{a{b}}}}}}}"), 1);
    assert_int_equal(argument_spec_count("a{a{a{a{a{a{a{a{b}}}}}}}}"), -1);
    memset(text, 'n', 64);
    text[64] = '\0';
    assert_int_equal(argument_spec_count(text), 1);
    text[64] = 'n';
    text[65] = '\0';
    assert_int_equal(argument_spec_count(text), -1);
}

/* Whatever the bytes, the parser ends, and what it takes can be composed. */
static void random_notations_are_taken_or_refused(void **state) {
    (void)state;
    static const char letters[] = "ab:ik1 A|(){}[]@!=.7*";
    unsigned seed = getenv("TEST_SEED") ? (unsigned)strtoul(getenv("TEST_SEED"), NULL, 10) : 20261121;
    unsigned taken = 0;
    printf("seed %u\n", seed);
    for (unsigned round = 0; round < 200000; round++) {
        char text[16];
        size_t length = (size_t)rand_r(&seed) % sizeof(text);
        for (size_t i = 0; i < length; i++) text[i] = letters[(size_t)rand_r(&seed) % (sizeof(letters) - 1)];
        text[length] = '\0';
        if (argument_spec_count(text) < 0) continue;
        struct reply reply;
        struct command_spec spec = {.arguments = text};
        reply_init(&reply, NULL, 0, NULL, NULL);
        argument_spec_reply(&reply, &spec);
        assert_true(reply_bytes_pending(&reply) >= 4);
        reply_clear(&reply);
        taken++;
    }
    assert_true(taken > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_argument_has_a_name_and_a_type),
        cmocka_unit_test(a_name_may_hold_a_colon_or_a_slash),
        cmocka_unit_test(keys_take_the_key_specifications_in_order_or_by_number),
        cmocka_unit_test(a_token_stands_alone_or_before_its_argument),
        cmocka_unit_test(flags_and_versions_follow_the_item),
        cmocka_unit_test(blocks_and_alternatives_nest),
        cmocka_unit_test(resp2_has_arrays_for_maps_and_sets),
        cmocka_unit_test(what_is_not_the_notation_is_refused),
        cmocka_unit_test(depth_size_and_names_are_bounded),
        cmocka_unit_test(random_notations_are_taken_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
