/* One connection of the capacity benchmark, without its socket: requests become bytes, bytes become counted replies.
 * A lane belongs to one thread; its memory does not grow with the dataset, the value size or a stalled server. */
#ifndef BENCH_CAPACITY_LANE_H
#define BENCH_CAPACITY_LANE_H

#include "bench/capacity_value.h"
#include "bench/histogram.h"
#include "bench/request.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LANE_TEXT_MAX = 256,     /* of an error reply that is kept, or a line cut by the end of a read */
    LANE_REQUEST_HEAD = 512, /* room a request needs beside its value: two key texts of 63 bytes, digits, headers */
    LANE_BUFFER_MIN = 4096,
    LANE_BUFFER_MAX = 1 << 17,
};

/* What was sent and came back. `operations` and `payload_bytes` may be read while a thread writes them (relaxed). */
struct lane_counts {
    _Atomic uint64_t operations;    /* replies, errors included */
    _Atomic uint64_t payload_bytes; /* keys and values of SETs that were answered with OK, values of GETs */
    uint64_t reads, writes;         /* by reply */
    uint64_t hits, misses;          /* of reads; a miss whose key has a TTL counts in `expired` too */
    uint64_t expired;
    uint64_t wrong; /* values that are not their key's */
    uint64_t errors;
    char first_error[LANE_TEXT_MAX];
    char first_wrong[LANE_TEXT_MAX];
};

/* The same for all lanes of a run; read-only. */
struct lane_wire {
    const struct value_scheme *scheme;
    const struct key_format *key_format;
    bool verify;
    char get_head[128], set_head[128], set_expiring_head[128]; /* through the key's prefix */
    char expire_tail[64];
    size_t get_length, set_length, set_expiring_length, expire_tail_length;
    size_t key_length;
};

struct lane_request {
    uint64_t time_ns; /* its latency counts from here */
    uint64_t key : 63;
    uint64_t is_read : 1;
};

struct lane {
    char *out; /* bytes [out_at, out_end) are to be sent */
    size_t out_size, out_at, out_end;

    /* The request that is being written: its value from value_position on, then its tail. */
    bool composing;
    bool expiring;
    struct value value;
    uint64_t value_position;

    struct lane_request *requests; /* ring of those not answered yet */
    unsigned depth, ring_mask;
    unsigned first, end; /* counters; the ring's places are these & ring_mask */

    /* The reply that is being read. */
    bool in_bulk;
    uint64_t bulk_left; /* bytes of the payload, without its CRLF */
    unsigned crlf_left;
    size_t line_length;
    char line[LANE_TEXT_MAX];
    struct value_check check;
};

void lane_wire_init(struct lane_wire *wire, const struct value_scheme *scheme, const struct key_format *key_format,
                    unsigned ttl_seconds, bool verify);

/* `depth`: requests that may be unanswered. `buffer_size`: of the output, cut to LANE_BUFFER_MIN..LANE_BUFFER_MAX.
 * False: no memory. Release in both cases. */
bool lane_init(struct lane *lane, unsigned depth, uint64_t buffer_size);
void lane_release(struct lane *lane);

static inline unsigned lane_unanswered(const struct lane *lane) {
    return lane->end - lane->first;
}

static inline bool lane_has_output(const struct lane *lane) {
    return lane->out_at < lane->out_end || lane->composing;
}

/* Whether lane_get or lane_set may be called now. */
bool lane_takes_request(const struct lane *lane);

/* Appends a request. A value that does not fit stays `composing`; lane_compose goes on with it. */
void lane_get(struct lane *lane, const struct lane_wire *wire, uint64_t key, uint64_t time_ns);
void lane_set(struct lane *lane, const struct lane_wire *wire, uint64_t key, uint32_t version, uint64_t time_ns);

/* Writes more of a value that is under way, as far as the buffer goes. */
void lane_compose(struct lane *lane, const struct lane_wire *wire);

/* `length` bytes of the output have been sent. */
void lane_sent(struct lane *lane, size_t length);

/* Consumes bytes that came back at `now_ns`; latencies go to `latency` (nanoseconds). False: not RESP, or not the
 * reply of what was asked; the connection is then of no further use. */
bool lane_feed(struct lane *lane, const struct lane_wire *wire, const char *data, size_t length, uint64_t now_ns,
               struct lane_counts *counts, struct histogram *latency);

#endif
