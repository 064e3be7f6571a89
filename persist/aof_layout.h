#ifndef TERRACE_PERSIST_AOF_LAYOUT_H
#define TERRACE_PERSIST_AOF_LAYOUT_H

/* The append-only file: what lies in the directory `appenddirname`. The layout is that of Redis 7, which reads it and
 * whose own is read here. NAME stands for the setting `appendfilename`.
 *
 *   NAME.manifest               which files there are, and in which order they are loaded
 *   NAME.<n>.base.rdb           the state at one moment, in RDB
 *   NAME.<n>.base.aof           the same as commands (aof-use-rdb-preamble no); of ours, in the form of an increment
 *   NAME.<n>.incr.aof           commands that followed
 *   temp-NAME.manifest          a manifest being written; nobody reads it
 *
 * Manifest. A line for each file, each ended by LF: the base, then what a rewrite has superseded and is still to be
 * removed (type h), then the increments in the order of their sequence numbers. A file name that is not plain is
 * written in quotes with backslash escapes. Lines that begin with '#' are comments, and the last line is one of ours:
 * the XXH3 (64 bits) of all bytes before it. No LF follows it. A manifest without it was written by Redis.
 *
 *   file appendonly.aof.2.base.rdb seq 2 type b
 *   file appendonly.aof.1.incr.aof seq 1 type h
 *   file appendonly.aof.2.incr.aof seq 2 type i
 *   #TERRACE:<16 hexadecimal digits>
 *
 * Increments. Commands as RESP arrays of bulk strings: "*<n>CRLF" ("$<length>CRLF" <bytes> CRLF) x n. Between commands
 * there may be annotations, lines that begin with '#', which Redis and redis-check-aof skip. Numbers are decimal
 * without leading zeros, hexadecimal digits are lower case.
 *
 *   #TS:<unix seconds>CRLF                                              the time of what follows; Redis's
 *   #REPL:<id>:<position>CRLF                                           of which stream what follows is: aof_backlog.h
 *   #TERRACE:0:<seed>:0:<check>CRLF                                     header: the first line of a file of ours
 *   #TERRACE+CRLF                                                       opening: a batch of ours follows
 *   #TERRACE:<sequence>:<bytes>:<synced>:<check>CRLF                    closing: the batch is whole
 *
 * A batch is what one write() brings to the file, from its opening to its closing:
 *
 *   offset 0          start(1)                    start(2)                      start(3)
 *   | header          | opening  commands closing | opening  commands  closing  | ...
 *                       <------ bytes ----->        <------- bytes ----->
 *
 * `sequence` counts closings from 1; `bytes` is how far back the bytes go that it speaks for: all since the line of the
 * closing (or header) before, which are usually one batch; `synced` is an offset up to which the file had been synced
 * to the medium when the batch was written, 0: not known. `check`, 16 hexadecimal digits, is
 *
 *     check(n) = XXH3_64( struct aof_check_seal { CRC64(bytes), check(n-1), sequence, bytes, synced } )
 *     check(0) = XXH3_64( struct aof_check_seal { 0, seed, 0, 0, 0 } )
 *
 * (CRC64 as in RDB, beginning with 0), so a closing that is right vouches for everything from the beginning of the file
 * to itself. The opening tells a batch of ours that was torn, and therefore cannot be trusted, from commands that Redis
 * has appended to our file, which have nothing but their syntax. Batches end between commands, and never within MULTI
 * ... EXEC. */

#include <stdint.h>

/* The longest line of a manifest, with its LF: a name of 255 bytes, each of them escaped, has room. Redis stops at
 * 1024. */
#define AOF_MANIFEST_LINE_MAX   2048
#define AOF_MANIFEST_LINE_REDIS 1024
/* A manifest holds a base, some increments and what is to be removed: this is far more than any server leaves. */
#define AOF_MANIFEST_FILES_MAX 65536
#define AOF_MANIFEST_BYTES_MAX (16 * 1024 * 1024)
/* Redis reads annotations into a buffer of this size. */
#define AOF_ANNOTATION_MAX 1024

#define AOF_TAG          "#TERRACE:"
#define AOF_OPENING      "#TERRACE+\r\n"
#define AOF_TIME_TAG     "#TS:"
#define AOF_TEMPORARY    "temp-" /* in front of a name: being written */
#define AOF_BASE_RDB     ".base.rdb"
#define AOF_BASE_AOF     ".base.aof"
#define AOF_INCREMENT    ".incr.aof"
#define AOF_MANIFEST     ".manifest"
#define AOF_RDB_MAGIC    "REDIS" /* a file that begins so is RDB, or begins with RDB and goes on as commands */
#define AOF_CHECK_DIGITS 16

/* What the check of a closing is the hash of. */
struct aof_check_seal {
    uint64_t digest;   /* CRC64 of the bytes */
    uint64_t previous; /* check(n-1) */
    uint64_t sequence, bytes, synced;
};
_Static_assert(sizeof(struct aof_check_seal) == 40, "hashed as it lies in memory");

#endif
