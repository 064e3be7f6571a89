/* The order of effects: several workers change the same few keys in every way that takes other locks, with clients that
 * wait and keys that expire meanwhile; a ring so small that they wait for its reader. Their effects, run one after the
 * other in an empty keyspace, lead to the same data. */

#include "base/clock.h"
#include "base/random.h"
#include "command/dispatch.h"
#include "command/families.h"
#include "server/digest_value.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { THREADS = 4, CLIENTS = 4, ROUNDS = 30000, SHARDS = 16, DATABASES = 3, WORDS_MAX = 16, LINE_MAX = 200 };
enum { RING_BYTES = 64 * 1024, READER_WAIT_NS = 100000, READ_BYTES = 32 * 1024 };
#define START_MS INT64_C(2000000000000)

struct shared;

struct worker {
    struct shared *shared;
    unsigned number;
    struct random random;
    struct dispatcher *dispatcher;
    struct command_stats *stats;
    struct session clients[CLIENTS];
    pthread_mutex_t lock;
    struct blocked *mail; /* linked by next */
    pthread_t thread;
};

struct shared {
    struct keyspace *keyspace;
    struct command_table *table;
    struct command_host host;
    struct journal *journal;
    struct journal_reader *reader;
    pthread_t reading;
    atomic_bool done;
    _Atomic int64_t now_ms;
    char *bytes; /* all that was read */
    size_t length, capacity;
    uint64_t seed;
    struct worker workers[THREADS];
};

/* ---- the reader ---- */

static void *read_all(void *argument) {
    struct shared *shared = argument;
    bool last = false;
    for (;;) {
        size_t length;
        if (shared->capacity - shared->length < READ_BYTES) {
            shared->capacity = 2 * shared->capacity + READ_BYTES;
            shared->bytes = realloc(shared->bytes, shared->capacity);
            if (!shared->bytes) abort();
        }
        if (!journal_read(shared->reader, shared->bytes + shared->length, READ_BYTES, &length)) abort();
        shared->length += length;
        if (length == 0 && last) return NULL;
        last = atomic_load(&shared->done);
        if (length == 0 && !last) (void)journal_wait(shared->reader, READER_WAIT_NS);
    }
}

/* ---- running ---- */

static uint32_t split(const char *line, struct span argv[WORDS_MAX]) {
    uint32_t argc = 0;
    while (*line) {
        size_t length = strcspn(line, " ");
        if (argc == WORDS_MAX) abort();
        argv[argc++] = span_of(line, length);
        line += length + (line[length] == ' ');
    }
    return argc;
}

static void run(struct worker *worker, struct session *session, const char *line) {
    struct retire_list *retired = worker->shared->keyspace->retired;
    struct span argv[WORDS_MAX];
    struct reply reply;
    uint32_t argc = split(line, argv);
    reply_init(&reply, NULL, 0, NULL, NULL);
    retire_online(retired, worker->number);
    (void)dispatch_arguments(worker->dispatcher, session, argv, argc, &reply);
    retire_offline(retired, worker->number);
    reply_clear(&reply);
}

static void deliver(void *ctx, struct blocked *blocked) {
    struct worker *worker = &((struct shared *)ctx)->workers[blocked->worker];
    pthread_mutex_lock(&worker->lock);
    blocked->next = worker->mail;
    worker->mail = blocked;
    pthread_mutex_unlock(&worker->lock);
}

static void answer(struct worker *worker) {
    struct blocked *blocked, *mail;
    pthread_mutex_lock(&worker->lock);
    mail = worker->mail;
    worker->mail = NULL;
    pthread_mutex_unlock(&worker->lock);
    while ((blocked = mail)) {
        mail = blocked->next;
        blocked_add_finished(worker->dispatcher, blocked);
    }
    blocked_expire(worker->dispatcher);
    while ((blocked = blocked_take_finished(worker->dispatcher))) {
        struct reply reply;
        reply_init(&reply, NULL, 0, NULL, NULL);
        blocked_answer(worker->dispatcher, blocked, &reply);
        reply_clear(&reply);
    }
}

