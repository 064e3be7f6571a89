/* The journal of a pool. See pmem_journal.h; bytes and steps are drawn in journal_layout.h.
 *
 * A frame stands where its position says, bears the next sequence, a generation that is not older than that of the
 * frame before, and a checksum over all of it. The first place where no such frame stands is the end. Why nothing that
 * was durable can lie behind it: batches are written one after the other, each after the fence of the one before. If
 * something does lie behind all the same, the medium has lost a frame, and that is not an end but damage. Two things
 * tell: a later frame which says that this one was durable when it was written, and the witness.
 *
 * Old frames of earlier laps have other positions; frames of a batch that was torn have an older generation than what
 * took their place. So nothing has to be cleared. */

#include "pmem/pmem_journal.h"

#include "base/random.h"
#include "pmem/journal_layout.h"
#include "pmem/media.h"

#include <assert.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CAPACITY_LEAST = 32 * 1024,
    SEARCH_BYTES = 16 << 20, /* behind the end, for frames that should not be there: many times the longest frame */
};

struct pmem_journal {
    struct pmem_area area;
    bool read_only, writing;
    atomic_bool failed; /* the medium */
    uint64_t capacity;
    uint32_t salted; /* CRC of the salt */
    struct pmem_journal_opening opening;
    unsigned slot; /* where `opening` stands */
    struct pmem_place first, end;
    _Atomic uint64_t used, sequence, batches, frames, payload_bytes, frame_bytes;
};

/* ---- bytes ---- */

static uint32_t crc_of(uint32_t crc, const void *bytes, size_t length) {
    return crc32_iscsi((unsigned char *)(uintptr_t)bytes, (int)length, crc);
}

static inline uint64_t in_lines(uint64_t bytes) {
    return (bytes + PMEM_LINE - 1) & ~(uint64_t)(PMEM_LINE - 1);
}

/* Of the area, where a position of the ring is. */
static inline uint64_t offset_of(const struct pmem_journal *journal, uint64_t position) {
    return PMEM_JOURNAL_PAGE + position % journal->capacity;
}

static inline uint64_t least_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static bool is_zero(const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (bytes[i]) return false;
    return true;
}

static void put(const struct pmem_journal *journal, uint64_t offset, const void *bytes, size_t length) {
    memcpy(journal->area.memory + offset, bytes, length);
    pmem_area_flush(&journal->area, offset, length);
}

/* ---- opening ---- */

static void put_opening(struct pmem_journal *journal, unsigned slot, struct pmem_journal_opening *opening) {
    opening->crc = crc_of(UINT32_MAX, opening, offsetof(struct pmem_journal_opening, crc));
    put(journal, PMEM_OPENING_AT + slot * (uint64_t)PMEM_LINE, opening, sizeof(*opening));
}

static void put_witness(struct pmem_journal *journal, uint64_t sequence) {
    const struct pmem_journal_witness witness = {sequence, ~sequence};
    put(journal, PMEM_WITNESS_AT, &witness, sizeof(witness));
}

/* See journal_layout.h: the magic comes last. */
static void format(struct pmem_journal *journal) {
    struct pmem_journal_header header = {.version = PMEM_JOURNAL_VERSION, .page_bytes = PMEM_JOURNAL_PAGE};
    struct pmem_journal_opening opening = {.sequence = 1, .generation = 1};
    memcpy(header.magic, PMEM_JOURNAL_MAGIC, sizeof(header.magic));
    random_fill_secret(&header.salt, sizeof(header.salt));
    header.capacity = (journal->area.bytes - PMEM_JOURNAL_PAGE) / PMEM_LINE * PMEM_LINE;
    header.crc = crc_of(UINT32_MAX, &header, offsetof(struct pmem_journal_header, crc));
    memset(header.magic, 0, sizeof(header.magic));
    put(journal, 0, &header, sizeof(header));
    put_opening(journal, 0, &opening);
    put_witness(journal, 1);
    pmem_area_drain(&journal->area);
    put(journal, 0, PMEM_JOURNAL_MAGIC, sizeof(header.magic));
    pmem_area_drain(&journal->area);
}

