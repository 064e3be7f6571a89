/* See key_delay.h. A delay of one in N keys is counted, not drawn by lot: with the same keys it takes the same time. A
 * pause that lasts is slept in pieces, so that one which is taken back, as tests do when they have seen what they
 * wanted, ends soon. */

#include "base/key_delay.h"

#include <time.h>

enum { PIECE_US = 100000 };

/* False: the delay has been changed meanwhile. */
static bool wait_for_one(struct key_delay *delay, int64_t setting_us) {
    uint64_t passed = atomic_fetch_add_explicit(&delay->passed, 1, memory_order_relaxed);
    if (setting_us < 0 && passed % (uint64_t)-setting_us != 0) return true;
    int64_t left_us = setting_us < 0 ? 1 : setting_us;
    while (left_us > 0) {
        int64_t piece_us = left_us < PIECE_US ? left_us : PIECE_US;
        nanosleep(&(struct timespec){.tv_nsec = piece_us * 1000}, NULL);
        left_us -= piece_us;
        if (atomic_load_explicit(&delay->setting_us, memory_order_relaxed) != setting_us) return false;
    }
    return true;
}

void key_delay_wait(struct key_delay *delay, unsigned keys) {
    int64_t setting_us = atomic_load_explicit(&delay->setting_us, memory_order_relaxed);
    if (setting_us == 0) return;
    for (unsigned i = 0; i < keys; i++)
        if (!wait_for_one(delay, setting_us)) return;
}
