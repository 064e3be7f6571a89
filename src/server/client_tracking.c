/* CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR: how a client has its cache kept up to date (tracking.h).
 *
 * TRACKING carries COMMAND_EXCLUSIVE, because the connection that messages are redirected to may belong to another
 * worker, and because nobody may be in the middle of telling a client whose mode changes. */

#include "server/client_tracking.h"

#include "command/session.h"
#include "server/client_handlers.h"
#include "server/delivery.h"
#include "server/server.h"
#include "server/tracking.h"

#include <stdlib.h>

/* ---- what reads are remembered ---- */

void client_tracking_remember(void *ctx, const struct call *call) {
    struct server *server = ctx;
    struct session *session = call->session;
    struct tracker *tracker = session->tracker;
    uint64_t said = tracker->caching_at, now = session->commands;
    /* It holds for the next command, or for the transaction that began with the next command. */
    bool caching = said && (now == said + 1 || (call->in_transaction && now == said + 2 + session->transaction.count));
    if (((tracker->flags & TRACKER_OPT_IN) && !caching) || ((tracker->flags & TRACKER_OPT_OUT) && caching)) return;
    for (uint32_t i = 0; i < call->key_count; i++) tracking_remember(server->tracking, tracker, &call->keys[i]);
}

/* ---- TRACKING ---- */

struct tracking_request {
    int64_t redirect; /* 0: none */
    uint32_t flags;
    struct span *prefixes; /* owned */
    size_t prefix_count;
};

static struct session *find_session(const struct server *server, int64_t id) {
    for (unsigned i = 0; i < server->worker_count; i++)
        for (struct connection *at = server->workers[i]->connections; at; at = at->next)
            if (!at->killed && (int64_t)at->session.id == id) return &at->session;
    return NULL;
}

static bool parse_redirect(struct call *call, uint32_t index, struct tracking_request *request) {
    if (request->redirect) {
        reply_error(call->reply, "ERR A client can only redirect to a single other client");
        return false;
    }
    if (!call_integer(call, index, &request->redirect)) return false;
    if (find_session(server_of(call), request->redirect)) return true;
    reply_error(call->reply, "ERR The client ID you want redirect to does not exist");
    return false;
}

