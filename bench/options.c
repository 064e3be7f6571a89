/* Command line of the load generator.
 *
 * Every ready-made command of --mix is only a name for a --command template, so the two end as the same rows and the
 * rest of the program knows templates alone. */
#include "bench/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char load_options_help[] =
    "terrace-bench [load] [options]: closed-loop load on a RESP server\n"
    "\n"
    "  where    --host H (127.0.0.1)  --port P (6379)  --unix-socket PATH  --user U  --password P\n"
    "           --protocol 2|3 (2)    --database N (0)\n"
    "  how      --connections N (50)  --threads N (1)   --pipeline N (1): sent together, awaited together\n"
    "  how long --seconds S (5)  or  --requests N  or  --fill: every key of the range once, in order\n"
    "  keys     --keys N (1000000)  --key-format F (key:%012d)  --seed N (from the clock, reported)\n"
    "           --distribution uniform|zipf[:EXPONENT]|hotspot|sequential (uniform; exponent 0.99)\n"
    "  values   --value-size N|MIN-MAX (32)  --value-kind random|integer  --integer-max N (1000000)\n"
    "  commands --mix NAME[:KEYS]=WEIGHT,... (get=90,set=10; set=1 with --fill) of get set setex incr del\n"
    "           mget:KEYS mset:KEYS ping;  --ttl SECONDS of setex (1000)\n"
    "           --command \"HSET __key__ f __value__\": any command, may be repeated, equal weights; words may hold\n"
    "           __key__ and __field__ (--fields N, 1000), or be __value__ or __number__\n"
    "  output   --json  --quiet (no progress line)  --help\n"
    "\n"
    "Latency is the time from writing a pipeline of requests to reading a reply of it.\n";

struct mix_name {
    const char *name;
    const char *command;
    unsigned repeat_from; /* 0: takes no number of keys */
};

static const struct mix_name mix_names[] = {
    {"get", "GET __key__", 0},
    {"set", "SET __key__ __value__", 0},
    {"setex", "SETEX __key__ %u __value__", 0},
    {"incr", "INCR __key__", 0},
    {"del", "DEL __key__", 0},
    {"mget", "MGET __key__", 1},
    {"mset", "MSET __key__ __value__", 1},
    {"ping", "PING", 0},
};

struct problem {
    char *text;
    size_t size;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct problem *problem, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->text, problem->size, format, arguments);
    va_end(arguments);
    return false;
}

static bool parse_unsigned(struct problem *problem, const char *name, const char *text, uint64_t min, uint64_t max,
                           uint64_t *number) {
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || parsed < min || parsed > max)
        return fail(problem, "--%s takes a number from %llu to %llu, not '%s'", name, (unsigned long long)min,
                    (unsigned long long)max, text);
    *number = parsed;
    return true;
}

static bool parse_distribution(struct problem *problem, const char *text, struct load_options *options) {
    if (strcmp(text, "uniform") == 0) {
        options->distribution = KEYS_UNIFORM;
    } else if (strcmp(text, "sequential") == 0) {
        options->distribution = KEYS_SEQUENTIAL;
    } else if (strcmp(text, "hotspot") == 0) {
        options->distribution = KEYS_HOTSPOT;
    } else if (strncmp(text, "zipf", 4) == 0 && (text[4] == '\0' || text[4] == ':')) {
        options->distribution = KEYS_ZIPF;
        if (text[4] == ':') {
            char *end;
            options->zipf_exponent = strtod(text + 5, &end);
            if (end == text + 5 || *end != '\0' || !(options->zipf_exponent > 0 && options->zipf_exponent <= 10))
                return fail(problem, "the zipf exponent is above 0 and at most 10, not '%s'", text + 5);
        }
    } else {
        return fail(problem, "--distribution is uniform, zipf[:EXPONENT], hotspot or sequential, not '%s'", text);
    }
    return true;
}

