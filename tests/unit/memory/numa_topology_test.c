/* Nodes read from a made-up folder: CPUs, memory, distances, and hosts that show nothing. */

#include "memory/numa_topology.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct numa_topology topology;

static void write_node_file(int node, const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof(path), "node%d", node);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "node%d/%s", node, name);
    temporary_folder_write(path, text);
}

static void make_node(int node, const char *cpus, unsigned kilobytes, const char *distances) {
    char meminfo[256];
    write_node_file(node, "cpulist", cpus);
    write_node_file(node, "distance", distances);
    snprintf(meminfo, sizeof(meminfo),
             "Node %d MemTotal:       %u kB\nNode %d MemFree:        %u kB\nNode %d MemUsed: 1 kB\n", node, kilobytes,
             node, kilobytes / 2, node);
    write_node_file(node, "meminfo", meminfo);
}

static int tear_down(void **state) {
    (void)state;
    static const char *const files[] = {"cpulist", "distance", "meminfo"};
    for (int node = 0; node < 100; node++) {
        char path[64];
        for (unsigned i = 0; i < 3; i++) {
            snprintf(path, sizeof(path), "node%d/%s", node, files[i]);
            unlink(path);
        }
        snprintf(path, sizeof(path), "node%d", node);
        rmdir(path);
    }
    unlink("online");
    return 0;
}

static void read_with(const cpu_set_t *cpus, const cpu_set_t *nodes) {
    const struct numa_topology_options options = {.root = ".", .cpus = cpus, .nodes = nodes};
    memset(&topology, 0xa5, sizeof(topology));
    numa_topology_read(&topology, &options);
}

static cpu_set_t set_of(const char *list) {
    cpu_set_t set;
    assert_true(numa_list_parse(span_of_text(list), &set));
    return set;
}

static void check_set(const cpu_set_t *set, const char *expected) {
    char text[NUMA_LIST_MAX];
    assert_string_equal(numa_list_format(set, ',', text), expected);
}

/* ---- lists ---- */

static void a_list_is_read_and_written_in_the_kernel_s_form(void **state) {
    (void)state;
    static const char *const lists[] = {"0", "0-1", "0,2", "0-3,8-11", "7", "1023", "0-1023", "5,1022-1023"};
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        cpu_set_t set = set_of(lists[i]);
        check_set(&set, lists[i]);
    }
    char text[NUMA_LIST_MAX];
    cpu_set_t set = set_of("3,2,0-1,2-4,9"), empty;
    assert_string_equal(numa_list_format(&set, '+', text), "0-4+9");
    CPU_ZERO(&empty);
    assert_string_equal(numa_list_format(&empty, ',', text), "");
}

static void the_longest_list_fits(void **state) {
    (void)state;
    cpu_set_t set, again;
    char text[NUMA_LIST_MAX];
    CPU_ZERO(&set);
    for (int number = 1; number < CPU_SETSIZE; number += 2) CPU_SET(number, &set);
    numa_list_format(&set, ',', text);
    assert_true(numa_list_parse(span_of_text(text), &again));
    assert_true(CPU_EQUAL(&set, &again));
}

static void what_is_not_a_list_is_refused_and_changes_nothing(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",    ",",    "0,",    ",0",   "-1",     "0-",  "2-1",        "a",
        "0 1", "0,,1", "0-1-2", "1024", "0-1024", "0x1", "4294967296", "99999999999999999999",
        " 0",  "0 ",   "local", "+1"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cpu_set_t set = set_of("5");
        if (numa_list_parse(span_of_text(bad[i]), &set)) fail_msg("accepted: '%s'", bad[i]);
        check_set(&set, "5");
    }
}

/* ---- topologies ---- */

static void nodes_have_their_cpus_memory_and_distances(void **state) {
    (void)state;
    temporary_folder_write("online", "0-1,4\n");
    make_node(0, "0-1,8\n", 1000, "10 21 31\n");
    make_node(1, "2-3\n", 2000, "21 10 32\n");
    make_node(4, "\n", 4000, "31 32 10\n");
    read_with(NULL, NULL);
    assert_int_equal(topology.node_count, 3);
    assert_int_equal(topology.nodes[2].id, 4);
    check_set(&topology.nodes[0].cpus, "0-1,8");
    check_set(&topology.nodes[1].cpus, "2-3");
    assert_true(topology.nodes[1].has_cpus);
    assert_false(topology.nodes[2].has_cpus);
    assert_int_equal(topology.nodes[1].memory_bytes, 2000 * 1024);
    assert_int_equal(topology.nodes[1].free_bytes, 1000 * 1024);
    assert_int_equal(numa_topology_distance(&topology, 4, 1), 32);
    assert_int_equal(numa_topology_distance(&topology, 0, 4), 31);
    assert_int_equal(numa_topology_distance(&topology, 1, 1), 10);
    assert_int_equal(numa_topology_distance(&topology, 1, 3), 255);
    assert_ptr_equal(numa_topology_find(&topology, 4), &topology.nodes[2]);
    assert_null(numa_topology_find(&topology, 2));
}

