#ifndef TERRACE_SERVER_CLIENT_LINE_H
#define TERRACE_SERVER_CLIENT_LINE_H

/* What CLIENT LIST and CLIENT INFO tell of a connection: one line of `name=value` words in the order that tools know,
 * and the classes and attributes that clients are picked by. */

#include "net/connection.h"

#include <stdio.h>

/* Prints the line, with its line end. On the connection's own worker, or while that stands still. */
void client_line_print(FILE *out, const struct connection *connection, int64_t now_ms);

/* A class by its name in any case: normal, replica or slave, pubsub, master. */
enum client_class { CLIENT_CLASS_NORMAL, CLIENT_CLASS_REPLICA, CLIENT_CLASS_PUBSUB, CLIENT_CLASS_MASTER };
bool client_class_parse(struct span name, enum client_class *class);
/* Monitors count as normal. */
enum client_class client_class_of(const struct connection *connection);

/* Whether a name, or what CLIENT SETINFO sets, keeps a line of CLIENT LIST in one piece: printable ASCII without
 * blanks. The empty text does. */
bool client_attribute_is_valid(struct span text);

/* Replaces an owned attribute by a copy of `text`, the empty text being none. False: no memory, nothing changed. */
bool client_attribute_set(char **attribute, struct span text) __attribute__((warn_unused_result));

#endif
