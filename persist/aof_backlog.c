/* See aof_backlog.h.
 *
 * A stretch keeps its file open and leads to the next one, so whoever reads in it gets to the end of the chain whatever
 * is forgotten meanwhile: references go from a stretch to its successor, and from the chain to its first and last.
 *
 * A reader passes over annotations byte by byte, knowing the form of a command only as far as it must: how many words
 * come, and how long each is. What it gives is read straight to where it is wanted and moved together there. */

#include "persist/aof_backlog.h"

#include "base/number.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MARK_BYTES = 256 * 1024 /* between marks: what is read in vain at the beginning */ };

static const char tag[] = "#REPL:";

/* ---- lines ---- */

size_t aof_history_compose(const char *id, uint64_t position, char *line) {
    return (size_t)snprintf(line, AOF_HISTORY_LINE_MAX, "%s%.*s:%llu\r\n", tag, AOF_HISTORY_ID, id,
                            (unsigned long long)position);
}

bool aof_history_parse(struct span line, struct aof_history *history) {
    size_t head = sizeof(tag) - 1 + AOF_HISTORY_ID + 1;
    if (line.length < head + 3 || memcmp(line.data, tag, sizeof(tag) - 1) != 0 || line.data[head - 1] != ':' ||
        memcmp(line.data + line.length - 2, "\r\n", 2) != 0)
        return false;
    struct aof_history parsed;
    memcpy(parsed.id, line.data + sizeof(tag) - 1, AOF_HISTORY_ID);
    parsed.id[AOF_HISTORY_ID] = '\0';
    if (strspn(parsed.id, "0123456789abcdefABCDEF") != AOF_HISTORY_ID) return false;
    if (!number_parse_u64(span_of(line.data + head, line.length - head - 2), &parsed.position)) return false;
    *history = parsed;
    return true;
}

/* ---- stretches ---- */

struct mark {
    uint64_t position, offset;
};

struct stretch {
    struct stretch *next; /* holds a reference to it */
    unsigned references;
    int fd;
    uint64_t from, to, end_offset;
    struct mark *marks; /* the first is at `from` */
    size_t mark_count, mark_capacity;
};

struct aof_backlog {
    pthread_mutex_t lock;
    struct stretch *first, *last; /* each holds a reference */
    int fd;                       /* of the file that is noted; -1: none, or what is there cannot be read */
    bool continues;               /* `last` is of it */
    uint64_t forgotten;           /* positions below it are of files that are gone */
};

/* The lock is held, as by all that follow. */
static void release(struct stretch *stretch) {
    while (stretch && --stretch->references == 0) {
        struct stretch *next = stretch->next;
        close(stretch->fd);
        free(stretch->marks);
        free(stretch);
        stretch = next;
    }
}

static struct stretch *hold(struct stretch *stretch) {
    if (stretch) stretch->references++;
    return stretch;
}

static void clear(struct aof_backlog *backlog) {
    release(backlog->first);
    release(backlog->last);
    backlog->first = backlog->last = NULL;
    backlog->continues = false;
}

/* The last one stays whatever it holds: its readers have to find the next. */
static void prune(struct aof_backlog *backlog) {
    while (backlog->first != backlog->last && backlog->first->to <= backlog->forgotten) {
        struct stretch *next = hold(backlog->first->next);
        release(backlog->first);
        backlog->first = next;
    }
}

static bool add_mark(struct stretch *stretch, uint64_t position, uint64_t offset) {
    if (stretch->mark_count == stretch->mark_capacity) {
        size_t capacity = stretch->mark_capacity ? stretch->mark_capacity * 2 : 16;
        struct mark *marks = realloc(stretch->marks, capacity * sizeof(*marks));
        if (!marks) return false;
        stretch->marks = marks;
        stretch->mark_capacity = capacity;
    }
    stretch->marks[stretch->mark_count++] = (struct mark){position, offset};
    return true;
}

static struct stretch *make_stretch(const struct aof_backlog *backlog, const struct aof_piece *piece) {
    struct stretch *stretch = calloc(1, sizeof(*stretch));
    if (!stretch) return NULL;
    *stretch = (struct stretch){.references = 1, .fd = dup(backlog->fd), .from = piece->from};
    if (stretch->fd >= 0 && add_mark(stretch, piece->from, piece->offset)) return stretch;
    if (stretch->fd >= 0) close(stretch->fd);
    free(stretch);
    return NULL;
}

/* Behind the last one if it follows that, else in place of all. False: it cannot be. */
static bool append_stretch(struct aof_backlog *backlog, const struct aof_piece *piece) {
    bool follows = backlog->last && backlog->last->to == piece->from;
    struct stretch *stretch = piece->begins && backlog->fd >= 0 ? make_stretch(backlog, piece) : NULL;
    if (!follows || !stretch) clear(backlog);
    if (!stretch) return false;
    if (backlog->last) {
        backlog->last->next = stretch; /* takes the reference */
        release(backlog->last);
    } else {
        backlog->first = stretch;
    }
    backlog->last = hold(stretch);
    backlog->continues = true;
    prune(backlog);
    return true;
}

