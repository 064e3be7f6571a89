/* The log.
 *
 * A line is formatted on the caller's stack and handed to the kernel in one write() on a descriptor opened
 * with O_APPEND: lines of different threads do not mix, and no lock of ours is involved. (localtime_r takes
 * one inside the C library, for as long as a conversion takes.)
 *
 * The file is opened for each line. At some microseconds a line this costs nothing noticeable at the rate a
 * server logs, and it makes rotation by rename work without a signal, which is how existing logrotate
 * files for Redis rely on it. If the file cannot be opened the line goes to standard error instead.
 *
 * The state is process-wide because the log is: a failing assertion far from any struct must be able to write
 * one. The path is written only by log_configure(), which runs while no other thread logs. */

#include "base/log.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

_Atomic int log_threshold = LOG_LEVEL_NOTICE;

static _Atomic char role_letter = 'M';

static struct {
    char file[PATH_MAX];    /* absolute; "" is standard output */
    char syslog_ident[128]; /* openlog() keeps the pointer */
    bool syslog_enabled;
} destination;

static const char level_marks[] = {'.', '-', '*', '#'};
static const int syslog_priorities[] = {LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING};

static int open_log_file(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

/* Turns `file` into an absolute path in `out`, so that a later chdir() does not move the log. */
static bool resolve_path(const char *file, char out[PATH_MAX]) {
    size_t used = 0;
    if (file[0] != '/') {
        if (!getcwd(out, PATH_MAX)) return false;
        used = strlen(out);
        if (used + 1 >= PATH_MAX) {
            errno = ENAMETOOLONG;
            return false;
        }
        out[used++] = '/';
    }
    if (used + strlen(file) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(out + used, file, strlen(file) + 1);
    return true;
}

bool log_configure(const struct log_options *options) {
    char path[PATH_MAX] = "";
    if (options->file && options->file[0] != '\0') {
        if (!resolve_path(options->file, path)) return false;
        int fd = open_log_file(path);
        if (fd < 0) return false;
        close(fd);
    }
    memcpy(destination.file, path, sizeof(path));
    if (destination.syslog_enabled) closelog();
    destination.syslog_enabled = options->syslog_ident != NULL;
    if (destination.syslog_enabled) {
        snprintf(destination.syslog_ident, sizeof(destination.syslog_ident), "%s", options->syslog_ident);
        openlog(destination.syslog_ident, LOG_PID | LOG_NDELAY | LOG_NOWAIT, options->syslog_facility);
    }
    log_set_level(options->level);
    return true;
}

void log_set_level(enum log_level level) {
    atomic_store_explicit(&log_threshold, (int)level, memory_order_relaxed);
}

void log_set_role(char role) {
    atomic_store_explicit(&role_letter, role, memory_order_relaxed);
}

/* A log line has nowhere to report its own failure, so the result of write() is dropped on purpose. */
static void write_out(const char *text, size_t length) {
    int fd = STDOUT_FILENO;
    if (destination.file[0] != '\0') {
        fd = open_log_file(destination.file);
        if (fd < 0) fd = STDERR_FILENO;
    }
    ssize_t written = write(fd, text, length);
    (void)written;
    if (fd > STDERR_FILENO) close(fd);
}

/* "4763:M 21 Nov 2026 00:02:00.891 * " */
static size_t format_prefix(char *out, size_t capacity, enum log_level level) {
    int64_t now_ms = clock_unix_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm local;
    localtime_r(&seconds, &local);
    size_t used = (size_t)snprintf(out, capacity, "%d:%c ", (int)getpid(),
                                   atomic_load_explicit(&role_letter, memory_order_relaxed));
    used += strftime(out + used, capacity - used, "%d %b %Y %H:%M:%S", &local);
    used += (size_t)snprintf(out + used, capacity - used, ".%03d %c ", (int)(now_ms % 1000), level_marks[level]);
    return used;
}

void log_write(enum log_level level, const char *format, ...) {
    assert(level < LOG_LEVEL_NOTHING);
    if (!log_is_enabled(level)) return;
    int saved_errno = errno;

    char line[LOG_LINE_BYTES_MAX];
    const size_t room = sizeof(line) - 1; /* the last byte is for the newline */
    size_t start = format_prefix(line, room, level);
    va_list arguments;
    va_start(arguments, format);
    errno = saved_errno; /* for %m */
    int wanted = vsnprintf(line + start, room - start, format, arguments);
    va_end(arguments);
    if (wanted < 0) wanted = 0;

    size_t length = start + (size_t)wanted;
    if (length >= room) {
        length = room - 1;
        memcpy(line + length - 3, "...", 3);
    }
    for (size_t i = start; i < length; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) line[i] = '?';
    }
    if (destination.syslog_enabled) {
        syslog(syslog_priorities[level], "%.*s", (int)(length - start), line + start);
    }
    line[length++] = '\n';
    write_out(line, length);
    errno = saved_errno;
}

void log_write_raw(struct span text) {
    if (log_is_enabled(LOG_LEVEL_NOTICE)) write_out(text.data, text.length);
}

/* Decimal digits of a positive number without stdio; returns the end of the text. */
static char *append_decimal(char *out, unsigned long long value) {
    char digits[24];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count) *out++ = digits[--count];
    return out;
}

static char *append_text(char *out, const char *end, const char *text) {
    while (*text && out < end) *out++ = *text++;
    return out;
}

void log_write_in_signal(enum log_level level, const char *text) {
    if (!log_is_enabled(level)) return;
    int saved_errno = errno;
    char line[512];
    const char *end = line + sizeof(line) - 1;
    char *at = append_decimal(line, (unsigned long long)getpid());
    at = append_text(at, end, ":signal-handler (");
    at = append_decimal(at, (unsigned long long)time(NULL));
    at = append_text(at, end, ") ");
    at = append_text(at, end, text);
    *at++ = '\n';
    write_out(line, (size_t)(at - line));
    errno = saved_errno;
}

/* The escape of one byte in `out` (at most 4 characters, not terminated); returns how many. */
static size_t escape_byte(unsigned char c, char out[4]) {
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = "\n\r\t\a\b\"\\";
    static const char names[] = "nrtab\"\\";
    const char *letter = c ? strchr(letters, c) : NULL;
    if (letter) {
        out[0] = '\\';
        out[1] = names[letter - letters];
        return 2;
    }
    if (c >= 0x20 && c < 0x7f) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = '\\';
    out[1] = 'x';
    out[2] = hex[c >> 4];
    out[3] = hex[c & 15];
    return 4;
}

size_t log_escape(char *out, size_t capacity, struct span data) {
    assert(capacity >= 4);
    size_t used = 0;
    size_t fallback = 0; /* the longest prefix after which "..." still fits */
    for (size_t i = 0; i < data.length; i++) {
        char piece[4];
        size_t length = escape_byte((unsigned char)data.data[i], piece);
        if (used + length >= capacity) {
            memcpy(out + fallback, "...", 4);
            return fallback + 3;
        }
        memcpy(out + used, piece, length);
        used += length;
        if (used + 4 <= capacity) fallback = used;
    }
    out[used] = '\0';
    return used;
}
