#ifndef TERRACE_PERSIST_AOF_BACKLOG_H
#define TERRACE_PERSIST_AOF_BACKLOG_H

/* The increments of the append-only file as a backlog: which position of the stream stands where, and reading it from
 * there. They hold the journal's bytes, all of them and in their order, with annotations in between.
 *
 *   position     from                    to = from                       to
 *                 |------ increment 1 ----|------ increment 2 (grows) ----|
 *   marks         ^       ^       ^       ^        ^        ^
 *
 * A stretch is a part of one file whose bytes follow each other in the stream, the stretches are a chain without gaps:
 * what does not follow forgets all before it. Marks are the openings of batches (aof_layout.h) at some distance from
 * each other: where a reader may begin to tell commands from annotations.
 *
 * A line of history, the first of a batch, says which stream a file is of, and from where on:
 *
 *   #REPL:<40 hexadecimal digits>:<position>CRLF       the next byte of commands is this one of the stream with that id
 *
 * It comes first in every file, and again whenever the id has changed or the file was opened anew. What is behind the
 * last one in batches of ours can be counted; a command that somebody else has appended ends the history.
 *
 * Threads: any. Files are held open by the chain and by readers, also when they have been removed. */

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { AOF_HISTORY_ID = 40, AOF_HISTORY_LINE_MAX = 80 };

/* ---- lines ---- */

struct aof_history {
    char id[AOF_HISTORY_ID + 1]; /* empty: not known */
    uint64_t position;
};

/* Returns the length; `line` has room for AOF_HISTORY_LINE_MAX bytes. */
size_t aof_history_compose(const char *id, uint64_t position, char *line);
/* A line with its end. False: it is none of history. */
bool aof_history_parse(struct span line, struct aof_history *history);

/* ---- the chain ---- */

struct aof_backlog;

/* NULL: no memory. */
struct aof_backlog *aof_backlog_create(void);
/* No reader is left. NULL is allowed. */
void aof_backlog_destroy(struct aof_backlog *backlog);

/* What is noted from here on lies in another file: `fd`, which has to be readable and is duplicated. */
void aof_backlog_begin_file(struct aof_backlog *backlog, int fd);

struct aof_piece {
    uint64_t from, to;           /* positions; may be equal */
    uint64_t offset, end_offset; /* where it stands in the file, annotations included */
    bool begins;                 /* with the opening of a batch */
};
/* Can be read from now on. What is no continuation of the last piece begins a chain of its own. */
void aof_backlog_note(struct aof_backlog *backlog, const struct aof_piece *piece);
/* The last file has lost what is behind `position`, which is at `offset`. */
void aof_backlog_cut(struct aof_backlog *backlog, uint64_t position, uint64_t offset);
/* Files that hold nothing from `position` on have been, or are being, removed. */
void aof_backlog_forget(struct aof_backlog *backlog, uint64_t position);
void aof_backlog_clear(struct aof_backlog *backlog);

/* The positions `from` <= p <= `to` can be read from. False: there is nothing. */
bool aof_backlog_reach(struct aof_backlog *backlog, uint64_t *from, uint64_t *to);

/* ---- readers: each of one thread at a time ---- */

struct aof_backlog_reader;

/* NULL: `position` is not there, or no memory. */
struct aof_backlog_reader *aof_backlog_open(struct aof_backlog *backlog, uint64_t position);
/* NULL is allowed. */
void aof_backlog_close(struct aof_backlog_reader *reader);
/* Bytes of the stream from `position` on, at most `room`. Cheap where it is the position behind what was read last, or
 * within that. Zero: the files have none; -1: errno. */
ssize_t aof_backlog_read(struct aof_backlog_reader *reader, uint64_t position, void *buffer, size_t room);

#endif
