/* Lists of two keys against arrays: every operation, packed and big and while a packed list becomes big. */

#include "base/random.h"
#include "keyspace/list_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { MOST = 4000, ELEMENT_MAX = 40, KEYS = 2, STEPS = 60000 };

struct model {
    struct keyspace *keyspace;
    struct random random;
    struct list_limits limits;
    struct view view;
    struct key keys[KEYS];
    size_t counts[KEYS];
    struct {
        char bytes[ELEMENT_MAX];
        size_t length;
    } lists[KEYS][MOST + 10];
};

static struct span at(struct model *model, unsigned key, size_t i) {
    return span_of(model->lists[key][i].bytes, model->lists[key][i].length);
}

static void model_insert(struct model *model, unsigned key, size_t i, struct span element) {
    memmove(&model->lists[key][i + 1], &model->lists[key][i], (model->counts[key] - i) * sizeof(model->lists[0][0]));
    memcpy(model->lists[key][i].bytes, element.data, element.length);
    model->lists[key][i].length = element.length;
    model->counts[key]++;
}

static void model_remove(struct model *model, unsigned key, size_t i, size_t count) {
    memmove(&model->lists[key][i], &model->lists[key][i + count],
            (model->counts[key] - i - count) * sizeof(model->lists[0][0]));
    model->counts[key] -= count;
}

static size_t below(struct model *model, size_t bound) {
    return random_below(&model->random, bound);
}

/* Few different ones, among them numbers, so that searches find some. */
static struct span element(struct model *model, char room[ELEMENT_MAX]) {
    size_t number = below(model, 30);
    int length = below(model, 3) ? snprintf(room, ELEMENT_MAX, "%zd", (ssize_t)number * (ssize_t)number * 700 - 5000)
                                 : snprintf(room, ELEMENT_MAX, "element:%0*zu", (int)number, number);
    return span_of(room, (size_t)length);
}

static struct list_value open_list(struct model *model, unsigned key) {
    struct list_value list;
    assert_true(list_value_open(&list, &model->view, &model->keys[key], LIST_FOR_WRITE));
    assert_int_equal(list_value_exists(&list), model->counts[key] > 0);
    assert_int_equal(list_value_length(&list), model->counts[key]);
    return list;
}

static void push(struct model *model, unsigned key) {
    struct list_value list = open_list(model, key);
    char rooms[8][ELEMENT_MAX];
    struct span elements[8];
    enum list_end end = below(model, 2) ? LIST_FIRST : LIST_LAST;
    size_t count = below(model, 8) + 1;
    for (size_t i = 0; i < count; i++) elements[i] = element(model, rooms[i]);
    assert_int_equal(list_value_push(&list, end, elements, count, &model->limits), PAGE_DONE);
    for (size_t i = 0; i < count; i++)
        model_insert(model, key, end == LIST_FIRST ? 0 : model->counts[key], elements[i]);
    assert_int_equal(list_value_length(&list), model->counts[key]);
}

static void insert_or_set(struct model *model, unsigned key) {
    struct list_value list = open_list(model, key);
    char room[ELEMENT_MAX], pivot_room[ELEMENT_MAX];
    struct span fresh = element(model, room), pivot = element(model, pivot_room);
    size_t i = 0;
    if (below(model, 2)) {
        i = below(model, model->counts[key] + 2);
        bool there = i < model->counts[key];
        assert_int_equal(list_value_set(&list, i, fresh, &model->limits), there ? PAGE_DONE : PAGE_ABSENT);
        if (!there) return;
        model_remove(model, key, i, 1);
        model_insert(model, key, i, fresh);
        return;
    }
    bool before = below(model, 2);
    while (i < model->counts[key] && !span_equal(at(model, key, i), pivot)) i++;
    bool there = i < model->counts[key];
    assert_int_equal(list_value_insert(&list, before, pivot, fresh, &model->limits), there ? PAGE_DONE : PAGE_ABSENT);
    if (there) model_insert(model, key, before ? i : i + 1, fresh);
}

