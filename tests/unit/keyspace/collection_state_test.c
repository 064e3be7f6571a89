/* Big collections of every type through a checkpoint, without one: what a root tells of itself makes another, which
 * takes the tables of pages over and goes on where the first one was. Replies of commands are the same before and
 * after, and the keyspace is valid; while pages are cold none is read. Then what is damaged: cut short anywhere, or
 * with any byte changed, it makes a root that can be given up, or none. */

#include "command/families.h"
#include "keyspace/keyspace_collection.h"
#include "keyspace/keyspace_private.h"
#include "keyspace/stream_value.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, SHARDS = 4, LINE = 200 };

static struct in_process *start(void) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {hash_commands, hash_command_count},
                                              {set_commands, set_command_count},
                                              {list_commands, list_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {stream_commands, stream_command_count},
                                              {key_commands, key_command_count}};
    const struct tier_options tier = {
        .path = "tier", .segment_bytes = SEGMENT, .size_bytes = 64 * SEGMENT, .memory_bytes = 64 << 20};
    struct in_process *server = in_process_create_with(&(struct in_process_options){
        .families = families, .family_count = sizeof(families) / sizeof(families[0]), .tier = &tier, .shards = SHARDS});
    struct value_limits *limits = &server->keyspace->limits;
    limits->hash_packed_entries = limits->set_packed_entries = limits->sorted_set_packed_entries = 0;
    limits->list_packed_size = 1;
    return server;
}

static const char *run(struct in_process *server, const char *form, ...) __attribute__((format(printf, 2, 3)));
static const char *run(struct in_process *server, const char *form, ...) {
    char line[LINE];
    va_list arguments;
    va_start(arguments, form);
    vsnprintf(line, sizeof(line), form, arguments);
    va_end(arguments);
    const char *reply = in_process_run(server, line);
    assert_true(reply[0] != '-');
    return reply;
}

/* ---- a root exchanged for what it becomes ---- */

struct found {
    struct view view;
    struct key key;
    struct lookup lookup;
    struct collection *collection;
};

static struct found find(struct in_process *server, const char *name) {
    struct found found = {
        .view = {.keyspace = server->keyspace, .port = server->port, .now_ms = server->dispatcher->now_ms}};
    found.key = keyspace_key(server->keyspace, span_of_text(name));
    found.lookup = keyspace_find_for_write(&found.view, &found.key);
    assert_true(found.lookup.record && record_is_paged(found.lookup.record));
    found.collection = collection_of(found.lookup.record);
    return found;
}

/* Of one that was loaded the kind is not known yet. */
static struct state_writer saved(const struct collection_kind *kind, const struct collection *collection) {
    struct state_writer out = {0};
    assert_true(kind->save(collection, &out));
    return out;
}

/* The root alone: its tables are another's, or empty. */
static void give_up(const struct collection_kind *kind, struct collection *collection) {
    while (kind->release && kind->release(collection, 1000)) continue;
    free(collection);
}

/* Its tables are those of `from`, which then has none. */
static void take_tables(struct collection *collection, struct collection *from) {
    collection_init(collection, from->kind);
    collection->epoch = from->epoch;
    collection->next_expiry_ms = from->next_expiry_ms;
    collection->heap = from->heap;
    from->heap = NULL;
    for (unsigned part = 0; part < COLLECTION_PARTS; part++) {
        collection->parts[part] = from->parts[part];
        collection->parts[part].owner = collection;
        page_table_init(&from->parts[part], from, part);
    }
}

static void renew(struct in_process *server, const char *name) {
    struct found found = find(server, name);
    struct collection *before = found.collection;
    const struct collection_kind *kind = before->kind;
    struct page_access access = keyspace_pages(&found.view, found.lookup.shard);
    struct state_writer out = saved(kind, before), again;
    struct state_reader in = {.rest = span_of(out.bytes, out.length)};
    struct collection *after = kind->load(&in, server->keyspace->seed);
    assert_true(after && state_read_all(&in));
    again = saved(kind, after);
    assert_true(span_equal(span_of(out.bytes, out.length), span_of(again.bytes, again.length)));
    take_tables(after, before);
    assert_true(kind->loaded(after, &access));
    collection_replace(server->keyspace, before, after);
    memcpy((char *)(uintptr_t)record_value(found.lookup.record).data, &after, sizeof(struct collection *));
    give_up(kind, before);
    state_writer_free(&out);
    state_writer_free(&again);
}

