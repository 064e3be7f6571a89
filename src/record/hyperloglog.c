/* HyperLogLog in Redis's format.
 *
 * An element's 64-bit hash names one of 16384 registers by its low 14 bits; the rest of the hash is a sequence of coin
 * tosses, and the register remembers the longest row of zeros that any element showed there, plus one (1 to 51; 0 says
 * that no element came by). How many registers hold which value tells how many elements there were.
 *
 * The value:
 *
 *     +------+---+-----+----------+----------
 *     | HYLL | E | 000 | count    | registers ...
 *     +------+---+-----+----------+----------
 *      4      1   3     8 bytes, little-endian; the highest bit set says that it is out of date
 *
 *     E = 0, dense: 6 bits a register, register 0 in the lowest bits of the first byte, no padding (12288 bytes).
 *     E = 1, sparse: runs of equal registers, from register 0 to 16383 without a gap:
 *         00llllll             ZERO    l+1 registers of 0 (1 to 64)
 *         01llllll llllllll    XZERO   l+1 registers of 0 (1 to 16384), high bits first
 *         1vvvvvll             VAL     l+1 registers (1 to 4) of value v+1 (1 to 32)
 *
 * That the bytes equal those of Redis after any history is what makes this file longer than the idea: a register raised
 * within a run splits the run in place, and afterwards up to five runs from the one before the split are looked at, and
 * neighbouring VAL runs of equal value joined where the joint length is at most 4. Both are part of the format in this
 * sense.
 *
 * The estimator is that of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017): no bias
 * tables and no switch between ranges, only the histogram of the registers and two power series, tau for saturated
 * registers and sigma for empty ones. */

#include "record/hyperloglog.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    INDEX_BITS = 14,
    /* The bits of the hash that are left for coin tosses. */
    TOSS_BITS = 64 - INDEX_BITS,
    REGISTER_VALUES = 64,
    ENCODING_OFFSET = 4,
    ENCODING_DENSE = 0,
    ENCODING_SPARSE = 1,
    COUNT_OFFSET = 8,
    COUNT_INVALID = 0x80,
    ZERO_LENGTH_MAX = 64,
    VALUE_MAX = 32,
    VALUE_LENGTH_MAX = 4,
    RUNS_JOINED_AT_ONCE = 5,
    /* A run split around one register: XZERO, VAL, XZERO. */
    SPLIT_BYTES_MAX = 5,
    /* "Z:16384 " and "v:32,4 " */
    DECODED_RUN_MAX = 8,
};

static_assert(1 << INDEX_BITS == HYPERLOGLOG_REGISTERS, "the index selects a register");

static const char magic[4] = {'H', 'Y', 'L', 'L'};

/* ---- Hash
 * ------------------------------------------------------------------------------------------------------------ */

static inline uint64_t load_little_endian(const uint8_t *bytes, size_t count) {
    uint64_t word = 0;
    for (size_t i = 0; i < count; i++) word |= (uint64_t)bytes[i] << (8 * i);
    return word;
}

/* MurmurHash64A, by Austin Appleby, with the seed that Redis chose. */
static uint64_t hash_element(struct span element) {
    const uint64_t multiplier = 0xc6a4a7935bd1e995u;
    const unsigned rotation = 47;
    const uint8_t *bytes = (const uint8_t *)element.data;
    size_t length = element.length;

    uint64_t hash = 0xadc83b19u ^ (length * multiplier);
    for (; length >= 8; bytes += 8, length -= 8) {
        uint64_t word = load_little_endian(bytes, 8) * multiplier;
        word ^= word >> rotation;
        hash = (hash ^ (word * multiplier)) * multiplier;
    }
    if (length > 0) hash = (hash ^ load_little_endian(bytes, length)) * multiplier;
    hash = (hash ^ (hash >> rotation)) * multiplier;
    return hash ^ (hash >> rotation);
}

/* The register that an element concerns, and the value it asks for. */
static unsigned locate_element(struct span element, uint8_t *value) {
    uint64_t hash = hash_element(element);
    /* The added bit ends the row of zeros if no other does. */
    uint64_t tosses = hash >> INDEX_BITS | (uint64_t)1 << TOSS_BITS;
    *value = (uint8_t)(__builtin_ctzll(tosses) + 1);
    return hash % HYPERLOGLOG_REGISTERS;
}

/* ---- Dense registers: four of them in three bytes
 * -------------------------------------------------------------------- */

