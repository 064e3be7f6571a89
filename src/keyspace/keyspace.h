#ifndef TERRACE_KEYSPACE_KEYSPACE_H
#define TERRACE_KEYSPACE_KEYSPACE_H

/* The keyspace: all databases, cut into shards. What command handlers see of storage.
 *
 *   key (name) --CRC16--> cluster slot --scaled--> shard --database--> index --hash--> record
 *
 * A handler is called with the shards of its keys locked. It looks a key up (struct lookup), and changes it
 * through the functions below, which keep index, heap, expiry and watchers in step. A pointer into a
 * record is valid until the next call that may change that shard.
 *
 * Threads: functions that take a `struct lookup` or a key need its shard's lock. Locks are skipped when the
 * keyspace was made for one worker (`locking` false). */

#include "base/crc16.h"
#include "base/limits.h"
#include "keyspace/access.h"
#include "keyspace/key_hash.h"
#include "keyspace/retire.h"
#include "keyspace/shard.h"
#include "keyspace/value_limits.h"
#include "memory/segment_pool.h"
#include "record/record.h"
#include "tiering/tier.h"

struct keyspace_options {
    unsigned shards;    /* a power of two, at most LIMIT_SHARDS; 0: 64 */
    unsigned databases; /* 0: 16 */
    bool locking;       /* more than one thread will use it */
    uint64_t seed;      /* secret, for key_hash() */
    const int *nodes;   /* NUMA nodes to spread the shards over; NULL: no binding */
    unsigned node_count;
    const uint8_t *shard_nodes; /* for each shard its place in `nodes`; NULL: as many on each */
    const int *far_nodes;       /* for each of `nodes` the far-memory node beside it, or -1; NULL: none */
    size_t far_bytes_max;       /* records in far memory, all nodes together; 0: what the nodes have */
    struct tier *tier;          /* NULL: none; outlives the keyspace */
    size_t reserve_bytes;       /* addresses per node; 0: by the machine's memory */
    bool huge_pages;            /* see struct region_pool_options */
};

/* The memory of index segments of one NUMA node, shared by its shards. */
struct index_memory {
    struct segment_pool segments;
    struct retire_list *retired;
    struct tier *tier; /* NULL: none */
    struct index_environment environment;
    pthread_mutex_t spare_lock; /* taken after any shard's */
    struct index *spare;        /* empty ones that shards had, linked by `next` */
};

/* What the keyspace tells by itself, as it happens and with the shard's lock held. The figures of struct
 * keyspace_listener say what somebody wants to hear; the rest costs a relaxed load. */
enum keyspace_event {
    KEYSPACE_KEY_CHANGED = 1 << 0, /* or removed, for whatever reason */
    KEYSPACE_KEY_NEW = 1 << 1,
    KEYSPACE_KEY_MISSED = 1 << 2, /* a command that reads did not find it */
    KEYSPACE_KEY_EXPIRED = 1 << 3,
    KEYSPACE_KEY_EVICTED = 1 << 4,
    KEYSPACE_FIELDS_EXPIRED = 1 << 6, /* of a hash */
    KEYSPACE_KEY_EMPTIED = 1 << 7,    /* and with its last one the key went */
    KEYSPACE_FLUSHED = 1 << 5,        /* a database or all; told by the command, once, without a key */
};

struct keyspace_listener {
    _Atomic uint32_t wanted; /* of enum keyspace_event */
    /* `client` is whose command it was, 0: nobody's. May take no shard's lock. */
    void (*tell)(void *ctx, enum keyspace_event event, struct span key, uint32_t database, uint64_t client);
    void *ctx;
};

/* What is removed although no command asked for it: told with the shard's lock held, keys as they expire or are
 * evicted, fields as they expire. NULL: nobody wants to know. Set while nobody uses the keyspace. May take no shard's
 * lock. */
struct keyspace_removal {
    void (*key)(struct span key, uint32_t database);
    void (*field)(struct span key, uint32_t database, struct span field);
};

struct keyspace_snapshot;

