/* Records on their way to colder media and back, seen through commands: what is moved, what that costs in reads, and
 * what a full, damaged or emptied tier means for keys. */

#include "base/log.h"
#include "command/families.h"
#include "keyspace/keyspace_tier.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tier_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, SLICE_NS = 1000000, NAME_BYTES = 64, LINE_BYTES = 128, SHARDS = 4 };

/* ---- a server ---- */

static struct in_process *start_with(struct tier_options tier) {
    const struct command_family families[] = {
        {string_commands, string_command_count},     {transaction_commands, transaction_command_count},
        {key_commands, key_command_count},           {key_expiry_commands, key_expiry_command_count},
        {key_scan_commands, key_scan_command_count}, {database_commands, database_command_count},
        {hash_commands, hash_command_count}};
    tier.path = "tier";
    tier.segment_bytes = SEGMENT;
    if (!tier.size_bytes) tier.size_bytes = 32 * SEGMENT;
    if (!tier.memory_bytes) tier.memory_bytes = 64 << 20;
    return in_process_create_with(
        &(struct in_process_options){.families = families, .family_count = 7, .tier = &tier, .shards = SHARDS});
}

static struct in_process *start(void) {
    return start_with((struct tier_options){0});
}

static struct tier_figures figures_of(const struct in_process *server) {
    struct tier_figures figures;
    tier_figures(server->tier, &figures);
    return figures;
}

static struct keyspace_usage usage_of(const struct in_process *server) {
    struct view view = {.keyspace = server->keyspace};
    struct keyspace_usage usage;
    keyspace_usage(&view, &usage);
    return usage;
}

/* Its reference, found without touching anything. 0: absent. */
static uint64_t ref_of_key(const struct in_process *server, const char *name) {
    struct view view = {.keyspace = server->keyspace, .port = server->port, .now_ms = server->dispatcher->now_ms};
    struct key key = keyspace_key(server->keyspace, span_of_text(name));
    struct lookup lookup = keyspace_find(&view, &key);
    return lookup.record ? lookup.ref : 0;
}

static bool is_cold(const struct in_process *server, const char *name) {
    return ref_is_cold(ref_of_key(server, name));
}

/* Runs `format` with each number below `count`. */
static void run_each(struct in_process *server, const char *format, unsigned count) {
    char line[LINE_BYTES];
    for (unsigned i = 0; i < count; i++) {
        snprintf(line, sizeof(line), format, i, i);
        in_process_run(server, line);
    }
}

static void set_large(struct in_process *server, const char *key, size_t bytes) {
    char *value = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) value[i] = (char)(i * i >> 7);
    assert_string_equal(in_process_run_with_value(server, "SET", key, span_of(value, bytes)), "+OK\r\n");
    free(value);
}

static void expect_large(struct in_process *server, const char *key, size_t bytes) {
    char line[LINE_BYTES];
    snprintf(line, sizeof(line), "GET %s", key);
    struct span value = in_process_bulk(server, line);
    assert_int_equal(value.length, bytes);
    for (size_t i = 0; i < bytes; i++)
        if (value.data[i] != (char)(i * i >> 7)) fail_msg("%s: byte %zu", key, i);
}

static void demote_all(struct in_process *server, const char *pattern) {
    in_process_demote(server, pattern);
    in_process_settle(server);
}

/* ---- demotion ---- */

static void what_was_used_least_recently_goes_first(void **state) {
    (void)state;
    enum { COUNT = 40000 };
    char name[NAME_BYTES];
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", COUNT);
    in_process_advance(server, 3600 * 1000);
    run_each(server, "GET key:%u", COUNT / 2);
    /* The hand goes round once to learn what is cold here. */
    for (unsigned i = 0; i < 200; i++) {
        size_t freed;
        struct demotion demotion = {.now_ms = server->dispatcher->now_ms, .budget_ns = SLICE_NS, .wanted_bytes = 1000};
        (void)keyspace_demote(server->keyspace, i % SHARDS, server->port, &demotion, &freed);
    }
    in_process_settle(server);
    unsigned hot = 0, cold = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "key:%u", i);
        if (!is_cold(server, name)) continue;
        if (i < COUNT / 2)
            hot++;
        else
            cold++;
    }
    print_message("%u hot and %u cold ones went\n", hot, cold);
    assert_true(cold > COUNT / 16);
    assert_true(hot * 3 < cold); /* before the histogram tells, whatever it comes to goes */
    in_process_destroy(server);
}

