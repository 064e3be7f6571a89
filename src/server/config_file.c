/* Loading: files, standard input, the command line.
 *
 * All three are lists of directives, each a name and words. A file is read line by line by the quoting rules of
 * redis.conf; on the command line each `--name` opens a directive and the arguments that follow are its words, taken
 * as they are; more words may stand in the argument of the name itself. Later directives win, except that several lines
 * of `save` and the like add up, and a client-output-buffer-limit line changes only the classes it names.
 *
 * For each row it is noted where it was last set. So what can only be judged at the end (a directive that would
 * promise too much may be taken back by a later one) can still name file and line. */

#include "server/config_file.h"

#include "base/log.h"
#include "resp/parser.h"
#include "server/config_state.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <strings.h>

/* Where the directive being read stands. */
struct position {
    struct config_origin origin;
    int depth; /* of includes */
};

static bool load_path(struct config *config, const char *path, struct position position, struct config_error *error);

/* ---- Syntax ---- */

void config_split_line(char *text, size_t length, struct config_line *line) {
    size_t start = 0;
    line->status = CONFIG_LINE_OK;
    line->count = 0;
    while (start < length && (isspace((unsigned char)text[start]) || text[start] == '\0')) start++;
    if (start < length && text[start] == '#') return;
    int count = resp_split_line(text + start, length - start, line->words, CONFIG_LINE_WORDS_MAX + 1);
    if (count < 0) {
        line->status = CONFIG_LINE_UNBALANCED;
    } else if (count > CONFIG_LINE_WORDS_MAX) {
        line->status = CONFIG_LINE_TOO_MANY_WORDS;
    } else {
        line->count = (size_t)count;
    }
}

void config_print_word(FILE *out, struct span word) {
    bool plain = word.length > 0;
    for (size_t i = 0; i < word.length; i++) {
        char c = word.data[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\'' || c == '\\') plain = false;
    }
    if (plain && word.data[0] != '#') {
        fwrite(word.data, 1, word.length, out);
        return;
    }
    char *escaped = config_allocate(word.length * 4 + 4);
    log_escape(escaped, word.length * 4 + 4, word);
    fprintf(out, "\"%s\"", escaped);
    free(escaped);
}

/* ---- Directives ---- */

/* Always false: the message with its place in front. */
static bool fail_at(struct config_origin origin, const char *reason, struct config_error *error) {
    struct config_error message; /* `reason` may be error->text itself */
    if (origin.line > 0) {
        config_fail(&message, "%.200s:%d: %.300s", origin.file, origin.line, reason);
    } else {
        config_fail(&message, "%.200s: %.300s", origin.file, reason);
    }
    *error = message;
    return false;
}

/* A name that outlives the load, for origins. */
static const char *keep_file_name(struct config_state *state, const char *name) {
    for (size_t i = 0; i < state->file_name_count; i++) {
        if (strcmp(state->file_names[i], name) == 0) return state->file_names[i];
    }
    state->file_names = realloc(state->file_names, (state->file_name_count + 1) * sizeof(*state->file_names));
    assert(state->file_names);
    state->file_names[state->file_name_count] = config_copy_text(name);
    return state->file_names[state->file_name_count++];
}

/* include PATH...: each may be a glob. One that matches nothing is an error only if it is a plain name. */
static bool apply_include(struct config *config, struct position position, const struct span *words, size_t count,
                          struct config_error *error) {
    if (position.depth >= CONFIG_INCLUDE_DEPTH_MAX) {
        return fail_at(position.origin, "include: nested too deeply", error);
    }
    position.depth++;
    for (size_t i = 0; i < count; i++) {
        char name[PATH_MAX], pattern[PATH_MAX];
        snprintf(name, sizeof(name), "%.*s", (int)words[i].length, words[i].data);
        if (words[i].length >= sizeof(name) || !config_resolve_path(config, name, pattern)) {
            return fail_at(position.origin, "include: the name is too long", error);
        }
        if (strpbrk(name, "*?[") == NULL) {
            if (!load_path(config, name, position, error)) return false;
            continue;
        }
        glob_t matches;
        int status = glob(pattern, 0, NULL, &matches);
        if (status == GLOB_NOMATCH) continue;
        if (status != 0) return fail_at(position.origin, "include: the directory cannot be read", error);
        bool ok = true;
        for (size_t k = 0; ok && k < matches.gl_pathc; k++) {
            ok = load_path(config, matches.gl_pathv[k], position, error);
        }
        globfree(&matches);
        if (!ok) return false;
    }
    return true;
}