struct keyspace {
    struct shard *shards;
    unsigned shard_count;
    unsigned shard_shift;              /* cluster slot >> this = shard */
    unsigned database_count;           /* and as many more that nobody sees: keyspace_aside() */
    uint8_t shard_nodes[LIMIT_SHARDS]; /* place in `pools` */
    bool locking;
    uint64_t seed;
    struct access_policy access;
    struct retire_list *retired;
    struct region_pool **pools; /* one a node */
    unsigned pool_count;
    struct region_pool **far_pools; /* one a node, NULL where there is no far memory beside it; NULL: nowhere */
    size_t far_bytes_max;
    struct tier *tier;                 /* NULL: none */
    atomic_bool promotion_paused;      /* there is no room to bring cold records back */
    struct index_memory *index_memory; /* one a node: segments of all its shards' indexes */
    struct value_limits limits;
    atomic_uint condemned_collections;       /* that are still to be freed */
    struct collection_registry *collections; /* keyspace_collection.h */
    atomic_bool active_expiry;               /* DEBUG SET-ACTIVE-EXPIRE */
    atomic_bool keeps_expired; /* what has expired is removed by somebody else's commands: a replica's keyspace */
    struct wait_figures waits; /* of all shards */
    struct keyspace_snapshot *_Atomic snapshot; /* that is being taken; NULL: none */
    atomic_uint snapshot_helpers;               /* workers that take slices of it */
    struct keyspace_listener listener;          /* set once, before any thread uses the keyspace */
    struct keyspace_removal removal;
};

/* A key of a command, prepared once: where it belongs and its hash. */
struct key {
    struct span name;
    uint64_t hash;
    uint32_t shard;
};

/* From where a command looks at the keyspace. */
struct view {
    struct keyspace *keyspace;
    uint32_t database;
    bool keep_access;       /* lookups leave the access bits alone (CLIENT NO-TOUCH, OBJECT, TTL ...) */
    bool locked_all;        /* all shards are locked: keyspace_enter() has nothing to do */
    struct tier_port *port; /* of the worker it runs on; NULL: there is no tier */
    struct tier_waiter
        *waiter;      /* a lookup that finds its record neither in memory nor at hand asks for it on behalf of
                       * this one and answers "absent": the command is run again. NULL: it is read on the spot. */
    bool *unreadable; /* set when a page that is needed cannot be read; NULL: nobody wants to know */
    bool quiet;       /* the value stays the same in other bytes: no change is counted, no watcher told */
    bool unheard;     /* a key that is missed is not told of */
    bool replays; /* the command was run before: what expired then is removed by a command of its own, and until then
                   * nothing has expired */
    bool leaves_expired; /* what has expired counts as absent, but stays where it is */
    bool *effects_dirty; /* set when something changes that a later run would have to repeat: not what expires, nor in
                          * which bytes a value is kept. NULL: nobody wants to know */
    uint64_t client;     /* whose command it is; 0: nobody's */
    int64_t now_ms;      /* one time for the whole command */
    uint32_t random;     /* changes with every command */
};

static inline void view_note_change(const struct view *view) {
    if (__builtin_expect(view->effects_dirty != NULL, 0)) *view->effects_dirty = true;
}
/* The time by which keys and fields have expired. */
static inline int64_t view_expiry_ms(const struct view *view) {
    return __builtin_expect(view->replays, 0) ? 0 : view->now_ms;
}

struct lookup {
    struct shard *shard;
    struct record *record; /* NULL: absent. Of a cold record a copy, good for reading during this command */
    struct index_position position;
    uint64_t ref; /* of a record that is there */
};

static inline bool lookup_is_cold(const struct lookup *lookup) {
    return lookup->record && ref_is_cold(lookup->ref);
}

