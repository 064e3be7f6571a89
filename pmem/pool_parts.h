#ifndef TERRACE_PMEM_POOL_PARTS_H
#define TERRACE_PMEM_POOL_PARTS_H

/* Which files a pool consists of: the file or device that was named, or what a pool set file names. Such a file is
 * text:
 *
 *   PMEMPOOLSET                 the first line
 *   OPTION SINGLEHDR            only the first part has a header, so that parts can be added
 *   64G /mnt/pmem0/part0        length and absolute path of a part; AUTO: a device, all of it
 *   64G /mnt/pmem0/folder       likewise of a directory, in which libpmemobj makes parts as it needs them
 *   REPLICA                     what follows is a copy
 *   # a comment
 *
 * (the manual page poolset(5) of PMDK).
 *
 * Threads: none of it is shared. */

#include <stdbool.h>
#include <stdint.h>

enum { PMEM_PARTS_MAX = 64 /* with a terabyte each, more than a reference can name */ };

struct pmem_parts {
    char *path[PMEM_PARTS_MAX]; /* owned */
    unsigned count;
    bool directory, replica;
};

/* False: it cannot be read, or has too many; nothing is to be freed. */
bool pmem_parts_read(const char *path, struct pmem_parts *parts) __attribute__((warn_unused_result));
void pmem_parts_free(struct pmem_parts *parts);

/* How many bytes behind `memory` these files are mapped, one behind the other: the kernel's list of mappings says. 0:
 * not at all. With directories: at least. */
uint64_t pmem_parts_mapped(const struct pmem_parts *parts, const void *memory);
/* Space for all of the regular files, as long as they are. False: errno. */
bool pmem_parts_reserve(const struct pmem_parts *parts) __attribute__((warn_unused_result));
/* The NUMA node of the device that the first part is, or lies on; -1: the kernel does not say. */
int pmem_parts_node(const struct pmem_parts *parts);

#endif
