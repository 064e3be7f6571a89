/* The first process of the emulated host: starts Terrace there, looks at where its memory is, and powers the host off.
 *
 * Its arguments come from the kernel's command line: the name of the host that tests/numa/run made.
 *
 *     flat    node 0 with two CPUs, node 1 with memory alone
 *     wide    nodes 0 and 1 with a CPU each, node 2 with memory alone
 *     far     as flat, for records that move to the memory alone and back
 *
 * Each check is one line, "ok TEXT" or "not ok TEXT"; "done" is the last one. Placement is what the kernel says in
 * /proc/PID/numa_maps: for each mapping its policy and how many pages it has on each node. A mapping without a policy
 * of its own shows that of the first thread, which is the first worker's node: what is said to prefer another node than
 * that was bound by the keyspace. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
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

enum {
    NODES = 4,
    ARGUMENTS_MAX = 16,
    START_MS = 60000, /* an emulated processor is slow, and there may be little of the real one */
    KEYS = 20000,
    BATCH = 100,
    VALUE_BYTES = 1000,
    RECORDS_BYTES = KEYS * VALUE_BYTES, /* what they occupy at the least */
    REPLY_MAX = 65536,
    FAR_KEYS = 100000, /* 100 MB */
    NEAR_BYTES = 32 << 20,
    NEAR_HOLES = 256 * 2 * 65536, /* see near_bytes() */
    LIMIT_BYTES = 48 << 20,
    LIMIT_KEYS = 60000, /* 60 MB */
    REST_MS = 1000,
    RESTS_MAX = 10,
    SETTLE_MS = 20000, /* until what is too much on the near node has moved: a second or so */
    HOT_READS = 200,   /* one in sixteen brings a record back: one key in 400,000 is still far after so many */
};

#define SERVER_SOCKET "/run/terrace.sock"

struct server {
    pid_t pid;
    int log, client;
};

