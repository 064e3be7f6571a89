/* See journaled.h. Values are compared by digests and, where those leave something out, by the replies of commands
 * that tell it; they are given by sessions that replay, for which nothing expires, so that looking changes nothing. */

#include "tests/support/journaled.h"

#include "base/clock.h"
#include "base/number.h"
#include "command/effect_sink.h"
#include "command/families.h"
#include "server/digest.h"
#include "server/digest_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { RING_BYTES = 8 << 20, FIELDS = 24, PACKED_ENTRIES = 12, OTHER_SEED = 0x5bd1e995 };

static struct in_process *create_server(unsigned shards, size_t reserve_bytes, const struct tier_options *tier) {
    const struct command_family families[] = {
        {string_commands, string_command_count},
        {bitmap_commands, bitmap_command_count},
        {hyperloglog_commands, hyperloglog_command_count},
        {hash_commands, hash_command_count},
        {set_commands, set_command_count},
        {list_commands, list_command_count},
        {sorted_set_commands, sorted_set_command_count},
        {geo_commands, geo_command_count},
        {stream_commands, stream_command_count},
        {sort_commands, sort_command_count},
        {transaction_commands, transaction_command_count},
        {key_commands, key_command_count},
        {key_expiry_commands, key_expiry_command_count},
        {key_scan_commands, key_scan_command_count},
        {database_commands, database_command_count},
    };
    const struct in_process_options options = {.families = families,
                                               .family_count = sizeof(families) / sizeof(families[0]),
                                               .shards = shards,
                                               .reserve_bytes = reserve_bytes,
                                               .tier = tier};
    return in_process_create_with(&options);
}

/* Before there is any key. */
static void exchange_seed(struct keyspace *keyspace) {
    keyspace->seed ^= OTHER_SEED;
    for (unsigned i = 0; i < keyspace->pool_count; i++) keyspace->index_memory[i].environment.seed = keyspace->seed;
}

struct journaled *journaled_create(void) {
    return journaled_create_with(0, NULL);
}

struct journaled *journaled_create_with(size_t reserve_bytes, const struct tier_options *tier) {
    struct journaled *journaled = calloc(1, sizeof(*journaled));
    const struct journal_options options = {.capacity_bytes = RING_BYTES, .writers = 1};
    struct in_process *server = journaled->server = create_server(4, reserve_bytes, tier);
    struct value_limits *limits = &server->keyspace->limits;
    limits->set_packed_entries = limits->set_intset_entries = limits->hash_packed_entries = PACKED_ENTRIES;
    limits->sorted_set_packed_entries = PACKED_ENTRIES;
    journaled->journal = journal_create(&options);
    assert_non_null(journaled->journal);
    journaled->reader = journal_attach(journaled->journal, journal_end(journaled->journal), true);
    assert_non_null(journaled->reader);
    server->dispatcher->effects.journal = journaled->journal;
    effect_sink_bind(&server->dispatcher->effects);
    effect_sink_listen(server->keyspace, true);
    journaled->repeated = create_server(2, 0, NULL);
    exchange_seed(journaled->repeated->keyspace);
    journaled->repeated->session->replaying = true;
    return journaled;
}

void journaled_destroy(struct journaled *journaled) {
    effect_sink_bind(NULL);
    effect_sink_free(&journaled->server->dispatcher->effects);
    journal_detach(journaled->reader);
    journal_destroy(journaled->journal);
    in_process_destroy(journaled->server);
    in_process_destroy(journaled->repeated);
    free(journaled->bytes);
    free(journaled->text);
    free(journaled);
}

void journaled_advance(struct journaled *journaled, int64_t ms) {
    in_process_advance(journaled->server, ms);
    in_process_advance(journaled->repeated, ms);
}

/* ---- effects ---- */

