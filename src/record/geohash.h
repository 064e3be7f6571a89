#ifndef TERRACE_RECORD_GEOHASH_H
#define TERRACE_RECORD_GEOHASH_H

/* Places on earth as numbers of 52 bits, the scores of members of a geospatial index, and areas of them.
 *
 * Longitude and latitude are each cut in halves 26 times; the choices are interleaved, longitude first:
 *
 *    bit 51   50   49   48        1    0
 *       lon  lat  lon  lat  ...  lon  lat
 *
 * so the numbers of all places within one cell of a coarser grid are consecutive. A grid of `step` has 2^step cells in
 * either direction; a cell is known by its 2 * step bits. The world is -180 to 180 by -85.05112878 to 85.05112878
 * degrees, the square map of web mercator; numbers, and what is computed of them, are Redis's to the last bit.
 *
 * All functions are pure. */

#include <stdbool.h>
#include <stdint.h>

#define GEOHASH_LONGITUDE_MAX 180.0
#define GEOHASH_LATITUDE_MAX  85.05112878
enum { GEOHASH_STEPS = 26, GEOHASH_TEXT_LENGTH = 11, GEOHASH_CELLS = 9 };

struct geo_point {
    double longitude, latitude; /* degrees */
};

/* Whether a place can be stored. */
static inline bool geo_point_is_valid(struct geo_point point) {
    return point.longitude >= -GEOHASH_LONGITUDE_MAX && point.longitude <= GEOHASH_LONGITUDE_MAX &&
           point.latitude >= -GEOHASH_LATITUDE_MAX && point.latitude <= GEOHASH_LATITUDE_MAX;
}

/* The number of a place, and the middle of the cell that a number means. Precondition: the place is valid. */
uint64_t geohash_encode(struct geo_point point);
struct geo_point geohash_decode(uint64_t bits);

/* The number that a score means. */
uint64_t geohash_of_score(double score);

/* The geohash of the place as it is written elsewhere, on the map of -90 to 90 degrees: 11 characters of base 32, the
 * last always '0' since 52 bits have no more. */
void geohash_text(uint64_t bits, char text[GEOHASH_TEXT_LENGTH]);

/* Metres along the sphere. */
double geo_distance(struct geo_point a, struct geo_point b);

/* ---- searching ---- */

struct geo_shape {
    bool is_box;
    struct geo_point centre;
    double radius, width, height; /* in units of `metres` */
    double metres;
};

/* Whether the point is inside; if so, how far from the centre, in metres. */
bool geo_shape_has(const struct geo_shape *shape, struct geo_point point, double *distance);

/* Numbers from `first` to below `end`. */
struct geo_cell {
    uint64_t first, end;
};
/* Cells that cover the shape: at most 9, no two the same in a row. They are in the order in which Redis searches them,
 * which can be seen in unsorted replies. Returns how many. */
unsigned geo_shape_cells(const struct geo_shape *shape, struct geo_cell cells[GEOHASH_CELLS]);

#endif
