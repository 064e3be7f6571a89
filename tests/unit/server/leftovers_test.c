/* Temporary files of servers that are gone are removed, and nothing else. */

#include "server/leftovers.h"
#include "tests/support/temporary_folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { ROOM = 128 };

static int pid_of_nobody(void) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    return (int)child;
}

static const char *make(const char *format, int pid) {
    static char name[ROOM];
    snprintf(name, sizeof(name), format, pid);
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    return name;
}

static bool stays(const char *format, int pid) {
    const char *name = make(format, pid);
    leftovers_remove(".", "aof");
    bool there = access(name, F_OK) == 0;
    unlink(name);
    return there;
}

static void files_of_servers_that_are_gone_are_removed(void **state) {
    static const char *const ours[] = {"temp-%d.rdb", "temp-%d.rdb.idx", "temp-1700000000.%d.rdb",
                                       "aof/temp-rewriteaof-bg-%d.aof", "aof/temp-rewriteaof-bg-%d.aof.idx"};
    static const char *const others[] = {
        "temp-0%d.rdb", "temp-%d.rdb.bak", "temp-%dx.rdb", "xtemp-%d.rdb", "temp-+%d.rdb",
        "temp--%d.rdb", "temp- %d.rdb",    "dump-%d.rdb",  "temp-repl-%d", "aof/temp-rewriteaof-%d.aof"};
    (void)state;
    assert_int_equal(mkdir("aof", 0700), 0);
    int nobody = pid_of_nobody();
    for (unsigned i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
        assert_false(stays(ours[i], nobody));
        assert_false(stays(ours[i], (int)getpid()));
        assert_true(stays(ours[i], (int)getppid()));
    }
    for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++)
        if (!stays(others[i], nobody)) fail_msg("%s was removed", others[i]);
    assert_int_equal(rmdir("aof"), 0);
}

static void what_is_no_file_stays(void **state) {
    char name[ROOM];
    (void)state;
    snprintf(name, sizeof(name), "temp-%d.rdb", pid_of_nobody());
    assert_int_equal(mkdir(name, 0700), 0);
    leftovers_remove(".", "no such folder");
    assert_int_equal(rmdir(name), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_servers_that_are_gone_are_removed),
        cmocka_unit_test(what_is_no_file_stays),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
