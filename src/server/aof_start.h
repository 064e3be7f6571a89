#ifndef TERRACE_SERVER_AOF_START_H
#define TERRACE_SERVER_AOF_START_H

/* What a start with `appendonly yes` loads, and DEBUG LOADAOF.
 *
 *   there is a manifest                       the files it names
 *   none, but a single file of that name      it is moved into the directory, as the base, and loaded
 *   none, but a snapshot (dbfilename)         the snapshot, which then becomes the first base (Redis would begin empty)
 *   nothing                                   nothing; the append-only file begins empty
 *
 * What cannot be loaded is told by one line of the log that names file and offset, and the start fails. */

#include <stdbool.h>
#include <stddef.h>

struct call;
struct server;

/* On the loading thread, between loading_begin() and loading_end(): loads. False: it failed, and the log says why. */
bool aof_start_load(struct server *server) __attribute__((warn_unused_result));

/* All workers stand still, loading has not ended yet: the append-only file goes on behind what was loaded, if it is
 * on. False: `error` (of `room` bytes) is one line. */
bool aof_start_begin(struct server *server, char *error, size_t room) __attribute__((warn_unused_result));

/* DEBUG LOADAOF: the dataset is replaced by what the append-only file holds. */
void debug_loadaof(struct call *call);

#endif
