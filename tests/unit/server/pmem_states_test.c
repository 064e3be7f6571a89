/* What power cuts leave of a server with a pool: the server itself runs in a process of its own, with the shadow
 * (crash/pmem/pmem_shadow.h) in place of libpmem, and each state is recovered by a fresh process, as a start does it.
 *
 *   this process    sends units (a command, or a transaction), waits for their replies, counts both
 *   the writer      the server; at some flushes and fences it makes a state and asks about it
 *   the checker     forks a process for each: opens the pool, recovers, replays, compares
 *
 * Units are of all types; between them come demotion, cleaning, checkpoints, keys that expire, and orderly ends. A
 * state is right if its dataset is that after a unit between the last answered and the last sent, and each key that
 * expires is there with its own value and time, or not acknowledged yet, or due. The first states of each life are of a
 * pool that is just being made.
 *
 * Then bugs are planted, which have to be found: flushes that are left out, fences that are left out (so that what
 * comes later is durable before what came earlier). TERRACE_TEST_SEED replays, TERRACE_CRASH_STATES takes so many
 * states, TERRACE_TEST_LONG=1 200,000. */

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/thread_place.h"
#include "pmem/pool_layout.h"
#include "server/crash.h"
#include "server/pmem_start.h"
#include "server/server.h"
#include "tests/crash/pmem/pmem_shadow.h"

#include <dirent.h>
#include <libpmemobj.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
#ifdef TERRACE_SANITIZE
    STATES = 60,
#else
    STATES = 1160,
#endif
    BUG_STATES = 3000, /* how many it takes is chance: mostly tens, once in a while hundreds */
    LONG_STATES = 200000,
    LIFE_STATES = 160,
    UNITS = 360,
    VOLATILE_LOOKED_AT = 24,
    PER_MILLE = 60,
    OBJECT_CHECKS = 8,
    PATH = 256,
    NAME = 80,
    REQUEST_ROOM = 1 << 18,
    DIGEST_ROOM = 48,
    FORGET_EVERY = 3,
    SHORT_VALUE = 20,
};

#define FAR_MS INT64_C(4102444800000)

#define NO_WRITER '-' /* to the checker, and back: all that a writer asked has been checked */

enum bug { NO_BUG, BUG_FLUSHES, BUG_FENCES };

/* Seen by all processes. */
struct shared {
    _Atomic uint64_t sent, answered, states, most_states;
    atomic_bool wrong;
    char complaint[512];
    uint64_t unit_seed;
    char digests[UNITS + 1][DIGEST_ROOM];
    _Atomic int64_t deadline_ms[UNITS + 1]; /* of the key that unit set in database 1; 0: none */
};

static struct shared *shared;
static char folder[NAME];
static int checker = -1;
static enum bug bug;

static uint64_t seed_of_test(void) {
    const char *given = getenv("TERRACE_TEST_SEED");
    return given ? strtoull(given, NULL, 10) : 1;
}

static void path_to(char path[PATH], const char *name) {
    snprintf(path, PATH, "%s/%s", folder, name);
}

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...) {
    va_list arguments;
    if (atomic_exchange(&shared->wrong, true)) return;
    va_start(arguments, format);
    vsnprintf(shared->complaint, sizeof(shared->complaint), format, arguments);
    va_end(arguments);
}

/* ---- a server in this process ---- */

