/* See pmem_start.h. The rest is done elsewhere: what a pool is, in pmem/; checkpoints and recovery as of any tier that
 * persists (tier_persist.h); replies that wait, in pmem_gate.h. */

#include "server/pmem_start.h"

#include "base/log.h"
#include "pmem/mapping.h"
#include "pmem/pool.h"
#include "server/info.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOURNAL_SHARE = 32 }; /* of maxmemory: what stays mapped */

static bool refuse(char *error, size_t room, const char *text) {
    snprintf(error, room, "pmem-pool: %s", text);
    return false;
}

/* What does not go together. */
static bool check(const struct config *config, char *error, size_t room) {
    if (config->tier.path[0]) return refuse(error, room, "tier-path is set too; a server has one of the two");
    return true;
}

static void tell(const struct server *server) {
    struct pmem_pool_facts facts = pmem_pool_facts(server->pmem);
    log_notice("pmem-pool '%s' %s: %llu bytes for records, %llu for the journal; dax %s, auto-flush %s, persistence "
               "domain %s",
               server->config.pmem.pool, facts.made ? "made" : "opened", (unsigned long long)facts.segment_bytes,
               (unsigned long long)facts.journal_bytes, facts.dax ? "yes" : "no", facts.auto_flush ? "yes" : "no",
               facts.domain);
    if (!facts.pmem)
        log_warning("pmem-pool '%s' is not on persistent memory: each turn of a worker waits for msync, which is "
                    "durable and slow",
                    server->config.pmem.pool);
    if (facts.forced)
        log_warning("PMEM_IS_PMEM_FORCE is set: what is answered survives the end of the server, but a power cut only "
                    "on a medium that is persistent memory");
}

/* A pool that is refused further on must not have been changed. */
static bool is_in_order(const struct server *server, char *error, size_t room) {
    char text[400] = "";
    struct tier_pool tier;
    struct pmem_area area = pmem_pool_journal(server->pmem);
    if (tier_pool_look_pmem(server->pmem, &tier, text, sizeof(text)) == TIER_POOL_FOUND_FOREIGN) {
        snprintf(error, room, "pmem-pool '%.200s': %s", pmem_start_path(server), text);
        return false;
    }
    struct pmem_journal *journal = pmem_journal_open(&area, true, NULL, error, room);
    pmem_journal_close(journal);
    return journal != NULL;
}

static bool grow(struct server *server, struct pmem_pool_options *options, char *error, size_t room) {
    uint64_t before = pmem_pool_facts(server->pmem).segment_bytes;
    if (!is_in_order(server, error, room)) return false;
    pmem_pool_close(server->pmem);
    options->grow = true;
    server->pmem = pmem_pool_open(options, error, room);
    if (!server->pmem) return false;
    uint64_t now = pmem_pool_facts(server->pmem).segment_bytes;
    if (now > before)
        log_notice("pmem-pool '%s' has grown by %llu bytes for records", server->config.pmem.pool,
                   (unsigned long long)(now - before));
    return true;
}

bool pmem_start_open(struct server *server, char *error, size_t room) {
    const struct config *config = &server->config;
    if (!config->pmem.pool[0]) return true;
    if (!check(config, error, room)) return false;
    struct pmem_pool_options options = {.path = config->pmem.pool,
                                        .size_bytes = (uint64_t)config->pmem.size_bytes,
                                        .segment_bytes = (uint64_t)config->tier.segment_bytes};
    server->pmem = pmem_pool_open(&options, error, room);
    if (!server->pmem) return false;
    if (!server->offline && pmem_pool_can_grow(server->pmem, &options) && !grow(server, &options, error, room))
        return false;
    struct pmem_area journal = pmem_pool_journal(server->pmem);
    if (!pmem_gate_open(server, &journal, error, room)) return false;
    if (!server->offline) tell(server);
    return true;
}

const char *pmem_start_path(const struct server *server) {
    return pmem_pool_member(server->pmem, 0).path;
}

/* ---- nodes ---- */

/* nodes[]: of each pool, as in its set; -1: not known. */
static bool find_nodes(const struct server *server, int *nodes, char *error, size_t room) {
    const char *text = server->config.pmem.node;
    unsigned count = pmem_pool_members(server->pmem), given = 0;
    int named[PMEM_POOLS_MAX];
    bool is_auto = strcmp(text, "auto") == 0;
    while (!is_auto && given < PMEM_POOLS_MAX && *text) {
        char *end;
        long node = strtol(text, &end, 10);
        if (end == text || node < 0 || node >= NUMA_NODES_MAX || (*end && *end != ',')) break;
        named[given++] = (int)node;
        text = *end ? end + 1 : end;
    }
    if (!is_auto && (given != count || *text)) {
        snprintf(error, room, "pmem-node '%.100s': give the node of each of %u pools, with commas, or auto",
                 server->config.pmem.node, count);
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        struct pmem_pool_member member = pmem_pool_member(server->pmem, i);
        nodes[i] = is_auto ? member.node : named[member.named];
    }
    return true;
}

/* The pools of a node take its shards in turn; shards without one are dealt out over all. */
static void deal(const struct server *server, const int *nodes, uint8_t *homes, uint32_t shards) {
    const struct placement *placement = &server->placement;
    unsigned pools = pmem_pool_members(server->pmem), dealt[NUMA_NODES_MAX] = {0}, astray = 0;
    for (uint32_t i = 0; i < shards; i++) {
        unsigned near = placement->plan.shard_near[i], local[PMEM_POOLS_MAX], count = 0;
        for (unsigned k = 0; k < pools; k++)
            if (nodes[k] == placement->nodes[near]) local[count++] = k;
        homes[i] = (uint8_t)(count ? local[dealt[near]++ % count] : astray++ % pools);
    }
}

