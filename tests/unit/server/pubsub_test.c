/* Topics, subscriptions, and what workers find in their inboxes; many threads at once. */

#include "server/pubsub.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { WORKERS = 3 };

struct fixture {
    struct pubsub *pubsub;
    atomic_uint wakes[WORKERS];
};

/* What one client heard: the messages one behind the other. */
struct listener {
    struct subscriber *subscriber;
    char heard[1024];
};

static void wake(void *ctx, unsigned worker) {
    atomic_fetch_add(&((struct fixture *)ctx)->wakes[worker], 1);
}

static int start(void **state) {
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->pubsub = pubsub_create(WORKERS, 1234, wake, fixture);
    assert_non_null(fixture->pubsub);
    *state = fixture;
    return 0;
}

static int stop(void **state) {
    struct fixture *fixture = *state;
    pubsub_destroy(fixture->pubsub);
    free(fixture);
    return 0;
}

static void begin(struct listener *listener, unsigned worker) {
    listener->heard[0] = '\0';
    listener->subscriber = subscriber_create(listener, worker);
    assert_non_null(listener->subscriber);
}

static void hear(void *ctx, void *owner, struct message *message) {
    (void)ctx;
    struct listener *listener = owner;
    size_t length = strlen(listener->heard);
    assert_true(length + message->length < sizeof(listener->heard));
    memcpy(listener->heard + length, message->bytes, message->length);
    listener->heard[length + message->length] = '\0';
}

static void deliver(struct fixture *fixture, unsigned worker) {
    struct inbox_batch batch = pubsub_take(fixture->pubsub, worker);
    pubsub_visit(&batch, hear, NULL);
    pubsub_release(&batch);
}

static enum pubsub_result subscribe(struct fixture *fixture, struct listener *listener, enum pubsub_kind kind,
                                    const char *name) {
    return pubsub_subscribe(fixture->pubsub, listener->subscriber, kind, span_of_text(name));
}

static uint64_t publish(struct fixture *fixture, const char *channel, const char *text) {
    return pubsub_publish(fixture->pubsub, PUBSUB_CHANNEL, span_of_text(channel), span_of_text(text));
}

#define MESSAGE_A "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\na\r\n"
#define MESSAGE_B "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nb\r\n"

static void a_message_reaches_subscribers_of_every_worker(void **state) {
    struct fixture *fixture = *state;
    struct listener listeners[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        begin(&listeners[i], i);
        assert_int_equal(subscribe(fixture, &listeners[i], PUBSUB_CHANNEL, "c"), PUBSUB_DONE);
    }
    assert_int_equal(publish(fixture, "c", "a"), WORKERS);
    assert_int_equal(publish(fixture, "other", "a"), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_true(pubsub_has_mail(fixture->pubsub, i));
        assert_int_equal(atomic_load(&fixture->wakes[i]), 1);
        deliver(fixture, i);
        assert_false(pubsub_has_mail(fixture->pubsub, i));
        assert_string_equal(listeners[i].heard, MESSAGE_A);
        subscriber_destroy(fixture->pubsub, listeners[i].subscriber);
    }
    assert_int_equal(pubsub_topics(fixture->pubsub, PUBSUB_CHANNEL), 0);
}

static void a_worker_is_woken_once_for_all_it_has_not_taken(void **state) {
    struct fixture *fixture = *state;
    struct listener listener;
    begin(&listener, 1);
    assert_int_equal(subscribe(fixture, &listener, PUBSUB_CHANNEL, "c"), PUBSUB_DONE);
    publish(fixture, "c", "a");
    publish(fixture, "c", "b");
    assert_int_equal(atomic_load(&fixture->wakes[1]), 1);
    deliver(fixture, 1);
    assert_string_equal(listener.heard, MESSAGE_A MESSAGE_B);
    publish(fixture, "c", "a");
    assert_int_equal(atomic_load(&fixture->wakes[1]), 2);
    assert_int_equal(atomic_load(&fixture->wakes[0]), 0);
    subscriber_destroy(fixture->pubsub, listener.subscriber);
}

