/* Argument notations: a recursive descent parser into a small tree, and the tree's way into a reply.
 *
 * The tree is an array on the caller's stack; children and siblings are numbers in it, so nothing is allocated and
 * nothing can fail but the notation itself. It is parsed again for every COMMAND DOCS: that is rare, and a row stays
 * what its author wrote.
 *
 * The grammar is in argument_spec.h. Words:
 *   item      one argument with everything that belongs to it, brackets included
 *   word      the longest run of characters that may stand in a name or a token */

#include "command/argument_spec.h"

#include <assert.h>
#include <stddef.h>

enum {
    DEPTH_MAX = 8, /* the deepest notation there is has four levels */
    NAME_MAX_BYTES = 64,
};

struct notation {
    const char *at;
    struct argument_tree *tree;
    unsigned keys; /* key items so far */
    unsigned depth;
};

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}
static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_word(char c) {
    return is_upper(c) || is_lower(c) || is_digit(c) || (c != '\0' && strchr("-_/:", c));
}
static bool ends_item(char c) {
    return c == '\0' || c == ' ' || strchr("|(){}[]@!.", c);
}

static bool skip(struct notation *notation, char c) {
    if (*notation->at != c) return false;
    notation->at++;
    return true;
}

static void skip_blanks(struct notation *notation) {
    while (*notation->at == ' ') notation->at++;
}

static struct span read_word(struct notation *notation) {
    const char *begin = notation->at;
    while (is_word(*notation->at)) notation->at++;
    return span_of(begin, (size_t)(notation->at - begin));
}

static bool is_token(struct span word) {
    if (word.length == 0 || !is_upper(word.data[0])) return false;
    for (size_t i = 0; i < word.length; i++)
        if (is_lower(word.data[i]) || word.data[i] == ':' || word.data[i] == '/') return false;
    return true;
}

/* A name is lower case, so that a token misspelt shows. */
static bool is_name(struct span word) {
    if (word.length == 0 || word.length > NAME_MAX_BYTES || word.data[word.length - 1] == ':') return false;
    for (size_t i = 0; i < word.length; i++)
        if (is_upper(word.data[i])) return false;
    return true;
}

/* ---- parts of an item ---- */

static bool read_version(struct notation *notation, struct span *version) {
    const char *begin = notation->at;
    for (unsigned part = 0; part < 3; part++) {
        if (part > 0 && !skip(notation, '.')) return false;
        if (!is_digit(*notation->at)) return false;
        while (is_digit(*notation->at)) notation->at++;
    }
    *version = span_of(begin, (size_t)(notation->at - begin));
    return true;
}

static bool read_suffixes(struct notation *notation, struct argument *item) {
    if (skip(notation, '@') && !read_version(notation, &item->since)) return false;
    if (skip(notation, '!') && !read_version(notation, &item->deprecated_since)) return false;
    if (*notation->at != '.') return true;
    if (strncmp(notation->at, "...", 3) != 0) return false;
    notation->at += 3;
    item->multiple = true;
    item->multiple_token = skip(notation, '*');
    return !item->multiple_token || item->token.data;
}

/* Splits ":i", ":k" or ":k2" off the name. A colon that no type follows is part of the name. */
static bool read_type(struct notation *notation, struct argument *item) {
    static const struct {
        char letter;
        enum argument_type type;
    } types[] = {{'s', ARGUMENT_STRING},  {'i', ARGUMENT_INTEGER},   {'d', ARGUMENT_DOUBLE},
                 {'p', ARGUMENT_PATTERN}, {'t', ARGUMENT_UNIX_TIME}, {'k', ARGUMENT_KEY}};
    struct span *name = &item->name;
    const char *end = name->data + name->length;
    bool numbered = name->length > 3 && is_digit(end[-1]) && is_lower(end[-2]) && end[-3] == ':';
    size_t suffix = numbered ? 3 : 2;
    if (name->length <= suffix || end[-(ptrdiff_t)suffix] != ':') return true;
    size_t i = 0;
    while (i < sizeof(types) / sizeof(types[0]) && types[i].letter != end[1 - (ptrdiff_t)suffix]) i++;
    if (i == sizeof(types) / sizeof(types[0])) return false;
    item->type = types[i].type;
    item->names_keys = numbered || item->type == ARGUMENT_KEY;
    item->key_spec = (uint8_t)(numbered ? (unsigned)(end[-1] - '0') : notation->keys);
    if (item->type == ARGUMENT_KEY) notation->keys++;
    name->length -= suffix;
    return true;
}

static bool read_item(struct notation *notation, uint8_t *number);

/* Items up to `close`, apart by `apart`; links them and counts them. */
static bool read_items(struct notation *notation, char apart, char close, uint8_t *first, unsigned *count) {
    uint8_t last = ARGUMENT_NONE;
    *first = ARGUMENT_NONE;
    *count = 0;
    if (++notation->depth > DEPTH_MAX) return false;
    for (skip_blanks(notation); *notation->at != close; skip_blanks(notation)) {
        uint8_t item;
        if (*count > 0 && apart != ' ' && !skip(notation, apart)) return false;
        if (*count > 0 && apart == ' ' && notation->at[-1] != ' ') return false;
        skip_blanks(notation);
        if (!read_item(notation, &item)) return false;
        if (last == ARGUMENT_NONE)
            *first = item;
        else
            notation->tree->items[last].next = item;
        last = item;
        ++*count;
    }
    notation->depth--;
    return true;
}

