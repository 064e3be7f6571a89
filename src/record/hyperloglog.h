#ifndef TERRACE_RECORD_HYPERLOGLOG_H
#define TERRACE_RECORD_HYPERLOGLOG_H

/* HyperLogLog values: an estimate of how many different elements were added, in at most 12,304 bytes.
 *
 * The bytes are those of Redis, as GET and DUMP show them, and they stay identical to those of Redis under the same
 * sequence of changes: the same hash (MurmurHash64A, seed 0xadc83b19), the same two representations, the same point of
 * conversion from one to the other, the same cached count. hyperloglog.c draws the format.
 *
 * A value that only is read is a span. A value that may grow is a struct hyperloglog_buffer, whose bytes belong to the
 * caller and come from malloc. Values come from clients (SET, SETRANGE, RESTORE), so nothing is believed: every
 * function that answers a status is safe on any bytes at all, and says HYPERLOGLOG_CORRUPT where a run leads outside
 * the value or the registers. A change that fails leaves the bytes as they were. No global state, any thread. */

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HYPERLOGLOG_REGISTERS = 16384,
    HYPERLOGLOG_HEADER_BYTES = 16,
    HYPERLOGLOG_DENSE_BYTES = HYPERLOGLOG_HEADER_BYTES + HYPERLOGLOG_REGISTERS * 6 / 8,
};

enum hyperloglog_status {
    HYPERLOGLOG_OK,
    /* Not a HyperLogLog by its header. Redis: "WRONGTYPE Key is not a valid HyperLogLog string value." */
    HYPERLOGLOG_OTHER,
    /* Redis: "INVALIDOBJ Corrupted HLL object detected". */
    HYPERLOGLOG_CORRUPT,
    HYPERLOGLOG_NO_MEMORY,
};

/* A growable value. All zero is an empty buffer. The caller frees `bytes`. */
struct hyperloglog_buffer {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
};

/* All registers unpacked, to merge values into. All zero is the empty set. */
struct hyperloglog_registers {
    uint8_t value[HYPERLOGLOG_REGISTERS];
    /* One of the merged values was dense. Then what is stored is dense too. */
    bool has_dense;
};

#define HYPERLOGLOG_MUST_USE __attribute__((warn_unused_result))

/* Whether the header is that of a HyperLogLog, which is what Redis checks before any command: HYPERLOGLOG_OK or
 * HYPERLOGLOG_OTHER. All functions below expect this to have been answered with OK; those with a status check it again.
 */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_check(struct span value);

/* The header and every run. O(bytes). */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_validate(struct span value);

/* Makes the buffer the sparse value of the empty set, with a valid cached count of 0. */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_create(struct hyperloglog_buffer *buffer);

/* Makes the buffer a copy of `value`. */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_copy(struct hyperloglog_buffer *buffer, struct span value);

/* Adds an element. *changed says whether a register rose; then the cached count is invalid. A sparse value becomes
 * dense when it would grow past `sparse_bytes_max` (hll-sparse-max-bytes, the header included) or a register past 32.
 */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_add(struct hyperloglog_buffer *buffer, struct span element,
                                                             size_t sparse_bytes_max, bool *changed);

/* The same for a value known to be dense, changed where it lies: dense values never grow. `bytes` are
 * HYPERLOGLOG_DENSE_BYTES. */
bool hyperloglog_add_to_dense(uint8_t *bytes, struct span element);
/* Whether it would change anything. Precondition: the value is dense. */
bool hyperloglog_would_raise_dense(struct span value, struct span element);

/* The header's count, if nothing changed since it was stored. */
bool hyperloglog_cached_count(struct span value, uint64_t *count);

/* Writes the count to the header, or marks it invalid. PFADD marks a key it creates even if it adds nothing; PFMERGE
 * marks its destination always. `bytes` begin with a valid header. */
void hyperloglog_store_count(uint8_t *bytes, uint64_t count);
void hyperloglog_invalidate_count(uint8_t *bytes);

/* Estimates the count from the registers, whatever the header says. When nearly all registers are at their highest the
 * estimate is past any 63-bit number, and the answer is 2^63, which Redis replies as the signed number INT64_MIN. */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_count(struct span value, uint64_t *count);
uint64_t hyperloglog_count_registers(const struct hyperloglog_registers *registers);

/* Raises each register to that of `value` where this is higher. On HYPERLOGLOG_CORRUPT some may be raised already. */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_merge(struct hyperloglog_registers *registers,
                                                               struct span value);

/* The second half of PFMERGE: raises the registers of the buffer's value to the merged ones, of which the value itself
 * must have been one, and marks the cached count invalid. */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_store_registers(struct hyperloglog_buffer *buffer,
                                                                         const struct hyperloglog_registers *registers,
                                                                         size_t sparse_bytes_max);

/* ---- What PFDEBUG shows
 * ---------------------------------------------------------------------------------------------- */

/* `value` has a valid header. */
bool hyperloglog_is_dense(struct span value);

/* Nothing happens to a dense value. The cached count is kept. */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_make_dense(struct hyperloglog_buffer *buffer);

/* The runs of a sparse value as PFDEBUG DECODE writes them: "z:" and "Z:" with a length, "v:" with value and length,
 * separated by spaces. *text is malloc'ed, not terminated, and the caller's to free. `value` is not dense. */
HYPERLOGLOG_MUST_USE enum hyperloglog_status hyperloglog_decode(struct span value, char **text, size_t *length);

#endif
