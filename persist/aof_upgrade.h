#ifndef TERRACE_PERSIST_AOF_UPGRADE_H
#define TERRACE_PERSIST_AOF_UPGRADE_H

/* The append-only file of Redis before version 7 was one file in the working directory, named by appendfilename. It is
 * moved into the directory of the append-only files as their base, as Redis 7 does. One thread. */

#include "persist/aof_manifest.h"

enum aof_upgrade {
    AOF_UPGRADE_NOT_NEEDED, /* there is no such file, or the directory has a manifest of its own */
    AOF_UPGRADE_DONE,       /* the manifest is there now, and names the file as the base */
    AOF_UPGRADE_FAILED,     /* errno; to be tried again at the next start, nothing is lost */
};

/* `found` and `manifest`: what aof_manifest_load() has found in `directory`, which may not exist. The manifest is
 * changed to the new one if that is DONE. */
enum aof_upgrade aof_upgrade(const struct file_io *io, const char *directory, const char *stem,
                             enum aof_manifest_found found, struct aof_manifest *manifest)
    __attribute__((warn_unused_result));

#endif
