#ifndef TERRACE_RECORD_PAGED_BYTES_H
#define TERRACE_RECORD_PAGED_BYTES_H

/* A long row of bytes made of pages: a string or a bitmap of up to 512 MB that is changed in places.
 *
 *   offset / PAGED_BYTES_PAGE --> page (page_table.h, part COLLECTION_HASH)
 *
 * Every page has PAGED_BYTES_PAGE bytes of payload, which fill a size class exactly. A page that does not exist is
 * zeros, so a row costs what was written to it: its touched pages, and their entries.
 *
 * Any range may be named: what is behind the end reads as zeros. Results are enum page_status: PAGE_DONE; PAGE_MISSING
 * (see page_table.h: touch the other ranges the command will need, and return); PAGE_NO_MEMORY. But for PAGE_DONE
 * nothing has changed, however many pages a change spans.
 *
 * Threads: as page_table.h. */

#include "base/limits.h"
#include "record/collection.h"
#include "record/page_status.h"

#define PAGED_BYTES_PAGE 16368
#define PAGED_BYTES_MAX  LIMIT_VALUE_BYTES

/* The root: keyspace_new_collection() makes an empty row of it, whose length is 0. */
struct paged_bytes {
    struct collection collection;
    uint64_t length;
};
/* Of strings: OBJECT ENCODING says "raw". Its elements are the row's bits. */
extern const struct collection_kind paged_bytes_kind;

static inline struct paged_bytes *paged_bytes_of(struct collection *collection) {
    return (struct paged_bytes *)collection;
}

/* ---- reading ---- */

/* Has every page of the range requested; true: all are at hand. */
bool paged_bytes_touch(struct paged_bytes *bytes, struct page_access *access, uint64_t offset, uint64_t length);

/* The same for who can read the pages on the spot when he comes to them (page_request()). */
bool paged_bytes_request(struct paged_bytes *bytes, struct page_access *access, uint64_t offset, uint64_t length);

/* Copies the range. PAGE_DONE or PAGE_MISSING: what was missing is zeros then. */
enum page_status paged_bytes_read(struct paged_bytes *bytes, struct page_access *access, uint64_t offset, void *to,
                                  size_t length) __attribute__((warn_unused_result));

/* The range piece by piece, in order:
 *   paged_bytes_walk_range(&walk, bytes, &access, offset, length);
 *   while (paged_bytes_walk_next(&walk, &piece)) ...
 * Only what is before the end of the row. The row may not change meanwhile. */
struct paged_bytes_walk {
    struct paged_bytes *bytes;
    struct page_access *access;
    uint64_t at, end;
};
struct paged_bytes_piece {
    uint64_t offset, length;
    const char *data; /* of one page; NULL: all zeros, however many pages, or a missing page */
};
void paged_bytes_walk_range(struct paged_bytes_walk *walk, struct paged_bytes *bytes, struct page_access *access,
                            uint64_t offset, uint64_t length);
bool paged_bytes_walk_next(struct paged_bytes_walk *walk, struct paged_bytes_piece *piece);

/* ---- changing ---- */

/* Puts `data`, which does not point into the row, at `offset`; the row grows to hold it. Zeros make no pages.
 * Precondition: the end is at most PAGED_BYTES_MAX. */
enum page_status paged_bytes_write(struct paged_bytes *bytes, struct page_access *access, uint64_t offset,
                                   struct span data) __attribute__((warn_unused_result));

/* The byte at `offset`, to be changed; NULL: write it instead, since its page is not in memory, or not there, or cannot
 * be had. Holds until anything else is done to the row. */
uint8_t *paged_bytes_edit_byte(struct paged_bytes *bytes, struct page_access *access, uint64_t offset);
/* Makes sure that writing anywhere in the range will succeed, for commands with several writes. The pages are made or
 * come into memory; what the row holds, and its length, stay. */
enum page_status paged_bytes_prepare(struct paged_bytes *bytes, struct page_access *access, uint64_t offset,
                                     uint64_t length) __attribute__((warn_unused_result));

/* Added bytes are zero. */
enum page_status paged_bytes_set_length(struct paged_bytes *bytes, struct page_access *access, uint64_t length)
    __attribute__((warn_unused_result));

/* Pages that become all zeros are given up without being read; the length stays. */
enum page_status paged_bytes_zero(struct paged_bytes *bytes, struct page_access *access, uint64_t offset,
                                  uint64_t length) __attribute__((warn_unused_result));

/* Checks everything, reading every page; what is missing is passed over. */
bool paged_bytes_validate(struct paged_bytes *bytes, struct page_access *access);

#endif
