/* Client-side caching by itself, without sockets: who is told what when a key changes, in both modes; what the table
 * forgets, and whom it tells. */

#include "server/tracking.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { HEARD_MAX = 32768 };

struct fixture {
    struct in_process *server;
    struct pubsub *pubsub;
    struct tracking *tracking;
};

/* A client of RESP3: the bytes it has been sent, one message behind the other. */
struct client {
    struct fixture *fixture;
    struct mailbox *mailbox;
    struct tracker *tracker;
    char heard[HEARD_MAX];
};

static void wake(void *ctx, unsigned worker) {
    (void)ctx, (void)worker;
}

static int start(void **state) {
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    void *server;
    in_process_start_strings(&server);
    fixture->server = server;
    fixture->pubsub = pubsub_create(1, 7, wake, NULL);
    fixture->tracking = tracking_create(fixture->pubsub, fixture->server->keyspace);
    assert_non_null(fixture->tracking);
    *state = fixture;
    return 0;
}

static int stop(void **state) {
    struct fixture *fixture = *state;
    tracking_destroy(fixture->tracking);
    pubsub_destroy(fixture->pubsub);
    in_process_destroy(fixture->server);
    free(fixture);
    return 0;
}

static void connect_client(struct fixture *fixture, struct client *client, uint64_t id) {
    *client = (struct client){.fixture = fixture, .mailbox = mailbox_create(client, id, 0)};
    assert_non_null(client->mailbox);
}

static void track(struct client *client, uint32_t flags, struct client *target, const char *const *prefixes) {
    struct span spans[8];
    size_t count = 0;
    for (; prefixes && prefixes[count]; count++) spans[count] = span_of_text(prefixes[count]);
    if (!client->tracker) client->tracker = tracking_begin(client->fixture->tracking, client->mailbox);
    assert_non_null(client->tracker);
    assert_true(tracking_set_mode(client->fixture->tracking, client->tracker, flags, target ? target->mailbox : NULL,
                                  spans, count));
}

static void begin(struct fixture *fixture, struct client *client, uint64_t id, uint32_t flags) {
    connect_client(fixture, client, id);
    track(client, flags, NULL, NULL);
}

static void leave(struct client *client) {
    if (client->tracker) tracking_end(client->fixture->tracking, client->tracker);
    mailbox_close(client->mailbox);
}

static void read_key(struct client *client, const char *name) {
    struct key key = keyspace_key(client->fixture->server->keyspace, span_of_text(name));
    tracking_remember(client->fixture->tracking, client->tracker, &key);
}

static void change(struct fixture *fixture, const char *name, uint64_t by) {
    tracking_invalidate(fixture->tracking, span_of_text(name), by);
}

static void hear(void *ctx, void *owner, struct message *message) {
    (void)ctx;
    struct client *client = owner;
    size_t length = strlen(client->heard);
    assert_true(length + message->resp3_length < HEARD_MAX);
    memcpy(client->heard + length, message->bytes + message->length, message->resp3_length);
    client->heard[length + message->resp3_length] = '\0';
}

static void deliver(struct fixture *fixture) {
    tracking_broadcast(fixture->tracking);
    struct inbox_batch batch = pubsub_take(fixture->pubsub, 0);
    pubsub_visit(&batch, hear, NULL);
    pubsub_release(&batch);
}

/* What the client has heard since it was last asked. */
#define EXPECT_HEARD(client, text)                                                                                     \
    do {                                                                                                               \
        deliver((client)->fixture);                                                                                    \
        assert_string_equal((client)->heard, text);                                                                    \
        (client)->heard[0] = '\0';                                                                                     \
    } while (0)

#define INVALIDATE ">2\r\n$10\r\ninvalidate\r\n"
#define TOLD_A     INVALIDATE "*1\r\n$1\r\na\r\n"
#define TOLD_B     INVALIDATE "*1\r\n$1\r\nb\r\n"

