/* See replay_lanes.h. Commands travel in blocks: the giver fills one for each lane, and hands it over when it is full
 * or belongs to another database. Blocks go round. The giver waits when there is no spare one, so lanes are never far
 * behind; a lane waits when it has none. */

#include "server/replay_lanes.h"

#include "base/thread_place.h"

#include <assert.h>
#include <stdlib.h>

enum {
    BLOCKS_PER_LANE = 4,
    BLOCK_WORDS = 512,
    BLOCK_BYTES = 64 << 10, /* handed over with so many */
    WORDS_MAX = 256,        /* of one command; more: a barrier */
    BYTES_MAX = 1 << 20,    /* copied of one command; more: a barrier */
    KEYS_MAX = 64,          /* looked at of one command */
    NOWHERE = UINT32_MAX,   /* a barrier */
};

struct block {
    struct block *next;
    uint32_t database;
    unsigned count;
    size_t word_count, byte_count, byte_room;
    char *bytes; /* of the words, if they were copied */
    struct request requests[LIMIT_BATCH_COMMANDS];
    struct span words[BLOCK_WORDS];
};

struct lane {
    struct replay_lanes *all;
    struct replay_runner *runner;
    pthread_t thread;
    bool started;
    struct block *open;            /* the giver's */
    struct block *waiting, **last; /* under the lock */
    pthread_cond_t filled;
};

struct replay_lanes {
    struct replay_lanes_options options;
    struct keyspace *keyspace;
    struct replay_runner *runner; /* the giver's */
    unsigned lane_count;          /* 0: no lanes */
    struct block *own;            /* the giver's, where there are none */
    uint64_t barriers;
    bool failed; /* the giver knows */
    pthread_mutex_t lock;
    pthread_cond_t returned;
    struct block *spare;
    unsigned outstanding; /* blocks that lanes have */
    bool lane_failed, ending;
    struct lane lanes[REPLAY_LANES_MAX];
};

/* ---- a lane ---- */

static struct block *take(struct lane *lane) {
    struct replay_lanes *all = lane->all;
    pthread_mutex_lock(&all->lock);
    while (!lane->waiting && !all->ending) pthread_cond_wait(&lane->filled, &all->lock);
    struct block *block = all->ending ? NULL : lane->waiting;
    if (block && !(lane->waiting = block->next)) lane->last = &lane->waiting;
    pthread_mutex_unlock(&all->lock);
    return block;
}

static void empty(struct block *block) {
    block->count = 0;
    block->word_count = block->byte_count = 0;
}

static void *run_lane(void *ctx) {
    struct lane *lane = ctx;
    struct replay_lanes *all = lane->all;
    struct block *block;
    thread_place_roam();
    while ((block = take(lane)) != NULL) {
        bool ran = replay_runner_run(lane->runner, block->database, block->requests, block->count);
        empty(block);
        pthread_mutex_lock(&all->lock);
        block->next = all->spare;
        all->spare = block;
        all->outstanding--;
        if (!ran) all->lane_failed = true;
        pthread_cond_signal(&all->returned);
        pthread_mutex_unlock(&all->lock);
    }
    replay_runner_leave(lane->runner);
    return NULL;
}

/* ---- the giver ---- */

static void hand_over(struct replay_lanes *all, struct lane *lane) {
    struct block *block = lane->open;
    if (!block || block->count == 0) return;
    lane->open = NULL;
    block->next = NULL;
    pthread_mutex_lock(&all->lock);
    *lane->last = block;
    lane->last = &block->next;
    all->outstanding++;
    pthread_cond_signal(&lane->filled);
    pthread_mutex_unlock(&all->lock);
}

/* There are more blocks than lanes can hold open, so one comes back. */
static struct block *wait_for_spare(struct replay_lanes *all) {
    pthread_mutex_lock(&all->lock);
    while (!all->spare) pthread_cond_wait(&all->returned, &all->lock);
    struct block *block = all->spare;
    all->spare = block->next;
    all->failed = all->failed || all->lane_failed;
    pthread_mutex_unlock(&all->lock);
    return block;
}

static void wait_for_lanes(struct replay_lanes *all) {
    for (unsigned i = 0; i < all->lane_count; i++) hand_over(all, &all->lanes[i]);
    pthread_mutex_lock(&all->lock);
    while (all->outstanding > 0) pthread_cond_wait(&all->returned, &all->lock);
    all->failed = all->failed || all->lane_failed;
    pthread_mutex_unlock(&all->lock);
}

