/* SORT and SORT_RO: the elements of a list, set or sorted set in order, or what they lead to.
 *
 * The keys that patterns of BY and GET lead to are not known before the elements are read. So a SORT with such patterns
 * runs with all shards locked (sort_reaches(), the row's `reaches`), any other with those of its one or two keys.
 *
 * What a client can observe follows Redis: options are read first, then the key is looked at, then weights are
 * converted, and only when all of them are numbers something is replied or stored. BY with a pattern that has no '*'
 * means not to sort at all; then a list or sorted set keeps its order, which DESC turns round, and LIMIT reads no more
 * than it replies. A set has no order: when it is stored unsorted it is sorted by its texts after all.
 *
 * The effect of STORE is what was stored: items of a set that weigh the same come in any order, and a field that GET
 * leads to may have expired without anybody having removed it. */

#include "command/effect_chunks.h"
#include "command/families.h"
#include "command/sort_items.h"

#include <assert.h>
#include <stdlib.h>

struct sort_request {
    struct sort_order order;
    int64_t offset, count; /* LIMIT; count negative: no limit */
    uint32_t by, store;    /* arguments; 0: not given */
    uint32_t gets;         /* how many GETs there are */
    bool reaches;          /* patterns lead to other keys */
};

/* ---- options ---- */

enum sort_option {
    SORT_ASC,
    SORT_DESC,
    SORT_ALPHA,
    SORT_LIMIT,
    SORT_BY,
    SORT_GET,
    SORT_STORE,
    SORT_OPTIONS,
};
static const struct {
    const char *word;
    uint32_t values; /* arguments behind the word */
} option_words[SORT_OPTIONS] = {
    [SORT_ASC] = {"asc", 0}, [SORT_DESC] = {"desc", 0}, [SORT_ALPHA] = {"alpha", 0}, [SORT_LIMIT] = {"limit", 2},
    [SORT_BY] = {"by", 1},   [SORT_GET] = {"get", 1},   [SORT_STORE] = {"store", 1},
};

/* The option at argument `index`; SORT_OPTIONS: there is none that is complete. */
static enum sort_option option_at(const struct span *argv, uint32_t argc, uint32_t index) {
    for (unsigned i = 0; i < SORT_OPTIONS; i++)
        if (span_is_word(argv[index], option_words[i].word) && argc - index > option_words[i].values)
            return (enum sort_option)i;
    return SORT_OPTIONS;
}

static bool leads_elsewhere(struct span pattern) {
    return sort_pattern_parse(pattern).names_key;
}

/* Whether patterns lead to keys that are not among the arguments: for `reaches` of the rows. */
static bool sort_reaches(const struct span *argv, uint32_t argc) {
    for (uint32_t i = 2; i < argc;) {
        enum sort_option option = option_at(argv, argc, i);
        if (option == SORT_OPTIONS) return false;
        if ((option == SORT_BY || option == SORT_GET) && leads_elsewhere(argv[i + 1])) return true;
        i += 1 + option_words[option].values;
    }
    return false;
}

/* The last STORE counts: for `find` of the key specification. */
static uint32_t sort_find_target(const struct span *argv, uint32_t argc) {
    uint32_t target = 0;
    for (uint32_t i = 2; i < argc;) {
        enum sort_option option = option_at(argv, argc, i);
        if (option == SORT_OPTIONS) return 0;
        if (option == SORT_STORE) target = i + 1;
        i += 1 + option_words[option].values;
    }
    return target;
}

/* False: the error is composed. */
static bool take_option(struct call *call, enum sort_option option, uint32_t index, struct sort_request *request) {
    switch (option) {
    case SORT_ASC: request->order.descending = false; return true;
    case SORT_DESC: request->order.descending = true; return true;
    case SORT_ALPHA: request->order.alpha = true; return true;
    case SORT_LIMIT:
        return call_integer(call, index + 1, &request->offset) && call_integer(call, index + 2, &request->count);
    case SORT_BY:
        request->by = index + 1;
        if (!leads_elsewhere(call->argv[index + 1])) request->order.sorts = false;
        return true;
    case SORT_GET: request->gets++; return true;
    default: request->store = index + 1; return true;
    }
}

/* False: the error is composed. */
static bool parse(struct call *call, bool may_store, struct sort_request *request) {
    *request = (struct sort_request){.order = {.sorts = true}, .count = -1};
    for (uint32_t i = 2; i < call->argc;) {
        enum sort_option option = option_at(call->argv, call->argc, i);
        if (option == SORT_OPTIONS || (option == SORT_STORE && !may_store)) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!take_option(call, option, i, request)) return false;
        i += 1 + option_words[option].values;
    }
    if (request->by) {
        request->order.by_weight = true;
        request->order.weight = sort_pattern_parse(call->argv[request->by]);
    }
    request->reaches = sort_reaches(call->argv, call->argc);
    return true;
}

