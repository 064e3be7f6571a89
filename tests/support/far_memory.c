#include "tests/support/far_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SLICES_MAX = 4000, COMPACT_RECORDS = 100 };

struct keyspace_usage far_usage(const struct in_process *server) {
    struct view view = {.keyspace = server->keyspace};
    struct keyspace_usage usage;
    keyspace_usage(&view, &usage);
    return usage;
}

size_t far_pool_bytes(const struct in_process *server) {
    return region_pool_usage(server->keyspace->far_pools[0]).used_bytes;
}

enum demotion_status far_demote(struct in_process *server, uint32_t shard, bool far_only, size_t *freed) {
    const struct demotion demotion = {.now_ms = server->dispatcher->now_ms,
                                      .budget_ns = FAR_SLICE_NS,
                                      .wanted_bytes = SIZE_MAX,
                                      .urgent = true,
                                      .far_only = far_only};
    return keyspace_demote(server->keyspace, shard, server->port, &demotion, freed);
}

size_t far_move_all(struct in_process *server) {
    uint32_t shards = server->keyspace->shard_count;
    size_t freed, total = 0;
    unsigned barren = 0;
    for (unsigned i = 0; i < SLICES_MAX && barren < 4 * shards; i++) {
        (void)far_demote(server, i % shards, true, &freed);
        total += freed;
        barren = freed ? 0 : barren + 1;
    }
    assert_true(keyspace_validate(server->keyspace));
    return total;
}

size_t far_compact(struct in_process *server) {
    size_t moved = 0;
    for (uint32_t shard = 0; shard < server->keyspace->shard_count; shard++)
        for (size_t step = 1; step; moved += step) step = keyspace_compact(server->keyspace, shard, COMPACT_RECORDS);
    assert_true(keyspace_validate(server->keyspace));
    return moved;
}