static bool parse_value_size(struct problem *problem, const char *text, struct request_shape *shape) {
    const uint64_t max = 512ull << 20;
    char low[32];
    const char *dash = strchr(text, '-');
    size_t length = dash == NULL ? strlen(text) : (size_t)(dash - text);
    if (length >= sizeof(low)) return fail(problem, "--value-size '%s' is too long", text);
    memcpy(low, text, length);
    low[length] = '\0';
    if (!parse_unsigned(problem, "value-size", low, 0, max, &shape->value_size_min)) return false;
    return parse_unsigned(problem, "value-size", dash == NULL ? low : dash + 1, shape->value_size_min, max,
                          &shape->value_size_max);
}

static struct mix_entry *add_mix_entry(struct problem *problem, struct load_options *options) {
    if (options->mix_count == MIX_ENTRIES_MAX) {
        fail(problem, "at most %d commands can be mixed", MIX_ENTRIES_MAX);
        return NULL;
    }
    struct mix_entry *entry = &options->mix[options->mix_count++];
    *entry = (struct mix_entry){.repeat = 1, .weight = 1};
    return entry;
}

static bool add_command(struct problem *problem, struct load_options *options, const char *command) {
    if (strlen(command) >= COMMAND_LENGTH_MAX) return fail(problem, "--command is too long");
    struct mix_entry *entry = add_mix_entry(problem, options);
    if (entry == NULL) return false;
    strcpy(entry->command, command);
    return true;
}

/* One "name[:keys][=weight]"; modifies `part`. */
static bool add_mix_part(struct problem *problem, struct load_options *options, char *part) {
    char *weight = strchr(part, '=');
    if (weight != NULL) *weight++ = '\0';
    char *keys = strchr(part, ':');
    if (keys != NULL) *keys++ = '\0';
    for (size_t i = 0; i < sizeof(mix_names) / sizeof(mix_names[0]); i++) {
        const struct mix_name *name = &mix_names[i];
        if (strcmp(part, name->name) != 0) continue;
        if (keys != NULL && name->repeat_from == 0) return fail(problem, "--mix: %s takes no number of keys", part);
        struct mix_entry *entry = add_mix_entry(problem, options);
        if (entry == NULL) return false;
        uint64_t number = 1;
        if (weight != NULL && !parse_unsigned(problem, "mix", weight, 1, 1000000, &number)) return false;
        entry->weight = (unsigned)number;
        number = name->repeat_from == 0 ? 1 : 10;
        if (keys != NULL && !parse_unsigned(problem, "mix", keys, 1, 1000, &number)) return false;
        entry->repeat = (unsigned)number;
        entry->repeat_from = name->repeat_from;
        if (strcmp(name->name, "setex") == 0)
            snprintf(entry->command, sizeof(entry->command), "SETEX __key__ %u __value__", options->ttl_seconds);
        else
            strcpy(entry->command, name->command);
        return true;
    }
    return fail(problem, "--mix does not know '%s'; --command takes any command", part);
}

static bool parse_mix(struct problem *problem, struct load_options *options, const char *text) {
    char *copy = strdup(text);
    assert(copy != NULL);
    bool good = true;
    char *rest = copy;
    for (char *part; good && (part = strsep(&rest, ",")) != NULL;) good = add_mix_part(problem, options, part);
    free(copy);
    return good;
}

