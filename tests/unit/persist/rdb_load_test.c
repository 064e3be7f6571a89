/* Whole RDBs: with one thread and with several, from pieces of any size; what is passed by, dropped or refused; every
 * byte missing, every bit turned over; values larger than any buffer; with a sidecar, and with one that lies. */

#include "command/families.h"
#include "keyspace/keyspace_collection.h"
#include "persist/crc64.h"
#include "persist/rdb_file.h"
#include "persist/rdb_layout.h"
#include "persist/rdb_load.h"
#include "tests/support/temporary_folder.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SHARDS = 16, KEYS = 20000, NOW_S = 2000000000 };
#define NOW_MS (INT64_C(1000) * NOW_S)

/* ---- RDBs, made here ---- */

struct source {
    struct rdb_output output;
    size_t at, piece; /* bytes that are given at a time; 0: all */
};

static void begin_rdb(struct source *source, unsigned version) {
    char header[RDB_HEADER_BYTES + 1];
    *source = (struct source){0};
    rdb_output_init(&source->output, 0);
    snprintf(header, sizeof(header), RDB_MAGIC "%04u", version);
    rdb_put_bytes(&source->output, header, RDB_HEADER_BYTES);
}

static void put_text(struct source *source, const char *text) {
    rdb_put_string(&source->output, span_of_text(text), true);
}

static void put_string(struct source *source, const char *key, const char *value) {
    rdb_put_byte(&source->output, RDB_STRING);
    put_text(source, key);
    put_text(source, value);
}

static void end_rdb(struct source *source) {
    rdb_put_byte(&source->output, RDB_OP_EOF);
    rdb_put_u64(&source->output, crc64(0, source->output.bytes, source->output.length));
}

static long read_source(void *ctx, void *buffer, size_t room) {
    struct source *source = ctx;
    size_t left = source->output.length - source->at;
    if (source->piece && room > source->piece) room = source->piece;
    if (room > left) room = left;
    memcpy(buffer, source->output.bytes + source->at, room);
    source->at += room;
    return (long)room;
}

/* ---- keyspaces ---- */

static struct keyspace *make_keyspace(void) {
    const struct keyspace_options options = {
        .shards = SHARDS, .databases = 4, .locking = true, .seed = 1, .reserve_bytes = (size_t)2 << 30};
    struct keyspace *keyspace = keyspace_create(&options);
    assert_non_null(keyspace);
    return keyspace;
}

static void end_keyspace(struct keyspace *keyspace) {
    assert_true(keyspace_validate(keyspace));
    keyspace_destroy(keyspace);
}

static struct rdb_load_options options_for(struct keyspace *keyspace, unsigned threads) {
    return (struct rdb_load_options){.keyspace = keyspace, .now_ms = NOW_MS, .threads = threads};
}

static enum rdb_status load(struct source *source, struct keyspace *keyspace, unsigned threads,
                            struct rdb_load_result *result) {
    struct rdb_load_options options = options_for(keyspace, threads);
    source->at = 0;
    return rdb_load_stream(read_source, source, source->output.length, &options, result);
}

static uint64_t size_of(struct keyspace *keyspace, uint32_t database) {
    const struct view view = {.keyspace = keyspace, .database = database};
    return keyspace_database_size(&view);
}

static const struct record *find(struct keyspace *keyspace, uint32_t database, const char *name) {
    const struct view view = {.keyspace = keyspace, .database = database, .keep_access = true};
    const struct key key = keyspace_key(keyspace, span_of_text(name));
    return keyspace_find(&view, &key).record;
}

static void assert_holds(struct keyspace *keyspace, uint32_t database, const char *name, const char *value) {
    const struct record *record = find(keyspace, database, name);
    assert_non_null(record);
    if (record_is_integer(record))
        assert_int_equal(record_integer(record), strtoll(value, NULL, 10));
    else
        assert_true(span_equal(record_value(record), span_of_text(value)));
}

/* ---- what is in an RDB ---- */

