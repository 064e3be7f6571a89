/* Host "power": a pool on persistent memory, which is mapped as such (fsdax, MAP_SYNC), and power cuts.
 *
 * Each boot loads the drivers, mounts, starts the server, and looks for all that was acknowledged before the cut; then
 * it writes on, and says after each batch up to where it was acknowledged, until tests/lab/run takes the power away.
 * A batch is a hundred SETs and one transaction, which changes a hash, a sorted set, a list, a set, a stream and a
 * counter, so that they show the same number at any time. Memory is short, so that records move to the node without
 * CPUs and to the pool meanwhile. */

#include "tests/lab/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    DEVICE_MS = 10000,
    POWER_KEYS = 100000, /* nobody gets there: the power goes before */
    DEVICE_KEYS = 4000,
    LAST_KEYS = 24000, /* more than the near node may hold */
};

static char *const server_arguments[] = {"--pmem-pool", "/pmem/pool",         "--pmem-size", "192mb", "--maxmemory",
                                         "80mb",        "--near-memory-size", "16mb",        NULL};

/* In the order in which they need each other. */
static const char *const drivers[] = {"crc16", "mbcache", "jbd2",    "crc32c_generic", "ext4",    "libnvdimm",
                                      "nfit",  "nd_btt",  "nd_pmem", "device_dax",     "dax_pmem"};

static void load_drivers(void) {
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        char path[64];
        snprintf(path, sizeof(path), "/drivers/%s.ko", drivers[i]);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0 || (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST)) give_up(path);
        close(file);
    }
}

static void run(char *const arguments[]) {
    int status = -1;
    pid_t pid = fork();
    if (pid < 0) give_up("fork");
    if (pid == 0) {
        execv(arguments[0], arguments);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0) give_up(arguments[0]);
}

static void mount_persistent_memory(bool is_new) {
    if (is_new) {
        run((char *[]){"/ndctl", "create-namespace", "-f", "-e", "namespace0.0", "--mode=fsdax", "--map=mem", NULL});
        run((char *[]){"/ndctl", "create-namespace", "-f", "-e", "namespace1.0", "--mode=devdax", "--map=mem", NULL});
        run((char *[]){"/mkfs.ext4", "-q", "-F", "-b", "4096", "/dev/pmem0", NULL});
    }
    int64_t end = now_ms() + DEVICE_MS;
    while (access("/dev/pmem0", F_OK) != 0 && now_ms() < end) usleep(1000);
    mkdir("/pmem", 0755);
    if (mount("/dev/pmem0", "/pmem", "ext4", 0, "dax=always") != 0) give_up("mount /dev/pmem0");
}

/* What the rest stands on: a file there can be mapped so that a flushed line is durable. */
static void check_mapping(void) {
    int file = open("/pmem/probe", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *memory = file < 0 || ftruncate(file, 4096) != 0
                       ? MAP_FAILED
                       : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, file, 0);
    check(memory != MAP_FAILED, "the kernel maps with MAP_SYNC");
    if (memory != MAP_FAILED) munmap(memory, 4096);
    if (file >= 0) close(file);
}

/* The number that the reply to a command is, and that each of the six shows. */
static unsigned count_of(const struct server *server, const char *command) {
    const char *reply = ask(server, command, 0);
    return (unsigned)strtoul(reply[0] == ':' ? reply + 1 : reply, NULL, 10);
}

static void check_what_is_there(const struct server *server, unsigned acknowledged) {
    static const char *const commands[] = {"HLEN hash", "ZCARD zset",  "LLEN list",
                                           "SCARD set", "XLEN stream", "GET count"};
    unsigned right = read_keys(server, acknowledged);
    check(right == acknowledged, "of %u keys that were acknowledged %u are there", acknowledged, right);
    (void)read_keys(server, acknowledged + BATCH); /* those of the cut batch are whole or absent */
    unsigned transactions = count_of(server, commands[0]);
    check(transactions >= acknowledged / BATCH, "%u transactions are there", transactions);
    for (size_t i = 1; i < sizeof(commands) / sizeof(commands[0]); i++) {
        unsigned count = count_of(server, commands[i]);
        check(count == transactions, "%s is %u, transactions are whole", commands[i], count);
    }
}

