/* COMMAND: the command table, told to clients.
 *
 * Drivers ask it where the keys of a command are, redis-cli takes its hints from it. Everything comes from the rows of
 * the families; this file knows how Redis spells them on the wire:
 *
 *   COMMAND INFO    [name, arity, flags, first key, last key, step, ACL categories, tips, key specifications,
 * subcommands] COMMAND DOCS    a map by name of maps by field
 *
 * Sets, in RESP2 arrays, show bits in the order in which the enums of command.h declare them. */

#include "base/glob.h"
#include "command/argument_spec.h"
#include "command/dispatch.h"
#include "command/families.h"

#include <stdlib.h>

/* ---- sets of named bits ---- */

struct named_bit {
    uint32_t bit;
    const char *name;
};

static const struct named_bit flag_names[] = {
    {COMMAND_WRITE, "write"},
    {COMMAND_READONLY, "readonly"},
    {COMMAND_DENYOOM, "denyoom"},
    {COMMAND_ADMIN, "admin"},
    {COMMAND_PUBSUB, "pubsub"},
    {COMMAND_NOSCRIPT, "noscript"},
    {COMMAND_BLOCKING, "blocking"},
    {COMMAND_LOADING, "loading"},
    {COMMAND_STALE, "stale"},
    {COMMAND_SKIP_MONITOR, "skip_monitor"},
    {COMMAND_SKIP_SLOWLOG, "skip_slowlog"},
    {COMMAND_ASKING, "asking"},
    {COMMAND_FAST, "fast"},
    {COMMAND_NO_AUTH, "no_auth"},
    {COMMAND_NO_ASYNC_LOADING, "no_async_loading"},
    {COMMAND_NO_MULTI, "no_multi"},
    {COMMAND_MOVABLE_KEYS, "movablekeys"},
    {COMMAND_ALLOW_BUSY, "allow_busy"},
};

static const struct named_bit category_names[] = {
    {CATEGORY_KEYSPACE, "@keyspace"},
    {CATEGORY_READ, "@read"},
    {CATEGORY_WRITE, "@write"},
    {CATEGORY_SET, "@set"},
    {CATEGORY_SORTED_SET, "@sortedset"},
    {CATEGORY_LIST, "@list"},
    {CATEGORY_HASH, "@hash"},
    {CATEGORY_STRING, "@string"},
    {CATEGORY_BITMAP, "@bitmap"},
    {CATEGORY_HYPERLOGLOG, "@hyperloglog"},
    {CATEGORY_GEO, "@geo"},
    {CATEGORY_STREAM, "@stream"},
    {CATEGORY_PUBSUB, "@pubsub"},
    {CATEGORY_ADMIN, "@admin"},
    {CATEGORY_FAST, "@fast"},
    {CATEGORY_SLOW, "@slow"},
    {CATEGORY_BLOCKING, "@blocking"},
    {CATEGORY_DANGEROUS, "@dangerous"},
    {CATEGORY_CONNECTION, "@connection"},
    {CATEGORY_TRANSACTION, "@transaction"},
    {CATEGORY_SCRIPTING, "@scripting"},
};

static const struct named_bit key_flag_names[] = {
    {KEY_RW, "RW"},
    {KEY_RO, "RO"},
    {KEY_OW, "OW"},
    {KEY_RM, "RM"},
    {KEY_ACCESS, "access"},
    {KEY_UPDATE, "update"},
    {KEY_INSERT, "insert"},
    {KEY_DELETE, "delete"},
    {KEY_NOT_KEY, "not_key"},
    {KEY_INCOMPLETE, "incomplete"},
    {KEY_VARIABLE, "variable_flags"},
};

enum {
    FLAG_NAMES = sizeof(flag_names) / sizeof(flag_names[0]),
    CATEGORY_NAMES = sizeof(category_names) / sizeof(category_names[0]),
    KEY_FLAG_NAMES = sizeof(key_flag_names) / sizeof(key_flag_names[0]),
};

