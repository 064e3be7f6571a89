/* What a session is sent of what has come for it: in which protocol's form, in which order, and when. Connections
 * without sockets: nothing here gets as far as being sent. */

#include "base/limits.h"
#include "command/blocked.h"
#include "server/delivery.h"
#include "server/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* A server of which there is only what messages pass through. */
struct fixture {
    struct server server;
    struct worker worker;
    struct worker *workers[1];
    struct dispatcher dispatcher;
};

struct client {
    struct connection connection;
    struct mailbox *mailbox;
};

static void wake(void *ctx, unsigned worker) {
    (void)ctx, (void)worker;
}

static int start(void **state) {
    struct fixture *fixture = aligned_alloc(64, (sizeof(*fixture) + 63) / 64 * 64);
    memset(fixture, 0, sizeof(*fixture));
    fixture->dispatcher.keyspace = keyspace_create(&(struct keyspace_options){.shards = 4, .databases = 1});
    assert_non_null(fixture->dispatcher.keyspace);
    fixture->workers[0] = &fixture->worker;
    fixture->server.workers = fixture->workers;
    fixture->server.worker_count = 1;
    fixture->server.keyspace = fixture->dispatcher.keyspace;
    fixture->server.pubsub = pubsub_create(1, 7, wake, NULL);
    fixture->server.tracking = tracking_create(fixture->server.pubsub, fixture->server.keyspace);
    fixture->worker.server = &fixture->server;
    *state = fixture;
    return 0;
}

static int stop(void **state) {
    struct fixture *fixture = *state;
    delivery_free(&fixture->worker.delivery);
    tracking_destroy(fixture->server.tracking);
    pubsub_destroy(fixture->server.pubsub);
    keyspace_destroy(fixture->server.keyspace);
    free(fixture);
    return 0;
}

static void connect_client(struct fixture *fixture, struct client *client, uint64_t id, uint8_t protocol) {
    *client = (struct client){.connection.owner = &fixture->worker};
    session_init(&client->connection.session, id, 0);
    client->connection.session.protocol = protocol;
    client->connection.session.connection = &client->connection;
    client->mailbox = delivery_mailbox(&client->connection.session, 0);
    assert_non_null(client->mailbox);
}

static void leave(struct fixture *fixture, struct client *client) {
    delivery_forget(&fixture->worker, &client->connection);
    session_free(&client->connection.session);
}

static void subscribe(struct fixture *fixture, struct client *client, const char *channel) {
    struct session *session = &client->connection.session;
    assert_int_equal(pubsub_subscribe(fixture->server.pubsub, delivery_subscriber(session, 0), PUBSUB_CHANNEL,
                                      span_of_text(channel)),
                     PUBSUB_DONE);
    delivery_update(&client->connection);
}

static void publish(struct fixture *fixture, const char *channel, const char *text) {
    pubsub_publish(fixture->server.pubsub, PUBSUB_CHANNEL, span_of_text(channel), span_of_text(text));
}

/* A message to the client alone: "2" for one of RESP2, if it is subscribed to something, and "3" for one of RESP3. */
static void send_to(struct fixture *fixture, struct client *client) {
    struct message *message = message_create(2);
    assert_non_null(message);
    memcpy(message->bytes, "23", 2);
    message->length = message->resp3_length = 1;
    message->needs_subscription = true;
    pubsub_send(fixture->server.pubsub, client->mailbox, message);
    message_release(message);
}

static void release(void *ctx, void *pinned, uint32_t tag) {
    (void)ctx;
    assert_int_equal(tag, DELIVERY_PIN_TAG);
    message_release(pinned);
}

static void end_turn(struct fixture *fixture) {
    delivery_turn(&fixture->worker);
}

/* What the client is sent around a command of its own. */
static const char *take(struct fixture *fixture, struct client *client) {
    static char text[4096];
    char block[1024];
    struct reply reply;
    reply_init(&reply, block, sizeof(block), release, NULL);
    delivery_take(&fixture->server, &client->connection.session, 0, &reply);
    struct iovec parts[32];
    size_t length = 0, count = reply_vectors(&reply, parts, 32);
    for (size_t i = 0; i < count; i++) {
        assert_true(length + parts[i].iov_len < sizeof(text));
        memcpy(text + length, parts[i].iov_base, parts[i].iov_len);
        length += parts[i].iov_len;
    }
    text[length] = '\0';
    reply_clear(&reply);
    return text;
}

#define PUBLISHED "3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n"

