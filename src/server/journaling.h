#ifndef TERRACE_SERVER_JOURNALING_H
#define TERRACE_SERVER_JOURNALING_H

/* The server's journal, and when effects are written to it: while it has a reader. The journal itself is always there;
 * its memory is taken as it is written to. */

#include <stdbool.h>

struct server;
struct session;
struct worker;

/* Makes server->journal; before workers are made. False: no memory. */
bool journaling_create(struct server *server);
void journaling_free(struct server *server);

/* The journal's writer for a primary's stream, which no worker has. */
unsigned journaling_stream_writer(const struct server *server);

/* Has workers write effects if the journal has a reader by now, and no longer if it has none: to be called after every
 * journal_attach() and journal_detach(), and change of role (a replica's own commands tell nothing), in the same
 * standstill. All workers stand still, or have not begun. */
void journaling_refresh(struct server *server);

/* How long a worker with somebody paused may sleep before it looks again whether the journal, and the queue of a
 * snapshot's walkers, have room; -1: they have. */
int journaling_wait_ms(const struct worker *worker);

#endif
