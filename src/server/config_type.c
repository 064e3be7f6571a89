/* Types of directives.
 *
 * Each type is four functions' worth of knowledge: read words, spell the value, release it, and how many bytes a
 * field takes. CONFIG SET, the file, the command line and the defaults in the table all go through parse(), and
 * CONFIG GET, CONFIG REWRITE and every comparison go through format(), so a value has one reading and one spelling.
 *
 * The messages are those of Redis 7 where a client may match on them. */

#include "server/config_type.h"

#include "base/number.h"
#include "server/config_table.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

bool config_fail(struct config_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    for (char *c = error->text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
    }
    return false;
}

static bool need_one_word(size_t count, struct config_error *error) {
    return count == 1 ? true : config_fail(error, "wrong number of arguments");
}

static bool check_range(const struct config_row *row, int64_t value, struct config_error *error) {
    if (value >= row->min && value <= row->max) return true;
    return config_fail(error, "argument must be between %" PRId64 " and %" PRId64 " inclusive", row->min, row->max);
}

/* ---- yes / no ---- */

static bool parse_bool(const struct config_row *row, const struct span *words, size_t count, const void *base,
                       void *value, struct config_error *error) {
    (void)row, (void)base;
    if (!need_one_word(count, error)) return false;
    bool yes = span_is_word(words[0], "yes");
    if (!yes && !span_is_word(words[0], "no")) return config_fail(error, "argument must be 'yes' or 'no'");
    *(bool *)value = yes;
    return true;
}

static void format_bool(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    fputs(*(const bool *)value ? "yes" : "no", out);
}

const struct config_type config_type_bool = {
    .label = "yes|no", .size = sizeof(bool), .parse = parse_bool, .format = format_bool};

/* ---- numbers ---- */

static bool parse_integer(const struct config_row *row, const struct span *words, size_t count, const void *base,
                          void *value, struct config_error *error) {
    (void)base;
    int64_t number;
    if (!need_one_word(count, error)) return false;
    if (!number_parse_i64(words[0], &number)) {
        return config_fail(error, "argument couldn't be parsed into an integer");
    }
    if (!check_range(row, number, error)) return false;
    *(int64_t *)value = number;
    return true;
}

static bool parse_memory(const struct config_row *row, const struct span *words, size_t count, const void *base,
                         void *value, struct config_error *error) {
    (void)base;
    int64_t bytes;
    if (!need_one_word(count, error)) return false;
    if (!number_parse_memory(words[0], &bytes)) return config_fail(error, "argument must be a memory value");
    if (!check_range(row, bytes, error)) return false;
    *(int64_t *)value = bytes;
    return true;
}

static void format_integer(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    fprintf(out, "%" PRId64, *(const int64_t *)value);
}

static bool parse_octal(const struct config_row *row, const struct span *words, size_t count, const void *base,
                        void *value, struct config_error *error) {
    (void)base;
    static const char message[] = "argument couldn't be parsed as an octal number";
    if (!need_one_word(count, error)) return false;
    if (words[0].length == 0 || words[0].length > 8) return config_fail(error, message);
    int64_t number = 0;
    for (size_t i = 0; i < words[0].length; i++) {
        char digit = words[0].data[i];
        if (digit < '0' || digit > '7') return config_fail(error, message);
        number = number * 8 + (digit - '0');
    }
    if (number < row->min || number > row->max) {
        return config_fail(error, "argument must be between %" PRIo64 " and %" PRIo64 " inclusive", row->min, row->max);
    }
    *(int64_t *)value = number;
    return true;
}

static void format_octal(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    fprintf(out, "%" PRIo64, *(const int64_t *)value);
}

const struct config_type config_type_integer = {
    .label = "integer", .size = sizeof(int64_t), .parse = parse_integer, .format = format_integer};
const struct config_type config_type_memory = {
    .label = "bytes", .size = sizeof(int64_t), .parse = parse_memory, .format = format_integer};
