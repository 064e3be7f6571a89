/* See tier_persist.h. A checkpoint is a snapshot job like any other: begun by worker 0, walked and completed by the
 * walker's thread, ended on worker 0. */

#include "server/tier_persist.h"

#include "base/clock.h"
#include "base/log.h"
#include "persist/aof_manifest.h"
#include "persist/recovery.h"
#include "server/aof_rewrite.h"
#include "server/pmem_start.h"
#include "server/server.h"
#include "server/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { GROWTH_PART = 4, RETRY_MS = 5000, PRESSED_MS = 1000, NAME_ROOM = 512, LINE_ROOM = 256, ERROR_ROOM = 512 };

/* A checkpoint that is made, or is to be: whoever began it has it alone until the job is taken. */
struct run {
    struct server *server;
    struct checkpoint *checkpoint;
    int64_t started_ms;
    uint64_t changes; /* of the keyspace, at the cut */
    char error[ERROR_ROOM];
    /* The increment that begins at the cut. */
    struct checkpoint_journal journal;
    char increment[NAME_ROOM];
    struct aof_writer_file file; /* fd -1: none, or the writer has it */
    bool given, named, cut;
    bool beside_rewrite;     /* it was refused for one */
    bool wanted;             /* tier_persist.wanted, until the cut */
    struct pmem_place place; /* of the cut, in the journal of a pool */
};

static bool persists(const struct server *server) {
    return server->tier && tier_pool_of(server->tier);
}

/* A device has no folder where files could stand. */
void tier_persist_prefix(const struct server *server, char prefix[CHECKPOINT_PATH_MAX]) {
    const char *path = server->pmem ? pmem_start_path(server) : server->config.tier.path, *name = strrchr(path, '/');
    snprintf(prefix, CHECKPOINT_PATH_MAX, "%s", tier_is_device(server->tier) && name ? name + 1 : path);
}

struct pmem_place tier_persist_pool_place(const struct server *server) {
    const struct tier_pool_manifest *manifest = &tier_pool_of(server->tier)->manifest;
    return (struct pmem_place){manifest->pmem_sequence, manifest->pmem_position};
}

void tier_persist_history(const struct server *server, struct rdb_history *history) {
    const struct tier_pool_manifest *manifest = &tier_pool_of(server->tier)->manifest;
    *history = (struct rdb_history){.database = -1};
    if (!(manifest->flags & TIER_MANIFEST_HAS_HISTORY)) return;
    memcpy(history->id, manifest->history_id, TIER_HISTORY_ID);
    history->offset = manifest->history_offset;
    history->database = manifest->history_database;
}

bool tier_persist_has_checkpoint(const struct server *server) {
    return persists(server) && tier_pool_of(server->tier)->manifest.number > 0;
}

/* ---- the journal ---- */

/* What tells an increment from another of the same name. */
static bool mark_of(const struct server *server, const char *name, uint64_t *mark) {
    char path[PATH_MAX], line[LINE_ROOM];
    snprintf(path, sizeof(path), "%s/%s", aof_directory(server), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, line, sizeof(line)) : -1;
    if (fd >= 0) close(fd);
    const char *end = length > 0 ? memchr(line, '\n', (size_t)length) : NULL;
    if (!end) return false;
    *mark = XXH3_64bits(line, (size_t)(end - line));
    return true;
}

/* A checkpoint of a server that writes an append-only file needs an increment to begin with. With a pool that file is
 * but a copy, and the pool's own journal goes on. */
static bool make_increment(struct run *run) {
    struct server *server = run->server;
    struct aof *aof = &server->aof;
    if (server->pmem || atomic_load(&aof->state) != AOF_ON || !aof->writer) return true;
    pthread_mutex_lock(&aof->lock);
    run->beside_rewrite = aof->rewrite;
    bool fits = aof->manifest_known && !aof->rewrite &&
                aof_manifest_next_increment_name(&aof->manifest, server->config.persistence.append_filename,
                                                 run->increment, NAME_ROOM);
    run->journal.sequence = aof->manifest.increment_sequence + 1;
    pthread_mutex_unlock(&aof->lock);
    errno = EBUSY;
    if (!fits || !aof_make_increment(server, run->increment, &run->file)) return false;
    run->journal.present = mark_of(server, run->increment, &run->journal.mark);
    return run->journal.present;
}

