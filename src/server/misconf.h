#ifndef TERRACE_SERVER_MISCONF_H
#define TERRACE_SERVER_MISCONF_H

/* -MISCONF: commands that write are refused while what they would do could not be kept, because the last snapshot
 * failed (stop-writes-on-bgsave-error) or the append-only file cannot be written; and -NOREPLICAS
 * (min-replicas-to-write).
 *
 * Threads: any. */

struct command;
struct server;

/* Brings host->writes_refused up to date: to be called after save.refuse_writes, aof.error or replication.refuses has
 * changed. */
void misconf_refresh(struct server *server);

/* See struct command_host; `ctx` is the server. The text is the calling thread's until it asks again. */
const char *misconf_text(void *ctx, const struct command *command);

#endif
