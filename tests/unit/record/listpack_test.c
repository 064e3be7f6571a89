/* Listpacks: the bytes of redis-server 7.0.15, every bound of the format, random edits against a plain array of texts,
 * and bytes damaged at random, which must be refused. Every listpack lies in memory of exactly its size, so that a
 * sanitizer sees a byte too many. */

#include "base/random.h"
#include "record/listpack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { MODEL_ENTRIES_MAX = 200, MODEL_STEPS = 60000, DAMAGES = 30000, SPLICE_MAX = 5 };

static uint64_t seed;

/* A listpack and its memory. */
struct packed {
    uint8_t *bytes;
};

static struct packed make_empty(void) {
    struct packed packed = {malloc(LISTPACK_EMPTY_BYTES)};
    listpack_write_empty(packed.bytes);
    return packed;
}

static struct span span_of_packed(const struct packed *packed) {
    return span_of(packed->bytes, listpack_bytes(packed->bytes));
}

/* As whoever edits a record does: room first when it grows, cut afterwards when it shrinks. */
static const uint8_t *apply(struct packed *packed, const struct listpack_edit *edit) {
    size_t before = listpack_bytes(packed->bytes), after = listpack_length_after(packed->bytes, edit);
    if (after > before) packed->bytes = realloc(packed->bytes, after);
    const uint8_t *changed = listpack_apply(packed->bytes, edit);
    assert_ptr_equal(changed, packed->bytes + edit->offset);
    assert_int_equal(listpack_bytes(packed->bytes), after);
    if (after < before) packed->bytes = realloc(packed->bytes, after);
    return packed->bytes + edit->offset;
}

static void append(struct packed *packed, struct span text) {
    struct listpack_element element = listpack_element_of_text(text);
    struct listpack_edit edit = listpack_plan_append(packed->bytes, &element, 1);
    apply(packed, &edit);
}

static struct packed make_of(const char *const *texts, size_t count) {
    struct packed packed = make_empty();
    for (size_t i = 0; i < count; i++) append(&packed, span_of_text(texts[i]));
    return packed;
}

static void assert_entry_is(const uint8_t *entry, struct span text) {
    char room[LISTPACK_NUMBER_TEXT_BYTES];
    struct span own = listpack_get_text(entry, room);
    assert_int_equal(own.length, text.length);
    if (text.length) assert_memory_equal(own.data, text.data, text.length);
    assert_true(listpack_equals(entry, text));
}

/* ---- The bytes of Redis ---- */

/* RPUSH of these, then DUMP. */
static const char *const mixed_texts[] = {"a",
                                          "127",
                                          "128",
                                          "-1",
                                          "4095",
                                          "-4096",
                                          "4096",
                                          "-4097",
                                          "32767",
                                          "-32768",
                                          "32768",
                                          "8388607",
                                          "-8388608",
                                          "8388608",
                                          "2147483647",
                                          "2147483648",
                                          "-2147483648",
                                          "-9223372036854775808",
                                          "9223372036854775807",
                                          "9223372036854775808",
                                          "007",
                                          "-0",
                                          "+1",
                                          "",
                                          "-",
                                          "0",
                                          " 1",
                                          "1 ",
                                          "12345678901234567890",
                                          "1.5"};
static const char mixed_bytes[] =
    "b30000001e008161027f01c08002dfff02cfff02d00002f1001003f1ffef03f1ff7f03f1008003f200800004f2ffff7f04f200008004f3"
    "0000800005f3ffffff7f05f4000000800000000009f30000008005f4000000000000008009f4ffffffffffffff7f099339323233333732"
    "303336383534373735383038148330303704822d3003822b31038001812d02000182203103823120039431323334353637383930313233"
    "343536373839301583312e3504ff";

enum { MIXED_COUNT = sizeof(mixed_texts) / sizeof(mixed_texts[0]), MIXED_BYTES = (sizeof(mixed_bytes) - 1) / 2 };