static void reply_bits(struct reply *reply, uint32_t bits, const struct named_bit *names, unsigned count) {
    unsigned members = 0;
    for (unsigned i = 0; i < count; i++) members += (bits & names[i].bit) != 0;
    reply_set(reply, members);
    for (unsigned i = 0; i < count; i++)
        if (bits & names[i].bit) reply_simple(reply, names[i].name);
}

static void reply_key_flags(struct reply *reply, uint32_t flags) {
    reply_bits(reply, flags, key_flag_names, KEY_FLAG_NAMES);
}

/* ---- texts that hold several entries ---- */

/* The entry that `*rest` begins with; moves it behind the separator. */
static struct span next_entry(const char **rest, char separator) {
    const char *begin = *rest, *end = strchr(begin, separator);
    size_t length = end ? (size_t)(end - begin) : strlen(begin);
    *rest = begin + length + (end != NULL);
    return span_of(begin, length);
}

static unsigned count_entries(const char *text, char separator) {
    unsigned count = 0;
    for (const char *rest = text; rest && *rest;) count += next_entry(&rest, separator).length > 0;
    return count;
}

static void reply_tips(struct reply *reply, const char *tips) {
    reply_set(reply, count_entries(tips, ' '));
    for (const char *rest = tips; rest && *rest;) {
        struct span tip = next_entry(&rest, ' ');
        if (tip.length) reply_bulk(reply, tip);
    }
}

static void reply_history(struct reply *reply, const char *history) {
    reply_set(reply, count_entries(history, '\n'));
    for (const char *rest = history; *rest;) {
        struct span entry = next_entry(&rest, '\n');
        if (entry.length == 0) continue;
        const char *blank = memchr(entry.data, ' ', entry.length);
        size_t version = blank ? (size_t)(blank - entry.data) : entry.length;
        size_t text = blank ? version + 1 : version;
        reply_array(reply, 2);
        reply_bulk(reply, span_of(entry.data, version));
        reply_bulk(reply, span_of(entry.data + text, entry.length - text));
    }
}

/* ---- COMMAND INFO ---- */

/* The one range that older clients read: that of the first specification when it is alone, else the stretch that
 * all plain ranges cover together when they stand next to each other. first 0: there is none. */
static void shown_range(const struct command *command, int *first, int *last, int *step) {
    const struct key_spec *specs = command->spec->keys;
    *first = *last = *step = 0;
    bool alone = specs[0].flags && !specs[1].flags;
    int begin = 0, end = 0;
    for (unsigned i = 0; i < COMMAND_KEY_SPECS && specs[i].flags; i++) {
        const struct key_spec *spec = &specs[i];
        if (spec->keyword || spec->counted || spec->unknown) continue;
        bool follows = end == 0 || end == spec->index - 1;
        if (!alone && (spec->step != 1 || !follows)) return;
        if (begin == 0) begin = spec->index;
        end = spec->last >= 0 ? spec->index + spec->last : spec->last;
        *step = spec->step;
    }
    *first = begin;
    *last = end;
    if (begin == 0) *step = 0;
}

static void reply_field(struct reply *reply, const char *field, int64_t value) {
    reply_bulk_text(reply, field);
    reply_integer(reply, value);
}

static void reply_unknown(struct reply *reply) {
    reply_map(reply, 2);
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, "unknown");
    reply_bulk_text(reply, "spec");
    reply_map(reply, 0);
}

static void reply_begin_search(struct reply *reply, const struct key_spec *spec) {
    reply_bulk_text(reply, "begin_search");
    if (spec->unknown) {
        reply_unknown(reply);
        return;
    }
    reply_map(reply, 2);
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, spec->keyword ? "keyword" : "index");
    reply_bulk_text(reply, "spec");
    if (!spec->keyword) {
        reply_map(reply, 1);
        reply_field(reply, "index", spec->index);
        return;
    }
    reply_map(reply, 2);
    reply_bulk_text(reply, "keyword");
    reply_bulk_text(reply, spec->keyword);
    reply_field(reply, "startfrom", spec->index);
}

