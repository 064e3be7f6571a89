/* After most keys are gone, compaction gives back the pages of records and of index segments, and loses no key. */

#include "keyspace/keyspace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 1000000, KEPT_EVERY = 5 };

static struct key key_of(const struct keyspace *keyspace, unsigned i, char text[32]) {
    return keyspace_key(keyspace, span_of(text, (size_t)snprintf(text, 32, "key:%u", i)));
}

static void compaction_gives_back_what_deletion_left(void **state) {
    (void)state;
    struct keyspace *keyspace = keyspace_create(&(struct keyspace_options){.shards = 8, .seed = 11});
    struct view view = {.keyspace = keyspace, .now_ms = 1};
    char text[32];
    for (unsigned i = 0; i < KEYS; i++) {
        struct key key = key_of(keyspace, i, text);
        struct lookup lookup = keyspace_find(&view, &key);
        struct record_plan plan = {.type = RECORD_STRING,
                                   .value = SPAN_LITERAL("a value of thirty-two bytes here"),
                                   .expiry_ms = RECORD_EXPIRY_NONE};
        assert_true(keyspace_store(&view, &key, &lookup, &plan));
    }
    for (unsigned i = 0; i < KEYS; i++) {
        if (i % KEPT_EVERY == 0) continue;
        struct key key = key_of(keyspace, i, text);
        struct lookup lookup = keyspace_find(&view, &key);
        keyspace_remove(&view, &key, &lookup);
    }
    struct segment_pool *segments = &keyspace->index_memory[0].segments;
    assert_true(segment_pool_is_loose(segments));
    size_t before = segments->page_bytes;
    for (unsigned round = 0; round < 200; round++)
        for (unsigned shard = 0; shard < 8; shard++) (void)keyspace_compact(keyspace, shard, 4096);
    struct keyspace_usage usage;
    keyspace_usage(&view, &usage);
    assert_true(segments->page_bytes < before);
    assert_true(segments->page_bytes <= segments->used_bytes * 5 / 4 + (1 << 20));
    assert_true(usage.page_bytes <= usage.record_bytes * 9 / 8 + (1 << 20));
    assert_true(keyspace_validate(keyspace));
    assert_true(segment_pool_validate(segments));
    for (unsigned i = 0; i < KEYS; i++) {
        struct key key = key_of(keyspace, i, text);
        assert_int_equal(keyspace_find(&view, &key).record != NULL, i % KEPT_EVERY == 0);
    }
    keyspace_destroy(keyspace);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(compaction_gives_back_what_deletion_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
