/* Entries in and out: XADD, XTRIM, XDEL, XLEN, XSETID, and XCFGSET, which sets up idempotent IDs.
 *
 * XADD and XTRIM have options in common, which parse_options() reads into an add_request in the order in which clients
 * can tell what was found wrong first.
 *
 * The effect of XADD has the ID that was chosen, and instead of how to trim the length that came of it. With an
 * idempotent ID it has both IDs, which only a journal may say; the message then counts as sent when its entry was
 * made. */

#include "command/effect_chunks.h"
#include "command/stream_argument.h"
#include "command/stream_effect.h"
#include "command/stream_handlers.h"

#define ERROR_TRIMMED_TWICE "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
#define ERROR_LIMIT_ALONE   "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
#define ERROR_LIMIT_EXACT   "ERR syntax error, LIMIT cannot be used without the special ~ option"

/* What approximate trimming takes away at most when nothing is said: a hundred nodes, within these bounds. */
enum { LIMIT_NODES = 100, LIMIT_DEFAULT = 10000, LIMIT_MAX = 1000000 };

struct add_request {
    struct stream_trim trim;
    bool limit_given;
    bool only_existing; /* NOMKSTREAM */
    bool id_given;
    bool open_sequence; /* "ms-*" */
    struct stream_id id;
    uint32_t id_index;       /* of the argument that is the ID or "*" */
    uint32_t producer_index; /* IDMP and IDMPAUTO: 0: neither */
    bool hashed;             /* IDMPAUTO */
};

/* ---- options ---- */

/* MAXLEN or MINID at `index`. Returns how many arguments it took; 0: the error is composed. */
static uint32_t take_strategy(struct call *call, uint32_t index, struct add_request *request) {
    struct stream_trim *trim = &request->trim;
    bool by_length = call_is(call, index, "maxlen");
    uint32_t at = index + 1;
    if (trim->strategy != STREAM_TRIM_NONE) {
        reply_error(call->reply, ERROR_TRIMMED_TWICE);
        return 0;
    }
    trim->approximate = false;
    if (at + 1 < call->argc && (call_is(call, at, "~") || call_is(call, at, "="))) {
        trim->approximate = call_is(call, at, "~");
        at++;
    }
    if (by_length) {
        int64_t length;
        if (!call_integer(call, at, &length)) return 0;
        if (length < 0) {
            reply_error(call->reply, "ERR The MAXLEN argument must be >= 0.");
            return 0;
        }
        trim->length = (uint64_t)length;
    } else if (!stream_argument_id(call, at, &trim->least)) {
        return 0;
    }
    trim->strategy = by_length ? STREAM_TRIM_LENGTH : STREAM_TRIM_ID;
    return at + 1 - index;
}

static uint32_t take_limit(struct call *call, uint32_t index, struct add_request *request) {
    int64_t limit;
    if (!call_integer(call, index + 1, &limit)) return 0;
    if (limit < 0) {
        reply_error(call->reply, "ERR The LIMIT argument must be >= 0.");
        return 0;
    }
    request->trim.limit = (uint64_t)limit;
    request->limit_given = true;
    return 2;
}

/* IDMP producer id, or IDMPAUTO producer. */
static uint32_t take_producer(struct call *call, uint32_t index, struct add_request *request) {
    bool hashed = call_is(call, index, "idmpauto");
    const char *error = NULL;
    if (request->producer_index)
        error = "ERR IDMP/IDMPAUTO specified multiple times";
    else if (call->argv[index + 1].length == 0)
        error = hashed ? "ERR IDMPAUTO requires a non-empty producer ID" : "ERR IDMP requires a non-empty producer ID";
    else if (!hashed && call->argv[index + 2].length == 0)
        error = "ERR IDMP requires a non-empty idempotent ID";
    if (error) {
        reply_error(call->reply, error);
        return 0;
    }
    request->producer_index = index + 1;
    request->hashed = hashed;
    return hashed ? 2 : 3;
}

