/* Looking for closings behind damage.
 *
 * Syntax is of no use here, as nobody knows where a command begins: lines that look like closings are found by their
 * text. When a closing was written, what it says of syncs was true, and a torn write does not invent one; so it is
 * believed whether or not its own batch is whole, if it can belong to this file: its batch begins behind the damage's
 * beginning, its sequence number comes after, and what it says was synced lies before it.
 *
 * A value can hold text that looks so. That can only make the loader refuse a file that it might have cut, and only
 * if the power failed as well. */

#include "persist/aof_survey.h"

#include "persist/aof_check.h"
#include "persist/aof_layout.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { WINDOW = 1 << 18 };

struct search {
    uint64_t from, sequence;
    struct aof_survey *survey;
};

/* A line of ours that begins at offset `at` of the file. */
static void consider(const struct search *search, uint64_t at, struct span line) {
    struct aof_annotation closing;
    if (aof_check_classify(line, &closing) != AOF_LINE_CLOSING) return;
    struct aof_survey *survey = search->survey;
    if (survey->damage_ends == 0) survey->damage_ends = at + line.length;
    bool fits = closing.sequence > search->sequence && closing.bytes <= at && at - closing.bytes > search->from &&
                closing.synced <= at;
    if (!fits) return;
    if (closing.synced == 0) survey->silent = true;
    if (closing.synced > survey->synced) survey->synced = closing.synced;
}

/* Looks at the lines of ours that begin in `text`, which stands at `offset`. The last one may go on behind it: returns
 * how many bytes are done with, at least one. */
static size_t look_through(const struct search *search, uint64_t offset, struct span text) {
    const char *end = text.data + text.length;
    const size_t tag = sizeof(AOF_TAG) - 1;
    for (const char *at = text.data; (at = memmem(at, (size_t)(end - at), AOF_TAG, tag)) != NULL; at++) {
        size_t room = (size_t)(end - at) < AOF_CHECK_LINE_MAX ? (size_t)(end - at) : AOF_CHECK_LINE_MAX;
        const char *newline = memchr(at, '\n', room);
        if (newline != NULL)
            consider(search, offset + (uint64_t)(at - text.data), span_of(at, (size_t)(newline + 1 - at)));
        else if (room < AOF_CHECK_LINE_MAX && at > text.data)
            return (size_t)(at - text.data);
    }
    return text.length < tag ? text.length : text.length - (tag - 1); /* a tag may begin there */
}

bool aof_survey_run(int fd, uint64_t from, uint64_t end, uint64_t sequence, struct aof_survey *survey) {
    *survey = (struct aof_survey){0};
    struct search search = {.from = from, .sequence = sequence, .survey = survey};
    char *window = malloc(WINDOW);
    if (window == NULL) return false;
    ssize_t got = 0;
    for (uint64_t at = from; at + sizeof(AOF_TAG) < end;) {
        got = pread(fd, window, end - at < WINDOW ? end - at : WINDOW, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        at += look_through(&search, at, span_of(window, (size_t)got));
    }
    int error = errno;
    free(window);
    errno = error;
    return got >= 0;
}
