/* Reads and writes nobody waits for, through io_uring and through threads, with and without faults. */

#include "base/random.h"
#include "tests/support/temporary_folder.h"
#include "tiering/tier_io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { PAGE = 4096, PAGES = 4000, EMPTY_REAPS = 16 };

struct request {
    struct tier_op op;
    struct tier_io *io;
    unsigned ended; /* how often */
};

static void count_end(struct tier_op *op) {
    ((struct request *)op)->ended++;
}

static const struct tier_io_faults no_faults;

static int open_file(int flags) {
    int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
    if (fd < 0 && flags & O_DIRECT) {
        print_message("skipped: no O_DIRECT here: %s\n", strerror(errno));
        unlink("file");
        skip();
    }
    assert_true(fd >= 0);
    return fd;
}

static void close_file(int fd) {
    close(fd);
    unlink("file");
}

/* The kind is the test's state. Skips where the kernel forbids it; the file is closed then. */
static struct tier_io *create(void **state, int fd, unsigned depth, struct tier_io_faults faults) {
    const struct tier_io_options options = {
        .fd = fd, .kind = *(enum tier_io_kind *)*state, .depth = depth, .faults = faults};
    struct tier_io *io = tier_io_create(&options);
    if (!io && options.kind == TIER_IO_URING && (errno == EPERM || errno == ENOSYS || errno == EINVAL)) {
        print_message("skipped: the kernel forbids io_uring: %s\n", strerror(errno));
        close_file(fd);
        skip();
    }
    assert_non_null(io);
    return io;
}

static struct request *new_requests(struct tier_io *io, unsigned count) {
    struct request *requests = calloc(count, sizeof(*requests));
    assert_non_null(requests);
    for (unsigned i = 0; i < count; i++) {
        requests[i].io = io;
        requests[i].op.done = count_end;
    }
    return requests;
}

static char *new_pages(unsigned count) {
    char *pages = aligned_alloc(PAGE, (size_t)count * PAGE);
    assert_non_null(pages);
    memset(pages, 0xee, (size_t)count * PAGE);
    return pages;
}

static void fill_page(char *page, uint64_t number) {
    for (uint64_t i = 0; i < PAGE / sizeof(i); i++)
        memcpy(page + i * sizeof(i), &(uint64_t){number << 20 | i}, sizeof(i));
}

static void assert_page(const char *page, uint64_t number) {
    char wanted[PAGE];
    fill_page(wanted, number);
    assert_memory_equal(page, wanted, PAGE);
}

/* A file of `count` numbered pages. */
static int numbered_file(unsigned count, int flags) {
    char page[PAGE];
    int fd = open_file(0);
    for (unsigned i = 0; i < count; i++) {
        fill_page(page, i);
        assert_int_equal(pwrite(fd, page, PAGE, (off_t)i * PAGE), PAGE);
    }
    close(fd);
    return open_file(flags);
}

/* As an owner does: sleeps until the event, then reaps. */
static void reap_all(struct tier_io *io) {
    while (tier_io_in_flight(io) > 0) {
        struct pollfd event = {.fd = tier_io_event_fd(io), .events = POLLIN};
        int ready = poll(&event, 1, 20000);
        if (ready == 0) fail_msg("%u operations are under way and nothing wakes the owner", tier_io_in_flight(io));
        tier_io_reap(io);
    }
}

static void start_page(struct request *request, char *memory, unsigned page, unsigned pages, bool write) {
    request->op.memory = memory;
    request->op.offset = (uint64_t)page * PAGE;
    request->op.bytes = pages * PAGE;
    request->op.write = write;
    tier_io_start(request->io, &request->op);
}

