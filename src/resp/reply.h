#ifndef TERRACE_RESP_REPLY_H
#define TERRACE_RESP_REPLY_H

/* Replies, composed straight into the bytes that go to the socket.
 *
 *   blocks     memory that composed bytes are written to: first one lent by the worker, then own ones
 *   slices     what is to be sent, in order: stretches of a block, or a value sent from where it lies
 *
 *   block 0  |+OK\r\n$5\r\nhello\r\n$100000\r\n|\r\n:1\r\n      |
 *   slices    [----------------------------]  [--------]
 *                              pinned value ^ [value]
 *
 * A handler writes its reply with the functions below; each handles both protocols. The number of elements
 * announced must be the number written; when it is not known before, reply_begin() leaves room for it.
 *
 * Memory: when a block cannot be had the process aborts (as jemalloc is asked for at most a client's own
 * reply, bounded by LIMIT_PENDING_REPLY_BYTES plus one command's reply).
 *
 * Threads: none; a reply belongs to the worker or the connection that composes it. */

#include "base/span.h"

#include <stdint.h>
#include <sys/uio.h>

struct reply_slice {
    const char *data; /* NULL while the header of a begun aggregate is not known */
    size_t length;
    void *pinned;     /* the object to release when the slice has been sent; NULL: none */
    uint32_t pin_tag; /* passed to the release function */
    uint32_t block;   /* how many blocks there had been when it was sealed: none before it is needed any more */
};

typedef void reply_release(void *ctx, void *pinned, uint32_t pin_tag);

/* Who has a say in how much memory a reply takes: for its bytes, or for what composing them takes. */
struct reply_budget {
    /* Whether it may take `bytes` more. */
    bool (*ask)(void *ctx, size_t bytes);
    /* `bytes` of what it was granted are resident now. */
    void (*took)(void *ctx, size_t bytes);
};

enum { REPLY_INLINE_SLICES = 16, REPLY_INLINE_BLOCKS = 4, REPLY_CODE_MAX = 32 };

struct reply {
    char *block;           /* being written */
    size_t used, capacity; /* of the block */
    size_t open;           /* where in the block the slice being written begins */
    struct reply_slice *slices;
    size_t slice_count, slice_capacity;
    void **blocks; /* owned, to be freed */
    size_t block_count, block_capacity;
    uint32_t blocks_dropped; /* freed since the reply was last empty: they held only what is sent */
    size_t sealed_bytes;     /* in slices */
    size_t sent_slices;      /* fully sent; reply_consume() */
    char *lent;              /* the worker's block; NULL: none */
    size_t lent_capacity;
    reply_release *release;
    void *release_ctx;
    uint64_t errors; /* error replies composed so far */
    /* Between reply_bound() and reply_unbound(). */
    const struct reply_budget *budget; /* NULL: it is not bounded */
    void *budget_ctx;
    size_t granted, taken; /* bytes since then */
    size_t told;           /* of those taken: they are resident */
    size_t lost;           /* composed, and not kept */
    bool starved;          /* it was refused: nothing is kept any more */
    char *scratch;         /* where that is composed; NULL: it has not come to that yet */
    bool resp3;
    char error_code[REPLY_CODE_MAX]; /* of the last error: its first word */
    struct reply_slice inline_slices[REPLY_INLINE_SLICES];
    void *inline_blocks[REPLY_INLINE_BLOCKS];
};

/* `lent` is used before any memory is allocated; it stays the caller's. May be NULL. */
void reply_init(struct reply *reply, char *lent, size_t lent_capacity, reply_release *release, void *release_ctx);
/* Releases and frees all it holds; it is then as after reply_init(). */
void reply_clear(struct reply *reply);

/* Lends another block. Precondition: nothing is composed. */
void reply_lend(struct reply *reply, char *lent, size_t lent_capacity);
/* The whole reply, if it is one stretch of the lent block; NULL: it is not. */
const char *reply_lent_bytes(const struct reply *reply, size_t *length);

/* Bytes composed and not yet sent. */
static inline size_t reply_bytes_pending(const struct reply *reply) {
    return reply->sealed_bytes + (reply->used - reply->open);
}

/* Up to `capacity` vectors of what is to be sent next. */
size_t reply_vectors(struct reply *reply, struct iovec *vectors, size_t capacity);
/* `bytes` of them were sent. */
void reply_consume(struct reply *reply, size_t bytes);
/* Moves everything unsent of `from` to the end of `reply`, and clears `from`: what is long without being copied. */
void reply_append(struct reply *reply, struct reply *from);

/* ---- composing ---- */

