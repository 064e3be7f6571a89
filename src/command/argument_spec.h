#ifndef TERRACE_COMMAND_ARGUMENT_SPEC_H
#define TERRACE_COMMAND_ARGUMENT_SPEC_H

/* The notation in which a command's row describes its arguments, and what COMMAND DOCS makes of it.
 *
 *   item      = name [":" type] [suffixes]                    an argument
 *             | TOKEN [suffixes]                              a keyword alone: a pure-token
 *             | name "=" token [suffixes]                     the same, with a name that is not its token in lower case
 *             | TOKEN argument                                a keyword before its argument (of the other three forms)
 *             | name "(" item... "|" item... ")" [suffixes]   one of several: oneof
 *             | name "{" item... "}" [suffixes]               all of them, in order: block
 *             | "[" item "]"                                  optional
 *   suffixes  = ["@" version]                                 since
 *               ["!" version]                                 deprecated since
 *               ["..." | "...*"]                              may be repeated; "*": the token each time
 *
 * Items are separated by blanks; alternatives by "|". An upper-case word is a token, and one that a name follows
 * belongs to that name (a required keyword alone before another argument is therefore written `name=TOKEN`). Names may
 * hold lower-case letters, digits, '-', '_', '/' and ':'. Types: k key, s string (the default), i integer, d double, t
 * unix-time, p pattern. A key takes the next key specification in order, or the one whose number follows: `key2:k0`;
 * so may a pattern that matches keys: `pattern:p1`.
 *
 *   SET       key:k value [condition(NX|XX)@2.6.12] [GET@6.2.0] [expiration(EX seconds:i@2.6.12|KEEPTTL@6.0.0)]
 *   MSET      key_value{key:k value}...
 *   SCAN      cursor:i [MATCH pattern:p] [COUNT count:i] [TYPE type@6.0.0]
 *   BITFIELD  key:k [GET encoding_offset{encoding offset:i}...*]
 *   ZADD      key:k [condition(NX|XX)] [change=CH] score_member{score:d member}... */

#include "command/command.h"

enum {
    ARGUMENTS_MAX = 64, /* items of one notation, nested ones included: twice the longest there is */
    ARGUMENT_NONE = 0xff,
};

enum argument_type {
    ARGUMENT_STRING,
    ARGUMENT_INTEGER,
    ARGUMENT_DOUBLE,
    ARGUMENT_KEY,
    ARGUMENT_PATTERN,
    ARGUMENT_UNIX_TIME,
    ARGUMENT_PURE_TOKEN,
    ARGUMENT_ONEOF,
    ARGUMENT_BLOCK,
};

/* One item. Spans point into the notation; of a pure-token whose name follows from its token, `name` is the token. */
struct argument {
    enum argument_type type;
    struct span name, token;             /* token.data NULL: none */
    struct span since, deprecated_since; /* length 0: none */
    bool optional, multiple, multiple_token;
    bool names_keys; /* `key_spec` is meaningful */
    uint8_t key_spec;
    uint8_t next, first; /* sibling, child; ARGUMENT_NONE: none */
    uint8_t children;
};

struct argument_tree {
    unsigned count;
    unsigned top; /* top-level items; the first one is items[0] */
    struct argument items[ARGUMENTS_MAX];
};

/* False: malformed, or more than ARGUMENTS_MAX items. */
bool argument_spec_parse(const char *arguments, struct argument_tree *tree) __attribute__((warn_unused_result));

/* Composes the "arguments" array of COMMAND DOCS for one command: its elements, with the array header. Asserts that the
 * notation is well formed (a unit test walks all rows). */
void argument_spec_reply(struct reply *reply, const struct command_spec *spec);

/* The number of top-level items, 0 for NULL; -1: malformed. */
int argument_spec_count(const char *arguments);

#endif
