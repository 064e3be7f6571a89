/* Places as numbers: known ones, there and back, and that the cells of a shape cover it. */

#include "base/random.h"
#include "base/span.h"
#include "record/geohash.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static const struct geo_point palermo = {13.361389, 38.115556}, catania = {15.087269, 37.502669};

static void known_places_have_their_numbers(void **state) {
    (void)state;
    char text[GEOHASH_TEXT_LENGTH];
    assert_int_equal(geohash_encode(palermo), 3479099956230698);
    assert_int_equal(geohash_encode(catania), 3479447370796909);
    geohash_text(3479099956230698, text);
    assert_memory_equal(text, "sqc8b49rny0", sizeof(text));
    geohash_text(3479447370796909, text);
    assert_memory_equal(text, "sqdtr74hyu0", sizeof(text));
    double distance = geo_distance(geohash_decode(3479099956230698), geohash_decode(3479447370796909));
    assert_true(fabs(distance - 166274.1516) < 0.0001);
}

static void a_number_is_within_a_metre_of_its_place(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, 1);
    for (unsigned i = 0; i < 100000; i++) {
        struct geo_point point = {random_fraction(&random) * 360 - 180, random_fraction(&random) * 170 - 85};
        uint64_t bits = geohash_encode(point);
        assert_true(bits < UINT64_C(1) << 52);
        assert_true(geo_distance(point, geohash_decode(bits)) < 1);
        assert_int_equal(geohash_encode(geohash_decode(bits)), bits);
    }
}

static void scores_that_are_no_places_are_taken(void **state) {
    (void)state;
    assert_int_equal(geohash_of_score(INFINITY), UINT64_MAX);
    assert_int_equal(geohash_of_score(-INFINITY), UINT64_C(1) << 63);
    assert_int_equal(geohash_of_score(-1), UINT64_MAX);
    assert_int_equal(geohash_of_score(3.9), 3);
    assert_true(geo_point_is_valid(geohash_decode(UINT64_MAX)));
}

static bool is_covered(const struct geo_cell *cells, unsigned count, struct geo_point point) {
    uint64_t bits = geohash_encode(point);
    for (unsigned i = 0; i < count; i++)
        if (bits >= cells[i].first && bits < cells[i].end) return true;
    return false;
}

/* Far from the poles and from where the map ends; nearer than that Redis misses some as well. */
static void cells_cover_their_shape(void **state) {
    (void)state;
    struct random random;
    unsigned inside = 0;
    random_seed(&random, 2);
    for (unsigned i = 0; i < 2000; i++) {
        struct geo_shape shape = {
            .is_box = random_once_in(&random, 2),
            .centre = {random_fraction(&random) * 300 - 150, random_fraction(&random) * 100 - 50},
            .metres = 1000,
        };
        shape.radius = shape.width = pow(10, random_fraction(&random) * 3);
        shape.height = shape.width * (0.2 + random_fraction(&random));
        struct geo_cell cells[GEOHASH_CELLS];
        unsigned count = geo_shape_cells(&shape, cells);
        assert_in_range(count, 1, GEOHASH_CELLS);
        double degrees = shape.radius / 60;
        for (unsigned j = 0; j < 50; j++) {
            struct geo_point point = {shape.centre.longitude + (random_fraction(&random) - 0.5) * degrees,
                                      shape.centre.latitude + (random_fraction(&random) - 0.5) * degrees};
            double distance;
            if (!geo_point_is_valid(point) || !geo_shape_has(&shape, point, &distance)) continue;
            inside++;
            assert_true(is_covered(cells, count, point));
        }
    }
    assert_true(inside > 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_places_have_their_numbers),
        cmocka_unit_test(a_number_is_within_a_metre_of_its_place),
        cmocka_unit_test(scores_that_are_no_places_are_taken),
        cmocka_unit_test(cells_cover_their_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
