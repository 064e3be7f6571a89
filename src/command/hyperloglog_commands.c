/* HyperLogLog: PFADD, PFCOUNT, PFMERGE and what looks inside. The values are ordinary strings in the format that
 * record/hyperloglog.h draws; so a client may have put anything there, and every step may find it corrupt.
 *
 * A sparse value is changed in a copy, as any addition may grow it, and stored when something changed. A dense value is
 * changed where it is, once an addition has been found that changes it: others neither touch the record nor wake
 * watchers. PFCOUNT of one key writes, too: it keeps the count in the value's header, which is an effect like any. */

#include "command/dispatch.h"
#include "command/effect_chunks.h"
#include "command/families.h"
#include "command/string_value.h"
#include "record/hyperloglog.h"

#include <math.h>
#include <stdlib.h>

/* As Redis has it: the self-test knows what it comes to. */
enum { SPARSE_BYTES_MAX = 3000 };

static void reply_status(struct call *call, enum hyperloglog_status status) {
    if (status == HYPERLOGLOG_OTHER)
        reply_error(call->reply, "WRONGTYPE Key is not a valid HyperLogLog string value.");
    else if (status == HYPERLOGLOG_CORRUPT)
        reply_error(call->reply, "INVALIDOBJ Corrupted HLL object detected");
    else
        call_no_memory(call);
}

/* False unless the key holds a HyperLogLog, by its header; the error is composed. Precondition: it holds something. */
static bool expect_hyperloglog(struct call *call, const struct lookup *lookup) {
    if (!string_expect(call, lookup)) return false;
    if (!record_is_integer(lookup->record) && hyperloglog_check(record_value(lookup->record)) == HYPERLOGLOG_OK)
        return true;
    reply_status(call, HYPERLOGLOG_OTHER);
    return false;
}

static size_t sparse_bytes_max(const struct call *call) {
    return (size_t)call->view.keyspace->limits.sparse_bytes;
}

static bool store_buffer(struct call *call, struct lookup *lookup, const struct hyperloglog_buffer *buffer) {
    int64_t expiry_ms = lookup->record ? record_expiry(lookup->record) : RECORD_EXPIRY_NONE;
    return string_store_raw(call, &call->keys[0], lookup, span_of(buffer->bytes, buffer->length), expiry_ms, true);
}

/* ---- PFADD ---- */

/* What additions came to: an error may follow changes that stay. */
struct addition {
    enum hyperloglog_status status;
    bool changed;
    uint32_t end; /* the argument behind the last one added */
};

static struct addition add_elements(const struct call *call, struct hyperloglog_buffer *buffer) {
    struct addition addition = {.end = 2};
    while (addition.end < call->argc) {
        bool changed = false;
        addition.status = hyperloglog_add(buffer, call->argv[addition.end], sparse_bytes_max(call), &changed);
        addition.changed |= changed;
        if (addition.status != HYPERLOGLOG_OK) break;
        addition.end++;
    }
    return addition;
}

/* A key that is absent or sparse. */
static void add_to_buffer(struct call *call, struct lookup *lookup) {
    struct hyperloglog_buffer buffer = {0};
    bool creates = !lookup->record;
    struct addition addition = {0};
    addition.status = creates ? hyperloglog_create(&buffer) : hyperloglog_copy(&buffer, record_value(lookup->record));
    if (addition.status == HYPERLOGLOG_OK) addition = add_elements(call, &buffer);
    if (creates && addition.status == HYPERLOGLOG_OK) {
        addition.changed = true;
        hyperloglog_invalidate_count(buffer.bytes);
    }
    bool stored = !addition.changed || store_buffer(call, lookup, &buffer);
    if (stored && addition.changed) call_notify(call, NOTIFY_STRING, "pfadd", &call->keys[0]);
    if (stored && addition.changed && addition.status != HYPERLOGLOG_OK) call_effect_part(call, addition.end, 2);
    if (stored && addition.status != HYPERLOGLOG_OK)
        reply_status(call, addition.status);
    else if (stored)
        reply_integer(call->reply, addition.changed);
    if (stored && lookup->record) keyspace_mark_edited(&call->view, lookup);
    free(buffer.bytes);
}

