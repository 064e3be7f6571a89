#ifndef TERRACE_SERVER_CONFIG_TABLE_H
#define TERRACE_SERVER_CONFIG_TABLE_H

/* The configuration table. A directive is declared once, in config_table.c if the server acts on it, in
 * config_table_accepted.c if it is only stored; CONFIG GET/SET/REWRITE, --help and the sample file follow. */

#include "server/config_type.h"

enum config_group {
    CONFIG_GROUP_NETWORK,
    CONFIG_GROUP_GENERAL,
    CONFIG_GROUP_LOGGING,
    CONFIG_GROUP_SECURITY,
    CONFIG_GROUP_CLIENTS,
    CONFIG_GROUP_MEMORY,
    CONFIG_GROUP_TIER,
    CONFIG_GROUP_MONITORING,
    CONFIG_GROUP_ENCODING,
    CONFIG_GROUP_PERSISTENCE,
    CONFIG_GROUP_REPLICATION,
    CONFIG_GROUP_CLUSTER,
    CONFIG_GROUP_TLS,
    CONFIG_GROUP_OTHER,
    CONFIG_GROUPS,
};

extern const char *const config_group_titles[CONFIG_GROUPS];

enum config_unit {
    CONFIG_UNIT_NONE,
    CONFIG_UNIT_SECONDS,
    CONFIG_UNIT_MILLISECONDS,
    CONFIG_UNIT_MICROSECONDS,
    CONFIG_UNIT_MINUTES,
    CONFIG_UNIT_BYTES,
    CONFIG_UNIT_PERCENT,
    CONFIG_UNITS,
};

extern const char *const config_unit_names[CONFIG_UNITS]; /* "" for none */

enum config_row_flag {
    CONFIG_RUNTIME = 1,     /* CONFIG SET may change it */
    CONFIG_PROTECTED = 2,   /* ... if enable-protected-configs allows it */
    CONFIG_HIDDEN = 4,      /* CONFIG GET shows it only when asked by name; not in --help or the sample */
    CONFIG_ADDS = 8,        /* several lines of a file add up; CONFIG SET replaces all */
    CONFIG_MERGES = 16,     /* a value changes only the parts it names */
    CONFIG_FILE_ONLY = 32,  /* unknown to CONFIG GET and SET */
    CONFIG_OURS = 64,       /* unknown to Redis: where CONFIG SET may not change it, it may still set what it is */
    CONFIG_IF_LOADED = 128, /* CONFIG SET may not change it while the dataset is loaded */
    CONFIG_DEPENDS = 256, /* the default may be another with other settings: a comment in the sample, which sets none */
};

struct config_choice {
    const char *name;
    int value;
};

#define CONFIG_NO_FIELD SIZE_MAX

struct config_row {
    const char *name;
    const char *alias; /* NULL: none */
    enum config_group group;
    const struct config_type *type;
    size_t offset; /* in struct config, or CONFIG_NO_FIELD: the value is kept in the private state */
    enum config_unit unit;
    int64_t min, max;                    /* types integer, octal, memory */
    const struct config_choice *choices; /* types choice, flags; ends with a NULL name */
    const char *default_text;
    unsigned flags; /* of enum config_row_flag */

    /* Refuses or normalises a value already parsed; may be NULL. */
    bool (*check)(const struct config *config, void *value, struct config_error *error);

    /* Not NULL: the value is stored and nothing acts on it. Says why, after "'name' has no effect: ". */
    const char *inert;
    /* Not NULL: any value but the default would promise what the server does not do. Says so in one clause. */
    const char *refused;
    const char *help; /* one sentence */
};

/* Rows are numbered: first those the server acts on, then those only accepted. */
size_t config_row_count(void);
const struct config_row *config_row_at(size_t index);

/* By name or alias, ignoring case; SIZE_MAX if unknown. */
size_t config_row_find(struct span name);

/* `path` as an absolute path: relative ones are meant from the directory the server was started in. False with errno
 * ENAMETOOLONG if it does not fit into PATH_MAX bytes. */
bool config_resolve_path(const struct config *config, const char *path, char *absolute);

/* The two halves of the table. */
extern const struct config_row config_rows_served[];
extern const size_t config_rows_served_count;
extern const struct config_row config_rows_accepted[];
extern const size_t config_rows_accepted_count;

#endif