static void what_was_under_way_before_a_subscription_is_not_for_it(void **state) {
    struct fixture *fixture = *state;
    struct listener early, late;
    begin(&early, 0);
    begin(&late, 0);
    assert_int_equal(subscribe(fixture, &early, PUBSUB_CHANNEL, "c"), PUBSUB_DONE);
    assert_int_equal(publish(fixture, "c", "a"), 1);
    assert_int_equal(subscribe(fixture, &late, PUBSUB_CHANNEL, "c"), PUBSUB_DONE);
    assert_int_equal(publish(fixture, "c", "b"), 2);
    deliver(fixture, 0);
    assert_string_equal(early.heard, MESSAGE_A MESSAGE_B);
    assert_string_equal(late.heard, MESSAGE_B);
    subscriber_destroy(fixture->pubsub, early.subscriber);
    subscriber_destroy(fixture->pubsub, late.subscriber);
}

static void who_left_hears_nothing_and_who_comes_after_him_nothing_old(void **state) {
    struct fixture *fixture = *state;
    struct listener first, second;
    begin(&first, 0);
    begin(&second, 0);
    assert_int_equal(subscribe(fixture, &first, PUBSUB_CHANNEL, "c"), PUBSUB_DONE);
    publish(fixture, "c", "a");
    assert_int_equal(pubsub_unsubscribe(fixture->pubsub, first.subscriber, PUBSUB_CHANNEL, span_of_text("c")),
                     PUBSUB_DONE);
    assert_int_equal(subscribe(fixture, &second, PUBSUB_CHANNEL, "c"), PUBSUB_DONE);
    deliver(fixture, 0);
    assert_string_equal(first.heard, "");
    assert_string_equal(second.heard, "");
    subscriber_destroy(fixture->pubsub, first.subscriber);
    subscriber_destroy(fixture->pubsub, second.subscriber);
}

static void kinds_are_kept_apart(void **state) {
    struct fixture *fixture = *state;
    struct listener listener;
    begin(&listener, 0);
    for (enum pubsub_kind kind = 0; kind < PUBSUB_KINDS; kind++) {
        assert_int_equal(subscribe(fixture, &listener, kind, "c"), PUBSUB_DONE);
        assert_int_equal(subscribe(fixture, &listener, kind, "c"), PUBSUB_NOTHING);
        assert_int_equal(pubsub_topics(fixture->pubsub, kind), 1);
        assert_int_equal(pubsub_subscribers(fixture->pubsub, kind, span_of_text("c")), 1);
    }
    assert_int_equal(subscriber_total(listener.subscriber), 3);
    assert_int_equal(publish(fixture, "c", "a"), 2);
    assert_int_equal(pubsub_publish(fixture->pubsub, PUBSUB_SHARD_CHANNEL, span_of_text("c"), span_of_text("a")), 1);
    deliver(fixture, 0);
    assert_string_equal(listener.heard, MESSAGE_A "*4\r\n$8\r\npmessage\r\n$1\r\nc\r\n$1\r\nc\r\n$1\r\na\r\n"
                                                  "*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$1\r\na\r\n");
    subscriber_destroy(fixture->pubsub, listener.subscriber);
}

