/* See temporary_folder.h. */

#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static char folder[64];
static char start_folder[4096];

int temporary_folder_enter(void **state) {
    (void)state;
    strcpy(folder, "/tmp/terrace-test-XXXXXX");
    if (!getcwd(start_folder, sizeof(start_folder)) || !mkdtemp(folder)) return -1;
    return chdir(folder);
}

int temporary_folder_leave(void **state) {
    (void)state;
    return chdir(start_folder) || rmdir(folder);
}

void temporary_folder_write(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}
