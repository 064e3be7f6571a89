/* See metrics.h.
 *
 * Workers count for themselves with plain stores; whoever asks adds up. A sum taken while others serve is not of one
 * instant, which no reader of INFO can tell.
 *
 * What counts as used: the size classes of live records, the segments of the index, and what the allocator has handed
 * out (buffers, connections, everything else). It is what would remain if nothing were wasted. Resident is what the
 * kernel says we hold; the difference is slab pages not full, freed pages not yet given back, code and stacks.
. Every resident byte
 * has a kind (struct memory_kinds); what is left over shows whether the kinds are right. Two of them are estimates: the
 * allocator's figure is the most that may be resident, and how much of the untouched memory became part of huge pages
is
 * guessed. What is near the limit is found out in memory_limit.c. */

#include "server/metrics.h"

#include "base/clock.h"
#include "server/allocator.h"
#include "server/make_room.h"
#include "server/server.h"

#include <stdlib.h>
#include <sys/resource.h>

/* ---- sums ---- */

static void keep_greater(uint64_t *most, uint64_t value) {
    if (value > *most) *most = value;
}

void metrics_sum(const struct server *server, struct metrics_totals *totals) {
    *totals = (struct metrics_totals){0};
    for (unsigned i = 0; i < server->worker_count; i++) {
        const struct worker *worker = server->workers[i];
        totals->commands += stat_get(&server->stats[i]->commands_processed);
        totals->errors += stat_get(&server->stats[i]->errors_total);
        totals->bytes_in += stat_get(&worker->io.bytes_in);
        totals->bytes_out += stat_get(&worker->io.bytes_out);
        totals->reads += stat_get(&worker->io.reads);
        totals->writes += stat_get(&worker->io.writes);
        totals->query_limit_closes += stat_get(&worker->io.query_limit_closes);
        totals->output_limit_closes += stat_get(&worker->io.output_limit_closes);
        totals->turns += stat_get(&worker->turns);
        totals->turn_ns += stat_get(&worker->turn_ns);
        totals->background_ns += stat_get(&worker->background_ns);
        totals->sweep_ns += stat_get(&worker->sweep_ns);
        totals->evict_ns += stat_get(&worker->room.evict_ns);
        keep_greater(&totals->longest_evict_ns, stat_get(&worker->room.longest_ns));
        keep_greater(&totals->longest_evict_cpu_ns, stat_get(&worker->room.longest_cpu_ns));
        totals->commands_held += stat_get(&worker->room.commands_held);
        totals->evicted_clients += stat_get(&worker->client_memory.evicted);
        totals->expired_percent_hundredths += stat_get(&worker->expired_percent_hundredths) / server->worker_count;
        totals->client_bytes += stat_get(&worker->client_bytes);
        keep_greater(&totals->longest_query_bytes, stat_get(&worker->longest_query_bytes));
        keep_greater(&totals->longest_output_bytes, stat_get(&worker->longest_output_bytes));
    }
}

void metrics_command(const struct server *server, unsigned id, struct metrics_command *sum, uint64_t *histogram) {
    *sum = (struct metrics_command){0};
    if (histogram) memset(histogram, 0, STATS_BUCKETS * sizeof(*histogram));
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct command_counters *counters = &server->stats[i]->counters[id];
        sum->calls += stat_get(&counters->calls);
        sum->nanoseconds += stat_get(&counters->nanoseconds);
        sum->rejected += stat_get(&counters->rejected);
        sum->failed += stat_get(&counters->failed);
        stat_counter *own = atomic_load_explicit(&counters->histogram, memory_order_acquire);
        if (!histogram || !own) continue;
        for (unsigned bucket = 0; bucket < STATS_BUCKETS; bucket++) histogram[bucket] += stat_get(&own[bucket]);
    }
}

