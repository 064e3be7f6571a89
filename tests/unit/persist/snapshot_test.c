/* Snapshots, as a sink sees them, while commands of all types run between the walkers' slices: what is given is what
 * there was at the cut, each key once. The random test prints its seed; TERRACE_SNAPSHOT_SEED replays one,
 * TERRACE_SNAPSHOT_SEEDS says how many are tried. */

#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_collection.h"
#include "keyspace/keyspace_copy.h"
#include "keyspace/keyspace_evict.h"
#include "keyspace/keyspace_tier.h"
#include "persist/snapshot.h"
#include "tests/support/in_process.h"
#include "tests/support/snapshot_collector.h"
#include "tests/support/temporary_folder.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, SHARDS = 4, DATABASES = 3, LINE = 1024, LARGE = 70000, SLICE_NS = 200000 };

/* ---- a server ---- */

static struct in_process *start(bool with_tier) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {bitmap_commands, bitmap_command_count},
                                              {hash_commands, hash_command_count},
                                              {set_commands, set_command_count},
                                              {list_commands, list_command_count},
                                              {stream_commands, stream_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {transaction_commands, transaction_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count},
                                              {database_commands, database_command_count},
                                              {geo_commands, geo_command_count},
                                              {sort_commands, sort_command_count},
                                              {hyperloglog_commands, hyperloglog_command_count}};
    struct tier_options tier = {
        .path = "tier", .segment_bytes = SEGMENT, .size_bytes = 24 * SEGMENT, .memory_bytes = 64 << 20};
    struct in_process *server =
        in_process_create_with(&(struct in_process_options){.families = families,
                                                            .family_count = sizeof(families) / sizeof(*families),
                                                            .tier = with_tier ? &tier : NULL,
                                                            .shards = SHARDS});
    server->keyspace->limits = (struct value_limits){.hash_packed_entries = 8,
                                                     .hash_packed_bytes = 64,
                                                     .list_packed_size = 8,
                                                     .set_intset_entries = 8,
                                                     .set_packed_entries = 8,
                                                     .set_packed_bytes = 64,
                                                     .sorted_set_packed_entries = 8,
                                                     .sorted_set_packed_bytes = 64};
    return server;
}

struct taking {
    struct in_process *server;
    struct snapshot_collector there, given;
    struct snapshot *snapshot;
    unsigned lanes, completed;
    bool threads, whole;
    sem_t ended;
};

static void complete(void *ctx, bool whole) {
    struct taking *taking = ctx;
    taking->completed++;
    taking->whole = whole;
    sem_post(&taking->ended);
}

static void begin_with(struct taking *taking, struct in_process *server, unsigned lanes, bool threads) {
    *taking = (struct taking){.server = server, .lanes = lanes, .threads = threads};
    sem_init(&taking->ended, 0, 0);
    snapshot_collector_init(&taking->there, server->keyspace);
    snapshot_collector_init(&taking->given, server->keyspace);
    const struct snapshot_options options = {.keyspace = server->keyspace,
                                             .sink = snapshot_collector_sink(&taking->given),
                                             .lanes = lanes,
                                             .stepped = !threads,
                                             .complete = complete,
                                             .ctx = taking};
    taking->snapshot = snapshot_create(&options);
    assert_non_null(taking->snapshot);
    snapshot_collector_look(&taking->there, server->port);
    assert_true(snapshot_begin(taking->snapshot));
}

static void begin(struct taking *taking, struct in_process *server, unsigned lanes) {
    begin_with(taking, server, lanes, false);
}

static void walk_on(struct taking *taking) {
    for (bool more = true; more;) {
        more = false;
        for (unsigned lane = 0; lane < taking->lanes; lane++) more = snapshot_step(taking->snapshot, lane) || more;
    }
}

