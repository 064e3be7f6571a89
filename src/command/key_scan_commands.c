/* Finding keys without knowing them: KEYS, SCAN, RANDOMKEY.
 *
 * Both walks go in steps of STEP_KEYS, so that no shard is held for longer than a step takes, however many keys were
 * asked for. Between two steps other workers may change the keyspace. A cursor survives that: what is there all the
 * time is visited at least once, though perhaps twice. SCAN may show a key twice; KEYS may not, and so remembers
 * the mark up to which, in the order of the walk (shard, then hash), all keys were visited:
 *
 *      shard 0     shard 1     shard 2
 *     |-----------|------M     |                 everything up to M has been visited: a key at or before M
 *                                                that comes again was shown, or is newer than the command
 *
 * Expired keys still lie in the index until the sweeper comes; they are counted as steps but never shown. SCAN removes
 * some of those it meets, as a look-up would. */

#include "base/glob.h"
#include "base/number.h"
#include "command/dispatch.h"
#include "command/families.h"
#include "command/record_names.h"

enum {
    STEP_KEYS = 256,     /* some 25 us even if every record is a DRAM miss */
    COLD_STEP_KEYS = 64, /* of SCAN, where they may be cold: so many copies need no room to be made */
    SCAN_COUNT_DEFAULT = 10,
    EXPIRED_KEYS = 32, /* met in a step, that are removed behind it */
    EXPIRED_BYTES = 1024,
    SCAN_REPLY_BYTES = 16 * 1024, /* of a SCAN's keys, composed on the stack before they follow the cursor */
};

/* ---- what has expired ---- */

/* It cannot go while the index is walked. What there is no room for is left to the sweeper. */
struct expired_keys {
    unsigned count;
    size_t names_used;
    struct span list[EXPIRED_KEYS]; /* in `names` */
    char names[EXPIRED_BYTES];
};

static void note_expired(struct expired_keys *keys, struct span name) {
    if (keys->count == EXPIRED_KEYS || name.length > EXPIRED_BYTES - keys->names_used) return;
    char *copy = keys->names + keys->names_used;
    if (name.length) memcpy(copy, name.data, name.length);
    keys->names_used += name.length;
    keys->list[keys->count++] = span_of(copy, name.length);
}

/* A lookup removes it, unless this server leaves that to another. */
static void remove_expired(struct call *call, struct expired_keys *keys) {
    for (unsigned i = 0; i < keys->count; i++) {
        struct key key = keyspace_key(call->view.keyspace, keys->list[i]);
        keyspace_enter(&call->view, key.shard);
        (void)keyspace_find(&call->view, &key);
        keyspace_leave(&call->view, key.shard);
    }
    keys->count = 0;
    keys->names_used = 0;
}

/* ---- KEYS ---- */

struct mark {
    bool any;
    uint32_t shard;
    uint64_t hash;
};

static bool mark_is_at_or_after(const struct mark *mark, const struct key *key) {
    if (!mark->any || key->shard != mark->shard) return mark->any && key->shard < mark->shard;
    return key->hash <= mark->hash;
}

struct listing {
    const struct view *view;
    struct reply *reply;
    struct span pattern;
    bool everything;   /* the pattern is "*" */
    bool others_write; /* between steps */
    struct mark done;  /* by the steps before this one */
    struct mark seen;  /* by this one too */
    size_t count;
};

static bool is_repeated(struct listing *listing, struct span name) {
    struct key key = keyspace_key(listing->view->keyspace, name);
    if (mark_is_at_or_after(&listing->done, &key)) return true;
    if (!mark_is_at_or_after(&listing->seen, &key)) listing->seen = (struct mark){true, key.shard, key.hash};
    return false;
}

static void list_record(void *ctx, const struct record *record) {
    struct listing *listing = ctx;
    struct span name = record_key(record);
    if (listing->others_write && is_repeated(listing, name)) return;
    if (record_is_expired(record, listing->view->now_ms)) return;
    if (!listing->everything && !glob_match(listing->pattern, name, GLOB_CASE_EXACT)) return;
    reply_bulk(listing->reply, name);
    listing->count++;
}

/* A pattern that only one key can match. */
static void list_one(struct call *call, struct span name) {
    struct key key = keyspace_key(call->view.keyspace, name);
    keyspace_enter(&call->view, key.shard);
    bool found = keyspace_find(&call->view, &key).record;
    keyspace_leave(&call->view, key.shard);
    reply_array(call->reply, found);
    if (found) reply_bulk(call->reply, name);
}

static void command_keys(struct call *call) {
    struct span pattern = call->argv[1];
    if (glob_is_literal(pattern)) {
        list_one(call, pattern);
        return;
    }
    struct listing listing = {.view = &call->view,
                              .reply = call->reply,
                              .pattern = pattern,
                              .everything = glob_is_everything(pattern),
                              .others_write = call->view.keyspace->locking && !call->view.locked_all};
    struct reply_aggregate keys = reply_begin(call->reply);
    uint64_t cursor = 0;
    call->view.waiter = NULL; /* cold names are read as it goes: all of them at once would not fit in memory */
    do {
        cursor = keyspace_scan(&call->view, cursor, STEP_KEYS, NULL, list_record, &listing);
        listing.done = listing.seen;
    } while (cursor);
    reply_end(call->reply, keys, '*', listing.count);
}

/* ---- SCAN ---- */

struct scan {
    uint64_t cursor;
    uint64_t want; /* COUNT */
    struct span pattern;
    bool every_name, every_type;
    bool no_type; /* TYPE named one that does not exist: nothing is shown */
    enum record_type type;
    int64_t now_ms;
    struct reply *keys;
    size_t met, count;
    struct expired_keys expired;
};

