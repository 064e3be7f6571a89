/* Command line of the capacity benchmark: one row for each option, which says what kind of text it takes, its bounds
 * and where the result goes. What only makes sense together is checked at the end. */
#include "bench/capacity_options.h"

#include <assert.h>
#include <ctype.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

const char capacity_options_help[] =
    "terrace-bench capacity --sizes LIST [options]: what a RESP server holds, and how fast, at growing datasets\n"
    "\n"
    "  where     --host H (127.0.0.1)  --port P (6379)  --unix-socket PATH  --user U  --password P  --database N (0)\n"
    "            --pid N: the server's process; found through INFO when the server is on this host\n"
    "            --dram SIZE: what the dataset is compared with (maxmemory)   --device NAME: of /proc/diskstats\n"
    "  dataset   --sizes 1gb,2gb,10x: keys and values in bytes, or as a multiple of --dram;  --keys 1000000,2000000\n"
    "            --value-size N|MIN-MAX (1024)  --compressible 0..1 (0)  --key-format F (key:%012d)\n"
    "            --ttl-share 0..1 (0)  --ttl SECONDS (86400)  --seed N (1)  --flush: empty the database first\n"
    "  load      --connections N (50)  --threads N (1)  --pipeline N (1, closed loop)\n"
    "            --read-share 0..1 (0.9)  --skew uniform|zipf[:EXPONENT]|hotspot (uniform; hotspot: 80 % on 20 %)\n"
    "  measure   --seconds S (10)  --warmup S (1)  --settle S (1)  --timeout S (60)\n"
    "            --rate N: operations/s of the open loop;  --rate-share 0..1 (0.25) of the closed loop's throughput\n"
    "            --arrivals random|even (random)\n"
    "  verify    --verify: every value that is read is compared;  --verify-all: at the end every key is read\n"
    "  output    --label TEXT  --json FILE  --csv FILE  --html FILE  --compare OTHER.json,...  --quiet  --help\n"
    "\n"
    "With --compare and --html but no dataset, nothing is measured and the page shows the files.\n"
    "Exit code 1: a load that did not reach its number of keys, a wrong or missing value, or no measurement at all.\n";

enum option_kind { KIND_TEXT, KIND_FLAG, KIND_COUNT, KIND_SEED, KIND_REAL, KIND_BYTES, KIND_SPECIAL };

enum option_code {
    OPTION_SIZES = 1000,
    OPTION_KEYS,
    OPTION_VALUE_SIZE,
    OPTION_KEY_FORMAT,
    OPTION_SKEW,
    OPTION_ARRIVALS,
    OPTION_COMPARE,
    OPTION_PID,
};

/* `place` is a const char *, bool, unsigned, uint64_t or double, as the kind says. */
struct option_row {
    const char *name;
    enum option_kind kind;
    void *place;
    double min, max;
    int code; /* of KIND_SPECIAL */
};

enum { ROWS_MAX = 48 };

struct parsing {
    struct capacity_options *options;
    struct option_row rows[ROWS_MAX];
    unsigned row_count;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct parsing *parsing, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(parsing->error, parsing->error_size, format, arguments);
    va_end(arguments);
    return false;
}

bool capacity_parse_bytes(const char *text, double *bytes) {
    char *end;
    *bytes = strtod(text, &end);
    if (end == text || !isdigit((unsigned char)*text) || !isfinite(*bytes)) return false;
    static const char letters[] = "kmgt";
    const char *found = *end == '\0' ? NULL : strchr(letters, tolower((unsigned char)*end));
    if (found != NULL) {
        bool binary = tolower((unsigned char)end[1]) == 'b';
        *bytes *= pow(binary ? 1024 : 1000, (double)(found - letters + 1));
        end += binary ? 2 : 1;
    } else if (tolower((unsigned char)*end) == 'b') {
        end++;
    }
    return *end == '\0';
}

static bool parse_real(struct parsing *parsing, const struct option_row *row, const char *text, double *number) {
    char *end;
    *number = strtod(text, &end);
    if (end != text && *end == '\0' && *number >= row->min && *number <= row->max) return true;
    return fail(parsing, "--%s takes a number from %.15g to %.15g, not '%s'", row->name, row->min, row->max, text);
}

