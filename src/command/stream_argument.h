#ifndef TERRACE_COMMAND_STREAM_ARGUMENT_H
#define TERRACE_COMMAND_STREAM_ARGUMENT_H

/* What the stream commands share: arguments, opening, and composing IDs and entries.
 *
 * A function that answers false has composed the error, or the command is going to be run again. */

#include "command/command.h"
#include "keyspace/stream_value.h"

#define ERROR_STREAM_ID "ERR Invalid stream ID specified as stream command argument"

/* ---- arguments ---- */

/* An ID that has to be one: neither "-" nor "+". */
bool stream_argument_id(struct call *call, uint32_t index, struct stream_id *id) __attribute__((warn_unused_result));
/* The ends of an interval: IDs, "-", "+", and "(" before one that is not part of it. */
struct stream_interval {
    struct stream_id first, last;
};
bool stream_argument_interval(struct call *call, uint32_t first_index, uint32_t last_index,
                              struct stream_interval *interval) __attribute__((warn_unused_result));
bool stream_argument_start(struct call *call, uint32_t index, struct stream_id *id) __attribute__((warn_unused_result));
/* Every argument from `first` to the end is an ID. */
bool stream_argument_ids(struct call *call, uint32_t first) __attribute__((warn_unused_result));
/* An argument that has been found to be an ID. */
struct stream_id stream_argument_known_id(const struct call *call, uint32_t index);

/* ---- opening ---- */

/* The stream of call->keys[0], or of another key; no error when there is none. */
bool stream_open(struct call *call, struct stream_value *stream, enum stream_purpose purpose)
    __attribute__((warn_unused_result));
bool stream_open_key(struct call *call, struct stream_value *stream, const struct key *key, enum stream_purpose purpose)
    __attribute__((warn_unused_result));
/* "NOGROUP No such key ... or consumer group ..." with what else is to be said. */
void stream_reply_no_group(struct call *call, struct span key, struct span group, const char *rest);
/* The same of a key that is there, as XGROUP and XINFO say it. */
void stream_reply_no_group_of_key(struct call *call, struct span key, struct span group);
/* A change that did not come about: composes the error, unless the command is going to be run again. */
void stream_reply_failure(struct call *call, enum page_status status);

/* The consumer, made if there is none; NULL: the error is composed, or not now. `*made` tells. */
struct stream_consumer *stream_consumer_wanted(struct call *call, struct stream_value *stream,
                                               struct stream_group *group, struct span name, bool *made);

/* ---- replies ---- */

void stream_reply_id(struct reply *reply, struct stream_id id);
/* [ID, [field, value ...]] of a packed entry. */
void stream_reply_entry(struct reply *reply, const struct stream_root *root, struct stream_id id, struct span packed);
/* The same of an entry by its ID. PAGE_ABSENT: nothing is composed. */
enum page_status stream_reply_entry_of(struct reply *reply, struct stream_value *stream, struct stream_id id)
    __attribute__((warn_unused_result));

/* Where the entries of an interval are: positions first .. first + count - 1. */
struct stream_positions {
    uint64_t first, count;
};
/* At most `most` of them, from the interval's end if `backward`. All their pages are asked for. */
struct stream_positions stream_positions_of(struct stream_value *stream, const struct stream_interval *interval,
                                            uint64_t most, bool backward);
/* Composes them one after the other, without an array around. An entry that is not at hand becomes a null. */
void stream_reply_positions(struct reply *reply, struct stream_value *stream, const struct stream_positions *positions,
                            bool backward);

#endif
