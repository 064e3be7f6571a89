/* The path of a command, with handlers of the test's own: refusals, batches cut anywhere, replies that are not wanted,
 * limits, and what the host is told. */

#include "command/dispatch.h"
#include "command/families.h"
#include "command/string_value.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* ---- a family ---- */

static void command_get(struct call *call) {
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (lookup.record)
        string_reply(call, &call->keys[0], &lookup);
    else
        reply_null(call->reply);
}

static void command_put(struct call *call) {
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (string_store(call, &call->keys[0], &lookup, call->argv[2], RECORD_EXPIRY_NONE)) reply_ok(call->reply);
}

static void command_keys(struct call *call) {
    reply_array(call->reply, call->key_count);
    for (uint32_t i = 0; i < call->key_count; i++) reply_bulk(call->reply, call->keys[i].name);
}

static void command_fail(struct call *call) {
    reply_error(call->reply, "OOPS it failed");
}
static void command_quit(struct call *call) {
    call->session->closing = true;
    reply_ok(call->reply);
}
static void command_let_in(struct call *call) {
    call->session->authenticated = true;
    reply_ok(call->reply);
}
static void command_nothing(struct call *call) {
    reply_ok(call->reply);
}

/* BIG <n>: a bulk string of n bytes. */
static void command_big(struct call *call) {
    int64_t size;
    if (!call_integer_within(call, 1, 0, 10 << 20, NULL, &size)) return;
    char *bytes = calloc(1, (size_t)size + 1);
    reply_bulk(call->reply, span_of(bytes, (size_t)size));
    free(bytes);
}

/* MODE on|off|skip, as CLIENT REPLY. */
static void command_mode(struct call *call) {
    if (call_is(call, 1, "off")) call->session->reply_mode = SESSION_REPLY_OFF;
    if (call_is(call, 1, "skip")) call->session->reply_mode = SESSION_REPLY_SKIP;
    if (!call_is(call, 1, "on")) return;
    call->session->reply_mode = SESSION_REPLY_ON;
    reply_ok(call->reply);
}

static const struct command_spec box_subcommands[] = {
    {.name = "open", .handler = command_keys, .arity = 3, .keys = {KEY_AT(2, KEY_RO)}},
};

static const struct command_spec commands[] = {
    {.name = "get", .handler = command_get, .arity = 2, .flags = COMMAND_READONLY, .keys = {KEY_AT(1, KEY_RO)}},
    {.name = "put",
     .handler = command_put,
     .arity = 3,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM,
     .keys = {KEY_AT(1, KEY_OW)}},
    {.name = "many",
     .handler = command_keys,
     .arity = -2,
     .flags = COMMAND_READONLY,
     .keys = {KEYS_FROM(1, -1, 1, KEY_RO)}},
    {.name = "counted",
     .handler = command_keys,
     .arity = -2,
     .flags = COMMAND_READONLY | COMMAND_MOVABLE_KEYS,
     .keys = {KEYS_COUNTED(1, KEY_RO)}},
    {.name = "fail", .handler = command_fail, .arity = 1},
    {.name = "quit", .handler = command_quit, .arity = -1},
    {.name = "letin", .handler = command_let_in, .arity = 1, .flags = COMMAND_NO_AUTH},
    {.name = "nothing", .handler = command_nothing, .arity = -1},
    {.name = "loner", .handler = command_nothing, .arity = 1, .flags = COMMAND_NO_MULTI},
    {.name = "guarded", .handler = command_nothing, .arity = 1, .flags = COMMAND_PROTECTED},
    {.name = "secret", .handler = command_nothing, .arity = 1, .flags = COMMAND_SKIP_MONITOR},
    {.name = "alone", .handler = command_nothing, .arity = 1, .flags = COMMAND_EXCLUSIVE},
    {.name = "big", .handler = command_big, .arity = 2},
    {.name = "mode", .handler = command_mode, .arity = 2},
    {.name = "box", .arity = -2, .subcommands = box_subcommands, .subcommand_count = 1},
};

