#ifndef TERRACE_PERSIST_JOURNAL_SPOOL_H
#define TERRACE_PERSIST_JOURNAL_SPOOL_H

/* What somebody will need of the journal for longer than its ring can hold: kept in a file without a name.
 *
 *   from               copied                committed
 *     |---- in the file ----|---- in the ring ----|
 *
 * While the spool runs it reads the journal as one that holds. Only when half of the ring waits for it are bytes copied
 * to the file, so a reader who is not far behind costs no write; writers wait for the spool only where the file system
 * is slower than they are. What nobody needs any more is given back to the file system, before it is ever written to
 * the disk if that comes soon enough.
 *
 * Threads: one of its own while it runs. All functions may be called by any thread; begin, keep and stop by one at a
 * time. Nothing here waits for a lock of the keyspace. */

#include "persist/journal.h"

#include <sys/types.h>

struct journal_spool;

/* Of a journal that outlives it. NULL: no memory. */
struct journal_spool *journal_spool_create(struct journal *journal);
void journal_spool_destroy(struct journal_spool *spool);

/* Keeps everything from position `from` on. The file is made in `directory` when it is first needed. True also if it
 * runs, and does so already. False: that is not in the ring any more, or there is no thread for it. */
bool journal_spool_begin(struct journal_spool *spool, uint64_t from, const char *directory)
    __attribute__((warn_unused_result));
/* Nothing before `least` is needed any more. Once that is within what the ring has, and `stays` is false, it stops. */
void journal_spool_keep(struct journal_spool *spool, uint64_t least, bool stays);
void journal_spool_stop(struct journal_spool *spool);

/* Bytes of the file from `position` on, at most `room`. Zero: they are not in the file; behind what has been copied
 * they are in the ring, and held while the spool runs: until they have come into the file, so whoever finds them gone
 * from the ring looks here once more. -1: the file cannot be read. */
ssize_t journal_spool_read(struct journal_spool *spool, uint64_t position, void *buffer, size_t room);

struct journal_spool_figures {
    bool running;
    uint64_t from, copied;  /* positions */
    uint64_t written_bytes; /* to files, since it was created */
};
struct journal_spool_figures journal_spool_figures(struct journal_spool *spool);

#endif
