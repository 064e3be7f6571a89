/* A connection's bytes, both ways.
 *
 * Requests are GET and SET only, so their heads are literals with the key's digits patched in. Values are written
 * straight into the output buffer; one that is larger than the buffer is written in pieces as the socket takes them,
 * so that a lane needs the same memory for values of 10 bytes and of 100 MB.
 *
 * Replies arrive in the order of the requests, which wait in a ring with their start times. A reply is a line (+OK, an
 * error, a null) or a bulk, whose bytes go through the check of its key's value as they come and are kept nowhere. */
#include "bench/capacity_lane.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                  "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                  "8081828384858687888990919293949596979899";

static size_t format_head(char *out, size_t room, const char *command, unsigned words, const struct lane_wire *wire) {
    int length = snprintf(out, room, "*%u\r\n$3\r\n%s\r\n$%zu\r\n%s", words, command, wire->key_length,
                          wire->key_format->prefix);
    assert(length > 0 && (size_t)length < room);
    return (size_t)length;
}

void lane_wire_init(struct lane_wire *wire, const struct value_scheme *scheme, const struct key_format *key_format,
                    unsigned ttl_seconds, bool verify) {
    *wire = (struct lane_wire){.scheme = scheme, .key_format = key_format, .verify = verify};
    wire->key_length = strlen(key_format->prefix) + key_format->width + strlen(key_format->suffix);
    wire->get_length = format_head(wire->get_head, sizeof(wire->get_head), "GET", 2, wire);
    wire->set_length = format_head(wire->set_head, sizeof(wire->set_head), "SET", 3, wire);
    wire->set_expiring_length = format_head(wire->set_expiring_head, sizeof(wire->set_expiring_head), "SET", 5, wire);
    char seconds[16];
    int digits = snprintf(seconds, sizeof(seconds), "%u", ttl_seconds);
    wire->expire_tail_length = (size_t)snprintf(wire->expire_tail, sizeof(wire->expire_tail),
                                                "\r\n$2\r\nEX\r\n$%d\r\n%s\r\n", digits, seconds);
}

bool lane_init(struct lane *lane, unsigned depth, uint64_t buffer_size) {
    assert(depth > 0);
    *lane = (struct lane){.depth = depth};
    unsigned places = 1;
    while (places < depth) places *= 2;
    lane->ring_mask = places - 1;
    if (buffer_size < LANE_BUFFER_MIN) buffer_size = LANE_BUFFER_MIN;
    if (buffer_size > LANE_BUFFER_MAX) buffer_size = LANE_BUFFER_MAX;
    lane->out_size = buffer_size;
    lane->requests = malloc(places * sizeof(*lane->requests));
    lane->out = malloc(lane->out_size);
    return lane->requests != NULL && lane->out != NULL;
}

void lane_release(struct lane *lane) {
    free(lane->requests);
    free(lane->out);
    *lane = (struct lane){0};
}

bool lane_takes_request(const struct lane *lane) {
    return !lane->composing && lane_unanswered(lane) < lane->depth &&
           lane->out_size - lane->out_end >= LANE_REQUEST_HEAD;
}

static inline char *append(char *out, const char *text, size_t length) {
    memcpy(out, text, length);
    return out + length;
}

/* The key's digits, zero-padded, its suffix and CRLF. */
static char *append_key_end(char *out, const struct lane_wire *wire, uint64_t key) {
    unsigned width = wire->key_format->width;
    char *at = out + width;
    while (at - out >= 2) {
        at -= 2;
        memcpy(at, digit_pairs + key % 100 * 2, 2);
        key /= 100;
    }
    if (at > out) *out = (char)('0' + key % 10);
    out += width;
    for (const char *suffix = wire->key_format->suffix; *suffix != '\0'; suffix++) *out++ = *suffix;
    return append(out, "\r\n", 2);
}

static char *append_bulk_length(char *out, uint64_t length) {
    char digits[24];
    char *first = digits + sizeof(digits);
    do *--first = (char)('0' + length % 10);
    while ((length /= 10) > 0);
    *out++ = '$';
    out = append(out, first, (size_t)(digits + sizeof(digits) - first));
    return append(out, "\r\n", 2);
}