double metrics_percentile_us(const uint64_t *histogram, double percent) {
    uint64_t total = 0, seen = 0;
    for (unsigned bucket = 0; bucket < STATS_BUCKETS; bucket++) total += histogram[bucket];
    if (total == 0) return 0;
    uint64_t wanted = (uint64_t)((double)total * percent / 100 + 0.5);
    if (wanted == 0) wanted = 1;
    for (unsigned bucket = 0; bucket < STATS_BUCKETS; bucket++) {
        seen += histogram[bucket];
        if (seen >= wanted) return (double)(stats_bucket_limit(bucket) - 1) / 1000;
    }
    return (double)stats_bucket_limit(STATS_BUCKETS - 1) / 1000;
}

/* ---- rates ---- */

static void sample(struct metrics_rate *rate, uint64_t counter, int64_t elapsed_ns) {
    uint64_t grown = counter > rate->last ? counter - rate->last : 0;
    rate->last = counter;
    rate->samples[rate->next] = (uint64_t)((unsigned __int128)grown * 1000000000u / (uint64_t)elapsed_ns);
    rate->next = (rate->next + 1) % METRICS_SAMPLES;
    uint64_t sum = 0;
    for (unsigned i = 0; i < METRICS_SAMPLES; i++) sum += rate->samples[i];
    atomic_store_explicit(&rate->per_second, sum / METRICS_SAMPLES, memory_order_relaxed);
}

