#ifndef TERRACE_COMMAND_SET_ALGEBRA_H
#define TERRACE_COMMAND_SET_ALGEBRA_H

/* Intersection, union and difference of sets of any encoding, member by member.
 *
 * Nothing is changed by them; members come in no particular order, each once. Where a page of a big set is not at hand,
 * all pages are asked for that a later run will need, and what is emitted means nothing (set->access.missing of some
 * set). Sets that do not exist count as empty.
 *
 * Threads: the locks of the shards of all sets. */

#include "keyspace/set_value.h"

/* False: no more are wanted. The member's bytes hold until something in its shard changes. */
typedef bool set_emit(void *ctx, struct span member);

enum set_operation { SET_INTERSECTION, SET_UNION, SET_DIFFERENCE };

/* The difference is that of the first set and all others. The order of the sets may be changed. False: no memory.
 * `seed` is secret. */
bool set_combine(enum set_operation operation, struct set_value *sets, uint32_t count, uint64_t seed, set_emit *emit,
                 void *ctx) __attribute__((warn_unused_result));

#endif
