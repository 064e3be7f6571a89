#ifndef TERRACE_PERSIST_RDB_OUTPUT_H
#define TERRACE_PERSIST_RDB_OUTPUT_H

/* Where RDB bytes are composed: a buffer that grows, or that is emptied into a drain when it is full.
 *
 *   struct rdb_output output;
 *   rdb_output_init(&output, 0);
 *   rdb_put_byte(&output, RDB_SET); rdb_put_length(&output, 2); rdb_put_string(&output, member, compress); ...
 *   if (output.failed) ...
 *   rdb_output_free(&output);
 *
 * Failures are kept: once something failed, whatever is put later is dropped, and the caller looks once at the end.
 * One thread at a time. */

#include "base/span.h"

#include <stdint.h>

struct lzf_table;

struct rdb_output {
    uint8_t *bytes; /* owned; NULL: nothing was put yet */
    size_t length, capacity;
    size_t first_capacity;
    /* Takes bytes, in order; false: they could not be taken, and the output has failed. While there is one the buffer
     * does not grow: it is emptied when it is full, and what is longer goes by without being copied. NULL: it grows. */
    bool (*drain)(void *ctx, const void *bytes, size_t length);
    void *ctx;
    struct lzf_table *table; /* owned, made when it is first needed */
    uint32_t incompressible; /* strings in a row that did not become shorter */
    uint32_t untried;        /* and of these, how many were not even tried since the last that was */
    bool field_ttl;          /* set by rdb_save.h: there is something that only RDB_VERSION_FIELD_TTL has */
    bool failed;             /* no memory, or the drain refused */
};

/* The first buffer will have `capacity` bytes; 0: a little. */
void rdb_output_init(struct rdb_output *output, size_t capacity);
/* It may be initialised again. */
void rdb_output_free(struct rdb_output *output);
/* The buffer as it is, with room for `spare` bytes behind what was put; it is the caller's from now on, to be freed.
 * NULL: it has failed. */
char *rdb_output_take(struct rdb_output *output, size_t spare, size_t *length, size_t *capacity);
/* Forgets what is in the buffer; one that has grown far beyond its first size is given back. */
void rdb_output_clear(struct rdb_output *output);

/* Room for `length` more bytes in one stretch, for the caller to write to and then to add to output->length; NULL:
 * failed. */
uint8_t *rdb_output_room(struct rdb_output *output, size_t length);

void rdb_put_bytes(struct rdb_output *output, const void *bytes, size_t length);
void rdb_put_byte(struct rdb_output *output, uint8_t byte);
void rdb_put_u64(struct rdb_output *output, uint64_t number); /* 8 bytes, little-endian */
void rdb_put_length(struct rdb_output *output, uint64_t length);
void rdb_put_double(struct rdb_output *output, double number); /* 8 bytes */

/* A string in the shortest form: as an integer where it spells one of 32 bits, compressed if asked for and if that
 * makes it shorter, else as it is. Of short ones only a part is tried while none becomes shorter. */
void rdb_put_string(struct rdb_output *output, struct span text, bool compress);
/* The same for what is known not to be the text of an integer. */
void rdb_put_blob(struct rdb_output *output, struct span bytes, bool compress);
/* A string that is the text of an integer. */
void rdb_put_integer(struct rdb_output *output, int64_t number);
/* Name and value of an aux field. */
void rdb_put_aux(struct rdb_output *output, const char *name, struct span value);

#endif
