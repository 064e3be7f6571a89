/* See thread_place.h. */

#include "base/thread_place.h"

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLICE_NS = 100000, SLICE_BEHIND_NS = 100000 /* the least that the kernel knows */ };
enum { NICE = 5 /* a third of the share of a usual thread. With less they are put aside while they hold a lock */ };

static cpu_set_t process_cpus;
static bool known;

void thread_place_begin(void) {
    known = sched_getaffinity(0, sizeof(process_cpus), &process_cpus) == 0;
}

/* What cannot be done leaves the thread where it is, which is only slower. */
void thread_place_roam(void) {
    if (known) (void)sched_setaffinity(0, sizeof(process_cpus), &process_cpus);
}

/* The kernel's struct sched_attr, which the C library does not have. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_ns, deadline_ns, period_ns;
};

/* How long the thread keeps a CPU from others that could run: kernels before 6.12 do not know. */
static void set_slice(uint64_t slice_ns) {
    struct attributes attributes = {.size = sizeof(attributes)};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0) return;
    if (attributes.policy != SCHED_OTHER && attributes.policy != SCHED_BATCH) return;
    attributes.size = sizeof(attributes);
    attributes.slice_ns = slice_ns;
    (void)syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void thread_place_prompt(void) {
    set_slice(SLICE_NS);
}

void thread_place_beside(const cpu_set_t *taken) {
    static _Thread_local cpu_set_t avoided;
    cpu_set_t left;
    if (!known || CPU_EQUAL(&avoided, taken)) return;
    avoided = *taken;
    CPU_AND(&left, &process_cpus, taken);
    CPU_XOR(&left, &process_cpus, &left);
    (void)sched_setaffinity(0, sizeof(left), CPU_COUNT(&left) ? &left : &process_cpus);
}

void thread_place_behind(void) {
    const struct sched_param none = {0};
    thread_place_roam();
    (void)sched_setscheduler(0, SCHED_BATCH, &none); /* takes the CPU from nobody when it wakes up */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, (id_t)gettid()) + NICE);
    set_slice(SLICE_BEHIND_NS);
}
