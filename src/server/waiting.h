#ifndef TERRACE_SERVER_WAITING_H
#define TERRACE_SERVER_WAITING_H

/* WAIT and WAITAOF: clients that wait for what they have written to be on the disk, or with replicas. */

struct server;
struct worker;

/* The beginning of a worker's turn: what was waited for may have come. Cheap while nobody waits. */
void waiting_turn(struct worker *worker);

/* The append-only file is switched off: whoever waits for it is told so in the next turn. All workers stand still. */
void waiting_look_again(struct server *server);

#endif