static void reply_find_keys(struct reply *reply, const struct key_spec *spec) {
    reply_bulk_text(reply, "find_keys");
    if (spec->unknown) {
        reply_unknown(reply);
        return;
    }
    reply_map(reply, 2);
    reply_bulk_text(reply, "type");
    reply_bulk_text(reply, spec->counted ? "keynum" : "range");
    reply_bulk_text(reply, "spec");
    reply_map(reply, 3);
    if (spec->counted) {
        reply_field(reply, "keynumidx", spec->count_index);
        reply_field(reply, "firstkey", spec->first_offset);
        reply_field(reply, "keystep", spec->step);
    } else {
        reply_field(reply, "lastkey", spec->last);
        reply_field(reply, "keystep", spec->step);
        reply_field(reply, "limit", spec->limit);
    }
}

static void reply_key_specs(struct reply *reply, const struct key_spec *specs) {
    unsigned count = 0;
    while (count < COMMAND_KEY_SPECS && specs[count].flags) count++;
    reply_set(reply, count);
    for (unsigned i = 0; i < count; i++) {
        reply_map(reply, 3 + (specs[i].notes != NULL));
        if (specs[i].notes) {
            reply_bulk_text(reply, "notes");
            reply_bulk_text(reply, specs[i].notes);
        }
        reply_bulk_text(reply, "flags");
        reply_key_flags(reply, specs[i].flags);
        reply_begin_search(reply, &specs[i]);
        reply_find_keys(reply, &specs[i]);
    }
}

static void reply_info(struct reply *reply, const struct command *command) {
    int first, last, step;
    shown_range(command, &first, &last, &step);
    reply_array(reply, 10);
    reply_bulk_text(reply, command->full_name);
    reply_integer(reply, command->arity);
    reply_bits(reply, command->flags, flag_names, FLAG_NAMES);
    reply_integer(reply, first);
    reply_integer(reply, last);
    reply_integer(reply, step);
    reply_bits(reply, command->categories, category_names, CATEGORY_NAMES);
    reply_tips(reply, command->spec->tips);
    reply_key_specs(reply, command->spec->keys);
    if (command->subcommand_count == 0) {
        reply_set(reply, 0);
        return;
    }
    reply_array(reply, command->subcommand_count);
    for (unsigned i = 0; i < command->subcommand_count; i++) reply_info(reply, &command->subcommands[i]);
}

static void reply_info_of_all(struct call *call) {
    const struct command_table *table = call->dispatcher->table;
    unsigned count = command_table_count(table);
    reply_array(call->reply, command_table_named(table));
    for (unsigned i = 0; i < count; i++)
        if (command_table_is_named(table, command_table_at(table, i)))
            reply_info(call->reply, command_table_at(table, i));
}

/* A command by its full name, "get" or "client|list"; NULL: unknown. */
static const struct command *find_by_full_name(const struct command_table *table, struct span name) {
    const char *bar = name.length ? memchr(name.data, '|', name.length) : NULL;
    if (!bar) return command_table_find(table, name);
    size_t length = (size_t)(bar - name.data);
    const struct command *container = command_table_find(table, span_of(name.data, length));
    return container ? command_find_subcommand(container, span_of(bar + 1, name.length - length - 1)) : NULL;
}

static void command_info(struct call *call) {
    if (call->argc == 2) {
        reply_info_of_all(call);
        return;
    }
    reply_array(call->reply, call->argc - 2);
    for (uint32_t i = 2; i < call->argc; i++) {
        const struct command *command = find_by_full_name(call->dispatcher->table, call->argv[i]);
        if (command)
            reply_info(call->reply, command);
        else
            reply_null(call->reply);
    }
}

/* ---- COMMAND DOCS ---- */

static void reply_text_field(struct reply *reply, const char *field, const char *text) {
    if (!text) return;
    reply_bulk_text(reply, field);
    reply_bulk_text(reply, text);
}