static bool start_server(struct server *server, const char *directory, bool pool, struct socket_error *error) {
    char name[PATH], *arguments[32];
    int count = 0;
    snprintf(name, sizeof(name), "%s/pool", directory);
    const char *const common[] = {
        "server", "--port",    "0",  "--save", "", "--threads", "1", "--unixsocket", "socket", "--enable-debug-command",
        "yes",    "--logfile", "log"};
    const char *const with_pool[] = {"--pmem-pool", name, "--pmem-size", "24mb", "--tier-checkpoint-seconds", "1"};
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++) arguments[count++] = (char *)(uintptr_t)common[i];
    for (size_t i = 0; pool && i < sizeof(with_pool) / sizeof(with_pool[0]); i++)
        arguments[count++] = (char *)(uintptr_t)with_pool[i];
    arguments[count] = NULL;
    enum config_action action;
    struct config_error wrong;
    crash_install(); /* in place of cmocka's, which would go on with the next test */
    clock_init();
    thread_place_begin();
    config_init(&server->config);
    if (!config_parse_arguments(&server->config, count, arguments, &action, &wrong)) return false;
    struct log_options log = {.level = LOG_LEVEL_NOTICE, .file = "log"};
    server->process.program = strdup("server");
    return chdir(directory) == 0 && log_configure(&log) && process_go_background(server, error) &&
           server_start(server, error);
}

/* ---- checking a state; in a process of its own ---- */

/* The reply's text, without what frames it; as long as it is short. */
static const char *ask(struct server *server, struct session *session, const char *line, char text[PATH]) {
    struct span argv[8];
    char words[PATH], *rest = words, *word;
    uint32_t argc = 0;
    struct reply reply;
    struct iovec vectors[8];
    snprintf(words, sizeof(words), "%s", line);
    while (argc < 8 && (word = strsep(&rest, " ")) != NULL) argv[argc++] = span_of_text(word);
    reply_init(&reply, NULL, 0, NULL, NULL);
    server->workers[0]->dispatcher.now_ms = clock_unix_ms();
    while (dispatch_arguments(&server->workers[0]->dispatcher, session, argv, argc, &reply) == DISPATCH_WAITS)
        tier_port_wait(server->workers[0]->dispatcher.port);
    size_t count = reply_vectors(&reply, vectors, 8), length = 0;
    for (size_t i = 0; i < count; i++) {
        size_t part = vectors[i].iov_len < PATH - 1 - length ? vectors[i].iov_len : PATH - 1 - length;
        memcpy(text + length, vectors[i].iov_base, part);
        length += part;
    }
    text[length] = '\0';
    reply_clear(&reply);
    return text;
}

/* Keys of database 1, each of its own unit. */
static void check_volatile(struct server *server, struct session *session, uint64_t answered, uint64_t sent) {
    char line[NAME], text[PATH], expected[NAME];
    uint64_t first = sent > VOLATILE_LOOKED_AT ? sent - VOLATILE_LOOKED_AT : 1;
    (void)ask(server, session, "SELECT 1", text);
    for (uint64_t unit = first; unit <= sent; unit++) {
        int64_t deadline_ms = atomic_load(&shared->deadline_ms[unit]);
        if (!deadline_ms) continue;
        snprintf(line, sizeof(line), "PEXPIRETIME v:%llu", (unsigned long long)unit);
        snprintf(expected, sizeof(expected), ":%lld\r\n", (long long)deadline_ms);
        (void)ask(server, session, line, text);
        bool there = strcmp(text, ":-2\r\n") != 0;
        if (there && strcmp(text, expected) != 0) complain("v:%llu expires at %s", (unsigned long long)unit, text);
        if (!there && unit <= answered && clock_unix_ms() < deadline_ms)
            complain("v:%llu is missing, %lld ms before it is due", (unsigned long long)unit,
                     (long long)(deadline_ms - clock_unix_ms()));
    }
    (void)ask(server, session, "FLUSHDB", text);
    (void)ask(server, session, "SELECT 0", text);
}

static void check_digest(struct server *server, struct session *session, uint64_t answered, uint64_t sent) {
    char text[PATH];
    int at = -1;
    (void)ask(server, session, "DEBUG DIGEST", text);
    for (uint64_t unit = answered; unit <= sent; unit++)
        if (strcmp(shared->digests[unit], text) == 0) return;
    for (int unit = 0; unit <= UNITS; unit++)
        if (strcmp(shared->digests[unit], text) == 0) at = unit;
    complain("the dataset is that after unit %d (-1: of none), not of %llu to %llu", at, (unsigned long long)answered,
             (unsigned long long)sent);
}

