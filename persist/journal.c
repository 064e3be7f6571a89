/* The ring of effects. See journal.h.
 *
 * A reservation does three things under the spin lock: it writes down in its writer's slot where the bytes begin that
 * are not copied yet, moves `end`, and remembers the selected database. What has been copied whole is then whatever
 * lies before `end` and before every slot's note; nobody has to be waited for, and no writer looks at another one.
 *
 *   slot 0: 700          end: 900, oldest note: 700: committed is 700, although what writer 1 put at 800 may be done
 *   slot 1: nothing
 *
 * `held` is the least position of the readers that hold. A byte may be put at a position below held + capacity; whoever
 * is further waits until readers have advanced. The effect that begins at the least position of all that are under way
 * always gets room once readers have taken what lies before it, so nobody waits for ever. One that is larger than the
 * ring notes in its slot how far it has come, with a bit that says: this is no boundary.
 *
 * A reader that does not hold copies first and looks afterwards whether the bytes were still its own: writers move
 * `end` before they overwrite anything. */

#include "persist/journal.h"

#include "base/limits.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum {
    CACHE_LINE = 64,
    AHEAD_BYTES = 256,
    SPINS = 128,                /* looks at a taken lock before the processor is given away */
    ROOM_LOOK_NS = 1000000,     /* between two times that a writer without room wakes the readers */
    SELECT_MAX = 40,            /* "*2\r\n$6\r\nSELECT\r\n$10\r\n4294967295\r\n" */
    PIECE_BYTES = 1024 * 1024,  /* of a large effect, until readers may have it */
    CAPACITY_LEAST = 64 * 1024, /* many times what a SELECT takes */
    GROW_LOOK_NS = 1000000,     /* between two looks whether a reader has done with the old ring */
    GROW_LOOKS = 100,
};
#define CAPACITY_DEFAULT ((size_t)64 << 20)
#define NOTHING          UINT64_MAX          /* of a slot: no append is under way; of `held`: nobody holds */
#define MIDDLE           (UINT64_C(1) << 62) /* of a slot: not a boundary. Positions stay far below. */

struct journal_slot {
    _Alignas(CACHE_LINE) _Atomic uint64_t pending; /* bytes from here on are not copied yet */
};

struct journal {
    char *ring;
    _Atomic size_t capacity; /* changes only while nobody writes */
    uint64_t begin;
    unsigned writers;
    bool alone;
    atomic_uint readers;
    struct journal_reader *attached[LIMIT_JOURNAL_READERS]; /* under `sleep` */
    unsigned places;                                        /* of `attached` that were ever used; likewise */
    _Alignas(CACHE_LINE) atomic_bool taken;                 /* the spin lock */
    uint32_t database;                                      /* what the last reservation leaves selected */
    bool forgotten;                                         /* ... or nothing */
    _Atomic uint64_t end;
    _Alignas(CACHE_LINE) _Atomic uint64_t held;
    atomic_uint starving; /* writers without room */
    atomic_bool late;     /* writers are to wait all the same */
    void (*drain)(void *ctx);
    void *drain_ctx;
    pthread_mutex_t sleep;
    pthread_cond_t room; /* `held` has moved */
    struct journal_slot slots[];
};

struct journal_reader {
    struct journal *journal;
    bool holds;                /* of a pin: just now */
    bool pins;                 /* it does not count as somebody who reads */
    bool looking;              /* it uses bytes of the ring; under `sleep` */
    unsigned place;            /* in `attached` */
    _Atomic uint64_t position; /* written by the reader */
    atomic_bool woken, sleeping;
    pthread_cond_t news;
};

/* Between moving `end` and overwriting bytes, and between copying bytes and looking at `end`: for readers that do not
 * hold. ThreadSanitizer knows no fences, nor that such a reader throws away what it should not have read. */
static inline void fence(void) {
#if !defined(__SANITIZE_THREAD__)
    atomic_thread_fence(memory_order_acq_rel); /* no instruction on x86-64 */
#endif
}

/* ---- life ---- */

