/* See pubsub.h.
 *
 * Channels and shard channels lie in stripes by the hash of their name, patterns in a set of their own, which every
 * publisher reads. Before a lock is taken a table of counters is read: of topics by the low bits of their hash. Nearly
 * always it tells that nobody subscribed to the channel; it is written only when a topic comes or goes.
 *
 *   stripe/pattern lock -> inbox lock; both are held for some dozens of instructions
 *
 * Words: a part is what a topic has on one worker. It belongs to the topic and to the entries that are on their way to
 * it, and goes with the last of them; one that has lost its last subscriber is replaced, not used again, when another
 * comes. */

#include "server/pubsub.h"

#include "base/glob.h"
#include "keyspace/key_hash.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    STRIPES = 256,     /* many times the workers there can be */
    PRESENCE = 8192,   /* counters: 16 KB; with a thousand topics one in eight silent channels takes a lock */
    FIRST_CHAINS = 16, /* of a table */

};

struct subscription {
    struct subscription *next_in_chain;   /* of the subscriber */
    struct subscription *previous, *next; /* of the subscriber, in order */
    struct subscriber *subscriber;
    struct topic *topic;
    struct part *part;
    size_t place;  /* in the part */
    uint64_t from; /* entries from this number on are for it */
};

struct part {
    struct part *next; /* of the topic */
    atomic_uint references;
    unsigned worker;
    size_t count, capacity; /* written by the worker under the topic's lock */
    struct subscription **subscribers;
};

struct topic {
    struct topic *next; /* in the chain */
    uint64_t hash;
    struct part *parts;
    enum pubsub_kind kind;
    uint32_t length;
    char name[];
};

struct topic_set {
    pthread_rwlock_t lock;
    struct topic **chains; /* NULL until the first topic */
    size_t mask, count;
};

struct pubsub {
    uint64_t seed;
    unsigned workers;
    void (*wake)(void *ctx, unsigned worker);
    void *ctx;
    struct inbox *inboxes;
    struct topic_set stripes[STRIPES];
    struct topic_set patterns;
    _Atomic uint64_t topics[PUBSUB_KINDS];
    _Atomic uint64_t listeners; /* subscribers that have subscriptions */
    _Atomic uint16_t presence[PRESENCE];
};

/* ---- life ---- */

struct pubsub *pubsub_create(unsigned workers, uint64_t seed, void (*wake)(void *ctx, unsigned worker), void *ctx) {
    struct pubsub *pubsub = calloc(1, sizeof(*pubsub));
    struct inbox *inboxes = aligned_alloc(64, workers * sizeof(struct inbox));
    if (!pubsub || !inboxes) {
        free(pubsub);
        free(inboxes);
        return NULL;
    }
    memset(inboxes, 0, workers * sizeof(struct inbox));
    for (unsigned i = 0; i < workers; i++) inbox_init(&inboxes[i]);
    for (unsigned i = 0; i < STRIPES; i++) pthread_rwlock_init(&pubsub->stripes[i].lock, NULL);
    pthread_rwlock_init(&pubsub->patterns.lock, NULL);
    pubsub->seed = seed;
    pubsub->workers = workers;
    pubsub->wake = wake;
    pubsub->ctx = ctx;
    pubsub->inboxes = inboxes;
    return pubsub;
}

static void free_set(struct topic_set *set) {
    assert(set->count == 0);
    free(set->chains);
    pthread_rwlock_destroy(&set->lock);
}

void pubsub_destroy(struct pubsub *pubsub) {
    if (!pubsub) return;
    for (unsigned i = 0; i < pubsub->workers; i++) {
        struct inbox_batch batch = pubsub_take(pubsub, i);
        pubsub_release(&batch);
        inbox_free(&pubsub->inboxes[i]);
    }
    for (unsigned i = 0; i < STRIPES; i++) free_set(&pubsub->stripes[i]);
    free_set(&pubsub->patterns);
    free(pubsub->inboxes);
    free(pubsub);
}

/* ---- topics ---- */

/* A shard channel is not the channel of the same name. */
static uint64_t hash_of(const struct pubsub *pubsub, enum pubsub_kind kind, struct span name) {
    return key_hash(name, pubsub->seed + kind);
}

