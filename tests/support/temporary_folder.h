#ifndef TERRACE_TESTS_SUPPORT_TEMPORARY_FOLDER_H
#define TERRACE_TESTS_SUPPORT_TEMPORARY_FOLDER_H

/* A new folder as the working directory of a group of tests. One at a time; `state` is not used. */

/* cmocka's group setup. */
int temporary_folder_enter(void **state);
/* Its group teardown: back to where it was. Fails when the tests have left a file there. */
int temporary_folder_leave(void **state);

/* Makes the file hold exactly this text; fails the running test when it cannot. */
void temporary_folder_write(const char *name, const char *text);

#endif