static void bytes_of_hex(const char *hex, uint8_t *bytes) {
    for (size_t i = 0; hex[2 * i]; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        bytes[i] = (uint8_t)byte;
    }
}

static void every_form_has_the_bytes_of_redis(void **state) {
    (void)state;
    uint8_t expected[MIXED_BYTES];
    bytes_of_hex(mixed_bytes, expected);
    assert_true(listpack_is_valid(span_of(expected, sizeof(expected))));

    struct packed packed = make_of(mixed_texts, MIXED_COUNT);
    assert_int_equal(listpack_bytes(packed.bytes), sizeof(expected));
    assert_memory_equal(packed.bytes, expected, sizeof(expected));

    uint8_t *written = malloc(sizeof(expected));
    struct listpack_writer writer;
    listpack_writer_begin(&writer, written, sizeof(expected));
    for (size_t i = 0; i < MIXED_COUNT; i++) listpack_writer_append_text(&writer, span_of_text(mixed_texts[i]));
    assert_int_equal(listpack_writer_length(&writer), sizeof(expected));
    assert_int_equal(listpack_writer_finish(&writer), sizeof(expected));
    assert_memory_equal(written, expected, sizeof(expected));

    for (size_t i = 0; i < MIXED_COUNT; i++) {
        const uint8_t *entry = listpack_at(packed.bytes, (int64_t)i);
        assert_entry_is(entry, span_of_text(mixed_texts[i]));
        assert_ptr_equal(listpack_find(listpack_first(packed.bytes), span_of_text(mixed_texts[i]), 0), entry);
    }
    free(written);
    free(packed.bytes);
}

/* HSET key f <x repeated>: what stands around the text in the DUMP. */
static const struct {
    size_t length, total;
    const char *head, *backlen;
} long_texts[] = {
    {62, 74, "be", "3f"},
    {63, 75, "bf", "40"},
    {64, 77, "e040", "42"},
    {125, 138, "e07d", "7f"},
    {126, 140, "e07e", "0180"},
    {4095, 4109, "efff", "2081"},
    {4096, 4113, "f000100000", "2085"},
    {16376, 16393, "f0f83f0000", "7ffd"},
    {16377, 16394, "f0f93f0000", "7ffe"},
    {16378, 16396, "f0fa3f0000", "00ffff"}, /* two bytes would do */
    {16379, 16397, "f0fb3f0000", "018080"},
    {2097145, 2097163, "f0f9ff1f00", "7ffffe"},
    {2097146, 2097165, "f0faff1f00", "00ffffff"},
    {2097147, 2097166, "f0fbff1f00", "01808080"},
};

static void long_texts_have_the_heads_and_backlens_of_redis(void **state) {
    (void)state;
    char *text = malloc(2097147);
    memset(text, 'x', 2097147);
    for (size_t i = 0; i < sizeof(long_texts) / sizeof(long_texts[0]); i++) {
        size_t length = long_texts[i].length;
        struct packed packed = make_of((const char *const[]){"f"}, 1);
        append(&packed, span_of(text, length));
        assert_int_equal(listpack_bytes(packed.bytes), long_texts[i].total);
        assert_true(listpack_is_valid(span_of_packed(&packed)));

        uint8_t head[5], backlen[5];
        size_t head_bytes = strlen(long_texts[i].head) / 2, backlen_bytes = strlen(long_texts[i].backlen) / 2;
        bytes_of_hex(long_texts[i].head, head);
        bytes_of_hex(long_texts[i].backlen, backlen);
        const uint8_t *entry = listpack_last(packed.bytes);
        assert_ptr_equal(entry, packed.bytes + LISTPACK_HEADER_BYTES + 3);
        assert_memory_equal(entry, head, head_bytes);
        assert_memory_equal(entry + head_bytes + length, backlen, backlen_bytes);
        assert_true(listpack_at_end(listpack_next(entry)));
        assert_entry_is(entry, span_of(text, length));
        assert_ptr_equal(listpack_find(listpack_first(packed.bytes), span_of(text, length), 0), entry);
        assert_null(listpack_find(listpack_first(packed.bytes), span_of(text, length - 1), 0));
        free(packed.bytes);
    }
    free(text);
}

