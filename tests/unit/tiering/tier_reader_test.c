/* The reading side: who waits for which copy, what is read how often, and what becomes of failures. */

#include "tests/support/temporary_folder.h"
#include "tests/support/tier_fixture.h"
#include "tiering/tier_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { UNITS = 12, TURNS_MAX = 2000 };

/* Read from the device: neither mapped nor cached. */
static const struct tier_options plain = {.direct = TIER_DIRECT_AUTO};

/* Small records, each in a page of its own, because the unit is closed behind it. Written, and nothing of them read. */
static void write_apart(struct tier_fixture *fixture, struct record **records, uint64_t *refs, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        records[i] = tier_fixture_record(i, 300, RECORD_EXPIRY_NONE, false);
        refs[i] = tier_fixture_append(fixture, 0, records[i]);
        tier_port_flush(fixture->port);
    }
    tier_fixture_settle(fixture, 0);
}

static void free_records(struct record **records, unsigned count) {
    for (unsigned i = 0; i < count; i++) free(records[i]);
}

/* Turns until the waiter is the next one that is ready. */
static void await(struct tier_fixture *fixture, struct tier_waiter *waiter) {
    for (unsigned turn = 0; turn < TURNS_MAX; turn++) {
        struct tier_waiter *ready = tier_next_ready(fixture->port);
        if (ready == waiter) return;
        tier_fixture_turn(fixture, 0);
    }
    fail_msg("its reads never ended");
}

static void readers_of_one_block_share_one_read(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct tier_waiter waiters[3] = {0};
    struct record *records[2];
    const struct record *read;
    uint64_t refs[2];
    tier_fixture_open(&fixture, plain);
    for (unsigned i = 0; i < 2; i++) { /* in one block, or at least in one page each */
        records[i] = tier_fixture_record(i, 100, RECORD_EXPIRY_NONE, false);
        refs[i] = tier_fixture_append(&fixture, 0, records[i]);
    }
    tier_fixture_settle(&fixture, 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(tier_request(fixture.port, refs[0], &waiters[i], &read), TIER_PENDING);
    assert_int_equal(tier_peek(fixture.port, refs[0], &read), TIER_PENDING);
    while (waiters[0].outstanding) tier_fixture_turn(&fixture, 0);
    for (unsigned i = 3; i > 0; i--) assert_non_null(tier_next_ready(fixture.port));
    assert_null(tier_next_ready(fixture.port));
    assert_int_equal(tier_peek(fixture.port, refs[0], &read), TIER_READY);
    assert_true(tier_fixture_same(read, records[0]));
    struct tier_figures figures = tier_fixture_figures(&fixture);
    assert_int_equal(figures.reads, 1);
    assert_int_equal(figures.coalesced_reads, 2);
    for (unsigned i = 0; i < 3; i++) tier_release(fixture.port, &waiters[i]);
    free_records(records, 2);
    tier_fixture_close(&fixture);
}

static void a_waiter_may_leave_while_it_waits(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct tier_waiter leaves = {0}, stays = {0};
    struct record *records[2];
    const struct record *read;
    uint64_t refs[2];
    tier_fixture_open(&fixture, plain);
    write_apart(&fixture, records, refs, 2);
    assert_int_equal(tier_request(fixture.port, refs[0], &leaves, &read), TIER_PENDING);
    assert_int_equal(tier_request(fixture.port, refs[1], &leaves, &read), TIER_PENDING);
    assert_int_equal(tier_request(fixture.port, refs[0], &stays, &read), TIER_PENDING);
    tier_release(fixture.port, &leaves);
    assert_int_equal(leaves.outstanding, 0);
    await(&fixture, &stays);
    assert_null(tier_next_ready(fixture.port));
    assert_int_equal(tier_peek(fixture.port, refs[0], &read), TIER_READY);
    tier_release(fixture.port, &stays);
    while (tier_port_in_flight(fixture.port)) tier_fixture_turn(&fixture, 0);
    /* One that leaves when it is ready is not told either. */
    assert_int_equal(tier_request(fixture.port, refs[1], &leaves, &read), TIER_READY);
    tier_release(fixture.port, &leaves);
    assert_null(tier_next_ready(fixture.port));
    free_records(records, 2);
    tier_fixture_close(&fixture);
}

static void what_is_not_written_yet_is_read_at_once(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct record *record = tier_fixture_record(1, 9000, RECORD_EXPIRY_NONE, false);
    tier_fixture_open(&fixture, plain);
    uint64_t ref = tier_fixture_append(&fixture, 0, record);
    struct tier_waiter waiter = {0};
    const struct record *read;
    assert_int_equal(tier_request(fixture.port, ref, &waiter, &read), TIER_READY);
    assert_true(tier_fixture_same(read, record));
    tier_release(fixture.port, &waiter);
    struct tier_figures figures = tier_fixture_figures(&fixture);
    assert_int_equal(figures.reads, 0);
    assert_int_equal(figures.memory_reads, 1);
    struct record *fetched = tier_fetch(fixture.tier, ref);
    assert_true(tier_fixture_same(fetched, record));
    free(fetched);
    free(record);
    tier_fixture_close(&fixture);
}

/* Units closed early, each of which is followed at once by the next, so that the room of one is where the next is;
 * their writes end in any order. */
static void every_record_is_found_while_writes_overtake_each_other(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct tier_fixture fixture;
        struct tier_options options = plain;
        struct record *records[UNITS];
        const struct record *read;
        uint64_t refs[UNITS];
        options.memory_bytes = 64 << 20;
        options.faults = (struct tier_io_faults){.seed = seed, .delay = 700000, .delay_reaps_max = 12};
        tier_fixture_open(&fixture, options);
        for (unsigned i = 0; i < UNITS; i++) {
            records[i] = tier_fixture_record(i, 300, RECORD_EXPIRY_NONE, false);
            refs[i] = tier_fixture_append(&fixture, 0, records[i]);
            tier_port_flush(fixture.port);
        }
        while (tier_port_in_flight(fixture.port)) {
            for (unsigned i = 0; i < UNITS; i++) {
                struct tier_waiter waiter = {0};
                enum tier_status status = tier_request(fixture.port, refs[i], &waiter, &read);
                if (status == TIER_FAILED) fail_msg("record %u could not be read", i);
                if (status == TIER_READY) assert_true(tier_fixture_same(read, records[i]));
                tier_release(fixture.port, &waiter);
            }
            tier_port_turn_end(fixture.port, 0);
            tier_port_wait(fixture.port);
            if (tier_fixture_figures(&fixture).unwritten_bytes == 0) break;
        }
        free_records(records, UNITS);
        tier_fixture_close(&fixture);
    }
}

