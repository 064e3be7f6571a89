/* See rdb_insert.h.
 *
 * Order. Records of a batch are inserted shard by shard, not in the order of the file; a key that is there twice is an
 * error, or either of its values may stay.
 *
 * Cold records. The threads have no port to the tier, so a lookup of theirs does not see what is cold. Where a shard
 * has any, a key that was not found is looked for once more, with copies that are read on the spot: an index suggests a
 * cold record for a key that is new once in thousands of times.
 *
 * Memory. What is wanted is asked for before a batch, and again when an insertion failed. A big value that failed is
 * loaded again from its first byte: its input is memory. */

#include "persist/rdb_insert.h"

#include "base/key_delay.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_value_private.h"

#include <assert.h>
#include <stdlib.h>

enum {
    NOBODY = UINT16_MAX,
    PREFETCHED_MAX = 64,
    ARENA_LEAST = 64 << 10,
    ARENA_FULL = 1 << 20,
    LATER_MAX = 100000, /* attempts; whoever is asked for room decides earlier */
};

struct rdb_pending {
    struct key key;
    struct rdb_value value;
    int64_t expiry_ms;
    uint32_t access;
    uint16_t next; /* of the same shard */
};

/* What stands before a type. */
struct attributes {
    int64_t expiry_ms;
    bool has_idle, has_frequency;
    uint64_t idle_s;
    uint8_t frequency;
};

bool rdb_inserter_init(struct rdb_inserter *inserter, const struct rdb_load_options *options, struct tier_port *port) {
    *inserter = (struct rdb_inserter){.options = options};
    inserter->view = (struct view){.keyspace = options->keyspace,
                                   .port = port,
                                   .quiet = true,
                                   .unheard = true,
                                   .keep_access = true,
                                   .now_ms = options->now_ms};
    rdb_value_loader_init(&inserter->values, &inserter->view);
    inserter->values.locks = true;
    inserter->values.wait_for_room = options->wait_for_room;
    inserter->values.ctx = options->ctx;
    inserter->pending = malloc(RDB_PENDING_MAX * sizeof(*inserter->pending));
    return inserter->pending != NULL;
}

void rdb_inserter_free(struct rdb_inserter *inserter) {
    rdb_value_loader_free(&inserter->values);
    free(inserter->pending);
    free(inserter->arena);
    inserter->pending = NULL;
    inserter->arena = NULL;
}

/* ---- the bytes before a value ---- */

bool rdb_get_database(struct rdb_input *input, const struct keyspace *keyspace, uint32_t *database) {
    uint64_t number = rdb_get_length(input);
    if (number >= keyspace->database_count)
        rdb_input_fail(input, RDB_CORRUPT, "it has more databases than are configured");
    if (rdb_input_failed(input)) return false;
    *database = (uint32_t)number;
    return true;
}

/* Anything negative is long past; what is beyond a record's range is as good as the end of it. */
static int64_t expiry_within(int64_t expiry_ms) {
    if (expiry_ms < 0) return 0;
    return expiry_ms > RECORD_EXPIRY_MAX ? RECORD_EXPIRY_MAX : expiry_ms;
}

/* Up to the type byte, which it returns. */
static uint8_t get_attributes(struct rdb_input *input, struct attributes *attributes) {
    *attributes = (struct attributes){.expiry_ms = RECORD_EXPIRY_NONE};
    while (!rdb_input_failed(input)) {
        uint8_t byte = rdb_get_byte(input);
        switch (byte) {
        case RDB_OP_EXPIRY_MS: attributes->expiry_ms = expiry_within((int64_t)rdb_get_u64(input)); break;
        case RDB_OP_EXPIRY_S: attributes->expiry_ms = expiry_within((int64_t)(int32_t)rdb_get_u32(input) * 1000); break;
        case RDB_OP_IDLE:
            attributes->has_idle = true;
            attributes->idle_s = rdb_get_length(input);
            break;
        case RDB_OP_FREQUENCY:
            attributes->has_frequency = true;
            attributes->frequency = rdb_get_byte(input);
            break;
        default:
            if (byte >= RDB_OP_SLOT_INFO) rdb_input_fail(input, RDB_CORRUPT, "an expiry or age belongs to no key");
            return byte;
        }
    }
    return 0;
}

static uint32_t access_of(const struct rdb_inserter *inserter, const struct attributes *attributes) {
    const struct access_policy *policy = &inserter->view.keyspace->access;
    int64_t now_ms = inserter->options->now_ms;
    if (policy->frequency)
        return attributes->has_frequency ? access_from_frequency(attributes->frequency, now_ms)
                                         : access_new(policy, now_ms);
    if (!attributes->has_idle) return access_new(policy, now_ms);
    return access_from_idle_seconds(attributes->idle_s < (1u << RECORD_ACCESS_BITS) - 1
                                        ? (uint32_t)attributes->idle_s
                                        : (1u << RECORD_ACCESS_BITS) - 1,
                                    now_ms);
}

