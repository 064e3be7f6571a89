/* What the handlers of the sorted set family share: opening, scores, results that grow. */

#include "base/number.h"
#include "command/effect.h"
#include "command/sorted_set_handlers.h"

enum { RESULT_FIRST = 64, TEXTS_BYTES = 4000 };

/* Copied members, in blocks that do not move. */
struct result_texts {
    struct result_texts *next;
    size_t used;
    char bytes[TEXTS_BYTES];
};

bool sorted_set_expect(struct call *call, const struct key *key, enum sorted_set_purpose purpose,
                       struct sorted_set *set) {
    if (__builtin_expect(sorted_set_open(set, &call->view, key, purpose), 1)) return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

bool sorted_set_parse_score(struct span text, double *score) {
    int64_t integer;
    if (text.length > NUMBER_TEXT_MAX || !number_parse_i64(text, &integer)) return number_parse_double(text, score);
    *score = (double)integer;
    return true;
}

void sorted_set_tell_removed_ranks(struct call *call, const struct key *key, struct sorted_set_part part,
                                   uint64_t removed) {
    if (!removed) {
        call_effect_none(call);
        return;
    }
    effect_begin(call);
    effect_put_text(call, "ZREMRANGEBYRANK");
    effect_put(call, key->name);
    effect_put_integer(call, (int64_t)part.first);
    effect_put_integer(call, (int64_t)(part.first + removed - 1));
    effect_end(call);
}

static char *room_for_text(struct sorted_set_result *result, size_t length) {
    struct result_texts *texts = result->texts;
    if (!texts || TEXTS_BYTES - texts->used < length) {
        texts = malloc(sizeof(*texts));
        if (!texts) return NULL;
        texts->next = result->texts;
        texts->used = 0;
        result->texts = texts;
    }
    char *room = texts->bytes + texts->used;
    texts->used += length;
    return room;
}

bool sorted_set_result_add(struct sorted_set_result *result, struct span member, double score, const char *room) {
    result->no_memory = true;
    if (result->count == result->capacity) {
        uint64_t capacity = result->capacity ? 2 * result->capacity : RESULT_FIRST;
        struct scored_member *members = realloc(result->members, capacity * sizeof(*members));
        if (!members) return false;
        result->members = members;
        result->capacity = capacity;
    }
    if (room && member.data == room) {
        char *copy = room_for_text(result, member.length);
        if (!copy) return false;
        memcpy(copy, member.data, member.length);
        member.data = copy;
    }
    result->members[result->count++] = (struct scored_member){score, member};
    result->no_memory = false;
    return true;
}

void sorted_set_result_sort(struct sorted_set_result *result) {
    if (result->count > 1) qsort(result->members, result->count, sizeof(*result->members), scored_member_compare);
}

void sorted_set_result_free(struct sorted_set_result *result) {
    while (result->texts) {
        struct result_texts *next = result->texts->next;
        free(result->texts);
        result->texts = next;
    }
    free(result->members);
    result->members = NULL;
    result->count = result->capacity = 0;
}

void sorted_set_result_store(struct call *call, const struct key *key, const struct sorted_set_result *result,
                             const char *event) {
    enum page_status status =
        result->no_memory ? PAGE_NO_MEMORY : sorted_set_store(&call->view, key, result->members, result->count);
    if (status != PAGE_DONE && status != PAGE_ABSENT) {
        call_no_memory(call);
        return;
    }
    if (status == PAGE_DONE)
        call_notify(call, result->count ? NOTIFY_SORTED_SET : NOTIFY_GENERIC, result->count ? event : "del", key);
    reply_integer(call->reply, (int64_t)result->count);
}
