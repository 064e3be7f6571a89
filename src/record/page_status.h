#ifndef TERRACE_RECORD_PAGE_STATUS_H
#define TERRACE_RECORD_PAGE_STATUS_H

/* How an operation on a paged structure (paged_hash.h, paged_tree.h) ended. Whatever is not PAGE_DONE has left the
 * structure as it was. */
enum page_status {
    PAGE_DONE,
    PAGE_ABSENT,    /* there is no such item, key or position */
    PAGE_EXISTS,    /* there is one already, and the operation was to add */
    PAGE_MISSING,   /* a page was not at hand: the command is going to be run again */
    PAGE_NO_MEMORY, /* or a page that cannot be read at all */
};

#endif