static void run_transaction(const struct server *server, unsigned number) {
    static const char *const commands[] = {"HSET hash f%u x", "ZADD zset 1 m%u",    "RPUSH list %u",
                                           "SADD set e%u",    "XADD stream * n %u", "INCR count"};
    (void)ask(server, "MULTI", 0);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) (void)ask(server, commands[i], number);
    if (strcmp(ask(server, "EXEC", 0), "*6") != 0) give_up("a transaction was refused");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) (void)next_reply(server);
}

static void write_until_the_power_goes(const struct server *server, unsigned first) {
    /* What was not acknowledged may be there all the same: numbers go on from what is there. */
    unsigned transactions = count_of(server, "GET count");
    for (unsigned at = first; at < POWER_KEYS; at += BATCH) {
        if (try_keys(server, at, at + BATCH) != BATCH) give_up("a write was refused");
        run_transaction(server, transactions++);
        printf("acknowledged %u\n", at + BATCH);
    }
    check(false, "the power was not cut");
}

/* Where the records of the load have gone. */
static void check_media(const struct server *server) {
    (void)ask(server, "TIER DEMOTE k0000*", 0);
    const char *tier = info_of(server, "tier");
    unsigned long far = strtoul(field(tier, "far_records"), NULL, 10);
    unsigned long cold = strtoul(field(tier, "tier_records"), NULL, 10);
    check(far > 0, "%lu records are on the node without CPUs", far);
    check(cold > 0, "%lu records are in persistent memory alone", cold);
    check(node_number(info_numa(server), 1, "bytes") >= far * VALUE_BYTES, "INFO numa counts the far ones on node 1");
}

/* The second piece of persistent memory is a device, which is mapped without a file system. */
static void check_device(void) {
    glob_t found = {0};
    if (glob("/dev/dax*", 0, NULL, &found) != 0) give_up("there is no /dev/dax*");
    char *const arguments[] = {"--pmem-pool", found.gl_pathv[0], "--tier-record-budget", "1mb", NULL};
    struct server server = start(arguments);
    check_field(info_of(&server, "pmem"), "pmem_dax", "yes");
    check(try_keys(&server, 0, DEVICE_KEYS) == DEVICE_KEYS, "%d keys are written to %s", (int)DEVICE_KEYS,
          found.gl_pathv[0]);
    cut_off(&server);
    server = start(arguments);
    check(read_keys(&server, DEVICE_KEYS) == DEVICE_KEYS, "they are there after kill -9");
    stop(&server);
    glob_t beside = {0};
    check(glob("/dev/dax*.*.*", 0, NULL, &beside) == GLOB_NOMATCH, "its checkpoint is not in the folder of devices");
    globfree(&beside);
    globfree(&found);
}

void check_power(bool is_first, bool is_last, unsigned acknowledged) {
    load_drivers();
    mount_persistent_memory(is_first);
    if (is_first) check_mapping();
    struct server server = start(server_arguments);
    const char *info = info_of(&server, "pmem");
    check_field(info, "pmem_dax", "yes");
    check_field(info, "pmem_flush", "instructions");
    check_field(info, "pmem_forced", "no");
    if (!is_first) check_what_is_there(&server, acknowledged);
    if (!is_last) write_until_the_power_goes(&server, acknowledged);
    unsigned accepted = try_keys(&server, acknowledged, acknowledged + LAST_KEYS);
    check_media(&server);
    stop(&server);
    server = start(server_arguments);
    check_what_is_there(&server, acknowledged);
    unsigned right = read_keys(&server, acknowledged + LAST_KEYS);
    check(right >= acknowledged + accepted, "%u keys are there after an end in order, %u were accepted", right,
          acknowledged + accepted);
    stop(&server);
    check_device();
}