static void make_condition(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct journal *journal_create(const struct journal_options *options) {
    size_t wanted = options->capacity_bytes ? options->capacity_bytes : CAPACITY_DEFAULT, capacity = CAPACITY_LEAST;
    assert(options->writers > 0);
    while (capacity < wanted && capacity <= SIZE_MAX / 4) capacity *= 2;
    struct journal *journal =
        aligned_alloc(CACHE_LINE, sizeof(*journal) + options->writers * sizeof(struct journal_slot));
    if (!journal) return NULL;
    memset(journal, 0, sizeof(*journal));
    journal->ring = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (journal->ring == MAP_FAILED) {
        free(journal);
        return NULL;
    }
    journal->capacity = capacity;
    journal->begin = options->begin;
    journal->writers = options->writers;
    journal->alone = options->alone || options->writers == 1;
    journal->forgotten = true;
    atomic_init(&journal->end, options->begin);
    atomic_init(&journal->held, NOTHING);
    for (unsigned i = 0; i < options->writers; i++) atomic_init(&journal->slots[i].pending, NOTHING);
    pthread_mutex_init(&journal->sleep, NULL);
    make_condition(&journal->room);
    return journal;
}

void journal_destroy(struct journal *journal) {
    if (!journal) return;
    assert(atomic_load(&journal->readers) == 0);
    pthread_cond_destroy(&journal->room);
    pthread_mutex_destroy(&journal->sleep);
    munmap(journal->ring, journal->capacity);
    free(journal);
}

bool journal_is_active(const struct journal *journal) {
    return atomic_load_explicit(&journal->readers, memory_order_relaxed) > 0;
}

size_t journal_capacity(const struct journal *journal) {
    return journal->capacity;
}

/* ---- the spin lock ---- */

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void lock(struct journal *journal) {
    unsigned looks = 0;
    while (__builtin_expect(atomic_exchange_explicit(&journal->taken, true, memory_order_acquire), 0))
        while (atomic_load_explicit(&journal->taken, memory_order_relaxed))
            if (++looks % SPINS)
                relax();
            else
                sched_yield(); /* its holder may not be running */
}

static inline void unlock(struct journal *journal) {
    atomic_store_explicit(&journal->taken, false, memory_order_release);
}

/* ---- positions ---- */

uint64_t journal_end(const struct journal *journal) {
    return atomic_load_explicit(&journal->end, memory_order_acquire);
}

uint64_t journal_committed(const struct journal *journal, bool *boundary) {
    uint64_t least = journal_end(journal); /* first: a reservation made since only begins behind it */
    bool middle = false;
    for (unsigned i = 0; i < journal->writers; i++) {
        uint64_t pending = atomic_load_explicit(&journal->slots[i].pending, memory_order_acquire);
        if (pending == NOTHING || (pending & ~MIDDLE) >= least) continue;
        least = pending & ~MIDDLE;
        middle = pending & MIDDLE;
    }
    if (boundary) *boundary = !middle;
    return least;
}

uint64_t journal_oldest(const struct journal *journal) {
    uint64_t end = journal_end(journal), held = atomic_load_explicit(&journal->held, memory_order_acquire);
    uint64_t oldest = end - journal->begin > journal->capacity ? end - journal->capacity : journal->begin;
    return held < oldest ? held : oldest;
}

void journal_set_late(struct journal *journal, bool late) {
    atomic_store(&journal->late, late);
}

void journal_set_drain(struct journal *journal, void (*drain)(void *ctx), void *ctx) {
    journal->drain = drain;
    journal->drain_ctx = ctx;
}

bool journal_is_crowded(const struct journal *journal) {
    if (__builtin_expect(atomic_load_explicit(&journal->late, memory_order_relaxed), 0)) return true;
    uint64_t held = atomic_load_explicit(&journal->held, memory_order_relaxed);
    if (held == NOTHING) return false;
    uint64_t end = atomic_load_explicit(&journal->end, memory_order_relaxed);
    return end > held && end - held > journal->capacity / 4 * 3;
}

void journal_forget_database(struct journal *journal) {
    if (!journal->alone) lock(journal);
    journal->forgotten = true;
    if (!journal->alone) unlock(journal);
}

/* ---- writers ---- */

static void wake_locked(struct journal *journal) {
    for (unsigned i = 0; i < journal->places; i++)
        if (journal->attached[i]) {
            atomic_store_explicit(&journal->attached[i]->woken, true, memory_order_relaxed);
            pthread_cond_signal(&journal->attached[i]->news);
        }
}

static struct timespec in_ns(uint64_t ns) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t total = (uint64_t)at.tv_nsec + ns % 1000000000u;
    at.tv_sec += (time_t)(ns / 1000000000u + total / 1000000000u);
    at.tv_nsec = (long)(total % 1000000000u);
    return at;
}

