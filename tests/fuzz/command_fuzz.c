/* Commands in process, with hostile arguments: two clients over a small keyspace, whose replies must be well-formed
 * RESP and whose keyspace must stay valid.
 *
 * Input: byte 0 chooses sizes, then steps, each a byte and what it needs:
 *
 *   0..95      a command: [which] [arguments] and for each argument [kind] and what the kind needs
 *   96..191    a command whose arguments follow the notation of its row: [which] and what the choices need
 *   192..207   client input as it is: [length] bytes
 *   208..223   the other client speaks from now on
 *   224..231   time passes: [amount]
 *   232..239   background work on a shard: sweep, drain, compact
 *   240..247   the protocol of the client changes
 *   248..255   the input received so far is handed over although it may end inside a command
 *
 * Time stands still but for these steps, and every input starts with an empty keyspace, so that a finding replays. */

#include "base/clock.h"
#include "command/argument_spec.h"
#include "command/blocked.h"
#include "command/dispatch.h"
#include "command/families.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SHARDS = 4,
    CLIENTS = 2,
    KEYS = 6,
    ARGUMENTS_LIMIT = 12,
    STEPS_MAX = 300,
    COMMANDS_LIMIT = 300,
    /* LCS takes the product of two lengths, so values are small where it runs, and large enough to be sent from where
     * they lie (LIMIT_REPLY_COPY_BYTES) where it does not. */
    SMALL_VALUE = 4 * 1024,
    LARGE_VALUE = 256 * 1024,
    SERVER_RESERVE = 256 << 20,
};

#define START_MS INT64_C(2000000000000)

static const struct {
    const struct command_spec *specs;
    const unsigned *count;
} family_list[] = {
    {string_commands, &string_command_count},
    {bitmap_commands, &bitmap_command_count},
    {hyperloglog_commands, &hyperloglog_command_count},
    {hash_commands, &hash_command_count},
    {set_commands, &set_command_count},
    {list_commands, &list_command_count},
    {stream_commands, &stream_command_count},
    {sort_commands, &sort_command_count},
    {sorted_set_commands, &sorted_set_command_count},
    {geo_commands, &geo_command_count},
    {transaction_commands, &transaction_command_count},
    {key_commands, &key_command_count},
    {key_expiry_commands, &key_expiry_command_count},
    {key_scan_commands, &key_scan_command_count},
    {dump_commands, &dump_command_count},
    {restore_commands, &restore_command_count},
    {object_commands, &object_command_count},
    {database_commands, &database_command_count},
    {command_commands, &command_command_count},
};
enum { FAMILIES = sizeof(family_list) / sizeof(family_list[0]) };

/* Numbers at which something may wrap, and words that options are made of. */
static const char *const hostile[] = {
    "0",
    "1",
    "-1",
    "2",
    "7",
    "8",
    "63",
    "64",
    "65",
    "100",
    "255",
    "256",
    "4095",
    "4096",
    "65535",
    "65536",
    "32767",
    "-32768",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "4294967288",
    "34359738367",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "9223372036854775",
    "9223372036854776",
    "-9223372036854775",
    "281474976710655",
    "281474976710656",
    "140737488355327",
    "00",
    "01",
    "+1",
    "-0",
    " 1",
    "1 ",
    "1x",
    "0x10",
    "1e5",
    "1.5",
    "-1.5",
    "inf",
    "-inf",
    "nan",
    "1e400",
    "-1e4932",
    "1e-400",
    "3.0e3",
    "5e-324",
    "0.1",
    "99999999999999999999999999999999999999",
    "536870911",
    "536870912",
    "4294967295.5",
    "",
};
static const char *const words[] = {
    "NX",       "XX",          "GT",       "LT",       "GET",         "EX",           "PX",       "EXAT",    "PXAT",
    "KEEPTTL",  "PERSIST",     "MATCH",    "COUNT",    "TYPE",        "string",       "DB",       "REPLACE", "ASYNC",
    "SYNC",     "AND",         "OR",       "XOR",      "NOT",         "BYTE",         "BIT",      "SET",     "INCRBY",
    "OVERFLOW", "WRAP",        "SAT",      "FAIL",     "u8",          "i64",          "u63",      "u64",     "i1",
    "#1",       "#2147483648", "LEN",      "IDX",      "MINMATCHLEN", "WITHMATCHLEN", "*",        "key*",    "?ey[0-9]",
    "[^k",      "\\",          "*?*?*?*?", "ENCODING", "FREQ",        "IDLETIME",     "REFCOUNT", "HELP",    "GETREG",
    "DECODE",   "TODENSE",     "FILTERBY", "ACLCAT",   "PATTERN",     "MODULE",       "read",     "INFO",    "DOCS",
    "get",      "object|freq", "HYLL",     "hash",     "list",        "MSET",
};
enum { HOSTILE = sizeof(hostile) / sizeof(hostile[0]), WORDS = sizeof(words) / sizeof(words[0]) };

