/* Plans for made-up hosts: which nodes hold shards, which are far memory, where workers run, and what is refused. */

#include "memory/numa_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { GIGABYTE = 1024 * 1024 * 1024 };

static struct numa_topology host;
static struct numa_plan plan;
static char error[NUMA_ERROR_MAX];

/* ---- hosts ---- */

static void add_node(int id, const char *cpus, uint64_t memory_bytes) {
    struct numa_node *node = &host.nodes[host.node_count++];
    memset(node, 0, sizeof(*node));
    node->id = id;
    node->memory_bytes = memory_bytes;
    if (cpus) assert_true(numa_list_parse(span_of_text(cpus), &node->cpus));
    node->has_cpus = cpus != NULL;
    for (unsigned i = 0; i < host.node_count; i++) {
        node->distance[i] = i + 1 == host.node_count ? 10 : 20;
        host.nodes[i].distance[host.node_count - 1] = node->distance[i];
    }
}

static void set_distance(unsigned a, unsigned b, unsigned distance) {
    host.nodes[a].distance[b] = host.nodes[b].distance[a] = distance;
}

/* Two sockets of four CPUs, and beside each a node of memory alone. */
static void make_two_sockets_with_far_memory(void) {
    host.node_count = 0;
    add_node(0, "0-3", GIGABYTE);
    add_node(1, "4-7", GIGABYTE);
    add_node(2, NULL, GIGABYTE);
    add_node(3, NULL, GIGABYTE);
    set_distance(0, 2, 17);
    set_distance(1, 3, 17);
    set_distance(0, 3, 28);
    set_distance(1, 2, 28);
}

static void make_one_node(void) {
    host.node_count = 0;
    add_node(0, "0-1", GIGABYTE);
}

/* ---- checks ---- */

static void expect_plan(const char *policy, const char *far_nodes, unsigned workers, unsigned shards) {
    const struct numa_plan_options options = {policy, far_nodes, workers};
    memset(&plan, 0xa5, sizeof(plan));
    if (!numa_plan_make(&plan, &host, &options, error)) fail_msg("%s", error);
    numa_plan_deal_shards(&plan, &host, shards);
    unsigned counts[NUMA_NODES_MAX] = {0}, total = 0;
    for (unsigned i = 0; i < shards; i++) {
        assert_true(plan.shard_near[i] < plan.near_count);
        counts[plan.shard_near[i]]++;
    }
    for (unsigned i = 0; i < plan.near_count; i++) {
        assert_int_equal(plan.near[i].shards, counts[i]);
        total += counts[i];
    }
    assert_int_equal(total, shards);
}

static void expect_error(const char *policy, const char *far_nodes, const char *words) {
    const struct numa_plan_options options = {policy, far_nodes, 0};
    assert_false(numa_plan_make(&plan, &host, &options, error));
    if (!strstr(error, words)) fail_msg("'%s' does not say '%s'", error, words);
    assert_null(strchr(error, '\n'));
}

/* Nodes with their far ones, "0>2 1>3"; far nodes after a bar. */
static void check_nodes(const char *expected) {
    char text[256] = "";
    for (unsigned i = 0; i < plan.near_count; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%d>%d", i ? " " : "", plan.near[i].node,
                 plan.near[i].far);
    for (unsigned i = 0; i < plan.far_count; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%d", i ? "," : " | ", plan.far[i]);
    assert_string_equal(text, expected);
}

/* Workers as node:cpu. */
static void check_workers(const char *expected) {
    char text[1024] = "";
    for (unsigned i = 0; i < plan.worker_count; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%d:%d", i ? " " : "", plan.workers[i].node,
                 plan.workers[i].cpu);
    assert_string_equal(text, expected);
}

/* ---- one node ---- */

static void one_node_has_everything_and_binds_nothing(void **state) {
    (void)state;
    static const char *const policies[] = {"local", "interleave", "0"}, *const far_nodes[] = {"auto", "none"};
    make_one_node();
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < 2; k++) {
            expect_plan(policies[i], far_nodes[k], 0, 256);
            check_nodes("0>-1");
            check_workers("0:0 0:1");
            assert_false(plan.bound);
        }
    }
}