static bool is_valid_opening(const struct pmem_journal_opening *opening) {
    return opening->crc == crc_of(UINT32_MAX, opening, offsetof(struct pmem_journal_opening, crc)) &&
           opening->generation > 0 && opening->sequence > 0 && opening->position % PMEM_LINE == 0;
}

static const char *take_header(struct pmem_journal *journal) {
    struct pmem_journal_header header;
    memcpy(&header, journal->area.memory, sizeof(header));
    if (memcmp(header.magic, PMEM_JOURNAL_MAGIC, sizeof(header.magic)) != 0) return "it does not begin with a journal";
    if (header.version != PMEM_JOURNAL_VERSION) return "another version";
    if (header.crc != crc_of(UINT32_MAX, &header, offsetof(struct pmem_journal_header, crc)))
        return "its header is damaged";
    if (header.page_bytes != PMEM_JOURNAL_PAGE || header.capacity < CAPACITY_LEAST || header.capacity % PMEM_LINE ||
        header.capacity > journal->area.bytes - PMEM_JOURNAL_PAGE)
        return "it does not fit its area";
    journal->capacity = header.capacity;
    journal->salted = crc_of(UINT32_MAX, &header.salt, sizeof(header.salt));
    for (unsigned slot = 0; slot < 2; slot++) {
        struct pmem_journal_opening opening;
        memcpy(&opening, journal->area.memory + PMEM_OPENING_AT + slot * PMEM_LINE, sizeof(opening));
        if (!is_valid_opening(&opening) || opening.generation <= journal->opening.generation) continue;
        journal->opening = opening;
        journal->slot = slot;
    }
    return journal->opening.generation ? NULL : "no record of an opening is whole";
}

struct pmem_journal *pmem_journal_open(const struct pmem_area *area, bool read_only, bool *made, char *error,
                                       size_t error_bytes) {
    struct pmem_journal *journal = calloc(1, sizeof(*journal));
    const char *reason = "no memory";
    bool blank = false;
    if (journal && area->bytes < PMEM_JOURNAL_PAGE + CAPACITY_LEAST) {
        reason = "its area is too small";
    } else if (journal) {
        journal->area = *area;
        journal->read_only = read_only;
        blank = !read_only && is_zero(area->memory, sizeof(((struct pmem_journal_header *)0)->magic)) &&
                is_zero(area->memory + PMEM_JOURNAL_PAGE, PMEM_LINE);
        if (blank) format(journal);
        reason = take_header(journal);
    }
    if (made) *made = blank;
    if (!reason) return journal;
    snprintf(error, error_bytes, "the journal of the pool cannot be used: %s", reason);
    free(journal);
    return NULL;
}

void pmem_journal_close(struct pmem_journal *journal) {
    free(journal);
}

/* ---- reading ---- */

static struct pmem_frame frame_at(const struct pmem_journal *journal, uint64_t position) {
    struct pmem_frame frame;
    memcpy(&frame, journal->area.memory + offset_of(journal, position), sizeof(frame));
    return frame;
}

static uint32_t crc_of_frame(const struct pmem_journal *journal, const struct pmem_frame *frame) {
    return crc_of(journal->salted, (const char *)frame + sizeof(frame->crc), sizeof(*frame) - sizeof(frame->crc));
}

/* Whether a whole frame stands at its position. What it says of sequence and generation is the caller's to judge. */
static bool is_frame(const struct pmem_journal *journal, const struct pmem_frame *frame, uint64_t position) {
    uint64_t room = journal->capacity - position % journal->capacity;
    if (frame->position != position || frame->length == 0 || frame->length > PMEM_FRAME_PAYLOAD_MAX ||
        PMEM_FRAME_HEADER + (uint64_t)frame->length > room)
        return false;
    const char *payload = journal->area.memory + offset_of(journal, position) + PMEM_FRAME_HEADER;
    return crc_of(crc_of_frame(journal, frame), payload, frame->length) == frame->crc;
}

