/* What power cuts leave of a pool and its journal: states at flushes and drains (pmem_shadow.h), each opened in a
 * process of its own. A writer counts: every number is an effect in the journal, now and then a checkpoint notes the
 * last one in a segment and in the manifest's sector, and the pool is closed and opened again. In every state
 *
 *   the pool opens, and libpmemobj finds it in order
 *   the manifest's segment says what it should, and the journal goes on behind it without a gap
 *   the last number is none that was not written, and none before the last that was acknowledged
 *
 * Then bugs are planted, which have to be found. TERRACE_TEST_SEED replays, TERRACE_CRASH_STATES takes so many states,
 * TERRACE_TEST_LONG 20,000. */

#include "base/random.h"
#include "pmem/pmem_journal.h"
#include "pmem/pool.h"
#include "tests/crash/pmem/pmem_shadow.h"

#include <libpmemobj.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum {
    POOL_BYTES = 16 << 20,
    STATES = 840,
    LONG_STATES = 20000,
    BUG_STATES = 6000, /* how many it takes is chance: mostly tens */
    PATH = 256,
    EFFECT_MAX = 3000,
    PER_MILLE = 25,
    OBJECT_CHECKS = 4,
    LIFE_STATES = 200,
};

/* What the manifest's sector holds here. */
struct note {
    uint64_t number, sequence, position, segment;
};

/* What the checking process is told, and what it answers. */
struct question {
    uint64_t acknowledged, sent;
    char path[PATH];
};
struct answer {
    bool fine;
    char complaint[256];
};

enum bug { NO_BUG, BUG_EARLY_REPLY, BUG_LOST_FLUSH, BUG_EARLY_MANIFEST };

static int checker = -1; /* socket of the process that checks */
static char folder[PATH / 4];

/* ---- the effects: a number, and bytes that follow from it ---- */

static size_t effect_of(uint64_t number, char *bytes) {
    struct random random;
    random_seed(&random, number);
    size_t length = sizeof(number) + random_below(&random, random_once_in(&random, 4) ? EFFECT_MAX : 100);
    memcpy(bytes, &number, sizeof(number));
    for (size_t i = sizeof(number); i < length; i++) bytes[i] = (char)random_next(&random);
    return length;
}

/* ---- checking; in a process that has opened no pool ---- */

static bool complain(struct answer *answer, const char *what, uint64_t number) {
    snprintf(answer->complaint, sizeof(answer->complaint), "%s (%llu)", what, (unsigned long long)number);
    return false;
}

static bool check_note(const struct pmem_pool *pool, const struct note *note, struct answer *answer) {
    uint64_t number;
    if (note->number == 0) return true;
    if (note->segment >= pmem_pool_segments(pool))
        return complain(answer, "the manifest is no manifest", note->segment);
    memcpy(&number, pmem_pool_segment(pool, note->segment).memory, sizeof(number));
    return number == note->number || complain(answer, "the segment does not hold what the manifest says", number);
}

static bool check_journal(struct pmem_pool *pool, const struct note *note, const struct question *question,
                          struct answer *answer) {
    struct pmem_area area = pmem_pool_journal(pool);
    struct pmem_journal *journal = pmem_journal_open(&area, false, NULL, answer->complaint, sizeof(answer->complaint));
    struct pmem_journal_reading reading;
    struct pmem_journal_frame frame;
    enum pmem_journal_found found;
    static char expected[EFFECT_MAX + 8];
    uint64_t number = note->number;
    size_t at = 0, length = 0; /* of the effect that goes on */
    if (!journal) return false;
    if (!pmem_journal_read_from((struct pmem_place){note->sequence, note->position}, &reading))
        return complain(answer, "the manifest names no place", note->position);
    while ((found = pmem_journal_next(journal, &reading, &frame)) == PMEM_JOURNAL_FRAME) {
        if (at == 0) length = effect_of(number + 1, expected);
        if (at + frame.payload.length > length || memcmp(frame.payload.data, expected + at, frame.payload.length) != 0)
            return complain(answer, "an effect is not what was written", number + 1);
        at = frame.open ? at + frame.payload.length : 0;
        if (!frame.open) number++;
    }
    pmem_journal_close(journal);
    if (found == PMEM_JOURNAL_DAMAGED) {
        snprintf(answer->complaint, sizeof(answer->complaint), "damaged: %s", reading.error);
        return false;
    }
    if (number < question->acknowledged) return complain(answer, "an acknowledged effect is missing", number + 1);
    return number <= question->sent || complain(answer, "there is more than was written", number);
}

