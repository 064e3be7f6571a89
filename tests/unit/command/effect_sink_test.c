/* What goes into the journal: the words of commands that changed something, what handlers tell instead, transactions as
 * one block, and what expires in front of the command that met it. */

#include "command/effect.h"
#include "command/effect_sink.h"
#include "command/families.h"
#include "command/transaction.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* ---- handlers that tell ---- */

static void touch(struct call *call, const char *value) {
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    struct record_plan plan = {.type = RECORD_STRING, .value = span_of_text(value), .expiry_ms = RECORD_EXPIRY_NONE};
    assert_true(keyspace_store(&call->view, &call->keys[0], &lookup, &plan));
}

/* TELL key word...: each word is told as an effect of its own. */
static void command_tell(struct call *call) {
    touch(call, "told");
    for (uint32_t i = 2; i < call->argc; i++) {
        effect_begin(call);
        effect_put_text(call, "NOTE");
        effect_put(call, call->argv[i]);
        effect_put_integer(call, -(int64_t)i);
        effect_end(call);
    }
    reply_ok(call->reply);
}

/* MANY key n: one effect of n words. */
static void command_many(struct call *call) {
    int64_t count;
    if (!call_integer(call, 2, &count)) return;
    effect_begin(call);
    for (int64_t i = 0; i < count; i++) effect_put_text(call, "w");
    effect_end(call);
    reply_ok(call->reply);
}

/* SILENT key: changes it and says that it is not worth telling; FORCE: the other way round. */
static void command_silent(struct call *call) {
    touch(call, "silent");
    call_effect_of(call, "NEVER", call->argv[1]);
    call_effect_none(call);
    reply_ok(call->reply);
}

static void command_force(struct call *call) {
    call_effect_force(call);
    reply_ok(call->reply);
}

/* MEET key other: tells an effect, and only then looks at the other key, which may have expired. */
static void command_meet(struct call *call) {
    call_effect_of(call, "NOTE", call->argv[1]);
    struct key other = keyspace_key(call->view.keyspace, call->argv[2]);
    (void)keyspace_find(&call->view, &other);
    reply_ok(call->reply);
}

/* AWAIT key: waits for the key to have a string, then removes it. */
static void command_hollow(struct call *call) {
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (lookup.record) keyspace_remove(&call->view, &call->keys[0], &lookup);
    call->waits = true; /* as if it had met a cold record: what it says is void */
    effect_begin(call);
    effect_put_text(call, "HALF");
}

#define WRITES(name_, handler_, arity_)                                                                                \
    {                                                                                                                  \
        .name = (name_), .handler = (handler_), .arity = (arity_), .flags = COMMAND_WRITE, .keys = {                   \
            KEY_AT(1, KEY_RW)                                                                                          \
        }                                                                                                              \
    }
static const struct command_spec own_commands[] = {
    WRITES("tell", command_tell, -2),  WRITES("many", command_many, 3), WRITES("silent", command_silent, 2),
    WRITES("force", command_force, 2), WRITES("meet", command_meet, 3), WRITES("hollow", command_hollow, 2),
};

/* ---- a server with a journal ---- */

struct fixture {
    struct in_process *server;
    struct journal *journal;
    struct journal_reader *reader;
    char skipped[65536];
    char text[16384]; /* what was read, one effect a line, words separated by blanks */
};

static int start(void **state) {
    const struct command_family families[] = {
        {own_commands, sizeof(own_commands) / sizeof(own_commands[0])},
        {string_commands, string_command_count},
        {hash_commands, hash_command_count},
        {transaction_commands, transaction_command_count},
        {key_expiry_commands, key_expiry_command_count},
        {database_commands, database_command_count},
    };
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->server = in_process_create(families, sizeof(families) / sizeof(families[0]));
    fixture->journal = journal_create(&(struct journal_options){.capacity_bytes = 65536, .writers = 1});
    fixture->reader = journal_attach(fixture->journal, 0, true);
    assert_non_null(fixture->reader);
    fixture->server->dispatcher->effects.journal = fixture->journal;
    effect_sink_bind(&fixture->server->dispatcher->effects);
    effect_sink_listen(fixture->server->keyspace, true);
    *state = fixture;
    return 0;
}

static int stop(void **state) {
    struct fixture *fixture = *state;
    effect_sink_free(&fixture->server->dispatcher->effects);
    effect_sink_bind(NULL);
    in_process_destroy(fixture->server);
    journal_detach(fixture->reader);
    journal_destroy(fixture->journal);
    free(fixture);
    return 0;
}

