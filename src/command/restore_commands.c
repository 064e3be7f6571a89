/* RESTORE: a key gets the value that DUMP gave away, here or in Redis.
 *
 * The payload is checked in every respect, whatever the configuration says, and the value is complete before the key's
 * old one is touched: a payload that is refused changes nothing. */

#include "base/log.h"
#include "command/dispatch.h"
#include "command/effect.h"
#include "command/families.h"
#include "persist/crc64.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_value_load.h"

#include <stdlib.h>

#define ERROR_PAYLOAD "ERR DUMP payload version or checksum are wrong"
#define ERROR_FORMAT  "ERR Bad data format"
#define ERROR_BUSY    "BUSYKEY Target key name already exists."

enum { AGE_UNKNOWN = -1, FREQUENCY_MAX = 255, ARGUMENTS = 4 };

struct restore {
    bool replace, absolute;
    int64_t ttl_ms;            /* as it was given; 0: none */
    int64_t idle_s, frequency; /* or AGE_UNKNOWN */
    int64_t expiry_ms;
};

/* ---- arguments ---- */

static bool parse_option(struct call *call, struct restore *restore, uint32_t *at) {
    bool more = *at + 1 < call->argc;
    if (call_is(call, *at, "replace")) {
        restore->replace = true;
    } else if (call_is(call, *at, "absttl")) {
        restore->absolute = true;
    } else if (call_is(call, *at, "idletime") && more && restore->frequency == AGE_UNKNOWN) {
        if (!call_integer(call, ++*at, &restore->idle_s)) return false;
        if (restore->idle_s >= 0) return true;
        reply_error(call->reply, "ERR Invalid IDLETIME value, must be >= 0");
        return false;
    } else if (call_is(call, *at, "freq") && more && restore->idle_s == AGE_UNKNOWN) {
        if (!call_integer(call, ++*at, &restore->frequency)) return false;
        if (restore->frequency >= 0 && restore->frequency <= FREQUENCY_MAX) return true;
        reply_error(call->reply, "ERR Invalid FREQ value, must be >= 0 and <= 255");
        return false;
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    return true;
}

static bool parse_options(struct call *call, struct restore *restore) {
    *restore = (struct restore){.idle_s = AGE_UNKNOWN, .frequency = AGE_UNKNOWN, .expiry_ms = RECORD_EXPIRY_NONE};
    for (uint32_t i = ARGUMENTS; i < call->argc; i++)
        if (!parse_option(call, restore, &i)) return false;
    return true;
}

static bool parse_ttl(struct call *call, struct restore *restore) {
    if (!call_integer(call, 2, &restore->ttl_ms)) return false;
    if (restore->ttl_ms < 0) {
        reply_error(call->reply, "ERR Invalid TTL value, must be >= 0");
        return false;
    }
    if (restore->ttl_ms == 0) return true;
    int64_t now_ms = restore->absolute ? 0 : call->view.now_ms, most = RECORD_EXPIRY_MAX - now_ms;
    restore->expiry_ms = now_ms + (restore->ttl_ms < most ? restore->ttl_ms : most);
    return true;
}

/* The value's bytes, with their type in front. */
static bool open_payload(struct call *call, struct span *body) {
    struct span payload = call->argv[3];
    uint64_t stated;
    if (payload.length < RDB_PAYLOAD_FOOTER_BYTES + 1) return false;
    const uint8_t *footer = (const uint8_t *)payload.data + payload.length - RDB_PAYLOAD_FOOTER_BYTES;
    unsigned version = footer[0] | (unsigned)footer[1] << 8;
    memcpy(&stated, footer + 2, sizeof(stated));
    *body = span_of(payload.data, payload.length - RDB_PAYLOAD_FOOTER_BYTES);
    if (version > RDB_VERSION_MAX) return false;
    const struct command_host *host = call->dispatcher->host;
    if (host && atomic_load_explicit(&host->checksums_unchecked, memory_order_relaxed)) return true;
    return crc64(0, payload.data, payload.length - RDB_CHECKSUM_BYTES) == stated;
}

/* ---- the value ---- */

/* Payloads that were damaged on their way are worth a line, whoever sent them. */
static void log_refused(const struct call *call, uint8_t type, bool is_empty) {
    static const struct {
        uint8_t type;
        const char *packing;
    } packings[] = {
        {RDB_HASH_ZIPMAP, "Zipmap"},
        {RDB_LIST_ZIPLIST, "List ziplist"},
        {RDB_SET_INTSET, "Intset"},
        {RDB_ZSET_ZIPLIST, "Zset ziplist"},
        {RDB_HASH_ZIPLIST, "Hash ziplist"},
        {RDB_LIST_QUICKLIST, "Quicklist ziplist"},
        {RDB_STREAM_LISTPACKS, "Stream listpack"},
        {RDB_HASH_LISTPACK, "Hash listpack"},
        {RDB_ZSET_LISTPACK, "Zset listpack"},
        {RDB_LIST_QUICKLIST_2, "Quicklist listpack"},
        {RDB_STREAM_LISTPACKS_2, "Stream listpack"},
        {RDB_STREAM_LISTPACKS_3, "Stream listpack"},
        {RDB_SET_LISTPACK, "Set listpack"},
    };
    const char *packing = "Value";
    for (size_t i = 0; i < sizeof(packings) / sizeof(packings[0]); i++)
        if (packings[i].type == type) packing = packings[i].packing;
    log_warning("RESTORE of client id %llu was refused: %s %s", (unsigned long long)call->session->id, packing,
                is_empty ? "is empty." : "integrity check failed.");
}

static bool load_value(struct call *call, struct rdb_value_loader *loader, struct span body, struct rdb_value *value) {
    struct rdb_input input;
    rdb_input_of_memory(&input, body, 0);
    uint8_t type = rdb_get_byte(&input);
    enum rdb_status status = rdb_value_load(loader, &input, type, &call->keys[0], value);
    if (status == RDB_DONE && !value->is_empty && input.at == input.end) return true;
    if (status == RDB_DONE) rdb_value_discard(loader, &call->keys[0], value);
    if (status == RDB_NO_MEMORY) {
        call_no_memory(call);
    } else {
        log_refused(call, type, status == RDB_DONE && value->is_empty);
        reply_error(call->reply, ERROR_FORMAT);
    }
    return false;
}

static uint32_t access_of(const struct call *call, const struct restore *restore) {
    const struct access_policy *policy = &call->view.keyspace->access;
    int64_t idle_s = restore->idle_s, most = (1 << RECORD_ACCESS_BITS) - 1, now_ms = call->view.now_ms;
    if (policy->frequency && restore->frequency != AGE_UNKNOWN)
        return access_from_frequency((uint8_t)restore->frequency, now_ms);
    if (!policy->frequency && idle_s != AGE_UNKNOWN)
        return access_from_idle_seconds((uint32_t)(idle_s < most ? idle_s : most), now_ms);
    return access_new(policy, now_ms);
}

/* With its time of expiry as a time, whatever it was. */
static void tell_effect(struct call *call, const struct restore *restore) {
    if (restore->ttl_ms == 0 || restore->absolute || !call_has_effects(call)) return;
    effect_begin(call);
    for (uint32_t i = 0; i < call->argc; i++) {
        if (i == 2)
            effect_put_integer(call, restore->expiry_ms);
        else
            effect_put(call, call->argv[i]);
    }
    effect_put_text(call, "ABSTTL");
    effect_end(call);
}

/* The value has expired already: all it does is to remove what was there. */
static void remove_instead(struct call *call, struct lookup *lookup) {
    if (lookup->record) {
        keyspace_remove(&call->view, &call->keys[0], lookup);
        call_effect_of(call, "DEL", call->keys[0].name);
        call_notify(call, NOTIFY_GENERIC, "del", &call->keys[0]);
    }
    reply_ok(call->reply);
}

static void store(struct call *call, const struct restore *restore, struct lookup *lookup,
                  struct rdb_value_loader *loader, struct rdb_value *value) {
    struct key *key = &call->keys[0];
    if (restore->expiry_ms >= 0 && restore->expiry_ms <= call->view.now_ms && !call->view.replays) {
        rdb_value_discard(loader, key, value);
        remove_instead(call, lookup);
        return;
    }
    if (!rdb_value_store(&call->view, key, lookup, value, restore->expiry_ms, access_of(call, restore))) {
        rdb_value_discard(loader, key, value);
        call_no_memory(call);
        return;
    }
    tell_effect(call, restore);
    call_notify(call, NOTIFY_GENERIC, "restore", key);
    reply_ok(call->reply);
}

static void command_restore(struct call *call) {
    struct restore restore;
    struct span body;
    struct rdb_value_loader loader;
    struct rdb_value value;
    if (!parse_options(call, &restore)) return;
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (view_misses(&call->view)) return;
    if (lookup.record && !restore.replace) {
        reply_error(call->reply, ERROR_BUSY);
        return;
    }
    if (!parse_ttl(call, &restore)) return;
    if (!open_payload(call, &body)) {
        reply_error(call->reply, ERROR_PAYLOAD);
        return;
    }
    rdb_value_loader_init(&loader, &call->view);
    if (load_value(call, &loader, body, &value)) {
        /* The making of a big value may have moved what the lookup led to. */
        lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
        store(call, &restore, &lookup, &loader, &value);
    }
    rdb_value_loader_free(&loader);
}

#define RESTORE_ARGUMENTS  "key:k ttl:i serialized-value:s [REPLACE] [ABSTTL] [IDLETIME seconds:i] [FREQ frequency:i]"
#define RESTORE_HISTORY    "3.0.0 REPLACE.\n5.0.0 ABSTTL.\n5.0.0 IDLETIME and FREQ."
#define RESTORE_COMPLEXITY "O(N), N bytes of the value; O(N*log(N)), N members, of a sorted set"

const struct command_spec restore_commands[] = {
    {.name = "restore",
     .handler = command_restore,
     .arity = -4,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM,
     .categories = CATEGORY_KEYSPACE | CATEGORY_DANGEROUS,
     .keys = {KEY_AT(1, KEY_OW | KEY_UPDATE)},
     .group = "generic",
     .since = "2.6.0",
     .summary = "Makes a key of the bytes that DUMP gave for a value",
     .complexity = RESTORE_COMPLEXITY,
     .arguments = RESTORE_ARGUMENTS,
     .history = RESTORE_HISTORY},
    {.name = "restore-asking",
     .handler = command_restore,
     .arity = -4,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_ASKING,
     .categories = CATEGORY_KEYSPACE | CATEGORY_DANGEROUS,
     .keys = {KEY_AT(1, KEY_OW | KEY_UPDATE)},
     .group = "server",
     .since = "3.0.0",
     .summary = "RESTORE, sent by a node of a cluster that gives keys away",
     .complexity = RESTORE_COMPLEXITY,
     .arguments = RESTORE_ARGUMENTS,
     .history = RESTORE_HISTORY,
     .internal = true},
};
const unsigned restore_command_count = sizeof(restore_commands) / sizeof(restore_commands[0]);
