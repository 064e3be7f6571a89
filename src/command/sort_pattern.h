#ifndef TERRACE_COMMAND_SORT_PATTERN_H
#define TERRACE_COMMAND_SORT_PATTERN_H

/* The patterns of SORT's BY and GET, by which an element leads to the value of a key, or to a field of a hash:
 *
 *   weight_*          the string at weight_<element>
 *   object_*->name    the field "name" of the hash at object_<element>
 *   #                 the element itself
 *
 * Threads: a key that is looked up has its shard locked: the whole keyspace is (see sort_commands.c). */

#include "base/number.h"
#include "command/command.h"
#include "keyspace/hash_value.h"

struct sort_pattern {
    bool is_element;                   /* "#" */
    bool names_key;                    /* there is a '*'; else it leads nowhere */
    struct span prefix, suffix, field; /* of what is around '*'; field.length 0: the key's string */
};

/* The spans point into `text`. */
struct sort_pattern sort_pattern_parse(struct span text);

/* What several lookups share; zeroed at first but for `call`. */
struct sort_lookup {
    struct call *call;
    bool no_memory; /* a key's name could not be put together: what it led to counted as absent */
    /* its own */
    char *name;
    size_t capacity;
    char *copy; /* of a value that is made of pages */
    struct key key;
    struct hash_entry entry;
    char text[NUMBER_TEXT_MAX];
};
/* What the pattern leads to from `element`. False: nothing. The value holds until the next lookup; sort_lookup_keeps():
 * as long as the record it is in. */
bool sort_lookup(struct sort_lookup *lookup, const struct sort_pattern *pattern, struct span element,
                 struct span *value);
static inline bool sort_lookup_keeps(const struct sort_lookup *lookup, struct span value) {
    const char *begin = (const char *)lookup, *end = (const char *)(lookup + 1);
    return (value.data < begin || value.data >= end) && value.data != lookup->copy;
}
void sort_lookup_free(struct sort_lookup *lookup);

#endif
