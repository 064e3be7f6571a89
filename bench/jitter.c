/* terrace-jitter: what this machine does to a thread that runs.
 *
 * For --seconds N (8) one thread on each processor does nothing but read its CPU clock, and a hundred times a second
 * gives 256 KB back to the kernel and takes them anew, as a server does that makes room. Told is the longest of each,
 * and how many took more than 2 ms:
 *
 *   step         between two looks at the clock
 *   giving back  one call of the kernel, which waits for all processors that run threads of this process
 *
 * Neither has anything to do that takes so long. A CPU clock stands still while other threads have the processor, but
 * not while a hypervisor has taken it away without saying so: what is measured by such clocks is a program's own only
 * as far as it is longer than this. */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
    GIVEN_BYTES = 256 << 10,
    EVERY_NS = 10000000, /* of CPU time, between two times that memory is given back */
    LONG_NS = 2000000,
};

struct longest {
    uint64_t ns;
    unsigned over; /* LONG_NS */
};

struct thread {
    pthread_t id;
    int cpu;
    double seconds;
    struct longest step, giving;
    bool failed;
};

static uint64_t clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void note(struct longest *longest, uint64_t ns) {
    if (ns > longest->ns) longest->ns = ns;
    longest->over += ns > LONG_NS;
}

static void *run(void *argument) {
    struct thread *thread = argument;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(thread->cpu, &cpus);
    (void)pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
    char *memory = mmap(NULL, GIVEN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    thread->failed = memory == MAP_FAILED;
    if (thread->failed) return NULL;
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(thread->seconds * 1e9);
    uint64_t last = clock_ns(CLOCK_THREAD_CPUTIME_ID), given = last;
    while (clock_ns(CLOCK_MONOTONIC) < end) {
        uint64_t now = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        note(&thread->step, now - last);
        last = now;
        if (now - given < EVERY_NS) continue;
        memset(memory, 1, GIVEN_BYTES);
        now = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        (void)madvise(memory, GIVEN_BYTES, MADV_DONTNEED);
        last = given = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        note(&thread->giving, last - now);
    }
    munmap(memory, GIVEN_BYTES);
    return NULL;
}

/* All threads at once. False: one could not begin. */
static bool run_all(const cpu_set_t *cpus, double seconds, struct longest *step, struct longest *giving) {
    struct thread threads[CPU_SETSIZE];
    unsigned count = 0;
    bool failed = false;
    for (int cpu = 0; cpu < CPU_SETSIZE && !failed; cpu++) {
        if (!CPU_ISSET(cpu, cpus)) continue;
        threads[count] = (struct thread){.cpu = cpu, .seconds = seconds};
        failed = pthread_create(&threads[count].id, NULL, run, &threads[count]) != 0;
        count += !failed;
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i].id, NULL);
        failed = failed || threads[i].failed;
        if (threads[i].step.ns > step->ns) step->ns = threads[i].step.ns;
        if (threads[i].giving.ns > giving->ns) giving->ns = threads[i].giving.ns;
        step->over += threads[i].step.over;
        giving->over += threads[i].giving.over;
    }
    return !failed;
}

int main(int argc, char **argv) {
    double seconds = argc == 3 && strcmp(argv[1], "--seconds") == 0 ? atof(argv[2]) : argc == 1 ? 8 : 0;
    struct longest step = {0}, giving = {0};
    cpu_set_t cpus;
    if (seconds <= 0) {
        fprintf(stderr, "usage: terrace-jitter [--seconds N]\n");
        return 2;
    }
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0 || !run_all(&cpus, seconds, &step, &giving)) {
        fprintf(stderr, "terrace-jitter: no threads, or no memory\n");
        return 1;
    }
    printf("step %.1f ms (%u above 2), giving back %.1f ms (%u above 2)\n", (double)step.ns / 1e6, step.over,
           (double)giving.ns / 1e6, giving.over);
    return 0;
}
