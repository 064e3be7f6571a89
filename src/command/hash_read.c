/* Hashes: reading what is in them. Replies are composed straight from the record or from the pages; of a big hash some
 * of which is cold, what is missing is left out, and the whole reply is thrown away and composed again later.
 *
 * Since expired fields of a big hash are met only on the way, the length of a reply that lists such a hash is written
 * when it is known. */

#include "command/hash_handlers.h"

/* ---- single fields ---- */

void command_hget(struct call *call) {
    struct hash_value hash;
    struct hash_entry entry;
    if (!hash_open_to_read(call, &hash)) return;
    if (hash_value_get(&hash, call->argv[2], &entry) == PAGE_DONE)
        reply_bulk(call->reply, entry.value);
    else
        reply_null(call->reply);
}

void command_hmget(struct call *call) {
    struct hash_value hash;
    struct hash_entry entry;
    if (!hash_open_to_read(call, &hash)) return;
    reply_array(call->reply, call->argc - 2);
    for (uint32_t i = 2; i < call->argc; i++) {
        if (hash_value_get(&hash, call->argv[i], &entry) == PAGE_DONE)
            reply_bulk(call->reply, entry.value);
        else
            reply_null(call->reply);
    }
}

void command_hexists(struct call *call) {
    struct hash_value hash;
    struct hash_entry entry;
    if (!hash_open_to_read(call, &hash)) return;
    reply_integer(call->reply, hash_value_get(&hash, call->argv[2], &entry) == PAGE_DONE);
}

void command_hstrlen(struct call *call) {
    struct hash_value hash;
    struct hash_entry entry;
    if (!hash_open_to_read(call, &hash)) return;
    bool found = hash_value_get(&hash, call->argv[2], &entry) == PAGE_DONE;
    reply_integer(call->reply, found ? (int64_t)entry.value.length : 0);
}

void command_hlen(struct call *call) {
    struct hash_value hash;
    if (!hash_open_to_read(call, &hash)) return;
    reply_integer(call->reply, (int64_t)hash_value_count(&hash));
}

/* ---- all fields ---- */

enum listed { LISTED_FIELDS = 1, LISTED_VALUES = 2 };

static uint64_t list_entries(struct call *call, struct hash_value *hash, unsigned what) {
    struct hash_walk walk;
    struct hash_entry entry;
    uint64_t count = 0;
    hash_value_walk(&walk, hash);
    for (; hash_value_walk_next(&walk, &entry); count++) {
        if (what & LISTED_FIELDS) reply_bulk(call->reply, entry.field);
        if (what & LISTED_VALUES) reply_bulk(call->reply, entry.value);
    }
    return count;
}

static void list_hash(struct call *call, unsigned what) {
    struct hash_value hash;
    bool pairs = what == (LISTED_FIELDS | LISTED_VALUES);
    if (!hash_open_to_read(call, &hash)) return;
    if (__builtin_expect(hash.root && hash.root->items.timed, 0)) {
        struct reply_aggregate aggregate = reply_begin(call->reply);
        uint64_t count = list_entries(call, &hash, what);
        reply_end(call->reply, aggregate, pairs ? '%' : '*', count);
        return;
    }
    uint64_t count = hash_value_count(&hash);
    if (pairs)
        reply_map(call->reply, count);
    else
        reply_array(call->reply, count);
    if (count) list_entries(call, &hash, what);
}

void command_hgetall(struct call *call) {
    list_hash(call, LISTED_FIELDS | LISTED_VALUES);
}
void command_hkeys(struct call *call) {
    list_hash(call, LISTED_FIELDS);
}
void command_hvals(struct call *call) {
    list_hash(call, LISTED_VALUES);
}
