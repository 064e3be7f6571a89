#ifndef TERRACE_COMMAND_REPLY_ROOM_H
#define TERRACE_COMMAND_REPLY_ROOM_H

/* Memory for long replies of commands that read, where there is a limit.
 *
 *   reply_room_begin()   what an earlier try was refused is asked for; from now on the reply asks as it grows beyond
 *                        LIMIT_TIGHT_BYTES
 *   ... the command runs; what is beyond the memory there is, is only counted ...
 *   reply_room_end()     nothing was refused; or the caller rewinds, and begins again
 *
 * So a long reply is composed when there is room for the whole of it, and its client waits until then; when that takes
 * too long it is refused. Within EXEC nobody can wait.
 *
 * Threads: the dispatcher's. */

#include "base/limits.h"
#include "command/dispatch.h"

/* Before each try. WAIT: it is not run now (session->paused); REFUSED: there will be no room. */
enum memory_answer reply_room_begin(struct dispatcher *dispatcher, struct session *session, struct reply *reply);
/* The same where no earlier try was refused; a few instructions, as each short reply pays for them. */
extern const struct reply_budget reply_room_budget;
static inline void reply_room_begin_short(struct dispatcher *dispatcher, struct session *session, struct reply *reply) {
    dispatcher->reply_room = (struct reply_room){.session = session};
    reply_bound(reply, LIMIT_TIGHT_BYTES, &reply_room_budget, dispatcher);
}
/* The same for commands that run together and cannot wait: what one of them is refused it is refused for good, and what
 * one has drawn on the next ones have no more. The first before all of them, the second before each. */
static inline void reply_room_begin_together(struct dispatcher *dispatcher, struct session *session) {
    dispatcher->reply_room = (struct reply_room){.session = session};
}
void reply_room_begin_now(struct dispatcher *dispatcher, struct reply *reply);
/* Behind it. False: it was refused, and is to be rewound. */
static inline bool reply_room_end(struct session *session, struct reply *reply) {
    session->reply_wanted = reply_unbound(reply);
    return session->reply_wanted == 0;
}

#endif
