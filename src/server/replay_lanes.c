/* See replay_lanes.h. Commands travel in blocks: the giver fills one for each lane, and hands it over when it is full
 * or belongs to another database. Blocks go round. The giver waits when there is no spare one, or lanes have enough to
 * do; a lane waits when it has none.
 *
 * Whoever waits sleeps, and on a busy machine is not back for milliseconds. So there are many blocks, of which a giver
 * that had to wait wants half before it goes on, and a lane takes several at once and gives them back together: sleeps
 * are a few hundred in a second, and nobody is without work meanwhile. What that may cost in memory is bounded by the
 * bytes of words that lanes have. */

#include "server/replay_lanes.h"

#include "base/thread_place.h"

#include <assert.h>
#include <stdlib.h>

enum {
    BLOCKS_PER_LANE = 128, /* 8192 commands: some milliseconds */
    BLOCKS_FIRST = 4,      /* of them, without which there is no replay; the others are made when they are wanted */
    BLOCKS_AT_ONCE = 8,    /* taken by a lane */
    BLOCK_WORDS = 512,
    BLOCK_BYTES = 64 << 10,      /* of words, with which it is handed over */
    OUTSTANDING_BYTES = 2 << 20, /* of words that all lanes have: the giver waits. For small commands not the bound */
    WORDS_MAX = 256,             /* of one command; more: a barrier */
    BYTES_MAX = 1 << 20,         /* copied of one command; more: a barrier */
    KEYS_MAX = 64,               /* looked at of one command */
    NOWHERE = UINT32_MAX,        /* a barrier */
};

struct block {
    struct block *next;
    uint32_t database;
    unsigned count;
    size_t word_count, byte_count;
    size_t byte_room;
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
    unsigned spare_count, block_count;
    unsigned outstanding;     /* blocks that lanes have */
    size_t outstanding_bytes; /* of words in them */
    bool giver_waits, drains; /* for spare blocks, or for all */
    bool lane_failed, ending;
    struct lane lanes[REPLAY_LANES_MAX];
};

/* ---- a lane ---- */

/* A few blocks in their order; NULL: the end. */
static struct block *take(struct lane *lane) {
    struct replay_lanes *all = lane->all;
    pthread_mutex_lock(&all->lock);
    while (!lane->waiting && !all->ending) pthread_cond_wait(&lane->filled, &all->lock);
    struct block *first = all->ending ? NULL : lane->waiting, *last = first;
    for (unsigned i = 1; last && last->next && i < BLOCKS_AT_ONCE; i++) last = last->next;
    if (last) {
        if (!(lane->waiting = last->next)) lane->last = &lane->waiting;
        last->next = NULL;
    }
    pthread_mutex_unlock(&all->lock);
    return first;
}

static void empty(struct block *block) {
    block->count = 0;
    block->word_count = block->byte_count = 0;
}

static void make_spare(struct replay_lanes *all, struct block *block) {
    block->next = all->spare;
    all->spare = block;
    all->spare_count++;
}

/* What a giver that has to wait waits for. With the lock held. */
static bool has_enough(const struct replay_lanes *all) {
    if (all->drains) return all->outstanding == 0;
    return all->spare_count >= all->block_count / 2 && all->outstanding_bytes <= OUTSTANDING_BYTES / 2;
}

static void give_back(struct replay_lanes *all, struct block *blocks, bool ran) {
    size_t bytes = 0;
    for (const struct block *block = blocks; block; block = block->next) bytes += block->byte_count;
    pthread_mutex_lock(&all->lock);
    for (struct block *next; blocks; blocks = next) {
        next = blocks->next;
        empty(blocks);
        make_spare(all, blocks);
        all->outstanding--;
    }
    all->outstanding_bytes -= bytes;
    if (!ran) all->lane_failed = true;
    if (all->giver_waits && has_enough(all)) pthread_cond_signal(&all->returned);
    pthread_mutex_unlock(&all->lock);
}

