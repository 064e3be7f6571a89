/* Replies: the bytes of each form in both protocols, then blocks, slices, pins, marks and sending in any pieces. */

#include "base/random.h"
#include "resp/reply.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { PINS = 4096, LENT = 256, EXPECTED_MAX = 8 << 20 };

/* Every pinned object is an element of `pins`; how often each was released. */
static unsigned released[PINS];
static char pins[PINS];

static void release(void *ctx, void *pinned, uint32_t pin_tag) {
    assert_ptr_equal(ctx, pins);
    size_t i = (size_t)((char *)pinned - pins);
    assert_true(i < PINS);
    assert_int_equal(pin_tag, i * 3);
    released[i]++;
}

static void begin(struct reply *reply, bool resp3) {
    static char lent[LENT];
    memset(released, 0, sizeof(released));
    reply_init(reply, lent, sizeof(lent), release, pins);
    reply->resp3 = resp3;
}

/* All that is to be sent, terminated; the caller frees it. */
static char *flatten(struct reply *reply, size_t *length) {
    size_t capacity = reply->slice_count + 2, count;
    struct iovec *vectors = malloc(capacity * sizeof(*vectors));
    char *text = malloc(reply_bytes_pending(reply) + 1);
    *length = 0;
    count = reply_vectors(reply, vectors, capacity);
    for (size_t i = 0; i < count; i++) {
        memcpy(text + *length, vectors[i].iov_base, vectors[i].iov_len);
        *length += vectors[i].iov_len;
    }
    assert_int_equal(*length, reply_bytes_pending(reply));
    text[*length] = '\0';
    free(vectors);
    return text;
}

static void expect(struct reply *reply, const char *wanted) {
    size_t length;
    char *text = flatten(reply, &length);
    assert_string_equal(text, wanted);
    free(text);
    reply_clear(reply);
    assert_int_equal(reply_bytes_pending(reply), 0);
}

#define EXPECT2(call, wanted)                                                                                          \
    do {                                                                                                               \
        begin(&reply, false);                                                                                          \
        call;                                                                                                          \
        expect(&reply, wanted);                                                                                        \
    } while (0)
#define EXPECT3(call, wanted)                                                                                          \
    do {                                                                                                               \
        begin(&reply, true);                                                                                           \
        call;                                                                                                          \
        expect(&reply, wanted);                                                                                        \
    } while (0)
#define EXPECT_BOTH(call, wanted2, wanted3)                                                                            \
    EXPECT2(call, wanted2);                                                                                            \
    EXPECT3(call, wanted3)

