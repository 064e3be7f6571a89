/* What can be seen of a server from outside: INFO, its process, the device below it. */
#ifndef BENCH_CAPACITY_PROBE_H
#define BENCH_CAPACITY_PROBE_H

#include "bench/capacity_control.h"
#include "bench/capacity_options.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Fields of INFO that are numbers. A new one is a row in capacity_probe.c; its name is INFO's. */
enum probe_field {
    PROBE_USED_MEMORY,
    PROBE_USED_MEMORY_RSS,
    PROBE_KEYSPACE_HITS,
    PROBE_KEYSPACE_MISSES,
    PROBE_EVICTED_KEYS,
    PROBE_EXPIRED_KEYS,
    PROBE_DRAM_HITS,
    PROBE_FAR_HITS,
    PROBE_TIER_HITS,
    PROBE_TIER_READS,
    PROBE_TIER_COALESCED_READS,
    PROBE_TIER_PROMOTIONS,
    PROBE_TIER_DEMOTIONS,
    PROBE_FIELDS,
};

/* What cannot be known is -1. Counters run since the server (or the host) started. */
struct probe_sample {
    int64_t info[PROBE_FIELDS];
    int64_t rss_bytes, cpu_ns;             /* of the process */
    int64_t io_read_bytes, io_write_bytes; /* of the process, what reached devices */
    int64_t device_reads, device_writes;   /* of the device, whoever caused them */
    int64_t device_read_bytes, device_write_bytes;
};

struct probe {
    struct control *control;
    const char *device;
    pid_t pid; /* 0: not on this host, or not known */
    char server_name[64], server_version[64];
    int64_t maxmemory; /* bytes; 0: no limit, -1: not known */
};

const char *probe_field_name(enum probe_field field);
/* Whether the field counts events, so that the difference of two samples means something. */
bool probe_field_is_counter(enum probe_field field);

/* Asks the server who it is and looks for its process. `control` outlives the probe. False with one line in `error`
 * when a process or device that was named does not exist, or the server does not answer. */
bool probe_init(struct probe *probe, struct control *control, const struct capacity_options *options, char *error,
                size_t error_size);

/* Everything that can be seen now. False when the server does not answer. */
bool probe_take(const struct probe *probe, struct probe_sample *sample);

/* DBSIZE; -1 when the server does not answer. */
int64_t probe_count_keys(const struct probe *probe);

/* The number behind `name:` at the start of a line of INFO; -1 when there is none. */
int64_t probe_find_number(const char *info, const char *name);

/* Fills the process's part of the sample from the texts of /proc/PID/stat and /proc/PID/io; what a NULL or unusable
 * text would tell becomes -1. For tests too. */
void probe_parse_stat(const char *stat, long ticks_per_second, long page_size, struct probe_sample *sample);
void probe_parse_io(const char *io, struct probe_sample *sample);
/* The row of `device` in the text of /proc/diskstats. False when it has none. */
bool probe_parse_device(const char *diskstats, const char *device, struct probe_sample *sample);

#endif