const struct config_type config_type_octal = {
    .label = "octal", .size = sizeof(int64_t), .parse = parse_octal, .format = format_octal};

static bool parse_share(const struct config_row *row, const struct span *words, size_t count, const void *base,
                        void *value, struct config_error *error) {
    (void)row, (void)base;
    if (!need_one_word(count, error)) return false;
    struct config_share share = {0};
    struct span word = words[0];
    if (word.length > 0 && word.data[word.length - 1] == '%') {
        word.length--;
        if (!number_parse_i64(word, &share.percent) || share.percent < 0) goto malformed;
        if (share.percent > 100) return config_fail(error, "percentage argument must be less or equal to 100");
    } else if (!number_parse_memory(word, &share.bytes)) {
        goto malformed;
    }
    *(struct config_share *)value = share;
    return true;
malformed:
    return config_fail(error, "argument must be a memory or percent value");
}

static void format_share(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    const struct config_share *share = value;
    if (share->percent) {
        fprintf(out, "%" PRId64 "%%", share->percent);
    } else {
        fprintf(out, "%" PRId64, share->bytes);
    }
}

const struct config_type config_type_share = {
    .label = "bytes or n%", .size = sizeof(struct config_share), .parse = parse_share, .format = format_share};

/* oom-score-adj-values: for the primary, a replica, a background process; Linux knows -1000..1000, and Redis accepts
 * twice that for the relative mode. */
static bool parse_scores(const struct config_row *row, const struct span *words, size_t count, const void *base,
                         void *value, struct config_error *error) {
    (void)row, (void)base;
    int64_t scores[3];
    if (count != 3) return config_fail(error, "wrong number of arguments");
    for (size_t i = 0; i < 3; i++) {
        if (!number_parse_i64(words[i], &scores[i]) || scores[i] < -2000 || scores[i] > 2000) {
            return config_fail(error, "Invalid oom-score-adj-values, elements must be between -2000 and 2000.");
        }
    }
    memcpy(value, scores, sizeof(scores));
    return true;
}

static void format_scores(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    const int64_t *scores = value;
    fprintf(out, "%" PRId64 " %" PRId64 " %" PRId64, scores[0], scores[1], scores[2]);
}

const struct config_type config_type_scores = {
    .label = "n n n", .size = 3 * sizeof(int64_t), .multi_word = true, .parse = parse_scores, .format = format_scores};

/* ---- choices ---- */

static bool same_word(struct span word, const char *name) {
    return word.length == strlen(name) && strncasecmp(word.data, name, word.length) == 0;
}

static const struct config_choice *find_choice(const struct config_row *row, struct span word) {
    for (const struct config_choice *choice = row->choices; choice->name; choice++) {
        if (same_word(word, choice->name)) return choice;
    }
    return NULL;
}

static bool fail_with_choices(const struct config_row *row, struct config_error *error) {
    char names[sizeof(error->text)] = "";
    size_t used = 0;
    for (const struct config_choice *choice = row->choices; choice->name; choice++) {
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "", choice->name);
        assert(used < sizeof(names));
    }
    return config_fail(error, "argument(s) must be one of the following: %.400s", names);
}

static bool parse_choice(const struct config_row *row, const struct span *words, size_t count, const void *base,
                         void *value, struct config_error *error) {
    (void)base;
    if (!need_one_word(count, error)) return false;
    const struct config_choice *choice = find_choice(row, words[0]);
    if (!choice) return fail_with_choices(row, error);
    *(int *)value = choice->value;
    return true;
}

static void format_choice(const struct config_row *row, const void *value, FILE *out) {
    for (const struct config_choice *choice = row->choices; choice->name; choice++) {
        if (choice->value == *(const int *)value) {
            fputs(choice->name, out);
            return;
        }
    }
    assert(!"a choice that has no name");
}