/* Most additions change nothing: they are found out first. */
static void add_to_dense(struct call *call, struct lookup *lookup) {
    struct span value = record_value(lookup->record);
    uint32_t first = 2;
    while (first < call->argc && !hyperloglog_would_raise_dense(value, call->argv[first])) first++;
    if (first == call->argc) {
        keyspace_mark_edited(&call->view, lookup);
    } else {
        uint8_t *bytes = (uint8_t *)string_edit(call, &call->keys[0], lookup, value.length);
        if (!bytes) return;
        for (uint32_t i = first; i < call->argc; i++) (void)hyperloglog_add_to_dense(bytes, call->argv[i]);
        call_notify(call, NOTIFY_STRING, "pfadd", &call->keys[0]);
    }
    reply_integer(call->reply, first < call->argc);
}

static void command_pfadd(struct call *call) {
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (lookup.record && !expect_hyperloglog(call, &lookup)) return;
    if (lookup.record && hyperloglog_is_dense(record_value(lookup.record)))
        add_to_dense(call, &lookup);
    else
        add_to_buffer(call, &lookup);
}

/* ---- PFCOUNT, PFMERGE ---- */

/* Merges the values of all keys that exist. False: an error is composed. */
static bool merge_keys(struct call *call, struct hyperloglog_registers *registers) {
    memset(registers, 0, sizeof(*registers));
    for (uint32_t i = 0; i < call->key_count; i++) {
        struct lookup lookup = keyspace_read(&call->view, &call->keys[i]);
        if (!lookup.record) continue;
        if (!expect_hyperloglog(call, &lookup)) return false;
        enum hyperloglog_status status = hyperloglog_merge(registers, record_value(lookup.record));
        if (status == HYPERLOGLOG_OK) continue;
        reply_status(call, status);
        return false;
    }
    return true;
}

static void count_one(struct call *call) {
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    uint64_t count = 0;
    if (!lookup.record) {
        reply_integer(call->reply, 0);
        return;
    }
    if (!expect_hyperloglog(call, &lookup)) return;
    struct span value = record_value(lookup.record);
    if (hyperloglog_cached_count(value, &count)) {
        keyspace_mark_edited(&call->view, &lookup);
        reply_integer(call->reply, (int64_t)count);
        return;
    }
    enum hyperloglog_status status = hyperloglog_count(value, &count);
    if (status != HYPERLOGLOG_OK) {
        reply_status(call, status);
        return;
    }
    /* Without memory the count is not kept, and still true. */
    char *bytes = keyspace_edit_value(&call->view, &call->keys[0], &lookup, value.length);
    if (bytes) {
        hyperloglog_store_count((uint8_t *)bytes, count);
        call_effect_force(call); /* a command that reads is not told by itself */
    }
    reply_integer(call->reply, (int64_t)count);
}

static void command_pfcount(struct call *call) {
    struct hyperloglog_registers registers;
    if (call->key_count == 1)
        count_one(call);
    else if (merge_keys(call, &registers))
        reply_integer(call->reply, (int64_t)hyperloglog_count_registers(&registers));
}

static void command_pfmerge(struct call *call) {
    struct hyperloglog_registers registers;
    struct hyperloglog_buffer buffer = {0};
    if (!merge_keys(call, &registers)) return;
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    enum hyperloglog_status status =
        lookup.record ? hyperloglog_copy(&buffer, record_value(lookup.record)) : hyperloglog_create(&buffer);
    if (status == HYPERLOGLOG_OK) status = hyperloglog_store_registers(&buffer, &registers, sparse_bytes_max(call));
    if (status != HYPERLOGLOG_OK) {
        reply_status(call, status);
    } else if (store_buffer(call, &lookup, &buffer)) {
        call_notify(call, NOTIFY_STRING, "pfadd", &call->keys[0]);
        reply_ok(call->reply);
    }
    free(buffer.bytes);
}

