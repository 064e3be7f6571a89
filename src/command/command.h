#ifndef TERRACE_COMMAND_COMMAND_H
#define TERRACE_COMMAND_COMMAND_H

/* What a command is: its declaration, and the call a handler receives.
 *
 * A command is declared once, in the table at the end of its family's file: name, arity, flags, keys, documentation,
 * handler. The router, COMMAND, COMMAND DOCS, ACL categories and statistics all come from that row.
 *
 * A handler turns arguments and a view of the keyspace into a reply and changed records. It knows nothing of
 * sockets, journals or media. When it runs, the shards of the keys its row declares are locked, and
 * call->keys holds these keys in order of appearance, hashed. */

#include "base/span.h"
#include "command/notify.h"
#include "keyspace/keyspace.h"
#include "resp/reply.h"

#include <stdint.h>

struct session;
struct dispatcher;
struct effect_sink;
struct call;

typedef void command_handler(struct call *call);

/* ---- declaration ---- */

enum command_flag {
    /* As COMMAND INFO shows them. */
    COMMAND_WRITE = 1 << 0,
    COMMAND_READONLY = 1 << 1,
    COMMAND_DENYOOM = 1 << 2,
    COMMAND_ADMIN = 1 << 3,
    COMMAND_PUBSUB = 1 << 4,
    COMMAND_NOSCRIPT = 1 << 5,
    COMMAND_BLOCKING = 1 << 6,
    COMMAND_LOADING = 1 << 7,
    COMMAND_STALE = 1 << 8,
    COMMAND_SKIP_MONITOR = 1 << 9,
    COMMAND_SKIP_SLOWLOG = 1 << 10,
    COMMAND_ASKING = 1 << 11,
    COMMAND_FAST = 1 << 12,
    COMMAND_NO_AUTH = 1 << 13,
    COMMAND_MAY_REPLICATE = 1 << 14,
    COMMAND_PROTECTED = 1 << 15,
    COMMAND_NO_ASYNC_LOADING = 1 << 16,
    COMMAND_NO_MULTI = 1 << 17,
    COMMAND_MOVABLE_KEYS = 1 << 18,
    COMMAND_ALLOW_BUSY = 1 << 19,
    /* Ours, not shown. */
    COMMAND_ALL_SHARDS = 1 << 24,       /* every shard is locked while it runs: a cut of the whole keyspace */
    COMMAND_EXCLUSIVE = 1 << 25,        /* all other workers stand still: it touches what they own */
    COMMAND_KEEP_ACCESS = 1 << 26,      /* looking is not using: the access bits stay (TTL, TYPE, OBJECT ...) */
    COMMAND_CONTROL = 1 << 27,          /* runs inside MULTI instead of being queued: EXEC, DISCARD, WATCH ... */
    COMMAND_ENDS_TRANSACTION = 1 << 29, /* EXEC: also when it is refused */
    COMMAND_WHILE_SUBSCRIBED = 1 << 30, /* may run while its client, of RESP2, is subscribed to anything */
    COMMAND_SLICED = 1 << 23,           /* may be unfinished: struct call */
    COMMAND_WALKS = 1 << 28,            /* its handler locks shards by itself, through keyspace_enter() and the like */
};

/* ACL categories that do not follow from the flags or the group. */
enum command_category {
    CATEGORY_KEYSPACE = 1 << 0,
    CATEGORY_READ = 1 << 1,
    CATEGORY_WRITE = 1 << 2,
    CATEGORY_SET = 1 << 3,
    CATEGORY_SORTED_SET = 1 << 4,
    CATEGORY_LIST = 1 << 5,
    CATEGORY_HASH = 1 << 6,
    CATEGORY_STRING = 1 << 7,
    CATEGORY_BITMAP = 1 << 8,
    CATEGORY_HYPERLOGLOG = 1 << 9,
    CATEGORY_GEO = 1 << 10,
    CATEGORY_STREAM = 1 << 11,
    CATEGORY_PUBSUB = 1 << 12,
    CATEGORY_ADMIN = 1 << 13,
    CATEGORY_FAST = 1 << 14,
    CATEGORY_SLOW = 1 << 15,
    CATEGORY_BLOCKING = 1 << 16,
    CATEGORY_DANGEROUS = 1 << 17,
    CATEGORY_CONNECTION = 1 << 18,
    CATEGORY_TRANSACTION = 1 << 19,
    CATEGORY_SCRIPTING = 1 << 20,
};