static void take(struct journaled *journaled) {
    bool boundary = true;
    struct span spans[2];
    unsigned count;
    journaled->length = 0;
    while ((count = journal_peek(journaled->reader, spans, &boundary))) {
        size_t more = 0;
        for (unsigned i = 0; i < count; i++) more += spans[i].length;
        if (journaled->length + more > journaled->capacity) {
            journaled->capacity = 2 * (journaled->length + more);
            journaled->bytes = realloc(journaled->bytes, journaled->capacity);
            assert_non_null(journaled->bytes);
        }
        for (unsigned i = 0; i < count; i++) {
            memcpy(journaled->bytes + journaled->length, spans[i].data, spans[i].length);
            journaled->length += spans[i].length;
        }
        journal_advance(journaled->reader, more);
    }
    assert_true(boundary);
}

/* The number behind the sign at `*at`, which is moved behind its line. */
static size_t take_number(const char **at, char sign) {
    assert_int_equal(**at, sign);
    size_t number = strtoul(*at + 1, NULL, 10);
    *at = strchr(*at, '\n') + 1;
    return number;
}

static void spell(struct journaled *journaled) {
    static const char hidden[] = "SELECT 0";
    const char *at = journaled->bytes, *end = at + journaled->length;
    char *to = journaled->text = realloc(journaled->text, journaled->length + 4);
    assert_non_null(to);
    while (at < end) {
        char *begin = to;
        size_t words = take_number(&at, '*');
        if (to != journaled->text) to += sprintf(to, " | ");
        char *command = to;
        for (size_t i = 0; i < words; i++) {
            size_t length = take_number(&at, '$');
            if (i) *to++ = ' ';
            memcpy(to, at, length);
            to += length;
            at += length + 2;
        }
        if ((size_t)(to - command) == sizeof(hidden) - 1 && memcmp(command, hidden, sizeof(hidden) - 1) == 0)
            to = begin;
    }
    *to = '\0';
}

static bool begins_with_error(const char *at) {
    static const char *const errors[] = {"-ERR", "-WRONGTYPE", "-OOM", "-NOGROUP", "-BUSYGROUP", "-EXECABORT"};
    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (strncmp(at, errors[i], strlen(errors[i])) == 0) return true;
    return false;
}

static void expect_no_error(const struct journaled *journaled, const char *reply) {
    for (const char *at = reply; at; at = strchr(at, '\n')) {
        if (*at == '\n') at++;
        if (begins_with_error(at)) fail_msg("repeating %.2000s: %.200s", journaled->text, at);
    }
}

const char *journaled_effects(struct journaled *journaled) {
    take(journaled);
    spell(journaled);
    if (!journaled->length) return journaled->text;
    const char *reply = in_process_run_input(journaled->repeated, span_of(journaled->bytes, journaled->length));
    expect_no_error(journaled, reply);
    return journaled->text;
}

/* ---- what there is ---- */

static struct view looking_view(const struct in_process *server, uint32_t database) {
    return (struct view){.keyspace = server->keyspace,
                         .database = database,
                         .keep_access = true,
                         .replays = true,
                         .port = server->port,
                         .now_ms = server->dispatcher->now_ms};
}

/* Takes away what follows each of this name in a reply. */
static void mask(char *reply, const char *name) {
    for (char *at = reply; (at = strstr(at, name));) {
        at = strchr(at, '\n') + 1;
        char *end = strchr(at, '\r');
        memmove(at, end, strlen(end) + 1);
    }
}

static const char *run_looking(struct in_process *server, uint32_t database, const char *line) {
    struct session own, *session = server->session;
    session_init(&own, 9, IN_PROCESS_START_MS);
    own.authenticated = own.replaying = own.no_touch = true;
    own.database = database;
    server->session = &own;
    const char *reply = in_process_run(server, line);
    server->session = session;
    in_process_end_session(server, &own);
    return reply;
}

static char *joined(char *text, const char *more) {
    char *both = NULL;
    assert_true(asprintf(&both, "%s%s", text, more) >= 0);
    free(text);
    return both;
}

