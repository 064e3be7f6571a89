/* Idempotent IDs of a stream's producers; what they are for is in stream_producer.h.
 *
 * A producer is a ring of its latest messages, oldest first, beside an open hash table of places in the ring:
 *
 *   messages   [ .. | oldest | ... | latest | .. ]        head, count
 *   table      place + 1 at the message's hash, or one of the next; 0: free
 *
 * The table has at least twice as many places as the ring, and is rebuilt when the ring grows. Taking away the oldest
 * moves those behind it in the table forward, so no marks of deleted ones pile up. */

#include "keyspace/stream_producer.h"

#include "keyspace/key_hash.h"

#include <stdlib.h>

enum { RING_FIRST = 8 };

struct sent {
    struct stream_message_id message;
    struct stream_id entry;
    int64_t sent_ms;
};

struct stream_producer {
    uint64_t hash[2];
    uint32_t head, count, capacity; /* of the ring; the table has twice the capacity */
    struct sent *ring;
    uint16_t *table;
};

static struct stream_message_id hash_span(const struct stream_producers *producers, struct span bytes) {
    return (struct stream_message_id){{key_hash(bytes, producers->seeds[0]), key_hash(bytes, producers->seeds[1])}};
}

static bool same(const uint64_t a[2], const uint64_t b[2]) {
    return a[0] == b[0] && a[1] == b[1];
}

static int compare_hashes(const uint64_t a[2], const uint64_t b[2]) {
    if (a[0] != b[0]) return a[0] < b[0] ? -1 : 1;
    return (a[1] > b[1]) - (a[1] < b[1]);
}

/* ---- one producer ---- */

static uint32_t table_size(const struct stream_producer *producer) {
    return 2 * producer->capacity;
}

static uint32_t home(const struct stream_producer *producer, const struct stream_message_id *message) {
    return (uint32_t)(message->hash[0] % table_size(producer));
}

/* The place in the table of a message, or where it would be. */
static uint32_t find_place(const struct stream_producer *producer, const struct stream_message_id *message) {
    uint32_t place = home(producer, message);
    while (producer->table[place] && !same(producer->ring[producer->table[place] - 1].message.hash, message->hash))
        place = (place + 1) % table_size(producer);
    return place;
}

static void take_oldest(struct stream_producer *producer) {
    uint32_t size = table_size(producer);
    uint32_t hole = find_place(producer, &producer->ring[producer->head].message);
    for (uint32_t next = (hole + 1) % size; producer->table[next]; next = (next + 1) % size) {
        uint32_t wanted = home(producer, &producer->ring[producer->table[next] - 1].message);
        /* It may move into the hole unless its home is behind the hole. */
        if ((next - wanted + size) % size < (next - hole + size) % size) continue;
        producer->table[hole] = producer->table[next];
        hole = next;
    }
    producer->table[hole] = 0;
    producer->head = (producer->head + 1) % producer->capacity;
    producer->count--;
}

static void forget_old(struct stream_producer *producer, int64_t since_ms) {
    while (producer->count && producer->ring[producer->head].sent_ms < since_ms) take_oldest(producer);
}

static bool grow(struct stream_producer *producer, uint32_t size_max) {
    uint32_t capacity = producer->capacity ? 2 * producer->capacity : RING_FIRST;
    if (capacity > size_max) capacity = size_max;
    struct sent *ring = malloc(capacity * sizeof(*ring));
    uint16_t *table = calloc(2 * (size_t)capacity, sizeof(*table));
    if (!ring || !table) {
        free(ring);
        free(table);
        return false;
    }
    for (uint32_t i = 0; i < producer->count; i++) ring[i] = producer->ring[(producer->head + i) % producer->capacity];
    free(producer->ring);
    free(producer->table);
    producer->ring = ring;
    producer->table = table;
    producer->head = 0;
    producer->capacity = capacity;
    for (uint32_t i = 0; i < producer->count; i++) table[find_place(producer, &ring[i].message)] = (uint16_t)(i + 1);
    return true;
}

static void free_producer(struct stream_producer *producer) {
    if (!producer) return;
    free(producer->ring);
    free(producer->table);
    free(producer);
}

static struct stream_producer *copy_producer(const struct stream_producer *from) {
    struct stream_producer *to = malloc(sizeof(*to));
    if (!to) return NULL;
    *to = *from;
    if (!from->capacity) return to;
    size_t table_bytes = table_size(from) * sizeof(*to->table);
    to->ring = malloc(from->capacity * sizeof(*to->ring));
    to->table = malloc(table_bytes);
    if (!to->ring || !to->table) {
        free_producer(to);
        return NULL;
    }
    for (uint32_t i = 0; i < from->count; i++) {
        uint32_t at = (from->head + i) % from->capacity;
        to->ring[at] = from->ring[at];
    }
    memcpy(to->table, from->table, table_bytes);
    return to;
}

/* ---- all of them ---- */

