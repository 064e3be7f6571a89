/* What `terrace-bench capacity` was asked to do. */
#ifndef BENCH_CAPACITY_OPTIONS_H
#define BENCH_CAPACITY_OPTIONS_H

#include "bench/key_generator.h"
#include "bench/options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    CAPACITY_STEPS_MAX = 64,
    CAPACITY_COMPARED_MAX = 16,
    /* A request is sent and a reply read in pieces, so this bounds no buffer; it is what RESP servers take. */
    CAPACITY_VALUE_SIZE_MAX = 512 << 20,
};

/* A dataset to fill to. `text` is how the user named it. */
enum capacity_unit { CAPACITY_BYTES, CAPACITY_KEYS, CAPACITY_TIMES_DRAM };
struct capacity_target {
    enum capacity_unit unit;
    double amount;
    char text[24];
};

struct capacity_options {
    /* Host, port, socket, user, password and database, as `load` takes them; its other fields are not used. */
    struct load_options server;

    struct capacity_target targets[CAPACITY_STEPS_MAX];
    unsigned target_count; /* 0: only a page of the compared files is wanted */
    struct key_format key_format;
    uint64_t value_size_min, value_size_max; /* bytes */
    double compressible;                     /* 0 to 1 */
    double ttl_share;                        /* 0 to 1 */
    unsigned ttl_seconds;
    uint64_t seed;
    bool flush;

    unsigned connections, threads, pipeline;
    enum key_distribution skew;
    double zipf_exponent;
    double read_share;                              /* 0 to 1 */
    double seconds, warmup_seconds, settle_seconds; /* of one measurement; before it; between load and memory figures */
    double rate;                                    /* operations/s of the open loop; 0: rate_share */
    double rate_share;                              /* of the closed loop's */
    bool even_arrivals;                             /* else at random, as of many independent users */
    bool verify, verify_all;
    double timeout_seconds; /* without a byte from the server before the run is given up */

    pid_t pid;           /* 0: what INFO says, when the server is on this host */
    uint64_t dram_bytes; /* 0: maxmemory */
    const char *device;  /* a name of /proc/diskstats, or NULL */

    const char *label;
    const char *json_path, *csv_path, *html_path;
    const char *compared[CAPACITY_COMPARED_MAX];
    unsigned compared_count;
    bool quiet, help;

    char *lists; /* copies that `compared` points into */
};

/* Parses the arguments that follow the subcommand (arguments[0] is skipped). Strings are borrowed from `arguments`.
 * False with one line in `error` when they make no sense. Free with capacity_options_release in both cases. */
bool capacity_options_parse(int count, char **arguments, struct capacity_options *options, char *error,
                            size_t error_size);
void capacity_options_release(struct capacity_options *options);

/* Bytes of a text such as 100, 64k, 64kb, 1.5gb: k, m, g, t are powers of 1000; with a b, of 1024, as in redis.conf.
 * False when it is not of that form. */
bool capacity_parse_bytes(const char *text, double *bytes);

extern const char capacity_options_help[];

#endif