static void check(const struct question *question, struct answer *answer) {
    struct pmem_pool_options options = {.path = question->path, .size_bytes = POOL_BYTES, .journal_bytes = 1 << 20};
    struct pmem_pool *pool = pmem_pool_open(&options, answer->complaint, sizeof(answer->complaint));
    struct note note;
    if (!pool) return;
    memcpy(&note, pmem_pool_sector(pool, PMEM_SECTOR_MANIFEST), sizeof(note));
    answer->fine = check_note(pool, &note, answer) && check_journal(pool, &note, question, answer);
    pmem_pool_close(pool);
    if (answer->fine && question->sent % OBJECT_CHECKS == 0 && pmemobj_check(question->path, PMEM_POOL_LAYOUT) != 1)
        answer->fine = complain(answer, "pmemobj_check is not content", 0);
}

/* The process that forks one for each state. */
static void serve_checks(int fd) {
    struct question question;
    while (read(fd, &question, sizeof(question)) == sizeof(question)) {
        pid_t child = fork();
        if (child == 0) {
            struct answer answer = {.complaint = "the check has crashed"};
            check(&question, &answer);
            _exit(write(fd, &answer, sizeof(answer)) != sizeof(answer));
        }
        int status;
        waitpid(child, &status, 0);
        struct answer crashed = {.complaint = "the check has crashed"};
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) (void)!write(fd, &crashed, sizeof(crashed));
    }
    _exit(0);
}

