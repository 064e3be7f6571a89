#ifndef TERRACE_BASE_CLOCK_H
#define TERRACE_BASE_CLOCK_H

/* Time: the wall clock (expiry, logs), a monotonic clock (timers), and ticks (timing of single commands).
 * Every function may be called from any thread. */

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Measures the tick rate against the monotonic clock; takes about 10 ms. To be called once, before other
 * threads exist and before the first clock_ticks(). Without it ticks are nanoseconds of clock_gettime,
 * which is correct and slower. */
void clock_init(void);

/* Wall clock, since 1970-01-01 UTC. May jump either way when the host's clock is set. */
int64_t clock_unix_ms(void);
int64_t clock_unix_us(void);

/* For tests: from now on the wall clock stands at `now_us`; a negative value lets it run again. */
void clock_freeze_unix_us(int64_t now_us);

/* Never goes back; its zero is arbitrary. */
int64_t clock_monotonic_ns(void);

/* The details below are here so that clock_ticks() is a single instruction in the caller. They are
 * written by clock_init() and constant afterwards. */
struct clock_tick_source {
    bool hardware;               /* ticks come from the processor's counter */
    uint64_t ns_per_tick_scaled; /* nanoseconds per tick, times 2^32 */
};
extern struct clock_tick_source clock_tick_source;

#if defined(__x86_64__) || defined(__aarch64__)
/* Not ordered against surrounding instructions: good for a duration, not for proving what came first. */
static inline uint64_t clock_read_hardware_counter(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#endif
}
#endif

/* A counter of constant rate, comparable between threads. */
static inline uint64_t clock_ticks(void) {
#if defined(__x86_64__) || defined(__aarch64__)
    if (__builtin_expect(clock_tick_source.hardware, 1)) return clock_read_hardware_counter();
#endif
    return (uint64_t)clock_monotonic_ns();
}

/* Converts a difference of two clock_ticks() to nanoseconds. */
static inline uint64_t clock_ticks_to_ns(uint64_t ticks) {
    return (uint64_t)(((unsigned __int128)ticks * clock_tick_source.ns_per_tick_scaled) >> 32);
}

/* Nanoseconds since `start` (a clock_ticks()); 0 if another processor's counter is a little behind. */
static inline uint64_t clock_elapsed_ns(uint64_t start) {
    uint64_t now = clock_ticks();
    return now > start ? clock_ticks_to_ns(now - start) : 0;
}

#endif