enum option_code {
    OPTION_HOST = 256,
    OPTION_PORT,
    OPTION_UNIX_SOCKET,
    OPTION_USER,
    OPTION_PASSWORD,
    OPTION_PROTOCOL,
    OPTION_DATABASE,
    OPTION_CONNECTIONS,
    OPTION_THREADS,
    OPTION_PIPELINE,
    OPTION_REQUESTS,
    OPTION_SECONDS,
    OPTION_FILL,
    OPTION_KEYS,
    OPTION_KEY_FORMAT,
    OPTION_DISTRIBUTION,
    OPTION_SEED,
    OPTION_VALUE_SIZE,
    OPTION_VALUE_KIND,
    OPTION_INTEGER_MAX,
    OPTION_FIELDS,
    OPTION_TTL,
    OPTION_MIX,
    OPTION_COMMAND,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"host", required_argument, NULL, OPTION_HOST},
    {"port", required_argument, NULL, OPTION_PORT},
    {"unix-socket", required_argument, NULL, OPTION_UNIX_SOCKET},
    {"user", required_argument, NULL, OPTION_USER},
    {"password", required_argument, NULL, OPTION_PASSWORD},
    {"protocol", required_argument, NULL, OPTION_PROTOCOL},
    {"database", required_argument, NULL, OPTION_DATABASE},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"pipeline", required_argument, NULL, OPTION_PIPELINE},
    {"requests", required_argument, NULL, OPTION_REQUESTS},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"fill", no_argument, NULL, OPTION_FILL},
    {"keys", required_argument, NULL, OPTION_KEYS},
    {"key-format", required_argument, NULL, OPTION_KEY_FORMAT},
    {"distribution", required_argument, NULL, OPTION_DISTRIBUTION},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"value-size", required_argument, NULL, OPTION_VALUE_SIZE},
    {"value-kind", required_argument, NULL, OPTION_VALUE_KIND},
    {"integer-max", required_argument, NULL, OPTION_INTEGER_MAX},
    {"fields", required_argument, NULL, OPTION_FIELDS},
    {"ttl", required_argument, NULL, OPTION_TTL},
    {"mix", required_argument, NULL, OPTION_MIX},
    {"command", required_argument, NULL, OPTION_COMMAND},
    {"json", no_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static const char *option_name(int code) {
    for (const struct option *option = long_options; option->name != NULL; option++)
        if (option->val == code) return option->name;
    return "?";
}

/* Where a plain number goes: its bounds and its field, of one of the two widths. */
struct number_option {
    int code;
    uint64_t min, max;
    unsigned *narrow;
    uint64_t *wide;
};

/* 1: taken, 0: not a plain number, -1: bad. */
static int take_number(struct problem *problem, struct load_options *options, int code, const char *text) {
    const struct number_option rows[] = {
        {OPTION_PORT, 1, 65535, &options->port, NULL},
        {OPTION_PROTOCOL, 2, 3, &options->protocol, NULL},
        {OPTION_DATABASE, 0, 1000000, &options->database, NULL},
        {OPTION_CONNECTIONS, 1, CONNECTIONS_MAX, &options->connections, NULL},
        {OPTION_THREADS, 1, THREADS_MAX, &options->threads, NULL},
        {OPTION_PIPELINE, 1, PIPELINE_MAX, &options->pipeline, NULL},
        {OPTION_TTL, 1, 1u << 31, &options->ttl_seconds, NULL},
        {OPTION_REQUESTS, 1, UINT64_MAX, NULL, &options->requests},
        {OPTION_KEYS, 1, KEYS_MAX, NULL, &options->keys},
        {OPTION_SEED, 0, UINT64_MAX, NULL, &options->seed},
        {OPTION_INTEGER_MAX, 0, INT64_MAX, NULL, &options->shape.integer_max},
        {OPTION_FIELDS, 1, 1000000000000, NULL, &options->shape.fields},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code != code) continue;
        uint64_t number = 0;
        if (!parse_unsigned(problem, option_name(code), text, rows[i].min, rows[i].max, &number)) return -1;
        if (rows[i].narrow != NULL) *rows[i].narrow = (unsigned)number;
        if (rows[i].wide != NULL) *rows[i].wide = number;
        return 1;
    }
    return 0;
}

