#ifndef TERRACE_KEYSPACE_SORTED_SET_PRIVATE_H
#define TERRACE_KEYSPACE_SORTED_SET_PRIVATE_H

/* What the two halves of sorted_set_value.h share: reading (sorted_set_value.c) and changing (sorted_set_change.c). */

#include "keyspace/sorted_set_value.h"

/* The score as a number that has the same order; -0 is 0. */
static inline uint64_t score_image(double score) {
    uint64_t bits;
    score += 0.0; /* of -0 makes 0 */
    memcpy(&bits, &score, sizeof(bits));
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}
static inline double score_of_image(uint64_t image) {
    uint64_t bits = image >> 63 ? image & ~(UINT64_C(1) << 63) : ~image;
    double score;
    memcpy(&score, &bits, sizeof(score));
    return score;
}
static inline uint64_t score_bits(double score) {
    uint64_t bits;
    memcpy(&bits, &score, sizeof(bits));
    return bits;
}
static inline double score_of_bits(uint64_t bits) {
    double score;
    memcpy(&score, &bits, sizeof(score));
    return score;
}

static inline struct paged_key tree_key(double score, struct span member) {
    return (struct paged_key){.numbers = {score_image(score)}, .tail = member};
}

static inline uint32_t member_code(const struct sorted_set_root *root, struct span member) {
    return (uint32_t)paged_hash_code(&root->scores, member);
}

static inline const uint8_t *sorted_set_listpack(const struct sorted_set *set) {
    return (const uint8_t *)record_value(set->lookup.record).data;
}
/* The score in its entry of a listpack. */
double sorted_set_entry_score(const uint8_t *entry);

/* Why a change was refused. */
static inline enum page_status refusal_of(const struct view *view) {
    return view_misses(view) ? PAGE_MISSING : PAGE_NO_MEMORY;
}

#endif
