/* A single file of old becomes the base, whatever fails on the way, in the end. */

#include "persist/aof_upgrade.h"
#include "tests/support/failing_io.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static enum aof_upgrade upgrade_with(const struct file_io *io, struct aof_manifest *manifest) {
    char error[AOF_MANIFEST_ERROR_MAX];
    enum aof_manifest_found found = aof_manifest_load(manifest, "dir", "old.aof", error);
    return aof_upgrade(io, "dir", "old.aof", found, manifest);
}

static void clean(void) {
    unlink("old.aof");
    unlink("dir/old.aof");
    unlink("dir/old.aof.manifest");
    rmdir("dir");
}

static void expect_upgraded(struct aof_manifest *manifest) {
    assert_int_equal(manifest->count, 1);
    assert_string_equal(aof_manifest_base(manifest)->name, "old.aof");
    assert_int_equal(access("old.aof", F_OK), -1);
    assert_int_equal(access("dir/old.aof", F_OK), 0);
    aof_manifest_free(manifest);
}

static void a_file_of_old_is_moved_into_the_directory(void **state) {
    (void)state;
    struct aof_manifest manifest;
    temporary_folder_write("old.aof", "content");
    assert_int_equal(upgrade_with(&file_io_system, &manifest), AOF_UPGRADE_DONE);
    expect_upgraded(&manifest);
    assert_int_equal(upgrade_with(&file_io_system, &manifest), AOF_UPGRADE_NOT_NEEDED);
    expect_upgraded(&manifest);
    clean();
}

static void without_one_there_is_nothing_to_do(void **state) {
    (void)state;
    struct aof_manifest manifest;
    assert_int_equal(upgrade_with(&file_io_system, &manifest), AOF_UPGRADE_NOT_NEEDED);
    assert_int_equal(manifest.count, 0);
    assert_int_equal(access("dir", F_OK), -1);
}

static void a_directory_in_use_keeps_its_own_files(void **state) {
    (void)state;
    struct aof_manifest manifest;
    temporary_folder_write("old.aof", "content");
    mkdir("dir", 0755);
    temporary_folder_write("dir/old.aof.manifest", "file old.aof.1.incr.aof seq 1 type i\n");
    assert_int_equal(upgrade_with(&file_io_system, &manifest), AOF_UPGRADE_NOT_NEEDED);
    assert_int_equal(manifest.count, 1);
    assert_int_equal(access("old.aof", F_OK), 0);
    aof_manifest_free(&manifest);
    clean();
}

/* Each call of the file system fails once; the next start ends what was begun. */
static void what_fails_is_done_at_the_next_start(void **state) {
    (void)state;
    struct failing_io failing;
    failing_io_init(&failing, ENOSPC);
    enum aof_upgrade first = AOF_UPGRADE_FAILED;
    for (unsigned fault = 1; first == AOF_UPGRADE_FAILED; fault++) {
        struct aof_manifest manifest;
        temporary_folder_write("old.aof", "content");
        failing_io_restart(&failing, fault);
        first = upgrade_with(&failing.io, &manifest);
        if (first == AOF_UPGRADE_FAILED) assert_int_equal(errno, ENOSPC);
        aof_manifest_free(&manifest);
        enum aof_upgrade second = upgrade_with(&file_io_system, &manifest);
        assert_true(second == AOF_UPGRADE_DONE || second == AOF_UPGRADE_NOT_NEEDED);
        expect_upgraded(&manifest);
        clean();
    }
    assert_int_equal(first, AOF_UPGRADE_DONE);
    assert_true(failing.fail_at > 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_of_old_is_moved_into_the_directory),
        cmocka_unit_test(without_one_there_is_nothing_to_do),
        cmocka_unit_test(a_directory_in_use_keeps_its_own_files),
        cmocka_unit_test(what_fails_is_done_at_the_next_start),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