/* ---- what clients do ---- */

static unsigned below(struct worker *worker, unsigned bound) {
    return (unsigned)random_below(&worker->random, bound);
}

/* A line with keys and numbers put in: %k a key of the type's, %n a number, %t a short time. */
static void compose(struct worker *worker, const char *form, char line[LINE_MAX]) {
    char *end = line;
    for (const char *at = form; *at; at++) {
        if (*at != '%')
            *end++ = *at;
        else if (*++at == 'n')
            end += sprintf(end, "%u", below(worker, 20));
        else if (*at == 't')
            end += sprintf(end, "%u", 1 + below(worker, 60));
        else
            end += sprintf(end, "%c:%u", *at, below(worker, 4));
    }
    *end = '\0';
}

/* %s, %l, %h, %e are keys of strings, lists, hashes, sets. */
static const char *const forms[] = {
    "append %s %n.",
    "incrby i%s %n",
    "set %s %n px %t",
    "pexpire %s %t",
    "persist %s",
    "getset %s %n",
    "getex %s px %t",
    "mset %s %n %s %n",
    "msetnx %s %n %s %n",
    "set %s %n nx",
    "del %s %l",
    "rename %s %s",
    "copy %s %s",
    "copy %l %l db 1",
    "move %l 2",
    "rpush %l %n %n",
    "lpush %l %n",
    "lpop %l",
    "rpop %l 2",
    "lmove %l %l left right",
    "rpoplpush %l %l",
    "linsert %l before %n %n",
    "lrem %l 0 %n",
    "pexpire %l %t",
    "hset %h %n %n %n %n",
    "hdel %h %n",
    "hincrby %h %n 1",
    "hincrbyfloat %h %n 0.5",
    "hpexpire %h %t fields 1 %n",
    "hsetnx %h %n %n",
    "hgetall %h",
    "sadd %e %n %n",
    "spop %e",
    "spop %e 3",
    "smove %e %e %n",
    "sunionstore %e %e %e",
    "srem %e %n",
    "sort %e store %l",
    "get %s",
    "exists %s %l",
};
static const char *const waiting_forms[] = {
    "blpop %l %l 0", "blpop %l 0.005", "brpop %l %l 0", "blmove %l %l left left 0", "blmpop 0 2 %l %l left count 2",
};
static const char *const wide_forms[] = {"swapdb 0 1", "flushdb", "select 0", "select 1", "select 2", "flushall"};
#define PICK(worker, of) ((of)[below((worker), sizeof(of) / sizeof((of)[0]))])

static void transact(struct worker *worker, struct session *session) {
    char line[LINE_MAX];
    run(worker, session, "multi");
    for (unsigned i = 1 + below(worker, 4); i > 0; i--) {
        compose(worker, below(worker, 10) ? PICK(worker, forms) : PICK(worker, waiting_forms), line);
        run(worker, session, line);
    }
    if (below(worker, 6) == 0) run(worker, session, PICK(worker, wide_forms));
    run(worker, session, "exec");
}

static void act(struct worker *worker, struct session *session) {
    char line[LINE_MAX];
    unsigned what = below(worker, 100);
    if (what < 10) {
        transact(worker, session);
        return;
    }
    if (what < 12 && below(worker, 8) == 0) {
        run(worker, session, PICK(worker, wide_forms));
        return;
    }
    compose(worker, what < 30 && session != &worker->clients[0] ? PICK(worker, waiting_forms) : PICK(worker, forms),
            line);
    run(worker, session, line);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct shared *shared = worker->shared;
    struct keyspace *keyspace = shared->keyspace;
    effect_sink_bind(&worker->dispatcher->effects);
    for (unsigned i = 0; i < ROUNDS; i++) {
        worker->dispatcher->now_ms = atomic_fetch_add(&shared->now_ms, below(worker, 3) == 0);
        answer(worker);
        struct session *session = &worker->clients[below(worker, CLIENTS)];
        if (!session->blocked) act(worker, session);
        if (i % 16 == 0)
            (void)keyspace_sweep(keyspace, below(worker, SHARDS), worker->dispatcher->now_ms, 100000, NULL);
        if (i % 64 == 0) blocked_serve_left(worker->dispatcher);
        if (i % 64 == 0) retire_collect(keyspace->retired);
    }
    return NULL;
}