/* On the writer's thread: all before the cut is on the disk. */
static bool name_increment(void *ctx) {
    struct run *run = ctx;
    struct aof *aof = &run->server->aof;
    const char *stem = run->server->config.persistence.append_filename;
    struct aof_manifest with;
    errno = ENOMEM;
    pthread_mutex_lock(&aof->lock);
    bool stored = aof_manifest_copy(&with, &aof->manifest);
    if (stored) {
        stored = aof_manifest_add_increment(&with, stem) &&
                 aof_manifest_store(&with, &file_io_system, aof_directory(run->server), stem);
        struct aof_manifest unused = stored ? aof->manifest : with;
        if (stored) aof->manifest = with;
        int error = errno;
        aof_manifest_free(&unused);
        errno = error;
    }
    run->named = stored;
    pthread_mutex_unlock(&aof->lock);
    return stored;
}

static void switch_increment(struct run *run) {
    struct server *server = run->server;
    struct aof *aof = &server->aof;
    journal_forget_database(server->journal);
    aof->other_bytes += aof_writer_figures(aof->writer).file_bytes;
    aof_writer_switch(aof->writer, journal_end(server->journal), &run->file, name_increment, run);
    run->given = true;
    run->file.fd = -1;
}

/* Until the manifest names the increment; false: it does not. */
static bool await_increment(struct run *run) {
    struct aof *aof = &run->server->aof;
    if (!run->given) return true;
    pthread_mutex_lock(&aof->writer_lock);
    if (aof->writer) aof_writer_await_switch(aof->writer);
    pthread_mutex_unlock(&aof->writer_lock);
    pthread_mutex_lock(&aof->lock);
    bool named = run->named;
    pthread_mutex_unlock(&aof->lock);
    return named;
}

/* ---- making ---- */

static void note_history(struct run *run) {
    struct rdb_history history;
    /* The journal of a pool goes on whether anybody has asked for a backlog or not. */
    run->journal.has_history =
        replication_find_history(run->server, &history) || pmem_gate_is_open(&run->server->pmem_gate);
    memcpy(run->journal.history_id, history.id, sizeof(run->journal.history_id));
    run->journal.history_offset = history.offset;
    run->journal.history_database = history.database;
}

static bool cut(void *ctx) {
    struct run *run = ctx;
    struct server *server = run->server;
    if (run->journal.present) {
        if (!server->aof.writer || atomic_load(&server->aof.state) != AOF_ON) return false;
        if (!aof_begin_in_database(server, &run->file)) return false;
        switch_increment(run);
    }
    if (server->pmem) {
        run->place = pmem_gate_cut(server);
        run->journal.in_pool = true;
        run->journal.pool_sequence = run->place.sequence;
        run->journal.pool_position = run->place.position;
    }
    note_history(run);
    run->changes = keyspace_changes(server->keyspace);
    run->wanted = server->tier_persist.wanted;
    server->tier_persist.wanted = false;
    checkpoint_cut(run->checkpoint, &run->journal);
    run->cut = true;
    return true;
}

static bool complete(void *ctx, bool whole) {
    struct run *run = ctx;
    run->error[0] = '\0';
    if (!run->cut) return false; /* stopped, or out of memory, before there was anything to give up */
    return checkpoint_complete(run->checkpoint, await_increment(run) && whole, run->error, sizeof(run->error));
}

static void note_made(struct server *server, const struct run *run) {
    struct tier_persist *persist = &server->tier_persist;
    persist->last = checkpoint_figures(run->checkpoint);
    persist->last_ms = clock_unix_ms();
    persist->last_duration_ms = persist->last_ms - run->started_ms;
    persist->made++;
    persist->number = persist->last.number;
    persist->changes_at = run->changes;
    persist->journal_sequence = run->journal.present ? run->journal.sequence : 0;
    log_notice("checkpoint %llu of the tier: %llu keys, images: %llu written, %llu kept, in %lld.%03lld s",
               (unsigned long long)persist->last.number, (unsigned long long)persist->last.keys,
               (unsigned long long)(persist->last.images + persist->last.page_images),
               (unsigned long long)(persist->last.images_kept + persist->last.page_images_kept),
               (long long)persist->last_duration_ms / 1000, (long long)persist->last_duration_ms % 1000);
}