static struct topic_set *set_of(struct pubsub *pubsub, enum pubsub_kind kind, uint64_t hash) {
    return kind == PUBSUB_PATTERN ? &pubsub->patterns : &pubsub->stripes[(hash >> 32) % STRIPES];
}

static struct topic *find_topic(const struct topic_set *set, enum pubsub_kind kind, uint64_t hash, struct span name) {
    struct topic *topic = set->chains ? set->chains[hash & set->mask] : NULL;
    while (topic &&
           !(topic->hash == hash && topic->kind == kind && span_equal(span_of(topic->name, topic->length), name)))
        topic = topic->next;
    return topic;
}

static bool grow_set(struct topic_set *set) {
    size_t size = set->chains ? (set->mask + 1) * 2 : FIRST_CHAINS;
    struct topic **chains = calloc(size, sizeof(struct topic *));
    if (!chains) return set->chains != NULL;
    for (size_t i = 0; set->chains && i <= set->mask; i++)
        for (struct topic *topic = set->chains[i], *next; topic; topic = next) {
            next = topic->next;
            topic->next = chains[topic->hash & (size - 1)];
            chains[topic->hash & (size - 1)] = topic;
        }
    free(set->chains);
    set->chains = chains;
    set->mask = size - 1;
    return true;
}

static struct topic *add_topic(struct pubsub *pubsub, struct topic_set *set, enum pubsub_kind kind, uint64_t hash,
                               struct span name) {
    if ((!set->chains || set->count > set->mask) && !grow_set(set)) return NULL;
    struct topic *topic = malloc(sizeof(*topic) + name.length);
    if (!topic) return NULL;
    *topic = (struct topic){.hash = hash, .kind = kind, .length = (uint32_t)name.length};
    memcpy(topic->name, name.data, name.length);
    topic->next = set->chains[hash & set->mask];
    set->chains[hash & set->mask] = topic;
    set->count++;
    atomic_fetch_add(&pubsub->topics[kind], 1);
    return topic;
}

/* The number of topics with these bits stays at its highest once it was reached. */
static void count_presence(struct pubsub *pubsub, uint64_t hash, int step) {
    _Atomic uint16_t *counter = &pubsub->presence[hash % PRESENCE];
    uint16_t count = atomic_load(counter);
    while (count != UINT16_MAX && !atomic_compare_exchange_weak(counter, &count, (uint16_t)(count + step))) continue;
}

static void drop_topic_if_empty(struct pubsub *pubsub, struct topic_set *set, struct topic *topic) {
    if (topic->parts) return;
    struct topic **link = &set->chains[topic->hash & set->mask];
    while (*link != topic) link = &(*link)->next;
    *link = topic->next;
    set->count--;
    atomic_fetch_sub(&pubsub->topics[topic->kind], 1);
    count_presence(pubsub, topic->hash, -1);
    free(topic);
}

/* ---- parts ---- */

static void release_part(struct part *part) {
    if (atomic_fetch_sub_explicit(&part->references, 1, memory_order_acq_rel) != 1) return;
    free(part->subscribers);
    free(part);
}

static struct part *part_for(struct topic *topic, unsigned worker) {
    struct part *part = topic->parts;
    while (part && part->worker != worker) part = part->next;
    if (part) return part;
    part = calloc(1, sizeof(*part));
    if (!part) return NULL;
    atomic_init(&part->references, 1);
    part->worker = worker;
    part->next = topic->parts;
    topic->parts = part;
    return part;
}

static void drop_part_if_empty(struct topic *topic, struct part *part) {
    if (part->count) return;
    struct part **link = &topic->parts;
    while (*link != part) link = &(*link)->next;
    *link = part->next;
    release_part(part);
}

static bool has_room(struct part *part) {
    if (part->count < part->capacity) return true;
    size_t capacity = part->capacity ? part->capacity * 2 : 4;
    struct subscription **grown = realloc(part->subscribers, capacity * sizeof(struct subscription *));
    if (!grown) return false;
    part->subscribers = grown;
    part->capacity = capacity;
    return true;
}

/* What an entry refers to besides its message. */
static void release_entry(const struct inbox_entry *entry) {
    if (entry->part) release_part(entry->part);
    if (entry->mailbox) mailbox_release(entry->mailbox);
}

/* ---- subscribers ---- */

