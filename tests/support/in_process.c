/* See in_process.h. Lines of words go in as inline commands, so that the parser's quoting rules serve here too. */

#include "tests/support/in_process.h"

#include "base/clock.h"
#include "base/number.h"
#include "command/families.h"
#include "keyspace/keyspace_tier.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { VECTORS = 64, SHARDS = 4, SECRET_SEED = 7, RANDOM_SEED = 11, TURN_NS = 1000000000, SLICE_NS = 1000000 };

static void release_pin(void *ctx, void *pinned, uint32_t pin_tag) {
    keyspace_unpin(ctx, pin_tag, pinned);
}

static void create_keyspace(struct in_process *server, const struct in_process_options *options) {
    const int node = 0;
    const struct tier_pool *pool = server->tier ? tier_pool_of(server->tier) : NULL;
    const struct keyspace_options keyspace = {.shards = options->shards ? options->shards : SHARDS,
                                              .seed = pool ? pool->header.seed : SECRET_SEED,
                                              .tier = server->tier,
                                              .reserve_bytes = options->reserve_bytes,
                                              .nodes = options->far_bytes_max ? &node : NULL,
                                              .node_count = options->far_bytes_max ? 1 : 0,
                                              .far_nodes = options->far_bytes_max ? &node : NULL,
                                              .far_bytes_max = options->far_bytes_max};
    server->keyspace = keyspace_create(&keyspace);
    assert(server->keyspace);
}

static void create_tier(struct in_process *server, const struct tier_options *options) {
    struct tier_options tier = *options;
    char error[512] = "";
    tier.ports = 1;
    server->tier = tier_create(&tier, error, sizeof(error));
    if (!server->tier) fail_msg("%s", error);
    server->port = tier_port_of(server->tier, 0);
}

struct in_process *in_process_create_with(const struct in_process_options *options) {
    struct in_process *server = calloc(1, sizeof(*server));
    assert(server);
    if (clock_tick_source.ns_per_tick_scaled == 0) clock_init();
    clock_freeze_unix_us(IN_PROCESS_START_MS * 1000);
    if (options->tier) create_tier(server, options->tier);
    create_keyspace(server, options);
    server->table = command_table_create(options->families, options->family_count);
    assert(server->table);
    server->stats = command_stats_create(command_table_ids(server->table));
    server->dispatcher = malloc(sizeof(*server->dispatcher));
    assert(server->stats && server->dispatcher);
    atomic_store(&server->host.slow_ns, UINT64_MAX);
    atomic_store(&server->host.bulk_bytes_max, LIMIT_VALUE_BYTES);
    dispatcher_init(server->dispatcher, server->keyspace, server->table, &server->host, server->stats, 0, RANDOM_SEED);
    server->dispatcher->now_ms = IN_PROCESS_START_MS;
    server->dispatcher->port = server->port;
    session_init(&server->own_session, 1, IN_PROCESS_START_MS);
    server->own_session.authenticated = true;
    server->session = &server->own_session;
    return server;
}

struct in_process *in_process_create(const struct command_family *families, unsigned count) {
    const struct in_process_options options = {.families = families, .family_count = count};
    return in_process_create_with(&options);
}

void in_process_end_session(struct in_process *server, struct session *session) {
    if (server->port) tier_release(server->port, &session->waiter);
    transaction_unwatch(server->dispatcher, session, false);
    session_free(session);
}

void in_process_destroy(struct in_process *server) {
    assert(keyspace_validate(server->keyspace));
    in_process_end_session(server, &server->own_session);
    command_stats_destroy(server->stats);
    command_table_destroy(server->table);
    keyspace_destroy(server->keyspace);
    tier_destroy(server->tier);
    free(server->dispatcher);
    free(server->reply);
    free(server);
    clock_freeze_unix_us(-1);
}

int in_process_start_strings(void **state) {
    const struct command_family families[] = {{string_commands, string_command_count}};
    *state = in_process_create(families, 1);
    return 0;
}

int in_process_stop(void **state) {
    in_process_destroy(*state);
    return 0;
}

void in_process_advance(struct in_process *server, int64_t ms) {
    server->dispatcher->now_ms += ms;
    clock_freeze_unix_us(server->dispatcher->now_ms * 1000);
}

/* Copies what a socket would have sent to server->reply. */
static const char *collect(struct in_process *server, struct reply *reply) {
    struct iovec vectors[VECTORS];
    size_t count, pending = reply_bytes_pending(reply);
    if (pending + 1 > server->reply_capacity) {
        server->reply_capacity = 2 * (pending + 1);
        server->reply = realloc(server->reply, server->reply_capacity);
        assert(server->reply);
    }
    server->reply_length = 0;
    while (reply_bytes_pending(reply) && (count = reply_vectors(reply, vectors, VECTORS)) > 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            memcpy(server->reply + server->reply_length + bytes, vectors[i].iov_base, vectors[i].iov_len);
            bytes += vectors[i].iov_len;
        }
        reply_consume(reply, bytes);
        server->reply_length += bytes;
    }
    assert(server->reply_length == pending);
    server->reply[pending] = '\0';
    reply_clear(reply);
    return server->reply;
}

static void begin_reply(struct in_process *server, struct reply *reply) {
    reply_init(reply, NULL, 0, release_pin, server->keyspace);
    reply->resp3 = server->session->protocol == 3;
}

/* ---- the tier's turns ---- */

