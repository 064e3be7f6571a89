/* Keys whatever they hold: DEL, UNLINK, EXISTS, TYPE, TOUCH, and what gives a value another name or another database:
 * RENAME, RENAMENX, COPY, MOVE.
 *
 * A record begins with its key, so a value that gets another name is laid out anew; of a big collection that is the
 * record which leads to it. What arrives at the new place is stored first and the old place emptied afterwards: without
 * memory nothing has changed. The target is always looked up before the source, because a lookup may remove an expired
 * record, and that change would end the validity of a record found before in the same shard. */

#include "command/database_argument.h"
#include "command/families.h"
#include "command/record_names.h"
#include "command/session.h"
#include "keyspace/keyspace_collection.h"
#include "keyspace/keyspace_copy.h"

/* ---- DEL, UNLINK, EXISTS, TYPE, TOUCH ---- */

/* UNLINK too: a record is freed in constant time, and a big collection in slices, after the reply. */
static void command_del(struct call *call) {
    int64_t removed = 0;
    for (uint32_t i = 0; i < call->key_count; i++) {
        struct lookup lookup = keyspace_find(&call->view, &call->keys[i]);
        if (!lookup.record) continue;
        keyspace_remove(&call->view, &call->keys[i], &lookup);
        call_notify(call, NOTIFY_GENERIC, "del", &call->keys[i]);
        removed++;
    }
    reply_integer(call->reply, removed);
}

static int64_t count_present(const struct call *call, const struct view *view) {
    int64_t present = 0;
    for (uint32_t i = 0; i < call->key_count; i++) present += keyspace_read(view, &call->keys[i]).record != NULL;
    return present;
}

static void command_exists(struct call *call) {
    reply_integer(call->reply, count_present(call, &call->view));
}

/* Renewing the access bits is all it is for, so it does so for a client in NO-TOUCH mode too. */
static void command_touch(struct call *call) {
    struct view view = call->view;
    view.keep_access = false;
    reply_integer(call->reply, count_present(call, &view));
}

static void command_type(struct call *call) {
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    reply_simple(call->reply, lookup.record ? record_type_name(record_type(lookup.record)) : "none");
}

/* ---- RENAME, RENAMENX, COPY, MOVE ---- */

/* Where a value goes: a key in a database. */
struct place {
    struct view view;
    const struct key *key;
    struct lookup lookup;
};

/* Gives the target what `source`, the lookup of the call's first key, leads to. The source has nothing afterwards.
 * False: no memory; the error is composed. */
static bool move_value(struct call *call, struct place *target, struct lookup *source) {
    if (keyspace_move_value(&call->view, &call->keys[0], source, &target->view, target->key, &target->lookup))
        return true;
    call_no_memory(call);
    return false;
}

static void rename_key(struct call *call, bool only_if_absent) {
    struct place target = {.view = call->view, .key = &call->keys[1]};
    bool same = span_equal(call->keys[0].name, call->keys[1].name);
    if (!same) target.lookup = keyspace_find(&target.view, target.key);
    struct lookup source = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (!source.record) {
        reply_error(call->reply, ERROR_NO_KEY);
        return;
    }
    if (only_if_absent && (same || target.lookup.record)) {
        reply_integer(call->reply, 0);
        return;
    }
    if (!same) {
        if (!move_value(call, &target, &source)) return;
        call_notify(call, NOTIFY_GENERIC, "rename_from", &call->keys[0]);
        call_notify(call, NOTIFY_GENERIC, "rename_to", &call->keys[1]);
    }
    if (only_if_absent)
        reply_integer(call->reply, 1);
    else
        reply_ok(call->reply);
}

static void command_rename(struct call *call) {
    rename_key(call, false);
}
static void command_renamenx(struct call *call) {
    rename_key(call, true);
}

#define ERROR_SAME_PLACE "ERR source and destination objects are the same"

