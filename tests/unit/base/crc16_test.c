/* The sliced checksum against a bit by bit one, and slots as CLUSTER KEYSLOT of redis-server answers them. */

#include "base/crc16.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint16_t crc16_bit_by_bit(const uint8_t *bytes, size_t length) {
    uint16_t crc = 0;
    for (size_t i = 0; i < length; i++) {
        crc ^= (uint16_t)(bytes[i] << 8);
        for (int bit = 0; bit < 8; bit++) crc = (uint16_t)((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0));
    }
    return crc;
}

static void checksum_equals_the_published_check_value(void **state) {
    (void)state;
    assert_int_equal(crc16_compute("123456789", 9), 0x31c3);
    assert_int_equal(crc16_compute("", 0), 0);
}

static void checksum_equals_the_definition_at_every_length(void **state) {
    (void)state;
    uint8_t bytes[300];
    srand48(1);
    for (size_t length = 0; length < sizeof(bytes); length++) {
        for (int round = 0; round < 20; round++) {
            for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)lrand48();
            assert_int_equal(crc16_compute(bytes, length), crc16_bit_by_bit(bytes, length));
        }
    }
}

static void slot_is_that_of_the_hash_tag(void **state) {
    (void)state;
    static const struct {
        const char *key;
        unsigned slot;
    } cases[] = {
        {"", 0},
        {"foo", 12182},
        {"{foo}", 12182},
        {"bar{foo}baz{other}", 12182},
        {"{foo}{bar}", 12182},
        {"foo{}{bar}", 8363},
        {"foo{{bar}}zap", 4015},
        {"foo{bar", 15278},
        {"foo}bar{", 11073},
        {"{", 4092},
        {"{}", 15257},
        {"{user1000}.following", 3443},
        {"user1000", 3443},
        {"a-long-key-with-its-brace-at-the-end{x", 10798},
        {"0123456789abcdef{x}", 16287},
        {"01234567{x}", 16287},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned slot = cluster_slot_of(span_of_text(cases[i].key));
        if (slot != cases[i].slot) fail_msg("%s: %u, not %u", cases[i].key, slot, cases[i].slot);
    }
}

static void brace_is_found_at_every_place_of_every_length(void **state) {
    (void)state;
    char key[40];
    for (size_t length = 0; length <= sizeof(key); length++) {
        memset(key, 'z', sizeof(key));
        assert_false(cluster_key_has_brace(span_of(key, length)));
        for (size_t at = 0; at < sizeof(key); at++) {
            memset(key, at % 2 ? '|' : (char)0xfb, sizeof(key));
            key[at] = '{';
            assert_int_equal(cluster_key_has_brace(span_of(key, length)), at < length);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksum_equals_the_published_check_value),
        cmocka_unit_test(checksum_equals_the_definition_at_every_length),
        cmocka_unit_test(slot_is_that_of_the_hash_tag),
        cmocka_unit_test(brace_is_found_at_every_place_of_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