/* Bytes that may be put from `at` on as far as holding readers are concerned. */
static inline uint64_t room_at(const struct journal *journal, uint64_t at) {
    uint64_t held = atomic_load_explicit(&journal->held, memory_order_acquire);
    if (held == NOTHING) return NOTHING;
    return held + journal->capacity > at ? held + journal->capacity - at : 0;
}

/* A reader without a thread: the writer does its work. `sleep` is locked. */
static void drain_locked(struct journal *journal) {
    if (!journal->drain) return;
    pthread_mutex_unlock(&journal->sleep);
    journal->drain(journal->drain_ctx);
    pthread_mutex_lock(&journal->sleep);
}

/* Others, whom the readers have to take first, wake nobody when they are done: therefore the looks. */
static void wait_for_room(struct journal *journal, uint64_t at) {
    pthread_mutex_lock(&journal->sleep);
    atomic_fetch_add(&journal->starving, 1);
    while (room_at(journal, at) == 0) {
        drain_locked(journal);
        if (room_at(journal, at) > 0) break;
        struct timespec due = in_ns(ROOM_LOOK_NS);
        wake_locked(journal);
        pthread_cond_timedwait(&journal->room, &journal->sleep, &due);
    }
    atomic_fetch_sub(&journal->starving, 1);
    pthread_mutex_unlock(&journal->sleep);
}

static inline uint64_t least_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Finds out where the next bytes go, and how many of them. */
static inline void find_room(struct journal_append *append) {
    struct journal *journal = append->journal;
    size_t offset = append->at & (journal->capacity - 1);
    uint64_t room = least_of(room_at(journal, append->at), append->stop - append->at);
    append->to = journal->ring + offset;
    append->adjacent = (size_t)least_of(room, journal->capacity - offset);
}

static uint32_t select_text(uint32_t database, char text[SELECT_MAX]) {
    char digits[12];
    uint32_t count = 0, length = 0;
    static const char head[] = "*2\r\n$6\r\nSELECT\r\n$";
    do digits[count++] = (char)('0' + database % 10);
    while (database /= 10);
    memcpy(text, head, sizeof(head) - 1);
    length = sizeof(head) - 1;
    if (count > 9) text[length++] = '1';
    text[length++] = (char)('0' + count % 10);
    text[length++] = '\r';
    text[length++] = '\n';
    for (uint32_t i = count; i-- > 0;) text[length++] = digits[i];
    text[length++] = '\r';
    text[length++] = '\n';
    return length;
}

void journal_begin(struct journal *journal, unsigned writer, uint32_t database, uint32_t database_after, size_t bytes,
                   struct journal_append *append) {
    char select[SELECT_MAX];
    uint32_t select_length = 0;
    assert(writer < journal->writers);
    struct journal_slot *slot = &journal->slots[writer];
    assert(atomic_load_explicit(&slot->pending, memory_order_relaxed) == NOTHING);
    if (!journal->alone) lock(journal);
    if (__builtin_expect(database != JOURNAL_SAME_DATABASE, 1)) {
        if (__builtin_expect(journal->forgotten || journal->database != database, 0))
            select_length = select_text(database, select);
        journal->forgotten = false;
        journal->database = database_after == JOURNAL_SAME_DATABASE ? database : database_after;
    }
    uint64_t at = atomic_load_explicit(&journal->end, memory_order_relaxed);
    atomic_store_explicit(&slot->pending, at, memory_order_release);
    atomic_store_explicit(&journal->end, at + select_length + bytes, memory_order_release);
    if (!journal->alone) unlock(journal);
    fence();
    *append =
        (struct journal_append){.journal = journal, .writer = writer, .at = at, .stop = at + select_length + bytes};
    find_room(append);
    if (__builtin_expect(select_length > 0, 0)) journal_put(append, select, select_length);
}

