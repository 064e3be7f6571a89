/* Applying the stream. Worker 0 reads it, as one more of its connections, and all workers apply it.
 *
 *   socket -> bytes -> whole commands and transactions -> journal, as they are
 *                                                      -> a round (stream_round.h), by sessions that replay
 *
 * What is appended is applied before the worker comes to its next safe point, so a cut of the dataset always agrees
 * with the journal's end. What a tier keeps waiting is parked meanwhile (stream_parked.h); it is applied when all have
 * to stand still, so that this holds for it as well, and acknowledged only when it has been. What has come in only in
 * part stays in `bytes`; after a loss of the link it is asked for again, as the offset does not count it.
 *
 * Commands that are no part of the dataset (PING, REPLCONF) are passed on, but not run. Whatever else is no command
 * that writes has no business in the stream; it is not run, and the log says so, as of a command that fails. */

#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "server/primary_link_private.h"
#include "server/server.h"
#include "server/stream_parked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    PIECE_BYTES = 128 * 1024, /* read in one go: what others of this worker wait for */
    KEPT_BYTES = 1024 * 1024, /* of a buffer that a large command made grow */
    ROOM_MS_MAX = 1000,       /* as long as a client waits for memory */
};

bool link_apply_begin(struct primary_link *link, struct worker *worker) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &link->server->replication.link};
    int database = atomic_load(&link->server->replication.stream_database);
    link->stream = (struct primary_stream){0};
    stream_round_begin(link->server->replication.round, worker->dispatcher.now_ms);
    link->database = link->selected = database > 0 ? database : 0;
    link->asked = link->held = false;
    link->owes_upto = 0;
    link->fresh = true;
    return epoll_ctl(worker->poll_fd, EPOLL_CTL_ADD, link->fd, &event) == 0;
}