enum key_flag {
    KEY_RW = 1 << 0,
    KEY_RO = 1 << 1,
    KEY_OW = 1 << 2,
    KEY_RM = 1 << 3,
    KEY_ACCESS = 1 << 4,
    KEY_UPDATE = 1 << 5,
    KEY_INSERT = 1 << 6,
    KEY_DELETE = 1 << 7,
    KEY_NOT_KEY = 1 << 8,
    KEY_INCOMPLETE = 1 << 9,
    KEY_VARIABLE = 1 << 10,
};

/* Where keys stand among the arguments: Redis's key specifications. */
struct key_spec {
    uint32_t flags; /* enum key_flag; 0: this row is unused */
    int32_t index;  /* where the search begins; with a keyword, where looking for it begins (negative: from the end) */
    const char *keyword;               /* NULL: begins at `index` */
    int32_t last, step, limit;         /* range: last key relative to the first (negative: from the end), step, limit */
    int32_t count_index, first_offset; /* counted (`step` > 0, `counted`): relative to the beginning */
    bool counted;
    bool unknown; /* `index` and `keyword` do not say it; `find` does, or nothing (patterns that lead to keys) */
    /* Where it is given it alone is asked; what else is said then is for clients. */
    uint32_t (*find)(const struct span *argv, uint32_t argc); /* the one key's argument; 0: there is none */
    const char *notes;
};
/* One key at argument `at`; keys from `at` to `last_` (negative: from the end) every `step_`. */
#define KEY_AT(at, flags_)                                                                                             \
    { .flags = (flags_), .index = (at), .last = 0, .step = 1 }
#define KEYS_FROM(at, last_, step_, flags_)                                                                            \
    { .flags = (flags_), .index = (at), .last = (last_), .step = (step_) }
#define KEYS_COUNTED(at, flags_)                                                                                       \
    { .flags = (flags_), .index = (at), .counted = true, .count_index = 0, .first_offset = 1, .step = 1 }

enum { COMMAND_KEY_SPECS = 3 };

/* Which part of a value the command works on, so that memory can be asked for it before. */
enum command_reach {
    REACH_HEADER = 0, /* what lookups read */
    REACH_FIRST,      /* the first elements of a packed value */
    REACH_LAST,       /* its last ones */
    REACH_MANY,       /* it walks along them */
    REACH_BEHIND,     /* where the next element of a big collection will be put */
};

struct command_spec {
    const char *name;         /* lower case; of a subcommand, without its container's */
    command_handler *handler; /* NULL: a container, to be called with a subcommand */
    int arity;                /* with the name(s); negative: at least */
    uint32_t flags;           /* enum command_flag */
    uint32_t categories;      /* enum command_category, besides those that follow from flags and group */
    struct key_spec keys[COMMAND_KEY_SPECS];
    /* Whether these arguments lead to keys that `keys` does not find (SORT BY): then all shards are locked. NULL:
     * never. */
    bool (*reaches)(const struct span *argv, uint32_t argc);
    uint8_t element;   /* argument that names the element of the first key's value which is looked up; 0: none */
    uint8_t reach;     /* enum command_reach */
    const char *group; /* "string", "generic", ... as COMMAND DOCS names them */
    const char *since;
    const char *summary; /* our words */
    const char *complexity;
    /* The arguments in the notation of argument_spec.h, e.g.
     *   "key:k value:s [condition(NX|XX)] [GET] [expiration(EX seconds:i|PX milliseconds:i|KEEPTTL)]" */
    const char *arguments;
    const char *history;          /* "version text" entries separated by newlines; NULL: none */
    const char *tips;             /* separated by blanks; NULL: none */
    const char *deprecated_since; /* NULL: not deprecated */
    const char *replaced_by;      /* of a deprecated one, as a phrase: "`SET` with the `EX` argument" */
    bool internal;                /* not for clients: DEBUG, PFDEBUG ("syscmd" in COMMAND DOCS) */
    const struct command_spec *subcommands;
    unsigned subcommand_count;
};

