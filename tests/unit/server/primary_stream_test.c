/* Cutting a primary's stream: transactions come as a whole, in whatever pieces they arrive. */

#include "server/primary_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SET   "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
#define MULTI "*1\r\n$5\r\nMULTI\r\n"
#define EXEC  "*1\r\n$4\r\nEXEC\r\n"
#define PING  "*1\r\n$4\r\nPING\r\n"

static const char all[] = SET MULTI SET PING EXEC SET MULTI EXEC PING;

/* Gives the bytes in pieces of `piece` and returns how many commands came out; `*consumed` is what they took. */
static unsigned cut(const char *bytes, size_t length, size_t piece, size_t *consumed, bool *bad) {
    struct primary_stream stream = {0};
    struct aof_item item;
    unsigned commands = 0;
    size_t at = 0;
    *bad = false;
    for (size_t there = 0; there < length && !*bad;) {
        there = there + piece < length ? there + piece : length;
        enum primary_stream_next next;
        char *copy = malloc(there - at ? there - at : 1); /* of its own, so that reading on is noticed */
        memcpy(copy, bytes + at, there - at);
        size_t used = 0;
        while ((next = primary_stream_next(&stream, span_of(copy + used, there - at - used), &item)) ==
               PRIMARY_STREAM_COMMAND) {
            used += item.length;
            commands++;
        }
        *bad = next == PRIMARY_STREAM_BAD;
        at += used;
        free(copy);
    }
    *consumed = at;
    return commands;
}

static void every_piece_size_gives_the_same(void **state) {
    (void)state;
    for (size_t piece = 1; piece <= sizeof(all) - 1; piece++) {
        size_t consumed;
        bool bad;
        assert_int_equal(cut(all, sizeof(all) - 1, piece, &consumed, &bad), 9);
        assert_int_equal(consumed, sizeof(all) - 1);
        assert_false(bad);
    }
}

static void a_transaction_waits_for_its_end(void **state) {
    (void)state;
    static const char begun[] = SET MULTI SET SET "*1\r\n$4\r\nEXE";
    size_t consumed;
    bool bad;
    assert_int_equal(cut(begun, sizeof(begun) - 1, 5, &consumed, &bad), 1);
    assert_int_equal(consumed, sizeof(SET) - 1);
    assert_false(bad);
}

static void what_is_no_stream_is_refused(void **state) {
    (void)state;
    static const char *const bad_ones[] = {"hello\r\n",
                                           "+OK\r\n",
                                           "*0\r\n",
                                           "*-1\r\n",
                                           "#TS:1\r\n",
                                           "*1\r\n+PING\r\n",
                                           "*1\r\n$4\r\nPINGxx",
                                           "*1\r\n$99999999999\r\n",
                                           (MULTI MULTI),
                                           (MULTI SET "rubbish"),
                                           "*1\r\n$-1\r\n",
                                           ("\n" SET)};
    for (size_t i = 0; i < sizeof(bad_ones) / sizeof(bad_ones[0]); i++) {
        size_t consumed;
        bool bad;
        for (size_t piece = 1; piece < 8; piece += 3) {
            assert_int_equal(cut(bad_ones[i], strlen(bad_ones[i]), piece, &consumed, &bad), 0);
            assert_true(bad);
        }
    }
}

static void changed_bytes_never_lead_out_of_the_buffer(void **state) {
    (void)state;
    char bytes[sizeof(all)];
    for (size_t at = 0; at + 1 < sizeof(all); at++)
        for (int value = 0; value < 256; value += 3) {
            size_t consumed;
            bool bad;
            memcpy(bytes, all, sizeof(all));
            bytes[at] = (char)value;
            (void)cut(bytes, sizeof(all) - 1, 17, &consumed, &bad);
            assert_true(consumed <= sizeof(all) - 1);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_piece_size_gives_the_same),
        cmocka_unit_test(a_transaction_waits_for_its_end),
        cmocka_unit_test(what_is_no_stream_is_refused),
        cmocka_unit_test(changed_bytes_never_lead_out_of_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
