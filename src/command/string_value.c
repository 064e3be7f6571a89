/* See string_value.h. */

#include "command/string_value.h"

#include "command/dispatch.h"
#include "command/effect.h"

#include <stdlib.h>

bool string_expect(struct call *call, const struct lookup *lookup) {
    if (!lookup->record || record_type(lookup->record) == RECORD_STRING) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

static bool store(struct call *call, const struct key *key, struct lookup *lookup, struct record_plan *plan) {
    /* proto-max-bulk-len may be set higher than what a record can hold. */
    if (__builtin_expect(plan->value.length > LIMIT_VALUE_BYTES, 0)) {
        reply_error(call->reply, ERROR_TOO_LONG);
        return false;
    }
    if (keyspace_store(&call->view, key, lookup, plan)) return true;
    call_no_memory(call);
    return false;
}

bool string_store_integer(struct call *call, const struct key *key, struct lookup *lookup, int64_t value,
                          int64_t expiry_ms) {
    struct record_plan plan = {
        .type = RECORD_STRING, .encoding = record_integer_encoding(value), .integer = value, .expiry_ms = expiry_ms};
    return store(call, key, lookup, &plan);
}

bool string_store(struct call *call, const struct key *key, struct lookup *lookup, struct span bytes,
                  int64_t expiry_ms) {
    int64_t value;
    if (bytes.length <= NUMBER_TEXT_MAX && number_parse_i64(bytes, &value))
        return string_store_integer(call, key, lookup, value, expiry_ms);
    struct record_plan plan = {.type = RECORD_STRING, .encoding = RECORD_RAW, .value = bytes, .expiry_ms = expiry_ms};
    return store(call, key, lookup, &plan);
}

bool string_store_raw(struct call *call, const struct key *key, struct lookup *lookup, struct span bytes,
                      int64_t expiry_ms, bool edited) {
    struct record_plan plan = {
        .type = RECORD_STRING, .encoding = RECORD_RAW, .value = bytes, .expiry_ms = expiry_ms, .edited = edited};
    return store(call, key, lookup, &plan);
}

uint64_t string_length_max(const struct call *call) {
    struct command_host *host = call->dispatcher->host;
    if (!host) return LIMIT_VALUE_BYTES;
    uint64_t configured = atomic_load_explicit(&host->bulk_bytes_max, memory_order_relaxed);
    return configured < LIMIT_VALUE_BYTES ? configured : LIMIT_VALUE_BYTES;
}

bool string_expect_length(struct call *call, uint64_t length, uint64_t added) {
    uint64_t most = string_length_max(call);
    if (length <= most && added <= most - length) return true;
    reply_error(call->reply, ERROR_TOO_LONG);
    return false;
}

char *string_edit(struct call *call, const struct key *key, struct lookup *lookup, size_t length) {
    char text[NUMBER_TEXT_MAX];
    bool creates = !lookup->record;
    if (!lookup->record || record_is_integer(lookup->record)) {
        struct record_plan plan = {.type = RECORD_STRING, .encoding = RECORD_RAW, .expiry_ms = RECORD_EXPIRY_NONE};
        if (lookup->record) {
            plan.value = string_bytes(lookup->record, text);
            plan.expiry_ms = record_expiry(lookup->record);
        }
        bool quiet = call->view.quiet;
        call->view.quiet = true; /* the edit is the change */
        bool stored = store(call, key, lookup, &plan);
        call->view.quiet = quiet;
        if (!stored) return NULL;
    }
    char *bytes = keyspace_edit_value(&call->view, key, lookup, length);
    if (bytes) return bytes;
    if (creates) keyspace_remove(&call->view, key, lookup);
    call_effect_none(call);
    call_no_memory(call);
    return NULL;
}

void string_reply(struct call *call, const struct key *key, const struct lookup *lookup) {
    char text[NUMBER_TEXT_MAX];
    if (__builtin_expect(record_is_paged(lookup->record), 0)) {
        string_reply_pages(call, lookup, 0, string_length(lookup->record));
        return;
    }
    struct span bytes = string_bytes(lookup->record, text);
    if (__builtin_expect(bytes.length >= LIMIT_REPLY_COPY_BYTES, 0) && keyspace_pin(&call->view, lookup))
        reply_bulk_pinned(call->reply, bytes, lookup->record, key->shard);
    else
        reply_bulk(call->reply, bytes);
}

/* ---- values made of pages ---- */

struct string_pages string_pages_of(const struct call *call, const struct lookup *lookup) {
    return (struct string_pages){.bytes = paged_bytes_of(lookup_collection(lookup)),
                                 .access = keyspace_pages(&call->view, lookup->shard)};
}

bool string_touch(const struct call *call, const struct lookup *lookup) {
    if (!lookup->record || !record_is_paged(lookup->record)) return true;
    struct string_pages pages = string_pages_of(call, lookup);
    return paged_bytes_touch(pages.bytes, &pages.access, 0, pages.bytes->length);
}

bool string_equals(const struct call *call, const struct lookup *lookup, struct span bytes) {
    char text[NUMBER_TEXT_MAX];
    if (string_length(lookup->record) != bytes.length) return false;
    if (!record_is_paged(lookup->record)) return span_equal(string_bytes(lookup->record, text), bytes);
    struct string_pages pages = string_pages_of(call, lookup);
    struct paged_bytes_walk walk;
    struct paged_bytes_piece piece;
    if (!string_touch(call, lookup)) return false;
    paged_bytes_walk_range(&walk, pages.bytes, &pages.access, 0, bytes.length);
    while (paged_bytes_walk_next(&walk, &piece)) {
        const char *expected = bytes.data + piece.offset;
        if (piece.data ? memcmp(piece.data, expected, piece.length) != 0 : !bytes_are_zero(expected, piece.length))
            return false;
    }
    return !view_misses(&call->view) && !call->unreadable;
}

enum page_status string_whole(const struct call *call, const struct lookup *lookup, char text[NUMBER_TEXT_MAX],
                              struct span *bytes, char **copy) {
    *copy = NULL;
    if (!record_is_paged(lookup->record)) {
        *bytes = string_bytes(lookup->record, text);
        return PAGE_DONE;
    }
    if (!string_touch(call, lookup)) return PAGE_MISSING;
    struct string_pages pages = string_pages_of(call, lookup);
    if (!reply_may_take(call->reply, pages.bytes->length)) return PAGE_NO_MEMORY;
    char *whole = malloc(pages.bytes->length);
    if (!whole) return PAGE_NO_MEMORY;
    enum page_status status = paged_bytes_read(pages.bytes, &pages.access, 0, whole, pages.bytes->length);
    if (status != PAGE_DONE) {
        free(whole);
        return status;
    }
    *bytes = span_of(whole, pages.bytes->length);
    *copy = whole;
    return PAGE_DONE;
}

static void reply_zeros(struct reply *reply, uint64_t count) {
    static const char zeros[4096];
    for (; count >= sizeof(zeros); count -= sizeof(zeros)) reply_raw(reply, zeros, sizeof(zeros));
    reply_raw(reply, zeros, count);
}

/* Has the cold pages requested: all of them where there is memory for their copies beside the reply, else a few, and
 * the others are read on the spot when it comes to them, which is no time to bring them back. False: the command is
 * going to be run again, or refused. */
static bool request_pages(struct call *call, const struct lookup *lookup, struct string_pages *pages, uint64_t offset,
                          uint64_t length) {
    if (!call->view.waiter || !pages->bytes->collection.parts[COLLECTION_HASH].cold) return true;
    pages->access.leaves_cold = !region_pool_has_room(lookup->shard->heap.pool, 2 * length);
    bool requested = pages->access.leaves_cold ? paged_bytes_request(pages->bytes, &pages->access, offset, length)
                                               : paged_bytes_touch(pages->bytes, &pages->access, offset, length);
    return requested && reply_has_room(call->reply, length);
}

/* From there on nothing is waited for, and each page is passed when it is in the reply. Who cannot wait goes on for as
 * long as there is memory. */
void string_reply_pages(struct call *call, const struct lookup *lookup, uint64_t offset, uint64_t length) {
    struct string_pages pages = string_pages_of(call, lookup);
    struct paged_bytes_walk walk;
    struct paged_bytes_piece piece;
    struct view here = call->view;
    char header[NUMBER_TEXT_MAX + 3] = "$";
    if (!request_pages(call, lookup, &pages, offset, length)) return;
    here.waiter = NULL;
    pages.access.view = &here;
    size_t header_length = 1 + number_format_i64((int64_t)length, header + 1);
    memcpy(header + header_length, "\r\n", 2);
    reply_raw(call->reply, header, header_length + 2);
    paged_bytes_walk_range(&walk, pages.bytes, &pages.access, offset, length);
    while (!call->reply->starved && paged_bytes_walk_next(&walk, &piece)) {
        if (piece.data)
            reply_raw(call->reply, piece.data, piece.length);
        else
            reply_zeros(call->reply, piece.length);
        page_pass(&pages.access);
    }
    if (call->reply->starved) (void)!reply_may_take(call->reply, walk.end - walk.at);
    reply_raw(call->reply, "\r\n", 2);
}

bool string_edits_pages(const struct lookup *lookup, uint64_t length) {
    if (!lookup->record) return length > STRING_PAGED_BYTES;
    if (record_is_paged(lookup->record)) return true;
    uint64_t before = string_length(lookup->record), after = length > before ? length : before;
    /* A long value is copied into pages only when the edit costs as much anyway. */
    return after > STRING_PAGED_BYTES && (before <= STRING_CONVERT_BYTES || after - before > before);
}

bool string_pages_begin_new(struct call *call, const struct key *key, struct string_pages *pages) {
    struct collection *root = keyspace_new_collection(&call->view, key, &paged_bytes_kind);
    if (!root) {
        call_no_memory(call);
        return false;
    }
    *pages = (struct string_pages){.bytes = paged_bytes_of(root),
                                   .access = keyspace_pages(&call->view, &call->view.keyspace->shards[key->shard]),
                                   .is_new = true};
    return true;
}

bool string_pages_begin(struct call *call, const struct key *key, struct lookup *lookup, struct string_pages *pages) {
    char text[NUMBER_TEXT_MAX];
    if (lookup->record && record_is_paged(lookup->record)) {
        *pages = string_pages_of(call, lookup);
        return true;
    }
    if (!string_pages_begin_new(call, key, pages)) return false;
    pages->keeps_expiry = true;
    if (!lookup->record) return true;
    enum page_status status = paged_bytes_write(pages->bytes, &pages->access, 0, string_bytes(lookup->record, text));
    return status == PAGE_DONE || string_pages_end(call, key, lookup, pages, status);
}

bool string_pages_end(struct call *call, const struct key *key, struct lookup *lookup, struct string_pages *pages,
                      enum page_status status) {
    if (status == PAGE_DONE && pages->is_new &&
        !keyspace_store_collection(&call->view, key, lookup, &pages->bytes->collection, pages->keeps_expiry))
        status = PAGE_NO_MEMORY;
    if (status == PAGE_DONE) {
        if (!pages->is_new) keyspace_collection_changed(&call->view, key);
        return true;
    }
    if (pages->is_new) keyspace_discard_collection(&call->view, &pages->bytes->collection);
    if (status == PAGE_NO_MEMORY) call_no_memory(call);
    return false;
}
