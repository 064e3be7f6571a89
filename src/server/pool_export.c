/* A server that is made and loaded, but never run: see pool_export.h.
 *
 * Only worker 0 exists, as a structure; its thread would be this one. So nothing expires, nothing is demoted, and no
 * reply is ever held. The gate to the pool's journal is opened, to read, and never begun. */

#include "server/pool_export.h"

#include "base/clock.h"
#include "base/log.h"
#include "persist/rdb_sink.h"
#include "server/pmem_start.h"
#include "server/server.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LANES_MAX = 4 };

static bool fail(char *error, size_t room, const char *text) {
    snprintf(error, room, "%s", text);
    return false;
}

/* The number of databases is not in the pool; an empty one costs a pointer in each shard. */
static bool configure(struct config *config, const char *pool, char *error, size_t room) {
    char databases[16], *arguments[] = {"terrace-pool", "--threads", "1",           "--databases",           databases,
                                        "--save",       "",          "--pmem-pool", (char *)(uintptr_t)pool, NULL};
    enum config_action action;
    struct config_error reason;
    snprintf(databases, sizeof(databases), "%d", LIMIT_DATABASES);
    config_init(config);
    int count = (int)(sizeof(arguments) / sizeof(arguments[0])) - 1;
    return config_parse_arguments(config, count, arguments, &action, &reason) || fail(error, room, reason.text);
}

static bool load(struct server *server, char *error, size_t room) {
    bool found;
    loading_begin(server, UINT_MAX, 0);
    bool loaded = pmem_start_load(server, &found);
    loading_end(server, UINT_MAX);
    return loaded || fail(error, room, "the pool cannot be loaded; the lines above say why");
}

static unsigned choose_lanes(void) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus < 2 ? 2 : cpus > LANES_MAX ? LANES_MAX : (unsigned)cpus;
}

static bool write_file(const struct server *server, const char *file, char *error, size_t room) {
    char temporary[PATH_MAX];
    struct rdb_file_error reason = {0};
    if (snprintf(temporary, sizeof(temporary), "%s.making", file) >= (int)sizeof(temporary))
        return fail(error, room, "the name of the file is too long");
    struct rdb_file_options options = {.path = file,
                                       .temporary = temporary,
                                       .save = {.version = (unsigned)server->config.persistence.rdb_version,
                                                .compress = true,
                                                .access = RDB_ACCESS_NONE,
                                                .policy = &server->keyspace->access,
                                                .now_ms = clock_unix_ms()},
                                       .checksum = true,
                                       .redis_version = SERVER_REDIS_VERSION};
    unsigned lanes = choose_lanes();
    struct rdb_sink *sink = rdb_sink_open(&options, lanes, &reason);
    bool walked = sink && snapshot_walk(server->keyspace, rdb_sink_of(sink), lanes);
    if (sink && rdb_sink_close(sink, walked, &reason)) return true;
    if (reason.step)
        snprintf(error, room, "'%.200s' cannot be written: %s: %s", file, reason.step, strerror(reason.error));
    else
        snprintf(error, room, "the pool cannot be read to its end: see check and repair");
    return false;
}

bool pool_export(const char *pool, const char *file, uint64_t *keys, char *error, size_t room) {
    static struct server server;
    struct socket_error reason;
    const struct log_options log = {.level = LOG_LEVEL_WARNING, .file = "/dev/stderr"};
    clock_init();
    server.offline = true;
    if (!configure(&server.config, pool, error, room)) return false;
    if (!log_configure(&log)) return fail(error, room, "cannot write to the standard error output");
    if (!server_start(&server, &reason)) {
        pmem_start_close(&server);
        return fail(error, room, reason.text);
    }
    bool done = load(&server, error, room) && write_file(&server, file, error, room);
    struct view view = {.keyspace = server.keyspace};
    for (*keys = 0; view.database < server.keyspace->database_count; view.database++)
        *keys += keyspace_database_size(&view);
    tier_destroy(server.tier);
    pmem_start_close(&server);
    return done;
}
