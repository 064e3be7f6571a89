#ifndef TERRACE_SERVER_FAILOVER_H
#define TERRACE_SERVER_FAILOVER_H

/* FAILOVER: a primary that hands its role to one of its replicas, with nothing lost.
 *
 *   NONE --FAILOVER--> WAITING --a replica has everything--> HANDING_OVER --the link is up--> NONE, a replica
 *     ^------ time is over, ABORT ------'                         |
 *     ^------ refused, ABORT, no answer for repl-timeout ---------'          (a primary again)
 *
 *   WAITING        writes wait (as under CLIENT PAUSE), so that a replica can catch up
 *   HANDING_OVER   this server follows the chosen replica, and asks it to take over: PSYNC ... FAILOVER
 *
 * Where nothing is said, on worker 0. */

struct server;

/* Every tick. Cheap while there is none. */
void failover_tick(struct server *server);
/* What it has of memory. */
void failover_free(struct server *server);

#endif
