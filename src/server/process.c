/* See process.h.
 *
 * Going into the background: the parent stays until the child says over a pipe that it serves, so that a start that
 * fails is told on the terminal and by the exit code, as in the foreground.
 *
 * systemd is spoken to directly: one datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)). */

#include "server/process.h"

#include "base/log.h"
#include "server/crash.h"
#include "server/server.h"
#include "server/text.h"
#include "server/title.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- before the start ---- */

bool process_check_directory(const struct config *config, struct socket_error *error) {
    if (config->persistence.save.count == 0) return true;
    char name[] = ".terrace-writable-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        snprintf(error->text, sizeof(error->text), "cannot write to directory '%.100s' (dir): %s", config->general.dir,
                 strerror(errno));
        return false;
    }
    close(fd);
    unlink(name);
    return true;
}

static const char *find_supervisor(const struct config *config) {
    int supervised = config->general.supervised;
    bool any = supervised == CONFIG_SUPERVISED_AUTO;
    if ((any || supervised == CONFIG_SUPERVISED_SYSTEMD) && getenv("NOTIFY_SOCKET")) return "systemd";
    if ((any || supervised == CONFIG_SUPERVISED_UPSTART) && getenv("UPSTART_JOB")) return "upstart";
    if (supervised == CONFIG_SUPERVISED_SYSTEMD)
        log_warning("supervised systemd: NOTIFY_SOCKET is not set, nobody will be told");
    if (supervised == CONFIG_SUPERVISED_UPSTART)
        log_warning("supervised upstart: UPSTART_JOB is not set, nobody will be told");
    return "no";
}

/* In the parent, which ends here. */
static void wait_for_child(pid_t child, int fd) {
    char byte;
    ssize_t got;
    do got = read(fd, &byte, 1);
    while (got < 0 && errno == EINTR);
    if (got == 1) _exit(0);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    _exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
}

bool process_go_background(struct server *server, struct socket_error *error) {
    int ends[2];
    server->process.parent_fd = -1;
    server->process.supervisor = find_supervisor(&server->config);
    bool supervised = strcmp(server->process.supervisor, "no") != 0;
    if (!server->config.general.daemonize || supervised) return true;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        snprintf(error->text, sizeof(error->text), "cannot go into the background (daemonize): %s", strerror(errno));
        return false;
    }
    pid_t child = fork();
    if (child < 0) {
        snprintf(error->text, sizeof(error->text), "cannot go into the background (daemonize): %s", strerror(errno));
        return false;
    }
    if (child > 0) {
        close(ends[1]);
        wait_for_child(child, ends[0]);
    }
    close(ends[0]);
    setsid();
    server->process.parent_fd = ends[1];
    return true;
}

/* ---- greeting ---- */

static const char logo[] = "\n"
                           "                         .\n"
                           "                    .  _/|\\_  .\n"
                           "                 __/__|_____|__\\__           Terrace %s\n"
                           "             ___/_________________\\___       %s\n"
                           "         ___/_________________________\\___   PID: %ld\n"
                           "     ___/_________________________________\\___\n"
                           "   _/_________________________________________\\_\n\n";

static void describe_address(const struct config *config, char *text, size_t capacity) {
    if (config->network.port)
        snprintf(text, capacity, "%s:%lld", config->network.bind.count ? config->network.bind.words[0] : "*",
                 (long long)config->network.port);
    else
        snprintf(text, capacity, "%s", config->network.unixsocket);
}

void process_greet(const struct server *server) {
    const char *file = config_file_path(&server->config);
    log_notice("Terrace %s starts: pid %ld, configuration %s", TERRACE_VERSION, (long)getpid(),
               file[0] ? file : "from the command line and defaults");
}

void process_show_logo(const struct server *server) {
    const struct config *config = &server->config;
    bool terminal = !config->logging.logfile[0] && !config->logging.syslog_enabled && isatty(STDOUT_FILENO);
    if (!terminal && !config->general.always_show_logo) return;
    struct text text = {0};
    char address[256];
    describe_address(config, address, sizeof(address));
    text_add(&text, logo, TERRACE_VERSION, address, (long)getpid());
    log_write_raw(text_span(&text));
    text_free(&text);
}