/* What clients see of the key. */
struct seen {
    char *replies[4];
};

static struct seen look(struct in_process *server, const char *const commands[4], const char *name) {
    struct seen seen = {{NULL}};
    for (unsigned i = 0; i < 4 && commands[i]; i++) {
        char line[LINE];
        snprintf(line, sizeof(line), commands[i], name);
        assert_non_null(seen.replies[i] = strdup(in_process_run(server, line)));
        assert_true(seen.replies[i][0] != '-');
    }
    return seen;
}

static uint64_t reads_of(struct in_process *server) {
    struct tier_figures figures;
    tier_figures(server->tier, &figures);
    return figures.reads + figures.memory_reads;
}

static void expect_the_same(struct in_process *server, const char *const commands[4], const char *name) {
    struct seen before = look(server, commands, name);
    in_process_demote(server, name);
    in_process_settle(server);
    uint64_t reads = reads_of(server);
    renew(server, name);
    assert_true(reads_of(server) == reads);
    struct seen after = look(server, commands, name);
    for (unsigned i = 0; i < 4 && commands[i]; i++) {
        assert_string_equal(before.replies[i], after.replies[i]);
        free(before.replies[i]);
        free(after.replies[i]);
    }
    struct found found = find(server, name);
    struct page_access access = keyspace_pages(&found.view, found.lookup.shard);
    assert_true(found.collection->kind->validate(found.collection, &access));
    assert_true(keyspace_validate(server->keyspace));
}

/* Cut short anywhere there is no root; with any byte changed there may be one, which then can be given up. */
static void expect_damage_is_found(struct in_process *server, const char *name) {
    struct found found = find(server, name);
    const struct collection_kind *kind = found.collection->kind;
    struct state_writer out = saved(kind, found.collection);
    unsigned roots = 0;
    for (size_t i = 0; i < out.length; i++) {
        struct state_reader in = {.rest = span_of(out.bytes, i)};
        assert_null(kind->load(&in, server->keyspace->seed));
        char byte = out.bytes[i];
        out.bytes[i] = (char)(byte ^ (1 << i % 8));
        in = (struct state_reader){.rest = span_of(out.bytes, out.length)};
        struct collection *collection = kind->load(&in, server->keyspace->seed);
        out.bytes[i] = byte;
        if (!collection) continue;
        struct state_writer again = saved(kind, collection);
        state_writer_free(&again);
        give_up(kind, collection);
        roots++;
    }
    assert_true(roots > 0);
    state_writer_free(&out);
}

/* ---- types ---- */

static const char *const list_looks[4] = {"LRANGE %s 0 -1", "LLEN %s"};
static const char *const sorted_set_looks[4] = {"ZRANGE %s 0 -1 WITHSCORES", "ZCARD %s", "ZSCORE %s m17"};
static const char *const hash_looks[4] = {"HGETALL %s", "HLEN %s", "HGET %s f17"};
static const char *const set_looks[4] = {"SMEMBERS %s", "SCARD %s"};
static const char *const string_looks[4] = {"GET %s", "STRLEN %s"};
static const char *const stream_looks[4] = {"XRANGE %s - +", "XINFO STREAM %s FULL COUNT 0", "XPENDING %s g1",
                                            "XPENDING %s g2 - + 1000"};

static void push(struct in_process *server, const char *name, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) run(server, "RPUSH %s element:%u:%u", name, i, i * 7919);
}

static void lists_come_back(void **state) {
    (void)state;
    struct in_process *server = start();
    push(server, "list", 0, 20000);
    expect_the_same(server, list_looks, "list");
    push(server, "list", 0, 1000);
    run(server, "LTRIM list 300 15000");
    run(server, "LPUSH list first");
    struct found found = find(server, "list");
    assert_true(found.collection->kind->tidy(found.collection, NULL, 0)); /* there are leaves to be dropped */
    expect_the_same(server, list_looks, "list");
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(server->keyspace, shard, 1)) continue;
    found = find(server, "list");
    assert_false(found.collection->kind->tidy(found.collection, NULL, 0));
    assert_true(page_table_live(&found.collection->parts[COLLECTION_TREES]) < 150);
    expect_the_same(server, list_looks, "list");
    push(server, "short", 0, 500);
    expect_damage_is_found(server, "short");
    in_process_destroy(server);
}

