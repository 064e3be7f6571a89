/* A lane: exact bytes out, replies in whatever pieces, everything counted, memory that does not grow. */
#include "bench/capacity_lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct value_scheme scheme;
    struct key_format format;
    struct lane_wire wire;
    struct lane lane;
    struct lane_counts counts;
    struct histogram latency;
};

static struct fixture *make_fixture(uint64_t size, double expiring, unsigned depth) {
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    assert_true(value_scheme_init(&fixture->scheme, 1, size, size, 0, expiring));
    assert_true(key_format_parse("k:%05d", &fixture->format));
    lane_wire_init(&fixture->wire, &fixture->scheme, &fixture->format, 300, true);
    assert_true(lane_init(&fixture->lane, depth, 0));
    return fixture;
}

static void release_fixture(struct fixture *fixture) {
    lane_release(&fixture->lane);
    value_scheme_release(&fixture->scheme);
    free(fixture);
}

static bool feed(struct fixture *fixture, const char *data, size_t length) {
    return lane_feed(&fixture->lane, &fixture->wire, data, length, 2000, &fixture->counts, &fixture->latency);
}

static void take_output(struct fixture *fixture, const char *expected) {
    struct lane *lane = &fixture->lane;
    assert_int_equal(lane->out_end - lane->out_at, strlen(expected));
    assert_memory_equal(lane->out + lane->out_at, expected, strlen(expected));
    lane_sent(lane, lane->out_end - lane->out_at);
}

static void requests_are_written_as_resp(void **state) {
    (void)state;
    struct fixture *fixture = make_fixture(3, 0, 4);
    char value[4] = "", expected[200];
    struct value recipe = value_describe(&fixture->scheme, 42, 0);
    value_write(&fixture->scheme, &recipe, 0, value, 3);
    lane_get(&fixture->lane, &fixture->wire, 7, 0);
    take_output(fixture, "*2\r\n$3\r\nGET\r\n$7\r\nk:00007\r\n");
    lane_set(&fixture->lane, &fixture->wire, 42, 0, 0);
    snprintf(expected, sizeof(expected), "*3\r\n$3\r\nSET\r\n$7\r\nk:00042\r\n$3\r\n%s\r\n", value);
    take_output(fixture, expected);
    release_fixture(fixture);
    fixture = make_fixture(3, 1, 4);
    lane_set(&fixture->lane, &fixture->wire, 42, 0, 0);
    snprintf(expected, sizeof(expected), "*5\r\n$3\r\nSET\r\n$7\r\nk:00042\r\n$3\r\n%s\r\n$2\r\nEX\r\n$3\r\n300\r\n",
             value);
    take_output(fixture, expected);
    release_fixture(fixture);
}

static void a_value_larger_than_the_buffer_is_sent_in_pieces(void **state) {
    (void)state;
    enum { SIZE = 100000 };
    struct fixture *fixture = make_fixture(SIZE, 1, 4);
    struct lane *lane = &fixture->lane;
    char *sent = malloc(2 * SIZE), *value = malloc(SIZE);
    size_t length = 0;
    lane_set(lane, &fixture->wire, 1, 5, 0);
    assert_false(lane_takes_request(lane));
    while (lane_has_output(lane)) {
        lane_compose(lane, &fixture->wire);
        assert_true(lane->out_end <= lane->out_size);
        size_t part = (lane->out_end - lane->out_at + 2) / 3;
        memcpy(sent + length, lane->out + lane->out_at, part);
        length += part;
        lane_sent(lane, part);
        assert_true(length < 2 * SIZE);
    }
    assert_true(lane_takes_request(lane));
    static const char head[] = "*5\r\n$3\r\nSET\r\n$7\r\nk:00001\r\n$100000\r\n",
                      tail[] = "\r\n$2\r\nEX\r\n$3\r\n300\r\n";
    struct value recipe = value_describe(&fixture->scheme, 1, 5);
    value_write(&fixture->scheme, &recipe, 0, value, SIZE);
    assert_int_equal(length, strlen(head) + SIZE + strlen(tail));
    assert_memory_equal(sent, head, strlen(head));
    assert_memory_equal(sent + strlen(head), value, SIZE);
    assert_memory_equal(sent + strlen(head) + SIZE, tail, strlen(tail));
    free(sent);
    free(value);
    release_fixture(fixture);
}

