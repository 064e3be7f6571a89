/* Places of members: added, asked for, measured. A place is the score of a member of a sorted set (record/geohash.h).
 */

#include "base/number.h"
#include "command/geo_handlers.h"
#include "command/sorted_set_handlers.h"

#include <stdio.h>

/* ---- arguments and replies ---- */

bool call_geo_point(struct call *call, uint32_t index, struct geo_point *point) {
    if (!number_parse_double(call->argv[index], &point->longitude) ||
        !number_parse_double(call->argv[index + 1], &point->latitude)) {
        reply_error(call->reply, ERROR_NOT_FLOAT);
        return false;
    }
    if (geo_point_is_valid(*point)) return true;
    reply_error_format(call->reply, "ERR invalid longitude,latitude pair %f,%f", point->longitude, point->latitude);
    return false;
}

bool call_geo_unit(struct call *call, uint32_t index, double *metres) {
    static const struct {
        const char *name;
        double metres;
    } units[] = {{"m", 1}, {"km", 1000}, {"ft", 0.3048}, {"mi", 1609.34}};
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (call_is(call, index, units[i].name)) {
            *metres = units[i].metres;
            return true;
        }
    reply_error(call->reply, "ERR unsupported unit provided. please use M, KM, FT, MI");
    return false;
}

static void reply_coordinate(struct reply *reply, double degrees) {
    char text[NUMBER_LONG_DOUBLE_TEXT_MAX];
    size_t length = number_format_long_double_human(degrees, text);
    if (!reply->resp3) {
        reply_bulk(reply, span_of(text, length));
        return;
    }
    reply_raw(reply, ",", 1);
    reply_raw(reply, text, length);
    reply_raw(reply, "\r\n", 2);
}

void reply_geo_point(struct reply *reply, struct geo_point point) {
    reply_array(reply, 2);
    reply_coordinate(reply, point.longitude);
    reply_coordinate(reply, point.latitude);
}

void reply_geo_distance(struct reply *reply, double distance) {
    char text[64];
    int length = snprintf(text, sizeof(text), "%.4f", distance);
    reply_bulk(reply, span_of(text, (size_t)length));
}

/* ---- GEOADD ---- */

static void add_points(struct call *call, struct sorted_set_addition *addition, uint32_t first) {
    double *scores = malloc(addition->count * sizeof(*scores));
    struct geo_point point;
    uint32_t i = 0;
    if (!scores) {
        call_no_memory(call);
        return;
    }
    for (; i < addition->count && call_geo_point(call, first + 3 * i, &point); i++)
        scores[i] = (double)geohash_encode(point);
    if (i == addition->count) {
        addition->scores = scores;
        addition->first = first + 2;
        addition->stride = 3;
        sorted_set_add(call, addition);
    }
    free(scores);
}

void command_geoadd(struct call *call) {
    struct sorted_set_addition addition = {.if_absent = false};
    uint32_t first = 2;
    for (; first < call->argc; first++) {
        if (call_is(call, first, "nx"))
            addition.if_absent = true;
        else if (call_is(call, first, "xx"))
            addition.if_present = true;
        else if (call_is(call, first, "ch"))
            addition.counts_changes = true;
        else
            break;
    }
    uint32_t left = call->argc - first;
    if (left == 0 || left % 3 || (addition.if_absent && addition.if_present)) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    addition.count = left / 3;
    add_points(call, &addition, first);
}

/* ---- asking ---- */

static bool point_of(struct sorted_set *set, struct span member, uint64_t *bits) {
    double score;
    if (sorted_set_score(set, member, &score) != PAGE_DONE) return false;
    *bits = geohash_of_score(score);
    return true;
}

void command_geohash(struct call *call) {
    struct sorted_set set;
    uint64_t bits;
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set)) return;
    reply_array(call->reply, call->argc - 2);
    for (uint32_t i = 2; i < call->argc; i++) {
        char text[GEOHASH_TEXT_LENGTH];
        if (point_of(&set, call->argv[i], &bits)) {
            geohash_text(bits, text);
            reply_bulk(call->reply, span_of(text, sizeof(text)));
        } else {
            reply_null(call->reply);
        }
    }
}

void command_geopos(struct call *call) {
    struct sorted_set set;
    uint64_t bits;
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set)) return;
    reply_array(call->reply, call->argc - 2);
    for (uint32_t i = 2; i < call->argc; i++) {
        if (point_of(&set, call->argv[i], &bits))
            reply_geo_point(call->reply, geohash_decode(bits));
        else
            reply_null_array(call->reply);
    }
}

void command_geodist(struct call *call) {
    struct sorted_set set;
    uint64_t from, to;
    double metres = 1;
    if (call->argc > 5) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (call->argc == 5 && !call_geo_unit(call, 4, &metres)) return;
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set)) return;
    bool both = point_of(&set, call->argv[2], &from);
    both &= point_of(&set, call->argv[3], &to);
    if (both)
        reply_geo_distance(call->reply, geo_distance(geohash_decode(from), geohash_decode(to)) / metres);
    else
        reply_null(call->reply);
}