static void everything_that_matches_goes_whatever_its_kind(void **state) {
    (void)state;
    struct in_process *server = start_with((struct tier_options){.size_bytes = 128 * SEGMENT});
    run_each(server, "SET go:%u value-%u", 20);
    run_each(server, "SET go:fading:%u value PX 100%u000", 20);
    run_each(server, "SET stay:%u value-%u", 20);
    set_large(server, "go:large", 300000);
    set_large(server, "go:larger", 20 << 20);
    in_process_demote(server, "go:*");
    char name[NAME_BYTES];
    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "go:%u", i);
        assert_true(is_cold(server, name));
        snprintf(name, sizeof(name), "go:fading:%u", i);
        assert_true(is_cold(server, name));
        snprintf(name, sizeof(name), "stay:%u", i);
        assert_false(is_cold(server, name));
    }
    in_process_settle(server);
    expect_large(server, "go:large", 300000);
    expect_large(server, "go:larger", 20 << 20);
    struct keyspace_usage usage = usage_of(server);
    assert_int_equal(usage.cold_records, 42);
    assert_int_equal(usage.records, 20);
    in_process_expect(server, "DBSIZE", ":62\r\n");
    in_process_destroy(server);
}

static void what_matches_but_finds_no_room_is_told(void **state) {
    (void)state;
    struct in_process *server = start();
    set_large(server, "larger-than-the-tier", 40 << 20);
    uint64_t position = 0;
    enum demotion_status status = DEMOTION_DONE;
    uint32_t shard = keyspace_key(server->keyspace, span_of_text("larger-than-the-tier")).shard;
    for (unsigned i = 0; i < 10 && status != DEMOTION_FULL; i++)
        assert_int_equal(keyspace_demote_matching(server->keyspace, shard, 0, server->port, span_of_text("*"), SLICE_NS,
                                                  &position, &status),
                         0);
    assert_int_equal(status, DEMOTION_FULL);
    expect_large(server, "larger-than-the-tier", 40 << 20);
    in_process_destroy(server);
}

/* The hand must not be stopped by a record for which a run of segments has to be opened. */
static void a_record_larger_than_a_segment_is_demoted_in_short_slices(void **state) {
    (void)state;
    struct in_process *server = start();
    run_each(server, "SET key:%u value-%u", 200);
    set_large(server, "large", 3 << 20);
    size_t freed, total = 0;
    for (unsigned i = 0; i < 4000 && usage_of(server).records > 0; i++) {
        struct demotion demotion = {.now_ms = server->dispatcher->now_ms, .budget_ns = 5000, .wanted_bytes = 1 << 30};
        if (keyspace_demote(server->keyspace, i % SHARDS, server->port, &demotion, &freed) == DEMOTION_BUSY)
            in_process_settle(server);
        else
            tier_port_wait(server->port); /* for what is being written, if anything is */
        total += freed;
    }
    assert_int_equal(usage_of(server).records, 0);
    assert_true(total > 3 << 20);
    in_process_settle(server);
    expect_large(server, "large", 3 << 20);
    in_process_destroy(server);
}

/* Slices of a round each, so that what the last one met is known. */
static bool has_more(struct in_process *server, uint32_t shard) {
    for (unsigned i = 0; i < 3; i++) {
        size_t freed;
        struct demotion demotion = {.now_ms = server->dispatcher->now_ms,
                                    .budget_ns = 1000 * SLICE_NS,
                                    .wanted_bytes = SIZE_MAX,
                                    .urgent = true};
        if (keyspace_demote(server->keyspace, shard, server->port, &demotion, &freed) == DEMOTION_BUSY)
            in_process_settle(server);
    }
    return keyspace_may_demote(server->keyspace, shard);
}