/* The journal of a pool gets its space from checkpoints. */
static void note_pool_journal(const struct run *run, bool whole) {
    struct server *server = run->server;
    if (!server->pmem) return;
    if (whole)
        pmem_gate_checkpointed(server, run->place);
    else
        pmem_gate_checkpoint_failed(server);
}

static void close_run(struct run *run) {
    checkpoint_destroy(run->checkpoint);
    if (run->file.fd >= 0) {
        close(run->file.fd);
        aof_unlink(run->server, run->increment);
    }
    free(run);
}

static void ended(void *ctx, bool whole) {
    struct run *run = ctx;
    struct server *server = run->server;
    struct tier_persist *persist = &server->tier_persist;
    persist->failed = !whole;
    if (whole) {
        note_made(server, run);
    } else {
        persist->failures++;
        persist->wanted = persist->wanted || run->wanted;
        persist->next_ms = clock_unix_ms() + RETRY_MS;
        log_warning("%s", run->error[0] ? run->error : "checkpoint: was stopped");
    }
    tier_note_checkpoints(server->tier, whole);
    note_pool_journal(run, whole);
    close_run(run);
    atomic_store(&persist->making, false);
}

enum beginning { BEGUN, NOT_BEGUN, BESIDE_ANOTHER };

/* False: it could not be created, or another snapshot has been started meanwhile. */
static bool start(struct run *run, char error[ERROR_ROOM]) {
    struct server *server = run->server;
    char prefix[CHECKPOINT_PATH_MAX];
    tier_persist_prefix(server, prefix);
    struct checkpoint_options options = {.keyspace = server->keyspace, .prefix = prefix};
    snprintf(error, ERROR_ROOM, "checkpoint: a new increment of the append-only file: busy");
    if (make_increment(run)) run->checkpoint = checkpoint_create(&options, error, ERROR_ROOM);
    if (!run->checkpoint) return false;
    struct snapshot_task task = {.purpose = SNAPSHOT_CHECKPOINT,
                                 .lanes = 1,
                                 .sink = checkpoint_sink(run->checkpoint),
                                 .cut = cut,
                                 .complete = complete,
                                 .ended = ended,
                                 .ctx = run};
    return snapshot_job_start(server, &task);
}

/* On any worker's thread. NOT_BEGUN: the text says why. BESIDE_ANOTHER: another snapshot runs, a rewrite of the
 * append-only file is being prepared, which would have an increment of the same name, or a checkpoint is being begun on
 * another worker's thread; a second one would have the same number and the same files. */
static enum beginning begin(struct server *server, char error[ERROR_ROOM]) {
    struct tier_persist *persist = &server->tier_persist;
    if (atomic_exchange(&persist->making, true)) return BESIDE_ANOTHER;
    struct run *run = calloc(1, sizeof(*run));
    snprintf(error, ERROR_ROOM, "checkpoint: no memory");
    if (run) {
        run->server = server;
        run->started_ms = clock_unix_ms();
        run->file.fd = -1;
        if (start(run, error)) return BEGUN;
    }
    bool beside = run && (run->checkpoint || run->beside_rewrite);
    if (run && !beside) note_pool_journal(run, false);
    if (run) close_run(run);
    atomic_store(&persist->making, false);
    return beside ? BESIDE_ANOTHER : NOT_BEGUN;
}

/* ---- when ---- */

/* The append-only file has been rewritten, and the increments that the last checkpoint needs are gone. */
static bool has_lost_journal(struct server *server) {
    struct aof *aof = &server->aof;
    uint64_t needed = server->tier_persist.journal_sequence;
    if (server->pmem || atomic_load(&aof->state) != AOF_ON) return false;
    bool found = false;
    pthread_mutex_lock(&aof->lock);
    for (uint32_t i = 0; i < aof->manifest.count; i++)
        found =
            found || (aof->manifest.files[i].type == AOF_FILE_INCREMENT && aof->manifest.files[i].sequence == needed);
    pthread_mutex_unlock(&aof->lock);
    return !found;
}

