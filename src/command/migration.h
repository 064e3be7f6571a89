#ifndef TERRACE_COMMAND_MIGRATION_H
#define TERRACE_COMMAND_MIGRATION_H

/* A conversation with another server: requests are sent, a line is awaited for each. It never blocks for longer than it
 * is told, so a worker can go on with others while it lasts.
 *
 *   migration = migration_create(host, port, timeout_ms);
 *   ... compose requests into migration->requests; migration->expected counts them ...
 *   while ((state = migration_step(migration, wait_us)) == MIGRATION_GOES_ON) ... do something else ...
 *   MIGRATION_ANSWERED: migration_answer() of each; more requests may be composed then
 *   migration_free(migration);
 *
 * Threads: one at a time. */

#include "persist/rdb_output.h"

#include <stdint.h>

enum migration_state {
    MIGRATION_GOES_ON,
    MIGRATION_ANSWERED,       /* all that was expected has been answered */
    MIGRATION_NOT_CONNECTED,  /* and will not be */
    MIGRATION_WRITING_FAILED, /* or no progress for longer than the timeout */
    MIGRATION_READING_FAILED,
};

enum { MIGRATION_ERROR_BYTES = 256, MIGRATION_HOST_BYTES = 256 };

/* What MIGRATE knows of a key it has sent. */
struct migrated_key {
    uint32_t request; /* of its RESTORE, counted over the whole conversation; UINT32_MAX: none was sent */
    int64_t expiry_ms;
    uint64_t crc;
    size_t length;
};

struct migration {
    struct rdb_output requests; /* composed; sent from its beginning on */
    uint32_t expected;          /* answers, from the beginning of the conversation */
    /* MIGRATE's own. */
    uint64_t fingerprint; /* of the command's arguments */
    struct migrated_key *keys;
    uint32_t rounds;

    /* The conversation's. */
    char host[MIGRATION_HOST_BYTES], port[8]; /* terminated; no host: it was too long to be one */
    int fd;                                   /* -1: none yet, or none could be had */
    bool begun, connected, broken;
    size_t sent;
    uint32_t answered, answers_capacity;
    bool *refused; /* by answer */
    int64_t timeout_ns, deadline_ns;
    size_t line_length;
    char line[MIGRATION_ERROR_BYTES];  /* being read; what is longer is cut */
    char error[MIGRATION_ERROR_BYTES]; /* the first answer that was an error, without its '-'; terminated */
};

/* NULL: no memory. Connecting begins with the first step. */
struct migration *migration_create(struct span host, int64_t port, int64_t timeout_ms);
/* NULL is nothing. */
void migration_free(struct migration *migration);
/* Sends and reads what it can, waiting for at most `wait_us`; 0: does not wait. */
enum migration_state migration_step(struct migration *migration, int64_t wait_us);
/* Whether the answer was an error; what has not been answered counts as one. */
bool migration_refused(const struct migration *migration, uint32_t answer);

/* A request of so many words; the words follow. */
void migration_put_request(struct migration *migration, uint32_t words);
void migration_put_word(struct migration *migration, struct span word);

#endif
