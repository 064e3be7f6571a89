/* The index against a plain array of what it should hold, under random inserts, removals and cursors. */

#include "keyspace/index.h"
#include "keyspace/key_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { KEYS = 60000 };

static void retire(void *ctx, void *memory) {
    (void)ctx;
    free(memory);
}

static void *allocate(void *ctx, size_t bytes) {
    (void)ctx;
    return aligned_alloc(64, bytes);
}

static const struct index_environment environment = {
    .seed = 42, .allocate = allocate, .retire_segment = retire, .retire = retire};

static struct record *records[KEYS];

static uint64_t random_state;
static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static struct span key_of(unsigned i, char text[32]) {
    return span_of(text, (size_t)snprintf(text, 32, "key:%u", i));
}

static int make_records(void **state) {
    (void)state;
    for (unsigned i = 0; i < KEYS; i++) {
        char text[32];
        struct record_plan plan = {.type = RECORD_STRING,
                                   .encoding = RECORD_INT32,
                                   .key = key_of(i, text),
                                   .integer = (int)i,
                                   .expiry_ms = i % 5 ? RECORD_EXPIRY_NONE : 12345};
        records[i] = record_write(malloc(record_size_for(&plan)), &plan);
    }
    return 0;
}

static int free_records(void **state) {
    (void)state;
    for (unsigned i = 0; i < KEYS; i++) free(records[i]);
    return 0;
}

static struct index_position find(struct index *index, unsigned i) {
    struct span key = record_key(records[i]);
    return index_find(index, key_hash(key, environment.seed), key, NULL);
}

static void insert(struct index *index, unsigned i) {
    struct span key = record_key(records[i]);
    assert_non_null(index_insert(index, key_hash(key, environment.seed), ref_of(records[i], MEDIUM_DRAM)).bucket);
}

static void every_key_is_found_while_growing_and_shrinking(void **state) {
    (void)state;
    struct index *index = index_create(&environment);
    for (unsigned i = 0; i < KEYS; i++) {
        insert(index, i);
        if ((i & (i - 1)) == 0) assert_true(index_validate(index));
    }
    assert_int_equal(index->count, KEYS);
    assert_int_equal(index->volatile_count, KEYS / 5);
    assert_true(index_validate(index));
    for (unsigned i = 0; i < KEYS; i++) {
        struct index_position position = find(index, i);
        assert_non_null(position.bucket);
        assert_ptr_equal(ref_record(index_ref_at(position)), records[i]);
    }
    assert_true(index_validate(index));
    for (unsigned i = 0; i < KEYS; i++) {
        index_remove(index, find(index, i));
        assert_null(find(index, i).bucket);
        if ((i & 8191) == 0) assert_true(index_validate(index));
    }
    assert_int_equal(index->count, 0);
    assert_true(index_validate(index));
    assert_int_equal(index->segments, 1);
    index_destroy(index);
}

static void random_changes_agree_with_a_plain_array(void **state) {
    (void)state;
    random_state = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : 20261120;
    printf("seed %llu\n", (unsigned long long)random_state);
    static bool present[KEYS];
    struct index *index = index_create(&environment);
    size_t count = 0;
    for (unsigned phase = 0; phase < 12; phase++) {
        unsigned insert_percent = phase % 2 ? 25 : 75, range = KEYS >> (phase / 3);
        for (unsigned step = 0; step < 60000; step++) {
            unsigned i = (unsigned)(random_next() % range);
            struct index_position position = find(index, i);
            assert_int_equal(position.bucket != NULL, present[i]);
            if (random_next() % 100 < insert_percent) {
                if (present[i]) continue;
                insert(index, i);
                present[i] = true;
                count++;
            } else if (present[i]) {
                index_remove(index, position);
                present[i] = false;
                count--;
            }
        }
        assert_int_equal(index->count, count);
        assert_true(index_validate(index));
    }
    index_destroy(index);
}

