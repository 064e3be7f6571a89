/* A copy says where it is about to touch the medium, in a variable of its thread; SIGBUS comes on the thread that
 * touched, with the address. If that lies where the copy said, the thread leaves the copy with a long jump, which is
 * sound because memcpy and the flush instructions behind libpmemobj's copy hold nothing. Any other SIGBUS is not ours:
 * the handler before us is put back, and meets it when the instruction is tried again.
 *
 * The signal mask is neither saved nor restored (that would be a system call for every copy), so the handler must not
 * block its own signal. */

#include "pmem/media.h"

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

struct touching {
    sigjmp_buf leave;
    uintptr_t from, to; /* both 0: nothing */
};

static _Thread_local volatile struct touching touching;
static struct sigaction before;

static void on_bus_error(int number, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t address = (uintptr_t)info->si_addr;
    if (info->si_code > 0 && address >= touching.from && address < touching.to) {
        touching.from = touching.to = 0;
        siglongjmp(*(sigjmp_buf *)(uintptr_t)&touching.leave, 1);
    }
    sigaction(number, &before, NULL);
    if (info->si_code <= 0) raise(number); /* sent by somebody: it will not come again by itself */
}

void pmem_media_watch(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction now, ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    pthread_mutex_lock(&lock);
    if (sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction != on_bus_error) {
        before = now;
        sigaction(SIGBUS, &ours, NULL);
    }
    pthread_mutex_unlock(&lock);
}

/* False, a second time: the medium failed. Expands where the copy is, since a long jump needs its frame. */
#define TOUCH(memory, bytes)                                                                                           \
    (touching.from = (uintptr_t)(memory), touching.to = (uintptr_t)(memory) + (bytes),                                 \
     sigsetjmp(*(sigjmp_buf *)(uintptr_t)&touching.leave, 0) == 0)

/* The compiler keeps stores to a volatile in order with calls it cannot see into; this keeps inlined copies there. */
static void touched(void) {
    __asm__ volatile("" ::: "memory");
    touching.from = touching.to = 0;
}

bool pmem_media_read(const struct pmem_area *area, uint64_t offset, void *into, size_t bytes) {
    assert(offset <= area->bytes && bytes <= area->bytes - offset);
    if (!TOUCH(area->memory + offset, bytes)) return false;
    __asm__ volatile("" ::: "memory");
    memcpy(into, area->memory + offset, bytes);
    touched();
    return true;
}

/* A flush touches whole lines. */
bool pmem_media_write(const struct pmem_area *area, uint64_t offset, const void *from, size_t bytes) {
    if (!TOUCH(area->memory + offset, bytes)) return false;
    __asm__ volatile("" ::: "memory");
    pmem_area_copy(area, offset, from, bytes);
    touched();
    return true;
}