/* The process is in the server's directory. */
static void note_log(void) {
    char text[300] = "";
    FILE *log = fopen("log", "r");
    for (char line[300]; log && fgets(line, sizeof(line), log);) memcpy(text, line, sizeof(text));
    if (log) fclose(log);
    complain("the log ends with %s", text);
}

static void check_state(const char *directory) {
    static struct server server;
    struct socket_error error = {.text = ""};
    struct session session;
    char text[256];
    bool found;
    uint64_t answered = atomic_load(&shared->answered), sent = atomic_load(&shared->sent);
    if (!start_server(&server, directory, true, &error)) {
        complain("it does not start: %s", error.text);
        return;
    }
    loading_begin(&server, UINT_MAX, 0);
    bool loaded = pmem_start_load(&server, &found);
    loading_end(&server, 0);
    if (!loaded) {
        note_log();
        return;
    }
    session_init(&session, 1, clock_unix_ms());
    session.authenticated = true;
    check_volatile(&server, &session, answered, sent);
    check_digest(&server, &session, answered, sent);
    if (!pmem_start_begin(&server, true, text, sizeof(text))) complain("it does not go on: %s", text);
    if (atomic_load(&shared->states) % OBJECT_CHECKS) return;
    pmem_start_close(&server);
    if (pmemobj_check("pool", PMEM_POOL_LAYOUT) != 1) complain("pmemobj_check is not content");
}

static void copy_file(const char *from, const char *to) {
    char buffer[1 << 16];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    for (size_t count; in && out && (count = fread(buffer, 1, sizeof(buffer), in)) > 0;)
        if (fwrite(buffer, 1, count, out) != count) complain("a file cannot be copied");
    if (in) fclose(in);
    if (out) fclose(out);
}

/* All files of a folder, of which there are few. */
static void empty_folder(const char *path) {
    struct dirent *entry;
    DIR *directory = opendir(path);
    while (directory && (entry = readdir(directory)) != NULL) {
        char name[2 * PATH + 16];
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') unlink(name);
    }
    if (directory) closedir(directory);
}

/* The pool as the state has it, beside the checkpoints' files as they are. */
static void lay_out(const char *directory, const char *suffix) {
    char from[PATH], data[PATH], to[2 * PATH];
    struct dirent *entry;
    mkdir(directory, 0700);
    empty_folder(directory);
    path_to(from, "state");
    path_to(data, "data");
    snprintf(to, sizeof(to), "%s/pool%s", directory, suffix);
    if (rename(from, to) != 0) complain("there is no state");
    DIR *opened = opendir(data);
    while (opened && (entry = readdir(opened)) != NULL) {
        char name[2 * PATH + 16];
        if (strncmp(entry->d_name, "pool.", 5) != 0 || strcmp(entry->d_name, "pool.making") == 0) continue;
        snprintf(name, sizeof(name), "%s/%s", data, entry->d_name);
        snprintf(to, sizeof(to), "%s/%.100s", directory, entry->d_name);
        copy_file(name, to);
    }
    if (opened) closedir(opened);
}

/* The process that forks one for each state. It is told the end of the pool's name; by who runs the writers, that there
 * is none any more. */
static void serve_checks(int fd) {
    char suffix[64], directory[PATH], answer = 'y';
    path_to(directory, "check");
    for (ssize_t length; (length = read(fd, suffix, sizeof(suffix) - 1)) > 0;) {
        int status = -1;
        if (suffix[0] == NO_WRITER) {
            if (write(fd, suffix, 1) != 1) break;
            continue;
        }
        suffix[length - 1] = '\0'; /* behind it comes a line's end */
        lay_out(directory, suffix);
        atomic_fetch_add(&shared->states, 1);
        pid_t child = fork();
        if (child == 0) {
            check_state(directory);
            _exit(0);
        }
        waitpid(child, &status, 0);
        if (status != 0) complain("the check has crashed: %d", status);
        if (!atomic_load(&shared->wrong)) empty_folder(directory);
        answer = !atomic_load(&shared->wrong) && atomic_load(&shared->states) < atomic_load(&shared->most_states) ? 'y'
                                                                                                                  : 'n';
        if (write(fd, &answer, 1) != 1) break;
    }
    empty_folder(directory);
    rmdir(directory);
    _exit(0);
}

