/* MIGRATE: gives keys to another server, by RESTORE over a connection of its own, and removes them here.
 *
 * It is done in slices (COMMAND_SLICED): values are composed, the conversation goes on step by step while others are
 * served, and when every key has been answered keys are removed. Others may have changed a key meanwhile; so before it
 * is removed, under its lock, its value is composed again and compared with what was sent. As long as one differs, what
 * has changed is sent again and nothing is removed. So the moment of removal is that of the migration, and nothing is
 * lost whatever happens between.
 *
 * Inside EXEC, where nobody else may run between commands, it waits for the other server on the spot, as Redis does
 * always.
 *
 * Of a connection that breaks half way, keys that were acknowledged are removed all the same. */

#include "base/number.h"
#include "command/dump_value.h"
#include "command/effect.h"
#include "command/families.h"
#include "command/migration.h"
#include "command/session.h"
#include "persist/crc64.h"

#include <stdlib.h>

enum {
    FIRST_OPTION = 6,
    ROUNDS_MAX = 16,
    TIMEOUT_DEFAULT_MS = 1000,
    SLICE_US = 0,            /* the shards of the keys are locked meanwhile: nobody waits there */
    ON_THE_SPOT_US = 100000, /* a step where nobody else can run: the conversation's own timeout ends it */
};
#define ERROR_KEYS_AND_KEY   "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
#define ERROR_KEEPS_CHANGING "ERR The keys were changed each time they were sent to the target instance"

struct migrate_arguments {
    int64_t port, database, timeout_ms;
    bool copy, replace;
    struct span user, password; /* data NULL: not given */
};

/* ---- arguments ---- */

