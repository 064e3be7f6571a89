/* Random commands of all families against two servers in this process: one with next to no memory, whose records are
 * moved between near memory, far memory and the tier all the time, and one without a tier, which is the model. Every
 * reply of the first has to be the model's, byte for byte; where the order is free (SCAN, KEYS, RANDOMKEY) what it
 * stands for is compared.
 *
 * With faults a reply may be the IOERR error instead, which promises that nothing was changed: the model does not run
 * that command. So whatever is answered later must still be right, and in the end every record has to be there. */

#include "base/log.h"
#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_tier.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    KEYS = 160,
    STABLE = 60, /* keys that nothing removes: SCAN has to find them */
    DATABASES = 3,
    SHARDS = 4,
    SEGMENT = 1 << 20,
    SEGMENTS = 12,
    TEXT_MAX = 4 << 20,
    WORDS_MAX = 24,
    QUEUED_MAX = 6,
    BUDGET_BYTES = 96 << 10, /* records in near memory */
    FAR_BYTES = 3 << 20,     /* a slab page for each size class and shard takes most of it */
    SLICE_NS = 100000,
    TIME_MAX_MS = 3000,
#ifdef TERRACE_SANITIZE
    COMMANDS = 15000,
#else
    COMMANDS = 60000,
#endif
};

static const char io_error[] = "-IOERR";

struct pair {
    struct in_process *subject, *model;
    struct session own[2]; /* a second client of each */
    struct random random;
    struct tier_waiter sweep_waiter;
    char *text; /* of the command */
    bool faulty;
    uint64_t refused;
    uint64_t far_records_max, cold_records_max;
};

static unsigned below(struct pair *pair, unsigned bound) {
    return (unsigned)random_below(&pair->random, bound);
}

/* ---- commands ---- */

/* What a letter after % becomes: h and k a key, s one that stays, v a value, i an index, t a time, d a database. */
struct form {
    unsigned weight;
    const char *text;
    bool elsewhere; /* looks at another database than the session's, which is not staged: see draw_form() */
};

static const struct form forms[] = {
    {90, "SET %k %v"},
    {20, "SET %k %v PX %t"},
    {10, "SET %k %v NX"},
    {10, "SET %k %v XX GET"},
    {10, "SET %k %v KEEPTTL"},
    {60, "GET %k"},
    {10, "GET %s"},
    {5, "GETDEL %k"},
    {8, "GETEX %k PX %t"},
    {8, "GETEX %k PERSIST"},
    {20, "MGET %k %k %s %k"},
    {10, "MSET %k %v %k %v"},
    {5, "MSETNX %k %v %k %v"},
    {10, "STRLEN %k"},
    {15, "APPEND %k %v"},
    {5, "APPEND %s %i"},
    {10, "SETRANGE %k %i %v"},
    {10, "GETRANGE %k %i -1"},
    {10, "INCRBY %k %i"},
    {5, "SET %k %i"},
    {5, "INCRBYFLOAT %k 1.5"},
    {10, "SETBIT %k %i 1"},
    {10, "GETBIT %k %i"},
    {5, "BITCOUNT %k"},
    {5, "BITPOS %k 0 %i"},
    {5, "BITOP XOR %k %k %k"},
    {10, "BITFIELD %k SET u8 %i 200 INCRBY i5 %i 3 GET u4 0"},
    {20, "PFADD %h %i %i"},
    {5, "PFADD %h %v"},
    {10, "PFCOUNT %h %h"},
    {5, "PFMERGE %h %h %h"},
    {25, "DEL %k %k"},
    {10, "UNLINK %k"},
    {10, "EXISTS %k %s %k"},
    {5, "TOUCH %k %h"},
    {5, "TYPE %k"},
    {15, "PEXPIRE %k %t"},
    {5, "PEXPIRE %k %t GT"},
    {5, "PERSIST %k"},
    {10, "PTTL %k"},
    {5, "PEXPIRETIME %k"},
    {15, "RENAME %k %k"},
    {5, "RENAMENX %k %k"},
    {10, "COPY %k %k"},
    {8, "COPY %k %k DB %d REPLACE", true},
    {8, "COPY %h %k DB %d", true},
    {8, "MOVE %k %d", true},
    {25, "SELECT %d"},
};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

