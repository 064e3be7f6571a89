/* Printing: the same figures twice. Quantiles are upper bounds of histogram buckets, so they never flatter. */
#include "bench/report.h"

static double quantile_us(const struct report *report, double fraction) {
    return (double)histogram_quantile(report->latency_ns, fraction) / 1000;
}

static double per_second(const struct report *report, uint64_t count) {
    return report->seconds > 0 ? (double)count / report->seconds : 0;
}

void report_print_text(const struct report *report, FILE *out) {
    fprintf(out, "%llu operations in %.3f s: %.0f operations/s (seed %llu)\n", (unsigned long long)report->operations,
            report->seconds, per_second(report, report->operations), (unsigned long long)report->seed);
    fprintf(out, "latency in us: p50 %.1f  p99 %.1f  p99.9 %.1f  max %.1f\n", quantile_us(report, 0.5),
            quantile_us(report, 0.99), quantile_us(report, 0.999), (double)report->latency_ns->max / 1000);
    fprintf(out, "bytes: %llu sent, %llu received (%.1f MB/s)\n", (unsigned long long)report->bytes_sent,
            (unsigned long long)report->bytes_received,
            per_second(report, report->bytes_sent + report->bytes_received) / 1e6);
    fprintf(out, "error replies: %llu%s%s\n", (unsigned long long)report->errors, report->errors > 0 ? ", first: " : "",
            report->errors > 0 ? report->first_error : "");
}

static void print_json_string(const char *text, FILE *out) {
    fputc('"', out);
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\') {
            fprintf(out, "\\%c", byte);
        } else if (byte < 0x20 || byte >= 0x7f) {
            fprintf(out, "\\u%04x", byte);
        } else {
            fputc(byte, out);
        }
    }
    fputc('"', out);
}

void report_print_json(const struct report *report, FILE *out) {
    fprintf(out, "{\"operations\": %llu, \"seconds\": %.6f, \"operations_per_second\": %.1f, \"seed\": %llu, ",
            (unsigned long long)report->operations, report->seconds, per_second(report, report->operations),
            (unsigned long long)report->seed);
    fprintf(out, "\"latency_us\": {\"p50\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, \"max\": %.3f}, ",
            quantile_us(report, 0.5), quantile_us(report, 0.99), quantile_us(report, 0.999),
            (double)report->latency_ns->max / 1000);
    fprintf(out, "\"bytes_sent\": %llu, \"bytes_received\": %llu, \"errors\": %llu, \"first_error\": ",
            (unsigned long long)report->bytes_sent, (unsigned long long)report->bytes_received,
            (unsigned long long)report->errors);
    print_json_string(report->first_error, out);
    fputs("}\n", out);
}
