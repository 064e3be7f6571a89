/* See allocator_purger.h. */

#include "server/allocator_purger.h"

#include "base/thread_place.h"

static void *run(void *ctx) {
    struct allocator_purger *purger = ctx;
    thread_place_roam();
    thread_place_prompt(); /* commands wait for memory */
    pthread_mutex_lock(&purger->lock);
    while (!purger->ends) {
        if (!purger->asked) {
            pthread_cond_wait(&purger->changed, &purger->lock);
            continue;
        }
        purger->asked = false;
        pthread_mutex_unlock(&purger->lock);
        purger->purge(purger->ctx);
        pthread_mutex_lock(&purger->lock);
    }
    pthread_mutex_unlock(&purger->lock);
    return NULL;
}

void allocator_purger_start(struct allocator_purger *purger, void (*purge)(void *ctx), void *ctx) {
    *purger = (struct allocator_purger){.purge = purge, .ctx = ctx};
    pthread_mutex_init(&purger->lock, NULL);
    pthread_cond_init(&purger->changed, NULL);
    purger->started = pthread_create(&purger->thread, NULL, run, purger) == 0;
}

void allocator_purger_stop(struct allocator_purger *purger) {
    if (!purger->started) return;
    pthread_mutex_lock(&purger->lock);
    purger->ends = true;
    pthread_cond_signal(&purger->changed);
    pthread_mutex_unlock(&purger->lock);
    pthread_join(purger->thread, NULL);
    purger->started = false;
}

bool allocator_purger_ask(struct allocator_purger *purger) {
    if (!purger->started) return false;
    pthread_mutex_lock(&purger->lock);
    purger->asked = true;
    pthread_cond_signal(&purger->changed);
    pthread_mutex_unlock(&purger->lock);
    return true;
}