static bool parse_count(struct parsing *parsing, const struct option_row *row, const char *text, uint64_t *number) {
    double real;
    if (!parse_real(parsing, row, text, &real)) return false;
    if (strspn(text, "0123456789") != strlen(text))
        return fail(parsing, "--%s takes a whole number, not '%s'", row->name, text);
    *number = strtoull(text, NULL, 10);
    return true;
}

static bool add_target(struct parsing *parsing, const char *part, bool keys) {
    struct capacity_options *options = parsing->options;
    if (options->target_count == CAPACITY_STEPS_MAX)
        return fail(parsing, "at most %d datasets can be measured in a run", CAPACITY_STEPS_MAX);
    struct capacity_target *target = &options->targets[options->target_count++];
    target->unit = keys ? CAPACITY_KEYS : CAPACITY_BYTES;
    snprintf(target->text, sizeof(target->text), "%s", part);
    size_t length = strlen(part);
    char *end;
    if (!keys && length > 1 && part[length - 1] == 'x') {
        target->unit = CAPACITY_TIMES_DRAM;
        target->amount = strtod(part, &end);
        if (end == part + length - 1 && target->amount > 0 && target->amount < 1e6) return true;
    } else if (capacity_parse_bytes(part, &target->amount) && target->amount >= 1 && target->amount < 1e15) {
        return true;
    }
    return fail(parsing, "'%s' is not a %s; there are 500000, 64mb, 1.5gb, 2tb%s", part,
                keys ? "number of keys" : "size", keys ? "" : ", and 10x for ten times the DRAM");
}

/* Cuts a copy of `text` at commas; the copy lives in options->lists. */
static bool parse_list(struct parsing *parsing, const char *text, int code) {
    struct capacity_options *options = parsing->options;
    size_t used = code == OPTION_COMPARE ? strlen(text) + 1 : 0;
    char *copy = strdup(text);
    assert(copy != NULL);
    char *rest = copy;
    bool good = true;
    for (char *part; good && (part = strsep(&rest, ",")) != NULL;) {
        if (code != OPTION_COMPARE) {
            good = add_target(parsing, part, code == OPTION_KEYS);
        } else if (options->compared_count == CAPACITY_COMPARED_MAX) {
            good = fail(parsing, "at most %d files can be compared", CAPACITY_COMPARED_MAX);
        } else {
            options->compared[options->compared_count++] = part;
        }
    }
    if (used == 0) {
        free(copy);
    } else {
        free(options->lists);
        options->lists = copy;
    }
    return good;
}

static bool parse_value_size(struct parsing *parsing, const char *text) {
    struct capacity_options *options = parsing->options;
    char low[32];
    const char *dash = strchr(text, '-');
    snprintf(low, sizeof(low), "%.*s", (int)(dash == NULL ? strlen(text) : (size_t)(dash - text)), text);
    double min, max;
    if (!capacity_parse_bytes(low, &min) || !capacity_parse_bytes(dash == NULL ? low : dash + 1, &max) || min < 1 ||
        max < min || max > CAPACITY_VALUE_SIZE_MAX)
        return fail(parsing, "--value-size takes bytes from 1 to 512mb, as one number or MIN-MAX, not '%s'", text);
    options->value_size_min = (uint64_t)min;
    options->value_size_max = (uint64_t)max;
    return true;
}

static bool parse_skew(struct parsing *parsing, const char *text) {
    struct capacity_options *options = parsing->options;
    options->skew = KEYS_UNIFORM;
    if (strcmp(text, "uniform") == 0) return true;
    options->skew = KEYS_HOTSPOT;
    if (strcmp(text, "hotspot") == 0) return true;
    options->skew = KEYS_ZIPF;
    if (strcmp(text, "zipf") == 0) return true;
    char *end = NULL;
    if (strncmp(text, "zipf:", 5) == 0) options->zipf_exponent = strtod(text + 5, &end);
    if (end != NULL && end != text + 5 && *end == '\0' && options->zipf_exponent > 0 && options->zipf_exponent <= 10)
        return true;
    return fail(parsing, "--skew is uniform, zipf[:EXPONENT above 0, at most 10] or hotspot, not '%s'", text);
}