/* ---- the title ---- */

static struct span variable(const struct server *server, struct span name, char *room, size_t capacity) {
    const struct config *config = &server->config;
    room[0] = '\0';
    if (span_is_word(name, "title"))
        snprintf(room, capacity, "%s", server->process.program ? server->process.program : "terrace-server");
    else if (span_is_word(name, "listen-addr"))
        describe_address(config, room, capacity);
    else if (span_is_word(name, "port"))
        snprintf(room, capacity, "%lld", (long long)config->network.port);
    else if (span_is_word(name, "tls-port"))
        snprintf(room, capacity, "0");
    else if (span_is_word(name, "unixsocket"))
        snprintf(room, capacity, "%s", config->network.unixsocket);
    else if (span_is_word(name, "config-file"))
        snprintf(room, capacity, "%s", config_file_path(config));
    return span_of_text(room);
}

void process_show_title(const struct server *server) {
    const char *at = server->config.general.proc_title_template;
    struct text text = {0};
    char room[512];
    if (!server->config.general.set_proc_title) return;
    while (*at) {
        const char *end = *at == '{' ? strchr(at, '}') : NULL;
        if (end) {
            text_add_span(&text, variable(server, span_of(at + 1, (size_t)(end - at - 1)), room, sizeof(room)));
            at = end + 1;
        } else {
            text_add_span(&text, span_of(at++, 1));
        }
    }
    while (text.length && text.data[text.length - 1] == ' ') text.length--;
    text_add(&text, "%c", '\0');
    title_set(text.data);
    text_free(&text);
}

static bool take_title(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)config, (void)name, (void)error;
    process_show_title(ctx);
    return true;
}

static bool take_crash_log(void *ctx, const struct config *config, const char *name, struct config_error *error) {
    (void)ctx, (void)name, (void)error;
    crash_report(config->general.crash_log_enabled);
    return true;
}

/* ---- ready, and the end ---- */

static void write_pidfile(struct process *process, const char *path) {
    if (!path[0]) return;
    FILE *file = fopen(path, "we");
    bool written = file && fprintf(file, "%ld\n", (long)getpid()) > 0;
    if (file) written = fclose(file) == 0 && written;
    if (!written) {
        log_warning("cannot write the process id to '%s' (pidfile): %s", path, strerror(errno));
        return;
    }
    process->pidfile = realpath(path, NULL);
}

static void tell_supervisor(const struct process *process, const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    if (strcmp(process->supervisor, "systemd") != 0 || !path) return;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length < 2 || length >= sizeof(address.sun_path)) return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') address.sun_path[0] = '\0'; /* an abstract name */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0)
        log_warning("cannot tell systemd how we are: %s", strerror(errno));
    close(fd);
}

static void release_parent(struct process *process) {
    if (process->parent_fd < 0) return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++) dup2(null, fd);
    if (null > STDERR_FILENO) close(null);
    (void)!write(process->parent_fd, "", 1);
    close(process->parent_fd);
    process->parent_fd = -1;
}

void process_ready(struct server *server) {
    struct process *process = &server->process;
    write_pidfile(process, server->config.general.pidfile);
    process_show_title(server);
    config_on_change(&server->config, "proc-title-template", take_title, server);
    config_on_change(&server->config, "crash-log-enabled", take_crash_log, server);
    log_notice("Ready to accept connections"); /* the last before others are told, who may end the server at once */
    if (strcmp(process->supervisor, "upstart") == 0) raise(SIGSTOP);
    tell_supervisor(process, "READY=1\nSTATUS=Ready to accept connections");
    release_parent(process);
}

void process_end(struct server *server) {
    struct process *process = &server->process;
    if (process->pidfile) unlink(process->pidfile);
    free(process->pidfile);
    process->pidfile = NULL;
    /* After a start that failed the last word is why. */
    if (!server->start_load.failed) log_notice("Terrace ends: ready to exit, bye bye");
}

void process_stopping(const struct server *server) {
    tell_supervisor(&server->process, "STOPPING=1");
}