static inline void unpack_four(const uint8_t *from, uint8_t to[4]) {
    uint32_t packed = from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16;
    to[0] = packed & 63;
    to[1] = packed >> 6 & 63;
    to[2] = packed >> 12 & 63;
    to[3] = (uint8_t)(packed >> 18);
}

static inline void pack_four(const uint8_t from[4], uint8_t *to) {
    uint32_t packed = from[0] | (uint32_t)from[1] << 6 | (uint32_t)from[2] << 12 | (uint32_t)from[3] << 18;
    to[0] = (uint8_t)packed;
    to[1] = (uint8_t)(packed >> 8);
    to[2] = (uint8_t)(packed >> 16);
}

static bool raise_dense_register(uint8_t *bytes, unsigned index, uint8_t value) {
    uint8_t *group = bytes + HYPERLOGLOG_HEADER_BYTES + index / 4 * 3;
    uint8_t four[4];
    unpack_four(group, four);
    if (four[index % 4] >= value) return false;
    four[index % 4] = value;
    pack_four(four, group);
    return true;
}

static void pack_registers(const struct hyperloglog_registers *registers, uint8_t *bytes) {
    uint8_t *to = bytes + HYPERLOGLOG_HEADER_BYTES;
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS; i += 4, to += 3) pack_four(registers->value + i, to);
}

/* ---- Sparse runs
 * ----------------------------------------------------------------------------------------------------- */

struct run {
    unsigned registers;
    uint8_t value;
    uint8_t bytes;
};

static inline bool is_value_run(uint8_t byte) {
    return byte & 0x80;
}

/* False when the run is cut off by the end. */
static inline bool read_run(const uint8_t *at, const uint8_t *end, struct run *run) {
    uint8_t byte = *at;
    if (is_value_run(byte)) {
        *run = (struct run){.registers = (byte & 3u) + 1, .value = (uint8_t)((byte >> 2 & 31) + 1), .bytes = 1};
    } else if (byte & 0x40) {
        if (end - at < 2) return false;
        *run = (struct run){.registers = ((byte & 63u) << 8 | at[1]) + 1, .value = 0, .bytes = 2};
    } else {
        *run = (struct run){.registers = byte + 1u, .value = 0, .bytes = 1};
    }
    return true;
}

/* Writes a run in its shortest form and answers the place behind it. No registers make no run. */
static uint8_t *write_run(uint8_t *at, uint8_t value, unsigned registers) {
    if (registers == 0) return at;
    unsigned length = registers - 1;
    if (value > 0) {
        *at++ = (uint8_t)(0x80 | (value - 1u) << 2 | length);
    } else if (registers <= ZERO_LENGTH_MAX) {
        *at++ = (uint8_t)length;
    } else {
        *at++ = (uint8_t)(0x40 | length >> 8);
        *at++ = (uint8_t)length;
    }
    return at;
}

static const uint8_t *first_run(struct span value) {
    return (const uint8_t *)value.data + HYPERLOGLOG_HEADER_BYTES;
}

static const uint8_t *end_of(struct span value) {
    return (const uint8_t *)value.data + value.length;
}

/* Calls `visit` for each run with the registers before it, and checks that together they are all registers. */
static enum hyperloglog_status visit_runs(struct span value, void (*visit)(void *ctx, unsigned index, struct run run),
                                          void *ctx) {
    const uint8_t *end = end_of(value);
    unsigned index = 0;
    struct run run;
    for (const uint8_t *at = first_run(value); at < end; at += run.bytes) {
        if (!read_run(at, end, &run) || run.registers > HYPERLOGLOG_REGISTERS - index) return HYPERLOGLOG_CORRUPT;
        if (visit != NULL) visit(ctx, index, run);
        index += run.registers;
    }
    return index == HYPERLOGLOG_REGISTERS ? HYPERLOGLOG_OK : HYPERLOGLOG_CORRUPT;
}

/* ---- The whole value
 * ------------------------------------------------------------------------------------------------- */

static struct span span_of_buffer(const struct hyperloglog_buffer *buffer) {
    return span_of(buffer->bytes, buffer->length);
}

bool hyperloglog_is_dense(struct span value) {
    return value.data[ENCODING_OFFSET] == ENCODING_DENSE;
}

