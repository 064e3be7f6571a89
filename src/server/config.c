/* The configuration's life: defaults, CONFIG GET, CONFIG SET.
 *
 * Every access goes through the table. A value is a few bytes of the row's type, standing in the field of `struct
 * config` that the row names; rows without a field keep theirs in the private state. So a change is: parse into a
 * scratch value, exchange the bytes with the field's, drop what came out. CONFIG SET does that for all its pairs:
 *
 *     1. find every row                     an unknown name ends it here
 *     2. may each be set?                   immutable, protected, named twice
 *     3. parse all into scratch values      nothing has changed so far
 *     4. exchange all
 *     5. call the hooks of changed rows     a refusal exchanges all back, and calls the hooks that had agreed
 *     6. drop the scratch values            which now hold the old ones, or the refused new ones
 *
 * Loading works on the same functions and lives in config_file.c. */

#include "base/glob.h"
#include "base/log.h"
#include "server/config_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

/* ---- Values ---- */

void *config_allocate(size_t size) {
    void *memory = calloc(1, size ? size : 1);
    assert(memory);
    return memory;
}

char *config_copy_text(const char *text) {
    char *copy = strdup(text);
    assert(copy);
    return copy;
}

void *config_value(const struct config *config, size_t row) {
    size_t offset = config_row_at(row)->offset;
    return offset == CONFIG_NO_FIELD ? config->state->stored[row] : (char *)config + offset;
}

/* Words separated by spaces, for a value that came as one. The caller frees the array. */
static struct span *split_at_spaces(struct span text, size_t *count) {
    struct span *words = config_allocate((text.length / 2 + 1) * sizeof(*words));
    *count = 0;
    for (size_t i = 0; i < text.length;) {
        while (i < text.length && strchr(" \t\r\n", text.data[i]) && text.data[i]) i++;
        size_t start = i;
        while (i < text.length && !(strchr(" \t\r\n", text.data[i]) && text.data[i])) i++;
        if (i > start) words[(*count)++] = span_of(text.data + start, i - start);
    }
    return words;
}

bool config_parse_value(const struct config *config, size_t row, const struct span *words, size_t count,
                        bool accumulate, void *value, struct config_error *error) {
    const struct config_row *definition = config_row_at(row);
    const struct config_type *type = definition->type;
    for (size_t i = 0; i < count; i++) {
        if (words[i].length > CONFIG_VALUE_BYTES_MAX) return config_fail(error, "argument is too long");
    }
    const void *base = NULL;
    if (definition->flags & CONFIG_MERGES) base = config_value(config, row);
    if ((definition->flags & CONFIG_ADDS) && accumulate) base = config_value(config, row);

    struct span *split = NULL;
    if (type->multi_word && count == 1) {
        split = split_at_spaces(words[0], &count);
        words = split;
    }
    bool ok = type->parse(definition, words, count, base, value, error);
    free(split);
    if (ok && definition->check && !definition->check(config, value, error)) {
        if (type->release) type->release(value);
        ok = false;
    }
    return ok;
}

char *config_format_value(size_t row, const void *value, size_t *length) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert(out);
    config_row_at(row)->type->format(config_row_at(row), value, out);
    int failed = fclose(out);
    assert(!failed);
    if (length) *length = size;
    return text;
}

bool config_same_value(size_t row, const void *a, const void *b) {
    char *text_a = config_format_value(row, a, NULL);
    char *text_b = config_format_value(row, b, NULL);
    bool same = strcmp(text_a, text_b) == 0;
    free(text_a);
    free(text_b);
    return same;
}

void config_swap_value(const struct config *config, size_t row, void *value) {
    char *field = config_value(config, row);
    char *other = value;
    for (size_t i = 0; i < config_row_at(row)->type->size; i++) {
        char byte = field[i];
        field[i] = other[i];
        other[i] = byte;
    }
}