static inline void keyspace_tell(struct keyspace *keyspace, enum keyspace_event event, struct span key,
                                 uint32_t database, uint64_t client) {
    struct keyspace_listener *listener = &keyspace->listener;
    if (__builtin_expect(atomic_load_explicit(&listener->wanted, memory_order_relaxed) & event, 0))
        listener->tell(listener->ctx, event, key, database, client);
}
static inline void keyspace_tell_removed(struct keyspace *keyspace, struct span key, uint32_t database) {
    if (__builtin_expect(keyspace->removal.key != NULL, 0)) keyspace->removal.key(key, database);
}
static inline bool keyspace_is_heard(struct keyspace *keyspace, uint32_t events) {
    return atomic_load_explicit(&keyspace->listener.wanted, memory_order_relaxed) & events;
}

/* How many shards serve this many workers well: so many that a worker seldom wants one that another has just had, which
 * would send its cache line back and forth. A power of two. */
unsigned keyspace_shards_for(unsigned workers);

/* Which of the keyspace's nodes a shard is on. */
static inline unsigned keyspace_node_of(const struct keyspace *keyspace, uint32_t shard) {
    return keyspace->shard_nodes[shard];
}

struct keyspace *keyspace_create(const struct keyspace_options *options);
void keyspace_destroy(struct keyspace *keyspace);

static inline struct key keyspace_key(const struct keyspace *keyspace, struct span name) {
    return (struct key){name, key_hash(name, keyspace->seed), cluster_slot_of(name) >> keyspace->shard_shift};
}

/* The key's shard alone. */
static inline uint32_t keyspace_key_shard(const struct keyspace *keyspace, struct span name) {
    return cluster_slot_of(name) >> keyspace->shard_shift;
}

/* A database beside this one, which commands, cursors, snapshots, expiry and demotion know nothing of: for a dataset
 * that is loaded while the present one is served, and then takes its place (keyspace_swap_databases()). */
static inline uint32_t keyspace_aside(const struct keyspace *keyspace, uint32_t database) {
    return keyspace->database_count + database;
}
static inline uint32_t keyspace_databases_with_aside(const struct keyspace *keyspace) {
    return keyspace->database_count * 2;
}

static inline void keyspace_lock(struct keyspace *keyspace, uint32_t shard) {
    if (keyspace->locking) shard_lock(&keyspace->shards[shard]);
}
static inline void keyspace_unlock(struct keyspace *keyspace, uint32_t shard) {
    if (keyspace->locking) shard_unlock(&keyspace->shards[shard]);
}

/* Whether the command has asked for a record or page that it has to wait for. */
static inline bool view_misses(const struct view *view) {
    return view->waiter && view->waiter->missed;
}

/* Whether the command may change something now. It may not once a record or page it needs was found missing: it is
 * going to be run again, and what it goes on to do only has more of them requested. After its first change it reads on
 * the spot, so it never is run again then. All functions that change something ask by themselves; those that return
 * nothing do nothing. */
static inline bool view_begin_change(const struct view *view) {
    struct tier_waiter *waiter = view->waiter;
    if (__builtin_expect(!waiter, 1)) return true;
    if (waiter->missed) return false;
    if (!waiter->committed && waiter->stores) tier_forgo_promised(waiter);
    waiter->committed = true;
    return true;
}

/* For handlers that go through shards one by one: locks unless the command holds them all already. */
struct shard *keyspace_enter(const struct view *view, uint32_t shard);
void keyspace_leave(const struct view *view, uint32_t shard);

/* ---- lookup ---- */

/* An expired record is removed and counts as absent. */
struct lookup keyspace_find(const struct view *view, const struct key *key);
/* The same, counting a hit or a miss and renewing the access bits: for commands that read. */
struct lookup keyspace_read(const struct view *view, const struct key *key);
/* The same without counting: for commands that are about to change the key. */
struct lookup keyspace_find_for_write(const struct view *view, const struct key *key);

/* The record, which is there, may lead to a collection that is going to be changed: said by the function before, and by
 * who looked up otherwise. A snapshot freezes it while its key is at hand. */
void keyspace_before_change(const struct view *view, const struct lookup *lookup);

/* What is there, without removing, renewing or counting anything. */
enum keyspace_presence { KEYSPACE_ABSENT, KEYSPACE_EXPIRED, KEYSPACE_LIVE };
enum keyspace_presence keyspace_look(const struct view *view, const struct key *key);