static bool apply_row(struct config *config, size_t row, struct config_origin origin, const struct span *words,
                      size_t count, struct config_error *error) {
    void *value = config_allocate(config_row_at(row)->type->size);
    bool accumulate = config->state->origins[row].file != NULL;
    if (!config_parse_value(config, row, words, count, accumulate, value, error)) {
        free(value);
        return false;
    }
    config_swap_value(config, row, value);
    config_drop_value(row, value);
    config->state->origins[row] = origin;
    return true;
}

/* Each word in quotes after a space, in printable form, as Redis shows a bad line; a list that is too long ends in
 * "...". */
static void show_words(char *out, size_t capacity, const struct span *words, size_t count) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        char word[64];
        log_escape(word, sizeof(word), words[i]);
        bool fits = used + strlen(word) + sizeof(" \"\" ...") <= capacity;
        used += (size_t)snprintf(out + used, capacity - used, fits ? " \"%s\"" : " ...", word);
        if (!fits) return;
    }
}

/* `words` follow the name. */
static bool apply_directive(struct config *config, struct position position, struct span name, const struct span *words,
                            size_t count, struct config_error *error) {
    char shown[128];
    log_escape(shown, sizeof(shown), name);
    if (span_is_word(name, "include")) return apply_include(config, position, words, count, error);
    size_t row = config_row_find(name);
    if (row == SIZE_MAX) {
        config_fail(error, "unknown directive '%s'", shown);
        return fail_at(position.origin, error->text, error);
    }
    if (apply_row(config, row, position.origin, words, count, error)) return true;
    struct config_error reason;
    char value[160];
    show_words(value, sizeof(value), words, count);
    config_fail(&reason, "'%s%s': %.300s", shown, value, error->text);
    return fail_at(position.origin, reason.text, error);
}

/* ---- Files ---- */

static bool load_lines(struct config *config, FILE *stream, const char *name, int depth, struct config_error *error) {
    struct config_line *line = config_allocate(sizeof(*line));
    struct position position = {.origin = {keep_file_name(config->state, name), 0}, .depth = depth};
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length;
    bool ok = true;
    while (ok && (length = getline(&text, &capacity, stream)) >= 0) {
        position.origin.line++;
        /* Editors of other systems put a byte order mark in front. */
        bool has_mark = position.origin.line == 1 && length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0;
        size_t skip = has_mark ? 3 : 0;
        config_split_line(text + skip, (size_t)length - skip, line);
        if (line->status == CONFIG_LINE_UNBALANCED) {
            ok = fail_at(position.origin, "unbalanced quotes", error);
        } else if (line->status == CONFIG_LINE_TOO_MANY_WORDS) {
            ok = fail_at(position.origin, "too many words", error);
        } else if (line->count > 0) {
            ok = apply_directive(config, position, line->words[0], line->words + 1, line->count - 1, error);
        }
    }
    if (ok && ferror(stream)) ok = config_fail(error, "cannot read %.200s: %s", name, strerror(errno));
    free(text);
    free(line);
    return ok;
}

bool config_load_stream(struct config *config, FILE *stream, const char *name, struct config_error *error) {
    return load_lines(config, stream, name, 0, error);
}

/* `position` tells who asked: the line of an `include`, or no file at all. */
static bool load_path(struct config *config, const char *path, struct position position, struct config_error *error) {
    char absolute[PATH_MAX];
    FILE *stream = config_resolve_path(config, path, absolute) ? fopen(absolute, "re") : NULL;
    if (!stream) {
        config_fail(error, "cannot read %.200s: %s", path, strerror(errno));
        return position.origin.file ? fail_at(position.origin, error->text, error) : false;
    }
    bool ok = load_lines(config, stream, path, position.depth, error);
    fclose(stream);
    return ok;
}

bool config_load_file(struct config *config, const char *path, struct config_error *error) {
    struct config_state *state = config->state;
    if (!load_path(config, path, (struct position){0}, error)) return false;
    if (state->file_path[0] == '\0') {
        char absolute[PATH_MAX];
        if (!config_resolve_path(config, path, absolute)) {
            return config_fail(error, "cannot read %.200s: %s", path, strerror(errno));
        }
        free(state->file_path);
        state->file_path = config_copy_text(absolute);
    }
    return true;
}

/* ---- Command line ---- */

/* The words that follow a name: as they are, up to the next name. The first may begin with "--" (a password may), but
 * `--save --port 7000` is an old way to say `--save ""`. */
static size_t take_words(struct span name, struct span *words, size_t count, int argc, char **argv, int *next) {
    bool may_be_empty = span_is_word(name, "save");
    while (*next < argc && count < CONFIG_LINE_WORDS_MAX) {
        bool opens_next = strncmp(argv[*next], "--", 2) == 0 && (count > 0 || may_be_empty);
        if (opens_next) break;
        words[count++] = span_of_text(argv[(*next)++]);
    }
    if (count == 0 && may_be_empty) words[count++] = span_of_text("");
    return count;
}

