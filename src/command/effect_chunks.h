#ifndef TERRACE_COMMAND_EFFECT_CHUNKS_H
#define TERRACE_COMMAND_EFFECT_CHUNKS_H

/* An effect of any number of words, told as several commands of bounded length, so that nobody who runs it again needs
 * much memory or time for one of them:
 *
 *   struct effect_chunks chunks = {.call = call, .name = "SREM", .key = call->keys[0].name};
 *   for (...) effect_chunks_put(&chunks, member);
 *   effect_chunks_end(&chunks);
 *
 * Nothing is told where nothing was put. Words are copied at once. No other effect may be told between the first word
 * and the end. See effect.h. */

#include "command/effect.h"

enum { EFFECT_CHUNK_WORDS = 1024 }; /* even: pairs stay together */

struct effect_chunks {
    struct call *call;
    const char *name;
    struct span key;
    uint32_t words; /* in the present command, behind the key */
};

static inline void effect_chunks_end(struct effect_chunks *chunks) {
    if (chunks->words) effect_end(chunks->call);
    chunks->words = 0;
}

static inline void effect_chunks_put(struct effect_chunks *chunks, struct span word) {
    if (!call_has_effects(chunks->call)) return;
    if (chunks->words == EFFECT_CHUNK_WORDS) effect_chunks_end(chunks);
    if (chunks->words == 0) {
        effect_begin(chunks->call);
        effect_put_text(chunks->call, chunks->name);
        effect_put(chunks->call, chunks->key);
    }
    effect_put(chunks->call, word);
    chunks->words++;
}

/* "NAME key milliseconds": PEXPIREAT. */
static inline void call_effect_expiry(struct call *call, struct span key, int64_t expiry_ms) {
    effect_begin(call);
    effect_put_text(call, "PEXPIREAT");
    effect_put(call, key);
    effect_put_integer(call, expiry_ms);
    effect_end(call);
}

/* A command that did only the first of what it was to do, and failed then: its words up to there. `words`: how many
 * those are; `least`: with so few it did nothing. */
static inline void call_effect_part(struct call *call, uint32_t words, uint32_t least) {
    if (words > least)
        call_effect(call, call->argv, words);
    else
        call_effect_none(call);
}

#endif