static void sorted_sets_come_back(void **state) {
    (void)state;
    struct in_process *server = start();
    for (unsigned i = 0; i < 10000; i++) run(server, "ZADD set %u m%u", i % 700, i);
    expect_the_same(server, sorted_set_looks, "set");
    run(server, "ZADD set -0 m17");
    run(server, "ZADD set 0 m18");
    expect_the_same(server, sorted_set_looks, "set");
    for (unsigned i = 0; i < 5000; i++) run(server, "ZADD other %u m%u", i, i);
    run(server, "ZREMRANGEBYRANK other 100 4900");
    expect_the_same(server, sorted_set_looks, "other");
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(server->keyspace, shard, 1)) continue;
    for (unsigned i = 0; i < 5000; i++) run(server, "ZADD other %u m%u", 2 * i, i);
    expect_the_same(server, sorted_set_looks, "other");
    for (unsigned i = 0; i < 300; i++) run(server, "ZADD short %u m%u", i / 200, i);
    expect_damage_is_found(server, "short");
    in_process_destroy(server);
}

static void hashes_sets_and_strings_come_back(void **state) {
    (void)state;
    struct in_process *server = start();
    for (unsigned i = 0; i < 5000; i++) {
        run(server, "HSET hash f%u value:%u", i, i);
        run(server, "SADD members m%u", i);
    }
    expect_the_same(server, hash_looks, "hash");
    expect_the_same(server, set_looks, "members");
    run(server, "SETRANGE string 300000 end");
    run(server, "SETRANGE string 100000 middle");
    expect_the_same(server, string_looks, "string");
    for (unsigned i = 0; i < 2000; i++) run(server, "HDEL hash f%u", 2 * i);
    expect_the_same(server, hash_looks, "hash");
    expect_damage_is_found(server, "hash");
    in_process_destroy(server);
}

/* Entries of several kinds, two groups of several consumers, one of which is gone; messages of producers. */
static void fill_stream(struct in_process *server, const char *name, unsigned entries) {
    run(server, "XGROUP CREATE %s g1 0 MKSTREAM", name);
    run(server, "XGROUP CREATE %s g2 0", name);
    run(server, "XGROUP CREATE %s gone 0", name);
    for (unsigned i = 1; i <= entries; i++)
        run(server, i % 3 ? "XADD %s %u-1 name value%u" : "XADD %s %u-1 other value%u more 1", name, i, i);
    run(server, "XREADGROUP GROUP g1 alice COUNT %u STREAMS %s >", entries / 2, name);
    run(server, "XREADGROUP GROUP g1 bob COUNT %u STREAMS %s >", entries / 4, name);
    run(server, "XREADGROUP GROUP g2 carol COUNT 5 STREAMS %s >", name);
    run(server, "XREADGROUP GROUP g2 dave COUNT 50 STREAMS %s >", name);
    run(server, "XREADGROUP GROUP gone eve STREAMS %s >", name);
    run(server, "XGROUP DELCONSUMER %s g2 carol", name);
    run(server, "XDEL %s 7-1", name);
    for (unsigned i = 0; i < 20; i++) run(server, "XADD %s IDMP producer%u message%u * field value", name, i % 3, i);
}

static void streams_come_back(void **state) {
    (void)state;
    struct in_process *server = start();
    fill_stream(server, "stream", 30000);
    expect_the_same(server, stream_looks, "stream");
    run(server, "XGROUP DESTROY stream gone"); /* its pages go in slices, with commands that come */
    struct found found = find(server, "stream");
    assert_non_null(((struct stream_root *)found.collection)->groups.given_up);
    expect_the_same(server, stream_looks, "stream");
    found = find(server, "stream");
    assert_non_null(((struct stream_root *)found.collection)->groups.given_up);
    in_process_expect(server, "XADD stream IDMP producer1 message1 * field value", "$15\r\n2000000000000-1\r\n");
    run(server, "XTRIM stream MAXLEN 100");
    expect_the_same(server, stream_looks, "stream");
    run(server, "XADD stream * a third kind 3");
    run(server, "XACK stream g1 4-1 5-1");
    run(server, "XREADGROUP GROUP g2 frank COUNT 5 STREAMS stream >"); /* takes the number that carol had */
    expect_the_same(server, stream_looks, "stream");
    fill_stream(server, "short", 100);
    expect_damage_is_found(server, "short");
    in_process_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_come_back),
        cmocka_unit_test(sorted_sets_come_back),
        cmocka_unit_test(hashes_sets_and_strings_come_back),
        cmocka_unit_test(streams_come_back),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
