/* See memory_report.h. The thresholds are rules of thumb: what is below them is not worth a person's time. */

#include "server/memory_report.h"

enum {
    SMALL_BYTES = 5 << 20,    /* a server that uses less has nothing to diagnose */
    WASTE_BYTES = 10 << 20,   /* waste below this is not worth a word */
    PEAK_PERCENT = 150,       /* of what is used now */
    RESIDENT_PERCENT = 140,   /* likewise */
    SPARSE_PERCENT = 130,     /* slab pages, of the records in them */
    LIMIT_PERCENT = 90,       /* of maxmemory */
    CLIENT_BYTES = 200 << 10, /* of one client, on average */
};

static bool exceeds(uint64_t part, uint64_t whole, unsigned percent) {
    return part > whole && part - whole > WASTE_BYTES && part / percent > whole / 100;
}

static void finding(struct text *text, unsigned *count, const char *label, uint64_t bytes, const char *advice) {
    char human[TEXT_HUMAN_MAX];
    text_human_bytes(bytes, human);
    text_add(text, "%s%u. %s: %s. %s\n", *count ? "\n" : "", *count + 1, label, human, advice);
    (*count)++;
}

void memory_diagnose(const struct memory_findings *findings, struct text *text) {
    const struct metrics_memory *memory = findings->memory;
    unsigned count = 0;
    if (memory->used_bytes < SMALL_BYTES) {
        text_add(text, "This server uses less than 5 MB: there is nothing to diagnose yet.\n");
        return;
    }
    if (exceeds(memory->peak_bytes, memory->used_bytes, PEAK_PERCENT))
        finding(
            text, &count, "The peak was much higher than what is used now", memory->peak_bytes,
            "Freed memory goes back to the system within seconds; a resident size that stays high has another cause.");
    if (exceeds(memory->resident_bytes, memory->used_bytes, RESIDENT_PERCENT))
        finding(
            text, &count, "More is resident than used", memory->resident_bytes - memory->used_bytes,
            "Sparse pages are emptied in the background. If this stays, MEMORY PURGE gives back what is free at once.");
    if (exceeds(memory->keyspace.page_bytes, memory->keyspace.record_bytes, SPARSE_PERCENT))
        finding(text, &count, "Record pages are partly empty",
                memory->keyspace.page_bytes - memory->keyspace.record_bytes,
                "Compaction is at work after many deletions; it takes longer while the server is busy.");
    if (findings->clients && memory->client_bytes / findings->clients > CLIENT_BYTES)
        finding(
            text, &count, "Clients hold large buffers", memory->client_bytes,
            "Some send very large commands or do not read their replies: CLIENT LIST shows qbuf and omem of each, and "
            "client-output-buffer-limit bounds them.");
    if (findings->limit_bytes && memory->used_bytes / LIMIT_PERCENT > findings->limit_bytes / 100)
        finding(text, &count, "Little is left below maxmemory",
                findings->limit_bytes > memory->used_bytes ? findings->limit_bytes - memory->used_bytes : 0,
                "Commands that need memory are refused at the limit.");
    if (!count) text_add(text, "Nothing looks wrong with the memory of this server.\n");
}
