/* DEBUG: for tests of this server and of client libraries. All workers stand still meanwhile, and every shard is
 * locked: what it does happens at one instant, as in a server of one thread.
 *
 * A subcommand of Redis that cannot be done truly here is unknown, but for two that tune structures which are not here:
 * tests of Redis begin with them, and are right in going on. */

#include "base/glob.h"
#include "base/log.h"
#include "command/record_names.h"
#include "command/string_value.h"
#include "record/collection.h"
#include "server/allocator.h"
#include "server/aof_start.h"
#include "server/debug.h"
#include "server/digest.h"
#include "server/digest_value.h"
#include "server/families.h"
#include "server/server.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NOT_POSITIVE "ERR value is out of range, must be positive"

const char *debug_refuse(void *ctx, const struct session *session, const struct command *command) {
    (void)command;
    const struct server *server = ctx;
    const struct connection *connection = session->connection;
    int permission = server->config.security.enable_debug_command;
    bool local = connection && connection->peer.is_loopback;
    if (permission == CONFIG_PERMIT_YES || (permission == CONFIG_PERMIT_LOCAL && local)) return NULL;
    return "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from "
           "a "
           "local connection, otherwise you need to set this option in the configuration file, and then restart the "
           "server.";
}

static const char *copy_argument(const struct call *call, uint32_t at, char *text, size_t room) {
    snprintf(text, room, "%.*s", (int)(call->argv[at].length < room ? call->argv[at].length : room - 1),
             call->argv[at].data);
    return text;
}

/* ---- the allocator ---- */

/* Reads a value of the allocator's, after writing the one that was given. */
static void debug_mallctl(struct call *call) {
    char name[128];
    int64_t value = 0;
    bool sets = call->argc > 3;
    if (sets && !call_integer(call, 3, &value)) return;
    if (allocator_control(copy_argument(call, 2, name, sizeof(name)), sets, &value))
        reply_integer(call->reply, value);
    else
        reply_error(call->reply, "ERR the allocator knows no such number, or it cannot be set");
}

static void debug_mallctl_str(struct call *call) {
    char name[128], value[128];
    bool sets = call->argc > 3;
    const char *text = NULL;
    if (sets) text = call_is(call, 3, "void") ? "" : copy_argument(call, 3, value, sizeof(value));
    if (!allocator_control_text(copy_argument(call, 2, name, sizeof(name)), &text))
        reply_error(call->reply, "ERR the allocator knows no such text, or it cannot be set");
    else if (text)
        reply_bulk_text(call->reply, text);
    else
        reply_ok(call->reply);
}

/* ---- time and background work ---- */

static void debug_sleep(struct call *call) {
    char text[64];
    double seconds = strtod(copy_argument(call, 2, text, sizeof(text)), NULL);
    if (!(seconds > 0)) seconds = 0;
    if (seconds > 86400) seconds = 86400;
    struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&left, NULL);
    reply_ok(call->reply);
}

static bool flag_argument(struct call *call, bool *flag) {
    int64_t value;
    if (!call_integer(call, 2, &value)) return false;
    *flag = value != 0;
    return true;
}

static void debug_set_active_expire(struct call *call) {
    bool on;
    if (!flag_argument(call, &on)) return;
    atomic_store(&call->view.keyspace->active_expiry, on);
    reply_ok(call->reply);
}

static void debug_pause_cron(struct call *call) {
    bool on;
    if (!flag_argument(call, &on)) return;
    atomic_store(&server_of(call)->cron_paused, on);
    reply_ok(call->reply);
}

static void debug_aof_flush_sleep(struct call *call) {
    int64_t delay_us;
    if (!call_integer_within(call, 2, 0, UINT32_MAX, NOT_POSITIVE, &delay_us)) return;
    aof_delay(server_of(call), (uint32_t)delay_us);
    reply_ok(call->reply);
}

static void debug_set_skip_checksum_validation(struct call *call) {
    bool on;
    if (!flag_argument(call, &on)) return;
    atomic_store(&server_of(call)->host.checksums_unchecked, on);
    reply_ok(call->reply);
}

/* Redis's lists have nodes of one large element, and its clients reply buffers that shrink; here there is neither, so
 * that tests which set their size find it as they want it. */
static void debug_no_such_thing(struct call *call) {
    reply_ok(call->reply);
}

static void debug_set_disable_deny_scripts(struct call *call) {
    bool on;
    if (!flag_argument(call, &on)) return;
    server_of(call)->scripts_unrestricted = on;
    reply_ok(call->reply);
}

static void debug_change_repl_id(struct call *call) {
    replication_change_id(server_of(call));
    log_notice("DEBUG CHANGE-REPL-ID: the replication id is %s now", server_of(call)->replication.id);
    reply_ok(call->reply);
}