/* Frames of former generations that what came later does not count. */
static bool is_dead(const struct pmem_journal *journal, uint64_t sequence, uint32_t generation) {
    return generation < journal->opening.generation && sequence >= journal->opening.sequence;
}

bool pmem_journal_read_from(struct pmem_place place, struct pmem_journal_reading *reading) {
    if (place.sequence == 0) place = (struct pmem_place){1, 0};
    *reading = (struct pmem_journal_reading){.next = place, .begun = place.position};
    return place.position % PMEM_LINE == 0;
}

static enum pmem_journal_found damaged(struct pmem_journal_reading *reading, const char *what) {
    snprintf(reading->error, sizeof(reading->error), "frame %" PRIu64 " at byte %" PRIu64 " of the ring: %s",
             reading->next.sequence, reading->next.position, what);
    return PMEM_JOURNAL_DAMAGED;
}

static bool is_witnessed(const struct pmem_journal *journal, uint64_t sequence) {
    struct pmem_journal_witness witness;
    memcpy(&witness, journal->area.memory + PMEM_WITNESS_AT, sizeof(witness));
    return witness.complement == ~witness.sequence && witness.sequence > sequence;
}

/* No frame stands at the reading's place: the end, or a frame that was lost? */
static enum pmem_journal_found judge_end(const struct pmem_journal *journal, struct pmem_journal_reading *reading) {
    const struct pmem_place missing = reading->next;
    if (is_witnessed(journal, missing.sequence)) return damaged(reading, "it was durable, and is not whole");
    uint64_t stop = missing.position + least_of(journal->capacity, SEARCH_BYTES);
    for (uint64_t position = missing.position + PMEM_LINE; position < stop; position += PMEM_LINE) {
        struct pmem_frame frame = frame_at(journal, position);
        if (frame.sequence <= missing.sequence || frame.sequence - missing.sequence > SEARCH_BYTES) continue;
        if (is_dead(journal, frame.sequence, frame.generation) || !is_frame(journal, &frame, position)) continue;
        if (frame.generation > journal->opening.generation) return damaged(reading, "its opening is not recorded");
        if (frame.sequence - frame.back > missing.sequence)
            return damaged(reading, "it is not whole, and there are later ones");
    }
    return PMEM_JOURNAL_END;
}

enum pmem_journal_found pmem_journal_next(const struct pmem_journal *journal, struct pmem_journal_reading *reading,
                                          struct pmem_journal_frame *found) {
    const struct pmem_place at = reading->next;
    struct pmem_frame frame = frame_at(journal, at.position);
    if (frame.sequence != at.sequence || frame.generation < reading->generation ||
        is_dead(journal, frame.sequence, frame.generation) || !is_frame(journal, &frame, at.position))
        return judge_end(journal, reading);
    if (frame.generation > journal->opening.generation) return damaged(reading, "its opening is not recorded");
    bool gap = frame.flags & PMEM_FRAME_GAP;
    if (gap && at.position != reading->begun) return PMEM_JOURNAL_END;
    const char *payload = journal->area.memory + offset_of(journal, at.position) + PMEM_FRAME_HEADER;
    *found = (struct pmem_journal_frame){.payload = span_of(payload, gap ? 0 : frame.length),
                                         .sequence = frame.sequence,
                                         .open = frame.flags & PMEM_FRAME_OPEN,
                                         .history = frame.flags & PMEM_FRAME_HISTORY};
    reading->generation = frame.generation;
    reading->next.sequence++;
    reading->next.position += in_lines(PMEM_FRAME_HEADER + (uint64_t)frame.length);
    return PMEM_JOURNAL_FRAME;
}

/* ---- writing ---- */

