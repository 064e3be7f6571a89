/* Workers with a port each over one tier: no command sees a value of another key, counters lose nothing, and
 * transactions stay whole, while records are demoted, promoted and cleaned by all of them at once. Run under
 * ThreadSanitizer too. */

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "command/dispatch.h"
#include "command/families.h"
#include "keyspace/keyspace_tier.h"
#include "tests/support/temporary_folder.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    THREADS = 3,
    SHARDS = 16,
    KEYS = 400,
    COUNTERS = 30,
    SEGMENT = 1 << 20,
    SEGMENTS = 24,
    SLICE_NS = 100000,
    TEXT_MAX = 1 << 16,
    VALUE_MAX = 6000,
#ifdef TERRACE_SANITIZE
    ROUNDS = 8000,
#else
    ROUNDS = 40000,
#endif
};

struct shared {
    struct keyspace *keyspace;
    struct command_table *table;
    struct command_host host;
    struct tier *tier;
    uint64_t seed;
    atomic_uint running;
};

struct worker {
    struct shared *shared;
    unsigned number;
    struct random random;
    struct dispatcher *dispatcher;
    struct command_stats *stats;
    struct tier_port *port;
    struct session session;
    struct tier_waiter sweep_waiter;
    struct reply reply;
    struct resp_parser parser;
    char *text; /* replies to the last command */
    uint64_t added, waited;
    uint64_t sum; /* of all counters in the end; the first one's */
    pthread_t thread;
};

/* ---- a worker's turn ---- */

static void release_pin(void *ctx, void *pinned, uint32_t pin_tag) {
    keyspace_unpin(ctx, pin_tag, pinned);
}

/* Of shards that are its own, as in the server. */
static void do_something_between(struct worker *worker) {
    struct keyspace *keyspace = worker->shared->keyspace;
    uint32_t shard = (uint32_t)(random_below(&worker->random, SHARDS) / THREADS * THREADS + worker->number) % SHARDS;
    const struct keyspace_sweeper sweeper = {worker->port, &worker->sweep_waiter};
    int64_t now_ms = worker->dispatcher->now_ms = clock_unix_ms();
    size_t freed;
    struct demotion demotion = {.now_ms = now_ms, .budget_ns = SLICE_NS, .wanted_bytes = 20000, .urgent = true};
    switch (random_below(&worker->random, 8)) {
    case 0:
    case 1:
    case 2: (void)keyspace_demote(keyspace, shard, worker->port, &demotion, &freed); break;
    case 3: (void)keyspace_clean(keyspace, worker->port, TIER_CLEAN_ALL, now_ms, SLICE_NS); break;
    case 4: (void)keyspace_sweep(keyspace, shard, now_ms, SLICE_NS, &sweeper); break;
    case 5: (void)keyspace_compact(keyspace, shard, 20); break;
    case 6: tier_port_flush(worker->port); break;
    default: retire_collect(keyspace->retired); break;
    }
}

static void wait_for_records(struct worker *worker) {
    struct tier_waiter *waiter;
    worker->waited++;
    for (;;) {
        while ((waiter = tier_next_ready(worker->port)))
            if (waiter == &worker->session.waiter) return;
        tier_port_wait(worker->port);
    }
}

static const char *collect(struct worker *worker) {
    struct iovec vectors[16];
    size_t length = 0, count;
    while (reply_bytes_pending(&worker->reply) && (count = reply_vectors(&worker->reply, vectors, 16)) > 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            if (length + bytes + vectors[i].iov_len >= TEXT_MAX) abort();
            memcpy(worker->text + length + bytes, vectors[i].iov_base, vectors[i].iov_len);
            bytes += vectors[i].iov_len;
        }
        reply_consume(&worker->reply, bytes);
        length += bytes;
    }
    worker->text[length] = '\0';
    return worker->text;
}

/* Lines that end with CR LF. A turn for each try, as records are waited for between turns. */
static const char *run(struct worker *worker, const char *lines) {
    struct retire_list *retired = worker->shared->keyspace->retired;
    size_t length = strlen(lines), done = 0, consumed;
    enum dispatch_result result;
    do {
        retire_online(retired, worker->number);
        tier_port_reap(worker->port);
        result = dispatch_input(worker->dispatcher, &worker->session, &worker->parser,
                                span_of(lines + done, length - done), &worker->reply, &consumed);
        done += consumed;
        do_something_between(worker);
        tier_port_turn_end(worker->port, clock_monotonic_ns());
        retire_offline(retired, worker->number);
        if (result == DISPATCH_WAITS) wait_for_records(worker);
    } while (result == DISPATCH_WAITS);
    if (done != length) abort();
    return collect(worker);
}