static void a_failure_is_told_to_all_who_waited_and_tried_again_for_others(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct tier_waiter waiters[2] = {0};
    struct record *records[1];
    const struct record *read;
    uint64_t refs[1];
    struct tier_options options = plain;
    options.faults = (struct tier_io_faults){.seed = 1, .read_error = 1000000};
    tier_fixture_open(&fixture, options);
    write_apart(&fixture, records, refs, 1);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(tier_request(fixture.port, refs[0], &waiters[i], &read), TIER_PENDING);
    while (waiters[0].outstanding || waiters[1].outstanding) tier_fixture_turn(&fixture, 0);
    for (unsigned i = 0; i < 2; i++) {
        tier_run_begins(&waiters[i]);
        assert_int_equal(tier_request(fixture.port, refs[0], &waiters[i], &read), TIER_FAILED);
        tier_run_ends(fixture.port, &waiters[i], false);
    }
    while (tier_next_ready(fixture.port)) continue;
    assert_int_equal(tier_request(fixture.port, refs[0], &waiters[0], &read), TIER_PENDING);
    tier_release(fixture.port, &waiters[0]);
    assert_int_equal(tier_load(fixture.port, refs[0], &read), TIER_FAILED);
    struct tier_figures figures = tier_fixture_figures(&fixture);
    assert_int_equal(figures.reads, 2); /* the third joined the second */
    assert_int_equal(figures.failed_reads, 2);
    free_records(records, 1);
    tier_fixture_close(&fixture);
}