void journal_put_slow(struct journal_append *append, const void *bytes, size_t length) {
    struct journal *journal = append->journal;
    struct journal_slot *slot = &journal->slots[append->writer];
    const char *from = bytes;
    assert(length <= append->stop - append->at);
    while (length > 0) {
        if (append->adjacent == 0) {
            if ((atomic_load_explicit(&slot->pending, memory_order_relaxed) & ~MIDDLE) != append->at)
                atomic_store_explicit(&slot->pending, append->at | MIDDLE, memory_order_release);
            find_room(append);
            if (append->adjacent == 0) {
                wait_for_room(journal, append->at);
                continue;
            }
        }
        size_t piece = least_of(least_of(length, append->adjacent), PIECE_BYTES);
        memcpy(append->to, from, piece);
        append->to += piece;
        append->at += piece;
        append->adjacent -= piece;
        from += piece;
        length -= piece;
        if (piece == PIECE_BYTES && length > 0)
            atomic_store_explicit(&slot->pending, append->at | MIDDLE, memory_order_release);
    }
}

/* The lines of the ring that come next have long left the caches: they are asked for a few effects ahead, or stores
 * into them would hold up the next locked instruction. Behind the ring's end it is in vain, and does no harm. */
uint64_t journal_commit(struct journal_append *append) {
    assert(append->at == append->stop);
    __builtin_prefetch(append->to + AHEAD_BYTES, 1);
    __builtin_prefetch(append->to + AHEAD_BYTES + CACHE_LINE, 1);
    atomic_store_explicit(&append->journal->slots[append->writer].pending, NOTHING, memory_order_release);
    return append->stop;
}

uint64_t journal_append(struct journal *journal, unsigned writer, uint32_t database, const struct span *pieces,
                        unsigned count) {
    struct journal_append append;
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++) bytes += pieces[i].length;
    journal_begin(journal, writer, database, JOURNAL_SAME_DATABASE, bytes, &append);
    for (unsigned i = 0; i < count; i++) journal_put(&append, pieces[i].data, pieces[i].length);
    return journal_commit(&append);
}

/* ---- readers ---- */

/* The least position of those who hold; `sleep` is locked. */
static void set_held(struct journal *journal) {
    uint64_t held = NOTHING;
    for (unsigned i = 0; i < journal->places; i++) {
        const struct journal_reader *reader = journal->attached[i];
        if (!reader || !reader->holds) continue;
        held = least_of(held, atomic_load_explicit(&reader->position, memory_order_relaxed));
    }
    atomic_store_explicit(&journal->held, held, memory_order_release);
    if (atomic_load(&journal->starving)) pthread_cond_broadcast(&journal->room);
}

static struct journal_reader *attach(struct journal *journal, uint64_t from, bool holds, bool pins) {
    struct journal_reader *reader = calloc(1, sizeof(*reader));
    if (!reader) return NULL;
    reader->journal = journal;
    reader->holds = holds;
    reader->pins = pins;
    atomic_init(&reader->position, from);
    make_condition(&reader->news);
    pthread_mutex_lock(&journal->sleep);
    while (reader->place < LIMIT_JOURNAL_READERS && journal->attached[reader->place]) reader->place++;
    bool fits = reader->place < LIMIT_JOURNAL_READERS &&
                (pins || (from <= journal_end(journal) && from >= journal_oldest(journal)));
    if (fits) {
        journal->attached[reader->place] = reader;
        if (journal->places <= reader->place) journal->places = reader->place + 1;
        if (!pins) atomic_fetch_add(&journal->readers, 1);
        set_held(journal);
    }
    pthread_mutex_unlock(&journal->sleep);
    if (fits) return reader;
    pthread_cond_destroy(&reader->news);
    free(reader);
    return NULL;
}

struct journal_reader *journal_attach(struct journal *journal, uint64_t from, bool holds) {
    return attach(journal, from, holds, false);
}

void journal_detach(struct journal_reader *reader) {
    if (!reader) return;
    struct journal *journal = reader->journal;
    pthread_mutex_lock(&journal->sleep);
    journal->attached[reader->place] = NULL;
    if (!reader->pins) atomic_fetch_sub(&journal->readers, 1);
    set_held(journal);
    pthread_mutex_unlock(&journal->sleep);
    pthread_cond_destroy(&reader->news);
    free(reader);
}