/* Walks to the end. Returns whether everything was given, which then is what there was. */
static bool finish(struct taking *taking) {
    if (!taking->threads) walk_on(taking);
    while (sem_wait(&taking->ended) != 0) continue;
    assert_int_equal(taking->completed, 1);
    assert_true(snapshot_is_over(taking->snapshot));
    struct snapshot_figures figures = snapshot_figures(taking->snapshot);
    if (taking->whole) {
        assert_int_equal(figures.total, taking->there.count);
        assert_true(snapshot_collector_same(&taking->there, &taking->given));
        assert_int_equal(figures.done, taking->there.count);
        assert_int_equal(taking->given.lanes_ended, taking->lanes);
    }
    snapshot_destroy(taking->snapshot);
    assert_int_equal(figures.waiting_bytes, 0);
    assert_int_equal(figures.set_aside_bytes, 0);
    sem_destroy(&taking->ended);
    snapshot_collector_free(&taking->there);
    snapshot_collector_free(&taking->given);
    assert_true(keyspace_validate(taking->server->keyspace));
    return taking->whole;
}

static void end(struct taking *taking, bool whole) {
    assert_int_equal(finish(taking), whole);
}

/* What is left when everything is deleted would be lost for ever. */
static void expect_nothing_is_lost(struct in_process *server) {
    in_process_run(server, "FLUSHALL");
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &server->keyspace->shards[i];
        while (keyspace_drain(server->keyspace, i, SLICE_NS)) continue;
        assert_int_equal(shard->heap.sums.live_objects, 0);
        assert_int_equal(shard->cold_records, 0);
    }
    if (!server->port) return;
    struct tier_figures figures;
    tier_figures(server->tier, &figures);
    assert_int_equal(figures.segments.records, 0);
}

/* ---- simple ones ---- */

static void empty_keyspace_ends_at_once(void **state) {
    struct taking taking;
    (void)state;
    struct in_process *server = start(false);
    begin(&taking, server, 2);
    end(&taking, true);
    in_process_destroy(server);
}

static void changes_after_the_cut_do_not_show(void **state) {
    struct taking taking;
    char line[LINE];
    (void)state;
    struct in_process *server = start(false);
    for (int i = 0; i < 2000; i++) {
        snprintf(line, sizeof(line), "SET key:%d value:%d", i, i);
        in_process_run(server, line);
    }
    begin(&taking, server, 1);
    assert_int_equal(taking.there.count, 2000);
    for (int i = 0; i < 2000; i++) {
        snprintf(line, sizeof(line), i % 3 ? "SET key:%d other:%d" : "DEL key:%d", i, i);
        in_process_run(server, line);
        if (i % 7 == 0) snapshot_step(taking.snapshot, 0);
        snprintf(line, sizeof(line), "SET new:%d value", i);
        in_process_run(server, line);
    }
    end(&taking, true);
    in_process_destroy(server);
}

static void changed_expiries_do_not_show(void **state) {
    struct taking taking;
    char line[LINE];
    (void)state;
    struct in_process *server = start(false);
    for (int i = 0; i < 300; i++) {
        snprintf(line, sizeof(line), i % 3 ? "SET key:%d value PX 100000" : "SET key:%d value", i);
        in_process_run(server, line);
    }
    begin(&taking, server, 1);
    for (int i = 0; i < 300; i++) {
        snprintf(line, sizeof(line), i % 2 ? "PEXPIRE key:%d 5000" : "PERSIST key:%d", i);
        in_process_run(server, line);
    }
    in_process_advance(server, 10000);
    for (uint32_t i = 0; i < SHARDS; i++)
        while (keyspace_sweep(server->keyspace, i, server->dispatcher->now_ms, SLICE_NS, NULL) != -1) continue;
    end(&taking, true);
    in_process_destroy(server);
}

static void flushed_and_swapped_databases_are_given_as_they_were(void **state) {
    struct taking taking;
    char line[LINE];
    (void)state;
    struct in_process *server = start(false);
    for (int i = 0; i < 900; i++) {
        snprintf(line, sizeof(line), "SELECT %d", i % 3);
        in_process_run(server, line);
        snprintf(line, sizeof(line), "SET key:%d value:%d", i, i);
        in_process_run(server, line);
    }
    begin(&taking, server, 1);
    in_process_run(server, "SWAPDB 0 1");
    in_process_run(server, "SELECT 0");
    in_process_run(server, "FLUSHDB");
    for (uint32_t i = 0; i < SHARDS; i++) assert_false(keyspace_drain(server->keyspace, i, SLICE_NS));
    in_process_run(server, "SET key:1 other");
    in_process_run(server, "FLUSHALL");
    end(&taking, true);
    for (uint32_t i = 0; i < SHARDS; i++)
        while (keyspace_drain(server->keyspace, i, SLICE_NS)) continue;
    for (uint32_t i = 0; i < SHARDS; i++) assert_int_equal(server->keyspace->shards[i].condemned_count, 0);
    in_process_destroy(server);
}

