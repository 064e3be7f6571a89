/* The request parser: every form whole, cut at every byte, and refused. */

#include "base/limits.h"
#include "base/random.h"
#include "resp/parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { TEXT_MAX = 1 << 20, ARGUMENTS = 8 };

static const struct resp_limits usual = {.bulk_bytes = LIMIT_VALUE_BYTES};

/* What a stream of bytes means, spelled out: each command as <a|b|c>, an empty one as _, an error as its text. */
struct transcript {
    char *text;
    size_t length;
};

static void add(struct transcript *transcript, const void *data, size_t length) {
    assert_true(transcript->length + length < TEXT_MAX);
    memcpy(transcript->text + transcript->length, data, length);
    transcript->length += length;
}

static void add_command(struct transcript *transcript, const struct span *arguments, uint32_t argc) {
    for (uint32_t i = 0; i < argc; i++) {
        add(transcript, i ? "|" : "<", 1);
        add(transcript, arguments[i].data, arguments[i].length);
    }
    add(transcript, ">", 1);
}

/* Feeds `input` as a socket would: `cuts` says how much arrives each time (the last cut repeats). The buffer is copied
 * to a new place before every call, so that an address kept by mistake is noticed. */
static struct transcript feed(struct span input, const size_t *cuts, size_t cut_count, const struct resp_limits *limits,
                              size_t capacity) {
    struct transcript transcript = {malloc(TEXT_MAX), 0};
    struct resp_parser parser;
    resp_parser_init(&parser);
    size_t begin = 0, received = 0, turn = 0;
    bool broken = false;
    while (!broken && received < input.length) {
        size_t step = cuts[turn < cut_count ? turn : cut_count - 1];
        turn++;
        received = received + step < input.length ? received + step : input.length;
        for (;;) {
            struct span argv[ARGUMENTS], *arguments = NULL;
            uint32_t argc = 0;
            size_t consumed = 0, length = received - begin;
            char *copy = malloc(length + 1);
            memcpy(copy, input.data + begin, length);
            enum resp_parse_result result =
                resp_parse(&parser, span_of(copy, length), limits, argv, capacity, &arguments, &argc, &consumed);
            if (result == RESP_PARSE_DONE) add_command(&transcript, arguments, argc);
            if (result == RESP_PARSE_EMPTY) add(&transcript, "_", 1);
            if (result == RESP_PARSE_ERROR) add(&transcript, parser.error, strlen(parser.error));
            free(copy);
            broken = result == RESP_PARSE_ERROR;
            if (broken || result == RESP_PARSE_INCOMPLETE) break;
            assert_true(consumed > 0 && consumed <= length);
            begin += consumed;
        }
    }
    resp_parser_reset(&parser);
    transcript.text[transcript.length] = '\0';
    return transcript;
}

/* Whole, byte by byte, and in two pieces at every place: always the same. */
static void expect_within(struct span input, const struct resp_limits *limits, struct span wanted) {
    for (size_t cut = 0; cut <= input.length; cut++) {
        size_t cuts[] = {cut == 0 ? 1 : cut, cut == 0 ? 1 : input.length};
        for (size_t capacity = 0; capacity <= ARGUMENTS; capacity += ARGUMENTS / 2) {
            struct transcript got = feed(input, cuts, 2, limits, capacity);
            if (!span_equal(span_of(got.text, got.length), wanted))
                print_error("cut at %zu, room for %zu: %.200s\n", cut, capacity, got.text);
            assert_int_equal(got.length, wanted.length);
            assert_memory_equal(got.text, wanted.data, wanted.length);
            free(got.text);
        }
    }
}

#define EXPECT(input, wanted) expect_within(SPAN_LITERAL(input), &usual, SPAN_LITERAL(wanted))

