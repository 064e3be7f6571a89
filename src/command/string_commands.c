/* Strings: the commands that read and write whole values. */

#include "command/families.h"
#include "command/string_value.h"

static void command_get(struct call *call) {
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    if (lookup.record)
        string_reply(call, &call->keys[0], lookup.record);
    else
        reply_null(call->reply);
}

static void command_set(struct call *call) {
    struct lookup lookup = keyspace_find(&call->view, &call->keys[0]);
    if (string_store(call, &call->keys[0], &lookup, call->argv[2], RECORD_EXPIRY_NONE)) reply_ok(call->reply);
}

const struct command_spec string_commands[] = {
    {.name = "get", .handler = command_get, .arity = 2, .flags = COMMAND_READONLY | COMMAND_FAST,
     .categories = CATEGORY_STRING, .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS)}, .group = "string", .since = "1.0.0",
     .summary = "The value of a key", .complexity = "O(1)", .arguments = "key:k"},
    {.name = "set", .handler = command_set, .arity = -3, .flags = COMMAND_WRITE | COMMAND_DENYOOM,
     .categories = CATEGORY_STRING, .keys = {KEY_AT(1, KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_INSERT | KEY_VARIABLE)},
     .group = "string", .since = "1.0.0", .summary = "Sets the value of a key", .complexity = "O(1)",
     .arguments = "key:k value:s"},
};
const unsigned string_command_count = sizeof(string_commands) / sizeof(string_commands[0]);
