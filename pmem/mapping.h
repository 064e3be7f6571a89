#ifndef TERRACE_PMEM_MAPPING_H
#define TERRACE_PMEM_MAPPING_H

/* What a mapping of libpmemobj's stands on. libpmem's pmem_is_pmem() knows the mappings that libpmem has made itself,
 * and what is forced by PMEM_IS_PMEM_FORCE: libpmemobj keeps a list of its own, which it shows to nobody. The kernel
 * tells as well: a mapping made with MAP_SYNC, which a file system with DAX alone grants, has the flag "sf"
 * (synchronous faults) among the VmFlags of /proc/self/smaps (Documentation/filesystems/proc.rst), and one of a
 * device-DAX has the device's name.
 *
 * Threads: any. The question reads the list of all mappings: once for a pool. */

#include <stdbool.h>
#include <stddef.h>

/* Whether instructions of the processor make durable what is stored there. */
bool pmem_mapping_is_direct(const void *memory, size_t bytes);

/* Asks the kernel to enter the pages now, as if each were written to: nobody pays for their faults later. Only for what
 * is direct: elsewhere all of it would be dirty. Takes the time of the faults, a fifth or less of what they cost one by
 * one. What the kernel cannot do (an old one; a bad medium, which it names here instead of by a signal) is left. */
void pmem_mapping_populate(void *memory, size_t bytes);

#endif