struct aof_backlog *aof_backlog_create(void) {
    struct aof_backlog *backlog = calloc(1, sizeof(*backlog));
    if (!backlog) return NULL;
    pthread_mutex_init(&backlog->lock, NULL);
    backlog->fd = -1;
    return backlog;
}

void aof_backlog_destroy(struct aof_backlog *backlog) {
    if (!backlog) return;
    clear(backlog);
    if (backlog->fd >= 0) close(backlog->fd);
    pthread_mutex_destroy(&backlog->lock);
    free(backlog);
}

void aof_backlog_begin_file(struct aof_backlog *backlog, int fd) {
    pthread_mutex_lock(&backlog->lock);
    if (backlog->fd >= 0) close(backlog->fd);
    backlog->fd = dup(fd);
    backlog->continues = false;
    pthread_mutex_unlock(&backlog->lock);
}

void aof_backlog_note(struct aof_backlog *backlog, const struct aof_piece *piece) {
    pthread_mutex_lock(&backlog->lock);
    struct stretch *last = backlog->last;
    bool goes_on = backlog->continues && last->to == piece->from;
    if (goes_on && piece->begins && piece->offset >= last->marks[last->mark_count - 1].offset + MARK_BYTES)
        (void)!add_mark(last, piece->from, piece->offset); /* without it reading begins further in front */
    if (goes_on || append_stretch(backlog, piece)) {
        backlog->last->to = piece->to;
        backlog->last->end_offset = piece->end_offset;
    }
    pthread_mutex_unlock(&backlog->lock);
}

void aof_backlog_cut(struct aof_backlog *backlog, uint64_t position, uint64_t offset) {
    pthread_mutex_lock(&backlog->lock);
    struct stretch *last = backlog->continues ? backlog->last : NULL;
    if (last && position <= last->from) {
        clear(backlog);
    } else if (last && position < last->to) {
        last->to = position;
        last->end_offset = offset;
        while (last->marks[last->mark_count - 1].position > position) last->mark_count--;
    }
    pthread_mutex_unlock(&backlog->lock);
}

void aof_backlog_forget(struct aof_backlog *backlog, uint64_t position) {
    pthread_mutex_lock(&backlog->lock);
    backlog->forgotten = position;
    prune(backlog);
    pthread_mutex_unlock(&backlog->lock);
}

void aof_backlog_clear(struct aof_backlog *backlog) {
    pthread_mutex_lock(&backlog->lock);
    clear(backlog);
    backlog->forgotten = 0;
    pthread_mutex_unlock(&backlog->lock);
}

bool aof_backlog_reach(struct aof_backlog *backlog, uint64_t *from, uint64_t *to) {
    pthread_mutex_lock(&backlog->lock);
    bool any = backlog->first != NULL;
    if (any) {
        *from = backlog->first->from;
        *to = backlog->last->to;
    }
    pthread_mutex_unlock(&backlog->lock);
    return any;
}

/* ---- readers ---- */

enum form {
    FORM_ITEM,   /* an item begins */
    FORM_LINE,   /* within an annotation */
    FORM_COUNT,  /* within the number of words */
    FORM_LENGTH, /* within the length of a word, or before its '$' */
    FORM_WORD,   /* within a word and the CRLF behind it */
};

struct place {
    struct stretch *stretch; /* not a reference of its own */
    uint64_t position, offset;
    enum form form;
    uint64_t number; /* COUNT, LENGTH: read so far; WORD: bytes left */
    uint64_t words;  /* that are still to come */
};

struct aof_backlog_reader {
    struct aof_backlog *backlog;
    struct stretch *held;      /* the earlier of the two places' */
    struct place next, before; /* behind what was given last, and in front of it */
};

/* How many of the bytes, which are of one kind, may be passed over at once: at least one. `*given`: they are part of a
 * command. */
static size_t step(struct place *place, const char *bytes, size_t length, bool *given) {
    char c = bytes[0];
    const char *end;
    *given = true;
    switch (place->form) {
    case FORM_ITEM:
        if (c == '#') {
            place->form = FORM_LINE;
            return step(place, bytes, length, given);
        }
        place->form = FORM_COUNT;
        place->number = 0;
        return 1;
    case FORM_LINE:
        *given = false;
        end = memchr(bytes, '\n', length);
        if (end) place->form = FORM_ITEM;
        return end ? (size_t)(end + 1 - bytes) : length;
    case FORM_COUNT:
    case FORM_LENGTH:
        if (c >= '0' && c <= '9') place->number = place->number * 10 + (uint64_t)(c - '0');
        if (c != '\n') return 1;
        if (place->form == FORM_COUNT) {
            place->words = place->number;
            place->form = place->words ? FORM_LENGTH : FORM_ITEM;
            place->number = 0;
        } else {
            place->form = FORM_WORD;
            place->number += 2;
        }
        return 1;
    case FORM_WORD: break;
    }
    size_t taken = place->number < length ? (size_t)place->number : length;
    place->number -= taken;
    if (place->number == 0) place->form = --place->words ? FORM_LENGTH : FORM_ITEM;
    return taken;
}

