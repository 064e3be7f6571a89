/* Progress.
 *
 *     load 4gb          [#############-----------------]  43 %   512 k/s   541 MB/s  00:12 left
 *
 * On a terminal one line is drawn over and over and wiped at the end. Elsewhere (a log, a pipe) each phase gets a line
 * when it begins, one every LINE_SECONDS, and one when it ends. */
#include "bench/capacity_progress.h"

#include <string.h>
#include <unistd.h>

enum { BAR_WIDTH = 30, LINE_SECONDS = 10, LINE_WIDTH = 110 };

void progress_init(struct progress *progress, FILE *out, bool quiet) {
    *progress = (struct progress){.out = out, .quiet = quiet, .terminal = isatty(fileno(out)) == 1};
}

void progress_begin(struct progress *progress, const char *phase, const char *dataset) {
    progress->phase = phase;
    progress->dataset = dataset;
    progress->last = (struct run_progress){0};
    progress->rate = 0;
    progress->next_line_at = LINE_SECONDS;
    if (!progress->quiet && !progress->terminal) fprintf(progress->out, "%s, %s ...\n", dataset, phase);
}

static void format_rate(char *text, size_t size, double rate) {
    if (rate >= 1e6)
        snprintf(text, size, "%.2f M/s", rate / 1e6);
    else if (rate >= 1e4)
        snprintf(text, size, "%.0f k/s", rate / 1e3);
    else
        snprintf(text, size, "%.0f /s", rate);
}

static void describe(const struct progress *progress, const struct run_progress *now, char *text, size_t size) {
    char rate[32], left[32] = "";
    format_rate(rate, sizeof(rate), progress->rate);
    if (now->share > 0.001 && now->share < 1) {
        double seconds = now->seconds / now->share * (1 - now->share);
        snprintf(left, sizeof(left), "  %02.0f:%02d left", seconds < 6000 ? (double)((int)seconds / 60) : 99.0,
                 (int)seconds % 60);
    }
    double payload = now->seconds > 0 ? (double)now->payload_bytes / now->seconds / 1e6 : 0;
    snprintf(text, size, "%3.0f %%  %9s  %6.0f MB/s%s", now->share * 100, rate, payload, left);
}

void progress_show(void *context, const struct run_progress *now) {
    struct progress *progress = context;
    double seconds = now->seconds - progress->last.seconds;
    if (progress->quiet || seconds <= 0) return;
    double rate = (double)(now->operations - progress->last.operations) / seconds;
    /* The last call comes soon after the one before it; a rate of that moment means little. */
    if (seconds > 0.05) progress->rate = progress->rate == 0 ? rate : progress->rate * 0.7 + rate * 0.3;
    progress->last = *now;
    char text[128];
    describe(progress, now, text, sizeof(text));
    if (progress->terminal) {
        char bar[BAR_WIDTH + 1];
        int full = (int)(now->share * BAR_WIDTH);
        memset(bar, '#', (size_t)full);
        memset(bar + full, '-', (size_t)(BAR_WIDTH - full));
        bar[BAR_WIDTH] = '\0';
        fprintf(progress->out, "\r%-11s %-8s [%s] %-48s", progress->phase, progress->dataset, bar, text);
        fflush(progress->out);
    } else if (now->seconds >= progress->next_line_at) {
        progress->next_line_at += LINE_SECONDS;
        fprintf(progress->out, "%s, %s: %s\n", progress->dataset, progress->phase, text);
    }
}

void progress_end(struct progress *progress) {
    if (progress->quiet) return;
    const struct run_progress *last = &progress->last;
    if (progress->terminal) {
        fprintf(progress->out, "\r%*s\r", LINE_WIDTH, "");
        fflush(progress->out);
    } else {
        fprintf(progress->out, "%s, %s: done, %llu operations in %.1f s\n", progress->dataset, progress->phase,
                (unsigned long long)last->operations, last->seconds);
    }
}