/* Who needs one after the other, as RANDOMKEY and EXEC do, comes to an end although none can be read. */
static void failures_asked_for_in_turn_are_remembered(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct tier_waiter waiter = {0};
    struct record *records[3];
    const struct record *read;
    uint64_t refs[3];
    struct tier_options options = plain;
    options.faults = (struct tier_io_faults){.seed = 1, .read_error = 1000000};
    tier_fixture_open(&fixture, options);
    write_apart(&fixture, records, refs, 3);
    unsigned tries = 0, failed = 0;
    for (bool waits = true; waits && tries < 20; tries++) {
        waits = false;
        failed = 0;
        tier_run_begins(&waiter);
        for (unsigned i = 0; i < 3 && !waits; i++) {
            enum tier_status status = tier_request(fixture.port, refs[i], &waiter, &read);
            failed += status == TIER_FAILED;
            waits = status == TIER_PENDING;
        }
        tier_run_ends(fixture.port, &waiter, waits);
        if (waits) await(&fixture, &waiter);
    }
    assert_int_equal(failed, 3);
    assert_int_equal(tries, 4);
    free_records(records, 3);
    tier_fixture_close(&fixture);
}

/* A command may end without what it asked for: EXEC of a watched key that changed. */
static void a_run_that_ends_without_waiting_leaves_nothing_outstanding(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct tier_waiter waiter = {0};
    struct record *records[2];
    const struct record *read;
    uint64_t refs[2];
    tier_fixture_open(&fixture, plain);
    write_apart(&fixture, records, refs, 2);
    tier_run_begins(&waiter);
    assert_int_equal(tier_request(fixture.port, refs[0], &waiter, &read), TIER_PENDING);
    tier_run_ends(fixture.port, &waiter, false);
    assert_int_equal(waiter.outstanding, 0);
    assert_null(waiter.holds);
    while (tier_port_in_flight(fixture.port)) tier_fixture_turn(&fixture, 0);
    assert_null(tier_next_ready(fixture.port));
    free_records(records, 2);
    tier_fixture_close(&fixture);
}

static void a_waiter_is_ready_once_however_often_its_reads_end(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct tier_waiter waiter = {0}, other = {0};
    struct record *records[3];
    const struct record *read;
    uint64_t refs[3];
    tier_fixture_open(&fixture, plain);
    write_apart(&fixture, records, refs, 3);
    assert_int_equal(tier_request(fixture.port, refs[2], &other, &read), TIER_PENDING);
    assert_int_equal(tier_request(fixture.port, refs[0], &waiter, &read), TIER_PENDING);
    assert_int_equal(tier_load(fixture.port, refs[0], &read), TIER_READY); /* ends the other's read as well */
    assert_true(tier_fixture_same(read, records[0]));
    assert_int_equal(tier_request(fixture.port, refs[1], &waiter, &read), TIER_PENDING);
    while (waiter.outstanding || other.outstanding) tier_fixture_turn(&fixture, 0);
    unsigned ready = 0;
    while (ready < 10 && tier_next_ready(fixture.port)) ready++;
    assert_int_equal(ready, 2);
    tier_release(fixture.port, &waiter);
    tier_release(fixture.port, &other);
    assert_true(tier_fixture_figures(&fixture).synchronous_reads >= 1);
    free_records(records, 3);
    tier_fixture_close(&fixture);
}

/* The segment is emptied and used again before the read reaches the device. */
static void a_read_that_comes_too_late_is_stale_not_failed(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct tier_waiter waiter = {0};
    struct tier_options options = plain;
    options.ports = 2;
    tier_fixture_open(&fixture, options);
    struct record *first = tier_fixture_record(1, 900 << 10, RECORD_EXPIRY_NONE, false);
    struct record *next = tier_fixture_record(2, 900 << 10, RECORD_EXPIRY_NONE, false);
    const struct record *read;
    uint64_t ref = tier_fixture_append(&fixture, 0, first), kept = tier_fixture_append(&fixture, 0, next);
    tier_fixture_settle(&fixture, 0); /* the first segment is sealed: the second record did not fit */
    assert_int_equal(tier_request(fixture.port, ref, &waiter, &read), TIER_PENDING); /* not handed over */
    tier_drop(fixture.tier, ref);
    uint64_t again = tier_fixture_append(&fixture, 1, next);
    assert_int_equal(tier_address_block(ref_address(again)), tier_address_block(ref_address(ref)));
    tier_fixture_settle(&fixture, 1);
    await(&fixture, &waiter);
    tier_release(fixture.port, &waiter);
    struct tier_figures figures = tier_fixture_figures(&fixture);
    assert_int_equal(figures.stale_reads, 1);
    assert_int_equal(figures.failed_reads, 0);
    assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, again), next));
    assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, kept), next));
    free(first);
    free(next);
    tier_fixture_close(&fixture);
}