void config_drop_value(size_t row, void *value) {
    const struct config_type *type = config_row_at(row)->type;
    if (value && type->release) type->release(value);
    free(value);
}

/* The default from the table. It was accepted by config_init(), so it is accepted again. */
static void *make_default(const struct config *config, size_t row) {
    const struct config_row *definition = config_row_at(row);
    struct span text = span_of_text(definition->default_text);
    struct config_error error;
    void *value = config_allocate(definition->type->size);
    bool ok = config_parse_value(config, row, &text, 1, false, value, &error);
    assert(ok);
    return value;
}

bool config_is_default(const struct config *config, size_t row, const void *value) {
    void *standard = make_default(config, row);
    bool same = config_same_value(row, value, standard);
    config_drop_value(row, standard);
    return same;
}

bool config_resolve_path(const struct config *config, const char *path, char *absolute) {
    const char *base = path[0] == '/' ? "" : config->state->start_directory;
    int length = snprintf(absolute, PATH_MAX, "%s%s%s", base, *base ? "/" : "", path);
    if (length >= 0 && length < PATH_MAX) return true;
    errno = ENAMETOOLONG;
    return false;
}

/* ---- Life ---- */

void config_init(struct config *config) {
    size_t rows = config_row_count();
    memset(config, 0, sizeof(*config));
    struct config_state *state = config_allocate(sizeof(*state));
    config->state = state;
    state->stored = config_allocate(rows * sizeof(*state->stored));
    state->origins = config_allocate(rows * sizeof(*state->origins));
    state->hooks = config_allocate(rows * sizeof(*state->hooks));
    state->file_path = config_copy_text("");
    char directory[PATH_MAX];
    /* A working directory that was deleted: only absolute paths will do, and "/" is as good as any. */
    state->start_directory = config_copy_text(getcwd(directory, sizeof(directory)) ? directory : "/");

    for (size_t row = 0; row < rows; row++) {
        const struct config_row *definition = config_row_at(row);
        if (definition->offset == CONFIG_NO_FIELD) state->stored[row] = config_allocate(definition->type->size);
        void *value = make_default(config, row);
        config_swap_value(config, row, value);
        free(value); /* all zero before, so there is nothing to release */
    }
}

void config_free(struct config *config) {
    struct config_state *state = config->state;
    for (size_t row = 0; row < config_row_count(); row++) {
        const struct config_type *type = config_row_at(row)->type;
        if (type->release) type->release(config_value(config, row));
        free(state->stored[row]);
    }
    for (size_t i = 0; i < state->file_name_count; i++) free(state->file_names[i]);
    for (size_t i = 0; i < state->warning_count; i++) free(state->warnings[i]);
    free(state->file_names);
    free(state->warnings);
    free(state->stored);
    free(state->origins);
    free(state->hooks);
    free(state->file_path);
    free(state->start_directory);
    free(state);
    memset(config, 0, sizeof(*config));
}

const char *config_file_path(const struct config *config) {
    return config->state->file_path;
}

void config_log_warnings(const struct config *config) {
    for (size_t i = 0; i < config->state->warning_count; i++) log_warning("%s", config->state->warnings[i]);
}

void config_on_change(struct config *config, const char *name, config_change_fn *fn, void *ctx) {
    size_t row = config_row_find(span_of_text(name));
    assert(row != SIZE_MAX && strcmp(config_row_at(row)->name, name) == 0);
    assert(config->state->hooks[row].fn == NULL);
    config->state->hooks[row] = (struct config_hook){fn, ctx};
}

/* ---- CONFIG GET ---- */

/* Rows and their aliases are told apart as 2 * row and 2 * row + 1, as each is answered by itself. */
static size_t find_entry(struct span name) {
    size_t row = config_row_find(name);
    if (row == SIZE_MAX || (config_row_at(row)->flags & CONFIG_FILE_ONLY)) return SIZE_MAX;
    const char *main_name = config_row_at(row)->name;
    bool is_main = strlen(main_name) == name.length && strncasecmp(main_name, name.data, name.length) == 0;
    return 2 * row + (is_main ? 0 : 1);
}

