/* CLIENT PAUSE. A command that has to wait stays, unparsed, in its connection's query buffer (see connection.h), and
 * the worker remembers that somebody waits: from then on it sleeps no longer than the pause lasts. When the pause
 * ends, by time or by CLIENT UNPAUSE, which wakes all workers as any command does that stops them, each worker lets
 * its own connections continue. Those that wait for memory (make_room.h) wait in the same way, but not for this; those
 * that wait for room in the journal are let try again every millisecond. */

#include "server/pause.h"

#include "base/clock.h"
#include "server/journaling.h"
#include "server/server.h"

#include <limits.h>

void pause_begin(struct server *server, bool all, int64_t end_ms) {
    struct pause *pause = &server->pause;
    bool paused = atomic_load(&server->host.paused);
    pause->all = all || (paused && pause->all);
    pause->end_ms = paused && pause->end_ms > end_ms ? pause->end_ms : end_ms;
    atomic_store(&server->host.paused, true);
}

void pause_end(struct server *server) {
    atomic_store(&server->host.paused, false);
}

/* A worker that finds the time up ends the pause for all: nobody can begin another one at that moment, since that
 * takes this worker to stand still. */
static bool is_over(struct server *server, int64_t now_ms) {
    if (!atomic_load_explicit(&server->host.paused, memory_order_acquire)) return true;
    if (now_ms < server->pause.end_ms) return false;
    pause_end(server);
    return true;
}

bool pause_must_wait(void *ctx, const struct session *session, const struct command *command, int64_t now_ms) {
    struct server *server = ctx;
    if (session->monitoring || is_over(server, now_ms)) return false;
    if (!server->pause.all) {
        uint32_t changes = COMMAND_WRITE | COMMAND_MAY_REPLICATE;
        bool is_exec = session->transaction.open && strcmp(command->full_name, "exec") == 0;
        if (!((command->flags | (is_exec ? session->transaction.flags : 0)) & changes)) return false;
    }
    struct connection *connection = session->connection;
    if (connection) {
        struct worker *worker = connection->owner;
        worker->somebody_paused = true;
        stat_add(&worker->postponed, 1);
    }
    return true;
}

void pause_come_again(void *ctx, const struct session *session) {
    (void)ctx;
    struct connection *connection = session->connection;
    ((struct worker *)connection->owner)->somebody_paused = true;
}

void pause_check(struct worker *worker) {
    if (__builtin_expect(!worker->somebody_paused, 1)) return;
    if (!is_over(worker->server, worker->dispatcher.now_ms)) return;
    worker->somebody_paused = false;
    stat_set(&worker->postponed, 0);
    for (struct connection *connection = worker->connections, *next; connection; connection = next) {
        next = connection->next;
        if (!connection->session.paused || connection->session.memory_until_ms) continue;
        connection->session.paused = false;
        connection->session.active_ms = worker->dispatcher.now_ms; /* it was we who kept it idle */
        worker_settle(worker, connection, connection_resume(connection, &worker->io));
    }
}

int pause_wait_ms(const struct worker *worker) {
    if (__builtin_expect(!worker->somebody_paused, 1)) return -1;
    if (!atomic_load(&worker->server->host.paused)) {
        int wait_ms = journaling_wait_ms(worker);
        return wait_ms >= 0 ? wait_ms : 0;
    }
    int64_t left = worker->server->pause.end_ms - clock_unix_ms();
    return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}
