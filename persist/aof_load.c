/* Loading the files of an append-only log one after the other, and making an end of a torn one.
 *
 * The torn end of the last file is cut off before loading counts as done, so that what is loaded is what the files
 * hold. A file that is not the last one can be torn too: if the power fails while a rewrite has just changed files, the
 * end of the old one may be gone while something of the new one is there. Writers sync the old file before anything of
 * the new one counts, so if no closing of the later files knows of a sync, nothing in them was ever acknowledged, and
 * what is loaded ends where the torn file does. The steps, and what a start finds if the power fails behind each:
 *
 *   1. the later files are emptied and synced      the torn file with empty ones behind it: the same case again
 *   2. the torn file is cut and synced             whole files */

#include "persist/aof_load.h"

#include "persist/aof_layout.h"
#include "persist/aof_stream.h"
#include "persist/aof_survey.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct loader {
    const struct aof_load_options *options;
    struct aof_load_result *result;
    const char *directory;               /* NULL: a single file */
    const struct aof_manifest *manifest; /* NULL: a single file */
};

struct open_file {
    char path[PATH_MAX];
    const char *name; /* as messages tell it */
    int fd;
    uint64_t bytes;
};

typedef unsigned long long ull;

/* ---- what went wrong ---- */

static enum aof_load_status fail(struct loader *loader, enum aof_load_status status, const char *name, uint64_t from,
                                 uint64_t to) {
    struct aof_load_result *result = loader->result;
    result->status = status;
    result->from = from;
    result->to = to;
    snprintf(result->file, sizeof(result->file), "%s", name);
    return status;
}

static enum aof_load_status fail_with_errno(struct loader *loader, const char *name, const char *what) {
    snprintf(loader->result->reason, sizeof(loader->result->reason), "the append only file %.200s %s: %s", name, what,
             strerror(errno));
    return fail(loader, errno == ENOMEM ? AOF_LOAD_NO_MEMORY : AOF_LOAD_IO, name, 0, 0);
}

static enum aof_load_status fail_for_corruption(struct loader *loader, const struct open_file *file, const char *what,
                                                uint64_t from, uint64_t to) {
    char *reason = loader->result->reason;
    const size_t room = sizeof(loader->result->reason);
    if (to > from)
        snprintf(reason, room,
                 "Bad file format reading the append only file %.120s: bytes %llu to %llu are damaged: %s. Restore it "
                 "from a copy; or, to give up whatever was written from there on, truncate -s %llu on a copy of it",
                 file->name, (ull)from, (ull)to, what, (ull)from);
    else
        snprintf(
            reason, room,
            "Bad file format reading the append only file %.120s at byte %llu: %s. Restore it from a copy; or make "
            "a copy, and redis-check-aof --fix cuts it where the last whole command ends",
            file->name, (ull)from, what);
    return fail(loader, AOF_LOAD_CORRUPT, file->name, from, to);
}

static enum aof_load_status fail_for_torn(struct loader *loader, const struct open_file *file, const char *what,
                                          uint64_t from, bool last) {
    const char *hint = last ? "aof-load-truncated yes lets the server cut it there"
                            : "it is not the last file: restore it from a copy";
    snprintf(loader->result->reason, sizeof(loader->result->reason),
             "Unexpected end of file reading the append only file %.120s: %s, from byte %llu on to its end at %llu; %s",
             file->name, what, (ull)from, (ull)file->bytes, hint);
    return fail(loader, last ? AOF_LOAD_TORN : AOF_LOAD_CORRUPT, file->name, from, file->bytes);
}

/* ---- files ---- */

static enum aof_load_status open_file(struct loader *loader, const char *name, struct open_file *file) {
    struct stat status;
    file->name = name;
    int length = loader->directory == NULL ? snprintf(file->path, sizeof(file->path), "%s", name)
                                           : snprintf(file->path, sizeof(file->path), "%s/%s", loader->directory, name);
    if ((size_t)length >= sizeof(file->path)) {
        errno = ENAMETOOLONG;
        return fail_with_errno(loader, name, "cannot be opened");
    }
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0) return fail_with_errno(loader, name, "cannot be opened");
    if (fstat(file->fd, &status) != 0) {
        enum aof_load_status failed = fail_with_errno(loader, name, "cannot be read");
        close(file->fd);
        return failed;
    }
    file->bytes = (uint64_t)status.st_size;
    return AOF_LOAD_DONE;
}

/* Durably. */
static bool cut_file(const struct loader *loader, const char *path, uint64_t length) {
    const struct file_io *io = loader->options->io != NULL ? loader->options->io : &file_io_system;
    int fd = io->open(io->ctx, path, O_WRONLY, 0);
    if (fd < 0) return false;
    bool cut = io->truncate(io->ctx, fd, (int64_t)length) == 0 && io->sync(io->ctx, fd) == 0;
    int error = errno;
    io->close(io->ctx, fd);
    errno = error;
    return cut;
}