enum hyperloglog_status hyperloglog_check(struct span value) {
    if (value.length < HYPERLOGLOG_HEADER_BYTES || memcmp(value.data, magic, sizeof(magic)) != 0) {
        return HYPERLOGLOG_OTHER;
    }
    switch (value.data[ENCODING_OFFSET]) {
    case ENCODING_DENSE: return value.length == HYPERLOGLOG_DENSE_BYTES ? HYPERLOGLOG_OK : HYPERLOGLOG_OTHER;
    case ENCODING_SPARSE: return HYPERLOGLOG_OK;
    default: return HYPERLOGLOG_OTHER;
    }
}

enum hyperloglog_status hyperloglog_validate(struct span value) {
    enum hyperloglog_status status = hyperloglog_check(value);
    if (status != HYPERLOGLOG_OK || hyperloglog_is_dense(value)) return status;
    return visit_runs(value, NULL, NULL);
}

/* Makes room for `length` bytes. */
static enum hyperloglog_status reserve(struct hyperloglog_buffer *buffer, size_t length) {
    if (length <= buffer->capacity) return HYPERLOGLOG_OK;
    size_t capacity = length + length / 2;
    uint8_t *bytes = realloc(buffer->bytes, capacity);
    if (bytes == NULL) return HYPERLOGLOG_NO_MEMORY;
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return HYPERLOGLOG_OK;
}

enum hyperloglog_status hyperloglog_create(struct hyperloglog_buffer *buffer) {
    uint8_t empty[HYPERLOGLOG_HEADER_BYTES + 2] = {0};
    memcpy(empty, magic, sizeof(magic));
    empty[ENCODING_OFFSET] = ENCODING_SPARSE;
    write_run(empty + HYPERLOGLOG_HEADER_BYTES, 0, HYPERLOGLOG_REGISTERS);
    return hyperloglog_copy(buffer, span_of(empty, sizeof(empty)));
}

enum hyperloglog_status hyperloglog_copy(struct hyperloglog_buffer *buffer, struct span value) {
    if (reserve(buffer, value.length) != HYPERLOGLOG_OK) return HYPERLOGLOG_NO_MEMORY;
    if (value.length > 0) memcpy(buffer->bytes, value.data, value.length);
    buffer->length = value.length;
    return HYPERLOGLOG_OK;
}

bool hyperloglog_cached_count(struct span value, uint64_t *count) {
    const uint8_t *bytes = (const uint8_t *)value.data;
    if (bytes[COUNT_OFFSET + 7] & COUNT_INVALID) return false;
    *count = load_little_endian(bytes + COUNT_OFFSET, 8);
    return true;
}

void hyperloglog_store_count(uint8_t *bytes, uint64_t count) {
    for (unsigned i = 0; i < 8; i++) bytes[COUNT_OFFSET + i] = (uint8_t)(count >> (8 * i));
}

void hyperloglog_invalidate_count(uint8_t *bytes) {
    bytes[COUNT_OFFSET + 7] |= COUNT_INVALID;
}

static void put_dense_run(void *ctx, unsigned index, struct run run) {
    uint8_t *bytes = ctx;
    if (run.value == 0) return;
    for (unsigned i = 0; i < run.registers; i++) raise_dense_register(bytes, index + i, run.value);
}

enum hyperloglog_status hyperloglog_make_dense(struct hyperloglog_buffer *buffer) {
    enum hyperloglog_status status = hyperloglog_validate(span_of_buffer(buffer));
    if (status != HYPERLOGLOG_OK || hyperloglog_is_dense(span_of_buffer(buffer))) return status;

    uint8_t *dense = calloc(1, HYPERLOGLOG_DENSE_BYTES);
    if (dense == NULL) return HYPERLOGLOG_NO_MEMORY;
    memcpy(dense, buffer->bytes, HYPERLOGLOG_HEADER_BYTES);
    dense[ENCODING_OFFSET] = ENCODING_DENSE;
    status = visit_runs(span_of_buffer(buffer), put_dense_run, dense);
    assert(status == HYPERLOGLOG_OK);
    free(buffer->bytes);
    *buffer = (struct hyperloglog_buffer){dense, HYPERLOGLOG_DENSE_BYTES, HYPERLOGLOG_DENSE_BYTES};
    return HYPERLOGLOG_OK;
}

/* ---- Adding
 * ---------------------------------------------------------------------------------------------------------- */

/* The beginning of a run: its offset in the value, and its first register. */
struct run_start {
    size_t offset;
    unsigned first_register;
};