struct subscriber *subscriber_create(void *owner, unsigned worker) {
    struct subscriber *subscriber = calloc(1, sizeof(*subscriber));
    if (!subscriber) return NULL;
    subscriber->owner = owner;
    subscriber->worker = worker;
    return subscriber;
}

static void end_subscription(struct pubsub *pubsub, struct subscription *subscription);

void subscriber_destroy(struct pubsub *pubsub, struct subscriber *subscriber) {
    if (!subscriber) return;
    while (subscriber->first) end_subscription(pubsub, subscriber->first);
    free(subscriber->chains);
    free(subscriber);
}

static struct subscription *find_subscription(const struct subscriber *subscriber, enum pubsub_kind kind, uint64_t hash,
                                              struct span name) {
    struct subscription *at = subscriber->chains ? subscriber->chains[hash & subscriber->mask] : NULL;
    while (at && !(at->topic->hash == hash && at->topic->kind == kind &&
                   span_equal(span_of(at->topic->name, at->topic->length), name)))
        at = at->next_in_chain;
    return at;
}

static bool grow_subscriber(struct subscriber *subscriber) {
    uint32_t size = subscriber->chains ? (subscriber->mask + 1) * 2 : 4;
    struct subscription **chains = calloc(size, sizeof(struct subscription *));
    if (!chains) return subscriber->chains != NULL;
    free(subscriber->chains);
    subscriber->chains = chains;
    subscriber->mask = size - 1;
    for (struct subscription *at = subscriber->first; at; at = at->next) {
        at->next_in_chain = chains[at->topic->hash & subscriber->mask];
        chains[at->topic->hash & subscriber->mask] = at;
    }
    return true;
}

static void enter(struct pubsub *pubsub, struct subscriber *subscriber, struct subscription *subscription) {
    struct topic *topic = subscription->topic;
    if (!subscriber->first) atomic_fetch_add_explicit(&pubsub->listeners, 1, memory_order_relaxed);
    subscription->next_in_chain = subscriber->chains[topic->hash & subscriber->mask];
    subscriber->chains[topic->hash & subscriber->mask] = subscription;
    subscription->previous = subscriber->last;
    if (subscriber->last)
        subscriber->last->next = subscription;
    else
        subscriber->first = subscription;
    subscriber->last = subscription;
    subscriber->counts[topic->kind]++;
}

static void leave(struct pubsub *pubsub, struct subscriber *subscriber, struct subscription *subscription) {
    struct topic *topic = subscription->topic;
    struct subscription **link = &subscriber->chains[topic->hash & subscriber->mask];
    while (*link != subscription) link = &(*link)->next_in_chain;
    *link = subscription->next_in_chain;
    *(subscription->previous ? &subscription->previous->next : &subscriber->first) = subscription->next;
    *(subscription->next ? &subscription->next->previous : &subscriber->last) = subscription->previous;
    subscriber->counts[topic->kind]--;
    if (!subscriber->first) atomic_fetch_sub_explicit(&pubsub->listeners, 1, memory_order_relaxed);
}

/* Under the topic's lock. */
static bool join(struct pubsub *pubsub, struct topic_set *set, enum pubsub_kind kind, uint64_t hash, struct span name,
                 struct subscription *subscription) {
    unsigned worker = subscription->subscriber->worker;
    struct topic *topic = find_topic(set, kind, hash, name);
    bool is_new = !topic;
    if (is_new) topic = add_topic(pubsub, set, kind, hash, name);
    if (!topic) return false;
    if (is_new) count_presence(pubsub, hash, 1);
    struct part *part = part_for(topic, worker);
    bool joined = part && has_room(part);
    if (joined) {
        subscription->topic = topic;
        subscription->part = part;
        subscription->place = part->count;
        subscription->from = inbox_next_number(&pubsub->inboxes[worker]);
        part->subscribers[part->count++] = subscription;
    } else {
        if (part) drop_part_if_empty(topic, part);
        drop_topic_if_empty(pubsub, set, topic);
    }
    return joined;
}

