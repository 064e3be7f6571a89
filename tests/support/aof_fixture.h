#ifndef TERRACE_TESTS_SUPPORT_AOF_FIXTURE_H
#define TERRACE_TESTS_SUPPORT_AOF_FIXTURE_H

/* Append-only files composed in memory, and a loader's other side that notes what it is given. What is here is shared
 * by the tests of one program; aof_clean() is their teardown. */

#include "persist/aof_load.h"

struct aof_bytes {
    char *data;
    size_t length, capacity;
};

/* ---- composing ---- */

extern struct aof_bytes aof_text; /* the file */

void aof_put(struct aof_bytes *bytes, const void *data, size_t length);
void aof_put_text(struct aof_bytes *bytes, const char *text);
/* A line of words, as RESP. */
void aof_put_command(struct aof_bytes *bytes, const char *line);

/* The writer of an increment of ours, which claims that so much was synced. */
extern struct aof_check aof_chain;
extern uint64_t aof_claims_synced;
extern bool aof_everything_synced; /* as under always: each batch is synced before the next is written */

void aof_begin_file(struct aof_bytes *text);
void aof_open_batch(struct aof_bytes *text);
void aof_close_batch(struct aof_bytes *text);
/* A batch of these lines. */
void aof_put_batch(struct aof_bytes *text, const char *const *lines, unsigned count);

/* ---- files; whatever fails fails the test ---- */

void aof_write_as(const char *name, const struct aof_bytes *bytes, size_t length);
void aof_write_file(const struct aof_bytes *bytes, size_t length); /* as file.aof */
size_t aof_file_length(const char *name);

/* ---- loading ---- */

extern struct aof_bytes aof_given; /* the commands given out, each a line; the SELECT in front of each file aside */
extern unsigned aof_refuse_at, aof_applied;
extern struct aof_load_result aof_result;

bool aof_apply(void *ctx, struct aof_command *commands, unsigned count, const char **refusal);
/* file.aof, with these options; or with aof_apply() and without syncs, which thousands of files need not have. */
enum aof_load_status aof_load_with(const struct aof_load_options *options);
enum aof_load_status aof_load(bool truncate);
void aof_expect_given(const char *lines);

/* cmocka's teardown. */
int aof_clean(void **state);

#endif