static void five_byte_backlen_is_walked_both_ways(void **state) {
    (void)state;
    /* Content of 2^28 - 1 bytes: the first that takes five. */
    size_t length = (1u << 28) - 1 - 5;
    char *text = calloc(length, 1);
    struct listpack_element element = listpack_element_of_text(span_of(text, length));
    assert_int_equal(element.bytes, length + 5 + 5);
    assert_int_equal(listpack_element_of_text(span_of(text, length - 1)).bytes, length - 1 + 5 + 4);
    struct packed packed = make_of((const char *const[]){"f"}, 1);
    struct listpack_edit edit = listpack_plan_append(packed.bytes, &element, 1);
    apply(&packed, &edit);
    assert_true(listpack_is_valid(span_of_packed(&packed)));
    const uint8_t *entry = listpack_last(packed.bytes);
    assert_true(listpack_at_end(listpack_next(entry)));
    assert_entry_is(listpack_previous(packed.bytes, entry), SPAN_LITERAL("f"));
    free(packed.bytes);
    free(text);
}

/* ---- Behaviour ---- */

static void empty_listpack_has_seven_bytes_and_no_entries(void **state) {
    (void)state;
    struct packed packed = make_empty();
    assert_memory_equal(packed.bytes, "\x07\0\0\0\0\0\xff", 7);
    assert_true(listpack_is_empty(packed.bytes));
    assert_true(listpack_is_valid(span_of_packed(&packed)));
    assert_true(listpack_at_end(listpack_first(packed.bytes)));
    assert_null(listpack_last(packed.bytes));
    assert_null(listpack_at(packed.bytes, 0));
    assert_null(listpack_at(packed.bytes, -1));
    assert_null(listpack_find(listpack_first(packed.bytes), SPAN_LITERAL(""), 1));
    free(packed.bytes);
}

static void find_looks_only_at_every_other_entry_when_told_so(void **state) {
    (void)state;
    const char *const texts[] = {"name", "age", "age", "42", "42", "name"};
    struct packed packed = make_of(texts, 6);
    const uint8_t *first = listpack_first(packed.bytes);
    assert_ptr_equal(listpack_find(first, SPAN_LITERAL("age"), 0), listpack_at(packed.bytes, 1));
    assert_ptr_equal(listpack_find(first, SPAN_LITERAL("age"), 1), listpack_at(packed.bytes, 2));
    assert_ptr_equal(listpack_find(first, SPAN_LITERAL("42"), 0), listpack_at(packed.bytes, 3));
    assert_ptr_equal(listpack_find(first, SPAN_LITERAL("42"), 1), listpack_at(packed.bytes, 4));
    assert_null(listpack_find(listpack_skip(first, 2), SPAN_LITERAL("42"), 2));
    assert_null(listpack_find(first, SPAN_LITERAL("042"), 0));
    assert_null(listpack_find(first, SPAN_LITERAL("nam"), 0));
    assert_null(listpack_find(first, SPAN_LITERAL("namf"), 0));
    free(packed.bytes);
}

static void integers_that_others_packed_at_length_are_found(void **state) {
    (void)state;
    /* 5 in eight bytes, then 6 as text, then 7 in two bytes. */
    static const uint8_t bytes[] = {24, 0, 0, 0, 3,    0,   0xf4, 5,    0, 0, 0,   0,
                                    0,  0, 0, 9, 0x81, '6', 2,    0xf1, 7, 0, 0x3, 0xff};
    assert_true(listpack_is_valid(span_of(bytes, sizeof(bytes))));
    const char *const texts[] = {"5", "6", "7"};
    for (int i = 0; i < 3; i++) {
        const uint8_t *entry = listpack_at(bytes, i);
        assert_non_null(entry);
        assert_entry_is(entry, span_of_text(texts[i]));
        assert_ptr_equal(listpack_find(listpack_first(bytes), span_of_text(texts[i]), 0), entry);
    }
}

