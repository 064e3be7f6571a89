/* CONFIG REWRITE: bring the file up to date and leave the rest of it alone.
 *
 * What the file says is found by loading it, includes and all, into a second configuration. A row whose value is the
 * same there and here is none of our business: its lines stay as they are, spelling included. For a row that differs,
 * the first of its lines is replaced and further ones are dropped; if it has none, it is appended below a marker.
 *
 * A file that includes others is treated more carefully. A line of ours might stand before the include that overrides
 * it, so there a differing row loses its lines and is appended at the end, where it has the last word; a row whose
 * lines add up (save) is first emptied there.
 *
 * The new text goes to a temporary file beside the old one, which is flushed and renamed over it. So after a crash
 * the file is the old one or the new one. */

#include "server/config_file.h"
#include "server/config_state.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char marker[] = "# Added by CONFIG REWRITE";

struct rewrite {
    const struct config *config;
    bool *differs; /* one for each row, like `written` */
    bool *written;
    bool all; /* every row, whatever the file says */
    bool has_includes;
    bool has_marker;
    FILE *out;
};

/* ---- What differs ---- */

/* A file that was removed counts as empty. */
static bool compare_with_file(struct rewrite *rewrite, const char *path, struct config_error *error) {
    struct config on_disk;
    config_init(&on_disk);
    free(on_disk.state->start_directory);
    on_disk.state->start_directory = config_copy_text(rewrite->config->state->start_directory);
    bool missing = access(path, F_OK) != 0 && errno == ENOENT;
    bool ok = missing || config_load_file(&on_disk, path, error);
    for (size_t row = 0; ok && row < config_row_count(); row++) {
        rewrite->differs[row] =
            !config_same_value(row, config_value(&on_disk, row), config_value(rewrite->config, row)) ||
            (rewrite->all && !(config_row_at(row)->flags & CONFIG_FILE_ONLY));
    }
    config_free(&on_disk);
    return ok;
}

/* ---- The new text ---- */

static void print_row(struct rewrite *rewrite, size_t row, struct span name) {
    config_print_directive(rewrite->out, row, name, config_value(rewrite->config, row));
    rewrite->written[row] = true;
}

/* `line` is the split copy of `text`. */
static void rewrite_line(struct rewrite *rewrite, const char *text, const struct config_line *line) {
    size_t row = line->status == CONFIG_LINE_OK && line->count > 0 ? config_row_find(line->words[0]) : SIZE_MAX;
    if (row == SIZE_MAX || !rewrite->differs[row]) {
        fputs(text, rewrite->out);
        if (text[0] == '\0' || text[strlen(text) - 1] != '\n') fputc('\n', rewrite->out);
    } else if (!rewrite->has_includes && !rewrite->written[row]) {
        print_row(rewrite, row, line->words[0]);
    }
}

/* Reads the old file twice: once for what it contains, once to copy it. */
static void rewrite_lines(struct rewrite *rewrite, FILE *old) {
    struct config_line *line = config_allocate(sizeof(*line));
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length;
    for (int pass = 0; pass < 2; pass++) {
        rewind(old);
        while ((length = getline(&text, &capacity, old)) >= 0) {
            char *copy = config_copy_text(text);
            config_split_line(copy, strlen(copy), line);
            if (pass == 1) {
                rewrite_line(rewrite, text, line);
            } else if (line->count > 0 && span_is_word(line->words[0], "include")) {
                rewrite->has_includes = true;
            } else if (strncmp(text, marker, sizeof(marker) - 1) == 0) {
                rewrite->has_marker = true;
            }
            free(copy);
        }
    }
    free(text);
    free(line);
}

static void append_missing(struct rewrite *rewrite) {
    for (size_t row = 0; row < config_row_count(); row++) {
        if (!rewrite->differs[row] || rewrite->written[row]) continue;
        if (!rewrite->has_marker) fprintf(rewrite->out, "%s\n", marker);
        rewrite->has_marker = true;
        const struct config_row *definition = config_row_at(row);
        if (rewrite->has_includes && (definition->flags & CONFIG_ADDS))
            fprintf(rewrite->out, "%s \"\"\n", definition->name);
        print_row(rewrite, row, span_of_text(definition->name));
    }
}

static bool write_text(struct rewrite *rewrite, const char *path, FILE *out) {
    rewrite->out = out;
    FILE *old = fopen(path, "re");
    if (!old && errno != ENOENT) return false;
    if (old) {
        rewrite_lines(rewrite, old);
        bool failed = ferror(old) != 0;
        fclose(old);
        if (failed) return false;
    }
    append_missing(rewrite);
    return fflush(out) == 0 && !ferror(out) && fsync(fileno(out)) == 0;
}

/* ---- Replacing the file ---- */

/* A rename is durable only once its directory is. */
static bool flush_directory(const char *path) {
    char *copy = config_copy_text(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    free(copy);
    return ok;
}

/* Returns false with errno set; the old file is untouched then. */
static bool replace_file(struct rewrite *rewrite, const char *path) {
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    if (length < 0 || length >= (int)sizeof(temporary)) {
        errno = ENAMETOOLONG;
        return false;
    }
    struct stat before;
    mode_t mode = stat(path, &before) == 0 ? before.st_mode & 07777 : 0644;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) return false;
    FILE *out = fdopen(fd, "w");
    bool ok = out && write_text(rewrite, path, out) && fchmod(fd, mode) == 0;
    int reason = errno;
    if (out) {
        fclose(out);
    } else {
        close(fd);
    }
    errno = reason;
    if (ok && rename(temporary, path) == 0) return flush_directory(path);
    reason = errno;
    unlink(temporary);
    errno = reason;
    return false;
}

static bool rewrite_file(struct config *config, bool all, struct config_error *error) {
    const char *named = config->state->file_path;
    if (named[0] == '\0') return config_fail(error, "ERR The server is running without a config file");
    char *path = realpath(named, NULL); /* a symbolic link stays one */
    if (!path) path = config_copy_text(named);

    size_t rows = config_row_count();
    struct rewrite rewrite = {.config = config,
                              .all = all,
                              .differs = config_allocate(rows * sizeof(bool)),
                              .written = config_allocate(rows * sizeof(bool))};
    struct config_error reason;
    bool ok = compare_with_file(&rewrite, path, &reason);
    if (ok && !replace_file(&rewrite, path)) ok = config_fail(&reason, "%s", strerror(errno));
    if (!ok) config_fail(error, "ERR Rewriting config file: %.450s", reason.text);
    free(rewrite.differs);
    free(rewrite.written);
    free(path);
    return ok;
}

bool config_rewrite(struct config *config, struct config_error *error) {
    return rewrite_file(config, false, error);
}

bool config_rewrite_all(struct config *config, struct config_error *error) {
    return rewrite_file(config, true, error);
}