static void *run_lane(void *ctx) {
    struct lane *lane = ctx;
    struct block *blocks;
    thread_place_roam();
    while ((blocks = take(lane)) != NULL) {
        bool ran = true;
        for (struct block *block = blocks; block && ran; block = block->next)
            ran = replay_runner_run(lane->runner, block->database, block->requests, block->count);
        give_back(lane->all, blocks, ran);
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
    bool sleeps = !lane->waiting;
    *lane->last = block;
    lane->last = &block->next;
    all->outstanding++;
    all->outstanding_bytes += block->byte_count;
    if (sleeps) pthread_cond_signal(&lane->filled);
    pthread_mutex_unlock(&all->lock);
}

/* With the lock held. */
static void wait_for(struct replay_lanes *all, bool drains) {
    all->giver_waits = true;
    all->drains = drains;
    while (!has_enough(all)) pthread_cond_wait(&all->returned, &all->lock);
    all->giver_waits = all->drains = false;
    all->failed = all->failed || all->lane_failed;
}

/* False: no memory, or as many as there may be. With the lock held. */
static bool make_block(struct replay_lanes *all) {
    if (all->block_count == all->lane_count * BLOCKS_PER_LANE) return false;
    struct block *block = calloc(1, sizeof(*block));
    if (!block) return false;
    all->block_count++;
    make_spare(all, block);
    return true;
}

/* Fewer than half of all blocks are held open, one by each lane at most, so those that are waited for come back. */
static struct block *get_spare(struct replay_lanes *all) {
    pthread_mutex_lock(&all->lock);
    bool enough = all->outstanding_bytes <= OUTSTANDING_BYTES && (all->spare || make_block(all));
    if (!enough) wait_for(all, false);
    all->failed = all->failed || all->lane_failed;
    struct block *block = all->spare;
    all->spare = block->next;
    all->spare_count--;
    pthread_mutex_unlock(&all->lock);
    return block;
}

static void wait_for_lanes(struct replay_lanes *all) {
    for (unsigned i = 0; i < all->lane_count; i++) hand_over(all, &all->lanes[i]);
    pthread_mutex_lock(&all->lock);
    wait_for(all, true);
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
    if (block->count > 0 && block->byte_count + bytes > BLOCK_BYTES) return false;
    return block->count < LIMIT_BATCH_COMMANDS && block->word_count + words->argc <= BLOCK_WORDS &&
           (all->options.words_stay || has_bytes(block, bytes));
}

static void put(const struct replay_lanes *all, struct block *block, uint32_t database, const struct aof_command *words,
                size_t bytes) {
    struct span *argv = block->words + block->word_count;
    char *copy = block->bytes + block->byte_count;
    for (uint32_t i = 0; i < words->argc; i++) {
        argv[i] = words->argv[i];
        if (all->options.words_stay) continue;
        memcpy(copy, argv[i].data, argv[i].length);
        argv[i].data = copy;
        copy += argv[i].length;
    }
    block->byte_count += bytes;
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
    put(all, all->own, database, words, bytes);
    return !all->failed;
}

static bool give_to_lane(struct replay_lanes *all, struct lane *lane, uint32_t database,
                         const struct aof_command *words, size_t bytes) {
    if (lane->open && !fits(all, lane->open, database, words, bytes)) hand_over(all, lane);
    if (!lane->open) lane->open = get_spare(all);
    if (all->failed) return false;
    if (!fits(all, lane->open, database, words, bytes)) return run_alone(all, database, words); /* no memory */
    put(all, lane->open, database, words, bytes);
    if (lane->open->count == LIMIT_BATCH_COMMANDS) hand_over(all, lane);
    return true;
}

bool replay_lanes_give(struct replay_lanes *all, uint32_t database, const struct command *command,
                       const struct aof_command *words) {
    size_t bytes = bytes_of(words);
    if (words->argc > WORDS_MAX || (bytes > BYTES_MAX && !all->options.words_stay))
        return run_alone(all, database, words);
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
    for (unsigned i = 0; i < BLOCKS_FIRST; i++)
        if (!make_block(all)) return false;
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
