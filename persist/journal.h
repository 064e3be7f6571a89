#ifndef TERRACE_PERSIST_JOURNAL_H
#define TERRACE_PERSIST_JOURNAL_H

/* The journal: what has been done to the keyspace, as a ring of bytes that several threads append to and several read.
 *
 *   oldest                        committed            end
 *     |------- readers take ---------|--- being copied ---|
 *   every effect of every command, in the order of its reservation
 *
 * Its bytes are commands of RESP ("*3\r\n$3\r\nSET\r\n..."), one behind the other, with a SELECT wherever the database
 * changes. A position counts bytes since the journal's beginning, never wraps and is a uint64_t: the same number is the
 * replication offset.
 *
 * An append reserves its place under a spin lock of a few instructions (which writers of a single thread do without),
 * in which the order of effects is decided, and copies outside of it. The order of effects that touch the same key is
 * therefore that of the key's shard lock, which the writer holds while it appends.
 *
 * A reader either holds what it has not read yet, and writers wait for it where the ring is full, or it does not, and
 * is left behind. journal_is_crowded() is how writers avoid to wait with locks held. A thread that reads for a holding
 * reader may therefore never wait for a shard's lock or for workers to stand still.
 *
 * Threads: each writer number is used by one thread at a time, each reader by one thread at a time. */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;
struct journal_reader;

struct journal_options {
    size_t capacity_bytes; /* rounded up to a power of two; 0: 64 MiB. Touched as it is used. */
    unsigned writers;      /* writer numbers are below it; at least 1 */
    bool alone;            /* all writers are of one thread, or stand still while another one writes */
    uint64_t begin;        /* position of the first byte */
};

/* NULL: no memory. */
struct journal *journal_create(const struct journal_options *options);
/* No reader may be attached, no writer under way. NULL is allowed. */
void journal_destroy(struct journal *journal);

/* Somebody reads: effects are to be appended. One relaxed load. What is appended while nobody does is dropped when the
 * ring is full. To have it change at an exact place of the order, workers must stand still around attach and detach. */
bool journal_is_active(const struct journal *journal);

/* ---- writers ---- */

/* An append under way; on the writer's stack. Fields are the journal's own. */
struct journal_append {
    struct journal *journal;
    unsigned writer;
    uint64_t at;     /* position of the next byte to put */
    uint64_t stop;   /* position behind the last one reserved */
    char *to;        /* where byte `at` goes */
    size_t adjacent; /* bytes that may be put there without a further look */
};

enum { JOURNAL_SAME_DATABASE = UINT32_MAX };

/* Reserves `bytes`, to be put at once; in front of them SELECT `database` if the effect before left another database
 * selected; JOURNAL_SAME_DATABASE: they do not care, or select for themselves, and journal_forget_database() is called
 * behind the last of these. `database_after` is what is selected behind them, JOURNAL_SAME_DATABASE: the same. The
 * bytes are one command, or several (MULTI ... EXEC): readers see their end as a boundary. Wait-free but for the spin
 * lock. */
void journal_begin(struct journal *journal, unsigned writer, uint32_t database, uint32_t database_after, size_t bytes,
                   struct journal_append *append);
/* Copies the next bytes. Where the ring is full of what holding readers have to take yet, waits for them. */
void journal_put_slow(struct journal_append *append, const void *bytes, size_t length);
static inline void journal_put(struct journal_append *append, const void *bytes, size_t length) {
    if (__builtin_expect(length > append->adjacent, 0)) {
        journal_put_slow(append, bytes, length);
        return;
    }
    __builtin_memcpy(append->to, bytes, length);
    append->to += length;
    append->at += length;
    append->adjacent -= length;
}
/* The same in place: where the next `length` bytes are to be written, all of them before the next call; NULL: they are
 * not adjacent in the ring, or have no room yet. */
static inline char *journal_place(struct journal_append *append, size_t length) {
    char *to = append->to;
    if (length > append->adjacent) return NULL;
    append->to += length;
    append->at += length;
    append->adjacent -= length;
    return to;
}
/* All bytes have been put: readers may have them. Returns the position behind them. Wakes nobody. */
uint64_t journal_commit(struct journal_append *append);

/* begin, put, commit. */
uint64_t journal_append(struct journal *journal, unsigned writer, uint32_t database, const struct span *pieces,
                        unsigned count);

