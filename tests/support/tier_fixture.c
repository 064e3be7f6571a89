/* See tier_fixture.h. */

#include "tests/support/tier_fixture.h"

#include "base/clock.h"
#include "base/random.h"
#include "tiering/tier_block.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SLOT = 0, DATABASE = 0, TURN_NS = 1000000000 };

void tier_fixture_open(struct tier_fixture *fixture, struct tier_options options) {
    char error[512] = "";
    if (clock_tick_source.ns_per_tick_scaled == 0) clock_init();
    if (!options.path) options.path = "tier";
    if (!options.segment_bytes) options.segment_bytes = TIER_FIXTURE_SEGMENT;
    if (!options.size_bytes) options.size_bytes = TIER_FIXTURE_SEGMENTS * options.segment_bytes;
    if (!options.memory_bytes) options.memory_bytes = 32 << 20;
    if (!options.ports) options.ports = 1;
    fixture->tier = tier_create(&options, error, sizeof(error));
    if (!fixture->tier) fail_msg("%s", error);
    fixture->port = tier_port_of(fixture->tier, 0);
    fixture->now_ns = clock_monotonic_ns();
}

void tier_fixture_close(struct tier_fixture *fixture) {
    tier_destroy(fixture->tier);
    fixture->tier = NULL;
}

struct record *tier_fixture_record(unsigned number, size_t value_bytes, int64_t expiry_ms, bool dull) {
    char key[32], *value = malloc(value_bytes + 8);
    struct random random;
    assert_non_null(value);
    random_seed(&random, number);
    for (size_t i = 0; i < value_bytes; i += 8) {
        uint64_t word = dull ? number * UINT64_C(0x0101010101010101) : random_next(&random);
        memcpy(value + i, &word, 8);
    }
    struct record_plan plan = {.type = RECORD_STRING,
                               .key = span_of(key, (size_t)sprintf(key, "record:%u", number)),
                               .value = span_of(value, value_bytes),
                               .expiry_ms = expiry_ms};
    void *memory = malloc(record_size_for(&plan));
    assert_non_null(memory);
    struct record *record = record_write(memory, &plan);
    free(value);
    return record;
}

bool tier_fixture_same(const struct record *a, const struct record *b) {
    return a && b && record_size(a) == record_size(b) && memcmp(a, b, record_size(a)) == 0;
}

uint64_t tier_fixture_append(struct tier_fixture *fixture, unsigned number, const struct record *record) {
    struct tier_port *port = tier_port_of(fixture->tier, number);
    enum tier_stream stream = record_has_expiry(record) ? TIER_STREAM_VOLATILE : TIER_STREAM_LASTING;
    uint64_t ref;
    unsigned taken;
    while (tier_append(port, stream, SLOT, DATABASE, &record, 1, &ref, &taken) != TIER_APPENDED) {
        switch (tier_prepare(port, stream, tier_block_alone_bound(record), false)) {
        case TIER_APPENDED: break;
        case TIER_BUSY: tier_fixture_turn(fixture, number); break;
        default: fail_msg("the tier is full");
        }
    }
    assert_int_equal(taken, 1);
    return ref;
}

void tier_fixture_turn(struct tier_fixture *fixture, unsigned number) {
    struct tier_port *port = tier_port_of(fixture->tier, number);
    tier_port_turn_end(port, fixture->now_ns += TURN_NS);
    tier_port_wait(port);
}

void tier_fixture_settle(struct tier_fixture *fixture, unsigned port) {
    struct tier_figures figures;
    do {
        tier_port_flush(tier_port_of(fixture->tier, port));
        tier_fixture_turn(fixture, port);
        figures = tier_fixture_figures(fixture);
    } while (figures.unwritten_bytes > 0);
}

const struct record *tier_fixture_read(struct tier_fixture *fixture, unsigned number, uint64_t ref) {
    struct tier_port *port = tier_port_of(fixture->tier, number);
    struct tier_waiter waiter = {0};
    const struct record *record = NULL;
    enum tier_status status = tier_request(port, ref, &waiter, &record);
    if (status == TIER_PENDING) {
        while (waiter.outstanding > 0) {
            tier_port_turn_end(port, clock_monotonic_ns());
            tier_port_wait(port);
        }
        tier_run_begins(&waiter);
        status = tier_request(port, ref, &waiter, &record);
        tier_run_ends(port, &waiter, false);
    }
    tier_release(port, &waiter);
    assert_int_not_equal(status, TIER_PENDING);
    return status == TIER_READY ? record : NULL;
}

struct tier_figures tier_fixture_figures(const struct tier_fixture *fixture) {
    struct tier_figures figures;
    tier_figures(fixture->tier, &figures);
    return figures;
}

/* The last byte of the header's checksum. */
void tier_fixture_damage(const char *path, uint64_t ref) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char byte;
    off_t at = (off_t)tier_block_offset(tier_address_block(ref_address(ref)));
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x5a;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}
