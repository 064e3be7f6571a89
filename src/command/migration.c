/* The conversation runs on a socket that does not block. A step does whatever can be done at once: finish connecting,
 * send what is left, read lines. Any progress begins the timeout anew.
 *
 * The other side may answer while requests are still being sent, so both go on at the same time. */

#include "command/migration.h"

#include "base/clock.h"
#include "base/number.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 4096, REQUESTS_CAPACITY = 4096 };

static void progress(struct migration *migration) {
    migration->deadline_ns = clock_monotonic_ns() + migration->timeout_ns;
}

/* The first address of the host that a connection can be begun to; -1: none. */
static int begin_connect(const char *host, const char *port) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &found) != 0) return -1;
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol);
        if (fd < 0) continue;
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (connect(fd, at->ai_addr, at->ai_addrlen) == 0 || errno == EINPROGRESS) break;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

struct migration *migration_create(struct span host, int64_t port, int64_t timeout_ms) {
    struct migration *migration = calloc(1, sizeof(*migration));
    if (!migration) return NULL;
    rdb_output_init(&migration->requests, REQUESTS_CAPACITY);
    migration->timeout_ns = timeout_ms > INT32_MAX ? INT64_C(1000000) * INT32_MAX : timeout_ms * 1000000;
    migration->fd = -1;
    if (host.length && host.length < sizeof(migration->host)) memcpy(migration->host, host.data, host.length);
    snprintf(migration->port, sizeof(migration->port), "%u", (unsigned)(uint16_t)port);
    return migration;
}

void migration_free(struct migration *migration) {
    if (!migration) return;
    if (migration->fd >= 0) close(migration->fd);
    rdb_output_free(&migration->requests);
    free(migration->keys);
    free(migration->refused);
    free(migration);
}

bool migration_refused(const struct migration *migration, uint32_t answer) {
    return answer >= migration->answered || migration->refused[answer];
}

/* ---- requests ---- */

static void put_header(struct migration *migration, char kind, uint64_t number) {
    char text[1 + NUMBER_TEXT_MAX + 2];
    size_t length = 1 + number_format_u64(number, text + 1);
    text[0] = kind;
    text[length++] = '\r';
    text[length++] = '\n';
    rdb_put_bytes(&migration->requests, text, length);
}

void migration_put_request(struct migration *migration, uint32_t words) {
    put_header(migration, '*', words);
    migration->expected++;
}

void migration_put_word(struct migration *migration, struct span word) {
    put_header(migration, '$', word.length);
    rdb_put_bytes(&migration->requests, word.data, word.length);
    rdb_put_bytes(&migration->requests, "\r\n", 2);
}

/* ---- steps ---- */

/* False: it failed. */
static bool finish_connect(struct migration *migration) {
    int error = 0;
    socklen_t length = sizeof(error);
    if (getsockopt(migration->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error) return false;
    migration->connected = true;
    progress(migration);
    return true;
}

static bool can_wait(ssize_t result) {
    return result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

static bool send_some(struct migration *migration) {
    struct rdb_output *requests = &migration->requests;
    while (migration->sent < requests->length) {
        ssize_t sent =
            send(migration->fd, requests->bytes + migration->sent, requests->length - migration->sent, MSG_NOSIGNAL);
        if (sent <= 0) return can_wait(sent);
        migration->sent += (size_t)sent;
        progress(migration);
    }
    rdb_output_clear(requests);
    migration->sent = 0;
    return true;
}

/* False: no memory. */
static bool end_line(struct migration *migration) {
    if (migration->answered == migration->answers_capacity) {
        uint32_t capacity = migration->answers_capacity ? 2 * migration->answers_capacity : 8;
        bool *refused = realloc(migration->refused, capacity * sizeof(*refused));
        if (!refused) return false;
        migration->refused = refused;
        migration->answers_capacity = capacity;
    }
    size_t length = migration->line_length;
    if (length && migration->line[length - 1] == '\r') length--;
    bool refused = length && migration->line[0] == '-';
    if (refused && !migration->error[0]) {
        memcpy(migration->error, migration->line + 1, length - 1);
        migration->error[length - 1] = '\0';
    }
    migration->refused[migration->answered++] = refused;
    migration->line_length = 0;
    return true;
}

static bool take_bytes(struct migration *migration, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '\n') {
            if (!end_line(migration)) return false;
        } else if (migration->line_length < sizeof(migration->line)) {
            migration->line[migration->line_length++] = bytes[i];
        }
    }
    return true;
}

static bool read_some(struct migration *migration) {
    char bytes[READ_BYTES];
    while (migration->answered < migration->expected) {
        ssize_t length = recv(migration->fd, bytes, sizeof(bytes), 0);
        if (length <= 0) return can_wait(length);
        if (!take_bytes(migration, bytes, (size_t)length)) return false;
        progress(migration);
    }
    return true;
}

static bool wait_for(const struct migration *migration, int64_t wait_us) {
    bool sends = !migration->connected || migration->sent < migration->requests.length;
    struct pollfd poll_fd = {.fd = migration->fd, .events = (short)(POLLIN | (sends ? POLLOUT : 0))};
    const struct timespec timeout = {.tv_sec = wait_us / 1000000, .tv_nsec = wait_us % 1000000 * 1000};
    return ppoll(&poll_fd, 1, &timeout, NULL) > 0;
}

static enum migration_state failure(struct migration *migration) {
    bool writes = migration->sent < migration->requests.length;
    migration->broken = true;
    return !migration->connected ? MIGRATION_NOT_CONNECTED
           : writes              ? MIGRATION_WRITING_FAILED
                                 : MIGRATION_READING_FAILED;
}

static void begin(struct migration *migration) {
    migration->begun = true;
    if (migration->host[0]) migration->fd = begin_connect(migration->host, migration->port);
    progress(migration);
}

enum migration_state migration_step(struct migration *migration, int64_t wait_us) {
    if (!migration->begun) begin(migration);
    if (migration->fd < 0 || migration->broken) return failure(migration);
    int64_t left_us = (migration->deadline_ns - clock_monotonic_ns()) / 1000;
    bool ready = wait_for(migration, left_us < 0 ? 0 : left_us < wait_us ? left_us : wait_us);
    if (!ready) return left_us > 0 ? MIGRATION_GOES_ON : failure(migration);
    if (!migration->connected && !finish_connect(migration)) return failure(migration);
    /* What was answered before the other side hung up counts. */
    bool sent = send_some(migration), read = read_some(migration);
    if (migration->answered == migration->expected) return MIGRATION_ANSWERED;
    return sent && read ? MIGRATION_GOES_ON : failure(migration);
}