static int set_up(void **state) {
    const struct command_family families[] = {{commands, sizeof(commands) / sizeof(commands[0])},
                                              {transaction_commands, transaction_command_count}};
    *state = in_process_create(families, 2);
    return 0;
}

/* ---- refusals ---- */

static void unknown_commands_are_named_with_their_arguments(void **state) {
    in_process_expect(*state, "nosuch", "-ERR unknown command 'nosuch', with args beginning with: \r\n");
    in_process_expect(*state, "NoSuch a 'b c'",
                      "-ERR unknown command 'NoSuch', with args beginning with: 'a' 'b c' \r\n");
    in_process_expect(*state, "\"a\\r\\nb\" \"x\\r\\n+OK\"",
                      "-ERR unknown command 'a  b', with args beginning with: 'x  +OK' \r\n");
    in_process_expect(*state, "\"\"", "-ERR unknown command '', with args beginning with: \r\n");
}

static void a_long_unknown_command_is_cut(void **state) {
    struct in_process *server = *state;
    char bytes[1000];
    memset(bytes, 'a', sizeof(bytes));
    struct span arguments[50];
    for (size_t i = 0; i < 50; i++) arguments[i] = span_of(bytes, i == 0 || i == 49 ? 1000 : 20);
    in_process_run_arguments(server, arguments, 50);
    assert_in_range(server->reply_length, 200, 400);
    assert_int_equal(strncmp(server->reply, "-ERR unknown command 'aaaa", 26), 0);
    assert_string_equal(server->reply + server->reply_length - 2, "\r\n");
    in_process_run_arguments(server, (struct span[]){span_of(bytes, 1), span_of(bytes, 1000)}, 2);
    assert_in_range(server->reply_length, 150, 300);
}

static void arity_is_checked(void **state) {
    in_process_expect(*state, "get", "-ERR wrong number of arguments for 'get' command\r\n");
    in_process_expect(*state, "GET a b", "-ERR wrong number of arguments for 'get' command\r\n");
    in_process_expect(*state, "many", "-ERR wrong number of arguments for 'many' command\r\n");
    in_process_expect(*state, "box", "-ERR wrong number of arguments for 'box' command\r\n");
    in_process_expect(*state, "box open", "-ERR wrong number of arguments for 'box|open' command\r\n");
    in_process_expect(*state, "box shut x", "-ERR unknown subcommand 'shut'. Try BOX HELP.\r\n");
    in_process_expect(*state, "box open k", "*1\r\n$1\r\nk\r\n");
}

static void strangers_must_authenticate(void **state) {
    struct in_process *server = *state;
    server->session->authenticated = false;
    in_process_expect(server, "get a", "-NOAUTH Authentication required.\r\n");
    in_process_expect(server, "nosuch", "-ERR unknown command 'nosuch', with args beginning with: \r\n");
    in_process_expect(server, "letin", "+OK\r\n");
    in_process_expect(server, "get a", "$-1\r\n");
    server->session->authenticated = false;
    atomic_store(&server->host.open_to_all, true);
    in_process_expect(server, "get a", "$-1\r\n");
}

static void without_memory_only_what_needs_none_runs(void **state) {
    struct in_process *server = *state;
    atomic_store(&server->host.out_of_memory, true);
    in_process_expect(server, "put a 1", "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
    in_process_expect(server, "get a", "$-1\r\n");
}

static const char *refuse(void *ctx, const struct session *session, const struct command *command) {
    (void)ctx;
    (void)session;
    assert_string_equal(command->spec->name, "guarded");
    return "ERR not here";
}

static void the_host_may_refuse_protected_commands(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "guarded", "+OK\r\n");
    server->host.refuse_protected = refuse;
    in_process_expect(server, "guarded", "-ERR not here\r\n");
}

/* ---- statistics ---- */

static const struct command_counters *counters_of(const struct in_process *server, const char *name) {
    return &server->stats->counters[command_table_find(server->table, span_of_text(name))->id];
}