static const struct run_start start_of_runs = {HYPERLOGLOG_HEADER_BYTES, 0};

/* Where in a sparse value a register is. `before` is the run before, or the first run itself. */
struct place {
    struct run_start before;
    struct run_start start;
    struct run run;
};

/* Searches from the run at `from` on. Like Redis, looks no further than the run that holds the register, and does not
 * mind when this run is longer than the registers are. */
static enum hyperloglog_status find_register(struct span value, unsigned index, struct run_start from,
                                             struct place *place) {
    const uint8_t *begin = (const uint8_t *)value.data;
    const uint8_t *end = end_of(value);
    struct run_start before = from, at = from;
    while (at.offset < value.length) {
        struct run run;
        if (!read_run(begin + at.offset, end, &run)) return HYPERLOGLOG_CORRUPT;
        if (index < at.first_register + run.registers) {
            *place = (struct place){before, at, run};
            return HYPERLOGLOG_OK;
        }
        before = at;
        at = (struct run_start){at.offset + run.bytes, at.first_register + run.registers};
    }
    return HYPERLOGLOG_CORRUPT;
}

/* Joins VAL runs of equal value, starting at `offset`. */
static void join_runs(struct hyperloglog_buffer *buffer, size_t offset) {
    for (int steps = 0; steps < RUNS_JOINED_AT_ONCE && offset < buffer->length; steps++) {
        const uint8_t *end = buffer->bytes + buffer->length;
        uint8_t *at = buffer->bytes + offset;
        struct run run, next;
        if (!read_run(at, end, &run)) return;
        if (run.value > 0 && at + 1 < end && is_value_run(at[1]) && read_run(at + 1, end, &next) &&
            next.value == run.value && run.registers + next.registers <= VALUE_LENGTH_MAX) {
            write_run(at + 1, run.value, run.registers + next.registers);
            memmove(at, at + 1, (size_t)(end - at - 1));
            buffer->length--;
        } else {
            offset += run.bytes;
        }
    }
}

static enum hyperloglog_status convert_and_raise(struct hyperloglog_buffer *buffer, unsigned index, uint8_t value) {
    enum hyperloglog_status status = hyperloglog_make_dense(buffer);
    if (status != HYPERLOGLOG_OK) return status;
    bool raised = raise_dense_register(buffer->bytes, index, value);
    assert(raised);
    hyperloglog_invalidate_count(buffer->bytes);
    return HYPERLOGLOG_OK;
}

/* `hint` is a run at or before that of the register; it is moved so that it serves a higher register next. */
static enum hyperloglog_status raise_sparse_register(struct hyperloglog_buffer *buffer, unsigned index, uint8_t value,
                                                     size_t sparse_bytes_max, struct run_start *hint, bool *changed) {
    *changed = false;
    if (value > VALUE_MAX) {
        enum hyperloglog_status converted = convert_and_raise(buffer, index, value);
        *changed = converted == HYPERLOGLOG_OK;
        return converted;
    }
    struct place place;
    enum hyperloglog_status status = find_register(span_of_buffer(buffer), index, *hint, &place);
    if (status == HYPERLOGLOG_OK && place.start.offset == hint->offset) {
        /* The run before the hint may be needed for joining, and is not known. */
        status = find_register(span_of_buffer(buffer), index, start_of_runs, &place);
    }
    if (status != HYPERLOGLOG_OK) return status;
    *hint = place.before;
    if (place.run.value >= value) return HYPERLOGLOG_OK;

    uint8_t split[SPLIT_BYTES_MAX];
    unsigned registers_before = index - place.start.first_register;
    uint8_t *split_end = write_run(split, place.run.value, registers_before);
    split_end = write_run(split_end, value, 1);
    split_end = write_run(split_end, place.run.value, place.run.registers - registers_before - 1);
    size_t split_length = (size_t)(split_end - split);

    size_t length = buffer->length - place.run.bytes + split_length;
    if (length > buffer->length && length > sparse_bytes_max) {
        status = convert_and_raise(buffer, index, value);
        *changed = status == HYPERLOGLOG_OK;
        return status;
    }
    if (reserve(buffer, length) != HYPERLOGLOG_OK) return HYPERLOGLOG_NO_MEMORY;

    uint8_t *at = buffer->bytes + place.start.offset;
    memmove(at + split_length, at + place.run.bytes, buffer->length - place.start.offset - place.run.bytes);
    memcpy(at, split, split_length);
    buffer->length = length;
    join_runs(buffer, place.before.offset);
    hyperloglog_invalidate_count(buffer->bytes);
    *changed = true;
    return HYPERLOGLOG_OK;
}