void link_acknowledge(struct primary_link *link) {
    char offset[24], command[96];
    int digits = snprintf(offset, sizeof(offset), "%llu", (unsigned long long)primary_link_applied(link->server));
    int length =
        snprintf(command, sizeof(command), "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$%d\r\n%s\r\n", digits, offset);
    (void)!send(link->fd, command, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- one command ---- */

/* What is to be done with the commands of one name. */
enum kind {
    KIND_UNKNOWN, /* no name of ours: the dispatcher has an error for it */
    KIND_NONE,    /* it has no business in the stream */
    KIND_PING,
    KIND_REPLCONF,
    KIND_SELECT,
    KIND_MULTI,
    KIND_EXEC,
    KIND_OF_KEYS, /* it concerns the keys that its row names, and nothing else */
    KIND_OF_MORE,
};

static enum kind kind_of(const struct command *command) {
    enum { BEYOND_KEYS = COMMAND_EXCLUSIVE | COMMAND_ALL_SHARDS | COMMAND_WALKS | COMMAND_MOVABLE_KEYS };
    static const struct {
        const char *name;
        enum kind kind;
    } words[] = {{"ping", KIND_PING},
                 {"replconf", KIND_REPLCONF},
                 {"select", KIND_SELECT},
                 {"multi", KIND_MULTI},
                 {"exec", KIND_EXEC}};
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(command->full_name, words[i].name) == 0) return words[i].kind;
    if (!(command->flags & (COMMAND_WRITE | COMMAND_MAY_REPLICATE | COMMAND_READONLY))) return KIND_NONE;
    return command->no_keys || command->flags & BEYOND_KEYS || !command->handler ? KIND_OF_MORE : KIND_OF_KEYS;
}

/* A command of the stream on its way into a round. */
struct taken {
    const struct aof_item *item;
    struct span *argv;
    struct span *own; /* `argv`, if the round has no room for so many words; NULL: it has */
    const struct command *command;
    enum kind kind;
    uint32_t shard; /* or STREAM_ALONE */
};

/* Streams repeat themselves: the last name is remembered. */
static void look_up(struct primary_link *link, struct taken *taken) {
    struct primary_link_memo *memo = &link->memo;
    struct span name = taken->argv[0];
    if (name.length == memo->length && bytes_equal(name.data, memo->name, name.length)) {
        taken->command = memo->command;
        taken->kind = (enum kind)memo->kind;
        return;
    }
    taken->command = command_table_find_told(link->server->table, name);
    bool container = taken->command && taken->command->subcommand_count;
    if (container)
        taken->command = taken->item->argc > 1 ? command_find_subcommand(taken->command, taken->argv[1]) : NULL;
    taken->kind = taken->command ? kind_of(taken->command) : KIND_UNKNOWN;
    if (!taken->command || container || name.length > sizeof(memo->name)) return;
    *memo = (struct primary_link_memo){.command = taken->command, .kind = (int)taken->kind, .length = name.length};
    memcpy(memo->name, name.data, name.length);
}

/* ---- shards ---- */

enum { KEYS_LOOKED_AT = 16 };

/* The shards that it concerns, one for each key. 0: they are not known, or too many. */
static uint32_t find_shards(const struct primary_link *link, const struct taken *taken,
                            uint32_t shards[KEYS_LOOKED_AT]) {
    const struct keyspace *keyspace = link->server->keyspace;
    const struct command *command = taken->command;
    uint32_t positions[KEYS_LOOKED_AT], count = 1;
    if (taken->kind != KIND_OF_KEYS || !command_arity_fits(command, taken->item->argc)) return 0;
    if (command->first_key && command->last_key == command->first_key)
        positions[0] = (uint32_t)command->first_key;
    else
        count = command_fitting_key_positions(command, taken->argv, taken->item->argc, positions, KEYS_LOOKED_AT);
    if (count > KEYS_LOOKED_AT) return 0;
    for (uint32_t i = 0; i < count; i++) shards[i] = keyspace_key_shard(keyspace, taken->argv[positions[i]]);
    return count;
}

/* Which of them it is to be dealt by. What concerns several comes behind whatever is parked of these. */
static uint32_t choose_shard(struct primary_link *link, const struct taken *taken, uint32_t shards[KEYS_LOOKED_AT],
                             uint32_t *count) {
    *count = 0;
    if (!stream_round_splits(link->server->replication.round)) return STREAM_ALONE;
    *count = find_shards(link, taken, shards);
    if (*count == 0 || link->stream.in_transaction) return STREAM_ALONE;
    for (uint32_t i = 1; i < *count; i++)
        if (shards[i] != shards[0]) return STREAM_ALONE;
    return shards[0];
}

static void settle_before(struct primary_link *link, const struct taken *taken, const uint32_t *shards,
                          uint32_t count) {
    struct stream_parked *parked = stream_round_parked(link->server->replication.round);
    bool frame = taken->kind == KIND_MULTI || taken->kind == KIND_EXEC || taken->kind == KIND_SELECT;
    if (frame || stream_parked_is_empty(parked)) return;
    if (count == 0) stream_parked_settle(parked, STREAM_ALONE);
    for (uint32_t i = 0; i < count; i++) stream_parked_settle(parked, shards[i]);
}

/* ---- the round ---- */

/* Runs what was taken; the part of the stream that it belongs to is appended first, transactions as a whole. */
static void run_round(struct primary_link *link) {
    size_t upto = link->taken > link->whole ? link->taken : link->whole;
    if (upto > link->appended)
        replication_append(link->server, span_of(link->bytes + link->appended, upto - link->appended));
    if (upto > link->appended) link->appended = upto;
    stream_round_run(link->server->replication.round);
}

/* The words of the command, in the round. False: there is no memory for an array of their own. */
static bool take_words(struct primary_link *link, struct taken *taken) {
    struct stream_round *round = link->server->replication.round;
    uint32_t argc = taken->item->argc;
    taken->argv = stream_round_room(round, argc);
    if (!taken->argv) {
        run_round(link);
        taken->argv = stream_round_room(round, argc);
    }
    if (!taken->argv) taken->argv = taken->own = malloc(argc * sizeof(*taken->argv));
    if (taken->argv) aof_parse_words(link->bytes + link->taken, taken->item, taken->argv);
    return taken->argv != NULL;
}

static void add(struct primary_link *link, struct taken *taken) {
    struct stream_round *round = link->server->replication.round;
    uint32_t shards[KEYS_LOOKED_AT], count, argc = taken->item->argc;
    taken->shard = choose_shard(link, taken, shards, &count);
    if (!stream_round_fits(round, taken->shard)) {
        run_round(link);
        if (!taken->own) {
            taken->argv = stream_round_room(round, argc);
            aof_parse_words(link->bytes + link->taken, taken->item, taken->argv);
        }
    }
    if (taken->shard == STREAM_ALONE && stream_round_splits(round)) settle_before(link, taken, shards, count);
    stream_round_add(round, &(struct stream_command){.argv = taken->argv,
                                                     .argc = argc,
                                                     .database = (uint32_t)link->selected,
                                                     .shard = taken->shard,
                                                     .position = link->base + link->taken});
    if (!taken->own) return;
    link->taken += taken->item->length;
    run_round(link);
    link->taken -= taken->item->length;
}

/* A command that selects a database which is not there would have what follows go to another one. */
static bool select_as_told(struct primary_link *link, const struct taken *taken, char *why) {
    int64_t database;
    if (taken->item->argc != 2 || !number_parse_i64(taken->argv[1], &database) || database < 0 ||
        database >= (int64_t)link->server->keyspace->database_count) {
        snprintf(why, LINK_LINE_MAX, "the primary selects a database that is not here: raise `databases`");
        return false;
    }
    link->database = (int)database;
    if (!link->stream.in_transaction) link->selected = link->database;
    return true;
}

/* Does with the next command what is to be done. False: `why` says what is wrong. */
static bool take(struct primary_link *link, const struct aof_item *item, char *why) {
    struct taken taken = {.item = item};
    if (!take_words(link, &taken)) {
        snprintf(why, LINK_LINE_MAX, "no memory for a command of the stream");
        return false;
    }
    look_up(link, &taken);
    bool good = true, runs = taken.kind != KIND_PING && taken.kind != KIND_REPLCONF && taken.kind != KIND_NONE;
    if (taken.kind == KIND_REPLCONF && item->argc == 3 && span_is_word(taken.argv[1], "getack")) link->asked = true;
    if (taken.kind == KIND_NONE)
        stream_round_log_error(link->server->replication.round, "it is no command that writes");
    if (taken.kind == KIND_SELECT) {
        good = select_as_told(link, &taken, why);
        runs = good && link->stream.in_transaction;
    }
    if (runs) add(link, &taken);
    if (taken.kind == KIND_EXEC) link->selected = link->database;
    free(taken.own);
    return good;
}

/* ---- what was received ---- */

/* Takes what is whole. A transaction with a command that cannot be taken is not run, and not passed over. */
static bool take_whole(struct primary_link *link, char *why) {
    struct aof_item item;
    size_t transaction_at = 0;
    for (;;) {
        struct span rest = span_of(link->bytes + link->taken, link->length - link->taken);
        enum primary_stream_next next = primary_stream_next(&link->stream, rest, &item);
        if (next == PRIMARY_STREAM_BAD)
            snprintf(why, LINK_LINE_MAX, "what the primary sends is no stream of commands, at offset %llu",
                     (unsigned long long)(link->base + link->taken + item.bad_at));
        if (next != PRIMARY_STREAM_COMMAND) return next != PRIMARY_STREAM_BAD;
        if (link->stream.in_transaction && link->taken >= link->whole) {
            transaction_at = link->taken;
            link->whole = link->taken + link->stream.ahead;
        }
        if (!take(link, &item, why)) break;
        link->taken += item.length;
    }
    if (link->stream.in_transaction) link->taken = transaction_at;
    if (link->stream.in_transaction) link->whole = 0;
    return false;
}

/* Has the acknowledgement that was asked for sent once all in front of the question is applied. */
static void answer(struct primary_link *link) {
    if (link->asked) link->owes_upto = replication_offset(link->server);
    link->asked = false;
    if (!link->owes_upto || primary_link_applied(link->server) < link->owes_upto) return;
    link->owes_upto = 0;
    link_acknowledge(link);
}

/* Runs what is whole of what was received. */
static bool digest(struct primary_link *link, char *why) {
    struct stream_parked *parked = stream_round_parked(link->server->replication.round);
    link->taken = link->appended = link->whole = 0;
    link->base = replication_offset(link->server);
    bool good = take_whole(link, why);
    run_round(link);
    if (stream_parked_bytes(parked) > STREAM_PARKED_BYTES_MAX) stream_parked_settle(parked, STREAM_ALONE);
    atomic_store(&link->server->replication.stream_database, link->selected);
    link_consume(link, link->taken);
    atomic_store(&link->unfinished, link->length);
    if (good) answer(link);
    return good;
}

void link_turn(struct primary_link *link) {
    stream_parked_turn(stream_round_parked(link->server->replication.round));
    answer(link);
}

static void shrink(struct primary_link *link) {
    if (link->length > 0 || link->capacity <= KEPT_BYTES) return;
    free(link->bytes);
    link->bytes = NULL;
    link->capacity = 0;
}

/* The replica has less memory than its primary, and a tier: what comes waits in the socket while room is made, which
 * the worker does between its turns. Where nothing can be freed the stream goes on all the same. */
static bool waits_for_room(struct primary_link *link, struct worker *worker) {
    struct server *server = link->server;
    if (!server->config.memory.maxmemory_bytes) return false;
    memory_limit_refresh_if_due(server);
    bool waits = memory_limit_level(&server->metrics.limit) == MEMORY_DELAY;
    if (waits && !link->waits_since_ms) link->waits_since_ms = worker->dispatcher.now_ms;
    if (!waits) link->waits_since_ms = 0;
    return waits && worker->dispatcher.now_ms - link->waits_since_ms < ROOM_MS_MAX;
}

bool link_apply(struct primary_link *link, struct worker *worker, char *why) {
    bool unseen = link->fresh && link->length > 0; /* it came with the answer to PSYNC, or behind the copy */
    link->fresh = false;
    if (unseen && !digest(link, why)) return false;
    if (waits_for_room(link, worker)) return true;
    if (!link_reserve(link, PIECE_BYTES)) {
        snprintf(why, LINK_LINE_MAX, "no memory for a command of the stream");
        return false;
    }
    ssize_t got = recv(link->fd, link->bytes + link->length, link->capacity - link->length, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (got <= 0) {
        snprintf(why, LINK_LINE_MAX, "%s", got < 0 ? strerror(errno) : "the primary closed the connection");
        return false;
    }
    link->length += (size_t)got;
    atomic_store(&link->heard_ms, worker->dispatcher.now_ms);
    atomic_fetch_add(&link->server->replication.bytes_in, (uint64_t)got);
    bool digested = digest(link, why);
    shrink(link);
    return digested;
}
