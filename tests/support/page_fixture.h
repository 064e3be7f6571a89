#ifndef TERRACE_TESTS_SUPPORT_PAGE_FIXTURE_H
#define TERRACE_TESTS_SUPPORT_PAGE_FIXTURE_H

/* Pages without a keyspace, for tests of the structures made of them: a heap, and a tier that is a heap of copies in
 * malloc'ed memory, whose pages are missing at random until the command is run again.
 *
 *   struct page_fixture fixture;
 *   page_fixture_open(&fixture, (struct page_fixture_options){.seed = seed, .missing_percent = 30});
 *   collection_init(&root.collection, &kind);
 *   page_fixture_own(&fixture, &root.collection);
 *   page_fixture_chill(&fixture, &root.collection.parts[0], 50);          half of the pages are cold now
 *   struct page_access access = page_fixture_command(&fixture);
 *   do status = change_something(&root, &access);
 *   while (page_fixture_again(&fixture, &access));                        as a worker runs a command again
 *   while (page_table_release(&access, &root.collection.parts[0], 100)) continue;
 *   page_fixture_close(&fixture);
 *
 * As in the keyspace, nothing is missing once a command has begun to change something, and copies of cold pages hold
 * until the next command. Copies that were given up are overwritten and then freed, and closing fails the test when one
 * was forgotten. One thread. */

#include "base/random.h"
#include "record/collection.h"

struct page_fixture_options {
    uint64_t seed;
    bool no_tier;             /* access->source is NULL; nothing can be chilled */
    unsigned missing_percent; /* how often a cold page is not at hand when a command is first run */
    unsigned not_now_percent; /* how often the first change of a first run is refused though nothing was missing */
    unsigned wanted_percent;  /* how often a cold page that is read comes back into memory */
    size_t reserve_bytes;     /* of the heap; 0: 64 MB, which is quick to exhaust */
};

struct page_fixture_copy;

struct page_fixture {
    struct page_fixture_options options;
    struct region_pool *pool;
    struct heap heap;
    struct random random;
    struct page_fixture_copy *copies; /* the address in a reference is the place of its copy, plus one */
    uint32_t copy_count, copy_capacity, live_copies;
    uint32_t first_dropped, first_free; /* addresses; 0: none */
    struct collection **owners;         /* by id - 1 */
    uint32_t owner_count;
    uint64_t command;
    bool changing, first_run;
    void **hoard; /* what page_fixture_starve() took */
    size_t hoarded, hoard_capacity;
    uint64_t reads, misses, reruns;
    uint64_t late_reads; /* of pages that were not asked for before the command changed something */
};

/* Every function fails the running test (by assert) when the machine does not give what it needs. */
void page_fixture_open(struct page_fixture *fixture, struct page_fixture_options options);
/* All collections have been released before. */
void page_fixture_close(struct page_fixture *fixture);

/* Gives the collection an id, as the keyspace would; it stays where it is until the fixture is closed. */
void page_fixture_own(struct page_fixture *fixture, struct collection *collection);

/* A new command. */
struct page_access page_fixture_command(struct page_fixture *fixture);
/* Whether the command has to be run again, with what was missing at hand; if so the access is made new for it. */
bool page_fixture_again(struct page_fixture *fixture, struct page_access *access);

/* Moves about this share of the pages in memory to the tier; 100 moves all. Between commands. */
void page_fixture_chill(struct page_fixture *fixture, struct page_table *table, unsigned percent);

/* Moves pages together as the keyspace does between commands: until no page of the heap is sparse. Returns the number
 * moved. */
size_t page_fixture_compact(struct page_fixture *fixture);

/* Takes all memory of the heap but what is left over in slabs, so that most allocations fail until it is given back. */
void page_fixture_starve(struct page_fixture *fixture);
void page_fixture_feed(struct page_fixture *fixture);

#endif