void reply_raw(struct reply *reply, const void *data, size_t length);
void reply_simple(struct reply *reply, const char *text); /* +text */
static inline void reply_ok(struct reply *reply) {
    reply_raw(reply, "+OK\r\n", 5);
}
/* `text` begins with the code ("ERR ..."); bytes that would break the line are replaced by blanks. */
void reply_error(struct reply *reply, const char *text);
void reply_error_format(struct reply *reply, const char *format, ...) __attribute__((format(printf, 2, 3)));
void reply_integer(struct reply *reply, int64_t value);
void reply_bulk(struct reply *reply, struct span bytes);
void reply_bulk_text(struct reply *reply, const char *text);
void reply_bulk_integer(struct reply *reply, int64_t value); /* as a bulk string */
/* The same of memory that becomes the reply's, which frees it; what is behind the `length` bytes, up to `capacity`, it
 * goes on in. reply_may_take() has been asked for it. */
void reply_bulk_owned(struct reply *reply, char *bytes, size_t length, size_t capacity);
/* The bytes are sent from where they lie; `pinned` is released when they have been sent. */
void reply_bulk_pinned(struct reply *reply, struct span bytes, void *pinned, uint32_t pin_tag);
/* The same of bytes that are complete as they are. */
void reply_raw_pinned(struct reply *reply, struct span bytes, void *pinned, uint32_t pin_tag);
void reply_null(struct reply *reply);                       /* $-1 or _ */
void reply_null_array(struct reply *reply);                 /* *-1 or _ */
void reply_bool(struct reply *reply, bool value);           /* :1 or #t */
void reply_double(struct reply *reply, double value);       /* bulk or , */
void reply_verbatim(struct reply *reply, struct span text); /* bulk or =txt: */
void reply_big_number(struct reply *reply, struct span digits);

void reply_array(struct reply *reply, size_t count);
void reply_map(struct reply *reply, size_t pairs);  /* array of twice as many in RESP2 */
void reply_set(struct reply *reply, size_t count);  /* array in RESP2 */
void reply_push(struct reply *reply, size_t count); /* array in RESP2 */

/* An aggregate whose size is known only afterwards; may be nested. `kind` is '*', '%' or '~'. */
struct reply_aggregate {
    size_t slice;
    char *room;
};
struct reply_aggregate reply_begin(struct reply *reply);
void reply_end(struct reply *reply, struct reply_aggregate aggregate, char kind, size_t count);

/* ---- bounded replies ---- */

/* From now on what is composed asks for memory, but for the first `granted` bytes. When it is refused, the rest is
 * composed for its length alone: the caller will rewind. */
static inline void reply_bound(struct reply *reply, size_t granted, const struct reply_budget *budget, void *ctx) {
    reply->budget = budget;
    reply->budget_ctx = ctx;
    reply->granted = granted;
    reply->taken = reply->told = reply->lost = 0;
    reply->starved = false;
}
/* No longer. How much would have been granted to all of it; 0: it was refused nothing. */
static inline size_t reply_unbound(struct reply *reply) {
    size_t last = reply->scratch ? reply->capacity : reply->used;
    size_t wanted = __builtin_expect(reply->starved, 0) ? reply->taken + reply->lost + last : 0;
    reply->budget = NULL;
    reply->scratch = NULL;
    reply->starved = false;
    return wanted;
}
/* Whether `bytes` more may be taken for composing it. If not, it has been refused: what is composed is for nothing. */
bool reply_may_take(struct reply *reply, size_t bytes) __attribute__((warn_unused_result));

/* The same without taking them: composing `bytes` more will not be refused. */
bool reply_has_room(struct reply *reply, size_t bytes) __attribute__((warn_unused_result));

/* A place to come back to: reply_rewind() forgets what was composed since, and frees its memory. Nothing may be
 * consumed between the two. Pinned values are released, so no lock that releasing needs may be held. */
struct reply_mark {
    size_t slice_count, block_count;
    size_t open, used, capacity, sealed_bytes;
    char *block;
};
static inline struct reply_mark reply_mark(const struct reply *reply) {
    return (struct reply_mark){.slice_count = reply->slice_count,
                               .block_count = reply->block_count,
                               .open = reply->open,
                               .used = reply->used,
                               .capacity = reply->capacity,
                               .sealed_bytes = reply->sealed_bytes,
                               .block = reply->block};
}
void reply_rewind(struct reply *reply, struct reply_mark mark);
/* The same under locks: values that were pinned are released when all before them has been sent. */
void reply_forget(struct reply *reply, struct reply_mark mark);

#endif