/* ---- the writer ---- */

static bool ask_checker(void *ctx, const char *suffix) {
    char line[80], answer = 'n';
    struct random *random = ctx;
    int length = snprintf(line, sizeof(line), "%s\n", suffix);
    if (write(checker, line, (size_t)length) != length || read(checker, &answer, 1) != 1) return false;
    if (bug == BUG_FLUSHES && random_once_in(random, FORGET_EVERY))
        pmem_shadow_forget_flush(1 + random_below(random, 20));
    if (bug == BUG_FENCES && random_once_in(random, FORGET_EVERY))
        pmem_shadow_forget_drain(1 + random_below(random, 20));
    return answer == 'y';
}

static void run_writer(uint64_t seed, bool pool, int ready) {
    static struct server server;
    static struct random random;
    struct socket_error error = {.text = ""};
    char data[PATH], path[PATH], state[PATH];
    path_to(data, "data");
    path_to(path, "data/pool");
    path_to(state, "state");
    random_seed(&random, seed);
    if (pool)
        pmem_shadow_begin(&(struct pmem_shadow_options){
            .path = path, .state = state, .seed = seed, .per_mille = PER_MILLE, .check = ask_checker, .ctx = &random});
    bool started = start_server(&server, data, pool, &error);
    if (!started) complain("the server does not start: %s", error.text);
    if (write(ready, started ? "y" : "n", 1) != 1 || !started) _exit(1);
    _exit(server_run(&server));
}

/* A writer may end while another of its threads waits for an answer. What it asked is still being checked, by the
 * counts of now; and its answer would be taken by the next writer, which would go on while its state is looked at. */
static void await_writer(pid_t writer, int *status) {
    char answer = NO_WRITER;
    waitpid(writer, status, 0);
    if (write(checker, &answer, 1) != 1) complain("the checker has gone");
    do
        if (read(checker, &answer, 1) != 1) answer = NO_WRITER;
    while (answer != NO_WRITER);
}

static pid_t start_writer(uint64_t seed, bool pool) {
    int ready[2];
    char answer = 'n';
    assert_int_equal(pipe(ready), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) run_writer(seed, pool, ready[1]);
    close(ready[1]);
    if (read(ready[0], &answer, 1) != 1 || answer != 'y') complain("the server has not started");
    close(ready[0]);
    return child;
}

/* ---- the client ---- */

static int client = -1;
static FILE *replies;

static void connect_client(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[PATH];
    path_to(path, "data/socket");
    snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    replies = fdopen(client, "r");
}

/* There is none where a server has not come back. */
static void disconnect_client(void) {
    if (replies) fclose(replies);
    replies = NULL;
    client = -1;
}

/* A reply; `text`: its first line. False: the server has ended. */
static bool read_reply(char text[PATH]) {
    char rest[PATH];
    if (!fgets(text, PATH, replies)) return false;
    long count = strtol(text + 1, NULL, 10);
    if (text[0] == '*')
        for (long i = 0; i < count; i++)
            if (!read_reply(rest)) return false;
    if (text[0] == '$' && count >= 0)
        for (long left = count + 2; left > 0; left--)
            if (fgetc(replies) == EOF) return false;
    return true;
}

struct request_text {
    char bytes[REQUEST_ROOM];
    size_t length;
    unsigned commands;
};

