#ifndef TERRACE_SERVER_WAITING_H
#define TERRACE_SERVER_WAITING_H

/* WAIT and WAITAOF: clients that wait for what they have written to be on the disk, or with replicas. */

struct worker;

/* The beginning of a worker's turn: what was waited for may have come. Cheap while nobody waits. */
void waiting_turn(struct worker *worker);

#endif
