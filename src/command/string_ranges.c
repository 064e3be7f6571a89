/* Strings: parts of values. Positions and lengths come from clients as any 64-bit number and are brought into the
 * value, or refused, before they are used. APPEND and SETRANGE change the value where it lies and keep the key's
 * expiry; a long one becomes pages when it is changed, so that each change touches its own pages only. */

#include "command/string_handlers.h"
#include "command/string_value.h"

/* Puts `part` at `offset`; the value grows to hold it. False: no memory, and the error is composed; or pages are
 * missing. */
static bool put(struct call *call, const struct key *key, struct lookup *lookup, size_t offset, struct span part) {
    size_t end = offset + part.length, length = lookup->record ? string_length(lookup->record) : 0;
    if (string_edits_pages(lookup, end)) {
        struct string_pages pages;
        return string_pages_begin(call, key, lookup, &pages) &&
               string_pages_end(call, key, lookup, &pages, paged_bytes_write(pages.bytes, &pages.access, offset, part));
    }
    char *bytes = string_edit(call, key, lookup, end > length ? end : length);
    if (bytes) memcpy(bytes + offset, part.data, part.length);
    return bytes != NULL;
}

void command_append(struct call *call) {
    const struct key *key = &call->keys[0];
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    struct span added = call->argv[2];
    if (!string_expect(call, &lookup)) return;
    size_t length = lookup.record ? string_length(lookup.record) : 0;
    if (lookup.record && !string_expect_length(call, length, added.length)) return;
    if (!lookup.record && added.length <= STRING_PAGED_BYTES) {
        if (!string_store(call, key, &lookup, added, RECORD_EXPIRY_NONE)) return;
    } else if (!put(call, key, &lookup, length, added)) {
        return;
    }
    call_notify(call, NOTIFY_STRING, "append", key);
    reply_integer(call->reply, (int64_t)(length + added.length));
}

/* Brings positions, counted from the end when negative and both included, into a value. False: nothing is left. */
static bool cut(int64_t length, int64_t *first, int64_t *last) {
    if (*first < 0 && *last < 0 && *first > *last) return false;
    if (*first < 0) *first += length;
    if (*last < 0) *last += length;
    if (*first < 0) *first = 0;
    if (*last < 0) *last = 0;
    if (*last >= length) *last = length - 1;
    return *first <= *last;
}

void command_getrange(struct call *call) {
    int64_t first, last;
    char text[NUMBER_TEXT_MAX];
    if (!call_integer(call, 2, &first) || !call_integer(call, 3, &last)) return;
    struct lookup lookup = keyspace_read(&call->view, &call->keys[0]);
    if (!string_expect(call, &lookup)) return;
    if (!lookup.record || !cut((int64_t)string_length(lookup.record), &first, &last)) {
        reply_bulk(call->reply, span_of("", 0));
        return;
    }
    size_t length = (size_t)(last - first + 1);
    if (record_is_paged(lookup.record))
        string_reply_pages(call, &lookup, (uint64_t)first, length);
    else
        reply_bulk(call->reply, span_of(string_bytes(lookup.record, text).data + first, length));
}

void command_setrange(struct call *call) {
    const struct key *key = &call->keys[0];
    struct span part = call->argv[3];
    int64_t offset;
    if (!call_integer(call, 2, &offset)) return;
    if (offset < 0) {
        reply_error(call->reply, "ERR offset is out of range");
        return;
    }
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    if (!string_expect(call, &lookup)) return;
    size_t length = lookup.record ? string_length(lookup.record) : 0;
    if (part.length > 0) {
        if (!string_expect_length(call, (uint64_t)offset, part.length)) return;
        size_t end = (size_t)offset + part.length;
        if (!put(call, key, &lookup, (size_t)offset, part)) return;
        if (end > length) length = end;
        call_notify(call, NOTIFY_STRING, "setrange", key);
    }
    reply_integer(call->reply, (int64_t)length);
}
