/* The entries of a manifest, and its file.
 *
 * Entries stand in the order in which they are written and loaded. Sequence numbers are only ever given upwards within
 * one life of the manifest, so that the name of a file that is still to be removed is not given to a new one; a new
 * base continues with the number of the old one, as with Redis. */

#include "persist/aof_layout.h"
#include "persist/aof_manifest_private.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void aof_manifest_init(struct aof_manifest *manifest) {
    *manifest = (struct aof_manifest){0};
}

void aof_manifest_free(struct aof_manifest *manifest) {
    for (uint32_t i = 0; i < manifest->count; i++) free(manifest->files[i].name);
    free(manifest->files);
    aof_manifest_init(manifest);
}

static unsigned rank(enum aof_file_type type) {
    return type == AOF_FILE_BASE ? 0 : type == AOF_FILE_HISTORY ? 1 : 2;
}

/* Room for one more. */
static bool reserve(struct aof_manifest *manifest) {
    if (manifest->count < manifest->capacity) return true;
    uint32_t capacity = manifest->capacity == 0 ? 8 : manifest->capacity * 2;
    struct aof_file *files = realloc(manifest->files, capacity * sizeof(*files));
    if (files == NULL) return false;
    manifest->files = files;
    manifest->capacity = capacity;
    return true;
}

/* Behind all of its type. The caller has reserved the room. */
static struct aof_file *place(struct aof_manifest *manifest, struct aof_file file) {
    uint32_t at = manifest->count;
    while (at > 0 && rank(manifest->files[at - 1].type) > rank(file.type)) at--;
    memmove(manifest->files + at + 1, manifest->files + at, (manifest->count - at) * sizeof(file));
    manifest->files[at] = file;
    manifest->count++;
    return &manifest->files[at];
}

struct aof_file *aof_manifest_insert(struct aof_manifest *manifest, struct span name, uint64_t sequence,
                                     enum aof_file_type type) {
    if (!reserve(manifest)) return NULL;
    char *copy = strndup(name.data, name.length);
    if (copy == NULL) return NULL;
    uint64_t *largest = type == AOF_FILE_BASE        ? &manifest->base_sequence
                        : type == AOF_FILE_INCREMENT ? &manifest->increment_sequence
                                                     : NULL;
    if (largest != NULL && sequence > *largest) *largest = sequence;
    return place(manifest, (struct aof_file){.name = copy, .sequence = sequence, .type = type});
}

const struct aof_file *aof_manifest_base(const struct aof_manifest *manifest) {
    return manifest->count > 0 && manifest->files[0].type == AOF_FILE_BASE ? &manifest->files[0] : NULL;
}

const struct aof_file *aof_manifest_last_increment(const struct aof_manifest *manifest) {
    if (manifest->count == 0) return NULL;
    const struct aof_file *last = &manifest->files[manifest->count - 1];
    return last->type == AOF_FILE_INCREMENT ? last : NULL;
}

/* ---- names ---- */

static bool compose_name(char *name, size_t capacity, const char *stem, uint64_t sequence, const char *suffix) {
    int length = snprintf(name, capacity, "%s.%llu%s", stem, (unsigned long long)sequence, suffix);
    return length > 0 && (size_t)length < capacity;
}

bool aof_manifest_next_increment_name(const struct aof_manifest *manifest, const char *stem, char *name,
                                      size_t capacity) {
    return compose_name(name, capacity, stem, manifest->increment_sequence + 1, AOF_INCREMENT);
}

bool aof_manifest_next_base_name(const struct aof_manifest *manifest, const char *stem, bool rdb, char *name,
                                 size_t capacity) {
    return compose_name(name, capacity, stem, manifest->base_sequence + 1, rdb ? AOF_BASE_RDB : AOF_BASE_AOF);
}

/* ---- changes ---- */

const struct aof_file *aof_manifest_add_increment(struct aof_manifest *manifest, const char *stem) {
    char name[PATH_MAX];
    if (!aof_manifest_next_increment_name(manifest, stem, name, sizeof(name))) return NULL;
    return aof_manifest_insert(manifest, span_of_text(name), manifest->increment_sequence + 1, AOF_FILE_INCREMENT);
}

/* Makes the entry history, which moves it to where history stands: as with Redis, what became it last comes first. */
static void supersede(struct aof_manifest *manifest, uint32_t at) {
    struct aof_file file = manifest->files[at];
    uint32_t first = 0;
    while (first < at && rank(manifest->files[first].type) < rank(AOF_FILE_HISTORY)) first++;
    memmove(manifest->files + first + 1, manifest->files + first, (at - first) * sizeof(file));
    file.type = AOF_FILE_HISTORY;
    manifest->files[first] = file;
}