static void everything_in_its_database(void **state) {
    (void)state;
    for (unsigned threads = 0; threads < 3; threads++)
        for (size_t piece = 0; piece < 2; piece++) {
            struct source source;
            struct rdb_load_result result;
            struct keyspace *keyspace = make_keyspace();
            begin_rdb(&source, 10);
            rdb_put_aux(&source.output, "redis-ver", SPAN_LITERAL("7.0.15"));
            rdb_put_aux(&source.output, "ctime", SPAN_LITERAL("1234"));
            rdb_put_aux(&source.output, "aof-base", SPAN_LITERAL("1"));
            rdb_put_byte(&source.output, RDB_OP_SELECT);
            rdb_put_length(&source.output, 0);
            rdb_put_byte(&source.output, RDB_OP_RESIZE);
            rdb_put_length(&source.output, 3);
            rdb_put_length(&source.output, 1);
            put_string(&source, "a", "value");
            rdb_put_byte(&source.output, RDB_OP_EXPIRY_MS);
            rdb_put_u64(&source.output, NOW_MS + 5000);
            put_string(&source, "b", "12");
            rdb_put_byte(&source.output, RDB_OP_IDLE);
            rdb_put_length(&source.output, 100);
            put_string(&source, "c", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
            rdb_put_byte(&source.output, RDB_OP_SELECT);
            rdb_put_length(&source.output, 3);
            put_string(&source, "a", "another");
            end_rdb(&source);
            source.piece = piece;
            assert_int_equal(load(&source, keyspace, threads, &result), RDB_DONE);
            assert_int_equal(result.keys, 4);
            assert_int_equal(result.version, 10);
            assert_int_equal(result.created_s, 1234);
            assert_int_equal(result.bytes, source.output.length);
            assert_true(result.aof_base);
            assert_string_equal(result.server_version, "7.0.15");
            assert_holds(keyspace, 0, "a", "value");
            assert_holds(keyspace, 0, "b", "12");
            assert_holds(keyspace, 0, "c", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
            assert_holds(keyspace, 3, "a", "another");
            assert_int_equal(record_expiry(find(keyspace, 0, "b")), NOW_MS + 5000);
            assert_int_equal(access_idle_seconds(record_access(find(keyspace, 0, "c")), NOW_MS), 100);
            rdb_output_free(&source.output);
            end_keyspace(keyspace);
        }
}

static void what_has_expired_is_dropped_if_asked_for(void **state) {
    (void)state;
    struct source source;
    struct rdb_load_result result;
    begin_rdb(&source, 10);
    rdb_put_byte(&source.output, RDB_OP_EXPIRY_S);
    rdb_put_bytes(&source.output, &(const uint32_t){1000}, 4);
    put_string(&source, "old", "value");
    put_string(&source, "new", "value");
    end_rdb(&source);
    for (unsigned drop = 0; drop < 2; drop++) {
        struct keyspace *keyspace = make_keyspace();
        struct rdb_load_options options = options_for(keyspace, 1);
        options.drop_expired = drop;
        source.at = 0;
        assert_int_equal(rdb_load_stream(read_source, &source, UINT64_MAX, &options, &result), RDB_DONE);
        assert_int_equal(size_of(keyspace, 0), 2 - drop);
        assert_int_equal(result.expired, drop);
        end_keyspace(keyspace);
    }
    rdb_output_free(&source.output);
}

static void functions_and_modules_are_passed_by(void **state) {
    (void)state;
    struct source source;
    struct rdb_load_result result;
    struct keyspace *keyspace = make_keyspace();
    begin_rdb(&source, 10);
    rdb_put_byte(&source.output, RDB_OP_FUNCTION);
    put_text(&source, "#!lua name=mylib\nredis.register_function('f', function() return 1 end)");
    rdb_put_byte(&source.output, RDB_OP_MODULE_AUX);
    for (unsigned i = 0; i < 3; i++) rdb_put_length(&source.output, 2);
    rdb_put_length(&source.output, 5);
    put_text(&source, "data");
    rdb_put_length(&source.output, 4);
    rdb_put_double(&source.output, 1.5);
    rdb_put_length(&source.output, 0);
    put_string(&source, "a", "value");
    end_rdb(&source);
    assert_int_equal(load(&source, keyspace, 1, &result), RDB_DONE);
    assert_int_equal(result.functions, 1);
    assert_int_equal(result.module_records, 1);
    assert_holds(keyspace, 0, "a", "value");
    rdb_output_free(&source.output);
    end_keyspace(keyspace);
}

static void a_key_that_is_there_twice(void **state) {
    (void)state;
    struct source source;
    struct rdb_load_result result;
    begin_rdb(&source, 10);
    put_string(&source, "a", "value");
    put_string(&source, "a", "other");
    end_rdb(&source);
    struct keyspace *keyspace = make_keyspace();
    assert_int_equal(load(&source, keyspace, 1, &result), RDB_DUPLICATE);
    assert_non_null(strstr(result.reason, "twice"));
    struct rdb_load_options options = options_for(keyspace, 2);
    options.replace_duplicates = true;
    source.at = 0;
    assert_int_equal(rdb_load_stream(read_source, &source, UINT64_MAX, &options, &result), RDB_DONE);
    assert_int_equal(size_of(keyspace, 0), 1);
    rdb_output_free(&source.output);
    end_keyspace(keyspace);
}

static void versions_and_types_that_are_unknown_are_refused(void **state) {
    (void)state;
    const unsigned versions[] = {0, 13, 9999};
    struct rdb_load_result result;
    struct source source;
    struct keyspace *keyspace = make_keyspace();
    for (unsigned i = 0; i < 3; i++) {
        begin_rdb(&source, versions[i]);
        end_rdb(&source);
        assert_int_equal(load(&source, keyspace, 0, &result), RDB_UNSUPPORTED);
        rdb_output_free(&source.output);
    }
    const uint8_t types[] = {6, 7, 8, 26, 100, 243};
    for (unsigned i = 0; i < sizeof(types); i++) {
        begin_rdb(&source, 10);
        rdb_put_byte(&source.output, types[i]);
        put_text(&source, "key");
        put_text(&source, "value");
        end_rdb(&source);
        assert_int_equal(load(&source, keyspace, i % 2, &result), RDB_UNSUPPORTED);
        assert_int_equal(result.offset > RDB_HEADER_BYTES, true);
        rdb_output_free(&source.output);
    }
    begin_rdb(&source, 10);
    rdb_put_byte(&source.output, RDB_OP_SELECT);
    rdb_put_length(&source.output, 4);
    end_rdb(&source);
    assert_int_equal(load(&source, keyspace, 0, &result), RDB_CORRUPT);
    rdb_output_free(&source.output);
    end_keyspace(keyspace);
}

/* ---- damage ---- */

static void put_one_of_each(struct source *source) {
    struct rdb_output *output = &source->output;
    put_string(source, "string", "value");
    rdb_put_byte(output, RDB_HASH);
    put_text(source, "hash");
    rdb_put_length(output, 2);
    for (unsigned i = 0; i < 4; i++) put_text(source, (const char *[]){"f", "v", "g", "1"}[i]);
    rdb_put_byte(output, RDB_ZSET_2);
    put_text(source, "zset");
    rdb_put_length(output, 1);
    put_text(source, "m");
    rdb_put_double(output, 2.5);
    rdb_put_byte(output, RDB_LIST);
    put_text(source, "list");
    rdb_put_length(output, 2);
    put_text(source, "first");
    put_text(source, "-3");
}

static void every_byte_may_be_the_last(void **state) {
    (void)state;
    struct source source;
    struct rdb_load_result result;
    begin_rdb(&source, 10);
    put_one_of_each(&source);
    end_rdb(&source);
    size_t length = source.output.length;
    for (size_t cut = 0; cut < length; cut++)
        for (unsigned known = 0; known < 2; known++) {
            struct keyspace *keyspace = make_keyspace();
            struct rdb_load_options options = options_for(keyspace, 0);
            source.output.length = cut;
            source.at = 0;
            assert_int_not_equal(rdb_load_stream(read_source, &source, known ? cut : UINT64_MAX, &options, &result),
                                 RDB_DONE);
            assert_true(result.offset <= cut && result.reason[0]);
            end_keyspace(keyspace);
        }
    rdb_output_free(&source.output);
}

static void every_bit_turned_over_is_found(void **state) {
    (void)state;
    struct source source;
    struct rdb_load_result result;
    begin_rdb(&source, 10);
    put_one_of_each(&source);
    end_rdb(&source);
    for (size_t bit = 0; bit < 8 * source.output.length; bit++) {
        struct keyspace *keyspace = make_keyspace();
        source.output.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum rdb_status status = load(&source, keyspace, 0, &result);
        source.output.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        /* A version before checksums has none to be wrong. */
        if (result.version >= RDB_VERSION_CHECKSUM) assert_int_not_equal(status, RDB_DONE);
        end_keyspace(keyspace);
    }
    rdb_output_free(&source.output);
}

static void without_a_checksum_damage_is_harmless(void **state) {
    (void)state;
    struct source source;
    struct rdb_load_result result;
    begin_rdb(&source, 10);
    put_one_of_each(&source);
    end_rdb(&source);
    for (size_t bit = 0; bit < 8 * source.output.length; bit++) {
        struct keyspace *keyspace = make_keyspace();
        struct rdb_load_options options = options_for(keyspace, 0);
        options.ignore_checksum = true;
        source.at = 0;
        source.output.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        (void)!rdb_load_stream(read_source, &source, UINT64_MAX, &options, &result);
        source.output.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        end_keyspace(keyspace);
    }
    rdb_output_free(&source.output);
}

/* ---- sizes ---- */

static void values_may_be_larger_than_any_buffer(void **state) {
    (void)state;
    enum { LONG = 3 << 20, FIELDS = 50000 };
    struct source source;
    struct rdb_load_result result;
    struct keyspace *keyspace = make_keyspace();
    char *text = malloc(LONG + 1), field[32];
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    begin_rdb(&source, 10);
    put_string(&source, "before", "1");
    rdb_put_byte(&source.output, RDB_STRING);
    put_text(&source, "long");
    rdb_put_string(&source.output, span_of(text, LONG), false);
    rdb_put_byte(&source.output, RDB_HASH);
    put_text(&source, "hash");
    rdb_put_length(&source.output, FIELDS);
    for (unsigned i = 0; i < FIELDS; i++) {
        snprintf(field, sizeof(field), "a field of a hash %u", i);
        put_text(&source, field);
        put_text(&source, "value");
    }
    rdb_put_byte(&source.output, RDB_LIST);
    put_text(&source, "list");
    rdb_put_length(&source.output, 3);
    for (unsigned i = 0; i < 3; i++) rdb_put_string(&source.output, span_of(text, LONG / 2), i == 1);
    put_string(&source, "behind", "2");
    end_rdb(&source);
    source.piece = 10007;
    assert_int_equal(load(&source, keyspace, 2, &result), RDB_DONE);
    assert_int_equal(result.keys, 5);
    assert_holds(keyspace, 0, "long", text);
    assert_holds(keyspace, 0, "behind", "2");
    const struct record *hash = find(keyspace, 0, "hash");
    assert_true(record_is_paged(hash));
    assert_true(record_is_paged(find(keyspace, 0, "list")));
    free(text);
    rdb_output_free(&source.output);
    end_keyspace(keyspace);
}

static void many_keys_by_several_threads(void **state) {
    (void)state;
    struct source source;
    struct rdb_load_result result;
    struct rdb_load_progress progress = {0};
    struct keyspace *keyspace = make_keyspace();
    char name[32], value[32];
    begin_rdb(&source, 10);
    rdb_put_byte(&source.output, RDB_OP_RESIZE);
    rdb_put_length(&source.output, KEYS);
    rdb_put_length(&source.output, 0);
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(name, sizeof(name), "key:%u", i);
        snprintf(value, sizeof(value), "value of %u", i);
        put_string(&source, name, value);
    }
    end_rdb(&source);
    struct rdb_load_options options = options_for(keyspace, 3);
    options.progress = &progress;
    assert_int_equal(rdb_load_stream(read_source, &source, source.output.length, &options, &result), RDB_DONE);
    assert_int_equal(result.keys, KEYS);
    assert_int_equal(size_of(keyspace, 0), KEYS);
    assert_int_equal(progress.loaded_keys, KEYS);
    assert_int_equal(progress.expected_keys, KEYS);
    assert_int_equal(progress.total_bytes, source.output.length);
    assert_holds(keyspace, 0, "key:777", "value of 777");
    rdb_output_free(&source.output);
    end_keyspace(keyspace);
}

/* ---- files ---- */

static void write_file(const char *path, unsigned keys, size_t value_bytes) {
    const struct rdb_file_options options = {.path = path,
                                             .temporary = "temp.rdb",
                                             .save = {.compress = true},
                                             .checksum = true,
                                             .index = true,
                                             .redis_version = "7.2.4",
                                             .chunk_bytes = 16 << 10};
    struct rdb_file_error error = {0};
    struct rdb_lane lane;
    struct rdb_file *file = rdb_file_open(&options, &error);
    assert_non_null(file);
    rdb_lane_init(&lane, file);
    char name[32], *value = malloc(value_bytes);
    memset(value, 'v', value_bytes);
    for (unsigned i = 0; i < keys; i++) {
        struct record_plan plan = {.type = RECORD_STRING,
                                   .key = span_of(name, (size_t)snprintf(name, sizeof(name), "key:%u", i)),
                                   .value = span_of(value, value_bytes),
                                   .expiry_ms = RECORD_EXPIRY_NONE};
        struct record *record = record_write(malloc(record_size_for(&plan)), &plan);
        assert_true(rdb_lane_record(&lane, i % 2 ? 2 : 0, record));
        free(record);
    }
    free(value);
    assert_true(rdb_lane_end(&lane));
    assert_true(rdb_file_finish(file, &error));
}

static void damage(const char *path, long offset) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, offset < 0 ? SEEK_END : SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    fputc(byte ^ 1, file);
    fclose(file);
}