static void debug_config_rewrite_force_all(struct call *call) {
    struct config_error error;
    if (config_rewrite_all(&server_of(call)->config, &error))
        reply_ok(call->reply);
    else
        reply_error(call->reply, error.text);
}

/* ---- data ---- */

/* Roughly: what RDB makes of it depends on its version. */
static size_t saved_length(const struct record *record) {
    if (record_is_paged(record)) {
        size_t bytes = 0;
        for (unsigned part = 0; part < COLLECTION_PARTS; part++)
            bytes += collection_of(record)->parts[part].payload_bytes;
        return bytes;
    }
    if (record_type(record) != RECORD_STRING) return record_value_length(record);
    if (record_encoding(record) >= RECORD_INT8 && record_encoding(record) <= RECORD_INT32)
        return 1 + record_value_length(record);
    size_t length = string_length(record);
    return length + (length < 64 ? 1 : length < 16384 ? 2 : 5);
}

static void debug_object(struct call *call) {
    struct key key = keyspace_key(call->view.keyspace, call->argv[2]);
    struct lookup lookup = keyspace_find(&call->view, &key);
    if (!lookup.record) {
        reply_error(call->reply, ERROR_NO_KEY);
        return;
    }
    bool frequency = call->view.keyspace->access.frequency;
    char text[256];
    snprintf(text, sizeof(text), "Value at:%p refcount:1 encoding:%s serializedlength:%zu lru:%u lru_seconds_idle:%u",
             (void *)lookup.record, record_encoding_name(lookup.record), saved_length(lookup.record),
             record_access(lookup.record),
             frequency ? 0 : access_idle_seconds(record_access(lookup.record), call->view.now_ms));
    reply_simple(call->reply, text);
}

/* The value of a populated key: its number as text, and zero bytes up to the size asked for. */
static bool populate_one(struct call *call, struct span prefix, int64_t number, char *value, size_t size) {
    char name[512 + 32], text[32];
    int name_length = snprintf(name, sizeof(name), "%.*s:%lld", (int)prefix.length, prefix.data, (long long)number);
    size_t length = (size_t)snprintf(text, sizeof(text), "value:%lld", (long long)number);
    struct key key = keyspace_key(call->view.keyspace, span_of(name, (size_t)name_length));
    struct lookup lookup = keyspace_find_for_write(&call->view, &key);
    if (lookup.record) return true;
    if (size == 0) return string_store(call, &key, &lookup, span_of(text, length), RECORD_EXPIRY_NONE);
    memcpy(value, text, length < size ? length : size);
    return string_store(call, &key, &lookup, span_of(value, size), RECORD_EXPIRY_NONE);
}

static void debug_populate(struct call *call) {
    int64_t count, size = 0;
    struct span prefix = call->argc > 3 ? call->argv[3] : SPAN_LITERAL("key");
    if (!call_integer_within(call, 2, 0, INT64_MAX, NOT_POSITIVE, &count)) return;
    if (call->argc > 4 && !call_integer_within(call, 4, 0, (int64_t)LIMIT_VALUE_BYTES, NOT_POSITIVE, &size)) return;
    if (prefix.length > 512) {
        reply_error(call->reply, "ERR the prefix has more than 512 bytes");
        return;
    }
    char *value = calloc(1, (size_t)size + 1);
    bool stored = value != NULL;
    if (!value) call_no_memory(call);
    for (int64_t number = 0; stored && number < count; number++)
        stored = populate_one(call, prefix, number, value, (size_t)size);
    free(value);
    if (stored) reply_ok(call->reply);
}

/* Every shard is locked, so each record is gathered once. */
static void digest_index(const struct call *call, const struct index *index, uint32_t database, struct digest *digest) {
    uint64_t refs[INDEX_GATHER_MAX], position = 0;
    struct view view = call->view;
    view.database = database;
    do {
        size_t count = index_gather(index, position, INDEX_GATHER_MAX, false, refs, &position);
        for (size_t i = 0; i < count; i++) {
            const struct record *record = keyspace_record(&view, refs[i]);
            if (!record || record_is_expired(record, view.now_ms)) continue;
            digest_add_record(digest, database, record, digest_value_of(&view, record));
        }
        if (call->view.port) tier_trim(call->view.port);
    } while (position);
}

static void debug_digest(struct call *call) {
    const struct keyspace *keyspace = call->view.keyspace;
    struct digest digest = {0};
    char text[DIGEST_TEXT + 1];
    for (uint32_t i = 0; i < keyspace->shard_count; i++)
        for (uint32_t database = 0; database < keyspace->database_count; database++)
            if (keyspace->shards[i].databases[database])
                digest_index(call, keyspace->shards[i].databases[database], database, &digest);
    digest_print(&digest, text);
    reply_simple(call->reply, text);
}