/* ---- a run ---- */

struct sort_run {
    struct call *call;
    struct sort_request request;
    struct sort_items items;
    struct sort_lookup lookup;
    struct sort_pattern *gets;
    uint64_t first, wanted; /* of the items */
};

/* What LIMIT leaves of `count` elements. */
static void limit(struct sort_run *run, uint64_t count) {
    int64_t all = (int64_t)count, first = run->request.offset, most = run->request.count;
    if (first < 0) first = 0;
    if (first > all) first = all;
    if (most < 0 || most > all - first) most = all - first;
    run->first = (uint64_t)first;
    run->wanted = (uint64_t)most;
}

static bool parse_gets(struct sort_run *run) {
    struct call *call = run->call;
    uint32_t count = 0;
    if (run->request.gets == 0) return true;
    run->gets = malloc(run->request.gets * sizeof(*run->gets));
    if (!run->gets) return false;
    for (uint32_t i = 2; i < call->argc;) {
        enum sort_option option = option_at(call->argv, call->argc, i);
        if (option == SORT_GET) run->gets[count++] = sort_pattern_parse(call->argv[i + 1]);
        i += 1 + option_words[option].values;
    }
    return true;
}

/* True: the items that are wanted stand at `first`. */
static bool load(struct sort_run *run, struct sort_source *source) {
    struct sort_order *order = &run->request.order;
    run->items.copies_all = run->request.store != 0;
    if (order->sorts) return sort_items_load(&run->items, source, order, 0, source->count);
    if (source->type == RECORD_SET) return sort_items_load(&run->items, source, order, 0, run->first + run->wanted);
    bool loaded = sort_items_load(&run->items, source, order, run->first, run->wanted);
    run->first = 0;
    return loaded;
}

static void reply_items(struct sort_run *run) {
    struct reply *reply = run->call->reply;
    uint32_t gets = run->request.gets;
    reply_array(reply, run->wanted * (gets ? gets : 1));
    for (uint64_t i = run->first; i < run->first + run->wanted; i++) {
        struct span element = run->items.items[i].element, value;
        if (gets == 0) reply_bulk(reply, element);
        for (uint32_t g = 0; g < gets; g++) {
            if (sort_lookup(&run->lookup, &run->gets[g], element, &value))
                reply_bulk(reply, value);
            else
                reply_null(reply);
        }
    }
}

/* ---- STORE ---- */

/* What is to be stored, copied; where a pattern leads nowhere it is empty. NULL: no memory. */
static struct span *gather(struct sort_run *run, uint64_t count) {
    uint32_t gets = run->request.gets;
    struct span *values = malloc(count * sizeof(*values)), *at = values;
    if (!values) return NULL;
    for (uint64_t i = run->first; i < run->first + run->wanted; i++) {
        struct span element = run->items.items[i].element, value;
        if (gets == 0) *at++ = element;
        for (uint32_t g = 0; g < gets; g++) {
            bool found = sort_lookup(&run->lookup, &run->gets[g], element, &value);
            *at++ = found ? sort_items_keep(&run->items, value) : SPAN_LITERAL("");
        }
    }
    if (!run->items.no_memory && !run->lookup.no_memory) return values;
    free(values);
    return NULL;
}

static void tell_stored(struct call *call, const struct key *key, bool was_there, const struct span *values,
                        uint64_t count) {
    struct effect_chunks chunks = {.call = call, .name = "RPUSH", .key = key->name};
    if (!call_has_effects(call)) return;
    if (was_there) call_effect_of(call, "DEL", key->name);
    for (uint64_t i = 0; i < count; i++) effect_chunks_put(&chunks, values[i]);
    effect_chunks_end(&chunks);
}

/* The key's value, whatever it was, becomes a list of these. */
static void store_values(struct call *call, const struct key *key, const struct span *values, uint64_t count) {
    struct list_value list;
    struct lookup lookup = keyspace_find_for_write(&call->view, key);
    bool was_there = lookup.record != NULL;
    if (!view_begin_change(&call->view)) return;
    if (was_there) keyspace_remove(&call->view, key, &lookup);
    if (count == 0) {
        tell_stored(call, key, was_there, values, 0);
        if (was_there) call_notify(call, NOTIFY_GENERIC, "del", key);
        reply_integer(call->reply, 0);
        return;
    }
    struct list_limits limits = list_limits_of(call->view.keyspace->limits.list_packed_size);
    bool opened = list_value_open(&list, &call->view, key, LIST_FOR_WRITE);
    assert(opened);
    if (list_value_push(&list, LIST_LAST, values, count, &limits) != PAGE_DONE) {
        tell_stored(call, key, was_there, values, list_value_length(&list));
        call_no_memory(call);
        return;
    }
    tell_stored(call, key, was_there, values, count);
    call_notify(call, NOTIFY_LIST, "sortstore", key);
    reply_integer(call->reply, (int64_t)count);
}