static void check(bool passed, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void check(bool passed, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("%s ", passed ? "ok" : "not ok");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

/* Nothing further can be found out: the host goes down, which ends the test. */
static void give_up(const char *what) {
    printf("not ok %s: %s\n", what, strerror(errno));
    sync();
    reboot(RB_POWER_OFF);
    _exit(1);
}

static void mount_all(void) {
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mkdir("/run", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL) != 0 || mount("sys", "/sys", "sysfs", 0, NULL) != 0 ||
        (mount("dev", "/dev", "devtmpfs", 0, NULL) != 0 && errno != EBUSY))
        give_up("mount");
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

static struct server start(char *const extra[]) {
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

static void stop(struct server *server) {
    int status = -1;
    close(server->client);
    kill(server->pid, SIGTERM);
    waitpid(server->pid, &status, 0);
    close(server->log);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the server ends cleanly");
}

static void check_refused(char *const extra[], const char *words) {
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

/* One reply: a line, or the payload of a bulk string; `text` is terminated. */
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

static const char *ask(const struct server *server, const char *format, unsigned key) {
    static char reply[REPLY_MAX];
    char line[128];
    int length = snprintf(line, sizeof(line), format, key);
    send_all(server, line, (size_t)length);
    send_all(server, "\r\n", 2);
    (void)receive_reply(server, reply, sizeof(reply));
    return reply;
}

/* What no encoding makes smaller, and no other key has. */
static void fill_value(char *value, unsigned key) {
    char digits[16];
    snprintf(digits, sizeof(digits), "v%07u", key);
    for (unsigned i = 0; i < VALUE_BYTES; i += 8) memcpy(value + i, digits, 8);
}

/* Sets the keys below `keys`; how many were accepted. The others were refused for want of memory. */
static unsigned try_keys(const struct server *server, unsigned keys) {
    static char request[BATCH * (VALUE_BYTES + 128)];
    char reply[256];
    unsigned accepted = 0, refused = 0;
    for (unsigned first = 0; first < keys; first += BATCH) {
        size_t length = 0;
        for (unsigned i = first; i < first + BATCH; i++) {
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
    check(accepted + refused == keys, "%u keys are written, %u refused for want of memory", accepted, refused);
    return accepted;
}

static void write_keys(const struct server *server) {
    check(try_keys(server, KEYS) == KEYS, "%u keys are written", KEYS);
}

/* How many of the keys below `keys` have the value they were given; the others must be absent. */
static unsigned read_keys(const struct server *server, unsigned keys) {
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

/* A section of INFO: valid until the next. */
static const char *info_of(const struct server *server, const char *section) {
    static char text[REPLY_MAX];
    send_all(server, "INFO ", 5);
    send_all(server, section, strlen(section));
    send_all(server, "\r\n", 2);
    (void)receive_reply(server, text, sizeof(text));
    if (text[0] != '#') give_up(section);
    return text;
}

static const char *info_numa(const struct server *server) {
    const char *text = info_of(server, "numa");
    printf("%s", text);
    return text;
}

/* The value of `name:`, up to the end of the line. */
static const char *field(const char *info, const char *name) {
    static char value[1024];
    char start[64];
    snprintf(start, sizeof(start), "\n%s:", name);
    const char *at = strstr(info, start);
    snprintf(value, sizeof(value), "%.*s", at ? (int)strcspn(at + strlen(start), "\r\n") : 0,
             at ? at + strlen(start) : "");
    return value;
}

static void check_field(const char *info, const char *name, const char *expected) {
    const char *value = field(info, name);
    check(strcmp(value, expected) == 0, "INFO numa says %s:%s (expected %s)", name, value, expected);
}

static unsigned long number(const struct server *server, const char *section, const char *name) {
    return strtoul(field(info_of(server, section), name), NULL, 10);
}

/* A part of a node's line: `cpus` of "node0:cpus=0-1,shards=..."; up to the comma. */
static const char *node_text(const char *info, int node, const char *part) {
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

static unsigned long node_number(const char *info, int node, const char *part) {
    return strtoul(node_text(info, node, part), NULL, 10);
}

static void check_node(const char *info, int node, const char *cpus, unsigned long shards, unsigned long far) {
    const char *shown = node_text(info, node, "cpus");
    check(strcmp(shown, cpus) == 0, "node %d has the CPUs '%s'", node, shown);
    check(node_number(info, node, "shards") == shards, "node %d has %lu shards (expected %lu)", node,
          node_number(info, node, "shards"), shards);
    check(node_number(info, node, "far") == far, "node %d has far=%lu", node, far);
}

/* ---- where memory and threads are ---- */

/* Bytes of mappings that prefer node P which lie on node N: bytes[P][N]. */
static void read_placement(pid_t pid, size_t bytes[NODES][NODES]) {
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

static void show_placement(size_t bytes[NODES][NODES]) {
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

/* How many may run on exactly these CPUs. */
static unsigned threads_on(pid_t pid, const char *cpus) {
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "\t%s\n", cpus);
    return threads_with(pid, "status", "Cpus_allowed_list:", wanted);
}

/* How many allocate from this node: the program's own mapping has no policy, so each thread shows its own there. */
static unsigned threads_preferring(pid_t pid, int node) {
    char wanted[64];
    snprintf(wanted, sizeof(wanted), " prefer:%d ", node);
    return threads_with(pid, "numa_maps", wanted, "file=/terrace-server");
}

/* ---- the hosts ---- */

static void check_flat_by_default(void) {
    size_t bytes[NODES][NODES];
    struct server server = start((char *[]){NULL});
    write_keys(&server);
    const char *info = info_numa(&server);
    check_field(info, "numa_policy", "local");
    check_field(info, "numa_nodes", "2");
    check_field(info, "numa_near_nodes", "0");
    check_field(info, "numa_far_nodes", "1");
    check_field(info, "numa_binding", "bound");
    check_field(info, "numa_remote_executions", "0");
    check_node(info, 0, "0-1", 256, 0);
    check_node(info, 1, "", 0, 1);
    check(node_number(info, 0, "bytes") >= RECORDS_BYTES, "node 0 holds the records");
    check(node_number(info, 0, "local") >= KEYS, "every execution is local");
    read_placement(server.pid, bytes);
    show_placement(bytes);
    check(bytes[0][0] >= RECORDS_BYTES && bytes[0][1] == 0, "records lie on node 0, nothing on node 1");
    check(bytes[1][0] == 0 && bytes[1][1] == 0, "nothing prefers node 1 yet");
    check(threads_on(server.pid, "0") == 1 && threads_on(server.pid, "1") == 1, "each worker has a CPU");
    check(threads_preferring(server.pid, 0) == 2, "both workers allocate from node 0");
    stop(&server);
}

/* Node 1 is memory that no CPU would get by itself: what lies there was bound. */
static void check_flat_on_named_node(void) {
    size_t bytes[NODES][NODES];
    struct server server = start((char *[]){"--numa-policy", "1", NULL});
    write_keys(&server);
    const char *info = info_numa(&server);
    check_field(info, "numa_policy", "1");
    check_field(info, "numa_near_nodes", "1");
    check_field(info, "numa_far_nodes", "");
    check_field(info, "numa_local_executions", "0");
    check_node(info, 0, "0-1", 0, 0);
    check_node(info, 1, "", 256, 0);
    check(node_number(info, 1, "remote") >= KEYS, "every execution is remote");
    read_placement(server.pid, bytes);
    show_placement(bytes);
    check(bytes[1][1] >= RECORDS_BYTES && bytes[1][0] == 0, "records lie on node 1");
    check(bytes[0][1] == 0, "buffers lie on node 0");
    stop(&server);
}

static void check_flat_interleaved(void) {
    size_t bytes[NODES][NODES];
    struct server server = start((char *[]){"--numa-policy", "interleave", "--far-memory-nodes", "none", NULL});
    write_keys(&server);
    const char *info = info_numa(&server);
    check_field(info, "numa_near_nodes", "0-1");
    check_node(info, 0, "0-1", 128, 0);
    check_node(info, 1, "", 128, 0);
    read_placement(server.pid, bytes);
    show_placement(bytes);
    check(bytes[0][0] >= RECORDS_BYTES / 3 && bytes[1][1] >= RECORDS_BYTES / 3, "both nodes hold records");
    check(bytes[0][1] == 0 && bytes[1][0] == 0, "none lies on the other node");
    stop(&server);
}

static void check_flat(void) {
    check_flat_by_default();
    check_flat_on_named_node();
    check_flat_interleaved();
    check_refused((char *[]){"--numa-policy", "5", NULL}, "names node 5, which has no memory");
    check_refused((char *[]){"--far-memory-nodes", "0-1", NULL}, "leaves no node for shards");
}

static void check_wide(void) {
    size_t bytes[NODES][NODES];
    struct server server = start((char *[]){NULL});
    write_keys(&server);
    const char *info = info_numa(&server);
    check_field(info, "numa_nodes", "3");
    check_field(info, "numa_near_nodes", "0-1");
    check_field(info, "numa_far_nodes", "2");
    check_node(info, 0, "0", 128, 0);
    check_node(info, 1, "1", 128, 0);
    check_node(info, 2, "", 0, 1);
    /* One connection, so one worker: what is on its node is local, the other half is not. */
    unsigned long local = node_number(info, 0, "local") + node_number(info, 1, "local");
    unsigned long remote = node_number(info, 0, "remote") + node_number(info, 1, "remote");
    check(local + remote == KEYS, "executions on keys: %lu local and %lu remote", local, remote);
    check(local > KEYS / 3 && remote > KEYS / 3, "some are local, some are remote");
    read_placement(server.pid, bytes);
    show_placement(bytes);
    check(bytes[0][0] >= RECORDS_BYTES / 3 && bytes[1][1] >= RECORDS_BYTES / 3, "each node holds its shards' records");
    check(bytes[1][0] == 0 && bytes[0][2] == 0 && bytes[1][2] == 0, "none lies elsewhere");
    check(threads_on(server.pid, "0") == 1 && threads_on(server.pid, "1") == 1, "each node has a worker");
    check(threads_preferring(server.pid, 0) == 1 && threads_preferring(server.pid, 1) == 1,
          "each worker allocates from its own node");
    stop(&server);
    server = start((char *[]){"--numa-policy", "1", NULL});
    check_field(info_numa(&server), "numa_near_nodes", "1");
    check(threads_on(server.pid, "1") == 1 && threads_on(server.pid, "0") == 0, "no worker is on a node not named");
    stop(&server);
}

/* ---- far memory ---- */

/* Of records and index. Pages have holes besides: two of 64 KB for each shard and size class may stay half empty. */
static unsigned long near_bytes(const struct server *server) {
    return number(server, "tier", "dram_bytes") + number(server, "memory", "used_memory_index");
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* Until records and index on the near node are within the limit and a tenth; asking is an event for the server too. */
static bool wait_for_near(const struct server *server, unsigned long most) {
    int64_t end = now_ms() + SETTLE_MS;
    while (near_bytes(server) > most + most / 10 && now_ms() < end) continue;
    return near_bytes(server) <= most + most / 10;
}

/* The first key from `first` on that is in this medium; FAR_KEYS: none is. */
static unsigned key_in(const struct server *server, const char *medium, unsigned first) {
    while (first < FAR_KEYS && strcmp(ask(server, "OBJECT MEDIUM k%07u", first), medium) != 0) first++;
    return first;
}

/* Processor time of the process in ms, all threads. */
static unsigned long cpu_ms(pid_t pid) {
    char path[64], text[1024] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(text, sizeof(text), file)) give_up(path);
    fclose(file);
    const char *at = strrchr(text, ')');
    if (!at || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        give_up(path);
    return (user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK);
}

/* A server that has moved what it can comes to rest: its processors are not kept busy with looking for more. */
static void check_rest(const struct server *server, const char *when) {
    unsigned long spent = REST_MS;
    for (unsigned i = 0; i < RESTS_MAX && spent >= REST_MS / 2; i++) {
        unsigned long before = cpu_ms(server->pid);
        (void)poll(NULL, 0, REST_MS);
        spent = cpu_ms(server->pid) - before;
    }
    check(spent < REST_MS / 2, "%s: %lu ms of processor time in %d ms of rest", when, spent, (int)REST_MS);
}

static void check_far_media(const struct server *server) {
    size_t bytes[NODES][NODES];
    const char *tier = info_of(server, "tier"); /* once: records may still be on their way */
    unsigned long far_records = strtoul(field(tier, "far_records"), NULL, 10);
    unsigned long far_bytes = strtoul(field(tier, "far_bytes"), NULL, 10);
    unsigned long dram_records = strtoul(field(tier, "dram_records"), NULL, 10);
    unsigned long dram_bytes = strtoul(field(tier, "dram_bytes"), NULL, 10);
    unsigned long near = near_bytes(server);
    check(far_records > 0 && far_records + dram_records == FAR_KEYS, "%lu records are far, %lu in DRAM", far_records,
          dram_records);
    check(far_bytes >= far_records * VALUE_BYTES && far_bytes + dram_bytes >= (unsigned long)FAR_KEYS * VALUE_BYTES,
          "they take %lu and %lu bytes", far_bytes, dram_bytes);
    check(near <= NEAR_BYTES + NEAR_BYTES / 10, "records and index in near memory take %lu bytes of %d allowed", near,
          (int)NEAR_BYTES);
    near = node_number(info_of(server, "numa"), 0, "bytes");
    check(near <= NEAR_BYTES + NEAR_BYTES / 10 + NEAR_HOLES, "their pages take %lu bytes", near);
    check(dram_bytes >= NEAR_BYTES / 2, "no more has left than had to: %lu bytes are in DRAM", dram_bytes);
    check(node_number(info_numa(server), 1, "bytes") >= far_bytes, "INFO numa counts them on node 1");
    read_placement(server->pid, bytes);
    show_placement(bytes);
    check(bytes[1][1] >= far_bytes, "far records lie on node 1");
    check(bytes[1][0] == 0 && bytes[0][1] == 0, "none lies on the other node");
}

static void check_far_use(const struct server *server) {
    unsigned far = key_in(server, "far", 0), dram = key_in(server, "dram", 0);
    check(far < FAR_KEYS && dram < FAR_KEYS, "OBJECT MEDIUM tells far and dram: k%07u and k%07u", far, dram);
    for (unsigned i = 0; i < HOT_READS; i++) (void)ask(server, "GET k%07u", far);
    check(key_in(server, "dram", far) == far, "a key that was read %u times has come back", HOT_READS);
    check(number(server, "tier", "far_promotions") >= 1 && number(server, "tier", "far_hits") >= 1,
          "INFO tier counts what came back, and hits in far memory");
    far = key_in(server, "far", far);
    (void)ask(server, "SETRANGE k%07u 0 xyz", far);
    check(key_in(server, "far", far) == far, "a far record is changed where it is");
    (void)ask(server, "SETRANGE k%07u 0 v00", far); /* as fill_value() has it, for keys below 10^5 */
}

static void check_far_near_size(void) {
    struct server server = start((char *[]){"--near-memory-size", "32mb", NULL});
    check(try_keys(&server, FAR_KEYS) == FAR_KEYS, "%u keys are written", FAR_KEYS);
    check(wait_for_near(&server, NEAR_BYTES), "node 0 comes within near-memory-size");
    check_far_media(&server);
    check_rest(&server, "below near-memory-size");
    check_far_use(&server);
    check(read_keys(&server, FAR_KEYS) == FAR_KEYS, "every key has its value");
    check(wait_for_near(&server, NEAR_BYTES), "node 0 is within near-memory-size after reading all");
    check(strcmp(ask(&server, "CONFIG SET near-memory-size 1mb", 0), "+OK") == 0, "near-memory-size is 1mb");
    /* The index alone takes about that: what is too much stays so. */
    int64_t end = now_ms() + SETTLE_MS;
    while (number(&server, "tier", "dram_bytes") > 2 << 20 && now_ms() < end) continue;
    check(number(&server, "tier", "dram_bytes") <= 2 << 20, "all but %lu bytes leave",
          number(&server, "tier", "dram_bytes"));
    check_rest(&server, "above near-memory-size with nothing left to move");
    stop(&server);
}

/* maxmemory bounds near and far memory together. */
static void check_far_limit(const char *policy) {
    struct server server = start((char *[]){"--near-memory-size", "16mb", "--maxmemory", "48mb", "--maxmemory-policy",
                                            (char *)(uintptr_t)policy, NULL});
    bool evicts = strcmp(policy, "noeviction") != 0;
    int64_t started = now_ms();
    unsigned accepted = try_keys(&server, LIMIT_KEYS);
    unsigned long far_records = number(&server, "tier", "far_records"),
                  evicted = number(&server, "stats", "evicted_keys");
    printf("%s: %lld ms, far_records %lu, evicted_keys %lu\n", policy, (long long)(now_ms() - started), far_records,
           evicted);
    check(far_records > 0, "%s: %lu records are far", policy, far_records);
    check(number(&server, "memory", "used_memory_rss") <= LIMIT_BYTES + LIMIT_BYTES / 20,
          "%s: RSS is %lu of %d allowed", policy, number(&server, "memory", "used_memory_rss"), (int)LIMIT_BYTES);
    check(evicts ? accepted == LIMIT_KEYS && evicted > 0 : accepted < LIMIT_KEYS && evicted == 0,
          "%s: %u keys are accepted, %lu evicted", policy, accepted, evicted);
    unsigned right = read_keys(&server, LIMIT_KEYS);
    check(right >= (unsigned)LIMIT_BYTES / VALUE_BYTES * 2 / 5, "%s: %u keys are there", policy, right);
    check(right == (unsigned)strtoul(ask(&server, "DBSIZE", 0) + 1, NULL, 10), "%s: which is what DBSIZE says", policy);
    check(evicts || right == accepted, "%s: what was accepted is there", policy);
    check_rest(&server, policy);
    stop(&server);
}

static void check_far(void) {
    check_far_near_size();
    check_far_limit("allkeys-lru");
    check_far_limit("noeviction");
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    mount_all();
    const char *host = argc > 1 ? argv[argc - 1] : "";
    if (strcmp(host, "flat") == 0)
        check_flat();
    else if (strcmp(host, "wide") == 0)
        check_wide();
    else if (strcmp(host, "far") == 0)
        check_far();
    else
        check(false, "there is no host '%s'", host);
    printf("done\n");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
