#ifndef TERRACE_SERVER_NOTIFICATIONS_H
#define TERRACE_SERVER_NOTIFICATIONS_H

/* Keyspace events on their way to subscribers (notify-keyspace-events): each is a message on the channel of its key, on
 * the channel of its name, or on both. */

#include "keyspace/keyspace.h"

struct server;

/* See struct command_host; `ctx` is the server. Any thread, also with shard locks held. */
void notifications_tell(void *ctx, uint32_t class, const char *event, struct span key, uint32_t database);

/* What the keyspace tells by itself; see struct keyspace_listener. */
void notifications_hear(void *ctx, enum keyspace_event event, struct span key, uint32_t database, uint64_t client);

/* Listens for what is wanted: by notify-keyspace-events, whose value is `classes`, and by client tracking. All other
 * workers stand still, or have not begun. */
void notifications_apply(struct server *server, uint32_t classes);

#endif
