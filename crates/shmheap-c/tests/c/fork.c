/* Memory handles and fork: made before, they work after, in both processes. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void succeed(pid_t child) {
    int status = -1;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The child takes both handles from a pipe, as raw bytes, and changes the heap. */
static void handles_through_a_pipe(const char *heap) {
    shmheap_memory_handle mem = shmheap_create(heap, 1 << 16);
    int down[2], up[2], *object;
    shmheap_object_handle hdl;
    pid_t child;
    CHECK(mem && pipe(down) == 0 && pipe(up) == 0);
    child = fork();
    if (child == 0) {
        shmheap_memory_handle mem_here;
        CHECK(read(down[0], &mem_here, sizeof mem_here) == sizeof mem_here);
        CHECK(read(down[0], &hdl, sizeof hdl) == sizeof hdl);
        object = (int *)shmheap_handle_to_ptr(mem_here, hdl);
        CHECK(object && *object == 1);
        *object = 2;
        object = (int *)shmheap_alloc(mem_here, sizeof *object);
        CHECK(object);
        *object = 3;
        hdl = shmheap_ptr_to_handle(mem_here, object);
        CHECK(write(up[1], &hdl, sizeof hdl) == sizeof hdl);
        shmheap_disconnect(mem_here);
        CHECK_FAILS(shmheap_alloc(mem_here, 8) == NULL, EINVAL);
        _exit(0);
    }
    object = (int *)shmheap_alloc(mem, sizeof *object);
    *object = 1;
    hdl = shmheap_ptr_to_handle(mem, object);
    CHECK(write(down[1], &mem, sizeof mem) == sizeof mem);
    CHECK(write(down[1], &hdl, sizeof hdl) == sizeof hdl);
    CHECK(read(up[0], &hdl, sizeof hdl) == sizeof hdl);
    succeed(child);
    CHECK(*object == 2);
    shmheap_free(mem, object); /* the child's disconnect is not ours */
    object = (int *)shmheap_handle_to_ptr(mem, hdl);
    CHECK(object && *object == 3);
    shmheap_free(mem, object);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

/* Many children at once, and children of children, on the handle of the first process. */
static void generations(const char *heap) {
    enum { CHILDREN = 12, ROUNDS = 300 };
    shmheap_memory_handle mem = shmheap_create(heap, 1 << 20);
    pid_t child[CHILDREN];
    int index, round;
    CHECK(mem);
    for (index = 0; index < CHILDREN; index++) {
        child[index] = fork();
        if (child[index] == 0) {
            pid_t grandchild = fork();
            for (round = 0; round < ROUNDS; round++) {
                size_t size = 16 + (size_t)(round * 7 + index) % 300;
                unsigned char *object = (unsigned char *)shmheap_alloc(mem, size);
                CHECK(object != NULL);
                memset(object, index + 1, size);
                CHECK(object[0] == index + 1 && object[size - 1] == index + 1);
                shmheap_free(mem, object);
            }
            if (grandchild != 0) {
                succeed(grandchild);
            }
            _exit(0);
        }
    }
    for (index = 0; index < CHILDREN; index++) {
        succeed(child[index]);
    }
    CHECK(shmheap_check(mem) == 0);
    CHECK(shmheap_alloc(mem, (1 << 20) - 80) != NULL);
    shmheap_destroy(heap, mem);
}

static shmheap_memory_handle churned;
static volatile int churning = 1;

static void *churn(void *unused) {
    (void)unused;
    while (churning) {
        shmheap_free(churned, shmheap_alloc(churned, 32));
    }
    return NULL;
}

/* Fork while other threads are inside calls: the child has no such threads to wait for. */
static void threads_left_behind(const char *heap) {
    pthread_t threads[3];
    int index, round;
    churned = shmheap_create(heap, 1 << 16);
    CHECK(churned);
    for (index = 0; index < 3; index++) {
        CHECK(pthread_create(&threads[index], NULL, churn, NULL) == 0);
    }
    for (round = 0; round < 100; round++) {
        pid_t child = fork();
        if (child == 0) {
            void *object = shmheap_alloc(churned, 8);
            CHECK(object);
            shmheap_free(churned, object);
            shmheap_disconnect(churned);
            CHECK_FAILS(shmheap_underlying(churned) == NULL, EINVAL);
            churned = shmheap_connect(heap);
            CHECK(churned && shmheap_underlying(churned));
            _exit(0);
        }
        succeed(child);
    }
    churning = 0;
    for (index = 0; index < 3; index++) {
        CHECK(pthread_join(threads[index], NULL) == 0);
    }
    CHECK(shmheap_check(churned) == 0);
    shmheap_destroy(heap, churned);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"handles_through_a_pipe", handles_through_a_pipe},
        {"generations", generations},
        {"threads_left_behind", threads_left_behind},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
