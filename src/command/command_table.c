/* The command table: runtime copies of the families' rows, found by name through open addressing. There are two such
 * indexes: of the names clients use, and of those the rows declare. They differ where commands were renamed. */

#include "command/command_table.h"

#include "base/number.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { SLOTS = 1024 }; /* several times the number of commands, a power of two */

struct command_table {
    struct command *commands; /* top-level ones first, then subcommands, by id */
    unsigned count, ids;
    const char **names; /* of top-level commands, by id: the declared one, or one of `given`; NULL: it has none */
    char **given;       /* owned; NULL: the command was not renamed */
    const struct command *slots[SLOTS], *declared[SLOTS];
};

static unsigned hash_name(struct span name) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.length; i++) hash = (hash ^ ((unsigned char)name.data[i] | 0x20)) * 16777619u;
    return (hash ^ hash >> 15) & (SLOTS - 1);
}

static const struct {
    uint32_t flag, category;
} implied_categories[] = {
    {COMMAND_WRITE, CATEGORY_WRITE},
    {COMMAND_READONLY, CATEGORY_READ},
    {COMMAND_ADMIN, CATEGORY_ADMIN | CATEGORY_DANGEROUS},
    {COMMAND_PUBSUB, CATEGORY_PUBSUB},
    {COMMAND_FAST, CATEGORY_FAST},
    {COMMAND_BLOCKING, CATEGORY_BLOCKING},
};

/* One plain range, or several next to each other (RENAME's two keys, BITOP's destination and sources), is what dispatch
 * can hash without looking at the specifications again. */
static void set_key_range(struct command *command) {
    const struct key_spec *specs = command->spec->keys;
    if (!specs[0].flags) {
        command->no_keys = !(command->flags & COMMAND_MOVABLE_KEYS);
        return;
    }
    if (command->flags & COMMAND_MOVABLE_KEYS) return;
    int32_t last = specs[0].index - 1;
    for (unsigned i = 0; i < COMMAND_KEY_SPECS && specs[i].flags; i++) {
        const struct key_spec *spec = &specs[i];
        if (spec->keyword || spec->counted || spec->limit || spec->index != last + 1) return;
        if ((i > 0 || specs[1].flags) && spec->step != 1) return;
        last = spec->last >= 0 ? spec->index + spec->last : spec->last;
    }
    command->first_key = (int16_t)specs[0].index;
    command->last_key = (int16_t)last;
    command->key_step = (int16_t)specs[0].step;
}

static bool fill(struct command *command, const struct command_spec *spec, const struct command *parent, unsigned id) {
    *command = (struct command){.spec = spec,
                                .parent = parent,
                                .handler = spec->handler,
                                .arity = spec->arity,
                                .flags = spec->flags,
                                .categories = spec->categories,
                                .id = (uint16_t)id};
    for (unsigned i = 0; i < sizeof(implied_categories) / sizeof(implied_categories[0]); i++)
        if (command->flags & implied_categories[i].flag) command->categories |= implied_categories[i].category;
    if (!(command->categories & CATEGORY_FAST)) command->categories |= CATEGORY_SLOW;
    set_key_range(command);
    if (!parent) {
        command->full_name = spec->name;
        return true;
    }
    char *name = NULL;
    if (asprintf(&name, "%s|%s", parent->spec->name, spec->name) < 0) return false;
    command->full_name = name;
    return true;
}

static void add_slot(const struct command *slots[SLOTS], const char *name, const struct command *command) {
    unsigned slot = hash_name(span_of_text(name));
    while (slots[slot]) slot = (slot + 1) & (SLOTS - 1);
    slots[slot] = command;
}

static void add_slots(struct command_table *table) {
    memset(table->slots, 0, sizeof(table->slots));
    for (unsigned i = 0; i < table->count; i++)
        if (table->names[i]) add_slot(table->slots, table->names[i], &table->commands[i]);
}