static void remember(struct lane *lane, uint64_t key, bool is_read, uint64_t time_ns) {
    lane->requests[lane->end++ & lane->ring_mask] = (struct lane_request){time_ns, key, is_read};
}

void lane_get(struct lane *lane, const struct lane_wire *wire, uint64_t key, uint64_t time_ns) {
    assert(lane_takes_request(lane));
    char *out = append(lane->out + lane->out_end, wire->get_head, wire->get_length);
    lane->out_end = (size_t)(append_key_end(out, wire, key) - lane->out);
    remember(lane, key, true, time_ns);
}

void lane_set(struct lane *lane, const struct lane_wire *wire, uint64_t key, uint32_t version, uint64_t time_ns) {
    assert(lane_takes_request(lane));
    char *out = lane->out + lane->out_end;
    lane->expiring = value_expires(wire->scheme, key);
    out = lane->expiring ? append(out, wire->set_expiring_head, wire->set_expiring_length)
                         : append(out, wire->set_head, wire->set_length);
    out = append_key_end(out, wire, key);
    lane->value = value_describe(wire->scheme, key, version);
    lane->value_position = 0;
    lane->composing = true;
    lane->out_end = (size_t)(append_bulk_length(out, lane->value.size) - lane->out);
    remember(lane, key, false, time_ns);
    lane_compose(lane, wire);
}

void lane_compose(struct lane *lane, const struct lane_wire *wire) {
    if (!lane->composing) return;
    uint64_t left = lane->value.size - lane->value_position;
    size_t room = lane->out_size - lane->out_end;
    size_t length = left < room ? (size_t)left : room;
    value_write(wire->scheme, &lane->value, lane->value_position, lane->out + lane->out_end, length);
    lane->out_end += length;
    lane->value_position += length;
    size_t tail = lane->expiring ? wire->expire_tail_length : 2;
    if (length < left || room - length < tail) return;
    memcpy(lane->out + lane->out_end, lane->expiring ? wire->expire_tail : "\r\n", tail);
    lane->out_end += tail;
    lane->composing = false;
}

void lane_sent(struct lane *lane, size_t length) {
    assert(length <= lane->out_end - lane->out_at);
    lane->out_at += length;
    if (lane->out_at == lane->out_end) lane->out_at = lane->out_end = 0;
}

