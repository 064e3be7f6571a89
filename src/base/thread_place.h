#ifndef TERRACE_BASE_THREAD_PLACE_H
#define TERRACE_BASE_THREAD_PLACE_H

/* Where threads beside the workers run. A thread inherits the CPUs of the one that makes it, which may be a worker
 * bound to a single CPU: then it has to leave, or the two would share it while others are idle. */

/* On the main thread, before it is bound to anything: these are the process's CPUs. */
void thread_place_begin(void);
/* The calling thread may run on all of the process's CPUs. */
void thread_place_roam(void);
/* The same, and it gives way to threads of usual priority wherever they want the CPU. */
void thread_place_behind(void);

#endif
