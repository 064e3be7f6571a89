/* Places: added, asked for, found within circles and boxes, stored. */

#include "command/families.h"
#include "tests/support/in_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static int start(void **state) {
    const struct command_family families[] = {{geo_commands, geo_command_count},
                                              {sorted_set_commands, sorted_set_command_count},
                                              {string_commands, string_command_count}};
    *state = in_process_create(families, 3);
    in_process_run(*state, "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania");
    return 0;
}

static void places_are_told(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "ZSCORE g Palermo", "$16\r\n3479099956230698\r\n");
    in_process_expect(server, "GEOHASH g Palermo none", "*2\r\n$11\r\nsqc8b49rny0\r\n$-1\r\n");
    in_process_expect(server, "GEOPOS g none Catania",
                      "*2\r\n*-1\r\n*2\r\n$20\r\n15.08726745843887329\r\n$20\r\n37.50266842333162032\r\n");
    in_process_expect(server, "GEODIST g Palermo Catania", "$11\r\n166274.1516\r\n");
    in_process_expect(server, "GEODIST g Palermo Catania MI", "$8\r\n103.3182\r\n");
    in_process_expect(server, "GEODIST g Palermo none", "$-1\r\n");
    in_process_expect(server, "GEODIST g Palermo Catania league",
                      "-ERR unsupported unit provided. please use M, KM, FT, MI\r\n");
    server->session->protocol = 3;
    in_process_expect(server, "GEOPOS g Catania", "*1\r\n*2\r\n,15.08726745843887329\r\n,37.50266842333162032\r\n");
}

static void adding_checks_places(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "GEOADD g 181 0 a", "-ERR invalid longitude,latitude pair 181.000000,0.000000\r\n");
    in_process_expect(server, "GEOADD g x 0 a", "-" ERROR_NOT_FLOAT "\r\n");
    in_process_expect(server, "GEOADD g NX XX 1 1 a", "-ERR syntax error\r\n");
    in_process_expect(server, "GEOADD g NX CH CH", "-ERR syntax error\r\n");
    in_process_expect(server, "GEOADD g XX CH 13.4 38.1 Palermo 1 1 a", ":1\r\n");
    in_process_expect(server, "ZCARD g", ":2\r\n");
}

static void shapes_have_what_is_inside(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST",
                      "*2\r\n*2\r\n$7\r\nCatania\r\n$7\r\n56.4413\r\n*2\r\n$7\r\nPalermo\r\n$8\r\n190.4424\r\n");
    in_process_expect(server, "GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km DESC",
                      "*2\r\n$7\r\nPalermo\r\n$7\r\nCatania\r\n");
    in_process_expect(server, "GEOSEARCH g FROMMEMBER Palermo BYRADIUS 100 km", "*1\r\n$7\r\nPalermo\r\n");
    in_process_expect(server, "GEORADIUS g 15 37 200 km COUNT 1 WITHHASH",
                      "*1\r\n*2\r\n$7\r\nCatania\r\n:3479447370796909\r\n");
    in_process_expect(server, "GEORADIUSBYMEMBER_RO g Catania 1 m", "*1\r\n$7\r\nCatania\r\n");
    in_process_expect(server, "GEOSEARCH none FROMMEMBER x BYRADIUS 1 m", "*0\r\n");
}

static void what_was_found_is_stored(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "GEOSEARCHSTORE r g FROMLONLAT 15 37 BYRADIUS 100 km", ":1\r\n");
    in_process_expect(server, "ZRANGE r 0 -1 WITHSCORES", "*2\r\n$7\r\nCatania\r\n$16\r\n3479447370796909\r\n");
    in_process_expect(server, "GEORADIUS g 15 37 200 km STOREDIST r", ":2\r\n");
    in_process_expect(server, "ZRANGE r 0 -1", "*2\r\n$7\r\nCatania\r\n$7\r\nPalermo\r\n");
    in_process_expect(server, "GEOSEARCHSTORE r none FROMMEMBER x BYRADIUS 100 km", ":0\r\n");
    in_process_expect(server, "ZCARD r", ":0\r\n");
    in_process_expect(
        server, "GEORADIUS g 15 37 200 km STORE r WITHDIST",
        "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options\r\n");
    in_process_expect(server, "GEORADIUS_RO g 15 37 200 km STORE r", "-ERR syntax error\r\n");
    /* The second destination is not one of the keys that a router would see. */
    in_process_expect(server, "GEORADIUS g 15 37 200 km STORE r STORE q", "-ERR syntax error\r\n");
    in_process_expect(server, "ZCARD q", ":0\r\n");
}

static void options_must_fit_together(void **state) {
    struct in_process *server = *state;
    in_process_expect(server, "GEOSEARCH g BYRADIUS 1 m FROMMEMBER Palermo FROMLONLAT 1 1", "-ERR syntax error\r\n");
    in_process_expect(server, "GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 m BYBOX 1 1 m", "-ERR syntax error\r\n");
    in_process_expect(server, "GEOSEARCH g BYRADIUS 1 m ASC ASC ASC",
                      "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH\r\n");
    in_process_expect(server, "geosearch g FROMMEMBER Palermo ASC ASC ASC",
                      "-ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch\r\n");
    in_process_expect(server, "GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 m ANY",
                      "-ERR the ANY argument requires COUNT argument\r\n");
    in_process_expect(server, "GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 m COUNT 0", "-ERR COUNT must be > 0\r\n");
    in_process_expect(server, "GEOSEARCH g FROMMEMBER Palermo BYRADIUS -1 m", "-ERR radius cannot be negative\r\n");
    in_process_expect(server, "GEOSEARCH g FROMMEMBER Palermo BYBOX 1 -1 m",
                      "-ERR height or width cannot be negative\r\n");
    in_process_expect(server, "GEOSEARCH g FROMMEMBER none BYRADIUS 1 m",
                      "-ERR could not decode requested zset member\r\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(places_are_told, start, in_process_stop),
        cmocka_unit_test_setup_teardown(adding_checks_places, start, in_process_stop),
        cmocka_unit_test_setup_teardown(shapes_have_what_is_inside, start, in_process_stop),
        cmocka_unit_test_setup_teardown(what_was_found_is_stored, start, in_process_stop),
        cmocka_unit_test_setup_teardown(options_must_fit_together, start, in_process_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
