/* The manifest: its text both ways, what is refused, and the life of a rewrite. */

#include "persist/aof_layout.h"
#include "persist/aof_manifest.h"
#include "tests/support/failing_io.h"
#include "tests/support/temporary_folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static char error[AOF_MANIFEST_ERROR_MAX];

static bool parses(struct aof_manifest *manifest, const char *text) {
    return aof_manifest_parse(manifest, span_of_text(text), error);
}

static char *composed(const struct aof_manifest *manifest) {
    size_t length;
    char *text = aof_manifest_compose(manifest, &length);
    assert_non_null(text);
    assert_int_equal(strlen(text), length);
    return text;
}

/* Without the checksum. */
static void expect_text(const struct aof_manifest *manifest, const char *expected) {
    char *text = composed(manifest);
    char *seal = strrchr(text, '#');
    assert_non_null(seal);
    assert_null(strchr(seal, '\n'));
    *seal = '\0';
    assert_string_equal(text, expected);
    free(text);
}

static void a_manifest_of_redis_is_read(void **state) {
    (void)state;
    struct aof_manifest manifest;
    assert_true(parses(&manifest, "file appendonly.aof.2.base.rdb seq 2 type b\n"
                                  "file appendonly.aof.1.incr.aof seq 1 type h\n"
                                  "# a comment\n"
                                  "file appendonly.aof.2.incr.aof seq 2 type i\n"
                                  "file appendonly.aof.3.incr.aof seq 3 type i startoffset 12\n"));
    assert_int_equal(manifest.count, 4);
    assert_int_equal(manifest.base_sequence, 2);
    assert_int_equal(manifest.increment_sequence, 3);
    assert_string_equal(aof_manifest_base(&manifest)->name, "appendonly.aof.2.base.rdb");
    assert_string_equal(aof_manifest_last_increment(&manifest)->name, "appendonly.aof.3.incr.aof");
    expect_text(&manifest, "file appendonly.aof.2.base.rdb seq 2 type b\n"
                           "file appendonly.aof.1.incr.aof seq 1 type h\n"
                           "file appendonly.aof.2.incr.aof seq 2 type i\n"
                           "file appendonly.aof.3.incr.aof seq 3 type i\n");
    aof_manifest_free(&manifest);
}

static void names_are_quoted_as_redis_does(void **state) {
    (void)state;
    struct aof_manifest manifest, again;
    assert_true(parses(&manifest, "file \"a \\\"b\\\" \\\\\\n\\x00\\x80.aof\" seq 1 type b\n") == false); /* a NUL */
    assert_true(parses(&manifest, "file \"a \\\"b\\\" \\\\\\n\\x80.aof\" seq 1 type b\nfile 'it''s' seq 1 type i\n") ==
                false);
    assert_true(parses(&manifest, "file \"a \\\"b\\\" \\\\\\n\\x80.aof\" seq 1 type b\nfile 'it\\'s' seq 1 type i\n"));
    assert_string_equal(manifest.files[0].name, "a \"b\" \\\n\x80.aof");
    assert_string_equal(manifest.files[1].name, "it's");
    char *text = composed(&manifest);
    assert_non_null(strstr(text, "file \"a \\\"b\\\" \\\\\\n\\x80.aof\" seq 1 type b\nfile \"it's\" seq 1 type i\n"));
    assert_true(parses(&again, text));
    assert_string_equal(again.files[0].name, manifest.files[0].name);
    assert_string_equal(again.files[1].name, manifest.files[1].name);
    free(text);
    aof_manifest_free(&again);
    aof_manifest_free(&manifest);
}

static void what_is_no_manifest_is_refused_with_its_line(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "\n",
        "file a seq 1 type b",
        "file a seq 1\n",
        "file a seq 1 type b more\n",
        "file a/b seq 1 type b\n",
        "file .. seq 1 type b\n",
        "file \"\" seq 1 type b\n",
        "file \"a seq 1 type b\n",
        "file \"a\"b seq 1 type b\n",
        "file a seq 0 type b\n",
        "file a seq -1 type b\n",
        "file a seq 1x type b\n",
        "file a seq 99999999999999999999 type b\n",
        "file a seq 1 type x\n",
        "file a seq 1 type base\n",
        "file a seq 1 type b\nfile b seq 2 type b\n",
        "file a seq 2 type i\nfile b seq 2 type i\n",
        "#TERRACE:0123456789abcdef\nfile a seq 1 type b\n",
        "file a seq 1 type b\n#TERRACE:0123456789abcdef\n",
        "file a seq 1 type b\n#TERRACE:0123456789abcdef",
        "file a seq 1 type b\n#TERRACE:0123",
        "file a seq 1 type b\n# a comment that is cut",
        "file a seq 1 type b\n#",
    };
    struct aof_manifest manifest;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        error[0] = '\0';
        assert_false(parses(&manifest, texts[i]));
        assert_true(strlen(error) > 0);
    }
    assert_false(parses(&manifest, "file a seq 1 type b\nfile b seq 2 type b\n"));
    assert_string_equal(error, "line 2: Found duplicate base file information");
    char longer[AOF_MANIFEST_LINE_MAX + 64];
    memset(longer, ' ', sizeof(longer));
    memcpy(longer, "file a seq 1 type b", 19);
    strcpy(longer + sizeof(longer) - 2, "\n");
    assert_false(parses(&manifest, longer));
    assert_string_equal(error, "line 1: The AOF manifest file contains too long line");
}