static void memory_stays_between_nine_and_twelve_bytes_a_key(void **state) {
    (void)state;
    struct index *index = index_create(&environment);
    for (unsigned i = 0; i < KEYS; i++) {
        insert(index, i);
        if (i > 5000 && i % 500 == 0) assert_in_range(index->bytes * 10 / (i + 1), 88, 122);
    }
    index_destroy(index);
}

static void a_cursor_gathers_what_was_present_all_the_time(void **state) {
    (void)state;
    random_state = 7;
    for (unsigned round = 0; round < 20; round++) {
        struct index *index = index_create(&environment);
        unsigned stable = 3000;
        static unsigned char seen[KEYS];
        memset(seen, 0, sizeof(seen));
        for (unsigned i = 0; i < stable; i++) insert(index, i);
        unsigned extra = stable;
        bool growing = round % 2 == 0;
        if (!growing)
            while (extra < KEYS / 2) insert(index, extra++);
        uint64_t position = 0, refs[INDEX_GATHER_MAX];
        do {
            size_t count = index_gather(index, position, 10, false, refs, &position);
            for (size_t i = 0; i < count; i++) seen[record_integer(ref_record(refs[i]))] = 1;
            for (unsigned change = 0; change < 60; change++) {
                if (growing && extra < KEYS) insert(index, extra++);
                if (!growing && extra > stable) index_remove(index, find(index, --extra));
            }
        } while (position);
        for (unsigned i = 0; i < stable; i++) assert_true(seen[i]);
        index_destroy(index);
    }
}

static void a_gather_respects_the_volatile_filter(void **state) {
    (void)state;
    struct index *index = index_create(&environment);
    for (unsigned i = 0; i < 1000; i++) insert(index, i);
    uint64_t position = 0, refs[INDEX_GATHER_MAX];
    size_t total = 0;
    do {
        size_t count = index_gather(index, position, INDEX_GATHER_MAX, true, refs, &position);
        for (size_t i = 0; i < count; i++) assert_true(record_has_expiry(ref_record(refs[i])));
        total += count;
    } while (position);
    assert_int_equal(total, 200);
    index_destroy(index);
}

/* ---- what is known of hashes ---- */

/* Moves everything to a new index by what the old one knows of the hashes. */
static struct index *imported(const struct index *from, struct index *into) {
    uint64_t refs[INDEX_GATHER_MAX], hashes[INDEX_GATHER_MAX], position = 0;
    do {
        size_t count = index_gather_hashes(from, position, 64, refs, hashes, &position);
        for (size_t i = 0; i < count; i++) {
            uint64_t hash = key_hash(record_key(ref_record(refs[i])), environment.seed);
            unsigned known = 63 - (unsigned)__builtin_ctzll(hashes[i]);
            assert_true(known >= 8);
            assert_int_equal((hash ^ hashes[i]) >> (64 - known), 0);
            assert_true(index_import(into, hashes[i], refs[i]));
        }
    } while (position);
    return into;
}

static void an_index_is_rebuilt_from_what_is_known_of_hashes(void **state) {
    (void)state;
    struct index *index = index_create(&environment);
    for (unsigned i = 0; i < KEYS; i++) insert(index, i);
    for (unsigned i = 0; i < KEYS; i++)
        if (i % 3) index_remove(index, find(index, i));
    struct index *copy = imported(index, index_create(&environment));
    assert_int_equal(copy->count, index->count);
    assert_int_equal(copy->volatile_count, index->volatile_count);
    assert_true(index_validate(copy));
    for (unsigned i = 0; i < KEYS; i++) assert_int_equal(find(copy, i).bucket != NULL, i % 3 == 0);
    index_destroy(copy);
    index_destroy(index);
}

