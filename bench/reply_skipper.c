/* Reply skipper: a state machine over whatever pieces recv() returns.
 *
 * Between two bytes the state is: inside a bulk (payload_left > 0), inside a line that the last piece cut (line_length
 * > 0), or at the start of a line. elements_left counts the values still missing from the reply under way, nested ones
 * included: a reply starts by setting it to 1, a value takes one away, an aggregate of n adds n. When it returns to 0
 * the reply is complete; depth need not be known.
 *
 * Bulks that lie whole in one piece, the common case, take a short path that touches no state. */
#include "bench/reply_skipper.h"

#include <string.h>

/* More elements or bytes than this are no reply but a misread stream. */
#define REPLY_LENGTH_MAX (1ll << 40)

/* Parses the length that follows the type byte. -1 is "null"; anything else negative or malformed is -2. */
static int64_t parse_length(const char *at, const char *end) {
    if (end - at == 2 && at[0] == '-' && at[1] == '1') return -1;
    if (at == end) return -2;
    int64_t length = 0;
    for (; at < end; at++) {
        unsigned digit = (unsigned char)*at - '0';
        if (digit > 9) return -2;
        length = length * 10 + digit;
        if (length > REPLY_LENGTH_MAX) return -2;
    }
    return length;
}

static void note_error(struct reply_skipper *skipper, const char *text, const char *end) {
    if (skipper->errors++ > 0) return;
    size_t length = (size_t)(end - text);
    if (length >= sizeof(skipper->first_error)) length = sizeof(skipper->first_error) - 1;
    memcpy(skipper->first_error, text, length);
    skipper->first_error[length] = '\0';
}

/* One value ended: 1 when that completed a counted reply. */
static int end_value(struct reply_skipper *skipper) {
    skipper->elements_left--;
    return skipper->elements_left == 0 && !skipper->is_push;
}

static int begin_bulk(struct reply_skipper *skipper, int64_t length) {
    if (length == -2) return -1;
    if (length == -1) return end_value(skipper);
    skipper->payload_left = (uint64_t)length + 2;
    return 0;
}

static int begin_aggregate(struct reply_skipper *skipper, char type, int64_t length) {
    if (length == -2) return -1;
    uint64_t children = length < 0 ? 0 : (uint64_t)length;
    if (type == '%' || type == '|') children *= 2;
    skipper->elements_left += children;
    /* An attribute is extra: the value it describes is still to come. */
    return type == '|' ? 0 : end_value(skipper);
}

/* A whole line without its CRLF. Returns completed replies (0 or 1), -1 on a violation. */
static int take_line(struct reply_skipper *skipper, const char *line, const char *end) {
    if (line == end) return -1;
    char type = *line;
    bool starts_reply = skipper->elements_left == 0;
    if (starts_reply) {
        skipper->elements_left = 1;
        skipper->is_push = type == '>';
    }
    switch (type) {
    case '-':
        if (starts_reply) note_error(skipper, line + 1, end);
        return end_value(skipper);
    case '+':
    case ':':
    case '_':
    case '#':
    case ',':
    case '(': return end_value(skipper);
    case '!':
        if (starts_reply) note_error(skipper, "(bulk error)", strchr("(bulk error)", '\0'));
        return begin_bulk(skipper, parse_length(line + 1, end));
    case '$':
    case '=': return begin_bulk(skipper, parse_length(line + 1, end));
    case '*':
    case '~':
    case '>':
    case '%':
    case '|': return begin_aggregate(skipper, type, parse_length(line + 1, end));
    default: return -1;
    }
}

static void keep_partial_line(struct reply_skipper *skipper, const char *at, const char *end) {
    size_t length = (size_t)(end - at);
    size_t room = sizeof(skipper->line) - skipper->line_length;
    if (length > room) length = room;
    memcpy(skipper->line + skipper->line_length, at, length);
    skipper->line_length += length;
}

/* Takes one line, or its part, from the piece; returns like take_line and moves *at. */
static int feed_line(struct reply_skipper *skipper, const char **at, const char *end) {
    const char *line = *at;
    const char *newline = line;
    while (newline < end && *newline != '\n') newline++;
    if (newline == end) {
        keep_partial_line(skipper, line, end);
        *at = end;
        return 0;
    }
    *at = newline + 1;
    if (skipper->line_length > 0) {
        keep_partial_line(skipper, line, newline + 1);
        line = skipper->line;
        /* A line too long for the buffer lost its end, the newline included. */
        newline = line + skipper->line_length - (skipper->line_length < sizeof(skipper->line));
        skipper->line_length = 0;
    }
    if (newline > line && newline[-1] == '\r') newline--;
    return take_line(skipper, line, newline);
}

/* Skips a whole "$n CRLF payload CRLF" at `at`; NULL when it is not whole here or not that simple. */
static inline const char *skip_whole_bulk(const char *at, const char *end) {
    if (end - at < 6 || *at != '$') return NULL;
    size_t length = 0;
    const char *digit = at + 1;
    for (; digit < end && digit < at + 8 && *digit >= '0' && *digit <= '9'; digit++)
        length = length * 10 + (size_t)(*digit - '0');
    if (digit == at + 1 || (size_t)(end - digit) < length + 4 || *digit != '\r') return NULL;
    return digit + length + 4;
}

int64_t reply_skipper_feed(struct reply_skipper *skipper, const char *data, size_t length) {
    const char *at = data;
    const char *end = data + length;
    int64_t replies = 0;
    while (at < end) {
        if (skipper->payload_left > 0) {
            uint64_t here = (uint64_t)(end - at);
            if (here > skipper->payload_left) here = skipper->payload_left;
            skipper->payload_left -= here;
            at += here;
            if (skipper->payload_left == 0) replies += end_value(skipper);
            continue;
        }
        if (skipper->line_length == 0) {
            const char *next;
            while ((next = skip_whole_bulk(at, end)) != NULL) {
                at = next;
                replies += skipper->elements_left == 0 ? 1 : end_value(skipper);
            }
            if (at == end) break;
        }
        int completed = feed_line(skipper, &at, end);
        if (completed < 0) return -1;
        replies += completed;
    }
    return replies;
}
