/* Whole commands from several threads at once, as workers run them: optimistic transactions that must not lose an
 * update, commands of several keys that must not be seen half done, commands that lock every shard in between. */

#include "base/random.h"
#include "command/dispatch.h"
#include "command/families.h"
#include "command/string_value.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { THREADS = 4, ROUNDS = 1500, KEYS = 12, SHARDS = 16, TEXT_MAX = 4096 };

/* ---- a family: ADD key n, BOTH a b value (sets both), SAME a b (1 if they are equal), SUM (of all keys, all locked)
 * ---- */

static int64_t value_of(const struct view *view, const struct key *key) {
    struct lookup lookup = keyspace_read(view, key);
    return lookup.record ? record_integer(lookup.record) : 0;
}

static void command_add(struct call *call) {
    int64_t amount;
    if (!call_integer(call, 2, &amount)) return;
    int64_t value = value_of(&call->view, &call->keys[0]) + amount;
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (string_store_integer(call, &call->keys[0], &lookup, value, RECORD_EXPIRY_NONE))
        reply_integer(call->reply, value);
}

static void command_read(struct call *call) {
    reply_integer(call->reply, value_of(&call->view, &call->keys[0]));
}

static void command_both(struct call *call) {
    int64_t value;
    if (!call_integer(call, 3, &value)) return;
    for (unsigned i = 0; i < 2; i++) {
        struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[i]);
        if (!string_store_integer(call, &call->keys[i], &lookup, value, RECORD_EXPIRY_NONE)) return;
    }
    reply_ok(call->reply);
}

static void command_same(struct call *call) {
    reply_integer(call->reply, value_of(&call->view, &call->keys[0]) == value_of(&call->view, &call->keys[1]));
}

static struct key number_key(struct keyspace *keyspace, unsigned number, char text[32]) {
    return keyspace_key(keyspace, span_of(text, (size_t)snprintf(text, 32, "key:%u", number)));
}

static void command_sum(struct call *call) {
    int64_t sum = 0;
    char text[32];
    for (unsigned i = 0; i < KEYS; i++) {
        struct key key = number_key(call->view.keyspace, i, text);
        sum += value_of(&call->view, &key);
    }
    reply_integer(call->reply, sum);
}

static const struct command_spec commands[] = {
    {.name = "add", .handler = command_add, .arity = 3, .flags = COMMAND_WRITE, .keys = {KEY_AT(1, KEY_RW)}},
    {.name = "read", .handler = command_read, .arity = 2, .flags = COMMAND_READONLY, .keys = {KEY_AT(1, KEY_RO)}},
    {.name = "both", .handler = command_both, .arity = 4, .flags = COMMAND_WRITE, .keys = {KEYS_FROM(1, 1, 1, KEY_OW)}},
    {.name = "same",
     .handler = command_same,
     .arity = 3,
     .flags = COMMAND_READONLY,
     .keys = {KEYS_FROM(1, 1, 1, KEY_RO)}},
    {.name = "sum", .handler = command_sum, .arity = 1, .flags = COMMAND_READONLY | COMMAND_ALL_SHARDS},
};

/* ---- workers ---- */

struct shared {
    struct keyspace *keyspace;
    struct command_table *table;
    struct command_host host;
    uint64_t seed;
    atomic_uint committed, refused;
};

struct worker {
    struct shared *shared;
    unsigned number;
    struct random random;
    struct dispatcher *dispatcher;
    struct command_stats *stats;
    struct session session;
    struct reply reply;
    struct resp_parser parser;
    char *text; /* replies to the last batch */
    pthread_t thread;
};

/* Lines of words as arrays of bulk strings, which, unlike inline commands, make batches. Returns the length. */
static size_t encode(const char *lines, char *out) {
    size_t length = 0;
    while (*lines) {
        size_t line = strcspn(lines, "\n"), count = 1;
        for (size_t i = 0; i < line; i++) count += lines[i] == ' ';
        length += (size_t)sprintf(out + length, "*%zu\r\n", count);
        for (; count > 0; count--) {
            size_t word = strcspn(lines, " \n");
            length += (size_t)sprintf(out + length, "$%zu\r\n%.*s\r\n", word, (int)word, lines);
            lines += word + 1;
        }
    }
    return length;
}

