#ifndef TERRACE_COMMAND_BLOCKING_H
#define TERRACE_COMMAND_BLOCKING_H

/* Commands that wait: what a handler of BLPOP, BLMOVE, BZPOPMIN, XREAD ... needs. What happens to the client meanwhile
 * stands in blocked.h.
 *
 *   static void command_blpop(struct call *call) {
 *       int64_t timeout_ms;
 *       if (!call_timeout_seconds(call, call->argc - 1, &timeout_ms)) return;
 *       ... if one of the keys has something: take it, reply, return ...
 *       if (!call_block(call, call->keys, call->key_count, timeout_ms, BLOCKED_ON_LIST)) reply_null_array(call->reply);
 *   }
 *
 * When one of the keys changes, the whole handler is called again with the same arguments, under the locks of the
 * command that changed it, before these are released. It then replies, or calls call_block() again and goes on waiting
 * where it stood. It sees this as an ordinary call; call->again tells, if it has to know. There
 *   - call->dispatcher is that of the worker which runs it, call->session the waiting client's, only to be read;
 *   - errors are replied like results, and end the wait.
 * Where the key that changed has a value of another type than the one waited for, the handler is not called.
 *
 * Whoever changes a key need not do anything: the functions of keyspace.h that change a key mark it.
 *
 * When the time is over the client gets a null array, as every blocking command of Redis answers. */

#include "command/command.h"

enum blocked_type {
    BLOCKED_ON_LIST,
    BLOCKED_ON_SORTED_SET,
    BLOCKED_ON_STREAM,
    BLOCKED_ON_DISK,  /* for no key: its owner ends the wait (blocked_force()), and says what is replied */
    BLOCKED_ON_END,   /* the same, of the server: SHUTDOWN */
    BLOCKED_ON_GROUP, /* of a stream: called again also when the key is gone or of another type (XREADGROUP) */
    BLOCKED_TYPES
};

/* The command found nothing and waits for one of these keys, some or all of call->keys. `timeout_ms` 0: for ever.
 * True: it waits; the handler returns and has replied nothing.
 * False: it may not wait (inside EXEC): the handler replies what it replies when it finds nothing.
 * Without memory for it ERROR_NO_MEMORY is replied, and true returned. */
bool call_block(struct call *call, const struct key *keys, uint32_t key_count, int64_t timeout_ms,
                enum blocked_type type) __attribute__((warn_unused_result));

/* After call_block() has returned true: when the handler is called again, argument `index` shall be `text`, which is
 * copied (XREAD puts the ID that "$" means now there). Does nothing when the handler has been called again already. */
void call_block_argument(struct call *call, uint32_t index, struct span text);

/* A key changed in a way that keyspace.h's functions do not see. The lock of its shard is held; costs a comparison
 * where nobody waits. */
void call_ready(struct call *call, const struct key *key);

/* Argument `index` as a timeout in seconds, with fractions, rounded up to milliseconds. False: the error is composed.
 */
bool call_timeout_seconds(struct call *call, uint32_t index, int64_t *timeout_ms) __attribute__((warn_unused_result));
/* The same in whole milliseconds (XREAD BLOCK). */
bool call_timeout_ms(struct call *call, uint32_t index, int64_t *timeout_ms) __attribute__((warn_unused_result));

#endif
