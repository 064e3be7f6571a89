/* Commands about the connection itself: who the client is, which protocol it speaks, whether anybody is there.
 *
 * There is one user, "default", who has the password of `requirepass`, or none. A connection accepted while there was
 * none stays authenticated when one is set; see also host->open_to_all. */

#include "base/number.h"
#include "command/session.h"
#include "server/client_line.h"
#include "server/families.h"
#include "server/password.h"
#include "server/server.h"

#define ERROR_WRONG_PASSWORD "WRONGPASS invalid username-password pair or user is disabled."
#define ERROR_NO_PASSWORD_SET                                                                                          \
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your "              \
    "configuration is correct?"
#define ERROR_HELLO_FIRST                                                                                              \
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "       \
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
#define ERROR_CLIENT_NAME "ERR Client names cannot contain spaces, newlines or special characters."

static struct span required_password(const struct call *call) {
    const struct config_secret *secret = &server_of(call)->config.security.requirepass;
    return span_of(secret->bytes, secret->length);
}

/* ---- who ---- */

/* Lets the session in if user and password are right; else composes the error. */
static bool authenticate(struct call *call, struct span user, struct span password) {
    struct span secret = required_password(call);
    /* Both are looked at in any case: the time taken must not tell a right name from a wrong one. */
    bool right = password_matches(password, secret) || secret.length == 0;
    if (!span_equal(user, SPAN_LITERAL("default")) || !right) {
        reply_error(call->reply, ERROR_WRONG_PASSWORD);
        return false;
    }
    call->session->authenticated = true;
    return true;
}

static void command_auth(struct call *call) {
    if (call->argc > 3) {
        reply_error(call->reply, ERROR_SYNTAX);
    } else if (call->argc == 2 && required_password(call).length == 0) {
        reply_error(call->reply, ERROR_NO_PASSWORD_SET);
    } else {
        struct span user = call->argc == 3 ? call->argv[1] : SPAN_LITERAL("default");
        if (authenticate(call, user, call->argv[call->argc - 1])) reply_ok(call->reply);
    }
}

/* ---- HELLO ---- */

struct hello {
    int64_t version; /* 0: as it is */
    bool has_auth, has_name;
    struct span user, password, name;
};

static bool parse_hello(struct call *call, struct hello *hello) {
    *hello = (struct hello){0};
    if (call->argc >= 2) {
        if (!number_parse_i64(call->argv[1], &hello->version)) {
            reply_error(call->reply, "ERR Protocol version is not an integer or out of range");
            return false;
        }
        if (hello->version < 2 || hello->version > 3) {
            reply_error(call->reply, "NOPROTO unsupported protocol version");
            return false;
        }
    }
    for (uint32_t i = 2; i < call->argc; i++) {
        uint32_t more = call->argc - 1 - i;
        if (call_is(call, i, "auth") && more >= 2) {
            hello->has_auth = true;
            hello->user = call->argv[++i];
            hello->password = call->argv[++i];
        } else if (call_is(call, i, "setname") && more >= 1) {
            hello->has_name = true;
            hello->name = call->argv[++i];
            if (client_attribute_is_valid(hello->name)) continue;
            reply_error(call->reply, ERROR_CLIENT_NAME);
            return false;
        } else {
            reply_error_format(call->reply, "ERR Syntax error in HELLO option '%.*s'",
                               (int)(call->argv[i].length < 128 ? call->argv[i].length : 128), call->argv[i].data);
            return false;
        }
    }
    return true;
}

static void reply_hello(struct call *call) {
    struct reply *reply = call->reply;
    reply_map(reply, 7);
    reply_bulk_text(reply, "server");
    reply_bulk_text(reply, "redis"); /* drivers look for this name */
    reply_bulk_text(reply, "version");
    reply_bulk_text(reply, SERVER_REDIS_VERSION);
    reply_bulk_text(reply, "proto");
    reply_integer(reply, call->session->protocol);
    reply_bulk_text(reply, "id");
    reply_integer(reply, (int64_t)call->session->id);
    reply_bulk_text(reply, "mode");
    reply_bulk_text(reply, "standalone");
    reply_bulk_text(reply, "role");
    reply_bulk_text(reply, "master");
    reply_bulk_text(reply, "modules");
    reply_array(reply, 0);
}

static void command_hello(struct call *call) {
    struct session *session = call->session;
    struct hello hello;
    if (!parse_hello(call, &hello)) return;
    if (hello.has_auth && !authenticate(call, hello.user, hello.password)) return;
    if (!session->authenticated && required_password(call).length > 0) {
        reply_error(call->reply, ERROR_HELLO_FIRST);
        return;
    }
    if (hello.has_name && !client_attribute_set(&session->name, hello.name)) {
        call_no_memory(call);
        return;
    }
    if (hello.version) session->protocol = (uint8_t)hello.version;
    call->reply->resp3 = session->protocol == 3;
    reply_hello(call);
}

