#ifndef TERRACE_PERSIST_AOF_MANIFEST_H
#define TERRACE_PERSIST_AOF_MANIFEST_H

/* The manifest of the append-only file: which files belong to it, as aof_layout.h describes.
 *
 * A manifest is a value in memory; changing it changes no file until aof_manifest_store(). The life of a rewrite:
 *
 *   aof_manifest_add_increment(), store        new writes go to the new increment; a crash loads base and increments
 *   aof_manifest_replace_base(), store         the new base takes the place of the old one and of the increments before
 *                                              the new one, which become history
 *   remove the files of history, aof_manifest_forget_history(), store
 *
 * Not for several threads. Functions that allocate return false for no memory, and have changed nothing then. */

#include "base/span.h"
#include "persist/file_io.h"

#include <stdint.h>

enum aof_file_type { AOF_FILE_BASE = 'b', AOF_FILE_HISTORY = 'h', AOF_FILE_INCREMENT = 'i' };

struct aof_file {
    char *name; /* within the directory; owned */
    uint64_t sequence;
    enum aof_file_type type;
};

struct aof_manifest {
    /* The base first if there is one, then history, then increments by sequence. */
    struct aof_file *files;
    uint32_t count, capacity;
    uint64_t base_sequence, increment_sequence; /* the largest that were ever given in this manifest; 0: none */
};

#define AOF_MANIFEST_ERROR_MAX 256

/* An empty one; nothing to free yet. */
void aof_manifest_init(struct aof_manifest *manifest);
void aof_manifest_free(struct aof_manifest *manifest);

/* Parses the text of a manifest file into `manifest`, which is initialised here. False: `error` (room for
 * AOF_MANIFEST_ERROR_MAX) says what and in which line; nothing is to be freed. */
bool aof_manifest_parse(struct aof_manifest *manifest, struct span text, char *error)
    __attribute__((warn_unused_result));

/* The text, checksum line included, in malloc'ed memory, terminated; the caller frees it. NULL: no memory. */
char *aof_manifest_compose(const struct aof_manifest *manifest, size_t *length);

/* NULL: there is none. */
const struct aof_file *aof_manifest_base(const struct aof_manifest *manifest);
/* The increment with the largest sequence; NULL: there is none. */
const struct aof_file *aof_manifest_last_increment(const struct aof_manifest *manifest);

/* Adds an increment (a base) of the next sequence number under the name that `stem` (appendfilename) gives it.
 * aof_manifest_replace_base(): the old base, and all increments of a sequence less than `keep_from`, become history.
 * Returns the new entry, valid until the next change; NULL: no memory. */
const struct aof_file *aof_manifest_add_increment(struct aof_manifest *manifest, const char *stem);
const struct aof_file *aof_manifest_replace_base(struct aof_manifest *manifest, const char *stem, bool rdb,
                                                 uint64_t keep_from);
/* The file of that name that is to be the base of an empty manifest, for the upgrade of a single file. */
bool aof_manifest_adopt_base(struct aof_manifest *manifest, const char *name) __attribute__((warn_unused_result));

/* The names that the next ones will get, so that their files can be made first. `name` has room for `capacity` bytes;
 * false: it does not fit. */
bool aof_manifest_next_increment_name(const struct aof_manifest *manifest, const char *stem, char *name,
                                      size_t capacity);
bool aof_manifest_next_base_name(const struct aof_manifest *manifest, const char *stem, bool rdb, char *name,
                                 size_t capacity);

/* Takes an entry of this name out, whatever its type. */
void aof_manifest_forget(struct aof_manifest *manifest, const char *name);
void aof_manifest_forget_history(struct aof_manifest *manifest);

bool aof_manifest_copy(struct aof_manifest *to, const struct aof_manifest *from) __attribute__((warn_unused_result));

/* ---- on disk ---- */

enum aof_manifest_found {
    AOF_MANIFEST_FOUND,
    AOF_MANIFEST_ABSENT,     /* there is no such file, or no such directory */
    AOF_MANIFEST_UNREADABLE, /* it is not a manifest, or cannot be read: `error` */
};

/* Reads directory/<stem>.manifest. `manifest` is initialised in every case, and empty unless one was found. */
enum aof_manifest_found aof_manifest_load(struct aof_manifest *manifest, const char *directory, const char *stem,
                                          char *error) __attribute__((warn_unused_result));

/* Replaces directory/<stem>.manifest by this one, atomically and durably. False: errno (ENOMEM too), and the old one is
 * still there unless only the sync of the directory failed: so to be tried again before anything relies on either. */
bool aof_manifest_store(const struct aof_manifest *manifest, const struct file_io *io, const char *directory,
                        const char *stem) __attribute__((warn_unused_result));

#endif
