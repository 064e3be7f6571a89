/* Strings: several keys at once. The shards of all keys are locked, so other clients see all of it or nothing.
 *
 * Storing one key may move the records of others in its shard, and a key may be named twice; so each key is looked up
 * right before it is stored. When memory runs out in the middle, the keys before it have been stored. */

#include "command/effect_chunks.h"
#include "command/string_handlers.h"
#include "command/string_value.h"

void command_mget(struct call *call) {
    reply_array(call->reply, call->key_count);
    for (uint32_t i = 0; i < call->key_count; i++) {
        struct lookup lookup = keyspace_read(&call->view, &call->keys[i]);
        if (lookup.record && record_type(lookup.record) == RECORD_STRING)
            string_reply(call, &call->keys[i], &lookup);
        else
            reply_null(call->reply);
    }
}

static bool expect_pairs(struct call *call) {
    if (call->argc % 2 == 1) return true;
    reply_error_format(call->reply, "ERR wrong number of arguments for '%s' command", call->command->full_name);
    return false;
}

static bool store_pairs(struct call *call) {
    for (uint32_t i = 0; i < call->key_count; i++) {
        struct lookup lookup = string_find_to_replace(call, &call->keys[i]);
        if (!string_store(call, &call->keys[i], &lookup, call->argv[2 + 2 * i], RECORD_EXPIRY_NONE)) {
            call_effect_part(call, 1 + 2 * i, 1);
            return false;
        }
        call_notify(call, NOTIFY_STRING, "set", &call->keys[i]);
    }
    return true;
}

void command_mset(struct call *call) {
    if (expect_pairs(call) && store_pairs(call)) reply_ok(call->reply);
}

void command_msetnx(struct call *call) {
    if (!expect_pairs(call)) return;
    for (uint32_t i = 0; i < call->key_count; i++) {
        if (!keyspace_find_for_write(&call->view, &call->keys[i]).record) continue;
        reply_integer(call->reply, 0);
        return;
    }
    if (store_pairs(call)) reply_integer(call->reply, 1);
}