static void add_word(struct request_text *request, const char *word, size_t length) {
    request->length += (size_t)snprintf(request->bytes + request->length, 32, "$%zu\r\n", length);
    memcpy(request->bytes + request->length, word, length);
    request->length += length;
    memcpy(request->bytes + request->length, "\r\n", 2);
    request->length += 2;
}

/* Words of a line, behind them `value` unless that is NULL. */
static void add_command(struct request_text *request, const char *line, const char *value, size_t value_length) {
    unsigned words = 1 + (value != NULL);
    for (const char *at = line; *at; at++) words += *at == ' ';
    request->length += (size_t)snprintf(request->bytes + request->length, 32, "*%u\r\n", words);
    for (const char *at = line, *end; *at; at = *end ? end + 1 : end) {
        end = strchrnul(at, ' ');
        add_word(request, at, (size_t)(end - at));
    }
    if (value) add_word(request, value, value_length);
    request->commands++;
}

static bool send_request(struct request_text *request) {
    char text[PATH];
    bool good = write(client, request->bytes, request->length) == (ssize_t)request->length;
    for (unsigned i = 0; good && i < request->commands; i++) {
        good = read_reply(text);
        if (good && text[0] == '-') complain("%.200s", text);
    }
    request->length = 0;
    request->commands = 0;
    return good;
}

static bool run_line(const char *line) {
    static struct request_text request;
    add_command(&request, line, NULL, 0);
    return send_request(&request);
}

static void await_loaded(void) {
    char text[PATH] = "-";
    while (text[0] == '-') {
        if (write(client, "PING\r\nDBSIZE\r\n", 14) != 14 || !read_reply(text) || !read_reply(text)) break;
    }
}

/* ---- units ---- */

static const size_t lengths[] = {1, 30, 900, 900, 20000};

static void add_random_command(struct request_text *request, struct random *random, uint64_t unit) {
    static char value[20000];
    char line[160];
    char key = (char)('a' + random_below(random, 6));
    size_t length = lengths[random_below(random, sizeof(lengths) / sizeof(lengths[0]))];
    size_t shorter = length > 900 ? 900 : length;
    unsigned long long small = random_below(random, 200);
    unsigned long long id = unit * 16 + request->commands + 1;
    /* As far as any command takes it, so that nothing of an earlier one is in it. */
    for (size_t i = 0; i < length || i < SHORT_VALUE; i++) value[i] = (char)('a' + (unit + i * 7) % 26);
    switch (random_below(random, 18)) {
    case 0:
    case 1: snprintf(line, sizeof(line), "SET string:%c", key); break;
    case 2: snprintf(line, sizeof(line), "APPEND string:%c", key); break;
    case 3: snprintf(line, sizeof(line), "HSET hash:%c field:%llu", key, small), length = shorter; break;
    case 4: snprintf(line, sizeof(line), "RPUSH list:%c", key), length = shorter; break;
    case 5: snprintf(line, sizeof(line), "SADD set:%c m%llu", key, small), length = SHORT_VALUE; break;
    case 6: snprintf(line, sizeof(line), "ZADD sorted:%c %llu m%llu", key, small, small % 50), length = 0; break;
    case 7: snprintf(line, sizeof(line), "XADD stream:%c %llu-1 field", key, id), length = shorter; break;
    case 8: snprintf(line, sizeof(line), "DEL string:%c hash:%c", key, 'a' + (key - 'a' + 1) % 6), length = 0; break;
    case 9: snprintf(line, sizeof(line), "LPOP list:%c", key), length = 0; break;
    case 10: snprintf(line, sizeof(line), "HDEL hash:%c field:%llu", key, small), length = 0; break;
    case 11:
        snprintf(line, sizeof(line), "PEXPIREAT string:%c %lld", key, (long long)FAR_MS + (long long)unit), length = 0;
        break;
    case 12: snprintf(line, sizeof(line), "INCRBY counter %llu", small), length = 0; break;
    case 13: snprintf(line, sizeof(line), "RENAME counter counter:%c", key), length = 0; break;
    case 14: snprintf(line, sizeof(line), "SUNIONSTORE set:%c set:a set:b", key), length = 0; break;
    case 15: snprintf(line, sizeof(line), "ZREMRANGEBYSCORE sorted:%c 0 %llu", key, small), length = 0; break;
    case 16: snprintf(line, sizeof(line), "SETRANGE string:%c %llu", key, small), length = SHORT_VALUE; break;
    default: snprintf(line, sizeof(line), "HINCRBY numbers:%c f%llu 3", key, small % 20), length = 0; break;
    }
    /* It would fail without one. */
    if (strncmp(line, "RENAME", 6) == 0) add_command(request, "INCR counter", NULL, 0);
    add_command(request, line, length ? value : NULL, length);
}

