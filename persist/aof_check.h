#ifndef TERRACE_PERSIST_AOF_CHECK_H
#define TERRACE_PERSIST_AOF_CHECK_H

/* The chained checksums of an increment of the append-only file (aof_layout.h): composing them while it is written, and
 * following them while it is read.
 *
 *   writing   aof_check_begin() and its header, synced before the manifest names the file; then for each write()
 *             aof_check_open(), aof_check_feed() with the commands, aof_check_close()
 *   reading   aof_check_feed() with everything but closings, aof_check_verify() with each closing
 *
 * The state is plain memory: a copy of it is a saved state, which is how a writer takes back a batch that was not
 * written whole. It may be written on where reading ended. No allocation, no thread of its own. */

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

/* Room for the longest line that is composed here, with its terminator. */
#define AOF_CHECK_LINE_MAX 128

struct aof_check {
    uint64_t sequence; /* of the last closing; 0: the header */
    uint64_t check;    /* its checksum */
    uint64_t bytes;    /* fed since */
    uint64_t digest;   /* of them: CRC64 */
};

/* ---- writing; `line` has room for AOF_CHECK_LINE_MAX bytes; they return its length ---- */

/* A new file. `seed` is any number that is unlikely to come again, so that no other file's bytes pass for this one's.
 */
size_t aof_check_begin(struct aof_check *check, uint64_t seed, char *line);
/* A batch begins. The line is the first of its bytes, and has been fed already. */
size_t aof_check_open(struct aof_check *check, char *line);
void aof_check_feed(struct aof_check *check, const void *bytes, size_t length);
/* The batch ends, between commands and not within MULTI. `synced`: the file's first so many bytes are known to be on
 * the medium, at least its header; 0: nobody knows, because nobody syncs. (Damage in a file of which that is not known
 * is never taken for the torn end of a power failure.) A closing right behind another is allowed: after the last sync
 * of a file that is closed, it tells that all of it is on the medium. */
size_t aof_check_close(struct aof_check *check, uint64_t synced, char *line);

/* ---- reading ---- */

enum aof_line {
    AOF_LINE_OTHER, /* not ours: a timestamp or a comment; to be fed */
    AOF_LINE_HEADER,
    AOF_LINE_OPENING, /* to be fed */
    AOF_LINE_CLOSING,
    AOF_LINE_BROKEN, /* ours, but no such line is ever written */
};

/* A line of ours taken apart. */
struct aof_annotation {
    uint64_t sequence, bytes, synced; /* of a header `bytes` is the seed */
    uint64_t check;
};

/* What a line is; `line` begins with '#' and ends with LF. `annotation` is set for headers and closings. */
enum aof_line aof_check_classify(struct span line, struct aof_annotation *annotation);

/* Begins to follow a file whose first line is this header. False: its checksum is not right. */
bool aof_check_follow(struct aof_check *check, const struct aof_annotation *header) __attribute__((warn_unused_result));
/* Whether this closing vouches for what was fed since the last one; if so it is the new last one. */
bool aof_check_verify(struct aof_check *check, const struct aof_annotation *closing)
    __attribute__((warn_unused_result));
/* Begins to follow behind a closing that is taken for granted: to find out whether what lies behind damage is whole. */
void aof_check_resume(struct aof_check *check, const struct aof_annotation *closing);

/* ---- for the manifest ---- */

uint64_t aof_check_hash(struct span bytes);
/* AOF_CHECK_DIGITS hexadecimal digits of lower case, and nothing else. */
bool aof_check_parse_digits(struct span text, uint64_t *check) __attribute__((warn_unused_result));

#endif
