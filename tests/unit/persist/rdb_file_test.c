/* RDB files as they are written: their structure, with one lane and with several; and that whatever fails leaves the
 * old file and nothing else. */

#include "base/random.h"
#include "command/families.h"
#include "keyspace/keyspace_collection.h"
#include "persist/crc64.h"
#include "persist/rdb_file.h"
#include "persist/rdb_layout.h"
#include "tests/support/failing_io.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { LANES = 3, RECORDS = 20000, CHUNK = 16 << 10 };

static const struct rdb_file_options plain = {.path = "dump.rdb",
                                              .temporary = "temp-1.rdb",
                                              .save = {.compress = true},
                                              .checksum = true,
                                              .index = true,
                                              .redis_version = "7.2.4",
                                              .chunk_bytes = CHUNK};

/* ---- what is saved ---- */

static struct record *make_record(unsigned number, size_t length) {
    char key[32];
    char *value = malloc(length + 1);
    for (size_t i = 0; i < length; i++) value[i] = (char)('a' + (number * 31 + i * i) % 17);
    const struct record_plan plan = {
        .type = RECORD_STRING,
        .key = span_of(key, (size_t)snprintf(key, sizeof(key), "key:%u", number)),
        .value = span_of(value, length),
        .expiry_ms = number % 5 ? RECORD_EXPIRY_NONE : INT64_C(2000000000000) + number,
    };
    struct record *record = record_write(malloc(record_size_for(&plan)), &plan);
    free(value);
    return record;
}

static bool save_record(struct rdb_lane *lane, unsigned number, size_t length) {
    struct record *record = make_record(number, length);
    bool saved = rdb_lane_record(lane, number % 3 ? 0 : 9, record);
    free(record);
    return saved;
}

static bool save_collection(struct rdb_lane *lane, struct in_process *server, const char *name) {
    const struct view view = {.keyspace = server->keyspace, .keep_access = true, .now_ms = IN_PROCESS_START_MS};
    const struct key key = keyspace_key(server->keyspace, span_of_text(name));
    struct lookup lookup = keyspace_find(&view, &key);
    struct rdb_collection_save save;
    enum rdb_save_status status;
    assert_true(lookup.record && record_is_paged(lookup.record));
    if (!rdb_lane_collection_begin(lane, &save, 0, lookup_collection(&lookup), key.name, RECORD_EXPIRY_NONE, 0))
        return false;
    do {
        struct page_access pages = keyspace_pages(&view, lookup.shard);
        status = rdb_collection_step(&save, &pages, &lane->output, 4000);
    } while (rdb_lane_collection_settle(lane) && status == RDB_SAVE_MORE);
    return rdb_lane_collection_end(lane, &save);
}

/* ---- what was written ---- */

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*length + 1);
    assert_int_equal(fread(bytes, 1, *length, file), *length);
    bytes[*length] = '\0';
    fclose(file);
    return bytes;
}

static uint64_t number_at(const char *bytes) {
    uint64_t number;
    memcpy(&number, bytes, sizeof(number));
    return number;
}

/* Looks at the sidecar; returns the number of its chunks. */
static unsigned expect_index(const char *file, size_t length, uint64_t keys) {
    size_t index_length;
    char *index = read_file("dump.rdb.idx", &index_length);
    assert_non_null(index);
    struct rdb_index_head head;
    memcpy(&head, index, sizeof(head));
    assert_string_equal(head.magic, RDB_INDEX_MAGIC);
    assert_int_equal(index_length, sizeof(head) + head.chunk_count * sizeof(struct rdb_index_chunk) + 8);
    assert_int_equal(number_at(index + index_length - 8), crc64(0, index, index_length - 8));
    assert_int_equal(head.file_bytes, length);
    assert_int_equal(head.body_end, length - 9);
    assert_int_equal(head.head_crc, crc64(0, file, head.body_offset));
    char id[17];
    snprintf(id, sizeof(id), "%016llx", (unsigned long long)head.id);
    const char *aux = memmem(file, head.body_offset, RDB_AUX_INDEX, strlen(RDB_AUX_INDEX));
    assert_non_null(aux);
    assert_memory_equal(aux + strlen(RDB_AUX_INDEX) + 1, id, 16);
    uint64_t at = head.body_offset, seen = 0;
    for (uint32_t i = 0; i < head.chunk_count; i++) {
        struct rdb_index_chunk chunk;
        memcpy(&chunk, index + sizeof(head) + i * sizeof(chunk), sizeof(chunk));
        assert_int_equal(chunk.offset, at);
        assert_int_equal((uint8_t)file[at], RDB_OP_SELECT);
        assert_int_equal((uint8_t)file[at + 1], chunk.database);
        assert_int_equal(chunk.crc, crc64(0, file + at, chunk.length));
        at += chunk.length;
        seen += chunk.keys;
    }
    assert_int_equal(at, head.body_end);
    assert_int_equal(seen, keys);
    assert_int_equal(head.keys, keys);
    free(index);
    return head.chunk_count;
}

