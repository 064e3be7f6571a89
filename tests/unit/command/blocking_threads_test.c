/* Blocking commands from several workers at once: each has clients that push, wait for one or several keys, move items
 * from key to key, lose patience, and leave. In the end every item that was pushed has been given to exactly one
 * client, or lies in a key for which nobody waits. */

#include "base/random.h"
#include "command/dispatch.h"
#include "command/families.h"
#include "tests/support/blocking_family.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { THREADS = 4, CLIENTS = 6, ROUNDS = 4000, KEYS = 5, SHARDS = 16, ITEMS = THREADS * ROUNDS, TEXT_MAX = 1024 };

struct shared;

struct worker {
    struct shared *shared;
    unsigned number;
    struct random random;
    struct dispatcher *dispatcher;
    struct command_stats *stats;
    struct session clients[CLIENTS];
    bool moves[CLIENTS]; /* what it waits with is a move: its reply is no taking */
    unsigned pushed;
    pthread_mutex_t lock;
    struct blocked *mail; /* linked by next, newest first */
    pthread_t thread;
};

struct shared {
    struct keyspace *keyspace;
    struct command_table *table;
    struct command_host host;
    uint64_t seed;
    atomic_uint taken[ITEMS], served, timed_out;
    struct worker workers[THREADS];
};

static void deliver(void *ctx, struct blocked *blocked) {
    struct shared *shared = ctx;
    struct worker *worker = &shared->workers[blocked->worker];
    pthread_mutex_lock(&worker->lock);
    blocked->next = worker->mail;
    worker->mail = blocked;
    pthread_mutex_unlock(&worker->lock);
}

static void text_of(struct reply *reply, char text[TEXT_MAX]) {
    struct iovec vectors[16];
    size_t length = 0, count = reply_vectors(reply, vectors, 16);
    for (size_t i = 0; i < count; i++) {
        if (length + vectors[i].iov_len >= TEXT_MAX) abort();
        memcpy(text + length, vectors[i].iov_base, vectors[i].iov_len);
        length += vectors[i].iov_len;
    }
    text[length] = '\0';
    reply_clear(reply);
}

/* One command of words separated by blanks, by one client. */
static const char *run(struct worker *worker, unsigned client, const char *line, char text[TEXT_MAX]) {
    struct retire_list *retired = worker->shared->keyspace->retired;
    struct span argv[8];
    struct reply reply;
    uint32_t argc = 0;
    while (*line) {
        size_t length = strcspn(line, " ");
        argv[argc++] = span_of(line, length);
        line += length + (line[length] == ' ');
    }
    reply_init(&reply, NULL, 0, NULL, NULL);
    retire_online(retired, worker->number);
    dispatch_arguments(worker->dispatcher, &worker->clients[client], argv, argc, &reply);
    retire_offline(retired, worker->number);
    text_of(&reply, text);
    return text;
}

/* The reply to a command that takes: [key, item], or nothing. */
static void note(struct worker *worker, unsigned client, const char *text) {
    unsigned item;
    if (worker->moves[client] || strcmp(text, "") == 0) return;
    if (strcmp(text, "*-1\r\n") == 0) {
        atomic_fetch_add(&worker->shared->timed_out, 1);
        return;
    }
    const char *last = strrchr(text, '$');
    if (!last || sscanf(last, "$%*u\r\n%u", &item) != 1 || item >= ITEMS) abort();
    atomic_fetch_add(&worker->shared->taken[item], 1);
}

static void answer(struct worker *worker) {
    char text[TEXT_MAX];
    struct blocked *blocked, *mail, *inverse = NULL;
    pthread_mutex_lock(&worker->lock);
    mail = worker->mail;
    worker->mail = NULL;
    pthread_mutex_unlock(&worker->lock);
    while ((blocked = mail)) {
        mail = blocked->next;
        blocked->next = inverse;
        inverse = blocked;
    }
    while ((blocked = inverse)) {
        inverse = blocked->next;
        blocked_add_finished(worker->dispatcher, blocked);
    }
    blocked_expire(worker->dispatcher);
    while ((blocked = blocked_take_finished(worker->dispatcher))) {
        struct session *session = blocked->session;
        struct reply reply;
        reply_init(&reply, NULL, 0, NULL, NULL);
        blocked_answer(worker->dispatcher, blocked, &reply);
        text_of(&reply, text);
        if (!session) continue;
        atomic_fetch_add(&worker->shared->served, 1);
        note(worker, (unsigned)(session - worker->clients), text);
    }
}

