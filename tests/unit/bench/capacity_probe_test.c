/* Reading what INFO and /proc say, and knowing when they do not. */
#include "bench/capacity_probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void numbers_of_info_are_found_by_whole_name(void **state) {
    (void)state;
    const char *info =
        "# Memory\r\nused_memory_rss:77\r\nused_memory:55\r\nused_memory_human:1M\r\n\r\n# T\r\ntier_hits:3\r\n";
    assert_int_equal(probe_find_number(info, "used_memory"), 55);
    assert_int_equal(probe_find_number(info, "used_memory_rss"), 77);
    assert_int_equal(probe_find_number(info, "tier_hits"), 3);
    assert_int_equal(probe_find_number(info, "hits"), -1);
    assert_int_equal(probe_find_number(info, "dram_hits"), -1);
    assert_int_equal(probe_find_number("name:redis\r\n", "name"), -1);
}

static void a_process_may_have_any_name(void **state) {
    (void)state;
    struct probe_sample sample;
    const char *stat =
        "12 (a ) R 9 (b) S 1 12 12 0 -1 4194560 1681 0 0 0 250 150 0 0 20 0 5 0 2034190 74129408 3000 1 2";
    probe_parse_stat(stat, 100, 4096, &sample);
    assert_int_equal(sample.cpu_ns, 4000000000);
    assert_int_equal(sample.rss_bytes, 3000 * 4096);
    probe_parse_stat("12 (cut) S 1 12", 100, 4096, &sample);
    assert_int_equal(sample.cpu_ns, -1);
    assert_int_equal(sample.rss_bytes, -1);
    probe_parse_stat(NULL, 100, 4096, &sample);
    assert_int_equal(sample.rss_bytes, -1);
}

static void bytes_of_devices_are_not_those_of_calls(void **state) {
    (void)state;
    struct probe_sample sample;
    probe_parse_io("rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n", &sample);
    assert_int_equal(sample.io_read_bytes, 4096);
    assert_int_equal(sample.io_write_bytes, 8192);
    probe_parse_io(NULL, &sample);
    assert_int_equal(sample.io_read_bytes, -1);
}

static void a_device_is_found_by_whole_name(void **state) {
    (void)state;
    struct probe_sample sample;
    const char *text =
        " 259 1 nvme0n1p1 1 0 2 0 3 0 4 0 0 0 0\n 259 0 nvme0n1 10 5 80 7 20 6 160 8 0 9 9 0 0 0 0 0 0\n";
    assert_true(probe_parse_device(text, "nvme0n1", &sample));
    assert_int_equal(sample.device_reads, 10);
    assert_int_equal(sample.device_read_bytes, 80 * 512);
    assert_int_equal(sample.device_writes, 20);
    assert_int_equal(sample.device_write_bytes, 160 * 512);
    assert_false(probe_parse_device(text, "nvme0", &sample));
    assert_int_equal(sample.device_reads, -1);
    assert_false(probe_parse_device(NULL, "nvme0", &sample));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_info_are_found_by_whole_name),
        cmocka_unit_test(a_process_may_have_any_name),
        cmocka_unit_test(bytes_of_devices_are_not_those_of_calls),
        cmocka_unit_test(a_device_is_found_by_whole_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
