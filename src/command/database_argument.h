#ifndef TERRACE_COMMAND_DATABASE_ARGUMENT_H
#define TERRACE_COMMAND_DATABASE_ARGUMENT_H

/* Database numbers among a command's arguments. Clients are told three mistakes apart: no number, a number that no int
 * holds, and a database that does not exist. */

#include "command/command.h"

/* False unless a database has this number; the error is composed. */
bool database_exists(struct call *call, int64_t number) __attribute__((warn_unused_result));

/* Argument `index` as the number of an existing database; on failure the error is composed. */
bool database_argument(struct call *call, uint32_t index, uint32_t *database) __attribute__((warn_unused_result));

/* The call's view, seen from another database. */
static inline struct view database_view(const struct call *call, uint32_t database) {
    struct view view = call->view;
    view.database = database;
    return view;
}

#endif
