/* terrace-pool: looks at a pool while no server uses it.
 *
 *   info      what it is, and what is in it
 *   check     whether libpmemobj's structures, identity, manifest, the checkpoint's files, every block of records that
 *             a key refers to, and every needed frame of the journal are in order
 *   repair    keeps what is intact: all keys of the checkpoint but those whose slot or block is damaged, and of the
 *             journal all before a frame that is lost, so that a server starts
 *   export    what it holds, as an RDB file: pool_export.h
 *
 * Opening a pool completes what libpmemobj had begun when the last process ended, as every opening does; nothing else
 * is changed but by repair. Several pools are named as in pmem-pool.
 *
 * Exit codes: 0 in order, repaired, or exported; 1 it could not be looked at, or written; 2 damaged, and not repaired;
 * 64 called in a wrong way. */

#include "persist/aof_parse.h"
#include "persist/checkpoint_check.h"
#include "pmem/pmem_journal.h"
#include "pmem/pool.h"
#include "server/pool_export.h"
#include "tiering/tier_pool.h"

#include <libpmemobj.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum exit_code { IN_ORDER = 0, UNUSABLE = 1, DAMAGED = 2, WRONG_CALL = 64 };

typedef unsigned long long ull;

/* A pool, its manifest, and what its journal holds behind the checkpoint. */
struct subject {
    const char *path;
    struct pmem_pool *pool;
    struct tier_pool tier;
    struct pmem_journal *journal;
    struct pmem_place first, end; /* of whole effects */
    uint64_t frames, commands, payload_bytes;
    struct checkpoint_health health;
    bool journal_damaged;
    char damage[512]; /* "": none was found */
};

/* ---- looking ---- */

static enum exit_code complain(const char *text) {
    fprintf(stderr, "terrace-pool: %s\n", text);
    return UNUSABLE;
}

static void note_damage(struct subject *subject, const char *what) {
    if (!subject->damage[0]) snprintf(subject->damage, sizeof(subject->damage), "%s", what);
}

/* Commands of the payload; the bytes of an effect that several frames hold are taken for granted. */
static void count_commands(struct subject *subject, struct span bytes) {
    struct aof_item item;
    while (bytes.length > 0) {
        if (aof_parse_item(bytes, &item) != AOF_PARSE_COMMAND) {
            note_damage(subject, "the journal holds what is no command");
            return;
        }
        subject->commands++;
        bytes = span_of(bytes.data + item.length, bytes.length - item.length);
    }
}

static void read_journal(struct subject *subject) {
    struct pmem_journal_reading reading;
    struct pmem_journal_frame frame;
    enum pmem_journal_found found;
    bool within = false; /* an effect that goes on */
    if (!pmem_journal_read_from(
            (struct pmem_place){subject->tier.manifest.pmem_sequence, subject->tier.manifest.pmem_position},
            &reading)) {
        note_damage(subject, "the manifest names no place of the journal");
        return;
    }
    subject->first = subject->end = reading.next;
    while ((found = pmem_journal_next(subject->journal, &reading, &frame)) == PMEM_JOURNAL_FRAME) {
        subject->frames += !frame.history;
        if (!frame.history) subject->payload_bytes += frame.payload.length;
        if (!frame.history && !within && !frame.open) count_commands(subject, frame.payload);
        if (subject->damage[0]) return;
        within = frame.open;
        if (!frame.open) subject->end = reading.next;
    }
    subject->journal_damaged = found == PMEM_JOURNAL_DAMAGED;
    if (subject->journal_damaged) note_damage(subject, reading.error);
}

/* False: it cannot be looked at, and why has been said. */
static bool open_subject(struct subject *subject) {
    char error[512] = "";
    const struct pmem_pool_options options = {.path = subject->path};
    subject->pool = pmem_pool_open(&options, error, sizeof(error));
    if (!subject->pool) {
        (void)complain(error);
        return false;
    }
    if (tier_pool_look_pmem(subject->pool, &subject->tier, error, sizeof(error)) == TIER_POOL_FOUND_FOREIGN) {
        note_damage(subject, error);
        return true;
    }
    struct pmem_area area = pmem_pool_journal(subject->pool);
    subject->journal = pmem_journal_open(&area, true, NULL, error, sizeof(error));
    if (subject->journal)
        read_journal(subject);
    else
        note_damage(subject, error);
    return true;
}

static void close_subject(struct subject *subject) {
    pmem_journal_close(subject->journal);
    pmem_pool_close(subject->pool);
    subject->journal = NULL;
    subject->pool = NULL;
}

static void print_subject(const struct subject *subject) {
    const struct pmem_pool_identity *identity = pmem_pool_identity(subject->pool);
    struct pmem_pool_facts facts = pmem_pool_facts(subject->pool);
    const struct tier_pool_manifest *manifest = &subject->tier.manifest;
    printf("pool:                %s\nlayout:              %s\nuuid:                ", subject->path, PMEM_POOL_LAYOUT);
    for (unsigned i = 0; i < PMEM_POOL_UUID_BYTES; i++) printf("%02x", identity->uuid[i]);
    printf("\nbytes:               %llu\nsegments:            %llu of %llu bytes\n", (ull)facts.pool_bytes,
           (ull)pmem_pool_segments(subject->pool), (ull)identity->segment_bytes);
    printf("dax:                 %s\nauto-flush:          %s\npersistence domain:  %s\n", facts.dax ? "yes" : "no",
           facts.auto_flush ? "yes" : "no", facts.domain);
    printf("checkpoint:          %llu, of %llu keys\n", (ull)manifest->number, (ull)manifest->keys);
    printf("journal:             %llu bytes\n", (ull)facts.journal_bytes);
    if (!subject->journal) return;
    printf("behind checkpoint:   %llu frames, %llu commands, %llu bytes; next is frame %llu\n", (ull)subject->frames,
           (ull)subject->commands, (ull)subject->payload_bytes, (ull)subject->end.sequence);
}