static char *with_reply(char *text, struct in_process *server, uint32_t database, const char *line) {
    static const char *const masked[] = {"seen-time",       "active-time",  "radix-tree-keys", "radix-tree-nodes",
                                         "iids-duplicates", "iids-tracked", "pids-tracked"};
    char *reply = strdup(run_looking(server, database, line));
    for (unsigned i = 0; i < sizeof(masked) / sizeof(masked[0]); i++) mask(reply, masked[i]);
    text = joined(text, reply);
    free(reply);
    return text;
}

/* All there is to be known of a key; from malloc. */
static char *describe(struct in_process *server, uint32_t database, const char *name) {
    struct view view = looking_view(server, database);
    struct key key = keyspace_key(server->keyspace, span_of_text(name));
    struct lookup lookup = keyspace_find(&view, &key);
    char *text = NULL, line[512];
    if (!lookup.record) return strdup("nothing");
    enum record_type type = record_type(lookup.record);
    struct digest_value digest = digest_value_of(&view, lookup.record);
    lookup = keyspace_find(&view, &key);
    assert_true(asprintf(&text, "type %d expires %lld digest %016llx%016llx ", (int)type,
                         (long long)record_expiry(lookup.record), (unsigned long long)digest.low,
                         (unsigned long long)digest.high) >= 0);
    if (type == RECORD_STREAM) {
        snprintf(line, sizeof(line), "XINFO STREAM \"%s\" FULL COUNT 0", name);
        text = with_reply(text, server, database, line);
    } else if (type == RECORD_HASH) {
        int length = snprintf(line, sizeof(line), "HPEXPIRETIME \"%s\" FIELDS %d", name, FIELDS);
        for (unsigned i = 0; i < FIELDS; i++)
            length += snprintf(line + length, sizeof(line) - (size_t)length, " f%u", i);
        text = with_reply(text, server, database, line);
    }
    return text;
}

void journaled_compare(struct journaled *journaled, uint32_t database, const char *key) {
    char *one = describe(journaled->server, database, key), *other = describe(journaled->repeated, database, key);
    size_t same = 0;
    while (one[same] && one[same] == other[same]) same++;
    if (one[same] != other[same]) {
        same = same > 200 ? same - 200 : 0;
        fail_msg("key %s of database %u\n  is       %.100s ... %.500s\n  repeated %.100s ... %.500s", key, database,
                 one, one + same, other, other + same);
    }
    free(one);
    free(other);
}

static void add_index(const struct in_process *server, const struct index *index, uint32_t database,
                      struct digest *digest) {
    struct view view = looking_view(server, database);
    uint64_t refs[INDEX_GATHER_MAX], position = 0;
    do {
        size_t count = index_gather(index, position, INDEX_GATHER_MAX, false, refs, &position);
        for (size_t i = 0; i < count; i++) {
            const struct record *record = keyspace_record(&view, refs[i]);
            assert_non_null(record);
            digest_add_record(digest, database, record, digest_value_of(&view, record));
        }
        if (server->port) tier_trim(server->port);
    } while (position);
}

static void digest_all(const struct in_process *server, char text[DIGEST_TEXT + 1]) {
    const struct keyspace *keyspace = server->keyspace;
    struct digest digest = {0};
    for (uint32_t shard = 0; shard < keyspace->shard_count; shard++)
        for (uint32_t database = 0; database < keyspace->database_count; database++)
            if (keyspace->shards[shard].databases[database])
                add_index(server, keyspace->shards[shard].databases[database], database, &digest);
    digest_print(&digest, text);
}

void journaled_compare_all(struct journaled *journaled) {
    char one[DIGEST_TEXT + 1], other[DIGEST_TEXT + 1];
    digest_all(journaled->server, one);
    digest_all(journaled->repeated, other);
    assert_string_equal(one, other);
}