static void compose_unit(struct request_text *request, uint64_t unit) {
    struct random random;
    random_seed(&random, shared->unit_seed + unit);
    unsigned count = random_once_in(&random, 5) ? 2 + (unsigned)random_below(&random, 4) : 1;
    unsigned before = request->commands;
    bool transaction = count > 1;
    if (transaction) add_command(request, "MULTI", NULL, 0);
    for (unsigned i = 0; i < count; i++) add_random_command(request, &random, unit);
    if (transaction) add_command(request, "EXEC", NULL, 0);
    /* RENAME comes with a command before it: together they are one unit. */
    if (transaction || request->commands - before == 1) return;
    request->length = 0;
    request->commands = 0;
    add_command(request, "MULTI", NULL, 0);
    random_seed(&random, shared->unit_seed + unit);
    (void)random_once_in(&random, 5);
    add_random_command(request, &random, unit);
    add_command(request, "EXEC", NULL, 0);
}

/* What a dataset is after each unit. */
static void find_digests(void) {
    static struct request_text request;
    char text[PATH];
    pid_t server = start_writer(0, false);
    connect_client();
    for (uint64_t unit = 0; unit <= UNITS && !atomic_load(&shared->wrong); unit++) {
        if (unit > 0) {
            compose_unit(&request, unit);
            if (!send_request(&request)) complain("the server without a pool has ended");
        }
        add_command(&request, "DEBUG DIGEST", NULL, 0);
        if (write(client, request.bytes, request.length) != (ssize_t)request.length || !read_reply(text))
            complain("no digest");
        request.length = request.commands = 0;
        snprintf(shared->digests[unit], DIGEST_ROOM, "%.44s", text);
    }
    disconnect_client();
    kill(server, SIGKILL);
    await_writer(server, NULL);
}

/* A key that expires while the test runs. */
static bool set_volatile(uint64_t unit, struct random *random) {
    char line[160];
    int64_t deadline_ms = clock_unix_ms() + 20 + (int64_t)random_below(random, 3000);
    atomic_store(&shared->deadline_ms[unit], deadline_ms);
    snprintf(line, sizeof(line), "SET v:%llu value PXAT %lld", (unsigned long long)unit, (long long)deadline_ms);
    return run_line("SELECT 1") && run_line(line) && run_line("SELECT 0");
}

static bool goes_on(void) {
    return !atomic_load(&shared->wrong) && atomic_load(&shared->states) < atomic_load(&shared->most_states);
}

/* The server ends in good order, and another one begins. */
static pid_t restart(pid_t writer, uint64_t seed) {
    int status;
    if (write(client, "SHUTDOWN\r\n", 10) != 10) complain("it is gone already");
    await_writer(writer, &status);
    if (status != 0 && goes_on()) complain("SHUTDOWN ended with %d", status);
    disconnect_client();
    writer = start_writer(seed, true);
    if (!atomic_load(&shared->wrong)) {
        connect_client();
        await_loaded();
    }
    return writer;
}

