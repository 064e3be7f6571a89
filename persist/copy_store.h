#ifndef TERRACE_PERSIST_COPY_STORE_H
#define TERRACE_PERSIST_COPY_STORE_H

/* The bytes of a full copy on their way from the one who composes it to those who are sent it, each at its own pace:
 *
 *     forgotten           sent to one      sent to another      written
 *   ------|--------------------|------------------|----------------|
 *         |  chunks, each of them in memory or in a file, as there was room when it was begun
 *
 * As long as all keep up no disk is touched. What a slow one leaves behind goes to files without a name, which are
 * never synced; nobody waits for anybody.
 *
 * The memory is the kernel's (memfd), so that it can be given to sockets as it is: it does not count for the process,
 * and therefore has a bound of its own. A socket holds the pages themselves until the peer has read them, long after
 * they were "sent"; so what is forgotten is given back by closing a whole file, never by punching a hole into one: a
 * hole in a part of a huge page is made by zeroing that part, in whatever a socket still holds of it. A chunk in memory
 * therefore is a file by itself, of the size of a huge page. On a disk the first COPY_STORE_FILE bytes share one, and
 * each further file takes twice as much as the one before, so that there are few.
 *
 * Threads: one writes; any number send; the rest is said at each function. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { COPY_STORE_CHUNK = 2 << 20, COPY_STORE_FILE = 64 << 20 };

struct copy_store;

/* At most `memory_bytes` are in memory; files are made in `directory` when they are needed. NULL: no memory, errno
 * is set. */
struct copy_store *copy_store_create(uint64_t memory_bytes, const char *directory);
/* NULL is allowed. */
void copy_store_destroy(struct copy_store *store);

/* Behind what was written. False: errno says why, and the store is of no use any more. */
bool copy_store_write(struct copy_store *store, const void *bytes, size_t length) __attribute__((warn_unused_result));
/* As sendfile(2): of the bytes from `at` on, which are there up to `to` and were not forgotten. Fewer may be sent. */
ssize_t copy_store_send(struct copy_store *store, int socket, uint64_t at, uint64_t to);
/* Nobody will be sent what lies before `upto` any more. Any thread; what is smaller than before changes nothing. */
void copy_store_forget(struct copy_store *store, uint64_t upto);

struct copy_store_figures {
    uint64_t memory_bytes; /* in memory at present, in whole chunks */
    uint64_t file_bytes;   /* of chunks that went to files, so far */
    unsigned files;        /* open at present, those in memory not among them */
};
struct copy_store_figures copy_store_figures(struct copy_store *store);

#endif
