/* PUBLISH, SUBSCRIBE and their kin.
 *
 * A subscription is confirmed before anything that is published on it is sent: messages are written when the command
 * has ended. Ending one is confirmed behind what was published until then.
 *
 * Within EXEC a SSUBSCRIBE is refused, a SUBSCRIBE is not: so it is in Redis. */

#include "base/glob.h"
#include "command/effect.h"
#include "command/session.h"
#include "server/delivery.h"
#include "server/families.h"
#include "server/server.h"

/* The words of one kind of subscription. */
struct kind_words {
    enum pubsub_kind kind;
    const char *subscribed, *unsubscribed;
};

static const struct kind_words channel_words = {PUBSUB_CHANNEL, "subscribe", "unsubscribe"};
static const struct kind_words pattern_words = {PUBSUB_PATTERN, "psubscribe", "punsubscribe"};
static const struct kind_words shard_channel_words = {PUBSUB_SHARD_CHANNEL, "ssubscribe", "sunsubscribe"};

/* ---- coming and going ---- */

/* Shard channels are counted by themselves. */
static uint32_t count_for(const struct subscriber *subscriber, enum pubsub_kind kind) {
    if (!subscriber) return 0;
    if (kind == PUBSUB_SHARD_CHANNEL) return subscriber->counts[kind];
    return subscriber->counts[PUBSUB_CHANNEL] + subscriber->counts[PUBSUB_PATTERN];
}

static void confirm(struct call *call, const char *word, const struct span *name, uint32_t count) {
    call->session->told = !call->in_transaction;
    reply_push(call->reply, 3);
    reply_bulk_text(call->reply, word);
    if (name)
        reply_bulk(call->reply, *name);
    else
        reply_null(call->reply);
    reply_integer(call->reply, count);
}

static void subscribe(struct call *call, const struct kind_words *words) {
    struct session *session = call->session;
    struct subscriber *subscriber = delivery_subscriber(session, call->dispatcher->worker);
    for (uint32_t i = 1; i < call->argc; i++) {
        if (!subscriber ||
            pubsub_subscribe(server_of(call)->pubsub, subscriber, words->kind, call->argv[i]) == PUBSUB_NO_MEMORY) {
            call_no_memory(call);
            break;
        }
        confirm(call, words->subscribed, &call->argv[i], count_for(subscriber, words->kind));
    }
    delivery_update(session->connection);
}

static void unsubscribe_all(struct call *call, const struct kind_words *words) {
    struct subscriber *subscriber = call->session->subscriber;
    if (!subscriber || !subscriber->counts[words->kind]) {
        confirm(call, words->unsubscribed, NULL, count_for(subscriber, words->kind));
        return;
    }
    while (subscriber->counts[words->kind]) {
        struct span name = subscriber_oldest(subscriber, words->kind);
        confirm(call, words->unsubscribed, &name, count_for(subscriber, words->kind) - 1);
        pubsub_unsubscribe(server_of(call)->pubsub, subscriber, words->kind, name);
    }
}

static void unsubscribe(struct call *call, const struct kind_words *words) {
    struct session *session = call->session;
    struct subscriber *subscriber = session->subscriber;
    /* What was published so far comes first; but nothing may come between the replies of an EXEC. */
    if (session->listens && !call->in_transaction)
        delivery_take(server_of(call), session, call->dispatcher->worker, call->reply);
    if (call->argc == 1) unsubscribe_all(call, words);
    for (uint32_t i = 1; i < call->argc; i++) {
        if (subscriber) pubsub_unsubscribe(server_of(call)->pubsub, subscriber, words->kind, call->argv[i]);
        confirm(call, words->unsubscribed, &call->argv[i], count_for(subscriber, words->kind));
    }
    delivery_update(session->connection);
}

static void command_subscribe(struct call *call) {
    subscribe(call, &channel_words);
}

static void command_psubscribe(struct call *call) {
    subscribe(call, &pattern_words);
}

static void command_ssubscribe(struct call *call) {
    if (call->in_transaction)
        reply_error(call->reply, "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");
    else
        subscribe(call, &shard_channel_words);
}

static void command_unsubscribe(struct call *call) {
    unsubscribe(call, &channel_words);
}

