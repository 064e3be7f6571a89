/* What `terrace-bench load` was asked to do. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "bench/key_generator.h"
#include "bench/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MIX_ENTRIES_MAX = 32,
    CONNECTIONS_MAX = 50000,
    THREADS_MAX = 256,
    PIPELINE_MAX = 10000,
    COMMAND_LENGTH_MAX = 4096,
};

/* One kind of command of the mix. */
struct mix_entry {
    char command[COMMAND_LENGTH_MAX];
    unsigned repeat_from, repeat; /* see request_template_create */
    unsigned weight;
};

struct load_options {
    const char *host;
    unsigned port;
    const char *unix_socket; /* instead of host and port */
    const char *user, *password;
    unsigned protocol; /* 2 or 3 */
    unsigned database;

    unsigned connections, threads, pipeline;
    uint64_t requests; /* 0: until `seconds` have passed */
    double seconds;
    bool fill;

    uint64_t keys;
    enum key_distribution distribution;
    double zipf_exponent;
    uint64_t seed;
    struct request_shape shape;
    unsigned ttl_seconds;

    struct mix_entry *mix; /* MIX_ENTRIES_MAX of them */
    unsigned mix_count;

    bool json, quiet, help;
};

/* Parses the arguments that follow the subcommand (arguments[0] is skipped). Strings are borrowed from `arguments`.
 * Returns false with one line in `error` when they make no sense. Free with load_options_release in both cases. */
bool load_options_parse(int count, char **arguments, struct load_options *options, char *error, size_t error_size);
void load_options_release(struct load_options *options);

/* The text of --help. */
extern const char load_options_help[];

#endif
