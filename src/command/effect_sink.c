/* From handlers to the journal. See effect_sink.h.
 *
 * Most effects are the words of one command, whose bytes as the client sent them are copied into the place that is
 * reserved for them in the ring; words that came otherwise are written there. What handlers tell, and what a
 * transaction collects, passes through the sink's buffer.
 *
 *   bytes:  SET a 1 | SELECT 3 | DEL b | INCRBYFLOAT's SET c 2.5
 *                              ^ mark: what the present command has told begins here
 *
 * What is removed by expiry while a command of a transaction runs comes before all that this command has told, because
 * to the command it has never been there. */

#include "command/effect_sink.h"

#include "command/command.h"
#include "command/dispatch.h"
#include "command/effect_bytes.h"

#include <assert.h>
#include <stdlib.h>

enum { KEPT_BYTES = 256 * 1024 }; /* of a buffer that a large effect made grow */

void effect_sink_free(struct effect_sink *sink) {
    free(sink->bytes);
    *sink = (struct effect_sink){0};
}

struct effect_sink *effect_sink_wanted(struct dispatcher *dispatcher, const struct session *session,
                                       const struct command *command) {
    struct effect_sink *sink = &dispatcher->effects;
    if (__builtin_expect(!sink->journal, 1)) return NULL;
    return session->replaying || (command->flags & COMMAND_CONTROL) ? NULL : sink;
}

/* ---- into the ring ---- */

static void put_word(struct journal_append *append, struct span word) {
    char head[EFFECT_NUMBER_BYTES];
    journal_put(append, head, (size_t)(effect_bytes_number(head, '$', word.length) - head));
    journal_put(append, word.data, word.length);
    journal_put(append, "\r\n", 2);
}

/* As it came from the client. */
static void append_received(struct effect_sink *sink, uint32_t database, struct span received) {
    struct journal_append append;
    journal_begin(sink->journal, sink->writer, database, JOURNAL_SAME_DATABASE, received.length, &append);
    journal_put(&append, received.data, received.length);
    (void)journal_commit(&append);
}

static void append_words(struct effect_sink *sink, uint32_t database, const struct span *argv, uint32_t argc) {
    struct journal_append append;
    size_t bytes = effect_bytes_of(argv, argc);
    journal_begin(sink->journal, sink->writer, database, JOURNAL_SAME_DATABASE, bytes, &append);
    char *to = journal_place(&append, bytes);
    if (__builtin_expect(to != NULL, 1)) {
        (void)effect_bytes_write(to, argv, argc);
    } else { /* around the ring's end, or without room for all of it */
        char head[EFFECT_NUMBER_BYTES];
        journal_put(&append, head, (size_t)(effect_bytes_number(head, '*', argc) - head));
        for (uint32_t i = 0; i < argc; i++) put_word(&append, argv[i]);
    }
    (void)journal_commit(&append);
}

static void empty(struct effect_sink *sink) {
    sink->length = sink->mark = 0;
    sink->count = sink->mark_count = 0;
    if (sink->capacity <= KEPT_BYTES) return;
    free(sink->bytes);
    sink->bytes = NULL;
    sink->capacity = 0;
}

static void append_collected(struct effect_sink *sink) {
    static const char multi[] = "*1\r\n$5\r\nMULTI\r\n", exec[] = "*1\r\n$4\r\nEXEC\r\n";
    struct journal_append append;
    bool together = sink->count > 1;
    size_t around = together ? sizeof(multi) - 1 + sizeof(exec) - 1 : 0;
    if (sink->count == 0 || !sink->journal) { /* without a journal: this server has just become a replica */
        empty(sink);
        return;
    }
    journal_begin(sink->journal, sink->writer, sink->first_database, sink->database, sink->length + around, &append);
    if (together) journal_put(&append, multi, sizeof(multi) - 1);
    journal_put(&append, sink->bytes, sink->length);
    if (together) journal_put(&append, exec, sizeof(exec) - 1);
    (void)journal_commit(&append);
    empty(sink);
}

/* ---- one command ---- */

void effect_sink_open(struct call *call) {
    struct effect_sink *sink = call->effects;
    assert(!sink->composing);
    if (!sink->collecting) sink->first_database = sink->database = call->view.database;
    sink->dirty = false;
    sink->told = EFFECT_OWN_WORDS;
    sink->mark = sink->length;
    sink->mark_count = sink->count;
    sink->mark_database = sink->database;
    call->view.effects_dirty = &sink->dirty;
}