/* Whether memory can be had is asked of one shard after the other: all of them have to be right. */
static void a_shard_tells_whether_there_is_anything_left_to_demote(void **state) {
    (void)state;
    struct in_process *server = start();
    uint32_t shard = keyspace_key(server->keyspace, span_of_text("hash")).shard;
    for (uint32_t i = 0; i < SHARDS; i++) assert_false(keyspace_may_demote(server->keyspace, i));
    run_each(server, "HSET hash field:%u value-%u", 5000);
    assert_true(keyspace_may_demote(server->keyspace, shard));
    for (uint32_t i = 0; i < SHARDS; i++)
        if (i != shard) assert_false(has_more(server, i));
    for (unsigned i = 0; i < 1000 && has_more(server, shard); i++) continue;
    assert_false(has_more(server, shard));
    in_process_settle(server);
    in_process_expect(server, "HSET hash field:7 another-value", ":0\r\n");
    in_process_expect(server, "HSET hash field:9 another-value", ":0\r\n");
    size_t freed;
    struct demotion choosy = {.now_ms = server->dispatcher->now_ms, .budget_ns = 1000 * SLICE_NS, .wanted_bytes = 1};
    (void)keyspace_demote(server->keyspace, shard, server->port, &choosy, &freed);
    assert_true(keyspace_may_demote(server->keyspace, shard));
    in_process_destroy(server);
}

/* ---- promotion ---- */

static void a_cold_record_comes_back_at_its_second_use(void **state) {
    (void)state;
    struct in_process *server = start();
    in_process_run(server, "SET key value");
    demote_all(server, "*");
    in_process_expect(server, "TTL key", ":-1\r\n"); /* looking is not using */
    in_process_expect(server, "TYPE key", "+string\r\n");
    in_process_expect(server, "GET key", "$5\r\nvalue\r\n");
    assert_true(is_cold(server, "key"));
    in_process_expect(server, "GET key", "$5\r\nvalue\r\n");
    assert_false(is_cold(server, "key"));
    assert_int_equal(usage_of(server).counters.promotions, 1);
    assert_int_equal(usage_of(server).counters.tier_hits, 4);
    demote_all(server, "*");
    atomic_store(&server->keyspace->promotion_paused, true);
    for (unsigned i = 0; i < 4; i++) in_process_expect(server, "GET key", "$5\r\nvalue\r\n");
    assert_true(is_cold(server, "key"));
    in_process_expect(server, "APPEND key s", ":6\r\n"); /* what is changed is in memory anyway */
    assert_false(is_cold(server, "key"));
    in_process_destroy(server);
}

static void the_cold_keys_of_a_pipeline_are_read_together(void **state) {
    (void)state;
    enum { COUNT = 40 };
    struct in_process *server = start();
    char input[COUNT * 64], *at = input;
    /* Each is a block of its own. */
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(input, sizeof(input), "key:%u", i);
        set_large(server, input, 5000);
    }
    demote_all(server, "*");
    for (unsigned i = 0; i < COUNT; i++) {
        char name[16];
        int length = snprintf(name, sizeof(name), "key:%u", i);
        at += sprintf(at, "*2\r\n$6\r\nSTRLEN\r\n$%d\r\n%s\r\n", length, name);
    }
    in_process_run_input(server, span_of(input, (size_t)(at - input)));
    assert_int_equal(server->reply_length, COUNT * strlen(":5000\r\n"));
    assert_int_equal(server->waits, 1);
    assert_int_equal(figures_of(server).synchronous_reads, 0);
    in_process_destroy(server);
}

/* EXEC of what was watched and changed ends without the cold records it asked for. */
static void a_transaction_that_is_refused_leaves_its_client_in_order(void **state) {
    (void)state;
    struct in_process *server = start();
    struct session other;
    session_init(&other, 2, IN_PROCESS_START_MS);
    other.authenticated = true;
    in_process_run(server, "MSET watched 1 cold 2 colder 3");
    demote_all(server, "*");
    in_process_expect(server, "WATCH watched", "+OK\r\n");
    server->session = &other;
    in_process_expect(server, "SET watched 4", "+OK\r\n");
    server->session = &server->own_session;
    in_process_run(server, "MULTI");
    in_process_run(server, "GET cold");
    in_process_run(server, "SET colder 5");
    in_process_expect(server, "EXEC", "*-1\r\n");
    in_process_expect(server, "MGET cold colder watched", "*3\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n");
    in_process_end_session(server, &other);
    in_process_destroy(server);
}