static void note_used(struct pmem_journal *journal) {
    atomic_store_explicit(&journal->used, journal->end.position - journal->first.position, memory_order_relaxed);
    atomic_store_explicit(&journal->sequence, journal->end.sequence, memory_order_relaxed);
}

static void count(_Atomic uint64_t *counter, uint64_t more) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

void pmem_journal_resume(struct pmem_journal *journal, struct pmem_place first, struct pmem_place end) {
    assert(!journal->read_only && first.position <= end.position);
    assert(end.position - first.position <= journal->capacity && end.position % PMEM_LINE == 0);
    if (first.sequence == 0) first.sequence = 1;
    if (end.sequence == 0) end.sequence = 1;
    journal->opening = (struct pmem_journal_opening){
        .sequence = end.sequence, .position = end.position, .generation = journal->opening.generation + 1};
    /* Before the slot: a witness of what is given up would call it damage. */
    if (is_witnessed(journal, end.sequence)) put_witness(journal, end.sequence);
    pmem_area_drain(&journal->area);
    journal->slot = 1 - journal->slot;
    put_opening(journal, journal->slot, &journal->opening);
    pmem_area_drain(&journal->area);
    journal->first = first;
    journal->end = end;
    journal->writing = true;
    note_used(journal);
}

/* How a batch is cut into frames: where the ring ends, and not too long. */
static uint64_t payload_at(const struct pmem_journal *journal, uint64_t position, uint64_t left) {
    uint64_t room = journal->capacity - position % journal->capacity - PMEM_FRAME_HEADER;
    return least_of(left, least_of(room, PMEM_FRAME_PAYLOAD_MAX));
}

static bool has_room(const struct pmem_journal *journal, uint64_t bytes) {
    uint64_t position = journal->end.position, stop = journal->first.position + journal->capacity, frames = 0;
    for (uint64_t length; bytes > 0; bytes -= length, frames++) {
        length = payload_at(journal, position, bytes);
        position += in_lines(PMEM_FRAME_HEADER + length);
        if (position > stop) return false;
    }
    return frames < UINT16_MAX;
}

/* What is still to be appended of a batch. */
struct rest {
    const struct span *piece;
    size_t at; /* in *piece */
    uint64_t bytes;
};

/* The next `length` bytes: their checksum, and a copy of them. */
static uint32_t take(const struct pmem_journal *journal, struct rest *rest, uint64_t offset, uint64_t length,
                     uint32_t crc) {
    rest->bytes -= length;
    while (length > 0) {
        size_t part = (size_t)least_of(length, rest->piece->length - rest->at);
        const char *from = rest->piece->data + rest->at;
        crc = crc_of(crc, from, part);
        pmem_area_store(&journal->area, offset, from, part);
        offset += part;
        length -= part;
        rest->at += part;
        if (rest->at < rest->piece->length) continue;
        rest->piece++;
        rest->at = 0;
    }
    return crc;
}

static void put_frame(struct pmem_journal *journal, struct rest *rest, unsigned back, uint16_t flags) {
    uint64_t offset = offset_of(journal, journal->end.position);
    struct pmem_frame frame = {.length = (uint32_t)payload_at(journal, journal->end.position, rest->bytes),
                               .sequence = journal->end.sequence,
                               .position = journal->end.position,
                               .generation = journal->opening.generation,
                               .back = (uint16_t)back,
                               .flags = flags};
    if (rest->bytes > frame.length) frame.flags |= PMEM_FRAME_OPEN;
    frame.crc = take(journal, rest, offset + PMEM_FRAME_HEADER, frame.length, crc_of_frame(journal, &frame));
    memcpy(journal->area.memory + offset, &frame, sizeof(frame));
    pmem_area_flush(&journal->area, offset, PMEM_FRAME_HEADER + (size_t)frame.length);
    journal->end.sequence++;
    journal->end.position += in_lines(PMEM_FRAME_HEADER + (uint64_t)frame.length);
    count(&journal->frames, 1);
}

