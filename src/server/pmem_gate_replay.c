/* The start: what the pool's journal holds behind the last checkpoint is run again. See pmem_gate.h.
 *
 * A frame holds whole effects, unless it says that its last one goes on in the next; then the frames are put together
 * first. One whose end never came was never acknowledged, and is left out. Commands are run where they lie in the pool,
 * by several threads (replay_lanes.h); MULTI and EXEC are left out, as nobody can see what stands between them. */

#include "base/clock.h"
#include "base/log.h"
#include "persist/aof_parse.h"
#include "server/aof_replay.h"
#include "server/pmem_gate.h"
#include "server/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS_KEPT = 1024, BUFFER_KEPT = 1 << 20 };

struct replaying {
    struct server *server;
    struct aof_replay *replay;
    struct aof_command commands[AOF_LOAD_BATCH];
    unsigned count;
    struct span *arguments; /* of all commands of the batch */
    size_t argument_count, argument_capacity;
    char *buffer; /* of an effect that several frames hold */
    size_t buffered, buffer_capacity;
    uint64_t total;
    struct rdb_history history; /* behind the last whole effect */
    const char *refusal;
};

/* ---- running ---- */

static bool run_batch(struct replaying *replaying) {
    unsigned count = replaying->count;
    replaying->count = 0;
    replaying->argument_count = 0;
    if (count == 0) return true;
    replaying->total += count;
    return aof_replay_apply(replaying->replay, replaying->commands, count, &replaying->refusal);
}

/* Room for the words of one more command; false: no memory. What is in the batch is run if it would move. */
static bool reserve(struct replaying *replaying, uint32_t count) {
    if (replaying->argument_count + count <= replaying->argument_capacity) return true;
    if (!run_batch(replaying)) return false;
    if (count <= replaying->argument_capacity) return true;
    size_t capacity = count > ARGUMENTS_KEPT ? count : ARGUMENTS_KEPT;
    struct span *arguments = realloc(replaying->arguments, capacity * sizeof(*arguments));
    if (!arguments) {
        replaying->refusal = "there is no memory for a command";
        return false;
    }
    replaying->arguments = arguments;
    replaying->argument_capacity = capacity;
    return true;
}

/* Nothing of the words is needed any more. */
static bool settle(struct replaying *replaying) {
    return run_batch(replaying) && aof_replay_settle(replaying->replay, &replaying->refusal);
}

static bool run_command(struct replaying *replaying, const char *command, const struct aof_item *item) {
    if (span_is_word(item->name, "multi") || span_is_word(item->name, "exec")) return true;
    if (!reserve(replaying, item->argc)) return false;
    struct span *argv = replaying->arguments + replaying->argument_count;
    aof_parse_words(command, item, argv);
    replaying->argument_count += item->argc;
    replaying->commands[replaying->count++] = (struct aof_command){.argv = argv, .argc = item->argc};
    return replaying->count < AOF_LOAD_BATCH || run_batch(replaying);
}

/* Whole effects. */
static bool run_effects(struct replaying *replaying, struct span bytes) {
    while (bytes.length > 0) {
        struct aof_item item;
        if (atomic_load_explicit(&replaying->server->loading.cancel, memory_order_relaxed)) return false;
        if (aof_parse_item(bytes, &item) != AOF_PARSE_COMMAND) {
            replaying->refusal = "it holds what is no command";
            return false;
        }
        if (!run_command(replaying, bytes.data, &item)) return false;
        bytes = span_of(bytes.data + item.length, bytes.length - item.length);
    }
    return true;
}

static bool keep(struct replaying *replaying, struct span bytes) {
    if (replaying->buffered + bytes.length > replaying->buffer_capacity) {
        size_t capacity = (replaying->buffered + bytes.length) * 2;
        char *buffer = realloc(replaying->buffer, capacity);
        if (!buffer) {
            replaying->refusal = "there is no memory for an effect";
            return false;
        }
        replaying->buffer = buffer;
        replaying->buffer_capacity = capacity;
    }
    memcpy(replaying->buffer + replaying->buffered, bytes.data, bytes.length);
    replaying->buffered += bytes.length;
    return true;
}

/* See journal_layout.h. */
static bool take_history(struct replaying *replaying, struct span line) {
    struct rdb_history *history = &replaying->history;
    char text[128];
    int end = 0;
    snprintf(text, sizeof(text), "%.*s", line.length < sizeof(text) ? (int)line.length : 0, line.data);
    if (sscanf(text, "%40[0-9a-f] %" SCNu64 " %d%n", history->id, &history->offset, &history->database, &end) == 3 &&
        text[end] == '\0' && strlen(history->id) == sizeof(history->id) - 1)
        return true;
    replaying->refusal = "it holds a line of history that cannot be read";
    return false;
}

