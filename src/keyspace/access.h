#ifndef TERRACE_KEYSPACE_ACCESS_H
#define TERRACE_KEYSPACE_ACCESS_H

/* The 24 access bits of a record: when it was last used, or how often.
 *
 *   least recently used     seconds, modulo 2^24 (194 days)
 *   least frequently used   bits 8-23: minutes, modulo 2^16, when the counter was last seen
 *                           bits 0-7: a logarithmic counter, new records start at 5
 *
 * The counter rises with probability 1 / ((counter - 5) * log_factor + 1) and falls by one for every
 * `decay_minutes` without use: Redis's published scheme, so that OBJECT FREQ and IDLETIME mean the same. */

#include <stdbool.h>
#include <stdint.h>

struct access_policy {
    bool frequency;         /* count uses instead of remembering the last */
    bool evicts;            /* there is a limit, and whom it takes away depends on uses */
    uint32_t log_factor;    /* lfu-log-factor */
    uint32_t decay_minutes; /* lfu-decay-time; 0: never */
};

enum { ACCESS_COUNTER_NEW = 5 };

/* The bits of a record made at `now_ms`. */
uint32_t access_new(const struct access_policy *policy, int64_t now_ms);
/* The bits after a use at `now_ms`. `random` is any uniform random number. */
uint32_t access_touched(const struct access_policy *policy, uint32_t access, int64_t now_ms, uint32_t random);

/* Seconds since the last use. Meaningful unless `frequency`. */
uint32_t access_idle_seconds(uint32_t access, int64_t now_ms);
/* The decayed counter. Meaningful if `frequency`. */
uint32_t access_frequency(const struct access_policy *policy, uint32_t access, int64_t now_ms);

/* Bits that report the given idle time or frequency; for RESTORE and DEBUG. */
uint32_t access_from_idle_seconds(uint32_t seconds, int64_t now_ms);
uint32_t access_from_frequency(uint8_t counter, int64_t now_ms);

#endif
