/* The server under test, a client of it, and what the kernel tells of both. */

#include "tests/lab/guest.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SERVER_SOCKET "/run/terrace.sock"

enum {
    ARGUMENTS_MAX = 24,
    START_MS = 60000, /* an emulated processor is slow, and there may be little of the real one */
};

void check(bool passed, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("%s ", passed ? "ok" : "not ok");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

void give_up(const char *what) {
    printf("not ok %s: %s\n", what, strerror(errno));
    sync();
    reboot(RB_POWER_OFF);
    _exit(1);
}

void mount_all(void) {
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mkdir("/run", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL) != 0 || mount("sys", "/sys", "sysfs", 0, NULL) != 0 ||
        (mount("dev", "/dev", "devtmpfs", 0, NULL) != 0 && errno != EBUSY))
        give_up("mount");
}

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* ---- the server ---- */

/* `output` is the file descriptor that should become the server's standard output and error. */
static pid_t launch(char *const extra[], int output) {
    char *arguments[ARGUMENTS_MAX] = {"/terrace-server", "--port", "0", "--unixsocket", SERVER_SOCKET, "--dir", "/run",
                                      "--save",          ""};
    unsigned count = 9;
    for (unsigned i = 0; extra[i]; i++) arguments[count++] = extra[i];
    pid_t pid = fork();
    if (pid < 0) give_up("fork");
    if (pid > 0) return pid;
    dup2(output, 1);
    dup2(output, 2);
    execv(arguments[0], arguments);
    _exit(127);
}

/* Collects output until it holds `wanted` or ends; whether it was found. */
static bool read_until(int fd, const char *wanted, char *text, size_t capacity) {
    size_t length = 0;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    text[0] = '\0';
    while (!strstr(text, wanted) && length + 1 < capacity && poll(&wait, 1, START_MS) > 0) {
        ssize_t got = read(fd, text + length, capacity - 1 - length);
        if (got <= 0) break;
        length += (size_t)got;
        text[length] = '\0';
    }
    return strstr(text, wanted) != NULL;
}

struct server start(char *const extra[]) {
    struct server server;
    char text[REPLY_MAX];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) give_up("pipe");
    server.pid = launch(extra, ends[1]);
    close(ends[1]);
    server.log = ends[0];
    bool ready = read_until(server.log, "Ready to accept connections", text, sizeof(text));
    printf("%s", text);
    if (!ready) give_up("the server did not start");
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SERVER_SOCKET};
    server.client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(server.client, (struct sockaddr *)&address, sizeof(address)) != 0) give_up("connect");
    return server;
}

void stop(struct server *server) {
    int status = -1;
    close(server->client);
    kill(server->pid, SIGTERM);
    waitpid(server->pid, &status, 0);
    close(server->log);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the server ends cleanly");
}

void cut_off(struct server *server) {
    close(server->client);
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    close(server->log);
}

void check_refused(char *const extra[], const char *words) {
    char text[REPLY_MAX];
    int ends[2], status = -1;
    if (pipe2(ends, O_CLOEXEC) != 0) give_up("pipe");
    pid_t pid = launch(extra, ends[1]);
    close(ends[1]);
    bool said = read_until(ends[0], words, text, sizeof(text));
    waitpid(pid, &status, 0);
    close(ends[0]);
    check(said && WIFEXITED(status) && WEXITSTATUS(status) == 1, "%s %s is refused: %s", extra[0], extra[1], words);
}

/* ---- commands ---- */

static void send_all(const struct server *server, const char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = write(server->client, data, length);
        if (sent <= 0) give_up("write");
        data += sent;
        length -= (size_t)sent;
    }
}

/* What the server said before it went, if it went, is the last that can be found out. */
static void give_up_reading(const struct server *server) {
    char text[REPLY_MAX];
    (void)read_until(server->log, "Terrace ends", text, sizeof(text));
    printf("%s", text);
    give_up("read");
}

/* What has come and was not looked at yet: emulated system calls take long. One client at a time. */
static struct {
    char bytes[REPLY_MAX];
    size_t length, at;
} received;

static void receive_some(const struct server *server) {
    if (received.at < received.length) return;
    ssize_t got = read(server->client, received.bytes, sizeof(received.bytes));
    if (got <= 0) give_up_reading(server);
    received.length = (size_t)got;
    received.at = 0;
}