/* ---- comparing ---- */

/* Keys that live, with their values, and when they expire. */
static void digest_of(struct keyspace *keyspace, int64_t now_ms, char text[DIGEST_TEXT + 1], uint64_t *keys,
                      uint64_t *times) {
    struct digest digest = {0};
    *keys = *times = 0;
    for (uint32_t i = 0; i < keyspace->shard_count; i++)
        for (uint32_t database = 0; database < keyspace->database_count; database++) {
            struct index *index = keyspace->shards[i].databases[database];
            struct view view = {.keyspace = keyspace, .database = database, .keep_access = true, .now_ms = now_ms};
            uint64_t refs[INDEX_GATHER_MAX], position = 0;
            do {
                size_t count = index ? index_gather(index, position, INDEX_GATHER_MAX, false, refs, &position) : 0;
                for (size_t k = 0; k < count; k++) {
                    const struct record *record = ref_record(refs[k]);
                    if (record_is_expired(record, now_ms)) continue;
                    digest_add_record(&digest, database, record, digest_value_of(&view, record));
                    *times += record_has_expiry(record) ? (uint64_t)record_expiry(record) : 1;
                    ++*keys;
                }
            } while (position);
        }
    digest_print(&digest, text);
}

/* ---- setting up ---- */

static void open_worker(struct shared *shared, unsigned number) {
    struct worker *worker = &shared->workers[number];
    *worker = (struct worker){.shared = shared, .number = number};
    random_seed(&worker->random, shared->seed + number);
    pthread_mutex_init(&worker->lock, NULL);
    worker->stats = command_stats_create(command_table_ids(shared->table));
    worker->dispatcher = malloc(sizeof(*worker->dispatcher));
    dispatcher_init(worker->dispatcher, shared->keyspace, shared->table, &shared->host, worker->stats, number, number);
    worker->dispatcher->now_ms = START_MS;
    worker->dispatcher->effects.journal = shared->journal;
    for (unsigned i = 0; i < CLIENTS; i++) {
        session_init(&worker->clients[i], number * CLIENTS + i + 1, 0);
        worker->clients[i].authenticated = true;
    }
}

static void close_worker(struct worker *worker) {
    for (unsigned i = 0; i < CLIENTS; i++) session_free(&worker->clients[i]);
    effect_sink_free(&worker->dispatcher->effects);
    command_stats_destroy(worker->stats);
    pthread_mutex_destroy(&worker->lock);
    free(worker->dispatcher);
}

static struct keyspace *new_keyspace(bool locking) {
    const struct keyspace_options options = {.shards = SHARDS, .databases = DATABASES, .locking = locking, .seed = 5};
    struct keyspace *keyspace = keyspace_create(&options);
    assert_non_null(keyspace);
    return keyspace;
}

/* Runs everything that was read in an empty keyspace; returns it. */
static struct keyspace *replay(struct shared *shared) {
    struct keyspace *keyspace = new_keyspace(false);
    struct dispatcher *dispatcher = malloc(sizeof(*dispatcher));
    struct session session;
    struct resp_parser parser;
    struct reply reply;
    size_t consumed;
    assert_non_null(dispatcher);
    dispatcher_init(dispatcher, keyspace, shared->table, &shared->host, shared->workers[0].stats, 0, 1);
    dispatcher->now_ms = atomic_load(&shared->now_ms);
    session_init(&session, 1, 0);
    session.authenticated = session.replaying = true;
    resp_parser_init(&parser);
    reply_init(&reply, NULL, 0, NULL, NULL);
    for (size_t at = 0; at < shared->length; at += consumed) {
        struct span rest = span_of(shared->bytes + at, shared->length - at);
        (void)dispatch_input(dispatcher, &session, &parser, rest, &reply, &consumed);
        if (consumed == 0) fail_msg("what was read ends within a command");
        if (reply.errors) fail_msg("an effect failed: %s", reply.error_code);
        reply_clear(&reply);
        reply_init(&reply, NULL, 0, NULL, NULL);
    }
    assert_false(session.transaction.open);
    resp_parser_reset(&parser);
    session_free(&session);
    free(dispatcher);
    return keyspace;
}

