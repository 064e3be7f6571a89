/* What is written to the store comes out of it, from memory and from files, and memory stays within its bound. */

#include "persist/copy_store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { CHUNK = COPY_STORE_CHUNK, PIECE = 48 * 1024 + 8 };

/* Every word says where it stands. */
static void write_upto(struct copy_store *store, uint64_t *at, uint64_t upto) {
    static uint64_t words[PIECE / 8];
    while (*at < upto) {
        size_t length = upto - *at < PIECE ? (size_t)(upto - *at) : PIECE;
        for (size_t i = 0; i < length / 8; i++) words[i] = *at + i * 8;
        assert_true(copy_store_write(store, words, length));
        *at += length;
    }
}

static void expect(struct copy_store *store, int sockets[2], uint64_t at, uint64_t upto) {
    static uint64_t words[PIECE / 8];
    while (at < upto) {
        uint64_t to = upto - at < PIECE ? upto : at + PIECE;
        ssize_t sent = copy_store_send(store, sockets[0], at, to);
        assert_true(sent > 0 && sent % 8 == 0);
        assert_int_equal(recv(sockets[1], words, (size_t)sent, MSG_WAITALL), sent);
        for (size_t i = 0; i < (size_t)sent / 8; i++) assert_int_equal(words[i], at + i * 8);
        at += (uint64_t)sent;
    }
}

static void test_who_keeps_up_is_served_from_memory(void **state) {
    (void)state;
    struct copy_store *store = copy_store_create(3 * CHUNK, "/nonexistent/folder");
    int sockets[2];
    uint64_t written = 0;
    assert_non_null(store);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    for (uint64_t at = 0; at < 20 * (uint64_t)CHUNK; at += CHUNK) {
        write_upto(store, &written, at + CHUNK + CHUNK / 2);
        expect(store, sockets, at, at + CHUNK);
        copy_store_forget(store, at + CHUNK);
        assert_true(copy_store_figures(store).memory_bytes <= 3 * CHUNK);
    }
    assert_int_equal(copy_store_figures(store).file_bytes, 0);
    copy_store_destroy(store);
    close(sockets[0]);
    close(sockets[1]);
}

static void test_what_a_slow_one_leaves_goes_to_a_file_and_memory_is_used_again(void **state) {
    (void)state;
    struct copy_store *store = copy_store_create(2 * CHUNK, "/tmp");
    int sockets[2];
    uint64_t written = 0;
    assert_non_null(store);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    write_upto(store, &written, 5 * CHUNK + 800);
    struct copy_store_figures figures = copy_store_figures(store);
    assert_int_equal(figures.memory_bytes, 2 * CHUNK);
    assert_int_equal(figures.file_bytes, 4 * CHUNK);
    expect(store, sockets, 0, written);
    copy_store_forget(store, 5 * CHUNK + 800);
    copy_store_forget(store, CHUNK);
    assert_int_equal(copy_store_figures(store).memory_bytes, 0);
    write_upto(store, &written, 7 * CHUNK);
    assert_int_equal(copy_store_figures(store).file_bytes, 4 * CHUNK);
    assert_int_equal(copy_store_figures(store).memory_bytes, CHUNK);
    expect(store, sockets, 5 * CHUNK, written);
    copy_store_destroy(store);
    close(sockets[0]);
    close(sockets[1]);
}

/* A socket holds pages, not copies of them, until they are read. Can fail where there are huge pages: of memory by
 * /sys/kernel/mm/transparent_hugepage/shmem_enabled, of a disk by its file system. */
static void test_what_a_socket_still_holds_survives_being_forgotten(void **state) {
    (void)state;
    static uint64_t words[PIECE / 8];
    for (unsigned on_disk = 0; on_disk < 2; on_disk++) {
        struct copy_store *store = copy_store_create(on_disk ? 0 : 4 * CHUNK, ".");
        int sockets[2];
        uint64_t written = 0;
        assert_non_null(store);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
        write_upto(store, &written, 2 * CHUNK);
        expect(store, sockets, 0, CHUNK - PIECE);
        assert_int_equal(copy_store_send(store, sockets[0], CHUNK - PIECE, CHUNK), PIECE);
        copy_store_forget(store, CHUNK);
        write_upto(store, &written, 4 * CHUNK);
        assert_int_equal(recv(sockets[1], words, PIECE, MSG_WAITALL), PIECE);
        for (size_t i = 0; i < PIECE / 8; i++) assert_int_equal(words[i], CHUNK - PIECE + i * 8);
        copy_store_destroy(store);
        close(sockets[0]);
        close(sockets[1]);
    }
}

static void test_files_are_closed_once_all_of_them_was_sent(void **state) {
    (void)state;
    struct copy_store *store = copy_store_create(0, ".");
    const uint64_t file = COPY_STORE_FILE;
    uint64_t written = 0;
    assert_non_null(store);
    write_upto(store, &written, file);
    assert_int_equal(copy_store_figures(store).files, 1);
    write_upto(store, &written, 3 * file);
    assert_int_equal(copy_store_figures(store).files, 2);
    copy_store_forget(store, file - 1);
    assert_int_equal(copy_store_figures(store).files, 2);
    copy_store_forget(store, file);
    assert_int_equal(copy_store_figures(store).files, 1);
    copy_store_forget(store, 3 * file);
    assert_int_equal(copy_store_figures(store).files, 1); /* the one to fill stays until there is another */
    write_upto(store, &written, 3 * file + CHUNK);
    assert_int_equal(copy_store_figures(store).files, 1);
    copy_store_destroy(store);
}

static void test_without_a_file_a_write_that_needs_one_fails(void **state) {
    (void)state;
    struct copy_store *store = copy_store_create(CHUNK, "/nonexistent/folder");
    uint64_t written = 0;
    assert_non_null(store);
    write_upto(store, &written, CHUNK);
    assert_false(copy_store_write(store, &written, sizeof(written)));
    assert_int_equal(errno, ENOENT);
    copy_store_destroy(store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_keeps_up_is_served_from_memory),
        cmocka_unit_test(test_what_a_slow_one_leaves_goes_to_a_file_and_memory_is_used_again),
        cmocka_unit_test(test_what_a_socket_still_holds_survives_being_forgotten),
        cmocka_unit_test(test_files_are_closed_once_all_of_them_was_sent),
        cmocka_unit_test(test_without_a_file_a_write_that_needs_one_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