/* A copy read before the segment was used again is not taken for what is there now. */
static void a_kept_copy_of_an_older_generation_is_not_answered_with(void **state) {
    (void)state;
    struct tier_fixture fixture;
    tier_fixture_open(&fixture, plain);
    struct record *first = tier_fixture_record(1, 900 << 10, RECORD_EXPIRY_NONE, false);
    struct record *next = tier_fixture_record(2, 900 << 10, RECORD_EXPIRY_NONE, false);
    uint64_t ref = tier_fixture_append(&fixture, 0, first);
    (void)tier_fixture_append(&fixture, 0, next);
    tier_fixture_settle(&fixture, 0);
    assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, ref), first));
    struct tier_waiter holds = {0};
    const struct record *held = NULL;
    while (tier_request(fixture.port, ref, &holds, &held) != TIER_READY) tier_fixture_turn(&fixture, 0);
    tier_drop(fixture.tier, ref);
    struct record *third = tier_fixture_record(3, 900 << 10, RECORD_EXPIRY_NONE, false);
    uint64_t again = tier_fixture_append(&fixture, 0, third);
    assert_int_equal(tier_address_block(ref_address(again)), tier_address_block(ref_address(ref)));
    assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, again), third));
    assert_true(tier_fixture_same(held, first)); /* who holds the old one keeps it */
    tier_release(fixture.port, &holds);
    free(first);
    free(next);
    free(third);
    tier_fixture_close(&fixture);
}

static void copies_nobody_waits_for_are_bounded(void **state) {
    (void)state;
    struct tier_fixture fixture;
    enum { COUNT = 200 };
    struct record *records[COUNT];
    uint64_t refs[COUNT];
    tier_fixture_open(&fixture, plain);
    for (unsigned i = 0; i < COUNT; i++) {
        records[i] = tier_fixture_record(i, 15000, RECORD_EXPIRY_NONE, false);
        refs[i] = tier_fixture_append(&fixture, 0, records[i]);
    }
    tier_fixture_settle(&fixture, 0);
    for (unsigned i = 0; i < COUNT; i++)
        assert_true(tier_fixture_same(tier_fixture_read(&fixture, 0, refs[i]), records[i]));
    tier_fixture_turn(&fixture, 0);
    assert_true(tier_fixture_figures(&fixture).staged_bytes <= 200000);
    free_records(records, COUNT);
    tier_fixture_close(&fixture);
}

/* ---- memory for what is large ---- */

/* A gate that grants up to a sum, and says how much of it is taken. */
struct allowance {
    size_t most, taken;
    unsigned asked;
};

static bool ask_allowance(void *ctx, size_t bytes) {
    struct allowance *allowance = ctx;
    allowance->asked++;
    if (allowance->taken + bytes > allowance->most) return false;
    allowance->taken += bytes;
    return true;
}

static void settle_allowance(void *ctx, size_t bytes) {
    struct allowance *allowance = ctx;
    assert_true(bytes <= allowance->taken);
    allowance->taken -= bytes;
}

static void open_with_gate(struct tier_fixture *fixture, struct allowance *allowance, bool compress) {
    struct tier_options options = plain;
    options.compress = compress;
    tier_fixture_open(fixture, options);
    const struct tier_gate gate = {ask_allowance, settle_allowance, allowance};
    tier_set_gate(fixture->tier, &gate);
}

/* Asks until it is there: one that waited too long, on a machine that stood still, is asked for again. */
static void expect_read(struct tier_fixture *fixture, uint64_t ref, const struct record *record) {
    struct tier_waiter waiter = {0};
    const struct record *read = NULL;
    enum tier_status status;
    do {
        tier_run_begins(&waiter);
        status = tier_request(fixture->port, ref, &waiter, &read);
        if (status == TIER_READY) assert_true(tier_fixture_same(read, record));
        tier_run_ends(fixture->port, &waiter, status == TIER_PENDING);
        while (waiter.outstanding) tier_port_wait(fixture->port);
    } while (status != TIER_READY);
}

