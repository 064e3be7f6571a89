#ifndef TERRACE_SERVER_LEFTOVERS_H
#define TERRACE_SERVER_LEFTOVERS_H

/* Temporary files of servers that were killed in the middle of a save, a rewrite or a full copy. Each is as large as a
 * dataset, and has its server's process id in its name, so nobody would ever write to it again.
 *
 *   dir             temp-PID.rdb                 save.c         dir/appenddirname   temp-rewriteaof-bg-PID.aof
 * aof_base.c temp-SECONDS.PID.rdb         primary_link_copy.c
 *
 * and the sidecars of these (RDB_INDEX_SUFFIX). Other files are not touched, nor those of a process that runs, which
 * may be a server that shares the folder. */

/* Removes them, and logs that. Once at the start, before anything is read or written there. `append_dirname` is in
 * `dir`, and need not exist. Errors are of no consequence. */
void leftovers_remove(const char *dir, const char *append_dirname);

#endif
