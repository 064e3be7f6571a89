/* See prefetch.h. */

#include "command/prefetch.h"

#include "record/collection.h"

enum {
    PREFETCH_GROUP = 12,    /* keys: a dozen or so misses are what a core can have under way */
    COLLECTION_WORTH = 448, /* bytes of a root: what commands on elements read of it */
    VALUE_WORTH = 256,      /* bytes of a value; where small ones go is in the caches more often than not */
};

void prefetch_begin(struct prefetcher *prefetcher, struct dispatcher *dispatcher, uint32_t database, size_t keys,
                    const struct request *requests, unsigned count) {
    prefetcher->dispatcher = dispatcher;
    prefetcher->database = database;
    prefetcher->count = keys > 1 ? keys : 0;
    prefetcher->buckets = prefetcher->records = prefetcher->ready = 0;
    prefetcher->next = prefetcher->reaching = requests;
    prefetcher->behind = requests + count;
    prefetcher->end = dispatcher->keyspace->locking || dispatcher->port ? requests : requests + count;
}

static inline size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The big collection a key leads to; NULL: there is none. */
static const struct collection *find_collection(const struct prefetcher *prefetcher, const struct key *key) {
    struct index *index = prefetcher->dispatcher->keyspace->shards[key->shard].databases[prefetcher->database];
    if (!index) return NULL;
    struct index_position position = index_find(index, key->hash, key->name, NULL);
    if (!position.bucket) return NULL;
    const struct record *record = ref_record(index_ref_at(position));
    return record_is_paged(record) ? collection_of(record) : NULL;
}

/* Whether it is the key of the command before. A hint may be wrong, so its hash is enough. */
static inline bool is_repeated(const struct key *keys, size_t at) {
    return at > 0 && keys[at].hash == keys[at - 1].hash;
}

/* What a command will look for in a big collection. */
struct target {
    const struct collection *collection;
    struct span element; /* empty: none, it adds to the end */
};

/* The root's own memory is asked for as well, but where commands before it had to do with the same. */
static unsigned gather_targets(struct prefetcher *prefetcher, struct target targets[PREFETCH_GROUP]) {
    const struct key *keys = prefetcher->dispatcher->keys, *found = NULL;
    const struct collection *collection = NULL;
    unsigned count = 0;
    for (; prefetcher->next < prefetcher->end && count < PREFETCH_GROUP; prefetcher->next++) {
        const struct request *request = prefetcher->next;
        if (!request->key_count || request->own_keys) continue;
        if ((size_t)(request->keys - keys) >= prefetcher->ready) break;
        uint8_t element = request->command->spec->element, reach = request->command->spec->reach;
        if (element >= request->argc || (!element && reach != REACH_BEHIND)) continue;
        /* Nothing runs meanwhile, so what was found stays where it is. */
        bool again = found && found->hash == request->keys->hash;
        if (!again) collection = find_collection(prefetcher, request->keys);
        found = request->keys;
        if (!collection || (again && !element)) continue;
        for (size_t at = 0; !again && at < COLLECTION_WORTH; at += 64)
            __builtin_prefetch((const char *)collection + at);
        targets[count++] = (struct target){collection, element ? request->argv[element] : span_of(NULL, 0)};
    }
    return count;
}

/* Where in big collections the commands will look. Only for a single worker: another one might be freeing them. */
static void prefetch_elements(struct prefetcher *prefetcher) {
    struct target targets[PREFETCH_GROUP];
    unsigned count, steps = 1;
    while ((count = gather_targets(prefetcher, targets)) > 0)
        for (unsigned step = 0; step < steps; step++)
            for (unsigned i = 0; i < count; i++) {
                const struct collection_kind *kind = targets[i].collection->kind;
                if (!kind->prefetch || step >= kind->prefetch_steps) continue;
                if (kind->prefetch_steps > steps) steps = kind->prefetch_steps;
                kind->prefetch(targets[i].collection, targets[i].element, step);
            }
}

void prefetch_room(const struct dispatcher *dispatcher, const struct request *request) {
    enum { VALUE = 2, HEADER = RECORD_HEADER_FIXED + 1 + 2 /* of nearly all that are asked about */ };
    if (!request->command || !(request->command->flags & COMMAND_DENYOOM)) return;
    if (request->key_count != 1 || request->argc <= VALUE || request->argv[VALUE].length < VALUE_WORTH) return;
    const struct key *key = request->keys;
    heap_prefetch(&dispatcher->keyspace->shards[key->shard].heap,
                  HEADER + key->name.length + request->argv[VALUE].length);
}

static const enum heap_part part_of_reach[] = {
    [REACH_FIRST] = HEAP_FIRST_QUARTER, /* where there may be room in front of them */
    [REACH_LAST] = HEAP_LAST_QUARTER,
    [REACH_MANY] = HEAP_FIRST_KILOBYTE, /* then the processor sees where it goes */
};

/* More of the packed values whose records were just asked for: `found`, of the keys up to number `end`. */
static void prefetch_reached(struct prefetcher *prefetcher, const void *const *found, size_t end) {
    const struct dispatcher *dispatcher = prefetcher->dispatcher;
    for (; prefetcher->reaching < prefetcher->behind; prefetcher->reaching++) {
        const struct request *request = prefetcher->reaching;
        if (!request->key_count || request->own_keys) continue;
        size_t at = (size_t)(request->keys - dispatcher->keys);
        if (at >= end) break;
        uint8_t reach = request->command->spec->reach;
        if (!reach || reach == REACH_BEHIND || at < prefetcher->records || !found[at - prefetcher->records]) continue;
        heap_prefetch_part(&dispatcher->keyspace->shards[request->keys->shard].heap, found[at - prefetcher->records],
                           part_of_reach[reach]);
    }
}

void prefetch_step(struct prefetcher *prefetcher) {
    const struct key *keys = prefetcher->dispatcher->keys;
    prefetcher->ready = prefetcher->records;
    size_t records = prefetcher->buckets, buckets = smaller(prefetcher->count, prefetcher->buckets + PREFETCH_GROUP);
    for (size_t i = prefetcher->buckets; i < buckets; i++) {
        prefetcher->hints[i].home = NULL;
        if (is_repeated(keys, i)) continue;
        struct shard *shard = &prefetcher->dispatcher->keyspace->shards[keys[i].shard];
        const struct index *index = __atomic_load_n(&shard->databases[prefetcher->database], __ATOMIC_ACQUIRE);
        if (index) prefetcher->hints[i] = index_prefetch_bucket(index, keys[i].hash);
    }
    struct keyspace *keyspace = prefetcher->dispatcher->keyspace;
    bool locking = keyspace->locking;
    /* What is overwritten is copied first. */
    bool whole = atomic_load_explicit(&keyspace->snapshot, memory_order_relaxed);
    const void *found[PREFETCH_GROUP];
    for (size_t i = prefetcher->records; i < records; i++) {
        /* The lock was probably last taken by another worker: have its line here, to be written, when it is needed. */
        if (locking) __builtin_prefetch(&keyspace->shards[keys[i].shard], 1);
        found[i - prefetcher->records] =
            prefetcher->hints[i].home ? index_prefetch_record(prefetcher->hints[i], whole) : NULL;
    }
    prefetch_reached(prefetcher, found, records);
    prefetcher->buckets = buckets;
    prefetcher->records = records;
    prefetch_elements(prefetcher);
}