static bool run_own(struct replay_lanes *all) {
    struct block *block = all->own;
    if (block->count > 0 && !replay_runner_run(all->runner, block->database, block->requests, block->count))
        all->failed = true;
    empty(block);
    return !all->failed;
}

bool replay_lanes_settle(struct replay_lanes *all) {
    if (all->lane_count > 0) wait_for_lanes(all);
    return run_own(all);
}

/* ---- blocks ---- */

static size_t bytes_of(const struct aof_command *words) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < words->argc; i++) bytes += words->argv[i].length;
    return bytes;
}

/* Room for copies that move nothing: an empty block's may be made larger. */
static bool has_bytes(struct block *block, size_t bytes) {
    if (block->byte_count + bytes <= block->byte_room) return true;
    if (block->count > 0) return false;
    size_t room = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    char *larger = realloc(block->bytes, room);
    if (!larger) return false;
    block->bytes = larger;
    block->byte_room = room;
    return true;
}

static bool fits(const struct replay_lanes *all, struct block *block, uint32_t database,
                 const struct aof_command *words, size_t bytes) {
    if (block->count > 0 && block->database != database) return false;
    return block->count < LIMIT_BATCH_COMMANDS && block->word_count + words->argc <= BLOCK_WORDS &&
           (all->options.words_stay || has_bytes(block, bytes));
}

static void put(const struct replay_lanes *all, struct block *block, uint32_t database,
                const struct aof_command *words) {
    struct span *argv = block->words + block->word_count;
    for (uint32_t i = 0; i < words->argc; i++) {
        argv[i] = words->argv[i];
        if (all->options.words_stay) continue;
        memcpy(block->bytes + block->byte_count, argv[i].data, argv[i].length);
        argv[i].data = block->bytes + block->byte_count;
        block->byte_count += argv[i].length;
    }
    block->word_count += words->argc;
    block->database = database;
    block->requests[block->count++] = (struct request){.argv = argv, .argc = words->argc};
}

/* ---- where a command goes ---- */

static uint32_t lane_of_key(const struct replay_lanes *all, struct span key) {
    return keyspace_key_shard(all->keyspace, key) % all->lane_count;
}

static uint32_t lane_of_keys(const struct replay_lanes *all, const struct command *command,
                             const struct aof_command *words) {
    uint32_t positions[KEYS_MAX], lane = NOWHERE;
    uint32_t count = command_fitting_key_positions(command, words->argv, words->argc, positions, KEYS_MAX);
    if (count > KEYS_MAX) return NOWHERE;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t next = lane_of_key(all, words->argv[positions[i]]);
        if (i > 0 && next != lane) return NOWHERE;
        lane = next;
    }
    return lane;
}

static uint32_t lane_of(const struct replay_lanes *all, const struct command *command,
                        const struct aof_command *words) {
    const uint32_t wide = COMMAND_EXCLUSIVE | COMMAND_ALL_SHARDS | COMMAND_WALKS | COMMAND_SLICED | COMMAND_CONTROL;
    if (command->flags & wide || command->no_keys || !command_arity_fits(command, words->argc)) return NOWHERE;
    if (command->spec->reaches && command->spec->reaches(words->argv, words->argc)) return NOWHERE;
    if (command->first_key > 0 && command->last_key == command->first_key && (uint32_t)command->first_key < words->argc)
        return lane_of_key(all, words->argv[command->first_key]);
    return lane_of_keys(all, command, words);
}

static bool run_alone(struct replay_lanes *all, uint32_t database, const struct aof_command *words) {
    struct request request = {.argv = words->argv, .argc = words->argc};
    if (!replay_lanes_settle(all)) return false;
    all->barriers++;
    if (!replay_runner_run(all->runner, database, &request, 1)) all->failed = true;
    return !all->failed;
}

static bool give_to_own(struct replay_lanes *all, uint32_t database, const struct aof_command *words, size_t bytes) {
    if (!fits(all, all->own, database, words, bytes) && !run_own(all)) return false;
    if (!fits(all, all->own, database, words, bytes)) return run_alone(all, database, words);
    put(all, all->own, database, words);
    return !all->failed;
}