static void workers_get_a_cpu_each_only_when_they_are_as_many(void **state) {
    (void)state;
    make_one_node();
    expect_plan("local", "auto", 1, 64);
    check_workers("0:-1");
    expect_plan("local", "auto", 3, 64);
    check_workers("0:-1 0:-1 0:-1");
    expect_plan("local", "auto", 2, 64);
    check_workers("0:0 0:1");
    make_two_sockets_with_far_memory();
    expect_plan("local", "auto", 3, 64);
    check_workers("0:-1 1:-1 0:-1");
    host.node_count = 0;
    add_node(0, "5", GIGABYTE);
    expect_plan("local", "auto", 0, 64); /* alone, on the only CPU: nothing to pin */
    check_workers("0:-1");
}

static void workers_have_a_bound(void **state) {
    (void)state;
    host.node_count = 0;
    add_node(0, "0-199", GIGABYTE);
    add_node(1, "200-399", GIGABYTE);
    expect_plan("local", "auto", 0, 1024);
    assert_int_equal(plan.worker_count, LIMIT_WORKERS);
    assert_int_equal(plan.workers[0].cpu, -1);
    assert_int_equal(plan.near[0].shards, 512);
}

/* ---- policies ---- */

static void local_shards_are_beside_the_worker_that_looks_after_them(void **state) {
    (void)state;
    make_two_sockets_with_far_memory();
    expect_plan("local", "auto", 0, 1024);
    check_nodes("0>2 1>3 | 2,3");
    check_workers("0:0 1:4 0:1 1:5 0:2 1:6 0:3 1:7");
    assert_true(plan.bound);
    for (unsigned shard = 0; shard < 1024; shard++)
        assert_int_equal(plan.near[plan.shard_near[shard]].node, plan.workers[shard % plan.worker_count].node);
}

static void local_shards_follow_the_number_of_workers(void **state) {
    (void)state;
    host.node_count = 0;
    add_node(0, "0-5", GIGABYTE);
    add_node(1, "6-7", GIGABYTE);
    expect_plan("local", "auto", 0, 1024);
    assert_int_equal(plan.near[0].shards, 768);
    assert_int_equal(plan.near[1].shards, 256);
    expect_plan("local", "auto", 1, 64);
    check_nodes("0>-1");
    assert_true(plan.bound);
}

static void local_leaves_out_memory_beside_cpus_that_are_not_ours(void **state) {
    (void)state;
    host.node_count = 0;
    add_node(0, "0-1", GIGABYTE);
    add_node(1, "2-3", GIGABYTE);
    CPU_ZERO(&host.nodes[0].cpus);
    expect_plan("local", "auto", 0, 64);
    check_nodes("1>-1");
    check_workers("1:2 1:3");
    expect_plan("interleave", "auto", 0, 64);
    check_nodes("0>-1 1>-1");
}

static void a_node_of_cpus_alone_uses_the_nearest_memory(void **state) {
    (void)state;
    make_two_sockets_with_far_memory();
    add_node(7, "8", 0);
    set_distance(4, 1, 15);
    expect_plan("local", "auto", 0, 1024);
    check_nodes("0>2 1>3 | 2,3");
    assert_int_equal(plan.worker_count, 9);
    assert_int_equal(plan.near[0].shards, 455); /* four ninths */
    assert_int_equal(plan.near[1].shards, 569);
}

static void interleave_takes_every_near_node_in_turn(void **state) {
    (void)state;
    make_two_sockets_with_far_memory();
    expect_plan("interleave", "auto", 1, 64);
    check_nodes("0>2 1>3 | 2,3");
    for (unsigned shard = 0; shard < 64; shard++) assert_int_equal(plan.shard_near[shard], shard % 2);
    expect_plan("interleave", "none", 1, 64);
    check_nodes("0>-1 1>-1 2>-1 3>-1");
    assert_int_equal(plan.near[3].shards, 16);
}

static void a_list_keeps_shards_and_workers_on_its_nodes(void **state) {
    (void)state;
    make_two_sockets_with_far_memory();
    expect_plan("1", "auto", 0, 64);
    check_nodes("1>3 | 2,3");
    check_workers("1:4 1:5 1:6 1:7");
    expect_plan("0-1", "2", 2, 64);
    check_nodes("0>2 1>2 | 2");
    check_workers("0:-1 1:-1");
    expect_plan("1", "auto", 6, 64); /* more than its CPUs */
    assert_int_equal(plan.worker_count, 6);
    assert_int_equal(plan.workers[5].node, 1);
    assert_int_equal(plan.workers[5].cpu, -1);
}

