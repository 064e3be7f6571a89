#ifndef TERRACE_SERVER_PROCESS_H
#define TERRACE_SERVER_PROCESS_H

/* The server as a process among others: its directory, background life, process id file, title, and what it tells the
 * supervisor that started it.
 *
 *   process_check_directory -> process_go_background -> (server_start) -> process_ready -> (serving) -> process_end
 *
 * Threads: the main thread, before the workers start and after they ended. */

#include "net/socket.h"
#include "server/config.h"
#include "server/oom_score.h"

struct server;

struct process {
    char *pidfile;          /* absolute, written by us; NULL: none */
    const char *supervisor; /* as INFO names it: "no", "systemd", "upstart" */
    const char *program;    /* argv[0] */
    struct oom_score oom_score;
    int parent_fd; /* whoever started us in the background waits at its other end; -1: nobody */
};

/* Whether files can be made in the working directory, if there will be any to make. False with one line. */
bool process_check_directory(const struct config *config, struct socket_error *error)
    __attribute__((warn_unused_result));

/* daemonize: returns in the child. The parent waits for process_ready() and exits with 0, or with the child's exit code
 * if the start failed. Does nothing under a supervisor, who wants us in the foreground. */
bool process_go_background(struct server *server, struct socket_error *error) __attribute__((warn_unused_result));

/* The first line of the log. */
void process_greet(const struct server *server);
/* The logo, on a terminal or by always-show-logo. The server has to listen already: test suites of Redis connect as
 * soon as they find the process id in it. */
void process_show_logo(const struct server *server);

/* The server can be connected to: process id file, title, supervisor, parent. */
void process_ready(struct server *server);
/* A shutdown begins; any thread. */
void process_stopping(const struct server *server);
/* The workers have ended. */
void process_end(struct server *server);

/* The title by proc-title-template; called again when that changes. */
void process_show_title(const struct server *server);

#endif
