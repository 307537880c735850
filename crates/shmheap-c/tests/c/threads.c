/* Threads of one process calling at once. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdint.h>

enum { THREADS = 4 };

static shmheap_memory_handle mem;
static const char *heap_name;

static void run_threads(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    uintptr_t index;
    for (index = 0; index < THREADS; index++) {
        CHECK(pthread_create(&threads[index], NULL, body, (void *)index) == 0);
    }
    for (index = 0; index < THREADS; index++) {
        CHECK(pthread_join(threads[index], NULL) == 0);
    }
}

static void *allocate_and_verify(void *argument) {
    enum { KEPT = 50, ROUNDS = 20000 };
    unsigned char *object[KEPT] = {NULL};
    size_t size[KEPT] = {0}, round;
    unsigned char mark = (unsigned char)((uintptr_t)argument + 1);
    unsigned random = (unsigned)mark * 2654435761u;
    for (round = 0; round < ROUNDS + KEPT; round++) {
        size_t place = round % KEPT, index;
        for (index = 0; index < size[place]; index++) {
            CHECK(object[place][index] == mark);
        }
        shmheap_free(mem, object[place]);
        random = random * 1664525u + 1013904223u;
        size[place] = round < ROUNDS ? (random >> 16) % 200 : 0;
        object[place] = NULL;
        if (round < ROUNDS) {
            object[place] = (unsigned char *)shmheap_alloc(mem, size[place]);
            CHECK(object[place] != NULL);
            memset(object[place], mark, size[place]);
        }
    }
    return NULL;
}

static void churn(const char *heap) {
    mem = shmheap_create(heap, 1 << 20);
    CHECK(mem);
    run_threads(allocate_and_verify);
    CHECK(shmheap_check(mem) == 0);
    CHECK(shmheap_alloc(mem, (1 << 20) - 80) != NULL);
    shmheap_destroy(heap, mem);
}

static void *fail_in_own_way(void *argument) {
    char name[64], text[512];
    int round;
    CHECK(strcmp(shmheap_last_error(), "") == 0); /* nothing failed in this thread yet */
    snprintf(name, sizeof name, "/shmheap-missing-%d", (int)(uintptr_t)argument);
    for (round = 0; round < 500; round++) {
        errno = 0;
        CHECK(shmheap_connect(name) == NULL && errno == ENOENT);
        CHECK(strstr(shmheap_last_error(), name + 1) != NULL);
        strcpy(text, shmheap_last_error());
        CHECK(shmheap_underlying(mem) != NULL);
        CHECK(strcmp(text, shmheap_last_error()) == 0); /* success leaves the text alone */
    }
    return NULL;
}

static void errors_are_per_thread(const char *heap) {
    mem = shmheap_create(heap, 1 << 16);
    CHECK(mem);
    run_threads(fail_in_own_way);
    shmheap_destroy(heap, mem);
}

static void *connect_and_disconnect(void *argument) {
    int round;
    (void)argument;
    for (round = 0; round < 200; round++) {
        shmheap_memory_handle own = shmheap_connect(heap_name);
        void *object = shmheap_alloc(own, 16);
        CHECK(own && object);
        shmheap_free(own, object);
        shmheap_disconnect(own);
        CHECK_FAILS(shmheap_alloc(own, 16) == NULL, EINVAL);
    }
    return NULL;
}

static void connections(const char *heap) {
    heap_name = heap;
    mem = shmheap_create(heap, 1 << 16);
    CHECK(mem);
    run_threads(connect_and_disconnect);
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static shmheap_memory_handle raced;
static int started, refused;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *call_until_refused(void *argument) {
    shmheap_memory_handle here = raced;
    (void)argument;
    pthread_mutex_lock(&lock);
    started++;
    pthread_mutex_unlock(&lock);
    for (;;) {
        void *object = shmheap_alloc(here, 64);
        if (object == NULL) {
            break;
        }
        shmheap_free(here, object);
        (void)shmheap_ptr_to_handle(here, object);
    }
    CHECK(errno == EINVAL);
    pthread_mutex_lock(&lock);
    refused++;
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* Disconnect while others call: they are refused from then on, and nothing faults. */
static void disconnect_races(const char *heap) {
    int round;
    mem = shmheap_create(heap, 1 << 16);
    CHECK(mem);
    for (round = 0; round < 100; round++) {
        pthread_t threads[THREADS];
        int index, running = 0;
        raced = shmheap_connect(heap);
        CHECK(raced);
        started = refused = 0;
        for (index = 0; index < THREADS; index++) {
            CHECK(pthread_create(&threads[index], NULL, call_until_refused, NULL) == 0);
        }
        while (running < THREADS) {
            sched_yield();
            pthread_mutex_lock(&lock);
            running = started;
            pthread_mutex_unlock(&lock);
        }
        shmheap_disconnect(raced);
        for (index = 0; index < THREADS; index++) {
            CHECK(pthread_join(threads[index], NULL) == 0);
        }
        CHECK(refused == THREADS);
    }
    CHECK(shmheap_check(mem) == 0);
    shmheap_destroy(heap, mem);
}

static void call_at_thread_end(void *object) {
    shmheap_free(mem, object);
    CHECK(shmheap_underlying(mem) != NULL);
    CHECK_FAILS(shmheap_underlying(NULL) == NULL, EINVAL);
}

static pthread_key_t key;

static void *leave_an_object(void *argument) {
    (void)argument;
    CHECK(pthread_setspecific(key, shmheap_alloc(mem, 24)) == 0);
    return NULL;
}

/* A destructor of thread-specific data runs when the thread's own record is gone already. */
static void thread_ends(const char *heap) {
    shmheap_statistics statistics = SHMHEAP_STATISTICS_INIT;
    int round;
    mem = shmheap_create(heap, 1 << 16);
    CHECK(mem);
    CHECK(pthread_key_create(&key, call_at_thread_end) == 0);
    for (round = 0; round < 50; round++) {
        run_threads(leave_an_object);
    }
    CHECK(shmheap_stats(mem, &statistics) == 0 && statistics.live_objects == 0);
    shmheap_destroy(heap, mem);
}

int main(int argc, char **argv) {
    static const struct test_case cases[] = {
        {"churn", churn},
        {"errors_are_per_thread", errors_are_per_thread},
        {"connections", connections},
        {"disconnect_races", disconnect_races},
        {"thread_ends", thread_ends},
    };
    return run_case(cases, sizeof cases / sizeof *cases, argc, argv);
}