static bool add_all(struct command_table *table, const struct command_family *families, unsigned count) {
    unsigned id = 0, subcommand_id = table->count;
    for (unsigned f = 0; f < count; f++) {
        for (unsigned i = 0; i < families[f].count; i++, id++) {
            const struct command_spec *spec = &families[f].specs[i];
            struct command *command = &table->commands[id];
            if (!fill(command, spec, NULL, id)) return false;
            command->subcommands = &table->commands[subcommand_id];
            command->subcommand_count = spec->subcommand_count;
            for (unsigned k = 0; k < spec->subcommand_count; k++, subcommand_id++)
                if (!fill(&table->commands[subcommand_id], &spec->subcommands[k], command, subcommand_id)) return false;
            assert(!command_table_find_told(table, span_of_text(spec->name)));
            table->names[id] = spec->name;
            add_slot(table->declared, spec->name, command);
        }
    }
    return true;
}

struct command_table *command_table_create(const struct command_family *families, unsigned count) {
    struct command_table *table = calloc(1, sizeof(*table));
    if (!table) return NULL;
    for (unsigned f = 0; f < count; f++) {
        table->count += families[f].count;
        for (unsigned i = 0; i < families[f].count; i++) table->ids += families[f].specs[i].subcommand_count;
    }
    table->ids += table->count;
    assert(table->count * 2 < SLOTS && table->ids < UINT16_MAX);
    table->commands = calloc(table->ids, sizeof(*table->commands));
    table->names = calloc(table->count, sizeof(*table->names));
    table->given = calloc(table->count, sizeof(*table->given));
    if (!table->commands || !table->names || !table->given || !add_all(table, families, count)) {
        command_table_destroy(table);
        return NULL;
    }
    add_slots(table);
    return table;
}

void command_table_destroy(struct command_table *table) {
    if (!table) return;
    for (unsigned i = table->count; table->commands && i < table->ids; i++)
        free((char *)(uintptr_t)table->commands[i].full_name);
    for (unsigned i = 0; table->given && i < table->count; i++) free(table->given[i]);
    free(table->given);
    free(table->names);
    free(table->commands);
    free(table);
}

enum command_rename command_table_rename(struct command_table *table, struct span name, struct span new_name) {
    const struct command *command = command_table_find(table, name);
    if (!command) return COMMAND_RENAME_UNKNOWN;
    const struct command *other = new_name.length ? command_table_find(table, new_name) : NULL;
    if (other && other != command) return COMMAND_RENAME_TAKEN;
    char *given = new_name.length ? strndup(new_name.data, new_name.length) : NULL;
    if (new_name.length && !given) return COMMAND_RENAME_NO_MEMORY;
    for (char *c = given; c && *c; c++) *c = (char)tolower((unsigned char)*c); /* as declared names are */
    free(table->given[command->id]);
    table->names[command->id] = table->given[command->id] = given;
    add_slots(table);
    return COMMAND_RENAMED;
}

const struct command *command_table_find(const struct command_table *table, struct span name) {
    for (unsigned slot = hash_name(name); table->slots[slot]; slot = (slot + 1) & (SLOTS - 1))
        if (span_is_word(name, table->names[table->slots[slot]->id])) return table->slots[slot];
    return NULL;
}

const struct command *command_table_find_told(const struct command_table *table, struct span name) {
    const struct command *command = command_table_find(table, name);
    for (unsigned slot = hash_name(name); !command && table->declared[slot]; slot = (slot + 1) & (SLOTS - 1))
        if (span_is_word(name, table->declared[slot]->spec->name)) command = table->declared[slot];
    return command;
}

bool command_table_is_named(const struct command_table *table, const struct command *command) {
    return table->names[command->parent ? command->parent->id : command->id] != NULL;
}

unsigned command_table_named(const struct command_table *table) {
    unsigned named = 0;
    for (unsigned i = 0; i < table->count; i++) named += table->names[i] != NULL;
    return named;
}