/* ---- input ---- */

struct input {
    const uint8_t *data;
    size_t size, at;
};

static unsigned next_byte(struct input *input) {
    return input->at < input->size ? input->data[input->at++] : 0;
}

/* ---- the server ---- */

struct bytes {
    char *data;
    size_t begin, end, capacity; /* used up, written, allocated */
};

struct client {
    struct session session;
    struct resp_parser parser;
    struct reply reply;
    struct bytes received;
    bool closed;
};

struct server {
    struct keyspace *keyspace;
    struct command_host host;
    struct dispatcher *dispatcher;
    struct client clients[CLIENTS], *client;
    size_t value_max;
    struct bytes arguments; /* of the command being made */
    unsigned argument_count;
};

static struct command_table *table;
static struct command_stats *stats;

static void release_pin(void *ctx, void *pinned, uint32_t pin_tag) {
    keyspace_unpin(ctx, pin_tag, pinned);
}

static void open_client(struct server *server, struct client *client, uint64_t id) {
    session_init(&client->session, id, START_MS);
    client->session.authenticated = true;
    resp_parser_init(&client->parser);
    reply_init(&client->reply, NULL, 0, release_pin, server->keyspace);
}

static void close_client(struct server *server, struct client *client) {
    blocked_leave(server->dispatcher, &client->session);
    transaction_unwatch(server->dispatcher, &client->session, false);
    session_free(&client->session);
    resp_parser_reset(&client->parser);
    reply_clear(&client->reply);
    free(client->received.data);
    *client = (struct client){0};
}

static void open_server(struct server *server, unsigned choice) {
    const struct keyspace_options options = {
        .shards = SHARDS, .databases = 4, .seed = 1, .reserve_bytes = SERVER_RESERVE};
    server->value_max = choice & 1 ? LARGE_VALUE : SMALL_VALUE;
    server->keyspace = keyspace_create(&options);
    assert(server->keyspace);
    server->keyspace->access.frequency = choice & 2;
    atomic_store(&server->host.slow_ns, UINT64_MAX);
    atomic_store(&server->host.bulk_bytes_max, server->value_max);
    server->dispatcher = malloc(sizeof(*server->dispatcher));
    dispatcher_init(server->dispatcher, server->keyspace, table, &server->host, stats, 0, 1);
    server->dispatcher->now_ms = START_MS;
    clock_freeze_unix_us(START_MS * 1000);
    for (unsigned i = 0; i < CLIENTS; i++) open_client(server, &server->clients[i], i + 1);
    server->client = server->clients;
}

