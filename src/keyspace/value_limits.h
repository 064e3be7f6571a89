#ifndef TERRACE_KEYSPACE_VALUE_LIMITS_H
#define TERRACE_KEYSPACE_VALUE_LIMITS_H

/* Up to which size a collection is one packed record; past it, it is made of pages and stays so. The same for sparse
 * HyperLogLogs; and how many entries of a stream are trimmed together, where that need not be exact. The names of the
 * directives are those of Redis (hash-max-listpack-entries ...), the defaults too.
 *
 * Threads: read by all workers; changed while all of them stand still. */

#include <stdint.h>

struct value_limits {
    int64_t hash_packed_entries, hash_packed_bytes; /* bytes: of the longest field or value */
    int64_t list_packed_size;                       /* elements; -1 to -5: 4 to 64 KB */
    int64_t set_intset_entries, set_packed_entries, set_packed_bytes;
    int64_t sorted_set_packed_entries, sorted_set_packed_bytes;
    int64_t stream_node_entries; /* 0: those of a page */
    int64_t sparse_bytes;        /* of a HyperLogLog, past which it is dense */
};

#define VALUE_LIMITS_DEFAULT                                                                                           \
    ((struct value_limits){.hash_packed_entries = 512,                                                                 \
                           .hash_packed_bytes = 64,                                                                    \
                           .list_packed_size = -2,                                                                     \
                           .set_intset_entries = 512,                                                                  \
                           .set_packed_entries = 128,                                                                  \
                           .set_packed_bytes = 64,                                                                     \
                           .sorted_set_packed_entries = 128,                                                           \
                           .sorted_set_packed_bytes = 64,                                                              \
                           .stream_node_entries = 100,                                                                 \
                           .sparse_bytes = 3000})

#endif
