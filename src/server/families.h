#ifndef TERRACE_SERVER_FAMILIES_H
#define TERRACE_SERVER_FAMILIES_H

/* The families of commands that need the server itself: server_of(call) is it. */

#include "command/command.h"

extern const struct command_spec connection_commands[];
extern const unsigned connection_command_count;
extern const struct command_spec client_commands[];
extern const unsigned client_command_count;
extern const struct command_spec pubsub_commands[];
extern const unsigned pubsub_command_count;
extern const struct command_spec config_commands[];
extern const unsigned config_command_count;
extern const struct command_spec server_commands[];
extern const unsigned server_command_count;
extern const struct command_spec info_commands[];
extern const unsigned info_command_count;
extern const struct command_spec memory_commands[];
extern const unsigned memory_command_count;
extern const struct command_spec slowlog_commands[];
extern const unsigned slowlog_command_count;
extern const struct command_spec latency_commands[];
extern const unsigned latency_command_count;
extern const struct command_spec tier_commands[];
extern const unsigned tier_command_count;
extern const struct command_spec save_commands[];
extern const unsigned save_command_count;
extern const struct command_spec persistence_commands[];
extern const unsigned persistence_command_count;
extern const struct command_spec waiting_commands[];
extern const unsigned waiting_command_count;
extern const struct command_spec failover_commands[];
extern const unsigned failover_command_count;
extern const struct command_spec replication_commands[];
extern const unsigned replication_command_count;
extern const struct command_spec replica_commands[];
extern const unsigned replica_command_count;
extern const struct command_spec debug_commands[];
extern const unsigned debug_command_count;

#endif
