#ifndef TERRACE_COMMAND_GEO_HANDLERS_H
#define TERRACE_COMMAND_GEO_HANDLERS_H

/* The handlers of the family of places, and what their files share. */

#include "command/command.h"
#include "record/geohash.h"

command_handler command_geoadd, command_geodist, command_geohash, command_geopos;
command_handler command_georadius, command_georadius_ro, command_georadiusbymember, command_georadiusbymember_ro,
    command_geosearch, command_geosearchstore;

/* Arguments index and index + 1. False: the error is composed. */
bool call_geo_point(struct call *call, uint32_t index, struct geo_point *point) __attribute__((warn_unused_result));
/* The metres of a unit. False: the error is composed. */
bool call_geo_unit(struct call *call, uint32_t index, double *metres) __attribute__((warn_unused_result));
/* A coordinate, or [longitude, latitude], with 17 digits behind the point. */
void reply_geo_point(struct reply *reply, struct geo_point point);
/* A distance, with four digits behind the point. */
void reply_geo_distance(struct reply *reply, double distance);

#endif
