/* See key_server.h. */

#include "tests/support/key_server.h"

#include "command/families.h"

#include <stdio.h>
#include <string.h>

struct in_process *key_server_create(void) {
    const struct command_family families[] = {
        {key_commands, key_command_count},
        {key_expiry_commands, key_expiry_command_count},
        {key_scan_commands, key_scan_command_count},
        {object_commands, object_command_count},
        {database_commands, database_command_count},
        {string_commands, string_command_count},
        {transaction_commands, transaction_command_count},
    };
    return in_process_create(families, sizeof(families) / sizeof(families[0]));
}

void key_server_fill(struct in_process *server, unsigned count, const char *format) {
    char line[256];
    for (unsigned i = 0; i < count; i++) {
        snprintf(line, sizeof(line), format, i);
        in_process_run(server, line);
    }
}

struct keyspace_usage key_server_usage(const struct in_process *server) {
    const struct view view = {.keyspace = server->keyspace, .now_ms = server->dispatcher->now_ms};
    struct keyspace_usage usage;
    keyspace_usage(&view, &usage);
    return usage;
}

bool key_server_watcher_is_told(struct in_process *server, const char *watch, const char *line) {
    struct session other, *own = server->session;
    session_init(&other, 2, IN_PROCESS_START_MS);
    other.authenticated = true;
    server->session = &other;
    in_process_expect(server, watch, "+OK\r\n");
    in_process_expect(server, "MULTI", "+OK\r\n");
    server->session = own;
    in_process_run(server, line);
    server->session = &other;
    bool told = strcmp(in_process_run(server, "EXEC"), "*-1\r\n") == 0;
    server->session = own;
    session_free(&other);
    return told;
}