static bool parse_tracking(struct call *call, struct tracking_request *request) {
    for (uint32_t i = 3; i < call->argc; i++) {
        bool more = i + 1 < call->argc;
        if (call_is(call, i, "redirect") && more) {
            if (!parse_redirect(call, ++i, request)) return false;
        } else if (call_is(call, i, "bcast")) {
            request->flags |= TRACKER_BROADCAST;
        } else if (call_is(call, i, "optin")) {
            request->flags |= TRACKER_OPT_IN;
        } else if (call_is(call, i, "optout")) {
            request->flags |= TRACKER_OPT_OUT;
        } else if (call_is(call, i, "noloop")) {
            request->flags |= TRACKER_NO_LOOP;
        } else if (call_is(call, i, "prefix") && more) {
            request->prefixes[request->prefix_count++] = call->argv[++i];
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

#define OTHER_MODE " mode before disabling tracking for this client, and then re-enabling it with a different mode."

/* NULL: the request makes sense beside the mode that is in force. */
static const char *conflict_of(const struct tracking_request *request, const struct tracker *old) {
    uint32_t flags = request->flags, options = TRACKER_OPT_IN | TRACKER_OPT_OUT;
    if (!(flags & TRACKER_BROADCAST) && request->prefix_count)
        return "ERR PREFIX option requires BCAST mode to be enabled";
    if (old && ((old->flags ^ flags) & TRACKER_BROADCAST))
        return "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling "
               "it with a different mode.";
    if ((flags & TRACKER_BROADCAST) && (flags & options)) return "ERR OPTIN and OPTOUT are not compatible with BCAST";
    if ((flags & options) == options) return "ERR You can't specify both OPTIN mode and OPTOUT mode";
    if (old && (((flags & TRACKER_OPT_IN) && (old->flags & TRACKER_OPT_OUT)) ||
                ((flags & TRACKER_OPT_OUT) && (old->flags & TRACKER_OPT_IN))))
        return "ERR You can't switch OPTIN/OPTOUT" OTHER_MODE;
    return NULL;
}

static bool overlap(struct span a, struct span b) {
    size_t common = a.length < b.length ? a.length : b.length;
    return memcmp(a.data, b.data, common) == 0;
}

#define SHOWN(span) (int)((span).length < 128 ? (span).length : 128), (span).data

/* One message must not be sent twice: no prefix may begin another. */
static bool expect_apart(struct call *call, const struct tracking_request *request, const struct tracker *old) {
    for (size_t i = 0; i < request->prefix_count; i++) {
        struct span prefix = request->prefixes[i];
        for (const struct tracker_prefix *at = old ? old->prefixes : NULL; at; at = at->next) {
            struct span other = span_of(at->text, at->length);
            if (!overlap(prefix, other)) continue;
            reply_error_format(call->reply,
                               "ERR Prefix '%.*s' overlaps with an existing prefix '%.*s'. Prefixes for a single "
                               "client must not overlap.",
                               SHOWN(prefix), SHOWN(other));
            return false;
        }
        for (size_t k = i + 1; k < request->prefix_count; k++) {
            if (!overlap(prefix, request->prefixes[k])) continue;
            reply_error_format(call->reply,
                               "ERR Prefix '%.*s' overlaps with another provided prefix '%.*s'. Prefixes for a single "
                               "client must not overlap.",
                               SHOWN(prefix), SHOWN(request->prefixes[k]));
            return false;
        }
    }
    return true;
}

void client_tracking_end(struct server *server, struct session *session) {
    if (session->tracker) tracking_end(server->tracking, session->tracker);
    session->tracker = NULL;
    session->tracks = false;
    session->tracking_bytes = 0;
}

static struct mailbox *mailbox_of(struct session *session) {
    struct worker *worker = ((struct connection *)session->connection)->owner;
    return delivery_mailbox(session, worker->id);
}

static bool begin_tracking(struct call *call, const struct tracking_request *request) {
    struct server *server = server_of(call);
    struct session *session = call->session;
    struct mailbox *mailbox = mailbox_of(session), *target = NULL;
    if (request->redirect) target = mailbox_of(find_session(server, request->redirect));
    if (!mailbox || (request->redirect && !target)) return false;
    bool begins = !session->tracker;
    if (begins) session->tracker = tracking_begin(server->tracking, mailbox);
    if (!session->tracker) return false;
    if (!tracking_set_mode(server->tracking, session->tracker, request->flags, target, request->prefixes,
                           request->prefix_count)) {
        if (begins) client_tracking_end(server, session);
        return false;
    }
    session->tracks = !(request->flags & TRACKER_BROADCAST);
    session->tracking_bytes = session->tracker->prefix_bytes;
    return true;
}

static void turn_on(struct call *call, const struct tracking_request *request) {
    const struct tracker *old = call->session->tracker;
    const char *conflict = conflict_of(request, old);
    if (conflict)
        reply_error(call->reply, conflict);
    else if (!expect_apart(call, request, old))
        return;
    else if (begin_tracking(call, request))
        reply_ok(call->reply);
    else
        call_no_memory(call);
}

void client_tracking(struct call *call) {
    struct tracking_request request = {.prefixes = malloc(call->argc * sizeof(struct span))};
    if (!request.prefixes) {
        call_no_memory(call);
        return;
    }
    if (!parse_tracking(call, &request)) {
        free(request.prefixes);
        return;
    }
    if (call_is(call, 2, "on")) {
        turn_on(call, &request);
    } else if (call_is(call, 2, "off")) {
        client_tracking_end(server_of(call), call->session);
        reply_ok(call->reply);
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
    }
    free(request.prefixes);
}

/* ---- CACHING, GETREDIR, TRACKINGINFO ---- */

void client_caching(struct call *call) {
    struct tracker *tracker = call->session->tracker;
    bool yes = call_is(call, 2, "yes");
    uint32_t flags = tracker ? tracker->flags : 0;
    const char *error = NULL;
    if (!tracker)
        error = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode "
                "enabled";
    else if (!yes && !call_is(call, 2, "no"))
        error = ERROR_SYNTAX;
    else if (yes && !(flags & TRACKER_OPT_IN))
        error = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
    else if (!yes && !(flags & TRACKER_OPT_OUT))
        error = "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";
    if (error) {
        reply_error(call->reply, error);
        return;
    }
    /* Within EXEC it holds for what follows there. */
    tracker->caching_at = call->session->commands - call->in_transaction;
    reply_ok(call->reply);
}

static int64_t redirect_of(const struct tracker *tracker) {
    return !tracker ? -1 : tracker->target ? (int64_t)tracker->target->id : 0;
}

void client_getredir(struct call *call) {
    reply_integer(call->reply, redirect_of(call->session->tracker));
}

static bool caching_was_said(const struct session *session) {
    const struct tracker *tracker = session->tracker;
    return tracker->caching_at && session->commands <= tracker->caching_at + 1;
}

static void reply_flags(struct call *call, const struct tracker *tracker) {
    struct reply *reply = call->reply;
    const char *names[8];
    size_t count = 0;
    names[count++] = tracker ? "on" : "off";
    if (tracker) {
        bool said = caching_was_said(call->session);
        if (tracker->flags & TRACKER_BROADCAST) names[count++] = "bcast";
        if (tracker->flags & TRACKER_OPT_IN) names[count++] = "optin";
        if ((tracker->flags & TRACKER_OPT_IN) && said) names[count++] = "caching-yes";
        if (tracker->flags & TRACKER_OPT_OUT) names[count++] = "optout";
        if ((tracker->flags & TRACKER_OPT_OUT) && said) names[count++] = "caching-no";
        if (tracker->flags & TRACKER_NO_LOOP) names[count++] = "noloop";
        if (atomic_load(&tracker->broken)) names[count++] = "broken_redirect";
    }
    reply_set(reply, count);
    for (size_t i = 0; i < count; i++) reply_bulk_text(reply, names[i]);
}

void client_trackinginfo(struct call *call) {
    const struct tracker *tracker = call->session->tracker;
    const struct tracker_prefix *prefixes = tracker ? tracker->prefixes : NULL;
    bool all = tracker && (tracker->flags & TRACKER_BROADCAST) && !prefixes;
    size_t count = all;
    for (const struct tracker_prefix *prefix = prefixes; prefix; prefix = prefix->next) count++;
    reply_map(call->reply, 3);
    reply_bulk_text(call->reply, "flags");
    reply_flags(call, tracker);
    reply_bulk_text(call->reply, "redirect");
    reply_integer(call->reply, redirect_of(tracker));
    reply_bulk_text(call->reply, "prefixes");
    reply_array(call->reply, count);
    if (all) reply_bulk_text(call->reply, "");
    for (const struct tracker_prefix *prefix = prefixes; prefix; prefix = prefix->next)
        reply_bulk(call->reply, span_of(prefix->text, prefix->length));
}
