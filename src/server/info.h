#ifndef TERRACE_SERVER_INFO_H
#define TERRACE_SERVER_INFO_H

/* The report of INFO: sections of `name:value` lines, with the names and the order of Redis 7.2, since programs find
 * figures by the first place where a name occurs. What belongs to features that are not here has the value it has in
 * an idle Redis; figures of our own stand at the end of their section. */

#include "keyspace/keyspace.h"
#include "server/text.h"

struct server;
struct metrics_memory;
struct metrics_totals;

/* What the sections are written from; collected once for a report. */
struct info_source {
    struct server *server;
    const struct view *view;
    const struct metrics_memory *memory;
    const struct metrics_totals *totals;
};

/* Writes the sections that `names` asks for, in the order of INFO; none asked for: the default ones. Unknown names are
 * ignored. No shard lock may be held unless view->locked_all; no worker has to stand still. */
void info_write(struct server *server, const struct view *view, const struct span *names, size_t count,
                struct text *text);

/* A section: its name for clients, its heading, and who writes it. */
typedef void info_section_writer(const struct info_source *source, struct text *text);

/* Sections about commands: info_commandstats.c. */
info_section_writer info_commandstats, info_errorstats, info_latencystats;
/* Sections about memory and figures that count: info_figures.c. */
info_section_writer info_memory, info_stats, info_cpu, info_keyspace;
/* Nodes of this host: info_numa.c. */
info_section_writer info_numa;
/* Media, moving and reading: info_tier.c. */
info_section_writer info_tier;
/* The pool of persistent memory and its journal: pmem_start.c. */
info_section_writer info_pmem;

#endif
