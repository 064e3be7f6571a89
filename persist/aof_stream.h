#ifndef TERRACE_PERSIST_AOF_STREAM_H
#define TERRACE_PERSIST_AOF_STREAM_H

/* The commands of one file: reading it, keeping back what is not known to be whole, giving out the rest in batches, and
 * judging how it ends. What may be made of a bad end is the loader's business (aof_load.h). One thread. */

#include "persist/aof_check.h"
#include "persist/aof_load.h"

struct aof_stream_options {
    int fd;              /* open for reading; its own position is neither used nor moved */
    uint64_t start, end; /* the part of the file that is commands; `end` is where the file ends */
    const struct aof_load_options *load;
    struct aof_load_result *totals; /* commands and transactions are counted here */
};

enum aof_stream_end {
    AOF_STREAM_WHOLE,
    AOF_STREAM_TORN,    /* from `from` on nothing was given out, and nothing needs to be: it may be cut there */
    AOF_STREAM_CORRUPT, /* `from` to `to` (0: not known) is not as it was written */
    AOF_STREAM_REFUSED, /* `what`, if not NULL, says why */
    AOF_STREAM_IO,      /* errno */
    AOF_STREAM_NO_MEMORY,
    AOF_STREAM_CANCELLED,
};

struct aof_stream_verdict {
    enum aof_stream_end end;
    const char *what; /* a literal: what is wrong */
    uint64_t from, to;
    bool ours;                  /* it begins with a header of ours */
    struct aof_check check;     /* if `ours`: where the chain stands at the end of what was given out */
    struct aof_history history; /* of which stream that was, and up to where; no id: not known */
};

enum aof_stream_end aof_stream_run(const struct aof_stream_options *options, struct aof_stream_verdict *verdict);

#endif