bool pmem_start_place(struct server *server, char *error, size_t room) {
    uint8_t homes[LIMIT_SHARDS];
    int nodes[PMEM_POOLS_MAX];
    unsigned pools = server->pmem ? pmem_pool_members(server->pmem) : 1;
    if (!server->pmem) return true;
    if (!find_nodes(server, nodes, error, room)) return false;
    for (unsigned i = 0; pools > 1 && i < pools; i++) {
        struct pmem_pool_member member = pmem_pool_member(server->pmem, i);
        log_notice("pool %u of %u: '%s', %llu bytes, node %d", i + 1, pools, member.path,
                   (unsigned long long)member.pool_bytes, nodes[i]);
    }
    if (pools == 1 || server->placement.node_count == 0) return true;
    deal(server, nodes, homes, server->keyspace->shard_count);
    return tier_set_homes(server->tier, homes, server->keyspace->shard_count) || refuse(error, room, "out of memory");
}

/* A journal that is small beside the memory there is stays mapped, as faults cost more than its share of the limit. */
static bool stays_mapped(const struct server *server) {
    uint64_t limit = (uint64_t)server->config.memory.maxmemory_bytes;
    return !limit || pmem_pool_identity(server->pmem)->journal_bytes <= limit / JOURNAL_SHARE;
}

/* Else workers would meet the faults of the journal's first lap, one each 4 KB: a twentieth of what small SETs cost. */
static void map_journal(const struct server *server) {
    struct pmem_area journal = pmem_pool_journal(server->pmem);
    if (stays_mapped(server) && pmem_pool_facts(server->pmem).pmem)
        pmem_mapping_populate(journal.memory, journal.bytes);
}

bool pmem_start_load(struct server *server, bool *found) {
    enum tier_persist_loaded recovered = tier_persist_load(server, NULL);
    struct pmem_place place = tier_persist_pool_place(server);
    struct rdb_history history;
    tier_persist_history(server, &history);
    *found = recovered == TIER_PERSIST_LOADED || pmem_gate_has_tail(server, place);
    if (recovered == TIER_PERSIST_FAILED || !pmem_gate_replay(server, place, &history)) return false;
    const struct rdb_history *reached = &server->pmem_gate.history;
    if (*found && reached->id[0]) start_load_note_history(server, reached->id, reached->offset, reached->database);
    if (!server->offline) map_journal(server);
    return true;
}

bool pmem_start_begin(struct server *server, bool covered, char *error, size_t room) {
    return !server->pmem || pmem_gate_begin(server, covered) || refuse(error, room, "out of memory");
}

void pmem_start_tick(struct server *server) {
    if (server->pmem && !stays_mapped(server)) pmem_pool_forget_journal(server->pmem);
}

void pmem_start_end(struct server *server) {
    if (server->pmem) pmem_gate_end(server);
}

void pmem_start_close(struct server *server) {
    pmem_pool_close(server->pmem);
    server->pmem = NULL;
}

static void tell_members(const struct server *server, struct text *text) {
    int nodes[PMEM_POOLS_MAX];
    char unused[200];
    unsigned count = server->pmem ? pmem_pool_members(server->pmem) : 0;
    text_add(text, "pmem_pools:%u\r\n", count);
    if (!count || !find_nodes(server, nodes, unused, sizeof(unused))) return;
    for (unsigned i = 0; i < count; i++) {
        struct pmem_pool_member member = pmem_pool_member(server->pmem, i);
        text_add(text, "pmem_pool_%u:path=%s,node=%d,bytes=%llu,segments=%llu,free=%u\r\n", i, member.path, nodes[i],
                 (unsigned long long)member.pool_bytes, (unsigned long long)member.segments,
                 segment_table_free_at(tier_segments(server->tier), i));
    }
}

void info_pmem(const struct info_source *source, struct text *text) {
    struct server *server = source->server;
    struct pmem_pool_facts facts = {.domain = "none"};
    if (server->pmem) facts = pmem_pool_facts(server->pmem);
    text_add(text, "pmem_enabled:%d\r\npmem_pool:%s\r\n", server->pmem != NULL, server->config.pmem.pool);
    text_add(text, "pmem_dax:%s\r\npmem_auto_flush:%s\r\npmem_forced:%s\r\n", facts.dax ? "yes" : "no",
             facts.auto_flush ? "yes" : "no", facts.forced ? "yes" : "no");
    text_add(text, "pmem_flush:%s\r\npmem_persistence_domain:%s\r\n",
             !server->pmem ? "none"
             : facts.pmem  ? "instructions"
                           : "msync",
             facts.domain);
    text_add(text, "pmem_pool_bytes:%llu\r\npmem_segment_bytes:%llu\r\npmem_journal_bytes:%llu\r\n",
             (unsigned long long)facts.pool_bytes, (unsigned long long)facts.segment_bytes,
             (unsigned long long)facts.journal_bytes);
    tell_members(server, text);
    text_add(text, "pmem_segments_quarantined:%llu\r\n", (unsigned long long)facts.bad_segments);
    if (server->pmem) pmem_gate_info(server, text);
}
