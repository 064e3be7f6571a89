/* Host "far": records move to the node that has memory alone, and back. */

#include "tests/lab/guest.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FAR_KEYS = 100000, /* 100 MB */
    NEAR_BYTES = 32 << 20,
    NEAR_HOLES = 256 * 2 * 65536, /* see near_bytes() */
    LIMIT_BYTES = 48 << 20,
    LIMIT_MOST = LIMIT_BYTES + LIMIT_BYTES / 10, /* seen between two looks: clocks are not slowed by emulation */
    LIMIT_KEYS = 60000,                          /* 60 MB */
    REST_MS = 1000,
    RESTS_MAX = 10,
    SETTLE_MS = 20000, /* until what is too much on the near node has moved: a second or so */
    HOT_READS = 200,   /* one in sixteen brings a record back: one key in 400,000 is still far after so many */
};

/* Of records and index. Pages have holes besides: two of 64 KB for each shard and size class may stay half empty. */
static unsigned long near_bytes(const struct server *server) {
    return number(server, "tier", "dram_bytes") + number(server, "memory", "used_memory_index");
}

/* Until records and index on the near node are within the limit and a tenth; asking is an event for the server too. */
static bool wait_for_near(const struct server *server, unsigned long most) {
    int64_t end = now_ms() + SETTLE_MS;
    while (near_bytes(server) > most + most / 10 && now_ms() < end) continue;
    return near_bytes(server) <= most + most / 10;
}

/* The first key from `first` on that is in this medium; FAR_KEYS: none is. */
static unsigned key_in(const struct server *server, const char *medium, unsigned first) {
    while (first < FAR_KEYS && strcmp(ask(server, "OBJECT MEDIUM k%07u", first), medium) != 0) first++;
    return first;
}

/* Processor time of the process in ms, all threads. */
static unsigned long cpu_ms(pid_t pid) {
    char path[64], text[1024] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(text, sizeof(text), file)) give_up(path);
    fclose(file);
    const char *at = strrchr(text, ')');
    if (!at || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        give_up(path);
    return (user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK);
}

/* A server that has moved what it can comes to rest: its processors are not kept busy with looking for more. */
static void check_rest(const struct server *server, const char *when) {
    unsigned long spent = REST_MS;
    for (unsigned i = 0; i < RESTS_MAX && spent >= REST_MS / 2; i++) {
        unsigned long before = cpu_ms(server->pid);
        (void)poll(NULL, 0, REST_MS);
        spent = cpu_ms(server->pid) - before;
    }
    check(spent < REST_MS / 2, "%s: %lu ms of processor time in %d ms of rest", when, spent, (int)REST_MS);
}

static void check_far_media(const struct server *server) {
    size_t bytes[NODES][NODES];
    const char *tier = info_of(server, "tier"); /* once: records may still be on their way */
    unsigned long far_records = strtoul(field(tier, "far_records"), NULL, 10);
    unsigned long far_bytes = strtoul(field(tier, "far_bytes"), NULL, 10);
    unsigned long dram_records = strtoul(field(tier, "dram_records"), NULL, 10);
    unsigned long dram_bytes = strtoul(field(tier, "dram_bytes"), NULL, 10);
    unsigned long near = near_bytes(server);
    check(far_records > 0 && far_records + dram_records == FAR_KEYS, "%lu records are far, %lu in DRAM", far_records,
          dram_records);
    check(far_bytes >= far_records * VALUE_BYTES && far_bytes + dram_bytes >= (unsigned long)FAR_KEYS * VALUE_BYTES,
          "they take %lu and %lu bytes", far_bytes, dram_bytes);
    check(near <= NEAR_BYTES + NEAR_BYTES / 10, "records and index in near memory take %lu bytes of %d allowed", near,
          (int)NEAR_BYTES);
    near = node_number(info_of(server, "numa"), 0, "bytes");
    check(near <= NEAR_BYTES + NEAR_BYTES / 10 + NEAR_HOLES, "their pages take %lu bytes", near);
    check(dram_bytes >= NEAR_BYTES / 2, "no more has left than had to: %lu bytes are in DRAM", dram_bytes);
    check(node_number(info_numa(server), 1, "bytes") >= far_bytes, "INFO numa counts them on node 1");
    read_placement(server->pid, bytes);
    show_placement(bytes);
    check(bytes[1][1] >= far_bytes, "far records lie on node 1");
    check(bytes[1][0] == 0 && bytes[0][1] == 0, "none lies on the other node");
}