static void arrays_of_bulk_strings(void **state) {
    (void)state;
    EXPECT("*1\r\n$4\r\nPING\r\n", "<PING>");
    EXPECT("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "<SET|k|hello><GET|k>");
    EXPECT("*2\r\n$0\r\n\r\n$12\r\na\r\nb\0c\r\n$1\r\n\r\n", "<|a\r\nb\0c\r\n$1\r\n>");
    EXPECT("*10\r\n$1\r\n0\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n$1\r\n6\r\n$1\r\n7\r\n$1\r\n8\r\n$"
           "1\r\n9\r\n",
           "<0|1|2|3|4|5|6|7|8|9>");
}

static void empty_commands_are_skipped(void **state) {
    (void)state;
    EXPECT("\r\n*0\r\n*-1\r\n\n*1\r\n$1\r\na\r\n*-9223372036854775808\r\n   \r\n", "____<a>__");
}

static void inline_commands_are_split_at_blanks(void **state) {
    (void)state;
    EXPECT("PING\r\n", "<PING>");
    EXPECT("  set \t key   value \nGET key\r\n", "<set|key|value><GET|key>");
    EXPECT("ECHO *3\r\n", "<ECHO|*3>");
}

static void inline_quotes_group_and_escape(void **state) {
    (void)state;
    EXPECT("a \"b c\" 'd e'\r\n", "<a|b c|d e>");
    EXPECT("\"\" ''\r\n", "<|>");
    EXPECT("\"\\n\\r\\t\\b\\a\\\\\\\"\\q\\x41\\xfF\\x4\"\r\n", "<\n\r\t\b\a\\\"qA\xffx4>");
    EXPECT("'it\\'s \\n'\r\n", "<it's \\n>");
    EXPECT("a\"b c\"\r\n", "<ab c>");
    EXPECT("'\"' \"'\"\r\n", "<\"|'>");
}

static void unbalanced_quotes_are_refused(void **state) {
    (void)state;
    EXPECT("PING\r\na \"b\r\n", "<PING>ERR Protocol error: unbalanced quotes in request");
    EXPECT("'a\r\n", "ERR Protocol error: unbalanced quotes in request");
    EXPECT("\"a\"b\r\n", "ERR Protocol error: unbalanced quotes in request");
    EXPECT("'a'b\r\n", "ERR Protocol error: unbalanced quotes in request");
    EXPECT("\"a\\\r\n", "ERR Protocol error: unbalanced quotes in request");
    EXPECT("\"a\\\"\r\n", "ERR Protocol error: unbalanced quotes in request");
}

static void bad_counts_are_refused(void **state) {
    (void)state;
#define BAD_COUNT "ERR Protocol error: invalid multibulk length"
    EXPECT("*x\r\n", BAD_COUNT);
    EXPECT("*\r\n", BAD_COUNT);
    EXPECT("*1 \r\n", BAD_COUNT);
    EXPECT("*01\r\n", BAD_COUNT);
    EXPECT("*+1\r\n", BAD_COUNT);
    EXPECT("*2147483648\r\n", BAD_COUNT);
    EXPECT("*9223372036854775807\r\n", BAD_COUNT);
    EXPECT("*9223372036854775808\r\n", BAD_COUNT);
    EXPECT("*99999999999999999999999999\r\n", BAD_COUNT);
}

static void bad_lengths_are_refused(void **state) {
    (void)state;
#define BAD_LENGTH "ERR Protocol error: invalid bulk length"
    EXPECT("*1\r\n$x\r\n", BAD_LENGTH);
    EXPECT("*1\r\n$\r\n", BAD_LENGTH);
    EXPECT("*1\r\n$-1\r\n", BAD_LENGTH);
    EXPECT("*1\r\n$00\r\n", BAD_LENGTH);
    EXPECT("*1\r\n$536870913\r\n", BAD_LENGTH);
    EXPECT("*1\r\n$9223372036854775807\r\n", BAD_LENGTH);
    EXPECT("*1\r\n$18446744073709551616\r\n", BAD_LENGTH);
    EXPECT("*2\r\n$1\r\na\r\n$-9223372036854775808\r\n", BAD_LENGTH);
}

static void anything_but_a_bulk_string_is_refused(void **state) {
    (void)state;
    EXPECT("*1\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'");
    EXPECT("*1\r\n*1\r\n$1\r\na\r\n", "ERR Protocol error: expected '$', got '*'");
    EXPECT("*2\r\n$1\r\na\r\nb\r\n", "ERR Protocol error: expected '$', got 'b'");
    EXPECT("*1\r\n\n-x\r\n", "ERR Protocol error: expected '$', got ' '");
    EXPECT("*1\r\n\0\r\n", "ERR Protocol error: expected '$', got ' '");
}

static void strangers_have_small_limits(void **state) {
    (void)state;
    const struct resp_limits stranger = {.unauthenticated = true, .bulk_bytes = LIMIT_VALUE_BYTES};
    expect_within(SPAN_LITERAL("*10\r\n$16384\r\n"), &stranger, SPAN_LITERAL(""));
    expect_within(SPAN_LITERAL("*11\r\n"), &stranger,
                  SPAN_LITERAL("ERR Protocol error: unauthenticated multibulk length"));
    expect_within(SPAN_LITERAL("*1\r\n$16385\r\n"), &stranger,
                  SPAN_LITERAL("ERR Protocol error: unauthenticated bulk length"));
}

static void the_bulk_limit_is_configured(void **state) {
    (void)state;
    const struct resp_limits small = {.bulk_bytes = 3};
    expect_within(SPAN_LITERAL("*2\r\n$3\r\nabc\r\n$4\r\nabcd\r\n"), &small, SPAN_LITERAL(BAD_LENGTH));
    expect_within(SPAN_LITERAL("*1\r\n$3\r\nabc\r\n"), &small, SPAN_LITERAL("<abc>"));
}

/* Lines without an end. */
static void endless_lines_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *beginning;
        const char *error;
    } cases[] = {
        {"a", "ERR Protocol error: too big inline request"},
        {"*", "ERR Protocol error: too big mbulk count string"},
        {"*1\r\n$", "ERR Protocol error: too big bulk count string"},
        {"*1\r\n1", "ERR Protocol error: too big bulk count string"},
    };
    size_t size = LIMIT_INLINE_BYTES + 16;
    char *input = malloc(size);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t beginning = strlen(cases[i].beginning);
        memset(input, '1', size);
        memcpy(input, cases[i].beginning, beginning);
        struct transcript got = feed(span_of(input, size), (const size_t[]){size}, 1, &usual, ARGUMENTS);
        assert_string_equal(got.text, cases[i].error);
        free(got.text);
        got = feed(span_of(input, LIMIT_INLINE_BYTES), (const size_t[]){4096}, 1, &usual, ARGUMENTS);
        assert_string_equal(got.text, "");
        free(got.text);
    }
    memset(input, 'a', size);
    input[LIMIT_INLINE_BYTES] = '\n';
    struct transcript got = feed(span_of(input, LIMIT_INLINE_BYTES + 1), (const size_t[]){size}, 1, &usual, ARGUMENTS);
    assert_int_equal(got.length, LIMIT_INLINE_BYTES + 2);
    free(got.text);
    free(input);
}

