/* Strings: SET with its options, the older commands that are special cases of it, and GETEX.
 *
 * SET without options takes a path of its own: find, store, OK. Everything else is a set_request, filled in by a parser
 * or by hand, and carried out by store_as_requested() in the order that clients can observe:
 *
 *   parse the options -> parse the expiry time -> reply the old value -> condition -> store
 *
 * The old value is copied into the reply, not pinned: when the store then finds no memory, the reply is taken back and
 * replaced by an error, which a pin would not survive under the shard's lock.
 *
 * The effects are told without what has been decided already: conditions, GET, and times that count from now. */

#include "command/effect_chunks.h"
#include "command/expiry_argument.h"
#include "command/string_handlers.h"
#include "command/string_value.h"

enum set_condition { SET_ALWAYS, SET_IF_ABSENT, SET_IF_PRESENT, SET_IF_EQUAL };

struct set_request {
    struct span value;
    enum set_condition condition;
    struct span expected; /* SET_IF_EQUAL: the value the key has to have */
    bool replies_old;
    bool keeps_expiry;
    uint32_t expiry_index; /* the argument that holds the time; 0: none */
    struct expiry_form expiry_form;
};

/* ---- storing ---- */

/* Replies with the value the key has, copied. False: it is no string, and the error is composed; or pages are missing.
 */
static bool reply_old(struct call *call, const struct lookup *lookup) {
    char text[NUMBER_TEXT_MAX];
    if (!string_expect(call, lookup) || !string_touch(call, lookup)) return false;
    if (!lookup->record)
        reply_null(call->reply);
    else if (record_is_paged(lookup->record))
        string_reply_pages(call, lookup, 0, string_length(lookup->record));
    else
        reply_bulk(call->reply, string_bytes(lookup->record, text));
    return true;
}

/* Also false where pages are missing that it takes to know; then the command is run again. */
static bool condition_holds(const struct call *call, const struct set_request *request, const struct lookup *lookup) {
    switch (request->condition) {
    case SET_ALWAYS: return true;
    case SET_IF_ABSENT: return !lookup->record;
    case SET_IF_PRESENT: return lookup->record;
    case SET_IF_EQUAL: return lookup->record && string_equals(call, lookup, request->expected);
    }
    return false;
}

static void tell_set(struct call *call, const struct set_request *request, int64_t expiry_ms) {
    effect_begin(call);
    effect_put_text(call, "SET");
    effect_put(call, call->keys[0].name);
    effect_put(call, request->value);
    if (request->keeps_expiry) effect_put_text(call, "KEEPTTL");
    if (request->expiry_index) {
        effect_put_text(call, "PXAT");
        effect_put_integer(call, expiry_ms);
    }
    effect_end(call);
}

static void store_as_requested(struct call *call, const struct set_request *request) {
    const struct key *key = &call->keys[0];
    int64_t expiry_ms = RECORD_EXPIRY_NONE;
    if (request->expiry_index &&
        !expiry_argument_parse(call, request->expiry_index, request->expiry_form, EXPIRY_POSITIVE, &expiry_ms))
        return;
    struct reply_mark mark = reply_mark(call->reply);
    struct lookup lookup =
        request->replies_old ? keyspace_read(&call->view, key) : keyspace_find_for_write(&call->view, key);
    if (request->replies_old && !reply_old(call, &lookup)) return;
    if (request->condition == SET_IF_EQUAL && !string_expect(call, &lookup)) return;
    if (!condition_holds(call, request, &lookup)) {
        if (!request->replies_old) reply_null(call->reply);
        return;
    }
    if (request->keeps_expiry && lookup.record) expiry_ms = record_expiry(lookup.record);
    if (string_store(call, key, &lookup, request->value, expiry_ms)) {
        tell_set(call, request, expiry_ms);
        call_notify(call, NOTIFY_STRING, "set", key);
        if (request->expiry_index) call_notify(call, NOTIFY_GENERIC, "expire", key);
        if (!request->replies_old) reply_ok(call->reply);
    } else if (request->replies_old) {
        reply_rewind(call->reply, mark);
        call_no_memory(call);
    }
}

/* ---- options ---- */

/* What the options of SET and GETEX have said so far. */
struct option_state {
    struct set_request *request;
    bool persists;
    bool reads; /* these are GETEX's options */
};

/* Conditions exclude one another. */
static bool may_ask(const struct set_request *request, enum set_condition condition) {
    return request->condition == SET_ALWAYS || request->condition == condition;
}

/* Takes the option at argument `index`, and the time behind it. Returns how many arguments it took; 0: a syntax error.
 * An option may be repeated; of several times the last one counts. */
