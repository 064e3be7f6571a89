#ifndef TERRACE_PERSIST_RDB_VALUE_PRIVATE_H
#define TERRACE_PERSIST_RDB_VALUE_PRIVATE_H

/* What the parts of rdb_value_load.h share: values that come element by element (rdb_value_build.c), values that come
 * packed (rdb_value_packed.c), streams (rdb_value_stream.c). */

#include "keyspace/hash_value.h"
#include "keyspace/list_value.h"
#include "keyspace/set_value.h"
#include "keyspace/sorted_set_value.h"
#include "keyspace/stream_value.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_value_load.h"

static inline bool rdb_fail(const struct rdb_value_loader *loader, enum rdb_status status, const char *reason) {
    rdb_input_fail(loader->input, status, reason);
    return false;
}
static inline bool rdb_corrupt(const struct rdb_value_loader *loader, const char *reason) {
    return rdb_fail(loader, RDB_CORRUPT, reason);
}

/* ---- the making of big values, in slices ----
 *
 * The lock of the key's shard is taken in front of a slice and released behind it, if that is the loader's business.
 * `view` is the loader's but for changes, which nobody is told of: the value is not in the keyspace yet. */
struct rdb_slices {
    struct rdb_value_loader *loader;
    struct view view;
    struct page_access access;
    bool open;
    unsigned steps; /* in this slice */
    size_t bytes;   /* likewise */
};

void rdb_slices_begin(struct rdb_slices *slices, struct rdb_value_loader *loader);
void rdb_slices_end(struct rdb_slices *slices);
/* Counts a step; after some, another slice. The access may be a new one. False: the load is to stop. */
bool rdb_slices_step(struct rdb_slices *slices, size_t bytes) __attribute__((warn_unused_result));
/* After a step that answered PAGE_NO_MEMORY: whether it may be tried again. Otherwise the input has failed. */
bool rdb_slices_retry(struct rdb_slices *slices, unsigned *attempt) __attribute__((warn_unused_result));

/* ---- values element by element ---- */

struct rdb_builder {
    struct rdb_slices slices;
    enum record_type type;
    bool timed;        /* a hash whose fields may expire */
    bool all_integers; /* of a set */
    uint64_t count;
    size_t length;                 /* of what is packed; of a sorted set, of what is gathered */
    struct collection *collection; /* NULL: packed as yet */
    struct sorted_set sorted_set;  /* of a big one: what its functions want */
};

/* `count`: how many elements there will be, as far as is known. False, of any of these: the input has failed. */
bool rdb_builder_begin(struct rdb_builder *builder, struct rdb_value_loader *loader, enum record_type type, bool timed,
                       uint64_t count) __attribute__((warn_unused_result));
/* A list's element, a set's member; a hash's field with `second` its value and `expiry_ms`; a sorted set's member with
 * `score`. */
struct rdb_element {
    struct span first, second;
    double score;
    int64_t expiry_ms;
};
bool rdb_builder_add(struct rdb_builder *builder, const struct rdb_element *element)
    __attribute__((warn_unused_result));
/* Exactly one of these two is the last call. */
bool rdb_builder_end(struct rdb_builder *builder, struct rdb_value *value) __attribute__((warn_unused_result));
void rdb_builder_abandon(struct rdb_builder *builder);

/* ---- packed values ---- */

/* Room for so many bytes at loader->packed; what was there stays. */
bool rdb_reserve_packed(struct rdb_value_loader *loader, size_t bytes) __attribute__((warn_unused_result));

/* Whether every `stride`th of the `count` elements of a valid listpack is different from the others. False: not so, or
 * no memory; the input has failed. */
bool rdb_check_duplicates(struct rdb_value_loader *loader, const uint8_t *listpack, uint64_t count, unsigned stride)
    __attribute__((warn_unused_result));

/* Whether a value of this type is packed when it has so many elements, the longest so long, `bytes` altogether. */
bool rdb_fits_packed(const struct rdb_value_loader *loader, enum record_type type, bool all_integers, uint64_t count,
                     size_t longest, size_t bytes);

/* Types that are one string of packed bytes. */
bool rdb_load_packed(struct rdb_value_loader *loader, uint8_t type, struct rdb_value *value)
    __attribute__((warn_unused_result));
bool rdb_load_list_nodes(struct rdb_value_loader *loader, uint8_t type, struct rdb_value *value)
    __attribute__((warn_unused_result));

/* ---- streams ---- */

bool rdb_load_stream_value(struct rdb_value_loader *loader, uint8_t type, struct rdb_value *value)
    __attribute__((warn_unused_result));
bool rdb_skip_stream_value(struct rdb_input *input, uint8_t type) __attribute__((warn_unused_result));

#endif