/* Back to the mark, with what was selected there. */
static void forget_told(struct effect_sink *sink) {
    sink->length = sink->mark;
    sink->count = sink->mark_count;
    sink->database = sink->mark_database;
}

static bool tells_own_words(const struct call *call, const struct effect_sink *sink) {
    if (sink->told == EFFECT_FORCED) return true;
    if (sink->told != EFFECT_OWN_WORDS || !sink->dirty || call->blocks) return false;
    return call->command->flags & (COMMAND_WRITE | COMMAND_MAY_REPLICATE);
}

void effect_sink_close(struct call *call) {
    struct effect_sink *sink = call->effects;
    bool dropped = call->waits || call->unfinished;
    assert(dropped || !sink->composing);
    sink->composing = false;
    call->view.effects_dirty = NULL;
    if (dropped || sink->told != EFFECT_TOLD) forget_told(sink);
    if (!dropped && tells_own_words(call, sink)) {
        if (!sink->collecting) {
            if (effect_bytes_are(call->received, call->argv, call->argc))
                append_received(sink, call->view.database, call->received);
            else
                append_words(sink, call->view.database, call->argv, call->argc);
            return;
        }
        effect_bytes_select(sink, call->view.database);
        effect_bytes_add(sink, call->argv, call->argc);
    }
    if (sink->collecting) {
        sink->mark = sink->length;
        sink->mark_count = sink->count;
        sink->mark_database = sink->database;
    } else if (sink->length > 0) {
        append_collected(sink);
    }
}

/* ---- transactions ---- */

void effect_sink_begin(struct effect_sink *sink, uint32_t database) {
    assert(!sink->collecting && sink->length == 0);
    sink->collecting = true;
    sink->first_database = sink->database = database;
    sink->mark_database = database;
}

void effect_sink_end(struct effect_sink *sink) {
    assert(sink->collecting);
    sink->collecting = false;
    append_collected(sink);
}

/* ---- what the keyspace removes ---- */

/* The thread's own; the keyspace does not know on whose behalf it removes. */
static _Thread_local struct effect_sink *bound;

void effect_sink_bind(struct effect_sink *sink) {
    bound = sink;
}

static void reverse(char *from, char *to) {
    while (from < to && from < --to) {
        char byte = *from;
        *from++ = *to;
        *to = byte;
    }
}

/* Moves what lies from `middle` on in front of what lies from `from` on. */
static void rotate(char *from, char *middle, char *end) {
    reverse(from, middle);
    reverse(middle, end);
    reverse(from, end);
}

/* In front of what the present command has told, if anything; that goes on in the database it was told in. */
static void collect_removal(struct effect_sink *sink, uint32_t database, const struct span *argv, uint32_t argc) {
    size_t before = sink->length;
    uint32_t told_in = sink->database;
    if (before == sink->mark) {
        effect_bytes_select(sink, database);
        effect_bytes_add(sink, argv, argc);
        sink->mark_database = database;
    } else {
        sink->database = sink->mark_database;
        effect_bytes_select(sink, database);
        effect_bytes_add(sink, argv, argc);
        effect_bytes_select(sink, sink->mark_database);
        sink->database = told_in;
        rotate(sink->bytes + sink->mark, sink->bytes + before, sink->bytes + sink->length);
    }
    size_t added = sink->length - before;
    sink->mark += added;
    sink->mark_count++;
    sink->head += added;
}

static void tell_removal(uint32_t database, const struct span *argv, uint32_t argc) {
    struct effect_sink *sink = bound;
    assert(sink); /* a thread that works on a keyspace has one */
    if (!sink->journal) return;
    if (sink->collecting)
        collect_removal(sink, database, argv, argc);
    else
        append_words(sink, database, argv, argc);
}

static void key_removed(struct span key, uint32_t database) {
    tell_removal(database, (const struct span[]){SPAN_LITERAL("DEL"), key}, 2);
}

static void field_removed(struct span key, uint32_t database, struct span field) {
    tell_removal(database, (const struct span[]){SPAN_LITERAL("HDEL"), key, field}, 3);
}

void effect_sink_listen(struct keyspace *keyspace, bool wanted) {
    keyspace->removal = wanted ? (struct keyspace_removal){key_removed, field_removed} : (struct keyspace_removal){0};
}
