/* Reads the host's NUMA nodes. See numa_topology.h.
 *
 * The folder of the kernel looks like this, and a test gives one of its own making:
 *
 *     online             "0-1"        the nodes there are
 *     node0/cpulist      "0-3,8-11"   empty for a node that is memory alone
 *     node0/meminfo      "Node 0 MemTotal:  16291544 kB", MemFree and more, a line each
 *     node0/distance     "10 21"      to each online node in ascending order
 *
 * libnuma reads the same files, but only of the host it runs on, and caches what it read. Whatever is missing or
 * unreadable is taken as on a host with one node, since a server that starts is better than an exact answer: containers
 * often hide these files. */

#include "memory/numa_topology.h"

#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_MAX = 8192, /* a node's meminfo has about 1.5 KB; the longest list fits twice */
    DISTANCE_SELF = 10,
    DISTANCE_OTHER = 20,
    DISTANCE_UNKNOWN = 255, /* what firmware says for "cannot be reached" */
    POLICY_MODE = 0xff,     /* of what get_mempolicy() says; flags stand above it */
};

/* ---- lists ---- */

static bool take_number(struct span *text, unsigned *number) {
    unsigned value = 0;
    size_t digits = 0;
    for (; digits < text->length && text->data[digits] >= '0' && text->data[digits] <= '9'; digits++) {
        value = value * 10 + (unsigned)(text->data[digits] - '0');
        if (value >= CPU_SETSIZE) return false;
    }
    *text = span_of(text->data + digits, text->length - digits);
    *number = value;
    return digits > 0;
}

static bool take_byte(struct span *text, char wanted) {
    if (text->length == 0 || text->data[0] != wanted) return false;
    *text = span_of(text->data + 1, text->length - 1);
    return true;
}

bool numa_list_parse(struct span text, cpu_set_t *set) {
    cpu_set_t parsed;
    CPU_ZERO(&parsed);
    do {
        unsigned first, last;
        if (!take_number(&text, &first)) return false;
        last = first;
        if (take_byte(&text, '-') && (!take_number(&text, &last) || last < first)) return false;
        for (unsigned number = first; number <= last; number++) CPU_SET(number, &parsed);
    } while (take_byte(&text, ','));
    if (text.length) return false;
    *set = parsed;
    return true;
}

char *numa_list_format(const cpu_set_t *set, char separator, char text[NUMA_LIST_MAX]) {
    size_t length = 0;
    text[0] = '\0';
    for (unsigned number = 0; number < CPU_SETSIZE; number++) {
        if (!CPU_ISSET(number, set)) continue;
        unsigned last = number;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set)) last++;
        if (length) text[length++] = separator;
        length += (size_t)snprintf(text + length, NUMA_LIST_MAX - length, "%u", number);
        if (last > number) length += (size_t)snprintf(text + length, NUMA_LIST_MAX - length, "-%u", last);
        number = last;
    }
    return text;
}

/* ---- files ---- */