struct stream_producers *stream_producers_make(uint64_t seed) {
    struct stream_producers *producers = calloc(1, sizeof(*producers));
    if (!producers) return NULL;
    producers->duration_s = STREAM_PRODUCER_DURATION_S;
    producers->size_max = STREAM_PRODUCER_SIZE;
    producers->seeds[0] = seed;
    producers->seeds[1] = ~seed;
    return producers;
}

void stream_producers_forget(struct stream_producers *producers) {
    for (uint32_t i = 0; i < producers->count; i++) free_producer(producers->list[i]);
    free(producers->list);
    producers->list = NULL;
    producers->count = producers->capacity = 0;
}

void stream_producers_free(struct stream_producers *producers) {
    if (!producers) return;
    stream_producers_forget(producers);
    free(producers);
}

struct stream_producers *stream_producers_copy(const struct stream_producers *producers) {
    struct stream_producers *copy = malloc(sizeof(*copy));
    if (!copy) return NULL;
    *copy = *producers;
    copy->count = 0;
    copy->list = producers->capacity ? malloc(producers->capacity * sizeof(struct stream_producer *)) : NULL;
    bool complete = copy->list || !producers->capacity;
    for (uint32_t i = 0; complete && i < producers->count; i++) {
        copy->list[i] = copy_producer(producers->list[i]);
        complete = copy->list[i] != NULL;
        copy->count += complete;
    }
    if (complete) return copy;
    stream_producers_free(copy);
    return NULL;
}

/* ---- through a checkpoint: of a producer the messages, the oldest first ---- */

static void save_producer(const struct stream_producer *producer, struct state_writer *out) {
    for (unsigned i = 0; i < 2; i++) state_write_u64(out, producer->hash[i]);
    state_write_u32(out, producer->count);
    for (uint32_t i = 0; i < producer->count; i++) {
        const struct sent *sent = &producer->ring[(producer->head + i) % producer->capacity];
        for (unsigned k = 0; k < 2; k++) state_write_u64(out, sent->message.hash[k]);
        stream_id_save(sent->entry, out);
        state_write_i64(out, sent->sent_ms);
    }
}

void stream_producers_save(const struct stream_producers *producers, struct state_writer *out) {
    state_write_i64(out, producers->duration_s);
    state_write_u32(out, producers->size_max);
    for (unsigned i = 0; i < 2; i++) state_write_u64(out, producers->seeds[i]);
    state_write_u64(out, producers->ids_added);
    state_write_u64(out, producers->duplicates);
    state_write_u32(out, producers->count);
    for (uint32_t i = 0; i < producers->count; i++) save_producer(producers->list[i], out);
}

static bool load_sent(struct stream_producer *producer, struct state_reader *in, uint32_t size_max) {
    struct sent sent;
    for (unsigned k = 0; k < 2; k++) sent.message.hash[k] = state_read_u64(in);
    sent.entry = stream_id_load(in);
    sent.sent_ms = state_read_i64(in);
    if (in->failed || (producer->count == producer->capacity && !grow(producer, size_max))) return false;
    uint16_t *place = &producer->table[find_place(producer, &sent.message)];
    if (*place) return false;
    producer->ring[producer->count++] = sent;
    *place = (uint16_t)producer->count;
    return true;
}

static bool load_producer(struct stream_producers *producers, struct state_reader *in) {
    struct stream_producer *producer = calloc(1, sizeof(*producer));
    if (!producer) return false;
    uint32_t before = producers->count;
    producers->list[producers->count++] = producer;
    for (unsigned i = 0; i < 2; i++) producer->hash[i] = state_read_u64(in);
    if (before && compare_hashes(producers->list[before - 1]->hash, producer->hash) >= 0) return false;
    uint32_t count = state_read_u32(in);
    if (count > producers->size_max) return false;
    for (uint32_t i = 0; i < count; i++)
        if (!load_sent(producer, in, producers->size_max)) return false;
    return !in->failed;
}

static bool load_producers(struct stream_producers *producers, struct state_reader *in) {
    producers->duration_s = state_read_i64(in);
    producers->size_max = state_read_u32(in);
    for (unsigned i = 0; i < 2; i++) producers->seeds[i] = state_read_u64(in);
    producers->ids_added = state_read_u64(in);
    producers->duplicates = state_read_u64(in);
    uint32_t count = state_read_u32(in);
    if (producers->duration_s < 1 || producers->duration_s > STREAM_PRODUCER_DURATION_S_MAX) return false;
    if (producers->size_max < 1 || producers->size_max > STREAM_PRODUCER_SIZE_MAX) return false;
    if (in->failed || count > 2 * STREAM_PRODUCERS_MAX) return false;
    if (count && !(producers->list = malloc(count * sizeof(struct stream_producer *)))) return false;
    producers->capacity = count;
    for (uint32_t i = 0; i < count; i++)
        if (!load_producer(producers, in)) return false;
    return true;
}

struct stream_producers *stream_producers_load(struct state_reader *in) {
    struct stream_producers *producers = calloc(1, sizeof(*producers));
    if (!producers || load_producers(producers, in)) return producers;
    stream_producers_free(producers);
    return NULL;
}

