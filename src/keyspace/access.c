/* See access.h; arithmetic only. */

#include "keyspace/access.h"

#define SECONDS_MASK 0xffffffu
#define MINUTES_MASK 0xffffu

static uint32_t seconds_of(int64_t now_ms) {
    return (uint32_t)(now_ms / 1000) & SECONDS_MASK;
}
static uint32_t minutes_of(int64_t now_ms) {
    return (uint32_t)(now_ms / 60000) & MINUTES_MASK;
}

uint32_t access_from_frequency(uint8_t counter, int64_t now_ms) {
    return minutes_of(now_ms) << 8 | counter;
}

uint32_t access_from_idle_seconds(uint32_t seconds, int64_t now_ms) {
    return (seconds_of(now_ms) - seconds) & SECONDS_MASK;
}

uint32_t access_new(const struct access_policy *policy, int64_t now_ms) {
    return policy->frequency ? access_from_frequency(ACCESS_COUNTER_NEW, now_ms) : seconds_of(now_ms);
}

uint32_t access_frequency(const struct access_policy *policy, uint32_t access, int64_t now_ms) {
    uint32_t counter = access & 0xff;
    if (policy->decay_minutes == 0) return counter;
    uint32_t periods = ((minutes_of(now_ms) - (access >> 8)) & MINUTES_MASK) / policy->decay_minutes;
    return periods >= counter ? 0 : counter - periods;
}

uint32_t access_touched(const struct access_policy *policy, uint32_t access, int64_t now_ms, uint32_t random) {
    if (!policy->frequency) return seconds_of(now_ms);
    uint32_t counter = access_frequency(policy, access, now_ms);
    uint32_t above = counter > ACCESS_COUNTER_NEW ? counter - ACCESS_COUNTER_NEW : 0;
    if (counter < 255 && (uint64_t)random * (above * (uint64_t)policy->log_factor + 1) < (UINT64_C(1) << 32)) counter++;
    return access_from_frequency((uint8_t)counter, now_ms);
}

uint32_t access_idle_seconds(uint32_t access, int64_t now_ms) {
    return (seconds_of(now_ms) - access) & SECONDS_MASK;
}