static void debug_digest_value(struct call *call) {
    reply_array(call->reply, call->argc - 2);
    for (uint32_t i = 2; i < call->argc; i++) {
        struct key key = keyspace_key(call->view.keyspace, call->argv[i]);
        struct lookup lookup = keyspace_find(&call->view, &key);
        struct digest digest = {0};
        char text[DIGEST_TEXT + 1];
        if (lookup.record) digest_add_value(&digest, lookup.record, digest_value_of(&call->view, lookup.record));
        digest_print(&digest, text);
        reply_simple(call->reply, text);
    }
}

/* ---- for client libraries ---- */

static void protocol_attribute(struct call *call) {
    if (call->reply->resp3) {
        reply_raw(call->reply, "|1\r\n", 4);
        reply_bulk_text(call->reply, "key-popularity");
        reply_array(call->reply, 2);
        reply_bulk_text(call->reply, "key:123");
        reply_integer(call->reply, 90);
    }
    reply_bulk_text(call->reply, "Some real reply following the attribute");
}

static void protocol_push(struct call *call) {
    if (!call->reply->resp3) {
        reply_error(call->reply, "ERR RESP2 is not supported by this command");
        return;
    }
    reply_push(call->reply, 2);
    reply_bulk_text(call->reply, "server-cpu-usage");
    reply_integer(call->reply, 42);
    reply_bulk_text(call->reply, "Some real reply following the push reply");
}

/* False: no such type. */
static bool protocol_scalar(struct call *call) {
    struct reply *reply = call->reply;
    if (call_is(call, 2, "string"))
        reply_bulk_text(reply, "Hello World");
    else if (call_is(call, 2, "integer"))
        reply_integer(reply, 12345);
    else if (call_is(call, 2, "double"))
        reply_double(reply, 3.141);
    else if (call_is(call, 2, "null"))
        reply_null(reply);
    else if (call_is(call, 2, "verbatim"))
        reply_verbatim(reply, SPAN_LITERAL("This is a verbatim\nstring"));
    else if (call_is(call, 2, "true"))
        reply_bool(reply, true);
    else if (call_is(call, 2, "false"))
        reply_bool(reply, false);
    else if (call_is(call, 2, "bignum"))
        reply_big_number(reply, SPAN_LITERAL("1234567999999999999999999999999999999"));
    else
        return false;
    return true;
}

static void debug_protocol(struct call *call) {
    struct reply *reply = call->reply;
    bool map = call_is(call, 2, "map");
    if (protocol_scalar(call)) return;
    if (call_is(call, 2, "attrib")) {
        protocol_attribute(call);
    } else if (call_is(call, 2, "push")) {
        protocol_push(call);
    } else if (map || call_is(call, 2, "array") || call_is(call, 2, "set")) {
        if (map)
            reply_map(reply, 3);
        else if (call_is(call, 2, "set"))
            reply_set(reply, 3);
        else
            reply_array(reply, 3);
        for (int i = 0; i < 3; i++) {
            reply_integer(reply, i);
            if (map) reply_bool(reply, i == 1);
        }
    } else {
        reply_error(reply, "ERR Wrong protocol type name. Please use one of the following: "
                           "string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false");
    }
}

static void debug_error(struct call *call) {
    reply_error_format(call->reply, "%.*s", (int)(call->argv[2].length < 1000 ? call->argv[2].length : 1000),
                       call->argv[2].data);
}

static void debug_stringmatch_len(struct call *call) {
    reply_integer(call->reply, glob_match(call->argv[2], call->argv[3], GLOB_CASE_EXACT));
}

static void debug_log(struct call *call) {
    char text[1024];
    log_escape(text, sizeof(text), call->argv[2]);
    log_warning("DEBUG LOG: %s", text);
    reply_ok(call->reply);
}

/* ---- crashes ---- */

static void debug_segfault(struct call *call) {
    (void)call;
    log_warning("DEBUG SEGFAULT");
    raise(SIGSEGV);
}

static void debug_panic(struct call *call) {
    (void)call;
    log_warning("DEBUG PANIC");
    abort();
}

static void debug_assert(struct call *call) {
    assert(!call_is(call, 1, "assert"));
}

/* ---- the command ---- */

