/* Sorted sets: members asked for, drawn, and scanned. */

#include "base/number.h"
#include "base/random.h"
#include "command/dispatch.h"
#include "command/scan_argument.h"
#include "command/sorted_set_handlers.h"

#include <stdlib.h>

enum { SCAN_REPLY_BYTES = 16 * 1024 /* of a ZSCAN's members, composed on the stack before they follow the cursor */ };
/* Members drawn one by one, each perhaps again and again: a reply that could be of any size has to end somewhere. */
#define DRAWS_MAX (INT64_C(1) << 24)

#define ERROR_COUNT_RANGE "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"

/* ---- what is known of a set or member ---- */

void command_zcard(struct call *call) {
    struct sorted_set set;
    if (sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set))
        reply_integer(call->reply, (int64_t)sorted_set_count(&set));
}

static void reply_score(struct call *call, struct sorted_set *set, struct span member) {
    double score;
    if (sorted_set_score(set, member, &score) == PAGE_DONE)
        reply_double(call->reply, score);
    else
        reply_null(call->reply);
}

void command_zscore(struct call *call) {
    struct sorted_set set;
    if (sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set)) reply_score(call, &set, call->argv[2]);
}

void command_zmscore(struct call *call) {
    struct sorted_set set;
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set)) return;
    reply_array(call->reply, call->argc - 2);
    for (uint32_t i = 2; i < call->argc; i++) reply_score(call, &set, call->argv[i]);
}

static void reply_rank(struct call *call, bool from_highest) {
    struct sorted_set set;
    uint64_t position;
    double score;
    bool with_score = call->argc == 4;
    if (call->argc > 4 || (with_score && !call_is(call, 3, "withscore"))) {
        reply_error(call->reply, ERROR_SYNTAX);
        return;
    }
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set)) return;
    if (sorted_set_position(&set, call->argv[2], &position, &score) != PAGE_DONE) {
        if (with_score)
            reply_null_array(call->reply);
        else
            reply_null(call->reply);
        return;
    }
    if (from_highest) position = sorted_set_count(&set) - 1 - position;
    if (with_score) reply_array(call->reply, 2);
    reply_integer(call->reply, (int64_t)position);
    if (with_score) reply_double(call->reply, score);
}

void command_zrank(struct call *call) {
    reply_rank(call, false);
}
void command_zrevrank(struct call *call) {
    reply_rank(call, true);
}

/* ---- ZRANDMEMBER ---- */

/* A command that is run again draws the same numbers. */
static struct random random_of(struct call *call) {
    struct random random;
    random_seed(&random, call->view.port ? call->session->random : dispatcher_random(call->dispatcher));
    return random;
}

static void reply_at(struct call *call, struct sorted_set *set, uint64_t position, bool with_scores) {
    struct sorted_set_cursor at;
    sorted_set_at(&at, set, position);
    if (at.valid && !at.missing) sorted_set_reply_member(call->reply, at.member, at.score, with_scores);
}