/* ---- expiry ---- */

static void sweep_all(struct in_process *server, struct tier_waiter *waiter) {
    const struct keyspace_sweeper sweeper = {server->port, waiter};
    for (uint32_t i = 0; i < 2 * SHARDS; i++)
        while (keyspace_sweep(server->keyspace, i / 2, server->dispatcher->now_ms, SLICE_NS, &sweeper) >= 0) {
            in_process_turn(server);
            while (tier_next_ready(server->port)) continue;
        }
}

/* Their pages are read one after the other, by the sweep alone. */
static void expired_fields_of_cold_pages_are_removed(void **state) {
    (void)state;
    struct in_process *server = start();
    struct tier_waiter waiter = {0};
    run_each(server, "HSET hash field:%u value-%u", 3000);
    run_each(server, "HPEXPIRE hash 5000 FIELDS 1 field:%u", 300);
    in_process_demote(server, "hash");
    in_process_settle(server);
    in_process_advance(server, 6000);
    for (unsigned i = 0; i < 100 && usage_of(server).counters.expired_fields < 300; i++) sweep_all(server, &waiter);
    assert_int_equal(usage_of(server).counters.expired_fields, 300);
    assert_int_equal(in_process_integer(server, "HLEN hash"), 2700);
    tier_release(server->port, &waiter);
    in_process_destroy(server);
}

static void expired_cold_keys_are_removed_without_being_read(void **state) {
    (void)state;
    struct in_process *server = start();
    struct tier_waiter waiter = {0};
    run_each(server, "SET fading:%u value-%u PX 5000", 3000);
    run_each(server, "SET later:%u value-%u PX 500000", 1000);
    run_each(server, "SET lasting:%u value-%u", 1000);
    demote_all(server, "fading*");
    demote_all(server, "later*");
    demote_all(server, "lasting*");
    uint64_t reads = figures_of(server).reads + figures_of(server).memory_reads;
    in_process_advance(server, 20000);
    sweep_all(server, &waiter);
    in_process_expect(server, "DBSIZE", ":2000\r\n");
    struct tier_figures figures = figures_of(server);
    /* But for the few pages that two kinds share. */
    assert_true(figures.reads + figures.memory_reads - reads <= 2 * SHARDS);
    assert_int_equal(figures.segments.records, 2000);
    assert_int_equal(usage_of(server).counters.expired, 3000);
    in_process_expect(server, "GET fading:7", "$-1\r\n");
    in_process_expect(server, "PTTL later:7", ":480000\r\n");
    tier_release(server->port, &waiter);
    in_process_destroy(server);
}

/* Whoever watches a key is told its name, so it is read. */
static void expired_cold_keys_that_are_watched_refuse_the_transaction(void **state) {
    (void)state;
    struct in_process *server = start();
    struct tier_waiter waiter = {0};
    in_process_run(server, "SET key value PX 1000");
    demote_all(server, "*");
    in_process_expect(server, "WATCH key", "+OK\r\n");
    in_process_advance(server, 5000);
    sweep_all(server, &waiter);
    in_process_expect(server, "DBSIZE", ":0\r\n");
    in_process_run(server, "MULTI");
    in_process_run(server, "PING");
    in_process_run(server, "GET key");
    in_process_run(server, "DISCARD");
    in_process_expect(server, "WATCH key", "+OK\r\n");
    in_process_run(server, "MULTI");
    in_process_run(server, "GET key");
    in_process_expect(server, "EXEC", "*1\r\n$-1\r\n");
    tier_release(server->port, &waiter);
    in_process_destroy(server);
}

/* ---- space ---- */