/* What is kept grows with the bytes received, not with the number announced. */
static void a_huge_count_costs_nothing(void **state) {
    (void)state;
    struct resp_parser parser;
    struct span argv[ARGUMENTS], *arguments;
    uint32_t argc;
    size_t consumed;
    struct span input = SPAN_LITERAL("*2147483647\r\n$1\r\na\r\n$536870912\r\nx");
    resp_parser_init(&parser);
    assert_int_equal(resp_parse(&parser, input, &usual, argv, ARGUMENTS, &arguments, &argc, &consumed),
                     RESP_PARSE_INCOMPLETE);
    assert_true(parser.own_capacity < 64);
    assert_int_equal(parser.arguments_left, 2147483646);
    assert_int_equal(resp_parser_wanted(&parser, input.length), 536870912 + 2 - 1);
    resp_parser_reset(&parser);
    assert_null(parser.own);
    assert_int_equal(resp_parser_wanted(&parser, 0), 0);
}

static void what_is_wanted_is_known_inside_a_bulk_string(void **state) {
    (void)state;
    struct resp_parser parser;
    struct span argv[ARGUMENTS], *arguments;
    uint32_t argc;
    size_t consumed;
    struct span input = SPAN_LITERAL("*2\r\n$4\r\nECHO\r\n$10\r\n0123456789\r\n");
    resp_parser_init(&parser);
    for (size_t length = 0; length < input.length; length++) {
        assert_int_equal(
            resp_parse(&parser, span_of(input.data, length), &usual, argv, ARGUMENTS, &arguments, &argc, &consumed),
            RESP_PARSE_INCOMPLETE);
        size_t wanted = resp_parser_wanted(&parser, length);
        if (length >= 8 && length < 14) assert_int_equal(wanted, 14 - length);
        if (length >= 19) assert_int_equal(wanted, input.length - length);
    }
    assert_int_equal(resp_parse(&parser, input, &usual, argv, ARGUMENTS, &arguments, &argc, &consumed),
                     RESP_PARSE_DONE);
    assert_int_equal(resp_parser_wanted(&parser, input.length), 0);
    resp_parser_reset(&parser);
}