/* A family is an array of specs: `const struct command_spec string_commands[]` and its length. */
struct command_family {
    const struct command_spec *specs;
    unsigned count;
};

/* A command as the table holds it. */
struct command {
    const struct command_spec *spec;
    const struct command *parent; /* of a subcommand */
    const struct command *subcommands;
    unsigned subcommand_count;
    command_handler *handler;
    int arity;
    uint32_t flags, categories;
    uint16_t id;                           /* dense; index into statistics */
    int16_t first_key, last_key, key_step; /* when the keys are one plain range; first_key 0: not so */
    bool no_keys;
    const char *full_name; /* "client|list" */
};

/* ---- call ---- */

struct call {
    struct view view;
    const struct command *command;
    struct span *argv; /* the command's name included; spans of the query buffer, valid during the call */
    uint32_t argc;
    uint32_t key_count;
    struct key *keys;
    struct reply *reply;
    struct session *session;
    struct dispatcher *dispatcher;
    struct span received;        /* the bytes that the words were parsed from; may be empty */
    struct effect_sink *effects; /* who wants to know what it does: effect.h; NULL: nobody */
    bool in_transaction;         /* EXEC runs it, or it is run from a journal: it may not block */
    bool blocks;                 /* it waits for keys: blocking.h */
    bool again;                  /* it did, and one of them has changed */
    bool unreadable;  /* it needed a record or page that cannot be read: what it replied is replaced by an error */
    bool may_pause;   /* it may leave its work unfinished for now; otherwise, as in EXEC, it has to do all at once */
    bool unfinished;  /* it did a slice of its work: what it replied is dropped, and it is run again soon */
    unsigned rest_ms; /* ... it waits for somebody else meanwhile: so long, if nothing else happens */
    uint64_t counted_errors; /* of its reply: those of commands that it ran, which count as theirs (EXEC) */
    bool waits; /* it met a cold record that is not at hand: what it replied is dropped, and it is run again */
};

/* The errors that many commands share, word for word as clients know them. */
#define ERROR_WRONG_TYPE   "WRONGTYPE Operation against a key holding the wrong kind of value"
#define ERROR_SYNTAX       "ERR syntax error"
#define ERROR_NOT_INTEGER  "ERR value is not an integer or out of range"
#define ERROR_NOT_FLOAT    "ERR value is not a valid float"
#define ERROR_OUT_OF_RANGE "ERR index out of range"
#define ERROR_NO_KEY       "ERR no such key"
#define ERROR_NO_MEMORY    "OOM command not allowed when used memory > 'maxmemory'."
#define ERROR_UNREADABLE   "IOERR the record on the tier cannot be read"
#define ERROR_TOO_LONG     "ERR string exceeds maximum allowed size (proto-max-bulk-len)"

/* Parses argument `index` as a 64-bit integer; on failure composes ERROR_NOT_INTEGER and returns false. */
bool call_integer(struct call *call, uint32_t index, int64_t *value) __attribute__((warn_unused_result));
/* The same, refusing what is outside [min, max] with `error` (NULL: ERROR_NOT_INTEGER). */
bool call_integer_within(struct call *call, uint32_t index, int64_t min, int64_t max, const char *error, int64_t *value)
    __attribute__((warn_unused_result));
/* Whether argument `index` is this keyword (lower-case literal), in any case. */
static inline bool call_is(const struct call *call, uint32_t index, const char *word) {
    return span_is_word(call->argv[index], word);
}
/* The reply to a change that found no memory. */
static inline void call_no_memory(struct call *call) {
    reply_error(call->reply, ERROR_NO_MEMORY);
}
/* Tells that something happened to a key of the call's database, after it did: `class` is one of enum notify_class,
 * `event` the event's name as clients know it ("set", "del", "lpush" ...). See notify.h. Shard locks may be held. */
void call_notify(struct call *call, uint32_t class, const char *event, const struct key *key);
/* The same of a key in another database. */
void call_notify_in(struct call *call, uint32_t class, const char *event, const struct key *key, uint32_t database);
/* The lines of a HELP subcommand: `lines` ends with NULL; a heading and the HELP line are added. */
void call_help(struct call *call, const char *const *lines);

#endif
