#ifndef TERRACE_BASE_THREAD_PLACE_H
#define TERRACE_BASE_THREAD_PLACE_H

/* Where threads beside the workers run. A thread inherits the CPUs of the one that makes it, which may be a worker
 * bound to a single CPU: then it has to leave, or the two would share it while others are idle. */

#include <sched.h>

/* On the main thread, before it is bound to anything: these are the process's CPUs. */
void thread_place_begin(void);
/* The calling thread may run on all of the process's CPUs. */
void thread_place_roam(void);
/* The same, and it gives way to threads of usual priority wherever they want the CPU. */
void thread_place_behind(void);
/* The calling thread asks for short turns on its CPU: when it wakes up it takes the CPU from threads that have longer
 * ones. Its share stays the same. For threads that somebody waits for. */
void thread_place_prompt(void);
/* The calling thread runs on those of the process's CPUs that are not in `taken`, on all where none is left. To be
 * called often: costs something only where `taken` is another set than the last time. */
void thread_place_beside(const cpu_set_t *taken);

#endif
