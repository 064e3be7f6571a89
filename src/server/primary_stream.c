/* See primary_stream.h. A transaction is passed over once to find its end, however many pieces it comes in: how far
 * that has got is remembered. */

#include "server/primary_stream.h"

static enum primary_stream_next parse(struct span bytes, struct aof_item *item) {
    switch (aof_parse_item(bytes, item)) {
    case AOF_PARSE_COMMAND: return PRIMARY_STREAM_COMMAND;
    case AOF_PARSE_SHORT: return PRIMARY_STREAM_SHORT;
    case AOF_PARSE_LINE: item->bad_at = 0; return PRIMARY_STREAM_BAD;
    case AOF_PARSE_BAD: break;
    }
    return PRIMARY_STREAM_BAD;
}

static enum primary_stream_next find_exec(struct primary_stream *stream, struct span bytes, struct aof_item *item) {
    struct aof_item behind;
    for (;;) {
        struct span rest = span_of(bytes.data + stream->ahead, bytes.length - stream->ahead);
        enum primary_stream_next next = parse(rest, &behind);
        if (next != PRIMARY_STREAM_COMMAND) {
            item->bad_at = stream->ahead + behind.bad_at;
            item->length = stream->ahead + behind.length;
            return next;
        }
        if (span_is_word(behind.name, "multi")) {
            item->bad_at = stream->ahead;
            return PRIMARY_STREAM_BAD;
        }
        stream->ahead += behind.length;
        if (span_is_word(behind.name, "exec")) return PRIMARY_STREAM_COMMAND;
    }
}

enum primary_stream_next primary_stream_next(struct primary_stream *stream, struct span bytes, struct aof_item *item) {
    enum primary_stream_next next = parse(bytes, item);
    if (next != PRIMARY_STREAM_COMMAND) return next;
    if (stream->in_transaction) {
        if (span_is_word(item->name, "exec")) stream->in_transaction = false;
        return next;
    }
    if (!span_is_word(item->name, "multi")) return next;
    struct aof_item multi = *item;
    if (!stream->looks_ahead) stream->ahead = item->length;
    stream->looks_ahead = true;
    next = find_exec(stream, bytes, item);
    if (next != PRIMARY_STREAM_COMMAND) return next;
    *item = multi;
    stream->looks_ahead = false;
    stream->in_transaction = true;
    return PRIMARY_STREAM_COMMAND;
}
