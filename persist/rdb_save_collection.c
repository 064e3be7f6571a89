/* Big collections as RDB has them: strings, lists, sets, sorted sets and hashes, one page after the other. (Streams are
 * in rdb_save_stream.c.)
 *
 * A step begins where the one before has ended: at a byte, a page number of the hash, or a position in the tree. Pages
 * are opened anew in each step, since between two of them the lock was not held. What is composed of a page is composed
 * whole or not at all, so a page that is missing leaves everything as if the step had ended before it.
 *
 * The number of elements is told before them, from the root; of a list, the number of its nodes, which are the leaves
 * of its tree. That exactly so many were written is checked at the end: otherwise the bytes would be taken for
 * something else by whoever reads them. */

#include "keyspace/hash_value.h"
#include "keyspace/list_value.h"
#include "keyspace/set_value.h"
#include "keyspace/sorted_set_private.h"
#include "persist/rdb_save_private.h"
#include "record/listpack.h"
#include "record/paged_bytes.h"
#include "record/tree_node.h"

#include <stdlib.h>

enum { PHASE_BEGIN, PHASE_ELEMENTS };
enum { STRING_STRETCH = 4 * PAGED_BYTES_PAGE };

enum rdb_type rdb_collection_type(const struct rdb_save_options *options, const struct collection *root) {
    switch (root->kind->type) {
    case RECORD_LIST: return RDB_LIST_QUICKLIST_2;
    case RECORD_SET: return RDB_SET;
    case RECORD_SORTED_SET: return RDB_ZSET_2;
    case RECORD_HASH: return paged_hash_of(root)->timed ? RDB_HASH_METADATA : RDB_HASH;
    case RECORD_STREAM:
        return rdb_save_version(options) >= RDB_VERSION_SET_LISTPACK ? RDB_STREAM_LISTPACKS_3 : RDB_STREAM_LISTPACKS_2;
    default: return RDB_STRING;
    }
}

/* ---- strings ---- */

static enum rdb_save_status step_string(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    struct paged_bytes *bytes = paged_bytes_of(save->root);
    if (save->phase == PHASE_BEGIN) rdb_put_length(step->output, bytes->length);
    save->phase = PHASE_ELEMENTS;
    while (save->at < bytes->length) {
        if (rdb_step_is_over(step)) return RDB_SAVE_MORE;
        uint64_t left = bytes->length - save->at;
        size_t part = left < STRING_STRETCH ? (size_t)left : STRING_STRETCH;
        uint8_t *to = rdb_output_room(step->output, part);
        if (!to) return RDB_SAVE_FAILED;
        bool done = paged_bytes_read(bytes, step->access, save->at, to, part) == PAGE_DONE;
        if (!done && !save->pass_over) return rdb_step_lacks(step);
        step->output->length += part;
        save->at += part;
    }
    return RDB_SAVE_DONE;
}

/* ---- lists and sorted sets: trees ---- */

enum rdb_save_status rdb_put_tree(struct rdb_step *step, const struct paged_tree *tree, rdb_prepare_leaf *prepare,
                                  rdb_put_item *put) {
    struct rdb_collection_save *save = step->save;
    struct paged_tree_cursor at;
    while (save->at < tree->count) {
        if (rdb_step_is_over(step)) return RDB_SAVE_MORE;
        paged_tree_at(&at, tree, step->access, save->at);
        uint32_t items = at.leaf_count - at.index;
        bool ready = !at.missing && (!prepare || prepare(step, at));
        if (!ready && !save->pass_over) return rdb_step_lacks(step);
        for (uint32_t i = 0; ready && i < items; i++) {
            if (i) paged_tree_next(&at);
            put(step, &at.item);
        }
        save->at += items;
    }
    return RDB_SAVE_DONE;
}

static uint64_t leaves_below(const struct tree_node *node) {
    uint64_t leaves = 0;
    if (!node->level) return node->used;
    for (uint32_t i = 0; i < node->used; i++) leaves += leaves_below(tree_node_children(node)[i]);
    return leaves;
}

uint64_t rdb_tree_leaves(const struct paged_tree *tree) {
    return tree->root ? leaves_below(tree->root) : 0;
}

bool rdb_reserve_scratch(struct rdb_collection_save *save, size_t bytes) {
    if (save->scratch_capacity >= bytes) return true;
    free(save->scratch);
    save->scratch = malloc(bytes);
    save->scratch_capacity = save->scratch ? bytes : 0;
    return save->scratch != NULL;
}