static void many_topics_of_one_subscriber(void **state) {
    struct fixture *fixture = *state;
    struct listener listener;
    char name[32];
    enum { TOPICS = 5000 };
    begin(&listener, 2);
    for (unsigned i = 0; i < TOPICS; i++) {
        snprintf(name, sizeof(name), "topic:%u", i);
        assert_int_equal(subscribe(fixture, &listener, i % 2 ? PUBSUB_CHANNEL : PUBSUB_PATTERN, name), PUBSUB_DONE);
    }
    assert_int_equal(pubsub_topics(fixture->pubsub, PUBSUB_CHANNEL), TOPICS / 2);
    for (unsigned i = 0; i < TOPICS; i += 3) {
        snprintf(name, sizeof(name), "topic:%u", i);
        enum pubsub_kind kind = i % 2 ? PUBSUB_CHANNEL : PUBSUB_PATTERN;
        assert_int_equal(pubsub_unsubscribe(fixture->pubsub, listener.subscriber, kind, span_of_text(name)),
                         PUBSUB_DONE);
        assert_int_equal(pubsub_unsubscribe(fixture->pubsub, listener.subscriber, kind, span_of_text(name)),
                         PUBSUB_NOTHING);
        assert_int_equal(publish(fixture, name, "x"), 0);
    }
    assert_int_equal(publish(fixture, "topic:1", "x"), 1);
    struct span oldest = subscriber_oldest(listener.subscriber, PUBSUB_CHANNEL);
    assert_int_equal(oldest.length, 7);
    assert_memory_equal(oldest.data, "topic:1", 7);
    subscriber_destroy(fixture->pubsub, listener.subscriber);
    assert_int_equal(pubsub_topics(fixture->pubsub, PUBSUB_CHANNEL), 0);
    assert_int_equal(pubsub_topics(fixture->pubsub, PUBSUB_PATTERN), 0);
}

static void an_inbox_is_bounded(void **state) {
    struct fixture *fixture = *state;
    struct listener listener;
    size_t bytes = INBOX_BYTES_MAX / 4;
    char *text = calloc(1, bytes);
    begin(&listener, 0);
    assert_int_equal(subscribe(fixture, &listener, PUBSUB_CHANNEL, "c"), PUBSUB_DONE);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(pubsub_publish(fixture->pubsub, PUBSUB_CHANNEL, span_of_text("c"), span_of(text, bytes)), 1);
    struct inbox_batch batch = pubsub_take(fixture->pubsub, 0);
    assert_true(batch.overflowed);
    assert_int_equal(batch.count, 3);
    pubsub_release(&batch);
    batch = pubsub_take(fixture->pubsub, 0);
    assert_false(batch.overflowed);
    pubsub_release(&batch);
    free(text);
    subscriber_destroy(fixture->pubsub, listener.subscriber);
}

static void a_mailbox_outlives_its_client(void **state) {
    struct fixture *fixture = *state;
    struct listener listener;
    struct message *message = message_of((struct span[]){span_of_text("x")}, 1);
    struct mailbox *mailbox = mailbox_create(&listener, 7, 1);
    listener.heard[0] = '\0';
    pubsub_send(fixture->pubsub, mailbox, message);
    deliver(fixture, 1);
    assert_string_equal(listener.heard, "*1\r\n$1\r\nx\r\n");
    mailbox_hold(mailbox);
    pubsub_send(fixture->pubsub, mailbox, message);
    mailbox_close(mailbox);
    deliver(fixture, 1);
    assert_string_equal(listener.heard, "*1\r\n$1\r\nx\r\n");
    assert_true(atomic_load(&mailbox->closed));
    mailbox_release(mailbox);
    message_release(message);
}

/* ---- many threads ---- */

enum { PUBLISHERS = 3, MESSAGES = 20000, CHANNELS = 4 };

struct party {
    struct fixture *fixture;
    unsigned number;
    atomic_uint *publishing;
    atomic_bool *ready;
    uint64_t last[PUBLISHERS + 1][CHANNELS]; /* by publisher: the last number heard */
    uint64_t heard;
};

static void *publish_many(void *argument) {
    struct party *party = argument;
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        char channel[2] = {(char)('a' + i % CHANNELS), '\0'}, text[64];
        snprintf(text, sizeof(text), "%u %llu", party->number, (unsigned long long)i);
        publish(party->fixture, channel, text);
    }
    atomic_fetch_sub(party->publishing, 1);
    return NULL;
}

