/* Big collections through checkpoints, page by page: what has not changed is not written again, a start reads no page,
 * and what comes back is what there was at the cut, whatever happens before, meanwhile and between. The random test
 * prints its seed (TERRACE_TEST_SEED). */

#include "base/log.h"
#include "base/random.h"
#include "keyspace/hash_value.h"
#include "keyspace/keyspace_collection.h"
#include "keyspace/keyspace_tier.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    FIELDS = 20000,
    CHANGED = FIELDS / 250,
    SMALL = 3000,
    LARGE = 300000, /* a value with a page of its own, which is pinned and not copied */
    SLICE_NS = 200000,
    ROUNDS = 25,
    TYPES = 6, /* of the random test; a key's number says which it has */
    KEYS = 5 * TYPES,
};

static struct in_process *start(void) {
    return checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
}

/* ---- what is in them ---- */

static void fill_hash(struct in_process *server, const char *key, unsigned fields) {
    for (unsigned i = 0; i < fields; i++) checkpoint_run(server, "HSET %s field:%u value-%u-%u", key, i, i, i * 7);
}

static void fill_set(struct in_process *server, const char *key, unsigned members) {
    for (unsigned i = 0; i < members; i++) checkpoint_run(server, "SADD %s member-number-%u", key, i);
}

static void fill_string(struct in_process *server, const char *key, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 1000) checkpoint_run(server, "SETRANGE %s %zu bytes-%zu", key, at, at);
}

static void set_large_field(struct in_process *server, const char *key, unsigned field, char byte, size_t length) {
    char name[32], *value = malloc(length);
    memset(value, byte, length);
    for (size_t i = 0; i < length; i += 100) value[i] = (char)(i / 100 * 31 + field);
    int name_length = snprintf(name, sizeof(name), "large:%u", field);
    const struct span arguments[] = {span_of_text("HSET"), span_of_text(key), span_of(name, (size_t)name_length),
                                     span_of(value, length)};
    in_process_run_arguments(server, arguments, 4);
    free(value);
}

static void fill(struct in_process *server) {
    fill_hash(server, "hash", FIELDS);
    fill_set(server, "set", FIELDS);
    fill_string(server, "string", 300000);
}

static uint64_t blocks_read(const struct in_process *server) {
    struct tier_figures figures;
    tier_figures(server->tier, &figures);
    return figures.reads + figures.memory_reads + figures.synchronous_reads;
}

static uint64_t cold_records(const struct in_process *server) {
    const struct view view = {.keyspace = server->keyspace};
    struct keyspace_usage usage;
    keyspace_usage(&view, &usage);
    return usage.cold_records;
}

/* Kills the server after a checkpoint; what comes back is what there is now. */
static struct in_process *make_and_start_again(struct in_process *server) {
    struct snapshot_collector cut;
    checkpoint_look(&cut, server);
    checkpoint_make(server);
    return checkpoint_server_again_as(server, &cut);
}

/* ---- the tests ---- */

static void big_collections_come_back_and_no_page_is_read(void **state) {
    (void)state;
    struct in_process *server = start();
    fill(server);
    checkpoint_run(server, "PEXPIRE set 100000");
    checkpoint_run(server, "HPEXPIRE hash 50000 FIELDS 1 field:77");
    in_process_demote(server, "set");
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_int_equal(figures.keys, 3);
    assert_int_equal(figures.collections, 3);
    assert_true(figures.page_images > 400 && figures.pages > figures.page_images + 300); /* those of the set are cold */
    server = checkpoint_server_again(server);
    assert_false(checkpoint_recovered.has_collections);
    assert_int_equal(checkpoint_recovered.keys, 3);
    assert_int_equal(blocks_read(server), 0);
    assert_int_equal(cold_records(server), figures.pages);
    assert_int_equal(in_process_integer(server, "HLEN hash"), FIELDS);
    assert_int_equal(in_process_integer(server, "SCARD set"), FIELDS);
    assert_int_equal(in_process_integer(server, "PTTL set"), 100000);
    assert_int_equal(blocks_read(server), 0);
    in_process_expect(server, "HGET hash field:4711", "$16\r\nvalue-4711-32977\r\n");
    in_process_expect(server, "SISMEMBER set member-number-9999", ":1\r\n");
    in_process_expect(server, "SISMEMBER set member-number-99999", ":0\r\n");
    in_process_expect(server, "GETRANGE string 299000 299011", "$12\r\nbytes-299000\r\n");
    in_process_expect(server, "HPTTL hash FIELDS 1 field:77", "*1\r\n:50000\r\n");
    in_process_advance(server, 60000);
    in_process_expect(server, "HGET hash field:77", "$-1\r\n");
    assert_int_equal(in_process_integer(server, "HLEN hash"), FIELDS - 1);
    checkpoint_server_stop(server);
}