enum pubsub_result pubsub_subscribe(struct pubsub *pubsub, struct subscriber *subscriber, enum pubsub_kind kind,
                                    struct span name) {
    uint64_t hash = hash_of(pubsub, kind, name);
    if (find_subscription(subscriber, kind, hash, name)) return PUBSUB_NOTHING;
    if ((!subscriber->chains || subscriber_total(subscriber) > subscriber->mask) && !grow_subscriber(subscriber))
        return PUBSUB_NO_MEMORY;
    struct subscription *subscription = calloc(1, sizeof(*subscription));
    if (!subscription) return PUBSUB_NO_MEMORY;
    subscription->subscriber = subscriber;
    struct topic_set *set = set_of(pubsub, kind, hash);
    pthread_rwlock_wrlock(&set->lock);
    bool joined = join(pubsub, set, kind, hash, name, subscription);
    pthread_rwlock_unlock(&set->lock);
    if (!joined) {
        free(subscription);
        return PUBSUB_NO_MEMORY;
    }
    enter(pubsub, subscriber, subscription);
    return PUBSUB_DONE;
}

static void end_subscription(struct pubsub *pubsub, struct subscription *subscription) {
    struct topic *topic = subscription->topic;
    struct part *part = subscription->part;
    struct topic_set *set = set_of(pubsub, topic->kind, topic->hash);
    leave(pubsub, subscription->subscriber, subscription);
    pthread_rwlock_wrlock(&set->lock);
    struct subscription *last = part->subscribers[--part->count];
    part->subscribers[subscription->place] = last;
    last->place = subscription->place;
    drop_part_if_empty(topic, part);
    drop_topic_if_empty(pubsub, set, topic);
    pthread_rwlock_unlock(&set->lock);
    free(subscription);
}

enum pubsub_result pubsub_unsubscribe(struct pubsub *pubsub, struct subscriber *subscriber, enum pubsub_kind kind,
                                      struct span name) {
    struct subscription *subscription = find_subscription(subscriber, kind, hash_of(pubsub, kind, name), name);
    if (!subscription) return PUBSUB_NOTHING;
    end_subscription(pubsub, subscription);
    return PUBSUB_DONE;
}

struct span subscriber_oldest(const struct subscriber *subscriber, enum pubsub_kind kind) {
    const struct subscription *at = subscriber->first;
    while (at && at->topic->kind != kind) at = at->next;
    return at ? span_of(at->topic->name, at->topic->length) : span_of(NULL, 0);
}

/* ---- publishing ---- */

/* Takes over a reference to the part or the mailbox. */
static void put(struct pubsub *pubsub, unsigned worker, struct inbox_entry entry) {
    bool first = false;
    if (!inbox_put(&pubsub->inboxes[worker], &entry, &first)) release_entry(&entry);
    if (first) pubsub->wake(pubsub->ctx, worker);
}

/* Under the topic's lock. */
static uint64_t send_to_topic(struct pubsub *pubsub, struct topic *topic, struct message *message) {
    uint64_t receivers = 0;
    for (struct part *part = topic->parts; part; part = part->next) {
        atomic_fetch_add_explicit(&part->references, 1, memory_order_relaxed);
        receivers += part->count;
        put(pubsub, part->worker, (struct inbox_entry){.part = part, .message = message});
    }
    return receivers;
}

/* Two messages of one channel must not change places on the way to two workers, so it is locked as for writing. */
static uint64_t send_to_channel(struct pubsub *pubsub, enum pubsub_kind kind, uint64_t hash, struct span channel,
                                struct span text) {
    if (atomic_load_explicit(&pubsub->presence[hash % PRESENCE], memory_order_acquire) == 0) return 0;
    struct topic_set *set = set_of(pubsub, kind, hash);
    uint64_t receivers = 0;
    pthread_rwlock_wrlock(&set->lock);
    struct topic *topic = find_topic(set, kind, hash, channel);
    if (topic) {
        struct span word = kind == PUBSUB_CHANNEL ? SPAN_LITERAL("message") : SPAN_LITERAL("smessage");
        struct message *message = message_of((struct span[]){word, channel, text}, 3);
        if (message) {
            receivers = send_to_topic(pubsub, topic, message);
            message_release(message);
        }
    }
    pthread_rwlock_unlock(&set->lock);
    return receivers;
}