static void a_refusing_sink_ends_the_snapshot(void **state) {
    struct taking taking;
    char line[LINE];
    (void)state;
    struct in_process *server = start(false);
    for (int i = 0; i < 1000; i++) {
        snprintf(line, sizeof(line), "SET key:%d value:%d", i, i);
        in_process_run(server, line);
    }
    begin(&taking, server, 1);
    taking.given.refuse_after = 10;
    end(&taking, false);
    begin(&taking, server, 1);
    end(&taking, true);
    in_process_destroy(server);
}

static void large_values_are_pinned_and_not_copied(void **state) {
    struct taking taking;
    (void)state;
    struct in_process *server = start(false);
    char *bytes = malloc(4 << 20);
    assert_non_null(bytes);
    memset(bytes, 'x', 4 << 20);
    in_process_run_with_value(server, "SET", "large", span_of(bytes, 4 << 20));
    begin(&taking, server, 1);
    in_process_run(server, "EXPIRE large 100");
    in_process_run(server, "SET large small");
    assert_true(snapshot_figures(taking.snapshot).waiting_bytes > 4 << 20);
    free(bytes);
    end(&taking, true);
    in_process_destroy(server);
}

/* ---- the life of a big collection ---- */

enum { MANY_MEMBERS = 1500, FEW_MEMBERS = 100, MEMBER_BYTES = 4000 };

/* Many are longer than COLLECTION_HEAP_BYTES, so that compaction gives them a heap. */
static void make_list(struct in_process *server, const char *key, int members) {
    char member[MEMBER_BYTES];
    memset(member, 'x', sizeof(member));
    for (int i = 0; i < members; i++) {
        snprintf(member, 16, "%d", i);
        member[strlen(member)] = ' ';
        in_process_run_with_value(server, "RPUSH", key, span_of(member, sizeof(member)));
    }
    for (uint32_t i = 0; i < SHARDS; i++)
        while (keyspace_compact(server->keyspace, i, 1000)) continue;
}

static struct collection *collection_at(struct in_process *server, const char *name) {
    const struct view view = {.keyspace = server->keyspace, .port = server->port};
    struct key key = keyspace_key(server->keyspace, span_of_text(name));
    struct lookup lookup = keyspace_find(&view, &key);
    assert_non_null(lookup.record);
    return lookup_collection(&lookup);
}

struct life {
    const char *before, *fate; /* commands: of both after the cut */
    int members;
    bool with_tier;
};

static void live(struct life life) {
    struct taking taking;
    struct in_process *server = start(life.with_tier);
    make_list(server, "list", life.members);
    assert_int_equal(collection_at(server, "list")->heap != NULL, life.members == MANY_MEMBERS);
    if (life.with_tier) in_process_demote(server, "*");
    begin(&taking, server, 2);
    if (life.before) in_process_run(server, life.before);
    in_process_run(server, life.fate);
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        while (keyspace_compact(server->keyspace, shard, 1000)) continue;
        keyspace_drain(server->keyspace, shard, SLICE_NS);
    }
    assert_true(keyspace_validate(server->keyspace));
    end(&taking, true);
    expect_nothing_is_lost(server);
    in_process_destroy(server);
}

