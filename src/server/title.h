#ifndef TERRACE_SERVER_TITLE_H
#define TERRACE_SERVER_TITLE_H

/* The process title, as ps shows it. The main thread, before others exist, calls title_init() with what main() was
 * given; the environment is copied away, so that its place can be used too. */

void title_init(int argc, char **argv);
/* Cut to the room there is. Nothing happens before title_init(). */
void title_set(const char *title);

#endif