static void reply_docs(struct reply *reply, const struct command *command) {
    const struct command_spec *spec = command->spec;
    unsigned doc_flags = spec->internal + (spec->deprecated_since != NULL);
    reply_bulk_text(reply, command->full_name);
    reply_map(reply, 3u + (spec->complexity != NULL) + (doc_flags > 0) + (spec->deprecated_since != NULL) +
                         (spec->replaced_by != NULL) + (spec->history != NULL) + (spec->arguments != NULL) +
                         (command->subcommand_count > 0));
    reply_text_field(reply, "summary", spec->summary);
    reply_text_field(reply, "since", spec->since);
    reply_text_field(reply, "group", spec->group);
    reply_text_field(reply, "complexity", spec->complexity);
    if (doc_flags) {
        reply_bulk_text(reply, "doc_flags");
        reply_set(reply, doc_flags);
        if (spec->deprecated_since) reply_simple(reply, "deprecated");
        if (spec->internal) reply_simple(reply, "syscmd");
    }
    reply_text_field(reply, "deprecated_since", spec->deprecated_since);
    reply_text_field(reply, "replaced_by", spec->replaced_by);
    if (spec->history) {
        reply_bulk_text(reply, "history");
        reply_history(reply, spec->history);
    }
    if (spec->arguments) {
        reply_bulk_text(reply, "arguments");
        argument_spec_reply(reply, spec);
    }
    if (command->subcommand_count == 0) return;
    reply_bulk_text(reply, "subcommands");
    reply_map(reply, command->subcommand_count);
    for (unsigned i = 0; i < command->subcommand_count; i++) reply_docs(reply, &command->subcommands[i]);
}

static void command_docs(struct call *call) {
    const struct command_table *table = call->dispatcher->table;
    if (call->argc == 2) {
        unsigned count = command_table_count(table);
        reply_map(call->reply, command_table_named(table));
        for (unsigned i = 0; i < count; i++)
            if (command_table_is_named(table, command_table_at(table, i)))
                reply_docs(call->reply, command_table_at(table, i));
        return;
    }
    unsigned known = 0;
    for (uint32_t i = 2; i < call->argc; i++) known += find_by_full_name(table, call->argv[i]) != NULL;
    reply_map(call->reply, known);
    for (uint32_t i = 2; i < call->argc; i++) {
        const struct command *command = find_by_full_name(table, call->argv[i]);
        if (command) reply_docs(call->reply, command);
    }
}

/* ---- COMMAND LIST ---- */

enum list_filter { LIST_ALL, LIST_CATEGORY, LIST_PATTERN, LIST_MODULE };

static uint32_t category_named(struct span name) {
    for (unsigned i = 0; i < CATEGORY_NAMES; i++)
        if (span_is_word(name, category_names[i].name + 1)) return category_names[i].bit;
    return 0;
}

static bool is_listed(const struct command *command, enum list_filter filter, uint32_t category, struct span text) {
    switch (filter) {
    case LIST_ALL: return true;
    case LIST_CATEGORY: return command->categories & category;
    case LIST_PATTERN: return glob_match(text, span_of_text(command->full_name), GLOB_CASE_EXACT);
    case LIST_MODULE: break; /* there are no modules */
    }
    return false;
}

static bool parse_list_filter(struct call *call, enum list_filter *filter) {
    *filter = LIST_ALL;
    if (call->argc == 2) return true;
    if (call->argc != 5 || !call_is(call, 2, "filterby")) return false;
    if (call_is(call, 3, "module"))
        *filter = LIST_MODULE;
    else if (call_is(call, 3, "aclcat"))
        *filter = LIST_CATEGORY;
    else if (call_is(call, 3, "pattern"))
        *filter = LIST_PATTERN;
    return *filter != LIST_ALL;
}

