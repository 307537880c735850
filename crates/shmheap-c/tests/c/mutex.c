/* Mutexes in a heap: who has them, who may give them up, and what a killed owner leaves. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LEN = 1 << 16, PROCESSES = 4, ROUNDS = 20000 };

struct counted {
    shmheap_mutex mutex;
    uint64_t count, twin;
};

static struct counted *made(shmheap_memory_handle mem) {
    struct counted *counted = (struct counted *)shmheap_calloc(mem, 1, sizeof *counted);
    CHECK(counted != NULL);
    return counted;
}

static void locks(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    struct counted *counted = made(mem);
    CHECK(shmheap_mutex_lock(mem, &counted->mutex, -1) == 0);
    CHECK_FAILS(shmheap_mutex_lock(mem, &counted->mutex, 0) == -1, ETIMEDOUT);
    CHECK_FAILS(shmheap_mutex_lock(mem, &counted->mutex, 1000000) == -1, ETIMEDOUT);
    CHECK(shmheap_mutex_unlock(mem, &counted->mutex) == 0);
    CHECK(counted->mutex.word == 0);
    CHECK_FAILS(shmheap_mutex_unlock(mem, &counted->mutex) == -1, EPERM);
    CHECK_FAILS(shmheap_mutex_set_sound(mem, &counted->mutex) == -1, EPERM);
    CHECK(shmheap_mutex_lock(mem, &counted->mutex, 0) == 0);
    CHECK(shmheap_mutex_unlock(mem, &counted->mutex) == 0);
    shmheap_destroy(heap, mem);
}

static void wrong_arguments(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN), reader;
    struct counted *counted = made(mem), local;
    char *inside = (char *)counted + 4;
    memset(&local, 0, sizeof local);
    CHECK_FAILS(shmheap_mutex_lock(NULL, &counted->mutex, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_mutex_lock(mem, NULL, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_mutex_lock(mem, &local.mutex, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_mutex_lock(mem, (shmheap_mutex *)(void *)inside, 0) == -1, EINVAL);
    CHECK_FAILS(shmheap_mutex_unlock(mem, NULL) == -1, EINVAL);
    CHECK_FAILS(shmheap_mutex_set_sound(mem, &local.mutex) == -1, EINVAL);
    reader = shmheap_connect_with(heap, SHMHEAP_READ_ONLY);
    CHECK(reader != NULL);
    counted = (struct counted *)shmheap_handle_to_ptr(reader, shmheap_ptr_to_handle(mem, counted));
    CHECK_FAILS(shmheap_mutex_lock(reader, &counted->mutex, 0) == -1, EROFS);
    shmheap_disconnect(reader);
    shmheap_destroy(heap, mem);
}

static void counts(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    struct counted *counted = made(mem);
    int number, round, status;
    for (number = 0; number < PROCESSES; number++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (round = 0; round < ROUNDS; round++) {
                CHECK(shmheap_mutex_lock(mem, &counted->mutex, -1) == 0);
                counted->count++;
                CHECK(shmheap_mutex_unlock(mem, &counted->mutex) == 0);
            }
            _exit(0);
        }
    }
    for (number = 0; number < PROCESSES; number++) {
        CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    CHECK(counted->count == PROCESSES * ROUNDS);
    shmheap_destroy(heap, mem);
}

static void killed(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, LEN);
    struct counted *counted = made(mem);
    int line[2], status, turn;
    char byte;
    pid_t child;
    CHECK(pipe(line) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(shmheap_mutex_lock(mem, &counted->mutex, -1) == 0);
        counted->count++; /* and not its twin */
        CHECK(write(line[1], "", 1) == 1);
        for (;;) {
            pause();
        }
    }
    CHECK(read(line[0], &byte, 1) == 1);
    CHECK_FAILS(shmheap_mutex_lock(mem, &counted->mutex, 0) == -1, ETIMEDOUT);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
    for (turn = 0; turn < 2; turn++) {
        CHECK(shmheap_mutex_lock(mem, &counted->mutex, -1) == 1);
        CHECK(counted->count == 1 && counted->twin == 0);
        CHECK(shmheap_mutex_unlock(mem, &counted->mutex) == 0);
    }
    CHECK(shmheap_mutex_lock(mem, &counted->mutex, -1) == 1);
    counted->twin = counted->count;
    CHECK(shmheap_mutex_set_sound(mem, &counted->mutex) == 0);
    CHECK(shmheap_mutex_unlock(mem, &counted->mutex) == 0);
    CHECK(shmheap_mutex_lock(mem, &counted->mutex, -1) == 0);
    CHECK(shmheap_mutex_unlock(mem, &counted->mutex) == 0);
    shmheap_destroy(heap, mem);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"locks", locks},
        {"wrong_arguments", wrong_arguments},
        {"counts", counts},
        {"killed", killed},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