static void receive_all(const struct server *server, char *data, size_t length) {
    while (length > 0) {
        receive_some(server);
        size_t part = received.length - received.at < length ? received.length - received.at : length;
        memcpy(data, received.bytes + received.at, part);
        received.at += part;
        data += part;
        length -= part;
    }
}

static size_t receive_reply(const struct server *server, char *text, size_t capacity) {
    size_t length = 0;
    do {
        if (length + 1 >= capacity) give_up("a reply is too long");
        receive_all(server, text + length, 1);
    } while (text[length++] != '\n');
    if (text[0] == '$' && text[1] != '-') {
        length = strtoul(text + 1, NULL, 10);
        if (length + 3 > capacity) give_up("a reply is too long");
        receive_all(server, text, length + 2);
    } else {
        length -= 2;
    }
    text[length] = '\0';
    return length;
}

const char *next_reply(const struct server *server) {
    static char reply[REPLY_MAX];
    (void)receive_reply(server, reply, sizeof(reply));
    return reply;
}

const char *ask(const struct server *server, const char *format, unsigned key) {
    char line[128];
    int length = snprintf(line, sizeof(line), format, key);
    send_all(server, line, (size_t)length);
    send_all(server, "\r\n", 2);
    return next_reply(server);
}

static void fill_value(char *value, unsigned key) {
    char digits[16];
    snprintf(digits, sizeof(digits), "v%07u", key);
    for (unsigned i = 0; i < VALUE_BYTES; i += 8) memcpy(value + i, digits, 8);
}

unsigned try_keys(const struct server *server, unsigned first, unsigned keys) {
    static char request[BATCH * (VALUE_BYTES + 128)];
    char reply[256];
    unsigned accepted = 0, refused = 0;
    for (unsigned batch = first; batch < keys; batch += BATCH) {
        size_t length = 0;
        for (unsigned i = batch; i < batch + BATCH; i++) {
            length += (size_t)sprintf(request + length, "*3\r\n$3\r\nSET\r\n$8\r\nk%07u\r\n$%u\r\n", i, VALUE_BYTES);
            fill_value(request + length, i);
            memcpy(request + length + VALUE_BYTES, "\r\n", 2);
            length += VALUE_BYTES + 2;
        }
        send_all(server, request, length);
        for (unsigned i = 0; i < BATCH; i++) {
            (void)receive_reply(server, reply, sizeof(reply));
            accepted += strcmp(reply, "+OK") == 0;
            refused += strncmp(reply, "-OOM ", 5) == 0;
        }
    }
    if (accepted + refused != keys - first)
        check(false, "of %u writes %u had an answer", keys - first, accepted + refused);
    return accepted;
}

void write_keys(const struct server *server) {
    check(try_keys(server, 0, KEYS) == KEYS, "%u keys are written", KEYS);
}

unsigned read_keys(const struct server *server, unsigned keys) {
    char request[BATCH * 32], value[VALUE_BYTES], reply[VALUE_BYTES + 64];
    unsigned right = 0, wrong = 0;
    for (unsigned first = 0; first < keys; first += BATCH) {
        size_t length = 0;
        for (unsigned i = first; i < first + BATCH; i++)
            length += (size_t)sprintf(request + length, "GET k%07u\r\n", i);
        send_all(server, request, length);
        for (unsigned i = first; i < first + BATCH; i++) {
            size_t got = receive_reply(server, reply, sizeof(reply));
            fill_value(value, i);
            if (got == VALUE_BYTES && memcmp(reply, value, VALUE_BYTES) == 0)
                right++;
            else if (strcmp(reply, "$-1") != 0)
                wrong++;
        }
    }
    check(wrong == 0, "of %u keys read %u have their value, the others are absent (wrong: %u)", keys, right, wrong);
    return right;
}

const char *info_of(const struct server *server, const char *section) {
    static char text[REPLY_MAX];
    send_all(server, "INFO ", 5);
    send_all(server, section, strlen(section));
    send_all(server, "\r\n", 2);
    (void)receive_reply(server, text, sizeof(text));
    if (text[0] != '#') give_up(section);
    return text;
}

const char *info_numa(const struct server *server) {
    const char *text = info_of(server, "numa");
    printf("%s", text);
    return text;
}

