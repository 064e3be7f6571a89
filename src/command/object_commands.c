/* OBJECT: what is known of a key besides its value. Looking is not using, so the access bits stay.
 *
 * REFCOUNT: a record has exactly one reference. The integers that Redis shares among all keys are reported as it
 * reports them, because test suites of clients look for it; where each key is judged by its uses they are not shared.
 */

#include "command/families.h"
#include "command/record_names.h"

enum { SHARED_INTEGERS = 10000 };

#define SWITCHED_POLICY                                                                                                \
    "Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."
#define ERROR_COUNTS_NO_USES                                                                                           \
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. " SWITCHED_POLICY
#define ERROR_KEEPS_NO_TIMES "ERR An LFU maxmemory policy is selected, idle time not tracked. " SWITCHED_POLICY

/* NULL: there is no such key; the reply is composed. */
static const struct record *find(struct call *call) {
    call->view.unheard = true;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!lookup.record) reply_null(call->reply);
    return lookup.record;
}

static void command_object_encoding(struct call *call) {
    const struct record *record = find(call);
    if (record) reply_bulk_text(call->reply, record_encoding_name(record));
}

static void command_object_refcount(struct call *call) {
    const struct record *record = find(call);
    if (!record) return;
    bool shared = !call->view.keyspace->access.evicts && record_type(record) == RECORD_STRING &&
                  record_is_integer(record) && record_integer(record) >= 0 && record_integer(record) < SHARED_INTEGERS;
    reply_integer(call->reply, shared ? INT32_MAX : 1);
}

static void command_object_idletime(struct call *call) {
    const struct record *record = find(call);
    if (!record) return;
    if (call->view.keyspace->access.frequency)
        reply_error(call->reply, ERROR_KEEPS_NO_TIMES);
    else
        reply_integer(call->reply, access_idle_seconds(record_access(record), call->view.now_ms));
}

static void command_object_freq(struct call *call) {
    const struct access_policy *policy = &call->view.keyspace->access;
    const struct record *record = find(call);
    if (!record) return;
    if (!policy->frequency)
        reply_error(call->reply, ERROR_COUNTS_NO_USES);
    else
        reply_integer(call->reply, access_frequency(policy, record_access(record), call->view.now_ms));
}

/* Where the record is, which looking at it does not change. */
static void command_object_medium(struct call *call) {
    call->view.unheard = true;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!lookup.record)
        reply_null(call->reply);
    else
        reply_bulk_text(call->reply, lookup_is_cold(&lookup)                ? "tier"
                                     : ref_medium(lookup.ref) == MEDIUM_FAR ? "far"
                                                                            : "dram");
}

static void command_object_help(struct call *call) {
    static const char *const lines[] = {
        "ENCODING <key>",
        "    The name of the encoding that the value of <key> has.",
        "FREQ <key>",
        "    How often <key> is used: a logarithmic counter, kept under an LFU policy.",
        "IDLETIME <key>",
        "    The seconds since <key> was last used, kept unless the policy is an LFU one.",
        "MEDIUM <key>",
        "    Where <key> is: dram, far or tier.",
        "REFCOUNT <key>",
        "    How many references the value of <key> has.",
        NULL,
    };
    call_help(call, lines);
}

#define OBJECT_ROW(name_, handler_, since_, summary_)                                                                  \
    {                                                                                                                  \
        .name = (name_), .handler = (handler_), .arity = 3, .flags = COMMAND_READONLY | COMMAND_KEEP_ACCESS,           \
        .categories = CATEGORY_KEYSPACE, .keys = {KEY_AT(2, KEY_RO)}, .group = "generic", .since = (since_),           \
        .summary = (summary_), .complexity = "O(1)", .arguments = "key:k", .tips = "nondeterministic_output"           \
    }

static const struct command_spec object_subcommands[] = {
    OBJECT_ROW("encoding", command_object_encoding, "2.2.3", "The encoding of a key's value"),
    OBJECT_ROW("freq", command_object_freq, "4.0.0", "How often a key is used, as a logarithmic counter"),
    {.name = "help",
     .handler = command_object_help,
     .arity = 2,
     .flags = COMMAND_LOADING | COMMAND_STALE,
     .categories = CATEGORY_KEYSPACE,
     .group = "generic",
     .since = "6.2.0",
     .summary = "What the subcommands do",
     .complexity = "O(1)"},
    OBJECT_ROW("idletime", command_object_idletime, "2.2.3", "The seconds since a key was last used"),
    OBJECT_ROW("medium", command_object_medium, "7.2.0", "Where a key is: dram, far or tier"),
    OBJECT_ROW("refcount", command_object_refcount, "2.2.3", "The number of references to a key's value"),
};

const struct command_spec object_commands[] = {
    {.name = "object",
     .arity = -2,
     .group = "generic",
     .since = "2.2.3",
     .summary = "Commands that look at a key from the inside",
     .complexity = "That of the subcommand",
     .subcommands = object_subcommands,
     .subcommand_count = sizeof(object_subcommands) / sizeof(object_subcommands[0])},
};
const unsigned object_command_count = sizeof(object_commands) / sizeof(object_commands[0]);