/* Applies the directive that argv[*next] opens and advances *next behind its words. The argument is split like a line
 * of a file, so that name and words may stand in one: "--maxmemory 1gb". Only the first may do without its "--". */
static bool apply_argument(struct config *config, int argc, char **argv, int *next, bool first,
                           struct config_error *error) {
    struct position position = {.origin = {keep_file_name(config->state, "command line"), 0}};
    const char *argument = argv[(*next)++];
    bool is_marked = strncmp(argument, "--", 2) == 0;
    char *text = config_copy_text(argument + (is_marked ? 2 : 0));
    struct config_line *line = config_allocate(sizeof(*line));
    config_split_line(text, strlen(text), line);
    bool ok = false;
    if ((!is_marked && !(first && argument[0] != '-')) || line->status != CONFIG_LINE_OK || line->count == 0) {
        config_fail(error, "unexpected argument '%.100s'; directives are given as --name value", argument);
        fail_at(position.origin, error->text, error);
    } else {
        size_t count = take_words(line->words[0], line->words + 1, line->count - 1, argc, argv, next);
        ok = apply_directive(config, position, line->words[0], line->words + 1, count, error);
    }
    free(line);
    free(text);
    return ok;
}

static bool load_source(struct config *config, const char *source, struct config_error *error) {
    bool is_stdin = strcmp(source, "-") == 0;
    return is_stdin ? config_load_stream(config, stdin, "stdin", error) : config_load_file(config, source, error);
}

static enum config_action find_action(const char *argument) {
    static const struct {
        const char *name;
        enum config_action action;
    } names[] = {
        {"--help", CONFIG_ACTION_HELP},       {"-h", CONFIG_ACTION_HELP},
        {"--version", CONFIG_ACTION_VERSION}, {"-v", CONFIG_ACTION_VERSION},
        {"-V", CONFIG_ACTION_VERSION},        {"--print-sample-config", CONFIG_ACTION_PRINT_SAMPLE},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(argument, names[i].name) == 0) return names[i].action;
    }
    return CONFIG_ACTION_START;
}

bool config_parse_arguments(struct config *config, int argc, char **argv, enum config_action *action,
                            struct config_error *error) {
    int next = 1;
    *action = argc > 1 ? find_action(argv[1]) : CONFIG_ACTION_START;
    if (*action != CONFIG_ACTION_START) return true;
    bool has_source = next < argc && (argv[next][0] != '-' || argv[next][1] == '\0');
    if (has_source && !load_source(config, argv[next++], error)) return false;
    if (next < argc && strcmp(argv[argc - 1], "-") == 0) {
        argc--;
        if (!load_source(config, "-", error)) return false;
    }
    for (int first = next; next < argc;) {
        if (!apply_argument(config, argc, argv, &next, has_source && next == first, error)) return false;
    }
    return config_finish_load(config, error);
}

/* ---- The outcome ---- */

static void add_warning(struct config_state *state, const char *text) {
    state->warnings = realloc(state->warnings, (state->warning_count + 1) * sizeof(*state->warnings));
    assert(state->warnings);
    state->warnings[state->warning_count++] = config_copy_text(text);
}

static bool is_empty(const struct config *config, size_t row) {
    char *text = config_format_value(row, config_value(config, row), NULL);
    bool empty = text[0] == '\0';
    free(text);
    return empty;
}

/* Where the tier persists its checkpoints are the snapshots. Copies of everything, which may be many times the memory,
 * are then for who asks for them. */
static void leave_saving_to_checkpoints(struct config *config) {
    size_t save = config_row_find(SPAN_LITERAL("save"));
    if (config->state->origins[save].file || !(config->tier.persist || config->pmem.pool[0])) return;
    config->persistence.save.count = 0;
}

bool config_finish_load(struct config *config, struct config_error *error) {
    struct config_state *state = config->state;
    leave_saving_to_checkpoints(config);
    for (size_t i = 0; i < config_row_count(); i++) {
        const struct config_row *row = config_row_at(i);
        struct config_error line;
        if (state->origins[i].file == NULL || (!row->inert && !row->refused)) continue;
        if (config_is_default(config, i, config_value(config, i))) continue;
        if (row->refused) {
            config_fail(&line, "'%s' is refused: %s; remove the line", row->name, row->refused);
            return fail_at(state->origins[i], line.text, error);
        }
        if (is_empty(config, i)) continue; /* as `save ""`: what is off promises nothing */
        config_fail(&line, "'%s' has no effect: %s", row->name, row->inert);
        fail_at(state->origins[i], line.text, &line);
        add_warning(state, line.text);
    }
    return true;
}
