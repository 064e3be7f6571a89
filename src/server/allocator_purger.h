#ifndef TERRACE_SERVER_ALLOCATOR_PURGER_H
#define TERRACE_SERVER_ALLOCATOR_PURGER_H

/* A thread that has the allocator give back what it does not use: with values of megabytes that takes milliseconds at a
 * stretch, for which no command may wait.
 *
 * Threads: allocator_purger_ask() may be called from any, the others from one. */

#include <pthread.h>
#include <stdbool.h>

struct allocator_purger {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    void (*purge)(void *ctx);
    void *ctx;
    bool started, asked, ends;
};

/* `purge` is called on the thread, once for any number of questions that came meanwhile. */
void allocator_purger_start(struct allocator_purger *purger, void (*purge)(void *ctx), void *ctx);
/* Waits for the thread's end. Zeroed, or without a thread, there is nothing to be done. */
void allocator_purger_stop(struct allocator_purger *purger);
/* False: there is no thread, and it has to be done by oneself. */
bool allocator_purger_ask(struct allocator_purger *purger) __attribute__((warn_unused_result));

#endif
