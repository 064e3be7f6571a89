/* Rows of bytes that grow, or go piece by piece: see state.h. */

#include "record/state.h"

#include <stdlib.h>

enum { CAPACITY_AT_FIRST = 128, SLICE = 4096 };

/* ---- writing ---- */

static bool make_room(struct state_writer *out, size_t length) {
    if (length <= out->capacity - out->length) return true;
    size_t capacity = out->capacity ? out->capacity : CAPACITY_AT_FIRST;
    while (capacity - out->length < length) capacity *= 2;
    char *bytes = realloc(out->bytes, capacity);
    if (!bytes) return false;
    out->bytes = bytes;
    out->capacity = capacity;
    return true;
}

static bool gather(struct state_writer *out, const void *bytes, size_t length) {
    if (!make_room(out, length)) return false;
    memcpy(out->bytes + out->length, bytes, length);
    out->length += length;
    return true;
}

static bool hand_over(struct state_writer *out) {
    bool taken = out->piece(out->ctx, out->bytes, out->length);
    out->length = 0;
    return taken;
}

void state_write(struct state_writer *out, const void *bytes, size_t length) {
    const char *from = bytes;
    while (length && !out->failed) {
        size_t room = out->piece ? STATE_PIECE_BYTES - out->length : length, part = length < room ? length : room;
        if (part == 0) {
            out->failed = !hand_over(out);
            continue;
        }
        out->failed = !gather(out, from, part);
        from += part;
        length -= part;
    }
}

void state_write_text(struct state_writer *out, struct span text) {
    state_write_u32(out, (uint32_t)text.length);
    state_write(out, text.data, text.length);
}

void state_writer_free(struct state_writer *out) {
    free(out->bytes);
    *out = (struct state_writer){0};
}

/* ---- reading ---- */

/* Whether there is more to read, in this piece or in the next. */
static bool has_more(struct state_reader *in) {
    while (in->rest.length == 0)
        if (in->failed || !in->piece || !in->piece(in->ctx, &in->rest)) return false;
    return true;
}

void state_read(struct state_reader *in, void *to, size_t length) {
    char *at = to;
    while (length && has_more(in)) {
        size_t part = length < in->rest.length ? length : in->rest.length;
        memcpy(at, in->rest.data, part);
        in->rest = span_of(in->rest.data + part, in->rest.length - part);
        at += part;
        length -= part;
    }
    if (length == 0) return;
    in->failed = true;
    memset(at, 0, length);
}

bool state_read_text(struct state_reader *in, void *text, uint32_t length) {
    for (uint32_t at = 0; at < length && !in->failed; at += SLICE)
        state_read(in, (char *)text + at, length - at < SLICE ? length - at : SLICE);
    return !in->failed;
}

bool state_read_all(struct state_reader *in) {
    return !in->failed && !has_more(in);
}