static void a_list_may_name_a_node_without_cpus(void **state) {
    (void)state;
    make_two_sockets_with_far_memory();
    expect_plan("2", "auto", 2, 64);
    check_nodes("2>3 | 3"); /* named near, so not far */
    check_workers("0:-1 1:-1");
    expect_plan("1,3", "none", 0, 64);
    check_nodes("1>-1 3>-1");
    check_workers("1:4 1:5 1:6 1:7");
    assert_int_equal(plan.near[1].shards, 32);
}

/* ---- far memory ---- */

static void far_nodes_may_be_chosen_or_declined(void **state) {
    (void)state;
    make_two_sockets_with_far_memory();
    expect_plan("local", "none", 0, 64);
    check_nodes("0>-1 1>-1");
    expect_plan("local", "3", 0, 64);
    check_nodes("0>3 1>3 | 3");
    expect_plan("local", "1-2", 0, 64); /* a node with CPUs too: its workers use the other's */
    check_nodes("0>2 | 1,2");
    assert_int_equal(plan.worker_count, 8);
}

static void equally_near_far_nodes_are_shared_out(void **state) {
    (void)state;
    make_two_sockets_with_far_memory();
    for (unsigned a = 0; a < 2; a++)
        for (unsigned b = 2; b < 4; b++) set_distance(a, b, 24);
    expect_plan("local", "auto", 0, 64);
    check_nodes("0>2 1>3 | 2,3");
}

static void memory_without_any_cpu_is_used_when_there_is_no_other(void **state) {
    (void)state;
    host.node_count = 0;
    add_node(0, "0-1", 0);
    add_node(1, NULL, GIGABYTE);
    expect_plan("local", "auto", 0, 64);
    check_nodes("1>-1");
    check_workers("0:0 0:1");
    assert_false(plan.bound);
}

/* ---- refusals ---- */

static void a_directive_that_does_not_fit_the_host_is_refused(void **state) {
    (void)state;
    make_two_sockets_with_far_memory();
    expect_error("7", "auto", "numa-policy names node 7");
    expect_error("7", "auto", "0-3");
    expect_error("0,2-9", "none", "names node 4");
    expect_error("local", "5", "far-memory-nodes names node 5");
    expect_error("0,2", "2-3", "node 2 stands both");
    expect_error("local", "0-3", "leaves no node");
    expect_error("interleave", "0-3", "leaves no node");
    host.nodes[1].memory_bytes = 0;
    expect_error("0-1", "auto", "numa-policy names node 1");
    make_one_node();
    expect_error("local", "0", "leaves no node");
}

static void directives_have_a_form(void **state) {
    (void)state;
    assert_true(numa_policy_is_valid("local") && numa_policy_is_valid("interleave") && numa_policy_is_valid("0,2-3"));
    assert_false(numa_policy_is_valid("") || numa_policy_is_valid("Local ") || numa_policy_is_valid("0;1") ||
                 numa_policy_is_valid("auto"));
    assert_true(numa_far_is_valid("auto") && numa_far_is_valid("none") && numa_far_is_valid("1"));
    assert_false(numa_far_is_valid("") || numa_far_is_valid("local") || numa_far_is_valid("1-"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_has_everything_and_binds_nothing),
        cmocka_unit_test(workers_get_a_cpu_each_only_when_they_are_as_many),
        cmocka_unit_test(workers_have_a_bound),
        cmocka_unit_test(local_shards_are_beside_the_worker_that_looks_after_them),
        cmocka_unit_test(local_shards_follow_the_number_of_workers),
        cmocka_unit_test(local_leaves_out_memory_beside_cpus_that_are_not_ours),
        cmocka_unit_test(a_node_of_cpus_alone_uses_the_nearest_memory),
        cmocka_unit_test(interleave_takes_every_near_node_in_turn),
        cmocka_unit_test(a_list_keeps_shards_and_workers_on_its_nodes),
        cmocka_unit_test(a_list_may_name_a_node_without_cpus),
        cmocka_unit_test(far_nodes_may_be_chosen_or_declined),
        cmocka_unit_test(equally_near_far_nodes_are_shared_out),
        cmocka_unit_test(memory_without_any_cpu_is_used_when_there_is_no_other),
        cmocka_unit_test(a_directive_that_does_not_fit_the_host_is_refused),
        cmocka_unit_test(directives_have_a_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