/* Whatever had come of the unwanted command, and however the rest is cut, the next command is found. */
static void what_is_skipped_is_passed_over(void **state) {
    (void)state;
    struct span input = SPAN_LITERAL("*3\r\n$3\r\nSET\r\n$11\r\n\r\n$3\r\nSET*1\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n");
    size_t end = input.length - 14;
    for (size_t cut = 4; cut < end; cut++)
        for (size_t piece = 1; piece < 8; piece++) {
            struct resp_parser parser;
            struct span argv[ARGUMENTS], *arguments;
            uint32_t argc;
            size_t consumed;
            enum resp_parse_result result;
            resp_parser_init(&parser);
            assert_int_equal(
                resp_parse(&parser, span_of(input.data, cut), &usual, argv, ARGUMENTS, &arguments, &argc, &consumed),
                RESP_PARSE_INCOMPLETE);
            size_t kept = resp_parser_skip(&parser, cut), at = cut - kept, length = kept;
            assert_int_equal(resp_parser_wanted(&parser, kept), 0);
            for (;;) {
                result = resp_parse(&parser, span_of(input.data + at, length), &usual, argv, ARGUMENTS, &arguments,
                                    &argc, &consumed);
                if (result == RESP_PARSE_SKIPPED) break;
                if (result == RESP_PARSE_EMPTY) {
                    assert_true(consumed > 0);
                    at += consumed;
                    length -= consumed;
                } else {
                    assert_int_equal(result, RESP_PARSE_INCOMPLETE);
                    length += piece;
                    assert_true(at + length <= end + piece);
                }
            }
            assert_int_equal(at + consumed, end);
            assert_int_equal(resp_parse(&parser, span_of(input.data + end, 14), &usual, argv, ARGUMENTS, &arguments,
                                        &argc, &consumed),
                             RESP_PARSE_DONE);
            assert_int_equal(argc, 1);
            assert_memory_equal(arguments[0].data, "PING", 4);
            resp_parser_reset(&parser);
        }
}

static void a_trimmed_parser_forgets_long_commands_only_when_they_are_done(void **state) {
    (void)state;
    struct resp_parser parser;
    struct span argv[ARGUMENTS], *arguments;
    uint32_t argc;
    size_t consumed, length = 0;
    char *input = malloc(20000);
    length += (size_t)sprintf(input, "*1000\r\n");
    for (unsigned i = 0; i < 1000; i++) length += (size_t)sprintf(input + length, "$3\r\n%03u\r\n", i);
    resp_parser_init(&parser);
    assert_int_equal(
        resp_parse(&parser, span_of(input, length - 1), &usual, argv, ARGUMENTS, &arguments, &argc, &consumed),
        RESP_PARSE_INCOMPLETE);
    resp_parser_trim(&parser);
    assert_true(parser.own_capacity >= 999);
    assert_int_equal(resp_parse(&parser, span_of(input, length), &usual, argv, ARGUMENTS, &arguments, &argc, &consumed),
                     RESP_PARSE_DONE);
    assert_int_equal(argc, 1000);
    assert_memory_equal(arguments[999].data, "999", 3);
    resp_parser_trim(&parser);
    assert_int_equal(parser.own_capacity, 0);
    assert_null(parser.own);
    resp_parser_reset(&parser);
    free(input);
}

