#ifndef TERRACE_PERSIST_AOF_TEXT_PRIVATE_H
#define TERRACE_PERSIST_AOF_TEXT_PRIVATE_H

/* What aof_text.c and aof_text_stream.c share. */

#include "keyspace/stream_id.h"
#include "persist/aof_text.h"
#include "persist/rdb_save_private.h"

/* Items in one command: as many as with Redis, so that none is too long for who reads it. */
enum { AOF_TEXT_ITEMS = 64 };

static inline struct span aof_text_key(const struct rdb_step *step) {
    return ((const struct aof_text_save *)step->save)->key;
}

/* "*<words>", and a word each. */
void aof_text_head(struct rdb_output *output, uint64_t words);
void aof_text_word(struct rdb_output *output, struct span word);
void aof_text_literal(struct rdb_output *output, const char *word);
void aof_text_integer(struct rdb_output *output, int64_t number);
void aof_text_unsigned(struct rdb_output *output, uint64_t number);

/* Goes on through a tree from position save->at on, a command for up to AOF_TEXT_ITEMS items of a leaf: `command`, key,
 * and what `put` makes of each item, `words` of them. `command` NULL: `put` composes whole commands. `prepare` as in
 * rdb_put_tree(). */
enum rdb_save_status aof_text_put_tree(struct rdb_step *step, const struct paged_tree *tree, const char *command,
                                       unsigned words, rdb_prepare_leaf *prepare, rdb_put_item *put);

enum rdb_save_status aof_text_step_stream(struct rdb_step *step);

#endif
