/* See pmem_start.h. The rest is done elsewhere: what a pool is, in pmem/; checkpoints and recovery as of any tier that
 * persists (tier_persist.h); replies that wait, in pmem_gate.h. */

#include "server/pmem_start.h"

#include "base/log.h"
#include "pmem/pool.h"
#include "server/info.h"
#include "server/server.h"

#include <stdio.h>
#include <string.h>

enum { JOURNAL_SHARE = 32 }; /* of maxmemory: what stays mapped */

static bool refuse(char *error, size_t room, const char *text) {
    snprintf(error, room, "pmem-pool: %s", text);
    return false;
}

/* What does not go together. */
static bool check(const struct config *config, char *error, size_t room) {
    if (config->tier.path[0]) return refuse(error, room, "tier-path is set too; a server has one of the two");
    if (config->persistence.appendonly)
        return refuse(error, room, "the pool has a journal of its own; set appendonly to no");
    /* A full copy would not be in the journal. */
    if (config->replication.replicaof.count == 2)
        return refuse(error, room, "a server with a pool cannot be a replica; remove replicaof");
    if (strchr(config->pmem.pool, ',')) return refuse(error, room, "several pools are not supported; name one");
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

bool pmem_start_open(struct server *server, char *error, size_t room) {
    const struct config *config = &server->config;
    if (!config->pmem.pool[0]) return true;
    if (!check(config, error, room)) return false;
    struct pmem_pool_options options = {.path = config->pmem.pool,
                                        .size_bytes = (uint64_t)config->pmem.size_bytes,
                                        .segment_bytes = (uint64_t)config->tier.segment_bytes};
    server->pmem = pmem_pool_open(&options, error, room);
    if (!server->pmem) return false;
    struct pmem_area journal = pmem_pool_journal(server->pmem);
    if (!pmem_gate_open(server, &journal, error, room)) return false;
    tell(server);
    if (options.size_bytes > pmem_pool_facts(server->pmem).pool_bytes)
        log_warning("pmem-size is larger than the pool, which keeps the size it was made with: %llu bytes",
                    (unsigned long long)pmem_pool_facts(server->pmem).pool_bytes);
    return true;
}

bool pmem_start_load(struct server *server, bool *found) {
    enum tier_persist_loaded recovered = tier_persist_load(server, NULL);
    struct pmem_place place = tier_persist_pool_place(server);
    *found = recovered == TIER_PERSIST_LOADED || pmem_gate_has_tail(server, place);
    return recovered != TIER_PERSIST_FAILED && pmem_gate_replay(server, place);
}

bool pmem_start_begin(struct server *server, bool covered, char *error, size_t room) {
    return !server->pmem || pmem_gate_begin(server, covered) || refuse(error, room, "out of memory");
}

/* A journal that is small beside the memory there is stays mapped, as faults cost more than its share of the limit. */
void pmem_start_tick(struct server *server) {
    uint64_t limit = (uint64_t)server->config.memory.maxmemory_bytes;
    if (server->pmem && limit && pmem_pool_identity(server->pmem)->journal_bytes > limit / JOURNAL_SHARE)
        pmem_pool_forget_journal(server->pmem);
}

void pmem_start_end(struct server *server) {
    if (server->pmem) pmem_gate_end(server);
}

void pmem_start_close(struct server *server) {
    pmem_pool_close(server->pmem);
    server->pmem = NULL;
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
    text_add(text, "pmem_segments_quarantined:%llu\r\n", (unsigned long long)facts.bad_segments);
    if (server->pmem) pmem_gate_info(server, text);
}
