/* The page is three files of bench/report, compiled in: a skeleton with marks, a style and a script. The reports stand
 * in it as they are, inside a <script type="application/json">, and are drawn by the script when the page is opened.
 *
 * A compared file is somebody's: before it goes into the page it is checked to be JSON, and every '<' in it is written
 * as \u003c. JSON has that character only inside strings, where both mean the same, and so nothing in a file can end
 * the element that holds it. */
#include "bench/capacity_page.h"

#include <ctype.h>
#include <string.h>

/* Made by bench/embed.cmake. */
extern const char page_skeleton[];
extern const char page_style[];
extern const char page_script[];

enum { DEPTH_MAX = 32 };

struct reader {
    const char *at, *end;
};

static void skip_blanks(struct reader *reader) {
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) != NULL && *reader->at != '\0') reader->at++;
}

static bool take(struct reader *reader, char wanted) {
    skip_blanks(reader);
    if (reader->at == reader->end || *reader->at != wanted) return false;
    reader->at++;
    return true;
}

static bool take_word(struct reader *reader, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) return false;
    reader->at += length;
    return true;
}

static bool take_string(struct reader *reader) {
    if (!take(reader, '"')) return false;
    while (reader->at < reader->end) {
        unsigned char byte = (unsigned char)*reader->at++;
        if (byte == '"') return true;
        if (byte < 0x20) return false;
        if (byte != '\\') continue;
        if (reader->at == reader->end) return false;
        byte = (unsigned char)*reader->at++;
        if (byte == 'u') {
            for (int i = 0; i < 4; i++, reader->at++)
                if (reader->at == reader->end || !isxdigit((unsigned char)*reader->at)) return false;
        } else if (byte == '\0' || strchr("\"\\/bfnrt", byte) == NULL) {
            return false;
        }
    }
    return false;
}

static size_t take_digits(struct reader *reader) {
    const char *first = reader->at;
    while (reader->at < reader->end && isdigit((unsigned char)*reader->at)) reader->at++;
    return (size_t)(reader->at - first);
}

static bool take_number(struct reader *reader) {
    if (reader->at < reader->end && *reader->at == '-') reader->at++;
    const char *first = reader->at;
    size_t digits = take_digits(reader);
    if (digits == 0 || (digits > 1 && *first == '0')) return false;
    if (reader->at < reader->end && *reader->at == '.') {
        reader->at++;
        if (take_digits(reader) == 0) return false;
    }
    if (reader->at < reader->end && (*reader->at == 'e' || *reader->at == 'E')) {
        reader->at++;
        if (reader->at < reader->end && (*reader->at == '+' || *reader->at == '-')) reader->at++;
        if (take_digits(reader) == 0) return false;
    }
    return true;
}

static bool take_value(struct reader *reader, unsigned depth);

/* The elements of an object or array whose opening bracket has been taken. */
static bool take_elements(struct reader *reader, char closing, unsigned depth) {
    if (depth == DEPTH_MAX) return false;
    if (take(reader, closing)) return true;
    do {
        if (closing == '}' && (!take_string(reader) || !take(reader, ':'))) return false;
        if (!take_value(reader, depth + 1)) return false;
    } while (take(reader, ','));
    return take(reader, closing);
}

static bool take_value(struct reader *reader, unsigned depth) {
    skip_blanks(reader);
    if (reader->at == reader->end) return false;
    switch (*reader->at) {
    case '{': reader->at++; return take_elements(reader, '}', depth);
    case '[': reader->at++; return take_elements(reader, ']', depth);
    case '"': return take_string(reader);
    case 't': return take_word(reader, "true");
    case 'f': return take_word(reader, "false");
    case 'n': return take_word(reader, "null");
    default: return take_number(reader);
    }
}

bool page_is_report(const char *text, size_t length) {
    static const char mark[] = "\"terrace-capacity 1\"";
    struct reader reader = {text, text + length};
    skip_blanks(&reader);
    if (reader.at == reader.end || *reader.at != '{' || !take_value(&reader, 0)) return false;
    skip_blanks(&reader);
    return reader.at == reader.end && memmem(text, length, mark, sizeof(mark) - 1) != NULL;
}

static void write_escaped(const char *text, FILE *out) {
    for (size_t plain; *text != '\0'; text += plain) {
        plain = strcspn(text, "<");
        fwrite(text, 1, plain, out);
        if (text[plain] != '<') continue;
        fputs("\\u003c", out);
        plain++;
    }
}

static void write_runs(const char *const *runs, size_t run_count, FILE *out) {
    fputs("[\n", out);
    for (size_t i = 0; i < run_count; i++) {
        if (i > 0) fputs(",\n", out);
        write_escaped(runs[i], out);
    }
    fputs("]\n", out);
}

void page_write(const char *const *runs, size_t run_count, FILE *out) {
    const char *at = page_skeleton;
    for (const char *mark; (mark = strstr(at, "{{")) != NULL; at = strstr(mark, "}}") + 2) {
        fwrite(at, 1, (size_t)(mark - at), out);
        if (strncmp(mark, "{{style}}", 9) == 0)
            fputs(page_style, out);
        else if (strncmp(mark, "{{script}}", 10) == 0)
            fputs(page_script, out);
        else
            write_runs(runs, run_count, out);
    }
    fputs(at, out);
}