/* A name may be in the same shard or, of several, in another. With a heap of its own or without, in memory or cold. */
static void a_big_collection_is_given_whatever_becomes_of_it(void **state) {
    static const char *const befores[] = {NULL, "LSET list 50 changed", "LTRIM list 10 -10", "LPOP list 90"};
    static const char *const fates[] = {"RENAME list other", "DEL list",       "RENAME list k1", "RENAME list k2",
                                        "RENAME list k3",    "COPY list copy", "FLUSHALL",       "LTRIM list 70 71"};
    (void)state;
    for (unsigned i = 0; i < sizeof(fates) / sizeof(*fates); i++)
        for (unsigned k = 0; k < sizeof(befores) / sizeof(*befores); k++) {
            live((struct life){befores[k], fates[i], MANY_MEMBERS, false});
            live((struct life){befores[k], fates[i], FEW_MEMBERS, false});
            live((struct life){befores[k], fates[i], FEW_MEMBERS, true});
        }
}

static void pages_kept_for_a_frozen_collection_are_counted(void **state) {
    struct taking taking;
    (void)state;
    struct in_process *server = start(false);
    make_list(server, "list", FEW_MEMBERS);
    begin(&taking, server, 2);
    in_process_run(server, "LINDEX list 5");
    assert_int_equal(snapshot_figures(taking.snapshot).set_aside_bytes, 0);
    in_process_run(server, "LSET list 5 changed");
    size_t one = snapshot_figures(taking.snapshot).set_aside_bytes;
    assert_true(one >= MEMBER_BYTES);
    in_process_run(server, "LSET list 5 again");
    assert_int_equal(snapshot_figures(taking.snapshot).set_aside_bytes, one);
    in_process_run(server, "DEL list");
    while (keyspace_drain(server->keyspace, 0, SLICE_NS) || keyspace_drain(server->keyspace, 1, SLICE_NS) ||
           keyspace_drain(server->keyspace, 2, SLICE_NS) || keyspace_drain(server->keyspace, 3, SLICE_NS))
        continue;
    assert_true(snapshot_figures(taking.snapshot).set_aside_bytes >= FEW_MEMBERS * MEMBER_BYTES);
    end(&taking, true);
    in_process_destroy(server);
}

/* A copy in slices stands without a key while the cut is made: it is of no snapshot before it has one, and the pages
 * that it gets meanwhile are nobody else's. */
/* The first lane leaves it to the second, which therefore may not end before the first has walked its last shard. */
static void a_very_big_collection_is_given_by_another_lane(void **state) {
    enum { FIELDS = 10000, OTHERS = 8000 };
    struct taking taking;
    char line[LINE], name[32];
    unsigned number = 0;
    (void)state;
    struct in_process *server = start(false);
    for (int i = 0; i < OTHERS; i++) { /* before most of which it is not met */
        snprintf(line, sizeof(line), "SET key:%d value", i);
        in_process_run(server, line);
    }
    do snprintf(name, sizeof(name), "hash:%u", number++);
    while (keyspace_key(server->keyspace, span_of_text(name)).shard != 0);
    for (int i = 0; i < FIELDS; i++) {
        snprintf(line, sizeof(line), "HSET %s field:%d %0900d", name, i, i);
        in_process_run(server, line);
    }
    begin(&taking, server, 2);
    assert_true(snapshot_step(taking.snapshot, 0));
    for (unsigned i = 0; i < 1000; i++) (void)snapshot_step(taking.snapshot, 1);
    end(&taking, true);
    expect_nothing_is_lost(server);
    in_process_destroy(server);
}

static void a_copy_in_slices_may_span_the_cut(void **state) {
    struct taking taking;
    (void)state;
    struct in_process *server = start(false);
    make_list(server, "list", MANY_MEMBERS);
    const struct view view = {.keyspace = server->keyspace, .now_ms = server->dispatcher->now_ms};
    struct key from = keyspace_key(server->keyspace, span_of_text("list"));
    struct key to = keyspace_key(server->keyspace, span_of_text("copy"));
    struct lookup source = keyspace_find(&view, &from), target = keyspace_find(&view, &to);
    struct collection_copy *copy = keyspace_copy_begin(server->keyspace, &source, &view, &to);
    assert_non_null(copy);
    assert_int_equal(keyspace_copy_step(copy, &view, &source, &view, &to, &target, 0), KEYSPACE_COPY_GOES_ON);
    begin(&taking, server, 2);
    assert_int_equal(taking.there.count, 1);
    in_process_run(server, "LSET list 3 changed");
    in_process_run(server, "LSET list 1300 changed");
    enum keyspace_copy_status status;
    do {
        source = keyspace_find(&view, &from);
        target = keyspace_find(&view, &to);
        status = keyspace_copy_step(copy, &view, &source, &view, &to, &target, 0);
    } while (status == KEYSPACE_COPY_GOES_ON);
    assert_int_equal(status, KEYSPACE_COPY_DONE);
    keyspace_copy_free(copy);
    in_process_run(server, "LSET copy 4 changed");
    in_process_run(server, "DEL list");
    end(&taking, true);
    begin(&taking, server, 2);
    assert_int_equal(taking.there.count, 1);
    end(&taking, true);
    expect_nothing_is_lost(server);
    in_process_destroy(server);
}

