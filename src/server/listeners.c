/* Listening sockets. See listeners.h.
 *
 * When port or bind change, sockets that are wanted as before stay open. Of the others the old ones are closed first,
 * as they may stand in the way of the new ones (127.0.0.1 and * on one port). If a new one fails then, the old ones
 * are opened again from what their entries remember, so a mistyped address does not leave the server deaf. */

#include "server/listeners.h"

#include "base/log.h"
#include "server/server.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

/* An address of `bind`; one with a minus in front may be missing on this host. */
struct wanted {
    const char *address;
    bool optional;
};

static struct wanted wanted_at(const struct config_network *network, size_t i) {
    const char *word = network->bind.words[i];
    return (struct wanted){word + (word[0] == '-'), word[0] == '-'};
}

static struct listener *find(struct listeners *listeners, const char *address, int port) {
    for (unsigned i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->table[i];
        if (listener->fd >= 0 && !listener->is_unix && listener->port == port &&
            strcmp(listener->address, address) == 0)
            return listener;
    }
    return NULL;
}

/* An entry without a socket; NULL: all are in use. The last one is the unix socket's. */
static struct listener *find_free(struct listeners *listeners) {
    for (unsigned i = 0; i < listeners->count; i++)
        if (listeners->table[i].fd < 0) return &listeners->table[i];
    if (listeners->count >= LISTENERS_MAX - 1) return NULL;
    return &listeners->table[listeners->count++];
}

static bool open_tcp(struct server *server, const struct wanted *wanted, int port, struct socket_error *error) {
    bool missing = false;
    struct listener *listener = find_free(&server->listeners);
    if (!listener) {
        snprintf(error->text, sizeof(error->text), "bind: at most %d addresses can be listened on", LISTENERS_MAX - 1);
        return false;
    }
    listener->fd = socket_listen_tcp(wanted->address, port, (int)server->config.network.tcp_backlog, &missing, error);
    if (listener->fd < 0 && wanted->optional && missing) return true;
    if (listener->fd < 0) {
        log_warning("Failed listening on port %d (TCP)", port); /* what supervisors and tests of Redis look for */
        return false;
    }
    listener->is_unix = false;
    listener->port = port;
    snprintf(listener->address, sizeof(listener->address), "%s", wanted->address);
    return true;
}

/* Opens what the configuration wants and is not open yet. */
static bool open_missing(struct server *server, struct socket_error *error) {
    const struct config_network *network = &server->config.network;
    for (size_t i = 0; network->port && i < network->bind.count; i++) {
        struct wanted wanted = wanted_at(network, i);
        if (find(&server->listeners, wanted.address, (int)network->port)) continue;
        if (!open_tcp(server, &wanted, (int)network->port, error)) return false;
    }
    return true;
}

bool listeners_open(struct server *server, struct socket_error *error) {
    const struct config_network *network = &server->config.network;
    struct listeners *listeners = &server->listeners;
    if (server->offline) return true;
    if (!open_missing(server, error)) return false;
    if (network->unixsocket[0]) {
        int fd = socket_listen_unix(network->unixsocket, (unsigned)network->unixsocketperm, (int)network->tcp_backlog,
                                    error);
        if (fd < 0) return false;
        listeners->table[listeners->count++] = (struct listener){.fd = fd, .is_unix = true};
    }
    for (unsigned i = 0; i < listeners->count; i++)
        if (listeners->table[i].fd >= 0) return true;
    snprintf(error->text, sizeof(error->text),
             "nothing to listen on: set a port, a bind address of this host or a unixsocket");
    return false;
}

void listeners_close(struct server *server) {
    for (unsigned i = 0; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.table[i];
        if (listener->fd < 0) continue;
        close(listener->fd);
        if (listener->is_unix) unlink(server->config.network.unixsocket);
        listener->fd = -1;
    }
}

/* ---- changes at run time ---- */

static bool is_wanted(const struct server *server, const struct listener *listener) {
    const struct config_network *network = &server->config.network;
    if (listener->is_unix) return true;
    for (size_t i = 0; listener->port == network->port && i < network->bind.count; i++)
        if (strcmp(wanted_at(network, i).address, listener->address) == 0) return true;
    return false;
}

/* Back to the table as it was; what had been closed is opened again. */
static void restore(struct server *server, const struct listeners *before) {
    struct listeners *listeners = &server->listeners;
    for (unsigned i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->table[i];
        bool stayed = i < before->count && before->table[i].fd >= 0 && before->table[i].fd == listener->fd &&
                      before->table[i].port == listener->port &&
                      strcmp(before->table[i].address, listener->address) == 0;
        if (listener->fd < 0 || listener->is_unix || stayed) continue;
        close(listener->fd);
        listener->fd = -1;
    }
    for (unsigned i = 0; i < before->count; i++) {
        const struct listener *old = &before->table[i];
        struct socket_error error;
        struct wanted wanted = {old->address, false};
        if (old->fd < 0 || old->is_unix || find(listeners, old->address, old->port)) continue;
        if (!open_tcp(server, &wanted, old->port, &error)) log_warning("%s", error.text);
    }
}

/* Watching twice does no harm: the kernel says that it is watched already. */
static void watch_everywhere(struct server *server) {
    for (unsigned i = 0; i < server->worker_count; i++)
        if (!listeners_watch(server, server->workers[i]))
            log_warning("cannot watch a listening socket: %s", strerror(errno));
}

bool listeners_change(struct server *server, struct socket_error *error) {
    struct listeners *listeners = &server->listeners, before = *listeners;
    for (unsigned i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->table[i];
        if (listener->fd < 0 || is_wanted(server, listener)) continue;
        close(listener->fd);
        listener->fd = -1;
    }
    bool opened = open_missing(server, error);
    if (!opened) restore(server, &before);
    watch_everywhere(server);
    return opened;
}

/* ---- event loops ---- */

bool listeners_watch(struct server *server, struct worker *worker) {
    bool ok = true;
    for (unsigned i = 0; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.table[i];
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = listener};
        if (listener->fd >= 0 && epoll_ctl(worker->poll_fd, EPOLL_CTL_ADD, listener->fd, &event) != 0 &&
            errno != EEXIST)
            ok = false;
    }
    return ok;
}

void listeners_ignore(struct server *server, struct worker *worker) {
    for (unsigned i = 0; i < server->listeners.count; i++)
        if (server->listeners.table[i].fd >= 0)
            epoll_ctl(worker->poll_fd, EPOLL_CTL_DEL, server->listeners.table[i].fd, NULL);
}
