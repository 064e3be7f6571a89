#ifndef TERRACE_COMMAND_NOTIFY_H
#define TERRACE_COMMAND_NOTIFY_H

/* Keyspace events: what happened to which key, for those who subscribed to hear of it (notify-keyspace-events).
 *
 * A handler tells each event by one call of call_notify() (command.h), after the change and in the order in which the
 * changes happened. While nobody wants events of its class the call costs a relaxed load. That a key is new, was looked
 * for in vain, has expired or was evicted the keyspace tells by itself. */

#include <stdint.h>

/* The classes of events, with their letters; the bits stand in the order of config_type_events. */
enum notify_class {
    NOTIFY_GENERIC = 1 << 0,    /* g: DEL, EXPIRE, RENAME ...: commands of any type */
    NOTIFY_STRING = 1 << 1,     /* $ */
    NOTIFY_LIST = 1 << 2,       /* l */
    NOTIFY_SET = 1 << 3,        /* s */
    NOTIFY_HASH = 1 << 4,       /* h */
    NOTIFY_SORTED_SET = 1 << 5, /* z */
    NOTIFY_EXPIRED = 1 << 6,    /* x */
    NOTIFY_EVICTED = 1 << 7,    /* e */
    NOTIFY_STREAM = 1 << 8,     /* t */
    NOTIFY_MODULE = 1 << 9,     /* d */
    NOTIFY_NEW = 1 << 10,       /* n: a key that was not there before; not part of A, as the next but two */
    /* Where they are told. */
    NOTIFY_KEYSPACE = 1 << 11, /* K: on __keyspace@<db>__:<key>, the event is the message */
    NOTIFY_KEYEVENT = 1 << 12, /* E: on __keyevent@<db>__:<event>, the key is the message */
    NOTIFY_KEY_MISS = 1 << 13, /* m: a read of a key that is not there */
};

#endif