/* ---- room ---- */

static bool wait_for_room(struct rdb_inserter *inserter, size_t bytes, unsigned attempt) {
    const struct rdb_load_options *options = inserter->options;
    return options->wait_for_room && attempt <= LATER_MAX && options->wait_for_room(options->ctx, bytes, attempt);
}

static bool is_cancelled(const struct rdb_load_options *options) {
    return options->cancel && atomic_load_explicit((atomic_bool *)(uintptr_t)options->cancel, memory_order_relaxed);
}

/* ---- into the keyspace ---- */

/* A copy of the cold record that was looked at last. */
struct fetched {
    struct tier *tier;
    struct record *record;
};

static const struct record *fetch(void *ctx, uint64_t ref) {
    struct fetched *fetched = ctx;
    free(fetched->record);
    return fetched->record = tier_fetch(fetched->tier, ref);
}

static struct lookup find(struct rdb_inserter *inserter, const struct key *key, struct fetched *fetched) {
    const struct view *view = &inserter->view;
    struct lookup lookup = keyspace_find(view, key);
    struct index *index = lookup.shard->databases[view->database];
    if (lookup.record || !index || !lookup.shard->cold_records || view->port) return lookup;
    struct index_cold cold = {fetch, fetched};
    struct index_position position = index_find(index, key->hash, key->name, &cold);
    if (!position.bucket) return lookup;
    lookup.position = position;
    lookup.ref = index_ref_at(position);
    lookup.record = ref_is_cold(lookup.ref) ? fetched->record : ref_record(lookup.ref);
    return lookup;
}

/* RDB_NO_MEMORY: nothing was changed. */
static enum rdb_status insert(struct rdb_inserter *inserter, const struct rdb_pending *pending) {
    struct fetched fetched = {.tier = inserter->view.keyspace->tier};
    struct lookup lookup = find(inserter, &pending->key, &fetched);
    bool there = lookup.record != NULL;
    enum rdb_status status = RDB_DUPLICATE;
    if (!there || inserter->options->replace_duplicates)
        status = rdb_value_store(&inserter->view, &pending->key, &lookup, &pending->value, pending->expiry_ms,
                                 pending->access)
                     ? RDB_DONE
                     : RDB_NO_MEMORY;
    if (status == RDB_DONE) {
        inserter->keys++;
        inserter->replaced += there;
    }
    free(fetched.record);
    return status;
}

static void prefetch(const struct rdb_inserter *inserter, const struct shard *shard, uint16_t first) {
    const struct index *index = shard->databases[inserter->view.database];
    if (!index) return;
    unsigned count = 0;
    for (uint16_t i = first; i != NOBODY && count < PREFETCHED_MAX; i = inserter->pending[i].next, count++)
        (void)index_prefetch_bucket(index, inserter->pending[i].key.hash);
}

/* All pending of a shard, the first of which is `first`. */
static enum rdb_status insert_shard(struct rdb_inserter *inserter, uint32_t number, uint16_t first) {
    struct keyspace *keyspace = inserter->view.keyspace;
    enum rdb_status status = RDB_DONE;
    unsigned attempt = 0, since_prefetch = PREFETCHED_MAX;
    keyspace_lock(keyspace, number);
    for (uint16_t i = first; i != NOBODY && status == RDB_DONE;) {
        if (since_prefetch++ == PREFETCHED_MAX) {
            prefetch(inserter, &keyspace->shards[number], i);
            since_prefetch = 1;
        }
        struct rdb_pending *pending = &inserter->pending[i];
        status = insert(inserter, pending);
        if (status == RDB_NO_MEMORY) {
            keyspace_unlock(keyspace, number);
            if (wait_for_room(inserter, pending->value.bytes.length + 1, ++attempt)) status = RDB_DONE;
            keyspace_lock(keyspace, number);
        } else if (status == RDB_DONE) {
            pending->value.collection = NULL; /* the keyspace's from now on */
            i = pending->next;
        }
    }
    keyspace_unlock(keyspace, number);
    return status;
}

static enum rdb_status insert_by_shard(struct rdb_inserter *inserter) {
    uint16_t heads[LIMIT_SHARDS];
    enum rdb_status status = RDB_DONE;
    unsigned shards = inserter->view.keyspace->shard_count;
    for (unsigned i = 0; i < shards; i++) heads[i] = NOBODY;
    for (unsigned i = inserter->pending_count; i-- > 0;) {
        struct rdb_pending *pending = &inserter->pending[i];
        pending->next = heads[pending->key.shard];
        heads[pending->key.shard] = (uint16_t)i;
    }
    for (unsigned i = 0; i < shards && status == RDB_DONE; i++)
        if (heads[i] != NOBODY) status = insert_shard(inserter, i, heads[i]);
    return status;
}

