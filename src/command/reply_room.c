/* See reply_room.h. What the gate of the tier has granted to copies of cold records counts a second time for the reply
 * that is made of them (tier_gate), so that is drawn on first. */

#include "command/reply_room.h"

static size_t promised_to_copies(struct dispatcher *dispatcher, size_t bytes) {
    struct reply_room *room = &dispatcher->reply_room;
    size_t promised = dispatcher->port ? tier_claim_promised(&room->session->waiter) : 0;
    size_t left = promised > room->drawn ? promised - room->drawn : 0;
    return left < bytes ? left : bytes;
}

static bool ask(void *ctx, size_t bytes) {
    struct dispatcher *dispatcher = ctx;
    struct command_host *host = dispatcher->host;
    size_t promised = promised_to_copies(dispatcher, bytes);
    if (promised < bytes && !host->has_room(host->ctx, bytes - promised)) return false;
    dispatcher->reply_room.drawn += promised;
    return true;
}

static bool ask_now(void *ctx, size_t bytes) {
    struct dispatcher *dispatcher = ctx;
    struct command_host *host = dispatcher->host;
    return ask(ctx, bytes) || (host->can_refuse && host->can_refuse(host->ctx, bytes));
}

static void took(void *ctx, size_t bytes) {
    struct dispatcher *dispatcher = ctx;
    dispatcher->host->room_taken(dispatcher->host->ctx, bytes);
}

const struct reply_budget reply_room_budget = {.ask = ask, .took = took};
static const struct reply_budget budget_of_now = {.ask = ask_now, .took = took};

enum memory_answer reply_room_begin(struct dispatcher *dispatcher, struct session *session, struct reply *reply) {
    struct command_host *host = dispatcher->host;
    enum memory_answer answer = MEMORY_RUN;
    dispatcher->reply_room = (struct reply_room){.session = session};
    size_t promised = promised_to_copies(dispatcher, session->reply_wanted);
    session->reply_asked = session->reply_wanted - promised;
    if (session->reply_wanted)
        answer = host->ask_memory(host->ctx, session, dispatcher->worker, false, session->reply_asked);
    session->paused = answer == MEMORY_WAIT;
    if (answer == MEMORY_REFUSED) session->reply_wanted = 0;
    if (answer != MEMORY_RUN) return answer;
    reply_room_begin_short(dispatcher, session, reply);
    dispatcher->reply_room.drawn = promised;
    if (session->reply_wanted > reply->granted) reply->granted = session->reply_wanted;
    return MEMORY_RUN;
}

void reply_room_begin_now(struct dispatcher *dispatcher, struct reply *reply) {
    reply_bound(reply, 0, &budget_of_now, dispatcher);
}