static const char *entry_name(size_t entry) {
    const struct config_row *row = config_row_at(entry / 2);
    return entry % 2 ? row->alias : row->name;
}

static void visit_entry(const struct config *config, size_t entry, struct span name, bool *seen, config_visit_fn *visit,
                        void *ctx) {
    if (seen[entry]) return;
    seen[entry] = true;
    size_t length;
    char *text = config_format_value(entry / 2, config_value(config, entry / 2), &length);
    visit(ctx, name, span_of(text, length));
    free(text);
}

void config_get(const struct config *config, const struct span *patterns, size_t count, config_visit_fn *visit,
                void *ctx) {
    size_t entries = 2 * config_row_count();
    bool *seen = config_allocate(entries * sizeof(*seen));
    for (size_t i = 0; i < count; i++) {
        if (glob_is_literal(patterns[i])) {
            size_t entry = find_entry(patterns[i]);
            if (entry != SIZE_MAX) visit_entry(config, entry, patterns[i], seen, visit, ctx);
            continue;
        }
        for (size_t entry = 0; entry < entries; entry++) {
            const char *name = entry_name(entry);
            if (!name || (config_row_at(entry / 2)->flags & (CONFIG_HIDDEN | CONFIG_FILE_ONLY))) continue;
            if (!glob_match(patterns[i], span_of_text(name), GLOB_CASE_IGNORED)) continue;
            visit_entry(config, entry, span_of_text(name), seen, visit, ctx);
        }
    }
    free(seen);
}

bool config_get_one(const struct config *config, struct span name, char **value, size_t *length) {
    size_t entry = find_entry(name);
    if (entry == SIZE_MAX) return false;
    *value = config_format_value(entry / 2, config_value(config, entry / 2), length);
    return true;
}

/* ---- CONFIG SET ---- */

struct change {
    size_t entry;
    void *value;  /* the new value, and once exchanged the old one */
    bool differs; /* from the value before */
};

#define IMMUTABLE "can't set immutable config"

static bool fail_set(struct config_error *error, size_t entry, const char *reason) {
    struct config_error message; /* `reason` may be error->text itself */
    config_fail(&message, "ERR CONFIG SET failed (possibly related to argument '%s') - %.400s", entry_name(entry),
                reason);
    *error = message;
    return false;
}

static bool is_permitted(int permission, const struct config_set_options *options) {
    return permission == CONFIG_PERMIT_YES || (permission == CONFIG_PERMIT_LOCAL && options->client_is_local);
}

/* Steps 1 and 2. */
static bool find_changes(const struct config *config, const struct config_pair *pairs, size_t count,
                         const struct config_set_options *options, struct change *changes, struct config_error *error) {
    for (size_t i = 0; i < count; i++) {
        changes[i].entry = find_entry(pairs[i].name);
        if (changes[i].entry == SIZE_MAX) {
            int shown = pairs[i].name.length > 128 ? 128 : (int)pairs[i].name.length;
            return config_fail(error, "ERR Unknown option or number of arguments for CONFIG SET - '%.*s'", shown,
                               pairs[i].name.data);
        }
    }
    /* The answer that clients know to try again on comes before any other. */
    for (size_t i = 0; options->loading && i < count; i++)
        if (config_row_at(changes[i].entry / 2)->flags & CONFIG_IF_LOADED)
            return config_fail(error, "LOADING Redis is loading the dataset in memory");
    bool *seen = config_allocate(2 * config_row_count() * sizeof(*seen));
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        size_t entry = changes[i].entry;
        unsigned flags = config_row_at(entry / 2)->flags;
        if (!(flags & (CONFIG_RUNTIME | CONFIG_OURS))) {
            ok = fail_set(error, entry, IMMUTABLE);
        } else if ((flags & CONFIG_PROTECTED) && !is_permitted(config->security.enable_protected_configs, options)) {
            ok = fail_set(error, entry, "can't set protected config");
        } else if (seen[entry]) {
            ok = fail_set(error, entry, "duplicate parameter");
        }
        seen[entry] = true;
    }
    free(seen);
    return ok;
}

