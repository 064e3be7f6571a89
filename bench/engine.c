/* terrace-engine-bench: the command layer without a network.
 *
 * Each thread has a dispatcher and runs batches of GET or SET requests over a shared keyspace, through the same code
 * that serves clients behind the parser: command lookup, hashing, prefetch, locks, handler, statistics, reply. Reported
 * is the rate of all threads together, from the first batch after all have started.
 *
 *   terrace-engine-bench [--keys N] [--batch N] [--threads N] [--seconds S] [--value-size N] */

#include "base/clock.h"
#include "command/dispatch.h"
#include "command/families.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { KEY_BYTES = 16, TEXT_BYTES = 24 };

static struct options {
    uint64_t keys;
    unsigned batch, threads, value_size;
    double seconds;
} options = {.keys = 10000000, .batch = 32, .threads = 1, .value_size = 32, .seconds = 3};

struct runner {
    _Alignas(64) struct dispatcher dispatcher;
    struct session session;
    struct reply reply;
    struct request requests[LIMIT_BATCH_COMMANDS];
    struct span argv[LIMIT_BATCH_COMMANDS][3];
    char keys[LIMIT_BATCH_COMMANDS][TEXT_BYTES];
    char *block, *value;
    uint64_t random, operations;
    unsigned id;
    bool set;
};

static pthread_barrier_t barrier;
static struct keyspace *keyspace;
static struct command_table *table;

/* Four digits at a time from a table, so that making keys costs little beside using them. */
static char four_digits[10000][4];

static void write_key(char *key, uint64_t number) {
    memcpy(key, "key:", 4);
    memcpy(key + 4, four_digits[number / 100000000 % 10000], 4);
    memcpy(key + 8, four_digits[number / 10000 % 10000], 4);
    memcpy(key + 12, four_digits[number % 10000], 4);
}

static uint64_t next(struct runner *runner) {
    uint64_t x = runner->random;
    x ^= x << 13;
    x ^= x >> 7;
    return runner->random = x ^ x << 17;
}

static void run_batch(struct runner *runner, unsigned count) {
    enum dispatch_result result;
    retire_online(keyspace->retired, runner->id);
    unsigned done =
        dispatch_requests(&runner->dispatcher, &runner->session, runner->requests, count, &runner->reply, &result);
    retire_offline(keyspace->retired, runner->id);
    if (done != count || runner->reply.errors) {
        fprintf(stderr, "a command failed: %s\n", runner->reply.error_code);
        exit(1);
    }
    reply_clear(&runner->reply);
    runner->operations += count;
}

static void prepare(struct runner *runner, bool set) {
    runner->set = set;
    for (unsigned i = 0; i < LIMIT_BATCH_COMMANDS; i++) {
        runner->argv[i][0] = set ? SPAN_LITERAL("SET") : SPAN_LITERAL("GET");
        runner->argv[i][1] = span_of(runner->keys[i], KEY_BYTES);
        runner->argv[i][2] = span_of(runner->value, options.value_size);
        runner->requests[i].argv = runner->argv[i];
        runner->requests[i].argc = set ? 3 : 2;
    }
}

static void load(struct runner *runner) {
    prepare(runner, true);
    for (uint64_t at = runner->id; at < options.keys;) {
        unsigned count = 0;
        for (; count < options.batch && at < options.keys; at += options.threads) write_key(runner->keys[count++], at);
        run_batch(runner, count);
    }
}

static double measure(struct runner *runner, bool set) {
    prepare(runner, set);
    runner->operations = 0;
    pthread_barrier_wait(&barrier);
    int64_t start = clock_monotonic_ns(), end = start + (int64_t)(options.seconds * 1e9);
    while (clock_monotonic_ns() < end) {
        runner->dispatcher.now_ms = clock_unix_ms();
        for (unsigned i = 0; i < options.batch; i++) write_key(runner->keys[i], next(runner) % options.keys);
        run_batch(runner, options.batch);
    }
    double rate = (double)runner->operations / ((double)(clock_monotonic_ns() - start) / 1e9);
    pthread_barrier_wait(&barrier);
    return rate;
}

static double load_rates[64], get_rates[64], set_rates[64];