static void write_then_read_thousands(void **state, int flags, unsigned depth, struct tier_io_faults faults) {
    int fd = open_file(flags);
    struct tier_io *io = create(state, fd, depth, faults);
    struct request *requests = new_requests(io, PAGES);
    char *pages = new_pages(PAGES);
    struct random random;
    random_seed(&random, 1);
    for (unsigned i = 0; i < PAGES; i++) {
        fill_page(pages + (size_t)i * PAGE, i);
        start_page(&requests[i], pages + (size_t)i * PAGE, i, 1, true);
    }
    assert_int_equal(tier_io_in_flight(io), PAGES);
    tier_io_submit(io);
    reap_all(io);
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(requests[i].op.error, 0);
        assert_int_equal(requests[i].ended, 1);
    }
    memset(pages, 0, (size_t)PAGES * PAGE);
    unsigned *which = calloc(PAGES, sizeof(*which));
    for (unsigned i = 0; i < PAGES; i++) {
        which[i] = (unsigned)random_below(&random, PAGES);
        start_page(&requests[i], pages + (size_t)i * PAGE, which[i], 1, false);
        if (i % 100 == 0) tier_io_submit(io);
        if (i % 300 == 0) tier_io_reap(io);
    }
    tier_io_submit(io);
    reap_all(io);
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(requests[i].op.error, 0);
        assert_int_equal(requests[i].ended, 2);
        assert_page(pages + (size_t)i * PAGE, which[i]);
    }
    tier_io_destroy(io);
    free(which);
    free(pages);
    free(requests);
    close_file(fd);
}

static void thousands_at_once_are_written_and_read_back(void **state) {
    write_then_read_thousands(state, 0, 0, no_faults);
    write_then_read_thousands(state, 0, 3, no_faults);
}

static void thousands_at_once_are_written_and_read_back_without_the_page_cache(void **state) {
    write_then_read_thousands(state, O_DIRECT, 0, no_faults);
    write_then_read_thousands(state, O_DIRECT, 32, no_faults);
}

static void short_transfers_are_continued(void **state) {
    const struct tier_io_faults all_short = {.seed = 5, .short_transfer = 1000000};
    write_then_read_thousands(state, 0, 64, all_short);
    /* Whole pages only. */
    int fd = numbered_file(64, O_DIRECT);
    struct tier_io *io = create(state, fd, 0, all_short);
    struct request *requests = new_requests(io, 10);
    char *pages = new_pages(64);
    for (unsigned i = 0; i < 10; i++) start_page(&requests[i], pages + i * 5 * PAGE, i * 5, 5, false);
    tier_io_submit(io);
    reap_all(io);
    for (unsigned i = 0; i < 50; i++) assert_page(pages + i * PAGE, i);
    tier_io_destroy(io);
    free(pages);
    free(requests);
    close_file(fd);
}

static void delayed_operations_end_too(void **state) {
    write_then_read_thousands(state, 0, 64, (struct tier_io_faults){.seed = 6, .delay = 500000, .delay_reaps_max = 9});
}

static void the_event_falls_silent_when_nothing_is_under_way(void **state) {
    int fd = numbered_file(64, 0);
    struct tier_io *io = create(state, fd, 0, no_faults);
    struct request *requests = new_requests(io, 64);
    char *pages = new_pages(64);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 64; i++) start_page(&requests[i], pages + i * PAGE, i, 1, false);
        tier_io_submit(io);
        reap_all(io);
        unsigned empty = 0;
        /* As if a signal came late. */
        assert_int_equal(eventfd_write(tier_io_event_fd(io), 1), 0);
        struct pollfd event = {.fd = tier_io_event_fd(io), .events = POLLIN};
        /* Once for each operation, for signals may come late indeed. */
        for (; poll(&event, 1, 0) == 1 && empty <= 64 * EMPTY_REAPS; empty++) assert_int_equal(tier_io_reap(io), 0);
        assert_in_range(empty, 1, 64 * EMPTY_REAPS);
    }
    tier_io_destroy(io);
    free(pages);
    free(requests);
    close_file(fd);
}

static void the_end_of_the_file_is_an_error(void **state) {
    static const int flags[] = {0, O_DIRECT};
    for (unsigned i = 0; i < 2; i++) {
        int fd = numbered_file(3, flags[i]);
        assert_int_equal(ftruncate(fd, 2 * PAGE + 100), 0);
        struct tier_io *io = create(state, fd, 0, no_faults);
        struct request *requests = new_requests(io, 3);
        char *pages = new_pages(12);
        start_page(&requests[0], pages, 1, 2, false);
        start_page(&requests[1], pages + 4 * PAGE, 100, 1, false);
        start_page(&requests[2], pages + 8 * PAGE, 0, 2, false);
        tier_io_submit(io);
        reap_all(io);
        assert_int_equal(requests[0].op.error, EIO);
        assert_int_equal(requests[1].op.error, EIO);
        assert_int_equal(requests[2].op.error, 0);
        assert_page(pages + 9 * PAGE, 1);
        tier_io_destroy(io);
        free(pages);
        free(requests);
        close_file(fd);
    }
}

