/* The lock of a shard: taken with one locked instruction, freed with none. It is usually held for less than a
 * microsecond, so whoever finds it taken spins for a moment; then he announces himself in `waiters` and sleeps on a
 * futex. The one who frees it may have looked at `waiters` an instant before; therefore a sleeper looks again after a
 * millisecond. */

#include "keyspace/shard.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPINS = 100 };

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

void shard_lock_slow(struct shard *shard) {
    for (unsigned i = 0; i < SPINS; i++) {
        uint32_t unlocked = 0;
        if (atomic_load_explicit(&shard->lock, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&shard->lock, &unlocked, 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return;
        pause_briefly();
    }
    const struct timespec patience = {.tv_nsec = 1000000};
    atomic_fetch_add(&shard->waiters, 1);
    while (atomic_exchange_explicit(&shard->lock, 1, memory_order_acquire) != 0)
        syscall(SYS_futex, &shard->lock, FUTEX_WAIT_PRIVATE, 1, &patience, NULL, 0);
    atomic_fetch_sub(&shard->waiters, 1);
}

void shard_wake(struct shard *shard) {
    syscall(SYS_futex, &shard->lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