static void who_has_read_a_key_is_told_once(void **state) {
    struct fixture *fixture = *state;
    struct client one, two;
    begin(fixture, &one, 1, 0);
    begin(fixture, &two, 2, 0);
    read_key(&one, "a");
    read_key(&one, "a");
    read_key(&two, "a");
    read_key(&two, "b");
    struct tracking_figures figures = tracking_figures(fixture->tracking);
    assert_int_equal(figures.clients, 2);
    assert_int_equal(figures.keys, 2);
    assert_int_equal(figures.items, 3);
    EXPECT_HEARD(&one, "");
    change(fixture, "a", 9);
    change(fixture, "a", 9);
    change(fixture, "unread", 9);
    EXPECT_HEARD(&one, TOLD_A);
    EXPECT_HEARD(&two, TOLD_A);
    change(fixture, "b", 2);
    EXPECT_HEARD(&two, TOLD_B);
    assert_int_equal(tracking_figures(fixture->tracking).items, 0);
    leave(&one);
    leave(&two);
}

static void noloop_spares_who_made_the_change(void **state) {
    struct fixture *fixture = *state;
    struct client one, two;
    begin(fixture, &one, 1, TRACKER_NO_LOOP);
    begin(fixture, &two, 2, TRACKER_NO_LOOP);
    read_key(&one, "a");
    read_key(&two, "a");
    change(fixture, "a", 1);
    EXPECT_HEARD(&one, "");
    EXPECT_HEARD(&two, TOLD_A);
    /* It is forgotten nevertheless: who made the change knows. */
    change(fixture, "a", 3);
    EXPECT_HEARD(&one, "");
    leave(&one);
    leave(&two);
}

static void who_has_ended_is_told_nothing(void **state) {
    struct fixture *fixture = *state;
    struct client one;
    begin(fixture, &one, 1, 0);
    read_key(&one, "a");
    tracking_end(fixture->tracking, one.tracker);
    one.tracker = NULL;
    change(fixture, "a", 0);
    EXPECT_HEARD(&one, "");
    read_key((track(&one, 0, NULL, NULL), &one), "b");
    leave(&one);
    /* Nobody tracks, and a tick forgets what is left. */
    assert_int_equal(tracking_figures(fixture->tracking).keys, 1);
    tracking_tick(fixture->tracking);
    assert_int_equal(tracking_figures(fixture->tracking).keys, 0);
}

static void broadcasts_name_each_key_once_for_each_prefix(void **state) {
    struct fixture *fixture = *state;
    struct client all, some;
    begin(fixture, &all, 1, TRACKER_BROADCAST);
    connect_client(fixture, &some, 2);
    track(&some, TRACKER_BROADCAST | TRACKER_NO_LOOP, NULL, (const char *const[]){"user:", "item:", NULL});
    assert_int_equal(tracking_figures(fixture->tracking).prefixes, 3);
    change(fixture, "user:2", 9);
    change(fixture, "user:1", 9);
    change(fixture, "other", 9);
    change(fixture, "user:2", 9);
    change(fixture, "user:3", 2);
    EXPECT_HEARD(&some, INVALIDATE "*2\r\n$6\r\nuser:1\r\n$6\r\nuser:2\r\n");
    assert_string_equal(all.heard, INVALIDATE "*4\r\n$5\r\nother\r\n$6\r\nuser:1\r\n$6\r\nuser:2\r\n$6\r\nuser:3\r\n");
    all.heard[0] = '\0';
    change(fixture, "item:1", 9);
    EXPECT_HEARD(&some, INVALIDATE "*1\r\n$6\r\nitem:1\r\n");
    leave(&some);
    leave(&all);
}

/* More than are gathered at once: none is lost. */
static void a_broadcast_of_many_keys_loses_none(void **state) {
    struct fixture *fixture = *state;
    struct client client;
    char name[32];
    begin(fixture, &client, 1, TRACKER_BROADCAST);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "key:%03u", i);
        change(fixture, name, 0);
    }
    deliver(fixture);
    unsigned named = 0;
    for (const char *at = client.heard; (at = strstr(at, "key:")); at++) {
        assert_int_equal(strtoul(at + 4, NULL, 10), named);
        named++;
    }
    assert_int_equal(named, 1000);
    leave(&client);
}

