#ifndef TERRACE_COMMAND_STREAM_HANDLERS_H
#define TERRACE_COMMAND_STREAM_HANDLERS_H

/* The handlers of the stream family, which its table (stream_table.c) names. See command_handler in command.h. */

#include "command/command.h"

/* stream_add.c: entries in and out. */
command_handler command_xadd, command_xtrim, command_xdel, command_xlen, command_xsetid, command_xcfgset;
/* stream_range.c */
command_handler command_xrange, command_xrevrange;
/* stream_read.c */
command_handler command_xread, command_xreadgroup;
/* stream_groups.c: groups, and what is pending. */
command_handler command_xgroup_create, command_xgroup_setid, command_xgroup_destroy, command_xgroup_createconsumer,
    command_xgroup_delconsumer, command_xgroup_help, command_xack, command_xpending;
/* stream_claim.c */
command_handler command_xclaim, command_xautoclaim;
/* stream_info.c */
command_handler command_xinfo_stream, command_xinfo_groups, command_xinfo_consumers, command_xinfo_help;

#endif
