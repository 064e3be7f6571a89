#ifndef TERRACE_TESTS_SUPPORT_TIER_FIXTURE_H
#define TERRACE_TESTS_SUPPORT_TIER_FIXTURE_H

/* A tier without a keyspace, in a file of the working folder, and records to put there.
 *
 *   struct tier_fixture fixture;
 *   tier_fixture_open(&fixture, (struct tier_options){.compress = true});
 *   uint64_t ref = tier_fixture_append(&fixture, 0, record);
 *   const struct record *read = tier_fixture_read(&fixture, 0, ref);
 *   tier_fixture_close(&fixture);
 *
 * Every function fails the running test when something goes wrong that the test does not ask about. One thread. */

#include "tiering/tier.h"

enum { TIER_FIXTURE_SEGMENT = 1 << 20, TIER_FIXTURE_SEGMENTS = 16 };

struct tier_fixture {
    struct tier *tier;
    struct tier_port *port; /* the first */
    int64_t now_ns;
};

/* What is zero in `options` becomes: 16 segments of 1 MB, buffers for 32 MB of memory, one port, the file "tier". */
void tier_fixture_open(struct tier_fixture *fixture, struct tier_options options);
void tier_fixture_close(struct tier_fixture *fixture);

/* A record with the key "record:<number>" and so many bytes of value, which follow from the number. From malloc.
 * `expiry_ms` RECORD_EXPIRY_NONE: none. `dull`: LZ4 makes it much smaller; else it cannot. */
struct record *tier_fixture_record(unsigned number, size_t value_bytes, int64_t expiry_ms, bool dull);
bool tier_fixture_same(const struct record *a, const struct record *b);

/* One record into the stream that suits it; waits where writes are behind. */
uint64_t tier_fixture_append(struct tier_fixture *fixture, unsigned port, const struct record *record);
/* Writes everything, and waits for it. */
void tier_fixture_settle(struct tier_fixture *fixture, unsigned port);
/* A turn: submits, waits a moment, ends what has ended. What is tried twice a second is tried. */
void tier_fixture_turn(struct tier_fixture *fixture, unsigned port);
/* Asks and waits. NULL: it cannot be read. Good until the next turn. */
const struct record *tier_fixture_read(struct tier_fixture *fixture, unsigned port, uint64_t ref);
struct tier_figures tier_fixture_figures(const struct tier_fixture *fixture);

/* Changes a byte in the block that holds this record, in the file, behind the tier's back. It must be written. */
void tier_fixture_damage(const char *path, uint64_t ref);

#endif
