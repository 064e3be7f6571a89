#ifndef TERRACE_PERSIST_RECOVERY_COLLECTIONS_H
#define TERRACE_PERSIST_RECOVERY_COLLECTIONS_H

/* Big collections of a checkpoint (ROOTS, STATES, PAGES; checkpoint_layout.h), made again without a page being read.
 * Internal to the recovery.
 *
 *   1. roots      each from what it knew, with its id and empty tables; chunks of ROOTS by all threads
 *   2. pages      references put into the tables; chunks of PAGES by all threads, also those of one collection
 *   3. keys       a collection whose tables are what its root expects gets its key; shards by all threads
 *
 * Before the third step nobody but the recovery knows of any of them: workers, which are at their background work
 * meanwhile, never see half a collection. */

#include "persist/recovery_private.h"

/* Slots have been imported. False: it failed; what was not finished is freed. */
bool recovery_import_collections(struct recovery *recovery) __attribute__((warn_unused_result));

#endif
