/* See tracking.h.
 *
 * The table of a shard is chained hashing by the key's hash; databases are not told apart, as clients do not. An entry
 * holds its trackers sorted by address. One that has ended stays in the entries until they are told: it is skipped.
 *
 * The listener of the keyspace is asked to tell of changes while there is any tracker, so without one a change costs
 * what the listener's flags cost.
 *
 * What changes is gathered for those who BROADCAST, and told when a worker next delivers messages: one message for each
 * prefix, with all its keys, each once.
 *
 * Words: an item is one tracker of one entry. */

#include "server/tracking.h"

#include "base/number.h"

#include <assert.h>
#include <stdlib.h>

enum {
    FIRST_CHAINS = 16,
    TICK_KEYS = 4096,    /* forgotten in a tick: some hundred microseconds */
    FORGET_MOST = 100,   /* keys, when one is added above the limit: it may have been lowered */
    GATHERED_MOST = 128, /* keys; more are told at once. What a turn changes is mostly less */
};

struct changed_key {
    struct span name; /* owned */
    uint64_t client;  /* who changed it last; 0: nobody */
    uint32_t order;
};

struct tracked_key {
    struct tracked_key *next;
    uint64_t hash;
    uint32_t count, capacity;
    struct tracker **trackers;
    uint32_t length;
    char name[];
};

struct key_table {
    struct tracked_key **chains; /* NULL until the first key */
    uint32_t mask, count;
    uint32_t hand; /* the chain that forgets next */
    stat_counter items;
} __attribute__((aligned(64)));

struct tracking {
    struct pubsub *pubsub;
    struct keyspace *keyspace;
    struct key_table *tables; /* one a shard */
    _Atomic uint64_t keys, keys_max;
    uint32_t next_shard;       /* whose keys a tick forgets next, above the limit */
    pthread_rwlock_t lock;     /* of what follows; shard locks may be held when it is taken */
    struct tracker **trackers; /* all that have not ended */
    size_t count, capacity;
    _Atomic size_t broadcasting; /* of them, with BROADCAST */
    pthread_mutex_t gathering;   /* of what follows; taken last */
    struct changed_key gathered[GATHERED_MOST];
    _Atomic uint32_t gathered_count;
};

struct tracking *tracking_create(struct pubsub *pubsub, struct keyspace *keyspace) {
    struct tracking *tracking = calloc(1, sizeof(*tracking));
    size_t bytes = keyspace->shard_count * sizeof(struct key_table);
    struct key_table *tables = aligned_alloc(64, bytes);
    if (!tracking || !tables) {
        free(tracking);
        free(tables);
        return NULL;
    }
    memset(tables, 0, bytes);
    tracking->pubsub = pubsub;
    tracking->keyspace = keyspace;
    tracking->tables = tables;
    pthread_rwlock_init(&tracking->lock, NULL);
    pthread_mutex_init(&tracking->gathering, NULL);
    return tracking;
}

/* ---- trackers ---- */

static void free_prefixes(struct tracker_prefix *prefix) {
    while (prefix) {
        struct tracker_prefix *next = prefix->next;
        free(prefix);
        prefix = next;
    }
}

static void release(struct tracker *tracker) {
    if (atomic_fetch_sub_explicit(&tracker->references, 1, memory_order_acq_rel) != 1) return;
    free_prefixes(tracker->prefixes);
    mailbox_release(tracker->mailbox);
    if (tracker->target) mailbox_release(tracker->target);
    free(tracker);
}

static bool enter(struct tracking *tracking, struct tracker *tracker) {
    bool entered = true;
    pthread_rwlock_wrlock(&tracking->lock);
    if (tracking->count == tracking->capacity) {
        size_t capacity = tracking->capacity ? tracking->capacity * 2 : 16;
        struct tracker **grown = realloc(tracking->trackers, capacity * sizeof(struct tracker *));
        entered = grown != NULL;
        if (grown) {
            tracking->trackers = grown;
            tracking->capacity = capacity;
        }
    }
    if (entered) {
        tracking->trackers[tracking->count++] = tracker;
        atomic_fetch_or(&tracking->keyspace->listener.wanted, KEYSPACE_KEY_CHANGED | KEYSPACE_FLUSHED);
    }
    pthread_rwlock_unlock(&tracking->lock);
    return entered;
}