static void count_past_65534_is_unknown_and_walked(void **state) {
    (void)state;
    enum { COUNT = 65534, CAPACITY = LISTPACK_EMPTY_BYTES + 2 * (COUNT + 1) };
    struct packed packed = {malloc(CAPACITY)};
    struct listpack_writer writer;
    listpack_writer_begin(&writer, packed.bytes, CAPACITY);
    for (int i = 0; i < COUNT; i++) listpack_writer_append_integer(&writer, i % 100);
    size_t length = listpack_writer_finish(&writer);
    assert_int_equal(length, CAPACITY - 2);
    assert_memory_equal(packed.bytes + 4, "\xfe\xff", 2);
    assert_int_equal(listpack_count(packed.bytes), COUNT);

    append(&packed, SPAN_LITERAL("77"));
    assert_memory_equal(packed.bytes + 4, "\xff\xff", 2);
    assert_int_equal(listpack_count(packed.bytes), COUNT + 1);
    assert_ptr_equal(listpack_at(packed.bytes, COUNT), listpack_last(packed.bytes));
    assert_true(listpack_is_valid(span_of_packed(&packed)));

    struct listpack_edit edit = listpack_plan_delete(packed.bytes, listpack_first(packed.bytes), 10);
    apply(&packed, &edit);
    assert_memory_equal(packed.bytes + 4, "\xff\xff", 2); /* once unknown it stays so, as in Redis */
    assert_int_equal(listpack_count(packed.bytes), COUNT - 9);
    assert_true(listpack_is_valid(span_of_packed(&packed)));
    free(packed.bytes);
}

static void listpack_is_thinned_out_in_place(void **state) {
    (void)state;
    struct packed packed = make_of(mixed_texts, MIXED_COUNT);
    struct listpack_writer writer;
    listpack_writer_begin(&writer, packed.bytes, listpack_bytes(packed.bytes));
    unsigned index = 0;
    for (const uint8_t *at = listpack_first(packed.bytes); !listpack_at_end(at); index++) {
        const uint8_t *next = listpack_next(at);
        if (index % 3 != 0) listpack_writer_append_entries(&writer, at, next, 1);
        at = next;
    }
    size_t length = listpack_writer_finish(&writer);
    assert_true(listpack_is_valid(span_of(packed.bytes, length)));
    assert_int_equal(listpack_count(packed.bytes), MIXED_COUNT - (MIXED_COUNT + 2) / 3);
    for (unsigned i = 0, kept = 0; i < MIXED_COUNT; i++)
        if (i % 3 != 0) assert_entry_is(listpack_at(packed.bytes, kept++), span_of_text(mixed_texts[i]));
    free(packed.bytes);
}

static void texts_that_differ_in_one_byte_are_told_apart(void **state) {
    (void)state;
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    char text[sizeof(alphabet)];
    for (size_t length = 1; length < sizeof(alphabet); length++) {
        struct packed packed = make_empty();
        append(&packed, span_of(alphabet, length));
        for (size_t at = 0; at <= length; at++) {
            memcpy(text, alphabet, sizeof(text));
            if (at < length) text[at] ^= 0x20;
            assert_int_equal(listpack_find(listpack_first(packed.bytes), span_of(text, length), 0) != NULL,
                             at == length);
            assert_int_equal(listpack_equals(listpack_first(packed.bytes), span_of(text, length)), at == length);
        }
        free(packed.bytes);
    }
}

/* ---- The model: an array of texts ---- */

struct model {
    struct span texts[MODEL_ENTRIES_MAX + SPLICE_MAX];
    uint32_t count;
};