static void forget_pending(struct rdb_inserter *inserter) {
    for (unsigned i = 0; i < inserter->pending_count; i++)
        rdb_value_discard(&inserter->values, &inserter->pending[i].key, &inserter->pending[i].value);
    inserter->pending_count = 0;
    inserter->arena_used = 0;
    if (inserter->arena_capacity > 2 * ARENA_FULL) {
        free(inserter->arena);
        inserter->arena = NULL;
        inserter->arena_capacity = 0;
    }
}

/* Inserts what is pending; a failure is noted in the input. */
static bool flush(struct rdb_inserter *inserter, struct rdb_input *input) {
    uint64_t before = inserter->keys;
    struct rdb_load_progress *progress = inserter->options->progress;
    enum rdb_status status = insert_by_shard(inserter);
    forget_pending(inserter);
    if (progress) atomic_fetch_add_explicit(&progress->loaded_keys, inserter->keys - before, memory_order_relaxed);
    if (status == RDB_DUPLICATE) rdb_input_fail(input, status, "a key is there twice");
    if (status == RDB_NO_MEMORY) rdb_input_fail(input, status, "there is no memory for it");
    if (is_cancelled(inserter->options)) rdb_input_fail(input, RDB_CANCELLED, "it was ended");
    return !rdb_input_failed(input);
}

/* ---- records ---- */

static bool reserve_arena(struct rdb_inserter *inserter, size_t bytes) {
    size_t capacity = inserter->arena_capacity ? inserter->arena_capacity : ARENA_LEAST;
    if (bytes <= inserter->arena_capacity - inserter->arena_used) return true;
    if (inserter->arena_used) return false; /* pending values point to it */
    while (capacity < bytes) capacity *= 2;
    char *arena = realloc(inserter->arena, capacity);
    if (!arena) return false;
    inserter->arena = arena;
    inserter->arena_capacity = capacity;
    return true;
}

/* The value's bytes, and the key where it is in `text`, to where they stay until they are inserted. False: there is no
 * room before what is pending has been inserted, or at all. */
static bool keep(struct rdb_inserter *inserter, struct rdb_pending *pending, bool key_too) {
    struct span *value = &pending->value.bytes, *name = &pending->key.name;
    size_t bytes = (pending->value.in_loader ? value->length : 0) + (key_too ? name->length : 0);
    if (bytes == 0) return true;
    if (!reserve_arena(inserter, bytes)) return false;
    char *at = inserter->arena + inserter->arena_used;
    inserter->arena_used += bytes;
    if (pending->value.in_loader && value->length) {
        memcpy(at, value->data, value->length);
        *value = span_of(at, value->length);
        at += value->length;
    }
    if (key_too) {
        memcpy(at, name->data, name->length);
        *name = span_of(at, name->length);
    }
    return true;
}

/* A value of an input over memory may be tried again when there was none. */
static enum rdb_status load_value(struct rdb_inserter *inserter, struct rdb_input *input, uint8_t type,
                                  struct rdb_pending *pending) {
    struct rdb_input before = *input;
    enum rdb_status status;
    unsigned attempt = 0;
    while ((status = rdb_value_load(&inserter->values, input, type, &pending->key, &pending->value)) == RDB_NO_MEMORY) {
        if (!input->memory || !wait_for_room(inserter, (size_t)(input->at - before.at) + 1, ++attempt)) break;
        *input = before;
    }
    return status;
}

static bool is_dropped(struct rdb_inserter *inserter, const struct attributes *attributes) {
    const struct rdb_load_options *options = inserter->options;
    bool drop = options->drop_expired && attributes->expiry_ms >= 0 && attributes->expiry_ms < options->now_ms;
    inserter->expired += drop;
    return drop;
}

/* What takes its time has to look by itself whether it is still wanted. */
static bool rest(const struct rdb_load_options *options, struct rdb_input *input) {
    key_delay_pass(options->delay, 1);
    if (is_cancelled(options)) rdb_input_fail(input, RDB_CANCELLED, "it was ended");
    return !rdb_input_failed(input);
}