bool hyperloglog_would_raise_dense(struct span value, struct span element) {
    uint8_t asked, four[4];
    unsigned index = locate_element(element, &asked);
    unpack_four((const uint8_t *)value.data + HYPERLOGLOG_HEADER_BYTES + index / 4 * 3, four);
    return four[index % 4] < asked;
}

bool hyperloglog_add_to_dense(uint8_t *bytes, struct span element) {
    uint8_t value;
    unsigned index = locate_element(element, &value);
    if (!raise_dense_register(bytes, index, value)) return false;
    hyperloglog_invalidate_count(bytes);
    return true;
}

enum hyperloglog_status hyperloglog_add(struct hyperloglog_buffer *buffer, struct span element, size_t sparse_bytes_max,
                                        bool *changed) {
    *changed = false;
    enum hyperloglog_status status = hyperloglog_check(span_of_buffer(buffer));
    if (status != HYPERLOGLOG_OK) return status;
    if (hyperloglog_is_dense(span_of_buffer(buffer))) {
        *changed = hyperloglog_add_to_dense(buffer->bytes, element);
        return HYPERLOGLOG_OK;
    }
    uint8_t value;
    unsigned index = locate_element(element, &value);
    struct run_start hint = start_of_runs;
    return raise_sparse_register(buffer, index, value, sparse_bytes_max, &hint, changed);
}

/* ---- Merging
 * --------------------------------------------------------------------------------------------------------- */

static void merge_run(void *ctx, unsigned index, struct run run) {
    struct hyperloglog_registers *registers = ctx;
    for (unsigned i = index; run.value > 0 && i < index + run.registers; i++) {
        if (registers->value[i] < run.value) registers->value[i] = run.value;
    }
}

enum hyperloglog_status hyperloglog_merge(struct hyperloglog_registers *registers, struct span value) {
    enum hyperloglog_status status = hyperloglog_check(value);
    if (status != HYPERLOGLOG_OK) return status;
    if (!hyperloglog_is_dense(value)) return visit_runs(value, merge_run, registers);

    registers->has_dense = true;
    const uint8_t *from = first_run(value);
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS; i += 4, from += 3) {
        uint8_t four[4];
        unpack_four(from, four);
        for (unsigned j = 0; j < 4; j++) {
            if (registers->value[i + j] < four[j]) registers->value[i + j] = four[j];
        }
    }
    return HYPERLOGLOG_OK;
}

enum hyperloglog_status hyperloglog_store_registers(struct hyperloglog_buffer *buffer,
                                                    const struct hyperloglog_registers *registers,
                                                    size_t sparse_bytes_max) {
    enum hyperloglog_status status =
        registers->has_dense ? hyperloglog_make_dense(buffer) : hyperloglog_validate(span_of_buffer(buffer));
    if (status != HYPERLOGLOG_OK) return status;

    struct run_start hint = start_of_runs;
    /* One by one in ascending order, as the bytes of a sparse value depend on its history. */
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS && !hyperloglog_is_dense(span_of_buffer(buffer)); i++) {
        if (registers->value[i] == 0) continue;
        bool changed;
        status = raise_sparse_register(buffer, i, registers->value[i], sparse_bytes_max, &hint, &changed);
        if (status != HYPERLOGLOG_OK) return status;
    }
    if (hyperloglog_is_dense(span_of_buffer(buffer))) pack_registers(registers, buffer->bytes);
    hyperloglog_invalidate_count(buffer->bytes);
    return HYPERLOGLOG_OK;
}

/* ---- Counting
 * -------------------------------------------------------------------------------------------------------- */

/* How many registers hold each value. */
struct histogram {
    unsigned registers[REGISTER_VALUES];
};

/* sigma(x) = x + sum over k >= 1 of x^(2^k) * 2^(k-1), until a term changes nothing. */
static double sum_sigma(double x) {
    if (x == 1) return INFINITY;
    double weight = 1, sum = x, previous;
    do {
        x *= x;
        previous = sum;
        sum += x * weight;
        weight += weight;
    } while (sum != previous);
    return sum;
}

