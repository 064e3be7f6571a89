/* The way of an event from a handler to the host, which tells it (server/notifications.h). */

#include "command/notify.h"

#include "command/dispatch.h"

void call_notify_in(struct call *call, uint32_t class, const char *event, const struct key *key, uint32_t database) {
    struct command_host *host = call->dispatcher ? call->dispatcher->host : NULL;
    if ((call->view.replays && call_is_unseen(call)) || view_misses(&call->view)) return; /* it is run again */
    if (!host || !(atomic_load_explicit(&host->notify_flags, memory_order_relaxed) & class) || !host->notify) return;
    host->notify(host->ctx, class, event, key->name, database);
}

void call_notify(struct call *call, uint32_t class, const char *event, const struct key *key) {
    call_notify_in(call, class, event, key, call->view.database);
}
