/* Lists: from one to another, or from one end of a list to its other. LMOVE and RPOPLPUSH, which is its first form, and
 * the same waiting for the source: BLMOVE, BRPOPLPUSH. */

#include "command/blocking.h"
#include "command/effect.h"
#include "command/list_handlers.h"

#include <stdlib.h>

/* Of a command that waits: what it does when it need not. */
static void tell_move(struct call *call) {
    if (!(call->command->flags & COMMAND_BLOCKING)) return;
    bool ends = call->argc > 4;
    const struct span words[] = {ends ? SPAN_LITERAL("LMOVE") : SPAN_LITERAL("RPOPLPUSH"), call->argv[1], call->argv[2],
                                 ends ? call->argv[3] : SPAN_LITERAL(""), ends ? call->argv[4] : SPAN_LITERAL("")};
    call_effect(call, words, ends ? 5 : 3);
}

/* False: there is nothing to move. True: it has replied. The target is looked up first, so that nothing comes between
 * the source's lookup and its change; that the target holds something else matters only when there is a source. */
static bool move(struct call *call, enum list_end from, enum list_end to) {
    struct list_value source, target;
    const struct key *source_key = &call->keys[0], *target_key = &call->keys[1];
    bool same = span_equal(source_key->name, target_key->name);
    bool fits = same || list_value_open(&target, &call->view, target_key, LIST_FOR_WRITE);
    if (!list_expect(call, source_key, LIST_FOR_WRITE, &source)) return true;
    if (!list_value_exists(&source)) return false;
    if (!fits) {
        reply_error(call->reply, ERROR_WRONG_TYPE);
        return true;
    }
    struct list_limits limits = list_limits(call);
    struct list_moved moved = {0};
    enum page_status status = list_value_move(&source, from, same ? &source : &target, to, &limits, &moved);
    if (status == PAGE_NO_MEMORY) {
        call_no_memory(call);
        list_tell_value(call, target_key); /* it may have been left with the element */
    }
    if (status == PAGE_DONE) {
        tell_move(call);
        reply_bulk(call->reply, span_of(moved.bytes, moved.length));
        list_notify_push(call, target_key, to);
        list_notify_removal(call, &source, list_pop_event(from));
    }
    free(moved.bytes);
    return true;
}

static void move_in_time(struct call *call, enum list_end from, enum list_end to, uint32_t timeout) {
    int64_t timeout_ms;
    if (!call_timeout_seconds(call, timeout, &timeout_ms) || move(call, from, to)) return;
    if (!call_block(call, &call->keys[0], 1, timeout_ms, BLOCKED_ON_LIST)) reply_null(call->reply);
}

void command_lmove(struct call *call) {
    enum list_end from, to;
    if (!list_end_argument(call, 3, &from) || !list_end_argument(call, 4, &to)) return;
    if (!move(call, from, to)) reply_null(call->reply);
}

void command_rpoplpush(struct call *call) {
    if (!move(call, LIST_LAST, LIST_FIRST)) reply_null(call->reply);
}

void command_blmove(struct call *call) {
    enum list_end from, to;
    if (list_end_argument(call, 3, &from) && list_end_argument(call, 4, &to)) move_in_time(call, from, to, 5);
}

void command_brpoplpush(struct call *call) {
    move_in_time(call, LIST_LAST, LIST_FIRST, 3);
}
