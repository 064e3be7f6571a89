/* Places as numbers: see geohash.h.
 *
 * A search looks at the cell in which its centre lies and its eight neighbours, in a grid whose cells are at least as
 * wide as the shape reaches. The step of the grid is estimated by the radius, taken coarser near the poles where cells
 * are narrow, and once more when a neighbour turns out not to reach as far as the shape. Neighbours that lie behind the
 * shape's bounding box are left out. Near the edges of the map the neighbours are those of the other side. */

#include "record/geohash.h"

#include <math.h>
#include <string.h>

#define EARTH_RADIUS_METRES 6372797.560856
#define MERCATOR_MAX_METRES 20037726.37
#define DEGREE              (M_PI / 180.0)

/* ---- numbers ---- */

/* Puts a zero before each of the 32 bits. */
static uint64_t spread(uint32_t value) {
    uint64_t x = value;
    x = (x | x << 16) & UINT64_C(0x0000ffff0000ffff);
    x = (x | x << 8) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x | x << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    x = (x | x << 2) & UINT64_C(0x3333333333333333);
    return (x | x << 1) & UINT64_C(0x5555555555555555);
}

/* Keeps every second bit, beginning with the lowest. */
static uint32_t gather(uint64_t x) {
    x &= UINT64_C(0x5555555555555555);
    x = (x | x >> 1) & UINT64_C(0x3333333333333333);
    x = (x | x >> 2) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    x = (x | x >> 4) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x | x >> 8) & UINT64_C(0x0000ffff0000ffff);
    return (uint32_t)(x | x >> 16);
}

/* A cell of the grid of `step`, by its place in each direction. */
struct cell {
    uint32_t x, y;
    unsigned step;
};

struct area {
    double west, east, south, north;
};

/* Latitudes reach from -limit to limit. */
static struct cell cell_at(struct geo_point point, double limit, unsigned step) {
    double cells = (double)(UINT64_C(1) << step);
    double x = (point.longitude + GEOHASH_LONGITUDE_MAX) / (2 * GEOHASH_LONGITUDE_MAX);
    double y = (point.latitude + limit) / (2 * limit);
    return (struct cell){(uint32_t)(x * cells), (uint32_t)(y * cells), step};
}

static uint64_t bits_of(struct cell cell) {
    return spread(cell.y) | spread(cell.x) << 1;
}
static struct cell cell_of(uint64_t bits, unsigned step) {
    return (struct cell){gather(bits >> 1), gather(bits), step};
}

static struct area area_of(struct cell cell) {
    double cells = (double)(UINT64_C(1) << cell.step);
    double wide = 2 * GEOHASH_LONGITUDE_MAX, high = 2 * GEOHASH_LATITUDE_MAX;
    return (struct area){.west = -GEOHASH_LONGITUDE_MAX + (cell.x * 1.0 / cells) * wide,
                         .east = -GEOHASH_LONGITUDE_MAX + ((cell.x + 1.0) / cells) * wide,
                         .south = -GEOHASH_LATITUDE_MAX + (cell.y * 1.0 / cells) * high,
                         .north = -GEOHASH_LATITUDE_MAX + ((cell.y + 1.0) / cells) * high};
}

static double clamp(double value, double limit) {
    return value > limit ? limit : value < -limit ? -limit : value;
}

uint64_t geohash_encode(struct geo_point point) {
    return bits_of(cell_at(point, GEOHASH_LATITUDE_MAX, GEOHASH_STEPS));
}

struct geo_point geohash_decode(uint64_t bits) {
    struct area area = area_of(cell_of(bits, GEOHASH_STEPS));
    return (struct geo_point){clamp((area.west + area.east) / 2, GEOHASH_LONGITUDE_MAX),
                              clamp((area.south + area.north) / 2, GEOHASH_LATITUDE_MAX)};
}

uint64_t geohash_of_score(double score) {
    if (score >= 0x1p64) return UINT64_MAX;
    if (score >= 0) return (uint64_t)score;
    return score <= -0x1p63 ? UINT64_C(1) << 63 : (uint64_t)(int64_t)score;
}

void geohash_text(uint64_t bits, char text[GEOHASH_TEXT_LENGTH]) {
    static const char alphabet[] = "0123456789bcdefghjkmnpqrstuvwxyz";
    uint64_t whole = bits_of(cell_at(geohash_decode(bits), 90, GEOHASH_STEPS));
    for (unsigned i = 0; i < GEOHASH_TEXT_LENGTH; i++)
        text[i] = i == GEOHASH_TEXT_LENGTH - 1 ? '0' : alphabet[whole >> (52 - 5 * (i + 1)) & 31];
}

/* ---- distances ---- */

static double distance_of_latitudes(double a, double b) {
    return EARTH_RADIUS_METRES * fabs(b * DEGREE - a * DEGREE);
}

