/* See session.h. */

#include "command/session.h"

#include "command/migration.h"
#include "keyspace/keyspace_copy.h"

#include <assert.h>
#include <stdlib.h>

void session_init(struct session *session, uint64_t id, int64_t now_ms) {
    *session = (struct session){.id = id, .protocol = 2, .created_ms = now_ms, .active_ms = now_ms};
    transaction_init(&session->transaction);
}

void session_free(struct session *session) {
    assert(!session->watcher.entries && !session->blocked);
    transaction_discard(&session->transaction);
    keyspace_copy_free(session->unfinished);
    migration_free(session->migration);
    free(session->name);
    free(session->library_name);
    free(session->library_version);
}
