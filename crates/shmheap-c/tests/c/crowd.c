/*
 * 200 exec'd processes connected at once.
 *
 *   crowd gather HEAP                   creates the heap and runs the others
 *   crowd gather_scalable HEAP          the same with the scalable policy
 *   crowd join HEAP                     connects, sends its object's handle to standard output,
 *                                       waits for the end of standard input, frees, disconnects
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CROWD = 200 };

static const char *program;

static void join(const char *heap) {
    shmheap_memory_handle mem = shmheap_connect(heap);
    shmheap_object_handle hdl;
    pid_t *object;
    char byte;
    CHECK(mem);
    object = (pid_t *)shmheap_alloc(mem, sizeof *object);
    CHECK(object);
    *object = getpid();
    hdl = shmheap_ptr_to_handle(mem, object);
    CHECK(write(STDOUT_FILENO, &hdl, sizeof hdl) == sizeof hdl);
    CHECK(read(STDIN_FILENO, &byte, 1) == 0);
    CHECK(*object == getpid());
    shmheap_free(mem, object);
    shmheap_disconnect(mem);
}

static pid_t start(const char *heap, int input, int output) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(dup2(input, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0);
        execl(program, program, "join", heap, (char *)NULL);
        _exit(127);
    }
    return child;
}

static void gather_in(const char *heap, shmheap_memory_handle mem) {
    shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;
    shmheap_object_handle hdl[CROWD];
    pid_t child[CROWD];
    int go[2], ready[2], index, other;
    CHECK(mem && pipe(go) == 0 && pipe(ready) == 0);
    for (index = 0; index < 2; index++) {
        CHECK(fcntl(go[index], F_SETFD, FD_CLOEXEC) == 0);
        CHECK(fcntl(ready[index], F_SETFD, FD_CLOEXEC) == 0);
    }
    for (index = 0; index < CROWD; index++) {
        child[index] = start(heap, go[0], ready[1]);
    }
    close(ready[1]);
    for (index = 0; index < CROWD; index++) {
        pid_t *object;
        CHECK(read(ready[0], &hdl[index], sizeof *hdl) == sizeof *hdl);
        object = (pid_t *)shmheap_handle_to_ptr(mem, hdl[index]);
        CHECK(object != NULL);
        for (other = 0; other < CROWD && child[other] != *object; other++) {
        }
        CHECK(other < CROWD); /* it is the object of one of ours */
        for (other = 0; other < index; other++) {
            CHECK(hdl[other] != hdl[index]);
        }
    }
    CHECK(shmheap_stats(mem, &statistics) == 0);
    CHECK(statistics.peers_alive == CROWD + 1);
    CHECK(statistics.live_objects == CROWD);
    close(go[1]);
    for (index = 0; index < CROWD; index++) {
        int status = -1;
        CHECK(waitpid(child[index], &status, 0) == child[index]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    CHECK(shmheap_stats(mem, &statistics) == 0);
    CHECK(statistics.peers_alive == 1 && statistics.peers_dead == 0);
    CHECK(statistics.live_objects == 0);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void gather(const char *heap) {
    gather_in(heap, shmheap_create(heap, 1 << 16));
}

/* Every process takes a slab of 64 KiB for its object. */
static void gather_scalable(const char *heap) {
    shmheap_options options = SHMHEAP_OPTIONS_INIT;
    options.len = (size_t)CROWD << 16;
    options.policy = SHMHEAP_POLICY_SCALABLE;
    gather_in(heap, shmheap_create_with(heap, &options));
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"gather", gather},
        {"gather_scalable", gather_scalable},
        {"join", join},
    };
    program = argv[0];
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