static void no_more_requests_than_the_depth(void **state) {
    (void)state;
    struct fixture *fixture = make_fixture(3, 0, 3);
    for (uint64_t key = 0; key < 3; key++) {
        assert_true(lane_takes_request(&fixture->lane));
        lane_get(&fixture->lane, &fixture->wire, key, 0);
    }
    assert_false(lane_takes_request(&fixture->lane));
    lane_sent(&fixture->lane, fixture->lane.out_end);
    assert_true(feed(fixture, "$-1\r\n", 5));
    assert_true(lane_takes_request(&fixture->lane));
    release_fixture(fixture);
}

/* Replies to: GET of a right value, GET of a wrong one, GET of nothing, SET, refused SET, GET of nothing in RESP3. */
static size_t compose_replies(struct fixture *fixture, char *replies) {
    struct lane *lane = &fixture->lane;
    char value[40];
    for (uint64_t key = 0; key < 3; key++) lane_get(lane, &fixture->wire, key, 1000);
    lane_set(lane, &fixture->wire, 3, 0, 1000);
    lane_set(lane, &fixture->wire, 4, 0, 1000);
    lane_get(lane, &fixture->wire, 5, 1000);
    lane_sent(lane, lane->out_end);
    char *at = replies;
    for (uint64_t key = 0; key < 2; key++) {
        struct value recipe = value_describe(&fixture->scheme, key, 17);
        value_write(&fixture->scheme, &recipe, 0, value, sizeof(value));
        value[20] = (char)(value[20] + (key == 1));
        at += sprintf(at, "$%zu\r\n", sizeof(value));
        memcpy(at, value, sizeof(value));
        at += sizeof(value);
        at += sprintf(at, "\r\n");
    }
    at += sprintf(at, "$-1\r\n+OK\r\n-OOM no room\r\n_\r\n");
    return (size_t)(at - replies);
}

static void replies_in_any_pieces_are_counted(void **state) {
    (void)state;
    for (size_t piece = 1; piece < 140; piece++) {
        struct fixture *fixture = make_fixture(40, 0, 8);
        char replies[400];
        size_t length = compose_replies(fixture, replies);
        for (size_t at = 0; at < length; at += piece)
            assert_true(feed(fixture, replies + at, length - at < piece ? length - at : piece));
        const struct lane_counts *counts = &fixture->counts;
        assert_int_equal(counts->operations, 6);
        assert_int_equal(counts->reads, 4);
        assert_int_equal(counts->writes, 2);
        assert_int_equal(counts->hits, 2);
        assert_int_equal(counts->misses, 2);
        assert_int_equal(counts->wrong, 1);
        assert_int_equal(counts->errors, 1);
        assert_string_equal(counts->first_error, "OOM no room");
        assert_non_null(strstr(counts->first_wrong, "k:00001"));
        /* Of the writes only the one that was taken. */
        assert_int_equal(counts->payload_bytes, 2 * 40 + 7 + 40);
        assert_int_equal(fixture->latency.total, 6);
        assert_int_equal(fixture->latency.max, 1000);
        assert_int_equal(lane_unanswered(&fixture->lane), 0);
        release_fixture(fixture);
    }
}

static void what_was_not_asked_for_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"+OK\r\n", ":1\r\n", "*1\r\n", "hello\r\n", "$x\r\n", "\r\n", "$-2\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fixture *fixture = make_fixture(3, 0, 4);
        assert_false(feed(fixture, "$-1\r\n", 5));
        lane_get(&fixture->lane, &fixture->wire, 1, 0);
        assert_false(feed(fixture, bad[i], strlen(bad[i])));
        release_fixture(fixture);
    }
    struct fixture *fixture = make_fixture(3, 0, 4);
    lane_set(&fixture->lane, &fixture->wire, 1, 0, 0);
    assert_false(feed(fixture, "$3\r\nabc\r\n", 9));
    release_fixture(fixture);
}

static void a_missing_key_with_a_ttl_may_have_expired(void **state) {
    (void)state;
    struct fixture *fixture = make_fixture(3, 1, 4);
    lane_get(&fixture->lane, &fixture->wire, 1, 0);
    assert_true(feed(fixture, "$-1\r\n", 5));
    assert_int_equal(fixture->counts.misses, 1);
    assert_int_equal(fixture->counts.expired, 1);
    release_fixture(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_written_as_resp),
        cmocka_unit_test(a_value_larger_than_the_buffer_is_sent_in_pieces),
        cmocka_unit_test(no_more_requests_than_the_depth),
        cmocka_unit_test(replies_in_any_pieces_are_counted),
        cmocka_unit_test(what_was_not_asked_for_is_refused),
        cmocka_unit_test(a_missing_key_with_a_ttl_may_have_expired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
