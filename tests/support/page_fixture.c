/* A tier in malloc'ed memory: a reference's address is the number of a copy, plus one so that no reference is 0.
 *
 * What a command may still point to is not freed while it runs: copies that were dropped are kept until the next
 * command begins. A page that was missing is at hand for the same command when it is run again, told by the command's
 * number. */

#include "tests/support/page_fixture.h"

#include <assert.h>
#include <stdlib.h>

enum { RESERVE_BYTES = 64 << 20, HOARD_LARGEST = 512 << 10, HOARD_SMALLEST = 64 };

struct page_fixture_copy {
    struct record *page; /* NULL: the number is free */
    size_t bytes;
    uint64_t asked_by; /* the command for which it was missing */
    uint32_t next;     /* of those dropped, or of free numbers */
    bool dropped;
};

static bool percent(struct page_fixture *fixture, unsigned chance) {
    return chance && random_below(&fixture->random, 100) < chance;
}

static struct page_fixture *fixture_of(const struct page_access *access) {
    return (struct page_fixture *)(uintptr_t)access->view;
}

static struct page_fixture_copy *copy_of(struct page_fixture *fixture, uint64_t ref) {
    assert(ref_is_cold(ref) && ref_address(ref) <= fixture->copy_count);
    struct page_fixture_copy *copy = &fixture->copies[ref_address(ref) - 1];
    assert(copy->page && !copy->dropped);
    return copy;
}

/* ---- what the keyspace would provide ---- */

static const struct record *read_page(struct page_access *access, uint64_t ref) {
    struct page_fixture *fixture = fixture_of(access);
    struct page_fixture_copy *copy = copy_of(fixture, ref);
    fixture->reads++;
    if (copy->asked_by == fixture->command) return copy->page;
    if (fixture->changing) {
        fixture->late_reads++;
        return copy->page;
    }
    if (!percent(fixture, fixture->options.missing_percent)) return copy->page;
    copy->asked_by = fixture->command;
    fixture->misses++;
    return NULL;
}

static bool request_page(struct page_access *access, uint64_t ref) {
    return read_page(access, ref) != NULL;
}

static void pass_pages(struct page_access *access) {
    (void)access;
}

static void drop_page(struct page_access *access, uint64_t ref) {
    struct page_fixture *fixture = fixture_of(access);
    struct page_fixture_copy *copy = copy_of(fixture, ref);
    copy->dropped = true;
    copy->next = fixture->first_dropped;
    fixture->first_dropped = (uint32_t)ref_address(ref);
    fixture->live_copies--;
}

static bool page_is_wanted(struct page_access *access, uint32_t collection, uint32_t number) {
    (void)collection, (void)number;
    return percent(fixture_of(access), fixture_of(access)->options.wanted_percent);
}

static bool begin_change(struct page_access *access) {
    struct page_fixture *fixture = fixture_of(access);
    if (fixture->changing) return true;
    if (access->missing) return false;
    if (fixture->first_run && percent(fixture, fixture->options.not_now_percent)) {
        access->missing = true;
        return false;
    }
    fixture->changing = true;
    return true;
}

static const struct page_source source = {read_page, request_page, pass_pages, drop_page, page_is_wanted, begin_change};

/* ---- life ---- */

static void bury(struct page_fixture *fixture) {
    while (fixture->first_dropped) {
        uint32_t address = fixture->first_dropped;
        struct page_fixture_copy *copy = &fixture->copies[address - 1];
        fixture->first_dropped = copy->next;
        memset(copy->page, 0xdd, copy->bytes);
        free(copy->page);
        *copy = (struct page_fixture_copy){.next = fixture->first_free};
        fixture->first_free = address;
    }
}

void page_fixture_open(struct page_fixture *fixture, struct page_fixture_options options) {
    if (!options.reserve_bytes) options.reserve_bytes = RESERVE_BYTES;
    *fixture = (struct page_fixture){.options = options};
    random_seed(&fixture->random, options.seed);
    fixture->pool =
        region_pool_create(&(struct region_pool_options){.node = -1, .reserve_bytes = options.reserve_bytes});
    assert(fixture->pool);
    heap_init(&fixture->heap, fixture->pool);
}

void page_fixture_close(struct page_fixture *fixture) {
    page_fixture_feed(fixture);
    assert(fixture->live_copies == 0);
    bury(fixture);
    free(fixture->copies);
    free(fixture->hoard);
    free(fixture->owners);
    assert(heap_validate(&fixture->heap));
    assert(stat_get(&fixture->heap.sums.live_objects) == 0);
    region_pool_destroy(fixture->pool);
}

