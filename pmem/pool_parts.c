/* Parts of a pool: see pool_parts.h.
 *
 * libpmemobj does not say how much of a set or a device it has mapped, and it matters to the byte: what lies behind
 * might be anybody's. But the parts of a pool are mapped one behind the other, in the order of the file, so in the
 * kernel's list a mapping belongs to the pool if it begins where the one before ended, and is either of the same file
 * at the place where that went on, or of the next. What a directory has is mapped far beyond its files, so there any
 * mapping will do: the length bounds what the root may claim, and nothing is dealt out by it. */

#include "pmem/pool_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static bool add(struct pmem_parts *parts, const char *path) {
    if (parts->count == PMEM_PARTS_MAX || !(parts->path[parts->count] = strdup(path))) return false;
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) parts->directory = true;
    parts->count++;
    return true;
}

static bool add_line(struct pmem_parts *parts, char *line) {
    char *rest = NULL, *first = strtok_r(line, " \t\r\n", &rest), *second = strtok_r(NULL, "\r\n", &rest);
    if (!first || first[0] == '#' || strcmp(first, "OPTION") == 0) return true;
    if (strcmp(first, "REPLICA") == 0) parts->replica = true;
    if (parts->replica || !second) return true;
    return add(parts, second + strspn(second, " \t"));
}

bool pmem_parts_read(const char *path, struct pmem_parts *parts) {
    char *line = NULL;
    size_t room = 0;
    *parts = (struct pmem_parts){0};
    FILE *file = fopen(path, "re");
    if (!file) return false;
    char head[11] = "";
    bool is_set = fread(head, 1, sizeof(head), file) == sizeof(head) && memcmp(head, "PMEMPOOLSET", sizeof(head)) == 0;
    bool good = is_set || add(parts, path);
    while (is_set && good && getline(&line, &room, file) > 0) good = add_line(parts, line);
    free(line);
    fclose(file);
    if (!good || parts->count == 0) pmem_parts_free(parts);
    return good && parts->count > 0;
}

void pmem_parts_free(struct pmem_parts *parts) {
    for (unsigned i = 0; i < parts->count; i++) free(parts->path[i]);
    *parts = (struct pmem_parts){0};
}

static unsigned long long inode_of(const struct pmem_parts *parts, unsigned part) {
    struct stat status;
    return part < parts->count && stat(parts->path[part], &status) == 0 ? (unsigned long long)status.st_ino : 0;
}

uint64_t pmem_parts_mapped(const struct pmem_parts *parts, const void *memory) {
    char *line = NULL;
    size_t room = 0;
    unsigned part = 0;
    uint64_t begin = (uint64_t)(uintptr_t)memory, end = begin, offset = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && getline(&line, &room, maps) > 0) {
        unsigned long long from, to, at, inode;
        char rights[5];
        if (sscanf(line, "%llx-%llx %4s %llx %*s %llu", &from, &to, rights, &at, &inode) != 5 || from != end) continue;
        bool goes_on = parts->directory ? rights[3] == 's' : inode == inode_of(parts, part) && at == offset;
        if (!goes_on && (parts->directory || end == begin || inode != inode_of(parts, part + 1))) break;
        part += !goes_on;
        offset = at + (to - from);
        end = to;
    }
    free(line);
    if (maps) fclose(maps);
    return end - begin;
}

static bool reserve(const char *path) {
    struct stat status;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    int error = fd < 0 || fstat(fd, &status) != 0 ? errno : 0;
    if (!error && S_ISREG(status.st_mode) && status.st_size > 0) error = posix_fallocate(fd, 0, status.st_size);
    if (fd >= 0) close(fd);
    errno = error;
    return error == 0;
}

bool pmem_parts_reserve(const struct pmem_parts *parts) {
    for (unsigned i = 0; i < parts->count; i++)
        if (!reserve(parts->path[i])) return false;
    return true;
}

/* ---- the node ---- */

static int read_node(const char *path) {
    int node = -1;
    FILE *file = fopen(path, "re");
    if (!file) return -1;
    if (fscanf(file, "%d", &node) != 1) node = -1;
    fclose(file);
    return node;
}

/* A disk's device has the node; of a partition, the disk above it. */
int pmem_parts_node(const struct pmem_parts *parts) {
    static const char *const places[] = {"device/numa_node", "../device/numa_node", "numa_node", "../numa_node"};
    struct stat status;
    if (parts->count == 0 || stat(parts->path[0], &status) != 0) return -1;
    bool is_device = S_ISCHR(status.st_mode);
    dev_t device = is_device ? status.st_rdev : status.st_dev;
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char path[128];
        snprintf(path, sizeof(path), "/sys/dev/%s/%u:%u/%s", is_device ? "char" : "block", major(device), minor(device),
                 places[i]);
        int node = read_node(path);
        if (node >= 0) return node;
    }
    return -1;
}
