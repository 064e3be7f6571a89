#ifndef TERRACE_RESP_PARSER_H
#define TERRACE_RESP_PARSER_H

/* Requests as clients send them: RESP arrays of bulk strings, or inline commands.
 *
 * The parser works in place: arguments are spans of the query buffer. It is restartable: when the buffer ends
 * inside a command it remembers how far it came, so no byte is looked at twice however the input is cut. While
 * it waits the buffer may grow, move and receive bytes at its end; its beginning must stay the beginning of the
 * unfinished command.
 *
 * Threads: none; a parser belongs to its connection. */

#include "base/span.h"

#include <stdint.h>

enum resp_parse_result {
    RESP_PARSE_DONE,       /* a command: `*argc` arguments in `argv`, `*consumed` bytes */
    RESP_PARSE_EMPTY,      /* an empty line or array: `*consumed` bytes to skip */
    RESP_PARSE_INCOMPLETE, /* more bytes are needed */
    RESP_PARSE_SKIPPED,    /* the end of a command that was skipped: `*consumed` bytes; the first of its input */
    RESP_PARSE_ERROR,      /* `error` holds the text of the reply; the connection is to be closed */
};

struct resp_limits {
    bool unauthenticated; /* the small limits before AUTH apply */
    uint64_t bulk_bytes;  /* proto-max-bulk-len */
};

struct resp_parser {
    int64_t arguments_left; /* of the command begun; 0: none begun */
    int64_t bulk_left;      /* length of the bulk string begun; -1: none. While skipping: what is left of it and its
                             * line's end */
    bool skipping;
    size_t position; /* bytes of the buffer already understood */
    /* Arguments of a command that did not fit the caller's array or the buffer, as offsets into the buffer.
     * Owned by the parser. */
    struct span *own;
    size_t own_count, own_capacity;
    char *inline_copy; /* unquoted arguments of the last inline command; owned */
    char error[96];
};

void resp_parser_init(struct resp_parser *parser);
/* Frees what the parser owns, and makes it as new. */
void resp_parser_reset(struct resp_parser *parser);

/* Frees what an unusually long command made the parser allocate. To be called when the arguments it gave out are done
 * with, so that a client that has once sent many of them does not hold their memory while it is idle. */
void resp_parser_trim(struct resp_parser *parser);

/* Parses one command from `buffer`. Arguments go to `argv` (room for `capacity`), or, when the command was
 * interrupted or has more, to the parser's own array: `*arguments` tells where they are. The result is valid until
 * the buffer changes or the next call. */
enum resp_parse_result resp_parse(struct resp_parser *parser, struct span buffer, const struct resp_limits *limits,
                                  struct span *argv, size_t capacity, struct span **arguments, uint32_t *argc,
                                  size_t *consumed);

/* Bytes that the bulk string being received still needs beyond the buffer; 0: unknown. A hint for how much room to
 * make, so that a large value is received where it will be read from. */
size_t resp_parser_wanted(const struct resp_parser *parser, size_t buffered);

/* The command begun (arguments_left is not 0, `buffered` bytes of it have come) is not wanted: what comes of it from
 * now on is passed over as RESP_PARSE_EMPTY, its end is RESP_PARSE_SKIPPED. Returns how many bytes at the end of the
 * buffer have to be kept, as its new beginning; the others may be dropped. */
size_t resp_parser_skip(struct resp_parser *parser, size_t buffered);

/* Splits an inline command or a configuration line into arguments with Redis's quoting rules, in place: `text` is
 * overwritten. Returns the number of arguments, at most `capacity`; -1: unbalanced quotes. */
int resp_split_line(char *text, size_t length, struct span *arguments, size_t capacity);

#endif