/* Pipelines of random commands in random pieces. */
static void random_pipelines_survive_random_cuts(void **state) {
    (void)state;
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_seed(&random, seed);
    char *input = malloc(TEXT_MAX);
    struct transcript wanted = {malloc(TEXT_MAX), 0};
    for (unsigned round = 0; round < 400; round++) {
        size_t length = 0;
        wanted.length = 0;
        for (uint64_t commands = random_below(&random, 8); commands > 0; commands--) {
            unsigned argc =
                (unsigned)(random_once_in(&random, 8) ? random_below(&random, 40) : random_below(&random, 5));
            length += (size_t)sprintf(input + length, "*%u\r\n", argc);
            for (unsigned i = 0; i < argc; i++) {
                size_t size = random_once_in(&random, 20) ? random_below(&random, 3000) : random_below(&random, 12);
                length += (size_t)sprintf(input + length, "$%zu\r\n", size);
                for (size_t k = 0; k < size; k++) input[length + k] = (char)("\r\n$*1\0ab"[random_below(&random, 8)]);
                add(&wanted, i ? "|" : "<", 1);
                add(&wanted, input + length, size);
                length += size;
                memcpy(input + length, "\r\n", 2);
                length += 2;
            }
            add(&wanted, argc ? ">" : "_", 1);
        }
        size_t cuts[64];
        for (unsigned i = 0; i < 64; i++) cuts[i] = 1 + random_below(&random, random_once_in(&random, 4) ? 2000 : 12);
        struct transcript got = feed(span_of(input, length), cuts, 64, &usual, random_below(&random, ARGUMENTS + 1));
        assert_int_equal(got.length, wanted.length);
        assert_memory_equal(got.text, wanted.text, wanted.length);
        free(got.text);
    }
    free(wanted.text);
    free(input);
}

static void a_line_is_split_up_to_its_capacity(void **state) {
    (void)state;
    char text[] = "save 3600 1 \"300 s\"";
    struct span arguments[8];
    assert_int_equal(resp_split_line(text, sizeof(text) - 1, arguments, 8), 4);
    assert_true(span_equal(arguments[3], SPAN_LITERAL("300 s")));
    char again[] = "a b c";
    assert_int_equal(resp_split_line(again, 5, arguments, 2), 2);
    char bad[] = "a 'b";
    assert_int_equal(resp_split_line(bad, 4, arguments, 8), -1);
    assert_int_equal(resp_split_line(bad, 0, arguments, 8), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_of_bulk_strings),
        cmocka_unit_test(empty_commands_are_skipped),
        cmocka_unit_test(inline_commands_are_split_at_blanks),
        cmocka_unit_test(inline_quotes_group_and_escape),
        cmocka_unit_test(unbalanced_quotes_are_refused),
        cmocka_unit_test(bad_counts_are_refused),
        cmocka_unit_test(bad_lengths_are_refused),
        cmocka_unit_test(anything_but_a_bulk_string_is_refused),
        cmocka_unit_test(strangers_have_small_limits),
        cmocka_unit_test(the_bulk_limit_is_configured),
        cmocka_unit_test(endless_lines_are_refused),
        cmocka_unit_test(a_huge_count_costs_nothing),
        cmocka_unit_test(what_is_wanted_is_known_inside_a_bulk_string),
        cmocka_unit_test(what_is_skipped_is_passed_over),
        cmocka_unit_test(a_trimmed_parser_forgets_long_commands_only_when_they_are_done),
        cmocka_unit_test(random_pipelines_survive_random_cuts),
        cmocka_unit_test(a_line_is_split_up_to_its_capacity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