uint64_t metrics_microseconds(struct timeval time) {
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

static void sample_all(struct server *server, int64_t elapsed_ns) {
    struct metrics *metrics = &server->metrics;
    struct metrics_totals totals;
    struct rusage own;
    metrics_sum(server, &totals);
    sample(&metrics->commands, totals.commands, elapsed_ns);
    sample(&metrics->input_bytes, totals.bytes_in, elapsed_ns);
    sample(&metrics->stream_in_bytes, atomic_load(&server->replication.bytes_in), elapsed_ns);
    sample(&metrics->stream_out_bytes, atomic_load(&server->replication.bytes_out), elapsed_ns);
    sample(&metrics->output_bytes, totals.bytes_out, elapsed_ns);
    sample(&metrics->turns, totals.turns, elapsed_ns);
    sample(&metrics->turn_ns, totals.turn_ns, elapsed_ns);
    if (getrusage(RUSAGE_THREAD, &own) != 0) return;
    atomic_store_explicit(&metrics->main_user_us, metrics_microseconds(own.ru_utime), memory_order_relaxed);
    atomic_store_explicit(&metrics->main_system_us, metrics_microseconds(own.ru_stime), memory_order_relaxed);
}

/* ---- memory ---- */

static size_t at_least_zero(size_t from, size_t amount) {
    return from > amount ? from - amount : 0;
}

/* What lies outside the allocator: records, the index's segments, and pages that have nothing in them. */
static void count_regions(const struct server *server, struct metrics_memory *memory) {
    const struct keyspace *keyspace = server->keyspace;
    struct memory_kinds *kinds = &memory->kinds;
    size_t untouched = 0, held = 0, regions = 0, huge = 0, pages = 0;
    for (uint32_t i = 0; i < keyspace->shard_count; i++)
        untouched += stat_get(&keyspace->shards[i].heap.sums.untouched_bytes);
    for (unsigned i = 0; i < keyspace->pool_count; i++) {
        struct region_pool_usage usage = region_pool_usage(keyspace->pools[i]);
        held += usage.used_bytes + usage.large_bytes;
        regions += usage.reserved_bytes / REGION_BYTES;
        huge += usage.huge_bytes;
        pages += usage.used_bytes;
    }
    /* In huge pages all is resident; the untouched pages are taken to be spread evenly. */
    untouched = huge < pages ? untouched - (size_t)((double)untouched * (double)huge / (double)pages) : 0;
    for (unsigned i = 0; keyspace->far_pools && i < keyspace->pool_count; i++) {
        if (!keyspace->far_pools[i]) continue;
        struct region_pool_usage usage = region_pool_usage(keyspace->far_pools[i]);
        held += usage.used_bytes + usage.large_bytes;
        regions += usage.reserved_bytes / REGION_BYTES;
    }
    kinds->records = memory->keyspace.record_bytes;
    kinds->record_slack = at_least_zero(memory->keyspace.page_bytes, kinds->records + untouched);
    kinds->index = memory->keyspace.index_bytes;
    kinds->index_slack = at_least_zero(memory->keyspace.segment_page_bytes, memory->keyspace.segment_bytes);
    kinds->freed_pages = memory->keyspace.dirty_bytes;
    kinds->regions = regions * sizeof(struct region_description);
    /* Values that were deleted while they are being sent belong to no heap any more. */
    kinds->client_reply = at_least_zero(held, memory->keyspace.page_bytes + memory->keyspace.segment_page_bytes);
}

static void count_allocated(const struct server *server, const struct allocator_usage *allocator,
                            struct metrics_memory *memory) {
    struct memory_kinds *kinds = &memory->kinds;
    size_t pending = 0, unfilled = 0;
    for (unsigned i = 0; i < server->worker_count; i++) {
        const struct client_memory *clients = &server->workers[i]->client_memory;
        kinds->client_query += stat_get(&clients->query_bytes);
        pending += at_least_zero(stat_get(&clients->reply_bytes), stat_get(&clients->pinned_bytes));
        unfilled += stat_get(&clients->unfilled_bytes);
        kinds->client_other += stat_get(&clients->other_bytes);
        kinds->workers += worker_buffer_bytes(server->workers[i]);
    }
    kinds->client_reply += pending;
    if (server->tier) {
        struct tier_figures figures;
        tier_figures(server->tier, &figures);
        kinds->io = tier_buffer_bytes(server->tier);
        kinds->tier = figures.metadata_bytes;
    }
    size_t directories = at_least_zero(memory->keyspace.index_bytes, memory->keyspace.segment_bytes);
    size_t known = directories + kinds->client_query + unfilled + pending + kinds->client_other + kinds->workers +
                   kinds->io + kinds->tier;
    kinds->other = at_least_zero(allocator->allocated_bytes, known);
    kinds->allocator_slack =
        at_least_zero(allocator->resident_bytes, allocator->allocated_bytes + server->metrics.allocator_excess_bytes);
}

static size_t sum_of(const struct memory_kinds *kinds) {
    return kinds->records + kinds->record_slack + kinds->index + kinds->index_slack + kinds->freed_pages +
           kinds->regions + kinds->client_query + kinds->client_reply + kinds->client_other + kinds->workers +
           kinds->io + kinds->tier + kinds->other + kinds->allocator_slack + kinds->program;
}

static void count_kinds(const struct server *server, const struct allocator_usage *allocator, size_t shared,
                        struct metrics_memory *memory) {
    struct memory_kinds *kinds = &memory->kinds;
    *kinds = (struct memory_kinds){.program = server->metrics.program_bytes + shared, .mapped_files = shared};
    count_regions(server, memory);
    count_allocated(server, allocator, memory);
    kinds->unaccounted = (int64_t)memory->resident_bytes - (int64_t)sum_of(kinds);
}

void metrics_memory(struct server *server, const struct view *view, struct metrics_memory *memory) {
    struct metrics *metrics = &server->metrics;
    struct metrics_totals totals;
    struct allocator_usage allocator = allocator_usage();
    size_t shared;
    keyspace_usage(view, &memory->keyspace);
    metrics_sum(server, &totals);
    memory->client_bytes = totals.client_bytes;
    size_t pages = memory->keyspace.page_bytes + memory->keyspace.segment_page_bytes;
    memory->used_bytes = memory->keyspace.record_bytes + memory->keyspace.segment_bytes + allocator.allocated_bytes;
    memory->resident_bytes = memory_resident_bytes(&metrics->limit, &shared);
    count_kinds(server, &allocator, shared, memory);
    memory->allocated_bytes = memory->used_bytes;
    memory->active_bytes = pages + allocator.active_bytes;
    memory->held_bytes = pages + memory->keyspace.dirty_bytes + allocator.resident_bytes;
    size_t peak = atomic_load_explicit(&metrics->used_bytes_peak, memory_order_relaxed);
    while (memory->used_bytes > peak &&
           !atomic_compare_exchange_weak_explicit(&metrics->used_bytes_peak, &peak, memory->used_bytes,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    memory->peak_bytes = peak > memory->used_bytes ? peak : memory->used_bytes;
}

/* ---- life ---- */

static void look_at_memory(struct server *server, struct metrics_memory *memory) {
    struct view view = {.keyspace = server->keyspace, .now_ms = clock_unix_ms()};
    metrics_memory(server, &view, memory);
}

void metrics_init(struct server *server) {
    struct metrics *metrics = &server->metrics;
    struct metrics_memory memory;
    memory_limit_init(server);
    make_room_attach(server);
    metrics->sampled_ns = clock_monotonic_ns();
    look_at_memory(server, &memory);
    metrics->used_bytes_at_start = memory.used_bytes;
    int64_t left = memory.kinds.unaccounted;
    if (left > 0)
        metrics->program_bytes = (size_t)left;
    else
        metrics->allocator_excess_bytes = (size_t)-left;
}

void metrics_free(struct server *server) {
    memory_limit_free(&server->metrics.limit);
}

void metrics_tick(struct server *server) {
    struct metrics_memory memory;
    int64_t now_ns = clock_monotonic_ns(), elapsed_ns = now_ns - server->metrics.sampled_ns;
    if (elapsed_ns < METRICS_INTERVAL_MS * INT64_C(1000000)) return;
    server->metrics.sampled_ns = now_ns;
    sample_all(server, elapsed_ns);
    look_at_memory(server, &memory);
    memory_limit_refresh(server);
}

/* ---- CONFIG RESETSTAT ---- */

static void restart(struct metrics_rate *rate) {
    rate->last = 0;
    memset(rate->samples, 0, sizeof(rate->samples));
    atomic_store_explicit(&rate->per_second, 0, memory_order_relaxed);
}

void server_reset_statistics(struct server *server) {
    for (unsigned i = 0; i < server->worker_count; i++) {
        struct worker *worker = server->workers[i];
        struct connection_io *io = &worker->io;
        command_stats_reset(server->stats[i]);
        stat_counter *counters[] = {&io->bytes_in,
                                    &io->bytes_out,
                                    &io->reads,
                                    &io->writes,
                                    &io->query_limit_closes,
                                    &io->output_limit_closes,
                                    &worker->turns,
                                    &worker->turn_ns,
                                    &worker->background_ns,
                                    &worker->sweep_ns,
                                    &worker->room.evict_ns,
                                    &worker->room.longest_ns,
                                    &worker->room.longest_cpu_ns,
                                    &worker->room.commands_held,
                                    &worker->client_memory.evicted,
                                    &worker->expired_percent_hundredths};
        for (unsigned k = 0; k < sizeof(counters) / sizeof(counters[0]); k++) stat_set(counters[k], 0);
    }
    for (uint32_t i = 0; i < server->keyspace->shard_count; i++)
        server->keyspace->shards[i].counters = (struct shard_counters){0};
    stat_set(&server->connections_received, 0);
    stat_set(&server->connections_rejected, 0);
    stat_set(&server->metrics.limit.over_ns, 0);
    replication_reset_figures(server);
    placement_reset(&server->placement);
    if (server->tier) tier_reset_figures(server->tier);
    struct metrics *metrics = &server->metrics;
    struct metrics_rate *rates[] = {&metrics->commands,        &metrics->input_bytes,      &metrics->output_bytes,
                                    &metrics->stream_in_bytes, &metrics->stream_out_bytes, &metrics->turns,
                                    &metrics->turn_ns};
    for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) restart(rates[i]);
}