static bool parse_option(struct call *call, uint32_t *at, struct migrate_arguments *arguments) {
    uint32_t left = call->argc - 1 - *at;
    if (call_is(call, *at, "copy")) {
        arguments->copy = true;
    } else if (call_is(call, *at, "replace")) {
        arguments->replace = true;
    } else if (call_is(call, *at, "auth") && left >= 1) {
        arguments->password = call->argv[++*at];
    } else if (call_is(call, *at, "auth2") && left >= 2) {
        arguments->user = call->argv[++*at];
        arguments->password = call->argv[++*at];
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    return true;
}

static bool parse(struct call *call, struct migrate_arguments *arguments) {
    *arguments = (struct migrate_arguments){0};
    for (uint32_t i = FIRST_OPTION; i < call->argc; i++) {
        if (call_is(call, i, "keys")) {
            if (call->argv[3].length) {
                reply_error(call->reply, ERROR_KEYS_AND_KEY);
                return false;
            }
            break;
        }
        if (!parse_option(call, &i, arguments)) return false;
    }
    if (!call_integer(call, 5, &arguments->timeout_ms) || !call_integer(call, 4, &arguments->database)) return false;
    if (arguments->timeout_ms <= 0) arguments->timeout_ms = TIMEOUT_DEFAULT_MS;
    /* A port that is none leads nowhere: the reply is that of any host that cannot be reached. */
    if (!number_parse_i64(call->argv[2], &arguments->port) || arguments->port < 0 || arguments->port > UINT16_MAX)
        arguments->port = 0;
    return true;
}

static uint64_t fingerprint_of(const struct call *call) {
    uint64_t crc = call->view.database;
    for (uint32_t i = 0; i < call->argc; i++) {
        crc = crc64(crc, &call->argv[i].length, sizeof(call->argv[i].length));
        crc = crc64(crc, call->argv[i].data, call->argv[i].length);
    }
    return crc;
}

/* ---- requests ---- */

static void put_preface(struct migration *migration, const struct migrate_arguments *arguments) {
    char text[NUMBER_TEXT_MAX];
    if (arguments->password.data) {
        migration_put_request(migration, arguments->user.data ? 3 : 2);
        migration_put_word(migration, SPAN_LITERAL("AUTH"));
        if (arguments->user.data) migration_put_word(migration, arguments->user);
        migration_put_word(migration, arguments->password);
    }
    migration_put_request(migration, 2);
    migration_put_word(migration, SPAN_LITERAL("SELECT"));
    migration_put_word(migration, span_of(text, number_format_i64(arguments->database, text)));
}

static uint32_t preface_requests(const struct migrate_arguments *arguments) {
    return arguments->password.data ? 2 : 1;
}

/* The key's value as it is now. False: it could not be had. */
static bool compose(struct call *call, const struct lookup *lookup, struct rdb_output *payload,
                    struct migrated_key *key) {
    rdb_output_init(payload, record_size(lookup->record) + 64);
    if (!dump_value(call, lookup, payload)) return false;
    key->crc = crc64(0, payload->bytes, payload->length);
    key->length = payload->length;
    key->expiry_ms = record_expiry(lookup->record);
    return true;
}

static bool put_restore(struct call *call, struct migration *migration, uint32_t index, struct lookup *lookup,
                        bool replace) {
    struct migrated_key *key = &migration->keys[index];
    struct rdb_output payload;
    char text[NUMBER_TEXT_MAX];
    bool composed = compose(call, lookup, &payload, key);
    if (composed) {
        int64_t ttl_ms = 0;
        if (key->expiry_ms != RECORD_EXPIRY_NONE) {
            ttl_ms = key->expiry_ms - call->view.now_ms;
            if (ttl_ms < 1) ttl_ms = 1;
        }
        key->request = migration->expected;
        migration_put_request(migration, replace ? 5 : 4);
        migration_put_word(migration, SPAN_LITERAL("RESTORE"));
        migration_put_word(migration, call->keys[index].name);
        migration_put_word(migration, span_of(text, number_format_i64(ttl_ms, text)));
        migration_put_word(migration, span_of(payload.bytes, payload.length));
        if (replace) migration_put_word(migration, SPAN_LITERAL("REPLACE"));
    }
    rdb_output_free(&payload);
    return composed && !migration->requests.failed;
}

/* Composes the requests of all keys there are. Returns how many; -1: it could not be done, and the error, if there is
 * one, is composed. */
static int64_t put_all(struct call *call, struct migration *migration, const struct migrate_arguments *arguments) {
    int64_t count = 0;
    put_preface(migration, arguments);
    for (uint32_t i = 0; i < call->key_count; i++) {
        migration->keys[i].request = UINT32_MAX;
        struct lookup lookup = keyspace_read(&call->view, &call->keys[i]);
        if (!lookup.record) continue;
        count++;
        if (put_restore(call, migration, i, &lookup, arguments->replace) || view_misses(&call->view)) continue;
        call_no_memory(call);
        return -1;
    }
    return count;
}

/* ---- the end ---- */

static bool was_accepted(const struct migration *migration, const struct migrate_arguments *arguments,
                         const struct migrated_key *key) {
    for (uint32_t i = 0; i < preface_requests(arguments); i++)
        if (migration_refused(migration, i)) return false;
    return key->request != UINT32_MAX && !migration_refused(migration, key->request);
}

/* Whether the key still has the value that was sent; an expired or removed one has nothing to be sent again. */
static bool is_unchanged(struct call *call, const struct lookup *lookup, const struct migrated_key *key) {
    struct migrated_key now = *key;
    struct rdb_output payload;
    bool composed = compose(call, lookup, &payload, &now);
    rdb_output_free(&payload);
    return composed && now.crc == key->crc && now.length == key->length && now.expiry_ms == key->expiry_ms;
}

/* Sends what has changed since it was accepted once more. Returns how many keys those are; -1: it could not be done. */
static int64_t send_changed(struct call *call, struct migration *migration, const struct migrate_arguments *arguments) {
    int64_t count = 0;
    for (uint32_t i = 0; i < call->key_count; i++) {
        if (!was_accepted(migration, arguments, &migration->keys[i])) continue;
        struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[i]);
        if (!lookup.record || is_unchanged(call, &lookup, &migration->keys[i])) continue;
        if (view_misses(&call->view)) return 0; /* it is run again */
        if (!put_restore(call, migration, i, &lookup, true)) return -1;
        count++;
    }
    return count;
}

/* Removes what was accepted and is still the same, and tells so: the effect is that of DEL. */
static void remove_accepted(struct call *call, const struct migration *migration,
                            const struct migrate_arguments *arguments) {
    bool any = false;
    for (uint32_t i = 0; i < call->key_count; i++) {
        if (!was_accepted(migration, arguments, &migration->keys[i])) continue;
        struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[i]);
        if (!lookup.record || !is_unchanged(call, &lookup, &migration->keys[i])) continue;
        keyspace_remove(&call->view, &call->keys[i], &lookup);
        call_notify(call, NOTIFY_GENERIC, "del", &call->keys[i]);
        if (!any) effect_begin(call);
        if (!any) effect_put_text(call, "DEL");
        effect_put(call, call->keys[i].name);
        any = true;
    }
    if (any) effect_end(call);
}

static void reply_to(struct call *call, const struct migration *migration, enum migration_state state) {
    if (state == MIGRATION_NOT_CONNECTED)
        reply_error(call->reply, "IOERR error or timeout connecting to the client");
    else if (migration->error[0])
        reply_error_format(call->reply, "ERR Target instance replied with error: %s", migration->error);
    else if (state == MIGRATION_ANSWERED)
        reply_ok(call->reply);
    else
        reply_error_format(call->reply, "IOERR error or timeout %s to target instance",
                           state == MIGRATION_WRITING_FAILED ? "writing" : "reading");
}