static bool parse_flags(const struct config_row *row, const struct span *words, size_t count, const void *base,
                        void *value, struct config_error *error) {
    (void)base;
    int flags = 0;
    if (count == 0) return fail_with_choices(row, error);
    for (size_t i = 0; i < count; i++) {
        const struct config_choice *choice = find_choice(row, words[i]);
        if (!choice) return fail_with_choices(row, error);
        flags |= choice->value;
    }
    *(int *)value = flags;
    return true;
}

static void format_flags(const struct config_row *row, const void *value, FILE *out) {
    int flags = *(const int *)value;
    const char *separator = "";
    for (const struct config_choice *choice = row->choices; choice->name; choice++) {
        if (choice->value ? (flags & choice->value) == 0 : flags != 0) continue;
        fprintf(out, "%s%s", separator, choice->name);
        separator = " ";
    }
}

const struct config_type config_type_choice = {
    .label = "word", .size = sizeof(int), .parse = parse_choice, .format = format_choice};
const struct config_type config_type_flags = {
    .label = "words", .size = sizeof(int), .multi_word = true, .parse = parse_flags, .format = format_flags};

/* notify-keyspace-events: one letter a class, in the order they are spelled. 'A' stands for the first ten of them
 * (all but new keys and misses). */
static const char event_letters[] = "g$lshzxetdnKEm";
#define EVENTS_ALL ((1 << 10) - 1)
static_assert(sizeof(event_letters) - 1 == 14, "g$lshzxetd are the ten classes of 'A'");

