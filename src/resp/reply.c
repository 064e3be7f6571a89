/* Composing replies. The picture of blocks and slices is in reply.h.
 *
 * The slice being written is the stretch [open, used) of the current block; it is sealed when a pinned value
 * or an aggregate of unknown size follows, when the block is full, and when it is to be sent. */

#include "resp/reply.h"

#include "base/number.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCK_BYTES = 64 * 1024, FIRST_BLOCK_BYTES = 4 * 1024, HEADER_MAX = 32, ERROR_TEXT_MAX = 1024 };
enum {
    GRANT_BYTES = 1 << 20,             /* asked for at once */
    HAND_OVER_BYTES = 4 * BLOCK_BYTES, /* unsent */
};

void reply_init(struct reply *reply, char *lent, size_t lent_capacity, reply_release *release, void *release_ctx) {
    /* All but the arrays inside, which are most of it. */
    memset(reply, 0, offsetof(struct reply, inline_slices));
    reply->release = release;
    reply->release_ctx = release_ctx;
    reply->block = reply->lent = lent;
    reply->capacity = reply->lent_capacity = lent_capacity;
    reply->slices = reply->inline_slices;
    reply->slice_capacity = REPLY_INLINE_SLICES;
    reply->blocks = reply->inline_blocks;
    reply->block_capacity = REPLY_INLINE_BLOCKS;
}

static void drop_slices(struct reply *reply, size_t from) {
    for (size_t i = from; i < reply->slice_count; i++)
        if (reply->slices[i].pinned)
            reply->release(reply->release_ctx, reply->slices[i].pinned, reply->slices[i].pin_tag);
    reply->slice_count = from;
}

void reply_clear(struct reply *reply) {
    /* Nothing but the lent block was used, as after nearly every turn. */
    if (reply->slice_count == 0 && reply->block_count == 0) {
        reply->used = reply->open = 0;
        return;
    }
    drop_slices(reply, reply->sent_slices);
    for (size_t i = 0; i < reply->block_count; i++) free(reply->blocks[i]);
    if (reply->slices != reply->inline_slices) free(reply->slices);
    if (reply->blocks != reply->inline_blocks) free(reply->blocks);
    bool resp3 = reply->resp3;
    reply_init(reply, reply->lent, reply->lent_capacity, reply->release, reply->release_ctx);
    reply->resp3 = resp3;
}

void reply_lend(struct reply *reply, char *lent, size_t lent_capacity) {
    assert(reply_bytes_pending(reply) == 0 && reply->block_count == 0);
    reply->block = reply->lent = lent;
    reply->capacity = reply->lent_capacity = lent_capacity;
    reply->used = reply->open = 0;
}

const char *reply_lent_bytes(const struct reply *reply, size_t *length) {
    *length = reply->used - reply->open;
    return reply->slice_count == 0 && reply->block && reply->block == reply->lent ? reply->block + reply->open : NULL;
}

static void *must(void *memory) {
    if (!memory) {
        fprintf(stderr, "terrace: out of memory while composing a reply\n");
        abort();
    }
    return memory;
}

/* Doubles an array that starts out inside the reply itself. */
static void *grow(void *array, const void *inside, size_t *capacity, size_t element) {
    size_t bytes = *capacity * element;
    void *grown = must(array == inside ? malloc(2 * bytes) : realloc(array, 2 * bytes));
    if (array == inside) memcpy(grown, inside, bytes);
    *capacity *= 2;
    return grown;
}

static void push_slice(struct reply *reply, struct reply_slice slice) {
    if (reply->slice_count == reply->slice_capacity)
        reply->slices = grow(reply->slices, reply->inline_slices, &reply->slice_capacity, sizeof(slice));
    slice.block = reply->blocks_dropped + (uint32_t)reply->block_count;
    reply->slices[reply->slice_count++] = slice;
    reply->sealed_bytes += slice.length;
}

static void seal(struct reply *reply) {
    if (reply->used > reply->open)
        push_slice(reply,
                   (struct reply_slice){.data = reply->block + reply->open, .length = reply->used - reply->open});
    reply->open = reply->used;
}

