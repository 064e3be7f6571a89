/* Sets: members of one set, added, removed, looked for, listed; and SMOVE, which is a removal and an addition. */

#include "command/effect_chunks.h"
#include "command/scan_argument.h"
#include "command/set_handlers.h"

enum { SCAN_REPLY_BYTES = 16 * 1024, /* composed on the stack */ LOOKED_FOR_TOGETHER = 64 };

/* Has the pages of the members from argument 2 on asked for, where they may be missing; true: all are at hand. */
static bool touch_members(struct call *call, struct set_value *set, bool adds) {
    bool at_hand = true;
    if (!set->root || !set->access.source) return true;
    for (uint32_t i = 2; i < call->argc; i++) at_hand = set_value_touch(set, call->argv[i]) && at_hand;
    return (!adds || set_value_touch_growth(set, call->argc - 2)) && at_hand;
}

static void tell_removed(struct call *call, const struct set_value *set, uint32_t key) {
    if (!set_value_exists(set)) call_notify(call, NOTIFY_GENERIC, "del", &call->keys[key]);
}

/* ---- SADD, SREM ---- */

void command_sadd(struct call *call) {
    struct set_value set;
    int64_t added = 0;
    if (!set_open(call, &set, 0, SET_FOR_WRITE) || !touch_members(call, &set, true)) return;
    enum page_status status = PAGE_DONE;
    for (uint32_t i = 2; i < call->argc; i++) {
        status = set_value_add(&set, call->argv[i]);
        added += status == PAGE_DONE;
        if (__builtin_expect(status != PAGE_MISSING && status != PAGE_NO_MEMORY, 1)) continue;
        call_effect_part(call, i, 2);
        break;
    }
    if (added) call_notify(call, NOTIFY_SET, "sadd", &call->keys[0]);
    if (__builtin_expect(status == PAGE_NO_MEMORY, 0))
        call_no_memory(call);
    else
        reply_integer(call->reply, added);
}

void command_srem(struct call *call) {
    struct set_value set;
    int64_t removed = 0;
    if (!set_open(call, &set, 0, SET_FOR_WRITE) || !touch_members(call, &set, false)) return;
    enum page_status status = PAGE_DONE;
    for (uint32_t i = 2; i < call->argc && set_value_exists(&set); i++) {
        status = set_value_remove(&set, call->argv[i]);
        removed += status == PAGE_DONE;
        if (__builtin_expect(status != PAGE_MISSING && status != PAGE_NO_MEMORY, 1)) continue;
        call_effect_part(call, i, 2);
        break;
    }
    if (removed) {
        call_notify(call, NOTIFY_SET, "srem", &call->keys[0]);
        tell_removed(call, &set, 0);
    }
    if (status == PAGE_NO_MEMORY)
        call_no_memory(call);
    else
        reply_integer(call->reply, removed);
}

/* ---- SMOVE ---- */

/* Adds first, so that a member for which there is no memory stays where it was; the source is opened again, since its
 * record may have moved. */
static enum page_status move_member(struct call *call, struct set_value *source, struct set_value *target,
                                    bool *added) {
    struct span member = call->argv[3];
    enum page_status status = set_value_add(target, member);
    *added = status == PAGE_DONE;
    if (status != PAGE_DONE && status != PAGE_EXISTS) return status;
    if (!set_value_open(source, &call->view, &call->keys[0], SET_FOR_WRITE)) return PAGE_ABSENT;
    status = set_value_remove(source, member);
    if (status == PAGE_DONE || !*added) return status;
    if (set_value_open(target, &call->view, &call->keys[1], SET_FOR_WRITE) &&
        set_value_remove(target, member) == PAGE_DONE)
        *added = false;
    return status;
}

