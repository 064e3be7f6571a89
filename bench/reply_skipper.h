/* Counts complete RESP2 and RESP3 replies in a byte stream without keeping them. */
#ifndef BENCH_REPLY_SKIPPER_H
#define BENCH_REPLY_SKIPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a line cut by the end of a read, this much is remembered: any length header, and a readable error text. */
#define REPLY_LINE_MAX 256

/* Zeroed memory is a fresh skipper. One per connection. */
struct reply_skipper {
    uint64_t payload_left;  /* bytes of a bulk still to come, its CRLF included */
    uint64_t elements_left; /* values still missing from the reply under way; 0 between replies */
    bool is_push;           /* the reply under way is an out-of-band push and is not counted */
    uint64_t errors;        /* replies that were errors */
    char first_error[REPLY_LINE_MAX];
    size_t line_length;
    char line[REPLY_LINE_MAX];
};

/* Consumes all of `data`; returns how many counted replies ended in it, or -1 when it is not RESP (the connection is
 * then of no further use). Pushes are skipped, attributes belong to the reply they precede. */
int64_t reply_skipper_feed(struct reply_skipper *skipper, const char *data, size_t length);

#endif
