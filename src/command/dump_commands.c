/* DUMP: a value as bytes that RESTORE makes the same value of, here or in Redis.
 *
 * A big collection is composed in one go: pages that are on the tier are all asked for, and the command is run again
 * when they have come. */

#include "command/dispatch.h"
#include "command/dump_value.h"
#include "command/families.h"
#include "command/string_value.h"
#include "keyspace/keyspace_collection.h"
#include "persist/rdb_save.h"

static struct rdb_save_options options_of(const struct call *call) {
    const struct command_host *host = call->dispatcher->host;
    struct rdb_save_options options = {.compress = true};
    if (host) {
        options.version = atomic_load_explicit(&host->rdb_version, memory_order_relaxed);
        options.compress = !atomic_load_explicit(&host->rdb_plain, memory_order_relaxed);
    }
    return options;
}

static bool dump_collection(struct call *call, const struct lookup *lookup, const struct rdb_save_options *options,
                            struct rdb_output *output) {
    struct page_access access = keyspace_pages(&call->view, lookup->shard);
    struct rdb_collection_save save;
    rdb_collection_begin(&save, options, lookup_collection(lookup));
    save.pass_over = access.source != NULL;
    rdb_save_collection_type(output, options, lookup_collection(lookup));
    enum rdb_save_status status = rdb_collection_step(&save, &access, output, SIZE_MAX);
    rdb_collection_end(&save);
    return status == RDB_SAVE_DONE && !access.missing;
}

bool dump_value(struct call *call, const struct lookup *lookup, struct rdb_output *output) {
    const struct rdb_save_options options = options_of(call);
    if (!record_is_paged(lookup->record))
        rdb_save_value(output, &options, lookup->record);
    else if (!dump_collection(call, lookup, &options, output))
        return false;
    rdb_save_payload_end(output, &options);
    return !output->failed;
}

/* About what the payload takes; a string also where nothing was written to it. */
static size_t bytes_of(const struct lookup *lookup) {
    if (!record_is_paged(lookup->record)) return record_size(lookup->record);
    if (record_type(lookup->record) == RECORD_STRING) return string_length(lookup->record);
    return collection_bytes(lookup_collection(lookup));
}

/* A long payload becomes the reply as it lies; a short one is copied to where there is room for it. */
static void reply_payload(struct call *call, struct rdb_output *output) {
    enum { LINE_END = 2 };
    size_t length, capacity;
    if (output->length < LIMIT_REPLY_COPY_BYTES) {
        reply_bulk(call->reply, span_of(output->bytes, output->length));
        return;
    }
    char *bytes = rdb_output_take(output, LINE_END, &length, &capacity);
    if (bytes)
        reply_bulk_owned(call->reply, bytes, length, capacity);
    else
        call_no_memory(call);
}

static void command_dump(struct call *call) {
    struct rdb_output output;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!lookup.record) {
        reply_null(call->reply);
        return;
    }
    size_t bytes = bytes_of(&lookup);
    if (bytes >= LIMIT_REPLY_COPY_BYTES && !reply_may_take(call->reply, bytes)) return;
    rdb_output_init(&output, bytes + 64);
    if (dump_value(call, &lookup, &output))
        reply_payload(call, &output);
    else
        call_no_memory(call);
    rdb_output_free(&output);
}

const struct command_spec dump_commands[] = {
    {.name = "dump",
     .handler = command_dump,
     .arity = 2,
     .flags = COMMAND_READONLY,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS)},
     .group = "generic",
     .since = "2.6.0",
     .summary = "The value of a key as bytes, which RESTORE makes a value of",
     .complexity = "O(N), N bytes of the value",
     .arguments = "key:k",
     .tips = "nondeterministic_output"},
};
const unsigned dump_command_count = sizeof(dump_commands) / sizeof(dump_commands[0]);