static void command_punsubscribe(struct call *call) {
    unsubscribe(call, &pattern_words);
}

static void command_sunsubscribe(struct call *call) {
    unsubscribe(call, &shard_channel_words);
}

/* ---- publishing ---- */

/* Replicas have subscribers, too. Without any nothing is told: to an append-only file messages are of no use, and what
 * one holds all the same was heard when it was new. */
static void publish(struct call *call, enum pubsub_kind kind) {
    const struct server *server = server_of(call);
    bool is_old = call->session->replaying && !call->session->from_primary;
    if (server->replication.keeper) call_effect_force(call);
    reply_integer(call->reply,
                  is_old ? 0 : (int64_t)pubsub_publish(server->pubsub, kind, call->argv[1], call->argv[2]));
}

static void command_publish(struct call *call) {
    publish(call, PUBSUB_CHANNEL);
}

static void command_spublish(struct call *call) {
    publish(call, PUBSUB_SHARD_CHANNEL);
}

/* ---- PUBSUB ---- */

struct listing {
    struct call *call;
    size_t count;
    bool all;
};

static void list_one(void *ctx, struct span name) {
    struct listing *listing = ctx;
    if (!listing->all && !glob_match(listing->call->argv[2], name, GLOB_CASE_EXACT)) return;
    reply_bulk(listing->call->reply, name);
    listing->count++;
}

static void list_topics(struct call *call, enum pubsub_kind kind, const char *name) {
    struct listing listing = {.call = call, .all = call->argc == 2};
    if (call->argc > 3) {
        reply_error_format(call->reply,
                           "ERR unknown subcommand or wrong number of arguments for '%s'. Try PUBSUB HELP.", name);
        return;
    }
    struct reply_aggregate aggregate = reply_begin(call->reply);
    pubsub_walk(server_of(call)->pubsub, kind, list_one, &listing);
    reply_end(call->reply, aggregate, '*', listing.count);
}

static void pubsub_channels(struct call *call) {
    list_topics(call, PUBSUB_CHANNEL, "channels");
}

static void pubsub_shardchannels(struct call *call) {
    list_topics(call, PUBSUB_SHARD_CHANNEL, "shardchannels");
}

static void count_topics(struct call *call, enum pubsub_kind kind) {
    reply_array(call->reply, 2 * (call->argc - 2));
    for (uint32_t i = 2; i < call->argc; i++) {
        reply_bulk(call->reply, call->argv[i]);
        reply_integer(call->reply, (int64_t)pubsub_subscribers(server_of(call)->pubsub, kind, call->argv[i]));
    }
}

static void pubsub_numsub(struct call *call) {
    count_topics(call, PUBSUB_CHANNEL);
}

static void pubsub_shardnumsub(struct call *call) {
    count_topics(call, PUBSUB_SHARD_CHANNEL);
}

static void pubsub_numpat(struct call *call) {
    reply_integer(call->reply, (int64_t)pubsub_topics(server_of(call)->pubsub, PUBSUB_PATTERN));
}

static void pubsub_help(struct call *call) {
    static const char *const lines[] = {"CHANNELS [<pattern>]",
                                        "    The channels that somebody listens to, or those that match the pattern.",
                                        "NUMPAT",
                                        "    How many different patterns are listened to.",
                                        "NUMSUB [<channel> ...]",
                                        "    How many clients listen to each channel, not counting patterns.",
                                        "SHARDCHANNELS [<pattern>]",
                                        "    The shard channels that somebody listens to, or those that match.",
                                        "SHARDNUMSUB [<shardchannel> ...]",
                                        "    How many clients listen to each shard channel.",
                                        NULL};
    call_help(call, lines);
}

/* ---- the family ---- */

#define LISTEN_FLAGS  (COMMAND_PUBSUB | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_WHILE_SUBSCRIBED)
#define PUBLISH_FLAGS (COMMAND_PUBSUB | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST | COMMAND_MAY_REPLICATE)
#define LOOK_FLAGS    (COMMAND_PUBSUB | COMMAND_LOADING | COMMAND_STALE)

