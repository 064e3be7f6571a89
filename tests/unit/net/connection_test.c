/* Held replies of connections: what leaves when, and what never does. The other end of each connection is read here. */

#include "command/families.h"
#include "net/connection.h"
#include "persist/journal.h"
#include "tests/support/in_process.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { BLOCK_BYTES = 64 << 10, PEERS = 2 };

struct peer {
    struct connection *connection; /* NULL: closed */
    int fd;
};

static struct fixture {
    struct in_process *server;
    struct journal *journal;
    struct journal_reader *reader; /* makes the journal active */
    struct commit_gate gate;
    struct connection_limits limits;
    struct connection_io io;
    char read_buffer[LIMIT_READ_BYTES], block[BLOCK_BYTES];
    struct peer peers[PEERS];
} fixture;

static void release(void *ctx, void *pinned, uint32_t shard) {
    keyspace_unpin(ctx, shard, pinned);
}

static int set_up(void **state) {
    static const struct socket_peer nobody;
    const struct journal_options options = {.capacity_bytes = 1 << 20, .writers = 1};
    assert_int_equal(in_process_start_strings((void **)&fixture.server), 0);
    fixture.journal = journal_create(&options);
    fixture.reader = journal_attach(fixture.journal, 0, true);
    assert_non_null(fixture.reader);
    fixture.server->dispatcher->effects.journal = fixture.journal;
    fixture.gate = (struct commit_gate){.state = COMMIT_GATE_HOLDS};
    fixture.limits.query_bytes = 1 << 20;
    connection_io_init(&fixture.io, fixture.server->dispatcher, &fixture.limits, fixture.read_buffer, fixture.block,
                       BLOCK_BYTES, release, fixture.server->keyspace);
    fixture.io.gate = &fixture.gate;
    for (unsigned i = 0; i < PEERS; i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        fixture.peers[i].fd = fds[1];
        fixture.peers[i].connection =
            connection_create(fds[0], &nobody, i + 1, IN_PROCESS_START_MS, release, fixture.server->keyspace);
        assert_non_null(fixture.peers[i].connection);
        fixture.peers[i].connection->session.authenticated = true;
    }
    *state = NULL;
    return 0;
}

static void settle(void *ctx, struct connection *connection, enum connection_state state) {
    (void)ctx;
    if (state != CONNECTION_DONE) return;
    for (unsigned i = 0; i < PEERS; i++)
        if (fixture.peers[i].connection == connection) fixture.peers[i].connection = NULL;
    connection_destroy(connection, &fixture.io);
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < PEERS; i++) {
        if (fixture.peers[i].connection) settle(NULL, fixture.peers[i].connection, CONNECTION_DONE);
        close(fixture.peers[i].fd);
    }
    connection_io_free(&fixture.io);
    journal_detach(fixture.reader);
    effect_sink_free(&fixture.server->dispatcher->effects);
    fixture.server->dispatcher->effects.journal = NULL;
    void *server = fixture.server;
    in_process_stop(&server);
    journal_destroy(fixture.journal);
    (void)state;
    return 0;
}

/* A turn in which this connection is readable. */
static void begin_turn(void) {
    connection_begin_turn(&fixture.io);
    if (fixture.io.held_count) connection_release_held(&fixture.io, settle, NULL);
}
static void serve(unsigned peer) {
    struct connection *connection = fixture.peers[peer].connection;
    settle(NULL, connection, connection_read(connection, &fixture.io));
}
static void end_turn(void) {
    connection_write_deferred(&fixture.io, settle, NULL);
}

static void send_text(unsigned peer, const char *text) {
    assert_int_equal(write(fixture.peers[peer].fd, text, strlen(text)), strlen(text));
}
static void turn(unsigned peer, const char *text) {
    send_text(peer, text);
    begin_turn();
    serve(peer);
    end_turn();
}

static void set_durable(uint64_t position) {
    atomic_store(&fixture.gate.durable, position);
    assert_true(connection_may_release(&fixture.io));
}

static void break_gate(void) {
    atomic_fetch_add(&fixture.gate.breaks, 1);
    atomic_store(&fixture.gate.state, COMMIT_GATE_BROKEN);
}

/* What has come, to the last byte. */
static void expect(unsigned peer, const char *text) {
    char got[4096];
    ssize_t length = read(fixture.peers[peer].fd, got, sizeof(got) - 1);
    if (length < 0) assert_int_equal(errno, EAGAIN);
    got[length < 0 ? 0 : length] = '\0';
    assert_string_equal(got, text);
}

static void expect_closed(unsigned peer) {
    char byte;
    assert_int_equal(read(fixture.peers[peer].fd, &byte, 1), 0);
    assert_null(fixture.peers[peer].connection);
}

static void a_reply_waits_for_what_it_acknowledges(void **state) {
    (void)state;
    turn(0, "SET key value\r\n");
    assert_true(atomic_load(&fixture.io.holds));
    expect(0, "");
    set_durable(journal_end(fixture.journal) - 1);
    begin_turn();
    expect(0, "");
    set_durable(journal_end(fixture.journal));
    begin_turn();
    expect(0, "+OK\r\n");
    assert_false(atomic_load(&fixture.io.holds));
}