static bool parse_scan_option(struct call *call, uint32_t at, struct scan *scan) {
    struct span value = call->argv[at + 1];
    int64_t count;
    if (call_is(call, at, "count")) {
        if (!call_integer_within(call, at + 1, INT64_MIN, INT64_MAX, NULL, &count)) return false;
        scan->want = (uint64_t)count;
        if (count >= 1) return true;
    } else if (call_is(call, at, "match")) {
        scan->pattern = value;
        scan->every_name = glob_is_everything(value);
        return true;
    } else if (call_is(call, at, "type")) {
        scan->every_type = false;
        scan->no_type = !record_type_by_name(value, &scan->type);
        return true;
    }
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

static bool parse_scan(struct call *call, struct scan *scan) {
    if (!number_parse_cursor(call->argv[1], &scan->cursor)) {
        reply_error(call->reply, "ERR invalid cursor");
        return false;
    }
    for (uint32_t i = 2; i < call->argc; i += 2) {
        if (i + 1 == call->argc) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!parse_scan_option(call, i, scan)) return false;
    }
    return true;
}

static void scan_record(void *ctx, const struct record *record) {
    struct scan *scan = ctx;
    struct span name = record_key(record);
    if (record_is_expired(record, scan->now_ms)) {
        note_expired(&scan->expired, name);
        return;
    }
    if (!scan->every_type && (scan->no_type || record_type(record) != scan->type)) return;
    if (!scan->every_name && !glob_match(scan->pattern, name, GLOB_CASE_EXACT)) return;
    reply_bulk(scan->keys, name);
    scan->count++;
}

/* COUNT is a hint: it ends behind a step that needed cold records, whose copies it keeps in memory. */
static bool has_read(const struct call *call) {
    return call->view.waiter && call->view.waiter->holds;
}

/* The keys stand behind the next cursor in the reply but are known before it, so they are composed apart. */
static void command_scan(struct call *call) {
    struct scan scan = {
        .want = SCAN_COUNT_DEFAULT, .every_name = true, .every_type = true, .now_ms = call->view.now_ms};
    if (!parse_scan(call, &scan)) return;
    char room[SCAN_REPLY_BYTES], text[NUMBER_TEXT_MAX];
    uint64_t step = call->view.port ? COLD_STEP_KEYS : STEP_KEYS;
    struct reply keys;
    reply_init(&keys, room, sizeof(room), NULL, NULL);
    scan.keys = &keys;
    do {
        uint64_t left = scan.want - scan.met;
        scan.cursor = keyspace_scan(&call->view, scan.cursor, left < step ? left : step, &scan.met, scan_record, &scan);
        remove_expired(call, &scan.expired);
    } while (scan.cursor && scan.met < scan.want && !has_read(call));
    reply_array(call->reply, 2);
    reply_bulk(call->reply, span_of(text, number_format_u64(scan.cursor, text)));
    reply_array(call->reply, scan.count);
    reply_append(call->reply, &keys);
}

/* ---- RANDOMKEY ---- */

struct random_draw {
    struct reply *reply;
    struct expired_keys expired;
};

static void reply_name(void *ctx, const struct record *record) {
    reply_bulk(((struct random_draw *)ctx)->reply, record_key(record));
}

/* Where few keys are left the same one is drawn again and again. */
static void meet_expired(void *ctx, const struct record *record) {
    struct expired_keys *keys = &((struct random_draw *)ctx)->expired;
    struct span name = record_key(record);
    for (unsigned i = 0; i < keys->count; i++)
        if (span_equal(keys->list[i], name)) return;
    note_expired(keys, name);
}

static void command_randomkey(struct call *call) {
    /* When it waits for a cold record it must draw the same one again. */
    uint64_t random = call->view.port ? call->session->random : dispatcher_random(call->dispatcher);
    struct random_draw draw = {.reply = call->reply};
    if (!keyspace_random(&call->view, random, reply_name, meet_expired, &draw)) reply_null(call->reply);
    if (!view_misses(&call->view)) remove_expired(call, &draw.expired);
}

/* ---- rows ---- */

const struct command_spec key_scan_commands[] = {
    {.name = "keys",
     .handler = command_keys,
     .arity = 2,
     .flags = COMMAND_READONLY | COMMAND_WALKS,
     .categories = CATEGORY_KEYSPACE | CATEGORY_DANGEROUS,
     .group = "generic",
     .since = "1.0.0",
     .summary = "All keys whose names match a pattern",
     .complexity = "O(N), N keys in the database; O(1) for a pattern without special characters",
     .arguments = "pattern:p",
     .tips = "request_policy:all_shards nondeterministic_output_order"},
    {.name = "scan",
     .handler = command_scan,
     .arity = -2,
     .flags = COMMAND_READONLY | COMMAND_WALKS,
     .categories = CATEGORY_KEYSPACE,
     .group = "generic",
     .since = "2.8.0",
     .summary = "One step of a walk through all keys",
     .complexity = "O(COUNT) for a step, O(N) for the walk over N keys",
     .arguments = "cursor:i [MATCH pattern:p] [COUNT count:i] [TYPE type@6.0.0]",
     .history = "6.0.0 TYPE was added.",
     .tips = "nondeterministic_output request_policy:special"},
    {.name = "randomkey",
     .handler = command_randomkey,
     .arity = 1,
     .flags = COMMAND_READONLY | COMMAND_WALKS,
     .categories = CATEGORY_KEYSPACE,
     .group = "generic",
     .since = "1.0.0",
     .summary = "Some key, chosen at random",
     .complexity = "O(1)",
     .tips = "request_policy:all_shards nondeterministic_output"},
};
const unsigned key_scan_command_count = sizeof(key_scan_commands) / sizeof(key_scan_commands[0]);
