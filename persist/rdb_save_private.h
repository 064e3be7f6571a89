#ifndef TERRACE_PERSIST_RDB_SAVE_PRIVATE_H
#define TERRACE_PERSIST_RDB_SAVE_PRIVATE_H

/* What the files behind rdb_save.h share: rdb_save.c (records), rdb_save_collection.c, rdb_save_stream.c. */

#include "persist/rdb_layout.h"
#include "persist/rdb_save.h"
#include "record/paged_tree.h"

/* Resolves 0. */
unsigned rdb_save_version(const struct rdb_save_options *options);

enum rdb_type rdb_collection_type(const struct rdb_save_options *options, const struct collection *root);

/* A step in the making. */
struct rdb_step {
    struct rdb_collection_save *save;
    struct page_access *access;
    struct rdb_output *output;
    size_t end; /* length of the output at which the budget is used up */
};

static inline bool rdb_step_is_over(const struct rdb_step *step) {
    return step->output->length >= step->end;
}
/* What a page that could not be had means, where nothing is passed over. */
static inline enum rdb_save_status rdb_step_lacks(const struct rdb_step *step) {
    return step->access->missing ? RDB_SAVE_MISSING : RDB_SAVE_FAILED;
}

/* Goes on through the items of a tree, from position save->at on, leaf by leaf. RDB_SAVE_DONE: at the end, save->at is
 * tree->count. `prepare` (or NULL) is asked before a leaf's items are put: false, it was not possible, because of a
 * page that is not at hand or of memory. */
typedef void rdb_put_item(struct rdb_step *step, const struct paged_item *item);
typedef bool rdb_prepare_leaf(struct rdb_step *step, struct paged_tree_cursor first);
enum rdb_save_status rdb_put_tree(struct rdb_step *step, const struct paged_tree *tree, rdb_prepare_leaf *prepare,
                                  rdb_put_item *put);

/* The tree's leaves one by one, from save->at on: `put` composes a whole leaf, on whose first item the cursor stands;
 * false: no memory. */
typedef bool rdb_put_leaf(struct rdb_step *step, struct paged_tree_cursor first);
enum rdb_save_status rdb_put_leaves(struct rdb_step *step, const struct paged_tree *tree, rdb_put_leaf *put);
/* How many leaves there are; reads none. */
uint64_t rdb_tree_leaves(const struct paged_tree *tree);
/* Has save->scratch hold so many bytes. What is in it is lost. False: no memory. */
bool rdb_reserve_scratch(struct rdb_collection_save *save, size_t bytes);

/* Of a sorted set: sees to it that what tells -0 from 0 is at hand, before a leaf's items are put; the score of one. */
bool rdb_prepare_scores(struct rdb_step *step, struct paged_tree_cursor first);
double rdb_score_of(struct rdb_step *step, const struct paged_item *item);

/* More than the head and the length behind a text or integer of a listpack take. */
enum { RDB_ELEMENT_BYTES = 10 };

enum rdb_save_status rdb_step_stream(struct rdb_step *step);

#endif
