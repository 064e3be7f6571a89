/* Values and times of fields in one command: HGETEX, HSETEX, HGETDEL. The order in which arguments are looked at, and
 * with it which error comes first, differs from command to command as it does in Redis: HSETEX reads all of them before
 * it looks at the key. */

#include "command/expiry_argument.h"
#include "command/hash_handlers.h"

/* Replies with the value of the field. PAGE_DONE, PAGE_ABSENT or PAGE_MISSING. */
static enum page_status reply_value(struct call *call, struct hash_value *hash, struct span field) {
    struct hash_entry entry;
    enum page_status status = hash_value_exists(hash) ? hash_value_get(hash, field, &entry) : PAGE_ABSENT;
    if (status == PAGE_DONE)
        reply_bulk(call->reply, entry.value);
    else
        reply_null(call->reply);
    return status;
}

/* ---- HGETDEL ---- */

void command_hgetdel(struct call *call) {
    struct hash_value hash;
    struct hash_fields fields;
    if (!hash_open_to_write(call, &hash) || !hash_parse_fields(call, 2, HASH_ERROR_FIELD_COUNT, &fields) ||
        !hash_touch_fields(call, &hash, fields.first, 1, 0))
        return;
    struct reply_mark mark = reply_mark(call->reply);
    struct effect_chunks deletions = {.call = call, .name = "HDEL", .key = call->keys[0].name};
    bool deleted = false;
    call_effect_none(call); /* but for what is told from here on */
    reply_array(call->reply, fields.count);
    for (uint32_t i = 0; i < fields.count; i++) {
        struct span field = call->argv[fields.first + i];
        enum page_status status = reply_value(call, &hash, field);
        if (status == PAGE_DONE) status = hash_value_delete(&hash, field);
        deleted |= status == PAGE_DONE;
        if (status == PAGE_DONE) effect_chunks_put(&deletions, field);
        if (status != PAGE_NO_MEMORY) continue;
        reply_rewind(call->reply, mark);
        call_no_memory(call);
        break;
    }
    effect_chunks_end(&deletions);
    if (!deleted) return;
    call_notify(call, NOTIFY_HASH, "hdel", &call->keys[0]);
    hash_tell_removed(call, &hash);
}

/* ---- HGETEX ---- */

struct getex {
    bool expires, persists;
    int64_t expiry_ms;
    struct hash_fields fields;
};

static bool parse_getex(struct call *call, struct getex *getex) {
    struct expiry_form form;
    uint32_t at = 2;
    *getex = (struct getex){.persists = call_is(call, 2, "persist")};
    if (expiry_form_parse(call->argv[2], &form)) {
        getex->expires = true;
        if (!hash_parse_expiry(call, 3, form, &getex->expiry_ms)) return false;
        at = 4;
    } else if (getex->persists) {
        at = 3;
    }
    return hash_parse_fields(call, at, HASH_ERROR_FIELD_COUNT, &getex->fields);
}

static enum page_status change_time(struct call *call, struct hash_value *hash, const struct getex *getex,
                                    struct span field, enum hash_expiry_result *result) {
    struct hash_entry entry;
    *result = HASH_EXPIRY_UNMET;
    if (getex->expires) return hash_expire_field(call, hash, field, getex->expiry_ms, result);
    enum page_status status = hash_value_get(hash, field, &entry);
    if (status != PAGE_DONE || entry.expiry_ms == HASH_EXPIRY_NONE) return status;
    *result = HASH_EXPIRY_SET;
    return hash_value_set_expiry(hash, field, HASH_EXPIRY_NONE);
}

