#ifndef TERRACE_RECORD_REFERENCE_H
#define TERRACE_RECORD_REFERENCE_H

/* A reference: the 48 bits that say where a record is. Each record has exactly one, in a slot of an index.
 *
 *    47         46     44 43                                          0
 *   +----------+---------+---------------------------------------------+
 *   | volatile | medium  | address, as the medium counts               |
 *   +----------+---------+---------------------------------------------+
 *
 *   volatile   the record has an expiry, so a sweep need not touch those that have none
 *   medium     DRAM, FAR       memory: the address is the record's, in 8-byte units
 *              TIER_SHARED,    the mmap tier: see tiering/tier_layout.h
 *              TIER_ALONE
 *
 * A record in memory is read and changed where it is. A cold one (on a tier) is read as a copy, and changed by laying
 * it out anew in memory. */

#include "record/record.h"

enum medium {
    MEDIUM_DRAM,
    MEDIUM_FAR,
    MEDIUM_TIER_SHARED,
    MEDIUM_TIER_ALONE,
};

#define REF_VOLATILE     (UINT64_C(1) << 47)
#define REF_MEDIUM_SHIFT 44
#define REF_ADDRESS_MASK ((UINT64_C(1) << REF_MEDIUM_SHIFT) - 1)

static inline enum medium ref_medium(uint64_t ref) {
    return (enum medium)(ref >> REF_MEDIUM_SHIFT & 7);
}
static inline uint64_t ref_address(uint64_t ref) {
    return ref & REF_ADDRESS_MASK;
}
/* Whether the record is on a tier. */
static inline bool ref_is_cold(uint64_t ref) {
    return ref_medium(ref) > MEDIUM_FAR;
}

/* Precondition: the record is in memory. */
static inline struct record *ref_record(uint64_t ref) {
    return (struct record *)((ref & REF_ADDRESS_MASK) << 3);
}

static inline uint64_t ref_make(enum medium medium, uint64_t address, bool is_volatile) {
    return address | (uint64_t)medium << REF_MEDIUM_SHIFT | (is_volatile ? REF_VOLATILE : 0);
}
/* Of a record in memory. */
static inline uint64_t ref_of(const struct record *record, enum medium medium) {
    return ref_make(medium, (uint64_t)(uintptr_t)record >> 3, record_has_expiry(record));
}

#endif
