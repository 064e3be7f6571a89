/* The checksum of RDB: the published value, and sums joined. */

#include "base/random.h"
#include "persist/crc64.h"

#include <setjmp.h>
#include <stdarg.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static void it_is_that_of_redis(void **state) {
    (void)state;
    assert_int_equal(crc64(0, "123456789", 9), UINT64_C(0xe9c6d914c4b8d9ca));
    assert_int_equal(crc64(crc64(0, "1234", 4), "56789", 5), UINT64_C(0xe9c6d914c4b8d9ca));
    assert_int_equal(crc64(0, "", 0), 0);
    assert_int_equal(crc64(17, "", 0), 17);
}

static void joined_it_is_that_of_the_whole(void **state) {
    (void)state;
    struct random random;
    unsigned char bytes[5000];
    random_seed(&random, 7);
    for (unsigned i = 0; i < sizeof(bytes); i++) bytes[i] = (unsigned char)random_below(&random, 256);
    for (unsigned i = 0; i < 300; i++) {
        size_t length = random_below(&random, sizeof(bytes) + 1), cut = random_below(&random, length + 1);
        uint64_t a = crc64(0, bytes, cut), b = crc64(0, bytes + cut, length - cut);
        assert_int_equal(crc64_joined(a, b, length - cut), crc64(0, bytes, length));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_that_of_redis),
        cmocka_unit_test(joined_it_is_that_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