static void only_what_the_process_may_use_counts(void **state) {
    (void)state;
    cpu_set_t cpus = set_of("1"), nodes = set_of("0");
    temporary_folder_write("online", "0-1\n");
    make_node(0, "0-1\n", 1000, "10 20\n");
    make_node(1, "2-3\n", 1000, "20 10\n");
    read_with(&cpus, &nodes);
    check_set(&topology.nodes[0].cpus, "1");
    check_set(&topology.nodes[1].cpus, "");
    assert_true(topology.nodes[1].has_cpus);
    assert_int_equal(topology.nodes[0].memory_bytes, 1000 * 1024);
    assert_int_equal(topology.nodes[1].memory_bytes, 0);
}

static void a_host_that_shows_nothing_is_one_node(void **state) {
    (void)state;
    cpu_set_t cpus = set_of("0-1");
    read_with(&cpus, NULL);
    assert_int_equal(topology.node_count, 1);
    assert_int_equal(topology.nodes[0].id, 0);
    assert_true(topology.nodes[0].has_cpus);
    assert_true(topology.nodes[0].memory_bytes > 0);
    check_set(&topology.nodes[0].cpus, "0-1");
    temporary_folder_write("online", "0-1\n"); /* nodes that show no memory */
    read_with(&cpus, NULL);
    assert_int_equal(topology.node_count, 1);
    temporary_folder_write("online", "none of this form");
    read_with(&cpus, NULL);
    assert_int_equal(topology.node_count, 1);
}

static void a_missing_or_short_distance_is_an_ordinary_one(void **state) {
    (void)state;
    temporary_folder_write("online", "0-2\n");
    make_node(0, "0\n", 1000, "10 17\n");
    make_node(1, "1\n", 1000, "");
    make_node(2, "2\n", 1000, "99999 nonsense\n");
    read_with(NULL, NULL);
    assert_int_equal(numa_topology_distance(&topology, 0, 1), 17);
    assert_int_equal(numa_topology_distance(&topology, 0, 2), 20);
    assert_int_equal(numa_topology_distance(&topology, 1, 0), 20);
    assert_int_equal(numa_topology_distance(&topology, 1, 1), 10);
    assert_int_equal(numa_topology_distance(&topology, 2, 0), 255);
}

static void nodes_past_the_bound_are_left_out(void **state) {
    (void)state;
    temporary_folder_write("online", "0-69\n");
    for (int node = 0; node < 70; node++) make_node(node, "\n", 1000, "10\n");
    read_with(NULL, NULL);
    assert_int_equal(topology.node_count, NUMA_NODES_MAX);
    assert_int_equal(topology.nodes[NUMA_NODES_MAX - 1].id, NUMA_NODES_MAX - 1);
}

static void memory_is_read_anew_on_request(void **state) {
    (void)state;
    uint64_t total, free_bytes;
    make_node(3, "0\n", 5000, "10\n");
    assert_true(numa_node_memory(".", 3, &total, &free_bytes));
    assert_int_equal(total, 5000 * 1024);
    make_node(3, "0\n", 6000, "10\n");
    assert_true(numa_node_memory(".", 3, &total, &free_bytes));
    assert_int_equal(free_bytes, 3000 * 1024);
    assert_false(numa_node_memory(".", 4, &total, &free_bytes));
    assert_int_equal(total, 0);
    write_node_file(3, "meminfo", "Node 3 MemFree: 7 kB\n");
    assert_false(numa_node_memory(".", 3, &total, &free_bytes));
}

static void this_host_has_memory_and_lets_us_use_some(void **state) {
    (void)state;
    cpu_set_t nodes;
    numa_allowed_nodes(&nodes);
    assert_true(CPU_COUNT(&nodes) > 0);
    const struct numa_topology_options options = {.nodes = &nodes};
    numa_topology_read(&topology, &options);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < topology.node_count; i++) bytes += topology.nodes[i].memory_bytes;
    assert_true(bytes > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_read_and_written_in_the_kernel_s_form),
        cmocka_unit_test(the_longest_list_fits),
        cmocka_unit_test(what_is_not_a_list_is_refused_and_changes_nothing),
        cmocka_unit_test_teardown(nodes_have_their_cpus_memory_and_distances, tear_down),
        cmocka_unit_test_teardown(only_what_the_process_may_use_counts, tear_down),
        cmocka_unit_test_teardown(a_host_that_shows_nothing_is_one_node, tear_down),
        cmocka_unit_test_teardown(a_missing_or_short_distance_is_an_ordinary_one, tear_down),
        cmocka_unit_test_teardown(nodes_past_the_bound_are_left_out, tear_down),
        cmocka_unit_test_teardown(memory_is_read_anew_on_request, tear_down),
        cmocka_unit_test(this_host_has_memory_and_lets_us_use_some),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