uint64_t journal_reader_position(const struct journal_reader *reader) {
    return atomic_load_explicit(&reader->position, memory_order_acquire);
}

static unsigned spans_of(const struct journal *journal, uint64_t from, uint64_t to, struct span spans[2]) {
    size_t length = (size_t)(to - from), offset = from & (journal->capacity - 1);
    size_t first = least_of(length, journal->capacity - offset);
    assert(length <= journal->capacity);
    spans[0] = span_of(journal->ring + offset, first);
    spans[1] = span_of(journal->ring, length - first);
    return length > first ? 2 : 1;
}

static void set_looking(struct journal_reader *reader, bool looking) {
    pthread_mutex_lock(&reader->journal->sleep);
    reader->looking = looking;
    pthread_mutex_unlock(&reader->journal->sleep);
}

unsigned journal_peek(struct journal_reader *reader, struct span spans[2], bool *boundary) {
    struct journal *journal = reader->journal;
    uint64_t from = atomic_load_explicit(&reader->position, memory_order_relaxed);
    uint64_t committed = journal_committed(journal, boundary);
    assert(reader->holds);
    if (committed <= from) return 0;
    set_looking(reader, true);
    return spans_of(journal, from, committed, spans);
}

void journal_advance(struct journal_reader *reader, size_t bytes) {
    struct journal *journal = reader->journal;
    uint64_t position = atomic_load_explicit(&reader->position, memory_order_relaxed) + bytes;
    assert(position <= journal_end(journal));
    if (!reader->holds) {
        atomic_store_explicit(&reader->position, position, memory_order_release);
        return;
    }
    pthread_mutex_lock(&journal->sleep);
    atomic_store_explicit(&reader->position, position, memory_order_release);
    reader->looking = false;
    set_held(journal);
    pthread_mutex_unlock(&journal->sleep);
}

/* Whether the reader has been left behind: what it is about to copy, or has just copied, may have been overwritten. */
static bool is_lost(const struct journal_reader *reader, uint64_t from) {
    fence();
    uint64_t end = atomic_load_explicit(&reader->journal->end, memory_order_acquire);
    return !reader->holds && end > from && end - from > reader->journal->capacity;
}

bool journal_read(struct journal_reader *reader, void *buffer, size_t room, size_t *length) {
    struct journal *journal = reader->journal;
    uint64_t from = atomic_load_explicit(&reader->position, memory_order_relaxed);
    uint64_t committed = journal_committed(journal, NULL);
    *length = 0;
    if (is_lost(reader, from)) return false;
    if (committed <= from || room == 0) return true;
    struct span spans[2];
    size_t bytes = (size_t)least_of(committed - from, room);
    set_looking(reader, true);
    (void)spans_of(journal, from, from + bytes, spans);
    memcpy(buffer, spans[0].data, spans[0].length);
    memcpy((char *)buffer + spans[0].length, spans[1].data, spans[1].length);
    set_looking(reader, false);
    if (is_lost(reader, from)) return false;
    journal_advance(reader, bytes);
    *length = bytes;
    return true;
}

static bool has_news(const struct journal_reader *reader) {
    return journal_committed(reader->journal, NULL) > atomic_load_explicit(&reader->position, memory_order_relaxed);
}

bool journal_wait(struct journal_reader *reader, uint64_t timeout_ns) {
    struct journal *journal = reader->journal;
    struct timespec due = in_ns(timeout_ns);
    int status = 0;
    pthread_mutex_lock(&journal->sleep);
    atomic_store(&reader->sleeping, true); /* who wakes us from here on sees it, or has set `woken` before */
    while (!has_news(reader) && !atomic_load(&reader->woken) && status != ETIMEDOUT)
        status = pthread_cond_timedwait(&reader->news, &journal->sleep, &due);
    atomic_store(&reader->sleeping, false);
    (void)atomic_exchange(&reader->woken, false); /* what was appended before it was set is seen below */
    pthread_mutex_unlock(&journal->sleep);
    return has_news(reader);
}

