#ifndef TERRACE_PERSIST_RDB_INPUT_H
#define TERRACE_PERSIST_RDB_INPUT_H

/* Reading the elements of RDB (rdb_layout.h): numbers, lengths, strings, from memory or from anything that gives bytes
 * one after the other (a file, a socket).
 *
 *   struct rdb_input input;
 *   rdb_input_of_memory(&input, bytes, 0);
 *   uint64_t count = rdb_get_length(&input);
 *   if (!rdb_get_text(&input, &text)) return input.status;
 *
 * Nothing that is read is trusted. The first thing wrong is remembered (status, reason, offset), and from then on every
 * function answers zero, false or an empty span at once; so whoever reads several things looks once, at the end. A
 * length is compared with what the input can still hold before anything is allocated for it: where the source's size
 * is not known, memory grows only as bytes arrive.
 *
 * Threads: an input belongs to one thread at a time. */

#include "base/span.h"

#include <stddef.h>
#include <stdint.h>

enum rdb_status {
    RDB_DONE,
    RDB_ENDS_EARLY,  /* the source ended in the middle */
    RDB_CORRUPT,     /* what is there cannot be so */
    RDB_UNSUPPORTED, /* a version or type that is not known here */
    RDB_DUPLICATE,   /* of a key */
    RDB_IO,          /* the source could not be read */
    RDB_NO_MEMORY,
    RDB_CANCELLED,
};

/* Returns how many bytes were put to `buffer`, at least 1; 0: the end; -1: an error (errno). */
typedef long rdb_read(void *ctx, void *buffer, size_t room);

struct rdb_input {
    const uint8_t *at, *end; /* at hand and not yet taken */
    enum rdb_status status;
    const char *reason;    /* a literal: what is wrong; NULL: nothing */
    uint64_t failed_at;    /* where in the source that was found out */
    uint64_t end_offset;   /* where in the source `end` is */
    uint64_t source_bytes; /* where the source ends; UINT64_MAX: not known */
    const uint8_t *memory; /* an input over memory: where it begins; NULL: there is a reader */
    uint8_t *buffer;       /* owned; of a reader */
    rdb_read *read;
    void *ctx;
    bool sums;             /* the CRC of all that is taken is kept */
    const uint8_t *summed; /* up to here */
    uint64_t checksum;
};

/* A string that was read. It is where it was in an input over memory, and good as long as that; otherwise it is in
 * `own`, which grows and is used again. Zeroed at first, freed by rdb_text_free(). */
struct rdb_text {
    struct span span;
    char *own;
    size_t capacity;
};
void rdb_text_free(struct rdb_text *text);

/* `offset`: where the bytes are in the source, for messages. They outlive the input. */
void rdb_input_of_memory(struct rdb_input *input, struct span bytes, uint64_t offset);
/* `source_bytes`: how many there are; UINT64_MAX: not known. `sums`: a CRC is kept. False: no memory. */
bool rdb_input_of_reader(struct rdb_input *input, rdb_read *read, void *ctx, uint64_t source_bytes, bool sums)
    __attribute__((warn_unused_result));
void rdb_input_free(struct rdb_input *input);

/* Where the next byte is in the source. */
static inline uint64_t rdb_input_offset(const struct rdb_input *input) {
    return input->end_offset - (uint64_t)(input->end - input->at);
}
/* How many bytes there can still be; UINT64_MAX: not known. */
static inline uint64_t rdb_input_left(const struct rdb_input *input) {
    return input->source_bytes == UINT64_MAX ? UINT64_MAX : input->source_bytes - rdb_input_offset(input);
}
/* The CRC of all bytes taken so far. Precondition: sums. */
uint64_t rdb_input_checksum(struct rdb_input *input);

/* Remembers what is wrong, unless something was before. Returns the status. */
enum rdb_status rdb_input_fail(struct rdb_input *input, enum rdb_status status, const char *reason);
static inline bool rdb_input_failed(const struct rdb_input *input) {
    return __builtin_expect(input->status != RDB_DONE, 0);
}

/* Sees to it that `count` bytes, at most RDB_INPUT_BUFFER, are at hand. False: there are not so many; that alone is no
 * failure. */
enum { RDB_INPUT_BUFFER = 1 << 18 };
bool rdb_input_have(struct rdb_input *input, size_t count);

/* ---- elements ---- */

uint8_t rdb_get_byte(struct rdb_input *input);
uint32_t rdb_get_u32(struct rdb_input *input); /* little-endian */
uint64_t rdb_get_u64(struct rdb_input *input);
double rdb_get_double(struct rdb_input *input);      /* 8 bytes of IEEE */
double rdb_get_text_double(struct rdb_input *input); /* the old form: a length, or 253 to 255, and digits */

/* A length. Where only a special string encoding could stand, the input is corrupt. */
uint64_t rdb_get_length(struct rdb_input *input);
/* The length of something whose parts take at least `least_bytes` each: one that the input cannot hold is corrupt. */
uint64_t rdb_get_count(struct rdb_input *input, unsigned least_bytes);

/* A string of any encoding; an integer is spelled out. */
bool rdb_get_text(struct rdb_input *input, struct rdb_text *text) __attribute__((warn_unused_result));
/* A string, left as an integer if it is encoded as one. */
bool rdb_get_string(struct rdb_input *input, struct rdb_text *text, bool *is_integer, int64_t *integer)
    __attribute__((warn_unused_result));
/* `count` bytes as they are. */
bool rdb_get_bytes(struct rdb_input *input, size_t count, struct rdb_text *text) __attribute__((warn_unused_result));

/* Passes by. */
bool rdb_skip_bytes(struct rdb_input *input, uint64_t count);
bool rdb_skip_string(struct rdb_input *input);

#endif