struct tracker *tracking_begin(struct tracking *tracking, struct mailbox *mailbox) {
    struct tracker *tracker = calloc(1, sizeof(*tracker));
    if (!tracker) return NULL;
    atomic_init(&tracker->references, 1);
    tracker->id = mailbox->id;
    tracker->mailbox = mailbox_hold(mailbox);
    if (enter(tracking, tracker)) return tracker;
    release(tracker);
    return NULL;
}

/* Puts copies in front of the list `*list`. False: no memory; some may have been put. */
static bool add_prefixes(struct tracker_prefix **list, const struct span *prefixes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct tracker_prefix *prefix = malloc(sizeof(*prefix) + prefixes[i].length);
        if (!prefix) return false;
        *prefix = (struct tracker_prefix){.next = *list, .length = prefixes[i].length};
        memcpy(prefix->text, prefixes[i].data, prefixes[i].length);
        *list = prefix;
    }
    return true;
}

bool tracking_set_mode(struct tracking *tracking, struct tracker *tracker, uint32_t flags, struct mailbox *target,
                       const struct span *prefixes, size_t prefix_count) {
    struct tracker_prefix *added = NULL, **end = &added;
    if (!add_prefixes(&added, prefixes, prefix_count)) {
        free_prefixes(added);
        return false;
    }
    for (; *end; end = &(*end)->next) tracker->prefix_bytes += sizeof(struct tracker_prefix) + (*end)->length;
    *end = tracker->prefixes;
    tracker->prefixes = added;
    if ((flags & ~tracker->flags) & TRACKER_BROADCAST) atomic_fetch_add(&tracking->broadcasting, 1);
    tracker->flags = flags;
    if (target) mailbox_hold(target);
    if (tracker->target) mailbox_release(tracker->target);
    tracker->target = target;
    atomic_store(&tracker->broken, false);
    return true;
}

void tracking_end(struct tracking *tracking, struct tracker *tracker) {
    size_t place = 0;
    atomic_store(&tracker->ended, true);
    pthread_rwlock_wrlock(&tracking->lock);
    while (tracking->trackers[place] != tracker) place++;
    tracking->trackers[place] = tracking->trackers[--tracking->count];
    if (tracker->flags & TRACKER_BROADCAST) atomic_fetch_sub(&tracking->broadcasting, 1);
    if (tracking->count == 0)
        atomic_fetch_and(&tracking->keyspace->listener.wanted, ~(uint32_t)(KEYSPACE_KEY_CHANGED | KEYSPACE_FLUSHED));
    pthread_rwlock_unlock(&tracking->lock);
    release(tracker);
}

/* ---- messages ---- */

/* The keys that clients are told of; none: everything was flushed. Composed when it is first needed. */
struct news {
    struct tracking *tracking;
    const struct span *keys;
    size_t count;
    struct message *direct, *redirected;
};

static char *append(char *end, struct span text) {
    memcpy(end, text.data, text.length);
    return end + text.length;
}

static char *append_number(char *end, const char *sign, size_t number) {
    end = append(end, span_of_text(sign));
    end += number_format_i64((int64_t)number, end);
    return append(end, SPAN_LITERAL("\r\n"));
}

static char *append_payload(char *end, const struct news *news, struct span null) {
    if (news->count == 0) return append(end, null);
    end = append_number(end, "*", news->count);
    for (size_t i = 0; i < news->count; i++) {
        end = append_number(end, "$", news->keys[i].length);
        end = append(append(end, news->keys[i]), SPAN_LITERAL("\r\n"));
    }
    return end;
}

static size_t payload_room(const struct news *news) {
    size_t room = NUMBER_TEXT_MAX + 16;
    for (size_t i = 0; i < news->count; i++) room += news->keys[i].length + NUMBER_TEXT_MAX + 8;
    return room;
}

