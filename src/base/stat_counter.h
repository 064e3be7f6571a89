#ifndef TERRACE_BASE_STAT_COUNTER_H
#define TERRACE_BASE_STAT_COUNTER_H

/* A counter that one thread writes (or several, one at a time under a lock) and any thread reads: plain loads and
 * stores that the language allows to meet. */

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t stat_counter;

static inline void stat_add(stat_counter *counter, uint64_t amount) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount, memory_order_relaxed);
}
static inline void stat_set(stat_counter *counter, uint64_t value) {
    atomic_store_explicit(counter, value, memory_order_relaxed);
}
static inline uint64_t stat_get(const stat_counter *counter) {
    return atomic_load_explicit((stat_counter *)(uintptr_t)counter, memory_order_relaxed);
}

#endif
