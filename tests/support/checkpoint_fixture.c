/* See checkpoint_fixture.h. */

#include "tests/support/checkpoint_fixture.h"

#include "command/families.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { LINE = 256 };

struct recovery_result checkpoint_recovered;
char checkpoint_error[CHECKPOINT_PATH_MAX + 300];
const struct checkpoint_journal checkpoint_fixture_journal = {.present = true, .sequence = 3, .mark = 4711};

/* ---- a server ---- */

struct in_process *checkpoint_server_open(unsigned segments) {
    const struct command_family families[] = {{string_commands, string_command_count},
                                              {bitmap_commands, bitmap_command_count},
                                              {hash_commands, hash_command_count},
                                              {set_commands, set_command_count},
                                              {list_commands, list_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {stream_commands, stream_command_count},
                                              {key_commands, key_command_count},
                                              {key_expiry_commands, key_expiry_command_count},
                                              {database_commands, database_command_count}};
    const struct tier_options tier = {.path = "tier",
                                      .segment_bytes = CHECKPOINT_TEST_SEGMENT,
                                      .size_bytes = (uint64_t)segments * CHECKPOINT_TEST_SEGMENT,
                                      .memory_bytes = 8 << 20,
                                      .persist = true,
                                      .pool_seed = 1234567,
                                      .pool_shards = CHECKPOINT_TEST_SHARDS};
    return in_process_create_with(&(struct in_process_options){.families = families,
                                                               .family_count = sizeof(families) / sizeof(*families),
                                                               .tier = &tier,
                                                               .shards = CHECKPOINT_TEST_SHARDS});
}

enum recovery_status checkpoint_recover(struct in_process *server) {
    const struct recovery_options options = {.keyspace = server->keyspace, .prefix = "tier", .threads = 2};
    return recovery_run(&options, &checkpoint_recovered);
}

struct in_process *checkpoint_server_start(unsigned segments) {
    struct in_process *server = checkpoint_server_open(segments);
    enum recovery_status status = checkpoint_recover(server);
    if (status == RECOVERY_FAILED) fail_msg("%s", checkpoint_recovered.reason);
    assert_true(keyspace_validate(server->keyspace));
    assert_true(segment_table_validate(tier_segments(server->tier)));
    recovery_remove_leftovers(server->tier, "tier");
    return server;
}

struct in_process *checkpoint_server_again(struct in_process *server) {
    unsigned segments = segment_table_usage(tier_segments(server->tier)).segments;
    in_process_destroy(server);
    return checkpoint_server_start(segments);
}

struct in_process *checkpoint_server_again_as(struct in_process *server, struct snapshot_collector *cut) {
    struct snapshot_collector back;
    server = checkpoint_server_again(server);
    checkpoint_look(&back, server);
    assert_true(snapshot_collector_same(cut, &back));
    snapshot_collector_free(&back);
    snapshot_collector_free(cut);
    return server;
}

void checkpoint_remove_files(void) {
    DIR *folder = opendir(".");
    for (const struct dirent *entry; (entry = readdir(folder));)
        if (strncmp(entry->d_name, "tier", 4) == 0) unlink(entry->d_name);
    closedir(folder);
}

void checkpoint_server_stop(struct in_process *server) {
    in_process_destroy(server);
    checkpoint_remove_files();
}

void checkpoint_run(struct in_process *server, const char *format, ...) {
    char line[LINE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    in_process_run(server, line);
}

void checkpoint_look(struct snapshot_collector *collector, struct in_process *server) {
    snapshot_collector_init(collector, server->keyspace);
    snapshot_collector_look(collector, server->port);
}

/* ---- a checkpoint ---- */

static void given(void *ctx, bool whole) {
    struct checkpoint_making *making = ctx;
    making->whole = whole;
    making->over = true;
}

bool checkpoint_begin_with(struct checkpoint_making *making, struct in_process *server, const struct file_io *io) {
    const struct checkpoint_options options = {.keyspace = server->keyspace, .prefix = "tier", .io = io};
    *making = (struct checkpoint_making){
        .server = server, .checkpoint = checkpoint_create(&options, checkpoint_error, sizeof(checkpoint_error))};
    if (!making->checkpoint) return false;
    const struct snapshot_options snapshot = {.keyspace = server->keyspace,
                                              .sink = checkpoint_sink(making->checkpoint),
                                              .lanes = 1,
                                              .stepped = true,
                                              .complete = given,
                                              .ctx = making};
    making->snapshot = snapshot_create(&snapshot);
    assert_non_null(making->snapshot);
    checkpoint_cut(making->checkpoint, &checkpoint_fixture_journal);
    assert_true(snapshot_begin(making->snapshot));
    return true;
}

void checkpoint_begin(struct checkpoint_making *making, struct in_process *server) {
    if (!checkpoint_begin_with(making, server, NULL)) fail_msg("%s", checkpoint_error);
}

bool checkpoint_end(struct checkpoint_making *making, struct checkpoint_figures *figures) {
    while (snapshot_step(making->snapshot, 0)) continue;
    assert_true(making->over);
    in_process_settle(making->server);
    bool whole = making->whole && !making->gives_up;
    bool counts = checkpoint_complete(making->checkpoint, whole, checkpoint_error, sizeof(checkpoint_error));
    if (figures) *figures = checkpoint_figures(making->checkpoint);
    snapshot_destroy(making->snapshot);
    checkpoint_destroy(making->checkpoint);
    tier_note_checkpoints(making->server->tier, counts);
    assert_true(segment_table_validate(tier_segments(making->server->tier)));
    return counts;
}

struct checkpoint_figures checkpoint_make(struct in_process *server) {
    struct checkpoint_making making;
    struct checkpoint_figures figures;
    checkpoint_begin(&making, server);
    if (!checkpoint_end(&making, &figures)) fail_msg("%s", checkpoint_error);
    return figures;
}
