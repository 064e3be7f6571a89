#ifndef TERRACE_COMMAND_CALL_RANDOM_H
#define TERRACE_COMMAND_CALL_RANDOM_H

/* Random choices of a command: SPOP, SRANDMEMBER, HRANDFIELD and their like.
 *
 * A command that waits for a cold page is run again, and must draw the same numbers, or it might meet another page
 * that is not at hand each time. So with a tier the seed is the session's, which stays while a command is tried. All
 * commands of an EXEC share it; what tells them apart is where their arguments are kept. */

#include "base/random.h"
#include "command/dispatch.h"

/* Seeds `random` for this command. */
static inline void call_seed_random(const struct call *call, struct random *random) {
    uint64_t seed = call->view.port ? call->session->random : dispatcher_random(call->dispatcher);
    if (call->in_transaction) seed ^= (uint64_t)(uintptr_t)call->argv;
    random_seed(random, seed);
}

#endif
