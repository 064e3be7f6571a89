#ifndef TERRACE_COMMAND_FAMILIES_H
#define TERRACE_COMMAND_FAMILIES_H

/* The families of commands that need nothing of the server: arguments and keyspace in, reply out. Each array stands
 * at the end of its family's file. The server adds its own families (src/server/). */

#include "command/command.h"

extern const struct command_spec string_commands[];
extern const unsigned string_command_count;
extern const struct command_spec bitmap_commands[];
extern const unsigned bitmap_command_count;
extern const struct command_spec hyperloglog_commands[];
extern const unsigned hyperloglog_command_count;
extern const struct command_spec hash_commands[];
extern const unsigned hash_command_count;
extern const struct command_spec set_commands[];
extern const unsigned set_command_count;
extern const struct command_spec list_commands[];
extern const unsigned list_command_count;
extern const struct command_spec stream_commands[];
extern const unsigned stream_command_count;
extern const struct command_spec sort_commands[];
extern const unsigned sort_command_count;
extern const struct command_spec sorted_set_commands[];
extern const unsigned sorted_set_command_count;
extern const struct command_spec geo_commands[];
extern const unsigned geo_command_count;
extern const struct command_spec transaction_commands[];
extern const unsigned transaction_command_count;
extern const struct command_spec key_commands[];
extern const unsigned key_command_count;
extern const struct command_spec key_expiry_commands[];
extern const unsigned key_expiry_command_count;
extern const struct command_spec key_scan_commands[];
extern const unsigned key_scan_command_count;
extern const struct command_spec migrate_commands[];
extern const unsigned migrate_command_count;
extern const struct command_spec dump_commands[];
extern const unsigned dump_command_count;
extern const struct command_spec restore_commands[];
extern const unsigned restore_command_count;
extern const struct command_spec object_commands[];
extern const unsigned object_command_count;
extern const struct command_spec database_commands[];
extern const unsigned database_command_count;
extern const struct command_spec command_commands[];
extern const unsigned command_command_count;

#endif
