/* SAVE, BGSAVE, LASTSAVE. What they do is in save.h. */

#include "server/families.h"
#include "server/save.h"
#include "server/server.h"

static void command_save(struct call *call) {
    save_finish_flush(server_of(call), call->dispatcher->worker);
    switch (save_now(server_of(call), call->dispatcher->worker)) {
    case SAVE_DONE: reply_ok(call->reply); break;
    case SAVE_BUSY_SAVING: reply_error(call->reply, "ERR Background save already in progress"); break;
    default: reply_error(call->reply, "ERR the snapshot could not be written; the log says why"); break;
    }
}

static void command_bgsave(struct call *call) {
    struct server *server = server_of(call);
    bool schedule = call->argc == 2 && call_is(call, 1, "schedule");
    if (call->argc > 2 || (call->argc == 2 && !schedule)) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (!call->in_transaction) save_finish_flush(server, call->dispatcher->worker);
    switch (save_in_background(server)) {
    case SAVE_DONE: reply_simple(call->reply, "Background saving started"); return;
    case SAVE_BUSY_SAVING: reply_error(call->reply, "ERR Background save already in progress"); return;
    case SAVE_BUSY_OTHERWISE:
        if (schedule) {
            save_schedule(server);
            reply_simple(call->reply, "Background saving scheduled");
        } else {
            reply_error(call->reply,
                        "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in "
                        "order to schedule a BGSAVE whenever possible.");
        }
        return;
    case SAVE_FAILED: reply_error(call->reply, "ERR the snapshot could not be begun; the log says why"); return;
    }
}

static void command_lastsave(struct call *call) {
    struct save *save = &server_of(call)->save;
    pthread_mutex_lock(&save->lock);
    int64_t last_s = save->last_s;
    pthread_mutex_unlock(&save->lock);
    reply_integer(call->reply, last_s);
}

const struct command_spec save_commands[] = {
    {.name = "save",
     .handler = command_save,
     .arity = 1,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_NO_MULTI | COMMAND_NO_ASYNC_LOADING,
     .group = "server",
     .since = "1.0.0",
     .summary = "Writes a snapshot of the whole dataset and waits for it",
     .complexity = "O(N), N keys"},
    {.name = "bgsave",
     .handler = command_bgsave,
     .arity = -1,
     .flags = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_NO_ASYNC_LOADING,
     .group = "server",
     .since = "1.0.0",
     .summary = "Writes a snapshot of the whole dataset in the background",
     .complexity = "O(1)",
     .arguments = "[SCHEDULE@3.2.2]",
     .history = "3.2.2 SCHEDULE was added."},
    {.name = "lastsave",
     .handler = command_lastsave,
     .arity = 1,
     .flags = COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST,
     .categories = CATEGORY_ADMIN | CATEGORY_DANGEROUS,
     .group = "server",
     .since = "1.0.0",
     .summary = "When the last snapshot was completed, in seconds since 1970",
     .complexity = "O(1)",
     .tips = "nondeterministic_output"},
};
const unsigned save_command_count = sizeof(save_commands) / sizeof(save_commands[0]);
