/* What the slow log keeps, in which order, and how it shortens. */

#include "server/slowlog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct seen {
    uint64_t announced, visited;
    int64_t ids[64];
    char arguments[SLOWLOG_ARGUMENTS][256];
    char address[64], name[64];
};

static void begin(void *ctx, uint64_t count) {
    ((struct seen *)ctx)->announced = count;
}

static void print(char *out, size_t capacity, struct span bytes) {
    assert_true(bytes.length < capacity);
    memcpy(out, bytes.data, bytes.length);
    out[bytes.length] = '\0';
}

static void visit(void *ctx, const struct slowlog_entry *entry) {
    struct seen *seen = ctx;
    if (seen->visited == 0) {
        for (uint32_t i = 0; i < entry->argument_count; i++)
            print(seen->arguments[i], sizeof(seen->arguments[i]), entry->arguments[i]);
        print(seen->address, sizeof(seen->address), entry->client_address);
        print(seen->name, sizeof(seen->name), entry->client_name);
    }
    assert_true(seen->visited < 64);
    seen->ids[seen->visited++] = entry->id;
}

static struct seen read_log(struct slowlog *log, uint64_t count) {
    struct seen seen = {0};
    struct slowlog_reader reader = {begin, visit, &seen};
    slowlog_read(log, count, &reader);
    assert_int_equal(seen.announced, seen.visited);
    return seen;
}

static void add(struct slowlog *log, const struct span *arguments, uint32_t count) {
    struct slowlog_event event = {.unix_seconds = 100,
                                  .duration_us = 20,
                                  .arguments = arguments,
                                  .argument_count = count,
                                  .client_address = "127.0.0.1:5",
                                  .client_name = NULL};
    slowlog_add(log, &event);
}

static void the_newest_come_first_and_the_oldest_go(void **state) {
    (void)state;
    struct slowlog log;
    struct span ping = SPAN_LITERAL("PING");
    slowlog_init(&log, 3);
    for (int i = 0; i < 5; i++) add(&log, &ping, 1);
    assert_int_equal(slowlog_length(&log), 3);
    struct seen seen = read_log(&log, UINT64_MAX);
    assert_int_equal(seen.visited, 3);
    assert_int_equal(seen.ids[0], 4);
    assert_int_equal(seen.ids[2], 2);
    assert_int_equal(read_log(&log, 2).visited, 2);
    assert_int_equal(read_log(&log, 0).visited, 0);
    slowlog_set_length_max(&log, 1);
    seen = read_log(&log, 10);
    assert_int_equal(seen.visited, 1);
    assert_int_equal(seen.ids[0], 4);
    slowlog_destroy(&log);
}

static void ids_go_on_after_a_reset(void **state) {
    (void)state;
    struct slowlog log;
    struct span ping = SPAN_LITERAL("PING");
    slowlog_init(&log, 10);
    add(&log, &ping, 1);
    slowlog_reset(&log);
    assert_int_equal(slowlog_length(&log), 0);
    add(&log, &ping, 1);
    assert_int_equal(read_log(&log, 10).ids[0], 1);
    slowlog_set_length_max(&log, 0);
    add(&log, &ping, 1);
    assert_int_equal(slowlog_length(&log), 0);
    slowlog_set_length_max(&log, 1);
    add(&log, &ping, 1);
    assert_int_equal(read_log(&log, 1).ids[0], 2); /* the one that was not kept has no number */
    slowlog_destroy(&log);
}

static void arguments_are_shortened_as_redis_does(void **state) {
    (void)state;
    struct slowlog log;
    char bytes[500];
    struct span arguments[40];
    memset(bytes, 'x', sizeof(bytes));
    slowlog_init(&log, 10);
    for (int i = 0; i < 40; i++) arguments[i] = SPAN_LITERAL("arg");
    arguments[1] = span_of(bytes, 128);
    arguments[2] = span_of(bytes, 500);
    arguments[3] = span_of(NULL, 0);
    add(&log, arguments, 32);
    struct seen seen = read_log(&log, 1);
    assert_string_equal(seen.arguments[31], "arg");
    assert_int_equal(strlen(seen.arguments[1]), 128);
    assert_string_equal(seen.arguments[2] + 128, "... (372 more bytes)");
    assert_string_equal(seen.arguments[3], "");
    assert_string_equal(seen.address, "127.0.0.1:5");
    assert_string_equal(seen.name, "");
    add(&log, arguments, 40);
    seen = read_log(&log, 1);
    assert_string_equal(seen.arguments[30], "arg");
    assert_string_equal(seen.arguments[31], "... (9 more arguments)");
    slowlog_destroy(&log);
}

static void *add_many(void *argument) {
    struct span words[] = {SPAN_LITERAL("SET"), SPAN_LITERAL("k"), SPAN_LITERAL("v")};
    for (int i = 0; i < 5000; i++) add(argument, words, 3);
    return NULL;
}

static void threads_may_add_while_others_read(void **state) {
    (void)state;
    struct slowlog log;
    pthread_t threads[3];
    slowlog_init(&log, 32);
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, add_many, &log), 0);
    for (int i = 0; i < 200; i++) {
        struct seen seen = read_log(&log, 32);
        for (uint64_t k = 1; k < seen.visited; k++) assert_int_equal(seen.ids[k], seen.ids[k - 1] - 1);
        if (i % 50 == 0) slowlog_reset(&log);
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    add_many(&log);
    assert_int_equal(slowlog_length(&log), 32);
    assert_int_equal(read_log(&log, 1).ids[0], 19999);
    slowlog_destroy(&log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_come_first_and_the_oldest_go),
        cmocka_unit_test(ids_go_on_after_a_reset),
        cmocka_unit_test(arguments_are_shortened_as_redis_does),
        cmocka_unit_test(threads_may_add_while_others_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
