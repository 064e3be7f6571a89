/* The reply skipper: counts whole replies however the stream is cut, and refuses what is not RESP. */
#include "bench/reply_skipper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct sample {
    const char *stream;
    int64_t replies;
    uint64_t errors;
};

static const struct sample samples[] = {
    {"+OK\r\n", 1, 0},
    {":-12\r\n:0\r\n", 2, 0},
    {"$5\r\nhello\r\n$0\r\n\r\n$-1\r\n", 3, 0},
    {"$12\r\nab\r\n$3\r\ncd\r\n\r\n", 1, 0}, /* what looks like protocol inside a bulk is payload */
    {"*0\r\n*-1\r\n*2\r\n$1\r\na\r\n:1\r\n", 3, 0},
    {"*2\r\n*2\r\n:1\r\n*1\r\n$2\r\nhi\r\n*0\r\n+next\r\n", 2, 0},
    {"-ERR no\r\n+OK\r\n-WRONGTYPE x\r\n", 3, 2},
    {"*2\r\n-ERR inside\r\n:1\r\n", 1, 0}, /* an error within a reply (EXEC) is not an error reply */
    {"_\r\n#t\r\n,3.25\r\n(123456789012345678901234567890\r\n=7\r\ntxt:abc\r\n", 5, 0},
    {"!8\r\nERR text\r\n", 1, 1},
    {"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n~2\r\n:1\r\n:2\r\n%0\r\n", 3, 0},
    {">2\r\n+message\r\n$1\r\nx\r\n+OK\r\n>0\r\n", 1, 0},                    /* pushes are not replies */
    {"|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n*1\r\n|1\r\n+a\r\n+b\r\n:1\r\n", 2, 0}, /* attributes precede their reply */
};

enum { SAMPLES = sizeof(samples) / sizeof(samples[0]) };

static void feed_in_pieces(const struct sample *sample, size_t piece) {
    struct reply_skipper skipper = {0};
    size_t length = strlen(sample->stream);
    int64_t replies = 0;
    for (size_t at = 0; at < length; at += piece) {
        size_t rest = length - at;
        int64_t found = reply_skipper_feed(&skipper, sample->stream + at, rest < piece ? rest : piece);
        assert_true(found >= 0);
        replies += found;
    }
    if (replies != sample->replies) print_error("pieces of %zu: %s\n", piece, sample->stream);
    assert_int_equal(replies, sample->replies);
    assert_int_equal(skipper.errors, sample->errors);
    assert_int_equal(skipper.elements_left, 0);
    assert_int_equal(skipper.line_length, 0);
}

static void replies_are_counted_however_they_are_cut(void **state) {
    (void)state;
    for (int i = 0; i < SAMPLES; i++)
        for (size_t piece = 1; piece <= strlen(samples[i].stream); piece++) feed_in_pieces(&samples[i], piece);
}

static void an_incomplete_reply_is_not_counted(void **state) {
    (void)state;
    const char whole[] = "*2\r\n$3\r\nabc\r\n:7\r\n";
    for (size_t length = 0; length < sizeof(whole) - 1; length++) {
        struct reply_skipper skipper = {0};
        assert_int_equal(reply_skipper_feed(&skipper, whole, length), 0);
        assert_int_equal(reply_skipper_feed(&skipper, whole + length, sizeof(whole) - 1 - length), 1);
    }
}

static void the_first_error_text_is_kept(void **state) {
    (void)state;
    struct reply_skipper skipper = {0};
    const char stream[] = "+OK\r\n-ERR first one\r\n-ERR second\r\n";
    assert_int_equal(reply_skipper_feed(&skipper, stream, 12), 1);
    assert_int_equal(reply_skipper_feed(&skipper, stream + 12, sizeof(stream) - 1 - 12), 2);
    assert_int_equal(skipper.errors, 2);
    assert_string_equal(skipper.first_error, "ERR first one");
}

static void a_long_error_cut_anywhere_is_truncated_not_lost(void **state) {
    (void)state;
    char stream[1000];
    memset(stream, 'x', sizeof(stream));
    stream[0] = '-';
    memcpy(stream + 600, "\r\n+OK\r\n", 7);
    for (size_t cut = 1; cut < 607; cut++) {
        struct reply_skipper skipper = {0};
        int64_t replies = reply_skipper_feed(&skipper, stream, cut);
        replies += reply_skipper_feed(&skipper, stream + cut, 607 - cut);
        assert_int_equal(replies, 2);
        assert_int_equal(skipper.errors, 1);
        assert_true(strlen(skipper.first_error) >= 254);
    }
}

static void what_is_not_resp_is_refused(void **state) {
    (void)state;
    const char *bad[] = {"HTTP/1.1 200\r\n",          "\r\n",  "$x\r\n", "$-2\r\n", "$\r\n", "*1x\r\n",
                         "$99999999999999999999\r\n", "*?\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct reply_skipper skipper = {0};
        assert_int_equal(reply_skipper_feed(&skipper, bad[i], strlen(bad[i])), -1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_counted_however_they_are_cut),
        cmocka_unit_test(an_incomplete_reply_is_not_counted),
        cmocka_unit_test(the_first_error_text_is_kept),
        cmocka_unit_test(a_long_error_cut_anywhere_is_truncated_not_lost),
        cmocka_unit_test(what_is_not_resp_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