static void close_server(struct server *server) {
    assert(keyspace_validate(server->keyspace));
    for (unsigned i = 0; i < CLIENTS; i++) close_client(server, &server->clients[i]);
    for (uint32_t i = 0; i < SHARDS; i++) assert(server->keyspace->shards[i].watches.count == 0);
    for (uint32_t database = 0; database < server->keyspace->database_count; database++) {
        struct view view = {.keyspace = server->keyspace, .database = database};
        keyspace_flush(&view);
    }
    for (uint32_t i = 0; i < SHARDS; i++)
        while (keyspace_drain(server->keyspace, i, 1000000)) continue;
    for (uint32_t i = 0; i < SHARDS; i++) assert(server->keyspace->shards[i].heap.sums.live_objects == 0);
    keyspace_destroy(server->keyspace);
    free(server->dispatcher);
    free(server->arguments.data);
}

/* ---- replies: whatever was sent must be whole values of RESP ---- */

static size_t line_end(struct span text, size_t at) {
    const char *end = at < text.length ? memchr(text.data + at, '\r', text.length - at) : NULL;
    assert(end && end + 1 < text.data + text.length && end[1] == '\n');
    return (size_t)(end - text.data) + 2;
}

/* Behind the value that begins at `at`. */
static size_t skip_value(struct span text, size_t at, unsigned depth) {
    assert(at < text.length && depth < 16);
    char kind = text.data[at];
    size_t behind = line_end(text, at);
    assert(strchr("+-:$*_#,(=%~>", kind));
    if (strchr("+-_#,(:", kind)) return behind;
    long long count = strtoll(text.data + at + 1, NULL, 10);
    assert(count >= -1 && count <= 1 << 24);
    if (count == -1) return behind;
    if (kind == '$' || kind == '=') {
        behind += (size_t)count + 2;
        assert(behind <= text.length && memcmp(text.data + behind - 2, "\r\n", 2) == 0);
        return behind;
    }
    if (kind == '%') count *= 2;
    while (count-- > 0) behind = skip_value(text, behind, depth + 1);
    return behind;
}

/* Sends everything; returns how many replies there were. */
static unsigned send_replies(struct client *client) {
    size_t length = 0, pending = reply_bytes_pending(&client->reply), count;
    struct iovec vectors[8];
    unsigned replies = 0;
    if (pending == 0) return 0;
    char *text = malloc(pending);
    while (reply_bytes_pending(&client->reply) && (count = reply_vectors(&client->reply, vectors, 8)) > 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            memcpy(text + length + bytes, vectors[i].iov_base, vectors[i].iov_len);
            bytes += vectors[i].iov_len;
        }
        reply_consume(&client->reply, bytes);
        length += bytes;
    }
    assert(length == pending);
    for (size_t at = 0; at < length; replies++) at = skip_value(span_of(text, length), at, 0);
    free(text);
    return replies;
}

/* ---- what the client sends ---- */

static void append(struct bytes *bytes, const void *data, size_t length) {
    if (bytes->end + length > bytes->capacity) {
        bytes->capacity = 2 * (bytes->end + length) + 256;
        bytes->data = realloc(bytes->data, bytes->capacity);
    }
    if (length) memcpy(bytes->data + bytes->end, data, length);
    bytes->end += length;
}

static void append_bulk(struct bytes *bytes, const void *data, size_t length) {
    char header[32];
    append(bytes, header, (size_t)snprintf(header, sizeof(header), "$%zu\r\n", length));
    append(bytes, data, length);
    append(bytes, "\r\n", 2);
}

static void hand_over(struct server *server) {
    struct client *client = server->client;
    struct bytes *received = &client->received;
    enum dispatch_result result;
    if (client->closed) return;
    do {
        size_t consumed, length = received->end - received->begin;
        uint64_t commands = client->session.commands;
        char *copy = malloc(length ? length : 1);
        if (length) memcpy(copy, received->data + received->begin, length);
        client->reply.resp3 = client->session.protocol == 3;
        result = dispatch_input(server->dispatcher, &client->session, &client->parser, span_of(copy, length),
                                &client->reply, &consumed);
        free(copy);
        assert(consumed <= length);
        received->begin += consumed;
        unsigned replies = send_replies(client);
        assert(replies <= client->session.commands - commands + (result == DISPATCH_CLOSE));
        uint64_t answered = client->session.commands - commands - (result == DISPATCH_BLOCKED);
        if (client->session.reply_mode == SESSION_REPLY_ON) assert(replies >= answered);
    } while (result == DISPATCH_FULL);
    /* Nobody would end the wait of a client that is blocked: it leaves. */
    if (result == DISPATCH_BLOCKED) blocked_leave(server->dispatcher, &client->session);
    client->closed = result == DISPATCH_CLOSE || result == DISPATCH_BLOCKED;
    if (received->begin == received->end) received->begin = received->end = 0;
}

