#ifndef TERRACE_SERVER_LISTENERS_H
#define TERRACE_SERVER_LISTENERS_H

/* The sockets the server listens on: one for each address of `bind`, and the unix socket.
 *
 * They stand in a table whose entries never move, because every worker's event loop holds their addresses. An entry
 * without a socket has fd -1.
 *
 * Threads: opened and closed at start and end; changed while all other workers stand still. */

#include "net/socket.h"

enum { LISTENERS_MAX = 17 }; /* Redis takes 16 addresses, and one is the unix socket */

struct server;
struct worker;

struct listener {
    int fd;
    bool is_unix;
    int port;                         /* as configured; TCP only */
    char address[SOCKET_ADDRESS_MAX]; /* likewise, without the minus */
};

struct listeners {
    unsigned count; /* entries that were ever used */
    struct listener table[LISTENERS_MAX];
};

/* As the configuration says. False with one line in `error` that says what to do. */
bool listeners_open(struct server *server, struct socket_error *error) __attribute__((warn_unused_result));
/* Closes all of them and removes the unix socket's file. */
void listeners_close(struct server *server);

/* `port` or `bind` changed: opens what is new, closes what is no longer wanted; connections stay as they are. False:
 * something could not be opened, `error` says why, and everything is as before. */
bool listeners_change(struct server *server, struct socket_error *error) __attribute__((warn_unused_result));

/* Lets a worker accept connections, or stop doing so for a while. False with errno. */
bool listeners_watch(struct server *server, struct worker *worker);
void listeners_ignore(struct server *server, struct worker *worker);

#endif