/* tau(x) = (1 - x - sum over k >= 1 of (1 - x^(2^-k))^2 * 2^-k) / 3, until a term changes nothing. */
static double sum_tau(double x) {
    if (x == 0 || x == 1) return 0;
    double weight = 1, sum = 1 - x, previous;
    do {
        x = sqrt(x);
        previous = sum;
        weight *= 0.5;
        sum -= pow(1 - x, 2) * weight;
    } while (sum != previous);
    return sum / 3;
}

static uint64_t estimate(const struct histogram *histogram) {
    /* 1 / (2 ln 2) */
    const double alpha = 0.721347520444481703680;
    const double m = HYPERLOGLOG_REGISTERS;
    double z = m * sum_tau((m - histogram->registers[TOSS_BITS + 1]) / m);
    for (unsigned value = TOSS_BITS; value >= 1; value--) {
        z += histogram->registers[value];
        z *= 0.5;
    }
    z += m * sum_sigma(histogram->registers[0] / m);
    double count = alpha * m * m / z;
    /* Past the range llround answers what the machine likes; this is what x86 does. */
    if (count >= 0x1p63) return (uint64_t)INT64_MIN;
    return (uint64_t)llround(count);
}

static void count_run(void *ctx, unsigned index, struct run run) {
    (void)index;
    struct histogram *histogram = ctx;
    histogram->registers[run.value] += run.registers;
}

/* Neighbouring registers are often equal, and an increment waits for the one before it at the same place: so each of
 * the four registers of a group has its own histogram. */
static void count_dense_registers(const uint8_t *from, struct histogram *histogram) {
    struct histogram of_place[4] = {0};
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS; i += 4, from += 3) {
        uint8_t four[4];
        unpack_four(from, four);
        for (unsigned j = 0; j < 4; j++) of_place[j].registers[four[j]]++;
    }
    for (unsigned value = 0; value < REGISTER_VALUES; value++) {
        for (unsigned j = 0; j < 4; j++) histogram->registers[value] += of_place[j].registers[value];
    }
}

enum hyperloglog_status hyperloglog_count(struct span value, uint64_t *count) {
    enum hyperloglog_status status = hyperloglog_check(value);
    if (status != HYPERLOGLOG_OK) return status;

    struct histogram histogram = {0};
    if (hyperloglog_is_dense(value)) {
        count_dense_registers(first_run(value), &histogram);
    } else {
        status = visit_runs(value, count_run, &histogram);
        if (status != HYPERLOGLOG_OK) return status;
    }
    *count = estimate(&histogram);
    return HYPERLOGLOG_OK;
}

uint64_t hyperloglog_count_registers(const struct hyperloglog_registers *registers) {
    struct histogram histogram = {0};
    for (unsigned i = 0; i < HYPERLOGLOG_REGISTERS; i++) histogram.registers[registers->value[i]]++;
    return estimate(&histogram);
}

/* ---- PFDEBUG DECODE
 * -------------------------------------------------------------------------------------------------- */

struct decoded_text {
    char *data;
    size_t length;
};

static void append_run(struct decoded_text *text, struct run run) {
    char *to = text->data + text->length;
    /* A terminator is written too, over which the next run goes. */
    int written = run.value > 0
                      ? snprintf(to, DECODED_RUN_MAX + 1, "v:%u,%u ", run.value, run.registers)
                      : snprintf(to, DECODED_RUN_MAX + 1, "%c:%u ", run.bytes == 2 ? 'Z' : 'z', run.registers);
    assert(written > 0 && written <= DECODED_RUN_MAX);
    text->length += (size_t)written;
}

/* A corrupt value is shown as far as its runs can be read, whatever they add up to. */
enum hyperloglog_status hyperloglog_decode(struct span value, char **text, size_t *length) {
    enum hyperloglog_status status = hyperloglog_check(value);
    if (status != HYPERLOGLOG_OK) return status;
    assert(!hyperloglog_is_dense(value));

    struct decoded_text decoded = {0};
    const uint8_t *first = first_run(value), *end = end_of(value);
    decoded.data = malloc((size_t)(end - first) * DECODED_RUN_MAX + 1);
    if (decoded.data == NULL) return HYPERLOGLOG_NO_MEMORY;
    struct run run;
    for (const uint8_t *at = first; at < end && read_run(at, end, &run); at += run.bytes) append_run(&decoded, run);
    *text = decoded.data;
    *length = decoded.length > 0 ? decoded.length - 1 : 0;
    return HYPERLOGLOG_OK;
}