static void compare(struct shared *shared) {
    char ours[DIGEST_TEXT + 1], theirs[DIGEST_TEXT + 1];
    uint64_t keys[2], times[2];
    struct keyspace *copy = replay(shared);
    int64_t now_ms = atomic_load(&shared->now_ms);
    digest_of(shared->keyspace, now_ms, ours, &keys[0], &times[0]);
    digest_of(copy, now_ms, theirs, &keys[1], &times[1]);
    printf("%zu bytes of effects, %llu keys\n", shared->length, (unsigned long long)keys[0]);
    assert_true(shared->length > RING_BYTES);
    assert_int_equal(keys[0], keys[1]);
    assert_int_equal(times[0], times[1]);
    assert_string_equal(ours, theirs);
    assert_true(keyspace_validate(copy));
    keyspace_destroy(copy);
}

static void test_effects_of_several_workers_lead_to_the_same_data(void **state) {
    (void)state;
    const struct command_family families[] = {
        {string_commands, string_command_count},     {list_commands, list_command_count},
        {hash_commands, hash_command_count},         {set_commands, set_command_count},
        {key_commands, key_command_count},           {key_expiry_commands, key_expiry_command_count},
        {database_commands, database_command_count}, {transaction_commands, transaction_command_count},
        {sort_commands, sort_command_count},
    };
    struct shared *shared = calloc(1, sizeof(*shared));
    assert_non_null(shared);
    if (clock_tick_source.ns_per_tick_scaled == 0) clock_init();
    shared->seed = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261121;
    printf("seed %llu\n", (unsigned long long)shared->seed);
    shared->keyspace = new_keyspace(true);
    shared->table = command_table_create(families, sizeof(families) / sizeof(families[0]));
    atomic_store(&shared->now_ms, START_MS);
    atomic_store(&shared->host.slow_ns, UINT64_MAX);
    atomic_store(&shared->host.bulk_bytes_max, 1000);
    shared->host.ctx = shared;
    shared->host.unblocked = deliver;
    shared->journal = journal_create(&(struct journal_options){.capacity_bytes = RING_BYTES, .writers = THREADS});
    shared->reader = journal_attach(shared->journal, 0, true);
    effect_sink_listen(shared->keyspace, true);
    for (unsigned i = 0; i < THREADS; i++) open_worker(shared, i);
    pthread_create(&shared->reading, NULL, read_all, shared);
    for (unsigned i = 0; i < THREADS; i++) pthread_create(&shared->workers[i].thread, NULL, work, &shared->workers[i]);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(shared->workers[i].thread, NULL);
    effect_sink_bind(&shared->workers[0].dispatcher->effects);
    for (unsigned i = 0; i < THREADS; i++)
        for (unsigned k = 0; k < CLIENTS; k++) {
            struct worker *worker = &shared->workers[i];
            if (worker->clients[k].blocked) blocked_leave(worker->dispatcher, &worker->clients[k]);
            answer(worker);
        }
    atomic_store(&shared->done, true);
    pthread_join(shared->reading, NULL);
    effect_sink_listen(shared->keyspace, false);
    compare(shared);
    for (unsigned i = 0; i < THREADS; i++) close_worker(&shared->workers[i]);
    effect_sink_bind(NULL);
    assert_true(keyspace_validate(shared->keyspace));
    journal_detach(shared->reader);
    journal_destroy(shared->journal);
    command_table_destroy(shared->table);
    keyspace_destroy(shared->keyspace);
    free(shared->bytes);
    free(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_effects_of_several_workers_lead_to_the_same_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
