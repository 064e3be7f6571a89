/* CLIENT: what a client can learn and decide about connections, its own and others.
 *
 * LIST, KILL, PAUSE and UNBLOCK carry COMMAND_EXCLUSIVE: while they run all workers stand still, so every connection
 * can be looked at, and a pause begins for all at the same moment. A killed connection is only marked; its own worker
 * closes it as its next step. */

#include "base/number.h"
#include "command/session.h"
#include "server/client_handlers.h"
#include "server/client_line.h"
#include "server/primary_link.h"
#include "server/server.h"

#include <stdlib.h>

enum { QUOTED_MAX = 128 }; /* bytes of an argument shown in an error */

#define QUOTED(span) (int)((span).length < QUOTED_MAX ? (span).length : QUOTED_MAX), (span).data

static struct connection *connection_of(const struct call *call) {
    return call->session->connection;
}

/* Argument `index` as a switch; otherwise the error is composed. */
static bool on_or_off(struct call *call, uint32_t index, bool *value) {
    *value = call_is(call, index, "on");
    if (*value || call_is(call, index, "off")) return true;
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

static bool parse_class(struct call *call, uint32_t index, enum client_class *class) {
    if (client_class_parse(call->argv[index], class)) return true;
    reply_error_format(call->reply, "ERR Unknown client type '%.*s'", QUOTED(call->argv[index]));
    return false;
}

/* ---- every connection ---- */

struct connections {
    size_t count;
    struct connection **all; /* by rising id, which is the order they came in; owned */
};

static int compare_ids(const void *a, const void *b) {
    const struct connection *const *first = a, *const *second = b;
    return (*first)->session.id < (*second)->session.id ? -1 : (*first)->session.id > (*second)->session.id;
}

/* False: no memory; the error is composed. */
static bool collect_connections(struct call *call, struct connections *connections) {
    struct server *server = server_of(call);
    struct connection *primary = primary_link_shown(server);
    size_t capacity = 2;
    for (unsigned i = 0; i < server->worker_count; i++) capacity += atomic_load(&server->workers[i]->connection_count);
    *connections = (struct connections){.all = malloc(capacity * sizeof(struct connection *))};
    if (!connections->all) {
        call_no_memory(call);
        return false;
    }
    for (unsigned i = 0; i < server->worker_count; i++)
        for (struct connection *at = server->workers[i]->connections; at && connections->count < capacity;
             at = at->next)
            if (!at->killed) connections->all[connections->count++] = at;
    if (primary && connections->count < capacity) connections->all[connections->count++] = primary;
    qsort(connections->all, connections->count, sizeof(struct connection *), compare_ids);
    return true;
}

static struct connection *find_connection(const struct connections *connections, uint64_t id) {
    size_t low = 0, high = connections->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (connections->all[middle]->session.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < connections->count && connections->all[low]->session.id == id ? connections->all[low] : NULL;
}

/* ---- LIST, INFO ---- */

struct client_text {
    FILE *out;
    char *data;
    size_t length;
};

static bool begin_text(struct call *call, struct client_text *text) {
    *text = (struct client_text){0};
    text->out = open_memstream(&text->data, &text->length);
    if (!text->out) call_no_memory(call);
    return text->out != NULL;
}

static void reply_text(struct call *call, struct client_text *text) {
    if (fclose(text->out) == 0)
        reply_verbatim(call->reply, span_of(text->data, text->length));
    else
        call_no_memory(call);
    free(text->data);
}

static void list_class(struct call *call, const struct connections *connections, const enum client_class *class) {
    struct client_text text;
    if (!begin_text(call, &text)) return;
    for (size_t i = 0; i < connections->count; i++)
        if (!class || client_class_of(connections->all[i]) == *class)
            client_line_print(text.out, connections->all[i], call->view.now_ms);
    reply_text(call, &text);
}

static void list_ids(struct call *call, const struct connections *connections) {
    struct client_text text;
    for (uint32_t i = 3; i < call->argc; i++) {
        int64_t id;
        if (number_parse_i64(call->argv[i], &id)) continue;
        reply_error(call->reply, "ERR Invalid client ID");
        return;
    }
    if (!begin_text(call, &text)) return;
    for (uint32_t i = 3; i < call->argc; i++) {
        int64_t id = 0;
        bool parsed = number_parse_i64(call->argv[i], &id);
        const struct connection *found = parsed && id > 0 ? find_connection(connections, (uint64_t)id) : NULL;
        if (found) client_line_print(text.out, found, call->view.now_ms);
    }
    reply_text(call, &text);
}

void client_list(struct call *call) {
    bool by_class = call->argc == 4 && call_is(call, 2, "type"), by_id = call->argc > 3 && call_is(call, 2, "id");
    enum client_class class;
    struct connections connections;
    if (call->argc > 2 && !by_class && !by_id) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (by_class && !parse_class(call, 3, &class)) return;
    if (!collect_connections(call, &connections)) return;
    if (by_id)
        list_ids(call, &connections);
    else
        list_class(call, &connections, by_class ? &class : NULL);
    free(connections.all);
}

void client_info(struct call *call) {
    struct client_text text;
    if (!begin_text(call, &text)) return;
    client_line_print(text.out, connection_of(call), call->view.now_ms);
    reply_text(call, &text);
}

/* ---- KILL ---- */

/* What a victim has to be; all that is set must hold. */
struct kill_filter {
    bool by_address_only; /* the old form, CLIENT KILL address:port */
    bool spare_self;
    bool has_class;
    enum client_class class;
    int64_t id;                 /* 0: any */
    int64_t age_s;              /* connected for so long, at least; 0: any */
    struct span address, local; /* data NULL: any */
};

static bool parse_kill_option(struct call *call, uint32_t i, struct kill_filter *filter) {
    struct span value = call->argv[i + 1];
    if (call_is(call, i, "id"))
        return call_integer_within(call, i + 1, 1, INT64_MAX, "ERR client-id should be greater than 0", &filter->id);
    if (call_is(call, i, "type")) {
        filter->has_class = true;
        return parse_class(call, i + 1, &filter->class);
    }
    if (call_is(call, i, "addr")) {
        filter->address = value;
        return true;
    }
    if (call_is(call, i, "laddr")) {
        filter->local = value;
        return true;
    }
    if (call_is(call, i, "user")) { /* everybody is this one */
        if (span_equal(value, SPAN_LITERAL("default"))) return true;
        reply_error_format(call->reply, "ERR No such user '%.*s'", QUOTED(value));
        return false;
    }
    if (call_is(call, i, "maxage")) {
        if (!call_integer_within(call, i + 1, INT64_MIN, INT64_MAX, "ERR maxage is not an integer or out of range",
                                 &filter->age_s))
            return false;
        if (filter->age_s > 0) return true;
        reply_error(call->reply, "ERR maxage should be greater than 0");
        return false;
    }
    if (call_is(call, i, "skipme") && (span_is_word(value, "yes") || span_is_word(value, "no"))) {
        filter->spare_self = span_is_word(value, "yes");
        return true;
    }
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

static bool parse_kill(struct call *call, struct kill_filter *filter) {
    *filter = (struct kill_filter){.spare_self = true};
    if (call->argc == 3) {
        *filter = (struct kill_filter){.by_address_only = true, .address = call->argv[2]};
        return true;
    }
    for (uint32_t i = 2; i < call->argc; i += 2) {
        if (i + 1 == call->argc) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!parse_kill_option(call, i, filter)) return false;
    }
    return true;
}

static bool is_victim(const struct kill_filter *filter, const struct connection *connection, bool is_self,
                      int64_t now_ms) {
    if (is_self && filter->spare_self) return false;
    if (filter->age_s && now_ms / 1000 - connection->session.created_ms / 1000 < filter->age_s) return false;
    if (filter->id && connection->session.id != (uint64_t)filter->id) return false;
    if (filter->has_class && client_class_of(connection) != filter->class) return false;
    if (filter->address.data && !span_equal(filter->address, span_of_text(connection->peer.address))) return false;
    return !filter->local.data || span_equal(filter->local, span_of_text(connection->peer.local));
}

void client_kill(struct call *call) {
    struct kill_filter filter;
    struct connections connections;
    int64_t killed = 0;
    if (!parse_kill(call, &filter) || !collect_connections(call, &connections)) return;
    for (size_t i = 0; i < connections.count; i++) {
        struct connection *connection = connections.all[i];
        bool is_self = connection == connection_of(call);
        if (!is_victim(&filter, connection, is_self, call->view.now_ms)) continue;
        killed++;
        if (is_self)
            call->session->closing = true; /* it gets its answer first */
        else if (connection->is_primary)
            primary_link_kill(server_of(call));
        else
            worker_kill(connection);
    }
    free(connections.all);
    if (!filter.by_address_only)
        reply_integer(call->reply, killed);
    else if (killed)
        reply_ok(call->reply);
    else
        reply_error(call->reply, "ERR No such client");
}

/* ---- UNBLOCK ---- */

/* The client's own worker answers it. */
void client_unblock(struct call *call) {
    struct connections connections;
    bool with_error = false;
    int64_t id;
    if (call->argc > 4) {
        reply_error_format(call->reply,
                           "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try CLIENT HELP.",
                           QUOTED(call->argv[1]));
        return;
    }
    if (call->argc == 4) {
        with_error = call_is(call, 3, "error");
        if (!with_error && !call_is(call, 3, "timeout")) {
            reply_error(call->reply, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
            return;
        }
    }
    if (!call_integer(call, 2, &id) || !collect_connections(call, &connections)) return;
    const struct connection *found = id > 0 ? find_connection(&connections, (uint64_t)id) : NULL;
    struct blocked *blocked = found ? found->session.blocked : NULL;
    bool may = blocked && blocked->type != BLOCKED_ON_END;
    reply_integer(call->reply, may && blocked_force(call->dispatcher, blocked, with_error));
    free(connections.all);
}

/* ---- PAUSE ---- */

void client_pause(struct call *call) {
    bool all = true;
    int64_t length_ms;
    if (call->argc > 4) {
        reply_error_format(call->reply,
                           "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try CLIENT HELP.",
                           QUOTED(call->argv[1]));
        return;
    }
    if (call->argc == 4) {
        all = call_is(call, 3, "all");
        if (!all && !call_is(call, 3, "write")) {
            reply_error(call->reply, "ERR CLIENT PAUSE mode must be WRITE or ALL");
            return;
        }
    }
    if (!call_integer_within(call, 2, INT64_MIN, INT64_MAX, "ERR timeout is not an integer or out of range",
                             &length_ms))
        return;
    if (length_ms < 0) {
        reply_error(call->reply, "ERR timeout is negative");
        return;
    }
    int64_t end_ms;
    if (__builtin_add_overflow(call->view.now_ms, length_ms, &end_ms)) {
        reply_error(call->reply, "ERR timeout is out of range");
        return;
    }
    pause_begin(server_of(call), PAUSE_BY_CLIENT, all, end_ms);
    reply_ok(call->reply);
}

void client_unpause(struct call *call) {
    pause_end(server_of(call), PAUSE_BY_CLIENT);
    reply_ok(call->reply);
}

/* ---- the connection's own attributes ---- */

void client_id(struct call *call) {
    reply_integer(call->reply, (int64_t)call->session->id);
}

void client_getname(struct call *call) {
    if (call->session->name)
        reply_bulk_text(call->reply, call->session->name);
    else
        reply_null(call->reply);
}

void client_setname(struct call *call) {
    if (!client_attribute_is_valid(call->argv[2]))
        reply_error(call->reply, "ERR Client names cannot contain spaces, newlines or special characters.");
    else if (client_attribute_set(&call->session->name, call->argv[2]))
        reply_ok(call->reply);
    else
        call_no_memory(call);
}

void client_setinfo(struct call *call) {
    struct session *session = call->session;
    char **attribute = call_is(call, 2, "lib-name")  ? &session->library_name
                       : call_is(call, 2, "lib-ver") ? &session->library_version
                                                     : NULL;
    if (!attribute)
        reply_error_format(call->reply, "ERR Unrecognized option '%.*s'", QUOTED(call->argv[2]));
    else if (!client_attribute_is_valid(call->argv[3]))
        reply_error_format(call->reply, "ERR %.*s cannot contain spaces, newlines or special characters.",
                           QUOTED(call->argv[2]));
    else if (client_attribute_set(attribute, call->argv[3]))
        reply_ok(call->reply);
    else
        call_no_memory(call);
}

void client_no_evict(struct call *call) {
    if (on_or_off(call, 2, &call->session->no_evict)) reply_ok(call->reply);
}

void client_no_touch(struct call *call) {
    if (on_or_off(call, 2, &call->session->no_touch)) reply_ok(call->reply);
}

/* Only ON is answered: the others are the beginning of the silence. */
void client_reply(struct call *call) {
    struct session *session = call->session;
    if (call_is(call, 2, "on")) {
        session->reply_mode = SESSION_REPLY_ON;
        session->told = true;
        reply_ok(call->reply);
    } else if (call_is(call, 2, "off")) {
        session->reply_mode = SESSION_REPLY_OFF;
    } else if (call_is(call, 2, "skip")) {
        if (session->reply_mode != SESSION_REPLY_OFF) session->reply_mode = SESSION_REPLY_SKIP;
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
    }
}

void client_help(struct call *call) {
    static const char *const lines[] = {
        "GETNAME",
        "    The name of this connection.",
        "GETREDIR",
        "    The connection that gets this one's invalidation messages; -1 for none.",
        "ID",
        "    The number of this connection.",
        "INFO",
        "    The line of this connection in the list.",
        "KILL <address:port>",
        "    Close the connection from this address.",
        "KILL <filter> <value> [<filter> <value> ...]",
        "    Close the connections that all of these filters match:",
        "    * ADDR <address:port>, LADDR <address:port>",
        "      The client's, or the server's end of it; <path>:0 for a unix socket.",
        "    * ID <number>",
        "      This one.",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      Those of a class.",
        "    * USER <name>",
        "      Those that authenticated as this user.",
        "    * SKIPME (YES|NO)",
        "      Whether the one that asks is spared; yes unless told otherwise.",
        "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <number> [<number> ...]]",
        "    One line for each connection.",
        "NO-EVICT (ON|OFF)",
        "    Whether this connection survives when clients use too much memory.",
        "NO-TOUCH (ON|OFF)",
        "    Whether what this connection reads counts as used.",
        "PAUSE <milliseconds> [WRITE|ALL]",
        "    Let the commands of all clients wait for a time, or only those that write.",
        "REPLY (ON|OFF|SKIP)",
        "    Answer everything, nothing, or everything but the next command.",
        "SETINFO (LIB-NAME|LIB-VER) <text>",
        "    Tell which client library this is.",
        "SETNAME <name>",
        "    Name this connection.",
        "UNBLOCK <number> [TIMEOUT|ERROR]",
        "    End the wait of a blocked connection, as if its time were over or with an error.",
        "UNPAUSE",
        "    End a pause.",
        NULL,
    };
    call_help(call, lines);
}
