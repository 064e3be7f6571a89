#ifndef TERRACE_PERSIST_COPY_STORE_H
#define TERRACE_PERSIST_COPY_STORE_H

/* The bytes of a full copy on their way from the one who composes it to those who are sent it, each at its own pace:
 *
 *     forgotten           sent to one      sent to another      written
 *   ------|--------------------|------------------|----------------|
 *         |  chunks, each of them in memory or in a file, as there was room when it was begun
 *
 * As long as all keep up it is a stretch of memory that is used again and again, and no disk is touched. What a slow
 * one leaves behind goes to a file without a name, which is never synced; nobody waits for anybody.
 *
 * The memory is the kernel's (memfd), so that it can be given to sockets as it is: it does not count for the process,
 * and therefore has a bound of its own.
 *
 * Threads: one writes; any number send; the rest is said at each function. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { COPY_STORE_CHUNK = 1 << 20 };

struct copy_store;

/* At most `memory_bytes` are in memory; the file is made in `directory` when it is first needed. NULL: no memory, errno
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
    uint64_t file_bytes;   /* of chunks that went to the file, so far */
};
struct copy_store_figures copy_store_figures(struct copy_store *store);

#endif