static void delete (struct model *model, unsigned key) {
    struct list_value list = open_list(model, key);
    size_t length = model->counts[key], first = below(model, length + 2);
    size_t count = below(model, below(model, 10) ? 12 : length + 2);
    if (below(model, 3)) {
        bool there = first < length;
        if (count > length - first && there) count = length - first;
        assert_int_equal(list_value_delete_range(&list, first, count), there ? PAGE_DONE : PAGE_ABSENT);
        if (there) model_remove(model, key, first, count);
        return;
    }
    /* Trims take much, so mostly a little from both ends. */
    if (below(model, 20)) first = below(model, 4), count = length > 8 ? length - below(model, 8) : count;
    assert_int_equal(list_value_trim(&list, first, count), length ? PAGE_DONE : PAGE_ABSENT);
    if (first > length) first = length;
    if (count > length - first) count = length - first;
    model_remove(model, key, first + count, length - first - count);
    model_remove(model, key, 0, first);
}

static void remove_some(struct model *model, unsigned key) {
    struct list_value list = open_list(model, key);
    char room[ELEMENT_MAX];
    struct span gone = element(model, room);
    uint64_t removed, expected = 0, limit = below(model, 4);
    bool backward = below(model, 2);
    size_t i = backward ? model->counts[key] : 0;
    while (backward ? i-- > 0 : i < model->counts[key]) {
        bool match = span_equal(at(model, key, i), gone) && (!limit || expected < limit);
        if (match) model_remove(model, key, i, 1), expected++;
        if (!match && !backward) i++;
    }
    assert_int_equal(list_value_remove(&list, gone, limit, backward, &removed), expected ? PAGE_DONE : PAGE_ABSENT);
    assert_int_equal(removed, expected);
}

static void move(struct model *model) {
    unsigned from_key = (unsigned)below(model, KEYS), to_key = (unsigned)below(model, KEYS);
    struct list_value target = open_list(model, to_key), source = open_list(model, from_key);
    enum list_end from = below(model, 2) ? LIST_FIRST : LIST_LAST, to = below(model, 2) ? LIST_FIRST : LIST_LAST;
    struct list_moved moved;
    enum page_status status =
        list_value_move(&source, from, from_key == to_key ? &source : &target, to, &model->limits, &moved);
    assert_int_equal(status, model->counts[from_key] ? PAGE_DONE : PAGE_ABSENT);
    if (status != PAGE_DONE) return;
    size_t i = from == LIST_FIRST ? 0 : model->counts[from_key] - 1;
    assert_true(span_equal(at(model, from_key, i), span_of(moved.bytes, moved.length)));
    model_remove(model, from_key, i, 1);
    model_insert(model, to_key, to == LIST_FIRST ? 0 : model->counts[to_key], span_of(moved.bytes, moved.length));
    free(moved.bytes);
}

struct expected {
    struct model *model;
    const struct list_search *search;
    size_t next, matches, count;
    unsigned key;
};

/* Goes on in the model to the match that should have been found. */
static void check_found(void *ctx, uint64_t position) {
    struct expected *expected = ctx;
    size_t length = expected->model->counts[expected->key];
    for (;; expected->next++) {
        assert_true(expected->next < length);
        assert_true(!expected->search->compare || expected->next < expected->search->compare);
        size_t i = expected->search->backward ? length - 1 - expected->next : expected->next;
        if (span_equal(at(expected->model, expected->key, i), expected->search->element) &&
            ++expected->matches > expected->search->skip) {
            assert_int_equal(position, i);
            expected->next++;
            expected->count++;
            return;
        }
    }
}

static void search(struct model *model, unsigned key) {
    struct list_value list = open_list(model, key);
    char room[ELEMENT_MAX];
    struct list_search wanted = {.element = element(model, room),
                                 .backward = below(model, 2),
                                 .skip = below(model, 3),
                                 .want = below(model, 3),
                                 .compare = below(model, 2) * below(model, 100)};
    struct expected expected = {.model = model, .search = &wanted, .key = key};
    uint64_t found = list_value_search(&list, &wanted, check_found, &expected);
    assert_int_equal(found, expected.count);
    if (wanted.want && expected.count == wanted.want) return;
    size_t all = 0, length = model->counts[key],
           end = wanted.compare && wanted.compare < length ? wanted.compare : length;
    for (size_t i = 0; i < end; i++)
        all += span_equal(at(model, key, wanted.backward ? length - 1 - i : i), wanted.element);
    assert_int_equal(expected.count, all > wanted.skip ? all - wanted.skip : 0);
}

