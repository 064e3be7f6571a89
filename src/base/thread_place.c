/* See thread_place.h. */

#include "base/thread_place.h"

#include <sched.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

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

void thread_place_behind(void) {
    thread_place_roam();
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, (id_t)gettid()) + NICE);
}
