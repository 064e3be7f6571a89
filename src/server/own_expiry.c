/* See own_expiry.h. A tick looks at some keys, in the order in which they were remembered, and puts those that stay
 * behind the others. A name that is under consideration is in no list; should it be noted again meanwhile the later
 * entry is the one that counts. */

#include "server/own_expiry.h"

#include "base/clock.h"
#include "server/server.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS_FIRST = 64, KEYS_A_TICK = 2000 /* well below a millisecond */ };

struct own_key {
    struct own_key *next_in_slot, *next;
    uint64_t hash;
    uint32_t database;
    size_t length;
    char name[];
};

void own_expiry_init(struct server *server) {
    struct own_expiry *own = &server->own_expiry;
    pthread_mutex_init(&own->lock, NULL);
    own->last = &own->first;
    server->host.wrote_on_replica = own_expiry_note;
}

void own_expiry_forget(struct server *server) {
    struct own_expiry *own = &server->own_expiry;
    pthread_mutex_lock(&own->lock);
    while (own->first) {
        struct own_key *key = own->first;
        own->first = key->next;
        free(key);
    }
    own->last = &own->first;
    if (own->table) memset(own->table, 0, own->slots * sizeof(*own->table));
    atomic_store(&own->count, 0);
    pthread_mutex_unlock(&own->lock);
}

void own_expiry_free(struct server *server) {
    own_expiry_forget(server);
    free(server->own_expiry.table);
    pthread_mutex_destroy(&server->own_expiry.lock);
}

/* ---- the table; the lock is held ---- */

static struct own_key **slot_of(struct own_expiry *own, uint64_t hash) {
    return &own->table[(hash ^ hash >> 32) & (own->slots - 1)];
}

static bool is_known(struct own_expiry *own, const struct key *key, uint32_t database) {
    if (!own->table) return false;
    for (const struct own_key *at = *slot_of(own, key->hash); at; at = at->next_in_slot)
        if (at->hash == key->hash && at->database == database && at->length == key->name.length &&
            memcmp(at->name, key->name.data, at->length) == 0)
            return true;
    return false;
}

/* Without memory for a larger one the lists only become longer. False: there is none at all. */
static bool have_slots(struct own_expiry *own) {
    if (own->table && own->count < own->slots) return true;
    uint64_t slots = own->table ? own->slots * 2 : SLOTS_FIRST;
    struct own_key **table = calloc(slots, sizeof(*table));
    if (!table) return own->table != NULL;
    free(own->table);
    own->table = table;
    own->slots = slots;
    for (struct own_key *at = own->first; at; at = at->next) {
        struct own_key **slot = slot_of(own, at->hash);
        at->next_in_slot = *slot;
        *slot = at;
    }
    return true;
}

static void add(struct own_expiry *own, struct own_key *key) {
    struct own_key **slot = slot_of(own, key->hash);
    key->next_in_slot = *slot;
    *slot = key;
    key->next = NULL;
    *own->last = key;
    own->last = &key->next;
    atomic_fetch_add(&own->count, 1);
}

static struct own_key *take_first(struct own_expiry *own) {
    struct own_key *key = own->first;
    if (!key) return NULL;
    own->first = key->next;
    if (!own->first) own->last = &own->first;
    struct own_key **at = slot_of(own, key->hash);
    while (*at != key) at = &(*at)->next_in_slot;
    *at = key->next_in_slot;
    atomic_fetch_sub(&own->count, 1);
    return key;
}

/* ---- noting ---- */

static void note(struct own_expiry *own, const struct key *key, uint32_t database) {
    pthread_mutex_lock(&own->lock);
    if (!is_known(own, key, database) && have_slots(own)) {
        struct own_key *noted = malloc(sizeof(*noted) + key->name.length);
        if (noted) {
            *noted = (struct own_key){.hash = key->hash, .database = database, .length = key->name.length};
            memcpy(noted->name, key->name.data, key->name.length);
            add(own, noted);
        }
    }
    pthread_mutex_unlock(&own->lock);
}

void own_expiry_note(void *ctx, const struct call *call) {
    struct server *server = ctx;
    struct view view = call->view;
    view.keep_access = view.unheard = true;
    view.waiter = NULL;
    for (uint32_t i = 0; i < call->key_count; i++) {
        struct lookup lookup = keyspace_find(&view, &call->keys[i]);
        if (lookup.record && record_has_expiry(lookup.record)) note(&server->own_expiry, &call->keys[i], view.database);
    }
}

/* ---- removing ---- */

/* Whether the key, which is removed if it has expired, is still there with an expiry. */
static bool stays(struct server *server, const struct own_key *key) {
    struct keyspace *keyspace = server->keyspace;
    struct key wanted = keyspace_key(keyspace, span_of(key->name, key->length));
    struct view view = {.keyspace = keyspace,
                        .database = key->database,
                        .keep_access = true,
                        .unheard = true,
                        .port = server->workers[0]->dispatcher.port,
                        .now_ms = clock_unix_ms()};
    keyspace_enter(&view, wanted.shard);
    struct lookup lookup = keyspace_find(&view, &wanted);
    bool found = lookup.record && record_has_expiry(lookup.record);
    keyspace_leave(&view, wanted.shard);
    return found;
}

void own_expiry_tick(struct server *server) {
    struct own_expiry *own = &server->own_expiry;
    uint64_t due = atomic_load_explicit(&own->count, memory_order_relaxed);
    if (!due) return;
    if (!replication_is_replica(&server->replication)) {
        own_expiry_forget(server);
        return;
    }
    if (!atomic_load(&server->keyspace->active_expiry) || atomic_load(&server->host.paused)) return;
    if (due > KEYS_A_TICK) due = KEYS_A_TICK;
    while (due-- > 0) {
        pthread_mutex_lock(&own->lock);
        struct own_key *key = take_first(own);
        pthread_mutex_unlock(&own->lock);
        if (!key) return;
        bool kept = stays(server, key);
        struct key name = {.name = span_of(key->name, key->length), .hash = key->hash};
        pthread_mutex_lock(&own->lock);
        kept = kept && !is_known(own, &name, key->database);
        if (kept) add(own, key);
        pthread_mutex_unlock(&own->lock);
        if (!kept) free(key);
    }
}