static void run_units(pid_t *writer, struct random *random) {
    static struct request_text request;
    static const char *const work[] = {"TIER DEMOTE *", "TIER COMPACT", "TIER DEMOTE h*", "TIER COMPACT"};
    for (uint64_t unit = 1; unit <= UNITS && goes_on(); unit++) {
        if (random_once_in(random, 12) && !run_line(work[random_below(random, 4)])) return;
        if (random_once_in(random, 150)) *writer = restart(*writer, random_next(random));
        if (!goes_on()) return;
        atomic_store(&shared->sent, unit);
        if (random_once_in(random, 6) && !set_volatile(unit, random)) return;
        compose_unit(&request, unit);
        if (!send_request(&request)) return;
        atomic_store(&shared->answered, unit);
    }
}

/* One pool, from its making on. */
static void run_life(struct random *random, uint64_t most_states) {
    char data[PATH];
    path_to(data, "data");
    shared->unit_seed = random_next(random);
    atomic_store(&shared->sent, 0);
    atomic_store(&shared->answered, 0);
    for (unsigned i = 0; i <= UNITS; i++) atomic_store(&shared->deadline_ms[i], 0);
    mkdir(data, 0700);
    find_digests();
    empty_folder(data);
    atomic_store(&shared->most_states, atomic_load(&shared->states) + most_states);
    pid_t writer = start_writer(random_next(random), true);
    if (!atomic_load(&shared->wrong)) {
        connect_client();
        await_loaded();
        run_units(&writer, random);
        disconnect_client();
    }
    kill(writer, SIGKILL);
    await_writer(writer, NULL);
    empty_folder(data);
    rmdir(data);
}

/* ---- tests ---- */

static void start_checker(void) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    fflush(NULL);
    if (fork() == 0) {
        close(pair[0]);
        serve_checks(pair[1]);
    }
    close(pair[1]);
    checker = pair[0];
}

static void run(uint64_t states, enum bug planted) {
    struct random random;
    uint64_t seed = seed_of_test();
    print_message("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&random, seed);
    memset(shared, 0, sizeof(*shared));
    bug = planted;
    while (atomic_load(&shared->states) < states && !atomic_load(&shared->wrong)) {
        uint64_t left = states - atomic_load(&shared->states);
        run_life(&random, left < LIFE_STATES ? left : LIFE_STATES);
    }
    print_message("%llu states\n", (unsigned long long)atomic_load(&shared->states));
}

static uint64_t wanted_states(void) {
    const char *states = getenv("TERRACE_CRASH_STATES"), *long_run = getenv("TERRACE_TEST_LONG");
    if (states) return strtoull(states, NULL, 10);
    return long_run && strcmp(long_run, "1") == 0 ? LONG_STATES : STATES;
}

static void test_every_state_is_a_moment_of_the_dataset(void **state) {
    (void)state;
    run(wanted_states(), NO_BUG);
    if (atomic_load(&shared->wrong)) fail_msg("%s", shared->complaint);
}

static void expect_found(enum bug planted) {
    run(BUG_STATES, planted);
    print_message("found: %s\n", shared->complaint);
    assert_true(atomic_load(&shared->wrong));
}

static void test_left_out_flushes_are_found(void **state) {
    (void)state;
    expect_found(BUG_FLUSHES);
}

static void test_left_out_fences_are_found(void **state) {
    (void)state;
    expect_found(BUG_FENCES);
}

static int set_up(void **state) {
    (void)state;
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    setenv("PMEM_IS_PMEM_FORCE", "1", 1);
    setenv("PMEMOBJ_CONF", "sds.at_create=0", 0);
    snprintf(folder, sizeof(folder), "%s/terrace-states-XXXXXX", base);
    if (!mkdtemp(folder)) return 1;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    start_checker();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char path[PATH];
    close(checker);
    while (wait(NULL) > 0) {
    }
    path_to(path, "state");
    unlink(path);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_is_a_moment_of_the_dataset),
        cmocka_unit_test(test_left_out_flushes_are_found),
        cmocka_unit_test(test_left_out_fences_are_found),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
