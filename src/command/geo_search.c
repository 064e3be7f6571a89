/* Places within a circle or a box: GEOSEARCH, GEOSEARCHSTORE and their older relatives.
 *
 *   options -> cells that cover the shape -> members of these, measured -> sorted by distance -> replied or stored
 *
 * Each cell is a range of scores. Without an order asked for, members come in the order of cells and scores. */

#include "base/number.h"
#include "command/geo_handlers.h"
#include "command/sorted_set_handlers.h"

enum geo_form {
    GEO_RADIUS,        /* key longitude latitude radius unit ... */
    GEO_RADIUS_MEMBER, /* key member radius unit ... */
    GEO_SEARCH,        /* key ... */
    GEO_SEARCH_STORE,  /* destination key ... */
};
enum geo_order { GEO_UNORDERED, GEO_ASCENDING, GEO_DESCENDING };

struct geo_request {
    enum geo_form form;
    bool may_store;
    bool with_distance, with_hash, with_point;
    bool from_member, from_point, by_radius, by_box; /* of GEOSEARCH: given */
    bool any;
    enum geo_order order;
    int64_t most;      /* COUNT; 0: all */
    uint32_t store_at; /* the argument that names the destination; 0: none */
    bool stores_distance;
    struct geo_shape shape;
};

/* A member found: its place in the result. */
struct geo_found {
    double distance;
    uint64_t place;
};

struct geo_result {
    struct sorted_set_result members; /* with their scores */
    struct geo_found *found;
    uint64_t capacity;
};

/* ---- arguments ---- */

static bool parse_length(struct call *call, uint32_t at, const char *error, double *length) {
    if (number_parse_double(call->argv[at], length)) return true;
    reply_error(call->reply, error);
    return false;
}

static bool parse_radius(struct call *call, uint32_t at, struct geo_shape *shape) {
    if (!parse_length(call, at, "ERR need numeric radius", &shape->radius)) return false;
    if (shape->radius < 0) {
        reply_error(call->reply, "ERR radius cannot be negative");
        return false;
    }
    shape->is_box = false;
    return call_geo_unit(call, at + 1, &shape->metres);
}

static bool parse_box(struct call *call, uint32_t at, struct geo_shape *shape) {
    if (!parse_length(call, at, "ERR need numeric width", &shape->width) ||
        !parse_length(call, at + 1, "ERR need numeric height", &shape->height))
        return false;
    if (shape->width < 0 || shape->height < 0) {
        reply_error(call->reply, "ERR height or width cannot be negative");
        return false;
    }
    shape->is_box = true;
    return call_geo_unit(call, at + 2, &shape->metres);
}

/* The centre is where a member is. Of an absent key it does not matter. */
static bool parse_member(struct call *call, uint32_t at, struct sorted_set *set, struct geo_shape *shape) {
    double score;
    if (!sorted_set_exists(set)) return true;
    if (sorted_set_score(set, call->argv[at], &score) == PAGE_DONE) {
        shape->centre = geohash_decode(geohash_of_score(score));
        return true;
    }
    reply_error(call->reply, "ERR could not decode requested zset member");
    return false;
}

/* Options without arguments. */
static bool take_flag(const struct call *call, uint32_t at, struct geo_request *request) {
    if (call_is(call, at, "withdist"))
        request->with_distance = true;
    else if (call_is(call, at, "withhash"))
        request->with_hash = true;
    else if (call_is(call, at, "withcoord"))
        request->with_point = true;
    else if (call_is(call, at, "any"))
        request->any = true;
    else if (call_is(call, at, "asc"))
        request->order = GEO_ASCENDING;
    else if (call_is(call, at, "desc"))
        request->order = GEO_DESCENDING;
    else if (request->form == GEO_SEARCH_STORE && call_is(call, at, "storedist"))
        request->stores_distance = true;
    else
        return false;
    return true;
}

/* Of GEOSEARCH: where and how far; of two kinds of centre, or of shape, the second is no option at all. Returns as
 * take_option(). */
static int take_shape(struct call *call, uint32_t at, struct sorted_set *set, struct geo_request *request) {
    uint32_t behind = call->argc - at - 1;
    bool parsed;
    int taken;
    if (behind >= 1 && !request->from_point && call_is(call, at, "frommember")) {
        parsed = parse_member(call, at + 1, set, &request->shape);
        request->from_member = true;
        taken = 2;
    } else if (behind >= 2 && !request->from_member && call_is(call, at, "fromlonlat")) {
        parsed = call_geo_point(call, at + 1, &request->shape.centre);
        request->from_point = true;
        taken = 3;
    } else if (behind >= 2 && !request->by_box && call_is(call, at, "byradius")) {
        parsed = parse_radius(call, at + 1, &request->shape);
        request->by_radius = true;
        taken = 3;
    } else if (behind >= 3 && !request->by_radius && call_is(call, at, "bybox")) {
        parsed = parse_box(call, at + 1, &request->shape);
        request->by_box = true;
        taken = 4;
    } else {
        return 0;
    }
    return parsed ? taken : -1;
}