/* ---- what it does ---- */

/* The value of key n is "n:" and a letter as often as it pleases. */
static void set(struct worker *worker, unsigned key) {
    static _Thread_local char line[VALUE_MAX + 128];
    unsigned length = (unsigned)random_below(&worker->random, random_once_in(&worker->random, 10) ? VALUE_MAX : 300);
    int at = snprintf(line, sizeof(line), "SET key:%u %u:", key, key);
    memset(line + at, 'a' + (int)(key % 26), length);
    strcpy(line + at + length, random_once_in(&worker->random, 5) ? " PX 200\r\n" : "\r\n");
    if (strcmp(run(worker, line), "+OK\r\n") != 0) abort();
}

static void check_value(const char *value, unsigned key) {
    char *end;
    if (strtoul(value, &end, 10) != key || *end++ != ':') abort();
    while (*end == (char)('a' + (int)(key % 26))) end++;
    if (*end != '\r') abort();
}

static void get(struct worker *worker, unsigned key) {
    char line[64];
    snprintf(line, sizeof(line), "GET key:%u\r\n", key);
    const char *reply = run(worker, line);
    if (reply[0] != '$') abort();
    if (reply[1] != '-') check_value(strchr(reply, '\n') + 1, key);
}

static void add(struct worker *worker) {
    char line[128];
    unsigned counter = (unsigned)random_below(&worker->random, COUNTERS);
    if (random_once_in(&worker->random, 2)) {
        snprintf(line, sizeof(line), "INCR counter:%u\r\n", counter);
        if (run(worker, line)[0] != ':') abort();
        worker->added++;
        return;
    }
    snprintf(line, sizeof(line), "MULTI\r\nINCR counter:%u\r\nINCR counter:%u\r\nGET counter:%u\r\nEXEC\r\n", counter,
             (counter + 1) % COUNTERS, counter);
    long long first, second, read;
    const char *reply = strchr(run(worker, line), '*');
    if (!reply || sscanf(reply, "*3\r\n:%lld\r\n:%lld\r\n$%*d\r\n%lld", &first, &second, &read) != 3) abort();
    if (first != read) abort();
    worker->added += 2;
}

static uint64_t sum_of_counters(struct worker *worker) {
    uint64_t sum = 0;
    char line[64];
    for (unsigned i = 0; i < COUNTERS; i++) {
        snprintf(line, sizeof(line), "GET counter:%u\r\n", i);
        sum += strtoull(strchr(run(worker, line), '\n') + 1, NULL, 10);
    }
    return sum;
}

static void *work(void *arg) {
    struct worker *worker = arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned key = (unsigned)random_below(&worker->random, KEYS),
                 kind = (unsigned)random_below(&worker->random, 100);
        char line[64];
        if (kind < 30) {
            set(worker, key);
        } else if (kind < 65) {
            get(worker, key);
        } else if (kind < 80) {
            add(worker);
        } else if (kind < 90) {
            snprintf(line, sizeof(line), "DEL key:%u key:%u\r\n", key, (key + 7) % KEYS);
            if (run(worker, line)[0] != ':') abort();
        } else if (kind < 97) {
            snprintf(line, sizeof(line), "STRLEN key:%u\r\nEXISTS key:%u counter:1\r\n", key, key);
            if (run(worker, line)[0] != ':') abort();
        } else {
            snprintf(line, sizeof(line), kind == 97 ? "SCAN 0 COUNT 30\r\n" : "RANDOMKEY\r\n");
            char first = run(worker, line)[0];
            if (first != '*' && first != '$') abort();
        }
    }
    /* What the others still wait for may only end with this one's turns: writes it has begun. */
    atomic_fetch_sub(&worker->shared->running, 1);
    while (atomic_load(&worker->shared->running) > 0) tier_port_wait(worker->port);
    if (worker->number == 0) worker->sum = sum_of_counters(worker);
    tier_port_drain(worker->port); /* nobody else may do it */
    return NULL;
}

/* ---- the test ---- */

