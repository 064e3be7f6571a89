/* A full copy: from the socket to a file, from the file into the keyspace.
 *
 *   "$<length>"        so many bytes of RDB; what follows is the stream
 *   "$EOF:<40 bytes>"  RDB up to the same 40 bytes; the primary sends nothing behind them before it is answered
 *
 * The file is looked through before the dataset is given up: what was cut short or damaged on its way costs nothing but
 * another try. What turns out to be unusable only while it is loaded has cost the dataset; the server is then empty,
 * with a history of its own, and asks for all of it again.
 *
 * At the end the file becomes the snapshot of this server: it names id and offset, so that a server which ends without
 * a snapshot of its own can go on from here. */

#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "persist/crc64.h"
#include "server/primary_link_private.h"
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHECKSUM_BYTES = 8, CHECK_PIECE_BYTES = 256 * 1024, HEAD_BYTES = 9 /* "REDIS0010" */ };

static bool fail(char *why, const char *what) {
    snprintf(why, LINK_LINE_MAX, "%s: %s", what, strerror(errno));
    return false;
}

/* ---- receiving ---- */

static bool write_file(struct primary_link *link, int fd, size_t bytes, char *why) {
    for (size_t done = 0; done < bytes;) {
        ssize_t wrote = write(fd, link->bytes + done, bytes - done);
        if (wrote < 0 && errno != EINTR) return fail(why, "cannot write the copy to a file in `dir`");
        if (wrote > 0) done += (size_t)wrote;
    }
    link_consume(link, bytes);
    atomic_fetch_add(&link->transfer_read, bytes);
    return true;
}

static bool receive_bytes(struct primary_link *link, int fd, uint64_t total, char *why) {
    while (total > 0) {
        if (!link->length && !link_receive(link, why)) return false;
        size_t bytes = total < link->length ? (size_t)total : link->length;
        if (!write_file(link, fd, bytes, why)) return false;
        total -= bytes;
    }
    return true;
}

static bool ends_with_mark(const struct primary_link *link, const char *mark) {
    return link->length >= REPLICATION_MARK &&
           memcmp(link->bytes + link->length - REPLICATION_MARK, mark, REPLICATION_MARK) == 0;
}

static bool receive_to_mark(struct primary_link *link, int fd, const char *mark, char *why) {
    while (!ends_with_mark(link, mark)) {
        if (link->length > REPLICATION_MARK && !write_file(link, fd, link->length - REPLICATION_MARK, why))
            return false;
        if (!link_receive(link, why)) return false;
    }
    if (!write_file(link, fd, link->length - REPLICATION_MARK, why)) return false;
    link->length = 0;
    return true;
}

bool link_copy_head(struct primary_link *link, struct link_copy_head *head, char *why) {
    char line[LINK_LINE_MAX];
    int64_t total;
    *head = (struct link_copy_head){0};
    if (!link_line(link, line, why)) return false;
    atomic_store(&link->transfer_total, 0);
    atomic_store(&link->transfer_read, 0);
    if (strncmp(line, "$EOF:", 5) == 0 && strlen(line) == 5 + REPLICATION_MARK) {
        memcpy(head->mark, line + 5, REPLICATION_MARK);
        return true;
    }
    if (line[0] != '$' || !number_parse_i64(span_of_text(line + 1), &total) || total < 0) {
        snprintf(why, LINK_LINE_MAX, "the primary did not send a copy but '%.300s'", line);
        return false;
    }
    head->total = (uint64_t)total;
    atomic_store(&link->transfer_total, head->total);
    return true;
}

static bool receive(struct primary_link *link, int fd, char *why) {
    struct link_copy_head head;
    if (!link_copy_head(link, &head, why)) return false;
    if (head.mark[0]) {
        log_notice("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk");
        return receive_to_mark(link, fd, head.mark, why);
    }
    log_notice("MASTER <-> REPLICA sync: receiving %llu bytes from master to disk", (unsigned long long)head.total);
    return receive_bytes(link, fd, head.total, why);
}

/* Whether the file's checksum is right, as far as it has one. */
static bool check(int fd, char *why) {
    static const char magic[] = "REDIS";
    struct stat status;
    unsigned char sum[CHECKSUM_BYTES], *piece = malloc(CHECK_PIECE_BYTES);
    uint64_t crc = 0, wanted = 0;
    bool whole = piece && fstat(fd, &status) == 0 && status.st_size > HEAD_BYTES + CHECKSUM_BYTES &&
                 pread(fd, sum, sizeof(sum), status.st_size - CHECKSUM_BYTES) == CHECKSUM_BYTES;
    off_t end = whole ? status.st_size - CHECKSUM_BYTES : 0;
    for (off_t at = 0; whole && at < end;) {
        size_t wish = end - at < CHECK_PIECE_BYTES ? (size_t)(end - at) : CHECK_PIECE_BYTES;
        ssize_t got = pread(fd, piece, wish, at);
        whole = got > 0 && (at > 0 || memcmp(piece, magic, sizeof(magic) - 1) == 0);
        if (!whole) break;
        crc = crc64(crc, piece, (size_t)got);
        at += got;
    }
    free(piece);
    for (unsigned i = 0; whole && i < CHECKSUM_BYTES; i++) wanted |= (uint64_t)sum[i] << 8 * i;
    if (whole && (wanted == 0 || wanted == crc)) return true;
    snprintf(why, LINK_LINE_MAX, "what the primary sent is no whole RDB: its checksum is wrong; the old data is kept");
    return false;
}

