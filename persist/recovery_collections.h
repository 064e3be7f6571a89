#ifndef TERRACE_PERSIST_RECOVERY_COLLECTIONS_H
#define TERRACE_PERSIST_RECOVERY_COLLECTIONS_H

/* Big collections of a checkpoint (ROOTS, STATES, PAGES; checkpoint_layout.h), made again without a page being read.
 * Internal to the recovery.
 *
 *   1. roots   each from what it knew, with its id and its tables; one with few pages, which stand with it, gets these
 *              and its key at once. Shards by all threads
 *   2. pages   references put into the tables of the others. Chunks by all threads, also those of one collection
 *   3. keys    a collection whose tables are what its root expects gets its key. Shards by all threads
 *
 * Nobody but the recovery knows of a collection before its key leads to it: workers, which are at their background work
 * meanwhile, never see half of one. */

#include "persist/recovery_private.h"

/* Slots have been imported. False: it failed; what was not finished is freed. */
bool recovery_import_collections(struct recovery *recovery) __attribute__((warn_unused_result));

#endif