/* ---- PFDEBUG, PFSELFTEST ---- */

/* Makes the key's value dense, which watchers need not know: it estimates what it did. False: an error is composed. */
static bool convert_to_dense(struct call *call, struct lookup *lookup) {
    struct hyperloglog_buffer buffer = {0};
    enum hyperloglog_status status = hyperloglog_copy(&buffer, record_value(lookup->record));
    if (status == HYPERLOGLOG_OK) status = hyperloglog_make_dense(&buffer);
    call->view.quiet = true;
    bool done = status == HYPERLOGLOG_OK && store_buffer(call, lookup, &buffer);
    call->view.quiet = false;
    if (done) call_effect_force(call);
    if (status != HYPERLOGLOG_OK) reply_status(call, status);
    free(buffer.bytes);
    return done;
}

static void reply_registers(struct call *call, struct lookup *lookup) {
    struct hyperloglog_registers registers;
    if (!hyperloglog_is_dense(record_value(lookup->record)) && !convert_to_dense(call, lookup)) return;
    memset(&registers, 0, sizeof(registers));
    enum hyperloglog_status status = hyperloglog_merge(&registers, record_value(lookup->record));
    if (status != HYPERLOGLOG_OK) {
        reply_status(call, status);
        return;
    }
    reply_array(call->reply, HYPERLOGLOG_REGISTERS);
    for (int i = 0; i < HYPERLOGLOG_REGISTERS; i++) reply_integer(call->reply, registers.value[i]);
}

static void reply_runs(struct call *call, struct span value) {
    char *text = NULL;
    size_t length;
    if (hyperloglog_is_dense(value)) {
        reply_error(call->reply, "ERR HLL encoding is not sparse");
        return;
    }
    enum hyperloglog_status status = hyperloglog_decode(value, &text, &length);
    if (status == HYPERLOGLOG_OK)
        reply_bulk(call->reply, span_of(text, length));
    else
        reply_status(call, status);
    free(text);
}

static void command_pfdebug(struct call *call) {
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (!lookup.record) {
        reply_error(call->reply, "ERR The specified key does not exist");
        return;
    }
    if (!expect_hyperloglog(call, &lookup)) return;
    keyspace_mark_edited(&call->view, &lookup);
    struct span value = record_value(lookup.record);
    bool is_dense = hyperloglog_is_dense(value);
    if (call_is(call, 1, "getreg")) {
        reply_registers(call, &lookup);
    } else if (call_is(call, 1, "decode")) {
        reply_runs(call, value);
    } else if (call_is(call, 1, "encoding")) {
        reply_simple(call->reply, is_dense ? "dense" : "sparse");
    } else if (call_is(call, 1, "todense")) {
        if (is_dense || convert_to_dense(call, &lookup)) reply_integer(call->reply, !is_dense);
    } else {
        reply_error_format(call->reply, "ERR Unknown PFDEBUG subcommand '%.*s'", (int)call->argv[1].length,
                           call->argv[1].data);
    }
}

enum { SELFTEST_ELEMENTS = 50000, SELFTEST_STEP = 5000 };

/* Adds elements to a sparse and to a dense value alike; every so often both must say the same, and be right within six
 * standard errors. NULL: all is well; else what is wrong. */