static bool is_due(struct server *server, int64_t now_ms) {
    const struct tier_persist *persist = &server->tier_persist;
    int64_t interval_ms = server->config.tier.checkpoint_seconds * 1000;
    if (now_ms < persist->next_ms) return false;
    if (server->pmem && pmem_gate_wants_checkpoint(server)) return true;
    if (tier_wants_checkpoint(server->tier) && now_ms - persist->last_ms >= PRESSED_MS) return true;
    if (persist->wanted) return true;
    if (interval_ms == 0) return false;
    int64_t since_ms = persist->last_ms ? persist->last_ms : server->started_ms;
    if (persist->made && has_lost_journal(server)) return true;
    return now_ms - since_ms >= interval_ms && keyspace_changes(server->keyspace) != persist->changes_at;
}

void tier_persist_hasten(struct server *server) {
    server->tier_persist.wanted = persists(server);
    server->tier_persist.withheld = false;
}

void tier_persist_withhold(struct server *server) {
    server->tier_persist.withheld = true;
}

static bool is_withheld(const struct server *server) {
    return server->tier_persist.withheld && replication_is_replica(&server->replication);
}

/* Records may take what the memory limit leaves beside the indexes; without one, a little more than they do now. */
static void keep_room(struct server *server) {
    size_t limit = (size_t)server->config.memory.maxmemory_bytes, index = keyspace_index_bytes(server->keyspace);
    size_t resident = keyspace_resident_bytes(server->keyspace);
    size_t most = limit > index ? limit - index : 0;
    if (!limit || most < resident) most = resident + resident / GROWTH_PART;
    tier_keep_for_images(server->tier, resident, most);
}

void tier_persist_tick(struct server *server) {
    int64_t now_ms = clock_unix_ms();
    if (!persists(server) || atomic_load(&server->quitting)) return;
    if (snapshot_job_purpose(server) != SNAPSHOT_CHECKPOINT) keep_room(server);
    if (loading_is_active(&server->loading)) return;
    if (snapshot_job_purpose(server) != SNAPSHOT_NONE || is_withheld(server) || !is_due(server, now_ms)) return;
    char error[ERROR_ROOM];
    if (begin(server, error) != NOT_BEGUN) return;
    server->tier_persist.next_ms = now_ms + RETRY_MS;
    server->tier_persist.failures++;
    tier_note_checkpoints(server->tier, false);
    log_warning("%s", error);
}

bool tier_persist_now(struct server *server, unsigned worker) {
    char error[ERROR_ROOM];
    if (!persists(server) || is_withheld(server)) return true;
    uint64_t made = server->tier_persist.made;
    enum beginning beginning = begin(server, error);
    /* A tick may have begun one, perhaps of before the last writes; a rewrite has just been asked for. */
    while (beginning == BESIDE_ANOTHER) {
        aof_rewrite_withdraw(server, worker);
        snapshot_job_wait(server, worker);
        if (server->worker_count > 1) server_safe_point(server);
        made = server->tier_persist.made;
        beginning = begin(server, error);
    }
    if (beginning == NOT_BEGUN) {
        log_warning("%s", error);
        return false;
    }
    snapshot_job_wait(server, worker);
    return server->tier_persist.made != made;
}

/* ---- the start ---- */

static const struct aof_file *increment_of(const struct aof_manifest *manifest, uint64_t sequence) {
    for (uint32_t i = 0; i < manifest->count; i++)
        if (manifest->files[i].type == AOF_FILE_INCREMENT && manifest->files[i].sequence == sequence)
            return &manifest->files[i];
    return NULL;
}

/* Leaves what is behind the checkpoint in the manifest; false: that is not there. */
static bool take_tail(const struct server *server, const struct tier_pool_manifest *checkpoint,
                      struct aof_manifest *manifest) {
    const struct aof_file *first = increment_of(manifest, checkpoint->aof_sequence);
    uint64_t mark;
    if (!(checkpoint->flags & TIER_MANIFEST_HAS_AOF) || !first || !mark_of(server, first->name, &mark) ||
        mark != checkpoint->aof_mark)
        return false;
    for (uint32_t i = manifest->count; i-- > 0;) {
        const struct aof_file *file = &manifest->files[i];
        if (file->type == AOF_FILE_INCREMENT && file->sequence >= checkpoint->aof_sequence) continue;
        char name[NAME_ROOM];
        snprintf(name, sizeof(name), "%s", file->name);
        aof_manifest_forget(manifest, name);
    }
    return true;
}

static bool load_collections(struct server *server, const char *path) {
    struct rdb_load_options options;
    struct rdb_load_result result;
    loading_options(server, &options);
    if (rdb_load_file(path, &options, &result) == RDB_DONE) return true;
    log_warning("the collections of the tier's checkpoint cannot be loaded: %s: %s", path, result.reason);
    return false;
}