/* Bytes of RESP to lines of words. */
static void flatten(const char *bytes, size_t length, char *text) {
    struct resp_parser parser;
    struct resp_limits limits = {.bulk_bytes = LIMIT_VALUE_BYTES};
    resp_parser_init(&parser);
    while (length > 0) {
        struct span room[64], *argv;
        uint32_t argc;
        size_t consumed;
        assert_int_equal(resp_parse(&parser, span_of(bytes, length), &limits, room, 64, &argv, &argc, &consumed),
                         RESP_PARSE_DONE);
        for (uint32_t i = 0; i < argc; i++)
            text += sprintf(text, "%s%.*s", i ? " " : "", (int)argv[i].length, argv[i].data);
        text += sprintf(text, "\n");
        bytes += consumed;
        length -= consumed;
    }
    *text = '\0';
    resp_parser_reset(&parser);
}

/* What was appended since the last time. */
static const char *effects(struct fixture *fixture) {
    static char bytes[65536];
    size_t length;
    assert_true(journal_read(fixture->reader, bytes, sizeof(bytes), &length));
    flatten(bytes, length, fixture->text);
    return fixture->text;
}

static void expect(struct fixture *fixture, const char *line, const char *wanted) {
    in_process_run(fixture->server, line);
    assert_string_equal(effects(fixture), wanted);
}

/* ---- one command ---- */

static void test_own_words_of_what_changed_something(void **state) {
    struct fixture *fixture = *state;
    expect(fixture, "set a \"two words\"", "SELECT 0\nset a two words\n");
    expect(fixture, "get a", "");
    expect(fixture, "set a b NX", "");
    expect(fixture, "hset a f v", ""); /* fails */
    expect(fixture, "APPEND a x", "APPEND a x\n");
    expect(fixture, "select 3", "");
    expect(fixture, "set b 1", "SELECT 3\nset b 1\n");
    expect(fixture, "nonsense", "");
}

static void test_what_a_handler_tells_replaces_its_words(void **state) {
    struct fixture *fixture = *state;
    expect(fixture, "tell k one", "SELECT 0\nNOTE one -2\n");
    expect(fixture, "tell k one two", "MULTI\nNOTE one -2\nNOTE two -3\nEXEC\n");
    expect(fixture, "tell k", "tell k\n");
    expect(fixture, "silent k", "");
    expect(fixture, "force k", "force k\n");
    expect(fixture, "many k 9", "w w w w w w w w w\n");
    expect(fixture, "many k 10", "w w w w w w w w w w\n");
    expect(fixture, "many k 12", "w w w w w w w w w w w w\n");
}

static void test_flushing_is_told_always_and_swapping_when_it_happens(void **state) {
    struct fixture *fixture = *state;
    expect(fixture, "flushall", "SELECT 0\nflushall\n");
    expect(fixture, "set a 1", "set a 1\n");
    expect(fixture, "swapdb 0 1", "swapdb 0 1\n");
    expect(fixture, "swapdb 2 2", "");
}

static void test_a_run_that_waits_tells_nothing(void **state) {
    struct fixture *fixture = *state;
    struct span argv[] = {SPAN_LITERAL("hollow"), SPAN_LITERAL("k")};
    struct reply reply;
    in_process_run(fixture->server, "set k v");
    (void)effects(fixture);
    reply_init(&reply, NULL, 0, NULL, NULL);
    (void)dispatch_arguments(fixture->server->dispatcher, fixture->server->session, argv, 2, &reply);
    reply_clear(&reply);
    assert_string_equal(effects(fixture), "");
    expect(fixture, "tell k x", "NOTE x -2\n");
}

static void test_nobody_is_told_while_the_journal_has_no_reader(void **state) {
    struct fixture *fixture = *state;
    fixture->server->dispatcher->effects.journal = NULL;
    expect(fixture, "tell k x", "");
    expect(fixture, "set k x", "");
    assert_int_equal(journal_end(fixture->journal), 0);
}

static void test_a_session_that_replays_tells_nothing(void **state) {
    struct fixture *fixture = *state;
    fixture->server->session->replaying = true;
    expect(fixture, "set k x", "");
    expect(fixture, "multi", "");
    expect(fixture, "set k y", "");
    in_process_expect(fixture->server, "exec", "*1\r\n+OK\r\n");
    assert_string_equal(effects(fixture), "");
}

