/* Sorted sets: union, intersection, difference, replied, stored or counted. Sets take part as sorted sets in which
 * every score is 1.
 *
 *   sources are opened -> options -> members are gathered with their scores -> sorted -> replied or stored
 *
 * Scores are added up in the order of the sources' sizes, the smallest first, as Redis does it: with doubles the order
 * can be seen. Members stay where they are found; only a union of several keeps a table of them, to find those it has
 * met. Nothing is changed before the result is complete. */

#include "command/sorted_set_handlers.h"
#include "keyspace/key_hash.h"
#include "keyspace/set_value.h"

#include <math.h>

enum operation { OPERATION_UNION, OPERATION_INTER, OPERATION_DIFF };
enum aggregate { AGGREGATE_SUM, AGGREGATE_MIN, AGGREGATE_MAX };
enum { SOURCES_AT_HAND = 8 };

struct source {
    bool is_set;
    struct sorted_set sorted;
    struct set_value set;
    const struct key *key;
    double weight;
    uint64_t count;
    uint32_t order; /* as named */
};

struct combination {
    enum operation operation;
    enum aggregate aggregate;
    bool with_scores, only_counts, stores;
    uint64_t limit; /* of ZINTERCARD; 0: none */
    struct source *sources;
    uint32_t source_count;
    struct sorted_set_result result;
    uint32_t *table; /* of a union: 1 + place in the result, by hash; 0: free */
    uint64_t table_mask;
};

/* ---- sources ---- */

