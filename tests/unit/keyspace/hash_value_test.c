/* Hashes of every encoding against a model: random changes with times of expiry, in memory and on a tier; thresholds;
 * random fields, uniform. */

#include "base/random.h"
#include "keyspace/hash_value.h"
#include "keyspace/keyspace_tier.h"
#include "tests/support/in_process.h"
#include "tests/support/temporary_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { SEGMENT = 1 << 20, KEYS = 3, FIELDS = 1200, TEXT_MAX = 200, SHARDS = 4 };

struct model_field {
    bool there;
    unsigned version;
    int64_t expiry_ms;
};

struct model {
    struct in_process *server;
    struct random random;
    struct view view;
    struct key key;
    struct hash_value hash; /* of the key, opened */
    struct model_field keys[KEYS][FIELDS];
    struct model_field *fields;
    unsigned spread, wish; /* fields in use now; percent of changes that add */
};

static struct span field_text(unsigned number, char *text) {
    const char *forms[] = {"%u", "field:%u", "-%u", "a rather long name of a field that no packed hash takes %u"};
    return span_of(text, (size_t)snprintf(text, TEXT_MAX, forms[number % 40 == 3 ? 3 : number % 3], number + 1));
}

static struct span value_text(unsigned version, char *text) {
    const char *forms[] = {"%u", "value %u", "%u%0120u", "%u.5"};
    return span_of(text, (size_t)snprintf(text, TEXT_MAX, forms[version % 50 == 2 ? 2 : version % 2], version, 7));
}

static void open_key(struct model *model, unsigned number, enum hash_purpose purpose) {
    static const char *const names[KEYS] = {"one", "two", "three"};
    model->view = (struct view){
        .keyspace = model->server->keyspace, .port = model->server->port, .now_ms = model->server->dispatcher->now_ms};
    model->key = keyspace_key(model->server->keyspace, span_of_text(names[number]));
    model->fields = model->keys[number];
    assert_true(hash_value_open(&model->hash, &model->view, &model->key, purpose));
}

/* What has expired is gone. */
static struct model_field *field_of(struct model *model, unsigned number) {
    struct model_field *field = &model->fields[number];
    if (field->there && field->expiry_ms >= 0 && field->expiry_ms <= model->view.now_ms) field->there = false;
    return field;
}

static uint64_t count_of(struct model *model) {
    uint64_t count = 0;
    for (unsigned i = 0; i < FIELDS; i++) count += field_of(model, i)->there;
    return count;
}

static unsigned number_of(const struct hash_entry *entry) {
    char text[TEXT_MAX], own[TEXT_MAX];
    memcpy(text, entry->field.data, entry->field.length);
    text[entry->field.length] = '\0';
    const char *digits = text + strcspn(text, "0123456789");
    unsigned number = (unsigned)strtoul(digits, NULL, 10) - 1;
    assert_true(number < FIELDS && span_equal(entry->field, field_text(number, own)));
    return number;
}

static void expect_entry(struct model *model, unsigned number, const struct hash_entry *entry) {
    char text[TEXT_MAX];
    const struct model_field *field = field_of(model, number);
    assert_true(field->there);
    assert_true(span_equal(entry->field, field_text(number, text)));
    assert_true(span_equal(entry->value, value_text(field->version, text)));
    assert_int_equal(entry->expiry_ms, field->expiry_ms);
}

static void step_get(struct model *model, unsigned number) {
    char text[TEXT_MAX];
    struct hash_entry entry;
    struct span name = field_text(number, text);
    enum page_status status = hash_value_get(&model->hash, name, &entry);
    assert_int_equal(status, field_of(model, number)->there ? PAGE_DONE : PAGE_ABSENT);
    if (status != PAGE_DONE) return;
    entry.field = name; /* of a packed one it is the entry's own */
    expect_entry(model, number, &entry);
}

static int64_t draw_expiry(struct model *model) {
    return model->view.now_ms + 1 + (int64_t)random_below(&model->random, 5000);
}