/* ---- bounded ---- */

/* What was granted before and is not taken is given up for what is asked for now: it is all promised at once. */
static bool make_sure_of(struct reply *reply, size_t bytes) {
    if (!reply->starved && bytes > reply->granted - reply->taken) {
        size_t step = bytes > GRANT_BYTES ? bytes : GRANT_BYTES;
        reply->starved = !reply->budget->ask(reply->budget_ctx, step);
        reply->granted = reply->taken + step;
    }
    return !reply->starved;
}

/* What was taken before is filled by the time that more is wanted. */
static void tell_taken(struct reply *reply) {
    if (reply->taken == reply->told) return;
    reply->budget->took(reply->budget_ctx, reply->taken - reply->told);
    reply->told = reply->taken;
}

static bool grant(struct reply *reply, size_t bytes) {
    if (__builtin_expect(!reply->budget, 1)) return true;
    tell_taken(reply);
    if (make_sure_of(reply, bytes)) reply->taken += bytes;
    return !reply->starved;
}

bool reply_has_room(struct reply *reply, size_t bytes) {
    size_t blocks = (bytes / BLOCK_BYTES + 1) * BLOCK_BYTES;
    if (!reply->budget || make_sure_of(reply, blocks + blocks / 64)) return true;
    reply->lost += bytes;
    return false;
}

bool reply_may_take(struct reply *reply, size_t bytes) {
    if (grant(reply, bytes)) return true;
    reply->lost += bytes;
    return false;
}

/* What is not kept is written to one block again and again, or is only counted if it is longer. A block counts as a
 * whole: its end, where the next value does not fit, will have to be granted as well. */
static bool go_round(struct reply *reply, size_t bytes) {
    if (reply->used) reply->lost += reply->capacity;
    reply->used = reply->open = 0;
    if (bytes <= BLOCK_BYTES) return true;
    reply->lost += bytes;
    return false;
}

/* The block that is written from now on: owned, and behind all that is sealed. */
static void begin_block(struct reply *reply, char *block, size_t used, size_t capacity) {
    if (reply->block_count == reply->block_capacity)
        reply->blocks = grow(reply->blocks, reply->inline_blocks, &reply->block_capacity, sizeof(void *));
    reply->blocks[reply->block_count++] = reply->block = block;
    reply->capacity = capacity;
    reply->used = used;
    reply->open = 0;
}

/* False: it is not kept, and need not be composed. */
static bool new_block(struct reply *reply, size_t bytes) {
    if (__builtin_expect(reply->scratch && reply->block == reply->scratch, 0)) return go_round(reply, bytes);
    seal(reply);
    /* What is composed without a lent block is mostly a few replies that could not be sent at once. */
    size_t usual = reply->lent || reply->block_count || reply->blocks_dropped ? BLOCK_BYTES : FIRST_BLOCK_BYTES;
    size_t capacity = bytes > usual ? bytes : usual;
    bool granted = grant(reply, capacity);
    if (__builtin_expect(!granted, 0)) capacity = BLOCK_BYTES;
    begin_block(reply, must(malloc(capacity)), 0, capacity);
    if (__builtin_expect(granted, 1)) return true;
    reply->scratch = reply->block;
    return go_round(reply, bytes);
}

/* Precondition: bytes <= BLOCK_BYTES. */
static inline char *reserve(struct reply *reply, size_t bytes) {
    if (__builtin_expect(reply->capacity - reply->used < bytes, 0)) (void)new_block(reply, bytes);
    return reply->block + reply->used;
}

/* ---- sending ---- */

size_t reply_vectors(struct reply *reply, struct iovec *vectors, size_t capacity) {
    seal(reply);
    size_t count = 0;
    for (size_t i = reply->sent_slices; i < reply->slice_count && count < capacity; i++)
        if (reply->slices[i].length)
            vectors[count++] = (struct iovec){(void *)(uintptr_t)reply->slices[i].data, reply->slices[i].length};
    return count;
}

/* Frees the blocks and forgets the slices that are behind the first unsent byte, so that a client which never quite
 * catches up does not make the reply grow for ever. */
