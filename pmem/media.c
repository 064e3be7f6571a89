/* A copy says where it is about to touch the medium, in a variable of its thread; SIGBUS comes on the thread that
 * touched, with the address. If that lies where the copy said, the thread leaves the copy with a long jump, which is
 * sound because memcpy and the flush instructions behind libpmemobj's copy hold nothing. Elsewhere in a pool (in a
 * transaction, say, which holds locks) nobody can go on: one line, and the end. Any other SIGBUS is not ours: the
 * handler before us is put back, and meets it when the instruction is tried again.
 *
 * The signal mask is neither saved nor restored (that would be a system call for every copy), so the handler must not
 * block its own signal. */

#include "pmem/media.h"

#include "base/log.h"

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { NAMES = 96 /* three of a pool; what has no place is just not named */ };

struct touching {
    sigjmp_buf leave;
    uintptr_t from, to; /* both 0: nothing */
};

static _Thread_local volatile struct touching touching;
static struct sigaction before;

static struct {
    _Atomic uintptr_t from, to;
    const char *_Atomic what; /* NULL: free */
} names[NAMES];
static _Thread_local volatile bool opening;

static const char *name_of(uintptr_t address) {
    for (unsigned i = 0; i < NAMES; i++) {
        const char *what = atomic_load(&names[i].what);
        if (what && address >= atomic_load(&names[i].from) && address < atomic_load(&names[i].to)) return what;
    }
    return opening ? "a pool that is being opened" : NULL;
}

/* Nothing was acknowledged that is not durable, so this is as orderly an end as there can be. */
static void end(const char *what) {
    char line[160] = "persistent memory cannot be read or written any more (SIGBUS) in ";
    strncat(line, what, sizeof(line) - strlen(line) - 1);
    strncat(line, ": the server ends", sizeof(line) - strlen(line) - 1);
    log_write_in_signal(LOG_LEVEL_WARNING, line);
    _exit(1);
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t address = (uintptr_t)info->si_addr;
    if (info->si_code > 0 && address >= touching.from && address < touching.to) {
        touching.from = touching.to = 0;
        siglongjmp(*(sigjmp_buf *)(uintptr_t)&touching.leave, 1);
    }
    const char *what = info->si_code > 0 ? name_of(address) : NULL;
    if (what) end(what);
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

bool pmem_media_touch(const struct pmem_area *area, uint64_t offset, size_t bytes, void (*touch)(void *ctx),
                      void *ctx) {
    assert(offset <= area->bytes && bytes <= area->bytes - offset);
    if (!TOUCH(area->memory + offset, bytes)) return false;
    __asm__ volatile("" ::: "memory");
    touch(ctx);
    touched();
    return true;
}

/* The first that fits is found first: parts are named before the whole. */
void pmem_media_name(const void *memory, uint64_t bytes, const char *what) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    uintptr_t from = (uintptr_t)memory;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < NAMES; i++) {
        bool same = names[i].what && names[i].from == from && names[i].to == from + bytes;
        if (what ? names[i].what != NULL : !same) continue;
        names[i].from = from;
        names[i].to = from + bytes;
        atomic_store(&names[i].what, what);
        break;
    }
    pthread_mutex_unlock(&lock);
}

void pmem_media_opening(bool on) {
    opening = on;
}

/* A flush touches whole lines. */
bool pmem_media_write(const struct pmem_area *area, uint64_t offset, const void *from, size_t bytes) {
    if (!TOUCH(area->memory + offset, bytes)) return false;
    __asm__ volatile("" ::: "memory");
    pmem_area_copy(area, offset, from, bytes);
    touched();
    return true;
}