static void remove_files(void) {
    unlink("dump.rdb");
    unlink("dump.rdb.idx");
}

/* Header, end and checksum. */
static char *expect_file(unsigned version, size_t *length) {
    char text[RDB_HEADER_BYTES + 1];
    char *file = read_file("dump.rdb", length);
    assert_non_null(file);
    snprintf(text, sizeof(text), "REDIS%04u", version);
    assert_memory_equal(file, text, RDB_HEADER_BYTES);
    assert_int_equal((uint8_t)file[*length - 9], RDB_OP_EOF);
    assert_int_equal(number_at(file + *length - 8), crc64(0, file, *length - 8));
    assert_int_not_equal(access("temp-1.rdb", F_OK), 0);
    return file;
}

/* ---- tests ---- */

static void an_empty_file(void **state) {
    (void)state;
    struct rdb_file_error error;
    size_t length;
    struct rdb_file *file = rdb_file_open(&plain, &error);
    assert_non_null(file);
    assert_true(rdb_file_finish(file, &error));
    assert_null(error.step);
    free(expect_file(10, &length));
    assert_int_not_equal(access("dump.rdb.idx", F_OK), 0);
    remove_files();
}

static void the_header_tells_of_the_server_and_its_databases(void **state) {
    (void)state;
    struct rdb_file_error error;
    size_t length;
    const struct rdb_database_size sizes[] = {{0, 300, 2}, {9, 20000, 0}};
    struct rdb_file_options options = plain;
    options.sizes = sizes;
    options.size_count = 2;
    options.aof_base = true;
    options.index = options.checksum = false;
    options.used_memory = 5000;
    struct rdb_file *file = rdb_file_open(&options, &error);
    assert_true(rdb_file_finish(file, &error));
    char *bytes = read_file("dump.rdb", &length);
    static const char head[] = "REDIS0010\xfa\x09redis-ver\x05"
                               "7.2.4\xfa\x0aredis-bits\xc0\x40\xfa\x05"
                               "ctime\xc2";
    static const char tail[] = "\xfa\x08used-mem\xc1\x88\x13\xfa\x08"
                               "aof-base\xc0\x01\xfe\x00\xfb\x41\x2c\x02\xfe\x09\xfb\x80\x00\x00\x4e\x20\x00\xff"
                               "\x00\x00\x00\x00\x00\x00\x00\x00";
    assert_int_equal(length, sizeof(head) - 1 + 4 + sizeof(tail) - 1);
    assert_memory_equal(bytes, head, sizeof(head) - 1);
    assert_memory_equal(bytes + sizeof(head) - 1 + 4, tail, sizeof(tail) - 1);
    free(bytes);
    remove_files();
}

static struct in_process *server_with_big_values(void) {
    const struct command_family families[] = {{hash_commands, hash_command_count},
                                              {bitmap_commands, bitmap_command_count},
                                              {string_commands, string_command_count}};
    struct in_process *server = in_process_create(families, 3);
    char line[100];
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(line, sizeof(line), "HSET hash field:%u value:%u", i, i);
        in_process_run(server, line);
    }
    in_process_run(server, "SETRANGE string 500000 x");
    in_process_run(server, "SETBIT string 100 1");
    return server;
}

struct job {
    struct rdb_file *file;
    struct in_process *server;
    unsigned number;
    bool done;
};

static void *save_part(void *argument) {
    struct job *job = argument;
    struct rdb_lane lane;
    rdb_lane_init(&lane, job->file);
    job->done = true;
    for (unsigned i = job->number; i < RECORDS && job->done; i += LANES) {
        job->done = save_record(&lane, i, i % 1000 == 7 ? 3 * CHUNK : i % 200);
        /* One lane has the big values: a keyspace without locks is read by one thread. */
        if (job->done && job->number == 1 && i % 6000 == 1)
            job->done = save_collection(&lane, job->server, i % 4000 == 1 ? "string" : "hash");
    }
    if (!rdb_lane_end(&lane)) job->done = false;
    return NULL;
}

static void several_lanes_write_one_file(void **state) {
    (void)state;
    struct in_process *server = server_with_big_values();
    struct rdb_file_error error;
    struct job jobs[LANES];
    pthread_t threads[LANES];
    size_t length;
    struct rdb_file_options options = plain;
    options.incremental_sync = true;
    struct rdb_file *file = rdb_file_open(&options, &error);
    for (unsigned i = 0; i < LANES; i++) {
        jobs[i] = (struct job){file, server, i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, save_part, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < LANES; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].done);
    }
    assert_true(rdb_file_finish(file, &error));
    char *bytes = expect_file(10, &length);
    assert_true(expect_index(bytes, length, RECORDS + 4) > 30);
    free(bytes);
    in_process_destroy(server);
    remove_files();
}

