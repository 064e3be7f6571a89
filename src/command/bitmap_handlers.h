#ifndef TERRACE_COMMAND_BITMAP_HANDLERS_H
#define TERRACE_COMMAND_BITMAP_HANDLERS_H

/* The handler that the bitmap family's table (bitmap_commands.c) names and another file holds. */

#include "command/command.h"

/* bitfield_commands.c: BITFIELD and BITFIELD_RO. */
command_handler command_bitfield;

#endif