static unsigned key(struct worker *worker) {
    return (unsigned)random_below(&worker->random, KEYS);
}

static void push(struct worker *worker, char line[128]) {
    unsigned first = worker->number * ROUNDS + worker->pushed++;
    snprintf(line, 128, "tpush key:%u %u", key(worker), first);
}

/* Something at random by a client that does not wait. A client that leaves may lose what it has been given, which
 * therefore only those do who move. */
static void act(struct worker *worker, unsigned client) {
    char line[128], text[TEXT_MAX];
    const char *timeout = random_below(&worker->random, 3) ? "0" : "0.004";
    unsigned what = 4 + (unsigned)random_below(&worker->random, 6);
    worker->moves[client] = false;
    if (what < 5) {
        push(worker, line);
        if (run(worker, client, line, text)[0] != ':') abort();
        return;
    }
    if (what < 7) {
        snprintf(line, sizeof(line), "tbpop key:%u %s", key(worker), timeout);
    } else if (what < 9) {
        snprintf(line, sizeof(line), "tbpop key:%u key:%u %s", key(worker), key(worker), timeout);
    } else {
        worker->moves[client] = true;
        snprintf(line, sizeof(line), "tbmove key:%u key:%u %s", key(worker), key(worker), timeout);
    }
    note(worker, client, run(worker, client, line, text));
}

static void transact(struct worker *worker, unsigned client) {
    char line[128], text[TEXT_MAX];
    worker->moves[client] = true; /* its replies are read by nobody */
    run(worker, client, "multi", text);
    for (unsigned i = 0; i < 2; i++) {
        push(worker, line);
        run(worker, client, line, text);
    }
    snprintf(line, sizeof(line), "tbmove key:%u key:%u 0", key(worker), key(worker));
    run(worker, client, line, text);
    run(worker, client, "exec", text);
}

static void *work(void *arg) {
    struct worker *worker = arg;
    char text[TEXT_MAX];
    while (worker->pushed + 2 < ROUNDS) {
        unsigned client = (unsigned)random_below(&worker->random, CLIENTS);
        worker->dispatcher->now_ms += random_below(&worker->random, 4) == 0;
        answer(worker);
        if (worker->clients[client].blocked) {
            if (worker->moves[client] && random_below(&worker->random, 8) == 0)
                blocked_leave(worker->dispatcher, &worker->clients[client]);
        } else if (client == CLIENTS - 1) { /* never waits */
            if (random_below(&worker->random, 16) == 0)
                transact(worker, client);
            else if (random_below(&worker->random, 64) == 0)
                run(worker, client, "swapdb 1 1", text); /* locks everything */
            else if (random_below(&worker->random, 2)) {
                char line[128];
                push(worker, line);
                run(worker, client, line, text);
            }
        } else {
            act(worker, client);
        }
        if (worker->pushed % 64 == 0) retire_collect(worker->shared->keyspace->retired);
    }
    return NULL;
}

static void open_worker(struct shared *shared, unsigned number) {
    struct worker *worker = &shared->workers[number];
    *worker = (struct worker){.shared = shared, .number = number};
    random_seed(&worker->random, shared->seed + number);
    pthread_mutex_init(&worker->lock, NULL);
    worker->stats = command_stats_create(command_table_ids(shared->table));
    worker->dispatcher = malloc(sizeof(*worker->dispatcher));
    dispatcher_init(worker->dispatcher, shared->keyspace, shared->table, &shared->host, worker->stats, number, number);
    worker->dispatcher->now_ms = 1785000000000;
    for (unsigned i = 0; i < CLIENTS; i++) {
        session_init(&worker->clients[i], number * CLIENTS + i, 0);
        worker->clients[i].authenticated = true;
    }
}

