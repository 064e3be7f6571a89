/* One file of commands, from its first byte to the verdict on its last.
 *
 *   buffer   | given | released    | scanned          | filled
 *            | out   | to be given | held back, whole | not looked at, or the beginning of an item
 *
 * Items are scanned one by one. What is scanned is released once nothing that follows can take it back: outside of a
 * transaction, and outside of a batch of ours, whose closing has to be read first. What is released is taken apart into
 * words and given out before the buffer is filled again; so the buffer grows only where a single batch, transaction or
 * command is larger than it.
 *
 * In a file of ours the bytes that were scanned are fed to the chain of checksums, in stretches, before a closing is
 * looked at and before the buffer moves. Behind a closing there is an opening, or what Redis appended: commands and
 * timestamps, which are released by their syntax. Any other line there is taken for an opening that was damaged: what
 * follows is held back until a closing vouches for it. */

#include "persist/aof_stream.h"

#include "persist/aof_layout.h"
#include "persist/aof_parse.h"
#include "persist/aof_survey.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Two passes over it stay within the second-level cache. */
enum { BUFFER_BYTES = 512 * 1024, WORDS_AT_FIRST = 1024 };

struct stream {
    const struct aof_stream_options *options;
    struct aof_stream_verdict *verdict;
    char *buffer;
    size_t capacity, given, released, fed, scanned, filled; /* in this order */
    uint64_t base;                                          /* offset of the buffer's first byte in the file */
    uint64_t end;                                           /* of the file */
    size_t wanted; /* of the item that is not whole yet: bytes from `scanned` on */
    bool in_batch, in_transaction;
    uint64_t batch_at, transaction_at, closing_end; /* offsets; the last one behind the last closing that was right */
    struct aof_check check;
    struct aof_history ahead; /* of what was scanned; the verdict has it of what a closing vouches for */
    uint64_t batch_from;      /* position of the batch's first command */
    bool foreign;             /* commands were found that are of no batch of ours, since the last line of history */
    struct span *words;
    size_t word_count, word_capacity;
    struct aof_command commands[AOF_LOAD_BATCH];
    unsigned command_count;
};

static uint64_t offset_of(const struct stream *stream, size_t at) {
    return stream->base + at;
}

/* ---- verdicts; each returns false: it goes no further ---- */

static bool stop(struct stream *stream, enum aof_stream_end end, const char *what, uint64_t from, uint64_t to) {
    stream->verdict->end = end;
    stream->verdict->what = what;
    stream->verdict->from = from;
    stream->verdict->to = to;
    return false;
}

/* From offset `from`, where a batch began or should have begun, a file of ours is not as it should be. */
static bool stop_for_damage(struct stream *stream, const char *what, uint64_t from) {
    struct aof_survey survey;
    if (!aof_survey_run(stream->options->fd, from, stream->end, stream->check.sequence, &survey))
        return stop(stream, errno == ENOMEM ? AOF_STREAM_NO_MEMORY : AOF_STREAM_IO, "it cannot be read", from, 0);
    if (survey.synced > from || survey.silent) return stop(stream, AOF_STREAM_CORRUPT, what, from, survey.damage_ends);
    return stop(stream, AOF_STREAM_TORN, what, from, stream->end);
}

/* What begins at `at` is no item, or none that may stand there. */
static bool stop_for_bad(struct stream *stream, const char *what, size_t at, size_t bad_at) {
    if (stream->in_batch) return stop_for_damage(stream, what, stream->batch_at);
    if (stream->verdict->ours && offset_of(stream, at) == stream->closing_end)
        return stop_for_damage(stream, what, stream->closing_end);
    return stop(stream, AOF_STREAM_CORRUPT, what, offset_of(stream, bad_at), 0);
}

/* The file ends. */
static bool stop_for_end(struct stream *stream) {
    uint64_t at = offset_of(stream, stream->scanned);
    bool short_item = stream->scanned < stream->filled;
    if (stream->in_batch) return stop_for_damage(stream, "a batch of commands is not whole", stream->batch_at);
    if (stream->in_transaction)
        return stop(stream, AOF_STREAM_TORN, "a transaction has no EXEC", stream->transaction_at, stream->end);
    if (!short_item) return stop(stream, AOF_STREAM_WHOLE, NULL, at, at);
    if (stream->verdict->ours && at == stream->closing_end)
        return stop_for_damage(stream, "a batch of commands is not whole", at);
    return stop(stream, AOF_STREAM_TORN, "a command is not whole", at, stream->end);
}