static void an_error_of_the_kernel_is_handed_on(void **state) {
    close(open_file(0));
    int fd = open("file", O_RDONLY | O_CLOEXEC);
    struct tier_io *io = create(state, fd, 0, no_faults);
    struct request *requests = new_requests(io, 1);
    char *pages = new_pages(1);
    start_page(&requests[0], pages, 0, 1, true);
    tier_io_wait(io, &requests[0].op);
    assert_int_equal(requests[0].op.error, EBADF);
    tier_io_destroy(io);
    free(pages);
    free(requests);
    close_file(fd);
}

/* The kernel itself transfers less here than it was asked for, then refuses. */
static void a_write_over_the_limit_of_file_sizes_is_an_error(void **state) {
    struct rlimit before, small;
    int fd = open_file(0);
    struct tier_io *io = create(state, fd, 0, no_faults);
    struct request *requests = new_requests(io, 2);
    char *pages = new_pages(8);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 6 * PAGE;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    start_page(&requests[0], pages, 0, 4, true);
    start_page(&requests[1], pages + 4 * PAGE, 4, 4, true);
    tier_io_submit(io);
    reap_all(io);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(requests[0].op.error, 0);
    assert_int_equal(requests[1].op.error, EFBIG);
    assert_int_equal(lseek(fd, 0, SEEK_END), 6 * PAGE);
    tier_io_destroy(io);
    free(pages);
    free(requests);
    close_file(fd);
}

static void free_itself(struct tier_op *op) {
    free(op);
}

static void waiting_ends_the_operation_and_spares_its_memory(void **state) {
    int fd = numbered_file(8, 0);
    struct tier_io *io = create(state, fd, 1, no_faults);
    struct request *others = new_requests(io, 8), *one = new_requests(io, 1);
    char *pages = new_pages(9);
    for (unsigned i = 0; i < 8; i++) start_page(&others[i], pages + i * PAGE, i, 1, false);
    one->op.done = free_itself;
    start_page(one, pages + 8 * PAGE, 5, 1, false);
    tier_io_wait(io, &one->op);
    assert_page(pages + 8 * PAGE, 5);
    reap_all(io);
    for (unsigned i = 0; i < 8; i++) assert_int_equal(others[i].ended, 1);
    tier_io_destroy(io);
    free(pages);
    free(others);
    close_file(fd);
}

/* Starts itself again for the next page until page 20, and waits for a second one within. */
static void read_on(struct tier_op *op) {
    struct request *request = (struct request *)op, *inner = request + 1;
    request->ended++;
    assert(op->error == 0);
    if (request->ended == 20) return;
    start_page(inner, (char *)op->memory + PAGE, request->ended, 1, false);
    tier_io_wait(request->io, &inner->op);
    start_page(request, op->memory, request->ended, 1, false);
    tier_io_submit(request->io);
}

static void an_end_may_start_others_and_wait_for_them(void **state) {
    int fd = numbered_file(20, 0);
    struct tier_io *io = create(state, fd, 2, no_faults);
    struct request *requests = new_requests(io, 2);
    char *pages = new_pages(2);
    requests[0].op.done = read_on;
    start_page(&requests[0], pages, 0, 1, false);
    tier_io_submit(io);
    reap_all(io);
    assert_int_equal(requests[0].ended, 20);
    assert_int_equal(requests[1].ended, 19);
    assert_page(pages, 19);
    assert_page(pages + PAGE, 19);
    tier_io_destroy(io);
    free(pages);
    free(requests);
    close_file(fd);
}

static void destroying_waits_for_everything_started(void **state) {
    int fd = numbered_file(1000, O_DIRECT);
    struct tier_io *io =
        create(state, fd, 16, (struct tier_io_faults){.seed = 3, .delay = 1000000, .delay_reaps_max = 3});
    struct request *requests = new_requests(io, 1000);
    char *pages = new_pages(1000);
    for (unsigned i = 0; i < 1000; i++) {
        start_page(&requests[i], pages + i * PAGE, i, 1, false);
        if (i == 500) tier_io_submit(io);
    }
    tier_io_destroy(io);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(requests[i].ended, 1);
        assert_page(pages + i * PAGE, i);
    }
    free(pages);
    free(requests);
    close_file(fd);
}

struct owner {
    struct tier_io *io;
    struct request *requests;
    char *pages;
};

