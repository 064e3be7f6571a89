/* Packed lists with room at both ends: random edits against an array, in memory of exactly its size so that a sanitizer
 * sees a byte too many; and that the ends move alone while there is room. */

#include "base/random.h"
#include "record/packed_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { STEPS = 100000, MOST = 200, ROOM_MAX = 4000 };

struct list {
    uint8_t *value;
    size_t room;
};

static struct list make(size_t room) {
    struct list list = {malloc(room), room};
    memset(list.value, 0xa5, room);
    listpack_write_empty(list.value);
    return list;
}

static const uint8_t *elements(const struct list *list) {
    return packed_list_elements(list->value);
}

static bool push(struct list *list, bool first, const char *text) {
    struct listpack_element element = listpack_element_of_text(span_of(text, strlen(text)));
    struct listpack_edit edit =
        first ? listpack_plan_prepend(elements(list), &element, 1) : listpack_plan_append(elements(list), &element, 1);
    if (listpack_length_after(elements(list), &edit) > list->room) return false;
    packed_list_apply(list->value, list->room, &edit);
    return true;
}

static void cut(struct list *list, int64_t at, uint32_t count) {
    struct listpack_edit edit = listpack_plan_delete(elements(list), listpack_at(elements(list), at), count);
    packed_list_apply(list->value, list->room, &edit);
}

/* ---- against an array ---- */

struct model {
    struct list list;
    long numbers[MOST];
    uint32_t count;
};

static void spell(long number, char text[64]) {
    /* Small numbers are packed as such, in two bytes; the rest as texts of all lengths up to 45. */
    if (number < 100)
        snprintf(text, 64, "%ld", number);
    else
        snprintf(text, 64, "e%0*ld", (int)(number % 45), number);
}

static void check(const struct model *model) {
    const uint8_t *listpack = elements(&model->list);
    size_t offset = packed_list_offset(model->list.value), bytes = listpack_bytes(listpack);
    assert_true(packed_list_may_begin((int64_t)offset));
    assert_true(offset + bytes <= model->list.room);
    assert_true(listpack_is_valid(span_of(listpack, bytes)));
    assert_int_equal(listpack_count(listpack), model->count);
    const uint8_t *at = listpack_first(listpack);
    for (uint32_t i = 0; i < model->count; i++, at = listpack_next(at)) {
        char text[64];
        spell(model->numbers[i], text);
        assert_true(listpack_equals(at, span_of(text, strlen(text))));
    }
}

static void step(struct model *model, struct random *random) {
    char text[64];
    long number = (long)random_below(random, 3000);
    bool first = random_below(random, 2);
    if (model->count < MOST && random_below(random, 5) < 3) {
        spell(number, text);
        if (!push(&model->list, first, text)) return;
        if (first) memmove(model->numbers + 1, model->numbers, model->count * sizeof(long));
        model->numbers[first ? 0 : model->count] = number;
        model->count++;
    } else if (model->count) {
        uint32_t most = model->count < 4 ? model->count : 4, count = (uint32_t)random_below(random, most) + 1;
        uint32_t at = first ? 0 : (uint32_t)random_below(random, model->count - count + 1);
        cut(&model->list, at, count);
        memmove(model->numbers + at, model->numbers + at + count, (model->count - at - count) * sizeof(long));
        model->count -= count;
    }
    if (random_below(random, 200) == 0) {
        packed_list_close_up(model->list.value);
        assert_int_equal(packed_list_offset(model->list.value), 0);
    }
}

static void lists_equal_their_models(void **state) {
    (void)state;
    const char *given = getenv("TERRACE_TEST_SEED");
    struct random random;
    random_seed_from_kernel(&random);
    uint64_t seed = given ? strtoull(given, NULL, 10) : random_next(&random);
    print_message("seed %llu (TERRACE_TEST_SEED)\n", (unsigned long long)seed);
    random_seed(&random, seed);
    struct model *model = calloc(1, sizeof(*model));
    for (unsigned i = 0; i < STEPS; i++) {
        if (i % 1000 == 0) {
            free(model->list.value);
            model->list = make(200 + random_below(&random, ROOM_MAX));
            model->count = 0;
        }
        step(model, &random);
        check(model);
    }
    free(model->list.value);
    free(model);
}

/* ---- what is moved ---- */

static const uint8_t *last(const struct list *list) {
    return listpack_last(elements(list));
}

static void a_push_at_the_front_moves_nothing_while_there_is_room(void **state) {
    (void)state;
    struct list list = make(2000);
    assert_true(push(&list, false, "the last element"));
    assert_true(push(&list, true, "makes room in front"));
    const uint8_t *before = last(&list);
    for (unsigned i = 0; i < 50; i++) assert_true(push(&list, true, "an element"));
    assert_ptr_equal(last(&list), before);
    free(list.value);
}

static void a_pop_at_the_front_moves_nothing(void **state) {
    (void)state;
    struct list list = make(2000);
    for (unsigned i = 0; i < 20; i++) assert_true(push(&list, false, "an element"));
    const uint8_t *before = last(&list);
    for (unsigned i = 0; i < 19; i++) cut(&list, 0, 1);
    assert_ptr_equal(last(&list), before);
    assert_int_equal(listpack_count(elements(&list)), 1);
    free(list.value);
}

static void room_at_the_other_end_is_used(void **state) {
    (void)state;
    struct list list = make(40);
    assert_true(push(&list, false, "0123456789"));
    assert_true(push(&list, false, "0123456789"));
    cut(&list, 0, 1);
    assert_int_equal(packed_list_offset(list.value), 12);
    assert_true(push(&list, false, "abcdefghij"));
    assert_int_equal(listpack_count(elements(&list)), 2);
    assert_true(listpack_equals(last(&list), span_of("abcdefghij", 10)));
    free(list.value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_equal_their_models),
        cmocka_unit_test(a_push_at_the_front_moves_nothing_while_there_is_room),
        cmocka_unit_test(a_pop_at_the_front_moves_nothing),
        cmocka_unit_test(room_at_the_other_end_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
