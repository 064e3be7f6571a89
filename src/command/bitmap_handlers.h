#ifndef TERRACE_COMMAND_BITMAP_HANDLERS_H
#define TERRACE_COMMAND_BITMAP_HANDLERS_H

/* The handlers that the bitmap family's table (bitmap_commands.c) names and other files hold. */

#include "command/command.h"

/* bitfield_commands.c: BITFIELD and BITFIELD_RO. */
command_handler command_bitfield;
/* bitmap_combine.c: BITOP. */
command_handler command_bitop;

#endif
