#ifndef TERRACE_PERSIST_AOF_MANIFEST_PRIVATE_H
#define TERRACE_PERSIST_AOF_MANIFEST_PRIVATE_H

/* What the two files of the manifest share: its text (aof_manifest_text.c) and its entries (aof_manifest.c). */

#include "persist/aof_manifest.h"

/* Puts an entry where its type has its place. NULL: no memory. */
struct aof_file *aof_manifest_insert(struct aof_manifest *manifest, struct span name, uint64_t sequence,
                                     enum aof_file_type type);

/* A file name without a directory. */
bool aof_manifest_name_is_plain(struct span name);

#endif