static void a_flush_tells_everybody_at_once(void **state) {
    struct fixture *fixture = *state;
    struct client one, two;
    begin(fixture, &one, 1, 0);
    begin(fixture, &two, 2, TRACKER_BROADCAST);
    read_key(&one, "a");
    tracking_flush(fixture->tracking);
    EXPECT_HEARD(&one, INVALIDATE "_\r\n");
    EXPECT_HEARD(&two, INVALIDATE "_\r\n");
    change(fixture, "a", 0);
    EXPECT_HEARD(&one, "");
    leave(&one);
    leave(&two);
}

static void redirected_messages_go_elsewhere_while_there_is_somebody(void **state) {
    struct fixture *fixture = *state;
    struct client one, target;
    connect_client(fixture, &one, 1);
    connect_client(fixture, &target, 77);
    track(&one, 0, &target, NULL);
    read_key(&one, "a");
    change(fixture, "a", 0);
    EXPECT_HEARD(&target, TOLD_A);
    EXPECT_HEARD(&one, "");
    read_key(&one, "a");
    leave(&target);
    assert_false(atomic_load(&one.tracker->broken));
    change(fixture, "a", 0);
    EXPECT_HEARD(&one, ">2\r\n$21\r\ntracking-redir-broken\r\n:77\r\n");
    assert_true(atomic_load(&one.tracker->broken));
    leave(&one);
}

static unsigned told(const struct client *client) {
    unsigned count = 0;
    for (const char *at = client->heard; (at = strstr(at, "invalidate")); at++) count++;
    return count;
}

/* Keys that are read above the limit push others out; a limit that is lowered is kept at once. */
static void what_the_table_forgets_its_readers_are_told(void **state) {
    struct fixture *fixture = *state;
    struct client client;
    char name[32];
    begin(fixture, &client, 1, 0);
    tracking_limit(fixture->tracking, 100);
    for (unsigned i = 0; i < 150; i++) {
        snprintf(name, sizeof(name), "key:%u", i);
        read_key(&client, name);
        assert_in_range(tracking_figures(fixture->tracking).keys, 1, 100);
    }
    deliver(fixture);
    assert_int_equal(told(&client), 50);
    tracking_limit(fixture->tracking, 10);
    assert_int_equal(tracking_figures(fixture->tracking).keys, 10);
    deliver(fixture);
    assert_int_equal(told(&client), 140);
    tracking_limit(fixture->tracking, 0);
    tracking_tick(fixture->tracking);
    assert_int_equal(tracking_figures(fixture->tracking).keys, 10);
    leave(&client);
}

/* A change costs nothing while nobody tracks: the keyspace does not tell of it. */
static void the_keyspace_is_listened_to_only_while_somebody_tracks(void **state) {
    struct fixture *fixture = *state;
    const struct keyspace *keyspace = fixture->server->keyspace;
    struct client one, two;
    assert_false(atomic_load(&keyspace->listener.wanted) & KEYSPACE_KEY_CHANGED);
    begin(fixture, &one, 1, 0);
    begin(fixture, &two, 2, TRACKER_BROADCAST);
    leave(&one);
    assert_true(atomic_load(&keyspace->listener.wanted) & KEYSPACE_KEY_CHANGED);
    leave(&two);
    assert_false(atomic_load(&keyspace->listener.wanted) & KEYSPACE_KEY_CHANGED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(who_has_read_a_key_is_told_once),
        TEST(noloop_spares_who_made_the_change),
        TEST(who_has_ended_is_told_nothing),
        TEST(broadcasts_name_each_key_once_for_each_prefix),
        TEST(a_broadcast_of_many_keys_loses_none),
        TEST(a_flush_tells_everybody_at_once),
        TEST(redirected_messages_go_elsewhere_while_there_is_somebody),
        TEST(what_the_table_forgets_its_readers_are_told),
        TEST(the_keyspace_is_listened_to_only_while_somebody_tracks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
