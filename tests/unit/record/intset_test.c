/* Intsets: the bytes of redis-server 7.0.15, and random additions and removals against a plain sorted array. Every
 * intset lies in memory of exactly its size, so that a sanitizer sees a byte too many. */

#include "record/intset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { MODEL_STEPS = 200000, MODEL_MEMBERS_MAX = 512, DRAWS = 100000 };

static uint64_t seed;

static uint8_t *make_empty(void) {
    uint8_t *intset = malloc(INTSET_HEADER_BYTES);
    intset_write_empty(intset);
    return intset;
}

static bool add(uint8_t **intset, int64_t number) {
    struct intset_edit edit;
    if (!intset_plan_add(*intset, number, &edit)) return false;
    *intset = realloc(*intset, edit.bytes_after);
    intset_apply_add(*intset, &edit);
    assert_int_equal(intset_bytes(*intset), edit.bytes_after);
    return true;
}

static bool remove_number(uint8_t **intset, int64_t number) {
    if (!intset_remove(*intset, number)) return false;
    *intset = realloc(*intset, intset_bytes(*intset));
    return true;
}

/* SADD of the numbers in this order, then DUMP. */
static const struct {
    int64_t numbers[6];
    unsigned count;
    const char *bytes;
    size_t length;
} vectors[] = {
    {{1, 2, 3, -5, 32767, -32768}, 6, "\2\0\0\0\6\0\0\0\x00\x80\xfb\xff\1\0\2\0\3\0\xff\x7f", 20},
    {{1, -2, 70000}, 3, "\4\0\0\0\3\0\0\0\xfe\xff\xff\xff\1\0\0\0\x70\x11\1\0", 20},
    {{5, 5000000000, -7},
     3,
     "\x8\0\0\0\3\0\0\0\xf9\xff\xff\xff\xff\xff\xff\xff\5\0\0\0\0\0\0\0\0\xf2\5\x2a\1\0\0\0",
     32},
    {{0}, 1, "\2\0\0\0\1\0\0\0\0\0", 10},
};

static int compare_numbers(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void bytes_are_those_of_redis(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        unsigned count = vectors[i].count;
        uint8_t *intset = make_empty();
        for (unsigned j = 0; j < count; j++) assert_true(add(&intset, vectors[i].numbers[j]));
        assert_int_equal(intset_bytes(intset), vectors[i].length);
        assert_memory_equal(intset, vectors[i].bytes, vectors[i].length);
        assert_true(intset_is_valid(span_of(intset, vectors[i].length)));

        int64_t sorted[6];
        memcpy(sorted, vectors[i].numbers, sizeof(sorted));
        qsort(sorted, count, sizeof(sorted[0]), compare_numbers);
        assert_int_equal(intset_bytes_for(sorted[0], sorted[count - 1], count), vectors[i].length);
        memset(intset, 0xaa, vectors[i].length);
        intset_write(intset, sorted, count);
        assert_memory_equal(intset, vectors[i].bytes, vectors[i].length);
        free(intset);
    }
}

static void width_grows_at_each_bound_and_never_shrinks(void **state) {
    (void)state;
    static const struct {
        int64_t number;
        uint32_t width;
    } bounds[] = {
        {INT16_MAX, 2}, {INT16_MIN, 2},      {INT16_MAX + 1, 4},  {INT16_MIN - 1, 4}, {INT32_MAX, 4},
        {INT32_MIN, 4}, {INT32_MAX + 1L, 8}, {INT32_MIN - 1L, 8}, {INT64_MAX, 8},     {INT64_MIN, 8},
    };
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        uint8_t *intset = make_empty();
        assert_int_equal(intset_rank(intset, bounds[i].number), 0);
        assert_false(intset_find(intset, bounds[i].number, NULL));
        add(&intset, -3);
        add(&intset, 4);
        assert_false(intset_find(intset, bounds[i].number, NULL));
        assert_true(add(&intset, bounds[i].number));
        assert_int_equal(intset_width(intset), bounds[i].width);
        assert_int_equal(intset_count(intset), 3);
        assert_int_equal(intset_smallest(intset), bounds[i].number < 0 ? bounds[i].number : -3);
        assert_int_equal(intset_largest(intset), bounds[i].number < 0 ? 4 : bounds[i].number);
        assert_true(intset_is_valid(span_of(intset, intset_bytes(intset))));
        assert_true(remove_number(&intset, bounds[i].number));
        assert_int_equal(intset_width(intset), bounds[i].width);
        assert_int_equal(intset_get(intset, 0), -3);
        assert_int_equal(intset_get(intset, 1), 4);
        free(intset);
    }
}

/* ---- The model: a sorted array ---- */

struct model {
    int64_t numbers[MODEL_MEMBERS_MAX];
    uint32_t count;
};

static uint32_t model_rank(const struct model *model, int64_t number) {
    uint32_t rank = 0;
    while (rank < model->count && model->numbers[rank] < number) rank++;
    return rank;
}

static void model_shift(struct model *model, uint32_t from, int by) {
    memmove(&model->numbers[(int64_t)from + by], &model->numbers[from], (model->count - from) * sizeof(int64_t));
    model->count = (uint32_t)((int64_t)model->count + by);
}