/* An option at `index`; 0: the error is composed. With XADD it may be the ID, which is then in `request`. */
static uint32_t take_option(struct call *call, uint32_t index, bool adds, struct add_request *request) {
    uint32_t more = call->argc - 1 - index;
    if (more && (call_is(call, index, "maxlen") || call_is(call, index, "minid")))
        return take_strategy(call, index, request);
    if (more && call_is(call, index, "limit")) return take_limit(call, index, request);
    if (adds && call_is(call, index, "nomkstream")) {
        request->only_existing = true;
        return 1;
    }
    if (adds && more >= 2 && (call_is(call, index, "idmpauto") || (more >= 3 && call_is(call, index, "idmp"))))
        return take_producer(call, index, request);
    if (!adds) {
        reply_error(call->reply, ERROR_SYNTAX);
        return 0;
    }
    if (!stream_id_parse(call->argv[index], STREAM_ID_NEW, 0, &request->id, &request->open_sequence)) {
        reply_error(call->reply, ERROR_STREAM_ID);
        return 0;
    }
    request->id_given = true;
    request->id_index = index;
    return 1;
}

static bool check_options(struct call *call, bool adds, struct add_request *request) {
    const char *error = NULL;
    struct stream_trim *trim = &request->trim;
    if (trim->limit && trim->strategy == STREAM_TRIM_NONE)
        error = ERROR_LIMIT_ALONE;
    else if (!adds && trim->strategy == STREAM_TRIM_NONE)
        error = "ERR syntax error, XTRIM must be called with a trimming strategy";
    else if (request->limit_given && !trim->approximate)
        error = ERROR_LIMIT_EXACT;
    else if (request->producer_index && request->id_given && !call->view.replays)
        error = "ERR IDMP/IDMPAUTO can be used only with auto-generated IDs";
    if (error) reply_error(call->reply, error);
    if (trim->approximate) trim->node_entries = (uint64_t)call->view.keyspace->limits.stream_node_entries;
    if (!request->limit_given && trim->approximate) {
        uint64_t node = trim->node_entries;
        trim->limit = node == 0 ? LIMIT_DEFAULT : node < LIMIT_MAX / LIMIT_NODES ? LIMIT_NODES * node : LIMIT_MAX;
    }
    return !error;
}

/* False: the error is composed. */
static bool parse_options(struct call *call, bool adds, struct add_request *request) {
    for (uint32_t index = 2; index < call->argc && !request->id_index;) {
        if (adds && call->argv[index].length == 1 && call->argv[index].data[0] == '*') {
            request->id_index = index;
            break;
        }
        uint32_t taken = take_option(call, index, adds, request);
        if (!taken) return false;
        index += taken;
    }
    return check_options(call, adds, request);
}

/* ---- XADD ---- */

/* The ID of the new entry; false: none is above the last one, or the one asked for is not. */
static bool choose_id(const struct call *call, const struct stream_root *root, const struct add_request *request,
                      struct stream_id *id) {
    struct stream_id last = root->last;
    if (!request->id_given) {
        *id = (struct stream_id){(uint64_t)call->view.now_ms, 0};
        if (id->ms > last.ms) return true;
        *id = last;
        return stream_id_increment(id);
    }
    *id = request->id;
    if (request->open_sequence && id->ms == last.ms) {
        if (last.sequence == UINT64_MAX) return false;
        id->sequence = last.sequence + 1;
    }
    return stream_id_compare(*id, last) > 0;
}

/* How many entries went. What could not be read stays for the next time. */
static uint64_t trim_after(struct call *call, struct stream_value *stream, const struct stream_trim *trim) {
    uint64_t removed;
    (void)!stream_value_trim(stream, trim, &removed);
    if (removed) call_notify(call, NOTIFY_STREAM, "xtrim", stream->key);
    return removed;
}

static void put_length(struct call *call, const struct stream_value *stream) {
    effect_put_text(call, "MAXLEN");
    effect_put_text(call, "=");
    effect_put_integer(call, (int64_t)stream_value_length(stream));
}

