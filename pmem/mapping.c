/* The mapping's paragraph in smaps: a line with its addresses and file, then lines "Name: values". */

#include "pmem/mapping.h"

#include <libpmem.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DEVICE_DAX "/dev/dax"
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Whether the paragraph that the line begins, or goes on with, is of `address`: *within is kept from line to line. */
static void follow(const char *line, uintptr_t address, bool *within) {
    uintptr_t first, end;
    char access[8];
    if (sscanf(line, "%lx-%lx %7s", &first, &end, access) == 3) *within = address >= first && address < end;
}

bool pmem_mapping_is_direct(const void *memory, size_t bytes) {
    if (pmem_is_pmem(memory, bytes)) return true;
    FILE *file = fopen("/proc/self/smaps", "re");
    char *line = NULL;
    size_t capacity = 0;
    bool within = false, direct = false;
    while (file && !direct && getline(&line, &capacity, file) > 0) {
        follow(line, (uintptr_t)memory, &within);
        if (!within) continue;
        bool has_flags = strncmp(line, "VmFlags:", 8) == 0;
        direct = has_flags ? strstr(line, " sf ") != NULL || strstr(line, " sf\n") != NULL
                           : strstr(line, DEVICE_DAX) != NULL;
        if (has_flags) break;
    }
    free(line);
    if (file) fclose(file);
    return direct;
}

void pmem_mapping_populate(void *memory, size_t bytes) {
    enum { STEP = 2 << 20 /* between which others get at the address space */ };
    for (size_t done = 0; done < bytes; done += STEP) {
        size_t step = bytes - done < STEP ? bytes - done : STEP;
        if (madvise((char *)memory + done, step, MADV_POPULATE_WRITE) != 0) return;
    }
}
