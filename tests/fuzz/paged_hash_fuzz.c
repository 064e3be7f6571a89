/* Operations on a paged hash, against a model of 256 fields; pages become cold and are missing as the input says.
 *
 * Input: byte 0 is the kind (map or set) and the seed of what is missing; then three bytes an operation: what, which
 * field, and how long its value is or when it expires. */

#include "record/collection.h"
#include "record/paged_hash.h"
/* The fuzz targets are linked with the library alone. */
#include "tests/support/page_fixture.c"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIELDS = 256, VALUE_STEP = 9, CHECK_EACH = 64 };

struct model_field {
    bool there;
    uint8_t value;
    int64_t expiry_ms;
};

struct subject {
    struct collection collection;
    struct paged_hash hash;
    struct page_fixture fixture;
    struct model_field fields[FIELDS];
    uint64_t count;
    bool is_map;
};

static const struct collection_kind kind = {.type = RECORD_HASH, .encoding = "hashtable"};
static char value_bytes[256 * VALUE_STEP];

static struct span field_of(uint8_t number, char *text) {
    size_t length = 1 + (number % 16 == 5 ? 300u : number % 13);
    memset(text, number, length);
    return span_of(text, length);
}

static struct span value_of(const struct subject *subject, uint8_t value) {
    return span_of(value_bytes, subject->is_map ? (size_t)value * VALUE_STEP : 0);
}

static void change(struct subject *subject, struct page_access *access, const uint8_t *op) {
    char text[512];
    struct span field = field_of(op[1], text);
    struct model_field *own = &subject->fields[op[1]];
    int64_t expiry_ms = subject->is_map && op[2] % 3 == 0 ? op[2] : RECORD_EXPIRY_NONE;
    struct paged_hash_item item;
    enum page_status status;
    do {
        switch (op[0] % 4) {
        case 0: status = paged_hash_find(&subject->hash, access, field, &item); break;
        case 1: status = paged_hash_delete(&subject->hash, access, field); break;
        case 2:
            if (subject->is_map) {
                status = paged_hash_set_expiry(&subject->hash, access, field, expiry_ms);
                break;
            }
            /* fallthrough */
        default:
            status = paged_hash_set(&subject->hash, access, field, value_of(subject, op[2]), expiry_ms, NULL);
            break;
        }
    } while (page_fixture_again(&subject->fixture, access));
    bool sets = op[0] % 4 == 3 || (op[0] % 4 == 2 && !subject->is_map);
    if (sets) {
        assert(status == (own->there && !subject->is_map ? PAGE_EXISTS : PAGE_DONE));
        subject->count += !own->there;
        *own = (struct model_field){true, op[2], expiry_ms};
        return;
    }
    assert(status == (own->there ? PAGE_DONE : PAGE_ABSENT));
    if (!own->there) return;
    if (op[0] % 4 == 1) {
        own->there = false;
        subject->count--;
    } else if (op[0] % 4 == 2) {
        own->expiry_ms = expiry_ms;
    } else {
        assert(span_equal(item.value, value_of(subject, own->value)) && item.expiry_ms == own->expiry_ms);
    }
}

static void visit_expired(void *ctx, const struct paged_hash_item *item) {
    struct subject *subject = ctx;
    struct model_field *own = &subject->fields[(uint8_t)item->field.data[0]];
    assert(own->there && own->expiry_ms == item->expiry_ms);
    own->there = false;
    subject->count--;
}

static void check(struct subject *subject) {
    struct page_access access = page_fixture_command(&subject->fixture);
    bool valid;
    do valid = paged_hash_validate(&subject->hash, &access);
    while (page_fixture_again(&subject->fixture, &access));
    assert(valid);
}

static void run(struct subject *subject, const uint8_t *op) {
    struct page_access access = page_fixture_command(&subject->fixture);
    switch (op[0] >> 4) {
    case 0: page_fixture_chill(&subject->fixture, subject->hash.pages, op[1] % 101); break;
    case 1:
        do paged_hash_sweep(&subject->hash, &access, op[1], 1, visit_expired, subject);
        while (page_fixture_again(&subject->fixture, &access));
        break;
    case 2: page_fixture_compact(&subject->fixture); break;
    default: change(subject, &access, op); break;
    }
    assert(subject->hash.count == subject->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) return 0;
    struct subject subject = {.is_map = data[0] & 1};
    page_fixture_open(&subject.fixture, (struct page_fixture_options){.seed = data[0],
                                                                      .missing_percent = data[0] & 2 ? 50 : 0,
                                                                      .not_now_percent = 5,
                                                                      .wanted_percent = 30,
                                                                      .reserve_bytes = 8 << 20});
    collection_init(&subject.collection, &kind);
    page_fixture_own(&subject.fixture, &subject.collection);
    paged_hash_init(&subject.hash, &subject.collection.parts[COLLECTION_HASH],
                    subject.is_map ? PAGED_HASH_MAP : PAGED_HASH_SET, 1);
    unsigned steps = 0;
    for (const uint8_t *op = data + 1; op + 3 <= data + size; op += 3) {
        run(&subject, op);
        if (++steps % CHECK_EACH == 0) check(&subject);
    }
    check(&subject);
    struct page_access access = page_fixture_command(&subject.fixture);
    while (page_table_release(&access, subject.hash.pages, 1000)) continue;
    page_fixture_close(&subject.fixture);
    return 0;
}