static void a_sidecar_is_used_when_it_fits(void **state) {
    (void)state;
    struct rdb_load_result result;
    write_file("dump.rdb", KEYS, 20);
    for (unsigned use = 0; use < 2; use++) {
        struct keyspace *keyspace = make_keyspace();
        struct rdb_load_options options = options_for(keyspace, 2);
        options.ignore_sidecar = !use;
        assert_int_equal(rdb_load_file("dump.rdb", &options, &result), RDB_DONE);
        assert_int_equal(result.used_sidecar, use);
        assert_int_equal(result.keys, KEYS);
        assert_int_equal(size_of(keyspace, 0), KEYS / 2);
        assert_int_equal(size_of(keyspace, 2), KEYS / 2);
        end_keyspace(keyspace);
    }
    /* One that is damaged is not believed. */
    struct keyspace *keyspace = make_keyspace();
    struct rdb_load_options options = options_for(keyspace, 2);
    damage("dump.rdb.idx", 100);
    assert_int_equal(rdb_load_file("dump.rdb", &options, &result), RDB_DONE);
    assert_false(result.used_sidecar);
    assert_int_equal(result.keys, KEYS);
    end_keyspace(keyspace);
    unlink("dump.rdb");
    unlink("dump.rdb.idx");
}

static void damage_in_a_chunk_is_found(void **state) {
    (void)state;
    struct rdb_load_result result;
    write_file("dump.rdb", KEYS, 20);
    damage("dump.rdb", 100000);
    struct keyspace *keyspace = make_keyspace();
    struct rdb_load_options options = options_for(keyspace, 2);
    assert_int_equal(rdb_load_file("dump.rdb", &options, &result), RDB_CORRUPT);
    assert_true(result.used_sidecar);
    assert_non_null(strstr(result.reason, "checksum of a chunk"));
    assert_true(result.offset <= 100000);
    end_keyspace(keyspace);
    unlink("dump.rdb");
    unlink("dump.rdb.idx");
}

static void a_file_that_is_not_there(void **state) {
    (void)state;
    struct rdb_load_result result;
    struct keyspace *keyspace = make_keyspace();
    struct rdb_load_options options = options_for(keyspace, 0);
    assert_int_equal(rdb_load_file("nothing.rdb", &options, &result), RDB_IO);
    assert_non_null(strstr(result.reason, "No such file"));
    end_keyspace(keyspace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_in_its_database),
        cmocka_unit_test(what_has_expired_is_dropped_if_asked_for),
        cmocka_unit_test(functions_and_modules_are_passed_by),
        cmocka_unit_test(a_key_that_is_there_twice),
        cmocka_unit_test(versions_and_types_that_are_unknown_are_refused),
        cmocka_unit_test(every_byte_may_be_the_last),
        cmocka_unit_test(every_bit_turned_over_is_found),
        cmocka_unit_test(without_a_checksum_damage_is_harmless),
        cmocka_unit_test(values_may_be_larger_than_any_buffer),
        cmocka_unit_test(many_keys_by_several_threads),
        cmocka_unit_test(a_sidecar_is_used_when_it_fits),
        cmocka_unit_test(damage_in_a_chunk_is_found),
        cmocka_unit_test(a_file_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
