/* See title.h. Linux shows as a process's command line the bytes where its arguments were put when it was started;
 * the environment's lie right behind them. */

#include "server/title.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct {
    char *begin; /* NULL: unknown */
    size_t room;
} place;

/* Where the run of strings that begins at `end` ends, as long as they follow one another. */
static char *behind(char **strings, char *end) {
    for (size_t i = 0; strings[i]; i++)
        if (strings[i] == end) end += strlen(end) + 1;
    return end;
}

void title_init(int argc, char **argv) {
    if (argc < 1 || !argv[0]) return;
    char *end = behind(argv, argv[0]);
    end = behind(environ, end);
    size_t count = 0;
    while (environ[count]) count++;
    char **copy = calloc(count + 1, sizeof(*copy));
    if (!copy) return;
    for (size_t i = 0; i < count; i++)
        if (!(copy[i] = strdup(environ[i]))) return;
    environ = copy; /* for the life of the process */
    place.begin = argv[0];
    place.room = (size_t)(end - argv[0]);
}

void title_set(const char *title) {
    if (!place.begin || place.room < 2) return;
    size_t length = strlen(title);
    if (length > place.room - 1) length = place.room - 1;
    memset(place.begin, 0, place.room);
    memcpy(place.begin, title, length);
}
