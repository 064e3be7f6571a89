/* The text of a manifest: reading it and writing it.
 *
 * Lines are words, and words are pairs of a name and a value: names that are not known here are passed by, as newer
 * versions of Redis add some. Words are quoted as on a configuration line.
 *
 * Our checksum is a comment, the last line, and no line feed follows it. Redis passes comments by wherever they stand,
 * also such a one; and programs that go through the lines of a manifest, as those of Redis's own tests do, do not see
 * it: to them a line is what a line feed ends. Where it is, nothing else of the text needs to be believed: every byte
 * before it is covered, and a last line without a line feed that is not exactly a checksum is damage. Where there is
 * none the text is judged by its form alone, which is why the form is taken strictly: a type is one letter and not a
 * word that begins
 * with it. */

#include "base/number.h"
#include "persist/aof_check.h"
#include "persist/aof_layout.h"
#include "persist/aof_manifest_private.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- words ---- */

enum { WORDS_MAX = 32, NAME_BYTES_MAX = 255 };

struct words {
    struct span words[WORDS_MAX];
    unsigned count;
    char text[AOF_MANIFEST_LINE_MAX]; /* unquoted */
    size_t used;
};

static bool is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character behind a backslash within double quotes; `at` is left behind it. */
static char unescape(const char **at, const char *end) {
    const char *p = *at;
    if (end - p >= 3 && p[0] == 'x' && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0) {
        *at += 3;
        return (char)(hex_digit(p[1]) << 4 | hex_digit(p[2]));
    }
    *at += 1;
    switch (*p) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'b': return '\b';
    case 'a': return '\a';
    default: return *p;
    }
}

/* One quoted word; `at` stands behind the opening quote. False: it does not end, or something follows it at once. */
static bool take_quoted(struct words *words, const char **at, const char *end, char quote) {
    while (*at < end && **at != quote) {
        char c = *(*at)++;
        if (c == '\\' && *at < end) {
            if (quote == '"')
                c = unescape(at, end);
            else if (**at == '\'')
                c = *(*at)++;
        }
        words->text[words->used++] = c;
    }
    if (*at == end) return false;
    ++*at;
    return *at == end || is_blank(**at);
}

/* Splits a line into words. An unquoted line is never longer than it was, so the text has room. */
static bool split(struct words *words, struct span line) {
    const char *at = line.data, *end = line.data + line.length;
    words->count = 0;
    words->used = 0;
    for (;;) {
        while (at < end && is_blank(*at)) at++;
        if (at == end) return true;
        if (words->count == WORDS_MAX) return false;
        size_t start = words->used;
        if (*at == '"' || *at == '\'') {
            char quote = *at++;
            if (!take_quoted(words, &at, end, quote)) return false;
        } else {
            while (at < end && !is_blank(*at)) {
                if (*at == '"' || *at == '\'') return false; /* a quote in the middle: nobody writes that */
                words->text[words->used++] = *at++;
            }
        }
        words->words[words->count++] = span_of(words->text + start, words->used - start);
    }
}

/* ---- parsing ---- */

struct line {
    struct span name;
    uint64_t sequence;
    char type; /* 0: none was told */
};

bool aof_manifest_name_is_plain(struct span name) {
    return name.length > 0 && name.length <= NAME_BYTES_MAX && memchr(name.data, '/', name.length) == NULL &&
           memchr(name.data, '\0', name.length) == NULL && !span_equal(name, SPAN_LITERAL(".")) &&
           !span_equal(name, SPAN_LITERAL(".."));
}

/* NULL, or what is wrong. */
static const char *read_pairs(const struct words *words, struct line *line) {
    *line = (struct line){0};
    if (words->count < 6 || words->count % 2 != 0) return "it is not pairs of a name and a value";
    for (unsigned i = 0; i < words->count; i += 2) {
        struct span value = words->words[i + 1];
        if (span_is_word(words->words[i], "file")) {
            if (!aof_manifest_name_is_plain(value)) return "the file name is a path, or too long";
            line->name = value;
        } else if (span_is_word(words->words[i], "seq")) {
            if (!number_parse_u64(value, &line->sequence) || line->sequence == 0 || line->sequence > INT64_MAX)
                return "the sequence number is none";
        } else if (span_is_word(words->words[i], "type")) {
            if (value.length != 1 || memchr("bhi", value.data[0], 3) == NULL) return "Unknown AOF file type";
            line->type = value.data[0];
        }
    }
    if (line->name.length == 0 || line->sequence == 0 || line->type == 0)
        return "it needs a file, a sequence number and a type";
    return NULL;
}

/* NULL, or what is wrong. */
static const char *add_line(struct aof_manifest *manifest, const struct line *line) {
    if (line->type == AOF_FILE_BASE && aof_manifest_base(manifest) != NULL)
        return "Found duplicate base file information";
    if (line->type == AOF_FILE_INCREMENT && line->sequence <= manifest->increment_sequence)
        return "Found a non-monotonic sequence number";
    if (manifest->count == AOF_MANIFEST_FILES_MAX) return "there are too many files";
    if (aof_manifest_insert(manifest, line->name, line->sequence, (enum aof_file_type)line->type) == NULL)
        return "no memory";
    return NULL;
}

