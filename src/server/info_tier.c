/* INFO tier: what is where, how often it was found there, and what moving and reading it took. The section is always
 * there; without a tier it says so and its figures are zero. */

#include "server/info.h"
#include "server/server.h"

static void add(struct text *text, const char *name, uint64_t value) {
    text_add(text, "%s:%llu\r\n", name, (unsigned long long)value);
}

static void add_share(struct text *text, const char *name, uint64_t part, uint64_t whole) {
    text_add(text, "%s:%.2f\r\n", name, whole ? 100.0 * (double)part / (double)whole : 0);
}

/* Records and bytes of each medium, and how often a key that was read was found there. */
static void add_media(const struct keyspace_usage *usage, const struct tier_figures *figures, struct text *text) {
    const struct shard_counters *counters = &usage->counters;
    uint64_t hits = counters->hits, dram_hits = hits - counters->far_hits - counters->tier_hits;
    add(text, "dram_records", usage->records - usage->far_records);
    add(text, "dram_bytes", usage->record_bytes - usage->far_record_bytes);
    add(text, "far_records", usage->far_records);
    add(text, "far_bytes", usage->far_record_bytes);
    add(text, "tier_records", usage->cold_records);
    add(text, "tier_bytes", figures->segments.live_bytes);
    add(text, "dram_hits", dram_hits);
    add(text, "far_hits", counters->far_hits);
    add(text, "tier_hits", counters->tier_hits);
    add_share(text, "dram_hit_percent", dram_hits, hits);
    add_share(text, "far_hit_percent", counters->far_hits, hits);
    add_share(text, "tier_hit_percent", counters->tier_hits, hits);
    add(text, "tier_promotions", counters->promotions);
    add(text, "tier_demotions", counters->demotions);
    add(text, "far_promotions", counters->far_promotions);
    add(text, "far_demotions", counters->far_demotions);
}

static void add_reading(const struct tier_figures *figures, struct text *text) {
    add(text, "tier_reads", figures->reads);
    add(text, "tier_read_bytes", figures->read_bytes);
    add(text, "tier_coalesced_reads", figures->coalesced_reads);
    add(text, "tier_memory_reads", figures->memory_reads);
    add(text, "tier_synchronous_reads", figures->synchronous_reads);
    add(text, "tier_failed_reads", figures->failed_reads);
    add(text, "tier_stale_reads", figures->stale_reads);
    add(text, "tier_in_flight", figures->in_flight);
    add(text, "tier_staged_bytes", figures->staged_bytes);
    text_add(text, "tier_read_latency_us:");
    bool first = true;
    for (unsigned i = 0; i < TIER_LATENCY_BUCKETS; i++) {
        if (!figures->latency_us[i]) continue;
        text_add(text, "%s%llu=%llu", first ? "" : ",", 1ull << i, (unsigned long long)figures->latency_us[i]);
        first = false;
    }
    text_add(text, "\r\n");
}

static void add_writing(const struct tier_figures *figures, struct text *text) {
    uint64_t moved_in = figures->appended_bytes - figures->cleaned_bytes;
    add(text, "tier_writes", figures->writes);
    add(text, "tier_written_bytes", figures->written_bytes);
    add(text, "tier_failed_writes", figures->failed_writes);
    add(text, "tier_unwritten_bytes", figures->unwritten_bytes);
    add(text, "tier_appended_records", figures->appended_records);
    add(text, "tier_appended_bytes", figures->appended_bytes);
    add(text, "tier_cleaned_segments", figures->cleaned_segments);
    add(text, "tier_cleaned_records", figures->cleaned_records);
    add(text, "tier_cleaned_bytes", figures->cleaned_bytes);
    add(text, "tier_evicted_segments", figures->evicted_segments);
    text_add(text, "tier_write_amplification:%.2f\r\n",
             moved_in ? (double)figures->written_bytes / (double)moved_in : 0);
}

static void add_space(const struct tier_figures *figures, struct text *text) {
    const struct segment_usage *segments = &figures->segments;
    add(text, "tier_size", figures->size_bytes);
    add(text, "tier_file_bytes", (uint64_t)segments->highest * figures->segment_bytes);
    add(text, "tier_used_bytes", segments->used_bytes);
    add(text, "tier_live_bytes", segments->live_bytes);
    add(text, "tier_segment_bytes", figures->segment_bytes);
    add(text, "tier_segments", segments->segments - segments->absent);
    add(text, "tier_segments_pending", segments->pending);
    add(text, "tier_segments_images", segments->images);
    add(text, "tier_segments_free", segments->free);
    add(text, "tier_segments_kept_for_images", segments->kept);
    add(text, "tier_segments_sealed", segments->sealed);
    add(text, "tier_segments_cleaning", segments->cleaning);
    add(text, "tier_segments_damaged", segments->damaged);
    add(text, "tier_metadata_bytes", figures->metadata_bytes);
}

void info_tier(const struct info_source *source, struct text *text) {
    struct tier *tier = source->server->tier;
    struct tier_figures figures = {0};
    if (tier) tier_figures(tier, &figures);
    text_add(text, "tier_enabled:%d\r\ntier_path:%s\r\n", tier != NULL,
             figures.pmem ? source->server->config.pmem.pool : source->server->config.tier.path);
    text_add(text, "tier_access:%s\r\ntier_io:%s\r\n",
             !tier            ? "none"
             : figures.pmem   ? "pmem"
             : figures.mapped ? "mapped"
             : figures.direct ? "direct"
                              : "cached",
             !tier           ? "none"
             : figures.pmem  ? "copy"
             : figures.uring ? "io_uring"
                             : "threads");
    text_add(text, "tier_status:%s\r\n", !tier ? "off" : figures.failing ? "failing" : figures.full ? "full" : "ok");
    add_media(&source->memory->keyspace, &figures, text);
    add_reading(&figures, text);
    add_writing(&figures, text);
    add_space(&figures, text);
    tier_persist_info(source->server, text);
}