static void what_comes_back_is_changed_and_kept_again(void **state) {
    (void)state;
    struct in_process *server = start();
    fill(server);
    server = make_and_start_again(server);
    for (unsigned i = 0; i < 3000; i++) {
        checkpoint_run(server, "HSET hash field:%u changed", i * 3);
        checkpoint_run(server, "HDEL hash field:%u", i * 3 + 1);
        checkpoint_run(server, "SADD set another-%u", i);
        checkpoint_run(server, "SETBIT string %u 1", i * 999);
    }
    server = make_and_start_again(server);
    checkpoint_run(server, "SPOP set 15000");
    checkpoint_run(server, "RENAME hash renamed");
    checkpoint_run(server, "COPY string copied");
    fill_hash(server, "hash", 2000);
    server = make_and_start_again(server);
    checkpoint_run(server, "DEL hash renamed set");
    server = make_and_start_again(server);
    in_process_expect(server, "EXISTS hash renamed set string copied", ":2\r\n");
    checkpoint_server_stop(server);
}

static void pages_that_have_not_changed_are_not_written_again(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = start();
    fill(server);
    struct checkpoint_figures first = checkpoint_make(server);
    assert_int_equal(first.page_images, first.pages);
    for (unsigned i = 0; i < CHANGED; i++) checkpoint_run(server, "HSET hash field:%u value-%u-0", i * 250, i * 250);
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_int_equal(figures.pages, first.pages);
    assert_true(figures.page_images <= CHANGED && figures.page_images > CHANGED * 3 / 4);
    assert_int_equal(figures.page_images + figures.page_images_kept, figures.pages);
    checkpoint_look(&cut, server);
    figures = checkpoint_make(server);
    assert_int_equal(figures.page_images, 0);
    assert_int_equal(figures.page_images_kept, first.pages);
    server = checkpoint_server_again_as(server, &cut);
    figures = checkpoint_make(server); /* all of them cold */
    assert_int_equal(figures.page_images + figures.page_images_kept, 0);
    checkpoint_server_stop(server);
}

static void fill_trees(struct in_process *server, unsigned items) {
    checkpoint_run(server, "XGROUP CREATE stream group 0 MKSTREAM");
    for (unsigned i = 0; i < items; i++) {
        checkpoint_run(server, "RPUSH list element-%u-%u", i, i * 7);
        checkpoint_run(server, "ZADD sorted %u member-%u", i % 5000, i);
        checkpoint_run(server, "XADD stream %u-1 name value-%u", i + 1, i);
    }
    checkpoint_run(server, "XREADGROUP GROUP group someone COUNT %u STREAMS stream >", items / 2);
}