/* One argument, as bytes in `text`, which has room for server->value_max. */
static size_t make_argument(struct server *server, struct input *input, char *text) {
    unsigned kind = next_byte(input), size;
    switch (kind % 10) {
    case 0:
    case 1:
    case 2:
    case 3: return (size_t)sprintf(text, "key%u", (kind / 10) % KEYS);
    case 4: return (size_t)sprintf(text, "%s", hostile[next_byte(input) % HOSTILE]);
    case 5: return (size_t)sprintf(text, "%s", words[next_byte(input) % WORDS]);
    case 6:
        size = next_byte(input) % 32;
        for (unsigned i = 0; i < size; i++) text[i] = (char)next_byte(input);
        return size;
    case 7:
        size = next_byte(input) << 8 | next_byte(input);
        if (size > server->value_max) size = (unsigned)server->value_max;
        memset(text, (int)next_byte(input), size);
        return size;
    case 8: memset(text, (int)next_byte(input), server->value_max); return server->value_max;
    default: return (size_t)sprintf(text, "%lld", (long long)START_MS + (long long)next_byte(input) * 100);
    }
}

static void add_argument(struct server *server, struct span bytes) {
    append_bulk(&server->arguments, bytes.data, bytes.length);
    server->argument_count++;
}

static void add_any(struct server *server, struct input *input) {
    static char text[LARGE_VALUE];
    add_argument(server, span_of(text, make_argument(server, input, text)));
}

/* A value of the type that the notation asks for, now and then of another. */
static void add_typed(struct server *server, struct input *input, enum argument_type type) {
    char text[64];
    unsigned choice = next_byte(input), low = choice & 15;
    if (choice >= 240 || type == ARGUMENT_STRING) {
        add_any(server, input);
    } else if (type == ARGUMENT_KEY) {
        add_argument(server, span_of(text, (size_t)sprintf(text, "key%u", choice % KEYS)));
    } else if (type == ARGUMENT_PATTERN) {
        add_argument(server, span_of_text(words[next_byte(input) % WORDS]));
    } else if (type == ARGUMENT_UNIX_TIME) {
        add_argument(
            server, span_of(text, (size_t)sprintf(text, "%lld", (long long)START_MS / (choice & 64 ? 1 : 1000) + low)));
    } else if (choice < 160) {
        add_argument(server, span_of(text, (size_t)sprintf(text, "%d", (choice & 16 ? -1 : 1) * (int)low)));
    } else {
        add_argument(server, span_of_text(hostile[next_byte(input) % HOSTILE]));
    }
}

static void add_items(struct server *server, struct input *input, const struct argument_tree *tree, unsigned first,
                      unsigned count);

static void add_item(struct server *server, struct input *input, const struct argument_tree *tree, unsigned number) {
    const struct argument *item = &tree->items[number];
    unsigned choice = item->optional || item->multiple ? next_byte(input) : 0;
    if (item->optional && choice % 2) return;
    for (unsigned repeat = 0; repeat < (item->multiple ? 1 + choice / 2 % 3 : 1); repeat++) {
        if (item->token.data && (repeat == 0 || item->multiple_token)) add_argument(server, item->token);
        if (item->type == ARGUMENT_BLOCK) {
            add_items(server, input, tree, item->first, item->children);
        } else if (item->type == ARGUMENT_ONEOF) {
            unsigned child = item->first;
            for (unsigned skip = next_byte(input) % item->children; skip > 0; skip--) child = tree->items[child].next;
            add_item(server, input, tree, child);
        } else if (item->type != ARGUMENT_PURE_TOKEN) {
            add_typed(server, input, item->type);
        }
    }
}