static void note_session(void *ctx, const struct session *session, unsigned rest_ms) {
    (void)rest_ms;
    *(const struct session **)ctx = session;
}

static void test_what_writes_waits_while_the_ring_is_crowded(void **state) {
    struct fixture *fixture = *state;
    struct in_process *server = fixture->server;
    struct session *session = server->session, *paused = NULL;
    char value[1024] = {0};
    while (!journal_is_crowded(fixture->journal))
        in_process_run_with_value(server, "set", "k", span_of(value, sizeof(value)));
    server->host.ctx = &paused;
    server->host.come_again = note_session;
    session->connection = fixture; /* somebody who can wait */
    in_process_expect(server, "append k x", "");
    assert_ptr_equal(paused, session);
    assert_true(session->paused);
    session->paused = false;
    in_process_expect(server, "strlen k", ":1024\r\n");
    in_process_run(server, "multi");
    in_process_run(server, "append k x");
    in_process_expect(server, "exec", "");
    assert_true(session->paused);
    size_t length;
    assert_true(journal_read(fixture->reader, fixture->skipped, sizeof(fixture->skipped), &length));
    session->paused = false;
    in_process_expect(server, "exec", "*1\r\n:1025\r\n");
    assert_false(session->paused);
    session->connection = NULL;
}

/* ---- transactions ---- */

static void test_a_transaction_is_one_block(void **state) {
    struct fixture *fixture = *state;
    in_process_run(fixture->server, "multi");
    in_process_run(fixture->server, "set a 1");
    in_process_run(fixture->server, "get a");
    in_process_run(fixture->server, "select 2");
    in_process_run(fixture->server, "tell b one two");
    in_process_run(fixture->server, "hset a f v"); /* fails */
    in_process_run(fixture->server, "silent a");
    expect(fixture, "exec", "SELECT 0\nMULTI\nset a 1\nSELECT 2\nNOTE one -2\nNOTE two -3\nhset a f v\nEXEC\n");
    expect(fixture, "set c 1", "set c 1\n"); /* in database 2, which the block has left selected */
}

static void test_a_block_begins_in_the_database_of_its_first_effect(void **state) {
    struct fixture *fixture = *state;
    struct in_process *server = fixture->server;
    in_process_run(server, "select 2");
    in_process_run(server, "set c 1 px 10");
    in_process_run(server, "select 0");
    in_process_run(server, "set a 1");
    (void)effects(fixture);
    in_process_advance(server, 20);
    in_process_run(server, "multi");
    in_process_run(server, "get a");
    in_process_run(server, "select 2");
    in_process_run(server, "meet x c"); /* the removal goes before what was told first */
    in_process_run(server, "set a 1");
    in_process_run(server, "select 0");
    in_process_run(server, "set a 2");
    expect(fixture, "exec", "SELECT 2\nMULTI\nDEL c\nNOTE x\nset a 1\nSELECT 0\nset a 2\nEXEC\n");
}

static void test_a_block_of_one_is_none(void **state) {
    struct fixture *fixture = *state;
    in_process_run(fixture->server, "multi");
    in_process_run(fixture->server, "get a");
    in_process_run(fixture->server, "set a 1");
    expect(fixture, "exec", "SELECT 0\nset a 1\n");
    in_process_run(fixture->server, "multi");
    in_process_run(fixture->server, "get a");
    expect(fixture, "exec", "");
    in_process_run(fixture->server, "multi");
    in_process_run(fixture->server, "set a 1");
    expect(fixture, "discard", "");
}

/* ---- expiry ---- */

static void test_an_expired_key_goes_before_the_command_that_met_it(void **state) {
    struct fixture *fixture = *state;
    struct in_process *server = fixture->server;
    in_process_run(server, "set a 1 px 10");
    in_process_run(server, "set b 1 px 10");
    in_process_run(server, "set c 1 px 10");
    (void)effects(fixture);
    in_process_advance(server, 20);
    expect(fixture, "get a", "DEL a\n");
    expect(fixture, "set b 2 NX", "DEL b\nSET b 2\n");
    expect(fixture, "meet x c", "DEL c\nNOTE x\n");
    expect(fixture, "get c", "");
}

