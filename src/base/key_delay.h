#ifndef TERRACE_BASE_KEY_DELAY_H
#define TERRACE_BASE_KEY_DELAY_H

/* A pause after each key that is saved or loaded, for tests that need a save or a load to take its time. The settings
 * (rdb-key-save-delay, key-load-delay) are as in Redis: microseconds for each key; below 0, one microsecond for every
 * so many keys, since the shortest pause there is takes far longer than a microsecond.
 *
 * Threads: any number of them pass keys, while another one sets the delay. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Zeroed: no delay. */
struct key_delay {
    _Atomic int64_t setting_us;
    _Atomic uint64_t passed; /* keys, while a delay is set */
};

static inline void key_delay_set(struct key_delay *delay, int64_t setting_us) {
    atomic_store_explicit(&delay->setting_us, setting_us, memory_order_relaxed);
}

void key_delay_wait(struct key_delay *delay, unsigned keys);

/* So many keys go by: may sleep, so no lock is held. */
static inline void key_delay_pass(struct key_delay *delay, unsigned keys) {
    if (__builtin_expect(atomic_load_explicit(&delay->setting_us, memory_order_relaxed) != 0, 0))
        key_delay_wait(delay, keys);
}

#endif
