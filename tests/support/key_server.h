#ifndef TERRACE_TESTS_SUPPORT_KEY_SERVER_H
#define TERRACE_TESTS_SUPPORT_KEY_SERVER_H

/* An in-process server with the families that tests of the commands on keys need. */

#include "tests/support/in_process.h"

/* in_process_create() with keys, databases, OBJECT, strings and transactions. */
struct in_process *key_server_create(void);

/* `count` commands, the format given a number below it: key_server_fill(server, 3, "SET key:%u x"). */
void key_server_fill(struct in_process *server, unsigned count, const char *format)
    __attribute__((format(printf, 3, 0)));

/* The keyspace's figures. */
struct keyspace_usage key_server_usage(const struct in_process *server);

/* Whether another client that says `watch` (a WATCH command) loses its transaction through `line`. */
bool key_server_watcher_is_told(struct in_process *server, const char *watch, const char *line);

#endif