static bool take_special(struct parsing *parsing, int code, const char *text) {
    struct capacity_options *options = parsing->options;
    switch (code) {
    case OPTION_SIZES:
    case OPTION_KEYS:
        if (options->target_count > 0) return fail(parsing, "one of --sizes and --keys, once");
        return parse_list(parsing, text, code);
    case OPTION_COMPARE: options->compared_count = 0; return parse_list(parsing, text, code);
    case OPTION_VALUE_SIZE: return parse_value_size(parsing, text);
    case OPTION_SKEW: return parse_skew(parsing, text);
    case OPTION_KEY_FORMAT:
        if (key_format_parse(text, &options->key_format)) return true;
        return fail(parsing, "--key-format is text with one %%0<width>d, width 1 to 15, not '%s'", text);
    case OPTION_ARRIVALS:
        options->even_arrivals = strcmp(text, "even") == 0;
        if (options->even_arrivals || strcmp(text, "random") == 0) return true;
        return fail(parsing, "--arrivals is random or even, not '%s'", text);
    case OPTION_PID: {
        const struct option_row row = {"pid", KIND_COUNT, NULL, 1, 1 << 30, 0};
        uint64_t pid = 0;
        if (!parse_count(parsing, &row, text, &pid)) return false;
        options->pid = (pid_t)pid;
        return true;
    }
    default: return false;
    }
}

static bool take_option(struct parsing *parsing, const struct option_row *row, const char *text) {
    uint64_t count = 0;
    double real = 0;
    switch (row->kind) {
    case KIND_TEXT: *(const char **)row->place = text; return true;
    case KIND_FLAG: *(bool *)row->place = true; return true;
    case KIND_COUNT:
        if (!parse_count(parsing, row, text, &count)) return false;
        *(unsigned *)row->place = (unsigned)count;
        return true;
    case KIND_SEED:
        if (!parse_count(parsing, row, text, &count)) return false;
        *(uint64_t *)row->place = count;
        return true;
    case KIND_REAL: return parse_real(parsing, row, text, row->place);
    case KIND_BYTES:
        if (!capacity_parse_bytes(text, &real) || real < row->min || real > row->max)
            return fail(parsing, "--%s takes a size such as 64mb or 1.5gb, not '%s'", row->name, text);
        *(uint64_t *)row->place = (uint64_t)real;
        return true;
    case KIND_SPECIAL: return take_special(parsing, row->code, text);
    }
    return false;
}

static void list_options(struct parsing *parsing) {
    struct capacity_options *o = parsing->options;
    const struct option_row rows[] = {
        {"host", KIND_TEXT, &o->server.host},
        {"port", KIND_COUNT, &o->server.port, 1, 65535},
        {"unix-socket", KIND_TEXT, &o->server.unix_socket},
        {"user", KIND_TEXT, &o->server.user},
        {"password", KIND_TEXT, &o->server.password},
        {"database", KIND_COUNT, &o->server.database, 0, 1000000},
        {"pid", KIND_SPECIAL, .code = OPTION_PID},
        {"dram", KIND_BYTES, &o->dram_bytes, 1, 1e18},
        {"device", KIND_TEXT, &o->device},
        {"sizes", KIND_SPECIAL, .code = OPTION_SIZES},
        {"keys", KIND_SPECIAL, .code = OPTION_KEYS},
        {"value-size", KIND_SPECIAL, .code = OPTION_VALUE_SIZE},
        {"compressible", KIND_REAL, &o->compressible, 0, 1},
        {"key-format", KIND_SPECIAL, .code = OPTION_KEY_FORMAT},
        {"ttl-share", KIND_REAL, &o->ttl_share, 0, 1},
        {"ttl", KIND_COUNT, &o->ttl_seconds, 1, 1 << 30},
        {"seed", KIND_SEED, &o->seed, 0, 1e19},
        {"flush", KIND_FLAG, &o->flush},
        {"connections", KIND_COUNT, &o->connections, 1, CONNECTIONS_MAX},
        {"threads", KIND_COUNT, &o->threads, 1, THREADS_MAX},
        {"pipeline", KIND_COUNT, &o->pipeline, 1, PIPELINE_MAX},
        {"read-share", KIND_REAL, &o->read_share, 0, 1},
        {"skew", KIND_SPECIAL, .code = OPTION_SKEW},
        {"seconds", KIND_REAL, &o->seconds, 0.01, 1e6},
        {"warmup", KIND_REAL, &o->warmup_seconds, 0, 1e6},
        {"settle", KIND_REAL, &o->settle_seconds, 0, 1e5},
        {"timeout", KIND_REAL, &o->timeout_seconds, 0.1, 1e6},
        {"rate", KIND_REAL, &o->rate, 1, 1e9},
        {"rate-share", KIND_REAL, &o->rate_share, 0.001, 1},
        {"arrivals", KIND_SPECIAL, .code = OPTION_ARRIVALS},
        {"verify", KIND_FLAG, &o->verify},
        {"verify-all", KIND_FLAG, &o->verify_all},
        {"label", KIND_TEXT, &o->label},
        {"json", KIND_TEXT, &o->json_path},
        {"csv", KIND_TEXT, &o->csv_path},
        {"html", KIND_TEXT, &o->html_path},
        {"compare", KIND_SPECIAL, .code = OPTION_COMPARE},
        {"quiet", KIND_FLAG, &o->quiet},
        {"help", KIND_FLAG, &o->help},
    };
    static_assert(sizeof(rows) / sizeof(rows[0]) < ROWS_MAX, "a row is left for the end of the list");
    memcpy(parsing->rows, rows, sizeof(rows));
    parsing->row_count = sizeof(rows) / sizeof(rows[0]);
}

