#ifndef TERRACE_COMMAND_STRING_HANDLERS_H
#define TERRACE_COMMAND_STRING_HANDLERS_H

/* The handlers of the string family, which its table (string_table.c) names. See command_handler in command.h. */

#include "command/command.h"

/* string_commands.c: whole values. */
command_handler command_get, command_getdel, command_strlen;
/* string_set.c: values with conditions and expiry times. */
command_handler command_set, command_setnx, command_setex, command_psetex, command_getset, command_getex;
/* string_numbers.c: values as numbers. */
command_handler command_incr, command_decr, command_incrby, command_decrby, command_incrbyfloat;
/* string_ranges.c: parts of values. */
command_handler command_append, command_getrange, command_setrange;
/* string_many.c: several keys at once. */
command_handler command_mget, command_mset, command_msetnx;
/* string_lcs.c */
command_handler command_lcs;

#endif