/* The record that begins here becomes pending. False: the input has failed. */
static bool take_record(struct rdb_inserter *inserter, struct rdb_input *input) {
    if (inserter->options->delay && !rest(inserter->options, input)) return false;
    struct rdb_pending *pending = &inserter->pending[inserter->pending_count];
    struct attributes attributes;
    struct rdb_text text = {0};
    uint8_t type = get_attributes(input, &attributes);
    if (rdb_input_failed(input) || !rdb_get_text(input, &text)) {
        rdb_text_free(&text);
        return false;
    }
    bool key_too = text.own != NULL, taken = false;
    if (is_dropped(inserter, &attributes)) {
        taken = rdb_value_skip(input, type);
        rdb_text_free(&text);
        return taken;
    }
    *pending = (struct rdb_pending){.key = keyspace_key(inserter->view.keyspace, text.span),
                                    .expiry_ms = attributes.expiry_ms,
                                    .access = access_of(inserter, &attributes)};
    if (load_value(inserter, input, type, pending) != RDB_DONE) {
        rdb_text_free(&text);
        return false;
    }
    if (pending->value.is_empty) {
        inserter->empty++;
        taken = true;
    } else if (keep(inserter, pending, key_too)) {
        inserter->pending_count++;
        taken = true;
        if (inserter->pending_count == RDB_PENDING_MAX) taken = flush(inserter, input);
    } else {
        /* Those before go first; then the arena is empty. */
        struct rdb_pending held = *pending;
        taken = flush(inserter, input);
        inserter->pending[0] = held;
        inserter->pending_count = 1;
        if (taken && !keep(inserter, &inserter->pending[0], key_too))
            taken = rdb_fail(&inserter->values, RDB_NO_MEMORY, "there is no memory for it");
        if (!taken) forget_pending(inserter);
    }
    rdb_text_free(&text);
    return taken;
}

static uint32_t place_of(const struct rdb_inserter *inserter, uint32_t database) {
    return inserter->options->aside ? keyspace_aside(inserter->options->keyspace, database) : database;
}

static bool take_operation(struct rdb_inserter *inserter, struct rdb_input *input, uint32_t *database) {
    uint8_t operation = rdb_get_byte(input);
    switch (operation) {
    case RDB_OP_SELECT:
        if (!flush(inserter, input) || !rdb_get_database(input, inserter->view.keyspace, database)) return false;
        inserter->view.database = place_of(inserter, *database);
        return true;
    case RDB_OP_SLOT_INFO: (void)rdb_get_length(input); /* fall through */
    case RDB_OP_RESIZE:
        (void)rdb_get_length(input);
        (void)rdb_get_length(input);
        return !rdb_input_failed(input);
    default: rdb_input_fail(input, RDB_CORRUPT, "an operation is where none can be"); return false;
    }
}

static bool begins_operation(uint8_t byte) {
    return byte >= RDB_OP_SLOT_INFO && byte != RDB_OP_EXPIRY_MS && byte != RDB_OP_EXPIRY_S && byte != RDB_OP_IDLE &&
           byte != RDB_OP_FREQUENCY;
}

enum rdb_status rdb_insert_all(struct rdb_inserter *inserter, struct rdb_input *input, uint32_t *database) {
    assert(input->memory);
    const struct rdb_load_options *options = inserter->options;
    size_t bytes = (size_t)(input->end - input->at);
    inserter->view.database = place_of(inserter, *database);
    if (options->wait_for_room && !options->wait_for_room(options->ctx, 2 * bytes, 0))
        return rdb_input_fail(input, RDB_NO_MEMORY, "there is no memory for it");
    while (input->at < input->end) {
        if (!(begins_operation(*input->at) ? take_operation(inserter, input, database) : take_record(inserter, input)))
            break;
        if (inserter->arena_used > ARENA_FULL && !flush(inserter, input)) break;
    }
    if (!rdb_input_failed(input)) (void)flush(inserter, input);
    forget_pending(inserter);
    return input->status;
}

enum rdb_status rdb_insert_one(struct rdb_inserter *inserter, struct rdb_input *input, uint32_t database) {
    inserter->view.database = place_of(inserter, database);
    if (take_record(inserter, input)) (void)flush(inserter, input);
    forget_pending(inserter);
    return input->status;
}

/* ---- surveying ---- */

static bool survey_record(struct rdb_input *input) {
    struct attributes attributes;
    uint8_t type = get_attributes(input, &attributes);
    return !rdb_input_failed(input) && rdb_skip_string(input) && rdb_value_skip(input, type);
}

static bool survey_operation(struct rdb_input *input, const struct keyspace *keyspace, uint32_t *database) {
    switch (rdb_get_byte(input)) {
    case RDB_OP_SELECT: return rdb_get_database(input, keyspace, database);
    case RDB_OP_SLOT_INFO: (void)rdb_get_length(input); /* fall through */
    case RDB_OP_RESIZE:
        (void)rdb_get_length(input);
        (void)rdb_get_length(input);
        return !rdb_input_failed(input);
    default: return false;
    }
}

const uint8_t *rdb_survey(struct rdb_input *input, const struct keyspace *keyspace, uint32_t *database) {
    const uint8_t *behind = input->at;
    while (input->at < input->end) {
        uint32_t chosen = *database;
        if (!(begins_operation(*input->at) ? survey_operation(input, keyspace, &chosen) : survey_record(input))) break;
        *database = chosen;
        behind = input->at;
    }
    return behind;
}