/* So that what is known does not suffice, and the records are asked. */
static void an_index_that_has_grown_meanwhile_takes_them_too(void **state) {
    (void)state;
    struct index *few = index_create(&environment), *many = index_create(&environment);
    for (unsigned i = 0; i < 100; i++) insert(few, i);
    for (unsigned i = 100; i < KEYS; i++) insert(many, i);
    imported(few, many);
    assert_int_equal(many->count, KEYS);
    assert_true(index_validate(many));
    for (unsigned i = 0; i < KEYS; i++) assert_ptr_equal(ref_record(index_ref_at(find(many, i))), records[i]);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t hash = key_hash(record_key(records[i]), environment.seed), known = index_hash_of(many, find(many, i));
        assert_int_equal((hash ^ known) >> (64 - 16), 0);
    }
    index_destroy(many);
    index_destroy(few);
}

/* Of all media, expiring or not, with addresses of any bits: few enough that no segment has to look one up. */
static void what_is_in_memory_is_gathered_among_what_is_not(void **state) {
    (void)state;
    struct index *index = index_create(&environment);
    uint64_t sum = 0, gathered = 0, position = 0;
    size_t count = 0, residents = 0;
    random_state = 20261122;
    for (unsigned i = 0; i < 2000; i++) {
        enum medium medium = (enum medium)(random_next() % 4);
        uint64_t ref = ref_make(medium, random_next() & REF_ADDRESS_MASK, random_next() % 2);
        assert_non_null(index_insert(index, random_next() * 0x9e3779b97f4a7c15u, ref).bucket);
        if (medium > MEDIUM_FAR) continue;
        residents++;
        sum += ref;
    }
    do {
        uint64_t refs[INDEX_GATHER_MAX];
        struct index_position slots[INDEX_GATHER_MAX];
        size_t found = index_gather_resident(index, position, refs, slots, &position);
        for (size_t i = 0; i < found; i++) {
            assert_false(ref_is_cold(refs[i]));
            assert_int_equal(index_ref_at(slots[i]), refs[i]);
            gathered += refs[i];
        }
        count += found;
    } while (position);
    assert_int_equal(count, residents);
    assert_int_equal(gathered, sum);
    index_destroy(index);
}

/* Told how many will come it does not grow, is as small as one that did, and bears a wrong number. */
static void an_index_is_made_ahead(void **state) {
    (void)state;
    const uint64_t guesses[] = {0, 100, KEYS / 10, KEYS, 2 * KEYS};
    for (unsigned guess = 0; guess < sizeof(guesses) / sizeof(guesses[0]); guess++) {
        struct index *index = index_create(&environment);
        assert_true(index_reserve(index, guesses[guess]));
        assert_true(index_validate(index));
        uint32_t segments = index->segments;
        for (unsigned i = 0; i < KEYS; i++) insert(index, i);
        assert_true(index_validate(index));
        if (guesses[guess] == KEYS) {
            assert_true(index->segments <= segments + segments / 50);
            assert_true(index->bytes < 12 * (size_t)KEYS);
        }
        assert_true(index_reserve(index, 4 * KEYS)); /* it has slots: nothing happens */
        for (unsigned i = 0; i < KEYS; i++) assert_ptr_equal(ref_record(index_ref_at(find(index, i))), records[i]);
        for (unsigned i = 0; i < KEYS; i++) index_remove(index, find(index, i));
        assert_true(index_validate(index));
        index_destroy(index);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_is_made_ahead),
        cmocka_unit_test(what_is_in_memory_is_gathered_among_what_is_not),
        cmocka_unit_test(an_index_is_rebuilt_from_what_is_known_of_hashes),
        cmocka_unit_test(an_index_that_has_grown_meanwhile_takes_them_too),
        cmocka_unit_test(every_key_is_found_while_growing_and_shrinking),
        cmocka_unit_test(random_changes_agree_with_a_plain_array),
        cmocka_unit_test(memory_stays_between_nine_and_twelve_bytes_a_key),
        cmocka_unit_test(a_cursor_gathers_what_was_present_all_the_time),
        cmocka_unit_test(a_gather_respects_the_volatile_filter),
    };
    return cmocka_run_group_tests(tests, make_records, free_records);
}
