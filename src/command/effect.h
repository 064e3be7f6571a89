#ifndef TERRACE_COMMAND_EFFECT_H
#define TERRACE_COMMAND_EFFECT_H

/* Effects: what a command did, told as commands that do the same again whenever and wherever they are run. They go
 * into the journal (persist/journal.h), from there to the append-only file and to replicas.
 *
 * By default the effect of a command is its own words, if it changed something. A handler whose words would do
 * something else later (relative times, random choices, floats, blocking forms, "*" as an ID) tells its effect
 * instead, with one or several of
 *
 *     call_effect(call, argv, argc);                      the words at hand as spans
 *     call_effect_of(call, "DEL", key);                   a name and one word
 *     effect_begin(call);                                 word by word
 *     effect_put_text(call, "PEXPIREAT"); effect_put(call, key); effect_put_integer(call, at_ms);
 *     effect_end(call);
 *
 * Several become one MULTI ... EXEC. Or it says call_effect_none(): what changed is not worth telling; or
 * call_effect_force(): its own words although nothing changed. Whatever was told stands also if the command fails or
 * blocks afterwards, and also if no key changed; it is dropped if the command turns out to wait for cold records
 * (call->waits) or to be unfinished, as it then is run again.
 *
 * An effect is told in the database of the call. Keys that are removed by expiry or eviction, and fields that expire,
 * are told by the keyspace itself, as DEL and HDEL, in front of the command that met them; effects need not provide.
 * When effects are run again no key and no field expires, and nobody is blocked or served.
 *
 * All of it costs a branch where nobody wants effects. Only a command's own handler may call these, while it runs. The
 * words are copied at once. */

#include "command/command.h"

/* Somebody wants effects: composing them is not in vain. */
static inline bool call_has_effects(const struct call *call) {
    return __builtin_expect(call->effects != NULL, 0);
}

void effects_add(struct call *call, const struct span *argv, uint32_t argc);
void effects_begin(struct call *call);
void effects_put(struct call *call, struct span word);
void effects_end(struct call *call);
void effects_put_integer(struct call *call, int64_t value);
void effects_none(struct call *call);
void effects_force(struct call *call);

static inline void call_effect(struct call *call, const struct span *argv, uint32_t argc) {
    if (call_has_effects(call)) effects_add(call, argv, argc);
}
static inline void call_effect_none(struct call *call) {
    if (call_has_effects(call)) effects_none(call);
}
static inline void call_effect_force(struct call *call) {
    if (call_has_effects(call)) effects_force(call);
}

/* Word by word. effect_begin() must be followed by effect_end(), with at least one word between, before the handler
 * returns. */
static inline void effect_begin(struct call *call) {
    if (call_has_effects(call)) effects_begin(call);
}
static inline void effect_put(struct call *call, struct span word) {
    if (call_has_effects(call)) effects_put(call, word);
}
static inline void effect_put_text(struct call *call, const char *word) {
    if (call_has_effects(call)) effects_put(call, span_of_text(word));
}
static inline void effect_put_integer(struct call *call, int64_t value) {
    if (call_has_effects(call)) effects_put_integer(call, value);
}
static inline void effect_end(struct call *call) {
    if (call_has_effects(call)) effects_end(call);
}

static inline void call_effect_of(struct call *call, const char *name, struct span word) {
    if (call_has_effects(call)) effects_add(call, (const struct span[2]){span_of_text(name), word}, 2);
}

#endif