const struct aof_file *aof_manifest_replace_base(struct aof_manifest *manifest, const char *stem, bool rdb,
                                                 uint64_t keep_from) {
    char name[PATH_MAX];
    if (!aof_manifest_next_base_name(manifest, stem, rdb, name, sizeof(name))) return NULL;
    bool had_base = aof_manifest_base(manifest) != NULL;
    const struct aof_file *base =
        aof_manifest_insert(manifest, span_of_text(name), manifest->base_sequence + 1, AOF_FILE_BASE);
    if (base == NULL) return NULL;
    if (had_base) { /* the new one was put behind the old one */
        struct aof_file old = manifest->files[0];
        manifest->files[0] = manifest->files[1];
        manifest->files[1] = old;
        supersede(manifest, 1);
    }
    for (uint32_t i = 0; i < manifest->count; i++)
        if (manifest->files[i].type == AOF_FILE_INCREMENT && manifest->files[i].sequence < keep_from)
            supersede(manifest, i);
    return &manifest->files[0];
}

bool aof_manifest_adopt_base(struct aof_manifest *manifest, const char *name) {
    return aof_manifest_insert(manifest, span_of_text(name), manifest->base_sequence + 1, AOF_FILE_BASE) != NULL;
}

static void drop_if(struct aof_manifest *manifest, bool (*drop)(const struct aof_file *, const char *),
                    const char *name) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < manifest->count; i++) {
        if (drop(&manifest->files[i], name))
            free(manifest->files[i].name);
        else
            manifest->files[kept++] = manifest->files[i];
    }
    manifest->count = kept;
}

static bool has_name(const struct aof_file *file, const char *name) {
    return strcmp(file->name, name) == 0;
}

static bool is_history(const struct aof_file *file, const char *name) {
    (void)name;
    return file->type == AOF_FILE_HISTORY;
}

void aof_manifest_forget(struct aof_manifest *manifest, const char *name) {
    drop_if(manifest, has_name, name);
}

void aof_manifest_forget_history(struct aof_manifest *manifest) {
    drop_if(manifest, is_history, NULL);
}

bool aof_manifest_copy(struct aof_manifest *to, const struct aof_manifest *from) {
    aof_manifest_init(to);
    for (uint32_t i = 0; i < from->count; i++) {
        const struct aof_file *file = &from->files[i];
        if (aof_manifest_insert(to, span_of_text(file->name), file->sequence, file->type) == NULL) {
            aof_manifest_free(to);
            return false;
        }
    }
    to->base_sequence = from->base_sequence;
    to->increment_sequence = from->increment_sequence;
    return true;
}

/* ---- on disk ---- */

/* Reads to the end of the file, `room` bytes at most. -1: errno. */
static ssize_t read_all(int fd, char *text, size_t room) {
    size_t done = 0;
    while (done < room) {
        ssize_t got = read(fd, text + done, room - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* The whole file, in malloc'ed memory. NULL: errno. */
static char *read_whole(const char *path, size_t *length) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    struct stat status = {0};
    char *text = NULL;
    ssize_t got = -1;
    if (fstat(fd, &status) == 0 && status.st_size > AOF_MANIFEST_BYTES_MAX)
        errno = EFBIG;
    else if ((text = malloc((size_t)status.st_size + 1)) != NULL)
        got = read_all(fd, text, (size_t)status.st_size);
    int error = errno;
    close(fd);
    if (got < 0) {
        free(text);
        errno = error;
        return NULL;
    }
    *length = (size_t)got;
    return text;
}

enum aof_manifest_found aof_manifest_load(struct aof_manifest *manifest, const char *directory, const char *stem,
                                          char *error) {
    char path[PATH_MAX];
    aof_manifest_init(manifest);
    if ((size_t)snprintf(path, sizeof(path), "%s/%s" AOF_MANIFEST, directory, stem) >= sizeof(path)) {
        snprintf(error, AOF_MANIFEST_ERROR_MAX, "its name is too long");
        return AOF_MANIFEST_UNREADABLE;
    }
    size_t length;
    char *text = read_whole(path, &length);
    if (text == NULL) {
        if (errno == ENOENT || errno == ENOTDIR) return AOF_MANIFEST_ABSENT;
        snprintf(error, AOF_MANIFEST_ERROR_MAX, "%s", strerror(errno));
        return AOF_MANIFEST_UNREADABLE;
    }
    bool parsed = aof_manifest_parse(manifest, span_of(text, length), error);
    free(text);
    return parsed ? AOF_MANIFEST_FOUND : AOF_MANIFEST_UNREADABLE;
}

bool aof_manifest_store(const struct aof_manifest *manifest, const struct file_io *io, const char *directory,
                        const char *stem) {
    char temporary[NAME_MAX + 1], name[NAME_MAX + 1];
    if ((size_t)snprintf(temporary, sizeof(temporary), AOF_TEMPORARY "%s" AOF_MANIFEST, stem) >= sizeof(temporary) ||
        (size_t)snprintf(name, sizeof(name), "%s" AOF_MANIFEST, stem) >= sizeof(name)) {
        errno = ENAMETOOLONG;
        return false;
    }
    size_t length;
    char *text = aof_manifest_compose(manifest, &length);
    if (text == NULL) {
        errno = ENOMEM;
        return false;
    }
    bool stored = file_io_replace(io, directory, temporary, name, span_of(text, length));
    int error = errno;
    free(text);
    errno = error;
    return stored;
}
