#ifndef TERRACE_COMMAND_LIST_HANDLERS_H
#define TERRACE_COMMAND_LIST_HANDLERS_H

/* The handlers of the list family, which list_table.c lists, and what their files share. */

#include "command/command.h"
#include "keyspace/list_value.h"

command_handler command_lpush, command_lpushx, command_rpush, command_rpushx, command_linsert, command_lset,
    command_lrem, command_ltrim;
command_handler command_llen, command_lindex, command_lrange, command_lpos;
command_handler command_lpop, command_rpop, command_lmpop, command_blpop, command_brpop, command_blmpop;
command_handler command_lmove, command_rpoplpush, command_blmove, command_brpoplpush;

#define ERROR_NOT_POSITIVE "ERR value is out of range, must be positive"

/* Opens the key's list. False: it holds something else; WRONGTYPE is composed. */
bool list_expect(struct call *call, const struct key *key, enum list_purpose purpose, struct list_value *list)
    __attribute__((warn_unused_result));

/* How big a list may be and still be packed. */
static inline struct list_limits list_limits(const struct call *call) {
    return list_limits_of(call->view.keyspace->limits.list_packed_size);
}

/* Argument `index` as LEFT or RIGHT. False: ERROR_SYNTAX is composed. */
bool list_end_argument(struct call *call, uint32_t index, enum list_end *end) __attribute__((warn_unused_result));

/* Tells that something was added at this end. */
static inline void list_notify_push(struct call *call, const struct key *key, enum list_end end) {
    call_notify(call, NOTIFY_LIST, end == LIST_FIRST ? "lpush" : "rpush", key);
}
/* Tells `event`, of something that was removed, and that the key is gone if it was the last. */
static inline void list_notify_removal(struct call *call, const struct list_value *list, const char *event) {
    call_notify(call, NOTIFY_LIST, event, list->key);
    if (!list_value_exists(list)) call_notify(call, NOTIFY_GENERIC, "del", list->key);
}
/* A command that found no memory half-way has left something that no command tells: the whole value is told. The list
 * is opened again for it. */
void list_tell_value(struct call *call, const struct key *key);

static inline const char *list_pop_event(enum list_end end) {
    return end == LIST_FIRST ? "lpop" : "rpop";
}

#endif