/* Whether nothing in this increment was ever known to be synced; its length is taken along. */
static bool nothing_was_synced(const struct open_file *file) {
    char text[AOF_CHECK_LINE_MAX];
    struct aof_annotation header;
    struct aof_survey survey;
    if (file->bytes == 0) return true;
    ssize_t got = pread(file->fd, text, sizeof(text), 0);
    const char *newline = got > 0 ? memchr(text, '\n', (size_t)got) : NULL;
    if (newline == NULL) return false;
    size_t first = (size_t)(newline + 1 - text);
    if (aof_check_classify(span_of(text, first), &header) != AOF_LINE_HEADER) return false;
    /* The first batch begins behind the header, so it is looked for from the byte before. */
    if (!aof_survey_run(file->fd, first - 1, file->bytes, 0, &survey)) return false;
    return survey.synced <= first && !survey.silent;
}

/* The increments behind the manifest's entry `at` hold nothing that was acknowledged: they are looked at, or emptied.
 */
static bool later_files(struct loader *loader, uint32_t at, bool empty_them) {
    for (uint32_t i = at + 1; i < loader->manifest->count; i++) {
        struct open_file file;
        if (loader->manifest->files[i].type == AOF_FILE_HISTORY) continue;
        if (open_file(loader, loader->manifest->files[i].name, &file) != AOF_LOAD_DONE) return false;
        bool fine = empty_them ? cut_file(loader, file.path, 0) : nothing_was_synced(&file);
        if (empty_them && fine) loader->result->torn_bytes += file.bytes;
        close(file.fd);
        if (!fine) return false;
    }
    return true;
}

/* ---- one file ---- */

/* What stands in front of the commands, if it is RDB; `*bytes` is its length. */
static enum aof_load_status load_rdb(struct loader *loader, const struct open_file *file, uint64_t *bytes) {
    char magic[sizeof(AOF_RDB_MAGIC) - 1];
    struct rdb_load_result rdb;
    *bytes = 0;
    if (pread(file->fd, magic, sizeof(magic), 0) != (ssize_t)sizeof(magic) ||
        memcmp(magic, AOF_RDB_MAGIC, sizeof(magic)) != 0)
        return AOF_LOAD_DONE;
    if (loader->options->rdb == NULL) return fail_for_corruption(loader, file, "it is not expected to hold RDB", 0, 0);
    enum rdb_status status = rdb_load_file(file->path, loader->options->rdb, &rdb);
    loader->result->base_keys += rdb.keys;
    *bytes = rdb.bytes;
    if (loader->options->progress != NULL)
        atomic_fetch_add_explicit(&loader->options->progress->loaded_bytes, rdb.bytes, memory_order_relaxed);
    if (status == RDB_DONE) return AOF_LOAD_DONE;
    snprintf(loader->result->reason, sizeof(loader->result->reason), "the RDB in the append only file %.120s: %.200s",
             file->name, rdb.reason);
    return fail(loader,
                status == RDB_IO          ? AOF_LOAD_IO
                : status == RDB_NO_MEMORY ? AOF_LOAD_NO_MEMORY
                : status == RDB_CANCELLED ? AOF_LOAD_CANCELLED
                                          : AOF_LOAD_CORRUPT,
                file->name, rdb.offset, 0);
}

/* Every file begins in database 0, whatever the one before has left selected. */
static enum aof_load_status select_first(struct loader *loader, const struct open_file *file) {
    struct span argv[2] = {SPAN_LITERAL("SELECT"), SPAN_LITERAL("0")};
    struct aof_command command = {.argv = argv, .argc = 2};
    const char *refusal = NULL;
    if (loader->options->apply(loader->options->ctx, &command, 1, &refusal)) return AOF_LOAD_DONE;
    snprintf(loader->result->reason, sizeof(loader->result->reason), "%s",
             refusal != NULL ? refusal : "it was stopped");
    return fail(loader, AOF_LOAD_REFUSED, file->name, 0, 0);
}

/* A torn end: it is cut off, and with it later files if there are any, or it is refused. */
static enum aof_load_status end_torn(struct loader *loader, const struct open_file *file, uint32_t at, bool last,
                                     const struct aof_stream_verdict *verdict) {
    bool cuts = loader->options->truncate && (last || later_files(loader, at, false));
    if (!cuts) return fail_for_torn(loader, file, verdict->what, verdict->from, last);
    if ((!last && !later_files(loader, at, true)) || !cut_file(loader, file->path, verdict->from)) {
        fail_with_errno(loader, file->name, "cannot be cut where its whole commands end");
        return loader->result->status = AOF_LOAD_TORN;
    }
    loader->result->torn_bytes += file->bytes - verdict->from;
    fail(loader, AOF_LOAD_DONE, file->name, verdict->from, file->bytes);
    snprintf(loader->result->reason, sizeof(loader->result->reason), "%s", verdict->what);
    return AOF_LOAD_DONE;
}

