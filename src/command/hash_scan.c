/* Hashes: some of their fields. HSCAN goes on from a cursor, HRANDFIELD draws.
 *
 * The elements of a scan stand behind the next cursor in the reply but are known before it, so they are composed
 * apart. */

#include "command/call_random.h"
#include "command/hash_handlers.h"
#include "command/random_count.h"
#include "command/scan_argument.h"

enum { SCAN_REPLY_BYTES = 16 * 1024 /* composed on the stack */ };

/* ---- HSCAN ---- */

/* Composes what the walk goes over; counts what was met. Returns how many elements were composed. */
static size_t show_fields(struct hash_walk *walk, const struct scan_argument *scan, struct reply *reply,
                          uint64_t *met) {
    struct hash_entry entry;
    size_t shown = 0;
    *met = 0;
    for (; hash_value_walk_next(walk, &entry); ++*met) {
        if (!scan_shows(scan, entry.field)) continue;
        reply_bulk(reply, entry.field);
        if (!scan->names_only) reply_bulk(reply, entry.value);
        shown += scan->names_only ? 1 : 2;
    }
    return shown;
}

static void scan_hash(struct call *call, struct hash_value *hash, struct scan_argument *scan) {
    char room[SCAN_REPLY_BYTES];
    struct reply elements;
    struct hash_walk walk;
    uint64_t visited = 0, met, pages = hash->root ? page_table_live(hash->root->items.pages) : 1;
    size_t shown = 0;
    reply_init(&elements, room, sizeof(room), NULL, NULL);
    elements.resp3 = call->reply->resp3;
    do {
        scan->cursor = hash_value_scan(&walk, hash, scan->cursor);
        shown += show_fields(&walk, scan, &elements, &met);
        visited += scan_progress(met, hash_value_count(hash), pages);
    } while (scan->cursor && visited < scan->want);
    scan_reply_cursor(call, scan->cursor);
    reply_array(call->reply, shown);
    reply_append(call->reply, &elements);
}

void command_hscan(struct call *call) {
    struct scan_argument scan;
    struct hash_value hash;
    if (!scan_parse_cursor(call, &scan) || !hash_open_to_read(call, &hash)) return;
    if (!hash_value_exists(&hash)) {
        scan_reply_cursor(call, 0);
        reply_array(call->reply, 0);
    } else if (scan_parse_options(call, "novalues", &scan)) {
        scan_hash(call, &hash, &scan);
    }
}

/* ---- HRANDFIELD ---- */

struct draw {
    struct reply *reply;
    bool with_values;
    size_t count;
};

/* In RESP3 a field and its value are an array of their own. */
static void reply_drawn(void *ctx, const struct hash_entry *entry) {
    struct draw *draw = ctx;
    if (draw->with_values && draw->reply->resp3) reply_array(draw->reply, 2);
    reply_bulk(draw->reply, entry->field);
    if (draw->with_values) reply_bulk(draw->reply, entry->value);
    draw->count += draw->with_values && !draw->reply->resp3 ? 2 : 1;
}

static void draw_repeated(struct hash_value *hash, struct random *random, uint64_t want, struct draw *draw) {
    struct hash_entry entry;
    for (uint64_t i = 0; i < want; i++)
        if (hash_value_random(hash, random, &entry) == PAGE_DONE) reply_drawn(draw, &entry);
}

static void draw_fields(struct call *call, struct hash_value *hash, const struct random_count *count,
                        struct draw *draw) {
    struct random random;
    struct reply_mark mark = reply_mark(call->reply);
    struct reply_aggregate aggregate = reply_begin(call->reply);
    enum page_status status = PAGE_DONE;
    call_seed_random(call, &random);
    if (count->repeats)
        draw_repeated(hash, &random, count->want, draw);
    else
        status = hash_value_sample(hash, &random, count->want, reply_drawn, draw);
    if (status == PAGE_NO_MEMORY) {
        reply_rewind(call->reply, mark);
        call_no_memory(call);
        return;
    }
    reply_end(call->reply, aggregate, '*', draw->count);
}

static void draw_one(struct call *call) {
    struct hash_value hash;
    struct hash_entry entry;
    struct random random;
    if (!hash_open_to_read(call, &hash)) return;
    call_seed_random(call, &random);
    if (hash_value_exists(&hash) && hash_value_random(&hash, &random, &entry) == PAGE_DONE)
        reply_bulk(call->reply, entry.field);
    else
        reply_null(call->reply);
}

void command_hrandfield(struct call *call) {
    struct random_count count;
    struct hash_value hash;
    struct draw draw = {.reply = call->reply, .with_values = call->argc == 4};
    if (call->argc == 2) {
        draw_one(call);
        return;
    }
    if (!random_count_parse(call, 2, &count)) return;
    if (call->argc > 4 || (call->argc == 4 && !call_is(call, 3, "withvalues"))) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (draw.with_values && count.want > INT64_MAX / 2) {
        reply_error(call->reply, "ERR value is out of range");
        return;
    }
    if (!hash_open_to_read(call, &hash)) return;
    if (!hash_value_exists(&hash) || count.want == 0)
        reply_array(call->reply, 0);
    else if (!count.repeats || random_count_allow(call, count.want, draw.with_values ? 32 : 16))
        draw_fields(call, &hash, &count, &draw);
}
