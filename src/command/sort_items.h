#ifndef TERRACE_COMMAND_SORT_ITEMS_H
#define TERRACE_COMMAND_SORT_ITEMS_H

/* What SORT sorts: the elements of a list, set or sorted set, each with what it is ordered by.
 *
 *   sort_items_load() -> sort_items_weigh() -> sort_items_order()
 *
 * Elements point to where they lie, but for those that are nowhere spelled out (integers), and for all of them when
 * something is going to be stored; these are copied.
 *
 * Threads: the lock of the key's shard, from the load on as long as the items are used. */

#include "command/sort_pattern.h"
#include "keyspace/list_value.h"
#include "keyspace/set_value.h"
#include "keyspace/sorted_set_value.h"

/* ---- where they come from ---- */

struct sort_source {
    enum record_type type; /* RECORD_LIST also where there is no key */
    uint64_t count;
    union {
        struct list_value list;
        struct set_value set;
        struct sorted_set sorted_set;
    } value;
};
/* False: the key holds something else. `view` and `key` outlive the source. */
bool sort_source_open(struct sort_source *source, const struct view *view, const struct key *key)
    __attribute__((warn_unused_result));

/* ---- the items ---- */

struct sort_item {
    struct span element;
    union {
        struct span text; /* data NULL: there is none, which comes first */
        double score;
    } weight;
    uint64_t place; /* items of equal weight stay in the order they were loaded in */
};

struct sort_text; /* texts that were copied */

struct sort_items {
    struct sort_item *items;
    uint64_t count;
    struct sort_text *texts;
    bool no_memory;  /* told once, it stays: nothing that was made is good */
    bool copies_all; /* set by the caller before loading */
};

/* What is to be loaded and how. */
struct sort_order {
    bool sorts; /* else the elements stay in their own order */
    bool alpha; /* by texts, else by numbers */
    bool descending;
    bool by_weight;
    struct sort_pattern weight;
};

/* The elements first .. first + count - 1 of those there are. Where the order of a list or sorted set is kept they
 * count in the direction of `order`; of a set, and of what is to be sorted, all are loaded. False: they are not all at
 * hand and the command is going to be run again, or `no_memory`. */
bool sort_items_load(struct sort_items *items, struct sort_source *source, const struct sort_order *order,
                     uint64_t first, uint64_t count) __attribute__((warn_unused_result));

/* Finds out by what each item is ordered. False: a text is no number. */
bool sort_items_weigh(struct sort_items *items, const struct sort_order *order, struct sort_lookup *lookup)
    __attribute__((warn_unused_result));
void sort_items_order(struct sort_items *items, const struct sort_order *order);

/* A copy that lives as long as the items. data NULL: `no_memory`. */
struct span sort_items_keep(struct sort_items *items, struct span text);
void sort_items_free(struct sort_items *items);

#endif
