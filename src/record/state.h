#ifndef TERRACE_RECORD_STATE_H
#define TERRACE_RECORD_STATE_H

/* What a big collection knows besides its pages, as a row of bytes, so that it can be made again over the same pages:
 * integers of fixed width, little-endian, one behind the other, in the order in which they are written and read.
 *
 * The row may be of any length, so it comes in pieces: a writer hands over what it has gathered whenever that is a
 * piece, a reader asks for the next one when it has used up what it has. A value may begin in one piece and end in the
 * next.
 *
 *   writing   a failure stays with the writer: a type writes all it has and asks once, at the end
 *   reading   what is not there reads as 0, and the reader remembers; a type looks at each value before it uses it,
 *             since the bytes come from a file, and asks once, at the end.
 *
 * Threads: one at a time. */

#include "base/span.h"

#include <stdint.h>

enum { STATE_PIECE_BYTES = 1 << 20 };

/* Zeroed at first. What it gathers is freed by state_writer_free(). */
struct state_writer {
    char *bytes;
    size_t length, capacity;
    bool failed; /* there was no memory, or a piece was refused */
    /* Takes a piece of STATE_PIECE_BYTES at most; the last one is left in `bytes`. NULL: all is gathered. */
    bool (*piece)(void *ctx, const void *bytes, size_t length);
    void *ctx;
};

void state_write(struct state_writer *out, const void *bytes, size_t length);
/* A length of 4 bytes, then the bytes. */
void state_write_text(struct state_writer *out, struct span text);
void state_writer_free(struct state_writer *out);

static inline void state_write_u8(struct state_writer *out, uint8_t value) {
    state_write(out, &value, sizeof(value));
}
static inline void state_write_u16(struct state_writer *out, uint16_t value) {
    state_write(out, &value, sizeof(value));
}
static inline void state_write_u32(struct state_writer *out, uint32_t value) {
    state_write(out, &value, sizeof(value));
}
static inline void state_write_u64(struct state_writer *out, uint64_t value) {
    state_write(out, &value, sizeof(value));
}
static inline void state_write_i64(struct state_writer *out, int64_t value) {
    state_write(out, &value, sizeof(value));
}

struct state_reader {
    struct span rest; /* of this piece; borrowed */
    bool failed;      /* more was asked for than there was */
    /* The next piece, good until the one after it is asked for; false: there is none. NULL: this is the only one. */
    bool (*piece)(void *ctx, struct span *piece);
    void *ctx;
};

/* Copies `length` bytes to `to`; zeros and failed: they are not there. */
void state_read(struct state_reader *in, void *to, size_t length);

static inline uint8_t state_read_u8(struct state_reader *in) {
    uint8_t value;
    state_read(in, &value, sizeof(value));
    return value;
}
static inline uint16_t state_read_u16(struct state_reader *in) {
    uint16_t value;
    state_read(in, &value, sizeof(value));
    return value;
}
static inline uint32_t state_read_u32(struct state_reader *in) {
    uint32_t value;
    state_read(in, &value, sizeof(value));
    return value;
}
static inline uint64_t state_read_u64(struct state_reader *in) {
    uint64_t value;
    state_read(in, &value, sizeof(value));
    return value;
}
static inline int64_t state_read_i64(struct state_reader *in) {
    int64_t value;
    state_read(in, &value, sizeof(value));
    return value;
}

/* The bytes of a text, after its length, for which there is room. A length that cannot be costs no more than what there
 * is to read. False: they are not there; `text` is undefined. */
bool state_read_text(struct state_reader *in, void *text, uint32_t length) __attribute__((warn_unused_result));

/* Whether all that was asked for was there, and nothing is left: asked at the end. */
bool state_read_all(struct state_reader *in);

#endif
