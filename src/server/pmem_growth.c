/* See pmem_growth.h. Reserving the space takes as long as the file system likes, up to seconds a gigabyte where it has
 * to clear it; so only the end of it happens while all stand still, and that is a transaction of some hundred bytes. */

#include "server/pmem_growth.h"

#include "base/log.h"
#include "base/thread_place.h"
#include "pmem/pool.h"
#include "server/server.h"

#include <stdio.h>
#include <string.h>

/* ---- worker 0 ---- */

static void join(struct pmem_growth *growth) {
    if (growth->started) pthread_join(growth->thread, NULL);
    growth->started = false;
}

static bool take_in(struct server *server) {
    struct pmem_growth *growth = &server->pmem_growth;
    uint64_t before = pmem_pool_facts(server->pmem).segment_bytes;
    if (!pmem_pool_take_in(server->pmem, growth->error, sizeof(growth->error))) return false;
    if (!tier_take_in(server->tier)) log_warning("pmem-pool: its header could not be written; the next start does it");
    uint64_t more = pmem_pool_facts(server->pmem).segment_bytes - before;
    if (more)
        log_notice("pmem-pool '%s' has grown by %llu bytes for records", server->config.pmem.pool,
                   (unsigned long long)more);
    return true;
}

static void finish(struct worker *worker, void *argument) {
    struct server *server = argument;
    struct pmem_growth *growth = &server->pmem_growth;
    if (atomic_load(&server->quitting)) return;
    server_stop_workers(server, worker->id);
    join(growth);
    bool done = growth->extended && take_in(server);
    if (!done) log_warning("%s", growth->error);
    atomic_store(&growth->state, done ? PMEM_GROWTH_NONE : PMEM_GROWTH_FAILED);
    server_resume_workers(server, worker->id);
}

/* ---- its thread ---- */

static void *extend(void *argument) {
    struct server *server = argument;
    struct pmem_growth *growth = &server->pmem_growth;
    thread_place_roam();
    growth->extended = pmem_pool_extend(server->pmem, growth->size_bytes, growth->error, sizeof(growth->error));
    worker_post(server->workers[0], finish, server);
    return NULL;
}

/* ---- CONFIG SET ---- */

static bool refuse(struct config_error *error, const char *text) {
    snprintf(error->text, sizeof(error->text), "%s", text);
    return false;
}

bool pmem_growth_change(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    struct server *server = ctx;
    struct pmem_growth *growth = &server->pmem_growth;
    uint64_t size_bytes = (uint64_t)config->pmem.size_bytes;
    (void)name;
    if (!server->pmem) return true; /* for the next start */
    if (atomic_load(&growth->state) == PMEM_GROWTH_RUNS) return refuse(error, "the pool is becoming larger already");
    if (loading_is_active(&server->loading)) return refuse(error, "the dataset is being loaded");
    if (!pmem_pool_may_extend(server->pmem, size_bytes, growth->error, sizeof(growth->error)))
        return refuse(error, growth->error);
    join(growth);
    growth->size_bytes = size_bytes;
    atomic_store(&growth->state, PMEM_GROWTH_RUNS);
    growth->started = pthread_create(&growth->thread, NULL, extend, server) == 0;
    if (growth->started) return true;
    atomic_store(&growth->state, PMEM_GROWTH_FAILED);
    return refuse(error, "cannot create a thread");
}

const char *pmem_growth_text(const struct server *server) {
    static const char *const texts[] = {"none", "running", "failed"};
    return texts[atomic_load((_Atomic int *)(uintptr_t)&server->pmem_growth.state)];
}

void pmem_growth_end(struct server *server) {
    join(&server->pmem_growth);
}