void command_hgetex(struct call *call) {
    struct hash_value hash;
    struct getex getex;
    if (!hash_open_to_write(call, &hash) || !parse_getex(call, &getex) ||
        !hash_touch_fields(call, &hash, getex.fields.first, 1, getex.expires ? getex.fields.count : 0))
        return;
    struct reply_mark mark = reply_mark(call->reply);
    struct hash_changes changes;
    hash_changes_begin(&changes, call, getex.expires ? getex.expiry_ms : HASH_EXPIRY_NONE);
    if (getex.persists) changes.effect.name = "HPERSIST";
    reply_array(call->reply, getex.fields.count);
    for (uint32_t i = 0; i < getex.fields.count; i++) {
        struct span field = call->argv[getex.fields.first + i];
        enum hash_expiry_result result = HASH_EXPIRY_UNMET;
        enum page_status status = reply_value(call, &hash, field);
        if (status == PAGE_DONE && (getex.expires || getex.persists))
            status = change_time(call, &hash, &getex, field, &result);
        if (status == PAGE_NO_MEMORY) {
            reply_rewind(call->reply, mark);
            call_no_memory(call);
            break;
        }
        if (status == PAGE_DONE) hash_changes_add(&changes, field, result);
    }
    hash_changes_end(&changes);
    bool deleted = changes.deleted, updated = changes.updated;
    if (updated || deleted)
        call_notify(call, NOTIFY_HASH, deleted ? "hdel" : getex.persists ? "hpersist" : "hexpire", &call->keys[0]);
    if (deleted) hash_tell_removed(call, &hash);
}

/* ---- HSETEX ---- */

struct setex {
    bool only_new, only_existing;
    bool expires, keeps;
    int64_t expiry_ms;
    struct hash_fields pairs; /* the first field's argument, and how many fields */
};

static bool refuse(struct call *call, const char *error) {
    reply_error(call->reply, error);
    return false;
}

static bool refuse_arity(struct call *call) {
    reply_error_format(call->reply, "ERR wrong number of arguments for '%s' command", call->command->full_name);
    return false;
}

static bool parse_pairs(struct call *call, uint32_t at, struct setex *setex) {
    int64_t count;
    if (at + 3 >= call->argc) return refuse_arity(call);
    if (!call_integer_within(call, at + 1, 1, INT32_MAX, "ERR invalid number of fields", &count)) return false;
    uint32_t left = call->argc - at - 2;
    if (left % 2 || count != left / 2) return refuse_arity(call);
    setex->pairs = (struct hash_fields){at + 2, left / 2};
    return true;
}

static bool parse_setex(struct call *call, struct setex *setex) {
    *setex = (struct setex){0};
    for (uint32_t i = 2; i < call->argc; i++) {
        struct expiry_form form;
        bool timed = expiry_form_parse(call->argv[i], &form), keeps = call_is(call, i, "keepttl");
        if (call_is(call, i, "fields")) return parse_pairs(call, i, setex);
        if (timed || keeps) {
            if (setex->expires || setex->keeps)
                return refuse(call, "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified");
            setex->expires = timed;
            setex->keeps = keeps;
            if (timed && i + 1 >= call->argc) return refuse(call, "ERR missing expire time");
            if (timed && !hash_parse_expiry(call, ++i, form, &setex->expiry_ms)) return false;
        } else if (call_is(call, i, "fxx") || call_is(call, i, "fnx")) {
            if (setex->only_new || setex->only_existing)
                return refuse(call, "ERR Only one of FXX or FNX arguments can be specified");
            setex->only_existing = call_is(call, i, "fxx");
            setex->only_new = !setex->only_existing;
        } else {
            int length = (int)(call->argv[i].length < 1024 ? call->argv[i].length : 1024);
            reply_error_format(call->reply, "ERR unknown argument: %.*s", length, call->argv[i].data);
            return false;
        }
    }
    return refuse_arity(call);
}

/* Whether FNX or FXX lets the command go on. Looks at all fields, also once it knows: a field not at hand might have
 * said otherwise. */
static bool condition_holds(const struct call *call, struct hash_value *hash, const struct setex *setex) {
    struct hash_entry entry;
    bool holds = true;
    if (!setex->only_new && !setex->only_existing) return true;
    for (uint32_t i = 0; i < setex->pairs.count; i++) {
        struct span field = call->argv[setex->pairs.first + 2 * i];
        bool exists = hash_value_exists(hash) && hash_value_get(hash, field, &entry) == PAGE_DONE;
        holds = holds && exists == setex->only_existing;
    }
    return holds;
}