/* The file without its last line end; false: not there. `node` negative: a file of the root. */
static bool read_file(const char *root, int node, const char *name, char text[FILE_MAX]) {
    char path[4096];
    if (node < 0)
        snprintf(path, sizeof(path), "%s/%s", root, name);
    else
        snprintf(path, sizeof(path), "%s/node%d/%s", root, node, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t length = read(fd, text, FILE_MAX - 1); /* the kernel gives such a file in one piece */
    close(fd);
    if (length < 0) return false;
    if (length > 0 && text[length - 1] == '\n') length--;
    text[length] = '\0';
    return true;
}

/* False: not there, or not of the form. An empty file is the empty set. */
static bool read_set(const char *root, int node, const char *name, cpu_set_t *set) {
    char text[FILE_MAX];
    CPU_ZERO(set);
    if (!read_file(root, node, name, text)) return false;
    return text[0] == '\0' || numa_list_parse(span_of_text(text), set);
}

static bool find_kilobytes(const char *text, const char *name, uint64_t *bytes) {
    const char *at = strstr(text, name);
    if (!at) return false;
    *bytes = strtoull(at + strlen(name), NULL, 10) * 1024;
    return true;
}

bool numa_node_memory(const char *root, int node, uint64_t *total_bytes, uint64_t *free_bytes) {
    char text[FILE_MAX];
    *total_bytes = *free_bytes = 0;
    return read_file(root ? root : NUMA_TOPOLOGY_ROOT, node, "meminfo", text) &&
           find_kilobytes(text, " MemTotal:", total_bytes) && find_kilobytes(text, " MemFree:", free_bytes);
}

static void read_distances(const char *root, struct numa_topology *topology, unsigned index) {
    struct numa_node *node = &topology->nodes[index];
    char text[FILE_MAX];
    for (unsigned i = 0; i < topology->node_count; i++) node->distance[i] = i == index ? DISTANCE_SELF : DISTANCE_OTHER;
    if (!read_file(root, node->id, "distance", text)) return;
    char *at = text;
    for (unsigned i = 0; i < topology->node_count; i++) {
        char *end;
        unsigned long distance = strtoul(at, &end, 10);
        if (end == at) return;
        node->distance[i] = distance < DISTANCE_UNKNOWN ? (unsigned)distance : DISTANCE_UNKNOWN;
        at = end;
    }
}

/* ---- the topology ---- */

static void read_node(struct numa_topology *topology, const struct numa_topology_options *options, const char *root,
                      unsigned id) {
    struct numa_node *node = &topology->nodes[topology->node_count++];
    node->id = (int)id;
    (void)read_set(root, node->id, "cpulist", &node->cpus);
    node->has_cpus = CPU_COUNT(&node->cpus) > 0;
    if (options->cpus) CPU_AND(&node->cpus, &node->cpus, options->cpus);
    if (options->nodes && !CPU_ISSET(id, options->nodes)) return;
    (void)numa_node_memory(root, node->id, &node->memory_bytes, &node->free_bytes);
}

static void assume_one_node(struct numa_topology *topology, const struct numa_topology_options *options) {
    long pages = sysconf(_SC_PHYS_PAGES), free_pages = sysconf(_SC_AVPHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    memset(topology, 0, sizeof(*topology));
    topology->node_count = 1;
    struct numa_node *node = &topology->nodes[0];
    node->has_cpus = true;
    node->distance[0] = DISTANCE_SELF;
    if (options->cpus) node->cpus = *options->cpus;
    if (pages > 0 && size > 0) node->memory_bytes = (uint64_t)pages * (uint64_t)size;
    if (free_pages > 0 && size > 0) node->free_bytes = (uint64_t)free_pages * (uint64_t)size;
}

void numa_topology_read(struct numa_topology *topology, const struct numa_topology_options *options) {
    const char *root = options->root ? options->root : NUMA_TOPOLOGY_ROOT;
    cpu_set_t online;
    uint64_t memory_bytes = 0;
    memset(topology, 0, sizeof(*topology));
    if (read_set(root, -1, "online", &online))
        for (unsigned id = 0; id < CPU_SETSIZE && topology->node_count < NUMA_NODES_MAX; id++)
            if (CPU_ISSET(id, &online)) read_node(topology, options, root, id);
    for (unsigned i = 0; i < topology->node_count; i++) {
        read_distances(root, topology, i);
        memory_bytes += topology->nodes[i].memory_bytes;
    }
    if (memory_bytes == 0) assume_one_node(topology, options);
}

void numa_allowed_nodes(cpu_set_t *nodes) {
    unsigned long bound[CPU_SETSIZE / (8 * sizeof(unsigned long))] = {0};
    size_t word_bits = 8 * sizeof(unsigned long);
    int policy = 0;
    memset(nodes, 0xff, sizeof(*nodes));
    if (numa_available() < 0) return;
    bool is_bound = get_mempolicy(&policy, bound, CPU_SETSIZE, NULL, 0) == 0 && (policy & POLICY_MODE) == MPOL_BIND;
    for (unsigned id = 0; id < CPU_SETSIZE; id++) {
        bool allowed = id < numa_all_nodes_ptr->size && numa_bitmask_isbitset(numa_all_nodes_ptr, id);
        if (is_bound && !((bound[id / word_bits] >> (id % word_bits)) & 1)) allowed = false;
        if (!allowed) CPU_CLR(id, nodes);
    }
}

const struct numa_node *numa_topology_find(const struct numa_topology *topology, int id) {
    for (unsigned i = 0; i < topology->node_count; i++)
        if (topology->nodes[i].id == id) return &topology->nodes[i];
    return NULL;
}

unsigned numa_topology_distance(const struct numa_topology *topology, int from, int to) {
    const struct numa_node *a = numa_topology_find(topology, from), *b = numa_topology_find(topology, to);
    return a && b ? a->distance[b - topology->nodes] : DISTANCE_UNKNOWN;
}
