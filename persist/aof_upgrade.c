/* The steps of the upgrade, and what a start finds if the power fails behind each:
 *
 *   1. make the directory                          a directory without a manifest: the upgrade begins anew
 *   2. store a manifest that names the old file    a manifest whose base is missing, while a file of that name lies
 *      as the base                                 outside: the upgrade goes on with step 3
 *   3. move the old file into the directory        the upgrade is complete
 *
 * Redis takes the same steps, so that an upgrade which either has begun is ended by either. */

#include "persist/aof_upgrade.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_file(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* Whether an upgrade was begun: step 2 was taken and step 3 was not. */
static bool was_begun(const struct aof_manifest *manifest, const char *stem, const char *inside) {
    return manifest->count == 1 && manifest->files[0].type == AOF_FILE_BASE &&
           strcmp(manifest->files[0].name, stem) == 0 && !is_file(inside);
}

static bool make_manifest(const struct file_io *io, const char *directory, const char *stem,
                          struct aof_manifest *manifest) {
    if (io->make_directory(io->ctx, directory, 0755) != 0 && errno != EEXIST) return false;
    if (!aof_manifest_adopt_base(manifest, stem)) {
        errno = ENOMEM;
        return false;
    }
    if (aof_manifest_store(manifest, io, directory, stem)) return true;
    int error = errno;
    aof_manifest_free(manifest);
    errno = error;
    return false;
}

enum aof_upgrade aof_upgrade(const struct file_io *io, const char *directory, const char *stem,
                             enum aof_manifest_found found, struct aof_manifest *manifest) {
    char inside[PATH_MAX];
    if (found == AOF_MANIFEST_UNREADABLE || !is_file(stem)) return AOF_UPGRADE_NOT_NEEDED;
    if ((size_t)snprintf(inside, sizeof(inside), "%s/%s", directory, stem) >= sizeof(inside)) {
        errno = ENAMETOOLONG;
        return AOF_UPGRADE_FAILED;
    }
    if (found == AOF_MANIFEST_FOUND && !was_begun(manifest, stem, inside)) return AOF_UPGRADE_NOT_NEEDED;
    if (found == AOF_MANIFEST_ABSENT && !make_manifest(io, directory, stem, manifest)) return AOF_UPGRADE_FAILED;
    bool moved = io->rename(io->ctx, stem, inside) == 0 && file_io_sync_directory(io, directory) &&
                 file_io_sync_directory(io, ".");
    return moved ? AOF_UPGRADE_DONE : AOF_UPGRADE_FAILED;
}