static void step_set(struct model *model, unsigned number) {
    char name[TEXT_MAX], text[TEXT_MAX];
    struct model_field *field = field_of(model, number);
    unsigned version = (unsigned)random_below(&model->random, 100000);
    int64_t chosen = HASH_EXPIRY_NONE, kept = field->there ? field->expiry_ms : HASH_EXPIRY_NONE;
    if (random_once_in(&model->random, 4))
        chosen = HASH_EXPIRY_KEEP;
    else if (random_once_in(&model->random, 20))
        chosen = draw_expiry(model);
    bool is_new;
    assert_int_equal(hash_value_set(&model->hash, field_text(number, name), value_text(version, text), chosen, &is_new),
                     PAGE_DONE);
    assert_int_equal(is_new, !field->there);
    *field = (struct model_field){true, version, chosen == HASH_EXPIRY_KEEP ? kept : chosen};
}

static void step_pairs(struct model *model) {
    char texts[8][TEXT_MAX];
    struct span pairs[8];
    uint64_t added, expected = 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned number = (unsigned)random_below(&model->random, model->spread);
        unsigned version = (unsigned)random_below(&model->random, 100000);
        pairs[2 * i] = field_text(number, texts[2 * i]);
        pairs[2 * i + 1] = value_text(version, texts[2 * i + 1]);
        expected += !field_of(model, number)->there;
        model->fields[number] = (struct model_field){true, version, HASH_EXPIRY_NONE};
    }
    assert_int_equal(hash_value_set_pairs(&model->hash, pairs, 4, &added), PAGE_DONE);
    assert_int_equal(added, expected);
}

static void step_delete(struct model *model, unsigned number) {
    char text[TEXT_MAX];
    struct model_field *field = field_of(model, number);
    assert_int_equal(hash_value_delete(&model->hash, field_text(number, text)), field->there ? PAGE_DONE : PAGE_ABSENT);
    field->there = false;
}

static void step_set_expiry(struct model *model, unsigned number) {
    char text[TEXT_MAX];
    struct model_field *field = field_of(model, number);
    int64_t expiry_ms = random_once_in(&model->random, 3) ? HASH_EXPIRY_NONE : draw_expiry(model);
    assert_int_equal(hash_value_set_expiry(&model->hash, field_text(number, text), expiry_ms),
                     field->there ? PAGE_DONE : PAGE_ABSENT);
    if (field->there) field->expiry_ms = expiry_ms;
}

static void check(struct model *model) {
    bool seen[FIELDS] = {false};
    struct hash_walk walk;
    struct hash_entry entry;
    uint64_t count = count_of(model), met = 0, cursor = 0;
    hash_value_walk(&walk, &model->hash);
    for (; hash_value_walk_next(&walk, &entry); met++) {
        expect_entry(model, number_of(&entry), &entry);
        assert_false(seen[number_of(&entry)]);
        seen[number_of(&entry)] = true;
    }
    assert_int_equal(met, count);
    assert_true(hash_value_count(&model->hash) >= count);
    if (!model->hash.root) assert_int_equal(hash_value_count(&model->hash), count);
    memset(seen, 0, sizeof(seen));
    met = 0;
    do {
        cursor = hash_value_scan(&walk, &model->hash, cursor);
        while (hash_value_walk_next(&walk, &entry)) met += !seen[number_of(&entry)], seen[number_of(&entry)] = true;
    } while (cursor);
    assert_int_equal(met, count);
    if (model->hash.root) assert_true(hash_kind.validate(&model->hash.root->collection, &model->hash.access));
}

static void visit_expired(void *ctx, const struct hash_entry *entry) {
    struct model *model = ctx;
    unsigned number = number_of(entry);
    assert_false(field_of(model, number)->there);
}

