/* Bitmaps: BITFIELD, which reads and writes integers of 1 to 64 bits anywhere in a string.
 *
 *   parse all operations -> look the key up -> make room up to the last bit written -> carry them out in order
 *
 * Nothing is changed unless all operations are well formed. Writes that would leave every bit as it is are found by a
 * first pass without writing (up to the first operation that changes something, the value is what it was), so that
 * they neither copy a value that is being sent nor wake watchers. Those that change something first have all their
 * pages made ready, so that none of them fails. Such a BITFIELD still makes room (every write may have failed by
 * OVERFLOW FAIL), quietly. */

#include "command/bitmap_handlers.h"
#include "command/bitmap_value.h"

#include <assert.h>
#include <stdlib.h>

enum field_kind { FIELD_GET, FIELD_SET, FIELD_INCREMENT };

struct field_operation {
    enum field_kind kind;
    enum bits_overflow overflow;
    bool is_signed;
    unsigned width;
    uint64_t offset;
    int64_t operand;
};

struct field_plan {
    size_t count;
    size_t bytes_written; /* up to the last bit that a write reaches; 0: only reads */
    struct field_operation operations[];
};

/* ---- parsing ---- */

static bool parse_type(struct call *call, uint32_t index, struct field_operation *operation) {
    struct span text = call->argv[index];
    int64_t width;
    operation->is_signed = text.length > 0 && text.data[0] == 'i';
    if ((operation->is_signed || (text.length > 0 && text.data[0] == 'u')) &&
        number_parse_i64(span_of(text.data + 1, text.length - 1), &width) && width >= 1 &&
        width <= BITS_FIELD_WIDTH_MAX - (operation->is_signed ? 0 : 1)) {
        operation->width = (unsigned)width;
        return true;
    }
    reply_error(call->reply, "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but "
                             "i64 is.");
    return false;
}

static bool parse_overflow(struct call *call, uint32_t index, enum bits_overflow *overflow) {
    if (call_is(call, index, "wrap")) {
        *overflow = BITS_OVERFLOW_WRAP;
    } else if (call_is(call, index, "sat")) {
        *overflow = BITS_OVERFLOW_SATURATE;
    } else if (call_is(call, index, "fail")) {
        *overflow = BITS_OVERFLOW_FAIL;
    } else {
        reply_error(call->reply, "ERR Invalid OVERFLOW type specified");
        return false;
    }
    return true;
}

