/* Connections: everything that happens on a socket before the load, in blocking calls. */
#include "bench/connection.h"

#include "bench/reply_skipper.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_unix(const char *path, char *error, size_t error_size) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        snprintf(error, error_size, "the socket path is too long: %s", path);
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) return fd;
    snprintf(error, error_size, "cannot connect to %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

static int connect_tcp(const char *host, unsigned port, char *error, size_t error_size) {
    char service[16];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(host, service, &hints, &found);
    if (status != 0) {
        snprintf(error, error_size, "cannot resolve %s: %s", host, gai_strerror(status));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *address = found; address != NULL && fd < 0; address = address->ai_next) {
        fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
        if (fd >= 0 && connect(fd, address->ai_addr, address->ai_addrlen) == 0) break;
        snprintf(error, error_size, "cannot connect to %s:%u: %s", host, port, strerror(errno));
        if (fd >= 0) close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    int on = 1;
    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static size_t append_command(char *out, size_t room, const char *const *words, size_t count) {
    size_t used = (size_t)snprintf(out, room, "*%zu\r\n", count);
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(out + used, room - used, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
    return used;
}

/* Sends one command and waits for its reply; false when that is an error or does not come. */
static bool ask(int fd, const char *const *words, size_t count, char *error, size_t error_size) {
    char buffer[4096];
    size_t room = 256;
    for (size_t i = 0; i < count; i++) room += strlen(words[i]) + 32;
    if (room > sizeof(buffer)) {
        snprintf(error, error_size, "user name or password too long");
        return false;
    }
    size_t length = append_command(buffer, sizeof(buffer), words, count);
    struct reply_skipper skipper = {0};
    if (send(fd, buffer, length, MSG_NOSIGNAL) != (ssize_t)length) {
        snprintf(error, error_size, "%s: cannot send: %s", words[0], strerror(errno));
        return false;
    }
    for (int64_t replies = 0; replies == 0;) {
        ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
        if (got <= 0) {
            snprintf(error, error_size, "%s: %s", words[0], got == 0 ? "the server closed" : strerror(errno));
            return false;
        }
        replies = reply_skipper_feed(&skipper, buffer, (size_t)got);
        if (replies < 0) {
            snprintf(error, error_size, "%s: the answer is not RESP", words[0]);
            return false;
        }
    }
    if (skipper.errors > 0) snprintf(error, error_size, "%s: %s", words[0], skipper.first_error);
    return skipper.errors == 0;
}

static bool greet(int fd, const struct load_options *options, char *error, size_t error_size) {
    const char *user = options->user != NULL ? options->user : "default";
    if (options->protocol == 3) {
        const char *words[] = {"HELLO", "3", "AUTH", user, options->password};
        if (!ask(fd, words, options->password != NULL ? 5 : 2, error, error_size)) return false;
    } else if (options->password != NULL) {
        const char *with_user[] = {"AUTH", user, options->password};
        const char *without_user[] = {"AUTH", options->password};
        bool named = options->user != NULL;
        if (!ask(fd, named ? with_user : without_user, named ? 3 : 2, error, error_size)) return false;
    }
    if (options->database != 0) {
        char number[16];
        snprintf(number, sizeof(number), "%u", options->database);
        const char *words[] = {"SELECT", number};
        if (!ask(fd, words, 2, error, error_size)) return false;
    }
    return true;
}

int connection_open(const struct load_options *options, char *error, size_t error_size) {
    int fd = options->unix_socket != NULL ? connect_unix(options->unix_socket, error, error_size)
                                          : connect_tcp(options->host, options->port, error, error_size);
    if (fd < 0) return -1;
    if (!greet(fd, options, error, error_size)) {
        close(fd);
        return -1;
    }
    int flags = fcntl(fd, F_GETFL);
    assert(flags >= 0);
    int status = fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    assert(status == 0);
    return fd;
}