/* Texts of every form; few different ones, so that some are met again. The caller frees the bytes. */
static struct span make_text(struct random *random) {
    char *text = malloc(20000);
    size_t length;
    switch (random_below(random, 6)) {
    case 0: length = (size_t)sprintf(text, "%d", (int)random_between(random, -3, 130)); break;
    case 1: {
        int64_t number = (int64_t)(random_next(random) >> random_below(random, 64));
        length = number_format_i64(random_below(random, 2) ? number : -(number & INT64_MAX), text);
        break;
    }
    case 2: length = (size_t)sprintf(text, "field%02d", (int)random_below(random, 30)); break;
    case 3: length = (size_t)sprintf(text, "%0*d", (int)random_between(random, 1, 12), 7); break;
    default: {
        static const uint16_t bounds[] = {8, 70, 130, 130, 8, 4100, 70, 17000};
        length = random_below(random, bounds[random_below(random, random_once_in(random, 20) ? 8 : 5)]);
        memset(text, 'a' + (int)random_below(random, 2), length);
        if (length) text[random_below(random, length)] = 'z';
    }
    }
    return span_of(realloc(text, length ? length : 1), length);
}

/* Index of the first match as listpack_find sees it, or -1. */
static int model_find(const struct model *model, uint32_t from, struct span text, unsigned skip) {
    for (uint32_t i = from; i < model->count; i += skip + 1)
        if (span_equal(model->texts[i], text)) return (int)i;
    return -1;
}

static void model_splice(struct model *model, uint32_t position, uint32_t removed, const struct span *texts,
                         uint32_t count) {
    for (uint32_t i = 0; i < removed; i++) free((char *)(uintptr_t)model->texts[position + i].data);
    memmove(&model->texts[position + count], &model->texts[position + removed],
            (model->count - position - removed) * sizeof(struct span));
    if (count) memcpy(&model->texts[position], texts, count * sizeof(struct span));
    model->count = model->count + count - removed;
}

static void compare(const struct model *model, const struct packed *packed) {
    assert_true(listpack_is_valid(span_of_packed(packed)));
    assert_int_equal(listpack_count(packed->bytes), model->count);
    assert_int_equal(listpack_count_by_walking(packed->bytes), model->count);
    const uint8_t *at = listpack_first(packed->bytes);
    for (uint32_t i = 0; i < model->count; i++, at = listpack_next(at)) assert_entry_is(at, model->texts[i]);
    assert_ptr_equal(at, listpack_end(packed->bytes));
    for (uint32_t i = model->count; i-- > 0;) {
        at = listpack_previous(packed->bytes, at);
        assert_ptr_equal(at, listpack_at(packed->bytes, i));
        assert_ptr_equal(at, listpack_at(packed->bytes, (int64_t)i - model->count));
    }
    assert_null(listpack_previous(packed->bytes, at));
    assert_null(listpack_at(packed->bytes, model->count));
    assert_null(listpack_at(packed->bytes, -(int64_t)model->count - 1));
}

static void look_for_something(const struct model *model, const struct packed *packed, struct random *random) {
    bool known = model->count > 0 && random_below(random, 2);
    struct span text = known ? model->texts[random_below(random, model->count)] : make_text(random);
    uint32_t from = (uint32_t)random_below(random, model->count + 1);
    unsigned skip = (unsigned)random_below(random, 4);
    const uint8_t *found = listpack_find(listpack_skip(listpack_first(packed->bytes), from), text, skip);
    int expected = model_find(model, from, text, skip);
    if (expected < 0)
        assert_null(found);
    else
        assert_ptr_equal(found, listpack_at(packed->bytes, expected));
    if (!known) free((char *)(uintptr_t)text.data);
}

