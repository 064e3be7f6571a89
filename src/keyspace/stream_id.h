#ifndef TERRACE_KEYSPACE_STREAM_ID_H
#define TERRACE_KEYSPACE_STREAM_ID_H

/* The ID of a stream's entry: milliseconds and a sequence number, written "1526919030474-55".
 *
 * All functions but those for checkpoints are pure. */

#include "base/number.h"
#include "record/paged_tree.h"

struct stream_id {
    uint64_t ms, sequence;
};

#define STREAM_ID_MIN ((struct stream_id){0, 0})
#define STREAM_ID_MAX ((struct stream_id){UINT64_MAX, UINT64_MAX})

enum { STREAM_ID_TEXT_MAX = 2 * NUMBER_TEXT_MAX + 1 };

/* Below, at or above 0: as a stands to b. */
static inline int stream_id_compare(struct stream_id a, struct stream_id b) {
    if (a.ms != b.ms) return a.ms < b.ms ? -1 : 1;
    return a.sequence < b.sequence ? -1 : a.sequence > b.sequence;
}
static inline bool stream_id_is_zero(struct stream_id id) {
    return id.ms == 0 && id.sequence == 0;
}

/* To the next one, or the one before; false: it was the last, or the first, and has wrapped around. */
static inline bool stream_id_increment(struct stream_id *id) {
    return ++id->sequence != 0 || ++id->ms != 0;
}
static inline bool stream_id_decrement(struct stream_id *id) {
    return id->sequence-- != 0 || id->ms-- != 0;
}

/* Among the keys of a tree, and back. */
static inline struct paged_key stream_id_key(struct stream_id id) {
    return (struct paged_key){.numbers = {id.ms, id.sequence}};
}
static inline struct stream_id stream_id_of(const struct paged_key *key) {
    return (struct stream_id){key->numbers[0], key->numbers[1]};
}

/* In what a checkpoint says of a stream. */
static inline void stream_id_save(struct stream_id id, struct state_writer *out) {
    state_write_u64(out, id.ms);
    state_write_u64(out, id.sequence);
}
static inline struct stream_id stream_id_load(struct state_reader *in) {
    struct stream_id id;
    id.ms = state_read_u64(in);
    id.sequence = state_read_u64(in);
    return id;
}

/* Returns the length; no terminator. */
size_t stream_id_format(struct stream_id id, char text[STREAM_ID_TEXT_MAX]);

enum stream_id_form {
    STREAM_ID_RANGE,  /* "-" and "+" are the least and the greatest */
    STREAM_ID_STRICT, /* they are refused */
    STREAM_ID_NEW,    /* they are refused; "ms-*" leaves the sequence number open */
};

/* A text without a sequence number has `missing_sequence`. `is_open` (NULL unless the form is STREAM_ID_NEW) tells that
 * the sequence number is to be chosen; it is 0 then. False: refused, nothing set. */
bool stream_id_parse(struct span text, enum stream_id_form form, uint64_t missing_sequence, struct stream_id *id,
                     bool *is_open) __attribute__((warn_unused_result));

#endif
