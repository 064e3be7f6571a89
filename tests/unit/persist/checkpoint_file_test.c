/* The file of a checkpoint: what was written is read, and anything that has changed since is noticed. */

#include "persist/checkpoint_file.h"
#include "tests/support/failing_io.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { CHUNKS = 7, SLOTS = 5 };

static const struct checkpoint_identity identity = {.uuid = "a pool of ours", .number = 9, .shards = 16};
static char error[256];

static void make_slots(unsigned chunk, char *slots) {
    for (unsigned i = 0; i < SLOTS; i++)
        checkpoint_slot_write(slots + i * CHECKPOINT_SLOT_BYTES, (uint64_t)(chunk * SLOTS + i) << 20, chunk + i);
}

static bool write_file(const struct file_io *io, struct checkpoint_extent *extent) {
    char slots[SLOTS * CHECKPOINT_SLOT_BYTES];
    struct checkpoint_writer *writer = checkpoint_writer_create("tier.checkpoint.9", &identity, io);
    if (!writer) return false;
    bool good = true;
    for (unsigned i = 0; i < CHUNKS && good; i++) {
        make_slots(i, slots);
        good =
            checkpoint_writer_add(writer, CHECKPOINT_SLOTS, CHUNKS - i, (uint16_t)(i % 2), SLOTS, slots, sizeof(slots));
    }
    if (good) return checkpoint_writer_finish(writer, extent);
    checkpoint_writer_abandon(writer);
    return false;
}

/* Whether everything in the file is as it was written; it may not be something else. */
static bool file_is_good(const struct checkpoint_extent *extent) {
    struct checkpoint_reader *reader =
        checkpoint_reader_open("tier.checkpoint.9", &identity, extent, error, sizeof(error));
    if (!reader) return false;
    assert_int_equal(checkpoint_reader_chunks(reader), CHUNKS);
    bool good = true;
    for (unsigned i = 0; i < CHUNKS && good; i++) {
        char read[SLOTS * CHECKPOINT_SLOT_BYTES], written[SLOTS * CHECKPOINT_SLOT_BYTES];
        const struct checkpoint_place *place = checkpoint_reader_place(reader, i);
        assert_int_equal(place->shard, i + 1); /* sorted */
        assert_int_equal(place->count, SLOTS);
        good = checkpoint_reader_read(reader, i, read, error, sizeof(error));
        make_slots(CHUNKS - place->shard, written);
        if (good) assert_memory_equal(read, written, sizeof(read));
    }
    checkpoint_reader_close(reader);
    return good;
}

static void what_was_written_is_read(void **state) {
    (void)state;
    struct checkpoint_extent extent;
    uint64_t hash, ref;
    char slot[CHECKPOINT_SLOT_BYTES];
    assert_true(write_file(NULL, &extent));
    assert_true(file_is_good(&extent));
    checkpoint_slot_write(slot, UINT64_C(0xfedcba9876540001), UINT64_C(0x8765432112ab));
    checkpoint_slot_read(slot, &hash, &ref);
    assert_true(hash == UINT64_C(0xfedcba9876550000)); /* one bit fewer of the hash, and the mark behind it */
    assert_true(ref == UINT64_C(0x8765432112ab));
    unlink("tier.checkpoint.9");
}

static void every_flipped_bit_is_noticed(void **state) {
    (void)state;
    struct checkpoint_extent extent;
    assert_true(write_file(NULL, &extent));
    FILE *file = fopen("tier.checkpoint.9", "r+b");
    assert_non_null(file);
    for (uint64_t at = 0; at < extent.file_bytes; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            int byte;
            fseek(file, (long)at, SEEK_SET);
            byte = fgetc(file);
            fseek(file, (long)at, SEEK_SET);
            fputc(byte ^ 1 << bit, file);
            fflush(file);
            if (file_is_good(&extent)) fail_msg("bit %u of byte %llu", bit, (unsigned long long)at);
            fseek(file, (long)at, SEEK_SET);
            fputc(byte, file);
            fflush(file);
        }
    fclose(file);
    assert_true(file_is_good(&extent));
    unlink("tier.checkpoint.9");
}

static void a_file_that_is_shorter_or_longer_is_noticed(void **state) {
    (void)state;
    struct checkpoint_extent extent;
    assert_true(write_file(NULL, &extent));
    assert_int_equal(truncate("tier.checkpoint.9", (off_t)extent.file_bytes + 1), 0);
    assert_false(file_is_good(&extent));
    for (uint64_t bytes = extent.file_bytes; bytes-- > 0;) {
        assert_int_equal(truncate("tier.checkpoint.9", (off_t)bytes), 0);
        assert_false(file_is_good(&extent));
    }
    unlink("tier.checkpoint.9");
    assert_false(file_is_good(&extent));
    assert_non_null(strstr(error, "cannot be opened"));
}

static void a_file_of_another_tier_or_moment_is_refused(void **state) {
    (void)state;
    struct checkpoint_extent extent;
    assert_true(write_file(NULL, &extent));
    for (unsigned i = 0; i < 3; i++) {
        struct checkpoint_identity other = identity;
        if (i == 0) other.uuid[15] ^= 1;
        if (i == 1) other.number++;
        if (i == 2) other.shards *= 2;
        assert_null(checkpoint_reader_open("tier.checkpoint.9", &other, &extent, error, sizeof(error)));
        assert_non_null(strstr(error, "belongs to another"));
    }
    unlink("tier.checkpoint.9");
}

/* ---- a disk that fails ---- */

static void every_failure_leaves_no_file(void **state) {
    (void)state;
    struct failing_io failing;
    struct checkpoint_extent extent;
    unsigned fail_at;
    failing_io_init(&failing, ENOSPC);
    for (fail_at = 1;; fail_at++) {
        failing_io_restart(&failing, fail_at);
        bool written = write_file(&failing.io, &extent);
        if (!failing_io_failed(&failing)) {
            assert_true(written);
            break;
        }
        if (written) { /* what comes of closing the folder does not matter */
            assert_true(file_is_good(&extent));
            continue;
        }
        assert_int_equal(errno, ENOSPC);
        assert_int_equal(access("tier.checkpoint.9", F_OK), -1);
    }
    assert_true(fail_at > 2 * CHUNKS);
    assert_true(file_is_good(&extent));
    unlink("tier.checkpoint.9");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(a_file_that_is_shorter_or_longer_is_noticed),
        cmocka_unit_test(a_file_of_another_tier_or_moment_is_refused),
        cmocka_unit_test(every_failure_leaves_no_file),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