static void close_worker(struct worker *worker) {
    for (unsigned i = 0; i < CLIENTS; i++) blocked_leave(worker->dispatcher, &worker->clients[i]);
    answer(worker);
    assert_int_equal(stat_get(&worker->dispatcher->blocked.count), 0);
    for (unsigned i = 0; i < CLIENTS; i++) session_free(&worker->clients[i]);
    command_stats_destroy(worker->stats);
    pthread_mutex_destroy(&worker->lock);
    free(worker->dispatcher);
}

/* Nobody waits for a key that has something. */
static void assert_all_are_served(struct shared *shared) {
    char line[128], text[TEXT_MAX];
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned c = 0; c < CLIENTS; c++) {
            const struct blocked *blocked = shared->workers[i].clients[c].blocked;
            for (uint32_t n = 0; blocked && n < blocked->node_count; n++) {
                struct span name = blocked->keys[n].name;
                snprintf(line, sizeof(line), "exists %.*s", (int)name.length, name.data);
                assert_string_equal(run(&shared->workers[0], CLIENTS - 1, line, text), ":0\r\n");
            }
        }
}

static void every_item_goes_to_exactly_one_client(void **state) {
    (void)state;
    static struct shared shared;
    const struct command_family families[] = {{blocking_family, blocking_family_count},
                                              {transaction_commands, transaction_command_count},
                                              {key_commands, key_command_count},
                                              {database_commands, database_command_count}};
    char line[128], text[TEXT_MAX];
    unsigned pushed = 0;
    shared.seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20270317;
    printf("seed %llu\n", (unsigned long long)shared.seed);
    const struct keyspace_options options = {.shards = SHARDS, .databases = 2, .locking = true, .seed = shared.seed};
    shared.keyspace = keyspace_create(&options);
    shared.table = command_table_create(families, sizeof(families) / sizeof(families[0]));
    shared.host = (struct command_host){.ctx = &shared, .unblocked = deliver};
    atomic_store(&shared.host.slow_ns, UINT64_MAX);
    for (unsigned i = 0; i < THREADS; i++) open_worker(&shared, i);
    for (unsigned i = 0; i < THREADS; i++) pthread_create(&shared.workers[i].thread, NULL, work, &shared.workers[i]);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(shared.workers[i].thread, NULL);
    for (unsigned i = 0; i < THREADS; i++) answer(&shared.workers[i]);
    assert_all_are_served(&shared);
    assert_false(wait_is_any_marked(&shared.keyspace->waits));
    for (unsigned i = 0; i < THREADS; i++) close_worker(&shared.workers[i]);
    assert_int_equal(atomic_load(&shared.keyspace->waits.keys), 0);
    /* What is left is taken by one who may wait no longer than until all keys are empty. */
    open_worker(&shared, 0);
    for (unsigned k = 0; k < KEYS; k++) {
        snprintf(line, sizeof(line), "tbpop key:%u 0", k);
        while (!shared.workers[0].clients[0].blocked)
            note(&shared.workers[0], 0, run(&shared.workers[0], 0, line, text));
        blocked_leave(shared.workers[0].dispatcher, &shared.workers[0].clients[0]);
    }
    shared.workers[0].pushed = 0;
    close_worker(&shared.workers[0]);
    for (unsigned i = 0; i < ITEMS; i++) {
        assert_true(atomic_load(&shared.taken[i]) <= 1);
        pushed += atomic_load(&shared.taken[i]);
    }
    printf("items taken %u, waits ended %u, of these in time %u\n", pushed, atomic_load(&shared.served),
           atomic_load(&shared.timed_out));
    assert_true(pushed >= ITEMS - 2 * THREADS);
    assert_true(atomic_load(&shared.served) > 0);
    assert_true(keyspace_validate(shared.keyspace));
    command_table_destroy(shared.table);
    keyspace_destroy(shared.keyspace);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_item_goes_to_exactly_one_client)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