/* Each turn is later by a second than the one before, so that what is tried twice a second is tried. */
void in_process_turn(struct in_process *server) {
    static int64_t now_ns;
    if (now_ns == 0) now_ns = clock_monotonic_ns();
    tier_port_turn_end(server->port, now_ns += TURN_NS);
    tier_port_reap(server->port);
}

/* Until the session's reads have ended. */
static void wait_for_records(struct in_process *server) {
    server->waits++;
    for (;;) {
        struct tier_waiter *waiter;
        while ((waiter = tier_next_ready(server->port)))
            if (waiter == &server->session->waiter) return;
        assert(tier_port_in_flight(server->port) > 0);
        tier_port_wait(server->port);
    }
}

void in_process_settle(struct in_process *server) {
    struct tier_figures figures;
    struct tier_port *images = tier_image_port(server->tier); /* no walker has a thread of its own here */
    do {
        tier_port_flush(server->port);
        in_process_turn(server);
        tier_port_wait(server->port);
        if (images) tier_port_flush(images);
        if (images) tier_port_wait(images);
        tier_figures(server->tier, &figures);
    } while (figures.unwritten_bytes > 0 || tier_port_in_flight(server->port) > 0);
}

static void demote_shard(struct in_process *server, uint32_t shard, uint32_t database, struct span pattern) {
    uint64_t position = 0;
    do {
        enum demotion_status status;
        keyspace_demote_matching(server->keyspace, shard, database, server->port, pattern, SLICE_NS, &position,
                                 &status);
        if (status == DEMOTION_BUSY) in_process_settle(server);
        if (status == DEMOTION_FULL) fail_msg("the tier is full");
    } while (position);
}

void in_process_demote(struct in_process *server, const char *pattern) {
    for (uint32_t shard = 0; shard < server->keyspace->shard_count; shard++)
        for (uint32_t database = 0; database < server->keyspace->database_count; database++)
            if (server->keyspace->shards[shard].databases[database])
                demote_shard(server, shard, database, span_of_text(pattern));
}

/* ---- running ---- */

const char *in_process_run_input(struct in_process *server, struct span input) {
    struct reply reply;
    struct resp_parser parser;
    enum dispatch_result result;
    size_t consumed, done = 0;
    begin_reply(server, &reply);
    resp_parser_init(&parser);
    do {
        result = dispatch_input(server->dispatcher, server->session, &parser,
                                span_of(input.data + done, input.length - done), &reply, &consumed);
        done += consumed;
        if (result == DISPATCH_WAITS) wait_for_records(server);
    } while (result == DISPATCH_WAITS);
    resp_parser_reset(&parser);
    return collect(server, &reply);
}

const char *in_process_run(struct in_process *server, const char *line) {
    size_t length = strlen(line);
    char *text = malloc(length + 2);
    assert(text);
    memcpy(text, line, length);
    memcpy(text + length, "\r\n", 2);
    const char *reply = in_process_run_input(server, span_of(text, length + 2));
    free(text);
    return reply;
}

const char *in_process_run_arguments(struct in_process *server, const struct span *arguments, uint32_t count) {
    struct reply reply;
    struct span *argv = malloc(count * sizeof(*argv));
    assert(argv);
    begin_reply(server, &reply);
    for (;;) {
        memcpy(argv, arguments, count * sizeof(*argv));
        if (dispatch_arguments(server->dispatcher, server->session, argv, count, &reply) != DISPATCH_WAITS) break;
        wait_for_records(server);
    }
    free(argv);
    return collect(server, &reply);
}

const char *in_process_run_with_value(struct in_process *server, const char *name, const char *key, struct span value) {
    const struct span arguments[] = {span_of_text(name), span_of_text(key), value};
    return in_process_run_arguments(server, arguments, 3);
}

/* Prints bytes so that a person can compare them. */
static void print_bytes(const char *label, struct span bytes) {
    print_error("  %s \"", label);
    for (size_t i = 0; i < bytes.length && i < 400; i++) {
        unsigned char c = (unsigned char)bytes.data[i];
        if (c == '\r')
            print_error("\\r");
        else if (c == '\n')
            print_error("\\n");
        else if (c < ' ' || c > '~')
            print_error("\\x%02x", c);
        else
            print_error("%c", c);
    }
    print_error("\" (%zu bytes)\n", bytes.length);
}

void in_process_expect_at(struct in_process *server, const char *line, struct span expected, const char *file, int at) {
    in_process_run(server, line);
    struct span got = span_of(server->reply, server->reply_length);
    if (span_equal(got, expected)) return;
    print_error("%s\n", line);
    print_bytes("expected", expected);
    print_bytes("got     ", got);
    _fail(file, at);
}

int64_t in_process_integer(struct in_process *server, const char *line) {
    in_process_run(server, line);
    int64_t value = 0;
    if (server->reply_length < 4 || server->reply[0] != ':' ||
        !number_parse_i64(span_of(server->reply + 1, server->reply_length - 3), &value))
        fail_msg("%s: no integer but %s", line, server->reply);
    return value;
}

struct span in_process_bulk(struct in_process *server, const char *line) {
    in_process_run(server, line);
    const char *end = memchr(server->reply, '\n', server->reply_length);
    int64_t length = -1;
    if (!end || server->reply[0] != '$' ||
        !number_parse_i64(span_of(server->reply + 1, (size_t)(end - server->reply) - 2), &length) || length < 0)
        fail_msg("%s: no bulk string but %s", line, server->reply);
    return span_of(end + 1, (size_t)length);
}