static void tend(struct model *model) {
    struct in_process *server = model->server;
    switch (random_below(&model->random, 8)) {
    case 0:
        if (server->port) in_process_demote(server, "*");
        break;
    case 1:
        if (server->port) in_process_settle(server);
        break;
    case 2: (void)keyspace_compact(server->keyspace, (uint32_t)random_below(&model->random, SHARDS), 100); break;
    case 3:
    case 4: in_process_advance(server, (int64_t)random_below(&model->random, 2000)); break;
    case 5:
        model->spread = 1 + (unsigned)random_below(&model->random, random_once_in(&model->random, 2) ? 40 : FIELDS);
        break;
    case 6: model->wish = (unsigned)random_below(&model->random, 100); break;
    default:
        open_key(model, (unsigned)random_below(&model->random, KEYS), HASH_FOR_WRITE);
        while (hash_value_expire(&model->hash, 3, visit_expired, model)) continue;
        if (hash_value_exists(&model->hash)) assert_int_equal(hash_value_count(&model->hash), count_of(model));
        break;
    }
}

static void run_model(bool tiered, uint64_t seed, unsigned steps) {
    const struct tier_options tier = {
        .path = "tier", .segment_bytes = SEGMENT, .size_bytes = 64 * SEGMENT, .memory_bytes = 64 << 20};
    struct model *model = calloc(1, sizeof(*model));
    model->server =
        in_process_create_with(&(struct in_process_options){.tier = tiered ? &tier : NULL, .shards = SHARDS});
    model->server->keyspace->limits.hash_packed_entries = 20;
    model->server->keyspace->limits.hash_packed_bytes = 30;
    random_seed(&model->random, seed);
    model->spread = 30;
    model->wish = 60;
    for (unsigned step = 0; step < steps; step++) {
        unsigned key = (unsigned)random_below(&model->random, KEYS);
        open_key(model, key, random_once_in(&model->random, 2) ? HASH_FOR_WRITE : HASH_FOR_READ);
        unsigned number = (unsigned)random_below(&model->random, model->spread);
        unsigned kind = (unsigned)random_below(&model->random, 1000);
        if (kind < 10)
            check(model);
        else if (kind < 20)
            tend(model);
        else if (kind < 300)
            step_get(model, number);
        else if (kind < 350)
            step_set_expiry(model, number);
        else if (kind < 380)
            step_pairs(model);
        else if (random_below(&model->random, 100) < model->wish)
            step_set(model, number);
        else
            step_delete(model, number);
        if (!model->hash.root) assert_int_equal(hash_value_exists(&model->hash), count_of(model) > 0);
        if (step % 5000 == 0) assert_true(keyspace_validate(model->server->keyspace));
        if (model->server->port && step % 64 == 0) in_process_turn(model->server);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        open_key(model, i, HASH_FOR_WRITE);
        check(model);
    }
    in_process_destroy(model->server);
    free(model);
}

static void in_memory_it_is_what_its_model_is(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run_model(false, seed, 60000);
}

static void on_a_tier_it_is_what_its_model_is(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) run_model(true, seed, 30000);
}

/* ---- encodings ---- */

static void expect_encoding(struct model *model, const char *encoding) {
    assert_string_equal(hash_value_encoding(model->hash.lookup.record), encoding);
}

