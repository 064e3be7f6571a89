/* The request parser against itself: any bytes, fed in any pieces, must mean what they mean in one piece.
 *
 * Input: byte 0 chooses the limits and how many arguments the caller has room for; byte 1 counts the cuts; then two
 * bytes a cut; then the bytes to parse. Each piece is copied to a block of exactly its size before it is parsed, so
 * that the sanitizer sees a byte read too many and an address kept too long. */

#include "base/limits.h"
#include "resp/parser.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROOM_MAX = 8, CUTS_MAX = 255 };

/* What was understood: every argument with its length, every other result with its text. */
struct transcript {
    char *text;
    size_t length, capacity;
};

static void add(struct transcript *transcript, const void *data, size_t length) {
    if (transcript->length + length > transcript->capacity) {
        transcript->capacity = 2 * (transcript->length + length) + 256;
        transcript->text = realloc(transcript->text, transcript->capacity);
    }
    if (length) memcpy(transcript->text + transcript->length, data, length);
    transcript->length += length;
}

static void add_command(struct transcript *transcript, const struct span *arguments, uint32_t argc) {
    add(transcript, &argc, sizeof(argc));
    for (uint32_t i = 0; i < argc; i++) {
        add(transcript, &arguments[i].length, sizeof(size_t));
        add(transcript, arguments[i].data, arguments[i].length);
    }
}

struct feeding {
    struct span input;
    const uint8_t *cuts; /* two bytes each: how much arrives */
    size_t cut_count;
    struct resp_limits limits;
    size_t room;
};

/* Parses everything that is complete in [*begin, end); false: an error ended it. */
static bool parse_received(struct resp_parser *parser, const struct feeding *feeding, size_t *begin, size_t end,
                           struct transcript *transcript) {
    for (;;) {
        struct span argv[ROOM_MAX], *arguments = NULL;
        uint32_t argc = 0;
        size_t consumed = 0, length = end - *begin;
        char *copy = malloc(length ? length : 1);
        memcpy(copy, feeding->input.data + *begin, length);
        enum resp_parse_result result = resp_parse(parser, span_of(copy, length), &feeding->limits, argv, feeding->room,
                                                   &arguments, &argc, &consumed);
        if (result == RESP_PARSE_DONE) add_command(transcript, arguments, argc);
        if (result == RESP_PARSE_EMPTY) add(transcript, "empty", 5);
        if (result == RESP_PARSE_ERROR) add(transcript, parser->error, strlen(parser->error));
        size_t wanted = resp_parser_wanted(parser, length);
        free(copy);
        if (result == RESP_PARSE_ERROR) return false;
        if (wanted > LIMIT_VALUE_BYTES + 2) abort();
        if (result == RESP_PARSE_INCOMPLETE) return true;
        if (consumed == 0 || consumed > length) abort();
        *begin += consumed;
    }
}

static struct transcript feed(const struct feeding *feeding) {
    struct transcript transcript = {0};
    struct resp_parser parser;
    size_t begin = 0, end = 0, cut = 0;
    bool going = true;
    resp_parser_init(&parser);
    while (going && end < feeding->input.length) {
        size_t step = feeding->input.length;
        if (cut < feeding->cut_count) step = (size_t)feeding->cuts[2 * cut] << 8 | feeding->cuts[2 * cut + 1];
        cut++;
        end = feeding->input.length - end < step ? feeding->input.length : end + step;
        going = parse_received(&parser, feeding, &begin, end, &transcript);
    }
    add(&transcript, &begin, sizeof(begin));
    resp_parser_reset(&parser);
    if (parser.own || parser.inline_copy) abort();
    return transcript;
}

/* Lines of configuration take the same splitting. */
static void split_line(struct span input) {
    struct span arguments[ROOM_MAX];
    char *copy = malloc(input.length ? input.length : 1);
    memcpy(copy, input.data, input.length);
    int count = resp_split_line(copy, input.length, arguments, ROOM_MAX);
    if (count < -1 || count > ROOM_MAX) abort();
    for (int i = 0; i < count; i++)
        if (arguments[i].data < copy || arguments[i].data + arguments[i].length > copy + input.length) abort();
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > LIMIT_INLINE_BYTES) return 0; /* past it, which limit is hit first depends on the pieces */
    size_t cuts = data[1];
    if (size < 2 + 2 * cuts) cuts = (size - 2) / 2;
    struct feeding feeding = {
        .input = span_of(data + 2 + 2 * cuts, size - 2 - 2 * cuts),
        .limits = {.unauthenticated = data[0] & 1, .bulk_bytes = data[0] & 2 ? 1000 : LIMIT_VALUE_BYTES},
        .room = (size_t)data[0] >> 2 & 7};
    struct transcript whole = feed(&feeding);
    feeding.cuts = data + 2;
    feeding.cut_count = cuts;
    struct transcript pieces = feed(&feeding);
    if (whole.length != pieces.length || memcmp(whole.text, pieces.text, whole.length) != 0) {
        fprintf(stderr, "%zu bytes parse differently in %zu pieces\n", feeding.input.length, cuts + 1);
        abort();
    }
    free(whole.text);
    free(pieces.text);
    split_line(feeding.input);
    return 0;
}