static void flushing_frees_the_tier(void **state) {
    (void)state;
    struct in_process *server = start();
    run_each(server, "SET key:%u a-value-of-some-length-so-that-there-is-something-to-be-freed-%u", 20000);
    demote_all(server, "*");
    assert_true(figures_of(server).segments.sealed + figures_of(server).segments.open > 1);
    in_process_run(server, "FLUSHALL");
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        while (keyspace_drain(server->keyspace, shard, SLICE_NS)) continue;
    struct tier_figures figures = figures_of(server);
    assert_int_equal(figures.segments.records, 0);
    assert_int_equal(figures.segments.free + figures.segments.open, figures.segments.segments);
    assert_int_equal(usage_of(server).cold_records, 0);
    in_process_destroy(server);
}

static enum demotion_status demote_until_it_ends(struct in_process *server) {
    enum demotion_status status = DEMOTION_DONE;
    for (unsigned i = 0; i < 4000 && usage_of(server).records > 0; i++) {
        size_t freed;
        struct demotion demotion = {
            .now_ms = server->dispatcher->now_ms, .budget_ns = SLICE_NS, .wanted_bytes = 1 << 20, .urgent = true};
        status = keyspace_demote(server->keyspace, i % SHARDS, server->port, &demotion, &freed);
        if (status == DEMOTION_BUSY) in_process_settle(server);
        if (status == DEMOTION_FULL) break;
    }
    return status;
}

static void clean_until_it_ends(struct in_process *server) {
    for (unsigned i = 0; i < 4000; i++) {
        if (keyspace_clean(server->keyspace, server->port, TIER_CLEAN_ALL, server->dispatcher->now_ms, SLICE_NS))
            continue;
        if (!tier_is_cleaning(server->port)) return;
        in_process_settle(server);
    }
    fail_msg("cleaning never ended");
}

static void a_full_tier_keeps_the_rest_in_memory_and_goes_on_after_deletes(void **state) {
    (void)state;
    enum { COUNT = 2600 };
    char name[NAME_BYTES];
    struct in_process *server = start_with((struct tier_options){.size_bytes = 10 * SEGMENT});
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "key:%u", i);
        set_large(server, name, 5000);
    }
    assert_int_equal(demote_until_it_ends(server), DEMOTION_FULL);
    assert_true(tier_is_full(server->tier));
    struct keyspace_usage usage = usage_of(server);
    assert_true(usage.records > 0 && usage.cold_records > 1000);
    for (unsigned i = 0; i < COUNT; i++) {
        if (i % 2 == 0) continue;
        snprintf(name, sizeof(name), "DEL key:%u", i);
        in_process_expect(server, name, ":1\r\n");
    }
    clean_until_it_ends(server);
    in_process_settle(server);
    assert_int_not_equal(demote_until_it_ends(server), DEMOTION_FULL);
    in_process_settle(server);
    assert_int_equal(usage_of(server).cold_records, COUNT / 2);
    assert_int_equal(figures_of(server).segments.records, COUNT / 2);
    assert_int_equal(figures_of(server).segments.damaged, 0);
    for (unsigned i = 0; i < COUNT; i += 2) {
        snprintf(name, sizeof(name), "key:%u", i);
        expect_large(server, name, 5000);
    }
    in_process_destroy(server);
}

/* SWAPDB since the block was written; and keys that expired meanwhile. */
static void the_cleaner_finds_records_in_whatever_database_they_are(void **state) {
    (void)state;
    struct in_process *server = start();
    run_each(server, "SET key:%u a-value-that-takes-some-room-in-a-segment-%u", 20000);
    run_each(server, "SET fading:%u value-%u PX 1000", 5000);
    demote_all(server, "*");
    in_process_run(server, "SWAPDB 0 9");
    in_process_run(server, "SELECT 9");
    for (unsigned i = 0; i < 20000; i += 2) {
        char line[LINE_BYTES];
        snprintf(line, sizeof(line), "DEL key:%u", i);
        in_process_run(server, line);
    }
    in_process_advance(server, 1500);
    uint64_t expired = usage_of(server).counters.expired;
    clean_until_it_ends(server);
    in_process_settle(server);
    assert_true(figures_of(server).cleaned_segments > 0);
    assert_int_equal(figures_of(server).segments.damaged, 0);
    (void)expired;
    for (unsigned i = 1; i < 20000; i += 97) {
        char line[LINE_BYTES];
        snprintf(line, sizeof(line), "EXISTS key:%u key:%u", i | 1, (i | 1) - 1);
        in_process_expect(server, line, ":1\r\n");
    }
    in_process_destroy(server);
}