static void of_trees_too_only_what_changed_is_written(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = start();
    fill_trees(server, FIELDS);
    struct checkpoint_figures first = checkpoint_make(server);
    assert_true(first.pages > 500 && first.page_images == first.pages);
    for (unsigned i = 0; i < 10; i++) {
        checkpoint_run(server, "LSET list %u another", i * 2000);
        checkpoint_run(server, "ZADD sorted %u member-%u", 6000 + i, i * 2000);
        checkpoint_run(server, "XACK stream group %u-1", i * 1000 + 1);
    }
    checkpoint_look(&cut, server);
    struct checkpoint_figures second = checkpoint_make(server);
    assert_true(second.page_images > 40 && second.page_images <= 10 * (1 + 3 + 2));
    assert_int_equal(second.page_images + second.page_images_kept, second.pages);
    server = checkpoint_server_again(server);
    assert_int_equal(blocks_read(server), 0);
    assert_int_equal(in_process_integer(server, "LLEN list"), FIELDS);
    assert_int_equal(in_process_integer(server, "ZCARD sorted"), FIELDS);
    assert_int_equal(in_process_integer(server, "XLEN stream"), FIELDS);
    assert_int_equal(blocks_read(server), 0);
    in_process_expect(server, "LRANGE list 2000 2001", "*2\r\n$7\r\nanother\r\n$18\r\nelement-2001-14007\r\n");
    in_process_expect(server, "ZSCORE sorted member-4000", "$4\r\n6002\r\n");
    in_process_expect(server, "ZRANK sorted member-10000", ":19995\r\n");
    in_process_expect(server, "XRANGE stream 7000 7000",
                      "*1\r\n*2\r\n$6\r\n7000-1\r\n*2\r\n$4\r\nname\r\n$10\r\nvalue-6999\r\n");
    assert_true(blocks_read(server) < 30);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

/* Of what was cut off and not dropped yet the pages are in the checkpoint, and are dropped after it. */
static void what_was_cut_off_is_dropped_after_a_start(void **state) {
    (void)state;
    struct in_process *server = start();
    fill_trees(server, FIELDS);
    checkpoint_run(server, "LTRIM list 100 199");
    checkpoint_run(server, "ZREMRANGEBYRANK sorted 100 -101");
    checkpoint_run(server, "XGROUP DESTROY stream group");
    checkpoint_run(server, "XTRIM stream MAXLEN 100");
    uint64_t pages = checkpoint_make(server).pages;
    assert_true(pages > 500);
    server = make_and_start_again(server);
    for (uint32_t shard = 0; shard < CHECKPOINT_TEST_SHARDS; shard++)
        while (keyspace_drain(server->keyspace, shard, SLICE_NS)) continue;
    for (unsigned i = 0; i < 20; i++) checkpoint_run(server, "XADD stream * name value");
    pages = checkpoint_make(server).pages;
    assert_true(pages < 300); /* what the hash says of members that are gone stays */
    server = make_and_start_again(server);
    checkpoint_run(server, "DEL list sorted stream");
    for (uint32_t shard = 0; shard < CHECKPOINT_TEST_SHARDS; shard++)
        while (keyspace_drain(server->keyspace, shard, SLICE_NS)) continue;
    assert_int_equal(segment_table_usage(tier_segments(server->tier)).records, 0);
    checkpoint_server_stop(server);
}

/* What stands in chunks of its own: a key that is longer than any chunk of roots, and the rows of a tree whose members
 * have so much in common that its separators are long. */
static void long_keys_and_long_states_come_back(void **state) {
    (void)state;
    enum { KEY = 3 << 20, MEMBER = 20000, MEMBERS = 300 };
    struct in_process *server = start();
    char *key = malloc(KEY), *member = malloc(MEMBER);
    assert_true(key && member);
    for (size_t i = 0; i < KEY; i++) key[i] = (char)('a' + i * i % 23);
    memset(member, 'm', MEMBER);
    for (unsigned i = 0; i < 2000; i++) {
        char text[32];
        struct span field = span_of(text, (size_t)snprintf(text, sizeof(text), "field-%u", i));
        const struct span arguments[] = {span_of_text("HSET"), span_of(key, KEY), field, field};
        in_process_run_arguments(server, arguments, 4);
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        snprintf(member + MEMBER - 8, 8, "%07u", i * 7919 % 100000);
        const struct span arguments[] = {span_of_text("ZADD"), span_of_text("sorted"), span_of_text("1"),
                                         span_of(member, MEMBER)};
        in_process_run_arguments(server, arguments, 4);
    }
    fill_hash(server, "hash", 600);
    struct snapshot_collector cut;
    checkpoint_look(&cut, server);
    assert_true(checkpoint_make(server).file_bytes > KEY + MEMBERS / 2 * MEMBER);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_look(&cut, server);
    (void)checkpoint_make(server);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
    free(key);
    free(member);
}

/* Of a page or two each, which stand with their roots. */
static void small_ones_that_have_not_changed_are_not_written_again(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct checkpoint_making making;
    struct checkpoint_figures figures;
    struct in_process *server = start();
    server->keyspace->limits.hash_packed_entries = 4;
    server->keyspace->limits.set_packed_entries = server->keyspace->limits.set_intset_entries = 4;
    for (unsigned i = 0; i < SMALL; i++) {
        checkpoint_run(server, "SELECT %u", i % 3);
        for (unsigned k = 0; k < 8; k++)
            checkpoint_run(server, i % 2 ? "HSET key:%u %u %u" : "SADD key:%u %u", i, k, i);
    }
    figures = checkpoint_make(server);
    assert_int_equal(figures.page_images, SMALL);
    for (unsigned i = 1; i < SMALL; i += 200) {
        checkpoint_run(server, "SELECT %u", i % 3);
        checkpoint_run(server, "HSET key:%u 5 changed", i);
    }
    figures = checkpoint_make(server);
    assert_int_equal(figures.page_images, SMALL / 200);
    assert_int_equal(figures.page_images_kept, SMALL - SMALL / 200);
    checkpoint_look(&cut, server);
    checkpoint_begin(&making, server);
    for (unsigned i = 0; i < SMALL; i += 20) { /* of those that are kept some are written anew */
        checkpoint_run(server, "SELECT %u", i % 3);
        checkpoint_run(server, "DEL key:%u", i);
        (void)snapshot_step(making.snapshot, 0);
    }
    assert_true(checkpoint_end(&making, &figures));
    assert_true(figures.page_images <= SMALL / 20);
    assert_int_equal(figures.page_images + figures.page_images_kept, SMALL);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

/* So an image that is found must not only be that of a page with this number. */
static void a_page_that_changed_and_one_that_took_its_place_are_written(void **state) {
    (void)state;
    struct in_process *server = start();
    fill_hash(server, "a", 3000);
    fill_set(server, "b", 3000);
    checkpoint_make(server);
    checkpoint_run(server, "RENAME a c");
    checkpoint_run(server, "RENAME b a");
    checkpoint_run(server, "RENAME c b");
    checkpoint_run(server, "SELECT 0");
    server = make_and_start_again(server);
    in_process_expect(server, "HGET b field:5", "$10\r\nvalue-5-35\r\n");
    in_process_expect(server, "SISMEMBER a member-number-5", ":1\r\n");
    checkpoint_make(server);
    checkpoint_run(server, "DEL a"); /* the id is given to the next one */
    fill_hash(server, "a", 3000);
    for (unsigned i = 0; i < 3000; i++) checkpoint_run(server, "HSET a field:%u VALUE-%u-%u", i, i, i * 7);
    server = make_and_start_again(server);
    in_process_expect(server, "HGET a field:5", "$10\r\nVALUE-5-35\r\n");
    checkpoint_server_stop(server);
}

static uint32_t id_of(const struct in_process *server, const char *encoding, unsigned live) {
    for (uint32_t shard = 0; shard < CHECKPOINT_TEST_SHARDS; shard++)
        for (const struct collection *each = server->keyspace->shards[shard].collections; each; each = each->next)
            if (strcmp(each->kind->encoding, encoding) == 0 && page_table_live(&each->parts[0]) == live)
                return each->id;
    return UINT32_MAX;
}

static void ids_are_those_of_before_and_gaps_are_used_again(void **state) {
    (void)state;
    struct in_process *server = start();
    for (unsigned i = 0; i < 5; i++) {
        char key[16];
        snprintf(key, sizeof(key), "string:%u", i);
        fill_string(server, key, 100000 + i * 16368);
    }
    checkpoint_run(server, "DEL string:1 string:3");
    server = make_and_start_again(server);
    assert_int_equal(id_of(server, "raw", 7), 0);
    assert_int_equal(id_of(server, "raw", 9), 2);
    assert_int_equal(id_of(server, "raw", 11), 4);
    fill_string(server, "new:1", 300000);
    fill_string(server, "new:2", 400000);
    fill_string(server, "new:3", 500000);
    assert_int_equal(id_of(server, "raw", 19), 1);
    assert_int_equal(id_of(server, "raw", 25), 3);
    assert_int_equal(id_of(server, "raw", 31), 5);
    server = make_and_start_again(server);
    checkpoint_server_stop(server);
}

static struct collection *collection_with(const struct in_process *server, const char *encoding) {
    for (uint32_t shard = 0; shard < CHECKPOINT_TEST_SHARDS; shard++)
        for (struct collection *each = server->keyspace->shards[shard].collections; each; each = each->next)
            if (strcmp(each->kind->encoding, encoding) == 0) return each;
    fail_msg("there is none");
    return NULL;
}

/* Though all fields that a server knows to expire have gone when the checkpoint ends. */
static void fields_expire_of_which_nobody_knows(void **state) {
    (void)state;
    struct checkpoint_making making;
    struct tier_waiter waiter = {0};
    struct in_process *server = start();
    fill_hash(server, "hash", 3000);
    for (unsigned i = 0; i < 100; i++) checkpoint_run(server, "HPEXPIRE hash 50000 FIELDS 1 field:%u", i * 3);
    checkpoint_begin(&making, server);
    checkpoint_run(server, "FLUSHALL");
    assert_true(checkpoint_end(&making, NULL));
    server = checkpoint_server_again(server);
    in_process_advance(server, 60000);
    const struct paged_hash *fields = paged_hash_of(collection_with(server, "hashtable"));
    assert_int_equal(fields->count, 3000);
    const struct keyspace_sweeper sweeper = {server->port, &waiter};
    for (unsigned i = 0; i < 1000 && fields->timed; i++) {
        for (uint32_t shard = 0; shard < CHECKPOINT_TEST_SHARDS; shard++)
            (void)keyspace_sweep(server->keyspace, shard, server->dispatcher->now_ms, SLICE_NS, &sweeper);
        in_process_settle(server);
        while (tier_next_ready(server->port)) continue;
    }
    tier_release(server->port, &waiter);
    assert_int_equal(fields->count, 2900);
    checkpoint_server_stop(server);
}

/* What is in heaps of their own is in memory as well. */
static void without_room_for_two_all_is_written_anew(void **state) {
    (void)state;
    struct in_process *server = checkpoint_server_start(18);
    fill_hash(server, "hash", 600);
    for (unsigned i = 0; i < 18; i++) set_large_field(server, "hash", i, 'a', LARGE);
    struct collection *hash = collection_with(server, "hashtable");
    assert_true(collection_give_heap(&server->keyspace->shards[hash->shard], hash));
    (void)keyspace_compact(server->keyspace, hash->shard, 1000); /* which adds them up */
    for (unsigned round = 0; round < 4; round++) {
        struct checkpoint_figures figures = checkpoint_make(server);
        assert_int_equal(figures.page_images, figures.pages);
    }
    checkpoint_server_stop(server);
}

static void large_pages_are_written_once(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct checkpoint_making making;
    struct in_process *server = start();
    fill_hash(server, "hash", 600);
    for (unsigned i = 0; i < 20; i++)
        set_large_field(server, "hash", i, 'a', i % 2 ? LARGE : 2 * CHECKPOINT_TEST_SEGMENT);
    checkpoint_make(server);
    /* A page that takes a run of segments ends the segment before it, which may then not be worth keeping. */
    struct checkpoint_figures figures = checkpoint_make(server);
    assert_true(figures.page_images <= 4);
    set_large_field(server, "hash", 3, 'b', LARGE);
    checkpoint_look(&cut, server);
    checkpoint_begin(&making, server);
    (void)snapshot_step(making.snapshot, 0);
    for (unsigned i = 0; i < 10; i++) set_large_field(server, "hash", i, 'c', LARGE + i);
    assert_true(checkpoint_end(&making, &figures));
    assert_true(figures.page_images >= 1 && figures.page_images <= 4);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

/* Who reads a hash expires what is due, which changes pages of the cut. */
static void a_reader_may_find_fields_that_expire(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct checkpoint_making making;
    struct in_process *server = start();
    fill_hash(server, "hash", FIELDS);
    for (unsigned i = 0; i < 100; i++) checkpoint_run(server, "HPEXPIRE hash 1000 FIELDS 1 field:%u", i);
    checkpoint_look(&cut, server);
    checkpoint_begin(&making, server);
    in_process_advance(server, 2000);
    in_process_expect(server, "HGET hash field:1000", "$15\r\nvalue-1000-7000\r\n");
    in_process_expect(server, "HGET hash field:50", "$-1\r\n");
    assert_true(checkpoint_end(&making, NULL));
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

/* What a page has become since the cut: cold, moved by the cleaner, changed, given up. */
static void the_cut_is_what_counts(void **state) {
    (void)state;
    for (unsigned way = 0; way < 7; way++) {
        struct snapshot_collector cut;
        struct checkpoint_making making;
        struct in_process *server = start();
        fill(server);
        if (way % 2) checkpoint_make(server);
        if (way > 3) in_process_demote(server, "*");
        checkpoint_look(&cut, server);
        checkpoint_begin(&making, server);
        switch (way) {
        case 0:
        case 1: in_process_demote(server, "*"); break;
        case 2: checkpoint_run(server, "DEL hash set string"); break;
        case 3: checkpoint_run(server, "FLUSHALL"); break;
        case 4: /* twice: the second time brings it back */
            for (unsigned i = 0; i < 6000; i++) checkpoint_run(server, "HGET hash field:%u", i / 2 * 5);
            break;
        case 5:
            for (unsigned i = 0; i < FIELDS; i += 2) checkpoint_run(server, "HDEL hash field:%u", i);
            checkpoint_run(server, "RENAME set another-name-for-it");
            break;
        case 6:
            checkpoint_run(server, "SPOP set 19000");
            for (int i = 0; i < 40 && keyspace_clean(server->keyspace, server->port, TIER_CLEAN_ALL, 0, SLICE_NS); i++)
                in_process_settle(server);
            break;
        }
        assert_true(checkpoint_end(&making, NULL));
        fill_hash(server, "over what is free", FIELDS);
        in_process_demote(server, "*");
        in_process_settle(server);
        server = checkpoint_server_again_as(server, &cut);
        checkpoint_server_stop(server);
    }
}

static void segments_of_which_little_is_wanted_are_written_anew(void **state) {
    (void)state;
    struct snapshot_collector cut;
    struct in_process *server = start();
    for (unsigned i = 0; i < 3; i++) set_large_field(server, "hash", i, 'x', 4 * CHECKPOINT_TEST_SEGMENT / 10);
    fill_hash(server, "hash", 600);
    for (unsigned i = 0; i < FIELDS; i++) {
        char value[100];
        for (unsigned k = 0; k < sizeof(value) - 1; k++) value[k] = (char)('A' + (i * 31 + k * k * 7 + i * k) % 26);
        value[sizeof(value) - 1] = '\0';
        checkpoint_run(server, "HSET hash field:%u %s", i, value);
    }
    struct checkpoint_figures first = checkpoint_make(server);
    uint32_t before = segment_table_usage(tier_segments(server->tier)).images;
    for (unsigned i = 0; i < FIELDS; i++)
        if (i % 500 < 100) checkpoint_run(server, "HSET hash field:%u %0100u", i, i);
    struct checkpoint_figures second = checkpoint_make(server); /* at the one before all was wanted */
    struct checkpoint_figures third = checkpoint_make(server);
    assert_true(second.page_images > first.pages / 2 && second.page_images_kept > 0);
    assert_true(third.page_images >= second.page_images_kept / 2); /* what the old segments still held */
    checkpoint_look(&cut, server);
    struct checkpoint_figures fourth = checkpoint_make(server);
    assert_true(fourth.page_images < first.pages / 20);
    assert_true(segment_table_usage(tier_segments(server->tier)).images <= before + 2);
    server = checkpoint_server_again_as(server, &cut);
    checkpoint_server_stop(server);
}

/* ---- what is damaged is refused ---- */

static void flip(const char *path, long at) {
    FILE *file = fopen(path, "r+b");
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ 0x10, file);
    fclose(file);
}

static void every_damaged_byte_is_found(void **state) {
    (void)state;
    struct in_process *server = start();
    fill_hash(server, "hash", 600);
    fill_set(server, "set", 600);
    checkpoint_make(server);
    in_process_destroy(server);
    for (long at = 64;; at += 7) {
        FILE *file = fopen("tier.checkpoint.1", "rb");
        fseek(file, 0, SEEK_END);
        bool beyond = at >= ftell(file);
        fclose(file);
        if (beyond) break;
        flip("tier.checkpoint.1", at);
        server = checkpoint_server_open(CHECKPOINT_TEST_SEGMENTS);
        if (checkpoint_recover(server) != RECOVERY_FAILED) fail_msg("byte %ld", at);
        in_process_destroy(server);
        flip("tier.checkpoint.1", at);
    }
    server = start();
    assert_int_equal(in_process_integer(server, "HLEN hash"), 600);
    checkpoint_server_stop(server);
}

/* ---- everything at random ---- */

static unsigned below(struct random *random, unsigned bound) {
    return (unsigned)random_below(random, bound);
}

static void change_list(struct in_process *server, struct random *random, unsigned key, unsigned version) {
    unsigned count = 1 + below(random, 200), at = below(random, 3000);
    if (below(random, 15) == 0)
        checkpoint_run(server, "LTRIM k%u %u %u", key, at / 10, at + 2000); /* cuts leaves off */
    if (below(random, 4) == 0) checkpoint_run(server, "LPOP k%u %u", key, count);
    checkpoint_run(server, "LSET k%u %u %u", key, at, version);
    for (unsigned i = 0; i < count; i++)
        checkpoint_run(server, below(random, 3) ? "RPUSH k%u element-%u-%u" : "LPUSH k%u element-%u-%u", key, i,
                       version);
}

/* Zeros of both kinds, and parts that are cut off, among them some of zeros. */
static void change_sorted_set(struct in_process *server, struct random *random, unsigned key, unsigned version) {
    unsigned count = 1 + below(random, 120), first = below(random, 4000);
    if (below(random, 15) == 0) checkpoint_run(server, "ZREMRANGEBYRANK k%u %u %u", key, first / 10, first);
    for (unsigned i = 0; i < count; i++)
        if (below(random, 8) == 0)
            checkpoint_run(server, "ZREM k%u m%u", key, first + i);
        else
            checkpoint_run(server, below(random, 2) ? "ZADD k%u %u m%u" : "ZADD k%u -%u m%u", key,
                           version % 3 ? i * version : 0, first + i);
}

static void change_stream(struct in_process *server, struct random *random, unsigned key, unsigned version) {
    static const char *const groups[] = {"XGROUP CREATE k%u g%u 0 MKSTREAM",
                                         "XGROUP DESTROY k%u g%u",
                                         "XGROUP CREATECONSUMER k%u g%u someone",
                                         "XGROUP DELCONSUMER k%u g%u nobody",
                                         "XREADGROUP GROUP g%2$u nobody COUNT 300 STREAMS k%1$u >",
                                         "XREADGROUP GROUP g%2$u someone COUNT 300 STREAMS k%1$u >",
                                         "XREADGROUP GROUP g%2$u someone COUNT 300 STREAMS k%1$u >"};
    unsigned count = 1 + below(random, 200);
    for (unsigned i = 0; i < count; i++)
        checkpoint_run(server, below(random, 2) ? "XADD k%u * name value-%u" : "XADD k%u * other value-%u more 1", key,
                       version + i);
    if (below(random, 10) == 0) checkpoint_run(server, "XTRIM k%u MAXLEN %u", key, 2000 + version);
    if (below(random, 3) == 0) checkpoint_run(server, "XADD k%u IDMP p%u m%u * name value", key, version % 5, version);
    if (below(random, 2) == 0)
        checkpoint_run(server, groups[below(random, sizeof(groups) / sizeof(groups[0]))], key, below(random, 3));
}

static void change_elements(struct in_process *server, struct random *random, unsigned key) {
    unsigned count = 1 + below(random, 60), first = below(random, 4000), version = below(random, 1000);
    switch (key % TYPES) {
    case 0:
        for (unsigned i = 0; i < count; i++)
            checkpoint_run(server, below(random, 4) ? "HSET k%u f%u v%u" : "HDEL k%u f%u", key, first + i, version);
        if (below(random, 40) == 0)
            set_large_field(server, key % 4 ? "k6" : "k12", first % 5, 'r', 40000 + version * 50);
        if (below(random, 10) == 0) checkpoint_run(server, "HPEXPIRE k%u %u FIELDS 1 f%u", key, 1 + version, first);
        break;
    case 1:
        for (unsigned i = 0; i < count; i++)
            checkpoint_run(server, below(random, 4) ? "SADD k%u %u-member" : "SREM k%u %u-member", key, first + i);
        if (below(random, 20) == 0) checkpoint_run(server, "SPOP k%u %u", key, below(random, 3000));
        break;
    case 2:
        for (unsigned i = 0; i < 3; i++)
            checkpoint_run(server, "SETRANGE k%u %u some-bytes-%u", key, below(random, 300000), version);
        break;
    case 3: change_list(server, random, key, version); break;
    case 4: change_sorted_set(server, random, key, version); break;
    default: change_stream(server, random, key, version);
    }
}

static void change_something(struct in_process *server, struct random *random) {
    unsigned key = below(random, KEYS);
    char pattern[16];
    switch (below(random, 60)) {
    case 0: checkpoint_run(server, "DEL k%u", key); break;
    case 1: checkpoint_run(server, "RENAME k%u k%u", key, (key + TYPES * below(random, 5)) % KEYS); break;
    case 2: checkpoint_run(server, "COPY k%u k%u DB %u REPLACE", key, key, below(random, 2)); break;
    case 3: checkpoint_run(server, "SELECT %u", below(random, 2)); break;
    case 4:
        if (below(random, 30) == 0) checkpoint_run(server, below(random, 2) ? "FLUSHDB" : "SWAPDB 0 1");
        break;
    case 5: in_process_advance(server, below(random, 20)); break;
    case 6: (void)keyspace_drain(server->keyspace, below(random, CHECKPOINT_TEST_SHARDS), SLICE_NS); break;
    case 7:
    case 8:
        snprintf(pattern, sizeof(pattern), "k%u*", below(random, 10));
        in_process_demote(server, pattern);
        break;
    case 9:
        for (int i = 0; i < 20 && keyspace_clean(server->keyspace, server->port, TIER_CLEAN_ALL, 0, SLICE_NS); i++)
            in_process_settle(server);
        break;
    case 10: in_process_turn(server); break;
    case 11: checkpoint_run(server, "PEXPIRE k%u %u", key, 1 + below(random, 3000)); break;
    case 12:
        for (unsigned i = 0; i < 50; i++)
            checkpoint_run(server, "HGET k%u f%u", key / TYPES * TYPES, below(random, 4000));
        break;
    case 13: {
        struct shard *shard = &server->keyspace->shards[below(random, CHECKPOINT_TEST_SHARDS)];
        if (!shard->collections || shard->collections->heap) break;
        (void)collection_give_heap(shard, shard->collections);
        break;
    }
    default: change_elements(server, random, key); break;
    }
}

/* Whether it counts; *cut is then what there was at its cut. */
static bool make_while_changing(struct in_process *server, struct random *random, struct snapshot_collector *cut) {
    struct checkpoint_making making;
    struct snapshot_collector next;
    unsigned changes = below(random, 300), steps = below(random, 10);
    bool stops = below(random, 5) == 0;
    checkpoint_look(&next, server);
    checkpoint_begin(&making, server);
    for (unsigned i = 0; i < changes; i++) {
        change_something(server, random);
        if (below(random, 10) < steps) (void)snapshot_step(making.snapshot, 0);
    }
    if (stops) snapshot_stop(making.snapshot);
    bool counts = checkpoint_end(&making, NULL);
    assert_true(counts || stops);
    snapshot_collector_free(counts ? cut : &next);
    if (counts) *cut = next;
    return counts;
}

static void the_cut_comes_back_whatever_happens(void **state) {
    (void)state;
    struct random random;
    const char *text = getenv("TERRACE_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 20261122;
    print_message("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&random, seed);
    struct in_process *server = start();
    struct snapshot_collector cut, back;
    checkpoint_look(&cut, server);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < 400; i++) change_something(server, &random);
        for (unsigned i = below(&random, 4); i > 0; i--) (void)make_while_changing(server, &random, &cut);
        for (unsigned i = below(&random, 300); i > 0; i--) change_something(server, &random);
        if (below(&random, 3) == 0) continue;
        server = checkpoint_server_again(server);
        checkpoint_look(&back, server);
        if (!snapshot_collector_same(&cut, &back)) fail_msg("round %u", round);
        snapshot_collector_free(&back);
    }
    snapshot_collector_free(&cut);
    checkpoint_server_stop(server);
}

int main(void) {
    log_set_level(LOG_LEVEL_NOTHING);

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(big_collections_come_back_and_no_page_is_read),
        cmocka_unit_test(what_comes_back_is_changed_and_kept_again),
        cmocka_unit_test(pages_that_have_not_changed_are_not_written_again),
        cmocka_unit_test(of_trees_too_only_what_changed_is_written),
        cmocka_unit_test(what_was_cut_off_is_dropped_after_a_start),
        cmocka_unit_test(long_keys_and_long_states_come_back),
        cmocka_unit_test(small_ones_that_have_not_changed_are_not_written_again),
        cmocka_unit_test(a_page_that_changed_and_one_that_took_its_place_are_written),
        cmocka_unit_test(ids_are_those_of_before_and_gaps_are_used_again),
        cmocka_unit_test(fields_expire_of_which_nobody_knows),
        cmocka_unit_test(without_room_for_two_all_is_written_anew),
        cmocka_unit_test(large_pages_are_written_once),
        cmocka_unit_test(a_reader_may_find_fields_that_expire),
        cmocka_unit_test(the_cut_is_what_counts),
        cmocka_unit_test(segments_of_which_little_is_wanted_are_written_anew),
        cmocka_unit_test(every_damaged_byte_is_found),
        cmocka_unit_test(the_cut_comes_back_whatever_happens),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