static uint32_t take_option(const struct call *call, uint32_t index, struct option_state *state) {
    struct set_request *request = state->request;
    struct expiry_form form;
    bool names_expiry = expiry_form_parse(call->argv[index], &form);
    if (names_expiry) {
        bool other_form = request->expiry_index && (form.milliseconds != request->expiry_form.milliseconds ||
                                                    form.absolute != request->expiry_form.absolute);
        if (request->keeps_expiry || state->persists || other_form || index + 1 >= call->argc) return 0;
        request->expiry_index = index + 1;
        request->expiry_form = form;
        return 2;
    }
    if (state->reads) {
        if (!call_is(call, index, "persist") || request->expiry_index) return 0;
        state->persists = true;
    } else if (call_is(call, index, "nx") && may_ask(request, SET_IF_ABSENT)) {
        request->condition = SET_IF_ABSENT;
    } else if (call_is(call, index, "xx") && may_ask(request, SET_IF_PRESENT)) {
        request->condition = SET_IF_PRESENT;
    } else if (call_is(call, index, "ifeq") && may_ask(request, SET_IF_EQUAL) && index + 1 < call->argc) {
        request->condition = SET_IF_EQUAL;
        request->expected = call->argv[index + 1];
        return 2;
    } else if (call_is(call, index, "get")) {
        request->replies_old = true;
    } else if (call_is(call, index, "keepttl") && !request->expiry_index) {
        request->keeps_expiry = true;
    } else {
        return 0;
    }
    return 1;
}

/* The options from argument `first` on. False: ERROR_SYNTAX is composed. */
static bool parse_options(struct call *call, uint32_t first, struct option_state *state) {
    for (uint32_t index = first; index < call->argc;) {
        uint32_t taken = take_option(call, index, state);
        if (taken == 0) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        index += taken;
    }
    return true;
}

/* ---- commands ---- */

void command_set(struct call *call) {
    if (__builtin_expect(call->argc == 3, 1)) {
        struct lookup lookup = string_find_to_replace(call, &call->keys[0]);
        if (!string_store(call, &call->keys[0], &lookup, call->argv[2], RECORD_EXPIRY_NONE)) return;
        call_notify(call, NOTIFY_STRING, "set", &call->keys[0]);
        reply_ok(call->reply);
        return;
    }
    struct set_request request = {.value = call->argv[2]};
    struct option_state state = {.request = &request};
    if (parse_options(call, 3, &state)) store_as_requested(call, &request);
}

void command_setnx(struct call *call) {
    struct lookup lookup = keyspace_find_for_write(&call->view, &call->keys[0]);
    if (lookup.record) {
        reply_integer(call->reply, 0);
    } else if (string_store(call, &call->keys[0], &lookup, call->argv[2], RECORD_EXPIRY_NONE)) {
        call_notify(call, NOTIFY_STRING, "set", &call->keys[0]);
        reply_integer(call->reply, 1);
    }
}

static void set_with_time(struct call *call, bool milliseconds) {
    const struct set_request request = {
        .value = call->argv[3], .expiry_index = 2, .expiry_form = {.milliseconds = milliseconds}};
    store_as_requested(call, &request);
}

void command_setex(struct call *call) {
    set_with_time(call, false);
}

void command_psetex(struct call *call) {
    set_with_time(call, true);
}

void command_getset(struct call *call) {
    const struct set_request request = {.value = call->argv[2], .replies_old = true};
    store_as_requested(call, &request);
}

/* The value is replied last, from the record as it then is; only a record that goes away is replied before. */
void command_getex(struct call *call) {
    const struct key *key = &call->keys[0];
    struct set_request request = {0};
    struct option_state state = {.request = &request, .reads = true};
    int64_t expiry_ms = RECORD_EXPIRY_NONE;
    if (!parse_options(call, 2, &state)) return;
    struct lookup lookup = keyspace_read(&call->view, key);
    if (!string_expect(call, &lookup)) return;
    if (!lookup.record) {
        reply_null(call->reply);
        return;
    }
    if (request.expiry_index &&
        !expiry_argument_parse(call, request.expiry_index, request.expiry_form, EXPIRY_POSITIVE, &expiry_ms))
        return;
    if (!string_touch(call, &lookup)) return;
    if (request.expiry_index && expiry_has_passed(call, expiry_ms)) {
        string_reply(call, key, &lookup);
        keyspace_remove(&call->view, key, &lookup);
        call_effect_of(call, "DEL", key->name);
        call_notify(call, NOTIFY_GENERIC, "del", key);
        return;
    }
    bool changes = request.expiry_index || (state.persists && record_has_expiry(lookup.record));
    if (changes && !keyspace_set_expiry(&call->view, key, &lookup, expiry_ms)) {
        call_no_memory(call);
        return;
    }
    if (changes && request.expiry_index)
        call_effect_expiry(call, key->name, expiry_ms);
    else if (changes)
        call_effect_of(call, "PERSIST", key->name);
    if (changes) call_notify(call, NOTIFY_GENERIC, request.expiry_index ? "expire" : "persist", key);
    string_reply(call, key, &lookup);
}