static void check_far_use(const struct server *server) {
    unsigned far = key_in(server, "far", 0), dram = key_in(server, "dram", 0);
    check(far < FAR_KEYS && dram < FAR_KEYS, "OBJECT MEDIUM tells far and dram: k%07u and k%07u", far, dram);
    for (unsigned i = 0; i < HOT_READS; i++) (void)ask(server, "GET k%07u", far);
    check(key_in(server, "dram", far) == far, "a key that was read %u times has come back", HOT_READS);
    check(number(server, "tier", "far_promotions") >= 1 && number(server, "tier", "far_hits") >= 1,
          "INFO tier counts what came back, and hits in far memory");
    far = key_in(server, "far", far);
    (void)ask(server, "SETRANGE k%07u 0 xyz", far);
    check(key_in(server, "far", far) == far, "a far record is changed where it is");
    (void)ask(server, "SETRANGE k%07u 0 v00", far); /* as fill_value() has it, for keys below 10^5 */
}

static void check_far_near_size(void) {
    struct server server = start((char *[]){"--near-memory-size", "32mb", NULL});
    check(try_keys(&server, 0, FAR_KEYS) == FAR_KEYS, "%u keys are written", FAR_KEYS);
    check(wait_for_near(&server, NEAR_BYTES), "node 0 comes within near-memory-size");
    check_far_media(&server);
    check_rest(&server, "below near-memory-size");
    check_far_use(&server);
    check(read_keys(&server, FAR_KEYS) == FAR_KEYS, "every key has its value");
    check(wait_for_near(&server, NEAR_BYTES), "node 0 is within near-memory-size after reading all");
    check(strcmp(ask(&server, "CONFIG SET near-memory-size 1mb", 0), "+OK") == 0, "near-memory-size is 1mb");
    /* The index alone takes about that: what is too much stays so. */
    int64_t end = now_ms() + SETTLE_MS;
    while (number(&server, "tier", "dram_bytes") > 2 << 20 && now_ms() < end) continue;
    check(number(&server, "tier", "dram_bytes") <= 2 << 20, "all but %lu bytes leave",
          number(&server, "tier", "dram_bytes"));
    check_rest(&server, "above near-memory-size with nothing left to move");
    stop(&server);
}

/* maxmemory bounds near and far memory together. */
static void check_far_limit(const char *policy) {
    struct server server = start((char *[]){"--near-memory-size", "16mb", "--maxmemory", "48mb", "--maxmemory-policy",
                                            (char *)(uintptr_t)policy, NULL});
    bool evicts = strcmp(policy, "noeviction") != 0;
    int64_t started = now_ms();
    unsigned accepted = try_keys(&server, 0, LIMIT_KEYS);
    unsigned long far_records = number(&server, "tier", "far_records"),
                  evicted = number(&server, "stats", "evicted_keys");
    printf("%s: %lld ms, far_records %lu, evicted_keys %lu\n", policy, (long long)(now_ms() - started), far_records,
           evicted);
    check(far_records > 0, "%s: %lu records are far", policy, far_records);
    check(number(&server, "memory", "used_memory_rss") <= LIMIT_MOST, "%s: RSS is %lu of %d allowed", policy,
          number(&server, "memory", "used_memory_rss"), (int)LIMIT_BYTES);
    check(evicts ? accepted == LIMIT_KEYS && evicted > 0 : accepted < LIMIT_KEYS && evicted == 0,
          "%s: %u keys are accepted, %lu evicted", policy, accepted, evicted);
    unsigned right = read_keys(&server, LIMIT_KEYS);
    /* The program and the index take the half of it; on a busy host, where processors are emulated, more is evicted
     * than has to be. */
    check(right >= (unsigned)LIMIT_BYTES / VALUE_BYTES / 3, "%s: %u keys are there", policy, right);
    /* Reading brings records back to the near node, for which others may be evicted: also such as were read before. */
    unsigned keys = (unsigned)strtoul(ask(&server, "DBSIZE", 0) + 1, NULL, 10);
    unsigned long since = number(&server, "stats", "evicted_keys") - evicted;
    check(keys <= right && right <= keys + since, "%s: DBSIZE says %u, and %lu were evicted meanwhile", policy, keys,
          since);
    check(keys + evicted + since >= accepted, "%s: a key that is not there was evicted", policy);
    check(evicts || right == accepted, "%s: what was accepted is there", policy);
    check_rest(&server, policy);
    stop(&server);
}

void check_far(void) {
    check_far_near_size();
    check_far_limit("allkeys-lru");
    check_far_limit("noeviction");
}
