#ifndef TERRACE_SERVER_CLIENT_TRACKING_H
#define TERRACE_SERVER_CLIENT_TRACKING_H

/* What of client tracking (tracking.h) the rest of the server calls; the commands are in client_handlers.h. */

struct call;
struct server;
struct session;

/* See `remember` of struct command_host. */
void client_tracking_remember(void *ctx, const struct call *call);
/* The session tracks no longer; it need not have. On its worker's thread, or while that stands still. */
void client_tracking_end(struct server *server, struct session *session);

#endif