/* ---- commands ---- */

static enum exit_code judge(const struct subject *subject) {
    if (!subject->damage[0]) return IN_ORDER;
    printf("damaged:             %s\n", subject->damage);
    return DAMAGED;
}

static enum exit_code info(struct subject *subject) {
    if (!open_subject(subject)) return UNUSABLE;
    print_subject(subject);
    return judge(subject);
}

/* Looks at everything; the pool stays open. */
static bool examine(struct subject *subject) {
    if (!open_subject(subject)) return false;
    if (!subject->journal) return true; /* the header is damaged, which says where all else is */
    if (!checkpoint_check(&subject->tier, pmem_pool_member(subject->pool, 0).path, &subject->health)) {
        (void)complain("out of memory");
        return false;
    }
    if (subject->health.damage[0]) note_damage(subject, subject->health.damage);
    return true;
}

/* libpmemobj checks a pool only while nobody has it open. */
static void check_structures(struct subject *subject, char *const *paths, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (paths[i] && pmemobj_check(paths[i], PMEM_POOL_LAYOUT) != 1) note_damage(subject, pmemobj_errormsg());
}

static enum exit_code check(struct subject *subject) {
    char *paths[PMEM_POOLS_MAX] = {NULL};
    if (!examine(subject)) return UNUSABLE;
    unsigned count = pmem_pool_members(subject->pool);
    for (unsigned i = 0; i < count; i++) paths[i] = strdup(pmem_pool_member(subject->pool, i).path);
    close_subject(subject);
    check_structures(subject, paths, count);
    for (unsigned i = 0; i < count; i++) free(paths[i]);
    const struct checkpoint_health *health = &subject->health;
    enum exit_code code = judge(subject);
    if (code == IN_ORDER)
        printf("in order: checkpoint %llu of %llu keys in %llu blocks, %llu frames behind it\n",
               (ull)subject->tier.manifest.number, (ull)health->keys, (ull)health->blocks, (ull)subject->frames);
    else if (health->damage[0])
        printf(
            "checkpoint %llu:        %llu keys are in order, %llu are not; %llu blocks and %llu chunks are damaged\n",
            (ull)subject->tier.manifest.number, (ull)health->keys, (ull)health->lost_keys, (ull)health->bad_blocks,
            (ull)health->bad_chunks);
    return code;
}

static enum exit_code repair_checkpoint(struct subject *subject) {
    char error[512];
    uint64_t lost = subject->health.lost_keys;
    if (!checkpoint_repair(&subject->tier, pmem_pool_member(subject->pool, 0).path, &subject->health, error,
                           sizeof(error)))
        return complain(error);
    printf("repaired:            %s\nkept:                %llu keys; %llu are given up\n", subject->damage,
           (ull)subject->health.keys, (ull)lost);
    if (subject->health.lost_pages)
        printf("of those kept:       %llu pages of hashes and sets are given up\n", (ull)subject->health.lost_pages);
    return IN_ORDER;
}

static enum exit_code repair_journal(struct subject *subject) {
    char error[512] = "";
    struct pmem_area area = pmem_pool_journal(subject->pool);
    struct pmem_journal *journal = pmem_journal_open(&area, false, NULL, error, sizeof(error));
    if (!journal) return complain(error);
    pmem_journal_resume(journal, subject->first, subject->end);
    pmem_journal_close(journal);
    printf("repaired:            the journal\nkept:                %llu frames; what came behind them is given up\n",
           (ull)(subject->end.sequence - subject->first.sequence));
    return IN_ORDER;
}

static enum exit_code repair(struct subject *subject) {
    if (!examine(subject)) return UNUSABLE;
    if (!subject->damage[0]) {
        printf("in order: nothing is to be repaired\n");
        return IN_ORDER;
    }
    bool cut_short = subject->journal && (subject->journal_damaged || !subject->health.damage[0]);
    if (!subject->journal || subject->health.beyond_repair || (cut_short && subject->end.sequence == 0)) {
        printf("cannot be repaired:  %s\n", subject->damage);
        return DAMAGED;
    }
    enum exit_code code = subject->health.damage[0] ? repair_checkpoint(subject) : IN_ORDER;
    return code == IN_ORDER && cut_short ? repair_journal(subject) : code;
}

/* ---- called ---- */

static enum exit_code export(const char *path, const char *file) {
    char error[512]; uint64_t keys; if (!pool_export(path, file, &keys, error, sizeof(error))) return complain(error);
    printf("exported:            %llu keys to %s\n", (ull)keys, file);
    return IN_ORDER;
}

static const struct {
    const char *name;
    enum exit_code (*run)(struct subject *subject);
} commands[] = {{"info", info}, {"check", check}, {"repair", repair}};

int main(int argc, char **argv) {
    static struct subject subject;
    if (argc == 4 && strcmp(argv[1], "export") == 0) return (int)export(argv[2], argv[3]);
    for (size_t i = 0; argc == 3 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        subject.path = argv[2];
        enum exit_code code = commands[i].run(&subject);
        close_subject(&subject);
        return (int)code;
    }
    fprintf(stderr, "usage: terrace-pool info|check|repair POOL[,POOL...]\n"
                    "       terrace-pool export POOL[,POOL...] FILE.rdb\n");
    return WRONG_CALL;
}
