/* Clocks.
 *
 * Wall and monotonic time come from clock_gettime, which the vDSO answers in some 20-50 ns. Timing each
 * command twice at that price would show in a server that spends 200 ns on a GET, so durations are taken
 * from the processor's own counter, about 5-10 ns a reading.
 *
 * The counter may be used only if its rate is constant and it agrees between processors:
 *   x86-64   the CPU declares an invariant TSC, and the kernel trusts it: the current clocksource is the
 *            TSC itself or a hypervisor's clock that is computed from it;
 *   aarch64  the architecture promises both for the generic timer, and tells its frequency.
 * Anywhere else a tick is a nanosecond of the monotonic clock.
 *
 * On x86-64 the rate is measured: two (counter, monotonic) pairs 10 ms apart. A pair is off by at most the
 * cost of reading both, some 100 ns, so the rate is good to about 10 ppm: ample for latency figures, and the
 * reason why timers use clock_monotonic_ns() instead. */

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define NS_PER_SECOND  INT64_C(1000000000)
#define CALIBRATION_NS (10 * 1000 * 1000)

struct clock_tick_source clock_tick_source = {.hardware = false, .ns_per_tick_scaled = UINT64_C(1) << 32};

static _Atomic int64_t frozen_unix_us = -1;

static int64_t read_clock_ns(clockid_t id) {
    struct timespec now;
    int failed = clock_gettime(id, &now);
    assert(!failed);
    return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

int64_t clock_unix_us(void) {
    int64_t frozen = atomic_load_explicit(&frozen_unix_us, memory_order_relaxed);
    if (__builtin_expect(frozen >= 0, 0)) return frozen;
    return read_clock_ns(CLOCK_REALTIME) / 1000;
}

int64_t clock_unix_ms(void) {
    return clock_unix_us() / 1000;
}

void clock_freeze_unix_us(int64_t now_us) {
    atomic_store_explicit(&frozen_unix_us, now_us, memory_order_relaxed);
}

int64_t clock_monotonic_ns(void) {
    return read_clock_ns(CLOCK_MONOTONIC);
}

#if defined(__x86_64__)

static bool kernel_trusts_tsc(void) {
    static const char *const computed_from_tsc[] = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page"};
    char name[64] = {0};
    int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t length = read(fd, name, sizeof(name) - 1);
    close(fd);
    if (length <= 0) return false;
    name[strcspn(name, "\n")] = '\0';
    for (size_t i = 0; i < sizeof(computed_from_tsc) / sizeof(computed_from_tsc[0]); i++) {
        if (strcmp(name, computed_from_tsc[i]) == 0) return true;
    }
    return false;
}

static bool tsc_is_invariant(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(0x80000007u, &eax, &ebx, &ecx, &edx)) return false;
    return (edx & (1u << 8)) != 0;
}

struct tick_pair {
    uint64_t ticks;
    int64_t ns;
};

/* The narrowest of a few attempts: an interrupt between the two readings would spoil the rate. */
static struct tick_pair read_tick_pair(void) {
    struct tick_pair best = {0, 0};
    uint64_t best_width = UINT64_MAX;
    for (int attempt = 0; attempt < 5; attempt++) {
        uint64_t before = clock_read_hardware_counter();
        int64_t ns = clock_monotonic_ns();
        uint64_t width = clock_read_hardware_counter() - before;
        if (width < best_width) {
            best_width = width;
            best = (struct tick_pair){before + width / 2, ns};
        }
    }
    return best;
}

static void use_hardware_ticks_if_safe(void) {
    if (!tsc_is_invariant() || !kernel_trusts_tsc()) return;
    struct tick_pair first = read_tick_pair();
    struct timespec pause = {.tv_nsec = CALIBRATION_NS};
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {
    }
    struct tick_pair second = read_tick_pair();
    if (second.ticks <= first.ticks || second.ns <= first.ns) return;
    unsigned __int128 elapsed_scaled = (unsigned __int128)(uint64_t)(second.ns - first.ns) << 32;
    clock_tick_source.ns_per_tick_scaled = (uint64_t)(elapsed_scaled / (second.ticks - first.ticks));
    clock_tick_source.hardware = true;
}

#elif defined(__aarch64__)

static void use_hardware_ticks_if_safe(void) {
    uint64_t frequency_hz;
    __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(frequency_hz));
    if (frequency_hz == 0) return;
    clock_tick_source.ns_per_tick_scaled = (uint64_t)(((unsigned __int128)NS_PER_SECOND << 32) / frequency_hz);
    clock_tick_source.hardware = true;
}

#else

static void use_hardware_ticks_if_safe(void) {}

#endif

void clock_init(void) {
    if (!clock_tick_source.hardware) use_hardware_ticks_if_safe();
}
