#ifndef TERRACE_SERVER_CONFIG_APPLY_H
#define TERRACE_SERVER_CONFIG_APPLY_H

/* Brings what the configuration says to the places that act on it, at start and whenever CONFIG SET changes it.
 *
 * Only what is copied somewhere needs this. Fields that are read where they are used (timeout, hz, maxmemory,
 * tcp-keepalive, protected-mode, maxmemory-samples, lazyfree-...) take effect by themselves. The slow log and the
 * latency monitor take care of their own (slow.h). */

struct server;

/* Takes all of it over, and registers for changes. At start, once workers and keyspace exist and before any of them
 * runs. May lower maxclients to what the system allows, with a line in the log. */
void config_apply(struct server *server);

#endif
