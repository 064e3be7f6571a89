#ifndef TERRACE_COMMAND_COMMAND_TABLE_H
#define TERRACE_COMMAND_COMMAND_TABLE_H

/* The table of all commands: built once at start from the families, then only read, by all threads. */

#include "command/command.h"

struct command_table;

/* NULL: no memory. Asserts that no name is declared twice. */
struct command_table *command_table_create(const struct command_family *families, unsigned count);
void command_table_destroy(struct command_table *table);

/* Gives a command another name, or none (empty): what clients call it from now on. What the table says of it (COMMAND,
 * INFO commandstats, errors) keeps the name it was declared by. Before any thread uses the table. */
enum command_rename { COMMAND_RENAMED, COMMAND_RENAME_UNKNOWN, COMMAND_RENAME_TAKEN, COMMAND_RENAME_NO_MEMORY };
enum command_rename command_table_rename(struct command_table *table, struct span name, struct span new_name)
    __attribute__((warn_unused_result));

/* Any case; NULL: unknown. */
const struct command *command_table_find(const struct command_table *table, struct span name);
/* The same for what comes from a journal or a primary, where commands also go by the names they were declared by. */
const struct command *command_table_find_told(const struct command_table *table, struct span name);
const struct command *command_find_subcommand(const struct command *container, struct span name);

/* Whether clients can call it. */
bool command_table_is_named(const struct command_table *table, const struct command *command);
/* How many top-level commands they can call. */
unsigned command_table_named(const struct command_table *table);

/* Top-level commands, 0 .. count-1, in order of declaration; and the number of ids, subcommands included. */
unsigned command_table_count(const struct command_table *table);
const struct command *command_table_at(const struct command_table *table, unsigned index);
unsigned command_table_ids(const struct command_table *table);
/* By id, subcommands included. */
const struct command *command_table_by_id(const struct command_table *table, unsigned id);

/* Whether this many arguments, the name included, are what the command takes. */
static inline bool command_arity_fits(const struct command *command, uint32_t argc) {
    return command->arity >= 0 ? argc == (uint32_t)command->arity : argc >= (uint32_t)-command->arity;
}

/* The positions of the keys among the arguments, as the command's row declares them. Writes up to `capacity`
 * positions (and the flags of each, if `flags` is not NULL); returns how many there are. -1: the arguments
 * do not fit the row (COMMAND GETKEYS answers "Invalid arguments specified for command"). */
int command_key_positions(const struct command *command, const struct span *argv, uint32_t argc, uint32_t *positions,
                          uint32_t *flags, uint32_t capacity);
/* The same for running a command: a specification that the arguments do not fit has no keys. PFMERGE of one key, say.
 */
uint32_t command_fitting_key_positions(const struct command *command, const struct span *argv, uint32_t argc,
                                       uint32_t *positions, uint32_t capacity);

#endif
