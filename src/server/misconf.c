/* See misconf.h. The two reasons are told in the order of Redis: a failed snapshot first. */

#include "server/misconf.h"

#include "server/server.h"

#include <stdio.h>

void misconf_refresh(struct server *server) {
    /* Whoever comes last sees all that was changed before. */
    atomic_bool *refused = &server->host.writes_refused;
    atomic_store(refused, atomic_load(&server->aof.error) || atomic_load(&server->save.refuse_writes));
    bool wanted = atomic_load(&server->aof.error) || atomic_load(&server->save.refuse_writes);
    if (atomic_load(refused) != wanted) atomic_store(refused, wanted);
}

const char *misconf_text(void *ctx) {
    static _Thread_local char text[160];
    struct server *server = ctx;
    const char *of_snapshot = save_refusal(server);
    if (of_snapshot) return of_snapshot;
    int error = atomic_load(&server->aof.error);
    char reason[96] = "";
    if (!error) return NULL;
    snprintf(text, sizeof(text), "MISCONF Errors writing to the AOF file: %s",
             strerror_r(error, reason, sizeof(reason)));
    return text;
}
