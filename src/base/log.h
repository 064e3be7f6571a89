#ifndef TERRACE_BASE_LOG_H
#define TERRACE_BASE_LOG_H

/* The server's log. One line per call, written with one write():
 *
 *     4763:M 21 Nov 2026 00:02:00.891 * Ready to accept connections
 *     |    | |                        |
 *     |    | local time               . debug   - verbose   * notice   # warning
 *     pid  role: M primary, S replica, C helper process
 *
 * Scripts that grep Redis logs work unchanged. Every function may be called from any thread, except
 * log_configure(), which the server calls before the workers start or while they are stopped. */

#include "base/span.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum log_level {
    LOG_LEVEL_DEBUG = 0,
    LOG_LEVEL_VERBOSE = 1,
    LOG_LEVEL_NOTICE = 2,
    LOG_LEVEL_WARNING = 3,
    LOG_LEVEL_NOTHING = 4, /* as a threshold: not even warnings are written */
};

/* A longer line is cut and ends in "...". */
#define LOG_LINE_BYTES_MAX 4096

struct log_options {
    enum log_level level;
    const char *file;         /* NULL or "": standard output. A relative name is resolved now, once */
    const char *syslog_ident; /* NULL: no syslog. Copied, like `file` */
    int syslog_facility;      /* LOG_LOCAL0 ... of <syslog.h> */
};

/* Returns false with errno set when the file cannot be opened for appending or its name is too long;
 * nothing has changed then. The file is opened anew for each line, so a log rotator may rename it at any
 * time without telling the server. */
bool log_configure(const struct log_options *options) __attribute__((warn_unused_result));

void log_set_level(enum log_level level);

/* 'M' until told otherwise. */
void log_set_role(char role);

extern _Atomic int log_threshold;

static inline bool log_is_enabled(enum log_level level) {
    return (int)level >= atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

/* Control characters in the finished message become '?'; format client data with log_escape() first, so
 * that nothing is lost. errno is preserved. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Arguments are evaluated only when the level is enabled. */
#define log_debug(...)   log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_verbose(...) log_at(LOG_LEVEL_VERBOSE, __VA_ARGS__)
#define log_notice(...)  log_at(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_at(level, ...)                                                                                             \
    do {                                                                                                               \
        if (log_is_enabled(level)) log_write((level), __VA_ARGS__);                                                    \
    } while (0)

/* Writes `text` as it is, without a prefix: for the logo. Skipped when the level is above notice. */
void log_write_raw(struct span text);

/* The one call allowed inside a signal handler: "pid:signal-handler (unix seconds) text". Not sent to syslog. */
void log_write_in_signal(enum log_level level, const char *text);

/* Copies `data` to `out` in printable form: \n \r \t \a \b \" \\ and \xHH, the rest as is. Always ends `out`
 * with a NUL; if it does not fit, whole escapes are kept and "..." closes it. Returns the length written
 * without the NUL. Precondition: capacity >= 4. */
size_t log_escape(char *out, size_t capacity, struct span data);

#endif
