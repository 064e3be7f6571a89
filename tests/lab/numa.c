/* Hosts "flat" and "wide": where shards, their memory and workers are. */

#include "tests/lab/guest.h"

#include <string.h>

static void check_flat_by_default(void) {
    size_t bytes[NODES][NODES];
    struct server server = start((char *[]){NULL});
    write_keys(&server);
    const char *info = info_numa(&server);
    check_field(info, "numa_policy", "local");
    check_field(info, "numa_nodes", "2");
    check_field(info, "numa_near_nodes", "0");
    check_field(info, "numa_far_nodes", "1");
    check_field(info, "numa_binding", "bound");
    check_field(info, "numa_remote_executions", "0");
    check_node(info, 0, "0-1", 256, 0);
    check_node(info, 1, "", 0, 1);
    check(node_number(info, 0, "bytes") >= RECORDS_BYTES, "node 0 holds the records");
    check(node_number(info, 0, "local") >= KEYS, "every execution is local");
    read_placement(server.pid, bytes);
    show_placement(bytes);
    check(bytes[0][0] >= RECORDS_BYTES && bytes[0][1] == 0, "records lie on node 0, nothing on node 1");
    check(bytes[1][0] == 0 && bytes[1][1] == 0, "nothing prefers node 1 yet");
    check(threads_on(server.pid, "0") == 1 && threads_on(server.pid, "1") == 1, "each worker has a CPU");
    check(threads_preferring(server.pid, 0) == 2, "both workers allocate from node 0");
    stop(&server);
}

/* Node 1 is memory that no CPU would get by itself: what lies there was bound. */
static void check_flat_on_named_node(void) {
    size_t bytes[NODES][NODES];
    struct server server = start((char *[]){"--numa-policy", "1", NULL});
    write_keys(&server);
    const char *info = info_numa(&server);
    check_field(info, "numa_policy", "1");
    check_field(info, "numa_near_nodes", "1");
    check_field(info, "numa_far_nodes", "");
    check_field(info, "numa_local_executions", "0");
    check_node(info, 0, "0-1", 0, 0);
    check_node(info, 1, "", 256, 0);
    check(node_number(info, 1, "remote") >= KEYS, "every execution is remote");
    read_placement(server.pid, bytes);
    show_placement(bytes);
    check(bytes[1][1] >= RECORDS_BYTES && bytes[1][0] == 0, "records lie on node 1");
    check(bytes[0][1] == 0, "buffers lie on node 0");
    stop(&server);
}

static void check_flat_interleaved(void) {
    size_t bytes[NODES][NODES];
    struct server server = start((char *[]){"--numa-policy", "interleave", "--far-memory-nodes", "none", NULL});
    write_keys(&server);
    const char *info = info_numa(&server);
    check_field(info, "numa_near_nodes", "0-1");
    check_node(info, 0, "0-1", 128, 0);
    check_node(info, 1, "", 128, 0);
    read_placement(server.pid, bytes);
    show_placement(bytes);
    check(bytes[0][0] >= RECORDS_BYTES / 3 && bytes[1][1] >= RECORDS_BYTES / 3, "both nodes hold records");
    check(bytes[0][1] == 0 && bytes[1][0] == 0, "none lies on the other node");
    stop(&server);
}

void check_flat(void) {
    check_flat_by_default();
    check_flat_on_named_node();
    check_flat_interleaved();
    check_refused((char *[]){"--numa-policy", "5", NULL}, "names node 5, which has no memory");
    check_refused((char *[]){"--far-memory-nodes", "0-1", NULL}, "leaves no node for shards");
}

void check_wide(void) {
    size_t bytes[NODES][NODES];
    struct server server = start((char *[]){NULL});
    write_keys(&server);
    const char *info = info_numa(&server);
    check_field(info, "numa_nodes", "3");
    check_field(info, "numa_near_nodes", "0-1");
    check_field(info, "numa_far_nodes", "2");
    check_node(info, 0, "0", 128, 0);
    check_node(info, 1, "1", 128, 0);
    check_node(info, 2, "", 0, 1);
    /* One connection, so one worker: what is on its node is local, the other half is not. */
    unsigned long local = node_number(info, 0, "local") + node_number(info, 1, "local");
    unsigned long remote = node_number(info, 0, "remote") + node_number(info, 1, "remote");
    check(local + remote == KEYS, "executions on keys: %lu local and %lu remote", local, remote);
    check(local > KEYS / 3 && remote > KEYS / 3, "some are local, some are remote");
    read_placement(server.pid, bytes);
    show_placement(bytes);
    check(bytes[0][0] >= RECORDS_BYTES / 3 && bytes[1][1] >= RECORDS_BYTES / 3, "each node holds its shards' records");
    check(bytes[1][0] == 0 && bytes[0][2] == 0 && bytes[1][2] == 0, "none lies elsewhere");
    check(threads_on(server.pid, "0") == 1 && threads_on(server.pid, "1") == 1, "each node has a worker");
    check(threads_preferring(server.pid, 0) == 1 && threads_preferring(server.pid, 1) == 1,
          "each worker allocates from its own node");
    stop(&server);
    server = start((char *[]){"--numa-policy", "1", NULL});
    check_field(info_numa(&server), "numa_near_nodes", "1");
    check(threads_on(server.pid, "1") == 1 && threads_on(server.pid, "0") == 0, "no worker is on a node not named");
    stop(&server);
}
