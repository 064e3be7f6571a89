/* What commands on hashes tell as their effects, where that is not their own words. See hash_handlers.h and effect.h.
 */

#include "command/hash_handlers.h"

void hash_effect_end(struct hash_effect *effect) {
    struct call *call = effect->call;
    if (!effect->count) return;
    effect_begin(call);
    effect_put_text(call, effect->name);
    effect_put(call, call->keys[0].name);
    if (effect->expiry_ms != HASH_EXPIRY_NONE) effect_put_integer(call, effect->expiry_ms);
    effect_put_text(call, "FIELDS");
    effect_put_integer(call, effect->count);
    for (uint32_t i = 0; i < effect->count; i++) effect_put(call, effect->fields[i]);
    effect_end(call);
    effect->count = 0;
}

void hash_effect_add(struct hash_effect *effect, struct span field) {
    if (!call_has_effects(effect->call)) return;
    if (effect->count == HASH_EFFECT_FIELDS) hash_effect_end(effect);
    effect->fields[effect->count++] = field;
}

void hash_effect_set(struct call *call, struct span field, struct span value) {
    const struct span words[] = {SPAN_LITERAL("HSET"), call->keys[0].name, field, value};
    call_effect(call, words, 4);
}

/* The same with options: `option` and `at_ms`, or `option` alone if that is negative. */
static void tell_hsetex(struct call *call, const char *option, int64_t at_ms, struct span field, struct span value) {
    effect_begin(call);
    effect_put_text(call, "HSETEX");
    effect_put(call, call->keys[0].name);
    effect_put_text(call, option);
    if (at_ms >= 0) effect_put_integer(call, at_ms);
    effect_put_text(call, "FIELDS");
    effect_put_integer(call, 1);
    effect_put(call, field);
    effect_put(call, value);
    effect_end(call);
}

void hash_effect_set_keeping(struct call *call, struct span field, struct span value) {
    tell_hsetex(call, "KEEPTTL", -1, field, value);
}

void hash_effect_pairs_there(struct call *call, struct hash_value *hash, const struct span *pairs, uint32_t count,
                             int64_t expiry_ms) {
    if (!call_has_effects(call)) return;
    for (uint32_t i = 0; i < count; i++) {
        struct hash_entry entry;
        struct span field = pairs[2 * i], value = pairs[2 * i + 1];
        if (!hash_value_exists(hash) || hash_value_get(hash, field, &entry) != PAGE_DONE) continue;
        if (!span_equal(entry.value, value) || entry.expiry_ms != expiry_ms) continue;
        if (expiry_ms == HASH_EXPIRY_NONE)
            hash_effect_set(call, field, value);
        else
            tell_hsetex(call, "PXAT", expiry_ms, field, value);
    }
}

/* A time has passed for all fields or for none: the two kinds do not mix. */
void hash_changes_begin(struct hash_changes *changes, struct call *call, int64_t expiry_ms) {
    call_effect_none(call); /* but for what is told from here on */
    changes->updated = changes->deleted = false;
    hash_effect_begin(&changes->effect, call, "HPEXPIREAT", expiry_ms);
    changes->deletions = (struct effect_chunks){.call = call, .name = "HDEL", .key = call->keys[0].name};
}

void hash_changes_add(struct hash_changes *changes, struct span field, enum hash_expiry_result result) {
    if (result == HASH_EXPIRY_SET) hash_effect_add(&changes->effect, field);
    if (result == HASH_EXPIRY_DELETED) effect_chunks_put(&changes->deletions, field);
    changes->updated |= result == HASH_EXPIRY_SET;
    changes->deleted |= result == HASH_EXPIRY_DELETED;
}

void hash_changes_end(struct hash_changes *changes) {
    effect_chunks_end(&changes->deletions);
    hash_effect_end(&changes->effect);
}