void page_fixture_own(struct page_fixture *fixture, struct collection *collection) {
    fixture->owners = realloc(fixture->owners, (fixture->owner_count + 1) * sizeof(struct collection *));
    assert(fixture->owners);
    fixture->owners[fixture->owner_count] = collection;
    collection->id = ++fixture->owner_count;
}

static struct page_access make_access(struct page_fixture *fixture) {
    fixture->changing = false;
    return (struct page_access){.heap = &fixture->heap,
                                .source = fixture->options.no_tier ? NULL : &source,
                                .view = fixture,
                                .access = (uint32_t)fixture->command & 0xffffff};
}

struct page_access page_fixture_command(struct page_fixture *fixture) {
    bury(fixture);
    fixture->command++;
    fixture->first_run = true;
    return make_access(fixture);
}

bool page_fixture_again(struct page_fixture *fixture, struct page_access *access) {
    if (!access->missing) return false;
    /* A structure that changed something may not have been told to wait afterwards. */
    assert(!fixture->changing);
    fixture->reruns++;
    fixture->first_run = false;
    *access = make_access(fixture);
    return true;
}

/* ---- cold pages ---- */

/* An address that no copy has. */
static uint32_t take_address(struct page_fixture *fixture) {
    uint32_t address = fixture->first_free;
    if (address) {
        fixture->first_free = fixture->copies[address - 1].next;
        return address;
    }
    if (fixture->copy_count == fixture->copy_capacity) {
        fixture->copy_capacity = fixture->copy_capacity ? fixture->copy_capacity * 2 : 64;
        fixture->copies = realloc(fixture->copies, fixture->copy_capacity * sizeof(*fixture->copies));
        assert(fixture->copies);
    }
    return ++fixture->copy_count;
}

void page_fixture_chill(struct page_fixture *fixture, struct page_table *table, unsigned share) {
    assert(!fixture->options.no_tier);
    for (uint32_t i = 0; i < page_table_end(table); i++) {
        if (!page_exists(table, i) || page_is_cold(table, i) || !percent(fixture, share)) continue;
        struct record *page = ref_record(page_ref(table, i));
        uint32_t address = take_address(fixture);
        struct page_fixture_copy *copy = &fixture->copies[address - 1];
        /* Exactly as long as the page, so that a sanitizer sees a byte too many. */
        *copy = (struct page_fixture_copy){.bytes = record_size(page)};
        copy->page = malloc(copy->bytes);
        assert(copy->page);
        memcpy(copy->page, page, copy->bytes);
        page_swing(table, i, ref_make(MEDIUM_TIER_ALONE, address, false));
        heap_free(&fixture->heap, page);
        fixture->live_copies++;
    }
}

/* ---- moving together ---- */

static bool relocate(void *ctx, void *object, void *copy, size_t bytes) {
    (void)bytes;
    struct page_fixture *fixture = ctx;
    const struct record *page = copy;
    /* What page_fixture_starve() took is no record and stays. */
    if (record_type(page) != RECORD_PAGE) return false;
    uint32_t id = page_owner(page), number = page_number(page);
    assert(id && id <= fixture->owner_count);
    struct page_table *table = &fixture->owners[id - 1]->parts[number >> 31];
    number &= UINT32_MAX >> 1;
    assert(page_ref(table, number) == ref_of(object, MEDIUM_DRAM));
    page_swing(table, number, ref_of(copy, MEDIUM_DRAM));
    return true;
}

size_t page_fixture_compact(struct page_fixture *fixture) {
    size_t moved = 0, step;
    while ((step = heap_compact(&fixture->heap, 1000, relocate, fixture)) > 0) moved += step;
    return moved;
}

/* ---- no memory ---- */

void page_fixture_starve(struct page_fixture *fixture) {
    for (size_t bytes = HOARD_LARGEST; bytes >= HOARD_SMALLEST; bytes = bytes > 16384 ? bytes / 2 : bytes * 7 / 8) {
        for (char *taken; (taken = heap_allocate(&fixture->heap, bytes)) != NULL;) {
            taken[0] = 1;
            if (fixture->hoarded == fixture->hoard_capacity) {
                fixture->hoard_capacity = fixture->hoard_capacity ? fixture->hoard_capacity * 2 : 1024;
                fixture->hoard = realloc(fixture->hoard, fixture->hoard_capacity * sizeof(*fixture->hoard));
                assert(fixture->hoard);
            }
            fixture->hoard[fixture->hoarded++] = taken;
        }
    }
}

void page_fixture_feed(struct page_fixture *fixture) {
    while (fixture->hoarded) heap_free(&fixture->heap, fixture->hoard[--fixture->hoarded]);
}
