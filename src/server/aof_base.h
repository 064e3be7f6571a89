#ifndef TERRACE_SERVER_AOF_BASE_H
#define TERRACE_SERVER_AOF_BASE_H

/* A base of the append-only file in the making, in RDB or as commands (aof-use-rdb-preamble), as the sink of a
 * snapshot. Opened and closed by one thread while no walker runs. */

#include "persist/rdb_file.h"
#include "persist/snapshot.h"

struct aof_text_sink;
struct rdb_sink;
struct server;

/* One of the two; none: it is not open. */
struct aof_base {
    struct rdb_sink *rdb;
    struct aof_text_sink *text;
};

static inline bool aof_base_is_open(const struct aof_base *base) {
    return base->rdb || base->text;
}

/* Opens a base of this name, under a temporary name. False: `*error`. */
bool aof_base_open(struct aof_base *base, const struct server *server, const char *name, bool as_rdb, unsigned lanes,
                   struct rdb_file_error *error) __attribute__((warn_unused_result));
struct snapshot_sink aof_base_sink(const struct aof_base *base);
/* As rdb_sink_close(); it is not open afterwards. */
bool aof_base_close(struct aof_base *base, bool whole, struct rdb_file_error *error)
    __attribute__((warn_unused_result));

#endif
