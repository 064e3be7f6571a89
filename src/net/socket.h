#ifndef TERRACE_NET_SOCKET_H
#define TERRACE_NET_SOCKET_H

/* Sockets: listening, accepting, and the options every connection gets. All are non-blocking and close-on-exec.
 *
 * Threads: any. Errors are told as one line of text that says what to do. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SOCKET_ADDRESS_MAX = 128 }; /* a unix socket path has at most 107 bytes */

struct socket_error {
    char text[256];
};

/* Listens on one address ("127.0.0.1", "::1", "*" for any IPv4, "::*" for any IPv6). `port` 0 lets the kernel choose.
 * -1: failed; `missing` tells whether the host merely lacks this address. */
int socket_listen_tcp(const char *address, int port, int backlog, bool *missing, struct socket_error *error);
/* `mode` 0: as the umask leaves it, and nothing for others. A stale socket file is replaced, a file of another kind is
 * not. */
int socket_listen_unix(const char *path, unsigned mode, int backlog, struct socket_error *error);
/* The port a listening socket was given. */
int socket_port(int fd);

struct socket_peer {
    char address[SOCKET_ADDRESS_MAX]; /* "127.0.0.1:5000", "[::1]:5000", or "/path:0" */
    char local[SOCKET_ADDRESS_MAX];
    bool is_unix;
    bool is_loopback; /* unix, 127/8 or ::1 */
};

/* -1 with errno; EAGAIN: nobody is waiting. */
int socket_accept(int listener, struct socket_peer *peer);
/* Who is at the ends of a TCP connection that this process has made. */
void socket_describe(int fd, struct socket_peer *peer);
/* TCP only: no delay, keepalive after `seconds` (0: none). Failure is harmless and ignored. */
void socket_tune(int fd, int64_t keepalive_seconds);

#endif
