#ifndef TERRACE_PERSIST_AOF_SURVEY_H
#define TERRACE_PERSIST_AOF_SURVEY_H

/* What lies behind damage in an increment of ours. Whether a batch was torn when the power failed, or was whole on the
 * medium and has changed since, only what was written behind it can tell. */

#include <stdbool.h>
#include <stdint.h>

struct aof_survey {
    bool silent;          /* a later batch was closed without knowing of any sync */
    uint64_t synced;      /* the farthest offset that the closing of a later batch says was synced; 0: none */
    uint64_t damage_ends; /* where the first closing behind the beginning of the damage ends; 0: there is none */
};

/* Reads the file from offset `from`, where the damaged batch begins, to `end`. `sequence`: of the last closing that was
 * right. False: errno; ENOMEM is one. */
bool aof_survey_run(int fd, uint64_t from, uint64_t end, uint64_t sequence, struct aof_survey *survey)
    __attribute__((warn_unused_result));

#endif