static void a_message_has_the_form_of_its_clients_protocol(void **state) {
    struct fixture *fixture = *state;
    struct client old, new;
    connect_client(fixture, &old, 1, 2);
    connect_client(fixture, &new, 2, 3);
    subscribe(fixture, &old, "c");
    subscribe(fixture, &new, "c");
    publish(fixture, "c", "a");
    publish(fixture, "c", "b");
    assert_string_equal(take(fixture, &old), "*" PUBLISHED "a\r\n*" PUBLISHED "b\r\n");
    assert_string_equal(take(fixture, &new), ">" PUBLISHED "a\r\n>" PUBLISHED "b\r\n");
    assert_string_equal(take(fixture, &old), "");
    leave(fixture, &old);
    leave(fixture, &new);
}

static void a_message_of_two_forms_is_for_subscribers_in_resp2(void **state) {
    struct fixture *fixture = *state;
    struct client old, new;
    connect_client(fixture, &old, 1, 2);
    connect_client(fixture, &new, 2, 3);
    send_to(fixture, &old);
    send_to(fixture, &new);
    assert_string_equal(take(fixture, &old), "");
    assert_string_equal(take(fixture, &new), "3");
    subscribe(fixture, &old, "other");
    send_to(fixture, &old);
    assert_string_equal(take(fixture, &old), "2");
    leave(fixture, &old);
    leave(fixture, &new);
}

static void a_long_message_is_sent_from_where_it_lies(void **state) {
    struct fixture *fixture = *state;
    struct client client;
    connect_client(fixture, &client, 1, 3);
    size_t length = LIMIT_REPLY_COPY_BYTES + 10;
    struct message *message = message_create(length);
    memset(message->bytes, 'x', length);
    message->bytes[0] = '*';
    pubsub_send(fixture->server.pubsub, client.mailbox, message);
    char block[1024];
    struct reply reply;
    reply_init(&reply, block, sizeof(block), release, NULL);
    delivery_take(&fixture->server, &client.connection.session, 0, &reply);
    assert_int_equal(atomic_load(&message->references), 3); /* the caller's, the inbox's, the reply's */
    reply_clear(&reply);
    end_turn(fixture);
    assert_int_equal(atomic_load(&message->references), 1);
    message_release(message);
    leave(fixture, &client);
}

static void what_a_closed_connection_had_noted_is_forgotten(void **state) {
    struct fixture *fixture = *state;
    struct client client, other;
    connect_client(fixture, &client, 1, 3);
    connect_client(fixture, &other, 2, 3);
    send_to(fixture, &client);
    assert_string_equal(take(fixture, &other), ""); /* notes it */
    assert_int_equal(client.connection.session.message_count, 1);
    leave(fixture, &client);
    end_turn(fixture);
    assert_int_equal(fixture->worker.delivery.batch_count, 0);
    leave(fixture, &other);
}

/* Its wait has ended, and the reply is under way: what came meanwhile stays until that is composed. */
static void a_message_waits_for_the_reply_to_a_blocked_command(void **state) {
    struct fixture *fixture = *state;
    struct client client, other;
    struct blocked blocked = {.state = BLOCKED_SERVED};
    connect_client(fixture, &client, 1, 3);
    connect_client(fixture, &other, 2, 3);
    client.connection.session.blocked = &blocked;
    send_to(fixture, &client);
    end_turn(fixture);
    end_turn(fixture);
    assert_int_equal(client.connection.session.message_count, 1);
    send_to(fixture, &other);
    assert_string_equal(take(fixture, &other), "3");
    client.connection.session.blocked = NULL; /* answered */
    send_to(fixture, &client);
    assert_string_equal(take(fixture, &client), "33");
    end_turn(fixture);
    assert_int_equal(fixture->worker.delivery.batch_count, 0);
    leave(fixture, &client);
    leave(fixture, &other);
}

static void a_connection_is_of_its_subscriptions_class(void **state) {
    struct fixture *fixture = *state;
    struct client client;
    connect_client(fixture, &client, 1, 2);
    struct session *session = &client.connection.session;
    subscribe(fixture, &client, "c");
    assert_int_equal(client.connection.kind, CONNECTION_PUBSUB);
    assert_int_equal(session->subscriptions, 1);
    assert_true(session->listens);
    delivery_reset(&fixture->server, session);
    assert_int_equal(client.connection.kind, CONNECTION_NORMAL);
    assert_int_equal(session->subscriptions, 0);
    assert_true(session->listens); /* its address stays */
    assert_ptr_equal(delivery_mailbox(session, 0), client.mailbox);
    leave(fixture, &client);
    assert_false(session->listens);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_message_has_the_form_of_its_clients_protocol),
        TEST(a_message_of_two_forms_is_for_subscribers_in_resp2),
        TEST(a_long_message_is_sent_from_where_it_lies),
        TEST(what_a_closed_connection_had_noted_is_forgotten),
        TEST(a_message_waits_for_the_reply_to_a_blocked_command),
        TEST(a_connection_is_of_its_subscriptions_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