static inline void add_relaxed(_Atomic uint64_t *counter, uint64_t amount) {
    /* One writer: a load and a store instead of a locked add. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount, memory_order_relaxed);
}

/* The oldest request has its reply. */
static inline struct lane_request end_reply(struct lane *lane, uint64_t now_ns, struct lane_counts *counts,
                                            struct histogram *latency) {
    struct lane_request request = lane->requests[lane->first++ & lane->ring_mask];
    histogram_record(latency, now_ns - request.time_ns, 1);
    add_relaxed(&counts->operations, 1);
    if (request.is_read)
        counts->reads++;
    else
        counts->writes++;
    return request;
}

static void note_wrong(struct lane *lane, const struct lane_wire *wire, uint64_t key, struct lane_counts *counts) {
    if (counts->wrong++ > 0) return;
    snprintf(counts->first_wrong, sizeof(counts->first_wrong), "%s%0*llu%s: %llu bytes, right for %llu",
             wire->key_format->prefix, (int)wire->key_format->width, (unsigned long long)key, wire->key_format->suffix,
             (unsigned long long)lane->check.value.size, (unsigned long long)lane->check.position);
}

static bool end_bulk(struct lane *lane, const struct lane_wire *wire, uint64_t now_ns, struct lane_counts *counts,
                     struct histogram *latency) {
    struct lane_request request = end_reply(lane, now_ns, counts, latency);
    if (!request.is_read) return false;
    counts->hits++;
    if (wire->verify && !value_check_end(&lane->check)) note_wrong(lane, wire, request.key, counts);
    return true;
}

static bool end_null(struct lane *lane, const struct lane_wire *wire, uint64_t now_ns, struct lane_counts *counts,
                     struct histogram *latency) {
    struct lane_request request = end_reply(lane, now_ns, counts, latency);
    counts->misses++;
    if (value_expires(wire->scheme, request.key)) counts->expired++;
    return request.is_read;
}

static bool begin_bulk(struct lane *lane, const struct lane_wire *wire, const char *digits, const char *end) {
    uint64_t length = 0;
    if (digits == end || end - digits > 10) return false;
    for (; digits < end; digits++) {
        if (*digits < '0' || *digits > '9') return false;
        length = length * 10 + (uint64_t)(*digits - '0');
    }
    lane->in_bulk = true;
    lane->bulk_left = length;
    lane->crlf_left = 2;
    if (wire->verify)
        value_check_start(&lane->check, wire->scheme, lane->requests[lane->first & lane->ring_mask].key, length);
    return true;
}

/* A whole line, without its CRLF. */
static bool take_line(struct lane *lane, const struct lane_wire *wire, const char *line, const char *end,
                      uint64_t now_ns, struct lane_counts *counts, struct histogram *latency) {
    if (line == end || lane_unanswered(lane) == 0) return false;
    switch (*line) {
    case '+': {
        struct lane_request request = end_reply(lane, now_ns, counts, latency);
        if (request.is_read) return false;
        add_relaxed(&counts->payload_bytes, wire->key_length + value_size(wire->scheme, request.key));
        return true;
    }
    case '-':
        end_reply(lane, now_ns, counts, latency);
        if (counts->errors++ == 0)
            snprintf(counts->first_error, sizeof(counts->first_error), "%.*s", (int)(end - line - 1), line + 1);
        return true;
    case '_': return end_null(lane, wire, now_ns, counts, latency);
    case '$':
        if (end - line == 3 && line[1] == '-' && line[2] == '1') return end_null(lane, wire, now_ns, counts, latency);
        return begin_bulk(lane, wire, line + 1, end);
    default: return false;
    }
}

/* Takes one line, or the part of it that is here. A line longer than the buffer loses its end. */
static bool feed_line(struct lane *lane, const struct lane_wire *wire, const char **at, const char *end,
                      uint64_t now_ns, struct lane_counts *counts, struct histogram *latency) {
    const char *line = *at;
    const char *newline = memchr(line, '\n', (size_t)(end - line));
    const char *stop = newline != NULL ? newline : end;
    *at = newline != NULL ? newline + 1 : end;
    if (newline == NULL || lane->line_length > 0) {
        size_t length = (size_t)(stop - line);
        size_t room = sizeof(lane->line) - lane->line_length;
        if (length > room) length = room;
        memcpy(lane->line + lane->line_length, line, length);
        lane->line_length += length;
        if (newline == NULL) return true;
        line = lane->line;
        stop = line + lane->line_length;
        lane->line_length = 0;
    }
    if (stop > line && stop[-1] == '\r') stop--;
    return take_line(lane, wire, line, stop, now_ns, counts, latency);
}

bool lane_feed(struct lane *lane, const struct lane_wire *wire, const char *data, size_t length, uint64_t now_ns,
               struct lane_counts *counts, struct histogram *latency) {
    const char *at = data;
    const char *end = data + length;
    while (at < end) {
        if (!lane->in_bulk) {
            if (!feed_line(lane, wire, &at, end, now_ns, counts, latency)) return false;
            continue;
        }
        size_t part = (size_t)(end - at) < lane->bulk_left ? (size_t)(end - at) : (size_t)lane->bulk_left;
        if (wire->verify) value_check_feed(&lane->check, wire->scheme, at, part);
        add_relaxed(&counts->payload_bytes, part);
        lane->bulk_left -= part;
        at += part;
        while (at < end && lane->bulk_left == 0 && lane->crlf_left > 0) {
            at++;
            lane->crlf_left--;
        }
        if (lane->bulk_left > 0 || lane->crlf_left > 0) continue;
        lane->in_bulk = false;
        if (!end_bulk(lane, wire, now_ns, counts, latency)) return false;
    }
    return true;
}