static void command_list(struct call *call) {
    const struct command_table *table = call->dispatcher->table;
    enum list_filter filter;
    if (!parse_list_filter(call, &filter)) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    struct span text = filter == LIST_ALL ? SPAN_LITERAL("") : call->argv[4];
    uint32_t category = filter == LIST_CATEGORY ? category_named(text) : 0;
    struct reply_aggregate list = reply_begin(call->reply);
    size_t count = 0;
    for (unsigned id = 0; id < command_table_ids(table); id++) {
        const struct command *command = command_table_by_id(table, id);
        if (!command_table_is_named(table, command) || !is_listed(command, filter, category, text)) continue;
        reply_bulk_text(call->reply, command->full_name);
        count++;
    }
    reply_end(call->reply, list, '*', count);
}

/* ---- COMMAND GETKEYS ---- */

/* What SET and BITFIELD do with their key depends on their arguments. */

static uint32_t settle_set(const struct span *argv, uint32_t argc) {
    for (uint32_t at = 3; at < argc; at++)
        if (span_is_word(argv[at], "get")) return KEY_RW | KEY_ACCESS | KEY_UPDATE;
    return KEY_OW | KEY_UPDATE;
}

/* Operations that only read, and nothing else. */
static uint32_t settle_bitfield(const struct span *argv, uint32_t argc) {
    uint32_t at = 2;
    while (at < argc) {
        if (span_is_word(argv[at], "get") && argc - at > 2)
            at += 3;
        else if (span_is_word(argv[at], "overflow") && argc - at > 1)
            at += 2;
        else
            return KEY_RW | KEY_ACCESS | KEY_UPDATE;
    }
    return KEY_RO | KEY_ACCESS;
}

static uint32_t settle_flags(const struct command *command, const struct span *argv, uint32_t argc, uint32_t flags) {
    if (!(flags & KEY_VARIABLE)) return flags;
    if (strcmp(command->full_name, "set") == 0) return settle_set(argv, argc);
    if (strcmp(command->full_name, "bitfield") == 0) return settle_bitfield(argv, argc);
    return flags & ~(uint32_t)KEY_VARIABLE;
}

static const struct command *find_in_arguments(const struct command_table *table, const struct span *argv,
                                               uint32_t argc) {
    const struct command *command = command_table_find(table, argv[0]);
    if (!command || command->subcommand_count == 0 || argc < 2) return command;
    return command_find_subcommand(command, argv[1]);
}

/* The keys of the command that stands in the arguments from the third one on. */
static void reply_keys(struct call *call, bool with_flags) {
    struct span *argv = call->argv + 2;
    uint32_t argc = call->argc - 2;
    const struct command *command = find_in_arguments(call->dispatcher->table, argv, argc);
    if (!command) {
        reply_error(call->reply, "ERR Invalid command specified");
        return;
    }
    if (!command->spec->keys[0].flags) {
        reply_error(call->reply, "ERR The command has no key arguments");
        return;
    }
    if (!command_arity_fits(command, argc)) {
        reply_error(call->reply, "ERR Invalid number of arguments specified for command");
        return;
    }
    int count = command_key_positions(command, argv, argc, NULL, NULL, 0);
    if (count < 0) {
        reply_error(call->reply, "ERR Invalid arguments specified for command");
        return;
    }
    uint32_t *positions = malloc(2 * ((size_t)count + 1) * sizeof(*positions));
    if (!positions) {
        call_no_memory(call);
        return;
    }
    uint32_t *flags = positions + count;
    command_key_positions(command, argv, argc, positions, flags, (uint32_t)count);
    reply_array(call->reply, (size_t)count);
    for (int i = 0; i < count; i++) {
        if (with_flags) reply_array(call->reply, 2);
        reply_bulk(call->reply, argv[positions[i]]);
        if (with_flags) reply_key_flags(call->reply, settle_flags(command, argv, argc, flags[i]));
    }
    free(positions);
}

static void command_getkeys(struct call *call) {
    reply_keys(call, false);
}
static void command_getkeysandflags(struct call *call) {
    reply_keys(call, true);
}

/* ---- the rest ---- */

static void command_all(struct call *call) {
    reply_info_of_all(call);
}

static void command_count(struct call *call) {
    reply_integer(call->reply, command_table_named(call->dispatcher->table));
}