const char *field(const char *info, const char *name) {
    static char value[1024];
    char start[64];
    snprintf(start, sizeof(start), "\n%s:", name);
    const char *at = strstr(info, start);
    snprintf(value, sizeof(value), "%.*s", at ? (int)strcspn(at + strlen(start), "\r\n") : 0,
             at ? at + strlen(start) : "");
    return value;
}

void check_field(const char *info, const char *name, const char *expected) {
    const char *value = field(info, name);
    check(strcmp(value, expected) == 0, "INFO numa says %s:%s (expected %s)", name, value, expected);
}

unsigned long number(const struct server *server, const char *section, const char *name) {
    return strtoul(field(info_of(server, section), name), NULL, 10);
}

const char *node_text(const char *info, int node, const char *part) {
    static char value[1024];
    char name[32], start[64], line[1024];
    snprintf(name, sizeof(name), "node%d", node);
    snprintf(line, sizeof(line), ",%s", field(info, name));
    snprintf(start, sizeof(start), ",%s=", part);
    const char *at = strstr(line, start);
    snprintf(value, sizeof(value), "%.*s", at ? (int)strcspn(at + strlen(start), ",") : 1,
             at ? at + strlen(start) : "?");
    return value;
}

unsigned long node_number(const char *info, int node, const char *part) {
    return strtoul(node_text(info, node, part), NULL, 10);
}

void check_node(const char *info, int node, const char *cpus, unsigned long shards, unsigned long far) {
    const char *shown = node_text(info, node, "cpus");
    check(strcmp(shown, cpus) == 0, "node %d has the CPUs '%s'", node, shown);
    check(node_number(info, node, "shards") == shards, "node %d has %lu shards (expected %lu)", node,
          node_number(info, node, "shards"), shards);
    check(node_number(info, node, "far") == far, "node %d has far=%lu", node, far);
}

/* ---- where memory and threads are ---- */

void read_placement(pid_t pid, size_t bytes[NODES][NODES]) {
    char path[64], *line = NULL;
    size_t capacity = 0;
    memset(bytes, 0, NODES * NODES * sizeof(size_t));
    snprintf(path, sizeof(path), "/proc/%d/numa_maps", pid);
    FILE *file = fopen(path, "r");
    if (!file) give_up(path);
    while (getline(&line, &capacity, file) > 0) {
        const char *policy = strstr(line, " prefer:"), *size = strstr(line, "kernelpagesize_kB=");
        int preferred = policy ? atoi(policy + 8) : -1;
        if (preferred < 0 || preferred >= NODES || !size) continue;
        for (int node = 0; node < NODES; node++) {
            char name[16];
            snprintf(name, sizeof(name), " N%d=", node);
            const char *at = strstr(line, name);
            if (at)
                bytes[preferred][node] += strtoul(at + strlen(name), NULL, 10) * strtoul(size + 18, NULL, 10) * 1024;
        }
    }
    free(line);
    fclose(file);
}

void show_placement(size_t bytes[NODES][NODES]) {
    for (int preferred = 0; preferred < NODES; preferred++)
        for (int node = 0; node < NODES; node++)
            if (bytes[preferred][node])
                printf("prefers node %d, lies on node %d: %zu bytes\n", preferred, node, bytes[preferred][node]);
}

/* In how many threads of the process the file `name` has a line with both texts. */
static unsigned threads_with(pid_t pid, const char *name, const char *first, const char *second) {
    char path[512], *line = NULL;
    size_t capacity = 0;
    unsigned count = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *folder = opendir(path);
    if (!folder) give_up(path);
    for (struct dirent *entry; (entry = readdir(folder));) {
        bool found = false;
        snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", pid, entry->d_name, name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (file && getline(&line, &capacity, file) > 0)
            if (strstr(line, first) && strstr(line, second)) found = true;
        if (file) fclose(file);
        count += found;
    }
    free(line);
    closedir(folder);
    return count;
}

unsigned threads_on(pid_t pid, const char *cpus) {
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "\t%s\n", cpus);
    return threads_with(pid, "status", "Cpus_allowed_list:", wanted);
}

unsigned threads_preferring(pid_t pid, int node) {
    char wanted[64];
    snprintf(wanted, sizeof(wanted), " prefer:%d ", node);
    return threads_with(pid, "numa_maps", wanted, "file=/terrace-server");
}