static bool parse_copy_options(struct call *call, uint32_t *database, bool *replace) {
    for (uint32_t i = 3; i < call->argc; i++) {
        if (call_is(call, i, "replace")) {
            *replace = true;
        } else if (call_is(call, i, "db") && i + 1 < call->argc) {
            if (!database_argument(call, ++i, database)) return false;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

enum { COPY_SLICE_NS = 100000 };

/* What is big is copied in slices, between which others are served. False: not yet; or there was no memory, and the
 * error is composed. */
static bool copy_value(struct call *call, struct place *target, struct lookup *source) {
    struct session *session = call->session;
    if (!call->may_pause || (!session->unfinished && !keyspace_copy_is_long(source))) {
        if (keyspace_copy_value(&call->view, source, &target->view, target->key, &target->lookup)) return true;
        call_no_memory(call);
        return false;
    }
    if (!session->unfinished)
        session->unfinished = keyspace_copy_begin(call->view.keyspace, source, &target->view, target->key);
    enum keyspace_copy_status status = KEYSPACE_COPY_NO_MEMORY;
    if (session->unfinished && keyspace_copy_is_of(session->unfinished, source, target->key))
        status = keyspace_copy_step(session->unfinished, &call->view, source, &target->view, target->key,
                                    &target->lookup, COPY_SLICE_NS);
    call->unfinished = status == KEYSPACE_COPY_GOES_ON;
    if (status == KEYSPACE_COPY_NO_MEMORY) call_no_memory(call);
    return status == KEYSPACE_COPY_DONE;
}

static void command_copy(struct call *call) {
    uint32_t database = call->view.database;
    bool replace = false;
    if (!parse_copy_options(call, &database, &replace)) return;
    if (database == call->view.database && span_equal(call->keys[0].name, call->keys[1].name)) {
        reply_error(call->reply, ERROR_SAME_PLACE);
        return;
    }
    struct place target = {.view = database_view(call, database), .key = &call->keys[1]};
    target.lookup = keyspace_find(&target.view, target.key);
    struct lookup source = keyspace_read(&call->view, &call->keys[0]);
    if (!source.record || (target.lookup.record && !replace)) {
        reply_integer(call->reply, 0);
        return;
    }
    if (!copy_value(call, &target, &source)) return;
    call_notify_in(call, NOTIFY_GENERIC, "copy_to", target.key, database);
    reply_integer(call->reply, 1);
}

static void command_move(struct call *call) {
    uint32_t database;
    if (!database_argument(call, 2, &database)) return;
    if (database == call->view.database) {
        reply_error(call->reply, ERROR_SAME_PLACE);
        return;
    }
    struct place target = {.view = database_view(call, database), .key = &call->keys[0]};
    target.lookup = keyspace_find(&target.view, target.key);
    struct lookup source = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (!source.record || target.lookup.record) {
        reply_integer(call->reply, 0);
    } else if (move_value(call, &target, &source)) {
        call_notify(call, NOTIFY_GENERIC, "move_from", target.key);
        call_notify_in(call, NOTIFY_GENERIC, "move_to", target.key, database);
        reply_integer(call->reply, 1);
    }
}

/* ---- rows ---- */

#define EACH_KEY_TIPS "request_policy:multi_shard response_policy:agg_sum"

const struct command_spec key_commands[] = {
    {.name = "del",
     .handler = command_del,
     .arity = -2,
     .flags = COMMAND_WRITE,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEYS_FROM(1, -1, 1, KEY_RM | KEY_DELETE)},
     .group = "generic",
     .since = "1.0.0",
     .summary = "Removes keys",
     .complexity = "O(N), N keys",
     .arguments = "key:k...",
     .tips = EACH_KEY_TIPS},
    {.name = "unlink",
     .handler = command_del,
     .arity = -2,
     .flags = COMMAND_WRITE | COMMAND_FAST,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEYS_FROM(1, -1, 1, KEY_RM | KEY_DELETE)},
     .group = "generic",
     .since = "4.0.0",
     .summary = "Removes keys; the memory of large values is freed later",
     .complexity = "O(N), N keys",
     .arguments = "key:k...",
     .tips = EACH_KEY_TIPS},
    {.name = "exists",
     .handler = command_exists,
     .arity = -2,
     .flags = COMMAND_READONLY | COMMAND_FAST | COMMAND_KEEP_ACCESS,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEYS_FROM(1, -1, 1, KEY_RO)},
     .group = "generic",
     .since = "1.0.0",
     .summary = "How many of the given keys exist, a key named twice counting twice",
     .complexity = "O(N), N keys",
     .arguments = "key:k...",
     .history = "3.0.3 Several keys may be given.",
     .tips = EACH_KEY_TIPS},
    {.name = "type",
     .handler = command_type,
     .arity = 2,
     .flags = COMMAND_READONLY | COMMAND_FAST | COMMAND_KEEP_ACCESS,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEY_AT(1, KEY_RO)},
     .group = "generic",
     .since = "1.0.0",
     .summary = "The type of a key's value",
     .complexity = "O(1)",
     .arguments = "key:k"},
    {.name = "touch",
     .handler = command_touch,
     .arity = -2,
     .flags = COMMAND_READONLY | COMMAND_FAST,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEYS_FROM(1, -1, 1, KEY_RO)},
     .group = "generic",
     .since = "3.2.1",
     .summary = "Marks keys as used now and tells how many of them exist",
     .complexity = "O(N), N keys",
     .arguments = "key:k...",
     .tips = EACH_KEY_TIPS},
    {.name = "rename",
     .handler = command_rename,
     .arity = 3,
     .flags = COMMAND_WRITE,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEY_AT(1, KEY_RW | KEY_ACCESS | KEY_DELETE), KEY_AT(2, KEY_OW | KEY_UPDATE)},
     .group = "generic",
     .since = "1.0.0",
     .summary = "Gives a key another name, replacing what has that name",
     .complexity = "O(N), N bytes of a string",
     .arguments = "key:k newkey:k"},
    {.name = "renamenx",
     .handler = command_renamenx,
     .arity = 3,
     .flags = COMMAND_WRITE | COMMAND_FAST,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEY_AT(1, KEY_RW | KEY_ACCESS | KEY_DELETE), KEY_AT(2, KEY_OW | KEY_INSERT)},
     .group = "generic",
     .since = "1.0.0",
     .summary = "Gives a key another name unless that name is taken",
     .complexity = "O(N), N bytes of a string",
     .arguments = "key:k newkey:k",
     .history = "3.2.0 The same name twice is no error any more."},
    {.name = "copy",
     .handler = command_copy,
     .arity = -3,
     .flags = COMMAND_SLICED | COMMAND_WRITE | COMMAND_DENYOOM,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS), KEY_AT(2, KEY_OW | KEY_UPDATE)},
     .group = "generic",
     .since = "6.2.0",
     .summary = "Stores a key's value under another name or in another database as well",
     .complexity = "O(N), N bytes of a string or elements of a collection",
     .arguments = "source:k destination:k [DB destination-db:i] [REPLACE]"},
    {.name = "move",
     .handler = command_move,
     .arity = 3,
     .flags = COMMAND_WRITE | COMMAND_FAST,
     .categories = CATEGORY_KEYSPACE,
     .keys = {KEY_AT(1, KEY_RW | KEY_ACCESS | KEY_UPDATE)},
     .group = "generic",
     .since = "1.0.0",
     .summary = "Moves a key to another database unless the name is taken there",
     .complexity = "O(N), N bytes of a string",
     .arguments = "key:k db:i"},
};
const unsigned key_command_count = sizeof(key_commands) / sizeof(key_commands[0]);