static void start_checker(void) {
    int pair[2];
    setenv("PMEM_IS_PMEM_FORCE", "1", 1);
    setenv("PMEMOBJ_CONF", "sds.at_create=0", 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    fflush(NULL);
    if (fork() == 0) {
        close(pair[0]);
        serve_checks(pair[1]);
    }
    close(pair[1]);
    checker = pair[0];
}

/* ---- the writer ---- */

struct writer {
    struct random random;
    enum bug bug;
    uint64_t sent, acknowledged, most_states;
    struct answer answer; /* of the last check */
    struct pmem_pool *pool;
    struct pmem_journal *journal;
    char path[PATH];
};

static bool check_state(void *ctx, const char *suffix) {
    struct writer *writer = ctx;
    struct question question = {.acknowledged = writer->acknowledged, .sent = writer->sent};
    char state[PATH + 16], made[PATH + 80];
    snprintf(state, sizeof(state), "%s/state", folder);
    snprintf(question.path, sizeof(question.path), "%s/check", folder);
    snprintf(made, sizeof(made), "%s%s", question.path, suffix);
    if (rename(state, made) != 0 || write(checker, &question, sizeof(question)) != sizeof(question) ||
        read(checker, &writer->answer, sizeof(writer->answer)) != sizeof(writer->answer))
        writer->answer = (struct answer){.complaint = "nobody checks"};
    if (rename(question.path, state) != 0) (void)unlink(made);
    return writer->answer.fine && pmem_shadow_figures().states < writer->most_states;
}

static bool goes_on(const struct writer *writer) {
    return writer->answer.fine && pmem_shadow_figures().states < writer->most_states;
}

static void open_all(struct writer *writer) {
    char error[512] = "";
    struct pmem_pool_options options = {.path = writer->path, .size_bytes = POOL_BYTES, .journal_bytes = 1 << 20};
    struct note note;
    struct pmem_journal_reading reading;
    struct pmem_journal_frame frame;
    writer->pool = pmem_pool_open(&options, error, sizeof(error));
    if (!writer->pool) fail_msg("%s", error);
    struct pmem_area area = pmem_pool_journal(writer->pool);
    writer->journal = pmem_journal_open(&area, false, NULL, error, sizeof(error));
    if (!writer->journal) fail_msg("%s", error);
    memcpy(&note, pmem_pool_sector(writer->pool, PMEM_SECTOR_MANIFEST), sizeof(note));
    struct pmem_place first = {note.sequence, note.position};
    assert_true(pmem_journal_read_from(first, &reading));
    while (pmem_journal_next(writer->journal, &reading, &frame) == PMEM_JOURNAL_FRAME) {
    }
    pmem_journal_resume(writer->journal, first, reading.next);
}

static void close_all(struct writer *writer) {
    pmem_journal_close(writer->journal);
    pmem_pool_close(writer->pool);
}

static void write_manifest(struct writer *writer, uint64_t segment, struct pmem_place place) {
    char sector[PMEM_POOL_SECTOR_BYTES] = {0};
    const struct note note = {writer->sent, place.sequence, place.position, segment};
    memcpy(sector, &note, sizeof(note));
    assert_true(pmem_pool_write_sector(writer->pool, PMEM_SECTOR_MANIFEST, sector));
}

/* The segment, then the manifest, then the journal's space: in this order. */
static void checkpoint(struct writer *writer) {
    uint64_t segment = random_below(&writer->random, pmem_pool_segments(writer->pool));
    const struct note *before = pmem_pool_sector(writer->pool, PMEM_SECTOR_MANIFEST);
    struct pmem_place place = pmem_journal_end(writer->journal);
    if (before->number && segment == before->segment) segment = (segment + 1) % pmem_pool_segments(writer->pool);
    struct pmem_area area = pmem_pool_segment(writer->pool, segment);
    if (writer->bug == BUG_EARLY_MANIFEST) write_manifest(writer, segment, place);
    pmem_area_copy(&area, 0, &writer->sent, sizeof(writer->sent));
    pmem_area_drain(&area);
    if (writer->bug != BUG_EARLY_MANIFEST) write_manifest(writer, segment, place);
    pmem_journal_reclaim(writer->journal, place);
}

static void write_one(struct writer *writer) {
    static char bytes[EFFECT_MAX + 8];
    size_t length = effect_of(++writer->sent, bytes);
    struct span piece = span_of(bytes, length);
    if (writer->bug == BUG_EARLY_REPLY) writer->acknowledged = writer->sent;
    if (writer->bug == BUG_LOST_FLUSH && random_once_in(&writer->random, 10)) pmem_shadow_forget_flush(1);
    while (!pmem_journal_append(writer->journal, &piece, 1, false)) {
        writer->sent--;
        checkpoint(writer);
        writer->sent++;
    }
    writer->acknowledged = writer->sent;
}

/* One pool's life after the other until there were enough states, or one was not fine. */
static void run(struct writer *writer, uint64_t states) {
    uint64_t made = 0;
    writer->answer.fine = true;
    for (unsigned life = 0; made < states && writer->answer.fine; life++) {
        snprintf(writer->path, sizeof(writer->path), "%s/pool", folder);
        char state[PATH + 16];
        snprintf(state, sizeof(state), "%s/state", folder);
        writer->sent = writer->acknowledged = 0;
        writer->most_states = states - made < LIFE_STATES ? states - made : LIFE_STATES;
        pmem_shadow_begin(&(struct pmem_shadow_options){.path = writer->path,
                                                        .state = state,
                                                        .seed = random_next(&writer->random),
                                                        .per_mille = PER_MILLE,
                                                        .check = check_state,
                                                        .ctx = writer});
        open_all(writer);
        while (goes_on(writer)) {
            if (random_once_in(&writer->random, 40)) checkpoint(writer);
            if (random_once_in(&writer->random, 100)) {
                close_all(writer);
                open_all(writer);
            }
            write_one(writer);
        }
        close_all(writer);
        made += pmem_shadow_figures().states;
        pmem_shadow_end();
        unlink(writer->path);
    }
}

static struct writer *writer_of(enum bug bug) {
    static struct writer writer;
    const char *given = getenv("TERRACE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 6;
    print_message("seed %llu\n", (unsigned long long)seed);
    writer = (struct writer){.bug = bug};
    random_seed(&writer.random, seed);
    return &writer;
}

/* ---- tests ---- */

static void test_every_state_has_what_was_acknowledged(void **state) {
    (void)state;
    struct writer *writer = writer_of(NO_BUG);
    const char *states = getenv("TERRACE_CRASH_STATES");
    const char *long_run = getenv("TERRACE_TEST_LONG");
    uint64_t usual = long_run && strcmp(long_run, "1") == 0 ? LONG_STATES : STATES;
    run(writer, states ? strtoull(states, NULL, 10) : usual);
    if (!writer->answer.fine) fail_msg("%s", writer->answer.complaint);
}

static void expect_found(enum bug bug) {
    struct writer *writer = writer_of(bug);
    run(writer, BUG_STATES);
    print_message("found: %s\n", writer->answer.complaint);
    assert_false(writer->answer.fine);
}

static void test_a_reply_before_the_fence_is_found(void **state) {
    (void)state;
    expect_found(BUG_EARLY_REPLY);
}

static void test_a_missing_flush_is_found(void **state) {
    (void)state;
    expect_found(BUG_LOST_FLUSH);
}

static void test_a_manifest_before_its_segment_is_found(void **state) {
    (void)state;
    expect_found(BUG_EARLY_MANIFEST);
}

static int set_up(void **state) {
    (void)state;
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(folder, sizeof(folder), "%s/terrace-pool-crash-XXXXXX", base);
    if (!mkdtemp(folder)) return 1;
    start_checker();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {"pool", "pool.making", "check", "check.making", "state"};
    close(checker);
    wait(NULL);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[PATH + 32];
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_has_what_was_acknowledged),
        cmocka_unit_test(test_a_reply_before_the_fence_is_found),
        cmocka_unit_test(test_a_missing_flush_is_found),
        cmocka_unit_test(test_a_manifest_before_its_segment_is_found),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
