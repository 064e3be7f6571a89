/* Samples of a server.
 *
 * The process is read through /proc when it is known: by --pid, or by INFO's process_id when the server is reached over
 * loopback or a Unix socket. A server in a container tells a process id that means another process here, or none; so a
 * process that was not named is believed only when its resident size is about what INFO says. */
#include "bench/capacity_probe.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    PROC_TEXT_MAX = 1 << 16,
    SECTOR_SIZE = 512, /* the unit of /proc/diskstats, whatever the device's own is */
};

static const struct {
    const char *name;
    bool is_counter;
} fields[PROBE_FIELDS] = {
    [PROBE_USED_MEMORY] = {"used_memory", false},
    [PROBE_USED_MEMORY_RSS] = {"used_memory_rss", false},
    [PROBE_KEYSPACE_HITS] = {"keyspace_hits", true},
    [PROBE_KEYSPACE_MISSES] = {"keyspace_misses", true},
    [PROBE_EVICTED_KEYS] = {"evicted_keys", true},
    [PROBE_EXPIRED_KEYS] = {"expired_keys", true},
    [PROBE_DRAM_HITS] = {"dram_hits", true},
    [PROBE_FAR_HITS] = {"far_hits", true},
    [PROBE_TIER_HITS] = {"tier_hits", true},
    [PROBE_TIER_READS] = {"tier_reads", true},
    [PROBE_TIER_COALESCED_READS] = {"tier_coalesced_reads", true},
    [PROBE_TIER_PROMOTIONS] = {"tier_promotions", true},
    [PROBE_TIER_DEMOTIONS] = {"tier_demotions", true},
};

const char *probe_field_name(enum probe_field field) {
    return fields[field].name;
}

bool probe_field_is_counter(enum probe_field field) {
    return fields[field].is_counter;
}

/* The text behind `name:` at the start of a line; NULL when there is none. */
static const char *find_line(const char *info, const char *name) {
    size_t length = strlen(name);
    for (const char *line = info; line != NULL; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, name, length) == 0 && line[length] == ':') return line + length + 1;
    }
    return NULL;
}

int64_t probe_find_number(const char *info, const char *name) {
    const char *text = find_line(info, name);
    if (text == NULL || *text < '0' || *text > '9') return -1;
    return strtoll(text, NULL, 10);
}

static void copy_line(const char *info, const char *name, char *out, size_t size) {
    const char *text = find_line(info, name);
    if (text == NULL) return;
    snprintf(out, size, "%.*s", (int)strcspn(text, "\r\n"), text);
}

void probe_parse_stat(const char *stat, long ticks_per_second, long page_size, struct probe_sample *sample) {
    sample->rss_bytes = sample->cpu_ns = -1;
    /* The second field is the name in parentheses, which may hold anything. */
    const char *at = stat == NULL ? NULL : strrchr(stat, ')');
    if (at == NULL) return;
    unsigned long long user, system;
    long long pages;
    if (sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %lld",
               &user, &system, &pages) != 3)
        return;
    sample->cpu_ns = (int64_t)((double)(user + system) * 1e9 / (double)ticks_per_second);
    sample->rss_bytes = (int64_t)pages * page_size;
}

static int64_t number_of_line(const char *text, const char *name) {
    return text == NULL ? -1 : probe_find_number(text, name);
}

/* "name: 12" is INFO's form but for the blank. */
static int64_t io_number(const char *io, const char *name) {
    const char *text = io == NULL ? NULL : find_line(io, name);
    return text == NULL ? -1 : strtoll(text, NULL, 10);
}

void probe_parse_io(const char *io, struct probe_sample *sample) {
    sample->io_read_bytes = io_number(io, "read_bytes");
    sample->io_write_bytes = io_number(io, "write_bytes");
}

bool probe_parse_device(const char *diskstats, const char *device, struct probe_sample *sample) {
    sample->device_reads = sample->device_writes = -1;
    sample->device_read_bytes = sample->device_write_bytes = -1;
    for (const char *line = diskstats; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        char name[128];
        unsigned long long reads, read_sectors, writes, written_sectors;
        if (sscanf(line, "%*u %*u %127s %llu %*u %llu %*u %llu %*u %llu", name, &reads, &read_sectors, &writes,
                   &written_sectors) != 5 ||
            strcmp(name, device) != 0)
            continue;
        sample->device_reads = (int64_t)reads;
        sample->device_writes = (int64_t)writes;
        sample->device_read_bytes = (int64_t)read_sectors * SECTOR_SIZE;
        sample->device_write_bytes = (int64_t)written_sectors * SECTOR_SIZE;
        return true;
    }
    return false;
}