#define ROW(name_, handler_, arity_, flags_, since_, summary_, complexity_, ...)                                       \
    {                                                                                                                  \
        .name = name_, .handler = handler_, .arity = arity_, .flags = flags_, .group = "pubsub", .since = since_,      \
        .summary = summary_, .complexity = complexity_, __VA_ARGS__                                                    \
    }

static const struct command_spec pubsub_subcommands[] = {
    ROW("channels", pubsub_channels, -2, LOOK_FLAGS, "2.8.0", "The channels that have subscribers",
        "O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively short "
        "channels and patterns)",
        .arguments = "[pattern:p]"),
    ROW("numpat", pubsub_numpat, 2, LOOK_FLAGS, "2.8.0", "How many patterns have subscribers", "O(1)", .history = NULL),
    ROW("numsub", pubsub_numsub, -2, LOOK_FLAGS, "2.8.0", "How many subscribers channels have",
        "O(N) for the NUMSUB subcommand, where N is the number of requested channels", .arguments = "[channel...]"),
    ROW("shardchannels", pubsub_shardchannels, -2, LOOK_FLAGS, "7.0.0", "The shard channels that have subscribers",
        "O(N) where N is the number of active shard channels, and assuming constant time pattern matching (relatively "
        "short shard channels).",
        .arguments = "[pattern:p]"),
    ROW("shardnumsub", pubsub_shardnumsub, -2, LOOK_FLAGS, "7.0.0", "How many subscribers shard channels have",
        "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
        .arguments = "[shardchannel...]"),
    ROW("help", pubsub_help, 2, COMMAND_LOADING | COMMAND_STALE, "6.2.0", "Explains the subcommands", "O(1)",
        .history = NULL),
};

const struct command_spec pubsub_commands[] = {
    ROW("subscribe", command_subscribe, -2, LISTEN_FLAGS, "2.0.0", "Listens to channels",
        "O(N) where N is the number of channels to subscribe to.", .arguments = "channel..."),
    ROW("unsubscribe", command_unsubscribe, -1, LISTEN_FLAGS, "2.0.0", "Listens to channels no longer",
        "O(N) where N is the number of channels to unsubscribe.", .arguments = "[channel...]"),
    ROW("psubscribe", command_psubscribe, -2, LISTEN_FLAGS, "2.0.0", "Listens to all channels that match patterns",
        "O(N) where N is the number of patterns to subscribe to.", .arguments = "pattern{pattern:p}..."),
    ROW("punsubscribe", command_punsubscribe, -1, LISTEN_FLAGS, "2.0.0", "Listens to patterns no longer",
        "O(N) where N is the number of patterns to unsubscribe.", .arguments = "[pattern:p...]"),
    ROW("publish", command_publish, 3, PUBLISH_FLAGS, "2.0.0", "Sends a message to who listens to a channel",
        "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of "
        "subscribed patterns (by any client).",
        .arguments = "channel message"),
    ROW("ssubscribe", command_ssubscribe, -2, LISTEN_FLAGS, "7.0.0", "Listens to shard channels",
        "O(N) where N is the number of shard channels to subscribe to.", .arguments = "shardchannel...",
        .keys = {KEYS_FROM(1, -1, 1, KEY_NOT_KEY)}),
    ROW("sunsubscribe", command_sunsubscribe, -1, LISTEN_FLAGS, "7.0.0", "Listens to shard channels no longer",
        "O(N) where N is the number of shard channels to unsubscribe.", .arguments = "[shardchannel...]",
        .keys = {KEYS_FROM(1, -1, 1, KEY_NOT_KEY)}),
    ROW("spublish", command_spublish, 3, PUBLISH_FLAGS, "7.0.0", "Sends a message to who listens to a shard channel",
        "O(N) where N is the number of clients subscribed to the receiving shard channel.",
        .arguments = "shardchannel message", .keys = {KEY_AT(1, KEY_NOT_KEY)}),
    {.name = "pubsub",
     .arity = -2,
     .group = "pubsub",
     .since = "2.8.0",
     .summary = "Commands about who listens to what",
     .complexity = "Depends on subcommand.",
     .subcommands = pubsub_subcommands,
     .subcommand_count = sizeof(pubsub_subcommands) / sizeof(pubsub_subcommands[0])},
};
const unsigned pubsub_command_count = sizeof(pubsub_commands) / sizeof(pubsub_commands[0]);
