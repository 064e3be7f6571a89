/* Bitmaps: BITOP, which combines strings and stores the result.
 *
 * A short result is made in one stretch. One that is longer than STRING_PAGED_BYTES is made of pages, one after the
 * other, in a value that gets its key when it is complete: so a source may also be the destination, and what is zero in
 * the result costs no page. Only pages that exist are read. */

#include "command/bitmap_handlers.h"
#include "command/bitmap_value.h"

#include <stdlib.h>

/* The values to combine. One allocation; the caller frees it. */
struct bit_sources {
    size_t count, longest;
    struct span *values; /* scratch */
    struct bitmap maps[];
};

/* (Re-)reads the values of the source keys, which have been found to be strings or absent. */
static void open_sources(const struct call *call, struct bit_sources *sources) {
    sources->longest = 0;
    for (size_t i = 0; i < sources->count; i++) {
        struct lookup lookup = keyspace_find(&call->view, &call->keys[1 + i]);
        bitmap_open(&sources->maps[i], call, &lookup);
        if (sources->maps[i].length > sources->longest) sources->longest = sources->maps[i].length;
    }
}

static bool expect_sources(struct call *call, size_t count) {
    bool at_hand = true;
    for (size_t i = 0; i < count; i++) {
        struct lookup lookup = keyspace_read(&call->view, &call->keys[1 + i]);
        if (!string_expect(call, &lookup)) return false;
        if (!string_touch(call, &lookup)) at_hand = false;
    }
    return at_hand;
}

/* ---- results in one stretch ---- */

static bool is_own_source(const struct call *call, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (span_equal(call->keys[0].name, call->keys[1 + i].name)) return true;
    return false;
}

static void combine(enum bits_operation operation, const struct bit_sources *sources, uint8_t *result) {
    for (size_t i = 0; i < sources->count; i++) sources->values[i] = sources->maps[i].bytes;
    bits_combine(operation, result, sources->longest, sources->values, sources->count);
}

/* The destination is one of the sources: the result is made beside it. */
static bool combine_beside(struct call *call, enum bits_operation operation, const struct bit_sources *sources,
                           struct lookup *destination) {
    uint8_t result[STRING_PAGED_BYTES];
    combine(operation, sources, result);
    return string_store_raw(call, &call->keys[0], destination, span_of(result, sources->longest), RECORD_EXPIRY_NONE,
                            true);
}

/* The result is made in the destination's record. Making room for it may move the sources, so they are found again. */
static bool combine_in_place(struct call *call, enum bits_operation operation, struct bit_sources *sources,
                             struct lookup *destination) {
    struct span room = span_of(NULL, sources->longest);
    if (!string_store_raw(call, &call->keys[0], destination, room, RECORD_EXPIRY_NONE, true)) return false;
    open_sources(call, sources);
    combine(operation, sources, (uint8_t *)(uintptr_t)record_value(destination->record).data);
    return true;
}

/* ---- results in pages ---- */

/* What the source has from `offset` on, as far as a page goes; nothing: all zeros. */
static struct span piece_of(struct bitmap *map, uint64_t offset) {
    const struct span nothing = {NULL, 0};
    struct paged_bytes_walk walk;
    struct paged_bytes_piece piece;
    if (offset >= map->length) return nothing;
    if (!map->is_paged) {
        size_t rest = map->length - offset;
        return span_of(map->bytes.data + offset, rest < PAGED_BYTES_PAGE ? rest : PAGED_BYTES_PAGE);
    }
    paged_bytes_walk_range(&walk, map->pages.bytes, &map->pages.access, offset, PAGED_BYTES_PAGE);
    return paged_bytes_walk_next(&walk, &piece) && piece.data ? span_of(piece.data, piece.length) : nothing;
}

/* A page of the result. False: it is all zeros, and nothing was written. */
static bool combine_page(enum bits_operation operation, struct bit_sources *sources, uint64_t offset, uint8_t *page,
                         size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < sources->count; i++) {
        struct span piece = piece_of(&sources->maps[i], offset);
        if (piece.length || operation == BITS_NOT)
            sources->values[count++] = piece;
        else if (operation == BITS_AND)
            return false;
    }
    if (!count) return false;
    bits_combine(operation, page, length, sources->values, count);
    return true;
}

