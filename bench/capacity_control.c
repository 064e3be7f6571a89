/* A minimal client: one command, one reply, kept whole. Replies are RESP2: lines, bulks and flat arrays of them.
 *
 * The reply is parsed again from its first byte whenever more of it has come, which is simple and cheap enough for
 * replies of a few kilobytes. */
#include "bench/capacity_control.h"

#include "bench/connection.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { COMMAND_MAX = 1024 };

struct control *control_open(const struct load_options *options, double timeout_seconds, char *error,
                             size_t error_size) {
    struct control *control = malloc(sizeof(*control));
    assert(control != NULL);
    control->timeout_seconds = timeout_seconds;
    control->length = 0;
    control->error[0] = '\0';
    control->fd = connection_open(options, error, error_size);
    if (control->fd >= 0) return control;
    free(control);
    return NULL;
}

void control_close(struct control *control) {
    if (control == NULL) return;
    close(control->fd);
    free(control);
}

static const char *fail(struct control *control, const char *command, const char *why) {
    snprintf(control->error, sizeof(control->error), "%.100s: %.300s", command, why);
    return NULL;
}

static bool wait_for(struct control *control, short events) {
    struct pollfd poller = {.fd = control->fd, .events = events};
    return poll(&poller, 1, (int)(control->timeout_seconds * 1000)) == 1;
}

static bool send_all(struct control *control, const char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = send(control->fd, data, length, MSG_NOSIGNAL);
        if (sent < 0 && (errno != EAGAIN || !wait_for(control, POLLOUT))) return false;
        if (sent < 0) continue;
        data += sent;
        length -= (size_t)sent;
    }
    return true;
}

/* Reads one line or bulk at *at into *out (with a newline behind it inside an array); 0: more bytes are needed, -1: not
 * RESP2, 1: done. */
static int parse_value(const char **at, const char *end, char **out, bool in_array) {
    const char *newline = memchr(*at, '\n', (size_t)(end - *at));
    if (newline == NULL) return 0;
    const char *text = *at + 1;
    size_t length = newline > text ? (size_t)(newline - text) - 1 : 0;
    const char *next = newline + 1;
    if (**at == '$') {
        long size = strtol(text, NULL, 10);
        if (size > CONTROL_REPLY_MAX) return -1;
        text = next;
        length = size < 0 ? 0 : (size_t)size;
        if (size >= 0 && (size_t)(end - next) < length + 2) return 0;
        if (size >= 0) next += length + 2;
    } else if (strchr("+-:", **at) == NULL) {
        return -1;
    }
    memcpy(*out, text, length);
    *out += length;
    if (in_array) *(*out)++ = '\n';
    *at = next;
    return 1;
}

static int parse_reply(struct control *control) {
    const char *at = control->received;
    const char *end = at + control->length;
    char *out = control->text;
    int status = 1;
    if (at == end) return 0;
    if (*at == '*') {
        const char *newline = memchr(at, '\n', control->length);
        if (newline == NULL) return 0;
        long count = strtol(at + 1, NULL, 10);
        at = newline + 1;
        for (long i = 0; i < count && status == 1; i++) status = at == end ? 0 : parse_value(&at, end, &out, true);
    } else {
        status = parse_value(&at, end, &out, false);
    }
    *out = '\0';
    return status;
}

const char *control_ask(struct control *control, const char *command) {
    char words[COMMAND_MAX], request[2 * COMMAND_MAX];
    snprintf(words, sizeof(words), "%s", command);
    unsigned count = 1;
    for (const char *at = words; *at != '\0'; at++) count += *at == ' ';
    size_t used = (size_t)snprintf(request, sizeof(request), "*%u\r\n", count);
    char *rest = words;
    for (char *word; (word = strsep(&rest, " ")) != NULL && used < sizeof(request);)
        used += (size_t)snprintf(request + used, sizeof(request) - used, "$%zu\r\n%s\r\n", strlen(word), word);
    assert(used < sizeof(request));
    if (!send_all(control, request, used)) return fail(control, command, "the server takes nothing");
    control->length = 0;
    for (int status = 0; status != 1;) {
        size_t room = sizeof(control->received) - 1 - control->length;
        if (room == 0) return fail(control, command, "the reply is too long");
        if (!wait_for(control, POLLIN)) return fail(control, command, "no answer in the time of --timeout");
        ssize_t got = recv(control->fd, control->received + control->length, room, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) return fail(control, command, got == 0 ? "closed by the server" : strerror(errno));
        control->length += (size_t)got;
        status = parse_reply(control);
        if (status < 0) return fail(control, command, "the answer is not RESP2");
    }
    if (control->received[0] == '-') return fail(control, command, control->text);
    return control->text;
}