bool link_receive_copy(struct primary_link *link, char *why) {
    snprintf(link->file, sizeof(link->file), "temp-%lld.%d.rdb", (long long)(clock_unix_ms() / 1000), (int)getpid());
    int fd = open(link->file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return fail(why, "cannot make a file for the copy in `dir`");
    bool received = receive(link, fd, why) && check(fd, why);
    close(fd);
    if (!received) unlink(link->file);
    return received;
}

/* ---- loading ---- */

static void flush_all(struct server *server, struct worker *worker) {
    struct view view = {.keyspace = server->keyspace, .locked_all = true, .now_ms = worker->dispatcher.now_ms};
    keyspace_lock_all(server->keyspace);
    for (; view.database < server->keyspace->database_count; view.database++) keyspace_flush(&view);
    keyspace_unlock_all(server->keyspace);
    own_expiry_forget(server);
}

bool link_stop_to_load(struct primary_link *link, struct worker *worker) {
    struct server *server = link->server;
    for (;;) {
        snapshot_job_stop(server);
        snapshot_job_wait(server, worker->id);
        server_stop_workers(server, worker->id);
        if (snapshot_job_purpose(server) == SNAPSHOT_NONE) break;
        server_resume_workers(server, worker->id);
    }
    return !link_is_cancelled(link) && !loading_is_active(&server->loading);
}

static void begin_load(struct worker *worker, void *argument) {
    struct primary_link *link = argument;
    struct server *server = link->server;
    struct stat status = {0};
    link->failed = !link_stop_to_load(link, worker);
    if (!link->failed) {
        (void)!stat(link->file, &status);
        aof_suspend(server);
        loading_begin(server, worker->id, (uint64_t)status.st_size);
        log_notice("MASTER <-> REPLICA sync: Flushing old data");
        flush_all(server, worker);
        replication_adopt_history(server, link->new_id, link->new_offset);
        link_set_state(link, LINK_LOADING);
    }
    server_resume_workers(server, worker->id);
    link_mail_done(link);
}

/* Nobody may take what was loaded for the primary's dataset. */
static void give_up(struct primary_link *link, struct worker *worker) {
    char id[SERVER_RUN_ID + 1];
    server_make_id(id);
    flush_all(link->server, worker);
    replication_adopt_history(link->server, id, 0);
    tier_persist_withhold(link->server);
    link->without_history = true;
}

static void become_snapshot(struct primary_link *link) {
    if (rename(link->file, link->server->config.persistence.dbfilename) == 0) return;
    log_warning("the copy cannot become the snapshot of this server: %s", strerror(errno));
    unlink(link->file);
}

static void end_load(struct worker *worker, void *argument) {
    struct primary_link *link = argument;
    struct server *server = link->server;
    server_stop_workers(server, worker->id);
    loading_end(server, worker->id);
    if (link->failed) {
        give_up(link, worker);
    } else {
        become_snapshot(link);
        link->without_history = false;
        atomic_store(&server->replication.stream_database, link->database);
    }
    aof_resume(server);
    server_resume_workers(server, worker->id);
    link_mail_done(link);
}

bool link_load_copy(struct primary_link *link, char *why) {
    struct server *server = link->server;
    struct rdb_load_options options;
    struct rdb_load_result result = {0};
    link->failed = true;
    if (!link_call_worker(link, begin_load) || link->failed) {
        unlink(link->file);
        snprintf(why, LINK_LINE_MAX, "the link is no longer wanted, or the dataset is being loaded");
        return false;
    }
    log_notice("MASTER <-> REPLICA sync: Loading DB in memory");
    loading_options(server, &options);
    options.ignore_sidecar = true;
    link->failed = rdb_load_file(link->file, &options, &result) != RDB_DONE;
    link->database =
        result.replication_id[0] && result.replication_database >= 0 ? (int)result.replication_database : 0;
    if (link->failed) {
        snprintf(why, LINK_LINE_MAX, "Failed trying to load the MASTER synchronization DB: %.200s", result.reason);
        unlink(link->file);
    } else {
        save_note_loaded(server, result.keys, result.expired);
    }
    bool failed = link->failed;
    if (!link_call_worker(link, end_load)) return false;
    if (!failed) log_notice("MASTER <-> REPLICA sync: Finished with success");
    return !failed;
}