static bool parse_events(const struct config_row *row, const struct span *words, size_t count, const void *base,
                         void *value, struct config_error *error) {
    (void)row, (void)base;
    if (!need_one_word(count, error)) return false;
    int events = 0;
    for (size_t i = 0; i < words[0].length; i++) {
        char letter = words[0].data[i];
        const char *known = letter ? strchr(event_letters, letter) : NULL;
        if (known) {
            events |= 1 << (known - event_letters);
        } else if (letter == 'A') {
            events |= EVENTS_ALL;
        } else {
            return config_fail(error, "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
        }
    }
    *(int *)value = events;
    return true;
}

static void format_events(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    int events = *(const int *)value;
    if ((events & EVENTS_ALL) == EVENTS_ALL) {
        fputc('A', out);
        events &= ~EVENTS_ALL;
    }
    for (int i = 0; event_letters[i]; i++) {
        if (events & (1 << i)) fputc(event_letters[i], out);
    }
}

const struct config_type config_type_events = {
    .label = "letters", .size = sizeof(int), .parse = parse_events, .format = format_events};

/* ---- text ---- */

static bool copy_word(struct span word, char **copy, struct config_error *error) {
    if (word.length && memchr(word.data, '\0', word.length)) {
        return config_fail(error, "argument must not contain a NUL byte");
    }
    *copy = strndup(word.length ? word.data : "", word.length);
    return *copy ? true : config_fail(error, "out of memory");
}

static bool parse_string(const struct config_row *row, const struct span *words, size_t count, const void *base,
                         void *value, struct config_error *error) {
    (void)row, (void)base;
    return need_one_word(count, error) && copy_word(words[0], value, error);
}

static void format_string(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    fputs(*(char *const *)value, out);
}

static void release_string(void *value) {
    free(*(char **)value);
}

const struct config_type config_type_string = {
    .label = "text", .size = sizeof(char *), .parse = parse_string, .format = format_string, .release = release_string};

/* Bytes of any kind, unlike other text: clients send passwords as they are. */
static bool parse_secret(const struct config_row *row, const struct span *words, size_t count, const void *base,
                         void *value, struct config_error *error) {
    (void)row, (void)base;
    if (!need_one_word(count, error)) return false;
    struct config_secret secret = {.length = words[0].length, .bytes = malloc(words[0].length + 1)};
    if (!secret.bytes) return config_fail(error, "out of memory");
    if (secret.length) memcpy(secret.bytes, words[0].data, secret.length);
    secret.bytes[secret.length] = '\0';
    *(struct config_secret *)value = secret;
    return true;
}

static void format_secret(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    const struct config_secret *secret = value;
    fwrite(secret->bytes, 1, secret->length, out);
}

static void release_secret(void *value) {
    free(((struct config_secret *)value)->bytes);
}

const struct config_type config_type_secret = {.label = "text",
                                               .size = sizeof(struct config_secret),
                                               .parse = parse_secret,
                                               .format = format_secret,
                                               .release = release_secret};

static void release_words(void *value) {
    struct config_words *list = value;
    for (size_t i = 0; i < list->count; i++) free(list->words[i]);
    free(list->words);
    *list = (struct config_words){0};
}

static bool append_word(struct config_words *list, struct span word, struct config_error *error) {
    if (!copy_word(word, &list->words[list->count], error)) return false;
    list->count++;
    return true;
}

/* A lone "" is the empty list. */
static bool parse_words(const struct config_row *row, const struct span *words, size_t count, const void *base,
                        void *value, struct config_error *error) {
    (void)row;
    const struct config_words *before = base;
    if (count == 1 && words[0].length == 0) count = 0;
    size_t total = count + (before ? before->count : 0);
    struct config_words list = {0};
    if (total > 0) {
        list.words = calloc(total, sizeof(*list.words));
        if (!list.words) return config_fail(error, "out of memory");
    }
    bool ok = true;
    for (size_t i = 0; ok && before && i < before->count; i++) {
        ok = append_word(&list, span_of_text(before->words[i]), error);
    }
    for (size_t i = 0; ok && i < count; i++) ok = append_word(&list, words[i], error);
    if (ok) {
        *(struct config_words *)value = list;
    } else {
        release_words(&list);
    }
    return ok;
}

static void format_words(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    const struct config_words *list = value;
    for (size_t i = 0; i < list->count; i++) fprintf(out, "%s%s", i ? " " : "", list->words[i]);
}

const struct config_type config_type_words = {.label = "words",
                                              .size = sizeof(struct config_words),
                                              .multi_word = true,
                                              .parse = parse_words,
                                              .format = format_words,
                                              .release = release_words};

/* ---- save points, output limits, percentiles ---- */

static bool parse_save(const struct config_row *row, const struct span *words, size_t count, const void *base,
                       void *value, struct config_error *error) {
    (void)row;
    struct config_save_points save = {0};
    if (count == 1 && words[0].length == 0) count = 0; /* save "" takes all points away */
    if (base && count > 0) save = *(const struct config_save_points *)base;
    if (count % 2 != 0) goto malformed;
    for (size_t i = 0; i < count; i += 2) {
        struct config_save_point point;
        if (save.count == CONFIG_SAVE_POINTS_MAX) return config_fail(error, "Too many save points");
        if (!number_parse_i64(words[i], &point.seconds) || point.seconds < 1) goto malformed;
        if (!number_parse_i64(words[i + 1], &point.changes) || point.changes < 0) goto malformed;
        save.points[save.count++] = point;
    }
    *(struct config_save_points *)value = save;
    return true;
malformed:
    return config_fail(error, "Invalid save parameters");
}

static void format_save(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    const struct config_save_points *save = value;
    for (size_t i = 0; i < save->count; i++) {
        fprintf(out, "%s%" PRId64 " %" PRId64, i ? " " : "", save->points[i].seconds, save->points[i].changes);
    }
}

const struct config_type config_type_save = {.label = "seconds changes ...",
                                             .size = sizeof(struct config_save_points),
                                             .multi_word = true,
                                             .parse = parse_save,
                                             .format = format_save};

/* Replicas answer to both names, and are spelled by the older one, as in Redis. */
static const struct {
    const char *name;
    enum config_client_class kind;
} class_names[] = {
    {"normal", CONFIG_CLIENT_NORMAL},
    {"slave", CONFIG_CLIENT_REPLICA},
    {"pubsub", CONFIG_CLIENT_PUBSUB},
    {"replica", CONFIG_CLIENT_REPLICA},
};

static int find_class(struct span word) {
    for (size_t i = 0; i < sizeof(class_names) / sizeof(class_names[0]); i++) {
        if (same_word(word, class_names[i].name)) return (int)class_names[i].kind;
    }
    return -1;
}

static bool parse_limits(const struct config_row *row, const struct span *words, size_t count, const void *base,
                         void *value, struct config_error *error) {
    (void)row;
    struct config_output_limits limits = {0};
    if (base) limits = *(const struct config_output_limits *)base;
    if (count == 1 && words[0].length == 0) count = 0;
    if (count % 4 != 0) return config_fail(error, "Wrong number of arguments in buffer limit configuration.");
    for (size_t i = 0; i < count; i += 4) {
        int kind = find_class(words[i]);
        if (kind < 0) return config_fail(error, "Invalid client class specified in buffer limit configuration.");
        struct config_output_limit *limit = &limits.classes[kind];
        if (!number_parse_memory(words[i + 1], &limit->hard_bytes) ||
            !number_parse_memory(words[i + 2], &limit->soft_bytes) ||
            !number_parse_i64(words[i + 3], &limit->soft_seconds) || limit->soft_seconds < 0) {
            return config_fail(error, "Error in hard, soft or soft_seconds setting in buffer limit configuration.");
        }
    }
    *(struct config_output_limits *)value = limits;
    return true;
}

static void format_limits(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    const struct config_output_limits *limits = value;
    for (int kind = 0; kind < CONFIG_CLIENT_CLASSES; kind++) {
        const struct config_output_limit *limit = &limits->classes[kind];
        fprintf(out, "%s%s %" PRId64 " %" PRId64 " %" PRId64, kind ? " " : "", class_names[kind].name,
                limit->hard_bytes, limit->soft_bytes, limit->soft_seconds);
    }
}

const struct config_type config_type_limits = {.label = "class hard soft seconds ...",
                                               .size = sizeof(struct config_output_limits),
                                               .multi_word = true,
                                               .parse = parse_limits,
                                               .format = format_limits};

static bool parse_percentiles(const struct config_row *row, const struct span *words, size_t count, const void *base,
                              void *value, struct config_error *error) {
    (void)base;
    struct config_percentiles list = {0};
    if (count == 1 && words[0].length == 0) count = 0;
    if (count > CONFIG_PERCENTILES_MAX) return config_fail(error, "Too many %s parameters", row->name);
    for (size_t i = 0; i < count; i++) {
        double percentile;
        if (!number_parse_double(words[i], &percentile)) {
            return config_fail(error, "Invalid %s parameters", row->name);
        }
        if (!(percentile >= 0 && percentile <= 100)) {
            return config_fail(error, "%s parameters should sit between [0.0,100.0]", row->name);
        }
        list.values[list.count++] = percentile;
    }
    *(struct config_percentiles *)value = list;
    return true;
}

/* The shortest text that reads back as the same number: 99.9, not 99.900000000000006. */
static void print_shortest(double number, FILE *out) {
    char text[NUMBER_DOUBLE_TEXT_MAX];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    fputs(text, out);
}

static void format_percentiles(const struct config_row *row, const void *value, FILE *out) {
    (void)row;
    const struct config_percentiles *list = value;
    for (size_t i = 0; i < list->count; i++) {
        if (i) fputc(' ', out);
        print_shortest(list->values[i], out);
    }
}

const struct config_type config_type_percentiles = {.label = "percentiles",
                                                    .size = sizeof(struct config_percentiles),
                                                    .multi_word = true,
                                                    .parse = parse_percentiles,
                                                    .format = format_percentiles};
