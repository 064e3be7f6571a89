/* The kernel keeps one number for each process, -1000 to 1000, in /proc/self/oom_score_adj (proc(5)): when memory runs
 * out, those with a high one are ended first. Who started us may have set it. So "relative" adds to what is found the
 * first time, "absolute" replaces it, and "no" puts it back; a number that others set while we had not changed it is
 * never touched.
 *
 * Of the three values of oom-score-adj-values the last has no use: there are no processes in the background. Every
 * thread shares the number of its process. */

#include "server/oom_score.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char path[] = "/proc/self/oom_score_adj";

enum { SCORE_MAX = 1000 };

static bool read_score(int64_t *score) {
    char text[32] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && read(fd, text, sizeof(text) - 1) > 0;
    if (!ok) log_warning("Unable to read oom_score_adj: %s", strerror(errno));
    if (fd >= 0) close(fd);
    *score = strtol(text, NULL, 10);
    return ok;
}

static bool write_score(int64_t score) {
    char text[32];
    if (score > SCORE_MAX) score = SCORE_MAX;
    if (score < -SCORE_MAX) score = -SCORE_MAX;
    int length = snprintf(text, sizeof(text), "%lld\n", (long long)score);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, (size_t)length) == length;
    if (!ok) log_warning("Unable to write oom_score_adj: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

bool oom_score_apply(struct oom_score *score, const struct config *config, bool is_replica) {
    const struct config_general *general = &config->general;
    if (general->oom_score_adj == CONFIG_OOM_NO) {
        if (!score->changed) return true;
        score->changed = false;
        return write_score(score->base);
    }
    if (!score->changed && !read_score(&score->base)) return false;
    /* Also when the write is refused: what is put back then is what was there. */
    score->changed = true;
    int64_t wanted = general->oom_score_values[is_replica ? 1 : 0];
    return write_score(general->oom_score_adj == CONFIG_OOM_RELATIVE ? score->base + wanted : wanted);
}
