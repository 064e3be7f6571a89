/* Any bytes as a primary's stream, in pieces of any size: what comes out as commands does not depend on the pieces,
 * lies within the bytes, and a transaction comes as a whole or not at all. */

#include "server/primary_stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    size_t taken, commands, whole; /* bytes taken; commands; bytes taken when no transaction was open */
    bool bad;
};

/* A copy for each piece, so that a look behind its end is noticed. */
static struct outcome run(const uint8_t *data, size_t size, size_t piece) {
    struct primary_stream stream = {0};
    struct aof_item item;
    struct outcome outcome = {0};
    for (size_t there = 0; there < size && !outcome.bad;) {
        there = there + piece < size ? there + piece : size;
        size_t length = there - outcome.taken, used = 0;
        char *copy = malloc(length ? length : 1);
        assert(copy);
        memcpy(copy, data + outcome.taken, length);
        for (;;) {
            enum primary_stream_next next = primary_stream_next(&stream, span_of(copy + used, length - used), &item);
            outcome.bad = next == PRIMARY_STREAM_BAD;
            if (next != PRIMARY_STREAM_COMMAND) break;
            assert(item.length > 0 && item.length <= length - used && item.argc > 0);
            assert(item.name.data >= copy && item.name.data + item.name.length <= copy + length);
            used += item.length;
            outcome.commands++;
            if (!stream.in_transaction) outcome.whole = outcome.taken + used;
        }
        assert(!stream.in_transaction); /* its EXEC is there, or its MULTI was not given out */
        outcome.taken += used;
        free(copy);
    }
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct outcome at_once = run(data, size, size ? size : 1), pieces = run(data, size, size ? 1 + data[0] % 31 : 1);
    assert(at_once.whole == at_once.taken && pieces.whole == pieces.taken);
    assert(at_once.bad == pieces.bad && at_once.taken == pieces.taken && at_once.commands == pieces.commands);
    return 0;
}