/* Runs lines as one batch; the replies are in worker->text. */
static const char *run(struct worker *worker, const char *lines) {
    size_t consumed, length = 0, count;
    struct retire_list *retired = worker->shared->keyspace->retired;
    struct iovec vectors[64];
    char input[TEXT_MAX];
    size_t input_length = encode(lines, input);
    retire_online(retired, worker->number);
    dispatch_input(worker->dispatcher, &worker->session, &worker->parser, span_of(input, input_length), &worker->reply,
                   &consumed);
    retire_offline(retired, worker->number);
    if (consumed != input_length) abort();
    while (reply_bytes_pending(&worker->reply) && (count = reply_vectors(&worker->reply, vectors, 64)) > 0) {
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

static void open_worker(struct worker *worker, struct shared *shared, unsigned number) {
    *worker = (struct worker){.shared = shared, .number = number};
    random_seed(&worker->random, shared->seed + number);
    worker->stats = command_stats_create(command_table_ids(shared->table));
    worker->dispatcher = malloc(sizeof(*worker->dispatcher));
    worker->text = malloc(TEXT_MAX);
    dispatcher_init(worker->dispatcher, shared->keyspace, shared->table, &shared->host, worker->stats, number, number);
    worker->dispatcher->now_ms = 1785000000000;
    session_init(&worker->session, number, 0);
    worker->session.authenticated = true;
    reply_init(&worker->reply, NULL, 0, NULL, NULL);
    resp_parser_init(&worker->parser);
}

static void close_worker(struct worker *worker) {
    transaction_unwatch(worker->dispatcher, &worker->session, false);
    session_free(&worker->session);
    resp_parser_reset(&worker->parser);
    reply_clear(&worker->reply);
    command_stats_destroy(worker->stats);
    free(worker->dispatcher);
    free(worker->text);
}

static void set_up(struct shared *shared) {
    const struct command_family families[] = {{commands, sizeof(commands) / sizeof(commands[0])},
                                              {transaction_commands, transaction_command_count}};
    shared->seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)shared->seed);
    const struct keyspace_options options = {.shards = SHARDS, .databases = 2, .locking = true, .seed = shared->seed};
    shared->keyspace = keyspace_create(&options);
    shared->table = command_table_create(families, 2);
    atomic_store(&shared->host.slow_ns, UINT64_MAX);
    atomic_store(&shared->host.bulk_bytes_max, 1000);
}

static void tear_down(struct shared *shared) {
    for (uint32_t i = 0; i < SHARDS; i++) assert_int_equal(shared->keyspace->shards[i].watches.count, 0);
    assert_true(keyspace_validate(shared->keyspace));
    command_table_destroy(shared->table);
    keyspace_destroy(shared->keyspace);
}

static void run_threads(struct shared *shared, struct worker *workers, void *(*body)(void *)) {
    for (unsigned i = 0; i < THREADS; i++) open_worker(&workers[i], shared, i);
    for (unsigned i = 0; i < THREADS; i++) pthread_create(&workers[i].thread, NULL, body, &workers[i]);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
}

/* ---- optimistic transactions ---- */

/* Reads two balances, then moves an amount by setting both to what follows from the read: lost if anybody came between.
 */