static void command_help(struct call *call) {
    static const char *const lines[] = {
        "(without a subcommand)",
        "    The details of every command.",
        "COUNT",
        "    The number of commands.",
        "DOCS [<command-name> ...]",
        "    The documentation of the named commands, or of all.",
        "GETKEYS <command> [<arg> ...]",
        "    The keys among the arguments of a whole command.",
        "GETKEYSANDFLAGS <command> [<arg> ...]",
        "    The same, and what the command does with each key.",
        "INFO [<command-name> ...]",
        "    The details of the named commands, or of all.",
        "LIST [FILTERBY MODULE <name>|ACLCAT <category>|PATTERN <pattern>]",
        "    The names of all commands, or of those that the filter lets through.",
        NULL,
    };
    call_help(call, lines);
}

#define COMMAND_TOLD (COMMAND_LOADING | COMMAND_STALE)

static const struct command_spec command_subcommands[] = {
    {.name = "count",
     .handler = command_count,
     .arity = 2,
     .flags = COMMAND_TOLD,
     .categories = CATEGORY_CONNECTION,
     .group = "server",
     .since = "2.8.13",
     .summary = "How many commands there are",
     .complexity = "O(1)"},
    {.name = "docs",
     .handler = command_docs,
     .arity = -2,
     .flags = COMMAND_TOLD,
     .categories = CATEGORY_CONNECTION,
     .group = "server",
     .since = "7.0.0",
     .summary = "The documentation of commands",
     .complexity = "O(N), N commands looked up",
     .tips = "nondeterministic_output_order",
     .arguments = "[command-name...]"},
    {.name = "getkeys",
     .handler = command_getkeys,
     .arity = -4,
     .flags = COMMAND_TOLD,
     .categories = CATEGORY_CONNECTION,
     .group = "server",
     .since = "2.8.13",
     .summary = "The keys among the arguments of a command",
     .complexity = "O(N), N arguments"},
    {.name = "getkeysandflags",
     .handler = command_getkeysandflags,
     .arity = -4,
     .flags = COMMAND_TOLD,
     .categories = CATEGORY_CONNECTION,
     .group = "server",
     .since = "7.0.0",
     .summary = "The keys among the arguments of a command, and what it does with them",
     .complexity = "O(N), N arguments"},
    {.name = "help",
     .handler = command_help,
     .arity = 2,
     .flags = COMMAND_TOLD,
     .categories = CATEGORY_CONNECTION,
     .group = "server",
     .since = "5.0.0",
     .summary = "The subcommands of COMMAND",
     .complexity = "O(1)"},
    {.name = "info",
     .handler = command_info,
     .arity = -2,
     .flags = COMMAND_TOLD,
     .categories = CATEGORY_CONNECTION,
     .group = "server",
     .since = "2.8.13",
     .summary = "The details of commands",
     .complexity = "O(N), N commands looked up",
     .history = "7.0.0 Without names it tells of all commands.",
     .tips = "nondeterministic_output_order",
     .arguments = "[command-name...]"},
    {.name = "list",
     .handler = command_list,
     .arity = -2,
     .flags = COMMAND_TOLD,
     .categories = CATEGORY_CONNECTION,
     .group = "server",
     .since = "7.0.0",
     .summary = "The names of commands",
     .complexity = "O(N), N commands in all",
     .tips = "nondeterministic_output_order",
     .arguments = "[FILTERBY filterby(MODULE module-name|ACLCAT category|PATTERN pattern:p)]"},
};

const struct command_spec command_commands[] = {
    {.name = "command",
     .handler = command_all,
     .arity = -1,
     .flags = COMMAND_TOLD,
     .categories = CATEGORY_CONNECTION,
     .group = "server",
     .since = "2.8.13",
     .summary = "The details of all commands",
     .complexity = "O(N), N commands in all",
     .tips = "nondeterministic_output_order",
     .subcommands = command_subcommands,
     .subcommand_count = sizeof(command_subcommands) / sizeof(command_subcommands[0])},
};
const unsigned command_command_count = sizeof(command_commands) / sizeof(command_commands[0]);