static void open_worker(struct worker *worker, struct shared *shared, unsigned number) {
    *worker = (struct worker){.shared = shared, .number = number};
    random_seed(&worker->random, shared->seed + number);
    worker->stats = command_stats_create(command_table_ids(shared->table));
    worker->dispatcher = malloc(sizeof(*worker->dispatcher));
    worker->text = malloc(TEXT_MAX);
    worker->port = tier_port_of(shared->tier, number);
    dispatcher_init(worker->dispatcher, shared->keyspace, shared->table, &shared->host, worker->stats, number,
                    number + 1);
    worker->dispatcher->now_ms = clock_unix_ms();
    worker->dispatcher->port = worker->port;
    session_init(&worker->session, number, 0);
    worker->session.authenticated = true;
    reply_init(&worker->reply, NULL, 0, release_pin, shared->keyspace);
    resp_parser_init(&worker->parser);
}

static void close_worker(struct worker *worker) {
    tier_release(worker->port, &worker->session.waiter);
    tier_release(worker->port, &worker->sweep_waiter);
    transaction_unwatch(worker->dispatcher, &worker->session, false);
    session_free(&worker->session);
    resp_parser_reset(&worker->parser);
    reply_clear(&worker->reply);
    command_stats_destroy(worker->stats);
    free(worker->dispatcher);
    free(worker->text);
}

static void set_up(struct shared *shared, struct tier_options options) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {key_commands, key_command_count},
                                              {key_scan_commands, key_scan_command_count},
                                              {transaction_commands, transaction_command_count}};
    char error[512] = "";
    *shared = (struct shared){.seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121};
    printf("seed %llu (TEST_SEED)\n", (unsigned long long)shared->seed);
    options.path = "tier";
    options.size_bytes = SEGMENTS * SEGMENT;
    options.segment_bytes = SEGMENT;
    options.memory_bytes = 96 << 20;
    options.ports = THREADS;
    shared->tier = tier_create(&options, error, sizeof(error));
    if (!shared->tier) fail_msg("%s", error);
    const struct keyspace_options keyspace = {
        .shards = SHARDS, .databases = 2, .locking = true, .seed = shared->seed, .tier = shared->tier};
    shared->keyspace = keyspace_create(&keyspace);
    shared->table = command_table_create(families, 4);
    atomic_store(&shared->host.slow_ns, UINT64_MAX);
    atomic_store(&shared->host.bulk_bytes_max, 100000);
    atomic_store(&shared->running, THREADS);
}

static void check_counters(const struct worker *workers) {
    uint64_t added = 0, waited = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        added += workers[i].added;
        waited += workers[i].waited;
    }
    assert_int_equal(workers[0].sum, added);
    assert_true(waited > 10);
}

static void run_workers(struct tier_options options) {
    static struct shared shared;
    struct worker workers[THREADS];
    struct tier_figures figures;
    set_up(&shared, options);
    for (unsigned i = 0; i < THREADS; i++) open_worker(&workers[i], &shared, i);
    for (unsigned i = 0; i < THREADS; i++) pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
    check_counters(workers);
    tier_figures(shared.tier, &figures);
    printf("%llu reads, %llu stale, %llu coalesced, %llu synchronous, %llu segments cleaned\n",
           (unsigned long long)figures.reads, (unsigned long long)figures.stale_reads,
           (unsigned long long)figures.coalesced_reads, (unsigned long long)figures.synchronous_reads,
           (unsigned long long)figures.cleaned_segments);
    assert_int_equal(figures.failed_reads, 0);
    assert_int_equal(figures.segments.damaged, 0);
    assert_true(figures.appended_records > 100);
    for (unsigned i = 0; i < THREADS; i++) close_worker(&workers[i]);
    assert_true(keyspace_validate(shared.keyspace));
    command_table_destroy(shared.table);
    keyspace_destroy(shared.keyspace);
    tier_destroy(shared.tier);
}

static void workers_share_a_tier(void **state) {
    (void)state;
    run_workers((struct tier_options){0});
}

static void workers_share_a_tier_through_threads_and_delays(void **state) {
    (void)state;
    run_workers(
        (struct tier_options){.compress = true,
                              .io = TIER_IO_THREADS,
                              .faults = {.seed = 1, .short_transfer = 100000, .delay = 200000, .delay_reaps_max = 8}});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_share_a_tier),
        cmocka_unit_test(workers_share_a_tier_through_threads_and_delays),
    };
    clock_init();
    log_set_level(LOG_LEVEL_NOTHING);
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