/* ---- scanning ---- */

static void feed(struct stream *stream) {
    if (stream->verdict->ours)
        aof_check_feed(&stream->check, stream->buffer + stream->fed, stream->scanned - stream->fed);
    stream->fed = stream->scanned;
}

/* All that was scanned may be given out, unless it can still be taken back. */
static void release(struct stream *stream) {
    if (!stream->in_batch && !stream->in_transaction) stream->released = stream->scanned;
}

static void enter_batch(struct stream *stream, size_t at) {
    stream->in_batch = true;
    stream->batch_at = offset_of(stream, at);
    stream->batch_from = stream->ahead.position;
}

/* A command that belongs to no batch of ours was appended by somebody who does not count. */
static void count(struct stream *stream, size_t length) {
    stream->ahead.position += length;
    if (stream->in_batch || stream->foreign) return;
    stream->foreign = true;
    stream->ahead.id[0] = stream->verdict->history.id[0] = '\0';
    if (stream->options->load->backlog) aof_backlog_clear(stream->options->load->backlog);
}

static void scan_history(struct stream *stream, struct span line) {
    struct aof_history told;
    if (!stream->in_batch || stream->in_transaction || !aof_history_parse(line, &told)) return;
    bool in_front = stream->ahead.position == stream->batch_from;
    stream->ahead = told;
    stream->foreign = false;
    stream->batch_from = told.position;
    if (!in_front) stream->ahead.id[0] = '\0';
}

/* The batch before `scanned` counts. */
static void settle_history(struct stream *stream) {
    struct aof_backlog *backlog = stream->options->load->backlog;
    struct aof_piece piece = {.from = stream->batch_from,
                              .to = stream->ahead.position,
                              .offset = stream->batch_at,
                              .end_offset = offset_of(stream, stream->scanned),
                              .begins = true};
    stream->verdict->history = stream->ahead;
    if (stream->ahead.id[0] && backlog && stream->in_batch) aof_backlog_note(backlog, &piece);
}

static bool scan_command(struct stream *stream, const struct aof_item *item) {
    if (item->argc == 1 && span_is_word(item->name, "multi")) {
        if (stream->in_transaction)
            return stop_for_bad(stream, "MULTI within a transaction", stream->scanned, stream->scanned);
        stream->in_transaction = true;
        stream->transaction_at = offset_of(stream, stream->scanned);
    } else if (item->argc == 1 && span_is_word(item->name, "exec")) {
        if (!stream->in_transaction)
            return stop_for_bad(stream, "EXEC without MULTI", stream->scanned, stream->scanned);
        stream->in_transaction = false;
    }
    count(stream, item->length);
    stream->scanned += item->length;
    release(stream);
    return true;
}

static bool scan_header(struct stream *stream, const struct aof_annotation *header, size_t length) {
    if (offset_of(stream, stream->scanned) != 0 || !aof_check_follow(&stream->check, header))
        return stop_for_bad(stream, "the header is damaged", stream->scanned, stream->scanned);
    stream->verdict->ours = true;
    stream->scanned += length;
    stream->fed = stream->scanned;
    stream->closing_end = offset_of(stream, stream->scanned);
    release(stream);
    return true;
}

/* The closing that stands at `scanned` does not vouch for what it speaks for. Where that is more than a batch of ours,
 * commands that were given out already may be what is damaged. */
static bool stop_for_mismatch(struct stream *stream, size_t length) {
    static const char what[] = "the checksum of a batch of commands is wrong";
    uint64_t at = offset_of(stream, stream->scanned), from = stream->in_batch ? stream->batch_at : at;
    if (from == stream->closing_end) return stop_for_damage(stream, what, from);
    return stop(stream, AOF_STREAM_CORRUPT, what, stream->closing_end, at + length);
}

static bool scan_closing(struct stream *stream, const struct aof_annotation *closing, size_t length) {
    if (stream->in_transaction)
        return stop_for_bad(stream, "a batch ends within a transaction", stream->scanned, stream->scanned);
    feed(stream);
    if (!aof_check_verify(&stream->check, closing)) return stop_for_mismatch(stream, length);
    stream->scanned += length;
    stream->fed = stream->scanned;
    stream->closing_end = offset_of(stream, stream->scanned);
    settle_history(stream);
    stream->in_batch = false;
    release(stream);
    return true;
}

