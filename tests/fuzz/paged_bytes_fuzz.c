/* Operations on a row of bytes in pages, against a plain array; pages become cold and are missing as the input says.
 *
 * Input: byte 0 is the seed of what is missing, and whether anything is; then five bytes an operation: what, where (a
 * page and a place near one of its edges), how long, and the bytes that are written. */

#include "record/paged_bytes.h"
/* The fuzz targets are linked with the library alone. */
#include "tests/support/page_fixture.c"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGES = 12, MOST = PAGES * PAGED_BYTES_PAGE, OP_BYTES = 5, CHECK_EACH = 64 };

struct subject {
    struct paged_bytes bytes;
    struct page_fixture fixture;
    char model[MOST]; /* behind `length` all zeros */
    uint64_t length;
};

static char row_read[MOST], row_written[MOST];

static struct page_table *pages_of(struct subject *subject) {
    return &subject->bytes.collection.parts[COLLECTION_HASH];
}

/* The first half of the places are behind a page's beginning, the others before its end. */
static uint64_t offset_of(const uint8_t *op) {
    uint64_t page = op[1] % PAGES, place = op[2] < 128 ? op[2] : PAGED_BYTES_PAGE - 256 + op[2];
    return page * PAGED_BYTES_PAGE + place;
}

/* Short, or of up to four pages. */
static uint64_t length_of(const uint8_t *op, uint64_t offset) {
    uint64_t length = op[3] < 128 ? op[3] : (uint64_t)(op[3] - 127) * (PAGED_BYTES_PAGE / 32);
    return length < MOST - offset ? length : MOST - offset;
}

static void read_range(struct subject *subject, struct page_access *access, uint64_t offset, uint64_t length) {
    enum page_status status;
    do status = paged_bytes_read(&subject->bytes, access, offset, row_read, length);
    while (page_fixture_again(&subject->fixture, access));
    assert(status == PAGE_DONE && memcmp(row_read, subject->model + offset, length) == 0);
}

/* The pieces lie one behind the other, up to the end of the range or of the row. */
static void walk(struct subject *subject, struct page_access *access, uint64_t offset, uint64_t length) {
    static const char zeros[MOST];
    uint64_t begin = offset < subject->length ? offset : subject->length, at;
    uint64_t end = offset + length < subject->length ? offset + length : subject->length;
    do {
        struct paged_bytes_walk walk;
        struct paged_bytes_piece piece;
        at = begin;
        (void)paged_bytes_touch(&subject->bytes, access, offset, length);
        paged_bytes_walk_range(&walk, &subject->bytes, access, offset, length);
        for (; paged_bytes_walk_next(&walk, &piece); at += piece.length) {
            assert(piece.offset == at && piece.length);
            if (access->missing) continue;
            assert(memcmp(piece.data ? piece.data : zeros, subject->model + at, piece.length) == 0);
        }
    } while (page_fixture_again(&subject->fixture, access));
    assert(end <= begin || at == end);
}

static void grow_to(struct subject *subject, uint64_t end) {
    if (end > subject->length) subject->length = end;
}

static void write_range(struct subject *subject, struct page_access *access, uint64_t offset, uint64_t length,
                        char byte) {
    enum page_status status;
    memset(row_written, byte, length);
    do status = paged_bytes_write(&subject->bytes, access, offset, span_of(row_written, length));
    while (page_fixture_again(&subject->fixture, access));
    assert(status == PAGE_DONE);
    memset(subject->model + offset, byte, length);
    if (length) grow_to(subject, offset + length);
}

/* What was prepared can be written twice without a page being missing. */
static void prepare_and_write(struct subject *subject, struct page_access *access, uint64_t offset, uint64_t length) {
    enum page_status status;
    if (length < 2) return;
    do status = paged_bytes_prepare(&subject->bytes, access, offset, length);
    while (page_fixture_again(&subject->fixture, access));
    assert(status == PAGE_DONE);
    memset(row_written, 'p', length);
    uint64_t half = length / 2;
    status = paged_bytes_write(&subject->bytes, access, offset + half, span_of(row_written, length - half));
    assert(status == PAGE_DONE);
    status = paged_bytes_write(&subject->bytes, access, offset, span_of(row_written, half));
    assert(status == PAGE_DONE);
    memset(subject->model + offset, 'p', length);
    grow_to(subject, offset + length);
}

static void set_length(struct subject *subject, struct page_access *access, uint64_t length) {
    enum page_status status;
    do status = paged_bytes_set_length(&subject->bytes, access, length);
    while (page_fixture_again(&subject->fixture, access));
    assert(status == PAGE_DONE);
    if (length < subject->length) memset(subject->model + length, 0, subject->length - length);
    subject->length = length;
}

static void zero(struct subject *subject, struct page_access *access, uint64_t offset, uint64_t length) {
    enum page_status status;
    do status = paged_bytes_zero(&subject->bytes, access, offset, length);
    while (page_fixture_again(&subject->fixture, access));
    assert(status == PAGE_DONE);
    memset(subject->model + offset, 0, length);
}

static void check(struct subject *subject) {
    struct page_access access = page_fixture_command(&subject->fixture);
    bool valid;
    do valid = paged_bytes_validate(&subject->bytes, &access);
    while (page_fixture_again(&subject->fixture, &access));
    assert(valid && subject->bytes.length == subject->length);
    access = page_fixture_command(&subject->fixture);
    read_range(subject, &access, 0, MOST);
}

static void run(struct subject *subject, const uint8_t *op) {
    struct page_access access = page_fixture_command(&subject->fixture);
    uint64_t offset = offset_of(op), length = length_of(op, offset);
    switch (op[0] % 10) {
    case 0: page_fixture_chill(&subject->fixture, pages_of(subject), op[1] % 101); break;
    case 1: page_fixture_compact(&subject->fixture); break;
    case 2: read_range(subject, &access, offset, length); break;
    case 3: walk(subject, &access, offset, length); break;
    case 4: prepare_and_write(subject, &access, offset, length); break;
    case 5: set_length(subject, &access, offset); break;
    case 6: zero(subject, &access, offset, length); break;
    default: write_range(subject, &access, offset, length, (char)op[4]); break;
    }
    assert(subject->bytes.length == subject->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct subject subject;
    if (size < 1 + OP_BYTES) return 0;
    memset(&subject, 0, sizeof(subject));
    page_fixture_open(&subject.fixture, (struct page_fixture_options){.seed = data[0],
                                                                      .missing_percent = data[0] & 1 ? 50 : 0,
                                                                      .not_now_percent = 5,
                                                                      .wanted_percent = 30,
                                                                      .reserve_bytes = 8 << 20});
    collection_init(&subject.bytes.collection, &paged_bytes_kind);
    page_fixture_own(&subject.fixture, &subject.bytes.collection);
    unsigned steps = 0;
    for (const uint8_t *op = data + 1; op + OP_BYTES <= data + size; op += OP_BYTES) {
        run(&subject, op);
        if (++steps % CHECK_EACH == 0) check(&subject);
    }
    check(&subject);
    struct page_access access = page_fixture_command(&subject.fixture);
    while (page_table_release(&access, pages_of(&subject), 1000)) continue;
    page_fixture_close(&subject.fixture);
    return 0;
}