/* Uses what another thread made. */
static void *own_for_a_while(void *argument) {
    struct owner *owner = argument;
    for (unsigned i = 0; i < 300; i++) start_page(&owner->requests[i], owner->pages + i * PAGE, i, 1, false);
    tier_io_wait(owner->io, &owner->requests[150].op);
    tier_io_drain(owner->io);
    return NULL;
}

static void another_thread_than_the_owner_may_create_and_destroy(void **state) {
    int fd = numbered_file(300, O_DIRECT);
    struct owner owner = {.io = create(state, fd, 64, no_faults), .pages = new_pages(300)};
    owner.requests = new_requests(owner.io, 300);
    pthread_t thread;
    assert_int_equal(tier_io_reap(owner.io), 0);
    assert_int_equal(pthread_create(&thread, NULL, own_for_a_while, &owner), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    tier_io_destroy(owner.io);
    for (unsigned i = 0; i < 300; i++) {
        assert_int_equal(owner.requests[i].ended, 1);
        assert_int_equal(owner.requests[i].op.error, 0);
        assert_page(owner.pages + i * PAGE, i);
    }
    free(owner.pages);
    free(owner.requests);
    close_file(fd);
}

/* ---- faults ---- */

enum { FAULTY = 2000, PAGES_EACH = 2 };

struct outcome {
    int error;
    unsigned bits; /* wrong ones */
    unsigned first_wrong;
};

/* Reads and writes (every fourth) in this depth, and what became of each. The writes are of what is there already. */
static void run_with_faults(void **state, unsigned depth, struct tier_io_faults faults, struct outcome *outcomes) {
    int fd = numbered_file(FAULTY * PAGES_EACH, 0);
    struct tier_io *io = create(state, fd, depth, faults);
    struct request *requests = new_requests(io, FAULTY);
    char *pages = new_pages(FAULTY * PAGES_EACH);
    for (unsigned i = 0; i < FAULTY; i++) {
        char *memory = pages + (size_t)i * PAGES_EACH * PAGE;
        for (unsigned page = 0; page < PAGES_EACH && i % 4 == 0; page++)
            fill_page(memory + page * PAGE, i * PAGES_EACH + page);
        start_page(&requests[i], memory, i * PAGES_EACH, PAGES_EACH, i % 4 == 0);
        if (i % depth) continue;
        tier_io_submit(io);
        tier_io_reap(io);
    }
    tier_io_submit(io);
    reap_all(io);
    for (unsigned i = 0; i < FAULTY; i++) {
        const char *got = pages + (size_t)i * PAGES_EACH * PAGE;
        outcomes[i] = (struct outcome){.error = requests[i].op.error};
        assert_int_equal(requests[i].ended, 1);
        for (unsigned page = 0; page < PAGES_EACH && !outcomes[i].error; page++) {
            char wanted[PAGE];
            fill_page(wanted, i * PAGES_EACH + page);
            for (unsigned byte = 0; byte < PAGE; byte++) {
                unsigned wrong = (unsigned char)(wanted[byte] ^ got[page * PAGE + byte]);
                if (wrong) outcomes[i].first_wrong = page * PAGE + byte;
                outcomes[i].bits += (unsigned)__builtin_popcount(wrong);
            }
        }
    }
    tier_io_destroy(io);
    free(pages);
    free(requests);
    close_file(fd);
}

static void faults_are_the_same_with_the_same_seed_whatever_ends_first(void **state) {
    static struct outcome first[FAULTY], second[FAULTY], other[FAULTY];
    struct tier_io_faults faults = {.seed = 77,
                                    .read_error = 100000,
                                    .write_error = 200000,
                                    .short_transfer = 300000,
                                    .flipped_bit = 100000,
                                    .delay = 100000,
                                    .delay_reaps_max = 5};
    run_with_faults(state, 3, faults, first);
    run_with_faults(state, 100, faults, second);
    assert_memory_equal(first, second, sizeof(first));
    faults.seed = 78;
    run_with_faults(state, 3, faults, other);
    assert_memory_not_equal(first, other, sizeof(first));
}

static void faults_come_as_often_as_asked_and_are_what_they_are_called(void **state) {
    static struct outcome outcomes[FAULTY];
    const struct tier_io_faults faults = {
        .seed = 9, .read_error = 100000, .write_error = 400000, .short_transfer = 500000, .flipped_bit = 200000};
    unsigned read_errors = 0, write_errors = 0, flips = 0;
    run_with_faults(state, 50, faults, outcomes);
    for (unsigned i = 0; i < FAULTY; i++) {
        bool write = i % 4 == 0;
        assert_true(outcomes[i].error == 0 || outcomes[i].error == EIO);
        assert_in_range(outcomes[i].bits, 0, write ? 0 : 1);
        *(write ? &write_errors : &read_errors) += outcomes[i].error != 0;
        flips += outcomes[i].bits;
    }
    assert_in_range(read_errors, 100, 200);  /* a tenth of 1500 */
    assert_in_range(write_errors, 150, 250); /* four tenths of 500 */
    assert_in_range(flips, 200, 340);        /* a fifth of the 1350 that are read */
}

static void without_a_seed_there_are_no_faults(void **state) {
    write_then_read_thousands(
        state, 0, 0, (struct tier_io_faults){.read_error = 1000000, .write_error = 1000000, .flipped_bit = 1000000});
}

static void automatic_is_one_of_the_two(void **state) {
    (void)state;
    int fd = open_file(0);
    const struct tier_io_options options = {.fd = fd};
    struct tier_io *io = tier_io_create(&options);
    assert_non_null(io);
    assert_true(tier_io_kind(io) == TIER_IO_URING || tier_io_kind(io) == TIER_IO_THREADS);
    print_message("io: %s\n", tier_io_kind(io) == TIER_IO_URING ? "io_uring" : "threads");
    assert_int_equal(tier_io_reap(io), 0);
    tier_io_submit(io);
    tier_io_destroy(io);
    close_file(fd);
}

/* In a process of its own, where io_uring_setup fails as in a container that filters it. */
static int without_io_uring(int fd) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {.len = sizeof(program) / sizeof(*program), .filter = program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        return 77;
    struct tier_io_options options = {.fd = fd, .kind = TIER_IO_URING};
    if (tier_io_create(&options) || errno != EPERM) return 1;
    options.kind = TIER_IO_AUTO;
    struct tier_io *io = tier_io_create(&options);
    if (!io || tier_io_kind(io) != TIER_IO_THREADS) return 2;
    char *page = new_pages(1);
    struct request request = {.io = io, .op.done = count_end};
    start_page(&request, page, 1, 1, false);
    tier_io_wait(io, &request.op);
    assert_page(page, 1);
    tier_io_destroy(io);
    free(page);
    return request.op.error;
}

static void automatic_is_threads_where_io_uring_is_forbidden(void **state) {
    (void)state;
    int fd = numbered_file(2, 0), status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(without_io_uring(fd));
    assert_int_equal(waitpid(child, &status, 0), child);
    close_file(fd);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: no seccomp filters here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_descriptor_that_is_none_is_refused(void **state) {
    (void)state;
    const struct tier_io_options options = {.fd = -1};
    assert_null(tier_io_create(&options));
    assert_int_equal(errno, EBADF);
}

static enum tier_io_kind uring = TIER_IO_URING, threads = TIER_IO_THREADS;

#define WITH_BOTH(test)                                                                                                \
    {"io_uring: " #test, test, NULL, NULL, &uring}, {                                                                  \
        "threads: " #test, test, NULL, NULL, &threads                                                                  \
    }

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BOTH(thousands_at_once_are_written_and_read_back),
        WITH_BOTH(thousands_at_once_are_written_and_read_back_without_the_page_cache),
        WITH_BOTH(short_transfers_are_continued),
        WITH_BOTH(delayed_operations_end_too),
        WITH_BOTH(the_event_falls_silent_when_nothing_is_under_way),
        WITH_BOTH(the_end_of_the_file_is_an_error),
        WITH_BOTH(an_error_of_the_kernel_is_handed_on),
        WITH_BOTH(a_write_over_the_limit_of_file_sizes_is_an_error),
        WITH_BOTH(waiting_ends_the_operation_and_spares_its_memory),
        WITH_BOTH(an_end_may_start_others_and_wait_for_them),
        WITH_BOTH(destroying_waits_for_everything_started),
        WITH_BOTH(another_thread_than_the_owner_may_create_and_destroy),
        WITH_BOTH(faults_are_the_same_with_the_same_seed_whatever_ends_first),
        WITH_BOTH(faults_come_as_often_as_asked_and_are_what_they_are_called),
        WITH_BOTH(without_a_seed_there_are_no_faults),
        cmocka_unit_test(automatic_is_one_of_the_two),
        cmocka_unit_test(automatic_is_threads_where_io_uring_is_forbidden),
        cmocka_unit_test(a_descriptor_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
