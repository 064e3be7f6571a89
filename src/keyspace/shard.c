/* The lock of a shard: a futex of three states (Drepper, "Futexes are tricky", mutex 2), after a short spin,
 * because it is usually held for less than a microsecond. */

#include "keyspace/shard.h"

#include <linux/futex.h>
#include <sys/syscall.h>
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
    while (atomic_exchange_explicit(&shard->lock, 2, memory_order_acquire) != 0)
        syscall(SYS_futex, &shard->lock, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

void shard_unlock_slow(struct shard *shard) {
    syscall(SYS_futex, &shard->lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