static void scalars_in_both_protocols(void **state) {
    (void)state;
    struct reply reply;
    EXPECT_BOTH(reply_ok(&reply), "+OK\r\n", "+OK\r\n");
    EXPECT_BOTH(reply_simple(&reply, "QUEUED"), "+QUEUED\r\n", "+QUEUED\r\n");
    EXPECT_BOTH(reply_null(&reply), "$-1\r\n", "_\r\n");
    EXPECT_BOTH(reply_null_array(&reply), "*-1\r\n", "_\r\n");
    EXPECT_BOTH(reply_bool(&reply, true), ":1\r\n", "#t\r\n");
    EXPECT_BOTH(reply_bool(&reply, false), ":0\r\n", "#f\r\n");
    EXPECT_BOTH(reply_double(&reply, 0.1), "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n");
    EXPECT_BOTH(reply_double(&reply, INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
    EXPECT_BOTH(reply_verbatim(&reply, SPAN_LITERAL("text")), "$4\r\ntext\r\n", "=8\r\ntxt:text\r\n");
    EXPECT_BOTH(reply_big_number(&reply, SPAN_LITERAL("12345678901234567890")), "$20\r\n12345678901234567890\r\n",
                "(12345678901234567890\r\n");
    EXPECT_BOTH(reply_bulk(&reply, SPAN_LITERAL("")), "$0\r\n\r\n", "$0\r\n\r\n");
    EXPECT_BOTH(reply_bulk_text(&reply, "hello"), "$5\r\nhello\r\n", "$5\r\nhello\r\n");
}

static void integers_of_every_width(void **state) {
    (void)state;
    struct reply reply;
    EXPECT2(reply_integer(&reply, 0), ":0\r\n");
    EXPECT2(reply_integer(&reply, 9), ":9\r\n");
    EXPECT2(reply_integer(&reply, 10), ":10\r\n");
    EXPECT2(reply_integer(&reply, 99), ":99\r\n");
    EXPECT2(reply_integer(&reply, 100), ":100\r\n");
    EXPECT2(reply_integer(&reply, -1), ":-1\r\n");
    EXPECT2(reply_integer(&reply, INT64_MAX), ":9223372036854775807\r\n");
    EXPECT2(reply_integer(&reply, INT64_MIN), ":-9223372036854775808\r\n");
    EXPECT2(reply_bulk_integer(&reply, -12), "$3\r\n-12\r\n");
}

static void aggregates_in_both_protocols(void **state) {
    (void)state;
    struct reply reply;
    EXPECT_BOTH(reply_array(&reply, 3), "*3\r\n", "*3\r\n");
    EXPECT_BOTH(reply_map(&reply, 3), "*6\r\n", "%3\r\n");
    EXPECT_BOTH(reply_set(&reply, 3), "*3\r\n", "~3\r\n");
    EXPECT_BOTH(reply_push(&reply, 3), "*3\r\n", ">3\r\n");
}

static void errors_are_one_line_and_counted(void **state) {
    (void)state;
    struct reply reply;
    begin(&reply, false);
    reply_error(&reply, "WRONGTYPE bad\r\n+OK");
    assert_int_equal(reply.errors, 1);
    assert_string_equal(reply.error_code, "WRONGTYPE");
    reply_error_format(&reply, "ERR '%s' \n %d", "x", 7);
    assert_int_equal(reply.errors, 2);
    assert_string_equal(reply.error_code, "ERR");
    expect(&reply, "-WRONGTYPE bad  +OK\r\n-ERR 'x'   7\r\n");
    begin(&reply, false);
    reply_error(&reply, "ACODETHATISMUCHLONGERTHANTHEROOMFORIT text");
    assert_int_equal(strlen(reply.error_code), REPLY_CODE_MAX - 1);
    expect(&reply, "-ACODETHATISMUCHLONGERTHANTHEROOMFORIT text\r\n");
    begin(&reply, false);
    reply_error(&reply, "LONE");
    assert_string_equal(reply.error_code, "LONE");
    reply_clear(&reply);
    char text[4000];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    reply_error_format(&reply, "ERR %s", text);
    assert_true(reply_bytes_pending(&reply) < 2000);
    reply_clear(&reply);
}

static void aggregates_of_unknown_size_nest(void **state) {
    (void)state;
    struct reply reply;
    for (int resp3 = 0; resp3 <= 1; resp3++) {
        begin(&reply, resp3);
        struct reply_aggregate outer = reply_begin(&reply);
        reply_integer(&reply, 1);
        struct reply_aggregate map = reply_begin(&reply);
        reply_bulk_text(&reply, "key");
        struct reply_aggregate set = reply_begin(&reply);
        reply_end(&reply, set, '~', 0);
        reply_end(&reply, map, '%', 1);
        reply_integer(&reply, 2);
        reply_end(&reply, outer, '*', 3);
        reply_ok(&reply);
        expect(&reply, resp3 ? "*3\r\n:1\r\n%1\r\n$3\r\nkey\r\n~0\r\n:2\r\n+OK\r\n"
                             : "*3\r\n:1\r\n*2\r\n$3\r\nkey\r\n*0\r\n:2\r\n+OK\r\n");
    }
}

static void an_aggregate_may_span_blocks(void **state) {
    (void)state;
    struct reply reply;
    begin(&reply, false);
    struct reply_aggregate outer = reply_begin(&reply);
    for (int i = 0; i < 40000; i++) reply_integer(&reply, i);
    reply_end(&reply, outer, '*', 40000);
    assert_true(reply.block_count > 1);
    size_t length;
    char *text = flatten(&reply, &length), *at = text;
    assert_int_equal(strncmp(at, "*40000\r\n", 8), 0);
    at += 8;
    for (int i = 0; i < 40000; i++) {
        assert_int_equal(*at, ':');
        assert_int_equal(strtol(at + 1, &at, 10), i);
        at += 2;
    }
    assert_int_equal(at - text, length);
    free(text);
    reply_clear(&reply);
}

static void a_pinned_value_is_released_once_it_is_sent(void **state) {
    (void)state;
    struct reply reply;
    begin(&reply, false);
    reply_bulk_pinned(&reply, SPAN_LITERAL("pinned"), &pins[1], 3);
    reply_ok(&reply);
    struct iovec vectors[8];
    assert_int_equal(reply_vectors(&reply, vectors, 8), 3);
    assert_int_equal(vectors[1].iov_len, 6);
    reply_consume(&reply, 4 + 5);
    assert_int_equal(released[1], 0);
    reply_consume(&reply, 1);
    assert_int_equal(released[1], 1);
    reply_consume(&reply, 7);
    assert_int_equal(released[1], 1);
    assert_int_equal(reply_bytes_pending(&reply), 0);
    reply_clear(&reply);
    assert_int_equal(released[1], 1);
}

static void clearing_releases_what_was_not_sent(void **state) {
    (void)state;
    struct reply reply;
    begin(&reply, false);
    for (unsigned i = 0; i < 100; i++) reply_bulk_pinned(&reply, SPAN_LITERAL("abc"), &pins[i], i * 3);
    struct iovec vectors[8];
    reply_vectors(&reply, vectors, 8);
    reply_consume(&reply, 9 * 50 + 4 + 1); /* the 51st is begun */
    reply_clear(&reply);
    for (unsigned i = 0; i < 100; i++) assert_int_equal(released[i], 1);
}

static void a_rewind_forgets_what_came_since(void **state) {
    (void)state;
    struct reply reply;
    begin(&reply, false);
    reply_simple(&reply, "before");
    struct reply_mark mark = reply_mark(&reply);
    reply_simple(&reply, "after");
    reply_bulk_pinned(&reply, SPAN_LITERAL("abc"), &pins[1], 3);
    struct reply_aggregate aggregate = reply_begin(&reply);
    reply_end(&reply, aggregate, '*', 0);
    reply_rewind(&reply, mark);
    assert_int_equal(released[1], 1);
    reply_simple(&reply, "again");
    expect(&reply, "+before\r\n+again\r\n");
}

static void a_rewind_across_blocks_frees_them(void **state) {
    (void)state;
    struct reply reply;
    begin(&reply, false);
    reply_simple(&reply, "before");
    for (unsigned round = 0; round < 100; round++) {
        struct reply_mark mark = reply_mark(&reply);
        for (int i = 0; i < 30000; i++) reply_integer(&reply, i);
        assert_true(reply.block_count > 1);
        reply_rewind(&reply, mark);
        assert_int_equal(reply.block_count, 0);
        assert_int_equal(reply_bytes_pending(&reply), 9);
    }
    reply_simple(&reply, "again");
    expect(&reply, "+before\r\n+again\r\n");
}

static void an_appended_reply_keeps_order_and_pins(void **state) {
    (void)state;
    struct reply first, second;
    begin(&first, false);
    reply_init(&second, NULL, 0, release, pins);
    reply_simple(&first, "one");
    reply_bulk_pinned(&second, SPAN_LITERAL("two"), &pins[2], 6);
    reply_simple(&second, "three");
    struct iovec vectors[8];
    reply_vectors(&second, vectors, 8);
    reply_consume(&second, 1);
    reply_append(&first, &second);
    assert_int_equal(reply_bytes_pending(&second), 0);
    assert_int_equal(released[2], 0);
    reply_simple(&first, "four");
    expect(&first, "+one\r\n3\r\ntwo\r\n+three\r\n+four\r\n");
    assert_int_equal(released[2], 1);
    reply_clear(&second);
    assert_int_equal(released[2], 1);
}

/* Its blocks go on as they are. */
static void a_long_reply_is_appended_without_being_copied(void **state) {
    (void)state;
    struct reply first, second;
    static char lent[LENT], value[1 << 20];
    struct iovec vectors[64];
    const void *last;
    memset(value, 'v', sizeof(value));
    begin(&first, false);
    reply_init(&second, lent, sizeof(lent), release, pins);
    reply_simple(&first, "one");
    reply_simple(&second, "two");
    reply_bulk_pinned(&second, SPAN_LITERAL("three"), &pins[3], 9);
    reply_bulk(&second, span_of(value, sizeof(value)));
    last = second.block;
    reply_append(&first, &second);
    assert_int_equal(second.block_count, 0);
    reply_ok(&first);
    size_t count = reply_vectors(&first, vectors, 64), bytes = reply_bytes_pending(&first);
    assert_int_equal(bytes, 6 + 6 + 4 + 5 + 2 + 10 + sizeof(value) + 2 + 5);
    const struct iovec *copied = &vectors[count - 1];
    while (copied->iov_len < sizeof(value)) copied--;
    assert_true((const char *)copied->iov_base >= (const char *)last &&
                (const char *)copied->iov_base + copied->iov_len <= (const char *)last + sizeof(value) + 100);
    assert_memory_equal(vectors[0].iov_base, "+one\r\n+two\r\n$5\r\n", vectors[0].iov_len);
    reply_consume(&first, bytes - 3);
    assert_int_equal(released[3], 1);
    assert_true(first.block_count <= 2);
    reply_ok(&first);
    expect(&first, "K\r\n+OK\r\n");
    reply_clear(&second);
}

/* ---- bounded ---- */

struct allowance {
    size_t left;
    unsigned asked;
    size_t told; /* to be resident */
};

static bool allow(void *ctx, size_t bytes) {
    struct allowance *allowance = ctx;
    allowance->asked++;
    if (bytes > allowance->left) return false;
    allowance->left -= bytes;
    return true;
}

static void note(void *ctx, size_t bytes) {
    struct allowance *allowance = ctx;
    allowance->told += bytes;
}

static const struct reply_budget budget = {.ask = allow, .took = note};

static void compose_elements(struct reply *reply, unsigned count, size_t length) {
    static char value[300000];
    for (unsigned i = 0; i < count; i++) {
        struct reply_aggregate aggregate = reply_begin(reply);
        reply_bulk(reply, span_of(value, length));
        reply_integer(reply, i);
        reply_end(reply, aggregate, '*', 2);
    }
}

/* It is composed to its end all the same, in little memory, and its length is known then. */
static void a_reply_that_is_refused_memory_is_only_counted(void **state) {
    (void)state;
    static const size_t lengths[] = {10, 1000, 300000};
    for (unsigned i = 0; i < 3; i++) {
        size_t count = 3000000 / lengths[i], elements = count * lengths[i];
        struct allowance allowance = {.left = 1 << 20};
        struct reply reply;
        begin(&reply, false);
        reply_simple(&reply, "before");
        struct reply_mark mark = reply_mark(&reply);
        reply_bound(&reply, 100000, &budget, &allowance);
        compose_elements(&reply, (unsigned)count, lengths[i]);
        assert_true(reply.starved && reply.block_count <= 30);
        size_t wanted = reply_unbound(&reply);
        assert_true(wanted >= elements && wanted <= elements + count * 80 + (2 << 20));
        reply_rewind(&reply, mark);
        /* Granted what it wanted, it asks nobody. */
        allowance = (struct allowance){0};
        reply_bound(&reply, wanted, &budget, &allowance);
        compose_elements(&reply, (unsigned)count, lengths[i]);
        assert_int_equal(allowance.asked, 0);
        /* All but the last block is known to be resident. */
        assert_true(allowance.told <= reply.taken && allowance.told + reply.capacity >= reply.taken);
        assert_int_equal(reply_unbound(&reply), 0);
        assert_true(reply_bytes_pending(&reply) > elements);
        reply_rewind(&reply, mark);
        expect(&reply, "+before\r\n");
    }
}

static void what_composing_takes_is_asked_for_as_well(void **state) {
    (void)state;
    struct allowance allowance = {.left = 3 << 20};
    struct reply reply;
    begin(&reply, false);
    assert_true(reply_may_take(&reply, SIZE_MAX));
    reply_bound(&reply, 1000, &budget, &allowance);
    assert_true(reply_may_take(&reply, 1000));
    assert_int_equal(allowance.asked, 0);
    assert_true(reply_may_take(&reply, 2 << 20));
    assert_false(reply_may_take(&reply, 2 << 20));
    assert_false(reply_may_take(&reply, 1));
    assert_true(reply_unbound(&reply) >= 4 << 20);
    reply_clear(&reply);
}

static void what_is_given_to_a_reply_is_its_own_also_when_it_is_not_kept(void **state) {
    (void)state;
    struct allowance allowance = {.left = 1 << 20};
    struct reply reply;
    begin(&reply, false);
    struct reply_mark mark = reply_mark(&reply);
    reply_bound(&reply, 1000, &budget, &allowance);
    assert_true(reply_may_take(&reply, 100000));
    reply_bulk_owned(&reply, calloc(1, 100000), 100000, 100000);
    assert_false(reply_may_take(&reply, 2 << 20));
    size_t lost = reply.lost;
    reply_bulk_owned(&reply, calloc(1, 100000), 100000, 100000);
    assert_int_equal(reply.lost, lost + 100000);
    assert_true(reply_unbound(&reply) >= 100000 + (2 << 20));
    reply_rewind(&reply, mark);
    reply_bulk_owned(&reply, strdup("given?"), 5, 6); /* the line's end does not fit */
    reply_bulk_owned(&reply, strdup("another......"), 7, 13);
    reply_ok(&reply);
    expect(&reply, "$5\r\ngiven\r\n$7\r\nanother\r\n+OK\r\n");
}

static void room_for_all_of_a_reply_can_be_asked_for_before_it_is_composed(void **state) {
    (void)state;
    enum { PIECES = 200, PIECE = 16368 };
    static char value[PIECE];
    struct allowance allowance = {.left = 4 << 20};
    struct reply reply;
    begin(&reply, false);
    assert_true(reply_has_room(&reply, SIZE_MAX));
    reply_bound(&reply, 1000, &budget, &allowance);
    assert_true(reply_has_room(&reply, PIECES * PIECE));
    unsigned asked = allowance.asked;
    for (unsigned i = 0; i < PIECES; i++) reply_raw(&reply, value, PIECE);
    assert_int_equal(allowance.asked, asked);
    assert_false(reply_has_room(&reply, PIECES * PIECE));
    assert_true(reply.starved);
    assert_true(reply_unbound(&reply) >= (size_t)2 * PIECES * PIECE);
    reply_clear(&reply);
}

/* No lock that releasing needs may be taken then. */
static void what_is_forgotten_is_released_when_its_turn_comes(void **state) {
    (void)state;
    struct reply reply;
    begin(&reply, false);
    reply_bulk_pinned(&reply, SPAN_LITERAL("one"), &pins[1], 3);
    struct reply_mark mark = reply_mark(&reply);
    for (unsigned i = 2; i < 40; i++) {
        compose_elements(&reply, 1, 10000);
        reply_bulk_pinned(&reply, SPAN_LITERAL("gone"), &pins[i], i * 3);
    }
    reply_forget(&reply, mark);
    for (unsigned i = 1; i < 40; i++) assert_int_equal(released[i], 0);
    assert_int_equal(reply.block_count, 0);
    reply_ok(&reply);
    expect(&reply, "$3\r\none\r\n+OK\r\n");
    for (unsigned i = 1; i < 40; i++) assert_int_equal(released[i], 1);
    begin(&reply, false);
    reply_ok(&reply);
    mark = reply_mark(&reply);
    reply_bulk_pinned(&reply, SPAN_LITERAL("gone"), &pins[1], 3);
    reply_forget(&reply, mark);
    struct iovec vectors[4];
    assert_int_equal(reply_vectors(&reply, vectors, 4), 1);
    reply_consume(&reply, 5);
    assert_int_equal(released[1], 1);
    reply_clear(&reply);
}

static void the_whole_reply_may_be_one_stretch_of_the_lent_block(void **state) {
    (void)state;
    struct reply reply;
    char other[LENT];
    size_t length;
    begin(&reply, false);
    reply_ok(&reply);
    const char *bytes = reply_lent_bytes(&reply, &length);
    assert_int_equal(length, 5);
    assert_memory_equal(bytes, "+OK\r\n", 5);
    reply_bulk_pinned(&reply, SPAN_LITERAL("x"), &pins[0], 0);
    assert_null(reply_lent_bytes(&reply, &length));
    reply_clear(&reply);
    reply_lend(&reply, other, sizeof(other));
    reply_ok(&reply);
    assert_ptr_equal(reply_lent_bytes(&reply, &length), other);
    while (reply.block == other) reply_ok(&reply);
    assert_null(reply_lent_bytes(&reply, &length));
    reply_clear(&reply);
}

/* A client that reads, but never quite everything: what is sent may not be kept. */
static void memory_follows_what_is_unsent(void **state) {
    (void)state;
    struct reply reply;
    char value[1000];
    memset(value, 'v', sizeof(value));
    begin(&reply, false);
    for (unsigned turn = 0; turn < 20000; turn++) {
        reply_bulk(&reply, span_of(value, sizeof(value)));
        if (turn % 3 == 0) reply_bulk_pinned(&reply, span_of(value, 10), &pins[turn % PINS], turn % PINS * 3);
        struct iovec vectors[4];
        reply_vectors(&reply, vectors, 4);
        if (turn > 20) reply_consume(&reply, reply_bytes_pending(&reply) - 15000);
        assert_true(reply.block_count <= 3);
        assert_true(reply.slice_capacity <= 256);
    }
    reply_clear(&reply);
}

/* Anything composed in any order and sent in any pieces is the concatenation of what each call composes alone. */

struct expected {
    char *bytes;
    size_t length;
    unsigned pinned;
};

static void compose_one(struct random *random, struct reply *reply, struct expected *expected) {
    static char filler[100000];
    memset(filler, 'f', sizeof(filler));
    char *at = expected->bytes + expected->length;
    size_t size = random_once_in(random, 30) ? random_below(random, sizeof(filler)) : random_below(random, 40);
    switch (random_below(random, 5)) {
    case 0:
        reply_integer(reply, (int64_t)size);
        expected->length += (size_t)sprintf(at, ":%zu\r\n", size);
        break;
    case 1:
        if (expected->pinned == PINS) break;
        reply_bulk_pinned(reply, span_of(filler, size), &pins[expected->pinned], expected->pinned * 3);
        expected->pinned++;
        expected->length += (size_t)sprintf(at, "$%zu\r\n%.*s\r\n", size, (int)size, filler);
        break;
    case 2: {
        struct reply_aggregate aggregate = reply_begin(reply);
        for (size_t i = 0; i < size % 5; i++) reply_null(reply);
        reply_end(reply, aggregate, '*', size % 5);
        expected->length += (size_t)sprintf(at, "*%zu\r\n", size % 5);
        for (size_t i = 0; i < size % 5; i++) {
            memcpy(expected->bytes + expected->length, "$-1\r\n", 5);
            expected->length += 5;
        }
        break;
    }
    case 3: {
        size_t capacity = size + random_below(random, 50);
        char *owned = malloc(capacity + 1);
        memcpy(owned, filler, size);
        reply_bulk_owned(reply, owned, size, capacity);
        expected->length += (size_t)sprintf(at, "$%zu\r\n%.*s\r\n", size, (int)size, filler);
        break;
    }
    default:
        reply_bulk(reply, span_of(filler, size));
        expected->length += (size_t)sprintf(at, "$%zu\r\n%.*s\r\n", size, (int)size, filler);
    }
}

static size_t send_some(struct random *random, struct reply *reply, const struct expected *expected, size_t sent) {
    struct iovec vectors[6];
    size_t count = reply_vectors(reply, vectors, 1 + random_below(random, 6)), total = 0;
    for (size_t i = 0; i < count; i++) {
        assert_memory_equal(vectors[i].iov_base, expected->bytes + sent + total, vectors[i].iov_len);
        total += vectors[i].iov_len;
    }
    size_t step = random_once_in(random, 3) ? total : random_below(random, total + 1);
    reply_consume(reply, step);
    return step;
}

static void random_replies_arrive_whole_however_they_are_sent(void **state) {
    (void)state;
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_seed(&random, seed);
    struct expected expected = {.bytes = malloc(EXPECTED_MAX)};
    static char lent[LENT];
    for (unsigned round = 0; round < 300; round++) {
        struct reply reply, other;
        size_t sent = 0;
        begin(&reply, false);
        reply_init(&other, round % 2 ? lent : NULL, round % 2 ? sizeof(lent) : 0, release, pins);
        expected.length = expected.pinned = 0;
        for (unsigned step = 0; step < 200 && expected.length < EXPECTED_MAX / 2; step++) {
            compose_one(&random, &reply, &expected);
            if (random_once_in(&random, 4)) sent += send_some(&random, &reply, &expected, sent);
            if (random_once_in(&random, 10)) {
                unsigned parts = random_once_in(&random, 3) ? 60 : 1;
                for (unsigned k = 0; k < parts; k++) compose_one(&random, &other, &expected);
                reply_append(&reply, &other);
            }
            if (random_once_in(&random, 10)) {
                struct expected forgotten = {expected.bytes, expected.length, expected.pinned};
                struct reply_mark mark = reply_mark(&reply);
                for (unsigned k = 0; k < 5; k++) compose_one(&random, &reply, &forgotten);
                if (random_once_in(&random, 2))
                    reply_rewind(&reply, mark);
                else
                    reply_forget(&reply, mark);
                expected.pinned = forgotten.pinned;
            }
            assert_int_equal(reply_bytes_pending(&reply), expected.length - sent);
        }
        while (sent < expected.length) sent += send_some(&random, &reply, &expected, sent);
        for (unsigned i = 0; i < expected.pinned; i++) assert_int_equal(released[i], 1);
        reply_clear(&reply);
        reply_clear(&other);
    }
    free(expected.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_in_both_protocols),
        cmocka_unit_test(integers_of_every_width),
        cmocka_unit_test(aggregates_in_both_protocols),
        cmocka_unit_test(errors_are_one_line_and_counted),
        cmocka_unit_test(aggregates_of_unknown_size_nest),
        cmocka_unit_test(an_aggregate_may_span_blocks),
        cmocka_unit_test(a_pinned_value_is_released_once_it_is_sent),
        cmocka_unit_test(clearing_releases_what_was_not_sent),
        cmocka_unit_test(a_rewind_forgets_what_came_since),
        cmocka_unit_test(a_rewind_across_blocks_frees_them),
        cmocka_unit_test(an_appended_reply_keeps_order_and_pins),
        cmocka_unit_test(a_long_reply_is_appended_without_being_copied),
        cmocka_unit_test(a_reply_that_is_refused_memory_is_only_counted),
        cmocka_unit_test(what_composing_takes_is_asked_for_as_well),
        cmocka_unit_test(room_for_all_of_a_reply_can_be_asked_for_before_it_is_composed),
        cmocka_unit_test(what_is_given_to_a_reply_is_its_own_also_when_it_is_not_kept),
        cmocka_unit_test(what_is_forgotten_is_released_when_its_turn_comes),
        cmocka_unit_test(the_whole_reply_may_be_one_stretch_of_the_lent_block),
        cmocka_unit_test(memory_follows_what_is_unsent),
        cmocka_unit_test(random_replies_arrive_whole_however_they_are_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
