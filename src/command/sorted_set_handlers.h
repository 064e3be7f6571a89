#ifndef TERRACE_COMMAND_SORTED_SET_HANDLERS_H
#define TERRACE_COMMAND_SORTED_SET_HANDLERS_H

/* The handlers of the sorted set family, which sorted_set_table.c lists, and what their files share, also with the
 * family of places (geo_commands.c), whose values are sorted sets. */

#include "command/command.h"
#include "keyspace/sorted_set_value.h"

#include <stdlib.h>

command_handler command_zadd, command_zincrby, command_zrem;
command_handler command_zcard, command_zscore, command_zmscore, command_zrank, command_zrevrank, command_zrandmember,
    command_zscan;
command_handler command_zrange, command_zrevrange, command_zrangebyscore, command_zrevrangebyscore, command_zrangebylex,
    command_zrevrangebylex, command_zrangestore, command_zcount, command_zlexcount, command_zremrangebyrank,
    command_zremrangebyscore, command_zremrangebylex;
command_handler command_zpopmin, command_zpopmax, command_bzpopmin, command_bzpopmax, command_zmpop, command_bzmpop;
command_handler command_zunion, command_zinter, command_zdiff, command_zunionstore, command_zinterstore,
    command_zdiffstore, command_zintercard;

/* Opens the key's sorted set. False: it holds something else; WRONGTYPE is composed. */
bool sorted_set_expect(struct call *call, const struct key *key, enum sorted_set_purpose purpose,
                       struct sorted_set *set) __attribute__((warn_unused_result));

/* Tells the removal of the first `removed` members of a part, which is all of it unless memory ran out. */
void sorted_set_tell_removed_ranks(struct call *call, const struct key *key, struct sorted_set_part part,
                                   uint64_t removed);

/* A score as clients write it: what number_parse_double() takes. */
bool sorted_set_parse_score(struct span text, double *score) __attribute__((warn_unused_result));

/* What ZADD was asked for. */
struct sorted_set_addition {
    bool if_absent, if_present, if_greater, if_less, counts_changes, increments;
    const double *scores;
    uint32_t count;         /* of scores */
    uint32_t first, stride; /* member i is argument first + i * stride */
};
/* Carries it out on call->keys[0], and replies. */
void sorted_set_add(struct call *call, const struct sorted_set_addition *addition);

/* The header of a list of `count` members, and one of them. With scores RESP3 has pairs, RESP2 a flat list. */
static inline void sorted_set_reply_header(struct reply *reply, uint64_t count, bool with_scores) {
    reply_array(reply, with_scores && !reply->resp3 ? count * 2 : count);
}
static inline void sorted_set_reply_member(struct reply *reply, struct span member, double score, bool with_scores) {
    if (with_scores && reply->resp3) reply_array(reply, 2);
    reply_bulk(reply, member);
    if (with_scores) reply_double(reply, score);
}

/* ---- results that grow: members with scores, to be sorted, replied or stored ----
 *
 * Zeroed at first. Members point to where they were found, but for those that stood in a cursor's or member's own room
 * (`room`), which are copied. Freed by sorted_set_result_free(). */
struct sorted_set_result {
    struct scored_member *members;
    uint64_t count, capacity;
    struct result_texts *texts;
    bool no_memory;
};
/* Appends. False: no memory, which stays told in `no_memory`. */
bool sorted_set_result_add(struct sorted_set_result *result, struct span member, double score, const char *room);
void sorted_set_result_sort(struct sorted_set_result *result);
void sorted_set_result_free(struct sorted_set_result *result);
/* Makes it the value of `key`, replies the count and tells `event`, or "del" where an empty result has removed the key.
 * It is sorted. */
void sorted_set_result_store(struct call *call, const struct key *key, const struct sorted_set_result *result,
                             const char *event);

#endif
