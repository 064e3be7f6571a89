/* The tier's file: made, locked, reserved, mapped or direct, and left alone when it cannot be used. */

#include "tests/support/temporary_folder.h"
#include "tiering/tier_file.h"
#include "tiering/tier_io.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, SEGMENTS = 8, PAGE = 4096 };

static char error[512];

static bool open_file(struct tier_file *file, const char *path, enum tier_direct direct) {
    const struct tier_file_options options = {
        .path = path, .size_bytes = SEGMENTS * SEGMENT, .segment_bytes = SEGMENT, .direct = direct};
    return tier_file_open(file, &options, error, sizeof(error));
}

static void assert_opens(struct tier_file *file, const char *path, enum tier_direct direct) {
    if (!open_file(file, path, direct)) fail_msg("%s", error);
}

/* Refused, with these words, and nothing left open. */
static void assert_refused(const char *path, const char *words) {
    struct tier_file file;
    assert_false(open_file(&file, path, TIER_DIRECT_AUTO));
    if (!strstr(error, words) || !strstr(error, path)) fail_msg("'%s' does not say '%s'", error, words);
    assert_null(strchr(error, '\n'));
    assert_int_equal(file.fd, -1);
    tier_file_close(&file, true);
}

static off_t size_of(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? status.st_size : -1;
}

static void fill(char *page, unsigned seed) {
    for (unsigned i = 0; i < PAGE; i++) page[i] = (char)(seed + i * 7);
}

/* Writes a page and reads it back, by the descriptor. */
static void assert_page_comes_back(const struct tier_file *file, off_t offset, unsigned seed) {
    char *written = aligned_alloc(PAGE, PAGE), *got = aligned_alloc(PAGE, PAGE);
    fill(written, seed);
    assert_int_equal(pwrite(file->fd, written, PAGE, offset), PAGE);
    assert_int_equal(pread(file->fd, got, PAGE, offset), PAGE);
    assert_memory_equal(written, got, PAGE);
    free(written);
    free(got);
}