/* --mix is kept for later: setex needs --ttl, which may follow. */
static bool take_option(struct problem *problem, struct load_options *options, int code, const char *text,
                        const char **mix) {
    int number = take_number(problem, options, code, text);
    if (number != 0) return number > 0;
    switch (code) {
    case OPTION_HOST: options->host = text; return true;
    case OPTION_UNIX_SOCKET: options->unix_socket = text; return true;
    case OPTION_USER: options->user = text; return true;
    case OPTION_PASSWORD: options->password = text; return true;
    case OPTION_FILL: options->fill = true; return true;
    case OPTION_JSON: options->json = true; return true;
    case OPTION_QUIET: options->quiet = true; return true;
    case OPTION_HELP: options->help = true; return true;
    case OPTION_MIX: *mix = text; return true;
    case OPTION_COMMAND: return add_command(problem, options, text);
    case OPTION_DISTRIBUTION: return parse_distribution(problem, text, options);
    case OPTION_VALUE_SIZE: return parse_value_size(problem, text, &options->shape);
    case OPTION_KEY_FORMAT:
        if (key_format_parse(text, &options->shape.key_format)) return true;
        return fail(problem, "--key-format is text with one %%0<width>d, width 1 to 15, not '%s'", text);
    case OPTION_VALUE_KIND:
        options->shape.value_kind = strcmp(text, "integer") == 0 ? VALUE_INTEGER : VALUE_RANDOM;
        if (options->shape.value_kind == VALUE_INTEGER || strcmp(text, "random") == 0) return true;
        return fail(problem, "--value-kind is random or integer, not '%s'", text);
    case OPTION_SECONDS: {
        char *end;
        options->seconds = strtod(text, &end);
        if (end != text && *end == '\0' && options->seconds > 0 && options->seconds < 1e9) return true;
        return fail(problem, "--seconds takes a positive number, not '%s'", text);
    }
    default: return false;
    }
}

/* What only makes sense together. */
static bool check_options(struct problem *problem, struct load_options *options, const char *mix) {
    if (mix != NULL && options->mix_count > 0) return fail(problem, "--mix and --command exclude each other");
    if (options->mix_count == 0) {
        if (mix == NULL) mix = options->fill ? "set=1" : "get=90,set=10";
        if (!parse_mix(problem, options, mix)) return false;
    }
    if (options->fill && options->requests > 0) return fail(problem, "--fill and --requests exclude each other");
    if (options->fill && options->mix_count > 1) return fail(problem, "--fill takes one command, not a mix");
    if (options->fill) options->distribution = KEYS_SEQUENTIAL;
    if (options->connections < options->threads)
        return fail(problem, "--connections %u is less than --threads %u", options->connections, options->threads);
    uint64_t widest = 1;
    for (unsigned i = 0; i < options->shape.key_format.width; i++) widest *= 10;
    if (options->keys > widest)
        return fail(problem, "--key-format has too few digits for %llu keys", (unsigned long long)options->keys);
    return true;
}

static uint64_t seed_from_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec) % 1000000000u;
}

bool load_options_parse(int count, char **arguments, struct load_options *options, char *error, size_t error_size) {
    struct problem problem = {error, error_size};
    *options = (struct load_options){
        .host = "127.0.0.1",
        .port = 6379,
        .protocol = 2,
        .connections = 50,
        .threads = 1,
        .pipeline = 1,
        .seconds = 5,
        .keys = 1000000,
        .zipf_exponent = 0.99,
        .ttl_seconds = 1000,
        .seed = seed_from_clock(),
        .shape = {.value_size_min = 32, .value_size_max = 32, .integer_max = 1000000, .fields = 1000},
    };
    bool good = key_format_parse("key:%012d", &options->shape.key_format);
    assert(good);
    options->mix = calloc(MIX_ENTRIES_MAX, sizeof(*options->mix));
    assert(options->mix != NULL);
    const char *mix = NULL;
    optind = 0; /* start over: tests parse more than once */
    opterr = 0;
    for (int code; (code = getopt_long(count, arguments, "", long_options, NULL)) != -1;) {
        if (code == '?') return fail(&problem, "unknown or incomplete option '%s'; see --help", arguments[optind - 1]);
        if (!take_option(&problem, options, code, optarg, &mix)) return false;
    }
    if (optind < count) return fail(&problem, "unexpected argument '%s'; see --help", arguments[optind]);
    return check_options(&problem, options, mix);
}

void load_options_release(struct load_options *options) {
    free(options->mix);
    options->mix = NULL;
}