static void what_depends_on_nothing_undurable_leaves_at_once(void **state) {
    (void)state;
    turn(0, "GET key\r\n");
    expect(0, "$-1\r\n");
    atomic_store(&fixture.gate.state, COMMIT_GATE_OPEN);
    turn(0, "SET key value\r\n");
    expect(0, "+OK\r\n");
}

static void others_do_not_see_what_may_be_lost(void **state) {
    (void)state;
    turn(0, "SET key value\r\n");
    turn(1, "GET key\r\n");
    expect(1, "");
    set_durable(journal_end(fixture.journal));
    begin_turn();
    expect(1, "$5\r\nvalue\r\n");
}

static void replies_keep_their_order_and_leave_as_soon_as_they_may(void **state) {
    (void)state;
    turn(0, "SET key 1\r\n");
    uint64_t first = journal_end(fixture.journal);
    turn(0, "SET key 2\r\nGET key\r\n");
    uint64_t second = journal_end(fixture.journal);
    turn(0, "SET key 3\r\n");
    set_durable(first);
    begin_turn();
    expect(0, "+OK\r\n");
    turn(0, "SET key 4\r\n");
    set_durable(second); /* what came while both marks were taken joined the second */
    begin_turn();
    expect(0, "");
    set_durable(journal_end(fixture.journal));
    begin_turn();
    expect(0, "+OK\r\n$1\r\n2\r\n+OK\r\n+OK\r\n");
}

static void what_was_held_is_never_sent_when_the_gate_breaks(void **state) {
    (void)state;
    turn(0, "SET key 1\r\n");
    set_durable(journal_end(fixture.journal));
    turn(1, "SET key 2\r\n");
    break_gate();
    begin_turn();
    expect(0, "+OK\r\n"); /* that was durable */
    expect_closed(1);
    turn(0, "GET key\r\n"); /* reading goes on */
    expect(0, "$1\r\n2\r\n");
}

static void a_turn_in_which_the_gate_breaks_acknowledges_nothing(void **state) {
    (void)state;
    send_text(0, "SET key 1\r\n");
    begin_turn();
    serve(0);
    break_gate();
    end_turn();
    expect(0, "");
    begin_turn();
    expect_closed(0);
}

static void opening_the_gate_lets_everything_out(void **state) {
    (void)state;
    turn(0, "SET key 1\r\n");
    atomic_store(&fixture.gate.state, COMMIT_GATE_OPEN);
    assert_true(connection_may_release(&fixture.io));
    begin_turn();
    expect(0, "+OK\r\n");
}

static void who_sends_no_more_still_gets_what_is_held(void **state) {
    (void)state;
    send_text(0, "SET key 1\r\n");
    shutdown(fixture.peers[0].fd, SHUT_WR);
    begin_turn();
    serve(0);
    end_turn();
    begin_turn();
    if (connection_wants_read(fixture.peers[0].connection)) serve(0);
    end_turn();
    set_durable(journal_end(fixture.journal));
    begin_turn();
    expect(0, "+OK\r\n");
    expect_closed(0);
}

static void what_is_too_large_to_be_deferred_is_held_as_well(void **state) {
    (void)state;
    char *value = malloc(100001), *command = malloc(100100), *got = malloc(200000);
    memset(value, 'v', 100000);
    value[100000] = '\0';
    turn(0, "SET small 1\r\n");
    sprintf(command, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$100000\r\n%s\r\n", value);
    for (size_t sent = 0, length = strlen(command); sent < length;) {
        ssize_t step = write(fixture.peers[0].fd, command + sent, length - sent);
        if (step > 0) sent += (size_t)step;
        begin_turn();
        serve(0);
        end_turn();
    }
    turn(0, "GET big\r\n");
    turn(0, "GET small\r\n");
    expect(0, "");
    set_durable(journal_end(fixture.journal));
    size_t length = 0;
    for (unsigned i = 0; i < 100; i++) {
        begin_turn();
        struct connection *connection = fixture.peers[0].connection;
        if (connection->wants_write) settle(NULL, connection, connection_write(connection, &fixture.io));
        ssize_t step = read(fixture.peers[0].fd, got + length, 200000 - length);
        if (step > 0) length += (size_t)step;
    }
    assert_int_equal(length, 5 + 5 + 9 + 100000 + 2 + 7);
    assert_memory_equal(got, "+OK\r\n+OK\r\n$100000\r\nv", 20);
    assert_memory_equal(got + length - 7, "$1\r\n1\r\n", 7);
    free(value);
    free(command);
    free(got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_reply_waits_for_what_it_acknowledges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_depends_on_nothing_undurable_leaves_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(others_do_not_see_what_may_be_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(replies_keep_their_order_and_leave_as_soon_as_they_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_held_is_never_sent_when_the_gate_breaks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_turn_in_which_the_gate_breaks_acknowledges_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(opening_the_gate_lets_everything_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_sends_no_more_still_gets_what_is_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_too_large_to_be_deferred_is_held_as_well, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
