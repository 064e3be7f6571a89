/* Strings: reading whole values. GET is the command that the server runs most; it looks the key up and composes the
 * reply, nothing else. A long value is not copied but sent from where it lies (string_reply()). */

#include "command/effect.h"
#include "command/string_handlers.h"
#include "command/string_value.h"

void command_get(struct call *call) {
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    if (lookup.record)
        string_reply(call, &call->keys[0], &lookup);
    else
        reply_null(call->reply);
}

void command_getdel(struct call *call) {
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    if (!lookup.record) {
        reply_null(call->reply);
        return;
    }
    if (!string_touch(call, &lookup)) return;
    string_reply(call, &call->keys[0], &lookup);
    keyspace_remove(&call->view, &call->keys[0], &lookup);
    call_effect_of(call, "DEL", call->keys[0].name);
    call_notify(call, NOTIFY_GENERIC, "del", &call->keys[0]);
}

void command_strlen(struct call *call) {
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    reply_integer(call->reply, lookup.record ? (int64_t)string_length(lookup.record) : 0);
}
