#ifndef TERRACE_SERVER_CLIENT_HANDLERS_H
#define TERRACE_SERVER_CLIENT_HANDLERS_H

/* The handlers of CLIENT's subcommands, for the family's table. */

#include "command/command.h"

command_handler client_getname, client_getredir, client_help, client_id, client_info, client_kill, client_list;
command_handler client_no_evict, client_no_touch, client_pause, client_reply, client_setinfo, client_setname;
command_handler client_unblock, client_unpause, client_tracking, client_trackinginfo, client_caching;

#endif