static const char *find_fault(struct hyperloglog_buffer *sparse, struct hyperloglog_buffer *dense) {
    const double tolerance = 6 * 1.04 / sqrt(HYPERLOGLOG_REGISTERS);
    if (hyperloglog_create(sparse) != HYPERLOGLOG_OK || hyperloglog_create(dense) != HYPERLOGLOG_OK ||
        hyperloglog_make_dense(dense) != HYPERLOGLOG_OK)
        return "no memory";
    for (int64_t i = 1; i <= SELFTEST_ELEMENTS; i++) {
        char text[NUMBER_TEXT_MAX];
        struct span element = span_of(text, number_format_i64(i, text));
        bool changed;
        if (hyperloglog_add(sparse, element, SPARSE_BYTES_MAX, &changed) != HYPERLOGLOG_OK) return "an addition failed";
        if (hyperloglog_add_to_dense(dense->bytes, element) != changed) return "sparse and dense values differ";
        if (i % SELFTEST_STEP != 0) continue;
        uint64_t counts[2];
        if (hyperloglog_count(span_of(sparse->bytes, sparse->length), &counts[0]) != HYPERLOGLOG_OK ||
            hyperloglog_count(span_of(dense->bytes, dense->length), &counts[1]) != HYPERLOGLOG_OK)
            return "a count failed";
        if (counts[0] != counts[1]) return "sparse and dense counts differ";
        if (fabs((double)counts[0] - (double)i) > tolerance * (double)i) return "the error is too large";
    }
    return NULL;
}

static void command_pfselftest(struct call *call) {
    struct hyperloglog_buffer sparse = {0}, dense = {0};
    const char *fault = find_fault(&sparse, &dense);
    if (fault)
        reply_error_format(call->reply, "TESTFAILED %s", fault);
    else
        reply_ok(call->reply);
    free(sparse.bytes);
    free(dense.bytes);
}

/* ---- the family ---- */

#define HYPERLOGLOG_ROW .categories = CATEGORY_HYPERLOGLOG, .group = "hyperloglog", .since = "2.8.9"

const struct command_spec hyperloglog_commands[] = {
    {.name = "pfadd",
     .handler = command_pfadd,
     .arity = -2,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_FAST,
     HYPERLOGLOG_ROW,
     .keys = {KEY_AT(1, KEY_RW | KEY_INSERT)},
     .summary = "Adds elements to the set that a HyperLogLog estimates; makes the key if it is absent",
     .complexity = "O(1) for each element",
     .arguments = "key:k [element:s...]"},
    {.name = "pfcount",
     .handler = command_pfcount,
     .arity = -2,
     .flags = COMMAND_READONLY | COMMAND_MAY_REPLICATE,
     HYPERLOGLOG_ROW,
     .keys = {{.flags = KEY_RW | KEY_ACCESS,
               .index = 1,
               .last = -1,
               .step = 1,
               .notes = "RW: the estimate is kept in the value"}},
     .summary = "Estimates how many different elements were added to the keys, all together",
     .complexity = "O(1) for one key with a valid cached estimate; O(N) registers merged for N keys",
     .arguments = "key:k..."},
    {.name = "pfmerge",
     .handler = command_pfmerge,
     .arity = -2,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM,
     HYPERLOGLOG_ROW,
     .keys = {KEY_AT(1, KEY_RW | KEY_ACCESS | KEY_INSERT), KEYS_FROM(2, -1, 1, KEY_RO | KEY_ACCESS)},
     .summary = "Adds the elements of several HyperLogLogs to one",
     .complexity = "O(N) where N is the number of keys, each a pass over 16384 registers",
     .arguments = "destkey:k sourcekey:k..."},
    {.name = "pfdebug",
     .internal = true,
     .handler = command_pfdebug,
     .arity = 3,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_ADMIN,
     HYPERLOGLOG_ROW,
     .keys = {KEY_AT(2, KEY_RW | KEY_ACCESS)},
     .summary = "Shows how a HyperLogLog is represented: GETREG, DECODE, "
                "ENCODING, TODENSE",
     .complexity = "O(1), a pass over 16384 registers at most",
     .arguments = "subcommand:s key:k"},
    {.name = "pfselftest",
     .internal = true,
     .handler = command_pfselftest,
     .arity = 1,
     .flags = COMMAND_ADMIN,
     HYPERLOGLOG_ROW,
     .summary = "Checks sparse and dense HyperLogLogs against each other and against the truth",
     .complexity = "O(1), some milliseconds"},
};
const unsigned hyperloglog_command_count = sizeof(hyperloglog_commands) / sizeof(hyperloglog_commands[0]);
