/* MEMORY: where it goes. The figures are explained in metrics.h. */

#include "keyspace/keyspace_collection.h"
#include "server/allocator.h"
#include "server/families.h"
#include "server/memory_report.h"
#include "server/server.h"

#include <stdio.h>

/* ---- USAGE ---- */

/* Two slots: what a key takes of the index where it is emptiest. A database of a few keys has more, which is nobody's.
 */
#define INDEX_SHARE_MAX 16

/* A key's part of the index of its shard and database. */
static size_t index_share(const struct shard *shard, uint32_t database) {
    const struct index *index = shard->databases[database];
    size_t share = (size_t)((index->bytes + index->count - 1) / index->count);
    return share < INDEX_SHARE_MAX ? share : INDEX_SHARE_MAX;
}

static void command_memory_usage(struct call *call) {
    int64_t samples;
    if (call->argc != 3) {
        if (call->argc != 5 || !call_is(call, 3, "samples")) {
            reply_error(call->reply, ERROR_SYNTAX);
            return;
        }
        if (!call_integer(call, 4, &samples)) return;
        if (samples < 0) {
            reply_error(call->reply, ERROR_SYNTAX);
            return;
        }
    }
    struct lookup lookup = keyspace_find(&call->view, &call->keys[0]);
    if (!lookup.record) {
        reply_null(call->reply);
        return;
    }
    size_t record = lookup_is_cold(&lookup) ? 0 : heap_size_for(record_size(lookup.record));
    size_t value = record_is_paged(lookup.record) ? collection_bytes(lookup_collection(&lookup)) : 0;
    reply_integer(call->reply, (int64_t)(record + value + index_share(lookup.shard, call->view.database)));
}

/* ---- STATS ---- */

static void reply_size(struct reply *reply, const char *name, size_t value) {
    reply_bulk_text(reply, name);
    reply_integer(reply, (int64_t)value);
}

static void reply_ratio(struct reply *reply, const char *name, double part, double whole) {
    reply_bulk_text(reply, name);
    reply_double(reply, whole > 0 ? part / whole : 0);
}

static void reply_waste(struct reply *reply, const char *ratio, const char *bytes, size_t part, size_t whole) {
    reply_ratio(reply, ratio, (double)part, (double)whole);
    reply_bulk_text(reply, bytes);
    reply_integer(reply, (int64_t)part - (int64_t)whole);
}

/* Returns how many databases have keys; `*keys` is how many. */
static size_t reply_databases(struct call *call, uint64_t *keys) {
    size_t databases = 0;
    *keys = 0;
    for (uint32_t database = 0; database < call->view.keyspace->database_count; database++) {
        struct database_usage usage;
        char name[32];
        keyspace_database_usage(&call->view, database, &usage);
        if (!usage.keys) continue;
        databases++;
        *keys += usage.keys;
        snprintf(name, sizeof(name), "db.%u", database);
        reply_bulk_text(call->reply, name);
        reply_map(call->reply, 2);
        reply_size(call->reply, "overhead.hashtable.main", usage.index_bytes);
        reply_size(call->reply, "overhead.hashtable.expires", 0); /* an expiry is part of its record */
    }
    return databases;
}

/* As INFO memory names them. */
static void reply_kinds(struct reply *reply, const struct memory_kinds *kinds) {
    const struct {
        const char *name;
        size_t bytes;
    } all[] = {{"records", kinds->records},
               {"record-slack", kinds->record_slack},
               {"index", kinds->index},
               {"index-slack", kinds->index_slack},
               {"freed-pages", kinds->freed_pages},
               {"regions", kinds->regions},
               {"client-query", kinds->client_query},
               {"client-reply", kinds->client_reply},
               {"client-other", kinds->client_other},
               {"workers", kinds->workers},
               {"io", kinds->io},
               {"tier", kinds->tier},
               {"other", kinds->other},
               {"allocator-slack", kinds->allocator_slack},
               {"program", kinds->program}};
    reply_bulk_text(reply, "resident");
    reply_map(reply, sizeof(all) / sizeof(all[0]) + 1);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) reply_size(reply, all[i].name, all[i].bytes);
    reply_bulk_text(reply, "unaccounted");
    reply_integer(reply, kinds->unaccounted);
}

static void command_memory_stats(struct call *call) {
    struct server *server = server_of(call);
    struct reply *reply = call->reply;
    struct metrics_memory memory;
    uint64_t keys;
    metrics_memory(server, &call->view, &memory);
    size_t dataset = memory.keyspace.record_bytes, startup = server->metrics.used_bytes_at_start;
    size_t net = memory.used_bytes > startup ? memory.used_bytes - startup : 0;
    struct reply_aggregate map = reply_begin(reply);
    reply_size(reply, "peak.allocated", memory.peak_bytes);
    reply_size(reply, "total.allocated", memory.used_bytes);
    reply_size(reply, "startup.allocated", startup);
    reply_size(reply, "replication.backlog", replication_buffer_bytes(server_of(call)));
    reply_size(reply, "clients.slaves", 0);
    reply_size(reply, "clients.normal", memory.client_bytes);
    reply_size(reply, "cluster.links", 0);
    reply_size(reply, "aof.buffer", 0);
    reply_size(reply, "lua.caches", 0);
    reply_size(reply, "functions.caches", 0);
    size_t pairs = 10 + reply_databases(call, &keys);
    reply_size(reply, "overhead.total", memory.used_bytes - dataset);
    reply_size(reply, "keys.count", keys);
    reply_size(reply, "keys.bytes-per-key", keys ? net / keys : 0);
    reply_size(reply, "dataset.bytes", dataset);
    reply_ratio(reply, "dataset.percentage", (double)dataset * 100, (double)net);
    reply_ratio(reply, "peak.percentage", (double)memory.used_bytes * 100, (double)memory.peak_bytes);
    reply_size(reply, "allocator.allocated", memory.allocated_bytes);
    reply_size(reply, "allocator.active", memory.active_bytes);
    reply_size(reply, "allocator.resident", memory.held_bytes);
    reply_waste(reply, "allocator-fragmentation.ratio", "allocator-fragmentation.bytes", memory.active_bytes,
                memory.allocated_bytes);
    reply_waste(reply, "allocator-rss.ratio", "allocator-rss.bytes", memory.held_bytes, memory.active_bytes);
    reply_waste(reply, "rss-overhead.ratio", "rss-overhead.bytes", memory.resident_bytes, memory.held_bytes);
    reply_waste(reply, "fragmentation", "fragmentation.bytes", memory.resident_bytes, memory.used_bytes);
    reply_size(reply, "records.pages", memory.keyspace.page_bytes);
    reply_size(reply, "index.bytes", memory.keyspace.index_bytes);
    reply_size(reply, "index.pages", memory.keyspace.segment_page_bytes);
    reply_size(reply, "freed-pages", memory.keyspace.dirty_bytes);
    reply_kinds(reply, &memory.kinds);
    reply_end(reply, map, '%', pairs + 22);
}