static bool give_to_lane(struct replay_lanes *all, struct lane *lane, uint32_t database,
                         const struct aof_command *words, size_t bytes) {
    if (lane->open && !fits(all, lane->open, database, words, bytes)) hand_over(all, lane);
    if (!lane->open) lane->open = wait_for_spare(all);
    if (all->failed) return false;
    if (!fits(all, lane->open, database, words, bytes)) return run_alone(all, database, words); /* no memory */
    put(all, lane->open, database, words);
    if (lane->open->count == LIMIT_BATCH_COMMANDS) hand_over(all, lane);
    return true;
}

bool replay_lanes_give(struct replay_lanes *all, uint32_t database, const struct command *command,
                       const struct aof_command *words) {
    size_t bytes = all->options.words_stay ? 0 : bytes_of(words);
    if (words->argc > WORDS_MAX || bytes > BYTES_MAX) return run_alone(all, database, words);
    if (all->lane_count == 0) return give_to_own(all, database, words, bytes);
    uint32_t lane = lane_of(all, command, words);
    if (lane == NOWHERE) return run_alone(all, database, words);
    return give_to_lane(all, &all->lanes[lane], database, words, bytes);
}

/* ---- begin and end ---- */

static void free_block(struct block *block) {
    if (!block) return;
    free(block->bytes);
    free(block);
}

static bool start_lane(struct replay_lanes *all, unsigned number) {
    struct lane *lane = &all->lanes[number];
    struct replay_runner_options options = all->options.runner;
    options.port = all->options.ports ? all->options.ports[number] : NULL;
    options.participant = all->options.participant + number;
    if (options.participant > LIMIT_WORKERS) options.participant = LIMIT_WORKERS;
    lane->all = all;
    lane->last = &lane->waiting;
    pthread_cond_init(&lane->filled, NULL);
    lane->runner = replay_runner_create(&options);
    if (!lane->runner) return false;
    for (unsigned i = 0; i < BLOCKS_PER_LANE; i++) {
        struct block *block = calloc(1, sizeof(*block));
        if (!block) return false;
        block->next = all->spare;
        all->spare = block;
    }
    lane->started = pthread_create(&lane->thread, NULL, run_lane, lane) == 0;
    return lane->started;
}

struct replay_lanes *replay_lanes_create(const struct replay_lanes_options *options) {
    struct replay_lanes *all = calloc(1, sizeof(*all));
    unsigned lanes = options->lanes < REPLAY_LANES_MAX ? options->lanes : REPLAY_LANES_MAX;
    if (!all) return NULL;
    all->options = *options;
    all->keyspace = options->runner.keyspace;
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->returned, NULL);
    all->runner = replay_runner_create(&options->runner);
    all->own = calloc(1, sizeof(*all->own));
    assert(lanes < 2 || all->keyspace->locking);
    bool good = all->runner && all->own;
    for (unsigned i = 0; good && lanes > 1 && i < lanes; i++) {
        all->lane_count++;
        good = start_lane(all, i);
    }
    if (good) return all;
    replay_lanes_destroy(all);
    return NULL;
}

static void free_lane(struct lane *lane) {
    free_block(lane->open);
    while (lane->waiting) {
        struct block *next = lane->waiting->next;
        free_block(lane->waiting);
        lane->waiting = next;
    }
    replay_runner_destroy(lane->runner);
    pthread_cond_destroy(&lane->filled);
}

void replay_lanes_destroy(struct replay_lanes *all) {
    if (!all) return;
    pthread_mutex_lock(&all->lock);
    all->ending = true;
    for (unsigned i = 0; i < all->lane_count; i++) pthread_cond_signal(&all->lanes[i].filled);
    pthread_mutex_unlock(&all->lock);
    for (unsigned i = 0; i < all->lane_count; i++)
        if (all->lanes[i].started) pthread_join(all->lanes[i].thread, NULL);
    for (unsigned i = 0; i < all->lane_count; i++) free_lane(&all->lanes[i]);
    while (all->spare) {
        struct block *next = all->spare->next;
        free_block(all->spare);
        all->spare = next;
    }
    free_block(all->own);
    if (all->runner) replay_runner_leave(all->runner);
    replay_runner_destroy(all->runner);
    pthread_cond_destroy(&all->returned);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

uint64_t replay_lanes_failures(const struct replay_lanes *all, const char **code) {
    uint64_t failures = replay_runner_failures(all->runner, code);
    for (unsigned i = 0; i < all->lane_count; i++) {
        const char *other;
        failures += replay_runner_failures(all->lanes[i].runner, &other);
        if (!(*code)[0]) *code = other;
    }
    return failures;
}

uint64_t replay_lanes_barriers(const struct replay_lanes *all) {
    return all->barriers;
}