/* Each flip is found, or leaves the same files in the same order. */
static void any_flipped_bit_is_found_or_harmless(void **state) {
    (void)state;
    struct aof_manifest manifest, flipped;
    assert_true(parses(&manifest, "file a.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\n"
                                  "file a.2.incr.aof seq 2 type i\nfile a.3.incr.aof seq 3 type i\n"));
    size_t length;
    unsigned harmless = 0;
    char *text = aof_manifest_compose(&manifest, &length), *before = composed(&manifest);
    for (size_t bit = 0; bit < length * 8; bit++) {
        text[bit / 8] ^= (char)(1 << bit % 8);
        if (aof_manifest_parse(&flipped, span_of(text, length), error)) {
            char *after = composed(&flipped);
            assert_string_equal(after, before);
            free(after);
            aof_manifest_free(&flipped);
            harmless++;
        }
        text[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(harmless, 0);
    /* A torn manifest cannot be: it was renamed. Cut between two lines it is one of Redis's, elsewhere it is refused.
     */
    for (size_t left = 1; left < length; left++) {
        bool taken = aof_manifest_parse(&flipped, span_of(text, left), error);
        assert_int_equal(taken, text[left - 1] == '\n');
        if (taken) aof_manifest_free(&flipped);
    }
    free(before);
    free(text);
    aof_manifest_free(&manifest);
}

static void a_rewrite_leads_to_history_and_then_to_the_new_files(void **state) {
    (void)state;
    struct aof_manifest manifest, copy;
    aof_manifest_init(&manifest);
    assert_null(aof_manifest_base(&manifest));
    assert_null(aof_manifest_last_increment(&manifest));
    assert_non_null(aof_manifest_replace_base(&manifest, "a", true, 0));
    assert_non_null(aof_manifest_add_increment(&manifest, "a"));
    expect_text(&manifest, "file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\n");
    const struct aof_file *added = aof_manifest_add_increment(&manifest, "a");
    assert_string_equal(added->name, "a.2.incr.aof");
    uint64_t keep_from = added->sequence;
    assert_true(aof_manifest_copy(&copy, &manifest));
    assert_string_equal(aof_manifest_replace_base(&manifest, "a", true, keep_from)->name, "a.2.base.rdb");
    expect_text(&manifest, "file a.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\n"
                           "file a.1.base.rdb seq 1 type h\nfile a.2.incr.aof seq 2 type i\n");
    expect_text(&copy, "file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\n"
                       "file a.2.incr.aof seq 2 type i\n");
    aof_manifest_forget(&manifest, "a.1.base.rdb");
    aof_manifest_forget_history(&manifest);
    expect_text(&manifest, "file a.2.base.rdb seq 2 type b\nfile a.2.incr.aof seq 2 type i\n");
    aof_manifest_free(&copy);
    aof_manifest_free(&manifest);
}

static void an_old_single_file_becomes_the_base(void **state) {
    (void)state;
    struct aof_manifest manifest;
    aof_manifest_init(&manifest);
    assert_true(aof_manifest_adopt_base(&manifest, "appendonly.aof"));
    expect_text(&manifest, "file appendonly.aof seq 1 type b\n");
    aof_manifest_free(&manifest);
}

/* ---- on disk ---- */

static void storing_fails_whole_or_not_at_all(void **state) {
    (void)state;
    struct failing_io failing;
    failing_io_init(&failing, EIO);
    failing.write_bytes_max = 7;
    struct aof_manifest old, new, found;
    aof_manifest_init(&old);
    assert_non_null(aof_manifest_replace_base(&old, "x", true, 0));
    assert_true(aof_manifest_copy(&new, &old));
    assert_non_null(aof_manifest_add_increment(&new, "x"));
    assert_int_equal(mkdir("dir", 0755), 0);
    assert_int_equal(aof_manifest_load(&found, "dir", "x", error), AOF_MANIFEST_ABSENT);
    assert_int_equal(aof_manifest_load(&found, "nowhere", "x", error), AOF_MANIFEST_ABSENT);
    bool stored = false;
    for (unsigned fault = 1; !stored; fault++) {
        assert_true(aof_manifest_store(&old, &file_io_system, "dir", "x"));
        failing_io_restart(&failing, fault);
        stored = aof_manifest_store(&new, &failing.io, "dir", "x");
        if (!stored) assert_int_equal(errno, EIO);
        assert_int_equal(aof_manifest_load(&found, "dir", "x", error), AOF_MANIFEST_FOUND);
        assert_true(found.count == 1 || found.count == 2);
        if (stored) assert_int_equal(found.count, 2);
        aof_manifest_free(&found);
        assert_int_equal(access("dir/temp-x.manifest", F_OK), -1);
    }
    assert_true(failing.fail_at > 8);
    temporary_folder_write("dir/x.manifest", "nonsense\n");
    assert_int_equal(aof_manifest_load(&found, "dir", "x", error), AOF_MANIFEST_UNREADABLE);
    assert_int_equal(found.count, 0);
    aof_manifest_free(&new);
    aof_manifest_free(&old);
    unlink("dir/x.manifest");
    rmdir("dir");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest_of_redis_is_read),
        cmocka_unit_test(names_are_quoted_as_redis_does),
        cmocka_unit_test(what_is_no_manifest_is_refused_with_its_line),
        cmocka_unit_test(any_flipped_bit_is_found_or_harmless),
        cmocka_unit_test(a_rewrite_leads_to_history_and_then_to_the_new_files),
        cmocka_unit_test(an_old_single_file_becomes_the_base),
        cmocka_unit_test(storing_fails_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