/* What was promised is given back when the last one is done with it. */
static void large_reads_wait_until_there_is_memory_for_them(void **state) {
    (void)state;
    for (unsigned dull = 0; dull < 2; dull++) {
        struct tier_fixture fixture;
        struct allowance allowance = {0};
        struct tier_waiter waiter = {0};
        struct record *records[2];
        const struct record *read;
        uint64_t refs[2];
        open_with_gate(&fixture, &allowance, dull);
        for (unsigned i = 0; i < 2; i++) {
            records[i] = tier_fixture_record(i, 3 << 20, RECORD_EXPIRY_NONE, dull);
            refs[i] = tier_fixture_append(&fixture, 0, records[i]);
        }
        tier_fixture_settle(&fixture, 0);
        assert_int_equal(tier_request(fixture.port, refs[0], &waiter, &read), TIER_PENDING);
        /* How large it is, is found when its first page is there. */
        while (!allowance.asked) tier_port_wait(fixture.port);
        assert_int_equal(waiter.outstanding, 1);
        assert_true(tier_is_hungry(fixture.port));
        tier_release(fixture.port, &waiter);
        allowance.most = 8 << 20; /* each comes to 6 MB */
        for (unsigned i = 0; i < 2; i++) expect_read(&fixture, refs[i], records[i]);
        while (tier_is_hungry(fixture.port)) tier_port_wait(fixture.port);
        assert_int_equal(allowance.taken, 0);
        free_records(records, 2);
        tier_fixture_close(&fixture);
    }
}

/* However often it holds the copy; the next one's when that one has left without a reply. */
static void what_was_granted_for_a_reply_is_one_waiters(void **state) {
    (void)state;
    for (unsigned replied = 0; replied < 2; replied++) {
        struct tier_fixture fixture;
        struct allowance allowance = {.most = 8 << 20};
        struct tier_waiter first = {0}, second = {0};
        const struct record *read;
        open_with_gate(&fixture, &allowance, false);
        struct record *record = tier_fixture_record(1, 3 << 20, RECORD_EXPIRY_NONE, false);
        uint64_t ref = tier_fixture_append(&fixture, 0, record);
        tier_fixture_settle(&fixture, 0);
        assert_int_equal(tier_request(fixture.port, ref, &first, &read), TIER_PENDING);
        assert_int_equal(tier_request(fixture.port, ref, &second, &read), TIER_PENDING);
        while (first.outstanding || second.outstanding) tier_port_wait(fixture.port);
        assert_int_equal(tier_request(fixture.port, ref, &first, &read), TIER_READY);
        size_t claimed = tier_claim_promised(&first);
        assert_true(claimed >= 3 << 20 && claimed < 4 << 20);
        tier_forgo_promised(&second); /* that is not its own */
        tier_run_begins(&first);
        assert_int_equal(tier_request(fixture.port, ref, &first, &read), TIER_READY);
        assert_int_equal(tier_claim_promised(&first), claimed);
        assert_int_equal(tier_claim_promised(&second), 0);
        if (replied)
            tier_run_ends(fixture.port, &first, false);
        else
            tier_release(fixture.port, &first);
        assert_int_equal(tier_claim_promised(&second), replied ? 0 : claimed);
        tier_release(fixture.port, &second);
        assert_int_equal(allowance.taken, 0);
        free(record);
        tier_fixture_close(&fixture);
    }
}