static int64_t make_number(struct random *random, unsigned widest) {
    static const unsigned bits[] = {6, 9, 15, 16, 31, 32, 63};
    unsigned width = bits[random_below(random, widest + 1)];
    int64_t number = (int64_t)(random_next(random) >> (64 - width));
    return random_below(random, 2) ? number : -number - 1;
}

static void compare(const struct model *model, const uint8_t *intset) {
    assert_int_equal(intset_count(intset), model->count);
    for (uint32_t i = 0; i < model->count; i++) assert_true(intset_get(intset, i) == model->numbers[i]);
    if (model->count) assert_true(intset_is_valid(span_of(intset, intset_bytes(intset))));
}

static void random_changes_agree_with_an_array(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, seed);
    static struct model model;
    uint8_t *intset = make_empty();
    for (int step = 0; step < MODEL_STEPS; step++) {
        int64_t number = make_number(&random, 6u * (unsigned)(step % 20000) / 20000);
        if (model.count && random_below(&random, 3) == 0) number = model.numbers[random_below(&random, model.count)];
        uint32_t rank = model_rank(&model, number), position = UINT32_MAX;
        bool member = rank < model.count && model.numbers[rank] == number;
        assert_int_equal(intset_rank(intset, number), rank);
        assert_true(intset_find(intset, number, &position) == member);
        assert_int_equal(position, member ? rank : UINT32_MAX);
        if (random_below(&random, 2) && model.count < MODEL_MEMBERS_MAX) {
            assert_true(add(&intset, number) == !member);
            if (!member) {
                model_shift(&model, rank, 1);
                model.numbers[rank] = number;
            }
        } else {
            assert_true(remove_number(&intset, number) == member);
            if (member) model_shift(&model, rank + 1, -1);
        }
        if (step % 50 == 0) compare(&model, intset);
        if (step % 20000 == 0) { /* narrow again, by the way that takes many at once */
            intset_remove_range(intset, 0, model.count);
            model.count = 0;
            intset_write_empty(intset);
            intset = realloc(intset, INTSET_HEADER_BYTES);
        }
    }
    compare(&model, intset);
    free(intset);
}

static void ranges_are_removed_anywhere(void **state) {
    (void)state;
    static const int64_t numbers[] = {-70000, -1, 0, 5, 9, 100};
    static const int64_t left[] = {-70000, 9, 100};
    uint8_t intset[INTSET_HEADER_BYTES + 6 * 4];
    intset_write(intset, numbers, 6);
    intset_remove_range(intset, 1, 3);
    for (uint32_t i = 0; i < 3; i++) assert_int_equal(intset_get(intset, i), left[i]);
    intset_remove_range(intset, 1, 2);
    assert_int_equal(intset_count(intset), 1);
    assert_int_equal(intset_get(intset, 0), -70000);
}

static void every_member_is_drawn_about_equally_often(void **state) {
    (void)state;
    struct random random;
    random_seed(&random, seed);
    uint8_t *intset = make_empty();
    for (int i = 0; i < 10; i++) add(&intset, i * 10000);
    unsigned drawn[10] = {0};
    for (int i = 0; i < DRAWS; i++) drawn[intset_random(intset, &random) / 10000]++;
    /* Expected 10000 each, deviation 95: ten of them do not come by chance. */
    for (int i = 0; i < 10; i++) assert_in_range(drawn[i], 9050, 10950);
    free(intset);
}

static void bytes_that_are_no_intset_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
    } wrong[] = {
        {"", 0},
        {"\2\0\0\0\1\0\0", 7},
        {"\2\0\0\0\0\0\0\0", 8},                            /* empty */
        {"\2\0\0\0\2\0\0\0\1\0\1\0", 12},                   /* twice the same */
        {"\2\0\0\0\2\0\0\0\1\0\xff\xff", 12},               /* 1 before -1 */
        {"\2\0\0\0\2\0\0\0\1\0", 10},                       /* too short */
        {"\2\0\0\0\1\0\0\0\1\0\2\0", 12},                   /* too long */
        {"\3\0\0\0\1\0\0\0\1\0\0", 11},                     /* no such width */
        {"\1\0\0\0\1\0\0\0\1", 9},                          /* no such width */
        {"\0\0\0\0\1\0\0\0", 8},                            /* no such width */
        {"\x8\0\0\0\1\0\0\x20\1\0\0\0\0\0\0\0", 16},        /* 8 * count is 8 in 32 bits */
        {"\4\0\0\0\2\0\0\0\0\0\0\x80\0\0\0\x80", 16},       /* twice the smallest */
        {"\4\0\0\0\2\0\0\0\xff\xff\xff\x7f\0\0\0\x80", 16}, /* the largest before the smallest */
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint8_t *copy = malloc(wrong[i].length ? wrong[i].length : 1);
        memcpy(copy, wrong[i].bytes, wrong[i].length);
        if (intset_is_valid(span_of(copy, wrong[i].length))) fail_msg("number %zu is taken for an intset", i);
        free(copy);
    }
}

int main(void) {
    const char *given = getenv("TERRACE_TEST_SEED");
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    print_message("TERRACE_TEST_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_redis),
        cmocka_unit_test(width_grows_at_each_bound_and_never_shrinks),
        cmocka_unit_test(random_changes_agree_with_an_array),
        cmocka_unit_test(ranges_are_removed_anywhere),
        cmocka_unit_test(every_member_is_drawn_about_equally_often),
        cmocka_unit_test(bytes_that_are_no_intset_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