/* A batch on its way. */
struct batch {
    struct pmem_journal *journal;
    struct rest rest;
    uint16_t flags;
};

static void put_batch(void *ctx) {
    struct batch *batch = ctx;
    struct pmem_journal *journal = batch->journal;
    for (unsigned back = 0; batch->rest.bytes > 0; back++) put_frame(journal, &batch->rest, back, batch->flags);
    pmem_area_drain(&journal->area);
    /* Not flushed: it costs nothing, and after a power cut it may be an older one, which is as true. */
    *(volatile struct pmem_journal_witness *)(void *)(journal->area.memory + PMEM_WITNESS_AT) =
        (struct pmem_journal_witness){journal->end.sequence, ~journal->end.sequence};
}

static bool append(struct pmem_journal *journal, const struct span *pieces, unsigned piece_count, uint16_t flags) {
    struct batch batch = {.journal = journal, .rest = {.piece = pieces}, .flags = flags};
    for (unsigned i = 0; i < piece_count; i++) batch.rest.bytes += pieces[i].length;
    assert(journal->writing && batch.rest.bytes > 0);
    if (!has_room(journal, batch.rest.bytes) || atomic_load_explicit(&journal->failed, memory_order_relaxed))
        return false;
    const struct pmem_place begin = journal->end;
    uint64_t payload = batch.rest.bytes;
    if (!pmem_media_touch(&journal->area, 0, journal->area.bytes, put_batch, &batch)) {
        journal->end = begin;
        atomic_store(&journal->failed, true);
        return false;
    }
    count(&journal->batches, 1);
    count(&journal->payload_bytes, payload);
    count(&journal->frame_bytes, journal->end.position - begin.position);
    note_used(journal);
    return true;
}

bool pmem_journal_append(struct pmem_journal *journal, const struct span *pieces, unsigned piece_count, bool open) {
    return append(journal, pieces, piece_count, open ? PMEM_FRAME_OPEN : 0);
}

bool pmem_journal_append_gap(struct pmem_journal *journal) {
    return append(journal, &SPAN_LITERAL("\n"), 1, PMEM_FRAME_GAP);
}

bool pmem_journal_append_history(struct pmem_journal *journal, struct span line) {
    assert(line.length <= PMEM_FRAME_PAYLOAD_MAX);
    return append(journal, &line, 1, PMEM_FRAME_HISTORY);
}

bool pmem_journal_has_failed(const struct pmem_journal *journal) {
    return atomic_load_explicit((atomic_bool *)(uintptr_t)&journal->failed, memory_order_relaxed);
}

struct pmem_place pmem_journal_end(const struct pmem_journal *journal) {
    return journal->end;
}

void pmem_journal_reclaim(struct pmem_journal *journal, struct pmem_place first) {
    assert(first.position >= journal->first.position && first.position <= journal->end.position);
    journal->first = first;
    note_used(journal);
}

void pmem_journal_settle(struct pmem_journal *journal) {
    put_witness(journal, journal->end.sequence);
    pmem_area_drain(&journal->area);
}

/* ---- figures ---- */

static uint64_t look(const _Atomic uint64_t *counter) {
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)counter, memory_order_relaxed);
}

struct pmem_journal_figures pmem_journal_figures(const struct pmem_journal *journal) {
    return (struct pmem_journal_figures){.capacity_bytes = journal->capacity,
                                         .used_bytes = look(&journal->used),
                                         .batches = look(&journal->batches),
                                         .frames = look(&journal->frames),
                                         .payload_bytes = look(&journal->payload_bytes),
                                         .frame_bytes = look(&journal->frame_bytes),
                                         .sequence = look(&journal->sequence),
                                         .generation = journal->opening.generation};
}

uint64_t pmem_journal_used(const struct pmem_journal *journal) {
    return look(&journal->used);
}

uint64_t pmem_journal_capacity(const struct pmem_journal *journal) {
    return journal->capacity;
}
