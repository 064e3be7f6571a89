/* See metrics.h.
 *
 * Workers count for themselves with plain stores; whoever asks adds up. A sum taken while others serve is not of one
 * instant, which no reader of INFO can tell.
 *
 * What counts as used: the size classes of live records, the segments of the index, and what the allocator has handed
 * out (buffers, connections, everything else). It is what would remain if nothing were wasted. Resident is what the
 * kernel says we hold; the difference is slab pages not full, freed pages not yet given back, code and stacks.
 *
 * Out of memory is decided here, once a tick, with a band of 1/128 of the limit, so that a server at the limit
 * does not change its mind with every command. The resident size counts too, less what an empty server has, since
 * a limit below that would never let a write pass. */

#include "server/metrics.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/allocator.h"
#include "server/server.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BAND_PART = 128 };

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
    sample(&metrics->output_bytes, totals.bytes_out, elapsed_ns);
    sample(&metrics->turns, totals.turns, elapsed_ns);
    sample(&metrics->turn_ns, totals.turn_ns, elapsed_ns);
    if (getrusage(RUSAGE_THREAD, &own) != 0) return;
    atomic_store_explicit(&metrics->main_user_us, metrics_microseconds(own.ru_utime), memory_order_relaxed);
    atomic_store_explicit(&metrics->main_system_us, metrics_microseconds(own.ru_stime), memory_order_relaxed);
}

/* ---- memory ---- */

static size_t resident_bytes(const struct metrics *metrics) {
    char text[128];
    ssize_t length = metrics->statm_fd < 0 ? -1 : pread(metrics->statm_fd, text, sizeof(text) - 1, 0);
    if (length <= 0) return 0;
    text[length] = '\0';
    char *second = strchr(text, ' ');
    return second ? (size_t)strtoull(second, NULL, 10) * metrics->page_bytes : 0;
}

void metrics_memory(struct server *server, const struct view *view, struct metrics_memory *memory) {
    struct metrics *metrics = &server->metrics;
    struct metrics_totals totals;
    struct allocator_usage allocator = allocator_usage();
    keyspace_usage(view, &memory->keyspace);
    metrics_sum(server, &totals);
    memory->client_bytes = totals.client_bytes;
    size_t pages = memory->keyspace.page_bytes + memory->keyspace.segment_page_bytes;
    memory->used_bytes = memory->keyspace.record_bytes + memory->keyspace.segment_bytes + allocator.allocated_bytes;
    memory->resident_bytes = resident_bytes(metrics);
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

static void check_limit(struct server *server, const struct metrics_memory *memory) {
    uint64_t limit = (uint64_t)server->config.memory.maxmemory_bytes;
    atomic_bool *flag = &server->host.out_of_memory;
    bool was = atomic_load_explicit(flag, memory_order_relaxed);
    if (was) limit -= limit / BAND_PART;
    bool over = memory->used_bytes > limit || memory->resident_bytes > limit + server->metrics.resident_bytes_at_start;
    if (server->config.memory.maxmemory_bytes == 0) over = false;
    if (over != was) atomic_store_explicit(flag, over, memory_order_relaxed);
    if (over && !was) log_warning("maxmemory is reached: commands that need memory are refused");
    if (was && !over) log_notice("below maxmemory again: all commands are served");
}

/* ---- life ---- */

static void look_at_memory(struct server *server, struct metrics_memory *memory) {
    struct view view = {.keyspace = server->keyspace, .now_ms = clock_unix_ms()};
    metrics_memory(server, &view, memory);
}

void metrics_init(struct server *server) {
    struct metrics *metrics = &server->metrics;
    struct metrics_memory memory;
    metrics->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    metrics->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    metrics->sampled_ns = clock_monotonic_ns();
    look_at_memory(server, &memory);
    metrics->used_bytes_at_start = memory.used_bytes;
    metrics->resident_bytes_at_start = memory.resident_bytes;
}

void metrics_free(struct server *server) {
    if (server->metrics.statm_fd >= 0) close(server->metrics.statm_fd);
}

void metrics_tick(struct server *server) {
    struct metrics_memory memory;
    int64_t now_ns = clock_monotonic_ns(), elapsed_ns = now_ns - server->metrics.sampled_ns;
    if (elapsed_ns < METRICS_INTERVAL_MS * INT64_C(1000000)) return;
    server->metrics.sampled_ns = now_ns;
    sample_all(server, elapsed_ns);
    look_at_memory(server, &memory);
    check_limit(server, &memory);
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
                                    &worker->expired_percent_hundredths};
        for (unsigned k = 0; k < sizeof(counters) / sizeof(counters[0]); k++) stat_set(counters[k], 0);
    }
    for (uint32_t i = 0; i < server->keyspace->shard_count; i++)
        server->keyspace->shards[i].counters = (struct shard_counters){0};
    stat_set(&server->connections_received, 0);
    stat_set(&server->connections_rejected, 0);
    placement_reset(&server->placement);
    if (server->tier) tier_reset_figures(server->tier);
    struct metrics *metrics = &server->metrics;
    struct metrics_rate *rates[] = {&metrics->commands, &metrics->input_bytes, &metrics->output_bytes, &metrics->turns,
                                    &metrics->turn_ns};
    for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) restart(rates[i]);
}