/* Returns how many arguments the option at `at` took; 0: it is none, -1: an error is composed. */
static int take_option(struct call *call, uint32_t at, struct sorted_set *set, struct geo_request *request) {
    bool has_argument = at + 1 < call->argc;
    bool searches = request->form == GEO_SEARCH || request->form == GEO_SEARCH_STORE;
    if (take_flag(call, at, request)) return 1;
    if (has_argument && call_is(call, at, "count")) {
        if (!call_integer(call, at + 1, &request->most)) return -1;
        if (request->most > 0) return 2;
        reply_error(call->reply, "ERR COUNT must be > 0");
        return -1;
    }
    if (searches) return take_shape(call, at, set, request);
    if (has_argument && request->may_store && (call_is(call, at, "store") || call_is(call, at, "storedist"))) {
        request->store_at = at + 1;
        request->stores_distance = call_is(call, at, "storedist");
        return 2;
    }
    return 0;
}

/* What the options say together. */
static bool check_options(struct call *call, const struct geo_request *request) {
    bool searches = request->form == GEO_SEARCH || request->form == GEO_SEARCH_STORE;
    int name = (int)call->argv[0].length;
    if (request->store_at && (request->with_distance || request->with_hash || request->with_point)) {
        reply_error_format(call->reply, "ERR %s is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
                           searches ? "GEOSEARCHSTORE" : "STORE option in GEORADIUS");
    } else if (searches && request->from_member == request->from_point) {
        reply_error_format(call->reply, "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %.*s", name,
                           call->argv[0].data);
    } else if (searches && request->by_radius == request->by_box) {
        reply_error_format(call->reply, "ERR exactly one of BYRADIUS and BYBOX can be specified for %.*s", name,
                           call->argv[0].data);
    } else if (request->any && !request->most) {
        reply_error(call->reply, "ERR the ANY argument requires COUNT argument");
    } else {
        return true;
    }
    return false;
}

static bool parse_request(struct call *call, struct sorted_set *set, struct geo_request *request) {
    uint32_t at = 2;
    if (request->form == GEO_RADIUS) {
        if (!call_geo_point(call, 2, &request->shape.centre) || !parse_radius(call, 4, &request->shape)) return false;
        at = 6;
    } else if (request->form == GEO_RADIUS_MEMBER) {
        if (sorted_set_exists(set) &&
            (!parse_member(call, 2, set, &request->shape) || !parse_radius(call, 3, &request->shape)))
            return false;
        at = 5;
    } else if (request->form == GEO_SEARCH_STORE) {
        request->store_at = 1;
        at = 3;
    }
    while (at < call->argc) {
        int taken = take_option(call, at, set, request);
        if (taken == 0) reply_error(call->reply, ERROR_SYNTAX);
        if (taken <= 0) return false;
        at += (uint32_t)taken;
    }
    return check_options(call, request);
}

/* ---- searching ---- */

static bool add_found(struct geo_result *result, const struct sorted_set_cursor *at, double distance) {
    if (result->members.count == result->capacity) {
        uint64_t capacity = result->capacity ? 2 * result->capacity : 64;
        struct geo_found *found = realloc(result->found, capacity * sizeof(*found));
        result->members.no_memory = !found;
        if (!found) return false;
        result->found = found;
        result->capacity = capacity;
    }
    result->found[result->members.count] = (struct geo_found){distance, result->members.count};
    return sorted_set_result_add(&result->members, at->member, at->score, at->room);
}

/* Members of one cell; false: there are enough, or there is no memory. */
static bool search_cell(struct sorted_set *set, const struct geo_request *request, struct geo_cell cell,
                        struct geo_result *result) {
    const struct score_range range = {.min = (double)cell.first, .max = (double)cell.end, .max_open = true};
    struct sorted_set_part part = sorted_set_by_score(set, &range);
    struct sorted_set_cursor at;
    double distance;
    if (part.count == 0) return true;
    for (sorted_set_at(&at, set, part.first); at.valid && at.position < part.first + part.count; sorted_set_next(&at)) {
        if (at.missing || !geo_shape_has(&request->shape, geohash_decode(geohash_of_score(at.score)), &distance))
            continue;
        if (!add_found(result, &at, distance)) return false;
        if (request->any && result->members.count >= (uint64_t)request->most) return false;
    }
    return true;
}