static void a_file_is_made_for_its_owner_only_and_removed_on_request(void **state) {
    (void)state;
    struct tier_file file;
    struct stat status;
    mode_t before = umask(0);
    assert_opens(&file, "tier", TIER_DIRECT_AUTO);
    umask(before);
    assert_int_equal(stat("tier", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_true(fcntl(file.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(file.size_bytes, SEGMENTS * SEGMENT);
    assert_int_equal(file.reserved_bytes, 0);
    tier_file_close(&file, false);
    assert_int_equal(file.fd, -1);
    assert_true(size_of("tier") >= 0);
    assert_opens(&file, "tier", TIER_DIRECT_AUTO);
    tier_file_close(&file, true);
    assert_int_equal(size_of("tier"), -1);
}

static void what_was_written_is_there_when_it_is_opened_again(void **state) {
    (void)state;
    static const enum tier_direct ways[] = {TIER_DIRECT_AUTO, TIER_DIRECT_NO};
    for (unsigned i = 0; i < 2; i++) {
        struct tier_file file;
        char *got = aligned_alloc(PAGE, PAGE), wanted[PAGE];
        assert_opens(&file, "tier", ways[i]);
        assert_true(tier_file_reserve(&file, SEGMENT));
        assert_page_comes_back(&file, 0, i + 1);
        assert_page_comes_back(&file, 5 * PAGE, i + 9);
        tier_file_close(&file, false);
        assert_opens(&file, "tier", ways[i]);
        for (unsigned page = 0; page < 6; page += 5) {
            fill(wanted, i + (page ? 9 : 1));
            assert_int_equal(pread(file.fd, got, PAGE, page * PAGE), PAGE);
            assert_memory_equal(got, wanted, PAGE);
        }
        free(got);
        tier_file_close(&file, true);
    }
}

static void the_descriptor_is_direct_only_where_it_says_so(void **state) {
    (void)state;
    struct tier_file file;
    assert_opens(&file, "tier", TIER_DIRECT_NO);
    if (!file.mapped) assert_true(file.cached);
    assert_false(file.direct);
    assert_false(fcntl(file.fd, F_GETFL) & O_DIRECT);
    tier_file_close(&file, true);
    assert_opens(&file, "tier", TIER_DIRECT_AUTO);
    assert_int_equal(file.direct, (fcntl(file.fd, F_GETFL) & O_DIRECT) != 0);
    assert_int_equal(file.cached, !file.direct && !file.mapped);
    bool direct = file.direct || file.mapped;
    tier_file_close(&file, true);
    assert_int_equal(open_file(&file, "tier", TIER_DIRECT_YES), direct);
    if (!direct) assert_non_null(strstr(error, "tier-direct-io"));
    tier_file_close(&file, true);
    assert_int_equal(size_of("tier"), -1);
}

static void a_second_server_is_refused(void **state) {
    (void)state;
    struct tier_file first, second;
    assert_opens(&first, "tier", TIER_DIRECT_AUTO);
    assert_true(tier_file_reserve(&first, SEGMENT));
    assert_page_comes_back(&first, 0, 3);
    assert_refused("tier", "another server");
    assert_page_comes_back(&first, PAGE, 4);
    assert_int_equal(size_of("tier"), first.mapped ? SEGMENTS * SEGMENT : SEGMENT);
    tier_file_close(&first, false);
    assert_opens(&second, "tier", TIER_DIRECT_AUTO);
    tier_file_close(&second, true);
}

static void ignore(struct tier_op *op) {
    (void)op;
}

/* Reads for ever until it is killed; tells `ready` when the first are under way. */
static void serve_until_killed(int ready) {
    struct tier_file file;
    if (!open_file(&file, "tier", TIER_DIRECT_AUTO) || !tier_file_reserve(&file, SEGMENT)) _exit(1);
    const struct tier_io_options options = {.fd = file.fd};
    struct tier_io *io = tier_io_create(&options);
    struct tier_op ops[64];
    char *memory = aligned_alloc(PAGE, 64 * PAGE);
    if (!io || !memory) _exit(1);
    for (bool told = false;; told = true) {
        for (unsigned i = 0; i < 64; i++) {
            ops[i] = (struct tier_op){
                .memory = memory + i * PAGE, .offset = i * PAGE, .bytes = PAGE, .write = i % 2, .done = ignore};
            tier_io_start(io, &ops[i]);
        }
        tier_io_submit(io);
        if (!told && write(ready, "x", 1) != 1) _exit(1);
        while (tier_io_in_flight(io) > 0) tier_io_reap(io);
    }
}

static void the_lock_of_a_killed_server_is_gone(void **state) {
    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        int ready[2];
        char told;
        assert_int_equal(pipe(ready), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(ready[0]);
            serve_until_killed(ready[1]);
        }
        close(ready[1]);
        bool started = read(ready[0], &told, 1) == 1;
        close(ready[0]);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_true(started);
        struct tier_file file;
        assert_opens(&file, "tier", TIER_DIRECT_AUTO);
        tier_file_close(&file, round == 4);
    }
}

static void what_is_no_file_is_refused(void **state) {
    (void)state;
    assert_int_equal(mkdir("folder", 0700), 0);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_int_equal(symlink("nothing", "link"), 0);
    assert_refused("folder", "is a directory");
    assert_refused("pipe", "neither a regular file");
    assert_refused("/dev/null", "neither a regular file");
    assert_refused("missing/tier", "does not exist");
    assert_refused("pipe/tier", "cannot be opened");
    assert_refused("link", "link to nothing");
    rmdir("folder");
    unlink("pipe");
    unlink("link");
}

static void a_file_that_cannot_be_used_is_as_it_was(void **state) {
    (void)state;
    struct rlimit before, small;
    temporary_folder_write("precious", "ten bytes.");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = SEGMENT;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_refused("precious", "limit of file sizes");
    assert_refused("made", "limit of file sizes");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(size_of("made"), -1);
    char text[16] = {0};
    FILE *file = fopen("precious", "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    assert_string_equal(text, "ten bytes.");
    assert_int_equal(size_of("precious"), 10);
    unlink("precious");
}

static void what_a_larger_tier_left_behind_is_cut_off(void **state) {
    (void)state;
    struct tier_file file;
    temporary_folder_write("tier", "left behind");
    assert_int_equal(truncate("tier", (SEGMENTS + 5) * SEGMENT), 0);
    assert_opens(&file, "tier", TIER_DIRECT_AUTO);
    assert_int_equal(size_of("tier"), SEGMENTS * SEGMENT);
    tier_file_close(&file, true);
}

static void space_is_reserved_by_segments(void **state) {
    (void)state;
    struct tier_file file;
    struct stat status;
    assert_opens(&file, "tier", TIER_DIRECT_AUTO);
    assert_true(tier_file_reserve(&file, 0));
    assert_int_equal(file.reserved_bytes, 0);
    assert_true(tier_file_reserve(&file, 1));
    assert_int_equal(file.reserved_bytes, SEGMENT);
    assert_true(tier_file_reserve(&file, 3 * SEGMENT));
    assert_int_equal(file.reserved_bytes, 3 * SEGMENT);
    assert_true(tier_file_reserve(&file, SEGMENT));
    assert_int_equal(file.reserved_bytes, 3 * SEGMENT);
    assert_int_equal(fstat(file.fd, &status), 0);
    assert_true(status.st_size >= 3 * SEGMENT);
    assert_true(status.st_blocks * 512 >= 3 * SEGMENT);
    assert_true(tier_file_reserve(&file, SEGMENTS * SEGMENT));
    assert_false(tier_file_reserve(&file, SEGMENTS * SEGMENT + 1));
    assert_int_equal(errno, EFBIG);
    tier_file_close(&file, true);
}

static void a_file_may_become_larger_and_a_mapping_may_not(void **state) {
    (void)state;
    struct tier_file file;
    char path[64];
    snprintf(path, sizeof(path), "/dev/shm/terrace-test-%d", (int)getpid());
    assert_opens(&file, "tier", TIER_DIRECT_AUTO);
    assert_true(tier_file_extend(&file, (SEGMENTS + 2) * SEGMENT));
    assert_true(tier_file_extend(&file, SEGMENTS * SEGMENT)); /* it may already */
    assert_true(tier_file_reserve(&file, (SEGMENTS + 2) * SEGMENT));
    assert_int_equal(size_of("tier"), (SEGMENTS + 2) * SEGMENT);
    assert_false(tier_file_reserve(&file, (SEGMENTS + 2) * SEGMENT + 1));
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = (SEGMENTS + 3) * SEGMENT;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_true(tier_file_extend(&file, (SEGMENTS + 3) * SEGMENT));
    assert_false(tier_file_extend(&file, (SEGMENTS + 4) * SEGMENT));
    assert_int_equal(errno, EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    tier_file_close(&file, true);
    if (access("/dev/shm", W_OK) != 0) return;
    assert_opens(&file, path, TIER_DIRECT_AUTO);
    assert_false(tier_file_extend(&file, (SEGMENTS + 2) * SEGMENT));
    assert_int_equal(errno, ENOTSUP);
    tier_file_close(&file, true);
}

/* A file system of our own, gone with the process at the latest; skips the test where mounting is not allowed. */
static void mount_on(const char *folder, const char *type, const char *options) {
    static bool apart;
    if (!apart && (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)) {
        print_message("skipped: mounting needs a privilege: %s\n", strerror(errno));
        skip();
    }
    apart = true;
    assert_int_equal(mkdir(folder, 0700), 0);
    if (mount(type, folder, type, 0, options) == 0) return;
    print_message("skipped: %s cannot be mounted: %s\n", type, strerror(errno));
    rmdir(folder);
    skip();
}

static void unmount(const char *folder) {
    assert_int_equal(umount(folder), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void a_full_file_system_is_told_when_a_segment_is_reserved(void **state) {
    (void)state;
    struct tier_file file;
    mount_on("small", "tmpfs", "size=3m");
    assert_opens(&file, "small/tier", TIER_DIRECT_AUTO);
    assert_true(tier_file_reserve(&file, 2 * SEGMENT));
    assert_false(tier_file_reserve(&file, 4 * SEGMENT));
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(file.reserved_bytes, 2 * SEGMENT);
    assert_page_comes_back(&file, 2 * SEGMENT - PAGE, 8);
    assert_true(tier_file_reserve(&file, 3 * SEGMENT));
    tier_file_close(&file, true);
    unmount("small");
}

static long resident_shared_kb(void) {
    char line[128];
    long kb = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof(line), file)) sscanf(line, "RssShmem: %ld", &kb);
    if (file) fclose(file);
    return kb;
}

static void a_file_in_memory_is_mapped_and_its_pages_can_be_forgotten(void **state) {
    (void)state;
    struct tier_file file;
    char wanted[PAGE];
    mount_on("memory", "tmpfs", "size=16m");
    assert_opens(&file, "memory/tier", TIER_DIRECT_YES);
    assert_non_null(file.mapped);
    assert_false(file.cached);
    assert_true(tier_file_reserve(&file, SEGMENTS * SEGMENT));
    for (unsigned i = 0; i < SEGMENTS * SEGMENT / PAGE; i++) assert_page_comes_back(&file, i * PAGE, i);
    long before = resident_shared_kb();
    for (unsigned i = 0; i < SEGMENTS * SEGMENT / PAGE; i++) {
        fill(wanted, i);
        assert_memory_equal(file.mapped + i * PAGE, wanted, PAGE);
    }
    assert_true(resident_shared_kb() - before >= SEGMENTS * SEGMENT / 1024 / 2);
    tier_file_forget_mapped(&file);
    assert_true(resident_shared_kb() - before <= SEGMENTS * SEGMENT / 1024 / 8);
    fill(wanted, 7);
    assert_memory_equal(file.mapped + 7 * PAGE, wanted, PAGE);
    tier_file_close(&file, true);
    unmount("memory");
}

static void a_file_that_cannot_be_mapped_gets_its_length_back(void **state) {
    (void)state;
    struct rlimit before, none;
    mount_on("memory", "tmpfs", "size=16m");
    temporary_folder_write("memory/precious", "ten bytes.");
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    none = before;
    none.rlim_cur = 1;
    struct tier_file file, made;
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    bool opened = open_file(&file, "memory/precious", TIER_DIRECT_AUTO);
    bool opened_made = open_file(&made, "memory/made", TIER_DIRECT_AUTO);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_false(opened);
    assert_false(opened_made);
    assert_non_null(strstr(error, "cannot be mapped"));
    assert_int_equal(size_of("memory/precious"), 10);
    assert_int_equal(size_of("memory/made"), -1);
    unmount("memory");
}

static void a_file_system_that_takes_no_writes_is_refused(void **state) {
    (void)state;
    mount_on("huge", "hugetlbfs", NULL);
    assert_refused("huge/tier", "hugetlbfs");
    assert_int_equal(size_of("huge/tier"), -1);
    unmount("huge");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_made_for_its_owner_only_and_removed_on_request),
        cmocka_unit_test(what_was_written_is_there_when_it_is_opened_again),
        cmocka_unit_test(the_descriptor_is_direct_only_where_it_says_so),
        cmocka_unit_test(a_second_server_is_refused),
        cmocka_unit_test(the_lock_of_a_killed_server_is_gone),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_file_that_cannot_be_used_is_as_it_was),
        cmocka_unit_test(what_a_larger_tier_left_behind_is_cut_off),
        cmocka_unit_test(space_is_reserved_by_segments),
        cmocka_unit_test(a_file_may_become_larger_and_a_mapping_may_not),
        cmocka_unit_test(a_full_file_system_is_told_when_a_segment_is_reserved),
        cmocka_unit_test(a_file_in_memory_is_mapped_and_its_pages_can_be_forgotten),
        cmocka_unit_test(a_file_that_cannot_be_mapped_gets_its_length_back),
        cmocka_unit_test(a_file_system_that_takes_no_writes_is_refused),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