static bool run_whole(struct replaying *replaying, struct span payload, bool history) {
    if (history) return take_history(replaying, payload);
    replaying->history.offset += payload.length;
    return run_effects(replaying, payload);
}

static bool run_frame(struct replaying *replaying, const struct pmem_journal_frame *frame) {
    if (!frame->open && replaying->buffered == 0) return run_whole(replaying, frame->payload, frame->history);
    if (!keep(replaying, frame->payload)) return false;
    if (frame->open) return true;
    struct span whole = span_of(replaying->buffer, replaying->buffered);
    replaying->buffered = 0;
    /* The words lie in the buffer. */
    bool ran = run_whole(replaying, whole, frame->history) && settle(replaying);
    if (replaying->buffer_capacity <= BUFFER_KEPT) return ran;
    free(replaying->buffer);
    replaying->buffer = NULL;
    replaying->buffer_capacity = 0;
    return ran;
}

/* ---- the journal ---- */

/* False: the log says why, unless it was cancelled. */
static bool run_journal(struct replaying *replaying, struct pmem_place from) {
    struct pmem_gate *gate = &replaying->server->pmem_gate;
    struct pmem_journal_reading reading;
    struct pmem_journal_frame frame;
    enum pmem_journal_found found;
    if (!pmem_journal_read_from(from, &reading)) {
        log_warning("the pool's checkpoint names no place of its journal");
        return false;
    }
    gate->first = gate->end = reading.next;
    while ((found = pmem_journal_next(gate->journal, &reading, &frame)) == PMEM_JOURNAL_FRAME) {
        gate->replayed_frames++;
        if (!run_frame(replaying, &frame)) return false;
        if (!frame.open) gate->end = reading.next;
    }
    if (found == PMEM_JOURNAL_DAMAGED)
        log_warning("the journal of the pool is damaged: %s. terrace-pool repair keeps what lies before",
                    reading.error);
    return found == PMEM_JOURNAL_END && settle(replaying);
}

/* What follows a cut goes on in the database that the stream had selected there. */
static bool begin_in_database(struct replaying *replaying) {
    int database = replaying->history.database;
    if (!replaying->history.id[0] || database < 0) return true;
    if (aof_replay_select(replaying->replay, database)) return true;
    replaying->refusal = "its stream has selected a database that is not here (databases)";
    return false;
}

bool pmem_gate_replay(struct server *server, struct pmem_place from, const struct rdb_history *history) {
    struct pmem_gate *gate = &server->pmem_gate;
    struct replaying replaying = {
        .server = server, .replay = aof_replay_create(server, NULL, true), .history = *history};
    int64_t started_ms = clock_unix_ms();
    const char *code;
    if (!replaying.replay) {
        log_warning("there is no memory to replay the journal of the pool with");
        return false;
    }
    bool done = begin_in_database(&replaying) && run_journal(&replaying, from);
    if (!done && replaying.refusal)
        log_warning("the journal of the pool cannot be replayed: within %" PRIu64 " commands before byte %" PRIu64
                    " of its ring: %s",
                    replaying.total, gate->end.position, replaying.refusal);
    uint64_t failures = aof_replay_failures(replaying.replay, &code);
    if (done && failures)
        log_warning("%" PRIu64 " commands of the pool's journal failed, the first with -%s; they were passed by",
                    failures, code);
    gate->history = replaying.history;
    gate->history.database = (int)aof_replay_database(replaying.replay);
    aof_replay_destroy(replaying.replay);
    free(replaying.arguments);
    free(replaying.buffer);
    gate->replayed_commands = replaying.total;
    gate->replay_ms = clock_unix_ms() - started_ms;
    if (done && gate->replayed_frames)
        log_notice("journal of the pool: %" PRIu64 " commands of %" PRIu64 " frames in %.3f seconds", replaying.total,
                   gate->replayed_frames, (double)gate->replay_ms / 1000);
    return done;
}

bool pmem_gate_has_tail(const struct server *server, struct pmem_place from) {
    struct pmem_journal_reading reading;
    struct pmem_journal_frame frame;
    if (!pmem_journal_read_from(from, &reading)) return true;
    enum pmem_journal_found found;
    do found = pmem_journal_next(server->pmem_gate.journal, &reading, &frame);
    while (found == PMEM_JOURNAL_FRAME && frame.history);
    return found != PMEM_JOURNAL_END;
}
