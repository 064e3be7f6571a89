/* See socket.h. */

#include "net/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(int fd, struct socket_error *error, const char *what, const char *where) {
    int saved = errno;
    const char *advice = saved == EADDRINUSE ? "; another server listens there: choose another port or stop it"
                         : saved == EACCES   ? "; permission is missing: choose a port above 1023 or another path"
                                             : "";
    snprintf(error->text, sizeof(error->text), "cannot %s %.100s: %s%s", what, where, strerror(saved), advice);
    if (fd >= 0) close(fd);
    errno = saved;
    return -1;
}

int socket_listen_tcp(const char *address, int port, int backlog, bool *missing, struct socket_error *error) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
    char service[16], where[160];
    const char *host = address;
    *missing = false;
    if (strcmp(address, "*") == 0) {
        host = "0.0.0.0";
    } else if (strcmp(address, "::*") == 0 || strcmp(address, "*6") == 0) {
        host = "::";
    }
    snprintf(service, sizeof(service), "%d", port);
    snprintf(where, sizeof(where), "%.120s port %d", address, port);
    int status = getaddrinfo(host, service, &hints, &found);
    if (status != 0) {
        snprintf(error->text, sizeof(error->text), "cannot resolve the bind address '%.100s': %s", address,
                 gai_strerror(status));
        *missing = true;
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int family = found->ai_family, one = 1;
    if (fd < 0) {
        *missing = errno == EAFNOSUPPORT || errno == EPROTONOSUPPORT;
        freeaddrinfo(found);
        return fail(-1, error, "open a socket for", where);
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    int bound = bind(fd, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    if (bound != 0) {
        *missing = errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT;
        return fail(fd, error, "listen on", where);
    }
    if (listen(fd, backlog) != 0) return fail(fd, error, "listen on", where);
    return fd;
}

int socket_listen_unix(const char *path, unsigned mode, int backlog, struct socket_error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return fail(-1, error, "listen on", path);
    }
    strcpy(address.sun_path, path);
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(-1, error, "open a socket for", path);
    /* With a mode of its own the socket is closed to others until it has it; without, users outside the group stay out.
     */
    mode_t mask = umask(0177);
    if (!mode) umask(mask | 0007);
    int bound = bind(fd, (struct sockaddr *)&address, sizeof(address));
    umask(mask);
    if (bound != 0 || (mode && chmod(path, mode) != 0) || listen(fd, backlog) != 0)
        return fail(fd, error, "listen on", path);
    return fd;
}

int socket_port(int fd) {
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0) return 0;
    if (address.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return 0;
}

static bool spell(const struct sockaddr_storage *address, char *text) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(text, SOCKET_ADDRESS_MAX, "%s:%d", host, ntohs(in->sin_port));
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
    inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
    snprintf(text, SOCKET_ADDRESS_MAX, "[%s]:%d", host, ntohs(in->sin6_port));
    return IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
}

int socket_accept(int listener, struct socket_peer *peer) {
    struct sockaddr_storage remote, local;
    socklen_t remote_length = sizeof(remote), local_length = sizeof(local);
    int fd = accept4(listener, (struct sockaddr *)&remote, &remote_length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return -1;
    *peer = (struct socket_peer){0};
    if (getsockname(fd, (struct sockaddr *)&local, &local_length) != 0) local.ss_family = remote.ss_family;
    if (local.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&local;
        snprintf(peer->address, sizeof(peer->address), "%.107s:0", un->sun_path);
        snprintf(peer->local, sizeof(peer->local), "%.107s:0", un->sun_path);
        peer->is_unix = peer->is_loopback = true;
        return fd;
    }
    peer->is_loopback = spell(&remote, peer->address);
    spell(&local, peer->local);
    return fd;
}

void socket_describe(int fd, struct socket_peer *peer) {
    struct sockaddr_storage remote = {0}, local = {0};
    socklen_t remote_length = sizeof(remote), local_length = sizeof(local);
    *peer = (struct socket_peer){0};
    if (getpeername(fd, (struct sockaddr *)&remote, &remote_length) == 0)
        peer->is_loopback = spell(&remote, peer->address);
    if (getsockname(fd, (struct sockaddr *)&local, &local_length) == 0) spell(&local, peer->local);
}

void socket_tune(int fd, int64_t keepalive_seconds) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (keepalive_seconds <= 0) return;
    int idle = (int)keepalive_seconds, interval = idle / 3 > 0 ? idle / 3 : 1, count = 3;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}