static void *move_optimistically(void *arg) {
    struct worker *worker = arg;
    char lines[256];
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned from = (unsigned)random_below(&worker->random, KEYS), to = (from + 1) % KEYS;
        long long first, second, amount = (long long)random_below(&worker->random, 100);
        snprintf(lines, sizeof(lines), "watch key:%u key:%u\nread key:%u\nread key:%u\n", from, to, from, to);
        if (sscanf(run(worker, lines), "+OK\r\n:%lld\r\n:%lld\r\n", &first, &second) != 2) abort();
        snprintf(lines, sizeof(lines), "multi\nadd key:%u %lld\nread key:%u\nadd key:%u %lld\nread key:%u\nexec\n",
                 from, -amount, from, to, amount, to);
        const char *reply = strchr(run(worker, lines), '*');
        long long added[2], read[2];
        if (!reply) abort();
        if (strcmp(reply, "*-1\r\n") == 0) {
            atomic_fetch_add(&worker->shared->refused, 1);
            continue;
        }
        if (sscanf(reply, "*4\r\n:%lld\r\n:%lld\r\n:%lld\r\n:%lld\r\n", &added[0], &read[0], &added[1], &read[1]) != 4)
            abort();
        if (added[0] != first - amount || added[1] != second + amount) abort(); /* somebody changed what was watched */
        if (added[0] != read[0] || added[1] != read[1]) abort();                /* somebody came in between */
        atomic_fetch_add(&worker->shared->committed, 1);
        if (round % 10 == 0 && strcmp(run(worker, "sum\n"), ":0\r\n") != 0) abort();
        if (round % 64 == 0) retire_collect(worker->shared->keyspace->retired);
    }
    return NULL;
}

static void watched_transactions_lose_no_update(void **state) {
    (void)state;
    static struct shared shared;
    struct worker workers[THREADS];
    set_up(&shared);
    run_threads(&shared, workers, move_optimistically);
    assert_string_equal(run(&workers[0], "sum\n"), ":0\r\n");
    assert_int_equal(atomic_load(&shared.committed) + atomic_load(&shared.refused), THREADS * ROUNDS);
    assert_true(atomic_load(&shared.committed) > 0);
    printf("committed %u, refused %u\n", atomic_load(&shared.committed), atomic_load(&shared.refused));
    for (unsigned i = 0; i < THREADS; i++) close_worker(&workers[i]);
    tear_down(&shared);
}

/* ---- several keys at once ---- */

static void *set_and_compare(void *arg) {
    struct worker *worker = arg;
    char lines[512];
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned pair = (unsigned)random_below(&worker->random, KEYS / 2);
        int length = 0;
        for (unsigned i = 0; i < 3; i++)
            length += snprintf(lines + length, sizeof(lines) - (size_t)length,
                               "both key:%u other:%u %u\nsame other:%u key:%u\n", pair, pair,
                               (unsigned)random_below(&worker->random, 1000000), pair, pair);
        if (strcmp(run(worker, lines), "+OK\r\n:1\r\n+OK\r\n:1\r\n+OK\r\n:1\r\n") != 0) abort();
    }
    return NULL;
}

static void commands_of_several_keys_are_never_seen_half_done(void **state) {
    (void)state;
    static struct shared shared;
    struct worker workers[THREADS];
    set_up(&shared);
    run_threads(&shared, workers, set_and_compare);
    uint64_t processed = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        processed += stat_get(&workers[i].stats->commands_processed);
        close_worker(&workers[i]);
    }
    assert_int_equal(processed, THREADS * ROUNDS * 6);
    tear_down(&shared);
}

/* ---- one counter that everybody wants ---- */

static void *add_in_transactions(void *arg) {
    struct worker *worker = arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        const char *reply = run(worker, "multi\nadd counter 1\nadd counter 1\nexec\nadd counter -1\n");
        long long first, second, third;
        if (sscanf(reply, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:%lld\r\n:%lld\r\n:%lld\r\n", &first, &second, &third) !=
            3)
            abort();
        if (second != first + 1) abort();
    }
    return NULL;
}

static void nothing_comes_between_the_commands_of_a_transaction(void **state) {
    (void)state;
    static struct shared shared;
    struct worker workers[THREADS];
    char wanted[32];
    set_up(&shared);
    run_threads(&shared, workers, add_in_transactions);
    snprintf(wanted, sizeof(wanted), ":%d\r\n", THREADS * ROUNDS);
    assert_string_equal(run(&workers[0], "read counter\n"), wanted);
    for (unsigned i = 0; i < THREADS; i++) close_worker(&workers[i]);
    tear_down(&shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(watched_transactions_lose_no_update),
        cmocka_unit_test(commands_of_several_keys_are_never_seen_half_done),
        cmocka_unit_test(nothing_comes_between_the_commands_of_a_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