static bool parse_kind(struct call *call, uint32_t index, enum field_kind *kind) {
    uint32_t behind = call->argc - index - 1;
    if (call_is(call, index, "get") && behind >= 2) {
        *kind = FIELD_GET;
    } else if (call_is(call, index, "set") && behind >= 3) {
        *kind = FIELD_SET;
    } else if (call_is(call, index, "incrby") && behind >= 3) {
        *kind = FIELD_INCREMENT;
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    return true;
}

/* Fills in the plan, which has room for an operation for every three arguments. False: the error is composed. */
static bool parse_operations(struct call *call, struct field_plan *plan) {
    enum bits_overflow overflow = BITS_OVERFLOW_WRAP;
    for (uint32_t index = 2; index < call->argc;) {
        if (call_is(call, index, "overflow") && index + 1 < call->argc) {
            if (!parse_overflow(call, index + 1, &overflow)) return false;
            index += 2;
            continue;
        }
        struct field_operation *operation = &plan->operations[plan->count];
        *operation = (struct field_operation){.overflow = overflow};
        if (!parse_kind(call, index, &operation->kind) || !parse_type(call, index + 1, operation) ||
            !bitmap_offset_parse(call, index + 2, operation->width, &operation->offset))
            return false;
        if (operation->kind != FIELD_GET) {
            size_t end = (operation->offset + operation->width - 1) / 8 + 1;
            if (!call_integer(call, index + 3, &operation->operand)) return false;
            if (end > plan->bytes_written) plan->bytes_written = end;
        }
        index += operation->kind == FIELD_GET ? 3 : 4;
        plan->count++;
    }
    return true;
}

/* ---- carrying out ---- */

struct field_outcome {
    bool fails; /* it would overflow, and is not to: the reply is null */
    bool changes;
    int64_t reply;
    uint64_t stored; /* what is to be stored if it changes */
};

static struct field_outcome evaluate_signed(const struct field_operation *operation, int64_t old) {
    bool adds = operation->kind == FIELD_INCREMENT;
    int64_t value = old;
    if (!bits_add_signed(adds ? old : operation->operand, adds ? operation->operand : 0, operation->width,
                         operation->overflow, &value))
        return (struct field_outcome){.fails = true};
    return (struct field_outcome){.changes = value != old, .reply = adds ? value : old, .stored = (uint64_t)value};
}

static struct field_outcome evaluate_unsigned(const struct field_operation *operation, uint64_t old) {
    bool adds = operation->kind == FIELD_INCREMENT;
    uint64_t value = old;
    if (!bits_add_unsigned(adds ? old : (uint64_t)operation->operand, adds ? operation->operand : 0, operation->width,
                           operation->overflow, &value))
        return (struct field_outcome){.fails = true};
    return (struct field_outcome){.changes = value != old, .reply = (int64_t)(adds ? value : old), .stored = value};
}

static struct field_outcome evaluate(const struct field_operation *operation, struct bitmap *map) {
    if (operation->is_signed) {
        int64_t value = bitmap_get_signed(map, operation->offset, operation->width);
        if (operation->kind == FIELD_GET) return (struct field_outcome){.reply = value};
        return evaluate_signed(operation, value);
    }
    uint64_t value = bitmap_get(map, operation->offset, operation->width);
    if (operation->kind == FIELD_GET) return (struct field_outcome){.reply = (int64_t)value};
    return evaluate_unsigned(operation, value);
}

/* Whether the plan changes the value. Growing is no change by itself: it counts with the first write that does not
 * fail. Reads every field, so that all missing pages are asked for at once. */
static bool changes_anything(const struct field_plan *plan, struct bitmap *map) {
    bool grows = map->length < plan->bytes_written, changes = false;
    for (size_t i = 0; i < plan->count && (!changes || map->is_paged); i++) {
        const struct field_operation *operation = &plan->operations[i];
        struct field_outcome outcome = evaluate(operation, map);
        if (outcome.changes || (grows && operation->kind != FIELD_GET && !outcome.fails)) changes = true;
    }
    return changes;
}

/* Makes sure that no write fails after the first. */
static enum page_status prepare_writes(const struct field_plan *plan, struct bitmap *map) {
    enum page_status status = PAGE_DONE;
    for (size_t i = 0; i < plan->count && status == PAGE_DONE; i++) {
        const struct field_operation *operation = &plan->operations[i];
        if (operation->kind != FIELD_GET) status = bitmap_prepare(map, operation->offset, operation->width);
    }
    return status;
}

/* Replies to every operation. If any of them changes something, the value has been prepared for it. */
static void reply_outcomes(struct call *call, const struct field_plan *plan, struct bitmap *map) {
    reply_array(call->reply, plan->count);
    for (size_t i = 0; i < plan->count; i++) {
        const struct field_operation *operation = &plan->operations[i];
        struct field_outcome outcome = evaluate(operation, map);
        if (outcome.changes) {
            enum page_status status = bitmap_put(map, operation->offset, operation->width, outcome.stored);
            assert(status == PAGE_DONE);
        }
        if (outcome.fails)
            reply_null(call->reply);
        else
            reply_integer(call->reply, outcome.reply);
    }
}

/* The plan writes, and changes something. */
static void run_changes(struct call *call, const struct field_plan *plan, struct lookup *lookup, struct bitmap *map) {
    const struct key *key = &call->keys[0];
    struct reply_mark mark = reply_mark(call->reply);
    if (!bitmap_edit(call, key, lookup, plan->bytes_written, map)) return;
    enum page_status status = prepare_writes(plan, map);
    if (status == PAGE_DONE) reply_outcomes(call, plan, map);
    if (bitmap_end(call, key, lookup, map, status)) {
        call_notify(call, NOTIFY_STRING, "setbit", key);
    } else if (status == PAGE_DONE) {
        reply_rewind(call->reply, mark);
        call_no_memory(call);
    }
}

static void run_plan(struct call *call, const struct field_plan *plan) {
    const struct key *key = &call->keys[0];
    bool writes = plan->bytes_written > 0;
    struct bitmap map;
    if (writes && (call->command->flags & COMMAND_READONLY)) {
        reply_error(call->reply, "ERR BITFIELD_RO only supports the GET subcommand");
        return;
    }
    struct lookup lookup = writes ? keyspace_find_for_write(&call->view, key) : keyspace_read(&call->view, key);
    if (!string_expect(call, &lookup)) return;
    bitmap_open(&map, call, &lookup);
    bool changes = writes && changes_anything(plan, &map);
    if (bitmap_misses(&map)) return;
    if (changes) {
        run_changes(call, plan, &lookup, &map);
        return;
    }
    if (writes) {
        if (!bitmap_settle(call, key, &lookup, plan->bytes_written)) return;
        bitmap_open(&map, call, &lookup);
    }
    reply_outcomes(call, plan, &map);
}

/* BITFIELD and BITFIELD_RO; their rows tell them apart. */
void command_bitfield(struct call *call) {
    struct field_plan *plan = malloc(sizeof(*plan) + (call->argc / 3 + 1) * sizeof(struct field_operation));
    if (!plan) {
        call_no_memory(call);
        return;
    }
    plan->count = plan->bytes_written = 0;
    if (parse_operations(call, plan)) run_plan(call, plan);
    free(plan);
}