static bool has_tag(struct span line) {
    return line.length >= sizeof(AOF_TAG) - 1 && memcmp(line.data, AOF_TAG, sizeof(AOF_TAG) - 1) == 0;
}

/* A comment of ours speaks for all before it. (With a line feed behind it somebody has edited the file.) */
static const char *check_comment(struct span text, struct span line, struct span rest) {
    uint64_t check;
    const size_t tag = sizeof(AOF_TAG) - 1;
    if (!aof_check_parse_digits(span_of(line.data + tag, line.length - tag), &check))
        return "the checksum is not well formed";
    if (rest.length > 0) return "the checksum does not stand in the last line";
    return check != aof_check_hash(span_of(text.data, (size_t)(line.data - text.data))) ? "the checksum is wrong"
                                                                                        : NULL;
}

static const char *parse_file(struct aof_manifest *manifest, struct span line) {
    struct words words;
    struct line file;
    const char *wrong = "its quotes are not closed, or it has too many words";
    if (split(&words, line)) wrong = read_pairs(&words, &file);
    return wrong != NULL ? wrong : add_line(manifest, &file);
}

static const char *parse_line(struct aof_manifest *manifest, struct span text, struct span line, struct span rest) {
    const char *too_long = "The AOF manifest file contains too long line";
    if (line.length + 1 > AOF_MANIFEST_LINE_MAX) return too_long;
    if (has_tag(line)) return check_comment(text, line, rest);
    if (line.data + line.length == text.data + text.length) return "it does not end with a line feed";
    if (line.length > 0 && line.data[0] == '#') return NULL;
    const char *wrong = parse_file(manifest, line);
    return wrong != NULL && line.length + 1 > AOF_MANIFEST_LINE_REDIS ? too_long : wrong;
}

bool aof_manifest_parse(struct aof_manifest *manifest, struct span text, char *error) {
    aof_manifest_init(manifest);
    const char *wrong = text.length == 0 ? "Found an empty AOF manifest" : NULL;
    if (text.length > AOF_MANIFEST_BYTES_MAX) wrong = "the manifest is too long";
    unsigned number = 0;
    for (struct span rest = text; wrong == NULL && rest.length > 0;) {
        number++;
        const char *newline = memchr(rest.data, '\n', rest.length);
        size_t length = newline != NULL ? (size_t)(newline - rest.data) : rest.length;
        struct span line = span_of(rest.data, length);
        rest = newline != NULL ? span_of(newline + 1, rest.length - length - 1) : span_of(NULL, 0);
        wrong = parse_line(manifest, text, line, rest);
    }
    if (wrong == NULL) return true;
    aof_manifest_free(manifest);
    if (wrong[0] >= 'A' && wrong[0] <= 'Z') /* what Redis says of it, which tools look for */
        snprintf(error, AOF_MANIFEST_ERROR_MAX, "line %u: %s", number, wrong);
    else
        snprintf(error, AOF_MANIFEST_ERROR_MAX, "Invalid AOF manifest file format: line %u: %s", number, wrong);
    return false;
}

/* ---- composing ---- */

static bool needs_quotes(const char *name) {
    for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++)
        if (*p <= ' ' || *p >= 0x7f || *p == '"' || *p == '\'' || *p == '\\') return true;
    return name[0] == '\0';
}

/* `to` has room for four bytes for each of the name's, and two. */
static char *put_quoted(char *to, const char *name) {
    static const char escaped[] = "\n\r\t\a\b\"\\", letters[] = "nrtab\"\\";
    *to++ = '"';
    for (const char *p = name; *p != '\0'; p++) {
        const char *special = strchr(escaped, *p);
        if (special != NULL) {
            *to++ = '\\';
            *to++ = letters[special - escaped];
        } else if (*p >= ' ' && *p < 0x7f) {
            *to++ = *p;
        } else {
            to += sprintf(to, "\\x%02x", (unsigned char)*p);
        }
    }
    *to++ = '"';
    return to;
}

static char *put_line(char *to, const struct aof_file *file) {
    to = stpcpy(to, "file ");
    to = needs_quotes(file->name) ? put_quoted(to, file->name) : stpcpy(to, file->name);
    to = stpcpy(to, " seq ");
    to += number_format_u64(file->sequence, to);
    to = stpcpy(to, " type ");
    *to++ = (char)file->type;
    *to++ = '\n';
    return to;
}

char *aof_manifest_compose(const struct aof_manifest *manifest, size_t *length) {
    const size_t around = sizeof("file \"\" seq  type b\n") + NUMBER_TEXT_MAX;
    size_t room = sizeof(AOF_TAG) + AOF_CHECK_DIGITS + 2;
    for (uint32_t i = 0; i < manifest->count; i++) room += strlen(manifest->files[i].name) * 4 + around;
    char *text = malloc(room), *end = text;
    if (text == NULL) return NULL;
    for (uint32_t i = 0; i < manifest->count; i++) end = put_line(end, &manifest->files[i]);
    uint64_t check = aof_check_hash(span_of(text, (size_t)(end - text)));
    end += sprintf(end, AOF_TAG "%016llx", (unsigned long long)check);
    *length = (size_t)(end - text);
    return text;
}