/* ---- PING, ECHO ---- */

/* To a client that expects nothing but messages it is one of them. */
static void ping_subscribed(struct call *call) {
    reply_array(call->reply, 2);
    reply_bulk_text(call->reply, "pong");
    reply_bulk(call->reply, call->argc == 2 ? call->argv[1] : span_of("", 0));
}

static void command_ping(struct call *call) {
    if (call->argc > 2) {
        reply_error_format(call->reply, "ERR wrong number of arguments for '%s' command", call->command->full_name);
    } else if (call->session->subscriptions && call->session->protocol == 2) {
        ping_subscribed(call);
    } else if (call->argc == 2) {
        reply_bulk(call->reply, call->argv[1]);
    } else {
        reply_raw(call->reply, "+PONG\r\n", 7);
    }
}

static void command_echo(struct call *call) {
    reply_bulk(call->reply, call->argv[1]);
}

/* ---- QUIT, RESET ---- */

static void command_quit(struct call *call) {
    /* Whoever sees the reply may count on it that nothing is sent here any more. */
    if (call->session->mailbox) mailbox_shut(call->session->mailbox);
    call->session->closing = true;
    reply_ok(call->reply);
}

/* Back to the state of a new connection. What CLIENT SETINFO told stays: the driver has not changed. */
static void command_reset(struct call *call) {
    struct session *session = call->session;
    if (session->monitoring) monitor_leave(server_of(call)->workers[call->dispatcher->worker], session->connection);
    delivery_reset(server_of(call), session);
    transaction_discard(&session->transaction);
    transaction_unwatch(call->dispatcher, session, false);
    session->database = 0;
    session->protocol = 2;
    session->reply_mode = SESSION_REPLY_ON;
    session->authenticated = required_password(call).length == 0;
    session->no_touch = session->no_evict = false;
    bool unnamed = client_attribute_set(&session->name, span_of("", 0));
    (void)unnamed; /* forgetting takes no memory */
    call->reply->resp3 = false;
    reply_simple(call->reply, "RESET");
}

/* ---- the family ---- */

#define DOOR_FLAGS                                                                                                     \
    (COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST | COMMAND_NO_AUTH | COMMAND_ALLOW_BUSY)

const struct command_spec connection_commands[] = {
    {.name = "auth",
     .handler = command_auth,
     .arity = -2,
     .flags = DOOR_FLAGS,
     .categories = CATEGORY_CONNECTION,
     .group = "connection",
     .since = "1.0.0",
     .summary = "Tells the server who the client is",
     .complexity = "O(N) where N is the number of passwords defined for the user",
     .arguments = "[username@6.0.0] password",
     .history = "6.0.0 Takes a user's name as well"},
    {.name = "hello",
     .handler = command_hello,
     .arity = -1,
     .flags = DOOR_FLAGS,
     .categories = CATEGORY_CONNECTION,
     .group = "connection",
     .since = "6.0.0",
     .summary = "Agrees on the protocol, and introduces both sides",
     .complexity = "O(1)",
     .arguments = "[arguments{protover:i [AUTH username_password{username password}] [SETNAME clientname]}]",
     .history = "6.2.0 The version may be left out to see what is in force"},
    {.name = "ping",
     .handler = command_ping,
     .arity = -1,
     .flags = COMMAND_FAST | COMMAND_WHILE_SUBSCRIBED,
     .categories = CATEGORY_CONNECTION,
     .group = "connection",
     .since = "1.0.0",
     .summary = "Answers PONG, or the given message",
     .complexity = "O(1)",
     .arguments = "[message]",
     .tips = "request_policy:all_shards response_policy:all_succeeded"},
    {.name = "echo",
     .handler = command_echo,
     .arity = 2,
     .flags = COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST,
     .categories = CATEGORY_CONNECTION,
     .group = "connection",
     .since = "1.0.0",
     .summary = "Answers with the given message",
     .complexity = "O(1)",
     .arguments = "message"},
    {.name = "quit",
     .handler = command_quit,
     .arity = -1,
     .flags = DOOR_FLAGS | COMMAND_CONTROL | COMMAND_WHILE_SUBSCRIBED,
     .categories = CATEGORY_CONNECTION,
     .group = "connection",
     .since = "1.0.0",
     .summary = "Closes the connection",
     .complexity = "O(1)"},
    {.name = "reset",
     .handler = command_reset,
     .arity = 1,
     .flags = DOOR_FLAGS | COMMAND_CONTROL | COMMAND_WHILE_SUBSCRIBED,
     .categories = CATEGORY_CONNECTION,
     .group = "connection",
     .since = "6.2.0",
     .summary = "Makes the connection as good as new",
     .complexity = "O(1)"},
};
const unsigned connection_command_count = sizeof(connection_commands) / sizeof(connection_commands[0]);