static bool scan_line(struct stream *stream, const struct aof_item *item) {
    struct span line = span_of(stream->buffer + stream->scanned, item->length);
    struct aof_annotation annotation;
    enum aof_line kind = aof_check_classify(line, &annotation);
    bool ours = stream->verdict->ours;
    if (kind != AOF_LINE_OTHER && kind != AOF_LINE_HEADER && !ours)
        return stop(stream, AOF_STREAM_CORRUPT, "the header is missing", stream->options->start,
                    offset_of(stream, stream->scanned + item->length));
    switch (kind) {
    case AOF_LINE_HEADER: return scan_header(stream, &annotation, item->length);
    case AOF_LINE_CLOSING: return scan_closing(stream, &annotation, item->length);
    case AOF_LINE_BROKEN: return stop_for_bad(stream, "an annotation is damaged", stream->scanned, stream->scanned);
    case AOF_LINE_OPENING:
        if (stream->in_batch || stream->in_transaction)
            return stop_for_bad(stream, "a batch of commands has no end", stream->scanned, stream->scanned);
        enter_batch(stream, stream->scanned);
        break;
    case AOF_LINE_OTHER: {
        bool timestamp =
            item->length > sizeof(AOF_TIME_TAG) && memcmp(line.data, AOF_TIME_TAG, sizeof(AOF_TIME_TAG) - 1) == 0;
        if (ours && !timestamp && !stream->in_batch && !stream->in_transaction) enter_batch(stream, stream->scanned);
        scan_history(stream, line);
        break;
    }
    }
    stream->scanned += item->length;
    release(stream);
    return true;
}

/* Scans what is in the buffer. False: the verdict is spoken. */
static bool scan(struct stream *stream) {
    struct aof_item item;
    while (stream->scanned < stream->filled) {
        struct span rest = span_of(stream->buffer + stream->scanned, stream->filled - stream->scanned);
        switch (aof_parse_item(rest, &item)) {
        case AOF_PARSE_COMMAND:
            if (!scan_command(stream, &item)) return false;
            break;
        case AOF_PARSE_LINE:
            if (!scan_line(stream, &item)) return false;
            break;
        case AOF_PARSE_BAD:
            return stop_for_bad(stream, "what stands there is no command", stream->scanned,
                                stream->scanned + item.bad_at);
        case AOF_PARSE_SHORT: stream->wanted = item.length; return true;
        }
    }
    stream->wanted = 1;
    return true;
}

/* ---- giving out ---- */

static bool give_commands(struct stream *stream) {
    const struct aof_load_options *load = stream->options->load;
    const char *refusal = NULL;
    if (stream->command_count > 0 && !load->apply(load->ctx, stream->commands, stream->command_count, &refusal))
        return stop(stream, AOF_STREAM_REFUSED, refusal, offset_of(stream, stream->given),
                    offset_of(stream, stream->released));
    stream->options->totals->commands += stream->command_count;
    if (load->progress != NULL)
        atomic_fetch_add_explicit(&load->progress->loaded_commands, stream->command_count, memory_order_relaxed);
    stream->command_count = 0;
    stream->word_count = 0;
    return true;
}

static bool have_words(struct stream *stream, size_t count) {
    if (count <= stream->word_capacity - stream->word_count && stream->command_count < AOF_LOAD_BATCH) return true;
    if (!give_commands(stream)) return false;
    if (count <= stream->word_capacity) return true;
    size_t capacity = count < WORDS_AT_FIRST ? WORDS_AT_FIRST : count;
    struct span *words = realloc(stream->words, capacity * sizeof(*words));
    if (words == NULL)
        return stop(stream, AOF_STREAM_NO_MEMORY, "a command has too many words", offset_of(stream, stream->given), 0);
    stream->words = words;
    stream->word_capacity = capacity;
    return true;
}

/* Gives out what is released. */
static bool give(struct stream *stream) {
    struct aof_item item;
    size_t before = stream->given;
    while (stream->given < stream->released) {
        const char *at = stream->buffer + stream->given;
        enum aof_parse_result result = aof_parse_item(span_of(at, stream->released - stream->given), &item);
        bool framing = item.argc == 1 && (span_is_word(item.name, "multi") || span_is_word(item.name, "exec"));
        if (result == AOF_PARSE_COMMAND && !framing) {
            if (!have_words(stream, item.argc)) return false;
            struct span *argv = stream->words + stream->word_count;
            aof_parse_words(at, &item, argv);
            stream->commands[stream->command_count++] = (struct aof_command){.argv = argv, .argc = item.argc};
            stream->word_count += item.argc;
        } else if (result == AOF_PARSE_COMMAND && span_is_word(item.name, "exec")) {
            stream->options->totals->transactions++;
        }
        stream->given += item.length;
    }
    if (!give_commands(stream)) return false;
    struct aof_load_progress *progress = stream->options->load->progress;
    if (progress != NULL)
        atomic_fetch_add_explicit(&progress->loaded_bytes, stream->given - before, memory_order_relaxed);
    return true;
}