static int compare_positions(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* `want` different positions below `count`, ascending, each choice equally likely: draws until there are enough. A
 * draw that is there already is made again, which favours none. Precondition: want <= count / 2, so that each round
 * leaves at most half of what was missing. */
static void draw_positions(struct random *random, uint64_t count, uint64_t want, uint64_t *positions) {
    uint64_t have = 0;
    while (have < want) {
        while (have < want) positions[have++] = random_below(random, count);
        qsort(positions, want, sizeof(*positions), compare_positions);
        have = 0;
        for (uint64_t i = 0; i < want; i++)
            if (i == 0 || positions[i] != positions[i - 1]) positions[have++] = positions[i];
    }
}

/* More than half of all: each in turn is taken with the probability that leaves every choice equally likely. */
static void reply_most(struct call *call, struct sorted_set *set, struct random *random, uint64_t want,
                       bool with_scores) {
    struct sorted_set_cursor at;
    uint64_t left = sorted_set_count(set);
    for (sorted_set_at(&at, set, 0); at.valid && want > 0; sorted_set_next(&at)) {
        if (at.missing) continue;
        if (random_below(random, left--) >= want) continue;
        want--;
        sorted_set_reply_member(call->reply, at.member, at.score, with_scores);
    }
}

static void reply_different(struct call *call, struct sorted_set *set, uint64_t want, bool with_scores) {
    struct random random = random_of(call);
    uint64_t count = sorted_set_count(set);
    if (want > count) want = count;
    uint64_t *positions = want <= count / 2 ? malloc((want ? want : 1) * sizeof(*positions)) : NULL;
    if (want <= count / 2 && !positions) {
        call_no_memory(call);
        return;
    }
    sorted_set_reply_header(call->reply, want, with_scores);
    if (positions) {
        draw_positions(&random, count, want, positions);
        for (uint64_t i = 0; i < want; i++) reply_at(call, set, positions[i], with_scores);
        free(positions);
    } else {
        reply_most(call, set, &random, want, with_scores);
    }
}

static void reply_repeated(struct call *call, struct sorted_set *set, uint64_t want, bool with_scores) {
    struct random random = random_of(call);
    uint64_t count = sorted_set_count(set);
    sorted_set_reply_header(call->reply, want, with_scores);
    for (uint64_t i = 0; i < want; i++) reply_at(call, set, random_below(&random, count), with_scores);
}

static bool parse_draw(struct call *call, int64_t *count, bool *with_scores) {
    if (!call_integer(call, 2, count)) return false;
    if (*count == INT64_MIN) {
        reply_error(call->reply, ERROR_COUNT_RANGE);
        return false;
    }
    if (call->argc > 4 || (call->argc == 4 && !call_is(call, 3, "withscores"))) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    *with_scores = call->argc == 4;
    if (*count < -DRAWS_MAX || (*with_scores && *count > INT64_MAX / 2)) {
        reply_error(call->reply, "ERR value is out of range");
        return false;
    }
    return true;
}

void command_zrandmember(struct call *call) {
    struct sorted_set set;
    int64_t count = 1;
    bool with_scores = false;
    if (call->argc > 2 && !parse_draw(call, &count, &with_scores)) return;
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set)) return;
    if (call->argc == 2) {
        struct random random = random_of(call);
        if (sorted_set_exists(&set))
            reply_at(call, &set, random_below(&random, sorted_set_count(&set)), false);
        else
            reply_null(call->reply);
    } else if (!sorted_set_exists(&set) || count == 0) {
        reply_array(call->reply, 0);
    } else if (count > 0) {
        reply_different(call, &set, (uint64_t)count, with_scores);
    } else {
        reply_repeated(call, &set, (uint64_t)-count, with_scores);
    }
}

/* ---- ZSCAN ---- */

struct scan {
    const struct scan_argument *argument;
    bool packed;
    struct reply *members;
    size_t count;
};

/* Scores of a packed set are told as they are packed: integers are, at any size. */
static void scan_score(struct scan *scan, double score) {
    char text[NUMBER_DOUBLE_TEXT_MAX];
    if (scan->packed && score >= -0x1p62 && score <= 0x1p62 && (double)(int64_t)score == score)
        reply_bulk_integer(scan->members, (int64_t)score);
    else
        reply_bulk(scan->members, span_of(text, number_format_double(score, text)));
}

static void scan_member(void *ctx, struct span member, double score) {
    struct scan *scan = ctx;
    if (!scan_shows(scan->argument, member)) return;
    reply_bulk(scan->members, member);
    if (!scan->argument->names_only) scan_score(scan, score);
    scan->count += scan->argument->names_only ? 1 : 2;
}

void command_zscan(struct call *call) {
    struct sorted_set set;
    struct scan_argument argument;
    char room[SCAN_REPLY_BYTES];
    struct reply members;
    struct scan scan = {.argument = &argument, .members = &members};
    if (!scan_parse_cursor(call, &argument)) return;
    if (!sorted_set_expect(call, &call->keys[0], SORTED_SET_FOR_READ, &set)) return;
    if (sorted_set_exists(&set) && !scan_parse_options(call, "noscores", &argument)) return;
    reply_init(&members, room, sizeof(room), NULL, NULL);
    scan.packed = !set.root;
    scan_reply_cursor(
        call, sorted_set_exists(&set) ? sorted_set_scan(&set, argument.cursor, argument.want, scan_member, &scan) : 0);
    reply_array(call->reply, scan.count);
    reply_append(call->reply, &members);
}