/* ---- figures ---- */

size_t stream_producers_bytes(const struct stream_producers *producers) {
    if (!producers) return 0;
    size_t bytes = sizeof(*producers) + producers->capacity * sizeof(struct stream_producer *);
    for (uint32_t i = 0; i < producers->count; i++)
        bytes += sizeof(struct stream_producer) +
                 producers->list[i]->capacity * (sizeof(struct sent) + 2 * sizeof(uint16_t));
    return bytes;
}

uint64_t stream_producers_tracked(const struct stream_producers *producers) {
    uint64_t tracked = 0;
    for (uint32_t i = 0; i < producers->count; i++) tracked += producers->list[i]->count;
    return tracked;
}

/* ---- messages ---- */

struct stream_message_id stream_message_named(const struct stream_producers *producers, struct span name) {
    return hash_span(producers, name);
}

static uint64_t mix(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)(a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Pairs are hashed one by one and added up, which their order does not matter to. */
struct stream_message_id stream_message_hashed(const struct stream_producers *producers, const struct span *spans,
                                               uint32_t pairs) {
    struct stream_message_id sum = {{pairs, pairs}};
    for (uint32_t i = 0; i < pairs; i++) {
        struct stream_message_id name = hash_span(producers, spans[2 * i]);
        struct stream_message_id value = hash_span(producers, spans[2 * i + 1]);
        for (unsigned k = 0; k < 2; k++) sum.hash[k] += mix(name.hash[k], mix(value.hash[k], name.hash[!k]));
    }
    return sum;
}

/* ---- finding and adding ---- */

static uint32_t producer_place(const struct stream_producers *producers, const uint64_t hash[2]) {
    uint32_t low = 0, high = producers->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_hashes(producers->list[middle]->hash, hash) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int64_t oldest_remembered(const struct stream_producers *producers, int64_t now_ms) {
    return now_ms - producers->duration_s * 1000;
}

bool stream_producer_has(struct stream_producers *producers, struct span producer, struct stream_message_id message,
                         int64_t now_ms, struct stream_id *entry) {
    struct stream_message_id name = hash_span(producers, producer);
    uint32_t place = producer_place(producers, name.hash);
    if (place == producers->count || !same(producers->list[place]->hash, name.hash)) return false;
    struct stream_producer *found = producers->list[place];
    forget_old(found, oldest_remembered(producers, now_ms));
    if (!found->count) return false;
    uint16_t number = found->table[find_place(found, &message)];
    if (!number) return false;
    *entry = found->ring[number - 1].entry;
    producers->duplicates++;
    return true;
}

/* Forgets the producers that have nothing remembered any more. O(producers), when the list is full only. */
static void forget_silent(struct stream_producers *producers, int64_t since_ms) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < producers->count; i++) {
        forget_old(producers->list[i], since_ms);
        if (producers->list[i]->count)
            producers->list[kept++] = producers->list[i];
        else
            free_producer(producers->list[i]);
    }
    producers->count = kept;
}

static bool reserve(struct stream_producers *producers, int64_t since_ms) {
    if (producers->count < producers->capacity) return true;
    forget_silent(producers, since_ms);
    if (producers->count < producers->capacity / 2) return true;
    if (producers->count >= STREAM_PRODUCERS_MAX) return false;
    uint32_t capacity = producers->capacity ? 2 * producers->capacity : 1;
    struct stream_producer **list = realloc(producers->list, capacity * sizeof(struct stream_producer *));
    if (!list) return false;
    producers->list = list;
    producers->capacity = capacity;
    return true;
}

static struct stream_producer *make_producer(struct stream_producers *producers, const uint64_t hash[2],
                                             int64_t since_ms) {
    if (!reserve(producers, since_ms)) return NULL;
    struct stream_producer *made = calloc(1, sizeof(*made));
    if (!made) return NULL;
    made->hash[0] = hash[0];
    made->hash[1] = hash[1];
    uint32_t place = producer_place(producers, hash);
    memmove(producers->list + place + 1, producers->list + place,
            (producers->count - place) * sizeof(struct stream_producer *));
    producers->list[place] = made;
    producers->count++;
    return made;
}

bool stream_producer_add(struct stream_producers *producers, struct span producer, struct stream_message_id message,
                         int64_t now_ms, struct stream_id entry) {
    struct stream_message_id name = hash_span(producers, producer);
    uint32_t place = producer_place(producers, name.hash);
    struct stream_producer *found = place < producers->count && same(producers->list[place]->hash, name.hash)
                                        ? producers->list[place]
                                        : make_producer(producers, name.hash, oldest_remembered(producers, now_ms));
    if (!found) return false;
    if (found->count == producers->size_max) take_oldest(found);
    if (found->count == found->capacity && !grow(found, producers->size_max)) return false;
    uint32_t at = (found->head + found->count) % found->capacity;
    found->ring[at] = (struct sent){message, entry, now_ms};
    found->count++;
    found->table[find_place(found, &message)] = (uint16_t)(at + 1);
    producers->ids_added++;
    return true;
}
