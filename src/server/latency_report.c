/* See latency_report.h. The graph, for samples of 10, 40 and 25 ms:
 *
 *     command - high 40 ms, low 10 ms (all time high 40 ms)
 *     --------------------------------------------------------------------------------
 *      #
 *      ##
 *      ##
 *     _##
 *
 *     532
 *     0ms        (30 s, 5 m and 2 s ago, read downwards) */

#include "server/latency_report.h"

#include "server/config.h"

#include <stdio.h>

enum { COLUMNS = 80, ROWS = 4, AGE_CHARACTERS = 4 };

/* "5s", "12m", "3h", "4d" */
static void describe_age(int64_t seconds, char age[AGE_CHARACTERS + 1]) {
    static const struct {
        int64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    if (seconds < 0) seconds = 0;
    unsigned unit = 0;
    while (unit < 3 && seconds < units[unit].seconds) unit++;
    int64_t number = seconds / units[unit].seconds;
    unsigned shown = number > 999 ? 999 : (unsigned)number;
    char text[16] = "";
    snprintf(text, sizeof(text), "%u%c", shown, units[unit].unit);
    memcpy(age, text, AGE_CHARACTERS + 1);
}

static char cell(const struct latency_series *series, const struct latency_analysis *analysis, unsigned sample,
                 unsigned row) {
    int64_t duration_ms = latency_sample_at(series, sample)->duration_ms;
    int64_t range = analysis->longest_ms - analysis->shortest_ms;
    unsigned height = range ? (unsigned)((duration_ms - analysis->shortest_ms) * ROWS / range) : 0;
    if (height >= row && height > 0) return '#';
    return row == 1 ? '_' : ' ';
}

void latency_draw(const struct latency_series *series, const char *name, int64_t now_seconds, struct text *text) {
    struct latency_analysis analysis;
    char ages[COLUMNS][AGE_CHARACTERS + 1];
    unsigned columns = series->count < COLUMNS ? series->count : COLUMNS, first = series->count - columns;
    latency_analyse(series, now_seconds, &analysis);
    text_add(text, "%s - high %lld ms, low %lld ms (all time high %lld ms)\n", name, (long long)analysis.longest_ms,
             (long long)analysis.shortest_ms, (long long)series->longest_ms);
    for (unsigned i = 0; i < COLUMNS; i++) text_add(text, "-");
    text_add(text, "\n");
    for (unsigned row = ROWS; row > 0; row--) {
        for (unsigned i = 0; i < columns; i++) text_add(text, "%c", cell(series, &analysis, first + i, row));
        text_add(text, "\n");
    }
    text_add(text, "\n");
    for (unsigned i = 0; i < columns; i++)
        describe_age(now_seconds - latency_sample_at(series, first + i)->unix_seconds, ages[i]);
    for (unsigned line = 0; line < AGE_CHARACTERS; line++) {
        bool any = false;
        for (unsigned i = 0; i < columns; i++) any = any || strlen(ages[i]) > line;
        for (unsigned i = 0; any && i < columns; i++)
            text_add(text, "%c", strlen(ages[i]) > line ? ages[i][line] : ' ');
        if (any) text_add(text, "\n");
    }
}

/* ---- the doctor ---- */

static void advise(const struct latency_series *series, const struct config *config, struct text *text) {
    int64_t threshold_us = config->monitoring.latency_monitor_threshold_ms * 1000;
    int64_t slower_than_us = config->monitoring.slowlog_slower_than_us;
    bool commands = series[LATENCY_COMMAND].count || series[LATENCY_FAST_COMMAND].count;
    text_add(text, "\nWhat may help:\n");
    if (commands && (slower_than_us < 0 || slower_than_us > threshold_us))
        text_add(
            text,
            "- The slow log misses what you see here. CONFIG SET slowlog-log-slower-than %lld makes it catch up.\n",
            (long long)threshold_us);
    if (commands) text_add(text, "- SLOWLOG GET tells which commands they were, with their arguments.\n");
    if (series[LATENCY_COMMAND].count)
        text_add(text,
                 "- A command that walks all keys (KEYS, DEBUG) or moves a value of many megabytes takes its time. "
                 "SCAN does the former in steps; smaller values help with the latter.\n");
    if (series[LATENCY_FAST_COMMAND].count)
        text_add(
            text,
            "- Commands that touch one key should not be slow: look for a host short of CPU, swapping, or a virtual "
            "machine that is kept waiting (steal time).\n");
    if (series[LATENCY_EXPIRE_CYCLE].count)
        text_add(text,
                 "- Expired keys are removed in slices of a fraction of a millisecond; when one takes longer, the "
                 "thread was not given the CPU. See whether other processes want it too.\n");
}

void latency_diagnose(struct latency *latency, const struct config *config, int64_t now_seconds, struct text *text) {
    struct latency_series series[LATENCY_EVENTS];
    bool any = false;
    for (unsigned event = 0; event < LATENCY_EVENTS; event++) {
        latency_copy(latency, (enum latency_event)event, &series[event]);
        any = any || series[event].count;
    }
    if (!any && config->monitoring.latency_monitor_threshold_ms == 0) {
        text_add(
            text,
            "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it on: events that "
            "take at least so long are kept from then on.\n");
        return;
    }
    if (!any) {
        text_add(text, "Nothing took as long as %lld ms since the latency monitor was turned on or reset.\n",
                 (long long)config->monitoring.latency_monitor_threshold_ms);
        return;
    }
    text_add(text, "These events took longer than they should:\n\n");
    for (unsigned event = 0; event < LATENCY_EVENTS; event++) {
        struct latency_analysis analysis;
        if (!series[event].count) continue;
        latency_analyse(&series[event], now_seconds, &analysis);
        text_add(text,
                 "- %s: in %u seconds of the record, on average %lld ms (mean deviation %lld ms), about every %.0f s. "
                 "The worst took %lld ms.\n",
                 latency_event_name((enum latency_event)event), series[event].count, (long long)analysis.average_ms,
                 (long long)analysis.deviation_ms, analysis.period_seconds, (long long)series[event].longest_ms);
    }
    advise(series, config, text);
}
