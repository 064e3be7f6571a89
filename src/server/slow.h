#ifndef TERRACE_SERVER_SLOW_H
#define TERRACE_SERVER_SLOW_H

/* What took long, and who wants to know: the slow log (from slowlog-log-slower-than on) and the latency monitor (from
 * latency-monitor-threshold on). */

#include "command/command.h"
#include "server/latency.h"

struct server;

/* Installs the dispatcher's hook and takes the thresholds over, now and whenever they are set. At start. */
void slow_init(struct server *server);
void slow_free(struct server *server);

/* An event other than a command took so long. Any thread; quick unless it was slow. */
void slow_event(struct server *server, enum latency_event event, uint64_t elapsed_ns, int64_t now_ms);

#endif