enum rdb_save_status rdb_put_leaves(struct rdb_step *step, const struct paged_tree *tree, rdb_put_leaf *put) {
    struct rdb_collection_save *save = step->save;
    struct paged_tree_cursor at;
    while (save->at < tree->count) {
        if (rdb_step_is_over(step)) return RDB_SAVE_MORE;
        paged_tree_at(&at, tree, step->access, save->at);
        assert(at.index == 0);
        if (!at.missing && !put(step, at)) return RDB_SAVE_FAILED;
        if (at.missing && !save->pass_over) return rdb_step_lacks(step);
        save->at += at.leaf_count;
    }
    return RDB_SAVE_DONE;
}

/* A leaf becomes a node: 4 KB of elements, or one that is longer. */
static bool put_list_node(struct rdb_step *step, struct paged_tree_cursor at) {
    struct rdb_collection_save *save = step->save;
    const struct paged_tree_cursor first = at;
    size_t bytes = LISTPACK_EMPTY_BYTES;
    for (uint32_t i = 0; i < first.leaf_count; i++) {
        if (i) paged_tree_next(&at);
        bytes += at.item.value.length + RDB_ELEMENT_BYTES;
    }
    if (!rdb_reserve_scratch(save, bytes)) return false;
    struct listpack_writer writer;
    listpack_writer_begin(&writer, save->scratch, bytes);
    at = first;
    for (uint32_t i = 0; i < first.leaf_count; i++) {
        if (i) paged_tree_next(&at);
        listpack_writer_append_text(&writer, at.item.value);
    }
    size_t length = listpack_writer_finish(&writer);
    rdb_put_length(step->output, RDB_NODE_PACKED);
    rdb_put_blob(step->output, span_of(save->scratch, length), save->options->compress);
    save->written += first.leaf_count;
    return true;
}

static enum rdb_save_status step_list(struct rdb_step *step) {
    const struct list_root *root = (const struct list_root *)step->save->root;
    if (step->save->phase == PHASE_BEGIN) rdb_put_length(step->output, rdb_tree_leaves(&root->elements));
    step->save->phase = PHASE_ELEMENTS;
    return rdb_put_leaves(step, &root->elements, put_list_node);
}

/* Whether the score, which the tree has as 0, is really -0. False also when that could not be found out. */
static bool is_minus_zero(struct rdb_step *step, const struct paged_item *item) {
    struct sorted_set_root *root = (struct sorted_set_root *)step->save->root;
    struct paged_hash_candidates candidates;
    uint64_t score;
    bool minus = false, plus = false;
    paged_hash_candidates(&candidates, &root->scores, step->access, member_code(root, item->key.tail));
    while (paged_hash_next_candidate(&candidates, &score)) {
        minus |= score == score_bits(-0.0);
        plus |= score == score_bits(0.0);
    }
    /* Two members with the same hash, one with either zero: they compare as equal, so plain 0 will do. */
    return minus && !plus;
}

static bool may_be_minus_zero(const struct rdb_step *step, const struct paged_item *item) {
    return ((const struct sorted_set_root *)step->save->root)->has_minus_zero &&
           item->key.numbers[0] == score_image(0.0);
}

bool rdb_prepare_scores(struct rdb_step *step, struct paged_tree_cursor at) {
    struct sorted_set_root *root = (struct sorted_set_root *)step->save->root;
    uint32_t items = at.leaf_count - at.index;
    bool ready = true;
    if (!root->has_minus_zero) return true;
    for (uint32_t i = 0; i < items; i++) {
        if (i) paged_tree_next(&at);
        if (may_be_minus_zero(step, &at.item) &&
            !paged_hash_touch_code(&root->scores, step->access, member_code(root, at.item.key.tail)))
            ready = false;
    }
    return ready;
}

double rdb_score_of(struct rdb_step *step, const struct paged_item *item) {
    if (may_be_minus_zero(step, item) && is_minus_zero(step, item)) return -0.0;
    return score_of_image(item->key.numbers[0]);
}

static void put_scored(struct rdb_step *step, const struct paged_item *item) {
    rdb_put_string(step->output, item->key.tail, step->save->options->compress);
    rdb_put_double(step->output, rdb_score_of(step, item));
    step->save->written++;
}

static enum rdb_save_status step_sorted_set(struct rdb_step *step) {
    const struct sorted_set_root *root = (const struct sorted_set_root *)step->save->root;
    if (step->save->phase == PHASE_BEGIN) rdb_put_length(step->output, root->members.count);
    step->save->phase = PHASE_ELEMENTS;
    return rdb_put_tree(step, &root->members, rdb_prepare_scores, put_scored);
}

