#ifndef TERRACE_TESTS_SUPPORT_CHECKPOINT_FIXTURE_H
#define TERRACE_TESTS_SUPPORT_CHECKPOINT_FIXTURE_H

/* A server in this process whose tier persists, its checkpoints, and what a server finds that follows one which was
 * killed. The files are in the folder of the test (temporary_folder.h), their names begin with "tier".
 *
 *   struct in_process *server = checkpoint_server_start(CHECKPOINT_TEST_SEGMENTS);
 *   checkpoint_run(server, "SET key:%u value", 1);
 *   checkpoint_look(&cut, server);
 *   struct checkpoint_figures figures = checkpoint_make(server);
 *   server = checkpoint_server_again_as(server, &cut);
 *   checkpoint_server_stop(server);
 *
 * A checkpoint may also be made in steps, between which commands run. Whatever fails, fails the test. */

#include "persist/checkpoint.h"
#include "persist/recovery.h"
#include "tests/support/in_process.h"
#include "tests/support/snapshot_collector.h"

enum { CHECKPOINT_TEST_SEGMENT = 1 << 20, CHECKPOINT_TEST_SEGMENTS = 1000, CHECKPOINT_TEST_SHARDS = 4 };

/* Of the last server that was started, and of the last checkpoint that failed. */
extern struct recovery_result checkpoint_recovered;
extern char checkpoint_error[CHECKPOINT_PATH_MAX + 300];

/* Without what an earlier one has left, and that: by two threads. */
struct in_process *checkpoint_server_open(unsigned segments);
enum recovery_status checkpoint_recover(struct in_process *server);
/* Both, which does not fail. */
struct in_process *checkpoint_server_start(unsigned segments);
/* As if the server had been killed: nothing is written any more. */
struct in_process *checkpoint_server_again(struct in_process *server);
/* The same; the next one has what there was at the cut, which is given up. */
struct in_process *checkpoint_server_again_as(struct in_process *server, struct snapshot_collector *cut);
/* With all its files. */
void checkpoint_server_stop(struct in_process *server);
void checkpoint_remove_files(void);

void checkpoint_run(struct in_process *server, const char *format, ...) __attribute__((format(printf, 2, 3)));
void checkpoint_look(struct snapshot_collector *collector, struct in_process *server);

/* ---- a checkpoint ---- */

struct checkpoint_making {
    struct in_process *server;
    struct checkpoint *checkpoint;
    struct snapshot *snapshot; /* snapshot_step(snapshot, 0) */
    bool whole, over;
    bool gives_up; /* set by the test: it is not completed, whatever was given */
};

/* Where the journal goes on, as its manifests say. */
extern const struct checkpoint_journal checkpoint_fixture_journal;

/* `io` NULL: the system's. False: it cannot be begun. */
bool checkpoint_begin_with(struct checkpoint_making *making, struct in_process *server, const struct file_io *io);
void checkpoint_begin(struct checkpoint_making *making, struct in_process *server);
/* All that is left of it. Whether it counts; `figures` may be NULL. */
bool checkpoint_end(struct checkpoint_making *making, struct checkpoint_figures *figures);
/* One as a whole, which counts. */
struct checkpoint_figures checkpoint_make(struct in_process *server);

#endif
