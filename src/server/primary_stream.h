#ifndef TERRACE_SERVER_PRIMARY_STREAM_H
#define TERRACE_SERVER_PRIMARY_STREAM_H

/* Cutting the stream of a primary into what may be run: commands one by one, transactions only as a whole.
 *
 *   SET a 1 | MULTI | SET b 2 | EXEC | SET c
 *   given out   `--- given out once EXEC is there   not whole yet
 *
 * The stream is arrays of bulk strings, nothing else; nothing of it is trusted. Pure; zeroed is the beginning. */

#include "persist/aof_parse.h"

#include <stdbool.h>

struct primary_stream {
    bool in_transaction; /* MULTI has been given out, and all up to its EXEC is there */
    bool looks_ahead;    /* the next item is a MULTI whose EXEC has not been found yet */
    size_t ahead;        /* bytes behind its beginning that were looked through for it; of a MULTI that has just been
                          * given out: those up to behind its EXEC */
};

enum primary_stream_next {
    PRIMARY_STREAM_COMMAND,
    PRIMARY_STREAM_SHORT, /* to be called again with the same bytes and more */
    PRIMARY_STREAM_BAD,   /* this is no stream of commands: item->bad_at */
};

/* The next command, at the beginning of `bytes`: item->length is to be passed over then, MULTI and EXEC included. */
enum primary_stream_next primary_stream_next(struct primary_stream *stream, struct span bytes, struct aof_item *item);

#endif