/* Both forms; of a message to the tracking client itself only that of RESP3, since the other has no place for it. */
static struct message *compose(const struct news *news, bool redirected) {
    const struct span channel = SPAN_LITERAL("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n");
    const struct span push = SPAN_LITERAL(">2\r\n$10\r\ninvalidate\r\n");
    struct message *message = message_create(channel.length + push.length + 2 * payload_room(news));
    if (!message) return NULL;
    char *end = message->bytes;
    if (redirected) end = append_payload(append(end, channel), news, SPAN_LITERAL("$-1\r\n"));
    message->length = (uint32_t)(end - message->bytes);
    end = append_payload(append(end, push), news, SPAN_LITERAL("_\r\n"));
    message->resp3_length = (uint32_t)(end - message->bytes) - message->length;
    message->needs_subscription = true;
    return message;
}

/* Who was to be told in a client's place has left: it has to know that its cache is not kept up to date any more. */
static void tell_broken(struct tracking *tracking, struct tracker *tracker) {
    const struct span text = SPAN_LITERAL(">2\r\n$21\r\ntracking-redir-broken\r\n:");
    struct message *message = message_create(text.length + NUMBER_TEXT_MAX + 2);
    atomic_store(&tracker->broken, true);
    if (!message) return;
    char *end = append(message->bytes, text);
    end += number_format_i64((int64_t)tracker->target->id, end);
    end = append(end, SPAN_LITERAL("\r\n"));
    message->length = 0;
    message->resp3_length = (uint32_t)(end - message->bytes);
    pubsub_send(tracking->pubsub, tracker->mailbox, message);
    message_release(message);
}

static void tell(struct news *news, struct tracker *tracker) {
    struct message **message = tracker->target ? &news->redirected : &news->direct;
    if (atomic_load_explicit(&tracker->ended, memory_order_acquire)) return;
    if (tracker->target && atomic_load_explicit(&tracker->target->closed, memory_order_acquire)) {
        tell_broken(news->tracking, tracker);
        return;
    }
    if (!*message) *message = compose(news, tracker->target);
    if (*message) pubsub_send(news->tracking->pubsub, tracker->target ? tracker->target : tracker->mailbox, *message);
}

static void drop_news(struct news *news) {
    if (news->direct) message_release(news->direct);
    if (news->redirected) message_release(news->redirected);
    news->direct = news->redirected = NULL;
}

/* ---- the table ---- */

static struct key_table *table_of(struct tracking *tracking, uint32_t shard) {
    return &tracking->tables[shard];
}

static struct tracked_key **find(struct key_table *table, uint64_t hash, struct span name) {
    if (!table->chains) return NULL;
    struct tracked_key **link = &table->chains[hash & table->mask];
    while (*link && !((*link)->hash == hash && span_equal(span_of((*link)->name, (*link)->length), name)))
        link = &(*link)->next;
    return *link ? link : NULL;
}

static bool grow(struct key_table *table) {
    uint32_t size = table->chains ? (table->mask + 1) * 2 : FIRST_CHAINS;
    struct tracked_key **chains = calloc(size, sizeof(struct tracked_key *));
    if (!chains) return table->chains != NULL;
    for (uint32_t i = 0; table->chains && i <= table->mask; i++)
        for (struct tracked_key *key = table->chains[i], *next; key; key = next) {
            next = key->next;
            key->next = chains[key->hash & (size - 1)];
            chains[key->hash & (size - 1)] = key;
        }
    free(table->chains);
    table->chains = chains;
    table->mask = size - 1;
    return true;
}

/* Takes it out of the table and frees it; its trackers are told, but for client `except`, if it wants that. */
static void forget(struct tracking *tracking, struct key_table *table, struct tracked_key **link, uint64_t except) {
    struct tracked_key *key = *link;
    struct span name = span_of(key->name, key->length);
    struct news news = {.tracking = tracking, .keys = &name, .count = 1};
    *link = key->next;
    table->count--;
    atomic_fetch_sub_explicit(&tracking->keys, 1, memory_order_relaxed);
    stat_set(&table->items, stat_get(&table->items) - key->count);
    for (uint32_t i = 0; i < key->count; i++) {
        struct tracker *tracker = key->trackers[i];
        if (!((tracker->flags & TRACKER_NO_LOOP) && tracker->id == except)) tell(&news, tracker);
        release(tracker);
    }
    drop_news(&news);
    free(key->trackers);
    free(key);
}