static void *run(void *argument) {
    struct runner *runner = argument;
    cpu_set_t available;
    if (sched_getaffinity(0, sizeof(available), &available) == 0 && CPU_COUNT(&available) >= (int)options.threads) {
        int cpu = -1;
        for (unsigned i = 0; i <= runner->id; i++) do
                cpu++;
            while (!CPU_ISSET(cpu, &available));
        cpu_set_t own;
        CPU_ZERO(&own);
        CPU_SET(cpu, &own);
        pthread_setaffinity_np(pthread_self(), sizeof(own), &own);
    }
    pthread_barrier_wait(&barrier);
    int64_t start = clock_monotonic_ns();
    load(runner);
    load_rates[runner->id] = (double)runner->operations / ((double)(clock_monotonic_ns() - start) / 1e9);
    while (runner->id == 0 && !region_pool_is_settled(keyspace->pools[0])) usleep(10000);
    pthread_barrier_wait(&barrier);
    get_rates[runner->id] = measure(runner, false);
    set_rates[runner->id] = measure(runner, true);
    return NULL;
}

static void parse(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--keys"))
            options.keys = strtoull(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--batch"))
            options.batch = (unsigned)atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--threads"))
            options.threads = (unsigned)atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--seconds"))
            options.seconds = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--value-size"))
            options.value_size = (unsigned)atoi(argv[i + 1]);
        else {
            fprintf(stderr, "unknown option %s; see the top of bench/engine.c\n", argv[i]);
            exit(1);
        }
    }
    if (options.batch < 1 || options.batch > LIMIT_BATCH_COMMANDS || options.threads < 1 || options.threads > 64 ||
        options.keys < 1) {
        fprintf(stderr, "--batch 1..%d, --threads 1..64, --keys at least 1\n", LIMIT_BATCH_COMMANDS);
        exit(1);
    }
}

static double sum(const double *rates) {
    double total = 0;
    for (unsigned i = 0; i < options.threads; i++) total += rates[i];
    return total;
}

int main(int argc, char **argv) {
    parse(argc, argv);
    clock_init();
    for (int i = 0; i < 10000; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%04d", i);
        memcpy(four_digits[i], text, 4);
    }
    struct keyspace_options keyspace_options = {
        .shards = keyspace_shards_for(options.threads), .locking = options.threads > 1, .huge_pages = true, .seed = 1};
    struct command_family families[] = {{string_commands, string_command_count}};
    keyspace = keyspace_create(&keyspace_options);
    table = command_table_create(families, 1);
    pthread_barrier_init(&barrier, NULL, options.threads);
    pthread_t threads[64];
    struct runner *runners[64];
    for (unsigned i = 0; i < options.threads; i++) {
        struct runner *runner = runners[i] = aligned_alloc(64, (sizeof(*runner) + 63) / 64 * 64);
        memset(runner, 0, sizeof(*runner));
        runner->id = i;
        runner->random = 88172645463325252u + i;
        runner->value = malloc(options.value_size + 1);
        memset(runner->value, 'v', options.value_size);
        runner->block = malloc(1 << 20);
        session_init(&runner->session, i, clock_unix_ms());
        runner->session.authenticated = true;
        reply_init(&runner->reply, runner->block, 1 << 20, NULL, NULL);
        dispatcher_init(&runner->dispatcher, keyspace, table, NULL, command_stats_create(command_table_ids(table)), i,
                        i + 1);
        runner->dispatcher.now_ms = clock_unix_ms();
        pthread_create(&threads[i], NULL, run, runner);
    }
    for (unsigned i = 0; i < options.threads; i++) pthread_join(threads[i], NULL);
    printf("%u thread%s, %llu keys of %d bytes, %u-byte values, batches of %u\n", options.threads,
           options.threads == 1 ? "" : "s", (unsigned long long)options.keys, KEY_BYTES, options.value_size,
           options.batch);
    printf("load  %10.2f M/s\nGET   %10.2f M/s\nSET   %10.2f M/s\n", sum(load_rates) / 1e6, sum(get_rates) / 1e6,
           sum(set_rates) / 1e6);
    return 0;
}