static void compare(struct model *model, unsigned key) {
    struct list_value list = open_list(model, key);
    struct list_cursor cursor;
    size_t i = below(model, model->counts[key] + 1);
    for (list_value_at(&cursor, &list, i); cursor.valid; list_value_next(&cursor), i++) {
        assert_int_equal(cursor.position, i);
        assert_true(span_equal(cursor.element, at(model, key, i)));
    }
    assert_int_equal(i, model->counts[key]);
    for (list_value_last(&cursor, &list); cursor.valid; list_value_previous(&cursor))
        assert_true(span_equal(cursor.element, at(model, key, --i)));
    assert_int_equal(i, 0);
}

static void run(int64_t max_listpack_size, uint64_t seed) {
    struct model *model = calloc(1, sizeof(*model));
    assert_non_null(model);
    random_seed(&model->random, seed);
    model->keyspace = keyspace_create(&(struct keyspace_options){.shards = 2, .reserve_bytes = 1ul << 28});
    model->view = (struct view){.keyspace = model->keyspace};
    model->limits = list_limits_of(max_listpack_size);
    model->keys[0] = keyspace_key(model->keyspace, SPAN_LITERAL("{a}one"));
    model->keys[1] = keyspace_key(model->keyspace, SPAN_LITERAL("{a}two"));
    for (unsigned i = 0; i < STEPS; i++) {
        unsigned key = (unsigned)below(model, KEYS);
        size_t dice = below(model, 100);
        if (dice < 45 && model->counts[key] < MOST - 10)
            push(model, key);
        else if (dice < 60)
            delete (model, key);
        else if (dice < 65)
            remove_some(model, key);
        else if (dice < 75 && model->counts[key] < MOST - 10)
            insert_or_set(model, key);
        else if (dice < 85 && model->counts[0] + model->counts[1] < MOST)
            move(model);
        else if (dice < 95)
            search(model, key);
        else
            compare(model, key);
        if (i % 2000 == 0) assert_true(keyspace_validate(model->keyspace));
    }
    assert_true(keyspace_validate(model->keyspace));
    keyspace_destroy(model->keyspace);
    free(model);
}

static uint64_t seed(void) {
    const char *given = getenv("TERRACE_TEST_SEED");
    if (given) return strtoull(given, NULL, 10);
    struct random random;
    random_seed_from_kernel(&random);
    return random_next(&random);
}

static void lists_equal_their_models(void **state) {
    (void)state;
    static const int64_t sizes[] = {-2, -5, 4, 100};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t start = seed();
        print_message("list-max-listpack-size %lld: seed %llu (TERRACE_TEST_SEED)\n", (long long)sizes[i],
                      (unsigned long long)start);
        run(sizes[i], start);
    }
}

static void limits_follow_the_configuration(void **state) {
    (void)state;
    assert_int_equal(list_limits_of(-1).bytes, 4096);
    assert_int_equal(list_limits_of(-2).bytes, 8192);
    assert_int_equal(list_limits_of(-5).bytes, 65536);
    assert_int_equal(list_limits_of(-2).count, UINT32_MAX);
    assert_int_equal(list_limits_of(128).count, 128);
    assert_int_equal(list_limits_of(128).bytes, 8192);
    assert_int_equal(list_limits_of(0).count, 1);
}

static void a_packed_list_becomes_big_at_its_limit(void **state) {
    (void)state;
    struct keyspace *keyspace = keyspace_create(&(struct keyspace_options){.shards = 1, .reserve_bytes = 1ul << 28});
    struct view view = {.keyspace = keyspace};
    struct key key = keyspace_key(keyspace, SPAN_LITERAL("list"));
    struct list_limits limits = list_limits_of(3);
    struct list_value list;
    assert_true(list_value_open(&list, &view, &key, LIST_FOR_WRITE));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(list_value_push(&list, LIST_LAST, &SPAN_LITERAL("x"), 1, &limits), PAGE_DONE);
    assert_int_equal(record_encoding(list.lookup.record), RECORD_LISTPACK);
    assert_int_equal(list_value_push(&list, LIST_LAST, &SPAN_LITERAL("x"), 1, &limits), PAGE_DONE);
    assert_int_equal(record_encoding(list.lookup.record), RECORD_PAGED);
    assert_int_equal(list_value_delete_range(&list, 0, 4), PAGE_DONE);
    assert_false(list_value_exists(&list));
    assert_true(keyspace_find(&view, &key).record == NULL);
    keyspace_destroy(keyspace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_follow_the_configuration),
        cmocka_unit_test(a_packed_list_becomes_big_at_its_limit),
        cmocka_unit_test(lists_equal_their_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
