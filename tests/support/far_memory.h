#ifndef TERRACE_TESTS_SUPPORT_FAR_MEMORY_H
#define TERRACE_TESTS_SUPPORT_FAR_MEMORY_H

/* What tests of far memory ask of a server in this process, and have it do. Its far memory is of the same node as all
 * other (in_process.h). Every function asserts. */

#include "keyspace/keyspace_tier.h"
#include "tests/support/in_process.h"

#define FAR_SLICE_NS UINT64_C(1000000)

struct keyspace_usage far_usage(const struct in_process *server);
/* Used bytes of the pool that far records are in. */
size_t far_pool_bytes(const struct in_process *server);

/* A slice of demotion, urgently: to far memory, or from all memory to the tier. */
enum demotion_status far_demote(struct in_process *server, uint32_t shard, bool far_only, size_t *freed);
/* Until slices have nothing more to move to far memory; what that freed. */
size_t far_move_all(struct in_process *server);
/* Until nothing is worth moving. Records moved. */
size_t far_compact(struct in_process *server);

#endif