void journal_wake(struct journal_reader *reader) {
    (void)atomic_exchange(&reader->woken, true);
    if (!atomic_load(&reader->sleeping)) return;
    pthread_mutex_lock(&reader->journal->sleep);
    pthread_cond_signal(&reader->news);
    pthread_mutex_unlock(&reader->journal->sleep);
}

/* ---- pins ---- */

struct journal_reader *journal_make_pin(struct journal *journal) {
    return attach(journal, 0, false, true);
}

/* A reservation made before the lock below is taken is seen in `end`; one made later sees what is held. What somebody
 * else has held all along is there also where a writer who waits for room has moved `end` beyond the ring. */
bool journal_pin(struct journal_reader *pin, uint64_t from) {
    struct journal *journal = pin->journal;
    assert(pin->pins && !pin->holds);
    pthread_mutex_lock(&journal->sleep);
    bool was_held = atomic_load_explicit(&journal->held, memory_order_relaxed) <= from;
    pin->holds = true;
    atomic_store_explicit(&pin->position, from, memory_order_release);
    set_held(journal);
    pthread_mutex_unlock(&journal->sleep);
    lock(journal);
    uint64_t end = atomic_load_explicit(&journal->end, memory_order_relaxed);
    unlock(journal);
    bool is_there = from >= journal->begin && from <= end && (was_held || end - from <= journal->capacity);
    if (!is_there) journal_unpin(pin);
    return is_there;
}

void journal_unpin(struct journal_reader *pin) {
    struct journal *journal = pin->journal;
    pthread_mutex_lock(&journal->sleep);
    pin->holds = false;
    set_held(journal);
    pthread_mutex_unlock(&journal->sleep);
}

unsigned journal_pinned(const struct journal_reader *pin, uint64_t from, uint64_t to, struct span spans[2]) {
    return spans_of(pin->journal, from, to, spans);
}

/* ---- while nobody writes ---- */

void journal_restart(struct journal *journal, uint64_t position) {
    pthread_mutex_lock(&journal->sleep);
    for (unsigned i = 0; i < journal->places; i++) {
        struct journal_reader *reader = journal->attached[i];
        assert(!reader || !reader->holds);
        if (reader) atomic_store_explicit(&reader->position, position, memory_order_release);
    }
    lock(journal);
    journal->begin = position;
    journal->forgotten = true;
    atomic_store_explicit(&journal->end, position, memory_order_release);
    unlock(journal);
    pthread_mutex_unlock(&journal->sleep);
}

/* Whether nobody uses bytes of the ring, or ceases to; `sleep` is locked, and is left for moments. */
static bool wait_for_lookers(struct journal *journal) {
    for (unsigned looks = 0; looks < GROW_LOOKS; looks++) {
        bool looking = false;
        for (unsigned i = 0; i < journal->places; i++) looking |= journal->attached[i] && journal->attached[i]->looking;
        if (!looking) return true;
        struct timespec due = in_ns(GROW_LOOK_NS);
        pthread_cond_timedwait(&journal->room, &journal->sleep, &due);
    }
    return false;
}

bool journal_grow(struct journal *journal, size_t capacity_bytes) {
    size_t capacity = journal->capacity;
    while (capacity < capacity_bytes && capacity <= SIZE_MAX / 4) capacity *= 2;
    if (capacity == journal->capacity) return true;
    char *ring = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ring == MAP_FAILED) return false;
    pthread_mutex_lock(&journal->sleep);
    bool grows = wait_for_lookers(journal);
    if (grows) {
        uint64_t end = journal_end(journal), at = journal_oldest(journal);
        size_t old = journal->capacity;
        while (at < end) {
            size_t from = at & (old - 1), to = at & (capacity - 1);
            size_t bytes = (size_t)least_of(end - at, least_of(old - from, capacity - to));
            memcpy(ring + to, journal->ring + from, bytes);
            at += bytes;
        }
        /* What was older than the old ring is in none. */
        journal->begin = journal_oldest(journal);
        char *emptied = journal->ring;
        journal->ring = ring;
        journal->capacity = capacity;
        munmap(emptied, old);
    } else {
        munmap(ring, capacity);
    }
    pthread_mutex_unlock(&journal->sleep);
    return grows;
}