static void calls_failures_and_refusals_are_counted(void **state) {
    struct in_process *server = *state;
    in_process_run(server, "get a");
    in_process_run(server, "get b");
    in_process_run(server, "get");
    in_process_run(server, "fail");
    in_process_run(server, "nosuch");
    assert_int_equal(stat_get(&counters_of(server, "get")->calls), 2);
    assert_int_equal(stat_get(&counters_of(server, "get")->rejected), 1);
    assert_int_equal(stat_get(&counters_of(server, "get")->failed), 0);
    assert_int_equal(stat_get(&counters_of(server, "fail")->calls), 1);
    assert_int_equal(stat_get(&counters_of(server, "fail")->failed), 1);
    assert_int_equal(stat_get(&server->stats->commands_processed), 3);
    assert_int_equal(stat_get(&server->stats->errors_total), 3);
    assert_string_equal(server->stats->errors[0].code, "ERR");
    assert_int_equal(stat_get(&server->stats->errors[0].count), 2);
    assert_string_equal(server->stats->errors[1].code, "OOPS");
    assert_int_equal(server->session->commands, 5);
    assert_string_equal(server->session->last_command->spec->name, "fail");
}

/* ---- keys ---- */

static void keys_of_every_kind_reach_the_handler(void **state) {
    in_process_expect(*state, "many a b c", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    in_process_expect(*state, "counted 2 a b c", "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    in_process_expect(*state, "counted 0", "*0\r\n");
    in_process_expect(*state, "counted 3 a", "*0\r\n");
    in_process_expect(*state, "counted -1 a", "*0\r\n");
}

static void more_keys_than_the_arena_holds(void **state) {
    struct in_process *server = *state;
    enum { COUNT = 3 * LIMIT_BATCH_KEYS };
    static struct span arguments[COUNT + 1];
    static char names[COUNT][8];
    arguments[0] = SPAN_LITERAL("many");
    for (unsigned i = 0; i < COUNT; i++)
        arguments[i + 1] = span_of(names[i], (size_t)snprintf(names[i], sizeof(names[i]), "%u", i));
    in_process_run_arguments(server, arguments, COUNT + 1);
    assert_int_equal(strncmp(server->reply, "*1536\r\n$1\r\n0\r\n$1\r\n1\r\n", 21), 0);
    assert_string_equal(server->reply + server->reply_length - 10, "$4\r\n1535\r\n");
}

/* ---- input ---- */

struct client {
    struct in_process *server;
    struct resp_parser parser;
    struct reply reply;
    char *buffer;
    size_t begin, end; /* received, not yet consumed */
    enum dispatch_result result;
};

static void release_pin(void *ctx, void *pinned, uint32_t pin_tag) {
    keyspace_unpin(ctx, pin_tag, pinned);
}

static void connect_client(struct client *client, struct in_process *server) {
    *client = (struct client){.server = server, .buffer = malloc(1 << 20)};
    resp_parser_init(&client->parser);
    reply_init(&client->reply, NULL, 0, release_pin, server->keyspace);
}

static void disconnect(struct client *client) {
    resp_parser_reset(&client->parser);
    reply_clear(&client->reply);
    free(client->buffer);
}

/* Receives `input` and runs what is complete, going on after each FULL. */
static void receive(struct client *client, struct span input) {
    memcpy(client->buffer + client->end, input.data, input.length);
    client->end += input.length;
    do {
        size_t consumed, length = client->end - client->begin;
        /* In a block of its own, so that a sanitizer sees a byte read too many. */
        char *copy = malloc(length + 1);
        memcpy(copy, client->buffer + client->begin, length);
        client->result = dispatch_input(client->server->dispatcher, client->server->session, &client->parser,
                                        span_of(copy, length), &client->reply, &consumed);
        free(copy);
        assert_true(consumed <= length);
        client->begin += consumed;
    } while (client->result == DISPATCH_FULL);
}

/* Lines of words as arrays of bulk strings, which, unlike inline commands, make batches. Returns the length. */
static size_t encode(const char *lines, char *out) {
    size_t length = 0;
    while (*lines) {
        size_t line = strcspn(lines, "\n"), words = 1;
        for (size_t i = 0; i < line; i++) words += lines[i] == ' ';
        length += (size_t)sprintf(out + length, "*%zu\r\n", words);
        for (; words > 0; words--) {
            size_t word = strcspn(lines, " \n");
            length += (size_t)sprintf(out + length, "$%zu\r\n%.*s\r\n", word, (int)word, lines);
            lines += word + 1;
        }
    }
    return length;
}

static void receive_lines(struct client *client, const char *lines) {
    char *encoded = malloc(64 + 10 * strlen(lines));
    receive(client, span_of(encoded, encode(lines, encoded)));
    free(encoded);
}

static char *take_replies(struct client *client, size_t *length) {
    char *text = malloc(reply_bytes_pending(&client->reply) + 1);
    struct iovec vectors[64];
    size_t count;
    *length = 0;
    while (reply_bytes_pending(&client->reply) && (count = reply_vectors(&client->reply, vectors, 64)) > 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            memcpy(text + *length + bytes, vectors[i].iov_base, vectors[i].iov_len);
            bytes += vectors[i].iov_len;
        }
        reply_consume(&client->reply, bytes);
        *length += bytes;
    }
    text[*length] = '\0';
    return text;
}

static void expect_replies(struct client *client, const char *wanted) {
    size_t length;
    char *got = take_replies(client, &length);
    assert_string_equal(got, wanted);
    free(got);
}

static void a_pipeline_may_be_cut_anywhere(void **state) {
    struct in_process *server = *state;
    struct span input =
        SPAN_LITERAL("*3\r\n$3\r\nput\r\n$1\r\na\r\n$2\r\n\r\n\r\nget a\r\n\r\n*0\r\n*2\r\n$3\r\nget\r\n$1\r\nb\r\n"
                     "*1\r\n$4\r\nfail\r\nput b \"x y\"\r\n*2\r\n$3\r\nget\r\n$1\r\nb\r\nnosuch\r\n");
    for (size_t first = 0; first <= input.length; first++)
        for (size_t second = first; second <= input.length; second += 7) {
            struct client client;
            connect_client(&client, server);
            receive(&client, span_of(input.data, first));
            receive(&client, span_of(input.data + first, second - first));
            receive(&client, span_of(input.data + second, input.length - second));
            assert_int_equal(client.result, DISPATCH_MORE);
            assert_int_equal(client.begin, input.length);
            size_t length;
            char *got = take_replies(&client, &length);
            assert_string_equal(strchr(got, '$'), "$2\r\n\r\n\r\n$-1\r\n-OOPS it failed\r\n+OK\r\n$3\r\nx y\r\n"
                                                  "-ERR unknown command 'nosuch', with args beginning with: \r\n");
            free(got);
            disconnect(&client);
            struct view view = {.keyspace = server->keyspace, .now_ms = server->dispatcher->now_ms};
            keyspace_flush(&view);
        }
}

static void a_deep_pipeline_runs_batch_after_batch(void **state) {
    struct in_process *server = *state;
    struct client client;
    enum { COMMANDS = 10 * LIMIT_BATCH_COMMANDS + 7 };
    connect_client(&client, server);
    char text[64];
    for (unsigned i = 0; i < COMMANDS; i++) {
        snprintf(text, sizeof(text), "put key:%u %u\nget key:%u\n", i, i, i / 2);
        client.end += encode(text, client.buffer + client.end);
    }
    receive(&client, SPAN_LITERAL(""));
    size_t length, used = 0;
    char *got = take_replies(&client, &length);
    for (unsigned i = 0; i < COMMANDS; i++) {
        int digits = snprintf(NULL, 0, "%u", i / 2);
        used += (size_t)snprintf(text, sizeof(text), "+OK\r\n$%d\r\n%u\r\n", digits, i / 2);
        assert_memory_equal(got + used - strlen(text), text, strlen(text));
    }
    assert_int_equal(used, length);
    free(got);
    disconnect(&client);
}

static void malformed_input_is_answered_once_and_closes(void **state) {
    struct client client;
    connect_client(&client, *state);
    receive(&client, SPAN_LITERAL("put a 1\r\n*1\r\n$x\r\nget a\r\n"));
    assert_int_equal(client.result, DISPATCH_CLOSE);
    expect_replies(&client, "+OK\r\n-ERR Protocol error: invalid bulk length\r\n");
    disconnect(&client);
    assert_true(((struct in_process *)*state)->session->closing);
}

static void what_follows_the_last_command_is_not_run(void **state) {
    struct client client;
    connect_client(&client, *state);
    receive_lines(&client, "put a 1\nquit\nput a 2\n");
    assert_int_equal(client.result, DISPATCH_CLOSE);
    expect_replies(&client, "+OK\r\n+OK\r\n");
    disconnect(&client);
    ((struct in_process *)*state)->session->closing = false;
    in_process_expect(*state, "get a", "$1\r\n1\r\n");
}

static void strangers_are_let_in_one_command_at_a_time(void **state) {
    struct in_process *server = *state;
    struct client client;
    server->session->authenticated = false;
    connect_client(&client, server);
    receive(
        &client,
        SPAN_LITERAL("*1\r\n$5\r\nletin\r\n*12\r\n$4\r\nmany\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n"
                     "$1\r\n6\r\n$1\r\n7\r\n$1\r\n8\r\n$1\r\n9\r\n$1\r\na\r\n$1\r\nb\r\n"));
    assert_int_equal(client.result, DISPATCH_MORE);
    size_t length;
    char *got = take_replies(&client, &length);
    assert_int_equal(strncmp(got, "+OK\r\n*11\r\n", 10), 0);
    free(got);
    server->session->authenticated = false;
    receive(&client, SPAN_LITERAL("*11\r\n"));
    assert_int_equal(client.result, DISPATCH_CLOSE);
    expect_replies(&client, "-ERR Protocol error: unauthenticated multibulk length\r\n");
    disconnect(&client);
}

static void a_full_reply_stops_the_batch(void **state) {
    struct in_process *server = *state;
    struct client client;
    connect_client(&client, server);
    char input[256];
    size_t consumed = 0, full = encode("big 600000\nbig 600000\n", input);
    size_t length = full + encode("put a 1\nput a 2\n", input + full);
    length += (size_t)sprintf(input + length, "*2\r\n$3\r\nge");
    enum dispatch_result result = dispatch_input(server->dispatcher, server->session, &client.parser,
                                                 span_of(input, length), &client.reply, &consumed);
    assert_int_equal(result, DISPATCH_FULL);
    assert_int_equal(consumed, full);
    assert_int_equal(reply_bytes_pending(&client.reply), 2 * (600000 + 11));
    in_process_expect(server, "get a", "$-1\r\n");
    reply_clear(&client.reply);
    receive(&client, span_of(input + consumed, length - consumed));
    receive(&client, SPAN_LITERAL("t\r\n$1\r\na\r\n"));
    expect_replies(&client, "+OK\r\n+OK\r\n$1\r\n2\r\n");
    disconnect(&client);
}

static void proto_max_bulk_len_is_the_hosts(void **state) {
    struct in_process *server = *state;
    struct client client;
    connect_client(&client, server);
    atomic_store(&server->host.bulk_bytes_max, 5);
    receive(&client, SPAN_LITERAL("*3\r\n$3\r\nput\r\n$1\r\na\r\n$6\r\n"));
    assert_int_equal(client.result, DISPATCH_CLOSE);
    expect_replies(&client, "-ERR Protocol error: invalid bulk length\r\n");
    disconnect(&client);
}

/* ---- CLIENT REPLY ---- */

static void replies_that_are_not_wanted_are_dropped(void **state) {
    struct client client;
    connect_client(&client, *state);
    receive_lines(&client, "put a 1\nmode off\nput a 2\nnosuch\nbig 300000\nfail\nmode on\nget a\n");
    expect_replies(&client, "+OK\r\n+OK\r\n$1\r\n2\r\n");
    receive_lines(&client, "mode skip\nget a\nget a\n");
    expect_replies(&client, "$1\r\n2\r\n");
    receive_lines(&client, "mode skip\nmode skip\nget a\nget a\n");
    expect_replies(&client, "$1\r\n2\r\n");
    receive_lines(&client, "mode skip\nmode off\nget a\nmode on\n");
    expect_replies(&client, "+OK\r\n");
    disconnect(&client);
}

static void dropped_replies_cost_no_memory(void **state) {
    struct client client;
    connect_client(&client, *state);
    receive(&client, SPAN_LITERAL("mode off\r\n"));
    for (unsigned i = 0; i < 200; i++) {
        receive_lines(&client, "big 100000\nbig 100000\nbig 40000\n");
        assert_true(client.reply.block_count <= 1);
    }
    disconnect(&client);
}

static void the_pins_of_dropped_replies_are_released(void **state) {
    struct in_process *server = *state;
    struct client client;
    char *value = malloc(100000);
    memset(value, 'v', 100000);
    in_process_run_with_value(server, "put", "a", span_of(value, 100000));
    free(value);
    connect_client(&client, server);
    receive_lines(&client, "get a\nmode off\nget a\nget a\n");
    struct view view = {.keyspace = server->keyspace, .now_ms = server->dispatcher->now_ms};
    struct key key = keyspace_key(server->keyspace, SPAN_LITERAL("a"));
    struct lookup lookup = keyspace_find(&view, &key);
    assert_true(heap_is_pinned(&lookup.shard->heap, lookup.record));
    disconnect(&client);
    assert_false(heap_is_pinned(&lookup.shard->heap, lookup.record));
}

/* ---- the host ---- */

struct host_log {
    unsigned monitored, slow, stopped, resumed;
    bool stopping;
    unsigned waits; /* how often to say "wait" */
};

static void on_monitor(void *ctx, const struct call *call) {
    struct host_log *log = ctx;
    assert_non_null(call->command);
    log->monitored++;
}
static void on_slow(void *ctx, const struct call *call, uint64_t elapsed_ns) {
    struct host_log *log = ctx;
    (void)call;
    (void)elapsed_ns;
    log->slow++;
}
static void on_stop(void *ctx, unsigned worker) {
    struct host_log *log = ctx;
    assert_int_equal(worker, 0);
    log->stopped++;
}
static void on_resume(void *ctx, unsigned worker) {
    struct host_log *log = ctx;
    assert_int_equal(worker, 0);
    assert_int_equal(log->stopped, ++log->resumed);
}
static bool on_wait(void *ctx, const struct session *session, const struct command *command, int64_t now_ms) {
    struct host_log *log = ctx;
    (void)session;
    (void)now_ms;
    return (command->flags & COMMAND_WRITE) && log->waits && log->waits--;
}

static void the_host_is_told(void **state) {
    struct in_process *server = *state;
    struct host_log log = {0};
    server->host.ctx = &log;
    server->host.monitor = on_monitor;
    server->host.slow = on_slow;
    server->host.stop_workers = on_stop;
    server->host.resume_workers = on_resume;
    in_process_run(server, "get a");
    in_process_run(server, "alone");
    assert_int_equal(log.monitored, 0);
    assert_int_equal(log.slow, 0);
    assert_int_equal(log.stopped, 1);
    assert_int_equal(log.resumed, 1);
    atomic_store(&server->host.monitors, 1);
    atomic_store(&server->host.slow_ns, 0);
    in_process_run(server, "get a");
    in_process_run(server, "secret");
    in_process_run(server, "nosuch");
    in_process_run(server, "get");
    assert_int_equal(log.monitored, 1);
    assert_int_equal(log.slow, 2);
}

static void a_paused_client_waits_with_its_commands(void **state) {
    struct in_process *server = *state;
    struct host_log log = {.waits = 1};
    struct client client;
    connect_client(&client, server);
    server->host.ctx = &log;
    server->host.must_wait = on_wait;
    atomic_store(&server->host.paused, true);
    receive_lines(&client, "get a\nput a 1\nget a\n");
    assert_int_equal(client.result, DISPATCH_PAUSED);
    assert_true(server->session->paused);
    assert_int_equal(client.begin, strlen("*2\r\n$3\r\nget\r\n$1\r\na\r\n"));
    expect_replies(&client, "$-1\r\n");
    receive(&client, SPAN_LITERAL(""));
    assert_int_equal(client.result, DISPATCH_MORE);
    assert_false(server->session->paused);
    expect_replies(&client, "+OK\r\n$1\r\n1\r\n");
    disconnect(&client);
}

/* ---- helpers of handlers ---- */

static void numbers_are_checked(void **state) {
    in_process_expect_bytes(*state, "big 3", "$3\r\n\0\0\0\r\n");
    in_process_expect(*state, "big x", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(*state, "big -1", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(*state, "big 99999999999999999999", "-ERR value is not an integer or out of range\r\n");
    in_process_expect(*state, "big \"\"", "-ERR value is not an integer or out of range\r\n");
}

static void a_set_of_shards_is_a_bitmap(void **state) {
    (void)state;
    const struct keyspace_options options = {.shards = LIMIT_SHARDS, .databases = 1, .locking = true};
    struct keyspace *keyspace = keyspace_create(&options);
    struct shard_set set = {0};
    static const uint32_t numbers[] = {0, 63, 64, 500, LIMIT_SHARDS - 1};
    for (size_t i = 0; i < 5; i++) shard_set_add(&set, numbers[i]);
    shard_set_lock(keyspace, &set);
    for (uint32_t i = 0, taken = 0; i < LIMIT_SHARDS; i++) {
        bool wanted = taken < 5 && numbers[taken] == i;
        assert_int_equal(atomic_load(&keyspace->shards[i].lock), wanted);
        taken += wanted;
    }
    shard_set_unlock(keyspace, &set);
    for (uint32_t i = 0; i < LIMIT_SHARDS; i++) assert_int_equal(atomic_load(&keyspace->shards[i].lock), 0);
    keyspace_destroy(keyspace);
}

int main(void) {
#define IN_PROCESS(test) cmocka_unit_test_setup_teardown(test, set_up, in_process_stop)
    const struct CMUnitTest tests[] = {
        IN_PROCESS(unknown_commands_are_named_with_their_arguments),
        IN_PROCESS(a_long_unknown_command_is_cut),
        IN_PROCESS(arity_is_checked),
        IN_PROCESS(strangers_must_authenticate),
        IN_PROCESS(without_memory_only_what_needs_none_runs),
        IN_PROCESS(the_host_may_refuse_protected_commands),
        IN_PROCESS(calls_failures_and_refusals_are_counted),
        IN_PROCESS(keys_of_every_kind_reach_the_handler),
        IN_PROCESS(more_keys_than_the_arena_holds),
        IN_PROCESS(a_pipeline_may_be_cut_anywhere),
        IN_PROCESS(a_deep_pipeline_runs_batch_after_batch),
        IN_PROCESS(malformed_input_is_answered_once_and_closes),
        IN_PROCESS(what_follows_the_last_command_is_not_run),
        IN_PROCESS(strangers_are_let_in_one_command_at_a_time),
        IN_PROCESS(a_full_reply_stops_the_batch),
        IN_PROCESS(proto_max_bulk_len_is_the_hosts),
        IN_PROCESS(replies_that_are_not_wanted_are_dropped),
        IN_PROCESS(dropped_replies_cost_no_memory),
        IN_PROCESS(the_pins_of_dropped_replies_are_released),
        IN_PROCESS(the_host_is_told),
        IN_PROCESS(a_paused_client_waits_with_its_commands),
        IN_PROCESS(numbers_are_checked),
        cmocka_unit_test(a_set_of_shards_is_a_bitmap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
