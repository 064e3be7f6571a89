#ifndef TERRACE_PERSIST_RDB_SINK_H
#define TERRACE_PERSIST_RDB_SINK_H

/* An RDB file as the sink of a snapshot: what the walkers give is composed and written, a lane for each walker.
 *
 *   sink = rdb_sink_open(&options, lanes, &error);
 *   ... a snapshot with rdb_sink_of(sink) ...
 *   rdb_sink_close(sink, whole, &error)
 *
 * Threads: opened and closed by one thread while no walker runs. */

#include "persist/rdb_file.h"
#include "persist/snapshot.h"

struct rdb_sink;

/* NULL: `*error` says why. Owned by the caller, until rdb_sink_close(). */
struct rdb_sink *rdb_sink_open(const struct rdb_file_options *options, unsigned lanes, struct rdb_file_error *error)
    __attribute__((warn_unused_result));
struct snapshot_sink rdb_sink_of(struct rdb_sink *sink);
/* See rdb_file_set_history(). */
void rdb_sink_set_history(struct rdb_sink *sink, const struct rdb_history *history);
/* Completes the file and gives it its name if the snapshot is `whole`, removes it otherwise; frees the sink. False:
 * there is no new file, and `*error` says why (`step` NULL: because the snapshot was not whole). */
bool rdb_sink_close(struct rdb_sink *sink, bool whole, struct rdb_file_error *error)
    __attribute__((warn_unused_result));

#endif
