/* See aof_base.h. */

#include "server/aof_base.h"

#include "base/clock.h"
#include "base/random.h"
#include "persist/aof_text_sink.h"
#include "persist/rdb_sink.h"
#include "server/server.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static struct rdb_sink *open_rdb(const struct server *server, const char *name, const char *temporary_name,
                                 unsigned lanes, struct rdb_file_error *error) {
    const struct config_persistence *persistence = &server->config.persistence;
    char path[PATH_MAX], temporary[PATH_MAX];
    *error = (struct rdb_file_error){"name", ENAMETOOLONG};
    if (snprintf(path, PATH_MAX, "%s/%s", server->aof.directory, name) >= PATH_MAX ||
        snprintf(temporary, PATH_MAX, "%s/%s", server->aof.directory, temporary_name) >= PATH_MAX)
        return NULL;
    struct rdb_file_options options = {.path = path,
                                       .temporary = temporary,
                                       .save = {.version = (unsigned)persistence->rdb_version,
                                                .compress = persistence->rdb_compression,
                                                .access = RDB_ACCESS_NONE,
                                                .policy = &server->keyspace->access,
                                                .now_ms = clock_unix_ms()},
                                       .checksum = persistence->rdb_checksum,
                                       .incremental_sync = persistence->aof_incremental_fsync,
                                       .index = true,
                                       .aof_base = true,
                                       .redis_version = SERVER_REDIS_VERSION,
                                       .used_memory = 0};
    return rdb_sink_open(&options, lanes, error);
}

static struct aof_text_sink *open_text(const struct server *server, const char *name, const char *temporary_name,
                                       unsigned lanes, struct rdb_file_error *error) {
    const struct config_persistence *persistence = &server->config.persistence;
    struct aof_text_options options = {.directory = server->aof.directory,
                                       .name = name,
                                       .temporary = temporary_name,
                                       .timestamp_s = persistence->aof_timestamps ? clock_unix_ms() / 1000 : 0,
                                       .incremental_sync = persistence->aof_incremental_fsync};
    random_fill_secret(&options.seed, sizeof(options.seed));
    return aof_text_sink_open(&options, lanes, error);
}

bool aof_base_open(struct aof_base *base, const struct server *server, const char *name, bool as_rdb, unsigned lanes,
                   struct rdb_file_error *error) {
    char temporary[64];
    snprintf(temporary, sizeof(temporary), "temp-rewriteaof-bg-%d.aof", (int)getpid());
    *base = (struct aof_base){0};
    if (as_rdb)
        base->rdb = open_rdb(server, name, temporary, lanes, error);
    else
        base->text = open_text(server, name, temporary, lanes, error);
    return aof_base_is_open(base);
}

struct snapshot_sink aof_base_sink(const struct aof_base *base) {
    return base->rdb ? rdb_sink_of(base->rdb) : aof_text_sink_of(base->text);
}

bool aof_base_close(struct aof_base *base, bool whole, struct rdb_file_error *error) {
    struct aof_base closed = *base;
    *base = (struct aof_base){0};
    return closed.rdb ? rdb_sink_close(closed.rdb, whole, error) : aof_text_sink_close(closed.text, whole, error);
}