static void add_items(struct server *server, struct input *input, const struct argument_tree *tree, unsigned first,
                      unsigned count) {
    for (; count > 0; count--, first = tree->items[first].next) add_item(server, input, tree, first);
}

static bool is_too_slow(const struct server *server, const struct command *command) {
    return server->value_max > SMALL_VALUE && strcmp(command->full_name, "lcs") == 0;
}

static void send_command(struct server *server, struct input *input, bool by_notation) {
    const struct command *command = command_table_by_id(table, next_byte(input) % command_table_ids(table));
    struct argument_tree tree;
    char header[32];
    if (is_too_slow(server, command)) return;
    server->arguments.end = server->argument_count = 0;
    if (command->parent) add_argument(server, span_of_text(command->parent->spec->name));
    add_argument(server, span_of_text(command->spec->name));
    if (by_notation && argument_spec_parse(command->spec->arguments, &tree))
        add_items(server, input, &tree, 0, tree.top);
    else
        for (unsigned arguments = next_byte(input) % (ARGUMENTS_LIMIT + 1); arguments > 0; arguments--)
            add_any(server, input);
    append(&server->client->received, header,
           (size_t)snprintf(header, sizeof(header), "*%u\r\n", server->argument_count));
    append(&server->client->received, server->arguments.data, server->arguments.end);
}

static void background_work(struct server *server, unsigned choice) {
    uint32_t shard = choice % SHARDS;
    (void)keyspace_sweep(server->keyspace, shard, server->dispatcher->now_ms, 0, NULL);
    (void)keyspace_drain(server->keyspace, shard, 0);
    (void)keyspace_compact(server->keyspace, shard, 10);
}

static void step(struct server *server, struct input *input) {
    unsigned what = next_byte(input);
    if (what < 192) {
        send_command(server, input, what >= 96);
        if (what % 4) hand_over(server);
    } else if (what < 208) {
        size_t length = next_byte(input), left = input->size - input->at;
        if (length > left) length = left;
        append(&server->client->received, input->data + input->at, length);
        input->at += length;
        hand_over(server);
    } else if (what < 224) {
        server->client = &server->clients[what % CLIENTS];
    } else if (what < 232) {
        server->dispatcher->now_ms += (int64_t)next_byte(input) * 100;
        clock_freeze_unix_us(server->dispatcher->now_ms * 1000);
    } else if (what < 240) {
        background_work(server, what);
    } else if (what < 248) {
        server->client->session.protocol = what % 2 ? 3 : 2;
    } else {
        hand_over(server);
    }
}

/* All families but PFSELFTEST, which takes no arguments and seconds. */
static void create_table(void) {
    static struct command_spec specs[COMMANDS_LIMIT];
    struct command_family all = {.specs = specs};
    for (unsigned f = 0; f < FAMILIES; f++)
        for (unsigned i = 0; i < *family_list[f].count; i++) {
            assert(all.count < COMMANDS_LIMIT);
            if (strcmp(family_list[f].specs[i].name, "pfselftest") != 0) specs[all.count++] = family_list[f].specs[i];
        }
    table = command_table_create(&all, 1);
    stats = command_stats_create(command_table_ids(table));
    assert(table && stats);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct server server = {0};
    struct input input = {data, size, 0};
    if (!table) create_table();
    open_server(&server, next_byte(&input));
    for (unsigned steps = 0; input.at < input.size && steps < STEPS_MAX; steps++) {
        step(&server, &input);
        if (steps % 32 == 31) assert(keyspace_validate(server.keyspace));
    }
    hand_over(&server);
    close_server(&server);
    return 0;
}