static void drop_sent(struct reply *reply) {
    uint32_t needed = reply->sent_slices < reply->slice_count ? reply->slices[reply->sent_slices].block
                                                              : reply->blocks_dropped + (uint32_t)reply->block_count;
    size_t unneeded = needed > reply->blocks_dropped + 1 ? needed - reply->blocks_dropped - 1 : 0;
    if (unneeded) {
        for (size_t i = 0; i < unneeded; i++) free(reply->blocks[i]);
        reply->block_count -= unneeded;
        reply->blocks_dropped += (uint32_t)unneeded;
        memmove(reply->blocks, reply->blocks + unneeded, reply->block_count * sizeof(void *));
    }
    if (reply->sent_slices < REPLY_INLINE_SLICES || reply->sent_slices < reply->slice_count / 2) return;
    reply->slice_count -= reply->sent_slices;
    memmove(reply->slices, reply->slices + reply->sent_slices, reply->slice_count * sizeof(struct reply_slice));
    reply->sent_slices = 0;
}

void reply_consume(struct reply *reply, size_t bytes) {
    assert(bytes <= reply->sealed_bytes);
    reply->sealed_bytes -= bytes;
    while (reply->sent_slices < reply->slice_count) {
        struct reply_slice *slice = &reply->slices[reply->sent_slices];
        if (slice->length > bytes) {
            slice->data += bytes;
            slice->length -= bytes;
            drop_sent(reply);
            return;
        }
        bytes -= slice->length;
        if (slice->pinned) reply->release(reply->release_ctx, slice->pinned, slice->pin_tag);
        slice->pinned = NULL;
        slice->length = 0;
        reply->sent_slices++;
    }
    if (reply->used == reply->open)
        reply_clear(reply);
    else
        drop_sent(reply);
}

/* Whether so much of it lies in blocks of its own that they are handed over instead of copied. What is in few or nearly
 * empty ones is copied, or a slow reader's last bytes would keep a whole block each. */
static bool hands_over(const struct reply *from) {
    size_t bytes = 0;
    for (size_t i = from->sent_slices; i < from->slice_count; i++)
        if (!from->slices[i].pinned) bytes += from->slices[i].length;
    return from->block_count > 0 && bytes >= HAND_OVER_BYTES;
}

/* From now on `reply` goes on in the blocks of `from`. */
static void take_blocks(struct reply *reply, struct reply *from) {
    seal(reply);
    for (size_t i = 0; i < from->block_count; i++) {
        if (reply->block_count == reply->block_capacity)
            reply->blocks = grow(reply->blocks, reply->inline_blocks, &reply->block_capacity, sizeof(void *));
        reply->blocks[reply->block_count++] = from->blocks[i];
    }
    from->block_count = 0;
    reply->block = from->block;
    reply->capacity = from->capacity;
    reply->used = reply->open = from->used;
}

static bool is_lent(const struct reply *reply, const struct reply_slice *slice) {
    return reply->lent && slice->data >= reply->lent && slice->data < reply->lent + reply->lent_capacity;
}

void reply_append(struct reply *reply, struct reply *from) {
    seal(from);
    bool handing = hands_over(from), handed = false;
    uint32_t base = 0;
    for (size_t i = from->sent_slices; i < from->slice_count; i++) {
        struct reply_slice *slice = &from->slices[i];
        if (!slice->pinned && handing && !handed && !is_lent(from, slice)) {
            base = reply->blocks_dropped + (uint32_t)reply->block_count - from->blocks_dropped;
            take_blocks(reply, from);
            handed = true;
        }
        if (slice->pinned || (handed && !is_lent(from, slice))) {
            seal(reply);
            uint32_t block = slice->block;
            push_slice(reply, *slice);
            if (handed) reply->slices[reply->slice_count - 1].block = base + block;
            slice->pinned = NULL;
        } else {
            reply_raw(reply, slice->data, slice->length);
        }
    }
    reply_clear(from);
}

/* ---- composing ---- */

void reply_raw(struct reply *reply, const void *data, size_t length) {
    if (__builtin_expect(reply->capacity - reply->used < length, 0) && !new_block(reply, length)) return;
    memcpy(reply->block + reply->used, data, length);
    reply->used += length;
}

