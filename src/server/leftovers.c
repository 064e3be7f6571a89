/* A name is taken for ours only if the very name that we would give comes out again when it is composed from the
 * numbers in it. A process id may by now be another process's: then the file stays, until some later start. One with
 * our own id was left by a server that had it before us, which in a container is the rule. */

#include "server/leftovers.h"

#include "base/log.h"
#include "persist/rdb_layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_ROOM = 96 };

static bool names_process(const char *name, const char *made, int pid) {
    char sidecar[NAME_ROOM + sizeof(RDB_INDEX_SUFFIX)];
    snprintf(sidecar, sizeof(sidecar), "%s" RDB_INDEX_SUFFIX, made);
    return pid > 0 && (strcmp(name, made) == 0 || strcmp(name, sidecar) == 0);
}

/* The process whose temporary file this is; 0: it is none. */
static int owner_of(const char *name) {
    char made[NAME_ROOM];
    long long seconds;
    int pid;
    if (sscanf(name, "temp-%lld.%d.rdb", &seconds, &pid) == 2) {
        snprintf(made, sizeof(made), "temp-%lld.%d.rdb", seconds, pid);
        if (names_process(name, made, pid)) return pid;
    }
    if (sscanf(name, "temp-%d.rdb", &pid) == 1) {
        snprintf(made, sizeof(made), "temp-%d.rdb", pid);
        if (names_process(name, made, pid)) return pid;
    }
    if (sscanf(name, "temp-rewriteaof-bg-%d.aof", &pid) == 1) {
        snprintf(made, sizeof(made), "temp-rewriteaof-bg-%d.aof", pid);
        if (names_process(name, made, pid)) return pid;
    }
    return 0;
}

static bool is_gone(int pid) {
    return pid == (int)getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

static void remove_in(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct stat status;
        int pid = owner_of(entry->d_name);
        if (!pid || !is_gone(pid)) continue;
        if (fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
            continue;
        if (unlinkat(dirfd(folder), entry->d_name, 0) == 0)
            log_notice("Removed %s/%s, %lld bytes: its server, process %d, was killed while it wrote", path,
                       entry->d_name, (long long)status.st_size, pid);
    }
    closedir(folder);
}

void leftovers_remove(const char *dir, const char *append_dirname) {
    char path[PATH_MAX];
    remove_in(dir);
    if (snprintf(path, sizeof(path), "%s/%s", dir, append_dirname) < (int)sizeof(path)) remove_in(path);
}
