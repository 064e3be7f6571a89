/* CLIENT PAUSE. A command that has to wait stays, unparsed, in its connection's query buffer (see connection.h), and
 * the worker remembers that somebody waits: from then on it sleeps no longer than the pause lasts. When the pause
 * ends, by time or by CLIENT UNPAUSE, which wakes all workers as any command does that stops them, each worker lets
 * its own connections continue. Those that wait for memory (make_room.h) wait in the same way, but not for this; those
 * that wait for room in the journal are let try again every millisecond. */

#include "server/pause.h"

#include "base/clock.h"
#include "command/admission.h"
#include "server/journaling.h"
#include "server/server.h"

#include <limits.h>

/* When the last pause ends; `*all_ms`: the last of those for all commands. 0: there is none. */
static int64_t end_of(const struct pause *pause, int64_t now_ms, int64_t *all_ms) {
    int64_t end_ms = 0;
    *all_ms = 0;
    for (unsigned i = 0; i < PAUSE_REASONS; i++) {
        if (pause->of[i].end_ms <= now_ms) continue;
        if (pause->of[i].end_ms > end_ms) end_ms = pause->of[i].end_ms;
        if (pause->of[i].all && pause->of[i].end_ms > *all_ms) *all_ms = pause->of[i].end_ms;
    }
    return end_ms;
}

void pause_begin(struct server *server, enum pause_reason reason, bool all, int64_t end_ms) {
    struct pause *pause = &server->pause;
    bool lasts = pause->of[reason].end_ms > clock_unix_ms();
    pause->of[reason].all = all || (lasts && pause->of[reason].all);
    if (!lasts || end_ms > pause->of[reason].end_ms) pause->of[reason].end_ms = end_ms;
    atomic_store(&server->host.paused, true);
}

void pause_end(struct server *server, enum pause_reason reason) {
    int64_t all_ms = 0;
    server->pause.of[reason].end_ms = 0;
    atomic_store(&server->host.paused, end_of(&server->pause, clock_unix_ms(), &all_ms) > 0);
}

/* A worker that finds the time up ends the pause for all: nobody can begin another one at that moment, since that
 * takes this worker to stand still. */
static bool is_over(struct server *server, int64_t now_ms, int64_t *all_ms) {
    if (!atomic_load_explicit(&server->host.paused, memory_order_acquire)) return true;
    if (end_of(&server->pause, now_ms, all_ms) > 0) return false;
    atomic_store(&server->host.paused, false);
    return true;
}

static void note_paused(struct worker *worker, unsigned rest_ms) {
    if (!worker->somebody_paused || rest_ms < worker->rest_ms) worker->rest_ms = rest_ms;
    worker->somebody_paused = true;
}

bool pause_must_wait(void *ctx, const struct session *session, const struct command *command, int64_t now_ms) {
    struct server *server = ctx;
    int64_t all_ms = 0;
    if (session->monitoring || is_over(server, now_ms, &all_ms)) return false;
    if (!all_ms && !admission_any_has(session, command, COMMAND_WRITE | COMMAND_MAY_REPLICATE)) return false;
    struct connection *connection = session->connection;
    if (connection) {
        struct worker *worker = connection->owner;
        note_paused(worker, 0);
        worker->readers_paused |= all_ms > 0;
        stat_add(&worker->postponed, 1);
    }
    return true;
}

void pause_come_again(void *ctx, const struct session *session, unsigned rest_ms) {
    (void)ctx;
    struct connection *connection = session->connection;
    note_paused(connection->owner, rest_ms);
}

void pause_check(struct worker *worker) {
    if (__builtin_expect(!worker->somebody_paused, 1)) return;
    int64_t all_ms = 0;
    /* Where a pause for writers outlasts one for all, the readers go on. */
    bool over = is_over(worker->server, worker->dispatcher.now_ms, &all_ms);
    if (!over && (all_ms || !worker->readers_paused)) return;
    worker->somebody_paused = worker->readers_paused = false;
    stat_set(&worker->postponed, 0);
    for (struct connection *connection = worker->connections, *next; connection; connection = next) {
        next = connection->next;
        if (!connection->session.paused || connection->session.memory_waits) continue;
        connection->session.paused = false;
        connection->session.active_ms = worker->dispatcher.now_ms; /* it was we who kept it idle */
        worker_settle(worker, connection, connection_resume(connection, &worker->io));
    }
}

int pause_wait_ms(const struct worker *worker) {
    if (__builtin_expect(!worker->somebody_paused, 1)) return -1;
    if (!atomic_load(&worker->server->host.paused)) {
        int wait_ms = journaling_wait_ms(worker);
        return wait_ms >= 0 ? wait_ms : (int)worker->rest_ms;
    }
    int64_t all_ms = 0;
    int64_t now_ms = clock_unix_ms(), end_ms = end_of(&worker->server->pause, now_ms, &all_ms);
    int64_t left = (worker->readers_paused ? all_ms : end_ms) - now_ms;
    return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}