static bool is_above_limit(const struct tracking *tracking) {
    uint64_t most = atomic_load_explicit(&tracking->keys_max, memory_order_relaxed);
    return most && atomic_load_explicit(&tracking->keys, memory_order_relaxed) > most;
}

static void forget_some(struct tracking *tracking, struct key_table *table) {
    for (unsigned i = 0; i < FORGET_MOST && table->count && is_above_limit(tracking); i++) {
        while (!table->chains[table->hand & table->mask]) table->hand++;
        forget(tracking, table, &table->chains[table->hand & table->mask], 0);
        table->hand++;
    }
}

static struct tracked_key *add_key(struct tracking *tracking, struct key_table *table, const struct key *key) {
    if ((!table->chains || table->count > table->mask) && !grow(table)) return NULL;
    struct tracked_key *entry = malloc(sizeof(*entry) + key->name.length);
    if (!entry) return NULL;
    *entry = (struct tracked_key){.hash = key->hash, .length = (uint32_t)key->name.length};
    memcpy(entry->name, key->name.data, key->name.length);
    entry->next = table->chains[key->hash & table->mask];
    table->chains[key->hash & table->mask] = entry;
    table->count++;
    atomic_fetch_add_explicit(&tracking->keys, 1, memory_order_relaxed);
    return entry;
}

/* False: no memory. */
static bool add_tracker(struct key_table *table, struct tracked_key *key, struct tracker *tracker) {
    uint32_t low = 0, high = key->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (key->trackers[middle] < tracker)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < key->count && key->trackers[low] == tracker) return true;
    if (key->count == key->capacity) {
        uint32_t capacity = key->capacity ? key->capacity * 2 : 2;
        struct tracker **grown = realloc(key->trackers, capacity * sizeof(struct tracker *));
        if (!grown) return false;
        key->trackers = grown;
        key->capacity = capacity;
    }
    memmove(key->trackers + low + 1, key->trackers + low, (key->count - low) * sizeof(struct tracker *));
    key->trackers[low] = tracker;
    key->count++;
    atomic_fetch_add_explicit(&tracker->references, 1, memory_order_relaxed);
    stat_add(&table->items, 1);
    return true;
}

void tracking_remember(struct tracking *tracking, struct tracker *tracker, const struct key *key) {
    struct key_table *table = table_of(tracking, key->shard);
    struct tracked_key **found = find(table, key->hash, key->name);
    struct tracked_key *entry = found ? *found : add_key(tracking, table, key);
    if (!entry || !add_tracker(table, entry, tracker)) {
        struct news news = {.tracking = tracking, .keys = &key->name, .count = 1};
        tell(&news, tracker);
        drop_news(&news);
    }
    if (!found) forget_some(tracking, table);
}

/* ---- changes ---- */

/* ---- broadcasting ---- */

static bool has_prefix(struct span key, struct span prefix) {
    return key.length >= prefix.length && memcmp(key.data, prefix.data, prefix.length) == 0;
}

static int compare_changed(const void *first, const void *second) {
    const struct changed_key *a = first, *b = second;
    size_t shorter = a->name.length < b->name.length ? a->name.length : b->name.length;
    int order = memcmp(a->name.data, b->name.data, shorter);
    if (order) return order;
    if (a->name.length != b->name.length) return a->name.length < b->name.length ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* Of a key that changed several times the last is kept. Returns how many are left. */
static uint32_t leave_one_of_each(struct changed_key *changed, uint32_t count) {
    uint32_t kept = 0;
    qsort(changed, count, sizeof(*changed), compare_changed);
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 < count && span_equal(changed[i].name, changed[i + 1].name))
            free((char *)changed[i].name.data);
        else
            changed[kept++] = changed[i];
    }
    return kept;
}

/* All that is told at once, and the last message made of it, since most who broadcast have the same prefix. */
struct broadcast {
    const struct changed_key *changed;
    uint32_t count;
    struct news news;
    struct span keys[GATHERED_MOST];
    struct span prefix; /* of the news */
    bool is_shared;     /* the news: nothing is left out of it for its tracker's sake */
};

