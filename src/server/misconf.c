/* See misconf.h. Reasons are told in the order of Redis: a failed snapshot, the append-only file; then ours. */

#include "server/misconf.h"

#include "server/server.h"

#include <stdio.h>
#include <string.h>

static bool is_wanted(struct server *server) {
    return atomic_load(&server->aof.error) || atomic_load(&server->save.refuse_writes) ||
           atomic_load(&server->replication.refuses) || pmem_gate_refusal(server);
}

void misconf_refresh(struct server *server) {
    /* Whoever comes last sees all that was changed before. */
    atomic_bool *refused = &server->host.writes_refused;
    atomic_store(refused, is_wanted(server));
    bool wanted = is_wanted(server);
    if (atomic_load(refused) != wanted) atomic_store(refused, wanted);
}

const char *misconf_text(void *ctx, const struct command *command) {
    static _Thread_local char text[160];
    struct server *server = ctx;
    const char *of_snapshot = save_refusal(server);
    if (of_snapshot) return of_snapshot;
    int error = atomic_load(&server->aof.error);
    char reason[96] = "";
    if (!error && pmem_gate_refusal(server)) return pmem_gate_refusal(server);
    /* Those who watch the server by PING need not know that it has too few replicas. */
    if (!error) return strcmp(command->full_name, "ping") == 0 ? NULL : replication_refusal(server);
    snprintf(text, sizeof(text), "MISCONF Errors writing to the AOF file: %s",
             strerror_r(error, reason, sizeof(reason)));
    return text;
}