static void debug_help(struct call *call) {
    static const char *const lines[] = {
        "AOF-FLUSH-SLEEP <microseconds>",
        "    The writer of the append-only file sleeps so long before each batch; 0 ends it.",
        "ASSERT",
        "    Crash by a failed assertion.",
        "CHANGE-REPL-ID",
        "    Choose a new replication id.",
        "CONFIG-REWRITE-FORCE-ALL",
        "    CONFIG REWRITE with a line for every directive.",
        "DIGEST",
        "    A hexadecimal digest of all keys, values and expiry flags.",
        "DIGEST-VALUE <key> [<key> ...]",
        "    A digest of each of these values.",
        "ERROR <text>",
        "    Reply with this error.",
        "LOADAOF",
        "    Replace the dataset by what the append-only file holds.",
        "LOG <text>",
        "    Write this to the server's log.",
        "MALLCTL <name> [<value>]",
        "    Set a number of the allocator's, and show what it was or is.",
        "MALLCTL-STR <name> [<value>]",
        "    The same for texts; the value VOID triggers what takes none.",
        "OBJECT <key>",
        "    How the value of <key> is kept.",
        "PANIC",
        "    Crash on purpose.",
        "PAUSE-CRON <0|1>",
        "    1 stops all periodic work, 0 resumes it.",
        "POPULATE <count> [<prefix>] [<size>]",
        "    Create <count> strings <prefix>:<number>, unless they exist (default prefix: key).",
        "PROTOCOL <type>",
        "    Reply with a value of this type: string, integer, double, bignum, null, array,",
        "    set, map, attrib, push, verbatim, true, false.",
        "QUICKLIST-PACKED-THRESHOLD <size>",
        "    Accepted without effect: lists have no nodes of one element.",
        "REPLYBUFFER <PEAK-RESET-TIME|RESIZING> <value>",
        "    Accepted without effect: clients have no reply buffers of their own.",
        "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
        "    Save a snapshot, empty all databases and load it again. Without NOFLUSH and MERGE keys that are",
        "    there already are an error; MERGE replaces them.",
        "SEGFAULT",
        "    Crash with a segmentation fault.",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    0 leaves expired keys until they are accessed, 1 removes them in the background.",
        "SET-DISABLE-DENY-SCRIPTS <0|1>",
        "    1 lets scripts call commands that are kept from them.",
        "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
        "    1 lets RESTORE take payloads whose checksum is wrong.",
        "SLEEP <seconds>",
        "    Stop the whole server for so long; fractions are allowed.",
        "STRINGMATCH-LEN <pattern> <text>",
        "    1 if the glob pattern matches the text, else 0.",
        NULL,
    };
    call_help(call, lines);
}

static const struct {
    const char *name;
    uint32_t arguments_min, arguments_max; /* besides the name */
    void (*run)(struct call *call);
} subcommands[] = {
    {"aof-flush-sleep", 1, 1, debug_aof_flush_sleep},
    {"assert", 0, 0, debug_assert},
    {"change-repl-id", 0, 0, debug_change_repl_id},
    {"config-rewrite-force-all", 0, 0, debug_config_rewrite_force_all},
    {"digest", 0, 0, debug_digest},
    {"digest-value", 1, UINT32_MAX, debug_digest_value},
    {"error", 1, 1, debug_error},
    {"help", 0, 0, debug_help},
    {"loadaof", 0, 0, debug_loadaof},
    {"log", 1, 1, debug_log},
    {"mallctl", 1, 2, debug_mallctl},
    {"mallctl-str", 1, 2, debug_mallctl_str},
    {"object", 1, 1, debug_object},
    {"panic", 0, 0, debug_panic},
    {"pause-cron", 1, 1, debug_pause_cron},
    {"populate", 1, 3, debug_populate},
    {"protocol", 1, 1, debug_protocol},
    {"quicklist-packed-threshold", 1, 1, debug_no_such_thing},
    {"reload", 0, 3, debug_reload},
    {"replybuffer", 2, 2, debug_no_such_thing},
    {"segfault", 0, 0, debug_segfault},
    {"set-active-expire", 1, 1, debug_set_active_expire},
    {"set-disable-deny-scripts", 1, 1, debug_set_disable_deny_scripts},
    {"set-skip-checksum-validation", 1, 1, debug_set_skip_checksum_validation},
    {"sleep", 1, 1, debug_sleep},
    {"stringmatch-len", 2, 2, debug_stringmatch_len},
};

static void command_debug(struct call *call) {
    for (unsigned i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++) {
        if (!call_is(call, 1, subcommands[i].name)) continue;
        if (call->argc - 2 < subcommands[i].arguments_min || call->argc - 2 > subcommands[i].arguments_max) break;
        subcommands[i].run(call);
        return;
    }
    struct span name = call->argv[1];
    reply_error_format(call->reply, "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try DEBUG HELP.",
                       (int)(name.length < 128 ? name.length : 128), name.data);
}

const struct command_spec debug_commands[] = {
    {.name = "debug",
     .handler = command_debug,
     .arity = -2,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_PROTECTED |
              COMMAND_EXCLUSIVE | COMMAND_KEEP_ACCESS,
     .group = "server",
     .since = "1.0.0",
     .internal = true,
     .summary = "Helps tests of servers and clients",
     .complexity = "Depends on the subcommand"},
};
const unsigned debug_command_count = sizeof(debug_commands) / sizeof(debug_commands[0]);