static bool open_source(struct call *call, const struct key *key, struct source *source) {
    source->key = key;
    source->weight = 1;
    source->is_set = false;
    if (sorted_set_open(&source->sorted, &call->view, key, SORTED_SET_FOR_READ)) {
        source->count = sorted_set_count(&source->sorted);
        return true;
    }
    source->is_set = true;
    if (set_value_open(&source->set, &call->view, key, SET_FOR_WRITE)) {
        source->count = set_value_count(&source->set);
        return true;
    }
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

/* One member after the other. */
struct walk {
    struct source *source;
    struct sorted_set_cursor sorted;
    struct set_walk set;
    struct set_member member;
    bool begun;
};

static bool walk_next(struct walk *walk, struct span *member, double *score, const char **room) {
    if (walk->source->is_set) {
        if (!walk->begun) set_value_walk(&walk->set, &walk->source->set);
        walk->begun = true;
        *score = 1;
        *room = walk->member.room;
        bool found = set_value_walk_next(&walk->set, &walk->member);
        *member = walk->member.text;
        return found;
    }
    do {
        if (walk->begun)
            sorted_set_next(&walk->sorted);
        else
            sorted_set_at(&walk->sorted, &walk->source->sorted, 0);
        walk->begun = true;
        if (!walk->sorted.valid) return false;
    } while (walk->sorted.missing);
    *member = walk->sorted.member;
    *score = walk->sorted.score;
    *room = walk->sorted.room;
    return true;
}

static bool find_in(struct source *source, struct span member, double *score) {
    *score = 1;
    if (source->is_set) return set_value_contains(&source->set, member) == PAGE_DONE;
    return sorted_set_score(&source->sorted, member, score) == PAGE_DONE;
}

/* The same value under the same key: whatever is in one is in the other. */
static bool same_value(const struct source *a, const struct source *b) {
    return a->key->hash == b->key->hash && span_equal(a->key->name, b->key->name);
}

static int compare_sources(const void *a, const void *b) {
    const struct source *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* ---- scores ---- */

static double weighted(const struct source *source, double score) {
    double product = source->weight * score;
    return isnan(product) ? 0 : product;
}

static double aggregated(enum aggregate aggregate, double a, double b) {
    if (aggregate == AGGREGATE_MIN) return b < a ? b : a;
    if (aggregate == AGGREGATE_MAX) return b > a ? b : a;
    return isnan(a + b) ? 0 : a + b;
}

/* ---- union ---- */

static bool make_table(struct combination *combination) {
    uint64_t most = 0, size = 64;
    for (uint32_t i = 0; i < combination->source_count; i++) most += combination->sources[i].count;
    while (size < 2 * most) size *= 2;
    combination->table_mask = size - 1;
    combination->table = most < UINT32_MAX ? calloc(size, sizeof(*combination->table)) : NULL;
    return combination->table != NULL;
}

static bool unite(struct combination *combination, uint64_t seed, struct span member, double score, const char *room) {
    struct sorted_set_result *result = &combination->result;
    uint64_t slot = key_hash(member, seed) & combination->table_mask;
    for (; combination->table[slot]; slot = (slot + 1) & combination->table_mask) {
        struct scored_member *other = &result->members[combination->table[slot] - 1];
        if (!span_equal(other->member, member)) continue;
        other->score = aggregated(combination->aggregate, other->score, score);
        return true;
    }
    if (!sorted_set_result_add(result, member, score, room)) return false;
    combination->table[slot] = (uint32_t)result->count;
    return true;
}

static void gather_union(struct call *call, struct combination *combination) {
    struct span member;
    double score;
    const char *room;
    bool alone = combination->source_count == 1;
    if (!alone && !make_table(combination)) {
        combination->result.no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < combination->source_count; i++) {
        struct walk walk = {.source = &combination->sources[i]};
        while (walk_next(&walk, &member, &score, &room)) {
            score = weighted(walk.source, score);
            if (!(alone ? sorted_set_result_add(&combination->result, member, score, room)
                        : unite(combination, call->view.keyspace->seed, member, score, room)))
                return;
        }
    }
}

/* ---- intersection and difference ---- */

static bool is_in_all(struct combination *combination, struct span member, double first, double *score) {
    for (uint32_t i = 1; i < combination->source_count; i++) {
        struct source *source = &combination->sources[i];
        double other = first;
        if (!same_value(source, &combination->sources[0]) && !find_in(source, member, &other)) return false;
        *score = aggregated(combination->aggregate, *score, other * source->weight);
    }
    return true;
}

static void gather_intersection(struct combination *combination) {
    struct walk walk = {.source = &combination->sources[0]};
    struct span member;
    double score;
    const char *room;
    while (walk_next(&walk, &member, &score, &room)) {
        double sum = weighted(walk.source, score);
        if (!is_in_all(combination, member, score, &sum)) continue;
        if (combination->only_counts) {
            if (++combination->result.count == combination->limit) return;
        } else if (!sorted_set_result_add(&combination->result, member, sum, room)) {
            return;
        }
    }
}

static void gather_difference(struct combination *combination) {
    struct walk walk = {.source = &combination->sources[0]};
    struct span member;
    double score, other;
    const char *room;
    for (uint32_t i = 1; i < combination->source_count; i++)
        if (same_value(&combination->sources[i], &combination->sources[0])) return;
    while (walk_next(&walk, &member, &score, &room)) {
        bool found = false;
        for (uint32_t i = 1; i < combination->source_count && !found; i++)
            found = combination->sources[i].count && find_in(&combination->sources[i], member, &other);
        if (!found && !sorted_set_result_add(&combination->result, member, score, room)) return;
    }
}

/* ---- arguments ---- */

static bool parse_weights(struct call *call, uint32_t first, struct combination *combination) {
    for (uint32_t i = 0; i < combination->source_count; i++)
        if (!sorted_set_parse_score(call->argv[first + i], &combination->sources[i].weight)) {
            reply_error(call->reply, "ERR weight value is not a float");
            return false;
        }
    return true;
}

static bool parse_aggregate(const struct call *call, uint32_t at, struct combination *combination) {
    if (call_is(call, at, "sum"))
        combination->aggregate = AGGREGATE_SUM;
    else if (call_is(call, at, "min"))
        combination->aggregate = AGGREGATE_MIN;
    else if (call_is(call, at, "max"))
        combination->aggregate = AGGREGATE_MAX;
    else
        return false;
    return true;
}

static bool parse_options(struct call *call, uint32_t at, struct combination *combination) {
    bool has_weights = combination->operation != OPERATION_DIFF && !combination->only_counts;
    while (at < call->argc) {
        uint32_t left = call->argc - at;
        if (has_weights && left > combination->source_count && call_is(call, at, "weights")) {
            if (!parse_weights(call, at + 1, combination)) return false;
            at += 1 + combination->source_count;
        } else if (has_weights && left > 1 && call_is(call, at, "aggregate") &&
                   parse_aggregate(call, at + 1, combination)) {
            at += 2;
        } else if (!combination->stores && !combination->only_counts && call_is(call, at, "withscores")) {
            combination->with_scores = true;
            at++;
        } else if (combination->only_counts && left > 1 && call_is(call, at, "limit")) {
            int64_t limit;
            if (!call_integer_within(call, at + 1, 0, INT64_MAX, "ERR LIMIT can't be negative", &limit)) return false;
            combination->limit = (uint64_t)limit;
            at += 2;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

static bool parse_source_count(struct call *call, uint32_t at, uint32_t *count) {
    int64_t number;
    if (!call_integer(call, at, &number)) return false;
    if (number < 1) {
        reply_error_format(call->reply, "ERR at least 1 input key is needed for '%s' command",
                           call->command->full_name);
        return false;
    }
    if (number > call->argc - at - 1) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    *count = (uint32_t)number;
    return true;
}

/* ---- commands ---- */

static void gather(struct call *call, struct combination *combination) {
    if (combination->operation == OPERATION_DIFF) {
        gather_difference(combination);
        return;
    }
    qsort(combination->sources, combination->source_count, sizeof(struct source), compare_sources);
    if (combination->operation == OPERATION_UNION)
        gather_union(call, combination);
    else
        gather_intersection(combination);
}

static void reply_result(struct call *call, const struct combination *combination, const char *event) {
    const struct sorted_set_result *result = &combination->result;
    if (combination->stores) {
        sorted_set_result_store(call, &call->keys[0], result, event);
    } else if (result->no_memory) {
        call_no_memory(call);
    } else if (combination->only_counts) {
        reply_integer(call->reply, (int64_t)result->count);
    } else {
        sorted_set_reply_header(call->reply, result->count, combination->with_scores);
        for (uint64_t i = 0; i < result->count; i++)
            sorted_set_reply_member(call->reply, result->members[i].member, result->members[i].score,
                                    combination->with_scores);
    }
}

static void combine_sources(struct call *call, struct combination *combination, const char *event) {
    const struct key *keys = call->keys + combination->stores;
    uint32_t first = combination->stores ? 3 : 2;
    for (uint32_t i = 0; i < combination->source_count; i++) {
        combination->sources[i].order = i;
        if (!open_source(call, &keys[i], &combination->sources[i])) return;
    }
    if (!parse_options(call, first + combination->source_count, combination)) return;
    gather(call, combination);
    if (!combination->only_counts && !combination->result.no_memory) sorted_set_result_sort(&combination->result);
    reply_result(call, combination, event);
    sorted_set_result_free(&combination->result);
    free(combination->table);
}

/* `event`: of a command that stores, else NULL. */
static void combine(struct call *call, enum operation operation, const char *event, bool only_counts) {
    struct combination combination = {.operation = operation, .stores = event != NULL, .only_counts = only_counts};
    struct source at_hand[SOURCES_AT_HAND];
    if (!parse_source_count(call, event ? 2 : 1, &combination.source_count)) return;
    bool many = combination.source_count > SOURCES_AT_HAND;
    combination.sources = many ? malloc(combination.source_count * sizeof(struct source)) : at_hand;
    if (combination.sources)
        combine_sources(call, &combination, event);
    else
        call_no_memory(call);
    if (many) free(combination.sources);
}

void command_zunion(struct call *call) {
    combine(call, OPERATION_UNION, NULL, false);
}
void command_zinter(struct call *call) {
    combine(call, OPERATION_INTER, NULL, false);
}
void command_zdiff(struct call *call) {
    combine(call, OPERATION_DIFF, NULL, false);
}
void command_zunionstore(struct call *call) {
    combine(call, OPERATION_UNION, "zunionstore", false);
}
void command_zinterstore(struct call *call) {
    combine(call, OPERATION_INTER, "zinterstore", false);
}
void command_zdiffstore(struct call *call) {
    combine(call, OPERATION_DIFF, "zdiffstore", false);
}
void command_zintercard(struct call *call) {
    combine(call, OPERATION_INTER, NULL, true);
}