static enum aof_load_status judge(struct loader *loader, const struct open_file *file, uint32_t at, bool last,
                                  const struct aof_stream_verdict *verdict) {
    switch (verdict->end) {
    case AOF_STREAM_WHOLE: return AOF_LOAD_DONE;
    case AOF_STREAM_TORN: return end_torn(loader, file, at, last, verdict);
    case AOF_STREAM_CORRUPT: return fail_for_corruption(loader, file, verdict->what, verdict->from, verdict->to);
    case AOF_STREAM_IO: return fail_with_errno(loader, file->name, "cannot be read");
    case AOF_STREAM_CANCELLED: return fail(loader, AOF_LOAD_CANCELLED, file->name, verdict->from, 0);
    case AOF_STREAM_NO_MEMORY:
    case AOF_STREAM_REFUSED: break;
    }
    snprintf(loader->result->reason, sizeof(loader->result->reason),
             "%.200s reading the append only file %.120s, from byte %llu on: it was not loaded",
             verdict->what != NULL ? verdict->what : "stopped", file->name, (ull)verdict->from);
    return fail(loader, verdict->end == AOF_STREAM_REFUSED ? AOF_LOAD_REFUSED : AOF_LOAD_NO_MEMORY, file->name,
                verdict->from, verdict->to);
}

static bool file_is_increment(const struct loader *loader, uint32_t at) {
    return loader->manifest != NULL && loader->manifest->files[at].type == AOF_FILE_INCREMENT;
}

/* One file: entry `at` of the manifest, if there is one. */
static enum aof_load_status load_one(struct loader *loader, const char *name, uint32_t at, bool last) {
    struct open_file file;
    uint64_t start;
    enum aof_load_status status = open_file(loader, name, &file);
    if (status != AOF_LOAD_DONE) return status;
    struct aof_load_result *result = loader->result;
    uint64_t torn_before = result->torn_bytes;
    struct aof_stream_verdict verdict = {.end = AOF_STREAM_WHOLE};
    status = load_rdb(loader, &file, &start);
    if (status == AOF_LOAD_DONE && start < file.bytes) {
        status = select_first(loader, &file);
        struct aof_stream_options options = {
            .fd = file.fd, .start = start, .end = file.bytes, .load = loader->options, .totals = result};
        if (status == AOF_LOAD_DONE) {
            aof_stream_run(&options, &verdict);
            status = judge(loader, &file, at, last, &verdict);
        }
    }
    close(file.fd);
    bool cut = result->torn_bytes != torn_before;
    result->bytes += cut ? verdict.from : file.bytes;
    result->last_bytes = cut ? verdict.from : file.bytes;
    result->continues = verdict.ours && loader->manifest != NULL && at == loader->manifest->count - 1 &&
                        loader->manifest->files[at].type == AOF_FILE_INCREMENT;
    result->check = verdict.check;
    if (start < file.bytes || file_is_increment(loader, at)) result->history = verdict.history;
    return status;
}

/* ---- all ---- */

static void count_total(struct loader *loader) {
    struct stat status;
    char path[PATH_MAX];
    uint64_t total = 0;
    for (uint32_t i = 0; i < loader->manifest->count; i++) {
        const struct aof_file *file = &loader->manifest->files[i];
        if (file->type == AOF_FILE_HISTORY) continue;
        snprintf(path, sizeof(path), "%s/%s", loader->directory, file->name);
        if (stat(path, &status) == 0) total += (uint64_t)status.st_size;
    }
    if (loader->options->progress != NULL)
        atomic_store_explicit(&loader->options->progress->total_bytes, total, memory_order_relaxed);
}

enum aof_load_status aof_load_directory(const char *directory, const struct aof_manifest *manifest,
                                        const struct aof_load_options *options, struct aof_load_result *result) {
    struct loader loader = {.options = options, .result = result, .directory = directory, .manifest = manifest};
    enum aof_load_status status = AOF_LOAD_DONE;
    *result = (struct aof_load_result){.status = AOF_LOAD_DONE};
    count_total(&loader);
    for (uint32_t i = 0; i < manifest->count && status == AOF_LOAD_DONE; i++) {
        const struct aof_file *file = &manifest->files[i];
        if (file->type == AOF_FILE_HISTORY) continue;
        bool emptied = result->torn_bytes > 0; /* a file before was torn: there is nothing in this one */
        struct aof_history torn = result->history;
        status = load_one(&loader, file->name, i, i == manifest->count - 1);
        if (emptied) result->continues = false;
        if (emptied) result->history = torn;
        if (file->type == AOF_FILE_BASE) result->base_bytes = result->last_bytes;
    }
    return result->status = status;
}

enum aof_load_status aof_load_file(const char *path, const struct aof_load_options *options,
                                   struct aof_load_result *result) {
    struct loader loader = {.options = options, .result = result};
    struct stat status;
    *result = (struct aof_load_result){.status = AOF_LOAD_DONE};
    if (options->progress != NULL && stat(path, &status) == 0)
        atomic_store_explicit(&options->progress->total_bytes, (uint64_t)status.st_size, memory_order_relaxed);
    return result->status = load_one(&loader, path, 0, true);
}
