#ifndef TERRACE_TESTS_LAB_GUEST_H
#define TERRACE_TESTS_LAB_GUEST_H

/* What the first process of an emulated host has to work with: the server, a client of it, and where its memory is.
 *
 * Each check is one line on the console, "ok TEXT" or "not ok TEXT". Placement is what the kernel says in
 * /proc/PID/numa_maps: for each mapping its policy and how many pages it has on each node. A mapping without a policy
 * of its own shows that of the first thread, which is the first worker's node: what is said to prefer another node than
 * that was bound by the keyspace.
 *
 * Threads: one. Texts that are returned hold until the next call of the function. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    NODES = 4,
    KEYS = 20000,
    BATCH = 100, /* requests on their way; numbers of keys are multiples of it */
    VALUE_BYTES = 1000,
    RECORDS_BYTES = KEYS * VALUE_BYTES, /* what they occupy at the least */
    REPLY_MAX = 65536,
};

struct server {
    pid_t pid;
    int log, client;
};

/* ---- the host ---- */

void check(bool passed, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Nothing further can be found out: the host goes down, which ends the test. */
void give_up(const char *what) __attribute__((noreturn));
void mount_all(void);
int64_t now_ms(void);

/* ---- the server ---- */

/* `extra` ends with NULL. */
struct server start(char *const extra[]);
void stop(struct server *server);
/* kill -9. */
void cut_off(struct server *server);
void check_refused(char *const extra[], const char *words);

/* ---- commands ---- */

/* The reply to an inline command, the format of which may have one "%u". */
const char *ask(const struct server *server, const char *format, unsigned key);
/* One more reply, of an array: a line, or the payload of a bulk string. */
const char *next_reply(const struct server *server);
/* Sets the keys from `first` on and below `keys`; how many were accepted. The others were refused for want of memory.
 */
unsigned try_keys(const struct server *server, unsigned first, unsigned keys);
/* Sets the keys below KEYS. */
void write_keys(const struct server *server);
/* How many of the keys below `keys` have the value they were given; the others must be absent. */
unsigned read_keys(const struct server *server, unsigned keys);

/* A section of INFO. */
const char *info_of(const struct server *server, const char *section);
const char *info_numa(const struct server *server);
/* The value of `name:`, up to the end of the line. */
const char *field(const char *info, const char *name);
void check_field(const char *info, const char *name, const char *expected);
unsigned long number(const struct server *server, const char *section, const char *name);
/* A part of a node's line: `cpus` of "node0:cpus=0-1,shards=..."; up to the comma. */
const char *node_text(const char *info, int node, const char *part);
unsigned long node_number(const char *info, int node, const char *part);
void check_node(const char *info, int node, const char *cpus, unsigned long shards, unsigned long far);

/* ---- where memory and threads are ---- */

/* Bytes of mappings that prefer node P which lie on node N: bytes[P][N]. */
void read_placement(pid_t pid, size_t bytes[NODES][NODES]);
void show_placement(size_t bytes[NODES][NODES]);
/* How many may run on exactly these CPUs. */
unsigned threads_on(pid_t pid, const char *cpus);
/* How many allocate from this node: the program's own mapping has no policy, so each thread shows its own there. */
unsigned threads_preferring(pid_t pid, int node);

/* ---- the hosts, by which tests/lab/run knows them ---- */

void check_flat(void);
void check_wide(void);
void check_far(void);
/* A boot of the host whose power is cut: the first makes the pool, the last ends in order. `acknowledged` keys were
 * before the last cut. */
void check_power(bool is_first, bool is_last, unsigned acknowledged);

#endif