/* ---- reading ---- */

/* Moves what is still needed to the buffer's beginning, and sees to it that there is room for the item wanted. */
static bool make_room(struct stream *stream) {
    feed(stream);
    size_t kept = stream->filled - stream->given;
    memmove(stream->buffer, stream->buffer + stream->given, kept);
    stream->base += stream->given;
    stream->released -= stream->given;
    stream->fed -= stream->given;
    stream->scanned -= stream->given;
    stream->filled = kept;
    stream->given = 0;
    size_t needed = stream->scanned + stream->wanted;
    if (needed <= stream->capacity && kept <= stream->capacity / 2) return true;
    size_t capacity = stream->capacity;
    while (capacity < needed || capacity / 2 < kept) capacity *= 2;
    char *buffer = realloc(stream->buffer, capacity);
    if (buffer == NULL)
        return stop(stream, AOF_STREAM_NO_MEMORY, "it does not fit into memory", offset_of(stream, stream->scanned), 0);
    stream->buffer = buffer;
    stream->capacity = capacity;
    return true;
}

/* Reads on. False: the verdict is spoken, the end of the file being one. */
static bool fill(struct stream *stream) {
    const struct aof_load_options *load = stream->options->load;
    if (load->cancel != NULL && atomic_load_explicit(load->cancel, memory_order_relaxed))
        return stop(stream, AOF_STREAM_CANCELLED, NULL, offset_of(stream, stream->scanned), 0);
    /* An item longer than the rest of the file is not waited for: its length may be damaged, and is not allocated. */
    if (stream->wanted > stream->end - offset_of(stream, stream->scanned)) {
        uint64_t read = offset_of(stream, stream->filled);
        if (read == stream->end || stream->scanned < stream->filled) {
            stream->wanted = 1;
            return stop_for_end(stream);
        }
    }
    if (!make_room(stream)) return false;
    uint64_t at = offset_of(stream, stream->filled);
    size_t room = stream->capacity - stream->filled;
    if (room > stream->end - at) room = stream->end - at;
    ssize_t got;
    do got = pread(stream->options->fd, stream->buffer + stream->filled, room, (off_t)at);
    while (got < 0 && errno == EINTR);
    if (got < 0) return stop(stream, AOF_STREAM_IO, "it cannot be read", at, 0);
    if (got == 0) stream->end = at; /* it is shorter than it was */
    stream->filled += (size_t)got;
    return true;
}

enum aof_stream_end aof_stream_run(const struct aof_stream_options *options, struct aof_stream_verdict *verdict) {
    *verdict = (struct aof_stream_verdict){.end = AOF_STREAM_WHOLE};
    struct stream *stream = calloc(1, sizeof(*stream));
    char *buffer = malloc(BUFFER_BYTES);
    if (stream == NULL || buffer == NULL) {
        free(stream);
        free(buffer);
        verdict->what = "there is no memory for a buffer";
        return verdict->end = AOF_STREAM_NO_MEMORY;
    }
    stream->options = options;
    stream->verdict = verdict;
    stream->buffer = buffer;
    stream->capacity = BUFFER_BYTES;
    stream->base = options->start;
    stream->end = options->end;
    stream->wanted = 1;
    if (options->load->backlog) aof_backlog_begin_file(options->load->backlog, options->fd);
    while (fill(stream) && scan(stream) && give(stream)) continue;
    if (verdict->end == AOF_STREAM_TORN) give(stream);
    if (verdict->ours && verdict->end == AOF_STREAM_TORN) {
        /* The chain as it stood where the file may be cut. */
        struct aof_annotation last = {.sequence = stream->check.sequence, .check = stream->check.check};
        verdict->ours = verdict->from == stream->closing_end;
        aof_check_resume(&verdict->check, &last);
    } else if (verdict->ours) {
        feed(stream);
        verdict->check = stream->check;
    }
    free(stream->words);
    free(stream->buffer);
    free(stream);
    return verdict->end;
}