/* A time that has passed: the fields are there for no moment. */
static enum page_status delete_pairs(struct call *call, struct hash_value *hash, const struct setex *setex,
                                     bool *deleted) {
    struct effect_chunks deletions = {.call = call, .name = "HDEL", .key = call->keys[0].name};
    enum page_status status = PAGE_DONE;
    *deleted = true;
    for (uint32_t i = 0; i < setex->pairs.count && hash_value_exists(hash); i++) {
        struct span field = call->argv[setex->pairs.first + 2 * i];
        status = hash_value_delete(hash, field);
        if (status == PAGE_DONE) effect_chunks_put(&deletions, field);
        if (status == PAGE_NO_MEMORY || status == PAGE_MISSING) break;
    }
    effect_chunks_end(&deletions);
    return status == PAGE_ABSENT ? PAGE_DONE : status;
}

/* KEEPTTL: each is told by itself, since one that has expired keeps nothing. */
static enum page_status set_pairs_keeping(struct call *call, struct hash_value *hash, const struct setex *setex) {
    const struct span *pair = call->argv + setex->pairs.first;
    enum page_status status = PAGE_DONE;
    for (uint32_t i = 0; i < setex->pairs.count && status == PAGE_DONE; i++, pair += 2) {
        struct hash_entry entry;
        bool timed = call_has_effects(call) && hash_value_exists(hash) &&
                     hash_value_get(hash, pair[0], &entry) == PAGE_DONE && entry.expiry_ms != HASH_EXPIRY_NONE;
        status = hash_value_set(hash, pair[0], pair[1], HASH_EXPIRY_KEEP, NULL);
        if (status == PAGE_DONE) (timed ? hash_effect_set_keeping : hash_effect_set)(call, pair[0], pair[1]);
    }
    return status;
}

/* All pairs were set, with the same time or none. */
static void tell_pairs(struct call *call, const struct setex *setex) {
    effect_begin(call);
    effect_put_text(call, setex->expires ? "HSETEX" : "HSET");
    effect_put(call, call->keys[0].name);
    if (setex->expires) {
        effect_put_text(call, "PXAT");
        effect_put_integer(call, setex->expiry_ms);
        effect_put_text(call, "FIELDS");
        effect_put_integer(call, setex->pairs.count);
    }
    for (uint32_t i = 0; i < 2 * setex->pairs.count; i++) effect_put(call, call->argv[setex->pairs.first + i]);
    effect_end(call);
}

static enum page_status set_pairs(struct call *call, struct hash_value *hash, const struct setex *setex) {
    const struct span *pairs = call->argv + setex->pairs.first;
    uint32_t count = setex->pairs.count;
    uint64_t added;
    if (setex->keeps) return set_pairs_keeping(call, hash, setex);
    enum page_status status = PAGE_DONE;
    if (!setex->expires) status = hash_value_set_pairs(hash, pairs, count, &added);
    for (uint32_t i = 0; setex->expires && i < count && status == PAGE_DONE; i++)
        status = hash_value_set(hash, pairs[2 * i], pairs[2 * i + 1], setex->expiry_ms, NULL);
    if (status == PAGE_DONE)
        tell_pairs(call, setex);
    else
        hash_effect_pairs_there(call, hash, pairs, count, setex->expires ? setex->expiry_ms : HASH_EXPIRY_NONE);
    return status;
}

void command_hsetex(struct call *call) {
    struct hash_value hash;
    struct setex setex;
    bool deleted = false;
    if (!parse_setex(call, &setex) || !hash_open_to_write(call, &hash)) return;
    if (!condition_holds(call, &hash, &setex)) {
        reply_integer(call->reply, 0);
        return;
    }
    if (!hash_touch_fields(call, &hash, setex.pairs.first, 2, setex.pairs.count)) return;
    call_effect_none(call); /* but for what is told from here on */
    bool passed = setex.expires && expiry_has_passed(call, setex.expiry_ms);
    enum page_status status = passed ? delete_pairs(call, &hash, &setex, &deleted) : set_pairs(call, &hash, &setex);
    if (status != PAGE_DONE) {
        if (status == PAGE_NO_MEMORY) call_no_memory(call);
        return;
    }
    call_notify(call, NOTIFY_HASH, "hset", &call->keys[0]);
    if (setex.expires) call_notify(call, NOTIFY_HASH, deleted ? "hdel" : "hexpire", &call->keys[0]);
    if (deleted) hash_tell_removed(call, &hash);
    reply_integer(call->reply, 1);
}
