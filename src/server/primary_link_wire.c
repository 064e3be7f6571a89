/* Reading and writing of the link's thread: a socket that does not block, and poll() with a time limit and a descriptor
 * that ends every wait at once when the link is no longer wanted. */

#include "base/clock.h"
#include "net/socket.h"
#include "server/primary_link_private.h"
#include "server/server.h"
#include "server/text.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE_BYTES = 64 * 1024, LOOK_MS = 500, WORDS_MAX = 8 };

static int64_t timeout_ms(const struct primary_link *link) {
    return link->server->config.replication.timeout_seconds * 1000;
}

/* Waits until the socket is ready for one of `events`. The time limit may change meanwhile. */
static bool wait_for(struct primary_link *link, short events, char *why) {
    int64_t since_ms = clock_unix_ms();
    struct pollfd fds[2] = {{.fd = link->fd, .events = events}, {.fd = link->wake_fd, .events = POLLIN}};
    int ready;
    do ready = poll(fds, 2, LOOK_MS);
    while (ready == 0 && clock_unix_ms() - since_ms < timeout_ms(link));
    if (link_is_cancelled(link)) {
        snprintf(why, LINK_LINE_MAX, "the link is no longer wanted");
        return false;
    }
    if (ready == 0) {
        bool copying = atomic_load(&link->state) == LINK_TRANSFER;
        snprintf(why, LINK_LINE_MAX, "Timeout %s",
                 copying ? "receiving bulk data from MASTER..." : "connecting to the MASTER...");
        return false;
    }
    if (ready < 0 && errno != EINTR) {
        snprintf(why, LINK_LINE_MAX, "%s", strerror(errno));
        return false;
    }
    return true;
}

/* ---- connecting ---- */

static bool finish_connecting(struct primary_link *link, char *why) {
    int error = 0;
    socklen_t size = sizeof(error);
    if (!wait_for(link, POLLOUT, why)) return false;
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error) snprintf(why, LINK_LINE_MAX, "%s", strerror(error));
    return error == 0;
}

/* An address of the other family does not fit, and that is no connection either. */
static bool bind_source(const struct primary_link *link, int family) {
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST},
                    *source = NULL;
    if (getaddrinfo(link->source, NULL, &hints, &source) != 0) return false;
    bool bound = bind(link->fd, source->ai_addr, source->ai_addrlen) == 0;
    freeaddrinfo(source);
    return bound;
}

static bool try_address(struct primary_link *link, const struct addrinfo *address, char *why) {
    link->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0) {
        snprintf(why, LINK_LINE_MAX, "%s", strerror(errno));
        return false;
    }
    if (link->source && link->source[0] && !bind_source(link, address->ai_family))
        snprintf(why, LINK_LINE_MAX, "cannot use the source address %.100s", link->source);
    else if (connect(link->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS)
        snprintf(why, LINK_LINE_MAX, "%s", strerror(errno));
    else if (finish_connecting(link, why))
        return true;
    close(link->fd);
    link->fd = -1;
    return false;
}

bool link_connect(struct primary_link *link, char *why) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses = NULL;
    char port[16];
    snprintf(port, sizeof(port), "%d", link->port);
    int error = getaddrinfo(link->host, port, &hints, &addresses);
    if (error) {
        snprintf(why, LINK_LINE_MAX, "%s", gai_strerror(error));
        return false;
    }
    bool connected = false;
    for (const struct addrinfo *at = addresses; at && !connected && !link_is_cancelled(link); at = at->ai_next)
        connected = try_address(link, at, why);
    freeaddrinfo(addresses);
    if (!connected) return false;
    socket_tune(link->fd, link->server->config.network.tcp_keepalive_seconds);
    link->length = 0;
    return true;
}

void link_disconnect(struct primary_link *link) {
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
    link->length = 0;
}

/* ---- writing ---- */

static bool write_all(struct primary_link *link, const char *bytes, size_t length, char *why) {
    while (length > 0) {
        ssize_t wrote = send(link->fd, bytes, length, MSG_NOSIGNAL);
        if (wrote > 0) {
            bytes += wrote;
            length -= (size_t)wrote;
            continue;
        }
        if (wrote < 0 && errno != EAGAIN && errno != EINTR) {
            snprintf(why, LINK_LINE_MAX, "cannot write: %s", strerror(errno));
            return false;
        }
        if (!wait_for(link, POLLOUT, why)) return false;
    }
    return true;
}

bool link_send(struct primary_link *link, const char *const *words, char *why) {
    struct span spans[WORDS_MAX];
    unsigned count = 0;
    for (; words[count]; count++) {
        assert(count < WORDS_MAX);
        spans[count] = span_of_text(words[count]);
    }
    return link_send_spans(link, spans, count, why);
}

bool link_send_spans(struct primary_link *link, const struct span *words, unsigned count, char *why) {
    struct text text = {0};
    text_add(&text, "*%u\r\n", count);
    for (unsigned i = 0; i < count; i++) {
        text_add(&text, "$%zu\r\n", words[i].length);
        text_add_span(&text, words[i]);
        text_add(&text, "\r\n");
    }
    bool sent = write_all(link, text.data, text.length, why);
    text_free(&text);
    return sent;
}

/* ---- reading ---- */

bool link_reserve(struct primary_link *link, size_t room) {
    if (link->capacity - link->length >= room) return true;
    size_t capacity = link->capacity ? link->capacity : PIECE_BYTES;
    while (capacity - link->length < room && capacity <= SIZE_MAX / 4) capacity *= 2;
    char *grown = realloc(link->bytes, capacity);
    if (!grown) return false;
    link->bytes = grown;
    link->capacity = capacity;
    return true;
}

bool link_receive(struct primary_link *link, char *why) {
    if (!link_reserve(link, PIECE_BYTES)) {
        snprintf(why, LINK_LINE_MAX, "no memory to receive with");
        return false;
    }
    for (;;) {
        ssize_t got = recv(link->fd, link->bytes + link->length, link->capacity - link->length, 0);
        if (got > 0) {
            link->length += (size_t)got;
            atomic_store(&link->heard_ms, clock_unix_ms());
            atomic_fetch_add(&link->server->replication.bytes_in, (uint64_t)got);
            return true;
        }
        if (got == 0) {
            snprintf(why, LINK_LINE_MAX, "the primary closed the connection");
            return false;
        }
        if (errno != EAGAIN && errno != EINTR) {
            snprintf(why, LINK_LINE_MAX, "cannot read: %s", strerror(errno));
            return false;
        }
        if (!wait_for(link, POLLIN, why)) return false;
    }
}

void link_consume(struct primary_link *link, size_t bytes) {
    memmove(link->bytes, link->bytes + bytes, link->length - bytes);
    link->length -= bytes;
}

bool link_line(struct primary_link *link, char line[LINK_LINE_MAX], char *why) {
    for (;;) {
        const char *newline = link->length ? memchr(link->bytes, '\n', link->length) : NULL;
        if (newline) {
            size_t length = (size_t)(newline - link->bytes), shown = length;
            while (shown > 0 && link->bytes[shown - 1] == '\r') shown--;
            if (shown >= LINK_LINE_MAX) shown = LINK_LINE_MAX - 1;
            memcpy(line, link->bytes, shown);
            line[shown] = '\0';
            link_consume(link, length + 1);
            if (shown > 0) return true; /* an empty one says that the primary is still at it */
            continue;
        }
        if (link->length >= PIECE_BYTES) {
            snprintf(why, LINK_LINE_MAX, "the primary sent a line that does not end");
            return false;
        }
        if (!link_receive(link, why)) return false;
    }
}
