/* See notifications.h. A channel's name is made on the stack where it fits, as keys nearly always do. */

#include "server/notifications.h"

#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>

enum { PREFIX_MAX = 32, NAME_BYTES = 512 };

/* Publishes `text` on __`kind`@`database`__:`name`. Without memory nobody is told. */
static void publish(struct server *server, const char *kind, uint32_t database, struct span name, struct span text) {
    char short_name[NAME_BYTES], *channel = short_name;
    if (name.length > sizeof(short_name) - PREFIX_MAX) channel = malloc(PREFIX_MAX + name.length);
    if (!channel) return;
    size_t length = (size_t)snprintf(channel, PREFIX_MAX, "__%s@%u__:", kind, database);
    memcpy(channel + length, name.data, name.length);
    pubsub_publish(server->pubsub, PUBSUB_CHANNEL, span_of(channel, length + name.length), text);
    if (channel != short_name) free(channel);
}

void notifications_tell(void *ctx, uint32_t class, const char *event, struct span key, uint32_t database) {
    struct server *server = ctx;
    uint32_t flags = atomic_load_explicit(&server->host.notify_flags, memory_order_relaxed);
    struct span name = span_of_text(event);
    if (!(flags & class)) return;
    if (flags & NOTIFY_KEYSPACE) publish(server, "keyspace", database, key, name);
    if (flags & NOTIFY_KEYEVENT) publish(server, "keyevent", database, name, key);
}

void notifications_hear(void *ctx, enum keyspace_event event, struct span key, uint32_t database, uint64_t client) {
    struct server *server = ctx;
    switch (event) {
    case KEYSPACE_KEY_NEW: notifications_tell(server, NOTIFY_NEW, "new", key, database); break;
    case KEYSPACE_KEY_MISSED: notifications_tell(server, NOTIFY_KEY_MISS, "keymiss", key, database); break;
    case KEYSPACE_KEY_EXPIRED: notifications_tell(server, NOTIFY_EXPIRED, "expired", key, database); break;
    case KEYSPACE_KEY_EVICTED: notifications_tell(server, NOTIFY_EVICTED, "evicted", key, database); break;
    case KEYSPACE_FIELDS_EXPIRED: notifications_tell(server, NOTIFY_HASH, "hexpired", key, database); break;
    case KEYSPACE_KEY_EMPTIED: notifications_tell(server, NOTIFY_GENERIC, "del", key, database); break;
    case KEYSPACE_KEY_CHANGED: tracking_invalidate(server->tracking, key, client); break;
    case KEYSPACE_FLUSHED: tracking_flush(server->tracking); break;
    }
}

void notifications_apply(struct server *server, uint32_t classes) {
    static const struct {
        uint32_t class, event;
    } own[] = {{NOTIFY_NEW, KEYSPACE_KEY_NEW},         {NOTIFY_KEY_MISS, KEYSPACE_KEY_MISSED},
               {NOTIFY_EXPIRED, KEYSPACE_KEY_EXPIRED}, {NOTIFY_EVICTED, KEYSPACE_KEY_EVICTED},
               {NOTIFY_HASH, KEYSPACE_FIELDS_EXPIRED}, {NOTIFY_GENERIC, KEYSPACE_KEY_EMPTIED}};
    const uint32_t tracked = KEYSPACE_KEY_CHANGED | KEYSPACE_FLUSHED;
    if (!(classes & (NOTIFY_KEYSPACE | NOTIFY_KEYEVENT))) classes = 0;
    uint32_t wanted = atomic_load(&server->keyspace->listener.wanted) & tracked;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (classes & own[i].class) wanted |= own[i].event;
    atomic_store(&server->host.notify_flags, classes);
    atomic_store(&server->keyspace->listener.wanted, wanted);
}