/* ---- the command ---- */

/* NULL: there is nothing to send, or no memory; the reply is composed. */
static struct migration *begin(struct call *call, const struct migrate_arguments *arguments) {
    struct migration *migration = migration_create(call->argv[1], arguments->port, arguments->timeout_ms);
    if (migration) migration->keys = calloc(call->key_count ? call->key_count : 1, sizeof(*migration->keys));
    if (!migration || !migration->keys) {
        call_no_memory(call);
        migration_free(migration);
        return NULL;
    }
    migration->fingerprint = fingerprint_of(call);
    int64_t count = put_all(call, migration, arguments);
    if (count == 0) reply_simple(call->reply, "NOKEY");
    if (count > 0 && !view_misses(&call->view)) return migration;
    migration_free(migration);
    return NULL;
}

/* Goes on until the conversation has ended. False: there is more to do, after others have had their turn. */
static bool talk(struct call *call, struct migration *migration, enum migration_state *state) {
    do *state = migration_step(migration, call->may_pause ? SLICE_US : ON_THE_SPOT_US);
    while (*state == MIGRATION_GOES_ON && !call->may_pause);
    return *state != MIGRATION_GOES_ON;
}

/* False: it goes on, or is going to be run again. */
static bool conclude(struct call *call, struct migration *migration, const struct migrate_arguments *arguments,
                     enum migration_state state) {
    if (!arguments->copy) {
        bool others_ran = state == MIGRATION_ANSWERED && call->may_pause;
        int64_t changed = others_ran ? send_changed(call, migration, arguments) : 0;
        if (view_misses(&call->view)) return false;
        if (changed > 0 && ++migration->rounds < ROUNDS_MAX) {
            call->unfinished = true;
            return false;
        }
        if (changed != 0) {
            reply_error(call->reply, changed < 0 ? ERROR_NO_MEMORY : ERROR_KEEPS_CHANGING);
            return true;
        }
        remove_accepted(call, migration, arguments);
        if (view_misses(&call->view)) return false;
    }
    reply_to(call, migration, state);
    return true;
}

static void command_migrate(struct call *call) {
    struct session *session = call->session;
    struct migrate_arguments arguments;
    enum migration_state state;
    if (!parse(call, &arguments)) return;
    if (session->migration && session->migration->fingerprint != fingerprint_of(call)) {
        migration_free(session->migration);
        session->migration = NULL;
    }
    if (!session->migration && !(session->migration = begin(call, &arguments))) return;
    if (!talk(call, session->migration, &state))
        call->unfinished = true;
    else if (conclude(call, session->migration, &arguments, state)) {
        migration_free(session->migration);
        session->migration = NULL;
    }
}

/* The one key, where it is no list. */
static uint32_t find_key(const struct span *argv, uint32_t argc) {
    return argc > 3 && argv[3].length ? 3 : 0;
}

const struct command_spec migrate_commands[] = {
    {.name = "migrate",
     .handler = command_migrate,
     .arity = -6,
     .flags = COMMAND_WRITE | COMMAND_SLICED | COMMAND_MOVABLE_KEYS,
     .categories = CATEGORY_KEYSPACE | CATEGORY_DANGEROUS,
     .keys = {{.flags = KEY_RW | KEY_ACCESS | KEY_DELETE, .index = 3, .step = 1, .find = find_key},
              {.flags = KEY_RW | KEY_ACCESS | KEY_DELETE | KEY_INCOMPLETE,
               .keyword = "KEYS",
               .index = -2,
               .last = -1,
               .step = 1}},
     .group = "generic",
     .since = "2.6.0",
     .summary = "Gives keys to another server and removes them here",
     .complexity = "O(N), N bytes of the values, here and there",
     .arguments = "host port:i key-selector(key:k|empty-string=\"\") destination-db:i timeout:i [COPY@3.0.0] "
                  "[REPLACE@3.0.0] [authentication(AUTH auth@4.0.7|AUTH2 auth2{username password}@6.0.0)] "
                  "[KEYS keys:k@3.0.6...]",
     .history = "3.0.0 COPY and REPLACE were added.\n3.0.6 KEYS was added.\n4.0.7 AUTH was added.\n6.0.0 AUTH2 was "
                "added.",
     .tips = "nondeterministic_output"},
};
const unsigned migrate_command_count = sizeof(migrate_commands) / sizeof(migrate_commands[0]);
