/* Requests as RESP bytes, compiled once from a command line with placeholders and then stamped out. */
#ifndef BENCH_REQUEST_H
#define BENCH_REQUEST_H

#include "bench/key_generator.h"
#include "bench/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A key is `prefix`, `width` zero-padded decimal digits, `suffix`. */
struct key_format {
    char prefix[64];
    unsigned width;
    char suffix[64];
};

enum value_kind { VALUE_RANDOM, VALUE_INTEGER };

/* What the placeholders stand for. */
struct request_shape {
    struct key_format key_format;
    enum value_kind value_kind;
    uint64_t value_size_min, value_size_max; /* bytes, of random values */
    uint64_t integer_max;                    /* integer values and __number__ are uniform in [0, integer_max] */
    uint64_t fields;                         /* __field__ is uniform in [0, fields) */
};

/* One thread's supply of keys, fields and values. `values` outlives it and is shared. */
struct request_source {
    struct key_generator keys;
    struct random_stream random;
    const struct request_shape *shape;
    const char *values; /* from request_values_create */
};

struct request_template;

/* Random printable bytes that values of up to `size_max` bytes are cut from. The caller frees it. NULL: no memory. */
char *request_values_create(uint64_t size_max, uint64_t seed);

/* Compiles `command`: words separated by spaces, each one argument. In a word, __key__ becomes a key and __field__
 * twelve digits; a word that is __value__ becomes a value, __number__ an unpadded random integer. `repeat_from` and
 * `repeat` say that the words from index repeat_from on are written `repeat` times (MSET of several pairs); pass 0 and
 * 1 otherwise. NULL with a message in `error` when the command is not usable. Free with request_template_destroy. */
struct request_template *request_template_create(const char *command, unsigned repeat_from, unsigned repeat,
                                                 const struct request_shape *shape, char *error, size_t error_size);
void request_template_destroy(struct request_template *request);

/* The most bytes one request takes, slack that request_compose may scribble on included. */
size_t request_template_length_max(const struct request_template *request);

/* How many keys of the range one request uses. */
unsigned request_template_keys(const struct request_template *request);

/* Writes one request at `out`, which has request_template_length_max bytes of room; returns its end. */
char *request_compose(const struct request_template *request, struct request_source *source, char *out);

/* Parses a format like "key:%012d": text, one %0<width>d (width 1 to 15), text. False when it is not of that form. */
bool key_format_parse(const char *text, struct key_format *format);

#endif
