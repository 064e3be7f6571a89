/* See aof_fixture.h. */

#include "tests/support/aof_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

void aof_put(struct aof_bytes *bytes, const void *data, size_t length) {
    if (bytes->length + length > bytes->capacity) {
        bytes->capacity = (bytes->length + length) * 2;
        bytes->data = realloc(bytes->data, bytes->capacity);
        assert_non_null(bytes->data);
    }
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

void aof_put_text(struct aof_bytes *bytes, const char *text) {
    aof_put(bytes, text, strlen(text));
}

void aof_put_command(struct aof_bytes *bytes, const char *line) {
    char copy[256], part[64];
    unsigned count = 1;
    strcpy(copy, line);
    for (const char *p = line; *p != '\0'; p++) count += *p == ' ';
    aof_put(bytes, part, (size_t)snprintf(part, sizeof(part), "*%u\r\n", count));
    for (char *rest = copy, *word; (word = strsep(&rest, " ")) != NULL;) {
        aof_put(bytes, part, (size_t)snprintf(part, sizeof(part), "$%zu\r\n", strlen(word)));
        aof_put_text(bytes, word);
        aof_put(bytes, "\r\n", 2);
    }
}

/* ---- the writer of an increment of ours ---- */

struct aof_check aof_chain;
uint64_t aof_claims_synced;
bool aof_everything_synced;

void aof_begin_file(struct aof_bytes *file) {
    char line[AOF_CHECK_LINE_MAX];
    file->length = 0;
    aof_put(file, line, aof_check_begin(&aof_chain, 42, line));
    aof_claims_synced = aof_everything_synced ? file->length : 0;
}

static size_t batch_begins_at;

void aof_open_batch(struct aof_bytes *file) {
    char line[AOF_CHECK_LINE_MAX];
    batch_begins_at = file->length;
    aof_put(file, line, aof_check_open(&aof_chain, line));
    batch_begins_at += strlen(line);
}

void aof_close_batch(struct aof_bytes *file) {
    char line[AOF_CHECK_LINE_MAX];
    aof_check_feed(&aof_chain, file->data + batch_begins_at, file->length - batch_begins_at);
    aof_put(file, line, aof_check_close(&aof_chain, aof_claims_synced, line));
    batch_begins_at = file->length;
    if (aof_everything_synced) aof_claims_synced = file->length;
}

void aof_put_batch(struct aof_bytes *file, const char *const *lines, unsigned count) {
    aof_open_batch(file);
    for (unsigned i = 0; i < count; i++) aof_put_command(file, lines[i]);
    aof_close_batch(file);
}

/* ---- the loader's other side ---- */

struct aof_bytes aof_given; /* the commands aof_given out, each a line; the SELECT in front of each file aside */
unsigned aof_refuse_at, aof_applied;

bool aof_apply(void *ctx, struct aof_command *commands, unsigned count, const char **refusal) {
    (void)ctx;
    assert_true(count >= 1 && count <= AOF_LOAD_BATCH);
    if (++aof_applied == aof_refuse_at) {
        *refusal = "no more of this";
        return false;
    }
    if (commands[0].argc == 2 && span_equal(commands[0].argv[0], SPAN_LITERAL("SELECT")) && count == 1) return true;
    for (unsigned i = 0; i < count; i++) {
        for (uint32_t word = 0; word < commands[i].argc; word++) {
            aof_put(&aof_given, commands[i].argv[word].data, commands[i].argv[word].length);
            aof_put(&aof_given, " ", 1);
        }
        aof_given.data[aof_given.length - 1] = '\n';
    }
    return true;
}

struct aof_load_result aof_result;

enum aof_load_status aof_load_with(const struct aof_load_options *options) {
    aof_given.length = 0;
    aof_applied = 0;
    return aof_load_file("file.aof", options, &aof_result);
}

static int no_sync(void *ctx, int fd) {
    (void)ctx;
    (void)fd;
    return 0;
}

enum aof_load_status aof_load(bool truncate) {
    struct file_io io = file_io_system;
    io.sync = no_sync;
    return aof_load_with(&(struct aof_load_options){.truncate = truncate, .apply = aof_apply, .io = &io});
}

void aof_expect_given(const char *lines) {
    aof_put(&aof_given, "", 1);
    aof_given.length--;
    assert_string_equal(aof_given.data, lines);
}

void aof_write_as(const char *name, const struct aof_bytes *bytes, size_t length) {
    unlink(name); /* a file that is written anew, some file systems sync when it is closed */
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

void aof_write_file(const struct aof_bytes *bytes, size_t length) {
    aof_write_as("file.aof", bytes, length);
}

size_t aof_file_length(const char *name) {
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size_t length = (size_t)ftell(file);
    fclose(file);
    return length;
}

struct aof_bytes aof_text;

int aof_clean(void **state) {
    (void)state;
    unlink("file.aof");
    free(aof_text.data);
    free(aof_given.data);
    aof_text = aof_given = (struct aof_bytes){0};
    aof_refuse_at = 0;
    aof_everything_synced = false;
    return 0;
}
