#ifndef TERRACE_TESTS_SUPPORT_SNAPSHOT_COLLECTOR_H
#define TERRACE_TESTS_SUPPORT_SNAPSHOT_COLLECTOR_H

/* The contents of a keyspace as a list of keys with what their values come to, had in two ways: by looking at every
 * record, and as the sink of a snapshot. Two lists of the same moment are the same.
 *
 *   struct snapshot_collector there, given;
 *   snapshot_collector_init(&given, keyspace);
 *   options.sink = snapshot_collector_sink(&given);
 *   ... the cut; the walk ...
 *   assert_true(snapshot_collector_same(&there, &given));
 *
 * Threads: the sink may be called by several lanes. */

#include "persist/snapshot.h"

#include <pthread.h>

struct collected {
    uint32_t database;
    char name[48];  /* as much of the key as fits, for messages */
    uint64_t key;   /* hash of the name */
    uint64_t value; /* of type, encoding, expiry and contents */
};

struct snapshot_collector {
    struct keyspace *keyspace;
    pthread_mutex_t lock;
    struct collected *items;
    size_t count, capacity;
    unsigned lanes_ended;
    size_t refuse_after; /* so many items; SIZE_MAX: takes all */
};

void snapshot_collector_init(struct snapshot_collector *collector, struct keyspace *keyspace);
void snapshot_collector_free(struct snapshot_collector *collector);
struct snapshot_sink snapshot_collector_sink(struct snapshot_collector *collector);

/* What the keyspace holds now, expired keys included. `port` NULL: there is no tier. Nobody else uses the keyspace. */
void snapshot_collector_look(struct snapshot_collector *collector, struct tier_port *port);

/* Whether both hold the same keys with the same values, each once; prints differences. Sorts them. */
bool snapshot_collector_same(struct snapshot_collector *expected, struct snapshot_collector *given);

#endif
