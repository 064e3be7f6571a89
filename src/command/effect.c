/* Composing effects: commands of RESP, in the buffer of the worker's sink. See effect.h.
 *
 * How many words an effect has is known when it ends. Its head, "*3\r\n", is therefore made room for with four bytes,
 * and what follows is moved in the rare case that it takes more. */

#include "command/effect.h"

#include "base/number.h"
#include "command/effect_bytes.h"
#include "command/effect_sink.h"

#include <assert.h>

static void tell(struct effect_sink *sink) {
    assert(!sink->composing);
    if (sink->told == EFFECT_TOLD) return;
    sink->told = EFFECT_TOLD;
    sink->length = sink->mark;
    sink->count = sink->mark_count;
    sink->database = sink->mark_database;
}

void effects_add(struct call *call, const struct span *argv, uint32_t argc) {
    struct effect_sink *sink = call->effects;
    tell(sink);
    effect_bytes_select(sink, call->view.database);
    effect_bytes_add(sink, argv, argc);
}

void effects_begin(struct call *call) {
    struct effect_sink *sink = call->effects;
    tell(sink);
    effect_bytes_select(sink, call->view.database);
    sink->composing = true;
    sink->words = 0;
    sink->head = sink->length;
    (void)effect_bytes_room(sink, EFFECT_HEAD_BYTES);
    sink->length += EFFECT_HEAD_BYTES;
}

void effects_put(struct call *call, struct span word) {
    struct effect_sink *sink = call->effects;
    assert(sink->composing);
    char *to = effect_bytes_room(sink, EFFECT_NUMBER_BYTES + word.length);
    sink->length += (size_t)(effect_bytes_word(to, word) - to);
    sink->words++;
}

void effects_put_integer(struct call *call, int64_t value) {
    char text[NUMBER_TEXT_MAX];
    effects_put(call, span_of(text, number_format_i64(value, text)));
}

void effects_end(struct call *call) {
    struct effect_sink *sink = call->effects;
    char head[EFFECT_NUMBER_BYTES];
    assert(sink->composing && sink->words > 0);
    size_t length = (size_t)(effect_bytes_number(head, '*', sink->words) - head);
    (void)effect_bytes_room(sink, EFFECT_NUMBER_BYTES);
    char *at = sink->bytes + sink->head, *body = at + EFFECT_HEAD_BYTES;
    if (length != EFFECT_HEAD_BYTES) memmove(at + length, body, sink->length - sink->head - EFFECT_HEAD_BYTES);
    memcpy(at, head, length);
    sink->length += length - EFFECT_HEAD_BYTES;
    sink->composing = false;
    sink->count++;
}

void effects_none(struct call *call) {
    struct effect_sink *sink = call->effects;
    assert(!sink->composing);
    sink->told = EFFECT_NONE;
}

void effects_force(struct call *call) {
    struct effect_sink *sink = call->effects;
    assert(!sink->composing);
    sink->told = EFFECT_FORCED;
}
