#ifndef TERRACE_TESTS_SUPPORT_JOURNALED_H
#define TERRACE_TESTS_SUPPORT_JOURNALED_H

/* A server in this process (in_process.h) with a journal, and one that repeats what the journal tells: for tests of
 * effects. Both have the commands of all families, but shards, secret seeds and limits of encodings of their own, so
 * that an effect that depends on one of these is found out. Every function asserts. Not for several threads. */

#include "persist/journal.h"
#include "tests/support/in_process.h"

struct journaled {
    struct in_process *server;
    struct journal *journal;
    struct journal_reader *reader;
    struct in_process *repeated;
    char *bytes; /* what the last journaled_effects() took from the journal */
    size_t length, capacity;
    char *text;
};

struct journaled *journaled_create(void);
/* The first one with so little memory for records that it runs out (`reserve_bytes`, 0: it has plenty), or with a tier
 * (NULL: without). */
struct journaled *journaled_create_with(size_t reserve_bytes, const struct tier_options *tier);
void journaled_destroy(struct journaled *journaled);

/* What was appended since the last time, as text: words separated by blanks, commands by " | ", without SELECT of
 * database 0; valid until the next call. The other server repeats it, and the test fails if it answers with an error.
 */
const char *journaled_effects(struct journaled *journaled);

/* Time goes on for both. */
void journaled_advance(struct journaled *journaled, int64_t ms);

/* Fails the test unless the key is the same in both: type, contents, times of key and fields, groups, what is pending,
 * and when it was delivered. What only tells when a consumer was seen is left out. */
void journaled_compare(struct journaled *journaled, uint32_t database, const char *key);
/* The same for all data, without looking at times; to be called with nothing left in the journal. */
void journaled_compare_all(struct journaled *journaled);

#endif