static int compare_ascending(const void *a, const void *b) {
    const struct geo_found *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}
static int compare_descending(const void *a, const void *b) {
    const struct geo_found *x = a, *y = b;
    if (x->distance != y->distance) return x->distance > y->distance ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

static void search(struct sorted_set *set, const struct geo_request *request, struct geo_result *result) {
    struct geo_cell cells[GEOHASH_CELLS];
    unsigned count = geo_shape_cells(&request->shape, cells);
    for (unsigned i = 0; i < count && search_cell(set, request, cells[i], result); i++) continue;
    enum geo_order order = request->order;
    if (order == GEO_UNORDERED && request->most && !request->any) order = GEO_ASCENDING;
    if (order != GEO_UNORDERED && result->members.count > 1)
        qsort(result->found, result->members.count, sizeof(*result->found),
              order == GEO_ASCENDING ? compare_ascending : compare_descending);
}

/* ---- results ---- */

static uint64_t wanted(const struct geo_request *request, const struct geo_result *result) {
    uint64_t count = result->members.count;
    return request->most && (uint64_t)request->most < count ? (uint64_t)request->most : count;
}

static void reply_found(struct call *call, const struct geo_request *request, const struct geo_result *result) {
    uint64_t count = wanted(request, result);
    unsigned extras = request->with_distance + request->with_hash + request->with_point;
    reply_array(call->reply, count);
    for (uint64_t i = 0; i < count; i++) {
        const struct scored_member *member = &result->members.members[result->found[i].place];
        if (extras) reply_array(call->reply, extras + 1);
        reply_bulk(call->reply, member->member);
        if (request->with_distance) reply_geo_distance(call->reply, result->found[i].distance / request->shape.metres);
        if (request->with_hash) reply_integer(call->reply, (int64_t)geohash_of_score(member->score));
        if (request->with_point) reply_geo_point(call->reply, geohash_decode(geohash_of_score(member->score)));
    }
}

/* NULL: the destination is not among the keys whose shards are locked, because it was named twice. */
static const struct key *key_of_argument(const struct call *call, uint32_t index) {
    for (uint32_t i = 0; i < call->key_count; i++)
        if (span_equal(call->keys[i].name, call->argv[index])) return &call->keys[i];
    return NULL;
}

static void store_found(struct call *call, const struct geo_request *request, const struct geo_result *result) {
    const struct key *target = key_of_argument(call, request->store_at);
    struct sorted_set_result stored = {.no_memory = result->members.no_memory};
    uint64_t count = wanted(request, result);
    if (!target) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    for (uint64_t i = 0; i < count && !stored.no_memory; i++) {
        const struct scored_member *member = &result->members.members[result->found[i].place];
        double score = request->stores_distance ? result->found[i].distance / request->shape.metres : member->score;
        (void)sorted_set_result_add(&stored, member->member, score, NULL);
    }
    sorted_set_result_sort(&stored);
    sorted_set_result_store(call, target, &stored,
                            request->form == GEO_SEARCH_STORE ? "geosearchstore" : "georadiusstore");
    sorted_set_result_free(&stored);
}

static void run(struct call *call, enum geo_form form, bool may_store) {
    struct geo_request request = {.form = form, .may_store = may_store, .shape = {.metres = 1}};
    struct geo_result result = {.found = NULL};
    struct sorted_set set;
    const struct key *source = &call->keys[form == GEO_SEARCH_STORE];
    if (!sorted_set_expect(call, source, SORTED_SET_FOR_READ, &set)) return;
    if (!parse_request(call, &set, &request)) return;
    if (sorted_set_exists(&set)) search(&set, &request, &result);
    if (request.store_at)
        store_found(call, &request, &result);
    else if (result.members.no_memory)
        call_no_memory(call);
    else
        reply_found(call, &request, &result);
    sorted_set_result_free(&result.members);
    free(result.found);
}

void command_georadius(struct call *call) {
    run(call, GEO_RADIUS, true);
}
void command_georadius_ro(struct call *call) {
    run(call, GEO_RADIUS, false);
}
void command_georadiusbymember(struct call *call) {
    run(call, GEO_RADIUS_MEMBER, true);
}
void command_georadiusbymember_ro(struct call *call) {
    run(call, GEO_RADIUS_MEMBER, false);
}
void command_geosearch(struct call *call) {
    run(call, GEO_SEARCH, false);
}
void command_geosearchstore(struct call *call) {
    run(call, GEO_SEARCH_STORE, false);
}