static void choose_keys(struct broadcast *broadcast, const struct tracker *tracker, struct span prefix) {
    bool avoids = tracker->flags & TRACKER_NO_LOOP, left_out = false;
    bool same = broadcast->is_shared && span_equal(broadcast->prefix, prefix);
    for (uint32_t i = 0; i < broadcast->count; i++) left_out |= avoids && broadcast->changed[i].client == tracker->id;
    if (same && !left_out) return;
    drop_news(&broadcast->news);
    broadcast->prefix = prefix;
    broadcast->is_shared = !left_out;
    broadcast->news.count = 0;
    for (uint32_t i = 0; i < broadcast->count; i++) {
        const struct changed_key *key = &broadcast->changed[i];
        if (has_prefix(key->name, prefix) && !(avoids && key->client == tracker->id))
            broadcast->keys[broadcast->news.count++] = key->name;
    }
}

static void broadcast_to(struct broadcast *broadcast, struct tracker *tracker) {
    const struct tracker_prefix *prefix = tracker->prefixes;
    do {
        choose_keys(broadcast, tracker, prefix ? span_of(prefix->text, prefix->length) : SPAN_LITERAL(""));
        if (broadcast->news.count) tell(&broadcast->news, tracker);
    } while (prefix && (prefix = prefix->next));
}

static void broadcast(struct tracking *tracking, const struct changed_key *changed, uint32_t count) {
    struct broadcast all = {.changed = changed, .count = count, .news.tracking = tracking};
    all.news.keys = all.keys;
    pthread_rwlock_rdlock(&tracking->lock);
    for (size_t i = 0; i < tracking->count; i++)
        if (tracking->trackers[i]->flags & TRACKER_BROADCAST) broadcast_to(&all, tracking->trackers[i]);
    pthread_rwlock_unlock(&tracking->lock);
    drop_news(&all.news);
}

void tracking_broadcast(struct tracking *tracking) {
    struct changed_key changed[GATHERED_MOST];
    if (atomic_load_explicit(&tracking->gathered_count, memory_order_acquire) == 0) return;
    pthread_mutex_lock(&tracking->gathering);
    uint32_t count = atomic_load(&tracking->gathered_count);
    memcpy(changed, tracking->gathered, count * sizeof(*changed));
    atomic_store(&tracking->gathered_count, 0);
    pthread_mutex_unlock(&tracking->gathering);
    count = leave_one_of_each(changed, count);
    broadcast(tracking, changed, count);
    for (uint32_t i = 0; i < count; i++) free((char *)changed[i].name.data);
}

/* Without memory to remember it, the key is told of at once. */
static void gather(struct tracking *tracking, struct span key, uint64_t client) {
    struct changed_key changed = {.name = key, .client = client};
    char *copy = malloc(key.length + 1);
    if (!copy) {
        broadcast(tracking, &changed, 1);
        return;
    }
    memcpy(copy, key.data, key.length);
    changed.name = span_of(copy, key.length);
    pthread_mutex_lock(&tracking->gathering);
    while (tracking->gathered_count == GATHERED_MOST) {
        pthread_mutex_unlock(&tracking->gathering);
        tracking_broadcast(tracking);
        pthread_mutex_lock(&tracking->gathering);
    }
    changed.order = tracking->gathered_count;
    tracking->gathered[changed.order] = changed;
    atomic_store_explicit(&tracking->gathered_count, changed.order + 1, memory_order_release);
    pthread_mutex_unlock(&tracking->gathering);
}

void tracking_invalidate(struct tracking *tracking, struct span key, uint64_t client) {
    if (atomic_load_explicit(&tracking->broadcasting, memory_order_acquire)) gather(tracking, key, client);
    struct key hashed = keyspace_key(tracking->keyspace, key);
    struct key_table *table = table_of(tracking, hashed.shard);
    if (table->count == 0) return;
    struct tracked_key **found = find(table, hashed.hash, key);
    if (found) forget(tracking, table, found, client);
}