static enum page_status fill_pages(enum bits_operation operation, struct bit_sources *sources,
                                   struct string_pages *result) {
    enum page_status status = PAGE_DONE;
    uint8_t page[PAGED_BYTES_PAGE];
    for (uint64_t offset = 0; offset < sources->longest && status == PAGE_DONE; offset += PAGED_BYTES_PAGE) {
        uint64_t rest = sources->longest - offset;
        size_t length = rest < PAGED_BYTES_PAGE ? rest : PAGED_BYTES_PAGE;
        if (combine_page(operation, sources, offset, page, length))
            status = paged_bytes_write(result->bytes, &result->access, offset, span_of(page, length));
    }
    for (size_t i = 0; i < sources->count; i++)
        if (bitmap_misses(&sources->maps[i])) status = PAGE_MISSING;
    if (status != PAGE_DONE) return status;
    return paged_bytes_set_length(result->bytes, &result->access, sources->longest);
}

/* What leaves no page out is refused as a whole, before others are evicted for a part of it. */
static bool may_fill(enum bits_operation operation, const struct bit_sources *sources,
                     const struct string_pages *result) {
    return operation != BITS_NOT || region_pool_may_take(result->access.heap->pool, sources->longest);
}

static bool combine_in_pages(struct call *call, enum bits_operation operation, struct bit_sources *sources,
                             struct lookup *destination) {
    struct string_pages result;
    if (!string_pages_begin_new(call, &call->keys[0], &result)) return false;
    enum page_status status =
        may_fill(operation, sources, &result) ? fill_pages(operation, sources, &result) : PAGE_NO_MEMORY;
    return string_pages_end(call, &call->keys[0], destination, &result, status);
}

/* ---- the command ---- */

static bool parse_operation(struct call *call, enum bits_operation *operation) {
    if (call_is(call, 1, "and")) {
        *operation = BITS_AND;
    } else if (call_is(call, 1, "or")) {
        *operation = BITS_OR;
    } else if (call_is(call, 1, "xor")) {
        *operation = BITS_XOR;
    } else if (call_is(call, 1, "not")) {
        *operation = BITS_NOT;
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    if (*operation != BITS_NOT || call->argc == 4) return true;
    reply_error(call->reply, "ERR BITOP NOT must be called with a single source key.");
    return false;
}

static bool store_result(struct call *call, enum bits_operation operation, struct bit_sources *sources,
                         struct lookup *destination) {
    if (sources->longest > STRING_PAGED_BYTES) return combine_in_pages(call, operation, sources, destination);
    if (is_own_source(call, sources->count)) return combine_beside(call, operation, sources, destination);
    return combine_in_place(call, operation, sources, destination);
}

void command_bitop(struct call *call) {
    enum bits_operation operation;
    const struct key *key = &call->keys[0];
    size_t count = call->key_count - 1;
    if (!parse_operation(call, &operation) || !expect_sources(call, count)) return;
    struct bit_sources *sources = malloc(sizeof(*sources) + count * (sizeof(struct bitmap) + sizeof(struct span)));
    if (!sources) {
        call_no_memory(call);
        return;
    }
    sources->count = count;
    sources->values = (void *)&sources->maps[count];
    open_sources(call, sources);
    struct lookup destination = keyspace_find_for_write(&call->view, key);
    bool existed = destination.record;
    if (sources->longest > 0) {
        if (store_result(call, operation, sources, &destination)) {
            call_notify(call, NOTIFY_STRING, "set", key);
            reply_integer(call->reply, (int64_t)sources->longest);
        }
    } else {
        if (existed) keyspace_remove(&call->view, key, &destination);
        if (existed) call_notify(call, NOTIFY_GENERIC, "del", key);
        reply_integer(call->reply, 0);
    }
    free(sources);
}