/* ---- damage ---- */

static void keys_of_a_damaged_block_answer_an_error_and_others_are_served(void **state) {
    (void)state;
    enum { COUNT = 400 };
    struct in_process *server = start();
    char name[NAME_BYTES];
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "key:%u", i);
        set_large(server, name, 3000);
    }
    demote_all(server, "*");
    in_process_turn(server); /* copies that nobody holds are forgotten */
    uint64_t ref = ref_of_key(server, "key:77");
    uint64_t failed = figures_of(server).failed_reads;
    for (unsigned i = 0; i < COUNT; i++) { /* push its copy out */
        snprintf(name, sizeof(name), "EXISTS key:%u", i);
        if (i != 77) in_process_run(server, name);
        in_process_turn(server);
    }
    tier_fixture_damage("tier", ref);
    in_process_expect(server, "GET key:77", "-IOERR the record on the tier cannot be read\r\n");
    in_process_expect(server, "SET key:77 new", "-IOERR the record on the tier cannot be read\r\n");
    in_process_expect(server, "DEL key:78 key:77", "-IOERR the record on the tier cannot be read\r\n");
    assert_true(figures_of(server).failed_reads > failed);
    unsigned errors = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "STRLEN key:%u", i);
        in_process_run(server, name);
        errors += server->reply[0] == '-';
        if (server->reply[0] != '-') assert_string_equal(server->reply, ":3000\r\n");
    }
    assert_true(errors >= 1 && errors <= 4); /* those whose tag is alike as well */
    in_process_run(server, "FLUSHALL");
    in_process_expect(server, "SET key:77 new", "+OK\r\n");
    in_process_destroy(server);
}

/* ---- the index above it ---- */

/* Cold keys' tags lose a bit at each split; in the end their records have to be read. */
static void cold_keys_are_found_after_the_index_has_grown_a_thousandfold(void **state) {
    (void)state;
    struct in_process *server = start_with((struct tier_options){.compress = true});
    run_each(server, "SET cold:%u value-%u", 400);
    demote_all(server, "*");
    run_each(server, "SET key:%u value-%u", 200000);
    char line[LINE_BYTES], expected[LINE_BYTES];
    for (unsigned i = 0; i < 400; i++) {
        snprintf(line, sizeof(line), "GET cold:%u", i);
        snprintf(expected, sizeof(expected), "$%zu\r\nvalue-%u\r\n",
                 strlen("value-") + (i < 10    ? 1
                                     : i < 100 ? 2
                                               : 3),
                 i);
        in_process_expect(server, line, expected);
    }
    in_process_expect(server, "DBSIZE", ":200400\r\n");
    in_process_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_used_least_recently_goes_first),
        cmocka_unit_test(everything_that_matches_goes_whatever_its_kind),
        cmocka_unit_test(what_matches_but_finds_no_room_is_told),
        cmocka_unit_test(a_record_larger_than_a_segment_is_demoted_in_short_slices),
        cmocka_unit_test(a_shard_tells_whether_there_is_anything_left_to_demote),
        cmocka_unit_test(a_cold_record_comes_back_at_its_second_use),
        cmocka_unit_test(the_cold_keys_of_a_pipeline_are_read_together),
        cmocka_unit_test(a_transaction_that_is_refused_leaves_its_client_in_order),
        cmocka_unit_test(expired_fields_of_cold_pages_are_removed),
        cmocka_unit_test(expired_cold_keys_are_removed_without_being_read),
        cmocka_unit_test(expired_cold_keys_that_are_watched_refuse_the_transaction),
        cmocka_unit_test(flushing_frees_the_tier),
        cmocka_unit_test(a_full_tier_keeps_the_rest_in_memory_and_goes_on_after_deletes),
        cmocka_unit_test(the_cleaner_finds_records_in_whatever_database_they_are),
        cmocka_unit_test(keys_of_a_damaged_block_answer_an_error_and_others_are_served),
        cmocka_unit_test(cold_keys_are_found_after_the_index_has_grown_a_thousandfold),
    };
    log_set_level(LOG_LEVEL_NOTHING);
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