/* What follows a name: alternatives, a block, another token, or a type that the name itself ends with. */
static bool read_body(struct notation *notation, struct argument *item) {
    char open = *notation->at;
    if (open == '=') {
        notation->at++;
        const char *begin = notation->at;
        while (!ends_item(*notation->at)) notation->at++;
        if (item->token.data) return false;
        item->token = span_of(begin, (size_t)(notation->at - begin));
        item->type = ARGUMENT_PURE_TOKEN;
        return true;
    }
    if (open != '(' && open != '{') return read_type(notation, item);
    unsigned children;
    char close = open == '(' ? ')' : '}';
    notation->at++;
    item->type = open == '(' ? ARGUMENT_ONEOF : ARGUMENT_BLOCK;
    if (!read_items(notation, open == '(' ? '|' : ' ', close, &item->first, &children) || children == 0) return false;
    item->children = (uint8_t)children;
    return skip(notation, close);
}

static bool read_item(struct notation *notation, uint8_t *number) {
    struct argument_tree *tree = notation->tree;
    if (tree->count == ARGUMENTS_MAX) return false;
    *number = (uint8_t)tree->count++;
    struct argument *item = &tree->items[*number];
    *item = (struct argument){.next = ARGUMENT_NONE, .first = ARGUMENT_NONE, .optional = skip(notation, '[')};
    item->name = read_word(notation);
    if (item->name.length == 0 || item->name.length > NAME_MAX_BYTES) return false;
    bool token = is_token(item->name);
    if (token) {
        item->token = item->name;
        const char *behind = notation->at;
        skip_blanks(notation);
        bool apart = notation->at > behind;
        struct span name = apart ? read_word(notation) : span_of(behind, 0);
        token = name.length == 0 || is_token(name);
        if (token)
            notation->at = behind;
        else
            item->name = name;
    }
    if (token)
        item->type = ARGUMENT_PURE_TOKEN;
    else if (!is_name(item->name) || !read_body(notation, item))
        return false;
    return read_suffixes(notation, item) && (!item->optional || skip(notation, ']'));
}

bool argument_spec_parse(const char *arguments, struct argument_tree *tree) {
    struct notation notation = {.at = arguments ? arguments : "", .tree = tree};
    uint8_t first;
    tree->count = tree->top = 0;
    return read_items(&notation, ' ', '\0', &first, &tree->top);
}

int argument_spec_count(const char *arguments) {
    struct argument_tree tree;
    return argument_spec_parse(arguments, &tree) ? (int)tree.top : -1;
}

/* ---- the reply ---- */

static const char *const type_names[] = {
    [ARGUMENT_STRING] = "string",         [ARGUMENT_INTEGER] = "integer",
    [ARGUMENT_DOUBLE] = "double",         [ARGUMENT_KEY] = "key",
    [ARGUMENT_PATTERN] = "pattern",       [ARGUMENT_UNIX_TIME] = "unix-time",
    [ARGUMENT_PURE_TOKEN] = "pure-token", [ARGUMENT_ONEOF] = "oneof",
    [ARGUMENT_BLOCK] = "block",
};

static void reply_field(struct reply *reply, const char *field, struct span value) {
    reply_bulk_text(reply, field);
    reply_bulk(reply, value);
}

static void reply_name(struct reply *reply, struct span name) {
    char text[NAME_MAX_BYTES];
    for (size_t i = 0; i < name.length; i++) text[i] = (char)(name.data[i] | (is_upper(name.data[i]) ? 0x20 : 0));
    reply_field(reply, "name", span_of(text, name.length));
}

static void reply_flags(struct reply *reply, const struct argument *item) {
    unsigned count = item->optional + item->multiple + item->multiple_token;
    if (count == 0) return;
    reply_bulk_text(reply, "flags");
    reply_set(reply, count);
    if (item->optional) reply_simple(reply, "optional");
    if (item->multiple) reply_simple(reply, "multiple");
    if (item->multiple_token) reply_simple(reply, "multiple_token");
}

static void reply_items(struct reply *reply, const struct argument_tree *tree, unsigned first, unsigned count) {
    reply_array(reply, count);
    for (unsigned i = first; count > 0; count--, i = tree->items[i].next) {
        const struct argument *item = &tree->items[i];
        bool flags = item->optional || item->multiple;
        reply_map(reply, 2u + item->names_keys + (item->token.data != NULL) + (item->since.length > 0) +
                             (item->deprecated_since.length > 0) + flags + (item->children > 0));
        reply_name(reply, item->name);
        reply_field(reply, "type", span_of_text(type_names[item->type]));
        if (item->names_keys) {
            reply_bulk_text(reply, "key_spec_index");
            reply_integer(reply, item->key_spec);
        }
        if (item->token.data) reply_field(reply, "token", item->token);
        if (item->since.length) reply_field(reply, "since", item->since);
        if (item->deprecated_since.length) reply_field(reply, "deprecated_since", item->deprecated_since);
        reply_flags(reply, item);
        if (item->children == 0) continue;
        reply_bulk_text(reply, "arguments");
        reply_items(reply, tree, item->first, item->children);
    }
}

void argument_spec_reply(struct reply *reply, const struct command_spec *spec) {
    struct argument_tree tree;
    bool formed = argument_spec_parse(spec->arguments, &tree);
    assert(formed);
    (void)formed;
    reply_items(reply, &tree, 0, tree.top);
}