/* Nothing is to be loaded behind the checkpoint. */
static void note_found_history(struct server *server) {
    struct rdb_history history;
    tier_persist_history(server, &history);
    if (history.id[0]) start_load_note_history(server, history.id, history.offset, history.database);
}

enum tier_persist_loaded tier_persist_load(struct server *server, struct aof_manifest *manifest) {
    struct tier_persist *persist = &server->tier_persist;
    struct recovery_result result;
    struct rdb_load_options load;
    char prefix[CHECKPOINT_PATH_MAX];
    int64_t started_ms = clock_unix_ms();
    if (!tier_persist_has_checkpoint(server)) return TIER_PERSIST_NOTHING;
    if (manifest && !take_tail(server, &tier_pool_of(server->tier)->manifest, manifest)) {
        log_warning("the append-only file does not go on behind the tier's checkpoint: it is loaded instead of it");
        if (tier_forget(server->tier)) return TIER_PERSIST_NOTHING;
        log_warning("the tier's file cannot be written: %s", strerror(errno));
        return TIER_PERSIST_FAILED;
    }
    tier_persist_prefix(server, prefix);
    loading_options(server, &load);
    const struct recovery_options options = {.keyspace = server->keyspace,
                                             .prefix = prefix,
                                             .threads = load.threads,
                                             .keys = &server->loading.progress.loaded_keys};
    if (recovery_run(&options, &result) != RECOVERY_DONE) {
        log_warning("the tier's last checkpoint cannot be used: %s", result.reason);
        return TIER_PERSIST_FAILED;
    }
    if (result.has_collections && !load_collections(server, result.collections)) return TIER_PERSIST_FAILED;
    if (!server->offline) recovery_remove_leftovers(server->tier, prefix);
    persist->journal_sequence = result.has_journal ? result.journal_sequence : 0;
    persist->number = result.number;
    persist->recovered_keys = result.keys;
    persist->recovery_ms = clock_unix_ms() - started_ms;
    persist->last_ms = result.cut_ms;
    if (!manifest && !server->pmem) note_found_history(server);
    log_notice("DB recovered from checkpoint %llu of the tier: %llu keys in %.3f seconds",
               (unsigned long long)result.number, (unsigned long long)result.keys, (double)persist->recovery_ms / 1000);
    return TIER_PERSIST_LOADED;
}

/* ---- INFO ---- */

void tier_persist_info(const struct server *server, struct text *text) {
    const struct tier_persist *persist = &server->tier_persist;
    text_add(text, "tier_persist:%d\r\ntier_checkpoint_in_progress:%d\r\n", persists(server),
             snapshot_job_purpose(server) == SNAPSHOT_CHECKPOINT);
    text_add(text, "tier_checkpoint_number:%llu\r\ntier_checkpoint_time:%lld\r\ntier_checkpoint_status:%s\r\n",
             (unsigned long long)persist->number, (long long)persist->last_ms / 1000, persist->failed ? "err" : "ok");
    text_add(text, "tier_checkpoints:%llu\r\ntier_checkpoint_failures:%llu\r\ntier_checkpoint_duration_ms:%lld\r\n",
             (unsigned long long)persist->made, (unsigned long long)persist->failures,
             (long long)persist->last_duration_ms);
    text_add(text, "tier_checkpoint_keys:%llu\r\ntier_checkpoint_images:%llu\r\ntier_checkpoint_image_bytes:%llu\r\n",
             (unsigned long long)persist->last.keys, (unsigned long long)persist->last.images,
             (unsigned long long)persist->last.image_bytes);
    text_add(text, "tier_checkpoint_images_kept:%llu\r\ntier_checkpoint_pages:%llu\r\n",
             (unsigned long long)persist->last.images_kept, (unsigned long long)persist->last.pages);
    text_add(text, "tier_checkpoint_page_images:%llu\r\ntier_checkpoint_page_images_kept:%llu\r\n",
             (unsigned long long)persist->last.page_images, (unsigned long long)persist->last.page_images_kept);
    text_add(text, "tier_recovered_keys:%llu\r\ntier_recovery_ms:%lld\r\n", (unsigned long long)persist->recovered_keys,
             (long long)persist->recovery_ms);
}