static uint64_t send_to_patterns(struct pubsub *pubsub, struct span channel, struct span text) {
    struct topic_set *set = &pubsub->patterns;
    uint64_t receivers = 0;
    if (atomic_load_explicit(&pubsub->topics[PUBSUB_PATTERN], memory_order_acquire) == 0) return 0;
    pthread_rwlock_wrlock(&set->lock);
    for (size_t i = 0; set->chains && i <= set->mask; i++)
        for (struct topic *topic = set->chains[i]; topic; topic = topic->next) {
            struct span pattern = span_of(topic->name, topic->length);
            if (!glob_match(pattern, channel, GLOB_CASE_EXACT)) continue;
            struct message *message = message_of((struct span[]){SPAN_LITERAL("pmessage"), pattern, channel, text}, 4);
            if (!message) continue;
            receivers += send_to_topic(pubsub, topic, message);
            message_release(message);
        }
    pthread_rwlock_unlock(&set->lock);
    return receivers;
}

uint64_t pubsub_publish(struct pubsub *pubsub, enum pubsub_kind kind, struct span channel, struct span text) {
    uint64_t receivers = send_to_channel(pubsub, kind, hash_of(pubsub, kind, channel), channel, text);
    return kind == PUBSUB_CHANNEL ? receivers + send_to_patterns(pubsub, channel, text) : receivers;
}

void pubsub_send(struct pubsub *pubsub, struct mailbox *mailbox, struct message *message) {
    put(pubsub, mailbox->worker, (struct inbox_entry){.mailbox = mailbox_hold(mailbox), .message = message});
}

/* ---- receiving ---- */

bool pubsub_has_mail(const struct pubsub *pubsub, unsigned worker) {
    return inbox_is_filled(&pubsub->inboxes[worker]);
}

struct inbox_batch pubsub_take(struct pubsub *pubsub, unsigned worker) {
    return inbox_take(&pubsub->inboxes[worker]);
}

void pubsub_visit(const struct inbox_batch *batch, void (*visit)(void *ctx, void *owner, struct message *message),
                  void *ctx) {
    for (size_t i = 0; i < batch->count; i++) {
        const struct inbox_entry *entry = &batch->entries[i];
        if (entry->mailbox && entry->mailbox->owner) visit(ctx, entry->mailbox->owner, entry->message);
        for (size_t k = 0; entry->part && k < entry->part->count; k++) {
            const struct subscription *subscription = entry->part->subscribers[k];
            if (subscription->from <= entry->number) visit(ctx, subscription->subscriber->owner, entry->message);
        }
    }
}

void pubsub_release(struct inbox_batch *batch) {
    for (size_t i = 0; i < batch->count; i++) {
        message_release(batch->entries[i].message);
        release_entry(&batch->entries[i]);
    }
    free(batch->entries);
    *batch = (struct inbox_batch){0};
}

/* ---- figures ---- */

uint64_t pubsub_topics(const struct pubsub *pubsub, enum pubsub_kind kind) {
    return atomic_load_explicit(&pubsub->topics[kind], memory_order_relaxed);
}

uint64_t pubsub_listeners(const struct pubsub *pubsub) {
    return atomic_load_explicit(&pubsub->listeners, memory_order_relaxed);
}

uint64_t pubsub_subscribers(struct pubsub *pubsub, enum pubsub_kind kind, struct span name) {
    uint64_t hash = hash_of(pubsub, kind, name), count = 0;
    struct topic_set *set = set_of(pubsub, kind, hash);
    pthread_rwlock_rdlock(&set->lock);
    const struct topic *topic = find_topic(set, kind, hash, name);
    for (const struct part *part = topic ? topic->parts : NULL; part; part = part->next) count += part->count;
    pthread_rwlock_unlock(&set->lock);
    return count;
}

static void walk_set(struct topic_set *set, enum pubsub_kind kind, void (*visit)(void *ctx, struct span name),
                     void *ctx) {
    pthread_rwlock_rdlock(&set->lock);
    for (size_t i = 0; set->chains && i <= set->mask; i++)
        for (const struct topic *topic = set->chains[i]; topic; topic = topic->next)
            if (topic->kind == kind) visit(ctx, span_of(topic->name, topic->length));
    pthread_rwlock_unlock(&set->lock);
}

void pubsub_walk(struct pubsub *pubsub, enum pubsub_kind kind, void (*visit)(void *ctx, struct span name), void *ctx) {
    if (kind == PUBSUB_PATTERN) {
        walk_set(&pubsub->patterns, kind, visit, ctx);
        return;
    }
    for (unsigned i = 0; i < STRIPES; i++) walk_set(&pubsub->stripes[i], kind, visit, ctx);
}