/* The haversine formula. */
double geo_distance(struct geo_point a, struct geo_point b) {
    double v = sin((b.longitude * DEGREE - a.longitude * DEGREE) / 2);
    if (v == 0) return distance_of_latitudes(a.latitude, b.latitude);
    double from = a.latitude * DEGREE, to = b.latitude * DEGREE;
    double u = sin((to - from) / 2);
    return 2.0 * EARTH_RADIUS_METRES * asin(sqrt(u * u + cos(from) * cos(to) * v * v));
}

bool geo_shape_has(const struct geo_shape *shape, struct geo_point point, double *distance) {
    if (!shape->is_box) {
        *distance = geo_distance(shape->centre, point);
        return !(*distance > shape->radius * shape->metres);
    }
    if (distance_of_latitudes(point.latitude, shape->centre.latitude) > shape->height * shape->metres / 2) return false;
    const struct geo_point beside = {shape->centre.longitude, point.latitude};
    if (geo_distance(point, beside) > shape->width * shape->metres / 2) return false;
    *distance = geo_distance(shape->centre, point);
    return true;
}

/* ---- cells of a shape ---- */

static unsigned estimated_step(double radius_metres, double latitude) {
    int step = 1;
    if (radius_metres == 0) return GEOHASH_STEPS;
    for (; radius_metres < MERCATOR_MAX_METRES; radius_metres *= 2) step++;
    step -= 2; /* so that the cells are wide enough in most cases */
    if (fabs(latitude) > 66) step -= fabs(latitude) > 80 ? 2 : 1;
    return step < 1 ? 1 : step > GEOHASH_STEPS ? GEOHASH_STEPS : (unsigned)step;
}

static struct area bounds_of(const struct geo_shape *shape) {
    double height = shape->metres * (shape->is_box ? shape->height / 2 : shape->radius);
    double width = shape->metres * (shape->is_box ? shape->width / 2 : shape->radius);
    double latitude = shape->centre.latitude, longitude = shape->centre.longitude;
    double up = height / EARTH_RADIUS_METRES / DEGREE;
    /* The side nearer to the pole is the wider one in degrees. */
    double edge = latitude < 0 ? latitude - up : latitude + up;
    double aside = width / EARTH_RADIUS_METRES / cos(edge * DEGREE) / DEGREE;
    return (struct area){
        .west = longitude - aside, .east = longitude + aside, .south = latitude - up, .north = latitude + up};
}

/* The very edge of the map, 180 degrees, lies one past the last cell, and stays so in a direction without a step. */
static struct cell neighbour(struct cell cell, int x, int y) {
    uint32_t mask = (uint32_t)((UINT64_C(1) << cell.step) - 1);
    if (x) cell.x = (cell.x + (uint32_t)x) & mask;
    if (y) cell.y = (cell.y + (uint32_t)y) & mask;
    return cell;
}

static bool neighbours_fall_short(struct cell centre, const struct area *bounds) {
    return area_of(neighbour(centre, 0, 1)).north < bounds->north ||
           area_of(neighbour(centre, 0, -1)).south > bounds->south ||
           area_of(neighbour(centre, 1, 0)).east < bounds->east ||
           area_of(neighbour(centre, -1, 0)).west > bounds->west;
}

unsigned geo_shape_cells(const struct geo_shape *shape, struct geo_cell cells[GEOHASH_CELLS]) {
    static const struct {
        int x, y;
    } order[GEOHASH_CELLS] = {{0, 0}, {0, 1}, {0, -1}, {1, 0}, {-1, 0}, {1, 1}, {-1, 1}, {1, -1}, {-1, -1}};
    double reach = shape->is_box
                       ? sqrt((shape->width / 2) * (shape->width / 2) + (shape->height / 2) * (shape->height / 2))
                       : shape->radius;
    const struct area bounds = bounds_of(shape);
    unsigned step = estimated_step(reach * shape->metres, shape->centre.latitude), count = 0;
    struct cell centre = cell_at(shape->centre, GEOHASH_LATITUDE_MAX, step);
    if (step > 1 && neighbours_fall_short(centre, &bounds))
        centre = cell_at(shape->centre, GEOHASH_LATITUDE_MAX, --step);
    const struct area area = area_of(centre);
    for (unsigned i = 0; i < GEOHASH_CELLS; i++) {
        bool behind = step >= 2 &&
                      ((order[i].y < 0 && area.south < bounds.south) || (order[i].y > 0 && area.north > bounds.north) ||
                       (order[i].x < 0 && area.west < bounds.west) || (order[i].x > 0 && area.east > bounds.east));
        if (behind) continue;
        uint64_t bits = bits_of(neighbour(centre, order[i].x, order[i].y));
        unsigned shift = 2 * (GEOHASH_STEPS - step);
        const struct geo_cell cell = {bits << shift, (bits + 1) << shift};
        if (count == 0 || cells[count - 1].first != cell.first) cells[count++] = cell;
    }
    return count;
}
