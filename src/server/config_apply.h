#ifndef TERRACE_SERVER_CONFIG_APPLY_H
#define TERRACE_SERVER_CONFIG_APPLY_H

/* Brings what the configuration says to the places that act on it, at start and whenever CONFIG SET changes it.
 *
 * Only what is copied somewhere needs this. Fields that are read where they are used (timeout, hz, maxmemory,
 * tcp-keepalive, protected-mode, maxmemory-samples, lazyfree-...) take effect by themselves. The slow log and the
 * latency monitor take care of their own (slow.h). */

struct config;
struct server;

/* Takes all of it over, and registers for changes. At start, once workers and keyspace exist and before any of them
 * runs. May lower maxclients to what the system allows, with a line in the log. */
void config_apply(struct server *server);

/* How the keyspace remembers uses: by maxmemory, whose changes memory_limit.c learns of, its policy, and lfu-.... */
void config_apply_access(struct server *server, const struct config *config);

#endif