void command_smove(struct call *call) {
    struct set_value source, target;
    struct span member = call->argv[3];
    bool added;
    if (!set_open(call, &source, 0, SET_FOR_WRITE)) return;
    if (!set_value_exists(&source)) {
        reply_integer(call->reply, 0);
        return;
    }
    if (!set_open(call, &target, 1, SET_FOR_WRITE)) return;
    enum page_status status = set_value_contains(&source, member);
    bool at_hand = set_value_touch(&target, member);
    at_hand = set_value_touch_growth(&target, 1) && at_hand && status != PAGE_MISSING;
    if (!at_hand) return;
    if (status == PAGE_ABSENT || span_equal(call->keys[0].name, call->keys[1].name)) {
        reply_integer(call->reply, status == PAGE_DONE);
        return;
    }
    status = move_member(call, &source, &target, &added);
    if (status != PAGE_DONE) {
        const struct span left[] = {SPAN_LITERAL("SADD"), call->keys[1].name, member};
        if (added)
            call_effect(call, left, 3);
        else
            call_effect_none(call);
        if (status == PAGE_NO_MEMORY) call_no_memory(call);
        return;
    }
    call_notify(call, NOTIFY_SET, "srem", &call->keys[0]);
    tell_removed(call, &source, 0);
    if (added) call_notify(call, NOTIFY_SET, "sadd", &call->keys[1]);
    reply_integer(call->reply, 1);
}

/* ---- looking ---- */

void command_scard(struct call *call) {
    struct set_value set;
    if (set_open(call, &set, 0, SET_FOR_READ)) reply_integer(call->reply, (int64_t)set_value_count(&set));
}

void command_sismember(struct call *call) {
    struct set_value set;
    if (!set_open(call, &set, 0, SET_FOR_READ)) return;
    reply_integer(call->reply, set_value_exists(&set) && set_value_contains(&set, call->argv[2]) == PAGE_DONE);
}

void command_smismember(struct call *call) {
    struct set_value set;
    if (!set_open(call, &set, 0, SET_FOR_READ)) return;
    reply_array(call->reply, call->argc - 2);
    for (uint32_t i = 2; i < call->argc; i += LOOKED_FOR_TOGETHER) {
        uint32_t left = call->argc - i;
        unsigned count = left < LOOKED_FOR_TOGETHER ? left : LOOKED_FOR_TOGETHER;
        uint64_t found = 0;
        if (set_value_exists(&set) && set_value_contains_many(&set, call->argv + i, count, &found) != PAGE_DONE)
            found = 0;
        for (unsigned k = 0; k < count; k++) reply_integer(call->reply, found >> k & 1);
    }
}

/* ---- listing ---- */

void command_smembers(struct call *call) {
    struct set_value set;
    struct set_walk walk;
    struct set_member member;
    if (!set_open(call, &set, 0, SET_FOR_READ)) return;
    reply_set(call->reply, set_value_count(&set));
    if (!set_value_exists(&set)) return;
    set_value_walk(&walk, &set);
    while (set_value_walk_next(&walk, &member)) reply_bulk(call->reply, member.text);
}

/* The members stand behind the next cursor in the reply but are known before it, so they are composed apart. */
static void scan_set(struct call *call, struct set_value *set, struct scan_argument *scan) {
    char room[SCAN_REPLY_BYTES];
    struct reply elements;
    struct set_walk walk;
    struct set_member member;
    uint64_t visited = 0, pages = set->root ? page_table_live(set->root->items.pages) : 1;
    size_t shown = 0;
    reply_init(&elements, room, sizeof(room), NULL, NULL);
    do {
        uint64_t met = 0;
        scan->cursor = set_value_scan(&walk, set, scan->cursor);
        for (; set_value_walk_next(&walk, &member); met++) {
            if (!scan_shows(scan, member.text)) continue;
            reply_bulk(&elements, member.text);
            shown++;
        }
        visited += scan_progress(met, set_value_count(set), pages);
    } while (scan->cursor && visited < scan->want);
    scan_reply_cursor(call, scan->cursor);
    reply_array(call->reply, shown);
    reply_append(call->reply, &elements);
}

void command_sscan(struct call *call) {
    struct scan_argument scan;
    struct set_value set;
    if (!scan_parse_cursor(call, &scan) || !set_open(call, &set, 0, SET_FOR_READ)) return;
    if (!set_value_exists(&set)) {
        scan_reply_cursor(call, 0);
        reply_array(call->reply, 0);
    } else if (scan_parse_options(call, NULL, &scan)) {
        scan_set(call, &set, &scan);
    }
}