static void splice_something(struct model *model, struct packed *packed, struct random *random) {
    uint32_t position = (uint32_t)random_below(random, model->count + 1);
    uint32_t asked = (uint32_t)random_below(random, SPLICE_MAX), removed = asked;
    if (removed > model->count - position) removed = model->count - position;
    uint32_t count = (uint32_t)random_below(random, SPLICE_MAX + 1);
    if (model->count + count > MODEL_ENTRIES_MAX) count = 0;
    struct span texts[SPLICE_MAX];
    struct listpack_element elements[SPLICE_MAX];
    for (uint32_t i = 0; i < count; i++) {
        texts[i] = make_text(random);
        elements[i] = listpack_element_of_text(texts[i]);
    }
    const uint8_t *at = listpack_skip(listpack_first(packed->bytes), position);
    struct listpack_edit edit = listpack_plan_splice(packed->bytes, at, asked, elements, count);
    assert_int_equal(edit.removed_count, removed);
    at = apply(packed, &edit);
    model_splice(model, position, removed, texts, count);
    if (position < model->count)
        assert_entry_is(at, model->texts[position]);
    else
        assert_true(listpack_at_end(at));
}

static void random_edits_agree_with_an_array(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, seed);
    struct model *model = calloc(1, sizeof(*model));
    struct packed packed = make_empty();
    for (int step = 0; step < MODEL_STEPS; step++) {
        if (step % 4 == 0)
            splice_something(model, &packed, &random);
        else
            look_for_something(model, &packed, &random);
        if (step % 64 == 0) compare(model, &packed);
        if (random_once_in(&random, 3000)) {
            struct listpack_edit edit =
                listpack_plan_delete(packed.bytes, listpack_first(packed.bytes), MODEL_ENTRIES_MAX);
            apply(&packed, &edit);
            model_splice(model, 0, model->count, NULL, 0);
            assert_true(listpack_is_empty(packed.bytes));
        }
    }
    compare(model, &packed);
    model_splice(model, 0, model->count, NULL, 0);
    free(model);
    free(packed.bytes);
}

/* ---- Bytes from anyone ---- */

static void every_cut_and_every_extension_is_refused(void **state) {
    (void)state;
    struct packed packed = make_of(mixed_texts, MIXED_COUNT);
    char text[200] = {0}; /* with a backlen of two bytes */
    append(&packed, span_of(text, sizeof(text)));
    uint32_t length = listpack_bytes(packed.bytes);
    for (uint32_t cut = 0; cut < length; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1);
        memcpy(copy, packed.bytes, cut);
        assert_false(listpack_is_valid(span_of(copy, cut)));
        if (cut >= LISTPACK_EMPTY_BYTES) { /* nor when total and end are made to agree */
            memcpy(copy, &cut, 4);
            copy[cut - 1] = LISTPACK_END;
            assert_false(listpack_is_valid(span_of(copy, cut)));
        }
        free(copy);
    }
    free(packed.bytes);
}

static void wrong_headers_and_backlens_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "070000000000fe",             /* no end */
        "070000000100ff",             /* count 1 of no entries */
        "09000000010001ff",           /* shorter than it says */
        "0900000001000001ffff",       /* longer than it says */
        "09000000ffff000100",         /* no end */
        "0900000002000001ff",         /* count 2 of one entry */
        "0900000000000001ff",         /* count 0 of one entry */
        "08000000ffff00ff",           /* an integer without backlen */
        "09000000ffff0002ff",         /* backlen 2 of an entry of 1 */
        "09000000ffff0000ff",         /* backlen 0 */
        "0a000000ffff000081ff",       /* backlen of 1 in two bytes */
        "09000000ffff8202ff",         /* text past the end */
        "09000000ffff8101ff",         /* text where its backlen should be */
        "08000000ffff81ff",           /* text past the end */
        "0b000000ffff0001ff01ff",     /* an end in the middle */
        "09000000fffff501ff",         /* no such head */
        "09000000fffffe01ff",         /* no such head */
        "0d000000fffff0ffffffff01ff", /* text of 4 GB */
        "0d000000fffff0faffffff01ff", /* text whose end wraps around in 32 bits */
        "08000000ffffefff",           /* head of 12 bits cut by the end */
        "09000000fffff000ff",         /* head of 32 bits cut by the end */
        "0b000000fffff400000009ff",   /* integer cut by the end */
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        size_t length = strlen(wrong[i]) / 2;
        uint8_t *bytes = malloc(length);
        bytes_of_hex(wrong[i], bytes);
        if (listpack_is_valid(span_of(bytes, length))) fail_msg("%s is taken for a listpack", wrong[i]);
        free(bytes);
    }
    static const uint8_t right[] = {9, 0, 0, 0, 0xff, 0xff, 0, 1, 0xff}; /* count unknown, though it could be known */
    assert_true(listpack_is_valid(span_of(right, sizeof(right))));
    assert_int_equal(listpack_count(right), 1);
}