/* The next effect begins with SELECT, whatever was selected: a new file begins here. Where writers are `alone`: on
 * their thread, or while it stands still. */
void journal_forget_database(struct journal *journal);

/* Behind the last reservation. Exact while writers stand still: with all shard locks held, or all workers stopped. */
uint64_t journal_end(const struct journal *journal);
/* All before it have been copied whole. `boundary`, if not NULL: an effect ends there; otherwise it is in the middle of
 * one larger than the ring. Any thread. */
uint64_t journal_committed(const struct journal *journal, bool *boundary);
/* What was appended from here on is still in the ring. */
uint64_t journal_oldest(const struct journal *journal);
size_t journal_capacity(const struct journal *journal);

/* Both: no writer may be under way, and none begin.
 *
 * Goes on at another position; what was there is gone. Readers that do not hold go on there as well; precondition: none
 * holds. */
void journal_restart(struct journal *journal, uint64_t position);
/* A larger ring (one that is smaller than the present one is not made), with everything that is in this one. False: no
 * memory, or a reader has not done with what it took for too long; nothing has changed. */
bool journal_grow(struct journal *journal, size_t capacity_bytes) __attribute__((warn_unused_result));

/* Three quarters of the ring are waiting for a holding reader: commands that write should wait before they begin. */
bool journal_is_crowded(const struct journal *journal);
/* While `late`, it counts as crowded whatever it holds: what its reader has taken is not safe yet, and has been so for
 * too long. Any thread. */
void journal_set_late(struct journal *journal, bool late);

/* A writer that finds no room calls `drain`, which may read and advance, before it waits: for readers that have no
 * thread of their own. It holds locks of shards meanwhile. While nobody appends; NULL: nothing is called. */
void journal_set_drain(struct journal *journal, void (*drain)(void *ctx), void *ctx);

/* ---- readers ---- */

/* Begins to read at position `from`. NULL: that is no longer (or not yet) in the ring, there are too many readers
 * (LIMIT_JOURNAL_READERS), or no memory. Any thread. */
struct journal_reader *journal_attach(struct journal *journal, uint64_t from, bool holds);
/* NULL is allowed. */
void journal_detach(struct journal_reader *reader);

uint64_t journal_reader_position(const struct journal_reader *reader);
/* What is there to be read: at most two spans, of the ring itself, which stay as they are until journal_advance() of a
 * holding reader. Returns their number. `boundary` (may be NULL) as in journal_committed(). Holding readers only. */
unsigned journal_peek(struct journal_reader *reader, struct span spans[2], bool *boundary);
/* Has done with so many bytes. */
void journal_advance(struct journal_reader *reader, size_t bytes);
/* Copies what is there, at most `room` bytes, and advances. False: the reader was left behind, and can only detach. */
bool journal_read(struct journal_reader *reader, void *buffer, size_t room, size_t *length)
    __attribute__((warn_unused_result));
/* Sleeps until there is something to read, or journal_wake(), or `timeout_ns` have passed. As appending wakes nobody,
 * a reader sleeps to its timeout unless a writer finds the ring full or somebody wakes it. True: there is something. */
bool journal_wait(struct journal_reader *reader, uint64_t timeout_ns);
/* Wakes a reader that waits; one that does not will not sleep the next time. Any thread; cheap when it is
 * awake, but no load only: once a batch, not once an effect. */
void journal_wake(struct journal_reader *reader);

/* ---- pins ---- */

/* A reader that neither makes the journal active nor holds anything, but while it pins: for those who send bytes from
 * the ring itself. NULL: no memory, or too many readers. journal_detach() frees it. */
struct journal_reader *journal_make_pin(struct journal *journal);
/* Holds what is in the ring from `from` on, until journal_unpin(). False: that is no longer there, and nothing is held.
 * Between the two the thread may not append, and should do no more than to copy. */
bool journal_pin(struct journal_reader *pin, uint64_t from) __attribute__((warn_unused_result));
void journal_unpin(struct journal_reader *pin);
/* The bytes from `from` to `to`, which are pinned, and committed. Returns the number of spans. */
unsigned journal_pinned(const struct journal_reader *pin, uint64_t from, uint64_t to, struct span spans[2]);

#endif