static void store(struct sort_run *run) {
    struct call *call = run->call;
    uint64_t count = run->wanted * (run->request.gets ? run->request.gets : 1);
    const struct key *key = &call->keys[call->key_count - 1];
    struct span *values = NULL;
    assert(call->key_count == 2 && span_equal(key->name, call->argv[run->request.store]));
    if (count) {
        values = gather(run, count);
        if (!values) {
            call_no_memory(call);
            return;
        }
    }
    store_values(call, key, values, count);
    free(values);
}

/* ---- the commands ---- */

static void carry_out(struct sort_run *run, struct sort_source *source) {
    struct call *call = run->call;
    struct sort_order *order = &run->request.order;
    if (!order->sorts && source->type == RECORD_SET && run->request.store) {
        order->sorts = order->alpha = true;
        order->by_weight = false;
    }
    limit(run, source->count);
    if (!parse_gets(run)) {
        call_no_memory(call);
        return;
    }
    if (!load(run, source)) {
        if (run->items.no_memory) call_no_memory(call);
        return;
    }
    if (order->sorts && !sort_items_weigh(&run->items, order, &run->lookup)) {
        reply_error(call->reply, "ERR One or more scores can't be converted into double");
        return;
    }
    if (run->items.no_memory || run->lookup.no_memory) {
        call_no_memory(call);
        return;
    }
    sort_items_order(&run->items, order);
    if (run->request.store)
        store(run);
    else
        reply_items(run);
}

static void sort(struct call *call, bool may_store) {
    struct sort_run run = {.call = call, .lookup = {.call = call}};
    struct sort_source source;
    if (!parse(call, may_store, &run.request)) return;
    assert(!run.request.reaches || call->view.locked_all || !call->view.keyspace->locking);
    if (!sort_source_open(&source, &call->view, &call->keys[0])) {
        reply_error(call->reply, ERROR_WRONG_TYPE);
        return;
    }
    carry_out(&run, &source);
    sort_items_free(&run.items);
    sort_lookup_free(&run.lookup);
    free(run.gets);
}

static void command_sort(struct call *call) {
    sort(call, true);
}
static void command_sort_ro(struct call *call) {
    sort(call, false);
}

#define SORTED_CATEGORIES (CATEGORY_SET | CATEGORY_SORTED_SET | CATEGORY_LIST | CATEGORY_DANGEROUS)
#define COMPLEXITY                                                                                                     \
    "O(N+M*log(M)) where N is the number of elements and M the number of those replied; O(N) where nothing is sorted"
#define ARGUMENTS                                                                                                      \
    "key:k [BY by-pattern:p1] [LIMIT offset_count{offset:i count:i}] [GET get-pattern:p1...*] [order(ASC|DESC)] "      \
    "[sorting=ALPHA]"
#define PATTERN_KEYS                                                                                                   \
    { .flags = KEY_RO | KEY_ACCESS, .unknown = true, .notes = "BY and GET: the keys follow from the elements" }

const struct command_spec sort_commands[] = {
    {.name = "sort",
     .handler = command_sort,
     .arity = -2,
     .flags = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_MOVABLE_KEYS,
     .categories = SORTED_CATEGORIES,
     .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS),
              PATTERN_KEYS,
              {.flags = KEY_OW | KEY_UPDATE,
               .unknown = true,
               .find = sort_find_target,
               .notes = "STORE may stand anywhere"}},
     .reaches = sort_reaches,
     .group = "generic",
     .since = "1.0.0",
     .summary = "The elements of a list, set or sorted set in order, replied or stored",
     .complexity = COMPLEXITY,
     .arguments = ARGUMENTS " [STORE destination:k2]"},
    {.name = "sort_ro",
     .handler = command_sort_ro,
     .arity = -2,
     .flags = COMMAND_READONLY | COMMAND_MOVABLE_KEYS,
     .categories = SORTED_CATEGORIES,
     .keys = {KEY_AT(1, KEY_RO | KEY_ACCESS), PATTERN_KEYS},
     .reaches = sort_reaches,
     .group = "generic",
     .since = "7.0.0",
     .summary = "The elements of a list, set or sorted set in order",
     .complexity = COMPLEXITY,
     .arguments = ARGUMENTS},
};
const unsigned sort_command_count = sizeof(sort_commands) / sizeof(sort_commands[0]);
