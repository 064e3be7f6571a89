#ifndef TERRACE_COMMAND_SET_HANDLERS_H
#define TERRACE_COMMAND_SET_HANDLERS_H

/* The handlers of the set family, which its table (set_table.c) names. See command_handler in command.h. */

#include "command/command.h"
#include "keyspace/set_value.h"

/* set_members.c: one set. */
command_handler command_sadd, command_srem, command_smove, command_scard, command_sismember, command_smismember;
command_handler command_smembers, command_sscan;
/* set_random.c */
command_handler command_spop, command_srandmember;
/* set_combine.c: several sets. */
command_handler command_sinter, command_sintercard, command_sinterstore;
command_handler command_sunion, command_sunionstore, command_sdiff, command_sdiffstore;

/* Opens the set of the call's key number `key`. False: it holds something else, and the error is composed. */
static inline bool set_open(struct call *call, struct set_value *set, uint32_t key, enum set_purpose purpose) {
    if (__builtin_expect(set_value_open(set, &call->view, &call->keys[key], purpose), 1)) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

#endif
