/* Sets: SPOP and SRANDMEMBER. What is drawn is decided in one place each, before anything is changed. SPOP's effect is
 * the removal of what was drawn. */

#include "command/call_random.h"
#include "command/effect_chunks.h"
#include "command/random_count.h"
#include "command/set_handlers.h"

struct draw {
    struct reply *reply;
    size_t count;
};

static void reply_drawn(void *ctx, struct span member) {
    struct draw *draw = ctx;
    reply_bulk(draw->reply, member);
    draw->count++;
}

/* ---- SPOP ---- */

struct pop {
    struct draw draw;
    struct effect_chunks effect;
};

static void reply_popped(void *ctx, struct span member) {
    struct pop *pop = ctx;
    reply_drawn(&pop->draw, member);
    effect_chunks_put(&pop->effect, member);
}

/* Some of those drawn are members still, it is not known which: behind what was told all members are told. */
static void tell_left(struct call *call, struct set_value *set) {
    struct effect_chunks effect = {.call = call, .name = "SADD", .key = call->keys[0].name};
    struct set_walk walk;
    struct set_member member;
    if (!call_has_effects(call) || !set_value_exists(set)) return;
    set_value_walk(&walk, set);
    while (set_value_walk_next(&walk, &member)) effect_chunks_put(&effect, member.text);
    effect_chunks_end(&effect);
}

static void tell_popped(struct call *call, const struct set_value *set) {
    call_notify(call, NOTIFY_SET, "spop", &call->keys[0]);
    if (!set_value_exists(set)) call_notify(call, NOTIFY_GENERIC, "del", &call->keys[0]);
}

/* All of them: the key goes, with whatever it leads to. */
static void pop_all(struct call *call, struct set_value *set, struct draw *draw) {
    struct set_walk walk;
    struct set_member member;
    set_value_walk(&walk, set);
    while (set_value_walk_next(&walk, &member)) reply_drawn(draw, member.text);
    if (set->access.missing) return;
    keyspace_remove(&call->view, &call->keys[0], &set->lookup);
    call_effect_of(call, "DEL", call->keys[0].name);
    call_notify(call, NOTIFY_SET, "spop", &call->keys[0]);
    call_notify(call, NOTIFY_GENERIC, "del", &call->keys[0]);
}

static void pop_some(struct call *call, struct set_value *set, uint64_t want, struct reply_mark mark) {
    struct random random;
    struct pop pop = {.draw = {.reply = call->reply},
                      .effect = {.call = call, .name = "SREM", .key = call->keys[0].name}};
    uint64_t count = set_value_count(set);
    call_seed_random(call, &random);
    enum page_status status = set_value_pop(set, &random, want, reply_popped, &pop);
    effect_chunks_end(&pop.effect);
    if (status == PAGE_DONE || (status == PAGE_NO_MEMORY && pop.draw.count)) tell_popped(call, set);
    if (status != PAGE_NO_MEMORY) return;
    if (set_value_count(set) == count)
        call_effect_none(call);
    else
        tell_left(call, set);
    reply_rewind(call->reply, mark);
    call_no_memory(call);
}

void command_spop(struct call *call) {
    struct set_value set;
    struct draw draw = {.reply = call->reply};
    struct reply_mark mark = reply_mark(call->reply);
    int64_t want = 1;
    if (call->argc > 3) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (call->argc == 3 &&
        !call_integer_within(call, 2, 0, INT64_MAX, "ERR value is out of range, must be positive", &want))
        return;
    if (!set_open(call, &set, 0, SET_FOR_WRITE)) return;
    uint64_t count = set_value_count(&set);
    if (call->argc == 3)
        reply_set(call->reply, (uint64_t)want < count ? (uint64_t)want : count);
    else if (!count)
        reply_null(call->reply);
    if (!count || !want) return;
    if ((uint64_t)want >= count)
        pop_all(call, &set, &draw);
    else
        pop_some(call, &set, (uint64_t)want, mark);
}

/* ---- SRANDMEMBER ---- */

static void draw_members(struct call *call, struct set_value *set, const struct random_count *count) {
    struct random random;
    struct set_member member;
    struct draw draw = {.reply = call->reply};
    struct reply_mark mark = reply_mark(call->reply);
    struct reply_aggregate aggregate = reply_begin(call->reply);
    enum page_status status = PAGE_DONE;
    call_seed_random(call, &random);
    if (!count->repeats) status = set_value_sample(set, &random, count->want, reply_drawn, &draw);
    for (uint64_t i = 0; count->repeats && i < count->want; i++)
        if (set_value_random(set, &random, &member) == PAGE_DONE) reply_drawn(&draw, member.text);
    if (status == PAGE_NO_MEMORY) {
        reply_rewind(call->reply, mark);
        call_no_memory(call);
        return;
    }
    reply_end(call->reply, aggregate, '*', draw.count);
}

static void draw_one(struct call *call) {
    struct set_value set;
    struct set_member member;
    struct random random;
    if (!set_open(call, &set, 0, SET_FOR_READ)) return;
    call_seed_random(call, &random);
    if (set_value_exists(&set) && set_value_random(&set, &random, &member) == PAGE_DONE)
        reply_bulk(call->reply, member.text);
    else
        reply_null(call->reply);
}

void command_srandmember(struct call *call) {
    struct random_count count;
    struct set_value set;
    if (call->argc == 2) {
        draw_one(call);
        return;
    }
    if (call->argc > 3) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (!random_count_parse(call, 2, &count) || !set_open(call, &set, 0, SET_FOR_READ)) return;
    if (!set_value_exists(&set) || count.want == 0)
        reply_array(call->reply, 0);
    else if (!count.repeats || random_count_allow(call, count.want, 16))
        draw_members(call, &set, &count);
}
