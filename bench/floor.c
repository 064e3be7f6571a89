/* terrace-floor: the cost of a RESP server that stores nothing.
 *
 * It accepts, parses every command completely (argument count, each length, bounds), and answers GET with a 32-byte
 * value, PING with PONG and everything else with OK: one recv and one send per connection and turn. What a real server
 * costs beyond this is its own; what it costs below this is a measuring error. One thread, epoll, no options but the
 * port, and not to be exposed: it has no limits on clients, only on the size of a command. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    INPUT_SIZE = 1 << 16, /* a command has to fit */
    OUTPUT_SIZE = 1 << 18,
    REPLY_MAX = 64,
    EVENTS_MAX = 256,
};

struct connection {
    int fd;
    size_t input_length;
    size_t output_at, output_length; /* unsent part of output */
    char input[INPUT_SIZE];
    char output[OUTPUT_SIZE];
};

static const char get_reply[] = "$32\r\n0123456789abcdef0123456789abcdef\r\n";

/* Parses "<type><digits>\r\n". Returns what follows, NULL when incomplete; *number is -1 when malformed. */
static const char *parse_number(const char *at, const char *end, char type, int64_t *number) {
    if (at == end) return NULL;
    *number = -1;
    if (*at++ != type) return at;
    int64_t value = 0;
    const char *first = at;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (*at - '0');
        if (value > INPUT_SIZE) return at;
    }
    if (end - at < 2) return NULL;
    if (at == first || at[0] != '\r' || at[1] != '\n') return at;
    *number = value;
    return at + 2;
}

static bool name_is(const char *name, int64_t length, const char *wanted) {
    return length == (int64_t)strlen(wanted) && strncasecmp(name, wanted, (size_t)length) == 0;
}

static char *append(char *out, const char *text, size_t length) {
    memcpy(out, text, length);
    return out + length;
}

/* One command at *at: answers it at *out and moves both. 1: done, 0: incomplete, -1: malformed. */
static int answer_command(const char **at, const char *end, char **out) {
    int64_t count, length, name_length = 0;
    const char *name = NULL;
    const char *next = parse_number(*at, end, '*', &count);
    if (next == NULL) return 0;
    if (count < 1) return -1;
    for (int64_t i = 0; i < count; i++) {
        next = parse_number(next, end, '$', &length);
        if (next == NULL) return 0;
        if (length < 0) return -1;
        if (end - next < length + 2) return 0;
        if (next[length] != '\r' || next[length + 1] != '\n') return -1;
        if (i == 0) {
            name = next;
            name_length = length;
        }
        next += length + 2;
    }
    if (name_is(name, name_length, "GET"))
        *out = append(*out, get_reply, sizeof(get_reply) - 1);
    else if (name_is(name, name_length, "PING"))
        *out = append(*out, "+PONG\r\n", 7);
    else
        *out = append(*out, "+OK\r\n", 5);
    *at = next;
    return 1;
}

static void drop(struct connection *connection) {
    close(connection->fd);
    free(connection);
}

static void watch(int epoll, struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    int status = epoll_ctl(epoll, operation, connection->fd, &event);
    assert(status == 0);
}

/* Sends what there is. False when the connection is gone. Until all is out, only writability is waited for. */
static bool flush(int epoll, struct connection *connection, bool was_blocked) {
    size_t length = connection->output_length - connection->output_at;
    ssize_t sent = send(connection->fd, connection->output + connection->output_at, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent > 0) connection->output_at += (size_t)sent;
    bool blocked = connection->output_at < connection->output_length;
    if (!blocked) connection->output_at = connection->output_length = 0;
    if (blocked != was_blocked) watch(epoll, connection, EPOLL_CTL_MOD, blocked ? EPOLLOUT : EPOLLIN);
    return true;
}

/* Answers every whole command of the input; false when the connection is gone or talks nonsense. */
static bool serve(int epoll, struct connection *connection) {
    size_t room = INPUT_SIZE - connection->input_length;
    ssize_t got = recv(connection->fd, connection->input + connection->input_length, room, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    connection->input_length += (size_t)got;
    const char *at = connection->input;
    const char *end = at + connection->input_length;
    char *out = connection->output;
    int state = 1;
    while (state == 1 && at < end) {
        if (out + REPLY_MAX > connection->output + OUTPUT_SIZE) return false;
        state = answer_command(&at, end, &out);
    }
    if (state < 0) return false;
    connection->input_length = (size_t)(end - at);
    if (connection->input_length == INPUT_SIZE) return false;
    if (at != connection->input) memmove(connection->input, at, connection->input_length);
    connection->output_length = (size_t)(out - connection->output);
    return connection->output_length == 0 || flush(epoll, connection, false);
}

static void accept_connection(int epoll, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct connection *connection = malloc(sizeof(*connection));
    assert(connection != NULL);
    connection->fd = fd;
    connection->input_length = connection->output_at = connection->output_length = 0;
    watch(epoll, connection, EPOLL_CTL_ADD, EPOLLIN);
}

static int listen_on(unsigned port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(listener, 1024) != 0) {
        fprintf(stderr, "terrace-floor: cannot listen on 127.0.0.1:%u: %s\n", port, strerror(errno));
        exit(1);
    }
    return listener;
}

int main(int count, char **arguments) {
    if (count != 3 || strcmp(arguments[1], "--port") != 0) {
        fprintf(stderr, "usage: terrace-floor --port N\n");
        return 1;
    }
    int listener = listen_on((unsigned)strtoul(arguments[2], NULL, 10));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    assert(epoll >= 0);
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    int status = epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &listening);
    assert(status == 0);
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == NULL)
                accept_connection(epoll, listener);
            else if (!((events[i].events & EPOLLOUT) ? flush(epoll, connection, true) : serve(epoll, connection)))
                drop(connection);
        }
    }
}