static inline bool record_is_expired(const struct record *record, int64_t now_ms) {
    return record_has_expiry(record) && record_expiry(record) <= now_ms;
}

/* Makes sure that a lookup of the key will find its record in memory or at hand. */
enum keyspace_stage {
    KEYSPACE_STAGED,
    KEYSPACE_PENDING, /* reads were started for the waiter */
    KEYSPACE_FAILED,  /* the record that seems to have this key cannot be read */
};
enum keyspace_stage keyspace_stage(const struct view *view, const struct key *key, struct tier_waiter *waiter);

/* The record of any reference of the shard whose lock is held: itself, or a copy. NULL: it could not be had now (see
 * view->waiter), or cannot be read at all. */
const struct record *keyspace_record(const struct view *view, uint64_t ref);
/* Has it requested, unless that would take more memory than the port may use. False: the command is going to be run
 * again. */
bool keyspace_request(const struct view *view, uint64_t ref);

/* ---- change: each tells the key's watchers and counts a change ---- */

/* Makes or replaces the record; `plan->key` and `plan->access` are filled in here. False: no memory,
 * nothing changed. The lookup is renewed. */
bool keyspace_store(const struct view *view, const struct key *key, struct lookup *lookup, struct record_plan *plan)
    __attribute__((warn_unused_result));
void keyspace_remove(const struct view *view, const struct key *key, struct lookup *lookup);
/* Unix milliseconds or RECORD_EXPIRY_NONE. False: no memory, nothing changed. */
bool keyspace_set_expiry(const struct view *view, const struct key *key, struct lookup *lookup, int64_t expiry_ms)
    __attribute__((warn_unused_result));

/* The bytes of a raw value, now `length` long, to be changed in place: those that were there stay, added ones
 * are zero. Precondition: the record exists and is RECORD_RAW or packed. NULL: no memory, nothing changed. */
char *keyspace_edit_value(const struct view *view, const struct key *key, struct lookup *lookup, size_t length)
    __attribute__((warn_unused_result));
/* Gives back the end of a value that keyspace_edit_value() has just opened and that needs only `length` bytes: its
 * address may change. Part of the same change, so nothing is counted or told. Without memory for a shorter record the
 * value keeps its length. */
void keyspace_shorten_value(const struct view *view, const struct key *key, struct lookup *lookup, size_t length);
/* The longest value that takes no more memory in this record than one of `length`: what a value that goes on growing
 * should be made for. */
size_t keyspace_value_filling(const struct lookup *lookup, size_t length);

/* Moves a record from the tier or from far memory into DRAM, as it is. False: no memory; it stays where it is. */
bool keyspace_bring_back(const struct view *view, struct lookup *lookup) __attribute__((warn_unused_result));

/* Has OBJECT ENCODING tell that the value was edited. One that cannot be brought into memory for it keeps its name. */
void keyspace_mark_edited(const struct view *view, struct lookup *lookup);

/* Tells watchers that a key changed; the functions above have done it already. */
void keyspace_touched(const struct view *view, const struct key *key);

/* A field of the key's hash expires at `due_ms`: have the sweep come by. */
void keyspace_note_fields(const struct view *view, const struct key *key, int64_t due_ms);

/* ---- whole databases: no lock may be held unless view->locked_all ---- */

uint64_t keyspace_database_size(const struct view *view);
/* Empties one database at once; the records are freed afterwards in slices by keyspace_drain(). */
void keyspace_flush(const struct view *view);
/* Precondition: view->locked_all. */
void keyspace_swap_databases(const struct view *view, uint32_t first, uint32_t second);

/* One step through a database in cursor order. Calls `visit` under the lock of the shard with live and expired
 * records alike; `visit` may not change the keyspace. Returns the next cursor; 0: the end. A cursor is below 2^53,
 * so that clients which keep numbers as doubles can carry it. At least `want` records unless the end is near: so many
 * were met (`met`, if not NULL, grows by their number), though those that are cold and not at hand are not visited. */