static void tell_added(struct call *call, const struct stream_value *stream, const struct add_request *request,
                       struct stream_id id, bool trimmed) {
    bool as_said = request->id_given && !request->open_sequence && request->trim.strategy == STREAM_TRIM_NONE;
    if (!call_has_effects(call) || as_said) return;
    effect_begin(call);
    effect_put_text(call, "XADD");
    effect_put(call, stream->key->name);
    if (request->producer_index) {
        effect_put_text(call, request->hashed ? "IDMPAUTO" : "IDMP");
        effect_put(call, call->argv[request->producer_index]);
        if (!request->hashed) effect_put(call, call->argv[request->producer_index + 1]);
    }
    if (trimmed) put_length(call, stream);
    effect_put_id(call, id);
    for (uint32_t i = request->id_index + 1; i < call->argc; i++) effect_put(call, call->argv[i]);
    effect_end(call);
}

/* ---- idempotent IDs ---- */

enum news { NEWS, KNOWN, NEWS_FAILED };

static int64_t sent_ms(const struct call *call, const struct add_request *request) {
    return call->view.replays ? (int64_t)request->id.ms : call->view.now_ms;
}

/* Whether the message is known already: then `*entry` is its entry, else `*message` what to remember it by.
 * NEWS_FAILED: not now, or an error is composed. */
static enum news is_news(struct call *call, struct stream_value *stream, const struct add_request *request,
                         struct stream_message_id *message, struct stream_id *entry) {
    struct stream_root *root = stream->root;
    if (!page_begin_change(&stream->access)) return NEWS_FAILED;
    if (!root->producers)
        root->producers = stream_producers_make(call->view.keyspace->seed ^ ((uint64_t)call->view.random << 32 | 1));
    if (!root->producers) {
        call_no_memory(call);
        return NEWS_FAILED;
    }
    uint32_t at = request->id_index + 1;
    *message = request->hashed ? stream_message_hashed(root->producers, call->argv + at, (call->argc - at) / 2)
                               : stream_message_named(root->producers, call->argv[request->producer_index + 1]);
    return stream_producer_has(root->producers, call->argv[request->producer_index], *message, sent_ms(call, request),
                               entry)
               ? KNOWN
               : NEWS;
}

/* ---- XADD: the entry ---- */

/* Precondition: the stream is there. */
static void add_entry(struct call *call, struct stream_value *stream, const struct add_request *request) {
    struct stream_root *root = stream->root;
    struct stream_message_id message;
    struct stream_id id;
    bool remembers = request->producer_index != 0, had_producers = root->producers != NULL;
    if (root->last.ms == UINT64_MAX && root->last.sequence == UINT64_MAX) {
        reply_error(call->reply, "ERR The stream has exhausted the last possible ID, unable to add more items");
        return;
    }
    if (remembers) {
        enum news news = is_news(call, stream, request, &message, &id);
        if (news == KNOWN && !call->view.replays) stream_reply_id(call->reply, id);
        if (news == NEWS_FAILED || (news == KNOWN && !call->view.replays)) return;
        remembers = news == NEWS;
    }
    if (!choose_id(call, root, request, &id)) {
        reply_error(call->reply, "ERR The ID specified in XADD is equal or smaller than the target stream top item");
        return;
    }
    if (stream->access.source && request->trim.strategy != STREAM_TRIM_NONE)
        (void)paged_tree_touch(&root->entries, &stream->access, 0, 1);
    uint32_t at = request->id_index + 1;
    struct stream_fields fields = {call->argv + at, (call->argc - at) / 2};
    enum page_status status = stream_value_append(stream, id, fields);
    if (status != PAGE_DONE) {
        if (!had_producers) {
            stream_producers_free(root->producers);
            root->producers = NULL;
        }
        stream_reply_failure(call, status);
        return;
    }
    /* Without memory for it the message would be taken twice; the entry is there all the same. */
    if (remembers)
        (void)!stream_producer_add(root->producers, call->argv[request->producer_index], message,
                                   sent_ms(call, request), id);
    stream_reply_id(call->reply, id);
    call_notify(call, NOTIFY_STREAM, "xadd", stream->key);
    bool trimmed = request->trim.strategy != STREAM_TRIM_NONE && trim_after(call, stream, &request->trim);
    tell_added(call, stream, request, id, trimmed);
    stream_value_changed(stream);
}

