#ifndef TERRACE_SERVER_CONFIG_STATE_H
#define TERRACE_SERVER_CONFIG_STATE_H

/* What the config files share and nobody else sees: the private part of a configuration and access to the value
 * of a row. Rows are addressed by their number, see config_table.h. */

#include "server/config_table.h"

#include <limits.h>

/* Longest value of a directive, wherever it comes from: a pass phrase or a list of save points is far below it. */
#define CONFIG_VALUE_BYTES_MAX (64 * 1024)

/* Where a row was last set while loading. */
struct config_origin {
    const char *file; /* as the user named it; "command line"; NULL: nowhere, the value is the default */
    int line;         /* 0: not a file */
};

struct config_hook {
    config_change_fn *fn; /* NULL: none */
    void *ctx;
};

struct config_state {
    char *start_directory; /* relative paths are meant from here, also after the server has changed directory */
    char *file_path;       /* absolute; "": none */

    /* One element for each row. */
    void **stored; /* values of rows without a field */
    struct config_origin *origins;
    struct config_hook *hooks;

    char **file_names; /* every name an origin points to */
    size_t file_name_count;
    char **warnings;
    size_t warning_count;
};

/* The value in its field or in `stored`. */
void *config_value(const struct config *config, size_t row);

/* Reads and checks a value for `row` into `value` (row's type->size bytes). `accumulate`: a line of a file that may
 * add to earlier lines. The configuration is not changed. */
bool config_parse_value(const struct config *config, size_t row, const struct span *words, size_t count,
                        bool accumulate, void *value, struct config_error *error);

/* The value's spelling; to be freed by the caller. NULL-terminated, `length` (may be NULL) excludes the NUL. */
char *config_format_value(size_t row, const void *value, size_t *length);

/* Exchanges the row's value with *value, byte by byte. */
void config_swap_value(const struct config *config, size_t row, void *value);

/* Releases what the value owns and frees its bytes; NULL is fine. */
void config_drop_value(size_t row, void *value);

bool config_same_value(size_t row, const void *a, const void *b);
bool config_is_default(const struct config *config, size_t row, const void *value);

/* `name value` as a line of a file, with its line end. */
void config_print_directive(FILE *out, size_t row, struct span name, const void *value);

/* malloc that does not fail: for start-up and for a few bytes. */
void *config_allocate(size_t size);
char *config_copy_text(const char *text);

#endif