/* The text of a file below /proc, or NULL. The caller frees it. */
static char *read_proc(const char *path) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return NULL;
    char *text = malloc(PROC_TEXT_MAX);
    assert(text != NULL);
    size_t length = fread(text, 1, PROC_TEXT_MAX - 1, file);
    fclose(file);
    text[length] = '\0';
    return text;
}

static void look_at_process(pid_t pid, struct probe_sample *sample) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    char *text = pid == 0 ? NULL : read_proc(path);
    probe_parse_stat(text, sysconf(_SC_CLK_TCK), sysconf(_SC_PAGESIZE), sample);
    free(text);
    snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
    text = pid == 0 ? NULL : read_proc(path);
    probe_parse_io(text, sample);
    free(text);
}

static bool look_at_device(const char *device, struct probe_sample *sample) {
    char *text = device == NULL ? NULL : read_proc("/proc/diskstats");
    bool found = probe_parse_device(text, device == NULL ? "" : device, sample);
    free(text);
    return found;
}

/* Everything INFO has; older servers know only its default sections. */
static const char *ask_info(struct control *control) {
    const char *info = control_ask(control, "INFO everything");
    if (info == NULL || find_line(info, "used_memory") == NULL) info = control_ask(control, "INFO");
    return info;
}

bool probe_take(const struct probe *probe, struct probe_sample *sample) {
    const char *info = ask_info(probe->control);
    bool known = info != NULL;
    for (unsigned i = 0; i < PROBE_FIELDS; i++) sample->info[i] = number_of_line(info, fields[i].name);
    /* What Redis does not have is a section of its own; a server without it answers with nothing. */
    const char *tier = control_ask(probe->control, "INFO tier");
    for (unsigned i = 0; tier != NULL && i < PROBE_FIELDS; i++)
        if (sample->info[i] < 0) sample->info[i] = number_of_line(tier, fields[i].name);
    look_at_process(probe->pid, sample);
    look_at_device(probe->device, sample);
    return known;
}

int64_t probe_count_keys(const struct probe *probe) {
    const char *text = control_ask(probe->control, "DBSIZE");
    return text == NULL ? -1 : strtoll(text, NULL, 10);
}

static bool is_local(const struct load_options *server) {
    if (server->unix_socket != NULL) return true;
    return strncmp(server->host, "127.", 4) == 0 || strcmp(server->host, "::1") == 0 ||
           strcasecmp(server->host, "localhost") == 0;
}

/* Whether the process may be the one that INFO described. */
static bool is_plausible(pid_t pid, int64_t info_rss) {
    struct probe_sample sample;
    look_at_process(pid, &sample);
    const int64_t slack = 64 << 20;
    return sample.rss_bytes >= 0 && info_rss >= 0 && sample.rss_bytes / 2 - slack < info_rss &&
           info_rss / 2 - slack < sample.rss_bytes;
}

static void ask_maxmemory(struct probe *probe) {
    probe->maxmemory = -1;
    const char *pair = control_ask(probe->control, "CONFIG GET maxmemory");
    const char *value = pair == NULL ? NULL : strchr(pair, '\n');
    if (value != NULL && value[1] >= '0' && value[1] <= '9') probe->maxmemory = strtoll(value + 1, NULL, 10);
}

bool probe_init(struct probe *probe, struct control *control, const struct capacity_options *options, char *error,
                size_t error_size) {
    *probe = (struct probe){.control = control, .device = options->device, .pid = options->pid};
    struct probe_sample sample;
    if (probe->pid != 0) {
        look_at_process(probe->pid, &sample);
        if (sample.rss_bytes < 0) {
            snprintf(error, error_size, "--pid: there is no process %d", (int)probe->pid);
            return false;
        }
    }
    if (probe->device != NULL && !look_at_device(probe->device, &sample)) {
        snprintf(error, error_size, "--device: /proc/diskstats has no '%s'", probe->device);
        return false;
    }
    const char *info = ask_info(control);
    if (info == NULL) {
        snprintf(error, error_size, "%s", control->error);
        return false;
    }
    snprintf(probe->server_name, sizeof(probe->server_name), "redis");
    copy_line(info, "server_name", probe->server_name, sizeof(probe->server_name));
    copy_line(info, "redis_version", probe->server_version, sizeof(probe->server_version));
    char own_version[96];
    snprintf(own_version, sizeof(own_version), "%.80s_version", probe->server_name);
    copy_line(info, own_version, probe->server_version, sizeof(probe->server_version));
    int64_t pid = probe_find_number(info, "process_id");
    if (probe->pid == 0 && pid > 0 && is_local(&options->server) &&
        is_plausible((pid_t)pid, probe_find_number(info, "used_memory_rss")))
        probe->pid = (pid_t)pid;
    ask_maxmemory(probe);
    return true;
}