static void test_within_a_transaction_it_goes_before_its_command_in_the_block(void **state) {
    struct fixture *fixture = *state;
    struct in_process *server = fixture->server;
    in_process_run(server, "set b 1 px 10");
    in_process_run(server, "set c 1 px 10");
    (void)effects(fixture);
    in_process_advance(server, 20);
    in_process_run(server, "multi");
    in_process_run(server, "set a 1");
    in_process_run(server, "meet x b");
    in_process_run(server, "get c");
    in_process_run(server, "set d 1");
    expect(fixture, "exec", "MULTI\nset a 1\nDEL b\nNOTE x\nDEL c\nset d 1\nEXEC\n");
}

static void test_expired_fields_are_told_one_by_one(void **state) {
    struct fixture *fixture = *state;
    struct in_process *server = fixture->server;
    in_process_run(server, "hset h f 1 g 2 k 3");
    in_process_run(server, "hpexpire h 10 fields 2 f g");
    (void)effects(fixture);
    in_process_advance(server, 20);
    expect(fixture, "hset h f 9", "HDEL h f\nHDEL h g\nhset h f 9\n");
    in_process_run(server, "hdel h k");
    in_process_run(server, "hpexpire h 10 fields 1 f");
    (void)effects(fixture);
    in_process_advance(server, 20);
    expect(fixture, "hgetall h", "HDEL h f\n");
    in_process_expect(server, "hlen h", ":0\r\n");
}

static void test_the_sweep_tells_what_it_removes(void **state) {
    struct fixture *fixture = *state;
    struct in_process *server = fixture->server;
    in_process_run(server, "select 1");
    in_process_run(server, "set a 1 px 10");
    (void)effects(fixture);
    in_process_advance(server, 20);
    for (uint32_t i = 0; i < server->keyspace->shard_count; i++)
        (void)keyspace_sweep(server->keyspace, i, server->dispatcher->now_ms, 1000000, NULL);
    assert_string_equal(effects(fixture), "DEL a\n");
}

static void test_nothing_expires_for_a_session_that_replays(void **state) {
    struct fixture *fixture = *state;
    struct in_process *server = fixture->server;
    in_process_run(server, "set a 1 px 10");
    in_process_run(server, "hset h f 1");
    in_process_run(server, "hpexpire h 10 fields 1 f");
    in_process_advance(server, 20);
    server->session->replaying = true;
    in_process_expect(server, "get a", "$1\r\n1\r\n");
    in_process_expect(server, "hget h f", "$1\r\n1\r\n");
    in_process_expect(server, "hsetnx h f 2", ":0\r\n");
    in_process_expect(server, "set a 2 nx", "$-1\r\n");
    in_process_expect(server, "pexpireat a 1000", ":1\r\n");
    in_process_expect(server, "get a", "$1\r\n1\r\n");
    server->session->replaying = false;
    in_process_expect(server, "get a", "$-1\r\n");
    in_process_expect(server, "hget h f", "$-1\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_own_words_of_what_changed_something, start, stop),
        cmocka_unit_test_setup_teardown(test_what_a_handler_tells_replaces_its_words, start, stop),
        cmocka_unit_test_setup_teardown(test_flushing_is_told_always_and_swapping_when_it_happens, start, stop),
        cmocka_unit_test_setup_teardown(test_a_run_that_waits_tells_nothing, start, stop),
        cmocka_unit_test_setup_teardown(test_nobody_is_told_while_the_journal_has_no_reader, start, stop),
        cmocka_unit_test_setup_teardown(test_a_session_that_replays_tells_nothing, start, stop),
        cmocka_unit_test_setup_teardown(test_what_writes_waits_while_the_ring_is_crowded, start, stop),
        cmocka_unit_test_setup_teardown(test_a_transaction_is_one_block, start, stop),
        cmocka_unit_test_setup_teardown(test_a_block_begins_in_the_database_of_its_first_effect, start, stop),
        cmocka_unit_test_setup_teardown(test_a_block_of_one_is_none, start, stop),
        cmocka_unit_test_setup_teardown(test_an_expired_key_goes_before_the_command_that_met_it, start, stop),
        cmocka_unit_test_setup_teardown(test_within_a_transaction_it_goes_before_its_command_in_the_block, start, stop),
        cmocka_unit_test_setup_teardown(test_expired_fields_are_told_one_by_one, start, stop),
        cmocka_unit_test_setup_teardown(test_the_sweep_tells_what_it_removes, start, stop),
        cmocka_unit_test_setup_teardown(test_nothing_expires_for_a_session_that_replays, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