/* Else a collection of small pages would take several times its size to be read as a whole. */
static void what_is_read_in_great_number_is_kept_without_its_pages(void **state) {
    (void)state;
    enum { COUNT = 600, VALUE = 300 };
    struct tier_fixture fixture;
    struct allowance allowance = {.most = SIZE_MAX};
    struct tier_waiter waiter = {0};
    struct record *records[COUNT];
    const struct record *read;
    uint64_t refs[COUNT];
    open_with_gate(&fixture, &allowance, false);
    write_apart(&fixture, records, refs, COUNT);
    for (unsigned i = 0; i < COUNT; i++) (void)tier_request(fixture.port, refs[i], &waiter, &read);
    while (waiter.outstanding) tier_port_wait(fixture.port);
    size_t staged = tier_fixture_figures(&fixture).staged_bytes;
    assert_true(staged < COUNT * TIER_PAGE_BYTES / 4);
    assert_true(staged >= COUNT * VALUE);
    assert_true(tier_claim_promised(&waiter) <= staged);
    assert_true(allowance.taken > 0);
    tier_forgo_promised(&waiter);
    assert_int_equal(allowance.taken, 0);
    assert_int_equal(tier_claim_promised(&waiter), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(tier_peek(fixture.port, refs[i], &read), TIER_READY);
        assert_true(tier_fixture_same(read, records[i]));
    }
    tier_release(fixture.port, &waiter);
    free_records(records, COUNT);
    tier_fixture_close(&fixture);
}

static void a_read_for_which_there_is_never_memory_fails(void **state) {
    (void)state;
    struct tier_fixture fixture;
    struct allowance allowance = {0};
    struct tier_waiter waiter = {0}, other = {0}, insistent = {.insists = true};
    const struct record *read;
    open_with_gate(&fixture, &allowance, false);
    struct record *record = tier_fixture_record(1, 3 << 20, RECORD_EXPIRY_NONE, false);
    uint64_t ref = tier_fixture_append(&fixture, 0, record);
    tier_fixture_settle(&fixture, 0);
    assert_int_equal(tier_request(fixture.port, ref, &waiter, &read), TIER_PENDING);
    await(&fixture, &waiter); /* its turns are a second apart */
    assert_true(waiter.refused && !waiter.denied);
    tier_run_begins(&waiter);
    assert_int_equal(tier_request(fixture.port, ref, &waiter, &read), TIER_FAILED);
    assert_true(waiter.denied);
    tier_run_ends(fixture.port, &waiter, false);
    assert_false(waiter.refused);
    /* Who insists is not refused, nor who cannot wait; who leaves is not waited for. */
    assert_int_equal(tier_request(fixture.port, ref, &waiter, &read), TIER_PENDING);
    (void)tier_request(fixture.port, ref, &insistent, &read);
    while (insistent.outstanding) tier_port_wait(fixture.port);
    assert_int_equal(tier_request(fixture.port, ref, &insistent, &read), TIER_READY);
    tier_release(fixture.port, &insistent);
    tier_release(fixture.port, &waiter);
    tier_trim(fixture.port);
    assert_int_equal(tier_request(fixture.port, ref, &other, &read), TIER_PENDING);
    assert_int_equal(tier_load(fixture.port, ref, &read), TIER_READY);
    assert_true(tier_fixture_same(read, record));
    tier_release(fixture.port, &other);
    while (tier_is_hungry(fixture.port)) tier_fixture_turn(&fixture, 0);
    assert_int_equal(allowance.taken, 0);
    free(record);
    tier_fixture_close(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_of_one_block_share_one_read),
        cmocka_unit_test(large_reads_wait_until_there_is_memory_for_them),
        cmocka_unit_test(what_was_granted_for_a_reply_is_one_waiters),
        cmocka_unit_test(what_is_read_in_great_number_is_kept_without_its_pages),
        cmocka_unit_test(a_read_for_which_there_is_never_memory_fails),
        cmocka_unit_test(a_waiter_may_leave_while_it_waits),
        cmocka_unit_test(what_is_not_written_yet_is_read_at_once),
        cmocka_unit_test(every_record_is_found_while_writes_overtake_each_other),
        cmocka_unit_test(a_failure_is_told_to_all_who_waited_and_tried_again_for_others),
        cmocka_unit_test(failures_asked_for_in_turn_are_remembered),
        cmocka_unit_test(a_run_that_ends_without_waiting_leaves_nothing_outstanding),
        cmocka_unit_test(a_waiter_is_ready_once_however_often_its_reads_end),
        cmocka_unit_test(a_read_that_comes_too_late_is_stale_not_failed),
        cmocka_unit_test(a_kept_copy_of_an_older_generation_is_not_answered_with),
        cmocka_unit_test(copies_nobody_waits_for_are_bounded),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