/* ---- the rest ---- */

static void command_memory_doctor(struct call *call) {
    struct server *server = server_of(call);
    struct metrics_memory memory;
    struct text text = {0};
    metrics_memory(server, &call->view, &memory);
    struct memory_findings findings = {.memory = &memory,
                                       .limit_bytes = (uint64_t)server->config.memory.maxmemory_bytes,
                                       .clients = atomic_load_explicit(&server->clients, memory_order_relaxed)};
    memory_diagnose(&findings, &text);
    reply_verbatim(call->reply, text_span(&text));
    text_free(&text);
}

static void command_memory_purge(struct call *call) {
    struct keyspace *keyspace = call->view.keyspace;
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        (void)region_pool_purge(keyspace->pools[i], 0, SIZE_MAX);
        if (keyspace->far_pools && keyspace->far_pools[i]) (void)region_pool_purge(keyspace->far_pools[i], 0, SIZE_MAX);
    }
    (void)allocator_purge();
    reply_ok(call->reply);
}

static void add_piece(void *ctx, const char *piece) {
    text_add(ctx, "%s", piece);
}

static void command_memory_malloc_stats(struct call *call) {
    struct text text = {0};
    allocator_report(add_piece, &text);
    reply_verbatim(call->reply, text_span(&text));
    text_free(&text);
}

static void command_memory_help(struct call *call) {
    static const char *const lines[] = {
        "DOCTOR",
        "    What looks wrong with the memory of this server, in words.",
        "MALLOC-STATS",
        "    The allocator's own report.",
        "PURGE",
        "    Give freed memory back to the system now.",
        "STATS",
        "    Where the memory goes, as figures.",
        "USAGE <key> [SAMPLES <count>]",
        "    The bytes that <key>, its value and its place in the index occupy. They are",
        "    counted, not estimated, so <count> makes no difference.",
        NULL,
    };
    call_help(call, lines);
}

#define SPECIAL "nondeterministic_output request_policy:all_shards response_policy:special"

static const struct command_spec subcommands[] = {
    {.name = "doctor",
     .handler = command_memory_doctor,
     .arity = 2,
     .flags = COMMAND_WALKS,
     .group = "server",
     .since = "4.0.0",
     .summary = "What looks wrong with the memory, in words",
     .complexity = "O(1)",
     .tips = SPECIAL},
    {.name = "help",
     .handler = command_memory_help,
     .arity = 2,
     .flags = COMMAND_LOADING | COMMAND_STALE,
     .group = "server",
     .since = "4.0.0",
     .summary = "What the subcommands do",
     .complexity = "O(1)"},
    {.name = "malloc-stats",
     .handler = command_memory_malloc_stats,
     .arity = 2,
     .group = "server",
     .since = "4.0.0",
     .summary = "The allocator's own report",
     .complexity = "O(N), N pages the allocator holds",
     .tips = SPECIAL},
    {.name = "purge",
     .handler = command_memory_purge,
     .arity = 2,
     .group = "server",
     .since = "4.0.0",
     .summary = "Gives freed memory back to the system",
     .complexity = "O(N), N pages that are free",
     .tips = "request_policy:all_shards response_policy:all_succeeded"},
    {.name = "stats",
     .handler = command_memory_stats,
     .arity = 2,
     .flags = COMMAND_WALKS,
     .group = "server",
     .since = "4.0.0",
     .summary = "Where the memory goes",
     .complexity = "O(1)",
     .tips = SPECIAL},
    {.name = "usage",
     .handler = command_memory_usage,
     .arity = -3,
     .flags = COMMAND_READONLY | COMMAND_KEEP_ACCESS,
     .keys = {KEY_AT(2, KEY_RO)},
     .group = "server",
     .since = "4.0.0",
     .summary = "The bytes a key occupies",
     .complexity = "O(1)",
     .arguments = "key:k [SAMPLES count:i]"},
};

const struct command_spec memory_commands[] = {
    {.name = "memory",
     .arity = -2,
     .group = "server",
     .since = "4.0.0",
     .summary = "What memory is used for",
     .complexity = "Depends on the subcommand",
     .subcommands = subcommands,
     .subcommand_count = sizeof(subcommands) / sizeof(subcommands[0])},
};
const unsigned memory_command_count = sizeof(memory_commands) / sizeof(memory_commands[0]);
