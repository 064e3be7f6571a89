#ifndef TERRACE_SERVER_CONFIG_TYPE_H
#define TERRACE_SERVER_CONFIG_TYPE_H

/* The types of directives: how a value is read from words, spelled for CONFIG GET, and released. Used by the
 * config files only. */

#include "server/config.h"

struct config_row;

struct config_type {
    const char *label; /* for --help: "integer", "yes|no"... */
    size_t size;       /* of the field */
    bool multi_word;   /* takes any number of words; a single word is split at its spaces first */

    /* Reads `words` into `value` (uninitialised, `size` bytes). `base`, if not NULL, is the value to build on and
     * stays untouched. On false nothing is left to release, and `error` says what was expected. */
    bool (*parse)(const struct config_row *row, const struct span *words, size_t count, const void *base, void *value,
                  struct config_error *error);

    /* Writes the value as CONFIG GET spells it; parsing that gives an equal value again. */
    void (*format)(const struct config_row *row, const void *value, FILE *out);

    void (*release)(void *value); /* NULL: the value owns nothing */
};

extern const struct config_type config_type_bool;        /* bool */
extern const struct config_type config_type_integer;     /* int64_t, within the row's min..max */
extern const struct config_type config_type_octal;       /* int64_t, likewise */
extern const struct config_type config_type_memory;      /* int64_t bytes, likewise; takes 1k, 1kb, 1mb... */
extern const struct config_type config_type_share;       /* struct config_share */
extern const struct config_type config_type_choice;      /* int: one of the row's choices */
extern const struct config_type config_type_flags;       /* int: any of the row's choices, or-ed */
extern const struct config_type config_type_string;      /* char * */
extern const struct config_type config_type_secret;      /* struct config_secret */
extern const struct config_type config_type_words;       /* struct config_words */
extern const struct config_type config_type_save;        /* struct config_save_points */
extern const struct config_type config_type_limits;      /* struct config_output_limits */
extern const struct config_type config_type_percentiles; /* struct config_percentiles */
extern const struct config_type config_type_events;      /* int: keyspace event classes */
extern const struct config_type config_type_scores;      /* int64_t[3]: oom-score-adj-values */

/* Puts a message into `error`, control characters replaced by spaces, and returns false. */
bool config_fail(struct config_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