static bool counts_and_refuses_the_sixth(const uint8_t *entry, uint32_t index, void *context) {
    unsigned *seen = context;
    assert_entry_is(entry, span_of_text(mixed_texts[index]));
    assert_int_equal(index, (*seen)++);
    return index != 5;
}

static void deep_check_sees_entries_in_turn_and_may_refuse(void **state) {
    (void)state;
    unsigned seen = 0;
    struct packed five = make_of(mixed_texts, 5);
    assert_true(listpack_is_valid_deep(span_of_packed(&five), counts_and_refuses_the_sixth, &seen));
    assert_int_equal(seen, 5);
    seen = 0;
    struct packed ten = make_of(mixed_texts, 10);
    assert_false(listpack_is_valid_deep(span_of_packed(&ten), counts_and_refuses_the_sixth, &seen));
    assert_int_equal(seen, 6);
    free(five.bytes);
    free(ten.bytes);
}

static void damaged_bytes_are_refused_or_walked_safely(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, seed);
    struct packed packed = make_of(mixed_texts, MIXED_COUNT);
    uint32_t length = listpack_bytes(packed.bytes);
    uint8_t *copy = malloc(length);
    unsigned taken = 0;
    for (int i = 0; i < DAMAGES; i++) {
        memcpy(copy, packed.bytes, length);
        for (uint64_t hits = random_below(&random, 3) + 1; hits > 0; hits--)
            copy[4 + random_below(&random, length - 5)] = (uint8_t)random_next(&random);
        if (!listpack_is_valid(span_of(copy, length))) continue;
        taken++;
        uint32_t forward = 0, backward = 0;
        for (const uint8_t *at = listpack_first(copy); !listpack_at_end(at); at = listpack_next(at)) forward++;
        for (const uint8_t *at = listpack_last(copy); at; at = listpack_previous(copy, at)) backward++;
        assert_int_equal(forward, backward);
        assert_int_equal(forward, listpack_count(copy));
    }
    assert_in_range(taken, 1, DAMAGES - 1);
    free(copy);
    free(packed.bytes);
}

int main(void) {
    const char *given = getenv("TERRACE_TEST_SEED");
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    print_message("TERRACE_TEST_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_has_the_bytes_of_redis),
        cmocka_unit_test(long_texts_have_the_heads_and_backlens_of_redis),
        cmocka_unit_test(five_byte_backlen_is_walked_both_ways),
        cmocka_unit_test(empty_listpack_has_seven_bytes_and_no_entries),
        cmocka_unit_test(find_looks_only_at_every_other_entry_when_told_so),
        cmocka_unit_test(texts_that_differ_in_one_byte_are_told_apart),
        cmocka_unit_test(integers_that_others_packed_at_length_are_found),
        cmocka_unit_test(count_past_65534_is_unknown_and_walked),
        cmocka_unit_test(listpack_is_thinned_out_in_place),
        cmocka_unit_test(random_edits_agree_with_an_array),
        cmocka_unit_test(every_cut_and_every_extension_is_refused),
        cmocka_unit_test(wrong_headers_and_backlens_are_refused),
        cmocka_unit_test(deep_check_sees_entries_in_turn_and_may_refuse),
        cmocka_unit_test(damaged_bytes_are_refused_or_walked_safely),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