void reply_simple(struct reply *reply, const char *text) {
    size_t length = strlen(text);
    char *at = reserve(reply, length + 3);
    at[0] = '+';
    memcpy(at + 1, text, length);
    memcpy(at + 1 + length, "\r\n", 2);
    reply->used += length + 3;
}

void reply_error(struct reply *reply, const char *text) {
    size_t length = strlen(text);
    while (length > 0 && (text[length - 1] == '\r' || text[length - 1] == '\n')) length--;
    char *at = reserve(reply, length + 3);
    at[0] = '-';
    for (size_t i = 0; i < length; i++) at[1 + i] = text[i] == '\r' || text[i] == '\n' ? ' ' : text[i];
    memcpy(at + 1 + length, "\r\n", 2);
    reply->used += length + 3;
    reply->errors++;
    size_t code = strcspn(text, " ");
    if (code >= REPLY_CODE_MAX) code = REPLY_CODE_MAX - 1;
    memcpy(reply->error_code, text, code);
    reply->error_code[code] = '\0';
}

void reply_error_format(struct reply *reply, const char *format, ...) {
    char text[ERROR_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    reply_error(reply, text);
}

/* A type byte, a number, the line end. */
static inline void header(struct reply *reply, char kind, int64_t value) {
    char *at = reserve(reply, HEADER_MAX), *end = at;
    *end++ = kind;
    if ((uint64_t)value < 10) {
        *end++ = (char)('0' + value);
    } else if ((uint64_t)value < 100) {
        *end++ = (char)('0' + value / 10);
        *end++ = (char)('0' + value % 10);
    } else {
        end += number_format_i64(value, end);
    }
    *end++ = '\r';
    *end++ = '\n';
    reply->used += (size_t)(end - at);
}

void reply_integer(struct reply *reply, int64_t value) {
    header(reply, ':', value);
}

void reply_bulk(struct reply *reply, struct span bytes) {
    size_t room = HEADER_MAX + bytes.length + 2;
    if (__builtin_expect(reply->capacity - reply->used < room, 0) && !new_block(reply, room)) return;
    header(reply, '$', (int64_t)bytes.length);
    char *at = reply->block + reply->used;
    memcpy(at, bytes.data, bytes.length);
    memcpy(at + bytes.length, "\r\n", 2);
    reply->used += bytes.length + 2;
}

void reply_bulk_text(struct reply *reply, const char *text) {
    reply_bulk(reply, span_of_text(text));
}

void reply_bulk_integer(struct reply *reply, int64_t value) {
    char text[NUMBER_TEXT_MAX];
    reply_bulk(reply, span_of(text, number_format_i64(value, text)));
}

void reply_bulk_owned(struct reply *reply, char *bytes, size_t length, size_t capacity) {
    header(reply, '$', (int64_t)length);
    if (reply->starved) {
        reply->lost += length;
        free(bytes);
    } else {
        seal(reply);
        begin_block(reply, bytes, length, capacity);
    }
    reply_raw(reply, "\r\n", 2);
}

void reply_bulk_pinned(struct reply *reply, struct span bytes, void *pinned, uint32_t pin_tag) {
    header(reply, '$', (int64_t)bytes.length);
    seal(reply);
    push_slice(reply,
               (struct reply_slice){.data = bytes.data, .length = bytes.length, .pinned = pinned, .pin_tag = pin_tag});
    reply_raw(reply, "\r\n", 2);
}

void reply_raw_pinned(struct reply *reply, struct span bytes, void *pinned, uint32_t pin_tag) {
    seal(reply);
    push_slice(reply,
               (struct reply_slice){.data = bytes.data, .length = bytes.length, .pinned = pinned, .pin_tag = pin_tag});
}

void reply_null(struct reply *reply) {
    if (reply->resp3)
        reply_raw(reply, "_\r\n", 3);
    else
        reply_raw(reply, "$-1\r\n", 5);
}

void reply_null_array(struct reply *reply) {
    if (reply->resp3)
        reply_raw(reply, "_\r\n", 3);
    else
        reply_raw(reply, "*-1\r\n", 5);
}

void reply_bool(struct reply *reply, bool value) {
    if (reply->resp3)
        reply_raw(reply, value ? "#t\r\n" : "#f\r\n", 4);
    else
        reply_integer(reply, value);
}

void reply_double(struct reply *reply, double value) {
    char text[NUMBER_DOUBLE_TEXT_MAX];
    size_t length = number_format_double(value, text);
    if (!reply->resp3) {
        reply_bulk(reply, span_of(text, length));
        return;
    }
    reply_raw(reply, ",", 1);
    reply_raw(reply, text, length);
    reply_raw(reply, "\r\n", 2);
}

void reply_verbatim(struct reply *reply, struct span text) {
    if (!reply->resp3) {
        reply_bulk(reply, text);
        return;
    }
    header(reply, '=', (int64_t)text.length + 4);
    reply_raw(reply, "txt:", 4);
    reply_raw(reply, text.data, text.length);
    reply_raw(reply, "\r\n", 2);
}

void reply_big_number(struct reply *reply, struct span digits) {
    if (!reply->resp3) {
        reply_bulk(reply, digits);
        return;
    }
    reply_raw(reply, "(", 1);
    reply_raw(reply, digits.data, digits.length);
    reply_raw(reply, "\r\n", 2);
}

/* ---- aggregates ---- */

void reply_array(struct reply *reply, size_t count) {
    header(reply, '*', (int64_t)count);
}
void reply_map(struct reply *reply, size_t pairs) {
    header(reply, reply->resp3 ? '%' : '*', (int64_t)(reply->resp3 ? pairs : 2 * pairs));
}
void reply_set(struct reply *reply, size_t count) {
    header(reply, reply->resp3 ? '~' : '*', (int64_t)count);
}
void reply_push(struct reply *reply, size_t count) {
    header(reply, reply->resp3 ? '>' : '*', (int64_t)count);
}

struct reply_aggregate reply_begin(struct reply *reply) {
    char *room = reserve(reply, HEADER_MAX);
    seal(reply);
    struct reply_aggregate aggregate = {reply->slice_count, room};
    push_slice(reply, (struct reply_slice){0});
    reply->used += HEADER_MAX;
    reply->open = reply->used;
    return aggregate;
}

void reply_end(struct reply *reply, struct reply_aggregate aggregate, char kind, size_t count) {
    if (kind == '%' && !reply->resp3) count *= 2;
    if (!reply->resp3) kind = '*';
    char *at = aggregate.room;
    *at = kind;
    size_t length = 1 + number_format_i64((int64_t)count, at + 1);
    memcpy(at + length, "\r\n", 2);
    reply->slices[aggregate.slice].data = at;
    reply->slices[aggregate.slice].length = length + 2;
    reply->sealed_bytes += length + 2;
}

/* ---- marks ---- */

static void go_back(struct reply *reply, struct reply_mark mark) {
    while (reply->block_count > mark.block_count) free(reply->blocks[--reply->block_count]);
    reply->block = mark.block;
    reply->capacity = mark.capacity;
    reply->open = mark.open;
    reply->used = mark.used;
    reply->sealed_bytes = mark.sealed_bytes;
}

void reply_rewind(struct reply *reply, struct reply_mark mark) {
    assert(mark.slice_count <= reply->slice_count && mark.block_count <= reply->block_count);
    drop_slices(reply, mark.slice_count);
    go_back(reply, mark);
}

void reply_forget(struct reply *reply, struct reply_mark mark) {
    assert(mark.slice_count <= reply->slice_count && mark.block_count <= reply->block_count);
    size_t kept = mark.slice_count;
    for (size_t i = mark.slice_count; i < reply->slice_count; i++) {
        if (!reply->slices[i].pinned) continue;
        reply->slices[kept] = reply->slices[i];
        reply->slices[kept].length = 0;
        reply->slices[kept++].block = reply->blocks_dropped + (uint32_t)mark.block_count;
    }
    reply->slice_count = kept;
    go_back(reply, mark);
}
