/* Space on the disk, reserved ahead of those who write.
 *
 * Reserving (fallocate) makes the file system wait for every transfer under way on the file, and holds new ones up
 * meanwhile. So it is done in large steps, by a thread of its own, before the space is needed: a worker only looks how
 * far the file reaches. One that comes too early is told to try again; it says how far it would have gone, and the
 * thread sees to it.
 *
 * On a full disk the thread tries what is needed at least, then twice a second again, as long as somebody still wants
 * it; meanwhile the tier is full at the size it has. */

#include "base/log.h"
#include "tiering/tier_private.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { STEP_MIN = 64 << 20, STEP_MAX = 1 << 30, STEP_PART = 4, RETRY_MS = 500 };

/* A quarter of what there is, within bounds. */
static uint64_t step_of(uint64_t reserved) {
    uint64_t step = reserved / STEP_PART;
    return step < STEP_MIN ? STEP_MIN : step > STEP_MAX ? STEP_MAX : step;
}

static void note_failure(struct tier *tier, uint64_t end, int error) {
    if (atomic_exchange(&tier->space_error, error) != error)
        log_warning("tier: the file cannot grow to %llu bytes: %s", (unsigned long long)end, strerror(error));
}

/* Up to `wanted` at least, and a step more if that can be had. */
static bool grow(struct tier *tier, uint64_t wanted) {
    struct tier_file *file = &tier->file;
    uint64_t reserved = atomic_load_explicit(&tier->reserved_bytes, memory_order_relaxed);
    uint64_t far = wanted + step_of(reserved);
    if (far > file->size_bytes) far = file->size_bytes;
    bool grown = tier_file_reserve(file, far);
    if (!grown && far > wanted) grown = tier_file_reserve(file, far = wanted);
    if (!grown) {
        note_failure(tier, wanted, errno);
        return false;
    }
    if (atomic_exchange(&tier->space_error, 0)) log_notice("tier: the file can grow again");
    atomic_store_explicit(&tier->reserved_bytes, far, memory_order_release);
    return true;
}

static void wait_a_while(struct tier_space *space) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += RETRY_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&space->changed, &space->lock, &until);
}

static void *keep_ahead(void *argument) {
    struct tier *tier = argument;
    struct tier_space *space = &tier->space;
    pthread_mutex_lock(&space->lock);
    while (!space->stopping) {
        uint64_t wanted = space->wanted;
        if (wanted <= atomic_load_explicit(&tier->reserved_bytes, memory_order_relaxed)) {
            pthread_cond_wait(&space->changed, &space->lock);
            continue;
        }
        pthread_mutex_unlock(&space->lock);
        bool grown = grow(tier, wanted);
        pthread_mutex_lock(&space->lock);
        if (!grown && !space->stopping) {
            space->wanted = 0; /* whoever still wants it says so again */
            wait_a_while(space);
        }
    }
    pthread_mutex_unlock(&space->lock);
    return NULL;
}

bool tier_space_start(struct tier *tier) {
    struct tier_space *space = &tier->space;
    if (tier->file.pmem) { /* all that can be taken is there */
        atomic_store_explicit(&tier->reserved_bytes, tier->file.size_bytes, memory_order_relaxed);
        return true;
    }
    pthread_mutex_init(&space->lock, NULL);
    pthread_cond_init(&space->changed, NULL);
    (void)grow(tier, tier->segment_bytes); /* a full disk is no reason not to start: memory is there */
    space->started = pthread_create(&space->thread, NULL, keep_ahead, tier) == 0;
    return space->started;
}

void tier_space_stop(struct tier *tier) {
    struct tier_space *space = &tier->space;
    if (!space->started) return;
    pthread_mutex_lock(&space->lock);
    space->stopping = true;
    pthread_cond_signal(&space->changed);
    pthread_mutex_unlock(&space->lock);
    pthread_join(space->thread, NULL);
    pthread_cond_destroy(&space->changed);
    pthread_mutex_destroy(&space->lock);
}

static void want(struct tier *tier, uint64_t end) {
    struct tier_space *space = &tier->space;
    if (end > tier->file.size_bytes) end = tier->file.size_bytes;
    pthread_mutex_lock(&space->lock);
    if (end > space->wanted) {
        space->wanted = end;
        pthread_cond_signal(&space->changed);
    }
    pthread_mutex_unlock(&space->lock);
}

enum tier_append_status tier_space_reaches(struct tier *tier, uint64_t end) {
    uint64_t reserved = atomic_load_explicit(&tier->reserved_bytes, memory_order_acquire);
    if (end + step_of(reserved) / 2 > reserved && reserved < tier->file.size_bytes)
        want(tier, end > reserved ? end : reserved + tier->segment_bytes);
    if (end <= reserved) return TIER_APPENDED;
    return atomic_load_explicit(&tier->space_error, memory_order_relaxed) ? TIER_FULL : TIER_BUSY;
}