/* What only makes sense together. */
static bool check_options(struct parsing *parsing) {
    struct capacity_options *options = parsing->options;
    if (options->help) return true;
    if (options->target_count == 0) {
        if (options->compared_count > 0 && options->html_path != NULL) return true;
        return fail(parsing, "say which datasets to fill to: --sizes 1gb,2gb or --keys 1000000; see --help");
    }
    if (options->compared_count > 0 && options->html_path == NULL)
        return fail(parsing, "--compare shows files on the page of --html, which is missing");
    if (options->connections < options->threads)
        return fail(parsing, "--connections %u is less than --threads %u", options->connections, options->threads);
    return true;
}

bool capacity_options_parse(int count, char **arguments, struct capacity_options *options, char *error,
                            size_t error_size) {
    *options = (struct capacity_options){
        .server = {.host = "127.0.0.1", .port = 6379, .protocol = 2},
        .value_size_min = 1024,
        .value_size_max = 1024,
        .ttl_seconds = 86400,
        .seed = 1,
        .connections = 50,
        .threads = 1,
        .pipeline = 1,
        .skew = KEYS_UNIFORM,
        .zipf_exponent = 0.99,
        .read_share = 0.9,
        .seconds = 10,
        .warmup_seconds = 1,
        .settle_seconds = 1,
        .rate_share = 0.25,
        .timeout_seconds = 60,
    };
    bool good = key_format_parse("key:%012d", &options->key_format);
    assert(good);
    struct parsing parsing = {.options = options, .error = error, .error_size = error_size};
    list_options(&parsing);
    struct option names[ROWS_MAX] = {0};
    for (unsigned i = 0; i < parsing.row_count; i++)
        names[i] = (struct option){
            .name = parsing.rows[i].name,
            .has_arg = parsing.rows[i].kind == KIND_FLAG ? no_argument : required_argument,
            .val = (int)i + 256, /* above every character, '?' among them */
        };
    optind = 0; /* start over: tests parse more than once */
    opterr = 0;
    for (int code; (code = getopt_long(count, arguments, "", names, NULL)) != -1;) {
        if (code == '?') return fail(&parsing, "unknown or incomplete option '%s'; see --help", arguments[optind - 1]);
        if (!take_option(&parsing, &parsing.rows[code - 256], optarg)) return false;
    }
    if (optind < count) return fail(&parsing, "unexpected argument '%s'; see --help", arguments[optind]);
    return check_options(&parsing);
}

void capacity_options_release(struct capacity_options *options) {
    free(options->lists);
    options->lists = NULL;
}