/* Without telling anybody. */
static void empty_table(struct tracking *tracking, struct key_table *table) {
    for (uint32_t i = 0; table->chains && i <= table->mask; i++)
        for (struct tracked_key *key = table->chains[i], *next; key; key = next) {
            next = key->next;
            for (uint32_t n = 0; n < key->count; n++) release(key->trackers[n]);
            free(key->trackers);
            free(key);
        }
    free(table->chains);
    atomic_fetch_sub_explicit(&tracking->keys, table->count, memory_order_relaxed);
    table->chains = NULL;
    table->mask = table->count = 0;
    stat_set(&table->items, 0);
}

static void forget_all(struct tracking *tracking) {
    for (unsigned i = 0; i < tracking->keyspace->shard_count; i++) empty_table(tracking, &tracking->tables[i]);
}

/* The limit was lowered: nobody has to read another key for it to hold. `lock`: the caller is not alone. */
static void keep_limit(struct tracking *tracking, bool lock) {
    uint32_t shards = tracking->keyspace->shard_count;
    for (uint32_t i = 0; i < TICK_KEYS / FORGET_MOST + shards && is_above_limit(tracking); i++) {
        uint32_t shard = tracking->next_shard++ % shards;
        if (lock) keyspace_lock(tracking->keyspace, shard);
        forget_some(tracking, &tracking->tables[shard]);
        if (lock) keyspace_unlock(tracking->keyspace, shard);
    }
}

void tracking_limit(struct tracking *tracking, uint64_t keys_max) {
    atomic_store(&tracking->keys_max, keys_max);
    keep_limit(tracking, false);
}

void tracking_tick(struct tracking *tracking) {
    uint64_t emptied = 0;
    keep_limit(tracking, true);
    if (atomic_load_explicit(&tracking->keys, memory_order_relaxed) == 0) return;
    pthread_rwlock_rdlock(&tracking->lock);
    bool idle = tracking->count == 0;
    pthread_rwlock_unlock(&tracking->lock);
    /* Somebody may begin meanwhile: what he has read, under the shard's lock, must not be forgotten. */
    for (unsigned i = 0; idle && i < tracking->keyspace->shard_count && emptied < TICK_KEYS; i++) {
        struct key_table *table = &tracking->tables[i];
        keyspace_lock(tracking->keyspace, i);
        bool still = !(atomic_load(&tracking->keyspace->listener.wanted) & KEYSPACE_KEY_CHANGED);
        emptied += still ? table->count : 0;
        if (still) empty_table(tracking, table);
        keyspace_unlock(tracking->keyspace, i);
    }
}

void tracking_flush(struct tracking *tracking) {
    struct news news = {.tracking = tracking};
    pthread_rwlock_rdlock(&tracking->lock);
    for (size_t i = 0; i < tracking->count; i++) tell(&news, tracking->trackers[i]);
    pthread_rwlock_unlock(&tracking->lock);
    drop_news(&news);
    forget_all(tracking);
}

void tracking_destroy(struct tracking *tracking) {
    if (!tracking) return;
    assert(tracking->count == 0);
    forget_all(tracking);
    tracking_broadcast(tracking); /* to nobody: frees what was gathered */
    pthread_mutex_destroy(&tracking->gathering);
    pthread_rwlock_destroy(&tracking->lock);
    free(tracking->trackers);
    free(tracking->tables);
    free(tracking);
}

/* ---- figures ---- */

static uint64_t count_prefixes(const struct tracker *tracker) {
    uint64_t count = (tracker->flags & TRACKER_BROADCAST) && !tracker->prefixes; /* all keys */
    for (const struct tracker_prefix *prefix = tracker->prefixes; prefix; prefix = prefix->next) count++;
    return count;
}

struct tracking_figures tracking_figures(struct tracking *tracking) {
    struct tracking_figures figures = {.keys = atomic_load_explicit(&tracking->keys, memory_order_relaxed)};
    for (unsigned i = 0; i < tracking->keyspace->shard_count; i++)
        figures.items += stat_get(&tracking->tables[i].items);
    pthread_rwlock_rdlock(&tracking->lock);
    figures.clients = tracking->count;
    for (size_t i = 0; i < tracking->count; i++) figures.prefixes += count_prefixes(tracking->trackers[i]);
    pthread_rwlock_unlock(&tracking->lock);
    return figures;
}
