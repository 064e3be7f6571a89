#ifndef TERRACE_SERVER_CONFIG_FILE_H
#define TERRACE_SERVER_CONFIG_FILE_H

/* The syntax of configuration files, shared by loading and rewriting. */

#include "base/span.h"

#include <stdio.h>

#define CONFIG_LINE_WORDS_MAX    1024 /* a `user` line with a rule for every command stays below */
#define CONFIG_INCLUDE_DEPTH_MAX 16   /* a file that includes itself is stopped here */

enum config_line_status {
    CONFIG_LINE_OK,
    CONFIG_LINE_UNBALANCED,     /* a quote is not closed, or a word goes on behind its closing quote */
    CONFIG_LINE_TOO_MANY_WORDS, /* more than CONFIG_LINE_WORDS_MAX */
};

struct config_line {
    enum config_line_status status;
    size_t count;                                 /* 0: blank or a comment */
    struct span words[CONFIG_LINE_WORDS_MAX + 1]; /* the last shows that there are too many */
};

/* Splits a line by the quoting rules of inline commands (resp_split_line()); '#' as the first character makes a
 * comment. Escapes are undone in place: the words point into `text`. */
void config_split_line(char *text, size_t length, struct config_line *line);

/* Writes a word so that config_split_line() reads it back: in quotes if it is empty or has unusual bytes. */
void config_print_word(FILE *out, struct span word);

#endif
