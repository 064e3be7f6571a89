#ifndef TERRACE_SERVER_SERVER_H
#define TERRACE_SERVER_SERVER_H

/* The server: what wires keyspace, commands, workers and configuration together. One is made by main() and passed
 * by pointer; there is no global one except for the signal handlers. */

#include "server/config.h"
#include "server/worker.h"

enum { SERVER_LISTENERS = 17, SERVER_RUN_ID = 40 };

struct listener {
    int fd;
    bool is_unix;
};

/* All other workers stand still: one thread at a time may ask for it. */
struct world {
    pthread_mutex_t turn;        /* held by the one who asked */
    pthread_mutex_t lock;
    pthread_cond_t parked_changed, resumed;
    atomic_bool stopping;
    unsigned parked;
};

struct server {
    struct config config;
    struct keyspace *keyspace;
    struct command_table *table;
    struct command_host host;
    struct command_stats **stats;  /* one a worker */
    struct worker **workers;
    unsigned worker_count;
    struct listener listeners[SERVER_LISTENERS];
    unsigned listener_count;
    struct world world;
    _Atomic uint64_t next_client_id;
    atomic_uint clients;           /* connected now */
    stat_counter connections_received, connections_rejected;
    atomic_int signal;             /* the last SIGTERM or SIGINT; 0: none */
    atomic_bool quitting;          /* workers leave their loops */
    int64_t started_ms;
    char run_id[SERVER_RUN_ID + 1];
    char *config_dir;
};

/* False: with one line in `error` that says what to do. */
bool server_start(struct server *server, struct socket_error *error);
/* Serves until a shutdown; returns the exit code. */
int server_run(struct server *server);
void server_free(struct server *server);

/* Ends all workers; from any worker's thread. */
void server_quit(struct server *server);

/* Every tick of worker 0: what concerns the whole process. */
void server_tick(struct server *server);

/* See struct command_host. */
void server_stop_workers(void *ctx, unsigned worker);
void server_resume_workers(void *ctx, unsigned worker);
/* A worker between turns: stands still while somebody asks for it. */
void server_safe_point(struct server *server);

#endif