void command_xadd(struct call *call) {
    struct add_request request = {.trim = {.strategy = STREAM_TRIM_NONE}};
    struct stream_value stream;
    if (!parse_options(call, true, &request)) return;
    uint32_t at = request.id_index ? request.id_index + 1 : call->argc;
    if (call->argc - at < 2 || (call->argc - at) % 2) {
        reply_error(call->reply, "ERR wrong number of arguments for 'xadd' command");
        return;
    }
    if (request.id_given && !request.open_sequence && stream_id_is_zero(request.id)) {
        reply_error(call->reply, "ERR The ID specified in XADD must be greater than 0-0");
        return;
    }
    if (!stream_open(call, &stream, STREAM_FOR_WRITE)) return;
    if (!stream.root && request.only_existing) {
        reply_null(call->reply);
        return;
    }
    bool creates = !stream.root;
    if (creates && !stream_value_create(&stream)) {
        call_no_memory(call);
        return;
    }
    add_entry(call, &stream, &request);
    if (!creates || stream.root->added) return;
    keyspace_remove(&call->view, stream.key, &stream.lookup);
    call_effect_none(call);
}

/* ---- XTRIM, XDEL, XLEN ---- */

static void tell_trimmed(struct call *call, const struct stream_value *stream) {
    effect_begin(call);
    effect_put_text(call, "XTRIM");
    effect_put(call, stream->key->name);
    put_length(call, stream);
    effect_end(call);
}

void command_xtrim(struct call *call) {
    struct add_request request = {.trim = {.strategy = STREAM_TRIM_NONE}};
    struct stream_value stream;
    uint64_t removed = 0;
    if (!parse_options(call, false, &request) || !stream_open(call, &stream, STREAM_FOR_WRITE)) return;
    if (stream.root) {
        enum page_status status = stream_value_trim(&stream, &request.trim, &removed);
        if (removed) {
            tell_trimmed(call, &stream);
            call_notify(call, NOTIFY_STREAM, "xtrim", stream.key);
            stream_value_changed(&stream);
        } else if (status != PAGE_DONE) {
            stream_reply_failure(call, status);
            return;
        }
    }
    reply_integer(call->reply, (int64_t)removed);
}

/* Has the leaves requested that the deletions need. */
static void touch_all(struct call *call, struct stream_value *stream) {
    if (!stream->access.source) return;
    for (uint32_t i = 2; i < call->argc; i++) {
        struct paged_key key = stream_id_key(stream_argument_known_id(call, i));
        (void)paged_tree_touch_key(&stream->root->entries, &stream->access, &key);
    }
}

void command_xdel(struct call *call) {
    struct stream_value stream;
    int64_t deleted = 0;
    bool first_went = false;
    if (!stream_open(call, &stream, STREAM_FOR_WRITE)) return;
    if (!stream.root) {
        reply_integer(call->reply, 0);
        return;
    }
    if (!stream_argument_ids(call, 2)) return;
    touch_all(call, &stream);
    struct effect_chunks effect = {.call = call, .name = "XDEL", .key = stream.key->name};
    for (uint32_t i = 2; i < call->argc && !stream.access.missing; i++) {
        struct stream_id id = stream_argument_known_id(call, i);
        if (stream_value_delete(&stream, id) != PAGE_DONE) continue;
        first_went |= stream_id_compare(id, stream.root->first) == 0;
        effect_chunks_put(&effect, call->argv[i]);
        deleted++;
    }
    effect_chunks_end(&effect);
    if (stream.access.missing) return;
    if (first_went) stream_value_deleted(&stream);
    if (deleted) {
        call_notify(call, NOTIFY_STREAM, "xdel", stream.key);
        stream_value_changed(&stream);
    }
    reply_integer(call->reply, deleted);
}

void command_xlen(struct call *call) {
    struct stream_value stream;
    if (stream_open(call, &stream, STREAM_FOR_READ)) reply_integer(call->reply, (int64_t)stream_value_length(&stream));
}

/* ---- XSETID ---- */

struct set_request {
    struct stream_id last, max_deleted;
    int64_t added; /* -1: as it is */
};