/* Step 3. */
static bool parse_changes(const struct config *config, const struct config_pair *pairs, size_t count,
                          struct change *changes, struct config_error *error) {
    for (size_t i = 0; i < count; i++) {
        size_t row = changes[i].entry / 2;
        const struct config_row *definition = config_row_at(row);
        void *value = config_allocate(definition->type->size);
        if (!config_parse_value(config, row, &pairs[i].value, 1, false, value, error)) {
            free(value);
            return fail_set(error, changes[i].entry, error->text);
        }
        changes[i].value = value;
        /* Clients of Redis that write back all they have read know by name what they have to leave out. */
        bool fixed = !(definition->flags & CONFIG_RUNTIME);
        if (fixed && !config_same_value(row, value, config_value(config, row)))
            return fail_set(error, changes[i].entry, IMMUTABLE);
        if (definition->refused && !config_is_default(config, row, value)) {
            return fail_set(error, changes[i].entry, definition->refused);
        }
    }
    return true;
}

/* A function registered for several rows runs for the first changed one. */
static bool hook_ran_before(const struct config *config, const struct change *changes, size_t index) {
    struct config_hook hook = config->state->hooks[changes[index].entry / 2];
    for (size_t i = 0; i < index; i++) {
        struct config_hook earlier = config->state->hooks[changes[i].entry / 2];
        if (changes[i].differs && earlier.fn == hook.fn && earlier.ctx == hook.ctx) return true;
    }
    return false;
}

/* Calls the hooks of the first `count` changes; returns how many changes were passed before one was refused. */
static size_t run_hooks(const struct config *config, const struct change *changes, size_t count,
                        struct config_error *error) {
    for (size_t i = 0; i < count; i++) {
        struct config_hook hook = config->state->hooks[changes[i].entry / 2];
        if (!changes[i].differs || !hook.fn || hook_ran_before(config, changes, i)) continue;
        config_fail(error, "the change was refused");
        if (!hook.fn(hook.ctx, config, config_row_at(changes[i].entry / 2)->name, error)) return i;
    }
    return count;
}

/* Steps 4 and 5. */
static bool apply_changes(const struct config *config, struct change *changes, size_t count,
                          struct config_error *error) {
    for (size_t i = 0; i < count; i++) {
        size_t row = changes[i].entry / 2;
        changes[i].differs = !config_same_value(row, changes[i].value, config_value(config, row));
        config_swap_value(config, row, changes[i].value);
    }
    size_t passed = run_hooks(config, changes, count, error);
    if (passed == count) return true;

    fail_set(error, changes[passed].entry, error->text);
    for (size_t i = count; i-- > 0;) config_swap_value(config, changes[i].entry / 2, changes[i].value);
    struct config_error ignored;
    for (size_t done = 0; done < passed; done++) {
        /* One at a time, so that a hook which now refuses does not keep the others from running. */
        struct change *change = &changes[done];
        if (!hook_ran_before(config, changes, done)) run_hooks(config, change, 1, &ignored);
    }
    return false;
}

bool config_set(struct config *config, const struct config_pair *pairs, size_t count,
                const struct config_set_options *options, struct config_error *error) {
    struct change *changes = config_allocate(count * sizeof(*changes));
    bool ok = find_changes(config, pairs, count, options, changes, error) &&
              parse_changes(config, pairs, count, changes, error) && apply_changes(config, changes, count, error);
    for (size_t i = 0; i < count; i++) {
        if (changes[i].value) config_drop_value(changes[i].entry / 2, changes[i].value);
    }
    free(changes);
    return ok;
}
