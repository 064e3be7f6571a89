#ifndef TERRACE_PERSIST_RDB_VALUE_LOAD_H
#define TERRACE_PERSIST_RDB_VALUE_LOAD_H

/* From the bytes of a value in RDB, whatever its type byte, to a value that a key can have.
 *
 *   struct rdb_value_loader loader;
 *   struct rdb_value value;
 *   rdb_value_loader_init(&loader, &view);
 *   if (rdb_value_load(&loader, &input, type, &key, &value) == RDB_DONE && !value.is_empty)
 *       ... lock the key's shard, look the key up ...
 *       if (!rdb_value_store(&view, &key, &lookup, &value, expiry_ms, access)) rdb_value_discard(&loader, &key,
 * &value);
 *
 * All of it is checked: structure of packed bytes, duplicates, the order of sorted sets and streams, scores that are no
 * numbers. What keyspace->limits let be packed is packed, and already packed bytes are taken as they are; what is
 * bigger is made of pages while it is read, in slices, so that a value never takes more memory than itself. What is
 * made belongs to nobody but the value until it is stored.
 *
 * A value that does not fit in memory goes to the tier while it is made, and its making waits for room: where there is
 * a tier only if the view has a port. Without one a big value is made in one slice, and RDB_NO_MEMORY means that the
 * caller may wait for room and load it again.
 *
 * Threads: a loader belongs to one thread. With `locks` it takes the lock of the key's shard for each slice, and none
 * may be held; without, the caller holds it (RESTORE). */

#include "keyspace/keyspace_collection.h"
#include "persist/rdb_input.h"

/* Called before memory for about so many bytes is taken, and again, with the number of the attempt, when there was none
 * after all. Returns when it is worth trying (again); false: there will be none. */
typedef bool rdb_wait_for_room(void *ctx, size_t bytes, unsigned attempt);

struct rdb_value_loader {
    const struct view *view; /* database, keyspace; `now_ms` 0: nothing has expired */
    int64_t now_ms;          /* for what is noted as made or used now */
    bool locks;
    rdb_wait_for_room *wait_for_room; /* asked with no lock held; NULL: nobody is, and a lack of memory is a failure */
    void *ctx;

    /* the loader's own */
    struct rdb_input *input;
    const struct key *key;
    struct rdb_text texts[2];
    uint8_t *packed; /* bytes being built */
    size_t packed_capacity;
    uint64_t *seen; /* hashes of what a packed value has, against duplicates */
    size_t seen_capacity;
};

struct rdb_value {
    enum record_type type;
    enum record_encoding encoding;
    struct span bytes; /* of a string or packed value: in the input's memory, or the loader's until its next value */
    int64_t integer;
    struct collection *collection; /* RECORD_PAGED */
    bool is_empty;                 /* a collection without elements: Redis passes such keys by. There is no value */
    bool in_loader;                /* `bytes` are the loader's */
};

void rdb_value_loader_init(struct rdb_value_loader *loader, const struct view *view);
void rdb_value_loader_free(struct rdb_value_loader *loader);

/* Whether there are values of this type byte here. */
bool rdb_value_is_known(uint8_t type);

/* Anything but RDB_DONE: there is no value, and the input says what was wrong. */
enum rdb_status rdb_value_load(struct rdb_value_loader *loader, struct rdb_input *input, uint8_t type,
                               const struct key *key, struct rdb_value *value) __attribute__((warn_unused_result));

/* Passes a value by, looking at no more than its lengths. False: the input says what was wrong. */
bool rdb_value_skip(struct rdb_input *input, uint8_t type) __attribute__((warn_unused_result));

/* The key has this value from now on, whatever it had. `expiry_ms`: or RECORD_EXPIRY_NONE. False: no memory, nothing
 * changed, and the value is still the caller's. The shard's lock is held. */
bool rdb_value_store(const struct view *view, const struct key *key, struct lookup *lookup,
                     const struct rdb_value *value, int64_t expiry_ms, uint32_t access)
    __attribute__((warn_unused_result));
/* Gives up a value that was not stored. With or without the lock, as `locks` says. */
void rdb_value_discard(struct rdb_value_loader *loader, const struct key *key, struct rdb_value *value);

#endif