static bool parse_set_request(struct call *call, struct set_request *request) {
    *request = (struct set_request){.added = -1};
    if (!stream_argument_id(call, 2, &request->last)) return false;
    for (uint32_t i = 3; i < call->argc; i += 2) {
        bool more = i + 1 < call->argc;
        const char *error = NULL;
        if (more && call_is(call, i, "entriesadded")) {
            if (!call_integer(call, i + 1, &request->added)) return false;
            if (request->added < 0) error = "ERR entries_added must be positive";
        } else if (more && call_is(call, i, "maxdeletedid")) {
            if (!stream_argument_id(call, i + 1, &request->max_deleted)) return false;
            if (stream_id_compare(request->last, request->max_deleted) < 0)
                error = "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id";
        } else {
            error = ERROR_SYNTAX;
        }
        if (!error) continue;
        reply_error(call->reply, error);
        return false;
    }
    return true;
}

/* What forbids it; NULL: nothing. */
static const char *objection_to(const struct set_request *request, struct stream_value *stream) {
    const struct stream_root *root = stream->root;
    struct stream_id top;
    if (stream_id_compare(request->last, root->max_deleted) < 0)
        return "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id";
    uint64_t length = stream_value_length(stream);
    if (length == 0 || stream_value_last_id(stream, &top) != PAGE_DONE) return NULL;
    if (stream_id_compare(request->last, top) < 0)
        return "ERR The ID specified in XSETID is smaller than the target stream top item";
    if (request->added != -1 && length > (uint64_t)request->added)
        return "ERR The entries_added specified in XSETID is smaller than the target stream length";
    return NULL;
}

void command_xsetid(struct call *call) {
    struct set_request request;
    struct stream_value stream;
    if (!parse_set_request(call, &request) || !stream_open(call, &stream, STREAM_FOR_WRITE)) return;
    const char *error = stream.root ? objection_to(&request, &stream) : ERROR_NO_KEY;
    if (error) {
        reply_error(call->reply, error);
        return;
    }
    if (!page_begin_change(&stream.access)) return;
    stream.root->last = request.last;
    if (request.added != -1) stream.root->added = (uint64_t)request.added;
    if (!stream_id_is_zero(request.max_deleted)) stream.root->max_deleted = request.max_deleted;
    reply_ok(call->reply);
    call_notify(call, NOTIFY_STREAM, "xsetid", stream.key);
    call_effect_force(call);
    stream_value_used(&stream);
}

/* ---- XCFGSET ---- */

void command_xcfgset(struct call *call) {
    struct stream_value stream;
    int64_t duration_s = 0, size = 0;
    for (uint32_t i = 2; i < call->argc; i += 2) {
        bool is_size = call_is(call, i, "idmp-maxsize");
        if (i + 1 == call->argc || (!is_size && !call_is(call, i, "idmp-duration"))) {
            reply_error(call->reply, ERROR_SYNTAX);
            return;
        }
        if (is_size ? !call_integer_within(call, i + 1, 1, STREAM_PRODUCER_SIZE_MAX,
                                           "ERR IDMP-MAXSIZE must be between 1 and 10000 entries", &size)
                    : !call_integer_within(call, i + 1, 1, STREAM_PRODUCER_DURATION_S_MAX,
                                           "ERR IDMP-DURATION must be between 1 and 86400 seconds", &duration_s))
            return;
    }
    if (!stream_open(call, &stream, STREAM_FOR_WRITE)) return;
    if (!stream.root) {
        reply_error(call->reply, ERROR_NO_KEY);
        return;
    }
    if (!page_begin_change(&stream.access)) return;
    struct stream_root *root = stream.root;
    if (!root->producers)
        root->producers = stream_producers_make(call->view.keyspace->seed ^ ((uint64_t)call->view.random << 32 | 1));
    if (!root->producers) {
        call_no_memory(call);
        return;
    }
    stream_producers_forget(root->producers);
    if (duration_s) root->producers->duration_s = duration_s;
    if (size) root->producers->size_max = (uint32_t)size;
    reply_ok(call->reply);
    call_effect_force(call);
    stream_value_used(&stream);
}
