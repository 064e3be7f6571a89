#ifndef TERRACE_PERSIST_AOF_PARSE_H
#define TERRACE_PERSIST_AOF_PARSE_H

/* The items an append-only file is made of, in memory: commands (arrays of bulk strings) and lines that begin with '#'.
 * Pure functions over bytes; nothing is trusted. An item is first passed over, which checks its form and tells its
 * length, and its words are taken later if they are wanted. */

#include "base/span.h"

#include <stdint.h>

/* A word may not be longer: no value is, and a length beyond it is damage and not a large value. */
#define AOF_WORD_BYTES_MAX (UINT64_C(1) << 32)

enum aof_parse_result {
    AOF_PARSE_COMMAND,
    AOF_PARSE_LINE,
    AOF_PARSE_SHORT, /* the bytes are the beginning of an item */
    AOF_PARSE_BAD,   /* no item begins so */
};

struct aof_item {
    size_t length; /* COMMAND, LINE: of the whole item. SHORT: it is at least so long, and longer than the bytes */
    uint32_t argc;
    struct span name; /* the first word of a command; within the bytes */
    size_t bad_at;    /* BAD: the first byte that cannot be */
};

enum aof_parse_result aof_parse_item(struct span bytes, struct aof_item *item);

/* The words of a command that was passed over: `argv` has room for item->argc. */
void aof_parse_words(const char *command, const struct aof_item *item, struct span *argv);

#endif