static void encodings_change_at_the_thresholds(void **state) {
    (void)state;
    struct model *model = calloc(1, sizeof(*model));
    char name[TEXT_MAX];
    model->server = in_process_create_with(&(struct in_process_options){.shards = SHARDS});
    open_key(model, 0, HASH_FOR_WRITE);
    struct span value = span_of(name, 64);
    memset(name, 'x', sizeof(name));
    for (unsigned i = 0; i < 512; i++) {
        char field[TEXT_MAX];
        assert_int_equal(hash_value_set(&model->hash, field_text(i * 3 + 1, field), value, HASH_EXPIRY_NONE, NULL),
                         PAGE_DONE);
    }
    expect_encoding(model, "listpack");
    assert_int_equal(hash_value_set_expiry(&model->hash, SPAN_LITERAL("field:2"), model->view.now_ms + 10), PAGE_DONE);
    expect_encoding(model, "listpackex");
    assert_int_equal(hash_value_set(&model->hash, SPAN_LITERAL("one more"), value, HASH_EXPIRY_NONE, NULL), PAGE_DONE);
    expect_encoding(model, "hashtable");
    struct hash_entry entry;
    assert_int_equal(hash_value_get(&model->hash, SPAN_LITERAL("field:2"), &entry), PAGE_DONE);
    assert_int_equal(entry.expiry_ms, model->view.now_ms + 10);
    open_key(model, 1, HASH_FOR_WRITE);
    assert_int_equal(hash_value_set(&model->hash, SPAN_LITERAL("f"), span_of(name, 65), HASH_EXPIRY_NONE, NULL),
                     PAGE_DONE);
    expect_encoding(model, "hashtable");
    assert_int_equal(hash_value_delete(&model->hash, SPAN_LITERAL("f")), PAGE_DONE);
    assert_false(hash_value_exists(&model->hash));
    open_key(model, 1, HASH_FOR_READ);
    assert_false(hash_value_exists(&model->hash));
    in_process_destroy(model->server);
    free(model);
}

/* ---- random ---- */

struct tally {
    unsigned *met, visits;
};

static void count_visit(void *ctx, const struct hash_entry *entry) {
    struct tally *tally = ctx;
    tally->met[number_of(entry)]++;
    tally->visits++;
}

/* Fields of which a third has expired unseen. */
static void random_fields_are_uniform_among_those_alive(void **state) {
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        struct model *model = calloc(1, sizeof(*model));
        unsigned fields = round ? 900 : 90, draws = fields * 60, met[FIELDS] = {0}, sampled[FIELDS] = {0};
        model->server = in_process_create_with(&(struct in_process_options){.shards = SHARDS});
        open_key(model, 0, HASH_FOR_WRITE);
        random_seed(&model->random, 11 + round);
        for (unsigned i = 0; i < fields; i++) {
            char text[TEXT_MAX];
            int64_t expiry_ms = i % 3 ? HASH_EXPIRY_NONE : model->view.now_ms + 10;
            assert_int_equal(hash_value_set(&model->hash, field_text(i, text), SPAN_LITERAL("v"), expiry_ms, NULL),
                             PAGE_DONE);
        }
        model->view.now_ms += 20;
        double expected = draws / (fields * 2 / 3), sum = 0, sample_sum = 0, count = fields * 2 / 3;
        for (unsigned i = 0; i < draws; i++) {
            struct hash_entry entry;
            assert_int_equal(hash_value_random(&model->hash, &model->random, &entry), PAGE_DONE);
            met[number_of(&entry)]++;
        }
        struct tally tally = {sampled, 0};
        for (unsigned i = 0; i < draws / 10; i++)
            assert_int_equal(hash_value_sample(&model->hash, &model->random, 10, count_visit, &tally), PAGE_DONE);
        assert_int_equal(tally.visits, draws);
        for (unsigned i = 0; i < fields; i++) {
            if (i % 3 == 0) assert_int_equal(met[i] + sampled[i], 0);
            if (i % 3 == 0) continue;
            sum += (met[i] - expected) * (met[i] - expected) / expected;
            sample_sum += (sampled[i] - expected) * (sampled[i] - expected) / expected;
        }
        double limit = count + 6 * 1.4142 * __builtin_sqrt(count);
        assert_true(sum < limit && sample_sum < limit);
        in_process_destroy(model->server);
        free(model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_memory_it_is_what_its_model_is),
        cmocka_unit_test(on_a_tier_it_is_what_its_model_is),
        cmocka_unit_test(encodings_change_at_the_thresholds),
        cmocka_unit_test(random_fields_are_uniform_among_those_alive),
    };
    return cmocka_run_group_tests(tests, temporary_folder_enter, temporary_folder_leave);
}
