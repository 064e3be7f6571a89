#ifndef TERRACE_SERVER_OOM_SCORE_H
#define TERRACE_SERVER_OOM_SCORE_H

/* How readily the kernel ends this process when memory runs out: oom-score-adj and oom-score-adj-values. */

#include "server/config.h"

/* What was found before the first change, to be built on and put back. Zeroed: nothing has been changed. */
struct oom_score {
    bool changed;
    int64_t base;
};

/* Sets the score of the process by the configuration and its role, or puts back what it was when that says "no". False:
 * it may not or cannot be set, which is logged; the score is as before. Main thread at the start; later while all
 * workers stand.
 */
bool oom_score_apply(struct oom_score *score, const struct config *config, bool is_replica)
    __attribute__((warn_unused_result));

#endif