static const struct form *draw_any_form(struct pair *pair) {
    unsigned total = 0, drawn;
    for (unsigned i = 0; i < FORMS; i++) total += forms[i].weight;
    drawn = below(pair, total);
    for (unsigned i = 0;; i++) {
        if (drawn < forms[i].weight) return &forms[i];
        drawn -= forms[i].weight;
    }
}

static const struct form *draw_form(struct pair *pair) {
    const struct form *form = draw_any_form(pair);
    while (pair->faulty && form->elsewhere) form = draw_any_form(pair);
    return form;
}

/* Most are small, some take pages, a few a run of segments; half of them can be compressed. */
static size_t draw_value(struct pair *pair, char *at) {
    static const char digits[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-";
    unsigned kind = below(pair, 1000);
    size_t length = 1 + (kind < 700   ? below(pair, 60)
                         : kind < 950 ? below(pair, 1500)
                         : kind < 990 ? below(pair, 20000)
                         : kind < 999 ? below(pair, 150000)
                                      : below(pair, 1800000));
    unsigned alphabet = below(pair, 2) ? 2 : 64;
    uint64_t word = 0;
    for (size_t i = 0; i < length; i++) {
        if (i % 10 == 0) word = random_next(&pair->random);
        at[i] = digits[(word & 63) % alphabet];
        word >>= 6;
    }
    return length;
}

static size_t draw_word(struct pair *pair, char kind, char *at) {
    switch (kind) {
    case 'k': return (size_t)sprintf(at, below(pair, 4) ? "key:%u" : "a-key-with-a-longer-name:%u", below(pair, KEYS));
    case 'h': return (size_t)sprintf(at, "log:%u", below(pair, 20));
    case 's': return (size_t)sprintf(at, "stable:%u", below(pair, STABLE));
    case 'i': return (size_t)sprintf(at, "%u", below(pair, 2000));
    case 't': return (size_t)sprintf(at, "%u", 1 + below(pair, TIME_MAX_MS));
    case 'd': return (size_t)sprintf(at, "%u", below(pair, DATABASES));
    default: return draw_value(pair, at);
    }
}

/* Fills the form in at `at`; returns the end. */
static char *fill_in(struct pair *pair, const char *form, char *at) {
    for (; *form; form++) {
        if (*form == '%')
            at += draw_word(pair, *++form, at);
        else
            *at++ = *form;
    }
    *at = '\0';
    return at;
}

static void run(struct in_process *server, const char *line) {
    struct span words[WORDS_MAX];
    uint32_t count = 0;
    for (const char *at = line; *at; at += *at == ' ') {
        words[count++] = span_of(at, strcspn(at, " "));
        at += words[count - 1].length;
    }
    in_process_run_arguments(server, words, count);
}

static bool is_refused(const struct in_process *server) {
    return strncmp(server->reply, io_error, sizeof(io_error) - 1) == 0;
}

static void assert_same_replies(const struct pair *pair, const char *line) {
    const struct in_process *subject = pair->subject, *model = pair->model;
    if (subject->reply_length == model->reply_length && memcmp(subject->reply, model->reply, model->reply_length) == 0)
        return;
    fail_msg("%.300s\n  expected %.300s (%zu bytes)\n  got      %.300s (%zu bytes)", line, model->reply,
             model->reply_length, subject->reply, subject->reply_length);
}

/* True: it was run, and answered alike. */
static bool run_both(struct pair *pair, const char *line) {
    run(pair->subject, line);
    if (pair->faulty && is_refused(pair->subject)) {
        pair->refused++;
        return false;
    }
    run(pair->model, line);
    assert_same_replies(pair, line);
    return true;
}

static void run_random(struct pair *pair) {
    fill_in(pair, draw_form(pair)->text, pair->text);
    run_both(pair, pair->text);
}

/* ---- transactions ---- */

/* Behind the reply at `at`; of one that is an array, behind all of it. */
static const char *skip_reply(const char *at) {
    const char *end = strchr(at, '\n') + 1;
    long count = strtol(at + 1, NULL, 10);
    if (*at == '$') return count < 0 ? end : end + count + 2;
    if (*at != '*') return end;
    for (; count > 0; count--) end = skip_reply(end);
    return end;
}

static void use_second_client(struct pair *pair, bool second) {
    pair->subject->session = second ? &pair->own[0] : &pair->subject->own_session;
    pair->model->session = second ? &pair->own[1] : &pair->model->own_session;
}

/* Queues `count` commands; the model is only told of those that the subject answered without an error of its own. */
static void run_transaction(struct pair *pair, unsigned count) {
    char *lines[QUEUED_MAX], *at = pair->text;
    bool refused[QUEUED_MAX] = {false};
    run(pair->subject, "MULTI");
    for (unsigned i = 0; i < count; i++) {
        lines[i] = at;
        const struct form *form = draw_form(pair);
        while (pair->faulty && strncmp(form->text, "SELECT", 6) == 0) form = draw_form(pair);
        at = fill_in(pair, form->text, at) + 1;
        run(pair->subject, lines[i]);
        assert_string_equal(pair->subject->reply, "+QUEUED\r\n");
    }
    run(pair->subject, "EXEC");
    char *copy = malloc(pair->subject->reply_length + 1);
    memcpy(copy, pair->subject->reply, pair->subject->reply_length + 1);
    bool dirty = strcmp(copy, "*-1\r\n") == 0;
    const char *reply = dirty ? copy : strchr(copy, '\n') + 1;
    for (unsigned i = 0; i < count && !dirty; i++) {
        refused[i] = strncmp(reply, io_error, sizeof(io_error) - 1) == 0;
        pair->refused += refused[i];
        assert_true(pair->faulty || !refused[i]);
        reply = skip_reply(reply);
    }
    run(pair->model, "MULTI");
    for (unsigned i = 0; i < count; i++)
        if (!refused[i]) run(pair->model, lines[i]);
    run(pair->model, "EXEC");
    reply = dirty ? copy : strchr(copy, '\n') + 1;
    const char *expected = dirty ? pair->model->reply : strchr(pair->model->reply, '\n') + 1;
    if (dirty) assert_string_equal(pair->model->reply, "*-1\r\n");
    for (unsigned i = 0; i < count && !dirty; i++) {
        const char *end = skip_reply(reply);
        size_t length = (size_t)(end - reply);
        if (!refused[i]) {
            if (memcmp(reply, expected, length) != 0)
                fail_msg("in EXEC: %.200s\n  expected %.200s\n  got      %.200s", lines[i], expected, reply);
            expected += length;
        }
        reply = end;
    }
    free(copy);
}

static void run_watched_transaction(struct pair *pair) {
    char line[64];
    fill_in(pair, below(pair, 2) ? "WATCH %k %k" : "WATCH %h", line);
    bool watched = run_both(pair, line);
    if (below(pair, 2)) {
        use_second_client(pair, true);
        for (unsigned i = below(pair, 8); i > 0; i--) run_random(pair);
        use_second_client(pair, false);
    }
    if (watched)
        run_transaction(pair, below(pair, QUEUED_MAX));
    else
        run_both(pair, "UNWATCH");
}

/* ---- what has no order ---- */

static void check_random_key(struct pair *pair) {
    run(pair->subject, "RANDOMKEY");
    if (pair->subject->reply[1] == '-') {
        run(pair->model, "RANDOMKEY");
        if (!pair->faulty) assert_string_equal(pair->model->reply, "$-1\r\n");
        return;
    }
    char line[128];
    const char *name = strchr(pair->subject->reply, '\n') + 1;
    snprintf(line, sizeof(line), "EXISTS %.*s", (int)strcspn(name, "\r"), name);
    run(pair->model, line);
    assert_string_equal(pair->model->reply, ":1\r\n");
}

/* From beginning to end while other commands run: what was there all the time is found. */
static void check_scan(struct pair *pair) {
    char line[64], cursor[32] = "0";
    bool found[STABLE] = {false};
    uint32_t database = pair->subject->session->database;
    for (unsigned i = 0; i < STABLE; i++) {
        snprintf(line, sizeof(line), "SETNX stable:%u %u", i, i);
        while (!run_both(pair, line)) continue;
    }
    do {
        snprintf(line, sizeof(line), "SCAN %s COUNT %u", cursor, 1 + below(pair, 40));
        run(pair->subject, line);
        const char *at = strchr(pair->subject->reply, '\n') + 1;
        at = strchr(at, '\n') + 1;
        snprintf(cursor, sizeof(cursor), "%.*s", (int)strcspn(at, "\r"), at);
        while ((at = strstr(at, "\r\nstable:"))) {
            at += strlen("\r\nstable:");
            found[strtoul(at, NULL, 10)] = true;
        }
        for (unsigned i = below(pair, 3); i > 0; i--) {
            fill_in(pair, draw_form(pair)->text, pair->text);
            if (strncmp(pair->text, "SELECT", 6) != 0) run_both(pair, pair->text);
        }
        assert_int_equal(pair->subject->session->database, database);
    } while (strcmp(cursor, "0") != 0);
    for (unsigned i = 0; i < STABLE && !pair->faulty; i++)
        if (!found[i]) fail_msg("SCAN did not find stable:%u", i);
}

/* ---- moving ---- */

static void sweep_a_step(struct pair *pair) {
    const struct keyspace_sweeper sweeper = {pair->subject->port, &pair->sweep_waiter};
    (void)keyspace_sweep(pair->subject->keyspace, below(pair, SHARDS), pair->subject->dispatcher->now_ms, SLICE_NS,
                         &sweeper);
}

/* Twice: the first pass may have begun in the middle. */
static void sweep_all(struct pair *pair) {
    const struct keyspace_sweeper sweeper = {pair->subject->port, &pair->sweep_waiter};
    int64_t now_ms = pair->subject->dispatcher->now_ms;
    for (uint32_t i = 0; i < 2 * SHARDS; i++) {
        while (keyspace_sweep(pair->model->keyspace, i / 2, now_ms, SLICE_NS, NULL) >= 0) continue;
        while (keyspace_sweep(pair->subject->keyspace, i / 2, now_ms, SLICE_NS, &sweeper) >= 0) {
            in_process_turn(pair->subject);
            while (tier_next_ready(pair->subject->port)) continue;
        }
    }
}

static size_t near_bytes(const struct in_process *server, uint32_t shard) {
    return server->keyspace->shards[shard].heap.sums.live_bytes;
}

static void demote(struct pair *pair) {
    struct in_process *subject = pair->subject;
    uint32_t shard = below(pair, SHARDS);
    size_t held = near_bytes(subject, shard), share = BUDGET_BYTES / SHARDS, freed;
    struct demotion demotion = {.now_ms = subject->dispatcher->now_ms,
                                .budget_ns = SLICE_NS,
                                .wanted_bytes = held > share ? held - share : 1000,
                                .urgent = below(pair, 2),
                                .far_only = below(pair, 4) == 0};
    (void)keyspace_demote(subject->keyspace, shard, subject->port, &demotion, &freed);
}

static void clean(struct pair *pair) {
    struct in_process *subject = pair->subject;
    enum tier_clean_mode mode = below(pair, 4) ? TIER_CLEAN_NEEDED : TIER_CLEAN_ALL;
    (void)keyspace_clean(subject->keyspace, subject->port, mode, subject->dispatcher->now_ms, SLICE_NS);
}

static void advance(struct pair *pair, int64_t ms) {
    in_process_advance(pair->subject, ms);
    in_process_advance(pair->model, ms);
}

static void note_media(struct pair *pair) {
    struct view view = {.keyspace = pair->subject->keyspace};
    struct keyspace_usage usage;
    keyspace_usage(&view, &usage);
    if (usage.far_records > pair->far_records_max) pair->far_records_max = usage.far_records;
    if (usage.cold_records > pair->cold_records_max) pair->cold_records_max = usage.cold_records;
}

static void do_something_between(struct pair *pair) {
    struct in_process *subject = pair->subject;
    unsigned kind = below(pair, 100);
    if (kind < 45) demote(pair);
    if (kind >= 45 && kind < 65) clean(pair);
    if (kind >= 65 && kind < 85) in_process_turn(subject);
    if (kind == 85) tier_port_flush(subject->port);
    if (kind == 86) sweep_a_step(pair);
    if (kind == 87) note_media(pair);
    if (kind >= 88 && kind < 92) advance(pair, below(pair, 50));
    if (kind == 92) keyspace_compact(subject->keyspace, below(pair, SHARDS), 50);
    if (kind == 93) keyspace_drain(subject->keyspace, below(pair, SHARDS), SLICE_NS);
    if (kind == 94 && below(pair, 30) == 0) assert_true(keyspace_validate(subject->keyspace));
}

static void flush_or_swap(struct pair *pair) {
    char line[32];
    fill_in(pair, below(pair, 4) ? "SWAPDB %d %d" : "FLUSHDB", line);
    run_both(pair, line);
}

/* Pages of which little has expired are left alone by the sweep, so everything has to. */
static void check_size(struct pair *pair) {
    if (pair->faulty) return;
    advance(pair, TIME_MAX_MS + 2000);
    sweep_all(pair);
    run_both(pair, "DBSIZE");
}

static void step(struct pair *pair) {
    unsigned kind = below(pair, 1000);
    if (kind < 20)
        run_watched_transaction(pair);
    else if (kind < 30)
        check_random_key(pair);
    else if (kind < 31)
        check_scan(pair);
    else if (kind < 35)
        check_size(pair);
    else if (kind < 38)
        flush_or_swap(pair);
    else
        run_random(pair);
    do_something_between(pair);
}

/* Every record of the model, read back with as many tries as the faults make necessary. */
static void check_everything(struct pair *pair) {
    char line[64];
    for (unsigned database = 0; database < DATABASES; database++) {
        snprintf(line, sizeof(line), "SELECT %u", database);
        run_both(pair, line);
        for (unsigned i = 0; i < KEYS + KEYS + STABLE + 20; i++) {
            if (i < KEYS)
                snprintf(line, sizeof(line), "GET key:%u", i);
            else if (i < 2 * KEYS)
                snprintf(line, sizeof(line), "GET a-key-with-a-longer-name:%u", i - KEYS);
            else
                snprintf(line, sizeof(line), i < 2 * KEYS + STABLE ? "GET stable:%u" : "GET log:%u",
                         i < 2 * KEYS + STABLE ? i - 2 * KEYS : i - 2 * KEYS - STABLE);
            unsigned tries = 0;
            while (!run_both(pair, line))
                if (++tries == 200) fail_msg("%s: cannot be read any more", line);
        }
    }
}

/* ---- the two ---- */

static uint64_t seed_of_test(void) {
    uint64_t seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu (TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

static void begin(struct pair *pair, const struct tier_options *tier) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {bitmap_commands, bitmap_command_count},
                                              {hyperloglog_commands, hyperloglog_command_count},
                                              {transaction_commands, transaction_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count},
                                              {key_scan_commands, key_scan_command_count},
                                              {database_commands, database_command_count}};
    struct in_process_options options = {.families = families, .family_count = 8, .shards = SHARDS};
    pair->model = in_process_create_with(&options);
    options.tier = tier;
    options.far_bytes_max = FAR_BYTES;
    pair->subject = in_process_create_with(&options);
    pair->text = malloc(QUEUED_MAX * (size_t)TEXT_MAX);
    for (unsigned i = 0; i < 2; i++) {
        session_init(&pair->own[i], 2, IN_PROCESS_START_MS);
        pair->own[i].authenticated = true;
    }
}

static void end(struct pair *pair) {
    tier_release(pair->subject->port, &pair->sweep_waiter);
    in_process_end_session(pair->subject, &pair->own[0]);
    in_process_end_session(pair->model, &pair->own[1]);
    in_process_destroy(pair->subject);
    in_process_destroy(pair->model);
    free(pair->text);
}

static void run_model(const struct tier_options *tier, bool faulty, struct tier_figures *figures) {
    struct pair pair = {.faulty = faulty};
    struct keyspace_usage usage;
    random_seed(&pair.random, seed_of_test());
    begin(&pair, tier);
    struct view view = {.keyspace = pair.subject->keyspace};
    for (unsigned i = 0; i < COMMANDS; i++) step(&pair);
    check_everything(&pair);
    keyspace_usage(&view, &usage);
    tier_figures(pair.subject->tier, figures);
    printf("at most %llu records far, %llu on the tier; %llu demotions, %llu promotions, %llu segments cleaned, %llu "
           "waits, "
           "%llu refused, %llu stale reads, write amplification %.2f\n",
           (unsigned long long)pair.far_records_max, (unsigned long long)pair.cold_records_max,
           (unsigned long long)usage.counters.demotions, (unsigned long long)usage.counters.promotions,
           (unsigned long long)figures->cleaned_segments, (unsigned long long)pair.subject->waits,
           (unsigned long long)pair.refused, (unsigned long long)figures->stale_reads,
           (double)figures->written_bytes / (double)(figures->appended_bytes + 1));
    assert_true(pair.far_records_max > 0 && pair.cold_records_max > 0);
    assert_true(usage.counters.demotions > 100 && usage.counters.promotions > 100 && pair.subject->waits > 100);
    assert_true(figures->cleaned_segments > 0);
    end(&pair);
}

static const struct tier_options plain = {.path = "tier",
                                          .size_bytes = (uint64_t)SEGMENTS * SEGMENT,
                                          .segment_bytes = SEGMENT,
                                          .memory_bytes = 32 << 20,
                                          .direct = TIER_DIRECT_AUTO};

static void it_answers_like_a_server_without_a_tier(void **state) {
    (void)state;
    struct tier_figures figures;
    run_model(&plain, false, &figures);
    assert_int_equal(figures.failed_reads, 0);
}

static void compressed_blocks_change_nothing(void **state) {
    (void)state;
    struct tier_figures figures;
    struct tier_options options = plain;
    options.compress = true;
    options.io = TIER_IO_THREADS;
    run_model(&options, false, &figures);
    assert_int_equal(figures.failed_reads, 0);
}

static void short_transfers_and_delays_change_nothing(void **state) {
    (void)state;
    struct tier_figures figures;
    struct tier_options options = plain;
    options.compress = true;
    options.faults =
        (struct tier_io_faults){.seed = 5, .short_transfer = 200000, .delay = 300000, .delay_reaps_max = 20};
    run_model(&options, false, &figures);
    assert_int_equal(figures.failed_reads, 0);
}

static void failures_are_told_and_nothing_is_lost(void **state) {
    (void)state;
    struct tier_figures figures;
    struct tier_options options = plain;
    options.faults = (struct tier_io_faults){.seed = 6,
                                             .read_error = 20000,
                                             .write_error = 100000,
                                             .flipped_bit = 10000,
                                             .short_transfer = 100000,
                                             .delay = 100000,
                                             .delay_reaps_max = 10};
    run_model(&options, true, &figures);
    assert_true(figures.failed_reads > 0 && figures.failed_writes > 0);
}

int main(void) {
    log_set_level(LOG_LEVEL_NOTHING);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_answers_like_a_server_without_a_tier),
        cmocka_unit_test(compressed_blocks_change_nothing),
        cmocka_unit_test(short_transfers_and_delays_change_nothing),
        cmocka_unit_test(failures_are_told_and_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