/* ---- everything at random ---- */

struct chaos {
    struct in_process *server;
    struct random random;
    struct eviction_pool pool;
    unsigned served; /* slices taken for walkers */
};

static unsigned below(struct chaos *chaos, unsigned bound) {
    return (unsigned)random_below(&chaos->random, bound);
}

static void run(struct chaos *chaos, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void run(struct chaos *chaos, const char *format, ...) {
    char line[LINE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    in_process_run(chaos->server, line);
}

/* Words with a counter each, "m17 m4 ...": for commands that take many. */
static const char *words(struct chaos *chaos, const char *between) {
    static char text[LINE];
    size_t length = 0;
    unsigned count = 1 + below(chaos, below(chaos, 4) ? 4 : 30);
    for (unsigned i = 0; i < count; i++)
        length += (size_t)snprintf(text + length, sizeof(text) - length, " %s%s%u", between[0] ? between : "",
                                   between[0] ? " m" : "m", below(chaos, 400));
    return text;
}

static void change_string(struct chaos *chaos, unsigned key) {
    static char large[LARGE];
    switch (below(chaos, 12)) {
    case 0: run(chaos, "APPEND s%u more", key); break;
    case 1: run(chaos, "INCR n%u", key); break;
    case 2: run(chaos, "SETRANGE s%u %u patch", key, below(chaos, 3) ? 10 : 300000); break;
    case 3: run(chaos, "SET s%u value PX %u", key, 1 + below(chaos, 3000)); break;
    case 4:
        memset(large, 'a' + (int)below(chaos, 20), sizeof(large));
        run(chaos, "DEL s%u", key);
        snprintf(large, 8, "s%u", key);
        in_process_run_with_value(chaos->server, "SET", large, span_of(large + 10, below(chaos, LARGE - 10)));
        break;
    case 5: run(chaos, "GETSET s%u got", key); break;
    case 6: run(chaos, "SETBIT s%u %u 1", key, below(chaos, 100000)); break;
    default: run(chaos, "SET s%u %u-value-that-is-somewhat-long", key, below(chaos, 1000)); break;
    }
}

static void change_collection(struct chaos *chaos, unsigned key) {
    switch (below(chaos, 22)) {
    case 0: run(chaos, "RPUSH l%u%s", key, words(chaos, "")); break;
    case 1: run(chaos, "LPUSH l%u%s", key, words(chaos, "")); break;
    case 2: run(chaos, "LPOP l%u", key); break;
    case 3: run(chaos, "LSET l%u 3 changed", key); break;
    case 4: run(chaos, "LTRIM l%u 1 -2", key); break;
    case 5: run(chaos, "SADD t%u%s", key, words(chaos, "")); break;
    case 6: run(chaos, "SREM t%u%s", key, words(chaos, "")); break;
    case 7: run(chaos, "SPOP t%u", key); break;
    case 8: run(chaos, "SADD i%u %u", key, below(chaos, 1000)); break;
    case 9: run(chaos, "HSET h%u %s", key, words(chaos, "f")); break;
    case 10: run(chaos, "HSET h%u f%u value%u", key, below(chaos, 300), below(chaos, 1000)); break;
    case 11: run(chaos, "HDEL h%u f%u f%u", key, below(chaos, 300), below(chaos, 300)); break;
    case 12: run(chaos, "HPEXPIRE h%u %u FIELDS 1 f%u", key, 1 + below(chaos, 3000), below(chaos, 300)); break;
    case 13: run(chaos, "ZADD z%u%s", key, words(chaos, "17")); break;
    case 14: run(chaos, "ZADD z%u %u m%u", key, below(chaos, 100), below(chaos, 400)); break;
    case 15: run(chaos, "ZREM z%u%s", key, words(chaos, "")); break;
    case 16: run(chaos, "ZPOPMIN z%u", key); break;
    case 17: run(chaos, "XADD x%u * f%u value%u", key, below(chaos, 3), below(chaos, 1000)); break;
    case 18: run(chaos, "XTRIM x%u MAXLEN %u", key, below(chaos, 30)); break;
    case 19: run(chaos, "XGROUP CREATE x%u g%u 0", key, below(chaos, 3)); break;
    case 20: run(chaos, "XREADGROUP GROUP g%u c%u COUNT 3 STREAMS x%u >", below(chaos, 3), below(chaos, 3), key); break;
    default: run(chaos, "XGROUP DESTROY x%u g%u", key, below(chaos, 3)); break;
    }
}

/* Each command that changes a collection, once in a while: all have to come by where it is frozen. $ stands for the
 * key's number, % for another one's. */
static const char *const others[] = {
    "LINSERT l$ BEFORE m3 m4",
    "LREM l$ 2 m3",
    "LMOVE l$ l% LEFT RIGHT",
    "LMPOP 2 l$ l% RIGHT COUNT 3",
    "RPOP l$ 2",
    "RPUSHX l$ m1",
    "SMOVE t$ t% m4",
    "SINTERSTORE t$ t% t1",
    "SUNIONSTORE t$ t% t1",
    "SDIFFSTORE t$ t% t1",
    "SPOP t$ 3",
    "HINCRBY h$ n1 5",
    "HINCRBYFLOAT h$ n2 1.5",
    "HSETNX h$ f5 v",
    "HGETDEL h$ FIELDS 1 f6",
    "HGETEX h$ PX 500 FIELDS 1 f7",
    "HSETEX h$ PX 900 FIELDS 1 f8 v",
    "HPERSIST h$ FIELDS 1 f7",
    "ZINCRBY z$ 3 m4",
    "ZREMRANGEBYRANK z$ 0 1",
    "ZREMRANGEBYSCORE z$ 50 52",
    "ZREMRANGEBYLEX z$ [m1 [m11",
    "ZPOPMAX z$ 2",
    "ZMPOP 2 z$ z% MIN COUNT 2",
    "ZUNIONSTORE z$ 2 z$ z%",
    "ZINTERSTORE z$ 2 z$ z%",
    "ZDIFFSTORE z$ 2 z$ z%",
    "ZRANGESTORE z$ z% 0 -1",
    "GEOADD z$ 13.3 38.1 m5",
    "SORT l$ ALPHA STORE l%",
    "SORT t$ ALPHA STORE l%",
    "XDEL x$ 1-1",
    "XADD x$ MAXLEN 20 * f v",
    "XACK x$ g1 1-1",
    "XSETID x$ 9999999999999-9",
    "XAUTOCLAIM x$ g1 c2 0 0 COUNT 5",
    "XCLAIM x$ g1 c1 0 1-1 FORCE",
    "XGROUP SETID x$ g1 $",
    "XGROUP CREATECONSUMER x$ g1 c9",
    "XGROUP DELCONSUMER x$ g1 c1",
    "XREADGROUP GROUP g1 c1 COUNT 2 STREAMS x$ 0",
    "XTRIM x$ MINID 5",
    "BITOP OR s$ s% s1",
    "BITFIELD s$ SET u8 200000 5",
    "PFADD p$ a b c d e",
    "PFMERGE p$ p%",
    "SETRANGE s$ 400000 tail",
    "APPEND s$ more",
    "GETDEL s$",
    "GETEX s$ PX 700",
    "BITCOUNT s$",
    "LPOS l$ m3",
    "HRANDFIELD h$ 3",
    "SRANDMEMBER t$ 3",
    "ZRANDMEMBER z$ 3",
    "XPENDING x$ g1",
    "XINFO STREAM x$ FULL",
};

static void change_otherwise(struct chaos *chaos, unsigned key, unsigned other) {
    const char *at = others[below(chaos, sizeof(others) / sizeof(*others))];
    char line[LINE];
    size_t length = 0;
    for (; *at; at++) {
        if (*at == '$' || *at == '%')
            length += (size_t)snprintf(line + length, sizeof(line) - length, "%u", *at == '$' ? key : other);
        else
            line[length++] = *at;
    }
    line[length] = '\0';
    in_process_run(chaos->server, line);
}

static char any_prefix(struct chaos *chaos) {
    return "snlithzx"[below(chaos, 8)];
}

static void change_key(struct chaos *chaos, unsigned key, unsigned other) {
    char prefix = any_prefix(chaos);
    switch (below(chaos, 12)) {
    case 0: run(chaos, "DEL %c%u", prefix, key); break;
    case 1: run(chaos, "RENAME %c%u %c%u", prefix, key, prefix, other); break;
    case 2: run(chaos, "COPY %c%u %c%u REPLACE", prefix, key, prefix, other); break;
    case 3: run(chaos, "COPY %c%u %c%u DB %u", prefix, key, prefix, other, below(chaos, DATABASES)); break;
    case 4: run(chaos, "MOVE %c%u %u", prefix, key, below(chaos, DATABASES)); break;
    case 5: run(chaos, "PEXPIRE %c%u %u", prefix, key, 1 + below(chaos, 3000)); break;
    case 6: run(chaos, "PERSIST %c%u", prefix, key); break;
    case 7: run(chaos, "GET s%u", key); break;
    case 8: run(chaos, "SMEMBERS t%u", key); break;
    case 9: run(chaos, "HGETALL h%u", key); break;
    case 10: run(chaos, "LRANGE l%u 0 -1", key); break;
    default: run(chaos, "ZRANGE z%u 0 -1", key); break;
    }
}

static void evict(struct chaos *chaos) {
    const struct eviction eviction = {.keyspace = chaos->server->keyspace,
                                      .pool = &chaos->pool,
                                      .random = &chaos->random,
                                      .now_ms = chaos->server->dispatcher->now_ms};
    const struct eviction_rule rule = {.order = EVICT_AT_RANDOM, .samples = 5};
    (void)keyspace_evict(&eviction, &rule);
}

static void clean(struct chaos *chaos) {
    struct in_process *server = chaos->server;
    enum tier_clean_mode mode = below(chaos, 10) ? TIER_CLEAN_ALL : below(chaos, 2) ? TIER_EVICT : TIER_EVICT_VOLATILE;
    for (int i = 0; server->port && i < 20; i++) {
        if (!keyspace_clean(server->keyspace, server->port, mode, server->dispatcher->now_ms, SLICE_NS)) break;
        in_process_settle(server);
    }
}

static void maintain(struct chaos *chaos) {
    struct keyspace *keyspace = chaos->server->keyspace;
    struct tier_port *port = chaos->server->port;
    uint32_t shard = below(chaos, SHARDS);
    char pattern[8];
    switch (below(chaos, 12)) {
    case 0: in_process_advance(chaos->server, below(chaos, 200)); break;
    case 1:
    case 2: keyspace_sweep(keyspace, shard, chaos->server->dispatcher->now_ms, SLICE_NS, NULL); break;
    case 3: keyspace_drain(keyspace, shard, SLICE_NS); break;
    case 4: keyspace_compact(keyspace, shard, 100); break;
    case 5: evict(chaos); break;
    case 6:
        if (below(chaos, 10)) break;
        run(chaos, "SWAPDB %u %u", below(chaos, DATABASES), below(chaos, DATABASES));
        break;
    case 7:
        if (below(chaos, 20)) break;
        run(chaos, below(chaos, 4) ? "FLUSHDB" : "FLUSHALL");
        break;
    case 8: run(chaos, "SELECT %u", below(chaos, DATABASES)); break;
    case 9:
        if (!port) break;
        snprintf(pattern, sizeof(pattern), "%c%u*", any_prefix(chaos), below(chaos, 10));
        in_process_demote(chaos->server, pattern);
        break;
    case 10: clean(chaos); break;
    default:
        if (port) in_process_turn(chaos->server);
        break;
    }
}

static void change_something(struct chaos *chaos) {
    unsigned key = below(chaos, 60), other = below(chaos, 60);
    switch (below(chaos, 12)) {
    case 10:
    case 11: change_otherwise(chaos, key, other); break;
    case 0:
    case 1:
    case 2: change_string(chaos, below(chaos, 600)); break;
    case 3:
    case 4:
    case 5:
    case 6: change_collection(chaos, key); break;
    case 7: change_key(chaos, key, other); break;
    default: maintain(chaos); break;
    }
}

static void one_snapshot(struct chaos *chaos, bool threads) {
    struct taking taking;
    unsigned changes = 100 + below(chaos, 3000), steps = below(chaos, 20),
             stop = below(chaos, 4) ? 0 : below(chaos, 500);
    bool helps = threads && below(chaos, 2);
    begin_with(&taking, chaos->server, 1 + below(chaos, 3), threads);
    if (helps) keyspace_snapshot_help(chaos->server->keyspace, true);
    for (unsigned i = 1; i <= changes; i++) {
        change_something(chaos);
        if (below(chaos, 20) < steps && !threads) (void)snapshot_step(taking.snapshot, below(chaos, taking.lanes));
        if (helps) chaos->served += keyspace_snapshot_serve(chaos->server->keyspace);
        if (i == stop) snapshot_stop(taking.snapshot);
        if (i % 500 == 0) assert_true(keyspace_validate(chaos->server->keyspace));
    }
    if (helps) {
        keyspace_snapshot_help(chaos->server->keyspace, false);
        while (keyspace_snapshot_has_offer(chaos->server->keyspace))
            chaos->served += keyspace_snapshot_serve(chaos->server->keyspace);
    }
    if (!finish(&taking)) assert_true(stop > 0 && stop <= changes);
}

static void run_seed(uint64_t seed, bool with_tier, bool threads) {
    struct chaos chaos = {.server = start(with_tier)};
    print_message("seed %llu%s\n", (unsigned long long)seed, with_tier ? ", with a tier" : "");
    random_seed(&chaos.random, seed);
    for (unsigned i = 0; i < 4000; i++) change_something(&chaos);
    for (unsigned i = 0; i < 9; i++) one_snapshot(&chaos, threads);
    if (threads) assert_true(chaos.served > 0);
    expect_nothing_is_lost(chaos.server);
    in_process_destroy(chaos.server);
}

static uint64_t number_from_environment(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void what_is_given_is_what_there_was(void **state) {
    (void)state;
    uint64_t seed = number_from_environment("TERRACE_SNAPSHOT_SEED", 1);
    uint64_t seeds = number_from_environment("TERRACE_SNAPSHOT_SEEDS", 4);
    for (uint64_t i = 0; i < seeds; i++) {
        run_seed(seed + i, false, false);
        run_seed(seed + i, true, false);
    }
}

/* One worker, which is this thread, and walkers beside it, for which it takes slices in half of the snapshots: not the
 * same at each run. */
static void walkers_are_threads_beside_the_worker(void **state) {
    (void)state;
    uint64_t seed = number_from_environment("TERRACE_SNAPSHOT_SEED", 1);
    run_seed(seed, false, true);
    run_seed(seed, true, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_keyspace_ends_at_once),
        cmocka_unit_test(changes_after_the_cut_do_not_show),
        cmocka_unit_test(changed_expiries_do_not_show),
        cmocka_unit_test(flushed_and_swapped_databases_are_given_as_they_were),
        cmocka_unit_test(a_refusing_sink_ends_the_snapshot),
        cmocka_unit_test(large_values_are_pinned_and_not_copied),
        cmocka_unit_test(a_big_collection_is_given_whatever_becomes_of_it),
        cmocka_unit_test(pages_kept_for_a_frozen_collection_are_counted),
        cmocka_unit_test(a_very_big_collection_is_given_by_another_lane),
        cmocka_unit_test(a_copy_in_slices_may_span_the_cut),
        cmocka_unit_test(what_is_given_is_what_there_was),
        cmocka_unit_test(walkers_are_threads_beside_the_worker),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