/* What only version 12 has changes the header at the end. */
static void field_ttls_raise_the_version(void **state) {
    (void)state;
    struct in_process *server = server_with_big_values();
    struct rdb_file_error error;
    struct rdb_lane lane;
    size_t length;
    in_process_run(server, "HPEXPIRE hash 100000 FIELDS 1 field:5");
    struct rdb_file *file = rdb_file_open(&plain, &error);
    rdb_lane_init(&lane, file);
    for (unsigned i = 0; i < 1000; i++) assert_true(save_record(&lane, i, 100));
    assert_true(save_collection(&lane, server, "hash"));
    assert_true(rdb_lane_end(&lane));
    assert_true(rdb_file_finish(file, &error));
    char *bytes = expect_file(12, &length);
    expect_index(bytes, length, 1001);
    free(bytes);
    in_process_destroy(server);
    remove_files();
}

/* ---- failures ---- */

static bool save_all(const struct rdb_file_options *options, struct rdb_file_error *error) {
    struct rdb_lane lane;
    struct rdb_file *file = rdb_file_open(options, error);
    if (!file) return false;
    rdb_lane_init(&lane, file);
    bool saved = true;
    for (unsigned i = 0; i < 1000 && saved; i++) saved = save_record(&lane, i, 100);
    saved = rdb_lane_end(&lane) && saved;
    if (saved) return rdb_file_finish(file, error);
    *error = rdb_file_error(file);
    rdb_file_abandon(file);
    return false;
}

static void whatever_fails_the_old_file_stays(void **state) {
    (void)state;
    struct failing_io failing;
    failing_io_init(&failing, ENOSPC);
    struct rdb_file_options options = plain;
    struct rdb_file_error error;
    options.io = &failing.io;
    unsigned failures = 0, without_harm = 0;
    temporary_folder_write("dump.rdb", "old");
    for (unsigned fail_at = 1;; fail_at++) {
        failing_io_restart(&failing, fail_at);
        bool saved = save_all(&options, &error);
        if (!failing_io_failed(&failing)) {
            assert_true(saved);
            break;
        }
        size_t length;
        char *bytes = read_file("dump.rdb", &length);
        assert_non_null(bytes);
        assert_int_not_equal(access("temp-1.rdb", F_OK), 0);
        assert_int_not_equal(access("temp-1.rdb.idx", F_OK), 0);
        if (saved) {
            without_harm++; /* the sidecar; closing a folder */
            free(expect_file(10, &length));
        } else {
            failures++;
            assert_non_null(error.step);
            assert_int_equal(error.error, ENOSPC);
            /* Where the folder could not be synced the new file is there. */
            if (strstr(error.step, "folder"))
                free(expect_file(10, &length));
            else
                assert_string_equal(bytes, "old");
        }
        free(bytes);
        remove_files();
        temporary_folder_write("dump.rdb", "old");
    }
    assert_true(failures > 8);
    assert_true(without_harm >= 4);
    remove_files();
}

/* A lane that gives up in the middle of a big value does not leave the others waiting. */
static void a_value_that_ends_early_fails_the_file(void **state) {
    (void)state;
    struct in_process *server = server_with_big_values();
    const struct view view = {.keyspace = server->keyspace, .keep_access = true, .now_ms = IN_PROCESS_START_MS};
    const struct key key = keyspace_key(server->keyspace, SPAN_LITERAL("string"));
    struct lookup lookup = keyspace_find(&view, &key);
    struct page_access pages = keyspace_pages(&view, lookup.shard);
    struct rdb_collection_save save;
    struct rdb_file_error error;
    struct rdb_lane lane, other;
    struct rdb_file *file = rdb_file_open(&plain, &error);
    rdb_lane_init(&lane, file);
    rdb_lane_init(&other, file);
    assert_true(save_record(&other, 1, 100));
    assert_true(rdb_lane_collection_begin(&lane, &save, 0, lookup_collection(&lookup), key.name, -1, 0));
    assert_int_equal(rdb_collection_step(&save, &pages, &lane.output, CHUNK), RDB_SAVE_MORE);
    assert_true(rdb_lane_collection_settle(&lane));
    assert_false(rdb_lane_collection_end(&lane, &save));
    assert_false(rdb_lane_end(&other));
    assert_false(rdb_lane_end(&lane));
    assert_false(rdb_file_finish(file, &error));
    assert_string_equal(error.step, "compose");
    assert_int_not_equal(access("temp-1.rdb", F_OK), 0);
    in_process_destroy(server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file),
        cmocka_unit_test(the_header_tells_of_the_server_and_its_databases),
        cmocka_unit_test(several_lanes_write_one_file),
        cmocka_unit_test(field_ttls_raise_the_version),
        cmocka_unit_test(whatever_fails_the_old_file_stays),
        cmocka_unit_test(a_value_that_ends_early_fails_the_file),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