const struct command *command_find_subcommand(const struct command *container, struct span name) {
    for (unsigned i = 0; i < container->subcommand_count; i++)
        if (span_is_word(name, container->subcommands[i].spec->name)) return &container->subcommands[i];
    return NULL;
}

unsigned command_table_count(const struct command_table *table) {
    return table->count;
}
unsigned command_table_ids(const struct command_table *table) {
    return table->ids;
}
const struct command *command_table_at(const struct command_table *table, unsigned index) {
    return index < table->count ? &table->commands[index] : NULL;
}
const struct command *command_table_by_id(const struct command_table *table, unsigned id) {
    return id < table->ids ? &table->commands[id] : NULL;
}

/* ---- keys ---- */

struct key_range {
    int64_t first, last, step;
};

/* The position at which a specification's search begins; 0: its keyword does not occur. */
static int64_t begin_of(const struct key_spec *spec, const struct span *argv, uint32_t argc) {
    if (!spec->keyword) return spec->index;
    int64_t start = spec->index > 0 ? spec->index : (int64_t)argc + spec->index, step = spec->index > 0 ? 1 : -1;
    for (int64_t i = start; i > 0 && i < argc - 1; i += step)
        if (argv[i].length == strlen(spec->keyword) && strncasecmp(argv[i].data, spec->keyword, argv[i].length) == 0)
            return i + 1;
    return 0;
}

/* False: the arguments do not fit. `range->first` 0: no keys by this specification. */
static bool range_of(const struct key_spec *spec, const struct span *argv, uint32_t argc, struct key_range *range) {
    *range = (struct key_range){0, -1, spec->step ? spec->step : 1};
    if (spec->find) range->first = range->last = spec->find(argv, argc);
    if (spec->find || spec->unknown) return true;
    int64_t begin = begin_of(spec, argv, argc);
    if (begin <= 0) return true;
    if (begin >= argc) return false;
    range->first = begin;
    if (spec->counted) {
        int64_t count = 0;
        if (begin + spec->count_index >= argc || !number_parse_i64(argv[begin + spec->count_index], &count) ||
            count < 0)
            return false;
        if (count > argc) return false;
        range->first = begin + spec->first_offset;
        range->last = range->first + (count - 1) * range->step;
    } else if (spec->last >= 0) {
        range->last = begin + spec->last;
    } else {
        range->last =
            spec->limit <= 1 ? (int64_t)argc + spec->last : begin + ((int64_t)argc - begin) / spec->limit + spec->last;
    }
    return range->first <= range->last && range->last < argc;
}

static int key_positions(const struct command *command, const struct span *argv, uint32_t argc, uint32_t *positions,
                         uint32_t *flags, uint32_t capacity, bool partial) {
    uint32_t count = 0;
    for (unsigned s = 0; s < COMMAND_KEY_SPECS && command->spec->keys[s].flags; s++) {
        const struct key_spec *spec = &command->spec->keys[s];
        struct key_range range;
        if (!range_of(spec, argv, argc, &range)) {
            if (partial) continue;
            return -1;
        }
        for (int64_t i = range.first; range.first && i <= range.last; i += range.step, count++) {
            if (count >= capacity) continue;
            positions[count] = (uint32_t)i;
            if (flags) flags[count] = spec->flags;
        }
    }
    return (int)count;
}

int command_key_positions(const struct command *command, const struct span *argv, uint32_t argc, uint32_t *positions,
                          uint32_t *flags, uint32_t capacity) {
    return key_positions(command, argv, argc, positions, flags, capacity, false);
}

uint32_t command_fitting_key_positions(const struct command *command, const struct span *argv, uint32_t argc,
                                       uint32_t *positions, uint32_t capacity) {
    return (uint32_t)key_positions(command, argv, argc, positions, NULL, capacity, true);
}
