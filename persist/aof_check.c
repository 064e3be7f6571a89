/* Composing and following the chain of checksums of an increment.
 *
 * Each checksum is made of the one before it, the bytes since, and its own numbers, so it speaks for all that stands in
 * front of it and for itself: a bit that flips anywhere, in data or in a closing, makes the next closing wrong. The
 * bytes are summed by CRC64, whose state is a number, as a batch may come in several pieces; the sum and the numbers
 * are sealed by XXH3, which unlike a CRC does not let changes of one be made up for by changes of another. */

#include "persist/aof_check.h"

#include "base/number.h"
#include "persist/aof_layout.h"
#include "persist/crc64.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* What comes next is what the next closing speaks for. */
static void start_batch(struct aof_check *check) {
    check->bytes = 0;
    check->digest = 0;
}

static uint64_t seal(uint64_t digest, uint64_t previous, uint64_t sequence, uint64_t bytes, uint64_t synced) {
    struct aof_check_seal sealed = {
        .digest = digest, .previous = previous, .sequence = sequence, .bytes = bytes, .synced = synced};
    return XXH3_64bits(&sealed, sizeof(sealed));
}

static uint64_t seal_of_header(uint64_t seed) {
    return seal(0, seed, 0, 0, 0);
}

static size_t compose(char *line, uint64_t sequence, uint64_t bytes, uint64_t synced, uint64_t check) {
    char *end = line;
    memcpy(end, AOF_TAG, sizeof(AOF_TAG) - 1);
    end += sizeof(AOF_TAG) - 1;
    const uint64_t numbers[3] = {sequence, bytes, synced};
    for (unsigned i = 0; i < 3; i++) {
        end += number_format_u64(numbers[i], end);
        *end++ = ':';
    }
    for (int shift = 60; shift >= 0; shift -= 4) *end++ = "0123456789abcdef"[check >> shift & 15];
    memcpy(end, "\r\n", 3);
    return (size_t)(end + 2 - line);
}

size_t aof_check_begin(struct aof_check *check, uint64_t seed, char *line) {
    check->sequence = 0;
    check->check = seal_of_header(seed);
    start_batch(check);
    return compose(line, 0, seed, 0, check->check);
}

size_t aof_check_open(struct aof_check *check, char *line) {
    memcpy(line, AOF_OPENING, sizeof(AOF_OPENING));
    aof_check_feed(check, AOF_OPENING, sizeof(AOF_OPENING) - 1);
    return sizeof(AOF_OPENING) - 1;
}

void aof_check_feed(struct aof_check *check, const void *bytes, size_t length) {
    check->digest = crc64(check->digest, bytes, length);
    check->bytes += length;
}

static uint64_t expected(const struct aof_check *check, uint64_t synced) {
    return seal(check->digest, check->check, check->sequence + 1, check->bytes, synced);
}

size_t aof_check_close(struct aof_check *check, uint64_t synced, char *line) {
    check->check = expected(check, synced);
    check->sequence++;
    size_t length = compose(line, check->sequence, check->bytes, synced, check->check);
    start_batch(check);
    return length;
}

/* ---- reading ---- */

/* Takes the number in front of the next ':' off `text`. */
static bool take_number(struct span *text, uint64_t *number) {
    const char *colon = memchr(text->data, ':', text->length);
    if (colon == NULL) return false;
    size_t length = (size_t)(colon - text->data);
    if (!number_parse_u64(span_of(text->data, length), number)) return false;
    *text = span_of(colon + 1, text->length - length - 1);
    return true;
}

bool aof_check_parse_digits(struct span text, uint64_t *check) {
    if (text.length != AOF_CHECK_DIGITS) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *check = value;
    return true;
}

enum aof_line aof_check_classify(struct span line, struct aof_annotation *annotation) {
    /* The tag without its last byte is common to all lines of ours. */
    if (line.length < sizeof(AOF_TAG) - 1 || memcmp(line.data, AOF_TAG, sizeof(AOF_TAG) - 2) != 0)
        return AOF_LINE_OTHER;
    if (span_equal(line, SPAN_LITERAL(AOF_OPENING))) return AOF_LINE_OPENING;
    struct span rest = span_of(line.data + sizeof(AOF_TAG) - 1, line.length - (sizeof(AOF_TAG) - 1));
    bool whole =
        line.data[sizeof(AOF_TAG) - 2] == ':' && rest.length > 2 && memcmp(rest.data + rest.length - 2, "\r\n", 2) == 0;
    if (!whole) return AOF_LINE_BROKEN;
    rest.length -= 2;
    if (!take_number(&rest, &annotation->sequence) || !take_number(&rest, &annotation->bytes) ||
        !take_number(&rest, &annotation->synced) || !aof_check_parse_digits(rest, &annotation->check))
        return AOF_LINE_BROKEN;
    return annotation->sequence == 0 ? AOF_LINE_HEADER : AOF_LINE_CLOSING;
}

bool aof_check_follow(struct aof_check *check, const struct aof_annotation *header) {
    aof_check_resume(check, header);
    return header->sequence == 0 && header->synced == 0 && header->check == seal_of_header(header->bytes);
}

bool aof_check_verify(struct aof_check *check, const struct aof_annotation *closing) {
    if (closing->sequence != check->sequence + 1 || closing->bytes != check->bytes ||
        closing->check != expected(check, closing->synced))
        return false;
    aof_check_resume(check, closing);
    return true;
}

void aof_check_resume(struct aof_check *check, const struct aof_annotation *closing) {
    check->sequence = closing->sequence;
    check->check = closing->check;
    start_batch(check);
}

uint64_t aof_check_hash(struct span bytes) {
    return XXH3_64bits(bytes.data, bytes.length);
}