typedef void keyspace_visit(void *ctx, const struct record *record);
uint64_t keyspace_scan(const struct view *view, uint64_t cursor, size_t want, size_t *met, keyspace_visit *visit,
                       void *ctx);

/* A random live record of the database, visited under its shard's lock; false: there is none. What has expired and is
 * met on the way, perhaps several times, goes to `expired` (NULL: to nobody), likewise under its lock. */
bool keyspace_random(const struct view *view, uint64_t random, keyspace_visit *visit, keyspace_visit *expired,
                     void *ctx);

/* ---- background work: bounded steps, no lock may be held ---- */

/* With what a sweep reads blocks in which many records have expired; NULL where there is no tier. The waiter is the
 * sweeper's own, the same each time; a sweep of a shard that waits for it goes on at the same place. */
struct keyspace_sweeper {
    struct tier_port *port;
    struct tier_waiter *waiter;
};

/* False: no hash has fields that expire. No command may run meanwhile. */
bool keyspace_may_have_field_ttl(const struct keyspace *keyspace);

/* Removes expired records of shard `shard` for about `budget_ns`. Returns the share of the volatile
 * records it saw that had expired, in percent, so that the caller can go on where it pays; -1: a full
 * pass over the shard was finished. */
int keyspace_sweep(struct keyspace *keyspace, uint32_t shard, int64_t now_ms, uint64_t budget_ns,
                   const struct keyspace_sweeper *sweeper);
/* Frees records of flushed databases; true: there is more. */
bool keyspace_drain(struct keyspace *keyspace, uint32_t shard, uint64_t budget_ns);
/* Empties sparse slab pages and pages of index segments; returns the number of records and segments moved. */
size_t keyspace_compact(struct keyspace *keyspace, uint32_t shard, size_t budget_records);
/* The same where memory is short: a large collection is not given a heap of its own now, for which its pages are there
 * twice for a moment, and which takes milliseconds. */
size_t keyspace_squeeze(struct keyspace *keyspace, uint32_t shard, size_t budget_records);

/* ---- pins: values that are being sent ---- */

/* Whether the record's value can be sent from where it lies; if so keeps it there until keyspace_unpin(). */
bool keyspace_pin(const struct view *view, const struct lookup *lookup);
/* Takes the shard's lock itself. */
void keyspace_unpin(struct keyspace *keyspace, uint32_t shard, struct record *record);

/* ---- figures ---- */

struct keyspace_usage {
    struct shard_counters counters;
    uint64_t changes;
    uint64_t records;      /* in memory */
    uint64_t far_records;  /* of these, in far memory */
    uint64_t cold_records; /* on the tier */
    uint64_t watched_keys;
    size_t record_bytes;       /* size classes of live records in memory */
    size_t far_record_bytes;   /* of these, in far memory */
    size_t page_bytes;         /* slab pages, runs and mappings behind them */
    size_t index_bytes;        /* segments, directories and all */
    size_t segment_bytes;      /* of these, the segments: what does not come from malloc */
    size_t segment_page_bytes; /* pages behind them */
    size_t dirty_bytes;        /* freed pages not yet given back */
};
/* Shard by shard; no lock may be held unless view->locked_all. */
void keyspace_usage(const struct view *view, struct keyspace_usage *usage);
/* Of records in memory, far memory included: an estimate, without locks; some nanoseconds a shard. */
size_t keyspace_resident_bytes(const struct keyspace *keyspace);
/* Of the indexes' segments. Any thread. */
size_t keyspace_index_bytes(const struct keyspace *keyspace);

/* Changes of keys, ever. No shard lock may be held. */
uint64_t keyspace_changes(struct keyspace *keyspace);

struct database_usage {
    uint64_t keys, expires;
    int64_t average_ttl_ms; /* estimated from a sample */
    size_t index_bytes;
};
void keyspace_database_usage(const struct view *view, uint32_t database, struct database_usage *usage);

/* Checks every shard's index and heap; for tests and debug builds. */
bool keyspace_validate(struct keyspace *keyspace);

#endif