/* ---- sets and hashes: pages by number ---- */

static void put_field(struct rdb_step *step, const struct paged_hash *hash, const struct paged_hash_item *item) {
    struct rdb_collection_save *save = step->save;
    bool compress = save->options->compress;
    if (save->timed) {
        uint64_t ttl = 0;
        if (item->expiry_ms != RECORD_EXPIRY_NONE) ttl = (uint64_t)(item->expiry_ms - save->earliest_ms) + 1;
        rdb_put_length(step->output, ttl);
    }
    rdb_put_string(step->output, item->field, compress);
    if (hash->kind == PAGED_HASH_MAP) rdb_put_string(step->output, item->value, compress);
    save->written++;
}

static enum rdb_save_status put_hash(struct rdb_step *step, const struct paged_hash *hash) {
    struct rdb_collection_save *save = step->save;
    struct paged_hash_walk walk;
    struct paged_hash_item item;
    for (; save->at < hash->page_count; save->at++) {
        if (rdb_step_is_over(step)) return RDB_SAVE_MORE;
        uint64_t before = save->written;
        paged_hash_walk_all(&walk, hash, step->access);
        walk.number = (uint32_t)save->at;
        walk.end = walk.number + 1;
        while (paged_hash_walk_next(&walk, &item)) put_field(step, hash, &item);
        if (save->written == before && step->access->missing && !save->pass_over) return RDB_SAVE_MISSING;
    }
    return RDB_SAVE_DONE;
}

static enum rdb_save_status step_set(struct rdb_step *step) {
    const struct paged_hash *members = paged_hash_of(step->save->root);
    if (step->save->phase == PHASE_BEGIN) rdb_put_length(step->output, members->count);
    step->save->phase = PHASE_ELEMENTS;
    return put_hash(step, members);
}

/* Times are told from the earliest on. No field expires before the root's next_expiry_ms; where it is not known 0 does
 * as well, at some bytes more a field. */
static enum rdb_save_status step_hash(struct rdb_step *step) {
    struct rdb_collection_save *save = step->save;
    const struct paged_hash *fields = paged_hash_of(save->root);
    if (save->phase == PHASE_BEGIN) {
        save->timed = fields->timed != 0;
        int64_t earliest_ms = save->root->next_expiry_ms;
        save->earliest_ms = earliest_ms > 0 && earliest_ms <= RECORD_EXPIRY_MAX ? earliest_ms : 0;
        if (save->timed) rdb_put_u64(step->output, (uint64_t)save->earliest_ms);
        if (save->timed) step->output->field_ttl = true;
        rdb_put_length(step->output, fields->count);
    }
    save->phase = PHASE_ELEMENTS;
    return put_hash(step, fields);
}

/* ---- steps ---- */

void rdb_collection_begin(struct rdb_collection_save *save, const struct rdb_save_options *options,
                          struct collection *root) {
    *save = (struct rdb_collection_save){.options = options, .root = root, .status = RDB_SAVE_MORE};
}

void rdb_collection_end(struct rdb_collection_save *save) {
    free(save->counts);
    free(save->scratch);
    save->counts = NULL;
    save->scratch = NULL;
}

static uint64_t elements_of(const struct collection *root) {
    switch (root->kind->type) {
    case RECORD_LIST: return ((const struct list_root *)root)->elements.count;
    case RECORD_SORTED_SET: return ((const struct sorted_set_root *)root)->members.count;
    case RECORD_SET:
    case RECORD_HASH: return paged_hash_of(root)->count;
    default: return 0;
    }
}

enum rdb_save_status rdb_collection_step(struct rdb_collection_save *save, struct page_access *access,
                                         struct rdb_output *output, size_t budget_bytes) {
    struct rdb_step step = {save, access, output, SIZE_MAX};
    if (budget_bytes < SIZE_MAX - output->length) step.end = output->length + (budget_bytes ? budget_bytes : 1);
    enum rdb_save_status status;
    switch (save->root->kind->type) {
    case RECORD_LIST: status = step_list(&step); break;
    case RECORD_SET: status = step_set(&step); break;
    case RECORD_SORTED_SET: status = step_sorted_set(&step); break;
    case RECORD_HASH: status = step_hash(&step); break;
    case RECORD_STREAM: status = rdb_step_stream(&step); break;
    default: status = step_string(&step); break;
    }
    bool short_of = status == RDB_SAVE_DONE && !access->missing && save->written != elements_of(save->root);
    if (output->failed || short_of) status = RDB_SAVE_FAILED;
    save->status = status;
    return status;
}