static void check_order(void *ctx, void *owner, struct message *message) {
    (void)ctx;
    struct party *party = owner;
    unsigned publisher;
    unsigned long long number;
    const char *text = message->bytes + message->length - 3;
    while (*text != '\n') text--;
    assert_int_equal(sscanf(text + 1, "%u %llu", &publisher, &number), 2);
    uint64_t *last = &party->last[publisher][number % CHANNELS];
    assert_true(number > *last);
    *last = number;
    party->heard++;
}

/* One client that stays with one channel, and others that come and go. */
static void *listen_as_worker(void *argument) {
    struct party *party = argument;
    struct pubsub *pubsub = party->fixture->pubsub;
    struct party visitor_party = {0};
    struct subscriber *stayer = subscriber_create(party, party->number);
    assert_int_equal(pubsub_subscribe(pubsub, stayer, PUBSUB_CHANNEL, span_of_text("a")), PUBSUB_DONE);
    atomic_store(party->ready, true);
    for (bool more = true; more;) {
        more = atomic_load(party->publishing) > 0 || pubsub_has_mail(pubsub, party->number);
        memset(&visitor_party, 0, sizeof(visitor_party));
        struct subscriber *visitor = subscriber_create(&visitor_party, party->number);
        assert_int_equal(pubsub_subscribe(pubsub, visitor, PUBSUB_CHANNEL, span_of_text("b")), PUBSUB_DONE);
        assert_int_equal(pubsub_subscribe(pubsub, visitor, PUBSUB_PATTERN, span_of_text("[c]")), PUBSUB_DONE);
        struct inbox_batch batch = pubsub_take(pubsub, party->number);
        pubsub_visit(&batch, check_order, NULL);
        pubsub_release(&batch);
        subscriber_destroy(pubsub, visitor);
    }
    subscriber_destroy(pubsub, stayer);
    return NULL;
}

static void nothing_is_lost_or_turned_round_between_threads(void **state) {
    struct fixture *fixture = *state;
    pthread_t publishers[PUBLISHERS], workers[WORKERS];
    struct party parties[PUBLISHERS + WORKERS] = {0};
    atomic_uint publishing = PUBLISHERS;
    atomic_bool ready[WORKERS] = {false};
    for (unsigned i = 0; i < WORKERS; i++) {
        parties[i] = (struct party){.fixture = fixture, .number = i, .publishing = &publishing, .ready = &ready[i]};
        assert_int_equal(pthread_create(&workers[i], NULL, listen_as_worker, &parties[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        while (!atomic_load(&ready[i])) sched_yield();
    for (unsigned i = 0; i < PUBLISHERS; i++) {
        struct party *party = &parties[WORKERS + i];
        *party = (struct party){.fixture = fixture, .number = i, .publishing = &publishing};
        assert_int_equal(pthread_create(&publishers[i], NULL, publish_many, party), 0);
    }
    for (unsigned i = 0; i < PUBLISHERS; i++) pthread_join(publishers[i], NULL);
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(workers[i], NULL);
    for (unsigned i = 0; i < WORKERS; i++) assert_int_equal(parties[i].heard, PUBLISHERS * MESSAGES / CHANNELS);
    for (enum pubsub_kind kind = 0; kind < PUBSUB_KINDS; kind++)
        assert_int_equal(pubsub_topics(fixture->pubsub, kind), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(a_message_reaches_subscribers_of_every_worker),
        TEST(a_worker_is_woken_once_for_all_it_has_not_taken),
        TEST(what_was_under_way_before_a_subscription_is_not_for_it),
        TEST(who_left_hears_nothing_and_who_comes_after_him_nothing_old),
        TEST(kinds_are_kept_apart),
        TEST(many_topics_of_one_subscriber),
        TEST(an_inbox_is_bounded),
        TEST(a_mailbox_outlives_its_client),
        TEST(nothing_is_lost_or_turned_round_between_threads),
    };
    return cmocka_run_group_tests_name("server/pubsub", tests, NULL, NULL);
}