/* Moves what of the bytes is of commands, and behind `skip` of these, to their front. Returns how much that is. */
static size_t sift(struct place *place, char *bytes, size_t length, uint64_t *skip) {
    size_t kept = 0;
    for (size_t at = 0; at < length;) {
        bool given;
        size_t taken = step(place, bytes + at, length - at, &given);
        size_t unwanted = !given ? taken : *skip < taken ? (size_t)*skip : taken;
        if (given) {
            place->position += taken;
            *skip -= unwanted;
        }
        memmove(bytes + kept, bytes + at + unwanted, taken - unwanted);
        kept += taken - unwanted;
        at += taken;
    }
    place->offset += length;
    return kept;
}

static struct place place_at(struct stretch *stretch, const struct mark *mark) {
    return (struct place){.stretch = stretch, .position = mark->position, .offset = mark->offset, .form = FORM_ITEM};
}

/* The last mark that is not behind the position. The lock is held. */
static bool find(const struct aof_backlog *backlog, uint64_t position, struct place *place) {
    struct stretch *stretch = backlog->first;
    while (stretch && stretch->to <= position && stretch->next) stretch = stretch->next;
    if (!stretch || position < stretch->from || position > stretch->to) return false;
    size_t low = 0, high = stretch->mark_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (stretch->marks[middle].position <= position)
            low = middle;
        else
            high = middle;
    }
    *place = place_at(stretch, &stretch->marks[low]);
    return true;
}

/* Has the reader hold what it may still need. The lock is held. */
static void move_hold(struct aof_backlog_reader *reader) {
    struct stretch *held = hold(reader->before.stretch);
    release(reader->held);
    reader->held = held;
}

struct aof_backlog_reader *aof_backlog_open(struct aof_backlog *backlog, uint64_t position) {
    struct aof_backlog_reader *reader = calloc(1, sizeof(*reader));
    if (!reader) return NULL;
    reader->backlog = backlog;
    pthread_mutex_lock(&backlog->lock);
    bool found = find(backlog, position, &reader->next);
    reader->before = reader->next;
    if (found) move_hold(reader);
    pthread_mutex_unlock(&backlog->lock);
    if (found) return reader;
    free(reader);
    return NULL;
}

void aof_backlog_close(struct aof_backlog_reader *reader) {
    if (!reader) return;
    pthread_mutex_lock(&reader->backlog->lock);
    release(reader->held);
    pthread_mutex_unlock(&reader->backlog->lock);
    free(reader);
}

/* Goes to where reading `position` begins. False: it is not there. */
static bool seek(struct aof_backlog_reader *reader, uint64_t position) {
    if (position >= reader->next.position) {
        reader->before = reader->next;
    } else if (position >= reader->before.position) {
        reader->next = reader->before;
    } else {
        pthread_mutex_lock(&reader->backlog->lock);
        bool found = find(reader->backlog, position, &reader->next);
        if (found) reader->before = reader->next;
        if (found) move_hold(reader);
        pthread_mutex_unlock(&reader->backlog->lock);
        return found;
    }
    return true;
}

/* The bytes that can be read at the place, which moves on to the next file at the end of one. */
static uint64_t readable(struct aof_backlog_reader *reader) {
    struct place *place = &reader->next;
    pthread_mutex_lock(&reader->backlog->lock);
    while (place->offset >= place->stretch->end_offset && place->stretch->next) {
        struct stretch *next = place->stretch->next;
        if (place->position != next->from) break;
        *place = place_at(next, &next->marks[0]);
    }
    uint64_t end = place->stretch->end_offset;
    pthread_mutex_unlock(&reader->backlog->lock);
    return end > place->offset ? end - place->offset : 0;
}

ssize_t aof_backlog_read(struct aof_backlog_reader *reader, uint64_t position, void *buffer, size_t room) {
    if (!seek(reader, position)) return 0;
    uint64_t skip = position - reader->next.position;
    size_t given = 0;
    while (given == 0) {
        uint64_t there = readable(reader);
        if (there == 0) break;
        /* What is passed over is not read again for a write that was short. */
        if (skip > 0) reader->before = reader->next;
        ssize_t got =
            pread(reader->next.stretch->fd, buffer, there < room ? (size_t)there : room, (off_t)reader->next.offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return -1;
        given = sift(&reader->next, buffer, (size_t)got, &skip);
    }
    pthread_mutex_lock(&reader->backlog->lock);
    move_hold(reader);
    pthread_mutex_unlock(&reader->backlog->lock);
    return (ssize_t)given;
}
